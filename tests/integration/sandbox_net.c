/* The network of a run under its keeper: what each helper is given, and that it comes again when
 * one of them dies. net_standin.c stands where gate and courier do. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "sandbox/gate/table.h"
#include "tests/rig/rig.h"

/* Connects to what it reads, and prints the line that it hears. */
#define CLIENT                                                 \
	"import socket,sys\n"                                  \
	"for l in sys.stdin:\n"                                \
	"  h,p,t=l.rstrip('\\n').split(' ',2)\n"               \
	"  try:\n"                                             \
	"    c=socket.create_connection((h,int(p)),10)\n"      \
	"    f=c.makefile('r'); print(f.readline().strip())\n" \
	"    c.sendall(t.encode()); f.readline(); c.close()\n" \
	"  except OSError as e: print('errno',e.errno)\n"      \
	"  print('.',flush=True)\n"

static struct rig rig;
static struct rig_spec step;
static int to_client = -1;
static unsigned asked;
static const struct sandbox_net_id run = {{7, 7, 7}};

static char installed[] = "/var/tmp/hf-standin.XXXXXX";
static bool is_made;

/* A folder of the real helpers, with stand-ins for the two. */
static int install(void **state)
{
	char command[1024];

	(void)state;
	is_made = mkdtemp(installed) != NULL;
	assert_true(is_made);
	snprintf(command, sizeof(command),
		 "cp '%s'/holdfast-keeper '%s'/holdfast-init '%s'/holdfast-sealer '%s'/ && "
		 "cp '%s' '%s'/holdfast-gate && cp '%s' '%s'/holdfast-courier",
		 getenv("HOLDFAST_HELPERS"), getenv("HOLDFAST_HELPERS"), getenv("HOLDFAST_HELPERS"),
		 installed, getenv("HOLDFAST_STANDIN"), installed, getenv("HOLDFAST_STANDIN"),
		 installed);
	assert_int_equal(chmod(installed, 0755), 0);
	assert_int_equal(system(command), 0);
	assert_int_equal(setenv("HOLDFAST_HELPERS", installed, 1), 0);
	return 0;
}

/* Also after an install that failed half way, when the environment still names the real ones. */
static int remove_installed(void **state)
{
	char command[256];

	(void)state;
	if (!is_made)
		return 0;
	snprintf(command, sizeof(command), "rm -rf '%s'", installed);
	return system(command);
}

static int set_up(void **state)
{
	(void)state;
	asked = 0;
	rig_open(&rig, geteuid(), getegid());
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close_fd(&to_client);
	rig_close(&rig);
	return 0;
}

/* ---- the network ---- */

static void await_reply(void)
{
	rig_await(&rig, &rig.replied, "a reply");
}

static void open_net(const struct table *t)
{
	AUTO_BUFFER bytes = {0};

	assert_int_equal(table_encode(t, &bytes), 0);
	struct sandbox_net n = {.run = run, .table = buffer_bytes(&bytes), .ca = bytes_str("CA")};
	rig.replied = false;
	assert_int_equal(sandbox_client_net_open(rig.client, &n, NULL), 0);
	await_reply();
	assert_int_equal(rig.reply_result, 0);
	assert_true(rig.reply_fd >= 0);
}

static void open_small(void)
{
	AUTO(table_free) struct table *t = table_new();

	assert_int_equal(table_add(t, "one.example", 443, TABLE_TLS), 0);
	assert_int_equal(table_add(t, "*.example.org", 80, TABLE_HTTP), 0);
	open_net(t);
}

/* The report channel, non-blocking. */
static int attach(void)
{
	rig.replied = false;
	assert_int_equal(sandbox_client_net_attach(rig.client, &run, NULL), 0);
	await_reply();
	assert_int_equal(rig.reply_result, 0);
	assert_true(rig.reply_fd >= 0);
	return take_fd(&rig.reply_fd);
}

static void hear(int report, char *text, size_t size)
{
	struct pollfd p = {.fd = report, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 10000), 1);
	ssize_t n = recv(report, text, size - 1, 0);
	assert_true(n >= 0);
	text[n] = '\0';
}

static int hear_courier(int report)
{
	char text[64];
	int pid = 0;

	hear(report, text, sizeof(text));
	assert_int_equal(sscanf(text, "courier %d", &pid), 1);
	return pid;
}

static void kill_and_wait(pid_t pid)
{
	assert_true(pid > 1);
	AUTO_FD pidfd = (int)syscall(434 /* pidfd_open */, pid, 0);
	assert_true(pidfd >= 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 10000), 1);
}

/* ---- a step that asks ---- */

static void start_client(void)
{
	int pair[2];

	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	rig_spec(&rig, &step, "/usr/bin/python3", "-c", CLIENT, NULL);
	step.spec.net = run;
	step.spec.stdin_fd = pair[0];
	rig_start(&rig, &step);
	close(pair[0]);
	close_fd(&to_client);
	to_client = pair[1];
	rig_await(&rig, &rig.started, "STARTED");
	assert_int_equal(rig.listener_count, 0); /* they are the gate's */
}

struct heard {
	int pid;
	long long table, ca;
	size_t names, listeners;
};

static void ask(const char *where, const char *text, char *line, size_t size)
{
	char all[16384];
	const char *at;

	asked++;
	assert_true(dprintf(to_client, "%s %s\n", where, text) > 0);
	for (int i = 0; i < 1500; i++) {
		unsigned dots = 0;
		rig_read_spool(&rig, &step.spec.attempt, SANDBOX_SPOOL_STDOUT, all, sizeof(all));
		const char *last = all;
		for (at = all; (at = strstr(at, ".\n")); at += 2) {
			if (++dots == asked) {
				snprintf(line, size, "%.*s", (int)(at - last), last);
				return;
			}
			last = at + 2;
		}
		usleep(10000);
		assert_int_equal(sandbox_client_dispatch(rig.client), 0);
	}
	fail_msg("no answer from %s", where);
}

static struct heard ask_gate(const char *where, const char *text)
{
	struct heard h = {0};
	char line[256];

	ask(where, text, line, sizeof(line));
	if (sscanf(line, "%d %lld %lld %zu %zu", &h.pid, &h.table, &h.ca, &h.names, &h.listeners) !=
	    5)
		fail_msg("heard '%s'", line);
	return h;
}

/* Listeners come in batches: who connects to the first may be served before the last has come. */
static struct heard ask_until(const char *where, size_t listeners)
{
	struct heard h = ask_gate(where, "-");

	for (int i = 0; i < 100 && h.listeners != listeners; i++)
		h = ask_gate(where, "-");
	assert_int_equal(h.listeners, listeners);
	return h;
}

static void end_client(void)
{
	close_fd(&to_client);
	rig_await(&rig, &rig.gone, "GONE");
}

static void forget_client(void)
{
	rig.replied = false;
	assert_int_equal(sandbox_client_forget(rig.client, &step.spec.attempt, NULL), 0);
	await_reply();
}

/* ---- rules ---- */

static void a_gate_that_died_comes_back_with_all_it_had(void **state)
{
	(void)state;
	open_small();
	start_client();
	struct heard first = ask_gate("198.18.0.2 443", "name 1 3 x.example.org");
	assert_true(first.table > 0);
	assert_int_equal(first.ca, 2);
	assert_int_equal(first.names, 0);
	/* resolver, one host, a wildcard's slots: each v4 and v6 */
	const size_t all = 4 + 2 + 2 * TABLE_SLOTS;
	(void)ask_until("198.18.0.2 443", all);
	for (int i = 0; i < 3; i++) {
		kill_and_wait(first.pid);
		struct heard next = ask_until("fd48:6f6c:6466::2 443", all);
		assert_int_not_equal(next.pid, first.pid);
		assert_int_equal(next.names, 1);
		assert_int_equal(next.table, first.table);
		first.pid = next.pid;
	}
	end_client();
}

static void a_courier_that_died_ends_its_channel_and_the_next_has_a_trunk(void **state)
{
	char text[64];

	(void)state;
	open_small();
	AUTO_FD report = attach();
	int pid = hear_courier(report);
	start_client();
	(void)ask_gate("198.18.0.2 443", "trunk hello");
	hear(report, text, sizeof(text));
	assert_string_equal(text, "hello");
	kill_and_wait(pid);
	hear(report, text, sizeof(text));
	assert_string_equal(text, "");
	AUTO_FD again = attach();
	assert_int_not_equal(hear_courier(again), pid);
	(void)ask_gate("198.18.0.2 443", "trunk again");
	hear(again, text, sizeof(text));
	assert_string_equal(text, "again");
	end_client();
}

static void a_supervisor_that_comes_back_finds_the_network_and_its_authority(void **state)
{
	char text[16];

	(void)state;
	open_small();
	start_client();
	struct heard before = ask_gate("198.18.0.2 443", "-");
	rig_disconnect(&rig);
	rig_connect(&rig);
	const struct sandbox_hello *h = sandbox_client_hello(rig.client);
	assert_int_equal(h->net_count, 1);
	assert_memory_equal(&h->nets[0], &run, sizeof(run));
	/* another authority is offered, and not taken */
	AUTO_BUFFER bytes = {0};
	AUTO(table_free) struct table *t = table_new();
	assert_int_equal(table_encode(t, &bytes), 0);
	struct sandbox_net n = {run, buffer_bytes(&bytes), bytes_str("another")};
	rig.replied = false;
	assert_int_equal(sandbox_client_net_open(rig.client, &n, NULL), 0);
	await_reply();
	assert_int_equal(rig.reply_result, 0);
	assert_int_equal(pread(rig.reply_fd, text, sizeof(text), 0), 2);
	assert_true(fcntl(rig.reply_fd, F_GET_SEALS) & F_SEAL_WRITE);
	assert_int_equal(ask_gate("198.18.0.2 443", "-").pid, before.pid);
	end_client();
}

static void await_free_lock(void)
{
	for (int i = 0; sandbox_net_lives(rig.spool_fd, &run) != 0; i++) {
		assert_true(i < 1000);
		usleep(10000);
	}
}

static void closing_waits_for_the_last_attempt_and_frees_the_lock(void **state)
{
	(void)state;
	open_small();
	start_client();
	AUTO_FD report = attach();
	AUTO_FD courier = (int)syscall(434, hear_courier(report), 0);
	rig.replied = false;
	assert_int_equal(sandbox_client_net_close(rig.client, &run, NULL), 0);
	await_reply();
	(void)ask_gate("198.18.0.2 443", "-");
	assert_int_equal(sandbox_net_lives(rig.spool_fd, &run), 1);
	end_client();
	assert_int_equal(sandbox_net_lives(rig.spool_fd, &run), 1);
	forget_client();
	rig.replied = false;
	assert_int_equal(sandbox_client_net_attach(rig.client, &run, NULL), 0);
	await_reply();
	assert_int_equal(rig.reply_result, -ENOENT);
	struct pollfd p = {.fd = courier, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 10000), 1);
	await_free_lock();
}

static int try_open(void)
{
	AUTO(table_free) struct table *t = table_new();
	AUTO_BUFFER bytes = {0};

	assert_int_equal(table_add(t, "one.example", 443, TABLE_TLS), 0);
	assert_int_equal(table_encode(t, &bytes), 0);
	struct sandbox_net n = {.run = run, .table = buffer_bytes(&bytes), .ca = bytes_str("CA")};
	rig.replied = false;
	assert_int_equal(sandbox_client_net_open(rig.client, &n, NULL), 0);
	await_reply();
	return rig.reply_result;
}

/* One takes its time to die: held up at its exit by a tracer, as by a write to a slow disk. */
static void a_run_has_one_courier_at_a_time(void **state)
{
	int status;

	(void)state;
	open_small();
	start_client();
	AUTO_FD report = attach();
	pid_t courier = hear_courier(report);
	end_client();
	forget_client();
	if (ptrace(PTRACE_SEIZE, courier, NULL, PTRACE_O_TRACEEXIT) < 0)
		skip(); /* not this user's right here */
	rig.replied = false;
	assert_int_equal(sandbox_client_net_close(rig.client, &run, NULL), 0);
	await_reply();
	assert_int_equal(waitpid(courier, &status, __WALL), courier);
	assert_int_equal(status >> 8, SIGTRAP | PTRACE_EVENT_EXIT << 8);
	assert_int_equal(sandbox_net_lives(rig.spool_fd, &run), 1);
	assert_int_equal(try_open(), -EBUSY);
	assert_int_equal(ptrace(PTRACE_DETACH, courier, NULL, NULL), 0);
	await_free_lock();
	assert_int_equal(try_open(), 0);
}

static void both_die_with_their_keeper_and_hold_the_lock_until_then(void **state)
{
	(void)state;
	open_small();
	start_client();
	AUTO_FD report = attach();
	AUTO_FD courier = (int)syscall(434, hear_courier(report), 0);
	AUTO_FD gate = (int)syscall(434, ask_gate("198.18.0.2 443", "-").pid, 0);
	assert_int_equal(sandbox_net_lives(rig.spool_fd, &run), 1);
	kill_and_wait(rig.keeper);
	rig.keeper = 0;
	struct pollfd p[] = {{.fd = courier, .events = POLLIN}, {.fd = gate, .events = POLLIN}};
	assert_int_equal(poll(&p[0], 1, 10000), 1);
	assert_int_equal(poll(&p[1], 1, 10000), 1);
	assert_int_equal(sandbox_net_lives(rig.spool_fd, &run), 0);
}

static void a_network_that_is_not_open_starts_nothing(void **state)
{
	(void)state;
	rig_spec(&rig, &step, "true", NULL);
	step.spec.net = run;
	rig_start(&rig, &step);
	rig_await(&rig, &rig.not_started, "NOT_STARTED");
	assert_int_equal(rig.why_not.error, -ENOENT);
	assert_string_equal(rig.why_not.stage, "network");
}

static void a_table_of_as_many_listeners_as_can_be_is_served(void **state)
{
	AUTO(table_free) struct table *t = table_new();
	char host[32];

	(void)state;
	/* 4 + 15 * 64 * 2 + 62 * 2 = 2048 */
	for (int i = 0; i < 15; i++) {
		snprintf(host, sizeof(host), "*.w%d.example", i);
		assert_int_equal(table_add(t, host, 443, TABLE_TLS), 0);
	}
	for (int i = 0; i < 62; i++) {
		snprintf(host, sizeof(host), "h%d.example", i);
		assert_int_equal(table_add(t, host, 443, TABLE_TLS), 0);
	}
	assert_int_equal(table_listeners(t), TABLE_LISTENERS_MAX);
	open_net(t);
	start_client();
	(void)ask_until("198.18.0.2 443", TABLE_LISTENERS_MAX);
	end_client();
	/* what no rule names is refused at once, or leads nowhere */
	start_client();
	char line[64];
	asked = 0;
	ask("198.18.0.2 80", "-", line, sizeof(line));
	assert_string_equal(line, "errno 111\n");
	ask("1.1.1.1 443", "-", line, sizeof(line));
	assert_string_equal(line, "errno 101\n");
	end_client();
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_gate_that_died_comes_back_with_all_it_had),
		CASE(a_courier_that_died_ends_its_channel_and_the_next_has_a_trunk),
		CASE(a_supervisor_that_comes_back_finds_the_network_and_its_authority),
		CASE(closing_waits_for_the_last_attempt_and_frees_the_lock),
		CASE(a_run_has_one_courier_at_a_time),
		CASE(both_die_with_their_keeper_and_hold_the_lock_until_then),
		CASE(a_network_that_is_not_open_starts_nothing),
		CASE(a_table_of_as_many_listeners_as_can_be_is_served),
	};

	return cmocka_run_group_tests(tests, install, remove_installed);
}
