#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/adversarial/tries.h"

/* ---- pid 1: the reaper, of the command's own user */

static int open_of(const char *pid, const char *name, int flags)
{
	char path[WORLD_TEXT * 2];

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
	return try_said(open(path, flags | O_CLOEXEC));
}

static int link_of(const char *pid, const char *name)
{
	char path[WORLD_TEXT * 2], text[256];

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
	return try_said(readlink(path, text, sizeof(text)));
}

#define PID1_OPEN(try, name, flags)                         \
	int try_pid1_##try(const struct world *w)           \
	{                                                   \
		return open_of(w->target_pid, name, flags); \
	}
#define PID1_LINK(try, name)                         \
	int try_pid1_##try(const struct world *w)    \
	{                                            \
		return link_of(w->target_pid, name); \
	}
PID1_OPEN(mem, "mem", O_RDWR)
PID1_OPEN(environ, "environ", O_RDONLY)
PID1_OPEN(maps, "maps", O_RDONLY)
PID1_LINK(root, "root")
PID1_LINK(cwd, "cwd")
PID1_LINK(exe, "exe")
PID1_OPEN(fd, "fd", O_RDONLY | O_DIRECTORY)
PID1_OPEN(map_files, "map_files", O_RDONLY | O_DIRECTORY)

static int read_of(const char *pid, const char *name)
{
	char path[WORLD_TEXT * 2], text[256];

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? errno : try_said(read(fd, text, sizeof(text)));
}

int try_pid1_auxv(const struct world *w)
{
	return read_of(w->target_pid, "auxv");
}

static pid_t target(const struct world *w)
{
	return atoi(w->target_pid);
}

static pid_t host(const struct world *w)
{
	return atoi(w->host_pid);
}

static int trace(pid_t pid)
{
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0)
		return errno;
	(void)ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	(void)waitpid(pid, NULL, __WALL);
	(void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
	return TRY_REACHED;
}

/* No byte at all: whether it may is what counts. */
static int vm(pid_t pid)
{
	char byte;
	struct iovec here = {&byte, 1}, there = {(void *)(uintptr_t)getpagesize(), 1};
	long r = syscall(SYS_process_vm_readv, pid, &here, 1, &there, 1, 0);

	return r < 0 && errno != EFAULT ? errno : TRY_REACHED; /* EFAULT: it was looked at */
}

static int getfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? errno : try_said(syscall(SYS_pidfd_getfd, fd, 0, 0));
}

int try_pid1_ptrace(const struct world *w)
{
	return trace(target(w));
}

int try_pid1_vm(const struct world *w)
{
	return vm(target(w));
}

int try_pid1_getfd(const struct world *w)
{
	return getfd(target(w));
}

/* The kernel says yes and does nothing: pid 1 takes no signal of its own namespace. */
int try_pid1_kill(const struct world *w)
{
	struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, target(w), 0), .events = POLLIN};

	if (p.fd < 0)
		return TRY_BROKEN;
	for (int sig = 1; sig < 32; sig++)
		(void)kill(target(w), sig);
	return poll(&p, 1, 100) == 0 ? TRY_UNSEEN : TRY_REACHED;
}

/* A limit of CPU time that is over would end the reaper, and the step without a word. */
int try_pid1_limits(const struct world *w)
{
	struct rlimit was;

	if (syscall(SYS_prlimit64, target(w), RLIMIT_CPU, NULL, &was) < 0)
		return errno;
	return try_said(syscall(SYS_prlimit64, target(w), RLIMIT_CPU, &was, NULL));
}

int try_pid1_oom(const struct world *w)
{
	return open_of(w->target_pid, "oom_score_adj", O_WRONLY);
}

/* ---- a process outside, of the command's own user */

int try_host_kill(const struct world *w)
{
	return try_said(kill(host(w), 0));
}

int try_host_tgkill(const struct world *w)
{
	return try_said(syscall(SYS_tgkill, host(w), host(w), 0));
}

int try_host_queue_signal(const struct world *w)
{
	return try_said(sigqueue(host(w), 0, (union sigval){0}));
}

int try_host_pidfd(const struct world *w)
{
	return try_said(syscall(SYS_pidfd_open, host(w), 0));
}

int try_host_proc(const struct world *w)
{
	return open_of(w->host_pid, "status", O_RDONLY);
}

int try_host_ptrace(const struct world *w)
{
	return trace(host(w));
}

int try_host_vm(const struct world *w)
{
	return vm(host(w));
}

int try_host_prlimit(const struct world *w)
{
	return try_said(syscall(SYS_prlimit64, host(w), RLIMIT_CORE, NULL, NULL));
}

int try_host_priority(const struct world *w)
{
	errno = 0;
	return getpriority(PRIO_PROCESS, (id_t)host(w)) == -1 && errno ? errno : TRY_REACHED;
}

int try_host_ioprio(const struct world *w)
{
	return try_said(syscall(SYS_ioprio_get, 1, host(w)));
}

int try_host_affinity(const struct world *w)
{
	cpu_set_t set;

	return try_said(sched_getaffinity(host(w), sizeof(set), &set));
}

int try_host_scheduler(const struct world *w)
{
	return try_said(sched_getscheduler(host(w)));
}

int try_host_robust_list(const struct world *w)
{
	void *head;
	size_t len;

	return try_said(syscall(SYS_get_robust_list, host(w), &head, &len));
}

/* A signal by way of a descriptor's owner. */
int try_host_owner(const struct world *w)
{
	int fds[2];

	if (pipe(fds) < 0)
		return TRY_BROKEN;
	return try_said(fcntl(fds[0], F_SETOWN, host(w)));
}

/* ---- /proc, /sys, /dev */

static int can_write(const char *path)
{
	return try_said(open(path, O_WRONLY | O_CLOEXEC)); /* and writes nothing */
}

#define PROC_WRITE(try, path)                     \
	int try_proc_##try(const struct world *w) \
	{                                         \
		(void)w;                          \
		return can_write(path);           \
	}
PROC_WRITE(sysctl_net, "/proc/sys/net/ipv4/ip_forward")
PROC_WRITE(sysctl_user, "/proc/sys/user/max_user_namespaces")
PROC_WRITE(sysctl_hostname, "/proc/sys/kernel/hostname")
PROC_WRITE(sysctl_core, "/proc/sys/kernel/core_pattern")
PROC_WRITE(sysctl_modprobe, "/proc/sys/kernel/modprobe")
PROC_WRITE(sysrq, "/proc/sysrq-trigger")

int try_proc_kcore(const struct world *w)
{
	char byte;

	(void)w;
	int fd = open("/proc/kcore", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? errno : read(fd, &byte, 1) == 1 ? TRY_REACHED : TRY_UNSEEN;
}

int try_proc_oom_adjust(const struct world *w)
{
	(void)w;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	return fd < 0 ? errno : try_said(write(fd, "-500", 4));
}

#define EXISTS(try, path)                            \
	int try_##try(const struct world *w)         \
	{                                            \
		(void)w;                             \
		return try_said(access(path, F_OK)); \
	}
EXISTS(sys_kernel, "/sys/kernel")
EXISTS(sys_cgroup, "/sys/fs/cgroup")
EXISTS(dev_kmsg, "/dev/kmsg")
EXISTS(dev_fuse, "/dev/fuse")
EXISTS(dev_kvm, "/dev/kvm")
EXISTS(dev_loop, "/dev/loop-control")
EXISTS(dev_tun, "/dev/net/tun")
EXISTS(dev_userfaultfd, "/dev/userfaultfd")
EXISTS(dev_vsock, "/dev/vsock")
EXISTS(dev_console, "/dev/tty0")

/* Any block device. */
int try_dev_disk(const struct world *w)
{
	DIR *d = opendir("/dev");
	int found = TRY_UNSEEN;
	struct stat st;

	(void)w;
	for (struct dirent *e; d && (e = readdir(d));)
		if (fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISBLK(st.st_mode))
			found = TRY_REACHED;
	if (!d)
		return errno;
	closedir(d);
	return found;
}

/* Beside 0, 1, 2 and the two pipes of this suite's own. */
int try_fd_inherited(const struct world *w)
{
	DIR *d = opendir("/proc/self/fd");
	int more = 0;

	(void)w;
	for (struct dirent *e; d && (e = readdir(d));) {
		int fd = atoi(e->d_name);
		more += e->d_name[0] != '.' && fd > 2 && fd != dirfd(d);
	}
	if (!d)
		return errno;
	closedir(d);
	return more > 1 ? TRY_REACHED : TRY_UNSEEN;
}
