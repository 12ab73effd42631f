#include "supervisor/cards.h"

#include <string.h>

#include "base/failpoint.h"
#include "base/utf8.h"
#include "supervisor/asks.h"
#include "supervisor/card.h"
#include "supervisor/diffs.h"
#include "supervisor/effect_cards.h"
#include "supervisor/runs.h"
#include "supervisor/work.h"

enum {
	FEEDBACK_SHOWN_MAX = 4096,
	DIFFERENCES_MAX = 24, /* more than a step's input has fields */
};

struct cards_work { /* what a card points to while it is rendered */
	struct daemon_command *command; /* owned */
	struct card_input in;
	struct landing_plan *plan;
	struct buffer feedback;
	struct card_difference differences[DIFFERENCES_MAX];
	char *texts[3 * DIFFERENCES_MAX];
	size_t text_count;
	char rule[ASKS_WHY_MAX];
};

void cards_free(struct cards_work *w)
{
	if (!w)
		return;
	daemon_command_free(w->command);
	landing_plan_free(w->plan);
	buffer_free(&w->feedback);
	for (size_t i = 0; i < w->text_count; i++)
		free(w->texts[i]);
	free(w);
}
DEFINE_GUARD(struct cards_work *, cards_free)

static int add_difference(const char *field, struct bytes before, struct bytes after, void *arg)
{
	struct cards_work *w = arg;
	struct card_difference *x = &w->differences[w->in.difference_count];
	char *name, *a, *b;

	if (w->in.difference_count == ARRAY_SIZE(w->differences))
		return 0;
	name = strdup(field);
	a = bytes_dup_str(before);
	b = bytes_dup_str(after);
	if (!name || !a || !b) {
		free(name);
		free(a);
		free(b);
		return -ENOMEM;
	}
	w->texts[w->text_count++] = name;
	w->texts[w->text_count++] = a;
	w->texts[w->text_count++] = b;
	*x = (struct card_difference){name, bytes_of(a, before.len), bytes_of(b, after.len)};
	w->in.difference_count++;
	return 0;
}

static int read_plan_blob(struct daemon *d, const struct digest *object, bool conflicts,
			  struct landing_plan **ret, struct error *err)
{
	AUTO_BUFFER b = {.max = LANDING_BYTES_MAX};
	int r = journal_blob_get(d->journal, object, LANDING_BYTES_MAX, &b, err);

	if (r < 0)
		return r;
	return conflicts ? landing_conflicts_decode(buffer_bytes(&b), ret, err)
			 : landing_plan_decode(buffer_bytes(&b), ret, err);
}

/* What the step changed over the steps before it: its own change, wherever the user's directory
 * stands. */
static int plan_of_commit(struct daemon *d, const struct journal_run *run,
			  const struct journal_step *step, struct cards_work *w, struct error *err)
{
	__attribute__((cleanup(work_stack_free))) struct work_stack below = {0};
	__attribute__((cleanup(work_stack_free))) struct work_stack layer = {0};
	int r = work_stack(d, run, step, &below, err);

	if (r == 0)
		r = work_layer(d, run, step, &layer, err);
	return r < 0 ? r : work_landing(d, run, &below, &layer, &w->plan, err);
}

static void card_of_exhausted(struct daemon *d, const struct journal_step *step,
			      struct cards_work *w)
{
	const struct journal_attempt *a =
		step->attempt_count > 0 ? &step->attempts[step->attempt_count - 1] : NULL;
	const struct digest *from = !digest_is_zero(&step->feedback) ? &step->feedback
				    : a				     ? &a->err
								     : NULL;

	w->in.attempts = step->attempt_count;
	w->in.why = step->why ? step->why : a ? a->why : NULL;
	if (from && !digest_is_zero(from) &&
	    journal_blob_get(d->journal, from, JOURNAL_BLOB_MAX, &w->feedback, NULL) == 0 &&
	    w->feedback.len > FEEDBACK_SHOWN_MAX)
		buffer_consume(&w->feedback, w->feedback.len - FEEDBACK_SHOWN_MAX);
	w->in.feedback = buffer_bytes(&w->feedback);
}

/* What takes time or space to find; once. */
static int gather(struct daemon *d, struct cards_work *w, struct error *err)
{
	const struct engine_command *c = &w->command->c;
	const struct journal_run *run = journal_state_run(d->rows, &c->run);
	const struct journal_step *step =
		run && c->step < run->step_count ? run->steps[c->step] : NULL;
	AUTO_BUFFER b = {0};
	int r;

	if (!run)
		return -ENOENT;
	switch (c->card_kind) {
	case JOURNAL_KIND_STEP_COMMIT:
		return step ? plan_of_commit(d, run, step, w, err) : -ENOENT;
	case JOURNAL_KIND_LANDING:
		return read_plan_blob(d, &c->object, false, &w->plan, err);
	case JOURNAL_KIND_CONFLICT:
		return read_plan_blob(d, &c->object, true, &w->plan, err);
	case JOURNAL_KIND_DIVERGED:
		r = journal_blob_get(d->journal, &c->object, JOURNAL_BLOB_MAX, &b, err);
		return r < 0 ? r : engine_difference(buffer_bytes(&b), add_difference, w);
	case JOURNAL_KIND_STEP_GATE:
	case JOURNAL_KIND_EXHAUSTED:
	case JOURNAL_KIND_EFFECT:
	case JOURNAL_KIND_DOUBT:
		break;
	}
	return 0;
}

/* What the rows say, as they stand when it is rendered. */
static int fill(struct daemon *d, struct cards_work *w, struct error *err)
{
	const struct engine_command *c = &w->command->c;
	const struct journal_run *run = journal_state_run(d->rows, &c->run);
	const struct journal_step *step =
		run && c->step < run->step_count ? run->steps[c->step] : NULL;
	struct card_input *in = &w->in;
	struct policy_settings settings;
	struct runs_context *ctx;
	int r = run ? runs_get(d, &c->run, &ctx, err) : -ENOENT;

	if (r < 0)
		return r;
	policy_settings(ctx->policy, &settings);
	in->kind = c->card_kind;
	in->run_name = run->name;
	in->run = run->id;
	in->workspace = run->workspace;
	in->step_key = step ? step->key : NULL;
	in->action = c->action;
	in->undo = c->undo;
	in->decide_by_ns = settings.decide_by_ms
				   ? daemon_now().wall_ns + (int64_t)settings.decide_by_ms * 1000000
				   : 0;
	in->execute_by_ns = (int64_t)settings.execute_by_ms * 1000000;
	in->argv = c->spec ? (const char *const *)c->spec->argv : NULL;
	switch (c->card_kind) {
	case JOURNAL_KIND_STEP_GATE:
		in->rule = "gate: ask";
		if (c->spec && asks_before(d, run, c->spec, w->rule))
			in->rule = w->rule;
		break;
	case JOURNAL_KIND_STEP_COMMIT:
		in->rule = "gate: commit";
		in->plan = w->plan;
		break;
	case JOURNAL_KIND_LANDING:
		snprintf(w->rule, sizeof(w->rule), "agency %s, land: ask",
			 policy_agency_name((enum policy_agency)(run->agency + POLICY_OBSERVE)));
		in->rule = w->rule;
		in->plan = w->plan;
		break;
	case JOURNAL_KIND_CONFLICT:
		in->conflicts = w->plan->conflicts;
		in->conflict_count = w->plan->conflict_count;
		in->undo = w->plan->undo;
		break;
	case JOURNAL_KIND_EXHAUSTED:
		if (step)
			card_of_exhausted(d, step, w);
		break;
	case JOURNAL_KIND_DIVERGED:
		in->differences = w->differences;
		break;
	case JOURNAL_KIND_EFFECT:
	case JOURNAL_KIND_DOUBT:
		break;
	}
	return 0;
}

/* Without a card nothing can be voted on. A step's is asked for again at the next start; a landing
 * waits for a person's word, who is told. */
static void not_made(struct daemon *d, const struct engine_command *c, int r,
		     const struct error *err)
{
	const char *what = err->msg[0] ? err->msg : strerror(-r);
	char why[sizeof(err->msg) + 64];

	daemon_log(d, "cannot make a card: %s", what);
	if (!c || (c->card_kind != JOURNAL_KIND_LANDING && c->card_kind != JOURNAL_KIND_CONFLICT))
		return;
	utf8_printf(why, sizeof(why), "what would land cannot be shown: %s", what);
	daemon_check(d,
		     engine_card_failed(d->engine, daemon_now(), &c->run, c->card_kind, &c->action,
					why),
		     "card");
}

void cards_finish(struct daemon *d, struct cards_work *work, struct bytes diff, bool cut,
		  const char *why)
{
	AUTO(cards_free) struct cards_work *w = work;
	const struct engine_command *c = &w->command->c;
	struct error err = {0};
	AUTO_BUFFER card = {0};
	struct digest blob;
	int r = fill(d, w, &err);

	w->in.diff = diff;
	w->in.diff_cut = cut;
	w->in.diff_missing = why;
	if (r == 0)
		r = card_render(&w->in, &card, NULL);
	if (r == 0)
		r = journal_blob_put(d->journal, buffer_bytes(&card), &blob, &err);
	if (r < 0) {
		not_made(d, c, r, &err);
		return;
	}
	daemon_check(d,
		     engine_card(d->engine, daemon_now(), &c->run, c->step, c->card_kind,
				 &c->action, &blob, &c->object),
		     "card");
}

/* 0: diffs.c finishes the card. 1: there is nothing to compare. */
static int start_diff(struct daemon *d, struct cards_work *w, struct error *err)
{
	__attribute__((cleanup(work_stack_free))) struct work_stack below = {0};
	__attribute__((cleanup(work_stack_free))) struct work_stack layers = {0};
	const struct engine_command *c = &w->command->c;
	const struct journal_run *run = journal_state_run(d->rows, &c->run);
	int r;

	if (c->card_kind == JOURNAL_KIND_CONFLICT) {
		r = work_stack(d, run, NULL, &layers, err);
		return r < 0 ? r
			     : diffs_for_conflict(d, run, &layers, w->plan, w, &w->in.diff_skipped,
						  err);
	}
	if (!w->plan || w->plan->action_count == 0)
		return 1;
	if (c->card_kind == JOURNAL_KIND_STEP_COMMIT) {
		r = work_stack(d, run, run->steps[c->step], &below, err);
		if (r == 0)
			r = work_layer(d, run, run->steps[c->step], &layers, err);
	} else {
		r = work_stack(d, run, NULL, &layers, err);
	}
	return r < 0 ? r
		     : diffs_for_card(d, run, &below, &layers, w->plan, w, &w->in.diff_skipped,
				      err);
}

void cards_make(struct daemon *d, const struct engine_command *c)
{
	struct cards_work *w;
	struct error err = {0};
	int r = -ENOMEM;

	if (c->card_kind == JOURNAL_KIND_EFFECT || c->card_kind == JOURNAL_KIND_DOUBT) {
		effect_cards_make(d, c);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (w)
		w->command = daemon_command_copy(c);
	if (w && w->command)
		r = failpoint_hit("cards.make");
	if (r == 0)
		r = gather(d, w, &err);
	if (r < 0) {
		not_made(d, c, r, &err);
		cards_free(w);
		return;
	}
	if (c->card_kind == JOURNAL_KIND_LANDING || c->card_kind == JOURNAL_KIND_STEP_COMMIT ||
	    c->card_kind == JOURNAL_KIND_CONFLICT)
		r = start_diff(d, w, &err);
	else
		r = 1;
	if (r != 0)
		cards_finish(d, w, bytes_of("", 0), false,
			     r > 0	  ? NULL
			     : err.msg[0] ? err.msg
					  : strerror(-r));
}
