/*
 * The journal and death: killed at every failpoint and at any instant, its write-ahead log cut and
 * flipped, its disk full. What was acknowledged is there, rows equal what the reference model makes
 * of the same records, and a journal that cannot keep that promise says so and changes nothing.
 *
 * A writer is this program again (a process with RocksDB's threads must not fork): it writes the
 * random stream of a seed, so that the first n records are known to whoever reads the journal
 * afterwards.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/failpoint.h"
#include "base/guard.h"
#include "base/io.h"
#include "journal/wal.h"
#include "tests/unit/journal/folder.h"
#include "tests/unit/journal/canonical.h"
#include "tests/unit/journal/maker.h"
#include "tests/unit/journal/story.h"

enum {
	WRITER_EVENTS = 100000,
	SYNC_ALL = 0,
	SYNC_SOME = 1,
	SYNC_FIRST = 2,
	SYNC_NONE = 3,
	FIRST_EVENTS = 60,
	TAIL_EVENTS = 40
};

static int64_t fake_wall = 1, fake_mono = 1;

static int64_t wall(void)
{
	return fake_wall;
}

static int64_t mono(void)
{
	return fake_mono;
}

static int open_journal(int dirfd, bool unloaded, struct journal **ret, struct error *err)
{
	struct journal_options o = {.dirfd = dirfd,
				    .unloaded = unloaded,
				    .anchor_every = UINT32_MAX,
				    .reserve_bytes = 1,
				    .clock = {.wall_ns = wall, .mono_ns = mono}};
	return journal_open(&o, ret, err);
}

/* ---- The writer ---- */

static void tell(int fd, uint64_t lsn)
{
	if (fd >= 0 && write(fd, &lsn, sizeof(lsn)) != sizeof(lsn))
		_exit(3);
}

/* Random records, each batch of 1 to 3; how tells which batches are synced. Every acknowledged lsn
 * goes to the pipe. */
static void write_stream(struct journal *j, uint64_t seed, int how, uint64_t events, int ack)
{
	struct maker *m = maker_new(seed);
	struct error err = {0};
	static const struct journal_id daemon;
	for (uint64_t i = 1; i <= events; i++) {
		struct journal_record r = *maker_next(m);
		fake_wall = r.wall_ns;
		fake_mono = r.mono_ns;
		if (!journal_id_equal(&r.run, &daemon) && r.type != JOURNAL_RUN_CREATED &&
		    journal_load_run(j, &r.run, &err) < 0)
			_exit(4);
		journal_append(j, &r, NULL);
		if (i % 3 == 0)
			continue;
		bool sync = how == SYNC_ALL || (how == SYNC_SOME && i % 5 == 0) ||
			    (how == SYNC_FIRST && i <= FIRST_EVENTS);
		journal_flush(j, sync);
		if (sync && i % 2 == 0 && journal_wait_durable(j, r.lsn) < 0)
			_exit(5);
		tell(ack, journal_durable_lsn(j));
	}
	maker_free(m);
}

/* Files as blobs, each named by the next run: a record never names one that is not there. */
static void write_blobs(struct journal *j, int ack)
{
	AUTO_FREE char *big = malloc(100000);
	for (int i = 0; i < 200; i++) {
		struct journal_record r;
		struct error err = {0};
		struct digest d;
		memset(big, i, 100000);
		maker_record(JOURNAL_RUN_CREATED, false, &r);
		memset(&r.run, i + 1, sizeof(r.run));
		if (journal_blob_put(j, bytes_of(big, 100000), &d, &err) < 0)
			_exit(6);
		r.p.plan = r.p.policy = d;
		journal_append(j, &r, NULL);
		journal_flush(j, true);
		tell(ack, journal_durable_lsn(j));
	}
}

/* One run whose records after the first nobody is told of, each a batch of its own. */
static void write_unsynced(struct journal *j, uint64_t events)
{
	static const enum journal_type script[] = {JOURNAL_RUN_CREATED,	    JOURNAL_RUN_STARTED,
						   JOURNAL_STEP_DECLARED,   JOURNAL_STEP_RUNNABLE,
						   JOURNAL_ATTEMPT_STARTED, JOURNAL_ATTEMPT_LIVE};
	for (uint64_t i = 0; i < events; i++) {
		struct journal_record r;
		struct journal_id one;
		enum journal_type later = i % 2 ? JOURNAL_ATTEMPT_THAWED : JOURNAL_ATTEMPT_FROZEN;
		maker_record(i < ARRAY_SIZE(script) ? script[i] : later, false, &r);
		r.step = r.step == JOURNAL_NO_STEP ? r.step : 0;
		r.attempt = r.attempt ? 1 : 0;
		journal_append(j, &r, NULL);
		journal_flush(j, false);
		if (journal_list_runs(j, 1, &one) < 0)
			_exit(7);
	}
}

/* argv: -, "write", folder, seed, how, events, failpoints, pipe */
static int writer_main(char **argv)
{
	struct journal *j = NULL;
	struct error err = {0};
	int how = atoi(argv[4]), ack = atoi(argv[7]);
	AUTO_FD dir = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!freopen("/dev/null", "w", stderr))
		return 2;
	if (open_journal(dir, false, &j, &err) < 0)
		return 2;
	signal(SIGABRT, SIG_DFL); /* a sanitizer may report every abort; here some are meant */
	failpoint_init(argv[6][0] ? argv[6] : NULL);
	if (how < 0)
		write_blobs(j, ack);
	else if (how == SYNC_NONE)
		write_unsynced(j, strtoull(argv[5], NULL, 10));
	else
		write_stream(j, strtoull(argv[3], NULL, 10), how, strtoull(argv[5], NULL, 10), ack);
	if (journal_wait_durable(j, how >= SYNC_FIRST ? 1 : journal_last_lsn(j)) < 0)
		return 2;
	/* Reading waits for what is queued: the unsynced tail is in the log then. */
	struct journal_id one;
	if (journal_list_runs(j, 1, &one) < 0)
		return 2;
	kill(getpid(), SIGKILL); /* never closed: the log is what is left */
	return 0;
}

static pid_t start_writer(const struct folder *f, uint64_t seed, int how, uint64_t events,
			  const char *failpoints, int *ret_ack)
{
	int p[2];
	char seed_text[24], how_text[16], events_text[24], fd_text[16];
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	snprintf(seed_text, sizeof(seed_text), "%llu", (unsigned long long)seed);
	snprintf(how_text, sizeof(how_text), "%d", how);
	snprintf(events_text, sizeof(events_text), "%llu", (unsigned long long)events);
	snprintf(fd_text, sizeof(fd_text), "%d", p[1]);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		fcntl(p[1], F_SETFD, 0);
		execl("/proc/self/exe", "writer", "write", f->path, seed_text, how_text,
		      events_text, failpoints, fd_text, NULL);
		_exit(127);
	}
	close(p[1]);
	*ret_ack = p[0];
	return pid;
}

/* The largest acknowledged lsn; how the writer ended. */
static uint64_t end_writer(pid_t pid, int ack, int *ret_signal)
{
	uint64_t lsn, last = 0;
	int status;
	while (read(ack, &lsn, sizeof(lsn)) == sizeof(lsn))
		last = lsn;
	close(ack);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status))
		fail_msg("the writer ended by itself with %d", WEXITSTATUS(status));
	*ret_signal = WTERMSIG(status);
	return last;
}

/* ---- What a reader finds ---- */

static void load_all(struct journal *j)
{
	struct journal_id ids[64];
	struct error err = {0};
	int count = journal_list_runs(j, 64, ids);
	for (int i = 0; i < count; i++)
		if (journal_load_run(j, &ids[i], &err) < 0)
			fail_msg("%s", err.msg);
}

/* Rows equal the model after the first last_lsn records of the seed: nothing is missing, doubled or
 * half done. */
static void assert_prefix(struct journal *j, uint64_t seed)
{
	struct maker *m = maker_new(seed);
	AUTO_BUFFER a = {0};
	AUTO_BUFFER b = {0};
	for (uint64_t i = 0; i < journal_last_lsn(j); i++)
		maker_next(m);
	load_all(j);
	assert_int_equal(canonical_rows(journal_rows(j), &a), 0);
	assert_int_equal(canonical_rows(maker_state(m), &b), 0);
	assert_true(bytes_equal(buffer_bytes(&a), buffer_bytes(&b)));
	maker_free(m);
}

static void say(const char *text, void *arg)
{
	(void)arg;
	print_message("  %s\n", text);
}

static void assert_fsck_clean(struct journal *j)
{
	struct journal_report r;
	struct error err = {0};
	assert_int_equal(journal_fsck(j, false, say, NULL, &r, &err), 0);
	assert_int_equal(r.problems, 0);
}

static void assert_survived(const struct folder *f, uint64_t seed, uint64_t acknowledged)
{
	struct journal *j = NULL;
	struct error err = {0};
	if (open_journal(f->fd, false, &j, &err) < 0)
		fail_msg("%s", err.msg);
	if (journal_last_lsn(j) < acknowledged)
		fail_msg("%llu was acknowledged, %llu is there", (unsigned long long)acknowledged,
			 (unsigned long long)journal_last_lsn(j));
	assert_fsck_clean(j);
	assert_prefix(j, seed);
	journal_close(j);
}

static void killed_at_every_failpoint_nothing_acknowledged_is_lost(void **state)
{
	(void)state;
	static const struct {
		const char *spec;
		int signal;
	} cases[] = {
		{"journal.before_write=kill@1", SIGKILL},
		{"journal.before_write=kill@2", SIGKILL},
		{"journal.before_write=kill@37", SIGKILL},
		{"journal.after_write_before_sync=kill@1", SIGKILL},
		{"journal.after_write_before_sync=kill@2", SIGKILL},
		{"journal.after_write_before_sync=kill@37", SIGKILL},
		{"journal.after_sync=kill@1", SIGKILL},
		{"journal.after_sync=kill@2", SIGKILL},
		{"journal.after_sync=kill@37", SIGKILL},
		/* A write or sync that fails ends the process; it is never tried again. */
		{"journal.before_write=error:EIO@9", SIGABRT},
		{"journal.before_write=error:ENOSPC@9", SIGABRT},
		{"journal.after_write_before_sync=error:EIO@9", SIGABRT},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (int how = SYNC_ALL; how <= SYNC_SOME; how++) {
			struct folder f;
			int ack, signal;
			folder_make(&f);
			pid_t pid =
				start_writer(&f, i + 1, how, WRITER_EVENTS, cases[i].spec, &ack);
			uint64_t acknowledged = end_writer(pid, ack, &signal);
			assert_int_equal(signal, cases[i].signal);
			assert_survived(&f, i + 1, acknowledged);
			folder_remove(&f);
		}
	}
}

static void killed_at_any_instant_and_again_nothing_acknowledged_is_lost(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 12; i++) {
		struct folder f;
		int ack, signal;
		folder_make(&f);
		pid_t pid = start_writer(&f, 50 + i, (int)(i % 2), WRITER_EVENTS, "", &ack);
		usleep((useconds_t)(20000 + i * 13000));
		kill(pid, SIGKILL);
		uint64_t acknowledged = end_writer(pid, ack, &signal);
		assert_survived(&f, 50 + i, acknowledged);
		folder_remove(&f);
	}
}

static void a_record_never_names_a_blob_that_is_not_there(void **state)
{
	(void)state;
	static const char *const specs[] = {
		"journal.blob_written=kill@1", "journal.blob_written=kill@20",
		"journal.blob_renamed=kill@1", "journal.blob_renamed=kill@20",
		"journal.after_sync=kill@20",
	};
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct folder f;
		int ack, signal;
		struct journal *j = NULL;
		struct journal_report r;
		struct error err = {0};
		folder_make(&f);
		pid_t pid = start_writer(&f, 1, -1, 0, specs[i], &ack);
		uint64_t acknowledged = end_writer(pid, ack, &signal);
		assert_int_equal(signal, SIGKILL);
		assert_int_equal(open_journal(f.fd, false, &j, &err), 0);
		assert_true(journal_last_lsn(j) >= acknowledged);
		assert_int_equal(journal_verify(j, say, NULL, &r, &err), 0);
		assert_int_equal(r.problems, 0);
		/* what the crash left half made is gone with the opening */
		AUTO_FD blobs = openat(f.fd, "blobs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		AUTO_DIR d = fdopendir(blobs);
		blobs = -1;
		for (struct dirent *e; (e = readdir(d));)
			assert_true(strncmp(e->d_name, ".new-", 5) != 0);
		journal_close(j);
		folder_remove(&f);
	}
}

/* ---- Torn and flipped logs ---- */

struct log {
	char path[PATH_MAX + 300];
	size_t size;
};

/* The only log that has anything in it. */
static void find_log(const struct folder *f, struct log *ret)
{
	char folder[PATH_MAX + 16];
	snprintf(folder, sizeof(folder), "%s/journal", f->path);
	AUTO_DIR d = opendir(folder);
	ret->size = 0;
	for (struct dirent *e; (e = readdir(d));) {
		struct stat st;
		char path[sizeof(ret->path)];
		if (!strstr(e->d_name, ".log"))
			continue;
		snprintf(path, sizeof(path), "%s/%.255s", folder, e->d_name);
		assert_int_equal(stat(path, &st), 0);
		if ((size_t)st.st_size > ret->size) {
			ret->size = (size_t)st.st_size;
			memcpy(ret->path, path, sizeof(path));
		}
	}
	assert_true(ret->size > 0);
}

static void flip(const struct log *log, size_t at)
{
	AUTO_FD fd = open(log->path, O_RDWR | O_CLOEXEC);
	uint8_t b;
	assert_int_equal(pread(fd, &b, 1, (off_t)at), 1);
	b ^= 0x40;
	assert_int_equal(pwrite(fd, &b, 1, (off_t)at), 1);
}

/* Digest over names and contents of the database but for its own diary. */
static void digest_database(const struct folder *f, struct digest *ret)
{
	char path[PATH_MAX + 300];
	struct dirent **names;
	AUTO_BUFFER all = {0};
	snprintf(path, sizeof(path), "%s/journal", f->path);
	int n = scandir(path, &names, NULL, alphasort);
	AUTO_FD folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < n; i++) {
		if (strncmp(names[i]->d_name, "LOG", 3) != 0 && names[i]->d_name[0] != '.') {
			buffer_append_str(&all, names[i]->d_name);
			assert_int_equal(io_read_file_at(folder, names[i]->d_name, 64 << 20, &all),
					 0);
		}
		free(names[i]);
	}
	free(names);
	digest_of(buffer_bytes(&all), ret);
}

static size_t last_of(const struct log *log)
{
	struct journal_wal_scan scan = {.secret = (const uint8_t *)"0123456789abcdef"};
	AUTO_BUFFER b = {0};
	AUTO_FD fd = open(log->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(io_read_all(fd, 64 << 20, &b), 0);
	journal_wal_scan_file(&scan, buffer_bytes(&b), true);
	assert_false(scan.damaged);
	return b.len;
}

/* All batches but the last are named as synced by a later one: a flip anywhere in them must refuse,
 * and say what to do. The last one looks like a torn tail. */
static void a_flip_in_what_was_acknowledged_is_refused(void **state)
{
	(void)state;
	struct folder f;
	struct log log;
	int ack, signal;
	unsigned refused = 0, opened = 0;
	folder_make(&f);
	pid_t pid = start_writer(&f, 7, SYNC_ALL, 90, "", &ack);
	end_writer(pid, ack, &signal);
	const uint64_t acknowledged = 90; /* it waited for all of them before it died */
	find_log(&f, &log);
	assert_int_equal(last_of(&log), log.size);
	for (size_t at = 3; at < log.size;
	     at = at == log.size - 4 ? log.size : at + log.size / 60 + 1) {
		if (at + log.size / 60 + 1 >= log.size)
			at = log.size - 4; /* within the last batch */
		struct folder copy;
		struct log copied;
		struct digest before, after;
		struct journal *j = NULL;
		struct error err = {0};
		folder_copy(&f, &copy);
		find_log(&copy, &copied);
		flip(&copied, at);
		digest_database(&copy, &before);
		int rc = open_journal(copy.fd, false, &j, &err);
		if (rc < 0) {
			refused++;
			assert_int_equal(rc, -EUCLEAN);
			assert_non_null(strstr(err.msg, "restore"));
			digest_database(&copy, &after);
			assert_true(digest_equal(&before, &after));
		} else {
			opened++;
			assert_non_null(journal_recovery_note(j));
			assert_true(journal_last_lsn(j) >= acknowledged - 3);
			assert_prefix(j, 7);
			journal_close(j);
		}
		folder_remove(&copy);
	}
	print_message("  %u flips refused, %u in the last batch opened with a note\n", refused,
		      opened);
	assert_true(refused >= 50 && opened >= 1 && opened <= 5);
	folder_remove(&f);
}

/* A tail that nobody was told of may be torn anywhere: it opens, says so, and goes on. */
static void a_torn_unacknowledged_tail_opens_and_is_reported(void **state)
{
	(void)state;
	struct folder f;
	struct log log;
	int ack, signal;
	unsigned noted = 0, cuts = 0, cases = 0;
	folder_make(&f);
	pid_t pid = start_writer(&f, 9, SYNC_FIRST, FIRST_EVENTS + TAIL_EVENTS, "", &ack);
	uint64_t acknowledged = end_writer(pid, ack, &signal);
	assert_true(acknowledged >= FIRST_EVENTS - 3);
	find_log(&f, &log);
	/* Types that are always synced are in the tail too: what counts is what the log itself
	 * names. */
	for (int cut = 0; cut < 2; cut++) {
		for (size_t back = 1; back < log.size / 8; back += log.size / 200 + 1, cases++) {
			struct folder copy;
			struct log copied;
			struct journal *j = NULL;
			struct error err = {0};
			folder_copy(&f, &copy);
			find_log(&copy, &copied);
			if (cut)
				assert_int_equal(truncate(copied.path, (off_t)(copied.size - back)),
						 0);
			else
				flip(&copied, copied.size - back);
			int rc = open_journal(copy.fd, false, &j, &err);
			if (rc == 0) {
				noted += cut && journal_recovery_note(j) != NULL;
				cuts += cut;
				assert_fsck_clean(j);
				assert_prefix(j, 9);
				uint64_t lsn = journal_last_lsn(j);
				assert_int_equal(journal_epoch_begin(j, 0, "after", &err), 0);
				journal_close(j);
				assert_int_equal(open_journal(copy.fd, false, &j, &err), 0);
				assert_int_equal(journal_last_lsn(j), lsn + 1);
				assert_null(journal_recovery_note(j));
				journal_close(j);
			} else {
				assert_int_equal(cut, 0);
				assert_int_equal(rc, -EUCLEAN);
			}
			folder_remove(&copy);
		}
	}
	/* Every cut tail opens; a cut exactly between two batches leaves nothing to report. How
	 * many of the flips hit what a later batch names as synced depends on how the writer's
	 * batches were joined. */
	print_message("  %u of %u cut tails opened with a note\n", noted, cuts);
	assert_int_equal(cuts, cases / 2);
	assert_true(noted >= cuts - 3);
	folder_remove(&f);
}

/* A full record of one batch that is only a mark, as RocksDB frames it. */
static size_t frame_mark(const uint8_t *secret, struct journal_wal_mark mark, uint8_t *out)
{
	const size_t body = 12 + 2 + JOURNAL_WAL_MARK_SIZE;
	memset(out, 0, 7 + body);
	out[4] = (uint8_t)body;
	out[6] = 1;
	out[7 + 12] = 3;
	out[7 + 13] = JOURNAL_WAL_MARK_SIZE;
	journal_wal_mark_write(secret, &mark, out + 7 + 14);
	uint32_t crc = journal_wal_crc32c(0, out + 6, body + 1);
	uint32_t masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
	memcpy(out, &masked, sizeof(masked));
	return 7 + body;
}

/* Bytes of an agent inside a torn batch that look like a later, intact batch: without the secret
 * they are nothing. */
static void a_forged_batch_in_a_torn_one_is_not_believed(void **state)
{
	(void)state;
	const uint8_t secret[JOURNAL_WAL_SECRET_SIZE] = "the real secret",
		      other[JOURNAL_WAL_SECRET_SIZE] = "somebody's guess";
	for (int forged = 0; forged < 2; forged++) {
		uint8_t file[300];
		memset(file, 'x', sizeof(file)); /* torn bytes around it */
		frame_mark(forged ? other : secret, (struct journal_wal_mark){100, 101, 99},
			   file + 100);
		struct journal_wal_scan scan = {.secret = secret};
		journal_wal_scan_file(&scan, bytes_of(file, sizeof(file)), true);
		assert_int_equal(scan.synced, forged ? 0 : 99);
	}
}

static void a_hole_between_whole_batches_is_damage(void **state)
{
	(void)state;
	const uint8_t secret[JOURNAL_WAL_SECRET_SIZE] = "the real secret";
	static const struct {
		struct journal_wal_mark second;
		bool damaged;
	} cases[] = {{{3, 4, 2}, false}, {{3, 2, 2}, false}, {{5, 6, 4}, true}, {{2, 3, 1}, true}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t first[128], second[128];
		size_t len = frame_mark(secret, (struct journal_wal_mark){1, 2, 0}, first);
		frame_mark(secret, cases[i].second, second);
		struct journal_wal_scan scan = {.secret = secret};
		journal_wal_scan_file(&scan, bytes_of(first, len), false);
		journal_wal_scan_file(&scan, bytes_of(second, len), true);
		assert_int_equal(scan.damaged, cases[i].damaged);
		assert_int_equal(scan.synced, cases[i].second.synced);
	}
}

/* A log cut exactly between two batches looks to RocksDB like one that ended. Here one batch is
 * taken out and what follows it stands in a second log, as after a switch of logs. */
static bool split_log(const struct log *log, size_t lost)
{
	AUTO_BUFFER b = {0};
	char second[sizeof(log->path) + 8];
	size_t at = 0, from = 0, to = 0, records = 0;
	AUTO_FD in = open(log->path, O_RDWR | O_CLOEXEC);
	assert_int_equal(io_read_all(in, 64 << 20, &b), 0);
	while (at + 7 < b.len && at < 32768 - 7) {
		size_t len = 7u + b.data[at + 4] + ((size_t)b.data[at + 5] << 8);
		if (b.data[at + 6] != 1 || at + len > 32768)
			break; /* only whole records of the first block can stand elsewhere */
		if (records == lost)
			from = at;
		at += len;
		if (records++ == lost)
			to = at;
	}
	if (to == 0 || at == to)
		return false;
	snprintf(second, sizeof(second), "%.*s999999.log",
		 (int)(strlen(log->path) - strlen("000000.log")), log->path);
	AUTO_FD out = open(second, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_int_equal(io_write_all(out, b.data + to, at - to), 0);
	assert_int_equal(ftruncate(in, (off_t)from), 0);
	return true;
}

static void a_log_cut_between_two_batches_is_seen(void **state)
{
	(void)state;
	for (int how = SYNC_ALL; how <= SYNC_NONE; how += SYNC_NONE) {
		struct folder f;
		struct log log;
		struct journal *j = NULL;
		struct error err = {0};
		int ack, signal;
		folder_make(&f);
		pid_t pid = start_writer(&f, 21, how, 24, "", &ack);
		end_writer(pid, ack, &signal);
		find_log(&f, &log);
		assert_true(split_log(&log, 12));
		int rc = open_journal(f.fd, false, &j, &err);
		if (how == SYNC_ALL) {
			assert_int_equal(rc, -EUCLEAN);
			assert_non_null(strstr(err.msg, "restore"));
		} else {
			if (rc < 0)
				fail_msg("%s", err.msg);
			assert_non_null(journal_recovery_note(j));
			assert_int_equal(journal_last_lsn(j),
					 11); /* the format's batch and the first 11 */
			assert_fsck_clean(j);
			journal_close(j);
		}
		folder_remove(&f);
	}
}

/* ---- A full disk ---- */

static int write_text(const char *path, const char *text)
{
	AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -errno;
}

/* A small file system of our own, also for an ordinary user. */
static int own_mounts(void)
{
	char map[64];
	uid_t uid = getuid();
	gid_t gid = getgid();
	if (unshare(uid == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return -errno;
	if (uid != 0) {
		(void)write_text("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "0 %u 1", uid);
		if (write_text("/proc/self/uid_map", map) < 0)
			return -errno;
		snprintf(map, sizeof(map), "0 %u 1", gid);
		if (write_text("/proc/self/gid_map", map) < 0)
			return -errno;
	}
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0;
}

#define CHECK(x)                                                               \
	do {                                                                   \
		if (!(x)) {                                                    \
			dprintf(STDERR_FILENO, "line %d: %s\n", __LINE__, #x); \
			return 1;                                              \
		}                                                              \
	} while (0)

static int fill_disk(int dir)
{
	static char block[1 << 16];
	AUTO_FD fd = openat(dir, "filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	for (size_t size = sizeof(block); size > 0; size /= 2)
		while (write(fd, block, size) == (ssize_t)size)
			;
	return errno == ENOSPC ? 0 : -errno;
}

static int disk_full_main(char **argv)
{
	struct journal *j = NULL;
	struct error err = {0};
	int rc = own_mounts();
	if (rc == 0 && mount("tmpfs", argv[2], "tmpfs", 0, "size=64m,mode=0700") < 0)
		rc = -errno;
	if (rc < 0) {
		dprintf(STDERR_FILENO, "no mounts of our own here: %s\n", strerror(-rc));
		return 77;
	}
	AUTO_FD dir = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct journal_options o = {.dirfd = dir,
				    .reserve_bytes = 20 << 20,
				    .clock = story_clock()};
	CHECK(journal_open(&o, &j, &err) == 0);
	CHECK(!journal_space_low(j));
	struct stat st;
	CHECK(fstatat(dir, "reserve", &st, 0) == 0);
	story_run(j, 1, false);
	CHECK(journal_wait_durable(j, journal_last_lsn(j)) == 0);
	CHECK(fill_disk(dir) == 0);
	CHECK(journal_space_low(j));
	/* Outcomes are still recorded: the reserve is given up. */
	for (uint8_t tag = 2; tag < 60; tag++) {
		story_run(j, tag, true);
		CHECK(journal_wait_durable(j, journal_last_lsn(j)) == 0);
	}
	CHECK(fstatat(dir, "reserve", &st, 0) < 0 && errno == ENOENT);
	uint64_t lsn = journal_last_lsn(j);
	journal_close(j);
	CHECK(journal_open(&o, &j, &err) == 0);
	CHECK(journal_last_lsn(j) == lsn);
	CHECK(journal_space_low(j));
	journal_close(j);
	CHECK(unlinkat(dir, "filler", 0) == 0);
	CHECK(journal_open(&o, &j, &err) == 0);
	CHECK(!journal_space_low(j));
	CHECK(fstatat(dir, "reserve", &st, 0) == 0); /* made again */
	struct journal_report r;
	CHECK(journal_verify(j, NULL, NULL, &r, &err) == 0 && r.problems == 0);
	journal_close(j);
	return 0;
}

static void on_a_full_disk_outcomes_are_still_recorded(void **state)
{
	(void)state;
	struct folder f;
	int status;
	folder_make(&f);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		execl("/proc/self/exe", "full", "full", f.path, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	folder_remove(&f);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(int argc, char **argv)
{
	if (argc == 8 && strcmp(argv[1], "write") == 0)
		return writer_main(argv);
	if (argc == 3 && strcmp(argv[1], "full") == 0)
		return disk_full_main(argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_at_every_failpoint_nothing_acknowledged_is_lost),
		cmocka_unit_test(killed_at_any_instant_and_again_nothing_acknowledged_is_lost),
		cmocka_unit_test(a_record_never_names_a_blob_that_is_not_there),
		cmocka_unit_test(a_flip_in_what_was_acknowledged_is_refused),
		cmocka_unit_test(a_torn_unacknowledged_tail_opens_and_is_reported),
		cmocka_unit_test(a_log_cut_between_two_batches_is_seen),
		cmocka_unit_test(a_forged_batch_in_a_torn_one_is_not_believed),
		cmocka_unit_test(a_hole_between_whole_batches_is_damage),
		cmocka_unit_test(on_a_full_disk_outcomes_are_still_recorded),
	};
	return cmocka_run_group_tests_name("crash/journal", tests, NULL, NULL);
}
