#include "sandbox/limits_proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/guard.h"
#include "base/io.h"

enum { FILE_MAX = 1024 * 1024 };

/* A field that procfs has just printed. */
static uint64_t number(const char *text)
{
	return text ? strtoull(text, NULL, 10) : 0;
}

static int read_file(pid_t pid, const char *name, struct buffer *out)
{
	char path[64];
	AUTO_FD fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	out->len = 0;
	return io_read_all(fd, FILE_MAX, out);
}

/* Field n (from 3 on, as in proc_pid_stat(5)) behind the name, which may hold anything. */
static const char *stat_field(const struct buffer *text, int n)
{
	const char *at = text->len ? memrchr(text->data, ')', text->len) : NULL;

	for (int i = 2; at && i < n; i++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	return at;
}

int limits_proc_start(pid_t pid, uint64_t *ret)
{
	AUTO_BUFFER text = {0};
	const char *field;
	int r = read_file(pid, "stat", &text);

	if (r < 0)
		return r;
	field = stat_field(&text, 22);
	if (!field)
		return -ESRCH;
	*ret = number(field);
	return 0;
}

bool limits_proc_available(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)getpid(), (int)getpid());
	return access(path, R_OK) == 0;
}

struct pids {
	pid_t *pid;
	size_t count;
	size_t cap;
};

static int add_pid(struct pids *p, pid_t pid)
{
	if (p->count == LIMITS_PROC_MAX)
		return 0;
	if (p->count == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 64;
		pid_t *grown = reallocarray(p->pid, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		p->pid = grown;
		p->cap = cap;
	}
	p->pid[p->count++] = pid;
	return 0;
}

/* The children of each thread: a thread's own are listed with it alone. */
static int add_children(struct pids *p, pid_t pid, struct buffer *text)
{
	char path[64];
	struct dirent *e;
	AUTO_DIR tasks = NULL;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	while (tasks && r == 0 && (e = readdir(tasks))) {
		char name[64];
		char *save = NULL;

		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "task/%.16s/children", e->d_name);
		if (read_file(pid, name, text) < 0 || text->len == 0)
			continue;
		for (char *t = strtok_r((char *)text->data, " ", &save); t && r == 0;
		     t = strtok_r(NULL, " ", &save))
			r = add_pid(p, (pid_t)strtol(t, NULL, 10));
	}
	return r;
}

static uint64_t pss_of(pid_t pid, struct buffer *text)
{
	const char *line;

	if (read_file(pid, "smaps_rollup", text) < 0 || text->len == 0)
		return 0;
	line = strstr((const char *)text->data, "\nPss:");
	return line ? number(line + 5) * 1024 : 0;
}

static void add_one(struct limits_proc_sum *sum, pid_t pid, bool with_pss, struct buffer *text)
{
	const uint64_t tick_ns = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t rss;

	if (read_file(pid, "stat", text) < 0)
		return;
	/* utime, stime, cutime, cstime; num_threads; rss */
	for (int field = 14; field <= 17; field++)
		sum->cpu_ns += number(stat_field(text, field)) * tick_ns;
	sum->pids += (uint32_t)number(stat_field(text, 20));
	rss = number(stat_field(text, 24)) * page;
	sum->rss_bytes += rss;
	if (with_pss) {
		uint64_t pss = pss_of(pid, text);

		sum->pss_bytes += pss ? pss : rss;
	}
}

int limits_proc_sample(pid_t pid, bool with_pss, struct limits_proc_sum *ret)
{
	struct limits_proc_sum sum = {0};
	struct pids pids = {0};
	AUTO_BUFFER text = {0};
	int r = add_pid(&pids, pid);

	for (size_t i = 0; i < pids.count && r == 0; i++) {
		add_one(&sum, pids.pid[i], with_pss, &text);
		r = add_children(&pids, pids.pid[i], &text);
	}
	free(pids.pid);
	if (r < 0)
		return r;
	*ret = sum;
	return 0;
}
