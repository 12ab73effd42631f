#pragma once
/*
 * Votes as they come over the socket: who says so, whether a signature is good, and what became of
 * it. What a vote does is the engine's (engine_vote).
 *
 * A signed vote is verified by `ssh-keygen -Y verify` in a sandbox of its own, against the
 * allowed-signers file as it was when the run was created (runs_settings.signers), so that nobody
 * adds a key to a run that waits. Nothing of the request counts then but the signed bytes.
 */
#include "supervisor/daemon.h"

/*
 * POST /v1/approvals/A/vote. a: of the item. file: blob of the answer's file, zero = none. Fills
 * *answer, or says a->later and answers q's ticket.
 */
MUST_CHECK int votes_post(struct daemon *d, struct api_request *q, const struct journal_approval *a,
			  const struct digest *file, struct api_answer *answer, struct error *err);

/* POST /v1/approvals/A/preview {match}: what a grant of that pattern would have let of the run's
 * last VOTES_PREVIEW actions. */
enum { VOTES_PREVIEW = 100 };
MUST_CHECK int votes_preview(struct daemon *d, const struct api_request *q,
			     const struct journal_approval *a, struct api_answer *answer,
			     struct error *err);

/* The allowed-signers file that the policy names, as it is now, for a run that is created. NULL in
 * *ret where it names none. -EPERM: another user could have written it. */
MUST_CHECK int votes_read_signers(const struct policy_effective *e, struct buffer *ret,
				  struct error *err);
