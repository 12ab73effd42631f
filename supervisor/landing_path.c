/*
 * One path of a landing: found, staged, put in, taken back. Longer than most files here, since what each step leaves is what the
 * others must recognise after a crash; the states are in landing_work.h.
 */
#include "supervisor/landing_work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/escape.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "supervisor/landing_arena.h"

enum { COPY_BYTES = 256 * 1024 };

/* ---- names and folders ---- */

static struct bytes above_of(struct bytes path)
{
	const char *slash = memrchr(path.data, '/', path.len);

	return bytes_of(path.data, slash ? (size_t)(slash - (const char *)path.data) : 0);
}

/* The last component, NUL-terminated; names are at most NAME_MAX, or no file system would have them. */
static int name_of(struct bytes path, char ret[NAME_MAX + 1])
{
	struct bytes above = above_of(path);
	size_t skip = above.len ? above.len + 1 : 0;

	if (path.len - skip > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(ret, (const char *)path.data + skip, path.len - skip);
	ret[path.len - skip] = '\0';
	return 0;
}

static void hidden_name(const struct landing_work *w, size_t i, char ret[LANDING_NAME_SIZE])
{
	snprintf(ret, LANDING_NAME_SIZE, LANDING_HIDDEN_PREFIX "%s-%zx", w->id, i);
}

static ssize_t find_action(const struct landing_plan *p, struct bytes path)
{
	size_t lo = 0;
	size_t hi = p->action_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = bytes_compare(p->actions[mid].path, path);

		if (c == 0)
			return (ssize_t)mid;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return -1;
}

static bool removes_folder(const struct landing_action *a)
{
	return a->before.type == MANIFEST_DIR && a->after.type != MANIFEST_DIR;
}

static int open_by_path(const struct landing_work *w, struct bytes path)
{
	AUTO_FREE char *name = bytes_dup_str(path.len ? path : bytes_str("."));

	if (!name)
		return -ENOMEM;
	return io_open_beneath(w->ws, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
}

static int open_folder(const struct landing_work *w, struct bytes path)
{
	char hidden[LANDING_NAME_SIZE];
	int fd = open_by_path(w, path);
	ssize_t i;

	if (fd != -ENOENT && fd != -ENOTDIR && fd != -ELOOP)
		return fd;
	/* A folder that this landing removes lies under its hidden name until the end. */
	i = find_action(w->plan, path);
	if (i < 0 || !removes_folder(&w->plan->actions[i]))
		return fd;
	AUTO_FD above = open_folder(w, above_of(path));
	int hid;

	if (above < 0)
		return fd;
	hidden_name(w, (size_t)i, hidden);
	hid = openat(above, hidden, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return hid < 0 ? fd : hid;
}

/* The folder that action i's name is in; borrowed. Held open, so that one that is moved away meanwhile is still found. */
static int folder_of(struct landing_work *w, size_t i)
{
	struct bytes path = above_of(w->plan->actions[i].path);
	struct landing_dir *old = &w->dirs[0];
	int fd;

	for (size_t k = 0; k < LANDING_DIRS_MAX; k++) {
		struct landing_dir *d = &w->dirs[k];

		if (d->fd >= 0 && bytes_equal(d->path, path)) {
			d->used = ++w->clock;
			return d->fd;
		}
		if (d->fd < 0 ? old->fd >= 0 : old->fd >= 0 && d->used < old->used)
			old = d;
	}
	fd = open_folder(w, path);
	if (fd < 0)
		return fd;
	close_fd(&old->fd);
	*old = (struct landing_dir){.path = path, .fd = fd, .used = ++w->clock};
	return fd;
}

static bool same_inode(int a, int b)
{
	struct stat x;
	struct stat y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Whether the folder that the name went into is still the one at its path. */
static bool folder_stands(const struct landing_work *w, size_t i, int dir)
{
	AUTO_FD now = open_by_path(w, above_of(w->plan->actions[i].path));

	return now >= 0 && same_inode(now, dir);
}

void landing_path_close(struct landing_work *w)
{
	for (size_t k = 0; k < LANDING_DIRS_MAX; k++)
		close_fd(&w->dirs[k].fd);
}

/* ---- what is told ---- */

int landing_path_conflict(struct landing_work *w, size_t i, enum landing_conflict_why why,
			  const struct landing_state *now, const char *fmt, ...)
{
	const struct landing_action *a = &w->plan->actions[i];
	struct landing_conflict c = {.path = a->path, .why = why, .want = a->after, .kept = w->kept};
	AUTO_BUFFER shown = {0};
	char text[LANDING_WHY_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (now)
		c.now = *now;
	c.now.mtime_ns = 0;
	c.now.entries = 0;
	c.want.ctime_ns = 0;
	c.want.ino = 0;
	escape_append(&shown, bytes_str(text), ESCAPE_LINE | ESCAPE_KEEP_BACKSLASH);
	w->kept = (struct digest){0};
	for (size_t k = 0; k < w->met->conflict_count; k++) {
		struct landing_conflict *met = &w->met->conflicts[k];

		if (!bytes_equal(met->path, c.path))
			continue;
		if (digest_is_zero(&met->kept) && !digest_is_zero(&c.kept)) {
			met->kept = c.kept;
			if (landing_arena_keep(w->met->arena, buffer_bytes(&shown), &met->text) < 0)
				return error_nomem(w->err);
		}
		return LANDING_CONFLICT;
	}
	if (w->met->conflict_count >= LANDING_CONFLICTS_MAX)
		return LANDING_CONFLICT;
	if (shown.failed < 0 || landing_arena_keep(w->met->arena, c.path, &c.path) < 0 ||
	    landing_arena_keep_state(w->met->arena, &c.now) < 0 ||
	    landing_arena_keep_state(w->met->arena, &c.want) < 0 ||
	    landing_arena_keep(w->met->arena, buffer_bytes(&shown), &c.text) < 0 ||
	    landing_arena_grow((void **)&w->met->conflicts, w->met->conflict_count, sizeof(c)) < 0)
		return error_nomem(w->err);
	w->met->conflicts[w->met->conflict_count++] = c;
	return LANDING_CONFLICT;
}

static int fail(struct landing_work *w, size_t i, int code, const char *what)
{
	AUTO_FREE char *shown = escape_dup(w->plan->actions[i].path, ESCAPE_LINE);

	error_set(w->err, code, "landing: %s: %s", what, strerror(-code));
	error_where(w->err, "%s", shown ? shown : "");
	return code;
}

/* A refusal of the system that a person can do something about is a conflict of that path; the rest is an error. */
static int refused(struct landing_work *w, size_t i, int code, const char *what)
{
	switch (code) {
	case -EACCES: case -EPERM: case -EROFS: case -ENOSPC: case -EDQUOT: case -ENAMETOOLONG: case -EBUSY:
	case -ETXTBSY: case -ENOENT: case -ENOTDIR: case -EISDIR: case -EEXIST: case -ELOOP: case -EXDEV: case -EFBIG:
	case -EMLINK: case -ESTALE:
		return landing_path_conflict(w, i, LANDING_CONFLICT_REFUSED, NULL, "%s: %s", what, strerror(-code));
	case -EINVAL: case -EOPNOTSUPP: case -ENOSYS:
		return error_set_exit(w->err, -EOPNOTSUPP, EXIT_STATUS_SANDBOX,
				      "landing: this file system cannot exchange two names (renameat2): %s; move the workspace to ext4, xfs, btrfs or tmpfs, or take the changes from `holdfast diff`", what);
	default:
		return fail(w, i, code, what);
	}
}

static int rename_at(int dir, const char *from, const char *to, unsigned flags)
{
	return renameat2(dir, from, dir, to, flags) < 0 ? -errno : 0;
}

/* ---- keeping what is displaced ---- */

/* A file whose own mode hides it from its owner: all but its bytes can be compared. */
static bool same_but_unread(const struct landing_state *want, const struct landing_state *now)
{
	return now->type == MANIFEST_FILE && want->type == MANIFEST_FILE && !now->has_digest &&
	       !(now->mode & 0400) && now->mode == want->mode && now->size == want->size;
}

/* A folder that is to go is made writable first, so that its names can be taken out; one that an earlier call worked in may
 * still be so. */
static bool is_before(const struct landing_work *w, const struct landing_action *a, const struct landing_state *now)
{
	if (same_but_unread(&a->before, now) || landing_state_same(now, &a->before))
		return true;
	return (removes_folder(a) || w->again || w->best_effort) && a->before.type == MANIFEST_DIR &&
	       now->type == MANIFEST_DIR && ((now->mode ^ (a->before.mode | 0700)) & 01777) == 0;
}

static bool is_after(const struct landing_action *a, const struct landing_state *now)
{
	if (same_but_unread(&a->after, now))
		return true;
	if (a->after.type == MANIFEST_DIR && now->type == MANIFEST_DIR)
		return ((now->mode ^ a->after.mode) & 01777) == 0 ||
		       ((now->mode ^ (a->after.mode | 0700)) & 01777) == 0; /* not yet finished */
	return landing_state_same(now, &a->after);
}

/* Reads the displaced thing HIDDEN and keeps its bytes. 0: it is what is expected (the action's before or after), and a
 * blob. 1: it is not, *ret_now says what it is. 2: somebody has it open for writing. 3: it may not be read. */
static int keep_displaced(struct landing_work *w, size_t i, int dir, const char *hidden,
			  const struct landing_state *expect, struct landing_state *ret_now)
{
	AUTO_FREE char *target = NULL;
	AUTO_FD fd = -1;
	struct landing_state now;
	struct digest d;
	int r = landing_look_at(dir, hidden, false, true, &now, &target);

	if (r < 0)
		return fail(w, i, r, "the displaced file cannot be looked at");
	if (now.type == MANIFEST_FILE) {
		fd = landing_look_open(dir, hidden);
		if (fd == -EACCES || fd == -EPERM) {
			*ret_now = now;
			return 3;
		}
		if (fd < 0)
			return fail(w, i, fd, "the displaced file cannot be opened");
		if (!landing_look_unwritten(fd, LANDING_WRITER_WAIT_MS)) {
			*ret_now = now;
			ret_now->target = bytes_of("", 0);
			return 2;
		}
		r = w->source->blob_put(w->source->ctx, fd, LANDING_PREIMAGE_MAX, &d);
		if (r < 0)
			return fail(w, i, r, "the displaced file cannot be kept for undo");
		/* Written while it was read, through a name or a descriptor that no lease tells of? */
		r = landing_look_at(dir, hidden, true, false, &now, NULL);
		if (r < 0)
			return fail(w, i, r, "the displaced file cannot be looked at");
		now.has_digest = now.has_digest && digest_equal(&now.digest, &d);
	}
	const struct landing_action *a = &w->plan->actions[i];

	*ret_now = now;
	if (now.type == MANIFEST_DIR && now.entries > 0)
		r = 1;
	else
		r = !(expect == &a->after ? is_after(a, &now) : is_before(w, a, &now));
	ret_now->target = bytes_of("", 0);
	if (now.type == MANIFEST_SYMLINK && landing_arena_keep(w->met->arena, now.target, &ret_now->target) < 0)
		return error_nomem(w->err);
	return r;
}

/* What a positive keep_displaced() means to a person. */
static enum landing_conflict_why why_kept_not(const struct landing_action *a, int kept, const struct landing_state *now)
{
	if (kept == 2)
		return LANDING_CONFLICT_BUSY;
	if (kept == 3)
		return LANDING_CONFLICT_REFUSED;
	return a->before.type == MANIFEST_DIR && now->type == MANIFEST_DIR ? LANDING_CONFLICT_NOT_EMPTY :
									     LANDING_CONFLICT_EDITED;
}

int landing_path_sync_blobs(struct landing_work *w)
{
	int r = w->source->blob_sync ? w->source->blob_sync(w->source->ctx) : 0;

	return r < 0 ? error_set(w->err, r, "landing: the displaced files cannot be kept for undo: %s", strerror(-r)) : 0;
}

/* Bytes that have no place left in the tree become a blob, and the conflict says which. */
static int keep_aside(struct landing_work *w, size_t i, int dir, const char *hidden, char ret[DIGEST_HEX_SIZE])
{
	AUTO_FD fd = landing_look_open(dir, hidden);
	struct digest d;
	int r;

	ret[0] = '\0';
	if (fd < 0)
		return 0; /* a link or a folder: its state is in the conflict */
	r = w->source->blob_put(w->source->ctx, fd, LANDING_PREIMAGE_MAX, &d);
	if (r < 0)
		return fail(w, i, r, "a displaced file cannot be kept");
	r = landing_path_sync_blobs(w);
	if (r < 0)
		return r;
	w->kept = d;
	digest_hex(&d, ret);
	return 0;
}

static int remove_tree(int dir, const char *name)
{
	AUTO_DIR d = NULL;
	int fd;

	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	for (struct dirent *e; (e = readdir(d));) {
		/* Only what is ours; anything else in it makes rmdir refuse, and is not lost. */
		if (strncmp(e->d_name, LANDING_HIDDEN_PREFIX, sizeof(LANDING_HIDDEN_PREFIX) - 1) == 0) {
			int r = remove_tree(dirfd(d), e->d_name);

			if (r < 0)
				return r;
		}
	}
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* ---- settling ---- */

static bool made_by_plan(const struct landing_work *w, struct bytes folder)
{
	ssize_t i = find_action(w->plan, folder);

	return i >= 0 && w->plan->actions[i].after.type == MANIFEST_DIR &&
	       w->plan->actions[i].before.type != MANIFEST_DIR;
}

static bool is_untouched(const struct landing_state *before, const struct landing_state *now)
{
	return before->ino != 0 && before->type == now->type && before->ino == now->ino &&
	       before->ctime_ns == now->ctime_ns && before->mode == now->mode && before->size == now->size;
}

static int look_name(struct landing_work *w, int dir, const char *name, const struct landing_state *before,
		     struct landing_state *now, char **target)
{
	int r = landing_look_at(dir, name, false, false, now, target);

	if (r == 0 && now->type == MANIFEST_FILE && is_untouched(before, now)) {
		now->has_digest = before->has_digest;
		now->digest = before->digest;
		return 0;
	}
	if (r == 0 && now->type == MANIFEST_FILE)
		r = landing_look_at(dir, name, true, false, now, target);
	if (r < 0)
		return error_set(w->err, r, "landing: the workspace cannot be looked at: %s", strerror(-r));
	return 0;
}

/* HIDDEN is there: a crash came between two steps of this path. */
static int settle_hidden(struct landing_work *w, size_t i, int dir, const char *hidden,
			 const struct landing_state *there)
{
	const struct landing_action *a = &w->plan->actions[i];
	AUTO_FREE char *target = NULL;
	char kept[DIGEST_HEX_SIZE];
	struct landing_state aside;
	int r;

	r = landing_look_at(dir, hidden, true, true, &aside, &target);
	if (r < 0)
		return fail(w, i, r, "a hidden file of this landing cannot be looked at");
	if (a->after.type != MANIFEST_ABSENT && is_after(a, &aside) &&
	    !(removes_folder(a) && aside.type == MANIFEST_DIR)) {
		r = remove_tree(dir, hidden);
		if (r < 0)
			return fail(w, i, r, "a hidden file of this landing cannot be removed");
		w->phase[i] = is_after(a, there) ? LANDING_ALREADY : LANDING_FRESH;
		if (w->phase[i] == LANDING_ALREADY || is_before(w, a, there))
			return 0;
		return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, there, "%s", "");
	}
	if (is_after(a, there)) {
		w->phase[i] = LANDING_PUT;
		r = keep_displaced(w, i, dir, hidden, &a->before, &aside);
		if (r <= 0)
			return r;
		return landing_path_conflict(w, i, why_kept_not(a, r, &aside), &aside, "%s", "");
	}
	/* Put in, and then edited by somebody: theirs stays, what was displaced is kept. */
	r = keep_aside(w, i, dir, hidden, kept);
	if (r < 0)
		return r;
	r = remove_tree(dir, hidden);
	if (r < 0)
		return fail(w, i, r, "a hidden file of this landing cannot be removed");
	w->phase[i] = LANDING_LEFT;
	return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, there,
				     "edited after it landed, and left so; from before: blob %s", kept);
}

int landing_path_settle(struct landing_work *w, size_t i)
{
	const struct landing_action *a = &w->plan->actions[i];
	AUTO_FREE char *target = NULL;
	struct landing_state now = {.target = bytes_of("", 0)};
	char hidden[LANDING_NAME_SIZE];
	char part[LANDING_NAME_SIZE + 1];
	char name[NAME_MAX + 1];
	struct stat st;
	int dir = folder_of(w, i);
	int r = name_of(a->path, name);

	w->phase[i] = LANDING_FRESH;
	if (r < 0)
		return refused(w, i, r, "its name");
	if (dir == -ENOENT || dir == -ENOTDIR || dir == -ELOOP) {
		w->lost = w->lost || !made_by_plan(w, above_of(a->path));
		if (a->after.type == MANIFEST_ABSENT) {
			w->phase[i] = w->again ? LANDING_DONE : LANDING_ALREADY;
			return 0;
		}
		if (a->before.type == MANIFEST_ABSENT && made_by_plan(w, above_of(a->path)))
			return 0;
		return landing_path_conflict(w, i, LANDING_CONFLICT_FOLDER, &now, "%s", "");
	}
	if (dir < 0)
		return refused(w, i, dir, "its folder");
	r = look_name(w, dir, name, &a->before, &now, &target);
	if (r < 0)
		return r;
	hidden_name(w, i, hidden);
	snprintf(part, sizeof(part), "%sw", hidden);
	if (unlinkat(dir, part, 0) < 0 && errno != ENOENT)
		return refused(w, i, -errno, "a hidden file of this landing");
	if (fstatat(dir, hidden, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return settle_hidden(w, i, dir, hidden, &now);
	if (is_before(w, a, &now))
		return 0;
	if (is_after(a, &now)) {
		/* What displaced nothing leaves no hidden name, and can be taken out as if it had just been put in. */
		w->phase[i] = !w->again ? LANDING_ALREADY : a->before.type == MANIFEST_ABSENT ? LANDING_PUT : LANDING_DONE;
		return 0;
	}
	return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, &now, "%s", "");
}

/* ---- staging ---- */

static int open_source(struct landing_work *w, const struct landing_action *a)
{
	AUTO_FREE char *path = NULL;
	AUTO_FD fd = -1;
	struct stat st;

	if (a->from == LANDING_FROM_BLOB)
		return w->source->blob_open(w->source->ctx, &a->after.digest);
	if (asprintf(&path, "%s/u/%.*s", a->layer, (int)a->path.len, (const char *)a->path.data) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	fd = io_open_beneath(w->source->layers_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
	if ((fd == -EACCES || fd == -EPERM) && w->source->open_layer)
		fd = w->source->open_layer(w->source->ctx, a->layer, a->path);
	if (fd < 0)
		return fd;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? take_fd(&fd) : -EBADMSG;
}

/* Copies what was sealed, and nothing else: the bytes are hashed as they are written. */
static int copy_bytes(int from, int to, const struct landing_state *want)
{
	AUTO_FREE uint8_t *buf = malloc(COPY_BYTES);
	struct digest_ctx *hash = digest_ctx_new();
	struct digest d;
	uint64_t size = 0;
	int r = buf && hash ? 0 : -ENOMEM;

	while (r == 0) {
		ssize_t n = pread(from, buf, COPY_BYTES, (off_t)size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : 0;
			break;
		}
		size += (uint64_t)n;
		if (size > want->size)
			break;
		digest_ctx_update(hash, buf, (size_t)n);
		r = io_write_all(to, buf, (size_t)n);
	}
	if (r == 0) {
		digest_ctx_final(hash, &d);
		if (size != want->size || !digest_equal(&d, &want->digest))
			r = -EBADMSG;
	}
	digest_ctx_free(hash);
	return r;
}

static int own(int dir, const char *name, const struct landing_action *a)
{
	struct stat st;

	if (geteuid() == 0)
		return fchownat(dir, name, a->after.uid, a->after.gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	/* A shared folder's group is kept where we may: not being in it is no reason to refuse. */
	if (a->before.type != MANIFEST_ABSENT && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_gid != a->before.gid)
		(void)!fchownat(dir, name, (uid_t)-1, a->before.gid, AT_SYMLINK_NOFOLLOW);
	return 0;
}

static int stage_file(struct landing_work *w, size_t i, int dir, const char *part, bool sync)
{
	const struct landing_action *a = &w->plan->actions[i];
	AUTO_FD from = open_source(w, a);
	AUTO_FD to = -1;
	int r;

	if (from < 0)
		return from == -EACCES || from == -EPERM ?
			       refused(w, i, from, "the run's file cannot be read") :
			       fail(w, i, from, "the run's file cannot be opened");
	to = openat(dir, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return refused(w, i, -errno, "cannot be written");
	r = copy_bytes(from, to, &a->after);
	if (r == -EBADMSG)
		return fail(w, i, r, "the run's file is not what was sealed");
	if (r == 0)
		r = own(dir, part, a);
	if (r == 0 && fchmod(to, a->after.mode & 0777) < 0)
		r = -errno;
	if (r == 0 && sync && fsync(to) < 0)
		return fail(w, i, -errno, "cannot be synced");
	return r < 0 ? refused(w, i, r, "cannot be written") : 0;
}

static int stage_folder(struct landing_work *w, size_t i, int dir, const char *part)
{
	const struct landing_action *a = &w->plan->actions[i];
	AUTO_FD fd = -1;
	struct stat st;
	int r;

	if (mkdirat(dir, part, 0700) < 0)
		return refused(w, i, -errno, "cannot be made");
	r = own(dir, part, a);
	fd = openat(dir, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r == 0 && (fd < 0 || fstat(fd, &st) < 0 ||
		       fchmod(fd, (a->after.mode & 01777) | 0700 | (st.st_mode & S_ISGID)) < 0))
		r = -errno;
	return r < 0 ? refused(w, i, r, "cannot be made") : 0;
}

static int stage_link(struct landing_work *w, size_t i, int dir, const char *part)
{
	const struct landing_action *a = &w->plan->actions[i];
	AUTO_FREE char *target = bytes_dup_str(a->after.target);
	int r;

	if (!target)
		return error_nomem(w->err);
	r = symlinkat(target, dir, part) < 0 ? -errno : own(dir, part, a);
	return r < 0 ? refused(w, i, r, "cannot be made") : 0;
}

/* A folder's mode alone. Made usable now, exact at the end. */
static int set_mode(struct landing_work *w, size_t i, int dir, const char *name, uint32_t mode)
{
	AUTO_FD fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char path[64];
	int r;

	if (fd >= 0)
		return fchmod(fd, mode) < 0 ? refused(w, i, -errno, "its mode") : 0;
	fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return refused(w, i, -errno, "its mode");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd); /* one that its owner may not list */
	r = chmod(path, mode) < 0 ? -errno : 0;
	return r < 0 ? refused(w, i, r, "its mode") : 0;
}

int landing_path_unlock(struct landing_work *w, size_t i, bool unlock)
{
	const struct landing_action *a = &w->plan->actions[i];
	uint32_t open_mode = a->before.mode | 0700;
	char name[NAME_MAX + 1];
	struct stat st;
	int dir;

	if (!removes_folder(a) || open_mode == a->before.mode || w->phase[i] == LANDING_DONE ||
	    w->phase[i] == LANDING_ALREADY)
		return 0;
	dir = folder_of(w, i);
	if (dir < 0 || name_of(a->path, name) < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISDIR(st.st_mode) || ((st.st_mode ^ (unlock ? a->before.mode : open_mode)) & 01777))
		return 0;
	return set_mode(w, i, dir, name, (unlock ? open_mode : a->before.mode) & 07777);
}

int landing_path_stage(struct landing_work *w, size_t i, bool sync, bool *ret_later)
{
	const struct landing_action *a = &w->plan->actions[i];
	char hidden[LANDING_NAME_SIZE];
	char part[LANDING_NAME_SIZE + 1];
	char name[NAME_MAX + 1];
	int dir = folder_of(w, i);
	int r = name_of(a->path, name);

	*ret_later = false;
	if (r < 0)
		return refused(w, i, r, "its name");
	if (dir < 0 && made_by_plan(w, above_of(a->path))) {
		*ret_later = true;
		return 0;
	}
	if (dir < 0)
		return landing_path_conflict(w, i, LANDING_CONFLICT_FOLDER, NULL, "%s", "");
	if (a->before.type == MANIFEST_DIR && a->after.type == MANIFEST_DIR) {
		w->phase[i] = LANDING_PUT;
		return set_mode(w, i, dir, name, a->after.mode | 0700);
	}
	hidden_name(w, i, hidden);
	snprintf(part, sizeof(part), "%sw", hidden);
	if (a->after.type == MANIFEST_FILE)
		r = stage_file(w, i, dir, part, sync);
	else if (a->after.type == MANIFEST_DIR)
		r = stage_folder(w, i, dir, part);
	else
		r = stage_link(w, i, dir, part);
	if (r == 0)
		r = rename_at(dir, part, hidden, RENAME_NOREPLACE);
	if (r != 0) {
		(void)remove_tree(dir, part);
		return r < 0 && (!w->err || !w->err->code) ? refused(w, i, r, "cannot be written") : r;
	}
	w->phase[i] = LANDING_STAGED;
	if (a->after.type == MANIFEST_DIR && a->before.type == MANIFEST_ABSENT)
		return landing_path_put(w, i); /* what goes into it can be staged then */
	return 0;
}

/* ---- putting in ---- */

/* Takes one exchange or rename back, after what it displaced turned out to be something else. */
static int take_back(struct landing_work *w, size_t i, int dir, const char *name, const char *hidden)
{
	const struct landing_action *a = &w->plan->actions[i];
	unsigned flags = a->after.type == MANIFEST_ABSENT ? RENAME_NOREPLACE : RENAME_EXCHANGE;
	const char *from = hidden;
	struct landing_state put;
	char kept[DIGEST_HEX_SIZE];
	int r = rename_at(dir, from, name, flags);

	if (r == -EEXIST || r == -ENOENT) {
		/* Somebody made or removed the name meanwhile: that stays, and the version before it becomes a blob. */
		r = keep_aside(w, i, dir, hidden, kept);
		if (r < 0)
			return r;
		w->phase[i] = LANDING_LEFT;
		r = remove_tree(dir, hidden);
		if (r < 0)
			return fail(w, i, r, "a hidden file of this landing cannot be removed");
		return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, NULL,
					     "changed twice while it was landing; the first version: blob %s", kept);
	}
	if (r < 0)
		return fail(w, i, r, "could not be taken back");
	w->phase[i] = LANDING_BACK;
	if (flags == RENAME_NOREPLACE)
		return 0;
	/* What we had put there may have been edited in that instant: those bytes are kept too. */
	r = keep_displaced(w, i, dir, hidden, &a->after, &put);
	if (r < 0)
		return r;
	if (r > 0 && put.type == MANIFEST_FILE) {
		r = keep_aside(w, i, dir, hidden, kept);
		if (r < 0)
			return r;
		r = landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, NULL,
					  "two versions of it came up while it was landing; the other: blob %s", kept);
		if (r < 0)
			return r;
	}
	r = remove_tree(dir, hidden);
	return r < 0 ? fail(w, i, r, "a hidden file of this landing cannot be removed") : 0;
}

static int check_displaced(struct landing_work *w, size_t i, int dir, const char *name, const char *hidden)
{
	const struct landing_action *a = &w->plan->actions[i];
	struct landing_state now;
	unsigned why = 0;
	int r = failpoint_hit("landing.before_keep");

	if (r < 0)
		return fail(w, i, r, "the displaced file cannot be kept for undo");
	r = keep_displaced(w, i, dir, hidden, &a->before, &now);
	if (r < 0)
		return r;
	if (r == 0 && failpoint_hit("landing.after_keep") < 0)
		return fail(w, i, -EIO, "the displaced file cannot be kept for undo");
	if (r > 0)
		why = why_kept_not(a, r, &now);
	if (why == 0 && !folder_stands(w, i, dir)) {
		w->lost = true;
		why = LANDING_CONFLICT_FOLDER;
	}
	if (why == 0)
		return 0;
	r = landing_path_conflict(w, i, (enum landing_conflict_why)why, &now, "%s", "");
	if (r < 0)
		return r;
	r = take_back(w, i, dir, name, hidden);
	return r < 0 ? r : LANDING_CONFLICT;
}

static bool holds_others(int dir, const char *name)
{
	AUTO_FD fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 || landing_look_entries(fd) != 0;
}

int landing_path_put(struct landing_work *w, size_t i)
{
	const struct landing_action *a = &w->plan->actions[i];
	bool new = a->before.type == MANIFEST_ABSENT;
	char hidden[LANDING_NAME_SIZE];
	char name[NAME_MAX + 1];
	struct landing_state now;
	int dir = folder_of(w, i);
	int r = name_of(a->path, name);

	if (r == 0)
		r = dir < 0 ? dir : failpoint_hit("landing.before_exchange");
	if (r < 0)
		return refused(w, i, r, "cannot be put in place");
	hidden_name(w, i, hidden);
	/* Looked at before, so that a folder in use is not even for an instant taken from where it is. */
	if (removes_folder(a) && holds_others(dir, name))
		r = -ENOTEMPTY;
	else if (a->after.type == MANIFEST_ABSENT)
		r = rename_at(dir, name, hidden, RENAME_NOREPLACE);
	else
		r = rename_at(dir, hidden, name, new ? RENAME_NOREPLACE : RENAME_EXCHANGE);
	if (r == -ENOTEMPTY || r == -EEXIST || r == -ENOENT) {
		if (landing_look_at(dir, name, true, false, &now, NULL) < 0)
			now = (struct landing_state){0};
		now.target = bytes_of("", 0);
		return landing_path_conflict(w, i, r == -ENOTEMPTY ? LANDING_CONFLICT_NOT_EMPTY : LANDING_CONFLICT_EDITED,
					     now.type == MANIFEST_SYMLINK ? NULL : &now, "%s", "");
	}
	if (r < 0)
		return refused(w, i, r, "cannot be put in place");
	w->phase[i] = LANDING_PUT;
	r = failpoint_hit("landing.after_exchange");
	if (r < 0)
		return fail(w, i, r, "cannot be put in place");
	if (!new)
		return check_displaced(w, i, dir, name, hidden);
	if (folder_stands(w, i, dir))
		return 0;
	w->lost = true;
	return landing_path_conflict(w, i, LANDING_CONFLICT_FOLDER, NULL, "%s", "");
}

int landing_path_finish(struct landing_work *w, size_t i)
{
	const struct landing_action *a = &w->plan->actions[i];
	char name[NAME_MAX + 1];
	struct stat st;
	int dir;
	int r;

	if (a->after.type != MANIFEST_DIR || (w->phase[i] != LANDING_PUT && w->phase[i] != LANDING_DONE))
		return 0;
	dir = folder_of(w, i);
	r = name_of(a->path, name);
	if (r < 0 || dir < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
		return 0; /* removed or moved since: that is after the landing */
	if (((st.st_mode ^ a->after.mode) & 01777) == 0)
		return 0;
	return set_mode(w, i, dir, name, (a->after.mode & 01777) | (st.st_mode & 06000));
}

int landing_path_clean(struct landing_work *w, size_t i)
{
	const struct landing_action *a = &w->plan->actions[i];
	char hidden[LANDING_NAME_SIZE];
	char name[NAME_MAX + 1];
	int dir;
	int r;

	if (w->phase[i] != LANDING_PUT || a->before.type == MANIFEST_ABSENT)
		return 0;
	dir = folder_of(w, i);
	r = name_of(a->path, name);
	if (r < 0 || dir < 0) {
		w->lost = true;
		return 0;
	}
	hidden_name(w, i, hidden);
	r = remove_tree(dir, hidden);
	if (r == -ENOTEMPTY || r == -EEXIST) {
		/* Somebody still works in the removed folder, and made a file there: it is theirs, back with it. */
		r = rename_at(dir, hidden, name, RENAME_NOREPLACE);
	}
	return r < 0 ? fail(w, i, r, "a hidden file of this landing cannot be removed") : 0;
}

int landing_path_sync(struct landing_work *w, size_t i)
{
	int dir = folder_of(w, i);
	AUTO_FD fd = -1;

	if (dir < 0)
		return 0;
	fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return 0; /* a folder that may not be read was not ours to write into either */
	return fsync(fd) < 0 ? fail(w, i, -errno, "its folder cannot be synced") : 0;
}

/* ---- taking back ---- */

/* A new thing is taken out again: renamed aside first, so that an edit of it is not removed unseen. */
static int back_new(struct landing_work *w, size_t i, int dir, const char *name, const char *hidden)
{
	const struct landing_action *a = &w->plan->actions[i];
	struct landing_state now;
	int r;

	if (a->after.type == MANIFEST_DIR) {
		r = unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
		w->phase[i] = r == -ENOTEMPTY ? LANDING_LEFT : LANDING_BACK;
		if (r == -ENOTEMPTY)
			return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, &a->after,
						     "the new folder was put to use, and left so");
		return r == 0 || r == -ENOENT || r == -ENOTDIR ? 0 : fail(w, i, r, "could not be taken back");
	}
	r = rename_at(dir, name, hidden, RENAME_NOREPLACE);
	if (r == -ENOENT) {
		w->phase[i] = LANDING_BACK;
		return 0;
	}
	if (r < 0)
		return fail(w, i, r, "could not be taken back");
	r = keep_displaced(w, i, dir, hidden, &a->after, &now);
	if (r < 0)
		return r;
	if (r == 0) {
		w->phase[i] = LANDING_BACK;
		r = remove_tree(dir, hidden);
		return r < 0 ? fail(w, i, r, "could not be taken back") : 0;
	}
	w->phase[i] = LANDING_LEFT;
	if (rename_at(dir, hidden, name, RENAME_NOREPLACE) < 0) {
		char kept[DIGEST_HEX_SIZE];

		r = keep_aside(w, i, dir, hidden, kept);
		if (r == 0)
			r = remove_tree(dir, hidden);
		if (r < 0)
			return fail(w, i, r, "could not be taken back");
		return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, &now, "a version of it: blob %s", kept);
	}
	return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, &now, "edited after it landed, and left so");
}

static int back_replaced(struct landing_work *w, size_t i, int dir, const char *name, const char *hidden)
{
	const struct landing_action *a = &w->plan->actions[i];
	struct landing_state put;
	char kept[DIGEST_HEX_SIZE] = "";
	int r = rename_at(dir, hidden, name, RENAME_EXCHANGE);

	if (r == -ENOENT) /* our version was removed: what stood there before comes back */
		r = rename_at(dir, hidden, name, RENAME_NOREPLACE);
	else if (r == 0) {
		r = keep_displaced(w, i, dir, hidden, &a->after, &put);
		if (r > 0) {
			/* An edit on top of ours: it goes back to its place, and the version from before is a blob already. */
			r = rename_at(dir, hidden, name, RENAME_EXCHANGE);
			if (r == 0)
				r = keep_aside(w, i, dir, hidden, kept);
			if (r == 0)
				r = remove_tree(dir, hidden);
			if (r < 0)
				return fail(w, i, r, "could not be taken back");
			w->phase[i] = LANDING_LEFT;
			return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, &put,
						     "edited after it landed, and left so; from before: blob %s", kept);
		}
		if (r == 0)
			r = remove_tree(dir, hidden);
	}
	if (r < 0)
		return fail(w, i, r, "could not be taken back");
	w->phase[i] = LANDING_BACK;
	return 0;
}

static int back_deleted(struct landing_work *w, size_t i, int dir, const char *name, const char *hidden)
{
	char kept[DIGEST_HEX_SIZE];
	int r = rename_at(dir, hidden, name, RENAME_NOREPLACE);

	w->phase[i] = LANDING_BACK;
	if (r == 0)
		return 0;
	if (r != -EEXIST)
		return fail(w, i, r, "could not be taken back");
	w->phase[i] = LANDING_LEFT;
	r = keep_aside(w, i, dir, hidden, kept);
	if (r == 0)
		r = remove_tree(dir, hidden);
	if (r < 0)
		return fail(w, i, r, "could not be taken back");
	return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, NULL,
				     "made anew after it was removed, and left so; from before: blob %s", kept);
}

int landing_path_back(struct landing_work *w, size_t i)
{
	const struct landing_action *a = &w->plan->actions[i];
	char hidden[LANDING_NAME_SIZE];
	char name[NAME_MAX + 1];
	int dir;
	int r = name_of(a->path, name);

	if (w->phase[i] != LANDING_STAGED && w->phase[i] != LANDING_PUT)
		return 0;
	dir = folder_of(w, i);
	if (r < 0 || dir < 0) {
		w->lost = true;
		return 0;
	}
	hidden_name(w, i, hidden);
	if (w->phase[i] == LANDING_STAGED) {
		w->phase[i] = LANDING_BACK;
		r = remove_tree(dir, hidden);
		return r < 0 ? fail(w, i, r, "a hidden file of this landing cannot be removed") : 0;
	}
	r = failpoint_hit("landing.rollback");
	if (r < 0)
		return fail(w, i, r, "could not be taken back");
	if (a->before.type == MANIFEST_DIR && a->after.type == MANIFEST_DIR) {
		w->phase[i] = LANDING_BACK;
		return set_mode(w, i, dir, name, a->before.mode);
	}
	if (a->before.type == MANIFEST_ABSENT)
		r = back_new(w, i, dir, name, hidden);
	else if (a->after.type == MANIFEST_ABSENT)
		r = back_deleted(w, i, dir, name, hidden);
	else
		r = back_replaced(w, i, dir, name, hidden);
	return r < 0 ? r : 0;
}

/* ---- folders that went somewhere else ---- */

/* A hidden name that turned up where its folder was moved to: the same as taking back, beside it. */
static int sweep_name(struct landing_work *w, int dir, const char *hidden)
{
	size_t skip = sizeof(LANDING_HIDDEN_PREFIX) - 1 + LANDING_ID_SIZE;
	char name[NAME_MAX + 1];
	char *end;
	size_t i = strtoul(hidden + skip, &end, 16);
	const struct landing_action *a;
	struct landing_state aside;
	struct landing_state there;
	AUTO_FREE char *target = NULL;
	AUTO_FREE char *target2 = NULL;
	int r;

	if (strcmp(end, "w") == 0 || *end || i >= w->plan->action_count)
		return remove_tree(dir, hidden);
	a = &w->plan->actions[i];
	r = name_of(a->path, name);
	if (r == 0)
		r = landing_look_at(dir, hidden, true, true, &aside, &target);
	if (r == 0)
		r = landing_look_at(dir, name, true, true, &there, &target2);
	if (r < 0)
		return r;
	if (a->after.type != MANIFEST_ABSENT && is_after(a, &aside))
		return remove_tree(dir, hidden);
	if (is_after(a, &there))
		return a->after.type == MANIFEST_ABSENT ? back_deleted(w, i, dir, name, hidden) :
							  back_replaced(w, i, dir, name, hidden);
	char kept[DIGEST_HEX_SIZE];

	r = keep_aside(w, i, dir, hidden, kept);
	if (r == 0)
		r = remove_tree(dir, hidden);
	if (r == 0)
		r = landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, &there, "a version of it: blob %s", kept);
	return r;
}

static int sweep_folder(struct landing_work *w, int dir, int depth)
{
	AUTO_BUFFER prefix = {0};
	AUTO_DIR d = NULL;
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		if (fd >= 0)
			close(fd);
		return 0; /* one that we may not list, we did not write into */
	}
	if (buffer_printf(&prefix, LANDING_HIDDEN_PREFIX "%s-", w->id) < 0)
		return error_nomem(w->err);
	for (struct dirent *e; r >= 0 && (e = readdir(d));) {
		if (strncmp(e->d_name, (const char *)prefix.data, prefix.len) == 0) {
			r = sweep_name(w, dirfd(d), e->d_name);
			if (r < 0)
				error_set(w->err, r, "landing: what it left in a moved folder cannot be removed: %s", strerror(-r));
			continue;
		}
		if ((e->d_type != DT_DIR && e->d_type != DT_UNKNOWN) || strcmp(e->d_name, ".") == 0 ||
		    strcmp(e->d_name, "..") == 0 || depth >= MANIFEST_DEPTH_MAX)
			continue;
		AUTO_FD below = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (below >= 0)
			r = sweep_folder(w, below, depth + 1);
	}
	return r < 0 ? r : 0;
}

int landing_path_sweep(struct landing_work *w)
{
	return sweep_folder(w, w->ws, 0);
}
