#pragma once
/*
 * Who is at the other end of a control connection. The peer must be the daemon's own uid or root,
 * and live in the daemon's own user and pid namespace: what runs in a sandbox has the workspace
 * owner's uid too. Any doubt refuses: a process that is gone, that this daemon may not look at, a
 * kernel that cannot say.
 *
 * SO_PEERPIDFD (Linux 6.5) names the process that connected and no later one of its number. Below
 * 6.5 the kernel tells a number alone (SO_PEERCRED), and pidfd_open(2) takes whoever has it by then:
 * a process that ended behind its connection, whose number went to another one meanwhile, is taken
 * for that one, and nothing there tells the two apart. From the pidfd on, what is read is one
 * process's, since it lives when all was read.
 */
#include <sys/types.h>
#include "base/error.h"

struct api_peer {
	uid_t uid;
	pid_t pid;
};

/* 0, or -EPERM with *err (for the log and the client alike). */
MUST_CHECK int api_peer_check(int sock, struct api_peer *ret, struct error *err);
