/* What clients ask of runs: create, fork, declare, end, resume, pause, cancel. */
#include <errno.h>
#include <stdlib.h>
#include "supervisor/engine_private.h"

/* ---- creating ---- */

struct name_search {
	const char *name;
	const struct journal_run *found;
};

static int match_name(const struct journal_run *run, void *arg)
{
	struct name_search *s = arg;

	if (run->name && strcmp(run->name, s->name) == 0)
		s->found = run;
	return 0;
}

/* Starting is idempotent: the same request, or the same name and plan, is the same run. 1: *ret is
 * set. */
static int find_same(struct engine *e, const struct engine_run_request *q, struct journal_id *ret,
		     struct error *err)
{
	struct name_search s = {.name = q->name};
	const struct journal_run *same =
		q->request.len ? journal_state_run_by_request(e->rows, q->request) : NULL;
	char id[JOURNAL_ID_TEXT_SIZE];

	if (same) {
		*ret = same->id;
		return 1;
	}
	if (!q->name)
		return 0;
	journal_state_each_run(e->rows, match_name, &s);
	if (!s.found)
		return 0;
	if (journal_run_final(s.found->state))
		return error_set_exit(err, -EEXIST, EXIT_STATUS_USAGE,
				      "run '%.100s': it is over (%.8s, %s); choose another name",
				      q->name, journal_id_text(&s.found->id, id),
				      journal_run_state_name(s.found->state));
	if (!digest_equal(&s.found->plan, &q->plan_blob))
		return error_set_exit(err, -EEXIST, EXIT_STATUS_USAGE,
				      "run '%.100s': it has another plan (%.8s); choose another "
				      "name, or cancel it",
				      q->name, journal_id_text(&s.found->id, id));
	*ret = s.found->id;
	return 1;
}

static void emit_created(struct engine *e, const struct engine_run_request *q)
{
	struct journal_record rec = {.run = q->id,
				     .step = JOURNAL_NO_STEP,
				     .type = JOURNAL_RUN_CREATED};
	struct journal_payload *p = &rec.p;

	if (q->name)
		JOURNAL_SET(p, name, bytes_str(q->name));
	JOURNAL_SET(p, plan, q->plan_blob);
	JOURNAL_SET(p, policy, q->policy_blob);
	JOURNAL_SET(p, environ, q->environ_blob);
	JOURNAL_SET(p, context, q->context);
	if (q->workspace)
		JOURNAL_SET(p, workspace, bytes_str(q->workspace));
	JOURNAL_SET(p, ws_dev, q->ws_dev);
	JOURNAL_SET(p, ws_ino, q->ws_ino);
	JOURNAL_SET(p, ws_uid, q->ws_uid);
	JOURNAL_SET(p, base, q->base);
	JOURNAL_SET(p, land, q->land);
	JOURNAL_SET(p, agency, q->agency);
	if (q->request.len)
		JOURNAL_SET(p, request, q->request);
	JOURNAL_SET(p, started_ns, q->started_ns);
	if (!engine_id_is_zero(&q->parent)) {
		JOURNAL_SET(p, parent, q->parent);
		if (q->fork_at)
			JOURNAL_SET(p, fork_at, bytes_str(q->fork_at));
	}
	engine_emit(e, &rec);
}

/* ---- taking over from the parent of a fork ---- */

static const struct journal_step *find_step(const struct journal_run *row, const char *name_or_key)
{
	for (uint32_t i = 0; i < row->step_count; i++)
		if (strcmp(row->steps[i]->key, name_or_key) == 0 ||
		    (row->steps[i]->name && strcmp(row->steps[i]->name, name_or_key) == 0))
			return row->steps[i];
	return NULL;
}

static void emit_attempt(struct engine *e, struct engine_run *r, uint32_t step,
			 enum journal_type type, const struct journal_attempt *a, const char *why)
{
	struct journal_record rec = engine_record(r, step, type);

	rec.attempt = 1;
	if (type == JOURNAL_ATTEMPT_STARTED) {
		JOURNAL_SET(&rec.p, attempt_id, a->id);
		JOURNAL_SET(&rec.p, layer, bytes_str(a->layer));
		JOURNAL_SET(&rec.p, why, bytes_str(why));
	} else if (type == JOURNAL_ATTEMPT_EXITED) {
		JOURNAL_SET(&rec.p, exit_code, a->exit_code);
		JOURNAL_SET(&rec.p, out, a->out);
		JOURNAL_SET(&rec.p, err, a->err);
		JOURNAL_SET(&rec.p, results, a->results);
		JOURNAL_SET(&rec.p, out_size, a->out_size);
		JOURNAL_SET(&rec.p, err_size, a->err_size);
		JOURNAL_SET(&rec.p, uncharged, true);
	}
	engine_emit(e, &rec);
}

/* The attempt that made the result is the parent's, and its records here say so; nothing runs. */
static int take_over(struct engine *e, struct engine_run *r, const struct journal_step *from,
		     const struct plan_step *spec, uint32_t position, const char *why)
{
	const struct journal_attempt *a = engine_last_attempt(from);
	struct journal_record rec;
	uint32_t step;
	int rc = engine_step_new(e, r, spec, position, &step);

	if (rc < 0)
		return rc;
	engine_emit_step(e, r, step, JOURNAL_STEP_RUNNABLE, why);
	emit_attempt(e, r, step, JOURNAL_ATTEMPT_STARTED, a, why);
	emit_attempt(e, r, step, JOURNAL_ATTEMPT_LIVE, a, why);
	emit_attempt(e, r, step, JOURNAL_ATTEMPT_EXITED, a, why);
	rec = engine_record(r, step, JOURNAL_STEP_SEALED);
	if (from->layer[0]) {
		JOURNAL_SET(&rec.p, layer, bytes_str(from->layer));
		JOURNAL_SET(&rec.p, manifest, from->manifest);
		JOURNAL_SET(&rec.p, paths, from->layer_paths);
		JOURNAL_SET(&rec.p, size, from->layer_bytes);
	}
	engine_emit(e, &rec);
	engine_emit_step(e, r, step, JOURNAL_STEP_COMMITTED, why);
	return 0;
}

static int take_over_step(struct engine *e, struct engine_run *r, struct engine_run *parent,
			  const struct journal_step *from, const char *why)
{
	AUTO(plan_step_free) struct plan_step *copy = NULL;
	AUTO_BUFFER b = {0};
	const struct plan_step *spec;
	uint32_t step = engine_run_row(e, r)->step_count;
	int rc, at;

	if (!r->plan->outside_driver) {
		at = plan_find(r->plan, bytes_str(from->name));
		return at < 0 ? 0 : take_over(e, r, from, &r->plan->steps[at], (uint32_t)at, why);
	}
	spec = engine_run_spec(e, parent, from->index);
	if (!spec)
		return e->failed;
	rc = plan_step_encode(spec, &b);
	if (rc == 0)
		rc = plan_step_decode(buffer_bytes(&b), &copy);
	if (rc == 0)
		rc = take_over(e, r, from, copy, step, why);
	return rc < 0 ? rc : engine_run_add_spec(e, r, step, take_ptr(copy));
}

static int take_over_all(struct engine *e, struct engine_run *r, struct engine_run *parent,
			 const char *fork_at)
{
	const struct journal_run *row = engine_run_row(e, parent);
	const struct journal_step *at = find_step(row, fork_at);
	AUTO_FREE const struct journal_step **steps = calloc(row->step_count + 1, sizeof(*steps));
	char why[96], id[JOURNAL_ID_TEXT_SIZE];
	size_t n = 0;
	int rc = 0;

	if (!steps)
		return -ENOMEM;
	for (uint32_t i = 0; i < row->step_count; i++) {
		const struct journal_step *s = row->steps[i];

		if (s->state == JOURNAL_STEP_S_COMMITTED && s != at &&
		    (at->committed_lsn == 0 || s->committed_lsn < at->committed_lsn))
			steps[n++] = s;
	}
	qsort(steps, n, sizeof(*steps), engine_input_by_commit);
	snprintf(why, sizeof(why), "taken over from run %s", journal_id_text(&row->id, id));
	engine_emit_run(e, r, JOURNAL_RUN_STARTED, NULL);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = take_over_step(e, r, parent, steps[i], why);
	return rc;
}

static int check_request(struct engine *e, const struct engine_run_request *q,
			 struct engine_run **ret_parent, struct error *err)
{
	const struct journal_run *row;

	*ret_parent = NULL;
	if (q->request.len > 64)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "run: a request id has at most 64 bytes");
	if (q->agency > JOURNAL_AGENCY_MAX)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "run: agency is out of range");
	if (engine_id_is_zero(&q->parent))
		return 0;
	row = journal_state_run(e->rows, &q->parent);
	*ret_parent = row ? engine_run_get(e, &q->parent) : NULL;
	if (!*ret_parent)
		return error_set_exit(err, -ENOENT, EXIT_STATUS_USAGE,
				      "fork: the run is not found");
	if (!q->fork_at || !find_step(row, q->fork_at))
		return error_set_exit(
			err, -ENOENT, EXIT_STATUS_USAGE,
			"fork: the run has no step '%.100s'; holdfast status lists them",
			q->fork_at ? q->fork_at : "");
	return 0;
}

static int create(struct engine *e, const struct engine_run_request *q, struct journal_id *ret,
		  struct error *err)
{
	struct engine_run *r, *parent;
	int rc = find_same(e, q, ret, err);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = check_request(e, q, &parent, err);
	if (rc < 0)
		return rc;
	engine_act_as(e, JOURNAL_ACTOR_PERSON, q->uid);
	emit_created(e, q);
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	*ret = q->id;
	r = engine_run_get(e, &q->id);
	if (!r)
		return error_set(err, e->failed, "run: its plan cannot be read again");
	r->named = true;
	return parent ? take_over_all(e, r, parent, q->fork_at) : 0;
}

int engine_run_create(struct engine *e, struct engine_now now, const struct engine_run_request *q,
		      struct journal_id *ret, struct error *err)
{
	struct journal_id id;
	struct engine_run *r;
	int rc;

	engine_enter(e, now);
	rc = create(e, q, &id, err);
	if (rc < 0)
		return rc;
	r = engine_run_cached(e, &id);
	if (r)
		r->named = true;
	rc = r ? engine_advance(e, r) : 0;
	if (rc < 0)
		return error_set(err, rc, "run: recorded; what follows from it failed");
	*ret = id;
	return 0;
}

int engine_request_fork(struct engine *e, struct engine_run *r, const char *at,
			struct journal_id *ret)
{
	const struct journal_run *row = engine_run_row(e, r);
	struct engine_run_request q = {
		.plan = r->plan,
		.plan_blob = row->plan,
		.policy_blob = row->policy,
		.environ_blob = row->environ,
		.context = row->context,
		.workspace = row->workspace,
		.ws_dev = row->ws_dev,
		.ws_ino = row->ws_ino,
		.ws_uid = (uint32_t)row->ws_uid,
		.base = row->base,
		.land = row->land,
		.agency = row->agency,
		.uid = row->uid,
		.started_ns = row->started_ns,
		.parent = row->id,
		.fork_at = at,
	};

	e->ops.new_id(e->ops.ctx, &q.id);
	return create(e, &q, ret, NULL);
}

/* ---- words to a run ---- */

/* A person's record, and what follows from it. */
static int say(struct engine *e, struct engine_run *r, uint32_t uid, enum journal_type type,
	       const char *why)
{
	engine_act_as(e, JOURNAL_ACTOR_PERSON, uid);
	engine_emit_run(e, r, type, why);
	return engine_advance(e, r);
}

int engine_run_resume(struct engine *e, struct engine_now now, const struct journal_id *run,
		      uint32_t uid, struct error *err)
{
	const struct journal_run *row;
	struct engine_run *r;
	int rc;

	engine_enter(e, now);
	rc = engine_run_find(e, run, &r, err);
	if (rc < 0)
		return rc;
	row = engine_run_row(e, r);
	r->named = true;
	if (!journal_run_final(row->state) || row->landing != JOURNAL_LANDING_S_UNLANDED)
		r->stuck = false; /* else `land` alone tries it again */
	if (row->state == JOURNAL_RUN_S_PAUSED)
		return say(e, r, uid, JOURNAL_RUN_RESUMED, NULL);
	return engine_advance(e, r);
}

int engine_run_pause(struct engine *e, struct engine_now now, const struct journal_id *run,
		     uint32_t uid, struct error *err)
{
	struct engine_run *r;
	enum journal_run_state state;
	int rc;

	engine_enter(e, now);
	rc = engine_run_find(e, run, &r, err);
	if (rc < 0)
		return rc;
	state = engine_run_row(e, r)->state;
	if (state == JOURNAL_RUN_S_PAUSED)
		return 0;
	if (state == JOURNAL_RUN_S_CANCELLING || journal_run_final(state))
		return error_set_exit(
			err, -EALREADY, EXIT_STATUS_CONFLICT, "pause: the run is %s: %s",
			journal_run_final(state) ? "over" : "being cancelled",
			journal_run_final(state)
				? "holdfast status shows how it ended; to do it again, "
				  "start it again or fork it"
				: "it stops by itself; holdfast status shows it");
	return say(e, r, uid, JOURNAL_RUN_PAUSED, "a person paused it");
}

/* What observes needs no lease of its workspace, what may land does: it is had before the dial is
 * raised over a step that is under way. */
static int lease_for_raise(struct engine *e, struct engine_run *r, unsigned agency,
			   struct error *err)
{
	const struct journal_run *row = engine_run_row(e, r);
	struct journal_run raised = *row;
	const struct journal_lease *l = journal_state_lease(e->rows, row->ws_dev, row->ws_ino);
	bool writes = false;

	raised.agency = agency;
	for (uint32_t i = 0; i < row->step_count; i++)
		writes |= engine_step_writes(row->steps[i]);
	if (!writes || row->base != JOURNAL_BASE_LIVE || engine_land(row) != JOURNAL_LAND_NEVER ||
	    engine_land(&raised) == JOURNAL_LAND_NEVER)
		return 0;
	if (l && l->held && !journal_id_equal(&l->holder, &r->id))
		return error_set_exit(
			err, -EBUSY, EXIT_STATUS_CONFLICT,
			"agency: another run works in this folder, and this one is in "
			"the middle of a step; raise it when either has ended");
	return engine_land_lease_take(e, r) ? 0 : -EBUSY;
}

int engine_run_agency(struct engine *e, struct engine_now now, const struct journal_id *run,
		      uint32_t uid, unsigned agency, const struct digest *context,
		      struct error *err)
{
	const struct journal_run *row;
	struct journal_record rec;
	struct engine_run *r;
	int rc;

	engine_enter(e, now);
	rc = engine_run_find(e, run, &r, err);
	if (rc < 0)
		return rc;
	row = engine_run_row(e, r);
	if (agency > JOURNAL_AGENCY_MAX)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "agency: it is out of range");
	if (row->state == JOURNAL_RUN_S_CANCELLING || journal_run_final(row->state))
		return error_set_exit(err, -EALREADY, EXIT_STATUS_CONFLICT,
				      "agency: the run is over (%s); its level stays what it was",
				      journal_run_state_name(row->state));
	if (row->agency == agency)
		return 0;
	rc = lease_for_raise(e, r, agency, err);
	if (rc < 0)
		return rc;
	engine_act_as(e, JOURNAL_ACTOR_PERSON, uid);
	rec = engine_record(r, JOURNAL_NO_STEP, JOURNAL_RUN_AGENCY);
	JOURNAL_SET(&rec.p, agency, agency);
	JOURNAL_SET(&rec.p, context, *context);
	engine_emit(e, &rec);
	return engine_advance(e, r);
}

int engine_run_cancel(struct engine *e, struct engine_now now, const struct journal_id *run,
		      uint32_t uid, bool kill, struct error *err)
{
	struct engine_run *r;
	enum journal_run_state state;
	int rc;

	engine_enter(e, now);
	rc = engine_run_find(e, run, &r, err);
	if (rc < 0)
		return rc;
	state = engine_run_row(e, r)->state;
	if (journal_run_final(state) && engine_land_give_up(e, r, uid))
		return engine_advance(e, r);
	if (journal_run_final(state))
		return error_set_exit(err, -EALREADY, EXIT_STATUS_CONFLICT,
				      "cancel: the run is over (%s); there is nothing left to end",
				      journal_run_state_name(state));
	r->kill_now = kill; /* what failed to land is not tried again by this */
	if (state == JOURNAL_RUN_S_CANCELLING)
		return engine_advance(e, r);
	return say(e, r, uid, JOURNAL_RUN_CANCELLING, "a person cancelled it");
}

/* ---- outside drivers ---- */

static int check_declare(struct engine *e, struct engine_run *r, const struct plan_step *spec,
			 struct error *err)
{
	const struct journal_run *row = engine_run_row(e, r);

	if (!r->plan->outside_driver)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "step: the run has a plan; steps cannot be added to it");
	if (spec->stdin_kind == PLAN_STDIN_FILE || spec->stdin_text)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "step: stdin is not a blob yet");
	if (plan_step_check(spec, NULL, err) < 0)
		return -EINVAL;
	for (char **n = spec->needs; n && *n; n++) {
		const struct journal_step *s = find_step(row, *n);

		if (!s || s->state != JOURNAL_STEP_S_COMMITTED)
			return error_set_exit(
				err, -EINVAL, EXIT_STATUS_USAGE,
				"step '%s': needs '%s', which is not committed; declare "
				"it first, and wait for it",
				spec->name, *n);
	}
	return 0;
}

/* The key is there. What the driver describes is compared on the stack that was recorded: it chose
 * only the rest. */
static int declare_again(struct engine *e, struct engine_run *r, uint32_t uid,
			 const struct journal_step *s, const struct plan_step *spec,
			 bool *ret_reused, struct error *err)
{
	const struct journal_run *row = engine_run_row(e, r);
	struct journal_record rec;
	struct digest input;
	int rc = engine_input_describe(e, r, s->key, spec, &s->input, &input);
	bool same = rc == 0 && digest_equal(&input, &s->input);

	if (rc == 0 && !same) {
		rc = engine_item_accepted(e, r, s->index, &input);
		same = rc > 0;
	}
	if (rc < 0)
		return error_set(err, rc, "step '%s': its input cannot be described", spec->name);
	if (same) {
		*ret_reused = s->state == JOURNAL_STEP_S_COMMITTED;
		if (*ret_reused && digest_is_zero(&s->diverged))
			engine_emit_step(e, r, s->index, JOURNAL_STEP_REUSED, NULL);
		return 0;
	}
	if (!journal_run_final(row->state) && !digest_equal(&input, &s->diverged)) {
		engine_item_withdraw(e, r, s->index, "it was described differently again");
		rec = engine_record(r, s->index, JOURNAL_STEP_DIVERGED);
		JOURNAL_SET(&rec.p, input, input);
		engine_act_as(e, JOURNAL_ACTOR_PERSON, uid);
		engine_emit(e, &rec);
		engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	}
	return error_set_exit(
		err, -EINPROGRESS, EXIT_STATUS_WAITING,
		"step '%s': it has another input than before; the queue shows what differs",
		spec->name);
}

static int declare_first(struct engine *e, struct engine_run *r, uint32_t uid,
			 const struct plan_step *spec, uint32_t *ret, struct error *err)
{
	const struct journal_run *row = engine_run_row(e, r);
	AUTO(plan_step_free) struct plan_step *copy = NULL;
	AUTO_BUFFER b = {0};
	int rc;

	if (journal_run_final(row->state) || row->state == JOURNAL_RUN_S_CANCELLING ||
	    engine_run_ended(e, r))
		return error_set_exit(err, -EALREADY, EXIT_STATUS_CONFLICT,
				      "step '%s': the run is %s", spec->name,
				      engine_run_ended(e, r) ? "ended"
							     : journal_run_state_name(row->state));
	if (row->step_count >= PLAN_STEPS_MAX)
		return error_set_exit(err, -E2BIG, EXIT_STATUS_LIMIT,
				      "step '%s': the run has %d steps already", spec->name,
				      PLAN_STEPS_MAX);
	rc = plan_step_encode(spec, &b);
	if (rc == 0)
		rc = plan_step_decode(buffer_bytes(&b), &copy);
	if (rc < 0)
		return error_set(err, rc, "step '%s': it cannot be kept", spec->name);
	engine_act_as(e, JOURNAL_ACTOR_PERSON, uid);
	rc = engine_step_new(e, r, copy, row->step_count, ret);
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	if (rc == 0)
		rc = engine_run_add_spec(e, r, *ret, take_ptr(copy));
	return rc < 0 ? error_set(err, rc, "step '%s': its input cannot be described", spec->name)
		      : 0;
}

int engine_step_declare(struct engine *e, struct engine_now now, const struct journal_id *run,
			uint32_t uid, const struct plan_step *spec, uint32_t *ret_step,
			bool *ret_reused, struct error *err)
{
	const struct journal_step *s;
	struct engine_run *r;
	bool reused = false;
	uint32_t step;
	int rc, said;

	engine_enter(e, now);
	rc = engine_run_find(e, run, &r, err);
	if (rc == 0)
		rc = check_declare(e, r, spec, err);
	if (rc < 0)
		return rc;
	s = find_step(engine_run_row(e, r), spec->name);
	step = s ? s->index : 0;
	said = s ? declare_again(e, r, uid, s, spec, &reused, err)
		 : declare_first(e, r, uid, spec, &step, err);
	if (said < 0 && said != -EINPROGRESS)
		return said;
	r->named = true;
	rc = engine_advance(e, r);
	if (rc < 0)
		return error_set(err, rc, "step: recorded; what follows from it failed");
	if (said < 0)
		return said;
	*ret_step = step;
	*ret_reused = reused;
	return 0;
}

int engine_run_end(struct engine *e, struct engine_now now, const struct journal_id *run,
		   uint32_t uid, struct error *err)
{
	const struct journal_run *row;
	struct engine_run *r;
	int rc;

	engine_enter(e, now);
	rc = engine_run_find(e, run, &r, err);
	if (rc < 0)
		return rc;
	(void)uid; /* nothing is recorded before the run is over: a driver that died asks again */
	row = engine_run_row(e, r);
	if (journal_run_final(row->state))
		return 0;
	if (!r->plan->outside_driver)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "end: the run has a plan and ends by itself");
	for (uint32_t i = 0; i < row->step_count; i++)
		if (!journal_step_final(row->steps[i]->state))
			return error_set_exit(err, -EBUSY, EXIT_STATUS_CONFLICT,
					      "end: step '%.100s' is %s", row->steps[i]->name,
					      journal_step_state_name(row->steps[i]->state));
	if (row->step_count == 0)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "end: the run has no step; declare one, or cancel the run");
	r->named = r->ending = true;
	return engine_advance(e, r);
}
