#include <fcntl.h>
#include <linux/filter.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>
#include "tests/adversarial/tries.h"

/* A call with arguments that change nothing, also where it is let through. */
#define CALL(name, ...)                                \
	int try_call_##name(const struct world *w)     \
	{                                              \
		(void)w;                               \
		return try_said(syscall(__VA_ARGS__)); \
	}

CALL(keyctl, SYS_keyctl, 0 /* GET_KEYRING_ID */, -3, 1, 0, 0)
CALL(add_key, SYS_add_key, "user", "holdfast-try", "y", 1, -1 /* of the thread: gone with it */)
CALL(request_key, SYS_request_key, "user", "holdfast-nobody", NULL, 0)
CALL(bpf, SYS_bpf, 0, NULL, 1UL << 20)
CALL(io_uring_register, SYS_io_uring_register, -1, 0, NULL, 0)
CALL(module, SYS_init_module, NULL, 0, NULL)
CALL(module_file, SYS_finit_module, -1, NULL, ~0U)
CALL(module_delete, SYS_delete_module, NULL, 0)
CALL(kexec, SYS_kexec_load, 0, 0, NULL, ~0UL)
CALL(kexec_file, SYS_kexec_file_load, -1, -1, 0, NULL, ~0UL)
CALL(quota, SYS_quotactl, ~0U, NULL, 0, NULL)
CALL(reboot, SYS_reboot, 0, 0, 0, NULL)
CALL(swap, SYS_swapoff, NULL)
CALL(acct, SYS_acct, "/nowhere/holdfast")
CALL(syslog, SYS_syslog, 3, NULL, -1)
CALL(kcmp, SYS_kcmp, getpid(), getpid(), 0, 0, 0)
CALL(move_pages, SYS_move_pages, 0, 0, NULL, NULL, NULL, 0)
CALL(migrate_pages, SYS_migrate_pages, 0, 1UL << 40, NULL, NULL)
CALL(process_madvise, SYS_process_madvise, -1, NULL, 0, 0, ~0U)
CALL(sysfs, SYS_sysfs, 3)
CALL(secret_memory, 447 /* memfd_secret */, 0)
/* The kernel takes the low half of the number; so must the filter. */
CALL(number_high, SYS_keyctl | (1L << 40), 0, -3, 1, 0, 0)
CALL(set_mm, SYS_prctl, PR_SET_MM, 0, 0, 0, 1)

int try_call_perf(const struct world *w)
{
	struct perf_event_attr attr = {.size = 1}; /* too small: the kernel itself says E2BIG */

	(void)w;
	return try_said(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
}

int try_call_clock(const struct world *w)
{
	char nothing[256] = {0}; /* of no mode: adjtimex then only tells */

	(void)w;
	return try_said(syscall(SYS_adjtimex, nothing));
}

int try_call_io_uring(const struct world *w)
{
	char params[120] = {0};

	(void)w;
	return try_said(syscall(SYS_io_uring_setup, 1, params));
}

int try_call_userfaultfd(const struct world *w)
{
	(void)w;
	return try_said(
		syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* USER_MODE_ONLY: nobody needs a right */));
}

int try_call_fanotify(const struct world *w)
{
	(void)w;
	return try_said(
		syscall(SYS_fanotify_init, FAN_CLASS_NOTIF | 0x200 /* REPORT_FID */, O_RDONLY));
}

int try_call_personality(const struct world *w)
{
	(void)w;
	return try_said(personality(ADDR_NO_RANDOMIZE));
}

int try_call_ldt(const struct world *w)
{
	char entry[16];

	(void)w;
#if defined(__x86_64__)
	return try_said(syscall(SYS_modify_ldt, 0, entry, sizeof(entry)));
#else
	(void)entry;
	return EPERM;
#endif
}

int try_call_ioports(const struct world *w)
{
	(void)w;
#if defined(__x86_64__)
	return try_said(syscall(SYS_ioperm, ~0UL, 1, 1)); /* past the last: EINVAL of the kernel */
#else
	return EPERM;
#endif
}

static int vm(long number)
{
	char from[4] = "abc", to[4] = "";
	struct iovec here = {to, 4}, there = {from, 4};

	return try_said(syscall(number, getpid(), &here, 1, &there, 1, 0));
}

int try_call_vm_read(const struct world *w)
{
	(void)w;
	return vm(SYS_process_vm_readv);
}

int try_call_vm_write(const struct world *w)
{
	(void)w;
	return vm(SYS_process_vm_writev);
}

int try_call_getfd(const struct world *w)
{
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0);

	(void)w;
	return self < 0 ? TRY_BROKEN : try_said(syscall(SYS_pidfd_getfd, self, 1, 0));
}

int try_call_x32(const struct world *w)
{
	(void)w;
#if defined(__x86_64__)
	return try_said(syscall(0x40000000 | 39));
#else
	return TRY_KILLED;
#endif
}

int try_call_i386(const struct world *w)
{
	(void)w;
#if defined(__x86_64__)
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory");
	return r > 0 ? TRY_REACHED : r < 0 ? (int)-r : TRY_BROKEN;
#else
	return TRY_KILLED;
#endif
}

static int listener(unsigned long flags)
{
	struct sock_filter allow[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
	struct sock_fprog p = {1, allow};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return TRY_BROKEN;
	return try_said(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p));
}

/* Its holder could answer CONTINUE to what another filter asks about. */
int try_call_listener(const struct world *w)
{
	(void)w;
	return listener(SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

int try_call_listener_high(const struct world *w)
{
	(void)w;
	return listener(SECCOMP_FILTER_FLAG_NEW_LISTENER | (1UL << 35));
}

/* The slave of a terminal of one's own, as the session's terminal: what the kernel itself asks. */
static int terminal(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	const char *name;

	if (setsid() < 0 && errno != EPERM)
		return -1;
	if (master < 0 || unlockpt(master) < 0 || !(name = ptsname(master)))
		return -1;
	return open(name, O_RDWR | O_CLOEXEC);
}

static int control(unsigned long request)
{
	char c = 'x';
	int fd = terminal();

	return fd < 0 ? TRY_BROKEN : try_said(syscall(SYS_ioctl, fd, request, &c));
}

int try_call_tiocsti(const struct world *w)
{
	(void)w;
	return control(TIOCSTI);
}

int try_call_tiocsti_high(const struct world *w)
{
	(void)w;
	return control(TIOCSTI | (1UL << 32));
}

int try_call_tioclinux(const struct world *w)
{
	(void)w;
	return control(TIOCLINUX);
}

int try_call_tioclinux_high(const struct world *w)
{
	(void)w;
	return control(TIOCLINUX | (1UL << 40));
}

/* Drivers that no step needs, some of them with a history, are behind a line discipline. */
int try_call_line_discipline(const struct world *w)
{
	int null = 27 /* N_NULL: always there, does nothing */, fd = terminal();

	(void)w;
	return fd < 0 ? TRY_BROKEN
		      : try_said(syscall(SYS_ioctl, fd, TIOCSETD | (1UL << 33), &null));
}
