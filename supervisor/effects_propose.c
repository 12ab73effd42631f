/*
 * A proposal, from the courier's bytes to the engine: the policy of the attempt, the decision, what a
 * person or the policy granted, the body and the canonical action as blobs.
 */
#include "supervisor/effects_propose.h"

#include <stdlib.h>
#include <string.h>
#include "base/escape.h"
#include "base/failpoint.h"
#include "base/utf8.h"
#include "supervisor/effect_decide.h"
#include "supervisor/effects_request.h"
#include "supervisor/runs.h"
#include "supervisor/tools.h"

enum {
	CLAIM_MAX = 200, /* bytes of the agent's own reason, as it is shown */
	GRANT_BYTES_MAX = 64 * 1024, /* of a grant's pattern */
	JSON_SEEN_MAX = 4 * 1024 * 1024, /* bytes of a body that rules and identities look into */
};

static const struct journal_id no_id;

/* What holds for the attempt now: its step's, at the run's dial. Borrowed. */
static int policy_for(struct effects_channel *c, const struct journal_run *run,
		      const struct journal_step *step, const struct journal_id *attempt,
		      const struct policy_effective **ret, struct error *err)
{
	struct effects_policy **at = &c->policies, *p;
	struct runs_context *ctx;
	int rc;

	while (*at && !journal_id_equal(&(*at)->attempt, attempt))
		at = &(*at)->next;
	p = *at;
	if (p && p->agency == run->agency) {
		*ret = p->policy;
		return 0;
	}
	if (p) {
		*at = p->next;
		policy_effective_free(p->policy);
		free(p);
	}
	rc = runs_get(c->d, &run->id, &ctx, err);
	p = rc == 0 ? calloc(1, sizeof(*p)) : NULL;
	if (!p)
		return rc < 0 ? rc : -ENOMEM;
	rc = policy_effective_step(ctx->policy, step->name, POLICY_AGENCY_UNSET, &p->policy, err);
	if (rc < 0) {
		free(p);
		return rc;
	}
	p->attempt = *attempt;
	p->agency = run->agency;
	p->next = c->policies;
	c->policies = p;
	*ret = p->policy;
	return 0;
}

struct proposal {
	struct action action;
	struct buffer body; /* what of it rules and identities look into */
	struct buffer sealed; /* of a tool: the canonical action with the bytes that will run */
	struct effect_decision decision;
	char title[EFFECT_DECIDE_TITLE_MAX], at[256], claim[CLAIM_MAX + 1], standing_at[256];
	char dropped[REPORT_TEXT_MAX + 1];
	struct engine_standing standing;
	struct engine_proposal x;
};

static void proposal_free(struct proposal *p)
{
	buffer_free(&p->body);
	buffer_free(&p->sealed);
	free(p);
}
DEFINE_GUARD(struct proposal *, proposal_free)

/* The body that came is the one that the action names. */
static int take_body(struct daemon *d, struct proposal *p, int fd, struct error *err)
{
	uint64_t size;
	int rc;

	if (!p->action.has_body)
		return 0;
	if (fd < 0 || p->action.body_len > ACTION_BODY_MAX)
		return error_set(err, -EPROTO, "its body did not come along");
	rc = journal_blob_put_fd(d->journal, fd, ACTION_BODY_MAX + 1, &p->x.body, &size, err);
	if (rc < 0)
		return rc;
	if (size != p->action.body_len || !digest_equal(&p->x.body, &p->action.body))
		return error_set(err, -EPROTO, "its body is not the one that it names");
	if (size > JSON_SEEN_MAX)
		return 0;
	return journal_blob_get(d->journal, &p->x.body, JSON_SEEN_MAX, &p->body, err);
}

static enum engine_verdict verdict_of(enum policy_verdict v)
{
	switch (v) {
	case POLICY_ALLOW:
		return ENGINE_ALLOW;
	case POLICY_ASK:
		return ENGINE_ASK;
	case POLICY_DENY:
		break;
	}
	return ENGINE_DENY;
}

static enum journal_retry retry_of(enum policy_retry_mode m)
{
	switch (m) {
	case POLICY_RETRY_SAFE:
		return JOURNAL_RETRY_SAFE;
	case POLICY_RETRY_KEYED:
		return JOURNAL_RETRY_KEYED;
	case POLICY_RETRY_PROBE:
		return JOURNAL_RETRY_PROBE;
	case POLICY_RETRY_NEVER:
		break;
	}
	return JOURNAL_RETRY_NEVER;
}

static void fill(struct proposal *p, const struct report_propose *m)
{
	const struct effect_decision *d = &p->decision;
	struct engine_proposal *x = &p->x;

	x->action_kind = p->action.kind;
	x->verdict = verdict_of(d->policy.verdict);
	x->class =
		d->policy.has_class ? (enum journal_class)d->policy.class : JOURNAL_CLASS_UNKNOWN;
	x->rule = d->policy.rule[0] ? d->policy.rule : NULL;
	x->secret = d->policy.secret && d->policy.secret[0] ? d->policy.secret : NULL;
	x->why = d->policy.why[0] ? d->policy.why : NULL;
	effect_decide_title(&p->action, p->title);
	x->title = p->title;
	if (d->policy.at.file && d->policy.at.file[0]) {
		utf8_printf(p->at, sizeof(p->at), "%s:%d:%d", d->policy.at.file, d->policy.at.line,
			    d->policy.at.column);
		x->at = p->at;
	}
	if (m->names.len) {
		utf8_copy(p->dropped, sizeof(p->dropped), m->names);
		x->dropped = p->dropped;
	}
	if (m->reason.len) {
		AUTO_FREE char *shown = escape_dup(m->reason, ESCAPE_LINE | ESCAPE_MARK_LOOKALIKE);

		utf8_copy(p->claim, sizeof(p->claim), bytes_str(shown ? shown : ""));
		x->claim = p->claim;
	}
	x->retry = JOURNAL_RETRY_NEVER;
	if (!d->has_rule)
		return;
	x->retry = retry_of(d->rule.retry);
	if (x->retry == JOURNAL_RETRY_KEYED) {
		x->header = d->rule.key_header;
		x->window_ms = d->rule.window_ms;
	}
	if (x->retry == JOURNAL_RETRY_PROBE)
		x->probe = d->rule.probe;
}

/* A person's grant of this run whose pattern covers it. */
static void find_grant(struct daemon *d, const struct journal_run *run, uint32_t step,
		       const struct policy_effective *policy, struct proposal *p)
{
	for (uint32_t i = 0; i < run->grant_count; i++) {
		const struct journal_grant *g = &run->grants[i];
		AUTO(policy_free) struct policy *pattern = NULL;
		AUTO_BUFFER match = {0};

		if (g->deny || digest_is_zero(&g->pattern) || !p->x.rule ||
		    strcmp(g->rule, p->x.rule) != 0 ||
		    (g->step != JOURNAL_NO_STEP && g->step != step) ||
		    !journal_grant_holds(g, daemon_now().wall_ns))
			continue;
		if (journal_blob_get(d->journal, &g->pattern, GRANT_BYTES_MAX, &match, NULL) < 0 ||
		    policy_grant_parse(g->rule, buffer_bytes(&match), &pattern, NULL) < 0 ||
		    !effect_decide_granted(policy, &p->action, buffer_bytes(&p->body), pattern))
			continue;
		p->x.grant = g->id;
		return;
	}
}

static void find_standing(const struct policy_effective *policy, struct proposal *p)
{
	struct policy_standing_info info;

	for (size_t i = 0; policy_standing_at(policy, i, &info); i++) {
		if (!p->x.rule || strcmp(info.rule, p->x.rule) != 0 ||
		    info.expires_ns <= daemon_now().wall_ns ||
		    !effect_decide_standing(policy, &p->action, buffer_bytes(&p->body), i))
			continue;
		utf8_printf(p->standing_at, sizeof(p->standing_at), "%s:%d:%d", info.at.file,
			    info.at.line, info.at.column);
		p->standing = (struct engine_standing){.at = p->standing_at,
						       .why = info.why,
						       .uses = info.uses,
						       .expires_ns = info.expires_ns};
		p->x.standing = &p->standing;
		return;
	}
}

/* What runs is part of what is approved: only the supervisor can say which bytes those are. */
static int seal_tool(struct daemon *d, const struct policy_effective *policy, struct proposal *p,
		     struct error *err)
{
	struct tools_program program;
	char id[256];
	int r;

	snprintf(id, sizeof(id), "%.*s", (int)p->action.tool.len,
		 (const char *)p->action.tool.data);
	r = tools_seal(d, policy, id, &program, err);
	if (r < 0)
		return r;
	p->action.program = program.program;
	p->action.interpreter = program.interpreter;
	memcpy(p->action.files, program.files, sizeof(program.files));
	p->action.file_count = program.file_count;
	r = action_encode(&p->action, &p->sealed);
	return r < 0 ? error_set(err, r, "the call cannot be written down: %s", strerror(-r)) : 0;
}

/* Where it is learnt what a command wants nobody waits to be asked. */
static int deny_learning(struct effects_channel *c, const struct journal_run *run,
			 struct proposal *p, struct error *err)
{
	struct runs_context *ctx;
	int rc = runs_get(c->d, &run->id, &ctx, err);

	if (rc < 0 || !ctx->settings.learn || p->x.verdict != ENGINE_ASK)
		return rc;
	p->x.verdict = ENGINE_DENY;
	p->x.why = "its rule asks a person, and nobody is asked while it is learnt what a command "
		   "wants";
	return 0;
}

static int prepare(struct effects_channel *c, const struct journal_run *run,
		   const struct journal_step *step, const struct report_propose *m, int body_fd,
		   struct proposal *p, struct error *err)
{
	const struct policy_effective *policy = NULL;
	struct bytes canonical = m->action;
	const char *const *ignore;
	int rc = action_decode(m->action, &p->action);

	if (rc < 0)
		return error_set(err, -EPROTO, "it cannot be read");
	rc = take_body(c->d, p, body_fd, err);
	if (rc == 0)
		rc = policy_for(c, run, step, &p->x.attempt, &policy, err);
	if (rc == 0)
		rc = effect_decide(policy, &p->action, buffer_bytes(&p->body), &p->decision);
	if (rc < 0)
		return rc;
	fill(p, m);
	rc = deny_learning(c, run, p, err);
	if (rc < 0)
		return rc;
	if (p->action.kind == ACTION_TOOL && p->x.verdict != ENGINE_DENY) {
		rc = seal_tool(c->d, policy, p, err);
		if (rc < 0)
			return rc;
		canonical = buffer_bytes(&p->sealed);
	}
	if (p->x.verdict == ENGINE_ASK) {
		find_grant(c->d, run, step->index, policy, p);
		if (p->decision.policy.standing)
			find_standing(policy, p);
	}
	action_digest(canonical, &p->x.action);
	ignore = p->decision.has_rule ? p->decision.rule.ignore : NULL;
	rc = action_identity(&p->action, buffer_bytes(&p->body), ignore,
			     p->decision.has_rule ? p->decision.rule.ignore_count : 0,
			     &p->x.identity);
	if (rc == -EBADMSG) { /* denied already, as unclear; or too long to look into */
		p->x.verdict = ENGINE_DENY;
		p->x.identity = p->x.action;
		rc = 0;
	}
	if (rc == 0)
		rc = journal_blob_put(c->d->journal, canonical, &p->x.canonical, err);
	return rc;
}

void effects_propose(struct effects_channel *c, const struct report_propose *m, int body_fd)
{
	AUTO(proposal_free) struct proposal *p = calloc(1, sizeof(*p));
	struct daemon *d = c->d;
	const struct journal_run *run = journal_state_run(d->rows, &c->run);
	struct error err = {0};
	struct journal_id effect;
	struct effects_request *old = effects_request_of(c, m->request);
	const struct journal_step *step;
	uint32_t attempt;
	int rc;

	if (!p) {
		daemon_log(d, "out of memory");
		return;
	}
	if (old) /* said twice on one channel: it waits already */
		return;
	memcpy(p->x.attempt.b, m->attempt, sizeof(p->x.attempt.b));
	p->x.courier = c->instance;
	p->x.request = m->request;
	step = journal_run_step_of(run, &p->x.attempt, &attempt);
	rc = step ? prepare(c, run, step, m, body_fd, p, &err) : -ESTALE;
	(void)failpoint_hit("effect.before-proposed");
	/* Its answer may come within: who waits is known before. */
	if (rc == 0)
		rc = effects_request_add(c, m->request, &no_id);
	if (rc == 0)
		rc = engine_effect_proposed(d->engine, daemon_now(), &p->x, &effect);
	if (rc == 0) {
		effects_request_of(c, m->request)->effect = effect;
		(void)failpoint_hit("effect.after-proposed");
		return;
	}
	old = effects_request_of(c, m->request);
	if (old)
		effects_request_drop(c, old);
	if (rc == ENGINE_PROPOSED_DENIED)
		effects_request_deny(c, m->request, &no_id, 429, p->x.rule ? p->x.rule : "",
				     "too many calls of this run were denied",
				     "its policy does not allow what it asks for");
	else if (rc == -ESTALE)
		effects_request_deny(c, m->request, &no_id, 409, "", "the attempt is over", "");
	else
		effects_request_deny(c, m->request, &no_id, 502, "",
				     err.msg[0] ? err.msg : "the supervisor could not record it",
				     "nothing was sent");
}
