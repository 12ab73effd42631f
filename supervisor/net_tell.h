#pragma once
/*
 * What the courier of a run is told. None of it is kept: a courier that is new is told again. Each
 * is -ENOTCONN where the run's channel is gone.
 */
#include "supervisor/attempts.h"

/* The servers that it asks for names. */
MUST_CHECK int net_tell_settings(struct daemon *d, const struct journal_id *run);
/* policy: the step's. seed: of the run's placeholders. A secret or a file of trust anchors that
 * cannot be read is logged and left out: what needs it is refused, and nothing else. */
MUST_CHECK int net_tell_attempt(struct daemon *d, const struct attempt *a,
				const struct policy_effective *policy, const struct digest *seed,
				struct error *err);
MUST_CHECK int net_tell_attempt_end(struct daemon *d, const struct attempt *a);
