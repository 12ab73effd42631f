/*
 * How a child becomes the sealer: capabilities made ambient, descriptors closed, executed. Raw
 * system calls on prepared data only, since the child may come from a clone of a process with
 * state.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "sandbox/sealer.h"

/* Over files of the namespace's own uids, whatever their modes: read and walk, link and chmod, keep
 * setgid bits that a squashed folder had. Nothing over the network, mounts, other processes. */
static const int kept[] = {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID};

static int keep_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
		bool keep = false;

		for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
			keep = keep || kept[i] == cap;
		if (!keep && prctl(PR_CAPBSET_DROP, cap) < 0)
			return -errno;
	}
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		data[CAP_TO_INDEX(kept[i])].permitted |= CAP_TO_MASK(kept[i]);
		data[CAP_TO_INDEX(kept[i])].effective |= CAP_TO_MASK(kept[i]);
		data[CAP_TO_INDEX(kept[i])].inheritable |= CAP_TO_MASK(kept[i]);
	}
	if (syscall(SYS_capset, &head, data) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept[i], 0, 0) < 0)
			return -errno;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

int sealer_exec(int exe, int sock)
{
	static char name[] = "holdfast-sealer";
	char *const argv[] = {name, NULL};
	char *envp[FAILPOINT_ENV_MAX + 1];
	int r = keep_capabilities();
	int program;

	if (r < 0)
		return r;
	failpoint_env(envp);
	/* Both away from the low numbers first: either may be the other's place. */
	program = fcntl(exe, F_DUPFD_CLOEXEC, SEALER_FD + 8);
	sock = fcntl(sock, F_DUPFD_CLOEXEC, SEALER_FD + 8);
	if (program < 0 || sock < 0)
		return -errno;
	if (dup2(sock, SEALER_FD) < 0 || dup3(program, SEALER_FD + 1, O_CLOEXEC) < 0)
		return -errno;
	if (syscall(SYS_close_range, SEALER_FD + 2, ~0u, 0) < 0)
		return -errno;
	syscall(SYS_execveat, SEALER_FD + 1, "", argv, envp, AT_EMPTY_PATH);
	return -errno;
}
