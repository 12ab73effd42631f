#pragma once
/* The difference that a run or one of its steps makes: answered to a client (GET /v1/runs/R/diff),
 * or for a card. */
#include "supervisor/cards.h"
#include "supervisor/daemon.h"
#include "supervisor/landing_plan.h"
#include "supervisor/work.h"

enum diffs_flags {
	DIFFS_STAT = 1 << 0, /* a JSON list, at once */
	DIFFS_ALL = 1 << 1, /* also what would not land; else that is counted */
};

/* Without DIFFS_STAT a->later: diff(1) runs in a sandbox, its output is the answer. step NULL = the
 * whole run. */
MUST_CHECK int diffs_answer(struct daemon *d, const struct journal_run *run,
			    const struct journal_step *step, unsigned flags, uint64_t ticket,
			    struct api_answer *a, struct error *err);
/* Starts diff(1) over exactly what plan does; when it has ended, card is finished with it. 0: card
 * is taken over. 1: there is nothing to compare. *ret_skipped: files that are not compared. */
MUST_CHECK int diffs_for_card(struct daemon *d, const struct journal_run *run,
			      const struct work_stack *below, const struct work_stack *layers,
			      const struct landing_plan *plan, struct cards_work *card,
			      uint64_t *ret_skipped, struct error *err);
/* The same from the first version of each conflict to the second, of the paths that a card lists. */
MUST_CHECK int diffs_for_conflict(struct daemon *d, const struct journal_run *run,
				  const struct work_stack *layers,
				  const struct landing_plan *conflicts, struct cards_work *card,
				  uint64_t *ret_skipped, struct error *err);
/* At start: removes the folders of diffs that an earlier supervisor did not come to remove. */
void diffs_sweep(struct daemon *d);
