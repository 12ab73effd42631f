#pragma once
/*
 * Where a request or tunnel of the courier stands, and which way it may go from there. Pure.
 *
 *   BODY -> [ATTEMPT] -> decided: denied | plain read -> DIALING | effect -> ASKED
 *   ASKED -> DIALING (SEND) | DELIVERING (REPLAY) | gone (DENY)
 *   DIALING -> SENDING -> gone (plain read) | HELD (RESULT CONFIRMED) | ASKED (RESULT DOUBT)
 *   DIALING -> HELD (RESULT REFUSED: not one byte was sent)
 *   HELD -> DELIVERING (RELEASE) -> gone
 *
 * From each it may end; DONE is never left.
 */
#include <stdbool.h>

enum exchange_state {
	EXCHANGE_BODY, /* new, or its body is being spooled; nothing is decided */
	EXCHANGE_ATTEMPT, /* the supervisor has not told of its attempt yet */
	EXCHANGE_ASKED, /* proposed, no answer yet; or in doubt, and asked again */
	EXCHANGE_DIALING, /* to be sent; not one byte is, this time */
	EXCHANGE_SENDING, /* bytes are out */
	EXCHANGE_HELD, /* RESULT is said; the last bytes wait for RELEASE */
	EXCHANGE_DELIVERING, /* the rest goes inside */
	EXCHANGE_DONE, /* over: no callback, number or list leads to it any more; freed by the loop */
};

bool exchange_state_may(enum exchange_state from, enum exchange_state to);
