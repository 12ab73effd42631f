#pragma once
/*
 * The user's directory, by descriptor: who it is, what its file system can do (tested by doing),
 * and copies of it for a pinned base. The daemon never opens a path that a client named: the client
 * opens, and passes the descriptor.
 */
#include <sys/types.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/guard.h"

struct workspace {
	uint64_t dev, ino; /* identity: the lease and every later landing are bound to it */
	uint32_t uid, gid; /* whose the run is: the directory's owner for root's daemon, else the
			      daemon's own user */
	uint32_t mode;
	uint64_t fs_magic; /* statfs(2) f_type */
	const char *fs_name; /* "ext4", "tmpfs", …, "other" */
	bool base_ok; /* ext4, xfs, btrfs, tmpfs, FUSE, overlay */
};

/* Looks at fd, a directory, for a daemon of uid. -ENOTDIR; -EOPNOTSUPP (exit status SANDBOX) where
 * no overlay can stand on its file system. Nothing is written. */
MUST_CHECK int workspace_open(int fd, uid_t uid, struct workspace *ret, struct error *err);
/* For a supervisor that starts again: path, as the client gave it, is only believed where it is
 * still the directory of that identity. -ESTALE with the remedy otherwise. Returns the descriptor.
 */
MUST_CHECK int workspace_reopen(const char *path, uint64_t dev, uint64_t ino, struct error *err);

/* Whether fd, held since, is still what path leads to: a policy speaks of paths, so a directory that
 * was moved is another place. -ESTALE (exit status CONFLICT) with where it is now and the remedy. */
MUST_CHECK int workspace_stands(int fd, const char *path, struct error *err);

struct workspace_abilities {
	bool exchange, noreplace; /* renameat2(2) flags */
	int64_t granularity_ns; /* of ctime: 1 unless it is coarser */
	bool ctime_ok; /* its clock is this machine's (not a server's) */
};
/*
 * Tries it, in a hidden folder `.holdfast-land-probe-*` of the directory that is gone when this
 * returns: for runs that may land. *ret is filled also when a flag is missing; -EOPNOTSUPP (exit
 * status SANDBOX) then, with the remedy. -EACCES, -EROFS, …: nothing can be written there, so
 * nothing can land.
 */
MUST_CHECK int workspace_probe(int fd, struct workspace_abilities *ret, struct error *err);

/* Removes what a supervisor that was killed in the middle of a probe left in the directory. */
void workspace_sweep(int fd);

/* CLOCK_REALTIME_COARSE: the clock that file systems stamp with; the run's start. */
int64_t workspace_now_ns(void);

enum {
	WORKSPACE_COPY_FILES_MAX = 200000,
	WORKSPACE_COPY_DEPTH_MAX = 200,
};
#define WORKSPACE_COPY_BYTES_MAX (256ull * 1024 * 1024) /* of plain copies; reflinks are free */

struct workspace_copied {
	uint64_t files, dirs, links;
	uint64_t bytes_cloned, bytes_copied;
	uint64_t skipped; /* sockets, FIFOs, devices, and what could not be read */
};
/*
 * A pinned base: copies the tree below fd into the empty folder dest, by reflink where the two
 * share a file system that can, else plainly up to WORKSPACE_COPY_BYTES_MAX; past it -EOPNOTSUPP
 * (exit status SANDBOX) with the remedy, and dest is to be removed by the caller. Take the run's
 * start before: what is edited meanwhile is then a conflict. except_dev, except_ino: a folder below
 * it that is not copied (the state directory); 0 = none.
 */
MUST_CHECK int workspace_pin(int fd, int dest, uint64_t except_dev, uint64_t except_ino,
			     struct workspace_copied *ret, struct error *err);
/* Removes all that is below fd (never fd itself), whatever its modes: for pinned copies and diff
 * trees. */
MUST_CHECK int workspace_empty(int fd, struct error *err);
