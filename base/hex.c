#include "base/hex.h"

#include <errno.h>

static bool is_small_digit(uint8_t c)
{
	return hex_digit(c) >= 0 && !(c >= 'A' && c <= 'F');
}

int hex_decode(struct bytes hex, uint8_t *ret, size_t size)
{
	const uint8_t *p = hex.data;

	if (hex.len % 2 != 0 || hex.len / 2 != size)
		return -EINVAL;
	for (size_t i = 0; i < hex.len; i++)
		if (!is_small_digit(p[i]))
			return -EINVAL;
	for (size_t i = 0; i < size; i++)
		ret[i] = (uint8_t)(hex_digit(p[2 * i]) * 16 + hex_digit(p[2 * i + 1]));
	return 0;
}
