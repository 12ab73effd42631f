#pragma once
/*
 * ENGINE_CARD: what a card is made of is found here; card.c renders it. A landing's, a
 * conflict's and a step commit's card show the first changed lines, and those are made by diff(1) in a sandbox: such a
 * card is finished when that has ended. Nothing of it is durable before: lost with the supervisor,
 * the card is asked for again (engine_recover).
 */
#include "supervisor/daemon.h"

enum {
	CARDS_DIFF_BYTES = 256 * 1024, /* of diff(1)'s output that is looked at for a card */
	CARDS_DIFF_TOTAL_MAX =
		16 * 1024 *
		1024, /* bytes of the files that are compared for one; further files are counted */
};

struct cards_work; /* opaque, owned: a card that waits for its diff */
void cards_free(struct cards_work *w); /* accepts NULL */

void cards_make(struct daemon *d, const struct engine_command *c);
/* Renders and hands to the engine; frees w. diff: what diff(1) wrote, cut: not all of it. why: it
 * could not be made. */
void cards_finish(struct daemon *d, struct cards_work *w, struct bytes diff, bool cut,
		  const char *why);
