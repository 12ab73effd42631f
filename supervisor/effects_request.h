#pragma once
/*
 * Which client of a courier waits for which effect, and the ANSWER that it is told. A request is
 * owned by its channel. Answers report no errors but that of _send: what cannot be said is logged,
 * and where the channel ends for it the next HELLO brings the question again.
 */
#include "supervisor/effects_channel.h"

/*
 * A client that waits for an effect. What its courier does (enum exchange_state), `sent`, and the
 * effect's row go together:
 *
 *   courier           sent         row
 *   ASKED             false        PROPOSED, WAITING, ALLOWED, IN_DOUBT; RESERVED and not on disk
 *                                  yet, or for another request
 *   DIALING, SENDING  true         RESERVED
 *   HELD              true         RESERVED; CONFIRMED or REFUSED once RESULT came, until RELEASE
 *   DELIVERING, gone  no request   CONFIRMED, or turned down: RELEASE, REPLAY or DENY dropped it
 *
 * A RESULT of doubt puts the courier back to ASKED, and `sent` to false. A tool runs here: its
 * courier stays ASKED the while. Of what an earlier supervisor had sent there is no request before
 * its RESULT; the courier's HELLO names the effect.
 */
struct effects_request {
	struct effects_request *next;
	uint64_t number;
	struct journal_id effect;
	bool sent; /* it was told to send, and that is not over */
};

/* NULL: none. _for: any of the effect. */
struct effects_request *effects_request_of(const struct effects_channel *c, uint64_t number);
struct effects_request *effects_request_for(const struct effects_channel *c,
					    const struct journal_id *effect);
/* Freed; answers do not do that by themselves. */
void effects_request_drop(struct effects_channel *c, struct effects_request *r);
/* Not told to send. One of this number is for that effect from now on. -ENOMEM. */
MUST_CHECK int effects_request_add(struct effects_channel *c, uint64_t number,
				   const struct journal_id *effect);

/* DENY in the supervisor's words, with a status of HTTP; of a request that need not be here. */
void effects_request_deny(struct effects_channel *c, uint64_t number,
			  const struct journal_id *effect, int status, const char *rule,
			  const char *why, const char *hint);
/* DENY in those of the effect's row. */
void effects_request_turn_down(struct effects_channel *c, const struct effects_request *r,
			       const struct journal_effect *f);
/* SEND. Negative errno: it was never said, so nothing was sent. */
MUST_CHECK int effects_request_send(struct effects_channel *c, struct effects_request *r,
				    const struct journal_run *run, const struct journal_effect *f);
/* REPLAY of the recorded response, or DENY where it cannot be read. */
void effects_request_replay(struct effects_channel *c, const struct effects_request *r,
			    const struct journal_effect *f);
