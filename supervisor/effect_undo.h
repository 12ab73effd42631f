#pragma once
/*
 * An effect that was confirmed and is reversible is taken back: the tool that its rule names under
 * `undo` runs, for a person who asks. Its exit status 0 makes the effect COMPENSATED.
 *
 * The tool gets --key=KEY, the effect's idempotency key, a tool's own arguments behind it, and the
 * request's body on standard input. A supervisor that dies meanwhile leaves the effect CONFIRMED: it
 * is asked for again, with the same key, so the tool must do nothing twice for one key.
 */
#include "supervisor/daemon.h"
#include "supervisor/effect_decide.h"

struct undos; /* opaque: which run now */
MUST_CHECK int effect_undo_new(struct undos **ret);
void effect_undo_free(struct undos *u); /* accepts NULL */
/* Whether an effect of the run is being taken back, and no record tells it yet. */
bool effect_undo_holds(const struct undos *u, const struct journal_id *run);

/* What its rule says now of taking it back: tool or text; both NULL = nothing. Owned by *ret. */
struct effect_undo {
	char *tool, *text;
};
void effect_undo_clear(struct effect_undo *u); /* accepts a zeroed one */
MUST_CHECK int effect_undo_of(struct daemon *d, const struct journal_run *run,
			      const struct journal_effect *f, struct effect_undo *ret,
			      struct error *err);

/* Starts the tool; the answer goes to ticket when it has ended. -EALREADY, -EBUSY, -EINVAL where there
 * is nothing to take back, -ENOTSUP where the rule says how, and names no tool. */
MUST_CHECK int effect_undo_start(struct daemon *d, const struct journal_run *run,
				 const struct journal_effect *f, uint32_t uid, uint64_t ticket,
				 struct error *err);
