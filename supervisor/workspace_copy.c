/* Copies of a workspace for a pinned base, and removing such trees. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/escape.h"
#include "base/io.h"
#include "supervisor/workspace.h"

enum { COPY_BYTES = 256 * 1024 };

struct copy {
	struct workspace_copied done;
	uint64_t dev; /* of the workspace: what is mounted below it is not part of it */
	uint64_t except_dev, except_ino;
	bool root;
	uint8_t *buf;
	struct error *err;
};

static int fail(struct copy *c, int code, const char *name)
{
	AUTO_FREE char *shown = escape_dup(bytes_str(name), ESCAPE_LINE);

	return error_set(c->err, code, "pinned base: %s cannot be copied: %s", shown ? shown : "",
			 strerror(-code));
}

static int too_much(struct copy *c, const char *what)
{
	return error_set_exit(
		c->err, -EOPNOTSUPP, EXIT_STATUS_SANDBOX,
		"pinned base: the workspace has more than %s, and cannot be copied by reference "
		"(reflink) to the state directory; put both on one btrfs or xfs, or use base: live",
		what);
}

static int copy_plainly(struct copy *c, int from, int to, const char *name)
{
	for (;;) {
		ssize_t n = read(from, c->buf, COPY_BYTES);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? fail(c, -errno, name) : 0;
		c->done.bytes_copied += (uint64_t)n;
		if (c->done.bytes_copied > WORKSPACE_COPY_BYTES_MAX)
			return too_much(c, "256 MiB");
		r = io_write_all(to, c->buf, (size_t)n);
		if (r < 0)
			return fail(c, r, name);
	}
}

static int set_meta(struct copy *c, int fd, const struct stat *st, const char *name)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};

	if ((c->root && fchown(fd, st->st_uid, st->st_gid) < 0) ||
	    fchmod(fd, st->st_mode & 07777) < 0 || futimens(fd, times) < 0)
		return fail(c, -errno, name);
	return 0;
}

static int copy_file(struct copy *c, int from_dir, int to_dir, const char *name)
{
	AUTO_FD from =
		openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	AUTO_FD to = -1;
	struct stat st;
	int r = 0;

	if (from < 0 || fstat(from, &st) < 0 || !S_ISREG(st.st_mode)) {
		c->done.skipped++; /* unreadable for this user, so for the step too; or gone
				      meanwhile */
		return 0;
	}
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return fail(c, -errno, name);
	if (ioctl(to, FICLONE, from) == 0)
		c->done.bytes_cloned += (uint64_t)st.st_size;
	else
		r = copy_plainly(c, from, to, name);
	c->done.files++;
	return r < 0 ? r : set_meta(c, to, &st, name);
}

static int copy_link(struct copy *c, int from_dir, int to_dir, const char *name,
		     const struct stat *st)
{
	char target[4096];
	ssize_t n = readlinkat(from_dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return 0;
	target[n] = '\0';
	if (symlinkat(target, to_dir, name) < 0 ||
	    (c->root && fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0))
		return fail(c, -errno, name);
	c->done.links++;
	return 0;
}

static int copy_folder(struct copy *c, int from, int to, int depth);

static int copy_below(struct copy *c, int from_dir, int to_dir, const char *name, int depth)
{
	AUTO_FD from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_FD to = -1;
	struct stat st;
	int r;

	if (from < 0 || fstat(from, &st) < 0) {
		c->done.skipped++;
		return 0;
	}
	if (st.st_dev != c->dev || (st.st_dev == c->except_dev && st.st_ino == c->except_ino))
		return 0;
	if (mkdirat(to_dir, name, 0700) < 0)
		return fail(c, -errno, name);
	to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (to < 0)
		return fail(c, -errno, name);
	c->done.dirs++;
	r = copy_folder(c, from, to, depth + 1);
	return r < 0 ? r : set_meta(c, to, &st, name);
}

static int copy_folder(struct copy *c, int from, int to, int depth)
{
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR d = fd < 0 ? NULL : fdopendir(fd);
	int r = 0;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return fail(c, -errno, ".");
	}
	if (depth > WORKSPACE_COPY_DEPTH_MAX)
		return too_much(c, "200 levels of folders");
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		struct stat st;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    fstatat(from, e->d_name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
			continue;
		if (c->done.files + c->done.dirs + c->done.links >= WORKSPACE_COPY_FILES_MAX)
			return too_much(c, "200000 names");
		if (S_ISDIR(st.st_mode))
			r = copy_below(c, from, to, e->d_name, depth);
		else if (S_ISREG(st.st_mode))
			r = copy_file(c, from, to, e->d_name);
		else if (S_ISLNK(st.st_mode))
			r = copy_link(c, from, to, e->d_name, &st);
		else
			c->done.skipped++;
	}
	return r;
}

int workspace_pin(int fd, int dest, uint64_t except_dev, uint64_t except_ino,
		  struct workspace_copied *ret, struct error *err)
{
	struct copy c = {.root = geteuid() == 0,
			 .except_dev = except_dev,
			 .except_ino = except_ino,
			 .err = err};
	AUTO_FREE uint8_t *buf = malloc(COPY_BYTES);
	struct stat st;
	int r;

	if (!buf)
		return error_nomem(err);
	if (fstat(fd, &st) < 0)
		return fail(&c, -errno, ".");
	c.buf = buf;
	c.dev = st.st_dev;
	r = copy_folder(&c, fd, dest, 0);
	if (r == 0)
		r = set_meta(&c, dest, &st, ".");
	if (r == 0 && syncfs(dest) < 0)
		r = fail(&c, -errno, ".");
	if (r < 0)
		return r;
	*ret = c.done;
	return 0;
}

/* A folder's names, also where its mode forbids its owner to list or change it. */
static int open_to_empty(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == EACCES && fchmodat(dir, name, 0700, 0) == 0)
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700)
		(void)fchmod(fd, 0700);
	return fd < 0 ? -errno : fd;
}

static int empty(int fd, int depth)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR d = copy < 0 ? NULL : fdopendir(copy);
	int r = 0;

	if (!d) {
		int code = errno;

		if (copy >= 0)
			close(copy);
		return -code;
	}
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    unlinkat(fd, e->d_name, 0) == 0 || errno == ENOENT)
			continue;
		if (errno != EISDIR && errno != EPERM)
			return -errno;
		AUTO_FD below = open_to_empty(fd, e->d_name);

		r = below < 0				   ? below
		    : depth > 2 * WORKSPACE_COPY_DEPTH_MAX ? -ELOOP
							   : empty(below, depth + 1);
		if (r == 0 && unlinkat(fd, e->d_name, AT_REMOVEDIR) < 0)
			r = -errno;
	}
	return r;
}

int workspace_empty(int fd, struct error *err)
{
	int r = empty(fd, 0);

	return r < 0 ? error_set(err, r, "a folder cannot be emptied: %s", strerror(-r)) : 0;
}
