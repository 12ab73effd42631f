/*
 * The endpoints of one run and of its steps: they read rows, call the engine or create.c, diffs.c,
 * replay.c, wants.c, and answer.
 */
#include "supervisor/api/routes_private.h"

#include <errno.h>
#include <string.h>

#include "supervisor/adopt.h"
#include "supervisor/api/streams.h"
#include "supervisor/api/views.h"
#include "supervisor/create.h"
#include "supervisor/diffs.h"
#include "supervisor/intact.h"
#include "supervisor/replay.h"
#include "supervisor/runs.h"
#include "supervisor/wants.h"

static int post_runs(struct routes_call *c)
{
	const struct journal_run *run;
	struct journal_id id;
	bool attached;
	json_t *o;
	int r;

	if (!c->q->body)
		return routes_wrong(c, "the body is missing");
	r = create_run(c->d, c->q, &id, &attached, &c->err);
	if (r < 0)
		return r;
	run = journal_state_run(c->d->rows, &id);
	o = json_pack("{s:i, s:o, s:o, s:b}", "version", SUPERVISOR_API_VERSION, "run",
		      views_id(&id), "name",
		      run && run->name ? api_json_text(bytes_str(run->name)) : json_null(),
		      "attached", attached);
	if (run)
		views_notes(c->d, run, o);
	if (run && run->step_count == 1) /* of an exec: what the client follows */
		json_object_set_new(o, "step", api_json_text(bytes_str(run->steps[0]->name)));
	return routes_answer(c, attached ? 200 : 201, o);
}

static int get_run(struct routes_call *c)
{
	return routes_answer(c, 200, views_status(c->d, c->run));
}

static int get_events(struct routes_call *c)
{
	uint64_t from;
	int r = routes_number(c, "from", 1, &from);

	return r < 0 ? r
		     : routes_stream(c,
				     streams_events(c->d, &c->run->id, from,
						    routes_asked(c, "follow")),
				     "application/x-ndjson");
}

typedef int verb_fn(struct engine *e, struct engine_now now, const struct journal_id *run,
		    uint32_t uid, struct error *err);

static int verb(struct routes_call *c, verb_fn *fn)
{
	struct journal_id id = c->run->id;
	int fd = api_request_fd(c->q, "workspace");
	struct runs_context *ctx;
	int r = 0;

	if (fd >= 0) {
		r = runs_get(c->d, &id, &ctx, &c->err);
		if (r == 0)
			r = runs_give_workspace(c->d, ctx, fd, &c->err);
	}
	if (r == 0)
		r = fn(c->d->engine, daemon_now(), &id, c->q->uid, &c->err);
	c->d->need_sync = true;
	return r < 0 ? r : routes_ok(c);
}

static int post_resume(struct routes_call *c)
{
	return verb(c, engine_run_resume);
}

static int post_pause(struct routes_call *c)
{
	return verb(c, engine_run_pause);
}

/* Said before anything is recorded: what was begun and can go neither on nor back says less. */
static int verb_on_place(struct routes_call *c, verb_fn *fn)
{
	struct runs_context *ctx;
	int r = runs_get(c->d, &c->run->id, &ctx, &c->err);

	if (r == 0 && api_request_fd(c->q, "workspace") < 0)
		r = runs_landing_place(c->d, ctx, &c->err);
	return r < 0 ? r : verb(c, fn);
}

static int post_land(struct routes_call *c)
{
	struct runs_context *ctx;

	if (runs_get(c->d, &c->run->id, &ctx, NULL) == 0 && ctx->settings.learn)
		return error_set_exit(
			&c->err, -EPERM, EXIT_STATUS_USAGE,
			"land: it is a run of 'holdfast policy learn', which never lands; "
			"run the command with 'holdfast exec'");
	if (journal_run_final(c->run->state) && c->run->landing == JOURNAL_LANDING_S_UNLANDED) {
		int r = runs_get(c->d, &c->run->id, &ctx, &c->err);

		if (r == 0)
			r = intact_landing(c->d, ctx, &c->err);
		if (r < 0)
			return r;
	}
	return verb_on_place(c, engine_run_land);
}

static int post_undo(struct routes_call *c)
{
	return verb_on_place(c, engine_run_undo);
}

static int post_end(struct routes_call *c)
{
	return verb(c, engine_run_end);
}

static int post_cancel(struct routes_call *c)
{
	struct journal_id id = c->run->id;
	int r = engine_run_cancel(c->d->engine, daemon_now(), &id, c->q->uid,
				  json_is_true(json_object_get(c->q->body, "kill")), &c->err);

	c->d->need_sync = true;
	return r < 0 ? r : routes_ok(c);
}

/* from, where it is given: the level that the person saw; another one now is said, not overridden.
 */
static int post_agency(struct routes_call *c)
{
	const char *asked = routes_text(c, "agency"), *from = routes_text(c, "from");
	enum policy_agency level = asked ? policy_agency_from(asked) : POLICY_AGENCY_UNSET;
	struct journal_id id = c->run->id;
	const char *now = policy_agency_name((enum policy_agency)(c->run->agency + POLICY_OBSERVE));
	int r;

	if (level == POLICY_AGENCY_UNSET)
		return error_set_exit(&c->err, -EINVAL, EXIT_STATUS_USAGE,
				      "no agency '%.40s'; it is one of observe, draft, assist, "
				      "trusted, autonomous",
				      asked ? asked : "");
	if (from && strcmp(from, now) != 0)
		return error_set_exit(&c->err, -ESTALE, EXIT_STATUS_CONFLICT,
				      "the run is at %s, not at %.40s any more; look at it again",
				      now, from);
	r = runs_dial(c->d, &id, c->q->uid, level, &c->err);
	c->d->need_sync = true;
	return r < 0 ? r
		     : routes_answer(c, 200,
				     json_pack("{s:i, s:s, s:s}", "version", SUPERVISOR_API_VERSION,
					       "agency", policy_agency_name(level), "before", now));
}

static int post_fork(struct routes_call *c)
{
	const char *at = routes_text(c, "at");
	struct journal_id id;
	int r;

	if (!at)
		return routes_wrong(c, "'at' names the step to fork at");
	r = create_fork(c->d, c->q, c->run, at, &id, &c->err);
	return r < 0 ? r
		     : routes_answer(c, 201,
				     json_pack("{s:i, s:o}", "version", SUPERVISOR_API_VERSION,
					       "run", views_id(&id)));
}

static int get_diff(struct routes_call *c)
{
	const char *step = api_request_query(c->q, "step");
	const struct journal_step *s = step ? runs_step(c->run, step) : NULL;

	if (step && !s)
		return error_set_exit(&c->err, -ENOENT, EXIT_STATUS_USAGE,
				      "no step %s in this run; see 'holdfast status'", step);
	return diffs_answer(c->d, c->run, s,
			    (routes_asked(c, "stat") ? DIFFS_STAT : 0u) |
				    (routes_asked(c, "all") ? DIFFS_ALL : 0u),
			    c->q->ticket, c->a, &c->err);
}

/* ---- steps ---- */

static int post_steps(struct routes_call *c)
{
	AUTO(plan_step_free) struct plan_step *spec = NULL;
	struct journal_id id = c->run->id;
	bool reused = false;
	uint32_t step;
	int r = create_step(c->d, c->q, &spec, &c->err);

	if (r == 0)
		r = engine_step_declare(c->d->engine, daemon_now(), &id, c->q->uid, spec, &step,
					&reused, &c->err);
	c->d->need_sync = true;
	if (r != 0)
		return r;
	return routes_answer(c, reused ? 200 : 201,
			     json_pack("{s:i, s:s, s:i, s:b}", "version", SUPERVISOR_API_VERSION,
				       "step", spec->name, "index", (int)step, "reused", reused));
}

static int get_step(struct routes_call *c)
{
	return routes_answer(c, 200, views_step(c->d, c->run, c->step));
}

static int get_output(struct routes_call *c)
{
	const char *which = api_request_query(c->q, "stream");
	bool err_stream = which && strcmp(which, "err") == 0;
	uint64_t from, attempt = 0;
	int r = routes_number(c, "from", 0, &from);

	if (r == 0)
		r = routes_number(c, "attempt", 0, &attempt);
	if (r == 0 && attempt > UINT32_MAX)
		r = routes_wrong(c, "attempt is its number");
	if (r == 0 && which && !err_stream && strcmp(which, "out") != 0)
		r = routes_wrong(c, "stream is out or err");
	if (r == 0)
		r = streams_check_output(c->d, c->step, err_stream, &c->err);
	return r < 0 ? r
		     : routes_stream(c,
				     streams_output(c->d, &c->run->id, c->step->index,
						    (uint32_t)attempt, err_stream, from,
						    routes_asked(c, "follow")),
				     "application/octet-stream");
}

static int last_attempt(struct routes_call *c, struct journal_id *ret)
{
	if (c->step->attempt_count == 0)
		return error_set_exit(&c->err, -ESRCH, EXIT_STATUS_CONFLICT,
				      "it does not run: the step has no attempt yet");
	*ret = c->step->attempts[c->step->attempt_count - 1].id;
	return 0;
}

static int get_tty(struct routes_call *c)
{
	struct journal_id attempt;
	int r = last_attempt(c, &attempt);

	if (r == 0)
		r = adopt_pty(c->d, &attempt, c->q->ticket, &c->err);
	c->a->later = r == 0;
	return r;
}

static int post_resize(struct routes_call *c)
{
	json_int_t rows = json_integer_value(json_object_get(c->q->body, "rows")),
		   cols = json_integer_value(json_object_get(c->q->body, "cols"));
	struct journal_id attempt;
	int r = last_attempt(c, &attempt);

	if (rows < 1 || rows > UINT16_MAX || cols < 1 || cols > UINT16_MAX)
		return routes_wrong(c, "rows and cols are numbers of a terminal");
	if (r == 0)
		r = adopt_resize(c->d, &attempt, (uint16_t)rows, (uint16_t)cols, &c->err);
	return r < 0 ? r : routes_ok(c);
}

static int post_signal(struct routes_call *c)
{
	json_int_t sig = json_integer_value(json_object_get(c->q->body, "signal"));
	struct journal_id attempt;
	int r = last_attempt(c, &attempt);

	if (sig < 1 || sig > 64)
		return routes_wrong(c, "signal is a number from 1 to 64");
	if (r == 0)
		r = adopt_signal(c->d, &attempt, (int)sig, &c->err);
	return r < 0 ? r : routes_ok(c);
}

/* ---- what a run asked for, and was let ---- */

static int post_replay(struct routes_call *c)
{
	AUTO(policy_effective_free) struct policy_effective *now = NULL;
	struct runs_context *ctx;
	json_t *o = NULL;
	int r = runs_get(c->d, &c->run->id, &ctx, &c->err);

	c->a->volatile_ = true;
	if (r == 0)
		r = create_policy(c->d, c->q, ctx->plan, &now, &c->err);
	if (r == 0)
		r = replay_run(c->d, c->run, now, &o, &c->err);
	if (r < 0)
		return r;
	json_object_set_new(o, "version", json_integer(SUPERVISOR_API_VERSION));
	json_object_set_new(o, "run", views_id(&c->run->id));
	return routes_answer(c, 200, o);
}

static int get_wants(struct routes_call *c)
{
	json_t *o = NULL;
	int r = wants_run(c->d, c->run, &o, &c->err);

	if (r < 0)
		return r;
	json_object_set_new(o, "version", json_integer(SUPERVISOR_API_VERSION));
	json_object_set_new(o, "run", views_id(&c->run->id));
	return routes_answer(c, 200, o);
}

static int parse_id(struct routes_call *c, const char *hex, struct journal_id *ret)
{
	return hex && journal_id_parse(bytes_str(hex), ret) == 0
		       ? 0
		       : routes_wrong(c, "an id is 32 digits");
}

static int post_revoke(struct routes_call *c)
{
	struct journal_id run = c->run->id, grant;
	char principal[24];
	int r = parse_id(c, routes_text(c, "grant"), &grant);

	snprintf(principal, sizeof(principal), "uid:%u", c->q->uid);
	if (r == 0)
		r = engine_grant_revoke(c->d->engine, daemon_now(), &run, &grant, c->q->uid,
					principal, &c->err);
	c->d->need_sync = true;
	return r < 0 ? r : routes_ok(c);
}

const struct routes_row routes_run_rows[] = {
	{true, "v1/runs", 0, post_runs},
	{false, "v1/runs/*", ROUTES_RUN, get_run},
	{false, "v1/runs/*/events", ROUTES_RUN, get_events},
	{false, "v1/runs/*/diff", ROUTES_RUN, get_diff},
	{true, "v1/runs/*/resume", ROUTES_RUN, post_resume},
	{true, "v1/runs/*/pause", ROUTES_RUN, post_pause},
	{true, "v1/runs/*/cancel", ROUTES_RUN, post_cancel},
	{true, "v1/runs/*/land", ROUTES_RUN, post_land},
	{true, "v1/runs/*/undo", ROUTES_RUN, post_undo},
	{true, "v1/runs/*/end", ROUTES_RUN, post_end},
	{true, "v1/runs/*/agency", ROUTES_RUN, post_agency},
	{true, "v1/runs/*/fork", ROUTES_RUN, post_fork},
	{true, "v1/runs/*/revoke", ROUTES_RUN, post_revoke},
	{false, "v1/runs/*/wants", ROUTES_RUN, get_wants},
	{true, "v1/runs/*/replay", ROUTES_RUN | ROUTES_READS, post_replay},
	{true, "v1/runs/*/steps", ROUTES_RUN, post_steps},
	{false, "v1/runs/*/steps/*", ROUTES_RUN | ROUTES_STEP, get_step},
	{false, "v1/runs/*/steps/*/output", ROUTES_RUN | ROUTES_STEP, get_output},
	{false, "v1/runs/*/steps/*/tty", ROUTES_RUN | ROUTES_STEP, get_tty},
	{true, "v1/runs/*/steps/*/resize", ROUTES_RUN | ROUTES_STEP, post_resize},
	{true, "v1/runs/*/steps/*/signal", ROUTES_RUN | ROUTES_STEP, post_signal},
	{0},
};
