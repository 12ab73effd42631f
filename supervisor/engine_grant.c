/*
 * A person's word on what is to come: grants, `standing` of the policy, and rules that are denied
 * for a run. What a pattern covers is looked at by the caller (the engine sees no actions); whether
 * it may still be used is decided here, and each use stands in the batch of what it allows.
 */
#include <errno.h>
#include "supervisor/engine_private.h"

enum { AGENCY_TRUSTED = 3 };

static bool is_of(const struct journal_grant *g, uint32_t step, const char *rule)
{
	return (g->step == JOURNAL_NO_STEP || g->step == step) && rule && *rule &&
	       strcmp(g->rule, rule) == 0;
}

const struct journal_grant *engine_grant_denial(const struct engine *e, const struct engine_run *r,
						uint32_t step, const char *rule)
{
	const struct journal_run *row = engine_run_row(e, r);

	for (uint32_t i = 0; i < row->grant_count; i++)
		if (row->grants[i].deny && is_of(&row->grants[i], step, rule) &&
		    journal_grant_holds(&row->grants[i], e->now.wall_ns))
			return &row->grants[i];
	return NULL;
}

static const struct journal_grant *by_id(const struct journal_run *row, const struct journal_id *id)
{
	for (uint32_t i = 0; i < row->grant_count; i++)
		if (journal_id_equal(&row->grants[i].id, id))
			return &row->grants[i];
	return NULL;
}

/* ---- standing ---- */

static const struct journal_grant *standing(struct engine *e, struct engine_run *r, uint32_t step,
					    const struct engine_proposal *x)
{
	const struct engine_standing *st = x->standing;
	const struct journal_run *row = engine_run_row(e, r);
	struct journal_record rec = engine_record(r, JOURNAL_NO_STEP, JOURNAL_GRANT_MADE);
	struct journal_id id;

	for (uint32_t i = 0; i < row->grant_count; i++)
		if (row->grants[i].at && strcmp(row->grants[i].at, st->at) == 0 &&
		    is_of(&row->grants[i], step, x->rule))
			return &row->grants[i];
	if (row->grant_count >= JOURNAL_GRANTS_MAX || e->now.wall_ns >= st->expires_ns)
		return NULL;
	e->ops.new_id(e->ops.ctx, &id);
	JOURNAL_SET(&rec.p, grant, id);
	JOURNAL_SET(&rec.p, rule, bytes_str(x->rule));
	JOURNAL_SET(&rec.p, decision, JOURNAL_DECISION_APPROVE);
	JOURNAL_SET(&rec.p, uses, st->uses);
	JOURNAL_SET(&rec.p, expires_ns, st->expires_ns);
	JOURNAL_SET(&rec.p, at, bytes_str(st->at));
	if (st->why)
		JOURNAL_SET(&rec.p, why, bytes_str(st->why));
	engine_emit(e, &rec);
	return by_id(engine_run_row(e, r), &id);
}

const struct journal_grant *engine_grant_for(struct engine *e, struct engine_run *r, uint32_t step,
					     const struct engine_proposal *x)
{
	const struct journal_grant *g =
		engine_id_is_zero(&x->grant) ? NULL : by_id(engine_run_row(e, r), &x->grant);

	if (g && !g->deny && is_of(g, step, x->rule) && journal_grant_holds(g, e->now.wall_ns))
		return g;
	if (!x->standing || !x->rule)
		return NULL;
	g = standing(e, r, step, x);
	return g && journal_grant_holds(g, e->now.wall_ns) ? g : NULL;
}

void engine_grant_use(struct engine *e, struct engine_run *r, const struct journal_grant *g,
		      const struct journal_id *effect)
{
	struct journal_record rec = engine_record(r, g->step, JOURNAL_GRANT_USED);

	JOURNAL_SET(&rec.p, grant, g->id);
	JOURNAL_SET(&rec.p, effect, *effect);
	engine_emit(e, &rec);
}

/* ---- made with a vote ---- */

static int refuse(struct error *err, int code, enum exit_status exit, const char *why)
{
	return error_set_exit(err, code, exit, "vote: %s", why);
}

int engine_grant_check(struct engine *e, struct engine_run *r, const struct journal_approval *a,
		       const struct engine_vote *v, struct error *err)
{
	const struct journal_effect *f = journal_state_effect(e->rows, &a->effect);
	const struct journal_run *row = engine_run_row(e, r);
	const struct engine_grant *g = v->grant;
	struct engine_rules rules;

	if (!g && !v->whole_rule)
		return 0;
	if (a->kind != JOURNAL_KIND_EFFECT || !f || !f->rule)
		return refuse(err, -EINVAL, EXIT_STATUS_USAGE,
			      "only an effect that a rule asks about can be granted, or its rule "
			      "denied");
	if ((g && v->decision != JOURNAL_DECISION_APPROVE) ||
	    (v->whole_rule && v->decision != JOURNAL_DECISION_DENY))
		return refuse(err, -EINVAL, EXIT_STATUS_USAGE,
			      "a grant goes with an approval, a denied rule with a denial");
	if (row->grant_count >= JOURNAL_GRANTS_MAX)
		return refuse(err, -E2BIG, EXIT_STATUS_LIMIT, "the run has too many grants");
	if (!g)
		return 0;
	engine_item_rules(e, r, &rules);
	if (rules.quorum > 1 || rules.signed_votes)
		return refuse(err, -EPERM, EXIT_STATUS_DENIED,
			      "the policy asks for several people or for signatures: each action "
			      "is decided by itself");
	if (f->class == JOURNAL_CLASS_IRREVERSIBLE && row->agency < AGENCY_TRUSTED)
		return refuse(err, -EPERM, EXIT_STATUS_DENIED,
			      "an irreversible action is granted at agency trusted and above "
			      "only; approve this one alone");
	if (digest_is_zero(&g->pattern) || g->uses < 1 || g->uses > ENGINE_GRANT_USES_MAX ||
	    g->expires_ns <= e->now.wall_ns ||
	    g->expires_ns - e->now.wall_ns > ENGINE_GRANT_DAYS_MAX * 86400ll * 1000000000)
		return refuse(err, -EINVAL, EXIT_STATUS_USAGE,
			      "a grant names what it covers, at most 1000 uses, and at most 30 "
			      "days");
	return 0;
}

void engine_grant_make(struct engine *e, struct engine_run *r, const struct journal_approval *a,
		       const struct engine_vote *v)
{
	const struct journal_effect *f = journal_state_effect(e->rows, &a->effect);
	bool step_only = v->grant && v->grant->step_only;
	struct journal_record rec =
		engine_record(r, step_only ? a->step : JOURNAL_NO_STEP, JOURNAL_GRANT_MADE);
	struct journal_id id;

	e->ops.new_id(e->ops.ctx, &id);
	JOURNAL_SET(&rec.p, grant, id);
	JOURNAL_SET(&rec.p, rule, bytes_str(f->rule));
	JOURNAL_SET(&rec.p, decision, v->decision);
	JOURNAL_SET(&rec.p, approval, a->id);
	if (v->grant) {
		JOURNAL_SET(&rec.p, pattern, v->grant->pattern);
		JOURNAL_SET(&rec.p, uses, v->grant->uses);
		JOURNAL_SET(&rec.p, expires_ns, v->grant->expires_ns);
	}
	if (v->principal)
		JOURNAL_SET(&rec.p, principal, bytes_str(v->principal));
	if (v->auth)
		JOURNAL_SET(&rec.p, auth, bytes_str(v->auth));
	if (v->reason)
		JOURNAL_SET(&rec.p, why, bytes_str(v->reason));
	engine_emit(e, &rec);
}

int engine_grant_revoke(struct engine *e, struct engine_now now, const struct journal_id *run,
			const struct journal_id *grant, uint32_t uid, const char *principal,
			struct error *err)
{
	const struct journal_grant *g;
	struct journal_record rec;
	struct engine_run *r;

	engine_enter(e, now);
	r = engine_run_get(e, run);
	g = r ? by_id(engine_run_row(e, r), grant) : NULL;
	if (!g)
		return error_set_exit(err, -ENOENT, EXIT_STATUS_USAGE, "no such grant in this run");
	if (g->revoked)
		return error_set_exit(err, -EALREADY, EXIT_STATUS_CONFLICT,
				      "the grant was taken back already");
	rec = engine_record(r, g->step, JOURNAL_GRANT_REVOKED);
	JOURNAL_SET(&rec.p, grant, *grant);
	if (principal)
		JOURNAL_SET(&rec.p, principal, bytes_str(principal));
	engine_act_as(e, JOURNAL_ACTOR_PERSON, uid);
	engine_emit(e, &rec);
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	return engine_advance(e, r);
}
