#include "tests/rig/rig.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define CHECK(cond)                                                                        \
	do {                                                                               \
		if (!(cond)) {                                                             \
			fprintf(stderr, "rig: %s:%d: %s: %s\n", __FILE__, __LINE__, #cond, \
				strerror(errno));                                          \
			abort();                                                           \
		}                                                                          \
	} while (0)

static int make_dir(struct rig *r, const char *name, mode_t mode)
{
	CHECK(mkdirat(r->dir_fd, name, mode) == 0);
	int fd = openat(r->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0 && fchmod(fd, mode) == 0);
	return fd;
}

static void write_file(int dir, const char *name, const char *text)
{
	AUTO_FD fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

void rig_open(struct rig *r, uid_t uid, gid_t gid)
{
	const char *helpers = getenv("HOLDFAST_HELPERS");
	struct error err = {0};

	*r = (struct rig){.out_fd = -1, .reply_fd = -1, .uid = uid, .gid = gid};
	CHECK(helpers);
	const char *where = getenv("HOLDFAST_TEST_DIR");
	snprintf(r->dir, sizeof(r->dir), "%s/hf-rig.XXXXXX", where ? where : "/var/tmp");
	CHECK(mkdtemp(r->dir) && chmod(r->dir, 0755) == 0);
	r->dir_fd = open(r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(r->dir_fd >= 0);
	int state = make_dir(r, "state", 0700);
	r->state_fd = make_dir(r, "state/v1", 0700);
	close(state);
	r->runtime_fd = make_dir(r, "run", 0700);
	r->base_fd = make_dir(r, "work", 0755);
	close(make_dir(r, "home", 0755));
	snprintf(r->work, sizeof(r->work), "%s/work", r->dir);
	snprintf(r->home, sizeof(r->home), "%s/home", r->dir);
	write_file(r->base_fd, "base.txt", "from the base\n");
	CHECK(fchownat(r->base_fd, "base.txt", uid, gid, 0) == 0 &&
	      fchown(r->base_fd, uid, gid) == 0);
	CHECK(fchownat(r->dir_fd, "home", uid, gid, 0) == 0);
	r->helpers_fd = open(helpers, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK(r->helpers_fd >= 0);
	struct sandbox_keeper_options o = {.helpers_fd = r->helpers_fd,
					   .runtime_fd = r->runtime_fd,
					   .state_fd = r->state_fd};
	if (sandbox_keeper_start(&o, &err) < 0) {
		fprintf(stderr, "rig: %s\n", err.msg);
		abort();
	}
	CHECK(layers_open(r->state_fd, &r->layers_fd, &r->spool_fd, &err) == 0);
	rig_connect(r);
}

static void on_event(void *arg, const struct sandbox_event *e)
{
	struct rig *r = arg;

	if (e->type == SANDBOX_EVENT_CONNECTION_LOST) {
		r->lost = true;
		return;
	}
	if (e->type == SANDBOX_EVENT_REPLY) {
		r->replied = true;
		r->reply_result = e->reply.result;
		close_fd(&r->reply_fd);
		if (e->fd_count == 1)
			r->reply_fd = take_fd(&e->fds[0]);
		return;
	}
	if (e->type == SANDBOX_EVENT_LAYER) {
		r->layered = true;
		r->layer = e->layer;
		r->layer.message = bytes_of(NULL, 0);
		if (e->layer.result < 0)
			fprintf(stderr, "rig: layer request: %.*s\n", (int)e->layer.message.len,
				(const char *)e->layer.message.data);
		return;
	}
	if (memcmp(&e->attempt, &r->waited, sizeof(e->attempt)) != 0)
		return;
	switch (e->type) {
	case SANDBOX_EVENT_STARTED:
		r->started = true;
		for (size_t i = 0; i < e->fd_count; i++)
			r->listeners[r->listener_count++] = take_fd(&e->fds[i]);
		return;
	case SANDBOX_EVENT_NOT_STARTED:
		r->not_started = r->gone = true;
		r->why_not = e->not_started;
		return;
	case SANDBOX_EVENT_EXITED:
		r->exited = true;
		r->exit = e->exit;
		return;
	case SANDBOX_EVENT_GONE:
		r->gone = true;
		if (e->fd_count == 1)
			r->out_fd = take_fd(&e->fds[0]);
		return;
	case SANDBOX_EVENT_OUTPUT:
		r->output_notices++;
		return;
	case SANDBOX_EVENT_REPLY:
	case SANDBOX_EVENT_LAYER:
	case SANDBOX_EVENT_CONNECTION_LOST:
		return;
	}
}

void rig_connect(struct rig *r)
{
	struct error err = {0};

	r->lost = false;
	if (sandbox_client_open(r->state_fd, r->runtime_fd, ++r->epoch, on_event, r, &r->client,
				&err) < 0) {
		fprintf(stderr, "rig: %s\n", err.msg);
		abort();
	}
	r->keeper = sandbox_client_hello(r->client)->keeper_pid;
}

void rig_disconnect(struct rig *r)
{
	sandbox_client_free(r->client);
	r->client = NULL;
}

static void reset(struct rig *r)
{
	for (size_t i = 0; i < r->listener_count; i++)
		close(r->listeners[i]);
	r->listener_count = 0;
	close_fd(&r->out_fd);
	close_fd(&r->reply_fd);
	r->started = r->exited = r->gone = r->not_started = r->replied = r->layered = false;
	r->output_notices = 0;
	memset(&r->exit, 0, sizeof(r->exit));
	memset(&r->why_not, 0, sizeof(r->why_not));
}

void rig_close(struct rig *r)
{
	char command[256];

	reset(r);
	rig_disconnect(r);
	if (r->keeper > 0) {
		int pidfd = (int)syscall(434 /* pidfd_open */, r->keeper, 0);
		kill(r->keeper, SIGKILL);
		struct pollfd p = {.fd = pidfd, .events = POLLIN};
		(void)poll(&p, 1, 5000);
		close(pidfd);
	}
	close(r->runtime_fd);
	close(r->state_fd);
	close(r->helpers_fd);
	close(r->base_fd);
	close(r->spool_fd);
	close(r->layers_fd);
	close(r->dir_fd);
	/* a killed sandbox lets go of its mounts a moment later; overlay's work folders have mode
	 * 000 */
	snprintf(command, sizeof(command),
		 "for i in 1 2 3 4 5; do chmod -R u+rwX '%s' && rm -rf '%s' && exit 0; sleep 0.1; "
		 "done",
		 r->dir, r->dir);
	(void)!system(command);
}

void rig_mount(struct rig_spec *s, enum sandbox_mount_kind kind, const char *source,
	       const char *target)
{
	CHECK(s->spec.mount_count < RIG_MOUNTS_MAX);
	s->mounts[s->spec.mount_count++] =
		(struct sandbox_mount){.kind = kind,
				       .source = source,
				       .target = target,
				       .exec = true,
				       .optional = kind == SANDBOX_MOUNT_SYSTEM};
}

void rig_spec(struct rig *r, struct rig_spec *s, ...)
{
	static const char *const system_trees[] = {"/usr", "/bin",   "/sbin",
						   "/lib", "/lib64", "/etc"};
	va_list args;
	size_t n = 0;

	*s = (struct rig_spec){0};
	va_start(args, s);
	for (const char *a; (a = va_arg(args, const char *));) {
		CHECK(n < RIG_ARGS_MAX);
		s->argv[n++] = a;
	}
	va_end(args);
	r->serial++;
	s->spec.attempt.b[0] = (uint8_t)(r->serial >> 8);
	s->spec.attempt.b[1] = (uint8_t)r->serial;
	snprintf(s->upper, sizeof(s->upper), "l%u", r->serial);
	snprintf(s->home_env, sizeof(s->home_env), "HOME=%s", r->home);
	s->env[0] = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
	s->env[1] = s->home_env;
	s->spec.argv = s->argv;
	s->spec.env = s->env;
	s->spec.cwd = r->work;
	s->spec.home = r->home;
	s->spec.mounts = s->mounts;
	for (size_t i = 0; i < ARRAY_SIZE(system_trees); i++)
		rig_mount(s, SANDBOX_MOUNT_SYSTEM, system_trees[i], system_trees[i]);
	s->spec.workspace = (struct sandbox_workspace){.mode = SANDBOX_WORKSPACE_STAGED,
						       .target = r->work,
						       .base_fd = r->base_fd,
						       .upper = s->upper};
	s->spec.stdin_fd = -1;
	s->spec.limits.wall_ms = 20000;
	s->spec.allow_weaker = SANDBOX_WEAKER_CPU | SANDBOX_WEAKER_MEMORY;
	s->spec.uid = r->uid;
	s->spec.gid = r->gid;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void rig_await(struct rig *r, const bool *flag, const char *what)
{
	uint64_t end = now_ms() + RIG_WAIT_MS;

	while (!*flag) {
		if (r->not_started && (flag == &r->exited || flag == &r->started)) {
			fprintf(stderr, "rig: not started: %s: %s\n", r->why_not.stage,
				r->why_not.text);
			abort();
		}
		struct pollfd p = {.fd = sandbox_client_fd(r->client),
				   .events = sandbox_client_poll_events(r->client)};
		uint64_t now = now_ms();
		if (now >= end) {
			fprintf(stderr, "rig: waited in vain for %s\n", what);
			abort();
		}
		(void)poll(&p, 1, (int)(end - now));
		if (sandbox_client_dispatch(r->client) < 0 && !*flag) {
			fprintf(stderr, "rig: the keeper's connection was lost, waiting for %s\n",
				what);
			abort();
		}
	}
}

void rig_start(struct rig *r, const struct rig_spec *s)
{
	struct error err = {0};

	reset(r);
	r->waited = s->spec.attempt;
	if (sandbox_client_start(r->client, &s->spec, NULL, &err) < 0) {
		fprintf(stderr, "rig: %s\n", err.msg);
		abort();
	}
}

void rig_read_spool(struct rig *r, const struct sandbox_attempt_id *a, enum sandbox_spool_kind kind,
		    char *buf, size_t size)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];
	size_t len = 0;

	AUTO_FD fd = openat(r->spool_fd, sandbox_spool_name(a, kind, name), O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && len < size - 1) {
		ssize_t n = read(fd, buf + len, size - 1 - len);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	buf[len] = '\0';
}

void rig_run(struct rig *r, const struct rig_spec *s, struct rig_result *ret)
{
	rig_start(r, s);
	rig_await(r, &r->gone, "GONE");
	memset(ret, 0, sizeof(*ret));
	ret->started = r->started && !r->not_started;
	ret->exit = r->exit;
	ret->why_not = r->why_not;
	rig_read_spool(r, &s->spec.attempt, SANDBOX_SPOOL_STDOUT, ret->out, sizeof(ret->out));
	rig_read_spool(r, &s->spec.attempt, SANDBOX_SPOOL_STDERR, ret->err, sizeof(ret->err));
	r->replied = false;
	CHECK(sandbox_client_forget(r->client, &s->spec.attempt, NULL) == 0);
	rig_await(r, &r->replied, "FORGET's reply");
	CHECK(r->reply_result == 0);
}

void rig_layer(struct rig *r, const struct sealer_request *q)
{
	r->layered = false;
	CHECK(sandbox_client_layer(r->client, q, r->uid, r->gid,
				   q->op == SEALER_SEAL ? r->base_fd : -1, NULL) == 0);
	rig_await(r, &r->layered, "the layer's answer");
}
