#pragma once
/*
 * The inside of the courier: one loop, one thread. Only sandbox/gate/courier*.c include this.
 *
 *   keeper      -- control --> courier.c           the process, attempts and their policies
 *   gate        -- trunk   --> courier_channel.c   a client's connection, as the gate tells it
 *   supervisor <-- report  --> courier_report.c
 *   inside: courier_exchange.c (one request: proposed, answered), courier_decide.c (what it is, and
 *   whether), courier_http.c and courier_tunnel.c (what is done with a connection)
 *   outside: courier_upstream.c (addresses, TLS, pool), courier_names.c,
 *   courier_names_tcp.c
 *
 * Nothing that comes from outside may end the process: a broken channel ends itself, a broken
 * upstream ends its exchange.
 */
#include <event2/buffer.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include "base/error.h"
#include "base/guard.h"
#include "base/http1.h"
#include "policy/policy.h"
#include "sandbox/gate/control.h"
#include "sandbox/gate/dns.h"
#include "sandbox/gate/exchange_state.h"
#include "sandbox/gate/frames.h"
#include "sandbox/gate/git.h"
#include "sandbox/gate/scan.h"
#include "sandbox/gate/stream.h"
#include "sandbox/report.h"

enum {
	COURIER_CHANNELS_MAX = 4096,
	COURIER_EXCHANGES_MAX = 8192, /* clients that are gone included */
	COURIER_SPOOLED_MAX = 512 * 1024 * 1024, /* bytes of bodies of all exchanges */
	COURIER_OUT_HIGH = 256 * 1024, /* bytes that wait for a reader before the writer stops */
	COURIER_OUT_LOW = 64 * 1024,
	COURIER_HEAD_MAX = 128 * 1024, /* of a request as it is sent */
	COURIER_READS_MAX = 8192, /* reports that wait for a supervisor */
	COURIER_ADDRESSES_MAX = 32, /* of one name */
	COURIER_POOL_MAX = 16, /* idle connections of one attempt */
	COURIER_IDLE_S = 30, /* of a connection in the pool */
	COURIER_CONNECT_S = 15, /* one address; and TLS */
	COURIER_QUIET_S = 600, /* an upstream that says nothing */
	COURIER_AGAIN_MS = 100, /* before what is in doubt is sent again; doubled each time */
	COURIER_AGAIN_MAX_MS = 30 * 1000,
	COURIER_ATTEMPT_S = 30, /* a request waits for the supervisor's word about its attempt */
	COURIER_SCANNED_FIRST = 1024 * 1024, /* bytes of a response that are scanned for a secret
						before the first goes inside */
};

/* ---- memory for what must not leave: locked, never dumped, wiped ---- */

struct vault {
	uint8_t *data;
	size_t len, room;
};
MUST_CHECK int vault_put(struct vault *v, struct bytes content); /* -ENOMEM */
void vault_clear(struct vault *v);

/* ---- names (courier_names.c, courier_names_tcp.c) ---- */

enum { NAMES_RESOLVERS_MAX = 8 };

struct names;
struct names_address {
	uint8_t b[16];
	size_t len; /* 4 or 16 */
};
/* Before isolation: reads resolv.conf, hosts, and opens the netlink socket that *ret_keep is. */
MUST_CHECK int names_prepare(struct names **ret, int *ret_keep, struct error *err);
MUST_CHECK int names_start(struct names *n, struct event_base *base);
/* "IP[:PORT] ..."; empty: the system's. */
MUST_CHECK int names_resolvers(struct names *n, struct bytes text);
struct names_query;
/* Calls back once, maybe at once; count 0: why says it. *ret is NULL once it was called. */
typedef void names_answer(void *arg, const struct names_address *a, size_t count, const char *why);
void names_ask(struct names *n, const char *host, names_answer *fn, void *arg,
	       struct names_query **ret);
void names_cancel(struct names_query *q);
bool names_own(struct names *n, const struct names_address *a); /* an address of this host */
void names_text(const struct names_address *a, char *buf, size_t size);
MUST_CHECK int names_parse(const char *text, struct names_address *ret);

struct names_tcp;
/* Calls back once, never before this returns; NULL: no resolver gave an answer. */
typedef void names_tcp_answer(void *arg, const struct dns_answer *a);
/* One question over TCP; NULL: out of memory, or no such question. host is in lower case. It is gone
 * when it called back. */
struct names_tcp *names_tcp_ask(struct event_base *base, const struct sockaddr_storage *resolvers,
				size_t count, const char *host, enum dns_type type,
				names_tcp_answer *fn, void *arg);
void names_tcp_cancel(struct names_tcp *t); /* accepts NULL */

/* ---- attempts and their policies (courier.c) ---- */

struct secret {
	char *name;
	struct vault value;
};

struct anchor {
	char *path;
	SSL_CTX *tls;
};

struct attempt {
	struct courier *c;
	struct attempt *next;
	uint8_t id[16];
	unsigned refs;
	bool ended;
	struct policy_effective *policy;
	struct secret secrets[REPORT_SECRETS_MAX];
	size_t secret_count;
	struct anchor anchors[REPORT_CAS_MAX];
	size_t anchor_count;
	uint64_t egress_left, requests_left;
};
struct attempt *attempt_find(struct courier *c, const uint8_t *id); /* live; NULL: not told yet */
struct attempt *attempt_ref(struct attempt *a);
void attempt_unref(struct attempt *a); /* accepts NULL */
const struct secret *attempt_secret(const struct attempt *a, const char *name);

/* ---- the process ---- */

struct bucket { /* of a rule's rate */
	char *rule;
	int64_t since_ms;
	uint64_t count, bytes;
};

struct courier {
	struct event_base *base;
	uint8_t run[16], instance[16];
	struct event *control, *trunk, *attempts_late;
	struct event *bury; /* once this turn of the loop is over with who may look at them */
	int trunk_fd;
	struct names *names;
	SSL_CTX *tls;
	struct attempt *attempts;
	struct channel *channels, *closed; /* closed: freed by `bury` */
	struct exchange *exchanges, *ended; /* ended: freed by `bury` */
	struct upstream *pool;
	size_t channel_count, exchange_count;
	uint64_t spooled, next_request;
	struct report *report;
	struct bucket *buckets;
	size_t bucket_count;
};
/* What the supervisor says of an attempt; fds: its policy, then its trust anchors. */
void courier_attempt(struct courier *c, const struct report_attempt *a, const int *fds, size_t n);
void courier_attempt_end(struct courier *c, const uint8_t *id);
void courier_bury_soon(struct courier *c);
int64_t courier_wall_ns(void);
int64_t courier_mono_us(void);

/* ---- a connection to the outside (courier_upstream.c) ---- */

struct upstream;
struct upstream_user { /* each may free the upstream */
	void (*ready)(void *arg);
	/* Before ready: nothing was sent. status 502 or 504. */
	void (*failed)(void *arg, int status, const char *error, const char *why);
	void (*input)(void *arg, struct evbuffer *in);
	/* clean: an orderly end, of TLS too. */
	void (*closed)(void *arg, bool clean, const char *why);
	void (*drained)(void *arg); /* below COURIER_OUT_LOW again */
};
struct upstream_want {
	struct attempt *attempt;
	const struct policy_decision *decision;
	const struct policy_rule *rule;
	const char *host;
	uint16_t port;
	bool tls;
	bool pooled; /* one that was used before will do */
};
/* Callbacks never come before it returns. -ENOMEM. */
MUST_CHECK int upstream_open(struct courier *c, const struct upstream_want *w,
			     const struct upstream_user *user, void *arg, struct upstream **ret);
bool upstream_reused(const struct upstream *u);
struct evbuffer *upstream_output(struct upstream *u);
struct evbuffer *upstream_input(struct upstream *u);
void upstream_read(struct upstream *u, bool on);
void upstream_shutdown(struct upstream *u); /* half close, once all is written */
void upstream_quiet(struct upstream *u, int seconds); /* 0 = for ever */
void upstream_keep(struct upstream *u); /* back to the pool, or closed */
void upstream_close(struct upstream *u); /* accepts NULL */
void upstream_close_attempt(struct courier *c, const struct attempt *a); /* idle ones */
SSL_CTX *upstream_tls_new(void); /* no anchors yet */

/* ---- one request or tunnel (courier_exchange.c) ---- */

/* What the supervisor has of an effect's outcome; SEND and REPLAY begin anew. */
enum exchange_result {
	EXCHANGE_UNSAID, /* nothing */
	EXCHANGE_SAID, /* RESULT is said; to each supervisor that attaches, until one has it */
	EXCHANGE_RELEASED, /* it is on disk: the last byte may go inside */
};

struct exchange {
	struct courier *c;
	struct exchange *next;
	enum exchange_state state; /* exchange_move() */
	struct channel *channel; /* NULL: the client is gone */
	uint8_t attempt_id[16];
	struct attempt *attempt;
	uint64_t number; /* of its proposal; 0 = none */
	int64_t started_us, wall_ns, waits_until_us;

	/* what was asked */
	struct buffer head; /* the frame's bytes */
	bool is_tunnel;
	struct frames_tunnel tunnel;
	int body; /* memfd; -1 = none */
	uint64_t body_len;
	struct digest_ctx *hash;
	/* what it is */
	struct git_push *push;
	uint8_t *body_map; /* of a push, mapped */
	struct buffer remote;
	struct git_where git;
	bool is_git, is_tool;
	struct buffer tool_text; /* of a tool call, decoded: action borrows */
	struct buffer canonical;
	struct policy_decision decision;
	struct policy_rule rule;
	bool effect; /* not a plain read */
	/* what was answered */
	uint8_t effect_id[16];
	struct buffer key_header, key;
	/* what is sent */
	struct event *again; /* to be sent once more in a while */
	unsigned tries;
	struct upstream *up;
	uint64_t body_sent, sent, received;
	bool head_sent, retried, upgraded;
	bool was_sent; /* a byte of it went out, now or before: nothing proves that it did not
			  happen */
	bool client_ended, server_ended; /* of a tunnel: half closes */
	struct http1_parser *parser;
	/* what came back */
	struct frames_response response;
	struct buffer response_text; /* response borrows */
	bool has_response, response_ended, no_body;
	bool live; /* a stream of events: it goes inside as it comes */
	int spool; /* memfd of its body; -1 = none */
	uint64_t spool_len;
	bool too_long;
	struct scan *scan;
	struct evbuffer *pending; /* bytes for inside that wait: for the scan, or for RELEASE */
	bool head_pending; /* the RESPONSE frame too */
	uint64_t passed; /* bytes of the body that went inside */
	/* what was said */
	enum exchange_result result;
	enum report_outcome outcome;
	char why[640];
	int status_inside;
	/* replay */
	int replay; /* memfd */
	uint64_t replay_at, replay_len;
	/* large, and set only as far as is counted */
	struct frames_request request; /* what was asked; borrows from head */
	struct action action; /* as proposed; borrows from head and from above */
};

struct exchange *exchange_new(struct channel *ch);
/* The one way to another state. Aborts on one that the table does not have: a courier that does not
 * know how an effect stands must say nothing of it. */
void exchange_move(struct exchange *x, enum exchange_state to);
/* To DONE, if it is not there yet. Nothing calls it any more, and its memory stays until the loop
 * frees it: who is up the stack may still look at it. Then its channel takes the next request. */
void exchange_end(struct exchange *x);
void exchange_free_ended(struct courier *c); /* from the loop only */
/* head holds the frame's body. Each answers the channel by itself. */
void exchange_request(struct exchange *x);
void exchange_tunnel(struct exchange *x);
void exchange_body(struct exchange *x, struct bytes piece);
void exchange_body_end(struct exchange *x);
void exchange_client_gone(struct exchange *x);
void exchange_client_drained(struct exchange *x);
void exchange_attempt_known(struct courier *c);
void exchange_attempt_ended(struct courier *c, const uint8_t *id);
void exchange_answer(struct courier *c, const struct report_answer *a, const int *fds, size_t n);
void exchange_release(struct courier *c, const uint8_t *effect);
/* From courier_http.c and courier_tunnel.c. */
void exchange_sent(struct exchange *x); /* the first byte goes out now */
void exchange_failed(struct exchange *x, int status, const char *error, const char *why);
void exchange_broken(struct exchange *x, int status, const char *error, const char *why);
void exchange_finished(struct exchange *x);
void exchange_restart(struct exchange *x); /* a read, on another connection */
MUST_CHECK int exchange_memfd(void);

/* ---- deciding (courier_decide.c) ---- */

/* Fills action, decision, rule, effect of x from what was asked. 0; -EACCES: denied; -EMSGSIZE: a
 * body past the rule's limit; -EBADMSG: a push that cannot be read, with *ret_why. */
MUST_CHECK int decide(struct exchange *x, const char **ret_why);
/* Rates and budgets. 0: it counts as one request of its rule's rate; or 429 with why. */
MUST_CHECK int decide_rate(struct exchange *x, const char **ret_why);
void decide_count(struct exchange *x, uint64_t sent, uint64_t received);
void decide_count_request(struct courier *c); /* one is begun, of the run's budget */

/* ---- what is done with a connection ---- */

MUST_CHECK int http_start(struct exchange *x); /* -ENOMEM */
/* Of struct upstream_user, for tunnels too. */
void http_input(void *arg, struct evbuffer *in);
void http_closed(void *arg, bool clean, const char *why);
void http_drained(void *arg);
void http_client_drained(struct exchange *x);
void http_release(struct exchange *x); /* lets the rest go inside */
void http_forget(struct exchange *x);
/* A response that the courier has whole: a replay, a refusal in text. */
void http_answer(struct exchange *x, const struct frames_response *r, struct bytes body);
void http_replay(struct exchange *x);
MUST_CHECK int tunnel_start(struct exchange *x);
void tunnel_upgraded(struct exchange *x);
void tunnel_data(struct exchange *x, struct bytes piece);
void tunnel_data_end(struct exchange *x);
void tunnel_client_drained(struct exchange *x);
void tunnel_input(struct exchange *x);
void tunnel_drained(struct exchange *x);
void tunnel_closed(struct exchange *x, bool clean);

/* ---- a client's connection, as the gate tells it (courier_channel.c) ---- */

struct channel {
	struct courier *c;
	struct channel *next;
	struct stream *stream;
	uint8_t attempt[16];
	uint64_t connection;
	struct exchange *x;
	bool discard; /* a body that nobody wants any more, until its end */
	bool stopped; /* reading waits for the upstream */
	bool dead; /* closed, or about to be */
};
/* Takes fd over on success. -EMFILE past COURIER_CHANNELS_MAX, or -ENOMEM. */
MUST_CHECK int channel_open(struct courier *c, const struct frames_open *o, int fd);
/* Nothing goes in or out any more. For all that an exchange does: it hears of it from the loop, so
 * whoever sends has it still. */
void channel_break(struct channel *ch);
/* And its exchange hears of it at once: never from inside of a call of the exchange's. */
void channel_close(struct channel *ch);
void channel_bury(struct courier *c); /* closes the broken, frees the closed; from the loop only */
void channel_close_attempt(struct courier *c, const uint8_t *id);
void channel_send(struct channel *ch, enum frames_type type, struct bytes body);
void channel_send_raw(struct channel *ch, enum frames_type type, struct evbuffer *from, size_t len);
void channel_refuse(struct channel *ch, int status, struct bytes json);
size_t channel_waiting(const struct channel *ch); /* bytes not yet taken by the gate */
void channel_stop(struct channel *ch, bool stop); /* reading */
void channel_done(struct channel *ch); /* its exchange is: the next request may come */

/* ---- the supervisor (courier_report.c) ---- */

MUST_CHECK int report_new(struct courier *c, struct report **ret);
void report_attach(struct report *r, int fd);
void report_propose(struct report *r, struct exchange *x);
void report_result(struct report *r, struct exchange *x);
void report_delivered(struct report *r, const uint8_t *effect);
void report_cut(struct report *r, uint64_t request);
/* Says now what waits for more. */
void report_flush(struct report *r);
/* The gate has no more of that attempt: what is known of it is said, and then that it is all. */
void report_drained(struct report *r, const uint8_t *attempt);
/* What the gate refused by itself. */
void report_refused(struct report *r, const struct frames_note *n);
/* A plain read, or a denial. */
void report_note(struct report *r, const struct exchange *x, bool denied, int status,
		 const char *why);
bool report_full(const struct report *r);
