/* A client's connection as the gate tells it: frames in, frames out, one exchange at a time. */
#include <stdlib.h>
#include <sys/socket.h>
#include "sandbox/gate/courier.h"

static void take_frames(struct channel *ch);

static void unlink_channel(struct channel *ch)
{
	for (struct channel **at = &ch->c->channels; *at; at = &(*at)->next)
		if (*at == ch) {
			*at = ch->next;
			ch->c->channel_count--;
			return;
		}
}

void channel_break(struct channel *ch)
{
	if (ch->dead)
		return;
	ch->dead = true;
	stream_free(ch->stream);
	ch->stream = NULL;
	courier_bury_soon(ch->c);
}

void channel_close(struct channel *ch)
{
	struct exchange *x = ch->x;

	channel_break(ch);
	unlink_channel(ch);
	ch->next = ch->c->closed;
	ch->c->closed = ch;
	ch->x = NULL;
	if (x) {
		x->channel = NULL;
		exchange_client_gone(x);
	}
}

void channel_bury(struct courier *c)
{
	for (struct channel *ch = c->channels, *next; ch; ch = next) {
		next = ch->next;
		if (ch->dead)
			channel_close(ch);
	}
	for (struct channel *ch; (ch = c->closed);) {
		c->closed = ch->next;
		free(ch);
	}
}

void channel_close_attempt(struct courier *c, const uint8_t *id)
{
	for (struct channel *ch = c->channels, *next; ch; ch = next) {
		next = ch->next;
		if (memcmp(ch->attempt, id, 16) == 0)
			channel_close(ch);
	}
}

/* ---- out ---- */

void channel_send(struct channel *ch, enum frames_type type, struct bytes body)
{
	uint8_t head[FRAMES_HEADER];
	struct evbuffer *out;

	if (ch->dead)
		return;
	out = stream_out(ch->stream);
	frames_header_encode(type, (uint32_t)body.len, head);
	(void)evbuffer_add(out, head, sizeof(head));
	(void)evbuffer_add(out, body.data, body.len);
}

void channel_send_raw(struct channel *ch, enum frames_type type, struct evbuffer *from, size_t len)
{
	uint8_t head[FRAMES_HEADER];

	while (len > 0 && !ch->dead) {
		size_t n = len < FRAMES_RAW_MAX ? len : FRAMES_RAW_MAX;
		struct evbuffer *out = stream_out(ch->stream);

		frames_header_encode(type, (uint32_t)n, head);
		(void)evbuffer_add(out, head, sizeof(head));
		(void)evbuffer_remove_buffer(from, out, n);
		len -= n;
	}
}

void channel_refuse(struct channel *ch, int status, struct bytes json)
{
	struct frames_refusal r = {status, json};
	AUTO_BUFFER out = {0};

	if (frames_refusal_encode(&r, &out) < 0)
		channel_break(ch);
	else
		channel_send(ch, FRAMES_REFUSED, buffer_bytes(&out));
}

size_t channel_waiting(const struct channel *ch)
{
	return ch->dead ? 0 : evbuffer_get_length(stream_out(ch->stream));
}

void channel_stop(struct channel *ch, bool stop)
{
	if (ch->dead || ch->stopped == stop)
		return;
	ch->stopped = stop;
	stream_read(ch->stream, !stop);
	if (!stop && evbuffer_get_length(stream_in(ch->stream)))
		stream_wake(ch->stream);
}

void channel_done(struct channel *ch)
{
	ch->x = NULL;
	channel_stop(ch, false);
	if (!ch->dead && evbuffer_get_length(stream_in(ch->stream)))
		stream_wake(ch->stream); /* what came meanwhile */
}

/* ---- in ---- */

static int begin(struct channel *ch, enum frames_type type, struct bytes body)
{
	struct exchange *x;

	if (ch->x || ch->discard)
		return -EPROTO;
	x = exchange_new(ch);
	if (!x)
		return -ENOMEM;
	ch->x = x;
	if (buffer_append(&x->head, body.data, body.len) < 0)
		return -ENOMEM;
	if (type == FRAMES_REQUEST)
		exchange_request(x);
	else
		exchange_tunnel(x);
	return 0;
}

static int take(struct channel *ch, enum frames_type type, struct bytes body)
{
	switch (type) {
	case FRAMES_REQUEST:
	case FRAMES_TUNNEL:
		return begin(ch, type, body);
	case FRAMES_BODY:
		if (ch->x && ch->x->state == EXCHANGE_BODY)
			exchange_body(ch->x, body);
		else if (!ch->discard)
			return -EPROTO;
		return 0;
	case FRAMES_BODY_END:
		if (ch->x && ch->x->state == EXCHANGE_BODY)
			exchange_body_end(ch->x);
		else if (!ch->discard)
			return -EPROTO;
		ch->discard = false;
		return 0;
	case FRAMES_DATA:
		if (!ch->x)
			return -EPROTO;
		tunnel_data(ch->x, body);
		return 0;
	case FRAMES_DATA_END:
		if (ch->x)
			tunnel_data_end(ch->x);
		return 0;
	case FRAMES_RESPONSE:
	case FRAMES_REFUSED:
	case FRAMES_TUNNEL_OPEN:
	case FRAMES_ABORT:
		break; /* those are ours to say */
	}
	return -EPROTO;
}

/* A request that comes while one is answered waits in the buffer. */
static bool must_wait(const struct channel *ch, enum frames_type type)
{
	return (type == FRAMES_REQUEST || type == FRAMES_TUNNEL) && ch->x;
}

static void take_frames(struct channel *ch)
{
	while (!ch->dead && !ch->stopped) {
		struct evbuffer *in = stream_in(ch->stream);
		uint8_t head[FRAMES_HEADER];
		struct frames_header h;
		struct bytes body;
		int r;

		if (evbuffer_copyout(in, head, sizeof(head)) < (ssize_t)sizeof(head))
			return;
		r = frames_header_decode(head, &h);
		if (r == 0 && evbuffer_get_length(in) < FRAMES_HEADER + h.length)
			return;
		if (r == 0 && must_wait(ch, h.type))
			return;
		if (r == 0) {
			uint8_t *whole = evbuffer_pullup(in, FRAMES_HEADER + (ssize_t)h.length);

			body = bytes_of(whole ? whole + FRAMES_HEADER : NULL, h.length);
			r = whole ? take(ch, h.type, body) : -ENOMEM;
		}
		if (ch->dead)
			return;
		if (r < 0) {
			channel_close(ch);
			return;
		}
		(void)evbuffer_drain(in, FRAMES_HEADER + h.length);
	}
}

static void on_input(void *arg)
{
	take_frames(arg);
}

static void on_drained(void *arg)
{
	struct channel *ch = arg;

	if (ch->x)
		exchange_client_drained(ch->x);
}

static void on_ended(void *arg, enum stream_end how)
{
	(void)how;
	channel_close(arg);
}

int channel_open(struct courier *c, const struct frames_open *o, int fd)
{
	static const struct stream_user user = {NULL, on_input, on_drained, on_ended};
	struct channel *ch;

	if (c->channel_count >= COURIER_CHANNELS_MAX)
		return -EMFILE;
	ch = calloc(1, sizeof(*ch));
	if (!ch)
		return -ENOMEM;
	ch->c = c;
	ch->connection = o->connection;
	memcpy(ch->attempt, o->attempt, sizeof(ch->attempt));
	(void)evutil_make_socket_nonblocking(fd);
	ch->stream = stream_new(c->base, fd, FRAMES_HEADER + FRAMES_CBOR_MAX + 1, COURIER_OUT_LOW,
				&user, ch);
	if (!ch->stream) {
		free(ch);
		return -ENOMEM;
	}
	ch->next = c->channels;
	c->channels = ch;
	c->channel_count++;
	return 0;
}
