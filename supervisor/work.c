#include "supervisor/work.h"

#include <string.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "supervisor/cards.h"
#include "supervisor/confine.h"
#include "supervisor/runs.h"
#include "supervisor/workspace.h"

/* ---- the committed stack ---- */

void work_stack_free(struct work_stack *s)
{
	for (size_t i = 0; i < s->count; i++) {
		manifest_free((struct manifest *)s->layers[i].manifest);
		policy_fs_free(s->fs[i]);
		policy_effective_free(s->effective[i]);
	}
	free(s->layers);
	free(s->fs);
	free(s->effective);
	*s = (struct work_stack){0};
}

static int reserve(struct work_stack *s, size_t max)
{
	s->layers = calloc(max + 1, sizeof(*s->layers));
	s->fs = calloc(max + 1, sizeof(*s->fs));
	s->effective = calloc(max + 1, sizeof(*s->effective));
	return s->layers && s->fs && s->effective ? 0 : -ENOMEM;
}

static int push(struct daemon *d, const struct journal_run *run, const struct journal_step *step,
		struct work_stack *s, struct error *err)
{
	struct landing_layer *l = &s->layers[s->count];
	struct runs_context *ctx;
	struct manifest *m = NULL;
	AUTO_BUFFER b = {.max = MANIFEST_BYTES_MAX};
	int r = runs_get(d, &run->id, &ctx, err);

	if (r == 0)
		r = journal_blob_get(d->journal, &step->manifest, MANIFEST_BYTES_MAX, &b, err);
	if (r == 0)
		r = manifest_decode(buffer_bytes(&b), &m, err);
	if (r == 0)
		r = confine_fs(ctx->policy, step->name, run->workspace, ctx->settings.home,
			       &s->effective[s->count], &s->fs[s->count], err);
	if (r < 0) {
		manifest_free(m);
		return error_set(err, r,
				 "cannot read what step %s changed: %s; run 'holdfast verify'",
				 step->name, strerror(-r));
	}
	memcpy(l->name, step->layer, sizeof(l->name));
	l->manifest = m;
	l->fs = s->fs[s->count];
	s->count++;
	return 0;
}

int work_stack(struct daemon *d, const struct journal_run *run, const struct journal_step *below,
	       struct work_stack *ret, struct error *err)
{
	size_t n = engine_stack(run, below, NULL);
	AUTO_FREE const struct journal_step **steps = calloc(n + 1, sizeof(*steps));
	struct work_stack s = {0};
	int r = steps ? reserve(&s, n + 1) : -ENOMEM;

	if (r == 0)
		engine_stack(run, below, steps);
	for (size_t i = 0; i < n && r == 0; i++)
		r = push(d, run, steps[i], &s, err);
	if (r < 0) {
		work_stack_free(&s);
		return error_set(err, r, "cannot read the run's layers: %s", strerror(-r));
	}
	*ret = s;
	return 0;
}

int work_layer(struct daemon *d, const struct journal_run *run, const struct journal_step *step,
	       struct work_stack *ret, struct error *err)
{
	struct work_stack s = {0};
	int r = reserve(&s, 1);

	if (r == 0 && step->layer[0] && !digest_is_zero(&step->manifest))
		r = push(d, run, step, &s, err);
	if (r < 0) {
		work_stack_free(&s);
		return r;
	}
	*ret = s;
	return 0;
}

/* ---- what landing asks of us ---- */

static int source_open(void *ctx, const struct digest *digest)
{
	struct daemon *d = ctx;

	return journal_blob_open(d->journal, digest, NULL);
}

static int source_put(void *ctx, int fd, uint64_t max, struct digest *ret)
{
	struct daemon *d = ctx;
	uint64_t size;

	return journal_blob_put_fd(d->journal, fd, max, ret, &size, NULL);
}

static int source_sync(void *ctx)
{
	struct daemon *d = ctx;

	return journal_blob_sync(d->journal, NULL);
}

void work_source(struct daemon *d, struct landing_source *ret)
{
	*ret = (struct landing_source){.ctx = d,
				       .layers_fd = d->layers_fd,
				       .blob_open = source_open,
				       .blob_put = source_put,
				       .blob_sync = source_sync};
}

static int see(const struct journal_record *r, struct bytes encoded, void *arg)
{
	(void)encoded;
	landing_clock_see(arg, r->wall_ns, r->mono_ns, r->boot_id);
	return 0;
}

static int make_clock(struct daemon *d, const struct journal_run *run, int workspace_fd,
		      struct landing_clock *ret, struct error *err)
{
	struct workspace_abilities can;
	struct engine_now now = daemon_now();
	int r = workspace_probe(workspace_fd, &can, err);

	if (r < 0)
		return r;
	landing_clock_start(ret, run->started_ns, can.granularity_ns);
	if (!can.ctime_ok)
		ret->suspect = true;
	r = journal_each_event(d->journal, &run->id, 1, see, ret);
	landing_clock_see(ret, now.wall_ns, now.mono_ns, d->boot_id);
	return r < 0 ? error_set(err, r, "cannot read the run's events: %s", strerror(-r)) : 0;
}

/* A person's answers to the conflicts of a landing, path by path, each with the state that it was
 * given for. */
struct answers {
	struct buffer shown; /* landing-conflicts: what was shown last of each path */
	struct landing_choice *choices;
	size_t count;
};

static void answers_free(struct answers *a)
{
	buffer_free(&a->shown);
	free(a->choices);
}

static int answer_size(struct daemon *d, struct landing_choice *c, struct error *err)
{
	AUTO_FD fd = journal_blob_open(d->journal, &c->file, err);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 ? fd : -errno;
	c->file_size = (uint64_t)st.st_size;
	return 0;
}

/* The last word about a path among an item's votes: one that names it comes before one for all. */
static const struct journal_vote *vote_on(const struct journal_approval *a, struct bytes path)
{
	const struct journal_vote *all = NULL;

	for (uint32_t i = a->vote_count; i-- > 0;) {
		const struct journal_vote *v = &a->votes[i];

		if (v->decision != JOURNAL_DECISION_APPROVE || !v->choice)
			continue;
		if (bytes_equal(v->path, path))
			return v;
		if (v->path.len == 0 && !all)
			all = v;
	}
	return all;
}

/* The items of a run that were decided by answers: the one in hand and those before it. */
struct answered {
	const struct journal_approval *now;
	const struct journal_approval **items; /* oldest first */
	size_t count;
};

static int find_answered(const struct journal_approval *a, void *arg)
{
	struct answered *f = arg;
	bool stood =
		a->state == JOURNAL_APPROVAL_S_LAPSED || a->state == JOURNAL_APPROVAL_S_CONSUMED;

	if (a == f->now || a->kind != JOURNAL_KIND_CONFLICT || !stood ||
	    !journal_id_equal(&a->run, &f->now->run))
		return 0;
	if (f->items)
		f->items[f->count] = a;
	f->count++;
	return 0;
}

/* Growing lists of conflicts and choices; what they point to belongs to the decoded lists. */
struct gathered {
	struct landing_conflict *conflicts;
	size_t conflict_count;
	struct landing_plan **lists;
	size_t list_count;
};

static void gathered_free(struct gathered *g)
{
	for (size_t i = 0; i < g->list_count; i++)
		landing_plan_free(g->lists[i]);
	free(g->lists);
	free(g->conflicts);
}

/* What an item showed and was told, but of paths that a later item showed. */
static int gather(struct daemon *d, const struct journal_approval *a, struct gathered *g,
		  struct answers *ret, struct error *err)
{
	AUTO_BUFFER blob = {.max = LANDING_BYTES_MAX};
	AUTO(landing_plan_free) struct landing_plan *list = NULL;
	size_t before = g->conflict_count;
	void *p;
	int r;

	if (digest_is_zero(&a->object))
		return 0;
	r = journal_blob_get(d->journal, &a->object, LANDING_BYTES_MAX, &blob, err);
	if (r == 0)
		r = landing_conflicts_decode(buffer_bytes(&blob), &list, err);
	if (r != 0)
		return r;
	if (g->list_count > 0 && list->undo != g->lists[0]->undo)
		return 0; /* answers to a landing are none to its undoing */
	p = reallocarray(g->conflicts, before + list->conflict_count + 1, sizeof(*g->conflicts));
	if (!p)
		return error_nomem(err);
	g->conflicts = p;
	p = reallocarray(ret->choices, ret->count + list->conflict_count + 1,
			 sizeof(*ret->choices));
	if (!p)
		return error_nomem(err);
	ret->choices = p;
	for (size_t i = 0; i < list->conflict_count && r == 0; i++) {
		const struct landing_conflict *c = &list->conflicts[i];
		const struct journal_vote *v = vote_on(a, c->path);
		struct landing_choice choice = {.path = c->path};
		bool later = false;

		for (size_t k = 0; k < before && !later; k++)
			later = bytes_equal(g->conflicts[k].path, c->path);
		if (later)
			continue;
		g->conflicts[g->conflict_count++] = *c;
		if (!v)
			continue;
		choice.file = v->file;
		choice.kind = strcmp(v->choice, "mine") == 0	 ? LANDING_CHOICE_MINE
			      : strcmp(v->choice, "theirs") == 0 ? LANDING_CHOICE_THEIRS
								 : LANDING_CHOICE_FILE;
		if (choice.kind == LANDING_CHOICE_FILE)
			r = answer_size(d, &choice, err);
		ret->choices[ret->count++] = choice;
	}
	g->lists[g->list_count++] = take_ptr(list);
	return r;
}

static int by_path(const void *a, const void *b)
{
	return bytes_compare(((const struct landing_conflict *)a)->path,
			     ((const struct landing_conflict *)b)->path);
}

/*
 * A directory may change while its conflict waits, again and again: what was answered once holds
 * for as long as the path is what was shown, so each item asks only for what is new. The paths of
 * the choices lie in g.
 */
static int make_answers(struct daemon *d, const struct journal_id *item, struct gathered *g,
			struct answers *ret, struct error *err)
{
	static const struct journal_id none;
	struct answered f = {.now = journal_id_equal(item, &none)
					    ? NULL
					    : journal_state_approval(d->rows, item)};
	AUTO_FREE const struct journal_approval **items = NULL;
	int r;

	if (!f.now)
		return 0;
	journal_state_each_approval(d->rows, find_answered, &f);
	items = calloc(f.count + 1, sizeof(*items));
	g->lists = calloc(f.count + 1, sizeof(struct landing_plan *));
	if (!items || !g->lists)
		return error_nomem(err);
	f.items = items;
	f.count = 0;
	journal_state_each_approval(d->rows, find_answered, &f);
	r = gather(d, f.now, g, ret, err);
	while (f.count > 0 && r == 0)
		r = gather(d, f.items[--f.count], g, ret, err);
	if (r < 0 || g->conflict_count == 0)
		return r;
	qsort(g->conflicts, g->conflict_count, sizeof(*g->conflicts), by_path);
	ret->shown.max = LANDING_BYTES_MAX;
	return landing_conflicts_encode(g->conflicts, g->conflict_count, g->lists[0]->undo,
					&ret->shown);
}

/* ---- planning ---- */

struct planned {
	struct buffer redo, conflicts;
	bool nothing;
	struct landing_plan *plan; /* owned; for a card */
};

static void planned_free(struct planned *p)
{
	buffer_free(&p->redo);
	buffer_free(&p->conflicts);
	landing_plan_free(p->plan);
}

static int run_table(struct daemon *d, const struct journal_run *run, struct policy_fs **ret,
		     struct error *err)
{
	struct policy_vars vars = {.workspace = run->workspace,
				   .tmp = "/tmp",
				   .run = "/run/holdfast"};
	struct runs_context *ctx;
	int r = runs_get(d, &run->id, &ctx, err);

	if (r < 0)
		return r;
	vars.home = ctx->settings.home;
	return policy_fs_new(ctx->policy, &vars, ret, err);
}

int work_landing(struct daemon *d, const struct journal_run *run, const struct work_stack *below,
		 const struct work_stack *layers, struct landing_plan **ret, struct error *err)
{
	AUTO(policy_fs_free) struct policy_fs *fs = NULL;
	struct diff_scope scope = {.below = below->layers,
				   .below_count = below->count,
				   .layers = layers->layers,
				   .layer_count = layers->count,
				   .workspace = run->workspace};
	int r = run_table(d, run, &fs, err);

	scope.fs = fs;
	return r < 0 ? r : diff_landing(&scope, ret, err);
}

/* What landing these layers would do. */
static int prepare(struct daemon *d, const struct journal_run *run, const struct work_stack *stack,
		   const struct answers *answers, struct planned *ret, struct error *err)
{
	struct landing_request q = {.workspace = run->workspace,
				    .uid = (uint32_t)run->ws_uid,
				    .layers = stack->layers,
				    .layer_count = stack->count,
				    .shown = buffer_bytes(&answers->shown),
				    .choices = answers->choices,
				    .choice_count = answers->count};
	struct landing_prepared p = {0};
	AUTO_BUFFER last = {.max = LANDING_BYTES_MAX};
	AUTO(policy_fs_free) struct policy_fs *fs = NULL;
	struct runs_context *ctx;
	int r = runs_get(d, &run->id, &ctx, err);

	if (r == 0)
		r = runs_landing_place(d, ctx, err);
	if (r == 0)
		r = own_refresh(&d->own_from, &d->own, err);
	if (r < 0)
		return r;
	q.own = (const char *const *)d->own->all;
	q.workspace_fd = ctx->workspace_fd;
	q.gid = ctx->gid;
	r = run_table(d, run, &fs, err);
	if (r == 0)
		r = make_clock(d, run, ctx->workspace_fd, &q.clock, err);
	if (r == 0 && !digest_is_zero(&run->redo))
		r = journal_blob_get(d->journal, &run->redo, LANDING_BYTES_MAX, &last, err);
	q.fs = fs;
	q.last = buffer_bytes(&last);
	if (r == 0)
		r = landing_prepare(&q, &p, err);
	if (r == 0) {
		*ret = (struct planned){.redo = p.redo,
					.conflicts = p.conflicts,
					.nothing = p.nothing,
					.plan = take_ptr(p.plan)};
		p.redo = p.conflicts = (struct buffer){0};
	}
	landing_prepared_free(&p);
	return r;
}

static int find_landed(const struct journal_record *r, struct bytes encoded, void *arg)
{
	struct digest *redo = arg;

	(void)encoded;
	if (r->type == JOURNAL_LANDING_STARTED)
		*redo = r->p.redo;
	return 0;
}

static int reverse(struct daemon *d, const struct journal_run *run, const struct answers *answers,
		   struct planned *ret, struct error *err)
{
	AUTO_BUFFER redo = {.max = LANDING_BYTES_MAX};
	AUTO(landing_plan_free) struct landing_plan *plan = NULL;
	AUTO(landing_plan_free) struct landing_plan *shown = NULL;
	struct digest landed = run->redo;
	/* An undoing that met a conflict before has left its own plan there. */
	int r = journal_each_event(d->journal, &run->id, 1, find_landed, &landed);

	if (r == 0)
		r = journal_blob_get(d->journal, &landed, LANDING_BYTES_MAX, &redo, err);
	if (r == 0)
		r = landing_plan_decode(buffer_bytes(&redo), &plan, err);
	if (r == 0 && answers->shown.len > 0)
		r = landing_conflicts_decode(buffer_bytes(&answers->shown), &shown, err);
	if (r == 0)
		r = landing_plan_reverse(plan, shown ? shown->conflicts : NULL,
					 shown ? shown->conflict_count : 0, answers->choices,
					 answers->count, &ret->plan, err);
	if (r != 0)
		return r;
	ret->redo.max = LANDING_BYTES_MAX;
	ret->nothing = ret->plan->action_count == 0;
	return landing_plan_encode(ret->plan, &ret->redo);
}

static int put(struct daemon *d, const struct buffer *b, struct digest *ret, struct error *err)
{
	*ret = (struct digest){0};
	return b->len == 0 ? 0 : journal_blob_put(d->journal, buffer_bytes(b), ret, err);
}

static const struct digest *or_null(const struct digest *d)
{
	return digest_is_zero(d) ? NULL : d;
}

static void plan_landing(struct daemon *d, const struct engine_command *c)
{
	const struct journal_run *run = journal_state_run(d->rows, &c->run);
	__attribute__((cleanup(work_stack_free))) struct work_stack stack = {0};
	__attribute__((cleanup(gathered_free))) struct gathered gathered = {0};
	__attribute__((cleanup(answers_free))) struct answers answers = {0};
	__attribute__((cleanup(planned_free))) struct planned p = {0};
	struct digest redo = {0}, conflicts = {0};
	struct error err = {0};
	int r = run ? make_answers(d, &c->answers, &gathered, &answers, &err) : -ENOENT;

	if (r == 0 && c->undo)
		r = reverse(d, run, &answers, &p, &err);
	else if (r == 0)
		r = work_stack(d, run, NULL, &stack, &err);
	if (r == 0 && !c->undo)
		r = prepare(d, run, &stack, &answers, &p, &err);
	if (r == 0)
		r = put(d, &p.conflicts, &conflicts, &err);
	if (r == 0 && p.conflicts.len == 0)
		r = put(d, &p.redo, &redo, &err);
	if (r < 0)
		error_set(&err, r, "cannot plan the landing: %s", strerror(-r));
	daemon_check(d,
		     engine_landing_planned(d->engine, daemon_now(), &c->run, or_null(&redo),
					    or_null(&conflicts), r == 0 && p.nothing,
					    r < 0 ? err.msg : NULL),
		     "landing planned");
}

/* Whether this plan was begun by the epoch that is now: then its first application by this process
 * is the first of all. */
static int begun(const struct journal_record *r, struct bytes encoded, void *arg)
{
	uint64_t *epoch = arg;

	(void)encoded;
	if (r->type == JOURNAL_LANDING_STARTED || r->type == JOURNAL_UNDO_STARTED)
		*epoch = r->epoch;
	return 0;
}

static bool was_begun_before(struct daemon *d, struct runs_context *ctx, const struct digest *plan)
{
	uint64_t epoch = 0;
	bool here = digest_equal(&ctx->applied, plan);

	ctx->applied = *plan;
	return here || journal_each_event(d->journal, &ctx->id, 1, begun, &epoch) < 0 ||
	       epoch != d->epoch;
}

static void apply_landing(struct daemon *d, const struct engine_command *c)
{
	__attribute__((cleanup(landing_outcome_free))) struct landing_outcome o = {0};
	AUTO_BUFFER redo = {.max = LANDING_BYTES_MAX};
	struct digest result = {0}, conflicts = {0};
	struct landing_source source;
	struct runs_context *ctx;
	struct error err = {0};
	int r = runs_get(d, &c->run, &ctx, &err);

	work_source(d, &source);
	if (r == 0)
		r = runs_landing_place(d, ctx, &err);
	if (r == 0)
		r = journal_blob_get(d->journal, &c->object, LANDING_BYTES_MAX, &redo, &err);
	if (r == 0 && failpoint_hit("work.apply") < 0)
		return;
	if (r == 0) {
		struct landing_application a = {.workspace_fd = ctx->workspace_fd,
						.redo = buffer_bytes(&redo),
						.undo = c->undo,
						.source = &source};

		a.again = was_begun_before(d, ctx, &c->object);
		r = landing_apply(&a, &o, &err);
	}
	if (r >= 0 && failpoint_hit("work.applied") < 0)
		return;
	if (r == LANDING_APPLIED)
		r = put(d, &o.result, &result, &err);
	else if (r == LANDING_CONFLICT)
		r = put(d, &o.conflicts, &conflicts, &err);
	if (r < 0)
		error_set(&err, r, "cannot land: %s", strerror(-r));
	daemon_check(d,
		     engine_landing_done(d->engine, daemon_now(), &c->run, c->undo,
					 or_null(&result), or_null(&conflicts), o.paths,
					 r < 0	    ? err.msg
					 : o.why[0] ? o.why
						    : NULL),
		     "landing done");
}

void work_perform(struct daemon *d, const struct engine_command *c)
{
	switch (c->kind) {
	case ENGINE_CARD:
		cards_make(d, c);
		break;
	case ENGINE_PLAN_LANDING:
		plan_landing(d, c);
		break;
	case ENGINE_APPLY_LANDING:
		apply_landing(d, c);
		break;
	case ENGINE_START_ATTEMPT:
	case ENGINE_KILL_ATTEMPT:
	case ENGINE_SEAL:
	case ENGINE_REMOVE_LAYER:
	case ENGINE_FORGET_ATTEMPT:
	case ENGINE_EFFECT_ANSWER:
	case ENGINE_EFFECT_RELEASE:
	case ENGINE_EFFECT_PROBE:
	case ENGINE_FREEZE:
	case ENGINE_THAW:
	case ENGINE_SUSPEND:
		break;
	}
}
