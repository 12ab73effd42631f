/* Names of system calls, from libseccomp's tables. */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include "sandbox/sandbox.h"

const char *sandbox_call_name(int32_t number, char *buf, size_t size)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);

	snprintf(buf, size, "%s", name ? name : "");
	free(name);
	return buf;
}
