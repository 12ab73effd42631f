/*
 * Landings from the engine's command to its report. What the loop's thread needs of rows and
 * policies is copied into a job first; the planning and applying run aside (aside.h), and see no
 * row; the report comes back on the loop's thread.
 */
#include "supervisor/work.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/utf8.h"
#include "supervisor/aside.h"
#include "supervisor/ballot.h"
#include "supervisor/cards.h"
#include "supervisor/confine.h"
#include "supervisor/intact.h"
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

static int make_clock(struct daemon *d, const struct journal_run *run, struct landing_clock *ret,
		      struct error *err)
{
	struct engine_now now = daemon_now();
	int r;

	landing_clock_start(ret, run->started_ns, 0);
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
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): as many lists as are counted */
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
		const struct journal_vote *v = ballot_answer(a, c->path);
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
	if (r != 0 || g->conflict_count == 0)
		return r;
	qsort(g->conflicts, g->conflict_count, sizeof(*g->conflicts), by_path);
	ret->shown.max = LANDING_BYTES_MAX;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a conflict came with its list */
	return landing_conflicts_encode(g->conflicts, g->conflict_count, g->lists[0]->undo,
					&ret->shown);
}

/* ---- planning ---- */

/* All that a plan is made from, so that it can be made beside the loop. */
struct plan_job {
	struct aside_job job; /* the first */
	struct journal_id run;
	int workspace_fd; /* owned, as all of it */
	char *workspace;
	struct policy_fs *fs;
	struct work_stack stack;
	struct gathered gathered;
	struct answers answers;
	struct buffer last;
	struct landing_request q;
	/* What comes of it. */
	struct landing_prepared prepared;
	int result;
	struct error err;
};

static void plan_job_free(struct aside_job *job)
{
	struct plan_job *p = (struct plan_job *)job;

	landing_prepared_free(&p->prepared);
	buffer_free(&p->last);
	answers_free(&p->answers);
	gathered_free(&p->gathered);
	work_stack_free(&p->stack);
	policy_fs_free(p->fs);
	free(p->workspace);
	close_fd(&p->workspace_fd);
	free(p);
}

int work_table(struct daemon *d, const struct journal_run *run, struct policy_fs **ret,
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
	int r = work_table(d, run, &fs, err);

	scope.fs = fs;
	return r < 0 ? r : diff_landing(&scope, ret, err);
}

/* What the workspace has to do with it is looked at on the thread: the rest is all here. */
static int gather_plan(struct daemon *d, const struct journal_run *run, struct plan_job *p,
		       struct error *err)
{
	struct runs_context *ctx;
	int r = runs_get(d, &run->id, &ctx, err);

	if (r == 0)
		r = runs_landing_place(d, ctx, err);
	if (r == 0)
		r = intact_landing(d, ctx, err);
	if (r == 0)
		r = own_refresh(&d->own_from, &d->own, err);
	if (r == 0)
		r = work_stack(d, run, NULL, &p->stack, err);
	if (r < 0)
		return r;
	p->workspace = strdup(run->workspace);
	p->workspace_fd = fcntl(ctx->workspace_fd, F_DUPFD_CLOEXEC, 3);
	if (!p->workspace || p->workspace_fd < 0)
		return error_set(err, p->workspace ? -errno : -ENOMEM,
				 "the workspace cannot be held open: %s", strerror(errno));
	r = work_table(d, run, &p->fs, err);
	if (r == 0)
		r = make_clock(d, run, &p->q.clock, err);
	if (r == 0 && !digest_is_zero(&run->redo))
		r = journal_blob_get(d->journal, &run->redo, LANDING_BYTES_MAX, &p->last, err);
	p->q = (struct landing_request){.workspace_fd = p->workspace_fd,
					.workspace = p->workspace,
					.uid = (uint32_t)run->ws_uid,
					.gid = ctx->gid,
					.own = (const char *const *)d->own->all,
					.layers = p->stack.layers,
					.layer_count = p->stack.count,
					.fs = p->fs,
					.clock = p->q.clock,
					.last = buffer_bytes(&p->last),
					.shown = buffer_bytes(&p->answers.shown),
					.choices = p->answers.choices,
					.choice_count = p->answers.count};
	return r;
}

/* On the thread. */
static void plan_work(struct aside_job *job)
{
	struct plan_job *p = (struct plan_job *)job;
	struct workspace_abilities can;

	p->result = failpoint_hit("work.plan");
	if (p->result == 0)
		p->result = workspace_probe(p->workspace_fd, &can, &p->err);
	if (p->result != 0)
		return;
	p->q.clock.granularity_ns = can.granularity_ns;
	if (!can.ctime_ok)
		p->q.clock.suspect = true;
	p->result = landing_prepare(&p->q, &p->prepared, &p->err);
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
		   struct landing_prepared *ret, struct error *err)
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

enum { FAILURE_MAX = ERROR_MSG_MAX + ERROR_WHERE_MAX + 64 };

/* What is to be done about it, where nothing says so yet. */
static const char *remedy_of(int code)
{
	switch (code) {
	case -ENOSPC:
	case -EDQUOT:
		return "; free some space on it first";
	case -EROFS:
	case -EACCES:
	case -EPERM:
		return "; make it writable first";
	case -EIO:
		return "; look at its disk first (dmesg)";
	case -ENOENT:
	case -ENOTDIR:
		return "; put the directory back first";
	default:
		return "";
	}
}

/* For the record: what and why stand in err, the remedy is told from the error. */
static const char *failure(int r, const struct error *err, char *why, size_t size)
{
	bool told = err->exit_status && strchr(err->msg, ';');

	utf8_printf(why, size, "%s%s%s%s", err->where, err->where[0] ? ": " : "", err->msg,
		    told ? "" : remedy_of(r));
	return why;
}

static void report_plan(struct daemon *d, const struct journal_id *run,
			const struct landing_prepared *p, int r, struct error *err)
{
	struct digest redo = {0}, conflicts = {0};
	char why[FAILURE_MAX];

	if (r == 0)
		r = put(d, &p->conflicts, &conflicts, err);
	if (r == 0 && p->conflicts.len == 0)
		r = put(d, &p->redo, &redo, err);
	if (r < 0)
		error_set(err, r, "cannot plan the landing: %s", strerror(-r));
	daemon_check(d,
		     engine_landing_planned(d->engine, daemon_now(), run, or_null(&redo),
					    or_null(&conflicts), r == 0 && p->nothing,
					    r < 0 ? failure(r, err, why, sizeof(why)) : NULL),
		     "landing planned");
}

static void plan_done(struct daemon *d, struct aside_job *job)
{
	struct plan_job *p = (struct plan_job *)job;

	report_plan(d, &p->run, &p->prepared, p->result, &p->err);
	plan_job_free(job);
}

/* An undoing is planned from what is recorded alone. */
static void plan_landing(struct daemon *d, const struct engine_command *c)
{
	const struct journal_run *run = journal_state_run(d->rows, &c->run);
	struct plan_job *p = calloc(1, sizeof(*p));
	struct error err = {0};
	int r = !p ? error_nomem(&err) : run ? 0 : -ENOENT;

	if (p) {
		p->job = (struct aside_job){.work = plan_work,
					    .done = plan_done,
					    .drop = plan_job_free};
		p->run = c->run;
		p->workspace_fd = -1;
		p->last.max = LANDING_BYTES_MAX;
	}
	if (r == 0)
		r = make_answers(d, &c->answers, &p->gathered, &p->answers, &err);
	if (r == 0 && c->undo)
		r = reverse(d, run, &p->answers, &p->prepared, &err);
	else if (r == 0)
		r = gather_plan(d, run, p, &err);
	if (r == 0 && !c->undo) {
		aside_start(d, &p->job);
		return;
	}
	report_plan(d, &c->run, p ? &p->prepared : &(struct landing_prepared){0}, r, &err);
	if (p)
		plan_job_free(&p->job);
}

/* ---- applying ---- */

struct apply_job {
	struct aside_job job; /* the first */
	struct journal_id run;
	bool undo;
	int workspace_fd; /* owned, as all of it */
	struct buffer redo;
	struct landing_source source; /* its layers_fd and ctx are the daemon's */
	struct landing_application a;
	struct landing_outcome outcome;
	bool unsaid; /* a failpoint: as if this process had not lived to tell */
	int result;
	struct error err;
};

static void apply_job_free(struct aside_job *job)
{
	struct apply_job *p = (struct apply_job *)job;

	landing_outcome_free(&p->outcome);
	buffer_free(&p->redo);
	close_fd(&p->workspace_fd);
	free(p);
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

static bool was_begun_before(struct daemon *d, struct runs_context *ctx, const struct digest *plan,
			     bool undo)
{
	uint64_t epoch = 0;
	bool here = digest_equal(&ctx->applied, plan) && ctx->applied_undo == undo;

	ctx->applied = *plan;
	ctx->applied_undo = undo;
	return here || journal_each_event(d->journal, &ctx->id, 1, begun, &epoch) < 0 ||
	       epoch != d->epoch;
}

/* On the thread. */
static void apply_work(struct aside_job *job)
{
	struct apply_job *p = (struct apply_job *)job;

	p->unsaid = failpoint_hit("work.apply") < 0;
	if (p->unsaid)
		return;
	p->result = landing_apply(&p->a, &p->outcome, &p->err);
	p->unsaid = p->result >= 0 && failpoint_hit("work.applied") < 0;
}

static void report_applied(struct daemon *d, const struct journal_id *run, bool undo, int r,
			   const struct landing_outcome *o, struct error *err)
{
	struct digest result = {0}, conflicts = {0};
	char why[FAILURE_MAX];

	if (r == LANDING_APPLIED)
		r = put(d, &o->result, &result, err);
	else if (r == LANDING_CONFLICT)
		r = put(d, &o->conflicts, &conflicts, err);
	if (r < 0)
		error_set(err, r, "cannot land: %s", strerror(-r));
	daemon_check(d,
		     engine_landing_done(d->engine, daemon_now(), run, undo, or_null(&result),
					 or_null(&conflicts), o->paths,
					 r < 0	     ? failure(r, err, why, sizeof(why))
					 : o->why[0] ? o->why
						     : NULL),
		     "landing done");
}

static void apply_done(struct daemon *d, struct aside_job *job)
{
	struct apply_job *p = (struct apply_job *)job;

	if (!p->unsaid)
		report_applied(d, &p->run, p->undo, p->result, &p->outcome, &p->err);
	apply_job_free(job);
}

static int gather_apply(struct daemon *d, const struct engine_command *c, struct apply_job *p,
			struct error *err)
{
	struct runs_context *ctx;
	int r = runs_get(d, &c->run, &ctx, err);

	if (r == 0)
		r = runs_landing_place(d, ctx, err);
	if (r == 0)
		r = journal_blob_get(d->journal, &c->object, LANDING_BYTES_MAX, &p->redo, err);
	if (r < 0)
		return r;
	p->workspace_fd = fcntl(ctx->workspace_fd, F_DUPFD_CLOEXEC, 3);
	if (p->workspace_fd < 0)
		return error_set(err, -errno, "the workspace cannot be held open: %s",
				 strerror(errno));
	work_source(d, &p->source);
	p->a = (struct landing_application){.workspace_fd = p->workspace_fd,
					    .redo = buffer_bytes(&p->redo),
					    .undo = c->undo,
					    .again = was_begun_before(d, ctx, &c->object, c->undo),
					    .source = &p->source};
	return 0;
}

static void apply_landing(struct daemon *d, const struct engine_command *c)
{
	struct apply_job *p = calloc(1, sizeof(*p));
	struct error err = {0};
	int r = p ? 0 : error_nomem(&err);

	if (p) {
		p->job = (struct aside_job){.work = apply_work,
					    .done = apply_done,
					    .drop = apply_job_free};
		p->run = c->run;
		p->undo = c->undo;
		p->workspace_fd = -1;
		p->redo.max = LANDING_BYTES_MAX;
		r = gather_apply(d, c, p, &err);
	}
	if (r == 0) {
		aside_start(d, &p->job);
		return;
	}
	report_applied(d, &c->run, c->undo, r, &(struct landing_outcome){0}, &err);
	if (p)
		apply_job_free(&p->job);
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
