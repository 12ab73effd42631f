#include "sandbox/doctor_tests.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/guard.h"
#include "base/io.h"
#include "base/utf8.h"

/* linux/memfd.h and linux/landlock.h of Debian 12 are older than these. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

enum { LANDLOCK_ABI_SCOPED = 6 }; /* scoped signals and abstract sockets */

static void say(struct doctor_result *r, enum doctor_grade grade, const char *fmt, ...)
	PRINTF_LIKE(3, 4);
static void mend(struct doctor_result *r, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void say(struct doctor_result *r, enum doctor_grade grade, const char *fmt, ...)
{
	va_list args;

	r->finding.grade = grade;
	va_start(args, fmt);
	utf8_vprintf(r->finding.detail, sizeof(r->finding.detail), fmt, args);
	va_end(args);
}

static void mend(struct doctor_result *r, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	utf8_vprintf(r->finding.remedy, sizeof(r->finding.remedy), fmt, args);
	va_end(args);
}

/* The number in a file of /proc/sys, or -1. */
static long sysctl(const char *name)
{
	AUTO_BUFFER path = {0};
	AUTO_BUFFER text = {0};

	if (buffer_printf(&path, "/proc/sys/%s", name) < 0)
		return -1;
	AUTO_FD fd = open((const char *)path.data, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || io_read_all(fd, 64, &text) < 0 || text.len == 0)
		return -1;
	return strtol((const char *)text.data, NULL, 10);
}

static int put(const char *path, const char *text)
{
	AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	return n < 0 ? -errno : 0;
}

/* ---- user namespaces ---- */

/* Into one with our own ids, as they are. */
static int enter_userns(int flags)
{
	const unsigned uid = geteuid();
	const unsigned gid = getegid();
	char text[32];
	int r;

	if (unshare(CLONE_NEWUSER | flags) < 0)
		return -errno;
	r = put("/proc/self/setgroups", "deny");
	if (r < 0 && r != -ENOENT)
		return r;
	snprintf(text, sizeof(text), "%u %u 1", uid, uid);
	r = put("/proc/self/uid_map", text);
	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "%u %u 1", gid, gid);
	return put("/proc/self/gid_map", text);
}

static void mend_userns(const struct doctor_place *p, struct doctor_result *r, int error)
{
	if (sysctl("kernel/apparmor_restrict_unprivileged_userns") == 1)
		mend(r,
		     "sudo install -m 0644 %s /etc/apparmor.d/holdfast && sudo apparmor_parser -r "
		     "/etc/apparmor.d/holdfast",
		     p->options->apparmor);
	else if (sysctl("kernel/unprivileged_userns_clone") == 0)
		mend(r, "echo kernel.unprivileged_userns_clone=1 | sudo tee "
			"/etc/sysctl.d/60-holdfast.conf && sudo sysctl --system");
	else if (sysctl("user/max_user_namespaces") == 0 || error == -ENOSPC)
		mend(r, "echo user.max_user_namespaces=15000 | sudo tee "
			"/etc/sysctl.d/60-holdfast.conf && sudo sysctl --system");
	else if (prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER)
		mend(r, "this process runs under a seccomp filter, as in a container: start the "
			"container with --security-opt seccomp=unconfined (docker, podman), or "
			"with a profile that allows unshare, mount and clone with CLONE_NEWUSER");
	else if (error == -EPERM || error == -EACCES)
		mend(r, "a security module or a chroot refuses it: run outside the chroot, or let "
			"its policy allow holdfast-keeper to make user namespaces");
	else
		mend(r, "the kernel needs CONFIG_USER_NS=y");
}

static void test_userns(const struct doctor_place *p, struct doctor_result *r)
{
	int e = enter_userns(CLONE_NEWNS);

	if (e < 0) {
		say(r, DOCTOR_MISSING, "no user namespace can be made: %s", strerror(-e));
		mend_userns(p, r, e);
		return;
	}
	/* Ubuntu 24.04 lets anyone make one, and takes the capabilities in it away. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", ".", "tmpfs", 0, NULL) < 0) {
		e = -errno;
		say(r, DOCTOR_MISSING, "a user namespace has no capabilities: mount: %s",
		    strerror(-e));
		mend_userns(p, r, e);
		return;
	}
	r->machine.user_namespace = true;
	say(r, DOCTOR_OK, "uid %u inside and outside, mounts work", geteuid());
}

static void test_namespaces(const struct doctor_place *p, struct doctor_result *r)
{
	static const struct {
		int flag;
		const char *name;
		const char *option;
	} rows[] = {
		{CLONE_NEWNS, "mount", "NAMESPACES"}, {CLONE_NEWPID, "pid", "PID_NS"},
		{CLONE_NEWNET, "net", "NET_NS"},      {CLONE_NEWIPC, "ipc", "IPC_NS"},
		{CLONE_NEWUTS, "uts", "UTS_NS"},      {CLONE_NEWCGROUP, "cgroup", "CGROUPS"},
	};

	(void)p;
	if (enter_userns(0) < 0) {
		say(r, DOCTOR_SKIPPED, "needs a user namespace");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (unshare(rows[i].flag) == 0)
			continue;
		say(r, DOCTOR_MISSING, "no %s namespace: %s", rows[i].name, strerror(errno));
		if (errno == ENOSPC)
			mend(r,
			     "echo user.max_%s_namespaces=15000 | sudo tee "
			     "/etc/sysctl.d/60-holdfast.conf && sudo sysctl --system",
			     rows[i].flag == CLONE_NEWNS ? "mnt" : rows[i].name);
		else
			mend(r, "the kernel needs CONFIG_%s=y", rows[i].option);
		return;
	}
	r->machine.namespaces = true;
	say(r, DOCTOR_OK, "mount, pid, net, ipc, uts, cgroup");
}

static void test_proc(const struct doctor_place *p, struct doctor_result *r)
{
	int e = enter_userns(CLONE_NEWNS | CLONE_NEWPID);
	int status = 0;
	pid_t pid;

	(void)p;
	if (e < 0) {
		say(r, DOCTOR_SKIPPED, "needs a user namespace");
		return;
	}
	pid = fork(); /* who mounts it must be in the new pid namespace */
	if (pid == 0) {
		if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
			_exit(errno & 0xff);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		e = -EIO;
	else
		e = -WEXITSTATUS(status);
	if (e < 0) {
		say(r, DOCTOR_MISSING, "a fresh /proc cannot be mounted: %s", strerror(-e));
		mend(r, "parts of /proc are covered here, as in a container: start it with "
			"--security-opt systempaths=unconfined (docker) or --security-opt "
			"unmask=ALL (podman), or hostUsers with procMount: Unmasked (Kubernetes)");
		return;
	}
	r->machine.proc = true;
	say(r, DOCTOR_OK, "a pid namespace gets its own");
}

/* ---- the state directory's file system ---- */

static const char *file_system(int fd)
{
	static const struct {
		unsigned long magic;
		const char *name;
	} rows[] = {
		{0xef53, "ext4"},      {0x58465342, "xfs"},	 {0x9123683e, "btrfs"},
		{0x01021994, "tmpfs"}, {0x794c7630, "overlay"},	 {0x65735546, "fuse"},
		{0x6969, "nfs"},       {0x2fc12fc1, "zfs"},	 {0xff534d42, "cifs"},
		{0xf2f52010, "f2fs"},  {0xca451a4e, "bcachefs"},
	};
	struct statfs s;

	if (fstatfs(fd, &s) == 0)
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
			if ((unsigned long)s.f_type == rows[i].magic)
				return rows[i].name;
	return "this file system";
}

static const char other_file_system[] =
	"put the state directory on ext4, xfs, btrfs or tmpfs: holdfast --state DIR, or "
	"XDG_STATE_HOME; in a container a volume";

/* lower/f, lower/d/g; then an overlay on merged, in the working folder. */
static int mount_overlay(const struct doctor_place *p, const char *options)
{
	static const char *const folders[] = {"lower", "lower/d", "upper", "work", "merged"};
	int e;

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (mkdirat(p->folder, folders[i], 0755) < 0 && errno != EEXIST)
			return -errno;
	for (int i = 0; i < 2; i++) {
		int fd = openat(p->folder, i ? "lower/d/g" : "lower/f",
				O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

		if (fd < 0)
			return -errno;
		close(fd);
	}
	e = enter_userns(CLONE_NEWNS);
	if (e < 0)
		return e;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	return mount("overlay", "merged", "overlay", 0, options) < 0 ? -errno : 0;
}

static void test_overlay(const struct doctor_place *p, struct doctor_result *r)
{
	int e = mount_overlay(p, "userxattr,lowerdir=lower,upperdir=upper,workdir=work");
	const char *fs = file_system(p->folder);
	struct stat st;
	char value[4];

	if (e < 0) {
		say(r, DOCTOR_MISSING, "no overlay on %s in a user namespace: %s", fs,
		    strerror(-e));
		if (e == -ENODEV)
			mend(r, "sudo modprobe overlay, and again at boot: echo overlay | sudo tee "
				"/etc/modules-load.d/holdfast.conf");
		else
			mend(r, "%s", other_file_system);
		return;
	}
	if (unlinkat(AT_FDCWD, "merged/f", 0) < 0 ||
	    fstatat(AT_FDCWD, "upper/f", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISCHR(st.st_mode) ||
	    st.st_rdev != 0) {
		say(r, DOCTOR_MISSING, "overlay on %s leaves no whiteout for a deleted file", fs);
		mend(r, "%s", other_file_system);
		return;
	}
	if (unlinkat(AT_FDCWD, "merged/d/g", 0) < 0 ||
	    unlinkat(AT_FDCWD, "merged/d", AT_REMOVEDIR) < 0 ||
	    mkdirat(AT_FDCWD, "merged/d", 0755) < 0 ||
	    lgetxattr("upper/d", "user.overlay.opaque", value, sizeof(value)) != 1 ||
	    value[0] != 'y') {
		say(r, DOCTOR_MISSING,
		    "overlay on %s cannot mark a folder made anew: no user extended attributes",
		    fs);
		mend(r, "mount that file system with user_xattr, or %s", other_file_system);
		return;
	}
	r->machine.overlay = true;
	say(r, DOCTOR_OK, "on %s, whiteouts and opaque folders", fs);
}

static void test_volatile(const struct doctor_place *p, struct doctor_result *r)
{
	int e = mount_overlay(p, "userxattr,volatile,lowerdir=lower,upperdir=upper,workdir=work");

	if (e < 0) {
		say(r, DOCTOR_WEAKER,
		    "overlay without the option volatile: %s; steps that change files start and "
		    "end slower",
		    strerror(-e));
		mend(r, "a kernel from 5.10 on has it");
		return;
	}
	r->machine.overlay_volatile = true;
	say(r, DOCTOR_OK, "overlay skips the syncs that sealing does once");
}

/* The user namespace whose map an idmapped mount takes: made by a child that waits. */
static int map_for_mount(pid_t *ret_pid)
{
	int ready[2];
	char path[64];
	char byte;
	int fd = -1;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -errno;
	*ret_pid = fork();
	if (*ret_pid == 0) {
		byte = unshare(CLONE_NEWUSER) < 0;
		if (write(ready[1], &byte, 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) == 1 && byte == 0) {
		snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)*ret_pid);
		if (put(path, "0 2046820352 1") == 0) {
			snprintf(path, sizeof(path), "/proc/%d/gid_map", (int)*ret_pid);
			(void)!put(path, "0 2046820352 1");
			snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)*ret_pid);
			fd = open(path, O_RDONLY | O_CLOEXEC);
		}
	}
	close(ready[0]);
	return fd < 0 ? -EPERM : fd;
}

static void test_idmap(const struct doctor_place *p, struct doctor_result *r)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP};
	pid_t pid = -1;
	int e = 0;

	if (geteuid() != 0) {
		say(r, DOCTOR_SKIPPED, "only root needs them");
		return;
	}
	AUTO_FD map = map_for_mount(&pid);
	AUTO_FD tree =
		open_tree(p->folder, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (map < 0 || tree < 0)
		e = map < 0 ? map : -errno;
	attr.userns_fd = (uint64_t)map;
	if (e == 0 && mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		e = -errno;
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	if (e < 0) {
		say(r, DOCTOR_WEAKER,
		    "no idmapped mount of %s: %s; root cannot run steps on a workspace that root "
		    "owns",
		    file_system(p->folder), strerror(-e));
		mend(r, "a workspace of another user, or one on ext4, xfs, btrfs or tmpfs with "
			"Linux 5.19 or later");
		return;
	}
	r->machine.idmap = true;
	say(r, DOCTOR_OK, "of %s", file_system(p->folder));
}

static void test_rename(const struct doctor_place *p, struct doctor_result *r)
{
	static const char *const names[] = {"a", "b"};
	int e = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int fd = openat(p->folder, names[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0)
			e = -errno;
		else
			close(fd);
	}
	if (e == 0 && renameat2(p->folder, "a", p->folder, "b", RENAME_EXCHANGE) < 0)
		e = -errno;
	if (e == 0 &&
	    (renameat2(p->folder, "a", p->folder, "b", RENAME_NOREPLACE) == 0 || errno != EEXIST))
		e = -EINVAL;
	if (e < 0) {
		say(r, DOCTOR_MISSING, "%s exchanges no files: %s; nothing could land on it",
		    file_system(p->folder), strerror(-e));
		mend(r, "keep workspaces and the state directory on ext4, xfs, btrfs or tmpfs");
		return;
	}
	r->machine.rename_exchange = true;
	say(r, DOCTOR_OK, "files are exchanged in one step on %s", file_system(p->folder));
}

/* ---- walls ---- */

static void test_landlock(const struct doctor_place *p, struct doctor_result *r)
{
	const struct landlock_ruleset_attr attr = {.handled_access_fs =
							   LANDLOCK_ACCESS_FS_READ_FILE};
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int e = abi < 0 ? -errno : 0;
	int rules;

	(void)p;
	if (e < 0) {
		say(r, DOCTOR_WEAKER, "%s; mounts and namespaces alone bound the files of a step",
		    e == -EOPNOTSUPP ? "Landlock is switched off" : "the kernel has no Landlock");
		mend(r, e == -EOPNOTSUPP
				? "add landlock to the kernel's lsm= list at boot: see "
				  "/sys/kernel/security/lsm for the others"
				: "Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK=y; until then "
				  "policies must name landlock under allow_weaker");
		return;
	}
	rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (rules < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_landlock_restrict_self, rules, 0) < 0 ||
	    open("/proc/self/status", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES) {
		say(r, DOCTOR_WEAKER, "Landlock ABI %ld refuses nothing here", abi);
		mend(r, "policies must name landlock under allow_weaker");
		return;
	}
	r->machine.landlock_abi = (int)abi;
	if (abi < LANDLOCK_ABI_SCOPED)
		say(r, DOCTOR_OK, "ABI %ld; from %d on it also scopes signals and abstract sockets",
		    abi, LANDLOCK_ABI_SCOPED);
	else
		say(r, DOCTOR_OK, "ABI %ld", abi);
}

static long load_filter(unsigned flags)
{
	struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	const struct sock_fprog program = {ARRAY_SIZE(allow), allow};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void test_seccomp(const struct doctor_place *p, struct doctor_result *r)
{
	(void)p;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || load_filter(0) < 0) {
		say(r, DOCTOR_MISSING, "no seccomp filter can be loaded: %s", strerror(errno));
		mend(r, "the kernel needs CONFIG_SECCOMP_FILTER=y");
		return;
	}
	r->machine.seccomp = true;
	if (load_filter(SECCOMP_FILTER_FLAG_NEW_LISTENER) < 0) {
		say(r, DOCTOR_WEAKER,
		    "filters work, user notification does not: %s; refused calls are not counted",
		    strerror(errno));
		mend(r, errno == EBUSY ? "another filter of this session has a listener already, "
					 "as in some containers"
				       : "Linux 5.0 or later has it");
		return;
	}
	r->machine.seccomp_notify = true;
	say(r, DOCTOR_OK, "filter and user notification");
}

static void test_memfd(const struct doctor_place *p, struct doctor_result *r)
{
	static const char *const programs[] = {"/bin/true", "/run/current-system/sw/bin/true"};
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	AUTO_BUFFER exe = {0};
	AUTO_FD from = -1;
	AUTO_FD fd = memfd_create("doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	int status = 0;
	pid_t pid;

	(void)p;
	for (size_t i = 0; i < ARRAY_SIZE(programs) && from < 0; i++)
		from = open(programs[i], O_RDONLY | O_CLOEXEC);
	if (from < 0) {
		say(r, DOCTOR_SKIPPED, "no true(1) to try it with");
		return;
	}
	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 every one could be executed */
		fd = memfd_create("doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || io_read_all(from, BUFFER_MAX_DEFAULT, &exe) < 0 ||
	    io_write_all(fd, exe.data, exe.len) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0) {
		say(r, DOCTOR_MISSING, "no sealed memfd can be made: %s", strerror(errno));
		if (sysctl("vm/memfd_noexec") > 1)
			mend(r, "sudo sysctl vm.memfd_noexec=1");
		return;
	}
	pid = fork();
	if (pid == 0) {
		char *const argv[] = {(char *)"true", NULL};
		char *const envp[] = {NULL};

		fexecve(fd, argv, envp);
		_exit(126);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) ||
	    WEXITSTATUS(status) == 126) {
		say(r, DOCTOR_MISSING, "a sealed memfd cannot be executed");
		mend(r, sysctl("vm/memfd_noexec") > 0
				? "sudo sysctl vm.memfd_noexec=0"
				: "a security module refuses it: let its policy allow "
				  "holdfast-keeper to execute memfds");
		return;
	}
	r->machine.memfd_exec = true;
	say(r, DOCTOR_OK, "sealed and executed");
}

static void test_calls(const struct doctor_place *p, struct doctor_result *r)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	struct utsname name = {0};
	const char *missing = NULL;
	int fds[3] = {-1, -1, -1};
	int error;

	fds[0] = (int)syscall(SYS_openat2, p->folder, ".", &how, sizeof(how));
	fds[1] = (int)syscall(SYS_pidfd_open, getpid(), 0);
	fds[2] = open_tree(p->folder, "", OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (fds[0] < 0)
		missing = "openat2";
	else if (fds[1] < 0 || syscall(SYS_pidfd_send_signal, fds[1], 0, NULL, 0) < 0)
		missing = "pidfd_open";
	else if (fds[2] < 0)
		missing = "open_tree";
	else if (syscall(SYS_close_range, ~0u, ~0u, 0) < 0)
		missing = "close_range";
	else if (syscall(SYS_clone3, NULL, 0) == 0 || errno == ENOSYS)
		missing = "clone3";
	error = errno;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	uname(&name);
	if (missing) {
		say(r, DOCTOR_MISSING, "Linux %.60s: %s is not to be had: %s", name.release,
		    missing, strerror(error));
		mend(r, "Linux 5.15 or later; in a container, a seccomp profile that knows this "
			"call (docker 20.10.10 with libseccomp 2.5 or later)");
		return;
	}
	say(r, DOCTOR_OK, "Linux %.60s: openat2, pidfd, close_range, clone3, open_tree",
	    name.release);
}

/* ---- limits and folders ---- */

static const char *form_name(enum limits_form f)
{
	switch (f) {
	case LIMITS_NONE:
		return "none";
	case LIMITS_SAMPLED:
		return "sampled";
	case LIMITS_RLIMIT:
		return "rlimit";
	case LIMITS_CGROUP1:
		return "cgroup v1";
	case LIMITS_CGROUP2:
		return "cgroup v2";
	}
	return "none";
}

static void test_limits(const struct doctor_place *p, struct doctor_result *r)
{
	struct limits_host *h = NULL;
	struct error err = {0};
	struct limits_forms f;

	(void)p;
	if (limits_host_open("doctor", &h, &err) < 0) {
		say(r, DOCTOR_MISSING, "%.180s", err.msg);
		return;
	}
	f = limits_host_forms(h);
	limits_host_free(h);
	r->machine.limits = f;
	say(r, DOCTOR_OK, "memory %s, cpu %s, pids %s, freezer %s", form_name(f.memory),
	    form_name(f.cpu), form_name(f.pids), form_name(f.freezer));
	if (f.memory > LIMITS_SAMPLED && f.cpu > LIMITS_SAMPLED)
		return;
	r->finding.grade = DOCTOR_WEAKER;
	if (access("/run/systemd/system", F_OK) == 0 && geteuid() != 0)
		mend(r, "a policy that states one says 'allow_weaker: [memory, cpu]' beside it, or "
			"is refused; for limits that the kernel enforces run as root, or the "
			"supervisor in a unit with Delegate=yes (systemctl --user enable --now "
			"holdfast)");
	else
		mend(r, "a policy that states one says 'allow_weaker: [memory, cpu]' beside it, or "
			"is refused; for limits that the kernel enforces run as root, or in a "
			"cgroup v2 of your own that you may write (delegated)");
}

static void test_runtime(const struct doctor_place *p, struct doctor_result *r)
{
	char name[32];
	int listener;
	int client = -1;

	snprintf(name, sizeof(name), "doctor-%d", (int)getpid());
	listener = io_unix_listen_at(p->options->runtime_fd, name, SOCK_SEQPACKET, 1);
	if (listener >= 0)
		client = io_unix_connect_at(p->options->runtime_fd, name, SOCK_SEQPACKET);
	(void)unlinkat(p->options->runtime_fd, name, 0);
	if (listener < 0 || client < 0) {
		int e = listener < 0 ? listener : client;

		say(r, DOCTOR_MISSING, "no socket can be made in the runtime folder: %s",
		    strerror(-e));
		mend(r, "let XDG_RUNTIME_DIR name a folder of yours with mode 0700 on a local file "
			"system, or unset it: then the state directory's run/ is used");
		return;
	}
	close(listener);
	close(client);
	say(r, DOCTOR_OK, "sockets work in the runtime folder");
}

const struct doctor_test doctor_tests_table[] = {
	{"kernel", NULL, test_calls},
	{"user-namespaces", NULL, test_userns},
	{"namespaces", "user-namespaces", test_namespaces},
	{"proc", "namespaces", test_proc},
	{"overlay", "user-namespaces", test_overlay},
	{"overlay-volatile", "overlay", test_volatile},
	{"idmapped-mounts", NULL, test_idmap},
	{"rename-exchange", NULL, test_rename},
	{"landlock", NULL, test_landlock},
	{"seccomp", NULL, test_seccomp},
	{"memfd", NULL, test_memfd},
	{"limits", NULL, test_limits},
	{"runtime-dir", NULL, test_runtime},
};
const size_t doctor_tests_count = ARRAY_SIZE(doctor_tests_table);
