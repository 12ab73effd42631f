/*
 * holdfast-sealer: reads requests from descriptor 3 and forks for each, so that the bytes an agent
 * left behind are parsed in a process that has nothing else to lose. See sealer.h.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/failpoint.h"
#include "base/guard.h"
#include "base/io.h"
#include "sandbox/sealer_work.h"

struct job {
	pid_t pid; /* 0 = free */
	uint64_t id;
};

struct sealer {
	struct job jobs[SEALER_JOBS_MAX];
	size_t job_count;
	int signals;
};

struct message {
	uint8_t data[SEALER_MESSAGE_MAX + 1];
	size_t len;
	int fds[IO_FDS_MAX];
	size_t fd_count;
	struct sealer_request request;
};

static void drop_fds(struct message *m)
{
	for (size_t i = 0; i < m->fd_count; i++)
		close(m->fds[i]);
	m->fd_count = 0;
}

static int run(const struct message *m, struct sealer_done *done, struct error *err)
{
	const struct sealer_request *q = &m->request;

	switch (q->op) {
	case SEALER_SEAL:
		return sealer_seal_run(m->fds[0], m->fds[1], q, done, err);
	case SEALER_REMOVE:
		return sealer_remove_run(m->fds[0], q->names[0], err);
	case SEALER_SQUASH:
		return sealer_squash_run(m->fds[0], q, done, err);
	case SEALER_USAGE:
		return sealer_usage_run(m->fds[0], q, done, err);
	case SEALER_OPEN:
		return sealer_open_run(m->fds[0], q, done, err);
	case SEALER_VIEW:
		return sealer_view_run(m->fds[0], q, done, err);
	}
	return error_set(err, -EPROTO, "sealer: a request of an unknown kind");
}

static int send_reply(const struct sealer_reply *r, int fd)
{
	AUTO_BUFFER out = {0};
	ssize_t n = sealer_reply_encode(r, &out);

	if (n < 0)
		return (int)n;
	for (;;) {
		struct pollfd p = {.fd = SEALER_FD, .events = POLLOUT};

		n = io_send_fds(SEALER_FD, out.data, out.len, &fd, fd >= 0 ? 1 : 0);
		if (n != -EAGAIN)
			return n < 0 ? (int)n : 0;
		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return -errno;
	}
}

/* The child's whole life; its status is 0 if the answer went out. */
static int work(const struct message *m)
{
	struct sealer_done done = {.fd = -1};
	struct error err = {0};
	struct sealer_reply reply = {.id = m->request.id};

	reply.result = run(m, &done, &err);
	if (reply.result < 0) {
		reply.exit_status = err.exit_status;
		if (err.where[0]) {
			char text[ERROR_MSG_MAX + ERROR_WHERE_MAX];

			snprintf(text, sizeof(text), "%s: %s", err.msg, err.where);
			reply.message = bytes_str(text);
			return send_reply(&reply, -1) < 0;
		}
		reply.message = bytes_str(err.msg);
	} else {
		reply.digest = done.digest;
		reply.entries = done.entries;
		reply.bytes = done.bytes;
	}
	return send_reply(&reply, done.fd) < 0;
}

static int start(struct sealer *s, const struct message *m)
{
	pid_t parent = getpid();
	pid_t pid = fork();
	struct job *job = s->jobs;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		_exit(work(m));
	}
	while (job->pid != 0)
		job++;
	*job = (struct job){pid, m->request.id};
	s->job_count++;
	return 0;
}

static int answer_failed(uint64_t id, int code, const char *text)
{
	return send_reply(
		&(struct sealer_reply){.id = id, .result = code, .message = bytes_str(text)}, -1);
}

static int reap(struct sealer *s)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(s->signals, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t i = 0; i < SEALER_JOBS_MAX; i++) {
			struct job *job = &s->jobs[i];
			int r = 0;

			if (job->pid != pid)
				continue;
			if (status != 0)
				r = answer_failed(
					job->id, -EIO,
					"sealer: the process at work on this ended without an "
					"answer; the request can be sent again");
			job->pid = 0;
			s->job_count--;
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* 1 = the keeper is gone. A message that is not one of ours is the same: nothing that follows could
 * be trusted. */
static int take_request(struct sealer *s, struct message *m)
{
	struct error err = {0};
	ssize_t n = io_recv_fds(SEALER_FD, m->data, sizeof(m->data), m->fds, &m->fd_count);
	int r;

	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n == 0)
		return 1;
	if (n < 0 || n > SEALER_MESSAGE_MAX)
		return n < 0 ? (int)n : -EMSGSIZE;
	r = sealer_request_decode(bytes_of(m->data, (size_t)n), &m->request, &err);
	if (r == 0 && m->fd_count != sealer_request_fds(m->request.op))
		r = -EPROTO;
	if (r == 0) {
		r = start(s, m);
		if (r < 0)
			r = answer_failed(m->request.id, r, "sealer: no process for this request");
	}
	drop_fds(m);
	return r;
}

static int serve(struct sealer *s)
{
	static struct message message;

	for (;;) {
		struct pollfd p[2] = {
			{.fd = s->signals, .events = POLLIN},
			{.fd = SEALER_FD, .events = POLLIN},
		};
		/* While all jobs are taken requests wait in the socket, but its end is still seen.
		 */
		bool full = s->job_count == SEALER_JOBS_MAX;
		int r;

		if (full)
			p[1].events = 0;
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return -errno;
		r = reap(s);
		if (r < 0)
			return r;
		if (full && !(p[1].revents & (POLLHUP | POLLERR)))
			continue;
		if (p[1].revents) {
			r = full ? 1 : take_request(s, &message);
			if (r != 0)
				return r < 0 ? r : 0;
		}
	}
}

static int prepare(struct sealer *s)
{
	struct rlimit files;
	int type = 0;
	socklen_t len = sizeof(type);
	sigset_t set;

	/* Its keeper's death is its own; nothing of what it was lent may be looked at by another
	 * process. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	if (getsockopt(SEALER_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return -errno;
	if (type != SOCK_SEQPACKET)
		return -ESOCKTNOSUPPORT;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signals < 0 ? -errno : 0;
}

int main(void)
{
	struct sealer s = {0};
	int r;

	failpoint_init(getenv("HOLDFAST_FAILPOINT"));
	r = prepare(&s);
	if (r < 0) {
		fprintf(stderr,
			"holdfast-sealer: is started by holdfast-keeper with its socket as "
			"descriptor %d: %s\n",
			SEALER_FD, strerror(-r));
		return EXIT_STATUS_USAGE;
	}
	r = serve(&s);
	if (r < 0)
		fprintf(stderr, "holdfast-sealer: the keeper's connection: %s\n", strerror(-r));
	for (size_t i = 0; i < SEALER_JOBS_MAX; i++)
		if (s.jobs[i].pid > 0)
			kill(s.jobs[i].pid, SIGKILL);
	return r < 0 ? EXIT_STATUS_STEP_FAILED : EXIT_STATUS_OK;
}
