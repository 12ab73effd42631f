/*
 * Effects that the supervisor carries out itself: a tool's call is begun for the request that waits,
 * its exit and output become the outcome, and who waits is given it as a recorded one. Probes of
 * what is in doubt go the same way.
 */
#include "supervisor/effects_tool.h"

#include <stdlib.h>
#include <string.h>
#include "base/failpoint.h"
#include "supervisor/tools.h"

static void tool_over(struct daemon *d, const struct journal_id *effect,
		      enum engine_outcome outcome, const char *why, const struct digest *body)
{
	struct engine_result x = {.effect = *effect, .outcome = outcome, .why = why, .status = 200};
	const struct journal_effect *f = journal_state_effect(d->rows, effect);
	struct effects_channel *c = f ? effects_channel_of(d, &f->run) : NULL;

	if (body)
		x.body = *body;
	/* Without a response its client waits for what follows. */
	for (struct effects_request *r = c && !body ? c->requests : NULL; r; r = r->next)
		if (journal_id_equal(&r->effect, effect))
			r->sent = false;
	daemon_check(d, engine_effect_result(d->engine, daemon_now(), &x), "tool");
}

static void on_tool(struct daemon *d, void *arg, const struct tools_result *r)
{
	struct journal_id *effect = arg;
	json_t *said;
	AUTO_FREE char *text = NULL;
	struct digest body;
	bool truncated;

	if (r->failed || r->status < 0) {
		/* It began, and nobody knows how far it came; unless it never did. */
		tool_over(d, effect,
			  r->status == TOOLS_NEVER_BEGAN ? ENGINE_REFUSED : ENGINE_IN_DOUBT,
			  r->failed ? r->failed : "it was ended by a signal", NULL);
		free(effect);
		return;
	}
	/* What is withheld is said to be so, and is not cut. */
	truncated = !r->withheld && (r->out.len < r->out_total || r->err.len < r->err_total);
	said = json_pack("{s:i, s:b, s:I, s:I, s:o, s:o}", "exit", r->status, "truncated",
			 truncated, "stdout_bytes", (json_int_t)r->out_total, "stderr_bytes",
			 (json_int_t)r->err_total, "stdout", api_json_text(r->out), "stderr",
			 r->withheld
				 ? json_string("holdfast: what it wrote holds its secret, and is "
					       "withheld\n")
				 : api_json_text(r->err));
	text = said ? json_dumps(said, JSON_COMPACT) : NULL;
	json_decref(said);
	if (!text || journal_blob_put(d->journal, bytes_str(text), &body, NULL) < 0)
		tool_over(d, effect, ENGINE_IN_DOUBT, "its output could not be kept", NULL);
	else
		tool_over(d, effect, ENGINE_CONFIRMED, NULL, &body);
	free(effect);
}

static int run_tool(struct daemon *d, const struct journal_run *run, const struct journal_effect *f,
		    struct error *err)
{
	AUTO_FREE struct action *a = malloc(sizeof(*a));
	AUTO_BUFFER canonical = {0};
	char *args[ACTION_ARGS_MAX + 2] = {NULL}, id[256], key[ENGINE_KEY_SIZE];
	struct journal_id *effect = malloc(sizeof(*effect));
	struct tools_program program;
	size_t n = 0;
	int r = a && effect ? journal_blob_get(d->journal, &f->canonical, ACTION_BYTES_MAX,
					       &canonical, err)
			    : error_nomem(err);

	if (r == 0)
		r = action_decode(buffer_bytes(&canonical), a);
	if (r == 0)
		r = engine_effect_key(run, f, key);
	for (size_t i = 0; r == 0 && i < a->arg_count; i++)
		if (asprintf(&args[n++], "--%.*s=%.*s", (int)a->args[i].name.len,
			     (const char *)a->args[i].name.data, (int)a->args[i].value.len,
			     (const char *)a->args[i].value.data) < 0)
			r = -ENOMEM;
	if (r == 0) {
		snprintf(id, sizeof(id), "%.*s", (int)a->tool.len, (const char *)a->tool.data);
		program = (struct tools_program){.program = a->program,
						 .interpreter = a->interpreter,
						 .file_count = a->file_count};
		memcpy(program.files, a->files, sizeof(program.files));
		*effect = f->id;
		r = tools_run(d,
			      &(struct tools_call){.run = run,
						   .id = id,
						   .program = &program,
						   .args = (const char *const *)args,
						   .input = bytes_of("", 0),
						   .done = on_tool,
						   .drop = free,
						   .arg = effect},
			      err);
	}
	for (size_t i = 0; i < n; i++)
		free(args[i]);
	if (r < 0)
		free(effect);
	return r;
}

void effects_tool_start(struct daemon *d, struct effects_request *r, const struct journal_run *run,
			const struct journal_effect *f)
{
	struct journal_id effect = f->id;
	struct error err = {0};

	r->sent = true;
	(void)failpoint_hit("effect.before-tool");
	if (run_tool(d, run, f, &err) < 0)
		tool_over(d, &effect, ENGINE_REFUSED, err.msg[0] ? err.msg : "it cannot be run",
			  NULL);
}

void effects_tool_answer(struct daemon *d, struct effects_channel *c, const struct journal_id *id)
{
	const struct journal_effect *f = journal_state_effect(d->rows, id);
	struct effects_request *next;

	if (!f || f->action_kind != ACTION_TOOL || f->state != JOURNAL_EFFECT_S_CONFIRMED)
		return;
	for (struct effects_request *r = c->requests; r; r = next) {
		next = r->next;
		if (!journal_id_equal(&r->effect, id) || !r->sent)
			continue;
		effects_request_replay(c, r, f);
		effects_request_drop(c, r);
	}
}

struct probing {
	struct journal_id effect;
};

/* The probe's exit says it: 0 done, 1 not done; all else is not known. */
static void on_probed(struct daemon *d, void *arg, const struct tools_result *r)
{
	AUTO_FREE struct probing *p = arg;
	enum engine_probe said = r->failed	  ? ENGINE_PROBE_UNKNOWN
				 : r->status == 0 ? ENGINE_PROBE_DONE
				 : r->status == 1 ? ENGINE_PROBE_NOT_DONE
						  : ENGINE_PROBE_UNKNOWN;

	daemon_check(d,
		     engine_effect_probed(d->engine, daemon_now(), &p->effect, said,
					  r->failed ? r->failed : "its probe said so"),
		     "probe");
}

static int start_probe(struct daemon *d, const struct journal_run *run,
		       const struct journal_effect *f, struct error *err)
{
	struct probing *p = malloc(sizeof(*p));
	char key[ENGINE_KEY_SIZE], arg[ENGINE_KEY_SIZE + 8];
	const char *args[] = {arg, NULL};
	AUTO_BUFFER body = {0};
	int r = p ? engine_effect_key(run, f, key) : error_nomem(err);

	if (r == 0 && !digest_is_zero(&f->body))
		r = journal_blob_get(d->journal, &f->body, ACTION_BODY_MAX, &body, err);
	if (r == 0) {
		*p = (struct probing){f->id};
		snprintf(arg, sizeof(arg), "--key=%s", key);
		r = tools_run(d,
			      &(struct tools_call){.run = run,
						   .id = f->probe ? f->probe : "",
						   .args = args,
						   .input = buffer_bytes(&body),
						   .done = on_probed,
						   .drop = free,
						   .arg = p},
			      err);
	}
	if (r < 0)
		free(p);
	return r;
}

void effects_tool_probe(struct daemon *d, const struct engine_command *c)
{
	const struct journal_effect *f = journal_state_effect(d->rows, &c->effect);
	const struct journal_run *run = f ? journal_state_run(d->rows, &f->run) : NULL;
	struct journal_id effect = c->effect;
	struct error err = {0};

	if (run && start_probe(d, run, f, &err) == 0)
		return;
	daemon_check(d,
		     engine_effect_probed(d->engine, daemon_now(), &effect, ENGINE_PROBE_UNKNOWN,
					  err.msg[0] ? err.msg : "its probe cannot be run"),
		     "probe");
}
