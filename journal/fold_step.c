/*
 * The fold of steps and their attempts. What an item or a timer is about says so in the step's row
 * itself: fold_approval.c and fold.c.
 */
#include <errno.h>
#include <stdlib.h>
#include "journal/fold.h"
#include "journal/state.h"

static const struct digest no_digest;

static void set_layer(char *to, struct bytes name)
{
	memset(to, 0, JOURNAL_LAYER_NAME_SIZE);
	if (name.len)
		memcpy(to, name.data, name.len);
}

static int mark_step(struct journal_state *s, const struct journal_record *r)
{
	return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_STEP,
							    .run = r->run,
							    .step = r->step});
}

static int mark_attempt(struct journal_state *s, const struct journal_record *r)
{
	return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_ATTEMPT,
							    .run = r->run,
							    .step = r->step,
							    .attempt = r->attempt});
}

int journal_fold_declare_step(struct journal_state *s, struct journal_run *run,
			      const struct journal_record *r, struct error *err)
{
	const struct journal_payload *p = &r->p;
	if (journal_run_final(run->state) || run->state == JOURNAL_RUN_S_CANCELLING)
		return journal_fold_refuse_transition(err, r, "run",
						      journal_run_state_name(run->state));
	if (r->step != run->step_count)
		return journal_fold_refuse(err, r, "steps are declared in order, without holes");
	if (JOURNAL_HAS(p, index) && p->index >= JOURNAL_STEPS_MAX)
		return journal_fold_refuse(err, r, "its position is past the limit");
	struct journal_step *step = calloc(1, sizeof(*step));
	if (!step || journal_fold_set_text(&step->key, p->key) < 0 ||
	    (JOURNAL_HAS(p, name) && journal_fold_set_text(&step->name, p->name) < 0)) {
		journal_rows_free_step(step);
		return -ENOMEM;
	}
	step->index = r->step;
	step->position = JOURNAL_HAS(p, index) ? (uint32_t)p->index : r->step;
	step->state = JOURNAL_STEP_S_DECLARED;
	step->state_lsn = r->lsn;
	step->input = p->input;
	step->context = p->context;
	step->declared_ns = r->wall_ns;
	step->deadline_ns = p->due_ns;
	int rc = journal_rows_add_step(run, step);
	return rc < 0 ? rc : mark_step(s, r);
}

static struct journal_attempt *last_attempt(struct journal_step *step)
{
	return step->attempt_count ? &step->attempts[step->attempt_count - 1] : NULL;
}

bool journal_fold_attempt_lives(const struct journal_attempt *a)
{
	return a && (a->state == JOURNAL_ATTEMPT_S_STARTING || a->state == JOURNAL_ATTEMPT_S_LIVE ||
		     a->state == JOURNAL_ATTEMPT_S_FROZEN);
}

static void take_outcome(struct journal_attempt *a, const struct journal_record *r)
{
	TAKE(a, r, exit_code);
	TAKE(a, r, signal);
	TAKE(a, r, out);
	TAKE(a, r, err);
	TAKE(a, r, out_size);
	TAKE(a, r, err_size);
	TAKE(a, r, results);
	TAKE(a, r, cpu_us);
	TAKE(a, r, memory_peak);
	TAKE(a, r, wall_us);
	TAKE(a, r, weaker);
	if (JOURNAL_HAS(&r->p, layer))
		set_layer(a->layer, r->p.layer);
}

/* Equal failures are counted so that a policy can stop repeating itself; a record may also say the
 * number. */
static void take_failure(struct journal_step *step, const struct journal_record *r)
{
	if (!JOURNAL_HAS(&r->p, failure))
		return;
	bool equal = digest_equal(&step->failure, &r->p.failure);
	step->same_failure = JOURNAL_HAS(&r->p, same_failure) ? (uint32_t)r->p.same_failure
			     : equal			      ? step->same_failure + 1
							      : 1;
	step->failure = r->p.failure;
}

/* What a step-level record says besides its transition. */
static int take_step_fields(struct journal_state *s, struct journal_step *step,
			    const struct journal_record *r)
{
	take_failure(step, r);
	TAKE(step, r, approval);
	TAKE(step, r, context);
	TAKE(step, r, feedback);
	if (r->type == JOURNAL_STEP_DIVERGED) {
		step->diverged = r->p.input;
		step->diverged_lsn = r->lsn;
	} else if (r->type == JOURNAL_STEP_REUSED || JOURNAL_HAS(&r->p, input)) {
		step->diverged = no_digest;
		if (step->state != JOURNAL_STEP_S_COMMITTED)
			TAKE(step, r, input);
	}
	if (r->type != JOURNAL_STEP_SEALED && r->type != JOURNAL_STEP_COMMITTED)
		return 0;
	if (JOURNAL_HAS(&r->p, layer))
		set_layer(step->layer, r->p.layer);
	TAKE(step, r, manifest);
	if (JOURNAL_HAS(&r->p, paths))
		step->layer_paths = r->p.paths;
	if (JOURNAL_HAS(&r->p, size))
		step->layer_bytes = r->p.size;
	struct journal_attempt *a = last_attempt(step);
	if (!a)
		return 0;
	take_outcome(a, r);
	return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_ATTEMPT,
							    .run = r->run,
							    .step = r->step,
							    .attempt = a->number});
}

/* The one setter of a step's state. */
static int set_step(struct journal_step *step, enum journal_step_state next,
		    const struct journal_record *r)
{
	if (next == JOURNAL_STEP_S_COMMITTED)
		step->committed_lsn = r->lsn;
	if (step->state == JOURNAL_STEP_S_CHECKING && next == JOURNAL_STEP_S_CHECKING)
		step->lost++; /* the checker */
	else if (step->state == JOURNAL_STEP_S_CHECKING || next == JOURNAL_STEP_S_SEALED)
		step->lost = 0;
	bool layer_gone = next == JOURNAL_STEP_S_RUNNABLE || next == JOURNAL_STEP_S_BACKOFF;
	if (layer_gone) {
		memset(step->layer, 0, sizeof(step->layer));
		step->manifest = no_digest;
		step->layer_paths = step->layer_bytes = 0;
	}
	step->due_ns = next == JOURNAL_STEP_S_BACKOFF ? r->p.due_ns : 0;
	step->state = next;
	step->state_lsn = r->lsn;
	return journal_fold_set_why(&step->why, r);
}

int journal_fold_step(struct journal_state *s, struct journal_run *run,
		      const struct journal_record *r, struct error *err)
{
	bool asked_again = r->type == JOURNAL_STEP_DIVERGED || r->type == JOURNAL_STEP_REUSED;
	if (r->step >= run->step_count)
		return journal_fold_refuse(err, r, "no such step");
	if (journal_run_final(run->state) && !asked_again)
		return journal_fold_refuse_transition(err, r, "run",
						      journal_run_state_name(run->state));
	struct journal_step *step = run->steps[r->step];
	int next = journal_state_next_step(step->state, r->type);
	if (next < 0)
		return journal_fold_refuse_transition(err, r, "step",
						      journal_step_state_name(step->state));
	const struct journal_attempt *a = last_attempt(step);
	if (step->state == JOURNAL_STEP_S_ACTIVE && !asked_again &&
	    r->type != JOURNAL_STEP_CANCELLED && journal_fold_attempt_lives(a))
		return journal_fold_refuse_transition(err, r, "attempt",
						      journal_attempt_state_name(a->state));
	if (r->type == JOURNAL_STEP_COMMITTED && journal_effect_blocks(run, r->step, true))
		return journal_fold_refuse(err, r, "an effect of it has no known outcome");
	if (r->type == JOURNAL_STEP_SEALED && (!a || a->state != JOURNAL_ATTEMPT_S_EXITED))
		return journal_fold_refuse_transition(err, r, "attempt",
						      a ? journal_attempt_state_name(a->state)
							: "missing");
	int rc = 0;
	if (!asked_again)
		rc = set_step(step, (enum journal_step_state)next, r);
	if (rc == 0)
		rc = take_step_fields(s, step, r);
	return rc < 0 ? rc : mark_step(s, r);
}

/* ---- Attempts ---- */

int journal_fold_start_attempt(struct journal_state *s, struct journal_run *run,
			       const struct journal_record *r, struct error *err)
{
	if (r->step >= run->step_count)
		return journal_fold_refuse(err, r, "no such step");
	if (run->state != JOURNAL_RUN_S_RUNNING && run->state != JOURNAL_RUN_S_WAITING)
		return journal_fold_refuse_transition(err, r, "run",
						      journal_run_state_name(run->state));
	struct journal_step *step = run->steps[r->step];
	int next = journal_state_next_step(step->state, r->type);
	if (next < 0)
		return journal_fold_refuse_transition(err, r, "step",
						      journal_step_state_name(step->state));
	if (r->attempt != step->attempt_count + 1)
		return journal_fold_refuse(err, r, "attempts are numbered without holes");
	struct journal_attempt a = {
		.number = r->attempt,
		.state = JOURNAL_ATTEMPT_S_STARTING,
		.id = r->p.attempt_id,
		.epoch = r->epoch,
		.started_ns = r->wall_ns,
		.started_mono_ns = r->mono_ns,
		.weaker = r->p.weaker,
	};
	memcpy(a.boot_id, r->boot_id, sizeof(a.boot_id));
	set_layer(a.layer, r->p.layer);
	int rc = journal_rows_add_attempt(step, &a);
	if (rc == 0)
		rc = set_step(step, (enum journal_step_state)next, r);
	if (rc == 0)
		rc = take_step_fields(s, step, r);
	if (rc == 0)
		rc = mark_attempt(s, r);
	return rc < 0 ? rc : mark_step(s, r);
}

/* Counters of the step when an attempt ends: LOST and SUSPENDED never count toward the retry
 * budget. */
static void count_ending(struct journal_step *step, struct journal_attempt *a,
			 const struct journal_record *r)
{
	bool lost = r->type == JOURNAL_ATTEMPT_LOST,
	     was_counted = a->ended_ns != 0 && !a->uncharged;
	if (was_counted)
		step->charged--; /* EXITED, and now its layer is gone */
	a->uncharged = lost || r->type == JOURNAL_ATTEMPT_SUSPENDED ||
		       (JOURNAL_HAS(&r->p, uncharged) && r->p.uncharged);
	if (!a->uncharged)
		step->charged++;
	/* A command that ended well is not over before its layer is sealed: a sealer that always
	 * dies loses every attempt of it after its exit. */
	bool to_seal = r->type == JOURNAL_ATTEMPT_EXITED &&
		       !(JOURNAL_HAS(&r->p, exit_code) && r->p.exit_code) &&
		       !(JOURNAL_HAS(&r->p, signal) && r->p.signal);
	if (lost)
		step->lost++;
	else if (!to_seal)
		step->lost = 0;
	a->ended_ns = r->wall_ns;
	step->state_lsn = r->lsn;
}

int journal_fold_attempt(struct journal_state *s, struct journal_run *run,
			 const struct journal_record *r, struct error *err)
{
	if (r->step >= run->step_count)
		return journal_fold_refuse(err, r, "no such step");
	if (journal_run_final(run->state))
		return journal_fold_refuse_transition(err, r, "run",
						      journal_run_state_name(run->state));
	struct journal_step *step = run->steps[r->step];
	struct journal_attempt *a = last_attempt(step);
	if (!a || r->attempt != a->number)
		return journal_fold_refuse(err, r, "it is not the step's last attempt");
	int next = journal_state_next_attempt(a->state, r->type);
	if (next < 0)
		return journal_fold_refuse_transition(err, r, "attempt",
						      journal_attempt_state_name(a->state));
	if (r->type == JOURNAL_ATTEMPT_THAWED && a->suspending)
		return journal_fold_refuse(err, r, "it is being suspended");
	take_outcome(a, r);
	if (r->type == JOURNAL_ATTEMPT_FROZEN && r->p.uncharged)
		a->suspending = true;
	a->state = (enum journal_attempt_state)next;
	if (!journal_fold_attempt_lives(a)) {
		count_ending(step, a, r);
		take_failure(step, r);
		run->starts_without_progress = 0;
	}
	if (r->type == JOURNAL_ATTEMPT_ADOPTED) {
		a->epoch = r->epoch;
		run->starts_without_progress = 0;
	}
	int rc = journal_fold_set_why(&a->why, r);
	if (rc == 0)
		rc = mark_attempt(s, r);
	return rc < 0 || journal_fold_attempt_lives(a) ? rc
						       : mark_step(s, r); /* its counters moved */
}
