/*
 * Connections of supervisors: the fence, the table of requests, events. A message that breaks a
 * rule ends its connection and touches nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include "base/io.h"
#include "sandbox/keeper.h"
#include "sandbox/sys.h"

struct outgoing {
	struct outgoing *next;
	int fds[PROTOCOL_FDS_MAX];
	size_t fd_count, len;
	uint8_t data[];
};

static void outgoing_free(struct outgoing *o)
{
	for (size_t i = 0; i < o->fd_count; i++)
		close(o->fds[i]);
	free(o);
}

static void conn_end(struct conn *c)
{
	struct keeper *k = c->keeper;
	int fd = c->source.fd;

	for (struct conn **p = &k->conns; *p; p = &(*p)->next) {
		if (*p == c) {
			*p = c->next;
			break;
		}
	}
	userns_forget_conn(k, c);
	loop_unwatch(&k->loop, &c->source);
	close_fd(&fd);
	for (struct outgoing *o = c->first, *next; o; o = next) {
		next = o->next;
		outgoing_free(o);
	}
	free(c);
	keeper_look_idle(k);
}

/* ---- sending ---- */

/* The socket was shut down already where this fails: the loop then sees its end, so no caller loses
 * its object here. */
static void flush(struct conn *c)
{
	while (c->first) {
		struct outgoing *o = c->first;
		ssize_t n = io_send_fds(c->source.fd, o->data, o->len, o->fds, o->fd_count);
		if (n == -EAGAIN)
			break;
		if (n < 0) {
			shutdown(c->source.fd, SHUT_RDWR);
			break;
		}
		c->first = o->next;
		if (!c->first)
			c->last = &c->first;
		c->queued--;
		outgoing_free(o);
	}
	loop_change(&c->keeper->loop, &c->source, c->first ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void push(struct conn *c, enum protocol_type type, const struct sandbox_attempt_id *a,
		 uint64_t request, struct bytes body, const int *fds, size_t fd_count,
		 uint32_t flags)
{
	struct protocol_header h = {.length = (uint32_t)body.len,
				    .type = (uint16_t)type,
				    .protocol = PROTOCOL_VERSION,
				    .epoch = c->epoch,
				    .request = request,
				    .flags = flags};
	bool large = body.len > PROTOCOL_BODY_INLINE;

	struct outgoing *o =
		c->queued < KEEPER_QUEUE_MAX ? calloc(1, sizeof(*o) + sizeof(h) + body.len) : NULL;
	if (!o)
		goto broken;
	for (size_t i = 0; i < fd_count && i < PROTOCOL_FDS_MAX; i++) {
		int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (copy < 0)
			goto broken;
		o->fds[o->fd_count++] = copy;
	}
	if (large) {
		int fd = o->fd_count < PROTOCOL_FDS_MAX ? io_memfd_sealed("holdfast", body, false)
							: -1;
		if (fd < 0)
			goto broken;
		o->fds[o->fd_count++] = fd;
		h.flags |= PROTOCOL_FLAG_MEMFD;
	}
	if (a)
		h.attempt = *a;
	memcpy(o->data, &h, sizeof(h));
	if (!large && body.len > 0)
		memcpy(o->data + sizeof(h), body.data, body.len);
	o->len = sizeof(h) + (large ? 0 : body.len);
	*c->last = o;
	c->last = &o->next;
	c->queued++;
	flush(c);
	return;
broken:
	if (o)
		outgoing_free(o);
	shutdown(c->source.fd, SHUT_RDWR);
}

static struct conn *served(struct keeper *k)
{
	for (struct conn *c = k->conns; c; c = c->next)
		if (c->phase == CONN_SERVED && c->epoch == k->epoch)
			return c;
	return NULL;
}

static void push_event(struct conn *c, const struct sandbox_event *e, uint64_t request,
		       const int *fds, size_t fd_count)
{
	AUTO_BUFFER body = {0};
	enum protocol_type type =
		(enum protocol_type)(e->type - SANDBOX_EVENT_STARTED + PROTOCOL_EVENT_STARTED);

	if (protocol_event_encode(e, &body) < 0) {
		shutdown(c->source.fd, SHUT_RDWR);
		return;
	}
	while (fd_count > PROTOCOL_FDS_MAX - 1) {
		push(c, type, &e->attempt, request, buffer_bytes(&body), fds, PROTOCOL_FDS_MAX - 1,
		     PROTOCOL_FLAG_MORE);
		fds += PROTOCOL_FDS_MAX - 1;
		fd_count -= PROTOCOL_FDS_MAX - 1;
	}
	push(c, type, &e->attempt, request, buffer_bytes(&body), fds, fd_count, 0);
}

void conn_event(struct keeper *k, const struct sandbox_event *e, const int *fds, size_t fd_count)
{
	struct conn *c = served(k);

	if (c)
		push_event(c, e, 0, fds, fd_count);
}

static void conn_reply(struct conn *c, uint64_t request, const struct sandbox_attempt_id *a,
		       int result, const struct error *err, const int *fds, size_t fd_count)
{
	struct sandbox_event e = {.type = SANDBOX_EVENT_REPLY, .attempt = *a};

	e.reply.result = result;
	if (err)
		e.reply.error = *err;
	push_event(c, &e, request, fds, fd_count);
}

void conn_layer_reply(struct conn *c, uint64_t request, const struct sealer_reply *r,
		      const int *fds, size_t fd_count)
{
	struct sandbox_event e = {.type = SANDBOX_EVENT_LAYER, .layer = *r};

	push_event(c, &e, request, fds, fd_count);
}

/* ---- requests ---- */

struct request {
	struct conn *conn;
	struct protocol_header h;
	struct bytes body;
	struct protocol_request q;
	struct attempt *attempt; /* of the header; NULL = not known */
	int *fds;
	size_t fd_count;
};

static void answer(struct request *r, int result)
{
	conn_reply(r->conn, r->h.request, &r->h.attempt, result, NULL, NULL, 0);
}

static int do_hello(struct request *r)
{
	struct conn *c = r->conn;
	struct keeper *k = c->keeper;
	struct sandbox_hello h = {.keeper_epoch = k->epoch, .keeper_pid = getpid()};
	AUTO_BUFFER body = {0};

	snprintf(h.boot_id, sizeof(h.boot_id), "%s", k->boot_id);
	AUTO_FREE struct sandbox_found *found = calloc(k->attempt_count + 1, sizeof(*found));
	if (!found)
		return -ENOMEM;
	for (struct attempt *a = k->attempts; a; a = a->next)
		found[h.found_count++] = (struct sandbox_found){a->id, a->state};
	h.found = found;
	AUTO_FREE struct sandbox_net_id *nets = calloc(k->net_count + 1, sizeof(*nets));
	if (!nets)
		return -ENOMEM;
	for (struct net *n = k->nets; n; n = n->next)
		if (!n->ending)
			nets[h.net_count++] = n->run;
	h.nets = nets;
	int err = protocol_hello_encode(&h, &body);
	if (err < 0)
		return err;
	c->epoch = r->q.epoch;
	bool takes_over = r->q.epoch != 0 && r->q.epoch >= k->epoch;
	/* the older one's connection is gone before the newer one hears that it is served */
	for (struct conn *o = k->conns, *next; takes_over && o; o = next) {
		next = o->next;
		if (o != c && o->phase == CONN_SERVED)
			conn_end(o);
	}
	push(c, PROTOCOL_HELLO_REPLY, NULL, r->h.request, buffer_bytes(&body), NULL, 0, 0);
	if (!takes_over) {
		c->phase = CONN_LOOKING;
		return r->q.epoch == 0
			       ? 0
			       : -ESTALE; /* it was told our epoch, and its connection ends */
	}
	k->epoch = r->q.epoch;
	c->phase = CONN_SERVED;
	if (r->fd_count == 1) {
		close_fd(&k->runtime_fd);
		k->runtime_fd = take_fd(&r->fds[0]);
	}
	for (struct attempt *a = k->attempts; a; a = a->next)
		attempt_tell_again(a);
	return 0;
}

static int do_start(struct request *r)
{
	struct keeper *k = r->conn->keeper;
	struct protocol_spec *s = NULL;
	struct error err = {0};

	if (r->attempt) {
		attempt_tell_again(r->attempt);
		return 0;
	}
	int e = protocol_spec_decode(r->body, &r->h.attempt, &s, &err);
	if (e < 0)
		return e;
	size_t want = (s->fds & PROTOCOL_START_STDIN ? 1u : 0u) +
		      (s->fds & PROTOCOL_START_BASE ? 1u : 0u),
	       at = 0;
	if (want != r->fd_count) {
		protocol_spec_free(s);
		return -EPROTO;
	}
	if (s->fds & PROTOCOL_START_STDIN)
		s->spec.stdin_fd = take_fd(&r->fds[at++]);
	if (s->fds & PROTOCOL_START_BASE)
		s->spec.workspace.base_fd = take_fd(&r->fds[at]);
	attempt_start(k, s);
	return 0;
}

static int do_signal(struct request *r)
{
	int e = -ESRCH;

	if (r->attempt && r->attempt->main_pidfd >= 0 && !r->attempt->exit_told)
		e = sys_pidfd_send_signal(r->attempt->main_pidfd, r->q.signal);
	answer(r, e);
	return 0;
}

static int do_kill(struct request *r)
{
	if (r->attempt)
		attempt_kill(r->attempt, SANDBOX_WHY_KILLED, "");
	answer(r, r->attempt ? 0 : -ESRCH);
	return 0;
}

static int do_freeze(struct request *r)
{
	answer(r, r->attempt ? attempt_freeze(r->attempt, r->q.on) : -ESRCH);
	return 0;
}

static int do_resize(struct request *r)
{
	struct winsize size = {.ws_row = r->q.rows, .ws_col = r->q.cols};
	int e = -ESRCH;

	if (r->attempt && r->attempt->out[0].source.fd >= 0)
		e = ioctl(r->attempt->out[0].source.fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
	answer(r, e);
	return 0;
}

static int do_pty(struct request *r)
{
	AUTO_FD fd = -1;

	int e = r->attempt ? spool_relay(r->attempt, &fd) : -ESRCH;
	conn_reply(r->conn, r->h.request, &r->h.attempt, e, NULL, &fd, fd >= 0 ? 1 : 0);
	return 0;
}

static int do_follow(struct request *r)
{
	if (r->attempt)
		r->attempt->followed = r->q.on;
	answer(r, r->attempt ? 0 : -ESRCH);
	return 0;
}

static int do_forget(struct request *r)
{
	struct attempt *a = r->attempt;
	bool over =
		a && (a->state == SANDBOX_ATTEMPT_GONE || a->state == SANDBOX_ATTEMPT_NOT_STARTED);

	if (over)
		attempt_free(a);
	answer(r, a && !over ? -EBUSY : 0);
	keeper_look_idle(r->conn->keeper);
	return 0;
}

static int do_drain(struct request *r)
{
	r->conn->keeper->draining = true;
	answer(r, 0);
	keeper_look_idle(r->conn->keeper);
	return 0;
}

static int do_layer(struct request *r)
{
	struct keeper *k = r->conn->keeper;
	struct error err = {0};

	struct job *j = k->job_count < KEEPER_JOBS_MAX ? calloc(1, sizeof(*j)) : NULL;
	if (!j)
		return -ENOMEM;
	j->base_fd = r->fd_count > 0 ? take_fd(&r->fds[0]) : -1;
	j->conn = r->conn;
	j->request = r->h.request;
	int e = sealer_request_decode(r->q.sealer, &j->q, &err);
	if (e == 0 && j->q.path.len > 0) {
		e = buffer_append(&j->path, j->q.path.data, j->q.path.len);
		j->q.path = buffer_bytes(&j->path);
	}
	if (e < 0) {
		job_free(j);
		return e;
	}
	e = userns_get(k, r->q.uid, r->q.gid, &j->userns, &err);
	if (e < 0) {
		struct sealer_reply reply = {.result = e,
					     .exit_status = err.exit_status,
					     .message = bytes_str(err.msg)};
		conn_layer_reply(r->conn, r->h.request, &reply, NULL, 0);
		job_free(j);
		return 0;
	}
	userns_submit(k, j);
	return 0;
}

static struct sandbox_net_id net_id(const struct request *r)
{
	struct sandbox_net_id id;

	memcpy(id.b, r->h.attempt.b, sizeof(id.b));
	return id;
}

static int do_net_open(struct request *r)
{
	struct sandbox_net_id id = net_id(r);
	struct error err = {0};
	struct net *n = NULL;

	if (sandbox_net_none(&id))
		return -EPROTO;
	int e = net_open(r->conn->keeper, &id, r->q.table, r->q.ca, &n, &err);
	conn_reply(r->conn, r->h.request, &r->h.attempt, e, e < 0 ? &err : NULL,
		   n ? &n->ca_fd : NULL, n ? 1 : 0);
	return 0;
}

static int do_net_attach(struct request *r)
{
	struct sandbox_net_id id = net_id(r);
	struct net *n = net_find(r->conn->keeper, &id);
	struct error err = {0};
	AUTO_FD fd = -1;

	int e = n ? net_attach(n, &fd, &err)
		  : error_set(&err, -ENOENT, "keeper: that network is not open");
	conn_reply(r->conn, r->h.request, &r->h.attempt, e, e < 0 ? &err : NULL, &fd,
		   fd >= 0 ? 1 : 0);
	return 0;
}

static int do_net_close(struct request *r)
{
	struct sandbox_net_id id = net_id(r);
	struct net *n = net_find(r->conn->keeper, &id);

	if (n)
		net_close(n);
	answer(r, 0);
	return 0;
}

/* Phases in which a request may come, and how many descriptors come with it. */
static const struct {
	unsigned phases;
	size_t fds_max;
	int (*fn)(struct request *);
} requests[] = {
	[PROTOCOL_HELLO] = {CONN_NEW, 1, do_hello},
	[PROTOCOL_START] = {CONN_SERVED, 2, do_start},
	[PROTOCOL_SIGNAL] = {CONN_SERVED, 0, do_signal},
	[PROTOCOL_KILL] = {CONN_SERVED, 0, do_kill},
	[PROTOCOL_FREEZE] = {CONN_SERVED, 0, do_freeze},
	[PROTOCOL_RESIZE] = {CONN_SERVED, 0, do_resize},
	[PROTOCOL_PTY] = {CONN_SERVED, 0, do_pty},
	[PROTOCOL_FOLLOW] = {CONN_SERVED, 0, do_follow},
	[PROTOCOL_FORGET] = {CONN_SERVED, 0, do_forget},
	[PROTOCOL_DRAIN] = {CONN_SERVED, 0, do_drain},
	[PROTOCOL_LAYER] = {CONN_SERVED, 1, do_layer},
	[PROTOCOL_NET_OPEN] = {CONN_SERVED, 0, do_net_open},
	[PROTOCOL_NET_ATTACH] = {CONN_SERVED, 0, do_net_attach},
	[PROTOCOL_NET_CLOSE] = {CONN_SERVED, 0, do_net_close},
};

static int serve(struct conn *c, struct request *r)
{
	if (r->h.type >= ARRAY_SIZE(requests) || !requests[r->h.type].fn ||
	    !(requests[r->h.type].phases & c->phase) || r->fd_count > requests[r->h.type].fds_max)
		return -EPROTO;
	if (c->phase == CONN_SERVED && (r->h.epoch != c->epoch || c->epoch != c->keeper->epoch))
		return -ESTALE;
	if (r->h.type != PROTOCOL_START) {
		int err = protocol_request_decode((enum protocol_type)r->h.type, r->body, &r->q);
		if (err < 0)
			return err;
	}
	r->conn = c;
	r->attempt = attempt_find(c->keeper, &r->h.attempt);
	return requests[r->h.type].fn(r);
}

/* A large body comes in a memfd: one that its sender can no longer change. */
static int read_large(struct request *r, struct buffer *large)
{
	AUTO_FD fd = take_fd(&r->fds[--r->fd_count]);
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_WRITE) || !(seals & F_SEAL_SHRINK))
		return -EPROTO;
	if (buffer_reserve(large, r->h.length) < 0)
		return -ENOMEM;
	r->body = bytes_of(large->data, r->h.length);
	return io_pread_all(fd, large->data, r->h.length, 0);
}

static int receive(struct conn *c)
{
	static uint8_t data[PROTOCOL_DATAGRAM_MAX];
	AUTO_BUFFER large = {0};
	int fds[IO_FDS_MAX];
	struct request r = {.fds = fds};

	ssize_t n = io_recv_fds(c->source.fd, data, sizeof(data), fds, &r.fd_count);
	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return n == 0 ? -ECONNRESET : (int)n;
	size_t all = r.fd_count;
	int err = (size_t)n < sizeof(r.h) ? -EPROTO : 0;
	if (err == 0) {
		memcpy(&r.h, data, sizeof(r.h));
		err = protocol_check_header(&r.h, (size_t)n, r.fd_count);
		r.body = bytes_of(data + sizeof(r.h), (size_t)n - sizeof(r.h));
	}
	if (err == 0 && (r.h.flags & PROTOCOL_FLAG_MEMFD))
		err = read_large(&r, &large);
	if (err == 0)
		err = serve(c, &r);
	for (size_t i = 0; i < all; i++)
		close_fd(&fds[i]);
	return err;
}

static void on_conn(struct loop_source *s, uint32_t events)
{
	struct conn *c = container_of(s, struct conn, source);

	if (events & EPOLLOUT)
		flush(c);
	if ((events & ~(uint32_t)EPOLLOUT) && receive(c) < 0)
		conn_end(c);
}

static void on_deaf_over(struct loop_timer *t)
{
	struct keeper *k = container_of(t, struct keeper, deaf);

	if (k->listen_source.fd >= 0)
		loop_change(&k->loop, &k->listen_source, EPOLLIN);
}

void conn_accept(struct loop_source *s, uint32_t events)
{
	struct keeper *k = container_of(s, struct keeper, listen_source);
	struct ucred peer;
	socklen_t len = sizeof(peer);
	size_t count = 0;

	(void)events;
	AUTO_FD fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		/* Who waits there would be told of again at once, and for as long. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			loop_change(&k->loop, s, 0);
			loop_timer_set(&k->loop, &k->deaf,
				       loop_now_ns() + KEEPER_DEAF_MS * 1000000ULL, on_deaf_over);
		}
		return;
	}
	for (struct conn *c = k->conns; c; c = c->next)
		count++;
	if (count >= KEEPER_CONNECTIONS_MAX ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != geteuid())
		return;
	struct conn *c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->keeper = k;
	c->phase = CONN_NEW;
	c->last = &c->first;
	if (loop_watch(&k->loop, &c->source, fd, EPOLLIN, on_conn) < 0) {
		free(c);
		return;
	}
	(void)take_fd(&fd);
	c->next = k->conns;
	k->conns = c;
	keeper_look_idle(k);
}
