#pragma once
/*
 * What a list tells of each item's card: its first line, and whether it shows all. A card is content
 * under its digest and never another, so that what was read once is kept, in a table that a newer
 * card may take a place of.
 */
#include "base/buffer.h"
#include "base/digest.h"

enum {
	CARD_HEADS_SLOTS = 32 * 1024,
	CARD_HEADS_TITLE_MAX = 512, /* bytes; a longer one is not kept */
};

struct card_heads; /* opaque */
MUST_CHECK int card_heads_new(struct card_heads **ret);
void card_heads_free(struct card_heads *h); /* accepts NULL */

struct card_head {
	const char *title; /* borrowed until the next call; NULL = it is not kept: read the card */
	bool complete;
};
struct card_head card_heads_get(const struct card_heads *h, const struct digest *card);
/* Nothing is kept where memory is short. */
void card_heads_put(struct card_heads *h, const struct digest *card, struct bytes title,
		    bool complete);
