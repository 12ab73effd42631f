/* One path of a landing: where it is found, what is displaced there, and how it is put in. The
 * states are in landing_work.h. */
#include "supervisor/landing_work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/escape.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/utf8.h"
#include "supervisor/landing_arena.h"

/* ---- names and folders ---- */

struct bytes landing_path_above(struct bytes path)
{
	const char *slash = memrchr(path.data, '/', path.len);

	return bytes_of(path.data, slash ? (size_t)(slash - (const char *)path.data) : 0);
}

/* The last component, NUL-terminated; names are at most NAME_MAX, or no file system would have
 * them. */
int landing_path_name(struct bytes path, char ret[NAME_MAX + 1])
{
	struct bytes above = landing_path_above(path);
	size_t skip = above.len ? above.len + 1 : 0;

	if (path.len - skip > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(ret, (const char *)path.data + skip, path.len - skip);
	ret[path.len - skip] = '\0';
	return 0;
}

void landing_path_hidden(const struct landing_work *w, size_t i, char ret[LANDING_NAME_SIZE])
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

bool landing_path_removes_folder(const struct landing_action *a)
{
	return a->before.type == MANIFEST_DIR && a->after.type != MANIFEST_DIR;
}

bool landing_path_made_here(const struct landing_work *w, struct bytes folder)
{
	ssize_t i = find_action(w->plan, folder);

	return i >= 0 && w->plan->actions[i].after.type == MANIFEST_DIR &&
	       w->plan->actions[i].before.type != MANIFEST_DIR;
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
	if (i < 0 || !landing_path_removes_folder(&w->plan->actions[i]))
		return fd;
	AUTO_FD above = open_folder(w, landing_path_above(path));
	int hid;

	if (above < 0)
		return fd;
	landing_path_hidden(w, (size_t)i, hidden);
	hid = openat(above, hidden, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return hid < 0 ? fd : hid;
}

/* The folder that action i's name is in; borrowed. Held open, so that one that is moved away
 * meanwhile is still found. */
int landing_path_folder(struct landing_work *w, size_t i)
{
	struct bytes path = landing_path_above(w->plan->actions[i].path);
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

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* Whether the folder that the name went into is still the one at its path. */
static bool folder_stands(const struct landing_work *w, size_t i, int dir)
{
	AUTO_FD now = open_by_path(w, landing_path_above(w->plan->actions[i].path));

	return now >= 0 && same_inode(now, dir);
}

void landing_path_close(struct landing_work *w)
{
	for (size_t k = 0; k < LANDING_DIRS_MAX; k++)
		close_fd(&w->dirs[k].fd);
}

/* ---- what is told ---- */

/* Notes c, of a path that is noted once: a version kept later is added to it. Its `kept` is taken
 * from w. */
static int note(struct landing_work *w, struct landing_conflict c, const char *text)
{
	AUTO_BUFFER shown = {0};

	c.kept = w->kept;
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

int landing_path_conflict(struct landing_work *w, size_t i, enum landing_conflict_why why,
			  const struct landing_state *now, const char *fmt, ...)
{
	const struct landing_action *a = &w->plan->actions[i];
	struct landing_conflict c = {.path = a->path, .why = why, .want = a->after};
	char text[LANDING_WHY_MAX];
	va_list args;

	va_start(args, fmt);
	utf8_vprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (now)
		c.now = *now;
	return note(w, c, text);
}

static size_t actions_in(const struct landing_plan *p, struct bytes folder)
{
	size_t n = 0;

	for (size_t i = 0; i < p->action_count; i++) {
		struct bytes path = p->actions[i].path;

		n += path.len > folder.len && memcmp(path.data, folder.data, folder.len) == 0 &&
		     ((const char *)path.data)[folder.len] == '/';
	}
	return n;
}

/* The topmost folder above action i's path that is none: *ret_path is empty where all of them are
 * folders. */
static int find_place(struct landing_work *w, size_t i, struct bytes *ret_path,
		      struct landing_state *ret, char **ret_target)
{
	struct bytes path = w->plan->actions[i].path;
	const char *p = path.data;

	*ret_path = bytes_of("", 0);
	for (size_t at = 1; at < path.len; at++) {
		AUTO_FREE char *above = p[at] == '/' ? bytes_dup_str(bytes_of(p, at)) : NULL;
		int r = above ? landing_look(w->ws, above, true, false, ret, ret_target, w->err)
			      : 0;

		if (r < 0 || (p[at] == '/' && !above))
			return r < 0 ? r : error_nomem(w->err);
		if (!above || ret->type == MANIFEST_DIR || ret->unseen)
			continue;
		*ret_path = bytes_of(p, at);
		return 0;
	}
	return 0;
}

int landing_path_place(struct landing_work *w, struct bytes path, const struct landing_state *now,
		       const struct landing_state *want)
{
	struct landing_conflict c = {.path = path,
				     .why = LANDING_CONFLICT_PLACE,
				     .now = *now,
				     .want = *want};
	char text[LANDING_WHY_MAX];

	landing_place_text(now->type, actions_in(w->plan, path), w->plan->undo,
			   now->type > MANIFEST_WHITEOUT ? "only a file or a link is displaced"
							 : NULL,
			   text, sizeof(text));
	return note(w, c, text);
}

/* What stands in the folder's place is what the answer will be bound to. A folder that is merely
 * gone is made again when planning anew; an undoing has no plan to make but this. */
int landing_path_no_folder(struct landing_work *w, size_t i)
{
	const struct landing_state absent = {.target = bytes_of("", 0)};
	struct landing_state want = {.type = MANIFEST_DIR, .target = bytes_of("", 0)};
	struct landing_state now;
	AUTO_FREE char *target = NULL;
	struct bytes path;
	int r = find_place(w, i, &path, &now, &target);

	if (r < 0)
		return r;
	if (path.len == 0 || (now.type == MANIFEST_ABSENT && !w->plan->undo))
		return landing_path_conflict(w, i, LANDING_CONFLICT_FOLDER, &absent, "%s", "");
	if (w->plan->undo)
		want.mode = LANDING_FOLDER_AGAIN_MODE;
	return landing_path_place(w, path, &now, &want);
}

int landing_path_fail(struct landing_work *w, size_t i, int code, const char *what)
{
	AUTO_FREE char *shown = escape_dup(w->plan->actions[i].path, ESCAPE_LINE);

	error_set(w->err, code, "landing: %s: %s", what, strerror(-code));
	error_where(w->err, "%s", shown ? shown : "");
	return code;
}

/* What is to be done about it, where that is not said by the error itself. */
static const char *remedy(int code)
{
	switch (code) {
	case -EACCES:
	case -EPERM:
		return "; make it writable before theirs, or answer mine";
	case -EROFS:
		return "; mount it writable before theirs, or answer mine";
	case -ENOSPC:
	case -EDQUOT:
		return "; free some space before theirs, or answer mine";
	default:
		return "";
	}
}

int landing_path_refused_as(struct landing_work *w, size_t i, const char *fmt, ...)
{
	AUTO_FREE char *target = NULL;
	AUTO_FREE char *path = bytes_dup_str(w->plan->actions[i].path);
	struct landing_state now;
	struct error unused = {0};
	char text[LANDING_WHY_MAX];
	va_list args;

	if (!path)
		return error_nomem(w->err);
	va_start(args, fmt);
	utf8_vprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (landing_look(w->ws, path, true, false, &now, &target, &unused) < 0)
		now = (struct landing_state){.target = bytes_of("", 0), .unseen = true};
	return landing_path_conflict(w, i, LANDING_CONFLICT_REFUSED, &now, "%s", text);
}

int landing_path_refused(struct landing_work *w, size_t i, int code, const char *what)
{
	switch (code) {
	case -EACCES:
	case -EPERM:
	case -EROFS:
	case -ENOSPC:
	case -EDQUOT:
	case -ENAMETOOLONG:
	case -EBUSY:
	case -ETXTBSY:
	case -ENOENT:
	case -ENOTDIR:
	case -EISDIR:
	case -EEXIST:
	case -ELOOP:
	case -EXDEV:
	case -EFBIG:
	case -EMLINK:
	case -ESTALE:
		return landing_path_refused_as(w, i, "%s: %s%s", what, strerror(-code),
					       remedy(code));
	case -EINVAL:
	case -EOPNOTSUPP:
	case -ENOSYS:
		return error_set_exit(w->err, -EOPNOTSUPP, EXIT_STATUS_SANDBOX,
				      "landing: this file system cannot exchange two names "
				      "(renameat2): %s; move the workspace to ext4, xfs, btrfs or "
				      "tmpfs, or take the changes from `holdfast diff`",
				      what);
	default:
		return landing_path_fail(w, i, code, what);
	}
}

int landing_path_rename(int dir, const char *from, const char *to, unsigned flags)
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

/* A folder that is to go is made writable first, so that its names can be taken out; one that an
 * earlier call worked in may still be so. */
bool landing_path_is_before(const struct landing_work *w, const struct landing_action *a,
			    const struct landing_state *now)
{
	if (same_but_unread(&a->before, now) || landing_state_same(now, &a->before))
		return true;
	return (landing_path_removes_folder(a) || w->again || w->best_effort) &&
	       a->before.type == MANIFEST_DIR && now->type == MANIFEST_DIR &&
	       ((now->mode ^ (a->before.mode | 0700)) & 01777) == 0;
}

bool landing_path_is_after(const struct landing_action *a, const struct landing_state *now)
{
	if (same_but_unread(&a->after, now))
		return true;
	if (a->after.type == MANIFEST_DIR && now->type == MANIFEST_DIR)
		return ((now->mode ^ a->after.mode) & 01777) == 0 ||
		       ((now->mode ^ (a->after.mode | 0700)) & 01777) == 0; /* not yet finished */
	return landing_state_same(now, &a->after);
}

int landing_path_keep(struct landing_work *w, size_t i, int dir, const char *hidden,
		      const struct landing_state *expect, struct landing_state *ret_now)
{
	AUTO_FREE char *target = NULL;
	AUTO_FD fd = -1;
	struct landing_state now;
	struct digest d;
	int r = landing_look_at(dir, hidden, false, true, &now, &target);

	if (r < 0)
		return landing_path_fail(w, i, r, "the displaced file cannot be looked at");
	if (now.type == MANIFEST_FILE) {
		fd = landing_look_open(dir, hidden);
		if (fd == -EACCES || fd == -EPERM) {
			*ret_now = now;
			return LANDING_KEPT_UNREAD;
		}
		if (fd < 0)
			return landing_path_fail(w, i, fd, "the displaced file cannot be opened");
		if (!landing_look_unwritten(fd, LANDING_WRITER_WAIT_MS)) {
			*ret_now = now;
			ret_now->target = bytes_of("", 0);
			return LANDING_KEPT_BUSY;
		}
		r = w->source->blob_put(w->source->ctx, fd, LANDING_PREIMAGE_MAX, &d);
		if (r < 0)
			return landing_path_fail(w, i, r,
						 "the displaced file cannot be kept for undo");
		/* Written while it was read, through a name or a descriptor that no lease tells of?
		 */
		r = landing_look_at(dir, hidden, true, false, &now, NULL);
		if (r < 0)
			return landing_path_fail(w, i, r, "the displaced file cannot be looked at");
		now.has_digest = now.has_digest && digest_equal(&now.digest, &d);
	}
	const struct landing_action *a = &w->plan->actions[i];

	bool same = expect == &a->after ? landing_path_is_after(a, &now)
					: landing_path_is_before(w, a, &now);

	*ret_now = now;
	ret_now->target = bytes_of("", 0);
	if (now.type == MANIFEST_SYMLINK &&
	    landing_arena_keep(w->met->arena, now.target, &ret_now->target) < 0)
		return error_nomem(w->err);
	return same && (now.type != MANIFEST_DIR || now.entries == 0) ? LANDING_KEPT
								      : LANDING_KEPT_OTHER;
}

enum landing_conflict_why landing_path_why(const struct landing_action *a, enum landing_kept kept,
					   const struct landing_state *now)
{
	switch (kept) {
	case LANDING_KEPT_BUSY:
		return LANDING_CONFLICT_BUSY;
	case LANDING_KEPT_UNREAD:
		return LANDING_CONFLICT_REFUSED;
	case LANDING_KEPT:
	case LANDING_KEPT_OTHER:
		break;
	}
	return a->before.type == MANIFEST_DIR && now->type == MANIFEST_DIR
		       ? LANDING_CONFLICT_NOT_EMPTY
		       : LANDING_CONFLICT_EDITED;
}

int landing_path_sync_blobs(struct landing_work *w)
{
	int r = w->source->blob_sync ? w->source->blob_sync(w->source->ctx) : 0;

	return r < 0 ? error_set(w->err, r,
				 "landing: the displaced files cannot be kept for undo: %s",
				 strerror(-r))
		     : 0;
}

int landing_path_aside(struct landing_work *w, size_t i, int dir, const char *hidden,
		       char ret[DIGEST_HEX_SIZE])
{
	AUTO_FD fd = landing_look_open(dir, hidden);
	struct digest d;
	int r;

	ret[0] = '\0';
	if (fd < 0)
		return 0; /* a link or a folder: its state is in the conflict */
	r = w->source->blob_put(w->source->ctx, fd, LANDING_PREIMAGE_MAX, &d);
	if (r < 0)
		return landing_path_fail(w, i, r, "a displaced file cannot be kept");
	r = landing_path_sync_blobs(w);
	if (r < 0)
		return r;
	w->kept = d;
	digest_hex(&d, ret);
	return 0;
}

int landing_path_remove(int dir, const char *name)
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
		if (strncmp(e->d_name, LANDING_HIDDEN_PREFIX, sizeof(LANDING_HIDDEN_PREFIX) - 1) ==
		    0) {
			int r = landing_path_remove(dirfd(d), e->d_name);

			if (r < 0)
				return r;
		}
	}
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* ---- putting in ---- */

/* Takes one exchange or rename back, after what it displaced turned out to be something else. */
static int take_back(struct landing_work *w, size_t i, int dir, const char *name,
		     const char *hidden)
{
	const struct landing_action *a = &w->plan->actions[i];
	unsigned flags = a->after.type == MANIFEST_ABSENT ? RENAME_NOREPLACE : RENAME_EXCHANGE;
	const char *from = hidden;
	struct landing_state put;
	char kept[DIGEST_HEX_SIZE];
	int r = landing_path_rename(dir, from, name, flags);

	if (r == -EEXIST || r == -ENOENT) {
		/* Somebody made or removed the name meanwhile: that stays, and the version before
		 * it becomes a blob. */
		r = landing_path_aside(w, i, dir, hidden, kept);
		if (r < 0)
			return r;
		w->phase[i] = LANDING_LEFT;
		r = landing_path_remove(dir, hidden);
		if (r < 0)
			return landing_path_fail(w, i, r,
						 "a hidden file of this landing cannot be removed");
		return landing_path_conflict(
			w, i, LANDING_CONFLICT_EDITED, NULL,
			"changed twice while it was landing; the first version: blob %s", kept);
	}
	if (r < 0)
		return landing_path_fail(w, i, r, "could not be taken back");
	w->phase[i] = LANDING_BACK;
	if (flags == RENAME_NOREPLACE)
		return 0;
	/* What we had put there may have been edited in that instant: those bytes are kept too. */
	r = landing_path_keep(w, i, dir, hidden, &a->after, &put);
	if (r < 0)
		return r;
	if (r > 0 && put.type == MANIFEST_FILE) {
		r = landing_path_aside(w, i, dir, hidden, kept);
		if (r < 0)
			return r;
		r = landing_path_conflict(
			w, i, LANDING_CONFLICT_EDITED, NULL,
			"two versions of it came up while it was landing; the other: blob %s",
			kept);
		if (r < 0)
			return r;
	}
	r = landing_path_remove(dir, hidden);
	return r < 0 ? landing_path_fail(w, i, r, "a hidden file of this landing cannot be removed")
		     : 0;
}

static int check_displaced(struct landing_work *w, size_t i, int dir, const char *name,
			   const char *hidden)
{
	const struct landing_action *a = &w->plan->actions[i];
	struct landing_state now;
	unsigned why = 0;
	int r = failpoint_hit("landing.before_keep");

	if (r < 0)
		return landing_path_fail(w, i, r, "the displaced file cannot be kept for undo");
	r = landing_path_keep(w, i, dir, hidden, &a->before, &now);
	if (r < 0)
		return r;
	if (r == 0 && failpoint_hit("landing.after_keep") < 0)
		return landing_path_fail(w, i, -EIO, "the displaced file cannot be kept for undo");
	if (r > 0)
		why = landing_path_why(a, (enum landing_kept)r, &now);
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

static bool known_to_plan(void *arg, struct bytes path)
{
	const struct landing_work *w = arg;

	return find_action(w->plan, path) >= 0;
}

static int note_stranger(void *arg, struct bytes path, const struct landing_state *s)
{
	struct landing_work *w = arg;
	struct landing_conflict c = {.path = path,
				     .why = LANDING_CONFLICT_APPEARED,
				     .now = *s,
				     .want = {.target = bytes_of("", 0)}};
	int r = note(w, c, LANDING_STRANGER_TEXT);

	if (r < 0)
		return r;
	return w->met->conflict_count >= LANDING_CONFLICTS_MAX;
}

/* A folder that is to go holds what the plan does not name: each is asked about, so that an answer
 * for the folder can be carried out. */
int landing_path_strangers(struct landing_work *w, size_t i)
{
	int r = landing_look_below(&(struct landing_look_walk){.workspace_fd = w->ws,
							       .arg = w,
							       .known = known_to_plan,
							       .fn = note_stranger,
							       .err = w->err},
				   w->plan->actions[i].path);

	return r < 0 ? r : 0;
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
	int dir = landing_path_folder(w, i);
	int r = landing_path_name(a->path, name);

	if (r == 0)
		r = dir < 0 ? dir : failpoint_hit("landing.before_exchange");
	if (r < 0)
		return landing_path_refused(w, i, r, "cannot be put in place");
	landing_path_hidden(w, i, hidden);
	/* Looked at before, so that a folder in use is not even for an instant taken from where it
	 * is. */
	if (landing_path_removes_folder(a) && holds_others(dir, name))
		r = -ENOTEMPTY;
	else if (a->after.type == MANIFEST_ABSENT)
		r = landing_path_rename(dir, name, hidden, RENAME_NOREPLACE);
	else
		r = landing_path_rename(dir, hidden, name,
					new ? RENAME_NOREPLACE : RENAME_EXCHANGE);
	if (r == -ENOTEMPTY || r == -EEXIST || r == -ENOENT) {
		if (landing_look_at(dir, name, true, false, &now, NULL) < 0)
			now = (struct landing_state){0};
		now.target = bytes_of("", 0);
		if (r == -ENOTEMPTY && landing_path_strangers(w, i) < 0)
			return -EIO;
		return landing_path_conflict(w, i,
					     r == -ENOTEMPTY ? LANDING_CONFLICT_NOT_EMPTY
							     : LANDING_CONFLICT_EDITED,
					     now.type == MANIFEST_SYMLINK ? NULL : &now, "%s", "");
	}
	if (r < 0)
		return landing_path_refused(w, i, r, "cannot be put in place");
	w->phase[i] = LANDING_PUT;
	r = failpoint_hit("landing.after_exchange");
	if (r < 0)
		return landing_path_fail(w, i, r, "cannot be put in place");
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

	if (a->after.type != MANIFEST_DIR ||
	    (w->phase[i] != LANDING_PUT && w->phase[i] != LANDING_DONE))
		return 0;
	dir = landing_path_folder(w, i);
	r = landing_path_name(a->path, name);
	if (r < 0 || dir < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISDIR(st.st_mode))
		return 0; /* removed or moved since: that is after the landing */
	if (((st.st_mode ^ a->after.mode) & 01777) == 0)
		return 0;
	return landing_stage_mode(w, i, dir, name, (a->after.mode & 01777) | (st.st_mode & 06000));
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
	dir = landing_path_folder(w, i);
	r = landing_path_name(a->path, name);
	if (r < 0 || dir < 0) {
		w->lost = true;
		return 0;
	}
	landing_path_hidden(w, i, hidden);
	r = landing_path_remove(dir, hidden);
	if (r == -ENOTEMPTY || r == -EEXIST) {
		/* Somebody still works in the removed folder, and made a file there: it is theirs,
		 * back with it. */
		r = landing_path_rename(dir, hidden, name, RENAME_NOREPLACE);
	}
	return r < 0 ? landing_path_fail(w, i, r, "a hidden file of this landing cannot be removed")
		     : 0;
}

int landing_path_sync(struct landing_work *w, size_t i)
{
	int dir = landing_path_folder(w, i);
	AUTO_FD fd = -1;

	if (dir < 0)
		return 0;
	fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return 0; /* a folder that may not be read was not ours to write into either */
	return fsync(fd) < 0 ? landing_path_fail(w, i, -errno, "its folder cannot be synced") : 0;
}
