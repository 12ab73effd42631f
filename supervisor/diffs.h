#pragma once
/* The difference that a run or one of its steps makes: answered to a client (GET /v1/runs/R/diff),
 * or for a card. */
#include "supervisor/cards.h"
#include "supervisor/daemon.h"
#include "supervisor/landing_plan.h"
#include "supervisor/work.h"

enum diffs_flags {
	DIFFS_STAT = 1 << 0, /* a JSON list */
	DIFFS_ALL = 1 << 1, /* also what would not land; else that is counted */
};

/* a->later: what is compared is laid out aside (aside.h), then, without DIFFS_STAT, diff(1) runs in a
 * sandbox, its output is the answer. step NULL = the whole run. */
MUST_CHECK int diffs_answer(struct daemon *d, const struct journal_run *run,
			    const struct journal_step *step, unsigned flags, uint64_t ticket,
			    struct api_answer *a, struct error *err);
/* Lays out exactly what plan does, aside, and starts diff(1) over it; when it has ended, or there is
 * nothing to compare, card is finished with it. 0: card, the stacks' content and *skipped are taken
 * over; *skipped, of card, becomes the number of files that are not compared. plan is of card. */
MUST_CHECK int diffs_for_card(struct daemon *d, const struct journal_run *run,
			      struct work_stack *below, struct work_stack *layers,
			      const struct landing_plan *plan, struct cards_work *card,
			      uint64_t *skipped, struct error *err);
/* The same from the first version of each conflict to the second, of the paths that a card lists. 1:
 * there is nothing to compare, and only *skipped was set. */
MUST_CHECK int diffs_for_conflict(struct daemon *d, const struct journal_run *run,
				  struct work_stack *layers, const struct landing_plan *conflicts,
				  struct cards_work *card, uint64_t *skipped, struct error *err);
/* When diff(1) has ended: its folder goes, aside; one that a supervisor that ends leaves goes as
 * below. */
void diffs_remove(struct daemon *d, const char *name);
/* At start: removes the folders of diffs that an earlier supervisor did not come to remove. */
void diffs_sweep(struct daemon *d);
