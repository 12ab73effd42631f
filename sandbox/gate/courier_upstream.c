/*
 * A connection to the outside: a name becomes addresses, each is decided by policy and must not be
 * the host's own, the one that is dialled is the one that was decided; TLS is verified against the
 * name. The next address is tried while nothing was sent.
 *
 * The pool holds connections that were used by plain reads' attempts, one exchange at a time. What
 * is no read never takes one from it: a connection that the other side closes at that instant would
 * leave it open whether the request was seen.
 */
#include <arpa/inet.h>
#include <event2/dns.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "sandbox/gate/courier.h"

enum { READ_AHEAD = 64 * 1024 }; /* bytes of TLS */

enum stage {
	STAGE_NAME, /* waits for addresses */
	STAGE_CONNECT, /* `event` on the socket `fd` */
	STAGE_TLS, /* `stream` shakes hands */
	STAGE_OPEN, /* its user's */
	STAGE_IDLE, /* in the pool */
};

struct upstream {
	struct courier *c;
	struct upstream *next; /* in the pool */
	enum stage stage;
	const struct upstream_user *user;
	void *arg;
	struct attempt *attempt; /* a reference */
	char *rule, *secret, *ca; /* owned; with host and port: what the pool finds it by */
	char host[256];
	uint16_t port;
	bool tls, reused, ready_told;
	const struct policy_decision *decision; /* until it is open */
	bool addressed;
	struct names_query *query;
	struct names_address addresses[COURIER_ADDRESSES_MAX], address;
	size_t count, at;
	int fd;
	struct event *event; /* connecting */
	struct event *telling; /* later in this turn */
	struct stream *stream;
	SSL_CTX *ctx;
	int fail_status;
	char why[640];
	const char *error;
};

static void dial(struct upstream *u);

/* ---- TLS ---- */

SSL_CTX *upstream_tls_new(void)
{
	static const unsigned char alpn[] = "\x08http/1.1";
	SSL_CTX *t = SSL_CTX_new(TLS_client_method());

	if (!t)
		return NULL;
	SSL_CTX_set_verify(t, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_options(t, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(t, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				    SSL_MODE_RELEASE_BUFFERS);
	/* Several records in one read, and the head of a record with its body. */
	SSL_CTX_set_read_ahead(t, 1);
	SSL_CTX_set_default_read_buffer_len(t, READ_AHEAD);
	if (SSL_CTX_set_min_proto_version(t, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_alpn_protos(t, alpn, sizeof(alpn) - 1) != 0) {
		SSL_CTX_free(t);
		return NULL;
	}
	return t;
}

static SSL_CTX *tls_of(const struct upstream *u)
{
	for (size_t i = 0; u->ca && i < u->attempt->anchor_count; i++)
		if (strcmp(u->attempt->anchors[i].path, u->ca) == 0)
			return u->attempt->anchors[i].tls;
	return u->ca ? NULL : u->c->tls;
}

static SSL *tls_session(struct upstream *u)
{
	SSL_CTX *ctx = tls_of(u);
	SSL *s = ctx ? SSL_new(ctx) : NULL;

	if (!s)
		return NULL;
	SSL_set_hostflags(s, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (SSL_set1_host(s, u->host) != 1 || SSL_set_tlsext_host_name(s, u->host) != 1) {
		SSL_free(s);
		return NULL;
	}
	return s;
}

static void tls_reason(struct upstream *u)
{
	SSL *s = stream_ssl(u->stream);
	long verify = s ? SSL_get_verify_result(s) : X509_V_OK;
	unsigned long e = stream_tls_error(u->stream);
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	u->error = "tls";
	if (verify != X509_V_OK)
		snprintf(u->why, sizeof(u->why), "%s: %s", u->host,
			 X509_verify_cert_error_string(verify));
	else
		snprintf(u->why, sizeof(u->why), "%s: TLS failed: %s", u->host,
			 reason ? reason : "the connection ended");
}

/* ---- telling, never from inside a call of the user's ---- */

static void on_told(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;

	(void)fd;
	(void)what;
	if (u->stage == STAGE_OPEN) {
		u->ready_told = true;
		u->user->ready(u->arg);
	} else {
		u->user->failed(u->arg, u->fail_status, u->error, u->why);
	}
}

static void tell(struct upstream *u)
{
	if (!u->telling)
		u->telling = evtimer_new(u->c->base, on_told, u);
	if (u->telling)
		event_active(u->telling, EV_TIMEOUT, 0);
}

static void fail(struct upstream *u, int status, const char *error, const char *why)
{
	if (why != u->why)
		snprintf(u->why, sizeof(u->why), "%s: %s", u->host, why);
	u->error = error;
	u->fail_status = status;
	tell(u);
}

/* ---- its stream ---- */

static void on_input(void *arg)
{
	struct upstream *u = arg;

	if (u->stage == STAGE_IDLE)
		upstream_close(u); /* it spoke without being asked */
	else if (u->ready_told)
		u->user->input(u->arg, stream_in(u->stream));
}

static void on_drained(void *arg)
{
	struct upstream *u = arg;

	if (u->stage == STAGE_OPEN && u->ready_told)
		u->user->drained(u->arg);
}

static void open_now(struct upstream *u)
{
	u->stage = STAGE_OPEN;
	u->decision = NULL;
	tell(u);
}

static void on_ready(void *arg)
{
	struct upstream *u = arg;

	stream_timeout(u->stream, 0);
	open_now(u);
}

static void on_ended(void *arg, enum stream_end how)
{
	struct upstream *u = arg;
	const char *why = how == STREAM_QUIET	 ? "it says nothing any more"
			  : how == STREAM_BROKEN ? "the connection broke"
						 : "it closed the connection";

	if (u->stage == STAGE_IDLE) {
		upstream_close(u);
	} else if (u->stage == STAGE_TLS) {
		if (how == STREAM_QUIET)
			fail(u, 504, "timeout", "no TLS in time");
		else
			tls_reason(u), fail(u, 502, u->error, u->why);
	} else if (!u->ready_told) {
		u->stage = STAGE_TLS; /* open, and gone before it was told */
		fail(u, 502, "unreachable", why);
	} else {
		u->user->closed(u->arg, how == STREAM_CLOSED, why);
	}
}

static void take_socket(struct upstream *u)
{
	static const struct stream_user user = {on_ready, on_input, on_drained, on_ended};
	SSL *s = u->tls ? tls_session(u) : NULL;

	if (u->tls && !s) {
		fail(u, 502, "tls", "the rule's trust anchors are not here");
		return;
	}
	u->stream = stream_new(u->c->base, u->fd, COURIER_OUT_HIGH, COURIER_OUT_LOW, &user, u);
	if (!u->stream) {
		SSL_free(s);
		fail(u, 502, "unreachable", "out of memory");
		return;
	}
	u->fd = -1;
	if (u->tls) {
		u->stage = STAGE_TLS;
		stream_timeout(u->stream, COURIER_CONNECT_S);
		stream_tls(u->stream, s);
	} else {
		open_now(u);
	}
}

/* ---- dialling ---- */

static bool permitted(struct upstream *u, const struct names_address *a)
{
	if (policy_address_decide(u->attempt->policy, u->decision, a->b, a->len) != POLICY_ALLOW)
		return false;
	return u->addressed || !names_own(u->c->names, a);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;
	int e = 0;
	socklen_t len = sizeof(e);

	event_free(u->event);
	u->event = NULL;
	if (what & EV_TIMEOUT)
		e = ETIMEDOUT;
	else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
		e = errno;
	if (e == 0) {
		take_socket(u);
		return;
	}
	snprintf(u->why, sizeof(u->why), "%s: %s", u->host, strerror(e));
	u->fail_status = e == ETIMEDOUT ? 504 : 502;
	close_fd(&u->fd);
	dial(u);
}

static int start_connect(struct upstream *u)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} to = {0};
	bool v6 = u->address.len == 16;
	struct timeval limit = {.tv_sec = COURIER_CONNECT_S};
	int one = 1;

	u->fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (u->fd < 0)
		return -errno;
	(void)setsockopt(u->fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof(one));
	(void)setsockopt(u->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	if (v6) {
		to.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(u->port)};
		memcpy(&to.v6.sin6_addr, u->address.b, 16);
	} else {
		to.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(u->port)};
		memcpy(&to.v4.sin_addr, u->address.b, 4);
	}
	if (connect(u->fd, &to.sa, v6 ? sizeof(to.v6) : sizeof(to.v4)) < 0 && errno != EINPROGRESS)
		return -errno;
	u->event = event_new(u->c->base, u->fd, EV_WRITE, on_connected, u);
	if (u->event && event_add(u->event, &limit) == 0)
		return 0;
	if (u->event)
		event_free(u->event);
	u->event = NULL;
	return -ENOMEM;
}

static void dial(struct upstream *u)
{
	bool refused = false;

	u->stage = STAGE_CONNECT;
	while (u->at < u->count) {
		int r;

		u->address = u->addresses[u->at++];
		if (!permitted(u, &u->address)) {
			refused = true;
			continue;
		}
		r = start_connect(u);
		if (r == 0)
			return;
		close_fd(&u->fd);
		u->fail_status = 502;
		snprintf(u->why, sizeof(u->why), "%s: %s", u->host, strerror(-r));
	}
	if (refused && !u->fail_status) {
		char text[INET6_ADDRSTRLEN];

		names_text(&u->address, text, sizeof(text));
		snprintf(u->why, sizeof(u->why),
			 "%s is %s: a private, special or own address, and the rule's `address` "
			 "does "
			 "not cover it",
			 u->host, text);
		fail(u, 403, "denied", u->why);
		return;
	}
	fail(u, u->fail_status, u->fail_status == 504 ? "timeout" : "unreachable", u->why);
}

static void on_names(void *arg, const struct names_address *a, size_t count, const char *why)
{
	struct upstream *u = arg;

	u->query = NULL;
	if (count == 0) {
		fail(u, 502, "name", why);
		return;
	}
	u->count = count;
	memcpy(u->addresses, a, count * sizeof(*a));
	dial(u);
}

/* ---- the pool ---- */

static bool text_equal(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static struct upstream *pool_take(struct courier *c, const struct upstream_want *w)
{
	for (struct upstream **at = &c->pool; *at; at = &(*at)->next) {
		struct upstream *u = *at;

		if (u->attempt != w->attempt || u->port != w->port || u->tls != w->tls ||
		    strcmp(u->host, w->host) != 0 || !text_equal(u->rule, w->rule->id) ||
		    !text_equal(u->secret, w->rule->secret) || !text_equal(u->ca, w->rule->ca))
			continue;
		*at = u->next;
		return u;
	}
	return NULL;
}

static void pool_drop(struct upstream *u)
{
	for (struct upstream **at = &u->c->pool; *at; at = &(*at)->next)
		if (*at == u) {
			*at = u->next;
			return;
		}
}

void upstream_keep(struct upstream *u)
{
	struct upstream *oldest = NULL;
	size_t same = 0;

	if (u->stage != STAGE_OPEN || u->attempt->ended ||
	    evbuffer_get_length(stream_in(u->stream)) ||
	    evbuffer_get_length(stream_out(u->stream))) {
		upstream_close(u);
		return;
	}
	for (struct upstream *o = u->c->pool; o; o = o->next)
		if (o->attempt == u->attempt) {
			oldest = o;
			same++;
		}
	/* What was not asked for longest gives way: hosts that a step is done with must not keep
	 * out those that it asks now. */
	if (same >= COURIER_POOL_MAX)
		upstream_close(oldest);
	u->stage = STAGE_IDLE;
	u->user = NULL;
	u->arg = NULL;
	u->next = u->c->pool;
	u->c->pool = u;
	stream_timeout(u->stream, COURIER_IDLE_S);
	stream_read(u->stream, true);
}

void upstream_close_attempt(struct courier *c, const struct attempt *a)
{
	for (struct upstream *u = c->pool, *next; u; u = next) {
		next = u->next;
		if (u->attempt == a)
			upstream_close(u);
	}
}

/* ---- its user's side ---- */

static struct upstream *upstream_make(struct courier *c, const struct upstream_want *w)
{
	struct upstream *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->c = c;
	u->fd = -1;
	u->attempt = attempt_ref(w->attempt);
	u->port = w->port;
	u->tls = w->tls;
	u->decision = w->decision;
	u->addressed = w->rule->addressed;
	snprintf(u->host, sizeof(u->host), "%s", w->host);
	u->rule = strdup(w->rule->id);
	u->secret = strdup(w->rule->secret);
	u->ca = w->rule->ca ? strdup(w->rule->ca) : NULL;
	if (!u->rule || !u->secret || (w->rule->ca && !u->ca)) {
		upstream_close(u);
		return NULL;
	}
	return u;
}

int upstream_open(struct courier *c, const struct upstream_want *w,
		  const struct upstream_user *user, void *arg, struct upstream **ret)
{
	struct upstream *u = w->pooled ? pool_take(c, w) : NULL;
	struct names_address one;

	if (u) {
		u->stage = STAGE_OPEN;
		u->reused = true;
		u->ready_told = false;
		u->user = user;
		u->arg = arg;
		stream_timeout(u->stream, 0);
		tell(u);
		*ret = u;
		return 0;
	}
	u = upstream_make(c, w);
	if (!u)
		return -ENOMEM;
	u->user = user;
	u->arg = arg;
	*ret = u;
	if (w->rule->address && names_parse(w->rule->address, &one) == 0)
		on_names(u, &one, 1, "");
	else
		names_ask(c->names, u->host, on_names, u, &u->query);
	return 0;
}

bool upstream_reused(const struct upstream *u)
{
	return u->reused;
}

struct evbuffer *upstream_output(struct upstream *u)
{
	return stream_out(u->stream);
}

struct evbuffer *upstream_input(struct upstream *u)
{
	return stream_in(u->stream);
}

void upstream_read(struct upstream *u, bool on)
{
	stream_read(u->stream, on);
}

void upstream_shutdown(struct upstream *u)
{
	if (!u->tls)
		(void)shutdown(stream_fd(u->stream), SHUT_WR);
}

void upstream_quiet(struct upstream *u, int seconds)
{
	stream_timeout(u->stream, (unsigned)seconds);
}

void upstream_close(struct upstream *u)
{
	if (!u)
		return;
	if (u->stage == STAGE_IDLE)
		pool_drop(u);
	names_cancel(u->query);
	if (u->event)
		event_free(u->event);
	if (u->telling)
		event_free(u->telling);
	stream_free(u->stream);
	close_fd(&u->fd);
	attempt_unref(u->attempt);
	free(u->rule);
	free(u->secret);
	free(u->ca);
	free(u);
}
