#pragma once
/* Heads of chains, as an anchor lists them: array of [run id, seq, digest], ascending by id. Pure.
 */
#include "journal/journal.h"

struct journal_head {
	struct journal_id run;
	uint64_t seq; /* of the run's last record */
	struct digest hash; /* of the same */
};

/* Appends the array; heads need not be sorted before (they are afterwards). 0 or the buffer's
 * error. */
MUST_CHECK int journal_heads_encode(struct journal_head *heads, size_t count, struct buffer *out);
/* Calls fn for each head; the first value other than 0 stops it and is returned. -EBADMSG if raw is
 * malformed. */
MUST_CHECK int journal_heads_each(struct bytes raw, int (*fn)(const struct journal_head *, void *),
				  void *arg);
