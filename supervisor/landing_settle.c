/* Finding where a path stands, before anything is done to it: the first time, and after a crash. */
#include "supervisor/landing_work.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static bool is_untouched(const struct landing_state *before, const struct landing_state *now)
{
	return before->ino != 0 && before->type == now->type && before->ino == now->ino &&
	       before->ctime_ns == now->ctime_ns && before->mode == now->mode &&
	       before->size == now->size;
}

/* -EACCES without an error: its folder may not be passed. */
static int look_name(struct landing_work *w, int dir, const char *name,
		     const struct landing_state *before, struct landing_state *now, char **target)
{
	int r = landing_look_at(dir, name, false, false, now, target);

	if (r == 0 && now->type == MANIFEST_FILE && is_untouched(before, now)) {
		now->has_digest = before->has_digest;
		now->digest = before->digest;
		return 0;
	}
	if (r == 0 && now->type == MANIFEST_FILE)
		r = landing_look_at(dir, name, true, false, now, target);
	if (r < 0 && r != -EACCES)
		return error_set(w->err, r, "landing: the workspace cannot be looked at: %s",
				 strerror(-r));
	return r;
}

/*
 * HIDDEN is there: a crash, or a failed call, came between two steps of this path. What it left is
 * told by what the two names hold:
 *
 *   HIDDEN    NAME       what came before            now
 *   new       before     staged                      HIDDEN goes: FRESH
 *   new       after      staged; somebody did it     HIDDEN goes: ALREADY
 *   new       a third    staged; somebody edited     HIDDEN goes: FRESH, a conflict
 *   other     after      put                         HIDDEN is looked at and kept: PUT
 *   other     not after  put; somebody edited it     HIDDEN becomes a blob and goes: LEFT, a
 *                                                    conflict
 *
 * For an action that leaves nothing there is no new thing; where a folder goes, a folder under
 * HIDDEN is what was displaced, whatever it looks like.
 */
enum left_by_crash { LEFT_STAGED, LEFT_PUT, LEFT_EDITED };

static enum left_by_crash what_is_left(const struct landing_action *a,
				       const struct landing_state *hidden,
				       const struct landing_state *name)
{
	bool displaced = landing_path_removes_folder(a) && hidden->type == MANIFEST_DIR;

	if (a->after.type != MANIFEST_ABSENT && !displaced && landing_path_is_after(a, hidden))
		return LEFT_STAGED;
	return landing_path_is_after(a, name) ? LEFT_PUT : LEFT_EDITED;
}

static int remove_hidden(struct landing_work *w, size_t i, int dir, const char *hidden)
{
	int r = landing_path_remove(dir, hidden);

	return r < 0 ? landing_path_fail(w, i, r, "a hidden file of this landing cannot be removed")
		     : 0;
}

static int settle_staged(struct landing_work *w, size_t i, int dir, const char *hidden,
			 const struct landing_state *there)
{
	const struct landing_action *a = &w->plan->actions[i];
	int r = remove_hidden(w, i, dir, hidden);

	if (r < 0)
		return r;
	w->phase[i] = landing_path_is_after(a, there) ? LANDING_ALREADY : LANDING_FRESH;
	if (w->phase[i] == LANDING_ALREADY || landing_path_is_before(w, a, there))
		return 0;
	return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, there, "%s", "");
}

static int settle_put(struct landing_work *w, size_t i, int dir, const char *hidden)
{
	const struct landing_action *a = &w->plan->actions[i];
	struct landing_state aside;
	int r;

	w->phase[i] = LANDING_PUT;
	r = landing_path_keep(w, i, dir, hidden, &a->before, &aside);
	if (r < 0 || r == LANDING_KEPT)
		return r;
	return landing_path_conflict(w, i, landing_path_why(a, (enum landing_kept)r, &aside),
				     &aside, "%s", "");
}

static int settle_edited(struct landing_work *w, size_t i, int dir, const char *hidden,
			 const struct landing_state *there)
{
	char kept[DIGEST_HEX_SIZE];
	int r = landing_path_aside(w, i, dir, hidden, kept);

	if (r == 0)
		r = remove_hidden(w, i, dir, hidden);
	if (r < 0)
		return r;
	w->phase[i] = LANDING_LEFT;
	return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, there,
				     "edited after it landed, and left so; from before: blob %s",
				     kept);
}

static int settle_hidden(struct landing_work *w, size_t i, int dir, const char *hidden,
			 const struct landing_state *there)
{
	AUTO_FREE char *target = NULL;
	struct landing_state aside;
	int r = landing_look_at(dir, hidden, true, true, &aside, &target);

	if (r < 0)
		return landing_path_fail(w, i, r,
					 "a hidden file of this landing cannot be looked at");
	switch (what_is_left(&w->plan->actions[i], &aside, there)) {
	case LEFT_STAGED:
		return settle_staged(w, i, dir, hidden, there);
	case LEFT_PUT:
		return settle_put(w, i, dir, hidden);
	case LEFT_EDITED:
		break;
	}
	return settle_edited(w, i, dir, hidden, there);
}

/*
 * As after, and nothing is left of how it came to be so: by an earlier call, or by somebody else.
 * What this plan takes away is a blob before it goes, so where there is none it was somebody else,
 * and there is nothing to put back.
 */
static int settle_gone(struct landing_work *w, size_t i)
{
	const struct landing_action *a = &w->plan->actions[i];
	AUTO_FD kept = -1;

	w->phase[i] = w->again ? LANDING_DONE : LANDING_ALREADY;
	if (!w->again || a->before.type != MANIFEST_FILE)
		return 0;
	kept = w->source->blob_open(w->source->ctx, &a->before.digest);
	if (kept == -ENOENT)
		w->phase[i] = LANDING_ALREADY;
	return kept >= 0 || kept == -ENOENT
		       ? 0
		       : landing_path_fail(w, i, kept, "what it displaced cannot be looked for");
}

int landing_settle_path(struct landing_work *w, size_t i)
{
	const struct landing_action *a = &w->plan->actions[i];
	AUTO_FREE char *target = NULL;
	struct landing_state now = {.target = bytes_of("", 0)};
	char hidden[LANDING_NAME_SIZE];
	char part[LANDING_NAME_SIZE + 1];
	char name[NAME_MAX + 1];
	struct stat st;
	int dir = landing_path_folder(w, i);
	int r = landing_path_name(a->path, name);

	w->phase[i] = LANDING_FRESH;
	if (r < 0)
		return landing_path_refused(w, i, r, "its name");
	if (dir == -ENOENT || dir == -ENOTDIR || dir == -ELOOP) {
		w->lost = w->lost || !landing_path_made_here(w, landing_path_above(a->path));
		if (a->after.type == MANIFEST_ABSENT)
			return settle_gone(w, i);
		if (a->before.type == MANIFEST_ABSENT &&
		    landing_path_made_here(w, landing_path_above(a->path)))
			return 0;
		return landing_path_no_folder(w, i);
	}
	if (dir < 0)
		return landing_path_refused(w, i, dir, "its folder");
	r = look_name(w, dir, name, &a->before, &now, &target);
	if (r < 0)
		return r == -EACCES ? landing_path_refused(w, i, r, "cannot be looked at") : r;
	landing_path_hidden(w, i, hidden);
	snprintf(part, sizeof(part), "%sw", hidden);
	r = landing_path_remove(dir, part); /* a file or a folder, as what it was to become */
	if (r < 0)
		return landing_path_refused(w, i, r, "a hidden file of this landing");
	if (fstatat(dir, hidden, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return settle_hidden(w, i, dir, hidden, &now);
	if (landing_path_is_before(w, a, &now))
		return 0;
	if (landing_path_is_after(a, &now)) {
		/* What displaced nothing leaves no hidden name, and can be taken out as if it had
		 * just been put in. */
		if (w->again && a->before.type == MANIFEST_ABSENT) {
			w->phase[i] = LANDING_PUT;
			return 0;
		}
		return settle_gone(w, i);
	}
	if (a->before.type == MANIFEST_DIR && a->after.type == MANIFEST_DIR &&
	    now.type != MANIFEST_ABSENT && now.type != MANIFEST_DIR)
		return landing_path_place(w, a->path, &now, &a->after);
	if (now.type == MANIFEST_DIR && a->after.type != MANIFEST_DIR &&
	    landing_path_strangers(w, i) < 0)
		return -EIO;
	return landing_path_conflict(w, i, LANDING_CONFLICT_EDITED, &now, "%s", "");
}
