#pragma once
/*
 * A life of a run as the supervisor records it, for programs that need journals of a size: records
 * of the real types, with the fields and the sizes that they have. Nothing ran, and the blobs that
 * they name are not there.
 */
#include "journal/journal.h"

enum { EVENTS_A_RUN = 4, EVENTS_A_STEP = 7, EVENTS_A_TRY = 5 };

struct events {
	struct journal *journal; /* borrowed */
	struct journal_id run;
	uint32_t steps; /* declared so far */
};

/* A journal of this process's clock in the folder v1 of a state directory. Ends the process with
 * the reason if it cannot. */
struct journal *events_open(int v1_fd, bool read_only);
/* RUN_CREATED and RUN_STARTED. number makes its id and name. */
void events_begin_run(struct events *e, struct journal *j, uint64_t number);
/* One step from STEP_DECLARED to STEP_COMMITTED: EVENTS_A_STEP records; EVENTS_A_TRY more for each
 * attempt that failed before. */
void events_step(struct events *e, unsigned failed_tries);
/* RUN_SUCCEEDED and LANDING_DROPPED: nothing of it is in memory after the next open. */
void events_end_run(struct events *e);
