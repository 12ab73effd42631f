/* The three questions: what each state answers, and how the queue is ranked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/guard.h"
#include "tests/unit/supervisor/fake.h"

DEFINE_GUARD(struct status *, status_free)
#define SECOND 1000000000ll

static int setup(void **state)
{
	struct fake *f = calloc(1, sizeof(*f));

	fake_init(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	fake_free(*state);
	free(*state);
	return 0;
}

static struct journal_id created(struct fake *f, const char *yaml, uint64_t ino)
{
	struct engine_run_request q = {.uid = 1000, .ws_dev = 1, .ws_ino = ino};

	fake_create(f, yaml, &q);
	assert_true(fake_flush(f));
	return q.id;
}

static struct journal_id start(struct fake *f)
{
	struct fake_command c;

	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c));
	assert_int_equal(engine_attempt_live(f->e, fake_now(f), &c.c.attempt_id), 0);
	return c.c.attempt_id;
}

static void end(struct fake *f, const struct journal_id *attempt, enum journal_attempt_state state,
		uint32_t code)
{
	struct engine_ended x = {.state = state, .exit_code = code};

	assert_int_equal(engine_attempt_ended(f->e, fake_now(f), attempt, &x), 0);
	assert_true(fake_flush(f));
}

static void seal(struct fake *f)
{
	struct fake_command c;
	struct digest manifest;

	assert_true(fake_take(f, ENGINE_SEAL, &c));
	manifest = fake_blob(f, c.c.layer);
	assert_int_equal(engine_sealed(f->e, fake_now(f), &c.c.attempt_id, 0, NULL, &manifest, 1,
				       1),
			 0);
	assert_true(fake_flush(f));
}

static void cards(struct fake *f)
{
	struct digest card = fake_blob(f, "card");
	struct fake_command c;

	while (fake_take(f, ENGINE_CARD, &c))
		assert_int_equal(engine_card(f->e, fake_now(f), &c.c.run, c.c.step, c.c.card_kind,
					     &c.c.action, &card, &c.c.object),
				 0);
	assert_true(fake_flush(f));
}

static struct status *status(struct fake *f, const struct journal_id *run)
{
	struct status *s = NULL;

	assert_int_equal(status_of(f->rows, fake_run(f, run), &s), 0);
	assert_int_equal(s->in_flight_count, s->open_count);
	fake_check_status(f, fake_run(f, run));
	return s;
}

static void test_every_step_that_is_not_over_says_whether_it_is_safe(void **state)
{
	struct fake *f = *state;
	struct journal_id run = created(f,
					"version: 1\nland: never\nsteps:\n  - {name: a, run: x}\n"
					"  - {name: b, run: x, needs: [a], gate: ask}\n  - {name: "
					"c, run: x, needs: [a]}\n",
					2),
			  a = start(f);
	AUTO(status_free) struct status *s = status(f, &run);

	assert_int_equal(s->done_count, 0);
	assert_string_equal(s->in_flight[0].what, "running");
	assert_int_equal(s->open[0].class, STATUS_SAFE);
	assert_string_equal(s->open[0].event, "ATTEMPT_STARTED");
	assert_int_equal(s->open[0].attempt, 1);
	end(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	status_free(s);
	s = status(f, &run);
	assert_string_equal(s->in_flight[0].what, "sealing");
	seal(f);
	cards(f);
	status_free(s);
	s = status(f, &run);
	assert_int_equal(s->done_count, 1);
	assert_string_equal(s->done[0]->name, "a");
	assert_string_equal(s->in_flight[0].what, "gate");
	assert_int_equal(s->in_flight[0].waiting_on, JOURNAL_WAIT_APPROVAL);
	assert_int_equal(s->open[0].class, STATUS_HUMAN_ONLY);
	assert_ptr_equal(s->in_flight[0].item, s->needs_person[0]);
	assert_string_equal(s->in_flight[1].what, "starting");
	assert_int_equal(s->exit, EXIT_STATUS_OK); /* it moves */
}

static void test_the_queue_shows_first_what_expires_first(void **state)
{
	struct fake *f = *state;
	static const char gate[] =
		"version: 1\nland: never\nsteps:\n  - {name: a, run: x, gate: ask}\n";
	AUTO_FREE const struct journal_approval **items = NULL;
	struct journal_id one = created(f, gate, 2), two, three;
	size_t n = 0;

	cards(f); /* no deadline */
	f->has_rules = true;
	f->rules = (struct engine_rules){.quorum = 1, .decide_by_ns = 100 * SECOND};
	two = created(f, gate, 3);
	cards(f);
	f->rules.decide_by_ns = 10 * SECOND;
	three = created(f, gate, 4);
	cards(f);
	assert_int_equal(status_queue(f->rows, &items, &n), 0);
	assert_int_equal(n, 3);
	assert_true(journal_id_equal(&items[0]->run, &three));
	assert_true(journal_id_equal(&items[1]->run, &two));
	assert_true(journal_id_equal(&items[2]->run, &one));
}

/* How the one attempt of a run ends, and what `run` exits with. */
static void test_exit_statuses(void **state)
{
	static const struct {
		enum journal_attempt_state end;
		uint32_t code;
		int want;
	} rows[] = {
		{JOURNAL_ATTEMPT_S_EXITED, 1, EXIT_STATUS_STEP_FAILED},
		{JOURNAL_ATTEMPT_S_TIMED_OUT, 0, EXIT_STATUS_LIMIT},
		{JOURNAL_ATTEMPT_S_OOM, 0, EXIT_STATUS_LIMIT},
		{JOURNAL_ATTEMPT_S_KILLED, 0, EXIT_STATUS_LIMIT},
	};
	struct fake *f = *state;
	struct journal_id run, a;
	struct fake_command c;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		run = created(f, "version: 1\nsteps:\n  - {name: a, run: x}\n", 10 + i);
		a = start(f);
		assert_int_equal(status_exit(f->rows, fake_run(f, &run)), EXIT_STATUS_OK);
		end(f, &a, rows[i].end, rows[i].code);
		assert_int_equal(fake_run(f, &run)->state, JOURNAL_RUN_S_FAILED);
		assert_int_equal(status_exit(f->rows, fake_run(f, &run)), rows[i].want);
	}
	run = created(f, "version: 1\nsteps:\n  - {name: a, run: x, retry: {max: 1}}\n", 20);
	assert_true(fake_take(f, ENGINE_START_ATTEMPT, &c));
	assert_int_equal(engine_attempt_not_started(f->e, fake_now(f), &c.c.attempt_id, "no userns",
						    true),
			 0);
	assert_int_equal(status_exit(f->rows, fake_run(f, &run)), EXIT_STATUS_SANDBOX);

	run = created(f,
		      "version: 1\nsteps:\n  - {name: a, run: x, contract: {checks: [{run: t}]}}\n",
		      21);
	a = start(f);
	end(f, &a, JOURNAL_ATTEMPT_S_EXITED, 0);
	seal(f);
	assert_int_equal(engine_checked(f->e, fake_now(f), &a, false, "t failed", NULL), 0);
	assert_int_equal(status_exit(f->rows, fake_run(f, &run)), EXIT_STATUS_CONTRACT);
	assert_true(fake_flush(f));
}

static void test_every_kind_has_its_choices_and_a_deny(void **state)
{
	(void)state;
	for (int kind = JOURNAL_KIND_STEP_GATE; kind <= JOURNAL_KIND_DIVERGED; kind++) {
		const char *const *c = status_choices((enum journal_approval_kind)kind);
		size_t n = 0;

		while (c[n])
			n++;
		assert_true(n >= 2);
		assert_string_equal(c[n - 1], "deny");
	}
	assert_string_equal(status_retry_name(STATUS_SAFE_SAME_KEY), "SAFE_SAME_KEY");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_every_step_that_is_not_over_says_whether_it_is_safe),
		T(test_the_queue_shows_first_what_expires_first),
		T(test_exit_statuses),
		T(test_every_kind_has_its_choices_and_a_deny),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
