/*
 * Blobs: content by its SHA-256. Small ones lie in the family `blob`, queued before the event that
 * names them; larger ones are files blobs/ab/cdef...: written, synced, renamed, folder synced,
 * before the call returns.
 */
#include "journal/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/failpoint.h"
#include "base/guard.h"
#include "base/io.h"
#include "journal/blob.h"

enum { BLOB_CHUNK = 64 * 1024, BLOB_FOLDER_MODE = 0700, BLOB_FILE_MODE = 0400 };

/* Files that a crash left half written: nothing names them. */
static int drop_temporaries(int blobs)
{
	AUTO_FD fd = openat(blobs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return -errno;
	(void)take_fd(&fd);
	for (struct dirent *e; (e = readdir(d));)
		if (strncmp(e->d_name, JOURNAL_BLOB_TEMPORARY, strlen(JOURNAL_BLOB_TEMPORARY)) ==
			    0 &&
		    unlinkat(blobs, e->d_name, 0) < 0)
			return -errno;
	return 0;
}

int journal_blob_setup(struct journal *j, struct error *err)
{
	if (!j->o.read_only && mkdirat(j->dirfd, "blobs", BLOB_FOLDER_MODE) < 0 && errno != EEXIST)
		return error_set(err, -errno, "journal: making the blobs' folder: %s",
				 strerror(errno));
	j->blobs_fd = openat(j->dirfd, "blobs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int rc = j->blobs_fd < 0 ? -errno : j->o.read_only ? 0 : drop_temporaries(j->blobs_fd);
	return rc < 0 ? error_set(err, rc, "journal: the blobs' folder: %s", strerror(-rc)) : 0;
}

/* folder holds 3 bytes, name DIGEST_HEX_SIZE - 2. */
static void name_of(const struct digest *d, char *folder, char *name)
{
	char hex[DIGEST_HEX_SIZE];
	digest_hex(d, hex);
	memcpy(folder, hex, 2);
	folder[2] = '\0';
	memcpy(name, hex + 2, DIGEST_HEX_SIZE - 2);
}

static int open_file(struct journal *j, const struct digest *d)
{
	char path[JOURNAL_BLOB_PATH_SIZE];
	if (j->blobs_fd < 0)
		return -ENOENT;
	name_of(d, path, path + 3);
	path[2] = '/';
	int fd = openat(j->blobs_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static struct bytes inline_key(const struct digest *d)
{
	return bytes_of(d->b, DIGEST_SIZE);
}

/* Before it is looked for: a collection under way keeps it. True while there is one, whose delete of
 * a small one may stand in the queue. */
static bool spare(struct journal *j, const struct digest *d)
{
	pthread_mutex_lock(&j->spare_lock);
	bool collecting = j->collecting;
	if (collecting && journal_digestset_add(&j->spared, d) < 0)
		j->spare_all = true;
	pthread_mutex_unlock(&j->spare_lock);
	return collecting;
}

static int put_inline(struct journal *j, struct bytes content, const struct digest *d,
		      struct error *err)
{
	AUTO_BUFFER there = {0};
	AUTO_BUFFER ops = {0};
	bool again = spare(j, d);
	if (!again && j->kv->ops->get(j->kv, JOURNAL_FAMILY_BLOB, inline_key(d), &there, NULL) == 0)
		return 0;
	journal_kv_put(&ops, JOURNAL_FAMILY_BLOB, inline_key(d), content);
	if (ops.failed)
		return error_nomem(err);
	if (!j->committer)
		return j->kv->ops->write(j->kv, buffer_bytes(&ops), bytes_of(NULL, 0), err);
	/* In the queue before any record that will name it: the same batch or an earlier one. */
	journal_committer_queue(j->committer, buffer_bytes(&ops), 0, false, false);
	return 0;
}

/* A file that grows in blobs/ under a hidden name; removed unless it is renamed. */
struct growing {
	int folder; /* borrowed */
	int fd;
	char name[32];
};

static void growing_drop(struct growing *g)
{
	close_fd(&g->fd);
	if (g->name[0])
		(void)unlinkat(g->folder, g->name, 0);
}

static int growing_start(struct journal *j, struct growing *ret, struct error *err)
{
	uint64_t random = 0;
	*ret = (struct growing){.folder = j->blobs_fd, .fd = -1};
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return error_set(err, -EIO, "blob: no random bytes");
	snprintf(ret->name, sizeof(ret->name), JOURNAL_BLOB_TEMPORARY "%016llx",
		 (unsigned long long)random);
	ret->fd = openat(ret->folder, ret->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			 BLOB_FILE_MODE);
	if (ret->fd < 0)
		return error_set(err, -errno, "blob: making a file: %s", strerror(errno));
	return 0;
}

static int sync_folder(int parent, const char *name)
{
	AUTO_FD fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int sync_blob_folder(struct journal *j, const struct digest *d)
{
	char folder[3], name[JOURNAL_BLOB_PATH_SIZE];
	name_of(d, folder, name);
	int rc = sync_folder(j->blobs_fd, folder);
	if (rc == 0)
		rc = sync_folder(j->blobs_fd, ".");
	j->blob_folder_synced[d->b[0]] = rc == 0;
	return rc;
}

/* A file that is there may be one that a process renamed and did not live to sync. */
static int found_file(struct journal *j, const struct digest *d, struct error *err)
{
	pthread_mutex_lock(&j->blob_lock);
	int rc = j->blob_folder_synced[d->b[0]] ? 0 : sync_blob_folder(j, d);
	pthread_mutex_unlock(&j->blob_lock);
	return rc < 0 ? error_set(err, rc, "blob: keeping it on disk: %s", strerror(-rc)) : 0;
}

/* Synced first, outside of the lock: that may take long, and another thread only waits for names. */
static int growing_name(struct journal *j, struct growing *g, const struct digest *d)
{
	char folder[3], path[JOURNAL_BLOB_PATH_SIZE];
	name_of(d, folder, path + 3);
	memcpy(path, folder, 2);
	path[2] = '/';
	int rc = 0;
	bool *synced = &j->blob_folder_synced[d->b[0]];
	bool entry_synced = *synced;
	*synced = false;
	if (rc == 0 && mkdirat(g->folder, folder, BLOB_FOLDER_MODE) == 0)
		entry_synced = false;
	else if (rc == 0 && errno != EEXIST)
		rc = -errno;
	if (rc == 0 && renameat(g->folder, g->name, g->folder, path) < 0)
		rc = -errno;
	if (rc == 0) {
		g->name[0] = '\0';
		rc = failpoint_hit("journal.blob_renamed");
	}
	if (rc == 0 && !entry_synced)
		rc = sync_blob_folder(j, d);
	else if (rc == 0)
		rc = sync_folder(g->folder, folder);
	*synced = rc == 0;
	return rc;
}

static int growing_finish(struct journal *j, struct growing *g, const struct digest *d,
			  struct error *err)
{
	int rc = fsync(g->fd) < 0 ? -errno : failpoint_hit("journal.blob_written");
	if (rc == 0) {
		pthread_mutex_lock(&j->blob_lock);
		rc = growing_name(j, g, d);
		pthread_mutex_unlock(&j->blob_lock);
	}
	return rc < 0 ? error_set(err, rc, "blob: keeping it on disk: %s", strerror(-rc)) : 0;
}

static int put_file(struct journal *j, struct bytes content, const struct digest *d,
		    struct error *err)
{
	struct growing g;
	(void)spare(j, d);
	AUTO_FD there = open_file(j, d);
	if (there >= 0)
		return found_file(j, d, err);
	int rc = growing_start(j, &g, err);
	if (rc == 0) {
		rc = io_write_all(g.fd, content.data, content.len);
		if (rc < 0)
			error_set(err, rc, "blob: writing: %s", strerror(-rc));
	}
	if (rc == 0)
		rc = growing_finish(j, &g, d, err);
	growing_drop(&g);
	return rc;
}

int journal_blob_put(struct journal *j, struct bytes content, struct digest *ret, struct error *err)
{
	struct digest d;
	if (j->o.read_only)
		return error_set(err, -EROFS, "blob: the journal is open read-only");
	if (content.len > JOURNAL_BLOB_MAX)
		return error_set_exit(err, -E2BIG, EXIT_STATUS_LIMIT,
				      "blob: %zu bytes are past the limit of %d", content.len,
				      JOURNAL_BLOB_MAX);
	digest_of(content, &d);
	bool small = content.len <= JOURNAL_BLOB_INLINE_MAX || j->o.in_memory;
	int rc = small ? put_inline(j, content, &d, err) : put_file(j, content, &d, err);
	if (rc == 0)
		*ret = d;
	return rc;
}

/* Copies fd's content while hashing it; stops at max. */
static int copy_hashed(int fd, off_t at, uint64_t max, int to, struct digest_ctx *hash,
		       uint64_t *ret_size)
{
	AUTO_FREE uint8_t *chunk = malloc(BLOB_CHUNK);
	uint64_t size = (uint64_t)at;
	if (!chunk)
		return -ENOMEM;
	while (size < max) {
		size_t want = max - size < BLOB_CHUNK ? (size_t)(max - size) : BLOB_CHUNK;
		ssize_t n = pread(fd, chunk, want, (off_t)size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		digest_ctx_update(hash, chunk, (size_t)n);
		int rc = io_write_all(to, chunk, (size_t)n);
		if (rc < 0)
			return rc;
		size += (uint64_t)n;
	}
	*ret_size = size;
	return 0;
}

static int put_fd_file(struct journal *j, int fd, uint64_t max, struct digest *ret,
		       uint64_t *ret_size, struct error *err)
{
	struct growing g;
	struct digest d;
	uint64_t size = 0;
	struct digest_ctx *hash = digest_ctx_new();
	if (!hash)
		return error_nomem(err);
	int rc = growing_start(j, &g, err);
	if (rc == 0) {
		rc = copy_hashed(fd, 0, max, g.fd, hash, &size);
		if (rc < 0)
			error_set(err, rc, "blob: copying: %s", strerror(-rc));
	}
	if (rc == 0) {
		digest_ctx_final(hash, &d);
		(void)spare(j, &d);
		AUTO_FD there = open_file(j, &d);
		rc = there < 0 ? growing_finish(j, &g, &d, err) : found_file(j, &d, err);
	}
	growing_drop(&g);
	digest_ctx_free(hash);
	if (rc == 0) {
		*ret = d;
		*ret_size = size;
	}
	return rc;
}

int journal_blob_put_fd(struct journal *j, int fd, uint64_t max, struct digest *ret,
			uint64_t *ret_size, struct error *err)
{
	AUTO_BUFFER head = {0};
	uint64_t limit = max < JOURNAL_BLOB_MAX ? max : JOURNAL_BLOB_MAX;
	uint64_t small = j->o.in_memory			   ? limit
			 : limit < JOURNAL_BLOB_INLINE_MAX ? limit
							   : JOURNAL_BLOB_INLINE_MAX;
	if (j->o.read_only)
		return error_set(err, -EROFS, "blob: the journal is open read-only");
	struct stat st;
	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "blob: %s", strerror(errno));
	uint64_t size = (uint64_t)st.st_size < limit ? (uint64_t)st.st_size : limit;
	if (size > small)
		return put_fd_file(j, fd, limit, ret, ret_size, err);
	int rc = buffer_reserve(&head, size ? size : 1);
	if (rc == 0 && size)
		rc = io_pread_all(fd, head.data, size, 0);
	if (rc < 0)
		return error_set(err, rc, "blob: reading: %s", strerror(-rc));
	rc = journal_blob_put(j, bytes_of(head.data, size), ret, err);
	if (rc == 0)
		*ret_size = size;
	return rc;
}

int journal_blob_sync(struct journal *j, struct error *err)
{
	AUTO_BUFFER ops = {0};
	struct digest d;

	/* A synced write takes all earlier ones along; the empty blob is one that changes nothing.
	 */
	digest_of(bytes_of(NULL, 0), &d);
	journal_kv_put(&ops, JOURNAL_FAMILY_BLOB, inline_key(&d), bytes_of("", 0));
	return ops.failed ? error_nomem(err) : journal_store_write_now(j, buffer_bytes(&ops), err);
}

static int missing(const struct digest *d, int rc, struct error *err)
{
	char hex[DIGEST_HEX_SIZE];
	return error_set(err, rc, "blob %.16s: %s", digest_hex(d, hex),
			 rc == -ENOENT ? "not in this journal" : strerror(-rc));
}

static int get_inline(struct journal *j, const struct digest *d, struct buffer *out)
{
	journal_store_drain(j);
	return j->kv->ops->get(j->kv, JOURNAL_FAMILY_BLOB, inline_key(d), out, NULL);
}

int journal_blob_get(struct journal *j, const struct digest *d, size_t max, struct buffer *out,
		     struct error *err)
{
	size_t before = out->len;
	int rc = get_inline(j, d, out);
	if (rc == 0 && out->len - before > max) {
		out->len = before;
		rc = -E2BIG;
	}
	if (rc != -ENOENT)
		return rc < 0 ? missing(d, rc, err) : 0;
	AUTO_FD fd = open_file(j, d);
	rc = fd < 0 ? fd : io_read_all(fd, max, out);
	return rc < 0 ? missing(d, rc, err) : 0;
}

int journal_blob_open(struct journal *j, const struct digest *d, struct error *err)
{
	int fd = open_file(j, d);
	if (fd >= 0)
		return fd;
	AUTO_BUFFER content = {0};
	int rc = fd == -ENOENT ? get_inline(j, d, &content) : fd;
	if (rc == 0)
		rc = io_memfd_sealed("blob", buffer_bytes(&content), false);
	return rc < 0 ? missing(d, rc, err) : rc;
}
