/*
 * One connection of a program in the sandbox: its two sides, TLS between them and HTTP, tunnels,
 * clocks. Everything that can happen calls run(), which moves what can be moved and then looks at
 * what the connection has become; so nothing is freed but at the end of run().
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include "base/io.h"
#include "sandbox/gate/gate.h"
#include "sandbox/gate/hello.h"

static void run(struct conn *c);

struct bytes conn_peek(struct evbuffer *b)
{
	struct evbuffer_iovec v;

	return evbuffer_peek(b, -1, NULL, &v, 1) > 0 ? bytes_of(v.iov_base, v.iov_len)
						     : (struct bytes){0};
}

bool conn_channel_full(const struct conn *c)
{
	return c->channel && evbuffer_get_length(stream_out(c->channel)) >= GATE_OUT_MAX;
}

bool conn_client_full(const struct conn *c)
{
	return evbuffer_get_length(c->out) >= GATE_OUT_MAX;
}

/* ---- ends ---- */

void conn_reset(struct conn *c)
{
	const struct linger now = {.l_onoff = 1};

	(void)setsockopt(stream_fd(c->client), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	c->state = CONN_DEAD;
}

void conn_linger(struct conn *c)
{
	conn_channel_close(c);
	c->state = CONN_LINGER;
}

static void conn_free(struct conn *c)
{
	LIST_REMOVE(c, link);
	c->gate->connections--;
	conn_channel_close(c);
	gate_tls_session_free(c->ssl);
	if (c->in && c->in != stream_in(c->client))
		evbuffer_free(c->in);
	if (c->out && c->out != stream_out(c->client))
		evbuffer_free(c->out);
	if (c->timer)
		event_free(c->timer);
	http1_parser_free(c->parser);
	stream_free(c->client);
	free(c);
}

static void refuse_tls(struct conn *c, enum hello_alert alert, const char *host, const char *why)
{
	uint8_t record[HELLO_ALERT_SIZE];

	hello_alert(alert, record);
	(void)evbuffer_add(stream_out(c->client), record, sizeof(record));
	gate_note(c->gate, c->attempt, FRAMES_NOTE_TLS, host, c->port, why);
	conn_linger(c);
}

/* ---- the courier's side ---- */

static void on_any(void *arg)
{
	run(arg);
}

/* What was written is taken: is there anything that waited for it? */
static void on_drained(void *arg)
{
	const struct conn *c = arg;

	if (c->state == CONN_HTTP && c->request != CONN_REQUEST_BODY &&
	    evbuffer_get_length(c->in) == 0 && evbuffer_get_length(stream_in(c->client)) == 0 &&
	    (!c->ssl || evbuffer_get_length(c->out) == 0) &&
	    (!c->channel || evbuffer_get_length(stream_in(c->channel)) == 0))
		return;
	run(arg);
}

static void on_channel_ended(void *arg, enum stream_end how)
{
	struct conn *c = arg;

	(void)how;
	c->channel_ended = true;
	run(c);
}

/* Hands the other end of a channel on; 1: not now. */
static int hand_over(struct conn *c)
{
	struct frames_open o = {.connection = c->number};
	AUTO_BUFFER message = {0};
	int r;

	if (c->gate->trunk < 0)
		return 1;
	memcpy(o.attempt, c->attempt->id, sizeof(o.attempt));
	r = frames_open_encode(&o, &message);
	if (r == 0)
		r = (int)io_send_fds(c->gate->trunk, message.data, message.len, &c->handed, 1);
	if (r == -EAGAIN || r == -ETOOMANYREFS || r == -ENOBUFS)
		return 1;
	if (r < 0)
		return 1; /* that courier is gone; the keeper sends another trunk */
	close_fd(&c->handed);
	return 0;
}

int conn_channel_open(struct conn *c)
{
	static const struct stream_user user = {NULL, on_any, on_drained, on_channel_ended};
	int pair[2];

	if (c->channel)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	c->channel =
		stream_new(c->gate->base, pair[0], GATE_CHANNEL_IN_MAX, GATE_OUT_LOW, &user, c);
	if (!c->channel) {
		close(pair[0]);
		close(pair[1]);
		return -ENOMEM;
	}
	c->handed = pair[1];
	c->channel_ended = c->in_frame = false;
	if (hand_over(c) > 0)
		gate_retry_soon(c->gate);
	return 0;
}

void conn_channel_close(struct conn *c)
{
	if (c->channel)
		stream_free(c->channel);
	c->channel = NULL;
	c->channel_ended = c->in_frame = false;
	close_fd(&c->handed);
}

void conn_trunk_changed(struct gate *g)
{
	struct conn *c;

	LIST_FOREACH(c, &g->conns, link)
	{
		if (c->handed >= 0 && hand_over(c) > 0) {
			gate_retry_soon(g);
			return;
		}
	}
}

void conn_frame(struct conn *c, enum frames_type type, struct bytes body)
{
	struct evbuffer *out = stream_out(c->channel);
	uint8_t head[FRAMES_HEADER];

	frames_header_encode(type, (uint32_t)body.len, head);
	if (evbuffer_add(out, head, sizeof(head)) < 0 ||
	    (body.len && evbuffer_add(out, body.data, body.len) < 0))
		c->channel_ended = true;
}

static void channel_broke(struct conn *c, const char *why)
{
	if (c->state == CONN_HTTP)
		conn_http_broken(c, why);
	else
		conn_reset(c);
}

bool conn_frame_begin(struct conn *c)
{
	struct evbuffer *in = stream_in(c->channel);
	uint8_t head[FRAMES_HEADER];

	if (c->in_frame)
		return true;
	if (evbuffer_copyout(in, head, sizeof(head)) != sizeof(head))
		return false;
	if (frames_header_decode(head, &c->frame) < 0) {
		channel_broke(c, "the courier broke off");
		return false;
	}
	evbuffer_drain(in, sizeof(head));
	c->left = c->frame.length;
	c->in_frame = true;
	return true;
}

/* ---- TLS ---- */

static bool start_session(struct conn *c)
{
	c->in = evbuffer_new();
	c->out = evbuffer_new();
	if (!c->in || !c->out || gate_tls_session(c->gate->tls, c->name, c->client, &c->ssl) < 0) {
		conn_reset(c);
		return false;
	}
	c->state = CONN_HANDSHAKE;
	return true;
}

static bool start_tunnel(struct conn *c, bool tls)
{
	struct frames_tunnel t = {bytes_str(c->name), c->port, tls};
	AUTO_BUFFER body = {0};

	if (conn_channel_open(c) < 0 || frames_tunnel_encode(&t, &body) < 0) {
		conn_reset(c);
		return false;
	}
	conn_frame(c, FRAMES_TUNNEL, buffer_bytes(&body));
	c->state = CONN_TUNNEL;
	return true;
}

/* Who speaks HTTP to a TLS port is told so, in the clear; anything else is no business of ours. */
static bool not_tls(struct conn *c, struct bytes in)
{
	char first = *(const char *)in.data;

	if (c->mode == TABLE_TLS && first >= 'A' && first <= 'Z') {
		conn_http_refuse(c, 400, "tls_expected",
				 "this port speaks TLS, and the request came without");
		return true;
	}
	gate_note(c->gate, c->attempt, FRAMES_NOTE_TLS, c->name, c->port, "not TLS");
	conn_reset(c);
	return true;
}

static bool run_hello(struct conn *c)
{
	struct evbuffer *raw = stream_in(c->client);
	size_t len = evbuffer_get_length(raw);
	struct bytes in = bytes_of(len ? evbuffer_pullup(raw, -1) : NULL, len);
	struct hello h;
	int r;

	if (len == 0)
		return false;
	if (!in.data) {
		conn_reset(c);
		return true;
	}
	r = hello_parse(in, &h);
	if (r == HELLO_NEED_MORE)
		return false;
	if (r == -EPROTO)
		return not_tls(c, in);
	if (r < 0) {
		refuse_tls(c, HELLO_ALERT_DECODE_ERROR, c->name, "a client hello that is broken");
		return true;
	}
	if (strcmp(h.name, c->name) != 0) {
		refuse_tls(c, HELLO_ALERT_UNRECOGNIZED_NAME, h.name,
			   h.name[0] ? "TLS names another host than was resolved"
				     : "TLS without a server name");
		return true;
	}
	/* Where TLS is ended here the outer name is the one that counts, and browsers send the
	 * extension without meaning it (GREASE). Where it is passed on, it could hide another. */
	if (h.encrypted && c->mode == TABLE_PASSTHROUGH) {
		refuse_tls(c, HELLO_ALERT_ILLEGAL_PARAMETER, c->name,
			   "an encrypted client hello, which could name another host");
		return true;
	}
	return c->mode == TABLE_PASSTHROUGH ? start_tunnel(c, true) : start_session(c);
}

static bool broken_tls(struct conn *c, const struct error *err)
{
	if (c->state == CONN_HANDSHAKE) {
		gate_note(c->gate, c->attempt, FRAMES_NOTE_TLS, c->name, c->port, err->msg);
		conn_linger(c); /* OpenSSL's alert is in the output */
	} else {
		conn_reset(c);
	}
	return true;
}

static bool run_handshake(struct conn *c)
{
	struct error err = {0};
	int r = gate_tls_handshake(c->ssl, &err);

	if (r < 0)
		return broken_tls(c, &err);
	if (r == GATE_TLS_MOVED)
		c->state = CONN_HTTP;
	return r == GATE_TLS_MOVED;
}

static bool run_tls_in(struct conn *c)
{
	struct error err = {0};
	int r;

	if (!c->ssl || (c->state != CONN_HTTP && c->state != CONN_TUNNEL))
		return false;
	r = gate_tls_read(c->ssl, c->in, GATE_IN_MAX, &err);
	if (r < 0)
		return broken_tls(c, &err);
	if (r == GATE_TLS_ENDED && !c->client_ended)
		return c->client_ended = true;
	return r == GATE_TLS_MOVED;
}

static bool run_tls_out(struct conn *c)
{
	struct error err = {0};
	int r;

	if (!c->ssl || c->state == CONN_HANDSHAKE || c->state == CONN_DEAD)
		return false;
	r = gate_tls_write(c->ssl, c->out, c->client, &err);
	if (r < 0)
		conn_reset(c);
	return r != GATE_TLS_DONE;
}

/* ---- tunnels ---- */

static void shut_client(struct conn *c)
{
	if (c->shut)
		return;
	c->shut = true;
	if (c->ssl)
		gate_tls_shutdown(c->ssl);
	if (evbuffer_get_length(stream_out(c->client)) == 0)
		(void)shutdown(stream_fd(c->client), SHUT_WR);
}

static bool tunnel_out(struct conn *c)
{
	bool moved = false;

	while (!conn_channel_full(c) && !c->sent_end) {
		struct bytes piece = conn_peek(c->in);

		if (piece.len == 0)
			break;
		if (piece.len > FRAMES_RAW_MAX)
			piece.len = FRAMES_RAW_MAX;
		conn_frame(c, FRAMES_DATA, piece);
		evbuffer_drain(c->in, piece.len);
		moved = true;
	}
	if (c->client_ended && !c->sent_end && evbuffer_get_length(c->in) == 0) {
		conn_frame(c, FRAMES_DATA_END, (struct bytes){0});
		c->sent_end = moved = true;
	}
	return moved;
}

/* One frame of a tunnel, or what is there of it; false: nothing can be done now. */
static bool tunnel_frame(struct conn *c)
{
	struct evbuffer *in = stream_in(c->channel);
	size_t there;

	if (!conn_frame_begin(c))
		return c->state != CONN_TUNNEL;
	switch (c->frame.type) {
	case FRAMES_TUNNEL_OPEN:
		c->in_frame = false;
		if (c->tunnel_open)
			break;
		return c->tunnel_open = true;
	case FRAMES_DATA:
		there = evbuffer_get_length(in);
		if (!c->tunnel_open || c->got_end)
			break;
		if (conn_client_full(c) || (there == 0 && c->left > 0))
			return false;
		if (there > c->left)
			there = c->left;
		if (there && evbuffer_remove_buffer(in, c->out, there) < 0)
			break;
		c->left -= (uint32_t)there;
		c->in_frame = c->left > 0;
		return true;
	case FRAMES_DATA_END:
		c->in_frame = false;
		if (!c->tunnel_open || c->got_end)
			break;
		return c->got_end = true;
	case FRAMES_REQUEST:
	case FRAMES_TUNNEL:
	case FRAMES_BODY:
	case FRAMES_BODY_END:
	case FRAMES_RESPONSE:
	case FRAMES_REFUSED:
	case FRAMES_ABORT:
		break;
	}
	conn_reset(c);
	return true;
}

static bool run_tunnel(struct conn *c)
{
	bool moved = c->tunnel_open ? tunnel_out(c) : false;

	while (c->state == CONN_TUNNEL && tunnel_frame(c))
		moved = true;
	if (c->state != CONN_TUNNEL)
		return true;
	if (c->got_end && evbuffer_get_length(c->out) == 0)
		shut_client(c);
	if (c->got_end && c->sent_end && evbuffer_get_length(stream_out(c->channel)) == 0)
		conn_linger(c);
	else if (c->channel_ended && evbuffer_get_length(stream_in(c->channel)) == 0)
		conn_reset(c);
	return moved || c->state != CONN_TUNNEL;
}

/* ---- an answer that ends the connection ---- */

static bool run_linger(struct conn *c)
{
	struct evbuffer *raw = stream_in(c->client);
	size_t n = evbuffer_get_length(raw);

	evbuffer_drain(raw, n);
	c->lingered += n;
	if ((c->out && evbuffer_get_length(c->out) > 0) ||
	    evbuffer_get_length(stream_out(c->client)) > 0)
		return false;
	if (!c->shut) {
		shut_client(c);
		return true; /* a close_notify may have to go out */
	}
	(void)shutdown(stream_fd(c->client), SHUT_WR);
	if (c->client_ended || c->lingered > GATE_LINGER_BYTES)
		c->state = CONN_DEAD;
	return c->state == CONN_DEAD;
}

/* ---- clocks ---- */

static enum conn_clock clock_of(const struct conn *c)
{
	switch (c->state) {
	case CONN_HELLO:
	case CONN_HANDSHAKE:
		return CONN_CLOCK_HEAD;
	case CONN_TUNNEL:
		return c->handed >= 0 ? CONN_CLOCK_COURIER : CONN_CLOCK_NONE;
	case CONN_LINGER: /* who is slow to read may be frozen */
		return c->shut ? CONN_CLOCK_LINGER : CONN_CLOCK_NONE;
	case CONN_DEAD:
		return CONN_CLOCK_NONE;
	case CONN_HTTP:
		break;
	}
	if (c->handed >= 0)
		return CONN_CLOCK_COURIER;
	if (c->request == CONN_REQUEST_BODY)
		return conn_channel_full(c) ? CONN_CLOCK_NONE : CONN_CLOCK_BODY;
	if (c->request == CONN_REQUEST_DONE || c->response != CONN_RESPONSE_NONE)
		return CONN_CLOCK_NONE; /* a person may be asked, for a month */
	return c->some_head ? CONN_CLOCK_HEAD : CONN_CLOCK_IDLE;
}

static void set_clock(struct conn *c)
{
	const struct gate_limits *l = &c->gate->limits;
	const uint32_t ms[] = {
		[CONN_CLOCK_NONE] = 0,
		[CONN_CLOCK_HEAD] = l->head_ms,
		[CONN_CLOCK_BODY] = l->body_ms,
		[CONN_CLOCK_IDLE] = l->idle_ms,
		[CONN_CLOCK_LINGER] = l->linger_ms,
		[CONN_CLOCK_COURIER] = l->courier_ms,
	};
	enum conn_clock clock = clock_of(c);

	if (clock == c->clock && !(clock == CONN_CLOCK_BODY && c->body_moved))
		return;
	c->clock = clock;
	c->body_moved = false;
	if (clock == CONN_CLOCK_NONE) {
		(void)evtimer_del(c->timer);
	} else {
		struct timeval t = {ms[clock] / 1000, (ms[clock] % 1000) * 1000};

		(void)evtimer_add(c->timer, &t);
	}
}

static void on_timer(int fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	(void)what;
	switch (c->clock) {
	case CONN_CLOCK_HEAD:
		gate_note(c->gate, c->attempt, FRAMES_NOTE_LIMIT, c->name, c->port,
			  "a request's head did not come in time");
		if (c->state == CONN_HTTP)
			conn_http_refuse(c, 408, "timeout",
					 "the request's head did not come in time");
		else
			conn_reset(c);
		break;
	case CONN_CLOCK_BODY:
		gate_note(c->gate, c->attempt, FRAMES_NOTE_LIMIT, c->name, c->port,
			  "a request's body stopped coming");
		if (c->response <= CONN_RESPONSE_AWAITED)
			conn_http_refuse(c, 408, "timeout", "the request's body stopped coming");
		else
			conn_reset(c);
		break;
	case CONN_CLOCK_COURIER:
		if (c->state == CONN_HTTP)
			conn_http_refuse(c, 503, "unavailable",
					 "nobody took this request on; nothing was sent");
		else
			conn_reset(c);
		break;
	case CONN_CLOCK_IDLE:
		conn_linger(c);
		break;
	case CONN_CLOCK_NONE:
	case CONN_CLOCK_LINGER:
		c->state = CONN_DEAD;
		break;
	}
	c->clock = CONN_CLOCK_NONE;
	run(c);
}

/* ---- all of it ---- */

static bool step(struct conn *c)
{
	switch (c->state) {
	case CONN_HELLO:
		return run_hello(c);
	case CONN_HANDSHAKE:
		return run_handshake(c);
	case CONN_HTTP:
		return conn_http_run(c);
	case CONN_TUNNEL:
		return run_tunnel(c);
	case CONN_LINGER:
		return run_linger(c);
	case CONN_DEAD:
		return false;
	}
	return false;
}

static void run(struct conn *c)
{
	bool moved;

	do {
		moved = run_tls_in(c);
		moved |= step(c);
		moved |= run_tls_out(c);
	} while (moved && c->state != CONN_DEAD);
	/* Before a request there is nobody who would wait for an answer. */
	if (c->client_ended && (c->state == CONN_HELLO || c->state == CONN_HANDSHAKE))
		c->state = CONN_DEAD;
	if (c->state == CONN_DEAD)
		conn_free(c);
	else
		set_clock(c);
}

static void on_client_ended(void *arg, enum stream_end how)
{
	struct conn *c = arg;

	if (how != STREAM_CLOSED)
		c->state = CONN_DEAD;
	c->client_ended = true;
	run(c);
}

static bool begin(struct conn *c)
{
	switch (c->mode) {
	case TABLE_TLS:
	case TABLE_PASSTHROUGH:
		c->state = CONN_HELLO;
		return true;
	case TABLE_HTTP:
		c->state = CONN_HTTP;
		return true;
	case TABLE_TCP:
		return start_tunnel(c, false);
	}
	return false;
}

static void refuse_socket(int fd)
{
	const struct linger now = {.l_onoff = 1};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

void conn_accept(struct listener *l, int fd)
{
	static const struct stream_user user = {NULL, on_any, on_drained, on_client_ended};
	struct gate *g = l->gate;
	const struct table_entry *e = &g->table->entries[l->where.entry];
	const char *name = gate_names_of(g->names, l->where.entry, l->where.slot);
	struct conn *c = NULL;
	int on = 1;

	if (g->connections >= g->connections_max)
		gate_note(g, l->attempt, FRAMES_NOTE_LIMIT, name ? name : "", l->where.number,
			  "too many connections at a time");
	else if (name) /* else nobody resolved to this address */
		c = calloc(1, sizeof(*c));
	if (c)
		c->client = stream_new(g->base, fd, GATE_IN_MAX, GATE_OUT_LOW, &user, c);
	if (!c || !c->client) {
		free(c);
		refuse_socket(fd);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	c->gate = g;
	c->attempt = l->attempt;
	c->number = ++g->next_connection;
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->port = l->where.number;
	c->mode = e->ports[l->where.port].mode;
	c->handed = -1;
	LIST_INSERT_HEAD(&g->conns, c, link);
	g->connections++;
	if (c->mode != TABLE_TLS) {
		c->in = stream_in(c->client);
		c->out = stream_out(c->client);
	}
	c->timer = evtimer_new(g->base, on_timer, c);
	if (!c->timer || !begin(c))
		conn_reset(c);
	run(c);
}

void conn_attempt_end(struct gate *g, const struct attempt *a)
{
	struct conn *c, *next;

	for (c = LIST_FIRST(&g->conns); c; c = next) {
		next = LIST_NEXT(c, link);
		if (c->attempt == a)
			conn_free(c);
	}
}
