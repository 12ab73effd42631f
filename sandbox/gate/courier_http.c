/*
 * HTTP/1.1 to the outside: the request is built anew from the action, the response is read strictly
 * (base/http1), spooled where it is an effect's, looked through where a secret went out, and passed
 * on. Of an effect's response the end stays here until it is on disk.
 */
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/mman.h>
#include "base/failpoint.h"
#include "base/io.h"
#include "sandbox/gate/courier.h"

enum {
	PIECE = 64 * 1024,
	WS_KEY_BYTES = 16,
	HEAD_USUAL = 1024, /* bytes: most heads need no more */
};

static const char withheld_json[] =
	"{\"error\":\"withheld\",\"why\":\"the response holds the secret that was sent with the "
	"request, or cannot be looked through for it\"}\n";

/* ---- the request ---- */

static void put_line(struct buffer *b, struct bytes name, struct bytes value)
{
	(void)buffer_append(b, name.data, name.len);
	(void)buffer_append_str(b, ": ");
	(void)buffer_append(b, value.data, value.len);
	(void)buffer_append_str(b, "\r\n");
}

static int put_basic(struct buffer *b, struct bytes user, struct bytes value)
{
	size_t len = user.len + 1 + value.len;
	AUTO_FREE unsigned char *plain = malloc(len);
	AUTO_FREE unsigned char *text = malloc(len / 3 * 4 + 8);
	int r = plain && text ? 0 : -ENOMEM;

	if (r == 0) {
		memcpy(plain, user.data, user.len);
		plain[user.len] = ':';
		memcpy(plain + user.len + 1, value.data, value.len);
		EVP_EncodeBlock(text, plain, (int)len);
		(void)buffer_append_str(b, "Basic ");
		(void)buffer_append_str(b, (const char *)text);
		explicit_bzero(text, len / 3 * 4 + 8);
		explicit_bzero(plain, len);
	}
	return r;
}

/* `format` with the value in place of {} or {basic:USER}. */
static int put_secret(struct buffer *b, const struct policy_secret_info *s, struct bytes value)
{
	const char *format = s->format ? s->format : "{}";
	const char *open = strchr(format, '{');
	const char *close = open ? strchr(open, '}') : NULL;
	int r = 0;

	if (!close || !action_header_value_valid(value))
		return -EINVAL;
	(void)buffer_append_str(b, s->header);
	(void)buffer_append_str(b, ": ");
	(void)buffer_append(b, format, (size_t)(open - format));
	if (close == open + 1)
		(void)buffer_append(b, value.data, value.len);
	else
		r = put_basic(b, bytes_of(open + 7, (size_t)(close - open - 7)), value);
	(void)buffer_append_str(b, close + 1);
	(void)buffer_append_str(b, "\r\n");
	return r;
}

static void put_host(struct buffer *b, const struct action *a)
{
	bool usual = a->port == (bytes_equal(a->scheme, bytes_str("https")) ? 443 : 80);

	(void)buffer_append_str(b, "host: ");
	(void)buffer_append(b, a->host.data, a->host.len);
	if (!usual)
		(void)buffer_printf(b, ":%u", a->port);
	(void)buffer_append_str(b, "\r\n");
}

static int put_websocket(struct exchange *x, struct buffer *b)
{
	unsigned char key[WS_KEY_BYTES], text[32];

	if (RAND_bytes(key, sizeof(key)) != 1)
		return -EIO;
	EVP_EncodeBlock(text, key, sizeof(key));
	buffer_free(&x->response_text);
	(void)buffer_append_str(&x->response_text, (const char *)text);
	return buffer_printf(b,
			     "connection: Upgrade\r\nupgrade: websocket\r\n"
			     "sec-websocket-version: 13\r\nsec-websocket-key: %s\r\n",
			     text);
}

static bool has_content(const struct action *a)
{
	return a->has_body || bytes_equal(a->method, bytes_str("POST")) ||
	       bytes_equal(a->method, bytes_str("PUT")) ||
	       bytes_equal(a->method, bytes_str("PATCH"));
}

static int build(struct exchange *x, struct buffer *b)
{
	const struct action *a = &x->action;
	struct policy_secret_info s = {.header = ""};
	bool secret = x->rule.secret[0] &&
		      policy_secret_find(x->attempt->policy, bytes_str(x->rule.secret), &s);
	int r = 0;

	(void)buffer_append(b, a->method.data, a->method.len);
	(void)buffer_append_byte(b, ' ');
	(void)buffer_append(b, a->path.data, a->path.len);
	if (a->query.len) {
		(void)buffer_append_byte(b, '?');
		(void)buffer_append(b, a->query.data, a->query.len);
	}
	(void)buffer_append_str(b, " HTTP/1.1\r\n");
	put_host(b, a);
	for (size_t i = 0; i < a->header_count; i++) {
		struct bytes name = a->headers[i].name;

		if ((secret &&
		     (http1_token_is(name, s.header) || http1_token_is(name, "accept-encoding"))) ||
		    (x->key_header.len && http1_token_is(name, (const char *)x->key_header.data)))
			continue;
		put_line(b, name, a->headers[i].value);
	}
	if (x->key_header.len)
		put_line(b, buffer_bytes(&x->key_header), buffer_bytes(&x->key));
	if (secret) {
		const struct secret *v = attempt_secret(x->attempt, x->rule.secret);

		(void)buffer_append_str(b, "accept-encoding: identity\r\n");
		r = v ? put_secret(b, &s, bytes_of(v->value.data, v->value.len)) : -ENOENT;
	}
	if (a->websocket && r == 0)
		r = put_websocket(x, b);
	if (has_content(a))
		(void)buffer_printf(b, "content-length: %llu\r\n", (unsigned long long)x->body_len);
	(void)buffer_append_str(b, "\r\n");
	return r < 0 ? r : b->failed;
}

static void pump_body(struct exchange *x)
{
	struct evbuffer *out = upstream_output(x->up);

	while (x->body_sent < x->body_len && evbuffer_get_length(out) < COURIER_OUT_HIGH) {
		uint8_t piece[PIECE] UNINITIALIZED;
		uint64_t left = x->body_len - x->body_sent;
		size_t n = left < sizeof(piece) ? (size_t)left : sizeof(piece);

		if (io_pread_all(x->body, piece, n, (off_t)x->body_sent) < 0 ||
		    evbuffer_add(out, piece, n) < 0) {
			exchange_broken(x, 502, "busy", "out of memory");
			return;
		}
		x->body_sent += n;
		decide_count(x, n, 0);
	}
}

int http_start(struct exchange *x)
{
	struct buffer head = {.max = COURIER_HEAD_MAX};
	int r = buffer_reserve(&head, HEAD_USUAL);

	if (r == 0)
		r = build(x, &head);
	x->parser = http1_parser_new(HTTP1_RESPONSE, UINT64_MAX);
	x->pending = evbuffer_new();
	if (x->rule.secret[0]) {
		const struct secret *s = attempt_secret(x->attempt, x->rule.secret);

		x->scan = s ? scan_new(bytes_of(s->value.data, s->value.len)) : NULL;
		if (!x->scan)
			r = -ENOMEM;
	}
	if (x->effect) {
		x->spool = exchange_memfd();
		if (x->spool < 0)
			r = x->spool;
	}
	if (!x->parser || !x->pending)
		r = -ENOMEM;
	if (r == 0)
		r = evbuffer_add(upstream_output(x->up), head.data, head.len) < 0 ? -ENOMEM : 0;
	if (r == 0) {
		decide_count(x, head.len, 0);
		decide_count_request(x->c);
		if (bytes_equal(x->action.method, bytes_str("HEAD")))
			http1_expect_no_body(x->parser);
		upstream_quiet(x->up, COURIER_QUIET_S);
	}
	if (head.data)
		explicit_bzero(head.data, head.cap);
	buffer_free(&head);
	if (r == 0)
		pump_body(x);
	return r;
}

void http_forget(struct exchange *x)
{
	http1_parser_free(x->parser);
	x->parser = NULL;
	scan_free(x->scan);
	x->scan = NULL;
	if (x->pending)
		evbuffer_free(x->pending);
	x->pending = NULL;
	x->c->spooled -= x->spool_len;
	x->spool_len = 0;
	close_fd(&x->spool);
	buffer_free(&x->response_text);
	x->has_response = x->response_ended = x->head_pending = x->too_long = x->no_body = false;
	x->body_sent = x->passed = x->sent = x->received = 0;
}

/* ---- what goes inside ---- */

static void send_head(struct exchange *x)
{
	AUTO_BUFFER out = {0};

	x->head_pending = false;
	x->head_sent = true;
	if (!x->channel)
		return;
	if (buffer_reserve(&out, HEAD_USUAL) < 0 || frames_response_encode(&x->response, &out) < 0)
		channel_break(x->channel);
	else
		channel_send(x->channel, FRAMES_RESPONSE, buffer_bytes(&out));
}

/* How many of the pending bytes must stay. */
static size_t kept_back(const struct exchange *x)
{
	bool held = x->effect && x->result != EXCHANGE_RELEASED;
	size_t keep = held ? 1 : 0;

	if (x->scan && !x->response_ended) {
		if (!x->live && x->passed + evbuffer_get_length(x->pending) < COURIER_SCANNED_FIRST)
			return SIZE_MAX;
		if (scan_hold(x->scan) > keep)
			keep = scan_hold(x->scan);
	}
	return keep;
}

static void pass(struct exchange *x)
{
	size_t keep = kept_back(x), have = evbuffer_get_length(x->pending), n;
	bool held = x->effect && x->result != EXCHANGE_RELEASED;
	bool empty = x->no_body || (x->response.has_length && x->response.length == 0);

	if (x->head_pending && keep != SIZE_MAX && !(held && empty))
		send_head(x);
	if (x->head_pending)
		return;
	n = have > keep ? have - keep : 0;
	x->passed += n;
	if (x->channel)
		channel_send_raw(x->channel, FRAMES_BODY, x->pending, n);
	else
		(void)evbuffer_drain(x->pending, n);
	if (x->response_ended && !held && !x->no_body && x->channel)
		channel_send(x->channel, FRAMES_BODY_END, (struct bytes){0});
	if (x->channel && x->up && !x->response_ended &&
	    channel_waiting(x->channel) > COURIER_OUT_HIGH)
		upstream_read(x->up, false);
}

static void done_inside(struct exchange *x)
{
	if (x->channel->dead || channel_waiting(x->channel) > 0)
		return;
	report_delivered(x->c->report, x->effect_id);
	exchange_end(x);
}

void http_release(struct exchange *x)
{
	(void)failpoint_hit("courier.before_release");
	if (x->is_tunnel || x->upgraded) {
		report_delivered(x->c->report, x->effect_id);
		exchange_end(x);
		return;
	}
	pass(x);
	done_inside(x);
}

void http_client_drained(struct exchange *x)
{
	if (x->state == EXCHANGE_SENDING && x->up)
		upstream_read(x->up, true);
	if (x->state != EXCHANGE_DELIVERING)
		return;
	if (x->replay_at < x->replay_len)
		http_replay(x);
	else
		done_inside(x);
}

void http_answer(struct exchange *x, const struct frames_response *r, struct bytes body)
{
	AUTO_BUFFER out = {0};
	struct evbuffer *b = evbuffer_new();

	if (!b || frames_response_encode(r, &out) < 0 || evbuffer_add(b, body.data, body.len) < 0) {
		channel_break(x->channel);
	} else {
		x->head_sent = true;
		channel_send(x->channel, FRAMES_RESPONSE, buffer_bytes(&out));
		channel_send_raw(x->channel, FRAMES_BODY, b, body.len);
		channel_send(x->channel, FRAMES_BODY_END, (struct bytes){0});
	}
	if (b)
		evbuffer_free(b);
}

static bool no_body_for(const struct exchange *x, int status)
{
	return bytes_equal(x->action.method, bytes_str("HEAD")) || status == 204 || status == 304 ||
	       status == 101;
}

void http_replay(struct exchange *x)
{
	struct evbuffer *b = evbuffer_new();

	if (!x->head_sent) {
		x->no_body = no_body_for(x, x->response.status);
		send_head(x);
		if (x->no_body)
			x->replay_at = x->replay_len;
	}
	while (b && !x->channel->dead && x->replay_at < x->replay_len &&
	       channel_waiting(x->channel) < COURIER_OUT_HIGH) {
		uint8_t piece[PIECE] UNINITIALIZED;
		uint64_t left = x->replay_len - x->replay_at;
		size_t n = left < sizeof(piece) ? (size_t)left : sizeof(piece);

		if (io_pread_all(x->replay, piece, n, (off_t)x->replay_at) < 0 ||
		    evbuffer_add(b, piece, n) < 0) {
			channel_break(x->channel);
			break;
		}
		x->replay_at += n;
		channel_send_raw(x->channel, FRAMES_BODY, b, n);
		if (x->replay_at == x->replay_len)
			channel_send(x->channel, FRAMES_BODY_END, (struct bytes){0});
	}
	if (b)
		evbuffer_free(b);
	if (x->replay_len == 0 && !x->no_body)
		channel_send(x->channel, FRAMES_BODY_END, (struct bytes){0});
}

/* ---- the response ---- */

/* The response is replaced by one that says so; what was begun inside ends in a reset. */
static void withhold(struct exchange *x)
{
	struct channel *ch = x->channel;

	upstream_close(x->up);
	x->up = NULL;
	snprintf(x->why, sizeof(x->why), "withheld: the response holds the secret");
	x->response = (struct frames_response){.status = 502,
					       .header_count = 1,
					       .has_length = true,
					       .length = sizeof(withheld_json) - 1};
	x->response.headers[0] =
		(struct action_header){bytes_str("content-type"), bytes_str("application/json")};
	x->response_ended = true;
	x->no_body = x->too_long = false;
	x->c->spooled -= x->spool_len;
	x->spool_len = 0;
	(void)evbuffer_drain(x->pending, evbuffer_get_length(x->pending));
	(void)evbuffer_add(x->pending, withheld_json, sizeof(withheld_json) - 1);
	if (x->effect && ftruncate(x->spool, 0) == 0 && lseek(x->spool, 0, SEEK_SET) == 0 &&
	    io_write_all(x->spool, withheld_json, sizeof(withheld_json) - 1) == 0) {
		x->spool_len = sizeof(withheld_json) - 1;
		x->c->spooled += x->spool_len;
	}
	scan_free(x->scan);
	x->scan = NULL;
	if (x->head_sent && ch) {
		channel_send(ch, FRAMES_ABORT, bytes_str("withheld"));
		x->channel = NULL;
		channel_done(ch);
		if (x->effect)
			report_cut(x->c->report, x->number);
	} else {
		x->head_pending = true;
		pass(x);
	}
	exchange_finished(x);
}

/* Whether Connection names it: then it concerns this connection only. */
static bool is_hop(const struct http1_message *m, struct bytes name)
{
	const struct http1_header *c = http1_header_find(m, "connection");

	if (frames_header_hop(name))
		return true;
	for (size_t i = 0; c && i + name.len <= c->value.len; i++) {
		const char *v = (const char *)c->value.data + i;
		bool from = i == 0 || strchr(", \t", v[-1]);
		bool to = i + name.len == c->value.len || strchr(", \t", v[name.len]);

		if (from && to && strncasecmp(v, name.data, name.len) == 0)
			return true;
	}
	return false;
}

/* Copies names in lowercase and values; those past the limits of a response are left out. */
static void take_headers(struct exchange *x, const struct http1_message *m)
{
	struct frames_response *r = &x->response;
	char name[128];

	buffer_free(&x->response_text);
	(void)buffer_reserve(&x->response_text, HEAD_USUAL);
	for (size_t i = 0; i < m->header_count && r->header_count < ACTION_HEADERS_MAX; i++) {
		const struct http1_header *h = &m->headers[i];
		struct action_header *to = &r->headers[r->header_count];

		if (h->name.len >= sizeof(name))
			continue;
		for (size_t k = 0; k < h->name.len; k++) {
			char c = ((const char *)h->name.data)[k];

			name[k] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
		}
		struct bytes low = bytes_of(name, h->name.len);
		if (is_hop(m, low) || !action_header_name_valid(low) ||
		    !action_header_value_valid(h->value))
			continue;
		/* Offsets until all is there: the text may move. */
		to->name = bytes_of((void *)x->response_text.len, low.len);
		(void)buffer_append(&x->response_text, low.data, low.len);
		to->value = bytes_of((void *)x->response_text.len, h->value.len);
		(void)buffer_append(&x->response_text, h->value.data, h->value.len);
		r->header_count++;
	}
	for (size_t i = 0; i < r->header_count; i++) {
		r->headers[i].name.data = x->response_text.data + (size_t)r->headers[i].name.data;
		r->headers[i].value.data = x->response_text.data + (size_t)r->headers[i].value.data;
	}
}

static bool accept_is_right(const struct exchange *x, const struct http1_message *m)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	const struct http1_header *h = http1_header_find(m, "sec-websocket-accept");
	unsigned char hash[EVP_MAX_MD_SIZE], text[64];
	char both[96];
	unsigned n = 0;

	snprintf(both, sizeof(both), "%s%s",
		 x->response_text.data ? (const char *)x->response_text.data : "", guid);
	if (!h || EVP_Digest(both, strlen(both), hash, &n, EVP_sha1(), NULL) != 1)
		return false;
	EVP_EncodeBlock(text, hash, (int)n);
	return bytes_equal(h->value, bytes_str((const char *)text));
}

static bool scanned_head(struct exchange *x, const struct http1_message *m)
{
	if (!x->scan)
		return true;
	for (size_t i = 0; i < m->header_count; i++)
		if (http1_token_is(m->headers[i].name, "content-encoding") &&
		    !http1_token_is(m->headers[i].value, "identity"))
			return false;
	for (size_t i = 0; i < m->header_count; i++)
		if (scan_feed(x->scan, m->headers[i].name) || scan_feed(x->scan, bytes_str(": ")) ||
		    scan_feed(x->scan, m->headers[i].value) ||
		    scan_feed(x->scan, bytes_str("\r\n")))
			return false;
	return true;
}

/* What is read while it is made: it is not collected first. */
static bool is_live(const struct http1_message *m)
{
	static const char *const types[] = {"text/event-stream", "application/x-ndjson",
					    "application/jsonl", "application/stream+json",
					    "multipart/"};
	const struct http1_header *h = http1_header_find(m, "content-type");

	for (size_t i = 0; h && i < ARRAY_SIZE(types); i++)
		if (h->value.len >= strlen(types[i]) &&
		    strncasecmp(h->value.data, types[i], strlen(types[i])) == 0)
			return true;
	return false;
}

enum step { STEP_ON, STEP_GONE }; /* GONE: the connection is no longer x's */

static enum step take_head(struct exchange *x)
{
	const struct http1_message *m = http1_message(x->parser);

	if (m->status < 200 && m->status != 101)
		return STEP_ON; /* interim: its end follows */
	if (m->status == 101 && (!x->action.websocket || !accept_is_right(x, m))) {
		exchange_broken(x, 502, "malformed", "an upgrade that was not asked for");
		return STEP_GONE;
	}
	x->has_response = true;
	x->response = (struct frames_response){.status = m->status,
					       .has_length = m->has_length,
					       .length = m->content_length};
	x->no_body = no_body_for(x, m->status);
	if (!scanned_head(x, m)) {
		withhold(x);
		return STEP_GONE;
	}
	take_headers(x, m);
	x->live = is_live(m);
	if (x->response_text.failed) {
		exchange_broken(x, 502, "busy", "out of memory");
		return STEP_GONE;
	}
	x->head_pending = true;
	return STEP_ON;
}

static enum step take_body(struct exchange *x, struct bytes b)
{
	decide_count(x, 0, b.len);
	if (x->scan && scan_feed(x->scan, b)) {
		withhold(x);
		return STEP_GONE;
	}
	if (x->effect && !x->too_long) {
		if (x->spool_len + b.len > REPORT_SPOOL_MAX ||
		    x->c->spooled + b.len > COURIER_SPOOLED_MAX ||
		    io_write_all(x->spool, b.data, b.len) < 0) {
			x->too_long = true;
		} else {
			x->spool_len += b.len;
			x->c->spooled += b.len;
		}
	}
	if (evbuffer_add(x->pending, b.data, b.len) < 0) {
		exchange_broken(x, 502, "busy", "out of memory");
		return STEP_GONE;
	}
	return STEP_ON;
}

/* keep: whether the connection can be used again. */
static void take_end(struct exchange *x, bool keep)
{
	struct upstream *u = x->up;

	x->response_ended = true;
	x->up = NULL;
	if (keep && x->body_sent == x->body_len)
		upstream_keep(u);
	else
		upstream_close(u);
	if (x->effect && x->spool_len)
		(void)fcntl(x->spool, F_ADD_SEALS,
			    F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	pass(x);
	exchange_finished(x);
}

static enum step take_event(struct exchange *x, int event)
{
	const struct http1_message *m = http1_message(x->parser);

	if (event == HTTP1_HEAD)
		return take_head(x);
	if (event == HTTP1_BODY)
		return take_body(x, http1_body(x->parser));
	if (event == HTTP1_END && !x->has_response) {
		http1_next(x->parser);
		if (bytes_equal(x->action.method, bytes_str("HEAD")))
			http1_expect_no_body(x->parser);
		return STEP_ON;
	}
	if (event == HTTP1_END) {
		take_end(x, m->keep_alive);
		return STEP_GONE;
	}
	return STEP_ON;
}

static void malformed(struct exchange *x, const char *why)
{
	char text[320];

	snprintf(text, sizeof(text), "the server's response cannot be read: %s", why);
	exchange_broken(x, 502, "malformed", text);
}

void http_input(void *arg, struct evbuffer *in)
{
	struct exchange *x = arg;
	struct error err = {0};
	int event = HTTP1_HEAD;

	if (x->is_tunnel || x->upgraded) {
		tunnel_input(x);
		return;
	}
	while (event != HTTP1_NEED_MORE || evbuffer_get_length(in)) {
		size_t have = evbuffer_get_contiguous_space(in), used;
		struct bytes piece =
			bytes_of(have ? evbuffer_pullup(in, (ssize_t)have) : NULL, have);

		event = http1_feed(x->parser, piece, &used, &err);
		if (event < 0) {
			malformed(x, err.msg);
			return;
		}
		/* A body's bytes are read where they lie; all else the parser has by itself. */
		if (event != HTTP1_BODY)
			(void)evbuffer_drain(in, used);
		if (take_event(x, event) == STEP_GONE)
			return;
		if (event == HTTP1_BODY)
			(void)evbuffer_drain(in, used);
		if (x->has_response && x->response.status == 101) {
			send_head(x);
			tunnel_upgraded(x);
			return;
		}
	}
	if (x->has_response)
		pass(x);
}

void http_closed(void *arg, bool clean, const char *why)
{
	struct exchange *x = arg;

	if (x->is_tunnel || x->upgraded) {
		tunnel_closed(x, clean);
		return;
	}
	if (!x->has_response && !x->effect && upstream_reused(x->up) && !x->retried) {
		exchange_restart(x);
		return;
	}
	if (clean && x->has_response && http1_finish(x->parser) == 0)
		take_end(x, false);
	else
		exchange_broken(x, 502, "broken", why);
}

void http_drained(void *arg)
{
	struct exchange *x = arg;

	if (x->is_tunnel || x->upgraded) {
		tunnel_drained(x);
	} else if (x->state == EXCHANGE_SENDING && x->up) {
		pump_body(x);
	}
}
