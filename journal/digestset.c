#include "journal/digestset.h"

#include <errno.h>
#include <stdlib.h>

void journal_digestset_free(struct journal_digestset *s)
{
	free(s->slot);
	*s = (struct journal_digestset){0};
}

static size_t find(const struct journal_digestset *s, const struct digest *d)
{
	uint64_t h;
	memcpy(&h, d->b, sizeof(h));
	size_t at = h & (s->cap - 1);
	while (!digest_is_zero(&s->slot[at]) && !digest_equal(&s->slot[at], d))
		at = (at + 1) & (s->cap - 1);
	return at;
}

bool journal_digestset_has(const struct journal_digestset *s, const struct digest *d)
{
	return s->cap && !digest_is_zero(d) && digest_equal(&s->slot[find(s, d)], d);
}

static int grow(struct journal_digestset *s)
{
	struct journal_digestset bigger = {.cap = s->cap ? s->cap * 2 : 1024};
	bigger.slot = calloc(bigger.cap, sizeof(*bigger.slot));
	if (!bigger.slot)
		return -ENOMEM;
	for (size_t i = 0; i < s->cap; i++)
		if (!digest_is_zero(&s->slot[i]))
			bigger.slot[find(&bigger, &s->slot[i])] = s->slot[i];
	bigger.count = s->count;
	free(s->slot);
	*s = bigger;
	return 0;
}

int journal_digestset_add(struct journal_digestset *s, const struct digest *d)
{
	if (digest_is_zero(d))
		return 0;
	if (2 * s->count >= s->cap && grow(s) < 0)
		return -ENOMEM;
	size_t at = find(s, d);
	if (!digest_is_zero(&s->slot[at]))
		return 0;
	s->slot[at] = *d;
	s->count++;
	return 1;
}
