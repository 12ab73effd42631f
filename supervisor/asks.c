#include "supervisor/asks.h"

#include <string.h>

#include "base/utf8.h"
#include "supervisor/confine.h"
#include "supervisor/runs.h"

/* Whatever cannot be decided here is decided when the attempt is made, and refused there. */
static bool asks_for(struct confine_input *in, const char *const *argv, char why[ASKS_WHY_MAX])
{
	struct error err = {0};

	in->argv = argv;
	if (!argv || !argv[0] || confine_exec(in, &err) != CONFINE_ASKS)
		return false;
	if (why)
		utf8_printf(why, ASKS_WHY_MAX, "%s%s%s", err.where, err.where[0] ? ": " : "",
			    err.msg);
	return true;
}

bool asks_before(struct daemon *d, const struct journal_run *run, const struct plan_step *spec,
		 char why[ASKS_WHY_MAX])
{
	struct confine_input in = {.step = spec,
				   .workspace = run->workspace,
				   .workspace_fd = -1,
				   .uid = (uid_t)run->ws_uid,
				   .stdin_fd = -1,
				   .state = d->paths.state,
				   .runtime = d->paths.runtime,
				   .hidden = (const char *const *)d->own->state};
	struct runs_context *ctx;

	if (!run->workspace || runs_get(d, &run->id, &ctx, NULL) < 0 ||
	    !policy_asks_exec(ctx->policy))
		return false;
	in.policy = ctx->policy;
	in.env = ctx->settings.env;
	in.home = ctx->settings.home;
	if (asks_for(&in, (const char *const *)spec->argv, why))
		return true;
	for (size_t i = 0; i < spec->check_count; i++)
		if (asks_for(&in, (const char *const *)spec->checks[i].argv, why))
			return true;
	return false;
}

struct search {
	const struct journal_id *run;
	uint32_t step;
};

static int is_answer(const struct journal_approval *a, void *arg)
{
	const struct search *s = arg;

	return a->kind == JOURNAL_KIND_STEP_GATE && a->step == s->step &&
	       a->state == JOURNAL_APPROVAL_S_CONSUMED && journal_id_equal(&a->run, s->run);
}

bool asks_answered(const struct daemon *d, const struct journal_id *run, uint32_t step)
{
	struct search s = {run, step};

	return journal_state_each_approval(d->rows, is_answer, &s) == 1;
}
