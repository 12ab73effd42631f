#include "sandbox/report.h"
#include <errno.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "base/escape.h"
#include "base/guard.h"

enum { ID_SIZE = 16, HOST_MAX = 253, STATUS_MAX = 599 };

/* Which keys a type has beside 0: those it must have, and all. */
struct shape {
	uint32_t must, all;
};

#define K(n) (1U << (n))

static struct shape shape_of(enum report_type type)
{
	switch (type) {
	case REPORT_HELLO:
		return (struct shape){K(1) | K(2) | K(3), K(1) | K(2) | K(3)};
	case REPORT_PROPOSE:
		return (struct shape){K(1) | K(2) | K(3), K(1) | K(2) | K(3) | K(4) | K(5) | K(6)};
	case REPORT_READS:
		return (struct shape){K(1), K(1)};
	case REPORT_RESULT:
		return (struct shape){K(1) | K(2) | K(3), 0x3fe};
	case REPORT_DELIVERED:
	case REPORT_CUT:
	case REPORT_DRAINED:
	case REPORT_ATTEMPT_END:
	case REPORT_RELEASE:
		return (struct shape){K(1), K(1)};
	case REPORT_SETTINGS:
		return (struct shape){0, K(1)};
	case REPORT_ATTEMPT:
		return (struct shape){K(1), 0x3e};
	case REPORT_ANSWER:
		return (struct shape){K(1) | K(2) | K(3), 0x7fe};
	}
	return (struct shape){UINT32_MAX, 0};
}

static const struct shape read_shape = {K(1) | K(2) | K(3) | K(7), 0x7ffe};

/* ---- the rules of the fields, the same for both directions ---- */

static bool headers_valid(const struct action_header *h, size_t n)
{
	if (n > ACTION_HEADERS_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!action_header_name_valid(h[i].name) || !action_header_value_valid(h[i].value))
			return false;
	return true;
}

static bool short_text(struct bytes b)
{
	return b.len <= REPORT_TEXT_MAX;
}

static bool read_valid(const struct report_read *r)
{
	return r->kind >= ACTION_HTTP && r->kind <= ACTION_TOOL && r->status >= 0 &&
	       r->status <= STATUS_MAX && short_text(r->path);
}

static bool result_valid(const struct report_result *r)
{
	return r->request && r->outcome >= REPORT_CONFIRMED && r->outcome <= REPORT_DOUBT &&
	       r->status >= 0 && r->status <= STATUS_MAX &&
	       headers_valid(r->headers, r->header_count);
}

static bool secrets_valid(const struct report_attempt *a)
{
	if (a->secret_count > REPORT_SECRETS_MAX || a->ca_count > REPORT_CAS_MAX)
		return false;
	for (size_t i = 0; i < a->secret_count; i++)
		if (a->secrets[i].name.len == 0 || !short_text(a->secrets[i].name) ||
		    !short_text(a->secrets[i].placeholder) ||
		    a->secrets[i].value.len > REPORT_SECRET_MAX)
			return false;
	for (size_t i = 0; i < a->ca_count; i++)
		if (a->cas[i].len == 0 || !short_text(a->cas[i]))
			return false;
	return true;
}

/* As the policy's author wrote it, so in any case. */
static bool token_valid(struct bytes name)
{
	const char *s = name.data;
	char low[64];

	if (name.len >= sizeof(low))
		return false;
	for (size_t i = 0; i < name.len; i++)
		low[i] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] | 0x20) : s[i];
	return action_header_name_valid(bytes_of(low, name.len));
}

static bool answer_valid(const struct report_answer *a)
{
	bool status = a->status >= 100 && a->status <= STATUS_MAX;

	if (!a->request || !headers_valid(a->headers, a->header_count) ||
	    (a->key_header.len && !token_valid(a->key_header)) ||
	    !action_header_value_valid(a->key) || (a->key_header.len == 0) != (a->key.len == 0))
		return false;
	switch (a->verdict) {
	case REPORT_SEND:
	case REPORT_WAITING:
		return a->status == 0;
	case REPORT_DENY:
		return a->status >= 400 && status;
	case REPORT_REPLAY:
		return status;
	}
	return false;
}

static bool valid(const struct report_message *m)
{
	switch (m->type) {
	case REPORT_HELLO:
		return m->hello.sending_count <= REPORT_SENDING_MAX;
	case REPORT_PROPOSE:
		return m->propose.request && m->propose.action.len > 0 &&
		       m->propose.action.len <= ACTION_BYTES_MAX;
	case REPORT_READS:
		for (size_t i = 0; i < m->reads.count; i++)
			if (!read_valid(&m->reads.items[i]))
				return false;
		return m->reads.count > 0 && m->reads.count <= REPORT_READS_MAX;
	case REPORT_RESULT:
		return result_valid(&m->result);
	case REPORT_CUT:
		return m->request != 0;
	case REPORT_SETTINGS:
		return short_text(m->settings.resolvers);
	case REPORT_ATTEMPT:
		return secrets_valid(&m->attempt);
	case REPORT_ANSWER:
		return answer_valid(&m->answer);
	case REPORT_DELIVERED:
	case REPORT_DRAINED:
	case REPORT_ATTEMPT_END:
	case REPORT_RELEASE:
		return true;
	}
	return false;
}

/* Texts for people: the encoder cuts them, so that only a decoder ever finds one too long. */
static bool texts_short(const struct report_message *m)
{
	if (m->type == REPORT_PROPOSE)
		return short_text(m->propose.names) && short_text(m->propose.reason);
	if (m->type == REPORT_RESULT)
		return short_text(m->result.why);
	if (m->type == REPORT_ANSWER)
		return short_text(m->answer.rule) && short_text(m->answer.why) &&
		       short_text(m->answer.hint);
	for (size_t i = 0; m->type == REPORT_READS && i < m->reads.count; i++) {
		const struct report_read *r = &m->reads.items[i];

		if (r->host.len > HOST_MAX || !short_text(r->method) || !short_text(r->rule) ||
		    !short_text(r->why))
			return false;
	}
	return true;
}

/* ---- encoding ---- */

/* They quote what others wrote. Whatever its bytes, it must not keep what goes along from arriving. */
static void w_text(struct buffer *out, struct bytes v, size_t max)
{
	AUTO_BUFFER scratch = {0};

	cbor_w_text(out, escape_bounded(v, max, &scratch));
	if (scratch.failed && !out->failed)
		out->failed = scratch.failed;
}

static void w_key_text(struct buffer *out, struct cbor_map_mark *m, uint64_t key, struct bytes v)
{
	if (v.len == 0)
		return;
	cbor_w_key(out, m, key);
	w_text(out, v, REPORT_TEXT_MAX);
}

static void w_uint(struct buffer *out, struct cbor_map_mark *m, uint64_t key, uint64_t v)
{
	if (v == 0)
		return;
	cbor_w_key(out, m, key);
	cbor_w_uint(out, v);
}

static void w_bytes(struct buffer *out, struct cbor_map_mark *m, uint64_t key, struct bytes v)
{
	if (v.len == 0)
		return;
	cbor_w_key(out, m, key);
	cbor_w_bytes(out, v);
}

static void w_id(struct buffer *out, struct cbor_map_mark *m, uint64_t key, const uint8_t *id)
{
	cbor_w_key(out, m, key);
	cbor_w_bytes(out, bytes_of(id, ID_SIZE));
}

static void w_headers(struct buffer *out, struct cbor_map_mark *m, uint64_t key,
		      const struct action_header *h, size_t n)
{
	if (n == 0)
		return;
	cbor_w_key(out, m, key);
	cbor_w_array(out, n);
	for (size_t i = 0; i < n; i++) {
		cbor_w_array(out, 2);
		cbor_w_text(out, h[i].name);
		cbor_w_bytes(out, h[i].value);
	}
}

static void w_hello(struct buffer *out, struct cbor_map_mark *m, const struct report_hello *h)
{
	w_id(out, m, 1, h->run);
	w_id(out, m, 2, h->instance);
	cbor_w_key(out, m, 3);
	cbor_w_array(out, h->sending_count);
	for (size_t i = 0; i < h->sending_count; i++)
		cbor_w_bytes(out, bytes_of(h->sending[i], ID_SIZE));
}

static void w_read(struct buffer *out, const struct report_read *r)
{
	struct cbor_map_mark m = cbor_w_map_begin(out);

	w_id(out, &m, 1, r->attempt);
	cbor_w_key(out, &m, 2);
	cbor_w_int(out, r->wall_ns);
	w_uint(out, &m, 3, r->kind);
	cbor_w_key_true(out, &m, 4, r->denied);
	w_uint(out, &m, 5, (uint64_t)r->status);
	w_key_text(out, &m, 6, r->method);
	cbor_w_key(out, &m, 7);
	w_text(out, r->host, HOST_MAX);
	w_bytes(out, &m, 8, r->path);
	w_uint(out, &m, 9, r->port);
	w_key_text(out, &m, 10, r->rule);
	w_key_text(out, &m, 11, r->why);
	w_uint(out, &m, 12, r->sent);
	w_uint(out, &m, 13, r->received);
	w_uint(out, &m, 14, r->duration_us);
	cbor_w_map_end(out, &m);
}

static void w_result(struct buffer *out, struct cbor_map_mark *m, const struct report_result *r)
{
	w_uint(out, m, 1, r->request);
	w_id(out, m, 2, r->effect);
	w_uint(out, m, 3, r->outcome);
	w_uint(out, m, 4, (uint64_t)r->status);
	w_headers(out, m, 5, r->headers, r->header_count);
	cbor_w_key_true(out, m, 6, r->too_long);
	w_uint(out, m, 7, r->sent);
	w_uint(out, m, 8, r->received);
	w_key_text(out, m, 9, r->why);
}

static void w_limit(struct buffer *out, struct cbor_map_mark *m, uint64_t key, uint64_t v)
{
	if (v == UINT64_MAX)
		return;
	cbor_w_key(out, m, key);
	cbor_w_uint(out, v);
}

static void w_attempt(struct buffer *out, struct cbor_map_mark *m, const struct report_attempt *a)
{
	w_id(out, m, 1, a->attempt);
	w_limit(out, m, 2, a->egress_left);
	w_limit(out, m, 3, a->requests_left);
	if (a->secret_count) {
		cbor_w_key(out, m, 4);
		cbor_w_array(out, a->secret_count);
	}
	for (size_t i = 0; i < a->secret_count; i++) {
		cbor_w_array(out, 3);
		cbor_w_text(out, a->secrets[i].name);
		cbor_w_bytes(out, a->secrets[i].placeholder);
		cbor_w_bytes(out, a->secrets[i].value);
	}
	if (a->ca_count) {
		cbor_w_key(out, m, 5);
		cbor_w_array(out, a->ca_count);
	}
	for (size_t i = 0; i < a->ca_count; i++)
		cbor_w_bytes(out, a->cas[i]);
}

static void w_answer(struct buffer *out, struct cbor_map_mark *m, const struct report_answer *a)
{
	w_uint(out, m, 1, a->request);
	w_id(out, m, 2, a->effect);
	w_uint(out, m, 3, a->verdict);
	cbor_w_key_text(out, m, 4, a->key_header);
	cbor_w_key_text(out, m, 5, a->key);
	w_uint(out, m, 6, (uint64_t)a->status);
	w_headers(out, m, 7, a->headers, a->header_count);
	w_key_text(out, m, 8, a->rule);
	w_key_text(out, m, 9, a->why);
	w_key_text(out, m, 10, a->hint);
}

static void w_propose(struct buffer *out, struct cbor_map_mark *m, const struct report_propose *p)
{
	w_uint(out, m, 1, p->request);
	w_id(out, m, 2, p->attempt);
	w_bytes(out, m, 3, p->action);
	w_uint(out, m, 4, p->dropped);
	w_key_text(out, m, 5, p->reason);
	w_key_text(out, m, 6, p->names);
}

static void w_message(struct buffer *out, struct cbor_map_mark *m, const struct report_message *r)
{
	switch (r->type) {
	case REPORT_HELLO:
		w_hello(out, m, &r->hello);
		return;
	case REPORT_PROPOSE:
		w_propose(out, m, &r->propose);
		return;
	case REPORT_READS:
		cbor_w_key(out, m, 1);
		cbor_w_array(out, r->reads.count);
		for (size_t i = 0; i < r->reads.count; i++)
			w_read(out, &r->reads.items[i]);
		return;
	case REPORT_RESULT:
		w_result(out, m, &r->result);
		return;
	case REPORT_DELIVERED:
	case REPORT_RELEASE:
		w_id(out, m, 1, r->effect);
		return;
	case REPORT_CUT:
		w_uint(out, m, 1, r->request);
		return;
	case REPORT_SETTINGS:
		cbor_w_key_text(out, m, 1, r->settings.resolvers);
		return;
	case REPORT_ATTEMPT:
		w_attempt(out, m, &r->attempt);
		return;
	case REPORT_DRAINED:
	case REPORT_ATTEMPT_END:
		w_id(out, m, 1, r->attempt_end);
		return;
	case REPORT_ANSWER:
		w_answer(out, m, &r->answer);
		return;
	}
}

int report_encode(const struct report_message *r, struct buffer *out)
{
	size_t from = out->len;
	struct cbor_map_mark m;

	if (!valid(r))
		return -EINVAL;
	m = cbor_w_map_begin(out);
	cbor_w_key(out, &m, 0);
	cbor_w_uint(out, r->type);
	w_message(out, &m, r);
	cbor_w_map_end(out, &m);
	if (out->failed)
		return out->failed == -EILSEQ ? -EINVAL : out->failed;
	return out->len - from > REPORT_DATAGRAM_MAX ? -E2BIG : 0;
}

/* ---- decoding ---- */

/* What is left out when it is nothing must not be there as nothing. */
static uint64_t r_some(struct cbor_reader *r, uint64_t max)
{
	uint64_t v = cbor_r_uint(r);

	if (v == 0 || v > max)
		cbor_r_fail(r, -EBADMSG);
	return r->error ? 0 : v;
}

static bool r_true(struct cbor_reader *r)
{
	bool v = cbor_r_bool(r);

	if (!v)
		cbor_r_fail(r, -EBADMSG);
	return v;
}

static struct bytes r_full(struct cbor_reader *r, struct bytes b)
{
	if (b.len == 0)
		cbor_r_fail(r, -EBADMSG);
	return b;
}

static size_t r_count(struct cbor_reader *r, size_t min, size_t max)
{
	size_t n = cbor_r_array(r);

	if (n < min || n > max)
		cbor_r_fail(r, n < min ? -EBADMSG : -E2BIG);
	return r->error ? 0 : n;
}

static void r_tuple(struct cbor_reader *r, size_t want)
{
	if (cbor_r_array(r) != want)
		cbor_r_fail(r, -EBADMSG);
}

static size_t r_headers(struct cbor_reader *r, struct action_header *ret)
{
	size_t n = r_count(r, 1, ACTION_HEADERS_MAX);

	for (size_t i = 0; i < n; i++) {
		r_tuple(r, 2);
		ret[i].name = cbor_r_text(r);
		ret[i].value = cbor_r_bytes(r);
	}
	return n;
}

static void r_hello(struct cbor_reader *r, uint64_t key, struct report_hello *h)
{
	uint8_t(*ids)[ID_SIZE] = NULL;
	size_t n;

	if (key == 1) {
		cbor_r_fixed(r, h->run, ID_SIZE);
		return;
	}
	if (key == 2) {
		cbor_r_fixed(r, h->instance, ID_SIZE);
		return;
	}
	n = r_count(r, 0, REPORT_SENDING_MAX);
	if (n == 0)
		return;
	ids = calloc(n, sizeof(*ids));
	if (!ids) {
		cbor_r_fail(r, -ENOMEM);
		return;
	}
	for (size_t i = 0; i < n; i++)
		cbor_r_fixed(r, ids[i], ID_SIZE);
	h->sending = (const uint8_t(*)[ID_SIZE])ids;
	h->sending_count = n;
}

static void r_propose(struct cbor_reader *r, uint64_t key, struct report_propose *p)
{
	if (key == 1)
		p->request = r_some(r, UINT64_MAX);
	else if (key == 2)
		cbor_r_fixed(r, p->attempt, ID_SIZE);
	else if (key == 3)
		p->action = r_full(r, cbor_r_bytes(r));
	else if (key == 4)
		p->dropped = (uint32_t)r_some(r, UINT32_MAX);
	else if (key == 5)
		p->reason = r_full(r, cbor_r_text(r));
	else
		p->names = r_full(r, cbor_r_text(r));
}

static void r_read_key(struct cbor_reader *r, uint64_t key, struct report_read *v)
{
	switch (key) {
	case 1:
		cbor_r_fixed(r, v->attempt, ID_SIZE);
		return;
	case 2:
		v->wall_ns = cbor_r_int(r);
		return;
	case 3:
		v->kind = (enum action_kind)r_some(r, ACTION_TOOL);
		return;
	case 4:
		v->denied = r_true(r);
		return;
	case 5:
		v->status = (int)r_some(r, STATUS_MAX);
		return;
	case 6:
		v->method = r_full(r, cbor_r_text(r));
		return;
	case 7:
		v->host = cbor_r_text(r);
		return;
	case 8:
		v->path = r_full(r, cbor_r_bytes(r));
		return;
	case 9:
		v->port = (uint16_t)r_some(r, UINT16_MAX);
		return;
	case 10:
		v->rule = r_full(r, cbor_r_text(r));
		return;
	case 11:
		v->why = r_full(r, cbor_r_text(r));
		return;
	case 12:
		v->sent = r_some(r, UINT64_MAX);
		return;
	case 13:
		v->received = r_some(r, UINT64_MAX);
		return;
	case 14:
		v->duration_us = r_some(r, UINT64_MAX);
		return;
	}
}

/* The keys of a map that is described by its shape. */
static bool next_key(struct cbor_reader *r, struct cbor_map_iter *m, struct shape s, uint32_t *seen,
		     uint64_t *ret)
{
	if (!cbor_r_key(r, m, ret)) {
		if (!r->error && (*seen & s.must) != s.must)
			cbor_r_fail(r, -EBADMSG);
		return false;
	}
	if (*ret > 31 || !(s.all & K(*ret))) {
		cbor_r_fail(r, -EPROTO);
		return false;
	}
	*seen |= K(*ret);
	return true;
}

static void r_reads(struct cbor_reader *r, struct report_reads *ret)
{
	size_t n = r_count(r, 1, REPORT_READS_MAX);

	ret->items = n ? calloc(n, sizeof(*ret->items)) : NULL;
	if (n && !ret->items)
		cbor_r_fail(r, -ENOMEM);
	for (size_t i = 0; i < n && !r->error; i++) {
		struct cbor_map_iter m;
		uint32_t seen = 0;
		uint64_t key;

		cbor_r_map(r, &m);
		while (next_key(r, &m, read_shape, &seen, &key))
			r_read_key(r, key, &ret->items[i]);
	}
	ret->count = n;
}

static void r_result(struct cbor_reader *r, uint64_t key, struct report_result *v)
{
	switch (key) {
	case 1:
		v->request = r_some(r, UINT64_MAX);
		return;
	case 2:
		cbor_r_fixed(r, v->effect, ID_SIZE);
		return;
	case 3:
		v->outcome = (enum report_outcome)r_some(r, REPORT_DOUBT);
		return;
	case 4:
		v->status = (int)r_some(r, STATUS_MAX);
		return;
	case 5:
		v->header_count = r_headers(r, v->headers);
		return;
	case 6:
		v->too_long = r_true(r);
		return;
	case 7:
		v->sent = r_some(r, UINT64_MAX);
		return;
	case 8:
		v->received = r_some(r, UINT64_MAX);
		return;
	case 9:
		v->why = r_full(r, cbor_r_text(r));
		return;
	}
}

static uint64_t r_limit(struct cbor_reader *r)
{
	uint64_t v = cbor_r_uint(r);

	if (v == UINT64_MAX)
		cbor_r_fail(r, -EBADMSG);
	return v;
}

static void r_attempt(struct cbor_reader *r, uint64_t key, struct report_attempt *a)
{
	if (key == 1) {
		cbor_r_fixed(r, a->attempt, ID_SIZE);
	} else if (key == 2) {
		a->egress_left = r_limit(r);
	} else if (key == 3) {
		a->requests_left = r_limit(r);
	} else if (key == 4) {
		a->secret_count = r_count(r, 1, REPORT_SECRETS_MAX);
		for (size_t i = 0; i < a->secret_count; i++) {
			r_tuple(r, 3);
			a->secrets[i].name = cbor_r_text(r);
			a->secrets[i].placeholder = cbor_r_bytes(r);
			a->secrets[i].value = cbor_r_bytes(r);
		}
	} else {
		a->ca_count = r_count(r, 1, REPORT_CAS_MAX);
		for (size_t i = 0; i < a->ca_count; i++)
			a->cas[i] = cbor_r_bytes(r);
	}
}

static void r_answer(struct cbor_reader *r, uint64_t key, struct report_answer *a)
{
	switch (key) {
	case 1:
		a->request = r_some(r, UINT64_MAX);
		return;
	case 2:
		cbor_r_fixed(r, a->effect, ID_SIZE);
		return;
	case 3:
		a->verdict = (enum report_verdict)r_some(r, REPORT_WAITING);
		return;
	case 4:
		a->key_header = r_full(r, cbor_r_text(r));
		return;
	case 5:
		a->key = r_full(r, cbor_r_text(r));
		return;
	case 6:
		a->status = (int)r_some(r, STATUS_MAX);
		return;
	case 7:
		a->header_count = r_headers(r, a->headers);
		return;
	case 8:
		a->rule = r_full(r, cbor_r_text(r));
		return;
	case 9:
		a->why = r_full(r, cbor_r_text(r));
		return;
	case 10:
		a->hint = r_full(r, cbor_r_text(r));
		return;
	}
}

static void r_key(struct cbor_reader *r, uint64_t key, struct report_message *m)
{
	switch (m->type) {
	case REPORT_HELLO:
		r_hello(r, key, &m->hello);
		return;
	case REPORT_PROPOSE:
		r_propose(r, key, &m->propose);
		return;
	case REPORT_READS:
		r_reads(r, &m->reads);
		return;
	case REPORT_RESULT:
		r_result(r, key, &m->result);
		return;
	case REPORT_DELIVERED:
	case REPORT_RELEASE:
		cbor_r_fixed(r, m->effect, ID_SIZE);
		return;
	case REPORT_CUT:
		m->request = r_some(r, UINT64_MAX);
		return;
	case REPORT_SETTINGS:
		m->settings.resolvers = r_full(r, cbor_r_text(r));
		return;
	case REPORT_ATTEMPT:
		r_attempt(r, key, &m->attempt);
		return;
	case REPORT_DRAINED:
	case REPORT_ATTEMPT_END:
		cbor_r_fixed(r, m->attempt_end, ID_SIZE);
		return;
	case REPORT_ANSWER:
		r_answer(r, key, &m->answer);
		return;
	}
}

static void r_type(struct cbor_reader *r, struct cbor_map_iter *it, struct report_message *m)
{
	uint64_t key, type = 0;

	if (!cbor_r_key(r, it, &key) || key != 0 || (type = cbor_r_uint(r)) > UINT8_MAX ||
	    shape_of((enum report_type)type).must == UINT32_MAX) {
		cbor_r_fail(r, -EPROTO);
		return;
	}
	m->type = (enum report_type)type;
	if (m->type == REPORT_ATTEMPT)
		m->attempt.egress_left = m->attempt.requests_left = UINT64_MAX;
}

int report_decode(struct bytes b, struct report_message *ret)
{
	struct cbor_reader r = cbor_reader(b);
	struct report_message *m;
	struct cbor_map_iter it;
	uint32_t seen = 0;
	uint64_t key;
	int code;

	if (b.len > REPORT_DATAGRAM_MAX)
		return -E2BIG;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	cbor_r_map(&r, &it);
	r_type(&r, &it, m);
	while (!r.error && next_key(&r, &it, shape_of(m->type), &seen, &key))
		r_key(&r, key, m);
	code = cbor_r_end(&r);
	if (code == 0 && (!valid(m) || !texts_short(m)))
		code = -EINVAL;
	if (code == 0)
		*ret = *m;
	else if (m->type)
		report_message_clear(m);
	explicit_bzero(m, sizeof(*m));
	free(m);
	return code;
}

void report_message_clear(struct report_message *m)
{
	if (m->type == REPORT_HELLO)
		free((void *)m->hello.sending);
	if (m->type == REPORT_READS)
		free(m->reads.items);
	memset(m, 0, sizeof(*m));
}
