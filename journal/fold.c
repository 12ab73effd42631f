/*
 * journal_fold(): the only code that changes rows, live and on recovery alike. Pure.
 *
 * Every function here checks first and changes afterwards, so that a refused record leaves the
 * state as it was. What a state means stands above its enum in journal.h; which event leads where
 * is state.c. Steps and attempts are fold_step.c, approvals fold_approval.c, effects fold_effect.c.
 */
#include "journal/fold.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "base/guard.h"
#include "journal/heads.h"
#include "journal/record.h"
#include "journal/state.h"

static const struct journal_id no_id;
static const struct digest no_digest;

int journal_fold_refuse(struct error *err, const struct journal_record *r, const char *why)
{
	char id[JOURNAL_ID_TEXT_SIZE];
	const char *name = journal_type_name(r->type);
	return error_set(err, -EPROTO, "%s (lsn %llu, run %.8s, step %d, attempt %u): %s",
			 name ? name : "record", (unsigned long long)r->lsn,
			 journal_id_text(&r->run, id),
			 r->step == JOURNAL_NO_STEP ? -1 : (int)r->step, r->attempt, why);
}

int journal_fold_refuse_transition(struct error *err, const struct journal_record *r,
				   const char *what, const char *state)
{
	char why[96];
	snprintf(why, sizeof(why), "not allowed while the %s is %s", what,
		 state ? state : "in an unknown state");
	return journal_fold_refuse(err, r, why);
}

/* ---- Small setters ---- */

int journal_fold_set_text(char **to, struct bytes text)
{
	char *copy = bytes_dup_str(text);
	if (!copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

int journal_fold_set_why(char **to, const struct journal_record *r)
{
	if (JOURNAL_HAS(&r->p, why))
		return journal_fold_set_text(to, r->p.why);
	free(*to);
	*to = NULL;
	return 0;
}

static bool layer_fits(struct bytes name)
{
	return name.len < JOURNAL_LAYER_NAME_SIZE && !(name.len && memchr(name.data, 0, name.len));
}

static int mark_run(struct journal_state *s, const struct journal_run *run)
{
	return journal_rows_mark(s,
				 (struct journal_change){.kind = JOURNAL_ROW_RUN, .run = run->id});
}

/* ---- Runs ---- */

static int copy_creation(struct journal_run *run, const struct journal_record *r)
{
	const struct journal_payload *p = &r->p;
	if (JOURNAL_HAS(p, name) && journal_fold_set_text(&run->name, p->name) < 0)
		return -ENOMEM;
	if (JOURNAL_HAS(p, workspace) && journal_fold_set_text(&run->workspace, p->workspace) < 0)
		return -ENOMEM;
	if (JOURNAL_HAS(p, fork_at) && journal_fold_set_text(&run->fork_at, p->fork_at) < 0)
		return -ENOMEM;
	if (JOURNAL_HAS(p, request)) {
		char *copy = bytes_dup_str(p->request);
		if (!copy)
			return -ENOMEM;
		run->request = bytes_of(copy, p->request.len);
	}
	return 0;
}

static int create_run(struct journal_state *s, const struct journal_record *r, struct error *err)
{
	const struct journal_payload *p = &r->p;
	if (p->land > JOURNAL_LAND_NEVER || p->base > JOURNAL_BASE_PINNED ||
	    p->agency > JOURNAL_AGENCY_MAX)
		return journal_fold_refuse(err, r, "land, base or agency is out of range");
	struct journal_run *run = calloc(1, sizeof(*run));
	if (!run || copy_creation(run, r) < 0) {
		journal_rows_free_run(run);
		return -ENOMEM;
	}
	run->id = r->run;
	run->state = JOURNAL_RUN_S_CREATED;
	run->landing = JOURNAL_LANDING_S_UNLANDED;
	run->land = (enum journal_land)p->land;
	run->base = (enum journal_base)p->base;
	run->agency = (unsigned)p->agency;
	run->plan = p->plan;
	run->policy = p->policy;
	run->environ = p->environ;
	run->context = p->context;
	run->ws_dev = p->ws_dev;
	run->ws_ino = p->ws_ino;
	run->ws_uid = p->ws_uid;
	run->uid = r->actor_uid;
	run->parent = p->parent;
	run->created_ns = r->wall_ns;
	run->created_mono_ns = r->mono_ns;
	memcpy(run->boot_id, r->boot_id, sizeof(run->boot_id));
	run->started_ns = p->started_ns;
	return journal_rows_add_run(s, run);
}

void journal_fold_forget_failure(struct journal_run *run)
{
	free(run->landing_failed);
	run->landing_failed = NULL;
}

/* The one setter of a run's state. */
static int set_run(struct journal_run *run, enum journal_run_state next,
		   const struct journal_record *r)
{
	if (next == JOURNAL_RUN_S_PAUSED && run->state != JOURNAL_RUN_S_PAUSED)
		run->paused_from = run->state;
	if (next == JOURNAL_RUN_S_RUNNING || journal_run_final(next))
		run->waits = 0;
	if (journal_run_final(next))
		run->ended_ns = r->wall_ns;
	if (next == JOURNAL_RUN_S_RUNNING && run->started_ns == 0)
		run->started_ns = r->wall_ns;
	if (r->type == JOURNAL_RUN_RESUMED) {
		run->starts_without_progress = 0;
		journal_fold_forget_failure(run);
	}
	run->state = next;
	return journal_fold_set_why(&run->why, r);
}

static int run_event(struct journal_run *run, const struct journal_record *r, struct error *err)
{
	int next = journal_state_next_run(run->state, r->type);
	if (next < 0)
		return journal_fold_refuse_transition(err, r, "run",
						      journal_run_state_name(run->state));
	if (r->type == JOURNAL_RUN_WAITING && r->p.waits == 0)
		return journal_fold_refuse(err, r, "it waits for nothing");
	if (r->type == JOURNAL_RUN_AGENCY) {
		if (r->p.agency > JOURNAL_AGENCY_MAX)
			return journal_fold_refuse(err, r, "agency is out of range");
		run->agency = (unsigned)r->p.agency;
		TAKE(run, r, context);
		return 0;
	}
	if (r->type == JOURNAL_RUN_RESUMED)
		next = (int)run->paused_from;
	if (journal_run_final((enum journal_run_state)next) &&
	    journal_effect_blocks(run, JOURNAL_NO_STEP, false))
		return journal_fold_refuse(err, r, "an effect of it was sent and has no outcome");
	int rc = set_run(run, (enum journal_run_state)next, r);
	TAKE(run, r, started_ns);
	if (JOURNAL_HAS(&r->p, waits))
		run->waits = (unsigned)r->p.waits;
	return rc;
}

static int landing_event(struct journal_run *run, const struct journal_record *r, struct error *err)
{
	int next = journal_state_next_landing(run->landing, r->type);
	bool conflict = run->landing == JOURNAL_LANDING_S_CONFLICT,
	     undo = r->type == JOURNAL_UNDO_STARTED || r->type == JOURNAL_UNDO_CONFLICT,
	     failed = r->type == JOURNAL_LANDING_FAILED,
	     wanted = r->type == JOURNAL_LANDING_WANTED,
	     wrong_way =
		     !failed && r->type != JOURNAL_LANDING_DROPPED && undo != run->conflict_undo;
	if (next < 0 || (conflict && wrong_way))
		return journal_fold_refuse_transition(err, r, "landing",
						      journal_landing_state_name(run->landing));
	if (run->state == JOURNAL_RUN_S_CREATED)
		return journal_fold_refuse(err, r, "the run was never started");
	if (wanted && !journal_run_final(run->state))
		return journal_fold_refuse(err, r, "the run is not over, and lands by itself");
	run->landing_wanted = wanted;
	if (failed)
		return journal_fold_set_text(&run->landing_failed, r->p.why);
	if (conflict && run->conflict_undo && r->type == JOURNAL_LANDING_DROPPED)
		next = JOURNAL_LANDING_S_LANDED; /* its undoing was dropped */
	journal_fold_forget_failure(run);
	if (wanted)
		return 0;
	run->landing = (enum journal_landing_state)next;
	run->landing_lsn = r->lsn;
	run->conflict_undo = r->type == JOURNAL_UNDO_CONFLICT;
	if (JOURNAL_HAS(&r->p, redo))
		run->redo = r->p.redo;
	if (JOURNAL_HAS(&r->p, result))
		run->landing_result = r->p.result;
	run->conflicts = JOURNAL_HAS(&r->p, conflicts) ? r->p.conflicts : no_digest;
	return 0;
}

/* ---- Grants ---- */

bool journal_grant_holds(const struct journal_grant *g, int64_t now_ns)
{
	return !g->revoked && (g->deny || g->uses > 0) &&
	       (g->expires_ns == 0 || now_ns < g->expires_ns);
}

static struct journal_grant *find_grant(struct journal_run *run, const struct journal_id *id)
{
	for (uint32_t i = 0; i < run->grant_count; i++)
		if (journal_id_equal(&run->grants[i].id, id))
			return &run->grants[i];
	return NULL;
}

static int make_grant(struct journal_state *s, struct journal_run *run,
		      const struct journal_record *r, struct error *err)
{
	const struct journal_payload *p = &r->p;
	if (r->step != JOURNAL_NO_STEP && r->step >= run->step_count)
		return journal_fold_refuse(err, r, "no such step");
	if (find_grant(run, &p->grant))
		return journal_fold_refuse(err, r, "a grant has this id already");
	if (run->grant_count >= JOURNAL_GRANTS_MAX)
		return journal_fold_refuse(err, r, "too many grants");
	if (p->decision != JOURNAL_DECISION_APPROVE && p->decision != JOURNAL_DECISION_DENY)
		return journal_fold_refuse(err, r, "unknown decision");
	struct journal_grant *grown =
		reallocarray(run->grants, run->grant_count + 1ul, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	run->grants = grown;
	struct journal_grant *g = &grown[run->grant_count++];
	*g = (struct journal_grant){
		.id = p->grant,
		.approval = p->approval,
		.step = r->step,
		.deny = p->decision == JOURNAL_DECISION_DENY,
		.pattern = p->pattern,
		.uses = p->uses,
		.made_ns = r->wall_ns,
		.expires_ns = p->expires_ns,
	};
	if (journal_fold_set_text(&g->rule, p->rule) < 0 ||
	    (JOURNAL_HAS(p, at) && journal_fold_set_text(&g->at, p->at) < 0) ||
	    (JOURNAL_HAS(p, principal) && journal_fold_set_text(&g->by, p->principal) < 0) ||
	    (JOURNAL_HAS(p, why) && journal_fold_set_text(&g->why, p->why) < 0))
		return -ENOMEM;
	return mark_run(s, run);
}

static int grant_event(struct journal_state *s, struct journal_run *run,
		       const struct journal_record *r, struct error *err)
{
	struct journal_grant *g = find_grant(run, &r->p.grant);
	if (!g || g->step != r->step)
		return journal_fold_refuse(err, r, "no such grant of this run and step");
	if (g->revoked)
		return journal_fold_refuse(err, r, "the grant was revoked");
	if (r->type == JOURNAL_GRANT_REVOKED) {
		g->revoked = true;
	} else {
		if (g->deny || g->uses == 0)
			return journal_fold_refuse(err, r, "the grant has no use left");
		g->uses--;
	}
	return mark_run(s, run);
}

/* ---- Timers ---- */

static int mark_timer(struct journal_state *s, const struct journal_timer *t)
{
	return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_TIMER,
							    .run = t->run,
							    .id = t->id});
}

static int set_deadline(struct journal_state *s, struct journal_run *run,
			const struct journal_timer *t, int64_t due_ns)
{
	if (t->kind != JOURNAL_TIMER_STEP_DEADLINE || t->step == JOURNAL_NO_STEP)
		return 0;
	run->steps[t->step]->deadline_ns = due_ns;
	return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_STEP,
							    .run = run->id,
							    .step = t->step});
}

static int arm_timer(struct journal_state *s, struct journal_run *run,
		     const struct journal_record *r, struct error *err)
{
	const struct journal_payload *p = &r->p;
	if (r->step != JOURNAL_NO_STEP && r->step >= run->step_count)
		return journal_fold_refuse(err, r, "no such step");
	if (p->timer_kind < JOURNAL_TIMER_BACKOFF || p->timer_kind > JOURNAL_TIMER_KEY_WINDOW)
		return journal_fold_refuse(err, r, "unknown kind of timer");
	if (journal_rows_timer(s, &p->timer))
		return journal_fold_refuse(err, r, "a timer has this id already");
	struct journal_timer *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	*t = (struct journal_timer){
		.id = p->timer,
		.run = r->run,
		.step = r->step,
		.kind = (enum journal_timer_kind)p->timer_kind,
		.state = JOURNAL_TIMER_S_ARMED,
		.due_ns = p->due_ns,
		.approval = p->approval,
	};
	int rc = journal_rows_add_timer(s, t);
	if (rc == 0)
		rc = set_deadline(s, run, t, t->due_ns);
	return rc < 0 ? rc : mark_timer(s, t);
}

static int end_timer(struct journal_state *s, struct journal_run *run,
		     const struct journal_record *r, struct error *err)
{
	struct journal_timer *t = journal_rows_timer(s, &r->p.timer);
	if (!t || !journal_id_equal(&t->run, &r->run))
		return journal_fold_refuse(err, r, "no such timer of this run");
	int next = journal_state_next_timer(t->state, r->type);
	if (next < 0)
		return journal_fold_refuse_transition(
			err, r, "timer", t->state == JOURNAL_TIMER_S_FIRED ? "FIRED" : "CANCELLED");
	journal_rows_timer_ended(s, t);
	t->state = (enum journal_timer_state)next;
	int rc = r->type == JOURNAL_TIMER_CANCELLED ? set_deadline(s, run, t, 0) : 0;
	return rc < 0 ? rc : mark_timer(s, t);
}

/* ---- The daemon's own chain ---- */

static int begin_epoch(struct journal_state *s, const struct journal_record *r, struct error *err)
{
	if (r->epoch <= s->epoch)
		return journal_fold_refuse(err, r, "the epoch does not go forward");
	s->epoch = r->epoch;
	for (size_t i = 0; i < s->runs.count; i++) {
		struct journal_run *run = s->runs.item[i];
		if (run->state != JOURNAL_RUN_S_RUNNING)
			continue;
		run->starts_without_progress++;
		int rc = mark_run(s, run);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int mark_lease(struct journal_state *s, const struct journal_lease *l)
{
	return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_LEASE,
							    .dev = l->ws_dev,
							    .ino = l->ws_ino});
}

static int hold_lease(struct journal_state *s, const struct journal_record *r, struct error *err)
{
	const struct journal_payload *p = &r->p;
	struct journal_lease *l = journal_rows_lease(s, p->ws_dev, p->ws_ino);
	if (l && l->held)
		return journal_fold_refuse_transition(err, r, "lease", "HELD");
	uint64_t last = l ? l->generation : 0,
		 generation = JOURNAL_HAS(p, generation) ? p->generation : last + 1;
	if (generation <= last)
		return journal_fold_refuse(err, r, "the lease's generation does not go forward");
	if (!l) {
		l = calloc(1, sizeof(*l));
		if (!l)
			return -ENOMEM;
		l->ws_dev = p->ws_dev;
		l->ws_ino = p->ws_ino;
		int rc = journal_rows_add_lease(s, l);
		if (rc < 0)
			return rc;
	}
	l->held = true;
	l->holder = p->holder;
	l->generation = generation;
	return mark_lease(s, l);
}

static int free_lease(struct journal_state *s, const struct journal_record *r, struct error *err)
{
	struct journal_lease *l = journal_rows_lease(s, r->p.ws_dev, r->p.ws_ino);
	if (!l || !l->held)
		return journal_fold_refuse_transition(err, r, "lease", "FREE");
	if (JOURNAL_HAS(&r->p, holder) && !journal_id_equal(&r->p.holder, &l->holder))
		return journal_fold_refuse(err, r, "another run holds the lease");
	l->held = false;
	l->holder = no_id;
	return mark_lease(s, l);
}

/* A pin without a digest takes the trust back. */
static int pin_trust(struct journal_state *s, const struct journal_record *r, struct error *err)
{
	AUTO_FREE char *path = bytes_dup_str(r->p.path);
	char *marked = bytes_dup_str(r->p.path);
	if (!path || !marked) {
		free(marked);
		return -ENOMEM;
	}
	struct journal_trust *t = journal_rows_trust(s, path);
	bool gone = !JOURNAL_HAS(&r->p, digest);
	if (gone && !t) {
		free(marked);
		return journal_fold_refuse(err, r, "nothing is pinned there");
	}
	if (gone) {
		journal_rows_remove_trust(s, t);
	} else {
		if (!t) {
			t = calloc(1, sizeof(*t));
			if (!t) {
				free(marked);
				return -ENOMEM;
			}
			t->path = take_ptr(path);
			if (journal_rows_add_trust(s, t) < 0) {
				free(marked);
				return -ENOMEM;
			}
		}
		t->digest = r->p.digest;
		t->uid = r->actor_uid;
		t->at_ns = r->wall_ns;
	}
	return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_TRUST,
							    .gone = gone,
							    .path = marked});
}

static int drop_run(const struct journal_head *head, void *arg)
{
	struct journal_state *s = arg;
	journal_rows_remove_run(s, &head->run);
	return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_RUN,
							    .gone = true,
							    .run = head->run});
}

static int check_droppable(const struct journal_head *head, void *arg)
{
	const struct journal_run *run = journal_rows_run(arg, &head->run);
	return run && !journal_run_settled(run) ? 1 : 0;
}

static int drop_runs(struct journal_state *s, const struct journal_record *r, struct error *err)
{
	int rc = journal_heads_each(r->p.heads, check_droppable, s);
	if (rc != 0)
		return journal_fold_refuse(err, r,
					   "it names a run that is not over, or is malformed");
	return journal_heads_each(r->p.heads, drop_run, s);
}

/* ---- The door ---- */

static int chain_check(const struct journal_state *s, const struct journal_run *run,
		       const struct journal_record *r, struct error *err)
{
	bool daemon = journal_id_equal(&r->run, &no_id);
	uint64_t seq = daemon ? s->daemon_seq : run ? run->seq : 0;
	const struct digest *head = daemon ? &s->daemon_head : run ? &run->head : &no_digest;
	if (r->lsn <= s->last_lsn)
		return journal_fold_refuse(err, r, "its lsn does not go forward");
	if (!daemon && !run && r->type != JOURNAL_RUN_CREATED)
		return journal_fold_refuse(err, r, "no such run in memory");
	if (run && r->type == JOURNAL_RUN_CREATED)
		return journal_fold_refuse(err, r, "a run has this id already");
	if (r->seq != seq + 1)
		return journal_fold_refuse(err, r, "it is not the next record of its run");
	if (!digest_equal(&r->prev_hash, head))
		return journal_fold_refuse(
			err, r, "it does not follow from the record before: the chain is broken");
	if (JOURNAL_HAS(&r->p, layer) && !layer_fits(r->p.layer))
		return journal_fold_refuse(err, r, "the layer's name is too long");
	if (r->type != JOURNAL_EPOCH_BEGUN && r->epoch > s->epoch)
		return journal_fold_refuse(err, r, "its epoch never began");
	return 0;
}

/* All but the daemon's own, and the one that makes a run. */
static bool needs_run(enum journal_type type)
{
	return type != JOURNAL_EPOCH_BEGUN && type != JOURNAL_ANCHOR &&
	       type != JOURNAL_TRUST_PINNED && type != JOURNAL_LEASE_HELD &&
	       type != JOURNAL_LEASE_FREED && type != JOURNAL_RUNS_DROPPED &&
	       type != JOURNAL_RUN_CREATED;
}

static int apply(struct journal_state *s, struct journal_run *run, const struct journal_record *r,
		 struct error *err)
{
	switch (r->type) {
	case JOURNAL_EPOCH_BEGUN:
		return begin_epoch(s, r, err);
	case JOURNAL_ANCHOR:
		return 0;
	case JOURNAL_TRUST_PINNED:
		return pin_trust(s, r, err);
	case JOURNAL_LEASE_HELD:
		return hold_lease(s, r, err);
	case JOURNAL_LEASE_FREED:
		return free_lease(s, r, err);
	case JOURNAL_RUNS_DROPPED:
		return drop_runs(s, r, err);
	case JOURNAL_RUN_CREATED:
		return create_run(s, r, err);
	case JOURNAL_RUN_STARTED:
	case JOURNAL_RUN_WAITING:
	case JOURNAL_RUN_CONTINUED:
	case JOURNAL_RUN_PAUSED:
	case JOURNAL_RUN_RESUMED:
	case JOURNAL_RUN_CANCELLING:
	case JOURNAL_RUN_CANCELLED:
	case JOURNAL_RUN_SUCCEEDED:
	case JOURNAL_RUN_FAILED:
	case JOURNAL_RUN_AGENCY:
		return run_event(run, r, err);
	case JOURNAL_STEP_DECLARED:
		return journal_fold_declare_step(s, run, r, err);
	case JOURNAL_STEP_GATED:
	case JOURNAL_STEP_RUNNABLE:
	case JOURNAL_STEP_DENIED:
	case JOURNAL_STEP_BACKOFF:
	case JOURNAL_STEP_EXHAUSTED:
	case JOURNAL_STEP_CHECKING:
	case JOURNAL_STEP_REJECTED:
	case JOURNAL_STEP_GATED_COMMIT:
	case JOURNAL_STEP_COMMITTED:
	case JOURNAL_STEP_FAILED:
	case JOURNAL_STEP_CANCELLED:
	case JOURNAL_STEP_DIVERGED:
	case JOURNAL_STEP_REUSED:
	case JOURNAL_STEP_SEALED:
	case JOURNAL_STEP_WAITING:
		return journal_fold_step(s, run, r, err);
	case JOURNAL_ATTEMPT_STARTED:
		return journal_fold_start_attempt(s, run, r, err);
	case JOURNAL_ATTEMPT_LIVE:
	case JOURNAL_ATTEMPT_NOT_STARTED:
	case JOURNAL_ATTEMPT_ADOPTED:
	case JOURNAL_ATTEMPT_FROZEN:
	case JOURNAL_ATTEMPT_THAWED:
	case JOURNAL_ATTEMPT_EXITED:
	case JOURNAL_ATTEMPT_TIMED_OUT:
	case JOURNAL_ATTEMPT_OOM:
	case JOURNAL_ATTEMPT_KILLED:
	case JOURNAL_ATTEMPT_SUSPENDED:
	case JOURNAL_ATTEMPT_LOST:
		return journal_fold_attempt(s, run, r, err);
	case JOURNAL_GRANT_MADE:
		return make_grant(s, run, r, err);
	case JOURNAL_GRANT_USED:
	case JOURNAL_GRANT_REVOKED:
		return grant_event(s, run, r, err);
	case JOURNAL_APPROVAL_OPENED:
		return journal_fold_open_approval(s, run, r, err);
	case JOURNAL_VOTE_CAST:
	case JOURNAL_APPROVAL_TOLD:
	case JOURNAL_APPROVAL_APPROVED:
	case JOURNAL_APPROVAL_DENIED:
	case JOURNAL_APPROVAL_EXPIRED:
	case JOURNAL_APPROVAL_WITHDRAWN:
	case JOURNAL_APPROVAL_SUPERSEDED:
	case JOURNAL_APPROVAL_CONSUMED:
	case JOURNAL_APPROVAL_LAPSED:
	case JOURNAL_APPROVAL_REVOKED:
		return journal_fold_approval(s, run, r, err);
	case JOURNAL_LANDING_STARTED:
	case JOURNAL_LANDED:
	case JOURNAL_LANDING_CONFLICT:
	case JOURNAL_LANDING_DROPPED:
	case JOURNAL_UNDO_STARTED:
	case JOURNAL_UNDONE:
	case JOURNAL_UNDO_CONFLICT:
	case JOURNAL_LANDING_FAILED:
	case JOURNAL_LANDING_WANTED:
		return landing_event(run, r, err);
	case JOURNAL_EFFECT_PROPOSED:
	case JOURNAL_EFFECT_WAITING:
	case JOURNAL_EFFECT_ALLOWED:
	case JOURNAL_EFFECT_DENIED:
	case JOURNAL_EFFECT_WITHDRAWN:
	case JOURNAL_EFFECT_RESERVED:
	case JOURNAL_EFFECT_CONFIRMED:
	case JOURNAL_EFFECT_REFUSED:
	case JOURNAL_EFFECT_IN_DOUBT:
	case JOURNAL_EFFECT_ABANDONED:
	case JOURNAL_EFFECT_COMPENSATED:
	case JOURNAL_EFFECT_DELIVERED:
	case JOURNAL_EFFECT_ATTACHED:
	case JOURNAL_EFFECT_READS:
		return journal_fold_effect(s, run, r, err);
	case JOURNAL_TIMER_ARMED:
		return arm_timer(s, run, r, err);
	case JOURNAL_TIMER_FIRED:
	case JOURNAL_TIMER_CANCELLED:
		return end_timer(s, run, r, err);
	}
	return journal_fold_refuse(err, r, "unknown type");
}

void journal_state_fill(const struct journal_state *s, struct journal_record *r)
{
	bool daemon = journal_id_equal(&r->run, &no_id);
	const struct journal_run *run = daemon ? NULL : journal_rows_run(s, &r->run);
	r->lsn = s->last_lsn + 1;
	r->seq = (daemon ? s->daemon_seq : run ? run->seq : 0) + 1;
	r->prev_hash = daemon ? s->daemon_head : run ? run->head : no_digest;
	if (r->type != JOURNAL_EPOCH_BEGUN)
		r->epoch = s->epoch;
}

int journal_fold(struct journal_state *s, const struct journal_record *r, const struct digest *hash,
		 struct error *err)
{
	struct error why = {0};
	if (journal_record_check(r, &why) < 0)
		return journal_fold_refuse(err, r, why.msg);
	bool daemon = journal_id_equal(&r->run, &no_id);
	struct journal_run *run = daemon ? NULL : journal_rows_run(s, &r->run);
	int rc = chain_check(s, run, r, err);
	if (rc < 0)
		return rc;
	assert((run != NULL) == needs_run(r->type));
	rc = apply(s, run, r, err);
	if (rc < 0)
		return rc;
	s->last_lsn = r->lsn;
	if (daemon) {
		s->daemon_seq = r->seq;
		s->daemon_head = *hash;
		return journal_rows_mark(s, (struct journal_change){.kind = JOURNAL_ROW_DAEMON});
	}
	run = journal_rows_run(s, &r->run);
	run->seq = r->seq;
	run->head = *hash;
	return mark_run(s, run);
}

const struct journal_step *journal_run_step_of(const struct journal_run *run,
					       const struct journal_id *attempt,
					       uint32_t *ret_attempt)
{
	for (uint32_t i = 0; run && i < run->step_count; i++) {
		const struct journal_step *s = run->steps[i];

		for (uint32_t k = s->attempt_count; k-- > 0;)
			if (journal_id_equal(&s->attempts[k].id, attempt)) {
				if (ret_attempt)
					*ret_attempt = s->attempts[k].number;
				return s;
			}
	}
	return NULL;
}
