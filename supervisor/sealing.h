#pragma once
/*
 * What the supervisor has the sealer do with layers, through the keeper: seal one that its attempt
 * has finished and tell the engine, remove one, squash a stack of them. Where the
 * keeper is lost before it answers, sealing and removing are asked for again; of a squash, which is
 * a cache, squash.c is told.
 */
#include "supervisor/daemon.h"

/* The engine hears engine_sealed(), also of every failure. */
void sealing_seal(struct daemon *d, const struct journal_id *run, const struct journal_id *attempt,
		  const char *layer);
/* Whatever of the layer is there goes; a failure is logged, and the next start looks again. */
void sealing_remove(struct daemon *d, const char *layer);
/* For squash.c: q is a SQUASH; squash_done() is called when it is answered, with -ECONNRESET when
 * the keeper is lost first. */
MUST_CHECK int sealing_squash(struct daemon *d, const struct journal_id *run,
			      const struct sealer_request *q, struct error *err);
