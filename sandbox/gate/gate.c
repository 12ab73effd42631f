/* holdfast-gate: what the keeper says, the listeners it hands over, and the loop. See gate.h. */
#include "sandbox/gate/gate.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <openssl/crypto.h>
#include "base/io.h"
#include "sandbox/gate/isolate.h"

static const char *const kind_words[] = {
	[FRAMES_NOTE_DNS] = "names that no rule has",
	[FRAMES_NOTE_TLS] = "TLS connections",
	[FRAMES_NOTE_HTTP] = "HTTP requests",
	[FRAMES_NOTE_LIMIT] = "connections or names past a limit",
};

enum { PEM_MAX = 64 * 1024, FDS_SPARE = 64, FDS_OF_A_CONNECTION = 3 };

void gate_die(const char *fmt, ...)
{
	char line[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	dprintf(2, "holdfast-gate: %s\n", line);
	_exit(1);
}

/* ---- attempts ---- */

struct attempt *gate_attempt(struct gate *g, const uint8_t id[16])
{
	struct attempt *a;

	LIST_FOREACH(a, &g->attempts, link)
	if (memcmp(a->id, id, sizeof(a->id)) == 0)
		return a;
	return NULL;
}

static struct attempt *attempt_make(struct gate *g, const uint8_t id[16])
{
	struct attempt *a = gate_attempt(g, id);

	if (a)
		return a;
	a = calloc(1, sizeof(*a));
	if (!a)
		gate_die("out of memory");
	memcpy(a->id, id, sizeof(a->id));
	LIST_INSERT_HEAD(&g->attempts, a, link);
	return a;
}

static void listener_free(struct listener *l)
{
	int fd = event_get_fd(l->event);

	LIST_REMOVE(l, link);
	event_free(l->event);
	close(fd);
	free(l);
}

void gate_retry_soon(struct gate *g)
{
	const struct timeval soon = {.tv_usec = GATE_RETRY_MS * 1000};

	if (g->trunk >= 0 && !evtimer_pending(g->retry, NULL))
		(void)evtimer_add(g->retry, &soon);
}

/* -errno: the trunk has no room (gate_trunk_again is called soon), or no courier lives. */
static int send_note(struct gate *g, const struct frames_note *n)
{
	AUTO_BUFFER out = {0};
	int r = g->trunk < 0 ? -ENOTCONN : frames_note_encode(n, &out);

	if (r == 0 && send(g->trunk, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		r = -errno;
	if (r == -EAGAIN)
		gate_retry_soon(g);
	return r;
}

/* How many were not told one by one, a note of each kind. */
static int say_more(struct gate *g, const uint8_t attempt[16], struct unsaid *u)
{
	for (unsigned kind = FRAMES_NOTE_DNS; kind < FRAMES_NOTE_OVER; kind++) {
		struct frames_note n = {.kind = (enum frames_note_kind)kind};
		char why[FRAMES_WHY_MAX];
		int r;

		if (!u->count[kind])
			continue;
		memcpy(n.attempt, attempt, sizeof(n.attempt));
		snprintf(why, sizeof(why),
			 "%" PRIu64 " more of %s were refused, too many to be "
			 "told one by one",
			 u->count[kind], kind_words[kind]);
		n.why = bytes_str(why);
		r = send_note(g, &n);
		if (r < 0)
			return r;
		u->count[kind] = 0;
	}
	return 0;
}

/* A step's end waits for it. Where that courier is gone, the next one hears of it. */
static void say_over(struct gate *g)
{
	struct over *o;

	while (g->trunk >= 0 && (o = STAILQ_FIRST(&g->over))) {
		struct frames_note n = {.kind = FRAMES_NOTE_OVER};

		memcpy(n.attempt, o->attempt, sizeof(n.attempt));
		if (say_more(g, o->attempt, &o->unsaid) < 0 || send_note(g, &n) < 0)
			return;
		STAILQ_REMOVE_HEAD(&g->over, link);
		free(o);
	}
}

static bool is_unsaid(const struct attempt *a)
{
	for (unsigned kind = FRAMES_NOTE_DNS; kind < FRAMES_NOTE_OVER; kind++)
		if (a->unsaid.count[kind])
			return true;
	return false;
}

void gate_trunk_again(struct gate *g)
{
	struct attempt *a;

	conn_trunk_changed(g);
	LIST_FOREACH(a, &g->attempts, link)
	if (is_unsaid(a) && a->notes < FRAMES_NOTES_MAX && say_more(g, a->id, &a->unsaid) == 0)
		a->notes++;
	say_over(g);
}

static void attempt_end(struct gate *g, const uint8_t id[16])
{
	struct attempt *a = gate_attempt(g, id);
	struct over *o = calloc(1, sizeof(*o));
	struct listener *l;

	if (!o)
		gate_die("out of memory");
	memcpy(o->attempt, id, sizeof(o->attempt));
	STAILQ_INSERT_TAIL(&g->over, o, link);
	while (a && (l = LIST_FIRST(&a->listeners)))
		listener_free(l);
	if (a) {
		conn_attempt_end(g, a);
		gate_dns_attempt_end(g, a);
		o->unsaid = a->unsaid;
		LIST_REMOVE(a, link);
		free(a);
	}
	say_over(g);
}

/* Visible ASCII, whatever was asked for. */
static struct bytes shown_host(const char *host, char *buf, size_t size)
{
	size_t n = 0;

	for (; host[n] && n + 1 < size; n++)
		buf[n] = host[n] > ' ' && host[n] <= '~' ? host[n] : '?';
	return bytes_of(buf, n);
}

void gate_note(struct gate *g, struct attempt *a, enum frames_note_kind kind, const char *host,
	       uint16_t port, const char *why)
{
	char buf[ACTION_HOST_MAX + 1], line[FRAMES_WHY_MAX + 1];
	struct frames_note n = {.kind = kind, .port = port};

	if (a->notes >= FRAMES_NOTES_MAX) {
		a->unsaid.count[kind]++;
		return;
	}
	memcpy(n.attempt, a->id, sizeof(n.attempt));
	n.host = shown_host(host, buf, sizeof(buf));
	/* It quotes what came from inside: one line of ASCII, cut. */
	snprintf(line, sizeof(line), "%s", why);
	for (char *s = line; *s; s++)
		if (*s < ' ' || *s > '~')
			*s = '?';
	n.why = bytes_str(line);
	if (send_note(g, &n) == 0)
		a->notes++;
	else
		a->unsaid.count[kind]++;
}

/* ---- listeners ---- */

/* Who waits to be accepted would wake the loop again at once. */
static void pause_listener(struct listener *l)
{
	const struct timeval later = {.tv_usec = GATE_PAUSE_MS * 1000};

	l->paused = event_del(l->event) == 0;
	if (!evtimer_pending(l->gate->resume, NULL))
		(void)evtimer_add(l->gate->resume, &later);
}

static void on_resume(int fd, short what, void *arg)
{
	struct gate *g = arg;
	struct attempt *a;
	struct listener *l;

	(void)fd;
	(void)what;
	LIST_FOREACH(a, &g->attempts, link)
	LIST_FOREACH(l, &a->listeners, link)
	if (l->paused)
		l->paused = event_add(l->event, NULL) < 0;
}

static void accept_some(struct listener *l, int fd)
{
	for (int i = 0; i < GATE_ACCEPTS_MAX; i++) {
		int one = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (one < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			    errno == ENOMEM)
				pause_listener(l);
			return;
		}
		if (l->where.resolver)
			gate_dns_accept(l, one);
		else
			conn_accept(l, one);
	}
}

static void on_listener(int fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)what;
	if (l->where.datagram)
		gate_dns_datagram(l, fd);
	else
		accept_some(l, fd);
}

static void take_listener(struct gate *g, struct attempt *a, size_t index, int fd)
{
	struct listener *l = calloc(1, sizeof(*l));

	if (!l || evutil_make_socket_nonblocking(fd) < 0)
		gate_die("no memory for a listener");
	l->gate = g;
	l->attempt = a;
	table_listener(g->table, index, &l->where);
	l->event = event_new(g->base, fd, EV_READ | EV_PERSIST, on_listener, l);
	if (!l->event || event_add(l->event, NULL) < 0)
		gate_die("no memory for a listener");
	LIST_INSERT_HEAD(&a->listeners, l, link);
}

/* ---- what the keeper says ---- */

static void read_memfd(int fd, size_t max, struct buffer *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size <= 0 || (size_t)st.st_size > max ||
	    buffer_reserve(ret, (size_t)st.st_size) < 0 ||
	    io_pread_all(fd, ret->data, (size_t)st.st_size, 0) < 0)
		gate_die("what the keeper handed over cannot be read");
	ret->len = (size_t)st.st_size;
}

static void on_table(struct gate *g, int fd)
{
	AUTO_BUFFER bytes = {0};

	if (g->table)
		gate_die("a second name table");
	read_memfd(fd, TABLE_BYTES_MAX, &bytes);
	if (table_decode(buffer_bytes(&bytes), &g->table) < 0)
		gate_die("the name table is not well-formed");
	g->names = gate_names_new(g->table);
	if (!g->names)
		gate_die("out of memory");
}

static void on_ca(struct gate *g, int fd)
{
	AUTO_BUFFER pem = {0};
	struct error err = {0};

	if (g->tls)
		gate_die("a second authority");
	read_memfd(fd, PEM_MAX, &pem);
	if (gate_tls_new(buffer_bytes(&pem), &g->tls, &err) < 0)
		gate_die("%s", err.msg);
	explicit_bzero(pem.data, pem.len);
}

static void on_listeners(struct gate *g, const struct control_message *m, int *fds, size_t count)
{
	struct attempt *a;

	if (!g->table || !g->tls || m->first > table_listeners(g->table) ||
	    count > table_listeners(g->table) - m->first)
		gate_die("listeners that the table does not have");
	a = attempt_make(g, m->attempt);
	for (size_t i = 0; i < count; i++)
		take_listener(g, a, m->first + i, take_fd(&fds[i]));
}

static void on_message(struct gate *g, const struct control_message *m, int *fds, size_t count)
{
	size_t want = m->type == CONTROL_TABLE || m->type == CONTROL_CA || m->type == CONTROL_TRUNK;

	if (m->type != CONTROL_LISTENERS && count != want)
		gate_die("message %u with %zu descriptors", m->type, count);
	switch ((enum control_type)m->type) {
	case CONTROL_TABLE:
		on_table(g, fds[0]);
		return;
	case CONTROL_CA:
		on_ca(g, fds[0]);
		return;
	case CONTROL_LISTENERS:
		on_listeners(g, m, fds, count);
		return;
	case CONTROL_TRUNK:
		close_fd(&g->trunk);
		g->trunk = take_fd(&fds[0]);
		gate_trunk_again(g);
		return;
	case CONTROL_ATTEMPT_END:
		attempt_end(g, m->attempt);
		return;
	case CONTROL_NAME:
		if (!g->names || !memchr(m->name, 0, sizeof(m->name)))
			gate_die("a name before its table");
		gate_names_put(g->names, m->entry, m->slot, m->name);
		return;
	case CONTROL_REPORT: /* the courier's */
		break;
	}
	gate_die("message %u", m->type);
}

static void on_control(int fd, short what, void *arg)
{
	struct control_message m;
	int fds[IO_FDS_MAX];
	size_t count;
	ssize_t n;

	(void)what;
	n = io_recv_fds(fd, &m, sizeof(m), fds, &count);
	if (n == -EAGAIN)
		return;
	if (n == 0)
		_exit(0); /* the keeper is gone or has no use for us */
	if (n != sizeof(m))
		gate_die("a message of another size: %zd", n);
	on_message(arg, &m, fds, count);
	for (size_t i = 0; i < count; i++)
		close_fd(&fds[i]);
}

static void on_retry(int fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	gate_trunk_again(arg);
}

/* ---- start ---- */

/* "HEAD,BODY,IDLE" in ms, for tests of what else takes minutes; longer than usual is not to be had.
 */
static void read_limits(const char *text, struct gate_limits *l)
{
	unsigned head, body, idle;

	*l = (struct gate_limits){GATE_HEAD_MS, GATE_BODY_MS, GATE_IDLE_MS, GATE_LINGER_MS,
				  GATE_COURIER_MS};
	if (!text || sscanf(text, "%u,%u,%u", &head, &body, &idle) != 3)
		return;
	l->head_ms = head && head < l->head_ms ? head : l->head_ms;
	l->body_ms = body && body < l->body_ms ? body : l->body_ms;
	l->idle_ms = idle && idle < l->idle_ms ? idle : l->idle_ms;
}

static uint32_t most_connections(void)
{
	struct rlimit r;
	uint64_t left = 0;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur > TABLE_LISTENERS_MAX + FDS_SPARE)
		left = (r.rlim_cur - TABLE_LISTENERS_MAX - FDS_SPARE) / FDS_OF_A_CONNECTION;
	/* With few descriptors there are few listeners, too. */
	if (left < FDS_SPARE)
		left = FDS_SPARE;
	return left < GATE_CONNECTIONS_MAX ? (uint32_t)left : GATE_CONNECTIONS_MAX;
}

static void quiet(int severity, const char *msg)
{
	(void)severity;
	(void)msg;
}

int main(int argc, char **argv)
{
	struct gate g = {.trunk = -1};
	struct error err = {0};
	struct event *control;

	STAILQ_INIT(&g.over);
	(void)signal(SIGPIPE, SIG_IGN);
	/* Buffers of a large body come and go: not as mappings whose pages are made anew each time. */
	(void)mallopt(M_MMAP_THRESHOLD, STREAM_MALLOC_KEPT);
	(void)mallopt(M_TRIM_THRESHOLD, STREAM_MALLOC_KEPT);
	read_limits(argc > 1 ? argv[1] : NULL, &g.limits);
	g.connections_max = most_connections();
	if (isolate(ISOLATE_GATE, NULL, 0, &err) < 0)
		gate_die("%s", err.msg);
	/* No file can be read now, so that nothing of OpenSSL's looks for its settings. */
	if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL) != 1)
		gate_die("OpenSSL does not start");
	event_set_log_callback(quiet);
	g.base = event_base_new();
	g.retry = g.base ? evtimer_new(g.base, on_retry, &g) : NULL;
	g.resume = g.base ? evtimer_new(g.base, on_resume, &g) : NULL;
	control =
		g.base ? event_new(g.base, ISOLATE_CONTROL_FD, EV_READ | EV_PERSIST, on_control, &g)
		       : NULL;
	if (!g.retry || !g.resume || !control ||
	    evutil_make_socket_nonblocking(ISOLATE_CONTROL_FD) < 0 || event_add(control, NULL) < 0)
		gate_die("no event loop");
	(void)event_base_dispatch(g.base);
	gate_die("the event loop ended");
}
