/*
 * The engine, scenario by scenario: one function a rule, over the pretended daemon of fake.h.
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
#include "tests/golden.h"
#include "tests/unit/supervisor/fake.h"

#define ONE    "version: 1\nsteps:\n  - {name: a, run: [x]}\n"
#define TWO    ONE "  - {name: b, run: [y], needs: [a]}\n"
#define NEVER  "land: never\n"
#define SECOND 1000000000ll

static struct fake *fake_of(void **state)
{
	return *state;
}

static int setup(void **state)
{
	struct fake *f = calloc(1, sizeof(*f));

	fake_init(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	fake_check_replay(*state);
	fake_free(*state);
	free(*state);
	return 0;
}

static struct journal_id created(struct fake *f, const char *yaml)
{
	struct engine_run_request q = {.uid = 1000};

	fake_create(f, yaml, &q);
	assert_true(fake_flush(f));
	return q.id;
}

static void assert_run(struct fake *f, const struct journal_id *run, enum journal_run_state want)
{
	const struct journal_run *r = fake_run(f, run);

	if (r->state != want)
		fail_msg("run is %s (%s), wanted %s", journal_run_state_name(r->state),
			 r->why ? r->why : "", journal_run_state_name(want));
}

static void assert_step(struct fake *f, const struct journal_id *run, const char *name,
			enum journal_step_state want)
{
	const struct journal_step *s = fake_step(f, run, name);

	if (!s)
		fail_msg("step %s is not there", name);
	if (s->state != want)
		fail_msg("step %s is %s (%s), wanted %s", name, journal_step_state_name(s->state),
			 s->why ? s->why : "", journal_step_state_name(want));
}

/* The one start command that is there, performed: its step must be called name. */
static struct journal_id started(struct fake *f, const char *name)
{
	struct fake_command c;

	if (!fake_take(f, ENGINE_START_ATTEMPT, &c))
		fail_msg("nothing starts, wanted %s", name);
	assert_string_equal(c.spec_name, name);
	assert_int_equal(engine_attempt_live(f->e, fake_now(f), &c.c.attempt_id), 0);
	f->attempts[f->attempt_count++] = (struct fake_attempt){.id = c.c.attempt_id,
								.run = c.c.run,
								.step = c.c.step,
								.live = true,
								.told_live = true};
	assert_true(fake_flush(f));
	return c.c.attempt_id;
}

static void nothing_starts(struct fake *f)
{
	struct fake_command c;

	if (fake_take(f, ENGINE_START_ATTEMPT, &c))
		fail_msg("%s starts", c.spec_name);
}

static void ended(struct fake *f, const struct journal_id *attempt,
		  enum journal_attempt_state state, uint32_t code)
{
	struct engine_ended x = {.state = state, .exit_code = code};
	struct fake_attempt *a = fake_attempt(f, attempt);

	if (a)
		fake_attempt_drop(f, a);
	assert_int_equal(engine_attempt_ended(f->e, fake_now(f), attempt, &x), 0);
	assert_true(fake_flush(f));
}

static void sealed(struct fake *f)
{
	struct fake_command c;
	struct digest manifest;

	assert_true(fake_take(f, ENGINE_SEAL, &c));
	manifest = fake_blob(f, c.c.layer);
	assert_int_equal(engine_sealed(f->e, fake_now(f), &c.c.attempt_id, 0, NULL, &manifest, 3,
				       30),
			 0);
	assert_true(fake_flush(f));
}

/* One step from its start to its commit. */
static void ran(struct fake *f, const char *name)
{
	struct journal_id a = started(f, name);

	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
}

/* The n-th try of a step fails so. */
static void failed(struct fake *f, const char *name, enum journal_attempt_state state,
		   uint32_t code)
{
	struct journal_id a = started(f, name);

	ended(f, &a, state, code);
}

static struct digest planned(struct fake *f, const struct journal_id *run)
{
	struct fake_command c;
	struct digest redo = fake_blob(f, "redo");

	if (!fake_take(f, ENGINE_PLAN_LANDING, &c))
		fail_msg("no landing is planned");
	assert_int_equal(engine_landing_planned(f->e, fake_now(f), run, &redo, NULL, false, NULL),
			 0);
	assert_true(fake_flush(f));
	return redo;
}

static void applied(struct fake *f, const struct journal_id *run, bool undo)
{
	struct fake_command c;
	struct digest result = fake_blob(f, "result");

	assert_true(fake_take(f, ENGINE_APPLY_LANDING, &c));
	assert_int_equal(c.c.undo, undo);
	assert_true(c.c.after_sync);
	assert_int_equal(engine_landing_done(f->e, fake_now(f), run, undo, &result, NULL, 3, NULL),
			 0);
	assert_true(fake_flush(f));
}

static const struct journal_approval *asked(struct fake *f, const struct journal_id *run,
					    enum journal_approval_kind kind)
{
	struct digest card = fake_blob(f, "card");
	const struct journal_approval *a;
	struct fake_command c;

	if (!fake_take(f, ENGINE_CARD, &c))
		fail_msg("no card is asked for");
	assert_int_equal(c.c.card_kind, kind);
	assert_int_equal(engine_card(f->e, fake_now(f), run, c.c.step, kind, &c.c.action, &card,
				     &c.c.object),
			 0);
	assert_true(fake_flush(f));
	a = fake_open_item(f, run, kind);
	assert_non_null(a);
	return a;
}

static int vote(struct fake *f, const struct journal_approval *a, enum journal_decision decision,
		const char *choice)
{
	struct engine_vote v = {.approval = a->id,
				.card = a->card,
				.decision = decision,
				.choice = choice,
				.principal = "uid:1000",
				.auth = "peercred",
				.uid = 1000};
	struct error err = {0};
	int rc = engine_vote(f->e, fake_now(f), &v, &err);

	assert_true(fake_flush(f));
	return rc;
}

#define APPROVE JOURNAL_DECISION_APPROVE
#define DENY	JOURNAL_DECISION_DENY

static void pass(struct fake *f, int64_t ns)
{
	f->wall_ns += ns;
	f->mono_ns += ns;
	engine_tick(f->e, fake_now(f));
	assert_true(fake_flush(f));
}

/* ---- the main line ---- */

static void test_a_run_goes_from_step_to_step_and_lands(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, TWO);

	assert_run(f, &run, JOURNAL_RUN_S_RUNNING);
	ran(f, "a");
	assert_step(f, &run, "a", JOURNAL_STEP_S_COMMITTED);
	ran(f, "b");
	planned(f, &run);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_LANDING);
	applied(f, &run, false);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_LANDED);
	/* LANDED and SUCCEEDED are one batch */
	assert_int_equal(f->log[f->log_count - 1].type, JOURNAL_LEASE_FREED);
	assert_true(f->batches[f->batch_count - 1].count >= 3);
	nothing_starts(f);
}

static void test_land_never_succeeds_with_the_last_commit(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER);

	ran(f, "a");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_UNLANDED);
}

static void test_a_step_sees_the_layers_committed_before_it(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, TWO);
	struct fake_command c;

	ran(f, "a");
	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c));
	assert_int_equal(c.stack_count, 1);
	assert_string_equal(c.stack[0], fake_step(f, &run, "a")->layer);
}

static void test_a_step_is_described_by_all_it_depends_on(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, "version: 1\nsteps:\n  - {name: a, run: [x]}\n"
					   "  - {name: b, run: [y], stdin: {from: a}}\n");
	AUTO_BUFFER b = {0};

	ran(f, "a");
	fake_blob_get(f, &fake_step(f, &run, "b")->input, &b);
	golden_check("supervisor/step-input.needs.cbor", buffer_bytes(&b));
}

static void test_one_writer_in_order_of_position(void **state)
{
	struct fake *f = fake_of(state);

	created(f, "version: 1\nland: never\nsteps:\n  - {name: d, run: x, needs: [b, c]}\n  - "
		   "{name: a, run: x}\n"
		   "  - {name: c, run: x, needs: [a]}\n  - {name: b, run: x, needs: [a]}\n");
	ran(f, "a");
	ran(f, "c");
	ran(f, "b");
	ran(f, "d");
}

static void test_a_request_and_a_name_start_one_run(void **state)
{
	struct fake *f = fake_of(state);
	struct engine_run_request q = {.uid = 1, .request = bytes_str("r1"), .name = "n"};
	struct engine_run_request again = {.uid = 1, .request = bytes_str("r1")};
	struct engine_run_request named = {.uid = 1, .name = "n"};
	struct engine_run_request other = {.uid = 1,
					   .name = "n",
					   .plan_blob = fake_blob(f, "other")};
	struct journal_id id;
	struct error err = {0};

	fake_create(f, ONE, &q);
	fake_create(f, ONE, &again);
	assert_true(journal_id_equal(&q.id, &again.id));
	fake_create(f, ONE, &named);
	assert_true(journal_id_equal(&q.id, &named.id));
	assert_int_equal(engine_run_create(f->e, fake_now(f), &other, &id, &err), -EEXIST);
	assert_int_equal(err.exit_status, EXIT_STATUS_USAGE);
	assert_true(fake_flush(f));
	assert_int_equal(fake_count(f, &q.id, JOURNAL_RUN_CREATED), 1);
}

/* ---- failing ---- */

static void test_a_failure_that_no_retry_covers_fails_the_run(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, TWO "  - {name: c, run: x}\n");

	failed(f, "a", JOURNAL_ATTEMPT_S_EXITED, 3);
	assert_step(f, &run, "a", JOURNAL_STEP_S_FAILED);
	assert_step(f, &run, "b", JOURNAL_STEP_S_CANCELLED); /* its dependent */
	assert_run(f, &run, JOURNAL_RUN_S_RUNNING);
	ran(f, "c"); /* another branch goes on */
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_UNLANDED);
	assert_int_equal(status_exit(f->rows, fake_run(f, &run)), EXIT_STATUS_STEP_FAILED);
}

static void test_retries_back_off_and_then_ask(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, "version: 1\nland: never\nsteps:\n  - {name: a, run: x, "
					   "retry: {max: 3, backoff: 1s..3s}}\n");
	const struct journal_approval *item;
	int64_t due;

	failed(f, "a", JOURNAL_ATTEMPT_S_EXITED, 1);
	assert_step(f, &run, "a", JOURNAL_STEP_S_BACKOFF);
	assert_run(f, &run, JOURNAL_RUN_S_WAITING);
	assert_int_equal(fake_run(f, &run)->waits, JOURNAL_WAIT_TIMER);
	due = fake_step(f, &run, "a")->due_ns - f->wall_ns;
	assert_true(due > SECOND / 2 && due <= SECOND);
	nothing_starts(f);
	pass(f, SECOND);
	failed(f, "a", JOURNAL_ATTEMPT_S_TIMED_OUT, 0);
	due = fake_step(f, &run, "a")->due_ns - f->wall_ns;
	assert_true(due > SECOND && due <= 2 * SECOND);
	pass(f, 2 * SECOND);
	failed(f, "a", JOURNAL_ATTEMPT_S_OOM, 0);
	assert_step(f, &run, "a", JOURNAL_STEP_S_EXHAUSTED);
	item = asked(f, &run, JOURNAL_KIND_EXHAUSTED);
	assert_int_equal(fake_run(f, &run)->waits, JOURNAL_WAIT_EXHAUSTED);
	assert_int_equal(status_exit(f->rows, fake_run(f, &run)), EXIT_STATUS_WAITING);
	assert_int_equal(vote(f, item, APPROVE, NULL), -EINVAL); /* it needs a choice */
	assert_int_equal(vote(f, item, APPROVE, "retry"), 0);
	failed(f, "a", JOURNAL_ATTEMPT_S_EXITED, 1);
	item = asked(f, &run, JOURNAL_KIND_EXHAUSTED);
	assert_int_equal(vote(f, item, APPROVE, "fail"), 0);
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);
}

static void test_equal_failures_stop_early(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, "version: 1\nsteps:\n  - {name: a, run: x, retry: {max: "
					   "9, same_failure: 2, backoff: 1s}}\n");

	failed(f, "a", JOURNAL_ATTEMPT_S_EXITED, 1);
	pass(f, SECOND);
	failed(f, "a", JOURNAL_ATTEMPT_S_EXITED, 2); /* another failure: counted anew */
	pass(f, 2 * SECOND);
	failed(f, "a", JOURNAL_ATTEMPT_S_EXITED, 2);
	assert_step(f, &run, "a", JOURNAL_STEP_S_EXHAUSTED);
}

static void test_lost_attempts_are_not_charged_but_have_a_cap(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run;
	struct error err = {0};

	f->limits.lost_max = 2;
	fake_restart(f, true);
	run = created(f, ONE NEVER);
	failed(f, "a", JOURNAL_ATTEMPT_S_LOST, 0);
	assert_int_equal(fake_step(f, &run, "a")->charged, 0);
	failed(f, "a", JOURNAL_ATTEMPT_S_LOST, 0);
	assert_run(f, &run, JOURNAL_RUN_S_PAUSED);
	nothing_starts(f);
	assert_int_equal(engine_run_resume(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	ran(f, "a");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_what_is_lost_again_is_spaced_as_failures_are(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER), a;
	struct error err = {0};
	struct fake_command c;
	int64_t due, first = 0;

	failed(f, "a", JOURNAL_ATTEMPT_S_LOST, 0); /* an accident: at once */
	for (int64_t s = 1; s <= 4; s *= 2) {
		failed(f, "a", JOURNAL_ATTEMPT_S_LOST, 0);
		assert_step(f, &run, "a", JOURNAL_STEP_S_BACKOFF);
		assert_int_equal(fake_run(f, &run)->waits, JOURNAL_WAIT_TIMER);
		due = fake_step(f, &run, "a")->due_ns - f->wall_ns;
		assert_true(due > s * SECOND / 2 && due <= s * SECOND);
		first = first ? first : due;
		nothing_starts(f);
		pass(f, s * SECOND);
	}
	/* A layer that no sealer can seal: the attempts exit well, and are lost after that. */
	for (int i = 5; i <= 10; i++) {
		a = started(f, "a");
		ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
		assert_true(fake_take(f, ENGINE_SEAL, &c));
		assert_int_equal(engine_sealed(f->e, fake_now(f), &a, -EIO, "the sealer died", NULL,
					       0, 0),
				 0);
		fake_flush(f);
		assert_int_equal(fake_step(f, &run, "a")->lost, i);
		if (i < 10)
			assert_step(f, &run, "a", JOURNAL_STEP_S_BACKOFF);
		pass(f, 60 * SECOND);
	}
	assert_run(f, &run, JOURNAL_RUN_S_PAUSED);
	assert_step(f, &run, "a", JOURNAL_STEP_S_RUNNABLE);
	assert_non_null(strstr(fake_run(f, &run)->why, "the sealer died"));
	assert_int_equal(fake_step(f, &run, "a")->charged, 0);
	assert_int_equal(engine_run_resume(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	ran(f, "a"); /* at once: a person said so */
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(fake_step(f, &run, "a")->lost, 0);

	run = created(f, ONE NEVER); /* jitter by the key alone: the same again */
	failed(f, "a", JOURNAL_ATTEMPT_S_LOST, 0);
	failed(f, "a", JOURNAL_ATTEMPT_S_LOST, 0);
	assert_int_equal(fake_step(f, &run, "a")->due_ns - f->wall_ns, first);
}

static void test_a_checker_that_is_always_lost_pauses_the_run(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, "version: 1\nland: never\nsteps:\n  - {name: a, run: x, "
					   "contract: {checks: [{run: t}]}}\n"),
			  a;
	struct error err = {0};
	struct fake_command c;

	a = started(f, "a");
	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
	for (int i = 1; i <= 10; i++) {
		assert_run(f, &run, JOURNAL_RUN_S_RUNNING);
		assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c) && c.c.check);
		assert_int_equal(engine_check_lost(f->e, fake_now(f), &a), 0);
		fake_flush(f);
	}
	assert_run(f, &run, JOURNAL_RUN_S_PAUSED);
	nothing_starts(f);
	assert_int_equal(engine_run_resume(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c) && c.c.check);
	assert_int_equal(engine_checked(f->e, fake_now(f), &a, true, NULL, NULL), 0);
	fake_flush(f);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(fake_step(f, &run, "a")->lost, 0);
}

/* The step's own attempt, then the check of its sealed layer. */
static void test_layers_that_are_gone_pause_the_run_and_charge_nothing(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, "version: 1\nland: never\nsteps:\n  - {name: a, run: x, "
					   "contract: {checks: [{run: t}]}}\n"),
			  a;
	const char *why = ENGINE_HELD_LAYERS ": it is gone";
	struct error err = {0};
	struct fake_command c;

	for (int round = 0; round < 2; round++) {
		bool check = round == 1;

		assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c) && c.c.check == check);
		a = c.c.attempt_id;
		assert_int_equal(engine_attempt_held(f->e, fake_now(f), &a, why), 0);
		fake_flush(f);
		assert_run(f, &run, JOURNAL_RUN_S_PAUSED);
		assert_step(f, &run, "a",
			    check ? JOURNAL_STEP_S_CHECKING : JOURNAL_STEP_S_RUNNABLE);
		assert_string_equal(fake_run(f, &run)->why, why);
		assert_int_equal(status_exit(f->rows, fake_run(f, &run)), EXIT_STATUS_SANDBOX);
		assert_int_equal(engine_attempt_held(f->e, fake_now(f), &a, why), -ESTALE);
		nothing_starts(f);
		fake_restart(f, true);
		nothing_starts(f);
		assert_int_equal(engine_run_resume(f->e, fake_now(f), &run, 1000, &err), 0);
		fake_flush(f);
		if (check)
			break;
		a = started(f, "a");
		assert_int_equal(fake_step(f, &run, "a")->charged, 0);
		ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
		sealed(f);
	}
	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c) && c.c.check);
	assert_int_equal(engine_checked(f->e, fake_now(f), &a, true, NULL, NULL), 0);
	fake_flush(f);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(fake_step(f, &run, "a")->charged, 1);
}

static void test_infra_is_tried_again_and_exec_is_not(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, TWO);
	struct fake_command c;

	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c));
	assert_int_equal(engine_attempt_not_started(f->e, fake_now(f), &c.c.attempt_id, "no cgroup",
						    true),
			 0);
	fake_flush(f);
	assert_step(f, &run, "a", JOURNAL_STEP_S_BACKOFF);
	pass(f, SECOND);
	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c));
	assert_int_equal(engine_attempt_not_started(f->e, fake_now(f), &c.c.attempt_id,
						    "x: not found", false),
			 0);
	fake_flush(f);
	assert_step(f, &run, "a", JOURNAL_STEP_S_FAILED);
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);
}

static void test_a_program_that_the_policy_refuses_is_denied_and_not_tried_again(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, TWO);
	struct fake_command c;
	const struct journal_step *s;

	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c));
	assert_int_equal(engine_attempt_not_started(f->e, fake_now(f), &c.c.attempt_id,
						    "denied: /no/such: no rule", false),
			 0);
	fake_flush(f);
	assert_step(f, &run, "a", JOURNAL_STEP_S_DENIED);
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);
	s = journal_state_run(f->rows, &run)->steps[0];
	assert_string_equal(s->why, "/no/such: no rule");
	assert_false(fake_take(f, ENGINE_START_ATTEMPT, &c));
}

static void test_a_deadline_ends_a_step_whatever_it_does(void **state)
{
	struct fake *f = fake_of(state);
	static const char plan[] = "version: 1\nsteps:\n  - {name: a, run: x, deadline: 10s, "
				   "retry: {max: 9, backoff: 6s}}\n";
	struct journal_id run = created(f, plan), one = started(f, "a");
	struct fake_command c;

	pass(f, 11 * SECOND);
	assert_true(fake_take(f, ENGINE_KILL_ATTEMPT, &c));
	assert_true(journal_id_equal(&c.c.attempt_id, &one));
	ended(f, &one, JOURNAL_ATTEMPT_S_KILLED, 0);
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);

	run = created(f, plan);
	failed(f, "a", JOURNAL_ATTEMPT_S_EXITED, 1);
	pass(f, 6 * SECOND);
	failed(f, "a", JOURNAL_ATTEMPT_S_EXITED, 1);
	assert_step(f, &run, "a", JOURNAL_STEP_S_BACKOFF);
	pass(f, 6 * SECOND);
	assert_step(f, &run, "a", JOURNAL_STEP_S_FAILED);
	nothing_starts(f);
}

static void test_a_killed_step_is_not_tried_again(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run =
		created(f, "version: 1\nsteps:\n  - {name: a, run: x, retry: {max: 9}}\n");

	failed(f, "a", JOURNAL_ATTEMPT_S_KILLED, 0);
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);
}

/* ---- contracts ---- */

static const char contract[] =
	"version: 1\nland: never\nsteps:\n"
	"  - {name: a, run: x, contract: {checks: [{run: t}]}, retry: {max: 2, backoff: 1s}}\n";

static void checked(struct fake *f, bool passed)
{
	struct digest feedback = fake_blob(f, "line 3 is wrong");
	struct fake_command c;

	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c));
	assert_true(c.c.check);
	assert_int_equal(engine_checked(f->e, fake_now(f), &c.c.attempt_id, passed,
					passed ? NULL : "t failed", passed ? NULL : &feedback),
			 0);
	assert_true(fake_flush(f));
}

static void test_a_rejected_step_gets_the_feedback(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, contract);
	struct fake_command c;

	ran(f, "a");
	assert_step(f, &run, "a", JOURNAL_STEP_S_CHECKING);
	checked(f, false);
	assert_step(f, &run, "a", JOURNAL_STEP_S_BACKOFF);
	assert_true(fake_take(f, ENGINE_REMOVE_LAYER, &c));
	pass(f, SECOND);
	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c));
	assert_string_equal(c.feedback, "line 3 is wrong");
	ended(f, &c.c.attempt_id, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
	checked(f, true);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_a_check_runs_again_after_a_crash_uncharged(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, contract);

	ran(f, "a");
	fake_restart(f, true);
	assert_step(f, &run, "a", JOURNAL_STEP_S_CHECKING);
	checked(f, true);
	assert_int_equal(fake_step(f, &run, "a")->attempt_count, 1);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_a_protected_path_is_a_failed_check(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, contract), a = started(f, "a");
	struct fake_command c;

	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	assert_true(fake_take(f, ENGINE_SEAL, &c));
	assert_int_equal(engine_sealed(f->e, fake_now(f), &a, -EPERM, "wrote tests/x", NULL, 0, 0),
			 0);
	fake_flush(f);
	assert_step(f, &run, "a", JOURNAL_STEP_S_BACKOFF);
	assert_string_equal(fake_step(f, &run, "a")->why, "wrote tests/x");
}

static void test_a_lost_layer_runs_the_step_again(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER), a = started(f, "a");
	struct fake_command c;

	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	assert_true(fake_take(f, ENGINE_SEAL, &c));
	assert_int_equal(engine_sealed(f->e, fake_now(f), &a, -EIO, NULL, NULL, 0, 0), 0);
	fake_flush(f);
	assert_int_equal(fake_step(f, &run, "a")->charged, 0);
	ran(f, "a");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

/* ---- gates and votes ---- */

static const char gated[] = "version: 1\nland: never\nsteps:\n  - {name: a, run: x, gate: ask}\n  "
			    "- {name: b, run: x}\n";

static void test_a_gate_asks_first_and_holds_up_nobody_else(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, gated);
	const struct journal_approval *item = asked(f, &run, JOURNAL_KIND_STEP_GATE);
	struct journal_id id = item->id;

	ran(f, "b");
	assert_run(f, &run, JOURNAL_RUN_S_WAITING);
	assert_int_equal(fake_run(f, &run)->waits, JOURNAL_WAIT_APPROVAL);
	assert_int_equal(vote(f, item, APPROVE, NULL), 0);
	/* consumed in the batch that started what it allowed */
	assert_int_equal(journal_state_approval(f->rows, &id)->state, JOURNAL_APPROVAL_S_CONSUMED);
	assert_int_equal(fake_count(f, &run, JOURNAL_APPROVAL_CONSUMED), 1);
	ran(f, "a");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_a_policy_that_asks_gates_as_the_plan_does(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run;
	const struct journal_approval *item;

	f->asked = "/usr/bin/push";
	run = created(f, "version: 1\nland: never\nsteps:\n  - {name: a, run: [/usr/bin/push]}\n"
			 "  - {name: b, run: [/usr/bin/true]}\n");
	item = asked(f, &run, JOURNAL_KIND_STEP_GATE);
	assert_step(f, &run, "a", JOURNAL_STEP_S_GATED);
	ran(f, "b");
	fake_restart(f, true);
	item = fake_open_item(f, &run, JOURNAL_KIND_STEP_GATE);
	assert_int_equal(vote(f, item, APPROVE, NULL), 0);
	ran(f, "a");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);

	f->has_rules = true;
	f->rules.unattended_deny = true;
	run = created(f, "version: 1\nland: never\nsteps:\n  - {name: a, run: [/usr/bin/push]}\n");
	assert_step(f, &run, "a", JOURNAL_STEP_S_DENIED);
}

static void test_an_approval_waits_for_its_turn_unspent(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, gated);
	const struct journal_approval *item = asked(f, &run, JOURNAL_KIND_STEP_GATE);
	struct journal_id b = started(f, "b");

	assert_int_equal(vote(f, item, APPROVE, NULL), 0);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_APPROVED);
	fake_restart(f, true); /* and over a crash */
	nothing_starts(f);
	ended(f, &b, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
	ran(f, "a");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_one_deny_denies_the_step(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, gated);
	const struct journal_approval *item = asked(f, &run, JOURNAL_KIND_STEP_GATE);

	assert_int_equal(vote(f, item, DENY, NULL), 0);
	assert_step(f, &run, "a", JOURNAL_STEP_S_DENIED);
	ran(f, "b");
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);
	assert_int_equal(status_exit(f->rows, fake_run(f, &run)), EXIT_STATUS_DENIED);
}

static void test_a_vote_is_idempotent_and_a_late_one_hears_the_outcome(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, gated);
	const struct journal_approval *item = asked(f, &run, JOURNAL_KIND_STEP_GATE);
	struct engine_vote other = {.approval = item->id,
				    .decision = APPROVE,
				    .principal = "uid:2",
				    .uid = 2};
	struct error err = {0};

	other.card = fake_blob(f, "another card");
	assert_int_equal(engine_vote(f->e, fake_now(f), &other, &err), -ESTALE);
	assert_int_equal(err.exit_status, EXIT_STATUS_CONFLICT);
	assert_int_equal(vote(f, item, DENY, NULL), 0);
	assert_int_equal(vote(f, item, DENY, NULL), 0); /* said twice: the voter had no answer */
	assert_int_equal(fake_count(f, &run, JOURNAL_VOTE_CAST), 1);
	other.card = item->card;
	err = (struct error){0};
	assert_int_equal(engine_vote(f->e, fake_now(f), &other, &err), -ESTALE);
	assert_non_null(strstr(err.msg, "DENIED"));
}

static void test_an_item_that_nobody_decides_is_a_deny(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run;

	f->has_rules = true;
	f->rules = (struct engine_rules){.quorum = 1,
					 .decide_by_ns = 60 * SECOND,
					 .execute_by_ns = 10 * SECOND};
	run = created(f, gated);
	asked(f, &run, JOURNAL_KIND_STEP_GATE);
	ran(f, "b");
	pass(f, 61 * SECOND);
	assert_step(f, &run, "a", JOURNAL_STEP_S_DENIED);
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);
}

static void test_an_approval_that_is_not_used_in_time_lapses(void **state)
{
	struct fake *f = fake_of(state);
	const struct journal_approval *item;
	struct journal_id run, b;

	f->has_rules = true;
	f->rules = (struct engine_rules){.quorum = 1, .execute_by_ns = 10 * SECOND};
	run = created(f, gated);
	item = asked(f, &run, JOURNAL_KIND_STEP_GATE);
	b = started(f, "b");
	assert_int_equal(vote(f, item, APPROVE, NULL), 0);
	pass(f, 11 * SECOND);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_LAPSED);
	ended(f, &b, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
	nothing_starts(f);
	asked(f, &run, JOURNAL_KIND_STEP_GATE); /* it is asked anew */
}

static void test_quorum_and_excluded_principals(void **state)
{
	struct fake *f = fake_of(state);
	const struct journal_approval *item;
	struct engine_vote v = {.decision = APPROVE, .principal = "uid:5", .uid = 5};
	struct error err = {0};
	struct journal_id run;

	f->has_rules = true;
	f->rules = (struct engine_rules){.quorum = 2, .exclude_starter = true};
	run = created(f, gated);
	item = asked(f, &run, JOURNAL_KIND_STEP_GATE);
	v.approval = item->id;
	v.card = item->card;
	assert_int_equal(vote(f, item, APPROVE, NULL), -EPERM); /* uid 1000 started it */
	assert_int_equal(engine_vote(f->e, fake_now(f), &v, &err), 0);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_OPEN);
	v.reason = "again";
	assert_int_equal(engine_vote(f->e, fake_now(f), &v, &err), 0);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_OPEN);
	v.principal = "uid:6";
	v.uid = 6;
	assert_int_equal(engine_vote(f->e, fake_now(f), &v, &err), 0);
	assert_true(item->state == JOURNAL_APPROVAL_S_APPROVED ||
		    item->state == JOURNAL_APPROVAL_S_CONSUMED);
	fake_flush(f);
}

static void test_nobody_decides_by_rules_that_cannot_be_read(void **state)
{
	struct fake *f = fake_of(state);
	const struct journal_approval *item;
	struct error err = {0};
	struct journal_id run;

	f->has_rules = true;
	f->rules = (struct engine_rules){.quorum = 1, .exclude_starter = true};
	run = created(f, gated);
	item = asked(f, &run, JOURNAL_KIND_STEP_GATE);
	f->rules_error = -ENOENT;
	for (int i = 0; i < 2; i++) {
		struct engine_vote v = {.approval = item->id,
					.card = item->card,
					.decision = i ? APPROVE : JOURNAL_DECISION_DENY,
					.principal = "uid:5",
					.uid = 5};

		assert_int_equal(engine_vote(f->e, fake_now(f), &v, &err), -EIO);
		assert_non_null(strstr(err.msg, "cannot be read"));
		assert_int_equal(item->vote_count, 0);
		assert_int_equal(item->state, JOURNAL_APPROVAL_S_OPEN);
	}
	f->rules_error = 0;
	assert_int_equal(vote(f, item, APPROVE, NULL), -EPERM);
	fake_flush(f);
}

static void test_unattended_deny_asks_nobody(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run;

	f->has_rules = true;
	f->rules = (struct engine_rules){.quorum = 1, .unattended_deny = true};
	run = created(f, gated);
	assert_step(f, &run, "a", JOURNAL_STEP_S_DENIED);
	ran(f, "b");
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);
}

static void test_gate_commit_asks_with_the_layer_in_hand(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run =
		created(f,
			"version: 1\nland: never\nsteps:\n  - {name: a, run: x, gate: commit}\n");
	const struct journal_approval *item;

	ran(f, "a");
	assert_step(f, &run, "a", JOURNAL_STEP_S_GATED_COMMIT);
	item = asked(f, &run, JOURNAL_KIND_STEP_COMMIT);
	assert_true(digest_equal(&item->object, &fake_step(f, &run, "a")->manifest));
	assert_int_equal(vote(f, item, APPROVE, NULL), 0);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_CONSUMED);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

/* Whoever still holds its attempt would never be told, and wait for it for good. */
static void test_a_denied_commit_leaves_nothing_of_its_attempt(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run =
		created(f,
			"version: 1\nland: never\nsteps:\n  - {name: a, run: x, gate: commit}\n");
	const struct journal_attempt *a;
	struct fake_command c;

	ran(f, "a");
	a = &fake_step(f, &run, "a")->attempts[0];
	assert_int_equal(vote(f, asked(f, &run, JOURNAL_KIND_STEP_COMMIT), DENY, NULL), 0);
	assert_step(f, &run, "a", JOURNAL_STEP_S_DENIED);
	assert_true(fake_take(f, ENGINE_REMOVE_LAYER, &c));
	assert_string_equal(c.c.layer, a->layer);
	assert_true(fake_take(f, ENGINE_FORGET_ATTEMPT, &c));
	assert_true(journal_id_equal(&c.c.attempt_id, &a->id));
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);
}

/* ---- landing ---- */

static void test_land_ask_shows_the_plan_and_waits(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE "land: ask\n");
	const struct journal_approval *item;
	struct digest redo;

	ran(f, "a");
	redo = planned(f, &run);
	item = asked(f, &run, JOURNAL_KIND_LANDING);
	assert_true(digest_equal(&item->object, &redo));
	assert_run(f, &run, JOURNAL_RUN_S_WAITING);
	fake_restart(f, true); /* the item is still there, and nothing is asked again */
	assert_int_equal(f->command_count, 0);
	item = fake_open_item(f, &run, JOURNAL_KIND_LANDING);
	assert_int_equal(vote(f, item, APPROVE, NULL), 0);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_CONSUMED);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_LANDING);
	applied(f, &run, false);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_a_denied_landing_is_dropped_and_the_run_succeeds(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE "agency: draft\n"); /* the dial asks */

	ran(f, "a");
	planned(f, &run);
	assert_int_equal(vote(f, asked(f, &run, JOURNAL_KIND_LANDING), DENY, NULL), 0);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_DROPPED);
	assert_int_equal(status_exit(f->rows, fake_run(f, &run)), EXIT_STATUS_DENIED);
}

static void test_observe_has_no_layer_and_lands_nothing(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE "agency: observe\n"), a;
	struct fake_command c;

	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c));
	assert_string_equal(c.c.layer, "");
	a = c.c.attempt_id;
	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_false(fake_take(f, ENGINE_SEAL, &c));
}

static int dial(struct fake *f, const struct journal_id *run, unsigned level)
{
	struct digest context = {{7}};
	struct error err = {0};
	int r = engine_run_agency(f->e, fake_now(f), run, 4711, level, &context, &err);

	fake_flush(f);
	return r;
}

static void test_the_dial_holds_for_what_starts_and_lands_from_then_on(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, TWO), a = started(f, "a");
	struct fake_command c;

	/* What runs keeps its layer; the next attempt has none. */
	assert_int_equal(dial(f, &run, 0), 0);
	assert_int_equal(fake_run(f, &run)->agency, 0);
	assert_int_equal(fake_run(f, &run)->context.b[0], 7);
	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c));
	assert_string_equal(c.c.layer, "");
	fake_restart(f, true);
	assert_int_equal(fake_run(f, &run)->agency, 0);

	/* Raised again: what is landed is asked for at draft. */
	assert_int_equal(dial(f, &run, 1), 0);
	assert_int_equal(engine_land(fake_run(f, &run)), JOURNAL_LAND_ASK);
	assert_int_equal(dial(f, &run, 2), 0);
	assert_int_equal(engine_land(fake_run(f, &run)), JOURNAL_LAND_AUTO);
}

static void test_lowered_to_observe_what_was_asked_lands_no_more(void **state)
{
	for (int before = 0; before < 3; before++) {
		struct fake *f = fake_of(state);
		struct journal_id run = created(f, ONE "land: ask\n");
		const struct journal_approval *item = NULL;
		struct fake_command c;
		struct journal_id id = {0};

		ran(f, "a");
		if (before == 0) { /* still being planned */
			assert_true(fake_take(f, ENGINE_PLAN_LANDING, &c));
		} else {
			planned(f, &run);
		}
		if (before == 2) {
			item = asked(f, &run, JOURNAL_KIND_LANDING);
			id = item->id;
		}
		assert_int_equal(dial(f, &run, 0), 0);
		assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
		assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_UNLANDED);
		assert_null(fake_open_item(f, &run, JOURNAL_KIND_LANDING));
		if (before == 0) {
			struct digest redo = {{9}};

			(void)!engine_landing_planned(f->e, fake_now(f), &run, &redo, NULL, false,
						      NULL);
			fake_flush(f);
			assert_null(fake_open_item(f, &run, JOURNAL_KIND_LANDING));
		}
		if (before == 2) {
			item = journal_state_approval(f->rows, &id);
			assert_true(!item || item->state == JOURNAL_APPROVAL_S_WITHDRAWN);
			assert_true(!item || vote(f, item, APPROVE, NULL) != 0);
		}
		assert_false(fake_take(f, ENGINE_APPLY_LANDING, &c));
		assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_UNLANDED);
		if (before < 2) { /* of the next round */
			assert_int_equal(teardown(state), 0);
			assert_int_equal(setup(state), 0);
		}
	}
}

static void test_the_dial_of_a_run_that_is_over_stays(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER);
	uint64_t records = fake_run(f, &run)->seq;

	assert_int_equal(dial(f, &run, 2), 0); /* where it is already: nothing to record */
	assert_int_equal(fake_run(f, &run)->seq, records);
	assert_int_equal(dial(f, &run, 5), -EINVAL);
	ran(f, "a");
	assert_int_equal(dial(f, &run, 4), -EALREADY);
	assert_int_equal(fake_run(f, &run)->agency, 2);
}

static void test_nothing_to_land_is_no_conflict(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	struct fake_command c;

	ran(f, "a");
	assert_true(fake_take(f, ENGINE_PLAN_LANDING, &c));
	assert_int_equal(engine_landing_planned(f->e, fake_now(f), &run, NULL, NULL, true, NULL),
			 0);
	fake_flush(f);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(status_exit(f->rows, fake_run(f, &run)), EXIT_STATUS_OK);
}

static void conflicted(struct fake *f, const struct journal_id *run, bool undo,
		       const char *const *paths)
{
	struct digest conflicts = fake_conflicts(f, paths);
	struct fake_command c;

	assert_true(fake_take(f, ENGINE_APPLY_LANDING, &c));
	assert_int_equal(engine_landing_done(f->e, fake_now(f), run, undo, NULL, &conflicts, 0,
					     "they changed"),
			 0);
	fake_flush(f);
}

static int vote_path(struct fake *f, const struct journal_approval *a, const char *path,
		     const char *choice)
{
	struct engine_vote v = {.approval = a->id,
				.card = a->card,
				.decision = APPROVE,
				.choice = choice,
				.path = bytes_str(path),
				.principal = "uid:1000",
				.uid = 1000};
	int rc;

	if (strcmp(choice, "file") == 0)
		v.file = fake_blob(f, "my own");
	rc = engine_vote(f->e, fake_now(f), &v, NULL);
	assert_true(fake_flush(f));
	return rc;
}

static void test_a_conflict_is_answered_path_by_path(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	const struct journal_approval *item;
	struct fake_command c;

	ran(f, "a");
	planned(f, &run);
	conflicted(f, &run, false, (const char *const[]){"x", "y", "z", NULL});
	item = asked(f, &run, JOURNAL_KIND_CONFLICT);
	assert_int_equal(fake_run(f, &run)->waits, JOURNAL_WAIT_CONFLICT);
	assert_int_equal(status_exit(f->rows, fake_run(f, &run)), EXIT_STATUS_CONFLICT);
	assert_int_equal(vote_path(f, item, "x", "mine"), 0);
	assert_int_equal(vote_path(f, item, "nope", "mine"), -ENOENT);
	assert_int_equal(vote_path(f, item, "y", "file"), 0);
	assert_int_equal(vote(f, item, APPROVE, "file"), -EINVAL); /* of which path? */
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_OPEN);
	fake_restart(f, true); /* half answered over a crash */
	item = fake_open_item(f, &run, JOURNAL_KIND_CONFLICT);
	assert_int_equal(vote_path(f, item, "z", "theirs"), 0);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_APPROVED);
	assert_true(fake_take(f, ENGINE_PLAN_LANDING, &c));
	assert_true(journal_id_equal(&c.c.answers, &item->id));
	assert_int_equal(item->vote_count, 3);
	assert_true(bytes_equal(item->votes[1].path, bytes_str("y")));
	assert_false(digest_is_zero(&item->votes[1].file));
	f->commands[f->command_count++] = c;
	planned(f, &run);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_CONSUMED);
	applied(f, &run, false);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_a_file_needs_no_path_where_there_is_one(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	const struct journal_approval *item;

	ran(f, "a");
	planned(f, &run);
	conflicted(f, &run, false, (const char *const[]){"x", NULL});
	item = asked(f, &run, JOURNAL_KIND_CONFLICT);
	assert_int_equal(vote_path(f, item, "", "file"), 0);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_APPROVED);
	assert_true(bytes_equal(item->votes[0].path, bytes_str("x")));
	assert_int_equal(vote_path(f, item, "", "file"), 0); /* said again */
	assert_int_equal(item->vote_count, 1);
}

static void test_a_directory_that_changes_again_asks_again(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	const struct journal_approval *item;
	struct digest other = fake_conflicts(f, (const char *const[]){"y", NULL});
	struct fake_command c;

	ran(f, "a");
	planned(f, &run);
	conflicted(f, &run, false, (const char *const[]){"x", NULL});
	item = asked(f, &run, JOURNAL_KIND_CONFLICT);
	assert_int_equal(vote(f, item, APPROVE, "theirs"), 0);
	assert_true(fake_take(f, ENGINE_PLAN_LANDING, &c));
	assert_int_equal(engine_landing_planned(f->e, fake_now(f), &run, NULL, &other, false, NULL),
			 0);
	fake_flush(f);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_LAPSED);
	item = asked(f, &run, JOURNAL_KIND_CONFLICT);
	assert_int_equal(vote(f, item, DENY, NULL), 0);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_DROPPED);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_lowered_to_observe_a_conflict_is_dropped(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);

	ran(f, "a");
	planned(f, &run);
	conflicted(f, &run, false, (const char *const[]){"x", NULL});
	(void)asked(f, &run, JOURNAL_KIND_CONFLICT);
	assert_int_equal(dial(f, &run, 0), 0);
	assert_null(fake_open_item(f, &run, JOURNAL_KIND_CONFLICT));
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_DROPPED);
}

static void test_conflicts_met_while_planning_touch_nothing(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	struct digest conflicts = fake_conflicts(f, (const char *const[]){"x", NULL});
	struct fake_command c;

	ran(f, "a");
	assert_true(fake_take(f, ENGINE_PLAN_LANDING, &c));
	assert_int_equal(engine_landing_planned(f->e, fake_now(f), &run, NULL, &conflicts, false,
						NULL),
			 0);
	fake_flush(f);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_CONFLICT);
	assert_int_equal(fake_count(f, &run, JOURNAL_LANDING_STARTED), 0);
	asked(f, &run, JOURNAL_KIND_CONFLICT);
}

static void test_undo_takes_back_what_landed(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	const struct journal_approval *item;
	struct error err = {0};
	struct digest reverse = fake_blob(f, "reverse");
	struct fake_command c;

	assert_int_equal(engine_run_undo(f->e, fake_now(f), &run, 1000, &err), -EALREADY);
	ran(f, "a");
	planned(f, &run);
	applied(f, &run, false);
	assert_int_equal(engine_run_undo(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	fake_restart(f, true); /* in the middle of it */
	assert_int_equal(f->command_count, 1);
	conflicted(f, &run, true, (const char *const[]){"x", NULL});
	item = asked(f, &run, JOURNAL_KIND_CONFLICT);
	assert_int_equal(vote(f, item, APPROVE, "theirs"), 0);
	assert_true(fake_take(f, ENGINE_PLAN_LANDING, &c));
	assert_true(c.c.undo);
	assert_int_equal(engine_landing_planned(f->e, fake_now(f), &run, &reverse, NULL, false,
						NULL),
			 0);
	fake_flush(f);
	assert_true(digest_equal(&fake_run(f, &run)->redo, &reverse));
	applied(f, &run, true);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_UNDONE);
}

static void test_an_undoing_that_is_dropped_leaves_it_landed(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	struct error err = {0};

	ran(f, "a");
	planned(f, &run);
	applied(f, &run, false);
	assert_int_equal(engine_run_undo(f->e, fake_now(f), &run, 1000, &err), 0);
	conflicted(f, &run, true, (const char *const[]){"x", NULL});
	assert_int_equal(vote(f, asked(f, &run, JOURNAL_KIND_CONFLICT), DENY, NULL), 0);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_LANDED);
}

static void test_land_is_told_that_the_landing_waits_for_an_answer(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	struct error err = {0};

	ran(f, "a");
	planned(f, &run);
	conflicted(f, &run, false, (const char *const[]){"x", NULL});
	(void)asked(f, &run, JOURNAL_KIND_CONFLICT);
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "waits for a person's answer"));
}

static void test_a_failed_run_may_land_what_it_committed(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, TWO);
	struct error err = {0};

	ran(f, "a");
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), -EBUSY);
	failed(f, "b", JOURNAL_ATTEMPT_S_EXITED, 1);
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	planned(f, &run);
	fake_restart(f, true);
	applied(f, &run, false);
	assert_run(f, &run, JOURNAL_RUN_S_FAILED);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_LANDED);
}

/* What a person was told is under way is on disk: whoever started the next supervisor, it goes on. */
static void test_a_landing_that_was_asked_for_outlives_the_supervisor(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER);
	struct error err = {0};
	struct fake_command c;

	ran(f, "a");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), 0);
	assert_true(fake_flush(f));
	assert_true(journal_type_synced(JOURNAL_LANDING_WANTED));
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), 0);
	assert_int_equal(fake_count(f, &run, JOURNAL_LANDING_WANTED), 1);
	assert_true(fake_take(f, ENGINE_PLAN_LANDING, &c));
	fake_restart(f, false);
	assert_false(engine_run_named(f->e, &run));
	planned(f, &run);
	assert_false(fake_run(f, &run)->landing_wanted);
	applied(f, &run, false);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_LANDED);
}

static void test_a_landing_that_waits_for_the_workspace_outlives_the_supervisor(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER), other, a;
	struct error err = {0};
	struct fake_command c;

	ran(f, "a");
	other = created(f, ONE);
	a = started(f, "a");
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), 0);
	assert_true(fake_flush(f));
	planned(f, &run);
	assert_false(fake_take(f, ENGINE_APPLY_LANDING, &c));
	fake_restart(f, true);
	planned(f, &run);
	assert_false(fake_take(f, ENGINE_APPLY_LANDING, &c));
	assert_true(fake_run(f, &run)->landing_wanted);
	assert_int_equal(engine_run_cancel(f->e, fake_now(f), &other, 1000, true, &err), 0);
	ended(f, &a, JOURNAL_ATTEMPT_S_KILLED, 9);
	applied(f, &run, false);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_LANDED);
}

static void test_a_landing_that_is_stuck_pauses_and_goes_on(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	struct error err = {0};
	struct fake_command c;

	ran(f, "a");
	planned(f, &run);
	assert_true(fake_take(f, ENGINE_APPLY_LANDING, &c));
	assert_int_equal(engine_landing_done(f->e, fake_now(f), &run, false, NULL, NULL, 0,
					     "I/O error"),
			 0);
	fake_flush(f);
	assert_run(f, &run, JOURNAL_RUN_S_PAUSED);
	assert_int_equal(engine_run_resume(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	applied(f, &run, false);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void apply_fails(struct fake *f, const struct journal_id *run, bool undo, const char *why)
{
	struct fake_command c;

	assert_true(fake_take(f, ENGINE_APPLY_LANDING, &c));
	assert_int_equal(engine_landing_done(f->e, fake_now(f), run, undo, NULL, NULL, 0, why), 0);
	assert_true(fake_flush(f));
}

static void test_what_holds_a_landing_up_is_recorded_and_land_tries_again(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	struct error err = {0};
	struct fake_command c;

	ran(f, "a");
	planned(f, &run);
	apply_fails(f, &run, false, "I/O error");
	assert_int_equal(fake_count(f, &run, JOURNAL_LANDING_FAILED), 1);
	assert_string_equal(engine_land_stuck(f->e, &run), "I/O error");
	assert_int_equal(status_exit(f->rows, fake_run(f, &run)), EXIT_STATUS_SANDBOX);
	/* A supervisor that a reader started: half of it may stand, so it is tried. */
	fake_restart(f, false);
	assert_null(engine_land_stuck(f->e, &run));
	apply_fails(f, &run, false, "I/O error");
	assert_int_equal(fake_count(f, &run, JOURNAL_LANDING_FAILED), 1); /* nothing new */
	assert_string_equal(engine_land_stuck(f->e, &run), "I/O error");
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), 0);
	assert_true(fake_flush(f));
	assert_null(engine_land_stuck(f->e, &run));
	apply_fails(f, &run, false, "I/O error");
	assert_int_equal(fake_count(f, &run, JOURNAL_LANDING_FAILED), 2); /* a person said so */
	assert_run(f, &run, JOURNAL_RUN_S_PAUSED);
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), 0);
	assert_true(fake_flush(f));
	applied(f, &run, false);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_null(engine_land_stuck(f->e, &run));
	assert_false(fake_take(f, ENGINE_APPLY_LANDING, &c));
}

static void test_a_failed_landing_that_a_restart_completes_pauses_no_more(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);

	ran(f, "a");
	planned(f, &run);
	apply_fails(f, &run, false, "I/O error");
	assert_run(f, &run, JOURNAL_RUN_S_PAUSED);
	fake_restart(f, false);
	applied(f, &run, false);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_a_plan_that_cannot_be_made_is_recorded(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER);
	struct error err = {0};
	struct fake_command c;

	ran(f, "a");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), 0);
	assert_true(fake_flush(f));
	assert_true(fake_take(f, ENGINE_PLAN_LANDING, &c));
	assert_int_equal(engine_landing_planned(f->e, fake_now(f), &run, NULL, NULL, false, "no"),
			 0);
	assert_true(fake_flush(f));
	assert_string_equal(engine_land_stuck(f->e, &run), "no");
	fake_restart(f, true);
	assert_string_equal(engine_land_stuck(f->e, &run), "no");
	assert_false(fake_take(f, ENGINE_PLAN_LANDING, &c));
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), 0);
	assert_true(fake_flush(f));
	planned(f, &run);
	applied(f, &run, false);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_LANDED);
}

static void test_cancel_frees_a_run_whose_landing_failed(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	struct error err = {0};
	struct fake_command c;

	ran(f, "a");
	planned(f, &run);
	apply_fails(f, &run, false, "I/O error");
	assert_true(journal_state_lease(f->rows, 1, 2)->held);
	assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, true, &err), 0);
	assert_true(fake_flush(f));
	assert_run(f, &run, JOURNAL_RUN_S_CANCELLED);
	assert_false(journal_state_lease(f->rows, 1, 2)->held);
	fake_restart(f, true);
	assert_false(fake_take(f, ENGINE_APPLY_LANDING, &c)); /* it was given up */
	assert_string_equal(engine_land_stuck(f->e, &run), "I/O error");
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), 0);
	assert_true(fake_flush(f));
	assert_true(journal_state_lease(f->rows, 1, 2)->held);
	fake_restart(f, true); /* in the middle: it goes on */
	applied(f, &run, false);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_LANDED);
	assert_false(journal_state_lease(f->rows, 1, 2)->held);
}

static void test_cancel_frees_the_workspace_of_an_undoing_that_failed(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE), other;
	struct error err = {0};

	ran(f, "a");
	planned(f, &run);
	applied(f, &run, false);
	assert_int_equal(engine_run_undo(f->e, fake_now(f), &run, 1000, &err), 0);
	assert_true(fake_flush(f));
	apply_fails(f, &run, true, "I/O error");
	assert_true(journal_state_lease(f->rows, 1, 2)->held);
	assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, true, &err), 0);
	assert_true(fake_flush(f));
	assert_false(journal_state_lease(f->rows, 1, 2)->held);
	assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, true, &err), -EALREADY);
	other = created(f, ONE);
	started(f, "a");
	assert_int_equal(engine_run_undo(f->e, fake_now(f), &run, 1000, &err), -EBUSY);
	assert_run(f, &other, JOURNAL_RUN_S_RUNNING);
	assert_string_equal(engine_land_stuck(f->e, &run), "I/O error");
}

static void plan_fails(struct fake *f, const struct journal_id *run, const char *why)
{
	struct fake_command c;

	assert_true(fake_take(f, ENGINE_PLAN_LANDING, &c));
	assert_int_equal(engine_landing_planned(f->e, fake_now(f), run, NULL, NULL, false, why), 0);
	assert_true(fake_flush(f));
}

static void test_cancel_gives_up_a_landing_that_failed_and_touched_nothing(void **state)
{
	for (int restarted = 0; restarted < 2; restarted++) {
		struct fake *f = fake_of(state);
		struct journal_id run = created(f, ONE);
		struct error err = {0};

		ran(f, "a");
		plan_fails(f, &run, "I/O error");
		assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, true, &err), 0);
		assert_true(fake_flush(f));
		assert_run(f, &run, JOURNAL_RUN_S_CANCELLED);
		assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), 0);
		plan_fails(f, &run, "I/O error"); /* of a run that is over */
		assert_int_equal(engine_run_resume(f->e, fake_now(f), &run, 1000, &err), 0);
		assert_string_equal(engine_land_stuck(f->e, &run), "I/O error");
		assert_false(journal_run_settled(fake_run(f, &run)));
		if (restarted)
			fake_restart(f, true);
		assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, true, &err), 0);
		assert_true(fake_flush(f));
		assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_DROPPED);
		assert_true(journal_run_settled(fake_run(f, &run)));
		assert_null(engine_land_stuck(f->e, &run));
		assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, true, &err),
				 -EALREADY);
		assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), -EALREADY);
	}
}

static void test_cancel_gives_up_an_undoing_whose_answer_cannot_be_planned(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	const struct journal_approval *item;
	struct error err = {0};

	ran(f, "a");
	planned(f, &run);
	applied(f, &run, false);
	assert_int_equal(engine_run_undo(f->e, fake_now(f), &run, 1000, &err), 0);
	conflicted(f, &run, true, (const char *const[]){"x", NULL});
	item = asked(f, &run, JOURNAL_KIND_CONFLICT);
	assert_int_equal(vote(f, item, APPROVE, "theirs"), 0);
	plan_fails(f, &run, "I/O error");
	assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, true, &err), 0);
	assert_true(fake_flush(f));
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_REVOKED);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_LANDED);
	assert_true(journal_run_settled(fake_run(f, &run)));
	assert_false(journal_state_lease(f->rows, 1, 2)->held);
	assert_int_equal(engine_run_undo(f->e, fake_now(f), &run, 1000, &err), 0);
}

static void test_a_run_whose_conflict_cancel_dropped_has_nothing_to_give_up(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	const struct journal_approval *item;
	struct error err = {0};

	ran(f, "a");
	planned(f, &run);
	conflicted(f, &run, false, (const char *const[]){"x", NULL});
	item = asked(f, &run, JOURNAL_KIND_CONFLICT);
	assert_int_equal(vote(f, item, APPROVE, "theirs"), 0);
	plan_fails(f, &run, "I/O error");
	assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, true, &err), 0);
	assert_true(fake_flush(f));
	assert_run(f, &run, JOURNAL_RUN_S_CANCELLED);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_DROPPED);
	assert_false(engine_holds(f->e, &run));
	assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, true, &err), -EALREADY);
}

typedef int word_fn(struct engine *e, struct engine_now now, const struct journal_id *run,
		    uint32_t uid, struct error *err);

static int cancel(struct engine *e, struct engine_now now, const struct journal_id *run,
		  uint32_t uid, struct error *err)
{
	return engine_run_cancel(e, now, run, uid, true, err);
}

static int turn_dial(struct engine *e, struct engine_now now, const struct journal_id *run,
		     uint32_t uid, struct error *err)
{
	struct digest context = {{1}};

	return engine_run_agency(e, now, run, uid, 0, &context, err);
}

static void test_what_is_said_to_a_settled_run_holds_none_of_its_rows(void **state)
{
	static word_fn *const words[] = {cancel,	  turn_dial,	   engine_run_pause,
					 engine_run_land, engine_run_undo, engine_run_end,
					 engine_run_resume};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		struct fake *f = fake_of(state);
		struct journal_id run = created(f, ONE);
		struct error err = {0};

		ran(f, "a");
		planned(f, &run);
		applied(f, &run, false);
		if (words[i] == engine_run_undo) {
			assert_int_equal(words[i](f->e, fake_now(f), &run, 1000, &err), 0);
			applied(f, &run, true);
		}
		assert_false(engine_holds(f->e, &run));
		if (words[i](f->e, fake_now(f), &run, 1000, &err) < 0)
			assert_int_not_equal(err.msg[0], '\0');
		engine_forget_settled(f->e);
		assert_false(engine_holds(f->e, &run));
	}
}

static void test_a_landing_that_is_planned_after_the_end_holds_its_rows(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER);
	struct error err = {0};

	ran(f, "a");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_false(engine_holds(f->e, &run));
	assert_int_equal(engine_run_land(f->e, fake_now(f), &run, 1000, &err), 0);
	engine_forget_settled(f->e);
	assert_true(engine_holds(f->e, &run));
	assert_false(journal_run_settled(fake_run(f, &run)));
	planned(f, &run);
	applied(f, &run, false);
	assert_false(engine_holds(f->e, &run));
}

static void test_cancel_lets_a_landing_that_began_come_to_its_end(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);
	struct error err = {0};

	ran(f, "a");
	planned(f, &run);
	assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, true, &err), 0);
	assert_true(fake_flush(f));
	assert_run(f, &run, JOURNAL_RUN_S_CANCELLING);
	applied(f, &run, false);
	assert_run(f, &run, JOURNAL_RUN_S_CANCELLED);
	assert_int_equal(fake_run(f, &run)->landing, JOURNAL_LANDING_S_LANDED);
}

static void test_a_landing_whose_card_cannot_be_made_holds_up_no_collecting(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE "land: ask\n");
	struct error err = {0};
	struct fake_command c;

	ran(f, "a");
	planned(f, &run);
	assert_true(fake_take(f, ENGINE_CARD, &c));
	assert_false(engine_forget_plans(f->e)); /* no record names the plan yet */
	assert_int_equal(engine_card_failed(f->e, fake_now(f), &run, JOURNAL_KIND_LANDING,
					    &c.c.action, "no space"),
			 0);
	assert_true(fake_flush(f));
	assert_true(engine_forget_plans(f->e));
	assert_false(engine_busy(f->e));
	assert_run(f, &run, JOURNAL_RUN_S_PAUSED);
	assert_string_equal(engine_land_stuck(f->e, &run), "no space");
	assert_int_equal(engine_run_resume(f->e, fake_now(f), &run, 1000, &err), 0);
	assert_true(fake_flush(f));
	planned(f, &run);
	asked(f, &run, JOURNAL_KIND_LANDING);
	assert_null(engine_land_stuck(f->e, &run));
}

static void test_two_runs_of_one_workspace_take_turns(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id one = created(f, ONE), two = created(f, ONE);
	const struct journal_lease *l;

	assert_run(f, &two, JOURNAL_RUN_S_WAITING);
	assert_int_equal(fake_run(f, &two)->waits, JOURNAL_WAIT_LEASE);
	ran(f, "a");
	nothing_starts(f); /* it lands first */
	planned(f, &one);
	applied(f, &one, false);
	l = journal_state_lease(f->rows, 1, 2);
	assert_true(l->held && journal_id_equal(&l->holder, &two) && l->generation == 2);
	ran(f, "a");
	planned(f, &two);
	applied(f, &two, false);
	assert_false(journal_state_lease(f->rows, 1, 2)->held);
}

static void test_runs_that_do_not_land_need_no_turn(void **state)
{
	struct fake *f = fake_of(state);

	created(f, ONE NEVER);
	created(f, ONE NEVER);
	started(f, "a");
	started(f, "a");
}

/* ---- crashes ---- */

static void test_a_living_attempt_is_adopted_untouched(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER), a = started(f, "a");

	fake_restart(f, true);
	nothing_starts(f);
	assert_int_equal(fake_count(f, &run, JOURNAL_ATTEMPT_ADOPTED), 1);
	assert_int_equal(fake_step(f, &run, "a")->attempts[0].epoch, 2);
	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(fake_step(f, &run, "a")->attempt_count, 1);
}

static void test_an_attempt_that_ended_meanwhile_is_settled(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER), a = started(f, "a");
	struct fake_attempt *k = fake_attempt(f, &a);

	k->live = false;
	k->ended = true;
	k->end.state = JOURNAL_ATTEMPT_S_EXITED;
	fake_restart(f, true);
	sealed(f);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(fake_step(f, &run, "a")->attempt_count, 1);
}

static void test_a_reboot_loses_the_attempt_and_runs_it_again(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, TWO NEVER), a;

	ran(f, "a");
	a = started(f, "b");
	fake_power_cut(f, 9, true);
	assert_int_equal(fake_step(f, &run, "b")->attempts[0].state, JOURNAL_ATTEMPT_S_LOST);
	assert_int_equal(engine_attempt_live(f->e, fake_now(f), &a),
			 -ESTALE); /* a report of what is over */
	ran(f, "b");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(fake_count(f, &run, JOURNAL_STEP_COMMITTED), 2);
}

static void test_sealing_goes_on_in_the_same_boot_only(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER), a = started(f, "a");
	struct fake_command c;

	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	fake_restart(f, true);
	assert_true(fake_take(f, ENGINE_SEAL, &c));
	fake_power_cut(f, 9, true);
	assert_int_equal(fake_step(f, &run, "a")->attempts[0].state, JOURNAL_ATTEMPT_S_LOST);
	ran(f, "a");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_a_landing_is_done_again_after_a_crash(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE);

	ran(f, "a");
	planned(f, &run);
	fake_power_cut(f, 9, true);
	applied(f, &run, false);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_timers_due_meanwhile_fire_once(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(
		f, "version: 1\nland: never\nsteps:\n  - {name: a, run: x, retry: {max: 3}}\n");

	failed(f, "a", JOURNAL_ATTEMPT_S_EXITED, 1);
	fake_restart(f, true);
	nothing_starts(f);
	f->wall_ns += 100 * SECOND;
	pass(f, 0);
	pass(f, 0);
	assert_int_equal(fake_count(f, &run, JOURNAL_TIMER_FIRED), 1);
	ran(f, "a");
}

static void test_an_embedded_supervisor_starts_nothing_unnamed(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE NEVER);
	struct error err = {0};

	started(f, "a");
	f->attempt_count = 0; /* the keeper went with it */
	fake_restart(f, false);
	assert_int_equal(fake_step(f, &run, "a")->attempts[0].state, JOURNAL_ATTEMPT_S_LOST);
	nothing_starts(f);
	assert_false(engine_run_named(f->e, &run));
	assert_int_equal(engine_run_resume(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	ran(f, "a");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

/* Each kind of question stands in the queue before anybody names the run; nothing else happens. */
static void test_an_embedded_supervisor_asks_what_is_to_be_asked(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, "version: 1\nland: ask\nsteps:\n  - {name: a, run: x}\n"
					   "  - {name: b, run: y, needs: [a], gate: ask}\n"),
			  a = started(f, "a");
	const struct journal_approval *item;

	fake_restart(f, false); /* adopts a */
	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
	item = asked(f, &run, JOURNAL_KIND_STEP_GATE); /* of a step that was not declared yet */
	nothing_starts(f);
	assert_false(engine_run_named(f->e, &run));
	assert_int_equal(vote(f, item, APPROVE, NULL), 0);
	a = started(f, "b");
	fake_restart(f, false);
	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
	planned(f, &run); /* only reads */
	item = asked(f, &run, JOURNAL_KIND_LANDING);
	assert_false(engine_run_named(f->e, &run));
	assert_int_equal(vote(f, item, APPROVE, NULL), 0);
	applied(f, &run, false);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_an_embedded_supervisor_lands_nothing_unnamed(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, ONE), a = started(f, "a");
	struct fake_command c;
	struct error err = {0};

	fake_restart(f, false);
	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
	assert_false(fake_take(f, ENGINE_PLAN_LANDING, &c));
	assert_int_equal(engine_run_resume(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	planned(f, &run);
	applied(f, &run, false);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_three_starts_without_progress_pause_the_run(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, TWO NEVER), a;
	struct error err = {0};
	int i;

	a = started(f, "a");
	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0); /* sealing it kills the supervisor each time */
	for (i = 0; i < 3; i++)
		fake_restart(f, true);
	assert_run(f, &run, JOURNAL_RUN_S_PAUSED);
	assert_int_equal(engine_run_resume(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	sealed(f);
	ran(f, "b");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

/* ---- cancel, pause ---- */

static void test_cancel_kills_withdraws_and_ends(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, gated), b;
	const struct journal_approval *item = asked(f, &run, JOURNAL_KIND_STEP_GATE);
	struct error err = {0};
	struct fake_command c;

	b = started(f, "b");
	assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, false, &err), 0);
	fake_flush(f);
	assert_run(f, &run, JOURNAL_RUN_S_CANCELLING);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_WITHDRAWN);
	assert_true(fake_take(f, ENGINE_KILL_ATTEMPT, &c));
	fake_restart(f, true); /* it goes on cancelling */
	assert_true(fake_take(f, ENGINE_KILL_ATTEMPT, &c));
	ended(f, &b, JOURNAL_ATTEMPT_S_KILLED, 0);
	assert_run(f, &run, JOURNAL_RUN_S_CANCELLED);
	assert_step(f, &run, "b", JOURNAL_STEP_S_CANCELLED);
	assert_int_equal(engine_run_cancel(f->e, fake_now(f), &run, 1000, false, &err), -EALREADY);
}

static void test_pause_starts_nothing_and_records_what_ends(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, TWO NEVER), a = started(f, "a");
	struct error err = {0};

	assert_int_equal(engine_run_pause(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
	assert_step(f, &run, "a", JOURNAL_STEP_S_COMMITTED);
	nothing_starts(f);
	assert_int_equal(engine_run_resume(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	ran(f, "b");
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static void test_a_hold_and_a_full_house_wait(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id a;

	f->limits.live_attempts_max = 1;
	fake_restart(f, true);
	created(f, ONE NEVER);
	created(f, ONE NEVER);
	a = started(f, "a");
	nothing_starts(f);
	engine_hold(f->e, fake_now(f), true);
	ended(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	sealed(f);
	nothing_starts(f);
	engine_hold(f->e, fake_now(f), false);
	fake_flush(f);
	ran(f, "a");
}

/* ---- outside drivers, divergence, forks ---- */

static struct plan_step spec_of(const char *name, const char *arg)
{
	static char *argv[3];
	struct plan_step s = {.name = (char *)name, .argv = argv};

	plan_step_defaults(&s);
	argv[0] = (char *)"run";
	argv[1] = (char *)arg;
	argv[2] = NULL;
	return s;
}

static struct journal_id driver_run(struct fake *f)
{
	struct engine_run_request q = {.uid = 1000,
				       .agency = 2,
				       .land = JOURNAL_LAND_NEVER,
				       .ws_ino = 1};
	struct plan p = {.base = -1,
			 .agency = -1,
			 .land = JOURNAL_LAND_NEVER,
			 .outside_driver = true};
	AUTO_BUFFER b = {0};
	AUTO_FREE char *text = NULL;
	struct journal_id id;
	struct error err = {0};

	assert_int_equal(plan_encode(&p, &b), 0);
	text = bytes_dup_str(buffer_bytes(&b));
	q.plan_blob = fake_blob_bytes(f, buffer_bytes(&b));
	q.policy_blob = fake_blob(f, "policy");
	q.environ_blob = fake_blob(f, "environ");
	q.id.b[0] = 77;
	assert_int_equal(engine_run_create(f->e, fake_now(f), &q, &id, &err), 0);
	fake_flush(f);
	return id;
}

static int declare(struct fake *f, const struct journal_id *run, const char *name, const char *arg,
		   bool *reused)
{
	struct plan_step s = spec_of(name, arg);
	struct error err = {0};
	uint32_t step;
	int rc = engine_step_declare(f->e, fake_now(f), run, 1000, &s, &step, reused, &err);

	assert_true(fake_flush(f));
	return rc;
}

static void test_a_committed_step_is_reused(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = driver_run(f);
	struct error err = {0};
	bool reused = true;

	assert_int_equal(declare(f, &run, "a", "1", &reused), 0);
	assert_false(reused);
	ran(f, "a");
	assert_int_equal(declare(f, &run, "b", "1", &reused), 0);
	ran(f, "b"); /* the stack is another now: that is not the driver's doing */
	fake_restart(f, true);
	assert_int_equal(declare(f, &run, "a", "1", &reused), 0);
	assert_true(reused);
	nothing_starts(f);
	assert_int_equal(engine_run_end(f->e, fake_now(f), &run, 1000, &err), 0);
	fake_flush(f);
	assert_run(f, &run, JOURNAL_RUN_S_SUCCEEDED);
}

static int count_field(const char *field, struct bytes before, struct bytes after, void *arg)
{
	assert_string_equal(field, "run");
	assert_true(before.len && after.len && !bytes_equal(before, after));
	++*(int *)arg;
	return 0;
}

static void test_a_diverged_step_waits_for_a_person(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = driver_run(f);
	const struct journal_approval *item;
	AUTO_BUFFER b = {0};
	bool reused;
	int fields = 0;

	declare(f, &run, "a", "1", &reused);
	ran(f, "a");
	assert_int_equal(declare(f, &run, "a", "2", &reused), -EINPROGRESS);
	item = asked(f, &run, JOURNAL_KIND_DIVERGED);
	fake_blob_get(f, &item->object, &b);
	golden_check("supervisor/step-difference.run.cbor", buffer_bytes(&b));
	assert_int_equal(engine_difference(buffer_bytes(&b), count_field, &fields), 0);
	assert_int_equal(fields, 1);
	assert_int_equal(fake_run(f, &run)->waits, JOURNAL_WAIT_DIVERGED);
	assert_int_equal(declare(f, &run, "a", "2", &reused), -EINPROGRESS); /* the same item */
	assert_int_equal(declare(f, &run, "b", "1", &reused), 0);
	nothing_starts(f);
	assert_int_equal(vote(f, item, APPROVE, "accept"), 0);
	assert_true(digest_is_zero(&fake_step(f, &run, "a")->diverged));
	ran(f, "b");
	assert_int_equal(fake_step(f, &run, "a")->attempt_count, 1);
}

/* However often, and by whichever supervisor, it is asked; another one is another question. */
static void test_an_accepted_input_is_the_steps_from_then_on(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = driver_run(f);
	bool reused = false;

	declare(f, &run, "a", "1", &reused);
	ran(f, "a");
	assert_int_equal(declare(f, &run, "a", "2", &reused), -EINPROGRESS);
	assert_int_equal(vote(f, asked(f, &run, JOURNAL_KIND_DIVERGED), APPROVE, "accept"), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(declare(f, &run, "a", "2", &reused), 0);
		assert_true(reused);
		assert_int_equal(declare(f, &run, "a", "1", &reused), 0);
		assert_true(reused);
		assert_null(fake_open_item(f, &run, JOURNAL_KIND_DIVERGED));
		fake_restart(f, true);
	}
	nothing_starts(f);
	assert_int_equal(declare(f, &run, "a", "3", &reused), -EINPROGRESS);
	assert_int_equal(vote(f, asked(f, &run, JOURNAL_KIND_DIVERGED), APPROVE, "accept"), 0);
	assert_int_equal(declare(f, &run, "a", "3", &reused), 0);
	assert_int_equal(declare(f, &run, "a", "2", &reused), 0);
	assert_true(reused);
}

static void test_an_accepted_input_is_taken_where_nothing_ran_yet(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = driver_run(f);
	const struct journal_step *s;
	bool reused = false;

	declare(f, &run, "a", "1", &reused);
	started(f, "a");
	declare(f, &run, "b", "1", &reused); /* one at a time: it has no attempt yet */
	assert_int_equal(declare(f, &run, "b", "2", &reused), -EINPROGRESS);
	assert_int_equal(vote(f, asked(f, &run, JOURNAL_KIND_DIVERGED), APPROVE, "accept"), 0);
	s = fake_step(f, &run, "b");
	assert_int_equal(s->attempt_count, 0);
	assert_int_equal(declare(f, &run, "b", "2", &reused), 0);
	assert_false(reused);
	assert_true(digest_is_zero(&s->diverged));
	assert_int_equal(declare(f, &run, "b", "1", &reused), -EINPROGRESS);
}

static int name_field(const char *field, struct bytes before, struct bytes after, void *arg)
{
	struct buffer *out = arg;

	(void)before;
	(void)after;
	return buffer_printf(out, "%s;", field);
}

static void test_a_changed_program_is_another_input(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = driver_run(f);
	const struct journal_approval *item;
	AUTO_BUFFER b = {0}, fields = {0};
	bool reused;

	/* Declared before programs were told of: they are not compared. */
	declare(f, &run, "old", "1", &reused);
	ran(f, "old");
	f->program = 1;
	fake_restart(f, true);
	assert_int_equal(declare(f, &run, "old", "1", &reused), 0);
	assert_true(reused);

	declare(f, &run, "a", "1", &reused);
	ran(f, "a");
	fake_blob_get(f, &fake_step(f, &run, "a")->input, &b);
	golden_check("supervisor/step-input.program.cbor", buffer_bytes(&b));
	assert_int_equal(declare(f, &run, "a", "1", &reused), 0);
	assert_true(reused);
	f->program = 2;
	assert_int_equal(declare(f, &run, "a", "1", &reused), -EINPROGRESS);
	item = asked(f, &run, JOURNAL_KIND_DIVERGED);
	b.len = 0;
	fake_blob_get(f, &item->object, &b);
	assert_int_equal(engine_difference(buffer_bytes(&b), name_field, &fields), 0);
	assert_string_equal((const char *)fields.data, "program;");
	f->program = UINT8_MAX; /* gone: another difference, and the item shows that one */
	assert_int_equal(declare(f, &run, "a", "1", &reused), -EINPROGRESS);
	assert_int_not_equal(item->state, JOURNAL_APPROVAL_S_OPEN);
	f->program = 1;
	assert_int_equal(declare(f, &run, "a", "1", &reused), 0);
}

static void test_a_diverged_step_may_fail_or_fork_the_run(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run = driver_run(f), id = {0};
	const struct journal_approval *item;
	bool reused;

	declare(f, &run, "a", "1", &reused);
	ran(f, "a");
	declare(f, &run, "b", "1", &reused);
	ran(f, "b");
	assert_int_equal(declare(f, &run, "b", "2", &reused), -EINPROGRESS);
	item = asked(f, &run, JOURNAL_KIND_DIVERGED);
	assert_int_equal(vote(f, item, APPROVE, "fork"), 0);
	assert_run(f, &run, JOURNAL_RUN_S_CANCELLED);
	assert_int_equal(journal_id_parse(bytes_str(strrchr(fake_run(f, &run)->why, ' ') + 1), &id),
			 0);
	assert_step(f, &id, "a", JOURNAL_STEP_S_COMMITTED);
	assert_string_equal(fake_step(f, &id, "a")->layer, fake_step(f, &run, "a")->layer);
	assert_null(fake_step(f, &id, "b"));
	nothing_starts(f);
	assert_int_equal(declare(f, &id, "a", "1", &reused), 0);
	assert_true(reused);
	assert_int_equal(declare(f, &id, "b", "2", &reused), 0);
	ran(f, "b");
	assert_int_equal(declare(f, &id, "b", "3", &reused), -EINPROGRESS);
	item = asked(f, &id, JOURNAL_KIND_DIVERGED);
	assert_int_equal(vote(f, item, DENY, NULL), 0);
	assert_run(f, &id, JOURNAL_RUN_S_FAILED);
}

static void test_a_fork_of_a_plan_goes_on_from_its_step(void **state)
{
	static const char plan[] = TWO "  - {name: c, run: x, needs: [b]}\n" NEVER;
	struct fake *f = fake_of(state);
	struct journal_id run = created(f, plan);
	struct engine_run_request q = {.uid = 1000, .parent = run, .fork_at = "b"};

	ran(f, "a");
	ran(f, "b");
	ran(f, "c");
	fake_create(f, plan, &q);
	fake_flush(f);
	assert_step(f, &q.id, "a", JOURNAL_STEP_S_COMMITTED);
	assert_null(fake_step(f, &q.id, "c")); /* it came after */
	ran(f, "b");
	ran(f, "c");
	assert_run(f, &q.id, JOURNAL_RUN_S_SUCCEEDED);
	assert_int_equal(fake_count(f, &q.id, JOURNAL_STEP_COMMITTED), 3);
}

/* ---- who votes ---- */

static void test_a_vote_at_the_instant_of_the_deadline_is_late(void **state)
{
	struct fake *f = fake_of(state);
	const struct journal_approval *item;
	struct journal_id run;
	int64_t by;

	f->has_rules = true;
	f->rules = (struct engine_rules){.quorum = 1, .decide_by_ns = 60 * SECOND};
	run = created(f, gated);
	item = asked(f, &run, JOURNAL_KIND_STEP_GATE);
	by = item->decide_by_ns;
	f->wall_ns = by; /* and no tick */
	assert_int_equal(vote(f, item, APPROVE, NULL), -ESTALE);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_EXPIRED);
	assert_step(f, &run, "a", JOURNAL_STEP_S_DENIED);
	f->wall_ns = by - 30 * SECOND; /* the clock is set back: what expired stays so */
	assert_int_equal(vote(f, item, APPROVE, NULL), -ESTALE);
	fake_restart(f, true);
	assert_step(f, &run, "a", JOURNAL_STEP_S_DENIED);
}

#define ONE_RETRY "version: 1\nsteps:\n  - {name: a, run: [x], retry: {max: 2}}\n"

/* Votes as person; signed where at is not 0. Choice and path may be NULL. */
static int vote_as(struct fake *f, const struct journal_approval *a, const char *person,
		   const char *choice, const char *path, int64_t at)
{
	struct engine_vote v = {.approval = a->id,
				.card = a->card,
				.decision = APPROVE,
				.choice = choice,
				.path = bytes_str(path ? path : ""),
				.principal = person,
				.uid = 1000,
				.signed_ns = at};
	char text[64];
	int rc;

	if (at) {
		snprintf(text, sizeof(text), "%s %lld", person, (long long)at);
		v.proof = fake_blob(f, text);
	}
	rc = engine_vote(f->e, fake_now(f), &v, NULL);
	assert_true(fake_flush(f));
	return rc;
}

static void test_a_role_names_who_may_vote(void **state)
{
	static const char *const staff[] = {"uid:7", "group:release", "signer:alice"};
	static const char *const nobody_else[] = {"signer:alice", "signer:bob"};
	static const char *const groups[] = {"users", "release"};
	const struct {
		const char *principal;
		uint32_t uid;
		bool in_groups, is_signed, second_role;
		int want;
	} cases[] = {
		{"uid:7", 7, false, false, false, 0},
		{"uid:70", 70, false, false, false, -EPERM},
		{"uid:8", 8, true, false, false, 0},
		{"signer:alice", 9, false, true, false, 0},
		{"signer:alice", 9, false, false, false, -EPERM}, /* says so, and signed nothing */
		{"signer:alicex", 9, false, true, false, -EPERM},
		{"uid:7", 7, true, false, true, -EPERM}, /* in one of two */
		{"signer:alice", 9, false, true, true, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fake *f = fake_of(state);
		const struct journal_approval *item;
		struct engine_vote v = {.decision = APPROVE,
					.principal = cases[i].principal,
					.uid = cases[i].uid,
					.groups = groups,
					.group_count = cases[i].in_groups ? 2 : 0,
					.signed_ns = 1};
		struct journal_id run;

		f->has_rules = true;
		f->rules = (struct engine_rules){.quorum = 1,
						 .roles = {{staff, 3}, {nobody_else, 2}},
						 .role_count = cases[i].second_role ? 2 : 1};
		run = created(f, gated);
		item = asked(f, &run, JOURNAL_KIND_STEP_GATE);
		v.approval = item->id;
		v.card = item->card;
		if (cases[i].is_signed)
			v.proof = fake_blob(f, "signed");
		assert_int_equal(engine_vote(f->e, fake_now(f), &v, NULL), cases[i].want);
		assert_int_equal(item->vote_count, cases[i].want == 0);
		fake_flush(f);
	}
}

static void test_an_empty_role_is_nobody(void **state)
{
	struct fake *f = fake_of(state);
	struct journal_id run;

	f->has_rules = true;
	f->rules = (struct engine_rules){.quorum = 1, .role_count = 1};
	run = created(f, gated);
	assert_int_equal(vote(f, asked(f, &run, JOURNAL_KIND_STEP_GATE), APPROVE, NULL), -EPERM);
}

static void test_signed_votes_are_asked_for_and_are_not_replayed(void **state)
{
	struct fake *f = fake_of(state);
	const struct journal_approval *item;
	struct journal_id run;

	f->has_rules = true;
	f->rules = (struct engine_rules){.quorum = 2, .signed_votes = true};
	run = created(f, NEVER ONE_RETRY);
	failed(f, "a", JOURNAL_ATTEMPT_S_EXITED, 1);
	pass(f, SECOND);
	failed(f, "a", JOURNAL_ATTEMPT_S_EXITED, 1);
	item = asked(f, &run, JOURNAL_KIND_EXHAUSTED);
	assert_int_equal(vote_as(f, item, "signer:a", "fail", NULL, 0), -EPERM);
	assert_int_equal(vote_as(f, item, "signer:a", "fail", NULL, 10), 0);
	assert_int_equal(vote_as(f, item, "signer:a", "retry", NULL, 20), 0);
	assert_int_equal(vote_as(f, item, "signer:a", "fail", NULL, 10), -ESTALE); /* sent again */
	assert_int_equal(vote_as(f, item, "signer:a", "fail", NULL, 15), -ESTALE);
	assert_int_equal(vote_as(f, item, "signer:a", "retry", NULL, 20), 0); /* no answer heard */
	assert_int_equal(vote_as(f, item, "signer:b", "fail", NULL, 5), 0); /* a clock of his own */
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_OPEN);
	assert_int_equal(vote_as(f, item, "signer:b", "retry", NULL, 6), 0);
	assert_int_not_equal(item->state, JOURNAL_APPROVAL_S_OPEN);
	assert_string_equal(item->choice, "retry");
	assert_int_equal(item->vote_count, 4);
	assert_int_equal(item->votes[1].signed_ns, 20);
}

static void test_a_quorum_agrees_on_the_choice_and_on_each_path(void **state)
{
	struct fake *f = fake_of(state);
	const struct journal_approval *item;
	struct journal_id run;

	f->has_rules = true;
	f->rules = (struct engine_rules){.quorum = 2};
	run = created(f, ONE);
	ran(f, "a");
	planned(f, &run);
	conflicted(f, &run, false, (const char *const[]){"x", "y", NULL});
	item = asked(f, &run, JOURNAL_KIND_CONFLICT);
	assert_int_equal(vote_as(f, item, "uid:1", "mine", NULL, 0), 0);
	assert_int_equal(vote_as(f, item, "uid:2", "theirs", "x", 0), 0);
	assert_int_equal(vote_as(f, item, "uid:2", "mine", "y", 0), 0);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_OPEN); /* x: one each */
	assert_int_equal(vote_as(f, item, "uid:3", "mine", "x", 0), 0);
	assert_int_equal(item->state, JOURNAL_APPROVAL_S_APPROVED);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_run_goes_from_step_to_step_and_lands),
		T(test_land_never_succeeds_with_the_last_commit),
		T(test_a_step_sees_the_layers_committed_before_it),
		T(test_a_step_is_described_by_all_it_depends_on),
		T(test_one_writer_in_order_of_position),
		T(test_a_request_and_a_name_start_one_run),
		T(test_a_failure_that_no_retry_covers_fails_the_run),
		T(test_retries_back_off_and_then_ask),
		T(test_equal_failures_stop_early),
		T(test_lost_attempts_are_not_charged_but_have_a_cap),
		T(test_what_is_lost_again_is_spaced_as_failures_are),
		T(test_a_checker_that_is_always_lost_pauses_the_run),
		T(test_layers_that_are_gone_pause_the_run_and_charge_nothing),
		T(test_infra_is_tried_again_and_exec_is_not),
		T(test_a_program_that_the_policy_refuses_is_denied_and_not_tried_again),
		T(test_a_deadline_ends_a_step_whatever_it_does),
		T(test_a_killed_step_is_not_tried_again),
		T(test_a_rejected_step_gets_the_feedback),
		T(test_a_check_runs_again_after_a_crash_uncharged),
		T(test_a_protected_path_is_a_failed_check),
		T(test_a_lost_layer_runs_the_step_again),
		T(test_a_gate_asks_first_and_holds_up_nobody_else),
		T(test_a_policy_that_asks_gates_as_the_plan_does),
		T(test_an_approval_waits_for_its_turn_unspent),
		T(test_one_deny_denies_the_step),
		T(test_a_vote_is_idempotent_and_a_late_one_hears_the_outcome),
		T(test_an_item_that_nobody_decides_is_a_deny),
		T(test_an_approval_that_is_not_used_in_time_lapses),
		T(test_quorum_and_excluded_principals),
		T(test_a_vote_at_the_instant_of_the_deadline_is_late),
		T(test_a_role_names_who_may_vote),
		T(test_an_empty_role_is_nobody),
		T(test_signed_votes_are_asked_for_and_are_not_replayed),
		T(test_a_quorum_agrees_on_the_choice_and_on_each_path),
		T(test_nobody_decides_by_rules_that_cannot_be_read),
		T(test_unattended_deny_asks_nobody),
		T(test_gate_commit_asks_with_the_layer_in_hand),
		T(test_a_denied_commit_leaves_nothing_of_its_attempt),
		T(test_land_ask_shows_the_plan_and_waits),
		T(test_a_denied_landing_is_dropped_and_the_run_succeeds),
		T(test_observe_has_no_layer_and_lands_nothing),
		T(test_the_dial_holds_for_what_starts_and_lands_from_then_on),
		T(test_lowered_to_observe_what_was_asked_lands_no_more),
		T(test_lowered_to_observe_a_conflict_is_dropped),
		T(test_the_dial_of_a_run_that_is_over_stays),
		T(test_nothing_to_land_is_no_conflict),
		T(test_a_conflict_is_answered_path_by_path),
		T(test_a_file_needs_no_path_where_there_is_one),
		T(test_a_directory_that_changes_again_asks_again),
		T(test_conflicts_met_while_planning_touch_nothing),
		T(test_undo_takes_back_what_landed),
		T(test_an_undoing_that_is_dropped_leaves_it_landed),
		T(test_land_is_told_that_the_landing_waits_for_an_answer),
		T(test_a_failed_run_may_land_what_it_committed),
		T(test_a_landing_that_was_asked_for_outlives_the_supervisor),
		T(test_a_landing_that_waits_for_the_workspace_outlives_the_supervisor),
		T(test_a_landing_that_is_stuck_pauses_and_goes_on),
		T(test_what_holds_a_landing_up_is_recorded_and_land_tries_again),
		T(test_a_failed_landing_that_a_restart_completes_pauses_no_more),
		T(test_a_plan_that_cannot_be_made_is_recorded),
		T(test_cancel_frees_a_run_whose_landing_failed),
		T(test_cancel_gives_up_a_landing_that_failed_and_touched_nothing),
		T(test_cancel_gives_up_an_undoing_whose_answer_cannot_be_planned),
		T(test_a_run_whose_conflict_cancel_dropped_has_nothing_to_give_up),
		T(test_what_is_said_to_a_settled_run_holds_none_of_its_rows),
		T(test_a_landing_that_is_planned_after_the_end_holds_its_rows),
		T(test_cancel_frees_the_workspace_of_an_undoing_that_failed),
		T(test_cancel_lets_a_landing_that_began_come_to_its_end),
		T(test_a_landing_whose_card_cannot_be_made_holds_up_no_collecting),
		T(test_two_runs_of_one_workspace_take_turns),
		T(test_runs_that_do_not_land_need_no_turn),
		T(test_a_living_attempt_is_adopted_untouched),
		T(test_an_attempt_that_ended_meanwhile_is_settled),
		T(test_a_reboot_loses_the_attempt_and_runs_it_again),
		T(test_sealing_goes_on_in_the_same_boot_only),
		T(test_a_landing_is_done_again_after_a_crash),
		T(test_timers_due_meanwhile_fire_once),
		T(test_an_embedded_supervisor_starts_nothing_unnamed),
		T(test_an_embedded_supervisor_asks_what_is_to_be_asked),
		T(test_an_embedded_supervisor_lands_nothing_unnamed),
		T(test_three_starts_without_progress_pause_the_run),
		T(test_cancel_kills_withdraws_and_ends),
		T(test_pause_starts_nothing_and_records_what_ends),
		T(test_a_hold_and_a_full_house_wait),
		T(test_a_committed_step_is_reused),
		T(test_a_diverged_step_waits_for_a_person),
		T(test_an_accepted_input_is_the_steps_from_then_on),
		T(test_an_accepted_input_is_taken_where_nothing_ran_yet),
		T(test_a_changed_program_is_another_input),
		T(test_a_diverged_step_may_fail_or_fork_the_run),
		T(test_a_fork_of_a_plan_goes_on_from_its_step),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
