#pragma once
/* The difference that a run or one of its steps makes, answered to a client (GET /v1/runs/R/diff). */
#include "supervisor/daemon.h"

/* stat: a JSON list at once. Else a->later: diff(1) runs in a sandbox, its output is the answer. step NULL = the whole run. */
MUST_CHECK int diffs_answer(struct daemon *d, const struct journal_run *run, const struct journal_step *step, bool stat, uint64_t ticket,
			    struct api_answer *a, struct error *err);
