/*
 * Names below spool/, and the locks that tell what lives from what is lost: for both ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include "sandbox/protocol.h"

static char *put_name(const uint8_t *id, const char *suffix, char *buf)
{
	char *p = buf;

	for (size_t i = 0; i < SANDBOX_ATTEMPT_SIZE; i++, p += 2)
		snprintf(p, 3, "%02x", id[i]);
	strcpy(p, suffix);
	return buf;
}

char *sandbox_spool_name(const struct sandbox_attempt_id *a, enum sandbox_spool_kind kind,
			 char *buf)
{
	static const char *const suffix[] = {".o", ".e", ".l"};

	return put_name(a->b, suffix[kind], buf);
}

char *sandbox_net_lock_name(const struct sandbox_net_id *run, char *buf)
{
	return put_name(run->b, ".n", buf);
}

static int is_locked(int dir_fd, const char *name)
{
	AUTO_FD fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? 1 : -errno;
}

int sandbox_attempt_lives(int spool_fd, const struct sandbox_attempt_id *a)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];

	return is_locked(spool_fd, sandbox_spool_name(a, SANDBOX_SPOOL_LOCK, name));
}

int sandbox_net_lives(int spool_fd, const struct sandbox_net_id *run)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];

	return is_locked(spool_fd, sandbox_net_lock_name(run, name));
}

int sandbox_keeper_lives(int state_fd)
{
	return is_locked(state_fd, PROTOCOL_LOCK);
}
