#include "sandbox/gate/frames.h"
#include <assert.h>
#include <errno.h>
#include "base/cbor.h"
#include "base/utf8.h"

enum open_key { OPEN_ATTEMPT = 1, OPEN_CONNECTION = 2 };
enum note_key { NOTE_ATTEMPT = 1, NOTE_KIND = 2, NOTE_HOST = 3, NOTE_PORT = 4, NOTE_WHY = 5 };
enum request_key {
	REQUEST_ACTION = 1,
	REQUEST_HAS_LENGTH = 2,
	REQUEST_DROPPED = 3,
	REQUEST_REASON = 4
};
enum tunnel_key { TUNNEL_HOST = 1, TUNNEL_PORT = 2, TUNNEL_TLS = 3 };
enum response_key { RESPONSE_STATUS = 1, RESPONSE_HEADERS = 2, RESPONSE_LENGTH = 3 };
enum refusal_key { REFUSAL_STATUS = 1, REFUSAL_JSON = 2 };

/* Bytes of a body; -1 is no frame. */
static int64_t limit_of(enum frames_type type)
{
	switch (type) {
	case FRAMES_REQUEST:
	case FRAMES_TUNNEL:
	case FRAMES_RESPONSE:
	case FRAMES_REFUSED:
		return FRAMES_CBOR_MAX;
	case FRAMES_BODY:
	case FRAMES_DATA:
		return FRAMES_RAW_MAX;
	case FRAMES_BODY_END:
	case FRAMES_DATA_END:
	case FRAMES_TUNNEL_OPEN:
		return 0;
	case FRAMES_ABORT:
		return FRAMES_ABORT_MAX;
	}
	return -1;
}

void frames_header_encode(enum frames_type type, uint32_t length, uint8_t *out)
{
	assert(length <= limit_of(type));
	out[0] = (uint8_t)length;
	out[1] = (uint8_t)(length >> 8);
	out[2] = (uint8_t)(length >> 16);
	out[3] = (uint8_t)(length >> 24);
	out[4] = (uint8_t)type;
	out[5] = out[6] = out[7] = 0;
}

int frames_header_decode(const uint8_t *in, struct frames_header *ret)
{
	uint32_t length =
		in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
	int64_t limit = limit_of(in[4]);

	if (limit < 0 || in[5] || in[6] || in[7])
		return -EBADMSG;
	if (length > limit)
		return -E2BIG;
	*ret = (struct frames_header){length, (enum frames_type)in[4]};
	return 0;
}

static int ended(const struct buffer *out, size_t from)
{
	if (!out->failed && out->len - from > FRAMES_CBOR_MAX)
		return -E2BIG;
	return out->failed;
}

/* ---- open ---- */

int frames_open_encode(const struct frames_open *o, struct buffer *out)
{
	cbor_w_map(out, 2);
	cbor_w_uint(out, OPEN_ATTEMPT);
	cbor_w_bytes(out, bytes_of(o->attempt, sizeof(o->attempt)));
	cbor_w_uint(out, OPEN_CONNECTION);
	cbor_w_uint(out, o->connection);
	return out->failed;
}

static void read_attempt(struct cbor_reader *r, uint8_t ret[16])
{
	struct bytes id = cbor_r_bytes(r);

	if (id.len == 16)
		memcpy(ret, id.data, 16);
	else
		cbor_r_fail(r, -EPROTO);
}

int frames_open_decode(struct bytes b, struct frames_open *ret)
{
	struct cbor_reader r = cbor_reader(b);
	struct cbor_map_iter m;
	struct frames_open o = {0};
	uint64_t key;
	int code;

	if (cbor_r_map(&r, &m) != 2)
		cbor_r_fail(&r, -EPROTO);
	while (cbor_r_key(&r, &m, &key)) {
		if (key == OPEN_ATTEMPT) {
			read_attempt(&r, o.attempt);
		} else if (key == OPEN_CONNECTION) {
			o.connection = cbor_r_uint(&r);
		} else {
			cbor_r_fail(&r, -EPROTO);
		}
	}
	code = cbor_r_end(&r);
	if (code < 0)
		return code;
	*ret = o;
	return 0;
}

/* ---- note ---- */

static bool note_valid(const struct frames_note *n)
{
	const char *s = n->host.data;

	if (n->kind < FRAMES_NOTE_DNS || n->kind > FRAMES_NOTE_OVER ||
	    n->host.len > ACTION_HOST_MAX || n->why.len > FRAMES_WHY_MAX)
		return false;
	for (size_t i = 0; i < n->host.len; i++)
		if (s[i] <= ' ' || s[i] > '~')
			return false;
	return true;
}

int frames_note_encode(const struct frames_note *n, struct buffer *out)
{
	if (!note_valid(n))
		return -EINVAL;
	cbor_w_map(out, 5);
	cbor_w_uint(out, NOTE_ATTEMPT);
	cbor_w_bytes(out, bytes_of(n->attempt, sizeof(n->attempt)));
	cbor_w_uint(out, NOTE_KIND);
	cbor_w_uint(out, n->kind);
	cbor_w_uint(out, NOTE_HOST);
	cbor_w_text(out, n->host);
	cbor_w_uint(out, NOTE_PORT);
	cbor_w_uint(out, n->port);
	cbor_w_uint(out, NOTE_WHY);
	cbor_w_text(out, n->why);
	return out->failed;
}

static void read_note_field(struct cbor_reader *r, uint64_t key, struct frames_note *n)
{
	uint64_t v;

	switch (key <= NOTE_WHY ? (enum note_key)key : (enum note_key)0) {
	case NOTE_ATTEMPT:
		read_attempt(r, n->attempt);
		return;
	case NOTE_KIND:
		v = cbor_r_uint(r);
		n->kind = v <= FRAMES_NOTE_OVER ? (enum frames_note_kind)v : 0;
		return;
	case NOTE_HOST:
		n->host = cbor_r_text(r);
		return;
	case NOTE_PORT:
		v = cbor_r_uint(r);
		n->port = (uint16_t)v;
		if (v > UINT16_MAX)
			cbor_r_fail(r, -EINVAL);
		return;
	case NOTE_WHY:
		n->why = cbor_r_text(r);
		return;
	}
	cbor_r_fail(r, -EPROTO);
}

int frames_note_decode(struct bytes b, struct frames_note *ret)
{
	struct cbor_reader r = cbor_reader(b);
	struct frames_note n = {0};
	struct cbor_map_iter m;
	uint64_t key;
	int code;

	if (cbor_r_map(&r, &m) != 5)
		cbor_r_fail(&r, -EPROTO);
	while (cbor_r_key(&r, &m, &key))
		read_note_field(&r, key, &n);
	code = cbor_r_end(&r);
	if (code == 0 && !note_valid(&n))
		code = -EINVAL;
	if (code < 0)
		return code;
	*ret = n;
	return 0;
}

/* ---- request ---- */

static bool reason_valid(struct bytes b)
{
	const uint8_t *s = b.data;

	for (size_t i = 0; i < b.len; i++)
		if (s[i] < ' ' || s[i] == 0x7f)
			return false;
	return b.len <= FRAMES_REASON_MAX && utf8_valid(b);
}

static bool request_valid(const struct frames_request *r)
{
	if (r->action.kind != ACTION_HTTP || !digest_is_zero(&r->action.body) ||
	    r->dropped_count > FRAMES_DROPPED_MAX || (r->has_length && !r->action.has_body) ||
	    !reason_valid(r->reason))
		return false;
	/* A length that nobody said is none. */
	if (!r->has_length && r->action.body_len)
		return false;
	for (size_t i = 0; i < r->dropped_count; i++)
		if (r->dropped[i].len > FRAMES_DROPPED_NAME_MAX ||
		    !action_header_name_valid(r->dropped[i]))
			return false;
	return true;
}

int frames_request_encode(const struct frames_request *r, struct buffer *out)
{
	size_t from = out->len;
	struct cbor_map_mark m;
	int code;

	if (!request_valid(r))
		return -EINVAL;
	m = cbor_w_map_begin(out);
	cbor_w_key(out, &m, REQUEST_ACTION);
	code = action_encode(&r->action, out);
	if (code < 0)
		return code;
	if (r->has_length) {
		cbor_w_key(out, &m, REQUEST_HAS_LENGTH);
		cbor_w_bool(out, true);
	}
	if (r->dropped_count) {
		cbor_w_key(out, &m, REQUEST_DROPPED);
		cbor_w_array(out, r->dropped_count);
		for (size_t i = 0; i < r->dropped_count; i++)
			cbor_w_text(out, r->dropped[i]);
	}
	if (r->reason.len) {
		cbor_w_key(out, &m, REQUEST_REASON);
		cbor_w_text(out, r->reason);
	}
	cbor_w_map_end(out, &m);
	return ended(out, from);
}

static void read_dropped(struct cbor_reader *r, struct frames_request *q)
{
	size_t n = cbor_r_array(r);

	if (n == 0 || n > FRAMES_DROPPED_MAX) {
		cbor_r_fail(r, n ? -E2BIG : -EBADMSG);
		return;
	}
	for (size_t i = 0; i < n; i++)
		q->dropped[i] = cbor_r_text(r);
	q->dropped_count = n;
}

static struct bytes read_reason(struct cbor_reader *r)
{
	struct bytes b = cbor_r_text(r);

	if (b.len == 0) /* there is one way to say none */
		cbor_r_fail(r, -EBADMSG);
	return b;
}

int frames_request_decode(struct bytes b, struct frames_request *ret)
{
	struct cbor_reader r = cbor_reader(b);
	struct bytes action = {0};
	struct frames_request q UNINITIALIZED;
	struct cbor_map_iter m;
	uint64_t key;
	int code;

	q.has_length = false;
	q.dropped_count = 0;
	q.reason = (struct bytes){0};
	cbor_r_map(&r, &m);
	while (cbor_r_key(&r, &m, &key)) {
		if (key == REQUEST_ACTION)
			action = cbor_r_skip(&r);
		else if (key == REQUEST_HAS_LENGTH && cbor_r_bool(&r))
			q.has_length = true;
		else if (key == REQUEST_DROPPED)
			read_dropped(&r, &q);
		else if (key == REQUEST_REASON)
			q.reason = read_reason(&r);
		else
			cbor_r_fail(&r, -EPROTO);
	}
	code = cbor_r_end(&r);
	if (code == 0)
		code = action_decode(action, &q.action);
	if (code == 0 && !request_valid(&q))
		code = -EINVAL;
	if (code < 0)
		return code;
	action_copy(&ret->action, &q.action);
	ret->has_length = q.has_length;
	ret->reason = q.reason;
	ret->dropped_count = q.dropped_count;
	memcpy(ret->dropped, q.dropped, q.dropped_count * sizeof(q.dropped[0]));
	return 0;
}

/* ---- tunnel ---- */

static bool tunnel_valid(const struct frames_tunnel *t)
{
	return action_host_valid(t->host) && t->port != 0;
}

int frames_tunnel_encode(const struct frames_tunnel *t, struct buffer *out)
{
	if (!tunnel_valid(t))
		return -EINVAL;
	cbor_w_map(out, t->tls ? 3 : 2);
	cbor_w_uint(out, TUNNEL_HOST);
	cbor_w_text(out, t->host);
	cbor_w_uint(out, TUNNEL_PORT);
	cbor_w_uint(out, t->port);
	if (t->tls) {
		cbor_w_uint(out, TUNNEL_TLS);
		cbor_w_bool(out, true);
	}
	return out->failed;
}

int frames_tunnel_decode(struct bytes b, struct frames_tunnel *ret)
{
	struct cbor_reader r = cbor_reader(b);
	struct frames_tunnel t = {0};
	struct cbor_map_iter m;
	uint64_t key, n;
	int code;

	cbor_r_map(&r, &m);
	while (cbor_r_key(&r, &m, &key)) {
		if (key == TUNNEL_HOST) {
			t.host = cbor_r_text(&r);
		} else if (key == TUNNEL_PORT) {
			n = cbor_r_uint(&r);
			t.port = n > UINT16_MAX ? 0 : (uint16_t)n;
		} else if (key == TUNNEL_TLS && cbor_r_bool(&r)) {
			t.tls = true;
		} else {
			cbor_r_fail(&r, -EPROTO);
		}
	}
	code = cbor_r_end(&r);
	if (code == 0 && !tunnel_valid(&t))
		code = -EINVAL;
	if (code < 0)
		return code;
	*ret = t;
	return 0;
}

/* ---- response ---- */

bool frames_header_hop(struct bytes name)
{
	static const char *const hop[] = {
		"connection",
		"content-length",
		"http2-settings",
		"keep-alive",
		"proxy-authenticate",
		"proxy-authentication-info",
		"proxy-authorization",
		"proxy-connection",
		"sec-websocket-accept",
		"te",
		"trailer",
		"transfer-encoding",
		"upgrade",
	};

	for (size_t i = 0; i < ARRAY_SIZE(hop); i++)
		if (bytes_equal(name, bytes_str(hop[i])))
			return true;
	return false;
}

static bool response_valid(const struct frames_response *r)
{
	if ((r->status != 101 && r->status < 200) || r->status > 599 ||
	    r->header_count > ACTION_HEADERS_MAX || (!r->has_length && r->length))
		return false;
	for (size_t i = 0; i < r->header_count; i++)
		if (!action_header_name_valid(r->headers[i].name) ||
		    frames_header_hop(r->headers[i].name) ||
		    !action_header_value_valid(r->headers[i].value))
			return false;
	return true;
}

int frames_response_encode(const struct frames_response *r, struct buffer *out)
{
	size_t from = out->len;

	if (!response_valid(r))
		return -EINVAL;
	cbor_w_map(out, r->has_length ? 3 : 2);
	cbor_w_uint(out, RESPONSE_STATUS);
	cbor_w_uint(out, (uint64_t)r->status);
	cbor_w_uint(out, RESPONSE_HEADERS);
	cbor_w_array(out, r->header_count);
	for (size_t i = 0; i < r->header_count; i++) {
		cbor_w_array(out, 2);
		cbor_w_text(out, r->headers[i].name);
		cbor_w_bytes(out, r->headers[i].value);
	}
	if (r->has_length) {
		cbor_w_uint(out, RESPONSE_LENGTH);
		cbor_w_uint(out, r->length);
	}
	return ended(out, from);
}

static int read_status(struct cbor_reader *r)
{
	uint64_t n = cbor_r_uint(r);

	return n > 999 ? 0 : (int)n;
}

int frames_response_decode(struct bytes b, struct frames_response *ret)
{
	struct cbor_reader r = cbor_reader(b);
	bool has_headers = false;
	struct frames_response p;
	struct cbor_map_iter m;
	uint64_t key;
	int code;

	memset(&p, 0, sizeof(p));
	cbor_r_map(&r, &m);
	while (cbor_r_key(&r, &m, &key)) {
		if (key == RESPONSE_STATUS) {
			p.status = read_status(&r);
		} else if (key == RESPONSE_HEADERS) {
			p.header_count = action_headers_read(&r, p.headers);
			has_headers = true;
		} else if (key == RESPONSE_LENGTH) {
			p.length = cbor_r_uint(&r);
			p.has_length = true;
		} else {
			cbor_r_fail(&r, -EPROTO);
		}
	}
	code = cbor_r_end(&r);
	if (code == 0 && (!has_headers || !response_valid(&p)))
		code = -EINVAL;
	if (code < 0)
		return code;
	*ret = p;
	return 0;
}

/* ---- refusal ---- */

static bool refusal_valid(const struct frames_refusal *r)
{
	return r->status >= 400 && r->status <= 599 && r->json.len > 0;
}

int frames_refusal_encode(const struct frames_refusal *r, struct buffer *out)
{
	size_t from = out->len;

	if (!refusal_valid(r))
		return -EINVAL;
	cbor_w_map(out, 2);
	cbor_w_uint(out, REFUSAL_STATUS);
	cbor_w_uint(out, (uint64_t)r->status);
	cbor_w_uint(out, REFUSAL_JSON);
	cbor_w_text(out, r->json);
	return ended(out, from);
}

int frames_refusal_decode(struct bytes b, struct frames_refusal *ret)
{
	struct cbor_reader r = cbor_reader(b);
	struct frames_refusal p = {0};
	struct cbor_map_iter m;
	uint64_t key;
	int code;

	cbor_r_map(&r, &m);
	while (cbor_r_key(&r, &m, &key)) {
		if (key == REFUSAL_STATUS)
			p.status = read_status(&r);
		else if (key == REFUSAL_JSON)
			p.json = cbor_r_text(&r);
		else
			cbor_r_fail(&r, -EPROTO);
	}
	code = cbor_r_end(&r);
	if (code == 0 && !refusal_valid(&p))
		code = -EINVAL;
	if (code < 0)
		return code;
	*ret = p;
	return 0;
}
