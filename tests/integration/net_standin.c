/*
 * Stands where holdfast-gate and holdfast-courier do, and says what it was given: for the tests of
 * the keeper, which care about descriptors and lives and not about what is spoken.
 *
 * As gate: every connection gets one line, "PID TABLE-BYTES CA-BYTES NAMES LISTENERS", and a line
 * that comes in is obeyed: "name E S TEXT" is told to the keeper, "trunk TEXT" goes to the courier.
 * As courier: "courier PID" goes to each new report channel, and what comes over the trunk too.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "base/guard.h"
#include "base/io.h"
#include "sandbox/gate/control.h"

enum { CONTROL_FD = 3, HELD_MAX = 8192 };

static int table = -1, ca = -1, trunk = -1, report = -1;
static struct {
	int fd;
	uint8_t attempt[16];
} held[HELD_MAX];
static size_t held_count, name_count;

static void replace(int *fd, int with)
{
	close_fd(fd);
	*fd = with;
}

static long long size_of(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? (long long)st.st_size : -1;
}

static void say_report(const char *text)
{
	if (report >= 0)
		(void)!send(report, text, strlen(text), MSG_NOSIGNAL);
}

static void on_control(void)
{
	struct control_message m;
	int fds[IO_FDS_MAX];
	char text[64];
	size_t n;

	ssize_t got = io_recv_fds(CONTROL_FD, &m, sizeof(m), fds, &n);
	if (got != sizeof(m))
		_exit(0);
	switch ((enum control_type)m.type) {
	case CONTROL_TABLE:
		replace(&table, fds[0]);
		return;
	case CONTROL_CA:
		replace(&ca, fds[0]);
		return;
	case CONTROL_LISTENERS:
		for (size_t i = 0; i < n && held_count < HELD_MAX; i++, held_count++) {
			held[held_count].fd = fds[i];
			memcpy(held[held_count].attempt, m.attempt, 16);
		}
		return;
	case CONTROL_TRUNK:
		replace(&trunk, fds[0]);
		return;
	case CONTROL_ATTEMPT_END:
		for (size_t i = 0; i < held_count;) {
			if (memcmp(held[i].attempt, m.attempt, 16) != 0) {
				i++;
				continue;
			}
			close(held[i].fd);
			held[i] = held[--held_count];
		}
		return;
	case CONTROL_NAME:
		name_count++;
		return;
	case CONTROL_REPORT:
		replace(&report, fds[0]);
		snprintf(text, sizeof(text), "courier %d", getpid());
		say_report(text);
		return;
	}
}

static void obey(const char *line)
{
	struct control_message m = {.type = CONTROL_NAME};

	if (sscanf(line, "name %u %u %255s", &m.entry, &m.slot, m.name) == 3)
		(void)!send(CONTROL_FD, &m, sizeof(m), MSG_NOSIGNAL);
	else if (strncmp(line, "trunk ", 6) == 0)
		(void)!send(trunk, line + 6, strlen(line + 6), MSG_NOSIGNAL);
}

static void on_client(int listener)
{
	char text[128], line[512];
	struct timeval timeout = {.tv_sec = 2};

	AUTO_FD c = accept(listener, NULL, NULL);
	if (c < 0)
		return;
	(void)setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	snprintf(text, sizeof(text), "%d %lld %lld %zu %zu\n", getpid(), size_of(table),
		 size_of(ca), name_count, held_count);
	(void)!send(c, text, strlen(text), MSG_NOSIGNAL);
	ssize_t n = recv(c, line, sizeof(line) - 1, 0);
	if (n > 0) {
		line[n] = '\0';
		obey(line);
		(void)!send(c, "done\n", 5, MSG_NOSIGNAL);
	}
}

static void on_trunk(void)
{
	char text[512];

	ssize_t n = recv(trunk, text, sizeof(text) - 1, 0);
	if (n <= 0) {
		replace(&trunk, -1);
		return;
	}
	text[n] = '\0';
	say_report(text);
}

int main(int argc, char **argv)
{
	static struct pollfd p[HELD_MAX + 2];

	(void)argc;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bool courier = strcmp(argv[0], "holdfast-courier") == 0;
	for (;;) {
		p[0] = (struct pollfd){.fd = CONTROL_FD, .events = POLLIN};
		p[1] = (struct pollfd){.fd = courier ? trunk : -1, .events = POLLIN};
		for (size_t i = 0; i < held_count; i++)
			p[2 + i] = (struct pollfd){.fd = held[i].fd, .events = POLLIN};
		size_t count = held_count;
		if (poll(p, 2 + count, -1) < 0)
			return 1;
		for (size_t i = 0; i < count; i++)
			if (p[2 + i].revents & POLLIN)
				on_client(held[i].fd);
		if (p[1].revents)
			on_trunk();
		if (p[0].revents)
			on_control();
	}
}
