#include "supervisor/diffs.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "supervisor/adopt.h"
#include "supervisor/aside.h"
#include "supervisor/card.h"
#include "supervisor/cards.h"
#include "supervisor/diff.h"
#include "supervisor/results.h"
#include "supervisor/runs.h"
#include "supervisor/work.h"

enum { LEFT_OUT_MAX = 20 }; /* named with their reasons; all are counted */

static json_t *changes_of(struct diff_entry *entries, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++) {
		const struct diff_entry *e = &entries[i];
		char letter[2] = {e->letter, '\0'};

		json_array_append_new(list,
				      json_pack("{s:o, s:s, s:s, s:s, s:I, s:I, s:i, s:i}", "path",
						api_json_text(e->path), "change", letter, "before",
						manifest_type_name(e->before), "after",
						manifest_type_name(e->after), "size_before",
						(json_int_t)e->size_before, "size_after",
						(json_int_t)e->size_after, "mode_before",
						(int)e->mode_before, "mode_after",
						(int)e->mode_after));
	}
	return list;
}

/* Scratch is many and meant to stay; each of the others has a reason. */
static json_t *left_out_of(const struct landing_plan *only)
{
	json_t *list = json_array();

	for (size_t i = 0; only && i < only->out_count; i++) {
		const struct landing_out *o = &only->out[i];

		if (o->why == LANDING_OUT_SCRATCH || json_array_size(list) == LEFT_OUT_MAX)
			continue;
		json_array_append_new(list,
				      json_pack("{s:o, s:s, s:o}", "path", api_json_text(o->path),
						"why", landing_out_why_name(o->why), "reason",
						api_json_text(o->text)));
	}
	return list;
}

/* only NULL: everything. */
static int write_stat(const struct work_stack *below, const struct work_stack *layers,
		      const struct landing_plan *only, struct buffer *ret, struct error *err)
{
	AUTO(manifest_free) struct manifest *net = NULL;
	AUTO_FREE struct diff_entry *entries = NULL;
	AUTO_FREE char *text = NULL;
	size_t count = 0, scratch = 0, others = 0;
	json_t *o;
	int r;

	if (only) {
		diff_left_out(only, &scratch, &others);
		r = diff_stat_plan(only, &entries, &count);
	} else {
		r = diff_net(below->layers, below->count, layers->layers, layers->count, &net, err);
		if (r == 0)
			r = diff_stat(net, &entries, &count);
	}
	if (r < 0)
		return r;
	o = json_pack("{s:i, s:o, s:{s:I, s:I, s:o}}", "version", SUPERVISOR_API_VERSION, "changes",
		      changes_of(entries, count), "not_landing", "scratch", (json_int_t)scratch,
		      "left_out", (json_int_t)others, "paths", left_out_of(only));
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	ret->max = API_ANSWER_MAX;
	if (text)
		buffer_append_str(ret, text);
	return text ? ret->failed : -ENOMEM;
}

static void note_left_out(const struct landing_plan *only, struct buffer *note)
{
	size_t scratch = 0, others = 0;

	if (only)
		diff_left_out(only, &scratch, &others);
	if (scratch + others == 0)
		return;
	buffer_printf(note, "%zu more path%s would not land: ", scratch + others,
		      scratch + others == 1 ? "" : "s");
	if (scratch > 0)
		buffer_printf(note, "%zu scratch%s", scratch, others > 0 ? ", " : "");
	if (others > 0)
		buffer_printf(note, "%zu left out", others);
	buffer_append_str(note, " (--all shows them)\n");
}

/* A folder of the spool for the two trees; diff(1) sees it as its workspace. */
static int make_dest(struct daemon *d, char *name, size_t size, struct error *err)
{
	unsigned char random[8];
	int fd;

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return error_set(err, -errno, "cannot make a diff: %s", strerror(errno));
	snprintf(name, size, "diff-");
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(name + 5 + 2 * i, size - 5 - 2 * i, "%02x", random[i]);
	if (mkdirat(d->spool_fd, name, 0755) < 0)
		return error_set(err, -errno, "cannot make a diff: %s; free some space",
				 strerror(errno));
	fd = openat(d->spool_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? error_set(err, -errno, "cannot make a diff: %s", strerror(errno)) : fd;
}

/* ---- beside the loop ---- */

struct job { /* all that it is made from, and what comes of it */
	struct aside_job job; /* the first */
	struct daemon *d; /* of the thread's concern only through source */
	atomic_bool stopped; /* by the loop: nobody waits for what comes of it */
	struct journal_id run;
	uint64_t ticket; /* of a client's */
	struct cards_work *card; /* owned; NULL: a client's */
	uint64_t *skipped; /* of card */
	unsigned flags;
	struct work_stack below, layers; /* owned, as all that follows */
	struct policy_fs *fs; /* NULL: it is not asked what would land */
	char *workspace;
	struct landing_plan *plan;
	struct landing_plan sides; /* of a conflict: its actions, whose paths are card's */
	uint64_t unknown; /* further files of card that are not compared */
	const struct landing_plan *only; /* plan, sides, or card's */
	int base_fd, dest_fd;
	char name[32]; /* of dest_fd in the spool; "" = none */
	struct landing_source source;
	struct buffer stat;
	struct diff_prepared prepared;
	int result;
	struct error err;
};

static void job_free(struct job *p)
{
	if (p->name[0])
		(void)!results_remove(p->d->spool_fd, p->name);
	cards_free(p->card);
	work_stack_free(&p->below);
	work_stack_free(&p->layers);
	policy_fs_free(p->fs);
	free(p->workspace);
	landing_plan_free(p->plan);
	free(p->sides.actions);
	close_fd(&p->base_fd);
	close_fd(&p->dest_fd);
	buffer_free(&p->stat);
	diff_prepared_free(&p->prepared);
	free(p);
}

static int plan_landing(struct job *p)
{
	struct diff_scope scope = {.below = p->below.layers,
				   .below_count = p->below.count,
				   .layers = p->layers.layers,
				   .layer_count = p->layers.count,
				   .fs = p->fs,
				   .workspace = p->workspace};
	int r = diff_landing(&scope, &p->plan, &p->err);

	p->only = p->plan;
	return r;
}

static int lay_trees(struct job *p)
{
	struct diff_request q = {.workspace_fd = p->base_fd,
				 .below = p->below.layers,
				 .below_count = p->below.count,
				 .layers = p->layers.layers,
				 .layer_count = p->layers.count,
				 .only = p->only,
				 .exact = p->card != NULL,
				 .total_max = p->card ? CARDS_DIFF_TOTAL_MAX : 0,
				 .source = &p->source,
				 .dest_fd = p->dest_fd,
				 .stop = &p->stopped};

	return diff_prepare(&q, &p->prepared, &p->err);
}

/* On the thread. */
static void work(struct aside_job *job)
{
	struct job *p = (struct job *)job;
	int r = failpoint_hit("diffs.work");

	if (r == 0 && atomic_load(&p->stopped))
		r = -ECANCELED;
	if (r == 0 && p->fs)
		r = plan_landing(p);
	if (r == 0 && atomic_load(&p->stopped))
		r = -ECANCELED;
	if (r == 0 && (p->flags & DIFFS_STAT))
		r = write_stat(&p->below, &p->layers, p->only, &p->stat, &p->err);
	else if (r == 0)
		r = lay_trees(p);
	p->result = r;
}

static void answer(struct job *p, const char *type, struct buffer *text)
{
	struct api_answer a = {.fd = -1, .status = 200, .type = type};

	if (p->result < 0) {
		error_set(&p->err, p->result, "no diff: %s", strerror(-p->result));
		api_answer_error(&a, 0, &p->err);
	} else {
		a.text = *text;
		*text = (struct buffer){0};
	}
	api_server_answer(p->d->api, p->ticket, &a);
}

/* 1: there is nothing to compare, the note is all there is to say. */
static int start_diff(struct job *p)
{
	struct daemon *d = p->d;
	int r;

	note_left_out(p->card ? NULL : p->only, &p->prepared.note);
	if (p->prepared.empty || (!p->card && !api_server_waits(d->api, p->ticket)))
		return 1;
	if (!journal_state_run(d->rows, &p->run))
		return error_set_exit(&p->err, -ENOENT, EXIT_STATUS_USAGE,
				      "no diff: the run was dropped meanwhile");
	r = adopt_diff(d, &p->run, p->prepared.argv, p->dest_fd, p->name, &p->prepared.note,
		       p->ticket, p->card, &p->err);
	if (r == 0) {
		p->card = NULL;
		p->name[0] = '\0';
	}
	return r;
}

/* The supervisor ends, and its clients are told while they can be; or nobody waits for it. */
static void drop(struct aside_job *job)
{
	struct job *p = (struct job *)job;

	p->result = -ECANCELED;
	p->err = (struct error){0};
	error_set(&p->err, p->result, "no diff: the supervisor ends; try again");
	if (!p->card && p->d->api)
		answer(p, NULL, NULL);
	job_free(p);
}

/* A copy that is left half made may be thousands of files. */
static void leave_folder(struct job *p)
{
	if (p->name[0])
		diffs_remove(p->d, p->name);
	p->name[0] = '\0';
}

static void done(struct daemon *d, struct aside_job *job)
{
	struct job *p = (struct job *)job;
	bool stat = p->flags & DIFFS_STAT;

	if (atomic_load(&p->stopped)) {
		leave_folder(p);
		drop(job);
		return;
	}
	if (p->skipped)
		*p->skipped = p->prepared.skipped + p->unknown;
	if (p->result == 0 && !stat)
		p->result = start_diff(p);
	else if (p->result == 0)
		p->result = 1;
	if (p->result != 0 && p->card)
		cards_finish(d, take_ptr(p->card), bytes_of("", 0), false,
			     p->result > 0   ? NULL
			     : p->err.msg[0] ? p->err.msg
					     : strerror(-p->result));
	else if (p->result != 0)
		answer(p, stat ? NULL : "text/x-diff; charset=utf-8",
		       stat ? &p->stat : &p->prepared.note);
	leave_folder(p);
	job_free(p);
}

static void stop(struct aside_job *job)
{
	struct job *p = (struct job *)job;

	atomic_store(&p->stopped, true);
}

static void look(struct daemon *d, struct aside_job *job)
{
	struct job *p = (struct job *)job;

	if (p->card || atomic_load(&p->stopped) || api_server_waits(d->api, p->ticket))
		return;
	daemon_log(d, "a diff ends: the client that asked for it is gone");
	stop(job);
}

static struct job *job_new(struct daemon *d, const struct journal_id *run)
{
	struct job *p = calloc(1, sizeof(*p));

	if (p)
		*p = (struct job){.job = {.work = work,
					  .done = done,
					  .drop = drop,
					  .stop = stop,
					  .look = look},
				  .d = d,
				  .run = *run,
				  .base_fd = -1,
				  .dest_fd = -1};
	return p;
}
DEFINE_GUARD(struct job *, job_free)

/* Once it is over the copy is gone: diff tells by digest what of the workspace is still as it was. A
 * conflict is with what stands in the directory itself. */
static int open_places(struct job *p, bool conflict, struct error *err)
{
	struct daemon *d = p->d;
	struct runs_context *ctx;
	int base_fd;
	int r = runs_get(d, &p->run, &ctx, err);

	if (r == 0)
		r = runs_workspace(d, ctx, err);
	if (r < 0)
		return r;
	if (conflict || runs_base(d, ctx, &base_fd, NULL) < 0)
		base_fd = ctx->workspace_fd;
	p->base_fd = fcntl(base_fd, F_DUPFD_CLOEXEC, 3);
	if (p->base_fd < 0)
		return error_set(err, -errno, "the workspace cannot be held open: %s",
				 strerror(errno));
	r = make_dest(d, p->name, sizeof(p->name), err);
	if (r < 0) {
		p->name[0] = '\0';
		return r;
	}
	p->dest_fd = r;
	work_source(d, &p->source);
	return 0;
}

int diffs_for_card(struct daemon *d, const struct journal_run *run, struct work_stack *below,
		   struct work_stack *layers, const struct landing_plan *plan,
		   struct cards_work *card, uint64_t *skipped, struct error *err)
{
	AUTO(job_free) struct job *p = job_new(d, &run->id);
	int r = p ? open_places(p, false, err) : error_nomem(err);

	if (r < 0)
		return r;
	p->below = *below;
	p->layers = *layers;
	*below = *layers = (struct work_stack){0};
	p->only = plan;
	p->card = card;
	p->skipped = skipped;
	aside_start(d, &take_ptr(p)->job);
	return 0;
}

/* A file that a person gave, or what an undoing puts back, is a blob; the run's is in a layer. */
static enum landing_from source_of(struct daemon *d, const struct landing_state *want)
{
	AUTO_FD blob = want->type == MANIFEST_FILE
			       ? journal_blob_open(d->journal, &want->digest, NULL)
			       : -ENOENT;

	return blob >= 0 ? LANDING_FROM_BLOB : LANDING_FROM_LAYER;
}

int diffs_for_conflict(struct daemon *d, const struct journal_run *run, struct work_stack *layers,
		       const struct landing_plan *conflicts, struct cards_work *card,
		       uint64_t *skipped, struct error *err)
{
	size_t count = conflicts->conflict_count < CARD_LIST_MAX ? conflicts->conflict_count
								 : CARD_LIST_MAX;
	AUTO(job_free) struct job *p = job_new(d, &run->id);
	int r;

	if (p)
		p->sides.actions = calloc(count + 1, sizeof(*p->sides.actions));
	if (!p || !p->sides.actions)
		return error_nomem(err);
	for (size_t i = 0; i < count; i++) {
		const struct landing_conflict *c = &conflicts->conflicts[i];

		if (c->now.unseen || (c->now.type == MANIFEST_FILE && !c->now.has_digest)) {
			p->unknown++;
			continue;
		}
		p->sides.actions[p->sides.action_count++] =
			(struct landing_action){.path = c->path,
						.before = c->now,
						.after = c->want,
						.from = source_of(d, &c->want)};
	}
	*skipped = p->unknown;
	if (p->sides.action_count == 0)
		return 1;
	r = open_places(p, true, err);
	if (r < 0)
		return r;
	p->layers = *layers;
	*layers = (struct work_stack){0};
	p->only = &p->sides;
	p->card = card;
	p->skipped = skipped;
	aside_start(d, &take_ptr(p)->job);
	return 0;
}

int diffs_answer(struct daemon *d, const struct journal_run *run, const struct journal_step *step,
		 unsigned flags, uint64_t ticket, struct api_answer *a, struct error *err)
{
	AUTO(job_free) struct job *p = job_new(d, &run->id);
	int r;

	if (!p)
		return error_nomem(err);
	p->flags = flags;
	p->ticket = ticket;
	p->workspace = strdup(run->workspace);
	if (!p->workspace)
		return error_nomem(err);
	if (step) {
		r = work_stack(d, run, step, &p->below, err);
		if (r == 0)
			r = work_layer(d, run, step, &p->layers, err);
	} else {
		r = work_stack(d, run, NULL, &p->layers, err);
	}
	if (r == 0 && !(flags & DIFFS_ALL))
		r = work_table(d, run, &p->fs, err);
	if (r == 0 && !(flags & DIFFS_STAT))
		r = open_places(p, false, err);
	if (r < 0)
		return r;
	a->later = true;
	aside_start(d, &take_ptr(p)->job);
	return 0;
}

struct removal {
	struct aside_job job; /* the first */
	int spool_fd; /* borrowed */
	char name[32];
};

static void remove_folder(struct aside_job *job)
{
	const struct removal *p = (const struct removal *)job;

	(void)!results_remove(p->spool_fd, p->name);
}

static void removed(struct daemon *d, struct aside_job *job)
{
	(void)d;
	free(job);
}

static void left(struct aside_job *job)
{
	free(job);
}

void diffs_remove(struct daemon *d, const char *name)
{
	struct removal *p = calloc(1, sizeof(*p));

	if (!p)
		return; /* the next start does it */
	*p = (struct removal){.job = {.work = remove_folder, .done = removed, .drop = left},
			      .spool_fd = d->spool_fd};
	snprintf(p->name, sizeof(p->name), "%s", name);
	aside_start(d, &p->job);
}

void diffs_sweep(struct daemon *d)
{
	AUTO_FD fd = openat(d->spool_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!dir)
		return;
	(void)take_fd(&fd);
	while ((e = readdir(dir)))
		if (strncmp(e->d_name, "diff-", 5) == 0)
			(void)!results_remove(d->spool_fd, e->d_name);
	closedir(dir);
}
