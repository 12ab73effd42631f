#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "base/failpoint.h"
#include "base/io.h"
#include "sandbox/keeper.h"

/* A parent's descriptors may lie at the very numbers that the child wants: dup2 of a number onto
 * itself would keep close-on-exec, so both come from above. */
int proc_spawn(int exe, const char *name, const char *mode, int control, int second, pid_t *ret)
{
	char path[64], name_copy[32], mode_copy[16];
	char *argv[] = {name_copy, mode ? mode_copy : NULL, NULL}, *env[FAILPOINT_ENV_MAX + 1];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;

	failpoint_env(env);
	snprintf(name_copy, sizeof(name_copy), "%s", name);
	snprintf(mode_copy, sizeof(mode_copy), "%s", mode ? mode : "");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", exe);
	AUTO_FD high_sock = fcntl(control, F_DUPFD_CLOEXEC, 10);
	AUTO_FD high_second = fcntl(second, F_DUPFD_CLOEXEC, 10);
	if (high_sock < 0 || high_second < 0)
		return -errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	int err = posix_spawn_file_actions_adddup2(&actions, high_sock, INIT_CONTROL_FD);
	if (err == 0)
		err = posix_spawn_file_actions_adddup2(&actions, high_second, INIT_KEEPER_FD);
	if (err == 0)
		err = posix_spawn(ret, path, &actions, &attr, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -err;
}

int proc_pair(int *ret_ours, int *ret_theirs)
{
	const struct timeval timeout = {.tv_sec = KEEPER_ANSWER_MS / 1000};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	(void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	*ret_ours = pair[0];
	*ret_theirs = pair[1];
	return 0;
}

int proc_start_init(struct keeper *k, const char *mode, int *ret_sock, pid_t *ret_pid,
		    struct error *err)
{
	AUTO_FD ours = -1;
	AUTO_FD theirs = -1;
	int size = 512 * 1024, r = proc_pair(&ours, &theirs);

	if (r < 0)
		return error_set(err, r, "keeper: no socket for holdfast-init: %s", strerror(-r));
	(void)setsockopt(ours, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	r = proc_spawn(k->init_fd, "holdfast-init", mode, theirs, k->self_pidfd, ret_pid);
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_SANDBOX,
				      "keeper: cannot start holdfast-init: %s", strerror(-r));
	*ret_sock = take_fd(&ours);
	return 0;
}

int proc_send(int sock, const struct init_message *m, struct bytes plan, const int *fds,
	      size_t fd_count)
{
	struct init_message copy = *m;
	int all[IO_FDS_MAX];
	AUTO_FD memfd = -1;
	AUTO_BUFFER data = {0};

	if (fd_count >= IO_FDS_MAX)
		return -E2BIG;
	if (fd_count > 0)
		memcpy(all, fds, fd_count * sizeof(int));
	if (plan.len > INIT_PLAN_INLINE) {
		memfd = memfd_create("plan", MFD_CLOEXEC);
		if (memfd < 0)
			return -errno;
		int err = io_write_all(memfd, plan.data, plan.len);
		if (err < 0)
			return err;
		all[fd_count++] = memfd;
		copy.fds |= INIT_FD_PLAN;
	}
	if (buffer_append(&data, &copy, sizeof(copy)) < 0 ||
	    (memfd < 0 && plan.len > 0 && buffer_append(&data, plan.data, plan.len) < 0))
		return data.failed;
	ssize_t n = io_send_fds(sock, data.data, data.len, all, fd_count);
	return n < 0 ? (int)n : 0;
}

int proc_receive(int sock, struct init_report *ret, int *fds, size_t *ret_fd_count)
{
	ssize_t n = io_recv_fds(sock, ret, sizeof(*ret), fds, ret_fd_count);

	if (n < 0)
		return (int)n;
	if ((size_t)n == sizeof(*ret))
		return 0;
	for (size_t i = 0; i < *ret_fd_count; i++)
		close(fds[i]);
	*ret_fd_count = 0;
	return n == 0 ? -ECONNRESET : -EPROTO;
}
