#pragma once
/*
 * Squashed layers: the lower part of a deep stack as one layer, so that a step's lookups do not pay
 * for each step before it and mount options, which are one page, hold any run. A cache and no more:
 * the journal, landing and diff name the sealed layers only; a squashed one is made in the
 * background while its stack is used as it is, is known to the process that asked for it alone, and
 * is made again when another supervisor needs it. So none that is half made is ever used.
 *
 * Its name begins with SQUASH_MARK, which no attempt's layer does: what an earlier supervisor left
 * is told by that, and removed once no attempt lives that may stand on it.
 */
#include "supervisor/daemon.h"

enum {
	SQUASH_DEPTH_WAIT = 64, /* a deeper stack waits for its squash */
	SQUASH_DEPTH_MOUNT = 96, /* of any mount; options end near 104 layers */
	SQUASH_MARK = '0', /* op_layer_name() of daemon.c draws from a-z and 2-7 */
};

struct squash; /* opaque */

MUST_CHECK int squash_new(struct squash **ret);
void squash_free(struct squash *s); /* accepts NULL */

struct squash_stack {
	/* bottom first; borrowed until the next turn of the loop. One more has room: a check
	 * puts the layer that it looks at on top. */
	const char *layers[SQUASH_DEPTH_MOUNT + 1];
	size_t count;
	char used[JOURNAL_LAYER_NAME_SIZE]; /* the squashed one among them; empty = none */
};

enum { SQUASH_WAITS = 1 };
/*
 * The layers to mount for a stack of a run: the sealed ones, or a squashed one and those above it.
 * Asks for a squash where they are more than LAYERS_SQUASH_AT and none is on its way. SQUASH_WAITS:
 * they are too many, attempts_squashed() is called when there is news. failed: the last squash of
 * this run came to nothing, so as many as can be mounted will do; -EAGAIN when they are more.
 */
MUST_CHECK int squash_stack(struct daemon *d, const struct journal_id *run,
			    const char (*stack)[JOURNAL_LAYER_NAME_SIZE], size_t count, bool failed,
			    struct squash_stack *ret, struct error *err);
/* The sealer's answer to the squash that makes `into`. */
void squash_done(struct daemon *d, const char *into, int result);
/* Whether a name is a squashed layer's, and one that this process knows. */
bool squash_is(const char *layer);
bool squash_knows(const struct daemon *d, const char *layer);
/* Removes those that no run needs any more. Between turns of the loop. */
void squash_collect(struct daemon *d);
