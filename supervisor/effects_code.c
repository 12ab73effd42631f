#include "supervisor/effects_code.h"

#include <errno.h>
#include "base/cbor.h"
#include "base/utf8.h"

int effects_code_response_encode(int status, const struct action_header *headers,
				 size_t header_count, struct buffer *out)
{
	cbor_w_map(out, 2);
	cbor_w_uint(out, 1);
	cbor_w_uint(out, (uint64_t)status);
	cbor_w_uint(out, 2);
	cbor_w_array(out, header_count);
	for (size_t i = 0; i < header_count; i++) {
		cbor_w_array(out, 2);
		cbor_w_bytes(out, headers[i].name);
		cbor_w_bytes(out, headers[i].value);
	}
	return out->failed;
}

static void read_headers(struct cbor_reader *c, struct action_header *headers, size_t *ret)
{
	size_t n = cbor_r_array(c);

	if (n > ACTION_HEADERS_MAX)
		cbor_r_fail(c, -EBADMSG);
	for (size_t i = 0; i < n && !c->error; i++) {
		if (cbor_r_array(c) != 2)
			cbor_r_fail(c, -EBADMSG);
		headers[i].name = cbor_r_bytes(c);
		headers[i].value = cbor_r_bytes(c);
	}
	*ret = c->error ? 0 : n;
}

int effects_code_response_decode(struct bytes b, int *ret_status, struct action_header *headers,
				 size_t *ret_header_count)
{
	struct cbor_reader c = cbor_reader(b);
	struct cbor_map_iter m;
	uint64_t key, status = 0;

	cbor_r_map(&c, &m);
	while (cbor_r_key(&c, &m, &key)) {
		if (key == 1)
			status = cbor_r_uint(&c);
		else if (key == 2)
			read_headers(&c, headers, ret_header_count);
		else
			cbor_r_fail(&c, -EBADMSG);
	}
	if (cbor_r_end(&c) < 0 || status < 100 || status > 999)
		return -EBADMSG;
	*ret_status = (int)status;
	return 0;
}

static struct bytes cut(struct bytes text)
{
	return utf8_cut(text, EFFECTS_CODE_READ_TEXT_MAX);
}

static void write_read(const struct report_read *r, struct buffer *out)
{
	struct cbor_map_mark m = cbor_w_map_begin(out);

#define PUT(num, condition, write)                \
	do {                                      \
		if (condition) {                  \
			cbor_w_key(out, &m, num); \
			write;                    \
		}                                 \
	} while (0)
	PUT(1, true, cbor_w_int(out, r->wall_ns));
	PUT(2, true, cbor_w_uint(out, r->kind));
	PUT(3, r->denied, cbor_w_bool(out, true));
	PUT(4, r->status, cbor_w_uint(out, (uint64_t)r->status));
	PUT(5, r->method.len, cbor_w_bytes(out, cut(r->method)));
	PUT(6, r->host.len, cbor_w_bytes(out, cut(r->host)));
	PUT(7, r->port, cbor_w_uint(out, r->port));
	PUT(8, r->path.len, cbor_w_bytes(out, cut(r->path)));
	PUT(9, r->rule.len, cbor_w_bytes(out, cut(r->rule)));
	PUT(10, r->why.len, cbor_w_bytes(out, cut(r->why)));
	PUT(11, r->sent, cbor_w_uint(out, r->sent));
	PUT(12, r->received, cbor_w_uint(out, r->received));
	PUT(13, r->duration_us, cbor_w_uint(out, r->duration_us));
#undef PUT
	cbor_w_map_end(out, &m);
}

int effects_code_reads_encode(const struct report_read *reads, size_t count, struct buffer *out)
{
	cbor_w_array(out, count);
	for (size_t i = 0; i < count; i++)
		write_read(&reads[i], out);
	return out->failed;
}

static void read_read(struct cbor_reader *c, struct report_read *r)
{
	struct cbor_map_iter m;
	uint64_t key;

	cbor_r_map(c, &m);
	while (cbor_r_key(c, &m, &key)) {
		switch (key) {
		case 1:
			r->wall_ns = cbor_r_int(c);
			break;
		case 2:
			r->kind = (enum action_kind)cbor_r_uint(c);
			break;
		case 3:
			r->denied = cbor_r_bool(c);
			break;
		case 4:
			r->status = (int)cbor_r_uint(c);
			break;
		case 5:
			r->method = cbor_r_bytes(c);
			break;
		case 6:
			r->host = cbor_r_bytes(c);
			break;
		case 7:
			r->port = (uint16_t)cbor_r_uint(c);
			break;
		case 8:
			r->path = cbor_r_bytes(c);
			break;
		case 9:
			r->rule = cbor_r_bytes(c);
			break;
		case 10:
			r->why = cbor_r_bytes(c);
			break;
		case 11:
			r->sent = cbor_r_uint(c);
			break;
		case 12:
			r->received = cbor_r_uint(c);
			break;
		case 13:
			r->duration_us = cbor_r_uint(c);
			break;
		default:
			cbor_r_fail(c, -EBADMSG);
		}
	}
}

int effects_code_reads_each(struct bytes b, int (*fn)(const struct report_read *read, void *arg),
			    void *arg)
{
	struct cbor_reader c = cbor_reader(b);
	size_t n = cbor_r_array(&c);

	for (size_t i = 0; i < n && !c.error; i++) {
		struct report_read r = {0};
		int rc;

		read_read(&c, &r);
		if (c.error)
			break;
		rc = fn(&r, arg);
		if (rc)
			return rc;
	}
	return cbor_r_end(&c) < 0 ? -EBADMSG : 0;
}
