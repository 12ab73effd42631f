#pragma once
/* What the files of the fold share. Pure. */
#include "journal/rows.h"

MUST_CHECK int journal_fold_refuse(struct error *err, const struct journal_record *r,
				   const char *why);
MUST_CHECK int journal_fold_refuse_transition(struct error *err, const struct journal_record *r,
					      const char *what, const char *state);
MUST_CHECK int journal_fold_set_text(char **to, struct bytes text); /* a copy, instead of *to */
bool journal_fold_attempt_lives(const struct journal_attempt *a); /* NULL: no */

/* ---- fold_effect.c ---- */
MUST_CHECK int journal_fold_effect(struct journal_state *s, struct journal_run *run,
				   const struct journal_record *r, struct error *err);
/* Something of the step (JOURNAL_NO_STEP: of the run) was sent and has no outcome; with doubt: or
 * nobody knows it. */
bool journal_fold_effect_blocks(const struct journal_run *run, uint32_t step, bool doubt);
