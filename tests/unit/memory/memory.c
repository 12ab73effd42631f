#include "tests/unit/memory/memory.h"
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_vasprintf(char **ret, const char *fmt, va_list args);
int __wrap_asprintf(char **ret, const char *fmt, ...);

static bool counting;
static unsigned left; /* allocations that are still granted */
static bool refused;

static bool refuse(void)
{
	if (!counting)
		return false;
	if (left > 0) {
		left--;
		return false;
	}
	refused = true;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return refuse() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return refuse() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return refuse() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return refuse() || (size && n > SIZE_MAX / size) ? NULL : __real_realloc(p, n * size);
}

char *__wrap_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *copy = refuse() ? NULL : __real_malloc(len + 1);

	if (copy) {
		memcpy(copy, s, len);
		copy[len] = '\0';
	}
	return copy;
}

char *__wrap_strdup(const char *s)
{
	return __wrap_strndup(s, strlen(s));
}

int __wrap_vasprintf(char **ret, const char *fmt, va_list args)
{
	va_list again;
	int n;

	va_copy(again, args);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	*ret = n < 0 || refuse() ? NULL : __real_malloc((size_t)n + 1);
	return *ret ? vsnprintf(*ret, (size_t)n + 1, fmt, args) : -1;
}

int __wrap_asprintf(char **ret, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = __wrap_vasprintf(ret, fmt, args);
	va_end(args);
	return n;
}

unsigned memory_exhaust(int (*scenario)(void *arg), void *arg, int expect)
{
	for (unsigned n = 0;; n++) {
		int r;

		left = n;
		refused = false;
		counting = true;
		r = scenario(arg);
		counting = false;
		if (!refused) {
			assert_int_equal(r, expect);
			return n;
		}
		if (r != expect && r != -ENOMEM)
			fail_msg("allocation %u refused: %d, not %d", n, r, expect);
	}
}
