/*
 * The door of the control socket's endpoints: the row that takes a request is found, the run and the
 * step that it names are looked up, and its function answers. Here are the rows of the supervisor
 * itself, of trust, journal and effects; those of runs and steps are routes_run.c's, those of the
 * lists and of what waits for a person routes_queue.c's.
 *
 * Called by api/server.c with whole requests, on the loop's thread; what blocks goes aside (aside.h)
 * and answers by its ticket.
 */
#include "supervisor/api/routes.h"
#include "supervisor/api/routes_private.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "supervisor/adopt.h"
#include "supervisor/api/effect_view.h"
#include "supervisor/api/streams.h"
#include "supervisor/api/views.h"
#include "supervisor/audits.h"
#include "supervisor/effect_undo.h"
#include "supervisor/runs.h"

/* ---- for every row ---- */

int routes_answer(struct routes_call *c, int status, json_t *o)
{
	c->a->status = status;
	c->a->json = o;
	return o ? 0 : -ENOMEM;
}

int routes_ok(struct routes_call *c)
{
	return routes_answer(c, 200,
			     json_pack("{s:i, s:b}", "version", SUPERVISOR_API_VERSION, "ok", 1));
}

int routes_wrong(struct routes_call *c, const char *what)
{
	return error_set_exit(&c->err, -EINVAL, EXIT_STATUS_USAGE,
			      "bad request: %s; see supervisor.h", what);
}

const char *routes_text(const struct routes_call *c, const char *key)
{
	return json_string_value(json_object_get(c->q->body, key));
}

bool routes_asked(const struct routes_call *c, const char *key)
{
	const char *v = api_request_query(c->q, key);

	return v && strcmp(v, "0") != 0;
}

int routes_number(struct routes_call *c, const char *key, uint64_t otherwise, uint64_t *ret)
{
	const char *v = api_request_query(c->q, key);
	char *end;

	*ret = otherwise;
	if (!v)
		return 0;
	errno = 0;
	*ret = strtoull(v, &end, 10);
	return v[0] < '0' || v[0] > '9' || *end || errno
		       ? routes_wrong(c, "a number was expected in the query")
		       : 0;
}

int routes_stream(struct routes_call *c, struct api_stream *s, const char *type)
{
	c->a->status = 200;
	c->a->type = type;
	c->a->stream = s;
	return s ? 0 : -ENOMEM;
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

static int get_daemon(struct routes_call *c)
{
	struct daemon *d = c->d;

	return routes_answer(c, 200,
			     json_pack("{s:i, s:i, s:I, s:i, s:s, s:b, s:I, s:i, s:o}", "version",
				       SUPERVISOR_API_VERSION, "pid", (int)getpid(), "epoch",
				       (json_int_t)d->epoch, "keeper", (int)adopt_keeper_pid(d),
				       "program", HOLDFAST_VERSION, "embedded", d->options.embedded,
				       "idle_in_ms", (json_int_t)daemon_idle_in_ms(d), "clients",
				       (int)api_server_connections(d->api), "settings",
				       settings_in_force(d->settings)));
}

static int post_stop(struct routes_call *c)
{
	daemon_stop(c->d);
	return routes_ok(c);
}

/* ---- trust ---- */

static int post_trust(struct routes_call *c)
{
	const char *path = routes_text(c, "path"), *hex = routes_text(c, "digest");
	struct journal_record r = {.type = JOURNAL_TRUST_PINNED,
				   .step = JOURNAL_NO_STEP,
				   .actor = JOURNAL_ACTOR_PERSON,
				   .actor_uid = c->q->uid};
	struct digest digest;

	if (!path || !policy_path_clean(bytes_str(path)) || !hex ||
	    digest_from_hex(bytes_str(hex), &digest) < 0)
		return routes_wrong(c, "trust needs an absolute path and a digest");
	JOURNAL_SET(&r.p, path, bytes_str(path));
	JOURNAL_SET(&r.p, digest, digest);
	journal_append(c->d->journal, &r, NULL);
	c->d->need_sync = true;
	return routes_ok(c);
}

static int get_trust(struct routes_call *c)
{
	const char *path = api_request_query(c->q, "path");
	const struct journal_trust *t = path ? journal_state_trust(c->d->rows, path) : NULL;

	if (!path)
		return routes_wrong(c, "path is missing");
	return routes_answer(c, 200,
			     json_pack("{s:i, s:s, s:o, s:o}", "version", SUPERVISOR_API_VERSION,
				       "path", path, "digest",
				       t ? views_digest(&t->digest) : json_null(), "at",
				       t ? views_time(t->at_ns) : json_null()));
}

/* ---- the journal ---- */

static int audit(struct routes_call *c, struct audits_request q)
{
	int r;

	q.ticket = c->q->ticket;
	c->a->later = true;
	r = audits_start(c->d, &q, &c->err);
	if (r < 0)
		c->a->later = false;
	return r;
}

static int get_verify(struct routes_call *c)
{
	return audit(c, (struct audits_request){.kind = AUDITS_VERIFY});
}

static int get_fsck(struct routes_call *c)
{
	return audit(c, (struct audits_request){.kind = AUDITS_FSCK});
}

static int get_export(struct routes_call *c)
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

static int gc_before(struct routes_call *c, enum audits_kind kind, const char *text_before)
{
	struct audits_request q = {.kind = kind};

	if (text_before && parse_time(text_before, &q.before_ns) < 0)
		return routes_wrong(c, "ended_before is no RFC 3339 time in UTC");
	return audit(c, q);
}

static int get_gc(struct routes_call *c)
{
	return gc_before(c, AUDITS_GC_LIST, api_request_query(c->q, "ended_before"));
}

static int post_gc(struct routes_call *c)
{
	return gc_before(c, AUDITS_GC, routes_text(c, "ended_before"));
}

/* ---- effects ---- */

static int find_effect(struct routes_call *c, const struct journal_effect **ret)
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

static int get_effect(struct routes_call *c)
{
	const struct journal_effect *f;
	int r = find_effect(c, &f);
	json_t *o = r < 0 ? NULL : effect_view_whole(c->d, c->run, f, &c->err);

	return r < 0 ? r : o ? routes_answer(c, 200, o) : -EIO;
}

static int get_effect_body(struct routes_call *c)
{
	const char *which = api_request_query(c->q, "which");
	bool response = which && strcmp(which, "response") == 0;
	const struct journal_effect *f;
	AUTO_FD fd = -1;
	int r = find_effect(c, &f);

	if (r == 0 && which && !response && strcmp(which, "request") != 0)
		r = routes_wrong(c, "which is request or response");
	if (r < 0)
		return r;
	const struct digest *d = response ? &f->response_body : &f->body;

	if (digest_is_zero(d))
		return error_set_exit(&c->err, -ENOENT, EXIT_STATUS_USAGE,
				      "the %s has no body that is kept",
				      response ? "response" : "request");
	fd = journal_blob_open(c->d->journal, d, &c->err);
	return fd < 0 ? fd : routes_stream(c, streams_fd(take_fd(&fd)), "application/octet-stream");
}

static int post_effect_undo(struct routes_call *c)
{
	const struct journal_effect *f;
	int r = find_effect(c, &f);

	if (r == 0)
		r = effect_undo_start(c->d, c->run, f, c->q->uid, c->q->ticket, &c->err);
	c->a->later = r == 0;
	return r;
}

static const struct routes_row own_rows[] = {
	{false, "v1/daemon", 0, get_daemon},
	{true, "v1/daemon/stop", 0, post_stop},
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
	{0},
};

/* ---- the tables ---- */

static bool matches(const struct routes_row *r, const struct api_request *q)
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

static int resolve(struct routes_call *c, unsigned wants)
{
	int r = 0;

	if (wants & ROUTES_RUN)
		r = runs_find(c->d, c->q->segments[2],
			      (wants & ROUTES_READS) || (!c->q->post && !routes_asked(c, "decide")),
			      &c->run, &c->err);
	if (r == 0 && (wants & ROUTES_STEP)) {
		c->step = runs_step(c->run, c->q->segments[4]);
		if (!c->step)
			r = error_set_exit(&c->err, -ENOENT, EXIT_STATUS_USAGE,
					   "no step %s in this run; see 'holdfast status'",
					   c->q->segments[4]);
	}
	return r;
}

/* NULL: none; then *ret_other_method says whether one would take it by another. */
static const struct routes_row *find_row(const struct api_request *q, bool *ret_other_method)
{
	static const struct routes_row *const tables[] = {own_rows, routes_run_rows,
							  routes_queue_rows};

	*ret_other_method = false;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		for (const struct routes_row *r = tables[i]; r->path; r++) {
			if (!matches(r, q))
				continue;
			if (r->post == q->post)
				return r;
			*ret_other_method = true;
		}
	}
	return NULL;
}

void routes_handle(void *ctx, struct api_request *q, struct api_answer *a)
{
	struct routes_call c = {.d = ctx, .q = q, .a = a};
	bool other_method;
	const struct routes_row *row = find_row(q, &other_method);
	int r;

	if (!row) {
		error_set_exit(&c.err, -ENOENT, EXIT_STATUS_USAGE,
			       "no such endpoint: %s; see supervisor.h",
			       other_method ? "it takes another method"
					    : "nothing is served there");
		api_answer_error(a, other_method ? 405 : 404, &c.err);
		return;
	}
	if (q->post)
		daemon_look_at_space(c.d);
	r = resolve(&c, row->wants);
	if (r == 0)
		r = row->fn(&c);
	if (r < 0) {
		error_set(&c.err, r, "failed: %s", strerror(-r));
		c.err.code = r;
		api_answer_error(a, 0, &c.err);
	}
}
