/* The store against the reference model, twice: in RocksDB and in memory. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/guard.h"
#include "base/io.h"
#include "journal/record.h"
#include "tests/unit/journal/folder.h"
#include "tests/unit/journal/canonical.h"
#include "tests/unit/journal/maker.h"
#include "tests/unit/journal/tamper.h"

static int64_t fake_wall = 1, fake_mono = 1;

static int64_t wall(void)
{
	return fake_wall;
}

static int64_t mono(void)
{
	return fake_mono;
}

static struct journal_options options(const struct folder *f, bool in_memory)
{
	return (struct journal_options){.dirfd = f ? f->fd : -1,
					.in_memory = in_memory,
					.anchor_every = UINT32_MAX,
					.clock = {.wall_ns = wall, .mono_ns = mono}};
}

static struct journal *must_open(const struct journal_options *o)
{
	struct journal *j = NULL;
	struct error err = {0};
	if (journal_open(o, &j, &err) != 0)
		fail_msg("%s", err.msg);
	return j;
}

static void load_all(struct journal *j)
{
	struct journal_id ids[64];
	struct error err = {0};
	int count = journal_list_runs(j, 64, ids);
	assert_true(count >= 0);
	for (int i = 0; i < count; i++)
		assert_int_equal(journal_load_run(j, &ids[i], &err), 0);
}

static void assert_rows(struct journal *j, const struct journal_state *want)
{
	AUTO_BUFFER a = {0};
	AUTO_BUFFER b = {0};
	load_all(j);
	assert_int_equal(canonical_rows(journal_rows(j), &a), 0);
	assert_int_equal(canonical_rows(want, &b), 0);
	assert_true(bytes_equal(buffer_bytes(&a), buffer_bytes(&b)));
}

static void append_next(struct journal *j, struct maker *m)
{
	struct journal_record r = *maker_next(m);
	fake_wall = r.wall_ns;
	fake_mono = r.mono_ns;
	/* A run that is over may have left memory; a driver that asks again brings it back. */
	struct error err = {0};
	static const struct journal_id daemon;
	if (!journal_id_equal(&r.run, &daemon) && r.type != JOURNAL_RUN_CREATED)
		assert_int_equal(journal_load_run(j, &r.run, &err), 0);
	uint64_t lsn = r.lsn, got;
	journal_append(j, &r, &got);
	assert_int_equal(got, lsn);
}

/* Random operations on model and store; after every few the store is closed, opened, dropped or
 * asked. */
static void oracle(bool in_memory, uint64_t seeds, int events)
{
	for (uint64_t seed = 100; seed < 100 + seeds; seed++) {
		struct folder f;
		struct maker *m = maker_new(seed);
		folder_make(&f);
		struct journal_options o = options(&f, in_memory);
		struct journal *j = must_open(&o);
		for (int i = 0; i < events; i++) {
			append_next(j, m);
			if (maker_random(m, 3) == 0)
				journal_flush(j, maker_random(m, 2));
			if (maker_random(m, 20) == 0) {
				journal_flush(j, false);
				journal_drop_final(j, NULL, NULL);
			}
			if (maker_random(m, 20) == 0) {
				journal_flush(j, false);
				assert_rows(j, maker_state(m));
			}
			if (!in_memory && maker_random(m, 25) == 0) {
				journal_flush(j, false);
				journal_close(j);
				j = must_open(&o);
				assert_int_equal(journal_last_lsn(j), i + 1);
				assert_null(journal_recovery_note(j));
				assert_rows(j, maker_state(m));
			}
		}
		journal_close(j);
		folder_remove(&f);
		maker_free(m);
	}
}

static void the_store_equals_the_model_through_every_reopening(void **state)
{
	(void)state;
	oracle(false, 6, 250);
}

static void the_store_in_memory_equals_the_model(void **state)
{
	(void)state;
	oracle(true, 20, 250);
}

static void make_run(struct journal *j, uint8_t tag, const char *name, const char *request,
		     struct journal_id *ret)
{
	struct journal_record r;
	maker_record(JOURNAL_RUN_CREATED, false, &r);
	memset(&r.run, tag, sizeof(r.run));
	if (name)
		JOURNAL_SET(&r.p, name, bytes_str(name));
	if (request)
		JOURNAL_SET(&r.p, request, bytes_str(request));
	fake_wall++;
	journal_append(j, &r, NULL);
	*ret = r.run;
}

static void runs_are_found_by_name_prefix_request_and_time(void **state)
{
	(void)state;
	struct folder f;
	struct error err = {0};
	struct journal_id a, b, c, got, list[8];
	folder_make(&f);
	struct journal_options o = options(&f, false);
	struct journal *j = must_open(&o);
	make_run(j, 0xab, "fix-42", "req-1", &a);
	make_run(j, 0xac, NULL, NULL, &b);
	make_run(j, 0x10, "fix-4", "req-2", &c);
	struct journal_record r;
	maker_record(JOURNAL_APPROVAL_OPENED, false, &r);
	r.run = b;
	journal_append(j, &r, NULL);
	journal_flush(j, true);
	for (int reopened = 0; reopened < 2; reopened++) {
		static const struct {
			const char *wanted;
			int rc, which;
		} cases[] = {{"fix-42", 0, 0},	  {"fix-4", 0, 2},    {"ab", 0, 0},
			     {"aba", 0, 0},	  {"ac", 0, 1},	      {"1", 0, 2},
			     {"a", -ENOTUNIQ, 0}, {"ad", -ENOENT, 0}, {"fix", -ENOENT, 0},
			     {"", -ENOENT, 0}};
		const struct journal_id *runs[] = {&a, &b, &c};
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			err = (struct error){0};
			assert_int_equal(journal_find_run(j, cases[i].wanted, &got, &err),
					 cases[i].rc);
			if (cases[i].rc == 0)
				assert_true(journal_id_equal(&got, runs[cases[i].which]));
			else
				assert_int_equal(err.exit_status, EXIT_STATUS_USAGE);
		}
		assert_int_equal(journal_list_runs(j, 8, list), 3);
		assert_true(journal_id_equal(&list[0], &c) && journal_id_equal(&list[2], &a));
		assert_int_equal(journal_list_runs(j, 2, list), 2);
		/* By id, page by page. */
		assert_int_equal(journal_list_runs_after(j, NULL, 2, list), 2);
		assert_true(journal_id_equal(&list[0], &c) && journal_id_equal(&list[1], &a));
		got = list[1];
		assert_int_equal(journal_list_runs_after(j, &got, 2, list), 1);
		assert_true(journal_id_equal(&list[0], &b));
		assert_int_equal(journal_list_runs_after(j, &b, 2, list), 0);
		assert_int_equal(journal_find_request(j, bytes_str("req-2"), &got), 0);
		assert_true(journal_id_equal(&got, &c));
		assert_int_equal(journal_find_request(j, bytes_str("req-3"), &got), -ENOENT);
		struct journal_id run;
		assert_int_equal(journal_find_approval(j, "23", &got, &run, &err), 0);
		assert_true(journal_id_equal(&run, &b) && journal_id_equal(&got, &r.p.approval));
		journal_close(j);
		j = must_open(&o);
	}
	journal_close(j);
	folder_remove(&f);
}

static void a_second_opener_is_told_who_has_it(void **state)
{
	(void)state;
	struct folder f;
	struct error err = {0};
	struct journal *second = NULL;
	char pid[32];
	folder_make(&f);
	struct journal_options o = options(&f, false);
	struct journal *j = must_open(&o);
	for (int read_only = 0; read_only < 2; read_only++) {
		o.read_only = read_only;
		err = (struct error){0};
		assert_int_equal(journal_open(&o, &second, &err), -EBUSY);
		snprintf(pid, sizeof(pid), "process %ld ", (long)getpid());
		assert_non_null(strstr(err.msg, pid));
	}
	journal_close(j);
	/* Readers share it and keep writers out. */
	struct journal *a = must_open(&o), *b = must_open(&o);
	o.read_only = false;
	assert_int_equal(journal_open(&o, &second, &err), -EBUSY);
	journal_close(a);
	journal_close(b);
	j = must_open(&o);
	journal_close(j);
	folder_remove(&f);
}

static void acknowledged_means_synced(void **state)
{
	(void)state;
	struct folder f;
	struct journal_id run;
	uint64_t lsn;
	folder_make(&f);
	struct journal_options o = options(&f, false);
	struct journal *j = must_open(&o);
	struct pollfd p = {.fd = journal_event_fd(j), .events = POLLIN};
	make_run(j, 1, NULL, NULL, &run); /* a type that is always synced */
	journal_flush(j, false);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(journal_durable_lsn(j), 1);
	assert_int_equal(poll(&p, 1, 0), 0);

	struct journal_record r;
	maker_record(JOURNAL_RUN_STARTED, false, &r);
	r.run = run;
	journal_append(j, &r, &lsn);
	journal_flush(j, false);
	assert_int_equal(poll(&p, 1, 50), 0); /* unsynced: nothing to acknowledge */
	assert_int_equal(journal_durable_lsn(j), 1);
	journal_flush(j, true); /* nothing new, and still a sync */
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(journal_durable_lsn(j), lsn);
	assert_int_equal(journal_wait_durable(j, lsn), 0);
	assert_int_equal(journal_wait_durable(j, lsn + 1), -EINVAL);
	journal_close(j);
	folder_remove(&f);
}

static void the_epoch_is_past_journal_and_keeper(void **state)
{
	(void)state;
	static const struct {
		uint64_t keeper, epoch;
	} starts[] = {{0, 1}, {0, 2}, {9, 10}, {3, 11}};
	struct folder f;
	struct error err = {0};
	folder_make(&f);
	struct journal_options o = options(&f, false);
	for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
		struct journal *j = must_open(&o);
		assert_int_equal(journal_epoch_begin(j, starts[i].keeper, "test", &err), 0);
		assert_int_equal(journal_state_epoch(journal_rows(j)), starts[i].epoch);
		journal_close(j);
	}
	folder_remove(&f);
}

static void fill(char *to, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (char)(i * 31 + seed);
}

/* The folders below blobs/, and blobs/ itself, that this process synced; with synced_fail it
 * cannot. */
static atomic_uint synced_folders, synced_blobs; /* RocksDB's threads count too */
static bool synced_fail;

/* In place of the C library's, for all that is linked into this program. */
int fsync(int fd)
{
	char link[64], path[PATH_MAX];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	path[n < 0 ? 0 : n] = '\0';
	const char *at = strstr(path, "/blobs");
	bool below = at && at[6] == '/' && strlen(at) == strlen("/blobs/ab"), itself = at && !at[6];
	if (synced_fail && (below || itself)) {
		errno = EIO;
		return -1;
	}
	synced_folders += below;
	synced_blobs += itself;
	return (int)syscall(SYS_fsync, fd);
}

/* Who is killed between the rename and the sync leaves a file that a power cut may still take away.
 */
static void a_blob_file_that_was_found_is_synced_once(void **state)
{
	(void)state;
	enum { SIZE = 100000 };
	struct folder f;
	struct error err = {0};
	struct digest d;
	uint64_t size;
	folder_make(&f);
	struct journal_options o = options(&f, false);
	AUTO_FREE char *content = malloc(SIZE);
	fill(content, SIZE, 1);
	AUTO_FD fd = io_memfd_sealed("t", bytes_of(content, SIZE), false);
	for (int by_fd = 0; by_fd < 2; by_fd++) {
		for (int round = 0; round < 2; round++) { /* made, then found by the next process */
			struct journal *j = must_open(&o);
			synced_folders = synced_blobs = 0;
			for (int again = 0; again < 3; again++) {
				synced_fail = again == 0;
				int rc = by_fd ? journal_blob_put_fd(j, fd, UINT64_MAX, &d, &size,
								     &err)
					       : journal_blob_put(j, bytes_of(content, SIZE), &d,
								  &err);
				assert_int_equal(rc, again == 0 ? -EIO : 0);
			}
			assert_int_equal(synced_folders, 1);
			assert_int_equal(synced_blobs, 1);
			journal_close(j);
		}
	}
	folder_remove(&f);
}

static void blobs_come_back_byte_for_byte(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 3 << 20};
	for (int in_memory = 0; in_memory < 2; in_memory++) {
		struct folder f;
		struct error err = {0};
		struct digest put[2 * ARRAY_SIZE(sizes)];
		folder_make(&f);
		struct journal_options o = options(&f, in_memory);
		struct journal *j = must_open(&o);
		char *content = malloc(3 << 20);
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			fill(content, sizes[i], (unsigned)i);
			assert_int_equal(journal_blob_put(j, bytes_of(content, sizes[i]), &put[i],
							  &err),
					 0);
			/* again, and by descriptor: the same */
			AUTO_FD fd = io_memfd_sealed("t", bytes_of(content, sizes[i]), false);
			uint64_t size = 0;
			assert_int_equal(journal_blob_put_fd(j, fd, UINT64_MAX,
							     &put[i + ARRAY_SIZE(sizes)], &size,
							     &err),
					 0);
			assert_int_equal(size, sizes[i]);
			assert_memory_equal(&put[i], &put[i + ARRAY_SIZE(sizes)], sizeof(put[i]));
			if (sizes[i] > 70000) { /* capped */
				assert_int_equal(journal_blob_put_fd(j, fd, 70000,
								     &put[i + ARRAY_SIZE(sizes)],
								     &size, &err),
						 0);
				assert_int_equal(size, 70000);
			}
		}
		for (int reopened = 0; reopened < 2; reopened++) {
			for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
				AUTO_BUFFER got = {0};
				AUTO_BUFFER by_fd = {0};
				fill(content, sizes[i], (unsigned)i);
				assert_int_equal(journal_blob_get(j, &put[i], sizes[i], &got, &err),
						 0);
				assert_true(bytes_equal(buffer_bytes(&got),
							bytes_of(content, sizes[i])));
				AUTO_FD fd = journal_blob_open(j, &put[i], &err);
				assert_true(fd >= 0);
				assert_int_equal(io_read_all(fd, 4 << 20, &by_fd), 0);
				assert_true(bytes_equal(buffer_bytes(&by_fd),
							bytes_of(content, sizes[i])));
				if (sizes[i])
					assert_int_equal(journal_blob_get(j, &put[i], sizes[i] - 1,
									  &got, &err),
							 -E2BIG);
			}
			if (in_memory)
				break;
			journal_close(j);
			j = must_open(&o);
		}
		struct digest none = {{7}};
		AUTO_BUFFER got = {0};
		err = (struct error){0};
		assert_int_equal(journal_blob_get(j, &none, 10, &got, &err), -ENOENT);
		assert_int_equal(journal_blob_open(j, &none, &err), -ENOENT);
		free(content);
		journal_close(j);
		folder_remove(&f);
	}
}

static void a_newer_format_is_refused(void **state)
{
	(void)state;
	struct folder f;
	struct error err = {0};
	struct journal *j = NULL;
	folder_make(&f);
	struct journal_options o = options(&f, false);
	journal_close(must_open(&o));
	tamper_put(&f, JOURNAL_FAMILY_META, bytes_str("format"), bytes_of("\0\0\0\2", 4));
	assert_int_equal(journal_open(&o, &j, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "newer"));
	folder_remove(&f);
}

static void space_runs_low_before_it_runs_out(void **state)
{
	(void)state;
	struct folder f;
	folder_make(&f);
	struct journal_options o = options(&f, false);
	o.reserve_bytes = 1;
	struct journal *j = must_open(&o);
	struct stat st;
	assert_false(journal_space_low(j));
	assert_int_equal(fstatat(f.fd, "reserve", &st, 0), 0);
	assert_int_equal(st.st_size, JOURNAL_RESERVE_FILE);
	journal_close(j);
	o.reserve_bytes = UINT64_MAX;
	j = must_open(&o);
	assert_true(journal_space_low(j));
	journal_close(j);
	folder_remove(&f);
}

/* A reason may quote an agent: whatever its bytes, it is recorded and can be read again. */
static void a_reason_of_any_bytes_is_recorded(void **state)
{
	(void)state;
	struct folder f;
	struct journal_id run;
	struct error err = {0};
	AUTO_FREE char *big = malloc(JOURNAL_PAYLOAD_MAX * 2);
	folder_make(&f);
	struct journal_options o = options(&f, false);
	struct journal *j = must_open(&o);
	memset(big, 0xff, JOURNAL_PAYLOAD_MAX * 2);
	const struct bytes reasons[] = {bytes_of("\xff\xfe\0x", 4),
					bytes_of(big, JOURNAL_PAYLOAD_MAX * 2), bytes_of("", 0)};
	make_run(j, 1, NULL, NULL, &run);
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
		struct journal_record r;
		maker_record(i % 2 ? JOURNAL_RUN_RESUMED : JOURNAL_RUN_PAUSED, false, &r);
		r.run = run;
		JOURNAL_SET(&r.p, why, reasons[i]);
		journal_append(j, &r, NULL);
		assert_true(r.p.why.len <= JOURNAL_TEXT_MAX);
	}
	journal_close(j);
	j = must_open(&o);
	struct journal_report report;
	assert_int_equal(journal_fsck(j, false, NULL, NULL, &report, &err), 0);
	assert_int_equal(report.problems, 0);
	journal_close(j);
	folder_remove(&f);
}

/* 199 letters and the first half of a character: what a careless cut leaves. A layer has a name of
 * ours, and few bytes. */
static void spoil_texts(struct journal_record *r, const char *half)
{
	for (unsigned num = 1; num < JOURNAL_FIELD_LIMIT; num++) {
		const struct journal_record_field *f = journal_record_field(num);
		if (!f || f->kind != JOURNAL_RECORD_TEXT ||
		    journal_record_use(r->type, num) == JOURNAL_USE_NEVER)
			continue;
		*(struct bytes *)((uint8_t *)&r->p + f->offset) =
			bytes_str(num == JOURNAL_F_layer ? half + 199 : half);
		r->p.has[num / 64] |= 1ULL << (num % 64);
	}
}

static bool has_texts(enum journal_type type)
{
	for (unsigned num = 1; num < JOURNAL_FIELD_LIMIT; num++) {
		const struct journal_record_field *f = journal_record_field(num);
		if (f && f->kind == JOURNAL_RECORD_TEXT &&
		    journal_record_use(type, num) != JOURNAL_USE_NEVER)
			return true;
	}
	return false;
}

static void append_spoiled(struct journal *j, struct maker *m, const char *half, bool *seen)
{
	static const struct journal_id daemon;
	struct journal_record r = *maker_next(m);
	struct error err = {0};
	bool spoiled = has_texts(r.type);
	fake_wall = r.wall_ns;
	fake_mono = r.mono_ns;
	if (!journal_id_equal(&r.run, &daemon) && r.type != JOURNAL_RUN_CREATED)
		assert_int_equal(journal_load_run(j, &r.run, &err), 0);
	if (spoiled)
		spoil_texts(&r, half);
	journal_append(j, &r, NULL);
	seen[r.type] = true;
	if (spoiled && JOURNAL_HAS(&r.p, why))
		assert_int_equal(r.p.why.len, 199 + strlen("\\xc3"));
}

static size_t count_of(const bool *seen)
{
	size_t n = 0;
	for (unsigned type = 0; type < JOURNAL_TYPE_LIMIT; type++)
		n += seen[type];
	return n;
}

static void append_stream_of_spoiled(uint64_t seed, bool in_memory, bool *seen)
{
	char half[201];
	struct folder f;
	struct error err = {0};
	struct journal_report report;
	AUTO_BUFFER before = {0};
	AUTO_BUFFER after = {0};
	struct maker *m = maker_new(seed);
	memset(half, 'a', 199);
	memcpy(half + 199, "\xc3", 2);
	folder_make(&f);
	struct journal_options o = options(&f, in_memory);
	struct journal *j = must_open(&o);
	for (int i = 0; i < 500; i++)
		append_spoiled(j, m, half, seen);
	journal_flush(j, true);
	load_all(j);
	assert_int_equal(canonical_rows(journal_rows(j), &before), 0);
	if (!in_memory) {
		journal_close(j);
		j = must_open(&o);
		load_all(j);
		assert_int_equal(canonical_rows(journal_rows(j), &after), 0);
		assert_true(bytes_equal(buffer_bytes(&before), buffer_bytes(&after)));
		assert_int_equal(journal_fsck(j, false, NULL, NULL, &report, &err), 0);
		assert_int_equal(report.problems, 0);
	}
	journal_close(j);
	folder_remove(&f);
	maker_free(m);
}

/* Whatever a text of any record quotes, it ends nothing, and is read as it was recorded: on disk, too,
 * for those streams that have a type which none before them had. */
static void texts_of_any_bytes_are_recorded(void **state)
{
	(void)state;
	bool seen[JOURNAL_TYPE_LIMIT] = {0}, on_disk[JOURNAL_TYPE_LIMIT] = {0};
	for (uint64_t seed = 1; seed <= 120; seed++) {
		size_t before = count_of(seen);
		append_stream_of_spoiled(seed, true, seen);
		if (count_of(seen) > before)
			append_stream_of_spoiled(seed, false, on_disk);
	}
	for (unsigned type = 0; type < JOURNAL_TYPE_LIMIT; type++)
		if (journal_type_name(type) && has_texts(type) && !on_disk[type] &&
		    type != JOURNAL_ANCHOR && type != JOURNAL_RUNS_DROPPED) /* heads alone */
			fail_msg("the random streams never made a %s", journal_type_name(type));
}

/* More chains than one anchor may name: several anchors. */
static void a_great_batch_is_anchored_in_parts(void **state)
{
	(void)state;
	struct journal_options o = options(NULL, true);
	struct journal_report report;
	struct error err = {0};
	o.anchor_every = 10;
	struct journal *j = must_open(&o);
	for (uint32_t i = 1; i <= 6000; i++) {
		struct journal_record r;
		maker_record(JOURNAL_RUN_CREATED, false, &r);
		memcpy(r.run.b, &i, sizeof(i));
		journal_append(j, &r, NULL);
	}
	journal_flush(j, true);
	assert_int_equal(journal_last_lsn(j), 6003);
	assert_int_equal(journal_verify(j, NULL, NULL, &report, &err), 0);
	assert_int_equal(report.events, 6003);
	assert_int_equal(report.problems,
			 2); /* the plan's and policy's blobs of the maker, which never were */
	journal_close(j);
}

static int logs_of(const struct folder *f)
{
	AUTO_FD fd = openat(f->fd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR d = fdopendir(fd);
	int count = 0;
	assert_non_null(d);
	(void)take_fd(&fd);
	for (struct dirent *e; (e = readdir(d));)
		count += strstr(e->d_name, ".log") != NULL;
	return count;
}

/* Every opening begins a log; one that nothing was written to is neither kept for ever nor in the
 * way. */
static void a_journal_is_opened_any_number_of_times(void **state)
{
	(void)state;
	struct folder f;
	struct journal_id run;
	folder_make(&f);
	struct journal_options o = options(&f, false);
	struct journal *j = must_open(&o);
	make_run(j, 0xab, "kept", NULL, &run);
	journal_flush(j, true);
	journal_close(j);
	for (int i = 0; i < 8; i++) {
		journal_close(must_open(&o));
		assert_true(logs_of(&f) <= 3);
	}
	/* What an older program left. */
	for (int i = 0; i < 400; i++) {
		char name[48];
		snprintf(name, sizeof(name), "journal/%06d.log", 1000 + i);
		AUTO_FD fd = openat(f.fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
	}
	for (int read_only = 1; read_only >= 0; read_only--) {
		struct error err = {0};
		o.read_only = read_only;
		j = must_open(&o);
		assert_int_equal(journal_find_run(j, "kept", &run, &err), 0);
		journal_close(j);
	}
	assert_true(logs_of(&f) <= 3);
	folder_remove(&f);
}

/* An illegal transition is a bug: the process ends, the journal does not have it. */
static void an_illegal_transition_aborts(void **state)
{
	(void)state;
	struct folder f;
	folder_make(&f);
	pid_t child = fork();
	if (child == 0) {
		close(STDERR_FILENO);
		signal(SIGABRT, SIG_DFL); /* a sanitizer may report every abort */
		struct journal_options o = options(&f, true);
		struct journal *j = must_open(&o);
		struct journal_record r;
		maker_record(JOURNAL_RUN_STARTED, false, &r);
		journal_append(j, &r, NULL);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	folder_remove(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_store_in_memory_equals_the_model),
		cmocka_unit_test(the_store_equals_the_model_through_every_reopening),
		cmocka_unit_test(runs_are_found_by_name_prefix_request_and_time),
		cmocka_unit_test(a_second_opener_is_told_who_has_it),
		cmocka_unit_test(acknowledged_means_synced),
		cmocka_unit_test(the_epoch_is_past_journal_and_keeper),
		cmocka_unit_test(blobs_come_back_byte_for_byte),
		cmocka_unit_test(a_blob_file_that_was_found_is_synced_once),
		cmocka_unit_test(a_newer_format_is_refused),
		cmocka_unit_test(space_runs_low_before_it_runs_out),
		cmocka_unit_test(a_reason_of_any_bytes_is_recorded),
		cmocka_unit_test(texts_of_any_bytes_are_recorded),
		cmocka_unit_test(a_great_batch_is_anchored_in_parts),
		cmocka_unit_test(a_journal_is_opened_any_number_of_times),
		cmocka_unit_test(an_illegal_transition_aborts),
	};
	return cmocka_run_group_tests_name("journal/store", tests, NULL, NULL);
}
