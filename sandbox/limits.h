#pragma once
/*
 * Limits of one sandbox, enforced from outside by its keeper (wall 7). Three forms, chosen once by
 * doing: cgroup v2 in a delegated subtree of our own; cgroup v1 or hybrid where we are root;
 * sampling of the sandbox's processes through /proc with SIGKILL on excess, over rlimits that the
 * sandbox sets on itself, anywhere. Each limit has its own form: on a hybrid machine memory may be
 * v1 and the freezer v2.
 *
 * Not here: wall time (a timerfd of the keeper), output (the spool), disk and files (sealer's
 * USAGE). Nothing here blocks for longer than one write to a control file; single thread, no
 * globals.
 */
#include <sys/types.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/guard.h"

enum { LIMITS_SAMPLE_MS = 100, LIMITS_TAG_SIZE = 17 };

enum limits_form {
	LIMITS_NONE = 0, /* not asked for, or not to be had */
	LIMITS_SAMPLED = 1, /* weaker: noticed up to LIMITS_SAMPLE_MS late, and what ended unseen is
			       not counted */
	LIMITS_RLIMIT = 2, /* pids only: RLIMIT_NPROC in a user namespace of the step's own. The
			      step's init sets it */
	LIMITS_CGROUP1 = 3,
	LIMITS_CGROUP2 = 4,
};

/* What is asked for; 0 = no limit. */
struct limits_want {
	uint64_t memory_bytes;
	uint64_t cpu_ns; /* CPU time of all processes together */
	uint32_t pids; /* processes and threads of the step, its pid 1 not counted */
	bool weaker_memory; /* allow_weaker names it: sampling will do, and so will nothing where
			       even that is not to be had */
	bool weaker_cpu;
};

struct limits_forms {
	enum limits_form memory, cpu, pids, freezer;
};

/* The first limit that was passed; the sandbox was killed for it. */
enum limits_hit { LIMITS_OK = 0, LIMITS_HIT_MEMORY = 1, LIMITS_HIT_CPU = 2 };

struct limits_usage {
	uint64_t memory_bytes; /* now */
	uint64_t memory_peak_bytes; /* the highest seen */
	uint64_t cpu_ns;
	uint32_t pids; /* processes now; 0 where nothing counts them */
	uint64_t pids_refused; /* times that the kernel refused a further process: the step saw
				  EAGAIN and goes on */
	bool oom_killed; /* the kernel ended a process of this sandbox for memory */
};

struct limits_host; /* opaque: what this machine has, found once, and our groups */
struct limits; /* opaque: one sandbox's */

/* Finds what can be enforced, by doing, and removes what dead keepers left behind, of any tag. tag
 * tells the groups of one state directory from another's: 1 to 16 bytes of [a-z0-9]. Never fails
 * for want of a cgroup. With cgroup v2 this process may be moved to a group of its own below the
 * one it was in: controllers can be had only beside it. */
MUST_CHECK int limits_host_open(const char *tag, struct limits_host **ret, struct error *err);
void limits_host_free(struct limits_host *h); /* removes our own empty folders; accepts NULL */
DEFINE_GUARD(struct limits_host *, limits_host_free)
/* The strongest form of each that this machine offers. */
struct limits_forms limits_host_forms(const struct limits_host *h);

/* Makes the groups for one sandbox called name (1 to 40 bytes of [a-z0-9]). -ENOTSUP with the name
 * of the limit and the remedy in the message when one cannot be enforced and is not allowed to be
 * weaker. h must outlive *ret. */
MUST_CHECK int limits_prepare(struct limits_host *h, const char *name,
			      const struct limits_want *want, struct limits **ret,
			      struct error *err);
struct limits_forms limits_forms(const struct limits *l);
/* How pid 1 gets into its groups. Moving a process from outside takes the kernel's
 * cgroup_threadgroup_rwsem: one RCU grace period, 10 ms and more when none was moved lately
 * (measured on 6.18). A single-threaded process that writes "0" to v1's `tasks` itself (the
 * opener's credentials count), or is cloned into its group of v2, waits for nothing. */
struct limits_entries {
	int cgroup2; /* borrowed, for clone3(CLONE_INTO_CGROUP); -1 = none */
	int tasks[4]; /* owned by the caller: open for writing, one for each group of v1 */
	size_t task_count;
};
MUST_CHECK int limits_entries(const struct limits *l, struct limits_entries *ret,
			      struct error *err);
/* The sandbox's pid 1 (pid of our own namespace); pidfd is borrowed for the life of l: signals go
 * through it. What it did not enter by itself it is moved into, and must be childless and waiting
 * for that. */
MUST_CHECK int limits_attach(struct limits *l, pid_t pid, int pidfd, bool entered_v1,
			     bool entered_v2, struct error *err);
/* Measures, and kills pid 1 (and so all) where a limit is passed; a process that the kernel ended
 * for memory counts as that. Call every LIMITS_SAMPLE_MS while the step runs, and once after it
 * ended. Returns enum limits_hit or a negative errno; what was hit once is told again. */
MUST_CHECK int limits_sample(struct limits *l, struct limits_usage *ret);
/* -ENOTSUP without a freezer: nothing is frozen then. */
MUST_CHECK int limits_freeze(struct limits *l, bool frozen);
/* Kills what is left in the groups and removes them. Groups whose processes are still dying are
 * removed later: by the next limits_prepare, limits_free or limits_host_free. Accepts NULL. */
void limits_free(struct limits *l);
DEFINE_GUARD(struct limits *, limits_free)
