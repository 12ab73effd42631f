/*
 * The net change of a stack of layers, as overlay shows it: one layer after the other is folded,
 * bottom first, over what the ones below came to. Both sides are sorted by path, so a fold is one
 * walk along both.
 */
#include <errno.h>

#include "sandbox/manifest.h"

/* One path of the result while it is being made. */
struct row {
	const struct manifest_entry *entry; /* of the topmost layer that names it */
	const struct manifest_seen *base; /* what the lowest layer that names it saw */
	size_t layer; /* of entry */
	bool opaque;
	bool hidden; /* an entry above hides it, and the base had it: it is a deletion now */
};

struct rows {
	struct row *row;
	size_t count;
};

static void rows_free(struct rows *r)
{
	free(r->row);
	*r = (struct rows){0};
}

#define AUTO_ROWS __attribute__((cleanup(rows_free))) struct rows

/* Does the entry hide what lies below its path in lower layers? */
static bool hides(const struct manifest_entry *e)
{
	return e->type != MANIFEST_DIR || e->opaque;
}

static bool hidden_by(const struct manifest *layer, struct bytes path)
{
	const char *p = path.data;

	for (size_t i = 1; i < path.len; i++) {
		const struct manifest_entry *e;

		if (p[i] != '/')
			continue;
		e = manifest_find(layer, bytes_of(p, i));
		if (e && hides(e))
			return true;
	}
	return false;
}

static bool is_dir(const struct row *r)
{
	return !r->hidden && r->entry->type == MANIFEST_DIR;
}

static struct row over(const struct row *below, const struct manifest_entry *e, size_t layer)
{
	return (struct row){
		.entry = e,
		.base = below->base,
		.layer = layer,
		/* A folder that lies on something else shows nothing of what was there; on an
		 * opaque one it shows that one's content and no more. */
		.opaque =
			e->opaque || (e->type == MANIFEST_DIR && (!is_dir(below) || below->opaque)),
	};
}

static int fold(const struct rows *below, const struct manifest *layer, size_t index,
		struct rows *ret)
{
	size_t i = 0;
	size_t j = 0;
	size_t count = manifest_count(layer);
	AUTO_ROWS out = {calloc(below->count + count + 1, sizeof(*out.row)), 0};

	if (!out.row)
		return -ENOMEM;
	while (i < below->count || j < count) {
		const struct row *b = i < below->count ? &below->row[i] : NULL;
		const struct manifest_entry *e = manifest_at(layer, j);
		int c = !b ? 1 : !e ? -1 : bytes_compare(b->entry->path, e->path);

		if (c == 0) {
			out.row[out.count++] = over(b, e, index);
			i++;
			j++;
		} else if (c > 0) {
			out.row[out.count++] = (struct row){e, &e->base, index, e->opaque, false};
			j++;
		} else {
			struct row kept = *b;

			i++;
			if (!kept.hidden && hidden_by(layer, kept.entry->path)) {
				if (kept.base->type == MANIFEST_ABSENT)
					continue;
				kept.hidden = true;
			}
			out.row[out.count++] = kept;
		}
	}
	*ret = (struct rows){take_ptr(out.row), out.count};
	return 0;
}

/* The path that stands first in the result, of those that were one inode in their layer. */
struct leaders {
	const struct bytes ***of; /* by layer, by the index of the first path there */
	size_t count;
};

static void leaders_free(struct leaders *l)
{
	for (size_t i = 0; l->of && i < l->count; i++)
		free(l->of[i]);
	free(l->of);
}

static int lead(struct leaders *l, const struct manifest *layer, const struct row *r,
		struct bytes *ret_link)
{
	const struct manifest_entry *first = r->entry;
	const struct bytes **slot;

	*ret_link = bytes_of("", 0);
	if (r->entry->link.len > 0)
		first = manifest_find(layer, r->entry->link);
	if (!l->of[r->layer]) {
		l->of[r->layer] = calloc(manifest_count(layer), sizeof(*l->of[r->layer]));
		if (!l->of[r->layer])
			return -ENOMEM;
	}
	slot = &l->of[r->layer][first - manifest_at(layer, 0)];
	if (*slot)
		*ret_link = **slot;
	else
		*slot = &r->entry->path;
	return 0;
}

static bool is_whiteout(const struct row *r)
{
	return r->hidden || r->entry->type == MANIFEST_WHITEOUT;
}

static int emit(const struct rows *rows, const struct manifest *const *stack,
		enum manifest_merge_flags flags, struct leaders *leaders, struct manifest *out,
		struct error *err)
{
	for (size_t i = 0; i < rows->count; i++) {
		const struct row *r = &rows->row[i];
		struct manifest_entry e = *r->entry;
		int done;

		/* Below what hides all a whiteout says nothing more; and on disk, in a folder that
		 * has nothing to be merged with, overlay would list it as a name. */
		bool below = is_whiteout(r) && hidden_by(out, r->entry->path);

		if (is_whiteout(r) && r->base->type == MANIFEST_ABSENT &&
		    (below || flags == MANIFEST_MERGE_OVER_BASE))
			continue;
		if (is_whiteout(r)) {
			e = (struct manifest_entry){.path = r->entry->path,
						    .type = MANIFEST_WHITEOUT,
						    .implied = below};
		} else if (e.type != MANIFEST_DIR) {
			done = lead(leaders, stack[r->layer], r, &e.link);
			if (done < 0)
				return error_nomem(err);
		}
		e.opaque = r->opaque;
		e.base = *r->base;
		done = manifest_add(out, &e, err);
		if (done < 0)
			return done;
	}
	return manifest_finish(out, err);
}

int manifest_merge(const struct manifest *const *stack, size_t count,
		   enum manifest_merge_flags flags, struct manifest **ret, struct error *err)
{
	AUTO_ROWS rows = {0};
	AUTO(manifest_free) struct manifest *out = NULL;
	struct leaders leaders = {.count = count};
	int r;

	if (count > MANIFEST_MERGE_MAX)
		return error_set_exit(err, -E2BIG, EXIT_STATUS_LIMIT,
				      "layers: more than %d in one stack", MANIFEST_MERGE_MAX);
	for (size_t i = 0; i < count; i++) {
		struct rows next = {0};

		if (fold(&rows, stack[i], i, &next) < 0)
			return error_nomem(err);
		rows_free(&rows);
		rows = next;
	}
	out = manifest_new();
	leaders.of = calloc(count + 1, sizeof(*leaders.of));
	if (!out || !leaders.of) {
		leaders_free(&leaders);
		return error_nomem(err);
	}
	r = emit(&rows, stack, flags, &leaders, out, err);
	leaders_free(&leaders);
	if (r < 0)
		return r;
	*ret = take_ptr(out);
	return 0;
}
