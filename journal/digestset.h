#pragma once
/* A set of digests: open addressing; digests are their own hash. Pure but for the heap. */
#include "base/digest.h"

struct journal_digestset {
	struct digest *slot; /* owned; all zero = free: the zero digest stands for "none" and is
				never added */
	size_t count, cap;
};

void journal_digestset_free(struct journal_digestset *s);
/* 1 if it was new, 0 if it was there (or is zero), -ENOMEM. */
MUST_CHECK int journal_digestset_add(struct journal_digestset *s, const struct digest *d);
bool journal_digestset_has(const struct journal_digestset *s, const struct digest *d);
