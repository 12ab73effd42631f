#pragma once
/*
 * For the tests of layers: a throwaway folder with a base and a `layers` folder, a user namespace
 * like a step's, shell scripts run in a real overlay inside it, and a sealer to talk to. As root
 * the folders belong to an ordinary uid, since a step never is host uid 0. Everything goes in
 * layers_ns_close().
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "base/guard.h"
#include "base/io.h"
#include "sandbox/layers.h"
#include "sandbox/sealer.h"

enum { LAYERS_NS_UID = 23456, LAYERS_NS_REPLY_MS = 60000, LAYERS_NS_SKIP = 77 };

struct layers_ns {
	char root[64];
	uid_t uid;
	gid_t gid;
	int userns;
	int state; /* root/v1 */
	int layers;
	int spool;
	int base;
	int sealer; /* socket; -1 = none */
	pid_t sealer_pid;
	uint64_t last_id;
};

static inline void layers_ns_fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	_exit(120);
}

static inline int layers_ns_wait(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void layers_ns_write(pid_t pid, const char *file, const char *text)
{
	char path[64];
	AUTO_FD fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		errno = EIO;
}

/* A user namespace with one uid, the same inside as outside; -1 where the machine has none. */
static inline int layers_ns_make(uid_t uid, gid_t gid)
{
	int ready[2];
	int end[2];
	char text[64];
	char byte = 0;
	pid_t pid;
	int fd = -1;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(end, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		close(end[1]);
		byte = geteuid() == 0 &&
		       (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0);
		byte |= prctl(PR_SET_DUMPABLE, 1) < 0;
		byte |= unshare(CLONE_NEWUSER) < 0;
		if (write(ready[1], &byte, 1) == 1)
			(void)!read(end[0], &byte, 1);
		_exit(0);
	}
	close(ready[1]);
	close(end[0]);
	if (read(ready[0], &byte, 1) == 1 && byte == 0) {
		layers_ns_write(pid, "setgroups", "deny");
		snprintf(text, sizeof(text), "%u %u 1", uid, uid);
		layers_ns_write(pid, "uid_map", text);
		snprintf(text, sizeof(text), "%u %u 1", gid, gid);
		layers_ns_write(pid, "gid_map", text);
		snprintf(text, sizeof(text), "/proc/%d/ns/user", (int)pid);
		fd = open(text, O_RDONLY | O_CLOEXEC);
	}
	close(end[1]);
	close(ready[0]);
	layers_ns_wait(pid);
	return fd;
}

/* In a child: into the namespace, as its one uid, with all capabilities there. */
static inline void layers_ns_enter(const struct layers_ns *t)
{
	if (setns(t->userns, CLONE_NEWUSER) < 0)
		layers_ns_fail("setns");
	if (setresgid(t->gid, t->gid, t->gid) < 0 || setresuid(t->uid, t->uid, t->uid) < 0)
		layers_ns_fail("setresuid");
	/* Else its files in /proc, and what it executes from there, belong to root. */
	if (prctl(PR_SET_DUMPABLE, 1) < 0)
		layers_ns_fail("prctl");
}

/* Runs script with sh as the owner of the base, in the base. */
static inline void layers_ns_base(const struct layers_ns *t, const char *script)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (geteuid() == 0 && (setresgid(t->gid, t->gid, t->gid) < 0 ||
				       setresuid(t->uid, t->uid, t->uid) < 0))
			layers_ns_fail("setresuid");
		if (fchdir(t->base) < 0)
			layers_ns_fail("base");
		umask(022);
		execl("/bin/sh", "sh", "-euc", script, NULL);
		layers_ns_fail("sh");
	}
	assert_int_equal(layers_ns_wait(pid), 0);
}

/* Lower folders, topmost first, as overlay wants them; layers bottom first. Relative to root. */
static inline void layers_ns_lower(const char *const *layers, char *out, size_t size)
{
	size_t count = 0;
	size_t len = 0;

	while (layers && layers[count])
		count++;
	out[0] = '\0';
	while (count-- > 0)
		len += (size_t)snprintf(out + len, size - len, "v1/layers/%s/u:", layers[count]);
	snprintf(out + len, size - len, "base");
}

/* Runs script in an overlay of base, the sealed layers, and upper (NULL: read-only). Output to
 * out_fd if >= 0. */
static inline int layers_ns_step_status(const struct layers_ns *t, const char *const *layers,
					const char *upper, const char *script, int out_fd)
{
	pid_t pid = fork();

	if (pid == 0) {
		char lower[2048];
		char options[4096];

		layers_ns_lower(layers, lower, sizeof(lower));
		if (upper)
			snprintf(options, sizeof(options),
				 "userxattr,volatile,lowerdir=%s,upperdir=v1/layers/%s/"
				 "u,workdir=v1/layers/%s/w",
				 lower, upper, upper);
		else /* an overlay without an upper wants two lowers */
			snprintf(options, sizeof(options), "userxattr,lowerdir=%s:empty", lower);
		/* By path from root: the state directory is 0711 here, unlike in life. */
		layers_ns_enter(t);
		if (unshare(CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			layers_ns_fail("mount namespace");
		if (chdir(t->root) < 0 || mount("overlay", "merged", "overlay", 0, options) < 0)
			layers_ns_fail("overlay");
		if (chdir("merged") < 0)
			layers_ns_fail("merged");
		if (out_fd >= 0)
			dup2(out_fd, 1);
		umask(022);
		execl("/bin/sh", "sh", "-euc", script, NULL);
		layers_ns_fail("sh");
	}
	return layers_ns_wait(pid);
}

static inline void layers_ns_create(const struct layers_ns *t, const char *name)
{
	struct error err = {0};

	if (layers_create(t->layers, name, t->uid, t->gid, 0755, &err) < 0)
		fail_msg("%s", err.msg);
}

static inline void layers_ns_step(const struct layers_ns *t, const char *const *layers,
				  const char *upper, const char *script)
{
	layers_ns_create(t, upper);
	assert_int_equal(layers_ns_step_status(t, layers, upper, script, -1), 0);
}

static inline void layers_ns_sealer_stop(struct layers_ns *t)
{
	if (t->sealer < 0)
		return;
	close_fd(&t->sealer);
	assert_int_equal(layers_ns_wait(t->sealer_pid), 0);
}

/* failpoint: HOLDFAST_FAILPOINT of this sealer, or NULL. */
static inline void layers_ns_sealer_start(struct layers_ns *t, const char *failpoint)
{
	const char *path = getenv("HOLDFAST_SEALER");
	AUTO_FD exe = path ? open(path, O_PATH | O_CLOEXEC) : -1;
	int pair[2];

	assert_true(exe >= 0);
	layers_ns_sealer_stop(t);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	t->sealer_pid = fork();
	if (t->sealer_pid == 0) {
		if (failpoint)
			setenv("HOLDFAST_FAILPOINT", failpoint, 1);
		layers_ns_enter(t);
		errno = -sealer_exec(exe, pair[1]);
		layers_ns_fail("sealer_exec");
	}
	close(pair[1]);
	t->sealer = pair[0];
}

struct layers_ns_answer {
	struct sealer_reply reply;
	char message[ERROR_MSG_MAX + ERROR_WHERE_MAX];
	int fd; /* or -1 */
};

static inline void layers_ns_ask(struct layers_ns *t, struct sealer_request q,
				 struct layers_ns_answer *ret)
{
	AUTO_BUFFER out = {0};
	uint8_t in[SEALER_MESSAGE_MAX];
	int fds[IO_FDS_MAX] = {t->layers, t->base};
	struct pollfd p = {.fd = t->sealer, .events = POLLIN};
	size_t count = 0;
	struct error err = {0};
	ssize_t n;

	q.id = ++t->last_id;
	assert_int_equal(sealer_request_encode(&q, &out), 0);
	n = io_send_fds(t->sealer, out.data, out.len, fds, sealer_request_fds(q.op));
	assert_int_equal(n, out.len);
	assert_int_equal(poll(&p, 1, LAYERS_NS_REPLY_MS), 1);
	n = io_recv_fds(t->sealer, in, sizeof(in), fds, &count);
	assert_true(n > 0);
	*ret = (struct layers_ns_answer){.fd = count == 1 ? fds[0] : -1};
	if (sealer_reply_decode(bytes_of(in, (size_t)n), &ret->reply, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(ret->reply.id, q.id);
	snprintf(ret->message, sizeof(ret->message), "%.*s", (int)ret->reply.message.len,
		 ret->reply.message.len ? (const char *)ret->reply.message.data : "");
}

static inline struct sealer_request layers_ns_request(enum sealer_op op, const char *const *names)
{
	struct sealer_request q = {.op = op};

	for (; names && names[q.name_count]; q.name_count++)
		snprintf(q.names[q.name_count], LAYERS_NAME_SIZE, "%s", names[q.name_count]);
	return q;
}

/* A request about one layer that must succeed. */
static inline struct sealer_reply layers_ns_do(struct layers_ns *t, enum sealer_op op,
					       const char *name)
{
	struct layers_ns_answer a;

	layers_ns_ask(t, layers_ns_request(op, (const char *const[]){name, NULL}), &a);
	if (a.reply.result != 0)
		fail_msg("%s: %s", name, a.message);
	return a.reply;
}

static inline struct manifest *layers_ns_manifest(const struct layers_ns *t, const char *name)
{
	struct manifest *m = NULL;
	struct error err = {0};
	int r;

	/* It belongs to the step's uid and is mode 0600: root reads it, the step's own user too. */
	r = layers_read_manifest(t->layers, name, &m, &err);
	if (r < 0)
		fail_msg("%s: %s", err.where, err.msg);
	return m;
}

static inline void layers_ns_mkdir(const struct layers_ns *t, const char *name, mode_t mode,
				   bool own)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", t->root, name);
	assert_int_equal(mkdir(path, mode), 0);
	assert_int_equal(chmod(path, mode), 0);
	if (own && geteuid() == 0)
		assert_int_equal(chown(path, t->uid, t->gid), 0);
}

static inline int layers_ns_open_at(const struct layers_ns *t, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", t->root, name);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static inline void layers_ns_open(struct layers_ns *t)
{
	struct error err = {0};
	const char *tmp = getenv("HOLDFAST_TEST_DIR");

	*t = (struct layers_ns){.userns = -1, .sealer = -1, .uid = geteuid(), .gid = getegid()};
	if (t->uid == 0)
		t->uid = t->gid = LAYERS_NS_UID;
	t->userns = layers_ns_make(t->uid, t->gid);
	if (t->userns < 0) {
		fprintf(stderr, "skipped: no user namespaces here\n");
		exit(LAYERS_NS_SKIP);
	}
	/* Not /tmp: where that is a tmpfs the overlay is another one than in life. */
	snprintf(t->root, sizeof(t->root), "%s/holdfast-layers-XXXXXX", tmp ? tmp : "/var/tmp");
	assert_non_null(mkdtemp(t->root));
	assert_int_equal(chmod(t->root, 0711), 0);
	layers_ns_mkdir(t, "base", 0755, true);
	layers_ns_mkdir(t, "v1", 0711, false);
	layers_ns_mkdir(t, "merged", 0755, true);
	layers_ns_mkdir(t, "empty", 0755, true);
	t->base = layers_ns_open_at(t, "base");
	t->state = layers_ns_open_at(t, "v1");
	assert_true(t->base >= 0 && t->state >= 0);
	if (layers_open(t->state, &t->layers, &t->spool, &err) < 0)
		fail_msg("%s", err.msg);
}

static inline void layers_ns_close(struct layers_ns *t)
{
	char command[128];
	pid_t pid;

	layers_ns_sealer_stop(t);
	/* Some folders are mode 000. */
	snprintf(command, sizeof(command), "cd %s && chmod -R u+rwx . && rm -rf -- *", t->root);
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	assert_int_equal(layers_ns_wait(pid), 0);
	assert_int_equal(rmdir(t->root), 0);
	close(t->base);
	close(t->state);
	close(t->layers);
	close(t->spool);
	close(t->userns);
}
