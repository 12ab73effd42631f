#pragma once
/* Effects as the JSON of supervisor.h: what was sent and what came back. Reads only. */
#include "supervisor/daemon.h"

/* One line of a list: what, by which rule, who approved, what came of it. */
json_t *effect_view_line(struct daemon *d, const struct journal_run *run,
			 const struct journal_effect *f);
/* The line's members and all of action and response but the bodies. NULL with *err. */
json_t *effect_view_whole(struct daemon *d, const struct journal_run *run,
			  const struct journal_effect *f, struct error *err);
/* The payload of EFFECT_READS: one object each. */
json_t *effect_view_reads(struct bytes reads);
