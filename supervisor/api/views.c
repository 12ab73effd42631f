/*
 * Rows as JSON, for api/ and for what asks of rows elsewhere (votes.c, replay.c): the small values
 * that all of it is made of, runs and what `status` tells of them, and events. Steps are
 * views_step.c's, items of the queue views_approval.c's, effects effect_view.c's. Changes nothing.
 * On the loop's thread, but for views_dropping, which audits.c calls beside it and which sees
 * nothing but the run it is given.
 */
#include "supervisor/api/views.h"
#include "supervisor/api/views_private.h"

#include <string.h>
#include <time.h>

#include "base/cbor.h"
#include "supervisor/api/effect_view.h"
#include "supervisor/engine.h"
#include "supervisor/landing_plan.h"
#include "supervisor/runs.h"
#include "supervisor/status.h"

/* ---- small values ---- */

json_t *views_id(const struct journal_id *id)
{
	char text[JOURNAL_ID_TEXT_SIZE];

	return json_string(journal_id_text(id, text));
}

json_t *views_digest(const struct digest *d)
{
	char hex[DIGEST_HEX_SIZE];

	return digest_is_zero(d) ? json_null() : json_string(digest_hex(d, hex));
}

const char *views_time_text(int64_t ns, char text[VIEWS_TIME_SIZE])
{
	time_t s = (time_t)(ns / 1000000000);
	struct tm tm;
	size_t n;

	if (ns == 0 || !gmtime_r(&s, &tm))
		return NULL;
	n = strftime(text, VIEWS_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, VIEWS_TIME_SIZE - n, ".%06dZ", (int)(ns % 1000000000 / 1000));
	return text;
}

json_t *views_time(int64_t ns)
{
	char buf[VIEWS_TIME_SIZE];
	const char *text = views_time_text(ns, buf);

	return text ? json_string(text) : json_null();
}

json_t *views_text(const char *s)
{
	return s && s[0] ? api_json_text(bytes_str(s)) : json_null();
}

const char *views_state_text(const char *name, char out[VIEWS_STATE_SIZE])
{
	size_t i;

	for (i = 0; name && name[i] && i < VIEWS_STATE_SIZE - 1; i++)
		out[i] = name[i] == '_'			    ? '-'
			 : name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32)
							    : name[i];
	out[i] = '\0';
	return out;
}

json_t *views_state(const char *name)
{
	char out[VIEWS_STATE_SIZE];

	return json_string(views_state_text(name, out));
}

static json_t *waits_of(unsigned waits)
{
	json_t *list = json_array();

	for (unsigned bit = 1; bit <= JOURNAL_WAIT_LEASE; bit <<= 1)
		if (waits & bit)
			json_array_append_new(list, json_string(journal_wait_name(
							    (enum journal_wait)bit)));
	return list;
}

static json_t *waits_text(unsigned waits)
{
	AUTO_BUFFER b = {0};

	for (unsigned bit = 1; bit <= JOURNAL_WAIT_LEASE; bit <<= 1)
		if (waits & bit)
			buffer_printf(&b, "%s%s", b.len ? ", " : "",
				      journal_wait_name((enum journal_wait)bit));
	return b.len ? json_string((const char *)b.data) : json_null();
}

const struct journal_attempt *views_last_attempt(const struct journal_step *s)
{
	return s->attempt_count > 0 ? &s->attempts[s->attempt_count - 1] : NULL;
}

/* ---- runs ---- */

/* What was weaker than the policy asked for, where it allowed that. */
void views_weaker(json_t *notes, uint64_t bits)
{
	bool memory = bits & SANDBOX_WEAKER_MEMORY;
	bool cpu = bits & SANDBOX_WEAKER_CPU;

	if (memory || cpu)
		json_array_append_new(notes,
				      json_sprintf("%s%s%s %s sampled, not enforced by the kernel, "
						   "on this machine; see 'holdfast doctor'",
						   memory ? "memory" : "",
						   memory && cpu ? " and " : "", cpu ? "cpu" : "",
						   memory && cpu ? "limits are" : "limit is"));
	if (bits & SANDBOX_WEAKER_LANDLOCK)
		json_array_append_new(notes,
				      json_string("this kernel has no Landlock: mounts alone keep "
						  "steps to their files; see 'holdfast doctor'"));
}

static json_t *head_of(struct daemon *d, const struct journal_run *run)
{
	json_t *path = api_json_text(bytes_str(run->workspace));
	struct runs_context *ctx;
	const char *stuck;
	json_t *o;
	const char *name = run->name; /* else the plan's own, for people: it names no run */

	if (!name && runs_get(d, &run->id, &ctx, NULL) == 0 && ctx->plan)
		name = ctx->plan->name;

	o = json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:i}", "version",
		      SUPERVISOR_API_VERSION, "run", views_id(&run->id), "name", views_text(name),
		      "state", views_state(journal_run_state_name(run->state)), "waits",
		      waits_of(run->waits), "landing",
		      views_state(journal_landing_state_name(run->landing)), "workspace", path,
		      "agency",
		      policy_agency_name((enum policy_agency)(run->agency + POLICY_OBSERVE)),
		      "created", views_time(run->created_ns), "ended", views_time(run->ended_ns),
		      "why", views_text(run->why), "exit", status_exit(d->rows, run));
	stuck = engine_land_stuck(d->engine, &run->id);
	if (stuck)
		json_object_set_new(o, "landing_failed", views_text(stuck));
	return o;
}

json_t *views_dropping(const struct journal_run *run)
{
	uint64_t paths = 0;

	for (uint32_t i = 0; i < run->step_count; i++)
		paths += run->steps[i]->layer_paths;
	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:o}", "run", views_id(&run->id), "name",
			 views_text(run->name), "state",
			 views_state(journal_run_state_name(run->state)), "landing",
			 views_state(journal_landing_state_name(run->landing)), "paths",
			 (json_int_t)paths, "ended", views_time(run->ended_ns));
}

json_t *views_summary(struct daemon *d, const struct journal_run *run)
{
	json_t *o = head_of(d, run);
	int done = 0, failed = 0, total = (int)run->step_count;
	struct runs_context *ctx;

	/* A step of the plan is declared when its turn comes. */
	if (runs_get(d, &run->id, &ctx, NULL) == 0 && ctx->plan &&
	    ctx->plan->step_count > run->step_count)
		total = (int)ctx->plan->step_count;

	for (uint32_t i = 0; i < run->step_count; i++) {
		done += run->steps[i]->state == JOURNAL_STEP_S_COMMITTED;
		failed += run->steps[i]->state == JOURNAL_STEP_S_FAILED ||
			  run->steps[i]->state == JOURNAL_STEP_S_DENIED;
	}
	json_object_set_new(o, "steps",
			    json_pack("{s:i, s:i, s:i}", "total", total, "done", done, "failed",
				      failed));
	return o;
}

static json_t *step_line(const struct journal_step *s)
{
	const struct journal_attempt *a = views_last_attempt(s);

	return json_pack("{s:i, s:o, s:o, s:o, s:i, s:o, s:o, s:I, s:I}", "index", (int)s->index,
			 "name", views_text(s->name), "key", views_text(s->key), "state",
			 views_state(journal_step_state_name(s->state)), "attempts",
			 (int)s->attempt_count, "since",
			 views_time(a ? (a->ended_ns ? a->ended_ns : a->started_ns)
				      : s->declared_ns),
			 "why",
			 views_text(s->why ? s->why
				    : a	   ? a->why
					   : NULL),
			 "paths", (json_int_t)s->layer_paths, "bytes", (json_int_t)s->layer_bytes);
}

static json_t *done_line(const struct journal_step *s)
{
	const struct journal_attempt *a = views_last_attempt(s);

	return json_pack("{s:o, s:I, s:i, s:I, s:I, s:I}", "step", views_text(s->name), "committed",
			 (json_int_t)s->committed_lsn, "attempts", (int)s->attempt_count,
			 "exit_code", (json_int_t)(a ? a->exit_code : 0), "paths",
			 (json_int_t)s->layer_paths, "bytes", (json_int_t)s->layer_bytes);
}

/* With the effect's id and line, or nulls. */
static json_t *with_effect(json_t *o, const struct journal_effect *f)
{
	if (!o)
		return NULL;
	json_object_set_new(o, "effect", f ? views_id(&f->id) : json_null());
	json_object_set_new(o, "title", f ? views_text(f->title) : json_null());
	return o;
}

static json_t *flight_line(const struct status_flight *f)
{
	json_t *o = json_pack("{s:o, s:i, s:s, s:o, s:o, s:o}", "step",
			      f->step ? views_text(f->step->name) : json_string("landing"),
			      "attempt", f->attempt ? (int)f->attempt->number : 0, "state", f->what,
			      "since", views_time(f->since_ns), "waiting_on",
			      waits_text(f->waiting_on), "deadline", views_time(f->due_ns));

	return with_effect(o, f->effect);
}

/* What stands against it and where, as it was met: a path that the system refuses before one that was
 * changed, since nobody can see that one in the directory. NULL: the blob cannot be read. */
static json_t *conflict_rule(struct daemon *d, const struct journal_run *run)
{
	AUTO(landing_plan_free) struct landing_plan *list = NULL;
	AUTO_BUFFER blob = {.max = LANDING_BYTES_MAX};
	AUTO_BUFFER text = {0};
	const struct landing_conflict *c;

	if (journal_blob_get(d->journal, &run->conflicts, LANDING_BYTES_MAX, &blob, NULL) < 0 ||
	    landing_conflicts_decode(buffer_bytes(&blob), &list, NULL) < 0 ||
	    list->conflict_count == 0)
		return NULL;
	c = &list->conflicts[0];
	for (size_t i = 0; i < list->conflict_count; i++) {
		if (list->conflicts[i].why == LANDING_CONFLICT_REFUSED) {
			c = &list->conflicts[i];
			break;
		}
	}
	buffer_append_str(&text, "a person decides: ");
	buffer_append(&text, c->path.data, c->path.len);
	buffer_printf(&text, ": %s%s", landing_conflict_why_text(c->why), c->text.len ? ": " : "");
	buffer_append(&text, c->text.data, c->text.len);
	if (list->conflict_count > 1)
		buffer_printf(&text, " (and %zu more)", list->conflict_count - 1);
	return text.failed ? NULL : api_json_text(buffer_bytes(&text));
}

static json_t *open_line(struct daemon *d, const struct journal_run *run,
			 const struct status_open *o)
{
	json_t *rule = !o->step && run->landing == JOURNAL_LANDING_S_CONFLICT
			       ? conflict_rule(d, run)
			       : NULL;
	json_t *line =
		json_pack("{s:o, s:s, s:o, s:o, s:s, s:I}", "item",
			  o->step ? views_text(o->step->name) : json_string("landing"), "class",
			  status_retry_name(o->class), "until", views_time(o->until_ns), "rule",
			  rule ? rule : json_string(o->rule), "event", o->event, "lsn",
			  (json_int_t)o->lsn);

	return with_effect(line, o->effect);
}

static uint64_t weaker_of(const struct journal_run *run)
{
	uint64_t bits = 0;

	for (uint32_t i = 0; i < run->step_count; i++)
		for (uint32_t k = 0; k < run->steps[i]->attempt_count; k++)
			bits |= run->steps[i]->attempts[k].weaker;
	return bits;
}

/* Which files its policy was made of: a client opens them again where it asks what they say now. */
static json_t *policies_of(struct daemon *d, const struct journal_run *run)
{
	json_t *list = json_array();
	enum policy_layer layer;
	struct runs_context *c;
	const char *file;

	if (runs_get(d, &run->id, &c, NULL) < 0)
		return list;
	for (size_t i = 0; (file = policy_effective_file(c->policy, i, &layer)); i++)
		json_array_append_new(list,
				      json_pack("{s:s, s:o}", "layer", policy_layer_name(layer),
						"file", api_json_text(bytes_str(file))));
	return list;
}

/* It would go on by itself but for this supervisor, which nobody told to. What waits for a person
 * goes on with the answer. */
static bool stands_unnamed(const struct daemon *d, const struct journal_run *run)
{
	const unsigned itself = JOURNAL_WAIT_TIMER | JOURNAL_WAIT_LEASE;

	return (run->state == JOURNAL_RUN_S_CREATED || run->state == JOURNAL_RUN_S_RUNNING ||
		(run->state == JOURNAL_RUN_S_WAITING && (run->waits & ~itself) == 0)) &&
	       !engine_run_named(d->engine, &run->id);
}

void views_notes(struct daemon *d, const struct journal_run *run, json_t *o)
{
	json_t *notes = json_array();
	struct runs_context *c;

	if (runs_get(d, &run->id, &c, NULL) == 0)
		for (char **n = c->settings.notes; n && *n; n++)
			json_array_append_new(notes, api_json_text(bytes_str(*n)));
	views_weaker(notes, weaker_of(run));
	if (d->space_low &&
	    (run->state == JOURNAL_RUN_S_RUNNING || run->state == JOURNAL_RUN_S_WAITING))
		json_array_append_new(notes,
				      json_sprintf("the disk of %s is nearly full: no step starts "
						   "until there is room; free some space",
						   d->paths.state));
	if (stands_unnamed(d, run))
		json_array_append_new(notes,
				      json_string("no further step starts and nothing lands: this "
						  "supervisor was started by a command that only "
						  "looks; 'holdfast resume' goes on"));
	json_object_set_new(o, "notes", notes);
}

struct outcome {
	json_t *why, *paths; /* null: no record says so */
};

static int keep_outcome(const struct journal_record *r, struct bytes encoded, void *arg)
{
	struct outcome *o = arg;

	(void)encoded;
	if (r->type == JOURNAL_LANDING_DROPPED) {
		json_decref(o->why);
		o->why = JOURNAL_HAS(&r->p, why) ? api_json_text(r->p.why) : json_null();
	} else if (r->type == JOURNAL_LANDED || r->type == JOURNAL_UNDONE) {
		json_decref(o->paths);
		o->paths = json_integer((json_int_t)r->p.paths);
	}
	return 0;
}

/* Why nothing landed, or how much did: records have it, rows do not. */
static void add_outcome(struct daemon *d, const struct journal_run *run, json_t *o)
{
	struct outcome is = {json_null(), json_null()};
	bool dropped = run->landing == JOURNAL_LANDING_S_DROPPED,
	     done = run->landing == JOURNAL_LANDING_S_LANDED ||
		    run->landing == JOURNAL_LANDING_S_UNDONE;

	if (dropped || done)
		(void)!journal_each_event(d->journal, &run->id, 1, keep_outcome, &is);
	json_object_set(o, "landing_why", dropped ? is.why : json_null());
	json_object_set(o, "landed_paths", done ? is.paths : json_null());
	json_decref(is.why);
	json_decref(is.paths);
}

/* What people let or stopped beforehand, and the policy's standing as far as it was used. */
static json_t *grants_of(const struct journal_run *run)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < run->grant_count; i++) {
		const struct journal_grant *g = &run->grants[i];
		const struct journal_step *step =
			g->step < run->step_count ? run->steps[g->step] : NULL;

		json_array_append_new(
			list, json_pack("{s:o, s:o, s:s, s:b, s:I, s:o, s:o, s:o, s:o, s:o}",
					"grant", views_id(&g->id), "rule", views_text(g->rule),
					"decision", g->deny ? "deny" : "approve", "holds",
					journal_grant_holds(g, daemon_now().wall_ns), "uses_left",
					(json_int_t)g->uses, "expires", views_time(g->expires_ns),
					"step", views_text(step ? step->name : NULL), "by",
					views_text(g->by), "standing", views_text(g->at), "pattern",
					views_digest(&g->pattern)));
	}
	return list;
}

json_t *views_status(struct daemon *d, const struct journal_run *run)
{
	json_t *o = head_of(d, run);
	json_t *steps = json_array(), *done = json_array(), *flight = json_array(),
	       *open = json_array(), *person = json_array(), *effects = json_array();
	struct status *s = NULL;

	if (status_of(d->rows, run, &s) < 0) {
		json_decref(o);
		o = NULL;
	}
	for (uint32_t i = 0; i < run->step_count; i++)
		json_array_append_new(steps, step_line(run->steps[i]));
	for (size_t i = 0; s && i < s->done_count; i++)
		json_array_append_new(done, done_line(s->done[i]));
	for (size_t i = 0; s && i < s->effect_count; i++)
		json_array_append_new(effects, effect_view_line(d, run, s->effects[i]));
	if (s)
		json_object_set_new(o, "effects",
				    json_pack("{s:i, s:i, s:I, s:i, s:i, s:I}", "proposed",
					      (int)run->effect_count, "done", (int)s->effects_done,
					      "denied",
					      (json_int_t)(s->effects_denied + run->refused),
					      "failed", (int)s->effects_failed, "in_doubt",
					      (int)s->effects_in_doubt, "reads",
					      (json_int_t)(run->reads - run->refused)));
	for (size_t i = 0; s && i < s->in_flight_count; i++)
		json_array_append_new(flight, flight_line(&s->in_flight[i]));
	for (size_t i = 0; s && i < s->open_count; i++)
		json_array_append_new(open, open_line(d, run, &s->open[i]));
	for (size_t i = 0; s && i < s->needs_person_count; i++)
		json_array_append_new(person, views_approval_head(d, s->needs_person[i]));
	status_free(s);
	json_object_set_new(o, "steps", steps);
	json_object_set_new(o, "done", done);
	json_object_set_new(o, "effects_done", effects);
	json_object_set_new(o, "in_flight", flight);
	json_object_set_new(o, "safe_to_retry", open);
	json_object_set_new(o, "needs_person", person);
	json_object_set_new(o, "grants", grants_of(run));
	if (o) {
		add_outcome(d, run, o);
		views_notes(d, run, o);
		json_object_set_new(o, "policies", policies_of(d, run));
	}
	return o;
}

/* ---- events ---- */

static json_t *raw_of(struct bytes raw)
{
	AUTO_BUFFER text = {0};

	return cbor_diagnostic(raw, &text) == 0 ? api_json_text(buffer_bytes(&text)) : json_null();
}

static json_t *payload_of(const struct journal_record *r)
{
	json_t *o = json_object();

#define VIEW_UINT(v)   json_integer((json_int_t)(v))
#define VIEW_INT(v)    json_integer((json_int_t)(v))
#define VIEW_TEXT(v)   api_json_text(v)
#define VIEW_BYTES(v)  api_json_text(v)
#define VIEW_RAW(v)    raw_of(v)
#define VIEW_DIGEST(v) views_digest(&(v))
#define VIEW_ID(v)     views_id(&(v))
#define VIEW_BOOL(v)   json_boolean(v)
#define X(num, field, kind)            \
	if (JOURNAL_HAS(&r->p, field)) \
		json_object_set_new(o, #field, VIEW_##kind(r->p.field));
	JOURNAL_FIELDS(X)
#undef X
	if (JOURNAL_HAS(&r->p, denied))
		json_object_set_new(o, "denied", views_step_denied(r->p.denied));
	if (JOURNAL_HAS(&r->p, reads))
		json_object_set_new(o, "reads", effect_view_reads(r->p.reads));
	return o;
}

json_t *views_event(struct daemon *d, const struct journal_run *run, const struct journal_record *r)
{
	static const char *const actors[] = {"supervisor", "keeper", "person"};
	const char *type = journal_type_name(r->type);
	json_t *step = json_null(), *payload = payload_of(r);

	if (r->type == JOURNAL_STEP_DECLARED && JOURNAL_HAS(&r->p, input))
		views_step_argv(d, &r->p.input, payload);
	if (r->step != JOURNAL_NO_STEP)
		step = run && r->step < run->step_count ? views_text(run->steps[r->step]->name)
							: json_integer(r->step);
	return json_pack("{s:i, s:I, s:I, s:o, s:s, s:o, s:i, s:{s:s, s:i}, s:o}", "version",
			 SUPERVISOR_API_VERSION, "lsn", (json_int_t)r->lsn, "seq",
			 (json_int_t)r->seq, "time", views_time(r->wall_ns), "type",
			 type ? type : "UNKNOWN", "step", step, "attempt", (int)r->attempt, "actor",
			 "kind",
			 (size_t)r->actor < ARRAY_SIZE(actors) ? actors[r->actor] : "unknown",
			 "uid", (int)r->actor_uid, "payload", payload);
}
