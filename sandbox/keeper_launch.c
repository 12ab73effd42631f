/*
 * Making the sandbox of an attempt, in stages: what it stands on, its layer, lock and limits, the
 * ends of its pipes, the clone. What becomes of it afterwards is keeper_attempt.c's.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "base/io.h"
#include "sandbox/keeper.h"
#include "sandbox/sys.h"

static int make_lock(struct attempt *a, struct error *err)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];

	sandbox_spool_name(&a->id, SANDBOX_SPOOL_LOCK, name);
	a->lock =
		openat(a->keeper->spool_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (a->lock < 0)
		return error_set(err, -errno, "spool: %s: %s", name, strerror(errno));
	if (flock(a->lock, LOCK_EX | LOCK_NB) < 0)
		return error_set(err, -EBUSY,
				 "spool: %s is locked: processes of this attempt still live", name);
	return 0;
}

/* The attempt's lock, and its layer where it writes to one. */
static int make_layer(struct attempt *a, struct template *t, struct error *err)
{
	const struct sandbox_workspace *w = &a->spec->spec.workspace;
	struct stat st = {0};

	if (w->mode == SANDBOX_WORKSPACE_STAGED && fstat(w->base_fd, &st) < 0)
		return error_set(err, -errno, "sandbox: the workspace's folder: %s",
				 strerror(errno));
	a->armed = arm_take(t, a->spec, st.st_mode & 07777, &a->lock);
	if (a->armed)
		return 0;
	int r = make_lock(a, err);
	if (r < 0 || w->mode != SANDBOX_WORKSPACE_STAGED)
		return r;
	return layers_create(a->keeper->layers_fd, w->upper, a->userns->out_uid, a->userns->out_gid,
			     st.st_mode & 07777, err);
}

/* What the step asked for and this machine has in a weaker form only; without leave it would not
 * have come so far. */
static uint32_t weaker_of(const struct attempt *a, const struct limits_want *want)
{
	struct limits_forms forms = limits_forms(a->limits);
	bool walled = !(a->spec->spec.without_walls & SANDBOX_WALL_LANDLOCK);
	uint32_t weaker = 0;

	if (want->memory_bytes > 0 && forms.memory <= LIMITS_SAMPLED)
		weaker |= SANDBOX_WEAKER_MEMORY;
	if (want->cpu_ns > 0 && forms.cpu <= LIMITS_SAMPLED)
		weaker |= SANDBOX_WEAKER_CPU;
	if (walled && sys_landlock_create(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1)
		weaker |= SANDBOX_WEAKER_LANDLOCK;
	return weaker;
}

static int make_limits(struct attempt *a, struct error *err)
{
	const struct sandbox_spec *s = &a->spec->spec;
	struct limits_want want = {.memory_bytes = s->limits.memory_bytes,
				   .cpu_ns = s->limits.cpu_ms * 1000000,
				   .pids = s->limits.pids,
				   .weaker_memory = s->allow_weaker & SANDBOX_WEAKER_MEMORY,
				   .weaker_cpu = s->allow_weaker & SANDBOX_WEAKER_CPU};
	char name[SANDBOX_SPOOL_NAME_SIZE];

	if (s->without_walls & SANDBOX_WALL_PIDS)
		want = (struct limits_want){0};
	sandbox_spool_name(&a->id, SANDBOX_SPOOL_STDOUT, name);
	name[2 * SANDBOX_ATTEMPT_SIZE] = '\0';
	int r = limits_prepare(a->keeper->limits, name, &want, &a->limits, err);
	if (r == 0)
		a->exit.weaker = weaker_of(a, &want);
	return r;
}

/* Where a descriptor of enum init_step_fd stands in struct ends. */
#define END(fd) (__builtin_ctz(fd))

/* The ends of pipes that go to the sandbox; the others are watched. */
struct ends {
	int fds[INIT_STEP_FDS]; /* by END; -1 = none */
	size_t task_count;
	bool entered_v2;
};

static void close_ends(struct ends *e)
{
	for (int i = 0; i < INIT_STEP_FDS; i++)
		close_fd(&e->fds[i]);
}

static int make_output(struct attempt *a, int which, struct ends *e, struct error *err)
{
	int pair[2];

	if (a->spec->spec.pty)
		return 0;
	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_set(err, -errno, "keeper: no pipe: %s", strerror(errno));
	e->fds[END(INIT_FD_STDOUT) + which] = pair[1];
	int r = fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : spool_watch(a, which, pair[0]);
	if (r < 0)
		close(pair[0]);
	return r < 0 ? error_set(err, r, "keeper: %s", strerror(-r)) : 0;
}

static int make_entries(struct attempt *a, struct ends *e, struct error *err)
{
	struct limits_entries entries;

	int r = limits_entries(a->limits, &entries, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < entries.task_count; i++)
		e->fds[END(INIT_FD_TASKS) + i] = entries.tasks[i];
	e->task_count = entries.task_count;
	if (entries.cgroup2 >= 0)
		e->fds[END(INIT_FD_CGROUP)] = fcntl(entries.cgroup2, F_DUPFD_CLOEXEC, 3);
	return 0;
}

static int make_ends(struct attempt *a, struct ends *e, struct error *err)
{
	const struct sandbox_spec *s = &a->spec->spec;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, -errno, "keeper: no socket: %s", strerror(errno));
	e->fds[END(INIT_FD_STATUS)] = pair[1];
	int r = fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0
			? -errno
			: loop_watch(&a->keeper->loop, &a->status, pair[0], EPOLLIN,
				     attempt_on_status);
	if (r < 0) {
		close(pair[0]);
		return error_set(err, r, "keeper: %s", strerror(-r));
	}
	e->fds[END(INIT_FD_LOCK)] = fcntl(a->lock, F_DUPFD_CLOEXEC, 3);
	if (!s->pty)
		e->fds[END(INIT_FD_STDIN)] =
			fcntl(s->stdin_fd >= 0 ? s->stdin_fd : a->keeper->null_fd, F_DUPFD_CLOEXEC,
			      3);
	r = make_output(a, 0, e, err);
	if (r == 0)
		r = make_output(a, 1, e, err);
	if (r == 0 && !(s->without_walls & SANDBOX_WALL_NETWORK))
		r = userns_take_netns(a->userns, &e->fds[END(INIT_FD_NETNS)], err);
	return r;
}

static int make_plan(struct attempt *a, const struct prepared *p, const struct ends *e,
		     struct error *err)
{
	const struct sandbox_spec *s = &a->spec->spec;
	struct keeper *k = a->keeper;
	struct plan_step_input in = {.in = &p->in,
				     .filter_notifies = true,
				     .wait_for_go = e->fds[END(INIT_FD_CGROUP)] >= 0,
				     .armed = a->armed,
				     .listeners = net_listeners(a),
				     .listener_count = a->listener_want,
				     .net = a->net,
				     .own_userns = limits_forms(a->limits).pids == LIMITS_RLIMIT,
				     .landlock = !(s->without_walls & SANDBOX_WALL_LANDLOCK)};

	if (!(s->without_walls & SANDBOX_WALL_SECCOMP))
		in.filter = buffer_bytes(&k->filters[userns_is_idmapped(a->userns) ? 1 : 0]);
	else
		in.filter_notifies = false;
	a->plan.max = INIT_PLAN_MAX;
	return plan_step(&in, &a->plan, err);
}

/* The template clones itself; its answer is awaited, since it comes in the time of one clone. */
static int ask_clone(struct attempt *a, struct template *t, struct ends *e, pid_t *ret_pid,
		     int *ret_pidfd, struct error *err)
{
	struct init_message m = {.type = INIT_STEP};
	struct init_report r = {0};
	int fds[INIT_STEP_FDS], got[IO_FDS_MAX];
	size_t fd_count = 0, got_count = 0;

	for (int i = 0; i < INIT_STEP_FDS; i++) {
		if (e->fds[i] >= 0) {
			m.fds |= 1U << i;
			fds[fd_count++] = e->fds[i];
		}
	}
	int res = proc_send(t->sock, &m, buffer_bytes(&a->plan), fds, fd_count);
	do { /* an answer to what was given up waiting for may still come before */
		if (res == 0)
			res = proc_receive(t->sock, &r, got, &got_count);
	} while (res == 0 && r.type == INIT_REPORT_ARMED);
	if (res < 0) {
		template_drop(a->keeper, t);
		return error_set(err, -ECONNRESET, "keeper: the template went away: %s",
				 strerror(-res));
	}
	AUTO_FD pidfd = got_count == 1 ? got[0] : -1;
	for (size_t i = 0; got_count > 1 && i < got_count; i++)
		close(got[i]);
	if (r.type != INIT_REPORT_CLONED)
		return error_set_exit(err, r.error,
				      r.error == -EAGAIN || r.error == -ENOMEM
					      ? 0
					      : EXIT_STATUS_SANDBOX,
				      "sandbox: clone: %s", strerror(-r.error));
	if (pidfd < 0) {
		template_drop(a->keeper, t);
		return error_set(err, -EPROTO,
				 "keeper: the template told of a clone without its pidfd");
	}
	*ret_pid = r.pid;
	*ret_pidfd = take_fd(&pidfd);
	e->entered_v2 = r.entered_cgroup;
	return 0;
}

/* Takes pidfd over. */
static int release_step(struct attempt *a, pid_t pid, int pidfd, const struct ends *e,
			struct error *err)
{
	int r = loop_watch(&a->keeper->loop, &a->pid1, pidfd, EPOLLIN, attempt_on_pid1);
	if (r < 0) {
		(void)sys_pidfd_send_signal(pidfd, SIGKILL);
		close(pidfd);
		return error_set(err, r, "keeper: %s", strerror(-r));
	}
	close_fd(&a->lock);
	r = limits_attach(a->limits, pid, pidfd, true, e->entered_v2, err);
	if (r == 0 && e->fds[END(INIT_FD_CGROUP)] >= 0 &&
	    send(a->status.fd, "g", 1, MSG_NOSIGNAL) != 1)
		r = error_set(err, -ECONNRESET, "keeper: pid 1 went away before it was let go");
	if (r < 0)
		(void)sys_pidfd_send_signal(a->pid1.fd, SIGKILL);
	return r;
}

/* What is made on the way, and let go at its end whatever came of it. */
struct starting {
	struct attempt *a;
	struct prepared *sources;
	struct template *template; /* borrowed */
	struct ends ends;
	pid_t pid;
	int pidfd;
};

static int start_userns(struct starting *s, struct error *err)
{
	const struct sandbox_spec *spec = &s->a->spec->spec;

	return userns_get(s->a->keeper, spec->uid, spec->gid, &s->a->userns, err);
}

static int start_sources(struct starting *s, struct error *err)
{
	return template_prepare(s->a->keeper, s->a->userns, &s->a->spec->spec, &s->sources, err);
}

static int start_network(struct starting *s, struct error *err)
{
	return net_take(s->a, err);
}

static int start_template(struct starting *s, struct error *err)
{
	return template_get(s->a->keeper, s->a->userns, s->sources, &s->template, err);
}

static int start_layer(struct starting *s, struct error *err)
{
	return make_layer(s->a, s->template, err);
}

static int start_limits(struct starting *s, struct error *err)
{
	int r = make_limits(s->a, err);

	return r < 0 ? r : make_entries(s->a, &s->ends, err);
}

static int start_plan(struct starting *s, struct error *err)
{
	int r = make_plan(s->a, s->sources, &s->ends, err);

	return r < 0 ? r : make_ends(s->a, &s->ends, err);
}

static int start_clone(struct starting *s, struct error *err)
{
	return ask_clone(s->a, s->template, &s->ends, &s->pid, &s->pidfd, err);
}

static int start_release(struct starting *s, struct error *err)
{
	s->a->started_ns = loop_now_ns();
	return release_step(s->a, s->pid, s->pidfd, &s->ends, err);
}

/* In this order; the name is what NOT_STARTED says. */
static const struct {
	const char *name;
	int (*fn)(struct starting *s, struct error *err);
} stages[] = {
	{"user namespace", start_userns},
	{"sources", start_sources},
	{"network", start_network},
	{"template", start_template},
	{"layer", start_layer},
	{"limits", start_limits},
	{"plan", start_plan},
	{"clone", start_clone},
	{"limits", start_release},
};

int launch_attempt(struct attempt *a, const char **ret_stage, struct error *err)
{
	struct starting s = {.a = a, .pid = -1, .pidfd = -1};
	int r = 0;

	for (int i = 0; i < INIT_STEP_FDS; i++)
		s.ends.fds[i] = -1;
	for (size_t i = 0; i < ARRAY_SIZE(stages) && r == 0; i++) {
		*ret_stage = stages[i].name;
		r = stages[i].fn(&s, err);
	}
	close_ends(&s.ends);
	prepared_free(s.sources);
	return r;
}
