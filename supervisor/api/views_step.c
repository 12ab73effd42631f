/*
 * A step as JSON: its attempts, what the walls refused each of them, its result, and what it runs,
 * which is read from the description that its declaration names.
 */
#include "supervisor/api/views.h"
#include "supervisor/api/views_private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cbor.h"
#include "base/escape.h"
#include "base/utf8.h"
#include "supervisor/api/effect_view.h"
#include "supervisor/engine.h"
#include "supervisor/plan.h"
#include "supervisor/results.h"

enum {
	RESULTS_LIST_MAX = 16 * 1024 * 1024,
	INPUT_MAX = 16 * 1024 * 1024, /* of the description of a step */
	ARGS_SHOWN_MAX = 256, /* of a command; the description that `input` names has it whole */
	ARG_SHOWN_MAX = 4096, /* bytes of one of them */
	REFUSED_SHOWN_MAX = 100,
};

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
	json_t *o = json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:I, s:I}", "number",
			      (int)a->number, "id", views_id(&a->id), "state",
			      views_state(journal_attempt_state_name(a->state)), "started",
			      views_time(a->started_ns), "ended", views_time(a->ended_ns),
			      "exit_code", exit_code_of(a), "signal", (json_int_t)a->signal, "why",
			      views_text(a->why), "out_size", (json_int_t)a->out_size, "err_size",
			      (json_int_t)a->err_size);

	json_object_set_new(o, "cpu_us", json_integer((json_int_t)a->cpu_us));
	json_object_set_new(o, "memory_peak", json_integer((json_int_t)a->memory_peak));
	json_object_set_new(o, "wall_us", json_integer((json_int_t)a->wall_us));
	json_object_set_new(o, "layer", json_string(a->layer));
	json_object_set_new(o, "uncharged", json_boolean(a->uncharged));
	views_weaker(notes, a->weaker);
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
		struct bytes arg = bytes_str(spec->argv[i]);

		if (i == ARGS_SHOWN_MAX) {
			*ret_cut = true;
			break;
		}
		*ret_cut |= arg.len > ARG_SHOWN_MAX;
		json_array_append_new(list, api_json_text(utf8_cut(arg, ARG_SHOWN_MAX)));
	}
	return list;
}

void views_step_argv(struct daemon *d, const struct digest *input, json_t *o)
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

json_t *views_step_denied(struct bytes denied)
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
			    views_step_denied(r->p.denied));
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
	const struct journal_attempt *a = views_last_attempt(step);
	json_t *attempts = json_array();
	struct denials x = {.step = step->index, .attempts = attempts};
	json_t *o;

	for (uint32_t i = 0; i < step->attempt_count; i++)
		json_array_append_new(attempts, attempt_of(d, &step->attempts[i]));
	(void)!journal_each_event(d->journal, &run->id, 1, add_denied, &x);
	o = json_pack("{s:i, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "version",
		      SUPERVISOR_API_VERSION, "run", views_id(&run->id), "index", (int)step->index,
		      "name", views_text(step->name), "key", views_text(step->key), "state",
		      views_state(journal_step_state_name(step->state)), "why",
		      views_text(step->why), "input", views_digest(&step->input), "attempts",
		      attempts);
	views_step_argv(d, &step->input, o);
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
