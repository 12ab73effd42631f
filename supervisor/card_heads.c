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

/* A digest's bytes are as good as random. */
static size_t slot_of(const struct digest *card)
{
	return ((size_t)card->b[0] << 8 | card->b[1] | (size_t)card->b[2] << 16) % CARD_HEADS_SLOTS;
}

struct card_head card_heads_get(const struct card_heads *h, const struct digest *card)
{
	const struct slot *s = &h->slots[slot_of(card)];

	if (!s->title || !digest_equal(&s->card, card))
		return (struct card_head){0};
	return (struct card_head){s->title, s->complete};
}

void card_heads_put(struct card_heads *h, const struct digest *card, struct bytes title,
		    bool complete)
{
	struct slot *s = &h->slots[slot_of(card)];

	if (title.len > CARD_HEADS_TITLE_MAX || memchr(title.data, 0, title.len))
		return;
	free(s->title);
	*s = (struct slot){*card, bytes_dup_str(title), complete};
}
