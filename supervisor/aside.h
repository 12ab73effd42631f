#pragma once
/*
 * Work that would hold up the loop, on one thread beside it: planning and applying a landing walks,
 * hashes and syncs the user's directory, a diff copies what it compares and removes it afterwards,
 * an audit reads the whole journal (audits.h). Undoing a landing is planned on the loop and applied
 * here.
 *
 * One job at a time, first come first served, and the next begins only after the loop has taken
 * the one before (`done`). So between a job's work and what is recorded of it no other runs: a
 * collection begins in a `done` of its own, since a landing's blobs have no record that names them
 * before the landing's.
 *
 * On the thread a job touches what it holds itself, journal_blob_open, _put, _put_fd and _sync of
 * the journal, a view of it and journal_gc_work; nothing else of the daemon, no rows, no engine.
 */
#include "supervisor/daemon.h"

struct aside; /* opaque */

struct aside_job { /* the first member of whoever's job it is, which owns it all */
	struct aside_job *next;
	void (*work)(struct aside_job *job); /* on the thread */
	void (*done)(struct daemon *d, struct aside_job *job); /* on the loop: takes job over */
	void (*drop)(struct aside_job *job); /* on the loop, instead of done, where the
						supervisor goes */
	/* Both on the loop, from aside_start on, while work may be under way; NULL = it is worked
	 * at to its end. */
	void (*stop)(struct aside_job *job); /* work returns soon; told more than once */
	void (*look)(struct daemon *d, struct aside_job *job); /* stops itself where nobody waits
								  for it any more */
};

MUST_CHECK int aside_new(struct daemon *d, struct aside **ret, struct error *err);
/* Waits for the work under way; it and what waits is dropped. What was applied is found by the redo
 * of the next start. Accepts NULL. Before the journal is closed. */
void aside_free(struct aside *a);
/* Takes job over; its done comes in a later turn of the loop. */
void aside_start(struct daemon *d, struct aside_job *job);
/* From job's own done: it goes on before those that wait. */
void aside_again(struct daemon *d, struct aside_job *job);
/* Jobs are under way or wait: contexts of runs, rows and blobs that they came from are to stay. */
bool aside_busy(const struct daemon *d);
/* Now and then. */
void aside_look(struct daemon *d);
/* For a supervisor that stops: no other job begins, those that wait are dropped. True while one is
 * under way, which is told to stop. */
bool aside_drain(struct daemon *d);
