#pragma once
/*
 * Wall 6: the system call filter, as BPF bytes that init loads without looking.
 *
 * An allow-list by named groups. Unknown and new calls: ENOSYS. Foreign architectures and x32: the
 * process dies. Calls whose danger lies in an argument are compared in 32 bits, as the kernel reads
 * them (TIOCSTI with high bits set passes a 64-bit comparison). libseccomp knows the numbers; the
 * program is our own, a binary search over ranges: some 6 steps a call and 33 us to load where
 * libseccomp's list takes 300 and 330 (measured on 6.18).
 *
 * Rare denied calls are reported (SECCOMP_RET_USER_NOTIF): the listener's answer is always an
 * error, and without a listener the kernel's own is ENOSYS, so a report is telemetry and never the
 * wall.
 */
#include "base/buffer.h"
#include "base/error.h"

enum seccomp_flags {
	SECCOMP_NOTIFY = 1 << 0, /* report rare denied calls; without it they are a plain EPERM */
	SECCOMP_DENY_SETID = 1 << 1, /* no call that could give a file a setuid or setgid bit */
};

enum { SECCOMP_CALLS_MAX = 600, SECCOMP_PROGRAM_MAX = 1024 };

enum seccomp_action {
	SECCOMP_UNKNOWN = 0, /* ENOSYS */
	SECCOMP_ALLOW,
	SECCOMP_PLAIN_EPERM,
	SECCOMP_REPORTED, /* EPERM and a report */
	SECCOMP_CHECK_CLONE,
	SECCOMP_CHECK_IOCTL,
	SECCOMP_CHECK_SOCKET,
	SECCOMP_CHECK_SOCKETPAIR,
	SECCOMP_CHECK_PERSONALITY,
	SECCOMP_CHECK_PRCTL,
	SECCOMP_CHECK_SECCOMP,
	SECCOMP_CHECK_PRLIMIT,
	SECCOMP_CHECK_MODE1, /* DENY_SETID: mode in the argument of that number */
	SECCOMP_CHECK_MODE2,
	SECCOMP_CHECK_MODE3,
	SECCOMP_ACTIONS,
};

/* Appends struct sock_filter[]. -ENOTSUP on an architecture without a list. */
MUST_CHECK int seccomp_program(uint32_t flags, struct buffer *out, struct error *err);
/* What the program is made of: an enum seccomp_action for each number of the native table; what
 * libseccomp has no name for is SECCOMP_UNKNOWN, as is every number past it. */
void seccomp_table(uint32_t flags, uint8_t actions[SECCOMP_CALLS_MAX]);
