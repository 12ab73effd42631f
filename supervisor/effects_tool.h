#pragma once
/*
 * What the supervisor carries out itself, and no courier: calls of tools, and probes that say what
 * became of an effect (tools.h runs both). Outcomes go to the engine, and so does every error: there
 * is none to forward.
 */
#include "supervisor/effects_request.h"

/* The call that r waits for; r is told to send, in the words of effects_request.h. */
void effects_tool_start(struct daemon *d, struct effects_request *r, const struct journal_run *run,
			const struct journal_effect *f);
/* Whose tool has an outcome that is on disk gets it as a recorded one. */
void effects_tool_answer(struct daemon *d, struct effects_channel *c, const struct journal_id *id);
/* One ENGINE_EFFECT_PROBE. */
void effects_tool_probe(struct daemon *d, const struct engine_command *c);
