/*
 * The way to the supervisor. What is open is not kept here as messages: at each attach it is said
 * again from the exchanges themselves, so nothing can be told twice differently. Only plain reads
 * are kept as such, up to a limit past which nothing more is done for anyone: what is not recorded
 * does not happen.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/io.h"
#include "base/utf8.h"
#include "sandbox/gate/courier.h"

enum {
	DELIVERED_KEPT = 1024,
	DRAINED_KEPT = 256,
	TEXT_CUT = 512,
	COUNTS_MAX =
		64, /* attempts whose refusals are counted while there is no room to list them */
	/* To a supervisor that does not read. All that can be open at once is far less; past it the
	 * next one hears all of that anew. */
	MESSAGES_MAX = 4 * COURIER_EXCHANGES_MAX,
	RING = COURIER_READS_MAX + COUNTS_MAX,
};

struct message {
	struct message *next;
	struct buffer bytes;
	int fd;
};

struct read {
	struct report_read r;
	uint64_t more; /* refusals that it stands for; 0 = it is one itself */
	char method[32], host[256], path[TEXT_CUT], rule[160], why[256];
};

struct report {
	struct courier *c;
	int fd;
	struct event *in, *out, *batch;
	struct message *first, **last;
	size_t message_count;
	struct read *reads; /* ring of RING */
	size_t read_at, read_count;
	uint8_t delivered[DELIVERED_KEPT][16];
	size_t delivered_count;
	uint8_t drained[DRAINED_KEPT][16];
	size_t drained_count;
	struct vault inbox; /* secrets pass through it */
};

static void flush(struct report *r);
static void say_batch(struct report *r, bool now);

static void detach(struct report *r)
{
	struct message *m;

	while ((m = r->first)) {
		r->first = m->next;
		buffer_free(&m->bytes);
		close_fd(&m->fd);
		free(m);
	}
	r->last = &r->first;
	r->message_count = 0;
	if (r->in)
		event_free(r->in);
	if (r->out)
		event_free(r->out);
	r->in = r->out = NULL;
	close_fd(&r->fd);
}

static void on_out(evutil_socket_t fd, short what, void *arg)
{
	struct report *r = arg;

	(void)fd;
	(void)what;
	flush(r);
	say_batch(r, false); /* what waited for room */
}

static void flush(struct report *r)
{
	while (r->first) {
		struct message *m = r->first;
		ssize_t n = io_send_fds(r->fd, m->bytes.data, m->bytes.len, &m->fd, m->fd >= 0);

		if (n == -EAGAIN || n == -ETOOMANYREFS) {
			(void)event_add(r->out, NULL);
			return;
		}
		if (n < 0) {
			detach(r); /* it died; the next one hears all that is open */
			return;
		}
		r->first = m->next;
		r->message_count--;
		if (!r->first)
			r->last = &r->first;
		buffer_free(&m->bytes);
		close_fd(&m->fd);
		free(m);
	}
}

/* fd is borrowed; -1 = none. */
static void say(struct report *r, const struct report_message *m, int fd)
{
	struct message *q;

	if (r->fd < 0)
		return;
	if (r->message_count == MESSAGES_MAX) {
		detach(r);
		return;
	}
	q = calloc(1, sizeof(*q));
	if (!q || report_encode(m, &q->bytes) < 0 ||
	    (q->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1, fd >= 0 && q->fd < 0)) {
		if (q)
			buffer_free(&q->bytes);
		free(q);
		detach(r); /* said again to the next */
		return;
	}
	*r->last = q;
	r->last = &q->next;
	r->message_count++;
	if (r->first == q)
		flush(r);
}

/* ---- what is open ---- */

void report_propose(struct report *r, struct exchange *x)
{
	struct report_message m = {.type = REPORT_PROPOSE};
	AUTO_BUFFER names = {.max = REPORT_TEXT_MAX};

	for (size_t i = 0; i < x->request.dropped_count && !names.failed; i++) {
		struct bytes name = x->request.dropped[i];

		(void)buffer_printf(&names, "%s%.*s", i ? ", " : "", (int)name.len,
				    (const char *)name.data);
	}
	m.propose.names = buffer_bytes(&names);
	m.propose.reason = x->request.reason;
	m.propose.request = x->number;
	memcpy(m.propose.attempt, x->attempt_id, sizeof(m.propose.attempt));
	m.propose.action = buffer_bytes(&x->canonical);
	m.propose.dropped = (uint32_t)x->request.dropped_count;
	say(r, &m, x->action.has_body ? x->body : -1);
}

void report_result(struct report *r, struct exchange *x)
{
	struct report_message m = {.type = REPORT_RESULT};
	bool body = x->outcome == REPORT_CONFIRMED && x->spool_len && !x->too_long;

	m.result.request = x->number;
	memcpy(m.result.effect, x->effect_id, sizeof(m.result.effect));
	m.result.outcome = x->outcome;
	if (x->outcome == REPORT_CONFIRMED) {
		m.result.status = x->response.status;
		memcpy(m.result.headers, x->response.headers, sizeof(m.result.headers));
		m.result.header_count = x->response.header_count;
		m.result.too_long = x->too_long;
	} else {
		m.result.why = bytes_str(x->why);
	}
	m.result.sent = x->sent;
	m.result.received = x->received;
	say(r, &m, body ? x->spool : -1);
}

void report_cut(struct report *r, uint64_t request)
{
	struct report_message m = {.type = REPORT_CUT, .request = request};

	say(r, &m, -1);
}

void report_delivered(struct report *r, const uint8_t *effect)
{
	struct report_message m = {.type = REPORT_DELIVERED};

	memcpy(m.effect, effect, sizeof(m.effect));
	memcpy(r->delivered[r->delivered_count++ % DELIVERED_KEPT], effect, 16);
	say(r, &m, -1);
}

static void say_hello(struct report *r)
{
	struct report_message m = {.type = REPORT_HELLO};
	AUTO_FREE uint8_t(*sending)[16] = calloc(REPORT_SENDING_MAX, sizeof(*sending));

	if (!sending) {
		detach(r);
		return;
	}
	memcpy(m.hello.run, r->c->run, sizeof(m.hello.run));
	memcpy(m.hello.instance, r->c->instance, sizeof(m.hello.instance));
	m.hello.sending = (const uint8_t(*)[16])sending;
	for (const struct exchange *x = r->c->exchanges; x; x = x->next)
		if (x->effect && m.hello.sending_count < REPORT_SENDING_MAX &&
		    (x->state == EXCHANGE_DIALING || x->state == EXCHANGE_SENDING ||
		     x->result == EXCHANGE_SAID))
			memcpy(sending[m.hello.sending_count++], x->effect_id, 16);
	say(r, &m, -1);
}

static void say_open(struct report *r)
{
	size_t kept = r->delivered_count < DELIVERED_KEPT ? r->delivered_count : DELIVERED_KEPT;
	struct report_message m = {.type = REPORT_DELIVERED};

	say_hello(r);
	for (struct exchange *x = r->c->exchanges; x; x = x->next) {
		if (!x->number)
			continue;
		if (x->result == EXCHANGE_SAID)
			report_result(r, x);
		else if (x->state == EXCHANGE_ASKED)
			report_propose(r, x);
		else
			continue;
		if (!x->channel)
			report_cut(r, x->number);
	}
	/* One that died may not have written them down. */
	for (size_t i = 0; i < kept; i++) {
		memcpy(m.effect, r->delivered[i], sizeof(m.effect));
		say(r, &m, -1);
	}
}

/* ---- reads ---- */

bool report_full(const struct report *r)
{
	return r->read_count >= COURIER_READS_MAX;
}

/* Reads stay where their number is limited while the supervisor has no room for them; now: all of
 * them are said, since what is said next is only true after them. */
static void say_batch(struct report *r, bool now)
{
	struct report_read items[REPORT_READS_MAX] UNINITIALIZED;
	struct report_message m = {.type = REPORT_READS, .reads.items = items};

	while (r->read_count && r->fd >= 0 && (now || !r->first)) {
		size_t n = r->read_count < REPORT_READS_MAX ? r->read_count : REPORT_READS_MAX;

		for (size_t i = 0; i < n; i++) {
			struct read *d = &r->reads[(r->read_at + i) % RING];

			if (d->more)
				snprintf(d->why, sizeof(d->why),
					 "%" PRIu64 " more were refused, too many to be told one "
					 "by one while no supervisor heard it",
					 d->more);
			items[i] = d->r;
			items[i].method = bytes_str(d->method);
			items[i].host = bytes_str(d->host);
			items[i].path = bytes_str(d->path);
			items[i].rule = bytes_str(d->rule);
			items[i].why = bytes_str(d->why);
		}
		m.reads.count = n;
		say(r, &m, -1);
		if (r->fd < 0)
			return;
		r->read_at = (r->read_at + n) % RING;
		r->read_count -= n;
	}
}

/* The first read after a pause is told at once, so that the last one of a short step is in its record;
 * those that follow closely wait for each other. */
static void batch_soon(struct report *r)
{
	struct timeval window = {.tv_usec = REPORT_READS_EVERY_MS * 1000};

	if (r->read_count >= REPORT_READS_MAX)
		say_batch(r, false);
	if (r->read_count == 0 || r->fd < 0 || evtimer_pending(r->batch, NULL))
		return;
	say_batch(r, false);
	(void)evtimer_add(r->batch, &window);
}

static void on_batch(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	batch_soon(arg);
}

void report_flush(struct report *r)
{
	say_batch(r, false);
}

static void say_drained(struct report *r, const uint8_t *attempt)
{
	struct report_message m = {.type = REPORT_DRAINED};

	memcpy(m.attempt_end, attempt, sizeof(m.attempt_end));
	say(r, &m, -1);
}

void report_drained(struct report *r, const uint8_t *attempt)
{
	memcpy(r->drained[r->drained_count++ % DRAINED_KEPT], attempt, 16);
	say_batch(r, true);
	say_drained(r, attempt);
}

static struct read *next_read(struct report *r)
{
	struct read *d = &r->reads[(r->read_at + r->read_count++) % RING];

	memset(d, 0, sizeof(*d));
	return d;
}

/* Where there is no room for one refusal more: the attempt's number of them, behind all that waits.
 * A run has far fewer attempts at a time than COUNTS_MAX. */
static void count_refused(struct report *r, const uint8_t *attempt, int64_t wall_ns, int kind)
{
	struct read *d;

	for (size_t i = COURIER_READS_MAX; i < r->read_count; i++) {
		d = &r->reads[(r->read_at + i) % RING];
		if (memcmp(d->r.attempt, attempt, sizeof(d->r.attempt)) == 0) {
			d->more++;
			return;
		}
	}
	if (r->read_count == RING)
		return;
	d = next_read(r);
	d->more = 1;
	d->r.wall_ns = wall_ns;
	d->r.kind = kind;
	d->r.denied = true;
	memcpy(d->r.attempt, attempt, sizeof(d->r.attempt));
}

void report_refused(struct report *r, const struct frames_note *n)
{
	struct timespec now;
	struct read *d;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (report_full(r)) {
		count_refused(r, n->attempt, now.tv_sec * 1000000000LL + now.tv_nsec, ACTION_TCP);
		return;
	}
	d = next_read(r);
	d->r.wall_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
	d->r.kind = n->kind == FRAMES_NOTE_HTTP ? ACTION_HTTP : ACTION_TCP;
	d->r.denied = true;
	d->r.port = n->port;
	memcpy(d->r.attempt, n->attempt, sizeof(d->r.attempt));
	utf8_copy(d->host, sizeof(d->host), n->host);
	utf8_copy(d->why, sizeof(d->why), n->why);
	batch_soon(r);
}

/* A call as its step would write it; what is no call at all, as it came. */
static void copy_call(struct read *d, const struct exchange *x)
{
	const struct action *a = &x->action, *q = &x->request.action;
	AUTO_BUFFER text = {0};

	if (a->kind == ACTION_TOOL) {
		utf8_copy(d->method, sizeof(d->method), bytes_str("tool"));
		buffer_append(&text, a->tool.data, a->tool.len);
		for (size_t i = 0; i < a->arg_count && text.len < TEXT_CUT; i++)
			buffer_printf(&text, " %.*s=%.*s", (int)a->args[i].name.len,
				      (const char *)a->args[i].name.data, (int)a->args[i].value.len,
				      (const char *)a->args[i].value.data);
	} else {
		utf8_copy(d->method, sizeof(d->method), q->method);
		utf8_copy(d->host, sizeof(d->host), q->host);
		buffer_append(&text, q->path.data, q->path.len);
	}
	utf8_copy(d->path, sizeof(d->path), text.failed ? bytes_of("", 0) : buffer_bytes(&text));
}

void report_note(struct report *r, const struct exchange *x, bool denied, int status,
		 const char *why)
{
	const struct action *a = &x->action;
	struct read *d;

	if (report_full(r)) { /* exchange.c refuses before: only what was under way comes here */
		if (denied)
			count_refused(r, x->attempt_id, x->wall_ns, a->kind);
		return;
	}
	d = next_read(r);
	*d = (struct read){.r = {.wall_ns = x->wall_ns,
				 .kind = a->kind,
				 .denied = denied,
				 .status = status,
				 .port = a->port,
				 .sent = x->sent,
				 .received = x->received,
				 .duration_us = (uint64_t)(courier_mono_us() - x->started_us)}};
	memcpy(d->r.attempt, x->attempt_id, sizeof(d->r.attempt));
	if (bytes_equal(x->request.action.host, bytes_str(ACTION_TOOLS_HOST))) {
		copy_call(d, x);
	} else {
		utf8_copy(d->method, sizeof(d->method), a->method);
		utf8_copy(d->host, sizeof(d->host), a->host);
		utf8_copy(d->path, sizeof(d->path), a->path);
	}
	utf8_copy(d->rule, sizeof(d->rule), bytes_str(x->decision.rule));
	utf8_copy(d->why, sizeof(d->why), bytes_str(why));
	batch_soon(r);
}

/* ---- what the supervisor says ---- */

static void forward(struct courier *c, const struct report_message *m, const int *fds, size_t n);

static void on_in(evutil_socket_t fd, short what, void *arg)
{
	struct report *r = arg;
	struct report_message *m = calloc(1, sizeof(*m));
	int fds[IO_FDS_MAX];
	size_t fd_count = 0;
	ssize_t n;

	(void)what;
	n = m ? io_recv_fds(fd, r->inbox.data, REPORT_DATAGRAM_MAX, fds, &fd_count) : -ENOMEM;
	if (n > 0 && report_decode(bytes_of(r->inbox.data, (size_t)n), m) == 0)
		forward(r->c, m, fds, fd_count);
	else if (n != -EAGAIN)
		detach(r);
	if (n > 0)
		explicit_bzero(r->inbox.data, (size_t)n);
	for (size_t i = 0; i < fd_count; i++)
		close_fd(&fds[i]);
	free(m);
}

static void forward(struct courier *c, const struct report_message *m, const int *fds, size_t n)
{
	switch (m->type) {
	case REPORT_SETTINGS:
		if (names_resolvers(c->names, m->settings.resolvers) < 0)
			dprintf(2, "courier: a resolver of the settings is no address\n");
		return;
	case REPORT_ATTEMPT:
		courier_attempt(c, &m->attempt, fds, n);
		return;
	case REPORT_ATTEMPT_END:
		courier_attempt_end(c, m->attempt_end);
		return;
	case REPORT_ANSWER:
		exchange_answer(c, &m->answer, fds, n);
		return;
	case REPORT_RELEASE:
		exchange_release(c, m->effect);
		return;
	case REPORT_HELLO:
	case REPORT_PROPOSE:
	case REPORT_READS:
	case REPORT_RESULT:
	case REPORT_DELIVERED:
	case REPORT_CUT:
	case REPORT_DRAINED:
		return; /* those are ours to say */
	}
}

void report_attach(struct report *r, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	detach(r);
	(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	r->fd = fd;
	r->in = event_new(r->c->base, fd, EV_READ | EV_PERSIST, on_in, r);
	r->out = event_new(r->c->base, fd, EV_WRITE, on_out, r);
	if (!r->in || !r->out || event_add(r->in, NULL) < 0) {
		detach(r);
		return;
	}
	say_open(r);
	say_batch(r, r->drained_count > 0);
	/* One that died may not have heard it. */
	for (size_t i = 0; i < r->drained_count && i < DRAINED_KEPT; i++)
		say_drained(r, r->drained[i]);
}

int report_new(struct courier *c, struct report **ret)
{
	struct report *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->c = c;
	r->fd = -1;
	r->last = &r->first;
	r->reads = calloc(RING, sizeof(*r->reads));
	r->batch = evtimer_new(c->base, on_batch, r);
	if (!r->reads || !r->batch) {
		free(r->reads);
		free(r);
		return -ENOMEM;
	}
	AUTO_FREE uint8_t *zero = calloc(1, REPORT_DATAGRAM_MAX);
	if (!zero || vault_put(&r->inbox, bytes_of(zero, REPORT_DATAGRAM_MAX)) < 0)
		return -ENOMEM;
	*ret = r;
	return 0;
}
