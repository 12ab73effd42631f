#include "sandbox/layers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/io.h"

static int open_own(int v1_fd, const char *name, mode_t mode, int *ret, struct error *err)
{
	struct stat st;
	AUTO_FD fd = -1;

	if (mkdirat(v1_fd, name, mode) < 0 && errno != EEXIST)
		return error_set(err, -errno, "state directory: cannot make %s: %s", name,
				 strerror(errno));
	fd = io_open_beneath(v1_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return error_set(err, fd, "state directory: cannot open %s: %s", name,
				 strerror(-fd));
	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "state directory: %s: %s", name, strerror(errno));
	if (st.st_uid != geteuid())
		return error_set_exit(err, -EPERM, EXIT_STATUS_SANDBOX,
				      "state directory: %s belongs to uid %u; one state directory "
				      "serves one uid, name another with --state",
				      name, (unsigned)st.st_uid);
	if ((st.st_mode & 07777) != mode && fchmod(fd, mode) < 0)
		return error_set(err, -errno, "state directory: %s: %s", name, strerror(errno));
	*ret = take_fd(&fd);
	return 0;
}

int layers_open(int v1_fd, int *ret_layers, int *ret_spool, struct error *err)
{
	AUTO_FD layers = -1;
	AUTO_FD spool = -1;
	int r = open_own(v1_fd, "layers", 0711, &layers, err);

	if (r < 0)
		return r;
	r = open_own(v1_fd, "spool", 0711, &spool, err);
	if (r < 0)
		return r;
	*ret_layers = take_fd(&layers);
	*ret_spool = take_fd(&spool);
	return 0;
}

static int make_folder(int dir, const char *name, uid_t uid, gid_t gid, mode_t mode)
{
	struct stat st;
	AUTO_FD fd = -1;

	if (mkdirat(dir, name, 0700) < 0)
		return -errno;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if ((st.st_uid != uid || st.st_gid != gid) && fchown(fd, uid, gid) < 0)
		return -errno;
	if (mode != 0700 && fchmod(fd, mode) < 0)
		return -errno;
	return 0;
}

int layers_create(int layers, const char *name, uid_t uid, gid_t gid, mode_t mode,
		  struct error *err)
{
	AUTO_FD fd = -1;
	int r = layers_check_name(name);

	if (r < 0)
		return error_set(err, r, "layer: its name is not 1 to 7 of a-z, 0-9");
	if (mkdirat(layers, name, 0700) < 0)
		return error_set(err, -errno, "layer %s: cannot make its folder: %s", name,
				 strerror(errno));
	fd = openat(layers, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = fd < 0 ? -errno : make_folder(fd, LAYERS_UPPER, uid, gid, mode & 07777);
	if (r == 0)
		r = make_folder(fd, LAYERS_WORK, uid, gid, 0700);
	if (r == 0 && (geteuid() != uid || getegid() != gid) && fchown(fd, uid, gid) < 0)
		r = -errno;
	if (r == 0)
		return 0;
	if (fd >= 0) {
		(void)unlinkat(fd, LAYERS_WORK, AT_REMOVEDIR);
		(void)unlinkat(fd, LAYERS_UPPER, AT_REMOVEDIR);
	}
	(void)unlinkat(layers, name, AT_REMOVEDIR);
	return error_set(err, r, "layer %s: cannot make its folders for uid %u: %s", name,
			 (unsigned)uid, strerror(-r));
}

/* No deeper than an overlay's own work folder: u, w/work/incompat/volatile. */
static void remove_tree(int dir, const char *name, int depth)
{
	AUTO_FD fd = -1;
	struct dirent *d;

	if (unlinkat(dir, name, 0) == 0 || depth == 0)
		return;
	/* overlay leaves a folder of mode 0 */
	(void)!fchmodat(dir, name, 0700, 0);
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_DIR list = fd < 0 ? NULL : fdopendir(fd);
	if (list) {
		int here = take_fd(&fd);
		while ((d = readdir(list)))
			if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
				remove_tree(here, d->d_name, depth - 1);
	}
	(void)unlinkat(dir, name, AT_REMOVEDIR);
}

void layers_ahead_drop(int ahead, const char *name)
{
	remove_tree(ahead, name, 5);
}

void layers_ahead_sweep(int layers)
{
	AUTO_FD fd = openat(layers, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (!dir)
		return;
	take_fd(&fd);
	while ((d = readdir(dir))) {
		if (d->d_name[0] != '+')
			continue;
		AUTO_FD ahead =
			openat(layers, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (ahead >= 0 && flock(ahead, LOCK_EX | LOCK_NB) == 0)
			remove_tree(layers, d->d_name, 6);
	}
}

int layers_ahead_open(int layers, uid_t uid, gid_t gid, char ret_name[LAYERS_AHEAD_SIZE],
		      struct error *err)
{
	AUTO_FD fd = -1;
	char name[LAYERS_AHEAD_SIZE];
	uint32_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return error_set(err, -EIO, "layers: no random number");
	snprintf(name, sizeof(name), "+%08x", number);
	if (mkdirat(layers, name, 0700) < 0)
		return error_set(err, -errno, "layers: %s: %s", name, strerror(errno));
	fd = openat(layers, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 ||
	    ((geteuid() != uid || getegid() != gid) && fchown(fd, uid, gid) < 0)) {
		int r = -errno;
		(void)unlinkat(layers, name, AT_REMOVEDIR);
		return error_set(err, r, "layers: %s: %s", name, strerror(-r));
	}
	memcpy(ret_name, name, sizeof(name));
	return take_fd(&fd);
}

int layers_ahead_take(int ahead, const char *name, int layers, const char *layer)
{
	int r = layers_check_name(layer);

	if (r < 0)
		return r;
	return renameat2(ahead, name, layers, layer, RENAME_NOREPLACE) < 0 ? -errno : 0;
}

int layers_drop(int layers, const char *name, struct error *err)
{
	int r = layers_check_name(name);

	if (r < 0)
		return error_set(err, r, "layer: its name is not 1 to 7 of a-z, 0-9");
	if (unlinkat(layers, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_set(err, -errno, "layer %s: cannot remove its folder: %s", name,
				 strerror(errno));
	return 0;
}

int layers_each(int layers, int (*fn)(void *arg, const char *name, bool sealed), void *arg,
		struct error *err)
{
	AUTO_FD fd = openat(layers, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (!dir)
		return error_set(err, -errno, "layers: cannot list them: %s", strerror(errno));
	take_fd(&fd);
	while (errno = 0, (d = readdir(dir))) {
		char path[LAYERS_NAME_SIZE + sizeof("/" LAYERS_MANIFEST)];
		int r;

		if (layers_check_name(d->d_name) < 0)
			continue;
		snprintf(path, sizeof(path), "%.7s/" LAYERS_MANIFEST, d->d_name);
		r = fn(arg, d->d_name, faccessat(layers, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
		if (r != 0)
			return r;
	}
	if (errno)
		return error_set(err, -errno, "layers: cannot list them: %s", strerror(errno));
	return 0;
}
