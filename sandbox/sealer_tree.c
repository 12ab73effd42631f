#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#include "base/guard.h"
#include "sandbox/sealer_work.h"

struct sealer_tree_inode {
	uint64_t ino; /* 0 = free: no file system gives it out */
	char *path;
	size_t len;
};

void sealer_tree_names_free(struct sealer_tree_names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->name[i]);
	free(n->name);
	*n = (struct sealer_tree_names){0};
}

static int add_name(struct sealer_tree_names *n, const char *name)
{
	if (n->count == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : 32;
		char **grown = reallocarray(n->name, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		n->name = grown;
		n->cap = cap;
	}
	n->name[n->count] = strdup(name);
	if (!n->name[n->count])
		return -ENOMEM;
	n->count++;
	return 0;
}

int sealer_tree_names(int dir, size_t max, struct sealer_tree_names *ret)
{
	struct sealer_tree_names n = {0};
	AUTO_FD own = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR d = own < 0 ? NULL : fdopendir(own);
	struct dirent *e;
	int r = 0;

	if (!d)
		return -errno;
	take_fd(&own);
	while (r == 0 && (errno = 0, (e = readdir(d)))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		r = n.count == max ? SEALER_TREE_MORE : add_name(&n, e->d_name);
	}
	if (r == 0 && errno)
		r = -errno;
	if (r < 0) {
		sealer_tree_names_free(&n);
		return r;
	}
	*ret = n;
	return r;
}

int sealer_tree_enter(int dir, const char *name)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

int64_t sealer_tree_ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static const uint8_t zeros[SEALER_WORK_READ];

static void hash_zeros(struct digest_ctx *ctx, uint64_t count)
{
	while (count > 0) {
		size_t n = count < sizeof(zeros) ? (size_t)count : sizeof(zeros);

		digest_ctx_update(ctx, zeros, n);
		count -= n;
	}
}

/* Bytes from *at to end, read; -EAGAIN when the file is shorter than it was said to be. */
static int hash_data(int fd, uint64_t *at, uint64_t end, struct digest_ctx *ctx)
{
	static uint8_t piece[SEALER_WORK_READ];

	while (*at < end) {
		uint64_t left = end - *at;
		ssize_t n = pread(fd, piece, left < sizeof(piece) ? (size_t)left : sizeof(piece),
				  (off_t)*at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EAGAIN;
		digest_ctx_update(ctx, piece, (size_t)n);
		*at += (uint64_t)n;
	}
	return 0;
}

int sealer_tree_hash(int fd, uint64_t size, struct digest_ctx *ctx, struct digest *ret)
{
	uint64_t at = 0;

	digest_ctx_reset(ctx);
	while (at < size) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		off_t hole;
		uint64_t end;
		int r;

		if (data < 0 && errno == ENXIO) {
			hash_zeros(ctx, size - at);
			break;
		}
		if (data < 0 && errno != EINVAL)
			return -errno;
		if (data > (off_t)at) { /* EINVAL: this file system has no holes */
			end = (uint64_t)data < size ? (uint64_t)data : size;
			hash_zeros(ctx, end - at);
			at = end;
		}
		hole = data < 0 ? -1 : lseek(fd, (off_t)at, SEEK_HOLE);
		end = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
		r = hash_data(fd, &at, end, ctx);
		if (r < 0)
			return r;
	}
	digest_ctx_final(ctx, ret);
	return 0;
}

void sealer_tree_inodes_free(struct sealer_tree_inodes *t)
{
	for (size_t i = 0; i < t->cap; i++)
		free(t->slot[i].path);
	free(t->slot);
	*t = (struct sealer_tree_inodes){0};
}

static struct sealer_tree_inode *find_slot(struct sealer_tree_inode *slot, size_t cap, uint64_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15ull >> 20) & (cap - 1);

	while (slot[i].ino != 0 && slot[i].ino != ino)
		i = (i + 1) & (cap - 1);
	return &slot[i];
}

static int grow(struct sealer_tree_inodes *t)
{
	size_t cap = t->cap ? t->cap * 2 : 64;
	struct sealer_tree_inode *slot = calloc(cap, sizeof(*slot));

	if (!slot)
		return -ENOMEM;
	for (size_t i = 0; i < t->cap; i++)
		if (t->slot[i].ino != 0)
			*find_slot(slot, cap, t->slot[i].ino) = t->slot[i];
	free(t->slot);
	t->slot = slot;
	t->cap = cap;
	return 0;
}

int sealer_tree_inode(struct sealer_tree_inodes *t, uint64_t ino, struct bytes path,
		      struct bytes *ret_path)
{
	struct sealer_tree_inode *s;

	if ((t->count + 1) * 2 > t->cap && grow(t) < 0)
		return -ENOMEM;
	s = find_slot(t->slot, t->cap, ino);
	if (s->ino == ino) {
		*ret_path = bytes_of(s->path, s->len);
		return 0;
	}
	s->path = bytes_dup_str(path);
	if (!s->path)
		return -ENOMEM;
	s->ino = ino;
	s->len = path.len;
	t->count++;
	*ret_path = bytes_of("", 0);
	return 0;
}
