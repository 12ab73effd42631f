#include "tests/bench/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OUT_BYTES = 1834, LAYER_PATHS = 12, LAYER_BYTES = 48123 }; /* of a middling step */

static int64_t clock_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

static int64_t mono_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

struct journal *events_open(int v1_fd, bool read_only)
{
	struct journal *j = NULL;
	struct error err = {0};
	struct journal_options o = {.dirfd = v1_fd,
				    .read_only = read_only,
				    .clock = {.wall_ns = wall_ns, .mono_ns = mono_ns}};
	memset(o.clock.boot_id, 0xb0, sizeof(o.clock.boot_id));
	if (journal_open(&o, &j, &err) != 0) {
		fprintf(stderr, "cannot open the journal: %s\n", err.msg);
		exit(1);
	}
	return j;
}

/* Every digest of a journal is another one, and a store must not compress them away. */
static struct digest made_up(const struct events *e, uint64_t tag)
{
	struct digest d;
	struct {
		struct journal_id run;
		uint64_t step, tag;
	} from = {e->run, e->steps, tag};
	digest_domain("holdfast.bench", bytes_of(&from, sizeof(from)), &d);
	return d;
}

static struct journal_record record(const struct events *e, enum journal_type type)
{
	return (struct journal_record){.run = e->run,
				       .step = JOURNAL_NO_STEP,
				       .type = type,
				       .actor = JOURNAL_ACTOR_SUPERVISOR,
				       .actor_uid = 1000};
}

void events_begin_run(struct events *e, struct journal *j, uint64_t number)
{
	char name[32];
	*e = (struct events){.journal = j};
	struct digest id = made_up(e, number);
	memcpy(e->run.b, id.b, sizeof(e->run.b));
	snprintf(name, sizeof(name), "bench-%llu", (unsigned long long)number);

	struct journal_record r = record(e, JOURNAL_RUN_CREATED);
	JOURNAL_SET(&r.p, plan, made_up(e, 1));
	JOURNAL_SET(&r.p, policy, made_up(e, 2));
	JOURNAL_SET(&r.p, environ, made_up(e, 3));
	JOURNAL_SET(&r.p, name, bytes_str(name));
	JOURNAL_SET(&r.p, workspace, bytes_str("/home/user/src/project"));
	JOURNAL_SET(&r.p, ws_dev, 2049);
	JOURNAL_SET(&r.p, ws_ino, 1234567 + number);
	JOURNAL_SET(&r.p, ws_uid, 1000);
	JOURNAL_SET(&r.p, agency, 2);
	JOURNAL_SET(&r.p, land, JOURNAL_LAND_ASK);
	JOURNAL_SET(&r.p, base, JOURNAL_BASE_LIVE);
	journal_append(j, &r, NULL);
	r = record(e, JOURNAL_RUN_STARTED);
	JOURNAL_SET(&r.p, started_ns, wall_ns());
	journal_append(j, &r, NULL);
}

static void step_record(struct events *e, enum journal_type type)
{
	struct journal_record r = record(e, type);
	char layer[JOURNAL_LAYER_NAME_SIZE]; /* until it is appended */
	r.step = e->steps;
	if (type == JOURNAL_STEP_BACKOFF) {
		JOURNAL_SET(&r.p, due_ns, wall_ns());
		JOURNAL_SET(&r.p, failure, made_up(e, 4));
	}
	if (type == JOURNAL_STEP_SEALED || type == JOURNAL_STEP_COMMITTED) {
		snprintf(layer, sizeof(layer), "%07x", e->steps & 0xfffffff);
		JOURNAL_SET(&r.p, layer, bytes_str(layer));
		JOURNAL_SET(&r.p, manifest, made_up(e, 5));
		JOURNAL_SET(&r.p, paths, LAYER_PATHS);
		JOURNAL_SET(&r.p, size, LAYER_BYTES);
	}
	journal_append(e->journal, &r, NULL);
}

static void attempt_record(struct events *e, enum journal_type type, unsigned number,
			   unsigned exit_code)
{
	struct journal_record r = record(e, type);
	r.step = e->steps;
	r.attempt = number;
	if (type == JOURNAL_ATTEMPT_STARTED) {
		struct digest d = made_up(e, 16 + number);
		memcpy(r.p.attempt_id.b, d.b, sizeof(r.p.attempt_id.b));
		JOURNAL_SET(&r.p, attempt_id, r.p.attempt_id);
	}
	if (type == JOURNAL_ATTEMPT_EXITED) {
		JOURNAL_SET(&r.p, exit_code, exit_code);
		JOURNAL_SET(&r.p, out, made_up(e, 6));
		JOURNAL_SET(&r.p, out_size, OUT_BYTES);
		JOURNAL_SET(&r.p, err_size, 0);
		JOURNAL_SET(&r.p, cpu_us, 81234);
		JOURNAL_SET(&r.p, memory_peak, 31 << 20);
		JOURNAL_SET(&r.p, wall_us, 112345);
	}
	journal_append(e->journal, &r, NULL);
}

void events_step(struct events *e, unsigned failed_tries)
{
	char name[32];
	snprintf(name, sizeof(name), "step-%u", e->steps);
	struct journal_record r = record(e, JOURNAL_STEP_DECLARED);
	r.step = e->steps;
	JOURNAL_SET(&r.p, key, bytes_str(name));
	JOURNAL_SET(&r.p, name, bytes_str(name));
	JOURNAL_SET(&r.p, input, made_up(e, 7));
	JOURNAL_SET(&r.p, context, made_up(e, 8));
	JOURNAL_SET(&r.p, index, e->steps);
	journal_append(e->journal, &r, NULL);
	step_record(e, JOURNAL_STEP_RUNNABLE);
	for (unsigned n = 1; n <= failed_tries + 1; n++) {
		attempt_record(e, JOURNAL_ATTEMPT_STARTED, n, 0);
		attempt_record(e, JOURNAL_ATTEMPT_LIVE, n, 0);
		attempt_record(e, JOURNAL_ATTEMPT_EXITED, n, n <= failed_tries);
		if (n <= failed_tries) {
			step_record(e, JOURNAL_STEP_BACKOFF);
			step_record(e, JOURNAL_STEP_RUNNABLE);
		}
	}
	step_record(e, JOURNAL_STEP_SEALED);
	step_record(e, JOURNAL_STEP_COMMITTED);
	e->steps++;
}

void events_end_run(struct events *e)
{
	struct journal_record r = record(e, JOURNAL_RUN_SUCCEEDED);
	journal_append(e->journal, &r, NULL);
	r = record(e, JOURNAL_LANDING_DROPPED);
	journal_append(e->journal, &r, NULL);
}
