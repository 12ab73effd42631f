#pragma once
/*
 * JSON (RFC 8259) read strictly, value by value, for what is decided by and shown to people: no
 * duplicate keys, no lone surrogates, valid UTF-8, nothing after the value. Pure; allocates only
 * scratch.
 *
 * Whoever builds JSON for others uses jansson; this is for bytes that must mean one thing alone.
 */
#include "base/buffer.h"
#include "base/error.h"

enum {
	JSON_DEPTH_MAX = 32,
	JSON_BYTES_MAX = 4 * 1024 * 1024,
	JSON_KEYS_MAX = 65536, /* of one object */
};

enum json_kind {
	JSON_STRING,
	JSON_NUMBER,
	JSON_LITERAL, /* true, false, null */
	JSON_EMPTY, /* {} or [] */
};

struct json_value {
	struct bytes pointer; /* RFC 6901; "" is the whole */
	struct bytes text; /* of a string its characters, else as it is written */
	enum json_kind kind;
	/* A number that every reader takes for the same: at most 15 significant digits and a small
	 * exponent, or an integer up to 2^53 (IEEE 754 binary64; RFC 8259 section 6). */
	bool exact;
};

/* Calls fn for every value that holds no other, in order; the first other than 0 stops and is
 * returned. value is valid in the call alone. -EBADMSG (no JSON), -EEXIST (a key twice), -E2BIG
 * (past JSON_*), -ENOMEM. */
MUST_CHECK int json_each(struct bytes text, int (*fn)(const struct json_value *value, void *arg),
			 void *arg);
