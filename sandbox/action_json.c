/* A JSON text in one form, for action_identity(): see action.h. */
#include <errno.h>
#include "base/utf8.h"
#include "sandbox/action.h"

struct reader {
	const char *at, *end;
};

/* Pointers that lead on from here: each at its next '/'. */
struct pointers {
	const char *v[ACTION_POINTERS_MAX];
	size_t count;
};

struct member { /* of one object, in its scratch buffer */
	size_t key, key_len, value, value_len;
};

static int value(struct reader *r, const struct pointers *p, unsigned depth, struct buffer *out);

static void skip_space(struct reader *r)
{
	while (r->at < r->end && *r->at && strchr(" \t\r\n", *r->at))
		r->at++;
}

static bool take(struct reader *r, char c)
{
	skip_space(r);
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

/* ---- pointers (RFC 6901) ---- */

static bool pointer_valid(const char *p)
{
	if (*p != '/')
		return false;
	for (; *p; p++)
		if (*p == '~' && p[1] != '0' && p[1] != '1')
			return false;
	return true;
}

/* Does p's first token say key? Then *ret_rest is what follows it. */
static bool pointer_token(const char *p, struct bytes key, const char **ret_rest)
{
	const char *k = key.data;
	size_t i = 0;

	for (p++; *p && *p != '/'; p++, i++) {
		char c = *p;

		if (c == '~')
			c = *++p == '0' ? '~' : '/';
		if (i == key.len || k[i] != c)
			return false;
	}
	*ret_rest = p;
	return i == key.len;
}

/* True where one of them ends here: what is here is left out. */
static bool pointers_into(const struct pointers *p, struct bytes key, struct pointers *ret)
{
	ret->count = 0;
	for (size_t i = 0; i < p->count; i++) {
		const char *rest;

		if (!pointer_token(p->v[i], key, &rest))
			continue;
		if (*rest == '\0')
			return true;
		ret->v[ret->count++] = rest;
	}
	return false;
}

/* ---- strings ---- */

static int hex4(struct reader *r, uint32_t *ret)
{
	uint32_t v = 0;

	if (r->end - r->at < 4)
		return -EBADMSG;
	for (int i = 0; i < 4; i++) {
		char c = *r->at++;
		int d = c >= '0' && c <= '9'   ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
					       : -1;
		if (d < 0)
			return -EBADMSG;
		v = v * 16 + (uint32_t)d;
	}
	*ret = v;
	return 0;
}

static void put_utf8(struct buffer *out, uint32_t cp)
{
	uint8_t b[4];
	size_t n;

	if (cp < 0x80) {
		b[0] = (uint8_t)cp;
		n = 1;
	} else if (cp < 0x800) {
		b[0] = (uint8_t)(0xc0 | cp >> 6);
		b[1] = (uint8_t)(0x80 | (cp & 63));
		n = 2;
	} else if (cp < 0x10000) {
		b[0] = (uint8_t)(0xe0 | cp >> 12);
		b[1] = (uint8_t)(0x80 | (cp >> 6 & 63));
		b[2] = (uint8_t)(0x80 | (cp & 63));
		n = 3;
	} else {
		b[0] = (uint8_t)(0xf0 | cp >> 18);
		b[1] = (uint8_t)(0x80 | (cp >> 12 & 63));
		b[2] = (uint8_t)(0x80 | (cp >> 6 & 63));
		b[3] = (uint8_t)(0x80 | (cp & 63));
		n = 4;
	}
	(void)buffer_append(out, b, n);
}

static int escape(struct reader *r, struct buffer *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *which;
	uint32_t cp, low;

	if (r->at == r->end)
		return -EBADMSG;
	if (*r->at != 'u') {
		which = *r->at ? strchr(from, *r->at) : NULL;
		r->at++;
		return which ? buffer_append_byte(out, (uint8_t)to[which - from]) : -EBADMSG;
	}
	r->at++;
	if (hex4(r, &cp) < 0 || (cp >= 0xdc00 && cp <= 0xdfff))
		return -EBADMSG;
	if (cp >= 0xd800 && cp <= 0xdbff) {
		if (r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u')
			return -EBADMSG;
		r->at += 2;
		if (hex4(r, &low) < 0 || low < 0xdc00 || low > 0xdfff)
			return -EBADMSG;
		cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
	}
	put_utf8(out, cp);
	return 0;
}

/* The string that begins at r, decoded. */
static int string(struct reader *r, struct buffer *out)
{
	size_t from = out->len;

	if (!take(r, '"'))
		return -EBADMSG;
	for (;;) {
		const char *s = r->at;

		while (r->at < r->end && *r->at != '"' && *r->at != '\\' && (uint8_t)*r->at >= 0x20)
			r->at++;
		(void)buffer_append(out, s, (size_t)(r->at - s));
		if (r->at == r->end || (uint8_t)*r->at < 0x20)
			return -EBADMSG;
		if (*r->at++ == '"')
			break;
		if (escape(r, out) < 0)
			return -EBADMSG;
	}
	if (out->failed)
		return out->failed;
	return utf8_valid(bytes_of(out->data + from, out->len - from)) ? 0 : -EBADMSG;
}

static void put_string(struct buffer *out, struct bytes text)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const uint8_t *s = text.data;

	(void)buffer_append_byte(out, '"');
	for (size_t i = 0; i < text.len; i++) {
		const char *which = s[i] ? strchr(from, s[i]) : NULL;

		if (which) {
			(void)buffer_append_byte(out, '\\');
			(void)buffer_append_byte(out, (uint8_t)to[which - from]);
		} else if (s[i] < 0x20) {
			(void)buffer_printf(out, "\\u%04x", s[i]);
		} else {
			(void)buffer_append_byte(out, s[i]);
		}
	}
	(void)buffer_append_byte(out, '"');
}

/* ---- numbers and words ---- */

static size_t digits(struct reader *r)
{
	const char *s = r->at;

	while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
		r->at++;
	return (size_t)(r->at - s);
}

static int number(struct reader *r, struct buffer *out)
{
	const char *s = r->at;
	const char *first;
	size_t n;

	if (*r->at == '-')
		r->at++;
	first = r->at;
	n = digits(r);
	if (n == 0 || (n > 1 && *first == '0'))
		return -EBADMSG;
	if (r->at < r->end && *r->at == '.') {
		r->at++;
		if (!digits(r))
			return -EBADMSG;
	}
	if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
		r->at++;
		if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
			r->at++;
		if (!digits(r))
			return -EBADMSG;
	}
	return buffer_append(out, s, (size_t)(r->at - s));
}

static int word(struct reader *r, struct buffer *out)
{
	static const char *const words[] = {"true", "false", "null"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t n = strlen(words[i]);

		if ((size_t)(r->end - r->at) >= n && memcmp(r->at, words[i], n) == 0) {
			r->at += n;
			return buffer_append(out, words[i], n);
		}
	}
	return -EBADMSG;
}

/* ---- what holds others ---- */

static int array(struct reader *r, const struct pointers *p, unsigned depth, struct buffer *out)
{
	bool some = false;

	(void)buffer_append_byte(out, '[');
	if (take(r, ']'))
		return buffer_append_byte(out, ']');
	for (size_t i = 0;; i++) {
		struct pointers into = {.count = 0};
		char index[24];
		size_t from = out->len;
		bool drop;
		int code;

		if (p->count) {
			snprintf(index, sizeof(index), "%zu", i);
			drop = pointers_into(p, bytes_str(index), &into);
		} else {
			drop = false;
		}
		if (some)
			(void)buffer_append_byte(out, ',');
		code = value(r, &into, depth, out);
		if (code < 0)
			return code;
		if (drop)
			out->len = from;
		else
			some = true;
		if (take(r, ']'))
			return buffer_append_byte(out, ']');
		if (!take(r, ','))
			return -EBADMSG;
	}
}

static int member_compare(const void *a, const void *b, void *scratch)
{
	const struct member *x = a, *y = b;
	const struct buffer *s = scratch;

	return bytes_compare(bytes_of(s->data + x->key, x->key_len),
			     bytes_of(s->data + y->key, y->key_len));
}

static int put_members(struct buffer *members, struct buffer *scratch, struct buffer *out)
{
	struct member *m = (void *)members->data;
	size_t n = members->len / sizeof(*m);
	bool some = false;

	if (n)
		qsort_r(m, n, sizeof(*m), member_compare, scratch);
	for (size_t i = 0; i < n; i++) {
		if (i && member_compare(&m[i - 1], &m[i], scratch) == 0)
			return -EBADMSG;
		if (m[i].value_len == 0)
			continue; /* named by a pointer */
		if (some)
			(void)buffer_append_byte(out, ',');
		some = true;
		put_string(out, bytes_of(scratch->data + m[i].key, m[i].key_len));
		(void)buffer_append_byte(out, ':');
		(void)buffer_append(out, scratch->data + m[i].value, m[i].value_len);
	}
	return buffer_append_byte(out, '}');
}

static int object(struct reader *r, const struct pointers *p, unsigned depth, struct buffer *out)
{
	AUTO_BUFFER scratch = {0};
	AUTO_BUFFER members = {0};

	(void)buffer_append_byte(out, '{');
	if (take(r, '}'))
		return buffer_append_byte(out, '}');
	for (;;) {
		struct member m = {.key = scratch.len};
		struct pointers into;
		bool drop;
		int code = string(r, &scratch);

		if (code < 0)
			return code;
		m.key_len = scratch.len - m.key;
		m.value = scratch.len;
		drop = pointers_into(p, bytes_of(scratch.data + m.key, m.key_len), &into);
		if (!take(r, ':'))
			return -EBADMSG;
		code = value(r, &into, depth, &scratch);
		if (code < 0)
			return code;
		m.value_len = drop ? 0 : scratch.len - m.value;
		if (buffer_append(&members, &m, sizeof(m)) < 0)
			return members.failed;
		if (take(r, '}'))
			return put_members(&members, &scratch, out);
		if (!take(r, ','))
			return -EBADMSG;
	}
}

static int value(struct reader *r, const struct pointers *p, unsigned depth, struct buffer *out)
{
	AUTO_BUFFER text = {0};
	int code;

	skip_space(r);
	if (r->at == r->end || depth == ACTION_JSON_DEPTH_MAX)
		return -EBADMSG;
	switch (*r->at) {
	case '{':
		r->at++;
		return object(r, p, depth + 1, out);
	case '[':
		r->at++;
		return array(r, p, depth + 1, out);
	case '"':
		code = string(r, &text);
		if (code == 0)
			put_string(out, buffer_bytes(&text));
		return code < 0 ? code : out->failed;
	case '-':
	case '0' ... '9':
		return number(r, out);
	default:
		return word(r, out);
	}
}

int action_json(struct bytes text, const char *const *pointers, size_t count, struct buffer *out)
{
	struct reader r = {text.data, text.data ? (const char *)text.data + text.len : NULL};
	struct pointers p = {.count = count};
	int code;

	if (count > ACTION_POINTERS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (!pointer_valid(pointers[i]))
			return -EINVAL;
		p.v[i] = pointers[i];
	}
	code = value(&r, &p, 0, out);
	if (code < 0)
		return code;
	skip_space(&r);
	return r.at == r.end ? out->failed : -EBADMSG;
}
