/*
 * The engine's effects: one function a rule. The courier, the person and the crash are the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/guard.h"
#include "supervisor/stats.h"
#include "tests/unit/supervisor/fake.h"

#define ONE "version: 1\nland: never\nsteps:\n  - {name: a, run: [x]}\n"
#define RETRY3 \
	"version: 1\nland: never\nsteps:\n  - {name: a, run: [x], retry: {max: 3, on: [exit]}}\n"
#define SECOND 1000000000ll

struct world {
	struct fake f;
	struct journal_id run, attempt, courier;
};

static struct journal_id id_of(uint8_t n)
{
	struct journal_id id;

	memset(id.b, n, sizeof(id.b));
	return id;
}

static void start(struct world *w)
{
	struct fake_command c;

	if (!fake_take(&w->f, ENGINE_START_ATTEMPT, &c))
		fail_msg("nothing starts");
	w->attempt = c.c.attempt_id;
	assert_int_equal(engine_attempt_live(w->f.e, fake_now(&w->f), &w->attempt), 0);
	w->f.attempts[w->f.attempt_count++] = (struct fake_attempt){.id = c.c.attempt_id,
								    .run = c.c.run,
								    .step = c.c.step,
								    .live = true,
								    .told_live = true};
	assert_true(fake_flush(&w->f));
}

static void begin(struct world *w, const char *yaml)
{
	struct engine_run_request q = {.uid = 1000};

	fake_create(&w->f, yaml, &q);
	assert_true(fake_flush(&w->f));
	w->run = q.id;
	start(w);
	w->courier = id_of(7);
	assert_int_equal(engine_effect_courier(w->f.e, fake_now(&w->f), &w->run, &w->courier, NULL,
					       0),
			 0);
	assert_true(fake_flush(&w->f));
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	fake_init(&w->f);
	w->f.has_rules = true;
	w->f.rules = (struct engine_rules){.quorum = 1,
					   .decide_by_ns = 3600 * SECOND,
					   .execute_by_ns = 600 * SECOND,
					   .freeze_ns = 30 * SECOND,
					   .suspend_ns = 600 * SECOND};
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	fake_check_replay(&w->f);
	fake_free(&w->f);
	free(w);
	return 0;
}

/* What the courier says: identity by the first letter, the action by all of it. */
static struct engine_proposal proposal(struct world *w, const char *text,
				       enum engine_verdict verdict)
{
	struct engine_proposal p = {.attempt = w->attempt,
				    .courier = w->courier,
				    .request = 1,
				    .action_kind = 1,
				    .verdict = verdict,
				    .class = JOURNAL_CLASS_IRREVERSIBLE,
				    .title = text,
				    .rule = "pay",
				    .why = "rule pay"};

	digest_of(bytes_of(text, 1), &p.identity);
	digest_of(bytes_str(text), &p.action);
	p.canonical = fake_blob(&w->f, text);
	return p;
}

static struct journal_id proposed(struct world *w, const struct engine_proposal *p)
{
	struct journal_id id;

	assert_int_equal(engine_effect_proposed(w->f.e, fake_now(&w->f), p, &id), 0);
	assert_true(fake_flush(&w->f));
	return id;
}

static struct journal_id propose(struct world *w, const char *text, enum engine_verdict verdict)
{
	struct engine_proposal p = proposal(w, text, verdict);

	return proposed(w, &p);
}

static const struct journal_effect *effect(struct world *w, const struct journal_id *id)
{
	const struct journal_effect *f = journal_state_effect(w->f.rows, id);

	assert_non_null(f);
	return f;
}

static void assert_effect(struct world *w, const struct journal_id *id,
			  enum journal_effect_state want)
{
	const struct journal_effect *f = effect(w, id);

	if (f->state != want)
		fail_msg("effect %s is %s (%s), wanted %s", f->title,
			 journal_effect_state_name(f->state), f->why ? f->why : "",
			 journal_effect_state_name(want));
}

/* The next answer but WAITING; 0: there is none. */
static enum engine_answer answered(struct world *w, const struct journal_id *id)
{
	struct fake_command c;

	while (fake_take(&w->f, ENGINE_EFFECT_ANSWER, &c)) {
		if (c.c.answer == ENGINE_ANSWER_WAITING)
			continue;
		assert_true(c.c.after_sync);
		assert_true(journal_id_equal(&c.c.effect, id));
		return c.c.answer;
	}
	return 0;
}

static void card(struct world *w, const struct journal_id *id, enum journal_approval_kind kind)
{
	struct fake_command c;
	struct digest d = fake_blob(&w->f, "card");

	if (!fake_take(&w->f, ENGINE_CARD, &c))
		fail_msg("no card is asked for");
	assert_int_equal(c.c.card_kind, kind);
	assert_true(journal_id_equal(&c.c.effect, id));
	assert_int_equal(engine_card(w->f.e, fake_now(&w->f), &c.c.run, c.c.step, kind, &c.c.action,
				     &d, &c.c.object),
			 0);
	assert_true(fake_flush(&w->f));
}

static const struct journal_approval *item(struct world *w, enum journal_approval_kind kind)
{
	const struct journal_approval *a = fake_open_item(&w->f, &w->run, kind);

	if (!a)
		fail_msg("no %s is open", journal_approval_kind_name(kind));
	return a;
}

static void vote(struct world *w, enum journal_approval_kind kind, enum journal_decision decision,
		 const char *choice)
{
	struct error err = {0};
	const struct journal_approval *a = item(w, kind);
	struct engine_vote v = {.approval = a->id,
				.card = a->card,
				.decision = decision,
				.choice = choice,
				.principal = "uid:5",
				.auth = "peercred",
				.uid = 5};

	if (engine_vote(w->f.e, fake_now(&w->f), &v, &err) != 0)
		fail_msg("vote: %s", err.msg);
	assert_true(fake_flush(&w->f));
}

static void result(struct world *w, const struct journal_id *id, enum engine_outcome outcome)
{
	struct engine_result r = {.effect = *id,
				  .outcome = outcome,
				  .status = outcome == ENGINE_CONFIRMED ? 201 : 0};

	if (outcome == ENGINE_CONFIRMED)
		r.response = fake_blob(&w->f, "response");
	assert_int_equal(engine_effect_result(w->f.e, fake_now(&w->f), &r), 0);
	assert_true(fake_flush(&w->f));
}

static bool released(struct world *w)
{
	struct fake_command c;

	return fake_take(&w->f, ENGINE_EFFECT_RELEASE, &c) && c.c.after_sync;
}

static void confirm(struct world *w, const struct journal_id *id)
{
	assert_int_equal(answered(w, id), ENGINE_ANSWER_SEND);
	result(w, id, ENGINE_CONFIRMED);
	assert_true(released(w));
	assert_int_equal(answered(w, id), ENGINE_ANSWER_REPLAY);
	assert_effect(w, id, JOURNAL_EFFECT_S_CONFIRMED);
}

static void delivered(struct world *w, const struct journal_id *id)
{
	assert_int_equal(engine_effect_delivered(w->f.e, fake_now(&w->f), id), 0);
	assert_true(fake_flush(&w->f));
}

static void end(struct world *w, enum journal_attempt_state state, uint32_t code)
{
	struct engine_ended x = {.state = state, .exit_code = code};
	struct fake_attempt *a = fake_attempt(&w->f, &w->attempt);

	if (a)
		fake_attempt_drop(&w->f, a);
	assert_int_equal(engine_attempt_ended(w->f.e, fake_now(&w->f), &w->attempt, &x), 0);
	assert_true(fake_flush(&w->f));
}

static void seal(struct world *w)
{
	struct fake_command c;

	assert_true(fake_take(&w->f, ENGINE_SEAL, &c));
	assert_int_equal(engine_sealed(w->f.e, fake_now(&w->f), &c.c.attempt_id, 0, NULL, NULL, 0,
				       0),
			 0);
	assert_true(fake_flush(&w->f));
}

static void assert_step(struct world *w, enum journal_step_state want)
{
	const struct journal_step *s = fake_step(&w->f, &w->run, "a");

	if (s->state != want)
		fail_msg("step is %s (%s), wanted %s", journal_step_state_name(s->state),
			 s->why ? s->why : "", journal_step_state_name(want));
}

static void tick(struct world *w, int64_t seconds)
{
	w->f.wall_ns += seconds * SECOND;
	w->f.mono_ns += seconds * SECOND;
	engine_tick(w->f.e, fake_now(&w->f));
	assert_true(fake_flush(&w->f));
}

static void retry_of(struct engine_proposal *p, enum journal_retry retry)
{
	p->retry = retry;
	p->header = retry == JOURNAL_RETRY_KEYED ? "Idempotency-Key" : NULL;
	p->window_ms = retry == JOURNAL_RETRY_KEYED ? 3600000 : 0;
	p->probe = retry == JOURNAL_RETRY_PROBE ? "ask" : NULL;
}

/* ---- the way it goes ---- */

static void what_is_allowed_is_reserved_synced_then_sent(void **state)
{
	struct world *w = *state;
	struct journal_id id;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ALLOW);
	assert_effect(w, &id, JOURNAL_EFFECT_S_RESERVED);
	assert_true(w->f.batches[w->f.batch_count - 1].synced);
	confirm(w, &id);
	assert_true(w->f.batches[w->f.batch_count - 1].synced);
	assert_int_equal(effect(w, &id)->status, 201);
	delivered(w, &id);
	end(w, JOURNAL_ATTEMPT_S_EXITED, 0);
	seal(w);
	assert_step(w, JOURNAL_STEP_S_COMMITTED);
}

static void what_is_denied_is_answered_and_never_sent(void **state)
{
	struct world *w = *state;
	struct journal_id id;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_DENY);
	assert_effect(w, &id, JOURNAL_EFFECT_S_DENIED);
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_DENY);
	assert_int_equal(fake_count(&w->f, &w->run, JOURNAL_EFFECT_RESERVED), 0);
}

static void an_approval_is_consumed_in_the_batch_that_reserves(void **state)
{
	struct world *w = *state;
	struct journal_id id, approval;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
	assert_int_equal(answered(w, &id), 0);
	card(w, &id, JOURNAL_KIND_EFFECT);
	approval = item(w, JOURNAL_KIND_EFFECT)->id;
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_APPROVE, NULL);
	assert_effect(w, &id, JOURNAL_EFFECT_S_RESERVED);
	assert_int_equal(journal_state_approval(w->f.rows, &approval)->state,
			 JOURNAL_APPROVAL_S_CONSUMED);
	const struct fake_batch *last = &w->f.batches[w->f.batch_count - 1];
	bool consumed = false, reserved = false;

	for (size_t i = last->first; i < last->first + last->count; i++) {
		consumed |= w->f.log[i].type == JOURNAL_APPROVAL_CONSUMED;
		reserved |= w->f.log[i].type == JOURNAL_EFFECT_RESERVED;
	}
	assert_true(consumed && reserved);
	confirm(w, &id);
	assert_true(journal_id_equal(&effect(w, &id)->approval, &approval));
}

static void a_deny_ends_it_and_expiry_is_a_deny(void **state)
{
	struct world *w = *state;
	struct journal_id id;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_DENY, NULL);
	assert_effect(w, &id, JOURNAL_EFFECT_S_DENIED);
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_DENY);
	w->f.rules.freeze_ns = w->f.rules.suspend_ns = 0;
	id = propose(w, "sell 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	tick(w, 3601);
	assert_effect(w, &id, JOURNAL_EFFECT_S_DENIED);
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_DENY);
}

static void nobody_there_is_a_deny(void **state)
{
	struct world *w = *state;
	struct journal_id id;

	w->f.rules.unattended_deny = true;
	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	assert_effect(w, &id, JOURNAL_EFFECT_S_DENIED);
}

static void an_approval_that_is_not_used_in_time_lapses_and_asks_again(void **state)
{
	struct world *w = *state;
	struct journal_id id;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	assert_int_equal(engine_effect_cut(w->f.e, fake_now(&w->f), &id, 0), 0);
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_APPROVE, NULL);
	assert_effect(w, &id, JOURNAL_EFFECT_S_ALLOWED); /* nobody waits: nothing is sent */
	tick(w, 601);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
	card(w, &id, JOURNAL_KIND_EFFECT);
	assert_int_equal(fake_count(&w->f, &w->run, JOURNAL_EFFECT_RESERVED), 0);
}

/* ---- who is who ---- */

static void the_same_again_attaches_until_it_was_delivered(void **state)
{
	struct world *w = *state;
	struct journal_id a, b;

	begin(w, ONE);
	a = propose(w, "pay 1", ENGINE_ALLOW);
	b = propose(w, "pay 1", ENGINE_ALLOW);
	assert_true(journal_id_equal(&a, &b));
	assert_int_equal(fake_count(&w->f, &w->run, JOURNAL_EFFECT_RESERVED), 1);
	confirm(w, &a);
	b = propose(w, "pay 1", ENGINE_ALLOW); /* its connection broke: the answer, not the act */
	assert_true(journal_id_equal(&a, &b));
	assert_int_equal(answered(w, &b), ENGINE_ANSWER_REPLAY);
	delivered(w, &a);
	b = propose(w, "pay 1", ENGINE_ALLOW);
	assert_false(journal_id_equal(&a, &b));
	assert_int_equal(effect(w, &b)->occurrence, 2);
}

static void a_later_attempt_replays_each_occurrence_once(void **state)
{
	struct world *w = *state;
	struct journal_id first, second, id;

	begin(w, RETRY3);
	first = propose(w, "pay 1", ENGINE_ALLOW);
	confirm(w, &first);
	delivered(w, &first);
	second = propose(w, "pay 1", ENGINE_ALLOW);
	confirm(w, &second);
	end(w, JOURNAL_ATTEMPT_S_EXITED, 1);
	tick(w, 100);
	start(w);
	id = propose(w, "pay 2", ENGINE_ALLOW); /* same identity, another date: not sent again */
	assert_true(journal_id_equal(&id, &first));
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_REPLAY);
	delivered(w, &id);
	id = propose(w, "pay 1", ENGINE_DENY); /* nothing is sent: the policy is not asked */
	assert_true(journal_id_equal(&id, &second));
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_REPLAY);
	delivered(w, &id);
	id = propose(w, "pay 1", ENGINE_ALLOW);
	assert_int_equal(effect(w, &id)->occurrence, 3);
	assert_int_equal(fake_count(&w->f, &w->run, JOURNAL_EFFECT_RESERVED), 3);
}

static void an_open_approval_is_found_again_by_the_same_action(void **state)
{
	struct world *w = *state;
	struct journal_id id, again, approval;

	begin(w, RETRY3);
	id = propose(w, "pay 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	approval = item(w, JOURNAL_KIND_EFFECT)->id;
	end(w, JOURNAL_ATTEMPT_S_EXITED, 1);
	tick(w, 100);
	start(w);
	again = propose(w, "pay 1", ENGINE_ASK);
	assert_true(journal_id_equal(&id, &again));
	assert_true(journal_id_equal(&item(w, JOURNAL_KIND_EFFECT)->id, &approval));
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_APPROVE, NULL);
	assert_effect(w, &id, JOURNAL_EFFECT_S_RESERVED);
}

static void another_action_supersedes_what_was_asked(void **state)
{
	struct world *w = *state;
	struct journal_id id, again, approval;
	struct engine_vote v;
	struct error err = {0};

	begin(w, RETRY3);
	id = propose(w, "pay 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	approval = item(w, JOURNAL_KIND_EFFECT)->id;
	v = (struct engine_vote){.approval = approval,
				 .card = item(w, JOURNAL_KIND_EFFECT)->card,
				 .decision = JOURNAL_DECISION_APPROVE,
				 .principal = "uid:5",
				 .uid = 5};
	again = propose(w, "pay 1000", ENGINE_ASK); /* swapped while it is pending */
	assert_true(journal_id_equal(&id, &again));
	assert_int_equal(journal_state_approval(w->f.rows, &approval)->state,
			 JOURNAL_APPROVAL_S_SUPERSEDED);
	assert_int_equal(engine_vote(w->f.e, fake_now(&w->f), &v, &err), -ESTALE);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
	assert_false(digest_is_zero(&effect(w, &id)->before));
	card(w, &id, JOURNAL_KIND_EFFECT);
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_APPROVE, NULL);
	assert_effect(w, &id, JOURNAL_EFFECT_S_RESERVED);
}

static void an_approval_is_never_used_for_another_action(void **state)
{
	struct world *w = *state;
	struct journal_id id, approval;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	approval = item(w, JOURNAL_KIND_EFFECT)->id;
	assert_int_equal(engine_effect_cut(w->f.e, fake_now(&w->f), &id, 0), 0);
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_APPROVE, NULL);
	assert_effect(w, &id, JOURNAL_EFFECT_S_ALLOWED);
	propose(w, "pay 1000", ENGINE_ASK);
	assert_int_equal(journal_state_approval(w->f.rows, &approval)->state,
			 JOURNAL_APPROVAL_S_REVOKED);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
	assert_int_equal(fake_count(&w->f, &w->run, JOURNAL_EFFECT_RESERVED), 0);
}

static void what_the_policy_forbids_meanwhile_is_not_done(void **state)
{
	struct world *w = *state;
	struct journal_id id, approval;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	approval = item(w, JOURNAL_KIND_EFFECT)->id;
	assert_int_equal(engine_effect_cut(w->f.e, fake_now(&w->f), &id, 0), 0);
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_APPROVE, NULL);
	propose(w, "pay 1", ENGINE_DENY);
	assert_effect(w, &id, JOURNAL_EFFECT_S_DENIED);
	assert_int_equal(journal_state_approval(w->f.rows, &approval)->state,
			 JOURNAL_APPROVAL_S_REVOKED);
}

static void what_did_not_happen_is_proposed_again_with_a_fresh_approval(void **state)
{
	struct world *w = *state;
	struct journal_id id, again;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_APPROVE, NULL);
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_SEND);
	result(w, &id, ENGINE_REFUSED);
	assert_effect(w, &id, JOURNAL_EFFECT_S_REFUSED);
	assert_true(released(w));
	again = propose(w, "pay 1", ENGINE_ASK);
	assert_true(journal_id_equal(&id, &again));
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
	card(w, &id, JOURNAL_KIND_EFFECT);
	item(w, JOURNAL_KIND_EFFECT);
}

static void what_no_attempt_proposes_again_is_withdrawn_with_its_step(void **state)
{
	struct world *w = *state;
	struct journal_id id, approval;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	approval = item(w, JOURNAL_KIND_EFFECT)->id;
	end(w, JOURNAL_ATTEMPT_S_EXITED, 0);
	seal(w);
	assert_step(w, JOURNAL_STEP_S_COMMITTED);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WITHDRAWN);
	assert_int_equal(journal_state_approval(w->f.rows, &approval)->state,
			 JOURNAL_APPROVAL_S_WITHDRAWN);
}

static void what_cannot_be_shown_is_denied(void **state)
{
	struct world *w = *state;
	struct journal_id id;
	struct fake_command c;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	assert_true(fake_take(&w->f, ENGINE_CARD, &c));
	assert_int_equal(engine_effect_unshown(w->f.e, fake_now(&w->f), &id, &c.c.action,
					       "its JSON body has a key twice"),
			 0);
	assert_true(fake_flush(&w->f));
	assert_effect(w, &id, JOURNAL_EFFECT_S_DENIED);
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_DENY);
}

static void a_run_cannot_fill_the_queue_nor_the_journal(void **state)
{
	struct world *w = *state;
	struct journal_id id;
	char text[16];

	w->f.limits.effects_open_max = 3;
	w->f.limits.effects_denied_max = 5;
	fake_restart(&w->f, true);
	begin(w, ONE);
	for (int i = 0; i < 10; i++) {
		struct engine_proposal p;
		int rc;

		snprintf(text, sizeof(text), "%c", 'a' + i);
		p = proposal(w, text, ENGINE_ASK);
		rc = engine_effect_proposed(w->f.e, fake_now(&w->f), &p, &id);
		assert_true(fake_flush(&w->f));
		assert_int_equal(rc, i < 8 ? ENGINE_PROPOSED : ENGINE_PROPOSED_DENIED);
		if (rc == 0)
			assert_effect(w, &id,
				      i < 3 ? JOURNAL_EFFECT_S_WAITING : JOURNAL_EFFECT_S_DENIED);
	}
}

/* ---- in doubt ---- */

static struct journal_id doubtful(struct world *w, const char *text, enum journal_retry retry)
{
	struct engine_proposal p = proposal(w, text, ENGINE_ALLOW);
	struct journal_id id;

	retry_of(&p, retry);
	id = proposed(w, &p);
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_SEND);
	result(w, &id, ENGINE_IN_DOUBT);
	return id;
}

static void what_may_have_happened_is_a_persons_to_say(void **state)
{
	struct world *w = *state;
	static const struct {
		const char *choice;
		enum journal_effect_state state;
		enum engine_answer answer;
	} cases[] = {
		{"done", JOURNAL_EFFECT_S_CONFIRMED, ENGINE_ANSWER_REPLAY},
		{"not-done", JOURNAL_EFFECT_S_REFUSED, ENGINE_ANSWER_DENY},
		{"abandon", JOURNAL_EFFECT_S_ABANDONED, ENGINE_ANSWER_DENY},
		{NULL, JOURNAL_EFFECT_S_ABANDONED, ENGINE_ANSWER_DENY},
	};

	begin(w, ONE);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[8] = {(char)('a' + i), 0};
		struct journal_id id = doubtful(w, text, JOURNAL_RETRY_NEVER);

		assert_effect(w, &id, JOURNAL_EFFECT_S_IN_DOUBT);
		assert_int_equal(answered(w, &id), 0);
		card(w, &id, JOURNAL_KIND_DOUBT);
		assert_int_equal(item(w, JOURNAL_KIND_DOUBT)->decide_by_ns, 0);
		vote(w, JOURNAL_KIND_DOUBT,
		     cases[i].choice ? JOURNAL_DECISION_APPROVE : JOURNAL_DECISION_DENY,
		     cases[i].choice);
		assert_effect(w, &id, cases[i].state);
		assert_int_equal(answered(w, &id), cases[i].answer);
	}
}

static void a_doubt_holds_its_step_until_it_is_known(void **state)
{
	struct world *w = *state;
	struct journal_id id;

	begin(w, ONE);
	id = doubtful(w, "pay 1", JOURNAL_RETRY_NEVER);
	card(w, &id, JOURNAL_KIND_DOUBT);
	end(w, JOURNAL_ATTEMPT_S_EXITED, 0);
	seal(w);
	assert_step(w, JOURNAL_STEP_S_SEALED);
	assert_int_equal(fake_run(&w->f, &w->run)->state, JOURNAL_RUN_S_WAITING);
	assert_int_equal(fake_run(&w->f, &w->run)->waits, JOURNAL_WAIT_DOUBT);
	vote(w, JOURNAL_KIND_DOUBT, JOURNAL_DECISION_APPROVE, "done");
	assert_step(w, JOURNAL_STEP_S_COMMITTED);
}

static void what_is_safe_is_sent_again_once_by_itself(void **state)
{
	struct world *w = *state;
	static const enum journal_retry modes[] = {JOURNAL_RETRY_SAFE, JOURNAL_RETRY_KEYED};

	begin(w, ONE);
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		char text[8] = {(char)('a' + i), 0}, before[ENGINE_KEY_SIZE],
		     after[ENGINE_KEY_SIZE];
		struct journal_id id = doubtful(w, text, modes[i]);

		assert_int_equal(engine_effect_key(fake_run(&w->f, &w->run), effect(w, &id),
						   before),
				 0);
		assert_effect(w, &id, JOURNAL_EFFECT_S_RESERVED);
		assert_int_equal(answered(w, &id), ENGINE_ANSWER_SEND);
		result(w, &id, ENGINE_IN_DOUBT);
		assert_effect(w, &id, JOURNAL_EFFECT_S_IN_DOUBT);
		assert_int_equal(answered(w, &id), ENGINE_ANSWER_DENY); /* the client asks again */
		propose(w, text, ENGINE_ALLOW);
		confirm(w, &id);
		assert_int_equal(engine_effect_key(fake_run(&w->f, &w->run), effect(w, &id), after),
				 0);
		assert_string_equal(before, after);
		assert_int_equal(strlen(after), 52);
	}
}

static void past_its_window_a_key_is_a_persons(void **state)
{
	struct world *w = *state;
	struct journal_id id;

	begin(w, ONE);
	id = doubtful(w, "pay 1", JOURNAL_RETRY_KEYED);
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_SEND);
	result(w, &id, ENGINE_IN_DOUBT);
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_DENY);
	assert_null(fake_open_item(&w->f, &w->run, JOURNAL_KIND_DOUBT));
	tick(w, 3601);
	card(w, &id, JOURNAL_KIND_DOUBT);
	propose(w, "pay 1", ENGINE_ALLOW);
	assert_effect(w, &id, JOURNAL_EFFECT_S_IN_DOUBT);
	assert_int_equal(answered(w, &id), 0);
}

static void only_what_is_confirmed_is_taken_back_and_once(void **state)
{
	struct world *w = *state;
	struct journal_id asked, done;

	begin(w, ONE);
	asked = propose(w, "pay 1", ENGINE_ASK);
	assert_int_equal(engine_effect_compensated(w->f.e, fake_now(&w->f), &asked, 7), -EINVAL);
	done = propose(w, "pay 2", ENGINE_ALLOW);
	assert_int_equal(engine_effect_compensated(w->f.e, fake_now(&w->f), &done, 7), -EINVAL);
	confirm(w, &done);
	assert_int_equal(engine_effect_compensated(w->f.e, fake_now(&w->f), &done, 7), 0);
	assert_true(fake_flush(&w->f));
	assert_effect(w, &done, JOURNAL_EFFECT_S_COMPENSATED);
	assert_int_equal(engine_effect_compensated(w->f.e, fake_now(&w->f), &done, 7), -EINVAL);
}

static void a_probe_is_asked_before_a_person(void **state)
{
	struct world *w = *state;
	static const struct {
		enum engine_probe said;
		enum journal_effect_state state;
	} cases[] = {{ENGINE_PROBE_DONE, JOURNAL_EFFECT_S_CONFIRMED},
		     {ENGINE_PROBE_NOT_DONE, JOURNAL_EFFECT_S_REFUSED},
		     {ENGINE_PROBE_UNKNOWN, JOURNAL_EFFECT_S_IN_DOUBT}};
	struct fake_command c;

	begin(w, ONE);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[8] = {(char)('a' + i), 0};
		struct journal_id id = doubtful(w, text, JOURNAL_RETRY_PROBE);

		assert_true(fake_take(&w->f, ENGINE_EFFECT_PROBE, &c));
		assert_null(fake_open_item(&w->f, &w->run, JOURNAL_KIND_DOUBT));
		assert_int_equal(engine_effect_probed(w->f.e, fake_now(&w->f), &id, cases[i].said,
						      NULL),
				 0);
		assert_true(fake_flush(&w->f));
		assert_effect(w, &id, cases[i].state);
		answered(w, &id);
		if (cases[i].said == ENGINE_PROBE_UNKNOWN)
			card(w, &id, JOURNAL_KIND_DOUBT);
	}
}

static void an_effect_that_is_safe_does_not_wait_for_nobody(void **state)
{
	struct world *w = *state;
	struct journal_id id;

	begin(w, ONE);
	id = doubtful(w, "pay 1", JOURNAL_RETRY_SAFE);
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_SEND);
	result(w, &id, ENGINE_IN_DOUBT);
	end(w, JOURNAL_ATTEMPT_S_EXITED, 0);
	seal(w);
	assert_step(w, JOURNAL_STEP_S_COMMITTED);
	assert_effect(w, &id, JOURNAL_EFFECT_S_ABANDONED);
}

/* ---- who dies ---- */

static void a_new_courier_leaves_what_the_old_one_sent_in_doubt(void **state)
{
	struct world *w = *state;
	struct journal_id id, other = id_of(8);

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ALLOW);
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_SEND);
	assert_int_equal(engine_effect_courier(w->f.e, fake_now(&w->f), &w->run, &other, &id, 1),
			 0);
	assert_true(fake_flush(&w->f));
	assert_effect(w, &id, JOURNAL_EFFECT_S_IN_DOUBT); /* also where it claims to send it */
	card(w, &id, JOURNAL_KIND_DOUBT);
}

static void a_restart_asks_the_courier_that_lives(void **state)
{
	struct world *w = *state;
	struct journal_id sending, unheard, again;

	begin(w, ONE);
	sending = propose(w, "pay 1", ENGINE_ALLOW);
	unheard = propose(w, "sell 1", ENGINE_ALLOW);
	fake_restart(&w->f, true);
	assert_effect(w, &sending, JOURNAL_EFFECT_S_RESERVED);
	assert_int_equal(engine_effect_courier(w->f.e, fake_now(&w->f), &w->run, &w->courier,
					       &sending, 1),
			 0);
	assert_true(fake_flush(&w->f));
	assert_effect(w, &sending, JOURNAL_EFFECT_S_RESERVED);
	assert_effect(w, &unheard, JOURNAL_EFFECT_S_RESERVED);
	again = propose(w, "pay 1", ENGINE_ALLOW); /* attaches: it is on its way */
	assert_true(journal_id_equal(&again, &sending));
	assert_int_equal(answered(w, &again), 0);
	again = propose(w, "sell 1", ENGINE_ALLOW);
	assert_true(journal_id_equal(&again, &unheard));
	assert_int_equal(answered(w, &again), ENGINE_ANSWER_SEND);
	result(w, &sending, ENGINE_CONFIRMED);
	assert_true(released(w));
	assert_int_equal(fake_count(&w->f, &w->run, JOURNAL_EFFECT_RESERVED), 2);
}

static void what_the_courier_never_sent_for_an_ended_attempt_is_in_doubt(void **state)
{
	struct world *w = *state;
	struct journal_id id;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ALLOW);
	fake_restart(&w->f, true);
	end(w, JOURNAL_ATTEMPT_S_EXITED, 0);
	assert_effect(w, &id, JOURNAL_EFFECT_S_RESERVED); /* no courier has spoken yet */
	assert_int_equal(engine_effect_courier(w->f.e, fake_now(&w->f), &w->run, &w->courier, NULL,
					       0),
			 0);
	assert_true(fake_flush(&w->f));
	assert_effect(w, &id, JOURNAL_EFFECT_S_IN_DOUBT);
	result(w, &id, ENGINE_CONFIRMED); /* and if it says so after all, it is known */
	assert_effect(w, &id, JOURNAL_EFFECT_S_CONFIRMED);
}

static void a_result_is_said_twice_and_recorded_once(void **state)
{
	struct world *w = *state;
	struct journal_id id;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ALLOW);
	confirm(w, &id);
	fake_restart(&w->f, true);
	result(w, &id, ENGINE_CONFIRMED);
	assert_true(released(w));
	assert_int_equal(fake_count(&w->f, &w->run, JOURNAL_EFFECT_CONFIRMED), 1);
}

static void without_a_keeper_what_was_sent_is_in_doubt_and_its_step_waits(void **state)
{
	struct world *w = *state;
	struct journal_id id, again;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ALLOW);
	assert_int_equal(engine_effect_courier(w->f.e, fake_now(&w->f), &w->run, NULL, NULL, 0), 0);
	assert_true(fake_flush(&w->f));
	card(w, &id, JOURNAL_KIND_DOUBT);
	end(w, JOURNAL_ATTEMPT_S_LOST, 0);
	assert_step(w, JOURNAL_STEP_S_WAITING);
	vote(w, JOURNAL_KIND_DOUBT, JOURNAL_DECISION_APPROVE, "done");
	start(w);
	again = propose(w, "pay 1", ENGINE_ALLOW);
	assert_true(journal_id_equal(&id, &again));
	answered(w, &again);
	assert_int_equal(fake_count(&w->f, &w->run, JOURNAL_EFFECT_RESERVED), 1);
	assert_string_equal(effect(w, &id)->by, "uid:5");
}

/* A supervisor that a command which only looks started: what waits for a person stands in the queue
 * with its deadline, and nothing is sent or started before an answer names the run. */
static void a_question_that_was_adopted_is_asked_before_anybody_names_the_run(void **state)
{
	struct world *w = *state;
	struct journal_id id;
	struct engine_proposal p;

	begin(w, ONE);
	fake_restart(&w->f, false);
	assert_false(engine_run_named(w->f.e, &w->run));
	assert_int_equal(engine_effect_courier(w->f.e, fake_now(&w->f), &w->run, &w->courier, NULL,
					       0),
			 0);
	assert_true(fake_flush(&w->f));
	p = proposal(w, "pay 1", ENGINE_ASK);
	id = proposed(w, &p);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
	card(w, &id, JOURNAL_KIND_EFFECT);
	assert_true(item(w, JOURNAL_KIND_EFFECT)->decide_by_ns > w->f.wall_ns);
	assert_false(engine_run_named(w->f.e, &w->run));
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_APPROVE, NULL);
	assert_true(engine_run_named(w->f.e, &w->run));
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_SEND);
}

static void a_doubt_is_asked_before_anybody_names_the_run(void **state)
{
	static const enum journal_retry kinds[] = {JOURNAL_RETRY_NEVER, JOURNAL_RETRY_PROBE};
	struct world *w = *state;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct engine_proposal p;
		struct fake_command c;
		struct journal_id id;

		begin(w, ONE);
		p = proposal(w, i ? "sell 1" : "pay 1", ENGINE_ALLOW);
		retry_of(&p, kinds[i]);
		id = proposed(w, &p);
		assert_effect(w, &id, JOURNAL_EFFECT_S_RESERVED);
		w->f.attempt_count = 0; /* the keeper went with it */
		fake_restart(&w->f, false);
		assert_int_equal(engine_effect_courier(w->f.e, fake_now(&w->f), &w->run, NULL, NULL,
						       0),
				 0);
		assert_true(fake_flush(&w->f));
		assert_effect(w, &id, JOURNAL_EFFECT_S_IN_DOUBT);
		assert_false(fake_take(&w->f, ENGINE_EFFECT_PROBE, &c)); /* a sandbox */
		card(w, &id, JOURNAL_KIND_DOUBT);
		assert_false(fake_take(&w->f, ENGINE_START_ATTEMPT, &c));
		vote(w, JOURNAL_KIND_DOUBT, JOURNAL_DECISION_APPROVE, "done");
		assert_effect(w, &id, JOURNAL_EFFECT_S_CONFIRMED);
		start(w);
	}
}

static void a_power_cut_never_forgets_what_was_sent(void **state)
{
	struct world *w = *state;
	struct journal_id id;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ALLOW);
	fake_power_cut(&w->f, 0, true);
	assert_effect(w, &id, JOURNAL_EFFECT_S_RESERVED);
	assert_int_equal(engine_effect_courier(w->f.e, fake_now(&w->f), &w->run, NULL, NULL, 0), 0);
	assert_true(fake_flush(&w->f));
	assert_effect(w, &id, JOURNAL_EFFECT_S_IN_DOUBT);
}

static void a_cancelled_run_ends_only_after_what_it_sent_has_an_outcome(void **state)
{
	struct world *w = *state;
	struct journal_id sent, waiting;
	struct error err = {0};

	begin(w, ONE);
	sent = propose(w, "pay 1", ENGINE_ALLOW);
	waiting = propose(w, "sell 1", ENGINE_ASK);
	card(w, &waiting, JOURNAL_KIND_EFFECT);
	assert_int_equal(engine_run_cancel(w->f.e, fake_now(&w->f), &w->run, 1000, false, &err), 0);
	assert_true(fake_flush(&w->f));
	assert_effect(w, &waiting, JOURNAL_EFFECT_S_WITHDRAWN);
	end(w, JOURNAL_ATTEMPT_S_KILLED, 0);
	assert_int_equal(fake_run(&w->f, &w->run)->state, JOURNAL_RUN_S_CANCELLING);
	result(w, &sent, ENGINE_IN_DOUBT);
	assert_int_equal(fake_run(&w->f, &w->run)->state, JOURNAL_RUN_S_CANCELLED);
	/* The doubt outlives the run, in the queue. */
	card(w, &sent, JOURNAL_KIND_DOUBT);
	vote(w, JOURNAL_KIND_DOUBT, JOURNAL_DECISION_APPROVE, "not-done");
	assert_effect(w, &sent, JOURNAL_EFFECT_S_REFUSED);
}

/* ---- while a person decides ---- */

static void who_waits_long_is_frozen_then_suspended_and_a_decision_starts_anew(void **state)
{
	struct world *w = *state;
	struct journal_id id, again;
	struct fake_command c;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	tick(w, 31);
	assert_true(fake_take(&w->f, ENGINE_FREEZE, &c));
	assert_int_equal(fake_run(&w->f, &w->run)->waits, JOURNAL_WAIT_APPROVAL);
	fake_restart(&w->f, true); /* the clock goes on over a restart */
	assert_true(fake_take(&w->f, ENGINE_FREEZE, &c));
	tick(w, 600);
	assert_true(fake_take(&w->f, ENGINE_SUSPEND, &c));
	assert_true(journal_id_equal(&c.c.attempt_id, &w->attempt));
	fake_restart(&w->f, true); /* and so does ending it */
	assert_true(fake_take(&w->f, ENGINE_SUSPEND, &c));
	end(w, JOURNAL_ATTEMPT_S_KILLED, 0);
	assert_step(w, JOURNAL_STEP_S_WAITING);
	assert_int_equal(fake_step(&w->f, &w->run, "a")->charged, 0);
	assert_int_equal(fake_step(&w->f, &w->run, "a")->attempts[0].state,
			 JOURNAL_ATTEMPT_S_SUSPENDED);
	assert_string_equal(fake_step(&w->f, &w->run, "a")->why,
			    "suspended: what it asked for waits");
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_APPROVE, NULL);
	assert_effect(w, &id, JOURNAL_EFFECT_S_ALLOWED);
	start(w);
	assert_int_equal(engine_effect_courier(w->f.e, fake_now(&w->f), &w->run, &w->courier, NULL,
					       0),
			 0);
	again = propose(w, "pay 1", ENGINE_ASK);
	assert_true(journal_id_equal(&id, &again));
	confirm(w, &id);
}

static void a_decision_thaws(void **state)
{
	struct world *w = *state;
	struct journal_id id;
	struct fake_command c;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	tick(w, 31);
	assert_true(fake_take(&w->f, ENGINE_FREEZE, &c));
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_DENY, NULL);
	assert_true(fake_take(&w->f, ENGINE_THAW, &c));
	assert_effect(w, &id, JOURNAL_EFFECT_S_DENIED);
	tick(w, 1000);
	assert_false(fake_take(&w->f, ENGINE_SUSPEND, &c));
}

static void who_does_not_wait_is_not_frozen(void **state)
{
	struct world *w = *state;
	struct journal_id id;
	struct fake_command c;

	begin(w, ONE);
	id = propose(w, "pay 1", ENGINE_ASK);
	card(w, &id, JOURNAL_KIND_EFFECT);
	assert_int_equal(engine_effect_cut(w->f.e, fake_now(&w->f), &id, 0), 0);
	tick(w, 1000);
	assert_false(fake_take(&w->f, ENGINE_FREEZE, &c));
	assert_false(fake_take(&w->f, ENGINE_SUSPEND, &c));
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
}

/* ---- the three questions ---- */

static const struct status_open *open_of(const struct status *s, const struct journal_id *id)
{
	for (size_t i = 0; i < s->open_count; i++)
		if (s->open[i].effect && journal_id_equal(&s->open[i].effect->id, id))
			return &s->open[i];
	return NULL;
}

static void status_says_of_each_effect_whether_it_may_be_done_again(void **state)
{
	struct world *w = *state;
	static const struct {
		enum journal_retry retry;
		enum status_retry class;
	} cases[] = {{JOURNAL_RETRY_NEVER, STATUS_HUMAN_ONLY},
		     {JOURNAL_RETRY_SAFE, STATUS_SAFE},
		     {JOURNAL_RETRY_KEYED, STATUS_SAFE_SAME_KEY},
		     {JOURNAL_RETRY_PROBE, STATUS_PROBE_FIRST}};
	const struct status_open *o;
	struct journal_id ids[4], done, waiting;
	struct status *before = NULL, *after = NULL;

	begin(w, ONE);
	waiting = propose(w, "wait", ENGINE_ASK);
	card(w, &waiting, JOURNAL_KIND_EFFECT);
	vote(w, JOURNAL_KIND_EFFECT, JOURNAL_DECISION_APPROVE, NULL);
	done = waiting;
	confirm(w, &done);
	waiting = propose(w, "yes", ENGINE_ASK);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[8] = {(char)('a' + i), 0};
		struct engine_proposal p = proposal(w, text, ENGINE_ALLOW);

		retry_of(&p, cases[i].retry);
		ids[i] = proposed(w, &p);
	}
	assert_int_equal(status_of(w->f.rows, fake_run(&w->f, &w->run), &before), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		o = open_of(before, &ids[i]);
		assert_non_null(o);
		assert_int_equal(o->class, cases[i].class);
		assert_string_equal(o->event, "EFFECT_RESERVED");
		assert_int_equal(o->lsn, effect(w, &ids[i])->reserved_lsn);
		assert_int_equal(o->until_ns != 0, cases[i].class == STATUS_SAFE_SAME_KEY);
	}
	assert_int_equal(open_of(before, &waiting)->class, STATUS_SAFE);
	assert_int_equal(before->effects_done, 1);
	assert_true(journal_id_equal(&before->effects[0]->id, &done));
	assert_string_equal(status_approver(w->f.rows, before->effects[0]), "uid:5");
	assert_int_equal(before->exit, EXIT_STATUS_OK);
	assert_int_equal(engine_effect_courier(w->f.e, fake_now(&w->f), &w->run, NULL, NULL, 0), 0);
	assert_true(fake_flush(&w->f));
	assert_int_equal(status_exit(w->f.rows, fake_run(&w->f, &w->run)), EXIT_STATUS_IN_DOUBT);
	status_free(before);
	before = NULL;
	fake_restart(&w->f, true); /* and the same after a kill */
	assert_int_equal(status_of(w->f.rows, fake_run(&w->f, &w->run), &after), 0);
	assert_int_equal(after->exit, EXIT_STATUS_IN_DOUBT);
	assert_int_equal(after->effects_in_doubt, 4);
	o = open_of(after, &ids[0]);
	assert_string_equal(o->event, "EFFECT_IN_DOUBT");
	assert_int_equal(o->class, STATUS_HUMAN_ONLY);
	status_free(before);
	status_free(after);
}

/* A run with a hundred thousand effects costs no more a piece than one with ten. */
static void many_effects_stay_cheap(void **state)
{
	struct world *w = *state;
	char text[32];

	begin(w, ONE);
	for (int i = 0; i < 3000; i++) {
		struct engine_proposal p;
		struct journal_id id;

		snprintf(text, sizeof(text), "%d", i);
		p = proposal(w, "x", ENGINE_ALLOW);
		digest_of(bytes_str(text), &p.identity);
		id = proposed(w, &p);
		result(w, &id, ENGINE_CONFIRMED);
		delivered(w, &id);
		w->f.command_count = 0;
	}
	assert_int_equal(fake_run(&w->f, &w->run)->effect_count, 3000);
	assert_int_equal(fake_run(&w->f, &w->run)->open_count, 0);
}

/* ---- grants, standing, denied rules ---- */

/* Votes on the open effect with something beside it. */
static int vote_beside(struct world *w, enum journal_decision decision,
		       const struct engine_grant *grant, bool whole_rule)
{
	const struct journal_approval *a = item(w, JOURNAL_KIND_EFFECT);
	struct engine_vote v = {.approval = a->id,
				.card = a->card,
				.decision = decision,
				.principal = "uid:5",
				.auth = "peercred",
				.uid = 5,
				.grant = grant,
				.whole_rule = whole_rule};
	int rc = engine_vote(w->f.e, fake_now(&w->f), &v, NULL);

	assert_true(fake_flush(&w->f));
	return rc;
}

/* Asks, of a class; grant: of the run, as the caller found it to cover the action; NULL = none. */
static struct engine_proposal asking(struct world *w, const char *text, enum journal_class class,
				     const struct journal_grant *grant)
{
	struct engine_proposal p = proposal(w, text, ENGINE_ASK);

	p.class = class;
	if (grant)
		p.grant = grant->id;
	return p;
}

static const struct journal_grant *granted(struct world *w, uint64_t uses, int64_t seconds)
{
	struct engine_proposal p = asking(w, "a first", JOURNAL_CLASS_UNKNOWN, NULL);
	struct engine_grant g = {.pattern = fake_blob(&w->f, "{}"),
				 .uses = uses,
				 .expires_ns = w->f.wall_ns + seconds * SECOND};
	struct journal_id id = proposed(w, &p);

	card(w, &id, JOURNAL_KIND_EFFECT);
	assert_int_equal(vote_beside(w, JOURNAL_DECISION_APPROVE, &g, false), 0);
	assert_int_equal(answered(w, &id), ENGINE_ANSWER_SEND);
	return &fake_run(&w->f, &w->run)->grants[fake_run(&w->f, &w->run)->grant_count - 1];
}

static void a_grant_lets_as_much_as_it_says_and_no_more(void **state)
{
	struct world *w = *state;
	const struct journal_grant *g;
	struct engine_proposal p;
	struct journal_id id;

	begin(w, ONE);
	g = granted(w, 2, 60);
	p = asking(w, "b not covered", JOURNAL_CLASS_UNKNOWN, NULL);
	id = proposed(w, &p);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING); /* same rule, other arguments */
	p = asking(w, "c covered", JOURNAL_CLASS_UNKNOWN, g);
	id = proposed(w, &p);
	assert_effect(w, &id, JOURNAL_EFFECT_S_RESERVED);
	p = asking(w, "d other rule", JOURNAL_CLASS_UNKNOWN, g);
	p.rule = "refund";
	id = proposed(w, &p);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
	fake_restart(&w->f, true); /* what was used stays used */
	assert_int_equal(engine_effect_courier(w->f.e, fake_now(&w->f), &w->run, &w->courier, NULL,
					       0),
			 0);
	g = &fake_run(&w->f, &w->run)->grants[0];
	assert_int_equal(g->uses, 1);
	p = asking(w, "e covered", JOURNAL_CLASS_UNKNOWN, g);
	id = proposed(w, &p);
	assert_effect(w, &id, JOURNAL_EFFECT_S_RESERVED);
	p = asking(w, "f the third", JOURNAL_CLASS_UNKNOWN, g);
	id = proposed(w, &p);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
	assert_int_equal(fake_count(&w->f, &w->run, JOURNAL_GRANT_USED), 2);
}

static void a_grant_ends_with_its_time_and_when_it_is_taken_back(void **state)
{
	struct world *w = *state;
	const struct journal_grant *g;
	struct engine_proposal p;
	struct journal_id id, grant;

	begin(w, ONE);
	g = granted(w, 100, 60);
	w->f.wall_ns += 60 * SECOND;
	p = asking(w, "b at its end", JOURNAL_CLASS_UNKNOWN, g);
	id = proposed(w, &p);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
	w->f.wall_ns -= 30 * SECOND; /* the clock is set back: what asked still asks */
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
	grant = fake_run(&w->f, &w->run)->grants[0].id;
	assert_int_equal(engine_grant_revoke(w->f.e, fake_now(&w->f), &w->run, &grant, 5, "uid:5",
					     NULL),
			 0);
	assert_true(fake_flush(&w->f));
	assert_int_equal(engine_grant_revoke(w->f.e, fake_now(&w->f), &w->run, &grant, 5, "uid:5",
					     NULL),
			 -EALREADY);
	p = asking(w, "c taken back", JOURNAL_CLASS_UNKNOWN, &fake_run(&w->f, &w->run)->grants[0]);
	id = proposed(w, &p);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
}

static void what_may_not_be_granted(void **state)
{
	struct world *w = *state;
	struct engine_proposal p;
	struct engine_grant g = {.pattern = {{1}}, .uses = 1};
	struct journal_id id;

	begin(w, ONE);
	p = asking(w, "a", JOURNAL_CLASS_IRREVERSIBLE, NULL);
	id = proposed(w, &p);
	card(w, &id, JOURNAL_KIND_EFFECT);
	g.expires_ns = w->f.wall_ns + 60 * SECOND;
	assert_int_equal(vote_beside(w, JOURNAL_DECISION_APPROVE, &g, false), -EPERM); /* assist */
	assert_int_equal(vote_beside(w, JOURNAL_DECISION_DENY, &g, false), -EINVAL);
	assert_int_equal(vote_beside(w, JOURNAL_DECISION_APPROVE, NULL, true), -EINVAL);
	p = asking(w, "b", JOURNAL_CLASS_UNKNOWN, NULL);
	assert_int_equal(vote_beside(w, JOURNAL_DECISION_DENY, NULL, false), 0);
	id = proposed(w, &p);
	card(w, &id, JOURNAL_KIND_EFFECT);
	g.expires_ns = w->f.wall_ns;
	assert_int_equal(vote_beside(w, JOURNAL_DECISION_APPROVE, &g, false), -EINVAL);
	g.expires_ns = w->f.wall_ns + 31ll * 86400 * SECOND;
	assert_int_equal(vote_beside(w, JOURNAL_DECISION_APPROVE, &g, false), -EINVAL);
	g.expires_ns = w->f.wall_ns + 60 * SECOND;
	g.uses = 0;
	assert_int_equal(vote_beside(w, JOURNAL_DECISION_APPROVE, &g, false), -EINVAL);
	g.uses = 1;
	w->f.rules.quorum = 2;
	assert_int_equal(vote_beside(w, JOURNAL_DECISION_APPROVE, &g, false), -EPERM);
	assert_int_equal(fake_run(&w->f, &w->run)->grant_count, 0);
}

static void standing_is_used_as_often_as_the_policy_says(void **state)
{
	struct world *w = *state;
	struct engine_standing st = {.at = "acme.yaml:9:3", .why = "small refunds", .uses = 2};
	struct journal_id id;

	begin(w, ONE);
	st.expires_ns = w->f.wall_ns + 60 * SECOND;
	for (int i = 0; i < 3; i++) {
		char text[] = "a one";
		struct engine_proposal p;

		text[0] = (char)('a' + i);
		p = asking(w, text, JOURNAL_CLASS_IRREVERSIBLE, NULL);
		p.standing = &st;
		id = proposed(w, &p);
		assert_effect(w, &id, i < 2 ? JOURNAL_EFFECT_S_RESERVED : JOURNAL_EFFECT_S_WAITING);
	}
	assert_int_equal(fake_run(&w->f, &w->run)->grant_count, 1);
	assert_int_equal(fake_count(&w->f, &w->run, JOURNAL_GRANT_USED), 2);
}

static void a_standing_that_is_over_grants_nothing(void **state)
{
	struct world *w = *state;
	struct engine_standing st = {.at = "acme.yaml:9:3", .uses = 2};
	struct engine_proposal p;
	struct journal_id id;

	begin(w, ONE);
	st.expires_ns = w->f.wall_ns;
	p = asking(w, "a", JOURNAL_CLASS_IRREVERSIBLE, NULL);
	p.standing = &st;
	id = proposed(w, &p);
	assert_effect(w, &id, JOURNAL_EFFECT_S_WAITING);
}

static void a_rule_denied_for_the_run_asks_nobody_again(void **state)
{
	struct world *w = *state;
	struct engine_proposal p;
	struct journal_id a, b, c;

	begin(w, ONE);
	p = asking(w, "a", JOURNAL_CLASS_UNKNOWN, NULL);
	a = proposed(w, &p);
	card(w, &a, JOURNAL_KIND_EFFECT);
	p = asking(w, "b", JOURNAL_CLASS_UNKNOWN, NULL);
	b = proposed(w, &p);
	card(w, &b, JOURNAL_KIND_EFFECT);
	assert_int_equal(vote_beside(w, JOURNAL_DECISION_DENY, NULL, true), 0);
	assert_effect(w, &a, JOURNAL_EFFECT_S_DENIED);
	assert_effect(w, &b, JOURNAL_EFFECT_S_DENIED); /* it asked already */
	p = asking(w, "c", JOURNAL_CLASS_UNKNOWN, NULL);
	c = proposed(w, &p);
	assert_effect(w, &c, JOURNAL_EFFECT_S_DENIED);
	p = proposal(w, "d", ENGINE_ALLOW);
	c = proposed(w, &p);
	assert_effect(w, &c, JOURNAL_EFFECT_S_DENIED);
	p = asking(w, "e", JOURNAL_CLASS_UNKNOWN, NULL);
	p.rule = "other";
	c = proposed(w, &p);
	assert_effect(w, &c, JOURNAL_EFFECT_S_WAITING);
}

/* Asked, shown for that long and decided. */
static void asked_of(struct world *w, const char *rule, enum journal_class class, const char *text,
		     uint64_t shown_ms, enum journal_decision decision)
{
	struct engine_proposal p = proposal(w, text, ENGINE_ASK);
	struct engine_vote v = {.decision = decision,
				.principal = "uid:5",
				.auth = "peercred",
				.uid = 5,
				.shown_ms = shown_ms};
	struct journal_id id;
	struct error err = {0};

	p.rule = rule;
	p.class = class;
	id = proposed(w, &p);
	card(w, &id, JOURNAL_KIND_EFFECT);
	v.approval = item(w, JOURNAL_KIND_EFFECT)->id;
	v.card = item(w, JOURNAL_KIND_EFFECT)->card;
	if (engine_vote(w->f.e, fake_now(&w->f), &v, &err) != 0)
		fail_msg("vote: %s", err.msg);
	assert_true(fake_flush(&w->f));
}

static void what_attention_was_spent_on_is_counted_by_rule(void **state)
{
	static const struct {
		const char *rule;
		enum journal_class class;
		const char *text;
		uint64_t shown_ms; /* 0 = the client did not say */
		enum journal_decision decision;
	} asked[] = {
		{"pay", JOURNAL_CLASS_IRREVERSIBLE, "1", 1999, JOURNAL_DECISION_APPROVE},
		{"pay", JOURNAL_CLASS_IRREVERSIBLE, "2", 2000, JOURNAL_DECISION_APPROVE},
		{"pay", JOURNAL_CLASS_IRREVERSIBLE, "3", 0, JOURNAL_DECISION_APPROVE},
		{"pay", JOURNAL_CLASS_IRREVERSIBLE, "4", 90000, JOURNAL_DECISION_APPROVE},
		{"pay", JOURNAL_CLASS_IRREVERSIBLE, "5", UINT64_MAX, JOURNAL_DECISION_APPROVE},
		{"note", JOURNAL_CLASS_REVERSIBLE, "6", 5000, JOURNAL_DECISION_APPROVE},
		{"note", JOURNAL_CLASS_REVERSIBLE, "7", 5000, JOURNAL_DECISION_DENY},
	};
	struct world *w = *state;
	AUTO(stats_free) struct stats *s = NULL;
	const struct stats_rule *pay, *note;

	assert_int_equal(stats_of(w->f.rows, &s), 0);
	assert_int_equal(s->all.asked, 0);
	assert_int_equal(stats_median_ms(&s->all), 0);
	stats_free(take_ptr(s));
	begin(w, ONE);
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
		asked_of(w, asked[i].rule, asked[i].class, asked[i].text, asked[i].shown_ms,
			 asked[i].decision);
	assert_int_equal(stats_of(w->f.rows, &s), 0);
	assert_int_equal(s->all.asked, 7);
	assert_int_equal(s->all.approved, 6);
	assert_int_equal(s->all.denied, 1);
	assert_int_equal(s->rule_count, 2);
	pay = &s->rules[0]; /* the most asked comes first */
	note = &s->rules[1];
	assert_string_equal(pay->name, "pay");
	assert_int_equal(pay->hasty, 1);
	assert_int_equal(pay->shown_count, 4); /* what was not said is no time */
	assert_int_equal(stats_median_ms(pay), 90000);
	assert_true(stats_always(pay));
	assert_false(stats_misplaced(pay));
	assert_string_equal(note->name, "note");
	assert_false(stats_always(note));
	assert_true(stats_misplaced(note));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_is_allowed_is_reserved_synced_then_sent),
		T(what_is_denied_is_answered_and_never_sent),
		T(an_approval_is_consumed_in_the_batch_that_reserves),
		T(a_deny_ends_it_and_expiry_is_a_deny),
		T(nobody_there_is_a_deny),
		T(an_approval_that_is_not_used_in_time_lapses_and_asks_again),
		T(the_same_again_attaches_until_it_was_delivered),
		T(a_later_attempt_replays_each_occurrence_once),
		T(an_open_approval_is_found_again_by_the_same_action),
		T(another_action_supersedes_what_was_asked),
		T(an_approval_is_never_used_for_another_action),
		T(what_the_policy_forbids_meanwhile_is_not_done),
		T(what_did_not_happen_is_proposed_again_with_a_fresh_approval),
		T(what_no_attempt_proposes_again_is_withdrawn_with_its_step),
		T(what_cannot_be_shown_is_denied),
		T(a_run_cannot_fill_the_queue_nor_the_journal),
		T(what_may_have_happened_is_a_persons_to_say),
		T(a_doubt_holds_its_step_until_it_is_known),
		T(what_is_safe_is_sent_again_once_by_itself),
		T(past_its_window_a_key_is_a_persons),
		T(only_what_is_confirmed_is_taken_back_and_once),
		T(a_probe_is_asked_before_a_person),
		T(an_effect_that_is_safe_does_not_wait_for_nobody),
		T(a_new_courier_leaves_what_the_old_one_sent_in_doubt),
		T(a_restart_asks_the_courier_that_lives),
		T(what_the_courier_never_sent_for_an_ended_attempt_is_in_doubt),
		T(a_result_is_said_twice_and_recorded_once),
		T(without_a_keeper_what_was_sent_is_in_doubt_and_its_step_waits),
		T(a_question_that_was_adopted_is_asked_before_anybody_names_the_run),
		T(a_doubt_is_asked_before_anybody_names_the_run),
		T(a_power_cut_never_forgets_what_was_sent),
		T(a_cancelled_run_ends_only_after_what_it_sent_has_an_outcome),
		T(who_waits_long_is_frozen_then_suspended_and_a_decision_starts_anew),
		T(a_decision_thaws),
		T(who_does_not_wait_is_not_frozen),
		T(status_says_of_each_effect_whether_it_may_be_done_again),
		T(many_effects_stay_cheap),
		T(a_grant_lets_as_much_as_it_says_and_no_more),
		T(a_grant_ends_with_its_time_and_when_it_is_taken_back),
		T(what_may_not_be_granted),
		T(standing_is_used_as_often_as_the_policy_says),
		T(a_standing_that_is_over_grants_nothing),
		T(a_rule_denied_for_the_run_asks_nobody_again),
		T(what_attention_was_spent_on_is_counted_by_rule),
	};
	return cmocka_run_group_tests_name("supervisor/engine_effect", tests, NULL, NULL);
}
