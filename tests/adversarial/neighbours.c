/* What a step does to the clock, to the keeper's reports and to its neighbours: it ends in time, its
 * reports have an end, and others go on. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/io.h"
#include "tests/rig/rig.h"

enum {
	NEIGHBOUR_MS =
		2000, /* of /bin/true beside a hog; some 5 ms alone, and these machines are shared */
	HOG_MS = 9000, /* less than its wall time */
	NEIGHBOURS = 5,
	DEATHS = 4,
	REPORTS_MAX = 256 + 32, /* keeper.h's, and those that were on their way */
};

static struct rig rig;

static int set_up(void **state)
{
	AUTO_BUFFER probe = {0};

	(void)state;
	rig_open(&rig, geteuid(), getegid());
	assert_int_equal(io_read_file_at(AT_FDCWD, getenv("HOLDFAST_PROBE"), 64 << 20, &probe), 0);
	AUTO_FD fd = openat(rig.base_fd, "probe", O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
	assert_true(fd >= 0 && fchmod(fd, 0755) == 0);
	assert_int_equal(io_write_all(fd, probe.data, probe.len), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rig_close(&rig);
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool host_has_process(const char *word)
{
	DIR *d = opendir("/proc");
	bool found = false;

	for (struct dirent *e; d && (e = readdir(d));) {
		char path[300], text[256] = "";
		snprintf(path, sizeof(path), "/proc/%s/cmdline", e->d_name);
		AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strcmp(text, word) == 0)
			found = true;
	}
	closedir(d);
	return found;
}

static void no_double_fork_and_no_ignored_signal_outlasts_the_wall_time(void **state)
{
	struct rig_spec s;
	struct rig_result x;
	char word[64];

	(void)state;
	snprintf(word, sizeof(word), "dodger-%d", getpid());
	rig_spec(&rig, &s, "./probe", "dodge", word, NULL);
	s.spec.limits.wall_ms = 400;
	rig_run(&rig, &s, &x);
	assert_int_equal(x.exit.why, SANDBOX_WHY_TIMED_OUT);
	assert_in_range(x.exit.usage.wall_us, 390000, 5000000);
	assert_string_equal(x.out, "away\n"); /* it did get as far as to hide */
	assert_false(host_has_process(word));
}

static void a_flood_of_denied_calls_is_reported_to_a_cap_and_denied_to_the_end(void **state)
{
	struct rig_spec s;
	struct rig_result x;
	uint64_t reports = 0;

	(void)state;
	rig_spec(&rig, &s, "./probe", "flood", NULL);
	rig_run(&rig, &s, &x);
	assert_string_equal(x.out, "");
	assert_int_equal(x.exit.status, 0);
	for (size_t i = 0; i < x.exit.denied_count; i++)
		reports += x.exit.denied[i].count;
	reports += x.exit.denied_more;
	assert_in_range(x.exit.denied_count, 1, SANDBOX_DENIED_MAX);
	assert_in_range(reports, 100, REPORTS_MAX);
}

/* Between the keeper's end and its own, a step finds nobody behind its filter. */
static void a_dead_keeper_leaves_no_moment_for_a_listener_of_ones_own(void **state)
{
	for (int i = 0; i < DEATHS; i++) {
		struct rig_spec s;
		char command[160];

		set_up(state);
		rig_spec(&rig, &s, "./probe", "haunt", NULL);
		rig_start(&rig, &s);
		rig_await(&rig, &rig.started, "STARTED");
		usleep(20000);
		kill(rig.keeper, SIGKILL);
		int alive = 1;
		for (int k = 0; k < 300 && alive == 1; k++) {
			usleep(10000);
			alive = sandbox_attempt_lives(rig.spool_fd, &s.spec.attempt);
		}
		assert_int_equal(alive, 0);
		/* it had begun, and it never got through */
		snprintf(command, sizeof(command), "find '%s' -name began | grep -q .", rig.dir);
		assert_int_equal(system(command), 0);
		snprintf(command, sizeof(command), "find '%s' -name 'reached*' | grep .", rig.dir);
		assert_int_not_equal(system(command), 0);
		tear_down(state);
	}
}

static bool lives(const struct rig_spec *s)
{
	return sandbox_attempt_lives(rig.spool_fd, &s->spec.attempt) == 1;
}

/* For as long as it takes: ends_itself says whether the hog is to be ended by its limit meanwhile. */
static void a_neighbour_goes_on(const struct rig_spec *hog, bool ends_itself)
{
	uint64_t start = now_ms();
	struct rig_spec s;
	struct rig_result x;

	rig_start(&rig, hog);
	rig_await(&rig, &rig.started, "STARTED");
	for (int i = 0; i < NEIGHBOURS || (ends_itself && lives(hog)); i++) {
		assert_in_range(now_ms() - start, 0, HOG_MS);
		usleep(50000);
		uint64_t from = now_ms();
		rig_spec(&rig, &s, "true", NULL);
		rig_run(&rig, &s, &x);
		assert_true(x.started);
		assert_int_equal(x.exit.why, SANDBOX_WHY_EXITED);
		assert_int_equal(x.exit.status, 0);
		assert_in_range(now_ms() - from, 0, NEIGHBOUR_MS);
	}
	assert_true(ends_itself || lives(hog)); /* it was at it all the while */
	if (!ends_itself)
		(void)!sandbox_client_kill(rig.client, &hog->spec.attempt, NULL);
	for (int i = 0; i < 300 && lives(hog); i++)
		usleep(10000);
	assert_false(lives(hog));
}

/* Bounded as a step is by default; a larger one says no more and costs others this machine. */
static void a_fork_bomb_leaves_its_neighbour_room(void **state)
{
	struct rig_spec s;

	(void)state;
	rig_spec(&rig, &s, "./probe", "bomb-on", NULL);
	s.spec.limits.pids = 16;
	s.spec.limits.wall_ms = 10000;
	a_neighbour_goes_on(&s, false);
}

static void a_memory_hog_leaves_its_neighbour_room(void **state)
{
	struct rig_spec s;

	(void)state;
	rig_spec(&rig, &s, "./probe", "hog", "200", NULL);
	s.spec.limits.memory_bytes = 48 << 20;
	s.spec.limits.wall_ms = 10000;
	a_neighbour_goes_on(&s, true);
}

static void a_filler_of_output_leaves_its_neighbour_room(void **state)
{
	struct rig_spec s;

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c", "exec cat /dev/zero", NULL);
	s.spec.limits.output_bytes = 1 << 20;
	s.spec.limits.wall_ms = 10000;
	a_neighbour_goes_on(&s, false);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(no_double_fork_and_no_ignored_signal_outlasts_the_wall_time),
		CASE(a_flood_of_denied_calls_is_reported_to_a_cap_and_denied_to_the_end),
		cmocka_unit_test(a_dead_keeper_leaves_no_moment_for_a_listener_of_ones_own),
		CASE(a_fork_bomb_leaves_its_neighbour_room),
		CASE(a_memory_hog_leaves_its_neighbour_room),
		CASE(a_filler_of_output_leaves_its_neighbour_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
