/* verify, fsck, export, gc: what was changed, cut or removed is named; what is whole is said to be
 * whole. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/cbor.h"
#include "base/guard.h"
#include "base/io.h"
#include "journal/store.h"
#include "tests/unit/journal/folder.h"
#include "tests/unit/journal/story.h"
#include "tests/unit/journal/tamper.h"

struct findings {
	char text[64][ERROR_MSG_MAX];
	size_t count;
};

static void note(const char *text, void *arg)
{
	struct findings *f = arg;
	if (f->count < ARRAY_SIZE(f->text))
		snprintf(f->text[f->count], sizeof(f->text[0]), "%s", text);
	f->count++;
}

static bool found(const struct findings *f, const char *what)
{
	for (size_t i = 0; i < f->count && i < ARRAY_SIZE(f->text); i++)
		if (strstr(f->text[i], what))
			return true;
	return false;
}

static struct journal *open_memory(uint32_t anchor_every)
{
	struct journal_options o = {.dirfd = -1,
				    .in_memory = true,
				    .anchor_every = anchor_every,
				    .clock = story_clock()};
	struct journal *j = NULL;
	struct error err = {0};
	assert_int_equal(journal_open(&o, &j, &err), 0);
	return j;
}

static struct journal *open_disk(const struct folder *f, bool read_only, bool unloaded)
{
	struct journal_options o = {.dirfd = f->fd,
				    .read_only = read_only,
				    .unloaded = unloaded,
				    .anchor_every = 10,
				    .clock = story_clock()};
	struct journal *j = NULL;
	struct error err = {0};
	if (journal_open(&o, &j, &err) != 0)
		fail_msg("%s", err.msg);
	return j;
}

static void verify(struct journal *j, struct findings *f, struct journal_report *ret)
{
	struct error err = {0};
	f->count = 0;
	assert_int_equal(journal_verify(j, note, f, ret, &err), 0);
	assert_int_equal(f->count, ret->problems);
}

static void assert_whole(struct journal *j)
{
	struct findings f;
	struct journal_report r;
	struct error err = {0};
	verify(j, &f, &r);
	if (f.count)
		fail_msg("verify: %s", f.text[0]);
	f.count = 0;
	assert_int_equal(journal_fsck(j, false, note, &f, &r, &err), 0);
	if (f.count)
		fail_msg("fsck: %s", f.text[0]);
}

static void kv_put(struct journal *j, enum journal_family family, struct bytes key,
		   struct bytes value)
{
	AUTO_BUFFER ops = {0};
	journal_kv_put(&ops, family, key, value);
	assert_int_equal(j->kv->ops->write(j->kv, buffer_bytes(&ops), bytes_of(NULL, 0), NULL), 0);
}

static void kv_delete(struct journal *j, enum journal_family family, struct bytes key)
{
	AUTO_BUFFER ops = {0};
	journal_kv_delete(&ops, family, key);
	assert_int_equal(j->kv->ops->write(j->kv, buffer_bytes(&ops), bytes_of(NULL, 0), NULL), 0);
}

static int copy_pair(struct bytes key, struct bytes value, void *arg)
{
	struct buffer *list = arg;
	journal_kv_put(list, JOURNAL_FAMILY_EVENT, key, value);
	return list->failed;
}

/* Every byte of every event, one at a time; the finding names that record (or the one that follows
 * from it). */
static void any_changed_byte_of_any_event_is_named(void **state)
{
	(void)state;
	struct journal *j = open_memory(7);
	AUTO_BUFFER all = {0};
	struct findings f;
	struct journal_report report;
	story_run(j, 0x21, true);
	story_run(j, 0x22, false);
	assert_whole(j);
	assert_int_equal(j->kv->ops->each(j->kv, JOURNAL_FAMILY_EVENT, bytes_of(NULL, 0),
					  bytes_of(NULL, 0), false, copy_pair, &all),
			 0);
	struct bytes rest = buffer_bytes(&all), key, value;
	enum journal_kv_op op;
	enum journal_family family;
	unsigned flips = 0;
	while (journal_kv_next(&rest, &op, &family, &key, &value)) {
		AUTO_FREE uint8_t *changed = malloc(value.len);
		struct journal_id run;
		char text[JOURNAL_ID_TEXT_SIZE], name[64];
		memcpy(changed, value.data, value.len);
		memcpy(run.b, key.data, sizeof(run.b));
		snprintf(name, sizeof(name), "run %.8s record %llu:", journal_id_text(&run, text),
			 (unsigned long long)journal_store_u64((const uint8_t *)key.data +
							       JOURNAL_ID_SIZE));
		char before[64];
		snprintf(before, sizeof(before), "not follow from record %llu:",
			 (unsigned long long)journal_store_u64((const uint8_t *)key.data +
							       JOURNAL_ID_SIZE));
		for (size_t at = 0; at < value.len; at++, flips++) {
			changed[at] ^= (uint8_t)(1u << (at % 8));
			kv_put(j, JOURNAL_FAMILY_EVENT, key, bytes_of(changed, value.len));
			verify(j, &f, &report);
			if (!found(&f, name) && !found(&f, before))
				fail_msg("%s byte %zu was changed, verify says: %s", name, at,
					 f.count ? f.text[0] : "nothing");
			changed[at] ^= (uint8_t)(1u << (at % 8));
		}
		kv_put(j, JOURNAL_FAMILY_EVENT, key, value);
	}
	assert_true(flips > 2000);
	assert_whole(j);
	journal_close(j);
}

static void delete_event(struct journal *j, uint8_t tag, uint64_t seq)
{
	uint8_t key[JOURNAL_EVENT_KEY_SIZE];
	struct journal_id run;
	story_run_id(tag, &run);
	journal_store_event_key(&run, seq, key);
	kv_delete(j, JOURNAL_FAMILY_EVENT, bytes_of(key, sizeof(key)));
}

static void a_cut_chain_is_told_by_its_head(void **state)
{
	(void)state;
	struct journal *j = open_memory(UINT32_MAX);
	struct findings f;
	struct journal_report report;
	story_run(j, 0x21, true);
	delete_event(j, 0x21, STORY_EVENTS);
	verify(j, &f, &report);
	assert_true(found(&f, "run 21212121: ends at record 15, its head is 16: it was cut"));
	journal_close(j);
}

/* Someone who can write the database moves the head back too: what an anchor named is still missed.
 */
static void a_cut_chain_with_its_head_moved_back_is_told_by_the_anchors(void **state)
{
	(void)state;
	struct journal *j = open_memory(STORY_EVENTS);
	struct findings f;
	struct journal_report report;
	struct journal_head last;
	uint8_t key[1 + JOURNAL_ID_SIZE], value[JOURNAL_HEAD_VALUE_SIZE];
	story_run(j, 0x21, true);
	delete_event(j, 0x21, STORY_EVENTS);
	struct journal_id run;
	story_run_id(0x21, &run);
	assert_int_equal(journal_store_last_event(j->kv, &run, &last), 0);
	journal_store_head_write(&last, value);
	kv_put(j, JOURNAL_FAMILY_META, journal_store_tag_key(JOURNAL_META_HEAD, &run, key),
	       bytes_of(value, sizeof(value)));
	verify(j, &f, &report);
	assert_true(found(&f, "run 21212121 record 16: an anchor names it, it is missing"));
	assert_true(found(&f, "1 records are missing of which gc dropped 0; the first is lsn 16"));
	journal_close(j);
}

static void a_removed_chain_is_told(void **state)
{
	(void)state;
	struct journal *j = open_memory(UINT32_MAX);
	struct findings f;
	struct journal_report report;
	uint8_t key[1 + JOURNAL_ID_SIZE];
	struct journal_id run;
	story_run(j, 0x21, false);
	story_run(j, 0x22, false);
	for (uint64_t seq = 1; seq <= 6; seq++)
		delete_event(j, 0x21, seq);
	verify(j, &f, &report);
	assert_true(found(&f, "run 21212121: all its records are missing"));
	story_run_id(0x21, &run);
	kv_delete(j, JOURNAL_FAMILY_META, journal_store_tag_key(JOURNAL_META_HEAD, &run, key));
	verify(j, &f, &report);
	assert_true(found(&f, "6 records are missing"));
	journal_close(j);
}

static void a_missing_or_changed_blob_is_named(void **state)
{
	(void)state;
	struct journal *j = open_memory(UINT32_MAX);
	struct findings f;
	struct journal_report report;
	story_run(j, 0x21, false);
	struct journal_id run;
	story_run_id(0x21, &run);
	struct digest plan = journal_state_run(journal_rows(j), &run)->plan;
	struct bytes key = bytes_of(plan.b, sizeof(plan.b));
	char hex[DIGEST_HEX_SIZE], missing[64], wrong[64];
	digest_hex(&plan, hex);
	snprintf(wrong, sizeof(wrong), "blob %.16s: its content", hex);
	snprintf(missing, sizeof(missing), "blob %.16s: a record names it", hex);
	kv_put(j, JOURNAL_FAMILY_BLOB, key, bytes_str("other"));
	verify(j, &f, &report);
	assert_int_equal(f.count, 1);
	assert_true(found(&f, wrong));
	kv_delete(j, JOURNAL_FAMILY_BLOB, key);
	verify(j, &f, &report);
	assert_int_equal(f.count, 1);
	assert_true(found(&f, missing));
	journal_close(j);
}

static void row_key(uint8_t kind, uint8_t tag, uint8_t *key)
{
	struct journal_id id;
	story_run_id(tag, &id);
	journal_store_tag_key(kind, &id, key);
}

/* Rows and indexes that someone changed, removed or invented: told, and put right from the records.
 */
static void fsck_rebuilds_rows_and_indexes_from_the_records(void **state)
{
	(void)state;
	struct folder f;
	struct findings found_now;
	struct journal_report report;
	struct error err = {0};
	uint8_t run_row[17], invented[17], in_flight[17];
	folder_make(&f);
	struct journal *j = open_disk(&f, false, false);
	assert_int_equal(journal_epoch_begin(j, 0, "test", &err), 0);
	story_run(j, 0x21, true);
	story_run(j, 0x22, false);
	journal_flush(j, true);
	assert_whole(j);
	journal_close(j);

	row_key('r', 0x21, run_row);
	row_key('r', 0x77, invented);
	row_key('f', 0x22, in_flight);
	AUTO_BUFFER row = {0};
	assert_int_equal(tamper_get(&f, JOURNAL_FAMILY_STATE, bytes_of(run_row, 17), &row), 0);
	tamper_put(&f, JOURNAL_FAMILY_STATE, bytes_of(invented, 17), buffer_bytes(&row));
	row.data[row.len - 1] ^= 1;
	tamper_put(&f, JOURNAL_FAMILY_STATE, bytes_of(run_row, 17), buffer_bytes(&row));
	tamper_delete(&f, JOURNAL_FAMILY_INDEX, bytes_of(in_flight, 17));

	for (int round = 0; round < 3; round++) {
		bool repair = round == 1;
		j = open_disk(&f, !repair, true);
		found_now.count = 0;
		assert_int_equal(journal_fsck(j, repair, note, &found_now, &report, &err), 0);
		assert_int_equal(report.problems, round == 2 ? 0 : 3);
		if (round == 0) {
			assert_true(found(&found_now,
					  "row 'r' 21212121: is not what its records make of it"));
			assert_true(found(&found_now, "row 'r' 77777777: no record makes it"));
			assert_true(found(&found_now, "index entry 'f' 22222222: is missing"));
		}
		journal_close(j);
	}
	j = open_disk(&f, false, false);
	assert_whole(j);
	journal_close(j);
	folder_remove(&f);
}

static void damaged_records_are_not_repaired_over(void **state)
{
	(void)state;
	struct folder f;
	struct findings found_now = {.count = 0};
	struct journal_report report;
	struct error err = {0};
	uint8_t key[JOURNAL_EVENT_KEY_SIZE];
	struct journal_id run;
	struct journal *refused = NULL;
	folder_make(&f);
	struct journal *j = open_disk(&f, false, false);
	story_run(j, 0x22, false);
	journal_close(j);
	story_run_id(0x22, &run);
	journal_store_event_key(&run, 6, key);
	tamper_delete(&f, JOURNAL_FAMILY_EVENT, bytes_of(key, sizeof(key)));
	struct journal_options o = {.dirfd = f.fd, .clock = story_clock()};
	assert_int_equal(journal_open(&o, &refused, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "ends at record 5"));
	assert_non_null(strstr(err.msg, "restore"));
	j = open_disk(&f, false, true);
	/* the records that are left fold; the rows say more than they do */
	assert_int_equal(journal_fsck(j, false, note, &found_now, &report, &err), 0);
	assert_true(report.problems > 0);
	journal_close(j);
	folder_remove(&f);
}

struct split {
	struct bytes rest;
	uint64_t count;
};

static int same_record(const struct journal_record *r, struct bytes encoded, void *arg)
{
	struct split *s = arg;
	(void)r;
	assert_true(s->rest.len >= encoded.len);
	assert_memory_equal(s->rest.data, encoded.data, encoded.len);
	s->rest = bytes_of((const uint8_t *)s->rest.data + encoded.len, s->rest.len - encoded.len);
	s->count++;
	return 0;
}

static void export_is_a_sequence_of_the_records(void **state)
{
	(void)state;
	struct journal *j = open_memory(10);
	struct error err = {0};
	struct journal_id ids[3] = {0};
	story_run(j, 0x21, true);
	story_run(j, 0x22, true);
	story_run_id(0x21, &ids[1]);
	story_run_id(0x22, &ids[2]);
	for (int one = 0; one < 2; one++) {
		AUTO_FILE out = tmpfile();
		AUTO_BUFFER b = {0};
		struct split s = {.count = 0};
		assert_int_equal(journal_export(j, one ? &ids[2] : NULL, fileno(out), &err), 0);
		assert_int_equal(lseek(fileno(out), 0, SEEK_SET), 0);
		assert_int_equal(io_read_all(fileno(out), 1 << 20, &b), 0);
		s.rest = buffer_bytes(&b);
		for (int i = one ? 2 : 0; i < 3; i++)
			assert_int_equal(journal_each_event(j, &ids[i], 1, same_record, &s), 0);
		assert_int_equal(s.rest.len, 0);
		assert_int_equal(s.count, one ? STORY_EVENTS : 2 * STORY_EVENTS + 3);
	}
	struct journal_id none = {{1}};
	assert_int_equal(journal_export(j, &none, 1, &err), -ENOENT);
	journal_close(j);
}

static bool blob_there(struct journal *j, const struct digest *d)
{
	AUTO_BUFFER b = {0};
	return journal_blob_get(j, d, 1 << 20, &b, NULL) == 0;
}

static void gc_keeps_what_is_named_and_the_heads_of_what_it_drops(void **state)
{
	(void)state;
	struct folder f;
	struct error err = {0};
	struct journal_report report;
	struct journal_id run[3], ids[8];
	struct digest orphan, orphan_file, inner, plan[3];
	folder_make(&f);
	struct journal *j = open_disk(&f, false, false);
	for (int i = 0; i < 3; i++) {
		story_set_time(1000 * (i + 1));
		story_run(j, (uint8_t)(0x21 + i), i < 2);
		story_run_id((uint8_t)(0x21 + i), &run[i]);
		plan[i] = journal_state_run(journal_rows(j), &run[i])->plan;
	}
	/* A blob that only another blob names; two that nobody does. */
	AUTO_FREE char *big = calloc(1, 100000);
	assert_int_equal(journal_blob_put(j, bytes_str("named by a blob"), &inner, &err), 0);
	AUTO_BUFFER map = {0};
	cbor_w_map(&map, 1);
	cbor_w_uint(&map, 1);
	cbor_w_bytes(&map, bytes_of(inner.b, sizeof(inner.b)));
	struct journal_record r;
	memset(&r, 0, sizeof(r));
	r.run = run[2];
	r.step = JOURNAL_NO_STEP;
	r.type = JOURNAL_LANDING_STARTED;
	struct digest redo;
	assert_int_equal(journal_blob_put(j, buffer_bytes(&map), &redo, &err), 0);
	JOURNAL_SET(&r.p, redo, redo);
	journal_append(j, &r, NULL);
	assert_int_equal(journal_blob_put(j, bytes_str("orphan"), &orphan, &err), 0);
	assert_int_equal(journal_blob_put(j, bytes_of(big, 100000), &orphan_file, &err), 0);
	journal_flush(j, true);

	assert_int_equal(journal_gc(j, 2000, &report, &err), 0); /* the first run ended before */
	assert_int_equal(report.runs, 1);
	assert_false(blob_there(j, &orphan));
	assert_false(blob_there(j, &orphan_file));
	assert_true(blob_there(j, &inner));
	assert_true(blob_there(j, &plan[1]) && blob_there(j, &plan[2]));
	assert_false(blob_there(j, &plan[0]));
	assert_int_equal(journal_list_runs(j, 8, ids), 2);
	assert_int_equal(journal_load_run(j, &run[0], &err), -ENOENT);
	assert_whole(j);
	assert_int_equal(journal_gc(j, INT64_MAX, &report, &err), 0);
	assert_int_equal(report.runs, 1); /* the third still runs */
	journal_close(j);
	j = open_disk(&f, false, false);
	assert_whole(j);
	assert_int_equal(journal_gc(j, INT64_MAX, &report, &err), 0);
	assert_int_equal(report.runs + report.blobs, 0);
	journal_close(j);
	folder_remove(&f);
}

/* gc that fails half way has removed nothing, then or with any later batch. */
static void gc_that_fails_leaves_every_run(void **state)
{
	(void)state;
	struct journal *j = open_memory(10);
	struct error err = {0};
	struct journal_report report;
	struct journal_id ids[8];
	uint8_t key[1 + JOURNAL_ID_SIZE];
	story_set_time(1000);
	story_run(j, 0x21, true);
	story_run(j, 0x22, true);
	journal_flush(j, true);
	row_key(JOURNAL_ROW_RUN, 0x22, key);
	AUTO_BUFFER row = {0};
	assert_int_equal(j->kv->ops->get(j->kv, JOURNAL_FAMILY_STATE, bytes_of(key, sizeof(key)),
					 &row, NULL),
			 0);
	kv_put(j, JOURNAL_FAMILY_STATE, bytes_of(key, sizeof(key)), bytes_str("damaged"));
	assert_true(journal_gc(j, INT64_MAX, &report, &err) < 0);
	assert_int_equal(report.runs, 0);

	kv_put(j, JOURNAL_FAMILY_STATE, bytes_of(key, sizeof(key)), buffer_bytes(&row));
	journal_flush(j, true);
	story_run(j, 0x23, false);
	journal_flush(j, true);
	assert_int_equal(journal_list_runs(j, 8, ids), 3);
	assert_whole(j);
	assert_int_equal(journal_gc(j, INT64_MAX, &report, &err), 0);
	assert_int_equal(report.runs, 2);
	assert_whole(j);
	journal_close(j);
}

/* Lets the run name a blob of size zeroes in which `inner` is named at `at`. */
static void name_within(struct journal *j, const struct journal_id *run, const struct digest *inner,
			size_t size, size_t at)
{
	static const uint8_t head[] = {0x58, DIGEST_SIZE};
	struct error err = {0};
	struct digest redo;
	AUTO_FREE uint8_t *content = calloc(1, size);
	memcpy(content + at, head, sizeof(head));
	memcpy(content + at + sizeof(head), inner->b, DIGEST_SIZE);
	assert_int_equal(journal_blob_put(j, bytes_of(content, size), &redo, &err), 0);
	struct journal_record r;
	memset(&r, 0, sizeof(r));
	r.run = *run;
	r.step = JOURNAL_NO_STEP;
	r.type = JOURNAL_LANDING_STARTED;
	JOURNAL_SET(&r.p, redo, redo);
	journal_append(j, &r, NULL);
	journal_flush(j, true);
}

/* A landing of very many files has a redo plan of hundreds of MiB: its pre-images are what undo
 * needs. */
static void gc_keeps_what_a_blob_of_any_size_names(void **state)
{
	(void)state;
	enum { NAME = 2 + DIGEST_SIZE, CHUNK = 1 << 20 };
	static const struct {
		size_t size, at;
	} table[] = {
		{NAME, 0},
		{CHUNK, CHUNK - NAME},
		{CHUNK + 1, CHUNK + 1 - NAME},
		{3 * CHUNK, CHUNK - NAME + 1},
		{3 * CHUNK, CHUNK - 1},
		{(16 << 20) + 5, 9 << 20}, /* past what is read as one CBOR item */
		{(65 << 20) + 5, (65 << 20) + 5 - NAME},
	};
	for (size_t i = 0; i < 2 * ARRAY_SIZE(table); i++) {
		if (i % 2 && table[i / 2].size > BUFFER_MAX_DEFAULT)
			continue; /* one batch in memory holds no such blob */
		struct folder f;
		struct error err = {0};
		struct journal_report report;
		struct digest inner, orphan;
		struct journal_id run;
		folder_make(&f);
		struct journal *j = i % 2 ? open_memory(10) : open_disk(&f, false, false);
		story_run(j, 0x21, false);
		story_run_id(0x21, &run);
		assert_int_equal(journal_blob_put(j, bytes_str("pre-image"), &inner, &err), 0);
		assert_int_equal(journal_blob_put(j, bytes_str("orphan"), &orphan, &err), 0);
		name_within(j, &run, &inner, table[i / 2].size, table[i / 2].at);
		if (journal_gc(j, INT64_MAX, &report, &err) != 0)
			fail_msg("%zu bytes: %s", table[i / 2].size, err.msg);
		if (!blob_there(j, &inner))
			fail_msg("%zu bytes, named at %zu: it is gone", table[i / 2].size,
				 table[i / 2].at);
		assert_false(blob_there(j, &orphan));
		journal_close(j);
		folder_remove(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_changed_byte_of_any_event_is_named),
		cmocka_unit_test(a_cut_chain_is_told_by_its_head),
		cmocka_unit_test(a_cut_chain_with_its_head_moved_back_is_told_by_the_anchors),
		cmocka_unit_test(a_removed_chain_is_told),
		cmocka_unit_test(a_missing_or_changed_blob_is_named),
		cmocka_unit_test(fsck_rebuilds_rows_and_indexes_from_the_records),
		cmocka_unit_test(damaged_records_are_not_repaired_over),
		cmocka_unit_test(export_is_a_sequence_of_the_records),
		cmocka_unit_test(gc_keeps_what_is_named_and_the_heads_of_what_it_drops),
		cmocka_unit_test(gc_that_fails_leaves_every_run),
		cmocka_unit_test(gc_keeps_what_a_blob_of_any_size_names),
	};
	return cmocka_run_group_tests_name("journal/audit", tests, NULL, NULL);
}
