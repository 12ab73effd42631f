#pragma once
/*
 * An effect's canonical action: what is decided, shown, approved, journaled and sent, in one form
 * (base/holdfast.cddl, `effect-action`). Pure.
 *
 * The gate makes it from what a program in a sandbox said; the courier decides plain reads by it
 * and sends exactly it; the supervisor digests it. Nothing that is not in it leaves the machine.
 */
#include "base/buffer.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/guard.h"

enum {
	ACTION_BYTES_MAX = 64 * 1024, /* of one encoded action */
	ACTION_HEADERS_MAX = 64,
	ACTION_UPDATES_MAX = 256, /* refs of one push */
	ACTION_ARGS_MAX = 64, /* of one tool call */
	ACTION_FILES_MAX = 16, /* named by the words of one tool's command */
	ACTION_HOST_MAX = 253, /* bytes of a name */
	ACTION_PATH_MAX = 8 * 1024, /* bytes of a path, and of a query */
	ACTION_JSON_DEPTH_MAX = 64, /* of a body whose parts a rule ignores */
	ACTION_POINTERS_MAX = 32, /* of one rule */
	ACTION_BODY_MAX = 64 * 1024 * 1024, /* of a request that is journaled before it is sent */
};

/* Numbers are part of the form. */
enum action_kind {
	ACTION_HTTP = 1,
	ACTION_GIT = 2, /* smart HTTP: fetch or push */
	ACTION_TCP = 3, /* an opaque stream; also TLS that is passed through */
	ACTION_TOOL = 4,
};

struct action_header {
	struct bytes name; /* lowercase */
	struct bytes value;
};

struct action_update { /* of a push: one pkt-line command */
	struct bytes ref; /* full name */
	struct bytes before, after; /* hex object names; 40 zeros: it is made, or removed */
	bool force; /* not known to be a fast-forward */
};

struct action_arg {
	struct bytes name, value; /* no NUL in them: it would end the word that a command gets */
};

struct action_file { /* that a word of a tool's command names: these bytes stand in its place */
	uint32_t at; /* which word, from 1: 0 is the program */
	struct digest content;
};

/* Where a step calls tools: POST http://ACTION_TOOLS_HOST/TOOL?name=value&..., without a body. The
 * courier makes a TOOL of it; no packet goes to a host of that name. */
#define ACTION_TOOLS_HOST "tools.holdfast.internal"
enum { ACTION_TOOLS_PORT = 80 };

/* Fields that its kind does not have are empty. Everything is borrowed. It is large for the sake of
 * pushes: of the arrays at its end only so much is set, and copied, as is counted. */
struct action {
	enum action_kind kind;
	struct bytes method; /* HTTP, GIT: uppercase */
	struct bytes scheme; /* "http", "https"; TCP: "tcp", "tls" */
	struct bytes host; /* A-label, lowercase, no trailing dot */
	uint16_t port; /* never 0 but for TOOL */
	struct bytes path; /* decoded once and encoded again: the form that was matched */
	struct bytes query; /* without '?' */
	size_t header_count;
	bool websocket; /* an upgrade that, once allowed, is an opaque stream */
	bool has_body;
	struct digest body; /* plain SHA-256 of all its bytes; a plain read that streams: zero */
	uint64_t body_len;
	/* GIT */
	bool push;
	struct bytes remote; /* https://host/path, without /info/refs and the service */
	size_t update_count;
	/* TOOL */
	struct bytes tool; /* id of its rule */
	size_t arg_count;
	struct digest program, interpreter; /* of the bytes that will run; zero = none */
	struct action_file files[ACTION_FILES_MAX]; /* ascending by at */
	size_t file_count;
	/* so many as is counted */
	struct action_header headers[ACTION_HEADERS_MAX]; /* of the known list; ascending, each name
							     once */
	struct action_arg args[ACTION_ARGS_MAX]; /* ascending by name, each once */
	struct action_update
		updates[ACTION_UPDATES_MAX]; /* of a push; none: it asks for the refs */
};
void action_clear(struct action *a);
void action_copy(struct action *to, const struct action *from); /* not onto itself */

/* Appends the canonical bytes. -EINVAL where a field breaks a rule above, -E2BIG past ACTION_*. */
MUST_CHECK int action_encode(const struct action *a, struct buffer *out);
/* An array of [name, value]; ret holds ACTION_HEADERS_MAX, borrowed from r's bytes. How many; on an
 * error (-E2BIG, -EPROTO) the reader has it. */
struct cbor_reader;
size_t action_headers_read(struct cbor_reader *r, struct action_header *ret);
/* Strict; borrowed from b. -EBADMSG, -E2BIG, -EPROTO, -EINVAL. */
MUST_CHECK int action_decode(struct bytes b, struct action *ret);

/* SHA-256("holdfast.action", canonical bytes): what is approved. */
void action_digest(struct bytes canonical, struct digest *ret);
/*
 * SHA-256("holdfast.action-identity", ...) of the action without what the rule lists under
 * `ignore`: JSON pointers (RFC 6901) into a JSON body, "header:NAME", "query:NAME". A push's
 * identity is remote, ref and old; the pack's bytes are not in it. body: the whole body where a
 * pointer needs it and it is JSON; empty else (then its digest counts whole). -EBADMSG: a body that
 * is said to be JSON and is not, or has duplicate keys.
 */
MUST_CHECK int action_identity(const struct action *a, struct bytes body, const char *const *ignore,
			       size_t ignore_count, struct digest *ret);
/*
 * The pieces that gate and courier check by themselves.
 *
 * Request headers that are passed on, by their lowercase name; others are dropped and recorded. A
 * WebSocket's key, version and accept are no part of an action: each side of the courier makes its
 * own.
 */
bool action_header_is_known(struct bytes name);
/* A-label, lowercase, no trailing dot, 1 to ACTION_HOST_MAX bytes. */
bool action_host_valid(struct bytes host);
/* A token of RFC 9110 in lowercase, as a header's name is kept here. */
bool action_header_name_valid(struct bytes name);
/* No control byte but tab, no white space at its ends, at most 16 KiB. */
bool action_header_value_valid(struct bytes value);
/*
 * The path of a request as it is matched and sent: decoded once (policy_url_path() decodes it to
 * the same bytes), refused where that leaves '/', '%', '\\', a control byte, "//", segments of
 * dots and spaces alone (with parameters or without: "..;x") or what is no UTF-8, and encoded
 * again: RFC 3986's pchar as it is, the rest %XX, and "%3B" where it came so, since ';' has a
 * meaning there. One '%2f' is read as the slash that it means: npm asks for "/@scope%2fname", and
 * every registry of its kind takes "/@scope/name", which is what is matched and sent. raw begins
 * with '/' and holds no '?'. Appends. -EINVAL, -E2BIG.
 */
MUST_CHECK int action_path(struct bytes raw, struct buffer *out);
/*
 * Whether the headers say that a body's bytes are UTF-8 as they stand: no content coding, and no
 * charset but UTF-8 or US-ASCII, named once or not at all. JSON of another charset reads otherwise
 * at a server that believes the header than here.
 */
bool action_body_is_utf8(const struct action *a);
/*
 * A JSON text (RFC 8259, UTF-8) in one form, without what the pointers name: no white space, keys
 * sorted by their bytes, strings with the fewest escapes, numbers as they were written. Appends.
 * -EBADMSG: it is none, or has duplicate keys, lone surrogates, more than ACTION_JSON_DEPTH_MAX
 * levels. -EINVAL: a pointer that is none (RFC 6901). A pointer to what is not there names nothing.
 */
MUST_CHECK int action_json(struct bytes text, const char *const *pointers, size_t count,
			   struct buffer *out);
