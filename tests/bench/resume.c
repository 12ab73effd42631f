/*
 * Journals of a size, and what it costs to open one: the time, and the memory of the process
 * afterwards.
 *
 *   resume make V1 EVENTS settled|live|ended
 *   resume open V1                        prints "NANOSECONDS RSS_BYTES LAST_LSN"
 *
 * settled  the history of a machine in use: runs of 100 steps that are over, and a last one that
 *          goes on.
 * live     all of it is one run that goes on, with as many steps as a run may have and with
 *          attempts that failed.
 * ended    as settled, and the last one is over too: a supervisor has nothing to go on with.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/guard.h"
#include "tests/bench/bench.h"
#include "tests/bench/events.h"

enum { STEPS_A_RUN = 100, STEPS_A_BATCH = 16 };

static void make_settled(struct journal *j, uint64_t events, bool end)
{
	struct events e;
	for (uint64_t run = 0; journal_last_lsn(j) < events; run++) {
		events_begin_run(&e, j, run);
		while (e.steps < STEPS_A_RUN && journal_last_lsn(j) < events) {
			events_step(&e, 0);
			if (e.steps % STEPS_A_BATCH == 0)
				journal_flush(j, false);
		}
		if (end || journal_last_lsn(j) < events)
			events_end_run(&e);
		journal_flush(j, false);
		journal_drop_final(j, NULL, NULL);
	}
}

static void make_live(struct journal *j, uint64_t events)
{
	struct events e;
	uint64_t tries = 0, least = (uint64_t)EVENTS_A_STEP * JOURNAL_STEPS_MAX;
	if (events > least)
		tries = (events - least) / EVENTS_A_TRY;
	events_begin_run(&e, j, 0);
	for (uint64_t done = 0; journal_last_lsn(j) < events && e.steps < JOURNAL_STEPS_MAX;) {
		uint64_t due = tries * (e.steps + 1) / JOURNAL_STEPS_MAX; /* spread evenly */
		events_step(&e, (unsigned)(due - done));
		done = due;
		if (e.steps % STEPS_A_BATCH == 0)
			journal_flush(j, false);
	}
	journal_flush(j, false);
}

static long rss_bytes(void)
{
	long size = 0, resident = 0;
	AUTO_FILE f = fopen("/proc/self/statm", "re");
	if (!f || fscanf(f, "%ld %ld", &size, &resident) != 2)
		return -1;
	return resident * sysconf(_SC_PAGESIZE);
}

int main(int argc, char **argv)
{
	bool make = argc == 5 && strcmp(argv[1], "make") == 0;
	if (!make && !(argc == 3 && strcmp(argv[1], "open") == 0)) {
		fprintf(stderr,
			"usage: resume make V1 EVENTS settled|live|ended\n       resume open V1\n");
		return 2;
	}
	AUTO_FD v1 = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (v1 < 0) {
		perror(argv[2]);
		return 1;
	}
	int64_t start = bench_now_ns();
	struct journal *j = events_open(v1, false);
	int64_t end = bench_now_ns();
	if (make) {
		uint64_t events = strtoull(argv[3], NULL, 10);
		if (strcmp(argv[4], "live") == 0)
			make_live(j, events);
		else
			make_settled(j, events, strcmp(argv[4], "ended") == 0);
	}
	struct error err = {0};
	/* As the supervisor does next, each time: the following open then finds a log to read, and
	 * this one's can go. */
	if (!make && journal_epoch_begin(j, 0, "bench", &err) < 0) {
		fprintf(stderr, "resume: %s\n", err.msg);
		return 1;
	}
	printf("%lld %ld %llu\n", (long long)(end - start), rss_bytes(),
	       (unsigned long long)journal_last_lsn(j));
	journal_close(j);
	return 0;
}
