/*
 * bench-journal-groups [--json] [--events N]: what durability costs here, beside raw RocksDB doing
 * the same writes in the same run (same keys, same values, same options), and how long opening
 * takes. TMPDIR says on which disk.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/guard.h"
#include "journal/store.h"
#include "tests/unit/journal/folder.h"
#include "tests/unit/journal/maker.h"

enum {
	PRODUCERS = 64,
	ROUNDS = 200,
	SINGLES = 600,
	OPENS = 15,
	RUN_EVENTS = 16,
	ROUNDS_OF_BEST = 8
};

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void must(int rc, const struct error *err)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "bench-journal-groups: %s\n", err->msg[0] ? err->msg : strerror(-rc));
	exit(1);
}

static struct journal *open_at(const struct folder *f, bool in_memory)
{
	struct journal_options o = {.dirfd = f ? f->fd : -1,
				    .in_memory = in_memory,
				    .clock = {.wall_ns = now_ns, .mono_ns = now_ns}};
	struct journal *j = NULL;
	struct error err = {0};
	must(journal_open(&o, &j, &err), &err);
	return j;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static double us(int64_t ns)
{
	return (double)ns / 1000;
}

/* ---- Transitions ---- */

static void run_id(uint32_t n, struct journal_id *ret)
{
	memset(ret, 0, sizeof(*ret));
	uint32_t mixed = n * 2654435761u; /* ids are random: spread over the key space */
	memcpy(ret->b, &mixed, sizeof(mixed));
	memcpy(ret->b + 8, &n, sizeof(n));
	ret->b[15] = 1;
}

static void append(struct journal *j, uint32_t run, enum journal_type type)
{
	struct journal_record r;
	maker_record(type, false, &r);
	run_id(run, &r.run);
	memcpy(&r.p.approval, &r.run, sizeof(r.run));
	if (r.step != JOURNAL_NO_STEP)
		r.step = 0;
	if (r.attempt)
		r.attempt = 1;
	if (type == JOURNAL_ATTEMPT_EXITED) {
		JOURNAL_SET(&r.p, out, (struct digest){{1}});
		JOURNAL_SET(&r.p, cpu_us, 12345);
		JOURNAL_SET(&r.p, wall_us, 123456);
	}
	if (type == JOURNAL_RUN_CREATED)
		JOURNAL_SET(&r.p, workspace, bytes_str("/home/someone/projects/thing"));
	journal_append(j, &r, NULL);
}

static void begin(struct journal *j, uint32_t run)
{
	static const enum journal_type script[] = {JOURNAL_RUN_CREATED,	    JOURNAL_RUN_STARTED,
						   JOURNAL_STEP_DECLARED,   JOURNAL_STEP_RUNNABLE,
						   JOURNAL_ATTEMPT_STARTED, JOURNAL_ATTEMPT_LIVE};
	for (size_t i = 0; i < ARRAY_SIZE(script); i++)
		append(j, run, script[i]);
}

/* One transition that a live attempt can go through for ever: event, run, step and attempt rows,
 * head, lsn. */
static void turn(struct journal *j, uint32_t run, unsigned n)
{
	append(j, run, n % 2 ? JOURNAL_ATTEMPT_THAWED : JOURNAL_ATTEMPT_FROZEN);
}

/* ---- Raw RocksDB with the same operations ---- */

struct capture {
	struct journal_kv kv;
	struct journal_kv *below;
	struct buffer ops;
};

static int capture_write(struct journal_kv *kv, struct bytes batch, struct bytes mark,
			 struct error *err)
{
	struct capture *c = (struct capture *)kv;
	enum journal_kv_op op;
	enum journal_family f;
	struct bytes rest = batch, key, value;
	c->ops.len = 0;
	/* The lsn goes once into a write, not once into a transition. */
	while (journal_kv_next(&rest, &op, &f, &key, &value))
		if (!bytes_equal(key, bytes_str(JOURNAL_META_LSN)))
			journal_kv_put(&c->ops, f, key, value);
	return c->below->ops->write(c->below, batch, mark, err);
}

struct raw {
	struct buffer *ops; /* [PRODUCERS]: of one transition each, of two rounds in turn */
	struct journal_kv *kv;
	struct folder folder;
};

static void raw_make(struct raw *r)
{
	static struct journal_kv_ops ops;
	struct journal *j = open_at(NULL, true);
	struct capture c = {.below = j->kv, .ops = {.max = SIZE_MAX}};
	struct error err = {0};
	char path[PATH_MAX + 8];
	r->ops = calloc(PRODUCERS, sizeof(*r->ops));
	for (uint32_t p = 0; p < PRODUCERS; p++)
		begin(j, p);
	journal_flush(j, true);
	ops = *j->kv->ops;
	ops.write = capture_write;
	c.kv.ops = &ops;
	j->kv = &c.kv;
	for (uint32_t p = 0; p < PRODUCERS; p++) {
		turn(j, p, 0);
		journal_flush(j, true);
		buffer_append(&r->ops[p], c.ops.data, c.ops.len);
	}
	j->kv = c.below;
	buffer_free(&c.ops);
	journal_close(j);
	folder_make(&r->folder);
	snprintf(path, sizeof(path), "%s/journal", r->folder.path);
	must(journal_kv_rocks_open(path, JOURNAL_KV_STRICT, false, &r->kv, &err), &err);
}

static void raw_write(struct raw *r, const struct buffer *batch)
{
	static const uint8_t mark[JOURNAL_WAL_MARK_SIZE];
	struct error err = {0};
	must(r->kv->ops->write(r->kv, buffer_bytes(batch), bytes_of(mark, sizeof(mark)), &err),
	     &err);
	must(r->kv->ops->sync(r->kv, &err), &err);
}

static double raw_group_rate(struct raw *r)
{
	AUTO_BUFFER batch = {.max = SIZE_MAX};
	int64_t start = now_ns();
	for (int round = 0; round < ROUNDS; round++) {
		batch.len = 0;
		for (int p = 0; p < PRODUCERS; p++)
			buffer_append(&batch, r->ops[p].data, r->ops[p].len);
		raw_write(r, &batch);
	}
	return (double)ROUNDS * PRODUCERS * 1e9 / (double)(now_ns() - start);
}

/* ---- The journal ---- */

static void wait_event(struct journal *j)
{
	struct pollfd p = {.fd = journal_event_fd(j), .events = POLLIN};
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

/* Each producer sends its next transition when its last one is on disk. */
static double journal_group_rate(struct journal *j)
{
	uint64_t waits_for[PRODUCERS] = {0};
	unsigned turns[PRODUCERS] = {0}, done = 0;
	const unsigned all = ROUNDS * PRODUCERS;
	for (uint32_t p = 0; p < PRODUCERS; p++)
		begin(j, p);
	journal_flush(j, true);
	must(journal_wait_durable(j, journal_last_lsn(j)), &(struct error){0});
	uint64_t durable = journal_durable_lsn(j);
	int64_t start = now_ns();
	while (done < all) {
		for (uint32_t p = 0; p < PRODUCERS; p++) {
			if (turns[p] == ROUNDS || waits_for[p] > durable)
				continue;
			turn(j, p, turns[p]++);
			waits_for[p] = journal_last_lsn(j);
			journal_flush(j, true);
		}
		wait_event(j);
		durable = journal_durable_lsn(j);
		done = 0;
		for (uint32_t p = 0; p < PRODUCERS; p++)
			done += turns[p] - (waits_for[p] > durable);
	}
	return (double)all * 1e9 / (double)(now_ns() - start);
}

/* Turn about, one by one: both meet the same disk. */
static void singles(struct raw *r, struct journal *j, int64_t *raw_ns, int64_t *ns)
{
	for (int i = 0; i < SINGLES; i++) {
		int64_t start = now_ns();
		raw_write(r, &r->ops[i % PRODUCERS]);
		raw_ns[i] = now_ns() - start;
		start = now_ns();
		turn(j, 0, (unsigned)i);
		uint64_t lsn = journal_last_lsn(j);
		journal_flush(j, true);
		while (journal_durable_lsn(j) < lsn)
			wait_event(j);
		ns[i] = now_ns() - start;
	}
	qsort(raw_ns, SINGLES, sizeof(*raw_ns), by_value);
	qsort(ns, SINGLES, sizeof(*ns), by_value);
}

/* ---- Opening ---- */

static void build(const struct folder *f, uint32_t events)
{
	static const enum journal_type rest[] = {
		JOURNAL_ATTEMPT_EXITED,	   JOURNAL_STEP_SEALED,	    JOURNAL_STEP_COMMITTED,
		JOURNAL_APPROVAL_OPENED,   JOURNAL_VOTE_CAST,	    JOURNAL_APPROVAL_APPROVED,
		JOURNAL_APPROVAL_CONSUMED, JOURNAL_LANDING_STARTED, JOURNAL_LANDED,
		JOURNAL_RUN_SUCCEEDED,
	};
	struct journal *j = open_at(f, false);
	for (uint32_t run = 0; run < events / RUN_EVENTS; run++) {
		begin(j, run);
		for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
			append(j, run, rest[i]);
		journal_flush(j, false);
		journal_drop_final(j, NULL, NULL);
		/* the queue must not grow without bound */
		if (run % 256 == 0)
			must(journal_wait_durable(j, journal_last_lsn(j)), &(struct error){0});
	}
	journal_close(j);
}

/* argv: -, "open", folder: opens, prints "ns rss_kib". A process of its own: its memory is the
 * journal's. */
static int open_main(const char *path)
{
	struct folder f = {.fd = -1};
	snprintf(f.path, sizeof(f.path), "%s", path);
	FILE *d = fopen(path, "re");
	f.fd = d ? fileno(d) : -1;
	int64_t start = now_ns();
	struct journal *j = open_at(&f, false);
	int64_t took = now_ns() - start;
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	printf("%lld %ld\n", (long long)took, u.ru_maxrss);
	fflush(stdout);
	journal_close(j);
	return 0;
}

static void measure_open(const struct folder *f, int64_t *ret_median, int64_t *ret_p99,
			 long *ret_rss)
{
	int64_t ns[OPENS];
	char command[PATH_MAX + 64], self[PATH_MAX] = "";
	*ret_rss = 0;
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		exit(1);
	snprintf(command, sizeof(command), "%s open %s", self, f->path);
	for (int i = 0; i < OPENS; i++) {
		FILE *p = popen(command, "re");
		long long took;
		long rss;
		if (!p || fscanf(p, "%lld %ld", &took, &rss) != 2 || pclose(p) != 0)
			exit(1);
		ns[i] = took;
		*ret_rss = rss > *ret_rss ? rss : *ret_rss;
	}
	qsort(ns, OPENS, sizeof(*ns), by_value);
	*ret_median = ns[OPENS / 2];
	*ret_p99 = ns[OPENS - 1];
}

/* ---- */

int main(int argc, char **argv)
{
	bool json = false;
	uint32_t events = 1000000;
	if (argc == 3 && strcmp(argv[1], "open") == 0)
		return open_main(argv[2]);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			json = true;
		else if (strcmp(argv[i], "--events") == 0 && i + 1 < argc)
			events = (uint32_t)strtoul(argv[++i], NULL, 10);
		else
			return fprintf(stderr,
				       "usage: bench-journal-groups [--json] [--events N]\n"),
			       2;
	}

	int64_t raw_ns[SINGLES], ns[SINGLES], open_small, open_small_p99, open_large,
		open_large_p99;
	long rss_small, rss_large;
	struct raw raw;
	raw_make(&raw);
	/* Turn about, the best of each: the disk is shared with others. */
	double raw_rate = 0, rate = 0;
	struct folder f;
	for (int i = 0; i < ROUNDS_OF_BEST; i++) {
		double r = raw_group_rate(&raw);
		raw_rate = r > raw_rate ? r : raw_rate;
		folder_make(&f);
		struct journal *j = open_at(&f, false);
		r = journal_group_rate(j);
		rate = r > rate ? r : rate;
		if (i == 0)
			singles(&raw, j, raw_ns, ns);
		journal_close(j);
		folder_remove(&f);
	}
	raw.kv->ops->close(raw.kv);
	folder_remove(&raw.folder);

	folder_make(&f);
	build(&f, 100);
	measure_open(&f, &open_small, &open_small_p99, &rss_small);
	folder_remove(&f);
	folder_make(&f);
	build(&f, events);
	measure_open(&f, &open_large, &open_large_p99, &rss_large);
	folder_remove(&f);

	if (json) {
		printf("{\"version\":1,\"producers\":%d,\"raw_events_per_s\":%.0f,\"events_per_s\":"
		       "%.0f,\"ratio\":%.3f,"
		       "\"raw_single_us\":{\"median\":%.1f,\"p99\":%.1f},\"single_us\":{\"median\":"
		       "%.1f,\"p99\":%.1f},"
		       "\"single_ratio\":%.3f,\"open_100_ms\":{\"median\":%.2f,\"max\":%.2f,\"rss_"
		       "mib\":%.1f},"
		       "\"open_events\":%u,\"open_ms\":{\"median\":%.2f,\"max\":%.2f,\"rss_mib\":%."
		       "1f}}\n",
		       PRODUCERS, raw_rate, rate, rate / raw_rate, us(raw_ns[SINGLES / 2]),
		       us(raw_ns[SINGLES * 99 / 100]), us(ns[SINGLES / 2]),
		       us(ns[SINGLES * 99 / 100]), us(ns[SINGLES / 2]) / us(raw_ns[SINGLES / 2]),
		       us(open_small) / 1000, us(open_small_p99) / 1000, (double)rss_small / 1024,
		       events, us(open_large) / 1000, us(open_large_p99) / 1000,
		       (double)rss_large / 1024);
		return 0;
	}
	printf("%-44s %12s %12s %8s\n", "", "raw RocksDB", "journal", "ratio");
	printf("%-44s %12.0f %12.0f %8.2f\n", "transitions/s, 64 producers, synced", raw_rate, rate,
	       rate / raw_rate);
	printf("%-44s %12.1f %12.1f %8.2f\n", "one producer, us a transition, median",
	       us(raw_ns[SINGLES / 2]), us(ns[SINGLES / 2]),
	       us(ns[SINGLES / 2]) / us(raw_ns[SINGLES / 2]));
	printf("%-44s %12.1f %12.1f\n", "one producer, p99", us(raw_ns[SINGLES * 99 / 100]),
	       us(ns[SINGLES * 99 / 100]));
	printf("%-44s %12s %12s %8s\n", "", "median ms", "max ms", "MiB");
	printf("%-44s %12.2f %12.2f %8.1f\n", "open, 100 events", us(open_small) / 1000,
	       us(open_small_p99) / 1000, (double)rss_small / 1024);
	printf("open, %-38u %12.2f %12.2f %8.1f\n", events, us(open_large) / 1000,
	       us(open_large_p99) / 1000, (double)rss_large / 1024);
	return 0;
}
