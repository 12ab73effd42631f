#include "tests/unit/journal/folder.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/guard.h"

void folder_make(struct folder *f)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(f->path, sizeof(f->path), "%s/holdfast-journal-XXXXXX", tmp ? tmp : "/tmp");
	char *made = mkdtemp(f->path);
	assert(made);
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(f->fd >= 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void folder_remove(struct folder *f)
{
	close_fd(&f->fd);
	nftw(f->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const struct folder *copy_from;
static struct folder *copy_to;

static void copy_file(const char *from, const char *to, mode_t mode)
{
	AUTO_FD in = open(from, O_RDONLY | O_CLOEXEC);
	AUTO_FD out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode | 0200);
	char chunk[65536];
	ssize_t n;
	assert(in >= 0 && out >= 0);
	while ((n = read(in, chunk, sizeof(chunk))) > 0) {
		ssize_t done = write(out, chunk, (size_t)n);
		assert(done == n);
	}
}

static int copy_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	char to[2 * PATH_MAX];
	(void)ftw;
	snprintf(to, sizeof(to), "%s%s", copy_to->path, path + strlen(copy_from->path));
	if (type == FTW_D && ftw->level > 0) {
		int rc = mkdir(to, 0700);
		assert(rc == 0);
	} else if (type == FTW_F) {
		copy_file(path, to, st->st_mode & 0777);
	}
	return 0;
}

void folder_copy(const struct folder *from, struct folder *ret)
{
	folder_make(ret);
	copy_from = from;
	copy_to = ret;
	int rc = nftw(from->path, copy_one, 16, FTW_PHYS);
	assert(rc == 0);
}
