#pragma once
/*
 * What the files of the fold share. Pure.
 *
 * Those that take a record get it after fold.c has looked: it is well formed and the next of its
 * chain, and run is its run. They refuse it (-EPROTO in *err) before they change anything.
 */
#include "journal/rows.h"

MUST_CHECK int journal_fold_refuse(struct error *err, const struct journal_record *r,
				   const char *why);
MUST_CHECK int journal_fold_refuse_transition(struct error *err, const struct journal_record *r,
					      const char *what, const char *state);
MUST_CHECK int journal_fold_set_text(char **to, struct bytes text); /* a copy, instead of *to */
/* The reason of the newest transition, or none: an old one never explains a new state. */
MUST_CHECK int journal_fold_set_why(char **to, const struct journal_record *r);
/* Something goes on: what held the landing up is history. */
void journal_fold_forget_failure(struct journal_run *run);
/* A field of the row becomes what the record r says of it, where it says so. */
#define TAKE(row, r, field)                          \
	do {                                         \
		if (JOURNAL_HAS(&(r)->p, field))     \
			(row)->field = (r)->p.field; \
	} while (0)

/* ---- fold_step.c ---- */
bool journal_fold_attempt_lives(const struct journal_attempt *a); /* NULL: no */
MUST_CHECK int journal_fold_declare_step(struct journal_state *s, struct journal_run *run,
					 const struct journal_record *r, struct error *err);
MUST_CHECK int journal_fold_step(struct journal_state *s, struct journal_run *run,
				 const struct journal_record *r, struct error *err);
MUST_CHECK int journal_fold_start_attempt(struct journal_state *s, struct journal_run *run,
					  const struct journal_record *r, struct error *err);
MUST_CHECK int journal_fold_attempt(struct journal_state *s, struct journal_run *run,
				    const struct journal_record *r, struct error *err);

/* ---- fold_approval.c ---- */
MUST_CHECK int journal_fold_open_approval(struct journal_state *s, struct journal_run *run,
					  const struct journal_record *r, struct error *err);
MUST_CHECK int journal_fold_approval(struct journal_state *s, struct journal_run *run,
				     const struct journal_record *r, struct error *err);

/* ---- fold_effect.c ---- */
MUST_CHECK int journal_fold_effect(struct journal_state *s, struct journal_run *run,
				   const struct journal_record *r, struct error *err);
