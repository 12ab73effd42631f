/* Each wall against the one who tries it from inside (probe.c), as whoever runs the test; and again
 * with another wall gone. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <cmocka.h>
#include "base/io.h"
#include "tests/rig/rig.h"

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

static void holds(const char *attempt, const char *arg, uint32_t without, struct rig_result *ret)
{
	struct rig_spec s;
	struct rig_result x;

	rig_spec(&rig, &s, "./probe", attempt, arg ? arg : "", NULL);
	s.spec.without_walls = without;
	rig_run(&rig, &s, &x);
	if (!x.started || x.exit.status != 0)
		fprintf(stderr, "probe %s %s (without %x): status %d signal %d: %s%s%s\n", attempt,
			arg ? arg : "", without, x.exit.status, x.exit.signal, x.out, x.err,
			x.why_not.text);
	assert_true(x.started);
	assert_int_equal(x.exit.status, 0);
	if (ret)
		*ret = x;
}

static void what_needs_nothing_of_the_host_is_refused(void **state)
{
	static const char *const attempts[] = {"write-system", "pid1",	   "kill-pid1",
					       "namespaces",   "mounts",   "terminal",
					       "kernel",       "listener", "sockets",
					       "foreign",      "rights",   "descriptors"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(attempts); i++)
		holds(attempts[i], NULL, 0, NULL);
}

/* A probe that could not fail would prove nothing. */
static void a_probe_tells_when_its_wall_is_gone(void **state)
{
	static const struct {
		const char *attempt;
		uint32_t without;
	} cases[] = {{"kernel", SANDBOX_WALL_SECCOMP},
		     {"sockets", SANDBOX_WALL_SECCOMP},
		     {"namespaces", SANDBOX_WALL_SECCOMP},
		     {"listener", SANDBOX_WALL_SECCOMP}};
	struct rig_spec s;
	struct rig_result x;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		rig_spec(&rig, &s, "./probe", cases[i].attempt, NULL);
		s.spec.without_walls = cases[i].without;
		rig_run(&rig, &s, &x);
		assert_int_equal(x.exit.status, 1);
	}
}

static void mounts_hold_without_landlock_and_without_the_filter(void **state)
{
	(void)state;
	holds("write-system", NULL, SANDBOX_WALL_LANDLOCK, NULL);
	holds("write-system", NULL, SANDBOX_WALL_SECCOMP, NULL);
	holds("mounts", NULL, SANDBOX_WALL_SECCOMP, NULL); /* no capability */
	holds("rights", NULL, SANDBOX_WALL_SECCOMP | SANDBOX_WALL_LANDLOCK, NULL);
	holds("pid1", NULL, SANDBOX_WALL_SECCOMP, NULL); /* not dumpable */
	holds("kill-pid1", NULL, SANDBOX_WALL_SECCOMP | SANDBOX_WALL_LANDLOCK, NULL);
	holds("descriptors", NULL, SANDBOX_WALL_SECCOMP | SANDBOX_WALL_LANDLOCK, NULL);
}

static void denied_calls_are_counted(void **state)
{
	struct rig_result x;
	uint32_t mounts = 0;

	(void)state;
	holds("mounts", NULL, 0, &x);
	for (size_t i = 0; i < x.exit.denied_count; i++)
		if (x.exit.denied[i].number == SYS_mount)
			mounts = x.exit.denied[i].count;
	assert_int_equal(mounts, 2);
}

static int listen_unix(const char *path, bool abstract)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(a);

	snprintf(a.sun_path + abstract, sizeof(a.sun_path) - 1, "%s", path);
	if (abstract)
		len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static void sockets_and_fifos_stop_at_a_view(void **state)
{
	struct rig_spec s;
	struct rig_result x;
	char sock[128], fifo[128], name[64];

	(void)state;
	snprintf(sock, sizeof(sock), "%s/home/s", rig.dir);
	snprintf(fifo, sizeof(fifo), "%s/home/f", rig.dir);
	snprintf(name, sizeof(name), "holdfast-test-%d", getpid());
	AUTO_FD l = listen_unix(sock, false);
	AUTO_FD abstract = listen_unix(name, true);
	assert_int_equal(mkfifo(fifo, 0666), 0);
	assert_int_equal(chmod(sock, 0777) | chmod(fifo, 0666), 0);
	AUTO_FD reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	const char *const attempts[][2] = {{"unix-socket", sock}, {"fifo", fifo}};
	for (size_t i = 0; i < 4; i++) {
		rig_spec(&rig, &s, "./probe", attempts[i % 2][0], attempts[i % 2][1], NULL);
		s.spec.home = NULL;
		rig_mount(&s, SANDBOX_MOUNT_VIEW, rig.home, rig.home);
		s.spec.without_walls = i < 2 ? 0 : SANDBOX_WALL_LANDLOCK | SANDBOX_WALL_SECCOMP;
		rig_run(&rig, &s, &x);
		assert_string_equal(x.out, "");
		assert_int_equal(x.exit.status, 0);
	}
	holds("abstract-socket", name, 0, NULL);
	holds("abstract-socket", name, SANDBOX_WALL_LANDLOCK, NULL); /* its own network namespace */
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 6)
		holds("abstract-socket", name, SANDBOX_WALL_NETWORK, NULL); /* Landlock's scope */
	holds("unix-socket", sock, 0, NULL);
}

static void no_packet_leaves(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	char port[16];

	(void)state;
	AUTO_FD l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(l, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(l, 4), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&a, &len), 0);
	snprintf(port, sizeof(port), "%d", ntohs(a.sin_port));
	holds("network", port, 0, NULL);
	holds("network", port, SANDBOX_WALL_LANDLOCK | SANDBOX_WALL_SECCOMP, NULL);
}

/* Even where everything around it is granted, by a view, by a system bind or read-write. */
static void state_and_runtime_folders_are_never_seen(void **state)
{
	static const enum sandbox_mount_kind kinds[] = {SANDBOX_MOUNT_VIEW, SANDBOX_MOUNT_SYSTEM,
							SANDBOX_MOUNT_RW};
	struct rig_spec s;
	struct rig_result x;
	char path[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		rig_spec(&rig, &s, "./probe", "own-folders", rig.dir, NULL);
		s.spec.home = NULL;
		rig_mount(&s, kinds[i], rig.dir, rig.dir);
		rig_run(&rig, &s, &x);
		if (x.exit.status != 0)
			fprintf(stderr, "kind %d: %s%s\n", kinds[i], x.out, x.why_not.text);
		assert_int_equal(x.exit.status, 0);
		s.spec.without_walls = SANDBOX_WALL_LANDLOCK | SANDBOX_WALL_SECCOMP;
		rig_run(&rig, &s, &x);
		assert_int_equal(x.exit.status, 0);
	}
	snprintf(path, sizeof(path), "%s/state/v1/spool", rig.dir);
	rig_spec(&rig, &s, "true", NULL);
	rig_mount(&s, SANDBOX_MOUNT_RW, path, "/mnt");
	rig_run(&rig, &s, &x);
	assert_false(x.started);
	assert_int_equal(x.why_not.why, SANDBOX_NOT_STARTED_SPEC);
}

/* The folder of a supervisor that the keeper was adopted by, not only of the one that started it. */
static void the_next_supervisors_runtime_folder_is_never_seen(void **state)
{
	struct rig_spec s;
	struct rig_result x;
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/run-of-the-next", rig.dir);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chown(path, rig.uid, rig.gid), 0);
	rig_spec(&rig, &s, "ls", path, NULL);
	rig_mount(&s, SANDBOX_MOUNT_RW, rig.dir, rig.dir);
	rig_run(&rig, &s, &x);
	assert_int_equal(x.exit.status, 0);
	rig_disconnect(&rig);
	close(rig.runtime_fd);
	rig.runtime_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rig_connect(&rig);
	rig_spec(&rig, &s, "ls", path, NULL);
	rig_mount(&s, SANDBOX_MOUNT_RW, rig.dir, rig.dir);
	rig_run(&rig, &s, &x);
	assert_true(x.started);
	assert_int_not_equal(x.exit.status, 0);
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

static void nothing_outlives_its_step(void **state)
{
	char word[64];

	(void)state;
	snprintf(word, sizeof(word), "leftover-%d", getpid());
	holds("daemon", word, 0, NULL);
	assert_false(host_has_process(word));
}

static void processes_are_bounded(void **state)
{
	struct rig_spec s;
	struct rig_result x;

	(void)state;
	rig_spec(&rig, &s, "./probe", "fork-bomb", "24", NULL);
	s.spec.limits.pids = 24;
	rig_run(&rig, &s, &x);
	assert_string_equal(x.out, "");
	assert_int_equal(x.exit.status, 0);
}

static void the_hosts_processes_are_out_of_sight(void **state)
{
	char pid[16];

	(void)state;
	snprintf(pid, sizeof(pid), "%d", getpid());
	holds("host-process", pid, 0, NULL);
	holds("host-process", pid, SANDBOX_WALL_LANDLOCK | SANDBOX_WALL_SECCOMP, NULL);
}

/* For root, a read-write grant writes root's own files: none may get a setuid bit. */
static void root_owned_workspaces_allow_no_setid_bits(void **state)
{
	(void)state;
	if (geteuid() == 0)
		holds("setid-bits", NULL, 0, NULL);
}

static void masks_and_protected_paths_hold_inside_the_workspace(void **state)
{
	struct rig_spec s;
	struct rig_result x;
	char env[160], git[160], hooks[160];

	(void)state;
	snprintf(env, sizeof(env), "%s/.env", rig.work);
	snprintf(git, sizeof(git), "%s/.git", rig.work);
	snprintf(hooks, sizeof(hooks), "%s/.git/hooks", rig.work);
	AUTO_FD secret = open(env, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	assert_true(secret >= 0 && write(secret, "secret", 6) == 6);
	assert_int_equal(mkdir(git, 0755) | mkdir(hooks, 0755), 0);
	rig_spec(&rig, &s, "/bin/sh", "-c",
		 "cat .env; echo x > .env; rm -f .env; chmod 644 .env; echo x > "
		 ".git/hooks/pre-commit; mv .git/hooks .git/h; "
		 "rmdir .git/hooks; ls -A .git/hooks; echo ok > .git/HEAD && cat .git/HEAD; test ! "
		 "-e nothing-made-for-this",
		 NULL);
	rig_mount(&s, SANDBOX_MOUNT_MASK_FILE, NULL, env);
	rig_mount(&s, SANDBOX_MOUNT_PROTECT, NULL, hooks);
	char missing[160];
	snprintf(missing, sizeof(missing), "%s/nothing-made-for-this", rig.work);
	rig_mount(&s, SANDBOX_MOUNT_MASK_FILE, NULL, missing);
	rig_run(&rig, &s, &x);
	assert_string_equal(x.out, "ok\n");
	assert_int_equal(x.exit.status, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_needs_nothing_of_the_host_is_refused),
		CASE(a_probe_tells_when_its_wall_is_gone),
		CASE(mounts_hold_without_landlock_and_without_the_filter),
		CASE(denied_calls_are_counted),
		CASE(sockets_and_fifos_stop_at_a_view),
		CASE(no_packet_leaves),
		CASE(state_and_runtime_folders_are_never_seen),
		CASE(the_next_supervisors_runtime_folder_is_never_seen),
		CASE(nothing_outlives_its_step),
		CASE(processes_are_bounded),
		CASE(the_hosts_processes_are_out_of_sight),
		CASE(root_owned_workspaces_allow_no_setid_bits),
		CASE(masks_and_protected_paths_hold_inside_the_workspace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
