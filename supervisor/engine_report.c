/*
 * What the keeper and the sealer say of an attempt, each as its record. A report for an attempt
 * that is not the last one of its step, or comes twice, is refused with -ESTALE.
 */
#include <errno.h>
#include <string.h>
#include "base/cbor.h"
#include "supervisor/engine_private.h"

static const struct journal_id no_id;

/* The current attempt of this id, in an ACTIVE step; -ESTALE: a report for what is over. */
static int report(struct engine *e, struct engine_now now, const struct journal_id *attempt,
		  struct engine_run **ret, uint32_t *ret_step)
{
	engine_enter(e, now);
	engine_act_as(e, JOURNAL_ACTOR_KEEPER, 0);
	if (!engine_find_attempt(e, attempt, ret, ret_step))
		return -ESTALE;
	return 0;
}

int engine_attempt_live(struct engine *e, struct engine_now now, const struct journal_id *attempt)
{
	struct engine_run *r;
	uint32_t step;
	int rc = report(e, now, attempt, &r, &step);
	const struct journal_attempt *a =
		rc < 0 ? NULL : engine_last_attempt(engine_run_step(e, r, step));
	struct journal_record rec;

	if (!a || !engine_attempt_lives(a))
		return -ESTALE;
	if (a->state != JOURNAL_ATTEMPT_S_STARTING)
		return 0;
	rec = engine_record(r, step, JOURNAL_ATTEMPT_LIVE);
	rec.attempt = a->number;
	engine_emit(e, &rec);
	return engine_advance(e, r);
}

/* What makes two failures equal: the kind, how it ended, and what it wrote to standard error. */
static void failure_of(const struct engine_ended *x, const char *why, struct digest *ret)
{
	AUTO_BUFFER b = {0};

	cbor_w_array(&b, 5);
	cbor_w_uint(&b, x->state);
	cbor_w_uint(&b, x->exit_code);
	cbor_w_uint(&b, x->signal);
	cbor_w_bytes(&b, bytes_str(why));
	cbor_w_bytes(&b, bytes_of(x->err.b, DIGEST_SIZE));
	digest_domain("holdfast.failure", buffer_bytes(&b), ret);
}

int engine_attempt_not_started(struct engine *e, struct engine_now now,
			       const struct journal_id *attempt, const char *why, bool infra)
{
	struct engine_run *r;
	uint32_t step;
	int rc = report(e, now, attempt, &r, &step);
	const struct journal_attempt *a =
		rc < 0 ? NULL : engine_last_attempt(engine_run_step(e, r, step));
	struct engine_ended x = {.state = JOURNAL_ATTEMPT_S_NOT_STARTED};
	struct journal_record rec;
	struct digest failure;

	if (!a || a->state != JOURNAL_ATTEMPT_S_STARTING)
		return -ESTALE;
	rec = engine_record(r, step, JOURNAL_ATTEMPT_NOT_STARTED);
	rec.attempt = a->number;
	failure_of(&x, why, &failure);
	JOURNAL_SET(&rec.p, failure, failure);
	JOURNAL_SET(&rec.p, why, bytes_str(why ? why : "the sandbox could not be made"));
	engine_emit(e, &rec);
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	if (!infra && engine_run_row(e, r)->state != JOURNAL_RUN_S_CANCELLING) {
		engine_step_throw_away(e, r, step);
		if (why && strncmp(why, "denied: ", 8) == 0)
			engine_step_deny(e, r, step, why + 8);
		else
			engine_step_fail(e, r, step, why);
	}
	return engine_advance(e, r);
}

int engine_attempt_held(struct engine *e, struct engine_now now, const struct journal_id *attempt,
			const char *why)
{
	struct engine_run *r;
	uint32_t step;
	int rc = report(e, now, attempt, &r, &step);
	const struct journal_run *row = rc < 0 ? NULL : engine_run_row(e, r);
	const struct journal_attempt *a = row ? engine_last_attempt(row->steps[step]) : NULL;
	bool check = row && row->steps[step]->state == JOURNAL_STEP_S_CHECKING &&
		     journal_id_equal(&r->checking, attempt);
	struct journal_record rec;

	if (!check && (!a || a->state != JOURNAL_ATTEMPT_S_STARTING))
		return -ESTALE;
	if (check) {
		r->checking = no_id;
	} else {
		rec = engine_record(r, step, JOURNAL_ATTEMPT_NOT_STARTED);
		rec.attempt = a->number;
		JOURNAL_SET(&rec.p, uncharged, true);
		JOURNAL_SET(&rec.p, why, bytes_str(why));
		engine_emit(e, &rec);
	}
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	if (!check && row->state != JOURNAL_RUN_S_CANCELLING) {
		engine_step_throw_away(e, r, step);
		engine_emit_step(e, r, step, JOURNAL_STEP_RUNNABLE, why);
	}
	if (row->state == JOURNAL_RUN_S_RUNNING || row->state == JOURNAL_RUN_S_WAITING)
		engine_emit_run(e, r, JOURNAL_RUN_PAUSED, why);
	return engine_advance(e, r);
}

static enum journal_type ended_type(enum journal_attempt_state s)
{
	switch (s) {
	case JOURNAL_ATTEMPT_S_EXITED:
		return JOURNAL_ATTEMPT_EXITED;
	case JOURNAL_ATTEMPT_S_TIMED_OUT:
		return JOURNAL_ATTEMPT_TIMED_OUT;
	case JOURNAL_ATTEMPT_S_OOM:
		return JOURNAL_ATTEMPT_OOM;
	case JOURNAL_ATTEMPT_S_KILLED:
		return JOURNAL_ATTEMPT_KILLED;
	case JOURNAL_ATTEMPT_S_LOST:
		return JOURNAL_ATTEMPT_LOST;
	case JOURNAL_ATTEMPT_S_STARTING:
	case JOURNAL_ATTEMPT_S_LIVE:
	case JOURNAL_ATTEMPT_S_FROZEN:
	case JOURNAL_ATTEMPT_S_NOT_STARTED:
	case JOURNAL_ATTEMPT_S_SUSPENDED:
	case JOURNAL_ATTEMPT_S_COUNT:
		break;
	}
	return 0;
}

#define SET_DIGEST(p, field, value)                   \
	do {                                          \
		if (!digest_is_zero(&(value)))        \
			JOURNAL_SET(p, field, value); \
	} while (0)
#define SET_NUMBER(p, field, value)                   \
	do {                                          \
		if (value)                            \
			JOURNAL_SET(p, field, value); \
	} while (0)

static void fill_outcome(struct journal_payload *p, const struct engine_ended *x)
{
	if (x->state == JOURNAL_ATTEMPT_S_EXITED)
		JOURNAL_SET(p, exit_code, x->exit_code);
	SET_NUMBER(p, signal, x->signal);
	if (x->why)
		JOURNAL_SET(p, why, bytes_str(x->why));
	SET_DIGEST(p, out, x->out);
	SET_DIGEST(p, err, x->err);
	SET_DIGEST(p, results, x->results);
	SET_NUMBER(p, out_size, x->out_size);
	SET_NUMBER(p, err_size, x->err_size);
	SET_NUMBER(p, cpu_us, x->cpu_us);
	SET_NUMBER(p, memory_peak, x->memory_peak);
	SET_NUMBER(p, wall_us, x->wall_us);
	SET_NUMBER(p, weaker, x->weaker);
	if (x->denied.len)
		JOURNAL_SET(p, denied, x->denied);
}

int engine_attempt_ended(struct engine *e, struct engine_now now, const struct journal_id *attempt,
			 const struct engine_ended *x)
{
	enum journal_type type = ended_type(x->state);
	struct engine_run *r;
	uint32_t step;
	int rc = report(e, now, attempt, &r, &step);
	const struct journal_attempt *a =
		rc < 0 ? NULL : engine_last_attempt(engine_run_step(e, r, step));
	struct journal_record rec;
	struct digest failure;
	uint32_t number;

	if (!type)
		return -EINVAL;
	if (!a || !engine_attempt_lives(a))
		return -ESTALE;
	/* It was ended for a wait; one that ended by itself first did end. */
	if (a->suspending && type != JOURNAL_ATTEMPT_LOST &&
	    (type != JOURNAL_ATTEMPT_EXITED || x->signal))
		type = JOURNAL_ATTEMPT_SUSPENDED;
	number = a->number;
	if (a->state == JOURNAL_ATTEMPT_S_STARTING && type != JOURNAL_ATTEMPT_LOST) {
		rec = engine_record(r, step, JOURNAL_ATTEMPT_LIVE);
		rec.attempt = number;
		engine_emit(e, &rec);
	}
	rec = engine_record(r, step, type);
	rec.attempt = number;
	fill_outcome(&rec.p, x);
	if (type == JOURNAL_ATTEMPT_SUSPENDED) /* what the keeper says is that it was told to */
		JOURNAL_SET(&rec.p, why, bytes_str("suspended: what it asked for waits"));
	if (type != JOURNAL_ATTEMPT_LOST && type != JOURNAL_ATTEMPT_SUSPENDED &&
	    (type != JOURNAL_ATTEMPT_EXITED || x->exit_code || x->signal)) {
		failure_of(x, x->why, &failure);
		JOURNAL_SET(&rec.p, failure, failure);
	}
	engine_emit(e, &rec);
	r->killing = no_id;
	engine_wait_ended(e, r, step);
	return engine_advance(e, r);
}

/* It broke a rule of the contract or a limit by what it wrote: judged as a failed check, from
 * ACTIVE. */
static void refused_layer(struct engine *e, struct engine_run *r, uint32_t step, int error,
			  const char *why)
{
	engine_step_throw_away(e, r, step);
	if (error == -EFBIG)
		engine_step_fail(e, r, step, why ? why : "its files are past the disk limit");
	else if (error == -E2BIG)
		engine_step_fail(e, r, step,
				 why ? why : "it changes more paths than the files limit");
	else
		engine_step_judge(e, r, step, PLAN_ON_CHECK,
				  why ? why : "it wrote a protected path");
}

int engine_sealed(struct engine *e, struct engine_now now, const struct journal_id *attempt,
		  int error, const char *why, const struct digest *manifest, uint64_t paths,
		  uint64_t bytes)
{
	struct engine_run *r;
	uint32_t step;
	int rc = report(e, now, attempt, &r, &step);
	const struct journal_step *s = rc < 0 ? NULL : engine_run_step(e, r, step);
	const struct journal_attempt *a = s ? engine_last_attempt(s) : NULL;
	struct journal_record rec;
	char layer[JOURNAL_LAYER_NAME_SIZE];

	if (!s || s->state != JOURNAL_STEP_S_ACTIVE || a->state != JOURNAL_ATTEMPT_S_EXITED)
		return -ESTALE;
	r->sealing = no_id;
	memcpy(layer, a->layer, sizeof(layer));
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	if (engine_run_row(e, r)->state == JOURNAL_RUN_S_CANCELLING)
		return engine_advance(e, r);
	if (error == -EPERM || error == -E2BIG || error == -EFBIG) {
		refused_layer(e, r, step, error, why);
	} else if (error < 0) {
		engine_step_lost(e, r, step, why ? why : "its layer is lost");
	} else {
		rec = engine_record(r, step, JOURNAL_STEP_SEALED);
		if (manifest && paths) {
			JOURNAL_SET(&rec.p, layer, bytes_str(layer));
			JOURNAL_SET(&rec.p, manifest, *manifest);
			JOURNAL_SET(&rec.p, paths, paths);
			JOURNAL_SET(&rec.p, size, bytes);
		} else {
			engine_step_remove_layer(e, r, step, layer, false);
		}
		engine_emit(e, &rec);
	}
	return engine_advance(e, r);
}

static int checked_step(struct engine *e, struct engine_now now, const struct journal_id *attempt,
			struct engine_run **ret, uint32_t *ret_step)
{
	int rc = report(e, now, attempt, ret, ret_step);

	if (rc < 0 || engine_run_step(e, *ret, *ret_step)->state != JOURNAL_STEP_S_CHECKING ||
	    !journal_id_equal(&(*ret)->checking, attempt))
		return -ESTALE;
	(*ret)->checking = no_id;
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	return 0;
}

int engine_check_lost(struct engine *e, struct engine_now now, const struct journal_id *attempt)
{
	struct engine_run *r;
	uint32_t step;
	int rc = checked_step(e, now, attempt, &r, &step);

	if (rc < 0)
		return rc;
	engine_emit_step(e, r, step, JOURNAL_STEP_CHECKING, "the checker was lost");
	engine_step_pause_if_lost(e, r, step);
	return engine_advance(e, r);
}

int engine_checked(struct engine *e, struct engine_now now, const struct journal_id *attempt,
		   bool passed, const char *why, const struct digest *feedback)
{
	struct engine_run *r;
	uint32_t step;
	int rc = checked_step(e, now, attempt, &r, &step);
	struct journal_record rec;
	struct engine_ended x = {.state = JOURNAL_ATTEMPT_S_EXITED};
	struct digest failure;

	if (rc < 0)
		return rc;
	if (engine_run_row(e, r)->state == JOURNAL_RUN_S_CANCELLING)
		return engine_advance(e, r);
	if (passed) {
		engine_step_push_commit(e, r, step);
		return engine_advance(e, r);
	}
	rec = engine_record(r, step, JOURNAL_STEP_REJECTED);
	if (feedback)
		x.err = *feedback;
	failure_of(&x, why, &failure);
	JOURNAL_SET(&rec.p, failure, failure);
	JOURNAL_SET(&rec.p, why, bytes_str(why ? why : "a check failed"));
	if (feedback)
		JOURNAL_SET(&rec.p, feedback, *feedback);
	engine_emit(e, &rec);
	return engine_advance(e, r);
}
