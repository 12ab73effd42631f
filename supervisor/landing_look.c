#include "supervisor/landing_look.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>

#include "base/io.h"

enum { READ_BYTES = 256 * 1024, LOOKS_MAX = 3 };

static int64_t ns_of(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static enum manifest_type type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return MANIFEST_FILE;
	case S_IFDIR:
		return MANIFEST_DIR;
	case S_IFLNK:
		return MANIFEST_SYMLINK;
	case S_IFIFO:
		return MANIFEST_FIFO;
	case S_IFSOCK:
		return MANIFEST_SOCKET;
	case S_IFBLK:
		return MANIFEST_BLOCK;
	default:
		return MANIFEST_CHAR;
	}
}

int landing_look_open(int dir, const char *name)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	AUTO_FD fd = openat(dir, name, flags | O_NOATIME);
	struct stat st;

	if (fd < 0 && errno == EPERM)
		fd = openat(dir, name, flags);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? take_fd(&fd) : -EINVAL;
}

int landing_look_hash(int fd, uint64_t max, struct digest *ret, uint64_t *ret_size)
{
	AUTO_FREE uint8_t *buf = malloc(READ_BYTES);
	struct digest_ctx *hash = digest_ctx_new();
	uint64_t size = 0;
	ssize_t n = -ENOMEM;

	while (buf && hash) {
		n = pread(fd, buf, READ_BYTES, (off_t)size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			n = -errno;
		if (n <= 0)
			break;
		size += (uint64_t)n;
		if (size > max) {
			n = -EFBIG;
			break;
		}
		digest_ctx_update(hash, buf, (size_t)n);
	}
	if (n == 0) {
		digest_ctx_final(hash, ret);
		*ret_size = size;
	}
	digest_ctx_free(hash);
	return (int)n;
}

int64_t landing_look_entries(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR d = fd < 0 ? NULL : fdopendir(fd);
	int64_t n = 0;

	if (!d) {
		int r = -errno;

		if (fd >= 0)
			close(fd);
		return r;
	}
	for (struct dirent *e; (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    strncmp(e->d_name, LANDING_HIDDEN_PREFIX, sizeof(LANDING_HIDDEN_PREFIX) - 1) !=
			    0)
			n++;
	return n;
}

bool landing_look_unwritten(int fd, unsigned wait_ms)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000000};

	/* Should somebody open it in the instant that the lease stands, the kernel tells with a
	 * signal whose default would be to end us: one that is ignored by default instead. */
	if (fcntl(fd, F_SETSIG, SIGURG) < 0)
		return true;
	for (unsigned waited = 0;; waited += 10) {
		if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
			(void)fcntl(fd, F_SETLEASE, F_UNLCK);
			return true;
		}
		if (errno != EAGAIN)
			return true;
		if (waited >= wait_ms)
			return false;
		nanosleep(&pause, NULL);
	}
}

static bool same_inode_version(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mode == b->st_mode && ns_of(a->st_ctim) == ns_of(b->st_ctim) &&
	       ns_of(a->st_mtim) == ns_of(b->st_mtim);
}

/* 1: it changed while it was read. */
static int hash_name(int dir, const char *name, const struct stat *st, struct landing_state *s)
{
	AUTO_FD fd = landing_look_open(dir, name);
	struct stat before;
	struct stat after;
	uint64_t size;
	int r;

	if (fd < 0)
		return fd == -EACCES || fd == -EPERM ? 0 : 1;
	if (fstat(fd, &before) < 0 || !same_inode_version(st, &before))
		return 1;
	r = landing_look_hash(fd, LANDING_PREIMAGE_MAX, &s->digest, &size);
	if (r == -EFBIG)
		return 0;
	if (r < 0)
		return r;
	if (fstat(fd, &after) < 0 || !same_inode_version(&before, &after) || size != s->size)
		return 1;
	s->has_digest = true;
	s->plain = after.st_nlink == 1 && flistxattr(fd, NULL, 0) == 0;
	return 0;
}

static int look_link(int dir, const char *name, struct landing_state *s, char **ret_target)
{
	char target[MANIFEST_TARGET_MAX + 1];
	ssize_t n = readlinkat(dir, name, target, sizeof(target));
	char *copy;

	if (n < 0)
		return errno == EINVAL || errno == ENOENT ? 1 : -errno;
	if (n > MANIFEST_TARGET_MAX)
		return -ENAMETOOLONG;
	s->size = (uint64_t)n;
	digest_of(bytes_of(target, (size_t)n), &s->digest);
	s->has_digest = true;
	if (!ret_target)
		return 0;
	copy = bytes_dup_str(bytes_of(target, (size_t)n));
	if (!copy)
		return -ENOMEM;
	free(*ret_target);
	*ret_target = copy;
	s->target = bytes_of(copy, (size_t)n);
	return 0;
}

/* One look. 1: the name changed while it was looked at. */
static int look_once(int dir, const char *name, bool digest, bool entries, struct landing_state *s,
		     char **ret_target)
{
	struct stat st;

	*s = (struct landing_state){.target = bytes_of("", 0)};
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	s->type = type_of(st.st_mode);
	s->mode = s->type == MANIFEST_SYMLINK ? 0 : st.st_mode & 07777;
	s->size = s->type == MANIFEST_FILE ? (uint64_t)st.st_size : 0;
	s->uid = st.st_uid;
	s->gid = st.st_gid;
	s->ctime_ns = ns_of(st.st_ctim);
	s->mtime_ns = ns_of(st.st_mtim);
	s->ino = st.st_ino;
	if (s->type == MANIFEST_SYMLINK)
		return look_link(dir, name, s, ret_target);
	if (s->type == MANIFEST_FILE && digest)
		return hash_name(dir, name, &st, s);
	if (s->type == MANIFEST_DIR && entries) {
		AUTO_FD fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		int64_t n = fd < 0 ? -errno : landing_look_entries(fd);

		/* One that cannot be listed is not known to be empty. */
		s->entries = n < 0 ? UINT64_MAX : (uint64_t)n;
	}
	return 0;
}

int landing_look_at(int dir, const char *name, bool digest, bool entries, struct landing_state *ret,
		    char **ret_target)
{
	struct landing_state s;
	int r = 1;

	for (int i = 0; i < LOOKS_MAX && r > 0; i++)
		r = look_once(dir, name, digest, entries, &s, ret_target);
	if (r < 0)
		return r;
	if (r > 0)
		s.has_digest = false;
	*ret = s;
	return 0;
}

int landing_look(int workspace_fd, const char *path, bool digest, bool entries,
		 struct landing_state *ret, char **ret_target, struct error *err)
{
	const char *slash = strrchr(path, '/');
	AUTO_FREE char *above = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
	AUTO_FD dir = -1;
	int r;

	if (!above)
		return error_nomem(err);
	dir = io_open_beneath(workspace_fd, above, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir == -ENOENT || dir == -ENOTDIR || dir == -ELOOP) {
		*ret = (struct landing_state){.target = bytes_of("", 0)};
		return 0;
	}
	r = dir < 0 ? dir
		    : landing_look_at(dir, slash ? slash + 1 : path, digest, entries, ret,
				      ret_target);
	if (r == -EACCES) {
		*ret = (struct landing_state){.target = bytes_of("", 0), .unseen = true};
		return 0;
	}
	if (r < 0)
		error_set(err, r, "landing: the workspace cannot be looked at: %s", strerror(-r));
	return r;
}

static int look_below(const struct landing_look_walk *walk, struct bytes path, int depth)
{
	AUTO_FREE char *name = bytes_dup_str(path);
	AUTO_DIR d = NULL;
	int fd = name ? io_open_beneath(walk->workspace_fd, name,
					O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
		      : -ENOMEM;
	int r = 0;

	if (fd == -ENOMEM)
		return error_nomem(walk->err);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		AUTO_FREE char *target = NULL;
		AUTO_BUFFER full = {0};
		struct landing_state s;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    strncmp(e->d_name, LANDING_HIDDEN_PREFIX, sizeof(LANDING_HIDDEN_PREFIX) - 1) ==
			    0)
			continue;
		buffer_append(&full, path.data, path.len);
		buffer_append_byte(&full, '/');
		if (buffer_append_str(&full, e->d_name) < 0)
			return error_nomem(walk->err);
		if (walk->known(walk->arg, buffer_bytes(&full)))
			continue;
		r = landing_look_at(dirfd(d), e->d_name, true, true, &s, &target);
		if (r < 0)
			return error_set(walk->err, r,
					 "landing: the workspace cannot be looked at: %s",
					 strerror(-r));
		if (s.type == MANIFEST_ABSENT)
			continue;
		r = walk->fn(walk->arg, buffer_bytes(&full), &s);
		if (r == 0 && s.type == MANIFEST_DIR && depth < MANIFEST_DEPTH_MAX)
			r = look_below(walk, buffer_bytes(&full), depth + 1);
	}
	return r;
}

int landing_look_below(const struct landing_look_walk *walk, struct bytes path)
{
	return look_below(walk, path, 0);
}
