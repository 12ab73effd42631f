#pragma once
/*
 * Whether the layers that a step is to stand on are what was sealed. A state directory is restored,
 * moved and tidied up by people: a layer may be gone, or be half of itself, and a step must not run
 * on that. What this process saw sealed is only looked for; what an earlier one sealed is compared
 * once with its manifest, path by path: type, mode, size, opaque mark, and the content of files up
 * to INTACT_HASHED_MAX bytes a stack, since the supervisor serves nobody meanwhile.
 */
#include "supervisor/runs.h"

enum { INTACT_HASHED_MAX = 16 * 1024 * 1024 }; /* 10 ms a stack where SHA-256 is in the processor */

/* -EUCLEAN, with the layer, the step that it is of and the remedy in *err; -EMFILE, -ENFILE,
 * -ENOMEM: that could not be seen, and it may be well. stack: names of sealed layers of the run. */
MUST_CHECK int intact_stack(struct daemon *d, struct runs_context *ctx,
			    const char (*stack)[JOURNAL_LAYER_NAME_SIZE], size_t count,
			    struct error *err);
/* The same of all that would land, compared anew though this process saw it sealed: what lands is
 * to be whole, and looking costs little beside landing, which hashes what it lays down. */
MUST_CHECK int intact_landing(struct daemon *d, struct runs_context *ctx, struct error *err);
/* This process saw it sealed. */
void intact_note(struct runs_context *ctx, const char *layer);
