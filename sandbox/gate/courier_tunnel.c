/*
 * Opaque streams: tcp, TLS that is passed through, and a WebSocket after its 101. Back-pressure
 * both ways, half closes where the other side is plain TCP. Its outcome is how many bytes went
 * which way; nothing of it is kept.
 */
#include <stdio.h>
#include "sandbox/gate/courier.h"

static void finish(struct exchange *x)
{
	struct channel *ch = x->channel;

	upstream_close(x->up);
	x->up = NULL;
	x->channel = NULL;
	if (ch) {
		ch->x = NULL;
		if (!x->server_ended)
			channel_break(ch);
	}
	exchange_finished(x);
}

int tunnel_start(struct exchange *x)
{
	upstream_quiet(x->up, 0);
	decide_count_request(x->c);
	if (x->channel)
		channel_send(x->channel, FRAMES_TUNNEL_OPEN, (struct bytes){0});
	if (evbuffer_get_length(upstream_input(x->up)))
		tunnel_input(x);
	return 0;
}

void tunnel_upgraded(struct exchange *x)
{
	x->upgraded = true;
	upstream_quiet(x->up, 0);
	if (evbuffer_get_length(upstream_input(x->up)))
		tunnel_input(x);
}

void tunnel_data(struct exchange *x, struct bytes piece)
{
	struct evbuffer *out;

	/* Nothing may come before it is open, and nothing counts once it ended. */
	if (!(x->is_tunnel || x->upgraded) || x->state != EXCHANGE_SENDING || x->client_ended) {
		if (x->channel)
			channel_break(x->channel);
		return;
	}
	if (x->attempt->egress_left < piece.len) {
		snprintf(x->why, sizeof(x->why), "the run's egress limit is used up");
		finish(x);
		return;
	}
	out = upstream_output(x->up);
	if (evbuffer_add(out, piece.data, piece.len) < 0) {
		finish(x);
		return;
	}
	decide_count(x, piece.len, 0);
	if (evbuffer_get_length(out) > COURIER_OUT_HIGH && x->channel)
		channel_stop(x->channel, true);
}

void tunnel_data_end(struct exchange *x)
{
	if (!(x->is_tunnel || x->upgraded) || x->state != EXCHANGE_SENDING)
		return;
	x->client_ended = true;
	if (x->server_ended || x->upgraded)
		finish(x);
	else if (evbuffer_get_length(upstream_output(x->up)) == 0)
		upstream_shutdown(x->up);
}

void tunnel_drained(struct exchange *x)
{
	if (x->channel)
		channel_stop(x->channel, false);
	if (x->client_ended && x->up && evbuffer_get_length(upstream_output(x->up)) == 0)
		upstream_shutdown(x->up);
}

void tunnel_input(struct exchange *x)
{
	struct evbuffer *in = upstream_input(x->up);
	size_t n = evbuffer_get_length(in);

	decide_count(x, 0, n);
	if (!x->channel) {
		(void)evbuffer_drain(in, n);
		return;
	}
	if (x->scan) {
		const uint8_t *piece = evbuffer_pullup(in, (ssize_t)n);

		/* of a WebSocket that a secret opened */
		if (!piece || scan_feed(x->scan, bytes_of(piece, n)) ||
		    evbuffer_remove_buffer(in, x->pending, n) < 0) {
			snprintf(x->why, sizeof(x->why), "withheld: the stream holds the secret");
			finish(x);
			return;
		}
		in = x->pending;
		n = evbuffer_get_length(in);
		n -= scan_hold(x->scan) < n ? scan_hold(x->scan) : n;
	}
	channel_send_raw(x->channel, FRAMES_DATA, in, n);
	if (channel_waiting(x->channel) > COURIER_OUT_HIGH)
		upstream_read(x->up, false);
}

void tunnel_client_drained(struct exchange *x)
{
	if (x->up && x->state == EXCHANGE_SENDING && !x->server_ended)
		upstream_read(x->up, true);
}

void tunnel_closed(struct exchange *x, bool clean)
{
	if (evbuffer_get_length(upstream_input(x->up)))
		tunnel_input(x);
	if (x->state != EXCHANGE_SENDING) /* what came last ended it */
		return;
	if (clean && x->channel && !x->server_ended) {
		x->server_ended = true;
		channel_send(x->channel, FRAMES_DATA_END, (struct bytes){0});
	}
	/* Who was told of the end answers with one, or breaks the channel. */
	if (!clean || x->client_ended || x->upgraded || !x->channel)
		finish(x);
}
