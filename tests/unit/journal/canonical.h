#pragma once
/* All rows of a state as bytes: live state equals replayed state where these do. */
#include "base/cbor.h"
#include "journal/row.h"

struct canonical_walk {
	const struct journal_state *s;
	struct buffer *out;
};

static inline int canonical_write(const struct journal_change *c, void *arg)
{
	const struct canonical_walk *w = arg;
	AUTO_BUFFER key = {0};
	AUTO_BUFFER value = {0};
	int rc = journal_row_key(c, &key);
	if (rc == 0)
		rc = journal_row_encode(w->s, c, &value);
	if (rc < 0)
		return rc;
	cbor_w_bytes(w->out, buffer_bytes(&key));
	cbor_w_raw(w->out, buffer_bytes(&value));
	return w->out->failed;
}

static inline int canonical_rows(const struct journal_state *s, struct buffer *out)
{
	struct canonical_walk w = {s, out};
	return journal_row_each(s, canonical_write, &w);
}
