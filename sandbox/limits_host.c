/*
 * What this machine can enforce, found by doing: for every hierarchy of control groups that is
 * mounted, a group is made below the one that this process is in, and the control file that matters
 * is written.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/guard.h"
#include "base/io.h"
#include "sandbox/limits_group.h"
#include "sandbox/limits_proc.h"

enum {
	PROC_FILE_MAX = 1024 * 1024,
	PATH_SIZE = 4096,
	REMOVE_TRIES = 100, /* of 10 ms: processes that were killed have so long to be gone when the
			       keeper ends */
};

#define PROBE "-probe"

static const struct {
	const char *v1; /* controller */
	const char *v1_file; /* is there, and can be written, in a group of ours */
	const char *v2; /* controller; NULL = every group has it */
	const char *v2_file;
} roles[LIMITS_ROLES] = {
	[LIMITS_ROLE_MEMORY] = {"memory", "memory.limit_in_bytes", "memory", "memory.max"},
	/* Not a controller: time is accounted in every group
	   (Documentation/admin-guide/cgroup-v2.rst, cpu.stat). */
	[LIMITS_ROLE_CPU] = {"cpuacct", "cpuacct.usage", NULL, "cpu.stat"},
	[LIMITS_ROLE_PIDS] = {"pids", "pids.max", "pids", "pids.max"},
	[LIMITS_ROLE_FREEZER] = {"freezer", "freezer.state", NULL, "cgroup.freeze"},
};

static int read_proc(const char *path, struct buffer *out)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : io_read_all(fd, PROC_FILE_MAX, out);
}

/* Is word one of the comma separated words of list? */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, word, len) == 0 && (at[len] == ',' || at[len] == '\0'))
			return true;
	}
	return false;
}

/* The path of this process in the hierarchy of a v1 controller, or of v2 where controller is NULL:
 * a line "number:controllers:path" of /proc/self/cgroup. */
static bool own_path(char *text, const char *controller, char *ret, size_t size)
{
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *list = strchr(line, ':');
		char *path = list ? strchr(list + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = '\0';
		list++;
		if (controller ? !has_word(list, controller) : list[0] != '\0')
			continue;
		return snprintf(ret, size, "%s", path) < (int)size;
	}
	return false;
}

struct mount {
	const char *root;
	const char *point;
};

/* Where the hierarchy is mounted: /proc/self/mountinfo, proc(5). */
static bool find_mount(char *text, const char *controller, struct mount *ret)
{
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *dash = strstr(line, " - ");
		char *field[6] = {0};
		char *type;
		char *options;
		char *at = NULL;

		if (!dash)
			continue;
		*dash = '\0';
		type = dash + 3;
		options = strrchr(type, ' ');
		for (int i = 0; i < 6; i++)
			field[i] = strtok_r(i ? NULL : line, " ", &at);
		if (!options || !field[4])
			continue;
		if (controller
			    ? strncmp(type, "cgroup ", 7) != 0 || !has_word(options + 1, controller)
			    : strncmp(type, "cgroup2 ", 8) != 0)
			continue;
		*ret = (struct mount){field[3], field[4]};
		return true;
	}
	return false;
}

/* The folder of the group that this process is in, or a negative errno. */
static int open_own(const char *controller)
{
	AUTO_BUFFER groups = {0};
	AUTO_BUFFER mounts = {0};
	char own[PATH_SIZE];
	char path[PATH_SIZE * 2];
	const char *rest = own;
	struct mount m;
	int fd;

	if (read_proc("/proc/self/cgroup", &groups) < 0 ||
	    read_proc("/proc/self/mountinfo", &mounts) < 0 || groups.len == 0 || mounts.len == 0)
		return -ENOENT;
	if (!own_path((char *)groups.data, controller, own, sizeof(own)) ||
	    !find_mount((char *)mounts.data, controller, &m))
		return -ENOENT;
	/* A container sees its own group as the mount's root, and may see the host's path to it. */
	if (strcmp(m.root, "/") != 0 && strncmp(own, m.root, strlen(m.root)) == 0)
		rest = own + strlen(m.root);
	snprintf(path, sizeof(path), "%s%s", m.point, rest);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Takes dir over. The index of the place, the old one where controllers are mounted together. */
static int add_place(struct limits_host *h, int dir, bool v2)
{
	struct stat st;

	if (fstat(dir, &st) < 0) {
		close(dir);
		return -1;
	}
	for (size_t i = 0; i < h->place_count; i++) {
		if (h->places[i].dev != st.st_dev || h->places[i].ino != st.st_ino)
			continue;
		close(dir);
		return (int)i;
	}
	if (h->place_count == LIMITS_GROUP_PLACES_MAX) {
		close(dir);
		return -1;
	}
	h->places[h->place_count] = (struct limits_place){dir, v2, st.st_dev, st.st_ino};
	return (int)h->place_count++;
}

/* Makes a group, looks whether its file can be written, removes it. */
static bool works(const struct limits_host *h, int dir, const char *file)
{
	char name[LIMITS_GROUP_NAME_SIZE + 8];
	char path[LIMITS_GROUP_NAME_SIZE + 64];
	bool ok;

	snprintf(name, sizeof(name), "%s" PROBE, h->own);
	if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
		return false;
	snprintf(path, sizeof(path), "%s/%s", name, file);
	ok = faccessat(dir, path, W_OK, AT_EACCESS) == 0 ||
	     (strcmp(file, "cpu.stat") == 0 && faccessat(dir, path, R_OK, AT_EACCESS) == 0);
	(void)unlinkat(dir, name, AT_REMOVEDIR);
	return ok;
}

/* Are we the only process in this group? Then nobody minds if it moves one level down. */
static bool alone(int dir)
{
	AUTO_BUFFER text = {0};
	AUTO_FD fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	char *end;

	return fd >= 0 && io_read_all(fd, PROC_FILE_MAX, &text) == 0 && text.len > 0 &&
	       strtol((char *)text.data, &end, 10) == getpid() && strcmp(end, "\n") == 0;
}

/*
 * Controllers for our groups. A group with processes cannot give any to its children (but the root
 * one), so this process moves down into one of its own first, where it is alone, as it is in a
 * delegated unit of systemd.
 */
static void take_controllers(const struct limits_host *h, int dir)
{
	static const char *const each[] = {"+memory", "+pids"};
	char name[LIMITS_GROUP_NAME_SIZE + 8];
	char path[LIMITS_GROUP_NAME_SIZE + 32];
	bool moved = false;

	if (faccessat(dir, "cgroup.subtree_control", W_OK, AT_EACCESS) < 0)
		return;
	snprintf(name, sizeof(name), "%s" LIMITS_GROUP_SELF, h->own);
	if (alone(dir) && mkdirat(dir, name, 0755) == 0) {
		snprintf(path, sizeof(path), "%s/cgroup.procs", name);
		moved = limits_group_write(dir, path, "0") == 0;
		if (!moved)
			(void)unlinkat(dir, name, AT_REMOVEDIR);
	}
	for (size_t i = 0; i < ARRAY_SIZE(each); i++)
		(void)!limits_group_write(dir, "cgroup.subtree_control", each[i]);
	if (moved && !works(h, dir, "memory.max") && !works(h, dir, "pids.max")) {
		(void)!limits_group_write(dir, "cgroup.procs", "0");
		(void)unlinkat(dir, name, AT_REMOVEDIR);
	}
}

/* Before v2: into v1's groups a process can write itself without waiting (limits_entries), so where
 * v1 has the controllers (hybrid), none of v2 is used. */
static void find_v1(struct limits_host *h)
{
	for (int i = 0; i < LIMITS_ROLES; i++) {
		int dir;
		int place;

		dir = open_own(roles[i].v1);
		if (dir < 0)
			continue;
		if (!works(h, dir, roles[i].v1_file)) {
			close(dir);
			continue;
		}
		place = add_place(h, dir, false);
		if (place >= 0)
			h->roles[i] = (struct limits_role){LIMITS_CGROUP1, place};
	}
}

static void find_v2(struct limits_host *h)
{
	int dir = open_own(NULL);
	int place = -1;

	if (dir < 0)
		return;
	take_controllers(h, dir);
	for (int i = 0; i < LIMITS_ROLES; i++) {
		if (h->roles[i].form == LIMITS_CGROUP1 || !works(h, dir, roles[i].v2_file))
			continue;
		if (place < 0) {
			int copy = fcntl(dir, F_DUPFD_CLOEXEC, 0);

			place = copy < 0 ? -1 : add_place(h, copy, true);
		}
		if (place >= 0)
			h->roles[i] = (struct limits_role){LIMITS_CGROUP2, place};
	}
	close(dir);
}

/* Where no group does it. */
static void find_weaker(struct limits_host *h)
{
	bool sampled = limits_proc_available();

	if (sampled && h->roles[LIMITS_ROLE_MEMORY].form == LIMITS_NONE)
		h->roles[LIMITS_ROLE_MEMORY].form = LIMITS_SAMPLED;
	if (sampled && h->roles[LIMITS_ROLE_CPU].form == LIMITS_NONE)
		h->roles[LIMITS_ROLE_CPU].form = LIMITS_SAMPLED;
	if (h->roles[LIMITS_ROLE_PIDS].form == LIMITS_NONE)
		h->roles[LIMITS_ROLE_PIDS].form = LIMITS_RLIMIT;
}

static bool is_word(const char *s, size_t max)
{
	size_t len = strnlen(s, max + 1);

	for (size_t i = 0; i < len; i++)
		if (!(s[i] >= 'a' && s[i] <= 'z') && !(s[i] >= '0' && s[i] <= '9'))
			return false;
	return len > 0 && len <= max;
}

int limits_host_open(const char *tag, struct limits_host **ret, struct error *err)
{
	AUTO(limits_host_free) struct limits_host *h = NULL;
	char me[64];
	int r;

	if (!is_word(tag, LIMITS_GROUP_TAG_MAX))
		return error_set(err, -EINVAL, "limits: a tag is 1 to %d of a-z, 0-9",
				 LIMITS_GROUP_TAG_MAX);
	h = calloc(1, sizeof(*h));
	if (!h)
		return error_nomem(err);
	for (int i = 0; i < LIMITS_ROLES; i++)
		h->roles[i].place = -1;
	r = limits_group_identity(getpid(), me, sizeof(me));
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_SANDBOX,
				      "limits: /proc does not show this process; mount /proc of "
				      "this pid namespace");
	snprintf(h->own, sizeof(h->own), LIMITS_GROUP_PREFIX "%s-%s-", tag, me);
	find_v1(h);
	find_v2(h);
	find_weaker(h);
	limits_group_sweep(h);
	*ret = take_ptr(h);
	return 0;
}

/* Out of the group that take_controllers() made. */
static void move_back(struct limits_host *h)
{
	char name[LIMITS_GROUP_NAME_SIZE + 8];

	snprintf(name, sizeof(name), "%s" LIMITS_GROUP_SELF, h->own);
	for (size_t i = 0; i < h->place_count; i++) {
		if (!h->places[i].v2 || faccessat(h->places[i].dir, name, F_OK, 0) < 0)
			continue;
		(void)!limits_group_write(h->places[i].dir, "cgroup.subtree_control", "-memory");
		(void)!limits_group_write(h->places[i].dir, "cgroup.subtree_control", "-pids");
		(void)!limits_group_write(h->places[i].dir, "cgroup.procs", "0");
		(void)unlinkat(h->places[i].dir, name, AT_REMOVEDIR);
	}
}

void limits_host_free(struct limits_host *h)
{
	if (!h)
		return;
	for (int i = 0; i < REMOVE_TRIES && h->left_over; i++) {
		limits_group_sweep(h);
		if (h->left_over)
			(void)!poll(NULL, 0, 10);
	}
	move_back(h);
	for (size_t i = 0; i < h->place_count; i++)
		close(h->places[i].dir);
	free(h);
}

struct limits_forms limits_host_forms(const struct limits_host *h)
{
	return (struct limits_forms){
		.memory = h->roles[LIMITS_ROLE_MEMORY].form,
		.cpu = h->roles[LIMITS_ROLE_CPU].form,
		.pids = h->roles[LIMITS_ROLE_PIDS].form,
		.freezer = h->roles[LIMITS_ROLE_FREEZER].form,
	};
}
