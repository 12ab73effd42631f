#include "supervisor/api/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/guard.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

static int peer_pidfd(int sock, pid_t pid)
{
	int fd = -1;
	socklen_t len = sizeof(fd);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0)
		return fd;
	if (errno != ENOPROTOOPT)
		return -errno;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	return fd < 0 ? -errno : fd;
}

/* The number behind a pidfd, in our pid namespace: 0 for a process of another one, -1 for one that
 * is gone. */
static pid_t pidfd_pid(int pidfd)
{
	char path[64], line[256];
	AUTO_FILE f = NULL;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "Pid:", 4) == 0)
			return (pid_t)strtol(line + 4, NULL, 10);
	return -1;
}

static int same_namespace(pid_t pid, const char *kind)
{
	char theirs[64], ours[64];
	struct stat a, b;

	snprintf(theirs, sizeof(theirs), "/proc/%d/ns/%s", pid, kind);
	snprintf(ours, sizeof(ours), "/proc/self/ns/%s", kind);
	if (stat(theirs, &a) < 0 || stat(ours, &b) < 0)
		return -errno;
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* A pidfd is readable once its process has ended. */
static int lives(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) == 0;
}

int api_peer_check(int sock, struct api_peer *ret, struct error *err)
{
	static const char *const kinds[] = {"user", "pid"};
	struct ucred cred;
	socklen_t len = sizeof(cred);
	AUTO_FD pidfd = -1;
	pid_t pid;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "refused: the kernel does not say who connected: %s",
				      strerror(errno));
	if (cred.uid != geteuid() && cred.uid != 0)
		return error_set_exit(
			err, -EPERM, EXIT_STATUS_DENIED,
			"refused: this supervisor serves uid %u, and uid %u asks; use your own",
			geteuid(), cred.uid);
	if (cred.pid <= 0)
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "refused: the client lives in another pid namespace; run it "
				      "outside of containers and sandboxes");
	pidfd = peer_pidfd(sock, cred.pid);
	if (pidfd < 0)
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "refused: the client cannot be looked at: %s; connect again",
				      strerror(-pidfd));
	pid = pidfd_pid(pidfd);
	if (pid <= 0)
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "refused: the client is gone or lives in another pid "
				      "namespace; run it outside of sandboxes");
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int same = same_namespace(pid, kinds[i]);

		if (same < 0)
			return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
					      "refused: the %s namespace of the client (pid %d) "
					      "cannot be read: %s; connect "
					      "as uid %u, by a program that may be traced",
					      kinds[i], pid, strerror(-same), geteuid());
		if (!same)
			return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
					      "refused: the client lives in another %s namespace; "
					      "run it outside of "
					      "containers and sandboxes",
					      kinds[i]);
	}
	/* Looked at last: what was read above was read of the pidfd's process and no later one of
	 * its number. */
	if (!lives(pidfd))
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "refused: the client ended while it was looked at");
	*ret = (struct api_peer){.uid = cred.uid, .pid = pid};
	return 0;
}
