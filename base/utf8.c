#include "base/utf8.h"
#include <errno.h>
#include <stdio.h>

enum { NAME_MAX_BYTES = 128 };

int32_t utf8_next(struct bytes b, size_t *at)
{
	const uint8_t *p = (const uint8_t *)b.data + *at;
	size_t left = b.len - *at;
	uint32_t cp;
	uint32_t least;
	size_t n;

	*at += 1;
	if (p[0] < 0x80)
		return p[0];
	if ((p[0] & 0xe0) == 0xc0) {
		n = 2, cp = p[0] & 0x1fU, least = 0x80;
	} else if ((p[0] & 0xf0) == 0xe0) {
		n = 3, cp = p[0] & 0x0fU, least = 0x800;
	} else if ((p[0] & 0xf8) == 0xf0) {
		n = 4, cp = p[0] & 0x07U, least = 0x10000;
	} else {
		return -EILSEQ;
	}
	if (left < n)
		return -EILSEQ;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return -EILSEQ;
		cp = cp << 6 | (p[i] & 0x3fU);
	}
	if (cp < least || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
		return -EILSEQ;
	*at += n - 1;
	return (int32_t)cp;
}

bool utf8_valid(struct bytes b)
{
	for (size_t at = 0; at < b.len;)
		if (utf8_next(b, &at) < 0)
			return false;
	return true;
}

struct bytes utf8_cut(struct bytes b, size_t max)
{
	const uint8_t *p = b.data;

	if (b.len <= max)
		return b;
	b.len = max;
	for (size_t back = 1; back <= 3 && back <= max; back++) {
		uint8_t c = p[max - back];

		if ((c & 0xc0) == 0x80)
			continue;
		if (back < (c >= 0xf0 ? 4U : c >= 0xe0 ? 3U : c >= 0xc0 ? 2U : 1U))
			b.len = max - back;
		break;
	}
	return b;
}

void utf8_copy(char *to, size_t size, struct bytes from)
{
	from = utf8_cut(from, size - 1);
	if (from.len)
		memcpy(to, from.data, from.len);
	to[from.len] = '\0';
}

void utf8_vprintf(char *to, size_t size, const char *fmt, va_list args)
{
	int need = vsnprintf(to, size, fmt, args);

	if (need < 0)
		to[0] = '\0';
	else if ((size_t)need >= size && size > 1) /* the NUL is no half of a character */
		to[utf8_cut(bytes_of(to, size), size - 1).len] = '\0';
}

void utf8_printf(char *to, size_t size, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	utf8_vprintf(to, size, fmt, args);
	va_end(args);
}

/* Unicode 15: general categories Cc, Cf, Zl, Zp, the property Default_Ignorable_Code_Point,
 * noncharacters, and U+2800, which shows nothing. Ascending. */
static const struct {
	int32_t first, last;
} deceptive[] = {
	{0x0000, 0x001f},   {0x007f, 0x009f},	{0x00ad, 0x00ad},   {0x034f, 0x034f},
	{0x0600, 0x0605},   {0x061c, 0x061c},	{0x06dd, 0x06dd},   {0x070f, 0x070f},
	{0x0890, 0x0891},   {0x08e2, 0x08e2},	{0x115f, 0x1160},   {0x17b4, 0x17b5},
	{0x180b, 0x180f},   {0x200b, 0x200f},	{0x2028, 0x202e},   {0x2060, 0x206f},
	{0x2800, 0x2800},   {0x3164, 0x3164},	{0xfdd0, 0xfdef},   {0xfe00, 0xfe0f},
	{0xfeff, 0xfeff},   {0xffa0, 0xffa0},	{0xfff0, 0xfffb},   {0xfffe, 0xffff},
	{0x110bd, 0x110bd}, {0x110cd, 0x110cd}, {0x13430, 0x1343f}, {0x1bca0, 0x1bca3},
	{0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
};

bool utf8_is_deceptive(int32_t cp)
{
	if (cp >= 0x20 && cp < 0x7f)
		return false;
	if (cp < 0 || (cp & 0xfffe) == 0xfffe)
		return true;
	for (size_t i = 0; i < sizeof(deceptive) / sizeof(deceptive[0]); i++)
		if (cp <= deceptive[i].last)
			return cp >= deceptive[i].first;
	return false;
}

int utf8_check_name(struct bytes b)
{
	if (b.len == 0)
		return -EINVAL;
	if (b.len > NAME_MAX_BYTES)
		return -ENAMETOOLONG;
	if (bytes_equal(b, bytes_str(".")) || bytes_equal(b, bytes_str("..")))
		return -EINVAL;
	for (size_t at = 0; at < b.len;) {
		int32_t cp = utf8_next(b, &at);

		if (cp < 0 || cp == '/' || cp == '#' || utf8_is_deceptive(cp))
			return -EINVAL;
	}
	return 0;
}
