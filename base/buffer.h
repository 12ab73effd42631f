#pragma once
/*
 * Bytes: a borrowed view, and a growing owned buffer with a limit. Pure but for the heap.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "base/error.h"

/* A borrowed run of bytes; not NUL-terminated; data may be NULL only if len is 0. */
struct bytes {
	const void *data;
	size_t len;
};

static inline struct bytes bytes_of(const void *data, size_t len)
{
	return (struct bytes){data, len};
}

static inline struct bytes bytes_str(const char *s)
{
	return (struct bytes){s, s ? strlen(s) : 0};
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Order of memcmp, shorter first on a tie. */
int bytes_compare(struct bytes a, struct bytes b);
/* Owned NUL-terminated copy, or NULL when out of memory. A NUL inside is copied as it is. */
char *bytes_dup_str(struct bytes b);

struct buffer {
	uint8_t *data; /* owned; NUL follows data[len] so that text can be read in place; NULL while
			  empty */
	size_t len;
	size_t cap;
	size_t max; /* bytes; 0 = BUFFER_MAX_DEFAULT */
	int failed; /* first error (-ENOMEM, -E2BIG) sticks: append many, look once at the end */
};

enum { BUFFER_MAX_DEFAULT = 64 * 1024 * 1024 };

#define AUTO_BUFFER __attribute__((cleanup(buffer_free))) struct buffer

void buffer_free(struct buffer *b); /* accepts a zeroed one; leaves it zeroed */
/* Each returns 0, -ENOMEM, or -E2BIG past max; the error also sticks in b->failed. */
int buffer_reserve(struct buffer *b, size_t more);
int buffer_append(struct buffer *b, const void *data, size_t len);
int buffer_append_str(struct buffer *b, const char *s);
int buffer_append_byte(struct buffer *b, uint8_t byte);
int buffer_printf(struct buffer *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buffer_consume(struct buffer *b, size_t n); /* drops the first n bytes */
static inline struct bytes buffer_bytes(const struct buffer *b)
{
	return (struct bytes){b->data, b->len};
}
/* Hands the bytes off (malloc'ed, NUL-terminated, never NULL on success) and zeroes the buffer. */
char *buffer_take(struct buffer *b, size_t *ret_len);
