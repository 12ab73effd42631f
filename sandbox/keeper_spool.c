/*
 * Output into spool files, and the relay between a terminal and an interactive client. Whole though
 * the supervisor died; capped, the rest counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "base/io.h"
#include "sandbox/keeper.h"

enum { TYPED_MAX = 64 * 1024 };

static void on_output(struct loop_source *s, uint32_t events);

/* Files are made with their first byte: most steps write nothing to stderr. */
static int open_file(struct attempt *a, struct spool *s)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];

	sandbox_spool_name(&a->id, s == &a->out[0] ? SANDBOX_SPOOL_STDOUT : SANDBOX_SPOOL_STDERR,
			   name);
	s->file = openat(a->keeper->spool_fd, name,
			 O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	return s->file < 0 ? -errno : 0;
}

int spool_watch(struct attempt *a, int which, int fd)
{
	return loop_watch(&a->keeper->loop, &a->out[which].source, fd, EPOLLIN, on_output);
}

static void close_source(struct keeper *k, struct spool *s)
{
	int fd = s->source.fd;

	loop_unwatch(&k->loop, &s->source);
	close_fd(&fd);
}

void spool_close(struct keeper *k, struct spool *s)
{
	close_source(k, s);
	close_fd(&s->file);
}

static void on_notices(struct loop_timer *t)
{
	struct keeper *k = container_of(t, struct keeper, notices);

	for (struct attempt *a = k->attempts; a; a = a->next) {
		if (!a->output_pending)
			continue;
		a->output_pending = false;
		struct sandbox_event e = {.type = SANDBOX_EVENT_OUTPUT, .attempt = a->id};
		e.output.stdout_bytes = a->out[0].bytes - a->out[0].dropped;
		e.output.stderr_bytes = a->out[1].bytes - a->out[1].dropped;
		conn_event(k, &e, NULL, 0);
	}
}

static void notice(struct attempt *a)
{
	struct keeper *k = a->keeper;

	if (!a->followed || a->exit_told)
		return;
	a->output_pending = true;
	if (k->notices.due_ns == 0)
		loop_timer_set(&k->loop, &k->notices,
			       loop_now_ns() + SANDBOX_OUTPUT_EVERY_MS * 1000000ULL, on_notices);
}

static void keep(struct attempt *a, struct spool *s, const uint8_t *data, size_t len)
{
	uint64_t cap = a->spec->spec.limits.output_bytes, kept = s->bytes - s->dropped;
	size_t take = len;

	if (s->error || s->dropped)
		take = 0; /* what is kept is a prefix, without holes */
	else if (cap && kept + len > cap)
		take = cap > kept ? (size_t)(cap - kept) : 0;
	if (take > 0 && s->file < 0) {
		s->error = open_file(a, s);
		take = s->error ? 0 : take;
	}
	size_t done = 0;
	while (done < take) {
		ssize_t n = write(s->file, data + done, take - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			s->error = -errno;
			break;
		}
		done += (size_t)n;
	}
	s->bytes += len;
	s->dropped += len - done;
	notice(a);
}

/* 1 more may come, 0 nothing now, -1 end. */
static int pump(struct attempt *a, struct spool *s)
{
	static uint8_t data[KEEPER_COPY];

	ssize_t n = read(s->source.fd, data, sizeof(data));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1; /* a terminal without a slave gives EIO */
	keep(a, s, data, (size_t)n);
	/* A client that does not read loses what it did not read, and finds it in the spool: the
	 * command never waits for it. */
	if (a->relay.fd >= 0 &&
	    send(a->relay.fd, data, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
		spool_relay_end(a);
	return 1;
}

void spool_drain(struct attempt *a, struct spool *s)
{
	/* bounded: a leftover process could write for ever */
	for (int i = 0; i < 64 && s->source.fd >= 0; i++)
		if (pump(a, s) <= 0)
			break;
}

static void on_output(struct loop_source *s, uint32_t events)
{
	struct spool *sp = container_of(s, struct spool, source);

	(void)events;
	if (pump(sp->attempt, sp) < 0)
		close_source(sp->attempt->keeper, sp);
}

/* ---- interactive client ---- */

/* What was typed goes to the terminal as it takes it; while it does not, no more is read from the
 * client. */
static void feed_terminal(struct attempt *a)
{
	struct buffer *b = &a->to_terminal;
	int terminal = a->out[0].source.fd;

	while (b->len > 0 && terminal >= 0) {
		ssize_t n = write(terminal, b->data, b->len);
		if (n <= 0)
			break;
		buffer_consume(b, (size_t)n);
	}
	if (terminal >= 0)
		loop_change(&a->keeper->loop, &a->out[0].source,
			    b->len > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
	if (a->relay.fd >= 0)
		loop_change(&a->keeper->loop, &a->relay, b->len < TYPED_MAX ? EPOLLIN : 0);
}

static void on_terminal(struct loop_source *s, uint32_t events)
{
	struct spool *sp = container_of(s, struct spool, source);

	if (events & EPOLLOUT)
		feed_terminal(sp->attempt);
	if (events & ~(uint32_t)EPOLLOUT)
		on_output(s, events);
}

static void on_relay(struct loop_source *s, uint32_t events)
{
	struct attempt *a = container_of(s, struct attempt, relay);
	uint8_t data[4096];

	(void)events;
	ssize_t n = recv(s->fd, data, sizeof(data), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || buffer_append(&a->to_terminal, data, (size_t)n) < 0) {
		spool_relay_end(a);
		return;
	}
	feed_terminal(a);
}

void spool_relay_end(struct attempt *a)
{
	int fd = a->relay.fd;

	loop_unwatch(&a->keeper->loop, &a->relay);
	close_fd(&fd);
	if (a->state >= SANDBOX_ATTEMPT_EXITED)
		buffer_free(&a->to_terminal);
}

int spool_relay(struct attempt *a, int *ret_fd)
{
	int pair[2];

	if (!a->spec->spec.pty)
		return -ENOTTY;
	if (a->exit_told || a->out[0].source.fd < 0)
		return -ESRCH;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	AUTO_FD ours = pair[0];
	AUTO_FD theirs = pair[1];
	spool_relay_end(a);
	int r = loop_watch(&a->keeper->loop, &a->relay, ours, EPOLLIN, on_relay);
	if (r < 0)
		return r;
	(void)take_fd(&ours);
	a->out[0].source.fn = on_terminal;
	*ret_fd = take_fd(&theirs);
	return 0;
}
