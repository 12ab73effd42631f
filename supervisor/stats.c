#include "supervisor/stats.h"

#include <errno.h>
#include <stdlib.h>

struct walk {
	const struct journal_state *rows;
	struct stats *s;
};

static struct stats_rule *rule_of(struct stats *s, const char *name)
{
	struct stats_rule *grown;

	for (size_t i = 0; i < s->rule_count; i++)
		if (strcmp(s->rules[i].name, name) == 0)
			return &s->rules[i];
	if (s->rule_count == STATS_RULES_MAX)
		return NULL;
	grown = reallocarray(s->rules, s->rule_count + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	s->rules = grown;
	grown[s->rule_count] = (struct stats_rule){.name = strdup(name)};
	return grown[s->rule_count].name ? &grown[s->rule_count++] : NULL;
}

static void count(struct stats_rule *r, const struct journal_approval *a)
{
	r->asked++;
	switch (a->state) {
	case JOURNAL_APPROVAL_S_OPEN:
		r->open++;
		break;
	case JOURNAL_APPROVAL_S_APPROVED:
	case JOURNAL_APPROVAL_S_CONSUMED:
	case JOURNAL_APPROVAL_S_LAPSED:
	case JOURNAL_APPROVAL_S_REVOKED:
		r->approved++;
		r->streak++;
		break;
	case JOURNAL_APPROVAL_S_DENIED:
		r->denied++;
		r->streak = 0;
		break;
	case JOURNAL_APPROVAL_S_EXPIRED:
		r->expired++;
		r->streak = 0;
		break;
	case JOURNAL_APPROVAL_S_WITHDRAWN:
	case JOURNAL_APPROVAL_S_SUPERSEDED:
		r->withdrawn++;
		break;
	case JOURNAL_APPROVAL_S_COUNT:
		break;
	}
	for (uint32_t i = 0; i < a->vote_count; i++) {
		uint64_t ms = a->votes[i].shown_ms;

		if (ms == 0)
			continue;
		r->hasty += ms < STATS_HASTY_MS;
		if (r->shown_count < STATS_SHOWN_MAX)
			r->shown_ms[r->shown_count++] =
				(uint32_t)(ms > UINT32_MAX ? UINT32_MAX : ms);
	}
}

static int add(const struct journal_approval *a, void *arg)
{
	struct walk *w = arg;
	const struct journal_effect *f = journal_state_effect(w->rows, &a->effect);
	struct stats_rule *r =
		rule_of(w->s, f && f->rule ? f->rule : journal_approval_kind_name(a->kind));

	count(&w->s->all, a);
	if (!r)
		return 0;
	if (f) {
		r->class = f->class;
		r->has_class = true;
	}
	count(r, a);
	return 0;
}

static int by_asked(const void *a, const void *b)
{
	const struct stats_rule *x = a, *y = b;

	return x->asked != y->asked ? (x->asked < y->asked ? 1 : -1) : strcmp(x->name, y->name);
}

int stats_of(const struct journal_state *rows, struct stats **ret)
{
	AUTO(stats_free) struct stats *s = calloc(1, sizeof(*s));
	struct walk w = {rows, s};

	if (!s)
		return -ENOMEM;
	(void)!journal_state_each_approval(rows, add, &w);
	if (s->rule_count)
		qsort(s->rules, s->rule_count, sizeof(*s->rules), by_asked);
	*ret = take_ptr(s);
	return 0;
}

void stats_free(struct stats *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->rule_count; i++)
		free(s->rules[i].name);
	free(s->rules);
	free(s);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

uint32_t stats_median_ms(const struct stats_rule *r)
{
	uint32_t sorted[STATS_SHOWN_MAX];

	if (r->shown_count == 0)
		return 0;
	memcpy(sorted, r->shown_ms, r->shown_count * sizeof(*sorted));
	qsort(sorted, r->shown_count, sizeof(*sorted), by_value);
	return sorted[r->shown_count / 2];
}

bool stats_always(const struct stats_rule *r)
{
	return r->approved >= STATS_ALWAYS_MIN && r->denied == 0 && r->expired == 0;
}

bool stats_misplaced(const struct stats_rule *r)
{
	return r->has_class && r->class == JOURNAL_CLASS_REVERSIBLE && r->asked > 0;
}
