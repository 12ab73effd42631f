/*
 * SQUASH: several sealed layers become one that shows the same. The merged manifest says what;
 * files come by hard links from the topmost layer that names them, so no content is copied, hashed
 * or read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/failpoint.h"
#include "base/guard.h"
#include "base/io.h"
#include "sandbox/sealer_work.h"

enum { ATTRIBUTES_MAX = 64 * 1024 }; /* XATTR_LIST_MAX, and XATTR_SIZE_MAX of one */

struct squash {
	size_t count;
	struct manifest *stack[MANIFEST_STACK_MAX];
	int upper[MANIFEST_STACK_MAX];
	int into;
	struct manifest *merged;
	struct error *err;
};

static int fail(struct squash *s, int code, const char *what)
{
	return error_set(s->err, code, "squash: %s: %s", what, strerror(-code));
}

/* The folder that path stands in, below root; *ret_name points into path. */
static int open_parent(int root, char *path, const char **ret_name)
{
	char *slash = strrchr(path, '/');
	int fd;

	*ret_name = slash ? slash + 1 : path;
	if (!slash) {
		fd = fcntl(root, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? -errno : fd;
	}
	*slash = '\0';
	fd = io_open_beneath(root, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	*slash = '/';
	return fd;
}

/* The topmost layer with an entry of its own at path: where the merged entry comes from. */
static size_t source_of(const struct squash *s, struct bytes path)
{
	size_t i = s->count;

	while (i-- > 0)
		if (manifest_find(s->stack[i], path))
			return i;
	return 0;
}

/* Extended attributes of a folder but overlay's own marks. A file system that takes some of them
 * not is no reason to fail: the folder had come to the layer through the same one. */
static int copy_attributes(int from, int to)
{
	AUTO_FREE char *list = malloc(ATTRIBUTES_MAX);
	AUTO_FREE char *value = malloc(ATTRIBUTES_MAX);
	ssize_t n = list && value ? flistxattr(from, list, ATTRIBUTES_MAX) : -1;

	if (!list || !value)
		return -ENOMEM;
	if (n < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (const char *name = list; name < list + n; name += strlen(name) + 1) {
		ssize_t size;

		if (strncmp(name, "user.overlay.", 13) == 0)
			continue;
		size = fgetxattr(from, name, value, ATTRIBUTES_MAX);
		if (size >= 0 && fsetxattr(to, name, value, (size_t)size, 0) < 0 && errno == ENOSPC)
			return -ENOSPC;
	}
	return 0;
}

static int make_folder(struct squash *s, int dir, const char *name, char *path,
		       const struct manifest_entry *e)
{
	AUTO_FD from = -1;
	AUTO_FD to = -1;
	int r;

	if (mkdirat(dir, name, 0700) < 0)
		return fail(s, -errno, "a folder");
	to = sealer_tree_enter(dir, name);
	from = io_open_beneath(s->upper[source_of(s, e->path)], path,
			       O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (to < 0 || from < 0)
		return fail(s, to < 0 ? to : from, "a folder");
	r = copy_attributes(from, to);
	if (r == 0 && e->opaque && fsetxattr(to, "user.overlay.opaque", "y", 1, 0) < 0)
		r = -errno;
	if (r == 0 && fchmod(to, e->mode) < 0)
		r = -errno;
	return r < 0 ? fail(s, r, "a folder's attributes") : 0;
}

static int make_entry(struct squash *s, const struct manifest_entry *e)
{
	AUTO_FREE char *path = bytes_dup_str(e->path);
	const char *name;
	AUTO_FD dir = -1;
	AUTO_FD from = -1;

	if (!path)
		return error_nomem(s->err);
	if (e->type == MANIFEST_WHITEOUT && e->implied)
		return 0; /* its ancestor hides it */
	dir = open_parent(s->into, path, &name);
	if (dir < 0)
		return fail(s, dir, "a folder");
	if (e->type == MANIFEST_DIR)
		return make_folder(s, dir, name, path, e);
	if (e->type == MANIFEST_WHITEOUT)
		return mknodat(dir, name, S_IFCHR, 0) < 0 ? fail(s, -errno, "a deletion") : 0;
	from = open_parent(s->upper[source_of(s, e->path)], path, &name);
	if (from < 0)
		return fail(s, from, "a folder");
	if (linkat(from, name, dir, name, 0) < 0)
		return fail(s, -errno, "a file");
	return 0;
}

/* Folders get their times when nothing more is made in them. */
static int set_times(struct squash *s)
{
	for (size_t i = manifest_count(s->merged); i-- > 0;) {
		const struct manifest_entry *e = manifest_at(s->merged, i);
		int64_t sec = e->mtime_ns / 1000000000;
		int64_t nsec = e->mtime_ns % 1000000000;
		AUTO_FREE char *path = NULL;
		AUTO_FD dir = -1;
		const char *name;

		if (e->type != MANIFEST_DIR)
			continue;
		if (nsec < 0) {
			nsec += 1000000000;
			sec--;
		}
		path = bytes_dup_str(e->path);
		if (!path)
			return error_nomem(s->err);
		dir = open_parent(s->into, path, &name);
		if (dir < 0)
			return fail(s, dir, "a folder");
		if (utimensat(dir, name,
			      (struct timespec[2]){{.tv_nsec = UTIME_OMIT},
						   {.tv_sec = sec, .tv_nsec = nsec}},
			      AT_SYMLINK_NOFOLLOW) < 0)
			return fail(s, -errno, "a folder's times");
	}
	return 0;
}

static int squash(struct squash *s, int layer, struct sealer_done *ret)
{
	int r = manifest_merge((const struct manifest *const *)s->stack, s->count,
			       MANIFEST_MERGE_SQUASH, &s->merged, s->err);

	/* What an earlier try left. */
	if (r == 0 && unlinkat(layer, LAYERS_MANIFEST, 0) < 0 && errno != ENOENT)
		r = fail(s, -errno, "the manifest");
	if (r == 0)
		r = sealer_remove_below(s->into, s->err);
	for (size_t i = 0; r == 0 && i < manifest_count(s->merged); i++) {
		r = make_entry(s, manifest_at(s->merged, i));
		if (r == 0 && i == manifest_count(s->merged) / 2 &&
		    failpoint_hit("sealer.squashing") < 0)
			r = fail(s, -EIO, "failpoint");
	}
	if (r == 0)
		r = set_times(s);
	return r < 0 ? r : sealer_seal_write(layer, s->merged, false, ret, s->err);
}

int sealer_squash_run(int layers, const struct sealer_request *q, struct sealer_done *ret,
		      struct error *err)
{
	struct squash s = {.count = q->name_count, .into = -1, .err = err};
	AUTO_FD layer = sealer_tree_enter(layers, q->into);
	int r = sealer_view_read(layers, q, s.stack, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < s.count; i++)
		s.upper[i] = -1;
	if (layer >= 0)
		s.into = sealer_tree_enter(layer, LAYERS_UPPER);
	if (s.into < 0)
		r = fail(&s, layer < 0 ? layer : s.into, "the new layer");
	for (size_t i = 0; i < s.count && r == 0; i++) {
		AUTO_FD from = sealer_tree_enter(layers, q->names[i]);

		s.upper[i] = from < 0 ? from : sealer_tree_enter(from, LAYERS_UPPER);
		if (s.upper[i] < 0)
			r = fail(&s, s.upper[i], "a layer");
	}
	if (r == 0)
		r = squash(&s, layer, ret);
	for (size_t i = 0; i < s.count; i++) {
		close_fd(&s.upper[i]);
		manifest_free(s.stack[i]);
	}
	close_fd(&s.into);
	manifest_free(s.merged);
	return r;
}
