#include "supervisor/effect_undo.h"

#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "supervisor/api/server.h"
#include "supervisor/api/views.h"
#include "supervisor/runs.h"
#include "supervisor/supervisor.h"
#include "supervisor/tools.h"

enum { UNDOS_MAX = 16, BODY_SEEN_MAX = 4 * 1024 * 1024, SAID_MAX = 160 };

struct undos {
	struct {
		struct journal_id effect, run;
	} running[UNDOS_MAX];
	size_t count;
};

struct undoing {
	struct journal_id effect;
	uint32_t uid;
	uint64_t ticket;
};

int effect_undo_new(struct undos **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

void effect_undo_free(struct undos *u)
{
	free(u);
}

static bool runs_now(const struct undos *u, const struct journal_id *effect)
{
	for (size_t i = 0; i < u->count; i++)
		if (journal_id_equal(&u->running[i].effect, effect))
			return true;
	return false;
}

bool effect_undo_holds(const struct undos *u, const struct journal_id *run)
{
	for (size_t i = 0; i < u->count; i++)
		if (journal_id_equal(&u->running[i].run, run))
			return true;
	return false;
}

static void forget(struct undos *u, const struct journal_id *effect)
{
	for (size_t i = 0; i < u->count; i++)
		if (journal_id_equal(&u->running[i].effect, effect)) {
			u->running[i] = u->running[--u->count];
			return;
		}
}

/* ---- what the rule says ---- */

void effect_undo_clear(struct effect_undo *u)
{
	free(u->tool);
	free(u->text);
	*u = (struct effect_undo){0};
}

static int read_action(struct daemon *d, const struct journal_effect *f, struct buffer *canonical,
		       struct action *a, struct buffer *body, struct error *err)
{
	int r = journal_blob_get(d->journal, &f->canonical, ACTION_BYTES_MAX, canonical, err);

	if (r == 0)
		r = action_decode(buffer_bytes(canonical), a);
	if (r == 0 && a->has_body && a->body_len <= BODY_SEEN_MAX)
		r = journal_blob_get(d->journal, &a->body, BODY_SEEN_MAX, body, err);
	return r < 0 ? error_set(err, r, "the effect cannot be read; run 'holdfast verify'") : 0;
}

int effect_undo_of(struct daemon *d, const struct journal_run *run, const struct journal_effect *f,
		   struct effect_undo *ret, struct error *err)
{
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	AUTO_FREE struct action *a = malloc(sizeof(*a));
	AUTO_FREE struct effect_decision *decision = malloc(sizeof(*decision));
	AUTO_BUFFER canonical = {0};
	AUTO_BUFFER body = {0};
	struct runs_context *ctx;
	int r = a && decision ? read_action(d, f, &canonical, a, &body, err) : error_nomem(err);

	*ret = (struct effect_undo){0};
	if (r == 0)
		r = runs_get(d, &run->id, &ctx, err);
	if (r == 0)
		r = policy_effective_step(ctx->policy, run->steps[f->step]->name,
					  POLICY_AGENCY_UNSET, &e, err);
	if (r == 0)
		r = effect_decide(e, a, buffer_bytes(&body), decision);
	if (r != 0 || !decision->has_rule)
		return r;
	if (decision->rule.undo_tool)
		ret->tool = strdup(decision->rule.undo_tool);
	if (decision->rule.undo_text)
		ret->text = strdup(decision->rule.undo_text);
	return (decision->rule.undo_tool && !ret->tool) || (decision->rule.undo_text && !ret->text)
		       ? error_nomem(err)
		       : 0;
}

/* ---- the tool ---- */

static void not_undone(const struct tools_result *r, struct error *err)
{
	AUTO_FREE char *said =
		escape_dup(bytes_of(r->err.data, r->err.len < SAID_MAX ? r->err.len : SAID_MAX),
			   ESCAPE_LINE);

	if (r->failed)
		error_set(err, -EIO,
			  "undo: its tool did not end by itself: %s; look at the other side, then "
			  "ask again",
			  r->failed);
	else
		error_set(err, -EIO, "undo: its tool left with status %d%s%s", r->status,
			  said && *said ? ": " : "", said ? said : "");
}

static void on_undone(struct daemon *d, void *arg, const struct tools_result *r)
{
	AUTO_FREE struct undoing *u = arg;
	struct api_answer a = {.fd = -1, .status = 200};
	struct error err = {0};
	int rc = 0;

	if (r->failed || r->status != 0) {
		not_undone(r, &err);
		rc = -EIO;
	}
	if (rc == 0) {
		rc = engine_effect_compensated(d->engine, daemon_now(), &u->effect, u->uid);
		d->need_sync = true;
		if (rc < 0)
			error_set(&err, rc, "undo: it is done, and cannot be recorded: %s",
				  strerror(-rc));
	}
	forget(d->undos, &u->effect);
	if (rc < 0)
		api_answer_error(&a, 0, &err);
	else
		a.json = json_pack("{s:i, s:o, s:s}", "version", SUPERVISOR_API_VERSION, "effect",
				   views_id(&u->effect), "state", "compensated");
	api_server_answer(d->api, u->ticket, &a);
}

static int refuse(const struct journal_effect *f, const struct effect_undo *how, struct error *err)
{
	if (f->state == JOURNAL_EFFECT_S_COMPENSATED)
		return error_set_exit(err, -EALREADY, EXIT_STATUS_CONFLICT,
				      "undo: it was taken back already");
	if (f->state != JOURNAL_EFFECT_S_CONFIRMED)
		return error_set_exit(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"undo: the effect is %s; only what is confirmed can be taken back",
			journal_effect_state_name(f->state));
	if (!how->tool && how->text)
		return error_set_exit(err, -ENOTSUP, EXIT_STATUS_USAGE,
				      "undo: its rule names no tool; it says: %.160s", how->text);
	if (!how->tool)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "undo: its rule says no 'undo'; take it back yourself");
	return 0;
}

/* Of the tool's arguments; freed with free_args. */
static int make_args(const struct journal_run *run, const struct journal_effect *f,
		     const struct action *a, char *args[ACTION_ARGS_MAX + 2])
{
	char key[ENGINE_KEY_SIZE];
	size_t n = 0;
	int r = engine_effect_key(run, f, key);

	if (r < 0 || asprintf(&args[n], "--key=%s", key) < 0)
		return r < 0 ? r : -ENOMEM;
	for (size_t i = 0; i < a->arg_count; i++)
		if (asprintf(&args[++n], "--%.*s=%.*s", (int)a->args[i].name.len,
			     (const char *)a->args[i].name.data, (int)a->args[i].value.len,
			     (const char *)a->args[i].value.data) < 0)
			return -ENOMEM;
	return 0;
}

static int start(struct daemon *d, const struct journal_run *run, const struct journal_effect *f,
		 const char *tool, struct undoing *u, struct error *err)
{
	AUTO_FREE struct action *a = malloc(sizeof(*a));
	AUTO_BUFFER canonical = {0};
	AUTO_BUFFER body = {0};
	char *args[ACTION_ARGS_MAX + 2] = {NULL};
	int r = a ? read_action(d, f, &canonical, a, &body, err) : error_nomem(err);

	if (r == 0)
		r = make_args(run, f, a, args);
	if (r == 0)
		r = tools_run(d,
			      &(struct tools_call){.run = run,
						   .id = tool,
						   .args = (const char *const *)args,
						   .input = buffer_bytes(&body),
						   .done = on_undone,
						   .drop = free,
						   .arg = u},
			      err);
	for (size_t i = 0; args[i]; i++)
		free(args[i]);
	return r;
}

int effect_undo_start(struct daemon *d, const struct journal_run *run,
		      const struct journal_effect *f, uint32_t uid, uint64_t ticket,
		      struct error *err)
{
	__attribute__((cleanup(effect_undo_clear))) struct effect_undo how = {0};
	struct undoing *u;
	int r = effect_undo_of(d, run, f, &how, err);

	if (r == 0)
		r = refuse(f, &how, err);
	if (r < 0)
		return r;
	if (runs_now(d->undos, &f->id) || d->undos->count == UNDOS_MAX)
		return error_set_exit(err, -EBUSY, EXIT_STATUS_CONFLICT,
				      "undo: it is being taken back just now; wait for it");
	u = malloc(sizeof(*u));
	if (!u)
		return error_nomem(err);
	*u = (struct undoing){f->id, uid, ticket};
	d->undos->running[d->undos->count].effect = f->id;
	d->undos->running[d->undos->count++].run = f->run;
	r = start(d, run, f, how.tool, u, err);
	if (r < 0) {
		forget(d->undos, &f->id);
		free(u);
	}
	return r;
}
