#pragma once
/*
 * Shapes that both halves of the keeper's protocol write and read. Inside protocol*.c only.
 */
#include "sandbox/protocol.h"

static inline void protocol_wire_str(struct buffer *b, const char *s)
{
	cbor_w_bytes(b, bytes_str(s));
}

static inline void protocol_wire_key_str(struct buffer *b, struct cbor_map_mark *m, uint64_t key,
					 const char *s)
{
	if (!s)
		return;
	cbor_w_key(b, m, key);
	protocol_wire_str(b, s);
}

static inline void protocol_wire_key_uint(struct buffer *b, struct cbor_map_mark *m, uint64_t key,
					  uint64_t v)
{
	if (v == 0)
		return;
	cbor_w_key(b, m, key);
	cbor_w_uint(b, v);
}

static inline size_t protocol_wire_count(struct cbor_reader *r, size_t max)
{
	size_t n = cbor_r_array(r);

	if (n > max)
		cbor_r_fail(r, -E2BIG);
	return r->error ? 0 : n;
}

static inline uint64_t protocol_wire_uint_max(struct cbor_reader *r, uint64_t max)
{
	uint64_t v = cbor_r_uint(r);

	if (v > max)
		cbor_r_fail(r, -EBADMSG);
	return r->error ? 0 : v;
}
