#pragma once
/*
 * Paths as text: absolute, without "." and ".." and doubled slashes. Pure.
 */
#include <string.h>

#include "base/buffer.h"

/* Whether path is folder or lies below it. All lies below "/". */
static inline bool path_is_within(struct bytes path, const char *folder)
{
	size_t n = strlen(folder);

	while (n > 0 && folder[n - 1] == '/')
		n--;
	return n == 0 || (path.len >= n && memcmp(path.data, folder, n) == 0 &&
			  (path.len == n || ((const char *)path.data)[n] == '/'));
}

static inline bool path_within(const char *path, const char *folder)
{
	return path_is_within(bytes_str(path), folder);
}
