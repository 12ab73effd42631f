/*
 * USAGE: blocks and inodes that a layer takes, while its step may still be writing: a name that
 * goes away under the walk is no error. And OPEN: one file of it for those who may not walk there
 * themselves.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/guard.h"
#include "base/io.h"
#include "sandbox/sealer_work.h"

/* Each level holds one descriptor and a few hundred bytes of stack; a walk that runs out of
 * descriptors earlier fails, which the keeper takes for a limit that is met. */
enum { DEPTH_MAX = 4000 };

struct usage {
	uint64_t bytes;
	uint64_t entries;
	uint64_t bytes_max;
	uint64_t entries_max;
	struct sealer_tree_inodes inodes;
	struct error *err;
};

static bool enough(const struct usage *u)
{
	return (u->bytes_max && u->bytes > u->bytes_max) ||
	       (u->entries_max && u->entries > u->entries_max);
}

static int add(struct usage *u, const struct stat *st)
{
	struct bytes first = {0};

	if (st->st_nlink > 1 && !S_ISDIR(st->st_mode)) {
		int r = sealer_tree_inode(&u->inodes, st->st_ino, bytes_str("-"), &first);

		if (r < 0)
			return error_nomem(u->err);
		if (first.len > 0)
			return 0;
	}
	u->bytes += (uint64_t)st->st_blocks * 512; /* stat(2): always 512-byte units */
	u->entries++;
	return 0;
}

static int walk(struct usage *u, int dir, int depth)
{
	struct sealer_tree_names names = {0};
	int r;

	if (depth > DEPTH_MAX)
		return error_set_exit(u->err, -E2BIG, EXIT_STATUS_LIMIT,
				      "usage: the layer has folders deeper than %d", DEPTH_MAX);
	r = sealer_tree_names(dir, MANIFEST_ENTRIES_MAX, &names);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_set(u->err, r, "usage: a folder cannot be listed: %s", strerror(-r));
	if (r == SEALER_TREE_MORE)
		r = error_set_exit(u->err, -E2BIG, EXIT_STATUS_LIMIT,
				   "usage: a folder has more than %d names", MANIFEST_ENTRIES_MAX);
	for (size_t i = 0; i < names.count && r == 0 && !enough(u); i++) {
		struct stat st;

		if (fstatat(dir, names.name[i], &st, AT_SYMLINK_NOFOLLOW) < 0) {
			r = errno == ENOENT
				    ? 0
				    : error_set(u->err, -errno, "usage: %s", strerror(errno));
			continue;
		}
		r = add(u, &st);
		if (r == 0 && S_ISDIR(st.st_mode)) {
			AUTO_FD fd = sealer_tree_enter(dir, names.name[i]);

			if (fd >= 0)
				r = walk(u, fd, depth + 1);
			else if (fd != -ENOENT && fd != -ENOTDIR && fd != -ELOOP)
				r = error_set(u->err, fd, "usage: %s", strerror(-fd));
		}
	}
	sealer_tree_names_free(&names);
	return r;
}

static int walk_named(struct usage *u, int layer, const char *name)
{
	AUTO_FD fd = sealer_tree_enter(layer, name);

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return error_set(u->err, fd, "usage: %s: %s", name, strerror(-fd));
	return walk(u, fd, 0);
}

int sealer_usage_run(int layers, const struct sealer_request *q, struct sealer_done *ret,
		     struct error *err)
{
	struct usage u = {.bytes_max = q->bytes_max, .entries_max = q->entries_max, .err = err};
	AUTO_FD layer = sealer_tree_enter(layers, q->names[0]);
	int r;

	if (layer == -ENOENT)
		return 0; /* nothing was made yet, or it is being removed */
	if (layer < 0)
		return error_set(err, layer, "usage: layer %s cannot be opened: %s", q->names[0],
				 strerror(-layer));
	r = walk_named(&u, layer, LAYERS_UPPER);
	ret->entries = u.entries;
	/* Overlay's own folder holds files on their way up: their blocks count, their names are not
	 * the step's. */
	u.entries_max = 0;
	if (r == 0)
		r = walk_named(&u, layer, LAYERS_WORK);
	ret->bytes = u.bytes;
	sealer_tree_inodes_free(&u.inodes);
	return r;
}

int sealer_open_run(int layers, const struct sealer_request *q, struct sealer_done *ret,
		    struct error *err)
{
	AUTO_FREE char *path = bytes_dup_str(q->path);
	AUTO_FD layer = sealer_tree_enter(layers, q->names[0]);
	AUTO_FD upper = layer < 0 ? layer : sealer_tree_enter(layer, LAYERS_UPPER);
	AUTO_FD fd = -1;
	struct stat st;

	if (!path)
		return error_nomem(err);
	if (upper < 0)
		return error_set(err, upper, "open: layer %s cannot be opened: %s", q->names[0],
				 strerror(-upper));
	fd = io_open_beneath(upper, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
	if (fd < 0)
		return error_set(err, fd, "open: a file of layer %s: %s", q->names[0],
				 strerror(-fd));
	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "open: %s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, "open: not a regular file of layer %s", q->names[0]);
	ret->fd = take_fd(&fd);
	ret->entries = 1;
	ret->bytes = (uint64_t)st.st_size;
	return 0;
}
