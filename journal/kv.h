#pragma once
/*
 * Ordered key-value families with atomic batches: what the store needs of a database and no more.
 * Two of them: RocksDB (kv_rocks.c) and memory (kv_memory.c).
 */
#include "base/buffer.h"

enum journal_family {
	JOURNAL_FAMILY_EVENT,
	JOURNAL_FAMILY_STATE,
	JOURNAL_FAMILY_INDEX,
	JOURNAL_FAMILY_BLOB,
	JOURNAL_FAMILY_META,
	JOURNAL_FAMILY_COUNT
};

/* A batch is a log of operations in a buffer, so that many can be joined by appending (c.h cannot).
 */
enum journal_kv_op { JOURNAL_KV_PUT = 1, JOURNAL_KV_DELETE = 2 };
void journal_kv_put(struct buffer *batch, enum journal_family f, struct bytes key,
		    struct bytes value);
void journal_kv_delete(struct buffer *batch, enum journal_family f, struct bytes key);
/* Once a write: the lsn of its last record, u64 BE under this key of META. */
#define JOURNAL_META_LSN "lsn"
void journal_kv_put_lsn(struct buffer *batch, uint64_t lsn);
/* Takes the next operation off *batch; false at the end. */
bool journal_kv_next(struct bytes *batch, enum journal_kv_op *op, enum journal_family *f,
		     struct bytes *key, struct bytes *value);

struct journal_kv;
typedef int journal_kv_fn(struct bytes key, struct bytes value, void *arg);

struct journal_kv_ops {
	/* One atomic batch; mark travels with it in the write-ahead log only. Not synced. */
	int (*write)(struct journal_kv *kv, struct bytes batch, struct bytes mark,
		     struct error *err);
	int (*sync)(struct journal_kv *kv,
		    struct error *err); /* everything written is on disk afterwards */
	int (*get)(struct journal_kv *kv, enum journal_family f, struct bytes key,
		   struct buffer *out, struct error *err); /* -ENOENT */
	/* Keys that begin with prefix, from `from` on (whole key; empty = the first, or the last
	 * when reverse). fn's first value other than 0 stops the walk and is returned. */
	int (*each)(struct journal_kv *kv, enum journal_family f, struct bytes prefix,
		    struct bytes from, bool reverse, journal_kv_fn *fn, void *arg);
	/* All families as they are now, to get and walk beside what is written later, from another
	 * thread too. Closed before kv; -ENOMEM. */
	int (*snapshot)(struct journal_kv *kv, struct journal_kv **ret);
	void (*close)(struct journal_kv *kv);
};

struct journal_kv {
	const struct journal_kv_ops *ops;
};

/* -EBADMSG: damaged; others from the system. */
enum journal_kv_recovery { JOURNAL_KV_STRICT, JOURNAL_KV_POINT_IN_TIME };
#define JOURNAL_KV_LOGS \
	"rocksdb" /* folder beside path for its own log; where there is none it keeps none */
MUST_CHECK int journal_kv_rocks_open(const char *path, enum journal_kv_recovery recovery,
				     bool read_only, struct journal_kv **ret, struct error *err);
MUST_CHECK int journal_kv_memory_open(struct journal_kv **ret);
