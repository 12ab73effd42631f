#pragma once
/*
 * The seam to the couriers: what they report becomes inputs of the engine, and what the engine
 * decides of an effect is answered. It owns the report channels (sandbox/report.h), decides every
 * proposal by the attempt's own narrowed policy, and never by the courier's word, and stores
 * bodies and responses before the engine names them.
 *
 * Which courier a run has, and what it is told of attempts, policies and secrets, is net.c's.
 */
#include "sandbox/sandbox.h"
#include "supervisor/daemon.h"

struct effects_hooks { /* what net.c wants to know; any may be NULL */
	/* A courier said HELLO on the run's channel: it knows no attempt, and no settings. */
	void (*hello)(struct daemon *d, const struct journal_id *run);
	/* All that was read or refused in an attempt that is over is in the journal. */
	void (*drained)(struct daemon *d, const struct journal_id *run,
			const struct sandbox_attempt_id *attempt);
	/* The run's channel broke: there is no courier, or the keeper is gone. */
	void (*closed)(struct daemon *d, const struct journal_id *run);
};

MUST_CHECK int effects_new(struct effects **ret);
void effects_free(struct effects *x); /* accepts NULL */
void effects_hook(struct daemon *d, const struct effects_hooks *hooks); /* copied */

/* Takes fd over: the supervisor's end of a report channel of this run. An older one is closed. */
MUST_CHECK int effects_attach(struct daemon *d, const struct journal_id *run, int fd,
			      struct error *err);
/* SETTINGS, ATTEMPT, ATTEMPT_END. fds are borrowed. -ENOTCONN. */
MUST_CHECK int effects_say(struct daemon *d, const struct journal_id *run,
			   const struct report_message *m, const int *fds, size_t fd_count);
/* No courier of the run lives, and none can send any more: its lock was taken. */
void effects_lost(struct daemon *d, const struct journal_id *run);
/* One engine_command of the kinds EFFECT_*. */
void effects_perform(struct daemon *d, const struct engine_command *c);
