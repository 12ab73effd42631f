/*
 * Bytes on the control socket to whole requests and back. On the loop's thread, by libevent's
 * callbacks; the one handler it calls is routes_handle(), and daemon_settle() kicks it when what
 * answers wait for is durable.
 *
 * What it is told by its functions is noted on the connections, in `due`, and done by on_due() from
 * the loop: so no handler and no stream runs within another, and none while a list of connections
 * is gone through. A connection may be freed by its own callback, by on_due(), and where it is
 * found in a list (make_room, drain): never by what is called for another one.
 */
#include "supervisor/api/server.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/http1.h"
#include "supervisor/api/peer.h"
#include "supervisor/api/repeats.h"
#include "supervisor/api/request.h"

enum { READ_PIECE = 64 * 1024, ACCEPTS_A_TURN = 64, STREAM_TURNS = 8 };

enum phase { PHASE_IDLE, PHASE_READING, PHASE_HANDLING, PHASE_ANSWERING, PHASE_LINGERING };

struct conn {
	struct conn *next, *prev; /* in the server's list, the least recently used first */
	TAILQ_ENTRY(conn) due; /* where is_due */
	bool is_due;
	struct api_server *server;
	enum phase phase;
	int fd;
	struct event *read, *write, *timer;
	struct http1_parser *parser;
	struct buffer in; /* received, not fed yet */
	struct buffer body;
	struct api_request request;
	int fds[IO_FDS_MAX]; /* came with the first byte of a request whose head is not read yet */
	size_t fd_count;
	struct buffer out;
	size_t sent; /* of out */
	uint64_t hold; /* lsn that out waits for; 0 = none */
	int out_fd; /* goes with the first byte of out */
	struct api_stream *stream;
	bool stream_idle; /* nothing to show until a kick */
	bool keep_alive;
	bool closing; /* after what is in out */
	bool peer_done; /* it has shut its side down */
	struct api_peer peer;
};

struct api_server {
	struct event_base *loop;
	struct event *accept;
	struct api_handler handler;
	int listen_fd;
	struct conn head; /* of the ring */
	TAILQ_HEAD(, conn) due; /* that something was done for: conn_advance() is owed */
	struct event *turn; /* active while there are any */
	size_t conns, streams;
	uint64_t durable;
	uint64_t tickets;
	bool draining;
	struct api_repeats *repeats;
};

static void ring_remove(struct conn *c)
{
	c->prev->next = c->next;
	c->next->prev = c->prev;
}

static void ring_append(struct api_server *s, struct conn *c)
{
	c->next = &s->head;
	c->prev = s->head.prev;
	s->head.prev->next = c;
	s->head.prev = c;
}

static void drop_stream(struct conn *c)
{
	if (!c->stream)
		return;
	c->stream->free(c->stream);
	c->stream = NULL;
	c->server->streams--;
}

static void conn_free(struct conn *c)
{
	ring_remove(c);
	if (c->is_due)
		TAILQ_REMOVE(&c->server->due, c, due);
	c->server->conns--;
	drop_stream(c);
	if (c->read)
		event_free(c->read);
	if (c->write)
		event_free(c->write);
	if (c->timer)
		event_free(c->timer);
	http1_parser_free(c->parser);
	api_request_clear(&c->request);
	for (size_t i = 0; i < c->fd_count; i++)
		close_fd(&c->fds[i]);
	buffer_free(&c->in);
	buffer_free(&c->body);
	buffer_free(&c->out);
	close_fd(&c->out_fd);
	close_fd(&c->fd);
	free(c);
}

static void make_due(struct conn *c)
{
	if (c->is_due)
		return;
	c->is_due = true;
	TAILQ_INSERT_TAIL(&c->server->due, c, due);
	event_active(c->server->turn, EV_TIMEOUT, 0);
}

static void arm(struct conn *c, int ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	if (ms)
		event_add(c->timer, &tv);
	else
		event_del(c->timer);
}

static void set_phase(struct conn *c, enum phase phase)
{
	static const int timer_ms[] = {[PHASE_IDLE] = API_IDLE_MS,
				       [PHASE_READING] = API_READ_MS,
				       [PHASE_HANDLING] = 0,
				       [PHASE_ANSWERING] = 0,
				       [PHASE_LINGERING] = API_LINGER_MS};
	static const unsigned legal[] = {
		[PHASE_IDLE] = 1U << PHASE_READING | 1U << PHASE_ANSWERING,
		[PHASE_READING] = 1U << PHASE_HANDLING | 1U << PHASE_ANSWERING,
		[PHASE_HANDLING] = 1U << PHASE_ANSWERING,
		[PHASE_ANSWERING] = 1U << PHASE_IDLE | 1U << PHASE_LINGERING,
		[PHASE_LINGERING] = 0,
	};

	assert(legal[c->phase] & 1U << phase);
	c->phase = phase;
	arm(c, timer_ms[phase]);
	ring_remove(c);
	ring_append(c->server, c);
}

/* ---- sending ---- */

static bool held(const struct conn *c)
{
	return c->hold > c->server->durable;
}

static void append_chunk(struct conn *c, struct bytes piece)
{
	buffer_printf(&c->out, "%zx\r\n", piece.len);
	buffer_append(&c->out, piece.data, piece.len);
	buffer_append(&c->out, "\r\n", 2);
}

/* Fills out from the stream while there is room. Returns a negative errno to cut the connection. */
static int pull_stream(struct conn *c)
{
	while (c->stream && !c->stream_idle && c->out.len - c->sent < API_STREAM_HIGH) {
		AUTO_BUFFER piece = {0};
		int r = c->stream->fill(c->stream, &piece);

		if (r < 0)
			return r;
		if (piece.failed)
			return piece.failed;
		if (c->sent > 0) {
			buffer_consume(&c->out, c->sent);
			c->sent = 0;
		}
		if (piece.len > 0)
			append_chunk(c, buffer_bytes(&piece));
		if (r == 1)
			c->stream_idle = true;
		if (r == 0) {
			buffer_append_str(&c->out, "0\r\n\r\n");
			drop_stream(c);
		}
		if (c->out.failed)
			return c->out.failed;
	}
	return 0;
}

/* 0: all is out; 1: the socket is full; negative errno. */
static int push(struct conn *c)
{
	while (c->sent < c->out.len) {
		ssize_t n = io_send_fds(c->fd, c->out.data + c->sent, c->out.len - c->sent,
					&c->out_fd, c->out_fd >= 0);

		if (n == -EAGAIN)
			return 1;
		if (n < 0)
			return (int)n;
		close_fd(&c->out_fd);
		c->sent += (size_t)n;
		arm(c, API_WRITE_MS);
	}
	buffer_free(&c->out);
	c->sent = 0;
	return 0;
}

/* Sends what may be sent. Frees the connection when it is over: c is not to be used after a false
 * return. */
static bool conn_send(struct conn *c)
{
	int r = 0;

	if (c->phase != PHASE_ANSWERING || held(c))
		return true;
	/* A stream that is read as fast as it is made gives way to the others after a while. */
	for (int i = 0; i < STREAM_TURNS; i++) {
		r = pull_stream(c);
		if (r == 0)
			r = push(c);
		if (r != 0 || !c->stream || c->stream_idle)
			break;
	}
	if (r == 0 && c->stream && !c->stream_idle)
		r = 1;
	if (r < 0) {
		conn_free(c);
		return false;
	}
	if (r == 1) {
		if (!event_pending(c->write, EV_WRITE, NULL)) {
			event_add(c->write, NULL);
			arm(c, API_WRITE_MS);
		}
		return true;
	}
	event_del(c->write);
	arm(c, 0);
	if (c->stream)
		return true;
	if (c->peer_done) {
		conn_free(c);
		return false;
	}
	if (c->closing) {
		/* What it still sends is taken and thrown away for a while: it must be able to
		 * finish sending, and read why. */
		shutdown(c->fd, SHUT_WR);
		buffer_free(&c->in);
		set_phase(c, PHASE_LINGERING);
		if (!event_pending(c->read, EV_READ, NULL))
			event_add(c->read, NULL);
		return true;
	}
	c->hold = 0;
	set_phase(c, PHASE_IDLE);
	return true;
}

static void write_head(struct conn *c, const struct api_answer *a, size_t len)
{
	buffer_printf(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n", a->status,
		      http1_reason(a->status), a->type ? a->type : "application/json");
	if (a->stream)
		buffer_append_str(&c->out, "Transfer-Encoding: chunked\r\n");
	else
		buffer_printf(&c->out, "Content-Length: %zu\r\n", len);
	if (c->closing)
		buffer_append_str(&c->out, "Connection: close\r\n");
	buffer_append_str(&c->out, "\r\n");
}

/* Takes the answer over. The caller goes on with conn_send(). */
static void conn_answer(struct conn *c, struct api_answer *a)
{
	AUTO_FREE char *text = a->json ? json_dumps(a->json, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : a->text.len;

	if (a->json && !text)
		a->status = 500;
	if (!c->keep_alive || c->server->draining)
		c->closing = true;
	c->out.max = API_ANSWER_MAX;
	write_head(c, a, len);
	buffer_append(&c->out, text ? text : (const char *)a->text.data, len);
	c->out_fd = a->fd;
	c->stream = take_ptr(a->stream);
	c->stream_idle = false;
	if (c->stream)
		c->server->streams++;
	if (c->out.failed)
		c->closing = true; /* cut short of its Content-Length: the client sees that it is
				      not whole */
	json_decref(a->json);
	buffer_free(&a->text);
	*a = (struct api_answer){.fd = -1};
	api_request_clear(&c->request);
	set_phase(c, PHASE_ANSWERING);
}

static void conn_refuse(struct conn *c, int status, const struct error *err)
{
	struct api_answer a = {.fd = -1};

	api_answer_error(&a, status, err);
	c->keep_alive = false;
	buffer_free(&c->in);
	conn_answer(c, &a);
}

/* ---- receiving ---- */

/* Whether it is answered, or waits, without a handler: it was asked before under the same id. */
static bool asked_before(struct conn *c)
{
	struct api_server *s = c->server;
	struct api_answer a = {.fd = -1};
	struct error err = {0};
	uint64_t first;
	int r = api_repeats_begin(s->repeats, &c->request, buffer_bytes(&c->body), &first, &a,
				  &err);

	if (r == API_REPEATS_NEW)
		return false;
	if (r == API_REPEATS_UNDERWAY) {
		c->request.ticket = first;
		set_phase(c, PHASE_HANDLING);
		return true;
	}
	if (r < 0)
		api_answer_error(&a, 0, &err);
	c->hold = s->handler.settle(s->handler.ctx);
	conn_answer(c, &a);
	return true;
}

static void conn_dispatch(struct conn *c)
{
	struct api_server *s = c->server;
	struct api_answer a = {.fd = -1};
	struct error err = {0};
	bool before;
	int status = 400;

	if (api_request_body(&c->request, buffer_bytes(&c->body), &status, &err) < 0) {
		conn_refuse(c, status, &err);
		return;
	}
	c->request.ticket = ++s->tickets;
	c->request.uid = c->peer.uid;
	c->request.pid = c->peer.pid;
	before = c->request.post && asked_before(c);
	buffer_free(&c->body);
	if (before)
		return;
	s->handler.handle(s->handler.ctx, &c->request, &a);
	c->hold = s->handler.settle(s->handler.ctx);
	if (a.later) {
		set_phase(c, PHASE_HANDLING);
		return;
	}
	api_repeats_end(s->repeats, c->request.ticket, &a);
	conn_answer(c, &a);
}

static void conn_head(struct conn *c)
{
	const struct http1_message *m = http1_message(c->parser);
	struct error err = {0};
	int status = 400;
	size_t n = c->fd_count;

	c->keep_alive = m->keep_alive;
	c->fd_count = 0;
	if (api_request_head(&c->request, m, c->fds, n, &status, &err) < 0)
		conn_refuse(c, status, &err);
}

/* One event of the parser. Returns it, or a negative errno after the refusal was made ready. */
static int feed_one(struct conn *c)
{
	struct error err = {0};
	size_t used = 0;
	int r = http1_feed(c->parser, buffer_bytes(&c->in), &used, &err);

	if (r < 0) {
		conn_refuse(c, http1_status_for(r), &err);
		return r;
	}
	if (r == HTTP1_BODY) { /* borrowed from what is consumed below */
		struct bytes piece = http1_body(c->parser);

		c->body.max = API_BODY_MAX;
		buffer_append(&c->body, piece.data, piece.len);
	}
	buffer_consume(&c->in, used);
	if (r == HTTP1_HEAD)
		conn_head(c);
	return r;
}

/* Feeds what was received, one request at a time. False: freed. */
static bool conn_feed(struct conn *c)
{
	while (c->phase <= PHASE_READING && c->in.len > 0) {
		int r;

		if (c->phase == PHASE_IDLE)
			set_phase(c, PHASE_READING);
		/* An event may need no further byte: a request without a body ends right after its
		 * head. */
		do
			r = feed_one(c);
		while (r > 0 && r != HTTP1_END && c->phase == PHASE_READING);
		if (r == HTTP1_END && c->phase == PHASE_READING) {
			conn_dispatch(c);
			http1_next(c->parser);
		}
		if (!conn_send(c))
			return false;
	}
	return true;
}

static void conn_advance(struct conn *c)
{
	if (!conn_send(c) || !conn_feed(c) || c->phase == PHASE_LINGERING)
		return;
	if (c->peer_done) {
		/* Its side is shut: what was asked for is answered, a stream has no reader any
		 * more. */
		if (c->phase <= PHASE_READING || c->stream) {
			conn_free(c);
			return;
		}
		event_del(c->read);
		return;
	}
	if (c->in.len >= API_PIPELINE_BYTES)
		event_del(c->read);
	else if (!event_pending(c->read, EV_READ, NULL))
		event_add(c->read, NULL);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
	struct api_server *s = arg;
	struct conn *c;

	(void)fd;
	(void)what;
	while ((c = TAILQ_FIRST(&s->due))) {
		TAILQ_REMOVE(&s->due, c, due);
		c->is_due = false;
		conn_advance(c);
	}
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	char piece[READ_PIECE];
	int fds[IO_FDS_MAX];
	size_t count = 0, room = API_PIPELINE_BYTES - c->in.len;
	bool fresh = c->phase == PHASE_IDLE && c->in.len == 0 && c->fd_count == 0;
	struct error err = {0};
	ssize_t n;

	(void)fd;
	(void)what;
	if (c->phase == PHASE_LINGERING)
		room = sizeof(piece);
	n = io_recv_fds(c->fd, piece, room < sizeof(piece) ? room : sizeof(piece), fds, &count);
	if (n == -EAGAIN)
		return;
	if (c->phase == PHASE_LINGERING) {
		for (size_t i = 0; i < count; i++)
			close_fd(&fds[i]);
		if (n <= 0 && n != -EPROTO)
			conn_free(c);
		return;
	}
	if (n < 0 && n != -EPROTO) {
		conn_free(c);
		return;
	}
	if (n == -EPROTO || (count > 0 && !fresh)) {
		for (size_t i = 0; i < count; i++)
			close_fd(&fds[i]);
		if (c->phase > PHASE_READING) {
			conn_free(c);
			return;
		}
		error_set_exit(&err, -EPROTO, EXIT_STATUS_USAGE,
			       "bad request: descriptors came in the middle of it, or too many; "
			       "send them with its first byte");
		conn_refuse(c, 400, &err);
		conn_advance(c);
		return;
	}
	if (n == 0)
		c->peer_done = true;
	memcpy(c->fds, fds, count * sizeof(fds[0]));
	if (fresh)
		c->fd_count = count;
	if (buffer_append(&c->in, piece, (size_t)n) < 0) {
		conn_free(c);
		return;
	}
	conn_advance(c);
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	conn_advance(arg);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct error err = {0};

	(void)fd;
	(void)what;
	if (c->phase != PHASE_READING) {
		conn_free(c);
		return;
	}
	error_set_exit(&err, -ETIMEDOUT, EXIT_STATUS_USAGE,
		       "request timed out: it did not come whole within %d s; send it at once",
		       API_READ_MS / 1000);
	conn_refuse(c, 408, &err);
	conn_advance(c);
}

/* ---- accepting ---- */

static struct conn *conn_new(struct api_server *s, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->server = s;
	c->fd = -1;
	c->out_fd = -1;
	ring_append(s, c);
	s->conns++;
	c->parser = http1_parser_new(HTTP1_REQUEST, API_BODY_MAX);
	c->read = event_new(s->loop, fd, EV_READ | EV_PERSIST, on_read, c);
	c->write = event_new(s->loop, fd, EV_WRITE | EV_PERSIST, on_write, c);
	c->timer = event_new(s->loop, -1, 0, on_timer, c);
	if (!c->parser || !c->read || !c->write || !c->timer || event_add(c->read, NULL) < 0) {
		conn_free(c);
		return NULL;
	}
	c->fd = fd;
	arm(c, API_IDLE_MS);
	return c;
}

/* The connection that has been idle for longest makes room; one that does something is never cut
 * for a newer one. */
static void make_room(struct api_server *s)
{
	if (s->conns < s->handler.connections_max)
		return;
	for (struct conn *c = s->head.next; c != &s->head; c = c->next) {
		if (c->phase == PHASE_IDLE || c->phase == PHASE_LINGERING) {
			conn_free(c);
			return;
		}
	}
}

static void on_accept(evutil_socket_t listen_fd, short what, void *arg)
{
	struct api_server *s = arg;

	(void)what;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct error err = {0};
		struct api_peer peer = {0};
		struct conn *c;
		int r;

		if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
			/* Level-triggered: the loop comes back at once; an idle connection gives
			 * way. */
			for (c = s->head.next; c != &s->head && c->phase != PHASE_IDLE; c = c->next)
				;
			if (c != &s->head)
				conn_free(c);
			return;
		}
		if (fd < 0)
			return;
		r = api_peer_check(fd, &peer, &err);
		make_room(s);
		c = conn_new(s, fd);
		if (!c) {
			close(fd);
			continue;
		}
		c->peer = peer;
		if (r < 0) {
			s->handler.log(s->handler.ctx, err.msg);
			conn_refuse(c, 403, &err);
			conn_advance(c);
		} else if (s->conns > s->handler.connections_max) {
			error_set_exit(
				&err, -EAGAIN, EXIT_STATUS_LIMIT,
				"too many clients: %d are connected and busy; try again later",
				(int)s->handler.connections_max);
			conn_refuse(c, 503, &err);
			conn_advance(c);
		}
	}
}

int api_server_new(struct event_base *loop, int listen_fd, const struct api_handler *handler,
		   struct api_server **ret, struct error *err)
{
	AUTO(api_server_free) struct api_server *s = calloc(1, sizeof(*s));

	if (!s) {
		close(listen_fd);
		return error_nomem(err);
	}
	s->loop = loop;
	s->listen_fd = listen_fd;
	s->handler = *handler;
	if (s->handler.connections_max == 0)
		s->handler.connections_max = API_CONNECTIONS_MAX;
	s->head.next = s->head.prev = &s->head;
	TAILQ_INIT(&s->due);
	s->turn = event_new(loop, -1, 0, on_due, s);
	if (!s->turn || api_repeats_new(&s->repeats) < 0)
		return error_nomem(err);
	s->accept = event_new(loop, listen_fd, EV_READ | EV_PERSIST, on_accept, s);
	if (!s->accept || event_add(s->accept, NULL) < 0)
		return error_nomem(err);
	*ret = take_ptr(s);
	return 0;
}

void api_server_free(struct api_server *s)
{
	if (!s)
		return;
	while (s->head.next && s->head.next != &s->head)
		conn_free(s->head.next);
	if (s->accept)
		event_free(s->accept);
	if (s->turn)
		event_free(s->turn);
	close_fd(&s->listen_fd);
	api_repeats_free(s->repeats);
	free(s);
}

void api_server_durable(struct api_server *s, uint64_t lsn)
{
	s->durable = lsn;
	for (struct conn *c = s->head.next; c != &s->head; c = c->next) {
		if (c->phase == PHASE_ANSWERING && c->hold > 0 && !held(c)) {
			c->hold = 0;
			make_due(c);
		}
	}
}

void api_server_kick(struct api_server *s)
{
	if (s->streams == 0)
		return;
	for (struct conn *c = s->head.next; c != &s->head; c = c->next) {
		if (!c->stream)
			continue;
		c->stream_idle = false;
		make_due(c);
	}
}

/* Of those that wait for it, who asked and who asked again meanwhile: the first behind `after`. */
static struct conn *waiting_for(struct api_server *s, uint64_t ticket, const struct conn *after)
{
	for (struct conn *c = after->next; c != &s->head; c = c->next)
		if (c->phase == PHASE_HANDLING && c->request.ticket == ticket)
			return c;
	return NULL;
}

static void answer_clear(struct api_answer *a)
{
	json_decref(a->json);
	buffer_free(&a->text);
	close_fd(&a->fd);
	if (a->stream)
		a->stream->free(a->stream);
	*a = (struct api_answer){.fd = -1};
}

/* One more of a, for who asked the same. A descriptor and a stream are one client's only. */
static void answer_copy(const struct api_answer *a, struct api_answer *ret)
{
	struct error err = {0};

	*ret = (struct api_answer){.fd = -1, .status = a->status, .type = a->type};
	if (a->fd >= 0 || a->stream) {
		error_set_exit(&err, -EBUSY, EXIT_STATUS_CONFLICT,
			       "answered to another client: both asked under one "
			       "Holdfast-Request; choose a new one");
		api_answer_error(ret, 0, &err);
		ret->type = NULL;
		return;
	}
	ret->json = json_incref(a->json);
	ret->text.max = API_ANSWER_MAX;
	if (!a->json && buffer_append(&ret->text, a->text.data, a->text.len) < 0)
		ret->status = 500;
}

void api_server_answer(struct api_server *s, uint64_t ticket, struct api_answer *a)
{
	struct api_answer more = {.fd = -1};
	uint64_t hold = 0;
	struct conn *c;

	api_repeats_end(s->repeats, ticket, a);
	if (waiting_for(s, ticket, &s->head))
		hold = s->handler.settle(s->handler.ctx);
	while ((c = waiting_for(s, ticket, &s->head))) {
		if (waiting_for(s, ticket, c))
			answer_copy(a, &more);
		c->hold = hold;
		conn_answer(c, a);
		make_due(c);
		*a = more;
		more = (struct api_answer){.fd = -1};
	}
	answer_clear(a);
}

bool api_server_waits(const struct api_server *s, uint64_t ticket)
{
	for (const struct conn *c = s->head.next; c != &s->head; c = c->next) {
		struct pollfd p = {.fd = c->fd};

		if (c->phase != PHASE_HANDLING || c->request.ticket != ticket)
			continue;
		/* POLLHUP: both sides are shut (unix(7) sockets: the peer's descriptor is closed). */
		if (poll(&p, 1, 0) == 0 || !(p.revents & (POLLHUP | POLLERR)))
			return true;
	}
	return false;
}

size_t api_server_connections(const struct api_server *s)
{
	return s->conns;
}

size_t api_server_streams(const struct api_server *s)
{
	return s->streams;
}

bool api_server_drain(struct api_server *s)
{
	struct conn *next;

	if (!s->draining) {
		s->draining = true;
		event_del(s->accept);
	}
	for (struct conn *c = s->head.next; c != &s->head; c = next) {
		next = c->next;
		if (c->phase <= PHASE_READING || c->phase == PHASE_LINGERING || c->stream)
			conn_free(c);
	}
	return s->conns == 0;
}
