/* A view stays what it was when it was taken, and a collection leaves what the journal did
 * meanwhile. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/guard.h"
#include "base/io.h"
#include "journal/store.h"
#include "tests/unit/journal/folder.h"
#include "tests/unit/journal/story.h"

enum { LARGE = JOURNAL_BLOB_INLINE_MAX + 1 };

static struct journal *open_one(const struct folder *f, bool in_memory)
{
	struct journal_options o = {.dirfd = in_memory ? -1 : f->fd,
				    .in_memory = in_memory,
				    .anchor_every = 10,
				    .clock = story_clock()};
	struct journal *j = NULL;
	struct error err = {0};
	if (journal_open(&o, &j, &err) != 0)
		fail_msg("%s", err.msg);
	return j;
}

static void say(const char *text, void *arg)
{
	(void)arg;
	print_message("%s\n", text);
}

static void assert_whole(struct journal *j)
{
	struct journal_report r = {0};
	struct error err = {0};
	assert_int_equal(journal_verify(j, say, NULL, &r, &err), 0);
	assert_int_equal(r.problems, 0);
	assert_int_equal(journal_fsck(j, false, say, NULL, &r, &err), 0);
	assert_int_equal(r.problems, 0);
}

static void export(const struct journal_view *v, struct buffer *out)
{
	AUTO_FILE f = tmpfile();
	struct error err = {0};
	assert_non_null(f);
	out->max = SIZE_MAX;
	assert_int_equal(journal_view_export(v, NULL, fileno(f), &err), 0);
	assert_int_equal(lseek(fileno(f), 0, SEEK_SET), 0);
	assert_int_equal(io_read_all(fileno(f), 1 << 24, out), 0);
}

static void a_view_is_of_one_moment(void **state)
{
	(void)state;
	for (int memory = 0; memory < 2; memory++) {
		struct folder f;
		struct error err = {0};
		struct journal_report report;
		struct journal_view *v = NULL;
		AUTO_BUFFER before = {0};
		AUTO_BUFFER after = {0};
		folder_make(&f);
		struct journal *j = open_one(&f, memory);
		story_run(j, 0x21, true);
		story_run(j, 0x22, false);
		assert_int_equal(journal_view_new(j, &v, &err), 0);
		export(v, &before);
		uint64_t events = journal_last_lsn(j);
		for (uint8_t tag = 0x30; tag < 0x40; tag++)
			story_run(j, tag, true);
		journal_flush(j, true);
		export(v, &after);
		assert_true(bytes_equal(buffer_bytes(&before), buffer_bytes(&after)));
		assert_int_equal(journal_view_verify(v, say, NULL, &report, &err), 0);
		assert_int_equal(report.problems, 0);
		assert_int_equal(report.events, events);
		assert_int_equal(journal_view_fsck(v, say, NULL, &report, &err), 0);
		assert_int_equal(report.problems, 0);
		assert_int_equal(report.events, events);
		journal_view_free(v);
		assert_whole(j);
		journal_close(j);
		folder_remove(&f);
	}
}

struct reader {
	struct journal_view *view;
	struct journal_report verify, fsck;
	int result;
};

static void *read_view(void *arg)
{
	struct reader *r = arg;
	r->result = journal_view_verify(r->view, NULL, NULL, &r->verify, NULL);
	if (r->result == 0)
		r->result = journal_view_fsck(r->view, NULL, NULL, &r->fsck, NULL);
	return NULL;
}

static void a_view_is_read_from_another_thread_while_the_journal_is_written(void **state)
{
	(void)state;
	struct folder f;
	struct error err = {0};
	folder_make(&f);
	struct journal *j = open_one(&f, false);
	for (int round = 0; round < 8; round++) {
		struct reader r = {0};
		pthread_t thread;
		for (uint8_t i = 0; i < 8; i++)
			story_run(j, (uint8_t)(1 + round * 16 + i), true);
		assert_int_equal(journal_view_new(j, &r.view, &err), 0);
		uint64_t events = journal_last_lsn(j);
		assert_int_equal(pthread_create(&thread, NULL, read_view, &r), 0);
		for (uint8_t i = 8; i < 16; i++)
			story_run(j, (uint8_t)(1 + round * 16 + i), true);
		journal_flush(j, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(r.result, 0);
		assert_int_equal(r.verify.problems + r.fsck.problems, 0);
		assert_int_equal(r.verify.events, events);
		assert_int_equal(r.fsck.events, events);
		journal_view_free(r.view);
	}
	assert_whole(j);
	journal_close(j);
	folder_remove(&f);
}

static void what_reads_a_stopped_view_ends(void **state)
{
	(void)state;
	struct folder f;
	struct error err = {0};
	struct journal_report report;
	struct journal_view *v = NULL;
	struct journal_gc *g = NULL;
	struct journal_id ids[4];
	folder_make(&f);
	struct journal *j = open_one(&f, false);
	story_set_time(1000);
	story_run(j, 0x21, true);
	assert_int_equal(journal_view_new(j, &v, &err), 0);
	journal_view_stop(v);
	assert_int_equal(journal_view_verify(v, say, NULL, &report, NULL), -ECANCELED);
	assert_int_equal(journal_view_fsck(v, say, NULL, &report, NULL), -ECANCELED);
	assert_int_equal(journal_view_export(v, NULL, -1, NULL), -ECANCELED);
	journal_view_free(v);

	for (int worked = 0; worked < 2; worked++) {
		assert_int_equal(journal_gc_begin(j, INT64_MAX, NULL, NULL, &g, &err), 0);
		if (worked)
			journal_gc_work(g);
		journal_gc_stop(g);
		if (!worked)
			journal_gc_work(g);
		assert_int_equal(journal_gc_settle(g, NULL), -ECANCELED);
		journal_gc_end(g, &report);
		assert_int_equal(report.runs, 0);
	}
	assert_int_equal(journal_list_runs(j, 4, ids), 1);
	assert_whole(j);
	journal_close(j);
	folder_remove(&f);
}

/* ---- Collections ---- */

static bool blob_there(struct journal *j, const struct digest *d)
{
	AUTO_BUFFER b = {0};
	return journal_blob_get(j, d, 1 << 20, &b, NULL) == 0;
}

static void put(struct journal *j, char letter, size_t size, struct digest *ret)
{
	AUTO_FREE char *content = malloc(size);
	struct error err = {0};
	assert_non_null(content);
	memset(content, letter, size);
	assert_int_equal(journal_blob_put(j, bytes_of(content, size), ret, &err), 0);
}

static void put_spool(struct journal *j, char letter, size_t size, struct digest *ret)
{
	AUTO_FILE f = tmpfile();
	struct error err = {0};
	uint64_t stored;
	assert_non_null(f);
	for (size_t i = 0; i < size; i++)
		fputc(letter, f);
	fflush(f);
	assert_int_equal(journal_blob_put_fd(j, fileno(f), UINT64_MAX, ret, &stored, &err), 0);
	assert_int_equal(stored, size);
}

/* Each letter is a blob of its own, small and large. */
static void put_both(struct journal *j, char letter, bool spool, struct digest ret[2])
{
	(spool ? put_spool : put)(j, letter, 100, &ret[0]);
	(spool ? put_spool : put)(j, letter, LARGE, &ret[1]);
}

static void gc_takes_nothing_that_was_put_since_it_began(void **state)
{
	(void)state;
	for (int spool = 0; spool < 2; spool++) {
		static const char letters[] = {'a', 'b', 'c', 'd', 'e', 'f', 'g'};
		struct digest d[ARRAY_SIZE(letters)][2];
		struct folder f;
		struct error err = {0};
		struct journal_report report;
		struct journal_gc *g = NULL;
		folder_make(&f);
		struct journal *j = open_one(&f, false);
		story_run(j, 0x21, false);
		for (size_t i = 0; i < 4; i++) /* a to d: garbage when it begins */
			put_both(j, letters[i], false, d[i]);
		assert_int_equal(journal_gc_begin(j, INT64_MAX, NULL, NULL, &g, &err), 0);
		put_both(j, 'b', spool, d[1]);
		put_both(j, 'e', spool, d[4]);
		journal_gc_work(g);
		assert_int_equal(journal_gc_settle(g, &err), 1);
		put_both(j, 'c', spool, d[2]);
		put_both(j, 'f', spool, d[5]);
		journal_gc_work(g);
		put_both(j, 'd', spool, d[3]); /* it was removed, or is about to be */
		put_both(j, 'g', spool, d[6]);
		assert_int_equal(journal_gc_settle(g, &err), 0);
		journal_gc_end(g, &report);
		assert_int_equal(report.blobs, 4); /* a and d */
		for (size_t i = 0; i < ARRAY_SIZE(letters); i++)
			for (int large = 0; large < 2; large++)
				if (blob_there(j, &d[i][large]) != (i > 0))
					fail_msg("%s blob %c", large ? "large" : "small",
						 letters[i]);
		/* The next one spares nothing of this one's. */
		assert_int_equal(journal_gc(j, INT64_MAX, &report, &err), 0);
		assert_int_equal(report.blobs, 12);
		assert_whole(j);
		journal_close(j);
		folder_remove(&f);
	}
}

static void gc_drops_no_run_that_went_on_since_it_was_seen(void **state)
{
	(void)state;
	for (int flushed = 0; flushed < 2; flushed++) {
		struct folder f;
		struct error err = {0};
		struct journal_report report;
		struct journal_gc *g = NULL;
		struct journal_id ids[4], gone;
		struct journal_record r = {.step = JOURNAL_NO_STEP, .type = JOURNAL_UNDO_STARTED};
		folder_make(&f);
		struct journal *j = open_one(&f, false);
		story_set_time(1000);
		story_run(j, 0x21, true);
		story_run(j, 0x22, true);
		story_run_id(0x21, &gone);
		story_run_id(0x22, &r.run);
		assert_int_equal(journal_gc_begin(j, INT64_MAX, NULL, NULL, &g, &err), 0);
		journal_gc_work(g);
		struct digest redo;
		put(j, 'r', 100, &redo);
		JOURNAL_SET(&r.p, redo, redo);
		journal_append(j, &r, NULL);
		if (flushed)
			journal_flush(j, true);
		assert_int_equal(journal_gc_settle(g, &err), 1);
		journal_gc_work(g);
		assert_int_equal(journal_gc_settle(g, &err), 0);
		journal_gc_end(g, &report);
		assert_int_equal(report.runs, 1);
		assert_int_equal(journal_list_runs(j, 4, ids), 1);
		assert_true(journal_id_equal(&ids[0], &r.run));
		assert_null(journal_state_run(journal_rows(j), &gone));
		assert_whole(j);
		journal_close(j);
		j = open_one(&f, false);
		assert_int_equal(journal_state_run(journal_rows(j), &r.run)->landing,
				 JOURNAL_LANDING_S_UNDOING);
		assert_whole(j);
		journal_close(j);
		folder_remove(&f);
	}
}

static bool is_kept(const struct journal_id *run, void *arg)
{
	return journal_id_equal(run, arg);
}

/* No record tells that somebody is about to go on with it. */
static void what_is_held_stays_in_memory_and_is_not_dropped(void **state)
{
	(void)state;
	struct folder f;
	struct error err = {0};
	struct journal_report report;
	struct journal_gc *g = NULL;
	struct journal_id held, other;
	folder_make(&f);
	struct journal *j = open_one(&f, false);
	story_set_time(1000);
	story_run(j, 0x21, true);
	story_run(j, 0x22, true);
	story_run_id(0x21, &other);
	story_run_id(0x22, &held);
	journal_flush(j, true);
	journal_drop_final(j, is_kept, &held);
	assert_null(journal_state_run(journal_rows(j), &other));
	assert_non_null(journal_state_run(journal_rows(j), &held));
	assert_int_equal(journal_gc_begin(j, INT64_MAX, is_kept, &held, &g, &err), 0);
	do
		journal_gc_work(g);
	while (journal_gc_settle(g, &err) == 1);
	journal_gc_end(g, &report);
	assert_int_equal(report.runs, 1);
	assert_int_equal(journal_load_run(j, &other, &err), -ENOENT);
	assert_non_null(journal_state_run(journal_rows(j), &held));
	assert_whole(j);
	assert_int_equal(journal_gc(j, INT64_MAX, &report, &err), 0);
	assert_int_equal(report.runs, 1);
	journal_close(j);
	folder_remove(&f);
}

/* One batch of them is not all. */
static void gc_goes_on_until_the_last_run(void **state)
{
	(void)state;
	enum { RUNS = 254 };
	struct folder f;
	struct error err = {0};
	struct journal_report report;
	struct journal_id ids[4];
	folder_make(&f);
	struct journal *j = open_one(&f, false);
	story_set_time(1000);
	for (int tag = 1; tag <= RUNS; tag++)
		story_run(j, (uint8_t)tag, true);
	story_set_time(1000000);
	story_run(j, 255, true);
	journal_drop_final(j, NULL, NULL);
	assert_int_equal(journal_gc(j, 1000000, &report, &err), 0);
	assert_int_equal(report.runs, RUNS);
	assert_int_equal(journal_list_runs(j, 4, ids), 1);
	assert_whole(j);
	assert_int_equal(journal_gc(j, INT64_MAX, &report, &err), 0);
	assert_int_equal(report.runs, 1);
	journal_close(j);
	folder_remove(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_view_is_of_one_moment),
		cmocka_unit_test(a_view_is_read_from_another_thread_while_the_journal_is_written),
		cmocka_unit_test(what_reads_a_stopped_view_ends),
		cmocka_unit_test(gc_takes_nothing_that_was_put_since_it_began),
		cmocka_unit_test(gc_drops_no_run_that_went_on_since_it_was_seen),
		cmocka_unit_test(gc_goes_on_until_the_last_run),
		cmocka_unit_test(what_is_held_stays_in_memory_and_is_not_dropped),
	};
	return cmocka_run_group_tests_name("journal/view", tests, NULL, NULL);
}
