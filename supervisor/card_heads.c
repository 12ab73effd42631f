#include "supervisor/card_heads.h"

#include <stdlib.h>
#include <string.h>

struct slot {
	struct digest card;
	char *title; /* NULL = free */
	bool complete;
};

struct card_heads {
	struct slot slots[CARD_HEADS_SLOTS];
};

int card_heads_new(struct card_heads **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

void card_heads_free(struct card_heads *h)
{
	for (size_t i = 0; h && i < CARD_HEADS_SLOTS; i++)
		free(h->slots[i].title);
	free(h);
}

enum {
	WAYS = 4
}; /* slots that a card may have: of a few thousand cards hardly one lacks its own */

/* The first of its slots. A digest's bytes are as good as random. */
static size_t set_of(const struct digest *card)
{
	size_t n = (size_t)card->b[0] << 8 | card->b[1] | (size_t)card->b[2] << 16;

	return n % (CARD_HEADS_SLOTS / WAYS) * WAYS;
}

struct card_head card_heads_get(const struct card_heads *h, const struct digest *card)
{
	const struct slot *s = &h->slots[set_of(card)];

	for (size_t i = 0; i < WAYS; i++)
		if (s[i].title && digest_equal(&s[i].card, card))
			return (struct card_head){s[i].title, s[i].complete};
	return (struct card_head){0};
}

void card_heads_put(struct card_heads *h, const struct digest *card, struct bytes title,
		    bool complete)
{
	struct slot *set = &h->slots[set_of(card)], *s = &set[card->b[3] % WAYS];

	if (title.len > CARD_HEADS_TITLE_MAX || memchr(title.data, 0, title.len))
		return;
	for (size_t i = 0; i < WAYS; i++)
		if (!set[i].title || digest_equal(&set[i].card, card)) {
			s = &set[i];
			break;
		}
	free(s->title);
	*s = (struct slot){*card, bytes_dup_str(title), complete};
}
