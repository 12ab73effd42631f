#pragma once
/*
 * The engine's commands that need neither keeper nor sandbox: planning and applying a landing (and
 * cards, which are cards.c's). Their parts are pure or are landing.c's; here the blobs, manifests
 * and policies that they need are found.
 *
 * Landing blocks (it walks, hashes and syncs), so that is done beside the loop (aside.h).
 */
#include "supervisor/daemon.h"
#include "supervisor/diff.h"
#include "supervisor/landing.h"

/* ENGINE_CARD, ENGINE_PLAN_LANDING, ENGINE_APPLY_LANDING. Failures are told to the engine. */
void work_perform(struct daemon *d, const struct engine_command *c);
/* The committed layers of a run, with their manifests and policies, bottom first, of those before
 * `below` (NULL = all). */
struct work_stack {
	struct landing_layer *layers; /* owned, with what they point to */
	struct policy_effective **effective;
	struct policy_fs **fs;
	size_t count;
};
MUST_CHECK int work_stack(struct daemon *d, const struct journal_run *run,
			  const struct journal_step *below, struct work_stack *ret,
			  struct error *err);
/* The layer of one step alone. */
MUST_CHECK int work_layer(struct daemon *d, const struct journal_run *run,
			  const struct journal_step *step, struct work_stack *ret,
			  struct error *err);
void work_stack_free(struct work_stack *s); /* accepts a zeroed one */
/* The run's own table of paths. *ret is the caller's. */
MUST_CHECK int work_table(struct daemon *d, const struct journal_run *run, struct policy_fs **ret,
			  struct error *err);
/* What of these layers would land, as diff_landing has it: whatever the user's directory holds by
 * now. */
MUST_CHECK int work_landing(struct daemon *d, const struct journal_run *run,
			    const struct work_stack *below, const struct work_stack *layers,
			    struct landing_plan **ret, struct error *err);
void work_source(struct daemon *d, struct landing_source *ret);
