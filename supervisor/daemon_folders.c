/*
 * The lock and the folders of a supervisor, in the order in which they are taken: state and runtime
 * folder, the lock, what is its own and no step's, layers and spool, the helpers.
 */
#include "supervisor/daemon_private.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define LOCK_NAME "lock"

static int take_lock(struct daemon *d, struct error *err)
{
	char text[32] = "";
	ssize_t n;

	d->lock_fd = openat(d->paths.state_fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
			    0600);
	if (d->lock_fd < 0)
		return error_set(err, -errno, "cannot open the lock of %s: %s", d->paths.state,
				 strerror(errno));
	if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		n = pread(d->lock_fd, text, sizeof(text) - 1, 0);
		text[n > 0 ? strcspn(text, "\n") : 0] = '\0';
		return error_set_exit(err, -EBUSY, EXIT_STATUS_CONFLICT,
				      "another supervisor serves %s: process %s; use it, stop it, "
				      "or choose another --state",
				      d->paths.state, text[0] ? text : "unknown");
	}
	n = snprintf(text, sizeof(text), "%d\n", getpid());
	if (ftruncate(d->lock_fd, 0) < 0 || pwrite(d->lock_fd, text, (size_t)n, 0) != n)
		return error_set(err, -errno, "cannot write the lock of %s: %s; free some space",
				 d->paths.state, strerror(errno));
	return 0;
}

static int find_own(struct daemon *d, struct error *err)
{
	d->own_from = (struct own_from){.state = d->paths.state,
					.runtime = d->paths.runtime,
					.home = d->options.home,
					.xdg_state = d->options.xdg_state,
					.xdg_config = d->options.xdg_config,
					.settings = d->settings};
	int r = own_note(&d->own_from);

	if (r < 0)
		daemon_log(d,
			   "cannot note %s for your other supervisors: %s; a step of theirs can "
			   "read it where a policy grants what it is in",
			   d->paths.state, strerror(-r));
	return own_find(&d->own_from, &d->own, err);
}

/* Where no layer can lie nothing could ever run; told here, before a journal is made there. */
static int check_layers(const struct daemon *d, struct error *err)
{
	struct statfs s;

	if (fstatfs(d->layers_fd, &s) < 0)
		return error_set(err, -errno, "cannot look at the file system of %s: %s",
				 d->paths.state, strerror(errno));
	if (s.f_type != OVERLAYFS_SUPER_MAGIC && s.f_type != FUSE_SUPER_MAGIC)
		return 0;
	return error_set_exit(err, -EOPNOTSUPP, EXIT_STATUS_SANDBOX,
			      "%s is on %s, where no layer can lie; choose another --state: ext4, "
			      "xfs, btrfs or tmpfs, in a container a volume",
			      d->paths.state, s.f_type == FUSE_SUPER_MAGIC ? "FUSE" : "an overlay");
}

int daemon_folders_open(struct daemon *d, struct error *err)
{
	int r = supervisor_paths_open(d->options.state, d->options.home, d->options.xdg_state,
				      d->options.xdg_runtime, true, &d->paths, err);

	if (r == 0)
		r = take_lock(d, err);
	if (r == 0)
		r = find_own(d, err);
	if (r < 0)
		return r;
	d->v1_fd = openat(d->paths.state_fd, "v1", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (d->v1_fd < 0)
		return error_set(err, -errno, "cannot open %s/v1: %s", d->paths.state,
				 strerror(errno));
	r = layers_open(d->v1_fd, &d->layers_fd, &d->spool_fd, err);
	if (r == 0)
		r = check_layers(d, err);
	if (r < 0)
		return r;
	d->helpers_fd = open(d->options.helpers, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (d->helpers_fd < 0)
		return error_set_exit(
			err, -errno, EXIT_STATUS_SANDBOX,
			"cannot open the helpers' folder %s: %s; install Holdfast again",
			d->options.helpers, strerror(errno));
	return 0;
}
