#pragma once
/*
 * The three questions, answered from rows alone: what is done, what is in flight, what
 * is safe to retry; and who is needed. Pure: the same rows give the same answer, so it is the same
 * before and after a kill -9. The API turns it into JSON.
 *
 * Everything a struct status points to is borrowed from the rows and valid until the next fold.
 */
#include "journal/journal.h"

enum status_retry {
	STATUS_SAFE, /* may run again at any time: nothing of it left the sandbox */
	STATUS_SAFE_SAME_KEY, /* safe with the same idempotency key, until `until_ns` */
	STATUS_PROBE_FIRST, /* a declared probe tells whether it happened */
	STATUS_HUMAN_ONLY, /* a person must say */
	STATUS_NEVER, /* committed or landed: it is never done again */
};
const char *status_retry_name(enum status_retry r); /* "SAFE", "SAFE_SAME_KEY", ... as in --json */

enum { STATUS_EFFECTS_MAX = 1000 }; /* done ones of a run that are listed: the last */

struct status_flight {
	const struct journal_step *step; /* NULL: the landing (or undoing) of the run */
	const struct journal_effect *effect; /* of that step; NULL: the step itself */
	const struct journal_attempt *attempt; /* NULL: none lives */
	const char *what; /* "starting", "running", "sealing", "checking", "backoff", ... */
	int64_t since_ns; /* wall; 0 = not known */
	unsigned waiting_on; /* bits of enum journal_wait; 0 = it moves by itself */
	int64_t due_ns; /* deadline to decide, end of a backoff, deadline of the step; 0 = none */
	const struct journal_approval *item; /* the queue item it waits on, or NULL */
};

struct status_open {
	const struct journal_step *step; /* NULL: the landing */
	const struct journal_effect *effect; /* of that step; NULL: the step itself */
	uint64_t lsn; /* of that event */
	enum status_retry class;
	int64_t until_ns; /* SAFE_SAME_KEY; 0 = always */
	const char *rule; /* static text: the rule that says so */
	const char *event; /* type name of the record that proves it */
	uint32_t attempt; /* number in that record; 0 = it is about none */
};

struct status {
	const struct journal_run *run;
	const struct journal_step **done; /* COMMITTED, in order of their commits */
	size_t done_count;
	struct status_flight *in_flight;
	size_t in_flight_count;
	struct status_open
		*open; /* safe_to_retry: every step that is not final, and a landing under way */
	size_t open_count;
	const struct journal_effect **effects; /* CONFIRMED and COMPENSATED, as proposed */
	size_t effect_count; /* listed */
	uint32_t effects_done, effects_in_doubt, effects_denied; /* of all */
	uint32_t effects_failed; /* REFUSED or ABANDONED: known not to have happened, or given up */
	const struct journal_approval **needs_person; /* OPEN items of the run, ranked */
	size_t needs_person_count;
	uint32_t steps_failed; /* FAILED, DENIED */
	int exit; /* status_exit() */
};

/* 0 with *ret, or -ENOMEM. */
MUST_CHECK int status_of(const struct journal_state *rows, const struct journal_run *run,
			 struct status **ret);
void status_free(struct status *s); /* accepts NULL */
/* Who approved the effect, or said what became of it; NULL: nobody was asked. Borrowed. */
const char *status_approver(const struct journal_state *rows, const struct journal_effect *f);

/*
 * The exit status that `run`, `status RUN` and `resume` lead to (enum exit_status, holdfast(1)), of
 * the run as it stands: 0 it succeeded, or it moves by itself (running, backoff, lease) · 1 a step
 * failed, or it was cancelled · 3 a person or a rule denied · 4 it waits for a person, or is paused
 * · 5 in doubt · 6 a contract was not met · 7 a limit · 8 the sandbox could not be made, or it is
 * paused since its layers are not what was sealed · 9 a conflict waits.
 */
int status_exit(const struct journal_state *rows, const struct journal_run *run);

/* All OPEN items of all runs in memory, ranked: what expires first, then what blocks more. *ret is
 * malloc'ed. */
MUST_CHECK int status_queue(const struct journal_state *rows, const struct journal_approval ***ret,
			    size_t *ret_count);
/* What may be said to an item of this kind, NULL-terminated, static: {"approve", "deny"} or the
 * kind's own choices then "deny". */
const char *const *status_choices(enum journal_approval_kind kind);
