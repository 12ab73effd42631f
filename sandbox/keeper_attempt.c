/*
 * The life of one attempt: STARTING -> LIVE <-> FROZEN -> EXITED -> GONE, or NOT_STARTED. Its
 * record stays until FORGET.
 *
 *   STARTING     a process of it may exist and has not run the command
 *   LIVE         the command was executed; pid 1 reaps
 *   FROZEN       LIVE, in a stopped freezer; wall time stands still
 *   EXITED       the command ended and that was told; the kernel may still be killing the rest
 *   GONE         pid 1 was reaped: the kernel allows it only after all others of its namespace
 *   NOT_STARTED  as GONE, without the command ever having run
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include "base/io.h"
#include "sandbox/keeper.h"
#include "sandbox/sys.h"

enum { DISK_LOOK_NS = 1000000000 };

static void on_wall(struct loop_timer *t);

struct attempt *attempt_find(struct keeper *k, const struct sandbox_attempt_id *id)
{
	for (struct attempt *a = k->attempts; a; a = a->next)
		if (memcmp(&a->id, id, sizeof(*id)) == 0)
			return a;
	return NULL;
}

bool attempt_uses_layer(struct keeper *k, const char *name)
{
	for (struct attempt *a = k->attempts; a; a = a->next)
		if (a->state < SANDBOX_ATTEMPT_GONE && a->spec->spec.workspace.upper &&
		    strcmp(a->spec->spec.workspace.upper, name) == 0)
			return true;
	return false;
}

static void set_state(struct attempt *a, enum sandbox_attempt_state state)
{
	bool was = a->state != SANDBOX_ATTEMPT_GONE && a->state != SANDBOX_ATTEMPT_NOT_STARTED;
	bool is = state != SANDBOX_ATTEMPT_GONE && state != SANDBOX_ATTEMPT_NOT_STARTED;

	a->state = state;
	if (was && !is)
		a->keeper->live_count--;
}

/* ---- telling ---- */

static void tell(struct attempt *a, enum sandbox_event_type type, const int *fds, size_t fd_count)
{
	struct sandbox_event e = {.type = type, .attempt = a->id};

	if (type == SANDBOX_EVENT_EXITED)
		e.exit = a->exit;
	else if (type == SANDBOX_EVENT_NOT_STARTED)
		e.not_started = a->not_started;
	conn_event(a->keeper, &e, fds, fd_count);
}

/* Those of a network are its gate's alone. */
static void tell_started(struct attempt *a)
{
	tell(a, SANDBOX_EVENT_STARTED, a->listeners, a->net ? 0 : a->listener_count);
}

void attempt_tell_again(struct attempt *a)
{
	switch (a->state) {
	case SANDBOX_ATTEMPT_STARTING:
		return;
	case SANDBOX_ATTEMPT_LIVE:
	case SANDBOX_ATTEMPT_FROZEN:
		tell_started(a);
		return;
	case SANDBOX_ATTEMPT_EXITED:
		tell(a, SANDBOX_EVENT_EXITED, NULL, 0);
		return;
	case SANDBOX_ATTEMPT_GONE:
		tell(a, SANDBOX_EVENT_EXITED, NULL, 0);
		tell(a, SANDBOX_EVENT_GONE, &a->out_fd, a->out_fd >= 0 ? 1 : 0);
		return;
	case SANDBOX_ATTEMPT_NOT_STARTED:
		tell(a, SANDBOX_EVENT_NOT_STARTED, NULL, 0);
		return;
	}
}

/* ---- letting go ---- */

static void close_denied(struct attempt *a)
{
	int fd = a->denied.fd;

	loop_unwatch(&a->keeper->loop, &a->denied);
	close_fd(&fd);
}

/* Everything but the record and the out folder. */
static void release(struct attempt *a)
{
	struct loop *l = &a->keeper->loop;
	int fd;

	loop_timer_off(l, &a->wall);
	spool_relay_end(a);
	spool_close(a->keeper, &a->out[0]);
	spool_close(a->keeper, &a->out[1]);
	fd = a->status.fd;
	loop_unwatch(l, &a->status);
	close_fd(&fd);
	fd = a->pid1.fd;
	loop_unwatch(l, &a->pid1);
	close_fd(&fd);
	if (a->denied.fd >= 0)
		close_denied(a);
	net_attempt_over(a);
	close_fd(&a->main_pidfd);
	close_fd(&a->lock);
	limits_free(a->limits);
	a->limits = NULL;
	buffer_free(&a->plan);
}

static void spec_drop(struct protocol_spec *s)
{
	close_fd(&s->spec.stdin_fd);
	close_fd(&s->spec.workspace.base_fd);
	protocol_spec_free(s);
}

void attempt_free(struct attempt *a)
{
	struct keeper *k = a->keeper;

	for (struct attempt **p = &k->attempts; *p; p = &(*p)->next) {
		if (*p == a) {
			*p = a->next;
			k->attempt_count--;
			break;
		}
	}
	userns_forget_attempt(k, a);
	release(a);
	net_forget_attempt(a);
	close_fd(&a->out_fd);
	free(a->listeners);
	spec_drop(a->spec);
	free(a);
}

static enum sandbox_not_started_why why_of(const struct error *err)
{
	switch (err->code) {
	case -ENOMEM:
	case -EAGAIN:
	case -ENOSPC:
	case -EMFILE:
	case -ENFILE:
	case -ECONNRESET:
	case -EUSERS:
	case -EDQUOT:
		return SANDBOX_NOT_STARTED_INFRA;
	}
	return err->exit_status == EXIT_STATUS_SANDBOX ? SANDBOX_NOT_STARTED_MACHINE
						       : SANDBOX_NOT_STARTED_SPEC;
}

static void not_started(struct attempt *a, enum sandbox_not_started_why why, const char *stage,
			const struct error *err)
{
	struct sandbox_not_started *n = &a->not_started;

	if (a->killed_why)
		why = SANDBOX_NOT_STARTED_KILLED;
	n->why = why;
	n->error = err->code;
	snprintf(n->stage, sizeof(n->stage), "%s", stage);
	snprintf(n->text, sizeof(n->text), "%s", err->msg);
	set_state(a, SANDBOX_ATTEMPT_NOT_STARTED);
	release(a);
	tell(a, SANDBOX_EVENT_NOT_STARTED, NULL, 0);
	arm_let_go(a->keeper);
	userns_retry_jobs(a->keeper);
}

/* ---- starting ---- */

static void kill_pid1(struct attempt *a)
{
	if (a->pid1.fd >= 0)
		(void)sys_pidfd_send_signal(a->pid1.fd, SIGKILL);
}

static void sample_all(struct loop_timer *t);

/* Whenever something begins to run: sample_all stops by itself when nothing does. */
static void sample_soon(struct keeper *k)
{
	if (k->sampler.due_ns == 0)
		loop_timer_set(&k->loop, &k->sampler, loop_now_ns() + LIMITS_SAMPLE_MS * 1000000ULL,
			       sample_all);
}

void attempt_start(struct keeper *k, struct protocol_spec *s)
{
	struct attempt *a = calloc(1, sizeof(*a));
	struct error err = {0};
	uint64_t wall_ms = s->spec.limits.wall_ms;
	const char *stage;

	if (!a) {
		spec_drop(s);
		return; /* nobody hears of it; the supervisor asks again */
	}
	a->keeper = k;
	a->id = s->spec.attempt;
	a->spec = s;
	a->state = SANDBOX_ATTEMPT_STARTING;
	a->lock = a->main_pidfd = a->out_fd = -1;
	a->status.fd = a->pid1.fd = a->denied.fd = a->relay.fd = -1;
	a->out[0].attempt = a->out[1].attempt = a;
	a->out[0].file = a->out[1].file = a->out[0].source.fd = a->out[1].source.fd = -1;
	a->next = k->attempts;
	k->attempts = a;
	k->attempt_count++;
	k->live_count++;
	if (k->draining || k->attempt_count > KEEPER_ATTEMPTS_MAX) {
		(void)error_set(&err, -EAGAIN,
				k->draining ? "keeper: it drains and takes no new attempts"
					    : "keeper: too many attempts; forget what ended");
		not_started(a, SANDBOX_NOT_STARTED_INFRA, "keeper", &err);
		return;
	}
	int r = launch_attempt(a, &stage, &err);
	close_fd(&s->spec.stdin_fd); /* the sandbox has its own; end of file must not wait for us */
	if (r < 0) {
		not_started(a, why_of(&err), stage, &err);
		return;
	}
	if (wall_ms)
		loop_timer_set(&k->loop, &a->wall, a->started_ns + wall_ms * 1000000, on_wall);
	sample_soon(k);
}

/* ---- ending ---- */

void attempt_kill(struct attempt *a, enum sandbox_exit_why why, const char *limit)
{
	if (a->state == SANDBOX_ATTEMPT_GONE || a->state == SANDBOX_ATTEMPT_NOT_STARTED ||
	    a->exit_told)
		return;
	if (a->killed_why == 0) {
		a->killed_why = why;
		snprintf(a->killed_limit, sizeof(a->killed_limit), "%s", limit);
	}
	kill_pid1(a);
	/* v1: a frozen process dies only when it is thawed */
	if (a->state == SANDBOX_ATTEMPT_FROZEN)
		(void)!limits_freeze(a->limits, false);
}

static void on_wall(struct loop_timer *t)
{
	attempt_kill(container_of(t, struct attempt, wall), SANDBOX_WHY_TIMED_OUT, "");
}

int attempt_freeze(struct attempt *a, bool frozen)
{
	uint64_t now = loop_now_ns();

	if (a->state != (frozen ? SANDBOX_ATTEMPT_LIVE : SANDBOX_ATTEMPT_FROZEN))
		return a->state == SANDBOX_ATTEMPT_LIVE || a->state == SANDBOX_ATTEMPT_FROZEN
			       ? 0
			       : -ESRCH;
	int r = limits_freeze(a->limits, frozen);
	if (r < 0)
		return r;
	if (frozen && a->wall.due_ns) {
		a->wall_left_ns = a->wall.due_ns > now ? a->wall.due_ns - now : 1;
		loop_timer_off(&a->keeper->loop, &a->wall);
	} else if (!frozen && a->wall_left_ns) {
		loop_timer_set(&a->keeper->loop, &a->wall, now + a->wall_left_ns, on_wall);
		a->wall_left_ns = 0;
	}
	set_state(a, frozen ? SANDBOX_ATTEMPT_FROZEN : SANDBOX_ATTEMPT_LIVE);
	if (!frozen)
		sample_soon(a->keeper);
	return 0;
}

/* SIGXCPU and SIGXFSZ a command may send itself: only with the limit they are the kernel's word. */
static void fill_usage(struct attempt *a, const struct init_report *r)
{
	const struct sandbox_limits *l = &a->spec->spec.limits;
	struct limits_usage u = {0};
	struct sandbox_exit *x = &a->exit;

	int hit = a->limits ? limits_sample(a->limits, &u) : 0;
	x->usage.wall_us = (loop_now_ns() - a->started_ns) / 1000;
	x->usage.cpu_us = r ? r->cpu_us : u.cpu_ns / 1000;
	x->usage.memory_peak_bytes = u.memory_peak_bytes;
	if (r && r->maxrss_kib * 1024 > x->usage.memory_peak_bytes)
		x->usage.memory_peak_bytes = r->maxrss_kib * 1024;
	if (a->killed_why == 0 && x->signal == SIGKILL && hit == LIMITS_HIT_MEMORY) {
		x->why = SANDBOX_WHY_OOM;
		snprintf(x->limit, sizeof(x->limit), "memory");
	} else if (a->killed_why == 0 &&
		   ((x->signal == SIGXCPU && l->cpu_ms && x->usage.cpu_us / 1000 >= l->cpu_ms) ||
		    (x->signal == SIGKILL && hit == LIMITS_HIT_CPU))) {
		x->why = SANDBOX_WHY_LIMIT;
		snprintf(x->limit, sizeof(x->limit), "cpu");
	} else if (a->killed_why == 0 && x->signal == SIGXFSZ && l->disk_bytes) {
		x->why = SANDBOX_WHY_LIMIT;
		snprintf(x->limit, sizeof(x->limit), "disk");
	}
}

/* r: pid 1's report, or NULL where it died without one. */
static void exited(struct attempt *a, const struct init_report *r)
{
	struct sandbox_exit *x = &a->exit;

	if (a->exit_told)
		return;
	a->exit_told = true;
	loop_timer_off(&a->keeper->loop, &a->wall);
	x->status = -1;
	x->why = a->killed_why ? a->killed_why : r ? SANDBOX_WHY_EXITED : SANDBOX_WHY_LOST;
	snprintf(x->limit, sizeof(x->limit), "%s", a->killed_limit);
	if (!r)
		x->signal = SIGKILL;
	else if (WIFEXITED(r->wait_status))
		x->status = WEXITSTATUS(r->wait_status);
	else
		x->signal = WTERMSIG(r->wait_status);
	fill_usage(a, r);
	spool_drain(a, &a->out[0]);
	spool_drain(a, &a->out[1]);
	x->stdout_bytes = a->out[0].bytes;
	x->stderr_bytes = a->out[1].bytes;
	x->stdout_dropped = a->out[0].dropped;
	x->stderr_dropped = a->out[1].dropped;
	x->spool_error = a->out[0].error ? a->out[0].error : a->out[1].error;
	spool_close(a->keeper, &a->out[0]);
	spool_close(a->keeper, &a->out[1]);
	spool_relay_end(a);
	set_state(a, SANDBOX_ATTEMPT_EXITED);
	tell(a, SANDBOX_EVENT_EXITED, NULL, 0);
	arm_let_go(a->keeper);
}

/* A target is relative to the new root. */
static bool is_workspace(const struct attempt *a, const char *target)
{
	const char *own = a->spec->spec.workspace.target;

	return own && own[0] == '/' && strcmp(own + 1, target) == 0;
}

/* The kernel gives no proc of one's own where parts of the one that is there are covered. */
static bool is_masked_proc(const struct init_report *r, const char *object)
{
	return r->stage == INIT_STAGE_MOUNTS && r->error == -EPERM && strcmp(object, "proc") == 0;
}

/* What the kernel's words leave open. */
static const char *remedy(const struct init_report *r, const char *object)
{
	if (is_masked_proc(r, object))
		return ": parts of /proc are masked here, as in a container; 'holdfast doctor' has "
		       "the remedy";
	if (r->stage != INIT_STAGE_EXEC)
		return "";
	if (r->error == -ENOEXEC)
		return ": it is no program of this machine; a script names its interpreter in its "
		       "first line, as #!/bin/sh does";
	if (r->error == -ENOENT && strchr(object, '/'))
		return ": the file, or the interpreter that its first line names, is not seen "
		       "inside";
	return "";
}

static void failed(struct attempt *a, const struct init_report *r)
{
	struct error err = {0};
	const char *object = plan_string(buffer_bytes(&a->plan), r->object);
	enum sandbox_not_started_why why = SANDBOX_NOT_STARTED_MACHINE;

	switch ((enum init_stage)r->stage) {
	case INIT_STAGE_EXEC:
		why = SANDBOX_NOT_STARTED_EXEC;
		object = a->spec->spec.argv[0];
		break;
	case INIT_STAGE_CWD:
		why = SANDBOX_NOT_STARTED_SPEC;
		object = a->spec->spec.cwd;
		break;
	case INIT_STAGE_MOUNTS:
		if (is_masked_proc(r, object))
			break;
		if (!is_workspace(a, object))
			why = SANDBOX_NOT_STARTED_SPEC;
		else if (a->spec->spec.workspace.layer_count > 0)
			why = SANDBOX_NOT_STARTED_LAYERS;
		break;
	case INIT_STAGE_LISTENERS:
		why = SANDBOX_NOT_STARTED_SPEC;
		break;
	case INIT_STAGE_NONE:
	case INIT_STAGE_USERNS:
	case INIT_STAGE_SOURCES:
	case INIT_STAGE_ROOT:
	case INIT_STAGE_SKELETON:
	case INIT_STAGE_CLONE:
	case INIT_STAGE_NETWORK:
	case INIT_STAGE_TERMINAL:
	case INIT_STAGE_GO:
	case INIT_STAGE_LIMITS:
	case INIT_STAGE_LANDLOCK:
	case INIT_STAGE_CAPABILITIES:
	case INIT_STAGE_DESCRIPTORS:
	case INIT_STAGE_SECCOMP:
		break;
	}
	if (r->error == -ENOMEM || r->error == -EAGAIN || r->error == -ENOSPC)
		why = SANDBOX_NOT_STARTED_INFRA;
	(void)error_set(&err, r->error ? r->error : -EIO, "sandbox: %s: %.100s%s%s%s",
			plan_stage_name((enum init_stage)r->stage), object, *object ? ": " : "",
			strerror(-r->error), remedy(r, object));
	a->not_started = (struct sandbox_not_started){.why = why, .error = err.code};
	snprintf(a->not_started.stage, sizeof(a->not_started.stage), "%s",
		 plan_stage_name((enum init_stage)r->stage));
	snprintf(a->not_started.text, sizeof(a->not_started.text), "%s", err.msg);
}

/* ---- denied calls ---- */

static void count_denied(struct attempt *a, int number)
{
	struct sandbox_exit *x = &a->exit;

	for (size_t i = 0; i < x->denied_count; i++) {
		if (x->denied[i].number == number) {
			x->denied[i].count++;
			return;
		}
	}
	if (x->denied_count < SANDBOX_DENIED_MAX)
		x->denied[x->denied_count++] = (struct sandbox_denied_call){number, 1};
	else
		x->denied_more++;
}

/* Always an error, never CONTINUE. Past the cap the listener closes, and the kernel answers ENOSYS
 * by itself. */
static void on_denied(struct loop_source *s, uint32_t events)
{
	struct attempt *a = container_of(s, struct attempt, denied);
	struct seccomp_notif n = {0};
	struct seccomp_notif_resp answer = {.error = -EPERM};

	if (!(events & EPOLLIN)) {
		close_denied(a);
		return;
	}
	if (ioctl(s->fd, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0)
		return;
	answer.id = n.id;
	(void)ioctl(s->fd, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	count_denied(a, n.data.nr);
	if (++a->denied_reports >= KEEPER_DENIED_REPORTS_MAX)
		close_denied(a);
}

static void take_listener(struct attempt *a, int *fd)
{
	if (loop_watch(&a->keeper->loop, &a->denied, *fd, EPOLLIN, on_denied) == 0)
		(void)take_fd(fd);
}

/* ---- reports ---- */

static void started(struct attempt *a)
{
	buffer_free(&a->plan);
	set_state(a, SANDBOX_ATTEMPT_LIVE);
	tell_started(a);
	/* some were lost on the way for want of descriptors: connections would go nowhere */
	if (a->listener_count < a->listener_want)
		attempt_kill(a, SANDBOX_WHY_LOST, "");
}

static void take_terminal(struct attempt *a, int *fd)
{
	if (fcntl(*fd, F_SETFL, O_NONBLOCK) == 0 && spool_watch(a, 0, *fd) == 0)
		(void)take_fd(fd);
}

static void on_report(struct attempt *a, const struct init_report *r, int *fds, size_t fd_count)
{
	switch ((enum init_report_type)r->type) {
	case INIT_REPORT_FAILED:
		if (a->state == SANDBOX_ATTEMPT_STARTING)
			failed(a, r);
		return;
	case INIT_REPORT_OUT:
		if (fd_count == 1 && a->out_fd < 0)
			a->out_fd = take_fd(&fds[0]);
		return;
	case INIT_REPORT_TERMINAL:
		if (fd_count == 1 && a->spec->spec.pty && a->out[0].source.fd < 0)
			take_terminal(a, &fds[0]);
		return;
	case INIT_REPORT_LISTENERS:
		for (size_t i = 0; i < fd_count && a->listener_count < a->listener_want; i++)
			a->listeners[a->listener_count++] = take_fd(&fds[i]);
		net_serve(a);
		return;
	case INIT_REPORT_FILTER:
		if (fd_count == 1 && a->denied.fd < 0)
			take_listener(a, &fds[0]);
		return;
	case INIT_REPORT_STARTED:
		if (fd_count == 1 && a->state == SANDBOX_ATTEMPT_STARTING) {
			a->main_pidfd = take_fd(&fds[0]);
			started(a);
		}
		return;
	case INIT_REPORT_EXITED:
		if (a->state == SANDBOX_ATTEMPT_LIVE || a->state == SANDBOX_ATTEMPT_FROZEN)
			exited(a, r);
		return;
	case INIT_REPORT_READY:
	case INIT_REPORT_CLONED:
	case INIT_REPORT_NETNS:
	case INIT_REPORT_ARMED:
		return;
	}
}

static void drain_status(struct attempt *a)
{
	struct init_report r;
	int fds[IO_FDS_MAX];
	size_t fd_count;

	while (a->status.fd >= 0 && proc_receive(a->status.fd, &r, fds, &fd_count) == 0) {
		on_report(a, &r, fds, fd_count);
		for (size_t i = 0; i < fd_count; i++)
			close_fd(&fds[i]);
	}
}

void attempt_on_status(struct loop_source *s, uint32_t events)
{
	struct attempt *a = container_of(s, struct attempt, status);

	drain_status(a);
	if (events & (EPOLLHUP | EPOLLERR)) {
		int fd = s->fd;
		loop_unwatch(&a->keeper->loop, s);
		close_fd(&fd);
	}
}

/* Pid 1 can be waited for only when all others of its namespace are dead and reaped. */
void attempt_on_pid1(struct loop_source *s, uint32_t events)
{
	struct attempt *a = container_of(s, struct attempt, pid1);
	struct keeper *k = a->keeper;
	siginfo_t info = {0};

	(void)events;
	if (waitid(P_PIDFD, (id_t)s->fd, &info, WEXITED | __WALL | WNOHANG) < 0 && errno != ECHILD)
		return;
	drain_status(a);
	if (a->state == SANDBOX_ATTEMPT_STARTING) {
		struct error err = {.code = a->not_started.error};
		if (err.code == 0)
			(void)error_set(&err, -ECHILD,
					"sandbox: pid 1 was killed before the command ran");
		else
			snprintf(err.msg, sizeof(err.msg), "%s", a->not_started.text);
		char stage[sizeof(a->not_started.stage)];
		snprintf(stage, sizeof(stage), "%s",
			 a->not_started.stage[0] ? a->not_started.stage : "none");
		not_started(a, a->not_started.why ? a->not_started.why : SANDBOX_NOT_STARTED_INFRA,
			    stage, &err);
		return;
	}
	if (!a->exit_told)
		exited(a, NULL);
	set_state(a, SANDBOX_ATTEMPT_GONE);
	release(a);
	tell(a, SANDBOX_EVENT_GONE, &a->out_fd, a->out_fd >= 0 ? 1 : 0);
	userns_retry_jobs(k);
}

/* ---- limits that are looked at ---- */

void attempt_usage(struct attempt *a, const struct sealer_reply *r)
{
	const struct sandbox_limits *l = &a->spec->spec.limits;

	a->usage_asked = false;
	if (r->result == -ECONNRESET || r->result == -EPIPE)
		return; /* the sealer ended: the next one is asked */
	/* What cannot be measured would not be limited. */
	if (r->result < 0) {
		attempt_kill(a, SANDBOX_WHY_LIMIT, l->disk_bytes ? "disk" : "files");
		return;
	}
	if (l->disk_bytes && r->bytes > l->disk_bytes)
		attempt_kill(a, SANDBOX_WHY_LIMIT, "disk");
	else if (l->files && r->entries > l->files)
		attempt_kill(a, SANDBOX_WHY_LIMIT, "files");
}

static void look_at_disk(struct attempt *a, uint64_t now)
{
	const struct sandbox_spec *s = &a->spec->spec;

	if ((!s->limits.disk_bytes && !s->limits.files) ||
	    s->workspace.mode != SANDBOX_WORKSPACE_STAGED || a->usage_asked ||
	    now - a->disk_checked_ns < DISK_LOOK_NS)
		return;
	struct job *j = calloc(1, sizeof(*j));
	if (!j)
		return;
	a->disk_checked_ns = now;
	a->usage_asked = true;
	j->userns = a->userns;
	j->usage_of = a;
	j->base_fd = -1;
	j->q.op = SEALER_USAGE;
	snprintf(j->q.names[0], sizeof(j->q.names[0]), "%s", s->workspace.upper);
	j->q.name_count = 1;
	j->q.bytes_max = s->limits.disk_bytes;
	j->q.entries_max = s->limits.files;
	userns_submit(a->keeper, j);
}

static void sample_all(struct loop_timer *t)
{
	struct keeper *k = container_of(t, struct keeper, sampler);
	uint64_t now = loop_now_ns();
	bool any = false;

	for (struct attempt *a = k->attempts; a; a = a->next) {
		struct limits_usage u;
		if (a->state != SANDBOX_ATTEMPT_LIVE && a->state != SANDBOX_ATTEMPT_STARTING)
			continue;
		any = true;
		int hit = a->limits && a->state == SANDBOX_ATTEMPT_LIVE
				  ? limits_sample(a->limits, &u)
				  : 0;
		if (hit == LIMITS_HIT_MEMORY)
			attempt_kill(a, SANDBOX_WHY_OOM, "memory");
		else if (hit == LIMITS_HIT_CPU)
			attempt_kill(a, SANDBOX_WHY_LIMIT, "cpu");
		if (a->state == SANDBOX_ATTEMPT_LIVE)
			look_at_disk(a, now);
	}
	if (any)
		loop_timer_set(&k->loop, t, now + LIMITS_SAMPLE_MS * 1000000ULL, sample_all);
}
