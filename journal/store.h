#pragma once
/* What the files of the store share: the open journal and the keys of its families. */
#include <pthread.h>
#include <stdatomic.h>
#include "base/guard.h"
#include "journal/committer.h"
#include "journal/digestset.h"
#include "journal/heads.h"
#include "journal/journal.h"
#include "journal/kv.h"
#include "journal/rows.h"

/* A chain that moved since the last anchor. */
struct journal_store_head {
	struct journal_head head;
	bool dirty; /* to be written with this batch */
	bool marked; /* META_UNANCHORED has it */
};

struct journal {
	struct journal_options o;
	int dirfd, lockfd, blobs_fd; /* owned; -1 in memory */
	/* By a digest's first byte: this process synced the folder and its entry, and no rename
	 * since is unsynced. */
	bool blob_folder_synced[256];
	pthread_mutex_t blob_lock; /* guards it: blobs are put by two threads of the supervisor */
	pthread_mutex_t spare_lock; /* guards these three */
	bool collecting;
	bool spare_all; /* out of memory for spared */
	struct journal_digestset spared; /* what was put since the collection began */
	struct journal_kv *kv;
	struct journal_state *state;
	struct journal_committer *committer; /* NULL in memory and read-only */
	int event_fd; /* in memory: of its own */
	struct buffer batch; /* operations of the batch that is open */
	struct buffer record, key, value, texts[JOURNAL_FIELD_LIMIT]; /* scratch */
	uint64_t batch_last; /* lsn; 0 = no record in the open batch */
	bool batch_sync;
	uint64_t memory_lsn; /* in memory: what was flushed */
	struct journal_store_head *heads;
	size_t head_count, head_cap;
	uint32_t since_anchor;
	bool closing;
	char note[256];
	int reserve_held; /* the preallocated file is there; touched by the committer's thread alone
			     once it runs */
};

struct journal_view {
	struct journal *j; /* of it only what stays: options, blobs_fd */
	struct journal_kv *kv; /* owned */
	atomic_bool stopped;
};

DEFINE_GUARD(struct journal_view *, journal_view_free)

/* Keys. INDEX and META begin with a letter. */
enum journal_index_tag {
	JOURNAL_INDEX_IN_FLIGHT = 'f', /* run: not settled, to be in memory after an open */
	JOURNAL_INDEX_CREATED = 'c', /* created_ns BE, run */
	JOURNAL_INDEX_NAME = 'n', /* name, 0, run */
	JOURNAL_INDEX_REQUEST = 'q', /* client request id -> run */
	JOURNAL_INDEX_APPROVAL = 'a', /* approval -> run */
	JOURNAL_INDEX_EFFECT = 'e', /* effect -> run */
};
enum journal_meta_tag {
	JOURNAL_META_HEAD = 'h', /* run -> seq BE, hash: the heads that are compared */
	JOURNAL_META_UNANCHORED = 'u', /* run: moved since the last anchor */
};
#define JOURNAL_META_FORMAT "format" /* u32 BE */

enum { JOURNAL_EVENT_KEY_SIZE = JOURNAL_ID_SIZE + 8, JOURNAL_HEAD_VALUE_SIZE = 8 + DIGEST_SIZE };

_Noreturn void journal_store_fatal(struct journal *j, const struct error *err);
void journal_store_event_key(const struct journal_id *run, uint64_t seq, uint8_t *key);
void journal_store_head_write(const struct journal_head *h, uint8_t *value);
bool journal_store_head_read(struct bytes value, struct journal_head *ret); /* seq and hash */
uint64_t journal_store_u64(const void *at); /* big-endian */
struct bytes journal_store_tag_key(uint8_t tag, const struct journal_id *id, uint8_t *buf /* 17 */);
/* All that was flushed can be read from kv afterwards. */
void journal_store_drain(struct journal *j);
/* Reads the rows of a run from kv into s. -ENOENT, -EBADMSG. */
MUST_CHECK int journal_store_load_run(struct journal_kv *kv, struct journal_state *s,
				      const struct journal_id *id, struct error *err);
/* The index entries that a run has by its row: fn(key, value). */
int journal_store_each_index(const struct journal_run *run, journal_kv_fn *fn, void *arg);
/* Writes ops straight to kv, in order with what is queued, and waits for it. */
MUST_CHECK int journal_store_write_now(struct journal *j, struct bytes ops, struct error *err);
/* The last event of a chain: 0, or -ENOENT. */
MUST_CHECK int journal_store_last_event(struct journal_kv *kv, const struct journal_id *run,
					struct journal_head *ret);
void journal_store_make_room(
	void *j); /* gives the reserve up when the file system is nearly full */
MUST_CHECK int journal_blob_setup(struct journal *j, struct error *err);
