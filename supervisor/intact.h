#pragma once
/*
 * Whether the layers that a step is to stand on are what was sealed. A state directory is restored,
 * moved and tidied up by people: a layer may be gone, or be half of itself, and a step must not run
 * on that. What this process saw sealed is only looked for; what an earlier one sealed is compared
 * once with its manifest, path by path: type, mode, size, opaque mark. Content is not hashed here.
 */
#include "supervisor/runs.h"

/* -EUCLEAN, with the layer, the step that it is of and the remedy in *err; -EMFILE, -ENFILE,
 * -ENOMEM: that could not be seen, and it may be well. stack: names of sealed layers of the run. */
MUST_CHECK int intact_stack(struct daemon *d, struct runs_context *ctx,
			    const char (*stack)[JOURNAL_LAYER_NAME_SIZE], size_t count,
			    struct error *err);
/* The same of all that would land, compared anew though this process saw it sealed: what lands is
 * to be whole, and looking costs little beside landing. */
MUST_CHECK int intact_landing(struct daemon *d, struct runs_context *ctx, struct error *err);
/* This process saw it sealed. */
void intact_note(struct runs_context *ctx, const char *layer);
