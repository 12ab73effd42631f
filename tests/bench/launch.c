/*
 * A complete sandbox through the keeper's client library, as a server of the bench (bench.h): every
 * wall, a workspace of which a fresh upper layer is made, private home; with an argument, every
 * limit too. Measured is what a caller waits for, from the request to the exit being told. That
 * nothing of it is left, and its layer is thrown away, is awaited outside the measurement.
 *
 *   launch [limits]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/bench/bench.h"
#include "tests/rig/rig.h"

static const char program[] = "/bin/true";

static void set_limits(struct sandbox_limits *l)
{
	l->memory_bytes = 1 << 30;
	l->pids = 256;
	l->cpu_ms = 60000;
	l->disk_bytes = 1 << 30;
	l->files = 100000;
	l->output_bytes = 16 << 20;
}

static void forget(struct rig *r, const struct rig_spec *s)
{
	struct sealer_request q = {.op = SEALER_REMOVE, .name_count = 1};
	rig_await(r, &r->gone, "GONE");
	r->replied = false;
	if (sandbox_client_forget(r->client, &s->spec.attempt, NULL) < 0)
		abort();
	rig_await(r, &r->replied, "FORGET's reply");
	strcpy(q.names[0], s->upper);
	rig_layer(r, &q);
}

static void launch_once(struct rig *r, bool limits)
{
	struct rig_spec s;
	rig_spec(r, &s, program, NULL);
	if (limits)
		set_limits(&s.spec.limits);
	int64_t start = bench_now_ns();
	rig_start(r, &s);
	rig_await(r, &r->exited, "EXITED");
	int64_t took = bench_now_ns() - start;
	if (r->exit.status == 0)
		printf("%lld\n", (long long)took);
	else
		printf("status %d, signal %d\n", r->exit.status, r->exit.signal);
	fflush(stdout);
	forget(r, &s);
}

int main(int argc, char **argv)
{
	struct rig r;
	int c;
	bool limits = argc == 2 && strcmp(argv[1], "limits") == 0;
	if (argc > 2 || (argc == 2 && !limits)) {
		fprintf(stderr, "usage: launch [limits]\n");
		return 2;
	}
	rig_open(&r, geteuid(), getegid());
	while ((c = getchar()) != EOF)
		if (c == '\n')
			launch_once(&r, limits);
	rig_close(&r);
	return 0;
}
