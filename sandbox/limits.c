#include "sandbox/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/guard.h"
#include "sandbox/limits_group.h"
#include "sandbox/limits_proc.h"

struct limits {
	struct limits_host *host;
	struct limits *next;
	char name[LIMITS_GROUP_OWN_MAX + 1];
	int group[LIMITS_GROUP_PLACES_MAX]; /* by place; -1 = not used by this sandbox */
	struct limits_role roles[LIMITS_ROLES];
	struct limits_want want;
	pid_t pid;
	int pidfd; /* borrowed */
	bool frozen;
	enum limits_hit hit;
	struct limits_usage peak; /* of what is only seen in passing */
};

bool limits_has(const struct limits_host *h, const char *name)
{
	for (const struct limits *l = h->live; l; l = l->next)
		if (strcmp(l->name, name) == 0)
			return true;
	return false;
}

static int group_of(const struct limits *l, enum limits_role_name role)
{
	int place = l->roles[role].place;

	return place < 0 ? -1 : l->group[place];
}

static void group_name(const struct limits *l, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s", l->host->own, l->name);
}

static bool weaker_will_do(const struct limits_want *w, enum limits_role_name role)
{
	return role == LIMITS_ROLE_MEMORY ? w->weaker_memory
					  : role == LIMITS_ROLE_CPU && w->weaker_cpu;
}

static bool wanted(const struct limits_want *w, enum limits_role_name role)
{
	switch (role) {
	case LIMITS_ROLE_MEMORY:
		return w->memory_bytes > 0;
	case LIMITS_ROLE_CPU:
		return w->cpu_ns > 0;
	case LIMITS_ROLE_PIDS:
		return w->pids > 0;
	case LIMITS_ROLE_FREEZER:
		return true;
	case LIMITS_ROLES:
		break;
	}
	return false;
}

/* Says no where a limit is asked for that this machine has only in a weaker form, or in none. */
static int choose(struct limits *l, struct error *err)
{
	static const char *const names[LIMITS_ROLES] = {"memory", "cpu", "pids", "freezer"};

	for (int i = 0; i < LIMITS_ROLES; i++) {
		enum limits_role_name role = (enum limits_role_name)i;
		struct limits_role has = l->host->roles[role];

		l->roles[role] = (struct limits_role){LIMITS_NONE, -1};
		/* Groups are used where they are to be had even without a limit: for what they
		 * measure. */
		if (!wanted(&l->want, role) && has.place < 0)
			continue;
		if (wanted(&l->want, role) && role < LIMITS_ROLE_PIDS &&
		    has.form <= LIMITS_SAMPLED && !weaker_will_do(&l->want, role))
			return error_set_exit(
				err, -ENOTSUP, EXIT_STATUS_SANDBOX,
				"limits: %s: no control group of ours on this machine; write "
				"'allow_weaker: [%s]' beside the limit in the policy (its use is "
				"looked at ten times a second), leave the limit out, or see "
				"'holdfast doctor'",
				names[role], names[role]);
		l->roles[role] = has;
	}
	return 0;
}

/* A limit that must stand, or the sandbox does not start. */
static int set(int dir, const char *file, uint64_t value, struct error *err)
{
	char text[24];
	int r;

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	r = limits_group_write(dir, file, text);
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_SANDBOX,
				      "limits: %s cannot be set to %s: %s", file, text,
				      strerror(-r));
	return 0;
}

static int set_memory(const struct limits *l, struct error *err)
{
	uint64_t max = l->want.memory_bytes;
	int dir = group_of(l, LIMITS_ROLE_MEMORY);
	int r;

	if (dir < 0 || max == 0)
		return 0;
	if (l->roles[LIMITS_ROLE_MEMORY].form == LIMITS_CGROUP2) {
		r = set(dir, "memory.max", max, err);
		/* All of it goes, not whom the kernel picks. Swap: where the kernel counts it. */
		(void)!limits_group_write(dir, "memory.oom.group", "1");
		(void)!limits_group_write(dir, "memory.swap.max", "0");
		return r;
	}
	r = set(dir, "memory.limit_in_bytes", max, err);
	if (r == 0 && faccessat(dir, "memory.memsw.limit_in_bytes", F_OK, 0) == 0)
		r = set(dir, "memory.memsw.limit_in_bytes", max, err);
	return r;
}

static int make_groups(struct limits *l, struct error *err)
{
	char name[LIMITS_GROUP_NAME_SIZE + LIMITS_GROUP_OWN_MAX];
	int r;

	group_name(l, name, sizeof(name));
	for (int i = 0; i < LIMITS_ROLES; i++) {
		int place = l->roles[i].place;

		if (place < 0 || l->group[place] >= 0)
			continue;
		if (mkdirat(l->host->places[place].dir, name, 0755) < 0)
			return error_set_exit(err, -errno, EXIT_STATUS_SANDBOX,
					      "limits: no control group can be made: %s",
					      strerror(errno));
		l->group[place] = openat(l->host->places[place].dir, name,
					 O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (l->group[place] < 0)
			return error_set_exit(err, -errno, EXIT_STATUS_SANDBOX,
					      "limits: a control group: %s", strerror(errno));
	}
	r = set_memory(l, err);
	if (r == 0 && l->want.pids > 0 && group_of(l, LIMITS_ROLE_PIDS) >= 0)
		r = set(group_of(l, LIMITS_ROLE_PIDS), "pids.max", (uint64_t)l->want.pids + 1, err);
	return r;
}

static int check_name(const char *name)
{
	size_t len = strnlen(name, LIMITS_GROUP_OWN_MAX + 1);

	for (size_t i = 0; i < len; i++)
		if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9'))
			return -EINVAL;
	return len > 0 && len <= LIMITS_GROUP_OWN_MAX ? 0 : -EINVAL;
}

int limits_prepare(struct limits_host *h, const char *name, const struct limits_want *want,
		   struct limits **ret, struct error *err)
{
	AUTO(limits_free) struct limits *l = NULL;
	int r = check_name(name);

	if (r < 0)
		return error_set(err, r, "limits: a sandbox's name is 1 to %d of a-z, 0-9",
				 LIMITS_GROUP_OWN_MAX);
	if (limits_has(h, name))
		return error_set(err, -EEXIST, "limits: a sandbox of that name is there");
	if (h->left_over)
		limits_group_sweep(h);
	l = calloc(1, sizeof(*l));
	if (!l)
		return error_nomem(err);
	*l = (struct limits){.host = h, .next = h->live, .want = *want, .pidfd = -1};
	snprintf(l->name, sizeof(l->name), "%s", name);
	for (size_t i = 0; i < LIMITS_GROUP_PLACES_MAX; i++)
		l->group[i] = -1;
	h->live = l;
	r = choose(l, err);
	if (r == 0)
		r = make_groups(l, err);
	if (r < 0)
		return r;
	*ret = take_ptr(l);
	return 0;
}

struct limits_forms limits_forms(const struct limits *l)
{
	return (struct limits_forms){
		.memory = l->roles[LIMITS_ROLE_MEMORY].form,
		.cpu = l->roles[LIMITS_ROLE_CPU].form,
		.pids = l->roles[LIMITS_ROLE_PIDS].form,
		.freezer = l->roles[LIMITS_ROLE_FREEZER].form,
	};
}

int limits_entries(const struct limits *l, struct limits_entries *ret, struct error *err)
{
	struct limits_entries e = {.cgroup2 = -1};

	for (size_t i = 0; i < l->host->place_count; i++) {
		int fd;

		if (l->group[i] < 0)
			continue;
		if (l->host->places[i].v2) {
			e.cgroup2 = l->group[i];
			continue;
		}
		fd = e.task_count < ARRAY_SIZE(e.tasks)
			     ? openat(l->group[i], "tasks", O_WRONLY | O_CLOEXEC)
			     : -1;
		if (fd < 0) {
			int r = -errno;

			while (e.task_count > 0)
				close(e.tasks[--e.task_count]);
			return error_set_exit(err, r, EXIT_STATUS_SANDBOX,
					      "limits: a control group: %s", strerror(-r));
		}
		e.tasks[e.task_count++] = fd;
	}
	*ret = e;
	return 0;
}

int limits_attach(struct limits *l, pid_t pid, int pidfd, bool entered_v1, bool entered_v2,
		  struct error *err)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", (int)pid);
	for (size_t i = 0; i < l->host->place_count; i++) {
		bool entered = l->host->places[i].v2 ? entered_v2 : entered_v1;
		int r = l->group[i] < 0 || entered
				? 0
				: limits_group_write(l->group[i], "cgroup.procs", text);

		if (r < 0)
			return error_set_exit(
				err, r, EXIT_STATUS_SANDBOX,
				"limits: a process cannot be put into its control group: %s",
				strerror(-r));
	}
	l->pid = pid;
	l->pidfd = pidfd;
	return 0;
}

static void read_memory(const struct limits *l, struct limits_usage *u)
{
	int dir = group_of(l, LIMITS_ROLE_MEMORY);
	uint64_t kills = 0;

	if (dir < 0)
		return;
	if (l->roles[LIMITS_ROLE_MEMORY].form == LIMITS_CGROUP2) {
		(void)!limits_group_read(dir, "memory.current", &u->memory_bytes);
		(void)!limits_group_read(dir, "memory.peak",
					 &u->memory_peak_bytes); /* Linux 5.19 */
		(void)!limits_group_read_key(dir, "memory.events", "oom_kill", &kills);
	} else {
		(void)!limits_group_read(dir, "memory.usage_in_bytes", &u->memory_bytes);
		(void)!limits_group_read(dir, "memory.max_usage_in_bytes", &u->memory_peak_bytes);
		(void)!limits_group_read_key(dir, "memory.oom_control", "oom_kill",
					     &kills); /* 4.13 */
	}
	u->oom_killed = kills > 0;
}

static void read_cpu(const struct limits *l, struct limits_usage *u)
{
	int dir = group_of(l, LIMITS_ROLE_CPU);
	uint64_t usec;

	if (dir < 0)
		return;
	if (l->roles[LIMITS_ROLE_CPU].form == LIMITS_CGROUP1)
		(void)!limits_group_read(dir, "cpuacct.usage", &u->cpu_ns);
	else if (limits_group_read_key(dir, "cpu.stat", "usage_usec", &usec) == 0)
		u->cpu_ns = usec * 1000;
}

static void read_pids(const struct limits *l, struct limits_usage *u)
{
	int dir = group_of(l, LIMITS_ROLE_PIDS);
	uint64_t pids = 0;

	if (dir < 0)
		return;
	(void)!limits_group_read(dir, "pids.current", &pids);
	(void)!limits_group_read_key(dir, "pids.events", "max", &u->pids_refused);
	u->pids = (uint32_t)pids;
}

/* What no group tells. Shared pages are divided by those who share them, but only where the plain
 * sum is past the limit: that walk is long. */
static int read_proc(struct limits *l, struct limits_usage *u)
{
	bool memory = l->roles[LIMITS_ROLE_MEMORY].form == LIMITS_SAMPLED;
	bool cpu = l->roles[LIMITS_ROLE_CPU].form == LIMITS_SAMPLED;
	struct limits_proc_sum sum;
	int r;

	if ((!memory && !cpu) || l->pid == 0)
		return 0;
	r = limits_proc_sample(l->pid, false, &sum);
	if (r < 0)
		return r;
	if (memory && sum.rss_bytes > l->want.memory_bytes) {
		r = limits_proc_sample(l->pid, true, &sum);
		if (r < 0)
			return r;
		sum.rss_bytes = sum.pss_bytes;
	}
	if (memory)
		u->memory_bytes = sum.rss_bytes;
	if (cpu)
		u->cpu_ns = sum.cpu_ns;
	if (u->pids == 0)
		u->pids = sum.pids;
	return 0;
}

static void kill_sandbox(struct limits *l)
{
	if (l->frozen)
		(void)!limits_freeze(l, false);
	if (l->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, l->pidfd, SIGKILL, NULL, 0);
}

int limits_sample(struct limits *l, struct limits_usage *ret)
{
	struct limits_usage u = {0};
	int r;

	read_memory(l, &u);
	read_cpu(l, &u);
	read_pids(l, &u);
	r = read_proc(l, &u);
	if (r < 0)
		return r;
	if (u.memory_peak_bytes < u.memory_bytes)
		u.memory_peak_bytes = u.memory_bytes;
	if (u.memory_peak_bytes < l->peak.memory_peak_bytes)
		u.memory_peak_bytes = l->peak.memory_peak_bytes;
	/* Ended processes take their time with them out of /proc, but not out of what was used. */
	if (u.cpu_ns < l->peak.cpu_ns)
		u.cpu_ns = l->peak.cpu_ns;
	l->peak = u;
	*ret = u;
	if (l->hit == LIMITS_OK && l->want.memory_bytes &&
	    (u.oom_killed || (l->roles[LIMITS_ROLE_MEMORY].form == LIMITS_SAMPLED &&
			      u.memory_bytes > l->want.memory_bytes)))
		l->hit = LIMITS_HIT_MEMORY;
	if (l->hit == LIMITS_OK && l->want.cpu_ns && u.cpu_ns > l->want.cpu_ns)
		l->hit = LIMITS_HIT_CPU;
	if (l->hit != LIMITS_OK)
		kill_sandbox(l);
	return l->hit;
}

int limits_freeze(struct limits *l, bool frozen)
{
	int dir = group_of(l, LIMITS_ROLE_FREEZER);
	int r;

	if (dir < 0)
		return -ENOTSUP;
	if (l->roles[LIMITS_ROLE_FREEZER].form == LIMITS_CGROUP2)
		r = limits_group_write(dir, "cgroup.freeze", frozen ? "1" : "0");
	else
		r = limits_group_write(dir, "freezer.state", frozen ? "FROZEN" : "THAWED");
	if (r == 0)
		l->frozen = frozen;
	return r;
}

void limits_free(struct limits *l)
{
	char name[LIMITS_GROUP_NAME_SIZE + LIMITS_GROUP_OWN_MAX];
	struct limits **at;

	if (!l)
		return;
	group_name(l, name, sizeof(name));
	for (at = &l->host->live; *at && *at != l; at = &(*at)->next)
		;
	if (*at)
		*at = l->next;
	for (size_t i = 0; i < l->host->place_count; i++) {
		if (l->group[i] < 0)
			continue;
		close(l->group[i]);
		if (limits_group_remove(&l->host->places[i], name) < 0)
			l->host->left_over = true;
	}
	free(l);
}
