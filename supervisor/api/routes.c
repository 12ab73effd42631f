/*
 * The control socket's endpoints, a row of a table and a function each: they read rows, call the
 * engine or create.c, votes.c, diffs.c, and answer. Called by api/server.c with whole requests, on
 * the loop's thread; what blocks goes aside (aside.h) and answers by its ticket.
 */
#include "supervisor/api/routes.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "supervisor/audits.h"
#include "supervisor/adopt.h"
#include "supervisor/api/streams.h"
#include "supervisor/api/effect_view.h"
#include "supervisor/api/views.h"
#include "supervisor/create.h"
#include "supervisor/diffs.h"
#include "supervisor/effect_undo.h"
#include "supervisor/intact.h"
#include "supervisor/replay.h"
#include "supervisor/runs.h"
#include "supervisor/stats.h"
#include "supervisor/status.h"
#include "supervisor/votes.h"
#include "supervisor/wants.h"

enum { RUNS_SHOWN_MAX = 10000, ENDED_SHOWN_MAX = 10 };

struct call { /* one request on its way through a row */
	struct daemon *d;
	struct api_request *q;
	struct api_answer *a;
	const struct journal_run *run; /* rows of segments[2], where the row wants a run */
	const struct journal_step *step; /* of segments[4], where it wants a step */
	struct error err;
};

static int answer(struct call *c, int status, json_t *o)
{
	c->a->status = status;
	c->a->json = o;
	return o ? 0 : -ENOMEM;
}

static int ok(struct call *c)
{
	return answer(c, 200, json_pack("{s:i, s:b}", "version", SUPERVISOR_API_VERSION, "ok", 1));
}

static int wrong(struct call *c, const char *what)
{
	return error_set_exit(&c->err, -EINVAL, EXIT_STATUS_USAGE,
			      "bad request: %s; see supervisor.h", what);
}

static const char *text(const struct call *c, const char *key)
{
	return json_string_value(json_object_get(c->q->body, key));
}

static bool asked(const struct call *c, const char *key)
{
	const char *v = api_request_query(c->q, key);

	return v && strcmp(v, "0") != 0;
}

static int number(struct call *c, const char *key, uint64_t otherwise, uint64_t *ret)
{
	const char *v = api_request_query(c->q, key);
	char *end;

	*ret = otherwise;
	if (!v)
		return 0;
	errno = 0;
	*ret = strtoull(v, &end, 10);
	return v[0] < '0' || v[0] > '9' || *end || errno
		       ? wrong(c, "a number was expected in the query")
		       : 0;
}

/* ---- daemon ---- */

/* As this supervisor read them: files that were changed since count for the next one. */
static json_t *settings_in_force(const struct settings *s)
{
	json_t *list = json_array();

	for (int i = 0; list && i < SETTINGS_KEY_COUNT; i++) {
		enum settings_key k = (enum settings_key)i;
		AUTO_BUFFER value = {0}, from = {0};

		if (settings_value(s, k, &value) == 0 && settings_origin(s, k, &from) == 0)
			json_array_append_new(list,
					      json_pack("{s:s, s:o, s:o}", "key",
							settings_key_name(k), "value",
							api_json_text(buffer_bytes(&value)), "from",
							api_json_text(buffer_bytes(&from))));
	}
	return list;
}

static int get_daemon(struct call *c)
{
	struct daemon *d = c->d;

	return answer(c, 200,
		      json_pack("{s:i, s:i, s:I, s:i, s:s, s:b, s:I, s:i, s:o}", "version",
				SUPERVISOR_API_VERSION, "pid", (int)getpid(), "epoch",
				(json_int_t)d->epoch, "keeper", (int)adopt_keeper_pid(d), "program",
				HOLDFAST_VERSION, "embedded", d->options.embedded, "idle_in_ms",
				(json_int_t)daemon_idle_in_ms(d), "clients",
				(int)api_server_connections(d->api), "settings",
				settings_in_force(d->settings)));
}

static int post_stop(struct call *c)
{
	daemon_stop(c->d);
	return ok(c);
}

/* ---- runs ---- */

static int post_runs(struct call *c)
{
	const struct journal_run *run;
	struct journal_id id;
	bool attached;
	json_t *o;
	int r;

	if (!c->q->body)
		return wrong(c, "the body is missing");
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
	return answer(c, attached ? 200 : 201, o);
}

struct rollup {
	struct daemon *d;
	json_t *runs;
	struct journal_id ended[ENDED_SHOWN_MAX]; /* that are shown though they have ended */
	size_t ended_count;
	int left_out;
};

static int add_run(const struct journal_run *run, void *arg)
{
	struct rollup *x = arg;

	json_array_append_new(x->runs, views_summary(x->d, run));
	return 0;
}

/* Ended ones too: their rows are read. */
static int each_run(struct call *c, int (*fn)(const struct journal_run *, void *), void *arg)
{
	AUTO_FREE struct journal_id *ids = calloc(RUNS_SHOWN_MAX, sizeof(*ids));
	int n = ids ? journal_list_runs(c->d->journal, RUNS_SHOWN_MAX, ids) : -ENOMEM;

	for (int i = 0; i < n; i++) {
		const struct journal_run *run = journal_state_run(c->d->rows, &ids[i]);

		if (!run && journal_load_run(c->d->journal, &ids[i], NULL) == 0)
			run = journal_state_run(c->d->rows, &ids[i]);
		if (run)
			(void)!fn(run, arg);
	}
	return n < 0 ? n : 0;
}

/* The first of those that wait, and how many do: a card is read for each that is told. Each item is
 * written down and forgotten by itself: a tree of ten thousand costs more than what is in it. */
static int queue_of(struct daemon *d, uint64_t max, struct buffer *out, size_t *ret_count)
{
	AUTO_FREE const struct journal_approval **items = NULL;
	size_t count = 0;
	int r = status_queue(d->rows, &items, &count);

	out->max = API_ANSWER_MAX;
	buffer_append_byte(out, '[');
	for (size_t i = 0; r == 0 && i < count && i < max; i++) {
		if (i > 0)
			buffer_append_byte(out, ',');
		r = views_approval_line(d, items[i], out);
	}
	buffer_append_byte(out, ']');
	*ret_count = count;
	return r < 0 ? r : out->failed;
}

/* Takes o over. The list, written down already, is one more of its members. */
static int answer_list(struct call *c, json_t *o, const char *name, const struct buffer *list)
{
	AUTO_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	struct buffer *out = &c->a->text;

	json_decref(o);
	if (!text)
		return -ENOMEM;
	out->max = API_ANSWER_MAX;
	buffer_append(out, text, strlen(text) - 1);
	buffer_printf(out, ",\"%s\":", name);
	buffer_append(out, list->data, list->len);
	buffer_append_byte(out, '}');
	c->a->status = 200;
	return out->failed;
}

static int add_shown(const struct journal_run *run, void *arg)
{
	struct rollup *x = arg;
	bool shown = !journal_run_settled(run);

	for (size_t i = 0; i < x->ended_count && !shown; i++)
		shown = journal_id_equal(&x->ended[i], &run->id);
	return shown ? add_run(run, arg) : 0;
}

/* Chooses those that began last of the runs that have ended, by what is recorded alone: whose rows
 * happen to be in memory, because somebody looked them up, changes nothing. Loads their rows. */
static int choose_ended(struct call *c, struct rollup *x)
{
	AUTO_FREE struct journal_id *ids = calloc(RUNS_SHOWN_MAX, sizeof(*ids));
	int n = ids ? journal_list_runs(c->d->journal, RUNS_SHOWN_MAX, ids) : -ENOMEM;

	for (int i = 0; i < n; i++) {
		const struct journal_run *run = journal_state_run(c->d->rows, &ids[i]);

		if (run && !journal_run_settled(run))
			continue;
		if (x->ended_count == ENDED_SHOWN_MAX)
			x->left_out++;
		else if (run || journal_load_run(c->d->journal, &ids[i], NULL) == 0)
			x->ended[x->ended_count++] = ids[i];
	}
	return n < 0 ? n : 0;
}

static int add_doubts(const struct journal_run *run, void *arg)
{
	struct rollup *x = arg;

	for (uint32_t i = 0; i < run->open_count; i++)
		if (run->open[i]->state == JOURNAL_EFFECT_S_IN_DOUBT)
			json_array_append_new(x->runs, effect_view_line(x->d, run, run->open[i]));
	return 0;
}

/* Runs with an effect in doubt are in memory, ended or not. */
static json_t *doubts_of(struct daemon *d)
{
	struct rollup x = {.d = d, .runs = json_array()};

	(void)!journal_state_each_run(d->rows, add_doubts, &x);
	return x.runs;
}

static int get_runs(struct call *c)
{
	struct rollup x = {.d = c->d, .runs = json_array()};
	int r = asked(c, "all") ? each_run(c, add_run, &x) : choose_ended(c, &x);
	AUTO_BUFFER person = {0};
	size_t open = 0;
	uint64_t max;

	if (r == 0 && !asked(c, "all"))
		r = journal_state_each_run(c->d->rows, add_shown, &x);
	if (r == 0)
		r = number(c, "max", UINT64_MAX, &max);
	if (r == 0)
		r = queue_of(c->d, max, &person, &open);
	if (r != 0) {
		json_decref(x.runs);
		return r;
	}
	return answer_list(c,
			   json_pack("{s:i, s:o, s:I, s:o, s:i}", "version", SUPERVISOR_API_VERSION,
				     "runs", x.runs, "open", (json_int_t)open, "in_doubt",
				     doubts_of(c->d), "ended", x.left_out),
			   "needs_person", &person);
}

static int get_run(struct call *c)
{
	return answer(c, 200, views_status(c->d, c->run));
}

static int stream(struct call *c, struct api_stream *s, const char *type)
{
	c->a->status = 200;
	c->a->type = type;
	c->a->stream = s;
	return s ? 0 : -ENOMEM;
}

static int get_events(struct call *c)
{
	uint64_t from;
	int r = number(c, "from", 1, &from);

	return r < 0 ? r
		     : stream(c, streams_events(c->d, &c->run->id, from, asked(c, "follow")),
			      "application/x-ndjson");
}

typedef int verb_fn(struct engine *e, struct engine_now now, const struct journal_id *run,
		    uint32_t uid, struct error *err);

static int verb(struct call *c, verb_fn *fn)
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
	return r < 0 ? r : ok(c);
}

static int post_resume(struct call *c)
{
	return verb(c, engine_run_resume);
}

static int post_pause(struct call *c)
{
	return verb(c, engine_run_pause);
}

/* Said before anything is recorded: what was begun and can go neither on nor back says less. */
static int verb_on_place(struct call *c, verb_fn *fn)
{
	struct runs_context *ctx;
	int r = runs_get(c->d, &c->run->id, &ctx, &c->err);

	if (r == 0 && api_request_fd(c->q, "workspace") < 0)
		r = runs_landing_place(c->d, ctx, &c->err);
	return r < 0 ? r : verb(c, fn);
}

static int post_land(struct call *c)
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

static int post_undo(struct call *c)
{
	return verb_on_place(c, engine_run_undo);
}

static int post_end(struct call *c)
{
	return verb(c, engine_run_end);
}

static int post_cancel(struct call *c)
{
	struct journal_id id = c->run->id;
	int r = engine_run_cancel(c->d->engine, daemon_now(), &id, c->q->uid,
				  json_is_true(json_object_get(c->q->body, "kill")), &c->err);

	c->d->need_sync = true;
	return r < 0 ? r : ok(c);
}

/* from, where it is given: the level that the person saw; another one now is said, not overridden.
 */
static int post_agency(struct call *c)
{
	const char *asked = text(c, "agency"), *from = text(c, "from");
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
		     : answer(c, 200,
			      json_pack("{s:i, s:s, s:s}", "version", SUPERVISOR_API_VERSION,
					"agency", policy_agency_name(level), "before", now));
}

static int post_fork(struct call *c)
{
	const char *at = text(c, "at");
	struct journal_id id;
	int r;

	if (!at)
		return wrong(c, "'at' names the step to fork at");
	r = create_fork(c->d, c->q, c->run, at, &id, &c->err);
	return r < 0 ? r
		     : answer(c, 201,
			      json_pack("{s:i, s:o}", "version", SUPERVISOR_API_VERSION, "run",
					views_id(&id)));
}

static int get_diff(struct call *c)
{
	const char *step = api_request_query(c->q, "step");
	const struct journal_step *s = step ? runs_step(c->run, step) : NULL;

	if (step && !s)
		return error_set_exit(&c->err, -ENOENT, EXIT_STATUS_USAGE,
				      "no step %s in this run; see 'holdfast status'", step);
	return diffs_answer(c->d, c->run, s,
			    (asked(c, "stat") ? DIFFS_STAT : 0u) |
				    (asked(c, "all") ? DIFFS_ALL : 0u),
			    c->q->ticket, c->a, &c->err);
}

/* ---- steps ---- */

static int post_steps(struct call *c)
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
	return answer(c, reused ? 200 : 201,
		      json_pack("{s:i, s:s, s:i, s:b}", "version", SUPERVISOR_API_VERSION, "step",
				spec->name, "index", (int)step, "reused", reused));
}

static int get_step(struct call *c)
{
	return answer(c, 200, views_step(c->d, c->run, c->step));
}

static int get_output(struct call *c)
{
	const char *which = api_request_query(c->q, "stream");
	bool err_stream = which && strcmp(which, "err") == 0;
	uint64_t from, attempt = 0;
	int r = number(c, "from", 0, &from);

	if (r == 0)
		r = number(c, "attempt", 0, &attempt);
	if (r == 0 && attempt > UINT32_MAX)
		r = wrong(c, "attempt is its number");
	if (r == 0 && which && !err_stream && strcmp(which, "out") != 0)
		r = wrong(c, "stream is out or err");
	if (r == 0)
		r = streams_check_output(c->d, c->step, err_stream, &c->err);
	return r < 0 ? r
		     : stream(c,
			      streams_output(c->d, &c->run->id, c->step->index, (uint32_t)attempt,
					     err_stream, from, asked(c, "follow")),
			      "application/octet-stream");
}

static int last_attempt(struct call *c, struct journal_id *ret)
{
	if (c->step->attempt_count == 0)
		return error_set_exit(&c->err, -ESRCH, EXIT_STATUS_CONFLICT,
				      "it does not run: the step has no attempt yet");
	*ret = c->step->attempts[c->step->attempt_count - 1].id;
	return 0;
}

static int get_tty(struct call *c)
{
	struct journal_id attempt;
	int r = last_attempt(c, &attempt);

	if (r == 0)
		r = adopt_pty(c->d, &attempt, c->q->ticket, &c->err);
	c->a->later = r == 0;
	return r;
}

static int post_resize(struct call *c)
{
	json_int_t rows = json_integer_value(json_object_get(c->q->body, "rows")),
		   cols = json_integer_value(json_object_get(c->q->body, "cols"));
	struct journal_id attempt;
	int r = last_attempt(c, &attempt);

	if (rows < 1 || rows > UINT16_MAX || cols < 1 || cols > UINT16_MAX)
		return wrong(c, "rows and cols are numbers of a terminal");
	if (r == 0)
		r = adopt_resize(c->d, &attempt, (uint16_t)rows, (uint16_t)cols, &c->err);
	return r < 0 ? r : ok(c);
}

static int post_signal(struct call *c)
{
	json_int_t sig = json_integer_value(json_object_get(c->q->body, "signal"));
	struct journal_id attempt;
	int r = last_attempt(c, &attempt);

	if (sig < 1 || sig > 64)
		return wrong(c, "signal is a number from 1 to 64");
	if (r == 0)
		r = adopt_signal(c->d, &attempt, (int)sig, &c->err);
	return r < 0 ? r : ok(c);
}

/* ---- the queue ---- */

static int get_approvals(struct call *c)
{
	AUTO_BUFFER list = {0};
	size_t open = 0;
	uint64_t max;
	int r = number(c, "max", UINT64_MAX, &max);

	if (r == 0)
		r = queue_of(c->d, max, &list, &open);
	return r < 0 ? r
		     : answer_list(c,
				   json_pack("{s:i, s:I}", "version", SUPERVISOR_API_VERSION,
					     "open", (json_int_t)open),
				   "approvals", &list);
}

struct search {
	const char *prefix;
	const struct journal_approval *found;
	int count;
};

static int match_approval(const struct journal_approval *a, void *arg)
{
	struct search *s = arg;
	char id[JOURNAL_ID_TEXT_SIZE];

	if (strncmp(journal_id_text(&a->id, id), s->prefix, strlen(s->prefix)) == 0) {
		s->found = a;
		s->count++;
	}
	return 0;
}

/* Of a run in memory, whatever those of ended runs are called; else of an ended one. */
static int find_approval(struct call *c, const struct journal_approval **ret)
{
	struct search s = {.prefix = c->q->segments[2]};
	struct journal_id id, run;
	int r;

	(void)!journal_state_each_approval(c->d->rows, match_approval, &s);
	if (s.count > 1)
		return error_set_exit(&c->err, -ENOTUNIQ, EXIT_STATUS_USAGE,
				      "%s names several items; give more digits", s.prefix);
	if (s.count == 0) {
		r = journal_find_approval(c->d->journal, s.prefix, &id, &run, &c->err);
		if (r == 0 && !journal_state_run(c->d->rows, &run))
			r = journal_load_run(c->d->journal, &run, &c->err);
		if (r < 0)
			return r;
		s.found = journal_state_approval(c->d->rows, &id);
	}
	if (!s.found)
		return error_set_exit(&c->err, -ENOENT, EXIT_STATUS_USAGE,
				      "no item %s in the queue; see 'holdfast queue'", s.prefix);
	*ret = s.found;
	return 0;
}

static int load_run(const struct journal_run *run, void *arg)
{
	(void)run;
	(void)arg;
	return 0;
}

static json_t *stats_line(const struct stats_rule *r)
{
	return json_pack("{s:o, s:s?, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:b}",
			 "rule", r->name ? api_json_text(bytes_str(r->name)) : json_null(), "class",
			 r->has_class ? journal_class_name(r->class) : NULL, "asked", (int)r->asked,
			 "open", (int)r->open, "approved", (int)r->approved, "denied",
			 (int)r->denied, "expired", (int)r->expired, "withdrawn", (int)r->withdrawn,
			 "streak", (int)r->streak, "hasty", (int)r->hasty, "shown_ms",
			 (int)stats_median_ms(r), "always_approved", stats_always(r), "misplaced",
			 stats_misplaced(r));
}

static int get_stats(struct call *c)
{
	AUTO(stats_free) struct stats *s = NULL;
	json_t *rules;
	int r = each_run(c, load_run, NULL);

	if (r == 0)
		r = stats_of(c->d->rows, &s);
	if (r != 0)
		return r;
	rules = json_array();
	for (size_t i = 0; i < s->rule_count; i++)
		json_array_append_new(rules, stats_line(&s->rules[i]));
	return answer(c, 200,
		      json_pack("{s:i, s:o, s:o}", "version", SUPERVISOR_API_VERSION, "all",
				stats_line(&s->all), "rules", rules));
}

static int get_approval(struct call *c)
{
	const struct journal_approval *a;
	int r = find_approval(c, &a);

	return r < 0 ? r : answer(c, 200, views_approval(c->d, a));
}

static int keep_vote_file(struct call *c, struct digest *ret)
{
	int fd = api_request_fd(c->q, "file");
	uint64_t size;
	struct stat st;

	*ret = (struct digest){0};
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return error_set(&c->err, -errno, "the file cannot be looked at: %s",
				 strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set_exit(
			&c->err, -EINVAL, EXIT_STATUS_USAGE,
			"the answer is not a plain file; save it as one and name that");
	/* What is kept is what lands: never a part of it. */
	if ((uint64_t)st.st_size > JOURNAL_BLOB_MAX)
		return error_set_exit(&c->err, -E2BIG, EXIT_STATUS_LIMIT,
				      "the file is larger than the %llu bytes an answer may have; "
				      "answer 'mine' and put it there yourself",
				      (unsigned long long)JOURNAL_BLOB_MAX);
	return journal_blob_put_fd(c->d->journal, fd, JOURNAL_BLOB_MAX, ret, &size, &c->err);
}

static int post_vote(struct call *c)
{
	const struct journal_approval *a;
	struct digest file;
	int r = find_approval(c, &a);

	if (r == 0)
		r = keep_vote_file(c, &file);
	return r < 0 ? r : votes_post(c->d, c->q, a, &file, c->a, &c->err);
}

static int post_preview(struct call *c)
{
	const struct journal_approval *a;
	int r = find_approval(c, &a);

	return r < 0 ? r : votes_preview(c->d, c->q, a, c->a, &c->err);
}

static int parse_id(struct call *c, const char *hex, struct journal_id *ret)
{
	return hex && journal_id_parse(bytes_str(hex), ret) == 0 ? 0
								 : wrong(c, "an id is 32 digits");
}

static int post_replay(struct call *c)
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
	return answer(c, 200, o);
}

static int get_wants(struct call *c)
{
	json_t *o = NULL;
	int r = wants_run(c->d, c->run, &o, &c->err);

	if (r < 0)
		return r;
	json_object_set_new(o, "version", json_integer(SUPERVISOR_API_VERSION));
	json_object_set_new(o, "run", views_id(&c->run->id));
	return answer(c, 200, o);
}

static int post_revoke(struct call *c)
{
	struct journal_id run = c->run->id, grant;
	char principal[24];
	int r = parse_id(c, text(c, "grant"), &grant);

	snprintf(principal, sizeof(principal), "uid:%u", c->q->uid);
	if (r == 0)
		r = engine_grant_revoke(c->d->engine, daemon_now(), &run, &grant, c->q->uid,
					principal, &c->err);
	c->d->need_sync = true;
	return r < 0 ? r : ok(c);
}

/* ---- trust ---- */

static int post_trust(struct call *c)
{
	const char *path = text(c, "path"), *hex = text(c, "digest");
	struct journal_record r = {.type = JOURNAL_TRUST_PINNED,
				   .step = JOURNAL_NO_STEP,
				   .actor = JOURNAL_ACTOR_PERSON,
				   .actor_uid = c->q->uid};
	struct digest digest;

	if (!path || !policy_path_clean(bytes_str(path)) || !hex ||
	    digest_from_hex(bytes_str(hex), &digest) < 0)
		return wrong(c, "trust needs an absolute path and a digest");
	JOURNAL_SET(&r.p, path, bytes_str(path));
	JOURNAL_SET(&r.p, digest, digest);
	journal_append(c->d->journal, &r, NULL);
	c->d->need_sync = true;
	return ok(c);
}

static int get_trust(struct call *c)
{
	const char *path = api_request_query(c->q, "path");
	const struct journal_trust *t = path ? journal_state_trust(c->d->rows, path) : NULL;

	if (!path)
		return wrong(c, "path is missing");
	return answer(c, 200,
		      json_pack("{s:i, s:s, s:o, s:o}", "version", SUPERVISOR_API_VERSION, "path",
				path, "digest", t ? views_digest(&t->digest) : json_null(), "at",
				t ? views_time(t->at_ns) : json_null()));
}

/* ---- the journal ---- */

static int audit(struct call *c, struct audits_request q)
{
	int r;

	q.ticket = c->q->ticket;
	c->a->later = true;
	r = audits_start(c->d, &q, &c->err);
	if (r < 0)
		c->a->later = false;
	return r;
}

static int get_verify(struct call *c)
{
	return audit(c, (struct audits_request){.kind = AUDITS_VERIFY});
}

static int get_fsck(struct call *c)
{
	return audit(c, (struct audits_request){.kind = AUDITS_FSCK});
}

static int get_export(struct call *c)
{
	const char *name = api_request_query(c->q, "run");
	struct audits_request q = {.kind = AUDITS_EXPORT, .one_run = name != NULL};
	const struct journal_run *run;
	int r = name ? runs_find(c->d, name, true, &run, &c->err) : 0;

	if (r < 0)
		return r;
	if (name)
		q.run = run->id;
	return audit(c, q);
}

/* RFC 3339 in UTC, fractions cut off: "2026-05-01T00:00:00Z". */
static int parse_time(const char *s, int64_t *ret_ns)
{
	struct tm tm = {0};
	const char *end = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);

	if (end && *end == '.')
		end += 1 + strspn(end + 1, "0123456789");
	if (!end || strcmp(end, "Z") != 0)
		return -EINVAL;
	*ret_ns = (int64_t)timegm(&tm) * 1000000000;
	return 0;
}

static int gc_before(struct call *c, enum audits_kind kind, const char *text_before)
{
	struct audits_request q = {.kind = kind};

	if (text_before && parse_time(text_before, &q.before_ns) < 0)
		return wrong(c, "ended_before is no RFC 3339 time in UTC");
	return audit(c, q);
}

static int get_gc(struct call *c)
{
	return gc_before(c, AUDITS_GC_LIST, api_request_query(c->q, "ended_before"));
}

static int post_gc(struct call *c)
{
	return gc_before(c, AUDITS_GC, text(c, "ended_before"));
}

/* ---- effects ---- */

static int find_effect(struct call *c, const struct journal_effect **ret)
{
	struct journal_id id, run;
	int r = journal_find_effect(c->d->journal, c->q->segments[2], &id, &run, &c->err);

	if (r == 0)
		r = journal_load_run(c->d->journal, &run, &c->err);
	if (r < 0)
		return r;
	c->run = journal_state_run(c->d->rows, &run);
	*ret = journal_state_effect(c->d->rows, &id);
	return c->run && *ret ? 0 : -ENOENT;
}

static int get_effect(struct call *c)
{
	const struct journal_effect *f;
	int r = find_effect(c, &f);
	json_t *o = r < 0 ? NULL : effect_view_whole(c->d, c->run, f, &c->err);

	return r < 0 ? r : o ? answer(c, 200, o) : -EIO;
}

static int get_effect_body(struct call *c)
{
	const char *which = api_request_query(c->q, "which");
	bool response = which && strcmp(which, "response") == 0;
	const struct journal_effect *f;
	AUTO_FD fd = -1;
	int r = find_effect(c, &f);

	if (r == 0 && which && !response && strcmp(which, "request") != 0)
		r = wrong(c, "which is request or response");
	if (r < 0)
		return r;
	const struct digest *d = response ? &f->response_body : &f->body;

	if (digest_is_zero(d))
		return error_set_exit(&c->err, -ENOENT, EXIT_STATUS_USAGE,
				      "the %s has no body that is kept",
				      response ? "response" : "request");
	fd = journal_blob_open(c->d->journal, d, &c->err);
	return fd < 0 ? fd : stream(c, streams_fd(take_fd(&fd)), "application/octet-stream");
}

static int post_effect_undo(struct call *c)
{
	const struct journal_effect *f;
	int r = find_effect(c, &f);

	if (r == 0)
		r = effect_undo_start(c->d, c->run, f, c->q->uid, c->q->ticket, &c->err);
	c->a->later = r == 0;
	return r;
}

/* ---- the table ---- */

/* READS: it changes nothing, though it is a POST. */
enum { WANTS_RUN = 1, WANTS_STEP = 2, READS = 4 };

static const struct route {
	bool post;
	const char *path; /* "*" takes any segment */
	unsigned wants;
	int (*fn)(struct call *c);
} routes[] = {
	{false, "v1/daemon", 0, get_daemon},
	{true, "v1/daemon/stop", 0, post_stop},
	{true, "v1/runs", 0, post_runs},
	{false, "v1/runs", 0, get_runs},
	{false, "v1/runs/*", WANTS_RUN, get_run},
	{false, "v1/runs/*/events", WANTS_RUN, get_events},
	{false, "v1/runs/*/diff", WANTS_RUN, get_diff},
	{true, "v1/runs/*/resume", WANTS_RUN, post_resume},
	{true, "v1/runs/*/pause", WANTS_RUN, post_pause},
	{true, "v1/runs/*/cancel", WANTS_RUN, post_cancel},
	{true, "v1/runs/*/land", WANTS_RUN, post_land},
	{true, "v1/runs/*/undo", WANTS_RUN, post_undo},
	{true, "v1/runs/*/end", WANTS_RUN, post_end},
	{true, "v1/runs/*/agency", WANTS_RUN, post_agency},
	{true, "v1/runs/*/fork", WANTS_RUN, post_fork},
	{true, "v1/runs/*/revoke", WANTS_RUN, post_revoke},
	{false, "v1/runs/*/wants", WANTS_RUN, get_wants},
	{true, "v1/runs/*/replay", WANTS_RUN | READS, post_replay},
	{true, "v1/runs/*/steps", WANTS_RUN, post_steps},
	{false, "v1/runs/*/steps/*", WANTS_RUN | WANTS_STEP, get_step},
	{false, "v1/runs/*/steps/*/output", WANTS_RUN | WANTS_STEP, get_output},
	{false, "v1/runs/*/steps/*/tty", WANTS_RUN | WANTS_STEP, get_tty},
	{true, "v1/runs/*/steps/*/resize", WANTS_RUN | WANTS_STEP, post_resize},
	{true, "v1/runs/*/steps/*/signal", WANTS_RUN | WANTS_STEP, post_signal},
	{false, "v1/approvals", 0, get_approvals},
	{false, "v1/approvals/stats", 0, get_stats},
	{false, "v1/approvals/*", 0, get_approval},
	{true, "v1/approvals/*/vote", 0, post_vote},
	{true, "v1/approvals/*/preview", 0, post_preview},
	{false, "v1/effects/*", 0, get_effect},
	{false, "v1/effects/*/body", 0, get_effect_body},
	{true, "v1/effects/*/undo", 0, post_effect_undo},
	{true, "v1/trust", 0, post_trust},
	{false, "v1/trust", 0, get_trust},
	{false, "v1/verify", 0, get_verify},
	{false, "v1/fsck", 0, get_fsck},
	{false, "v1/export", 0, get_export},
	{false, "v1/gc", 0, get_gc},
	{true, "v1/gc", 0, post_gc},
};

static bool matches(const struct route *r, const struct api_request *q)
{
	const char *at = r->path;

	for (size_t i = 0; i < q->segment_count; i++) {
		size_t n = strcspn(at, "/");

		if (n == 0)
			return false;
		if (!(n == 1 && at[0] == '*') &&
		    (strlen(q->segments[i]) != n || strncmp(at, q->segments[i], n) != 0))
			return false;
		at += n;
		at += *at == '/';
	}
	return *at == '\0';
}

static int resolve(struct call *c, unsigned wants)
{
	int r = 0;

	if (wants & WANTS_RUN)
		r = runs_find(c->d, c->q->segments[2],
			      (wants & READS) || (!c->q->post && !asked(c, "decide")), &c->run,
			      &c->err);
	if (r == 0 && (wants & WANTS_STEP)) {
		c->step = runs_step(c->run, c->q->segments[4]);
		if (!c->step)
			r = error_set_exit(&c->err, -ENOENT, EXIT_STATUS_USAGE,
					   "no step %s in this run; see 'holdfast status'",
					   c->q->segments[4]);
	}
	return r;
}

void routes_handle(void *ctx, struct api_request *q, struct api_answer *a)
{
	struct call c = {.d = ctx, .q = q, .a = a};
	bool other_method = false;

	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		int r;

		if (!matches(&routes[i], q))
			continue;
		if (routes[i].post != q->post) {
			other_method = true;
			continue;
		}
		if (q->post)
			daemon_look_at_space(c.d);
		r = resolve(&c, routes[i].wants);
		if (r == 0)
			r = routes[i].fn(&c);
		if (r < 0) {
			error_set(&c.err, r, "failed: %s", strerror(-r));
			c.err.code = r;
			api_answer_error(a, 0, &c.err);
		}
		return;
	}
	error_set_exit(&c.err, -ENOENT, EXIT_STATUS_USAGE, "no such endpoint: %s; see supervisor.h",
		       other_method ? "it takes another method" : "nothing is served there");
	api_answer_error(a, other_method ? 405 : 404, &c.err);
}
