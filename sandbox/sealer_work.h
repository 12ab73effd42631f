#pragma once
/*
 * What the sealer's children do, one function a kind of request; and the small tree tools that they
 * share. Inside holdfast-sealer only. Every function works below the descriptors that it is given,
 * follows no symlink, opens no FIFO or device, and may be cut off at any instant and run again.
 */
#include <sys/stat.h>
#include "sandbox/sealer.h"

enum {
	SEALER_WORK_DEPTH_MAX = 400, /* folders; descriptors held on the way down */
	SEALER_WORK_READ = 256 * 1024,
};

/* A file of the base larger than this is told apart by size, inode and times alone: the user's own
 * files have no limit that would bound how long hashing takes. */
#define SEALER_WORK_BASE_HASH_MAX (4ull << 30)

struct sealer_done {
	struct digest digest;
	uint64_t entries;
	uint64_t bytes;
	int fd; /* OPEN, VIEW; else -1 */
};

MUST_CHECK int sealer_seal_run(int layers, int base, const struct sealer_request *q,
			       struct sealer_done *ret, struct error *err);
MUST_CHECK int sealer_remove_run(int layers, const char *name, struct error *err);
MUST_CHECK int sealer_squash_run(int layers, const struct sealer_request *q,
				 struct sealer_done *ret, struct error *err);
MUST_CHECK int sealer_usage_run(int layers, const struct sealer_request *q, struct sealer_done *ret,
				struct error *err);
MUST_CHECK int sealer_open_run(int layers, const struct sealer_request *q, struct sealer_done *ret,
			       struct error *err);
MUST_CHECK int sealer_view_run(int layers, const struct sealer_request *q, struct sealer_done *ret,
			       struct error *err);

/* Encodes m, puts it in place of the layer's manifest, fills *ret. sync: the file system, once, if
 * m has entries; without it the layer is a cache, which nobody trusts after a crash. */
MUST_CHECK int sealer_seal_write(int layer, const struct manifest *m, bool sync,
				 struct sealer_done *ret, struct error *err);
/* Manifests of the layers that q names, bottom first; the caller frees each. */
MUST_CHECK int sealer_view_read(int layers, const struct sealer_request *q,
				struct manifest *ret[MANIFEST_STACK_MAX], struct error *err);
/* Removes all that is below dir (a readable descriptor); dir stays. */
MUST_CHECK int sealer_remove_below(int dir, struct error *err);

/* ---- sealer_tree.c ---- */

/* Names in a folder without "." and "..", each owned. */
struct sealer_tree_names {
	char **name;
	size_t count;
	size_t cap;
};
void sealer_tree_names_free(struct sealer_tree_names *n);
/* At most max names; SEALER_TREE_MORE when there are others. dir keeps its own position. */
enum { SEALER_TREE_MORE = 1 };
MUST_CHECK int sealer_tree_names(int dir, size_t max, struct sealer_tree_names *ret);
/* A folder, never through a symlink, never onto another file system mounted there (-EXDEV). */
MUST_CHECK int sealer_tree_enter(int dir, const char *name);
/* Overlay's mark of a deleted name (Documentation/filesystems/overlayfs.rst): character device 0/0.
 */
static inline bool sealer_tree_is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}
int64_t sealer_tree_ns(struct timespec t);
/* SHA-256 of a regular file's content from its descriptor, size bytes, holes as zeros without
 * reading them. -EAGAIN when the file ends earlier or goes on: someone writes to it. */
MUST_CHECK int sealer_tree_hash(int fd, uint64_t size, struct digest_ctx *ctx, struct digest *ret);

/* Inodes that have been met, each with the path where that was: hard links are few, most files have
 * one name. */
struct sealer_tree_inodes {
	struct sealer_tree_inode *slot;
	size_t count;
	size_t cap; /* a power of two */
};
void sealer_tree_inodes_free(struct sealer_tree_inodes *t);
/* *ret_path is the path of the first meeting, or empty if this is it (path is copied). */
MUST_CHECK int sealer_tree_inode(struct sealer_tree_inodes *t, uint64_t ino, struct bytes path,
				 struct bytes *ret_path);
