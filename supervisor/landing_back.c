/* Taking one path back, so that nothing of what somebody did to it meanwhile is lost; and what lies
 * in folders that were moved. */
#include "supervisor/landing_work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/failpoint.h"

/* A new thing is taken out again: renamed aside first, so that an edit of it is not removed unseen.
 */
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
		return r == 0 || r == -ENOENT || r == -ENOTDIR
			       ? 0
			       : landing_path_fail(w, i, r, "could not be taken back");
	}
	r = landing_path_rename(dir, name, hidden, RENAME_NOREPLACE);
	if (r == -ENOENT) {
		w->phase[i] = LANDING_BACK;
		return 0;
	}
	if (r < 0)
		return landing_path_fail(w, i, r, "could not be taken back");
	r = landing_path_keep(w, i, dir, hidden, &a->after, &now);
	if (r < 0)
		return r;
	if (r == 0) {
		w->phase[i] = LANDING_BACK;
		r = landing_path_remove(dir, hidden);
		return r < 0 ? landing_path_fail(w, i, r, "could not be taken back") : 0;
	}
	w->phase[i] = LANDING_LEFT;
	if (landing_path_rename(dir, hidden, name, RENAME_NOREPLACE) < 0) {
		char kept[DIGEST_HEX_SIZE];

		r = landing_path_aside(w, i, dir, hidden, kept);
		if (r == 0)
			r = landing_path_remove(dir, hidden);
		if (r < 0)
			return landing_path_fail(w, i, r, "could not be taken back");
		return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, &now,
					     "a version of it: blob %s", kept);
	}
	return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, &now,
				     "edited after it landed, and left so");
}

static int back_replaced(struct landing_work *w, size_t i, int dir, const char *name,
			 const char *hidden)
{
	const struct landing_action *a = &w->plan->actions[i];
	struct landing_state put;
	char kept[DIGEST_HEX_SIZE] = "";
	int r = landing_path_rename(dir, hidden, name, RENAME_EXCHANGE);

	if (r == -ENOENT) /* our version was removed: what stood there before comes back */
		r = landing_path_rename(dir, hidden, name, RENAME_NOREPLACE);
	else if (r == 0) {
		r = landing_path_keep(w, i, dir, hidden, &a->after, &put);
		if (r > 0) {
			/* An edit on top of ours: it goes back to its place, and the version from
			 * before is a blob already. */
			r = landing_path_rename(dir, hidden, name, RENAME_EXCHANGE);
			if (r == 0)
				r = landing_path_aside(w, i, dir, hidden, kept);
			if (r == 0)
				r = landing_path_remove(dir, hidden);
			if (r < 0)
				return landing_path_fail(w, i, r, "could not be taken back");
			w->phase[i] = LANDING_LEFT;
			return landing_path_conflict(
				w, i, LANDING_CONFLICT_EDITED, &put,
				"edited after it landed, and left so; from before: blob %s", kept);
		}
		if (r == 0)
			r = landing_path_remove(dir, hidden);
	}
	if (r < 0)
		return landing_path_fail(w, i, r, "could not be taken back");
	w->phase[i] = LANDING_BACK;
	return 0;
}

static int back_deleted(struct landing_work *w, size_t i, int dir, const char *name,
			const char *hidden)
{
	char kept[DIGEST_HEX_SIZE];
	int r = landing_path_rename(dir, hidden, name, RENAME_NOREPLACE);

	w->phase[i] = LANDING_BACK;
	if (r == 0)
		return 0;
	if (r != -EEXIST)
		return landing_path_fail(w, i, r, "could not be taken back");
	w->phase[i] = LANDING_LEFT;
	r = landing_path_aside(w, i, dir, hidden, kept);
	if (r == 0)
		r = landing_path_remove(dir, hidden);
	if (r < 0)
		return landing_path_fail(w, i, r, "could not be taken back");
	return landing_path_conflict(
		w, i, LANDING_CONFLICT_EDITED, NULL,
		"made anew after it was removed, and left so; from before: blob %s", kept);
}

int landing_back_path(struct landing_work *w, size_t i)
{
	const struct landing_action *a = &w->plan->actions[i];
	char hidden[LANDING_NAME_SIZE];
	char name[NAME_MAX + 1];
	int dir;
	int r = landing_path_name(a->path, name);

	if (w->phase[i] != LANDING_STAGED && w->phase[i] != LANDING_PUT)
		return 0;
	dir = landing_path_folder(w, i);
	if (r < 0 || dir < 0) {
		w->lost = true;
		return 0;
	}
	landing_path_hidden(w, i, hidden);
	if (w->phase[i] == LANDING_STAGED) {
		w->phase[i] = LANDING_BACK;
		r = landing_path_remove(dir, hidden);
		return r < 0 ? landing_path_fail(w, i, r,
						 "a hidden file of this landing cannot be removed")
			     : 0;
	}
	r = failpoint_hit("landing.rollback");
	if (r < 0)
		return landing_path_fail(w, i, r, "could not be taken back");
	if (a->before.type == MANIFEST_DIR && a->after.type == MANIFEST_DIR) {
		w->phase[i] = LANDING_BACK;
		return landing_stage_mode(w, i, dir, name, a->before.mode);
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

/* A hidden name that turned up where its folder was moved to: the same as taking back, beside it.
 */
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
		return landing_path_remove(dir, hidden);
	a = &w->plan->actions[i];
	r = landing_path_name(a->path, name);
	if (r == 0)
		r = landing_look_at(dir, hidden, true, true, &aside, &target);
	if (r == 0)
		r = landing_look_at(dir, name, true, true, &there, &target2);
	if (r < 0)
		return r;
	if (a->after.type != MANIFEST_ABSENT && landing_path_is_after(a, &aside))
		return landing_path_remove(dir, hidden);
	if (landing_path_is_after(a, &there))
		return a->after.type == MANIFEST_ABSENT ? back_deleted(w, i, dir, name, hidden)
							: back_replaced(w, i, dir, name, hidden);
	char kept[DIGEST_HEX_SIZE];

	r = landing_path_aside(w, i, dir, hidden, kept);
	if (r == 0)
		r = landing_path_remove(dir, hidden);
	if (r == 0)
		r = landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, &there,
					  "a version of it: blob %s", kept);
	return r;
}

static int sweep_folder(struct landing_work *w, int dir, int depth);

static int sweep_below(struct landing_work *w, int dir, const char *name, int depth)
{
	AUTO_FD below = -1;

	if (depth >= MANIFEST_DEPTH_MAX)
		return 0;
	below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return below < 0 ? 0 : sweep_folder(w, below, depth + 1);
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
		bool hidden = strncmp(e->d_name, (const char *)prefix.data, prefix.len) == 0;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		/* What lies in a removed folder first: the folder gets its own name back with it. */
		if (e->d_type == DT_DIR || e->d_type == DT_UNKNOWN)
			r = sweep_below(w, dirfd(d), e->d_name, depth);
		if (r < 0 || !hidden)
			continue;
		r = sweep_name(w, dirfd(d), e->d_name);
		if (r < 0)
			error_set(w->err, r,
				  "landing: what it left in a moved folder cannot be removed: %s",
				  strerror(-r));
	}
	return r < 0 ? r : 0;
}

int landing_back_sweep(struct landing_work *w)
{
	return sweep_folder(w, w->ws, 0);
}
