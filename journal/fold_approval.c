/* The fold of approvals: the queue's items, their votes, and the row that each is about. */
#include <errno.h>
#include <stdlib.h>
#include "journal/fold.h"
#include "journal/state.h"

static const struct journal_id no_id;

static bool landing_kind(enum journal_approval_kind kind)
{
	return kind == JOURNAL_KIND_LANDING || kind == JOURNAL_KIND_CONFLICT;
}

static int mark_item(struct journal_state *s, const struct journal_approval *a)
{
	return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_APPROVAL,
							    .run = a->run,
							    .id = a->id});
}

/* The row that the item is about remembers it until it is over. */
static int link_item(struct journal_state *s, struct journal_run *run,
		     const struct journal_approval *a, const struct journal_record *r, bool over)
{
	struct journal_effect *e = journal_rows_effect(s, &a->effect);
	if (e) {
		if (over)
			return 0; /* it stays the one that was asked */
		*(a->kind == JOURNAL_KIND_DOUBT ? &e->doubt : &e->approval) = a->id;
		return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_EFFECT,
								    .run = e->run,
								    .effect = e->number,
								    .id = e->id});
	}
	if (a->step == JOURNAL_NO_STEP) {
		if (landing_kind(a->kind) &&
		    (!over || journal_id_equal(&run->landing_approval, &a->id)))
			run->landing_approval = over ? no_id : a->id;
		if (landing_kind(a->kind) && !over)
			journal_fold_forget_failure(run);
		return 0;
	}
	struct journal_step *step = run->steps[a->step];
	if (over && !journal_id_equal(&step->approval, &a->id))
		return 0;
	step->approval = over ? no_id : a->id;
	return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_STEP,
							    .run = r->run,
							    .step = a->step});
}

int journal_fold_open_approval(struct journal_state *s, struct journal_run *run,
			       const struct journal_record *r, struct error *err)
{
	const struct journal_payload *p = &r->p;
	if (r->step != JOURNAL_NO_STEP && r->step >= run->step_count)
		return journal_fold_refuse(err, r, "no such step");
	if (p->kind < JOURNAL_KIND_STEP_GATE || p->kind > JOURNAL_KIND_DOUBT)
		return journal_fold_refuse(err, r, "unknown kind of approval");
	const struct journal_effect *e =
		JOURNAL_HAS(p, effect) ? journal_rows_effect(s, &p->effect) : NULL;
	bool of_effect = p->kind == JOURNAL_KIND_EFFECT || p->kind == JOURNAL_KIND_DOUBT;
	if (of_effect != JOURNAL_HAS(p, effect) ||
	    (of_effect &&
	     (!e || !journal_id_equal(&e->run, &r->run) || e->step != r->step ||
	      e->state != (p->kind == JOURNAL_KIND_EFFECT ? JOURNAL_EFFECT_S_WAITING
							  : JOURNAL_EFFECT_S_IN_DOUBT))))
		return journal_fold_refuse(err, r, "no effect of this run and step asks that");
	if (journal_rows_approval(s, &p->approval))
		return journal_fold_refuse(err, r, "an approval has this id already");
	struct journal_approval *a = calloc(1, sizeof(*a));
	if (!a || (JOURNAL_HAS(p, why) && journal_fold_set_text(&a->why, p->why) < 0)) {
		journal_rows_free_approval(a);
		return -ENOMEM;
	}
	a->id = p->approval;
	a->run = r->run;
	a->step = r->step;
	a->kind = (enum journal_approval_kind)p->kind;
	a->state = JOURNAL_APPROVAL_S_OPEN;
	a->action = p->action;
	a->card = p->card;
	a->effect = p->effect;
	a->object = JOURNAL_HAS(p, conflicts) ? p->conflicts
		    : JOURNAL_HAS(p, input)   ? p->input
					      : p->digest;
	a->opened_lsn = r->lsn;
	a->opened_ns = r->wall_ns;
	a->decide_by_ns = p->decide_by_ns;
	a->execute_by_ns = p->execute_by_ns;
	int rc = journal_rows_add_approval(s, a);
	if (rc == 0)
		rc = link_item(s, run, a, r, false);
	return rc < 0 ? rc : mark_item(s, a);
}

static int add_vote(struct journal_approval *a, const struct journal_record *r)
{
	const struct journal_payload *p = &r->p;
	struct journal_vote *grown = reallocarray(a->votes, a->vote_count + 1ul, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	a->votes = grown;
	struct journal_vote *v = &grown[a->vote_count];
	*v = (struct journal_vote){
		.decision = (enum journal_decision)p->decision,
		.card = p->card,
		.at_ns = r->wall_ns,
		.file = p->digest,
		.proof = p->proof,
		.signed_ns = p->signed_ns,
		.shown_ms = p->shown_ms,
	};
	a->vote_count++;
	if ((JOURNAL_HAS(p, principal) && journal_fold_set_text(&v->principal, p->principal) < 0) ||
	    (JOURNAL_HAS(p, auth) && journal_fold_set_text(&v->auth, p->auth) < 0) ||
	    (JOURNAL_HAS(p, why) && journal_fold_set_text(&v->reason, p->why) < 0) ||
	    (JOURNAL_HAS(p, choice) && journal_fold_set_text(&v->choice, p->choice) < 0))
		return -ENOMEM;
	if (!JOURNAL_HAS(p, path) || p->path.len == 0)
		return 0;
	v->path = bytes_of(bytes_dup_str(p->path), p->path.len);
	return v->path.data ? 0 : -ENOMEM;
}

int journal_fold_approval(struct journal_state *s, struct journal_run *run,
			  const struct journal_record *r, struct error *err)
{
	struct journal_approval *a = journal_rows_approval(s, &r->p.approval);
	if (!a || !journal_id_equal(&a->run, &r->run) || a->step != r->step)
		return journal_fold_refuse(err, r, "no such approval of this run and step");
	int next = journal_state_next_approval(a->state, r->type);
	if (next < 0)
		return journal_fold_refuse_transition(err, r, "approval",
						      journal_approval_state_name(a->state));
	int rc = 0;
	if (r->type == JOURNAL_VOTE_CAST) {
		if (r->p.decision != JOURNAL_DECISION_APPROVE &&
		    r->p.decision != JOURNAL_DECISION_DENY)
			return journal_fold_refuse(err, r, "unknown decision");
		if (a->vote_count >= JOURNAL_VOTES_MAX)
			return journal_fold_refuse(err, r, "too many votes");
		run->starts_without_progress = 0;
		rc = add_vote(a, r);
		return rc < 0 ? rc : mark_item(s, a);
	}
	if (r->type == JOURNAL_APPROVAL_TOLD) {
		a->told |= (uint32_t)r->p.told;
		return mark_item(s, a);
	}
	a->state = (enum journal_approval_state)next;
	TAKE(a, r, execute_by_ns);
	if (JOURNAL_HAS(&r->p, choice))
		rc = journal_fold_set_text(&a->choice, r->p.choice);
	if (rc == 0 && JOURNAL_HAS(&r->p, why))
		rc = journal_fold_set_text(&a->why, r->p.why);
	if (rc == 0)
		rc = link_item(s, run, a, r, a->state != JOURNAL_APPROVAL_S_APPROVED);
	return rc < 0 ? rc : mark_item(s, a);
}
