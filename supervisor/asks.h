#pragma once
/*
 * Whether the policy asks a person before a step starts: an exec rule with `do: ask` for its
 * program or for one of its checks. The step is then gated as by `gate: ask` of its plan.
 */
#include "supervisor/daemon.h"

enum { ASKS_WHY_MAX = 352 };

/* True with why in words, "FILE:LINE:COLUMN: WHY"; why may be NULL. */
bool asks_before(struct daemon *d, const struct journal_run *run, const struct plan_step *spec,
		 char why[ASKS_WHY_MAX]);
/* Whether a person let this step start. */
bool asks_answered(const struct daemon *d, const struct journal_id *run, uint32_t step);
