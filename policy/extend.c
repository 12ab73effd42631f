/*
 * `extends`: what the extended file says goes under what this file says. Lists are joined; for the
 * same fs path, for scalars and for entries by name this file's word stands; limits take the
 * smaller one.
 */
#include "policy/model.h"

static bool same_place(struct policy_place a, struct policy_place b)
{
	return a.line == b.line && a.column == b.column && strcmp(a.file, b.file) == 0;
}

/* A copy of the item at the end of the list. */
static void append(struct policy_parser *c, struct policy_list *into, const void *item, size_t size)
{
	void *v = policy_arena_push(c->arena, into->v, into->n, size);

	if (!v)
		return;
	memcpy((char *)v + into->n * size, item, size);
	into->v = v;
	into->n++;
}

/* Joins two lists; a rule that both got from the same file (two ways to one base) stays one. */
static void join(struct policy_parser *c, struct policy_list *into, const struct policy_list *from,
		 size_t size, bool by_name)
{
	into->set |= from->set;
	for (size_t i = 0; i < from->n; i++) {
		const struct policy_item *item = (const void *)((const char *)from->v + i * size);
		bool known = false;

		for (size_t j = 0; j < into->n && !known; j++) {
			const struct policy_item *old =
				(const void *)((const char *)into->v + j * size);

			known = by_name ? strcmp(old->name, item->name) == 0
					: same_place(old->at, item->at);
		}
		if (!known)
			append(c, into, item, size);
	}
}

static void join_fs(struct policy_parser *c, struct policy_list *into,
		    const struct policy_list *from)
{
	const struct policy_fs_rule *rules = from->v;

	into->set |= from->set;
	for (size_t i = 0; i < from->n; i++) {
		struct policy_fs_rule *old = NULL;

		for (size_t j = 0; j < into->n && !old; j++) {
			struct policy_fs_rule *r = (struct policy_fs_rule *)into->v + j;

			if (r->path && rules[i].path && strcmp(r->path, rules[i].path) == 0)
				old = r;
		}
		if (!old)
			append(c, into, &rules[i], sizeof(*rules));
		else if (strcmp(old->item.at.file, c->file) != 0 && rules[i].access < old->access)
			*old = rules[i]; /* two extended files: neither may widen the other */
	}
}

static bool holds(const struct policy_strs *s, const char *text)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->v[i], text) == 0)
			return true;
	return false;
}

static void join_texts(struct policy_parser *c, struct policy_strs *into,
		       const struct policy_strs *from)
{
	into->set |= from->set;
	for (size_t i = 0; i < from->n; i++) {
		const char **v;

		if (holds(into, from->v[i]))
			continue;
		v = policy_arena_push(c->arena, into->v, into->n, sizeof(*v));
		if (!v)
			return;
		v[into->n++] = from->v[i];
		into->v = v;
	}
}

static void join_env(struct policy_parser *c, struct policy_body *into,
		     const struct policy_env_rule *from)
{
	struct policy_env_rule *merged;

	if (!from)
		return;
	merged = policy_arena_alloc(c->arena, sizeof(*merged));
	if (!merged)
		return;
	if (into->env)
		*merged = *into->env;
	else
		merged->item = from->item;
	join_texts(c, &merged->keep, &from->keep);
	join(c, &merged->set, &from->set, sizeof(struct policy_text_item), true);
	into->env = merged;
}

static int limit_of(const char *word)
{
	for (int l = 0; l < POLICY_LIMIT_COUNT; l++)
		if (strcmp(policy_limit_name((enum policy_limit)l), word) == 0)
			return l;
	return -1;
}

static bool states(const struct policy_body *b, const char *word)
{
	int l = limit_of(word);

	return l >= 0 && b->limits && b->limits->v[l].set;
}

/* A limit stated outright leaves an inherited allow_weaker; what the file itself lists stays. */
static void join_weaker(struct policy_parser *c, struct policy_body *into,
			const struct policy_body *from)
{
	struct policy_strs kept = {.set = into->allow_weaker.set};
	struct policy_strs more = {.set = from->allow_weaker.set};
	struct policy_strs *all = &into->allow_weaker;

	for (size_t i = 0; i < all->n; i++) {
		struct policy_strs one = {.v = &all->v[i], .n = 1};

		if (i < into->own_weaker || !states(from, all->v[i]) ||
		    holds(&from->allow_weaker, all->v[i]))
			join_texts(c, &kept, &one);
	}
	for (size_t i = 0; i < from->allow_weaker.n; i++) {
		struct policy_strs one = {.v = &from->allow_weaker.v[i], .n = 1};

		if (!states(into, one.v[0]) || holds(all, one.v[0]))
			join_texts(c, &more, &one);
	}
	join_texts(c, &kept, &more);
	*all = kept;
}

static void join_limits(struct policy_parser *c, struct policy_body *into,
			const struct policy_limits_rule *from)
{
	struct policy_limits_rule *merged;

	if (!from)
		return;
	merged = policy_arena_alloc(c->arena, sizeof(*merged));
	if (!merged)
		return;
	*merged = into->limits ? *into->limits : *from;
	for (int l = 0; l < POLICY_LIMIT_COUNT; l++) {
		if (!from->v[l].set || (merged->v[l].set && merged->v[l].v <= from->v[l].v))
			continue;
		if (merged->v[l].set && (into->own_limits & (1u << l)))
			policy_find(c, merged->item.at, 606, POLICY_WARNING,
				    "limit '%s' is above the inherited one (%s:%d), which counts",
				    policy_limit_name((enum policy_limit)l), from->item.at.file,
				    from->item.at.line);
		merged->v[l] = from->v[l];
	}
	into->limits = merged;
}

static void inherit(struct policy_num *into, struct policy_num from)
{
	if (!into->set)
		*into = from;
}

static void join_approvals(struct policy_parser *c, struct policy_body *into,
			   const struct policy_approvals *from)
{
	struct policy_approvals *merged;

	if (!from)
		return;
	merged = policy_arena_alloc(c->arena, sizeof(*merged));
	if (!merged)
		return;
	*merged = into->approvals ? *into->approvals : *from;
	inherit(&merged->decide_by, from->decide_by);
	inherit(&merged->execute_by, from->execute_by);
	inherit(&merged->freeze, from->freeze);
	inherit(&merged->suspend, from->suspend);
	inherit(&merged->quorum, from->quorum);
	if (!merged->role.set)
		merged->role = from->role;
	if (!merged->exclude.set)
		merged->exclude = from->exclude;
	if (!merged->signers)
		merged->signers = from->signers;
	into->approvals = merged;
}

void policy_extend(struct policy_parser *c, struct policy_body *into,
		   const struct policy_body *from)
{
	if (!into->agency)
		into->agency = from->agency;
	if (!into->unattended)
		into->unattended = from->unattended;
	if (!into->base)
		into->base = from->base;
	join_fs(c, &into->fs, &from->fs);
	join(c, &into->exec, &from->exec, sizeof(struct policy_exec_rule), false);
	join_env(c, into, from->env);
	join(c, &into->net, &from->net, sizeof(struct policy_net), false);
	join(c, &into->tools, &from->tools, sizeof(struct policy_tool), false);
	join(c, &into->secrets, &from->secrets, sizeof(struct policy_secret), true);
	join_weaker(c, into, from);
	join_limits(c, into, from->limits);
	if (!into->contract)
		into->contract = from->contract;
	join_approvals(c, into, from->approvals);
	if (!into->notify)
		into->notify = from->notify;
	join(c, &into->standing, &from->standing, sizeof(struct policy_standing), false);
	join(c, &into->steps, &from->steps, sizeof(struct policy_step), false);
}
