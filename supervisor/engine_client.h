#pragma once
/*
 * Who waits for an effect, and what was done about it by itself: the one thing that is not in the
 * rows. A run's list owns them; one that was found stays where it is until the next is got or
 * dropped. After a crash the couriers say all of it again. Pure.
 */
#include "supervisor/engine_private.h"

/*
 * What was done by itself about an effect for whoever waits for it, beside what its row says:
 *
 *   UNTOLD         nothing, or once, in doubt: where its rule says so it is sent once more
 *   TOLD           RESERVED: its client was told to send, and the outcome is to come
 *   TOLD_AGAIN     as TOLD, for the second time since its client asked
 *   SPENT          IN_DOUBT after both: only its client can have it sent again, by asking
 *   PROBING        IN_DOUBT: its probe was asked, and has not answered
 *   PROBE_UNKNOWN  IN_DOUBT: the probe could not tell, so a person is asked
 *
 *   UNTOLD      -> TOLD           reserved; or the courier says that it is sending
 *   UNTOLD      -> TOLD_AGAIN     reserved out of doubt
 *   UNTOLD      -> PROBING
 *   TOLD        -> UNTOLD         in doubt, or a courier attaches, which says itself what it sends
 *   TOLD_AGAIN  -> SPENT          in doubt
 *   TOLD_AGAIN  -> TOLD           its client asks again meanwhile
 *   TOLD_AGAIN  -> UNTOLD         a courier attaches
 *   SPENT       -> UNTOLD         its client asks again, or a courier attaches
 *   PROBING     -> PROBE_UNKNOWN
 *
 * Whatever ends the effect, or its doubt, forgets the client.
 */
enum engine_client_state {
	ENGINE_CLIENT_UNTOLD,
	ENGINE_CLIENT_TOLD,
	ENGINE_CLIENT_TOLD_AGAIN,
	ENGINE_CLIENT_SPENT,
	ENGINE_CLIENT_PROBING,
	ENGINE_CLIENT_PROBE_UNKNOWN,
};

/* Who waits for an effect: what the rows do not say. */
struct engine_client {
	struct journal_id effect, courier;
	uint64_t request; /* that is told to send */
	enum engine_client_state state; /* engine_client_move */
	bool attached; /* it waits now. One that goes away is forgotten, but for what is under way
			  (TOLD..) or was learnt (PROBE..) */
};

/* NULL: nobody waits. */
struct engine_client *engine_client_of(const struct engine_run *r, const struct journal_id *effect);
/* The same, made where there is none: UNTOLD, not attached. NULL with e->failed. */
struct engine_client *engine_client_get(struct engine *e, struct engine_run *r,
					const struct journal_id *effect);
void engine_client_drop(struct engine_run *r, const struct journal_id *effect);
/* The one setter of its state. */
void engine_client_move(struct engine_client *c, enum engine_client_state to);
bool engine_client_is_told(const struct engine_client *c);
/* What it was told to send came to no outcome. */
void engine_client_in_doubt(struct engine_client *c);
/* What was sent by itself does not count any more. */
void engine_client_asks(struct engine_client *c);
/* Its courier is gone, or will say again who waits and what is being sent. */
void engine_client_detach(struct engine_client *c);
bool engine_client_attached(const struct engine_run *r, const struct journal_effect *f);
