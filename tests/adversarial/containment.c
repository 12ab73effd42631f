/*
 * The containment suite from outside: makes what a step might reach, has every try made inside and
 * looks at the answers; then makes each where nothing holds it back, so that a row which could not
 * fail is found. --list prints the names for SECURITY.md.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/io.h"
#include "tests/adversarial/containment.h"
#include "tests/rig/rig.h"

#define SECCOMP	 SANDBOX_WALL_SECCOMP
#define LANDLOCK SANDBOX_WALL_LANDLOCK
#define NETWORK	 SANDBOX_WALL_NETWORK

enum {
	HELD_MAX = 16,
	OTHER_UID = 23456,
	WITHOUT_MAX = SECCOMP | LANDLOCK | NETWORK,
	READ_ONLY = WITHOUT_MAX + 1, /* not without anything, but so */
};

static struct rig rig;
static struct world world;
static char hidden[64];
static int held[HELD_MAX]; /* sockets and readers that are open as long as the world */
static size_t held_count;
static pid_t victim;
static int ids[3]; /* shm, sem, msg */
static char *own_name; /* argv[0]: what a control's process is called */
/* Of each set of walls taken away, once it was tried. */
static int answers[WITHOUT_MAX + 2][512];
static bool tried[WITHOUT_MAX + 2];

/* ---- the world outside */

static void hold(int fd)
{
	assert_true(fd >= 0 && held_count < HELD_MAX);
	held[held_count++] = fd;
}

static void name(char *ret, const char *dir, const char *rest)
{
	assert_true(snprintf(ret, WORLD_TEXT, "%s/%s", dir, rest) < WORLD_TEXT);
}

static void own(const char *path)
{
	assert_int_equal(lchown(path, rig.uid, rig.gid), 0);
}

static void make_dir(const char *path)
{
	assert_int_equal(mkdir(path, 0755), 0);
	own(path);
}

static void make_file(const char *path)
{
	AUTO_FD fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0 && write(fd, "secret\n", 7) == 7);
	own(path);
}

static void listen_unix(const char *path, bool abstract, int type)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(a);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	assert_true(strlen(path) + 1 < sizeof(a.sun_path));
	memcpy(a.sun_path + abstract, path, strlen(path));
	if (abstract)
		len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(path));
	assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
	assert_true(type == SOCK_DGRAM || listen(fd, 16) == 0);
	if (!abstract)
		assert_int_equal(chmod(path, 0777), 0);
	hold(fd);
}

static void listen_inet(int family, int type, char *ret_port)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in b = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *p = family == AF_INET ? (struct sockaddr *)&b : (struct sockaddr *)&a;
	socklen_t len = family == AF_INET ? sizeof(b) : sizeof(a);
	int fd = socket(family, type | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, p, len), 0);
	assert_true(type == SOCK_DGRAM || listen(fd, 16) == 0);
	assert_int_equal(getsockname(fd, p, &len), 0);
	snprintf(ret_port, WORLD_TEXT, "%d", ntohs(family == AF_INET ? b.sin_port : a.sin6_port));
	hold(fd);
}

static void make_fifo(const char *path)
{
	assert_int_equal(mkfifo(path, 0666), 0);
	own(path);
	assert_int_equal(chmod(path, 0666), 0);
	hold(open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)); /* a reader, and a writer */
}

static void make_trees(void)
{
	char path[WORLD_TEXT * 2];

	strcpy(world.dir, rig.dir);
	strcpy(world.work, rig.work);
	name(world.view, rig.dir, "view");
	make_dir(world.view);
	name(world.view_file, world.view, "file");
	make_file(world.view_file);
	hold(open(world.view_file, O_RDONLY | O_CLOEXEC));
	assert_int_equal(flock(held[held_count - 1], LOCK_EX), 0);
	snprintf(path, sizeof(path), "%s/empty", world.view);
	make_dir(path);
	name(world.rw, rig.dir, "rw");
	make_dir(world.rw);
	snprintf(path, sizeof(path), "%s/empty", world.rw);
	make_dir(path);
	name(world.work_mask, rig.work, "mask");
	make_file(world.work_mask);
	snprintf(path, sizeof(path), "%s/plain", rig.work);
	make_file(path);
	name(world.work_mask_dir, rig.work, "mask-dir");
	make_dir(world.work_mask_dir);
	name(world.work_protect, rig.work, "protect");
	make_dir(world.work_protect);
	snprintf(path, sizeof(path), "%s/kept", world.work_protect);
	make_file(path);
	strcpy(hidden, "/var/tmp/hf-hidden.XXXXXX");
	assert_true(mkdtemp(hidden) && chmod(hidden, 0755) == 0);
	own(hidden);
	strcpy(world.hidden, hidden);
	name(world.hidden_file, hidden, "file");
	make_file(world.hidden_file);
	name(world.work_hard, rig.work, "hard");
	assert_int_equal(link(world.hidden_file, world.work_hard), 0);
	name(world.state_file, rig.dir, "state/v1/journal-of-a-test");
	make_file(world.state_file);
	name(world.layer_file, rig.dir, "state/v1/layers/l-of-a-test");
	make_file(world.layer_file);
	name(world.spool_file, rig.dir, "state/v1/spool/o-of-a-test");
	make_file(world.spool_file);
	name(world.keeper, rig.dir, "state/v1/keeper");
}

static void make_sockets(void)
{
	char text[WORLD_TEXT];

	name(world.view_socket, world.view, "s");
	listen_unix(world.view_socket, false, SOCK_STREAM);
	name(world.view_datagram, world.view, "d");
	listen_unix(world.view_datagram, false, SOCK_DGRAM);
	name(world.view_fifo, world.view, "f");
	make_fifo(world.view_fifo);
	name(world.work_socket, rig.work, "s");
	listen_unix(world.work_socket, false, SOCK_STREAM);
	name(world.work_fifo, rig.work, "f");
	make_fifo(world.work_fifo);
	name(world.hidden_socket, hidden, "s");
	listen_unix(world.hidden_socket, false, SOCK_STREAM);
	name(world.work_link, rig.work, "link");
	assert_int_equal(symlink(world.hidden_socket, world.work_link), 0);
	snprintf(world.abstract, WORLD_TEXT, "holdfast-try-%d", getpid());
	listen_unix(world.abstract, true, SOCK_STREAM);
	snprintf(text, sizeof(text), "holdfast-try-%d-d", getpid());
	listen_unix(text, true, SOCK_DGRAM);
	listen_inet(AF_INET, SOCK_STREAM, world.tcp_port);
	listen_inet(AF_INET6, SOCK_STREAM, world.tcp6_port);
	listen_inet(AF_INET, SOCK_DGRAM, world.udp_port);
}

static void make_objects(void)
{
	AUTO_BUFFER max = {0};
	int key = 0x68660000 | (getpid() & 0xffff);

	assert_int_equal(io_read_file_at(AT_FDCWD, "/proc/sys/user/max_inotify_instances", 32,
					 &max),
			 0);
	snprintf(world.inotify_max, WORLD_TEXT, "%.*s", (int)max.len - 1, (const char *)max.data);
	struct rlimit pending;
	assert_int_equal(getrlimit(RLIMIT_SIGPENDING, &pending), 0);
	snprintf(world.timers_max, WORLD_TEXT, "%d",
		 pending.rlim_cur > 100000 ? 100000 : (int)pending.rlim_cur);
	snprintf(world.ipc_key, WORLD_TEXT, "%d", key);
	ids[0] = shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0666);
	ids[1] = semget(key, 1, IPC_CREAT | IPC_EXCL | 0666);
	ids[2] = msgget(key, IPC_CREAT | IPC_EXCL | 0666);
	assert_true(ids[0] >= 0 && ids[1] >= 0 && ids[2] >= 0);
	snprintf(world.queue, WORLD_TEXT, "/holdfast-try-%d", getpid());
	struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = 16};
	hold(mq_open(world.queue, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666, &small));
	snprintf(world.shm, WORLD_TEXT, "/holdfast-try-%d", getpid());
	hold(shm_open(world.shm, O_RDWR | O_CREAT | O_EXCL, 0666));
	/* the modes of both are cut by the umask */
	(void)fchmod(held[held_count - 2], 0666);
	(void)fchmod(held[held_count - 1], 0666);
	victim = fork();
	if (victim == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (setresgid(rig.gid, rig.gid, rig.gid) < 0 ||
		    setresuid(rig.uid, rig.uid, rig.uid) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	assert_true(victim > 0);
	snprintf(world.host_pid, WORLD_TEXT, "%d", victim);
	strcpy(world.target_pid, "1");
}

static void copy_program(int dir, const char *file, mode_t mode)
{
	AUTO_BUFFER program = {0};

	assert_int_equal(io_read_file_at(AT_FDCWD, getenv("HOLDFAST_TRIES"), 64 << 20, &program),
			 0);
	AUTO_FD fd = openat(dir, file, O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
	assert_true(fd >= 0 && io_write_all(fd, program.data, program.len) == 0);
	assert_int_equal(fchmod(fd, mode), 0);
}

static void open_world(uid_t uid)
{
	char path[WORLD_TEXT];

	rig_open(&rig, uid, geteuid() == 0 ? uid : getegid());
	memset(&world, 0, sizeof(world));
	memset(tried, 0, sizeof(tried));
	make_trees();
	make_sockets();
	make_objects();
	copy_program(rig.base_fd, "tries", 0755);
	if (geteuid() == 0) {
		AUTO_FD view = open(world.view, O_PATH | O_DIRECTORY | O_CLOEXEC);
		copy_program(view, "setuid", 04755);
		name(world.setuid, world.view, "setuid");
	}
	name(path, rig.work, "world");
	containment_write(&world, path);
}

static void close_world(void)
{
	char command[128];

	while (held_count > 0)
		close(held[--held_count]);
	kill(victim, SIGKILL);
	(void)waitpid(victim, NULL, 0);
	shmctl(ids[0], IPC_RMID, NULL);
	semctl(ids[1], 0, IPC_RMID);
	msgctl(ids[2], IPC_RMID, NULL);
	mq_unlink(world.queue);
	shm_unlink(world.shm);
	snprintf(command, sizeof(command), "rm -rf '%s'", hidden);
	(void)!system(command);
	rig_close(&rig);
}

/* ---- inside */

static const int *inside(uint32_t without)
{
	static char out[64 * 1024];
	struct rig_spec s;
	struct rig_result x;
	size_t count = 0;

	if (tried[without])
		return answers[without];
	rig_spec(&rig, &s, "./tries", "world", NULL);
	s.spec.home = NULL;
	s.spec.without_walls = without == READ_ONLY ? 0 : without;
	if (without == READ_ONLY) {
		s.spec.workspace.mode = SANDBOX_WORKSPACE_READONLY;
		s.spec.workspace.upper = NULL;
	}
	rig_mount(&s, SANDBOX_MOUNT_VIEW, rig.dir, rig.dir);
	rig_mount(&s, SANDBOX_MOUNT_RW, world.rw, world.rw);
	rig_mount(&s, SANDBOX_MOUNT_MASK_FILE, NULL, world.work_mask);
	rig_mount(&s, SANDBOX_MOUNT_MASK_DIR, NULL, world.work_mask_dir);
	rig_mount(&s, SANDBOX_MOUNT_PROTECT, NULL, world.work_protect);
	rig_run(&rig, &s, &x);
	if (x.exit.status != 0 || !x.started)
		fprintf(stderr, "without %x: status %d signal %d %s %s\n", without, x.exit.status,
			x.exit.signal, x.err, x.why_not.text);
	assert_true(x.started);
	assert_int_equal(x.exit.status, 0);
	snprintf(out, sizeof(out), "%s", x.out);
	for (char *l = strtok(out, "\n"); l; l = strtok(NULL, "\n")) {
		size_t at;
		int answer;
		assert_int_equal(sscanf(l, "%zu %d", &at, &answer), 2);
		assert_true(at == count && at < containment_count);
		answers[without][count++] = answer;
	}
	assert_int_equal(count, containment_count);
	tried[without] = true;
	return answers[without];
}

static void every_try_meets_its_wall(void)
{
	const int *got = inside(0);
	int faults = 0;

	for (size_t i = 0; i < containment_count; i++) {
		const struct try *t = &containment_tries[i];
		if (t->answer == TRY_ANY ? got[i] > 0 : got[i] == t->answer)
			continue;
		fprintf(stderr, "%s: %s instead of %s\n", t->name, containment_answer(got[i]),
			containment_answer(t->answer));
		faults++;
	}
	assert_int_equal(faults, 0);
}

/* The workspace as a check sees it: another kind of mount, with the same sockets and names in it. */
static void none_reaches_with_a_workspace_that_is_only_read(void)
{
	const int *got = inside(READ_ONLY);
	int faults = 0;

	for (size_t i = 0; i < containment_count; i++) {
		if (got[i] != TRY_REACHED)
			continue;
		fprintf(stderr, "%s: reached, with a read-only workspace\n",
			containment_tries[i].name);
		faults++;
	}
	assert_int_equal(faults, 0);
}

static void it_holds_without_the_other_walls(void)
{
	static const uint32_t without[] = {SECCOMP, LANDLOCK, SECCOMP | LANDLOCK, NETWORK,
					   SECCOMP | LANDLOCK | NETWORK};
	/* Landlock keeps abstract sockets from its ABI 6 on. */
	bool scoped = syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 6;
	int faults = 0;

	for (size_t k = 0; k < ARRAY_SIZE(without); k++) {
		const int *got = inside(without[k]);
		for (size_t i = 0; i < containment_count; i++) {
			const struct try *t = &containment_tries[i];
			if ((without[k] & ~t->without) != 0 ||
			    (t->control == CONTROL_WITHOUT && (t->removed & ~without[k]) == 0) ||
			    (!scoped && t->removed & LANDLOCK && without[k] & NETWORK) ||
			    (got[i] != TRY_REACHED && got[i] != TRY_BROKEN))
				continue;
			fprintf(stderr, "%s without %x: %s\n", t->name, without[k],
				containment_answer(got[i]));
			faults++;
		}
	}
	assert_int_equal(faults, 0);
}

/* ---- outside */

/* Has its telling name from its first instant. */
static pid_t stand_in(void)
{
	static const char called[] = "holdfast";
	char was[sizeof(called) - 1];

	memcpy(was, own_name, sizeof(was));
	memcpy(own_name, called, sizeof(was));
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	memcpy(own_name, was, sizeof(was));
	return pid;
}

static int outside(const struct try *t)
{
	struct world w = world;
	pid_t pid = stand_in();

	snprintf(w.target_pid, WORLD_TEXT, "%d", pid);
	int answer = containment_run(t, &w);
	kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	return answer;
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		_exit(1);
	close(fd);
}

/* A root of its own, with nothing of the machine but a bind that a mount table can show. */
static int furnish(const char *dir)
{
	char state[WORLD_TEXT];

	name(state, rig.dir, "state/v1");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", dir, "tmpfs", 0, "mode=755") < 0 || chdir(dir) < 0 ||
	    mkdir("usr", 0755) < 0 || mkdir("etc", 0755) < 0 || mkdir("dev", 0755) < 0 ||
	    mkdir("tmp", 0777) < 0 || mkdir("proc", 0755) < 0 || mkdir("seen", 0755) < 0 ||
	    mknod("etc/passwd", S_IFREG | 0644, 0) < 0 ||
	    mount("proc", "proc", "proc", 0, NULL) < 0 ||
	    mount("tmpfs", "usr", "tmpfs", 0, NULL) < 0 ||
	    mount(state, "seen", NULL, MS_BIND, NULL) < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

/* In a child: what it says comes by its own pipe. */
static int in_namespace(const struct try *t)
{
	int fds[2], answer = TRY_BROKEN;
	char map[64];

	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	if (pid == 0) {
		uid_t uid = geteuid();
		gid_t gid = getegid();
		if (unshare(CLONE_NEWUSER) < 0)
			_exit(1);
		put("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "0 %u 1", uid);
		put("/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "0 %u 1", gid);
		put("/proc/self/gid_map", map);
		if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
			    CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
			_exit(1);
		pid_t first = fork();
		if (first == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			prctl(PR_SET_DUMPABLE, 1);
			int err = furnish(world.hidden);
			if (err < 0)
				fprintf(stderr, "the throwaway namespace: %s\n", strerror(-err));
			else
				answer = containment_run(t, &world);
			(void)!write(fds[1], &answer, sizeof(answer));
			_exit(0);
		}
		(void)waitpid(first, NULL, 0);
		_exit(0);
	}
	close(fds[1]);
	if (read(fds[0], &answer, sizeof(answer)) != (ssize_t)sizeof(answer))
		answer = TRY_BROKEN;
	close(fds[0]);
	(void)waitpid(pid, NULL, 0);
	return answer;
}

static int control(const struct try *t, size_t i)
{
	switch (t->control) {
	case CONTROL_WITHOUT:
		return inside(t->removed)[i];
	case CONTROL_OUTSIDE:
		return outside(t);
	case CONTROL_NAMESPACE:
		return in_namespace(t);
	}
	return TRY_BROKEN;
}

/* A try that could not succeed anywhere would prove nothing. */
static void every_try_reaches_where_nothing_holds_it(void)
{
	int faults = 0, skipped = 0;

	for (size_t i = 0; i < containment_count; i++) {
		const struct try *t = &containment_tries[i];
		if (t->flags & TRY_ROOT && geteuid() != 0) {
			skipped++;
			continue;
		}
		int got = control(t, i);
		if (t->opened == TRY_ELSE ? got != TRY_BROKEN && got != t->answer
					  : got == t->opened)
			continue;
		if (t->flags & TRY_MAY_LACK && got != TRY_BROKEN) {
			printf("%s: not to be had on this machine (%s)\n", t->name,
			       containment_answer(got));
			skipped++;
			continue;
		}
		fprintf(stderr, "%s: its control says %s\n", t->name, containment_answer(got));
		faults++;
	}
	printf("%zu tries, %d controls that this user or machine does not have\n",
	       containment_count, skipped);
	assert_int_equal(faults, 0);
}

static int with_ones_own(void **state)
{
	(void)state;
	open_world(geteuid());
	return 0;
}

static int with_anothers(void **state)
{
	(void)state;
	open_world(geteuid() == 0 ? OTHER_UID : geteuid());
	return 0;
}

static int over(void **state)
{
	(void)state;
	close_world();
	return 0;
}

static void every_way_out_is_closed_and_could_be_open(void **state)
{
	(void)state;
	every_try_meets_its_wall();
	none_reaches_with_a_workspace_that_is_only_read();
	it_holds_without_the_other_walls();
	every_try_reaches_where_nothing_holds_it();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_way_out_is_closed_and_could_be_open,
						with_ones_own, over),
		/* Root alone can: in its own the command is 0 inside and nobody outside. */
		cmocka_unit_test_setup_teardown(every_way_out_is_closed_and_could_be_open,
						with_anothers, over),
	};

	own_name = argv[0];
	if (argc > 1 && strcmp(argv[1], "--list") == 0) {
		for (size_t i = 0; i < containment_count; i++)
			printf("%d %s\n", containment_tries[i].wall, containment_tries[i].name);
		return 0;
	}
	return geteuid() == 0 ? cmocka_run_group_tests(tests, NULL, NULL)
			      : _cmocka_run_group_tests("tests", tests, 1, NULL, NULL);
}
