#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/failpoint.h"
#include "base/guard.h"
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#ifdef HOLDFAST_FAILPOINTS

static void errors_come_when_and_where_they_were_asked_for(void **state)
{
	static const struct {
		const char *spec;
		const char *name;
		int results[4]; /* of four passings */
	} table[] = {
		{NULL, "a.b", {0, 0, 0, 0}},
		{"", "a.b", {0, 0, 0, 0}},
		{"a.b=error:EIO", "a.b", {-EIO, -EIO, -EIO, -EIO}},
		{"a.b=error:EIO", "a", {0, 0, 0, 0}},
		{"a.b=error:EIO", "a.b.c", {0, 0, 0, 0}},
		{"a.b=error:ENOSPC@3", "a.b", {0, 0, -ENOSPC, 0}},
		{"a.b=error:ENOSPC@1", "a.b", {-ENOSPC, 0, 0, 0}},
		{"x=kill,a.b=error:ENOMEM@2,y=stop", "a.b", {0, -ENOMEM, 0, 0}},
		{"a.b=kill@5", "a.b", {0, 0, 0, 0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		failpoint_init(table[i].spec);
		for (size_t k = 0; k < 4; k++)
			assert_int_equal(failpoint_hit(table[i].name), table[i].results[k]);
	}
	failpoint_init(NULL);
}

/* Passes "a" `times` times in a child and returns its wait status. A stopped child is ended. */
static int status_of(const char *spec, int times)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		dup2(null, STDERR_FILENO);
		failpoint_init(spec);
		for (int i = 0; i < times; i++)
			if (failpoint_hit("a") != 0)
				_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	if (WIFSTOPPED(status)) {
		int end;

		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &end, 0), pid);
	}
	return status;
}

static void a_process_dies_or_stops_at_the_passing_named(void **state)
{
	int status;

	(void)state;
	status = status_of("a=kill", 1);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	status = status_of("a=kill@3", 2);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	status = status_of("a=kill@3", 3);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	status = status_of("b=kill,a=stop@2", 2);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
}

static void a_thread_is_held_until_the_file_is_there(void **state)
{
	char folder[] = "/tmp/holdfast-failpoint-XXXXXX", path[64], spec[96];
	int status;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/go", folder);
	snprintf(spec, sizeof(spec), "a=hold:%s", path);
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		failpoint_init(spec);
		_exit(failpoint_hit("a") == 0 && access(path, F_OK) == 0 ? 0 : 1);
	}
	usleep(50 * 1000);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_true(close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) == 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	unlink(path);
	rmdir(folder);
}

static void a_spec_that_cannot_be_read_ends_the_process(void **state)
{
	static const char *const specs[] = {
		"a",
		"=kill",
		"a=",
		"a=die",
		"a=kill@",
		"a=kill@0",
		"a=kill@x",
		"a=kill@-1",
		"a=kill@+1",
		"a=kill@ 1",
		"a=kill@1x",
		"a=error",
		"a=error:",
		"a=delay:",
		"a=delay:1s",
		"a=hold:",
		"a=error:EWHAT",
		"a=kill,",
		"a=kill,,b=kill",
		"a=KILL",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa="
		"kill",
		"1=kill,2=kill,3=kill,4=kill,5=kill,6=kill,7=kill,8=kill,9=kill,10=kill,11=kill,12="
		"kill,13=kill,"
		"14=kill,15=kill,16=kill,17=kill",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		int status = status_of(specs[i], 1);

		if (!WIFEXITED(status) || WEXITSTATUS(status) != 125)
			fail_msg("%s: %x", specs[i], status);
	}
}

static void a_helper_inherits_what_the_tests_say_and_nothing_else(void **state)
{
	char *env[FAILPOINT_ENV_MAX + 1];
	char *const before = getenv("UBSAN_OPTIONS") ? strdup(getenv("UBSAN_OPTIONS")) : NULL;
	bool found = false;

	(void)state;
	assert_int_equal(setenv("UBSAN_OPTIONS", "log_path=/x", 1), 0);
	assert_int_equal(setenv("UBSAN_OPTIONS_NOT", "1", 1), 0);
	assert_int_equal(setenv("AWS_SECRET", "1", 1), 0);
	failpoint_env(env);
	for (char **e = env; *e; e++) {
		assert_null(strstr(*e, "SECRET"));
		assert_null(strstr(*e, "_NOT="));
		found = found || strcmp(*e, "UBSAN_OPTIONS=log_path=/x") == 0;
	}
	assert_true(found);
	assert_int_equal(before ? setenv("UBSAN_OPTIONS", before, 1) : unsetenv("UBSAN_OPTIONS"),
			 0);
	free(before);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_helper_inherits_what_the_tests_say_and_nothing_else),
		cmocka_unit_test(errors_come_when_and_where_they_were_asked_for),
		cmocka_unit_test(a_process_dies_or_stops_at_the_passing_named),
		cmocka_unit_test(a_thread_is_held_until_the_file_is_there),
		cmocka_unit_test(a_spec_that_cannot_be_read_ends_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
static void without_failpoints_nothing_happens(void **state)
{
	(void)state;
	failpoint_init("a=kill");
	assert_int_equal(failpoint_hit("a"), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_failpoints_nothing_happens)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
