#include "sandbox/limits_group.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/guard.h"
#include "base/io.h"
#include "sandbox/limits_proc.h"

enum { FILE_MAX = 64 * 1024 };

int limits_group_write(int dir, const char *file, const char *text)
{
	AUTO_FD fd = openat(dir, file, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	return n < 0 ? -errno : 0;
}

static int read_text(int dir, const char *file, struct buffer *out)
{
	AUTO_FD fd = openat(dir, file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return io_read_all(fd, FILE_MAX, out);
}

static int number(const char *text, uint64_t *ret)
{
	char *end;

	if (strncmp(text, "max", 3) == 0) {
		*ret = UINT64_MAX;
		return 0;
	}
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno || end == text ? -ENODATA : 0;
}

int limits_group_read(int dir, const char *file, uint64_t *ret)
{
	AUTO_BUFFER text = {0};
	int r = read_text(dir, file, &text);

	if (r < 0)
		return r;
	return text.len == 0 ? -ENODATA : number((const char *)text.data, ret);
}

int limits_group_read_key(int dir, const char *file, const char *key, uint64_t *ret)
{
	AUTO_BUFFER text = {0};
	size_t len = strlen(key);
	int r = read_text(dir, file, &text);

	if (r < 0)
		return r;
	for (const char *line = (const char *)text.data; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return number(line + len + 1, ret);
	}
	return -ENODATA;
}

static void kill_all(int dir)
{
	AUTO_BUFFER text = {0};
	char *save = NULL;

	/* Processes that SIGKILL cannot reach while they are frozen. */
	(void)!limits_group_write(dir, "freezer.state", "THAWED");
	if (limits_group_write(dir, "cgroup.kill", "1") == 0) /* Linux 5.14 */
		return;
	if (read_text(dir, "cgroup.procs", &text) < 0 || text.len == 0)
		return;
	for (char *t = strtok_r((char *)text.data, "\n", &save); t;
	     t = strtok_r(NULL, "\n", &save)) {
		pid_t pid = (pid_t)strtol(t, NULL, 10);

		if (pid > 1 && pid != getpid())
			kill(pid, SIGKILL);
	}
	(void)!limits_group_write(dir, "cgroup.freeze", "0");
}

int limits_group_remove(const struct limits_place *p, const char *name)
{
	AUTO_FD dir = -1;

	if (unlinkat(p->dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	dir = openat(p->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0)
		kill_all(dir);
	if (unlinkat(p->dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	return -errno;
}

int limits_group_identity(pid_t pid, char *buf, size_t size)
{
	struct stat ns = {0};
	uint64_t start;
	int r = limits_proc_start(pid, &start);

	if (r < 0)
		return r;
	(void)!stat("/proc/self/ns/pid", &ns);
	snprintf(buf, size, "%d.%llx.%llx", (int)pid, (unsigned long long)start,
		 (unsigned long long)ns.st_ino);
	return 0;
}

/* Does a keeper live that made the group? One of another pid namespace cannot be looked at, so it
 * does. */
static bool minded(const struct limits_host *h, const char *name)
{
	const char *who = strchr(name + strlen(LIMITS_GROUP_PREFIX), '-');
	const char *end = who ? strchr(who + 1, '-') : NULL;
	const char *ns = end ? memrchr(who, '.', (size_t)(end - who)) : NULL;
	char me[64];
	char now[64];
	long pid;

	if (strncmp(name, h->own, strlen(h->own)) == 0)
		return strcmp(name + strlen(h->own), LIMITS_GROUP_SELF) == 0 ||
		       limits_has(h, name + strlen(h->own));
	if (!ns || limits_group_identity(getpid(), me, sizeof(me)) < 0)
		return true;
	if (strlen(strrchr(me, '.')) != (size_t)(end - ns) ||
	    strncmp(strrchr(me, '.'), ns, (size_t)(end - ns)) != 0)
		return true;
	pid = strtol(++who, NULL, 10);
	if (pid <= 0 || pid > INT32_MAX || limits_group_identity((pid_t)pid, now, sizeof(now)) < 0)
		return false;
	return strlen(now) == (size_t)(end - who) && strncmp(now, who, strlen(now)) == 0;
}

void limits_group_sweep(struct limits_host *h)
{
	h->left_over = false;
	for (size_t i = 0; i < h->place_count; i++) {
		int fd = openat(h->places[i].dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		AUTO_DIR d = fd < 0 ? NULL : fdopendir(fd);
		struct dirent *e;

		while (d && (e = readdir(d))) {
			if (strncmp(e->d_name, LIMITS_GROUP_PREFIX, strlen(LIMITS_GROUP_PREFIX)) !=
				    0 ||
			    minded(h, e->d_name))
				continue;
			int r = limits_group_remove(&h->places[i], e->d_name);

			/* A dead keeper's whose processes are still dying: nobody else looks again.
			 */
			if (r == -EBUSY ||
			    (r < 0 && strncmp(e->d_name, h->own, strlen(h->own)) == 0))
				h->left_over = true;
		}
	}
}
