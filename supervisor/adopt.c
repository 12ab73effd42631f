/*
 * The connection to the keeper, in the order of its life:
 *
 *   connection   found, started where there is none, replaced after an upgrade
 *   commands     of the engine, of net.c and of sealing.c, as requests that wait for their answer
 *   events       what the keeper reports, handed to attempts.c, net.c and who asked
 *   loss         the keeper died or was taken over; and the start of a supervisor, which adopts what
 *                lives
 *   for the API  signals, terminals and output of an attempt
 */
#include "supervisor/adopt.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/io.h"
#include "supervisor/attempts.h"
#include "supervisor/diffs.h"
#include "supervisor/engine_private.h"
#include "supervisor/garbage.h"
#include "supervisor/net.h"
#include "supervisor/runs.h"
#include "supervisor/sealing.h"

enum {
	LOCK_WAIT_MS = 5000, /* for processes to die with their keeper */
	CONNECT_TRIES =
		20, /* of a keeper that is there and does not answer, as one that is dying */
	CONNECT_PAUSE_MS = 50,
	REACH_WAIT_MS = 5000, /* for a keeper that lives to listen again, or to end */
	REACH_PAUSE_MS = 10,
	REPLACE_WAIT_MS = 1000, /* for a keeper with nothing in its care to end by itself; the loop
				   waits with it */
	REPLACE_KILL_MS = 1000, /* and behind SIGKILL */
	CONNECT_TIMEOUTS = 2, /* each has waited for SANDBOX_OPEN_TIMEOUT_MS already */
	START_TRIES = 3,
};

struct adopt {
	struct sandbox_client *client;
	struct event *event;
	struct adopt_request *requests;
	bool lost; /* the connection ended during a dispatch: to be opened anew */
};

static void on_keeper(evutil_socket_t fd, short what, void *arg);
static void on_event(void *arg, const struct sandbox_event *e);

/* ---- the connection ---- */

static void watch(struct daemon *d)
{
	struct adopt *a = d->adopt;
	short poll_events = sandbox_client_poll_events(a->client);
	short wanted = EV_PERSIST | EV_READ;

	if (poll_events & POLLOUT)
		wanted |= EV_WRITE;
	if (a->event && event_get_events(a->event) == wanted)
		return;
	if (a->event)
		event_free(a->event);
	a->event = event_new(d->loop, sandbox_client_fd(a->client), wanted, on_keeper, d);
	if (a->event)
		event_add(a->event, NULL);
}

static void disconnect(struct adopt *a)
{
	if (a->event)
		event_free(a->event);
	a->event = NULL;
	sandbox_client_free(a->client);
	a->client = NULL;
}

static void doze(long ms)
{
	struct timespec pause = {.tv_nsec = ms * 1000 * 1000};

	nanosleep(&pause, NULL);
}

static bool nobody_listens(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED;
}

/* -ENOENT, -ECONNREFUSED: there is none. -ESTALE: a newer supervisor has it. Any other says nothing
 * of the keeper's state (it may be dying in its hello, or descriptors may be short), so it is asked
 * again before it is believed. */
static int connect_once(struct daemon *d, struct error *err)
{
	struct error last = {0};
	int timeouts = 0, r = 0;

	for (int i = 0; i < CONNECT_TRIES && timeouts < CONNECT_TIMEOUTS; i++) {
		if (i > 0)
			doze(CONNECT_PAUSE_MS);
		last = (struct error){0};
		r = sandbox_client_open(d->v1_fd, d->paths.runtime_fd, d->epoch, on_event, d,
					&d->adopt->client, &last);
		if (r == 0)
			watch(d);
		if (r == 0 || nobody_listens(r) || r == -ESTALE || r == -EPERM)
			break;
		timeouts += r == -ETIMEDOUT;
	}
	if (r < 0 && err)
		*err = last;
	return r;
}

/* After *waited ms: whether a keeper that does not listen is to be looked for again. */
static bool may_come(struct daemon *d, int *waited)
{
	if (*waited >= REACH_WAIT_MS || sandbox_keeper_lives(d->v1_fd) != 1)
		return false;
	doze(REACH_PAUSE_MS);
	*waited += REACH_PAUSE_MS;
	return true;
}

/* As connect_once; and -EBUSY: one lives that nobody can talk to, so its attempts run on. */
static int connect_keeper(struct daemon *d, struct error *err)
{
	struct error last = {0};
	int waited = 0, r;

	do {
		last = (struct error){0};
		r = connect_once(d, &last);
	} while (nobody_listens(r) && may_come(d, &waited));
	if (nobody_listens(r) && sandbox_keeper_lives(d->v1_fd) == 1)
		return error_set_exit(err, -EBUSY, EXIT_STATUS_SANDBOX,
				      "a keeper lives and does not listen (is the disk of %s full, "
				      "or was it stopped?); free some space, or kill "
				      "'holdfast-keeper' and the steps in its care with it; then "
				      "start again",
				      d->paths.state);
	if (r < 0 && err)
		*err = last;
	return r;
}

/* Connects to the keeper, and starts one where there is none. */
static int need_keeper(struct daemon *d, struct error *err)
{
	struct sandbox_keeper_options o = {.helpers_fd = d->helpers_fd,
					   .runtime_fd = d->paths.runtime_fd,
					   .state_fd = d->v1_fd};
	struct error first = {0};
	int r;

	if (d->adopt->client)
		return 0;
	r = connect_keeper(d, &first);
	for (int i = 0; i < START_TRIES && nobody_listens(r); i++) { /* a new one may die as well */
		first = (struct error){0};
		r = sandbox_keeper_start(&o, &first);
		if (r == 0 || r == -EADDRINUSE) {
			first = (struct error){0};
			r = connect_keeper(d, &first);
		} else {
			break;
		}
	}
	if (r < 0 && err)
		*err = first;
	if (r < 0)
		error_set_exit(err, r, EXIT_STATUS_SANDBOX, "no keeper: %s; run 'holdfast doctor'",
			       strerror(-r));
	return r;
}

static bool hung_up(const struct sandbox_client *c)
{
	struct pollfd p = {.fd = sandbox_client_fd(c)};

	return poll(&p, 1, 0) > 0;
}

static bool ends_within(int pidfd, int ms)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, ms) > 0;
}

/* One that drains takes no attempts any more: living on it would be the end of every later start. */
static int end_old_keeper(const struct daemon *d, int pidfd, pid_t pid, struct error *err)
{
	if (ends_within(pidfd, 0))
		return 0;
	daemon_log(d, "the keeper of before, process %d, does not end: it is killed", (int)pid);
	/* ESRCH: it has ended meanwhile. */
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return error_set_exit(
			err, -errno, EXIT_STATUS_SANDBOX,
			"the keeper of before, process %d, does not end and cannot be "
			"killed: %s; kill it, then start again",
			(int)pid, strerror(errno));
	if (!ends_within(pidfd, REPLACE_KILL_MS))
		return error_set_exit(
			err, -EBUSY, EXIT_STATUS_SANDBOX,
			"the keeper of before, process %d, does not end though it was "
			"killed (does a disk not answer it?); start again when it has",
			(int)pid);
	return 0;
}

/*
 * An upgrade is a restart: the keeper of before was adopted with its steps, and when it has nothing
 * more in its care the next step is another's, of the program that is installed now. Not from
 * within a dispatch: the connection goes.
 */
static int replace_old_keeper(struct daemon *d, struct error *err)
{
	struct adopt *a = d->adopt;
	AUTO_FD pidfd = -1;
	uint64_t number;
	pid_t pid;

	if (!a->client || attempts_any(d) || a->requests || net_any(d) ||
	    !sandbox_keeper_is_old(d->v1_fd, d->helpers_fd))
		return 0;
	daemon_log(d, "the keeper is of an earlier installation: another takes its place");
	pid = adopt_keeper_pid(d);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 && errno != ESRCH)
		return error_set_exit(err, -errno, EXIT_STATUS_SANDBOX,
				      "the keeper of before, process %d, cannot be watched: %s",
				      (int)pid, strerror(errno));
	/* Only of one that is still connected is the number its own; another's loss is told. */
	if (pidfd < 0 || hung_up(a->client) || sandbox_client_drain(a->client, &number) < 0)
		return 0;
	for (int waited = 0; waited < REPLACE_WAIT_MS && !a->lost; waited += REACH_PAUSE_MS) {
		struct pollfd p = {.fd = sandbox_client_fd(a->client),
				   .events = sandbox_client_poll_events(a->client)};

		(void)poll(&p, 1, REACH_PAUSE_MS);
		if (sandbox_client_dispatch(a->client) < 0)
			a->lost = true;
	}
	if (a->lost)
		(void)!ends_within(pidfd, REPLACE_WAIT_MS); /* it has hung up, and clears up */
	a->lost = false;
	disconnect(a);
	return end_old_keeper(d, pidfd, pid, err);
}

struct sandbox_client *adopt_client(struct daemon *d, struct error *err)
{
	return need_keeper(d, err) < 0 ? NULL : d->adopt->client;
}

uint64_t adopt_look(struct daemon *d)
{
	AUTO(sandbox_client_free) struct sandbox_client *c = NULL;
	int waited = 0, r;

	do
		r = sandbox_client_open(d->v1_fd, -1, 0, on_event, d, &c, NULL);
	while (nobody_listens(r) && may_come(d, &waited));
	if (r < 0)
		return 0;
	return sandbox_client_hello(c)->keeper_epoch;
}

pid_t adopt_keeper_pid(const struct daemon *d)
{
	return d->adopt->client ? sandbox_client_hello(d->adopt->client)->keeper_pid : 0;
}

void adopt_await(struct daemon *d, const struct adopt_request *like)
{
	struct adopt_request *r = malloc(sizeof(*r));

	if (!r)
		abort(); /* an answer that nobody waits for would be forgotten: recovery knows
			    better */
	*r = *like;
	r->next = d->adopt->requests;
	d->adopt->requests = r;
	watch(d);
}

static struct adopt_request *take_request(struct adopt *a, uint64_t number)
{
	for (struct adopt_request **at = &a->requests; *at; at = &(*at)->next) {
		struct adopt_request *r = *at;

		if (r->number == number) {
			*at = r->next;
			return r;
		}
	}
	return NULL;
}

/* ---- commands ---- */

static void perform_kill(struct daemon *d, const struct engine_command *c)
{
	struct attempt *a = attempts_of(d, &c->attempt_id);

	/* Nobody knows it: it was never asked for, or its end is on its way already. */
	if (a && d->adopt->client)
		attempts_kill(d, d->adopt->client, a, c->now);
}

void adopt_kill_now(struct daemon *d, const struct sandbox_attempt_id *id)
{
	if (!d->adopt->client)
		return;
	if (sandbox_client_kill(d->adopt->client, id, NULL) < 0)
		daemon_log(d, "the keeper cannot be asked to kill an attempt");
	watch(d);
}

void adopt_forget(struct daemon *d, const struct sandbox_attempt_id *id)
{
	if (d->adopt->client && sandbox_client_forget(d->adopt->client, id, NULL) < 0)
		daemon_log(d, "the keeper cannot be asked to forget an attempt");
	attempts_spool_remove(d, id);
}

static void perform_forget(struct daemon *d, const struct journal_id *attempt)
{
	struct sandbox_attempt_id id;
	struct attempt *a;

	attempts_id(attempt, &id);
	adopt_forget(d, &id);
	a = attempts_find(d, &id);
	if (a)
		attempts_drop(d, a);
}

void adopt_check_next(struct daemon *d, const struct engine_command *cmd, uint32_t index)
{
	struct error err = {0};

	if (need_keeper(d, &err) < 0)
		attempts_not_started(d, cmd, "machine", err.msg, true);
	else
		attempts_check_next(d, d->adopt->client, cmd, index);
	if (d->adopt->client)
		watch(d);
}

static void on_net(struct daemon *d, struct adopt_request *q, const struct sandbox_event *e)
{
	if (e->type == SANDBOX_EVENT_REPLY)
		net_answered(d, &q->run, q->net, e->reply.result, &e->reply.error,
			     e->fd_count == 1 ? take_fd(&e->fds[0]) : -1);
}

int adopt_net(struct daemon *d, enum adopt_net_what what, const struct journal_id *run,
	      const struct sandbox_net *n, struct error *err)
{
	static const struct adopt_kind kind = {.answered = on_net};
	struct adopt_request asked = {.kind = &kind, .net = what, .run = *run};
	struct sandbox_net_id id;
	int r = 0;

	if (what == ADOPT_NET_CLOSE && !d->adopt->client)
		return 0;
	r = need_keeper(d, err);
	if (r < 0)
		return r;
	net_id(run, &id);
	switch (what) {
	case ADOPT_NET_OPEN:
		r = sandbox_client_net_open(d->adopt->client, n, &asked.number);
		break;
	case ADOPT_NET_ATTACH:
		r = sandbox_client_net_attach(d->adopt->client, &id, &asked.number);
		break;
	case ADOPT_NET_CLOSE:
		r = sandbox_client_net_close(d->adopt->client, &id, &asked.number);
		break;
	}
	if (r < 0)
		return error_set(err, r, "the keeper cannot be asked for a network: %s",
				 strerror(-r));
	adopt_await(d, &asked);
	return 0;
}

static void perform_start(struct daemon *d, const struct engine_command *c)
{
	struct error err = {0};
	int r;

	r = replace_old_keeper(d, &err);
	if (r == 0)
		r = need_keeper(d, &err);
	if (r < 0)
		attempts_not_started(d, c, "machine", err.msg, true);
	else
		attempts_start(d, d->adopt->client, c);
	if (d->adopt->client)
		watch(d);
}

/* Where there is no freezer the attempt goes on: it waits for its answer as it is. */
static void perform_freeze(struct daemon *d, const struct engine_command *c)
{
	struct sandbox_attempt_id id;

	attempts_id(&c->attempt_id, &id);
	if (d->adopt->client &&
	    sandbox_client_freeze(d->adopt->client, &id, c->kind == ENGINE_FREEZE, NULL) < 0)
		daemon_log(d, "the keeper cannot be asked to freeze or thaw an attempt");
}

void adopt_perform(struct daemon *d, const struct engine_command *c)
{
	switch (c->kind) {
	case ENGINE_START_ATTEMPT:
		perform_start(d, c);
		break;
	case ENGINE_KILL_ATTEMPT:
	case ENGINE_SUSPEND:
		perform_kill(d, c);
		break;
	case ENGINE_SEAL:
		sealing_seal(d, &c->run, &c->attempt_id, c->layer);
		break;
	case ENGINE_REMOVE_LAYER:
		sealing_remove(d, c->layer);
		break;
	case ENGINE_FORGET_ATTEMPT:
		perform_forget(d, &c->attempt_id);
		break;
	case ENGINE_FREEZE:
	case ENGINE_THAW:
		perform_freeze(d, c);
		break;
	case ENGINE_CARD:
	case ENGINE_PLAN_LANDING:
	case ENGINE_APPLY_LANDING:
	case ENGINE_EFFECT_ANSWER:
	case ENGINE_EFFECT_RELEASE:
	case ENGINE_EFFECT_PROBE:
		break;
	}
	if (d->adopt->client)
		watch(d);
}

bool adopt_busy(const struct daemon *d)
{
	return d->adopt->requests != NULL || attempts_any(d);
}

/* ---- what the keeper says ---- */

static void on_reply(struct daemon *d, const struct sandbox_event *e)
{
	struct adopt_request *q = take_request(d->adopt, e->request);

	if (q)
		q->kind->answered(d, q, e);
	free(q);
}

static void refuse_pty(struct daemon *d, struct attempt *a)
{
	struct api_answer answer = {.fd = -1};
	struct error err = {0};

	if (!a->pty_ticket)
		return;
	error_set_exit(&err, -ENOTTY, EXIT_STATUS_USAGE,
		       "no terminal: the step did not start; see 'holdfast status'");
	api_answer_error(&answer, 409, &err);
	api_server_answer(d->api, a->pty_ticket, &answer);
	a->pty_ticket = 0;
}

static void on_started(struct daemon *d, struct attempt *a)
{
	uint64_t ticket = a->pty_ticket;
	struct error err = {0};

	attempts_on_started(d, a);
	if (ticket && adopt_pty(d, &a->attempt, ticket, &err) < 0)
		refuse_pty(d, a);
	a->pty_ticket = 0;
}

static void on_event(void *arg, const struct sandbox_event *e)
{
	struct daemon *d = arg;
	struct attempt *a = NULL;

	if (!d->adopt)
		return;
	a = attempts_find(d, &e->attempt);
	switch (e->type) {
	case SANDBOX_EVENT_STARTED:
		if (a)
			on_started(d, a);
		break;
	case SANDBOX_EVENT_NOT_STARTED:
		if (a) {
			refuse_pty(d, a);
			attempts_on_not_started(d, a, &e->not_started);
		}
		break;
	case SANDBOX_EVENT_EXITED:
		if (a)
			attempts_on_exited(d, a, &e->exit);
		break;
	case SANDBOX_EVENT_GONE:
		if (a)
			attempts_on_gone(d, a, e->fd_count > 0 ? e->fds[0] : -1);
		break;
	case SANDBOX_EVENT_OUTPUT:
		break;
	case SANDBOX_EVENT_REPLY:
	case SANDBOX_EVENT_LAYER:
		on_reply(d, e);
		break;
	case SANDBOX_EVENT_CONNECTION_LOST:
		d->adopt->lost = true;
		break;
	}
	if (d->api)
		api_server_kick(d->api);
}

/* ---- losing and finding ---- */

/* No keeper lives: sandboxes die with it, and their locks say when. While one is held its attempt
 * may not be called lost: the step would run twice at once. */
static int wait_for_locks(struct daemon *d, struct error *err)
{
	for (int waited = 0; attempts_locked(d); waited += 5) {
		if (waited >= LOCK_WAIT_MS)
			return error_set_exit(
				err, -EBUSY, EXIT_STATUS_SANDBOX,
				"steps outlive their keeper (does a disk not answer them?); kill "
				"'holdfast-init', then start again");
		doze(5);
	}
	/* Processes outlive the lock by some 50 us (sandbox_attempt_lives). */
	doze(5);
	return 0;
}

static void tell_lost(struct daemon *d)
{
	struct adopt_request *old = take_ptr(d->adopt->requests);

	while (old) {
		struct adopt_request *q = old;

		old = q->next;
		if (q->kind->lost)
			q->kind->lost(d, q);
		free(q);
	}
}

static void on_lost(struct daemon *d)
{
	struct error err = {0}, unreachable = {0};
	int r;

	d->adopt->lost = false;
	disconnect(d->adopt);
	r = connect_keeper(d, &err);
	if (r == -ESTALE) { /* epoch fence */
		daemon_log(d, "the keeper was taken over: %s", err.msg);
		daemon_stop(d);
		return;
	}
	if (nobody_listens(r) && wait_for_locks(d, &unreachable) < 0) {
		daemon_log(d, "%s", unreachable.msg);
		daemon_fail(d);
		return;
	}
	if (r < 0 && !nobody_listens(r)) {
		/* Whether its attempts live is not known: the next supervisor adopts them or finds
		 * them lost. */
		daemon_log(d,
			   "the keeper cannot be reached: %s; its steps go on with the next "
			   "supervisor",
			   err.msg);
		daemon_fail(d);
		return;
	}
	if (r < 0)
		daemon_log(d, "the keeper is gone: its attempts are lost");
	attempts_after_loss(d, r == 0 ? sandbox_client_hello(d->adopt->client) : NULL);
	tell_lost(d);
	net_found(d, r == 0 ? sandbox_client_hello(d->adopt->client) : NULL);
	net_settle_lost(d);
}

static void on_keeper(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;

	(void)fd;
	(void)what;
	daemon_look_at_space(d);
	if (sandbox_client_dispatch(d->adopt->client) < 0)
		d->adopt->lost = true;
	if (d->adopt->lost)
		on_lost(d);
	else
		watch(d);
	daemon_settle(d);
}

static struct engine_found *gather(struct daemon *d, size_t *ret_count)
{
	const struct sandbox_hello *h =
		d->adopt->client ? sandbox_client_hello(d->adopt->client) : NULL;
	struct engine_found *found = calloc(h ? h->found_count + 1 : 1, sizeof(*found));

	*ret_count = 0;
	for (size_t i = 0; found && h && i < h->found_count; i++) {
		struct engine_found *f = &found[*ret_count];

		memcpy(f->attempt.b, h->found[i].attempt.b, sizeof(f->attempt.b));
		f->live = h->found[i].state <= SANDBOX_ATTEMPT_FROZEN;
		if (attempts_adopt(d, &h->found[i].attempt)) {
			(*ret_count)++;
		} else { /* a check of an earlier supervisor, or what the journal lost with its
			    unsynced tail */
			(void)!sandbox_client_kill(d->adopt->client, &h->found[i].attempt, NULL);
			attempts_disown(d, &h->found[i].attempt);
		}
	}
	return found;
}

int adopt_recover(struct daemon *d, bool start, struct error *err)
{
	struct engine_found *found;
	struct error quiet = {0};
	size_t count;
	int r = connect_keeper(d, &quiet);

	if (r < 0 && !nobody_listens(r)) {
		*err = quiet;
		return r;
	}
	if (r < 0) {
		r = wait_for_locks(d, err);
		if (r < 0)
			return r;
	}
	net_found(d, d->adopt->client ? sandbox_client_hello(d->adopt->client) : NULL);
	found = gather(d, &count);
	diffs_sweep(d);
	jobs_sweep(d);
	if (!found)
		return error_nomem(err);
	quiet = (struct error){0};
	daemon_look_at_space(d);
	r = engine_recover(d->engine, daemon_now(), d->boot_id, found, count, start, &quiet);
	free(found);
	if (r == 0)
		net_settle_lost(d);
	if (quiet.code)
		daemon_log(d, "%s", quiet.msg); /* a run that cannot be read holds up no other */
	if (r < 0)
		*err = quiet;
	if (d->adopt->client)
		watch(d);
	garbage_soon(d);
	return r;
}

/* ---- for the API ---- */

static int no_attempt(struct error *err)
{
	return error_set_exit(err, -ESRCH, EXIT_STATUS_CONFLICT,
			      "it does not run: the step has no live attempt");
}

int adopt_signal(struct daemon *d, const struct journal_id *attempt, int sig, struct error *err)
{
	struct attempt *a = attempts_of(d, attempt);
	int r;

	if (!a || !d->adopt->client || a->state < ATTEMPT_LIVE)
		return no_attempt(err);
	r = sandbox_client_signal(d->adopt->client, &a->id, sig, NULL);
	watch(d);
	return r < 0 ? error_set(err, r, "the signal was not sent: %s", strerror(-r)) : 0;
}

int adopt_resize(struct daemon *d, const struct journal_id *attempt, uint16_t rows, uint16_t cols,
		 struct error *err)
{
	struct attempt *a = attempts_of(d, attempt);
	int r;

	if (!a || !d->adopt->client)
		return no_attempt(err);
	r = sandbox_client_resize(d->adopt->client, &a->id, rows, cols, NULL);
	watch(d);
	return r < 0 ? error_set(err, r, "the terminal was not resized: %s", strerror(-r)) : 0;
}

static void on_pty(struct daemon *d, struct adopt_request *q, const struct sandbox_event *e)
{
	struct api_answer a = {.fd = -1};
	struct error err = {0};

	if (e->type == SANDBOX_EVENT_REPLY && e->reply.result == 0 && e->fd_count == 1) {
		a.status = 200;
		a.json = json_pack("{s:i}", "version", SUPERVISOR_API_VERSION);
		a.fd = take_fd(&e->fds[0]);
		a.volatile_ = true;
	} else {
		error_set_exit(&err, -ENOTTY, EXIT_STATUS_USAGE,
			       "no terminal: %s; only 'exec -t' has one, while it runs",
			       e->type == SANDBOX_EVENT_REPLY && e->reply.error.msg[0]
				       ? e->reply.error.msg
				       : "this step runs without");
		api_answer_error(&a, 409, &err);
	}
	api_server_answer(d->api, q->ticket, &a);
}

static void pty_lost(struct daemon *d, struct adopt_request *q)
{
	struct api_answer a = {.fd = -1};
	struct error err = {0};

	error_set(&err, -EAGAIN,
		  "the keeper was lost: the terminal is gone with it; start the command again");
	api_answer_error(&a, 503, &err);
	api_server_answer(d->api, q->ticket, &a);
}

int adopt_pty(struct daemon *d, const struct journal_id *attempt, uint64_t ticket,
	      struct error *err)
{
	struct attempt *a = attempts_of(d, attempt);
	static const struct adopt_kind kind = {.answered = on_pty, .lost = pty_lost};
	struct adopt_request asked = {.kind = &kind, .attempt = *attempt, .ticket = ticket};
	int r;

	if (!a || !d->adopt->client || a->state >= ATTEMPT_EXITED)
		return no_attempt(err);
	if (a->state < ATTEMPT_LIVE) { /* asked for when it starts: on_event */
		a->pty_ticket = ticket;
		return 0;
	}
	r = sandbox_client_pty(d->adopt->client, &a->id, &asked.number);
	if (r < 0)
		return error_set(err, r, "the terminal was not asked for: %s", strerror(-r));
	adopt_await(d, &asked);
	return 0;
}

void adopt_follow(struct daemon *d, const struct journal_id *attempt, bool on)
{
	struct attempt *a = attempts_of(d, attempt);

	if (!a || !d->adopt->client)
		return;
	a->followers += on ? 1 : -1;
	if ((a->followers == 1 && on) || (a->followers == 0 && !on)) {
		if (sandbox_client_follow(d->adopt->client, &a->id, on, NULL) < 0)
			daemon_log(d, "the keeper does not tell of output");
		watch(d);
	}
}

int adopt_spool_open(struct daemon *d, const struct journal_id *attempt, bool err_stream)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];
	struct sandbox_attempt_id id;
	int fd;

	attempts_id(attempt, &id);
	sandbox_spool_name(&id, err_stream ? SANDBOX_SPOOL_STDERR : SANDBOX_SPOOL_STDOUT, name);
	fd = openat(d->spool_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

bool adopt_live(const struct daemon *d, const struct journal_id *attempt)
{
	const struct attempt *a = attempts_of(d, attempt);

	return a && a->state < ATTEMPT_EXITED;
}

int adopt_diff(struct daemon *d, const struct journal_id *run, const char *const *argv, int dest_fd,
	       const char *dest_name, struct buffer *note, uint64_t ticket, struct cards_work *card,
	       struct error *err)
{
	int r = need_keeper(d, err);

	if (r == 0)
		r = attempts_start_diff(d, d->adopt->client, run, argv, dest_fd, dest_name, note,
					ticket, card, err);
	if (d->adopt->client)
		watch(d);
	return r;
}

int adopt_job(struct daemon *d, const struct sandbox_spec *spec, const char *dest,
	      struct jobs_job *job, struct error *err)
{
	int r = need_keeper(d, err);

	if (r == 0)
		r = attempts_start_job(d, d->adopt->client, spec, dest, job, err);
	if (d->adopt->client)
		watch(d);
	return r;
}

int adopt_new(struct adopt **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

void adopt_free(struct adopt *a)
{
	if (!a)
		return;
	disconnect(a);
	while (a->requests) {
		struct adopt_request *q = a->requests;

		a->requests = q->next;
		free(q);
	}
	free(a);
}
