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
	struct bytes name, value;
};

/* Fields that its kind does not have are empty. Everything is borrowed. */
struct action {
	enum action_kind kind;
	struct bytes method; /* HTTP, GIT: uppercase */
	struct bytes scheme; /* "http", "https"; TCP: "tcp", "tls" */
	struct bytes host; /* A-label, lowercase, no trailing dot */
	uint16_t port; /* never 0 but for TOOL */
	struct bytes path; /* decoded once and encoded again: the form that was matched */
	struct bytes query; /* without '?' */
	struct action_header headers[ACTION_HEADERS_MAX]; /* of the known list, by name */
	size_t header_count;
	bool websocket; /* an upgrade that, once allowed, is an opaque stream */
	bool has_body;
	struct digest body; /* plain SHA-256 of all its bytes; a plain read that streams: zero */
	uint64_t body_len;
	/* GIT */
	bool push;
	struct bytes remote; /* https://host/path, without /info/refs and the service */
	struct action_update updates[ACTION_UPDATES_MAX];
	size_t update_count;
	/* TOOL */
	struct bytes tool; /* id of its rule */
	struct action_arg args[ACTION_ARGS_MAX]; /* by name */
	size_t arg_count;
	struct digest program, interpreter; /* of the bytes that will run; zero = none */
};

/* Appends the canonical bytes. -EINVAL where a field breaks a rule above, -E2BIG past ACTION_*. */
MUST_CHECK int action_encode(const struct action *a, struct buffer *out);
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
/* Request headers that are passed on; others are dropped and recorded. By name, lowercase; NULL
 * past the end. */
const char *action_header_known(size_t i);
