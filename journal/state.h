#pragma once
/*
 * The state tables: what each event makes of each state. Pure. The contracts of the states stand
 * above their enums in journal.h.
 */
#include "journal/journal.h"

/* The state that follows, or -1: the transition is not allowed. Events that do not concern a
 * machine are -1 too. */
int journal_state_next_run(enum journal_run_state from, enum journal_type event);
int journal_state_next_landing(enum journal_landing_state from, enum journal_type event);
int journal_state_next_step(enum journal_step_state from, enum journal_type event);
int journal_state_next_attempt(enum journal_attempt_state from, enum journal_type event);
int journal_state_next_approval(enum journal_approval_state from, enum journal_type event);
int journal_state_next_effect(enum journal_effect_state from, enum journal_type event);
int journal_state_next_timer(enum journal_timer_state from, enum journal_type event);

/* RESUMED leads to the state before the pause: the table says PAUSED -> RUNNING, fold takes
 * paused_from. */
