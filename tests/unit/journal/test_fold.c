/* The fold: live rows equal replayed rows after every event, a refused record changes nothing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/guard.h"
#include "journal/row.h"
#include "tests/unit/journal/canonical.h"
#include "tests/unit/journal/maker.h"

static void canonical(const struct journal_state *s, struct buffer *out)
{
	out->len = 0;
	assert_int_equal(canonical_rows(s, out), 0);
}

static void assert_same(const struct journal_state *a, const struct journal_state *b)
{
	AUTO_BUFFER x = {0};
	AUTO_BUFFER y = {0};
	canonical(a, &x);
	canonical(b, &y);
	assert_true(bytes_equal(buffer_bytes(&x), buffer_bytes(&y)));
}

static int reload_row(const struct journal_change *c, void *arg)
{
	struct journal_state **pair = arg;
	AUTO_BUFFER key = {0};
	AUTO_BUFFER value = {0};
	assert_int_equal(journal_row_key(c, &key), 0);
	assert_int_equal(journal_row_encode(pair[0], c, &value), 0);
	assert_int_equal(journal_row_decode(pair[1], buffer_bytes(&key), buffer_bytes(&value)), 0);
	return 0;
}

static void rows_survive_their_own_bytes(struct journal_state *s)
{
	struct journal_state *loaded = journal_state_new();
	struct journal_state *pair[] = {s, loaded};
	assert_non_null(loaded);
	assert_int_equal(journal_row_each(s, reload_row, pair), 0);
	assert_same(s, loaded);
	journal_state_free(loaded);
}

/* The bytes that were written are decoded and folded into a second state, as recovery does;
 * compared every time. */
static void live_rows_equal_replayed_rows_after_every_event(void **state)
{
	(void)state;
	unsigned long seen[JOURNAL_TYPE_LIMIT] = {0};
	for (uint64_t seed = 1; seed <= 120; seed++) {
		struct maker *m = maker_new(seed);
		struct journal_state *replayed = journal_state_new();
		assert_non_null(replayed);
		for (int i = 0; i < 500; i++) {
			const struct journal_record *r = maker_next(m);
			struct journal_record back;
			struct digest hash;
			struct error err = {0};
			seen[r->type]++;
			assert_int_equal(journal_record_decode(maker_bytes(m), &back), 0);
			journal_record_hash(maker_bytes(m), &hash);
			if (journal_fold(replayed, &back, &hash, &err) != 0)
				fail_msg("seed %lu event %d: %s", (unsigned long)seed, i, err.msg);
			assert_same(maker_state(m), replayed);
		}
		rows_survive_their_own_bytes(replayed);
		journal_state_free(replayed);
		maker_free(m);
	}
	for (unsigned type = 0; type < JOURNAL_TYPE_LIMIT; type++)
		if (journal_type_name(type) && type != JOURNAL_RUNS_DROPPED &&
		    type != JOURNAL_ANCHOR && !seen[type])
			fail_msg("the random stream never made a %s", journal_type_name(type));
}

static void make_run(struct journal_state *s, struct journal_record *r)
{
	struct error err = {0};
	maker_record(JOURNAL_RUN_CREATED, false, r);
	r->epoch = 0;
	assert_int_equal(maker_fold(s, r, &err), 0);
}

static void a_refused_record_changes_nothing(void **state)
{
	(void)state;
	struct maker *m = maker_new(7);
	for (int i = 0; i < 400; i++)
		maker_next(m);
	/* maker_next itself tries thousands of illegal records on its state; here each type once,
	 * on a copy of rows */
	struct journal_state *s = (struct journal_state *)maker_state(m);
	int refused = 0;
	for (unsigned type = 0; type < JOURNAL_TYPE_LIMIT; type++) {
		if (!journal_type_name(type))
			continue;
		AUTO_BUFFER before = {0};
		AUTO_BUFFER after = {0};
		struct journal_record r;
		struct error err = {0};
		maker_record(type, true, &r);
		canonical(s, &before);
		int rc = maker_fold(s, &r, &err);
		if (rc == 0)
			continue;
		refused++;
		assert_int_equal(rc, -EPROTO);
		assert_non_null(strstr(err.msg, journal_type_name(type)));
		canonical(s, &after);
		assert_true(bytes_equal(buffer_bytes(&before), buffer_bytes(&after)));
	}
	assert_true(refused > 40);
	maker_free(m);
}

static void a_record_that_is_not_the_next_of_its_chain_is_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {"prev_hash", "seq", "lsn", "epoch"};
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct journal_state *s = journal_state_new();
		struct journal_record r;
		struct error err = {0};
		struct digest hash = {{1}};
		make_run(s, &r);
		maker_record(JOURNAL_RUN_STARTED, false, &r);
		journal_state_fill(s, &r);
		if (i == 0)
			r.prev_hash.b[31] ^= 1;
		else if (i == 1)
			r.seq++;
		else if (i == 2)
			r.lsn = 1;
		else
			r.epoch = 9;
		assert_int_equal(journal_fold(s, &r, &hash, &err), -EPROTO);
		journal_state_fill(s, &r);
		assert_int_equal(journal_fold(s, &r, &hash, &err), 0);
		journal_state_free(s);
	}
}

struct script {
	enum journal_type type;
	uint32_t attempt;
};

static const struct journal_step *play(struct journal_state *s, const struct script *script,
				       size_t count)
{
	struct journal_record r;
	make_run(s, &r);
	struct journal_id run = r.run;
	for (size_t i = 0; i < count; i++) {
		struct error err = {0};
		maker_record(script[i].type, false, &r);
		if (r.step != JOURNAL_NO_STEP)
			r.step = 0;
		if (script[i].attempt)
			r.attempt = script[i].attempt;
		if (maker_fold(s, &r, &err) != 0)
			fail_msg("%s: %s", journal_type_name(script[i].type), err.msg);
	}
	return journal_state_run(s, &run)->steps[0];
}

/* LOST and SUSPENDED attempts cost nothing of the retry budget; an exit whose layer was lost is
 * given back. */
static void only_real_failures_are_charged(void **state)
{
	(void)state;
#define BEGIN                                           \
	{JOURNAL_RUN_STARTED}, {JOURNAL_STEP_DECLARED}, \
	{                                               \
		JOURNAL_STEP_RUNNABLE                   \
	}
#define LIVE(n)                         \
	{JOURNAL_ATTEMPT_STARTED, n},   \
	{                               \
		JOURNAL_ATTEMPT_LIVE, n \
	}
	static const struct {
		struct script script[16];
		size_t count;
		uint32_t charged, lost;
	} cases[] = {
		{{BEGIN, LIVE(1), {JOURNAL_ATTEMPT_EXITED, 1}}, 6, 1, 0},
		{{BEGIN, LIVE(1), {JOURNAL_ATTEMPT_LOST, 1}}, 6, 0, 1},
		{{BEGIN, LIVE(1), {JOURNAL_ATTEMPT_SUSPENDED, 1}}, 6, 0, 0},
		{{BEGIN, LIVE(1), {JOURNAL_ATTEMPT_TIMED_OUT, 1}}, 6, 1, 0},
		{{BEGIN, {JOURNAL_ATTEMPT_STARTED, 1}, {JOURNAL_ATTEMPT_NOT_STARTED, 1}}, 5, 1, 0},
		{{BEGIN, LIVE(1), {JOURNAL_ATTEMPT_EXITED, 1}, {JOURNAL_ATTEMPT_LOST, 1}}, 7, 0, 1},
		{{BEGIN,
		  LIVE(1),
		  {JOURNAL_ATTEMPT_LOST, 1},
		  {JOURNAL_STEP_RUNNABLE},
		  LIVE(2),
		  {JOURNAL_ATTEMPT_LOST, 2}},
		 10,
		 0,
		 2},
		{{BEGIN,
		  LIVE(1),
		  {JOURNAL_ATTEMPT_LOST, 1},
		  {JOURNAL_STEP_RUNNABLE},
		  LIVE(2),
		  {JOURNAL_ATTEMPT_OOM, 2}},
		 10,
		 1,
		 0},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct journal_state *s = journal_state_new();
		const struct journal_step *step = play(s, cases[i].script, cases[i].count);
		assert_int_equal(step->charged, cases[i].charged);
		assert_int_equal(step->lost, cases[i].lost);
		journal_state_free(s);
	}
}

/* A live attempt is never left behind by its step. */
static void a_step_is_judged_after_its_attempt_ended(void **state)
{
	(void)state;
	static const struct script script[] = {BEGIN, LIVE(1)};
	static const enum journal_type early[] = {JOURNAL_STEP_SEALED,	 JOURNAL_STEP_BACKOFF,
						  JOURNAL_STEP_FAILED,	 JOURNAL_STEP_EXHAUSTED,
						  JOURNAL_STEP_RUNNABLE, JOURNAL_STEP_WAITING};
	struct journal_state *s = journal_state_new();
	play(s, script, ARRAY_SIZE(script));
	for (size_t i = 0; i < ARRAY_SIZE(early); i++) {
		struct journal_record r;
		struct error err = {0};
		maker_record(early[i], false, &r);
		r.step = 0;
		assert_int_equal(maker_fold(s, &r, &err), -EPROTO);
	}
	journal_state_free(s);
}

static void resume_leads_back_to_where_the_pause_came_from(void **state)
{
	(void)state;
	static const enum journal_type before[] = {0, JOURNAL_RUN_STARTED, JOURNAL_RUN_WAITING};
	struct journal_state *s = journal_state_new();
	struct journal_record r;
	struct error err = {0};
	make_run(s, &r);
	for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
		if (before[i]) {
			maker_record(before[i], false, &r);
			assert_int_equal(maker_fold(s, &r, &err), 0);
		}
		const struct journal_run *run = journal_state_run(s, &r.run);
		enum journal_run_state from = run->state;
		unsigned waits = run->waits;
		maker_record(JOURNAL_RUN_PAUSED, false, &r);
		assert_int_equal(maker_fold(s, &r, &err), 0);
		maker_record(JOURNAL_RUN_RESUMED, false, &r);
		assert_int_equal(maker_fold(s, &r, &err), 0);
		assert_int_equal(run->state, from);
		assert_int_equal(run->waits, waits);
	}
	journal_state_free(s);
}

/* A conflict is left in its own direction only. */
static void a_conflict_of_an_undoing_is_not_landed(void **state)
{
	(void)state;
	static const struct {
		enum journal_type type;
		int rc;
	} script[] = {
		{JOURNAL_RUN_STARTED, 0},	    {JOURNAL_LANDING_STARTED, 0},
		{JOURNAL_LANDING_CONFLICT, 0},	    {JOURNAL_UNDO_STARTED, -EPROTO},
		{JOURNAL_LANDING_STARTED, 0},	    {JOURNAL_LANDED, 0},
		{JOURNAL_LANDING_STARTED, -EPROTO}, {JOURNAL_UNDO_STARTED, 0},
		{JOURNAL_UNDO_CONFLICT, 0},	    {JOURNAL_LANDING_STARTED, -EPROTO},
		{JOURNAL_UNDO_STARTED, 0},	    {JOURNAL_UNDONE, 0},
		{JOURNAL_LANDING_STARTED, -EPROTO},
	};
	struct journal_state *s = journal_state_new();
	struct journal_record r;
	make_run(s, &r);
	for (size_t i = 0; i < ARRAY_SIZE(script); i++) {
		struct error err = {0};
		maker_record(script[i].type, false, &r);
		assert_int_equal(maker_fold(s, &r, &err), script[i].rc);
	}
	journal_state_free(s);
}

/* It changes nothing but what is said of it, and is said until something goes on. */
static void what_holds_a_landing_up_is_kept_until_it_goes_on(void **state)
{
	(void)state;
	static const struct {
		enum journal_type type;
		enum journal_landing_state landing;
		bool failed;
	} script[] = {
		{JOURNAL_RUN_STARTED, JOURNAL_LANDING_S_UNLANDED, false},
		{JOURNAL_LANDING_FAILED, JOURNAL_LANDING_S_UNLANDED, true},
		{JOURNAL_RUN_PAUSED, JOURNAL_LANDING_S_UNLANDED, true},
		{JOURNAL_RUN_RESUMED, JOURNAL_LANDING_S_UNLANDED, false},
		{JOURNAL_LANDING_FAILED, JOURNAL_LANDING_S_UNLANDED, true},
		{JOURNAL_LANDING_STARTED, JOURNAL_LANDING_S_LANDING, false},
		{JOURNAL_LANDING_FAILED, JOURNAL_LANDING_S_LANDING, true},
		{JOURNAL_LANDED, JOURNAL_LANDING_S_LANDED, false},
		{JOURNAL_UNDO_STARTED, JOURNAL_LANDING_S_UNDOING, false},
		{JOURNAL_UNDO_CONFLICT, JOURNAL_LANDING_S_CONFLICT, false},
		{JOURNAL_LANDING_FAILED, JOURNAL_LANDING_S_CONFLICT, true},
		{JOURNAL_UNDO_STARTED, JOURNAL_LANDING_S_UNDOING, false}, /* its own direction */
		{JOURNAL_LANDING_FAILED, JOURNAL_LANDING_S_UNDOING, true},
		{JOURNAL_UNDONE, JOURNAL_LANDING_S_UNDONE, false},
	};
	struct journal_state *s = journal_state_new();
	struct journal_record r;
	make_run(s, &r);
	const struct journal_run *run = journal_state_run(s, &r.run);
	for (size_t i = 0; i < ARRAY_SIZE(script); i++) {
		struct error err = {0};
		maker_record(script[i].type, false, &r);
		assert_int_equal(maker_fold(s, &r, &err), 0);
		assert_int_equal(run->landing, script[i].landing);
		assert_int_equal(run->landing_failed != NULL, script[i].failed);
	}
	journal_state_free(s);
}

/* Only what is over needs a person's word to land; it holds until something comes of it. */
static void a_wanted_landing_is_kept_until_something_comes_of_it(void **state)
{
	(void)state;
	static const struct {
		enum journal_type type;
		int rc;
		bool wanted;
	} script[] = {
		{JOURNAL_RUN_STARTED, 0, false},     {JOURNAL_LANDING_WANTED, -EPROTO, false},
		{JOURNAL_RUN_SUCCEEDED, 0, false},   {JOURNAL_LANDING_WANTED, 0, true},
		{JOURNAL_LANDING_FAILED, 0, false},  {JOURNAL_LANDING_WANTED, 0, true},
		{JOURNAL_LANDING_STARTED, 0, false}, {JOURNAL_LANDING_WANTED, -EPROTO, false},
	};
	struct journal_state *s = journal_state_new();
	struct journal_record r;
	make_run(s, &r);
	const struct journal_run *run = journal_state_run(s, &r.run);
	for (size_t i = 0; i < ARRAY_SIZE(script); i++) {
		struct error err = {0};
		maker_record(script[i].type, false, &r);
		assert_int_equal(maker_fold(s, &r, &err), script[i].rc);
		assert_int_equal(run->landing_wanted, script[i].wanted);
		if (script[i].wanted)
			assert_null(run->landing_failed);
	}
	journal_state_free(s);
}

static void an_approval_is_consumed_at_most_once(void **state)
{
	(void)state;
	static const struct {
		enum journal_type type;
		int rc;
	} script[] = {
		{JOURNAL_APPROVAL_CONSUMED, -EPROTO},
		{JOURNAL_APPROVAL_OPENED, 0},
		{JOURNAL_APPROVAL_OPENED, -EPROTO},
		{JOURNAL_APPROVAL_CONSUMED, -EPROTO},
		{JOURNAL_VOTE_CAST, 0},
		{JOURNAL_APPROVAL_APPROVED, 0},
		{JOURNAL_VOTE_CAST, -EPROTO},
		{JOURNAL_APPROVAL_CONSUMED, 0},
		{JOURNAL_APPROVAL_CONSUMED, -EPROTO},
		{JOURNAL_APPROVAL_REVOKED, -EPROTO},
	};
	struct journal_state *s = journal_state_new();
	struct journal_record r;
	make_run(s, &r);
	for (size_t i = 0; i < ARRAY_SIZE(script); i++) {
		struct error err = {0};
		maker_record(script[i].type, false, &r);
		assert_int_equal(maker_fold(s, &r, &err), script[i].rc);
	}
	journal_state_free(s);
}

static void a_lease_has_one_holder_and_its_generation_grows(void **state)
{
	(void)state;
	struct journal_state *s = journal_state_new();
	for (uint64_t i = 1; i <= 3; i++) {
		struct journal_record r;
		struct error err = {0};
		maker_record(JOURNAL_LEASE_HELD, false, &r);
		assert_int_equal(maker_fold(s, &r, &err), 0);
		assert_int_equal(journal_state_lease(s, 1, 1)->generation, i);
		assert_int_equal(maker_fold(s, &r, &err), -EPROTO);
		maker_record(JOURNAL_LEASE_FREED, false, &r);
		JOURNAL_SET(&r.p, holder, (struct journal_id){{99}});
		assert_int_equal(maker_fold(s, &r, &err), -EPROTO);
		maker_record(JOURNAL_LEASE_FREED, false, &r);
		assert_int_equal(maker_fold(s, &r, &err), 0);
	}
	journal_state_free(s);
}

static int note_order(const struct journal_timer *t, void *arg)
{
	int64_t *last = arg;
	assert_true(t->due_ns >= *last);
	assert_int_equal(t->state, JOURNAL_TIMER_S_ARMED);
	*last = t->due_ns;
	return 0;
}

static void timers_are_walked_by_due_time(void **state)
{
	(void)state;
	struct journal_state *s = journal_state_new();
	struct journal_record r;
	make_run(s, &r);
	for (int i = 0; i < 50; i++) {
		struct error err = {0};
		maker_record(JOURNAL_TIMER_ARMED, false, &r);
		r.p.timer.b[0] = (uint8_t)i;
		r.p.due_ns = (i * 37) % 50;
		assert_int_equal(maker_fold(s, &r, &err), 0);
		if (i % 3)
			continue;
		struct journal_id timer = r.p.timer;
		maker_record(JOURNAL_TIMER_FIRED, false, &r);
		r.p.timer = timer;
		assert_int_equal(maker_fold(s, &r, &err), 0);
	}
	int64_t last = -1;
	assert_int_equal(journal_state_each_timer(s, note_order, &last), 0);
	assert_int_equal(last, 48); /* 49 was fired */
	journal_state_free(s);
}

/* A stored row that was damaged is refused; no byte of it may crash the loader. */
static void damaged_rows_never_crash(void **state)
{
	(void)state;
	struct maker *m = maker_new(11);
	for (int i = 0; i < 500; i++)
		maker_next(m);
	AUTO_BUFFER all = {0};
	canonical(maker_state(m), &all);
	for (size_t i = 0; i < 20000; i++) {
		struct journal_state *s = journal_state_new();
		size_t at = maker_random(m, all.len), len = maker_random(m, 200);
		uint8_t key[64];
		for (size_t k = 0; k < sizeof(key); k++)
			key[k] = (uint8_t)maker_random(m, 256);
		key[0] = (uint8_t) "drsaptlu"[maker_random(m, 8)];
		static const size_t lengths[] = {1, 17, 21, 25, 33, 40};
		int rc = journal_row_decode(
			s, bytes_of(key, lengths[maker_random(m, ARRAY_SIZE(lengths))]),
			bytes_of(all.data + at, len < all.len - at ? len : all.len - at));
		assert_true(rc == 0 || rc == -EBADMSG);
		journal_state_free(s);
	}
	maker_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(live_rows_equal_replayed_rows_after_every_event),
		cmocka_unit_test(a_refused_record_changes_nothing),
		cmocka_unit_test(a_record_that_is_not_the_next_of_its_chain_is_refused),
		cmocka_unit_test(only_real_failures_are_charged),
		cmocka_unit_test(a_step_is_judged_after_its_attempt_ended),
		cmocka_unit_test(resume_leads_back_to_where_the_pause_came_from),
		cmocka_unit_test(a_conflict_of_an_undoing_is_not_landed),
		cmocka_unit_test(what_holds_a_landing_up_is_kept_until_it_goes_on),
		cmocka_unit_test(a_wanted_landing_is_kept_until_something_comes_of_it),
		cmocka_unit_test(an_approval_is_consumed_at_most_once),
		cmocka_unit_test(a_lease_has_one_holder_and_its_generation_grows),
		cmocka_unit_test(timers_are_walked_by_due_time),
		cmocka_unit_test(damaged_rows_never_crash),
	};
	return cmocka_run_group_tests_name("journal/fold", tests, NULL, NULL);
}
