/* The three questions, from rows alone. */
#include "supervisor/status.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/guard.h"
#include "supervisor/engine.h"

DEFINE_GUARD(struct status *, status_free)

static const struct journal_attempt *last_attempt(const struct journal_step *s)
{
	return s->attempt_count ? &s->attempts[s->attempt_count - 1] : NULL;
}

static bool id_is_zero(const struct journal_id *id)
{
	static const struct journal_id zero;
	return journal_id_equal(id, &zero);
}

static const struct journal_approval *item_of(const struct journal_state *rows,
					      const struct journal_id *id)
{
	return id_is_zero(id) ? NULL : journal_state_approval(rows, id);
}

const char *status_retry_name(enum status_retry r)
{
	static const char *const names[] = {[STATUS_SAFE] = "SAFE",
					    [STATUS_SAFE_SAME_KEY] = "SAFE_SAME_KEY",
					    [STATUS_PROBE_FIRST] = "PROBE_FIRST",
					    [STATUS_HUMAN_ONLY] = "HUMAN_ONLY",
					    [STATUS_NEVER] = "NEVER"};

	return (size_t)r < ARRAY_SIZE(names) ? names[r] : NULL;
}

const char *const *status_choices(enum journal_approval_kind kind)
{
	static const char *const plain[] = {"approve", "deny", NULL};
	static const char *const conflict[] = {"mine", "theirs", "file", "deny", NULL};
	static const char *const exhausted[] = {"retry", "fail", "deny", NULL};
	static const char *const diverged[] = {"accept", "fork", "fail", "deny", NULL};
	static const char *const doubt[] = {"done", "not-done", "abandon", "deny", NULL};

	switch (kind) {
	case JOURNAL_KIND_STEP_GATE:
	case JOURNAL_KIND_STEP_COMMIT:
	case JOURNAL_KIND_LANDING:
	case JOURNAL_KIND_EFFECT:
		return plain;
	case JOURNAL_KIND_DOUBT:
		return doubt;
	case JOURNAL_KIND_CONFLICT:
		return conflict;
	case JOURNAL_KIND_EXHAUSTED:
		return exhausted;
	case JOURNAL_KIND_DIVERGED:
		return diverged;
	}
	return plain;
}

/* ---- the queue ---- */

/* What expires first comes first; then what holds up more. */
static int rank_of(enum journal_approval_kind kind)
{
	switch (kind) {
	case JOURNAL_KIND_DOUBT:
		return 0;
	case JOURNAL_KIND_EFFECT:
		return 1;
	case JOURNAL_KIND_CONFLICT:
		return 2;
	case JOURNAL_KIND_LANDING:
		return 3;
	case JOURNAL_KIND_DIVERGED:
		return 4;
	case JOURNAL_KIND_STEP_COMMIT:
		return 5;
	case JOURNAL_KIND_STEP_GATE:
		return 6;
	case JOURNAL_KIND_EXHAUSTED:
		return 7;
	}
	return 8;
}

struct queued {
	const struct journal_approval *a;
	bool irreversible; /* or in doubt: what cannot be taken back comes before all */
};

static int by_rank(const void *a, const void *b)
{
	const struct queued *p = a, *q = b;
	const struct journal_approval *x = p->a, *y = q->a;
	int64_t due_x = x->decide_by_ns ? x->decide_by_ns : INT64_MAX;
	int64_t due_y = y->decide_by_ns ? y->decide_by_ns : INT64_MAX;
	int kind_x = rank_of(x->kind), kind_y = rank_of(y->kind);

	if (p->irreversible != q->irreversible)
		return p->irreversible ? -1 : 1;
	if (due_x != due_y)
		return due_x < due_y ? -1 : 1;
	if (kind_x != kind_y)
		return kind_x < kind_y ? -1 : 1;
	if (x->opened_ns != y->opened_ns)
		return x->opened_ns < y->opened_ns ? -1 : 1;
	return memcmp(&x->id, &y->id, sizeof(x->id));
}

struct queue {
	const struct journal_state *rows;
	const struct journal_id *run; /* NULL: of all */
	struct queued *items;
	size_t count, cap;
};

static bool irreversible(const struct journal_state *rows, const struct journal_approval *a)
{
	const struct journal_effect *f =
		a->kind == JOURNAL_KIND_EFFECT ? journal_state_effect(rows, &a->effect) : NULL;

	return a->kind == JOURNAL_KIND_DOUBT || (f && f->class == JOURNAL_CLASS_IRREVERSIBLE);
}

static int collect(const struct journal_approval *a, void *arg)
{
	struct queue *q = arg;
	struct queued *grown;

	if (a->state != JOURNAL_APPROVAL_S_OPEN || (q->run && !journal_id_equal(q->run, &a->run)))
		return 0;
	if (q->count == q->cap) {
		grown = reallocarray(q->items, q->cap * 2 + 8, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		q->items = grown;
		q->cap = q->cap * 2 + 8;
	}
	q->items[q->count++] = (struct queued){a, irreversible(q->rows, a)};
	return 0;
}

static int queue_of(const struct journal_state *rows, const struct journal_id *run,
		    const struct journal_approval ***ret, size_t *ret_count)
{
	struct queue q = {.rows = rows, .run = run};
	int rc = journal_state_each_approval(rows, collect, &q);
	const struct journal_approval **list = rc < 0 ? NULL : calloc(q.count + 1, sizeof(*list));

	if (!list) {
		free(q.items);
		return rc < 0 ? rc : -ENOMEM;
	}
	if (q.count)
		qsort(q.items, q.count, sizeof(*q.items), by_rank);
	for (size_t i = 0; i < q.count; i++)
		list[i] = q.items[i].a;
	free(q.items);
	*ret = list;
	*ret_count = q.count;
	return 0;
}

int status_queue(const struct journal_state *rows, const struct journal_approval ***ret,
		 size_t *ret_count)
{
	return queue_of(rows, NULL, ret, ret_count);
}

/* ---- one run ---- */

static int by_commit(const void *a, const void *b)
{
	const struct journal_step *x = *(const struct journal_step *const *)a;
	const struct journal_step *y = *(const struct journal_step *const *)b;

	return (x->committed_lsn > y->committed_lsn) - (x->committed_lsn < y->committed_lsn);
}

static const char *attempt_what(const struct journal_attempt *a)
{
	switch (a->state) {
	case JOURNAL_ATTEMPT_S_STARTING:
		return "starting";
	case JOURNAL_ATTEMPT_S_LIVE:
		return "running";
	case JOURNAL_ATTEMPT_S_FROZEN:
		return "waits"; /* stopped where the machine has a freezer, which rows do not tell */
	case JOURNAL_ATTEMPT_S_EXITED:
		return "sealing";
	case JOURNAL_ATTEMPT_S_NOT_STARTED:
	case JOURNAL_ATTEMPT_S_TIMED_OUT:
	case JOURNAL_ATTEMPT_S_OOM:
	case JOURNAL_ATTEMPT_S_KILLED:
	case JOURNAL_ATTEMPT_S_SUSPENDED:
	case JOURNAL_ATTEMPT_S_LOST:
	case JOURNAL_ATTEMPT_S_COUNT:
		break;
	}
	return "ending";
}

static void wait_on_item(const struct journal_state *rows, const struct journal_id *id,
			 unsigned wait, struct status_flight *f)
{
	f->item = item_of(rows, id);
	f->waiting_on = wait;
	if (!f->item)
		return;
	f->since_ns = f->item->opened_ns;
	f->due_ns = f->item->decide_by_ns;
}

/* False: it is final, or nothing of it is under way. */
static bool step_flight(const struct journal_state *rows, const struct journal_step *s,
			struct status_flight *f)
{
	const struct journal_attempt *a = last_attempt(s);

	*f = (struct status_flight){.step = s,
				    .due_ns = s->deadline_ns,
				    .since_ns = a ? a->ended_ns : s->declared_ns};
	switch (s->state) {
	case JOURNAL_STEP_S_DECLARED:
	case JOURNAL_STEP_S_RUNNABLE:
		f->what = "its turn";
		return true;
	case JOURNAL_STEP_S_GATED:
		f->what = "gate";
		wait_on_item(rows, &s->approval, JOURNAL_WAIT_APPROVAL, f);
		return true;
	case JOURNAL_STEP_S_ACTIVE:
		assert(a);
		f->what = attempt_what(a);
		f->attempt = a;
		f->since_ns = a->ended_ns ? a->ended_ns : a->started_ns;
		return true;
	case JOURNAL_STEP_S_WAITING: /* its effects say on what */
		f->what = "suspended";
		return true;
	case JOURNAL_STEP_S_BACKOFF:
		f->what = "backoff";
		f->waiting_on = JOURNAL_WAIT_TIMER;
		f->due_ns = s->due_ns;
		return true;
	case JOURNAL_STEP_S_SEALED:
		f->what = "sealed";
		return true;
	case JOURNAL_STEP_S_CHECKING:
		f->what = "checking";
		return true;
	case JOURNAL_STEP_S_REJECTED:
		f->what = "rejected";
		return true;
	case JOURNAL_STEP_S_GATED_COMMIT:
		f->what = "commit";
		wait_on_item(rows, &s->approval, JOURNAL_WAIT_APPROVAL, f);
		return true;
	case JOURNAL_STEP_S_EXHAUSTED:
		f->what = "exhausted";
		wait_on_item(rows, &s->approval, JOURNAL_WAIT_EXHAUSTED, f);
		return true;
	case JOURNAL_STEP_S_COMMITTED:
	case JOURNAL_STEP_S_DENIED:
	case JOURNAL_STEP_S_FAILED:
	case JOURNAL_STEP_S_CANCELLED:
		if (digest_is_zero(&s->diverged))
			return false;
		f->what = "diverged";
		wait_on_item(rows, &s->approval, JOURNAL_WAIT_DIVERGED, f);
		return true;
	case JOURNAL_STEP_S_COUNT:
		break;
	}
	return false;
}

static bool landing_flight(const struct journal_state *rows, const struct journal_run *run,
			   struct status_flight *f)
{
	*f = (struct status_flight){0};
	switch (run->landing) {
	case JOURNAL_LANDING_S_LANDING:
		f->what = "landing";
		return true;
	case JOURNAL_LANDING_S_UNDOING:
		f->what = "undoing";
		return true;
	case JOURNAL_LANDING_S_CONFLICT:
		f->what = "conflict";
		wait_on_item(rows, &run->landing_approval, JOURNAL_WAIT_CONFLICT, f);
		return true;
	case JOURNAL_LANDING_S_UNLANDED:
		if (id_is_zero(&run->landing_approval))
			return false;
		f->what = "landing asks";
		wait_on_item(rows, &run->landing_approval, JOURNAL_WAIT_APPROVAL, f);
		return true;
	case JOURNAL_LANDING_S_LANDED:
	case JOURNAL_LANDING_S_DROPPED:
	case JOURNAL_LANDING_S_UNDONE:
	case JOURNAL_LANDING_S_COUNT:
		break;
	}
	return false;
}

static const char *ended_event(const struct journal_attempt *a)
{
	static const char *const by_state[JOURNAL_ATTEMPT_S_COUNT] = {
		[JOURNAL_ATTEMPT_S_NOT_STARTED] = "ATTEMPT_NOT_STARTED",
		[JOURNAL_ATTEMPT_S_EXITED] = "ATTEMPT_EXITED",
		[JOURNAL_ATTEMPT_S_TIMED_OUT] = "ATTEMPT_TIMED_OUT",
		[JOURNAL_ATTEMPT_S_OOM] = "ATTEMPT_OOM",
		[JOURNAL_ATTEMPT_S_KILLED] = "ATTEMPT_KILLED",
		[JOURNAL_ATTEMPT_S_SUSPENDED] = "ATTEMPT_SUSPENDED",
		[JOURNAL_ATTEMPT_S_LOST] = "ATTEMPT_LOST"};

	return by_state[a->state];
}

/* The record that brought the step where it is: that of its state_lsn. */
static const char *step_event(const struct journal_step *s, const struct journal_attempt *a)
{
	static const char *const by_state[JOURNAL_STEP_S_COUNT] = {
		[JOURNAL_STEP_S_DECLARED] = "STEP_DECLARED",
		[JOURNAL_STEP_S_GATED] = "STEP_GATED",
		[JOURNAL_STEP_S_RUNNABLE] = "STEP_RUNNABLE",
		[JOURNAL_STEP_S_ACTIVE] = "ATTEMPT_STARTED",
		[JOURNAL_STEP_S_WAITING] = "STEP_WAITING",
		[JOURNAL_STEP_S_BACKOFF] = "STEP_BACKOFF",
		[JOURNAL_STEP_S_SEALED] = "STEP_SEALED",
		[JOURNAL_STEP_S_CHECKING] = "STEP_CHECKING",
		[JOURNAL_STEP_S_REJECTED] = "STEP_REJECTED",
		[JOURNAL_STEP_S_GATED_COMMIT] = "STEP_GATED_COMMIT",
		[JOURNAL_STEP_S_EXHAUSTED] = "STEP_EXHAUSTED",
		[JOURNAL_STEP_S_COMMITTED] = "STEP_COMMITTED"};

	if (s->state == JOURNAL_STEP_S_ACTIVE && a && ended_event(a))
		return ended_event(a);
	return by_state[s->state];
}

/* ---- effects ---- */

const char *status_approver(const struct journal_state *rows, const struct journal_effect *f)
{
	const struct journal_approval *a = item_of(rows, &f->approval);

	if (f->by)
		return f->by;
	for (uint32_t i = a ? a->vote_count : 0; i-- > 0;)
		if (a->votes[i].decision == JOURNAL_DECISION_APPROVE && a->votes[i].principal)
			return a->votes[i].principal;
	return NULL;
}

static void effect_flight(const struct journal_state *rows, const struct journal_run *run,
			  const struct journal_effect *x, struct status_flight *f)
{
	*f = (struct status_flight){.step = run->steps[x->step],
				    .effect = x,
				    .since_ns = x->proposed_ns};
	switch (x->state) {
	case JOURNAL_EFFECT_S_WAITING:
		f->what = "effect waits";
		wait_on_item(rows, &x->approval, JOURNAL_WAIT_APPROVAL, f);
		return;
	case JOURNAL_EFFECT_S_IN_DOUBT:
		f->what = "effect in doubt";
		wait_on_item(rows, &x->doubt, JOURNAL_WAIT_DOUBT, f);
		f->since_ns = x->ended_ns;
		return;
	case JOURNAL_EFFECT_S_RESERVED:
		f->what = "effect sent";
		f->since_ns = x->reserved_ns;
		return;
	case JOURNAL_EFFECT_S_ALLOWED:
		f->what = "effect allowed";
		if (item_of(rows, &x->approval))
			f->due_ns = item_of(rows, &x->approval)->execute_by_ns;
		return;
	case JOURNAL_EFFECT_S_PROPOSED:
	case JOURNAL_EFFECT_S_DENIED:
	case JOURNAL_EFFECT_S_WITHDRAWN:
	case JOURNAL_EFFECT_S_CONFIRMED:
	case JOURNAL_EFFECT_S_REFUSED:
	case JOURNAL_EFFECT_S_ABANDONED:
	case JOURNAL_EFFECT_S_COMPENSATED:
	case JOURNAL_EFFECT_S_COUNT:
		f->what = "effect proposed";
		return;
	}
}

/* What may be done with an effect that is open, were it lost now. */
static struct status_open effect_open(const struct journal_run *run, const struct journal_effect *x)
{
	struct status_open o = {.step = run->steps[x->step],
				.effect = x,
				.attempt = x->attempt,
				.class = STATUS_HUMAN_ONLY,
				.event = "EFFECT_RESERVED",
				.lsn = x->reserved_lsn};

	if (x->state == JOURNAL_EFFECT_S_IN_DOUBT) {
		o.event = "EFFECT_IN_DOUBT";
		o.lsn = x->outcome_lsn;
	} else if (x->state != JOURNAL_EFFECT_S_RESERVED) {
		o.class = STATUS_SAFE;
		o.event = x->state == JOURNAL_EFFECT_S_WAITING	 ? "EFFECT_WAITING"
			  : x->state == JOURNAL_EFFECT_S_ALLOWED ? "EFFECT_ALLOWED"
								 : "EFFECT_PROPOSED";
		o.lsn = x->state_lsn;
		o.rule = "nothing of it was sent: it is reserved on disk first";
		return o;
	}
	switch (x->retry) {
	case JOURNAL_RETRY_SAFE:
		o.class = STATUS_SAFE;
		o.rule = "retry: safe; sending it twice does no harm";
		break;
	case JOURNAL_RETRY_KEYED:
		o.class = STATUS_SAFE_SAME_KEY;
		o.until_ns = x->reserved_ns + (int64_t)x->window_ms * 1000000;
		o.rule =
			"retry: keyed; the other side knows the key inside its window, and past it "
			"a person says";
		break;
	case JOURNAL_RETRY_PROBE:
		o.class = STATUS_PROBE_FIRST;
		o.rule = "retry: probe; its tool tells whether it happened";
		break;
	case JOURNAL_RETRY_NEVER:
	case JOURNAL_RETRY_COUNT:
		o.rule = "retry: never; it may have happened, and a person says";
		break;
	}
	return o;
}

static void add_effects(const struct journal_state *rows, struct status *s)
{
	const struct journal_run *run = s->run;

	for (uint32_t i = run->effect_count; i-- > 0;) {
		const struct journal_effect *x = run->effects[i];
		bool done = x->state == JOURNAL_EFFECT_S_CONFIRMED ||
			    x->state == JOURNAL_EFFECT_S_COMPENSATED;

		s->effects_done += done;
		s->effects_denied += x->state == JOURNAL_EFFECT_S_DENIED;
		s->effects_failed += x->state == JOURNAL_EFFECT_S_REFUSED ||
				     x->state == JOURNAL_EFFECT_S_ABANDONED;
		if (done && s->effect_count < STATUS_EFFECTS_MAX)
			s->effects[s->effect_count++] = x;
	}
	for (size_t i = 0; i < s->effect_count / 2; i++) {
		const struct journal_effect *x = s->effects[i];

		s->effects[i] = s->effects[s->effect_count - 1 - i];
		s->effects[s->effect_count - 1 - i] = x;
	}
	for (uint32_t i = 0; i < run->open_count; i++) {
		s->effects_in_doubt += run->open[i]->state == JOURNAL_EFFECT_S_IN_DOUBT;
		effect_flight(rows, run, run->open[i], &s->in_flight[s->in_flight_count++]);
		s->open[s->open_count++] = effect_open(run, run->open[i]);
	}
}

/* What is not committed may run again: what its attempts did outside is answered from the journal.
 * A person's item is a person's. */
static struct status_open step_open(const struct journal_step *s)
{
	const struct journal_attempt *a = last_attempt(s);
	struct status_open o = {.step = s,
				.event = step_event(s, a),
				.lsn = s->state_lsn,
				.attempt = a ? a->number : 0};

	if (!digest_is_zero(&s->diverged)) {
		o.class = STATUS_HUMAN_ONLY;
		o.rule = "it was declared again with another input: a person decides";
		o.event = "STEP_DIVERGED";
		o.lsn = s->diverged_lsn;
		return o;
	}
	switch (s->state) {
	case JOURNAL_STEP_S_GATED:
	case JOURNAL_STEP_S_GATED_COMMIT:
	case JOURNAL_STEP_S_EXHAUSTED:
	case JOURNAL_STEP_S_WAITING:
		o.class = STATUS_HUMAN_ONLY;
		o.rule = "a person decides whether it goes on";
		break;
	case JOURNAL_STEP_S_SEALED:
	case JOURNAL_STEP_S_CHECKING:
		o.class = STATUS_SAFE;
		o.rule = "a check reads a sealed layer and changes nothing";
		break;
	case JOURNAL_STEP_S_DECLARED:
	case JOURNAL_STEP_S_RUNNABLE:
	case JOURNAL_STEP_S_ACTIVE:
	case JOURNAL_STEP_S_BACKOFF:
	case JOURNAL_STEP_S_REJECTED:
	case JOURNAL_STEP_S_COMMITTED: /* those that are final are open only while diverged */
	case JOURNAL_STEP_S_DENIED:
	case JOURNAL_STEP_S_FAILED:
	case JOURNAL_STEP_S_CANCELLED:
	case JOURNAL_STEP_S_COUNT:
		o.class = STATUS_SAFE;
		o.rule = "an attempt that is lost leaves no trace inside, and what it did outside "
			 "is "
			 "answered from the journal";
		break;
	}
	return o;
}

static struct status_open landing_open(const struct journal_state *rows,
				       const struct journal_run *run)
{
	const struct journal_approval *item = item_of(rows, &run->landing_approval);
	struct status_open o = {.class = STATUS_SAFE, .lsn = run->landing_lsn};

	switch (run->landing) {
	case JOURNAL_LANDING_S_LANDING:
		o.rule = "a landing is done again from its plan: each path is before or after";
		o.event = "LANDING_STARTED";
		break;
	case JOURNAL_LANDING_S_UNDOING:
		o.rule = "an undoing is done again from its plan: each path is before or after";
		o.event = "UNDO_STARTED";
		break;
	case JOURNAL_LANDING_S_CONFLICT:
		o.class = STATUS_HUMAN_ONLY;
		o.rule = "a path changed on both sides, or cannot be changed: a person decides";
		o.event = run->conflict_undo ? "UNDO_CONFLICT" : "LANDING_CONFLICT";
		break;
	case JOURNAL_LANDING_S_UNLANDED:
		o.class = STATUS_HUMAN_ONLY;
		o.rule = "a person decides whether it lands";
		o.event = "APPROVAL_OPENED";
		o.lsn = item ? item->opened_lsn : 0;
		break;
	case JOURNAL_LANDING_S_LANDED:
	case JOURNAL_LANDING_S_DROPPED:
	case JOURNAL_LANDING_S_UNDONE:
	case JOURNAL_LANDING_S_COUNT:
		o.class = STATUS_NEVER;
		break;
	}
	return o;
}

int status_of(const struct journal_state *rows, const struct journal_run *run, struct status **ret)
{
	AUTO(status_free) struct status *s = calloc(1, sizeof(*s));
	struct status_flight f;

	if (!s)
		return -ENOMEM;
	s->run = run;
	s->done = calloc(run->step_count + 1, sizeof(*s->done));
	s->in_flight = calloc(run->step_count + run->open_count + 1ul, sizeof(*s->in_flight));
	s->open = calloc(run->step_count + run->open_count + 1ul, sizeof(*s->open));
	s->effects = calloc(STATUS_EFFECTS_MAX, sizeof(*s->effects));
	if (!s->effects || !s->done || !s->in_flight || !s->open ||
	    queue_of(rows, &run->id, &s->needs_person, &s->needs_person_count) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < run->step_count; i++) {
		const struct journal_step *step = run->steps[i];

		if (step->state == JOURNAL_STEP_S_COMMITTED)
			s->done[s->done_count++] = step;
		s->steps_failed += step->state == JOURNAL_STEP_S_FAILED ||
				   step->state == JOURNAL_STEP_S_DENIED;
		if (!step_flight(rows, step, &f))
			continue;
		s->in_flight[s->in_flight_count++] = f;
		s->open[s->open_count++] = step_open(step);
	}
	add_effects(rows, s);
	if (landing_flight(rows, run, &f)) {
		s->in_flight[s->in_flight_count++] = f;
		s->open[s->open_count++] = landing_open(rows, run);
	}
	if (s->done_count)
		qsort(s->done, s->done_count, sizeof(*s->done), by_commit);
	s->exit = status_exit(rows, run);
	*ret = take_ptr(s);
	return 0;
}

void status_free(struct status *s)
{
	if (!s)
		return;
	free(s->done);
	free(s->in_flight);
	free(s->effects);
	free(s->open);
	free(s->needs_person);
	free(s);
}

/* ---- the exit status ---- */

/* The word before the colon of why an attempt did not start (attempts.h). */
static int exit_of_not_started(const char *why)
{
	static const struct {
		const char *kind;
		int exit;
	} kinds[] = {
		{"exec:", EXIT_STATUS_STEP_FAILED},   {"spec:", EXIT_STATUS_STEP_FAILED},
		{"denied:", EXIT_STATUS_DENIED},      {"limit:", EXIT_STATUS_LIMIT},
		{"workspace:", EXIT_STATUS_CONFLICT},
	};

	for (size_t i = 0; why && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strncmp(why, kinds[i].kind, strlen(kinds[i].kind)) == 0)
			return kinds[i].exit;
	return EXIT_STATUS_SANDBOX;
}

static int exit_of_failed_step(const struct journal_step *s)
{
	const struct journal_attempt *a = last_attempt(s);

	if (s->state == JOURNAL_STEP_S_DENIED)
		return EXIT_STATUS_DENIED;
	if (!a)
		return EXIT_STATUS_STEP_FAILED;
	switch (a->state) {
	case JOURNAL_ATTEMPT_S_NOT_STARTED:
		return exit_of_not_started(a->why);
	case JOURNAL_ATTEMPT_S_TIMED_OUT:
	case JOURNAL_ATTEMPT_S_OOM:
	case JOURNAL_ATTEMPT_S_KILLED:
		return EXIT_STATUS_LIMIT;
	case JOURNAL_ATTEMPT_S_EXITED: /* it ended well, and was refused: by its contract */
		return a->exit_code == 0 && a->signal == 0 ? EXIT_STATUS_CONTRACT
							   : EXIT_STATUS_STEP_FAILED;
	case JOURNAL_ATTEMPT_S_STARTING:
	case JOURNAL_ATTEMPT_S_LIVE:
	case JOURNAL_ATTEMPT_S_FROZEN:
	case JOURNAL_ATTEMPT_S_SUSPENDED:
	case JOURNAL_ATTEMPT_S_LOST:
	case JOURNAL_ATTEMPT_S_COUNT:
		break;
	}
	return EXIT_STATUS_STEP_FAILED;
}

static int exit_of_failed(const struct journal_run *run)
{
	for (uint32_t i = 0; i < run->step_count; i++)
		if (run->steps[i]->state == JOURNAL_STEP_S_FAILED ||
		    run->steps[i]->state == JOURNAL_STEP_S_DENIED)
			return exit_of_failed_step(run->steps[i]);
	return EXIT_STATUS_STEP_FAILED;
}

struct landing_search {
	const struct journal_id *run;
	const struct journal_approval *last;
};

static int last_landing_item(const struct journal_approval *a, void *arg)
{
	struct landing_search *s = arg;

	if (journal_id_equal(&a->run, s->run) &&
	    (a->kind == JOURNAL_KIND_LANDING || a->kind == JOURNAL_KIND_CONFLICT))
		s->last = a;
	return 0;
}

/* Dropped because a person or a clock said no, or because there was nothing. */
static int exit_of_dropped(const struct journal_state *rows, const struct journal_run *run)
{
	struct landing_search s = {.run = &run->id};

	journal_state_each_approval(rows, last_landing_item, &s);
	return s.last && (s.last->state == JOURNAL_APPROVAL_S_DENIED ||
			  s.last->state == JOURNAL_APPROVAL_S_EXPIRED)
		       ? EXIT_STATUS_DENIED
		       : EXIT_STATUS_OK;
}

/* Paused because no step of it can stand on its layers (engine_attempt_held). */
static bool is_held(const struct journal_run *run)
{
	static const char held[] = ENGINE_HELD_LAYERS ": ";

	return run->why && strncmp(run->why, held, strlen(held)) == 0;
}

int status_exit(const struct journal_state *rows, const struct journal_run *run)
{
	unsigned person = JOURNAL_WAIT_APPROVAL | JOURNAL_WAIT_EXHAUSTED | JOURNAL_WAIT_DIVERGED;

	if (run->landing == JOURNAL_LANDING_S_CONFLICT)
		return EXIT_STATUS_CONFLICT;
	/* What nobody knows comes before how the run ended. */
	for (uint32_t i = 0; i < run->open_count; i++)
		if (run->open[i]->state == JOURNAL_EFFECT_S_IN_DOUBT)
			return EXIT_STATUS_IN_DOUBT;
	switch (run->state) {
	case JOURNAL_RUN_S_WAITING:
		return run->waits & JOURNAL_WAIT_DOUBT ? EXIT_STATUS_IN_DOUBT
		       : run->waits & person	       ? EXIT_STATUS_WAITING
						       : EXIT_STATUS_OK;
	case JOURNAL_RUN_S_PAUSED:
		return is_held(run) || run->landing_failed ? EXIT_STATUS_SANDBOX
							   : EXIT_STATUS_WAITING;
	case JOURNAL_RUN_S_CANCELLING:
	case JOURNAL_RUN_S_CANCELLED:
		return EXIT_STATUS_STEP_FAILED;
	case JOURNAL_RUN_S_FAILED:
		return exit_of_failed(run);
	case JOURNAL_RUN_S_SUCCEEDED:
		return run->landing == JOURNAL_LANDING_S_DROPPED ? exit_of_dropped(rows, run)
								 : EXIT_STATUS_OK;
	case JOURNAL_RUN_S_CREATED:
	case JOURNAL_RUN_S_RUNNING:
	case JOURNAL_RUN_S_COUNT:
		break;
	}
	return EXIT_STATUS_OK;
}
