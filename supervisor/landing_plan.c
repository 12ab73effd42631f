/*
 * The planner. Every changed path of the net change is an item; passes over the items, each in the
 * order of paths (a folder before what is in it), settle what stays out, what conflicts, and what
 * is left to do. Each sees what the ones before it made of an item's neighbours, so the order holds:
 *
 *   make_items       what each path by itself allows: names of our own, special files, the policy's
 *                    `fs`, a person's "mine" -> OUT, else ACT. Then strangers, which the run knows
 *                    nothing of and which lie in a folder that goes, join the items; and find_places
 *                    marks the folders where another thing stands now
 *   leave_around     (landing_items.c) what follows for folders: what would lie in one that is not
 *                    made -> OUT; a new one of which nothing lands -> OUT; one that something stays
 *                    in is not removed -> OUT
 *   find_conflicts   what stands already -> NOTHING; what the user changed meanwhile -> CONFLICT,
 *                    unless a person chose "theirs" or a file: that may make a folder above ACT
 *                    again (make_again), the only way back
 *   find_strangers   a folder that goes and holds more names than there are items -> CONFLICT
 *   emit             (landing_items.c) every ACT that is left becomes an action
 */
#include "supervisor/landing_items.h"

#include <errno.h>
#include <stdlib.h>

#include "base/escape.h"
#include "base/path.h"
#include "base/utf8.h"
#include "supervisor/landing_arena.h"

bool landing_state_same(const struct landing_state *a, const struct landing_state *b)
{
	if (a->type != b->type || a->unseen || b->unseen)
		return false;
	switch (a->type) {
	case MANIFEST_FILE:
		return a->mode == b->mode && a->size == b->size && a->has_digest && b->has_digest &&
		       digest_equal(&a->digest, &b->digest);
	case MANIFEST_DIR:
		return ((a->mode ^ b->mode) & 01777) == 0; /* setgid is inherited, not landed */
	case MANIFEST_SYMLINK:
		return bytes_equal(a->target, b->target);
	case MANIFEST_ABSENT:
		return true;
	case MANIFEST_WHITEOUT:
	case MANIFEST_FIFO:
	case MANIFEST_SOCKET:
	case MANIFEST_CHAR:
	case MANIFEST_BLOCK:
		return false;
	}
	return false;
}

void landing_plan_free(struct landing_plan *p)
{
	if (!p)
		return;
	landing_arena_free(p->arena);
	free(p->actions);
	free(p->out);
	free(p->conflicts);
	free(p);
}

/* ---- what is asked before planning ---- */

int landing_net(const struct landing_layer *layers, size_t count, struct manifest **ret,
		struct error *err)
{
	AUTO_FREE const struct manifest **stack = calloc(count + 1, sizeof(*stack));

	if (!stack)
		return error_nomem(err);
	for (size_t i = 0; i < count; i++)
		stack[i] = layers[i].manifest;
	return manifest_merge(stack, count, MANIFEST_MERGE_OVER_BASE, ret, err);
}

/* Should a folder stand at the path, it goes with all that is in it. */
static bool leaves_no_folder(const struct manifest_entry *e)
{
	return manifest_entry_changes(e) && e->type != MANIFEST_DIR;
}

int landing_facts_want(const struct manifest *net,
		       int (*fn)(void *arg, struct bytes path, bool digest, bool entries),
		       void *arg)
{
	for (size_t i = 0; i < manifest_count(net); i++) {
		const struct manifest_entry *e = manifest_at(net, i);
		size_t at = 0;
		int r;

		if (!manifest_entry_changes(e))
			continue;
		while (landing_items_next_above(e->path, &at)) {
			struct bytes above = bytes_of(e->path.data, at);
			const struct manifest_entry *a = manifest_find(net, above);

			r = fn(arg, above, true, a && leaves_no_folder(a));
			if (r != 0)
				return r;
		}
		r = fn(arg, e->path, true, leaves_no_folder(e));
		if (r != 0)
			return r;
	}
	return 0;
}

/* ---- make_items: what each path by itself allows ---- */

static void want_of(const struct landing_inputs *in, const struct manifest_entry *e,
		    const struct landing_state *now, struct landing_state *ret)
{
	uint32_t own = now->type == MANIFEST_DIR ? now->mode & 06000 : 0;

	*ret = (struct landing_state){.type = e->type == MANIFEST_WHITEOUT ? MANIFEST_ABSENT
									   : e->type};
	if (ret->type == MANIFEST_ABSENT)
		return;
	ret->uid = in->uid;
	ret->gid = now->type != MANIFEST_ABSENT && now->uid == in->uid ? now->gid : in->gid;
	if (e->type == MANIFEST_FILE) {
		ret->mode = e->mode & 0777;
		ret->size = e->size;
		ret->has_digest = true;
		ret->digest = e->digest;
	} else if (e->type == MANIFEST_DIR) {
		ret->mode = (e->mode & 01777) | own;
	} else if (e->type == MANIFEST_SYMLINK) {
		ret->target = e->target;
		ret->size = e->target.len;
		ret->has_digest = true;
		ret->digest = e->digest;
	}
}

/* The topmost layer that names a path has what the stack shows there. */
static const char *layer_of(const struct landing_inputs *in, struct bytes path)
{
	for (size_t i = in->layer_count; i-- > 0;)
		if (manifest_find(in->layers[i].manifest, path))
			return in->layers[i].name;
	return "";
}

static bool reserved(struct bytes path)
{
	static const char prefix[] = LANDING_HIDDEN_PREFIX;
	const char *p = path.data;

	for (size_t i = 0; i + sizeof(prefix) - 1 <= path.len; i++)
		if ((i == 0 || p[i - 1] == '/') && memcmp(p + i, prefix, sizeof(prefix) - 1) == 0)
			return true;
	return false;
}

/* A folder in the place of a file or link takes that away, with what it stands for (a .git that is
 * a link). */
static enum policy_want want_policy(const struct landing_item *it)
{
	if (it->after.type == MANIFEST_ABSENT)
		return POLICY_WANT_REMOVE;
	if (it->after.type == MANIFEST_DIR &&
	    (it->now->type == MANIFEST_ABSENT || it->now->type == MANIFEST_DIR))
		return POLICY_WANT_FOLDER;
	return POLICY_WANT_LAND;
}

/* A file or link in the place of a folder above one of our places would lead to another. */
static bool touches_own(const struct landing_inputs *in, const struct landing_item *it,
			struct bytes full)
{
	bool leads = want_policy(it) == POLICY_WANT_LAND;

	for (const char *const *own = in->own; own && *own; own++) {
		if (path_is_within(full, *own))
			return true;
		if (leads && strlen(*own) > full.len && (*own)[full.len] == '/' &&
		    memcmp(*own, full.data, full.len) == 0)
			return true;
	}
	return landing_facts_in_state(in->facts, it->path);
}

/* The strictest of the run's table and those of all steps that touched the path: a step's narrowing
 * holds for what it made, whoever built on that. */
static int decide(struct landing_items *m, const struct landing_item *it,
		  struct policy_fs_decision *ret)
{
	AUTO_BUFFER full = {0};
	const struct landing_inputs *in = m->in;

	*ret = (struct policy_fs_decision){.verdict = POLICY_FS_DENY,
					   .at = {.file = ""},
					   .why = "no policy"};
	buffer_append_str(&full, in->workspace);
	buffer_append_byte(&full, '/');
	if (buffer_append(&full, it->path.data, it->path.len) < 0)
		return error_nomem(m->err);
	if (touches_own(in, it, buffer_bytes(&full))) {
		snprintf(ret->why, sizeof(ret->why), "a place of Holdfast's own state or settings");
		return 0;
	}
	if (!in->fs)
		return 0;
	policy_fs_decide(in->fs, buffer_bytes(&full), want_policy(it), ret);
	for (size_t i = 0; i < in->layer_count && ret->verdict != POLICY_FS_DENY; i++) {
		struct policy_fs_decision d;
		const struct manifest_entry *e = manifest_find(in->layers[i].manifest, it->path);

		if (!in->layers[i].fs || !e || !manifest_entry_changes(e))
			continue;
		policy_fs_decide(in->layers[i].fs, buffer_bytes(&full), want_policy(it), &d);
		if (d.verdict > ret->verdict)
			*ret = d;
	}
	return 0;
}

static int leave_out_by_policy(struct landing_items *m, struct landing_item *it,
			       const struct policy_fs_decision *d)
{
	char text[LANDING_WHY_MAX * 2];
	const char *file = d->at.file ? d->at.file : "";

	if (d->at.line > 0)
		utf8_printf(text, sizeof(text), "%s:%d:%d: %s", file, d->at.line, d->at.column,
			    d->why);
	else
		utf8_printf(text, sizeof(text), "%s%s%s", file, *file ? ": " : "", d->why);
	return landing_items_leave_out(m, it,
				       d->verdict == POLICY_FS_STAYS ? LANDING_OUT_SCRATCH
								     : LANDING_OUT_POLICY,
				       text);
}

static bool special(enum manifest_type t)
{
	return t > MANIFEST_WHITEOUT;
}

static int consider(struct landing_items *m, struct landing_item *it)
{
	struct policy_fs_decision d;
	uint32_t mode = it->entry ? it->entry->mode : 0;
	uint32_t had =
		it->entry && it->entry->base.type == MANIFEST_DIR && it->after.type == MANIFEST_DIR
			? it->entry->base.mode
			: 0;
	char text[LANDING_WHY_MAX];
	int r;

	it->verdict = LANDING_ITEM_ACT;
	if (reserved(it->path))
		return landing_items_leave_out(m, it, LANDING_OUT_RESERVED,
					       "a name that landing uses itself");
	if (special(it->after.type))
		return landing_items_leave_out(m, it, LANDING_OUT_TYPE,
					       manifest_type_name(it->after.type));
	r = decide(m, it, &d);
	if (r < 0)
		return r;
	if (d.verdict != POLICY_FS_ALLOW)
		return leave_out_by_policy(m, it, &d);
	if (special(it->now->type)) {
		snprintf(text, sizeof(text), "a %s stands there",
			 manifest_type_name(it->now->type));
		return landing_items_leave_out(m, it, LANDING_OUT_TYPE, text);
	}
	if (landing_items_chose(it, LANDING_CHOICE_MINE))
		return landing_items_leave_out(m, it, LANDING_OUT_MINE, "");
	if (mode & 06000 & ~had)
		return landing_items_note_out(m, it, LANDING_OUT_BITS,
					      mode & 04000 ? "setuid" : "setgid");
	return 0;
}

static bool is_folder_displaced(const struct landing_item *it)
{
	return it->after.type == MANIFEST_DIR && it->now->type != MANIFEST_DIR &&
	       it->now->type != MANIFEST_ABSENT;
}

/* The topmost folder above the path that was there, and in whose place something else stands. */
static struct landing_item *place_above(struct landing_items *m, const struct landing_item *it)
{
	size_t at = 0;

	while (landing_items_next_above(it->path, &at)) {
		struct landing_item *above = landing_items_find(m, bytes_of(it->path.data, at));

		if (above && above->entry && above->entry->base.type == MANIFEST_DIR &&
		    is_folder_displaced(above))
			return above;
	}
	return NULL;
}

static bool stands_already(const struct landing_item *it)
{
	/* A folder that both made is one folder; its mode is the user's. */
	if (it->after.type == MANIFEST_DIR && it->now->type == MANIFEST_DIR && it->entry &&
	    it->entry->base.type == MANIFEST_ABSENT)
		return true;
	return landing_state_same(it->now, &it->after);
}

/* A folder that is no change of its own, but cannot be passed: it is asked about like a change,
 * once for all that lies in it. */
static int consider_place(struct landing_items *m, struct landing_item *it)
{
	struct policy_fs_decision d;
	int r;

	it->place = true;
	it->verdict = LANDING_ITEM_ACT;
	landing_items_bind(it, m->in->shown, m->in->shown_count, m->in->choices,
			   m->in->choice_count);
	if (landing_items_chose(it, LANDING_CHOICE_MINE))
		return landing_items_leave_out(m, it, LANDING_OUT_MINE, "");
	it->no_inside = landing_items_chose(it, LANDING_CHOICE_FILE);
	if (special(it->now->type))
		it->refused = "only a file or a link is displaced";
	r = decide(m, it, &d);
	if (r == 0 && d.verdict != POLICY_FS_ALLOW)
		it->refused = "the policy lets nothing land in its place";
	return r;
}

static int find_places(struct landing_items *m)
{
	int r = 0;

	for (size_t i = 0; i < m->count && r == 0; i++) {
		struct landing_item *it = &m->items[i];
		struct landing_item *above;

		if (it->verdict != LANDING_ITEM_ACT || stands_already(it))
			continue;
		above = place_above(m, it);
		if (!above || above->place)
			continue;
		if (!manifest_entry_changes(above->entry))
			r = consider_place(m, above);
		else
			above->place = above->verdict == LANDING_ITEM_ACT;
	}
	return r;
}

/* A folder above it goes, with this in it. */
static bool goes_along(struct landing_items *m, const struct landing_item *it)
{
	size_t at = 0;

	while (landing_items_next_above(it->path, &at)) {
		const struct landing_item *above =
			landing_items_find(m, bytes_of(it->path.data, at));

		if (above && !above->stranger && above->after.type != MANIFEST_DIR &&
		    (above->verdict == LANDING_ITEM_ACT || above->verdict == LANDING_ITEM_CONFLICT))
			return true;
	}
	return false;
}

/* Each is a deletion that only a person's word makes one. */
static int add_strangers(struct landing_items *m)
{
	const struct landing_inputs *in = m->in;
	struct bytes path;
	size_t at = 0;
	int r = 0;

	while (landing_facts_next_stranger(in->facts, &at, &path)) {
		m->items[m->count++] =
			(struct landing_item){.path = path,
					      .stranger = true,
					      .now = landing_facts_find(in->facts, path),
					      .after = landing_items_absent};
	}
	qsort(m->items, m->count, sizeof(*m->items), landing_items_order);
	for (size_t i = 0; i < m->count && r == 0; i++) {
		struct landing_item *it = &m->items[i];

		if (!it->stranger || !goes_along(m, it))
			continue;
		landing_items_bind(it, in->shown, in->shown_count, in->choices, in->choice_count);
		r = consider(m, it);
	}
	return r;
}

static int make_items(struct landing_items *m)
{
	const struct landing_inputs *in = m->in;
	int r = 0;

	m->items = calloc(manifest_count(m->net) + landing_facts_stranger_count(in->facts) + 1,
			  sizeof(*m->items));
	if (!m->items)
		return error_nomem(m->err);
	for (size_t i = 0; i < manifest_count(m->net) && r == 0; i++) {
		const struct manifest_entry *e = manifest_at(m->net, i);
		const struct landing_state *now = landing_facts_find(in->facts, e->path);
		struct landing_item *it = &m->items[m->count++];

		*it = (struct landing_item){.path = e->path,
					    .entry = e,
					    .now = now ? now : &landing_items_absent};
		want_of(in, e, it->now, &it->after);
		if (!manifest_entry_changes(e))
			continue;
		it->from = it->after.type == MANIFEST_FILE ? LANDING_FROM_LAYER : LANDING_FROM_NONE;
		it->layer = it->from == LANDING_FROM_LAYER ? layer_of(in, e->path) : "";
		landing_items_bind(it, in->shown, in->shown_count, in->choices, in->choice_count);
		it->no_inside = landing_items_chose(it, LANDING_CHOICE_FILE) &&
				it->after.type == MANIFEST_DIR;
		r = consider(m, it);
	}
	if (r == 0 && landing_facts_stranger_count(in->facts) > 0)
		r = add_strangers(m);
	return r < 0 ? r : find_places(m);
}

/* ---- find_conflicts: what stands already, and what the user changed meanwhile ---- */

static int64_t start_of(const struct landing_clock *c)
{
	int64_t start = c->started_ns - c->back_ns;

	return c->granularity_ns > 1 ? start - start % c->granularity_ns : start;
}

static bool moved_here(const struct landing_clock *c, const struct landing_state *folder)
{
	return folder->ctime_ns >= start_of(c) && folder->mtime_ns < start_of(c);
}

/* 0 where the folders above the path are as the run knew them, or enum landing_conflict_why. */
static unsigned look_above(struct landing_items *m, const struct landing_item *it)
{
	size_t at = 0;

	while (landing_items_next_above(it->path, &at)) {
		struct bytes path = bytes_of(it->path.data, at);
		const struct landing_state *now = landing_facts_find(m->in->facts, path);
		const struct landing_item *above = landing_items_find(m, path);

		/* Made by this landing; or in conflict itself, which is then the one to be
		 * answered. */
		if (above &&
		    (above->verdict == LANDING_ITEM_ACT ||
		     above->verdict == LANDING_ITEM_CONFLICT) &&
		    above->after.type == MANIFEST_DIR && (!now || now->type != MANIFEST_DIR))
			continue;
		if (!now || now->type != MANIFEST_DIR)
			return LANDING_CONFLICT_FOLDER;
		if (!m->in->clock.suspect && moved_here(&m->in->clock, now))
			return LANDING_CONFLICT_MOVED;
	}
	return 0;
}

static bool looked_at_before(const struct landing_inputs *in, const struct landing_item *it)
{
	size_t lo = 0;
	size_t hi = in->last ? in->last->action_count : 0;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = bytes_compare(in->last->actions[mid].path, it->path);

		if (c == 0)
			return landing_state_same(&in->last->actions[mid].before, it->now);
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static bool content_differs(const struct manifest_seen *seen, const struct landing_state *now)
{
	if (now->type != seen->type)
		return true;
	if (now->type == MANIFEST_FILE || now->type == MANIFEST_DIR) {
		if (now->mode != seen->mode)
			return true;
	}
	if (now->type == MANIFEST_DIR)
		return false;
	if (seen->has_digest && now->has_digest)
		return !digest_equal(&seen->digest, &now->digest);
	/* One side could not be read: only an untouched inode is surely the same. */
	return seen->size != now->size || seen->ctime_ns != now->ctime_ns || seen->ino != now->ino;
}

/*
 * A file that was written again with what it held, as a build or a checkout does: nothing of that
 * is lost by landing over it. What the sealer saw is the state from before the run, since its ctime
 * is older than the start, so the run's version was made from these very bytes. And all that a
 * person can have changed about the file since is compared: bits and bytes are the same, it has the
 * owner that the landed one gets, one name and no extended attributes; that it was written, not
 * merely given another owner and back, tells its inode or mtime.
 */
static bool written_again(const struct landing_items *m, const struct manifest_seen *seen,
			  const struct landing_state *now)
{
	int64_t start = start_of(&m->in->clock);

	return seen->type == MANIFEST_FILE && now->type == MANIFEST_FILE &&
	       seen->ctime_ns < start && seen->has_digest && now->has_digest &&
	       digest_equal(&seen->digest, &now->digest) && seen->mode == now->mode && now->plain &&
	       now->uid == m->in->uid && (now->mtime_ns >= start || now->ino != seen->ino);
}

/* Whether names came or went since the start in the folder that the path is in. The mark of a
 * copied-up file moves along when the run renames it to where the base never had one: a removal by
 * the user shows in the folder too. */
static bool folder_changed(const struct landing_items *m, const struct landing_item *it)
{
	const char *slash = memrchr(it->path.data, '/', it->path.len);
	const struct landing_state *now;
	int64_t mtime = m->in->ws_mtime_ns;

	if (slash) {
		now = landing_facts_find(m->in->facts,
					 bytes_of(it->path.data,
						  (size_t)(slash - (const char *)it->path.data)));
		if (!now || now->type != MANIFEST_DIR)
			return true;
		mtime = now->mtime_ns;
	}
	return m->in->clock.suspect || mtime >= start_of(&m->in->clock);
}

static bool was_there(const struct landing_items *m, const struct landing_item *it)
{
	const struct manifest_seen *seen = &it->entry->base;

	return seen->type != MANIFEST_ABSENT &&
	       (!manifest_seen_gone(seen) || seen->type == MANIFEST_DIR || folder_changed(m, it));
}

/* 0, or enum landing_conflict_why: the rules of landing_plan.h, in their order. */
static unsigned find_conflict(struct landing_items *m, const struct landing_item *it)
{
	const struct manifest_seen *seen = &it->entry->base;
	const struct landing_clock *clock = &m->in->clock;
	const struct landing_state *now = it->now;
	unsigned why = look_above(m, it);

	if (why)
		return why;
	if (!was_there(m, it))
		return now->type == MANIFEST_ABSENT ? 0 : LANDING_CONFLICT_APPEARED;
	if (now->type == MANIFEST_ABSENT)
		return LANDING_CONFLICT_GONE;
	if (!looked_at_before(m->in, it)) {
		bool mode_only = now->type == MANIFEST_DIR && it->after.type == MANIFEST_DIR;

		if (clock->suspect)
			return LANDING_CONFLICT_CLOCK;
		/* A folder's ctime moves with every name in it: for its mode alone, the mode is
		 * what is compared; but one that the sealer found changed may have had another
		 * when the run began, and then the difference is not of the run's making. */
		if (mode_only && seen->ctime_ns >= start_of(clock))
			return LANDING_CONFLICT_CHANGED;
		if (!mode_only && now->ctime_ns >= start_of(clock) && !written_again(m, seen, now))
			return LANDING_CONFLICT_CHANGED;
	}
	return content_differs(seen, now) ? LANDING_CONFLICT_CONTENT : 0;
}

/* Folders that are gone are made again where a person wants the run's version of what was in them.
 */
static bool make_again(struct landing_items *m, const struct landing_item *it)
{
	size_t at = 0;

	while (landing_items_next_above(it->path, &at)) {
		struct landing_item *above = landing_items_find(m, bytes_of(it->path.data, at));
		const struct landing_state *now =
			landing_facts_find(m->in->facts, bytes_of(it->path.data, at));

		if ((now && now->type == MANIFEST_DIR) || (above && above->place))
			continue;
		if (!above || above->after.type != MANIFEST_DIR ||
		    (now && now->type != MANIFEST_ABSENT) || above->verdict == LANDING_ITEM_OUT)
			return false;
		above->now = &landing_items_absent;
		above->verdict = LANDING_ITEM_ACT;
	}
	return true;
}

/* Applies a person's THEIRS or FILE to a conflict. False: it stays one. */
static bool choose(struct landing_items *m, struct landing_item *it, unsigned why)
{
	uint32_t mode = 0644;

	if (!it->choice || landing_items_chose(it, LANDING_CHOICE_MINE) || it->refused ||
	    !landing_state_same(&it->shown->now, it->now))
		return false;
	if (why == LANDING_CONFLICT_FOLDER && !make_again(m, it))
		return false;
	if (landing_items_chose(it, LANDING_CHOICE_THEIRS))
		return true;
	if (it->now->type == MANIFEST_FILE)
		mode = it->now->mode & 0777;
	else if (it->after.type == MANIFEST_FILE)
		mode = it->after.mode;
	it->after = (struct landing_state){
		.type = MANIFEST_FILE,
		.mode = mode,
		.size = it->choice->file_size,
		.has_digest = true,
		.digest = it->choice->file,
		.uid = m->in->uid,
		.gid = it->now->type != MANIFEST_ABSENT && it->now->uid == m->in->uid ? it->now->gid
										      : m->in->gid,
	};
	it->from = LANDING_FROM_BLOB;
	it->layer = "";
	return true;
}

/* What stands where a folder was, and what answering about it comes to. */
static void describe_place(struct landing_items *m, const struct landing_item *it, char *ret,
			   size_t size)
{
	size_t inside = 0;

	for (size_t i = (size_t)(it - m->items) + 1; i < m->count; i++) {
		const struct landing_item *in = &m->items[i];
		const char *p = in->path.data;

		if (in->path.len <= it->path.len || memcmp(p, it->path.data, it->path.len) != 0)
			break;
		inside += p[it->path.len] == '/' && in->verdict == LANDING_ITEM_ACT && in->entry &&
			  manifest_entry_changes(in->entry);
	}
	landing_place_text(it->now->type, inside, false, it->refused, ret, size);
}

/* What lies in a folder that something else stands in the place of has no conflict of its own: it
 * follows the folder's answer. */
static int follow_place(struct landing_items *m, struct landing_item *it,
			const struct landing_item *place)
{
	if (place->verdict != LANDING_ITEM_ACT)
		return 0;
	if (!make_again(m, it))
		return landing_items_conflict(m, it, LANDING_CONFLICT_FOLDER, "");
	if (it->choice)
		(void)choose(m, it, 0);
	return 0;
}

static int ask_about_stranger(struct landing_items *m, struct landing_item *it)
{
	if (!landing_items_chose(it, LANDING_CHOICE_FILE) && !goes_along(m, it)) {
		it->verdict = LANDING_ITEM_NOTHING;
		return 0;
	}
	if (!choose(m, it, 0))
		return landing_items_conflict(m, it, LANDING_CONFLICT_APPEARED,
					      LANDING_STRANGER_TEXT);
	if (it->now->type == MANIFEST_FILE && !it->now->has_digest)
		return landing_items_conflict(m, it, LANDING_CONFLICT_REFUSED,
					      LANDING_UNREADABLE_TEXT);
	return 0;
}

static int find_conflicts(struct landing_items *m)
{
	int r = 0;

	for (size_t i = 0; i < m->count && r == 0; i++) {
		struct landing_item *it = &m->items[i];
		char text[LANDING_WHY_MAX] = "";
		const struct landing_item *place;
		unsigned why;

		if (it->verdict == LANDING_ITEM_ACT && it->stranger) {
			r = ask_about_stranger(m, it);
			continue;
		}
		if (it->verdict != LANDING_ITEM_ACT || !it->entry ||
		    !(manifest_entry_changes(it->entry) || it->place))
			continue;
		if (stands_already(it) && !landing_items_chose(it, LANDING_CHOICE_FILE)) {
			it->verdict = LANDING_ITEM_NOTHING;
			continue;
		}
		if (it->now->unseen) {
			r = landing_items_conflict(m, it, LANDING_CONFLICT_REFUSED,
						   LANDING_UNSEEN_TEXT);
			continue;
		}
		place = it->place ? NULL : place_above(m, it);
		if (place) {
			r = follow_place(m, it, place);
			continue;
		}
		why = it->place ? LANDING_CONFLICT_PLACE : find_conflict(m, it);
		if (!why && landing_items_chose(it, LANDING_CHOICE_FILE))
			why = LANDING_CONFLICT_EDITED; /* unless it is as it was shown */
		if (it->place)
			describe_place(m, it, text, sizeof(text));
		else if (it->now->type == MANIFEST_FILE && !it->now->has_digest)
			snprintf(text, sizeof(text), "%s", LANDING_UNREADABLE_TEXT);
		if (why && !choose(m, it, why))
			r = landing_items_conflict(m, it, why, text);
		else if (it->now->type == MANIFEST_FILE && !it->now->has_digest)
			r = landing_items_conflict(m, it, LANDING_CONFLICT_REFUSED, text);
	}
	return r;
}

/* ---- find_strangers: folders that hold more than the run knows ---- */

static uint64_t known_names(const struct landing_items *m, size_t folder)
{
	struct bytes path = m->items[folder].path;
	uint64_t n = 0;

	for (size_t i = folder + 1; i < m->count; i++) {
		const struct landing_item *it = &m->items[i];
		const char *p = it->path.data;

		if (it->path.len < path.len || memcmp(p, path.data, path.len) != 0)
			break;
		if (it->path.len == path.len || p[path.len] != '/')
			continue; /* "a-b" stands between "a" and "a/c" */
		if (!memchr(p + path.len + 1, '/', it->path.len - path.len - 1) &&
		    it->now->type != MANIFEST_ABSENT)
			n++;
	}
	return n;
}

static int find_strangers(struct landing_items *m)
{
	int r = 0;

	for (size_t i = 0; i < m->count && r == 0; i++) {
		struct landing_item *it = &m->items[i];

		if (it->verdict == LANDING_ITEM_ACT && it->now->type == MANIFEST_DIR &&
		    it->after.type != MANIFEST_DIR && it->now->entries > known_names(m, i))
			r = landing_items_conflict(
				m, it, LANDING_CONFLICT_NOT_EMPTY,
				"too many, or not to be listed: move them away before theirs, "
				"or answer mine");
	}
	return r;
}

int landing_plan_make(const struct landing_inputs *in, struct landing_plan **ret, struct error *err)
{
	AUTO_LANDING_ITEMS m = {.in = in, .err = err};
	int r;

	m.plan = landing_items_plan_new();
	if (!m.plan)
		return error_nomem(err);
	m.plan->ws_dev = in->ws_dev;
	m.plan->ws_ino = in->ws_ino;
	m.plan->uid = in->uid;
	m.plan->gid = in->gid;
	m.plan->started_ns = in->clock.started_ns;
	r = landing_net(in->layers, in->layer_count, &m.net, err);
	if (r == 0)
		r = make_items(&m);
	if (r == 0)
		r = landing_items_leave_around(&m);
	if (r == 0)
		r = find_conflicts(&m);
	if (r == 0)
		r = find_strangers(&m);
	if (r == 0)
		r = landing_items_emit(&m);
	if (r < 0)
		return r;
	*ret = take_ptr(m.plan);
	return 0;
}
