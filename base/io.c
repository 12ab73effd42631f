#include "base/io.h"
#include "base/guard.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

/* linux/memfd.h of Debian 12 is older than Linux 6.3, which added these. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

enum {
	READ_PIECE = 64 * 1024,
	SCM_FDS_MAX = 253, /* the kernel's SCM_MAX_FD */
	TMP_TRIES = 64,
};

int io_read_all(int fd, size_t max, struct buffer *out)
{
	size_t left = max;

	for (;;) {
		size_t want = left < READ_PIECE ? left : READ_PIECE;
		uint8_t past;
		ssize_t n;
		int r = buffer_reserve(out, want);

		if (r < 0)
			return r;
		n = want ? read(fd, out->data + out->len, want) : read(fd, &past, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		if (want == 0)
			return -E2BIG;
		out->len += (size_t)n;
		out->data[out->len] = '\0';
		left -= (size_t)n;
	}
}

int io_read_file_at(int dirfd, const char *name, size_t max, struct buffer *out)
{
	struct stat st;
	/* O_NONBLOCK: opening a FIFO must not wait for its writer. */
	AUTO_FD fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	return io_read_all(fd, max, out);
}

int io_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int io_pread_all(int fd, void *data, size_t len, off_t at)
{
	char *p = data;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
		at += n;
	}
	return 0;
}

static int create_tmp(int dirfd, mode_t mode, char *tmp, size_t size)
{
	static atomic_uint counter;

	for (int i = 0; i < TMP_TRIES; i++) {
		int fd;

		snprintf(tmp, size, ".holdfast-tmp-%d-%u", (int)getpid(),
			 atomic_fetch_add(&counter, 1));
		fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			    mode & 0700);
		if (fd >= 0)
			return fd;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

int io_write_file_atomic_at(int dirfd, const char *name, struct bytes content, mode_t mode)
{
	char tmp[64];
	AUTO_FD dir = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_FD fd = -1;
	int r;

	if (dir < 0)
		return -errno;
	if (strchr(name, '/'))
		return -EINVAL;
	fd = create_tmp(dir, mode, tmp, sizeof(tmp));
	if (fd < 0)
		return fd;
	r = io_write_all(fd, content.data, content.len);
	if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0 || renameat(dir, tmp, dir, name) < 0))
		r = -errno;
	if (r < 0) {
		unlinkat(dir, tmp, 0);
		return r;
	}
	return fsync(dir) < 0 ? -errno : 0;
}

ssize_t io_send_fds(int sock, const void *data, size_t len, const int *fds, size_t fd_count)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(IO_FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)data, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (fd_count > IO_FDS_MAX)
		return -E2BIG;
	if (fd_count > 0) {
		struct cmsghdr *c = &control.align;

		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void close_all(const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}

ssize_t io_recv_fds(int sock, void *data, size_t len, int *ret_fds, size_t *ret_fd_count)
{
	/* Room for as many as the kernel ever passes, so that none arrives unseen and stays open.
	 */
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(SCM_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = {data, len};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	int got[SCM_FDS_MAX];
	size_t count = 0;
	ssize_t n;

	*ret_fd_count = 0;
	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		size_t k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		if (k > SCM_FDS_MAX - count)
			k = SCM_FDS_MAX - count;
		memcpy(got + count, CMSG_DATA(c), k * sizeof(int));
		count += k;
	}
	if (count > IO_FDS_MAX || (msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC))) {
		close_all(got, count);
		return msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : -EPROTO;
	}
	memcpy(ret_fds, got, count * sizeof(int));
	*ret_fd_count = count;
	return n;
}

int io_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = flags & (O_CREAT | __O_TMPFILE) ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	/* EAGAIN: a rename went on somewhere while ".." was resolved; the kernel asks to try again.
	 */
	for (int i = 0; i < TMP_TRIES; i++) {
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
		if (fd >= 0)
			return (int)fd;
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
	return -errno;
}

int io_memfd_sealed(const char *name, struct bytes content, bool exec)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	AUTO_FD fd = memfd_create(name, flags | (exec ? MFD_EXEC : MFD_NOEXEC_SEAL));
	int r;

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, flags);
	if (fd < 0)
		return -errno;
	r = io_write_all(fd, content.data, content.len);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return -errno;
	return take_fd(&fd);
}

static int unix_address(int dirfd, const char *name, struct sockaddr_un *ret)
{
	int n;

	if (name[0] == '\0' || strchr(name, '/'))
		return -EINVAL;
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (dirfd == AT_FDCWD)
		n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s", name);
	else
		n = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", dirfd,
			     name);
	return n < 0 || (size_t)n >= sizeof(ret->sun_path) ? -ENAMETOOLONG : 0;
}

int io_unix_connect_at(int dirfd, const char *name, int type)
{
	struct sockaddr_un a;
	AUTO_FD fd = -1;
	int r = unix_address(dirfd, name, &a);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* EINTR: a blocking connect to a full backlog was not made; it is safe to ask again. */
	do
		r = connect(fd, (struct sockaddr *)&a, sizeof(a));
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : take_fd(&fd);
}

int io_unix_listen_at(int dirfd, const char *name, int type, int backlog)
{
	struct sockaddr_un a;
	AUTO_FD fd = -1;
	int r = unix_address(dirfd, name, &a);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	/* The kernel gives the file that bind makes the mode of the socket (its unix_bind), so there
	 * is no moment of another. */
	if (fd < 0 || fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(fd, backlog) < 0)
		return -errno;
	return take_fd(&fd);
}
