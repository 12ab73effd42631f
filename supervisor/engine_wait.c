/*
 * While a person decides about an effect: the attempt that waits is frozen, later ended without
 * charge, so that an approval may take a month and hold no process. The clocks are timers in the
 * rows; what they find when they fire decides.
 */
#include "supervisor/engine_private.h"

static void command(struct engine *e, const struct engine_run *r, uint32_t step,
		    enum engine_command_kind kind)
{
	const struct journal_attempt *a = engine_last_attempt(engine_run_row(e, r)->steps[step]);
	struct engine_command c = {.kind = kind,
				   .after_sync = kind == ENGINE_SUSPEND,
				   .run = r->id,
				   .step = step,
				   .attempt = a->number,
				   .attempt_id = a->id,
				   .now = true};

	e->ops.command(e->ops.ctx, &c);
}

static void record(struct engine *e, const struct engine_run *r, uint32_t step,
		   enum journal_type type, bool suspending, const char *why)
{
	struct journal_record rec = engine_record(r, step, type);

	rec.attempt = engine_last_attempt(engine_run_row(e, r)->steps[step])->number;
	if (suspending)
		JOURNAL_SET(&rec.p, uncharged, true);
	if (why)
		JOURNAL_SET(&rec.p, why, bytes_str(why));
	engine_emit(e, &rec);
}

struct clocks {
	const struct engine_run *run;
	uint32_t step;
	bool freeze, suspend;
};

static int look(const struct journal_timer *t, void *arg)
{
	struct clocks *c = arg;

	if (t->step != c->step || !journal_id_equal(&t->run, &c->run->id))
		return 0;
	c->freeze |= t->kind == JOURNAL_TIMER_FREEZE;
	c->suspend |= t->kind == JOURNAL_TIMER_SUSPEND;
	return 0;
}

static void begin(struct engine *e, struct engine_run *r, uint32_t step)
{
	struct clocks c = {.run = r, .step = step};
	struct engine_rules rules;

	if (r->wait_clock == ENGINE_CLOCK_ARMED)
		return;
	r->wait_clock = ENGINE_CLOCK_ARMED;
	engine_item_rules(e, r, &rules);
	journal_state_each_timer(e->rows, look, &c);
	if (rules.freeze_ns && !c.freeze)
		engine_timer_arm(e, r, step, JOURNAL_TIMER_FREEZE, e->now.wall_ns + rules.freeze_ns,
				 NULL);
	if (rules.suspend_ns && !c.suspend)
		engine_timer_arm(e, r, step, JOURNAL_TIMER_SUSPEND,
				 e->now.wall_ns + rules.suspend_ns, NULL);
}

static void end(struct engine *e, struct engine_run *r, uint32_t step)
{
	if (r->wait_clock == ENGINE_CLOCK_NONE)
		return;
	r->wait_clock = ENGINE_CLOCK_NONE;
	engine_timer_cancel(e, r, step, JOURNAL_TIMER_FREEZE, NULL);
	engine_timer_cancel(e, r, step, JOURNAL_TIMER_SUSPEND, NULL);
}

/* There is one attempt that lives at most: one writer a run. */
void engine_wait_push(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	for (uint32_t i = 0; i < row->step_count; i++) {
		const struct journal_attempt *a = engine_last_attempt(row->steps[i]);

		if (row->steps[i]->state != JOURNAL_STEP_S_ACTIVE || !engine_attempt_lives(a) ||
		    a->state == JOURNAL_ATTEMPT_S_STARTING || a->suspending)
			continue;
		if (row->state != JOURNAL_RUN_S_CANCELLING && engine_effect_waits(e, r, i, true)) {
			begin(e, r, i);
			continue;
		}
		end(e, r, i);
		if (a->state != JOURNAL_ATTEMPT_S_FROZEN)
			continue;
		record(e, r, i, JOURNAL_ATTEMPT_THAWED, false, NULL);
		command(e, r, i, ENGINE_THAW);
		engine_step_arm_deadline(e, r, i);
	}
}

void engine_wait_fired(struct engine *e, struct engine_run *r, uint32_t step,
		       enum journal_timer_kind kind)
{
	const struct journal_step *s = engine_run_row(e, r)->steps[step];
	const struct journal_attempt *a = engine_last_attempt(s);
	bool suspend = kind == JOURNAL_TIMER_SUSPEND;

	if (s->state != JOURNAL_STEP_S_ACTIVE || !engine_attempt_lives(a) ||
	    a->state == JOURNAL_ATTEMPT_S_STARTING || a->suspending ||
	    engine_run_row(e, r)->state == JOURNAL_RUN_S_CANCELLING ||
	    !engine_effect_waits(e, r, step, true) ||
	    (!suspend && a->state == JOURNAL_ATTEMPT_S_FROZEN))
		return;
	/* What was sent gets its outcome first: suspending would cut it off. */
	if (suspend && engine_effect_blocks(e, r, step, false)) {
		engine_timer_arm(e, r, step, JOURNAL_TIMER_SUSPEND,
				 e->now.wall_ns + ENGINE_SUSPEND_AGAIN_NS, NULL);
		return;
	}
	/* Waiting for a person counts toward no deadline. */
	engine_timer_cancel(e, r, step, JOURNAL_TIMER_STEP_DEADLINE, NULL);
	record(e, r, step, JOURNAL_ATTEMPT_FROZEN, suspend,
	       suspend ? "suspended while a person decides" : "a person decides");
	command(e, r, step, suspend ? ENGINE_SUSPEND : ENGINE_FREEZE);
}

void engine_wait_ended(struct engine *e, struct engine_run *r, uint32_t step)
{
	end(e, r, step);
}

void engine_wait_recover(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_attempt *a = engine_last_attempt(engine_run_row(e, r)->steps[step]);

	if (a->state == JOURNAL_ATTEMPT_S_FROZEN)
		command(e, r, step, a->suspending ? ENGINE_SUSPEND : ENGINE_FREEZE);
}
