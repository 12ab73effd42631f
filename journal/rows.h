#pragma once
/*
 * The rows in memory: owned by struct journal_state, changed by the fold alone, encoded for the store
 * by row.c. Pure.
 */
#include "journal/journal.h"

/* Pointers kept in order by a comparison; binary search. */
struct journal_rows_list {
	void **item;
	size_t count, cap;
};

enum journal_row_kind { /* first byte of a state key; never reused */
			JOURNAL_ROW_DAEMON = 'd',
			JOURNAL_ROW_RUN = 'r',
			JOURNAL_ROW_STEP = 's',
			JOURNAL_ROW_ATTEMPT = 'a',
			JOURNAL_ROW_APPROVAL = 'p',
			JOURNAL_ROW_TIMER = 't',
			JOURNAL_ROW_LEASE = 'l',
			JOURNAL_ROW_TRUST = 'u',
			JOURNAL_ROW_EFFECT = 'e',
};

/* One row that a fold touched; unused parts are zero. A run id with kind RUN and gone: the run left
 * with all its rows. */
struct journal_change {
	enum journal_row_kind kind;
	bool gone;
	struct journal_id run, id; /* id: of an approval, timer or effect */
	uint32_t step, attempt, effect; /* effect: its number */
	uint64_t dev, ino; /* lease */
	char *path; /* trust; owned */
};

struct journal_state {
	struct journal_rows_list runs, runs_by_time;
	struct journal_rows_list approvals, approvals_by_time;
	struct journal_rows_list timers, timers_by_due;
	struct journal_rows_list leases, trusts;
	/* rows_effect.c: hashed; the runs own the rows */
	struct journal_effect **effects_by_id;
	struct journal_effect_group **effect_groups;
	size_t effect_buckets, effect_count; /* buckets: of each of the two; a power of two */
	uint64_t epoch, last_lsn;
	uint64_t daemon_seq;
	struct digest daemon_head;
	struct journal_change *changes;
	size_t change_count, change_cap;
	bool track_changes; /* a store reads them; else they are not kept */
};

/* Mutable look-ups for the fold and the loader. NULL = not there. */
struct journal_run *journal_rows_run(const struct journal_state *s, const struct journal_id *id);
struct journal_approval *journal_rows_approval(const struct journal_state *s,
					       const struct journal_id *id);
struct journal_timer *journal_rows_timer(const struct journal_state *s,
					 const struct journal_id *id);
struct journal_lease *journal_rows_lease(const struct journal_state *s, uint64_t dev, uint64_t ino);
struct journal_trust *journal_rows_trust(const struct journal_state *s, const char *path);

/* Put a finished row into its lists and take it over, also on failure. 0, -ENOMEM, -EEXIST. */
MUST_CHECK int journal_rows_add_run(struct journal_state *s, struct journal_run *run);
MUST_CHECK int journal_rows_add_approval(struct journal_state *s, struct journal_approval *a);
MUST_CHECK int journal_rows_add_timer(struct journal_state *s, struct journal_timer *t);
MUST_CHECK int journal_rows_add_lease(struct journal_state *s, struct journal_lease *l);
MUST_CHECK int journal_rows_add_trust(struct journal_state *s, struct journal_trust *t);
MUST_CHECK int journal_rows_add_step(struct journal_run *run, struct journal_step *step);
MUST_CHECK int journal_rows_add_attempt(struct journal_step *step, const struct journal_attempt *a);
/* The next of its run: number is effect_count. */
MUST_CHECK int journal_rows_add_effect(struct journal_state *s, struct journal_run *run,
				       struct journal_effect *e);
/* The one setter of an effect's state: keeps run->open. */
MUST_CHECK int journal_rows_effect_state(struct journal_run *run, struct journal_effect *e,
					 enum journal_effect_state state);
struct journal_effect *journal_rows_effect(const struct journal_state *s,
					   const struct journal_id *id);
void journal_rows_effect_remove_all(struct journal_state *s, struct journal_run *run);
void journal_rows_effect_free_index(struct journal_state *s);
void journal_rows_free_effect(struct journal_effect *e);
/* A timer that is no longer ARMED leaves the due list. */
void journal_rows_timer_ended(struct journal_state *s, struct journal_timer *t);
void journal_rows_remove_trust(struct journal_state *s, struct journal_trust *t);
/* The run and all rows that belong to it, out of memory. */
void journal_rows_remove_run(struct journal_state *s, const struct journal_id *id);

MUST_CHECK int journal_rows_mark(struct journal_state *s, struct journal_change c);
void journal_rows_clear_changes(struct journal_state *s);

void journal_rows_free_run(struct journal_run *run);
void journal_rows_free_step(struct journal_step *step);
void journal_rows_free_approval(struct journal_approval *a);
void journal_rows_free_trust(struct journal_trust *t);
