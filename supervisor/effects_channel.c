#include "supervisor/effects_channel.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/failpoint.h"
#include "base/io.h"
#include "supervisor/effects_request.h"

enum {
	QUEUE_MAX = 4096, /* messages to a courier that does not read; past it the channel ends */
	AGAIN_MS = 100, /* before a courier is told what the kernel had no memory to pass on */
};

struct effects_queued {
	struct effects_queued *next;
	char *data;
	size_t len;
	int fds[IO_FDS_MAX]; /* owned */
	size_t fd_count;
};

static void queued_free(struct effects_queued *q)
{
	for (size_t i = 0; i < q->fd_count; i++)
		close(q->fds[i]);
	if (q->data)
		explicit_bzero(q->data, q->len); /* an ATTEMPT carries secrets */
	free(q->data);
	free(q);
}

void effects_channel_free(struct effects_channel *c)
{
	for (struct effects_queued *q = c->queue, *next; q; q = next) {
		next = q->next;
		queued_free(q);
	}
	for (struct effects_request *r = c->requests, *next; r; r = next) {
		next = r->next;
		free(r);
	}
	for (struct effects_policy *p = c->policies, *next; p; p = next) {
		next = p->next;
		policy_effective_free(p->policy);
		free(p);
	}
	if (c->read)
		event_free(c->read);
	if (c->write)
		event_free(c->write);
	if (c->again)
		event_free(c->again);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

struct effects_channel *effects_channel_of(const struct daemon *d, const struct journal_id *run)
{
	struct effects_channel *c = d->effects ? d->effects->channels : NULL;

	while (c && !journal_id_equal(&c->run, run))
		c = c->next;
	return c;
}

void effects_channel_drop(struct daemon *d, struct effects_channel *c)
{
	for (struct effects_channel **at = &d->effects->channels; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	effects_channel_free(c);
}

void effects_channel_ended(struct daemon *d, struct effects_channel *c, const char *why)
{
	struct journal_id run = c->run;
	char id[JOURNAL_ID_TEXT_SIZE];

	daemon_log(d, "the courier of run %.8s: %s", journal_id_text(&run, id), why);
	effects_channel_drop(d, c);
	if (d->effects->hooks.closed)
		d->effects->hooks.closed(d, &run);
}

static void arm_write(struct effects_channel *c)
{
	if (c->queue && !event_pending(c->write, EV_WRITE, NULL))
		event_add(c->write, NULL);
}

/* The machine is short of something, which says nothing of the courier: unix(7) has no event for
 * it. */
static bool is_short(ssize_t n)
{
	return n == -ENOBUFS || n == -ENOMEM || n == -ETOOMANYREFS;
}

/* 0, also where it waits for room: what is queued is told sooner or later, or the channel ends. */
static int send_queued(struct effects_channel *c)
{
	static const struct timeval again = {.tv_usec = AGAIN_MS * 1000};

	while (c->queue) {
		struct effects_queued *q = c->queue;
		ssize_t n = failpoint_hit("effect.tell");

		if (n == 0)
			n = io_send_fds(c->fd, q->data, q->len, q->fds, q->fd_count);
		if (n == -EAGAIN)
			break;
		if (is_short(n)) {
			event_add(c->again, &again);
			return 0;
		}
		if (n < 0)
			return (int)n;
		c->queue = q->next;
		if (!c->queue)
			c->queue_end = &c->queue;
		c->queue_count--;
		queued_free(q);
	}
	arm_write(c);
	return 0;
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
	struct effects_channel *c = arg;

	(void)fd;
	(void)what;
	if (send_queued(c) < 0)
		effects_channel_ended(c->d, c, "it does not take what it is told");
}

int effects_channel_say(struct effects_channel *c, const struct report_message *m, const int *fds,
			size_t fd_count)
{
	struct effects_queued *q = calloc(1, sizeof(*q));
	AUTO_BUFFER b = {.max = REPORT_DATAGRAM_MAX};
	/* a buffer that grows leaves copies behind */
	int rc = !q			     ? -ENOMEM
		 : m->type == REPORT_ATTEMPT ? buffer_reserve(&b, REPORT_DATAGRAM_MAX - 1)
					     : 0;

	if (rc == 0)
		rc = report_encode(m, &b);
	if (rc == 0 && (c->queue_count == QUEUE_MAX || fd_count > IO_FDS_MAX))
		rc = -ENOBUFS;
	for (size_t i = 0; rc == 0 && i < fd_count; i++) {
		q->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (q->fds[i] < 0)
			rc = -errno;
		else
			q->fd_count++;
	}
	if (rc < 0) {
		if (b.data)
			explicit_bzero(b.data, b.cap);
		if (q)
			queued_free(q);
		return rc;
	}
	q->data = buffer_take(&b, &q->len);
	if (!q->data) {
		queued_free(q);
		return -ENOMEM;
	}
	*c->queue_end = q;
	c->queue_end = &q->next;
	c->queue_count++;
	return send_queued(c);
}

void effects_channel_said(struct effects_channel *c, int rc, const char *what)
{
	if (rc < 0)
		daemon_log(c->d, "a courier cannot be told %s: %s", what, strerror(-rc));
}

int effects_channel_open(struct daemon *d, const struct journal_id *run, int fd,
			 event_callback_fn on_read, struct error *err)
{
	struct effects_channel *old = effects_channel_of(d, run), *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return error_nomem(err);
	}
	c->d = d;
	c->run = *run;
	c->fd = fd;
	c->queue_end = &c->queue;
	c->read = event_new(d->loop, fd, EV_READ | EV_PERSIST, on_read, c);
	c->write = event_new(d->loop, fd, EV_WRITE, on_write, c);
	c->again = evtimer_new(d->loop, on_write, c);
	if (!c->read || !c->write || !c->again || evutil_make_socket_nonblocking(fd) < 0 ||
	    event_add(c->read, NULL) < 0) {
		effects_channel_free(c);
		return error_nomem(err);
	}
	if (old)
		effects_channel_drop(d, old);
	c->next = d->effects->channels;
	d->effects->channels = c;
	return 0;
}
