/*
 * What is next: the scheduler. It looks at the rows of one run and makes what follows from them,
 * until nothing does. It remembers nothing of its own, so after a crash the same rows lead to the
 * same next thing.
 *
 * One active writer a run: a step starts only while no other is between ACTIVE and GATED_COMMIT,
 * the lowest position in the plan first, on all layers committed so far. Steps that wait for a
 * person or a clock do not hold the others.
 */
#include <stdlib.h>
#include "base/utf8.h"
#include "supervisor/engine_private.h"

/* ---- divergence ---- */

static bool lives(const struct journal_run *row)
{
	for (uint32_t i = 0; i < row->step_count; i++)
		if (engine_attempt_lives(engine_last_attempt(row->steps[i])))
			return true;
	return false;
}

static void kill_all(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	for (uint32_t i = 0; i < row->step_count; i++)
		if (engine_attempt_lives(engine_last_attempt(row->steps[i])))
			engine_step_kill(e, r, i, r->kill_now);
}

static void cancel_open_steps(struct engine *e, struct engine_run *r, const char *why)
{
	const struct journal_run *row = engine_run_row(e, r);

	for (uint32_t i = 0; i < row->step_count; i++) {
		engine_item_withdraw(e, r, i, why);
		if (!journal_step_final(row->steps[i]->state) &&
		    !engine_attempt_lives(engine_last_attempt(row->steps[i])))
			engine_step_cancel(e, r, i, why);
	}
}

static void diverged_accept(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_step *s = engine_run_row(e, r)->steps[step];
	struct journal_record rec = engine_record(r, step, JOURNAL_STEP_REUSED);
	/* Nothing of it ran yet: it runs as it is now described. Else what was recorded stands. */
	struct digest input = s->attempt_count == 0 ? s->diverged : s->input;

	JOURNAL_SET(&rec.p, input, input);
	JOURNAL_SET(&rec.p, why, bytes_str("a person said: accept"));
	engine_emit(e, &rec);
	if (s->attempt_count == 0)
		engine_run_drop_spec(r, step);
}

/* False while it holds up the run. */
static bool push_diverged(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_approval *item;
	const char *said = engine_item_diverged(e, r, step, &item);
	const struct journal_run *row = engine_run_row(e, r);
	struct journal_id fork;
	char why[200], text[JOURNAL_ID_TEXT_SIZE];
	int rc;

	if (!said) {
		const struct journal_approval *a = engine_item_of(e, &row->steps[step]->approval);

		if (a && a->state == JOURNAL_APPROVAL_S_APPROVED)
			engine_item_lapsed(e, r, a, "it answered another question");
		else if (!a)
			engine_item_want_diverged(e, r, step);
		return false;
	}
	if (strcmp(said, "accept") == 0) {
		engine_item_consume(e, r, item);
		diverged_accept(e, r, step);
		return true;
	}
	if (row->state != JOURNAL_RUN_S_RUNNING && row->state != JOURNAL_RUN_S_WAITING)
		return false;
	if (strcmp(said, "fork") == 0) {
		rc = engine_request_fork(e, r, row->steps[step]->key, &fork);
		if (rc < 0) {
			e->failed = rc;
			return false;
		}
		snprintf(why, sizeof(why), "forked into %s", journal_id_text(&fork, text));
		engine_item_consume(e, r, item);
		engine_emit_run(e, r, JOURNAL_RUN_CANCELLING, why);
		return false;
	}
	if (lives(row)) {
		kill_all(e, r);
		return false;
	}
	engine_effect_push(e, r);
	if (engine_effect_blocks(e, r, JOURNAL_NO_STEP, false))
		return false; /* what was sent gets its outcome first */
	utf8_printf(why, sizeof(why), "step '%s' diverged", row->steps[step]->name);
	if (item)
		engine_item_consume(e, r, item);
	cancel_open_steps(e, r, why);
	engine_timer_cancel_all(e, r);
	engine_emit_run(e, r, JOURNAL_RUN_FAILED, why);
	return false;
}

/* ---- dependents ---- */

static const struct journal_step *row_at(const struct engine *e, const struct engine_run *r,
					 uint32_t position)
{
	return r->row_of[position] == ENGINE_POSITION_NONE
		       ? NULL
		       : engine_run_row(e, r)->steps[r->row_of[position]];
}

/* The first need of an undeclared step that can never be committed; NULL if there is none.
 * *ret_ready: all are. */
static const struct journal_step *dead_need(const struct engine *e, const struct engine_run *r,
					    size_t position, bool *ret_ready)
{
	*ret_ready = true;
	for (size_t k = r->needs_at[position]; k < r->needs_at[position + 1]; k++) {
		const struct journal_step *s = row_at(e, r, r->needs[k]);

		if (!s || s->state != JOURNAL_STEP_S_COMMITTED)
			*ret_ready = false;
		if (s && journal_step_final(s->state) && s->state != JOURNAL_STEP_S_COMMITTED)
			return s;
	}
	return NULL;
}

static int declare(struct engine *e, struct engine_run *r, size_t position, uint32_t *ret)
{
	int rc = engine_step_new(e, r, &r->plan->steps[position], (uint32_t)position, ret);

	if (rc < 0)
		e->failed = rc;
	return rc;
}

/*
 * Steps whose needs can never be committed are declared and cancelled at once, so that their rows
 * say why; steps that ask a person first are declared as soon as their needs are committed, so that
 * the queue shows them early. In a run that nobody named here no step is about to start, so those
 * that the policy asks about are declared as well: a question starts nothing.
 */
static void declare_early(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	for (size_t i = 0; i < r->plan->step_count && !e->failed; i++) {
		const struct journal_step *dead;
		uint32_t step;
		char why[240];
		bool ready;

		if (r->row_of[i] != ENGINE_POSITION_NONE)
			continue;
		dead = dead_need(e, r, i, &ready);
		if (dead) {
			snprintf(why, sizeof(why), "needs '%s', which is %s", dead->name,
				 journal_step_state_name(dead->state));
			if (declare(e, r, i, &step) == 0)
				engine_emit_step(e, r, step, JOURNAL_STEP_CANCELLED, why);
		} else if (ready && row->state != JOURNAL_RUN_S_CREATED &&
			   (r->plan->steps[i].gate == PLAN_GATE_ASK ||
			    (!r->named && engine_step_asks(e, r, &r->plan->steps[i])))) {
			if (declare(e, r, i, &step) == 0)
				engine_step_push(e, r, step);
		}
	}
}

/* ---- starting ---- */

static bool startable(const struct engine *e, const struct journal_step *s)
{
	const struct journal_approval *a;

	if (s->state == JOURNAL_STEP_S_RUNNABLE)
		return true;
	if (s->state != JOURNAL_STEP_S_GATED)
		return false;
	a = engine_item_of(e, &s->approval);
	return a && a->state == JOURNAL_APPROVAL_S_APPROVED;
}

/* The lowest position that may start, declared or not. False if there is none. */
static bool next_step(const struct engine *e, const struct engine_run *r, bool *ret_declared,
		      size_t *ret)
{
	const struct journal_run *row = engine_run_row(e, r);
	size_t best = SIZE_MAX, position = SIZE_MAX;
	bool ready;

	for (uint32_t i = 0; i < row->step_count; i++) {
		const struct journal_step *s = row->steps[i];

		if (startable(e, s) && s->position < position) {
			best = i;
			position = s->position;
		}
	}
	*ret_declared = true;
	for (size_t i = 0; i < r->plan->step_count && i < position; i++) {
		if (r->row_of[i] != ENGINE_POSITION_NONE || dead_need(e, r, i, &ready) || !ready)
			continue;
		*ret_declared = false;
		best = i;
		break;
	}
	*ret = best;
	return best != SIZE_MAX;
}

static uint32_t live_attempts(const struct engine *e)
{
	uint32_t n = 0;

	for (size_t i = 0; i < e->run_count; i++) {
		const struct journal_run *row = engine_run_row(e, e->runs[i]);

		for (uint32_t k = 0; k < row->step_count; k++)
			n += engine_attempt_lives(engine_last_attempt(row->steps[k]));
	}
	return n;
}

static bool has_writer(const struct journal_run *row)
{
	for (uint32_t i = 0; i < row->step_count; i++)
		if (engine_step_writes(row->steps[i]))
			return true;
	return false;
}

static bool needs_lease(const struct journal_run *row)
{
	return row->base == JOURNAL_BASE_LIVE && engine_land(row) != JOURNAL_LAND_NEVER;
}

static void start_next(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_approval *a;
	bool declared;
	uint32_t step;
	size_t at;

	if ((row->state != JOURNAL_RUN_S_RUNNING && row->state != JOURNAL_RUN_S_WAITING) ||
	    has_writer(row) || !next_step(e, r, &declared, &at))
		return;
	r->capped = !r->named || e->held || live_attempts(e) >= e->limits.live_attempts_max;
	if (r->capped || (needs_lease(row) && !engine_land_lease_take(e, r)))
		return;
	if (!declared) {
		if (declare(e, r, at, &step) == 0)
			engine_step_push(e, r, step);
		return; /* it is looked at again: now it is RUNNABLE */
	}
	step = (uint32_t)at;
	if (row->state == JOURNAL_RUN_S_WAITING)
		engine_emit_run(e, r, JOURNAL_RUN_CONTINUED, NULL);
	a = engine_item_of(e, &row->steps[step]->approval);
	if (row->steps[step]->state == JOURNAL_STEP_S_GATED) {
		engine_item_consume(e, r, a);
		engine_step_make_runnable(e, r, step, NULL);
	}
	engine_step_start(e, r, step);
}

/* ---- ending ---- */

static void push_cancelling(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	bool landing;

	kill_all(e, r);
	engine_timer_cancel_all(e, r);
	cancel_open_steps(e, r, "the run was cancelled");
	engine_item_withdraw(e, r, JOURNAL_NO_STEP, "the run was cancelled");
	if (row->landing == JOURNAL_LANDING_S_CONFLICT)
		engine_land_drop(e, r, "the run was cancelled");
	engine_land_push(e, r);
	landing = !r->stuck && (row->landing == JOURNAL_LANDING_S_LANDING ||
				row->landing == JOURNAL_LANDING_S_UNDOING);
	engine_effect_push(e, r);
	if (!lives(row) && !landing && !engine_effect_blocks(e, r, JOURNAL_NO_STEP, false))
		engine_emit_run(e, r, JOURNAL_RUN_CANCELLED, row->why);
}

static void finish_failed(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_step *first = NULL;
	char why[240];

	if ((row->state != JOURNAL_RUN_S_RUNNING && row->state != JOURNAL_RUN_S_WAITING) ||
	    !engine_run_ended(e, r))
		return;
	for (uint32_t i = 0; i < row->step_count; i++) {
		const struct journal_step *s = row->steps[i];

		if (!journal_step_final(s->state))
			return;
		if (s->state != JOURNAL_STEP_S_COMMITTED &&
		    (!first || first->state == JOURNAL_STEP_S_CANCELLED))
			first = s;
	}
	if (!first || engine_effect_blocks(e, r, JOURNAL_NO_STEP, false))
		return;
	utf8_printf(why, sizeof(why), "step '%.*s' %s: %s", UTF8_SHORT(first->name, 80),
		    journal_step_state_name(first->state), first->why ? first->why : "");
	engine_timer_cancel_all(e, r);
	engine_emit_run(e, r, JOURNAL_RUN_FAILED, why);
}

/* ---- waiting ---- */

static unsigned waits_of_item(const struct journal_approval *a)
{
	switch (a->kind) {
	case JOURNAL_KIND_CONFLICT:
		return JOURNAL_WAIT_CONFLICT;
	case JOURNAL_KIND_EXHAUSTED:
		return JOURNAL_WAIT_EXHAUSTED;
	case JOURNAL_KIND_DIVERGED:
		return JOURNAL_WAIT_DIVERGED;
	case JOURNAL_KIND_STEP_GATE:
	case JOURNAL_KIND_STEP_COMMIT:
	case JOURNAL_KIND_LANDING:
	case JOURNAL_KIND_EFFECT:
		break;
	case JOURNAL_KIND_DOUBT:
		return JOURNAL_WAIT_DOUBT;
	}
	return JOURNAL_WAIT_APPROVAL;
}

static unsigned waits_of(const struct engine *e, const struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_approval *a = engine_item_of(e, &row->landing_approval);
	unsigned waits = r->lease_blocked ? JOURNAL_WAIT_LEASE : 0;

	if (a && a->state == JOURNAL_APPROVAL_S_OPEN)
		waits |= waits_of_item(a);
	for (uint32_t i = 0; i < row->step_count; i++) {
		a = engine_item_of(e, &row->steps[i]->approval);
		if (a && a->state == JOURNAL_APPROVAL_S_OPEN)
			waits |= waits_of_item(a);
		if (row->steps[i]->state == JOURNAL_STEP_S_BACKOFF)
			waits |= JOURNAL_WAIT_TIMER;
	}
	for (uint32_t i = 0; i < row->open_count; i++) {
		if (row->open[i]->state == JOURNAL_EFFECT_S_WAITING)
			waits |= JOURNAL_WAIT_APPROVAL;
		if (row->open[i]->state == JOURNAL_EFFECT_S_IN_DOUBT)
			waits |= JOURNAL_WAIT_DOUBT;
	}
	return waits;
}

static bool step_moves(const struct engine *e, const struct engine_run *r, uint32_t step)
{
	const struct journal_step *s = engine_run_row(e, r)->steps[step];
	const struct journal_attempt *a = engine_last_attempt(s);

	if (!engine_step_writes(s) || s->state == JOURNAL_STEP_S_GATED_COMMIT)
		return false;
	if (s->state == JOURNAL_STEP_S_SEALED && engine_effect_blocks(e, r, step, true))
		return engine_effect_blocks(e, r, step, false);
	return !(s->state == JOURNAL_STEP_S_ACTIVE && a->state == JOURNAL_ATTEMPT_S_FROZEN &&
		 !a->suspending);
}

static bool moves(const struct engine *e, const struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	if (r->capped || r->card_count || r->planning || (r->applying && !r->stuck))
		return true;
	for (uint32_t i = 0; i < row->step_count; i++)
		if (step_moves(e, r, i))
			return true;
	return false;
}

static void say_waiting(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	struct journal_record rec = engine_record(r, JOURNAL_NO_STEP, JOURNAL_RUN_WAITING);
	unsigned waits;

	if (row->state != JOURNAL_RUN_S_RUNNING && row->state != JOURNAL_RUN_S_WAITING)
		return;
	waits = moves(e, r) ? 0 : waits_of(e, r);
	if (waits == 0) {
		if (row->state == JOURNAL_RUN_S_WAITING)
			engine_emit_run(e, r, JOURNAL_RUN_CONTINUED, NULL);
	} else if (row->state == JOURNAL_RUN_S_RUNNING || row->waits != waits) {
		JOURNAL_SET(&rec.p, waits, waits);
		engine_emit(e, &rec);
	}
}

/* ---- the whole ---- */

static void push_live(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	bool held_up = false;

	if (row->state == JOURNAL_RUN_S_CREATED && r->named)
		engine_emit_run(e, r, JOURNAL_RUN_STARTED, NULL);
	for (uint32_t i = 0; i < row->step_count && !journal_run_final(row->state) && !e->failed;
	     i++) {
		if (!digest_is_zero(&row->steps[i]->diverged) && !push_diverged(e, r, i))
			held_up = true;
		else if (!journal_step_final(row->steps[i]->state))
			engine_step_push(e, r, i);
	}
	if (journal_run_final(row->state) || row->state == JOURNAL_RUN_S_CANCELLING || e->failed)
		return;
	engine_effect_push(e, r);
	engine_wait_push(e, r);
	if (e->failed)
		return;
	if (held_up) {
		if (row->landing != JOURNAL_LANDING_S_UNLANDED ||
		    engine_land(row) == JOURNAL_LAND_NEVER)
			engine_land_push(e, r); /* what is half done is not left so */
		return;
	}
	declare_early(e, r);
	if (!e->failed)
		start_next(e, r);
	engine_land_push(e, r);
	finish_failed(e, r);
}

static void push(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);
	uint64_t seq;

	r->lease_blocked = r->capped = false;
	do {
		seq = row->seq;
		if (row->state == JOURNAL_RUN_S_CANCELLING)
			push_cancelling(e, r);
		else if (journal_run_final(row->state)) {
			engine_effect_push(e, r); /* what is in doubt outlives its run */
			engine_land_push(e, r);
		} else
			push_live(e, r);
	} while (row->seq != seq && !e->failed);
	say_waiting(e, r);
	if (!engine_land_lease_needed(e, r))
		engine_land_lease_free(e, r);
}

/* Nothing of it can follow by itself, also not from what no record tells: its rows may leave
 * memory. */
static bool settled(const struct engine *e, const struct engine_run *r)
{
	return journal_run_at_rest(engine_run_row(e, r)) && !r->planning && !r->applying &&
	       !r->stuck && r->card_count == 0;
}

/* Those that wait for a place or a workspace, in the order of their ids, until nothing becomes free
 * any more. */
static void push_blocked(struct engine *e)
{
	do {
		e->wake = false;
		for (size_t i = 0; i < e->run_count && !e->failed; i++)
			if (e->runs[i]->capped || e->runs[i]->lease_blocked)
				push(e, e->runs[i]);
	} while (e->wake && !e->failed);
}

void engine_forget_settled(struct engine *e)
{
	for (size_t i = e->run_count; i-- > 0;)
		if (settled(e, e->runs[i]))
			engine_run_forget(e, e->runs[i]);
}

int engine_advance(struct engine *e, struct engine_run *r)
{
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	push(e, r);
	push_blocked(e);
	engine_forget_settled(e);
	return e->failed;
}

void engine_advance_all(struct engine *e)
{
	for (size_t i = 0; i < e->run_count; i++) {
		e->failed = 0; /* what fails in one run does not hold up the others */
		push(e, e->runs[i]);
	}
	e->failed = 0;
	push_blocked(e);
	engine_forget_settled(e);
}
