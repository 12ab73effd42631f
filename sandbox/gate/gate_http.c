/*
 * HTTP/1.1 of one connection: a request is read, made canonical and handed to the courier, its
 * answer is written, then the next one. base/http1 is the parser for what comes in; what goes out
 * is written here, from parts that frames.c has checked.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include "sandbox/gate/gate.h"

enum {
	FIRST_BYTES = 24, /* to tell HTTP/2's preface */
	HEAD_USUAL = 1024, /* bytes of a request's frame: most need no more */
};

/* ---- what goes to the client ---- */

static void put(struct conn *c, const void *data, size_t len)
{
	if (evbuffer_add(c->out, data, len) < 0)
		conn_reset(c);
}

static void put_text(struct conn *c, const char *s)
{
	put(c, s, strlen(s));
}

static void put_status(struct conn *c, int status)
{
	char line[64];

	snprintf(line, sizeof(line), "HTTP/1.1 %d %s\r\n", status, http1_reason(status));
	put_text(c, line);
}

static void put_length(struct conn *c, uint64_t length)
{
	char line[64];

	snprintf(line, sizeof(line), "Content-Length: %" PRIu64 "\r\n", length);
	put_text(c, line);
}

/* A whole answer of our own. */
static void put_answer(struct conn *c, int status, struct bytes json)
{
	put_status(c, status);
	put_text(c, "Content-Type: application/json\r\nCache-Control: no-store\r\n");
	put_length(c, json.len);
	if (!c->keep)
		put_text(c, "Connection: close\r\n");
	if (status == 426)
		put_text(c, "Sec-WebSocket-Version: 13\r\n");
	put_text(c, "\r\n");
	if (!c->is_head)
		put(c, json.data, json.len);
	c->response = CONN_RESPONSE_DONE;
}

void conn_http_refuse(struct conn *c, int status, const char *error, const char *why)
{
	AUTO_BUFFER json = {0};

	gate_note(c->gate, c->attempt, FRAMES_NOTE_HTTP, c->name, c->port, why);
	if (!c->out) { /* in the clear, where TLS was awaited */
		c->in = stream_in(c->client);
		c->out = stream_out(c->client);
	}
	c->keep = false;
	if (request_refusal(error, why, NULL, &json) < 0) {
		conn_reset(c);
		return;
	}
	put_answer(c, status, buffer_bytes(&json));
	if (c->state != CONN_DEAD)
		conn_linger(c);
}

void conn_http_broken(struct conn *c, const char *why)
{
	if (c->response == CONN_RESPONSE_AWAITED)
		conn_http_refuse(c, 502, "interrupted", why);
	else
		conn_reset(c);
}

/* ---- requests ---- */

static void no_http(struct conn *c)
{
	gate_note(c->gate, c->attempt, FRAMES_NOTE_HTTP, c->name, c->port, "not HTTP");
	conn_reset(c);
}

/* RFC 9112 section 2.2: an empty line before a request is ignored; one, not any number. False: what
 * comes next is not known yet, or it was one too many. */
static bool skip_empty_line(struct conn *c)
{
	uint8_t s[2];

	for (;;) {
		ssize_t n = evbuffer_copyout(c->in, s, sizeof(s));

		if (n < 1 || (n == 1 && s[0] == '\r' && !c->client_ended))
			return false;
		if (n < 2 || s[0] != '\r' || s[1] != '\n')
			return true;
		if (c->empty_line) {
			conn_http_refuse(c, 400, "bad_request",
					 "more than one empty line before a request");
			return false;
		}
		c->empty_line = true;
		evbuffer_drain(c->in, sizeof(s));
	}
}

/* Methods are case-sensitive (RFC 9110 section 9.1): "get" is none of ours, while "get " shows that
 * HTTP is meant, so it is told. */
static void refuse_small_letters(struct conn *c, struct bytes first)
{
	const char *s = first.data;
	size_t n = 0;

	while (n < first.len && ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z')))
		n++;
	if (n < first.len && s[n] == ' ')
		conn_http_refuse(c, 400, "bad_request",
				 "request line: a method of other than capital letters");
	else if (n < first.len || n == FIRST_BYTES || c->client_ended)
		no_http(c);
}

/* A letter begins a request; other first bytes are no HTTP at all. */
static bool begins_well(struct conn *c)
{
	size_t len;
	const uint8_t *s;

	if (!skip_empty_line(c))
		return false;
	len = evbuffer_get_length(c->in);
	if (len > FIRST_BYTES)
		len = FIRST_BYTES;
	s = evbuffer_pullup(c->in, (ssize_t)len);
	if (!s) {
		conn_reset(c);
		return false;
	}
	if (s[0] >= 'a' && s[0] <= 'z') {
		refuse_small_letters(c, bytes_of(s, len));
		return false;
	}
	if (s[0] < 'A' || s[0] > 'Z') {
		no_http(c);
		return false;
	}
	if (s[0] == 'P' && len < 5 && memcmp(s, "PRI *", len) == 0 && !c->client_ended)
		return false; /* one byte more tells */
	if (request_is_http2(bytes_of(s, len))) {
		conn_http_refuse(c, 505, "http_version", "HTTP/1.1 is spoken here, not HTTP/2");
		return false;
	}
	return true;
}

static void begin_request(struct conn *c)
{
	const struct request_target target = {bytes_str(c->name), c->port, c->mode == TABLE_TLS};
	const struct http1_message *m = http1_message(c->parser);
	AUTO_BUFFER body = {0};
	struct request q UNINITIALIZED;
	struct error err = {0};
	int r = request_make(m, &target, &q, &err);

	c->keep = r == 0 && q.keep_alive && !q.is_old;
	c->is_head = bytes_equal(m->method, bytes_str("HEAD"));
	c->is_old = q.is_old;
	c->websocket = r == 0 && q.frames.action.websocket;
	memcpy(c->websocket_key, q.websocket_key, sizeof(q.websocket_key));
	if (r > 0) {
		conn_http_refuse(c, r, r == 421 ? "misdirected" : "bad_request", err.msg);
	} else {
		if (r == 0)
			r = buffer_reserve(&body, HEAD_USUAL);
		if (r == 0)
			r = frames_request_encode(&q.frames, &body);
		if (r == 0)
			r = conn_channel_open(c);
		if (r < 0)
			conn_http_refuse(c, r == -E2BIG ? 431 : 503, "bad_request",
					 r == -E2BIG ? "the request's head is too long"
						     : "out of memory or descriptors");
	}
	if (c->state == CONN_HTTP) {
		conn_frame(c, FRAMES_REQUEST, buffer_bytes(&body));
		c->response = CONN_RESPONSE_AWAITED;
		c->request = q.frames.action.has_body ? CONN_REQUEST_BODY : CONN_REQUEST_DONE;
		if (q.expects && q.frames.action.has_body)
			put_text(c, "HTTP/1.1 100 Continue\r\n\r\n");
	}
	request_clear(&q);
}

static void end_request(struct conn *c)
{
	if (c->request == CONN_REQUEST_BODY)
		conn_frame(c, FRAMES_BODY_END, (struct bytes){0});
	c->request = CONN_REQUEST_DONE;
	c->parsed = true;
}

/* Feeds one stretch of what came; false: nothing can be done now. */
static bool feed(struct conn *c)
{
	struct bytes in = conn_peek(c->in);
	struct error err = {0};
	size_t used = 0;
	int r;

	if (in.len == 0)
		in = bytes_of("", 0);

	if (c->request == CONN_REQUEST_BODY && in.len > FRAMES_RAW_MAX)
		in.len = FRAMES_RAW_MAX;
	r = http1_feed(c->parser, in, &used, &err);
	switch (r) {
	case HTTP1_HEAD:
		c->some_head = false;
		c->empty_line = false;
		begin_request(c);
		break;
	case HTTP1_BODY:
		conn_frame(c, FRAMES_BODY, http1_body(c->parser));
		c->body_moved = true;
		break;
	case HTTP1_END:
		end_request(c);
		break;
	case HTTP1_NEED_MORE:
		c->some_head |= c->request == CONN_REQUEST_HEAD && used > 0;
		break;
	default:
		if (c->response == CONN_RESPONSE_BODY)
			conn_reset(c);
		else
			conn_http_refuse(c, http1_status_for(r), "bad_request", err.msg);
		return true;
	}
	if (used)
		evbuffer_drain(c->in, used);
	return used > 0 || r == HTTP1_HEAD || r == HTTP1_END;
}

static bool run_request(struct conn *c)
{
	bool moved = false;

	if (!c->parser) {
		c->parser = http1_parser_new(HTTP1_REQUEST, UINT64_MAX >> 1);
		if (!c->parser) {
			conn_reset(c);
			return true;
		}
		http1_parser_allow(c->parser, HTTP1_ALLOW_ABSOLUTE);
	}
	/* A message's end needs no byte more, so there is always one feed behind the last one. */
	while (c->state == CONN_HTTP && !conn_channel_full(c)) {
		if (c->request == CONN_REQUEST_HEAD) {
			if (c->response != CONN_RESPONSE_NONE || evbuffer_get_length(c->in) == 0 ||
			    (!c->some_head && !begins_well(c)))
				break;
		} else if (c->parsed) {
			break;
		}
		if (!feed(c))
			break;
		moved = true;
	}
	return moved || c->state != CONN_HTTP;
}

/* ---- answers ---- */

static bool has_body(const struct conn *c, int status)
{
	return !c->is_head && status != 204 && status != 304;
}

static void put_headers(struct conn *c, const struct frames_response *p)
{
	for (size_t i = 0; i < p->header_count; i++) {
		put(c, p->headers[i].name.data, p->headers[i].name.len);
		put_text(c, ": ");
		put(c, p->headers[i].value.data, p->headers[i].value.len);
		put_text(c, "\r\n");
	}
}

static void switch_protocols(struct conn *c, const struct frames_response *p)
{
	char accept[32];

	gate_tls_websocket_accept(c->websocket_key, accept);
	put_status(c, 101);
	put_text(c, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
	put_text(c, accept);
	put_text(c, "\r\n");
	put_headers(c, p);
	put_text(c, "\r\n");
	if (c->state == CONN_HTTP)
		c->state = CONN_TUNNEL;
	c->tunnel_open = true;
}

static void begin_answer(struct conn *c, const struct frames_response *p)
{
	/* What is left of a request behind an early answer is not worth reading. */
	if (c->request != CONN_REQUEST_DONE)
		c->keep = false;
	c->response_has_length = p->has_length;
	c->response_left = p->length;
	c->chunked = has_body(c, p->status) && !p->has_length && !c->is_old;
	put_status(c, p->status);
	put_headers(c, p);
	if (c->chunked)
		put_text(c, "Transfer-Encoding: chunked\r\n");
	else if (p->has_length && p->status != 204 && p->status != 304)
		put_length(c, p->length);
	if (!c->keep)
		put_text(c, "Connection: close\r\n");
	put_text(c, "\r\n");
	c->response = has_body(c, p->status) ? CONN_RESPONSE_BODY : CONN_RESPONSE_DONE;
}

/* A frame that is read whole; false: not there yet. */
static bool whole_frame(struct conn *c, struct bytes *ret)
{
	struct evbuffer *in = stream_in(c->channel);

	if (evbuffer_get_length(in) < c->left)
		return false;
	*ret = bytes_of(c->left ? evbuffer_pullup(in, c->left) : NULL, c->left);
	if (!ret->data)
		ret->len = 0; /* out of memory: what it says cannot be decoded */
	return true;
}

static void frame_done(struct conn *c)
{
	if (!c->channel)
		return;
	evbuffer_drain(stream_in(c->channel), c->left);
	c->in_frame = false;
}

static bool on_response(struct conn *c)
{
	struct frames_response p;
	struct bytes body;

	if (!whole_frame(c, &body))
		return false;
	if (c->response != CONN_RESPONSE_AWAITED || frames_response_decode(body, &p) < 0 ||
	    (p.status == 101 && !c->websocket)) {
		conn_http_broken(c, "the answer makes no sense");
		return true;
	}
	if (p.status == 101)
		switch_protocols(c, &p);
	else
		begin_answer(c, &p);
	frame_done(c);
	return true;
}

static bool on_refusal(struct conn *c)
{
	struct frames_refusal p;
	struct bytes body;

	if (!whole_frame(c, &body))
		return false;
	if (c->response != CONN_RESPONSE_AWAITED || frames_refusal_decode(body, &p) < 0) {
		conn_http_broken(c, "the answer makes no sense");
		return true;
	}
	if (c->request != CONN_REQUEST_DONE)
		c->keep = false;
	put_answer(c, p.status, p.json);
	frame_done(c);
	return true;
}

static bool on_body(struct conn *c)
{
	struct evbuffer *in = stream_in(c->channel);
	size_t there = evbuffer_get_length(in);
	char size[24];

	if (c->response != CONN_RESPONSE_BODY ||
	    (c->response_has_length && c->left > c->response_left)) {
		conn_reset(c);
		return true;
	}
	if (conn_client_full(c) || (there == 0 && c->left > 0))
		return false;
	if (there > c->left)
		there = c->left;
	if (there) {
		snprintf(size, sizeof(size), "%zx\r\n", there);
		if (c->chunked)
			put_text(c, size);
		if (evbuffer_remove_buffer(in, c->out, there) < 0)
			conn_reset(c);
		if (c->chunked)
			put_text(c, "\r\n");
	}
	c->response_left -= c->response_has_length ? there : 0;
	c->left -= (uint32_t)there;
	c->in_frame = c->left > 0;
	return true;
}

static bool on_body_end(struct conn *c)
{
	c->in_frame = false;
	if (c->response != CONN_RESPONSE_BODY || (c->response_has_length && c->response_left)) {
		conn_reset(c);
		return true;
	}
	if (c->chunked)
		put_text(c, "0\r\n\r\n");
	c->response = CONN_RESPONSE_DONE;
	return true;
}

static bool on_abort(struct conn *c)
{
	struct bytes text;
	char why[FRAMES_WHY_MAX];

	if (!whole_frame(c, &text))
		return false;
	snprintf(why, sizeof(why), "%.*s", (int)text.len, (const char *)text.data);
	conn_http_broken(c, why);
	return true;
}

/* One frame, or what is there of it; false: nothing can be done now. */
static bool run_frame(struct conn *c)
{
	if (!c->channel)
		return false;
	if (!conn_frame_begin(c))
		return c->state != CONN_HTTP;
	switch (c->frame.type) {
	case FRAMES_RESPONSE:
		return on_response(c);
	case FRAMES_REFUSED:
		return on_refusal(c);
	case FRAMES_BODY:
		return on_body(c);
	case FRAMES_BODY_END:
		return on_body_end(c);
	case FRAMES_ABORT:
		return on_abort(c);
	case FRAMES_REQUEST:
	case FRAMES_TUNNEL:
	case FRAMES_DATA:
	case FRAMES_DATA_END:
	case FRAMES_TUNNEL_OPEN:
		break;
	}
	conn_http_broken(c, "the answer makes no sense");
	return true;
}

/* The exchange is over: the next one, or the end. */
static bool next_exchange(struct conn *c)
{
	if (c->response != CONN_RESPONSE_DONE)
		return false;
	if (!c->keep || c->request != CONN_REQUEST_DONE || c->client_ended) {
		conn_linger(c);
		return true;
	}
	if (c->channel_ended) /* the next request gets a new one */
		conn_channel_close(c);
	http1_next(c->parser);
	c->request = CONN_REQUEST_HEAD;
	c->response = CONN_RESPONSE_NONE;
	c->some_head = c->parsed = false;
	return true;
}

/* Neither side will say more: is there somebody left to wait for? */
static bool run_ends(struct conn *c)
{
	if (c->channel && c->channel_ended && evbuffer_get_length(stream_in(c->channel)) == 0) {
		if (c->response == CONN_RESPONSE_NONE) {
			conn_channel_close(c);
			return true;
		}
		if (c->response != CONN_RESPONSE_DONE) {
			conn_http_broken(c,
					 "the courier ended; whether this took effect is not known "
					 "here, asking again gets the outcome");
			return true;
		}
	}
	if (!c->client_ended || evbuffer_get_length(c->in) > 0)
		return false;
	/* As other servers read it: who sends no more has gone, unless all is said already. */
	if (c->response == CONN_RESPONSE_DONE)
		return false;
	if (c->request == CONN_REQUEST_HEAD && c->response == CONN_RESPONSE_NONE && !c->some_head)
		conn_linger(c);
	else
		c->state = CONN_DEAD;
	return true;
}

bool conn_http_run(struct conn *c)
{
	bool moved = false;

	while (c->state == CONN_HTTP && run_frame(c))
		moved = true;
	if (c->state == CONN_HTTP && next_exchange(c))
		moved = true;
	if (c->state == CONN_HTTP && run_request(c))
		moved = true;
	if (c->state == CONN_HTTP && run_ends(c))
		moved = true;
	return moved || c->state != CONN_HTTP;
}
