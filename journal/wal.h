#pragma once
/*
 * RocksDB's write-ahead log read past its damage (format: rocksdb/db/log_format.h of RocksDB 7.8;
 * "Write Ahead Log File Format" in its wiki): which transitions the intact batches name as synced.
 * Pure.
 *
 * Every batch begins with a mark: magic, a secret of this journal (so that bytes of an agent that
 * lie in a torn batch cannot pose as one), its first and last lsn, and the lsn of the last synced
 * transition before it.
 */
#include "base/buffer.h"

enum { JOURNAL_WAL_SECRET_SIZE = 16, JOURNAL_WAL_MARK_SIZE = 4 + JOURNAL_WAL_SECRET_SIZE + 3 * 8 };

struct journal_wal_mark {
	uint64_t first, last, synced; /* lsn; first = last + 1: a batch of blobs alone */
};

void journal_wal_mark_write(const uint8_t *secret, const struct journal_wal_mark *m, uint8_t *out);

struct journal_wal_scan {
	const uint8_t *secret;
	uint64_t batches; /* intact, with a mark */
	uint64_t last_lsn; /* of the last intact batch */
	uint64_t synced; /* the largest that any intact batch names */
	bool damaged; /* bytes that are no record, or a hole in the lsn sequence */
	uint64_t hole_first, hole_last; /* the first hole: lsn that no intact batch has, between
					   such that do; 0 = none */
	bool torn; /* the newest file ends inside a record */
};

/* One log file; in the order of their numbers. newest: it is the last one. */
void journal_wal_scan_file(struct journal_wal_scan *scan, struct bytes file, bool newest);
uint32_t journal_wal_crc32c(uint32_t crc, const void *data, size_t len);
