#pragma once
/* UTF-8 (RFC 3629) and what may stand in a name. Pure. */
#include <stdarg.h>
#include "base/buffer.h"

MUST_CHECK bool utf8_valid(struct bytes b); /* no overlong forms, no surrogates, at most U+10FFFF */
/* Decodes the code point at b[*at], moves *at on. -EILSEQ on bad bytes (at is moved by one). */
int32_t utf8_next(struct bytes b, size_t *at);
/* Control characters (C0, DEL, C1), bidi embeddings, overrides and isolates, zero-width and other
 * invisible format characters (general category Cf), line and paragraph separators, tags, variation
 * selectors. */
bool utf8_is_deceptive(int32_t cp);
/*
 * Texts of a bounded size: a text of others is never cut within a character, since the half of one
 * is no UTF-8 and no encoder takes it. What was no UTF-8 before stays none: escape_bounded() is for
 * what must be.
 */
/* The first max bytes of b, or fewer: without the character that would end behind them. */
struct bytes utf8_cut(struct bytes b, size_t max);
/* Into to[size], size at least 1, cut, NUL-terminated. */
void utf8_copy(char *to, size_t size, struct bytes from);
/* As snprintf(3), but cut so: for texts that quote. */
void utf8_printf(char *to, size_t size, const char *fmt, ...) PRINTF_LIKE(3, 4);
void utf8_vprintf(char *to, size_t size, const char *fmt, va_list args) PRINTF_LIKE(3, 0);
/* The arguments of "%.*s" for at most max bytes of the string s; it is evaluated twice. */
#define UTF8_SHORT(s, max) (int)utf8_cut(bytes_str(s), (max)).len, (s)
/* A name of a run, step, rule or policy: 1 to 128 bytes of UTF-8 without deceptive characters, '/'
 * or '#', not "." or "..". 0, -EINVAL, or -ENAMETOOLONG. */
MUST_CHECK int utf8_check_name(struct bytes b);
