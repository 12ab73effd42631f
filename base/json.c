#include "base/json.h"

#include <errno.h>
#include <stdlib.h>
#include "base/utf8.h"

struct json {
	const char *at, *end;
	struct buffer pointer, text;
	int (*fn)(const struct json_value *value, void *arg);
	void *arg;
};

static int value(struct json *j, unsigned depth);

static void skip_space(struct json *j)
{
	while (j->at < j->end && *j->at && strchr(" \t\r\n", *j->at))
		j->at++;
}

static bool take(struct json *j, char c)
{
	skip_space(j);
	if (j->at == j->end || *j->at != c)
		return false;
	j->at++;
	return true;
}

static int say(struct json *j, enum json_kind kind, struct bytes text, bool exact)
{
	struct json_value v = {buffer_bytes(&j->pointer), text, kind, exact};

	return j->pointer.failed ? j->pointer.failed : j->fn(&v, j->arg);
}

/* ---- strings ---- */

static int hex4(struct json *j, unsigned *ret)
{
	unsigned v = 0;

	for (int i = 0; i < 4; i++, j->at++) {
		char c = j->at < j->end ? *j->at : '\0';
		int digit = c >= '0' && c <= '9'   ? c - '0'
			    : c >= 'a' && c <= 'f' ? c - 'a' + 10
			    : c >= 'A' && c <= 'F' ? c - 'A' + 10
						   : -1;

		if (digit < 0)
			return -EBADMSG;
		v = v << 4 | (unsigned)digit;
	}
	*ret = v;
	return 0;
}

static void put_utf8(struct buffer *b, unsigned cp)
{
	if (cp < 0x80) {
		buffer_append_byte(b, (uint8_t)cp);
	} else if (cp < 0x800) {
		buffer_append_byte(b, (uint8_t)(0xc0 | cp >> 6));
		buffer_append_byte(b, (uint8_t)(0x80 | (cp & 0x3f)));
	} else if (cp < 0x10000) {
		buffer_append_byte(b, (uint8_t)(0xe0 | cp >> 12));
		buffer_append_byte(b, (uint8_t)(0x80 | (cp >> 6 & 0x3f)));
		buffer_append_byte(b, (uint8_t)(0x80 | (cp & 0x3f)));
	} else {
		buffer_append_byte(b, (uint8_t)(0xf0 | cp >> 18));
		buffer_append_byte(b, (uint8_t)(0x80 | (cp >> 12 & 0x3f)));
		buffer_append_byte(b, (uint8_t)(0x80 | (cp >> 6 & 0x3f)));
		buffer_append_byte(b, (uint8_t)(0x80 | (cp & 0x3f)));
	}
}

static int escaped_unicode(struct json *j, struct buffer *out)
{
	unsigned cp, low;
	int rc = hex4(j, &cp);

	if (rc == 0 && cp >= 0xd800 && cp < 0xdc00) {
		if (j->end - j->at < 6 || j->at[0] != '\\' || j->at[1] != 'u')
			return -EBADMSG;
		j->at += 2;
		rc = hex4(j, &low);
		if (rc == 0 && (low < 0xdc00 || low > 0xdfff))
			rc = -EBADMSG;
		cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
	} else if (rc == 0 && cp >= 0xdc00 && cp <= 0xdfff) {
		rc = -EBADMSG;
	}
	if (rc == 0)
		put_utf8(out, cp);
	return rc;
}

static int escaped(struct json *j, struct buffer *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char c = j->at < j->end ? *j->at++ : '\0';
	const char *found;

	if (c == 'u')
		return escaped_unicode(j, out);
	found = c ? strchr(from, c) : NULL;
	return found ? buffer_append_byte(out, (uint8_t)to[found - from]) : -EBADMSG;
}

/* Behind its first quote. Appends its characters. */
static int string(struct json *j, struct buffer *out)
{
	while (j->at < j->end && *j->at != '"') {
		int rc;

		if ((unsigned char)*j->at < 0x20)
			return -EBADMSG;
		if (*j->at != '\\') {
			rc = buffer_append_byte(out, (uint8_t)*j->at++);
		} else {
			j->at++;
			rc = escaped(j, out);
		}
		if (rc < 0)
			return rc;
	}
	if (j->at == j->end)
		return -EBADMSG;
	j->at++;
	return out->failed;
}

/* ---- numbers ---- */

static size_t digits(struct json *j)
{
	const char *from = j->at;

	while (j->at < j->end && *j->at >= '0' && *j->at <= '9')
		j->at++;
	return (size_t)(j->at - from);
}

/* Significant digits of a mantissa. */
static size_t significant(const char *from, const char *to)
{
	size_t n = 0, zeros = 0;

	for (const char *p = from; p < to; p++) {
		if (*p < '0' || *p > '9' || (n == 0 && *p == '0'))
			continue;
		zeros = *p == '0' ? zeros + 1 : 0;
		n++;
	}
	return n - zeros;
}

static bool is_exact(const char *from, const char *mantissa_end, const char *to, bool integer)
{
	static const char most[] = "9007199254740992";
	const char *first = *from == '-' ? from + 1 : from;
	size_t len = (size_t)(to - first), exponent = 0, exponent_digits = 0;

	if (integer && len <= sizeof(most) - 1)
		return len < sizeof(most) - 1 || memcmp(first, most, len) <= 0;
	for (; mantissa_end + exponent < to; exponent++)
		if (exponent && mantissa_end[exponent] >= '0' && mantissa_end[exponent] <= '9')
			exponent_digits++;
	return significant(first, mantissa_end) <= 15 && exponent_digits <= 2;
}

static int number(struct json *j)
{
	const char *from = j->at, *mantissa_end;
	bool integer = true;
	size_t n;

	if (*j->at == '-')
		j->at++;
	n = digits(j);
	if (n == 0 || (n > 1 && j->at[-(ptrdiff_t)n] == '0'))
		return -EBADMSG;
	if (j->at < j->end && *j->at == '.') {
		integer = false;
		j->at++;
		if (digits(j) == 0)
			return -EBADMSG;
	}
	mantissa_end = j->at;
	if (j->at < j->end && (*j->at == 'e' || *j->at == 'E')) {
		integer = false;
		j->at++;
		if (j->at < j->end && (*j->at == '+' || *j->at == '-'))
			j->at++;
		if (digits(j) == 0)
			return -EBADMSG;
	}
	return say(j, JSON_NUMBER, bytes_of(from, (size_t)(j->at - from)),
		   is_exact(from, mantissa_end, j->at, integer));
}

/* ---- what holds others ---- */

static void push_pointer(struct json *j, struct bytes name)
{
	buffer_append_byte(&j->pointer, '/');
	for (size_t i = 0; i < name.len; i++) {
		char c = ((const char *)name.data)[i];

		if (c == '~')
			buffer_append_str(&j->pointer, "~0");
		else if (c == '/')
			buffer_append_str(&j->pointer, "~1");
		else
			buffer_append_byte(&j->pointer, (uint8_t)c);
	}
}

struct key {
	size_t at, len;
};

static int by_bytes(const void *a, const void *b, void *names)
{
	const struct key *x = a, *y = b;
	const struct buffer *n = names;

	return bytes_compare(bytes_of(n->data + x->at, x->len), bytes_of(n->data + y->at, y->len));
}

struct keys {
	struct buffer names;
	struct key *list;
	size_t count, cap;
};

static void free_keys(struct keys *k)
{
	buffer_free(&k->names);
	free(k->list);
}

static int add_key(struct json *j, struct keys *k, struct bytes *ret)
{
	size_t at = k->names.len;
	int rc;

	if (k->count == JSON_KEYS_MAX)
		return -E2BIG;
	if (k->count == k->cap) {
		size_t cap = k->cap ? k->cap * 2 : 16;
		struct key *grown = reallocarray(k->list, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		k->list = grown;
		k->cap = cap;
	}
	rc = take(j, '"') ? string(j, &k->names) : -EBADMSG;
	if (rc < 0)
		return rc;
	k->list[k->count++] = (struct key){at, k->names.len - at};
	*ret = bytes_of(k->names.data + at, k->names.len - at);
	return 0;
}

static int members(struct json *j, struct keys *k, unsigned depth)
{
	size_t outer = j->pointer.len;
	int rc = 0;

	do {
		struct bytes name = {0};

		rc = add_key(j, k, &name);
		if (rc < 0)
			return rc;
		if (!take(j, ':'))
			return -EBADMSG;
		push_pointer(j, name);
		rc = value(j, depth + 1);
		j->pointer.len = outer;
		if (rc)
			return rc;
	} while (take(j, ','));
	if (!take(j, '}'))
		return -EBADMSG;
	qsort_r(k->list, k->count, sizeof(*k->list), by_bytes, &k->names);
	for (size_t i = 1; i < k->count; i++)
		if (by_bytes(&k->list[i - 1], &k->list[i], &k->names) == 0)
			return -EEXIST;
	return 0;
}

static int object(struct json *j, unsigned depth)
{
	__attribute__((cleanup(free_keys))) struct keys k = {0};

	if (take(j, '}'))
		return say(j, JSON_EMPTY, bytes_str("{}"), true);
	return members(j, &k, depth);
}

static int array(struct json *j, unsigned depth)
{
	size_t outer = j->pointer.len, i = 0;

	if (take(j, ']'))
		return say(j, JSON_EMPTY, bytes_str("[]"), true);
	do {
		int rc;

		buffer_printf(&j->pointer, "/%zu", i++);
		rc = value(j, depth + 1);
		j->pointer.len = outer;
		if (rc)
			return rc;
	} while (take(j, ','));
	return take(j, ']') ? 0 : -EBADMSG;
}

static int value(struct json *j, unsigned depth)
{
	static const char *const literals[] = {"true", "false", "null"};
	int rc;

	if (depth > JSON_DEPTH_MAX)
		return -E2BIG;
	skip_space(j);
	if (j->at == j->end)
		return -EBADMSG;
	if (*j->at == '-' || (*j->at >= '0' && *j->at <= '9'))
		return number(j);
	if (take(j, '{'))
		return object(j, depth);
	if (take(j, '['))
		return array(j, depth);
	if (take(j, '"')) {
		j->text.len = 0;
		rc = string(j, &j->text);
		return rc < 0 ? rc : say(j, JSON_STRING, buffer_bytes(&j->text), true);
	}
	for (size_t i = 0; i < 3; i++) {
		size_t n = strlen(literals[i]);

		if ((size_t)(j->end - j->at) >= n && memcmp(j->at, literals[i], n) == 0) {
			j->at += n;
			return say(j, JSON_LITERAL, bytes_str(literals[i]), true);
		}
	}
	return -EBADMSG;
}

int json_each(struct bytes text, int (*fn)(const struct json_value *value, void *arg), void *arg)
{
	struct json j = {.at = text.data, .fn = fn, .arg = arg};
	int rc;

	if (text.len == 0 || !utf8_valid(text))
		return -EBADMSG;
	if (text.len > JSON_BYTES_MAX)
		return -E2BIG;
	j.end = j.at + text.len;
	rc = value(&j, 0);
	skip_space(&j);
	if (rc == 0 && j.at != j.end)
		rc = -EBADMSG;
	buffer_free(&j.pointer);
	buffer_free(&j.text);
	return rc;
}
