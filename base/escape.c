#include "base/escape.h"
#include "base/utf8.h"
#include <stdint.h>

/*
 * Look-alikes, after UTS 39's "mixed script" test, coarsely: the scripts that people forge one
 * another's letters with are told apart; everything that Han, kana, hangul and the rest write is
 * one group that goes with Latin, as it does in honest text. Letters made to look like ASCII ones
 * are a look-alike by themselves.
 */
enum script {
	SCRIPT_COMMON, /* digits, marks, and what is in no table */
	SCRIPT_LATIN,
	SCRIPT_GREEK,
	SCRIPT_CYRILLIC,
	SCRIPT_ARMENIAN,
	SCRIPT_HEBREW,
	SCRIPT_ARABIC,
	SCRIPT_GEORGIAN,
	SCRIPT_CHEROKEE,
	SCRIPT_CANADIAN,
	SCRIPT_LISU,
	SCRIPT_COPTIC,
	SCRIPT_STYLED,
};

static const struct {
	int32_t first, last;
	enum script script;
} scripts[] = {
	{'A', 'Z', SCRIPT_LATIN},	   {'a', 'z', SCRIPT_LATIN},
	{0x00c0, 0x02af, SCRIPT_LATIN},	   {0x0370, 0x03e1, SCRIPT_GREEK},
	{0x03e2, 0x03ef, SCRIPT_COPTIC},   {0x03f0, 0x03ff, SCRIPT_GREEK},
	{0x0400, 0x052f, SCRIPT_CYRILLIC}, {0x0531, 0x058a, SCRIPT_ARMENIAN},
	{0x0591, 0x05f4, SCRIPT_HEBREW},   {0x0606, 0x077f, SCRIPT_ARABIC},
	{0x10a0, 0x10ff, SCRIPT_GEORGIAN}, {0x13a0, 0x13ff, SCRIPT_CHEROKEE},
	{0x1400, 0x167f, SCRIPT_CANADIAN}, {0x1c80, 0x1c8f, SCRIPT_CYRILLIC},
	{0x1d00, 0x1dbf, SCRIPT_STYLED},   {0x1e00, 0x1eff, SCRIPT_LATIN},
	{0x1f00, 0x1fff, SCRIPT_GREEK},	   {0x2100, 0x218b, SCRIPT_STYLED},
	{0x2460, 0x24ff, SCRIPT_STYLED},   {0x2c60, 0x2c7f, SCRIPT_LATIN},
	{0x2c80, 0x2cff, SCRIPT_COPTIC},   {0x2de0, 0x2dff, SCRIPT_CYRILLIC},
	{0xa4d0, 0xa4ff, SCRIPT_LISU},	   {0xa640, 0xa69f, SCRIPT_CYRILLIC},
	{0xa720, 0xa7ff, SCRIPT_LATIN},	   {0xab30, 0xab6f, SCRIPT_LATIN},
	{0xab70, 0xabbf, SCRIPT_CHEROKEE}, {0xfb00, 0xfb06, SCRIPT_STYLED},
	{0xff10, 0xff5a, SCRIPT_STYLED},   {0x1d400, 0x1d7ff, SCRIPT_STYLED},
	{0x1f100, 0x1f1ff, SCRIPT_STYLED},
};

static enum script script_of(int32_t cp)
{
	if (cp == 0xd7 || cp == 0xf7)
		return SCRIPT_COMMON;
	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++)
		if (cp <= scripts[i].last)
			return cp >= scripts[i].first ? scripts[i].script : SCRIPT_COMMON;
	return SCRIPT_COMMON;
}

static bool in_word(int32_t cp)
{
	if (cp < 0x80)
		return (cp >= '0' && cp <= '9') || (cp >= 'A' && cp <= 'Z') ||
		       (cp >= 'a' && cp <= 'z') || cp == '_';
	return cp > 0xbf && !(cp >= 0x2000 && cp <= 0x206f) && !(cp >= 0x3000 && cp <= 0x303f);
}

/* Whether the word that starts at `at` mixes scripts; *ret_end is where it ends. */
static bool word_is_mixed(struct bytes in, size_t at, size_t *ret_end)
{
	enum script seen = SCRIPT_COMMON;
	bool mixed = false;

	while (at < in.len) {
		size_t next = at;
		int32_t cp = utf8_next(in, &next);
		enum script s;

		if (cp < 0 || !in_word(cp))
			break;
		s = script_of(cp);
		if (s == SCRIPT_STYLED ||
		    (seen != SCRIPT_COMMON && s != SCRIPT_COMMON && s != seen))
			mixed = true;
		if (s != SCRIPT_COMMON)
			seen = s;
		at = next;
	}
	*ret_end = at;
	return mixed;
}

static void append_one(struct buffer *out, int32_t cp, struct bytes raw, unsigned flags,
		       bool marked)
{
	if ((cp == '\n' || cp == '\t') && (flags & ESCAPE_KEEP_NEWLINE))
		buffer_append_byte(out, (uint8_t)cp);
	else if (cp == '\n')
		buffer_append_str(out, "\\n");
	else if (cp == '\t')
		buffer_append_str(out, "\\t");
	else if (cp == '\\')
		buffer_append_str(out, flags & ESCAPE_KEEP_BACKSLASH ? "\\" : "\\\\");
	else if (cp < 0x20 || cp == 0x7f) /* below 0: a byte that is not UTF-8 */
		buffer_printf(out, "\\x%02x", *(const uint8_t *)raw.data);
	else if (utf8_is_deceptive(cp) || (marked && cp >= 0x80))
		buffer_printf(out, "\\u{%x}", (unsigned)cp);
	else
		buffer_append(out, raw.data, raw.len);
}

void escape_append(struct buffer *out, struct bytes in, unsigned flags)
{
	size_t word_end = 0;
	bool marked = false;

	for (size_t at = 0; at < in.len;) {
		size_t start = at;
		int32_t cp;

		if ((flags & ESCAPE_MARK_LOOKALIKE) && at >= word_end) {
			marked = word_is_mixed(in, at, &word_end);
			if (word_end == at) /* not in a word: one character on */
				marked = false;
		}
		cp = utf8_next(in, &at);
		append_one(out, cp, bytes_of((const uint8_t *)in.data + start, at - start), flags,
			   marked);
	}
}

struct bytes escape_bounded(struct bytes b, size_t max, struct buffer *scratch)
{
	b = utf8_cut(b, max); /* escaping makes nothing shorter: what is behind would go anyway */
	if (utf8_valid(b))
		return b;
	scratch->len = 0;
	escape_append(scratch, b, ESCAPE_LINE);
	return scratch->failed ? bytes_of("", 0) : utf8_cut(buffer_bytes(scratch), max);
}

char *escape_dup(struct bytes in, unsigned flags)
{
	AUTO_BUFFER b = {.max = in.len < SIZE_MAX / 8 ? 4 * in.len + 1 : SIZE_MAX};

	escape_append(&b, in, flags);
	return buffer_take(&b, NULL);
}

/* Bytes from at on that stand for themselves: most of all that is shown. */
static size_t plain_json(struct bytes in, size_t at)
{
	const uint8_t *p = in.data;
	size_t end = at;

	while (end < in.len && p[end] >= ' ' && p[end] < 0x7f && p[end] != '"' && p[end] != '\\')
		end++;
	return end - at;
}

void escape_json(struct buffer *out, struct bytes in)
{
	for (size_t at = 0; at < in.len;) {
		size_t start = at, plain = plain_json(in, at);
		int32_t cp;

		if (plain > 0) {
			buffer_append(out, (const uint8_t *)in.data + at, plain);
			at += plain;
			continue;
		}
		cp = utf8_next(in, &at);

		if (cp < 0)
			buffer_append_str(out, "\xef\xbf\xbd");
		else if (cp == '"' || cp == '\\')
			buffer_printf(out, "\\%c", (char)cp);
		else if (cp == '\n')
			buffer_append_str(out, "\\n");
		else if (cp == '\t')
			buffer_append_str(out, "\\t");
		else if (utf8_is_deceptive(cp) && cp < 0x10000)
			buffer_printf(out, "\\u%04x", (unsigned)cp);
		else if (utf8_is_deceptive(cp))
			buffer_printf(out, "\\u%04x\\u%04x",
				      0xd800U + ((unsigned)(cp - 0x10000) >> 10),
				      0xdc00U + ((unsigned)(cp - 0x10000) & 0x3ffU));
		else
			buffer_append(out, (const uint8_t *)in.data + start, at - start);
	}
}
