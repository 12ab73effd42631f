#include "supervisor/results.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/cbor.h"
#include "base/guard.h"
#include "base/io.h"

struct kept {
	char *path; /* owned */
	struct digest digest;
	uint64_t mode, size;
};

struct keeping {
	struct journal *j;
	struct kept files[RESULTS_FILES_MAX];
	size_t count;
	uint64_t bytes;
};

static void keeping_free(struct keeping *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < k->count; i++)
		free(k->files[i].path);
	free(k);
}
DEFINE_GUARD(struct keeping *, keeping_free)

static int keep_file(struct keeping *k, int dirfd, const char *name, const char *path,
		     struct error *err)
{
	AUTO_FD fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct kept *f = &k->files[k->count];
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0; /* not ours to read (its step took the bits away) or replaced: nobody else
			     writes here any more */
	if (k->count == RESULTS_FILES_MAX)
		return error_set_exit(
			err, -E2BIG, EXIT_STATUS_LIMIT,
			"too many results: more than %d files in /run/holdfast/out; pack them",
			RESULTS_FILES_MAX);
	if ((uint64_t)st.st_size > RESULTS_FILE_MAX ||
	    k->bytes + (uint64_t)st.st_size > RESULTS_BYTES_MAX)
		return error_set_exit(err, -E2BIG, EXIT_STATUS_LIMIT,
				      "results too large: %s takes /run/holdfast/out past its "
				      "limit; leave large files in the workspace",
				      path);
	r = journal_blob_put_fd(k->j, fd, RESULTS_FILE_MAX, &f->digest, &f->size, err);
	if (r < 0)
		return r;
	f->path = strdup(path);
	if (!f->path)
		return error_nomem(err);
	f->mode = st.st_mode & 0111 ? 0755 : 0644;
	k->bytes += f->size;
	k->count++;
	return 0;
}

static int keep_folder(struct keeping *k, int fd, const char *prefix, int depth, struct error *err)
{
	AUTO_DIR dir = fdopendir(fd);
	int r = 0;

	if (!dir) {
		close(fd);
		return error_nomem(err);
	}
	for (struct dirent *e = readdir(dir); e && r == 0; e = readdir(dir)) {
		char path[RESULTS_PATH_MAX];
		struct stat st;
		int sub;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if ((size_t)snprintf(path, sizeof(path), "%s%s", prefix, e->d_name) >=
		    sizeof(path) - 1)
			return error_set_exit(
				err, -E2BIG, EXIT_STATUS_LIMIT,
				"results too deep: a path in /run/holdfast/out is too long");
		if (S_ISREG(st.st_mode))
			r = keep_file(k, dirfd(dir), e->d_name, path, err);
		if (!S_ISDIR(st.st_mode))
			continue;
		if (depth == RESULTS_DEPTH_MAX)
			return error_set_exit(err, -E2BIG, EXIT_STATUS_LIMIT,
					      "results too deep: more than %d folders in each "
					      "other in /run/holdfast/out",
					      RESULTS_DEPTH_MAX);
		strcat(path, "/");
		sub = openat(dirfd(dir), e->d_name,
			     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			r = keep_folder(k, sub, path, depth + 1, err);
	}
	return r;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct kept *)a)->path, ((const struct kept *)b)->path);
}

int results_keep(struct journal *j, int dirfd, struct digest *ret, struct error *err)
{
	AUTO(keeping_free) struct keeping *k = calloc(1, sizeof(*k));
	AUTO_BUFFER list = {0};
	int r, copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (copy < 0)
		return error_set(err, -errno, "cannot open a results folder: %s", strerror(errno));
	if (!k) {
		close(copy);
		return error_nomem(err);
	}
	k->j = j;
	r = keep_folder(k, copy, "", 0, err);
	if (r < 0)
		return r;
	*ret = (struct digest){0};
	if (k->count == 0)
		return 0;
	qsort(k->files, k->count, sizeof(k->files[0]), by_path);
	cbor_w_array(&list, k->count);
	for (size_t i = 0; i < k->count; i++) {
		cbor_w_array(&list, 4);
		cbor_w_bytes(&list, bytes_str(k->files[i].path));
		cbor_w_bytes(&list, bytes_of(k->files[i].digest.b, DIGEST_SIZE));
		cbor_w_uint(&list, k->files[i].mode);
		cbor_w_uint(&list, k->files[i].size);
	}
	return list.failed ? list.failed : journal_blob_put(j, buffer_bytes(&list), ret, err);
}

struct entry {
	struct bytes path;
	struct digest digest;
	uint64_t mode, size;
};

static int each(struct bytes list, int (*fn)(void *arg, const struct entry *e), void *arg)
{
	struct cbor_reader r = cbor_reader(list);
	size_t n = cbor_r_array(&r);

	for (size_t i = 0; i < n && r.error == 0; i++) {
		struct entry e;
		int x;

		if (cbor_r_array(&r) != 4)
			cbor_r_fail(&r, -EBADMSG);
		e.path = cbor_r_bytes(&r);
		cbor_r_digest(&r, &e.digest);
		e.mode = cbor_r_uint(&r);
		e.size = cbor_r_uint(&r);
		if (r.error)
			break;
		x = fn(arg, &e);
		if (x != 0)
			return x;
	}
	return cbor_r_end(&r);
}

struct caller {
	int (*fn)(void *arg, struct bytes path, const struct digest *d, uint64_t size);
	void *arg;
};

static int call(void *arg, const struct entry *e)
{
	struct caller *c = arg;

	return c->fn(c->arg, e->path, &e->digest, e->size);
}

int results_each(struct bytes list,
		 int (*fn)(void *arg, struct bytes path, const struct digest *d, uint64_t size),
		 void *arg)
{
	struct caller c = {fn, arg};

	return each(list, call, &c);
}

static int write_blob(struct journal *j, const struct digest *d, int dirfd, const char *name,
		      mode_t mode, struct error *err)
{
	AUTO_FD from = journal_blob_open(j, d, err);
	AUTO_FD to = -1;
	ssize_t n;

	if (from < 0)
		return from;
	to = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (to < 0)
		return error_set(err, -errno, "cannot write an input of the step: %s",
				 strerror(errno));
	do
		n = sendfile(to, from, NULL, 1 << 30);
	while (n > 0);
	if (n < 0 || fchmod(to, mode) < 0)
		return error_set(err, -errno,
				 "cannot write an input of the step: %s; free some space",
				 strerror(errno));
	return 0;
}

int results_lay_blob(struct journal *j, const struct digest *d, int dirfd, const char *name,
		     struct error *err)
{
	return write_blob(j, d, dirfd, name, 0644, err);
}

struct laying {
	struct journal *j;
	int dirfd;
	struct error *err;
};

static int lay_one(void *arg, const struct entry *e)
{
	struct laying *l = arg;
	char path[RESULTS_PATH_MAX];
	AUTO_FD dir = fcntl(l->dirfd, F_DUPFD_CLOEXEC, 3);
	char *at = path;

	if (e->path.len == 0 || e->path.len >= sizeof(path) || dir < 0)
		return -EBADMSG;
	memcpy(path, e->path.data, e->path.len);
	path[e->path.len] = '\0';
	for (char *slash = strchr(at, '/'); slash; slash = strchr(at, '/')) {
		int next;

		*slash = '\0';
		if (mkdirat(dir, at, 0755) < 0 && errno != EEXIST)
			return -errno;
		next = openat(dir, at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return -errno;
		if (fchmod(next, 0755) < 0) {
			close(next);
			return -errno;
		}
		close_fd(&dir);
		dir = next;
		at = slash + 1;
	}
	return write_blob(l->j, &e->digest, dir, at, e->mode & 0111 ? 0755 : 0644, l->err);
}

int results_lay(struct journal *j, const struct digest *list, int dirfd, struct error *err)
{
	struct laying l = {j, dirfd, err};
	AUTO_BUFFER b = {0};
	int r = journal_blob_get(j, list, 16 * 1024 * 1024, &b, err);

	if (r == 0)
		r = each(buffer_bytes(&b), lay_one, &l);
	return r < 0 ? error_set(err, r, "cannot lay out results: %s", strerror(-r)) : 0;
}

int results_remove(int dirfd, const char *name)
{
	int fd;
	AUTO_DIR dir = NULL;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0)
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	(void)!fchmod(fd, 0700);
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		int r;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		r = results_remove(fd, e->d_name);
		if (r < 0)
			return r;
	}
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}
