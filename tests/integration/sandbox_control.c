/* A running sandbox under its keeper's hands: terminal, signals, freezing, limits, listeners,
 * notices, draining. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <cmocka.h>
#include "base/failpoint.h"
#include "base/guard.h"
#include "base/io.h"
#include "sandbox/protocol.h"
#include "tests/rig/rig.h"

static struct rig rig;

static int set_up(void **state)
{
	(void)state;
	rig_open(&rig, geteuid(), getegid());
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rig_close(&rig);
	return 0;
}

static void await_reply(int (*ask)(struct sandbox_client *, const struct sandbox_attempt_id *,
				   uint64_t *))
{
	rig.replied = false;
	assert_int_equal(ask(rig.client, &rig.waited, NULL), 0);
	rig_await(&rig, &rig.replied, "a reply");
}

/* Reads from the relay until it has seen text. */
static void expect(int fd, const char *text)
{
	char got[8192];
	size_t len = 0;

	got[0] = '\0';
	while (!strstr(got, text)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		assert_true(poll(&p, 1, 10000) > 0);
		ssize_t n = read(fd, got + len, sizeof(got) - 1 - len);
		assert_true(n > 0);
		len += (size_t)n;
		got[len] = '\0';
	}
}

static void a_terminal_is_the_commands_own_and_is_recorded(void **state)
{
	struct rig_spec s;
	char out[4096];

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c",
		 "read a; tty; stty size; echo sized; read x; stty size; echo got $x; read y; test "
		 "-t 0 -a -t 1 -a -t 2",
		 NULL);
	s.spec.pty = true;
	s.spec.pty_rows = 24;
	s.spec.pty_cols = 80;
	rig_start(&rig, &s);
	rig_await(&rig, &rig.started, "STARTED");
	await_reply(sandbox_client_pty);
	assert_int_equal(rig.reply_result, 0);
	AUTO_FD relay = take_fd(&rig.reply_fd);
	assert_int_equal(write(relay, "go\n", 3), 3);
	expect(relay, "sized");
	rig.replied = false;
	assert_int_equal(sandbox_client_resize(rig.client, &rig.waited, 50, 132, NULL), 0);
	rig_await(&rig, &rig.replied, "RESIZE's reply");
	assert_int_equal(write(relay, "word\n", 5), 5);
	expect(relay, "got word");
	rig_disconnect(&rig); /* the supervisor may go: the terminal stays */
	assert_int_equal(write(relay, "more\n", 5), 5);
	expect(relay, "more");
	rig_connect(&rig);
	rig_await(&rig, &rig.gone, "GONE");
	assert_int_equal(rig.exit.status, 0);
	rig_read_spool(&rig, &s.spec.attempt, SANDBOX_SPOOL_STDOUT, out, sizeof(out));
	assert_non_null(strstr(out, "/dev/pts/0"));
	assert_non_null(strstr(out, "24 80"));
	assert_non_null(strstr(out, "50 132"));
}

/* Its end is what it says, not a hang-up, however long it lives on after its last descriptor of the
 * terminal. */
static void a_command_that_closes_its_terminal_ends_as_it_ends(void **state)
{
	static const char *const commands[] = {
		"exec 0<&- 1>&- 2>&-; sleep 0.3; exit 5",
		"exec 0<&- 1>&- 2>&-; exit 5",
		"sleep 100 & exec 0<&- 1>&- 2>&-; exit 5",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		struct rig_spec s;

		rig_spec(&rig, &s, "/bin/sh", "-c", commands[i], NULL);
		s.spec.pty = true;
		s.spec.pty_rows = 24;
		s.spec.pty_cols = 80;
		rig_start(&rig, &s);
		rig_await(&rig, &rig.gone, "GONE");
		assert_int_equal(rig.exit.why, SANDBOX_WHY_EXITED);
		assert_int_equal(rig.exit.status, 5);
	}
}

static void a_signal_goes_to_the_command(void **state)
{
	struct rig_spec s;

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c",
		 "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done", NULL);
	rig_start(&rig, &s);
	rig_await(&rig, &rig.started, "STARTED");
	usleep(300000);
	assert_int_equal(sandbox_client_signal(rig.client, &rig.waited, SIGUSR1, NULL), 0);
	rig_await(&rig, &rig.gone, "GONE");
	assert_int_equal(rig.exit.status, 9);
	assert_int_equal(rig.exit.why, SANDBOX_WHY_EXITED);
}

/* Who was told that it failed does not find it begun. */
static void a_start_that_could_not_be_sent_is_not_sent_later(void **state)
{
	struct rig_spec refused, other;
	char name[SANDBOX_SPOOL_NAME_SIZE];
	struct rig_result x;
	struct stat st;

	(void)state;
#ifndef HOLDFAST_FAILPOINTS
	skip();
#endif
	rig_spec(&rig, &refused, "/bin/sh", "-c", "sleep 60", NULL);
	failpoint_init("client.send=error:ETOOMANYREFS");
	assert_int_equal(sandbox_client_start(rig.client, &refused.spec, NULL, NULL),
			 -ETOOMANYREFS);
	failpoint_init(NULL);
	rig_spec(&rig, &other, "/bin/sh", "-c", "echo on", NULL);
	rig_run(&rig, &other, &x);
	assert_string_equal(x.out, "on\n");
	sandbox_spool_name(&refused.spec.attempt, SANDBOX_SPOOL_LOCK, name);
	assert_int_equal(fstatat(rig.spool_fd, name, &st, 0), -1);
	assert_int_equal(errno, ENOENT);
}

static off_t spooled(const struct rig_spec *s)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];
	struct stat st;

	return fstatat(rig.spool_fd,
		       sandbox_spool_name(&s->spec.attempt, SANDBOX_SPOOL_STDOUT, name), &st, 0) < 0
		       ? 0
		       : st.st_size;
}

/* Without a freezer nothing is frozen, and that is said. */
static void frozen_time_is_nobodys(void **state)
{
	struct rig_spec s;

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c", "while :; do echo x; sleep 0.02; done", NULL);
	s.spec.limits.wall_ms = 1200;
	rig_start(&rig, &s);
	rig_await(&rig, &rig.started, "STARTED");
	usleep(200000);
	rig.replied = false;
	assert_int_equal(sandbox_client_freeze(rig.client, &rig.waited, true, NULL), 0);
	rig_await(&rig, &rig.replied, "FREEZE's reply");
	if (rig.reply_result == -ENOTSUP)
		return;
	assert_int_equal(rig.reply_result, 0);
	usleep(200000);
	off_t before = spooled(&s);
	usleep(1200000);
	assert_int_equal(sandbox_client_dispatch(rig.client), 0);
	assert_false(rig.exited);
	assert_int_equal(spooled(&s), before);
	assert_int_equal(sandbox_client_freeze(rig.client, &rig.waited, false, NULL), 0);
	rig_await(&rig, &rig.gone, "GONE");
	assert_int_equal(rig.exit.why, SANDBOX_WHY_TIMED_OUT);
	assert_true(spooled(&s) > before);
}

static void limits_hold_after_a_thaw(void **state)
{
	struct rig_spec s;

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c",
		 "trap go=1 USR1; while [ -z $go ]; do sleep 0.02; done; i=0; while :; do "
		 "head -c 3000000 /dev/zero > f$i; i=$((i+1)); sleep 0.05; done",
		 NULL);
	s.spec.limits.disk_bytes = 20 << 20;
	s.spec.limits.wall_ms = 10000;
	rig_start(&rig, &s);
	rig_await(&rig, &rig.started, "STARTED");
	usleep(200000);
	rig.replied = false;
	assert_int_equal(sandbox_client_freeze(rig.client, &rig.waited, true, NULL), 0);
	rig_await(&rig, &rig.replied, "FREEZE's reply");
	if (rig.reply_result != -ENOTSUP) {
		assert_int_equal(rig.reply_result, 0);
		usleep(1000000); /* several samples long */
		assert_int_equal(sandbox_client_freeze(rig.client, &rig.waited, false, NULL), 0);
	}
	assert_int_equal(sandbox_client_signal(rig.client, &rig.waited, SIGUSR1, NULL), 0);
	rig_await(&rig, &rig.gone, "GONE");
	assert_int_equal(rig.exit.why, SANDBOX_WHY_LIMIT);
	assert_string_equal(rig.exit.limit, "disk");
}

static void a_signal_of_the_commands_own_is_no_limit(void **state)
{
	static const char *const names[] = {"XCPU", "XFSZ"};
	static const int numbers[] = {SIGXCPU, SIGXFSZ};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct rig_spec s;
		struct rig_result x;
		char script[64];

		snprintf(script, sizeof(script), "kill -%s $$; sleep 5", names[i]);
		rig_spec(&rig, &s, "/bin/sh", "-c", script, NULL);
		s.spec.limits.cpu_ms = 60000;
		rig_run(&rig, &s, &x);
		assert_int_equal(x.exit.why, SANDBOX_WHY_EXITED);
		assert_int_equal(x.exit.signal, numbers[i]);
		assert_string_equal(x.exit.limit, "");
	}
}

static void limits_end_a_step_by_their_names(void **state)
{
	struct rig_spec s;
	struct rig_result x;

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c", "while :; do :; done", NULL);
	s.spec.limits.cpu_ms = 400;
	rig_run(&rig, &s, &x);
	assert_int_equal(x.exit.why, SANDBOX_WHY_LIMIT);
	assert_string_equal(x.exit.limit, "cpu");
	rig_spec(&rig, &s, "/usr/bin/python3", "-c",
		 "x = b'x' * (1 << 30)\nimport time\ntime.sleep(5)", NULL);
	s.spec.limits.memory_bytes = 200 << 20;
	rig_run(&rig, &s, &x);
	assert_int_equal(x.exit.why, SANDBOX_WHY_OOM);
	rig_spec(&rig, &s, "/bin/sh", "-c",
		 "i=0; while :; do head -c 3000000 /dev/zero > f$i; i=$((i+1)); sleep 0.05; done",
		 NULL);
	s.spec.limits.disk_bytes = 20 << 20;
	rig_run(&rig, &s, &x);
	assert_int_equal(x.exit.why, SANDBOX_WHY_LIMIT);
	assert_string_equal(x.exit.limit, "disk");
}

/* What cannot be measured is not without a limit: the walk's own depth is no way out. */
static void the_disk_limit_reaches_deep_folders(void **state)
{
	static const char *const depths[] = {"450", "5000"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(depths); i++) {
		struct rig_spec s;
		struct rig_result x;

		rig_spec(&rig, &s, "/usr/bin/python3", "-c",
			 "import os, sys, time\n"
			 "for i in range(int(sys.argv[1])): os.mkdir('d'); os.chdir('d')\n"
			 "for i in range(100):\n"
			 " f = open('f%d' % i, 'wb'); f.write(b'x' * 3000000); f.close()\n"
			 " time.sleep(0.05)\n",
			 depths[i], NULL);
		s.spec.limits.disk_bytes = 60 << 20;
		rig_run(&rig, &s, &x);
		assert_int_equal(x.exit.why, SANDBOX_WHY_LIMIT);
		assert_string_equal(x.exit.limit, "disk");
	}
}

static void a_tmpfs_that_nothing_counts_is_within_the_memory_limit(void **state)
{
	struct rig_spec s;
	struct rig_result x;

	(void)state;
	rig_spec(&rig, &s, "/usr/bin/python3", "-c",
		 "import os\n"
		 "for d in ('/tmp', '/run/holdfast/out'):\n"
		 " v = os.statvfs(d)\n"
		 " if v.f_blocks * v.f_frsize > 64 << 20: exit(7)\n",
		 NULL);
	s.spec.limits.memory_bytes = 64 << 20;
	rig_run(&rig, &s, &x);
	assert_int_equal(x.exit.why, SANDBOX_WHY_EXITED);
	assert_int_equal(x.exit.status, x.exit.weaker & SANDBOX_WEAKER_MEMORY ? 0 : 7);
}

/* Ends the network pool of our own keeper. */
static void end_pool(void)
{
	char path[64];
	bool found = false;
	int pid;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", rig.keeper, rig.keeper);
	FILE *children = fopen(path, "re");
	assert_non_null(children);
	while (fscanf(children, "%d", &pid) == 1) {
		char name[32] = "";

		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		FILE *comm = fopen(path, "re");
		if (comm && fgets(name, sizeof(name), comm) &&
		    strcmp(name, "holdfast-netpoo\n") == 0) {
			found = true;
			assert_int_equal(kill(pid, SIGKILL), 0);
		}
		if (comm)
			fclose(comm);
	}
	fclose(children);
	assert_true(found);
}

static void a_network_pool_that_ended_is_replaced(void **state)
{
	struct rig_spec s;
	struct rig_result x;

	(void)state;
	rig_spec(&rig, &s, "/bin/true", NULL);
	rig_run(&rig, &s, &x);
	assert_int_equal(x.exit.why, SANDBOX_WHY_EXITED);
	for (int round = 0; round < 2; round++) {
		end_pool();
		/* More than are kept ready. */
		for (int i = 0; i < 6; i++) {
			rig_spec(&rig, &s, "/bin/true", NULL);
			rig_run(&rig, &s, &x);
			assert_int_equal(x.exit.why, SANDBOX_WHY_EXITED);
			assert_int_equal(x.exit.status, 0);
		}
	}
}

static void listeners_stand_inside_and_are_served_outside(void **state)
{
	struct sandbox_listener l[20];
	struct rig_spec s;

	(void)state;
	memset(l, 0, sizeof(l));
	for (size_t i = 0; i < ARRAY_SIZE(l); i++) {
		inet_pton(AF_INET, "198.18.0.7", l[i].address);
		l[i].port = (uint16_t)(8000 + i);
	}
	l[19].v6 = true;
	inet_pton(AF_INET6, "fd48:6f6c:6466::9", l[19].address);
	rig_spec(&rig, &s, "/usr/bin/python3", "-c",
		 "import socket\nfor a in (('198.18.0.7', 8003), ('fd48:6f6c:6466::9', 8019)):\n"
		 " c = socket.create_connection(a, 5); print(c.recv(10).decode(), end='', "
		 "flush=True)\n",
		 NULL);
	s.spec.listeners = l;
	s.spec.listener_count = ARRAY_SIZE(l);
	rig_start(&rig, &s);
	rig_await(&rig, &rig.started, "STARTED");
	assert_int_equal(rig.listener_count, ARRAY_SIZE(l));
	const int served[] = {3, 19};
	for (size_t i = 0; i < 2; i++) {
		struct pollfd p = {.fd = rig.listeners[served[i]], .events = POLLIN};
		assert_int_equal(poll(&p, 1, 10000), 1);
		AUTO_FD c = accept4(p.fd, NULL, NULL, SOCK_CLOEXEC);
		assert_true(c >= 0);
		assert_int_equal(write(c, "hello\n", 6), 6);
	}
	rig_await(&rig, &rig.gone, "GONE");
	char out[64];
	rig_read_spool(&rig, &s.spec.attempt, SANDBOX_SPOOL_STDOUT, out, sizeof(out));
	assert_string_equal(out, "hello\nhello\n");
}

static void followed_output_is_noticed_and_not_at_every_byte(void **state)
{
	struct rig_spec s;

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c",
		 "i=0; while [ $i -lt 400 ]; do echo x; i=$((i+1)); done; sleep 0.3", NULL);
	rig_start(&rig, &s);
	assert_int_equal(sandbox_client_follow(rig.client, &rig.waited, true, NULL), 0);
	rig_await(&rig, &rig.gone, "GONE");
	assert_in_range(rig.output_notices, 1, 40);
}

static void forgetting_waits_for_the_end(void **state)
{
	struct rig_spec s;

	(void)state;
	rig_spec(&rig, &s, "sleep", "20", NULL);
	rig_start(&rig, &s);
	rig_await(&rig, &rig.started, "STARTED");
	await_reply(sandbox_client_forget);
	assert_int_equal(rig.reply_result, -EBUSY);
	await_reply(sandbox_client_kill);
	rig_await(&rig, &rig.gone, "GONE");
	await_reply(sandbox_client_forget);
	assert_int_equal(rig.reply_result, 0);
}

static void a_draining_keeper_takes_nothing_new_and_goes(void **state)
{
	struct rig_spec first, second;

	(void)state;
	rig_spec(&rig, &first, "sleep", "0.5", NULL);
	rig_start(&rig, &first);
	rig_await(&rig, &rig.started, "STARTED");
	assert_int_equal(sandbox_client_drain(rig.client, NULL), 0);
	rig_spec(&rig, &second, "true", NULL);
	rig_start(&rig, &second);
	rig_await(&rig, &rig.not_started, "NOT_STARTED");
	assert_int_equal(rig.why_not.why, SANDBOX_NOT_STARTED_INFRA);
	assert_int_equal(sandbox_client_forget(rig.client, &second.spec.attempt, NULL), 0);
	rig.waited = first.spec.attempt;
	rig.gone = false;
	rig_await(&rig, &rig.gone, "GONE");
	assert_int_equal(sandbox_client_forget(rig.client, &first.spec.attempt, NULL), 0);
	for (int i = 0; i < 100 && !rig.lost; i++) {
		struct pollfd p = {.fd = sandbox_client_fd(rig.client), .events = POLLIN};
		(void)poll(&p, 1, 100);
		if (sandbox_client_dispatch(rig.client) < 0)
			break;
	}
	assert_true(rig.lost);
}

static int64_t cpu_ms_of(pid_t pid)
{
	struct timespec t;
	clockid_t clock;

	assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
	assert_int_equal(clock_gettime(clock, &t), 0);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void a_keeper_without_descriptors_waits_for_one(void **state)
{
	struct rlimit before, none;
	pid_t keeper = rig.keeper;

	(void)state;
	assert_int_equal(prlimit(keeper, RLIMIT_NOFILE, NULL, &before), 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = before.rlim_max};
	assert_int_equal(prlimit(keeper, RLIMIT_NOFILE, &none, NULL), 0);
	AUTO_FD waits = io_unix_connect_at(rig.state_fd, PROTOCOL_SOCKET, SOCK_SEQPACKET);
	assert_true(waits >= 0);
	int64_t used = cpu_ms_of(keeper);
	(void)poll(NULL, 0, 1000);
	used = cpu_ms_of(keeper) - used;
	if (used > 200)
		fail_msg("%lld ms of a second for nothing", (long long)used);
	assert_int_equal(prlimit(keeper, RLIMIT_NOFILE, &before, NULL), 0);
	rig_disconnect(&rig);
	rig_connect(&rig);
	assert_int_equal(rig.keeper, keeper);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_terminal_is_the_commands_own_and_is_recorded),
		CASE(a_command_that_closes_its_terminal_ends_as_it_ends),
		CASE(a_signal_goes_to_the_command),
		CASE(a_start_that_could_not_be_sent_is_not_sent_later),
		CASE(frozen_time_is_nobodys),
		CASE(limits_end_a_step_by_their_names),
		CASE(limits_hold_after_a_thaw),
		CASE(a_signal_of_the_commands_own_is_no_limit),
		CASE(the_disk_limit_reaches_deep_folders),
		CASE(a_tmpfs_that_nothing_counts_is_within_the_memory_limit),
		CASE(a_network_pool_that_ended_is_replaced),
		CASE(listeners_stand_inside_and_are_served_outside),
		CASE(followed_output_is_noticed_and_not_at_every_byte),
		CASE(forgetting_waits_for_the_end),
		CASE(a_keeper_without_descriptors_waits_for_one),
		CASE(a_draining_keeper_takes_nothing_new_and_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
