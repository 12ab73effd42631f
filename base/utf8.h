#pragma once
/* UTF-8 (RFC 3629) and what may stand in a name. Pure. */
#include "base/buffer.h"

MUST_CHECK bool utf8_valid(struct bytes b); /* no overlong forms, no surrogates, at most U+10FFFF */
/* Decodes the code point at b[*at], moves *at on. -EILSEQ on bad bytes (at is moved by one). */
int32_t utf8_next(struct bytes b, size_t *at);
/* Control characters (C0, DEL, C1), bidi embeddings, overrides and isolates, zero-width and other
 * invisible format characters (general category Cf), line and paragraph separators, tags, variation
 * selectors. */
bool utf8_is_deceptive(int32_t cp);
/* A name of a run, step, rule or policy: 1 to 128 bytes of UTF-8 without deceptive characters, '/'
 * or '#', not "." or "..". 0, -EINVAL, or -ENAMETOOLONG. */
MUST_CHECK int utf8_check_name(struct bytes b);
