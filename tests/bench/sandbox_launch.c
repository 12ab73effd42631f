/*
 * How long a complete sandbox takes: request to exit reported, median and p99, beside posix_spawn
 * of the same program and bubblewrap in the same run, interleaved. launch [N] [program]
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include "tests/rig/rig.h"

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* The one before is still being torn down by the kernel, and a network namespace made for the next
 * one: a step's start is measured, not the rate at which a machine can make them.
 * HOLDFAST_BENCH_PAUSE_MS=0 measures the rate. */
static void settle(void)
{
	const char *pause = getenv("HOLDFAST_BENCH_PAUSE_MS");

	usleep(1000 * (pause ? (useconds_t)strtoul(pause, NULL, 10) : 30));
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct series {
	const char *name;
	double *v;
	size_t n;
};

static double report(struct series *s, double native)
{
	if (s->n == 0)
		return 0;
	qsort(s->v, s->n, sizeof(double), compare);
	double median = s->v[s->n / 2];
	printf("%-22s median %7.0f us   p99 %7.0f us   min %7.0f us%s", s->name, median,
	       s->v[s->n * 99 / 100], s->v[0], native > 0 ? "" : "\n");
	if (native > 0)
		printf("   %.2f x native\n", median / native);
	return median;
}

static bool spawn_once(char **argv, double *ret)
{
	static char *env[] = {"PATH=/usr/bin:/bin", NULL};
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int status = 1;

	settle();
	double begin = now_us();

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	if (posix_spawn(&pid, argv[0], &actions, NULL, argv, env) == 0)
		waitpid(pid, &status, 0);
	posix_spawn_file_actions_destroy(&actions);
	*ret = now_us() - begin;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static double sandbox_once(struct rig *r, const char *program, bool limits)
{
	struct rig_spec s;

	rig_spec(r, &s, program, NULL);
	s.spec.without_walls = (uint32_t)strtoul(getenv("W") ? getenv("W") : "0", NULL, 10);
	if (limits) {
		s.spec.limits.memory_bytes = 1 << 30;
		s.spec.limits.pids = 256;
		s.spec.limits.cpu_ms = 60000;
		s.spec.limits.disk_bytes = 1 << 30;
	}
	settle();
	double begin = now_us();
	rig_start(r, &s);
	rig_await(r, &r->exited, "EXITED");
	double took = now_us() - begin;
	rig_await(r, &r->gone, "GONE");
	if (r->exit.status != 0)
		abort();
	r->replied = false;
	if (sandbox_client_forget(r->client, &s.spec.attempt, NULL) < 0)
		abort();
	rig_await(r, &r->replied, "FORGET's reply");
	struct sealer_request q = {.op = SEALER_REMOVE, .name_count = 1};
	strcpy(q.names[0], s.upper);
	rig_layer(r, &q);
	return took;
}

int main(int argc, char **argv)
{
	size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 200;
	const char *program = argc > 2 ? argv[2] : "/bin/true";
	char *native_argv[] = {(char *)program, NULL};
	char *bwrap_argv[] = {"/usr/bin/bwrap",
			      "--unshare-all",
			      "--die-with-parent",
			      "--ro-bind",
			      "/usr",
			      "/usr",
			      "--ro-bind",
			      "/etc",
			      "/etc",
			      "--symlink",
			      "usr/bin",
			      "/bin",
			      "--symlink",
			      "usr/lib",
			      "/lib",
			      "--symlink",
			      "usr/lib64",
			      "/lib64",
			      "--proc",
			      "/proc",
			      "--dev",
			      "/dev",
			      "--tmpfs",
			      "/tmp",
			      "--tmpfs",
			      "/run",
			      (char *)program,
			      NULL};
	struct series native = {"posix_spawn", calloc(n, sizeof(double)), 0},
		      bwrap = {"bubblewrap", calloc(n, sizeof(double)), 0},
		      plain = {"sandbox", calloc(n, sizeof(double)), 0},
		      limited = {"sandbox, all limits", calloc(n, sizeof(double)), 0};
	bool have_bwrap = access("/usr/bin/bwrap", X_OK) == 0;
	struct rig r;
	double took;

	rig_open(&r, geteuid(), getegid());
	took = sandbox_once(&r, program, false);
	printf("%-22s        %7.0f us   makes namespace and template\n", "first sandbox", took);
	for (size_t i = 0; i < n; i++) {
		if (spawn_once(native_argv, &took))
			native.v[native.n++] = took;
		plain.v[plain.n++] = sandbox_once(&r, program, false);
		limited.v[limited.n++] = sandbox_once(&r, program, true);
		if (have_bwrap && spawn_once(bwrap_argv, &took))
			bwrap.v[bwrap.n++] = took;
	}
	double base = report(&native, 0);
	double own = report(&plain, base);
	report(&limited, base);
	double theirs = report(&bwrap, base);
	if (theirs > 0)
		printf("sandbox / bubblewrap = %.2f\n", own / theirs);
	rig_close(&r);
	free(native.v);
	free(bwrap.v);
	free(plain.v);
	free(limited.v);
	return 0;
}
