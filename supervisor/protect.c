#include "supervisor/protect.h"

#include <fnmatch.h>
#include <string.h>

#include "sandbox/sandbox.h"

static size_t component(const char *s)
{
	return strcspn(s, "/");
}

static const char *after(const char *s, size_t n)
{
	return s[n] == '/' ? s + n + 1 : s + n;
}

static bool component_matches(const char *glob, size_t glob_len, const char *name, size_t name_len)
{
	char g[512], n[512];

	if (glob_len >= sizeof(g) || name_len >= sizeof(n))
		return true; /* what cannot be told apart is protected */
	memcpy(g, glob, glob_len);
	g[glob_len] = '\0';
	memcpy(n, name, name_len);
	n[name_len] = '\0';
	return fnmatch(g, n, 0) == 0;
}

bool protect_matches(const char *glob, const char *path)
{
	/* Where to go on when a later component does not match: `**` then takes one more. One is
	 * enough to remember, as with '*' in a string: what an earlier one could take, the last one
	 * can. */
	const char *retry_glob = NULL, *retry_path = NULL;

	for (;;) {
		size_t g = component(glob), p = component(path);

		if (g == 2 && glob[0] == '*' && glob[1] == '*') {
			glob = after(glob, g);
			if (*glob == '\0')
				return true;
			retry_glob = glob;
			retry_path = path;
			continue;
		}
		if (*glob == '\0' && *path == '\0')
			return true;
		if (g > 0 && p > 0 && component_matches(glob, g, path, p)) {
			glob = after(glob, g);
			path = after(path, p);
			continue;
		}
		if (!retry_glob || *retry_path == '\0')
			return false;
		retry_path = after(retry_path, component(retry_path));
		glob = retry_glob;
		path = retry_path;
	}
}

bool protect_violated(char *const *globs, const struct manifest *m, struct bytes *ret_path,
		      const char **ret_glob)
{
	char path[MANIFEST_PATH_MAX + 1];

	for (size_t i = 0; globs && i < manifest_count(m); i++) {
		const struct manifest_entry *e = manifest_at(m, i);

		if (!manifest_entry_changes(e))
			continue;
		memcpy(path, e->path.data, e->path.len);
		path[e->path.len] = '\0';
		for (char *const *g = globs; *g; g++) {
			if (protect_matches(*g, path)) {
				*ret_path = e->path;
				*ret_glob = *g;
				return true;
			}
		}
	}
	return false;
}
