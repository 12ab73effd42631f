/*
 * From committed layers to the user's directory: the lease of a workspace, the redo plan, the item
 * that asks first, the apply, its conflicts, and the way back.
 *
 * Only one run at a time may change a workspace or start a step that sees it change: the lease.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/cbor.h"
#include "supervisor/engine_private.h"

enum { AGENCY_OBSERVE = 0, AGENCY_DRAFT = 1 };
/* Keys of landing-conflicts that are read here; the rest is landing's own. */
enum { CONFLICTS_LIST = 10, CONFLICT_PATH = 1 };

enum journal_land engine_land(const struct journal_run *run)
{
	if (run->agency <= AGENCY_OBSERVE)
		return JOURNAL_LAND_NEVER;
	if (run->agency == AGENCY_DRAFT && run->land == JOURNAL_LAND_AUTO)
		return JOURNAL_LAND_ASK;
	return run->land;
}

/* ---- the lease ---- */

static bool lands_now(const struct journal_run *row)
{
	return row->landing == JOURNAL_LANDING_S_LANDING ||
	       row->landing == JOURNAL_LANDING_S_UNDOING;
}

static bool has_lease(const struct engine *e, const struct journal_run *row)
{
	const struct journal_lease *l = journal_state_lease(e->rows, row->ws_dev, row->ws_ino);

	return l && l->held && journal_id_equal(&l->holder, &row->id);
}

bool engine_land_lease_needed(const struct engine *e, const struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	/* Given up by a person: what it left half done is told from what others do by its plan. */
	if (lands_now(row) && r->stuck && row->state == JOURNAL_RUN_S_CANCELLED)
		return false;
	if (lands_now(row) || r->planning)
		return true;
	if (!digest_is_zero(&r->planned) &&
	    (row->landing == JOURNAL_LANDING_S_CONFLICT || engine_land(row) == JOURNAL_LAND_AUTO))
		return true; /* it lands as soon as it may: kept from its last step on */
	if (row->base != JOURNAL_BASE_LIVE || engine_land(row) == JOURNAL_LAND_NEVER ||
	    journal_run_final(row->state))
		return false;
	for (uint32_t i = 0; i < row->step_count; i++) {
		const struct journal_step *s = row->steps[i];

		if (s->state != JOURNAL_STEP_S_GATED_COMMIT && engine_step_writes(s))
			return true;
	}
	return false;
}

static struct journal_record lease_record(const struct journal_run *row, enum journal_type type)
{
	struct journal_record rec = engine_record(NULL, JOURNAL_NO_STEP, type);

	JOURNAL_SET(&rec.p, ws_dev, row->ws_dev);
	JOURNAL_SET(&rec.p, ws_ino, row->ws_ino);
	JOURNAL_SET(&rec.p, holder, row->id);
	return rec;
}

bool engine_land_lease_take(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_lease *l = journal_state_lease(e->rows, row->ws_dev, row->ws_ino);
	struct journal_record rec;

	if (l && l->held) {
		r->lease_blocked = !journal_id_equal(&l->holder, &r->id);
		return !r->lease_blocked;
	}
	rec = lease_record(row, JOURNAL_LEASE_HELD);
	JOURNAL_SET(&rec.p, generation, (l ? l->generation : 0) + 1);
	engine_emit(e, &rec);
	r->lease_blocked = false;
	return true;
}

void engine_land_lease_free(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_lease *l = journal_state_lease(e->rows, row->ws_dev, row->ws_ino);
	struct journal_record rec;

	if (!l || !l->held || !journal_id_equal(&l->holder, &r->id))
		return;
	rec = lease_record(row, JOURNAL_LEASE_FREED);
	JOURNAL_SET(&rec.p, generation, l->generation);
	engine_emit(e, &rec);
	e->wake = true;
}

/* ---- commands ---- */

static void command_plan(struct engine *e, struct engine_run *r, bool undo,
			 const struct journal_id *answers)
{
	const struct journal_run *row = engine_run_row(e, r);
	struct engine_command c = {.kind = ENGINE_PLAN_LANDING,
				   .run = r->id,
				   .step = JOURNAL_NO_STEP,
				   .undo = undo};

	/* Planning only reads: where a person is to be asked, the question needs no name. */
	if (r->planning || r->stuck)
		return;
	/* Nor does a landing that a person was told is under way. */
	if (!r->named && !row->landing_wanted &&
	    (answers || undo || engine_land(row) != JOURNAL_LAND_ASK))
		return;
	if (answers) {
		c.answers = *answers;
		c.object = row->conflicts;
	}
	r->planning = true;
	e->ops.command(e->ops.ctx, &c);
}

static void command_apply(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	struct engine_command c = {.kind = ENGINE_APPLY_LANDING,
				   .after_sync = true,
				   .run = r->id,
				   .step = JOURNAL_NO_STEP,
				   .object = row->redo,
				   .undo = row->landing == JOURNAL_LANDING_S_UNDOING};

	if (r->applying || r->stuck)
		return;
	r->applying = true;
	e->ops.command(e->ops.ctx, &c);
}

/* The redo plan is on disk before the first path is touched; what allowed it is spent in the same
 * batch. */
static void start(struct engine *e, struct engine_run *r, bool undo, const struct digest *redo,
		  const struct journal_approval *item)
{
	struct journal_record rec =
		engine_record(r, JOURNAL_NO_STEP,
			      undo ? JOURNAL_UNDO_STARTED : JOURNAL_LANDING_STARTED);

	JOURNAL_SET(&rec.p, redo, *redo);
	engine_emit(e, &rec);
	if (item)
		engine_item_consume(e, r, item);
	r->planned = (struct digest){0};
	command_apply(e, r);
}

void engine_land_drop(struct engine *e, struct engine_run *r, const char *why)
{
	engine_emit_run(e, r, JOURNAL_LANDING_DROPPED, why);
	r->planned = (struct digest){0};
	r->stuck = false;
}

/* ---- what is next ---- */

static bool all_committed(const struct engine *e, const struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	if (!engine_run_ended(e, r))
		return false;
	for (uint32_t i = 0; i < row->step_count; i++)
		if (row->steps[i]->state != JOURNAL_STEP_S_COMMITTED ||
		    !digest_is_zero(&row->steps[i]->diverged))
			return false;
	return true;
}

static void push_unlanded(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_approval *a = engine_item_of(e, &row->landing_approval);
	struct digest redo = a ? a->object : r->planned;

	if (a && a->state != JOURNAL_APPROVAL_S_APPROVED)
		return;
	if (!a && engine_item_pending(r, JOURNAL_NO_STEP, JOURNAL_KIND_LANDING))
		return; /* who was to be asked is asked, also if the dial was turned since */
	if (!a && engine_land(row) == JOURNAL_LAND_ASK)
		redo = (struct digest){
			0}; /* never asked, or the answer lapsed: planned and asked anew */
	if (digest_is_zero(&redo))
		command_plan(e, r, false, NULL);
	else if (engine_land_lease_take(e, r))
		start(e, r, false, &redo, a);
}

static void push_conflict(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_approval *a = engine_item_of(e, &row->landing_approval);
	struct digest redo = r->planned;

	if (r->stuck)
		return;
	if (!a) {
		r->planned = (struct digest){0};
		engine_item_want(e, r, JOURNAL_NO_STEP, JOURNAL_KIND_CONFLICT, &row->conflicts);
	} else if (a->state == JOURNAL_APPROVAL_S_APPROVED) {
		struct journal_id id = a->id;

		if (digest_is_zero(&redo))
			command_plan(e, r, row->conflict_undo, &id);
		else if (engine_land_lease_take(e, r))
			start(e, r, row->conflict_undo, &redo, a);
	}
}

/* A run that is over lands only when a person says so, or goes on with what it began. */
static bool may_land(const struct engine *e, const struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	if (journal_run_final(row->state))
		return row->landing_wanted || !engine_id_is_zero(&row->landing_approval);
	if (row->state == JOURNAL_RUN_S_PAUSED || row->state == JOURNAL_RUN_S_CANCELLING)
		return false;
	return engine_land(row) != JOURNAL_LAND_NEVER && all_committed(e, r);
}

static void succeed(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	if (row->state != JOURNAL_RUN_S_WAITING && row->state != JOURNAL_RUN_S_RUNNING)
		return;
	if (row->landing == JOURNAL_LANDING_S_LANDED || row->landing == JOURNAL_LANDING_S_DROPPED ||
	    row->landing == JOURNAL_LANDING_S_UNDONE || engine_land(row) == JOURNAL_LAND_NEVER)
		if (all_committed(e, r))
			engine_emit_run(e, r, JOURNAL_RUN_SUCCEEDED, NULL);
}

/* The dial was turned down to where nothing lands while a person was asked, or an answer waited for
 * the workspace: that answer is wanted no more. What waits with a conflict of its own is dropped,
 * since only an answer leads on from there. */
static void withhold(struct engine *e, struct engine_run *r)
{
	static const char why[] = "at the run's level nothing lands";
	const struct journal_run *row = engine_run_row(e, r);

	if (journal_run_final(row->state) || engine_land(row) != JOURNAL_LAND_NEVER ||
	    lands_now(row))
		return;
	engine_item_withdraw(e, r, JOURNAL_NO_STEP, why);
	r->planned = (struct digest){0};
	if (row->landing == JOURNAL_LANDING_S_CONFLICT)
		engine_land_drop(e, r, why);
}

void engine_land_push(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	withhold(e, r);
	switch (row->landing) {
	case JOURNAL_LANDING_S_UNLANDED:
		if (may_land(e, r))
			push_unlanded(e, r);
		break;
	case JOURNAL_LANDING_S_LANDING:
	case JOURNAL_LANDING_S_UNDOING:
		/* Half of it stands: it goes on whoever started this process.
		 */
		command_apply(e, r);
		break;
	case JOURNAL_LANDING_S_CONFLICT:
		if (row->state != JOURNAL_RUN_S_PAUSED && row->state != JOURNAL_RUN_S_CANCELLING)
			push_conflict(e, r);
		break;
	case JOURNAL_LANDING_S_LANDED:
	case JOURNAL_LANDING_S_DROPPED:
	case JOURNAL_LANDING_S_UNDONE:
	case JOURNAL_LANDING_S_COUNT:
		break;
	}
	succeed(e, r);
}

bool engine_forget_plans(struct engine *e)
{
	for (size_t i = 0; i < e->run_count; i++)
		for (size_t k = 0; k < e->runs[i]->card_count; k++)
			if (e->runs[i]->cards[k].kind == JOURNAL_KIND_LANDING)
				return false;
	for (size_t i = 0; i < e->run_count; i++)
		e->runs[i]->planned = (struct digest){0};
	return true;
}

/* ---- outcomes ---- */

/* It could neither go on nor back: not again before a person looked. Supervisors that readers start
 * try it each and find the same: that is one record. */
static void stuck(struct engine *e, struct engine_run *r, const char *why)
{
	const struct journal_run *row = engine_run_row(e, r);

	why = why && *why ? why : "the landing failed";
	r->stuck = true;
	r->planned = (struct digest){0};
	if (r->named || !row->landing_failed || strcmp(row->landing_failed, why) != 0)
		engine_emit_run(e, r, JOURNAL_LANDING_FAILED, why);
	if (row->state == JOURNAL_RUN_S_RUNNING || row->state == JOURNAL_RUN_S_WAITING)
		engine_emit_run(e, r, JOURNAL_RUN_PAUSED, why);
}

int engine_card_failed(struct engine *e, struct engine_now now, const struct journal_id *run,
		       enum journal_approval_kind kind, const struct digest *action,
		       const char *why)
{
	struct engine_run *r;

	engine_enter(e, now);
	r = engine_run_cached(e, run);
	if (!r || !engine_item_forget(r, JOURNAL_NO_STEP, kind, action))
		return -ESTALE;
	stuck(e, r, why);
	return engine_advance(e, r);
}

static void conflict(struct engine *e, struct engine_run *r, bool undo,
		     const struct digest *conflicts, const char *why)
{
	struct journal_record rec =
		engine_record(r, JOURNAL_NO_STEP,
			      undo ? JOURNAL_UNDO_CONFLICT : JOURNAL_LANDING_CONFLICT);

	JOURNAL_SET(&rec.p, conflicts, *conflicts);
	if (why)
		JOURNAL_SET(&rec.p, why, bytes_str(why));
	engine_emit(e, &rec);
	r->planned = (struct digest){0};
}

/* A plan without conflicts: ask, or begin as soon as the workspace is free. */
static void planned(struct engine *e, struct engine_run *r, const struct digest *redo,
		    bool answered)
{
	struct engine_rules rules;

	r->planned = *redo;
	if (answered || engine_land(engine_run_row(e, r)) != JOURNAL_LAND_ASK)
		return;
	engine_item_rules(e, r, &rules);
	if (rules.unattended_deny)
		engine_land_drop(e, r, "the policy denies what would ask a person");
	else
		engine_item_want(e, r, JOURNAL_NO_STEP, JOURNAL_KIND_LANDING, redo);
}

int engine_landing_planned(struct engine *e, struct engine_now now, const struct journal_id *run,
			   const struct digest *redo, const struct digest *conflicts, bool nothing,
			   const char *why)
{
	struct engine_run *r;
	const struct journal_run *row;
	const struct journal_approval *a;
	bool undo;

	engine_enter(e, now);
	r = engine_run_cached(e, run);
	if (!r || !r->planning)
		return -ESTALE;
	r->planning = false;
	row = engine_run_row(e, r);
	undo = row->landing == JOURNAL_LANDING_S_CONFLICT && row->conflict_undo;
	a = engine_item_of(e, &row->landing_approval);
	if ((row->landing != JOURNAL_LANDING_S_UNLANDED &&
	     row->landing != JOURNAL_LANDING_S_CONFLICT) ||
	    row->state == JOURNAL_RUN_S_CANCELLING || row->state == JOURNAL_RUN_S_PAUSED ||
	    (row->landing == JOURNAL_LANDING_S_UNLANDED && !may_land(e, r)) ||
	    (row->landing == JOURNAL_LANDING_S_CONFLICT &&
	     (!a || a->state != JOURNAL_APPROVAL_S_APPROVED)))
		return engine_advance(e, r); /* cancelled, paused, lapsed or withheld meanwhile */
	if (conflicts && !digest_is_zero(conflicts)) {
		if (a)
			engine_item_lapsed(e, r, a, "the directory changed again");
		conflict(e, r, undo, conflicts, why);
	} else if (nothing) {
		if (a)
			engine_item_consume(e, r, a);
		engine_land_drop(e, r, "nothing to land");
	} else if (redo && !digest_is_zero(redo)) {
		planned(e, r, redo, a != NULL);
	} else {
		stuck(e, r, why);
	}
	return engine_advance(e, r);
}

/* Nobody but the failure paused it: with that it is over. */
static bool held_by_failure(const struct journal_run *row)
{
	return row->state == JOURNAL_RUN_S_PAUSED && row->landing_failed && row->why &&
	       strcmp(row->why, row->landing_failed) == 0;
}

int engine_landing_done(struct engine *e, struct engine_now now, const struct journal_id *run,
			bool undo, const struct digest *result, const struct digest *conflicts,
			uint64_t paths, const char *why)
{
	struct engine_run *r;
	const struct journal_run *row;
	struct journal_record rec;
	bool held;

	engine_enter(e, now);
	r = engine_run_cached(e, run);
	row = r ? engine_run_row(e, r) : NULL;
	if (!r || !r->applying ||
	    row->landing != (undo ? JOURNAL_LANDING_S_UNDOING : JOURNAL_LANDING_S_LANDING))
		return -ESTALE;
	r->applying = false;
	held = held_by_failure(row);
	if (result && !digest_is_zero(result)) {
		rec = engine_record(r, JOURNAL_NO_STEP, undo ? JOURNAL_UNDONE : JOURNAL_LANDED);
		JOURNAL_SET(&rec.p, result, *result);
		JOURNAL_SET(&rec.p, paths, paths);
		if (why)
			JOURNAL_SET(&rec.p, why, bytes_str(why));
		engine_emit(e, &rec);
	} else if (conflicts && !digest_is_zero(conflicts)) {
		conflict(e, r, undo, conflicts, why);
	} else {
		stuck(e, r, why);
		held = false;
	}
	if (held)
		engine_emit_run(e, r, JOURNAL_RUN_RESUMED, NULL);
	return engine_advance(e, r);
}

int engine_land_each_conflict(struct bytes blob, int (*fn)(struct bytes path, void *arg), void *arg)
{
	struct cbor_reader c = cbor_reader(blob);
	struct cbor_map_iter top, one;
	uint64_t key;
	int rc = 0;

	cbor_r_map(&c, &top);
	while (cbor_r_key(&c, &top, &key)) {
		size_t n = key == CONFLICTS_LIST ? cbor_r_array(&c) : 0;

		if (key != CONFLICTS_LIST)
			cbor_r_skip(&c);
		for (size_t i = 0; i < n && !c.error; i++) {
			cbor_r_map(&c, &one);
			while (cbor_r_key(&c, &one, &key)) {
				struct bytes path;

				if (key != CONFLICT_PATH) {
					cbor_r_skip(&c);
					continue;
				}
				path = cbor_r_bytes(&c);
				if (!c.error && rc == 0)
					rc = fn(path, arg);
			}
		}
	}
	return c.error ? c.error : rc;
}

/* ---- a person's words ---- */

/* What a run's landing has come to, and what can still be done. */
static const char *why_not_landed_again(enum journal_landing_state s)
{
	switch (s) {
	case JOURNAL_LANDING_S_LANDED:
		return "its changes are in the directory already; holdfast undo takes them back";
	case JOURNAL_LANDING_S_UNDOING:
	case JOURNAL_LANDING_S_UNDONE:
		return "it was undone; start the run again, or take the changes from holdfast diff";
	case JOURNAL_LANDING_S_DROPPED:
		return "it was denied or had nothing to land; start the run again, or take the "
		       "changes from holdfast diff";
	case JOURNAL_LANDING_S_UNLANDED:
	case JOURNAL_LANDING_S_LANDING:
	case JOURNAL_LANDING_S_CONFLICT:
	case JOURNAL_LANDING_S_COUNT:
		break;
	}
	return "it goes on; wait for it";
}

static const char *why_nothing_to_undo(enum journal_landing_state s)
{
	switch (s) {
	case JOURNAL_LANDING_S_UNDONE:
		return "it was taken back already; holdfast log says when";
	case JOURNAL_LANDING_S_LANDING:
		return "it is landing just now; wait for it, then undo";
	case JOURNAL_LANDING_S_CONFLICT:
		return "its landing met a conflict and changed nothing; answer it, or deny it to "
		       "drop "
		       "the landing";
	case JOURNAL_LANDING_S_UNLANDED:
	case JOURNAL_LANDING_S_DROPPED:
	case JOURNAL_LANDING_S_LANDED:
	case JOURNAL_LANDING_S_UNDOING:
	case JOURNAL_LANDING_S_COUNT:
		break;
	}
	return "nothing of it is in the directory; holdfast diff shows what it changed";
}

/* What failed half way had the workspace, unless it was given up: then others may work there. */
static int take_again(struct engine *e, struct engine_run *r, const char *verb, struct error *err)
{
	if (!lands_now(engine_run_row(e, r)) || engine_land_lease_take(e, r))
		return 0;
	return error_set_exit(err, -EBUSY, EXIT_STATUS_CONFLICT,
			      "%s: another run works in this directory; wait for it or cancel it",
			      verb);
}

bool engine_land_give_up(struct engine *e, struct engine_run *r, uint32_t uid)
{
	static const char why[] = "a person gave it up after it failed";
	const struct journal_run *row = engine_run_row(e, r);

	if (!r->stuck || !row->landing_failed || (lands_now(row) && !has_lease(e, row)))
		return false;
	if (lands_now(row)) {
		engine_land_lease_free(e, r);
		return true;
	}
	engine_act_as(e, JOURNAL_ACTOR_PERSON, uid);
	engine_item_withdraw(e, r, JOURNAL_NO_STEP, why);
	engine_land_drop(e, r, why);
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	return true;
}

bool engine_land_needs_word(const struct engine *e, const struct journal_run *row)
{
	return row->landing_failed && !(lands_now(row) && has_lease(e, row));
}

int engine_run_land(struct engine *e, struct engine_now now, const struct journal_id *run,
		    uint32_t uid, struct error *err)
{
	struct engine_run *r;
	const struct journal_run *row;
	int rc;

	engine_enter(e, now);
	rc = engine_run_find(e, run, &r, err);
	if (rc < 0)
		return rc;
	row = engine_run_row(e, r);
	if (row->state == JOURNAL_RUN_S_PAUSED && row->landing_failed &&
	    row->agency > AGENCY_OBSERVE)
		return engine_run_resume(e, now, run, uid, err); /* which tries it again */
	if (!journal_run_final(row->state) && r->plan && r->plan->outside_driver)
		return error_set_exit(err, -EBUSY, EXIT_STATUS_CONFLICT,
				      "land: the run is not over; it lands when its driver ends it "
				      "('holdfast step --run NAME --end'), or cancel it first");
	if (!journal_run_final(row->state) && !engine_id_is_zero(&row->landing_approval))
		return error_set_exit(err, -EBUSY, EXIT_STATUS_CONFLICT,
				      "land: its landing waits for a person's answer; 'holdfast "
				      "queue' shows what is asked, and what to mend before");
	if (!journal_run_final(row->state))
		return error_set_exit(
			err, -EBUSY, EXIT_STATUS_CONFLICT,
			"land: the run is not over; it lands by itself, or cancel it first");
	if (row->agency <= AGENCY_OBSERVE)
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "land: at the level observe there is nothing to land");
	if (row->landing != JOURNAL_LANDING_S_UNLANDED && !lands_now(row) &&
	    row->landing != JOURNAL_LANDING_S_CONFLICT)
		return error_set_exit(err, -EALREADY, EXIT_STATUS_CONFLICT,
				      "land: its landing is over: %s",
				      why_not_landed_again(row->landing));
	if (engine_stack(row, NULL, NULL) == 0)
		return error_set_exit(err, -ENODATA, EXIT_STATUS_CONFLICT,
				      "land: no committed step changed a file; there is nothing to "
				      "land");
	rc = take_again(e, r, "land", err);
	if (rc < 0)
		return rc;
	r->named = true;
	r->stuck = false;
	if (row->landing == JOURNAL_LANDING_S_UNLANDED && !row->landing_wanted) {
		engine_act_as(e, JOURNAL_ACTOR_PERSON, uid);
		engine_emit_run(e, r, JOURNAL_LANDING_WANTED, NULL);
	}
	return engine_advance(e, r);
}

int engine_run_undo(struct engine *e, struct engine_now now, const struct journal_id *run,
		    uint32_t uid, struct error *err)
{
	struct engine_run *r;
	const struct journal_run *row;
	struct digest redo;
	int rc;

	engine_enter(e, now);
	rc = engine_run_find(e, run, &r, err);
	if (rc < 0)
		return rc;
	row = engine_run_row(e, r);
	if (row->landing == JOURNAL_LANDING_S_UNDOING ||
	    (row->landing == JOURNAL_LANDING_S_CONFLICT && row->conflict_undo)) {
		rc = take_again(e, r, "undo", err);
		if (rc < 0)
			return rc;
		r->named = true;
		r->stuck = false;
		return engine_advance(e, r);
	}
	if (row->landing != JOURNAL_LANDING_S_LANDED)
		return error_set_exit(err, -EALREADY, EXIT_STATUS_CONFLICT,
				      "undo: there is nothing to take back: %s",
				      why_nothing_to_undo(row->landing));
	if (!engine_land_lease_take(e, r))
		return error_set_exit(
			err, -EBUSY, EXIT_STATUS_CONFLICT,
			"undo: another run works in this directory; wait for it or cancel it");
	r->named = true;
	r->stuck = false;
	engine_act_as(e, JOURNAL_ACTOR_PERSON, uid);
	redo = row->redo;
	start(e, r, true, &redo, NULL);
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	return engine_advance(e, r);
}

const char *engine_land_stuck(const struct engine *e, const struct journal_id *run)
{
	const struct journal_run *row = journal_state_run(e->rows, run);
	const struct engine_run *r = engine_run_cached(e, run);

	/* While it is tried again nothing is said of the last time. */
	return !row || (r && !r->stuck) ? NULL : row->landing_failed;
}
