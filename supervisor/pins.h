#pragma once
/*
 * Pinned bases (`base: pinned`): v1/pins/<run id>, the workspace as it was when the run began,
 * whole and on disk before the run's first record. Steps, sealing and diffs see it in the
 * workspace's place; landing goes to the workspace, and compares with that. It goes when the run is
 * over: a fork has a copy of its own.
 */
#include "supervisor/daemon.h"

/* Copies the tree below from (workspace_pin: its limits and remedies). Blocks for as long as that
 * takes. */
MUST_CHECK int pins_make(struct daemon *d, const struct journal_id *run, int from,
			 struct error *err);
/* Its folder, or -ENOENT. */
MUST_CHECK int pins_open(const struct daemon *d, const struct journal_id *run);
void pins_remove(struct daemon *d, const struct journal_id *run); /* also half of one, and none */
/* Removes those of runs that are over or were never begun. Between turns of the loop. */
void pins_collect(struct daemon *d);
