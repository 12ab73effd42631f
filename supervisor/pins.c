#include "supervisor/pins.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "supervisor/runs.h"
#include "supervisor/workspace.h"

#define PINS                                                                                       \
	"pins" /* sandbox/keeper_template.c shows folders of it as a base, and nothing else of the \
		  state directory */

static int open_all(const struct daemon *d)
{
	int fd = openat(d->v1_fd, PINS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int open_one(int all, const char *name)
{
	int fd = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int pins_open(const struct daemon *d, const struct journal_id *run)
{
	char name[JOURNAL_ID_TEXT_SIZE];
	AUTO_FD all = open_all(d);

	return all < 0 ? all : open_one(all, journal_id_text(run, name));
}

static void remove_one(const struct daemon *d, int all, const char *name)
{
	AUTO_FD fd = open_one(all, name);
	struct error err = {0};

	if (fd == -ENOENT)
		return;
	if (fd < 0 || workspace_empty(fd, &err) < 0 || unlinkat(all, name, AT_REMOVEDIR) < 0)
		daemon_log(d, "pinned base %s stays behind: %s", name,
			   err.msg[0] ? err.msg : strerror(fd < 0 ? -fd : errno));
}

void pins_remove(struct daemon *d, const struct journal_id *run)
{
	char name[JOURNAL_ID_TEXT_SIZE];
	AUTO_FD all = open_all(d);

	if (all >= 0)
		remove_one(d, all, journal_id_text(run, name));
}

int pins_make(struct daemon *d, const struct journal_id *run, int from, struct error *err)
{
	struct workspace_copied copied;
	char name[JOURNAL_ID_TEXT_SIZE];
	AUTO_FD all = -1;
	AUTO_FD to = -1;
	struct stat st;
	int r;

	if (mkdirat(d->v1_fd, PINS, 0711) < 0 && errno != EEXIST)
		return error_set(err, -errno, "pinned base: cannot make its folder: %s",
				 strerror(errno));
	all = open_all(d);
	if (all < 0)
		return error_set(err, all, "pinned base: cannot open its folder: %s",
				 strerror(-all));
	if (mkdirat(all, journal_id_text(run, name), 0700) < 0)
		return error_set(err, -errno, "pinned base: cannot make its folder: %s",
				 strerror(errno));
	to = open_one(all, name);
	if (to < 0 || fstat(d->paths.state_fd, &st) < 0)
		return error_set(err, to < 0 ? to : -errno, "pinned base: cannot open its folder");
	r = workspace_pin(from, to, st.st_dev, st.st_ino, &copied, err);
	if (r < 0) {
		remove_one(d, all, name);
		return r;
	}
	if (copied.skipped > 0)
		daemon_log(d,
			   "pinned base %s: %llu names are left out: sockets, devices, or not "
			   "readable",
			   name, (unsigned long long)copied.skipped);
	return 0;
}

/* Runs that are not over are in memory. */
static int strike(const struct journal_run *run, void *arg)
{
	const char **name = arg;
	char text[JOURNAL_ID_TEXT_SIZE];

	return !runs_over(run) && strcmp(journal_id_text(&run->id, text), *name) == 0;
}

void pins_collect(struct daemon *d)
{
	int fd = open_all(d);
	AUTO_DIR dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		const char *name = e->d_name;

		if (name[0] != '.' && journal_state_each_run(d->rows, strike, &name) == 0)
			remove_one(d, fd, name);
	}
}
