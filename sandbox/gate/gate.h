#pragma once
/*
 * holdfast-gate, one per run: the process that stands between the programs of a sandbox and the
 * courier. Inside this program only.
 *
 * It accepts on listeners that are inside the sandbox's network namespace, answers DNS from the
 * run's name table, ends TLS with certificates of the run's authority, and makes of what it reads
 * one canonical request (request.h) or one opaque stream a connection. It holds no policy and no
 * secret of the user's, can open nothing and connect nowhere (isolate.h), and may be killed at any
 * time: table, authority, names and listeners are the keeper's.
 *
 * Back-pressure is the kernel's: each side of a connection is read only while the other side's
 * buffer has room, so a body of any size passes in constant memory.
 */
#include <event2/buffer.h>
#include <event2/event.h>
#include <sys/queue.h>
#include "base/guard.h"
#include "base/http1.h"
#include "sandbox/gate/control.h"
#include "sandbox/gate/frames.h"
#include "sandbox/gate/request.h"
#include "sandbox/gate/stream.h"
#include "sandbox/gate/table.h"

enum {
	GATE_CONNECTIONS_MAX = 4096, /* of one run; past it the next one is reset */
	GATE_ACCEPTS_MAX = 32, /* of one listener in one turn of the loop */
	GATE_HEAD_MS =
		60 * 1000, /* from a request's first byte (or the connection's) to its head */
	GATE_BODY_MS = 300 * 1000, /* without a byte of a body that is awaited */
	GATE_IDLE_MS = 600 * 1000, /* between two requests */
	GATE_LINGER_MS = 2 * 1000, /* for a client to read an answer that ends its connection */
	GATE_LINGER_BYTES = 1024 * 1024, /* that it may still send meanwhile */
	GATE_COURIER_MS = 30 * 1000, /* without a courier to hand a connection to */
	GATE_RETRY_MS = 5, /* until a full trunk is tried again */
	GATE_PAUSE_MS = 100, /* without accepting where descriptors or memory are used up */
	GATE_REFUSED_MAX = 64, /* names of one attempt that are noted once */
	GATE_IN_MAX = 64 * 1024, /* bytes read of a client and not handled yet */
	GATE_OUT_MAX = 128 * 1024, /* bytes written to either side and not taken yet */
	GATE_OUT_LOW = 32 * 1024, /* fewer: more is made */
	GATE_CHANNEL_IN_MAX = 128 * 1024, /* holds the largest frame that is read whole */
};

struct gate_tls; /* gate_tls.c: the run's authority, and leaf certificates by name */
struct gate_names; /* gate_names.c: which name each slot of a wildcard stands for */

struct gate_limits { /* ms; those above, or smaller ones for a test */
	uint32_t head_ms, body_ms, idle_ms, linger_ms, courier_ms;
};

/* Refusals that were not told one by one, by enum frames_note_kind: told as a number. */
struct unsaid {
	uint64_t count[FRAMES_NOTE_OVER];
};

struct attempt {
	LIST_ENTRY(attempt) link;
	uint8_t id[16];
	uint32_t notes; /* said */
	struct unsaid unsaid;
	uint64_t refused[GATE_REFUSED_MAX]; /* names that were last noted, hashed: each pair of A
					       and AAAA, each retry would be one more */
	uint32_t refused_at;
	LIST_HEAD(, listener) listeners;
};

struct listener {
	LIST_ENTRY(listener) link;
	struct gate *gate;
	struct attempt *attempt;
	struct table_where where;
	struct event *event; /* owns the descriptor */
	bool paused;
};

/* That an attempt is over, to be said on the trunk behind all that was said of it. */
struct over {
	STAILQ_ENTRY(over) link;
	uint8_t attempt[16];
	struct unsaid unsaid; /* goes before it */
};

struct gate {
	struct event_base *base;
	struct table *table; /* NULL until it came */
	struct gate_names *names;
	struct gate_tls *tls;
	struct gate_limits limits;
	int trunk; /* -1 = no courier now */
	struct event *retry, *resume;
	uint64_t next_connection;
	uint32_t connections, connections_max;
	STAILQ_HEAD(, over) over; /* not said yet: no courier, or its trunk is full */
	LIST_HEAD(, attempt) attempts;
	LIST_HEAD(, conn) conns;
	LIST_HEAD(, dns_conn) dns_conns;
};

/* ---- gate.c: what the keeper says, and listeners ---- */
struct attempt *gate_attempt(struct gate *g, const uint8_t id[16]); /* NULL: none of that id */
/* Something was refused here: a note on the trunk, at most FRAMES_NOTES_MAX of one attempt. One past
 * that, or past what the trunk holds, or while no courier lives, is counted, and the number is told
 * when there is room, at the latest before the attempt's end is. */
void gate_note(struct gate *g, struct attempt *a, enum frames_note_kind kind, const char *host,
	       uint16_t port, const char *why);
/* What waited for a trunk, or for room in it, is said. */
void gate_trunk_again(struct gate *g);
void gate_retry_soon(struct gate *g);
/* Ends the process with a line in the log: the keeper starts another. */
void gate_die(const char *fmt, ...) PRINTF_LIKE(1, 2) __attribute__((noreturn));

/* ---- gate_names.c ---- */
struct gate_names *gate_names_new(const struct table *t); /* NULL when out of memory */
void gate_names_free(struct gate_names *n); /* accepts NULL */
/* What the keeper says of an earlier gate's. */
void gate_names_put(struct gate_names *n, uint32_t entry, uint32_t slot, const char *name);
/* The name that a connection to that slot is for; NULL: none was ever given to it. */
const char *gate_names_of(const struct gate_names *n, uint32_t entry, uint32_t slot);
/* The slot of a name that entry covers; a new one is told to the keeper first. -ENOSPC: all are
 * taken; -EAGAIN: the keeper cannot be told now. */
MUST_CHECK int gate_names_slot(struct gate_names *n, uint32_t entry, const char *name);

/* ---- gate_dns.c ---- */
void gate_dns_datagram(struct listener *l, int fd);
void gate_dns_accept(struct listener *l, int fd); /* takes fd over */
void gate_dns_attempt_end(struct gate *g, const struct attempt *a);

/* ---- gate_tls.c ---- */
/* pem: certificate, then its key. */
MUST_CHECK int gate_tls_new(struct bytes pem, struct gate_tls **ret, struct error *err);
void gate_tls_free(struct gate_tls *t); /* accepts NULL */
/* A server's session for name over the two raw buffers of a stream, which outlive it. */
MUST_CHECK int gate_tls_session(struct gate_tls *t, const char *name, struct stream *raw,
				SSL **ret);
enum gate_tls_result {
	GATE_TLS_DONE = 0, /* as far as it goes now */
	GATE_TLS_MOVED = 1, /* bytes were moved, or the handshake ended */
	GATE_TLS_ENDED = 2, /* the client said close_notify */
};
/* An enum gate_tls_result, or -EPROTO with *err: the connection is broken (an alert may be in the
 * raw output). */
MUST_CHECK int gate_tls_handshake(SSL *s, struct error *err);
MUST_CHECK int gate_tls_read(SSL *s, struct evbuffer *in, size_t max, struct error *err);
MUST_CHECK int gate_tls_write(SSL *s, struct evbuffer *out, struct stream *raw, struct error *err);
void gate_tls_shutdown(SSL *s);
void gate_tls_session_free(SSL *s); /* accepts NULL */
/* RFC 6455 section 4.2.2; ret holds 29 bytes. */
void gate_tls_websocket_accept(const char *key, char *ret);

/* ---- gate_conn.c: one connection ---- */

/* HELLO a TLS hello is read and held to the name · HANDSHAKE · HTTP · TUNNEL opaque both ways ·
 * LINGER an answer that ends the connection is flushed, what still comes is thrown away · DEAD
 * freed at the end of this turn. */
enum conn_state {
	CONN_HELLO,
	CONN_HANDSHAKE,
	CONN_HTTP,
	CONN_TUNNEL,
	CONN_LINGER,
	CONN_DEAD,
};

/* Of one exchange. HEAD the next request is read (nothing of it: idle) · BODY · DONE all of it was
 * handed on. */
enum conn_request { CONN_REQUEST_HEAD, CONN_REQUEST_BODY, CONN_REQUEST_DONE };
/* NONE no request was handed on · AWAITED · BODY the head went in · DONE. */
enum conn_response {
	CONN_RESPONSE_NONE,
	CONN_RESPONSE_AWAITED,
	CONN_RESPONSE_BODY,
	CONN_RESPONSE_DONE,
};

enum conn_clock {
	CONN_CLOCK_NONE,
	CONN_CLOCK_HEAD,
	CONN_CLOCK_BODY,
	CONN_CLOCK_IDLE,
	CONN_CLOCK_LINGER,
	CONN_CLOCK_COURIER,
};

struct conn {
	LIST_ENTRY(conn) link;
	struct gate *gate;
	struct attempt *attempt;
	uint64_t number;
	char name[CONTROL_NAME_MAX + 1];
	uint16_t port;
	enum table_mode mode;
	enum conn_state state;
	/* the client's side */
	struct stream *client;
	SSL *ssl;
	struct evbuffer *in, *out; /* plain; the client's own buffers where there is no TLS */
	bool client_ended; /* it sends no more */
	bool shut; /* neither do we */
	size_t lingered; /* bytes */
	struct event *timer;
	enum conn_clock clock;
	bool body_moved; /* since the clock was set */
	/* the courier's side */
	struct stream *channel; /* NULL = none */
	int handed; /* its other end, until the courier has it; -1 */
	bool channel_ended;
	struct frames_header frame; /* being read; left bytes of it to come */
	uint32_t left;
	bool in_frame;
	/* HTTP */
	struct http1_parser *parser;
	enum conn_request request;
	enum conn_response response;
	bool some_head; /* of the next request */
	bool empty_line; /* before it */
	bool parsed; /* the parser has told the request's end */
	bool keep; /* the connection lives on behind this exchange */
	bool is_head, is_old, websocket;
	bool chunked; /* the response inside */
	char websocket_key[REQUEST_WEBSOCKET_KEY + 1];
	uint64_t response_left; /* bytes, where it has a length */
	bool response_has_length;
	/* TUNNEL */
	bool tunnel_open; /* the courier said so */
	bool sent_end, got_end;
};

void conn_accept(struct listener *l, int fd); /* takes fd over */
void conn_attempt_end(struct gate *g, const struct attempt *a);
void conn_trunk_changed(struct gate *g);
/* For gate_http.c. */
void conn_reset(struct conn *c); /* RST */
void conn_linger(struct conn *c); /* flush and close */
struct bytes conn_peek(struct evbuffer *b); /* its first stretch */
bool conn_channel_full(const struct conn *c);
bool conn_client_full(const struct conn *c);
MUST_CHECK int conn_channel_open(struct conn *c);
void conn_channel_close(struct conn *c);
void conn_frame(struct conn *c, enum frames_type type, struct bytes body);
/* The next frame's header, once; false: not there yet, or the channel broke (conn_http_broken or
 * reset was done). */
bool conn_frame_begin(struct conn *c);

/* ---- gate_http.c: both return whether anything moved ---- */
bool conn_http_run(struct conn *c);
/* The channel ended or broke. */
void conn_http_broken(struct conn *c, const char *why);
/* Answers with status and a JSON of error and why, and ends the connection. */
void conn_http_refuse(struct conn *c, int status, const char *error, const char *why);
