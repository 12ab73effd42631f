/*
 * The supervisor's side of keeper protocol and launch. No thread, no signal handler, no blocking
 * but in sandbox_client_open and sandbox_keeper_start.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include "base/failpoint.h"
#include "base/io.h"
#include "sandbox/protocol.h"

enum { CLIENT_QUEUE_MAX = 4096 }; /* messages that wait for the socket */

struct client_message {
	struct client_message *next;
	int fds[PROTOCOL_FDS_MAX];
	size_t fd_count, len;
	uint8_t data[];
};

struct sandbox_client {
	int sock;
	uint64_t epoch, next_request;
	sandbox_event_fn *fn;
	void *arg;
	struct sandbox_hello hello;
	struct client_message *first, **last;
	size_t queued;
	bool lost;
	/* STARTED with more descriptors than one message holds */
	int held[SANDBOX_LISTENERS_MAX + PROTOCOL_FDS_MAX];
	size_t held_count;
};

static void message_free(struct client_message *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->fd_count; i++)
		close(m->fds[i]);
	free(m);
}
DEFINE_GUARD(struct client_message *, message_free)

void sandbox_client_free(struct sandbox_client *c)
{
	if (!c)
		return;
	for (struct client_message *m = c->first, *next; m; m = next) {
		next = m->next;
		message_free(m);
	}
	for (size_t i = 0; i < c->held_count; i++)
		close(c->held[i]);
	close_fd(&c->sock);
	free(c->hello.found);
	free(c->hello.nets);
	free(c);
}

static void lose(struct sandbox_client *c)
{
	struct sandbox_event e = {.type = SANDBOX_EVENT_CONNECTION_LOST};

	if (c->lost)
		return;
	c->lost = true;
	c->fn(c->arg, &e);
}

/* ---- sending ---- */

static int flush(struct sandbox_client *c)
{
	while (c->first) {
		struct client_message *m = c->first;
		ssize_t n = failpoint_hit("client.send");

		if (n == 0)
			n = io_send_fds(c->sock, m->data, m->len, m->fds, m->fd_count);
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		c->first = m->next;
		if (!c->first)
			c->last = &c->first;
		c->queued--;
		message_free(m);
	}
	return 0;
}

static int add_fd(struct client_message *m, int fd)
{
	if (m->fd_count >= PROTOCOL_FDS_MAX)
		return -E2BIG;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return -errno;
	m->fds[m->fd_count++] = copy;
	return 0;
}

static bool is_shortage(int r)
{
	return r == -ENOMEM || r == -ENOBUFS || r == -ETOOMANYREFS;
}

/* m is the last of the queue, if it is there still: who is told that it failed must not find it sent later. */
static bool withdraw(struct sandbox_client *c, struct client_message *m)
{
	struct client_message **at = &c->first;

	while (*at && *at != m)
		at = &(*at)->next;
	if (!*at)
		return false;
	*at = NULL;
	c->last = at;
	c->queued--;
	message_free(m);
	return true;
}

/* fds are duplicated. An error: it was not sent and will not be. */
static int submit(struct sandbox_client *c, enum protocol_type type,
		  const struct sandbox_attempt_id *attempt, struct bytes body, const int *fds,
		  size_t fd_count, uint64_t *ret)
{
	struct protocol_header h = {.length = (uint32_t)body.len,
				    .type = (uint16_t)type,
				    .protocol = PROTOCOL_VERSION,
				    .epoch = c->epoch,
				    .request = c->next_request};
	bool large = body.len > PROTOCOL_BODY_INLINE;
	size_t len = sizeof(h) + (large ? 0 : body.len);
	int err = 0;

	if (c->lost)
		return -ENOTCONN;
	if (c->queued >= CLIENT_QUEUE_MAX)
		return -ENOBUFS;
	AUTO(message_free) struct client_message *m = calloc(1, sizeof(*m) + len);
	if (!m)
		return -ENOMEM;
	m->len = len;
	for (size_t i = 0; i < fd_count && err == 0; i++)
		err = add_fd(m, fds[i]);
	if (err == 0 && large) {
		h.flags |= PROTOCOL_FLAG_MEMFD;
		int fd = io_memfd_sealed("holdfast", body, false);
		if (fd < 0)
			return fd;
		if (m->fd_count >= PROTOCOL_FDS_MAX)
			err = -E2BIG, close(fd);
		else
			m->fds[m->fd_count++] = fd;
	}
	if (err < 0)
		return err;
	if (attempt)
		h.attempt = *attempt;
	memcpy(m->data, &h, sizeof(h));
	if (!large && body.len > 0)
		memcpy(m->data + sizeof(h), body.data, body.len);
	if (ret)
		*ret = c->next_request;
	c->next_request++;
	*c->last = m;
	c->last = &m->next;
	c->queued++;
	struct client_message *added = take_ptr(m);
	err = flush(c);
	/* a broken connection is told by dispatch, from the loop, never from inside a request */
	return is_shortage(err) && withdraw(c, added) ? err : 0;
}

static int request(struct sandbox_client *c, enum protocol_type type,
		   const struct sandbox_attempt_id *attempt, const struct protocol_request *q,
		   const int *fds, size_t fd_count, uint64_t *ret)
{
	AUTO_BUFFER body = {0};
	int err = protocol_request_encode(type, q, &body);

	return err < 0 ? err : submit(c, type, attempt, buffer_bytes(&body), fds, fd_count, ret);
}

int sandbox_client_start(struct sandbox_client *c, const struct sandbox_spec *spec, uint64_t *ret,
			 struct error *err)
{
	AUTO_BUFFER body = {0};
	int fds[2];
	size_t fd_count = 0;

	int r = protocol_spec_encode(spec, &body, err);
	if (r < 0)
		return r;
	if (spec->stdin_fd >= 0 && !spec->pty)
		fds[fd_count++] = spec->stdin_fd;
	if (spec->workspace.mode != SANDBOX_WORKSPACE_NONE)
		fds[fd_count++] = spec->workspace.base_fd;
	r = submit(c, PROTOCOL_START, &spec->attempt, buffer_bytes(&body), fds, fd_count, ret);
	return r < 0 ? error_set(err, r, "keeper: cannot send a START: %s", strerror(-r)) : 0;
}

int sandbox_client_signal(struct sandbox_client *c, const struct sandbox_attempt_id *a, int sig,
			  uint64_t *ret)
{
	return request(c, PROTOCOL_SIGNAL, a, &(struct protocol_request){.signal = sig}, NULL, 0,
		       ret);
}

int sandbox_client_kill(struct sandbox_client *c, const struct sandbox_attempt_id *a, uint64_t *ret)
{
	return request(c, PROTOCOL_KILL, a, &(struct protocol_request){0}, NULL, 0, ret);
}

int sandbox_client_freeze(struct sandbox_client *c, const struct sandbox_attempt_id *a, bool frozen,
			  uint64_t *ret)
{
	return request(c, PROTOCOL_FREEZE, a, &(struct protocol_request){.on = frozen}, NULL, 0,
		       ret);
}

int sandbox_client_resize(struct sandbox_client *c, const struct sandbox_attempt_id *a,
			  uint16_t rows, uint16_t cols, uint64_t *ret)
{
	return request(c, PROTOCOL_RESIZE, a,
		       &(struct protocol_request){.rows = rows, .cols = cols}, NULL, 0, ret);
}

int sandbox_client_pty(struct sandbox_client *c, const struct sandbox_attempt_id *a, uint64_t *ret)
{
	return request(c, PROTOCOL_PTY, a, &(struct protocol_request){0}, NULL, 0, ret);
}

int sandbox_client_follow(struct sandbox_client *c, const struct sandbox_attempt_id *a, bool on,
			  uint64_t *ret)
{
	return request(c, PROTOCOL_FOLLOW, a, &(struct protocol_request){.on = on}, NULL, 0, ret);
}

int sandbox_client_forget(struct sandbox_client *c, const struct sandbox_attempt_id *a,
			  uint64_t *ret)
{
	return request(c, PROTOCOL_FORGET, a, &(struct protocol_request){0}, NULL, 0, ret);
}

int sandbox_client_drain(struct sandbox_client *c, uint64_t *ret)
{
	return request(c, PROTOCOL_DRAIN, NULL, &(struct protocol_request){0}, NULL, 0, ret);
}

int sandbox_client_layer(struct sandbox_client *c, const struct sealer_request *q, uid_t uid,
			 gid_t gid, int base_fd, uint64_t *ret)
{
	AUTO_BUFFER body = {0};
	struct sealer_request copy = *q;

	copy.id = 0;
	int err = sealer_request_encode(&copy, &body);
	if (err < 0)
		return err;
	struct protocol_request r = {.uid = uid, .gid = gid, .sealer = buffer_bytes(&body)};
	return request(c, PROTOCOL_LAYER, NULL, &r, &base_fd, base_fd >= 0 ? 1 : 0, ret);
}

/* In the header a network stands where an attempt does. */
static int net_request(struct sandbox_client *c, enum protocol_type type,
		       const struct sandbox_net_id *run, const struct protocol_request *q,
		       uint64_t *ret)
{
	struct sandbox_attempt_id id;

	_Static_assert(sizeof(id) == sizeof(*run), "one header for both");
	memcpy(&id, run, sizeof(id));
	return request(c, type, &id, q, NULL, 0, ret);
}

int sandbox_client_net_open(struct sandbox_client *c, const struct sandbox_net *n, uint64_t *ret)
{
	struct protocol_request q = {.table = n->table, .ca = n->ca};

	if (sandbox_net_none(&n->run) || n->table.len > SANDBOX_NET_TABLE_MAX ||
	    n->ca.len > SANDBOX_NET_CA_MAX)
		return -EINVAL;
	return net_request(c, PROTOCOL_NET_OPEN, &n->run, &q, ret);
}

int sandbox_client_net_attach(struct sandbox_client *c, const struct sandbox_net_id *run,
			      uint64_t *ret)
{
	return net_request(c, PROTOCOL_NET_ATTACH, run, &(struct protocol_request){0}, ret);
}

int sandbox_client_net_close(struct sandbox_client *c, const struct sandbox_net_id *run,
			     uint64_t *ret)
{
	return net_request(c, PROTOCOL_NET_CLOSE, run, &(struct protocol_request){0}, ret);
}

/* ---- receiving ---- */

static void close_fds(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		close_fd(&fds[i]);
}

struct incoming {
	struct protocol_header h;
	struct bytes body;
	uint8_t data[PROTOCOL_DATAGRAM_MAX];
	struct buffer large;
	int fds[PROTOCOL_FDS_MAX];
	size_t fd_count;
};

/* 1 one message, 0 none now, negative errno. */
static int receive(struct sandbox_client *c, struct incoming *in)
{
	ssize_t n = io_recv_fds(c->sock, in->data, sizeof(in->data), in->fds, &in->fd_count);

	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return n == 0 ? -ECONNRESET : (int)n;
	if ((size_t)n < sizeof(in->h))
		return -EPROTO;
	memcpy(&in->h, in->data, sizeof(in->h));
	int err = protocol_check_header(&in->h, (size_t)n, in->fd_count);
	if (err < 0)
		return err;
	in->body = bytes_of(in->data + sizeof(in->h), in->h.length);
	if (in->h.flags & PROTOCOL_FLAG_MEMFD) {
		AUTO_FD fd = in->fds[--in->fd_count];
		if (buffer_reserve(&in->large, in->h.length) < 0)
			return -ENOMEM;
		err = io_pread_all(fd, in->large.data, in->h.length, 0);
		in->body = bytes_of(in->large.data, in->h.length);
	}
	return err < 0 ? err : 1;
}

static int deliver(struct sandbox_client *c, struct incoming *in)
{
	struct sandbox_event e;
	int *fds = in->fds;
	size_t fd_count = in->fd_count;

	int err = protocol_event_decode((enum protocol_type)in->h.type, in->body, &e);
	if (err < 0)
		return err;
	if (c->held_count > 0 || (in->h.flags & PROTOCOL_FLAG_MORE)) {
		if (c->held_count + fd_count > ARRAY_SIZE(c->held))
			return -EPROTO;
		memcpy(c->held + c->held_count, in->fds, fd_count * sizeof(int));
		c->held_count += fd_count;
		in->fd_count = 0;
		if (in->h.flags & PROTOCOL_FLAG_MORE)
			return 0;
		fds = c->held;
		fd_count = c->held_count;
	}
	e.attempt = in->h.attempt;
	e.request = in->h.request;
	e.fds = fds;
	e.fd_count = fd_count;
	c->fn(c->arg, &e);
	close_fds(fds, fd_count);
	if (fds == c->held)
		c->held_count = 0;
	return 0;
}

int sandbox_client_dispatch(struct sandbox_client *c)
{
	AUTO_FREE struct incoming *in = malloc(sizeof(*in));
	int err = c->lost ? -ENOTCONN : in ? flush(c) : -ENOMEM;

	/* what the keeper said before it went away is heard, even if nothing can be sent any more
	 */
	while (in && !c->lost) {
		in->large = (struct buffer){0};
		in->fd_count = 0;
		int r = receive(c, in);
		if (r == 1)
			r = deliver(c, in) < 0 ? -EPROTO : 1;
		close_fds(in->fds, in->fd_count);
		buffer_free(&in->large);
		if (r == 0)
			break;
		if (r < 0) {
			err = r;
			break;
		}
	}
	if (err < 0)
		lose(c);
	return err;
}

const struct sandbox_hello *sandbox_client_hello(const struct sandbox_client *c)
{
	return &c->hello;
}

int sandbox_client_fd(const struct sandbox_client *c)
{
	return c->sock;
}

short sandbox_client_poll_events(const struct sandbox_client *c)
{
	return (short)(POLLIN | (c->first ? POLLOUT : 0));
}

/* ---- opening ---- */

static int check_peer(int sock, struct error *err)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return error_set(err, -errno, "keeper: who listens there cannot be told: %s",
				 strerror(errno));
	if (peer.uid != geteuid())
		return error_set(err, -EPERM,
				 "keeper: uid %u listens there: not this user's keeper", peer.uid);
	return 0;
}

static int wait_hello(struct sandbox_client *c, struct error *err)
{
	struct pollfd p = {.fd = c->sock, .events = POLLIN};
	AUTO_FREE struct incoming *in = calloc(1, sizeof(*in));

	if (!in)
		return error_nomem(err);
	int n = poll(&p, 1, SANDBOX_OPEN_TIMEOUT_MS);
	if (n == 0)
		return error_set(err, -ETIMEDOUT, "keeper: no answer to hello for %d s",
				 SANDBOX_OPEN_TIMEOUT_MS / 1000);
	int r = n < 0 ? -errno : receive(c, in);
	close_fds(in->fds, in->fd_count);
	if (r == 1 && in->h.type == PROTOCOL_HELLO_REPLY)
		r = protocol_hello_decode(in->body, &c->hello);
	else if (r >= 0)
		r = -EPROTO;
	buffer_free(&in->large);
	if (r < 0)
		return error_set(err, r, "keeper: hello was not answered: %s", strerror(-r));
	if (c->epoch != 0 && c->hello.keeper_epoch > c->epoch)
		return error_set(
			err, -ESTALE,
			"keeper: it serves epoch %llu, this is %llu; another supervisor took over",
			(unsigned long long)c->hello.keeper_epoch, (unsigned long long)c->epoch);
	return 0;
}

int sandbox_client_open(int state_fd, int runtime_fd, uint64_t epoch, sandbox_event_fn *fn,
			void *arg, struct sandbox_client **ret, struct error *err)
{
	AUTO(sandbox_client_free) struct sandbox_client *c = calloc(1, sizeof(*c));

	if (!c)
		return error_nomem(err);
	c->epoch = epoch;
	c->next_request = 1;
	c->fn = fn;
	c->arg = arg;
	c->last = &c->first;
	c->sock = io_unix_connect_at(state_fd, PROTOCOL_SOCKET, SOCK_SEQPACKET);
	if (c->sock < 0)
		return error_set(err, c->sock, "keeper: cannot connect: %s", strerror(-c->sock));
	int r = check_peer(c->sock, err);
	if (r < 0)
		return r;
	struct protocol_request hello = {.epoch = epoch};
	r = request(c, PROTOCOL_HELLO, NULL, &hello, &runtime_fd, runtime_fd >= 0 ? 1 : 0, NULL);
	if (r < 0)
		return error_set(err, r, "keeper: cannot say hello: %s", strerror(-r));
	r = wait_hello(c, err);
	if (r < 0)
		return r;
	if (fcntl(c->sock, F_SETFL, O_NONBLOCK) < 0)
		return error_set(err, -errno, "keeper: %s", strerror(errno));
	*ret = take_ptr(c);
	return 0;
}

/* ---- starting a keeper ---- */

/* The descriptors that a keeper is started with (keeper_main.c). */
enum { KEEPER_RUNTIME_FD = 3, KEEPER_STATE_FD = 4, KEEPER_HELPERS_FD = 5, KEEPER_READY_FD = 6 };

/* dup2 onto 3 to 6 must not overwrite what is still to be moved: all are first duplicated to 10 and
 * above. */
static int spawn_keeper(const struct sandbox_keeper_options *o, int ready, pid_t *ret)
{
	const int from[] = {o->runtime_fd, o->state_fd, o->helpers_fd, ready};
	char idle[16], path[64];
	char *argv[] = {"holdfast-keeper", idle, NULL};
	char *env[FAILPOINT_ENV_MAX + 1];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int high[4] = {-1, -1, -1, -1}, err = 0;

	failpoint_env(env);
	snprintf(idle, sizeof(idle), "%u", o->idle_ms ? o->idle_ms : SANDBOX_KEEPER_IDLE_MS);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						POSIX_SPAWN_SETSID);
	for (int i = 0; i < 4 && err == 0; i++) {
		high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 10);
		err = high[i] < 0 ? errno
				  : posix_spawn_file_actions_adddup2(&actions, high[i],
								     KEEPER_RUNTIME_FD + i);
	}
	for (int i = 0; i < 3 && err == 0; i++)
		err = posix_spawn_file_actions_addopen(&actions, i, "/dev/null", O_RDWR, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d/holdfast-keeper", KEEPER_HELPERS_FD);
	if (err == 0)
		err = posix_spawn(ret, path, &actions, &attr, argv, env);
	for (int i = 0; i < 4; i++)
		close_fd(&high[i]);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -err;
}

/* The keeper writes why it failed, or "ok". */
static int read_ready(int fd, struct error *err)
{
	char text[ERROR_MSG_MAX + 16];
	size_t len = 0;
	int code = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, SANDBOX_OPEN_TIMEOUT_MS) <= 0)
			return error_set(err, -ETIMEDOUT,
					 "keeper: it did not get ready; try again");
		ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	if (strcmp(text, "ok") == 0)
		return 0;
	int at = 0;
	if (sscanf(text, "%d %n", &code, &at) != 1 || code >= 0)
		return error_set_exit(err, -ECHILD, EXIT_STATUS_SANDBOX,
				      "keeper: it ended while it started");
	return error_set_exit(err, code, EXIT_STATUS_SANDBOX, "%s", text + at);
}

int sandbox_keeper_start(const struct sandbox_keeper_options *options, struct error *err)
{
	int ready[2];
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return error_set(err, -errno, "keeper: %s", strerror(errno));
	AUTO_FD in = ready[0];
	AUTO_FD out = ready[1];
	int r = spawn_keeper(options, out, &pid);
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_SANDBOX,
				      "keeper: cannot start holdfast-keeper: %s", strerror(-r));
	close_fd(&out);
	r = read_ready(in, err);
	/* the process that was spawned forks and goes at once */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}
