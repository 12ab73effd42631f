#pragma once
/*
 * What supervisor and keeper say to each other, over a SOCK_SEQPACKET socket called `keeper` in the
 * state directory's v1.
 *
 * One datagram = one header and one body: one canonical CBOR map with integer keys
 * (base/holdfast.cddl, `keeper-request`, `keeper-event`), descriptors by SCM_RIGHTS. A body past
 * PROTOCOL_BODY_INLINE goes in a sealed memfd, the last descriptor of the message
 * (PROTOCOL_FLAG_MEMFD). Both ends run as one uid on one machine, so the header is in the machine's
 * own byte order.
 *
 * Fence: a connection's first request is HELLO with its epoch. A keeper serves the newest epoch
 * that it has heard; a request of an older one, a request out of its phase, an unknown type, a body
 * with an unknown key or trailing bytes end that connection, and touch no attempt. Epoch 0 may say
 * HELLO and nothing else. START is idempotent by attempt.
 *
 * The encoders and decoders are pure (heap only), bounded, and strict; the fuzz target
 * `keeper_message` runs them.
 */
#include "base/buffer.h"
#include "base/cbor.h"
#include "base/error.h"
#include "base/guard.h"
#include "sandbox/sandbox.h"

enum {
	PROTOCOL_VERSION = 1, /* a keeper serves this one and the one before */
	PROTOCOL_BODY_INLINE = 48 * 1024,
	PROTOCOL_BODY_MAX = SANDBOX_SPEC_BYTES_MAX,
	PROTOCOL_DATAGRAM_MAX = PROTOCOL_BODY_INLINE + 256,
	PROTOCOL_FDS_MAX = 16, /* of one datagram (IO_FDS_MAX); more listeners than that follow in
				  further STARTED messages */
};

/* Both in the state directory's v1. Whoever holds the lock listens at the socket, is about to, or
 * ends.
 * The lock file says which program that is: "DEV:INO\n" of its executable. */
#define PROTOCOL_SOCKET "keeper"
#define PROTOCOL_LOCK	"keeper.lock"
enum { PROTOCOL_PROGRAM_SIZE = 48 };
struct stat;
/* What the lock file says of an executable. */
void protocol_program(const struct stat *st, char buf[PROTOCOL_PROGRAM_SIZE]);

enum protocol_flags {
	PROTOCOL_FLAG_MEMFD = 1 << 0, /* the body is the last descriptor's content */
	PROTOCOL_FLAG_MORE =
		1 << 1, /* this event goes on in the next message (its descriptors do) */
};

/* Numbers are never reused. */
enum protocol_type {
	PROTOCOL_HELLO = 1,
	PROTOCOL_START = 2,
	PROTOCOL_SIGNAL = 3,
	PROTOCOL_KILL = 4,
	PROTOCOL_FREEZE = 5,
	PROTOCOL_RESIZE = 6,
	PROTOCOL_PTY = 7,
	PROTOCOL_FOLLOW = 8,
	PROTOCOL_FORGET = 9,
	PROTOCOL_DRAIN = 10,
	PROTOCOL_LAYER = 11,
	PROTOCOL_NET_OPEN = 12, /* of these three the header's attempt is the net's run */
	PROTOCOL_NET_ATTACH = 13,
	PROTOCOL_NET_CLOSE = 14,
	/* keeper to supervisor */
	PROTOCOL_HELLO_REPLY = 64,
	PROTOCOL_EVENT_STARTED = 65,
	PROTOCOL_EVENT_NOT_STARTED = 66,
	PROTOCOL_EVENT_EXITED = 67,
	PROTOCOL_EVENT_GONE = 68,
	PROTOCOL_EVENT_OUTPUT = 69,
	PROTOCOL_EVENT_REPLY = 70,
	PROTOCOL_EVENT_LAYER = 71,
};

struct protocol_header {
	uint32_t length; /* of the body, wherever it is */
	uint16_t type;
	uint16_t protocol;
	uint64_t epoch;
	struct sandbox_attempt_id attempt; /* zero where the request is about none */
	uint64_t request; /* chosen by the asker, echoed in its answer; 0 in unasked events */
	uint32_t flags;
	uint32_t reserved; /* 0 */
};
_Static_assert(sizeof(struct protocol_header) == 48, "the header's size is part of the protocol");

/* Checks what can be checked without state: lengths, known flags, reserved = 0. -EPROTO, -EBADMSG.
 */
MUST_CHECK int protocol_check_header(const struct protocol_header *h, size_t datagram,
				     size_t fd_count);

/* ---- START: a spec on the keeper's side ---- */

/* Descriptors of START, in this order, each only if its bit is set in the spec's `fds`. */
enum protocol_start_fd { PROTOCOL_START_STDIN = 1 << 0, PROTOCOL_START_BASE = 1 << 1 };

/* A decoded spec owns all that `spec` points to; its descriptors are -1 until the receiver fills
 * them in, and stay the receiver's to close. */
struct protocol_spec {
	struct sandbox_spec spec;
	uint32_t fds; /* enum protocol_start_fd: which descriptors came with it */
	void *memory; /* owned */
};
void protocol_spec_free(struct protocol_spec *s); /* accepts NULL */
DEFINE_GUARD(struct protocol_spec *, protocol_spec_free)

/* -EINVAL with what and why where the spec breaks a rule of sandbox.h. The same checks run on both
 * sides. */
MUST_CHECK int protocol_spec_check(const struct sandbox_spec *s, struct error *err);
MUST_CHECK int protocol_spec_encode(const struct sandbox_spec *s, struct buffer *out,
				    struct error *err);
/* Strict: -EBADMSG, -E2BIG, -EPROTO, -ENOMEM; -EINVAL from protocol_spec_check. attempt is the
 * header's. */
MUST_CHECK int protocol_spec_decode(struct bytes b, const struct sandbox_attempt_id *attempt,
				    struct protocol_spec **ret, struct error *err);

/* ---- the small bodies ---- */

/* One struct for every request but START: fields that a type does not have are absent in its map.
 */
struct protocol_request {
	uint64_t epoch; /* HELLO: 0 = only look */
	int32_t signal; /* SIGNAL */
	bool on; /* FREEZE, FOLLOW */
	uint16_t rows, cols; /* RESIZE */
	uint32_t uid, gid; /* LAYER */
	struct bytes sealer; /* LAYER: an encoded sealer_request; borrowed */
	struct bytes table, ca; /* NET_OPEN; borrowed */
};
MUST_CHECK int protocol_request_encode(enum protocol_type type, const struct protocol_request *q,
				       struct buffer *out);
MUST_CHECK int protocol_request_decode(enum protocol_type type, struct bytes b,
				       struct protocol_request *ret);

MUST_CHECK int protocol_hello_encode(const struct sandbox_hello *h, struct buffer *out);
/* *ret's found and nets are allocated: the caller frees them. */
MUST_CHECK int protocol_hello_decode(struct bytes b, struct sandbox_hello *ret);

/* Body of an event of e->type (CONNECTION_LOST has none). LAYER's is the sealer's reply as it came:
 * not encoded here. */
MUST_CHECK int protocol_event_encode(const struct sandbox_event *e, struct buffer *out);
/* Text and message are copied; layer.message is borrowed from b. */
MUST_CHECK int protocol_event_decode(enum protocol_type type, struct bytes b,
				     struct sandbox_event *ret);
