/*
 * The engine's door: making one, records, time, recovery. Deciding is in engine_advance.c and below
 * it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "supervisor/engine_private.h"

enum {
	STARTS_WITHOUT_PROGRESS_MAX = 3,
	LIVE_ATTEMPTS_DEFAULT = 64,
	LOST_DEFAULT = 10,
	EFFECTS_OPEN_DEFAULT = 64,
	EFFECTS_DENIED_DEFAULT = 1000,
};

int engine_new(const struct journal_state *rows, const struct engine_ops *ops,
	       const struct engine_limits *limits, struct engine **ret)
{
	struct engine *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->rows = rows;
	e->ops = *ops;
	if (limits)
		e->limits = *limits;
	if (!e->limits.live_attempts_max)
		e->limits.live_attempts_max = LIVE_ATTEMPTS_DEFAULT;
	if (!e->limits.lost_max)
		e->limits.lost_max = LOST_DEFAULT;
	if (!e->limits.effects_open_max)
		e->limits.effects_open_max = EFFECTS_OPEN_DEFAULT;
	if (!e->limits.effects_denied_max)
		e->limits.effects_denied_max = EFFECTS_DENIED_DEFAULT;
	e->start_all = true;
	*ret = e;
	return 0;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < e->run_count; i++)
		engine_run_free(e->runs[i]);
	free(e->runs);
	free(e);
}

void engine_enter(struct engine *e, struct engine_now now)
{
	e->now = now;
	e->failed = 0;
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
}

void engine_act_as(struct engine *e, enum journal_actor actor, uint32_t uid)
{
	e->actor = actor;
	e->actor_uid = uid;
}

/* ---- records ---- */

struct journal_record engine_record(const struct engine_run *r, uint32_t step,
				    enum journal_type type)
{
	struct journal_record rec = {.step = step, .type = type};

	if (r)
		rec.run = r->id;
	return rec;
}

void engine_emit(struct engine *e, struct journal_record *rec)
{
	rec->actor = e->actor;
	rec->actor_uid = e->actor_uid;
	e->ops.record(e->ops.ctx, rec);
}

void engine_emit_run(struct engine *e, const struct engine_run *r, enum journal_type type,
		     const char *why)
{
	engine_emit_step(e, r, JOURNAL_NO_STEP, type, why);
}

void engine_emit_step(struct engine *e, const struct engine_run *r, uint32_t step,
		      enum journal_type type, const char *why)
{
	struct journal_record rec = engine_record(r, step, type);

	if (why)
		JOURNAL_SET(&rec.p, why, bytes_str(why));
	engine_emit(e, &rec);
}

/* ---- attempts ---- */

const struct journal_attempt *engine_last_attempt(const struct journal_step *s)
{
	return s->attempt_count ? &s->attempts[s->attempt_count - 1] : NULL;
}

bool engine_attempt_lives(const struct journal_attempt *a)
{
	return a && (a->state == JOURNAL_ATTEMPT_S_STARTING || a->state == JOURNAL_ATTEMPT_S_LIVE ||
		     a->state == JOURNAL_ATTEMPT_S_FROZEN);
}

bool engine_find_attempt(struct engine *e, const struct journal_id *attempt,
			 struct engine_run **ret_run, uint32_t *ret_step)
{
	for (size_t i = 0; i < e->run_count; i++) {
		const struct journal_run *row = engine_run_row(e, e->runs[i]);

		for (uint32_t k = 0; k < row->step_count; k++) {
			const struct journal_attempt *a;

			if (journal_step_final(row->steps[k]->state))
				continue;
			a = engine_last_attempt(row->steps[k]);
			if (a && journal_id_equal(&a->id, attempt)) {
				*ret_run = e->runs[i];
				*ret_step = k;
				return true;
			}
		}
	}
	return false;
}

/* ---- time ---- */

struct due {
	struct engine *e;
	struct engine_run *run;
	struct journal_timer timer;
};

/* The first timer whose run can be read: one that cannot must not hold up the others. */
static int first_timer(const struct journal_timer *t, void *arg)
{
	struct due *d = arg;

	d->timer = *t;
	d->run = engine_run_get(d->e, &t->run);
	d->e->failed = 0;
	return d->run != NULL;
}

static void fire(struct engine *e, struct engine_run *r, const struct journal_timer *t)
{
	const struct journal_run *row = engine_run_row(e, r);
	struct journal_record rec = engine_record(r, t->step, JOURNAL_TIMER_FIRED);
	const struct journal_approval *a;

	JOURNAL_SET(&rec.p, timer, t->id);
	engine_emit(e, &rec);
	switch (t->kind) {
	case JOURNAL_TIMER_BACKOFF:
		if (row->steps[t->step]->state == JOURNAL_STEP_S_BACKOFF)
			engine_emit_step(e, r, t->step, JOURNAL_STEP_RUNNABLE, NULL);
		break;
	case JOURNAL_TIMER_STEP_DEADLINE: /* the row's deadline_ns says it: engine_advance */
		break;
	case JOURNAL_TIMER_DECIDE_BY:
		a = engine_item_of(e, &t->approval);
		if (a && a->state == JOURNAL_APPROVAL_S_OPEN)
			engine_item_expired(e, r, a);
		break;
	case JOURNAL_TIMER_EXECUTE_BY:
		a = engine_item_of(e, &t->approval);
		if (a && a->state == JOURNAL_APPROVAL_S_APPROVED)
			engine_item_lapsed(e, r, a, "not carried out in time");
		break;
	case JOURNAL_TIMER_FREEZE:
	case JOURNAL_TIMER_SUSPEND:
		engine_wait_fired(e, r, t->step, t->kind);
		break;
	case JOURNAL_TIMER_KEY_WINDOW: /* engine_effect_doubt looks at the clock */
		break;
	}
}

int64_t engine_tick(struct engine *e, struct engine_now now)
{
	struct due d = {.e = e};

	engine_enter(e, now);
	while (journal_state_each_timer(e->rows, first_timer, &d)) {
		if (d.timer.due_ns > now.wall_ns)
			return d.timer.due_ns;
		fire(e, d.run, &d.timer);
		(void)engine_advance(
			e, d.run); /* what failed is tried again by the next input of that run */
		e->failed = 0;
	}
	return 0;
}

/* ---- recovery ---- */

static const struct engine_found *find_found(const struct engine_found *found, size_t count,
					     const struct journal_id *attempt)
{
	for (size_t i = 0; i < count; i++)
		if (journal_id_equal(&found[i].attempt, attempt))
			return &found[i];
	return NULL;
}

static void adopt(struct engine *e, struct engine_run *r, uint32_t step,
		  const struct journal_attempt *a)
{
	uint32_t number = a->number;
	bool starting = a->state == JOURNAL_ATTEMPT_S_STARTING;
	struct journal_record rec = engine_record(r, step, JOURNAL_ATTEMPT_ADOPTED);

	rec.attempt = number;
	engine_emit(e, &rec);
	if (!starting)
		return;
	rec = engine_record(r, step, JOURNAL_ATTEMPT_LIVE);
	rec.attempt = number;
	engine_emit(e, &rec);
}

/* What became of the attempt that the last supervisor left behind.
 */
static void recover_step(struct engine *e, struct engine_run *r, uint32_t step,
			 const struct engine_found *found, size_t count)
{
	const struct journal_step *s = engine_run_row(e, r)->steps[step];
	const struct journal_attempt *a = engine_last_attempt(s);
	const struct engine_found *f = a ? find_found(found, count, &a->id) : NULL;

	if (engine_attempt_lives(a)) {
		if (f && f->live) {
			adopt(e, r, step, a);
			engine_wait_recover(e, r, step);
		} else if (!f)
			engine_step_lost(e, r, step, "the keeper or the machine went away");
	} else if (a && a->state == JOURNAL_ATTEMPT_S_EXITED && s->state == JOURNAL_STEP_S_ACTIVE &&
		   memcmp(a->boot_id, e->boot_id, sizeof(a->boot_id)) != 0) {
		engine_step_lost(e, r, step,
				 "its layer was not sealed before the machine went down");
	}
}

struct recovery {
	struct engine *e;
	struct journal_id *ids;
	size_t count, cap;
};

static int collect(const struct journal_run *run, void *arg)
{
	struct recovery *c = arg;
	struct journal_id *grown;

	if (c->count == c->cap) {
		grown = reallocarray(c->ids, c->cap * 2 + 16, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		c->ids = grown;
		c->cap = c->cap * 2 + 16;
	}
	c->ids[c->count++] = run->id;
	return 0;
}

static bool crash_loop(const struct engine *e, const struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	if (row->state != JOURNAL_RUN_S_RUNNING ||
	    row->starts_without_progress < STARTS_WITHOUT_PROGRESS_MAX)
		return false;
	for (uint32_t i = 0; i < row->step_count; i++)
		if (engine_attempt_lives(engine_last_attempt(row->steps[i])))
			return false; /* a pause would not stop it */
	return true;
}

static int recover_run(struct engine *e, const struct journal_id *id,
		       const struct engine_found *found, size_t count, bool start)
{
	struct engine_run *r = engine_run_get(e, id);

	if (!r)
		return e->failed;
	for (uint32_t i = 0; i < engine_run_row(e, r)->step_count; i++)
		if (!journal_step_final(engine_run_row(e, r)->steps[i]->state))
			recover_step(e, r, i, found, count);
	if (start && crash_loop(e, r))
		engine_emit_run(e, r, JOURNAL_RUN_PAUSED,
				"3 starts of the supervisor without progress; look at the log, "
				"then resume");
	return 0;
}

int engine_recover(struct engine *e, struct engine_now now, const uint8_t boot_id[16],
		   const struct engine_found *found, size_t count, bool start, struct error *err)
{
	struct recovery c = {.e = e};
	int rc;

	engine_enter(e, now);
	e->start_all = start;
	memcpy(e->boot_id, boot_id, sizeof(e->boot_id));
	rc = journal_state_each_run(e->rows, collect, &c);
	for (size_t i = 0; rc == 0 && i < c.count; i++) {
		int one = recover_run(e, &c.ids[i], found, count, start);
		char text[JOURNAL_ID_TEXT_SIZE];

		if (one < 0) /* left as it is: the others go on */
			error_set(err, one,
				  "run %.8s: its plan cannot be read; `holdfast verify` says more",
				  journal_id_text(&c.ids[i], text));
		e->failed = 0;
	}
	free(c.ids);
	if (rc < 0)
		return error_set(err, rc, "the runs cannot be read");
	engine_advance_all(e);
	return 0;
}

/* ---- questions ---- */

bool engine_run_named(const struct engine *e, const struct journal_id *run)
{
	const struct engine_run *r = engine_run_cached(e, run);

	return r && r->named;
}

static int backoff_or_deadline(const struct journal_timer *t, void *arg)
{
	return (t->kind == JOURNAL_TIMER_BACKOFF || t->kind == JOURNAL_TIMER_STEP_DEADLINE) &&
	       engine_run_named(arg, &t->run);
}

bool engine_busy(const struct engine *e)
{
	for (size_t i = 0; i < e->run_count; i++) {
		const struct engine_run *r = e->runs[i];
		const struct journal_run *row = engine_run_row(e, r);

		if (r->planning || (r->applying && !r->stuck) || r->card_count ||
		    !engine_id_is_zero(&r->sealing) || !engine_id_is_zero(&r->checking))
			return true;
		for (uint32_t k = 0; k < row->step_count; k++)
			if (engine_attempt_lives(engine_last_attempt(row->steps[k])))
				return true;
	}
	/* fn only reads: the walk has no way to say so */
	return journal_state_each_timer(e->rows, backoff_or_deadline, (void *)e) != 0;
}

void engine_hold(struct engine *e, struct engine_now now, bool hold)
{
	engine_enter(e, now);
	e->held = hold;
	if (!hold) {
		e->wake = true;
		engine_advance_all(e);
	}
}
