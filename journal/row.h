#pragma once
/*
 * Rows as bytes: what the store keeps in its family `state`, and the canonical form that "live
 * equals replayed" compares. Deterministic CBOR maps; zero and empty values are left out. Pure.
 */
#include "journal/rows.h"

/* The key of a row in the family `state`: kind, then ids, numbers big-endian, so that a prefix is a
 * run's rows. */
MUST_CHECK int journal_row_key(const struct journal_change *c, struct buffer *out);
/* The row that c names, as it is now. -ENOENT: it is not in memory (or gone). */
MUST_CHECK int journal_row_encode(const struct journal_state *s, const struct journal_change *c,
				  struct buffer *out);
/* Puts one stored row into memory. Steps and attempts must come in order, after their run.
 * -EBADMSG, -ENOMEM. */
MUST_CHECK int journal_row_decode(struct journal_state *s, struct bytes key, struct bytes value);
/* Every row in memory, in the order of journal_row_decode. fn gets c by pointer. */
MUST_CHECK int journal_row_each(const struct journal_state *s,
				int (*fn)(const struct journal_change *, void *), void *arg);
