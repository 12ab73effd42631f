#include "sandbox/gate/scan.h"
#include <stdlib.h>
#include <string.h>

enum {
	FORMS_MAX = 8,
	/* A line that ends in fewer bytes of a form is not held: an event's last line must not wait
	 * for the next event. */
	LINE_HOLD_MIN = 4,
};

struct scan {
	struct buffer forms[FORMS_MAX]; /* 0: as it is; 1: hex, lowercase; others base64 */
	size_t count;
	size_t longest; /* of all, as they stand in a stream */
	struct buffer tail; /* the last longest - 1 bytes */
	bool found;
};

static void buffer_wipe(struct buffer *b)
{
	if (b->data)
		explicit_bzero(b->data, b->cap);
	buffer_free(b);
}

static void add_form(struct scan *s, struct buffer *b)
{
	if (b->len >= SCAN_FORM_MIN || s->count == 0) {
		s->forms[s->count++] = *b;
		if (b->len > s->longest)
			s->longest = b->len;
		*b = (struct buffer){0};
	}
	buffer_wipe(b);
}

static void add_hex(struct scan *s, struct bytes secret)
{
	static const char digits[] = "0123456789abcdef";
	struct buffer b = {0};

	(void)buffer_reserve(&b, 2 * secret.len);
	for (size_t i = 0; i < secret.len; i++) {
		uint8_t c = ((const uint8_t *)secret.data)[i];

		(void)buffer_append_byte(&b, (uint8_t)digits[c >> 4]);
		(void)buffer_append_byte(&b, (uint8_t)digits[c & 15]);
	}
	add_form(s, &b);
}

/* The digits that the secret alone decides when `skip` bytes stand before it. */
static void add_base64(struct scan *s, struct bytes secret, size_t skip, const char *last)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t bits = 8 * secret.len, first = (6 - 8 * skip % 6) % 6;
	const uint8_t *c = secret.data;
	struct buffer b = {0};

	(void)buffer_reserve(&b, 2 * secret.len);
	for (size_t at = first; at + 6 <= bits; at += 6) {
		unsigned v = 0;

		for (size_t i = at; i < at + 6; i++)
			v = v << 1 | (c[i / 8] >> (7 - i % 8) & 1U);
		(void)buffer_append_byte(&b, (uint8_t)(v < 62 ? digits[v] : last[v - 62]));
	}
	add_form(s, &b);
}

struct scan *scan_new(struct bytes secret)
{
	struct scan *s = secret.len ? calloc(1, sizeof(*s)) : NULL;
	struct buffer plain = {0};

	if (!s)
		return NULL;
	(void)buffer_append(&plain, secret.data, secret.len);
	add_form(s, &plain);
	add_hex(s, secret);
	for (size_t skip = 0; skip < 3; skip++) {
		add_base64(s, secret, skip, "+/");
		add_base64(s, secret, skip, "-_");
	}
	/* every byte may come as \u00XX, and each of a form's as an escaped slash, in lines */
	s->longest *= 3;
	s->longest = 6 * secret.len > s->longest ? 6 * secret.len : s->longest;
	for (size_t i = 0; i < s->count; i++)
		if (s->forms[i].failed) {
			scan_free(s);
			return NULL;
		}
	return s;
}

void scan_free(struct scan *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i++)
		buffer_wipe(&s->forms[i]);
	buffer_wipe(&s->tail);
	free(s);
}

static bool holds(struct bytes text, const struct buffer *form)
{
	return text.len >= form->len && memmem(text.data, text.len, form->data, form->len);
}

static int digit(uint8_t c)
{
	c |= 0x20;
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place; returns the new length. */
static size_t decode_percent(uint8_t *s, size_t len)
{
	size_t to = 0;

	for (size_t i = 0; i < len; i++) {
		if (s[i] == '%' && i + 2 < len && digit(s[i + 1]) >= 0 && digit(s[i + 2]) >= 0) {
			s[to++] = (uint8_t)(digit(s[i + 1]) << 4 | digit(s[i + 2]));
			i += 2;
		} else {
			s[to++] = s[i];
		}
	}
	return to;
}

/* One step of JSON's escapes (RFC 8259 section 7), at a backslash: its bytes in UTF-8, 1 to 3. Returns
 * how many it stands for, 0 where it is none; *ret_used of the text, 0 where it is cut off. */
static size_t json_escape(const uint8_t *s, size_t len, uint8_t *out, size_t *ret_used)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at = len > 1 && s[1] ? strchr(from, s[1]) : NULL;
	unsigned v = 0;

	*ret_used = 2;
	if (at) {
		out[0] = (uint8_t)to[at - from];
		return 1;
	}
	if (len > 1 && s[1] != 'u')
		return 0;
	for (size_t i = 2; i < 6; i++) {
		if (i >= len) {
			*ret_used = 0;
			return 0;
		}
		if (digit(s[i]) < 0)
			return 0;
		v = v << 4 | (unsigned)digit(s[i]);
	}
	*ret_used = 6;
	if (v < 0x80) {
		out[0] = (uint8_t)v;
		return 1;
	}
	out[0] = (uint8_t)(v < 0x800 ? 0xc0 | v >> 6 : 0xe0 | v >> 12);
	out[1] = (uint8_t)(0x80 | (v < 0x800 ? v & 63 : v >> 6 & 63));
	out[2] = (uint8_t)(0x80 | (v & 63));
	return v < 0x800 ? 2 : 3;
}

/* In place; returns the new length. */
static size_t decode_json(uint8_t *s, size_t len)
{
	size_t to = 0, used;
	uint8_t bytes[3];

	for (size_t i = 0; i < len;) {
		size_t n = s[i] == '\\' ? json_escape(s + i, len - i, bytes, &used) : 0;

		if (n == 0) {
			s[to++] = s[i++];
			continue;
		}
		memcpy(s + to, bytes, n);
		to += n;
		i += used;
	}
	return to;
}

static bool is_break(uint8_t c)
{
	return c == '\r' || c == '\n';
}

/* Consumes text. */
static bool look_line(struct scan *s, uint8_t *text, size_t len)
{
	for (size_t i = 0; i < s->count; i++)
		if (holds(bytes_of(text, len), &s->forms[i]))
			return true;
	if (memchr(text, '%', len)) {
		AUTO_BUFFER plain = {0};
		bool found;

		if (buffer_append(&plain, text, len) < 0)
			return true;
		plain.len = decode_percent(plain.data, plain.len);
		found = holds(buffer_bytes(&plain), &s->forms[0]);
		buffer_wipe(&plain);
		if (found)
			return true;
	}
	for (size_t i = 0; i < len; i++)
		if (text[i] >= 'A' && text[i] <= 'F')
			text[i] |= 0x20;
	return s->count > 1 && holds(bytes_of(text, len), &s->forms[1]);
}

/* As it is, and with its lines joined: MIME wraps base64 (RFC 2045 section 6.8). Consumes text. */
static bool look_plain(struct scan *s, uint8_t *text, size_t len)
{
	struct buffer joined = {0};
	bool found = false;

	if (memchr(text, '\n', len) || memchr(text, '\r', len)) {
		if (buffer_append(&joined, text, len) < 0)
			return true;
		joined.len = 0;
		for (size_t i = 0; i < len; i++)
			if (!is_break(text[i]))
				joined.data[joined.len++] = text[i];
		found = joined.len && look_line(s, joined.data, joined.len);
		buffer_wipe(&joined);
	}
	return found || look_line(s, text, len);
}

static bool look(struct scan *s, struct buffer *text)
{
	struct buffer plain = {0};
	bool found;

	if (memchr(text->data, '\\', text->len)) {
		if (buffer_append(&plain, text->data, text->len) < 0)
			return true;
		plain.len = decode_json(plain.data, plain.len);
		found = look_plain(s, plain.data, plain.len);
		buffer_wipe(&plain);
		if (found)
			return true;
	}
	return look_plain(s, text->data, text->len);
}

bool scan_feed(struct scan *s, struct bytes piece)
{
	struct buffer text = {0};
	size_t keep = s->longest - 1;

	if (s->found || piece.len == 0)
		return s->found;
	(void)buffer_append(&text, s->tail.data, s->tail.len);
	if (buffer_append(&text, piece.data, piece.len) < 0) {
		buffer_wipe(&text);
		return s->found = true;
	}
	buffer_wipe(&s->tail);
	if (keep > text.len)
		keep = text.len;
	if (buffer_append(&s->tail, text.data + text.len - keep, keep) < 0)
		s->found = true;
	if (look(s, &text))
		s->found = true;
	buffer_wipe(&text);
	return s->found;
}

/* ---- what may begin a form ---- */

/* Over the ends of lines. */
static bool begins(const struct buffer *form, const uint8_t *s, size_t len, bool fold)
{
	size_t at = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = fold && s[i] >= 'A' && s[i] <= 'F' ? s[i] | 0x20 : s[i];

		if (at >= LINE_HOLD_MIN && is_break(c))
			continue;
		if (at == form->len || c != form->data[at++])
			return false;
	}
	return true;
}

/* Percent-encoded in any of its bytes; the last escape may be cut. */
static bool begins_percent(const struct buffer *secret, const uint8_t *s, size_t len)
{
	size_t at = 0;

	for (size_t i = 0; i < len; i++, at++) {
		uint8_t c = s[i];

		if (at == secret->len)
			return false;
		if (c == '%' && i + 2 >= len)
			return i + 1 == len || digit(s[i + 1]) == secret->data[at] >> 4 ||
			       secret->data[at] == '%';
		if (c == '%' && digit(s[i + 1]) >= 0 && digit(s[i + 2]) >= 0) {
			c = (uint8_t)(digit(s[i + 1]) << 4 | digit(s[i + 2]));
			i += 2;
		}
		if (c != secret->data[at])
			return false;
	}
	return true;
}

/* With any of its bytes as JSON escapes; the last escape may be cut. */
static bool begins_json(const struct buffer *form, const uint8_t *s, size_t len)
{
	size_t at = 0, used;
	uint8_t bytes[3];

	for (size_t i = 0; i < len; i += used) {
		size_t n = 1;

		if (at == form->len)
			return false;
		used = 1;
		bytes[0] = s[i];
		if (s[i] == '\\') {
			n = json_escape(s + i, len - i, bytes, &used);
			if (n == 0 && used == 0)
				return true;
			if (n == 0) {
				n = used = 1;
				bytes[0] = s[i];
			}
		}
		if (at >= LINE_HOLD_MIN && n == 1 && is_break(bytes[0]))
			continue;
		if (n > form->len - at || memcmp(form->data + at, bytes, n) != 0)
			return false;
		at += n;
	}
	return true;
}

size_t scan_hold(const struct scan *s)
{
	bool escaped = s->tail.len && memchr(s->tail.data, '\\', s->tail.len);

	for (size_t at = 0; at < s->tail.len; at++) {
		const uint8_t *from = s->tail.data + at;
		size_t len = s->tail.len - at;

		for (size_t i = 0; i < s->count; i++)
			if (begins(&s->forms[i], from, len, i == 1))
				return len;
		if (begins_percent(&s->forms[0], from, len))
			return len;
		for (size_t i = 0; escaped && i < s->count; i++)
			if (begins_json(&s->forms[i], from, len))
				return len;
	}
	return 0;
}
