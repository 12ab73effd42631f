/* The first changed lines, for a card. Compares bytes and nothing else: no file of an agent is interpreted here. */
#include <errno.h>
#include <fcntl.h>

#include "base/escape.h"
#include "base/io.h"
#include "supervisor/landing_work.h"

/* The content that the state says, or none: too large, gone, or another one by now. */
static bool content_of(int fd, const struct landing_state *s, struct buffer *out)
{
	struct digest d;

	if (fd < 0 || s->size > LANDING_EXCERPT_FILE_MAX || io_read_all(fd, LANDING_EXCERPT_FILE_MAX, out) < 0)
		return false;
	digest_of(buffer_bytes(out), &d);
	return s->has_digest && digest_equal(&d, &s->digest);
}

static bool sides(int workspace_fd, const struct landing_action *a, const struct landing_source *source,
		  struct buffer *before, struct buffer *after)
{
	if (a->before.type == MANIFEST_FILE) {
		AUTO_FREE char *name = bytes_dup_str(a->path);
		AUTO_FD fd = name ? io_open_beneath(workspace_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0) : -1;

		if (!content_of(fd, &a->before, before))
			return false;
	}
	if (a->after.type == MANIFEST_FILE) {
		AUTO_FD fd = landing_stage_open(source, a);

		return content_of(fd, &a->after, after);
	}
	return true;
}

static size_t line_at(struct bytes b)
{
	const char *end = b.len ? memchr(b.data, '\n', b.len) : NULL;

	return end ? (size_t)(end - (const char *)b.data) + 1 : b.len;
}

static struct bytes from(struct bytes b, size_t n)
{
	return bytes_of((const char *)b.data + n, b.len - n);
}

static void drop_equal(struct bytes *a, struct bytes *b)
{
	const char *x;
	const char *y;
	size_t same = 0;

	while (a->len && b->len) {
		size_t n = line_at(*a);

		if (line_at(*b) != n || memcmp(a->data, b->data, n) != 0)
			break;
		*a = from(*a, n);
		*b = from(*b, n);
	}
	x = a->data;
	y = b->data;
	for (size_t i = 1; i <= a->len && i <= b->len && x[a->len - i] == y[b->len - i]; i++)
		if (i == a->len || i == b->len || (x[a->len - i - 1] == '\n' && y[b->len - i - 1] == '\n'))
			same = i;
	/* A whole side may go only where it ends a line of the other. */
	if ((same == a->len && same < b->len && y[b->len - same - 1] != '\n') ||
	    (same == b->len && same < a->len && x[a->len - same - 1] != '\n'))
		same = 0;
	a->len -= same;
	b->len -= same;
}

static void put_lines(struct buffer *out, char mark, struct bytes text, size_t *lines, bool *cut)
{
	while (text.len) {
		size_t n = line_at(text);
		size_t shown = ((const char *)text.data)[n - 1] == '\n' ? n - 1 : n;

		if (*lines == LANDING_EXCERPT_LINES_MAX) {
			*cut = true;
			return;
		}
		buffer_append_byte(out, (uint8_t)mark);
		buffer_append(out, text.data, shown);
		buffer_append_byte(out, '\n');
		text = from(text, n);
		++*lines;
	}
}

static void put_name(struct buffer *out, const char *head, struct bytes path)
{
	buffer_append_str(out, head);
	escape_append(out, path, ESCAPE_LINE);
	buffer_append_byte(out, '\n');
}

static void excerpt(const struct landing_action *a, struct bytes before, struct bytes after, struct buffer *out, bool *cut)
{
	size_t lines = 0;

	if ((before.len && memchr(before.data, 0, before.len)) || (after.len && memchr(after.data, 0, after.len))) {
		put_name(out, "Binary file ", a->path);
		return;
	}
	drop_equal(&before, &after);
	if (before.len + after.len == 0)
		return;
	put_name(out, "--- a/", a->path);
	put_name(out, "+++ b/", a->path);
	put_lines(out, '-', before, &lines, cut);
	lines = 0;
	put_lines(out, '+', after, &lines, cut);
}

int landing_excerpt(int workspace_fd, const struct landing_plan *p, const struct landing_source *source,
		    struct buffer *out, bool *ret_cut)
{
	size_t files = 0;
	bool cut = false;

	for (size_t i = 0; i < p->action_count; i++) {
		const struct landing_action *a = &p->actions[i];
		AUTO_BUFFER before = {0};
		AUTO_BUFFER after = {0};

		if (a->before.type != MANIFEST_FILE && a->after.type != MANIFEST_FILE)
			continue;
		if (files++ == LANDING_EXCERPT_FILES_MAX) {
			cut = true;
			break;
		}
		if (sides(workspace_fd, a, source, &before, &after))
			excerpt(a, buffer_bytes(&before), buffer_bytes(&after), out, &cut);
		else
			cut = true;
	}
	if (out->failed)
		return out->failed;
	*ret_cut = cut;
	return 0;
}
