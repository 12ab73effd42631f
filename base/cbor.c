#include "base/cbor.h"
#include "base/escape.h"
#include "base/utf8.h"
#include <cbor/callbacks.h>
#include <cbor/encoding.h>
#include <cbor/streaming.h>
#include <errno.h>
#include <inttypes.h>

enum { HEAD_MAX = 9 };

/* ---- writer ---- */

static void append_head(struct buffer *b, const unsigned char *head, size_t len)
{
	buffer_append(b, head, len);
}

void cbor_w_uint(struct buffer *b, uint64_t v)
{
	unsigned char head[HEAD_MAX];

	append_head(b, head, cbor_encode_uint(v, head, sizeof(head)));
}

void cbor_w_int(struct buffer *b, int64_t v)
{
	unsigned char head[HEAD_MAX];

	if (v >= 0)
		cbor_w_uint(b, (uint64_t)v);
	else
		append_head(b, head, cbor_encode_negint(~(uint64_t)v, head, sizeof(head)));
}

void cbor_w_bytes(struct buffer *b, struct bytes v)
{
	unsigned char head[HEAD_MAX];

	append_head(b, head, cbor_encode_bytestring_start(v.len, head, sizeof(head)));
	buffer_append(b, v.data, v.len);
}

void cbor_w_text(struct buffer *b, struct bytes v)
{
	unsigned char head[HEAD_MAX];

	if (!utf8_valid(v)) {
		if (!b->failed)
			b->failed = -EILSEQ;
		return;
	}
	append_head(b, head, cbor_encode_string_start(v.len, head, sizeof(head)));
	buffer_append(b, v.data, v.len);
}

void cbor_w_str(struct buffer *b, const char *v)
{
	cbor_w_text(b, bytes_str(v));
}

void cbor_w_bool(struct buffer *b, bool v)
{
	unsigned char head[HEAD_MAX];

	append_head(b, head, cbor_encode_bool(v, head, sizeof(head)));
}

void cbor_w_null(struct buffer *b)
{
	unsigned char head[HEAD_MAX];

	append_head(b, head, cbor_encode_null(head, sizeof(head)));
}

void cbor_w_array(struct buffer *b, size_t count)
{
	unsigned char head[HEAD_MAX];

	append_head(b, head, cbor_encode_array_start(count, head, sizeof(head)));
}

void cbor_w_map(struct buffer *b, size_t pairs)
{
	unsigned char head[HEAD_MAX];

	append_head(b, head, cbor_encode_map_start(pairs, head, sizeof(head)));
}

void cbor_w_raw(struct buffer *b, struct bytes item)
{
	buffer_append(b, item.data, item.len);
}

struct cbor_map_mark cbor_w_map_begin(struct buffer *b)
{
	return (struct cbor_map_mark){.at = b->len};
}

void cbor_w_key(struct buffer *b, struct cbor_map_mark *m, uint64_t key)
{
	m->pairs++;
	cbor_w_uint(b, key);
}

void cbor_w_key_text(struct buffer *b, struct cbor_map_mark *m, uint64_t key, struct bytes text)
{
	if (text.len == 0)
		return;
	cbor_w_key(b, m, key);
	cbor_w_text(b, text);
}

void cbor_w_key_true(struct buffer *b, struct cbor_map_mark *m, uint64_t key, bool v)
{
	if (!v)
		return;
	cbor_w_key(b, m, key);
	cbor_w_bool(b, true);
}

void cbor_w_map_end(struct buffer *b, struct cbor_map_mark *m)
{
	unsigned char head[HEAD_MAX];
	size_t len = cbor_encode_map_start(m->pairs, head, sizeof(head));

	if (buffer_reserve(b, len) < 0)
		return;
	memmove(b->data + m->at + len, b->data + m->at, b->len - m->at + 1);
	memcpy(b->data + m->at, head, len);
	b->len += len;
}

/* ---- one head, as libcbor decodes it ---- */

struct item {
	enum cbor_kind kind; /* CBOR_NONE: something this subset does not have */
	uint64_t value; /* integer (of a negative one: -1 - n), count, length, or truth */
	const void *string;
	size_t size; /* bytes that the head (and a string's content) takes */
};

static void on_uint8(void *c, uint8_t v)
{
	*(struct item *)c = (struct item){.kind = CBOR_UINT, .value = v};
}

static void on_uint16(void *c, uint16_t v)
{
	*(struct item *)c = (struct item){.kind = CBOR_UINT, .value = v};
}

static void on_uint32(void *c, uint32_t v)
{
	*(struct item *)c = (struct item){.kind = CBOR_UINT, .value = v};
}

static void on_uint64(void *c, uint64_t v)
{
	*(struct item *)c = (struct item){.kind = CBOR_UINT, .value = v};
}

static void on_negint8(void *c, uint8_t v)
{
	*(struct item *)c = (struct item){.kind = CBOR_NINT, .value = v};
}

static void on_negint16(void *c, uint16_t v)
{
	*(struct item *)c = (struct item){.kind = CBOR_NINT, .value = v};
}

static void on_negint32(void *c, uint32_t v)
{
	*(struct item *)c = (struct item){.kind = CBOR_NINT, .value = v};
}

static void on_negint64(void *c, uint64_t v)
{
	*(struct item *)c = (struct item){.kind = CBOR_NINT, .value = v};
}

static void on_bytes(void *c, cbor_data data, size_t len)
{
	*(struct item *)c = (struct item){.kind = CBOR_BYTES, .value = len, .string = data};
}

static void on_text(void *c, cbor_data data, size_t len)
{
	*(struct item *)c = (struct item){.kind = CBOR_TEXT, .value = len, .string = data};
}

static void on_array(void *c, size_t count)
{
	*(struct item *)c = (struct item){.kind = CBOR_ARRAY, .value = count};
}

static void on_map(void *c, size_t pairs)
{
	*(struct item *)c = (struct item){.kind = CBOR_MAP, .value = pairs};
}

static void on_bool(void *c, bool v)
{
	*(struct item *)c = (struct item){.kind = CBOR_BOOL, .value = v};
}

static void on_null(void *c)
{
	*(struct item *)c = (struct item){.kind = CBOR_NULL};
}

/* What the subset lacks leaves the item at CBOR_NONE. */
static const struct cbor_callbacks callbacks = {
	.uint8 = on_uint8,
	.uint16 = on_uint16,
	.uint32 = on_uint32,
	.uint64 = on_uint64,
	.negint8 = on_negint8,
	.negint16 = on_negint16,
	.negint32 = on_negint32,
	.negint64 = on_negint64,
	.byte_string_start = cbor_null_byte_string_start_callback,
	.byte_string = on_bytes,
	.string = on_text,
	.string_start = cbor_null_string_start_callback,
	.indef_array_start = cbor_null_indef_array_start_callback,
	.array_start = on_array,
	.indef_map_start = cbor_null_indef_map_start_callback,
	.map_start = on_map,
	.tag = cbor_null_tag_callback,
	.float2 = cbor_null_float2_callback,
	.float4 = cbor_null_float4_callback,
	.float8 = cbor_null_float8_callback,
	.undefined = cbor_null_undefined_callback,
	.null = on_null,
	.boolean = on_bool,
	.indef_break = cbor_null_indef_break_callback,
};

static size_t shortest_head(const struct item *it)
{
	if (it->kind == CBOR_BOOL || it->kind == CBOR_NULL || it->value < 24)
		return 1;
	return it->value <= UINT8_MAX	 ? 2
	       : it->value <= UINT16_MAX ? 3
	       : it->value <= UINT32_MAX ? 5
					 : 9;
}

/* 0, -EBADMSG or -E2BIG. What follows an array's or map's head is looked at by who reads it; its
 * count is held against the bytes that are there, so that nobody reserves memory for an
 * announcement. */
static int decode(const uint8_t *data, size_t len, struct item *ret)
{
	struct item it = {0};
	struct cbor_decoder_result res = cbor_stream_decode(data, len, &callbacks, &it);
	size_t content = 0;

	if (res.status != CBOR_DECODER_FINISHED || it.kind == CBOR_NONE)
		return -EBADMSG;
	if (it.kind == CBOR_BYTES || it.kind == CBOR_TEXT)
		content = (size_t)it.value;
	if (res.read != shortest_head(&it) + content)
		return -EBADMSG;
	if (content > CBOR_ITEM_MAX)
		return -E2BIG;
	if (it.kind == CBOR_TEXT && !utf8_valid(bytes_of(it.string, content)))
		return -EBADMSG;
	if (it.kind == CBOR_ARRAY || it.kind == CBOR_MAP) {
		if (it.value > CBOR_COUNT_MAX)
			return -E2BIG;
		if (it.value * (it.kind == CBOR_MAP ? 2 : 1) > len - res.read)
			return -EBADMSG;
	}
	it.size = res.read;
	*ret = it;
	return 0;
}

/* ---- reader ---- */

struct cbor_reader cbor_reader(struct bytes b)
{
	return (struct cbor_reader){.data = b.data, .len = b.len};
}

void cbor_r_fail(struct cbor_reader *r, int error)
{
	if (!r->error)
		r->error = error;
}

static bool look(struct cbor_reader *r, struct item *ret)
{
	if (r->error)
		return false;
	r->error = r->at < r->len ? decode(r->data + r->at, r->len - r->at, ret) : -EBADMSG;
	return r->error == 0;
}

static bool take(struct cbor_reader *r, enum cbor_kind kind, struct item *ret)
{
	if (!look(r, ret))
		return false;
	if (ret->kind != kind) {
		r->error = -EPROTO;
		return false;
	}
	r->at += ret->size;
	return true;
}

enum cbor_kind cbor_r_peek(struct cbor_reader *r)
{
	struct item it;

	if (r->at >= r->len || !look(r, &it))
		return CBOR_NONE;
	return it.kind;
}

uint64_t cbor_r_uint(struct cbor_reader *r)
{
	struct item it;

	return take(r, CBOR_UINT, &it) ? it.value : 0;
}

int64_t cbor_r_int(struct cbor_reader *r)
{
	struct item it;

	if (!look(r, &it))
		return 0;
	if (it.kind != CBOR_UINT && it.kind != CBOR_NINT) {
		r->error = -EPROTO;
		return 0;
	}
	if (it.value > INT64_MAX) {
		r->error = -E2BIG;
		return 0;
	}
	r->at += it.size;
	return it.kind == CBOR_UINT ? (int64_t)it.value : -1 - (int64_t)it.value;
}

static struct bytes string(struct cbor_reader *r, enum cbor_kind kind)
{
	struct item it;

	if (!take(r, kind, &it))
		return (struct bytes){0};
	return bytes_of(it.string, (size_t)it.value);
}

struct bytes cbor_r_bytes(struct cbor_reader *r)
{
	return string(r, CBOR_BYTES);
}

struct bytes cbor_r_text(struct cbor_reader *r)
{
	return string(r, CBOR_TEXT);
}

bool cbor_r_bool(struct cbor_reader *r)
{
	struct item it;

	return take(r, CBOR_BOOL, &it) && it.value;
}

void cbor_r_null(struct cbor_reader *r)
{
	struct item it;

	take(r, CBOR_NULL, &it);
}

size_t cbor_r_array(struct cbor_reader *r)
{
	struct item it;

	return take(r, CBOR_ARRAY, &it) ? (size_t)it.value : 0;
}

void cbor_r_fixed(struct cbor_reader *r, void *to, size_t size)
{
	struct bytes b = cbor_r_bytes(r);

	if (r->error)
		return;
	if (b.len != size)
		r->error = -EBADMSG;
	else
		memcpy(to, b.data, size);
}

void cbor_r_digest(struct cbor_reader *r, struct digest *ret)
{
	memset(ret, 0, sizeof(*ret));
	cbor_r_fixed(r, ret->b, sizeof(ret->b));
}

size_t cbor_r_map(struct cbor_reader *r, struct cbor_map_iter *ret)
{
	struct item it;

	*ret = (struct cbor_map_iter){.first = true};
	if (take(r, CBOR_MAP, &it))
		ret->left = (size_t)it.value;
	return ret->left;
}

bool cbor_r_key(struct cbor_reader *r, struct cbor_map_iter *m, uint64_t *ret_key)
{
	struct item it;

	if (r->error || m->left == 0 || !take(r, CBOR_UINT, &it))
		return false;
	if (!m->first && it.value <= m->last) {
		r->error = -EBADMSG;
		return false;
	}
	m->first = false;
	m->last = it.value;
	m->left--;
	*ret_key = it.value;
	return true;
}

static void skip(struct cbor_reader *r, int depth)
{
	struct item it;
	struct bytes last = {0};

	if (!look(r, &it))
		return;
	r->at += it.size;
	if (it.kind != CBOR_ARRAY && it.kind != CBOR_MAP)
		return;
	if (depth >= CBOR_DEPTH_MAX) {
		r->error = -E2BIG;
		return;
	}
	for (uint64_t i = 0; i < it.value && !r->error; i++) {
		if (it.kind == CBOR_MAP) {
			size_t start = r->at;
			enum cbor_kind kind = cbor_r_peek(r);
			struct bytes key;

			if (kind != CBOR_UINT && kind != CBOR_TEXT) {
				cbor_r_fail(r, -EBADMSG);
				return;
			}
			skip(r, depth + 1);
			key = bytes_of(r->data + start, r->at - start);
			if (i > 0 && bytes_compare(last, key) >= 0) {
				cbor_r_fail(r, -EBADMSG);
				return;
			}
			last = key;
		}
		skip(r, depth + 1);
	}
}

struct bytes cbor_r_skip(struct cbor_reader *r)
{
	size_t start = r->at;

	skip(r, 0);
	if (!r->error && r->at - start > CBOR_ITEM_MAX)
		r->error = -E2BIG;
	return r->error ? (struct bytes){0} : bytes_of(r->data + start, r->at - start);
}

int cbor_r_end(struct cbor_reader *r)
{
	if (!r->error && r->at != r->len)
		r->error = -EBADMSG;
	return r->error;
}

int cbor_validate(struct bytes b)
{
	struct cbor_reader r = cbor_reader(b);

	if (b.len > CBOR_ITEM_MAX)
		return -E2BIG;
	cbor_r_skip(&r);
	return cbor_r_end(&r);
}

/* ---- diagnostic notation ---- */

static void print(struct cbor_reader *r, struct buffer *out)
{
	struct item it;

	if (!look(r, &it))
		return;
	r->at += it.size;
	switch (it.kind) {
	case CBOR_NONE:
		break;
	case CBOR_UINT:
		buffer_printf(out, "%" PRIu64, it.value);
		break;
	case CBOR_NINT:
		if (it.value == UINT64_MAX)
			buffer_append_str(out, "-18446744073709551616");
		else
			buffer_printf(out, "-%" PRIu64, it.value + 1);
		break;
	case CBOR_BYTES:
		buffer_append_str(out, "h'");
		for (size_t i = 0; i < it.value; i++)
			buffer_printf(out, "%02x", ((const uint8_t *)it.string)[i]);
		buffer_append_str(out, "'");
		break;
	case CBOR_TEXT:
		buffer_append_str(out, "\"");
		escape_json(out, bytes_of(it.string, (size_t)it.value));
		buffer_append_str(out, "\"");
		break;
	case CBOR_ARRAY:
		buffer_append_str(out, "[");
		for (uint64_t i = 0; i < it.value && !r->error; i++) {
			buffer_append_str(out, i ? ", " : "");
			print(r, out);
		}
		buffer_append_str(out, "]");
		break;
	case CBOR_MAP:
		buffer_append_str(out, "{");
		for (uint64_t i = 0; i < it.value && !r->error; i++) {
			buffer_append_str(out, i ? ", " : "");
			print(r, out);
			buffer_append_str(out, ": ");
			print(r, out);
		}
		buffer_append_str(out, "}");
		break;
	case CBOR_BOOL:
		buffer_append_str(out, it.value ? "true" : "false");
		break;
	case CBOR_NULL:
		buffer_append_str(out, "null");
		break;
	}
}

int cbor_diagnostic(struct bytes b, struct buffer *out)
{
	struct cbor_reader r = cbor_reader(b);
	int err = cbor_validate(b); /* also bounds the depth of print() */

	if (err < 0)
		return err;
	print(&r, out);
	return out->failed;
}
