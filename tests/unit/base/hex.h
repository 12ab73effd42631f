#pragma once
/* Bytes written as hex in a test's table; blanks between them are for the eye. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/buffer.h"

static inline int unhex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline void unhex(const char *hex, struct buffer *out)
{
	for (const char *p = hex; *p; p++) {
		if (*p == ' ')
			continue;
		assert_true(unhex_digit(p[0]) >= 0 && unhex_digit(p[1]) >= 0);
		buffer_append_byte(out, (uint8_t)(unhex_digit(p[0]) << 4 | unhex_digit(p[1])));
		p++;
	}
	assert_int_equal(out->failed, 0);
}
