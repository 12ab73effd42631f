/*
 * The fold of effects. Pure. What a state means stands above its enum in journal.h; which event
 * leads where is state.c.
 *
 * Held here, whatever an engine says: an effect is reserved once at a time, by an attempt that
 * lives, in a run that is not being cancelled, and where an approval allowed it, only after that
 * approval was consumed; nothing is proposed or reserved in a run that is over.
 */
#include <errno.h>
#include <stdlib.h>
#include "journal/fold.h"
#include "journal/state.h"

static const struct journal_id no_id;

static int mark(struct journal_state *s, const struct journal_effect *e)
{
	return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_EFFECT,
							    .run = e->run,
							    .effect = e->number,
							    .id = e->id});
}

static int take_text(char **to, bool has, struct bytes text)
{
	return has ? journal_fold_set_text(to, text) : 0;
}

#define TAKE_TEXT(row, r, field) take_text(&(row)->field, JOURNAL_HAS(&(r)->p, field), (r)->p.field)

/* What a proposal says of it; one that stands instead of another leaves what it does not say. */
static int take_proposal(struct journal_effect *e, const struct journal_record *r)
{
	const struct journal_payload *p = &r->p;

	e->attempt = r->attempt;
	e->delivered = false;
	TAKE(e, r, action);
	TAKE(e, r, canonical);
	TAKE(e, r, body);
	TAKE(e, r, before);
	TAKE(e, r, window_ms);
	if (JOURNAL_HAS(p, action_kind))
		e->action_kind = (uint32_t)p->action_kind;
	if (JOURNAL_HAS(p, class))
		e->class = (enum journal_class)p->class;
	if (JOURNAL_HAS(p, retry))
		e->retry = (enum journal_retry)p->retry;
	if (TAKE_TEXT(e, r, title) < 0 || TAKE_TEXT(e, r, rule) < 0 || TAKE_TEXT(e, r, at) < 0 ||
	    TAKE_TEXT(e, r, header) < 0 || TAKE_TEXT(e, r, probe) < 0 ||
	    TAKE_TEXT(e, r, secret) < 0 || TAKE_TEXT(e, r, claim) < 0 ||
	    TAKE_TEXT(e, r, dropped) < 0)
		return -ENOMEM;
	return 0;
}

static bool in_range(const struct journal_payload *p)
{
	return p->class < JOURNAL_CLASS_COUNT && p->retry < JOURNAL_RETRY_COUNT &&
	       p->action_kind <= UINT32_MAX;
}

static int propose(struct journal_state *s, struct journal_run *run, const struct journal_record *r,
		   struct error *err)
{
	const struct journal_effect *const *same;
	size_t count = journal_state_effects_same(s, &r->run, r->step, &r->p.identity, &same);
	struct journal_effect *e;
	int rc;

	if (r->p.occurrence != count + 1)
		return journal_fold_refuse(err, r, "occurrences are numbered without holes");
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->id = r->p.effect;
	e->run = r->run;
	e->number = run->effect_count;
	e->step = r->step;
	e->occurrence = (uint32_t)r->p.occurrence;
	e->identity = r->p.identity;
	e->proposed_ns = r->wall_ns;
	e->state = JOURNAL_EFFECT_S_PROPOSED;
	e->state_lsn = r->lsn;
	rc = take_proposal(e, r);
	if (rc < 0) {
		journal_rows_free_effect(e);
		return rc;
	}
	rc = journal_rows_add_effect(s, run, e);
	return rc < 0 ? rc : mark(s, e);
}

static int take_outcome(struct journal_effect *e, const struct journal_record *r)
{
	TAKE(e, r, status);
	TAKE(e, r, response);
	TAKE(e, r, response_body);
	TAKE(e, r, too_long);
	TAKE(e, r, sent);
	TAKE(e, r, received);
	e->outcome_lsn = r->lsn;
	e->ended_ns = r->wall_ns;
	return take_text(&e->by, JOURNAL_HAS(&r->p, principal), r->p.principal);
}

/* The approval it had must be spent before its first byte leaves. */
static bool approval_is_spent(const struct journal_state *s, const struct journal_effect *e)
{
	const struct journal_approval *a = journal_rows_approval(s, &e->approval);

	return journal_id_equal(&e->approval, &no_id) ||
	       (a && a->state == JOURNAL_APPROVAL_S_CONSUMED);
}

/* ---- what each type of record asks and does ---- */

static const char *refuse_in_ended(const struct journal_state *s, const struct journal_run *run,
				   const struct journal_effect *e, const struct journal_record *r)
{
	(void)s;
	(void)e;
	(void)r;
	return journal_run_final(run->state) ? "the run is over" : NULL;
}

static const char *refuse_proposal(const struct journal_state *s, const struct journal_run *run,
				   const struct journal_effect *e, const struct journal_record *r)
{
	if (!in_range(&r->p))
		return "class, retry or kind is out of range";
	return refuse_in_ended(s, run, e, r);
}

static const char *refuse_attaching(const struct journal_state *s, const struct journal_run *run,
				    const struct journal_effect *e, const struct journal_record *r)
{
	if (in_range(&r->p) && JOURNAL_HAS(&r->p, action) &&
	    !digest_equal(&e->action, &r->p.action) && e->state != JOURNAL_EFFECT_S_PROPOSED &&
	    e->state != JOURNAL_EFFECT_S_WAITING)
		return "another action cannot stand instead of it any more";
	return refuse_proposal(s, run, e, r);
}

static const char *refuse_sending(const struct journal_state *s, const struct journal_run *run,
				  const struct journal_effect *e, const struct journal_record *r)
{
	(void)r;
	if (journal_run_final(run->state) || run->state == JOURNAL_RUN_S_CANCELLING)
		return "nothing is reserved in a run that ends";
	return approval_is_spent(s, e) ? NULL : "its approval is not consumed";
}

static int take_allowed(struct journal_effect *e, const struct journal_record *r)
{
	e->approval = r->p.approval; /* none: by its rule */
	return 0;
}

static int take_waiting(struct journal_effect *e, const struct journal_record *r)
{
	(void)r;
	e->approval = no_id; /* an item follows */
	return 0;
}

static int take_reserved(struct journal_effect *e, const struct journal_record *r)
{
	e->courier = r->p.courier;
	e->request = r->p.number;
	e->reserved_lsn = r->lsn;
	if (e->reserved_ns == 0)
		e->reserved_ns = r->wall_ns;
	return 0;
}

static int take_delivered(struct journal_effect *e, const struct journal_record *r)
{
	(void)r;
	e->delivered = true;
	return 0;
}

static int take_compensated(struct journal_effect *e, const struct journal_record *r)
{
	e->other = r->p.other;
	return 0;
}

/* Of every type that state.c lets through. */
static const struct {
	/* Why it cannot be now, though the state allows it; NULL = nothing speaks against it. */
	const char *(*refuse)(const struct journal_state *s, const struct journal_run *run,
			      const struct journal_effect *e, const struct journal_record *r);
	int (*take)(struct journal_effect *e, const struct journal_record *r);
	bool stays; /* it says something of the state that it is in */
} types[JOURNAL_TYPE_LIMIT] = {
	[JOURNAL_EFFECT_PROPOSED] = {refuse_proposal, take_proposal, false},
	[JOURNAL_EFFECT_ATTACHED] = {refuse_attaching, take_proposal, true},
	[JOURNAL_EFFECT_WAITING] = {refuse_in_ended, take_waiting, false},
	[JOURNAL_EFFECT_ALLOWED] = {refuse_in_ended, take_allowed, false},
	[JOURNAL_EFFECT_RESERVED] = {refuse_sending, take_reserved, false},
	[JOURNAL_EFFECT_DENIED] = {NULL, take_outcome, false},
	[JOURNAL_EFFECT_WITHDRAWN] = {NULL, take_outcome, false},
	[JOURNAL_EFFECT_CONFIRMED] = {NULL, take_outcome, false},
	[JOURNAL_EFFECT_REFUSED] = {NULL, take_outcome, false},
	[JOURNAL_EFFECT_IN_DOUBT] = {NULL, take_outcome, false},
	[JOURNAL_EFFECT_ABANDONED] = {NULL, take_outcome, false},
	[JOURNAL_EFFECT_DELIVERED] = {NULL, take_delivered, true},
	[JOURNAL_EFFECT_COMPENSATED] = {NULL, take_compensated, false},
};

static int change(struct journal_state *s, struct journal_run *run, struct journal_effect *e,
		  enum journal_effect_state next, const struct journal_record *r)
{
	int rc = journal_rows_effect_state(run, e, next);

	if (rc == 0 && !types[r->type].stays)
		e->state_lsn = r->lsn;
	if (rc == 0)
		rc = types[r->type].take(e, r);
	if (rc == 0 && JOURNAL_HAS(&r->p, why))
		rc = journal_fold_set_text(&e->why, r->p.why);
	return rc < 0 ? rc : mark(s, e);
}

static int add_reads(struct journal_run *run, const struct journal_record *r, struct error *err)
{
	if (journal_run_final(run->state))
		return journal_fold_refuse(err, r, "the run is over");
	run->reads += r->p.paths;
	if (JOURNAL_HAS(&r->p, refused))
		run->refused += r->p.refused;
	return 0;
}

int journal_fold_effect(struct journal_state *s, struct journal_run *run,
			const struct journal_record *r, struct error *err)
{
	const struct journal_step *step = r->step < run->step_count ? run->steps[r->step] : NULL;
	const struct journal_attempt *last =
		step && step->attempt_count ? &step->attempts[step->attempt_count - 1] : NULL;
	struct journal_effect *e;
	const char *why;
	int next;

	if (!last || r->attempt > last->number)
		return journal_fold_refuse(err, r, "no such attempt");
	if (r->type == JOURNAL_EFFECT_READS)
		return add_reads(run, r, err);
	e = journal_rows_effect(s, &r->p.effect);
	if (!e && r->type != JOURNAL_EFFECT_PROPOSED)
		return journal_fold_refuse(err, r, "no such effect");
	if ((r->type == JOURNAL_EFFECT_PROPOSED || r->type == JOURNAL_EFFECT_ATTACHED) &&
	    (r->attempt != last->number || !journal_fold_attempt_lives(last)))
		return journal_fold_refuse(err, r, "only an attempt that lives proposes");
	if (!e) {
		if (journal_run_final(run->state) || !in_range(&r->p))
			return journal_fold_refuse(err, r, "the run is over, or it is malformed");
		return propose(s, run, r, err);
	}
	if (!journal_id_equal(&e->run, &r->run) || e->step != r->step ||
	    (JOURNAL_HAS(&r->p, identity) && !digest_equal(&e->identity, &r->p.identity)))
		return journal_fold_refuse(err, r, "no such effect of this run and step");
	next = journal_state_next_effect(e->state, r->type);
	if (next < 0)
		return journal_fold_refuse_transition(err, r, "effect",
						      journal_effect_state_name(e->state));
	why = types[r->type].refuse ? types[r->type].refuse(s, run, e, r) : NULL;
	if (why)
		return journal_fold_refuse(err, r, why);
	return change(s, run, e, (enum journal_effect_state)next, r);
}

bool journal_effect_blocks(const struct journal_run *run, uint32_t step, bool doubt)
{
	for (uint32_t i = 0; i < run->open_count; i++) {
		const struct journal_effect *e = run->open[i];

		if ((step == JOURNAL_NO_STEP || e->step == step) &&
		    (e->state == JOURNAL_EFFECT_S_RESERVED ||
		     (doubt && e->state == JOURNAL_EFFECT_S_IN_DOUBT)))
			return true;
	}
	return false;
}
