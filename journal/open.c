/*
 * Opening: the lock, the torn-tail rule, the rows that must be in memory, and the heads that must
 * agree.
 *
 * Recovery in one place: the write-ahead logs are read first, past any damage. The largest lsn that
 * an intact batch names as synced must survive. Undamaged logs are opened strictly; damaged ones
 * are first opened read-only at the point in time before the damage: if that loses a record that
 * was named as synced, we refuse and change nothing.
 */
#include "journal/store.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/guard.h"
#include "base/io.h"
#include "journal/row.h"

#define REMEDY_BACKUP "restore the state directory from a backup, or start with another --state"
#define OPENED	      "opened" /* in v1; see check_database */

enum { WAL_FILE_MAX = 512 << 20, WAL_FILES_MAX = 256, FOLDER_MODE = 0700, FILE_MODE = 0600 };

/* ---- The lock ---- */

static int take_lock(struct journal *j, struct error *err)
{
	j->lockfd = openat(j->dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	if (j->lockfd < 0)
		return error_set(err, -errno, "journal: cannot open its lock: %s", strerror(errno));
	if (flock(j->lockfd, (j->o.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0) {
		char holder[24] = "";
		if (errno != EWOULDBLOCK)
			return error_set(err, -errno, "journal: cannot lock: %s", strerror(errno));
		ssize_t n = pread(j->lockfd, holder, sizeof(holder) - 1, 0);
		holder[n > 0 ? strcspn(holder, "\n") : 0] = '\0';
		return error_set_exit(
			err, -EBUSY, EXIT_STATUS_CONFLICT,
			"journal: process %s has it open; wait until it is idle or end it with "
			"kill(1), then try again",
			holder[0] ? holder : "(another)");
	}
	char pid[24]; /* also a reader's: who waits for it is told whom for */
	int len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	if (ftruncate(j->lockfd, 0) < 0 || pwrite(j->lockfd, pid, (size_t)len, 0) != len) {
		/* Only a courtesy: a full disk must not keep the journal closed. */
	}
	return 0;
}

/* ---- The write-ahead logs ---- */

/* *ret_made: there was none. */
static int read_secret(struct journal *j, uint8_t *ret, bool *ret_made, struct error *err)
{
	AUTO_BUFFER b = {0};
	int rc = io_read_file_at(j->dirfd, "secret", JOURNAL_WAL_SECRET_SIZE, &b);
	if (rc == 0 && b.len == JOURNAL_WAL_SECRET_SIZE) {
		memcpy(ret, b.data, JOURNAL_WAL_SECRET_SIZE);
		return 0;
	}
	if (rc < 0 && rc != -ENOENT)
		return error_set(err, rc, "journal: reading its secret: %s", strerror(-rc));
	*ret_made = true;
	if (getrandom(ret, JOURNAL_WAL_SECRET_SIZE, 0) != JOURNAL_WAL_SECRET_SIZE)
		return error_set(err, -EIO, "journal: no random bytes");
	if (j->o.read_only)
		return 0;
	rc = io_write_file_atomic_at(j->dirfd, "secret", bytes_of(ret, JOURNAL_WAL_SECRET_SIZE),
				     FILE_MODE);
	return rc < 0 ? error_set(err, rc, "journal: writing its secret: %s", strerror(-rc)) : 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* RocksDB begins a log at every opening and keeps those that nothing was written to: what holds
 * nothing is not read, does not count, and goes where `remove` is said. */
static int list_logs(int folder, bool remove, uint64_t *numbers, size_t *count)
{
	AUTO_FD fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return -errno;
	(void)take_fd(&fd);
	for (struct dirent *e; (e = readdir(d));) {
		char *end;
		struct stat st;
		unsigned long long n = strtoull(e->d_name, &end, 10);
		if (end == e->d_name || strcmp(end, ".log") != 0)
			continue;
		if (fstatat(folder, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (S_ISREG(st.st_mode) && st.st_size == 0) {
			if (remove && unlinkat(folder, e->d_name, 0) < 0 && errno != ENOENT)
				return -errno;
			continue;
		}
		if (remove)
			continue;
		if (*count == WAL_FILES_MAX)
			return -E2BIG;
		numbers[(*count)++] = n;
	}
	if (!remove)
		qsort(numbers, *count, sizeof(*numbers), by_number);
	return 0;
}

struct logs {
	int folder;
	uint64_t number[WAL_FILES_MAX];
	size_t count;
	size_t after_hole; /* index of the log whose batches no longer follow; count = none */
	struct journal_wal_scan scan;
};

static void log_name(const struct logs *l, size_t i, char *name, size_t size)
{
	snprintf(name, size, "%06llu.log", (unsigned long long)l->number[i]);
}

static int scan_logs(struct logs *l)
{
	int rc = list_logs(l->folder, false, l->number, &l->count);
	l->after_hole = l->count;
	for (size_t i = 0; rc == 0 && i < l->count; i++) {
		char name[32];
		AUTO_BUFFER file = {.max = WAL_FILE_MAX};
		log_name(l, i, name, sizeof(name));
		rc = io_read_file_at(l->folder, name, WAL_FILE_MAX, &file);
		if (rc < 0)
			break;
		journal_wal_scan_file(&l->scan, buffer_bytes(&file), i + 1 == l->count);
		if (l->scan.hole_first && l->after_hole == l->count)
			l->after_hole = i;
	}
	return rc;
}

static int read_u64(struct journal_kv *kv, const char *key, uint64_t *ret)
{
	AUTO_BUFFER v = {0};
	int rc = kv->ops->get(kv, JOURNAL_FAMILY_META, bytes_str(key), &v, NULL);
	*ret = rc == 0 && v.len == 8 ? journal_store_u64(v.data) : 0;
	return rc == -ENOENT ? 0 : rc;
}

static int refuse_loss(uint64_t synced, uint64_t found, struct error *err)
{
	return error_set(err, -EUCLEAN,
			 "journal: damaged: records up to %llu were acknowledged, only %llu can be "
			 "read; nothing was "
			 "changed; " REMEDY_BACKUP,
			 (unsigned long long)synced, (unsigned long long)found);
}

static int lsn_of(struct journal_kv *kv, const struct journal_wal_scan *scan, struct error *err)
{
	uint64_t lsn = 0;
	int rc = read_u64(kv, JOURNAL_META_LSN, &lsn);
	if (rc < 0)
		return error_set(err, rc, "journal: reading its last lsn: %s", strerror(-rc));
	return scan->synced > lsn ? refuse_loss(scan->synced, lsn, err) : 0;
}

struct lsn_range {
	uint64_t first, last, seen;
};

static int count_within(struct bytes key, struct bytes value, void *arg)
{
	struct lsn_range *range = arg;
	struct journal_record r;
	(void)key;
	if (journal_record_decode(value, &r) == 0 && r.lsn >= range->first && r.lsn <= range->last)
		range->seen++;
	return 0;
}

/* RocksDB takes a log that was cut between two batches for one that ended, and goes on with the
 * next. If the records of such a hole are not in the tables either, what comes after it must not be
 * replayed: refused where it was acknowledged, else *ret_cut. */
static int check_hole(struct journal_kv *probe, const struct logs *l, uint64_t lsn, bool *ret_cut,
		      struct error *err)
{
	struct lsn_range range = {.first = l->scan.hole_first, .last = l->scan.hole_last};
	if (!range.first || lsn < range.first)
		return 0;
	int rc = probe->ops->each(probe, JOURNAL_FAMILY_EVENT, bytes_of(NULL, 0), bytes_of(NULL, 0),
				  false, count_within, &range);
	if (rc < 0)
		return error_set(err, rc, "journal: reading its records: %s", strerror(-rc));
	if (range.seen == range.last - range.first + 1)
		return 0; /* the log is obsolete */
	if (l->scan.synced >= range.first)
		return refuse_loss(l->scan.synced, range.first - 1, err);
	*ret_cut = true;
	return 0;
}

/* Out of RocksDB's sight, not out of the world. */
static int put_aside(const struct logs *l, struct error *err)
{
	for (size_t i = l->after_hole; i < l->count; i++) {
		char name[32], aside[48];
		log_name(l, i, name, sizeof(name));
		snprintf(aside, sizeof(aside), "%s.torn", name);
		if (renameat(l->folder, name, l->folder, aside) < 0)
			return error_set(err, -errno, "journal: putting %s aside: %s", name,
					 strerror(errno));
	}
	return 0;
}

/* Damaged logs: look at what the point in time before the damage has, without changing a byte. */
static int open_damaged(struct journal *j, const char *path, const struct logs *l,
			struct error *err)
{
	struct journal_kv *probe;
	bool cut = false;
	uint64_t lsn = 0;
	int rc = journal_kv_rocks_open(path, JOURNAL_KV_POINT_IN_TIME, true, &probe, err);
	if (rc < 0)
		return rc == -EBADMSG ? -EUCLEAN : rc;
	rc = lsn_of(probe, &l->scan, err);
	if (rc == 0)
		rc = read_u64(probe, JOURNAL_META_LSN, &lsn);
	if (rc == 0)
		rc = check_hole(probe, l, lsn, &cut, err);
	probe->ops->close(probe);
	if (rc == 0 && cut)
		rc = j->o.read_only ? error_set(err, -EUCLEAN,
						"journal: its log has a hole that nobody was told "
						"of; the next "
						"command that writes recovers it")
				    : put_aside(l, err);
	if (rc < 0)
		return rc;
	if (l->scan.last_lsn > lsn || l->scan.damaged)
		snprintf(j->note, sizeof(j->note),
			 "the write-ahead log was torn after record %llu; nothing that was "
			 "acknowledged is missing",
			 (unsigned long long)(cut ? l->scan.hole_first - 1 : lsn));
	return journal_kv_rocks_open(path, JOURNAL_KV_POINT_IN_TIME, j->o.read_only, &j->kv, err);
}

/* RocksDB makes a new database where it finds no CURRENT, and writes before it finds out that a
 * file is missing. OPENED is there once a journal was: what lacks CURRENT then has lost it. */
static int check_database(struct journal *j, int folder, struct error *err)
{
	AUTO_BUFFER current = {0};
	struct stat st;
	int rc = io_read_file_at(folder, "CURRENT", 64, &current);
	if (rc == -ENOENT && faccessat(j->dirfd, OPENED, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return !j->o.read_only ? 0
				       : error_set(err, -ENOENT,
						   "journal: there is none in this state "
						   "directory; nothing was run there yet");
	if (rc == -ENOENT)
		return error_set(err, -EUCLEAN,
				 "journal: v1/journal/CURRENT is missing: what was recorded cannot "
				 "be found; nothing was changed; " REMEDY_BACKUP);
	if (rc == 0 && current.len > 10 && strncmp((char *)current.data, "MANIFEST-", 9) == 0 &&
	    current.data[current.len - 1] == '\n') {
		current.data[current.len - 1] = '\0';
		if (!strchr((char *)current.data, '/') &&
		    fstatat(folder, (char *)current.data, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode) && st.st_size > 0)
			return 0;
		return error_set(
			err, -EUCLEAN,
			"journal: v1/journal/%.40s is missing: what was recorded cannot be "
			"found; nothing was changed; " REMEDY_BACKUP,
			(char *)current.data);
	}
	return error_set(
		err, -EUCLEAN,
		"journal: v1/journal/CURRENT is damaged: what was recorded cannot be found; "
		"nothing was changed; " REMEDY_BACKUP);
}

static int mark_opened(struct journal *j, struct error *err)
{
	AUTO_FD fd = -1;
	if (j->o.read_only || faccessat(j->dirfd, OPENED, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	fd = openat(j->dirfd, OPENED, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
	if (fd < 0 || fsync(j->dirfd) < 0)
		return error_set(err, -errno,
				 "journal: cannot write v1/" OPENED ": %s; free some space",
				 strerror(errno));
	return 0;
}

static int open_rocks(struct journal *j, uint8_t *secret, struct error *err)
{
	char path[64];
	if (!j->o.read_only && mkdirat(j->dirfd, "journal", FOLDER_MODE) < 0 && errno != EEXIST)
		return error_set(err, -errno, "journal: making its folder: %s", strerror(errno));
	AUTO_FD folder =
		openat(j->dirfd, "journal", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (folder < 0)
		return error_set(err, -errno, "journal: there is none in this state directory: %s",
				 strerror(errno));
	bool made = false;
	int rc = check_database(j, folder, err);
	if (rc == 0)
		rc = read_secret(j, secret, &made, err);
	if (rc < 0)
		return rc;
	if (!j->o.read_only)
		(void)!mkdirat(j->dirfd, JOURNAL_KV_LOGS, FOLDER_MODE); /* without it, no log */
	struct logs logs = {.folder = folder, .scan = {.secret = secret}};
	rc = scan_logs(&logs);
	if (rc < 0)
		return error_set(err, rc, "journal: reading its write-ahead log: %s",
				 strerror(-rc));
	snprintf(path, sizeof(path), "/proc/self/fd/%d/journal", j->dirfd);
	if (logs.scan.damaged && made)
		return error_set(err, -EUCLEAN,
				 "journal: damaged, and without the file `secret` nobody can tell "
				 "what was acknowledged; nothing "
				 "was changed; " REMEDY_BACKUP);
	if (logs.scan.damaged)
		return open_damaged(j, path, &logs, err);
	rc = j->o.read_only ? 0 : list_logs(folder, true, NULL, NULL);
	if (rc < 0)
		return error_set(err, rc, "journal: removing empty write-ahead logs: %s",
				 strerror(-rc));

	rc = journal_kv_rocks_open(path, JOURNAL_KV_STRICT, j->o.read_only, &j->kv, err);
	if (rc == -EBADMSG && logs.scan.torn) {
		*err = (struct error){0};
		return open_damaged(j, path, &logs, err);
	}
	if (rc < 0)
		return rc == -EBADMSG ? -EUCLEAN : rc;
	rc = mark_opened(j, err);
	if (rc < 0)
		return rc;
	if (logs.scan.torn)
		snprintf(j->note, sizeof(j->note),
			 "the write-ahead log ended inside a batch that nobody had been told of; "
			 "it was dropped");
	return lsn_of(j->kv, &logs.scan, err);
}

/* ---- Format ---- */

static int check_format(struct journal *j, struct error *err)
{
	AUTO_BUFFER v = {0};
	uint32_t be = htobe32(JOURNAL_FORMAT_VERSION), found;
	int rc = j->kv->ops->get(j->kv, JOURNAL_FAMILY_META, bytes_str(JOURNAL_META_FORMAT), &v,
				 err);
	if (rc == -ENOENT && !j->o.read_only) {
		AUTO_BUFFER ops = {0};
		journal_kv_put(&ops, JOURNAL_FAMILY_META, bytes_str(JOURNAL_META_FORMAT),
			       bytes_of(&be, sizeof(be)));
		rc = ops.failed
			     ? ops.failed
			     : j->kv->ops->write(j->kv, buffer_bytes(&ops), bytes_of(NULL, 0), err);
		return rc < 0 ? rc : j->kv->ops->sync(j->kv, err);
	}
	if (rc < 0)
		return error_set(err, rc, "journal: reading its format: %s", strerror(-rc));
	if (v.len != sizeof(found))
		return error_set(err, -EUCLEAN,
				 "journal: its format is unreadable; " REMEDY_BACKUP);
	memcpy(&found, v.data, sizeof(found));
	if (be32toh(found) > JOURNAL_FORMAT_VERSION)
		return error_set(err, -ENOTSUP,
				 "journal: format %u is newer than this program knows (%d); use a "
				 "newer holdfast",
				 be32toh(found), JOURNAL_FORMAT_VERSION);
	return 0;
}

/* ---- Rows ---- */

struct load_walk {
	struct journal_state *s;
	size_t count;
};

static int load_row(struct bytes key, struct bytes value, void *arg)
{
	struct load_walk *w = arg;
	w->count++;
	return journal_row_decode(w->s, key, value);
}

static int load_kind(struct journal_kv *kv, struct journal_state *s, uint8_t kind,
		     const struct journal_id *run, size_t *ret_count)
{
	uint8_t key[1 + JOURNAL_ID_SIZE] = {kind};
	struct load_walk w = {.s = s};
	if (run)
		memcpy(key + 1, run->b, JOURNAL_ID_SIZE);
	int rc = kv->ops->each(kv, JOURNAL_FAMILY_STATE, bytes_of(key, run ? sizeof(key) : 1),
			       bytes_of(NULL, 0), false, load_row, &w);
	*ret_count = w.count;
	return rc;
}

int journal_store_load_run(struct journal_kv *kv, struct journal_state *s,
			   const struct journal_id *id, struct error *err)
{
	static const uint8_t kinds[] = {JOURNAL_ROW_RUN,      JOURNAL_ROW_STEP,
					JOURNAL_ROW_ATTEMPT,  JOURNAL_ROW_EFFECT,
					JOURNAL_ROW_APPROVAL, JOURNAL_ROW_TIMER};
	char text[JOURNAL_ID_TEXT_SIZE];
	size_t count = 0;
	for (size_t i = 0; i < sizeof(kinds); i++) {
		int rc = load_kind(kv, s, kinds[i], id, &count);
		if (rc < 0) {
			journal_rows_remove_run(s, id);
			return error_set(err, rc,
					 "journal: rows of run %.8s cannot be read: %s; `holdfast "
					 "fsck --repair` rebuilds them",
					 journal_id_text(id, text), strerror(-rc));
		}
		if (i == 0 && count == 0)
			return error_set(err, -ENOENT, "run %.8s: there is none",
					 journal_id_text(id, text));
	}
	return 0;
}

static int take_last(struct bytes key, struct bytes value, void *arg)
{
	struct journal_head *h = arg;
	h->seq = journal_store_u64((const uint8_t *)key.data + JOURNAL_ID_SIZE);
	journal_record_hash(value, &h->hash);
	return 1;
}

int journal_store_last_event(struct journal_kv *kv, const struct journal_id *run,
			     struct journal_head *ret)
{
	ret->run = *run;
	uint8_t end[JOURNAL_EVENT_KEY_SIZE];
	journal_store_event_key(run, UINT64_MAX, end);
	int rc = kv->ops->each(kv, JOURNAL_FAMILY_EVENT, bytes_of(run->b, JOURNAL_ID_SIZE),
			       bytes_of(end, sizeof(end)), true, take_last, ret);
	return rc == 0 ? -ENOENT : rc < 0 ? rc : 0;
}

/* Row, head and last event of a chain must be the same record. */
static int compare_head(struct journal *j, const struct journal_id *run, uint64_t seq,
			const struct digest *hash, struct error *err)
{
	struct journal_head last = {0}, kept = {0};
	uint8_t key[1 + JOURNAL_ID_SIZE];
	char text[JOURNAL_ID_TEXT_SIZE];
	AUTO_BUFFER v = {0};
	int rc = journal_store_last_event(j->kv, run, &last);
	int meta = j->kv->ops->get(j->kv, JOURNAL_FAMILY_META,
				   journal_store_tag_key(JOURNAL_META_HEAD, run, key), &v, NULL);
	if (seq == 0 && rc == -ENOENT && meta == -ENOENT)
		return 0; /* nothing was ever written to this chain */
	if (rc == 0 && meta == 0 && journal_store_head_read(buffer_bytes(&v), &kept) &&
	    kept.seq == last.seq && kept.seq == seq && digest_equal(&kept.hash, &last.hash) &&
	    digest_equal(&kept.hash, hash))
		return 0;
	return error_set(err, -EUCLEAN,
			 "journal: the chain of run %.8s ends at record %llu, its head says %llu: "
			 "records were changed or "
			 "removed; see `holdfast verify`; " REMEDY_BACKUP,
			 journal_id_text(run, text), (unsigned long long)last.seq,
			 (unsigned long long)(kept.seq ? kept.seq : seq));
}

static int collect_id(struct bytes key, struct bytes value, void *arg)
{
	struct buffer *ids = arg;
	(void)value;
	if (key.len != 1 + JOURNAL_ID_SIZE)
		return -EUCLEAN;
	return buffer_append(ids, (const uint8_t *)key.data + 1, JOURNAL_ID_SIZE);
}

static int load_in_flight(struct journal *j, struct error *err)
{
	const uint8_t tag = JOURNAL_INDEX_IN_FLIGHT;
	AUTO_BUFFER ids = {0};
	int rc = j->kv->ops->each(j->kv, JOURNAL_FAMILY_INDEX, bytes_of(&tag, 1), bytes_of(NULL, 0),
				  false, collect_id, &ids);
	if (rc < 0)
		return error_set(err, rc, "journal: reading the index: %s", strerror(-rc));
	for (size_t at = 0; at < ids.len; at += JOURNAL_ID_SIZE) {
		struct journal_id id;
		memcpy(id.b, ids.data + at, JOURNAL_ID_SIZE);
		rc = journal_store_load_run(j->kv, j->state, &id, err);
		const struct journal_run *run = rc == 0 ? journal_rows_run(j->state, &id) : NULL;
		if (run)
			rc = compare_head(j, &id, run->seq, &run->head, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int load_unanchored(struct journal *j, struct error *err)
{
	const uint8_t tag = JOURNAL_META_UNANCHORED;
	AUTO_BUFFER ids = {0};
	int rc = j->kv->ops->each(j->kv, JOURNAL_FAMILY_META, bytes_of(&tag, 1), bytes_of(NULL, 0),
				  false, collect_id, &ids);
	if (rc < 0)
		return error_set(err, rc, "journal: reading its heads: %s", strerror(-rc));
	size_t count = ids.len / JOURNAL_ID_SIZE;
	j->heads = calloc(count ? count : 1, sizeof(*j->heads));
	if (!j->heads)
		return error_nomem(err);
	j->head_cap = count ? count : 1;
	for (size_t i = 0; i < count; i++) {
		struct journal_store_head *h = &j->heads[i];
		uint8_t key[1 + JOURNAL_ID_SIZE];
		AUTO_BUFFER v = {0};
		memcpy(h->head.run.b, ids.data + i * JOURNAL_ID_SIZE, JOURNAL_ID_SIZE);
		rc = j->kv->ops->get(j->kv, JOURNAL_FAMILY_META,
				     journal_store_tag_key(JOURNAL_META_HEAD, &h->head.run, key),
				     &v, err);
		if (rc < 0 || !journal_store_head_read(buffer_bytes(&v), &h->head))
			return error_set(err, -EUCLEAN,
					 "journal: a chain's head is missing; " REMEDY_BACKUP);
		h->marked = true;
		j->head_count++;
	}
	j->since_anchor = (uint32_t)count;
	return 0;
}

/* Everything that open has to read; afterwards j->state is ready. */
static int load_everything(struct journal *j, struct error *err)
{
	static const uint8_t kinds[] = {JOURNAL_ROW_DAEMON, JOURNAL_ROW_LEASE, JOURNAL_ROW_TRUST};
	static const struct journal_id daemon;
	size_t count;
	for (size_t i = 0; i < sizeof(kinds); i++) {
		int rc = load_kind(j->kv, j->state, kinds[i], NULL, &count);
		if (rc < 0)
			return error_set(err, rc,
					 "journal: its rows cannot be read: %s; `holdfast fsck "
					 "--repair` rebuilds them",
					 strerror(-rc));
	}
	/* The daemon's row is written with its own chain; other runs' records move the lsn on
	 * without it. */
	uint64_t lsn = 0;
	int rc = read_u64(j->kv, JOURNAL_META_LSN, &lsn);
	if (rc == 0)
		rc = compare_head(j, &daemon, j->state->daemon_seq, &j->state->daemon_head, err);
	if (rc == 0)
		rc = load_in_flight(j, err);
	if (rc == 0)
		rc = load_unanchored(j, err);
	if (rc < 0)
		return error_set(err, rc, "journal: loading: %s", strerror(-rc));
	if (lsn > j->state->last_lsn)
		j->state->last_lsn = lsn;
	j->state->track_changes = true;
	return 0;
}

/* ---- Open and close ---- */

/* Kept so that outcomes can be recorded on a full disk; made again when there is room. */
static void hold_reserve(struct journal *j)
{
	AUTO_FD fd =
		openat(j->dirfd, "reserve", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	if (fd < 0)
		return;
	j->reserve_held = posix_fallocate(fd, 0, JOURNAL_RESERVE_FILE) == 0;
	if (!j->reserve_held)
		(void)unlinkat(j->dirfd, "reserve", 0);
}

static void fatal_from_thread(const struct error *err, void *arg)
{
	journal_store_fatal(arg, err);
}

static int open_on_disk(struct journal *j, struct error *err)
{
	struct journal_committer_options c = {.before_write = journal_store_make_room,
					      .fatal = fatal_from_thread,
					      .arg = j};
	j->dirfd = fcntl(j->o.dirfd, F_DUPFD_CLOEXEC, 3);
	if (j->dirfd < 0)
		return error_set(err, -errno, "journal: state directory: %s", strerror(errno));
	int rc = take_lock(j, err);
	if (rc < 0)
		return rc;
	struct stat reserve;
	j->reserve_held = fstatat(j->dirfd, "reserve", &reserve, AT_SYMLINK_NOFOLLOW) == 0;
	if (!j->o.read_only)
		journal_store_make_room(j); /* opening writes too */
	rc = open_rocks(j, c.secret, err);
	if (rc == 0)
		rc = check_format(j, err);
	if (rc == 0)
		rc = journal_blob_setup(j, err);
	if (rc == 0 && !j->o.unloaded)
		rc = load_everything(j, err);
	if (rc < 0 || j->o.read_only)
		return rc;
	if (!journal_space_low(j))
		hold_reserve(j);
	c.kv = j->kv;
	c.durable_lsn = j->state->last_lsn;
	/* What was read came from the log's pages: make sure that it is on the disk before anything
	 * stands on it. */
	rc = j->kv->ops->sync(j->kv, err);
	return rc < 0 ? rc : journal_committer_start(&c, &j->committer, err);
}

static int open_in_memory(struct journal *j, struct error *err)
{
	int rc = journal_kv_memory_open(&j->kv);
	if (rc < 0)
		return error_nomem(err);
	j->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (j->event_fd < 0)
		return error_set(err, -errno, "journal: eventfd: %s", strerror(errno));
	rc = check_format(j, err);
	return rc < 0 ? rc : load_everything(j, err);
}

int journal_open(const struct journal_options *o, struct journal **ret, struct error *err)
{
	struct error local = {0};
	struct journal *j = calloc(1, sizeof(*j));
	if (!j)
		return error_nomem(err);
	if (!err)
		err = &local;
	j->o = *o;
	j->dirfd = j->lockfd = j->blobs_fd = j->event_fd = -1;
	j->batch.max = SIZE_MAX;
	pthread_mutex_init(&j->blob_lock, NULL);
	pthread_mutex_init(&j->spare_lock, NULL);
	j->state = journal_state_new();
	int rc = !j->state	? error_nomem(err)
		 : o->in_memory ? open_in_memory(j, err)
				: open_on_disk(j, err);
	if (rc < 0) {
		journal_close(j);
		return rc;
	}
	*ret = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	if (j->committer)
		journal_flush(j, true);
	journal_committer_stop(j->committer);
	if (j->kv)
		j->kv->ops->close(j->kv);
	journal_state_free(j->state);
	buffer_free(&j->batch);
	buffer_free(&j->record);
	buffer_free(&j->key);
	buffer_free(&j->value);
	for (size_t i = 0; i < JOURNAL_FIELD_LIMIT; i++)
		buffer_free(&j->texts[i]);
	free(j->heads);
	close_fd(&j->event_fd);
	close_fd(&j->blobs_fd);
	close_fd(&j->lockfd); /* after the database is closed */
	close_fd(&j->dirfd);
	pthread_mutex_destroy(&j->blob_lock);
	pthread_mutex_destroy(&j->spare_lock);
	journal_digestset_free(&j->spared);
	free(j);
}
