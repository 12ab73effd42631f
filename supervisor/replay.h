#pragma once
/*
 * What another policy would have said of all that a run has recorded: effects, tool calls, plain
 * reads, refusals, and the paths of its layers. Nothing is executed and nothing changes; deciding is
 * the policy room's, here the journal is read and verdicts are compared.
 *
 * The run's own policy decides everything again too: where its word is not what was recorded (a
 * person's, a limit's, or the record keeps too little to tell), nothing is said but that it was left
 * out.
 */
#include <jansson.h>
#include "supervisor/daemon.h"

enum { REPLAY_SHOWN_MAX = 1000 }; /* differences in one answer; further ones are counted */

/* *ret: {decided, left_out, differences: [{what: effect|read|name|path, step, title, effect?, count,
 * before: {verdict, class, rule, at}, after: {.., why}}], more}. now: of the run, not of a step. */
MUST_CHECK int replay_run(struct daemon *d, const struct journal_run *run,
			  const struct policy_effective *now, json_t **ret, struct error *err);
