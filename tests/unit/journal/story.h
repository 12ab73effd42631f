#pragma once
/* A believable history: runs that are declared, started, committed, approved and landed, with blobs
 * that exist. */
#include "journal/journal.h"

enum { STORY_EVENTS = 16 }; /* of one run */

/* Writes one whole run, every event a batch of its own; tag makes its ids. finish: to its end, else
 * it stays RUNNING. */
void story_run(struct journal *j, uint8_t tag, bool finish);
void story_run_id(uint8_t tag, struct journal_id *ret);
/* The clock of the store under test. */
struct journal_clock story_clock(void);
void story_set_time(int64_t wall_ns);
