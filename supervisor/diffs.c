#include "supervisor/diffs.h"

#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "supervisor/adopt.h"
#include "supervisor/diff.h"
#include "supervisor/results.h"
#include "supervisor/runs.h"
#include "supervisor/work.h"

static json_t *changes_of(const struct manifest *net)
{
	struct diff_entry *entries = NULL;
	json_t *list = json_array();
	size_t count = 0;

	if (diff_stat(net, &entries, &count) == 0) {
		for (size_t i = 0; i < count; i++) {
			const struct diff_entry *e = &entries[i];
			char letter[2] = {e->letter, '\0'};

			json_array_append_new(list, json_pack("{s:o, s:s, s:s, s:s, s:I, s:I, s:i, s:i}", "path", api_json_text(e->path), "change",
							      letter, "before", manifest_type_name(e->before), "after",
							      manifest_type_name(e->after), "size_before", (json_int_t)e->size_before,
							      "size_after", (json_int_t)e->size_after, "mode_before", (int)e->mode_before,
							      "mode_after", (int)e->mode_after));
		}
	}
	free(entries);
	return list;
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
		return error_set(err, -errno, "cannot make a diff: %s; free some space", strerror(errno));
	fd = openat(d->spool_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? error_set(err, -errno, "cannot make a diff: %s", strerror(errno)) : fd;
}

static int answer(struct daemon *d, const struct journal_run *run, const struct work_stack *below, const struct work_stack *layers, bool stat,
		  uint64_t ticket, struct api_answer *a, struct error *err)
{
	__attribute__((cleanup(diff_prepared_free))) struct diff_prepared p = {0};
	struct landing_source source;
	struct runs_context *ctx;
	char name[32];
	AUTO_FD dest = -1;
	int r = runs_get(d, &run->id, &ctx, err);

	if (r == 0)
		r = runs_workspace(d, ctx, err);
	if (r < 0)
		return r;
	if (stat) {
		AUTO(manifest_free) struct manifest *net = NULL;

		r = diff_net(below->layers, below->count, layers->layers, layers->count, &net, err);
		if (r < 0)
			return r;
		a->status = 200;
		a->json = json_pack("{s:i, s:o}", "version", SUPERVISOR_API_VERSION, "changes", changes_of(net));
		return 0;
	}
	dest = make_dest(d, name, sizeof(name), err);
	if (dest < 0)
		return dest;
	work_source(d, &source);
	struct diff_request q = {.workspace_fd = ctx->workspace_fd, .below = below->layers, .below_count = below->count, .layers = layers->layers,
				 .layer_count = layers->count, .source = &source, .dest_fd = dest};

	r = diff_prepare(&q, &p, err);
	if (r == 0 && p.empty) {
		a->status = 200;
		a->type = "text/x-diff; charset=utf-8";
		a->text = p.note;
		p.note = (struct buffer){0};
	} else if (r == 0) {
		r = adopt_diff(d, &run->id, p.argv, dest, name, &p.note, ticket, err);
		a->later = r == 0;
	}
	if (!a->later)
		(void)!results_remove(d->spool_fd, name);
	return r;
}

int diffs_answer(struct daemon *d, const struct journal_run *run, const struct journal_step *step, bool stat, uint64_t ticket,
		 struct api_answer *a, struct error *err)
{
	__attribute__((cleanup(work_stack_free))) struct work_stack below = {0};
	__attribute__((cleanup(work_stack_free))) struct work_stack layers = {0};
	int r;

	if (step) {
		r = work_stack(d, run, step, &below, err);
		if (r == 0)
			r = work_layer(d, run, step, &layers, err);
	} else {
		r = work_stack(d, run, NULL, &layers, err);
	}
	return r < 0 ? r : answer(d, run, &below, &layers, stat, ticket, a, err);
}
