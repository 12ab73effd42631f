/* New bytes beside their target, whole and synced before they are put in; and the modes of folders.
 */
#include "supervisor/landing_work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/io.h"

enum { COPY_BYTES = 256 * 1024 };

static int open_source(struct landing_work *w, const struct landing_action *a)
{
	AUTO_FREE char *path = NULL;
	AUTO_FD fd = -1;
	struct stat st;

	if (a->from == LANDING_FROM_BLOB)
		return w->source->blob_open(w->source->ctx, &a->after.digest);
	if (asprintf(&path, "%s/u/%.*s", a->layer, (int)a->path.len, (const char *)a->path.data) <
	    0) {
		path = NULL;
		return -ENOMEM;
	}
	fd = io_open_beneath(w->source->layers_fd, path,
			     O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
	if ((fd == -EACCES || fd == -EPERM) && w->source->open_layer)
		fd = w->source->open_layer(w->source->ctx, a->layer, a->path);
	if (fd < 0)
		return fd;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? take_fd(&fd) : -EBADMSG;
}

/* Holes stay holes: what takes no space in the run must not fill the user's disk. *hole and *data:
 * where `at`'s data ends and the next begins, known from an earlier call. Where a file system does
 * not tell, everything is data. */
static bool in_hole(int from, off_t at, off_t *data, off_t *hole)
{
	if (at < *hole)
		return at < *data;
	*data = lseek(from, at, SEEK_DATA);
	if (*data < 0)
		*data = errno == ENXIO ? INT64_MAX : at;
	*hole = *data == INT64_MAX ? INT64_MAX : lseek(from, *data, SEEK_HOLE);
	if (*hole < 0)
		*hole = INT64_MAX;
	return at < *data;
}

/* Bytes that are written at `at` as the source has them: not at all where they are a hole. */
static int put_bytes(int from, int to, const uint8_t *buf, size_t n, off_t at, off_t *data,
		     off_t *hole)
{
	size_t done = 0;

	while (done < n) {
		off_t here = at + (off_t)done;
		bool skip = in_hole(from, here, data, hole);
		off_t end = skip ? *data : *hole;
		size_t part = end - here < (off_t)(n - done) ? (size_t)(end - here) : n - done;
		int r = 0;

		if (!skip)
			r = lseek(to, here, SEEK_SET) < 0 ? -errno
							  : io_write_all(to, buf + done, part);
		if (r < 0)
			return r;
		done += part;
	}
	return 0;
}

/* Copies what was sealed, and nothing else: the bytes are hashed as they are written. */
static int copy_bytes(int from, int to, const struct landing_state *want)
{
	AUTO_FREE uint8_t *buf = malloc(COPY_BYTES);
	struct digest_ctx *hash = digest_ctx_new();
	struct digest d;
	uint64_t size = 0;
	off_t data = 0;
	off_t hole = 0;
	int r = buf && hash ? 0 : -ENOMEM;

	while (r == 0) {
		ssize_t n = pread(from, buf, COPY_BYTES, (off_t)size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : 0;
			break;
		}
		if (size + (uint64_t)n > want->size) {
			size += (uint64_t)n;
			break;
		}
		digest_ctx_update(hash, buf, (size_t)n);
		r = put_bytes(from, to, buf, (size_t)n, (off_t)size, &data, &hole);
		size += (uint64_t)n;
	}
	if (r == 0 && size == want->size && ftruncate(to, (off_t)size) < 0)
		r = -errno;
	if (r == 0) {
		digest_ctx_final(hash, &d);
		if (size != want->size || !digest_equal(&d, &want->digest))
			r = -EBADMSG;
	}
	digest_ctx_free(hash);
	return r;
}

/* By descriptor (O_PATH will do): by name, the folder's owner could have put another file there
 * meanwhile. dir: the folder that it was made in. */
static int own(int dir, int fd, const struct landing_action *a)
{
	gid_t gid = a->after.gid;
	struct stat st;

	if (geteuid() == 0) {
		/* What is new in a folder that hands its group on has that group, whoever lands. */
		if (a->before.type == MANIFEST_ABSENT && fstat(dir, &st) == 0 &&
		    (st.st_mode & S_ISGID))
			gid = (gid_t)-1;
		return fchownat(fd, "", a->after.uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
	}
	/* A shared folder's group is kept where we may: not being in it is no reason to refuse. */
	if (a->before.type != MANIFEST_ABSENT && fstat(fd, &st) == 0 && st.st_gid != a->before.gid)
		(void)!fchownat(fd, "", (uid_t)-1, a->before.gid, AT_EMPTY_PATH);
	return 0;
}

/* The link just made has no descriptor: what is opened by its name must be a link of ours with no
 * other name. */
static int own_link(int dir, const char *name, const struct landing_action *a)
{
	AUTO_FD fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISLNK(st.st_mode) || st.st_nlink != 1 || st.st_uid != geteuid())
		return -EBUSY;
	return own(dir, fd, a);
}

/* The new bytes are not to be had: nothing of the workspace is wrong, and a person who puts them
 * back can land after all. */
static int source_lost(struct landing_work *w, size_t i, int code)
{
	const struct landing_action *a = &w->plan->actions[i];
	const char *what = code == -EBADMSG ? "not what was sealed" : strerror(-code);

	if (code == -ENOMEM || code == -EMFILE || code == -ENFILE)
		return landing_path_fail(w, i, code, "the run's file cannot be opened");
	if (a->from == LANDING_FROM_LAYER)
		return landing_path_refused_as(w, i,
					       "in layer %s: %s; put v1/layers/%s of the state "
					       "directory back before theirs, or answer mine",
					       a->layer, what, a->layer);
	return landing_path_refused_as(w, i,
				       "its kept content: %s; put v1/blobs of the state directory "
				       "back before theirs, or answer mine",
				       what);
}

static int stage_file(struct landing_work *w, size_t i, int dir, const char *part, bool sync)
{
	const struct landing_action *a = &w->plan->actions[i];
	AUTO_FD from = open_source(w, a);
	AUTO_FD to = -1;
	int r;

	if (from < 0)
		return source_lost(w, i, from);
	to = openat(dir, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return landing_path_refused(w, i, -errno, "cannot be written");
	r = copy_bytes(from, to, &a->after);
	if (r == -EBADMSG)
		return source_lost(w, i, r);
	if (r == 0)
		r = own(dir, to, a);
	if (r == 0 && fchmod(to, a->after.mode & 0777) < 0)
		r = -errno;
	if (r == 0 && sync && fsync(to) < 0)
		return landing_path_fail(w, i, -errno, "cannot be synced");
	return r < 0 ? landing_path_refused(w, i, r, "cannot be written") : 0;
}

/* The folder just made, by its name: in between its folder's owner could have put one of somebody
 * else's there, which must not be given to him. Ours is empty, and open to nobody else. */
static int open_made(int dir, const char *part)
{
	AUTO_FD fd = openat(dir, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & 077) || landing_look_entries(fd) != 0)
		return -EBUSY;
	return take_fd(&fd);
}

/* Never more open than it ends: closed to all while it is ours, then its owner's, then its mode. */
static int stage_folder(struct landing_work *w, size_t i, int dir, const char *part)
{
	const struct landing_action *a = &w->plan->actions[i];
	AUTO_FD fd = -1;
	struct stat st;
	int r;

	if (mkdirat(dir, part, 0700) < 0)
		return landing_path_refused(w, i, -errno, "cannot be made");
	r = failpoint_hit("landing.made");
	if (r == 0)
		r = fd = open_made(dir, part);
	if (r >= 0)
		r = own(dir, fd, a);
	if (r == 0 && (fstat(fd, &st) < 0 ||
		       fchmod(fd, (a->after.mode & 01777) | 0700 | (st.st_mode & S_ISGID)) < 0))
		r = -errno;
	return r < 0 ? landing_path_refused(w, i, r, "cannot be made") : 0;
}

static int stage_link(struct landing_work *w, size_t i, int dir, const char *part)
{
	const struct landing_action *a = &w->plan->actions[i];
	AUTO_FREE char *target = bytes_dup_str(a->after.target);
	int r;

	if (!target)
		return error_nomem(w->err);
	r = symlinkat(target, dir, part) < 0 ? -errno : own_link(dir, part, a);
	return r < 0 ? landing_path_refused(w, i, r, "cannot be made") : 0;
}

/* Root may set the mode of any folder: only of one whose owner is known from the plan. */
static bool may_set_mode(int fd, const struct landing_action *a)
{
	struct stat st;

	if (geteuid() != 0)
		return true;
	if (fstat(fd, &st) < 0)
		return false;
	return (a->before.type == MANIFEST_DIR && st.st_uid == a->before.uid) ||
	       (a->after.type == MANIFEST_DIR && st.st_uid == a->after.uid);
}

/* A folder's mode alone. Made usable now, exact at the end. */
int landing_stage_mode(struct landing_work *w, size_t i, int dir, const char *name, uint32_t mode)
{
	AUTO_FD fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool listed = fd >= 0;
	char path[64];
	int r;

	if (!listed) /* one that its owner may not list */
		fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return landing_path_refused(w, i, -errno, "its mode");
	if (!may_set_mode(fd, &w->plan->actions[i]))
		return landing_path_refused(w, i, -EPERM, "its mode: it is another owner's");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = (listed ? fchmod(fd, mode) : chmod(path, mode)) < 0 ? -errno : 0;
	return r < 0 ? landing_path_refused(w, i, r, "its mode") : 0;
}

int landing_stage_unlock(struct landing_work *w, size_t i, bool unlock)
{
	const struct landing_action *a = &w->plan->actions[i];
	uint32_t open_mode = a->before.mode | 0700;
	char name[NAME_MAX + 1];
	struct stat st;
	int dir;

	if (!landing_path_removes_folder(a) || open_mode == a->before.mode ||
	    w->phase[i] == LANDING_DONE || w->phase[i] == LANDING_ALREADY)
		return 0;
	dir = landing_path_folder(w, i);
	if (dir < 0 || landing_path_name(a->path, name) < 0 ||
	    fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) ||
	    ((st.st_mode ^ (unlock ? a->before.mode : open_mode)) & 01777))
		return 0;
	return landing_stage_mode(w, i, dir, name, (unlock ? open_mode : a->before.mode) & 07777);
}

int landing_stage_path(struct landing_work *w, size_t i, bool sync, bool *ret_later)
{
	const struct landing_action *a = &w->plan->actions[i];
	char hidden[LANDING_NAME_SIZE];
	char part[LANDING_NAME_SIZE + 1];
	char name[NAME_MAX + 1];
	int dir = landing_path_folder(w, i);
	int r = landing_path_name(a->path, name);

	*ret_later = false;
	if (r < 0)
		return landing_path_refused(w, i, r, "its name");
	if (dir < 0 && landing_path_made_here(w, landing_path_above(a->path))) {
		*ret_later = true;
		return 0;
	}
	if (dir < 0)
		return landing_path_no_folder(w, i);
	if (a->before.type == MANIFEST_DIR && a->after.type == MANIFEST_DIR) {
		w->phase[i] = LANDING_PUT;
		return landing_stage_mode(w, i, dir, name, a->after.mode | 0700);
	}
	landing_path_hidden(w, i, hidden);
	snprintf(part, sizeof(part), "%sw", hidden);
	if (a->after.type == MANIFEST_FILE)
		r = stage_file(w, i, dir, part, sync);
	else if (a->after.type == MANIFEST_DIR)
		r = stage_folder(w, i, dir, part);
	else
		r = stage_link(w, i, dir, part);
	if (r == 0)
		r = failpoint_hit("landing.part");
	if (r == 0)
		r = landing_path_rename(dir, part, hidden, RENAME_NOREPLACE);
	if (r != 0) {
		(void)!landing_path_remove(dir, part);
		return r < 0 && (!w->err || !w->err->code)
			       ? landing_path_refused(w, i, r, "cannot be written")
			       : r;
	}
	w->phase[i] = LANDING_STAGED;
	if (a->after.type == MANIFEST_DIR && a->before.type == MANIFEST_ABSENT)
		return landing_path_put(w, i); /* what goes into it can be staged then */
	return 0;
}
