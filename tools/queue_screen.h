#pragma once
/*
 * holdfast queue -i: the queue on a terminal, one item at a time.
 *
 * What a person sees is what they decide. The screen is the alternate one and wholly ours: all that
 * comes from outside is escaped and wrapped, never cut, and the card's last line must have been on
 * the screen before anything can be said to it. What was typed before a card stood there is thrown
 * away, and nothing counts for QUEUE_SCREEN_DEAD_MS after it appears; what is pasted never counts.
 * A decision is a word that is typed out; Enter alone decides nothing. The time the card was on the
 * screen goes with the vote.
 */
#include "tools/client.h"

enum {
	QUEUE_SCREEN_DEAD_MS = 300,
	QUEUE_SCREEN_REFRESH_MS = 2000,
	QUEUE_SCREEN_ROWS_MAX = 4096, /* wrapped rows of one card */
	QUEUE_SCREEN_WORD_MAX = 32,
};

/* Until the person leaves it. Signs nothing: an item that wants signed votes says what to type. */
MUST_CHECK int queue_screen(struct client *c, struct error *err);
