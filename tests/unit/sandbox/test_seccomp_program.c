/*
 * The filter, run by an interpreter of its own here over every number and the arguments that
 * matter, against the table and against libseccomp's word for the numbers.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <sys/ioctl.h>
#include <cmocka.h>
#include "base/guard.h"
#include "sandbox/seccomp.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

static uint32_t run(const struct buffer *b, struct seccomp_data d)
{
	const struct sock_filter *f = (const void *)b->data;
	size_t count = b->len / sizeof(*f);
	uint32_t a = 0;

	for (size_t at = 0; at < count; at++) {
		switch (f[at].code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(f[at].k + 4 <= sizeof(d) && f[at].k % 4 == 0);
			memcpy(&a, (const char *)&d + f[at].k, 4);
			break;
		case BPF_JMP | BPF_JA:
			at += f[at].k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			at += a == f[at].k ? f[at].jt : f[at].jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			at += a >= f[at].k ? f[at].jt : f[at].jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			at += a & f[at].k ? f[at].jt : f[at].jf;
			break;
		case BPF_RET | BPF_K:
			return f[at].k;
		default:
			fail_msg("instruction %x", f[at].code);
		}
	}
	fail_msg("the program has no end");
	return 0;
}

static uint32_t call(const struct buffer *b, int number, uint64_t a0, uint64_t a1, uint64_t a2)
{
	return run(b, (struct seccomp_data){.nr = number, .arch = ARCH, .args = {a0, a1, a2}});
}

enum { OK = SECCOMP_RET_ALLOW };
#define NO(e) (SECCOMP_RET_ERRNO | (e))

static void every_number_is_decided_as_the_table_says(void **state)
{
	(void)state;
	for (uint32_t flags = 0; flags < 4; flags++) {
		AUTO_BUFFER b = {0};
		uint8_t table[SECCOMP_CALLS_MAX];

		seccomp_table(flags, table);
		assert_int_equal(seccomp_program(flags, &b, NULL), 0);
		assert_true(b.len / 8 <= SECCOMP_PROGRAM_MAX);
		for (int n = -1; n < 2000; n++) {
			uint32_t got = call(&b, n, 0, 0, 0);
			switch (n < 0 || n >= SECCOMP_CALLS_MAX ? SECCOMP_UNKNOWN : table[n]) {
			case SECCOMP_UNKNOWN:
#if defined(__x86_64__)
				assert_int_equal(got,
						 n < 0 ? SECCOMP_RET_KILL_PROCESS : NO(ENOSYS));
#endif
				break;
			case SECCOMP_ALLOW:
				assert_int_equal(got, OK);
				break;
			case SECCOMP_PLAIN_EPERM:
				assert_int_equal(got, NO(EPERM));
				break;
			case SECCOMP_REPORTED:
				assert_int_equal(got, SECCOMP_RET_USER_NOTIF);
				break;
			default:
				break; /* by argument: below */
			}
		}
	}
}

static void arguments_are_compared_as_the_kernel_reads_them(void **state)
{
	static const struct {
		int number;
		uint64_t a0, a1, a2;
		uint32_t want;
	} rows[] = {
		{SYS_ioctl, 0, TIOCSTI, 0, NO(EPERM)},
		{SYS_ioctl, 0, TIOCSTI | 1ULL << 32, 0, NO(EPERM)},
		{SYS_ioctl, 0, TIOCLINUX | 0xffffffffULL << 32, 0, NO(EPERM)},
		{SYS_ioctl, 0, TIOCSETD | 1ULL << 33, 0, NO(EPERM)},
		{SYS_ioctl, 0, TCGETS, 0, OK},
		{SYS_prlimit64, 0, 0, 0, OK},
		{SYS_prlimit64, 1, 0, 0, NO(EPERM)},
		{SYS_prlimit64, 1 | 1ULL << 32, 0, 0, NO(EPERM)},
		{SYS_clone, 17, 0, 0, OK},
		{SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, 0, 0, OK},
		{SYS_clone, CLONE_NEWUSER | 17, 0, 0, NO(EPERM)},
		{SYS_clone, CLONE_NEWNET, 0, 0, NO(EPERM)},
		{SYS_clone, CLONE_NEWUSER | 1ULL << 40, 0, 0, NO(EPERM)},
		{SYS_clone3, 0, 0, 0, NO(ENOSYS)},
		{SYS_socket, AF_UNIX, SOCK_STREAM, 0, OK},
		{SYS_socket, AF_INET, SOCK_STREAM, 6, OK},
		{SYS_socket, AF_INET6, SOCK_DGRAM, 17, OK},
		{SYS_socket, AF_INET, SOCK_STREAM, 262, NO(EPROTONOSUPPORT)},
		{SYS_socket, AF_NETLINK, SOCK_RAW, 0, OK},
		{SYS_socket, AF_NETLINK, SOCK_RAW, 15, NO(EAFNOSUPPORT)},
		{SYS_socket, AF_VSOCK, SOCK_STREAM, 0, NO(EAFNOSUPPORT)},
		{SYS_socket, AF_VSOCK | 1ULL << 32, SOCK_STREAM, 0, NO(EAFNOSUPPORT)},
		{SYS_socket, AF_PACKET, SOCK_RAW, 0, NO(EAFNOSUPPORT)},
		{SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, OK},
		{SYS_socketpair, AF_TIPC, SOCK_STREAM, 0, NO(EAFNOSUPPORT)},
		{SYS_personality, 0, 0, 0, OK},
		{SYS_personality, 0xffffffff, 0, 0, OK},
		{SYS_personality, ADDR_NO_RANDOMIZE, 0, 0, NO(EPERM)},
		{SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 0, OK},
		{SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0,
		 NO(EPERM)},
		{SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | 1, 0,
		 NO(EPERM)},
		{SYS_mount, 0, 0, 0, SECCOMP_RET_USER_NOTIF},
		{SYS_fchmod, 3, 04755, 0, OK},
	};
	AUTO_BUFFER b = {0};

	(void)state;
	assert_int_equal(seccomp_program(SECCOMP_NOTIFY, &b, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(call(&b, rows[i].number, rows[i].a0, rows[i].a1, rows[i].a2),
				 rows[i].want);
}

static void setid_bits_have_no_way_in_where_they_are_denied(void **state)
{
	AUTO_BUFFER b = {0};

	(void)state;
	assert_int_equal(seccomp_program(SECCOMP_DENY_SETID, &b, NULL), 0);
	assert_int_equal(call(&b, SYS_fchmod, 3, 0755, 0), OK);
	assert_int_equal(call(&b, SYS_fchmod, 3, 04755, 0), NO(EPERM));
	assert_int_equal(call(&b, SYS_fchmodat, 3, 0, 02755), NO(EPERM));
	assert_int_equal(call(&b, SYS_openat2, 0, 0, 0), NO(ENOSYS));
	assert_int_equal(run(&b, (struct seccomp_data){.nr = SYS_openat,
						       .arch = ARCH,
						       .args = {0, 0, 0, 04000}}),
			 NO(EPERM));
	assert_int_equal(run(&b, (struct seccomp_data){.nr = SYS_openat,
						       .arch = ARCH,
						       .args = {0, 0, 0, 0644}}),
			 OK);
}

static void foreign_calls_die(void **state)
{
	AUTO_BUFFER b = {0};

	(void)state;
	assert_int_equal(seccomp_program(0, &b, NULL), 0);
	assert_int_equal(run(&b, (struct seccomp_data){.nr = 0, .arch = AUDIT_ARCH_I386}),
			 SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(run(&b, (struct seccomp_data){.nr = 0, .arch = AUDIT_ARCH_ARM}),
			 SECCOMP_RET_KILL_PROCESS);
#if defined(__x86_64__)
	assert_int_equal(call(&b, 0x40000000 | 39, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
#endif
}

/* What programs cannot live without, by libseccomp's names. */
static void ordinary_calls_are_allowed(void **state)
{
	static const char *const names[] = {"read",	  "write",	  "openat",	  "close",
					    "execve",	  "exit_group",	  "wait4",	  "mmap",
					    "futex",	  "rt_sigaction", "getdents64",	  "connect",
					    "epoll_wait", "pipe2",	  "renameat2",	  "statx",
					    "prlimit64",  "getrandom",	  "memfd_create", "vfork",
					    "setsid",	  "kill",	  "rseq"};
	AUTO_BUFFER b = {0};

	(void)state;
	assert_int_equal(seccomp_program(SECCOMP_NOTIFY, &b, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int number = seccomp_syscall_resolve_name(names[i]);
		if (number >= 0)
			assert_int_equal(call(&b, number, 0, 0, 0), OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_number_is_decided_as_the_table_says),
		cmocka_unit_test(arguments_are_compared_as_the_kernel_reads_them),
		cmocka_unit_test(setid_bits_have_no_way_in_where_they_are_denied),
		cmocka_unit_test(foreign_calls_die),
		cmocka_unit_test(ordinary_calls_are_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
