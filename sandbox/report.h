#pragma once
/*
 * What courier and supervisor say to each other, over a SOCK_SEQPACKET pair that the keeper makes
 * at each sandbox_client_net_attach(): the courier's end goes to the courier of that run, the other
 * to the supervisor. One datagram = one canonical CBOR map (base/holdfast.cddl, `report-*`) whose
 * key 0 is the type; bodies of requests and responses travel as sealed memfds, by SCM_RIGHTS.
 * Encoders and decoders are pure, bounded, strict and fuzzed (`courier_report`).
 *
 * The supervisor may die at any instant. The courier goes on: what is unanswered waits, and what it
 * has begun to send it ends. At the next attach it says HELLO, then every PROPOSE without ANSWER
 * and every RESULT without RELEASE again: all of it is idempotent by the courier's own instance and
 * request number. A RESERVED effect that the HELLO's `sending` names is not in doubt while this
 * courier lives; one that no living courier names is.
 *
 * Order of an effect: PROPOSE
 * -> ANSWER{SEND} (the supervisor has synced RESERVED) -> first byte out
 * -> the response is spooled and streamed but for its last bytes -> RESULT
 * -> RELEASE (CONFIRMED is synced) -> the last bytes go inside -> DELIVERED or CUT.
 */
#include "base/buffer.h"
#include "base/error.h"
#include "sandbox/action.h"

enum {
	REPORT_DATAGRAM_MAX = 128 * 1024,
	REPORT_READS_MAX = 128, /* in one batch */
	REPORT_READS_EVERY_MS = 100,
	REPORT_SECRETS_MAX = 64, /* of one run */
	REPORT_SECRET_MAX = 16 * 1024, /* bytes of one value */
	REPORT_CAS_MAX = 8, /* files of trust anchors of one attempt */
	REPORT_SENDING_MAX = 4096,
	REPORT_SPOOL_MAX = 64 * 1024 * 1024, /* bytes of a response that is kept; past it CONFIRMED
						without its body */
	REPORT_TEXT_MAX = 1024,
};

/* Numbers are never reused. */
enum report_type {
	/* courier to supervisor */
	REPORT_HELLO = 1,
	REPORT_PROPOSE = 2,
	REPORT_READS = 3,
	REPORT_RESULT = 4,
	REPORT_DELIVERED = 5, /* the client has the whole response of `effect` */
	REPORT_CUT = 6, /* the client of `request` is gone: before an answer, or with part of one */
	REPORT_DRAINED = 7, /* `attempt_end` is over, and all READS of it were said before */
	/* supervisor to courier */
	REPORT_SETTINGS = 32,
	REPORT_ATTEMPT = 33,
	REPORT_ATTEMPT_END = 34,
	REPORT_ANSWER = 35,
	REPORT_RELEASE = 36,
};

struct report_hello {
	uint8_t run[16];
	uint8_t instance[16]; /* random at the courier's start: request numbers are this one's own
			       */
	const uint8_t (
		*sending)[16]; /* effects whose SEND it has and whose RESULT has no RELEASE yet */
	size_t sending_count;
};

struct report_propose { /* fds: the body, if action.has_body */
	uint64_t request; /* courier's own number, from 1 */
	uint8_t attempt[16];
	struct bytes action; /* canonical, with its body digest */
	uint32_t dropped; /* headers that were not passed on */
	struct bytes names; /* theirs, with ", " between, cut at REPORT_TEXT_MAX */
	struct bytes reason; /* the agent's own: nobody checked it */
};

/* What a plain read did, or why anything was denied without asking: for the log. */
struct report_read {
	uint8_t attempt[16];
	int64_t wall_ns;
	enum action_kind kind;
	bool denied; /* else it was allowed, and sent unless status is 0 */
	int status; /* of the answer inside; 0 = none */
	/* path at most REPORT_TEXT_MAX, cut; of a tool: method "tool", path "NAME argument=value..."
	 */
	struct bytes method, host, path;
	uint16_t port;
	struct bytes rule, why;
	uint64_t sent, received; /* bytes of bodies; of a tunnel: both ways */
	uint64_t duration_us;
};

struct report_reads {
	struct report_read *items; /* decoding: malloc'd, the caller's to free */
	size_t count;
};

enum report_outcome {
	REPORT_CONFIRMED = 1, /* a whole response of any status came */
	REPORT_REFUSED = 2, /* proof that it did not happen: no connection, or not one byte sent */
	REPORT_DOUBT = 3, /* bytes went out and no whole response came */
};

struct report_result { /* fds: the response's body, unless too_long or empty */
	uint64_t request;
	uint8_t effect[16];
	enum report_outcome outcome;
	int status;
	struct action_header headers[ACTION_HEADERS_MAX];
	size_t header_count;
	bool too_long; /* past REPORT_SPOOL_MAX: streamed, not kept */
	uint64_t sent, received; /* bytes of bodies */
	struct bytes why; /* REFUSED, DOUBT */
};

struct report_settings {
	struct bytes resolvers; /* text "IP[:PORT] IP..."; empty: the system's resolv.conf */
};

struct report_secret {
	struct bytes name; /* as in the policy */
	struct bytes placeholder; /* what the sandbox holds instead */
	struct bytes value; /* the datagram is read into memory that is wiped and never dumped */
};

struct report_attempt { /* fds: sealed memfd, the step's policy_effective_encode(); then one for
			   each of `cas`: the PEM file's content */
	uint8_t attempt[16];
	uint64_t egress_left, requests_left; /* of the run's budget; UINT64_MAX = no limit */
	struct report_secret secrets[REPORT_SECRETS_MAX];
	size_t secret_count;
	struct bytes cas[REPORT_CAS_MAX]; /* paths, as rules name them under `ca` (policy_ca_at) */
	size_t ca_count;
};

enum report_verdict {
	REPORT_SEND = 1, /* RESERVED is on disk */
	REPORT_DENY = 2, /* 403 with rule, why, hint; status where it is another (409, 429, 507) */
	REPORT_REPLAY = 3, /* status, headers, fds: body. Nothing is sent */
	REPORT_WAITING = 4, /* a person is asked; a true ANSWER follows. For time-outs and logs */
};

struct report_answer {
	uint64_t request;
	uint8_t effect[16];
	enum report_verdict verdict;
	struct bytes key_header,
		key; /* SEND: the idempotency key, and the header it goes in; or empty */
	int status; /* DENY, REPLAY */
	struct action_header headers[ACTION_HEADERS_MAX]; /* REPLAY */
	size_t header_count;
	struct bytes rule, why, hint; /* DENY */
};

struct report_message {
	enum report_type type;
	union {
		struct report_hello hello;
		struct report_propose propose;
		struct report_reads reads;
		struct report_result result;
		uint8_t effect[16]; /* DELIVERED, RELEASE */
		uint64_t request; /* CUT */
		struct report_settings settings;
		struct report_attempt attempt;
		uint8_t attempt_end[16]; /* ATTEMPT_END, DRAINED */
		struct report_answer answer;
	};
};

/* Appends one datagram. -EINVAL, -E2BIG. Never for a text that people read (method, host, rule, why,
 * hint, reason, names): it is cut at a character, and bytes that are no UTF-8 go escaped. */
MUST_CHECK int report_encode(const struct report_message *m, struct buffer *out);
/* Strict; borrows from b but for what is said above: report_message_clear() frees that. -EBADMSG,
 * -E2BIG, -EPROTO, -EINVAL, -ENOMEM. */
MUST_CHECK int report_decode(struct bytes b, struct report_message *ret);
void report_message_clear(struct report_message *m);
