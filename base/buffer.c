#include "base/buffer.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int bytes_compare(struct bytes a, struct bytes b)
{
	size_t common = a.len < b.len ? a.len : b.len;
	int c = common ? memcmp(a.data, b.data, common) : 0;

	if (c != 0)
		return c < 0 ? -1 : 1;
	return a.len == b.len ? 0 : a.len < b.len ? -1 : 1;
}

char *bytes_dup_str(struct bytes b)
{
	char *s = malloc(b.len + 1);

	if (!s)
		return NULL;
	if (b.len)
		memcpy(s, b.data, b.len);
	s[b.len] = '\0';
	return s;
}

void buffer_free(struct buffer *b)
{
	free(b->data);
	*b = (struct buffer){0};
}

int buffer_reserve(struct buffer *b, size_t more)
{
	size_t max = b->max ? b->max : BUFFER_MAX_DEFAULT;
	size_t cap;
	uint8_t *data;

	if (b->failed)
		return b->failed;
	if (more > max || b->len > max - more)
		return b->failed = -E2BIG;
	if (b->data && b->len + more < b->cap)
		return 0;
	cap = b->cap < 64 ? 64 : b->cap + b->cap / 2;
	if (cap < b->len + more + 1)
		cap = b->len + more + 1;
	data = realloc(b->data, cap);
	if (!data)
		return b->failed = -ENOMEM;
	b->data = data;
	b->cap = cap;
	b->data[b->len] = '\0';
	return 0;
}

int buffer_append(struct buffer *b, const void *data, size_t len)
{
	int r = buffer_reserve(b, len);

	if (r < 0)
		return r;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
	return 0;
}

int buffer_append_str(struct buffer *b, const char *s)
{
	return buffer_append(b, s, strlen(s));
}

int buffer_append_byte(struct buffer *b, uint8_t byte)
{
	return buffer_append(b, &byte, 1);
}

int buffer_printf(struct buffer *b, const char *fmt, ...)
{
	va_list args;
	va_list again;
	int need;
	int r;

	va_start(args, fmt);
	va_copy(again, args);
	need = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	r = need < 0 ? -EINVAL : buffer_reserve(b, (size_t)need);
	if (need < 0 && !b->failed)
		b->failed = r;
	if (r == 0) {
		vsnprintf((char *)b->data + b->len, (size_t)need + 1, fmt, again);
		b->len += (size_t)need;
	}
	va_end(again);
	return r;
}

void buffer_consume(struct buffer *b, size_t n)
{
	if (n > b->len)
		n = b->len;
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n + 1);
	b->len -= n;
}

char *buffer_take(struct buffer *b, size_t *ret_len)
{
	char *data = NULL;
	size_t len = b->len;

	if (buffer_reserve(b, 0) == 0) {
		data = (char *)b->data;
		b->data = NULL;
		if (ret_len)
			*ret_len = len;
	}
	buffer_free(b);
	return data;
}
