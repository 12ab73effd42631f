/*
 * Applying a redo plan, in this order (failpoints in brackets):
 *
 *   1. settle   every path is looked at: before, after, or a third state, a conflict
 *               [landing.settled]
 *   2. stage    new bytes beside every target, new folders in place, one sync
 *               [landing.made, .part, .staged]
 *   3. put      deletions, deepest first; then the rest, folders first; what is displaced
 *               becomes a blob; one sync
 *               [landing.before_exchange, .after_exchange, .before_keep, .after_keep, .put]
 *   4. finish   hidden names with the displaced files under them, modes of folders, one sync
 *               [landing.clean, .cleaned]
 *
 * A conflict in 1 to 3 takes back everything, last first [landing.rollback], syncs, and reports
 * [landing.rolled_back]. Up to 4 every displaced file still exists under its hidden name, so taking
 * back gives back the inode itself; what an earlier call had cleaned already is put back from its
 * blob, by the reverse of the plan.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/utf8.h"
#include "supervisor/landing_arena.h"
#include "supervisor/landing_work.h"

enum { SYNC_ALL_FROM = 16 }; /* files: from here one syncfs is cheaper than an fsync each */

static int apply(int ws, const struct landing_plan *plan, bool again, bool best_effort,
		 const struct landing_source *source, struct landing_plan *met, struct error *err);

static bool is_deletion(const struct landing_action *a)
{
	return a->after.type == MANIFEST_ABSENT;
}

/* In best effort a path in conflict is left as it is. */
static int go_on(const struct landing_work *w, int r)
{
	return r == LANDING_CONFLICT && w->best_effort ? 0 : r;
}

static int hit(struct landing_work *w, const char *name)
{
	int r = failpoint_hit(name);

	return r < 0 ? error_set(w->err, r, "landing: %s", strerror(-r)) : 0;
}

/* All conflicts are found, not only the first: they are one card. */
static int settle(struct landing_work *w)
{
	bool met = false;

	for (size_t i = 0; i < w->plan->action_count; i++) {
		int r = go_on(w, landing_settle_path(w, i));

		if (r < 0)
			return r;
		met = met || r == LANDING_CONFLICT;
	}
	return met ? LANDING_CONFLICT : hit(w, "landing.settled");
}

static int sync_all(struct landing_work *w)
{
	return syncfs(w->ws) < 0
		       ? error_set(w->err, -errno, "landing: the workspace cannot be synced: %s",
				   strerror(errno))
		       : 0;
}

static size_t count_fresh(const struct landing_work *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->plan->action_count; i++)
		n += w->phase[i] == LANDING_FRESH && !is_deletion(&w->plan->actions[i]);
	return n;
}

static int stage(struct landing_work *w)
{
	bool together = count_fresh(w) >= SYNC_ALL_FROM;

	for (size_t i = 0; i < w->plan->action_count; i++) {
		bool later;
		int r = landing_stage_unlock(w, i, true);

		if (r != 0)
			return r;
		if (w->phase[i] != LANDING_FRESH || is_deletion(&w->plan->actions[i]))
			continue;
		r = go_on(w, landing_stage_path(w, i, !together, &later));
		if (r != 0)
			return r;
	}
	if (together && sync_all(w) < 0)
		return -EIO;
	return hit(w, "landing.staged");
}

static int put_one(struct landing_work *w, size_t i)
{
	const struct landing_action *a = &w->plan->actions[i];

	if (w->phase[i] == LANDING_FRESH && !is_deletion(a)) {
		bool later;
		int r = landing_stage_path(w, i, true, &later);

		if (r != 0 || w->phase[i] == LANDING_PUT)
			return r;
		if (later)
			return landing_path_no_folder(w, i);
	}
	if (w->phase[i] != (is_deletion(a) ? LANDING_FRESH : LANDING_STAGED))
		return 0;
	return landing_path_put(w, i);
}

static int put(struct landing_work *w)
{
	int r = 0;

	for (size_t i = w->plan->action_count; i-- > 0 && r == 0;)
		if (is_deletion(&w->plan->actions[i]))
			r = go_on(w, put_one(w, i));
	for (size_t i = 0; i < w->plan->action_count && r == 0; i++)
		if (!is_deletion(&w->plan->actions[i]))
			r = go_on(w, put_one(w, i));
	return r;
}

static bool in_same_folder(struct bytes a, struct bytes b)
{
	const char *x = memrchr(a.data, '/', a.len);
	const char *y = memrchr(b.data, '/', b.len);

	return bytes_equal(bytes_of(a.data, x ? (size_t)(x - (const char *)a.data) : 0),
			   bytes_of(b.data, y ? (size_t)(y - (const char *)b.data) : 0));
}

static int sync_folders(struct landing_work *w)
{
	const struct landing_action *a = w->plan->actions;
	int r = 0;

	if (w->plan->action_count >= SYNC_ALL_FROM)
		return sync_all(w);
	for (size_t i = 0; i < w->plan->action_count && r == 0; i++)
		if (i == 0 || !in_same_folder(a[i].path, a[i - 1].path))
			r = landing_path_sync(w, i);
	return r;
}

static int finish(struct landing_work *w)
{
	size_t count = w->plan->action_count;
	int r = 0;

	r = sync_folders(w);
	if (r == 0)
		r = landing_path_sync_blobs(w);
	if (r == 0)
		r = hit(w, "landing.put");
	for (size_t i = count; i-- > 0 && r == 0;) {
		r = landing_path_clean(w, i);
		if (r == 0)
			r = hit(w, "landing.clean");
	}
	for (size_t i = count; i-- > 0 && r == 0;) {
		r = landing_path_finish(w, i);
		if (r == LANDING_CONFLICT) /* too late to take anything back */
			r = error_set(w->err, -EACCES,
				      "landing: the mode of a folder cannot be set; land again "
				      "when it can be");
	}
	if (r == 0)
		r = sync_folders(w);
	if (r == 0 && w->lost && w->again)
		r = landing_back_sweep(w);
	return r == 0 ? hit(w, "landing.cleaned") : r;
}

/* What an earlier call put in and cleaned up after comes back from its blobs. */
static int undo_done(struct landing_work *w)
{
	struct landing_plan done = *w->plan;
	AUTO(landing_plan_free) struct landing_plan *reverse = NULL;
	AUTO_FREE struct landing_action *actions =
		calloc(w->plan->action_count + 1, sizeof(*actions));
	int r;

	if (!actions)
		return error_nomem(w->err);
	done.actions = actions;
	done.action_count = 0;
	done.out_count = 0;
	for (size_t i = 0; i < w->plan->action_count; i++)
		if (w->phase[i] == LANDING_DONE)
			actions[done.action_count++] = w->plan->actions[i];
	if (done.action_count == 0)
		return 0;
	r = landing_plan_reverse(&done, NULL, 0, NULL, 0, &reverse, w->err);
	if (r < 0)
		return r;
	return apply(w->ws, reverse, false, true, w->source, w->met, w->err);
}

static int roll_back(struct landing_work *w)
{
	size_t count = w->plan->action_count;
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		if (w->phase[i] == LANDING_STAGED)
			r = landing_back_path(w, i);
	for (size_t i = count; i-- > 0 && r == 0;)
		if (!is_deletion(&w->plan->actions[i]))
			r = landing_back_path(w, i);
	for (size_t i = 0; i < count && r == 0; i++)
		if (is_deletion(&w->plan->actions[i]))
			r = landing_back_path(w, i);
	for (size_t i = count; i-- > 0 && r == 0;)
		r = landing_stage_unlock(w, i, false) < 0 ? -EIO : 0;
	if (r == 0)
		r = undo_done(w);
	if (r == 0 && w->lost)
		r = landing_back_sweep(w);
	if (r == 0)
		r = sync_folders(w);
	return r == 0 ? hit(w, "landing.rolled_back") : r;
}

static void say_what_stands(struct error *err, const char *what)
{
	size_t len = err ? strlen(err->msg) : 0;

	if (err)
		utf8_printf(err->msg + len, sizeof(err->msg) - len, "; %s in the directory", what);
}

static int apply(int ws, const struct landing_plan *plan, bool again, bool best_effort,
		 const struct landing_source *source, struct landing_plan *met, struct error *err)
{
	AUTO_BUFFER encoded = {0};
	struct landing_work w = {.ws = ws,
				 .again = again,
				 .best_effort = best_effort,
				 .plan = plan,
				 .source = source,
				 .met = met,
				 .err = err};
	AUTO_FREE enum landing_phase *phase = calloc(plan->action_count + 1, sizeof(*phase));
	int r = landing_plan_encode(plan, &encoded);

	if (r < 0 || !phase)
		return error_nomem(err);
	landing_plan_id(buffer_bytes(&encoded), w.id);
	w.phase = phase;
	for (size_t k = 0; k < LANDING_DIRS_MAX; k++)
		w.dirs[k].fd = -1;
	r = settle(&w);
	if (r == 0)
		r = stage(&w);
	if (r == 0)
		r = put(&w);
	if (r == 0) {
		r = finish(&w);
		if (r < 0)
			say_what_stands(err, "it is not finished, but stands");
	} else if (!best_effort) {
		/* An error too leaves nothing half done where that can be had: the call is made
		 * again all the same. */
		struct error later = {0};
		int back;

		w.err = &later;
		back = roll_back(&w);
		if (r == LANDING_CONFLICT && back < 0) {
			r = back;
			if (err)
				*err = later;
		}
		if (r < 0)
			say_what_stands(err,
					back < 0 ? "part of it may stand" : "nothing of it stands");
	}
	landing_path_close(&w);
	return r;
}

/* ---- the door ---- */

static int by_path(const void *a, const void *b)
{
	return bytes_compare(((const struct landing_conflict *)a)->path,
			     ((const struct landing_conflict *)b)->path);
}

static int report_conflict(struct landing_plan *met, bool undo, struct landing_outcome *ret,
			   struct error *err)
{
	struct landing_outcome o = {0};
	int r;

	qsort(met->conflicts, met->conflict_count, sizeof(*met->conflicts), by_path);
	r = landing_conflicts_encode(met->conflicts, met->conflict_count, undo, &o.conflicts);
	if (r < 0)
		return error_set(err, r, "landing: the conflicts cannot be written down: %s",
				 strerror(-r));
	snprintf(o.why, sizeof(o.why), "%zu path%s: %s", met->conflict_count,
		 met->conflict_count == 1 ? "" : "s",
		 landing_conflict_why_text(met->conflicts[0].why));
	*ret = o;
	return LANDING_CONFLICT;
}

static int report_applied(const struct landing_plan *plan, struct bytes redo,
			  struct landing_outcome *ret, struct error *err)
{
	struct landing_outcome o = {.paths = plan->action_count};
	struct digest blob;
	int r;

	digest_of(redo, &blob);
	r = landing_result_encode(plan, &blob, &o.result);
	if (r < 0) {
		landing_outcome_free(&o);
		return error_set(err, r, "landing: its result cannot be written down: %s",
				 strerror(-r));
	}
	*ret = o;
	return LANDING_APPLIED;
}

static int check_workspace(int fd, const struct landing_plan *plan, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "landing: the workspace cannot be looked at: %s",
				 strerror(errno));
	if (st.st_dev != plan->ws_dev || st.st_ino != plan->ws_ino)
		return error_set_exit(err, -ESTALE, EXIT_STATUS_CONFLICT,
				      "landing: this is not the directory that the plan was made "
				      "for; open the one that the run began in");
	return 0;
}

int landing_apply(const struct landing_application *a, struct landing_outcome *ret,
		  struct error *err)
{
	AUTO(landing_plan_free) struct landing_plan *plan = NULL;
	AUTO(landing_plan_free) struct landing_plan *reverse = NULL;
	AUTO(landing_plan_free) struct landing_plan *shown = NULL;
	AUTO(landing_plan_free) struct landing_plan *met = calloc(1, sizeof(*met));
	int r = landing_plan_decode(a->redo, &plan, err);

	if (!met || !(met->arena = landing_arena_new()))
		return error_nomem(err);
	if (r == 0 && a->shown.len > 0)
		r = landing_conflicts_decode(a->shown, &shown, err);
	if (r == 0 && a->undo && !plan->undo)
		r = landing_plan_reverse(plan, shown ? shown->conflicts : NULL,
					 shown ? shown->conflict_count : 0, a->choices,
					 a->choice_count, &reverse, err);
	if (r == 0)
		r = check_workspace(a->workspace_fd, plan, err);
	if (r < 0)
		return r;
	const struct landing_plan *to_do = reverse ? reverse : plan;

	r = apply(a->workspace_fd, to_do, a->again, false, a->source, met, err);
	if (r < 0)
		return r;
	if (r == LANDING_CONFLICT && met->conflict_count > 0)
		return report_conflict(met, to_do->undo, ret, err);
	return report_applied(to_do, a->redo, ret, err);
}
