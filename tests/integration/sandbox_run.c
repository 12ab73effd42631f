/* What a complete sandbox promises, through the client library, as whoever runs the test. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "base/io.h"
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

static void sh(const char *script, struct rig_result *ret)
{
	struct rig_spec s;

	rig_spec(&rig, &s, "/bin/sh", "-c", script, NULL);
	rig_run(&rig, &s, ret);
}

static void a_commands_end_is_told_as_it_was(void **state)
{
	static const struct {
		const char *script;
		int status, signal;
	} cases[] = {{"exit 0", 0, 0},
		     {"exit 37", 37, 0},
		     {"kill -TERM $$", -1, SIGTERM},
		     {"kill -9 $$", -1, SIGKILL}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rig_result x;
		sh(cases[i].script, &x);
		assert_true(x.started);
		assert_int_equal(x.exit.why, SANDBOX_WHY_EXITED);
		assert_int_equal(x.exit.status, cases[i].status);
		assert_int_equal(x.exit.signal, cases[i].signal);
	}
}

static void output_lies_whole_in_the_spool(void **state)
{
	struct rig_result x;

	(void)state;
	sh("echo out; echo err >&2; head -c 300000 /dev/zero", &x);
	assert_memory_equal(x.out, "out\n", 4);
	assert_string_equal(x.err, "err\n");
	assert_int_equal(x.exit.stdout_bytes, 300004);
	assert_int_equal(x.exit.stdout_dropped, 0);
}

static void output_past_its_limit_is_counted_not_kept(void **state)
{
	struct rig_spec s;
	struct rig_result x;
	struct stat st;
	char name[SANDBOX_SPOOL_NAME_SIZE];

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c", "head -c 200000 /dev/zero", NULL);
	s.spec.limits.output_bytes = 1000;
	rig_run(&rig, &s, &x);
	assert_int_equal(x.exit.stdout_bytes, 200000);
	assert_int_equal(x.exit.stdout_dropped, 199000);
	assert_int_equal(fstatat(rig.spool_fd,
				 sandbox_spool_name(&s.spec.attempt, SANDBOX_SPOOL_STDOUT, name),
				 &st, 0),
			 0);
	assert_int_equal(st.st_size, 1000);
}

static void what_cannot_start_says_why(void **state)
{
	struct rig_spec s;
	struct rig_result x;

	(void)state;
	rig_spec(&rig, &s, "/no/such/program", NULL);
	rig_run(&rig, &s, &x);
	assert_false(x.started);
	assert_int_equal(x.why_not.why, SANDBOX_NOT_STARTED_EXEC);
	assert_int_equal(x.why_not.error, -ENOENT);
	assert_non_null(strstr(x.why_not.text, "/no/such/program"));
	rig_spec(&rig, &s, "/etc/passwd", NULL);
	rig_run(&rig, &s, &x);
	assert_int_equal(x.why_not.why, SANDBOX_NOT_STARTED_EXEC);
	assert_int_equal(x.why_not.error, -EACCES);
	rig_spec(&rig, &s, "true", NULL);
	s.spec.cwd = "/nowhere";
	rig_run(&rig, &s, &x);
	assert_int_equal(x.why_not.why, SANDBOX_NOT_STARTED_SPEC);
	assert_string_equal(x.why_not.stage, "cwd");
	rig_spec(&rig, &s, "true", NULL);
	rig_mount(&s, SANDBOX_MOUNT_VIEW, "/no/such/folder", "/no/such/folder");
	rig_run(&rig, &s, &x);
	assert_int_equal(x.why_not.why, SANDBOX_NOT_STARTED_SPEC);
	assert_non_null(strstr(x.why_not.text, "/no/such/folder"));
}

static void changes_go_to_the_layer_and_the_next_step_sees_them(void **state)
{
	struct rig_spec s;
	struct rig_result x;
	struct stat st;
	const char *layers[1];
	char first[LAYERS_NAME_SIZE];

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c",
		 "echo changed > base.txt; mkdir d; echo new > d/new; chmod 000 d", NULL);
	rig_run(&rig, &s, &x);
	assert_int_equal(x.exit.status, 0);
	assert_int_equal(fstatat(rig.base_fd, "d", &st, 0), -1);
	strcpy(first, s.upper);
	struct sealer_request q = {.op = SEALER_SEAL, .name_count = 1};
	strcpy(q.names[0], first);
	rig_layer(&rig, &q);
	assert_int_equal(rig.layer.result, 0);
	assert_int_equal(rig.layer.entries, 3);
	layers[0] = first;
	rig_spec(&rig, &s, "/bin/sh", "-c", "cat base.txt; chmod 755 d; cat d/new", NULL);
	s.spec.workspace.layers = layers;
	s.spec.workspace.layer_count = 1;
	rig_run(&rig, &s, &x);
	assert_string_equal(x.out, "changed\nnew\n");
	rig_spec(&rig, &s, "/bin/sh", "-c", "cat base.txt; touch base.txt", NULL);
	s.spec.workspace.mode = SANDBOX_WORKSPACE_READONLY;
	s.spec.workspace.upper = NULL;
	s.spec.workspace.layers = layers;
	s.spec.workspace.layer_count = 1;
	rig_run(&rig, &s, &x);
	assert_string_equal(x.out, "changed\n");
	assert_int_not_equal(x.exit.status, 0);
	q.op = SEALER_REMOVE;
	rig_layer(&rig, &q);
	assert_int_equal(rig.layer.result, 0);
	assert_int_equal(fstatat(rig.layers_fd, first, &st, 0), -1);
	/* What it stood on is gone: no fault of the step's. */
	rig_spec(&rig, &s, "true", NULL);
	s.spec.workspace.layers = layers;
	s.spec.workspace.layer_count = 1;
	rig_run(&rig, &s, &x);
	assert_false(x.started);
	assert_int_equal(x.why_not.why, SANDBOX_NOT_STARTED_LAYERS);
}

static void files_of_etc_lie_over_its_folders_that_are_mounted_by_themselves(void **state)
{
	static const struct sandbox_etc_file files[] = {
		{"ssl/certs/run.pem", {"RUN\n", 4}},
		{"ssl/openssl.cnf", {"OURS\n", 5}},
		{"resolv.conf", {"nameserver 198.18.0.1\n", 22}},
	};
	struct rig_spec s;
	struct rig_result x;

	(void)state;
	if (access("/etc/ssl/certs", F_OK) < 0)
		return; /* a bare system */
	for (int alone = 0; alone < 2; alone++) {
		rig_spec(&rig, &s, "/bin/sh", "-c",
			 "cat /etc/ssl/certs/run.pem /etc/ssl/openssl.cnf /etc/resolv.conf; "
			 "ls /etc/ssl/certs | wc -l; echo x > /etc/ssl/certs/run.pem",
			 NULL);
		for (size_t i = 0; i < s.spec.mount_count; i++)
			if (alone && strcmp(s.mounts[i].target, "/etc") == 0)
				s.mounts[i].source = s.mounts[i].target = "/etc/ssl";
		s.spec.etc_files = files;
		s.spec.etc_file_count = ARRAY_SIZE(files);
		rig_run(&rig, &s, &x);
		assert_memory_equal(x.out, "RUN\nOURS\nnameserver 198.18.0.1\n", 31);
		assert_true(atoi(x.out + 31) >= 1);
		assert_int_not_equal(x.exit.status, 0); /* read-only */
	}
}

static void wall_time_ends_it(void **state)
{
	struct rig_spec s;
	struct rig_result x;

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c", "echo a; sleep 30; echo b", NULL);
	s.spec.limits.wall_ms = 300;
	rig_run(&rig, &s, &x);
	assert_int_equal(x.exit.why, SANDBOX_WHY_TIMED_OUT);
	assert_string_equal(x.out, "a\n");
	assert_in_range(x.exit.usage.wall_us, 290000, 5000000);
}

static void results_come_out_by_the_out_folder(void **state)
{
	struct rig_spec s;
	AUTO_BUFFER text = {0};

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c", "echo result > /run/holdfast/out/r", NULL);
	rig_start(&rig, &s);
	rig_await(&rig, &rig.gone, "GONE");
	assert_true(rig.out_fd >= 0);
	AUTO_FD fd = io_open_beneath(rig.out_fd, "r", O_RDONLY, 0);
	assert_true(fd >= 0);
	assert_int_equal(io_read_all(fd, 100, &text), 0);
	assert_string_equal((char *)text.data, "result\n");
}

static void an_in_folder_is_seen_and_not_written(void **state)
{
	struct rig_spec s;
	struct rig_result x;

	(void)state;
	assert_int_equal(mkdirat(rig.spool_fd, "in1", 0755), 0);
	assert_int_equal(fchmodat(rig.spool_fd, "in1", 0755, 0), 0);
	AUTO_FD fd = openat(rig.spool_fd, "in1/f", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	assert_true(fd >= 0 && fchmod(fd, 0644) == 0 && write(fd, "in\n", 3) == 3);
	rig_spec(&rig, &s, "/bin/sh", "-c", "cat /run/holdfast/in/f; touch /run/holdfast/in/g",
		 NULL);
	s.spec.in_name = "in1";
	rig_run(&rig, &s, &x);
	assert_string_equal(x.out, "in\n");
	assert_int_not_equal(x.exit.status, 0);
}

static void stdin_is_the_descriptor_that_was_given(void **state)
{
	struct rig_spec s;
	struct rig_result x;
	int pair[2];

	(void)state;
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	assert_int_equal(write(pair[1], "typed", 5), 5);
	close(pair[1]);
	rig_spec(&rig, &s, "cat", NULL);
	s.spec.stdin_fd = pair[0];
	rig_run(&rig, &s, &x);
	close(pair[0]);
	assert_string_equal(x.out, "typed");
	rig_spec(&rig, &s, "/bin/sh", "-c", "wc -c", NULL);
	rig_run(&rig, &s, &x);
	assert_string_equal(x.out, "0\n");
}

/* A supervisor that is killed: its keeper goes on, and the next one adopts what lives and hears of
 * what ended. */
static void a_keeper_outlives_its_supervisor_and_is_adopted(void **state)
{
	struct rig_spec ends, lives;
	int go[2];
	char out[64];

	(void)state;
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	rig_spec(&rig, &ends, "/bin/sh", "-c", "echo one; exit 5", NULL);
	rig_spec(&rig, &lives, "/bin/sh", "-c", "echo begun; read x; echo got $x; exit 6", NULL);
	lives.spec.stdin_fd = go[0];
	rig_disconnect(&rig);
	pid_t pid = fork();
	if (pid == 0) {
		rig_connect(&rig);
		rig_start(&rig, &ends);
		rig_start(&rig, &lives);
		rig_await(&rig, &rig.started, "STARTED");
		kill(getpid(), SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	close(go[0]);
	assert_int_equal(write(go[1], "word\n", 5), 5);
	rig.epoch++; /* the child used it */
	rig.waited = lives.spec.attempt;
	rig_connect(&rig);
	const struct sandbox_hello *h = sandbox_client_hello(rig.client);
	assert_int_equal(h->keeper_epoch, rig.epoch - 1);
	assert_int_equal(h->found_count, 2);
	rig_await(&rig, &rig.gone, "GONE");
	assert_int_equal(rig.exit.status, 6);
	rig_read_spool(&rig, &lives.spec.attempt, SANDBOX_SPOOL_STDOUT, out, sizeof(out));
	assert_string_equal(out, "begun\ngot word\n");
	/* and the other's end was kept: START of a known attempt starts nothing, and tells */
	rig_start(&rig, &ends);
	rig_await(&rig, &rig.gone, "GONE");
	assert_int_equal(rig.exit.status, 5);
	close(go[1]);
}

static void an_older_epoch_is_refused_and_a_newer_takes_over(void **state)
{
	struct sandbox_client *other = NULL;
	struct error err = {0};

	(void)state;
	rig_disconnect(&rig);
	rig_connect(&rig);
	assert_int_equal(sandbox_client_open(rig.state_fd, -1, rig.epoch - 1, NULL, NULL, &other,
					     &err),
			 -ESTALE);
	assert_int_equal(sandbox_client_open(rig.state_fd, -1, 0, NULL, NULL, &other, &err), 0);
	assert_int_equal(sandbox_client_hello(other)->keeper_epoch, rig.epoch);
	sandbox_client_free(other);
	struct sandbox_client *old = rig.client;
	rig_connect(&rig);
	assert_true(sandbox_client_dispatch(old) < 0);
	assert_true(rig.lost);
	sandbox_client_free(old);
}

static void a_dead_keeper_takes_its_sandboxes_along(void **state)
{
	struct rig_spec s;

	(void)state;
	rig_spec(&rig, &s, "sleep", "100", NULL);
	rig_start(&rig, &s);
	rig_await(&rig, &rig.started, "STARTED");
	assert_int_equal(sandbox_attempt_lives(rig.spool_fd, &s.spec.attempt), 1);
	kill(rig.keeper, SIGKILL);
	int alive = 1;
	for (int i = 0; i < 200 && alive == 1; i++) {
		usleep(10000);
		alive = sandbox_attempt_lives(rig.spool_fd, &s.spec.attempt);
	}
	assert_int_equal(alive, 0);
}

static void kill_ends_all_of_it(void **state)
{
	struct rig_spec s;

	(void)state;
	rig_spec(&rig, &s, "/bin/sh", "-c", "trap '' TERM INT; setsid sleep 100 & sleep 100", NULL);
	rig_start(&rig, &s);
	rig_await(&rig, &rig.started, "STARTED");
	assert_int_equal(sandbox_client_kill(rig.client, &s.spec.attempt, NULL), 0);
	rig_await(&rig, &rig.gone, "GONE");
	assert_int_equal(rig.exit.why, SANDBOX_WHY_KILLED);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_commands_end_is_told_as_it_was),
		CASE(output_lies_whole_in_the_spool),
		CASE(output_past_its_limit_is_counted_not_kept),
		CASE(what_cannot_start_says_why),
		CASE(changes_go_to_the_layer_and_the_next_step_sees_them),
		CASE(files_of_etc_lie_over_its_folders_that_are_mounted_by_themselves),
		CASE(wall_time_ends_it),
		CASE(results_come_out_by_the_out_folder),
		CASE(an_in_folder_is_seen_and_not_written),
		CASE(stdin_is_the_descriptor_that_was_given),
		CASE(a_keeper_outlives_its_supervisor_and_is_adopted),
		CASE(an_older_epoch_is_refused_and_a_newer_takes_over),
		CASE(a_dead_keeper_takes_its_sandboxes_along),
		CASE(kill_ends_all_of_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
