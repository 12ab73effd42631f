#include "sandbox/gate/exchange_state.h"

bool exchange_state_may(enum exchange_state from, enum exchange_state to)
{
	static const unsigned legal[] = {
		[EXCHANGE_BODY] = 1U << EXCHANGE_ATTEMPT | 1U << EXCHANGE_ASKED |
				  1U << EXCHANGE_DIALING | 1U << EXCHANGE_DONE,
		[EXCHANGE_ATTEMPT] =
			1U << EXCHANGE_ASKED | 1U << EXCHANGE_DIALING | 1U << EXCHANGE_DONE,
		/* To itself: sent before, and told to send again where there is no memory for it. */
		[EXCHANGE_ASKED] = 1U << EXCHANGE_ASKED | 1U << EXCHANGE_DIALING |
				   1U << EXCHANGE_HELD | 1U << EXCHANGE_DELIVERING |
				   1U << EXCHANGE_DONE,
		/* To itself: on another connection, or after a while. */
		[EXCHANGE_DIALING] = 1U << EXCHANGE_ASKED | 1U << EXCHANGE_DIALING |
				     1U << EXCHANGE_SENDING | 1U << EXCHANGE_HELD |
				     1U << EXCHANGE_DONE,
		[EXCHANGE_SENDING] = 1U << EXCHANGE_ASKED | 1U << EXCHANGE_DIALING |
				     1U << EXCHANGE_HELD | 1U << EXCHANGE_DONE,
		[EXCHANGE_HELD] = 1U << EXCHANGE_DELIVERING | 1U << EXCHANGE_DONE,
		[EXCHANGE_DELIVERING] = 1U << EXCHANGE_DONE,
		[EXCHANGE_DONE] = 0,
	};

	return legal[from] & 1U << to;
}
