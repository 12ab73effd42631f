#include "sandbox/seccomp.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include "base/guard.h"

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "no system call list for this architecture"
#endif

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static const char *const files[] = {
	"access",
	"chdir",
	"chmod",
	"chown",
	"close",
	"close_range",
	"copy_file_range",
	"creat",
	"dup",
	"dup2",
	"dup3",
	"faccessat",
	"faccessat2",
	"fadvise64",
	"fallocate",
	"fchdir",
	"fchmod",
	"fchmodat",
	"fchmodat2",
	"fchown",
	"fchownat",
	"fcntl",
	"fdatasync",
	"fgetxattr",
	"flistxattr",
	"flock",
	"fremovexattr",
	"fsetxattr",
	"fstat",
	"fstatfs",
	"fsync",
	"ftruncate",
	"futimesat",
	"getcwd",
	"getdents",
	"getdents64",
	"getxattr",
	"getxattrat",
	"inotify_add_watch",
	"inotify_init",
	"inotify_init1",
	"inotify_rm_watch",
	"lchown",
	"lgetxattr",
	"link",
	"linkat",
	"listxattr",
	"listxattrat",
	"llistxattr",
	"lremovexattr",
	"lseek",
	"lsetxattr",
	"lstat",
	"mkdir",
	"mkdirat",
	"mknod",
	"mknodat",
	"newfstatat",
	"open",
	"openat",
	"openat2",
	"pread64",
	"preadv",
	"preadv2",
	"pwrite64",
	"pwritev",
	"pwritev2",
	"read",
	"readahead",
	"readlink",
	"readlinkat",
	"readv",
	"removexattr",
	"removexattrat",
	"rename",
	"renameat",
	"renameat2",
	"rmdir",
	"sendfile",
	"setxattr",
	"setxattrat",
	"splice",
	"stat",
	"statfs",
	"statmount",
	"statx",
	"symlink",
	"symlinkat",
	"sync",
	"sync_file_range",
	"syncfs",
	"tee",
	"truncate",
	"umask",
	"unlink",
	"unlinkat",
	"utime",
	"utimensat",
	"utimes",
	"vmsplice",
	"write",
	"writev",
	"cachestat",
	"file_getattr",
};
static const char *const processes[] = {
	"arch_prctl",
	"capget",
	"capset",
	"execve",
	"execveat",
	"exit",
	"exit_group",
	"fork",
	"getcpu",
	"getegid",
	"geteuid",
	"getgid",
	"getgroups",
	"getpgid",
	"getpgrp",
	"getpid",
	"getppid",
	"getpriority",
	"getresgid",
	"getresuid",
	"getrlimit",
	"getrusage",
	"getsid",
	"gettid",
	"getuid",
	"ioprio_get",
	"ioprio_set",
	"kill",
	"pidfd_open",
	"pidfd_send_signal",
	"restart_syscall",
	"rseq",
	"sched_get_priority_max",
	"sched_get_priority_min",
	"sched_getaffinity",
	"sched_getattr",
	"sched_getparam",
	"sched_getscheduler",
	"sched_rr_get_interval",
	"sched_setaffinity",
	"sched_setattr",
	"sched_setparam",
	"sched_setscheduler",
	"sched_yield",
	"set_robust_list",
	"set_tid_address",
	"setfsgid",
	"setfsuid",
	"setgid",
	"setgroups",
	"setpgid",
	"setpriority",
	"setregid",
	"setresgid",
	"setresuid",
	"setreuid",
	"setrlimit",
	"setsid",
	"setuid",
	"get_robust_list",
	"sysinfo",
	"tgkill",
	"times",
	"tkill",
	"uname",
	"vfork",
	"wait4",
	"waitid",
	"membarrier",
};
static const char *const memory[] = {
	"brk",
	"get_mempolicy",
	"madvise",
	"map_shadow_stack",
	"mbind",
	"memfd_create",
	"mincore",
	"mlock",
	"mlock2",
	"mlockall",
	"mmap",
	"mprotect",
	"mremap",
	"mseal",
	"msync",
	"munlock",
	"munlockall",
	"munmap",
	"pkey_alloc",
	"pkey_free",
	"pkey_mprotect",
	"remap_file_pages",
	"set_mempolicy",
	"set_mempolicy_home_node",
	"process_mrelease",
};
static const char *const waiting[] = {
	"alarm",
	"clock_getres",
	"clock_gettime",
	"clock_nanosleep",
	"epoll_create",
	"epoll_create1",
	"epoll_ctl",
	"epoll_pwait",
	"epoll_pwait2",
	"epoll_wait",
	"eventfd",
	"eventfd2",
	"futex",
	"futex_requeue",
	"futex_wait",
	"futex_waitv",
	"futex_wake",
	"getitimer",
	"gettimeofday",
	"nanosleep",
	"pause",
	"poll",
	"ppoll",
	"pselect6",
	"rt_sigaction",
	"rt_sigpending",
	"rt_sigprocmask",
	"rt_sigqueueinfo",
	"rt_sigreturn",
	"rt_sigsuspend",
	"rt_sigtimedwait",
	"rt_tgsigqueueinfo",
	"select",
	"setitimer",
	"sigaltstack",
	"signalfd",
	"signalfd4",
	"time",
	"timer_create",
	"timer_delete",
	"timer_getoverrun",
	"timer_gettime",
	"timer_settime",
	"timerfd_create",
	"timerfd_gettime",
	"timerfd_settime",
};
static const char *const talking[] = {
	"accept",
	"accept4",
	"bind",
	"connect",
	"getpeername",
	"getsockname",
	"getsockopt",
	"getrandom",
	"io_cancel",
	"io_destroy",
	"io_getevents",
	"io_pgetevents",
	"io_setup",
	"io_submit",
	"listen",
	"mq_getsetattr",
	"mq_notify",
	"mq_open",
	"mq_timedreceive",
	"mq_timedsend",
	"mq_unlink",
	"msgctl",
	"msgget",
	"msgrcv",
	"msgsnd",
	"pipe",
	"pipe2",
	"recvfrom",
	"recvmmsg",
	"recvmsg",
	"semctl",
	"semget",
	"semop",
	"semtimedop",
	"sendmmsg",
	"sendmsg",
	"sendto",
	"setsockopt",
	"shmat",
	"shmctl",
	"shmdt",
	"shmget",
	"shutdown",
	"landlock_add_rule",
	"landlock_create_ruleset",
	"landlock_restrict_self",
};
/* Denied and worth a line in the step's record: no ordinary program needs one. */
static const char *const reported[] = {
	"acct",
	"add_key",
	"adjtimex",
	"bpf",
	"chroot",
	"clock_adjtime",
	"clock_settime",
	"delete_module",
	"fanotify_init",
	"fanotify_mark",
	"finit_module",
	"fsconfig",
	"fsmount",
	"fsopen",
	"fspick",
	"init_module",
	"io_uring_enter",
	"io_uring_register",
	"io_uring_setup",
	"ioperm",
	"iopl",
	"kcmp",
	"kexec_file_load",
	"kexec_load",
	"keyctl",
	"lookup_dcookie",
	"lsm_set_self_attr",
	"modify_ldt",
	"mount",
	"mount_setattr",
	"move_mount",
	"move_pages",
	"migrate_pages",
	"name_to_handle_at",
	"nfsservctl",
	"open_by_handle_at",
	"open_tree",
	"perf_event_open",
	"pidfd_getfd",
	"pivot_root",
	"process_madvise",
	"process_vm_readv",
	"process_vm_writev",
	"ptrace",
	"quotactl",
	"quotactl_fd",
	"reboot",
	"request_key",
	"setdomainname",
	"sethostname",
	"setns",
	"settimeofday",
	"swapoff",
	"swapon",
	"sysfs",
	"syslog",
	"umount2",
	"unshare",
	"userfaultfd",
	"ustat",
	"vhangup",
};
static const struct {
	const char *name;
	enum seccomp_action action;
	uint32_t only_with; /* flags; 0 = always */
} single[] = {
	{"clone", SECCOMP_CHECK_CLONE, 0},
	{"ioctl", SECCOMP_CHECK_IOCTL, 0},
	{"socket", SECCOMP_CHECK_SOCKET, 0},
	{"socketpair", SECCOMP_CHECK_SOCKETPAIR, 0},
	{"personality", SECCOMP_CHECK_PERSONALITY, 0},
	{"prctl", SECCOMP_CHECK_PRCTL, 0},
	{"seccomp", SECCOMP_CHECK_SECCOMP, 0},
	{"prlimit64", SECCOMP_CHECK_PRLIMIT, 0},
	{"chmod", SECCOMP_CHECK_MODE1, SECCOMP_DENY_SETID},
	{"fchmod", SECCOMP_CHECK_MODE1, SECCOMP_DENY_SETID},
	{"creat", SECCOMP_CHECK_MODE1, SECCOMP_DENY_SETID},
	{"mkdir", SECCOMP_CHECK_MODE1, SECCOMP_DENY_SETID},
	{"mknod", SECCOMP_CHECK_MODE1, SECCOMP_DENY_SETID},
	{"fchmodat", SECCOMP_CHECK_MODE2, SECCOMP_DENY_SETID},
	{"fchmodat2", SECCOMP_CHECK_MODE2, SECCOMP_DENY_SETID},
	{"mkdirat", SECCOMP_CHECK_MODE2, SECCOMP_DENY_SETID},
	{"mknodat", SECCOMP_CHECK_MODE2, SECCOMP_DENY_SETID},
	{"open", SECCOMP_CHECK_MODE2, SECCOMP_DENY_SETID},
	{"openat", SECCOMP_CHECK_MODE3, SECCOMP_DENY_SETID},
	{"openat2", SECCOMP_UNKNOWN,
	 SECCOMP_DENY_SETID}, /* its mode lies in memory, where no filter can look */
};

static void set_group(uint8_t *actions, const char *const *names, size_t count,
		      enum seccomp_action action)
{
	for (size_t i = 0; i < count; i++) {
		int number = seccomp_syscall_resolve_name(names[i]);
		if (number >= 0 && number < SECCOMP_CALLS_MAX)
			actions[number] = (uint8_t)action;
	}
}

void seccomp_table(uint32_t flags, uint8_t actions[SECCOMP_CALLS_MAX])
{
	memset(actions, SECCOMP_UNKNOWN, SECCOMP_CALLS_MAX);
	set_group(actions, files, ARRAY_SIZE(files), SECCOMP_ALLOW);
	set_group(actions, processes, ARRAY_SIZE(processes), SECCOMP_ALLOW);
	set_group(actions, memory, ARRAY_SIZE(memory), SECCOMP_ALLOW);
	set_group(actions, waiting, ARRAY_SIZE(waiting), SECCOMP_ALLOW);
	set_group(actions, talking, ARRAY_SIZE(talking), SECCOMP_ALLOW);
	set_group(actions, reported, ARRAY_SIZE(reported),
		  flags & SECCOMP_NOTIFY ? SECCOMP_REPORTED : SECCOMP_PLAIN_EPERM);
	for (size_t i = 0; i < ARRAY_SIZE(single); i++)
		if ((single[i].only_with & flags) == single[i].only_with)
			set_group(actions, &single[i].name, 1, single[i].action);
}

/* ---- the program ---- */

struct program {
	struct sock_filter v[SECCOMP_PROGRAM_MAX];
	size_t len;
	bool full;
};

static void emit(struct program *p, uint16_t code, uint32_t k, size_t jt, size_t jf)
{
	if (p->len >= SECCOMP_PROGRAM_MAX || jt > UINT8_MAX || jf > UINT8_MAX) {
		p->full = true;
		return;
	}
	p->v[p->len++] = (struct sock_filter){code, (uint8_t)jt, (uint8_t)jf, k};
}

#define LOAD(p, k) emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(k), 0, 0)
#define RET(p, k)  emit(p, BPF_RET | BPF_K, (uint32_t)(k), 0, 0)
#define ERRNO(e)   (SECCOMP_RET_ERRNO | (e))
/* The low 32 bits of an argument: all that the kernel looks at in those that are compared here. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "argument offsets are those of a little-endian machine"
#endif
#define ARG(n) offsetof(struct seccomp_data, args[n])

/* A = argument; returns value where A == k, else goes on. */
static void ret_if_equal(struct program *p, uint32_t k, uint32_t value)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1);
	RET(p, value);
}

static void ret_if_any_bit(struct program *p, uint32_t mask, uint32_t value)
{
	emit(p, BPF_JMP | BPF_JSET | BPF_K, mask, 0, 1);
	RET(p, value);
}

static void emit_socket(struct program *p)
{
	static const uint16_t protocols[] = {0, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP,
					     IPPROTO_ICMPV6};

	LOAD(p, ARG(0));
	ret_if_equal(p, AF_UNIX, SECCOMP_RET_ALLOW);
	/* netlink: 3 instructions; route reads only, and lo is all there is */
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 4);
	LOAD(p, ARG(2));
	ret_if_equal(p, NETLINK_ROUTE, SECCOMP_RET_ALLOW);
	RET(p, ERRNO(EAFNOSUPPORT));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 2, 0);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 1, 0);
	RET(p, ERRNO(EAFNOSUPPORT));
	LOAD(p, ARG(2));
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
		ret_if_equal(p, protocols[i], SECCOMP_RET_ALLOW);
	RET(p, ERRNO(EPROTONOSUPPORT)); /* mptcp, sctp, dccp, …: kernel modules that nobody asked
					   for */
}

static void emit_check(struct program *p, enum seccomp_action action)
{
	const uint32_t setid = S_ISUID | S_ISGID;

	switch (action) {
	case SECCOMP_CHECK_CLONE:
		LOAD(p, ARG(0));
		ret_if_any_bit(p,
			       CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
				       CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET,
			       ERRNO(EPERM));
		break;
	case SECCOMP_CHECK_IOCTL:
		LOAD(p, ARG(1));
		ret_if_equal(p, TIOCSTI, ERRNO(EPERM));
		ret_if_equal(p, TIOCLINUX, ERRNO(EPERM));
		ret_if_equal(p, TIOCSETD, ERRNO(EPERM)); /* drivers that nobody asked for */
		break;
	case SECCOMP_CHECK_SOCKET:
		emit_socket(p);
		return;
	case SECCOMP_CHECK_SOCKETPAIR:
		LOAD(p, ARG(0));
		ret_if_equal(p, AF_UNIX, SECCOMP_RET_ALLOW);
		RET(p, ERRNO(EAFNOSUPPORT));
		return;
	case SECCOMP_CHECK_PERSONALITY:
		LOAD(p, ARG(0));
		ret_if_equal(p, PER_LINUX, SECCOMP_RET_ALLOW);
		ret_if_equal(p, 0xffffffff, SECCOMP_RET_ALLOW); /* only asks */
		RET(p, ERRNO(EPERM));
		return;
	case SECCOMP_CHECK_PRCTL:
		LOAD(p, ARG(0));
		ret_if_equal(p, PR_SET_MM, ERRNO(EPERM));
		ret_if_equal(p, PR_SET_PTRACER, ERRNO(EPERM));
		break;
	case SECCOMP_CHECK_SECCOMP:
		LOAD(p, ARG(1));
		ret_if_any_bit(p, SECCOMP_FILTER_FLAG_NEW_LISTENER, ERRNO(EPERM));
		break;
	case SECCOMP_CHECK_PRLIMIT:
		/* The reaper is of the command's own user, and a CPU limit that is over would kill
		 * it: the step would be lost, and tried again, instead of ended. */
		LOAD(p, ARG(0));
		ret_if_equal(p, 1, ERRNO(EPERM));
		break;
	case SECCOMP_CHECK_MODE1:
	case SECCOMP_CHECK_MODE2:
	case SECCOMP_CHECK_MODE3:
		LOAD(p, ARG(action - SECCOMP_CHECK_MODE1 + 1));
		ret_if_any_bit(p, setid, ERRNO(EPERM));
		break;
	case SECCOMP_UNKNOWN:
		RET(p, ERRNO(ENOSYS));
		return;
	case SECCOMP_PLAIN_EPERM:
		RET(p, ERRNO(EPERM));
		return;
	case SECCOMP_REPORTED:
		RET(p, SECCOMP_RET_USER_NOTIF);
		return;
	case SECCOMP_ALLOW:
	case SECCOMP_ACTIONS:
		break;
	}
	RET(p, SECCOMP_RET_ALLOW);
}

struct run {
	uint32_t first;
	enum seccomp_action action;
};

/* A holds the number. Leaves are far jumps whose target is filled in when the checks stand. */
static void emit_search(struct program *p, const struct run *runs, size_t count, uint16_t *leaves)
{
	if (count == 1) {
		leaves[p->len < SECCOMP_PROGRAM_MAX ? p->len : 0] = (uint16_t)(runs[0].action + 1);
		emit(p, BPF_JMP | BPF_JA, 0, 0, 0);
		return;
	}
	size_t half = count / 2, at = p->len;
	emit(p, BPF_JMP | BPF_JGE | BPF_K, runs[half].first, 0, 0);
	emit_search(p, runs, half, leaves);
	if (p->len - at - 1 > UINT8_MAX)
		p->full = true;
	else if (at < SECCOMP_PROGRAM_MAX)
		p->v[at].jt = (uint8_t)(p->len - at - 1);
	emit_search(p, runs + half, count - half, leaves);
}

static size_t find_runs(const uint8_t *actions, struct run *runs)
{
	size_t n = 0;

	for (uint32_t i = 0; i < SECCOMP_CALLS_MAX; i++)
		if (n == 0 || runs[n - 1].action != (enum seccomp_action)actions[i])
			runs[n++] = (struct run){i, (enum seccomp_action)actions[i]};
	if (runs[n - 1].action != SECCOMP_UNKNOWN)
		runs[n++] = (struct run){SECCOMP_CALLS_MAX, SECCOMP_UNKNOWN};
	return n;
}

int seccomp_program(uint32_t flags, struct buffer *out, struct error *err)
{
	uint8_t actions[SECCOMP_CALLS_MAX];
	struct run runs[SECCOMP_CALLS_MAX + 1];
	uint16_t leaves[SECCOMP_PROGRAM_MAX] = {0};
	size_t starts[SECCOMP_ACTIONS];

	AUTO_FREE struct program *p = calloc(1, sizeof(*p));
	if (!p)
		return error_nomem(err);
	seccomp_table(flags, actions);
	LOAD(p, offsetof(struct seccomp_data, arch));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0);
	RET(p, SECCOMP_RET_KILL_PROCESS);
	LOAD(p, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
	ret_if_any_bit(p, 0x40000000, SECCOMP_RET_KILL_PROCESS); /* x32, and -1 from a tracer */
#endif
	emit_search(p, runs, find_runs(actions, runs), leaves);
	size_t search_end = p->len;
	for (int a = 0; a < SECCOMP_ACTIONS; a++) {
		starts[a] = p->len;
		emit_check(p, (enum seccomp_action)a);
	}
	if (p->full)
		return error_set(err, -E2BIG, "seccomp: the filter passes %d instructions",
				 SECCOMP_PROGRAM_MAX);
	for (size_t i = 0; i < search_end; i++)
		if (leaves[i])
			p->v[i].k = (uint32_t)(starts[leaves[i] - 1] - i - 1);
	return buffer_append(out, p->v, p->len * sizeof(p->v[0]));
}
