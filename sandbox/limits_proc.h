#pragma once
/* What /proc tells of a sandbox's processes, found from its pid 1 downwards: the weaker form of
 * limits. */
#include <stdbool.h>
#include <sys/types.h>
#include "base/error.h"

enum { LIMITS_PROC_MAX = 16384 }; /* processes looked at in one sample */

struct limits_proc_sum {
	uint64_t rss_bytes;
	uint64_t pss_bytes; /* 0 unless asked for */
	uint64_t cpu_ns; /* of the living, and of the dead that a living one waited for */
	uint32_t pids; /* threads */
};

/* 0 also when pid is gone (a sum of zeros). A process that ends under the walk counts for nothing.
 * with_pss costs a walk along the page tables of each. */
MUST_CHECK int limits_proc_sample(pid_t pid, bool with_pss, struct limits_proc_sum *ret);
/* Whether this machine has what limits_proc_sample needs: /proc/PID/task/TID/children
 * (CONFIG_PROC_CHILDREN). */
bool limits_proc_available(void);
/* Start time in clock ticks since boot: with the pid it names a process for good. -ESRCH. */
MUST_CHECK int limits_proc_start(pid_t pid, uint64_t *ret);
