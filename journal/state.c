/*
 * The state tables [STATE][EVENT]. A cell holds the next state plus one, so that the zero of
 * an unwritten cell means "not allowed": whatever is not written here aborts the supervisor. Pure.
 */
#include "journal/state.h"

#define TO_RUN(s)      (JOURNAL_RUN_S_##s + 1)
#define TO_LANDING(s)  (JOURNAL_LANDING_S_##s + 1)
#define TO_STEP(s)     (JOURNAL_STEP_S_##s + 1)
#define TO_ATTEMPT(s)  (JOURNAL_ATTEMPT_S_##s + 1)
#define TO_APPROVAL(s) (JOURNAL_APPROVAL_S_##s + 1)
#define TO_EFFECT(s)   (JOURNAL_EFFECT_S_##s + 1)

typedef uint8_t row[JOURNAL_TYPE_LIMIT];

static const row runs[JOURNAL_RUN_S_COUNT] = {
	[JOURNAL_RUN_S_CREATED] =
		{
			[JOURNAL_RUN_STARTED] = TO_RUN(RUNNING),
			[JOURNAL_RUN_PAUSED] = TO_RUN(PAUSED),
			[JOURNAL_RUN_CANCELLING] = TO_RUN(CANCELLING),
			[JOURNAL_RUN_AGENCY] = TO_RUN(CREATED),
		},
	[JOURNAL_RUN_S_RUNNING] =
		{
			[JOURNAL_RUN_WAITING] = TO_RUN(WAITING),
			[JOURNAL_RUN_PAUSED] = TO_RUN(PAUSED),
			[JOURNAL_RUN_CANCELLING] = TO_RUN(CANCELLING),
			[JOURNAL_RUN_SUCCEEDED] = TO_RUN(SUCCEEDED),
			[JOURNAL_RUN_FAILED] = TO_RUN(FAILED),
			[JOURNAL_RUN_AGENCY] = TO_RUN(RUNNING),
		},
	[JOURNAL_RUN_S_WAITING] =
		{
			[JOURNAL_RUN_WAITING] = TO_RUN(WAITING), /* the set changed */
			[JOURNAL_RUN_CONTINUED] = TO_RUN(RUNNING),
			[JOURNAL_RUN_PAUSED] = TO_RUN(PAUSED),
			[JOURNAL_RUN_CANCELLING] = TO_RUN(CANCELLING),
			[JOURNAL_RUN_SUCCEEDED] = TO_RUN(SUCCEEDED),
			[JOURNAL_RUN_FAILED] = TO_RUN(FAILED),
			[JOURNAL_RUN_AGENCY] = TO_RUN(WAITING),
		},
	[JOURNAL_RUN_S_PAUSED] =
		{
			[JOURNAL_RUN_RESUMED] = TO_RUN(RUNNING), /* or where it came from: fold */
			[JOURNAL_RUN_CANCELLING] = TO_RUN(CANCELLING),
			[JOURNAL_RUN_AGENCY] = TO_RUN(PAUSED),
		},
	[JOURNAL_RUN_S_CANCELLING] =
		{
			[JOURNAL_RUN_CANCELLED] = TO_RUN(CANCELLED),
		},
};

static const row landings[JOURNAL_LANDING_S_COUNT] = {
	[JOURNAL_LANDING_S_UNLANDED] =
		{
			[JOURNAL_LANDING_STARTED] = TO_LANDING(LANDING),
			[JOURNAL_LANDING_CONFLICT] =
				TO_LANDING(CONFLICT), /* met while planning: nothing was touched */
			[JOURNAL_LANDING_DROPPED] = TO_LANDING(DROPPED),
			[JOURNAL_LANDING_FAILED] = TO_LANDING(UNLANDED),
			[JOURNAL_LANDING_WANTED] = TO_LANDING(UNLANDED),
		},
	[JOURNAL_LANDING_S_LANDING] =
		{
			[JOURNAL_LANDED] = TO_LANDING(LANDED),
			[JOURNAL_LANDING_CONFLICT] = TO_LANDING(CONFLICT),
			[JOURNAL_LANDING_FAILED] = TO_LANDING(LANDING),
		},
	[JOURNAL_LANDING_S_CONFLICT] =
		{
			/* only in its own direction: fold */
			[JOURNAL_LANDING_STARTED] = TO_LANDING(LANDING),
			[JOURNAL_UNDO_STARTED] = TO_LANDING(UNDOING),
			[JOURNAL_LANDING_CONFLICT] =
				TO_LANDING(CONFLICT), /* planned again, and others were met */
			[JOURNAL_UNDO_CONFLICT] = TO_LANDING(CONFLICT),
			[JOURNAL_LANDING_DROPPED] =
				TO_LANDING(DROPPED), /* or LANDED, where it was an undoing: fold */
			[JOURNAL_LANDING_FAILED] = TO_LANDING(CONFLICT),
		},
	[JOURNAL_LANDING_S_LANDED] =
		{
			[JOURNAL_UNDO_STARTED] = TO_LANDING(UNDOING),
		},
	[JOURNAL_LANDING_S_UNDOING] =
		{
			[JOURNAL_UNDONE] = TO_LANDING(UNDONE),
			[JOURNAL_UNDO_CONFLICT] = TO_LANDING(CONFLICT),
			[JOURNAL_LANDING_FAILED] = TO_LANDING(UNDOING),
		},
};

#define ASKED_AGAIN(s) [JOURNAL_STEP_DIVERGED] = TO_STEP(s), [JOURNAL_STEP_REUSED] = TO_STEP(s)

static const row steps[JOURNAL_STEP_S_COUNT] = {
	[JOURNAL_STEP_S_DECLARED] =
		{
			[JOURNAL_STEP_GATED] = TO_STEP(GATED),
			[JOURNAL_STEP_RUNNABLE] = TO_STEP(RUNNABLE),
			[JOURNAL_STEP_DENIED] = TO_STEP(DENIED),
			[JOURNAL_STEP_CANCELLED] = TO_STEP(CANCELLED),
			ASKED_AGAIN(DECLARED),
		},
	[JOURNAL_STEP_S_GATED] =
		{
			[JOURNAL_STEP_RUNNABLE] = TO_STEP(RUNNABLE),
			[JOURNAL_STEP_DENIED] = TO_STEP(DENIED),
			[JOURNAL_STEP_CANCELLED] = TO_STEP(CANCELLED),
			ASKED_AGAIN(GATED),
		},
	[JOURNAL_STEP_S_RUNNABLE] =
		{
			[JOURNAL_ATTEMPT_STARTED] = TO_STEP(ACTIVE),
			[JOURNAL_STEP_FAILED] = TO_STEP(FAILED), /* its deadline passed */
			[JOURNAL_STEP_CANCELLED] = TO_STEP(CANCELLED),
			ASKED_AGAIN(RUNNABLE),
		},
	[JOURNAL_STEP_S_ACTIVE] =
		{
			[JOURNAL_STEP_SEALED] = TO_STEP(SEALED),
			[JOURNAL_STEP_BACKOFF] = TO_STEP(BACKOFF),
			[JOURNAL_STEP_WAITING] = TO_STEP(WAITING),
			[JOURNAL_STEP_EXHAUSTED] = TO_STEP(EXHAUSTED),
			[JOURNAL_STEP_FAILED] = TO_STEP(FAILED),
			[JOURNAL_STEP_DENIED] =
				TO_STEP(DENIED), /* the policy refuses its program */
			[JOURNAL_STEP_RUNNABLE] =
				TO_STEP(RUNNABLE), /* its attempt was LOST, uncharged */
			[JOURNAL_STEP_CANCELLED] = TO_STEP(CANCELLED),
			ASKED_AGAIN(ACTIVE),
		},
	[JOURNAL_STEP_S_WAITING] =
		{
			[JOURNAL_STEP_RUNNABLE] = TO_STEP(RUNNABLE),
			[JOURNAL_STEP_BACKOFF] = TO_STEP(BACKOFF),
			[JOURNAL_STEP_EXHAUSTED] = TO_STEP(EXHAUSTED),
			[JOURNAL_STEP_FAILED] = TO_STEP(FAILED),
			[JOURNAL_STEP_CANCELLED] = TO_STEP(CANCELLED),
			ASKED_AGAIN(WAITING),
		},
	[JOURNAL_STEP_S_BACKOFF] =
		{
			[JOURNAL_STEP_RUNNABLE] = TO_STEP(RUNNABLE),
			[JOURNAL_STEP_FAILED] = TO_STEP(FAILED), /* its deadline passed */
			[JOURNAL_STEP_CANCELLED] = TO_STEP(CANCELLED),
			ASKED_AGAIN(BACKOFF),
		},
	[JOURNAL_STEP_S_SEALED] =
		{
			[JOURNAL_STEP_CHECKING] = TO_STEP(CHECKING),
			[JOURNAL_STEP_GATED_COMMIT] = TO_STEP(GATED_COMMIT),
			[JOURNAL_STEP_COMMITTED] = TO_STEP(COMMITTED),
			[JOURNAL_STEP_RUNNABLE] = TO_STEP(RUNNABLE), /* its layer was lost */
			[JOURNAL_STEP_CANCELLED] = TO_STEP(CANCELLED),
			ASKED_AGAIN(SEALED),
		},
	[JOURNAL_STEP_S_CHECKING] =
		{
			[JOURNAL_STEP_CHECKING] = TO_STEP(CHECKING), /* the checker was lost */
			[JOURNAL_STEP_REJECTED] = TO_STEP(REJECTED),
			[JOURNAL_STEP_GATED_COMMIT] = TO_STEP(GATED_COMMIT),
			[JOURNAL_STEP_COMMITTED] = TO_STEP(COMMITTED),
			[JOURNAL_STEP_CANCELLED] = TO_STEP(CANCELLED),
			ASKED_AGAIN(CHECKING),
		},
	[JOURNAL_STEP_S_REJECTED] =
		{
			[JOURNAL_STEP_BACKOFF] = TO_STEP(BACKOFF),
			[JOURNAL_STEP_EXHAUSTED] = TO_STEP(EXHAUSTED),
			[JOURNAL_STEP_FAILED] = TO_STEP(FAILED),
			[JOURNAL_STEP_CANCELLED] = TO_STEP(CANCELLED),
			ASKED_AGAIN(REJECTED),
		},
	[JOURNAL_STEP_S_GATED_COMMIT] =
		{
			[JOURNAL_STEP_COMMITTED] = TO_STEP(COMMITTED),
			[JOURNAL_STEP_REJECTED] = TO_STEP(REJECTED),
			[JOURNAL_STEP_DENIED] = TO_STEP(DENIED),
			[JOURNAL_STEP_CANCELLED] = TO_STEP(CANCELLED),
			ASKED_AGAIN(GATED_COMMIT),
		},
	[JOURNAL_STEP_S_EXHAUSTED] =
		{
			[JOURNAL_STEP_RUNNABLE] = TO_STEP(RUNNABLE),
			[JOURNAL_STEP_FAILED] = TO_STEP(FAILED),
			[JOURNAL_STEP_CANCELLED] = TO_STEP(CANCELLED),
			ASKED_AGAIN(EXHAUSTED),
		},
	[JOURNAL_STEP_S_COMMITTED] = {ASKED_AGAIN(COMMITTED)},
	[JOURNAL_STEP_S_DENIED] = {ASKED_AGAIN(DENIED)},
	[JOURNAL_STEP_S_FAILED] = {ASKED_AGAIN(FAILED)},
	[JOURNAL_STEP_S_CANCELLED] = {ASKED_AGAIN(CANCELLED)},
};

#define ENDINGS                                                                                 \
	[JOURNAL_ATTEMPT_EXITED] = TO_ATTEMPT(EXITED),                                          \
	[JOURNAL_ATTEMPT_TIMED_OUT] = TO_ATTEMPT(TIMED_OUT),                                    \
	[JOURNAL_ATTEMPT_OOM] = TO_ATTEMPT(OOM), [JOURNAL_ATTEMPT_KILLED] = TO_ATTEMPT(KILLED), \
	[JOURNAL_ATTEMPT_SUSPENDED] = TO_ATTEMPT(SUSPENDED),                                    \
	[JOURNAL_ATTEMPT_LOST] = TO_ATTEMPT(LOST)

static const row attempts[JOURNAL_ATTEMPT_S_COUNT] = {
	[JOURNAL_ATTEMPT_S_STARTING] =
		{
			[JOURNAL_ATTEMPT_LIVE] = TO_ATTEMPT(LIVE),
			[JOURNAL_ATTEMPT_NOT_STARTED] = TO_ATTEMPT(NOT_STARTED),
			[JOURNAL_ATTEMPT_LOST] = TO_ATTEMPT(LOST),
			[JOURNAL_ATTEMPT_ADOPTED] = TO_ATTEMPT(STARTING),
		},
	[JOURNAL_ATTEMPT_S_LIVE] =
		{
			[JOURNAL_ATTEMPT_FROZEN] = TO_ATTEMPT(FROZEN),
			[JOURNAL_ATTEMPT_ADOPTED] = TO_ATTEMPT(LIVE),
			ENDINGS,
		},
	[JOURNAL_ATTEMPT_S_FROZEN] =
		{
			[JOURNAL_ATTEMPT_THAWED] = TO_ATTEMPT(LIVE),
			[JOURNAL_ATTEMPT_FROZEN] = TO_ATTEMPT(FROZEN), /* and to be suspended */
			[JOURNAL_ATTEMPT_ADOPTED] = TO_ATTEMPT(FROZEN),
			ENDINGS,
		},
	[JOURNAL_ATTEMPT_S_EXITED] =
		{
			[JOURNAL_ATTEMPT_LOST] = TO_ATTEMPT(LOST), /* its layer did not survive */
		},
};

/* Telling people of it changes nothing. */
#define TOLD(s) [JOURNAL_APPROVAL_TOLD] = TO_APPROVAL(s)
static const row approvals[JOURNAL_APPROVAL_S_COUNT] = {
	[JOURNAL_APPROVAL_S_OPEN] =
		{
			[JOURNAL_VOTE_CAST] = TO_APPROVAL(OPEN),
			TOLD(OPEN),
			[JOURNAL_APPROVAL_APPROVED] = TO_APPROVAL(APPROVED),
			[JOURNAL_APPROVAL_DENIED] = TO_APPROVAL(DENIED),
			[JOURNAL_APPROVAL_EXPIRED] = TO_APPROVAL(EXPIRED),
			[JOURNAL_APPROVAL_WITHDRAWN] = TO_APPROVAL(WITHDRAWN),
			[JOURNAL_APPROVAL_SUPERSEDED] = TO_APPROVAL(SUPERSEDED),
		},
	[JOURNAL_APPROVAL_S_APPROVED] =
		{
			TOLD(APPROVED),
			[JOURNAL_APPROVAL_CONSUMED] = TO_APPROVAL(CONSUMED),
			[JOURNAL_APPROVAL_LAPSED] = TO_APPROVAL(LAPSED),
			[JOURNAL_APPROVAL_REVOKED] = TO_APPROVAL(REVOKED),
		},
	[JOURNAL_APPROVAL_S_DENIED] = {TOLD(DENIED)},
	[JOURNAL_APPROVAL_S_EXPIRED] = {TOLD(EXPIRED)},
	[JOURNAL_APPROVAL_S_WITHDRAWN] = {TOLD(WITHDRAWN)},
	[JOURNAL_APPROVAL_S_SUPERSEDED] = {TOLD(SUPERSEDED)},
	[JOURNAL_APPROVAL_S_CONSUMED] = {TOLD(CONSUMED)},
	[JOURNAL_APPROVAL_S_LAPSED] = {TOLD(LAPSED)},
	[JOURNAL_APPROVAL_S_REVOKED] = {TOLD(REVOKED)},
};

/* An outcome of what was sent. */
#define OUTCOMES                                                                      \
	[JOURNAL_EFFECT_CONFIRMED] = TO_EFFECT(CONFIRMED), [JOURNAL_EFFECT_REFUSED] = \
								   TO_EFFECT(REFUSED)
/* Proposed again, by the same or by a later attempt. */
#define AGAIN(s) [JOURNAL_EFFECT_ATTACHED] = TO_EFFECT(s)
#define TURNED_DOWN                                                               \
	[JOURNAL_EFFECT_DENIED] = TO_EFFECT(DENIED), [JOURNAL_EFFECT_WITHDRAWN] = \
							     TO_EFFECT(WITHDRAWN)

static const row effects[JOURNAL_EFFECT_S_COUNT] = {
	[JOURNAL_EFFECT_S_PROPOSED] =
		{
			[JOURNAL_EFFECT_ALLOWED] = TO_EFFECT(ALLOWED),
			[JOURNAL_EFFECT_WAITING] = TO_EFFECT(WAITING),
			TURNED_DOWN,
			AGAIN(PROPOSED),
		},
	[JOURNAL_EFFECT_S_WAITING] =
		{
			[JOURNAL_EFFECT_ALLOWED] = TO_EFFECT(ALLOWED),
			TURNED_DOWN,
			AGAIN(WAITING),
		},
	[JOURNAL_EFFECT_S_ALLOWED] =
		{
			[JOURNAL_EFFECT_RESERVED] = TO_EFFECT(RESERVED),
			[JOURNAL_EFFECT_WAITING] =
				TO_EFFECT(WAITING), /* its approval lapsed or was revoked */
			TURNED_DOWN,
			AGAIN(ALLOWED),
		},
	[JOURNAL_EFFECT_S_RESERVED] =
		{
			OUTCOMES,
			[JOURNAL_EFFECT_IN_DOUBT] = TO_EFFECT(IN_DOUBT),
			AGAIN(RESERVED),
		},
	[JOURNAL_EFFECT_S_CONFIRMED] =
		{
			[JOURNAL_EFFECT_COMPENSATED] = TO_EFFECT(COMPENSATED),
			[JOURNAL_EFFECT_DELIVERED] = TO_EFFECT(CONFIRMED),
			AGAIN(CONFIRMED),
		},
	[JOURNAL_EFFECT_S_REFUSED] =
		{
			[JOURNAL_EFFECT_PROPOSED] = TO_EFFECT(PROPOSED),
		},
	[JOURNAL_EFFECT_S_IN_DOUBT] =
		{
			OUTCOMES,
			[JOURNAL_EFFECT_RESERVED] = TO_EFFECT(RESERVED), /* sent again */
			[JOURNAL_EFFECT_ABANDONED] = TO_EFFECT(ABANDONED),
			AGAIN(IN_DOUBT),
		},
	[JOURNAL_EFFECT_S_ABANDONED] =
		{
			[JOURNAL_EFFECT_DELIVERED] = TO_EFFECT(ABANDONED),
			AGAIN(ABANDONED),
		},
	[JOURNAL_EFFECT_S_COMPENSATED] =
		{
			[JOURNAL_EFFECT_DELIVERED] = TO_EFFECT(COMPENSATED),
			AGAIN(COMPENSATED),
		},
};

static const row timers[JOURNAL_TIMER_S_COUNT] = {
	[JOURNAL_TIMER_S_ARMED] =
		{
			[JOURNAL_TIMER_FIRED] = JOURNAL_TIMER_S_FIRED + 1,
			[JOURNAL_TIMER_CANCELLED] = JOURNAL_TIMER_S_CANCELLED + 1,
		},
};

static int next(const row *table, unsigned count, unsigned from, unsigned event)
{
	return from < count && event < JOURNAL_TYPE_LIMIT ? table[from][event] - 1 : -1;
}

int journal_state_next_run(enum journal_run_state from, enum journal_type event)
{
	return next(runs, JOURNAL_RUN_S_COUNT, from, event);
}

int journal_state_next_landing(enum journal_landing_state from, enum journal_type event)
{
	return next(landings, JOURNAL_LANDING_S_COUNT, from, event);
}

int journal_state_next_step(enum journal_step_state from, enum journal_type event)
{
	return next(steps, JOURNAL_STEP_S_COUNT, from, event);
}

int journal_state_next_attempt(enum journal_attempt_state from, enum journal_type event)
{
	return next(attempts, JOURNAL_ATTEMPT_S_COUNT, from, event);
}

int journal_state_next_approval(enum journal_approval_state from, enum journal_type event)
{
	return next(approvals, JOURNAL_APPROVAL_S_COUNT, from, event);
}

int journal_state_next_effect(enum journal_effect_state from, enum journal_type event)
{
	return next(effects, JOURNAL_EFFECT_S_COUNT, from, event);
}

int journal_state_next_timer(enum journal_timer_state from, enum journal_type event)
{
	return next(timers, JOURNAL_TIMER_S_COUNT, from, event);
}

#define NAME_OF(table, v) ((size_t)(v) < sizeof(table) / sizeof((table)[0]) ? (table)[v] : NULL)

const char *journal_run_state_name(enum journal_run_state s)
{
	static const char *const names[JOURNAL_RUN_S_COUNT] = {"CREATED",    "RUNNING",
							       "WAITING",    "PAUSED",
							       "CANCELLING", "CANCELLED",
							       "SUCCEEDED",  "FAILED"};
	return NAME_OF(names, s);
}

const char *journal_landing_state_name(enum journal_landing_state s)
{
	static const char *const names[JOURNAL_LANDING_S_COUNT] = {"UNLANDED", "LANDING",
								   "CONFLICT", "LANDED",
								   "DROPPED",  "UNDOING",
								   "UNDONE"};
	return NAME_OF(names, s);
}

const char *journal_step_state_name(enum journal_step_state s)
{
	static const char *const names[JOURNAL_STEP_S_COUNT] = {
		"DECLARED",  "GATED",	  "RUNNABLE", "ACTIVE",	  "WAITING",
		"BACKOFF",   "SEALED",	  "CHECKING", "REJECTED", "GATED_COMMIT",
		"EXHAUSTED", "COMMITTED", "DENIED",   "FAILED",	  "CANCELLED"};
	return NAME_OF(names, s);
}

const char *journal_attempt_state_name(enum journal_attempt_state s)
{
	static const char *const names[JOURNAL_ATTEMPT_S_COUNT] = {"STARTING",	"LIVE",
								   "FROZEN",	"NOT_STARTED",
								   "EXITED",	"TIMED_OUT",
								   "OOM",	"KILLED",
								   "SUSPENDED", "LOST"};
	return NAME_OF(names, s);
}

const char *journal_approval_state_name(enum journal_approval_state s)
{
	static const char *const names[JOURNAL_APPROVAL_S_COUNT] = {"OPEN",	 "APPROVED",
								    "DENIED",	 "EXPIRED",
								    "WITHDRAWN", "SUPERSEDED",
								    "CONSUMED",	 "LAPSED",
								    "REVOKED"};
	return NAME_OF(names, s);
}

const char *journal_approval_kind_name(enum journal_approval_kind k)
{
	static const char *const names[] = {
		[JOURNAL_KIND_STEP_GATE] = "step-gate", [JOURNAL_KIND_STEP_COMMIT] = "step-commit",
		[JOURNAL_KIND_LANDING] = "landing",	[JOURNAL_KIND_CONFLICT] = "conflict",
		[JOURNAL_KIND_EXHAUSTED] = "exhausted", [JOURNAL_KIND_DIVERGED] = "diverged",
		[JOURNAL_KIND_EFFECT] = "effect",	[JOURNAL_KIND_DOUBT] = "doubt"};
	return NAME_OF(names, k);
}

const char *journal_effect_state_name(enum journal_effect_state s)
{
	static const char *const names[JOURNAL_EFFECT_S_COUNT] = {
		"PROPOSED",  "WAITING", "ALLOWED",  "DENIED",	 "WITHDRAWN",  "RESERVED",
		"CONFIRMED", "REFUSED", "IN_DOUBT", "ABANDONED", "COMPENSATED"};
	return NAME_OF(names, s);
}

const char *journal_class_name(enum journal_class c)
{
	static const char *const names[JOURNAL_CLASS_COUNT] = {"read", "reversible", "unknown",
							       "irreversible"};
	return NAME_OF(names, c);
}

const char *journal_retry_name(enum journal_retry r)
{
	static const char *const names[JOURNAL_RETRY_COUNT] = {"never", "safe", "keyed", "probe"};
	return NAME_OF(names, r);
}

bool journal_effect_open(enum journal_effect_state s)
{
	switch (s) {
	case JOURNAL_EFFECT_S_PROPOSED:
	case JOURNAL_EFFECT_S_WAITING:
	case JOURNAL_EFFECT_S_ALLOWED:
	case JOURNAL_EFFECT_S_RESERVED:
	case JOURNAL_EFFECT_S_IN_DOUBT:
		return true;
	case JOURNAL_EFFECT_S_DENIED:
	case JOURNAL_EFFECT_S_WITHDRAWN:
	case JOURNAL_EFFECT_S_CONFIRMED:
	case JOURNAL_EFFECT_S_REFUSED:
	case JOURNAL_EFFECT_S_ABANDONED:
	case JOURNAL_EFFECT_S_COMPENSATED:
	case JOURNAL_EFFECT_S_COUNT:
		break;
	}
	return false;
}

const char *journal_wait_name(enum journal_wait w)
{
	switch (w) {
	case JOURNAL_WAIT_APPROVAL:
		return "approval";
	case JOURNAL_WAIT_TIMER:
		return "timer";
	case JOURNAL_WAIT_DOUBT:
		return "doubt";
	case JOURNAL_WAIT_CONFLICT:
		return "conflict";
	case JOURNAL_WAIT_EXHAUSTED:
		return "exhausted";
	case JOURNAL_WAIT_DIVERGED:
		return "diverged";
	case JOURNAL_WAIT_LEASE:
		return "lease";
	}
	return NULL;
}

bool journal_step_final(enum journal_step_state s)
{
	return s == JOURNAL_STEP_S_COMMITTED || s == JOURNAL_STEP_S_DENIED ||
	       s == JOURNAL_STEP_S_FAILED || s == JOURNAL_STEP_S_CANCELLED;
}

bool journal_run_final(enum journal_run_state s)
{
	return s == JOURNAL_RUN_S_CANCELLED || s == JOURNAL_RUN_S_SUCCEEDED ||
	       s == JOURNAL_RUN_S_FAILED;
}
