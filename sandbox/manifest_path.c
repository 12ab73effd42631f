/* Apart from manifest.c, so that what only carries paths about needs no digests. */
#include <errno.h>

#include "sandbox/manifest.h"

int manifest_check_path(struct bytes path)
{
	const char *p = path.data;
	size_t start = 0;
	size_t depth = 0;

	if (path.len == 0)
		return -EINVAL;
	if (path.len > MANIFEST_PATH_MAX)
		return -ENAMETOOLONG;
	for (size_t i = 0; i <= path.len; i++) {
		if (i < path.len && p[i] == '\0')
			return -EINVAL;
		if (i < path.len && p[i] != '/')
			continue;
		size_t len = i - start;

		if (len == 0 || (len == 1 && p[start] == '.') ||
		    (len == 2 && p[start] == '.' && p[start + 1] == '.'))
			return -EINVAL;
		start = i + 1;
		depth++;
	}
	return depth > MANIFEST_DEPTH_MAX ? -ENAMETOOLONG : 0;
}
