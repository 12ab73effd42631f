#include "supervisor/effect_cards.h"

#include <stdlib.h>
#include <string.h>
#include "supervisor/card_effect.h"
#include "supervisor/effect_decide.h"
#include "supervisor/net.h"
#include "supervisor/runs.h"
#include "supervisor/tools.h"

struct work {
	struct card_effect in;
	struct action action, before;
	struct buffer canonical, was, body, was_body;
	struct effect_decision decision;
	struct policy_effective *policy;
	char key[ENGINE_KEY_SIZE], program[PATH_MAX];
};

static void work_free(struct work *w)
{
	buffer_free(&w->canonical);
	buffer_free(&w->was);
	buffer_free(&w->body);
	buffer_free(&w->was_body);
	policy_effective_free(w->policy);
	free(w);
}
DEFINE_GUARD(struct work *, work_free)

static int read_action(struct daemon *d, const struct digest *blob, struct buffer *bytes,
		       struct action *action, struct buffer *body, struct error *err)
{
	int r = journal_blob_get(d->journal, blob, ACTION_BYTES_MAX, bytes, err);

	if (r == 0)
		r = action_decode(buffer_bytes(bytes), action);
	/* A longer one cannot be shown: the card says so of what it gets. */
	if (r == 0 && action->has_body && action->body_len <= CARD_EFFECT_BODY_MAX)
		r = journal_blob_get(d->journal, &action->body, CARD_EFFECT_BODY_MAX, body, err);
	return r;
}

static void count_done(const struct journal_run *run, const struct journal_effect *f,
		       struct card_effect *in)
{
	for (uint32_t i = 0; i < run->effect_count; i++) {
		const struct journal_effect *x = run->effects[i];

		if (x == f || x->state != JOURNAL_EFFECT_S_CONFIRMED)
			continue;
		in->done_same += digest_equal(&x->identity, &f->identity);
		in->done_rule += x->rule && f->rule && strcmp(x->rule, f->rule) == 0;
	}
}

/* What the courier holds it to, as the journal knows it. The time of a rate ends now here; the
 * courier's began with the first request in it. */
static int count_budget(struct daemon *d, const struct journal_run *run,
			const struct journal_effect *f, struct work *w)
{
	struct policy_settings s;
	struct net_spent spent;
	int64_t from =
		w->in.rule ? daemon_now().wall_ns - (int64_t)w->in.rule->rate_per_ms * 1000000 : 0;
	int r;

	for (uint32_t i = 0; i < run->effect_count; i++) {
		const struct journal_effect *x = run->effects[i];

		w->in.rate_used += x->proposed_ns > from && x->rule && f->rule &&
				   strcmp(x->rule, f->rule) == 0;
	}
	policy_settings(w->policy, &s);
	w->in.requests.limit = s.limits.value[POLICY_LIMIT_REQUESTS];
	w->in.egress.limit = s.limits.value[POLICY_LIMIT_EGRESS];
	if (!w->in.requests.limit && !w->in.egress.limit)
		return 0;
	r = net_spent(d, &run->id, &spent);
	w->in.requests.used = spent.requests;
	w->in.egress.used = spent.sent;
	return r;
}

/* The rule's words for the card, from the policy as it stands. */
static int read_rule(struct daemon *d, const struct journal_run *run,
		     const struct journal_step *step, struct work *w, struct error *err)
{
	struct policy_settings settings;
	struct runs_context *ctx;
	int r = runs_get(d, &run->id, &ctx, err);

	if (r == 0)
		r = policy_effective_step(ctx->policy, step->name, POLICY_AGENCY_UNSET, &w->policy,
					  err);
	if (r == 0)
		r = effect_decide(w->policy, &w->action, buffer_bytes(&w->body), &w->decision);
	if (r < 0)
		return r;
	policy_settings(ctx->policy, &settings);
	if (settings.decide_by_ms && w->in.kind == JOURNAL_KIND_EFFECT)
		w->in.decide_by_ns =
			daemon_now().wall_ns + (int64_t)settings.decide_by_ms * 1000000;
	w->in.execute_by_ns = (int64_t)settings.execute_by_ms * 1000000;
	w->in.rule = w->decision.has_rule ? &w->decision.rule : NULL;
	w->in.why = w->decision.policy.why[0] ? w->decision.policy.why : NULL;
	return 0;
}

/* The words of its command, and the path of its program. */
static void read_tool(struct work *w)
{
	AUTO_FREE char *id = bytes_dup_str(w->action.tool);
	struct policy_tool_info t;

	if (!id || !tools_find(w->policy, id, &t, w->program))
		return;
	w->in.words = t.run;
	w->in.word_count = t.run_count;
	w->in.program = w->program[0] ? w->program : NULL;
}

static int render(struct daemon *d, const struct engine_command *c, struct work *w,
		  struct digest *ret, struct error *err)
{
	const struct journal_effect *f = journal_state_effect(d->rows, &c->effect);
	const struct journal_run *run = f ? journal_state_run(d->rows, &f->run) : NULL;
	const struct journal_step *step = run ? run->steps[f->step] : NULL;
	AUTO_BUFFER card = {0};
	bool complete;
	int64_t until;
	int r;

	if (!run)
		return -ENOENT;
	w->in = (struct card_effect){.kind = c->card_kind,
				     .run_name = run->name,
				     .run = run->id,
				     .step_key = step->key,
				     .effect = f,
				     .item = c->action,
				     .action = &w->action};
	r = read_action(d, &c->object, &w->canonical, &w->action, &w->body, err);
	if (r == 0 && !digest_is_zero(&f->before) && c->card_kind == JOURNAL_KIND_EFFECT) {
		r = read_action(d, &f->before, &w->was, &w->before, &w->was_body, err);
		w->in.before = &w->before;
		w->in.before_body = buffer_bytes(&w->was_body);
	}
	if (r == 0)
		r = read_rule(d, run, step, w, err);
	if (r == 0)
		r = count_budget(d, run, f, w);
	if (r < 0)
		return r;
	w->in.body = buffer_bytes(&w->body);
	w->in.domain = policy_registrable(w->action.host);
	count_done(run, f, &w->in);
	if (f->retry == JOURNAL_RETRY_KEYED && engine_effect_key(run, f, w->key) == 0)
		w->in.key = w->key;
	w->in.probed = engine_effect_doubt(f, daemon_now().wall_ns, &until) == ENGINE_DOUBT_PROBE;
	w->in.unasked = !engine_run_named(d->engine, &run->id);
	if (w->action.kind == ACTION_TOOL)
		read_tool(w);
	r = card_effect_render(&w->in, &card, &complete, err);
	return r < 0 ? r : journal_blob_put(d->journal, buffer_bytes(&card), ret, err);
}

void effect_cards_make(struct daemon *d, const struct engine_command *c)
{
	AUTO(work_free) struct work *w = calloc(1, sizeof(*w));
	struct error err = {0};
	struct digest card;
	int r = w ? render(d, c, w, &card, &err) : -ENOMEM;

	if (r == 0)
		daemon_check(d,
			     engine_card(d->engine, daemon_now(), &c->run, c->step, c->card_kind,
					 &c->action, &card, &c->object),
			     "card");
	else if (r == -ENOTSUP && c->card_kind == JOURNAL_KIND_EFFECT)
		daemon_check(d,
			     engine_effect_unshown(d->engine, daemon_now(), &c->effect, &c->action,
						   err.msg),
			     "card");
	else /* without a card nothing can be voted on; it is asked for again at the next start */
		daemon_log(d, "cannot make a card: %s", err.msg[0] ? err.msg : strerror(-r));
}
