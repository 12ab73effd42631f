/* What plans are made of, whether they land or undo. */
#include "supervisor/landing_items.h"

#include <errno.h>
#include <stdlib.h>

#include "base/escape.h"
#include "supervisor/landing_arena.h"

struct landing_plan *landing_items_plan_new(void)
{
	struct landing_plan *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->arena = landing_arena_new();
	if (p->arena)
		return p;
	free(p);
	return NULL;
}

/* The length of the next folder above path, from the top; start with *at = 0. False when there is
 * none left. */
bool landing_items_next_above(struct bytes path, size_t *at)
{
	const char *p = path.data;

	for (size_t i = *at ? *at + 1 : 1; i < path.len; i++) {
		if (p[i] == '/') {
			*at = i;
			return true;
		}
	}
	return false;
}

int landing_items_order(const void *a, const void *b)
{
	return bytes_compare(((const struct landing_item *)a)->path,
			     ((const struct landing_item *)b)->path);
}

struct landing_item *landing_items_find(struct landing_items *m, struct bytes path)
{
	size_t lo = 0;
	size_t hi = m->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (bytes_compare(m->items[mid].path, path) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < m->count && bytes_equal(m->items[lo].path, path) ? &m->items[lo] : NULL;
}

static int keep_text(struct landing_items *m, const char *text, struct bytes *ret)
{
	AUTO_BUFFER b = {0};

	escape_append(&b, bytes_str(text), ESCAPE_LINE | ESCAPE_KEEP_BACKSLASH);
	return b.failed ? b.failed : landing_arena_keep(m->plan->arena, buffer_bytes(&b), ret);
}

int landing_items_note_out(struct landing_items *m, const struct landing_item *it,
			   enum landing_out_why why, const char *text)
{
	struct landing_out o = {.why = why, .type = it->after.type};
	int r = landing_arena_keep(m->plan->arena, it->path, &o.path);

	if (r == 0)
		r = keep_text(m, text, &o.text);
	if (r == 0)
		r = landing_arena_grow((void **)&m->plan->out, m->plan->out_count, sizeof(o));
	if (r < 0)
		return error_nomem(m->err);
	m->plan->out[m->plan->out_count++] = o;
	return 0;
}

int landing_items_leave_out(struct landing_items *m, struct landing_item *it,
			    enum landing_out_why why, const char *text)
{
	it->verdict = LANDING_ITEM_OUT;
	return landing_items_note_out(m, it, why, text);
}

int landing_items_conflict(struct landing_items *m, struct landing_item *it,
			   enum landing_conflict_why why, const char *text)
{
	struct landing_conflict c = {.why = why, .now = *it->now, .want = it->after};
	int r = landing_arena_keep(m->plan->arena, it->path, &c.path);

	it->verdict = LANDING_ITEM_CONFLICT;
	if (r == 0)
		r = landing_arena_keep_state(m->plan->arena, &c.now);
	if (r == 0)
		r = landing_arena_keep_state(m->plan->arena, &c.want);
	if (r == 0)
		r = keep_text(m, text, &c.text);
	if (r == 0)
		r = landing_arena_grow((void **)&m->plan->conflicts, m->plan->conflict_count,
				       sizeof(c));
	if (r < 0)
		return error_nomem(m->err);
	m->plan->conflicts[m->plan->conflict_count++] = c;
	return 0;
}

/* The person's word about a path, if it was among the conflicts that were shown. */
void landing_items_bind(struct landing_item *it, const struct landing_conflict *shown,
			size_t shown_count, const struct landing_choice *choices,
			size_t choice_count)
{
	const struct landing_choice *any = NULL;

	for (size_t i = 0; i < shown_count && !it->shown; i++)
		if (bytes_equal(shown[i].path, it->path))
			it->shown = &shown[i];
	if (!it->shown)
		return;
	for (size_t i = 0; i < choice_count; i++) {
		if (bytes_equal(choices[i].path, it->path))
			it->choice = &choices[i];
		else if (choices[i].path.len == 0)
			any = &choices[i];
	}
	if (!it->choice)
		it->choice = any;
}

bool landing_items_chose(const struct landing_item *it, enum landing_choice_kind kind)
{
	return it->choice && it->choice->kind == kind;
}

/* A new folder of which everything was left out: an empty .git would be worse than none. */
static bool new_and_nothing_lands(const struct landing_items *m, size_t folder)
{
	const struct landing_item *it = &m->items[folder];
	bool any = false;

	if (it->verdict != LANDING_ITEM_ACT || it->after.type != MANIFEST_DIR ||
	    it->now->type != MANIFEST_ABSENT || !it->entry)
		return false;
	for (size_t i = folder + 1; i < m->count; i++) {
		const struct landing_item *in = &m->items[i];
		const char *p = in->path.data;

		if (in->path.len <= it->path.len || memcmp(p, it->path.data, it->path.len) != 0)
			break;
		if (p[it->path.len] != '/')
			continue; /* "a-b" stands between "a" and "a/c" */
		if (in->verdict == LANDING_ITEM_ACT)
			return false;
		any = true;
	}
	return any;
}

/* What was left out takes what lies in it along, and keeps the folders that it stays in. */
int landing_items_leave_around(struct landing_items *m)
{
	int r = 0;

	for (size_t i = 0; i < m->count && r == 0; i++) {
		struct landing_item *it = &m->items[i];
		size_t at = 0;

		while (it->verdict == LANDING_ITEM_ACT && r == 0 &&
		       landing_items_next_above(it->path, &at)) {
			struct landing_item *above =
				landing_items_find(m, bytes_of(it->path.data, at));

			if (above && (above->no_inside || (above->verdict == LANDING_ITEM_OUT &&
							   above->after.type == MANIFEST_DIR &&
							   above->now->type != MANIFEST_DIR)))
				r = landing_items_leave_out(m, it, LANDING_OUT_FOLDER, "");
		}
	}
	for (size_t i = m->count; i-- > 0 && r == 0;)
		if (new_and_nothing_lands(m, i))
			r = landing_items_leave_out(m, &m->items[i], LANDING_OUT_EMPTY, "");
	for (size_t i = m->count; i-- > 0 && r == 0;) {
		struct landing_item *it = &m->items[i];
		bool stays =
			(it->verdict == LANDING_ITEM_OUT && it->now->type != MANIFEST_ABSENT) ||
			landing_items_chose(it, LANDING_CHOICE_FILE);
		size_t at = 0;

		while (stays && r == 0 && landing_items_next_above(it->path, &at)) {
			struct landing_item *above =
				landing_items_find(m, bytes_of(it->path.data, at));

			if (above && above->verdict == LANDING_ITEM_ACT &&
			    above->after.type != MANIFEST_DIR)
				r = landing_items_leave_out(m, above, LANDING_OUT_NOT_EMPTY, "");
		}
	}
	return r;
}

static int by_path_out(const void *a, const void *b)
{
	return bytes_compare(((const struct landing_out *)a)->path,
			     ((const struct landing_out *)b)->path);
}

static int by_path_conflict(const void *a, const void *b)
{
	return bytes_compare(((const struct landing_conflict *)a)->path,
			     ((const struct landing_conflict *)b)->path);
}

int landing_items_emit(struct landing_items *m)
{
	struct landing_plan *p = m->plan;
	size_t acts = 0;

	for (size_t i = 0; i < m->count; i++)
		acts += m->items[i].verdict == LANDING_ITEM_ACT;
	p->actions = calloc(acts + 1, sizeof(*p->actions));
	if (!p->actions)
		return error_nomem(m->err);
	for (size_t i = 0; i < m->count; i++) {
		const struct landing_item *it = &m->items[i];
		struct landing_action *a = &p->actions[p->action_count];

		if (it->verdict != LANDING_ITEM_ACT)
			continue;
		*a = (struct landing_action){.before = *it->now,
					     .after = it->after,
					     .from = it->from};
		a->before.mtime_ns = 0;
		a->before.entries = 0;
		if (it->layer)
			memcpy(a->layer, it->layer, strnlen(it->layer, sizeof(a->layer) - 1));
		if (landing_arena_keep(p->arena, it->path, &a->path) < 0 ||
		    landing_arena_keep_state(p->arena, &a->before) < 0 ||
		    landing_arena_keep_state(p->arena, &a->after) < 0)
			return error_nomem(m->err);
		p->action_count++;
	}
	if (p->out_count > 0)
		qsort(p->out, p->out_count, sizeof(*p->out), by_path_out);
	if (p->conflict_count > 0)
		qsort(p->conflicts, p->conflict_count, sizeof(*p->conflicts), by_path_conflict);
	return 0;
}

void landing_items_done(struct landing_items *m)
{
	landing_plan_free(m->plan);
	manifest_free(m->net);
	free(m->items);
}
