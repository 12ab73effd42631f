/* What changed, without looking at any content. Pure. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "supervisor/diff.h"

static enum manifest_type plain(enum manifest_type t)
{
	return t == MANIFEST_WHITEOUT ? MANIFEST_ABSENT : t;
}

/* What an entry leaves at its path, as something that was seen there. */
static struct manifest_seen seen_of(const struct manifest_entry *e)
{
	return (struct manifest_seen){
		.type = plain(e->type),
		.mode = e->mode,
		.size = e->type == MANIFEST_SYMLINK ? e->target.len : e->size,
		.has_digest = e->type == MANIFEST_FILE || e->type == MANIFEST_SYMLINK,
		.digest = e->digest,
	};
}

static int add(struct manifest *out, const struct manifest_entry *below,
	       const struct manifest_entry *above, struct error *err)
{
	struct manifest_entry e = {.type = MANIFEST_WHITEOUT};

	assert(below || above);
	if (above) {
		e = *above;
		e.link = bytes_of("", 0); /* the file that it names may not be among the changes */
	} else {
		e.path = below->path; /* made by the layers below, and gone */
	}
	if (below)
		e.base = seen_of(below);
	if (plain(e.type) == e.base.type && !manifest_entry_changes(&e))
		return 0;
	if (e.type == MANIFEST_WHITEOUT && e.base.type == MANIFEST_ABSENT)
		return 0;
	return manifest_add(out, &e, err);
}

static int net_of(const struct landing_layer *a, size_t a_count, const struct landing_layer *b,
		  size_t b_count, struct manifest **ret, struct error *err)
{
	AUTO_FREE struct landing_layer *all = calloc(a_count + b_count + 1, sizeof(*all));

	if (!all)
		return error_nomem(err);
	for (size_t i = 0; i < a_count + b_count; i++)
		all[i] = i < a_count ? a[i] : b[i - a_count];
	return landing_net(all, a_count + b_count, ret, err);
}

int diff_net(const struct landing_layer *below, size_t below_count,
	     const struct landing_layer *layers, size_t layer_count, struct manifest **ret,
	     struct error *err)
{
	AUTO(manifest_free) struct manifest *before = NULL;
	AUTO(manifest_free) struct manifest *after = NULL;
	AUTO(manifest_free) struct manifest *out = manifest_new();
	size_t i = 0;
	size_t j = 0;
	int r = net_of(below, below_count, NULL, 0, &before, err);

	if (r == 0)
		r = net_of(below, below_count, layers, layer_count, &after, err);
	if (!out)
		r = error_nomem(err);
	while (r == 0) {
		const struct manifest_entry *b = manifest_at(before, i);
		const struct manifest_entry *a = manifest_at(after, j);
		int c = !b ? 1 : !a ? -1 : bytes_compare(b->path, a->path);

		if (!a && !b)
			break;
		i += c <= 0;
		j += c >= 0;
		r = add(out, c <= 0 ? b : NULL, c >= 0 ? a : NULL, err);
	}
	if (r == 0)
		r = manifest_finish(out, err);
	if (r < 0)
		return r;
	*ret = take_ptr(out);
	return 0;
}

int diff_stat(const struct manifest *net, struct diff_entry **ret, size_t *ret_count)
{
	struct diff_entry *list = calloc(manifest_count(net) + 1, sizeof(*list));
	size_t n = 0;

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < manifest_count(net); i++) {
		const struct manifest_entry *e = manifest_at(net, i);
		struct manifest_seen after = seen_of(e);

		if (!manifest_entry_changes(e))
			continue;
		list[n++] = (struct diff_entry){
			.path = e->path,
			.letter = e->base.type == MANIFEST_ABSENT ? 'A'
				  : after.type == MANIFEST_ABSENT ? 'D'
				  : e->base.type == after.type	  ? 'M'
								  : 'T',
			.before = e->base.type,
			.after = after.type,
			.size_before = e->base.size,
			.size_after = after.size,
			.mode_before = e->base.mode,
			.mode_after = after.mode,
		};
	}
	*ret = list;
	*ret_count = n;
	return 0;
}

/* ---- what would land ---- */

/* As the sealer saw it, and untouched since: what the planner takes for no conflict. */
static int add_fact(struct landing_facts *facts, const struct manifest_entry *e)
{
	struct landing_state s = {.type = e->base.type,
				  .mode = e->base.mode,
				  .size = e->base.size,
				  .has_digest = true,
				  .digest = e->base.digest,
				  .ctime_ns = e->base.ctime_ns,
				  .ino = e->base.ino};

	if (s.type == MANIFEST_ABSENT)
		s = (struct landing_state){.type = MANIFEST_ABSENT};
	return landing_facts_add(facts, e->path, &s);
}

static int add_folders_above(struct landing_facts *facts, struct bytes path)
{
	static const struct landing_state folder = {.type = MANIFEST_DIR, .mode = 0755};
	const char *p = path.data;
	int r = 0;

	/* What is there already as a changed path itself stays as it is. */
	for (size_t i = 1; i < path.len && r == 0; i++)
		if (p[i] == '/')
			r = landing_facts_add(facts, bytes_of(p, i), &folder);
	return r;
}

static int facts_of(const struct manifest *net, struct landing_facts *facts)
{
	int r = 0;

	for (size_t i = 0; i < manifest_count(net) && r == 0; i++)
		r = add_fact(facts, manifest_at(net, i));
	for (size_t i = 0; i < manifest_count(net) && r == 0; i++)
		r = add_folders_above(facts, manifest_at(net, i)->path);
	return r;
}

int diff_landing(const struct diff_scope *s, struct landing_plan **ret, struct error *err)
{
	AUTO(landing_facts_free) struct landing_facts *facts = landing_facts_new();
	AUTO(manifest_free) struct manifest *net = NULL;
	struct landing_layer one = {0};
	struct landing_inputs in = {.layers = s->layers,
				    .layer_count = s->layer_count,
				    .fs = s->fs,
				    .workspace = s->workspace,
				    .facts = facts,
				    .clock = {.started_ns = INT64_MAX}};
	int r = diff_net(s->below, s->below_count, s->layers, s->layer_count, &net, err);

	if (r < 0)
		return r;
	if (!facts || facts_of(net, facts) < 0)
		return error_nomem(err);
	if (s->below_count > 0 && s->layer_count == 1) {
		one = s->layers[0];
		one.manifest = net;
		in.layers = &one;
	}
	r = landing_plan_make(&in, ret, err);
	if (r < 0)
		return r;
	/* A digest that the sealer did not take is not shown as one. */
	for (size_t i = 0; i < (*ret)->action_count; i++)
		(*ret)->actions[i].before.has_digest =
			!digest_is_zero(&(*ret)->actions[i].before.digest);
	return 0;
}

int diff_stat_plan(const struct landing_plan *plan, struct diff_entry **ret, size_t *ret_count)
{
	struct diff_entry *list = calloc(plan->action_count + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < plan->action_count; i++) {
		const struct landing_action *a = &plan->actions[i];

		list[i] = (struct diff_entry){
			.path = a->path,
			.letter = landing_action_letter(a),
			.before = a->before.type,
			.after = a->after.type,
			.size_before = a->before.size,
			.size_after = a->after.size,
			.mode_before = a->before.mode,
			.mode_after = a->after.mode,
		};
	}
	*ret = list;
	*ret_count = plan->action_count;
	return 0;
}

void diff_left_out(const struct landing_plan *plan, size_t *ret_scratch, size_t *ret_others)
{
	*ret_scratch = *ret_others = 0;
	for (size_t i = 0; i < plan->out_count; i++) {
		if (plan->out[i].why == LANDING_OUT_SCRATCH)
			(*ret_scratch)++;
		else if (plan->out[i].why != LANDING_OUT_BITS)
			(*ret_others)++;
	}
}
