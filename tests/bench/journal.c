/*
 * How fast the journal takes events that must be on disk before anything goes on, beside the same
 * records put into RocksDB by one synced WriteBatch: with no fold, chain, rows, indexes or thread
 * of its own. Turns are taken in each round.
 *
 *   journal ROUNDS FOLDER        samples: "NAME NANOSECONDS EVENTS" (bench.h)
 *
 * 1        one transition.
 * 7        a whole step from declared to committed in one batch, the most that can be saved.
 * 63       nine of them.
 * grouped  nine steps whose batches are flushed one after the other and awaited together, as when
 *          many runs go on at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/guard.h"
#include "tests/bench/bench.h"
#include "tests/bench/events.h"

enum { STEPS_A_RUN = 99, STEPS_A_GROUP = 9, SAMPLES_MAX = 1024, WARM_UP_ROUNDS = 3 };

struct raw { /* RocksDB as it comes, and records to put into it */
	rocksdb_t *db;
	rocksdb_options_t *options;
	rocksdb_writeoptions_t *write;
	struct buffer records[SAMPLES_MAX];
	size_t record_count;
	uint64_t next_key;
};

struct bench {
	struct journal *j;
	struct events run;
	uint64_t runs;
	bool paused;
	struct raw raw;
};

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "journal: %s: %s\n", what, why);
	exit(1);
}

static int subfolder(const char *folder, const char *name, char *path, size_t size)
{
	snprintf(path, size, "%s/%s", folder, name);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		die(path, strerror(errno));
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		die(path, strerror(errno));
	return fd;
}

/* Rows of runs that are over leave memory, as they do in the supervisor. Not part of what is
 * measured. */
static void next_run(struct bench *b)
{
	if (b->run.steps) {
		events_end_run(&b->run);
		journal_flush(b->j, true);
		journal_drop_final(b->j, NULL, NULL);
	}
	events_begin_run(&b->run, b->j, b->runs++);
	journal_flush(b->j, true);
	if (journal_wait_durable(b->j, journal_last_lsn(b->j)) < 0)
		die("journal", "it does not become durable");
}

static int keep_record(const struct journal_record *r, struct bytes encoded, void *arg)
{
	struct raw *raw = arg;
	(void)r;
	if (raw->record_count == SAMPLES_MAX)
		return 1;
	return buffer_append(&raw->records[raw->record_count++], encoded.data, encoded.len);
}

static void open_raw(struct raw *r, const char *path)
{
	char *message = NULL;
	r->options = rocksdb_options_create();
	rocksdb_options_set_create_if_missing(r->options, 1);
	r->write = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(r->write, 1);
	r->db = rocksdb_open(r->options, path, &message);
	if (message)
		die(path, message);
}

static void close_raw(struct raw *r)
{
	rocksdb_close(r->db);
	rocksdb_writeoptions_destroy(r->write);
	rocksdb_options_destroy(r->options);
	for (size_t i = 0; i < r->record_count; i++)
		buffer_free(&r->records[i]);
}

static void raw_batch(struct raw *r, unsigned events)
{
	char *message = NULL;
	rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
	for (unsigned i = 0; i < events; i++) {
		char key[24] = {0}; /* the size of ours: run and number */
		uint64_t n = __builtin_bswap64(r->next_key++);
		memcpy(key + sizeof(key) - sizeof(n), &n, sizeof(n));
		const struct buffer *v = &r->records[r->next_key % r->record_count];
		rocksdb_writebatch_put(batch, key, sizeof(key), (const char *)v->data, v->len);
	}
	rocksdb_write(r->db, r->write, batch, &message);
	rocksdb_writebatch_destroy(batch);
	if (message)
		die("rocksdb", message);
}

static void journal_one(struct bench *b)
{
	struct journal_record r = {.run = b->run.run,
				   .step = JOURNAL_NO_STEP,
				   .actor = JOURNAL_ACTOR_PERSON,
				   .actor_uid = 1000};
	r.type = b->paused ? JOURNAL_RUN_RESUMED : JOURNAL_RUN_PAUSED;
	b->paused = !b->paused;
	journal_append(b->j, &r, NULL);
	journal_flush(b->j, true);
}

static void journal_steps(struct bench *b, unsigned steps, bool flush_each)
{
	for (unsigned i = 0; i < steps; i++) {
		events_step(&b->run, 0);
		if (flush_each)
			journal_flush(b->j, true);
	}
	journal_flush(b->j, true);
}

static void one_round(struct bench *b, bool reported)
{
	static const struct {
		const char *name, *raw_name;
		unsigned steps; /* 0: one transition */
		bool grouped;
	} turns[] = {{"journal-1", "rocksdb-1", 0, false},
		     {"journal-7", "rocksdb-7", 1, false},
		     {"journal-63", "rocksdb-63", STEPS_A_GROUP, false},
		     {"journal-grouped", NULL, STEPS_A_GROUP, true}};
	for (size_t i = 0; i < ARRAY_SIZE(turns); i++) {
		if (b->paused)
			journal_one(b);
		if (b->run.steps + turns[i].steps > STEPS_A_RUN)
			next_run(b);
		if (journal_wait_durable(b->j, journal_last_lsn(b->j)) < 0)
			die("journal", "it does not become durable");
		uint64_t before = journal_last_lsn(b->j);
		int64_t start = bench_now_ns();
		if (turns[i].steps)
			journal_steps(b, turns[i].steps, turns[i].grouped);
		else
			journal_one(b);
		if (journal_wait_durable(b->j, journal_last_lsn(b->j)) < 0)
			die("journal", "it does not become durable");
		int64_t took = bench_now_ns() - start;
		unsigned events = (unsigned)(journal_last_lsn(b->j) - before);
		if (reported)
			printf("%s %lld %u\n", turns[i].name, (long long)took, events);
		if (!turns[i].raw_name)
			continue;
		start = bench_now_ns();
		raw_batch(&b->raw, events);
		took = bench_now_ns() - start;
		if (reported)
			printf("%s %lld %u\n", turns[i].raw_name, (long long)took, events);
	}
}

int main(int argc, char **argv)
{
	struct bench b = {0};
	char path[4096];
	if (argc != 3) {
		fprintf(stderr, "usage: journal ROUNDS FOLDER\n");
		return 2;
	}
	unsigned rounds = (unsigned)strtoul(argv[1], NULL, 10);
	AUTO_FD v1 = subfolder(argv[2], "ours", path, sizeof(path));
	b.j = events_open(v1, false);
	next_run(&b);
	journal_steps(&b, STEPS_A_RUN, false);
	if (journal_wait_durable(b.j, journal_last_lsn(b.j)) < 0 ||
	    journal_each_event(b.j, &b.run.run, 1, keep_record, &b.raw) < 0)
		die("journal", "its events cannot be read");
	AUTO_FD rocks = subfolder(argv[2], "rocksdb", path, sizeof(path));
	open_raw(&b.raw, path);
	for (unsigned i = 0; i < WARM_UP_ROUNDS + rounds; i++)
		one_round(&b, i >= WARM_UP_ROUNDS);
	close_raw(&b.raw);
	journal_close(b.j);
	return 0;
}
