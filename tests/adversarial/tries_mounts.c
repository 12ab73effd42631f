#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/adversarial/tries.h"

/* <sys/mount.h> and <linux/mount.h> do not go together in every libc. */
enum { BIND = 4096, REMOUNT = 32, DETACH = 2, CLONE_TREE = 1 };

static int mount_of(const char *source, const char *target, const char *type, unsigned long flags)
{
	return try_said(syscall(SYS_mount, source, target, type, flags, NULL));
}

int try_mount_tmpfs(const struct world *w)
{
	(void)w;
	return mount_of("tmpfs", "/tmp", "tmpfs", 0);
}

int try_mount_bind(const struct world *w)
{
	(void)w;
	return mount_of("/tmp", "/etc", NULL, BIND);
}

int try_mount_remount(const struct world *w)
{
	(void)w;
	return mount_of(NULL, "/usr", NULL, REMOUNT | BIND);
}

/* Of its version 2: a group of one's own choice. */
int try_mount_cgroup(const struct world *w)
{
	(void)w;
	return mount_of("cgroup2", "/tmp", "cgroup2", 0);
}

int try_mount_unmount(const struct world *w)
{
	(void)w;
	return try_said(syscall(SYS_umount2, "/proc", DETACH));
}

int try_mount_pivot(const struct world *w)
{
	(void)w;
	if (chdir("/usr") < 0)
		return TRY_BROKEN;
	return try_said(syscall(SYS_pivot_root, ".", "."));
}

int try_mount_chroot(const struct world *w)
{
	(void)w;
	return try_said(chroot("/tmp"));
}

int try_mount_open_tree(const struct world *w)
{
	(void)w;
	return try_said(syscall(SYS_open_tree, AT_FDCWD, "/usr", CLONE_TREE));
}

int try_mount_fsopen(const struct world *w)
{
	(void)w;
	return try_said(syscall(SYS_fsopen, "tmpfs", 0));
}

int try_mount_fspick(const struct world *w)
{
	(void)w;
	return try_said(syscall(SYS_fspick, AT_FDCWD, "/usr", 0));
}

int try_mount_move(const struct world *w)
{
	(void)w;
	return try_said(syscall(SYS_move_mount, AT_FDCWD, "/usr", AT_FDCWD, "/tmp", 0));
}

int try_mount_setattr(const struct world *w)
{
	struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY};

	(void)w;
	return try_said(syscall(SYS_mount_setattr, AT_FDCWD, "/usr", 0, &attr, sizeof(attr)));
}

int try_mount_handle(const struct world *w)
{
	struct {
		struct file_handle head;
		char room[128];
	} handle = {.head.handle_bytes = sizeof(handle.room)};
	int id;

	(void)w;
	return try_said(syscall(SYS_name_to_handle_at, AT_FDCWD, "/proc", &handle, &id, 0x200));
}

int try_mount_handle_open(const struct world *w)
{
	(void)w;
	return try_said(syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, O_RDONLY));
}

/* listmount of the whole mount namespace. */
int try_mount_list(const struct world *w)
{
	struct {
		uint32_t size, spare;
		uint64_t mnt_id, param, mnt_ns_id;
	} ask = {.size = sizeof(ask), .mnt_id = UINT64_MAX};
	uint64_t ids[4];

	(void)w;
	return try_said(syscall(458, &ask, ids, 4, 0));
}

#define UNSHARE(name, flag)                           \
	int try_unshare_##name(const struct world *w) \
	{                                             \
		(void)w;                              \
		return try_said(unshare(flag));       \
	}
UNSHARE(user, CLONE_NEWUSER)
UNSHARE(mount, CLONE_NEWNS)
UNSHARE(pid, CLONE_NEWPID)
UNSHARE(net, CLONE_NEWNET)
UNSHARE(ipc, CLONE_NEWIPC)
UNSHARE(uts, CLONE_NEWUTS)
UNSHARE(cgroup, CLONE_NEWCGROUP)
UNSHARE(time, CLONE_NEWTIME)

static int clone_of(unsigned long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	return try_said(pid);
}

#define CLONE(name, flags)                          \
	int try_clone_##name(const struct world *w) \
	{                                           \
		(void)w;                            \
		return clone_of(flags);             \
	}
CLONE(user, CLONE_NEWUSER)
CLONE(user_high, CLONE_NEWUSER | (1UL << 40))
CLONE(mount, CLONE_NEWNS)
CLONE(pid, CLONE_NEWPID)
CLONE(net, CLONE_NEWNET)
CLONE(ipc, CLONE_NEWIPC)
CLONE(uts, CLONE_NEWUTS)
CLONE(cgroup, CLONE_NEWCGROUP)

static int clone3_of(struct clone_args *args)
{
	args->exit_signal = SIGCHLD;
	long pid = syscall(SYS_clone3, args, sizeof(*args));
	if (pid == 0)
		_exit(0);
	return try_said(pid);
}

int try_clone3_plain(const struct world *w)
{
	(void)w;
	return clone3_of(&(struct clone_args){0});
}

int try_clone3_user(const struct world *w)
{
	(void)w;
	return clone3_of(&(struct clone_args){.flags = CLONE_NEWUSER});
}

int try_clone3_set_tid(const struct world *w)
{
	pid_t tid = 54321; /* a pid of one's own choice: that of one who was there before */

	(void)w;
	return clone3_of(&(struct clone_args){.set_tid = (uintptr_t)&tid, .set_tid_size = 1});
}

static int enter(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? errno : try_said(setns(fd, 0));
}

int try_setns_mount(const struct world *w)
{
	(void)w;
	return enter("/proc/self/ns/mnt");
}

int try_setns_pid1(const struct world *w)
{
	(void)w;
	return enter("/proc/1/ns/net");
}

/* The network namespace of a socket, as a descriptor that could be passed on. */
int try_setns_socket(const struct world *w)
{
	(void)w;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd < 0 ? TRY_BROKEN : try_said(ioctl(fd, SIOCGSKNS));
}

int try_cap_set(const struct world *w)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {
		{.effective = 1U << CAP_SYS_ADMIN, .permitted = 1U << CAP_SYS_ADMIN}};

	(void)w;
	return try_said(syscall(SYS_capset, &head, caps));
}

int try_cap_ambient(const struct world *w)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2];

	(void)w;
	if (syscall(SYS_capget, &head, caps) < 0)
		return TRY_BROKEN;
	caps[0].inheritable |= caps[0].permitted & (1U << CAP_SYS_ADMIN);
	(void)syscall(SYS_capset, &head, caps);
	return try_said(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
}

int try_cap_securebits(const struct world *w)
{
	(void)w;
	return try_said(prctl(PR_SET_SECUREBITS, 0));
}

int try_cap_setgroups(const struct world *w)
{
	(void)w;
	return try_said(syscall(SYS_setgroups, 0, NULL));
}

int try_cap_setuid(const struct world *w)
{
	(void)w;
	return try_said(setresuid(65534, 65534, 65534));
}

int try_cap_setgid(const struct world *w)
{
	(void)w;
	return try_said(setresgid(65534, 65534, 65534));
}

static int scratch(char *name)
{
	strcpy(name, "/tmp/hf-try.XXXXXX");
	return mkstemp(name);
}

int try_cap_chown(const struct world *w)
{
	char name[32];

	(void)w;
	int fd = scratch(name);
	if (fd < 0)
		return TRY_BROKEN;
	int answer = try_said(fchown(fd, 65534, 65534));
	unlink(name);
	return answer;
}

int try_cap_device(const struct world *w)
{
	char name[32];

	(void)w;
	if (scratch(name) < 0 || unlink(name) < 0)
		return TRY_BROKEN;
	int answer = try_said(mknod(name, S_IFBLK | 0600, makedev(254, 0)));
	unlink(name);
	return answer;
}

int try_cap_hostname(const struct world *w)
{
	(void)w;
	return try_said(sethostname("elsewhere", 9));
}

int try_cap_domainname(const struct world *w)
{
	(void)w;
	return try_said(setdomainname("elsewhere", 9));
}

int try_cap_nice(const struct world *w)
{
	(void)w;
	return try_said(setpriority(PRIO_PROCESS, 0, -15));
}

int try_cap_realtime(const struct world *w)
{
	struct sched_param p = {.sched_priority = 1};

	(void)w;
	return try_said(sched_setscheduler(0, SCHED_FIFO, &p));
}

/* A core file is written by the machine's own handler, outside. */
int try_cap_core(const struct world *w)
{
	struct rlimit r = {1 << 20, RLIM_INFINITY};

	(void)w;
	return try_said(setrlimit(RLIMIT_CORE, &r));
}

int try_cap_mlock(const struct world *w)
{
	enum { SIZE = 16 << 20 };

	(void)w;
	void *p = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? TRY_BROKEN : try_said(mlock(p, SIZE));
}

/* All that the user has, so that nothing of the user's outside gets one: counted across namespaces. */
int try_inotify_instances(const struct world *w)
{
	int max = atoi(w->inotify_max);

	for (int i = 0; i < max - max / 8; i++)
		if (inotify_init1(IN_CLOEXEC) < 0)
			return errno;
	return TRY_REACHED;
}

/* Likewise. */
int try_timers(const struct world *w)
{
	int max = atoi(w->timers_max);
	timer_t t;

	for (int i = 0; i < max - max / 4; i++)
		if (timer_create(CLOCK_MONOTONIC, NULL, &t) < 0)
			return errno;
	return TRY_REACHED;
}

/* The program's exit says whether it became another than the one who started it. */
int try_cap_setuid_program(const struct world *w)
{
	int status;

	if (!w->setuid[0])
		return TRY_UNSEEN;
	pid_t pid = fork();
	if (pid == 0) {
		if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0 && errno != EPERM &&
		    errno != EINVAL)
			_exit(2);
		execl(w->setuid, w->setuid, NULL);
		_exit(2);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return TRY_BROKEN;
	return WEXITSTATUS(status) == 0	  ? TRY_UNSEEN
	       : WEXITSTATUS(status) == 1 ? TRY_REACHED
					  : TRY_BROKEN;
}
