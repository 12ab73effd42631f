#include "supervisor/replay.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "supervisor/api/server.h"
#include "supervisor/api/views.h"
#include "supervisor/confine.h"
#include "supervisor/diff.h"
#include "supervisor/effect_decide.h"
#include "supervisor/recorded.h"
#include "supervisor/runs.h"
#include "supervisor/work.h"

struct replay {
	struct daemon *d;
	const struct journal_run *run;
	const struct runs_context *ctx;
	const struct policy_effective *now;
	struct policy_effective **before, **after; /* by step, made when first needed */
	json_t *differences; /* title and verdicts -> object */
	json_t *by_key; /* borrowed objects of it */
	uint64_t decided, left_out, more;
	struct error *err;
};

static int side_of(struct policy_effective **s, const struct policy_effective *run,
		   const char *step, struct error *err)
{
	return *s ? 0 : policy_effective_step(run, step, POLICY_AGENCY_UNSET, s, err);
}

static int sides(struct replay *x, const struct journal_step *step)
{
	int r = side_of(&x->before[step->index], x->ctx->policy, step->name, x->err);

	return r < 0 ? r : side_of(&x->after[step->index], x->now, step->name, x->err);
}

/* ---- differences ---- */

static json_t *verdict_json(const struct policy_decision *d)
{
	json_t *o = json_pack("{s:s}", "verdict", policy_verdict_name(d->verdict));

	if (d->has_class)
		json_object_set_new(o, "class", json_string(policy_class_name(d->class)));
	if (d->rule && d->rule[0])
		json_object_set_new(o, "rule", api_json_text(bytes_str(d->rule)));
	if (d->at.file && d->at.file[0]) {
		char at[320];

		utf8_printf(at, sizeof(at), "%s:%d:%d", d->at.file, d->at.line, d->at.column);
		json_object_set_new(o, "at", api_json_text(bytes_str(at)));
	}
	if (d->why[0])
		json_object_set_new(o, "why", api_json_text(bytes_str(d->why)));
	return o;
}

/* Equal ones of a step are one line with a count, but effects: each has an id. Takes before and
 * after over. */
static void differ(struct replay *x, const char *what, const struct recorded *r,
		   const struct journal_step *step, const char *title, json_t *before,
		   json_t *after)
{
	AUTO_BUFFER key = {0};
	json_t *o, *seen;

	buffer_printf(&key, "%s %u %s %s %s", what, step->index, title,
		      json_string_value(json_object_get(before, "verdict")),
		      json_string_value(json_object_get(after, "verdict")));
	seen = r && r->effect ? NULL : json_object_get(x->by_key, (const char *)key.data);
	if (seen || json_array_size(x->differences) == REPLAY_SHOWN_MAX) {
		if (seen)
			json_object_set_new(seen, "count",
					    json_integer(json_integer_value(
								 json_object_get(seen, "count")) +
							 1));
		else
			x->more++;
		json_decref(before);
		json_decref(after);
		return;
	}
	o = json_pack("{s:s, s:o, s:o, s:i, s:o, s:o}", "what", what, "step",
		      api_json_text(bytes_str(step->name)), "title",
		      api_json_text(bytes_str(title)), "count", 1, "before", before, "after",
		      after);
	if (r && r->effect)
		json_object_set_new(o, "effect", views_id(&r->effect->id));
	json_array_append_new(x->differences, o);
	json_object_set(x->by_key, (const char *)key.data, o);
}

static void compare(struct replay *x, const char *what, const struct recorded *r, const char *title,
		    const struct policy_decision *before, const struct policy_decision *after)
{
	x->decided++;
	if (before->verdict == after->verdict &&
	    (before->verdict == POLICY_DENY ||
	     (before->class == after->class && strcmp(before->secret ? before->secret : "",
						      after->secret ? after->secret : "") == 0)))
		return;
	differ(x, what, r, r->step, title, verdict_json(before), verdict_json(after));
}

/* ---- effects ---- */

static int effect(struct replay *x, const struct recorded *r)
{
	struct effect_decision before, after;
	char title[EFFECT_DECIDE_TITLE_MAX];
	int e = effect_decide(x->before[r->step->index], r->action, r->body, &before);

	if (e == 0)
		e = effect_decide(x->after[r->step->index], r->action, r->body, &after);
	if (e < 0)
		return error_nomem(x->err);
	effect_decide_title(r->action, title);
	compare(x, "effect", r, title, &before.policy, &after.policy);
	return 0;
}

/* ---- reads and refusals: what was recorded may mean several requests, of which the one counts that
 * the run's own policy decides as it was recorded ---- */

enum { MEANINGS_MAX = 3 };

struct meanings {
	struct action v[MEANINGS_MAX];
	char remote[1024];
	size_t count;
};

static bool ends_with(struct bytes b, const char *end, struct bytes *ret_before)
{
	size_t n = strlen(end);

	if (b.len < n || memcmp((const char *)b.data + b.len - n, end, n) != 0)
		return false;
	*ret_before = bytes_of(b.data, b.len - n);
	return true;
}

static void add_meaning(struct meanings *m, const struct action *a)
{
	if (m->count < MEANINGS_MAX)
		m->v[m->count++] = *a;
}

static void git_meanings(const struct report_read *r, struct meanings *m)
{
	struct action a = {.kind = ACTION_GIT};
	struct bytes path;
	bool any = ends_with(r->path, "/info/refs", &path);
	bool push = ends_with(r->path, "/git-receive-pack", &path);

	if (!any && !push && !ends_with(r->path, "/git-upload-pack", &path))
		return;
	snprintf(m->remote, sizeof(m->remote), "https://%.*s%.*s", (int)r->host.len,
		 (const char *)r->host.data, (int)path.len, (const char *)path.data);
	a.remote = bytes_str(m->remote);
	if (!push)
		add_meaning(m, &a);
}

static void meanings_of(const struct report_read *r, struct meanings *m)
{
	struct action a = {.kind = r->kind,
			   .method = r->method,
			   .host = r->host,
			   .port = r->port,
			   .path = r->path};

	m->count = 0;
	if (r->kind == ACTION_GIT) {
		git_meanings(r, m);
	} else if (r->kind == ACTION_HTTP && r->method.len) {
		a.scheme = bytes_str(r->port == 80 ? "http" : "https");
		add_meaning(m, &a);
		a.scheme = bytes_str(r->port == 80 ? "https" : "http");
		add_meaning(m, &a);
	} else if (r->kind == ACTION_TCP && r->port) {
		a.scheme = bytes_str("tcp");
		add_meaning(m, &a);
		a.scheme = bytes_str("tls");
		add_meaning(m, &a);
	}
}

static void name(struct replay *x, const struct recorded *r)
{
	AUTO_FREE char *host = bytes_dup_str(r->read->host);
	char title[300];
	bool was, is;

	if (!host)
		return;
	was = policy_net_names(x->before[r->step->index], host);
	is = policy_net_names(x->after[r->step->index], host);
	if (was) { /* an earlier attempt's, under another dial */
		x->left_out++;
		return;
	}
	x->decided++;
	snprintf(title, sizeof(title), "the name %s", host);
	if (is)
		differ(x, "name", NULL, r->step, title, json_pack("{s:s}", "verdict", "unknown"),
		       json_pack("{s:s, s:s}", "verdict", "resolves", "why",
				 "some rule names this host; what is asked of it is decided then"));
}

static int reading(struct replay *x, const struct recorded *r)
{
	AUTO_FREE struct meanings *m = malloc(sizeof(*m));
	enum policy_verdict recorded = r->read->denied ? POLICY_DENY : POLICY_ALLOW;

	if (!m)
		return error_nomem(x->err);
	if (recorded_is_name(r->read)) {
		name(x, r);
		return 0;
	}
	meanings_of(r->read, m);
	for (size_t i = 0; i < m->count && !recorded_is_cut(r->read); i++) {
		struct effect_decision before, after;
		char title[EFFECT_DECIDE_TITLE_MAX];
		int e = effect_decide(x->before[r->step->index], &m->v[i], bytes_str(""), &before);

		if (e == 0)
			e = effect_decide(x->after[r->step->index], &m->v[i], bytes_str(""),
					  &after);
		if (e < 0)
			return error_nomem(x->err);
		if (before.policy.verdict != recorded)
			continue;
		effect_decide_title(&m->v[i], title);
		compare(x, r->read->denied ? "denial" : "read", r, title, &before.policy,
			&after.policy);
		return 0;
	}
	x->left_out++;
	return 0;
}

static int each(const struct recorded *r, void *arg)
{
	struct replay *x = arg;
	int e = sides(x, r->step);

	return e < 0 ? e : r->effect ? effect(x, r) : reading(x, r);
}

/* ---- paths ---- */

static const char *const fs_words[] = {
	[POLICY_FS_ALLOW] = "lands", [POLICY_FS_STAYS] = "stays", [POLICY_FS_DENY] = "left out"};

static json_t *path_json(const struct policy_fs_decision *d)
{
	char at[320] = "";

	if (d->at.file && d->at.file[0])
		utf8_printf(at, sizeof(at), "%s:%d:%d", d->at.file, d->at.line, d->at.column);
	return json_pack("{s:s, s:o, s:o}", "verdict", fs_words[d->verdict], "at",
			 api_json_text(bytes_str(at)), "why", api_json_text(bytes_str(d->why)));
}

static void path(struct replay *x, const struct journal_step *step, const struct manifest_entry *e,
		 const struct policy_fs *was, const struct policy_fs *is)
{
	struct policy_fs_decision before, after;
	char whole[8192];
	int n = snprintf(whole, sizeof(whole), "%s/%.*s", x->run->workspace, (int)e->path.len,
			 (const char *)e->path.data);
	enum policy_want want = e->type == MANIFEST_WHITEOUT ? POLICY_WANT_REMOVE
				: e->type == MANIFEST_DIR    ? POLICY_WANT_FOLDER
							     : POLICY_WANT_LAND;

	if (n < 0 || (size_t)n >= sizeof(whole)) {
		x->left_out++;
		return;
	}
	policy_fs_decide(was, bytes_str(whole), want, &before);
	policy_fs_decide(is, bytes_str(whole), want, &after);
	x->decided++;
	if (before.verdict != after.verdict)
		differ(x, "path", NULL, step, whole + strlen(x->run->workspace) + 1,
		       path_json(&before), path_json(&after));
}

static int layer(struct replay *x, const struct journal_step *step, const struct landing_layer *l)
{
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	AUTO(policy_fs_free) struct policy_fs *is = NULL;
	int r = confine_fs(x->now, step->name, x->run->workspace, x->ctx->settings.home, &e, &is,
			   x->err);

	for (size_t i = 0; r == 0 && i < manifest_count(l->manifest); i++) {
		const struct manifest_entry *m = manifest_at(l->manifest, i);

		if (manifest_entry_changes(m) && m->path.len)
			path(x, step, m, l->fs, is);
	}
	return r;
}

static int layers(struct replay *x)
{
	__attribute__((cleanup(work_stack_free))) struct work_stack stack = {0};
	AUTO_FREE const struct journal_step **steps =
		calloc(engine_stack(x->run, NULL, NULL) + 1, sizeof(*steps));
	int r = steps ? work_stack(x->d, x->run, NULL, &stack, x->err) : error_nomem(x->err);

	if (r < 0)
		return r;
	engine_stack(x->run, NULL, steps);
	for (size_t i = 0; i < stack.count && r == 0; i++)
		r = layer(x, steps[i], &stack.layers[i]);
	return r;
}

/* ---- the whole ---- */

static void replay_free(struct replay *x)
{
	for (uint32_t i = 0; i < x->run->step_count; i++) {
		policy_effective_free(x->before ? x->before[i] : NULL);
		policy_effective_free(x->after ? x->after[i] : NULL);
	}
	free(x->before);
	free(x->after);
	json_decref(x->by_key);
	json_decref(x->differences);
}

int replay_run(struct daemon *d, const struct journal_run *run, const struct policy_effective *now,
	       json_t **ret, struct error *err)
{
	struct runs_context *ctx;
	__attribute__((cleanup(replay_free))) struct replay x = {
		.d = d,
		.run = run,
		.now = now,
		.before = calloc(run->step_count + 1, sizeof(*x.before)),
		.after = calloc(run->step_count + 1, sizeof(*x.after)),
		.differences = json_array(),
		.by_key = json_object(),
		.err = err,
	};
	int r = runs_get(d, &run->id, &ctx, err);

	if (r < 0 || !x.before || !x.after)
		return r < 0 ? r : error_nomem(err);
	x.ctx = ctx;
	r = recorded_each(d, run, each, &x, err);
	if (r == 0)
		r = layers(&x);
	if (r < 0)
		return r;
	*ret = json_pack("{s:I, s:I, s:O, s:I}", "decided", (json_int_t)x.decided, "left_out",
			 (json_int_t)x.left_out, "differences", x.differences, "more",
			 (json_int_t)x.more);
	return *ret ? 0 : error_nomem(err);
}
