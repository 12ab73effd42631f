/* What is made ahead of a step is what the step would have made, and is nobody's otherwise. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <cmocka.h>
#include "base/io.h"
#include "tests/rig/rig.h"

enum { WAIT_MS = 10000 };

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

static void one_millisecond(void)
{
	(void)poll(NULL, 0, 1);
}

static size_t folders_ahead(char *ret_path, size_t size)
{
	AUTO_FD fd = openat(rig.layers_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR dir = fdopendir(fd);
	struct dirent *d;
	size_t n = 0;

	assert_non_null(dir);
	take_fd(&fd);
	while ((d = readdir(dir))) {
		if (d->d_name[0] != '+')
			continue;
		n++;
		snprintf(ret_path, size, "%.20s", d->d_name);
	}
	return n;
}

/* The one layer that waits: its inode, or 0 where none came in time. */
static ino_t await_ahead(char *ret_path, size_t size)
{
	char folder[64], path[400];
	struct stat st;

	for (int i = 0; i < WAIT_MS; i++, one_millisecond()) {
		if (folders_ahead(folder, sizeof(folder)) != 1)
			continue;
		AUTO_FD fd = openat(rig.layers_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		AUTO_DIR dir = fd < 0 ? NULL : fdopendir(fd);
		struct dirent *d;
		if (!dir)
			continue;
		take_fd(&fd);
		while ((d = readdir(dir))) {
			snprintf(path, sizeof(path), "%.60s/%s/w/work", folder, d->d_name);
			if (d->d_name[0] == '.' ||
			    fstatat(rig.layers_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
				continue;
			snprintf(ret_path, size, "%.60s/%.60s", folder, d->d_name);
			return fstatat(rig.layers_fd, ret_path, &st, AT_SYMLINK_NOFOLLOW) == 0
				       ? st.st_ino
				       : 0;
		}
	}
	return 0;
}

/* The keeper answers a request before it looks ahead. */
static bool is_gone_soon(const char *path)
{
	struct stat st;

	for (int i = 0; i < WAIT_MS; i++, one_millisecond())
		if (fstatat(rig.layers_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return true;
	return false;
}

static ino_t layer_inode(const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(rig.layers_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_ino;
}

static void layer_op(enum sealer_op op, const char *name)
{
	struct sealer_request q = {.op = op, .name_count = 1};

	snprintf(q.names[0], sizeof(q.names[0]), "%s", name);
	rig_layer(&rig, &q);
	assert_int_equal(rig.layer.result, 0);
}

static void run(struct rig_spec *s, const char *script, const char *const *layers, size_t count,
		struct rig_result *x)
{
	rig_spec(&rig, s, "/bin/sh", "-c", script, NULL);
	s->spec.workspace.layers = layers;
	s->spec.workspace.layer_count = count;
	rig_run(&rig, s, x);
}

static void a_sealed_layer_is_below_what_is_made_ahead(void **state)
{
	struct rig_spec s, t;
	struct rig_result x;
	char path[128];
	struct stat st;

	(void)state;
	run(&s, "echo one > a", NULL, 0, &x);
	assert_int_equal(x.exit.status, 0);
	layer_op(SEALER_SEAL, s.upper);
	ino_t ahead = await_ahead(path, sizeof(path));
	assert_int_not_equal(ahead, 0);
	run(&t, "cat a base.txt; echo two > b; stat -c %a .; rm a", (const char *[]){s.upper}, 1,
	    &x);
	assert_string_equal(x.out, "one\nfrom the base\n755\n");
	assert_int_equal(layer_inode(t.upper), ahead);
	layer_op(SEALER_SEAL, t.upper);
	assert_int_equal(rig.layer.entries, 2);
	assert_int_equal(fstatat(rig.base_fd, "b", &st, 0), -1);
	ahead = await_ahead(path, sizeof(path));
	struct rig_spec u;
	run(&u, "ls", (const char *[]){s.upper, t.upper}, 2, &x);
	assert_string_equal(x.out, "b\nbase.txt\n");
	assert_int_equal(layer_inode(u.upper), ahead);
}

static void a_layer_that_changed_nothing_is_not_below_the_next(void **state)
{
	struct rig_spec s, t;
	struct rig_result x;
	char path[128];

	(void)state;
	run(&s, "true", NULL, 0, &x);
	layer_op(SEALER_SEAL, s.upper);
	ino_t ahead = await_ahead(path, sizeof(path));
	assert_int_not_equal(ahead, 0);
	run(&t, "ls", NULL, 0, &x);
	assert_string_equal(x.out, "base.txt\n");
	assert_int_equal(layer_inode(t.upper), ahead);
}

static void what_was_guessed_wrong_is_not_used(void **state)
{
	struct rig_spec s, t, u;
	struct rig_result x;
	char path[128];

	(void)state;
	run(&s, "echo one > a", NULL, 0, &x);
	layer_op(SEALER_SEAL, s.upper);
	ino_t ahead = await_ahead(path, sizeof(path));
	assert_int_not_equal(ahead, 0);
	/* another stack */
	run(&t, "ls", NULL, 0, &x);
	assert_string_equal(x.out, "base.txt\n");
	assert_int_not_equal(layer_inode(t.upper), ahead);
	/* another mode of the user's folder */
	assert_int_equal(fchmod(rig.base_fd, 0775), 0);
	run(&u, "stat -c %a .; ls", (const char *[]){s.upper}, 1, &x);
	assert_string_equal(x.out, "775\na\nbase.txt\n");
	assert_int_not_equal(layer_inode(u.upper), ahead);
	/* the next guess takes its place */
	layer_op(SEALER_SEAL, u.upper);
	assert_true(is_gone_soon(path));
	assert_int_not_equal(await_ahead(path, sizeof(path)), 0);
}

static void a_layer_removed_takes_along_what_stands_on_it(void **state)
{
	struct rig_spec s;
	struct rig_result x;
	char path[128];

	(void)state;
	run(&s, "echo one > a", NULL, 0, &x);
	layer_op(SEALER_SEAL, s.upper);
	assert_int_not_equal(await_ahead(path, sizeof(path)), 0);
	layer_op(SEALER_REMOVE, s.upper);
	assert_true(is_gone_soon(path));
}

static void an_attempt_is_locked_by_what_was_made_ahead(void **state)
{
	struct rig_spec s, t;
	struct rig_result x;
	struct stat st;
	char path[128], name[SANDBOX_SPOOL_NAME_SIZE];

	(void)state;
	run(&s, "true", NULL, 0, &x);
	layer_op(SEALER_REMOVE, s.upper);
	assert_int_not_equal(await_ahead(path, sizeof(path)), 0);
	rig_spec(&rig, &t, "/bin/sleep", "100", NULL);
	rig_start(&rig, &t);
	rig_await(&rig, &rig.started, "STARTED");
	assert_int_equal(sandbox_attempt_lives(rig.spool_fd, &t.spec.attempt), 1);
	sandbox_spool_name(&t.spec.attempt, SANDBOX_SPOOL_LOCK, name);
	assert_int_equal(fstatat(rig.spool_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_uid, geteuid());
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(sandbox_client_kill(rig.client, &t.spec.attempt, NULL), 0);
	rig_await(&rig, &rig.gone, "GONE");
	assert_int_equal(sandbox_attempt_lives(rig.spool_fd, &t.spec.attempt), 0);
}

/* A helper of a killed keeper holds its keeper's lock until the kernel has killed it too. */
static bool is_let_go_soon(const char *path)
{
	AUTO_FD fd = openat(rig.layers_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < WAIT_MS; i++, one_millisecond())
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return true;
	return false;
}

/* A new keeper removes a dead one's, and not a living one's. */
static void a_dead_keepers_is_removed(void **state)
{
	struct rig_spec s;
	struct rig_result x;
	struct error err = {0};
	struct sandbox_keeper_options o = {.helpers_fd = rig.helpers_fd,
					   .runtime_fd = rig.runtime_fd,
					   .state_fd = rig.state_fd};
	char first[128], second[128], living[] = "+00000000", folder[LAYERS_AHEAD_SIZE] = "";

	(void)state;
	run(&s, "true", NULL, 0, &x);
	layer_op(SEALER_REMOVE, s.upper);
	assert_int_not_equal(await_ahead(first, sizeof(first)), 0);
	rig_disconnect(&rig);
	int pidfd = (int)syscall(SYS_pidfd_open, rig.keeper, 0);
	kill(rig.keeper, SIGKILL);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 5000), 1);
	close(pidfd);
	memcpy(folder, first, LAYERS_AHEAD_SIZE - 2);
	assert_true(is_let_go_soon(folder));
	assert_int_equal(mkdirat(rig.layers_fd, living, 0700), 0);
	AUTO_FD held = openat(rig.layers_fd, living, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(held, LOCK_EX), 0);
	assert_int_equal(sandbox_keeper_start(&o, &err), 0);
	assert_int_equal(faccessat(rig.layers_fd, first, F_OK, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(unlinkat(rig.layers_fd, living, AT_REMOVEDIR), 0);
	rig_connect(&rig);
	run(&s, "true", NULL, 0, &x);
	layer_op(SEALER_REMOVE, s.upper);
	assert_int_not_equal(await_ahead(second, sizeof(second)), 0);
	assert_memory_not_equal(first, second, LAYERS_AHEAD_SIZE - 2);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_sealed_layer_is_below_what_is_made_ahead),
		CASE(a_layer_that_changed_nothing_is_not_below_the_next),
		CASE(what_was_guessed_wrong_is_not_used),
		CASE(a_layer_removed_takes_along_what_stands_on_it),
		CASE(an_attempt_is_locked_by_what_was_made_ahead),
		CASE(a_dead_keepers_is_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
