/*
 * RocksDB behind journal/kv.h. Options: little memory and a quick open (rows are read on demand);
 * one flush for all families, so that a write-ahead log is either needed or not; no recycled logs,
 * no preallocation surprises.
 */
#include "journal/kv.h"

#include <errno.h>
#include <rocksdb/c.h>
#include <stdlib.h>
#include "base/guard.h"

enum {
	ROCKS_CACHE_BYTES = 8 << 20,
	ROCKS_MEMTABLE_BYTES = 8 << 20, /* of one family */
	ROCKS_MEMTABLES_BYTES = 24 << 20, /* of all */
	ROCKS_WAL_BYTES = 24 << 20,
	ROCKS_OPEN_FILES = 256,
	ROCKS_BLOOM_BITS = 10,
	ROCKS_LOG_BYTES = 1 << 20,
	ROCKS_FAMILIES = JOURNAL_FAMILY_COUNT + 1, /* and the default one, which stays empty */
};

struct rocks {
	struct journal_kv kv;
	rocksdb_t *db;
	rocksdb_column_family_handle_t *family[ROCKS_FAMILIES];
	rocksdb_options_t *options;
	rocksdb_block_based_table_options_t *table;
	rocksdb_cache_t *cache;
	rocksdb_writeoptions_t *write;
	rocksdb_readoptions_t *read, *scan;
	rocksdb_writebatch_t *batch; /* reused: clearing keeps its memory */
	const rocksdb_snapshot_t *snapshot; /* of a snapshot, which owns it, read and scan alone */
};

static const char *const family_names[ROCKS_FAMILIES] = {"event", "state", "index",
							 "blob",  "meta",  "default"};

/* RocksDB speaks of its errors in text only: "Corruption: ...", "IO error: ...". */
static int code_of(const char *message)
{
	if (strncmp(message, "Corruption", 10) == 0)
		return -EBADMSG;
	if (strstr(message, "No space left"))
		return -ENOSPC;
	return strstr(message, "While lock file") ? -EBUSY : -EIO;
}

static int rocks_error(char *message, struct error *err, const char *doing)
{
	int code = code_of(message);
	error_set(err, code, "journal: %s: %s", doing, message);
	rocksdb_free(message);
	return code;
}

/* What RocksDB does not open it does not change either. */
static int opening_error(char *message, struct error *err)
{
	int code = code_of(message);
	if (code == -EBUSY || code == -ENOSPC)
		return rocks_error(message, err, "opening");
	error_set(err, code,
		  "journal: v1/journal cannot be read: %.110s; nothing was changed; restore the "
		  "state "
		  "directory from a backup",
		  message);
	rocksdb_free(message);
	return code;
}

static void set_options(struct rocks *r, enum journal_kv_recovery recovery)
{
	rocksdb_options_t *o = r->options;
	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_set_create_missing_column_families(o, 1);
	rocksdb_options_set_paranoid_checks(o, 1);
	/* 0: kTolerateCorruptedTailRecords, 2: kPointInTimeRecovery (rocksdb/options.h,
	 * WALRecoveryMode) */
	rocksdb_options_set_wal_recovery_mode(o, recovery == JOURNAL_KV_STRICT ? 0 : 2);
	rocksdb_options_set_recycle_log_file_num(o, 0);
	rocksdb_options_set_atomic_flush(o, 1);
	rocksdb_options_set_write_buffer_size(o, ROCKS_MEMTABLE_BYTES);
	rocksdb_options_set_db_write_buffer_size(o, ROCKS_MEMTABLES_BYTES);
	rocksdb_options_set_max_write_buffer_number(o, 3);
	rocksdb_options_set_arena_block_size(o, 256 << 10);
	rocksdb_options_set_max_total_wal_size(o, ROCKS_WAL_BYTES);
	rocksdb_options_set_max_background_jobs(o, 2);
	rocksdb_options_set_max_open_files(o, ROCKS_OPEN_FILES);
	rocksdb_options_set_table_cache_numshardbits(o, 2);
	rocksdb_options_set_max_file_opening_threads(o, 1);
	rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
	rocksdb_options_set_skip_checking_sst_file_sizes_on_db_open(o, 1);
	rocksdb_options_set_stats_dump_period_sec(o, 0);
	rocksdb_options_set_stats_persist_period_sec(o, 0);
	rocksdb_options_set_compression(o, rocksdb_lz4_compression);
	rocksdb_options_set_info_log_level(o, 2); /* warnings */
	rocksdb_options_set_keep_log_file_num(o, 2);
	rocksdb_options_set_max_log_file_size(o, ROCKS_LOG_BYTES);
	rocksdb_options_set_manifest_preallocation_size(o, 64 << 10);
	rocksdb_options_set_max_manifest_file_size(o, 4 << 20);

	rocksdb_block_based_table_options_t *t = r->table;
	rocksdb_block_based_options_set_block_cache(t, r->cache);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
	rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(t, 0);
	rocksdb_block_based_options_set_filter_policy(t, rocksdb_filterpolicy_create_bloom_full(
								 ROCKS_BLOOM_BITS));
	rocksdb_options_set_block_based_table_factory(o, t);
}

static rocksdb_readoptions_t *scan_options(void)
{
	rocksdb_readoptions_t *o = rocksdb_readoptions_create();
	rocksdb_readoptions_set_fill_cache(o, 0);
	rocksdb_readoptions_set_verify_checksums(o, 1);
	return o;
}

static void rocks_close(struct journal_kv *kv)
{
	struct rocks *r = (struct rocks *)kv;
	if (r->batch)
		rocksdb_writebatch_destroy(r->batch);
	for (int f = 0; f < ROCKS_FAMILIES; f++)
		if (r->family[f])
			rocksdb_column_family_handle_destroy(r->family[f]);
	if (r->db)
		rocksdb_close(r->db);
	rocksdb_readoptions_destroy(r->read);
	rocksdb_readoptions_destroy(r->scan);
	rocksdb_writeoptions_destroy(r->write);
	rocksdb_options_destroy(r->options);
	rocksdb_block_based_options_destroy(r->table);
	rocksdb_cache_destroy(r->cache);
	free(r);
}

static int rocks_write(struct journal_kv *kv, struct bytes batch, struct bytes mark,
		       struct error *err)
{
	struct rocks *r = (struct rocks *)kv;
	enum journal_kv_op op;
	enum journal_family f;
	struct bytes key, value;
	char *message = NULL;
	rocksdb_writebatch_clear(r->batch);
	/* First, so that a scan of the log finds it at a fixed place. */
	rocksdb_writebatch_put_log_data(r->batch, mark.data, mark.len);
	while (journal_kv_next(&batch, &op, &f, &key, &value)) {
		if (op == JOURNAL_KV_PUT)
			rocksdb_writebatch_put_cf(r->batch, r->family[f], key.data, key.len,
						  value.data, value.len);
		else
			rocksdb_writebatch_delete_cf(r->batch, r->family[f], key.data, key.len);
	}
	rocksdb_write(r->db, r->write, r->batch, &message);
	return message ? rocks_error(message, err, "writing") : 0;
}

static int rocks_sync(struct journal_kv *kv, struct error *err)
{
	struct rocks *r = (struct rocks *)kv;
	char *message = NULL;
	rocksdb_flush_wal(r->db, 1, &message);
	return message ? rocks_error(message, err, "syncing") : 0;
}

static int rocks_get(struct journal_kv *kv, enum journal_family f, struct bytes key,
		     struct buffer *out, struct error *err)
{
	struct rocks *r = (struct rocks *)kv;
	char *message = NULL;
	rocksdb_pinnableslice_t *slice =
		rocksdb_get_pinned_cf(r->db, r->read, r->family[f], key.data, key.len, &message);
	if (message)
		return rocks_error(message, err, "reading");
	if (!slice)
		return -ENOENT;
	size_t len;
	const char *data = rocksdb_pinnableslice_value(slice, &len);
	int rc = buffer_append(out, data, len);
	rocksdb_pinnableslice_destroy(slice);
	return rc;
}

static void seek(rocksdb_iterator_t *it, struct bytes prefix, struct bytes from, bool reverse)
{
	if (!reverse) {
		struct bytes start = from.len ? from : prefix;
		rocksdb_iter_seek(it, start.data ? start.data : "", start.len);
		return;
	}
	if (from.len) {
		rocksdb_iter_seek_for_prev(it, from.data, from.len);
		return;
	}
	/* The last key that begins with prefix: no key of ours is longer than prefix plus 64 bytes
	 * of 0xff. */
	char end[256];
	size_t len = prefix.len < sizeof(end) - 64 ? prefix.len : sizeof(end) - 64;
	if (len)
		memcpy(end, prefix.data, len);
	memset(end + len, 0xff, 64);
	rocksdb_iter_seek_for_prev(it, end, len + 64);
}

static int rocks_each(struct journal_kv *kv, enum journal_family f, struct bytes prefix,
		      struct bytes from, bool reverse, journal_kv_fn *fn, void *arg)
{
	struct rocks *r = (struct rocks *)kv;
	rocksdb_iterator_t *it = rocksdb_create_iterator_cf(r->db, r->scan, r->family[f]);
	int rc = 0;
	for (seek(it, prefix, from, reverse); rc == 0 && rocksdb_iter_valid(it);
	     reverse ? rocksdb_iter_prev(it) : rocksdb_iter_next(it)) {
		struct bytes key, value;
		key.data = rocksdb_iter_key(it, &key.len);
		if (key.len < prefix.len ||
		    (prefix.len && memcmp(key.data, prefix.data, prefix.len) != 0))
			break;
		value.data = rocksdb_iter_value(it, &value.len);
		rc = fn(key, value, arg);
	}
	char *message = NULL;
	rocksdb_iter_get_error(it, &message);
	if (message) {
		if (rc == 0)
			rc = strncmp(message, "Corruption", 10) == 0 ? -EBADMSG : -EIO;
		rocksdb_free(message);
	}
	rocksdb_iter_destroy(it);
	return rc;
}

static void snapshot_close(struct journal_kv *kv)
{
	struct rocks *s = (struct rocks *)kv;
	rocksdb_readoptions_destroy(s->read);
	rocksdb_readoptions_destroy(s->scan);
	rocksdb_release_snapshot(s->db, s->snapshot);
	free(s);
}

static const struct journal_kv_ops snapshot_ops = {.get = rocks_get,
						   .each = rocks_each,
						   .close = snapshot_close};

static int rocks_snapshot(struct journal_kv *kv, struct journal_kv **ret)
{
	struct rocks *s = malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = *(const struct rocks *)kv;
	s->kv.ops = &snapshot_ops;
	s->snapshot = rocksdb_create_snapshot(s->db);
	s->read = rocksdb_readoptions_create();
	rocksdb_readoptions_set_snapshot(s->read, s->snapshot);
	s->scan = scan_options();
	rocksdb_readoptions_set_snapshot(s->scan, s->snapshot);
	*ret = &s->kv;
	return 0;
}

static const struct journal_kv_ops rocks_ops = {.write = rocks_write,
						.sync = rocks_sync,
						.get = rocks_get,
						.each = rocks_each,
						.snapshot = rocks_snapshot,
						.close = rocks_close};

int journal_kv_rocks_open(const char *path, enum journal_kv_recovery recovery, bool read_only,
			  struct journal_kv **ret, struct error *err)
{
	struct rocks *r = calloc(1, sizeof(*r));
	if (!r)
		return error_nomem(err);
	r->kv.ops = &rocks_ops;
	r->options = rocksdb_options_create();
	r->table = rocksdb_block_based_options_create();
	r->cache = rocksdb_cache_create_lru(ROCKS_CACHE_BYTES);
	r->write = rocksdb_writeoptions_create();
	r->read = rocksdb_readoptions_create();
	r->scan = scan_options();
	r->batch = rocksdb_writebatch_create();
	set_options(r, recovery);
	/* Beside the database: what is found damaged is left exactly as it is. */
	char logs[128];
	snprintf(logs, sizeof(logs), "%.100s/../" JOURNAL_KV_LOGS, path);
	rocksdb_options_set_db_log_dir(r->options, logs);

	const rocksdb_options_t *options[ROCKS_FAMILIES];
	char *message = NULL;
	for (int f = 0; f < ROCKS_FAMILIES; f++)
		options[f] = r->options;
	if (read_only)
		r->db = rocksdb_open_for_read_only_column_families(r->options, path, ROCKS_FAMILIES,
								   family_names, options, r->family,
								   0, &message);
	else
		r->db = rocksdb_open_column_families(r->options, path, ROCKS_FAMILIES, family_names,
						     options, r->family, &message);
	if (message) {
		int rc = opening_error(message, err);
		r->db = NULL;
		memset(r->family, 0, sizeof(r->family));
		rocks_close(&r->kv);
		return rc;
	}
	*ret = &r->kv;
	return 0;
}
