/*
 * The state tables against a list written here a second time and by hand: every transition that
 * is not in the list is forbidden.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include "base/guard.h"
#include "journal/state.h"

struct allowed {
	const char *from, *event, *to;
};

static const struct allowed runs[] = {
	{"CREATED", "RUN_STARTED", "RUNNING"},	      {"RUNNING", "RUN_WAITING", "WAITING"},
	{"WAITING", "RUN_WAITING", "WAITING"},	      {"WAITING", "RUN_CONTINUED", "RUNNING"},
	{"CREATED", "RUN_PAUSED", "PAUSED"},	      {"RUNNING", "RUN_PAUSED", "PAUSED"},
	{"WAITING", "RUN_PAUSED", "PAUSED"},	      {"PAUSED", "RUN_RESUMED", "RUNNING"},
	{"CREATED", "RUN_CANCELLING", "CANCELLING"},  {"RUNNING", "RUN_CANCELLING", "CANCELLING"},
	{"WAITING", "RUN_CANCELLING", "CANCELLING"},  {"PAUSED", "RUN_CANCELLING", "CANCELLING"},
	{"CANCELLING", "RUN_CANCELLED", "CANCELLED"}, {"RUNNING", "RUN_SUCCEEDED", "SUCCEEDED"},
	{"WAITING", "RUN_SUCCEEDED", "SUCCEEDED"},    {"RUNNING", "RUN_FAILED", "FAILED"},
	{"WAITING", "RUN_FAILED", "FAILED"},	      {"CREATED", "RUN_AGENCY", "CREATED"},
	{"RUNNING", "RUN_AGENCY", "RUNNING"},	      {"WAITING", "RUN_AGENCY", "WAITING"},
	{"PAUSED", "RUN_AGENCY", "PAUSED"},
};

static const struct allowed landings[] = {
	{"UNLANDED", "LANDING_STARTED", "LANDING"},
	{"UNLANDED", "LANDING_DROPPED", "DROPPED"},
	{"LANDING", "LANDED", "LANDED"},
	{"LANDING", "LANDING_CONFLICT", "CONFLICT"},
	{"CONFLICT", "LANDING_STARTED", "LANDING"},
	{"CONFLICT", "UNDO_STARTED", "UNDOING"},
	{"UNLANDED", "LANDING_CONFLICT", "CONFLICT"},
	{"CONFLICT", "LANDING_CONFLICT", "CONFLICT"},
	{"CONFLICT", "UNDO_CONFLICT", "CONFLICT"},
	{"CONFLICT", "LANDING_DROPPED", "DROPPED"},
	{"LANDED", "UNDO_STARTED", "UNDOING"},
	{"UNDOING", "UNDONE", "UNDONE"},
	{"UNDOING", "UNDO_CONFLICT", "CONFLICT"},
	{"UNLANDED", "LANDING_FAILED", "UNLANDED"},
	{"UNLANDED", "LANDING_WANTED", "UNLANDED"},
	{"LANDING", "LANDING_FAILED", "LANDING"},
	{"CONFLICT", "LANDING_FAILED", "CONFLICT"},
	{"UNDOING", "LANDING_FAILED", "UNDOING"},
};

static const struct allowed steps[] = {
	{"DECLARED", "STEP_GATED", "GATED"},
	{"DECLARED", "STEP_RUNNABLE", "RUNNABLE"},
	{"DECLARED", "STEP_DENIED", "DENIED"},
	{"GATED", "STEP_RUNNABLE", "RUNNABLE"},
	{"GATED", "STEP_DENIED", "DENIED"},
	{"RUNNABLE", "ATTEMPT_STARTED", "ACTIVE"},
	{"ACTIVE", "STEP_SEALED", "SEALED"},
	{"ACTIVE", "STEP_BACKOFF", "BACKOFF"},
	{"ACTIVE", "STEP_WAITING", "WAITING"},
	{"ACTIVE", "STEP_EXHAUSTED", "EXHAUSTED"},
	{"ACTIVE", "STEP_FAILED", "FAILED"},
	{"ACTIVE", "STEP_RUNNABLE", "RUNNABLE"},
	{"ACTIVE", "STEP_DENIED", "DENIED"},
	{"WAITING", "STEP_RUNNABLE", "RUNNABLE"},
	{"WAITING", "STEP_BACKOFF", "BACKOFF"},
	{"WAITING", "STEP_EXHAUSTED", "EXHAUSTED"},
	{"WAITING", "STEP_FAILED", "FAILED"},
	{"BACKOFF", "STEP_RUNNABLE", "RUNNABLE"},
	{"SEALED", "STEP_CHECKING", "CHECKING"},
	{"SEALED", "STEP_GATED_COMMIT", "GATED_COMMIT"},
	{"SEALED", "STEP_COMMITTED", "COMMITTED"},
	{"SEALED", "STEP_RUNNABLE", "RUNNABLE"},
	{"CHECKING", "STEP_CHECKING", "CHECKING"},
	{"CHECKING", "STEP_REJECTED", "REJECTED"},
	{"CHECKING", "STEP_GATED_COMMIT", "GATED_COMMIT"},
	{"CHECKING", "STEP_COMMITTED", "COMMITTED"},
	{"GATED_COMMIT", "STEP_COMMITTED", "COMMITTED"},
	{"GATED_COMMIT", "STEP_REJECTED", "REJECTED"},
	{"GATED_COMMIT", "STEP_DENIED", "DENIED"},
	{"REJECTED", "STEP_BACKOFF", "BACKOFF"},
	{"REJECTED", "STEP_EXHAUSTED", "EXHAUSTED"},
	{"REJECTED", "STEP_FAILED", "FAILED"},
	{"EXHAUSTED", "STEP_RUNNABLE", "RUNNABLE"},
	{"EXHAUSTED", "STEP_FAILED", "FAILED"},
	/* its deadline passed while it did not run */
	{"RUNNABLE", "STEP_FAILED", "FAILED"},
	{"BACKOFF", "STEP_FAILED", "FAILED"},
};

static const struct allowed attempts[] = {
	{"STARTING", "ATTEMPT_LIVE", "LIVE"},
	{"STARTING", "ATTEMPT_NOT_STARTED", "NOT_STARTED"},
	{"STARTING", "ATTEMPT_LOST", "LOST"},
	{"STARTING", "ATTEMPT_ADOPTED", "STARTING"},
	{"LIVE", "ATTEMPT_FROZEN", "FROZEN"},
	{"LIVE", "ATTEMPT_ADOPTED", "LIVE"},
	{"LIVE", "ATTEMPT_EXITED", "EXITED"},
	{"LIVE", "ATTEMPT_TIMED_OUT", "TIMED_OUT"},
	{"LIVE", "ATTEMPT_OOM", "OOM"},
	{"LIVE", "ATTEMPT_KILLED", "KILLED"},
	{"LIVE", "ATTEMPT_SUSPENDED", "SUSPENDED"},
	{"LIVE", "ATTEMPT_LOST", "LOST"},
	{"FROZEN", "ATTEMPT_THAWED", "LIVE"},
	{"FROZEN", "ATTEMPT_FROZEN", "FROZEN"}, /* and to be suspended */
	{"FROZEN", "ATTEMPT_ADOPTED", "FROZEN"},
	{"FROZEN", "ATTEMPT_EXITED", "EXITED"},
	{"FROZEN", "ATTEMPT_TIMED_OUT", "TIMED_OUT"},
	{"FROZEN", "ATTEMPT_OOM", "OOM"},
	{"FROZEN", "ATTEMPT_KILLED", "KILLED"},
	{"FROZEN", "ATTEMPT_SUSPENDED", "SUSPENDED"},
	{"FROZEN", "ATTEMPT_LOST", "LOST"},
	{"EXITED", "ATTEMPT_LOST", "LOST"},
};

static const struct allowed approvals[] = {
	{"OPEN", "VOTE_CAST", "OPEN"},
	{"OPEN", "APPROVAL_APPROVED", "APPROVED"},
	{"OPEN", "APPROVAL_DENIED", "DENIED"},
	{"OPEN", "APPROVAL_EXPIRED", "EXPIRED"},
	{"OPEN", "APPROVAL_WITHDRAWN", "WITHDRAWN"},
	{"OPEN", "APPROVAL_SUPERSEDED", "SUPERSEDED"},
	{"APPROVED", "APPROVAL_CONSUMED", "CONSUMED"},
	{"APPROVED", "APPROVAL_LAPSED", "LAPSED"},
	{"APPROVED", "APPROVAL_REVOKED", "REVOKED"},
};

static const struct allowed effects[] = {
	{"PROPOSED", "EFFECT_ALLOWED", "ALLOWED"},
	{"PROPOSED", "EFFECT_WAITING", "WAITING"},
	{"PROPOSED", "EFFECT_DENIED", "DENIED"},
	{"PROPOSED", "EFFECT_WITHDRAWN", "WITHDRAWN"},
	{"WAITING", "EFFECT_ALLOWED", "ALLOWED"},
	{"WAITING", "EFFECT_DENIED", "DENIED"},
	{"WAITING", "EFFECT_WITHDRAWN", "WITHDRAWN"},
	{"ALLOWED", "EFFECT_RESERVED", "RESERVED"},
	{"ALLOWED", "EFFECT_WAITING", "WAITING"},
	{"ALLOWED", "EFFECT_DENIED", "DENIED"},
	{"ALLOWED", "EFFECT_WITHDRAWN", "WITHDRAWN"},
	{"RESERVED", "EFFECT_CONFIRMED", "CONFIRMED"},
	{"RESERVED", "EFFECT_REFUSED", "REFUSED"},
	{"RESERVED", "EFFECT_IN_DOUBT", "IN_DOUBT"},
	{"REFUSED", "EFFECT_PROPOSED", "PROPOSED"},
	{"IN_DOUBT", "EFFECT_CONFIRMED", "CONFIRMED"},
	{"IN_DOUBT", "EFFECT_REFUSED", "REFUSED"},
	{"IN_DOUBT", "EFFECT_RESERVED", "RESERVED"},
	{"IN_DOUBT", "EFFECT_ABANDONED", "ABANDONED"},
	{"CONFIRMED", "EFFECT_COMPENSATED", "COMPENSATED"},
	/* its response reached a client */
	{"CONFIRMED", "EFFECT_DELIVERED", "CONFIRMED"},
	{"ABANDONED", "EFFECT_DELIVERED", "ABANDONED"},
	{"COMPENSATED", "EFFECT_DELIVERED", "COMPENSATED"},
};

/* Empty: the transition must be refused. */
static const char *expected(const struct allowed *list, size_t count, const char *from,
			    const char *event)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(list[i].from, from) == 0 && strcmp(list[i].event, event) == 0)
			return list[i].to;
	return "";
}

#define CHECK_TABLE(list, COUNT, next_fn, name_fn, also)                                        \
	do {                                                                                    \
		size_t seen = 0;                                                                \
		for (unsigned from = 0; from < (COUNT); from++)                                 \
			for (unsigned event = 0; event < 256; event++) {                        \
				const char *name = journal_type_name(event);                    \
				const char *want = name ? expected(list, ARRAY_SIZE(list),      \
								   name_fn(from), name)         \
							: "";                                   \
				if (!*want && name && also(from, event))                        \
					want = name_fn(from);                                   \
				else                                                            \
					seen += *want != 0;                                     \
				int to = next_fn(from, event);                                  \
				assert_string_equal(to < 0 ? "" : name_fn((unsigned)to), want); \
			}                                                                       \
		assert_int_equal(seen, ARRAY_SIZE(list));                                       \
	} while (0)

static bool nothing_else(unsigned from, unsigned event)
{
	(void)from;
	(void)event;
	return false;
}

static void a_run_moves_only_as_written(void **state)
{
	(void)state;
	CHECK_TABLE(runs, JOURNAL_RUN_S_COUNT, journal_state_next_run, journal_run_state_name,
		    nothing_else);
}

static void a_landing_moves_only_as_written(void **state)
{
	(void)state;
	CHECK_TABLE(landings, JOURNAL_LANDING_S_COUNT, journal_state_next_landing,
		    journal_landing_state_name, nothing_else);
}

static void an_attempt_moves_only_as_written(void **state)
{
	(void)state;
	CHECK_TABLE(attempts, JOURNAL_ATTEMPT_S_COUNT, journal_state_next_attempt,
		    journal_attempt_state_name, nothing_else);
}

/* People are told of it in any state, and that changes none. */
static bool told_of(unsigned from, unsigned event)
{
	(void)from;
	return event == JOURNAL_APPROVAL_TOLD;
}

static void an_approval_moves_only_as_written(void **state)
{
	(void)state;
	CHECK_TABLE(approvals, JOURNAL_APPROVAL_S_COUNT, journal_state_next_approval,
		    journal_approval_state_name, told_of);
}

/* Proposed again: what was turned down, or did not happen, is not attached to. */
static bool proposed_again(unsigned from, unsigned event)
{
	return event == JOURNAL_EFFECT_ATTACHED && from != JOURNAL_EFFECT_S_DENIED &&
	       from != JOURNAL_EFFECT_S_WITHDRAWN && from != JOURNAL_EFFECT_S_REFUSED;
}

static void an_effect_moves_only_as_written(void **state)
{
	(void)state;
	CHECK_TABLE(effects, JOURNAL_EFFECT_S_COUNT, journal_state_next_effect,
		    journal_effect_state_name, proposed_again);
}

/* "Any that is not final -> CANCELLED"; being asked again for changes nothing. */
static int next_step_but_cancelled(enum journal_step_state from, enum journal_type event)
{
	int to = journal_state_next_step(from, event);
	if (event == JOURNAL_STEP_CANCELLED) {
		assert_int_equal(to, journal_step_final(from) ? -1 : JOURNAL_STEP_S_CANCELLED);
		return -1;
	}
	return to;
}

static bool asked_again(unsigned from, unsigned event)
{
	(void)from;
	return event == JOURNAL_STEP_DIVERGED || event == JOURNAL_STEP_REUSED;
}

static void a_step_moves_only_as_written(void **state)
{
	(void)state;
	CHECK_TABLE(steps, JOURNAL_STEP_S_COUNT, next_step_but_cancelled, journal_step_state_name,
		    asked_again);
}

static void a_timer_fires_once(void **state)
{
	(void)state;
	for (unsigned event = 0; event < 256; event++) {
		int armed = journal_state_next_timer(JOURNAL_TIMER_S_ARMED, event);
		assert_int_equal(armed, event == JOURNAL_TIMER_FIRED ? JOURNAL_TIMER_S_FIRED
					: event == JOURNAL_TIMER_CANCELLED
						? JOURNAL_TIMER_S_CANCELLED
						: -1);
		assert_int_equal(journal_state_next_timer(JOURNAL_TIMER_S_FIRED, event), -1);
		assert_int_equal(journal_state_next_timer(JOURNAL_TIMER_S_CANCELLED, event), -1);
	}
}

/* What is final is never left by any event. */
static void final_is_final(void **state)
{
	(void)state;
	for (unsigned event = 0; event < 256; event++) {
		for (unsigned s = 0; s < JOURNAL_STEP_S_COUNT; s++) {
			int to = journal_state_next_step(s, event);
			assert_true(!journal_step_final(s) || to == -1 || to == (int)s);
		}
		for (unsigned s = 0; s < JOURNAL_RUN_S_COUNT; s++)
			assert_true(!journal_run_final(s) ||
				    journal_state_next_run(s, event) == -1);
	}
}

/* name of state v, as each of the functions wants its own enum. */
#define DEFINE_NAME(fn)                          \
	static const char *call_##fn(unsigned v) \
	{                                        \
		return fn(v);                    \
	}
DEFINE_NAME(journal_run_state_name)
DEFINE_NAME(journal_landing_state_name)
DEFINE_NAME(journal_step_state_name)
DEFINE_NAME(journal_attempt_state_name)
DEFINE_NAME(journal_approval_state_name)
DEFINE_NAME(journal_effect_state_name)
DEFINE_NAME(journal_class_name)
DEFINE_NAME(journal_retry_name)

static void every_state_has_a_name_of_its_own_and_nothing_else_has_one(void **state)
{
	static const struct {
		const char *(*name)(unsigned v);
		unsigned count;
	} table[] = {
		{call_journal_run_state_name, JOURNAL_RUN_S_COUNT},
		{call_journal_landing_state_name, JOURNAL_LANDING_S_COUNT},
		{call_journal_step_state_name, JOURNAL_STEP_S_COUNT},
		{call_journal_attempt_state_name, JOURNAL_ATTEMPT_S_COUNT},
		{call_journal_approval_state_name, JOURNAL_APPROVAL_S_COUNT},
		{call_journal_effect_state_name, JOURNAL_EFFECT_S_COUNT},
		{call_journal_class_name, JOURNAL_CLASS_COUNT},
		{call_journal_retry_name, JOURNAL_RETRY_COUNT},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		for (unsigned v = 0; v < table[i].count; v++) {
			const char *name = table[i].name(v);

			assert_non_null(name);
			for (unsigned w = 0; w < v; w++)
				assert_string_not_equal(name, table[i].name(w));
		}
		assert_null(table[i].name(table[i].count));
		assert_null(table[i].name(UINT32_MAX));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_run_moves_only_as_written),
		cmocka_unit_test(a_landing_moves_only_as_written),
		cmocka_unit_test(an_attempt_moves_only_as_written),
		cmocka_unit_test(an_approval_moves_only_as_written),
		cmocka_unit_test(a_step_moves_only_as_written),
		cmocka_unit_test(an_effect_moves_only_as_written),
		cmocka_unit_test(a_timer_fires_once),
		cmocka_unit_test(final_is_final),
		cmocka_unit_test(every_state_has_a_name_of_its_own_and_nothing_else_has_one),
	};
	return cmocka_run_group_tests_name("journal/state", tests, NULL, NULL);
}
