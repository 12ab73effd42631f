#pragma once
/* What the files of the fold share. Pure. */
#include "journal/rows.h"

MUST_CHECK int journal_fold_refuse(struct error *err, const struct journal_record *r,
				   const char *why);
MUST_CHECK int journal_fold_refuse_transition(struct error *err, const struct journal_record *r,
					      const char *what, const char *state);
MUST_CHECK int journal_fold_set_text(char **to, struct bytes text); /* a copy, instead of *to */
/* A field of the row becomes what the record r says of it, where it says so. */
#define TAKE(row, r, field)                          \
	do {                                         \
		if (JOURNAL_HAS(&(r)->p, field))     \
			(row)->field = (r)->p.field; \
	} while (0)
bool journal_fold_attempt_lives(const struct journal_attempt *a); /* NULL: no */

/* ---- fold_effect.c ---- */
MUST_CHECK int journal_fold_effect(struct journal_state *s, struct journal_run *run,
				   const struct journal_record *r, struct error *err);
