/*
 * One step's life, from its declaration to a final state: what every report about its attempt makes
 * of it.
 *
 * An attempt's end is recorded as it was reported, and judged from the row, so that a supervisor
 * that died between the two judges alike.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "base/utf8.h"
#include "supervisor/engine_private.h"

#define MS 1000000ll
static const struct journal_id no_id;

bool engine_step_writes(const struct journal_step *s)
{
	return s->state == JOURNAL_STEP_S_ACTIVE || s->state == JOURNAL_STEP_S_SEALED ||
	       s->state == JOURNAL_STEP_S_CHECKING || s->state == JOURNAL_STEP_S_REJECTED ||
	       s->state == JOURNAL_STEP_S_GATED_COMMIT;
}

/* ---- beginning ---- */

int engine_step_new(struct engine *e, struct engine_run *r, const struct plan_step *spec,
		    uint32_t position, uint32_t *ret)
{
	const struct journal_run *row = engine_run_row(e, r);
	struct journal_record rec = engine_record(r, row->step_count, JOURNAL_STEP_DECLARED);
	char key[160];
	struct digest input;
	int rc;

	snprintf(key, sizeof(key), "%s#1", spec->name);
	rc = engine_input_describe(e, r, key, spec, NULL, &input);
	if (rc < 0)
		return rc;
	JOURNAL_SET(&rec.p, key, bytes_str(key));
	JOURNAL_SET(&rec.p, name, bytes_str(spec->name));
	JOURNAL_SET(&rec.p, input, input);
	JOURNAL_SET(&rec.p, context, row->context);
	JOURNAL_SET(&rec.p, index, position);
	engine_emit(e, &rec);
	*ret = rec.step;
	return engine_run_add_spec(e, r, rec.step, NULL);
}

void engine_step_arm_deadline(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct plan_step *spec = engine_run_spec(e, r, step);

	if (spec && spec->deadline_ms && engine_run_step(e, r, step)->deadline_ns == 0)
		engine_timer_arm(e, r, step, JOURNAL_TIMER_STEP_DEADLINE,
				 e->now.wall_ns + (int64_t)spec->deadline_ms * MS, NULL);
}

void engine_step_make_runnable(struct engine *e, struct engine_run *r, uint32_t step,
			       const char *why)
{
	engine_emit_step(e, r, step, JOURNAL_STEP_RUNNABLE, why);
	engine_step_arm_deadline(e, r, step);
}

static bool deadline_passed(const struct engine *e, const struct journal_step *s)
{
	return s->deadline_ns && e->now.wall_ns >= s->deadline_ns;
}

static int stack_names(const struct journal_run *row, char (**ret)[JOURNAL_LAYER_NAME_SIZE],
		       size_t *ret_count)
{
	AUTO_FREE const struct journal_step **steps = calloc(row->step_count + 1, sizeof(*steps));
	char(*names)[JOURNAL_LAYER_NAME_SIZE];
	size_t n;

	if (!steps)
		return -ENOMEM;
	n = engine_stack(row, NULL, steps);
	names = calloc(n + 1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		memcpy(names[i], steps[i]->layer, sizeof(names[i]));
	*ret = names;
	*ret_count = n;
	return 0;
}

/* The command of an attempt, or of the check of its sealed layer. */
static void command_start(struct engine *e, struct engine_run *r, uint32_t step, bool check)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_step *s = row->steps[step];
	const struct journal_attempt *a = engine_last_attempt(s);
	const struct plan_step *spec = engine_run_spec(e, r, step);
	AUTO_FREE char(*names)[JOURNAL_LAYER_NAME_SIZE] = NULL;
	AUTO_BUFFER feedback = {0};
	struct engine_command c = {.kind = ENGINE_START_ATTEMPT,
				   .run = r->id,
				   .step = step,
				   .attempt = a->number,
				   .attempt_id = a->id,
				   .spec = spec,
				   .check = check};
	int rc;

	if (!spec)
		return; /* e->failed says why */
	rc = stack_names(row, &names, &c.stack_count);
	if (rc == 0 && !check && !digest_is_zero(&s->feedback))
		rc = e->ops.blob_read(e->ops.ctx, &s->feedback, &feedback);
	if (rc < 0) {
		e->failed = rc;
		return;
	}
	c.stack = (const char(*)[JOURNAL_LAYER_NAME_SIZE])names;
	c.feedback = buffer_bytes(&feedback);
	c.timeout_ms = spec->timeout_ms;
	memcpy(c.layer, check ? s->layer : a->layer, sizeof(c.layer));
	e->ops.command(e->ops.ctx, &c);
}

void engine_step_start(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_run *row = engine_run_row(e, r);
	struct journal_record rec = engine_record(r, step, JOURNAL_ATTEMPT_STARTED);
	char layer[JOURNAL_LAYER_NAME_SIZE] = "";
	struct journal_id id;

	e->ops.new_id(e->ops.ctx, &id);
	rec.attempt = row->steps[step]->attempt_count + 1;
	JOURNAL_SET(&rec.p, attempt_id, id);
	if (row->agency > 0) { /* at observe the workspace is read-only: there is no layer */
		e->ops.layer_name(e->ops.ctx, row, row->steps[step]->name, layer);
		if (layer[0])
			JOURNAL_SET(&rec.p, layer, bytes_str(layer));
	}
	engine_emit(e, &rec);
	command_start(e, r, step, false);
}

/* ---- ending ---- */

static void command_attempt(struct engine *e, struct engine_run *r, uint32_t step,
			    enum engine_command_kind kind, bool after_sync)
{
	const struct journal_attempt *a = engine_last_attempt(engine_run_step(e, r, step));
	struct engine_command c = {.kind = kind,
				   .after_sync = after_sync,
				   .run = r->id,
				   .step = step,
				   .attempt = a->number,
				   .attempt_id = a->id};

	memcpy(c.layer, a->layer, sizeof(c.layer));
	e->ops.command(e->ops.ctx, &c);
}

void engine_step_remove_layer(struct engine *e, struct engine_run *r, uint32_t step,
			      const char *layer, bool after_sync)
{
	struct engine_command c = {.kind = ENGINE_REMOVE_LAYER,
				   .after_sync = after_sync,
				   .run = r->id,
				   .step = step};

	if (layer[0] == '\0')
		return;
	memcpy(c.layer, layer, sizeof(c.layer));
	e->ops.command(e->ops.ctx, &c);
}

/* Its end stands in the journal, and nothing of it is kept. */
void engine_step_throw_away(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_attempt *a = engine_last_attempt(engine_run_step(e, r, step));
	char layer[JOURNAL_LAYER_NAME_SIZE];

	memcpy(layer, a->layer, sizeof(layer));
	engine_step_remove_layer(e, r, step, layer, true);
	command_attempt(e, r, step, ENGINE_FORGET_ATTEMPT, true);
}

void engine_step_kill(struct engine *e, struct engine_run *r, uint32_t step, bool now)
{
	const struct journal_step *s = engine_run_step(e, r, step);
	const struct journal_attempt *a = engine_last_attempt(s);
	struct engine_command c = {.kind = ENGINE_KILL_ATTEMPT,
				   .run = r->id,
				   .step = step,
				   .attempt = a->number,
				   .attempt_id = a->id,
				   .check = s->state == JOURNAL_STEP_S_CHECKING,
				   .now = now};

	if (journal_id_equal(&r->killing, &a->id) && !now)
		return;
	r->killing = a->id;
	e->ops.command(e->ops.ctx, &c);
}

void engine_step_cancel(struct engine *e, struct engine_run *r, uint32_t step, const char *why)
{
	const struct journal_step *s = engine_run_step(e, r, step);
	bool had = engine_last_attempt(s) &&
		   (s->state == JOURNAL_STEP_S_ACTIVE || engine_step_writes(s));

	engine_item_withdraw(e, r, step, why);
	engine_timer_cancel(e, r, step, 0, NULL);
	engine_emit_step(e, r, step, JOURNAL_STEP_CANCELLED, why);
	if (had)
		engine_step_throw_away(e, r, step);
	r->sealing = r->checking = no_id;
}

/* x2 from first to cap; up to a quarter less, by the key and the attempt alone, so that it is the
 * same on a retry of this. */
static int64_t backoff_ns(const struct plan_retry *t, const char *key, uint32_t attempt)
{
	uint64_t ms = t->first_ms;
	AUTO_BUFFER b = {0};
	struct digest d;

	for (uint32_t i = 1; i < attempt && ms < t->cap_ms; i++)
		ms *= 2;
	if (ms > t->cap_ms)
		ms = t->cap_ms;
	cbor_w_array(&b, 2);
	cbor_w_str(&b, key);
	cbor_w_uint(&b, attempt);
	digest_domain("holdfast.jitter", buffer_bytes(&b), &d);
	return (int64_t)(ms - ms / 4 * d.b[0] / 255) * MS;
}

static void to_exhausted(struct engine *e, struct engine_run *r, uint32_t step, const char *why)
{
	struct engine_rules rules;

	engine_item_rules(e, r, &rules);
	engine_timer_cancel(e, r, step, JOURNAL_TIMER_STEP_DEADLINE, NULL);
	engine_emit_step(e, r, step,
			 rules.unattended_deny ? JOURNAL_STEP_FAILED : JOURNAL_STEP_EXHAUSTED, why);
}

void engine_step_fail(struct engine *e, struct engine_run *r, uint32_t step, const char *why)
{
	engine_timer_cancel(e, r, step, 0, NULL);
	engine_emit_step(e, r, step, JOURNAL_STEP_FAILED, why);
}

void engine_step_deny(struct engine *e, struct engine_run *r, uint32_t step, const char *why)
{
	engine_timer_cancel(e, r, step, 0, NULL);
	engine_emit_step(e, r, step, JOURNAL_STEP_DENIED, why);
}

/* It is tried again later; failures: how many so far lengthen the wait. */
static void back_off(struct engine *e, struct engine_run *r, uint32_t step,
		     const struct plan_step *spec, uint32_t failures, const char *why)
{
	struct journal_record rec = engine_record(r, step, JOURNAL_STEP_BACKOFF);
	int64_t due = e->now.wall_ns +
		      backoff_ns(&spec->retry, engine_run_step(e, r, step)->key, failures);

	JOURNAL_SET(&rec.p, due_ns, due);
	JOURNAL_SET(&rec.p, why, bytes_str(why));
	engine_emit(e, &rec);
	engine_timer_arm(e, r, step, JOURNAL_TIMER_BACKOFF, due, NULL);
}

/* The attempt of an ACTIVE or REJECTED step failed in this way: again, later, by a person, or
 * never. */
void engine_step_judge(struct engine *e, struct engine_run *r, uint32_t step,
		       enum plan_failure kind, const char *why)
{
	const struct plan_step *spec = engine_run_spec(e, r, step);
	const struct journal_step *s = engine_run_step(e, r, step);
	char text[240];

	if (!spec)
		return;
	if (deadline_passed(e, s)) {
		engine_step_fail(e, r, step, "its deadline passed");
	} else if (!(spec->retry.on & (unsigned)kind) || spec->retry.max <= 1) {
		engine_step_fail(e, r, step, why);
	} else if (spec->retry.same_failure && s->same_failure >= spec->retry.same_failure) {
		utf8_printf(text, sizeof(text), "the same failure %u times: %s", s->same_failure,
			    why);
		to_exhausted(e, r, step, text);
	} else if (s->charged >= spec->retry.max) {
		utf8_printf(text, sizeof(text), "%u attempts failed, the last: %s", s->charged,
			    why);
		to_exhausted(e, r, step, text);
	} else {
		back_off(e, r, step, spec, s->charged, why);
	}
}

static const char *exit_text(const struct journal_attempt *a, char *buf, size_t size)
{
	if (a->signal)
		snprintf(buf, size, "ended by signal %llu", (unsigned long long)a->signal);
	else
		snprintf(buf, size, "exit status %llu", (unsigned long long)a->exit_code);
	return buf;
}

static bool lost_too_often(const struct engine *e, const struct journal_step *s)
{
	return s->lost >= e->limits.lost_max;
}

void engine_step_pause_if_lost(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_run *row = engine_run_row(e, r);
	const char *last = row->steps[step]->why ? row->steps[step]->why : "no reason is known";
	char why[240];

	if (!lost_too_often(e, row->steps[step]) ||
	    (row->state != JOURNAL_RUN_S_RUNNING && row->state != JOURNAL_RUN_S_WAITING))
		return;
	snprintf(why, sizeof(why),
		 "%u attempts in a row were lost (%.*s); look at the machine, then resume",
		 row->steps[step]->lost, UTF8_SHORT(last, 120));
	engine_emit_run(e, r, JOURNAL_RUN_PAUSED, why);
}

/*
 * Once is an accident of the keeper or of the machine, and it goes on at once. What is lost again is
 * spaced as failures are, since it may be the step that kills them; the last one before the pause is
 * left RUNNABLE, for the person who resumes.
 */
static void after_loss(struct engine *e, struct engine_run *r, uint32_t step, const char *why)
{
	const struct plan_step *spec = engine_run_spec(e, r, step);
	const struct journal_step *s = engine_run_step(e, r, step);
	char text[240];

	if (!spec)
		return;
	utf8_printf(text, sizeof(text), "lost: %s", *why ? why : "no reason is known");
	/* An effect that a person must speak of first holds the step. */
	if (engine_effect_waits(e, r, step, false)) {
		engine_emit_step(e, r, step, JOURNAL_STEP_WAITING, text);
	} else if (s->lost <= 1 || lost_too_often(e, s)) {
		engine_emit_step(e, r, step, JOURNAL_STEP_RUNNABLE, text);
	} else {
		back_off(e, r, step, spec, s->lost - 1, text);
	}
	engine_step_pause_if_lost(e, r, step);
}

/* An ACTIVE step whose last attempt has ended, and which is not being sealed. */
static void judge_attempt(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_attempt *a = engine_last_attempt(row->steps[step]);
	enum journal_attempt_state state = a->state;
	AUTO_FREE char *why = strdup(a->why ? a->why : "");
	char text[240];

	if (!why) {
		e->failed = -ENOMEM;
		return;
	}
	switch (state) {
	case JOURNAL_ATTEMPT_S_STARTING:
	case JOURNAL_ATTEMPT_S_LIVE:
	case JOURNAL_ATTEMPT_S_FROZEN:
	case JOURNAL_ATTEMPT_S_COUNT:
		assert(false && "a living attempt is not judged");
		break;
	case JOURNAL_ATTEMPT_S_EXITED:
		engine_step_throw_away(e, r, step);
		exit_text(a, text, sizeof(text));
		engine_step_judge(e, r, step, PLAN_ON_EXIT, *why ? why : text);
		break;
	case JOURNAL_ATTEMPT_S_TIMED_OUT:
		engine_step_throw_away(e, r, step);
		engine_step_judge(e, r, step, PLAN_ON_TIMEOUT, *why ? why : "timed out");
		break;
	case JOURNAL_ATTEMPT_S_OOM:
		engine_step_throw_away(e, r, step);
		engine_step_judge(e, r, step, PLAN_ON_OOM, *why ? why : "out of memory");
		break;
	case JOURNAL_ATTEMPT_S_NOT_STARTED:
		engine_step_throw_away(e, r, step);
		engine_step_judge(e, r, step, PLAN_ON_INFRA,
				  *why ? why : "the sandbox could not be made");
		break;
	case JOURNAL_ATTEMPT_S_KILLED: /* by a limit or by a person: never tried again by itself */
		engine_step_throw_away(e, r, step);
		engine_step_fail(e, r, step,
				 deadline_passed(e, engine_run_step(e, r, step))
					 ? "its deadline passed"
				 : *why ? why
					: "killed");
		break;
	case JOURNAL_ATTEMPT_S_SUSPENDED:
		engine_step_throw_away(e, r, step);
		engine_emit_step(e, r, step, JOURNAL_STEP_WAITING, *why ? why : NULL);
		break;
	case JOURNAL_ATTEMPT_S_LOST:
		engine_step_throw_away(e, r, step);
		after_loss(e, r, step, why);
		break;
	}
}

void engine_step_lost(struct engine *e, struct engine_run *r, uint32_t step, const char *why)
{
	const struct journal_attempt *a = engine_last_attempt(engine_run_step(e, r, step));
	struct journal_record rec = engine_record(r, step, JOURNAL_ATTEMPT_LOST);

	rec.attempt = a->number;
	JOURNAL_SET(&rec.p, why, bytes_str(why));
	engine_emit(e, &rec);
	r->sealing = no_id;
}

/* ---- sealed, checked, committed ---- */

static void commit(struct engine *e, struct engine_run *r, uint32_t step)
{
	engine_timer_cancel(e, r, step, 0, NULL);
	engine_emit_step(e, r, step, JOURNAL_STEP_COMMITTED, NULL);
	command_attempt(e, r, step, ENGINE_FORGET_ATTEMPT, true);
}

/* Past the checks: a person, or the commit. */
void engine_step_push_commit(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct plan_step *spec = engine_run_spec(e, r, step);
	struct engine_rules rules;

	if (!spec)
		return;
	if (spec->gate != PLAN_GATE_COMMIT) {
		commit(e, r, step);
		return;
	}
	engine_item_rules(e, r, &rules);
	engine_timer_cancel(e, r, step, JOURNAL_TIMER_STEP_DEADLINE, NULL);
	engine_emit_step(e, r, step, JOURNAL_STEP_GATED_COMMIT, NULL);
	if (rules.unattended_deny) {
		engine_emit_step(e, r, step, JOURNAL_STEP_DENIED,
				 "the policy denies what would ask a person");
		engine_step_throw_away(e, r, step);
	}
}

static void push_gated_commit(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_step *s = engine_run_step(e, r, step);
	const struct journal_approval *a = engine_item_of(e, &s->approval);

	if (a && a->state == JOURNAL_APPROVAL_S_APPROVED) {
		engine_item_consume(e, r, a);
		commit(e, r, step);
	} else if (!a) {
		engine_item_want(e, r, step, JOURNAL_KIND_STEP_COMMIT, &s->manifest);
	}
}

static void push_sealed(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct plan_step *spec = engine_run_spec(e, r, step);

	/* Nothing of it may be committed before what it did outside is known. */
	if (!spec || engine_effect_blocks(e, r, step, true))
		return;
	if (spec->check_count == 0) {
		engine_step_push_commit(e, r, step);
		return;
	}
	engine_emit_step(e, r, step, JOURNAL_STEP_CHECKING, NULL);
}

static void push_checking(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_attempt *a = engine_last_attempt(engine_run_step(e, r, step));

	/* A check is a sandbox too: not in a paused run, nor in one that nobody named. */
	if (!r->named || engine_run_row(e, r)->state == JOURNAL_RUN_S_PAUSED ||
	    !engine_id_is_zero(&r->checking))
		return;
	r->checking = a->id;
	command_start(e, r, step, true);
}

static void push_active(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_step *s = engine_run_step(e, r, step);
	const struct journal_attempt *a = engine_last_attempt(s);

	if (engine_attempt_lives(a)) {
		if (deadline_passed(e, s))
			engine_step_kill(e, r, step, false);
		return;
	}
	if (a->state != JOURNAL_ATTEMPT_S_EXITED || a->exit_code || a->signal) {
		judge_attempt(e, r, step);
	} else if (a->layer[0] == '\0') {
		engine_emit_step(e, r, step, JOURNAL_STEP_SEALED, NULL);
	} else if (engine_id_is_zero(&r->sealing)) {
		r->sealing = a->id;
		command_attempt(e, r, step, ENGINE_SEAL, false);
	}
}

static void push_rejected(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_step *s = engine_run_step(e, r, step);
	AUTO_FREE char *why = strdup(s->why ? s->why : "a check failed");

	if (!why) {
		e->failed = -ENOMEM;
		return;
	}
	engine_step_throw_away(e, r, step);
	engine_step_judge(e, r, step, PLAN_ON_CHECK, why);
}

static void push_exhausted(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_step *s = engine_run_step(e, r, step);
	const struct journal_approval *a = engine_item_of(e, &s->approval);

	if (!a) {
		engine_item_want(e, r, step, JOURNAL_KIND_EXHAUSTED, &s->feedback);
	} else if (a->state == JOURNAL_APPROVAL_S_APPROVED) {
		bool again = a->choice && strcmp(a->choice, "retry") == 0;

		engine_item_consume(e, r, a);
		if (again)
			engine_step_make_runnable(e, r, step, "a person said: retry");
		else
			engine_step_fail(e, r, step, "a person said: fail");
	}
}

bool engine_step_asks(const struct engine *e, const struct engine_run *r,
		      const struct plan_step *spec)
{
	return spec->gate == PLAN_GATE_ASK ||
	       (e->ops.asks && e->ops.asks(e->ops.ctx, engine_run_row(e, r), spec));
}

static void push_declared(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct plan_step *spec = engine_run_spec(e, r, step);
	struct engine_rules rules;

	if (!spec)
		return;
	if (!engine_step_asks(e, r, spec)) {
		engine_step_make_runnable(e, r, step, NULL);
		return;
	}
	engine_item_rules(e, r, &rules);
	engine_emit_step(e, r, step,
			 rules.unattended_deny ? JOURNAL_STEP_DENIED : JOURNAL_STEP_GATED,
			 rules.unattended_deny ? "the policy denies what would ask a person"
					       : NULL);
}

void engine_step_push(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_step *s = engine_run_step(e, r, step);

	switch (s->state) {
	case JOURNAL_STEP_S_DECLARED:
		push_declared(e, r, step);
		break;
	case JOURNAL_STEP_S_GATED:
		if (!engine_item_of(e, &s->approval))
			engine_item_want(e, r, step, JOURNAL_KIND_STEP_GATE, &s->input);
		break;
	case JOURNAL_STEP_S_RUNNABLE:
	case JOURNAL_STEP_S_BACKOFF:
		if (deadline_passed(e, s))
			engine_step_fail(e, r, step, "its deadline passed");
		break;
	case JOURNAL_STEP_S_ACTIVE:
		push_active(e, r, step);
		break;
	case JOURNAL_STEP_S_SEALED:
		push_sealed(e, r, step);
		break;
	case JOURNAL_STEP_S_CHECKING:
		push_checking(e, r, step);
		break;
	case JOURNAL_STEP_S_REJECTED:
		push_rejected(e, r, step);
		break;
	case JOURNAL_STEP_S_GATED_COMMIT:
		push_gated_commit(e, r, step);
		break;
	case JOURNAL_STEP_S_EXHAUSTED:
		push_exhausted(e, r, step);
		break;
	case JOURNAL_STEP_S_WAITING:
		if (!engine_effect_waits(e, r, step, false))
			engine_step_make_runnable(e, r, step, NULL);
		break;
	case JOURNAL_STEP_S_COMMITTED:
	case JOURNAL_STEP_S_DENIED:
	case JOURNAL_STEP_S_FAILED:
	case JOURNAL_STEP_S_CANCELLED:
	case JOURNAL_STEP_S_COUNT:
		break;
	}
}
