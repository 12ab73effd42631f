#pragma once
/* ENGINE_CARD of EFFECT and DOUBT: what the card is made of is found here; card_effect.c renders.
 */
#include "supervisor/daemon.h"

void effect_cards_make(struct daemon *d, const struct engine_command *c);
