#include "supervisor/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include "base/io.h"

#define PROBE_PREFIX ".holdfast-land-probe-"

enum { PROBE_STALE_S = 60, SKEW_MS = 100 };

/* linux/magic.h does not have all of them. */
static const struct file_system {
	uint64_t magic;
	const char *name;
} file_systems[] = {
	{0xef53, "ext4"},      {0x58465342, "xfs"},  {0x9123683e, "btrfs"},
	{0x01021994, "tmpfs"}, {0x65735546, "fuse"}, {0x794c7630, "overlay"},
};

static int64_t ns_of(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t workspace_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return ns_of(t);
}

int workspace_open(int fd, uid_t uid, struct workspace *ret, struct error *err)
{
	struct workspace w = {.fs_name = "other"};
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return error_set(err, -errno, "workspace: cannot be looked at: %s",
				 strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return error_set_exit(err, -ENOTDIR, EXIT_STATUS_USAGE,
				      "workspace: is not a directory");
	w.dev = st.st_dev;
	w.ino = st.st_ino;
	w.uid = uid == 0 ? st.st_uid : uid;
	w.gid = uid == 0 ? st.st_gid : getegid();
	w.mode = st.st_mode & 07777;
	w.fs_magic = (uint64_t)fs.f_type & 0xffffffff;
	for (size_t i = 0; i < ARRAY_SIZE(file_systems); i++) {
		if (file_systems[i].magic == w.fs_magic) {
			w.fs_name = file_systems[i].name;
			w.base_ok = true;
		}
	}
	if (!w.base_ok)
		return error_set_exit(
			err, -EOPNOTSUPP, EXIT_STATUS_SANDBOX,
			"workspace: its file system (type 0x%llx) cannot be a layer; use a "
			"directory on ext4, xfs, btrfs, tmpfs, FUSE or overlay, or copy it there",
			(unsigned long long)w.fs_magic);
	*ret = w;
	return 0;
}

int workspace_reopen(const char *path, uint64_t dev, uint64_t ino, struct error *err)
{
	AUTO_FD fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno != ENOENT && errno != ENOTDIR)
		return error_set(err, -errno, "workspace %s: cannot be opened: %s", path,
				 strerror(errno));
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != dev || st.st_ino != ino)
		return error_set_exit(err, -ESTALE, EXIT_STATUS_CONFLICT,
				      "workspace %s: is not the directory that the run began in "
				      "any more; move that one back to this path and try again",
				      path);
	return take_fd(&fd);
}

int workspace_stands(int fd, const char *path, struct error *err)
{
	char link[64], now[PATH_MAX] = "";
	struct stat held, there;
	ssize_t n;

	if (fstat(fd, &held) < 0)
		return error_set(err, -errno, "workspace %s: cannot be looked at: %s", path,
				 strerror(errno));
	if (stat(path, &there) == 0 && there.st_dev == held.st_dev && there.st_ino == held.st_ino)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, now, sizeof(now) - 1);
	now[n > 0 ? n : 0] = '\0';
	if (held.st_nlink == 0 || n <= 0)
		return error_set_exit(err, -ESTALE, EXIT_STATUS_CONFLICT,
				      "workspace %s: the directory that the run began in was "
				      "removed; 'holdfast diff' has the run's changes",
				      path);
	return error_set_exit(err, -ESTALE, EXIT_STATUS_CONFLICT,
			      "workspace %s: was moved since the run began, to %s, of which its "
			      "policy says nothing; move it back and try again",
			      path, now);
}

/* ---- abilities, by doing ---- */

static int64_t coarsest(int64_t granularity, int64_t ns)
{
	while (granularity > 1 && ns % granularity != 0)
		granularity = granularity > 1000000000 ? 1000000000 : granularity / 10;
	return granularity;
}

static int make_file(int dir, const char *name, struct stat *ret)
{
	AUTO_FD fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 || fstat(fd, ret) < 0 ? -errno : 0;
}

static int try_renames(int dir, struct workspace_abilities *a)
{
	int64_t before = workspace_now_ns();
	int64_t after;
	int64_t granularity = 2000000000; /* FAT's */
	struct stat st[3];
	int r = make_file(dir, "a", &st[0]);

	if (r == 0)
		r = make_file(dir, "b", &st[1]);
	if (r < 0)
		return r;
	a->exchange = renameat2(dir, "a", dir, "b", RENAME_EXCHANGE) == 0;
	a->noreplace = renameat2(dir, "a", dir, "b", RENAME_NOREPLACE) < 0 && errno == EEXIST &&
		       renameat2(dir, "a", dir, "c", RENAME_NOREPLACE) == 0;
	/* A second way for the clock to come to an odd number of nanoseconds. */
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	if (fchmodat(dir, "b", 0640, 0) < 0 || fstatat(dir, "b", &st[2], AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	after = workspace_now_ns();
	for (size_t i = 0; i < ARRAY_SIZE(st); i++)
		granularity = coarsest(granularity, ns_of(st[i].st_ctim));
	a->granularity_ns = granularity;
	/* Some kernels stamp finer than the coarse clock tells: up to a tick later, never earlier.
	 */
	a->ctime_ok = ns_of(st[0].st_ctim) >= before - before % granularity &&
		      ns_of(st[2].st_ctim) <= after + SKEW_MS * INT64_C(1000000);
	return 0;
}

static void remove_probe(int fd, const char *name)
{
	AUTO_FD dir = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (dir >= 0) {
		unlinkat(dir, "a", 0);
		unlinkat(dir, "b", 0);
		unlinkat(dir, "c", 0);
	}
	unlinkat(fd, name, AT_REMOVEDIR);
}

/* Whose probe is over: nobody holds it locked, and the thread that its name tells of is gone, or it
 * is old. A thread of another pid namespace looks gone; its lock does not. */
static bool is_stale(int fd, const char *name)
{
	long id = strtol(name + sizeof(PROBE_PREFIX) - 1, NULL, 10);
	AUTO_FD dir = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (dir < 0 || fstat(dir, &st) < 0 || flock(dir, LOCK_EX | LOCK_NB) < 0)
		return false;
	return st.st_ctim.tv_sec + PROBE_STALE_S < time(NULL) ||
	       (id > 0 && id <= INT_MAX && kill((pid_t)id, 0) < 0 && errno == ESRCH);
}

void workspace_sweep(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR d = copy < 0 ? NULL : fdopendir(copy);

	if (!d) {
		if (copy >= 0)
			close(copy);
		return;
	}
	for (struct dirent *e; (e = readdir(d));)
		if (strncmp(e->d_name, PROBE_PREFIX, sizeof(PROBE_PREFIX) - 1) == 0 &&
		    is_stale(fd, e->d_name))
			remove_probe(fd, e->d_name);
}

int workspace_probe(int fd, struct workspace_abilities *ret, struct error *err)
{
	struct workspace_abilities a = {.granularity_ns = 1};
	char name[64];
	int r;

	workspace_sweep(fd);
	snprintf(name, sizeof(name), PROBE_PREFIX "%d-%lld", (int)gettid(),
		 (long long)workspace_now_ns());
	r = mkdirat(fd, name, 0700) < 0 ? -errno : 0;
	if (r == 0) {
		AUTO_FD dir = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		/* Held while it lasts; see is_stale. */
		r = dir < 0 || flock(dir, LOCK_EX | LOCK_NB) < 0 ? -errno : try_renames(dir, &a);
		remove_probe(fd, name);
	}
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_SANDBOX,
				      "workspace: nothing can land there: %s; give the directory "
				      "to its user, or run with land: never",
				      strerror(-r));
	*ret = a;
	if (a.exchange && a.noreplace)
		return 0;
	return error_set_exit(
		err, -EOPNOTSUPP, EXIT_STATUS_SANDBOX,
		"workspace: its file system cannot exchange two names (renameat2), so landing "
		"could lose an edit; use one on ext4, xfs, btrfs or tmpfs, or land: never");
}
