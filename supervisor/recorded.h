#pragma once
/*
 * What a run's journal has of what its steps asked for outside: effects with their canonical
 * actions, and the batches of plain reads and of what was denied unasked, which keep less. For those
 * who decide it again (replay.h) or draft rules from it (wants.h).
 */
#include "supervisor/daemon.h"

struct recorded { /* borrowed for the call */
	const struct journal_step *step;
	const struct journal_effect *effect; /* NULL: a read or a refusal */
	const struct action *action; /* of effect */
	struct bytes body; /* of effect, as far as rules look into it */
	const struct report_read *read; /* where effect is NULL: no query, no body, a path that may be
					   cut */
};
/* In order: the effects, then the reads. The first result of fn that is not 0 is returned. */
MUST_CHECK int recorded_each(struct daemon *d, const struct journal_run *run,
			     int (*fn)(const struct recorded *r, void *arg), void *arg,
			     struct error *err);

/* A name that the gate did not resolve: no rule names it. */
bool recorded_is_name(const struct report_read *r);
/* The read's path is not whole. */
bool recorded_is_cut(const struct report_read *r);
