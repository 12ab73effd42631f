#include "sandbox/gate/stream.h"
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
	READ_MIN = 4 * 1024, /* bytes of one read: as many as the last ones suggest */
	READ_MAX = 128 * 1024,
	RECORD = 16 * 1024, /* of TLS */
};

struct stream {
	struct event_base *base;
	const struct stream_user *user;
	void *arg;
	struct evbuffer *in, *out;
	struct event *read, *write, *timer;
	SSL *ssl;
	unsigned long tls_error;
	int fd;
	size_t in_max, out_low, next_read;
	bool reading; /* wanted by its user */
	bool shaking; /* TLS is not up yet */
	bool waked;
	bool has_end; /* `end` is to be told, behind what came before it */
	bool told; /* it was: nothing is read any more */
	bool over; /* and nothing written */
	enum stream_end end;
	unsigned timeout_s;
	int64_t moved_ms; /* when something last did, where there is a timeout */
};

/* ---- when ---- */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void note_moved(struct stream *s)
{
	if (s->timeout_s)
		s->moved_ms = now_ms();
}

static void arm(struct stream *s, int64_t left_ms)
{
	struct timeval t = {.tv_sec = left_ms / 1000, .tv_usec = left_ms % 1000 * 1000};

	(void)event_add(s->timer, &t);
}

/* The timer is not moved for each byte: it looks what moved since. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;
	int64_t left_ms;

	(void)fd;
	(void)what;
	if (!s->timeout_s || s->over)
		return;
	left_ms = s->timeout_s * 1000LL - (now_ms() - s->moved_ms);
	if (left_ms > 0)
		arm(s, left_ms);
	else
		s->user->ended(s->arg, STREAM_QUIET);
}

void stream_timeout(struct stream *s, unsigned seconds)
{
	bool sooner = seconds && (seconds < s->timeout_s || !s->timeout_s);

	s->timeout_s = seconds;
	note_moved(s);
	if (sooner || (seconds && !event_pending(s->timer, EV_TIMEOUT, NULL)))
		arm(s, seconds * 1000LL);
}

/* ---- reading ---- */

static void want_input(struct stream *s)
{
	if (s->told || !s->reading || evbuffer_get_length(s->in) >= s->in_max) {
		(void)event_del(s->read); /* which forgets that it is active */
		if (s->waked || (s->has_end && !s->told))
			event_active(s->read, EV_READ, 0);
		return;
	}
	if (!event_pending(s->read, EV_READ, NULL) && event_add(s->read, NULL) == 0 && s->ssl)
		event_active(s->read, EV_READ, 0); /* a record may be here already */
}

static void on_in_changed(struct evbuffer *in, const struct evbuffer_cb_info *info, void *arg)
{
	struct stream *s = arg;

	/* Only who was full, or becomes it, has something to change with epoll. */
	if ((info->orig_size >= s->in_max) != (evbuffer_get_length(in) >= s->in_max))
		want_input(s);
}

/* A broken one ends a second time, if only its other way was ended. */
static void set_end(struct stream *s, enum stream_end end)
{
	if (s->has_end && !(end == STREAM_BROKEN && s->end == STREAM_CLOSED))
		return;
	s->has_end = true;
	s->told = false;
	s->end = end;
}

/* Whether it is the socket that takes no more. */
static bool tls_stopped(struct stream *s, int r)
{
	switch (SSL_get_error(s->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		return false;
	case SSL_ERROR_WANT_WRITE:
		return true;
	case SSL_ERROR_ZERO_RETURN:
		set_end(s, STREAM_CLOSED);
		return false;
	default:
		s->tls_error = ERR_peek_last_error();
		ERR_clear_error();
		set_end(s, STREAM_BROKEN);
		return false;
	}
}

static ssize_t read_plain(struct stream *s, struct evbuffer_iovec *v, int n)
{
	struct iovec io[2];
	ssize_t r;

	for (int i = 0; i < n; i++)
		io[i] = (struct iovec){v[i].iov_base, v[i].iov_len};
	r = readv(s->fd, io, n);
	if (r == 0)
		set_end(s, STREAM_CLOSED);
	else if (r < 0 && errno != EAGAIN && errno != EINTR)
		set_end(s, STREAM_BROKEN);
	return r;
}

static ssize_t read_tls(struct stream *s, struct evbuffer_iovec *v)
{
	int r, size = v->iov_len > READ_MAX ? READ_MAX : (int)v->iov_len;

	ERR_clear_error();
	r = SSL_read(s->ssl, v->iov_base, size);
	if (r <= 0 && tls_stopped(s, r))
		(void)event_add(s->write, NULL);
	return r;
}

/* One piece; false: there is no more now. */
static bool fill(struct stream *s)
{
	size_t have = evbuffer_get_length(s->in), room = 0;
	struct evbuffer_iovec v[2];
	ssize_t got;
	int n;

	if (have >= s->in_max)
		return false;
	if (s->next_read > s->in_max - have)
		s->next_read = s->in_max - have;
	n = evbuffer_reserve_space(s->in, (ev_ssize_t)s->next_read, v, s->ssl ? 1 : 2);
	if (n <= 0) {
		set_end(s, STREAM_BROKEN);
		return false;
	}
	/* Of what a buffer has to spare, no more than is asked for. */
	for (int i = 0; i < n; i++) {
		if (v[i].iov_len > s->next_read - room)
			v[i].iov_len = s->next_read - room;
		room += v[i].iov_len;
	}
	got = s->ssl ? read_tls(s, v) : read_plain(s, v, n);
	if (got <= 0)
		return false;
	for (int i = 0, left = (int)got; i < n; i++) {
		if (v[i].iov_len > (size_t)left)
			v[i].iov_len = (size_t)left;
		left -= (int)v[i].iov_len;
	}
	(void)evbuffer_commit_space(s->in, v, n);
	if ((size_t)got == room || (s->ssl && SSL_has_pending(s->ssl)))
		s->next_read = s->next_read * 4 < READ_MAX ? s->next_read * 4 : READ_MAX;
	else if ((size_t)got < room / 4)
		s->next_read = READ_MIN;
	/* Of TLS what was read ahead; the rest epoll tells. */
	return s->ssl && SSL_has_pending(s->ssl);
}

/* Who sends no more may still read: only what is broken takes nothing any more. */
static void tell_end(struct stream *s)
{
	s->told = true;
	s->over = s->end == STREAM_BROKEN;
	(void)event_del(s->read);
	if (s->over)
		(void)event_del(s->write);
	s->user->ended(s->arg, s->end);
}

static void shake(struct stream *s)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(s->ssl);
	note_moved(s);
	if (r == 1) {
		s->shaking = false;
		/* What was put out meanwhile, and what came with the last flight. */
		event_active(s->write, EV_WRITE, 0);
		event_active(s->read, EV_READ, 0);
		s->user->ready(s->arg);
		return;
	}
	if (tls_stopped(s, r))
		(void)event_add(s->write, NULL);
	if (s->has_end)
		tell_end(s);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;
	size_t before = evbuffer_get_length(s->in);
	bool waked = s->waked;

	(void)fd;
	(void)what;
	s->waked = false;
	if (s->shaking) {
		shake(s);
		return;
	}
	if (!waked && s->reading && !s->has_end) {
		while (fill(s))
			;
		note_moved(s);
	}
	if (s->has_end && !s->told && evbuffer_get_length(s->in) == before && !waked) {
		tell_end(s);
		return;
	}
	if (s->has_end && !s->told) /* behind what came with it */
		event_active(s->read, EV_READ, 0);
	if (waked || evbuffer_get_length(s->in) > before)
		s->user->input(s->arg);
}

void stream_read(struct stream *s, bool on)
{
	if (s->reading == on)
		return;
	s->reading = on;
	want_input(s);
}

void stream_wake(struct stream *s)
{
	s->waked = true;
	event_active(s->read, EV_READ, 0);
}

/* ---- writing ---- */

static void on_out_changed(struct evbuffer *out, const struct evbuffer_cb_info *info, void *arg)
{
	struct stream *s = arg;

	(void)out;
	if (info->n_added && !s->over && !event_pending(s->write, EV_WRITE, NULL))
		event_active(s->write, EV_WRITE, 0);
}

/* Whether the socket takes no more now. */
static bool write_tls(struct stream *s)
{
	size_t len;

	while ((len = evbuffer_get_length(s->out)) > 0) {
		unsigned char *data;
		int r;

		len = len > RECORD ? RECORD : len;
		data = evbuffer_pullup(s->out, (ev_ssize_t)len);
		ERR_clear_error();
		r = data ? SSL_write(s->ssl, data, (int)len) : -1;
		if (r <= 0)
			return tls_stopped(s, r);
		(void)evbuffer_drain(s->out, (size_t)r);
	}
	return false;
}

static bool write_plain(struct stream *s)
{
	if (evbuffer_get_length(s->out) && evbuffer_write(s->out, s->fd) < 0 && errno != EAGAIN &&
	    errno != EINTR)
		set_end(s, STREAM_BROKEN);
	return evbuffer_get_length(s->out) > 0;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;
	bool blocked;

	(void)fd;
	(void)what;
	if (s->over)
		return;
	if (s->shaking) {
		shake(s);
		return;
	}
	blocked = s->ssl ? write_tls(s) : write_plain(s);
	note_moved(s);
	if (s->has_end && s->end == STREAM_BROKEN) {
		tell_end(s);
		return;
	}
	if (blocked)
		(void)event_add(s->write, NULL);
	if (evbuffer_get_length(s->out) <= s->out_low)
		s->user->drained(s->arg);
}

/* ---- life ---- */

struct stream *stream_new(struct event_base *base, int fd, size_t in_max, size_t out_low,
			  const struct stream_user *user, void *arg)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->base = base;
	s->user = user;
	s->arg = arg;
	s->fd = -1;
	s->in_max = in_max;
	s->out_low = out_low;
	s->next_read = READ_MIN;
	s->reading = true;
	s->in = evbuffer_new();
	s->out = evbuffer_new();
	s->read = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, s);
	s->write = event_new(base, fd, EV_WRITE, on_writable, s);
	s->timer = evtimer_new(base, on_timer, s);
	if (!s->in || !s->out || !s->read || !s->write || !s->timer ||
	    !evbuffer_add_cb(s->in, on_in_changed, s) ||
	    !evbuffer_add_cb(s->out, on_out_changed, s) || event_add(s->read, NULL) < 0) {
		stream_free(s);
		return NULL;
	}
	s->fd = fd;
	return s;
}

void stream_tls(struct stream *s, SSL *ssl)
{
	s->ssl = ssl;
	s->shaking = true;
	SSL_set_connect_state(ssl);
	if (SSL_set_fd(ssl, s->fd) != 1)
		set_end(s, STREAM_BROKEN);
	event_active(s->write, EV_WRITE, 0);
}

SSL *stream_ssl(const struct stream *s)
{
	return s->ssl;
}

unsigned long stream_tls_error(const struct stream *s)
{
	return s->tls_error;
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	if (s->read)
		event_free(s->read);
	if (s->write)
		event_free(s->write);
	if (s->timer)
		event_free(s->timer);
	SSL_free(s->ssl);
	if (s->in)
		evbuffer_free(s->in);
	if (s->out)
		evbuffer_free(s->out);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

struct evbuffer *stream_in(struct stream *s)
{
	return s->in;
}

struct evbuffer *stream_out(struct stream *s)
{
	return s->out;
}

int stream_fd(const struct stream *s)
{
	return s->fd;
}
