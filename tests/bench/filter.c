/*
 * Writes to stdout, as BPF, a seccomp filter that allows every call the kernel's table names up to
 * a number and refuses the rest with EPERM: the size of filter (some 300 calls) that a sandbox with
 * an allow-list loads, for the peers that take one by descriptor. Linear, as libseccomp makes it
 * unless told otherwise, and as those peers' users have it.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CALLS = 300, NUMBERS = 512 };

int main(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int e = ctx ? 0 : -ENOMEM, calls = 0;
	for (int nr = 0; e == 0 && nr < NUMBERS && calls < CALLS; nr++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);
		if (name) {
			e = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
			calls++;
		}
		free(name);
	}
	if (e == 0)
		e = seccomp_export_bpf(ctx, STDOUT_FILENO);
	seccomp_release(ctx);
	if (e < 0)
		fprintf(stderr, "filter: %d\n", e);
	return e < 0;
}
