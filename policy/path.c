/* Paths: clean ones, variables, and the twins of a name. */
#include "policy/model.h"
#include "base/utf8.h"
#include <unicase.h>
#include <uninorm.h>
#include <unictype.h>

bool policy_path_clean(struct bytes path)
{
	const char *s = path.data;
	size_t start = 1;

	if (path.len == 0 || path.len >= POLICY_PATH_MAX || s[0] != '/' ||
	    memchr(s, '\0', path.len))
		return false;
	if (path.len == 1)
		return true;
	for (size_t i = 1; i <= path.len; i++) {
		if (i < path.len && s[i] != '/')
			continue;
		if (i == start || (i - start == 1 && s[start] == '.') ||
		    (i - start == 2 && s[start] == '.' && s[start + 1] == '.'))
			return false;
		start = i + 1;
	}
	return true;
}

int policy_path_expand(struct policy_arena *a, const char *path, const struct policy_vars *vars,
		       const char **ret)
{
	const struct {
		const char *name;
		const char *value;
	} variables[] = {
		{"${workspace}", vars->workspace},
		{"${home}", vars->home},
		{"${tmp}", vars->tmp},
		{"${run}", vars->run},
	};
	const char *made = path;

	for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
		size_t len = strlen(variables[i].name);
		const char *value = variables[i].value;

		if (strncmp(path, variables[i].name, len) != 0)
			continue;
		if (!value)
			return -ENOENT;
		if (strcmp(value, "/") == 0 && path[len])
			value = "";
		made = policy_arena_printf(a, "%s%s", value, path + len);
		if (!made)
			return -ENOMEM;
		break;
	}
	if (!policy_path_clean(bytes_str(made)))
		return strlen(made) >= POLICY_PATH_MAX ? -ENAMETOOLONG : -EINVAL;
	*ret = made;
	return 0;
}

bool policy_path_is_glob(const char *path)
{
	return strchr(path, '*') != NULL;
}

/* Other systems drop them at the end of a name, and read what follows ':' as a stream of the same
 * file. */
static size_t trim_component(const uint8_t *s, size_t start, size_t end)
{
	const uint8_t *colon = memchr(s + start, ':', end - start);

	if (colon && colon > s + start)
		end = (size_t)(colon - s);
	while (end > start + 1 && (s[end - 1] == '.' || s[end - 1] == ' '))
		end--;
	return end;
}

int policy_path_fold(struct policy_arena *a, struct bytes path, const char **ret)
{
	AUTO_FREE uint8_t *folded = NULL;
	uint8_t visible[POLICY_PATH_MAX];
	size_t len = 0;
	size_t n = 0;
	char *out;

	if (path.len >= sizeof(visible))
		return -ENAMETOOLONG;
	for (size_t at = 0; at < path.len;) {
		size_t start = at;
		int32_t cp = utf8_next(path, &at);

		/* Bytes that are no UTF-8 are dropped like what is ignorable: a name made of them
		 * is a twin too. */
		if (cp < 0 || uc_is_property_default_ignorable_code_point((ucs4_t)cp))
			continue;
		memcpy(visible + n, (const uint8_t *)path.data + start, at - start);
		n += at - start;
	}
	folded = u8_casefold(visible, n, NULL, UNINORM_NFKC, NULL, &len);
	out = folded ? policy_arena_alloc(a, len + 1) : NULL;
	if (!out)
		return errno == EILSEQ ? -EILSEQ : -ENOMEM;
	n = 0;
	for (size_t start = 0; start < len;) {
		size_t end = start + 1;
		size_t trimmed;

		while (end < len && folded[end] != '/')
			end++;
		trimmed = trim_component(folded, start, end);
		memcpy(out + n, folded + start, trimmed - start);
		n += trimmed - start;
		start = end;
	}
	*ret = out;
	return 0;
}
