/* Undoing what has landed: the plan with before and after exchanged, and what people answered where
 * that met their work. */
#include "supervisor/landing_items.h"

#include <errno.h>
#include <stdlib.h>

static const struct landing_state folder_again = {.type = MANIFEST_DIR,
						  .mode = LANDING_FOLDER_AGAIN_MODE};

static void file_of_choice(const struct landing_items *m, struct landing_item *it)
{
	it->after =
		(struct landing_state){.type = MANIFEST_FILE,
				       .size = it->choice->file_size,
				       .mode = it->now->type == MANIFEST_FILE ? it->now->mode & 0777
									      : 0644,
				       .has_digest = true,
				       .digest = it->choice->file,
				       .uid = m->in->uid,
				       .gid = m->in->gid};
	it->from = LANDING_FROM_BLOB;
}

static int answer_item(struct landing_items *m, struct landing_item *it)
{
	landing_items_bind(it, m->in->shown, m->in->shown_count, m->in->choices,
			   m->in->choice_count);
	if (!it->choice)
		return 0;
	it->now = &it->shown->now;
	it->no_inside =
		landing_items_chose(it, LANDING_CHOICE_FILE) && it->after.type == MANIFEST_DIR;
	if (landing_items_chose(it, LANDING_CHOICE_MINE))
		return landing_items_leave_out(m, it, LANDING_OUT_MINE, "");
	if (landing_items_chose(it, LANDING_CHOICE_FILE))
		file_of_choice(m, it);
	return 0;
}

static struct landing_item reversed(const struct landing_action *a)
{
	struct landing_item it = {.path = a->path,
				  .verdict = LANDING_ITEM_ACT,
				  .now = &a->after,
				  .after = a->before,
				  .from = a->before.type == MANIFEST_FILE ? LANDING_FROM_BLOB
									  : LANDING_FROM_NONE};

	it.after.ctime_ns = 0;
	it.after.ino = 0;
	return it;
}

/* A folder that is made again, kept in order; m->items has room. */
static struct landing_item *add_item(struct landing_items *m, struct bytes path,
				     const struct landing_state *now)
{
	struct landing_item it = {.path = path,
				  .verdict = LANDING_ITEM_ACT,
				  .now = now,
				  .after = folder_again};

	it.after.uid = m->in->uid;
	it.after.gid = m->in->gid;
	m->items[m->count++] = it;
	qsort(m->items, m->count, sizeof(*m->items), landing_items_order);
	return landing_items_find(m, path);
}

/* What a person was asked about that is no action of the plan: folders above what was landed, in
 * whose place something else stands, or nothing; and what lies in a folder that goes again. */
static int add_places(struct landing_items *m)
{
	int r = 0;

	for (size_t i = 0; i < m->in->shown_count && r == 0; i++) {
		const struct landing_conflict *c = &m->in->shown[i];
		struct landing_item *it;

		if ((c->why != LANDING_CONFLICT_PLACE && c->why != LANDING_CONFLICT_APPEARED) ||
		    landing_items_find(m, c->path))
			continue;
		it = add_item(m, c->path, &c->now);
		if (c->why == LANDING_CONFLICT_APPEARED)
			it->after = landing_items_absent;
		r = answer_item(m, it);
		if (!it->choice)
			it->verdict = LANDING_ITEM_NOTHING;
	}
	return r;
}

/* Where a folder is made again, or a person's file goes, nothing is in it; the folders between are
 * made too. */
static void empty_places(struct landing_items *m)
{
	for (size_t i = 0; i < m->count; i++) {
		struct bytes path = m->items[i].path;
		bool inside = false;
		size_t at = 0;

		while (m->items[i].verdict == LANDING_ITEM_ACT &&
		       landing_items_next_above(path, &at)) {
			struct bytes above_path = bytes_of(path.data, at);
			struct landing_item *above = landing_items_find(m, above_path);

			if (inside && !above && m->items[i].after.type != MANIFEST_ABSENT) {
				above = add_item(m, above_path, &landing_items_absent);
				i++; /* it stands before what is in it */
			}
			inside = inside ||
				 (above && above->verdict == LANDING_ITEM_ACT &&
				  (above->after.type == MANIFEST_DIR || above->no_inside) &&
				  above->now->type != MANIFEST_DIR);
		}
		if (inside && m->items[i].verdict == LANDING_ITEM_ACT && !m->items[i].choice) {
			m->items[i].now = &landing_items_absent;
			if (m->items[i].after.type == MANIFEST_ABSENT)
				m->items[i].verdict = LANDING_ITEM_NOTHING;
		}
	}
}

static size_t folders_above(const struct landing_plan *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->action_count; i++)
		for (size_t at = 0; landing_items_next_above(p->actions[i].path, &at);)
			n++;
	return n;
}

int landing_plan_reverse(const struct landing_plan *p, const struct landing_conflict *shown,
			 size_t shown_count, const struct landing_choice *choices,
			 size_t choice_count, struct landing_plan **ret, struct error *err)
{
	struct landing_inputs in = {.uid = p->uid,
				    .gid = p->gid,
				    .shown = shown,
				    .shown_count = shown_count,
				    .choices = choices,
				    .choice_count = choice_count};
	AUTO_LANDING_ITEMS m = {.in = &in, .err = err};
	int r = 0;

	m.plan = landing_items_plan_new();
	m.items = calloc(p->action_count + folders_above(p) + shown_count + 1, sizeof(*m.items));
	if (!m.plan || !m.items)
		return error_nomem(err);
	m.plan->undo = !p->undo;
	m.plan->ws_dev = p->ws_dev;
	m.plan->ws_ino = p->ws_ino;
	m.plan->uid = p->uid;
	m.plan->gid = p->gid;
	m.plan->started_ns = p->started_ns;
	for (size_t i = 0; i < p->action_count && r == 0; i++) {
		m.items[m.count] = reversed(&p->actions[i]);
		r = answer_item(&m, &m.items[m.count++]);
	}
	if (r == 0)
		r = add_places(&m);
	if (r == 0) {
		empty_places(&m);
		r = landing_items_leave_around(&m);
	}
	if (r == 0)
		r = landing_items_emit(&m);
	if (r < 0)
		return r;
	*ret = take_ptr(m.plan);
	return 0;
}
