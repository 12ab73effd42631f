/*
 * engine_effect_proposed(): what is proposed is matched with what this step proposed before, and
 * decided: the policy's word, made stricter by the run's limits and by what people said.
 */
#include <errno.h>
#include "supervisor/engine_client.h"
#include "supervisor/engine_private.h"

/* What this step proposed before and this one stands for; NULL: it is the next occurrence. */
static const struct journal_effect *match(const struct journal_effect *const *same, size_t count,
					  uint32_t attempt)
{
	for (size_t i = 0; i < count; i++) {
		const struct journal_effect *f = same[i];

		if (f->state == JOURNAL_EFFECT_S_DENIED || f->state == JOURNAL_EFFECT_S_WITHDRAWN)
			continue;
		if (f->state == JOURNAL_EFFECT_S_REFUSED || f->attempt != attempt || !f->delivered)
			return f;
	}
	return NULL;
}

static void fill(struct journal_payload *p, const struct engine_proposal *x)
{
	JOURNAL_SET(p, action, x->action);
	JOURNAL_SET(p, canonical, x->canonical);
	JOURNAL_SET(p, action_kind, x->action_kind);
	JOURNAL_SET(p, class, x->class);
	JOURNAL_SET(p, retry, x->retry);
	if (!digest_is_zero(&x->body))
		JOURNAL_SET(p, body, x->body);
	if (x->window_ms)
		JOURNAL_SET(p, window_ms, x->window_ms);
#define TEXT(field)                                                 \
	do {                                                        \
		if (x->field)                                       \
			JOURNAL_SET(p, field, bytes_str(x->field)); \
	} while (0)
	TEXT(header);
	TEXT(probe);
	TEXT(rule);
	TEXT(at);
	TEXT(secret);
	TEXT(claim);
	TEXT(dropped);
	TEXT(title);
#undef TEXT
}

static uint32_t denied_count(const struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	for (; r->denied_seen < row->effect_count; r->denied_seen++)
		r->denied += row->effects[r->denied_seen]->state == JOURNAL_EFFECT_S_DENIED;
	return r->denied;
}

static uint32_t waiting_count(const struct journal_run *row)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < row->open_count; i++)
		n += row->open[i]->state == JOURNAL_EFFECT_S_WAITING;
	return n;
}

/* The policy's word, made stricter by the run's limits. */
static enum engine_verdict judge(struct engine *e, struct engine_run *r, uint32_t step,
				 const struct engine_proposal *x, bool waits,
				 const struct journal_grant **ret_grant, const char **ret_why)
{
	struct engine_rules rules;

	*ret_why = x->why;
	*ret_grant = NULL;
	if (engine_grant_denial(e, r, step, x->rule)) {
		*ret_why = "a person denied this rule for the run";
		return ENGINE_DENY;
	}
	if (x->verdict != ENGINE_ASK || waits)
		return x->verdict;
	*ret_grant = engine_grant_for(e, r, step, x);
	if (*ret_grant) {
		*ret_why = (*ret_grant)->at ? "a standing grant of the policy" : "a person's grant";
		return ENGINE_ALLOW;
	}
	engine_item_rules(e, r, &rules);
	if (rules.unattended_deny) {
		*ret_why = "a person would be asked, and the policy says that nobody is there";
		return ENGINE_DENY;
	}
	if (waiting_count(engine_run_row(e, r)) >= e->limits.effects_open_max) {
		*ret_why = "too many effects of this run wait for people already";
		return ENGINE_DENY;
	}
	return ENGINE_ASK;
}

static void decide(struct engine *e, struct engine_run *r, const struct journal_effect *f,
		   enum engine_verdict verdict, const char *why)
{
	switch (verdict) {
	case ENGINE_DENY:
		engine_effect_deny(e, r, f, why);
		break;
	case ENGINE_ASK:
		engine_effect_emit(e, r, f, JOURNAL_EFFECT_WAITING, why);
		break;
	case ENGINE_ALLOW:
		engine_effect_emit(e, r, f, JOURNAL_EFFECT_ALLOWED, why);
		break;
	}
}

/* The policy's word of now, for what was decided before and not sent. */
static void decide_again(struct engine *e, struct engine_run *r, const struct journal_effect *f,
			 enum engine_verdict verdict, const char *why)
{
	bool allowed = f->state == JOURNAL_EFFECT_S_ALLOWED;

	if (verdict == ENGINE_DENY) {
		engine_effect_deny(e, r, f, why);
	} else if (verdict == ENGINE_ASK && allowed && engine_id_is_zero(&f->approval)) {
		engine_effect_emit(e, r, f, JOURNAL_EFFECT_WAITING, why);
	} else if (verdict == ENGINE_ALLOW && !allowed) {
		engine_effect_end_item(e, r, f, "the policy allows it now");
		engine_effect_emit(e, r, f, JOURNAL_EFFECT_ALLOWED, why);
	}
}

/* Another action of the same identity stands instead: what was asked, or said, was about the old
 * one. */
static void supersede(struct engine *e, struct engine_run *r, const struct journal_effect *f)
{
	const struct journal_approval *a = engine_item_of(e, &f->approval);

	engine_item_forget_effect(r, &f->id);
	if (a && a->state == JOURNAL_APPROVAL_S_OPEN)
		engine_item_supersede(e, r, a);
	else
		engine_item_end(e, r, a, "another action stands instead of it");
	if (f->state == JOURNAL_EFFECT_S_ALLOWED)
		engine_effect_emit(e, r, f, JOURNAL_EFFECT_WAITING,
				   "another action stands instead of it");
}

static void attach(struct engine *e, struct engine_run *r, const struct journal_effect *f,
		   const struct engine_proposal *x, uint32_t attempt)
{
	bool other = !digest_equal(&f->action, &x->action),
	     unsent = f->state == JOURNAL_EFFECT_S_PROPOSED ||
		      f->state == JOURNAL_EFFECT_S_WAITING || f->state == JOURNAL_EFFECT_S_ALLOWED;
	struct digest before = f->canonical;
	struct journal_record rec;
	const char *why;

	if (other && unsent)
		supersede(e, r, f);
	if (f->attempt != attempt || (other && unsent)) {
		rec = engine_effect_record(r, f, JOURNAL_EFFECT_ATTACHED);
		rec.attempt = attempt;
		if (other && unsent) {
			fill(&rec.p, x);
			JOURNAL_SET(&rec.p, before, before);
		}
		engine_emit(e, &rec);
	}
	if (unsent) {
		/* What a grant allowed and nobody sent is looked at anew: it may be gone. */
		bool allowed =
			f->state == JOURNAL_EFFECT_S_ALLOWED && engine_id_is_zero(&f->approval);
		const struct journal_grant *grant;
		enum engine_verdict verdict = judge(e, r, f->step, x, !allowed, &grant, &why);

		if (grant)
			engine_grant_use(e, r, grant, &f->id);
		decide_again(e, r, f, verdict, why);
	}
}

static void propose(struct engine *e, struct engine_run *r, const struct engine_proposal *x,
		    uint32_t step, uint32_t attempt, const struct journal_effect *again,
		    size_t occurrence, struct journal_id *ret)
{
	struct journal_record rec = engine_record(r, step, JOURNAL_EFFECT_PROPOSED);

	if (again)
		*ret = again->id;
	else
		e->ops.new_id(e->ops.ctx, ret);
	rec.attempt = attempt;
	JOURNAL_SET(&rec.p, effect, *ret);
	JOURNAL_SET(&rec.p, identity, x->identity);
	JOURNAL_SET(&rec.p, occurrence, occurrence);
	fill(&rec.p, x);
	engine_emit(e, &rec);
}

/* What it waits for is there already, or is told that it waits. */
static void answer_now(struct engine *e, struct engine_run *r, const struct journal_effect *f)
{
	switch (f->state) {
	case JOURNAL_EFFECT_S_CONFIRMED:
	case JOURNAL_EFFECT_S_COMPENSATED:
		engine_effect_answer(e, r, f, ENGINE_ANSWER_REPLAY);
		break;
	case JOURNAL_EFFECT_S_ABANDONED:
		if (!f->delivered) /* the answer is final: asking again is another effect */
			engine_effect_emit(e, r, f, JOURNAL_EFFECT_DELIVERED, NULL);
		engine_effect_answer(e, r, f, ENGINE_ANSWER_DENY);
		break;
	case JOURNAL_EFFECT_S_WAITING:
		engine_effect_answer(e, r, f, ENGINE_ANSWER_WAITING);
		break;
	case JOURNAL_EFFECT_S_PROPOSED:
	case JOURNAL_EFFECT_S_ALLOWED:
	case JOURNAL_EFFECT_S_RESERVED:
	case JOURNAL_EFFECT_S_IN_DOUBT: /* pushed */
	case JOURNAL_EFFECT_S_DENIED: /* answered as it was denied */
	case JOURNAL_EFFECT_S_WITHDRAWN:
	case JOURNAL_EFFECT_S_REFUSED:
	case JOURNAL_EFFECT_S_COUNT:
		break;
	}
}

int engine_effect_proposed(struct engine *e, struct engine_now now, const struct engine_proposal *x,
			   struct journal_id *ret)
{
	const struct journal_effect *const *same, *f;
	const struct journal_attempt *a;
	const struct journal_run *row;
	const struct journal_grant *grant;
	enum engine_verdict verdict;
	struct engine_client *c;
	struct engine_run *r;
	struct journal_id id;
	uint32_t step, number;
	const char *why;
	size_t count;

	engine_enter(e, now);
	if (!engine_find_attempt(e, &x->attempt, &r, &step))
		return -ESTALE;
	row = engine_run_row(e, r);
	a = engine_last_attempt(row->steps[step]);
	if (!engine_attempt_lives(a) || a->suspending || row->state == JOURNAL_RUN_S_CANCELLING ||
	    journal_run_final(row->state))
		return -ESTALE;
	number = a->number;
	count = journal_state_effects_same(e->rows, &r->id, step, &x->identity, &same);
	f = match(same, count, number);
	verdict = judge(e, r, step, x, f && f->state == JOURNAL_EFFECT_S_WAITING, &grant, &why);
	if (!f && verdict == ENGINE_DENY && denied_count(e, r) >= e->limits.effects_denied_max)
		return ENGINE_PROPOSED_DENIED;
	if (!f || f->state == JOURNAL_EFFECT_S_REFUSED)
		propose(e, r, x, step, number, f, f ? f->occurrence : count + 1, &id);
	else
		id = f->id;
	c = engine_client_get(e, r, &id);
	if (!c)
		return e->failed;
	c->attached = true;
	engine_client_asks(c);
	c->courier = x->courier;
	if (!f || f->state != JOURNAL_EFFECT_S_RESERVED || x->request == f->request)
		c->request = x->request;
	if (f && f->state != JOURNAL_EFFECT_S_PROPOSED) {
		attach(e, r, f, x, number);
	} else {
		f = journal_state_effect(e->rows, &id);
		if (grant)
			engine_grant_use(e, r, grant, &id);
		decide(e, r, f, verdict, why);
	}
	answer_now(e, r, f);
	*ret = id;
	return engine_advance(e, r);
}
