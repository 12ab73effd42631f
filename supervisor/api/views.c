/*
 * Rows as JSON, for api/ and for what asks of rows elsewhere (votes.c, replay.c). Changes nothing. On the loop's thread, but for
 * views_dropping, which audits.c calls beside it and which sees nothing but the run it is given.
 */
#include "supervisor/card.h"
#include "supervisor/card_heads.h"
#include "supervisor/api/views.h"
#include "supervisor/api/effect_view.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cbor.h"
#include "base/escape.h"
#include "base/utf8.h"
#include "supervisor/engine.h"
#include "supervisor/landing_plan.h"
#include "supervisor/plan.h"
#include "supervisor/results.h"
#include "supervisor/runs.h"
#include "supervisor/status.h"

enum {
	CARD_MAX = 64 * 1024,
	RESULTS_LIST_MAX = 16 * 1024 * 1024,
	INPUT_MAX = 16 * 1024 * 1024, /* of the description of a step */
	ARGS_SHOWN_MAX = 256, /* of a command; the description that `input` names has it whole */
	ARG_SHOWN_MAX = 4096, /* bytes of one of them */
};

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

enum { TIME_SIZE = 40 };
enum { REFUSED_SHOWN_MAX = 100 };

/* NULL: none. */
static const char *time_text(int64_t ns, char text[TIME_SIZE])
{
	time_t s = (time_t)(ns / 1000000000);
	struct tm tm;
	size_t n;

	if (ns == 0 || !gmtime_r(&s, &tm))
		return NULL;
	n = strftime(text, TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, TIME_SIZE - n, ".%06dZ", (int)(ns % 1000000000 / 1000));
	return text;
}

json_t *views_time(int64_t ns)
{
	char buf[TIME_SIZE];
	const char *text = time_text(ns, buf);

	return text ? json_string(text) : json_null();
}

/* A member of an object that is written down as it is made: as api_json_text has it. */
static void put_text(struct buffer *line, const char *key, struct bytes text)
{
	AUTO_FREE char *escaped = utf8_valid(text) ? NULL : escape_dup(text, ESCAPE_KEEP_NEWLINE);

	buffer_append_str(line, ",\"");
	buffer_append_str(line, key);
	buffer_append_str(line, "\":\"");
	escape_json(line, escaped ? bytes_str(escaped) : text);
	buffer_append_byte(line, '"');
}

static void put(struct buffer *line, const char *key, const char *s)
{
	if (s && s[0]) {
		put_text(line, key, bytes_str(s));
		return;
	}
	buffer_append_str(line, ",\"");
	buffer_append_str(line, key);
	buffer_append_str(line, "\":null");
}

static json_t *text_of(const char *s)
{
	return s && s[0] ? api_json_text(bytes_str(s)) : json_null();
}

/* "GATED_COMMIT" -> "gated-commit" */
enum { STATE_SIZE = 48 };

static const char *state_text(const char *name, char out[STATE_SIZE])
{
	size_t i;

	for (i = 0; name && name[i] && i < STATE_SIZE - 1; i++)
		out[i] = name[i] == '_'			    ? '-'
			 : name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32)
							    : name[i];
	out[i] = '\0';
	return out;
}

static json_t *state_of(const char *name)
{
	char out[STATE_SIZE];

	return json_string(state_text(name, out));
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

static const struct journal_attempt *last_attempt(const struct journal_step *s)
{
	return s->attempt_count > 0 ? &s->attempts[s->attempt_count - 1] : NULL;
}

/* ---- runs ---- */

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
		      SUPERVISOR_API_VERSION, "run", views_id(&run->id), "name", text_of(name),
		      "state", state_of(journal_run_state_name(run->state)), "waits",
		      waits_of(run->waits), "landing",
		      state_of(journal_landing_state_name(run->landing)), "workspace", path,
		      "agency",
		      policy_agency_name((enum policy_agency)(run->agency + POLICY_OBSERVE)),
		      "created", views_time(run->created_ns), "ended", views_time(run->ended_ns),
		      "why", text_of(run->why), "exit", status_exit(d->rows, run));
	stuck = engine_land_stuck(d->engine, &run->id);
	if (stuck)
		json_object_set_new(o, "landing_failed", text_of(stuck));
	return o;
}

json_t *views_dropping(const struct journal_run *run)
{
	uint64_t paths = 0;

	for (uint32_t i = 0; i < run->step_count; i++)
		paths += run->steps[i]->layer_paths;
	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:o}", "run", views_id(&run->id), "name",
			 text_of(run->name), "state", state_of(journal_run_state_name(run->state)),
			 "landing", state_of(journal_landing_state_name(run->landing)), "paths",
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
	const struct journal_attempt *a = last_attempt(s);

	return json_pack("{s:i, s:o, s:o, s:o, s:i, s:o, s:o, s:I, s:I}", "index", (int)s->index,
			 "name", text_of(s->name), "key", text_of(s->key), "state",
			 state_of(journal_step_state_name(s->state)), "attempts",
			 (int)s->attempt_count, "since",
			 views_time(a ? (a->ended_ns ? a->ended_ns : a->started_ns)
				      : s->declared_ns),
			 "why",
			 text_of(s->why ? s->why
				 : a	? a->why
					: NULL),
			 "paths", (json_int_t)s->layer_paths, "bytes", (json_int_t)s->layer_bytes);
}

static json_t *done_line(const struct journal_step *s)
{
	const struct journal_attempt *a = last_attempt(s);

	return json_pack("{s:o, s:I, s:i, s:I, s:I, s:I}", "step", text_of(s->name), "committed",
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
	json_object_set_new(o, "title", f ? text_of(f->title) : json_null());
	return o;
}

static json_t *flight_line(const struct status_flight *f)
{
	json_t *o = json_pack("{s:o, s:i, s:s, s:o, s:o, s:o}", "step",
			      f->step ? text_of(f->step->name) : json_string("landing"), "attempt",
			      f->attempt ? (int)f->attempt->number : 0, "state", f->what, "since",
			      views_time(f->since_ns), "waiting_on", waits_text(f->waiting_on),
			      "deadline", views_time(f->due_ns));

	return with_effect(o, f->effect);
}

static json_t *open_line(const struct status_open *o)
{
	json_t *line = json_pack("{s:o, s:s, s:o, s:s, s:s, s:I}", "item",
				 o->step ? text_of(o->step->name) : json_string("landing"), "class",
				 status_retry_name(o->class), "until", views_time(o->until_ns),
				 "rule", o->rule, "event", o->event, "lsn", (json_int_t)o->lsn);

	return with_effect(line, o->effect);
}

/* What was weaker than the policy asked for, where it allowed that. */
static void add_weaker(json_t *notes, uint64_t bits)
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
	add_weaker(notes, weaker_of(run));
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
					"grant", views_id(&g->id), "rule", text_of(g->rule),
					"decision", g->deny ? "deny" : "approve", "holds",
					journal_grant_holds(g, daemon_now().wall_ns), "uses_left",
					(json_int_t)g->uses, "expires", views_time(g->expires_ns),
					"step", text_of(step ? step->name : NULL), "by",
					text_of(g->by), "standing", text_of(g->at), "pattern",
					views_digest(&g->pattern)));
	}
	return list;
}

static json_t *head_of_item(struct daemon *d, const struct journal_approval *a);

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
					      "failed",
					      (int)s->effects_failed, "in_doubt",
					      (int)s->effects_in_doubt, "reads",
					      (json_int_t)(run->reads - run->refused)));
	for (size_t i = 0; s && i < s->in_flight_count; i++)
		json_array_append_new(flight, flight_line(&s->in_flight[i]));
	for (size_t i = 0; s && i < s->open_count; i++)
		json_array_append_new(open, open_line(&s->open[i]));
	for (size_t i = 0; s && i < s->needs_person_count; i++)
		json_array_append_new(person, head_of_item(d, s->needs_person[i]));
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

/* ---- steps ---- */

/* As a shell would say it: 127 for a program that is not there, 126 for one that cannot be
 * executed. null where it did not exit: it was killed, lost, or lives. */
static json_t *exit_code_of(const struct journal_attempt *a)
{
	static const char exec[] =
		"exec: "; /* attempts.c: what SANDBOX_NOT_STARTED_EXEC is called */

	if (a->state == JOURNAL_ATTEMPT_S_EXITED && a->signal == 0)
		return json_integer((json_int_t)a->exit_code);
	if (a->state != JOURNAL_ATTEMPT_S_NOT_STARTED || !a->why ||
	    strncmp(a->why, exec, strlen(exec)) != 0)
		return json_null();
	return json_integer(strstr(a->why, strerror(ENOENT)) ? 127 : 126);
}

/* What limits.output, or a full disk, has cut off. */
static void add_kept(struct daemon *d, json_t *notes, const char *what, const struct digest *blob,
		     uint64_t size)
{
	AUTO_FD fd =
		size > 0 && !digest_is_zero(blob) ? journal_blob_open(d->journal, blob, NULL) : -1;
	struct stat st = {0};

	if (size == 0 || (!digest_is_zero(blob) && (fd < 0 || fstat(fd, &st) < 0)) ||
	    (uint64_t)st.st_size >= size)
		return;
	json_array_append_new(notes, json_sprintf("%s kept: %llu of %llu bytes", what,
						  (unsigned long long)st.st_size,
						  (unsigned long long)size));
}

static json_t *attempt_of(struct daemon *d, const struct journal_attempt *a)
{
	json_t *notes = json_array();
	json_t *o =
		json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:I, s:I}", "number",
			  (int)a->number, "id", views_id(&a->id), "state",
			  state_of(journal_attempt_state_name(a->state)), "started",
			  views_time(a->started_ns), "ended", views_time(a->ended_ns), "exit_code",
			  exit_code_of(a), "signal", (json_int_t)a->signal, "why", text_of(a->why),
			  "out_size", (json_int_t)a->out_size, "err_size", (json_int_t)a->err_size);

	json_object_set_new(o, "cpu_us", json_integer((json_int_t)a->cpu_us));
	json_object_set_new(o, "memory_peak", json_integer((json_int_t)a->memory_peak));
	json_object_set_new(o, "wall_us", json_integer((json_int_t)a->wall_us));
	json_object_set_new(o, "layer", json_string(a->layer));
	json_object_set_new(o, "uncharged", json_boolean(a->uncharged));
	add_weaker(notes, a->weaker);
	add_kept(d, notes, "output", &a->out, a->out_size);
	add_kept(d, notes, "error output", &a->err, a->err_size);
	if (json_array_size(notes) > 0)
		json_object_set(o, "notes", notes);
	json_decref(notes);
	return o;
}

static int add_result_file(void *arg, struct bytes path, const struct digest *digest, uint64_t size)
{
	AUTO_FREE char *name =
		utf8_valid(path) ? bytes_dup_str(path) : escape_dup(path, ESCAPE_LINE);

	(void)size;
	return !name || json_object_set_new(arg, name, views_digest(digest)) < 0 ? -ENOMEM : 0;
}

static json_t *results_of(struct daemon *d, const struct digest *list)
{
	json_t *o = json_object();
	AUTO_BUFFER b = {0};

	if (!digest_is_zero(list) &&
	    journal_blob_get(d->journal, list, RESULTS_LIST_MAX, &b, NULL) == 0)
		(void)!results_each(buffer_bytes(&b), add_result_file, o);
	return o;
}

/* What the step runs, from the description that its declaration names; null where that is gone. *ret_cut: not all of it. */
static json_t *argv_of(struct daemon *d, const struct digest *input, bool *ret_cut)
{
	AUTO(plan_step_free) struct plan_step *spec = NULL;
	AUTO_BUFFER b = {0};
	json_t *list;

	*ret_cut = false;
	if (journal_blob_get(d->journal, input, INPUT_MAX, &b, NULL) < 0 ||
	    engine_input_read(buffer_bytes(&b), &spec) < 0)
		return json_null();
	list = json_array();
	for (size_t i = 0; spec->argv && spec->argv[i]; i++) {
		const char *arg = spec->argv[i];
		size_t len = strlen(arg);

		if (i == ARGS_SHOWN_MAX) {
			*ret_cut = true;
			break;
		}
		if (len > ARG_SHOWN_MAX) {
			*ret_cut = true;
			len = ARG_SHOWN_MAX;
			while (len > 0 && ((unsigned char)arg[len] & 0xc0) == 0x80)
				len--; /* not inside a character */
		}
		json_array_append_new(list, api_json_text(bytes_of(arg, len)));
	}
	return list;
}

static void add_argv(struct daemon *d, const struct digest *input, json_t *o)
{
	bool cut;

	json_object_set_new(o, "argv", argv_of(d, input, &cut));
	if (cut)
		json_object_set_new(o, "argv_cut", json_true());
}

/* What the walls refused, and what a check did: records have it, rows do not. */
struct denials {
	uint32_t step, attempt; /* the last that was met */
	json_t *attempts;
};

/* Requests that were denied without asking; of very many the first. */
static void add_refused(json_t *attempt, const struct journal_record *r)
{
	json_t *list = json_object_get(attempt, "refused"), *reads, *read;
	json_int_t more = json_integer_value(json_object_get(attempt, "refused_more"));
	size_t i;

	if (!list) {
		list = json_array();
		json_object_set_new(attempt, "refused", list);
	}
	reads = effect_view_reads(r->p.reads);
	json_array_foreach(reads, i, read)
	{
		if (!json_is_true(json_object_get(read, "denied")))
			continue;
		if (json_array_size(list) < REFUSED_SHOWN_MAX)
			json_array_append(list, read);
		else
			more++;
	}
	json_decref(reads);
	json_object_set_new(attempt, "refused_more", json_integer(more));
}

static json_t *denied_of(struct bytes denied)
{
	json_t *list = json_array();
	struct cbor_reader c = cbor_reader(denied);
	struct cbor_map_iter m;
	uint64_t key;

	cbor_r_map(&c, &m);
	while (cbor_r_key(&c, &m, &key)) {
		json_int_t count = (json_int_t)cbor_r_uint(&c);
		char name[SANDBOX_CALL_NAME_SIZE];

		if (key == UINT32_MAX) /* past what is counted one by one */
			json_array_append_new(list, json_pack("{s:n, s:s, s:I}", "syscall", "name",
							      "others", "count", count));
		else
			json_array_append_new(list, json_pack("{s:I, s:s, s:I}", "syscall",
							      (json_int_t)key, "name",
							      sandbox_call_name((int32_t)key, name,
										sizeof(name)),
							      "count", count));
	}
	return list;
}

static int add_denied(const struct journal_record *r, struct bytes encoded, void *arg)
{
	struct denials *x = arg;
	AUTO_FREE char *why = NULL;

	(void)encoded;
	if (r->step == x->step && r->attempt > 0)
		x->attempt = r->attempt;
	if (r->step == x->step && r->type == JOURNAL_STEP_REJECTED && x->attempt > 0 &&
	    x->attempt <= json_array_size(x->attempts))
		json_object_set_new(json_array_get(x->attempts, x->attempt - 1), "rejected",
				    api_json_text(r->p.why));
	if (r->step != x->step || r->attempt == 0 || r->attempt > json_array_size(x->attempts))
		return 0;
	if (JOURNAL_HAS(&r->p, reads))
		add_refused(json_array_get(x->attempts, r->attempt - 1), r);
	if (!JOURNAL_HAS(&r->p, denied))
		return 0;
	json_object_set_new(json_array_get(x->attempts, r->attempt - 1), "denied",
			    denied_of(r->p.denied));
	return 0;
}

static json_t *effects_denied(struct daemon *d, const struct journal_run *run,
			      const struct journal_step *step)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < run->effect_count; i++)
		if (run->effects[i]->step == step->index &&
		    run->effects[i]->state == JOURNAL_EFFECT_S_DENIED &&
		    json_array_size(list) < REFUSED_SHOWN_MAX)
			json_array_append_new(list, effect_view_line(d, run, run->effects[i]));
	return list;
}

json_t *views_step(struct daemon *d, const struct journal_run *run, const struct journal_step *step)
{
	const struct journal_attempt *a = last_attempt(step);
	json_t *attempts = json_array();
	struct denials x = {.step = step->index, .attempts = attempts};
	json_t *o;

	for (uint32_t i = 0; i < step->attempt_count; i++)
		json_array_append_new(attempts, attempt_of(d, &step->attempts[i]));
	(void)!journal_each_event(d->journal, &run->id, 1, add_denied, &x);
	o = json_pack("{s:i, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "version",
		      SUPERVISOR_API_VERSION, "run", views_id(&run->id), "index", (int)step->index,
		      "name", text_of(step->name), "key", text_of(step->key), "state",
		      state_of(journal_step_state_name(step->state)), "why", text_of(step->why),
		      "input", views_digest(&step->input), "attempts", attempts);
	add_argv(d, &step->input, o);
	json_object_set_new(o, "effects_denied", effects_denied(d, run, step));
	if (a && a->ended_ns)
		json_object_set_new(o, "result",
				    json_pack("{s:o, s:I, s:o, s:o, s:I, s:I, s:o, s:I, s:I, s:o}",
					      "exit_code", exit_code_of(a), "signal",
					      (json_int_t)a->signal, "out", views_digest(&a->out),
					      "err", views_digest(&a->err), "out_size",
					      (json_int_t)a->out_size, "err_size",
					      (json_int_t)a->err_size, "manifest",
					      views_digest(&step->manifest), "paths",
					      (json_int_t)step->layer_paths, "bytes",
					      (json_int_t)step->layer_bytes, "results",
					      results_of(d, &a->results)));
	return o;
}

/* ---- approvals ---- */

/* The first line of a card: verb and destination. */
static struct bytes title_of(struct bytes card)
{
	const char *nl = card.len ? memchr(card.data, '\n', card.len) : NULL;

	return nl ? bytes_of(card.data, (size_t)(nl - (const char *)card.data)) : card;
}

/* Writes the title. ret: the card, where it is wanted or its head is not known yet. */
static void read_card(struct daemon *d, const struct digest *digest, bool whole, struct buffer *ret,
		      struct buffer *line, bool *ret_complete)
{
	struct card_head head = card_heads_get(d->card_heads, digest);
	struct bytes card;

	*ret_complete = head.complete;
	if (head.title && !whole) {
		put_text(line, "title", bytes_str(head.title));
		return;
	}
	*ret_complete = true;
	if (digest_is_zero(digest) ||
	    journal_blob_get(d->journal, digest, CARD_MAX, ret, NULL) < 0) {
		put(line, "title", NULL);
		return;
	}
	card = buffer_bytes(ret);
	*ret_complete = card_is_complete(card);
	card_heads_put(d->card_heads, digest, title_of(card), *ret_complete);
	if (card.len)
		put_text(line, "title", title_of(card));
	else
		put(line, "title", NULL);
}

static json_t *votes_of(const struct journal_approval *a)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < a->vote_count; i++) {
		const struct journal_vote *v = &a->votes[i];

		json_array_append_new(
			list,
			json_pack("{s:o, s:o, s:s, s:o, s:o, s:o, s:I, s:o}", "principal",
				  text_of(v->principal), "auth", text_of(v->auth), "decision",
				  v->decision == JOURNAL_DECISION_APPROVE ? "approve" : "deny",
				  "choice", text_of(v->choice), "reason", text_of(v->reason), "at",
				  views_time(v->at_ns), "shown_ms", (json_int_t)v->shown_ms,
				  "proof", views_digest(&v->proof)));
	}
	return list;
}

/* The last word about a path; one for the whole item has none. */
static bool is_last_answer(const struct journal_approval *a, uint32_t i)
{
	if (a->votes[i].decision != JOURNAL_DECISION_APPROVE || !a->votes[i].choice)
		return false;
	for (uint32_t k = i + 1; k < a->vote_count; k++)
		if (a->votes[k].decision == JOURNAL_DECISION_APPROVE && a->votes[k].choice &&
		    bytes_equal(a->votes[k].path, a->votes[i].path))
			return false;
	return true;
}

static bool is_answered(const struct journal_approval *a, struct bytes path)
{
	for (uint32_t i = 0; i < a->vote_count; i++)
		if (is_last_answer(a, i) &&
		    (a->votes[i].path.len == 0 || bytes_equal(a->votes[i].path, path)))
			return true;
	return false;
}

static json_t *unanswered_of(struct daemon *d, const struct journal_approval *a)
{
	AUTO(landing_plan_free) struct landing_plan *list = NULL;
	AUTO_BUFFER blob = {.max = LANDING_BYTES_MAX};
	json_int_t n = 0;

	if (journal_blob_get(d->journal, &a->object, LANDING_BYTES_MAX, &blob, NULL) < 0 ||
	    landing_conflicts_decode(buffer_bytes(&blob), &list, NULL) < 0)
		return json_null();
	for (size_t i = 0; i < list->conflict_count; i++)
		n += !is_answered(a, list->conflicts[i].path);
	return json_integer(n);
}

/* A conflict is answered path by path, and the card, whose digest is voted on, stays what it was. */
static void add_answers(struct daemon *d, const struct journal_approval *a, bool count, json_t *o)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < a->vote_count; i++)
		if (is_last_answer(a, i))
			json_array_append_new(list,
					      json_pack("{s:o, s:o}", "path",
							a->votes[i].path.len > 0
								? api_json_text(a->votes[i].path)
								: json_null(),
							"choice", text_of(a->votes[i].choice)));
	json_object_set_new(o, "answers", list);
	if (count)
		json_object_set_new(o, "unanswered", unanswered_of(d, a));
}

static void put_digest(struct buffer *line, const char *key, const struct digest *d)
{
	char hex[DIGEST_HEX_SIZE];

	put(line, key, digest_is_zero(d) ? NULL : digest_hex(d, hex));
}

/* What an effect's item is about; `object` is the same for equal actions. */
static void put_effect(struct daemon *d, const struct journal_approval *a, struct buffer *line)
{
	const struct journal_effect *f = journal_state_effect(d->rows, &a->effect);
	char id[JOURNAL_ID_TEXT_SIZE];

	if (!f)
		return;
	put(line, "effect", journal_id_text(&f->id, id));
	put(line, "class", journal_class_name(f->class));
	put(line, "rule", f->rule);
	put_digest(line, "object", &a->object);
}

static void put_answers(struct daemon *d, const struct journal_approval *a, struct buffer *line)
{
	json_t *o = json_object();
	AUTO_FREE char *text = NULL;

	add_answers(d, a, false, o);
	text = json_dumps(json_object_get(o, "answers"), JSON_COMPACT);
	json_decref(o);
	buffer_append_str(line, ",\"answers\":");
	buffer_append_str(line, text ? text : "[]");
}

static void put_item(struct daemon *d, const struct journal_approval *a, bool with_card,
		     struct buffer *card, struct buffer *line)
{
	const struct journal_run *run = journal_state_run(d->rows, &a->run);
	const struct journal_step *step =
		run && a->step < run->step_count ? run->steps[a->step] : NULL;
	const char *const *choices = status_choices(a->kind);
	char id[JOURNAL_ID_TEXT_SIZE], time[TIME_SIZE], state[STATE_SIZE];
	bool complete;

	buffer_printf(line, "{\"version\":%d", SUPERVISOR_API_VERSION);
	put(line, "approval", journal_id_text(&a->id, id));
	put(line, "run", journal_id_text(&a->run, id));
	put(line, "run_name", run ? run->name : NULL);
	put(line, "step", step ? step->name : NULL);
	put(line, "kind", journal_approval_kind_name(a->kind));
	put(line, "state", state_text(journal_approval_state_name(a->state), state));
	read_card(d, &a->card, with_card, card, line, &complete);
	put(line, "opened", time_text(a->opened_ns, time));
	put(line, "decide_by", time_text(a->decide_by_ns, time));
	put(line, "execute_by", time_text(a->execute_by_ns, time));
	put_digest(line, "card_digest", &a->card);
	buffer_append_str(line, ",\"choices\":[");
	for (size_t i = 0; choices && choices[i]; i++) {
		buffer_append_str(line, i > 0 ? ",\"" : "\"");
		escape_json(line, bytes_str(choices[i]));
		buffer_append_byte(line, '"');
	}
	buffer_append_byte(line, ']');
	put_effect(d, a, line);
	if (a->kind == JOURNAL_KIND_CONFLICT)
		put_answers(d, a, line);
	buffer_append_str(line, complete ? ",\"complete\":true}" : ",\"complete\":false}");
}

/* How many must agree, and whether they must sign. */
static void add_rules(struct daemon *d, const struct journal_approval *a, json_t *o)
{
	struct policy_settings s;
	struct runs_context *ctx;

	if (runs_get(d, &a->run, &ctx, NULL) < 0)
		return;
	policy_settings(ctx->policy, &s);
	json_object_set_new(o, "quorum", json_integer(s.quorum));
	json_object_set_new(o, "signed", json_boolean(s.signers));
}

/* By hand: a queue of ten thousand is told in a moment, and as trees it took ten times that. */
int views_approval_line(struct daemon *d, const struct journal_approval *a, struct buffer *out)
{
	AUTO_BUFFER card = {0};

	put_item(d, a, false, &card, out);
	return out->failed;
}

/* card: NULL = it is not wanted. */
static json_t *item_of(struct daemon *d, const struct journal_approval *a, struct buffer *card)
{
	AUTO_BUFFER read = {0};
	AUTO_BUFFER line = {0};

	put_item(d, a, card != NULL, card ? card : &read, &line);
	return line.failed ? NULL : json_loadb((const char *)line.data, line.len, 0, NULL);
}

static json_t *head_of_item(struct daemon *d, const struct journal_approval *a)
{
	return item_of(d, a, NULL);
}

json_t *views_approval(struct daemon *d, const struct journal_approval *a)
{
	AUTO_BUFFER card = {0};
	json_t *o = item_of(d, a, &card);

	if (!o)
		return NULL;
	if (a->kind == JOURNAL_KIND_CONFLICT)
		add_answers(d, a, true, o);
	add_rules(d, a, o);
	json_object_set_new(o, "card", api_json_text(buffer_bytes(&card)));
	json_object_set_new(o, "action", views_digest(&a->action));
	json_object_set_new(o, "choice", text_of(a->choice));
	json_object_set_new(o, "why", text_of(a->why));
	json_object_set_new(o, "votes", votes_of(a));
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
		json_object_set_new(o, "denied", denied_of(r->p.denied));
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
		add_argv(d, &r->p.input, payload);
	if (r->step != JOURNAL_NO_STEP)
		step = run && r->step < run->step_count ? text_of(run->steps[r->step]->name)
							: json_integer(r->step);
	return json_pack("{s:i, s:I, s:I, s:o, s:s, s:o, s:i, s:{s:s, s:i}, s:o}", "version",
			 SUPERVISOR_API_VERSION, "lsn", (json_int_t)r->lsn, "seq",
			 (json_int_t)r->seq, "time", views_time(r->wall_ns), "type",
			 type ? type : "UNKNOWN", "step", step, "attempt", (int)r->attempt, "actor",
			 "kind",
			 (size_t)r->actor < ARRAY_SIZE(actors) ? actors[r->actor] : "unknown",
			 "uid", (int)r->actor_uid, "payload", payload);
}
