#pragma once
/*
 * The committer: one thread that makes ONE batch of everything queued since the last, writes it,
 * syncs it if any part asked for it, and says so through an eventfd (acknowledge after fsync).
 * Everything else in this room runs in the caller's thread.
 */
#include "journal/kv.h"
#include "journal/wal.h"

struct journal_committer; /* opaque, owned */

struct journal_committer_options {
	struct journal_kv
		*kv; /* borrowed; written by this thread alone from now on, read by others */
	uint8_t secret[JOURNAL_WAL_SECRET_SIZE];
	uint64_t durable_lsn;
	void (*before_write)(void *arg); /* in the thread: makes room where it can */
	void (*fatal)(const struct error *err, void *arg); /* does not return */
	void *arg;
};

MUST_CHECK int journal_committer_start(const struct journal_committer_options *o,
				       struct journal_committer **ret, struct error *err);
/* Writes and syncs what is queued, then ends the thread. Accepts NULL. */
void journal_committer_stop(struct journal_committer *c);
/* ops of the transitions up to last_lsn (0: blobs alone); in the order of calls. wake: now, not
 * with the next call. */
void journal_committer_queue(struct journal_committer *c, struct bytes ops, uint64_t last_lsn,
			     bool sync, bool wake);
void journal_committer_wait_written(
	struct journal_committer *c); /* all that was queued can be read */
void journal_committer_wait_durable(struct journal_committer *c, uint64_t lsn);
uint64_t journal_committer_durable(struct journal_committer *c, bool clear_event);
int journal_committer_event_fd(const struct journal_committer *c);
