#pragma once
/*
 * Small exact I/O used by the impure rooms (library base_io, not part of the pure base): whole
 * reads and writes, descriptors over sockets, paths below a descriptor. Negative errno on failure;
 * EINTR is handled here.
 */
#include "base/buffer.h"

MUST_CHECK int io_read_all(int fd, size_t max, struct buffer *out); /* -E2BIG past max */
MUST_CHECK int io_read_file_at(int dirfd, const char *name, size_t max,
			       struct buffer *out); /* O_NOFOLLOW, regular files only */
MUST_CHECK int io_write_all(int fd, const void *data, size_t len);
MUST_CHECK int io_pread_all(int fd, void *data, size_t len, off_t at); /* -ENODATA when short */
/* tmp name, write, fsync, rename over name, fsync of the folder. name has no '/'. */
MUST_CHECK int io_write_file_atomic_at(int dirfd, const char *name, struct bytes content,
				       mode_t mode);

enum { IO_FDS_MAX = 16 };
/* sendmsg(2) with SCM_RIGHTS, MSG_NOSIGNAL. Returns bytes sent or negative errno (-EAGAIN on a full
 * non-blocking socket). */
MUST_CHECK ssize_t io_send_fds(int sock, const void *data, size_t len, const int *fds,
			       size_t fd_count);
/* recvmsg(2), MSG_CMSG_CLOEXEC; fds beyond IO_FDS_MAX are closed and -EPROTO returned; a message
 * cut short by len is -EMSGSIZE, its fds closed. ret_fds holds IO_FDS_MAX. *ret_fd_count is always
 * set. 0 = end. */
MUST_CHECK ssize_t io_recv_fds(int sock, void *data, size_t len, int *ret_fds,
			       size_t *ret_fd_count);
/* openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS. */
MUST_CHECK int io_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
/* A sealed memfd (F_SEAL_WRITE|GROW|SHRINK|SEAL) with the content; executable where exec. */
MUST_CHECK int io_memfd_sealed(const char *name, struct bytes content, bool exec);
/* Connects to, or binds, a Unix socket called name in the folder dirfd, whatever the length of
 * the folder's path (by /proc/self/fd; unix(7): 107 bytes). type is SOCK_STREAM or
 * SOCK_SEQPACKET. Returns the descriptor, CLOEXEC and blocking. The bound socket has mode 0600;
 * a stale one is the caller's to unlink (-EADDRINUSE). */
MUST_CHECK int io_unix_connect_at(int dirfd, const char *name, int type);
MUST_CHECK int io_unix_listen_at(int dirfd, const char *name, int type, int backlog);
