#pragma once
/*
 * What the votes of an item say: the one place where an answer is found, for deciding an item by it
 * and for carrying it out. Pure; what is found is borrowed from the item.
 *
 * Of a path (of a CONFLICT; empty: the whole item) a vote that names it comes before one that names
 * none, and among those the last one holds. A principal's word is its own last vote, found alike.
 * One deny decides, whatever the quorum: what was denied has no answer.
 */
#include <stdbool.h>
#include "base/buffer.h"
#include "journal/journal.h"

/* NULL and "" are both: not said. */
bool ballot_same_text(const char *a, const char *b);
/* The last vote of this principal on exactly this path. NULL: none. */
const struct journal_vote *ballot_last_word(const struct journal_approval *item,
					    const char *principal, struct bytes path);
/* What would be carried out of a path. NULL: nothing, since nobody spoke of it, or a vote denies
 * the item, or the last one to a CONFLICT makes no choice. */
const struct journal_vote *ballot_answer(const struct journal_approval *item, struct bytes path);
/* How many principals say now of this path what the answer says, its content included. */
uint32_t ballot_agreeing(const struct journal_approval *item, const struct journal_vote *answer,
			 struct bytes path);
