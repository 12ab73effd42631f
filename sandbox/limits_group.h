#pragma once
/*
 * Control groups as limits.c and limits_host.c share them: where ours are made, and small reads and
 * writes of their files. Inside limits_* only.
 *
 * A group is called holdfast-TAG-PID.START.NS-NAME, PID, START (field 22 of /proc/PID/stat) and NS
 * (inode of the pid namespace) those of the keeper that made it, so that any other keeper knows
 * whether someone still minds it: also one of another state directory, since that of a dead keeper
 * may never be used again.
 */
#include "sandbox/limits.h"

enum {
	LIMITS_GROUP_PLACES_MAX = 5, /* v2, and v1's memory, cpuacct, pids, freezer */
	LIMITS_GROUP_NAME_SIZE = 128,
	LIMITS_GROUP_TAG_MAX = LIMITS_TAG_SIZE - 1,
	LIMITS_GROUP_OWN_MAX = 40,
};

/* Behind the own prefix: the group that the keeper itself is in. No sandbox can have that name. */
#define LIMITS_GROUP_SELF   "-self"
#define LIMITS_GROUP_PREFIX "holdfast-"

/* One hierarchy, and the folder in it below which our groups are. */
struct limits_place {
	int dir;
	bool v2;
	uint64_t dev, ino; /* of dir: v1 controllers may be mounted together */
};

struct limits_role {
	enum limits_form form;
	int place; /* index, or -1 */
};

enum limits_role_name {
	LIMITS_ROLE_MEMORY,
	LIMITS_ROLE_CPU,
	LIMITS_ROLE_PIDS,
	LIMITS_ROLE_FREEZER,
	LIMITS_ROLES,
};

struct limits_host {
	char own[LIMITS_GROUP_NAME_SIZE]; /* holdfast-TAG-PID.START.NS- */
	struct limits_place places[LIMITS_GROUP_PLACES_MAX];
	size_t place_count;
	struct limits_role roles[LIMITS_ROLES];
	struct limits *live; /* list */
	bool left_over; /* a group could not be removed yet */
};

MUST_CHECK int limits_group_write(int dir, const char *file, const char *text);
/* -ENODATA where the file has no number; "max" reads as UINT64_MAX. */
MUST_CHECK int limits_group_read(int dir, const char *file, uint64_t *ret);
/* The number behind key in a file of "key number" lines. */
MUST_CHECK int limits_group_read_key(int dir, const char *file, const char *key, uint64_t *ret);
/* Kills every process of the group, thawing it if need be, and removes its folder. -EBUSY while
 * they are dying. */
MUST_CHECK int limits_group_remove(const struct limits_place *p, const char *name);
/* Removes every group of dead keepers, and of our own that no live sandbox has. */
void limits_group_sweep(struct limits_host *h);
/* Whether a sandbox of that name is held by one of h's struct limits (limits.c). */
bool limits_has(const struct limits_host *h, const char *name);
/* PID.START.NS of a process of our own pid namespace, or -ESRCH. */
MUST_CHECK int limits_group_identity(pid_t pid, char *buf, size_t size);
