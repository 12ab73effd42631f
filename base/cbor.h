#pragma once
/*
 * Deterministic CBOR (RFC 8949 section 4.2.1): shortest heads, definite lengths, map keys sorted
 * bytewise and unique, no floats, no tags, no simple values but false, true, null. libcbor's
 * streaming encoder and decoder do the heads; this layer makes them strict and bounded. Injective:
 * decode then encode gives the same bytes or an error. Maps in Holdfast have unsigned integer keys,
 * described in base/holdfast.cddl (RFC 8610); text keys are accepted by cbor_validate and
 * cbor_r_skip, no other kind is.
 *
 * Writer: appends to a struct buffer; errors stick in buffer.failed. The caller gives map keys in
 * ascending order; cbor_w_* asserts nothing about it, the golden tests and cbor_validate do.
 * Reader: a cursor over borrowed bytes; the first error sticks (r->error) and every later call
 * returns a zero value, so a decoder reads straight down and looks once at the end with
 * cbor_r_end(). An announced count never exceeds what the bytes left could hold. CBOR_DEPTH_MAX and
 * CBOR_ITEM_MAX bind cbor_r_skip and cbor_validate; a decoder that recurses by itself counts its
 * own depth.
 */
#include "base/buffer.h"
#include "base/digest.h"

enum { CBOR_DEPTH_MAX = 16, CBOR_ITEM_MAX = 16 * 1024 * 1024, CBOR_COUNT_MAX = 1 << 20 };

enum cbor_kind {
	CBOR_NONE, /* end of input or error */
	CBOR_UINT,
	CBOR_NINT,
	CBOR_BYTES,
	CBOR_TEXT,
	CBOR_ARRAY,
	CBOR_MAP,
	CBOR_BOOL,
	CBOR_NULL,
};

void cbor_w_uint(struct buffer *b, uint64_t v);
void cbor_w_int(struct buffer *b, int64_t v);
void cbor_w_bytes(struct buffer *b, struct bytes v);
void cbor_w_text(struct buffer *b,
		 struct bytes v); /* must be UTF-8; else buffer.failed = -EILSEQ */
void cbor_w_str(struct buffer *b, const char *v);
void cbor_w_bool(struct buffer *b, bool v);
void cbor_w_null(struct buffer *b);
void cbor_w_array(struct buffer *b, size_t count); /* count items follow */
void cbor_w_map(struct buffer *b, size_t pairs); /* pairs of key, value follow, keys ascending */
void cbor_w_raw(struct buffer *b, struct bytes item); /* one already canonical item */
/* A map whose number of entries is not known beforehand: begin, then key + value as often as
 * needed, then end, which inserts the head. Nests. */
struct cbor_map_mark {
	size_t at;
	size_t pairs;
};
struct cbor_map_mark cbor_w_map_begin(struct buffer *b);
void cbor_w_key(struct buffer *b, struct cbor_map_mark *m, uint64_t key);
/* A key with its value, left out where that is empty, or false. */
void cbor_w_key_text(struct buffer *b, struct cbor_map_mark *m, uint64_t key, struct bytes text);
void cbor_w_key_true(struct buffer *b, struct cbor_map_mark *m, uint64_t key, bool v);
void cbor_w_map_end(struct buffer *b, struct cbor_map_mark *m);

struct cbor_reader {
	const uint8_t *data;
	size_t len;
	size_t at;
	int error; /* 0, or -EBADMSG (malformed or not canonical), -E2BIG (limits), -EPROTO (another
		      kind than asked) */
};

struct cbor_reader cbor_reader(struct bytes b);
enum cbor_kind cbor_r_peek(struct cbor_reader *r);
uint64_t cbor_r_uint(struct cbor_reader *r);
int64_t cbor_r_int(struct cbor_reader *r);
struct bytes cbor_r_bytes(struct cbor_reader *r); /* borrowed */
struct bytes cbor_r_text(struct cbor_reader *r); /* borrowed, valid UTF-8 */
bool cbor_r_bool(struct cbor_reader *r);
void cbor_r_null(struct cbor_reader *r);
size_t cbor_r_array(struct cbor_reader *r); /* number of items that follow */
/* A byte string of exactly that size; *to is untouched on an error (-EBADMSG for another size). */
void cbor_r_fixed(struct cbor_reader *r, void *to, size_t size);
void cbor_r_digest(struct cbor_reader *r, struct digest *ret); /* zeroed on an error */
/* Maps: size_t n = cbor_r_map(r, &m); while (cbor_r_key(r, &m, &key)) switch (key) {...; default:
 * cbor_r_skip(r);} cbor_r_key checks ascending order and uniqueness. */
struct cbor_map_iter {
	size_t left;
	uint64_t last;
	bool first;
};
size_t cbor_r_map(struct cbor_reader *r, struct cbor_map_iter *ret);
bool cbor_r_key(struct cbor_reader *r, struct cbor_map_iter *m, uint64_t *ret_key);
struct bytes cbor_r_skip(
	struct cbor_reader *r); /* skips one item of any kind and returns its bytes */
void cbor_r_fail(struct cbor_reader *r,
		 int error); /* for checks of the caller's own; the first one sticks */
MUST_CHECK int cbor_r_end(
	struct cbor_reader *r); /* the sticky error, or -EBADMSG if bytes are left over, or 0 */
/* Checks that b is exactly one canonical item within the limits. 0 or a reader's error. */
MUST_CHECK int cbor_validate(struct bytes b);
/* RFC 8949 section 8 diagnostic notation, for people and golden files. Appends to out. */
MUST_CHECK int cbor_diagnostic(struct bytes b, struct buffer *out);
