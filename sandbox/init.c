/*
 * holdfast-init: template, and pid 1 of every sandbox. Its stages read in the order in which a
 * sandbox comes to be; what is mounted in stages 4 and 7 is init_mount.c's. Statically linked;
 * after clone there is no allocation, no stdio and no library state: system calls on data that the
 * keeper prepared (init.h).
 *
 *   template_main   stages 1 to 4, then one clone for each step
 *   step_main       stages 6 to 13, in pid 1
 *   command_main    stages 14 to 17, in the command's own process, up to execve
 *   reap            pid 1 until the command ends
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include "sandbox/init.h"
#include "sandbox/init_work.h"
#include "sandbox/sys.h"

/* One process, one job: what it works on is static, so that a clone finds it at the same address.
 */
uint8_t init_plan[INIT_PLAN_MAX] __attribute__((aligned(16)));
int init_trees[INIT_SOURCES_MAX];
size_t init_tree_count;
static bool armed; /* an overlay is mounted at INIT_STAGED_ARMED */
static char *command_argv[SANDBOX_ARGS_MAX + 1], *command_env[SANDBOX_ARGS_MAX + 1];

/* ---- messages ---- */

static int send_report(int sock, const struct init_report *r, const int *fds, size_t fd_count)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * INIT_FD_BATCH)];
	} control;
	struct iovec iov = {(void *)r, sizeof(*r)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd_count > 0) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
	}
	for (;;) {
		ssize_t n = sendmsg(sock, &msg, MSG_NOSIGNAL);
		if (n >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

int init_send_fd(int sock, enum init_report_type type, int fd)
{
	struct init_report r = {.type = type};

	return send_report(sock, &r, &fd, 1);
}

_Noreturn void init_fail(int sock, enum init_stage stage, int error, uint32_t object)
{
	struct init_report r = {.type = INIT_REPORT_FAILED,
				.stage = stage,
				.error = error,
				.object = object};

	(void)send_report(sock, &r, NULL, 0);
	_exit(1);
}

/* Receives a header, descriptors, and what follows the header into `init_plan`. Ends the process when
 * the keeper is gone. */
static size_t receive(struct init_message *ret, int *fds, size_t *ret_fd_count)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * INIT_FD_BATCH)];
	} control;
	struct iovec iov[2] = {{ret, sizeof(*ret)}, {init_plan, sizeof(init_plan)}};
	struct msghdr msg = {.msg_iov = iov,
			     .msg_iovlen = 2,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	ssize_t n;

	do {
		n = recvmsg(INIT_CONTROL_FD, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < (ssize_t)sizeof(*ret) || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		_exit(0);
	*ret_fd_count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		*ret_fd_count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), *ret_fd_count * sizeof(int));
	}
	return (size_t)n - sizeof(*ret);
}

/* A parent-death signal is lost by a change of credentials, and by a parent that was dead before it
 * was set. In a new pid namespace getppid() is 0, so the keeper's pidfd says whether it lives. */
static void die_with_keeper(void)
{
	struct pollfd p = {.fd = INIT_KEEPER_FD, .events = POLLIN};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (poll(&p, 1, 0) != 0)
		_exit(0);
}

/* Stage 1, user namespace. Should leave: our ids are mapped ones, all capabilities inside and none
 * outside; dies with the keeper. Must not: keep a supplementary group where the kernel lets us drop
 * them. */
static void become(uint32_t uid, uint32_t gid)
{
	if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		init_fail(INIT_CONTROL_FD, INIT_STAGE_USERNS, -errno, 0);
	prctl(PR_SET_DUMPABLE, 0);
	die_with_keeper();
}

/* ---- template ---- */

/* Stage 2, sources. Should leave: one detached tree for each source, the one that the keeper looked
 * at (dev and inode), with its final attributes. Must not: depend on the host's mounts afterwards.
 */
static void open_sources(const struct init_template *t)
{
	const struct init_source *s = at(t->sources.at);

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		init_fail(INIT_CONTROL_FD, INIT_STAGE_SOURCES, -errno, 0);
	if (t->trees_come)
		return;
	for (uint32_t i = 0; i < t->sources.count; i++) {
		unsigned recursive = s[i].flags & INIT_OP_RECURSIVE ? AT_RECURSIVE : 0;
		struct mount_attr attr = {.attr_set = init_mount_attrs(s[i].flags)};
		struct stat st;
		int tree = sys_open_tree(AT_FDCWD, str(s[i].path),
					 OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW |
						 recursive);
		int err = tree < 0 ? tree : 0;
		if (err == 0 &&
		    (fstat(tree, &st) < 0 || st.st_dev != s[i].dev || st.st_ino != s[i].ino))
			err = -ESTALE;
		if (err == 0)
			err = sys_mount_setattr(tree, "", AT_EMPTY_PATH | recursive, &attr);
		if (err < 0)
			init_fail(INIT_CONTROL_FD, INIT_STAGE_SOURCES, err, s[i].path);
		init_trees[init_tree_count++] = tree;
	}
}

/* Stage 3, root. Should leave: / is an empty tmpfs of ours, the old root is gone. */
static void make_root(void)
{
	if (mount("tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=16m") < 0 ||
	    chdir("/proc") < 0)
		init_fail(INIT_CONTROL_FD, INIT_STAGE_ROOT, -errno, 0);
	int err = sys_pivot_root(".", ".");
	if (err == 0 && (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0))
		err = -errno;
	if (err < 0)
		init_fail(INIT_CONTROL_FD, INIT_STAGE_ROOT, err, 0);
}

static void drop_bounding_set(void)
{
	for (cap_value_t c = 0; cap_get_bound(c) >= 0; c++)
		if (cap_drop_bound(c) < 0)
			init_fail(INIT_CONTROL_FD, INIT_STAGE_CAPABILITIES, -errno, 0);
}

/* Stage 4, skeleton: all that is the same for every step of this template. */
static void template_build(const struct init_template *t)
{
	if (t->magic != INIT_MAGIC)
		init_fail(INIT_CONTROL_FD, INIT_STAGE_SOURCES, -EPROTO, 0);
	become(t->uid, t->gid);
	if (unshare(CLONE_NEWNS | CLONE_NEWUTS) < 0)
		init_fail(INIT_CONTROL_FD, INIT_STAGE_USERNS, -errno, 0);
	if (sethostname(str(t->hostname), strlen(str(t->hostname))) < 0)
		init_fail(INIT_CONTROL_FD, INIT_STAGE_USERNS, -errno, 0);
	umask(0022);
	open_sources(t);
	make_root();
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	init_mount_follow(root, &t->ops, INIT_CONTROL_FD, INIT_STAGE_SKELETON);
	close(root);
	for (size_t i = 0; i < init_tree_count; i++)
		close(init_trees[i]);
	drop_bounding_set();
}

static void disarm(void)
{
	if (armed)
		(void)umount2("/" INIT_STAGING "/" INIT_STAGED_ARMED, MNT_DETACH);
	armed = false;
}

/* An overlay costs six inodes on the layers' file system, and its folders and the lock four more: a
 * disk may take longer for them than a step runs. */
static int arm(const struct init_arm *a)
{
	if (chdir("/" INIT_STAGING) < 0 || mkdir(a->folder, 0700) < 0 || chdir(a->folder) < 0 ||
	    mkdir(LAYERS_UPPER, 0700) < 0 || chmod(LAYERS_UPPER, a->mode) < 0 ||
	    mkdir(LAYERS_WORK, 0700) < 0)
		return -errno;
	int lock = open(INIT_ARM_LOCK, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (lock < 0)
		return -errno;
	close(lock);
	if (chdir("/" INIT_STAGING) < 0 ||
	    mount("overlay", INIT_STAGED_ARMED, "overlay", MS_NOSUID | MS_NODEV, a->options) < 0)
		return -errno;
	armed = true;
	init_mount_open_work(a->options);
	return 0;
}

static void template_arm(size_t len)
{
	struct init_report r = {.type = INIT_REPORT_ARMED};
	const struct init_arm *a = at(0);

	disarm();
	if (len <= sizeof(*a) || a->magic != INIT_MAGIC || init_plan[len - 1] != '\0' ||
	    !memchr(a->folder, 0, sizeof(a->folder)))
		r.error = -EPROTO;
	else
		r.error = arm(a);
	if (chdir("/") < 0)
		_exit(1);
	if (send_report(INIT_CONTROL_FD, &r, NULL, 0) < 0)
		_exit(0);
}

_Noreturn static void step_main(const int *fds, uint32_t which);

static int fd_of(const int *fds, uint32_t which, uint32_t bit)
{
	return which & bit ? fds[__builtin_popcount(which & (bit - 1))] : -1;
}

/* Stage 5, clone. The step's parent is the keeper, so it is the keeper that waits for it;
 * exit_signal must be 0 then. The kernel gives it this process's own signal, which the keeper
 * ignores: a step that ends at once is gone before anybody could open it by number, so its pidfd
 * comes from the clone. */
static void template_step(struct init_message *m, int *fds, size_t fd_count, size_t len)
{
	int pidfd = -1;
	struct clone_args args = {.flags = CLONE_PARENT | CLONE_PIDFD | CLONE_NEWPID | CLONE_NEWNS |
					   CLONE_NEWIPC | CLONE_NEWUTS,
				  .pidfd = (uint64_t)(uintptr_t)&pidfd};
	struct init_report r = {.type = INIT_REPORT_CLONED};

	if (m->fds & INIT_FD_PLAN) {
		ssize_t n = fd_count > 0 ? pread(fds[fd_count - 1], init_plan, sizeof(init_plan), 0)
					 : -1;
		len = n < 0 ? 0 : (size_t)n;
	}
	const struct init_step *s = at(0);
	if (len < sizeof(*s) || s->magic != INIT_MAGIC || s->bytes != len) {
		r.type = INIT_REPORT_FAILED;
		r.stage = INIT_STAGE_CLONE;
		r.error = -EPROTO;
	} else {
		int cgroup = fd_of(fds, m->fds, INIT_FD_CGROUP);
		long pid = -EOPNOTSUPP;
		if (cgroup >= 0) {
			args.flags |= CLONE_INTO_CGROUP;
			args.cgroup = (uint64_t)cgroup;
			pid = sys_clone3(&args);
			r.entered_cgroup = pid > 0;
			args.flags &= ~(
				uint64_t)CLONE_INTO_CGROUP; /* refused: then the keeper moves it */
		}
		if (pid < 0)
			pid = sys_clone3(&args);
		if (pid == 0)
			step_main(fds, m->fds);
		r.pid = (int32_t)pid;
		if (pid < 0) {
			r.type = INIT_REPORT_FAILED;
			r.stage = INIT_STAGE_CLONE;
			r.error = (int32_t)pid;
		}
	}
	if (send_report(INIT_CONTROL_FD, &r, &pidfd, r.type == INIT_REPORT_CLONED ? 1 : 0) < 0)
		_exit(0);
	if (r.type == INIT_REPORT_CLONED)
		close(pidfd);
	for (size_t i = 0; i < fd_count; i++)
		close(fds[i]);
}

static int template_main(void)
{
	struct init_message m;
	struct init_report ready = {.type = INIT_REPORT_READY};
	int fds[INIT_FD_BATCH];
	size_t fd_count;

	for (;;) {
		size_t len = receive(&m, fds, &fd_count);
		switch ((enum init_message_type)m.type) {
		case INIT_USERNS:
			if (fd_count != 1 || setns(fds[0], CLONE_NEWUSER) < 0)
				init_fail(INIT_CONTROL_FD, INIT_STAGE_USERNS, -errno, 0);
			close(fds[0]);
			break;
		case INIT_TREES:
			for (size_t i = 0; i < fd_count && init_tree_count < INIT_SOURCES_MAX; i++)
				init_trees[init_tree_count++] = fds[i];
			break;
		case INIT_BUILD:
			if (m.fds & INIT_FD_PLAN) {
				if (fd_count != 1 ||
				    pread(fds[0], init_plan, sizeof(init_plan), 0) < 0)
					init_fail(INIT_CONTROL_FD, INIT_STAGE_SOURCES, -EPROTO, 0);
				close(fds[0]);
			}
			template_build(at(0));
			if (send_report(INIT_CONTROL_FD, &ready, NULL, 0) < 0)
				return 0;
			break;
		case INIT_STEP:
			template_step(&m, fds, fd_count, len);
			break;
		case INIT_ARM:
			template_arm(len);
			break;
		case INIT_DISARM:
			disarm();
			break;
		case INIT_NETNS:
			return 1;
		}
	}
}

/* ---- step: pid 1 of the sandbox ---- */

/* Stage 8, terminal. Should leave: the slave as the command's 0, 1, 2; the master with the keeper
 * and nowhere else. */
static int make_terminal(const struct init_step *s, int status)
{
	struct winsize size = {.ws_row = s->rows, .ws_col = s->cols};
	int unlock = 0;

	int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 ||
	    ioctl(master, TIOCSWINSZ, &size) < 0)
		init_fail(status, INIT_STAGE_TERMINAL, -errno, 0);
	int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		init_fail(status, INIT_STAGE_TERMINAL, -errno, 0);
	int err = init_send_fd(status, INIT_REPORT_TERMINAL, master);
	if (err < 0)
		init_fail(status, INIT_STAGE_TERMINAL, err, 0);
	close(master);
	return slave;
}

static int make_listener(const struct sandbox_listener *l)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(l->port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(l->port)};
	int one = 1, err = 0;

	memcpy(&in.sin_addr, l->address, 4);
	memcpy(&in6.sin6_addr, l->address, 16);
	int fd = socket(l->v6 ? AF_INET6 : AF_INET,
			(l->datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, l->v6 ? IPPROTO_IPV6 : IPPROTO_IP, l->v6 ? IPV6_FREEBIND : IP_FREEBIND,
		       &one, sizeof(one)) < 0 ||
	    bind(fd, l->v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in,
		 l->v6 ? sizeof(in6) : sizeof(in)) < 0 ||
	    (!l->datagram && listen(fd, SOMAXCONN) < 0))
		err = -errno;
	if (err < 0)
		close(fd);
	return err < 0 ? err : fd;
}

/* Without IPv6 nothing ever comes to those addresses: their place is held by a socket that is bound
 * to nothing. */
static int make_net_listener(const struct sandbox_listener *l)
{
	int fd = make_listener(l);

	if (l->v6 && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL))
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd;
}

/* Where limits are low, descriptors wait until the keeper has taken those before. */
static int send_listeners(int status, const struct init_report *r, const int *fds, size_t n)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	int err;

	for (int i = 0; i < 5000; i++) {
		err = send_report(status, r, fds, n);
		if (err != -ETOOMANYREFS)
			break;
		(void)nanosleep(&moment, NULL);
	}
	return err;
}

/* Stage 9, listeners: made here because a socket belongs to the network namespace of its maker. */
static void make_listeners(const struct init_step *s, int status)
{
	const struct sandbox_listener *l = at(s->listeners.at);
	struct init_report r = {.type = INIT_REPORT_LISTENERS};
	int fds[INIT_FD_BATCH];

	for (uint32_t i = 0; i < s->listeners.count;) {
		size_t n = 0;
		for (; n < INIT_FD_BATCH && i < s->listeners.count; n++, i++) {
			fds[n] = s->net ? make_net_listener(&l[i]) : make_listener(&l[i]);
			if (fds[n] < 0)
				init_fail(status, INIT_STAGE_LISTENERS, fds[n], 0);
		}
		int err = send_listeners(status, &r, fds, n);
		if (err < 0)
			init_fail(status, INIT_STAGE_LISTENERS, err, 0);
		while (n > 0)
			close(fds[--n]);
	}
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, strlen(text));
	int err = n < 0 ? -errno : 0;
	close(fd);
	return err;
}

/* RLIMIT_NPROC counts in the user namespace, which all sandboxes of one uid share: this step takes
 * one of its own. Everything mounted so far is locked in it. */
static int enter_own_userns(const struct init_step *s)
{
	char map[64];

	if (unshare(CLONE_NEWUSER) < 0)
		return -errno;
	prctl(PR_SET_DUMPABLE, 1);
	int err = write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%u %u 1", s->uid, s->uid);
	if (err == 0)
		err = write_file("/proc/self/uid_map", map);
	snprintf(map, sizeof(map), "%u %u 1", s->gid, s->gid);
	if (err == 0)
		err = write_file("/proc/self/gid_map", map);
	prctl(PR_SET_DUMPABLE, 0);
	for (unsigned long c = 0; err == 0 && prctl(PR_CAPBSET_READ, c) >= 0; c++)
		if (prctl(PR_CAPBSET_DROP, c) < 0)
			err = -errno;
	return err;
}

static void set_limit(int status, int which, uint64_t value)
{
	struct rlimit r = {value, value};

	if (setrlimit(which, &r) < 0)
		init_fail(status, INIT_STAGE_LIMITS, -errno, 0);
}

enum { SIGPENDING_MAX = 16384 };

/* Stage 11, limits, in our control groups. */
static void take_limits(const struct init_step *s, int status)
{
	int err;

	if (unshare(CLONE_NEWCGROUP) < 0)
		init_fail(status, INIT_STAGE_LIMITS, -errno, 0);
	if (s->own_userns) {
		err = enter_own_userns(s);
		if (err < 0)
			init_fail(status, INIT_STAGE_LIMITS, err, 0);
	}
	set_limit(status, RLIMIT_CORE, 0);
	set_limit(status, RLIMIT_MEMLOCK, 8 << 20);
	set_limit(status, RLIMIT_MSGQUEUE, 0);
	/* Timers and queued signals are counted by user, across namespaces: most are left outside.
	 */
	struct rlimit pending;
	if (getrlimit(RLIMIT_SIGPENDING, &pending) == 0)
		set_limit(status, RLIMIT_SIGPENDING,
			  pending.rlim_cur == RLIM_INFINITY ? SIGPENDING_MAX
							    : pending.rlim_cur / 8);
	if (s->rlimit_fsize)
		set_limit(status, RLIMIT_FSIZE, s->rlimit_fsize);
	if (s->rlimit_nproc)
		set_limit(status, RLIMIT_NPROC, s->rlimit_nproc + 1);
	if (s->rlimit_cpu_s)
		set_limit(status, RLIMIT_CPU, s->rlimit_cpu_s);
}

static uint64_t landlock_rights(int abi)
{
	uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;

	if (abi >= 2)
		all |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		all |= LANDLOCK_ACCESS_FS_TRUNCATE;
	if (abi >= 5)
		all |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
	return all;
}

static uint64_t landlock_class(enum init_landlock_class class, uint64_t all)
{
	switch (class) {
	case INIT_LANDLOCK_LIST:
		return LANDLOCK_ACCESS_FS_READ_DIR;
	case INIT_LANDLOCK_READ:
		return LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_READ_FILE;
	case INIT_LANDLOCK_EXEC:
		return LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_READ_FILE |
		       LANDLOCK_ACCESS_FS_EXECUTE;
	case INIT_LANDLOCK_WRITE:
		return all;
	}
	return 0;
}

/* Stage 12, Landlock: the widest grant of each tree, since it cannot subtract; signals and abstract
 * sockets stay in. */
static void enter_landlock(const struct init_step *s, int status)
{
	const struct init_rule *rule = at(s->rules.at);
	int abi = sys_landlock_create(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (s->rules.count == 0)
		return;
	if (abi < 1) {
		if (!s->landlock_weaker)
			init_fail(status, INIT_STAGE_LANDLOCK, abi < 0 ? abi : -ENOTSUP, 0);
		return;
	}
	uint64_t all = landlock_rights(abi);
	struct sys_landlock_attr attr = {.handled_access_fs = all,
					 .scoped = abi >= 6 ? SYS_LANDLOCK_SCOPE_ABSTRACT_UNIX |
								      SYS_LANDLOCK_SCOPE_SIGNAL
							    : 0};
	int set = sys_landlock_create(&attr, abi >= 6 ? sizeof(attr) : abi >= 4 ? 16 : 8, 0);
	int err = set < 0 ? set : 0;
	for (uint32_t i = 0; i < s->rules.count && err == 0; i++) {
		uint64_t rights = landlock_class(rule[i].class, all);
		struct stat st;
		int fd = open(str(rule[i].path), O_PATH | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
			rights &= LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
				  LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_TRUNCATE |
				  LANDLOCK_ACCESS_FS_IOCTL_DEV;
		err = sys_landlock_add_path(set, rights & all, fd);
		close(fd);
	}
	if (err == 0)
		err = sys_landlock_restrict(set);
	if (err < 0)
		init_fail(status, INIT_STAGE_LANDLOCK, err, 0);
	close(set);
}

/* Stage 13, capabilities. Should leave: none in any set, none to be had by execve, and that locked.
 * The bounding set was emptied in the template. */
static void drop_capabilities(int status)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}, {0}};
	unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
			     SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
			     SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECUREBITS, bits) < 0 || syscall(SYS_capset, &head, none) < 0)
		init_fail(status, INIT_STAGE_CAPABILITIES, -errno, 0);
}

struct command {
	const struct init_step *step;
	int status, in, out, err;
	struct {
		int32_t error;
		enum init_stage stage;
	} failed; /* written by the command's process, which shares our memory until execve */
};

/* Stage 14, descriptors. Should leave: 0, 1, 2, and the status socket at 3, which closes by itself.
 */
static int take_descriptors(struct command *c)
{
	if (setsid() < 0)
		return -errno;
	if (c->step->pty && ioctl(c->in, TIOCSCTTY, 0) < 0)
		return -errno;
	/* none of the four is below 4: 0 to 4 are /dev/null, control and keeper */
	if (dup2(c->in, 0) < 0 || dup2(c->out, 1) < 0 || dup2(c->err, 2) < 0 ||
	    dup3(c->status, 3, O_CLOEXEC) < 0)
		return -errno;
	return sys_close_range(4, ~0U, 0);
}

static const char *search_path(void)
{
	for (char **e = command_env; *e; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			return *e + 5;
	return "/usr/local/bin:/usr/bin:/bin";
}

static int execute(void)
{
	const char *name = command_argv[0], *path = search_path();
	char full[SANDBOX_PATH_MAX + 1];
	int err = -ENOENT;

	if (strchr(name, '/')) {
		execve(name, command_argv, command_env);
		return -errno;
	}
	while (*path) {
		size_t len = strcspn(path, ":"), name_len = strlen(name);
		if (len > 0 && len + 1 + name_len < sizeof(full)) {
			memcpy(full, path, len);
			full[len] = '/';
			memcpy(full + len + 1, name, name_len + 1);
			execve(full, command_argv, command_env);
			if (errno != ENOENT && errno != ENOTDIR)
				err = -errno;
		}
		path += len + (path[len] == ':');
	}
	return err;
}

/* Stages 14 to 17. Shares pid 1's memory, and pid 1 sleeps, until execve or exit. */
static int command_main(void *arg)
{
	struct command *c = arg;
	const struct init_step *s = c->step;

	c->failed.stage = INIT_STAGE_DESCRIPTORS;
	c->failed.error = take_descriptors(c);
	if (c->failed.error < 0)
		_exit(1);
	c->failed.stage = INIT_STAGE_CWD;
	if (chdir(str(s->cwd)) < 0) {
		c->failed.error = -errno;
		_exit(1);
	}
	c->failed.stage = INIT_STAGE_SECCOMP;
	if (s->filter.count > 0) {
		struct sock_fprog program = {(unsigned short)s->filter.count,
					     (struct sock_filter *)at(s->filter.at)};
		int fd = sys_seccomp(SECCOMP_SET_MODE_FILTER,
				     s->filter_notifies ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0,
				     &program);
		c->failed.error = fd < 0	       ? fd
				  : s->filter_notifies ? init_send_fd(3, INIT_REPORT_FILTER, fd)
						       : 0;
		if (c->failed.error < 0)
			_exit(1);
		if (s->filter_notifies)
			close(fd);
	}
	c->failed.stage = INIT_STAGE_EXEC;
	umask(0022);
	c->failed.error = execute();
	_exit(1);
}

static void fill_vector(char **vector, const struct init_list *list)
{
	const uint32_t *offsets = at(list->at);

	for (uint32_t i = 0; i < list->count && i < SANDBOX_ARGS_MAX; i++)
		vector[i] = (char *)init_plan + offsets[i];
}

static uint64_t usage_cpu_us(const struct rusage *u)
{
	return (uint64_t)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000000 +
	       (uint64_t)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
}

/* Pid 1 from here on: reaps orphans; the command's end is reported before anything is torn down,
 * and our own end kills the rest. */
_Noreturn static void reap(pid_t command, int status)
{
	struct init_report r = {.type = INIT_REPORT_EXITED};
	struct rusage usage;
	pid_t pid;

	do {
		pid = wait4(-1, &r.wait_status, __WALL, NULL);
	} while (pid != command && (pid >= 0 || errno == EINTR));
	getrusage(RUSAGE_CHILDREN, &usage);
	r.cpu_us = usage_cpu_us(&usage);
	r.maxrss_kib = (uint64_t)usage.ru_maxrss;
	(void)send_report(status, &r, NULL, 0);
	_exit(0);
}

static void wait_for_go(int status)
{
	char go;
	ssize_t n;

	do {
		n = recv(status, &go, 1, 0);
	} while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(0);
}

/* Of v1 a process alone can enter a group without the kernel waiting for all others (limits.h). */
static void enter_groups(const int *fds, uint32_t which, int status)
{
	for (int i = 0; i < INIT_TASKS_MAX; i++) {
		int fd = fd_of(fds, which, INIT_FD_TASKS << i);
		if (fd >= 0 && write(fd, "0", 1) != 1)
			init_fail(status, INIT_STAGE_LIMITS, -errno, 0);
	}
}

/* Closes every descriptor but these; a negative one is none. */
static void keep_only(const int *fds, size_t count)
{
	unsigned from = 0;

	for (;;) {
		int next = -1;

		for (size_t i = 0; i < count; i++)
			if (fds[i] >= (int)from && (next < 0 || fds[i] < next))
				next = fds[i];
		if (next < 0)
			break;
		if ((unsigned)next > from)
			(void)sys_close_range(from, (unsigned)next - 1, 0);
		from = (unsigned)next + 1;
	}
	(void)sys_close_range(from, ~0U, 0);
}

_Noreturn static void step_main(const int *given, uint32_t which)
{
	const struct init_step *s = at(0);
	static uint8_t stack[64 * 1024] __attribute__((aligned(16)));
	int status = fd_of(given, which, INIT_FD_STATUS), lock = fd_of(given, which, INIT_FD_LOCK),
	    pidfd = -1;
	int netns = fd_of(given, which, INIT_FD_NETNS);

	close(INIT_CONTROL_FD);
	die_with_keeper();
	enter_groups(given, which, status);
	/* Stage 6, network: one with nothing but lo, used once */
	if (netns >= 0 && setns(netns, CLONE_NEWNET) < 0)
		init_fail(status, INIT_STAGE_NETWORK, -errno, 0);
	/* Stage 7, mounts: this step's own. Should leave: no way back to the staging folder. */
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	init_mount_follow(root, &s->ops, status, INIT_STAGE_MOUNTS);
	close(root);
	struct command c = {.step = s,
			    .status = status,
			    .in = fd_of(given, which, INIT_FD_STDIN),
			    .out = fd_of(given, which, INIT_FD_STDOUT),
			    .err = fd_of(given, which, INIT_FD_STDERR)};
	if (s->pty)
		c.in = c.out = c.err = make_terminal(s, status);
	make_listeners(s, status);
	if (s->wait_for_go)
		wait_for_go(status);
	take_limits(s, status);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		init_fail(status, INIT_STAGE_CAPABILITIES, -errno, 0);
	enter_landlock(s, status);
	drop_capabilities(status);
	prctl(PR_SET_DUMPABLE, 0);
	die_with_keeper();
	fill_vector(command_argv, &s->argv);
	fill_vector(command_env, &s->env);
	pid_t pid = clone(command_main, stack + sizeof(stack),
			  CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &c, &pidfd);
	if (pid < 0)
		init_fail(status, INIT_STAGE_EXEC, -errno, 0);
	if (c.failed.error < 0)
		init_fail(status, c.failed.stage, c.failed.error, 0);
	int err = init_send_fd(status, INIT_REPORT_STARTED, pidfd);
	if (err < 0)
		_exit(1);
	/* The status socket; the attempt's lock as long as it lives; and the terminal until the
	 * command's end is known: one that closes it before it exits would be hung up on, and die
	 * of SIGHUP instead. */
	keep_only((int[]){status, lock, s->pty ? c.in : -1}, 3);
	reap(pid, status);
}

/* Both names of this process are plain from the start: /proc/1/cmdline and comm can be read inside.
 */
static void plain_name(char **argv, int argc)
{
	size_t len = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - argv[0]);

	memset(argv[0], 0, len);
	memcpy(argv[0], "init", len < 4 ? len : 4);
	prctl(PR_SET_NAME, "init");
}

int main(int argc, char **argv)
{
	if (argc != 2 || strcmp(argv[1], "template") != 0)
		return 2;
	plain_name(argv, argc);
	if (geteuid() == 0 && setgroups(0, NULL) < 0 && errno != EPERM)
		return 1;
	return template_main();
}
