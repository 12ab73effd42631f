/*
 * Each of gate and courier, shut in by its own isolate(), tries from inside what a parser that was
 * taken over would try. Every attempt is a process of its own: the filter's answer to many of them
 * is its end.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "base/io.h"
#include "sandbox/gate/isolate.h"
#include "sandbox/sys.h"

enum { REFUSED = 0, GOT_IN = 1, NOT_ISOLATED = 2, SPARE_FD = 40, KEPT_FD = 50 };

/* Each returns 0 where the wall held. Many never return. */
static int reads_a_file(void)
{
	return open("/etc/passwd", O_RDONLY) >= 0 || open("/proc/self/status", O_RDONLY) >= 0;
}

static int writes_a_file(void)
{
	return open("/x", O_CREAT | O_WRONLY, 0600) >= 0 || mkdir("/x", 0700) == 0;
}

static int lists_files(void)
{
	return opendir("/") != NULL || syscall(SYS_getdents64, 3, NULL, 0) >= 0;
}

static int goes_up(void)
{
	return chdir("..") == 0 && open("etc/passwd", O_RDONLY) >= 0;
}

static int opens_a_handle(void)
{
	return syscall(SYS_open_by_handle_at, 3, NULL, 0) >= 0;
}

static int executes(void)
{
	char *argv[] = {"sh", NULL};

	execve("/bin/sh", argv, NULL);
	return 0;
}

static int forks(void)
{
	return syscall(SYS_fork) >= 0;
}

static int clones(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0;
}

static int traces_its_parent(void)
{
	return ptrace(PTRACE_ATTACH, getppid(), 0, 0) == 0;
}

static int kills_its_parent(void)
{
	return kill(getppid(), 0) == 0 || syscall(SYS_tgkill, getppid(), getppid(), 0) == 0;
}

static int mounts(void)
{
	return mount("none", "/", "tmpfs", 0, NULL) == 0;
}

static int makes_a_namespace(void)
{
	return unshare(CLONE_NEWUSER) == 0;
}

static int becomes_root(void)
{
	return setresuid(0, 0, 0) == 0;
}

static int maps_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	       MAP_FAILED;
}

static int makes_memory_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED || mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0;
}

static int connects_abroad(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(80)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return fd >= 0 || connect(3, (struct sockaddr *)&a, sizeof(a)) == 0;
}

static int sends_a_datagram(void)
{
	return socket(AF_INET, SOCK_DGRAM, 0) >= 0;
}

static int connects_to_a_unix_socket(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/run/x"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return fd >= 0 && (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 ||
			   (errno != EPERM && errno != EACCES));
}

/* A pair of Unix sockets it may have; one end may not be sent to an abstract name outside. */
static int sends_to_an_abstract_name(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0holdfast-test-outside"};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
		return 1;
	return sendto(pair[0], "x", 1, 0, (struct sockaddr *)&a,
		      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 22)) > 0;
}

static int opens_raw_or_netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW, 0) >= 0 || socket(AF_PACKET, SOCK_RAW, 0) >= 0 ||
	       socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0 ||
	       socket(AF_VSOCK, SOCK_STREAM, 0) >= 0;
}

static int listens(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return fd >= 0 && listen(fd, 1) == 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
}

static int has_a_spare_descriptor(void)
{
	return fcntl(SPARE_FD, F_GETFD) >= 0;
}

static int uses_io_uring(void)
{
	return syscall(SYS_io_uring_setup, 1, NULL) >= 0;
}

static int types_on_a_terminal(void)
{
	return syscall(SYS_ioctl, 3, 0x5412 /* TIOCSTI */, "x") == 0;
}

static int lifts_a_limit(void)
{
	struct rlimit r = {RLIM_INFINITY, RLIM_INFINITY};

	return setrlimit(RLIMIT_CORE, &r) == 0;
}

/* And what it must still be able to do, or the walls would prove nothing. */
static int works(void)
{
	int pair[2];
	char b[2] = "";

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0 ||
	    write(pair[0], "x", 1) != 1 || read(pair[1], b, 1) != 1 || *b != 'x')
		return 1;
	return fcntl(KEPT_FD, F_GETFD) < 0 || fcntl(3, F_GETFD) < 0 || fcntl(4, F_GETFD) < 0 ||
	       getrandom(b, 1, 0) != 1 || malloc(1 << 20) == NULL;
}

static int dials(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(1)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	/* Nobody listens there: that it could ask is what is meant. */
	return fd < 0 ||
	       (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno != ECONNREFUSED);
}

enum { GATE = 1, COURIER = 2, BOTH = 3 };

static const struct {
	const char *name;
	int (*attempt)(void);
	int whose;
} attempts[] = {
#define ROW(f, whose)        \
	{                    \
#f, f, whose \
	}
	ROW(works, BOTH),
	ROW(dials, COURIER),
	ROW(reads_a_file, BOTH),
	ROW(writes_a_file, BOTH),
	ROW(lists_files, BOTH),
	ROW(goes_up, BOTH),
	ROW(opens_a_handle, BOTH),
	ROW(executes, BOTH),
	ROW(forks, BOTH),
	ROW(clones, BOTH),
	ROW(traces_its_parent, BOTH),
	ROW(kills_its_parent, BOTH),
	ROW(mounts, BOTH),
	ROW(makes_a_namespace, BOTH),
	ROW(becomes_root, BOTH),
	ROW(maps_code, BOTH),
	ROW(makes_memory_code, BOTH),
	ROW(connects_abroad, GATE),
	ROW(sends_a_datagram, GATE),
	ROW(connects_to_a_unix_socket, BOTH),
	ROW(sends_to_an_abstract_name, BOTH),
	ROW(opens_raw_or_netlink, BOTH),
	ROW(listens, BOTH),
	ROW(has_a_spare_descriptor, BOTH),
	ROW(uses_io_uring, BOTH),
	ROW(types_on_a_terminal, BOTH),
	ROW(lifts_a_limit, BOTH),
#undef ROW
};

/* In the child: the descriptors as a keeper gives them, and more that it should not have. */
static void shut_in(enum isolate_kind kind, const int pair[2])
{
	static const int keep[] = {KEPT_FD};
	struct error err = {0};

	if (dup2(pair[1], SPARE_FD) < 0 || dup2(pair[1], KEPT_FD) < 0 || dup2(pair[1], 3) < 0 ||
	    dup2(pair[1], 4) < 0 || isolate(kind, keep, 1, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		_exit(NOT_ISOLATED);
	}
}

static pid_t start(enum isolate_kind kind, int (*attempt)(void), int pair[2])
{
	int raw[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, raw), 0);
	/* High, so that a child's 3 and 4 are made from them. */
	pair[0] = fcntl(raw[0], F_DUPFD_CLOEXEC, 60);
	pair[1] = fcntl(raw[1], F_DUPFD_CLOEXEC, 60);
	close(raw[0]);
	close(raw[1]);
	pid = fork();
	if (pid == 0) {
		shut_in(kind, pair);
		_exit(attempt() == 0 ? REFUSED : GOT_IN);
	}
	assert_true(pid > 0);
	return pid;
}

static void try_all(enum isolate_kind kind, int whose)
{
	int abstract = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0holdfast-test-outside"};

	/* Another run of this test on the machine may hold it: then that one is tried. */
	(void)bind(abstract, (struct sockaddr *)&a,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 22));
	for (size_t i = 0; i < ARRAY_SIZE(attempts); i++) {
		int pair[2], status;

		if (!(attempts[i].whose & whose))
			continue;
		pid_t pid = start(kind, attempts[i].attempt, pair);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		close(pair[0]);
		close(pair[1]);
		if (!(WIFEXITED(status) && WEXITSTATUS(status) == REFUSED) &&
		    !(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS &&
		      attempts[i].attempt != works && attempts[i].attempt != dials))
			fail_msg("%s: status 0x%x", attempts[i].name, status);
	}
	close(abstract);
}

static void from_inside_the_gate(void **state)
{
	(void)state;
	try_all(ISOLATE_GATE, GATE);
}

static void from_inside_the_courier(void **state)
{
	(void)state;
	try_all(ISOLATE_COURIER, COURIER);
}

/* ---- from outside ---- */

static int waits(void)
{
	char b;

	(void)!write(3, "r", 1);
	(void)!read(3, &b, 1);
	return 0;
}

static void status_line(pid_t pid, const char *key, char *ret, size_t len)
{
	char path[64], line[256];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *f = fopen(path, "re");
	*ret = '\0';
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':')
			snprintf(ret, len, "%s",
				 line + strlen(key) + strspn(line + strlen(key), ": \t"));
	if (f)
		fclose(f);
	ret[strcspn(ret, "\n")] = '\0';
}

static void the_kernel_says_what_it_is(void **state)
{
	static const struct {
		const char *key, *want;
	} rows[] = {
		{"CapInh", "0000000000000000"},
		{"CapPrm", "0000000000000000"},
		{"CapEff", "0000000000000000"},
		{"CapBnd", "0000000000000000"},
		{"CapAmb", "0000000000000000"},
		{"NoNewPrivs", "1"},
		{"Seccomp", "2"},
	};
	int status;

	(void)state;
	for (int kind = ISOLATE_GATE; kind <= ISOLATE_COURIER; kind++) {
		int pair[2];
		char b, text[256];
		pid_t pid = start((enum isolate_kind)kind, waits, pair);

		assert_int_equal(read(pair[0], &b, 1), 1);
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
			status_line(pid, rows[i].key, text, sizeof(text));
			if (strcmp(text, rows[i].want) != 0)
				fail_msg("%s: %s", rows[i].key, text);
		}
		status_line(pid, "Uid", text, sizeof(text));
		assert_true(atoi(text) != 0);
		assert_int_equal(write(pair[0], "x", 1), 1);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		close(pair[0]);
		close(pair[1]);
	}
}

/* A keeper that ends takes it along; one that ended before it was ready, too. */
static void it_dies_with_its_keeper(void **state)
{
	int report[2], status;
	pid_t keeper, child = 0;

	(void)state;
	assert_int_equal(pipe2(report, O_CLOEXEC), 0);
	keeper = fork();
	if (keeper == 0) {
		int pair[2];
		char b;
		pid_t pid = start(ISOLATE_GATE, waits, pair);

		if (read(pair[0], &b, 1) != 1 || write(report[1], &pid, sizeof(pid)) != sizeof(pid))
			_exit(1);
		pause();
	}
	assert_int_equal(read(report[0], &child, sizeof(child)), sizeof(child));
	int pidfd = sys_pidfd_open(child);
	assert_true(pidfd >= 0);
	assert_int_equal(kill(keeper, SIGKILL), 0);
	assert_int_equal(waitpid(keeper, &status, 0), keeper);
	for (int i = 0; i < 500 && sys_pidfd_send_signal(pidfd, 0) == 0; i++)
		usleep(10000);
	assert_int_equal(sys_pidfd_send_signal(pidfd, 0), -ESRCH);
	close(pidfd);
	close(report[0]);
	close(report[1]);
}

static void it_does_not_start_without_one(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct error err = {0};
		int pair[2];
		int high;

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
			_exit(NOT_ISOLATED);
		high = fcntl(pair[1], F_DUPFD_CLOEXEC, 60);
		close(pair[0]);
		close(pair[1]);
		if (high < 0 || dup2(high, 3) < 0 || dup2(high, 4) < 0)
			_exit(NOT_ISOLATED);
		_exit(isolate(ISOLATE_GATE, NULL, 0, &err) == -ECONNRESET ? REFUSED : GOT_IN);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(from_inside_the_gate),
		cmocka_unit_test(from_inside_the_courier),
		cmocka_unit_test(the_kernel_says_what_it_is),
		cmocka_unit_test(it_dies_with_its_keeper),
		cmocka_unit_test(it_does_not_start_without_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
