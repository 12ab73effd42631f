/*
 * What an agent would try, run INSIDE a sandbox: probe ATTEMPT [ARGUMENT]. Exit 0: the wall held.
 * 1: it did not, and stdout says what happened. Static, so that it runs wherever it lies.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static int failures;

/* r is a system call's result: it must be an error, and that one where error is not 0. */
static void must_fail(const char *what, long r, int error)
{
	if (r < 0 && (error == 0 || errno == error))
		return;
	printf("%s: result %ld, errno %s, wanted %s\n", what, r,
	       r < 0 ? strerrorname_np(errno) : "none",
	       error ? strerrorname_np(error) : "an error");
	failures++;
}

static void try_write(const char *path)
{
	char what[600];

	snprintf(what, sizeof(what), "create %s", path);
	must_fail(what, open(path, O_WRONLY | O_CREAT, 0666), 0);
}

static void probe_write_system(const char *arg)
{
	(void)arg;
	try_write("/usr/probe");
	try_write("/etc/probe");
	try_write("/probe");
	try_write("/dev/probe");
	must_fail("open /etc/passwd for writing", open("/etc/passwd", O_WRONLY), 0);
	must_fail("unlink /usr/bin/env", unlink("/usr/bin/env"), 0);
	must_fail("rename /usr", rename("/usr", "/usr2"), 0);
	must_fail("chmod /usr", chmod("/usr", 0777), 0);
}

static void probe_unix_socket(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	must_fail("connect to the host's socket", connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
}

static void probe_fifo(const char *path)
{
	must_fail("open the host's FIFO, which has a reader", open(path, O_WRONLY | O_NONBLOCK), 0);
}

static void probe_abstract_socket(const char *name)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "%s", name);
	must_fail("connect to the host's abstract socket",
		  connect(fd, (struct sockaddr *)&a,
			  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))),
		  0);
}

static void probe_pid1(const char *arg)
{
	static const char *const names[] = {"mem", "environ", "maps",  "root",	 "cwd",
					    "exe", "fd",      "stack", "syscall"};
	char path[64], link[256];

	(void)arg;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "/proc/1/%s", names[i]);
		if (i >= 3 && i <= 5)
			must_fail(path, readlink(path, link, sizeof(link)), 0);
		must_fail(path, open(path, O_RDONLY), 0);
	}
	must_fail("ptrace", ptrace(PTRACE_ATTACH, 1, NULL, NULL), 0);
	struct iovec here = {link, 8}, there = {(void *)0x400000, 8};
	must_fail("process_vm_readv", syscall(SYS_process_vm_readv, 1, &here, 1, &there, 1, 0), 0);
	must_fail("pidfd_getfd", syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, 1, 0), 0, 0), 0);
	must_fail("ptrace own parent", ptrace(PTRACE_SEIZE, getppid(), NULL, NULL), 0);
}

/* Pid 1 must still be there to report our exit: whether it is, the test sees. */
static void probe_kill_pid1(const char *arg)
{
	(void)arg;
	for (int sig = 1; sig < 64; sig++)
		kill(1, sig);
	usleep(100000);
}

static void probe_namespaces(const char *arg)
{
	static const int flags[] = {CLONE_NEWUSER, CLONE_NEWNS,	 CLONE_NEWPID,	 CLONE_NEWNET,
				    CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP};
	struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};

	(void)arg;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		must_fail("unshare", unshare(flags[i]), EPERM);
		long pid = syscall(SYS_clone, (unsigned long)flags[i] | SIGCHLD, NULL, NULL, NULL,
				   NULL);
		if (pid == 0)
			_exit(0);
		must_fail("clone with a namespace", pid, EPERM);
	}
	must_fail("clone3", syscall(SYS_clone3, &args, sizeof(args)), ENOSYS);
	int fd = open("/proc/self/ns/mnt", O_RDONLY);
	must_fail("setns", setns(fd, 0), EPERM);
}

static void probe_mounts(const char *arg)
{
	struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY};

	(void)arg;
	must_fail("mount", mount("tmpfs", "/tmp", "tmpfs", 0, NULL), EPERM);
	must_fail("remount", mount(NULL, "/usr", NULL, MS_REMOUNT | MS_BIND, NULL), EPERM);
	must_fail("umount", umount2("/proc", MNT_DETACH), EPERM);
	must_fail("pivot_root", syscall(SYS_pivot_root, ".", "."), EPERM);
	must_fail("chroot", chroot("/tmp"), EPERM);
	must_fail("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1), EPERM);
	must_fail("fsopen", syscall(SYS_fsopen, "tmpfs", 0), EPERM);
	must_fail("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/usr", 0),
		  EPERM);
	must_fail("mount_setattr",
		  syscall(SYS_mount_setattr, AT_FDCWD, "/usr", 0, &attr, sizeof(attr)), EPERM);
}

static void probe_terminal(const char *arg)
{
	char c = 'x';

	(void)arg;
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	if (master < 0 || unlockpt(master) < 0) {
		printf("no terminal of our own\n");
		failures++;
	}
	must_fail("TIOCSTI", syscall(SYS_ioctl, master, TIOCSTI, &c), EPERM);
	must_fail("TIOCSTI with high bits", syscall(SYS_ioctl, master, TIOCSTI | (1UL << 32), &c),
		  EPERM);
	must_fail("TIOCLINUX with high bits",
		  syscall(SYS_ioctl, master, TIOCLINUX | (1UL << 40), &c), EPERM);
}

static void probe_kernel(const char *arg)
{
	char buf[128] = {0};

	(void)arg;
	must_fail("keyctl", syscall(SYS_keyctl, 0, -3, 0, 0, 0), EPERM);
	must_fail("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3), EPERM);
	must_fail("bpf", syscall(SYS_bpf, 0, buf, sizeof(buf)), EPERM);
	must_fail("perf_event_open", syscall(SYS_perf_event_open, buf, 0, -1, -1, 0), EPERM);
	must_fail("io_uring_setup", syscall(SYS_io_uring_setup, 8, buf), EPERM);
	must_fail("userfaultfd", syscall(SYS_userfaultfd, 0), EPERM);
	must_fail("init_module", syscall(SYS_init_module, buf, 0, ""), EPERM);
	must_fail("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0), EPERM);
	must_fail("quotactl", syscall(SYS_quotactl, 0, NULL, 0, NULL), EPERM);
	must_fail("fanotify_init", syscall(SYS_fanotify_init, 0, 0), EPERM);
	must_fail("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, buf, 0), EPERM);
	must_fail("personality", personality(ADDR_NO_RANDOMIZE), EPERM);
	must_fail("sethostname", sethostname("x", 1), EPERM);
	must_fail("reboot", syscall(SYS_reboot, 0, 0, 0, NULL), EPERM);
	must_fail("an unknown call", syscall(590), ENOSYS);
}

static void probe_listener(const char *arg)
{
	struct sock_filter allow[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
	struct sock_fprog p = {1, allow};

	(void)arg;
	must_fail("a listener of our own",
		  syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			  &p),
		  EPERM);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p) < 0) {
		printf("a plain filter of our own: %s\n", strerrorname_np(errno));
		failures++;
	}
}

static void probe_sockets(const char *arg)
{
	(void)arg;
	must_fail("AF_VSOCK", socket(AF_VSOCK, SOCK_STREAM, 0), EAFNOSUPPORT);
	must_fail("AF_PACKET", socket(AF_PACKET, SOCK_RAW, 0), EAFNOSUPPORT);
	must_fail("AF_ALG", socket(AF_ALG, SOCK_SEQPACKET, 0), EAFNOSUPPORT);
	must_fail("netlink uevents", socket(AF_NETLINK, SOCK_RAW, 15), EAFNOSUPPORT);
	must_fail("sctp", socket(AF_INET, SOCK_STREAM, 132), EPROTONOSUPPORT);
	must_fail("a raw socket", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), 0);
	must_fail("the family's high bits",
		  syscall(SYS_socket, AF_VSOCK | (1UL << 32), SOCK_STREAM, 0), EAFNOSUPPORT);
}

static void must_die(const char *what, void (*fn)(void))
{
	int status;

	pid_t pid = fork();
	if (pid == 0) {
		fn();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS) {
		printf("%s: status %x\n", what, status);
		failures++;
	}
}

#if defined(__x86_64__)
static void call_x32(void)
{
	syscall(0x40000000 | 39);
}

static void call_i386(void)
{
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory");
	(void)r;
}
#endif

static void probe_foreign(const char *arg)
{
	(void)arg;
#if defined(__x86_64__)
	must_die("x32", call_x32);
	must_die("i386", call_i386);
#endif
}

static void probe_rights(const char *arg)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2];

	(void)arg;
	if (syscall(SYS_capget, &head, caps) < 0 ||
	    caps[0].effective | caps[0].permitted | caps[0].inheritable | caps[1].permitted) {
		printf("capabilities\n");
		failures++;
	}
	if (prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) != 0 ||
	    prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
		printf("bounding set, or no_new_privs\n");
		failures++;
	}
	must_fail("securebits", prctl(PR_SET_SECUREBITS, 0), 0);
	must_fail("setgroups", syscall(SYS_setgroups, 0, NULL), 0);
	must_fail("a user id of others", setresuid(65534, 65534, 65534), 0);
	must_fail("a block device", mknod("device", S_IFBLK | 0600, makedev(254, 0)), 0);
	must_fail("/proc/sys", open("/proc/sys/kernel/hostname", O_WRONLY), 0);
	must_fail("/proc/sys/net", open("/proc/sys/net/ipv4/ip_forward", O_WRONLY), 0);
	must_fail("sysrq", open("/proc/sysrq-trigger", O_WRONLY), 0);
	must_fail("/dev/kmsg", open("/dev/kmsg", O_RDONLY), 0);
	must_fail("/etc/shadow", open("/etc/shadow", O_RDONLY), 0);
}

static int connect_to(const char *address, int port, int type)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, type, 0);

	inet_pton(AF_INET, address, &a.sin_addr);
	int r = connect(fd, (struct sockaddr *)&a, sizeof(a));
	if (r == 0 && type == SOCK_DGRAM)
		r = (int)send(fd, "x", 1, 0) < 0 ? -1 : 0;
	close(fd);
	return r;
}

static void probe_network(const char *port)
{
	must_fail("1.1.1.1", connect_to("1.1.1.1", 53, SOCK_STREAM), ENETUNREACH);
	must_fail("1.1.1.1 by UDP", connect_to("1.1.1.1", 53, SOCK_DGRAM), ENETUNREACH);
	must_fail("metadata", connect_to("169.254.169.254", 80, SOCK_STREAM), ENETUNREACH);
	must_fail("the host's loopback", connect_to("127.0.0.1", atoi(port), SOCK_STREAM),
		  ECONNREFUSED);
	must_fail("an unlisted port of a synthetic address",
		  connect_to("198.18.0.1", 443, SOCK_STREAM), ECONNREFUSED);
}

static bool finds(const char *path, const char *word)
{
	static char text[65536];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	close(fd);
	return strstr(text, word) != NULL;
}

/* arg: the folder that holds state and run. */
static void probe_own_folders(const char *dir)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/state/v1", dir);
	must_fail("the state directory", open(path, O_RDONLY), 0);
	snprintf(path, sizeof(path), "%s/state", dir);
	must_fail("list the state directory", open(path, O_RDONLY | O_DIRECTORY), 0);
	snprintf(path, sizeof(path), "%s/run", dir);
	must_fail("list the runtime directory", open(path, O_RDONLY | O_DIRECTORY), 0);
	snprintf(path, sizeof(path), "%s/state/v1/keeper", dir);
	must_fail("the keeper's socket", open(path, O_PATH), 0);
	probe_unix_socket(path);
	snprintf(path, sizeof(path), "%s/state", dir);
	must_fail("move the state directory's mask away", rename(path, "/tmp/x"), 0);
	must_fail("open it by mode", chmod(path, 0777), 0);
	if (finds("/proc/self/mountinfo", "spool") || finds("/proc/self/mountinfo", "layers") ||
	    finds("/proc/1/cmdline", "holdfast") || finds("/proc/1/mountinfo", "spool")) {
		printf("a path of ours shows\n");
		failures++;
	}
}

static void probe_descriptors(const char *arg)
{
	DIR *d = opendir("/proc/self/fd");

	(void)arg;
	for (struct dirent *e; d && (e = readdir(d));) {
		int fd = atoi(e->d_name);
		if (e->d_name[0] != '.' && fd > 2 && fd != dirfd(d)) {
			printf("descriptor %d\n", fd);
			failures++;
		}
	}
	must_fail("stdin's folder", openat(0, "..", O_RDONLY), 0);
}

/* The test looks for the word in the host's processes once we are gone. */
static void probe_daemon(const char *word)
{
	for (int i = 0; i < 3; i++) {
		if (fork() == 0) {
			setsid();
			signal(SIGTERM, SIG_IGN);
			signal(SIGHUP, SIG_IGN);
			prctl(PR_SET_PDEATHSIG, 0);
			if (fork() > 0)
				_exit(0);
			execl("/usr/bin/sleep", word, "1000", NULL);
			_exit(1);
		}
	}
	usleep(200000);
}

static void probe_fork_bomb(const char *max)
{
	int n = 0;

	while (n < 10000) {
		pid_t pid = fork();
		if (pid < 0)
			break;
		if (pid == 0) {
			pause();
			_exit(0);
		}
		n++;
	}
	if (n > atoi(max)) {
		printf("%d processes\n", n);
		failures++;
	}
}

static void probe_setid_bits(const char *arg)
{
	int fd = open("file", O_CREAT | O_WRONLY, 0755);

	(void)arg;
	must_fail("chmod u+s", fchmod(fd, 04755), EPERM);
	must_fail("chmod g+s", chmod("file", 02755), EPERM);
	must_fail("open with u+s", open("file2", O_CREAT | O_WRONLY, 04755), EPERM);
	must_fail("openat2", syscall(SYS_openat2, AT_FDCWD, "file3", NULL, 0), ENOSYS);
}

static void probe_host_process(const char *pid)
{
	char path[64];

	must_fail("signal a process of the host", kill(atoi(pid), 0), ESRCH);
	snprintf(path, sizeof(path), "/proc/%s", pid);
	must_fail("see a process of the host", open(path, O_RDONLY), ENOENT);
}

/* Hides from the clock, and from whoever looks for children: two forks away, deaf, in sessions of
 * their own. */
static void probe_dodge(const char *word)
{
	for (int sig = 1; sig < 65; sig++)
		signal(sig, SIG_IGN);
	for (int i = 0; i < 3; i++) {
		if (fork() == 0) {
			setsid();
			prctl(PR_SET_PDEATHSIG, 0);
			if (fork() > 0)
				_exit(0);
			if (i == 0) {
				signal(SIGSTOP, SIG_DFL);
				raise(SIGSTOP);
			}
			execl("/usr/bin/sleep", word, "1000", NULL);
			_exit(1);
		}
	}
	(void)!write(1, "away\n", 5);
	for (;;)
		pause();
}

static long own_listener(void)
{
	struct sock_filter allow[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
	struct sock_fprog p = {1, allow};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &p);
}

/* Far past what is reported; whether anybody still listens, the answer is an error. */
static void probe_flood(const char *arg)
{
	static const long calls[] = {SYS_mount,	 SYS_ptrace,	     SYS_bpf,  SYS_keyctl,
				     SYS_setns,	 SYS_userfaultfd,    SYS_acct, SYS_swapon,
				     SYS_reboot, SYS_io_uring_setup, SYS_kcmp, SYS_perf_event_open};

	(void)arg;
	for (int i = 0; i < 20000 && !failures; i++)
		must_fail("a denied call", syscall(calls[i % 12], 0, 0, 0, 0, 0, 0), 0);
	must_fail("a listener of our own after the last report", own_listener(), EPERM);
	must_fail("a mount after the last report", mount("tmpfs", "/tmp", "tmpfs", 0, NULL), 0);
}

/* Until somebody ends us: what is let through leaves a file. */
static void probe_haunt(const char *arg)
{
	(void)arg;
	(void)!open("began", O_CREAT | O_WRONLY, 0600);
	for (;;) {
		if (own_listener() >= 0)
			(void)!open("reached-listener", O_CREAT | O_WRONLY, 0600);
		if (mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0)
			(void)!open("reached-mount", O_CREAT | O_WRONLY, 0600);
		if (unshare(CLONE_NEWUSER) == 0)
			(void)!open("reached-unshare", O_CREAT | O_WRONLY, 0600);
	}
}

/* As many as it may have, always new ones. */
static void probe_bomb_on(const char *arg)
{
	(void)arg;
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		if (fork() == 0) {
			for (int i = 0; i < 1000; i++)
				(void)getppid();
			_exit(0);
		}
	}
}

/* Some MiB, a little at a time, and then round and round. */
static void probe_hog(const char *mib)
{
	size_t max = (size_t)atoi(mib);
	char **piece = calloc(max, sizeof(*piece));

	for (size_t i = 0; piece; i++) {
		if (!piece[i % max])
			piece[i % max] = malloc(1 << 20);
		if (piece[i % max])
			memset(piece[i % max], (int)i | 1, 1 << 20);
		usleep(2000);
	}
}

static const struct {
	const char *name;
	void (*fn)(const char *arg);
} probes[] = {
	{"write-system", probe_write_system},
	{"unix-socket", probe_unix_socket},
	{"fifo", probe_fifo},
	{"abstract-socket", probe_abstract_socket},
	{"pid1", probe_pid1},
	{"kill-pid1", probe_kill_pid1},
	{"namespaces", probe_namespaces},
	{"mounts", probe_mounts},
	{"terminal", probe_terminal},
	{"kernel", probe_kernel},
	{"listener", probe_listener},
	{"sockets", probe_sockets},
	{"foreign", probe_foreign},
	{"rights", probe_rights},
	{"network", probe_network},
	{"own-folders", probe_own_folders},
	{"descriptors", probe_descriptors},
	{"daemon", probe_daemon},
	{"fork-bomb", probe_fork_bomb},
	{"setid-bits", probe_setid_bits},
	{"host-process", probe_host_process},
	{"dodge", probe_dodge},
	{"flood", probe_flood},
	{"haunt", probe_haunt},
	{"bomb-on", probe_bomb_on},
	{"hog", probe_hog},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc >= 2 && i < sizeof(probes) / sizeof(probes[0]); i++) {
		if (strcmp(argv[1], probes[i].name) == 0) {
			probes[i].fn(argc > 2 ? argv[2] : "");
			return failures ? 1 : 0;
		}
	}
	return 2;
}
