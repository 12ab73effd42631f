#pragma once
/*
 * PROPOSE: what an attempt asks for is decided by that attempt's own narrowed policy, never by the
 * courier's word, and what the engine names of it is a blob before.
 */
#include "supervisor/effects_channel.h"

/* body_fd is borrowed, -1 = none. Its client waits from now on, or was denied: there is no error to
 * forward. */
void effects_propose(struct effects_channel *c, const struct report_propose *m, int body_fd);
