/*
 * Names below spool/, and the locks that tell what lives from what is lost: for both ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/io.h"
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

bool sandbox_keeper_is_old(int state_fd, int helpers_fd)
{
	AUTO_BUFFER is = {0};
	char now[PROTOCOL_PROGRAM_SIZE];
	struct stat st;

	if (io_read_file_at(state_fd, PROTOCOL_LOCK, sizeof(now), &is) < 0 || is.len == 0 ||
	    fstatat(helpers_fd, "holdfast-keeper", &st, 0) < 0)
		return false;
	protocol_program(&st, now);
	return !bytes_equal(buffer_bytes(&is), bytes_str(now));
}

void protocol_program(const struct stat *st, char buf[PROTOCOL_PROGRAM_SIZE])
{
	snprintf(buf, PROTOCOL_PROGRAM_SIZE, "%ju:%ju\n", (uintmax_t)st->st_dev,
		 (uintmax_t)st->st_ino);
}
