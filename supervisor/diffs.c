#include "supervisor/diffs.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "supervisor/adopt.h"
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
static int answer_stat(const struct work_stack *below, const struct work_stack *layers,
		       const struct landing_plan *only, struct api_answer *a, struct error *err)
{
	AUTO(manifest_free) struct manifest *net = NULL;
	AUTO_FREE struct diff_entry *entries = NULL;
	size_t count = 0, scratch = 0, others = 0;
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
	a->status = 200;
	a->json = json_pack("{s:i, s:o, s:{s:I, s:I, s:o}}", "version", SUPERVISOR_API_VERSION,
			    "changes", changes_of(entries, count), "not_landing", "scratch",
			    (json_int_t)scratch, "left_out", (json_int_t)others, "paths",
			    left_out_of(only));
	return 0;
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

/* Lays the trees and starts diff(1). 1: there is nothing to compare, *note is all there is to say.
 */
static int start(struct daemon *d, const struct journal_run *run, struct diff_request *q,
		 bool conflict, uint64_t ticket, struct cards_work *card, struct buffer *note,
		 uint64_t *ret_skipped, struct error *err)
{
	__attribute__((cleanup(diff_prepared_free))) struct diff_prepared p = {0};
	struct landing_source source;
	struct runs_context *ctx;
	char name[32];
	AUTO_FD dest = -1;
	int base_fd;
	int r = runs_get(d, &run->id, &ctx, err);

	if (r == 0)
		r = runs_workspace(d, ctx, err);
	if (r < 0)
		return r;
	/* Once it is over the copy is gone: diff tells by digest what of the workspace is still as
	 * it was. A conflict is with what stands in the directory itself. */
	if (conflict || runs_base(d, ctx, &base_fd, NULL) < 0)
		base_fd = ctx->workspace_fd;
	dest = make_dest(d, name, sizeof(name), err);
	if (dest < 0)
		return dest;
	work_source(d, &source);
	q->workspace_fd = base_fd;
	q->source = &source;
	q->dest_fd = dest;
	r = diff_prepare(q, &p, err);
	q->source = NULL; /* it ends here */
	if (r == 0) {
		*ret_skipped = p.skipped;
		*note = p.note;
		p.note = (struct buffer){0};
		note_left_out(q->only, note);
		r = p.empty ? 1
			    : adopt_diff(d, &run->id, p.argv, dest, name, note, ticket, card, err);
	}
	if (r != 0)
		(void)!results_remove(d->spool_fd, name);
	return r;
}

int diffs_for_card(struct daemon *d, const struct journal_run *run, const struct work_stack *below,
		   const struct work_stack *layers, const struct landing_plan *plan,
		   struct cards_work *card, uint64_t *ret_skipped, struct error *err)
{
	AUTO_BUFFER note = {0};
	struct diff_request q = {.below = below->layers,
				 .below_count = below->count,
				 .layers = layers->layers,
				 .layer_count = layers->count,
				 .only = plan,
				 .exact = true,
				 .total_max = CARDS_DIFF_TOTAL_MAX};

	return start(d, run, &q, false, 0, card, &note, ret_skipped, err);
}

/* A file that a person gave, or what an undoing puts back, is a blob; the run's is in a layer. */
static enum landing_from source_of(struct daemon *d, const struct landing_state *want)
{
	AUTO_FD blob = want->type == MANIFEST_FILE
			       ? journal_blob_open(d->journal, &want->digest, NULL)
			       : -ENOENT;

	return blob >= 0 ? LANDING_FROM_BLOB : LANDING_FROM_LAYER;
}

int diffs_for_conflict(struct daemon *d, const struct journal_run *run,
		       const struct work_stack *layers, const struct landing_plan *conflicts,
		       struct cards_work *card, uint64_t *ret_skipped, struct error *err)
{
	size_t count = conflicts->conflict_count < CARD_LIST_MAX ? conflicts->conflict_count
								 : CARD_LIST_MAX;
	AUTO_FREE struct landing_action *actions = calloc(count + 1, sizeof(*actions));
	struct landing_plan sides = {.actions = actions};
	AUTO_BUFFER note = {0};
	struct diff_request q = {.layers = layers->layers,
				 .layer_count = layers->count,
				 .only = &sides,
				 .exact = true,
				 .total_max = CARDS_DIFF_TOTAL_MAX};
	uint64_t unknown = 0;
	int r;

	if (!actions)
		return error_nomem(err);
	for (size_t i = 0; i < count; i++) {
		const struct landing_conflict *c = &conflicts->conflicts[i];

		if (c->now.unseen || (c->now.type == MANIFEST_FILE && !c->now.has_digest)) {
			unknown++;
			continue;
		}
		actions[sides.action_count++] =
			(struct landing_action){.path = c->path,
						.before = c->now,
						.after = c->want,
						.from = source_of(d, &c->want)};
	}
	*ret_skipped = 0;
	r = sides.action_count == 0 ? 1 : start(d, run, &q, true, 0, card, &note, ret_skipped, err);
	*ret_skipped += unknown;
	return r;
}

static int answer_text(struct daemon *d, const struct journal_run *run,
		       const struct work_stack *below, const struct work_stack *layers,
		       const struct landing_plan *only, uint64_t ticket, struct api_answer *a,
		       struct error *err)
{
	AUTO_BUFFER note = {0};
	struct diff_request q = {.below = below->layers,
				 .below_count = below->count,
				 .layers = layers->layers,
				 .layer_count = layers->count,
				 .only = only};
	uint64_t skipped;
	int r = start(d, run, &q, false, ticket, NULL, &note, &skipped, err);

	if (r < 0)
		return r;
	a->later = r == 0;
	if (r > 0) {
		a->status = 200;
		a->type = "text/x-diff; charset=utf-8";
		a->text = note;
		note = (struct buffer){0};
	}
	return 0;
}

int diffs_answer(struct daemon *d, const struct journal_run *run, const struct journal_step *step,
		 unsigned flags, uint64_t ticket, struct api_answer *a, struct error *err)
{
	__attribute__((cleanup(work_stack_free))) struct work_stack below = {0};
	__attribute__((cleanup(work_stack_free))) struct work_stack layers = {0};
	AUTO(landing_plan_free) struct landing_plan *only = NULL;
	int r;

	if (step) {
		r = work_stack(d, run, step, &below, err);
		if (r == 0)
			r = work_layer(d, run, step, &layers, err);
	} else {
		r = work_stack(d, run, NULL, &layers, err);
	}
	if (r == 0 && !(flags & DIFFS_ALL))
		r = work_landing(d, run, &below, &layers, &only, err);
	if (r < 0)
		return r;
	if (flags & DIFFS_STAT)
		return answer_stat(&below, &layers, only, a, err);
	return answer_text(d, run, &below, &layers, only, ticket, a, err);
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
