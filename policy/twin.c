/*
 * Twins: spellings of a URL path that servers of one kind or another take for the same. Which kind
 * of server stands behind a host is not known, so what takes away looks at all of them.
 */
#include "policy/model.h"
#include <errno.h>
#include <string.h>
#include <unicase.h>
#include <unictype.h>
#include <uninorm.h>
#include "base/utf8.h"

/* Room for what Unicode makes of a path: one character becomes eighteen at most, and few do. */
enum { FOLDED_MAX = 16 * 1024 };

static int fold_ascii(struct bytes text, struct buffer *out)
{
	const uint8_t *s = text.data;

	for (size_t i = 0; i < text.len; i++)
		(void)buffer_append_byte(out,
					 (uint8_t)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] | 32 : s[i]));
	return out->failed;
}

/* Folding leaves them, while a change to capitals, or to small letters, makes an "i" of them. */
enum { I_WITH_DOT = 0x130, I_WITHOUT_DOT = 0x131 };

static int fold_unicode(struct bytes text, struct buffer *out)
{
	AUTO_FREE uint8_t *folded = NULL;
	AUTO_BUFFER visible = {0};
	size_t len = 0;

	for (size_t at = 0; at < text.len;) {
		size_t start = at;
		int32_t cp = utf8_next(text, &at);

		if (cp < 0)
			return -EILSEQ;
		if (cp == I_WITH_DOT || cp == I_WITHOUT_DOT)
			(void)buffer_append_byte(&visible, 'i');
		else if (!uc_is_property_default_ignorable_code_point((ucs4_t)cp))
			(void)buffer_append(&visible, (const uint8_t *)text.data + start,
					    at - start);
	}
	if (visible.failed)
		return visible.failed;
	folded = u8_casefold(visible.data, visible.len, NULL, UNINORM_NFKC, NULL, &len);
	return folded ? buffer_append(out, folded, len) : -ENOMEM;
}

static int fold(struct bytes text, struct buffer *out)
{
	const uint8_t *s = text.data;
	size_t i = 0;

	while (i < text.len && s[i] < 0x80)
		i++;
	return i == text.len ? fold_ascii(text, out) : fold_unicode(text, out);
}

/* "name::$DATA" and "name:$I30:$INDEX_ALLOCATION" are the file and the folder themselves on NTFS:
 * what is before the first colon, if a colon and a dollar sign follow there or later. */
static size_t before_stream(struct bytes segment)
{
	const char *s = segment.data;
	size_t n = 1;

	while (n < segment.len && s[n] != ':')
		n++;
	for (size_t i = n; i + 1 < segment.len; i++)
		if (s[i] == ':' && s[i + 1] == '$')
			return n;
	return segment.len;
}

/* Windows drops dots and spaces behind a name, and streams of it; others drop the spaces before it. */
static struct bytes trim(struct bytes segment)
{
	const char *s = segment.data;
	size_t start = 0, end = before_stream(segment);

	while (end > 0 && (s[end - 1] == '.' || s[end - 1] == ' '))
		end--;
	while (start < end && s[start] == ' ')
		start++;
	return bytes_of(s + start, end - start);
}

static size_t name_len(struct bytes segment)
{
	const char *s = segment.data;
	size_t n = 0;

	while (n < segment.len && s[n] != ';')
		n++;
	return n;
}

/* Decoding again before the query is looked for makes one of "%3f". */
static struct bytes before_query(struct bytes path)
{
	const char *s = path.data;
	size_t n = 0;

	while (n < path.len && s[n] != '?' && s[n] != '#')
		n++;
	return bytes_of(s, n);
}

/* The segment at *at, and *at behind its slash; false: none is left. path begins with '/'. */
static bool next_segment(struct bytes path, size_t *at, struct bytes *ret)
{
	const char *s = path.data;

	if (*at > path.len)
		return false;
	*ret = bytes_of(s + *at, 0);
	while (*at + ret->len < path.len && s[*at + ret->len] != '/')
		ret->len++;
	*at += ret->len + 1;
	return true;
}

/* path is folded. */
static int read_as(struct bytes path, unsigned reading, struct buffer *out)
{
	struct bytes segment;
	size_t from = out->len;

	if (reading & POLICY_TWIN_BARE)
		path = before_query(path);
	for (size_t at = 1; next_segment(path, &at, &segment);) {
		if (reading & POLICY_TWIN_BARE)
			segment.len = name_len(segment);
		if (reading & POLICY_TWIN_TRIM)
			segment = trim(segment);
		(void)buffer_append_byte(out, '/');
		(void)buffer_append(out, segment.data, segment.len);
	}
	while ((reading & POLICY_TWIN_TRIM) && out->len > from + 1 &&
	       out->data[out->len - 1] == '/')
		out->len--;
	return out->failed;
}

static size_t count_slashes(struct bytes path)
{
	const char *s = path.data;
	size_t n = 0;

	for (size_t i = 0; i < path.len; i++)
		n += s[i] == '/';
	return n;
}

/* No separator that the path itself does not have, no '%' or '\\', which no path has, and no
 * segment, but an empty last one, of which nothing is left. */
static bool one_tree(struct bytes path, struct bytes folded)
{
	struct bytes segment, tree = before_query(folded);

	if (count_slashes(path) != count_slashes(folded) || memchr(folded.data, '\\', folded.len) ||
	    memchr(folded.data, '%', folded.len))
		return false;
	for (size_t at = 1; next_segment(tree, &at, &segment);) {
		bool last = at > tree.len;

		segment.len = name_len(segment);
		if (trim(segment).len == 0 && (segment.len > 0 || !last))
			return false;
	}
	return true;
}

int policy_twin_read(struct bytes path, struct buffer out[static POLICY_TWIN_READINGS])
{
	AUTO_BUFFER folded = {.max = FOLDED_MAX};
	int r = fold(path, &folded);

	if (r == 0 && !one_tree(path, buffer_bytes(&folded)))
		r = -EINVAL;
	for (unsigned i = 0; r == 0 && i < POLICY_TWIN_READINGS; i++)
		r = read_as(buffer_bytes(&folded), i, &out[i]);
	return r;
}

/* A pattern is read as a path is, but for its parameters: what it says of them it means. */
static int read_pattern(const char *pattern, unsigned reading, struct buffer *out)
{
	AUTO_BUFFER folded = {.max = FOLDED_MAX};
	int r = fold(bytes_str(pattern), &folded);

	if (r == 0)
		r = read_as(buffer_bytes(&folded), reading & POLICY_TWIN_TRIM, out);
	return r < 0 ? r : buffer_append_byte(out, '\0');
}

bool policy_twin_match(const char *pattern, const struct buffer twins[static POLICY_TWIN_READINGS])
{
	for (unsigned i = 0; i < POLICY_TWIN_READINGS; i++) {
		AUTO_BUFFER p = {.max = FOLDED_MAX};

		/* What cannot be looked at may be one. */
		if (read_pattern(pattern, i, &p) < 0 ||
		    policy_url_match((const char *)p.data, buffer_bytes(&twins[i])))
			return true;
	}
	return false;
}

/* "https://host/path" of policy_remote_normal(): the path trimmed and folded, every ".git" gone. */
static int read_remote(const char *remote, struct buffer *out)
{
	AUTO_BUFFER folded = {.max = FOLDED_MAX};
	size_t host = strcspn(remote + strlen("https://"), "/") + strlen("https://");
	int r = fold(bytes_str(remote + host), &folded);

	(void)buffer_append(out, remote, host);
	if (r == 0)
		r = read_as(buffer_bytes(&folded), POLICY_TWIN_TRIM, out);
	while (out->len > host + 4 && memcmp(out->data + out->len - 4, ".git", 4) == 0)
		out->len -= 4;
	return r < 0 ? r : buffer_append_byte(out, '\0');
}

bool policy_twin_remote_match(const char *pattern, const char *remote)
{
	AUTO_BUFFER p = {.max = FOLDED_MAX};
	AUTO_BUFFER t = {.max = FOLDED_MAX};
	char normal[POLICY_REMOTE_MAX];

	if (policy_remote_normal(bytes_str(pattern), normal) < 0)
		return true;
	return read_remote(normal, &p) < 0 || read_remote(remote, &t) < 0 ||
	       policy_glob((const char *)p.data, bytes_of(t.data, t.len - 1), true);
}
