/* Two trees with only what changed, for diff(1) to compare where it can do no harm. */
#include "supervisor/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/escape.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "supervisor/landing_look.h"

enum { COPY_BYTES = 128 * 1024 };

struct work {
	const struct diff_request *q;
	struct manifest *below; /* net of the layers below: where the old side's bytes are, if not
				   in the base */
	int a, b;
	uint64_t total, total_max;
	uint64_t files;
	struct diff_prepared *ret;
	struct error *err;
};

/* From inside the folder, so that the text says a/ and b/. */
static const char *const diff_argv[] = {"/bin/sh", "-c", "cd \"$0\" && exec diff -r -u -N -- a b",
					DIFF_INSIDE, NULL};

void diff_prepared_free(struct diff_prepared *p)
{
	manifest_free(p->net);
	buffer_free(&p->note);
	*p = (struct diff_prepared){0};
}

static void note(struct work *w, struct bytes path, const char *text)
{
	escape_append(&w->ret->note, path, ESCAPE_LINE | ESCAPE_MARK_LOOKALIKE);
	buffer_printf(&w->ret->note, ": %s\n", text);
}

static void skip(struct work *w, struct bytes path, const char *text)
{
	w->ret->skipped++;
	note(w, path, text);
}

/* Makes the folders above name in our own tree. */
static int make_above(int dir, char *name)
{
	for (char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
		int r;

		*slash = '\0';
		r = mkdirat(dir, name, 0755) < 0       ? -errno
		    : fchmodat(dir, name, 0755, 0) < 0 ? -errno
						       : 0;
		if (r == -EEXIST)
			r = 0;
		*slash = '/';
		if (r < 0)
			return r;
	}
	return 0;
}

static int create(int dir, struct bytes path)
{
	AUTO_FREE char *name = bytes_dup_str(path);
	AUTO_FD fd = -1;
	int r = name ? make_above(dir, name) : -ENOMEM;

	if (r < 0)
		return r;
	fd = io_open_beneath(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	/* Read by another user inside; the state directory around it is closed to all. */
	return fd < 0 ? fd : fchmod(fd, 0644) < 0 ? -errno : take_fd(&fd);
}

/* A link is shown as what it says. */
static int write_link(int dir, struct bytes path, struct bytes target)
{
	AUTO_BUFFER text = {0};
	AUTO_FD fd = create(dir, path);

	if (fd < 0)
		return fd;
	buffer_append_str(&text, "symlink -> ");
	buffer_append(&text, target.data, target.len);
	buffer_append_byte(&text, '\n');
	return text.failed ? text.failed : io_write_all(fd, text.data, text.len);
}

static int copy(int from, int dir, struct bytes path)
{
	AUTO_FREE uint8_t *buf = malloc(COPY_BYTES);
	AUTO_FD to = create(dir, path);
	uint64_t size = 0;

	if (!buf)
		return -ENOMEM;
	if (to < 0)
		return to;
	for (;;) {
		ssize_t n = read(from, buf, COPY_BYTES);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		size += (uint64_t)n;
		if (size > DIFF_FILE_MAX)
			return -EFBIG; /* the base may grow under our hands */
		r = io_write_all(to, buf, (size_t)n);
		if (r < 0)
			return r;
	}
}

static int open_in_layers(struct work *w, const struct landing_layer *layers, size_t count,
			  struct bytes path)
{
	const struct landing_source *s = w->q->source;

	for (size_t i = count; i-- > 0;) {
		AUTO_FREE char *name = NULL;
		int fd;

		if (!manifest_find(layers[i].manifest, path))
			continue;
		if (asprintf(&name, "%s/u/%.*s", layers[i].name, (int)path.len,
			     (const char *)path.data) < 0) {
			name = NULL;
			return -ENOMEM;
		}
		fd = io_open_beneath(s->layers_fd, name,
				     O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
		if ((fd == -EACCES || fd == -EPERM) && s->open_layer)
			fd = s->open_layer(s->ctx, layers[i].name, path);
		return fd;
	}
	return -ENOENT;
}

/* The base's file as the run found it: still there, or, once the run has landed, the blob of what
 * it displaced. Where the user changed it meanwhile it is the user's: the text then shows what
 * landing would meet. */
static int open_in_base(struct work *w, const struct manifest_entry *e)
{
	const struct landing_source *s = w->q->source;
	AUTO_FREE char *name = bytes_dup_str(e->path);
	AUTO_FD fd = -1;
	struct digest d;
	uint64_t size;
	struct stat st;
	int blob;

	if (!name)
		return -ENOMEM;
	/* A negative errno goes through the guard untouched. */
	fd = io_open_beneath(w->q->workspace_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
			     0);
	if (!e->base.has_digest || (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
				    landing_look_hash(fd, DIFF_FILE_MAX, &d, &size) == 0 &&
				    digest_equal(&d, &e->base.digest)))
		return take_fd(&fd);
	blob = s->blob_open(s->ctx, &e->base.digest);
	return blob >= 0 ? blob : take_fd(&fd);
}

static int open_before(struct work *w, const struct manifest_entry *e)
{
	if (manifest_find(w->below, e->path))
		return open_in_layers(w, w->q->below, w->q->below_count, e->path);
	return open_in_base(w, e);
}

static int lay_before(struct work *w, const struct manifest_entry *e)
{
	char target[MANIFEST_TARGET_MAX + 1];
	struct stat st;

	if (e->base.type == MANIFEST_SYMLINK) {
		const struct manifest_entry *b = manifest_find(w->below, e->path);
		AUTO_FREE char *name = bytes_dup_str(e->path);
		ssize_t n;

		if (b)
			return write_link(w->a, e->path, b->target);
		if (!name)
			return -ENOMEM;
		AUTO_FD link = io_open_beneath(w->q->workspace_fd, name,
					       O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);

		n = link < 0 ? -1 : readlinkat(link, "", target, sizeof(target));
		if (n >= 0 && (size_t)n < sizeof(target)) {
			struct bytes now = bytes_of(target, (size_t)n);
			struct digest d;

			digest_of(now, &d);
			if (!e->base.has_digest || digest_equal(&d, &e->base.digest))
				return write_link(w->a, e->path, now);
		}
		return write_link(w->a, e->path, bytes_str("(another target, no longer known)"));
	}
	if (e->base.type != MANIFEST_FILE)
		return 0;
	AUTO_FD from = open_before(w, e);

	if (from == -ENOENT || from == -ENOTDIR || from == -ELOOP)
		return 0;
	if (from < 0)
		return from;
	if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	w->total += (uint64_t)st.st_size;
	return copy(from, w->a, e->path);
}

static int open_after(struct work *w, const struct manifest_entry *e, enum landing_from from)
{
	const struct landing_source *s = w->q->source;

	if (from == LANDING_FROM_BLOB)
		return s->blob_open(s->ctx, &e->digest);
	return open_in_layers(w, w->q->layers, w->q->layer_count, e->path);
}

static int lay_after(struct work *w, const struct manifest_entry *e, enum landing_from source)
{
	if (e->type == MANIFEST_SYMLINK)
		return write_link(w->b, e->path, e->target);
	if (e->type != MANIFEST_FILE)
		return 0;
	AUTO_FD from = open_after(w, e, source);

	if (from < 0)
		return from;
	w->total += e->size;
	return copy(from, w->b, e->path);
}

/* Of the copy, which nobody else writes to. */
static int check_copy(int dir, struct bytes path, bool file, const struct digest *want)
{
	AUTO_FREE char *name = bytes_dup_str(path);
	struct digest d;
	uint64_t size;

	if (!file)
		return 0;
	AUTO_FD fd =
		name ? io_open_beneath(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0) : -ENOMEM;

	if (fd < 0)
		return fd;
	return landing_look_hash(fd, DIFF_FILE_MAX, &d, &size) == 0 && digest_equal(&d, want)
		       ? 0
		       : -ESTALE;
}

static void forget(int dir, struct bytes path)
{
	AUTO_FREE char *name = bytes_dup_str(path);

	if (name)
		unlinkat(dir, name, 0); /* in our own tree, that has no links */
}

static bool has_text(enum manifest_type t)
{
	return t == MANIFEST_FILE || t == MANIFEST_SYMLINK;
}

/* What has no line of text to be shown by. A folder is told by what is in it, if that changed too.
 */
static void note_bare(struct work *w, const struct manifest_entry *e, bool holds_changes)
{
	bool was_folder = e->base.type == MANIFEST_DIR, is_folder = e->type == MANIFEST_DIR;

	if (is_folder && !was_folder && !holds_changes)
		note(w, e->path, "new folder");
	if (was_folder && !is_folder && !holds_changes)
		note(w, e->path, "removed folder");
	if (e->type == MANIFEST_FILE && e->size == 0 && e->base.type == MANIFEST_ABSENT)
		note(w, e->path, "new empty file");
	if (e->base.type == MANIFEST_FILE && e->base.size == 0 && e->type == MANIFEST_WHITEOUT)
		note(w, e->path, "removed empty file");
}

/* Whether path, of those that begin as folder does, lies in it; *ret_on: a later one may. */
static bool lies_in(struct bytes path, struct bytes folder, bool *ret_on)
{
	*ret_on = path.len >= folder.len && memcmp(path.data, folder.data, folder.len) == 0;
	return *ret_on && path.len > folder.len && ((const char *)path.data)[folder.len] == '/';
}

static bool net_changes_in(const struct manifest *net, size_t at)
{
	bool on = true;

	for (size_t i = at + 1; on && i < manifest_count(net); i++)
		if (lies_in(manifest_at(net, i)->path, manifest_at(net, at)->path, &on) &&
		    manifest_entry_changes(manifest_at(net, i)))
			return true;
	return false;
}

static bool plan_changes_in(const struct landing_plan *p, size_t at)
{
	bool on = true;

	for (size_t i = at + 1; on && i < p->action_count; i++)
		if (lies_in(p->actions[i].path, p->actions[at].path, &on))
			return true;
	return false;
}

static int lay(struct work *w, const struct manifest_entry *e, enum landing_from from,
	       bool holds_changes)
{
	bool same_content = e->type == e->base.type && e->base.has_digest &&
			    digest_equal(&e->digest, &e->base.digest);
	int r;

	r = failpoint_hit("diffs.file");
	if (r == 0 && w->q->stop && atomic_load(w->q->stop))
		r = -ECANCELED;
	if (r < 0)
		return r;
	if (e->type == e->base.type && e->mode != e->base.mode) {
		char text[64];

		snprintf(text, sizeof(text), "mode %o -> %o", e->base.mode, e->mode);
		note(w, e->path, text);
	}
	note_bare(w, e, holds_changes);
	if (!has_text(e->type) && !has_text(e->base.type)) {
		if (e->type > MANIFEST_WHITEOUT)
			note(w, e->path, manifest_type_name(e->type));
		return 0;
	}
	if (same_content)
		return 0;
	if ((e->type == MANIFEST_FILE && e->size > DIFF_FILE_MAX) ||
	    (e->base.type == MANIFEST_FILE && e->base.size > DIFF_FILE_MAX)) {
		skip(w, e->path, "too large to be shown");
		return 0;
	}
	if (w->files >= DIFF_PATHS_MAX || w->total + e->size + e->base.size > w->total_max) {
		w->ret->skipped++; /* counted, not named: there may be a million */
		return 0;
	}
	w->files++;
	r = lay_before(w, e);
	if (r == 0)
		r = lay_after(w, e, from);
	if (r == 0 && w->q->exact)
		r = check_copy(w->a, e->path, e->base.type == MANIFEST_FILE && e->base.has_digest,
			       &e->base.digest);
	if (r == 0 && w->q->exact)
		r = check_copy(w->b, e->path, e->type == MANIFEST_FILE, &e->digest);
	if (r < 0 && r != -ENOMEM && r != -ENOSPC) {
		forget(w->a, e->path);
		forget(w->b, e->path);
		w->files--;
		skip(w, e->path,
		     r == -EFBIG    ? "too large to be shown"
		     : r == -ESTALE ? "is another one by now"
				    : "cannot be read");
		r = 0;
	}
	return r;
}

static int lay_action(struct work *w, const struct landing_action *a, bool holds_changes)
{
	struct manifest_entry e = {
		.path = a->path,
		.type = a->after.type == MANIFEST_ABSENT ? MANIFEST_WHITEOUT : a->after.type,
		.mode = a->after.mode,
		.size = a->after.size,
		.digest = a->after.digest,
		.target = a->after.target,
		.base = {.type = a->before.type,
			 .mode = a->before.mode,
			 .size = a->before.size,
			 .has_digest = a->before.has_digest,
			 .digest = a->before.digest},
	};

	return lay(w, &e, a->from, holds_changes);
}

static int make_side(int dest, const char *name)
{
	if (mkdirat(dest, name, 0755) < 0)
		return -errno;
	AUTO_FD fd = openat(dest, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 || fchmod(fd, 0755) < 0 || fchmod(dest, 0755) < 0 ? -errno : take_fd(&fd);
}

int diff_prepare(const struct diff_request *q, struct diff_prepared *ret, struct error *err)
{
	__attribute__((cleanup(diff_prepared_free))) struct diff_prepared p = {.argv = diff_argv};
	AUTO(manifest_free) struct manifest *below = NULL;
	AUTO_FD a = make_side(q->dest_fd, "a");
	AUTO_FD b = make_side(q->dest_fd, "b");
	struct work w = {.q = q,
			 .a = a,
			 .b = b,
			 .ret = &p,
			 .err = err,
			 .total_max = q->total_max ? q->total_max : DIFF_TOTAL_MAX};
	int r = a < 0 ? a : b < 0 ? b : 0;

	if (r == 0)
		r = landing_net(q->below, q->below_count, &below, err);
	if (r == 0)
		r = diff_net(q->below, q->below_count, q->layers, q->layer_count, &p.net, err);
	w.below = below;
	for (size_t i = 0; r == 0 && q->only && i < q->only->action_count; i++)
		r = lay_action(&w, &q->only->actions[i], plan_changes_in(q->only, i));
	for (size_t i = 0; r == 0 && !q->only && i < manifest_count(p.net); i++)
		if (manifest_entry_changes(manifest_at(p.net, i)))
			r = lay(&w, manifest_at(p.net, i), LANDING_FROM_LAYER,
				net_changes_in(p.net, i));
	if (r == 0 && p.skipped > 0)
		buffer_printf(&p.note, "%llu changed file%s not shown\n",
			      (unsigned long long)p.skipped, p.skipped == 1 ? " is" : "s are");
	if (r == 0)
		r = p.note.failed;
	if (r < 0)
		return error_set(err, r, "diff: the changed files cannot be laid out: %s",
				 strerror(-r));
	p.empty = w.files == 0;
	*ret = p;
	p = (struct diff_prepared){0};
	return 0;
}
