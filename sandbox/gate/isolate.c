#include "sandbox/gate/isolate.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include "sandbox/sys.h"

#ifndef LANDLOCK_ACCESS_NET_BIND_TCP
#define LANDLOCK_ACCESS_NET_BIND_TCP	(1ULL << 0) /* ABI 4, Linux 6.7 */
#define LANDLOCK_ACCESS_NET_CONNECT_TCP (1ULL << 1)
#endif

enum { FDS_KEPT_MAX = 16 };

static int failed(struct error *err, const char *what)
{
	int e = -errno;

	return error_set_exit(err, e, EXIT_STATUS_SANDBOX,
			      "isolation: %s: %s; run `holdfast doctor` for the remedy", what,
			      strerror(-e));
}

/* Stage 1, descriptors. Should: 2, 3, 4 and what is kept, and nothing else, is open. Must not: a
 * descriptor of the keeper's, by whatever mistake of its. */
static int compare_ints(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int drop_descriptors(const int *keep, size_t count, struct error *err)
{
	int kept[FDS_KEPT_MAX + 1];
	unsigned from = ISOLATE_LOCK_FD + 1;

	if (count > FDS_KEPT_MAX)
		return error_set(err, -E2BIG, "isolation: more than %d descriptors", FDS_KEPT_MAX);
	AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		return failed(err, "/dev/null");
	if (fcntl(2, F_GETFD) < 0 && dup2(null, 2) < 0)
		return failed(err, "standard error");
	if (null <= 2)
		(void)take_fd(&null);
	else
		close_fd(&null);
	if (count > 0)
		memcpy(kept, keep, count * sizeof(*keep));
	qsort(kept, count, sizeof(kept[0]), compare_ints);
	for (size_t i = 0; i < count; i++) {
		if (kept[i] < (int)from)
			continue;
		if (kept[i] > (int)from && sys_close_range(from, (unsigned)kept[i] - 1, 0) < 0)
			return failed(err, "close_range");
		from = (unsigned)kept[i] + 1;
	}
	return sys_close_range(from, ~0U, 0) < 0 ? failed(err, "close_range") : 0;
}

/* Stage 2, limits. Should: a flood ends in an error of ours. Must not: a core file, a child. */
static int set_limits(struct error *err)
{
	static const struct {
		int which;
		uint64_t value;
	} rows[] = {
		{RLIMIT_CORE, 0},
		{RLIMIT_MSGQUEUE, 0},
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		{RLIMIT_DATA, ISOLATE_DATA_MAX},
#endif
	};
	struct rlimit files;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct rlimit r = {rows[i].value, rows[i].value};

		if (setrlimit((__rlimit_resource_t)rows[i].which, &r) < 0)
			return failed(err, "setrlimit");
	}
	/* Listeners of every attempt, and two a connection: as many as the keeper may hand on. */
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return failed(err, "getrlimit");
	files.rlim_cur = files.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &files) < 0 ? failed(err, "setrlimit") : 0;
}

/* Stage 3, namespaces. Should: no other process's IPC, mounts or names, and for the gate no
 * interface that is up. Root's own are made by root, so that they do not belong to who it becomes.
 */
static int write_map(const char *path, unsigned id)
{
	char text[64];
	AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);
	int n = snprintf(text, sizeof(text), "%u %u 1", id, id);

	return fd < 0 || write(fd, text, (size_t)n) != n ? -1 : 0;
}

static int deny_setgroups(void)
{
	AUTO_FD fd = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, "deny", 4) != 4 ? -1 : 0;
}

static int enter_namespaces(enum isolate_kind kind, struct error *err)
{
	int flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP |
		    (kind == ISOLATE_GATE ? CLONE_NEWNET : 0);
	unsigned uid = geteuid(), gid = getegid();

	if (uid == 0)
		return unshare(flags) < 0 ? failed(err, "namespaces") : 0;
	if (unshare(flags | CLONE_NEWUSER) < 0)
		return failed(err, "namespaces");
	if (deny_setgroups() < 0 || write_map("/proc/self/uid_map", uid) < 0 ||
	    write_map("/proc/self/gid_map", gid) < 0)
		return failed(err, "the user namespace's maps");
	return 0;
}

/* Stage 4, files. Should: one empty read-only folder is all there is. Must not: a way back, the old
 * root is detached. */
static int leave_files(struct error *err)
{
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return failed(err, "mounts");
	if (mount("none", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "size=4k,nr_inodes=1,mode=0555") < 0)
		return failed(err, "an empty root");
	if (chdir("/proc") < 0 || sys_pivot_root(".", ".") < 0)
		return failed(err, "pivot_root");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return failed(err, "the old root");
	return 0;
}

/* Stage 5, identity. Should: no capability in any set, none to gain by exec. Must not: kernel uid
 * 0, whatever the keeper is. */
static int drop_capabilities(struct error *err)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
	    syscall(SYS_capset, &head, none) < 0)
		return failed(err, "capabilities");
	return 0;
}

static int lock_capabilities(struct error *err)
{
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return failed(err, "the bounding set");
	if (prctl(PR_SET_SECUREBITS,
		  SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED |
			  SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
			  SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
		  0, 0, 0) < 0)
		return failed(err, "securebits");
	return 0;
}

static int change_user(struct error *err)
{
	uid_t uid = ISOLATE_UID_BASE + (uid_t)getpid();
	int r = lock_capabilities(err);

	if (r < 0 || geteuid() != 0)
		return r < 0 ? r : drop_capabilities(err);
	if (setgroups(0, NULL) < 0)
		return failed(err, "groups");
	/* A container's root may have a map that ends before: then nobody's. */
	if (setresgid(uid, uid, uid) < 0 && setresgid(65534, 65534, 65534) < 0)
		return failed(err, "gid");
	if (setresuid(uid, uid, uid) < 0 && setresuid(65534, 65534, 65534) < 0)
		return failed(err, "uid");
	/* One wall more where it can be had: in a user namespace of its own it has not even the
	 * rights of its uid over anything outside. It comes with all capabilities, to drop again.
	 */
	if (unshare(CLONE_NEWUSER) == 0)
		r = lock_capabilities(err);
	return r < 0 ? r : drop_capabilities(err);
}

/* Stage 6, ties. Should: dies with the keeper. Must not: be looked into by another process. The
 * parent-death signal comes after the last change of credentials, which clears it; a keeper that
 * ended before has hung up on the control socket. */
static int tie_down(struct error *err)
{
	struct pollfd control = {.fd = ISOLATE_CONTROL_FD};

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return failed(err, "prctl");
	if (poll(&control, 1, 0) < 0)
		return failed(err, "the control socket");
	if (control.revents & (POLLHUP | POLLERR | POLLNVAL))
		return error_set(err, -ECONNRESET, "isolation: the keeper is gone");
	return 0;
}

/* Stage 7, Landlock. Should: no file even if one could be named; no signal and no abstract socket
 * to the outside. A kernel without it has the stages above. */
static int enter_landlock(enum isolate_kind kind, struct error *err)
{
	int abi = sys_landlock_create(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct sys_landlock_attr attr = {.handled_access_fs =
						 (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
	size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;

	if (abi < 1)
		return 0;
	if (abi >= 2)
		attr.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		attr.handled_access_fs |= LANDLOCK_ACCESS_FS_TRUNCATE;
	if (abi >= 5)
		attr.handled_access_fs |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
	if (abi >= 4)
		attr.handled_access_net =
			LANDLOCK_ACCESS_NET_BIND_TCP |
			(kind == ISOLATE_GATE ? LANDLOCK_ACCESS_NET_CONNECT_TCP : 0);
	if (abi >= 6)
		attr.scoped = SYS_LANDLOCK_SCOPE_ABSTRACT_UNIX | SYS_LANDLOCK_SCOPE_SIGNAL;
	AUTO_FD rules = sys_landlock_create(&attr, size, 0);
	if (rules < 0 || sys_landlock_restrict(rules) < 0) {
		errno = rules < 0 ? -rules : EPERM;
		return failed(err, "landlock");
	}
	return 0;
}

/* Stage 8, system calls. Should: an event loop over what it holds. What a parser that was taken
 * over would try next ends the process; what merely is not needed gets EPERM. */
static const int both[] = {
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(brk),
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(close),
	SCMP_SYS(close_range),
	SCMP_SYS(dup),
	SCMP_SYS(epoll_create),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(eventfd2),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(fcntl),
	SCMP_SYS(fstat),
	SCMP_SYS(futex),
	SCMP_SYS(getegid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getpeername),
	SCMP_SYS(getpid),
	SCMP_SYS(getrandom),
	SCMP_SYS(getsockname),
	SCMP_SYS(getsockopt),
	SCMP_SYS(gettid),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(getuid),
	SCMP_SYS(lseek),
	SCMP_SYS(madvise),
	SCMP_SYS(membarrier),
	SCMP_SYS(mremap),
	SCMP_SYS(munmap),
	SCMP_SYS(nanosleep),
	SCMP_SYS(pipe2),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(pread64),
	SCMP_SYS(pselect6),
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rseq),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_yield),
	SCMP_SYS(select),
	SCMP_SYS(sendfile),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(setsockopt),
	SCMP_SYS(shutdown),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(splice),
	SCMP_SYS(sysinfo),
	SCMP_SYS(time),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(uname),
	SCMP_SYS(write),
	SCMP_SYS(writev),
};
static const int courier_only[] = {
	SCMP_SYS(bind),		SCMP_SYS(connect), SCMP_SYS(fallocate), SCMP_SYS(ftruncate),
	SCMP_SYS(memfd_create), SCMP_SYS(mlock),   SCMP_SYS(mlock2),	SCMP_SYS(munlock),
	SCMP_SYS(pwrite64),	SCMP_SYS(pwritev), SCMP_SYS(preadv),	SCMP_SYS(recvmmsg),
	SCMP_SYS(sendmmsg),
};
static const int deadly[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(setuid),
	SCMP_SYS(setresuid),
	SCMP_SYS(setgid),
	SCMP_SYS(setresgid),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(personality),
};

static int allow_each(scmp_filter_ctx c, uint32_t action, const int *calls, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		r = seccomp_rule_add(c, action, calls[i], 0);
	return r;
}

/* mmap and mprotect without PROT_EXEC; ioctl only to ask how much can be read, and to set
 * non-blocking; a signal only to itself (abort). */
static int allow_some(scmp_filter_ctx c)
{
	pid_t self = getpid();
	int r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				 SCMP_A2(SCMP_CMP_MASKED_EQ, 4 /* PROT_EXEC */, 0));

	if (r == 0)
		r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, 4, 0));
	if (r == 0)
		r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				     SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff,
					     0x541b /* FIONREAD */));
	if (r == 0)
		r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				     SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, 0x5421 /* FIONBIO */));
	/* glibc's fstat(2). With a path it would find an empty folder. */
	if (r == 0)
		r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
				     SCMP_A3(SCMP_CMP_EQ, 0x1000 /* AT_EMPTY_PATH */));
	if (r == 0)
		r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)self));
	if (r == 0)
		r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1,
				     SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	return r;
}

/* The courier dials by these and nothing else. The gate that asks for a socket is no gate. */
static int allow_sockets(scmp_filter_ctx c, enum isolate_kind kind)
{
	static const struct {
		int family, type;
	} rows[] = {{AF_INET, SOCK_STREAM},
		    {AF_INET, SOCK_DGRAM},
		    {AF_INET6, SOCK_STREAM},
		    {AF_INET6, SOCK_DGRAM}};
	int r = 0;

	if (kind == ISOLATE_GATE) {
		r = seccomp_rule_add(c, SCMP_ACT_KILL_PROCESS, SCMP_SYS(socket), 0);
		if (r == 0)
			r = seccomp_rule_add(c, SCMP_ACT_KILL_PROCESS, SCMP_SYS(connect), 0);
		return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(rows) && r == 0; i++)
		r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
				     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)rows[i].family),
				     SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, (scmp_datum_t)rows[i].type));
	return r;
}

static int enter_seccomp(enum isolate_kind kind, struct error *err)
{
	scmp_filter_ctx c = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = c ? 0 : -ENOMEM;

	if (r == 0)
		r = seccomp_attr_set(c, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = seccomp_attr_set(c, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = allow_each(c, SCMP_ACT_ALLOW, both, ARRAY_SIZE(both));
	if (r == 0 && kind == ISOLATE_COURIER)
		r = allow_each(c, SCMP_ACT_ALLOW, courier_only, ARRAY_SIZE(courier_only));
	if (r == 0)
		r = allow_each(c, SCMP_ACT_KILL_PROCESS, deadly, ARRAY_SIZE(deadly));
	if (r == 0)
		r = allow_some(c);
	if (r == 0)
		r = allow_sockets(c, kind);
	if (r == 0)
		r = seccomp_load(c);
	seccomp_release(c);
	errno = -r;
	return r < 0 ? failed(err, "seccomp") : 0;
}

int isolate(enum isolate_kind kind, const int *keep, size_t keep_count, struct error *err)
{
	int r = drop_descriptors(keep, keep_count, err);

	if (r == 0)
		r = set_limits(err);
	if (r == 0)
		r = enter_namespaces(kind, err);
	if (r == 0)
		r = leave_files(err);
	if (r == 0)
		r = change_user(err);
	if (r == 0)
		r = tie_down(err);
	if (r == 0)
		r = enter_landlock(kind, err);
	return r == 0 ? enter_seccomp(kind, err) : r;
}
