#pragma once
/*
 * Hexadecimal digits, read. Pure.
 */
#include <stdint.h>

#include "base/buffer.h"

/* 0 to 15; -1 where c is none. */
static inline int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The same, of capitals alone: an escape in canonical form (RFC 3986, section 6.2.2.1). */
static inline int hex_capital(uint8_t c)
{
	return c >= 'a' && c <= 'f' ? -1 : hex_digit(c);
}

/* Exactly size bytes, as Holdfast itself writes them: two small digits each. -EINVAL for anything
 * else, with ret untouched. */
MUST_CHECK int hex_decode(struct bytes hex, uint8_t *ret, size_t size);
