/*
 * The engine under everything at once: random plans, outcomes, votes, clocks, crashes between any
 * two records and power cuts. After every input the invariants below must hold; at the end
 * everything answers well, and every run must come to an end.
 *
 *   engine_sim [SIMULATIONS [FIRST_SEED]]     a failure names its seed: engine_sim 1 SEED shows it
 * again
 *
 * Held: a committed step never starts again and never changes; no attempt of a run that nobody
 * named, or that is paused; one active writer a run; one run at a time works in a directory that it
 * may land in; an approval is consumed at most once, in the batch of what it allowed; no layer of a
 * committed step is removed; what is done and who is needed is the same before and after a crash;
 * rows are those of a replay; a run that does not move waits for something it names; an effect that
 * is not safe to repeat happens once at most, and none is sent after its client was told that it is
 * done.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/guard.h"
#include "tests/unit/supervisor/fake.h"

enum { OPS = 90, DRAIN_OPS = 3000, RUNS_MAX = 3, EFFECTS_MAX = 256 };
#define SECOND 1000000000ll

DEFINE_GUARD(struct status *, status_free)

/* What the couriers and the other side know of an effect. */
struct sim_effect {
	struct journal_id id;
	unsigned applied;
	bool confirmed; /* it was recorded so */
	bool sending; /* told to send, and its outcome is not recorded */
	uint64_t lsn, request; /* of that reservation */
	enum engine_outcome outcome;
};

struct sim {
	struct fake f;
	struct sim_effect effects[EFFECTS_MAX];
	size_t effect_count;
	uint64_t requests;
	uint8_t couriers; /* generation */
	bool courier_lost; /* they died, and nobody was told */
	size_t hello; /* runs from here on have heard none since the start */
	uint64_t random;
	struct journal_id runs[RUNS_MAX * 4];
	size_t run_count;
	struct journal_id done[64][2]; /* run, attempt that was committed */
	size_t done_count;
	uint64_t inputs, crashes, cuts, commits;
	bool drain;
};

static struct sim the_sim;
static uint64_t current_seed;

static void tell(struct sim *s)
{
	for (size_t i = 0; i < s->f.log_count; i++)
		fprintf(stderr, "%zu%s run %02x step %d %s\n", i, i == s->f.kept ? " *" : "",
			s->f.log[i].run.b[0],
			s->f.log[i].step == JOURNAL_NO_STEP ? -1 : (int)s->f.log[i].step,
			journal_type_name(s->f.log[i].type));
}

/* The process is about to end: nothing here need be safe in a signal handler. */
static void on_abort(int sig)
{
	(void)sig;
	tell(&the_sim);
	fprintf(stderr, "engine_sim: seed %llu\n", (unsigned long long)current_seed);
}

/* xorshift64*: any seed but 0 */
static uint64_t rnd(struct sim *s, uint64_t below)
{
	s->random ^= s->random >> 12;
	s->random ^= s->random << 25;
	s->random ^= s->random >> 27;
	return (s->random * 2685821657736338717ull >> 33) % below;
}

static bool chance(struct sim *s, unsigned percent)
{
	return rnd(s, 100) < percent;
}

/* ---- invariants ---- */

static const struct journal_attempt *last_attempt(const struct journal_step *st)
{
	return st->attempt_count ? &st->attempts[st->attempt_count - 1] : NULL;
}

static bool lives(const struct journal_attempt *a)
{
	return a && a->state <= JOURNAL_ATTEMPT_S_FROZEN;
}

static bool writes(const struct journal_step *st)
{
	return st->state == JOURNAL_STEP_S_ACTIVE || st->state == JOURNAL_STEP_S_SEALED ||
	       st->state == JOURNAL_STEP_S_CHECKING || st->state == JOURNAL_STEP_S_REJECTED ||
	       st->state == JOURNAL_STEP_S_GATED_COMMIT;
}

static void look_at_command(struct fake *f, const struct engine_command *c)
{
	struct sim *s = f->arg;
	const struct journal_run *run = fake_run(f, &c->run);
	const struct journal_step *st = c->step < run->step_count ? run->steps[c->step] : NULL;

	if (c->kind == ENGINE_START_ATTEMPT) {
		if (!engine_run_named(f->e, &c->run))
			FAKE_FAIL("an attempt of a run that nobody named");
		if (run->state == JOURNAL_RUN_S_PAUSED)
			FAKE_FAIL("an attempt of a paused run");
		if (st->state != (c->check ? JOURNAL_STEP_S_CHECKING : JOURNAL_STEP_S_ACTIVE) ||
		    !journal_id_equal(&last_attempt(st)->id, &c->attempt_id))
			FAKE_FAIL("a start of step %s, which is %s", st->key,
				  journal_step_state_name(st->state));
	}
	if (c->kind == ENGINE_PLAN_LANDING &&
	    (run->state == JOURNAL_RUN_S_PAUSED || run->state == JOURNAL_RUN_S_CANCELLING))
		FAKE_FAIL("a landing is planned for a run that is %s",
			  journal_run_state_name(run->state));
	if (c->kind != ENGINE_REMOVE_LAYER)
		return;
	for (size_t i = 0; i < s->run_count; i++) {
		run = journal_state_run(f->rows, &s->runs[i]);
		for (uint32_t k = 0; run && k < run->step_count; k++)
			if (run->steps[k]->state == JOURNAL_STEP_S_COMMITTED &&
			    strcmp(run->steps[k]->layer, c->layer) == 0)
				FAKE_FAIL("the layer of committed step %s is removed",
					  run->steps[k]->key);
	}
}

static bool carries_out(enum journal_type t)
{
	return t == JOURNAL_ATTEMPT_STARTED || t == JOURNAL_STEP_COMMITTED ||
	       t == JOURNAL_LANDING_STARTED || t == JOURNAL_UNDO_STARTED ||
	       t == JOURNAL_STEP_RUNNABLE || t == JOURNAL_STEP_FAILED ||
	       t == JOURNAL_LANDING_DROPPED || t == JOURNAL_STEP_REUSED ||
	       t == JOURNAL_RUN_CREATED || t == JOURNAL_RUN_FAILED ||
	       t == JOURNAL_EFFECT_RESERVED || t == JOURNAL_EFFECT_CONFIRMED ||
	       t == JOURNAL_EFFECT_REFUSED || t == JOURNAL_EFFECT_ABANDONED;
}

static void check_batch(struct sim *s)
{
	struct fake *f = &s->f;
	const struct fake_batch *b = &f->batches[f->batch_count - 1];
	size_t consumed = 0, carried = 0;

	for (size_t i = b->first; i < b->first + b->count; i++) {
		consumed += f->log[i].type == JOURNAL_APPROVAL_CONSUMED;
		carried += carries_out(f->log[i].type);
		s->commits += f->log[i].type == JOURNAL_STEP_COMMITTED;
	}
	if (consumed > carried)
		FAKE_FAIL("an approval is consumed without what it allowed");
}

static void check_done(struct sim *s, const struct journal_run *run, const struct journal_step *st)
{
	const struct journal_attempt *a = last_attempt(st);

	for (size_t i = 0; i < s->done_count; i++) {
		if (!journal_id_equal(&s->done[i][0], &run->id) || s->done[i][1].b[15] != st->index)
			continue;
		if (memcmp(s->done[i][1].b, a->id.b, 15) != 0)
			FAKE_FAIL("committed step %s has another result", st->key);
		return;
	}
	if (s->done_count == ARRAY_SIZE(s->done))
		return;
	s->done[s->done_count][0] = run->id;
	s->done[s->done_count][1] = a->id;
	s->done[s->done_count++][1].b[15] = (uint8_t)st->index;
}

static void check_not_undone(struct sim *s)
{
	for (size_t i = 0; i < s->done_count; i++) {
		const struct journal_run *run = journal_state_run(s->f.rows, &s->done[i][0]);

		if (!run || run->steps[s->done[i][1].b[15]]->state != JOURNAL_STEP_S_COMMITTED)
			FAKE_FAIL("a committed step is no longer committed");
	}
}

/* What is approved and carried out is consumed; nothing else may still be APPROVED. */
static int check_item(const struct journal_approval *a, void *arg)
{
	const struct journal_run *run = journal_state_run(((struct fake *)arg)->rows, &a->run);
	const struct journal_step *st = a->step == JOURNAL_NO_STEP ? NULL : run->steps[a->step];
	bool done = st ? st->state == JOURNAL_STEP_S_ACTIVE || st->state == JOURNAL_STEP_S_COMMITTED
		       : run->landing == JOURNAL_LANDING_S_LANDING ||
				    run->landing == JOURNAL_LANDING_S_LANDED ||
				    run->landing == JOURNAL_LANDING_S_UNDOING ||
				    run->landing == JOURNAL_LANDING_S_UNDONE;

	if (a->state == JOURNAL_APPROVAL_S_APPROVED && done && a->kind != JOURNAL_KIND_DIVERGED &&
	    a->kind != JOURNAL_KIND_EFFECT) /* which waits for a client */
		FAKE_FAIL("an approval (%s) was carried out and not consumed",
			  journal_approval_kind_name(a->kind));
	if (a->state == JOURNAL_APPROVAL_S_OPEN && journal_run_final(run->state) && st &&
	    a->kind != JOURNAL_KIND_DOUBT)
		FAKE_FAIL("an item of a step is open in a run that is over");
	return 0;
}

static void check_run(struct sim *s, const struct journal_run *run, unsigned *workers)
{
	unsigned writers = 0;
	const struct journal_lease *l = journal_state_lease(s->f.rows, run->ws_dev, run->ws_ino);
	bool given_up = run->landing_failed && journal_run_final(run->state) &&
			!(l && l->held && journal_id_equal(&l->holder, &run->id));
	bool works = !given_up && (run->landing == JOURNAL_LANDING_S_LANDING ||
				   run->landing == JOURNAL_LANDING_S_UNDOING);

	for (uint32_t i = 0; i < run->step_count; i++) {
		const struct journal_step *st = run->steps[i];

		writers += writes(st);
		works |= lives(last_attempt(st)) && engine_land(run) != JOURNAL_LAND_NEVER &&
			 run->base == JOURNAL_BASE_LIVE;
		if (st->state == JOURNAL_STEP_S_COMMITTED)
			check_done(s, run, st);
		if (lives(last_attempt(st)) && st->state != JOURNAL_STEP_S_ACTIVE)
			FAKE_FAIL("an attempt of step %s lives while it is %s", st->key,
				  journal_step_state_name(st->state));
	}
	if (writers > 1)
		FAKE_FAIL("%u writers in one run", writers);
	*workers += works && run->ws_ino == 2;
}

static int note_fork(const struct journal_run *run, void *arg)
{
	struct sim *s = arg;

	for (size_t i = 0; i < s->run_count; i++)
		if (journal_id_equal(&s->runs[i], &run->id))
			return 0;
	if (s->run_count == ARRAY_SIZE(s->runs))
		return 1;
	s->runs[s->run_count++] = run->id;
	return 0;
}

static void check_effects(struct sim *s)
{
	for (size_t i = 0; i < s->effect_count; i++) {
		struct sim_effect *x = &s->effects[i];
		const struct journal_effect *e = journal_state_effect(s->f.rows, &x->id);

		if (!e)
			FAKE_FAIL("an effect that was sent is not known");
		if (e->state != JOURNAL_EFFECT_S_RESERVED || e->reserved_lsn != x->lsn)
			x->sending = false;
		if (e->state == JOURNAL_EFFECT_S_CONFIRMED)
			x->confirmed = true;
		else if (x->confirmed && e->state != JOURNAL_EFFECT_S_COMPENSATED)
			FAKE_FAIL("a confirmed effect is %s", journal_effect_state_name(e->state));
	}
}

static void check(struct sim *s)
{
	struct fake *f = &s->f;
	unsigned workers = 0;

	s->inputs++;
	if (f->dying)
		return;
	check_batch(s);
	journal_state_each_run(f->rows, note_fork, s);
	check_not_undone(s);
	for (size_t i = 0; i < s->run_count; i++) {
		const struct journal_run *run = journal_state_run(f->rows, &s->runs[i]);

		if (run)
			check_run(s, run, &workers);
	}
	journal_state_each_approval(f->rows, check_item, f);
	check_effects(s);
	if (workers > 1)
		FAKE_FAIL("%u runs work in one directory", workers);
	if (s->inputs % 16 == 0)
		fake_check_replay(f);
}

/* It waits for its driver: that is no wait that the engine names. */
static bool driver_idle(struct fake *f, const struct journal_run *run)
{
	AUTO_BUFFER b = {0};
	AUTO(plan_free) struct plan *p = NULL;

	fake_blob_get(f, &run->plan, &b);
	if (plan_decode(buffer_bytes(&b), &p) < 0)
		FAKE_FAIL("plan");
	return p->outside_driver;
}

static bool is_asked(struct sim *s, const struct journal_id *item)
{
	const struct journal_approval *a = journal_state_approval(s->f.rows, item);

	return a &&
	       (a->state == JOURNAL_APPROVAL_S_OPEN || a->state == JOURNAL_APPROVAL_S_APPROVED);
}

/* With nothing under way, what only a person leads on stands in the queue, whether or not somebody
 * named the run since the start. */
static void check_asked(struct sim *s, const struct journal_run *run)
{
	struct fake *f = &s->f;
	int64_t until;

	for (uint32_t k = 0; k < run->step_count; k++) {
		const struct journal_step *st = run->steps[k];

		if ((st->state == JOURNAL_STEP_S_GATED || st->state == JOURNAL_STEP_S_EXHAUSTED ||
		     st->state == JOURNAL_STEP_S_GATED_COMMIT) &&
		    !is_asked(s, &st->approval))
			FAKE_FAIL("nobody is asked about step %s, which is %s", st->key,
				  journal_step_state_name(st->state));
	}
	for (uint32_t k = 0; k < run->open_count; k++) {
		const struct journal_effect *x = run->open[k];

		if (x->state == JOURNAL_EFFECT_S_WAITING && !is_asked(s, &x->approval))
			FAKE_FAIL("nobody is asked about an effect that waits");
		if (x->state == JOURNAL_EFFECT_S_IN_DOUBT &&
		    engine_effect_doubt(x, f->wall_ns, &until) == ENGINE_DOUBT_PERSON &&
		    !is_asked(s, &x->doubt))
			FAKE_FAIL("nobody is asked about an effect in doubt");
	}
	if (run->landing == JOURNAL_LANDING_S_CONFLICT && !is_asked(s, &run->landing_approval))
		FAKE_FAIL("nobody is asked about a conflict");
}

/* A person was told that it lands: it is being asked about, or another run has the workspace. */
static void check_wanted(struct sim *s, const struct journal_run *run)
{
	const struct journal_lease *l = journal_state_lease(s->f.rows, run->ws_dev, run->ws_ino);
	static const struct journal_id none;

	if (journal_id_equal(&run->landing_approval, &none) && !(l && l->held))
		FAKE_FAIL("a landing is wanted, and nothing is under way");
}

/* With nothing under way, a run is over, or it waits for something it names. */
static void check_quiet(struct sim *s)
{
	struct fake *f = &s->f;

	if (f->command_count || f->attempt_count || s->courier_lost || s->hello < s->run_count)
		return;
	for (size_t i = 0; i < s->effect_count; i++)
		if (s->effects[i].sending)
			return;
	for (size_t i = 0; i < s->run_count; i++) {
		const struct journal_run *run = journal_state_run(f->rows, &s->runs[i]);

		if (run && run->landing_wanted)
			check_wanted(s, run);
		if (!run || journal_run_final(run->state) || run->state == JOURNAL_RUN_S_PAUSED)
			continue;
		if (run->state != JOURNAL_RUN_S_CANCELLING)
			check_asked(s, run);
		if (!engine_run_named(f->e, &run->id))
			continue;
		if (run->state == JOURNAL_RUN_S_RUNNING && driver_idle(f, run))
			continue;
		if (run->state != JOURNAL_RUN_S_WAITING || run->waits == 0) {
			for (uint32_t k = 0; k < run->open_count; k++)
				fprintf(stderr,
					"open: step %u attempt %u %s lsn %llu courier %02x request "
					"%llu retry %d\n",
					run->open[k]->step, run->open[k]->attempt,
					journal_effect_state_name(run->open[k]->state),
					(unsigned long long)run->open[k]->reserved_lsn,
					run->open[k]->courier.b[15],
					(unsigned long long)run->open[k]->request,
					run->open[k]->retry);
			FAKE_FAIL("run %02x is %s, and nothing is under way", run->id.b[0],
				  journal_run_state_name(run->state));
		}
	}
}

/* ---- the answers that a crash must not change ---- */

static void answers(struct sim *s, struct buffer *out)
{
	for (size_t i = 0; i < s->run_count; i++) {
		const struct journal_run *run = journal_state_run(s->f.rows, &s->runs[i]);
		AUTO(status_free) struct status *st = NULL;
		char text[JOURNAL_ID_TEXT_SIZE];

		if (!run)
			continue;
		if (status_of(s->f.rows, run, &st) < 0)
			FAKE_FAIL("status");
		for (size_t k = 0; k < st->done_count; k++)
			buffer_printf(out, "%zu done %s\n", i, st->done[k]->key);
		for (size_t k = 0; k < st->needs_person_count; k++)
			buffer_printf(out, "%zu needs %s\n", i,
				      journal_id_text(&st->needs_person[k]->id, text));
		if (st->in_flight_count != st->open_count)
			FAKE_FAIL("something in flight has no answer to: is it safe to retry?");
	}
}

/* ---- the world ---- */

static void make_plan(struct sim *s, struct buffer *out)
{
	static const char *const lands[] = {"auto", "auto", "ask", "never"};
	static const char *const levels[] = {"observe", "draft",  "assist",
					     "assist",	"assist", "trusted"};
	static const char *const retries[] = {
		"", "", ", retry: {max: 2, backoff: 1s..5s}",
		", retry: {max: 4, same_failure: 2, on: [exit, check, timeout]}"};
	static const char *const gates[] = {"", "", "", ", gate: ask", ", gate: commit"};
	static const char *const contracts[] = {"", "", "", ", contract: {checks: [{run: t}]}"};
	size_t n = 1 + rnd(s, 5);

	buffer_printf(out, "version: 1\nland: %s\nagency: %s\nsteps:\n", lands[rnd(s, 4)],
		      levels[rnd(s, 6)]);
	for (size_t i = 0; i < n; i++) {
		buffer_printf(out, "  - {name: s%zu, run: [x]%s%s%s%s", i, retries[rnd(s, 4)],
			      gates[rnd(s, 5)], contracts[rnd(s, 4)],
			      chance(s, 10) ? ", deadline: 30s" : "");
		/* Needs of later positions too, but along one order: the parity first. */
		buffer_append_str(out, ", needs: [");
		for (size_t k = 0, first = 1; k < n; k++)
			if (k != i && (k % 2 < i % 2 || (k % 2 == i % 2 && k < i)) &&
			    chance(s, 40)) {
				buffer_printf(out, "%ss%zu", first ? "" : ", ", k);
				first = 0;
			}
		buffer_append_str(out, "]}\n");
	}
}

/* A run whose steps an outside driver declares. */
static void create_driver(struct sim *s, struct engine_run_request *q)
{
	struct plan p = {.base = -1, .agency = -1, .land = (int)rnd(s, 3), .outside_driver = true};
	AUTO_BUFFER b = {0};
	struct journal_id id;

	if (plan_encode(&p, &b) < 0)
		FAKE_FAIL("plan");
	q->plan_blob = fake_blob_bytes(&s->f, buffer_bytes(&b));
	q->policy_blob = fake_blob(&s->f, "policy");
	q->environ_blob = fake_blob(&s->f, "environ");
	q->workspace = "/w";
	q->land = (enum journal_land)p.land;
	q->agency = 2;
	(void)!engine_run_create(s->f.e, fake_now(&s->f), q, &id, NULL);
}

static bool drive(struct sim *s)
{
	static char *argvs[2][3] = {{"run", "1", NULL}, {"run", "2", NULL}};
	static char *names[] = {"d0", "d1", "d2"};
	const struct journal_id *run = &s->runs[rnd(s, s->run_count)];
	struct plan_step spec = {.name = names[rnd(s, 3)],
				 .argv = argvs[!s->drain && chance(s, 15)]};
	uint32_t step;
	bool reused;

	plan_step_defaults(&spec);
	if (!journal_state_run(s->f.rows, run))
		return false;
	if (chance(s, 20))
		(void)!engine_run_end(s->f.e, fake_now(&s->f), run, 1000, NULL);
	else
		(void)!engine_step_declare(s->f.e, fake_now(&s->f), run, 1000, &spec, &step,
					   &reused, NULL);
	return true;
}

static void create_run(struct sim *s)
{
	AUTO_BUFFER plan = {0};
	struct engine_run_request q = {.uid = 1000,
				       .ws_dev = 1,
				       .ws_ino = chance(s, 70) ? 2 : 3 + s->run_count};

	if (s->run_count >= RUNS_MAX)
		return;
	if (chance(s, 15))
		q.base = JOURNAL_BASE_PINNED;
	make_plan(s, &plan);
	/* known before it exists, because the hooks look at all runs */
	q.id.b[0] = (uint8_t)(s->run_count + 1);
	memcpy(q.id.b + 1, &s->f.ids, sizeof(s->f.ids));
	s->runs[s->run_count++] = q.id;
	if (chance(s, 25))
		create_driver(s, &q);
	else
		fake_create(&s->f, (char *)plan.data, &q);
}

static void end_attempt(struct sim *s, struct fake_attempt *a, bool well)
{
	static const enum journal_attempt_state ends[] = {
		JOURNAL_ATTEMPT_S_EXITED, JOURNAL_ATTEMPT_S_EXITED,    JOURNAL_ATTEMPT_S_EXITED,
		JOURNAL_ATTEMPT_S_EXITED, JOURNAL_ATTEMPT_S_TIMED_OUT, JOURNAL_ATTEMPT_S_OOM,
		JOURNAL_ATTEMPT_S_KILLED, JOURNAL_ATTEMPT_S_LOST};
	struct engine_ended x = {.state = ends[rnd(s, ARRAY_SIZE(ends))],
				 .exit_code = chance(s, 70) ? 0 : 1 + (uint32_t)rnd(s, 2)};

	if (well)
		x = (struct engine_ended){.state = JOURNAL_ATTEMPT_S_EXITED};
	if (a->killed)
		x = (struct engine_ended){.state = JOURNAL_ATTEMPT_S_KILLED};
	x.out = fake_blob(&s->f, "out");
	a->live = false;
	a->ended = true;
	a->end = x;
	(void)!engine_attempt_ended(s->f.e, fake_now(&s->f), &a->id, &x);
	if (!s->f.dying)
		fake_attempt_drop(&s->f, a);
}

static void start_attempt(struct sim *s, const struct fake_command *c)
{
	struct fake *f = &s->f;
	struct digest feedback = fake_blob(f, "feedback");

	if (c->c.check) {
		if (!s->drain && chance(s, 10))
			(void)!engine_check_lost(f->e, fake_now(f), &c->c.attempt_id);
		else if (!s->drain && chance(s, 40))
			(void)!engine_checked(f->e, fake_now(f), &c->c.attempt_id, false, "no",
					      &feedback);
		else
			(void)!engine_checked(f->e, fake_now(f), &c->c.attempt_id, true, NULL,
					      NULL);
		return;
	}
	if (!s->drain && chance(s, 10)) {
		(void)!engine_attempt_not_started(f->e, fake_now(f), &c->c.attempt_id, "no sandbox",
						  chance(s, 70));
		return;
	}
	if (fake_attempt(f, &c->c.attempt_id))
		FAKE_FAIL("one attempt is started twice");
	f->attempts[f->attempt_count++] = (struct fake_attempt){.id = c->c.attempt_id,
								.run = c->c.run,
								.step = c->c.step,
								.live = true};
	(void)!engine_attempt_live(f->e, fake_now(f), &c->c.attempt_id);
}

static void seal(struct sim *s, const struct fake_command *c)
{
	struct fake *f = &s->f;
	struct digest manifest = fake_blob(f, c->c.layer);
	int bad = s->drain || chance(s, 85) ? 0
		  : chance(s, 40)	    ? -EIO
		  : chance(s, 50)	    ? -EPERM
					    : -E2BIG;

	(void)!engine_sealed(f->e, fake_now(f), &c->c.attempt_id, bad, NULL, &manifest, rnd(s, 4),
			     10);
}

static struct digest some_conflicts(struct sim *s)
{
	return chance(s, 50) ? fake_conflicts(&s->f, (const char *const[]){"x", NULL})
			     : fake_conflicts(&s->f, (const char *const[]){"x", "y/z", NULL});
}

static void plan_landing(struct sim *s, const struct fake_command *c)
{
	struct fake *f = &s->f;
	struct digest conflicts = some_conflicts(s),
		      redo = fake_blob(f, chance(s, 50) ? "redo" : "other redo");

	if (!s->drain && chance(s, 15))
		(void)!engine_landing_planned(f->e, fake_now(f), &c->c.run, NULL, &conflicts, false,
					      "changed");
	else if (!s->drain && chance(s, 10))
		(void)!engine_landing_planned(f->e, fake_now(f), &c->c.run, NULL, NULL, false,
					      "I/O error");
	else if (chance(s, 10))
		(void)!engine_landing_planned(f->e, fake_now(f), &c->c.run, NULL, NULL, true, NULL);
	else
		(void)!engine_landing_planned(f->e, fake_now(f), &c->c.run, &redo, NULL, false,
					      NULL);
}

static void apply_landing(struct sim *s, const struct fake_command *c)
{
	struct fake *f = &s->f;
	struct digest conflicts = some_conflicts(s), result = fake_blob(f, "result");

	if (!s->drain && chance(s, 30))
		(void)!engine_landing_done(f->e, fake_now(f), &c->c.run, c->c.undo, NULL,
					   &conflicts, 0, "changed");
	else if (!s->drain && chance(s, 10))
		(void)!engine_landing_done(f->e, fake_now(f), &c->c.run, c->c.undo, NULL, NULL, 0,
					   "I/O error");
	else
		(void)!engine_landing_done(f->e, fake_now(f), &c->c.run, c->c.undo, &result, NULL,
					   2, NULL);
}

/* ---- effects ---- */

static struct journal_id courier_of(const struct sim *s, const struct journal_id *run)
{
	struct journal_id id = *run;

	id.b[15] = (uint8_t)(s->couriers + 1);
	return id;
}

static bool propose(struct sim *s)
{
	static const enum journal_retry retries[] = {JOURNAL_RETRY_NEVER, JOURNAL_RETRY_SAFE,
						     JOURNAL_RETRY_KEYED, JOURNAL_RETRY_PROBE};
	struct fake *f = &s->f;
	const struct fake_attempt *a =
		f->attempt_count ? &f->attempts[rnd(s, f->attempt_count)] : NULL;
	uint64_t what = rnd(s, 5);
	char text[16];
	struct engine_proposal p = {.verdict = what == 4       ? ENGINE_DENY
					       : chance(s, 50) ? ENGINE_ASK
							       : ENGINE_ALLOW,
				    .class = JOURNAL_CLASS_UNKNOWN,
				    .retry = retries[what % 4],
				    .window_ms = 3600000,
				    .header = "k",
				    .title = "t",
				    .request = ++s->requests};
	struct journal_id id;

	if (!a || !a->live || a->killed || s->hello < s->run_count || s->courier_lost)
		return false;
	p.attempt = a->id;
	p.courier = courier_of(s, &a->run);
	snprintf(text, sizeof(text), "%u", (unsigned)what);
	digest_of(bytes_of(text, 1), &p.identity);
	snprintf(text, sizeof(text), "%u%u", (unsigned)what, (unsigned)rnd(s, 2));
	p.canonical = fake_blob(f, text);
	p.action = p.canonical;
	(void)!engine_effect_proposed(f->e, fake_now(f), &p, &id);
	return true;
}

static struct sim_effect *effect_of(struct sim *s, const struct journal_id *id)
{
	for (size_t i = 0; i < s->effect_count; i++)
		if (journal_id_equal(&s->effects[i].id, id))
			return &s->effects[i];
	if (s->effect_count == EFFECTS_MAX)
		return NULL;
	s->effects[s->effect_count] = (struct sim_effect){.id = *id};
	return &s->effects[s->effect_count++];
}

static void send_effect(struct sim *s, const struct engine_command *c)
{
	const struct journal_effect *e = journal_state_effect(s->f.rows, &c->effect);
	struct sim_effect *x = effect_of(s, &c->effect);
	bool twice = e && (e->retry == JOURNAL_RETRY_SAFE || e->retry == JOURNAL_RETRY_KEYED);
	struct journal_id courier;

	if (!e || !x || e->state != JOURNAL_EFFECT_S_RESERVED)
		return;
	courier = courier_of(s, &e->run);
	if (s->courier_lost || !journal_id_equal(&courier, &e->courier))
		return; /* it went to a courier that is dead */
	if (x->sending && x->lsn == e->reserved_lsn)
		FAKE_FAIL("a courier is told twice to send one thing");
	if (x->confirmed)
		FAKE_FAIL("a confirmed effect is sent again");
	x->sending = true;
	x->lsn = e->reserved_lsn;
	x->request = e->request;
	x->outcome = s->drain || chance(s, 50) ? ENGINE_CONFIRMED
		     : chance(s, 60)	       ? ENGINE_IN_DOUBT
					       : ENGINE_REFUSED;
	if (x->outcome == ENGINE_CONFIRMED || (x->outcome == ENGINE_IN_DOUBT && chance(s, 50)))
		x->applied++;
	if (x->applied > 1 && !twice)
		FAKE_FAIL("an effect happened twice");
}

/* A courier says what came of something that it sent. */
static bool say_result(struct sim *s)
{
	for (size_t i = 0; i < s->effect_count; i++) {
		struct sim_effect *x = &s->effects[i];
		struct engine_result r = {.effect = x->id,
					  .request = x->request,
					  .outcome = x->outcome};

		if (!x->sending)
			continue;
		(void)!engine_effect_result(s->f.e, fake_now(&s->f), &r);
		return true;
	}
	return false;
}

/* After a start: every courier says hello, or is known to be dead. */
static bool hello(struct sim *s)
{
	const struct journal_id *run = &s->runs[s->hello];
	struct journal_id sending[EFFECTS_MAX], courier;
	size_t n = 0;

	if (s->hello >= s->run_count)
		return false;
	courier = courier_of(s, run);
	for (size_t i = 0; i < s->effect_count; i++)
		if (s->effects[i].sending)
			sending[n++] = s->effects[i].id;
	(void)!engine_effect_courier(s->f.e, fake_now(&s->f), run,
				     s->courier_lost ? NULL : &courier, sending, n);
	if (s->f.dying)
		return true;
	s->hello++;
	if (s->hello == s->run_count && s->courier_lost) {
		s->courier_lost = false;
		s->hello = 0;
	}
	return true;
}

static void probe(struct sim *s, const struct engine_command *c)
{
	const struct sim_effect *x = effect_of(s, &c->effect);
	enum engine_probe said = chance(s, 30)	   ? ENGINE_PROBE_UNKNOWN
				 : x && x->applied ? ENGINE_PROBE_DONE
						   : ENGINE_PROBE_NOT_DONE;

	(void)!engine_effect_probed(s->f.e, fake_now(&s->f), &c->effect, said, "probe");
}

static bool perform(struct sim *s)
{
	struct fake *f = &s->f;
	struct fake_command c;
	struct fake_attempt *a;
	struct digest card = fake_blob(f, "card");

	if (f->command_count == 0)
		return false;
	fake_take_at(f, rnd(s, f->command_count), &c);
	switch (c.c.kind) {
	case ENGINE_START_ATTEMPT:
		start_attempt(s, &c);
		break;
	case ENGINE_KILL_ATTEMPT:
		a = fake_attempt(f, &c.c.attempt_id);
		if (a)
			a->killed = true;
		break;
	case ENGINE_SEAL:
		seal(s, &c);
		break;
	case ENGINE_CARD:
		(void)!engine_card(f->e, fake_now(f), &c.c.run, c.c.step, c.c.card_kind,
				   &c.c.action, &card, &c.c.object);
		break;
	case ENGINE_PLAN_LANDING:
		plan_landing(s, &c);
		break;
	case ENGINE_APPLY_LANDING:
		apply_landing(s, &c);
		break;
	case ENGINE_SUSPEND:
		a = fake_attempt(f, &c.c.attempt_id);
		if (a)
			a->killed = true;
		break;
	case ENGINE_EFFECT_ANSWER:
		if (c.c.answer == ENGINE_ANSWER_SEND)
			send_effect(s, &c.c);
		else if (c.c.answer == ENGINE_ANSWER_REPLAY && chance(s, 70))
			(void)!engine_effect_delivered(f->e, fake_now(f), &c.c.effect);
		break;
	case ENGINE_EFFECT_PROBE:
		probe(s, &c.c);
		break;
	case ENGINE_REMOVE_LAYER:
	case ENGINE_FORGET_ATTEMPT:
	case ENGINE_EFFECT_RELEASE:
	case ENGINE_FREEZE:
	case ENGINE_THAW:
		break;
	}
	return true;
}

static const char *choice_for(struct sim *s, const struct journal_approval *a)
{
	const struct sim_effect *x;

	switch (a->kind) {
	case JOURNAL_KIND_CONFLICT:
		return s->drain || chance(s, 50) ? "mine" : "theirs"; /* in the end people agree */
	case JOURNAL_KIND_EXHAUSTED:
		return s->drain || chance(s, 50) ? "fail" : "retry";
	case JOURNAL_KIND_DIVERGED:
		return s->drain || chance(s, 40) ? "accept" : chance(s, 50) ? "fork" : "fail";
	case JOURNAL_KIND_STEP_GATE:
	case JOURNAL_KIND_STEP_COMMIT:
	case JOURNAL_KIND_LANDING:
	case JOURNAL_KIND_EFFECT:
		break;
	case JOURNAL_KIND_DOUBT:
		x = effect_of(s, &a->effect);
		return chance(s, 20) ? "abandon" : x && x->applied ? "done" : "not-done";
	}
	return NULL;
}

static bool cast_vote(struct sim *s)
{
	struct fake *f = &s->f;
	const struct journal_approval **items = NULL, *a;
	struct engine_vote v = {.principal = chance(s, 50) ? "uid:1000" : "uid:7", .uid = 7};
	size_t n = 0;

	if (status_queue(f->rows, &items, &n) < 0)
		FAKE_FAIL("queue");
	if (n == 0) {
		free(items);
		return false;
	}
	a = items[rnd(s, n)];
	v.approval = a->id;
	v.card = !s->drain && chance(s, 10) ? fake_blob(f, "another") : a->card;
	v.decision = s->drain || chance(s, 80) ? JOURNAL_DECISION_APPROVE : JOURNAL_DECISION_DENY;
	v.choice = v.decision == JOURNAL_DECISION_APPROVE ? choice_for(s, a) : NULL;
	if (a->kind == JOURNAL_KIND_CONFLICT && chance(s, 50))
		v.path = bytes_str("x");
	free(items);
	(void)!engine_vote(f->e, fake_now(f), &v, NULL);
	return true;
}

static void say(struct sim *s, unsigned what)
{
	struct fake *f = &s->f;
	const struct journal_id *run = &s->runs[rnd(s, s->run_count)];

	if (!journal_state_run(f->rows, run))
		return;
	if (what == 0)
		(void)!engine_run_cancel(f->e, fake_now(f), run, 1000, chance(s, 50), NULL);
	else if (what == 1)
		(void)!engine_run_pause(f->e, fake_now(f), run, 1000, NULL);
	else if (what <= 4)
		(void)!engine_run_resume(f->e, fake_now(f), run, 1000, NULL);
	else if (what == 5)
		(void)!engine_run_agency(f->e, fake_now(f), run, 1000, (unsigned)rnd(s, 5),
					 &journal_state_run(f->rows, run)->context, NULL);
	else if (what == 9 && !journal_state_run(f->rows, run)->landing_failed)
		return; /* in the end what failed is tried again, and nothing else */
	else if (what == 6 || (what == 9 && journal_state_run(f->rows, run)->landing !=
						    JOURNAL_LANDING_S_UNDOING))
		(void)!engine_run_land(f->e, fake_now(f), run, 1000, NULL);
	else
		(void)!engine_run_undo(f->e, fake_now(f), run, 1000, NULL);
}

static void pass_time(struct sim *s)
{
	s->f.wall_ns += (int64_t)rnd(s, 20) * SECOND;
	s->f.mono_ns += SECOND;
	engine_tick(s->f.e, fake_now(&s->f));
}

static void step_once(struct sim *s)
{
	struct fake *f = &s->f;
	uint64_t what = rnd(s, 100);

	if (chance(s, 30) && hello(s))
		return;
	if (chance(s, 20) && say_result(s))
		return;
	if (!s->drain && chance(s, 12) && propose(s))
		return;
	if (s->run_count == 0 || (what < 4 && !s->drain))
		create_run(s);
	else if (what < 46 && perform(s))
		return;
	else if (what < 52 && drive(s))
		return;
	else if (what < 70 && f->attempt_count)
		end_attempt(s, &f->attempts[rnd(s, f->attempt_count)], s->drain);
	else if (what < 82 && cast_vote(s))
		return;
	else if (what < 92)
		pass_time(s);
	else if (s->drain)
		say(s, chance(s, 70) ? 2 : 9);
	else
		say(s, (unsigned)rnd(s, 9));
}

static void crash(struct sim *s)
{
	AUTO_BUFFER before = {0}, after = {0};
	bool was_dying = s->f.dying;

	if (!was_dying)
		answers(s, &before);
	if (chance(s, 25)) {
		s->cuts++;
		s->hello = 0;
		s->courier_lost = true;
		s->couriers++;
		for (size_t i = 0; i < s->effect_count; i++)
			s->effects[i].sending = false;
		fake_power_cut(&s->f, rnd(s, 8), chance(s, 70));
		check(s);
		return;
	}
	s->crashes++;
	s->hello = 0;
	fake_restart(&s->f, chance(s, 70));
	answers(s, &after);
	/* What recovery itself settles may ask nobody: no card is answered before it ends. */
	if (!was_dying && !bytes_equal(buffer_bytes(&before), buffer_bytes(&after)))
		FAKE_FAIL("status before the crash:\n%safter it:\n%s", (char *)before.data,
			  (char *)after.data);
	check(s);
}

static void one_input(struct sim *s)
{
	struct fake *f = &s->f;

	if (!s->drain && chance(s, 8))
		f->die_after = 1 + rnd(s, 12);
	step_once(s);
	if (!fake_flush(f)) {
		crash(s);
		return;
	}
	f->die_after = 0;
	check(s);
	check_quiet(s);
	if (!s->drain && chance(s, 5))
		crash(s);
}

static bool over(struct sim *s)
{
	for (size_t i = 0; i < s->run_count; i++) {
		const struct journal_run *run = journal_state_run(s->f.rows, &s->runs[i]);

		if (run &&
		    (!journal_run_final(run->state) || run->landing == JOURNAL_LANDING_S_LANDING ||
		     run->landing == JOURNAL_LANDING_S_UNDOING ||
		     run->landing == JOURNAL_LANDING_S_CONFLICT))
			return false;
	}
	return true;
}

static void simulate(uint64_t seed, uint64_t totals[4])
{
	struct sim *s = &the_sim;
	size_t i;

	*s = (struct sim){.random = seed * 2654435769u + 88172645463325252ull};
	current_seed = seed;
	fake_init(&s->f);
	s->f.arg = s;
	s->f.on_command = look_at_command;
	s->f.has_rules = true;
	s->f.rules = (struct engine_rules){.quorum = chance(s, 80) ? 1 : 2,
					   .decide_by_ns = chance(s, 50) ? 60 * SECOND : 0,
					   .execute_by_ns = chance(s, 50) ? 20 * SECOND : 0,
					   .unattended_deny = chance(s, 10),
					   .freeze_ns = chance(s, 50) ? 10 * SECOND : 0,
					   .suspend_ns = chance(s, 50) ? 40 * SECOND : 0};
	s->f.limits.live_attempts_max = 1 + (uint32_t)rnd(s, 3);
	fake_restart(&s->f, true);
	for (i = 0; i < OPS; i++)
		one_input(s);
	s->drain = true;
	s->hello = 0;
	fake_restart(&s->f, true);
	for (i = 0; i < DRAIN_OPS && !over(s); i++)
		one_input(s);
	fake_check_replay(&s->f);
	if (!over(s)) {
		FAKE_FAIL("a run never ends");
	}
	totals[0] += s->inputs;
	totals[1] += s->crashes;
	totals[2] += s->cuts;
	totals[3] += s->commits;
	fake_free(&s->f);
}

int main(int argc, char **argv)
{
	uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000;
	uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, totals[4] = {0};

	signal(SIGABRT, on_abort);
	for (uint64_t i = 0; i < n; i++)
		simulate(first + i, totals);
	printf("%llu simulations: %llu inputs, %llu commits, %llu crashes, %llu power cuts\n",
	       (unsigned long long)n, (unsigned long long)totals[0], (unsigned long long)totals[3],
	       (unsigned long long)totals[1], (unsigned long long)totals[2]);
	return totals[3] ? 0 : 1;
}
