#pragma once
/*
 * System calls and constants that the libc of the oldest supported system lacks (Debian 12:
 * glibc 2.36, headers of 6.1), as the manual pages of the kernel give them. No state, no
 * allocation: usable after clone.
 */
#include <errno.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* ABI 3, Linux 6.2 */
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15) /* ABI 5, Linux 6.10 */
#endif
#define SYS_LANDLOCK_SCOPE_ABSTRACT_UNIX (1ULL << 0) /* ABI 6, Linux 6.12 */
#define SYS_LANDLOCK_SCOPE_SIGNAL	 (1ULL << 1)

struct sys_landlock_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* ABI 4 */
	uint64_t scoped; /* ABI 6 */
};

/* All return 0 or more, or a negative errno. */
static inline long sys_ret(long r)
{
	return r < 0 ? -errno : r;
}

static inline long sys_clone3(struct clone_args *args)
{
	return sys_ret(syscall(SYS_clone3, args, sizeof(*args)));
}

static inline int sys_open_tree(int dirfd, const char *path, unsigned flags)
{
	return (int)sys_ret(syscall(SYS_open_tree, dirfd, path, flags));
}

static inline int sys_move_mount(int from, const char *from_path, int to, const char *to_path,
				 unsigned flags)
{
	return (int)sys_ret(syscall(SYS_move_mount, from, from_path, to, to_path, flags));
}

static inline int sys_mount_setattr(int dirfd, const char *path, unsigned flags,
				    struct mount_attr *attr)
{
	return (int)sys_ret(syscall(SYS_mount_setattr, dirfd, path, flags, attr, sizeof(*attr)));
}

static inline int sys_fsopen(const char *type, unsigned flags)
{
	return (int)sys_ret(syscall(SYS_fsopen, type, flags));
}

static inline int sys_fsconfig(int fd, unsigned cmd, const char *key, const void *value, int aux)
{
	return (int)sys_ret(syscall(SYS_fsconfig, fd, cmd, key, value, aux));
}

static inline int sys_fsmount(int fd, unsigned flags, unsigned attrs)
{
	return (int)sys_ret(syscall(SYS_fsmount, fd, flags, attrs));
}

static inline int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode,
			      uint64_t resolve)
{
	struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};

	return (int)sys_ret(syscall(SYS_openat2, dirfd, path, &how, sizeof(how)));
}

static inline int sys_pivot_root(const char *new_root, const char *put_old)
{
	return (int)sys_ret(syscall(SYS_pivot_root, new_root, put_old));
}

static inline int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
	return (int)sys_ret(syscall(SYS_close_range, first, last, flags));
}

static inline int sys_pidfd_open(pid_t pid)
{
	return (int)sys_ret(syscall(SYS_pidfd_open, pid, 0));
}

static inline int sys_pidfd_send_signal(int pidfd, int sig)
{
	return (int)sys_ret(syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0));
}

static inline int sys_seccomp(unsigned op, unsigned flags, void *arg)
{
	return (int)sys_ret(syscall(SYS_seccomp, op, flags, arg));
}

static inline int sys_landlock_create(const struct sys_landlock_attr *attr, size_t size,
				      unsigned flags)
{
	return (int)sys_ret(syscall(SYS_landlock_create_ruleset, attr, size, flags));
}

static inline int sys_landlock_add_path(int ruleset, uint64_t access, int fd)
{
	struct landlock_path_beneath_attr attr = {.allowed_access = access, .parent_fd = fd};

	return (int)sys_ret(
		syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &attr, 0));
}

static inline int sys_landlock_restrict(int ruleset)
{
	return (int)sys_ret(syscall(SYS_landlock_restrict_self, ruleset, 0));
}
