/*
 * Effects in memory: found by id, and by what they are (run, step, identity), in constant time, so
 * that a run with a hundred thousand of them costs no more a piece than one with ten. Pure.
 */
#include <errno.h>
#include <stdlib.h>
#include "journal/rows.h"

enum { BUCKETS_FIRST = 64 };

/* The effects of one step with one identity, by occurrence. */
struct journal_effect_group {
	struct journal_id run;
	uint32_t step;
	struct digest identity;
	struct journal_effect **item;
	size_t count, cap;
	struct journal_effect_group *next; /* of its bucket */
};

/* Ids are random and identities are digests: their own bytes are the hash. */
static size_t bucket(const struct journal_state *s, const uint8_t *random)
{
	uint64_t v;

	memcpy(&v, random, sizeof(v));
	return v & (s->effect_buckets - 1);
}

static bool is_group(const struct journal_effect_group *g, const struct journal_id *run,
		     uint32_t step, const struct digest *identity)
{
	return g->step == step && digest_equal(&g->identity, identity) &&
	       journal_id_equal(&g->run, run);
}

static struct journal_effect_group *find_group(const struct journal_state *s,
					       const struct journal_id *run, uint32_t step,
					       const struct digest *identity)
{
	struct journal_effect_group *g =
		s->effect_buckets ? s->effect_groups[bucket(s, identity->b)] : NULL;

	while (g && !is_group(g, run, step, identity))
		g = g->next;
	return g;
}

struct journal_effect *journal_rows_effect(const struct journal_state *s,
					   const struct journal_id *id)
{
	struct journal_effect *e = s->effect_buckets ? s->effects_by_id[bucket(s, id->b)] : NULL;

	while (e && !journal_id_equal(&e->id, id))
		e = e->next_by_id;
	return e;
}

const struct journal_effect *journal_state_effect(const struct journal_state *s,
						  const struct journal_id *id)
{
	return journal_rows_effect(s, id);
}

size_t journal_state_effects_same(const struct journal_state *s, const struct journal_id *run,
				  uint32_t step, const struct digest *identity,
				  const struct journal_effect *const **ret)
{
	const struct journal_effect_group *g = find_group(s, run, step, identity);

	*ret = g ? (const struct journal_effect *const *)g->item : NULL;
	return g ? g->count : 0;
}

static int grow(struct journal_state *s)
{
	size_t old = s->effect_buckets, count = old ? old * 2 : BUCKETS_FIRST;
	struct journal_effect **by_id = s->effects_by_id;
	struct journal_effect_group **groups = s->effect_groups;

	if (s->effect_count < old)
		return 0;
	s->effects_by_id = calloc(count, sizeof(struct journal_effect *));
	s->effect_groups = calloc(count, sizeof(struct journal_effect_group *));
	if (!s->effects_by_id || !s->effect_groups) {
		free(s->effects_by_id);
		free(s->effect_groups);
		s->effects_by_id = by_id;
		s->effect_groups = groups;
		return -ENOMEM;
	}
	s->effect_buckets = count;
	for (size_t i = 0; i < old; i++) {
		for (struct journal_effect *e = by_id[i], *next; e; e = next) {
			size_t at = bucket(s, e->id.b);

			next = e->next_by_id;
			e->next_by_id = s->effects_by_id[at];
			s->effects_by_id[at] = e;
		}
		for (struct journal_effect_group *g = groups[i], *next; g; g = next) {
			size_t at = bucket(s, g->identity.b);

			next = g->next;
			g->next = s->effect_groups[at];
			s->effect_groups[at] = g;
		}
	}
	free(by_id);
	free(groups);
	return 0;
}

static bool is_power_of_two(size_t n)
{
	return (n & (n - 1)) == 0;
}

static int append(struct journal_effect ***list, size_t count, struct journal_effect *e)
{
	if (is_power_of_two(count)) {
		struct journal_effect **grown =
			reallocarray(*list, count ? count * 2 : 1, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		*list = grown;
	}
	(*list)[count] = e;
	return 0;
}

static int join_group(struct journal_state *s, struct journal_effect *e)
{
	struct journal_effect_group *g = find_group(s, &e->run, e->step, &e->identity);
	size_t at = bucket(s, e->identity.b);
	int rc;

	if (!g) {
		g = calloc(1, sizeof(*g));
		if (!g)
			return -ENOMEM;
		g->run = e->run;
		g->step = e->step;
		g->identity = e->identity;
		g->next = s->effect_groups[at];
		s->effect_groups[at] = g;
	}
	rc = append(&g->item, g->count, e);
	if (rc == 0)
		g->count++;
	return rc;
}

/* Where number stands in the list of open ones, or would. */
static uint32_t open_at(const struct journal_run *run, uint32_t number)
{
	uint32_t low = 0, high = run->open_count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (run->open[mid]->number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int journal_rows_effect_state(struct journal_run *run, struct journal_effect *e,
			      enum journal_effect_state state)
{
	uint32_t at = open_at(run, e->number);
	bool is = at < run->open_count && run->open[at] == e, will = journal_effect_open(state);
	size_t after = run->open_count - at;

	if (!is && will) {
		int rc = append(&run->open, run->open_count, e);

		if (rc < 0)
			return rc;
		memmove(run->open + at + 1, run->open + at, after * sizeof(*run->open));
		run->open[at] = e;
		run->open_count++;
	} else if (is && !will) {
		memmove(run->open + at, run->open + at + 1, (after - 1) * sizeof(*run->open));
		run->open_count--;
	}
	e->state = state;
	return 0;
}

int journal_rows_add_effect(struct journal_state *s, struct journal_run *run,
			    struct journal_effect *e)
{
	int rc = grow(s);
	size_t at;

	if (rc == 0)
		rc = append(&run->effects, run->effect_count, e);
	if (rc < 0) {
		journal_rows_free_effect(e);
		return rc;
	}
	/* From here on it is the run's, also where what follows fails: then the state is only
	 * good to be freed. */
	run->effect_count++;
	s->effect_count++;
	at = bucket(s, e->id.b);
	e->next_by_id = s->effects_by_id[at];
	s->effects_by_id[at] = e;
	rc = join_group(s, e);
	return rc < 0 ? rc : journal_rows_effect_state(run, e, e->state);
}

static void leave_group(struct journal_state *s, const struct journal_effect *e)
{
	struct journal_effect_group **at = &s->effect_groups[bucket(s, e->identity.b)], *g;

	while (*at && !is_group(*at, &e->run, e->step, &e->identity))
		at = &(*at)->next;
	g = *at;
	if (!g || --g->count)
		return;
	*at = g->next;
	free(g->item);
	free(g);
}

void journal_rows_effect_remove_all(struct journal_state *s, struct journal_run *run)
{
	for (uint32_t i = 0; i < run->effect_count; i++) {
		struct journal_effect *e = run->effects[i],
				      **at = &s->effects_by_id[bucket(s, e->id.b)];

		while (*at && *at != e)
			at = &(*at)->next_by_id;
		if (*at)
			*at = e->next_by_id;
		leave_group(s, e);
		s->effect_count--;
		journal_rows_free_effect(e);
	}
	free(run->effects);
	free(run->open);
	run->effects = run->open = NULL;
	run->effect_count = run->open_count = 0;
}

void journal_rows_effect_free_index(struct journal_state *s)
{
	for (size_t i = 0; s->effect_groups && i < s->effect_buckets; i++) {
		for (struct journal_effect_group *g = s->effect_groups[i], *next; g; g = next) {
			next = g->next;
			free(g->item);
			free(g);
		}
	}
	free(s->effects_by_id);
	free(s->effect_groups);
}

void journal_rows_free_effect(struct journal_effect *e)
{
	if (!e)
		return;
	free(e->title);
	free(e->rule);
	free(e->at);
	free(e->header);
	free(e->probe);
	free(e->secret);
	free(e->claim);
	free(e->dropped);
	free(e->why);
	free(e->by);
	free(e);
}
