/*
 * Networks of runs: what must outlive a gate or a courier, and their lives.
 *
 * Held here: the sealed table and authority, the names given to slots of wildcards, the listeners
 * of every attempt (in struct attempt), the run's lock. Both helpers hold a duplicate of the lock,
 * so that it is free only when none of the three lives. A helper that ended is started again while
 * somebody needs it: a gate while an attempt lives, a courier also while a report channel waits for
 * one. The next one is started only when the kernel has told the end of the one before, since two
 * couriers of one run would send twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include "base/io.h"
#include "sandbox/gate/control.h"
#include "sandbox/keeper.h"
#include "sandbox/sys.h"

enum {
	AGAIN_MS = 10, /* until a helper that died is started again; doubled each time */
	AGAIN_MAX_MS = 5000,
	LIVED_NS = 5 * 1000 * 1000 * 1000LL, /* who lived so long begins at AGAIN_MS */
	DEATH_MS = 1000, /* of one that was killed */
	FULL_MS = 5, /* until descriptors are sent again where too many are on their way */
	QUEUE_MAX = 16 * 1024, /* messages that wait for one helper; past it it is killed */
};

struct net_message {
	struct net_message *next;
	struct control_message m;
	int fd; /* owned; -1 = none. LISTENERS: those of the attempt when it is sent */
};

static void helper_start(struct net_helper *h);
static void on_again(struct loop_timer *t);

struct net *net_find(struct keeper *k, const struct sandbox_net_id *run)
{
	for (struct net *n = k->nets; n; n = n->next)
		if (!n->ending && memcmp(&n->run, run, sizeof(*run)) == 0)
			return n;
	return NULL;
}

static bool has_live_attempt(const struct net *n)
{
	for (const struct attempt *a = n->keeper->attempts; a; a = a->next)
		if (a->net == n && a->state < SANDBOX_ATTEMPT_GONE)
			return true;
	return false;
}

static bool is_wanted(const struct net_helper *h)
{
	return has_live_attempt(h->net) || (h == &h->net->courier && h->net->report >= 0);
}

static bool is_running(const struct net_helper *h)
{
	return h->process.fd >= 0;
}

/* ---- saying ---- */

static void message_free(struct net_message *m)
{
	close_fd(&m->fd);
	free(m);
}

static void queue_drop(struct net_helper *h)
{
	for (struct net_message *m = h->first, *next; m; m = next) {
		next = m->next;
		message_free(m);
	}
	h->first = NULL;
	h->last = &h->first;
	h->queued = 0;
}

/* Its end comes by its pidfd. */
static void helper_kill(struct net_helper *h)
{
	if (is_running(h))
		(void)sys_pidfd_send_signal(h->process.fd, SIGKILL);
}

/* 1 there is nothing to send any more. */
static int send_one(struct net_helper *h, const struct net_message *m)
{
	const int *fds = &m->fd;
	size_t count = m->fd >= 0 ? 1 : 0;

	if (m->m.type == CONTROL_LISTENERS) {
		struct sandbox_attempt_id id;
		memcpy(id.b, m->m.attempt, sizeof(id.b));
		const struct attempt *a = attempt_find(h->net->keeper, &id);
		if (!a || a->state >= SANDBOX_ATTEMPT_GONE || m->m.first >= a->listener_count)
			return 1;
		fds = a->listeners + m->m.first;
		count = a->listener_count - m->m.first;
		if (count > CONTROL_FDS_MAX)
			count = CONTROL_FDS_MAX;
	}
	ssize_t n = io_send_fds(h->control.fd, &m->m, sizeof(m->m), fds, count);
	return n < 0 ? (int)n : 0;
}

static void on_full(struct loop_timer *t);

static void flush(struct net_helper *h)
{
	struct loop *l = &h->net->keeper->loop;

	while (h->first && h->control.fd >= 0) {
		struct net_message *m = h->first;
		int r = send_one(h, m);
		if (r == -EAGAIN)
			break;
		if (r == -ETOOMANYREFS) {
			loop_timer_set(l, &h->full, loop_now_ns() + FULL_MS * 1000000ULL, on_full);
			return;
		}
		if (r < 0) {
			helper_kill(h);
			return;
		}
		h->first = m->next;
		if (!h->first)
			h->last = &h->first;
		h->queued--;
		message_free(m);
	}
	if (h->control.fd >= 0)
		loop_change(l, &h->control, h->first ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void on_full(struct loop_timer *t)
{
	flush(container_of(t, struct net_helper, full));
}

/* Takes fd over. Who cannot be told is ended, and hears all of it again at its next start. */
static void say(struct net_helper *h, const struct control_message *m, int fd)
{
	struct net_message *q = NULL;

	if (is_running(h) && h->control.fd >= 0) {
		q = h->queued < QUEUE_MAX ? calloc(1, sizeof(*q)) : NULL;
		if (!q)
			helper_kill(h);
	}
	if (!q) {
		close_fd(&fd);
		return;
	}
	q->m = *m;
	q->fd = fd;
	*h->last = q;
	h->last = &q->next;
	h->queued++;
	if (h->full.due_ns == 0)
		flush(h);
}

static void say_copy(struct net_helper *h, enum control_type type, int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		helper_kill(h);
	else
		say(h, &(struct control_message){.type = type}, copy);
}

static void say_listeners(struct net_helper *h, const struct attempt *a)
{
	struct control_message m = {.type = CONTROL_LISTENERS};

	memcpy(m.attempt, a->id.b, sizeof(m.attempt));
	for (size_t i = 0; i < a->listener_count; i += CONTROL_FDS_MAX) {
		m.first = (uint32_t)i;
		say(h, &m, -1);
	}
}

static bool is_served(const struct attempt *a)
{
	return a->listener_count > 0 && a->listener_count == a->listener_want &&
	       a->state < SANDBOX_ATTEMPT_GONE;
}

/* ---- what a gate says: names for slots ---- */

static void take_name(struct net *n, const struct control_message *m)
{
	if (m->entry >= n->table->count || m->slot >= n->table->entries[m->entry].slots ||
	    !memchr(m->name, 0, sizeof(m->name)) || m->name[0] == '\0')
		return;
	for (size_t i = 0; i < n->name_count; i++)
		if (n->names[i].entry == m->entry && n->names[i].slot == m->slot)
			return;
	struct control_message *more = reallocarray(n->names, n->name_count + 1, sizeof(*n->names));
	if (!more)
		return; /* the next gate will give this address to another name, maybe */
	n->names = more;
	n->names[n->name_count++] = *m;
}

static void on_control(struct loop_source *s, uint32_t events)
{
	struct net_helper *h = container_of(s, struct net_helper, control);
	struct control_message m;
	int fds[IO_FDS_MAX];
	size_t fd_count;

	if (events & EPOLLOUT)
		flush(h);
	if (!(events & ~(uint32_t)EPOLLOUT))
		return;
	ssize_t got = io_recv_fds(s->fd, &m, sizeof(m), fds, &fd_count);
	for (size_t i = 0; i < fd_count; i++)
		close_fd(&fds[i]);
	if (got == -EAGAIN)
		return;
	if (got == sizeof(m) && fd_count == 0 && h == &h->net->gate && m.type == CONTROL_NAME) {
		take_name(h->net, &m);
		return;
	}
	int fd = s->fd;
	loop_unwatch(&h->net->keeper->loop, s);
	close_fd(&fd);
	helper_kill(h);
}

/* ---- their lives ---- */

static void helper_schedule(struct net_helper *h)
{
	uint64_t now = loop_now_ns();

	if (h->again.due_ns != 0 || is_running(h))
		return;
	if (h->started_ns == 0 || now - h->started_ns > LIVED_NS)
		h->again_ms = 0;
	uint64_t due = now + h->again_ms * 1000000ULL;
	h->again_ms = h->again_ms ? h->again_ms * 2 : AGAIN_MS;
	if (h->again_ms > AGAIN_MAX_MS)
		h->again_ms = AGAIN_MAX_MS;
	if (due == now)
		helper_start(h);
	else
		loop_timer_set(&h->net->keeper->loop, &h->again, due, on_again);
}

static void on_again(struct loop_timer *t)
{
	struct net_helper *h = container_of(t, struct net_helper, again);

	if (is_wanted(h))
		helper_start(h);
}

/* The lock's file goes when nobody holds it: whoever locks the next one is alone. */
static void end(struct net *n)
{
	n->ending = true;
	close_fd(&n->report);
	loop_timer_off(&n->keeper->loop, &n->gate.again);
	loop_timer_off(&n->keeper->loop, &n->courier.again);
	helper_kill(&n->gate);
	helper_kill(&n->courier);
	if (!is_running(&n->gate) && !is_running(&n->courier))
		net_free(n);
}

static void on_process(struct loop_source *s, uint32_t events)
{
	struct net_helper *h = container_of(s, struct net_helper, process);
	struct loop *l = &h->net->keeper->loop;
	int process = s->fd, control = h->control.fd;

	(void)events;
	loop_unwatch(l, &h->process);
	loop_unwatch(l, &h->control);
	loop_timer_off(l, &h->full);
	close_fd(&process);
	close_fd(&control);
	queue_drop(h);
	if (h->net->ending)
		end(h->net);
	else if (is_wanted(h))
		helper_schedule(h);
}

/* Both ends are new whenever one of the two is: the other's old one has ended. */
static void make_trunk(struct net *n)
{
	const struct control_message m = {.type = CONTROL_TRUNK};
	int pair[2];

	if (!is_running(&n->gate) || !is_running(&n->courier))
		return;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		helper_kill(&n->gate); /* which is started again, and tries again */
		return;
	}
	say(&n->gate, &m, pair[0]);
	say(&n->courier, &m, pair[1]);
}

static void greet_gate(struct net *n)
{
	say_copy(&n->gate, CONTROL_TABLE, n->table_fd);
	say_copy(&n->gate, CONTROL_CA, n->ca_fd);
	for (size_t i = 0; i < n->name_count; i++)
		say(&n->gate, &n->names[i], -1);
	make_trunk(n);
	for (const struct attempt *a = n->keeper->attempts; a; a = a->next)
		if (a->net == n && is_served(a))
			say_listeners(&n->gate, a);
}

static void greet_courier(struct net *n)
{
	if (n->report >= 0)
		say(&n->courier, &(struct control_message){.type = CONTROL_REPORT},
		    take_fd(&n->report));
	make_trunk(n);
}

static int helper_spawn(struct net_helper *h)
{
	struct keeper *k = h->net->keeper;
	bool gate = h == &h->net->gate;
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	AUTO_FD ours = pair[0];
	AUTO_FD theirs = pair[1];
	int r = fcntl(ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	if (r == 0)
		r = proc_spawn(gate ? k->gate_fd : k->courier_fd,
			       gate ? "holdfast-gate" : "holdfast-courier", NULL, theirs,
			       h->net->lock, &pid);
	if (r != 0)
		return r;
	AUTO_FD pidfd = sys_pidfd_open(pid);
	if (pidfd < 0)
		return pidfd; /* it ended already */
	r = loop_watch(&k->loop, &h->process, pidfd, EPOLLIN, on_process);
	if (r < 0) {
		(void)sys_pidfd_send_signal(pidfd, SIGKILL);
		return r;
	}
	(void)take_fd(&pidfd);
	r = loop_watch(&k->loop, &h->control, ours, EPOLLIN, on_control);
	if (r < 0)
		helper_kill(h);
	else
		(void)take_fd(&ours);
	return r;
}

static void helper_start(struct net_helper *h)
{
	struct net *n = h->net;

	if (is_running(h) || h->again.due_ns != 0)
		return;
	h->started_ns = loop_now_ns();
	if (helper_spawn(h) < 0) {
		helper_schedule(h);
		return;
	}
	if (h == &n->gate)
		greet_gate(n);
	else
		greet_courier(n);
}

/* ---- a network ---- */

static int take_lock(struct net *n, struct error *err)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];

	sandbox_net_lock_name(&n->run, name);
	n->lock =
		openat(n->keeper->spool_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (n->lock < 0)
		return error_set(err, -errno, "spool: %s: %s", name, strerror(errno));
	if (flock(n->lock, LOCK_EX | LOCK_NB) < 0)
		return error_set(err, -EBUSY,
				 "spool: %s is locked: a gate or courier of this run still lives",
				 name);
	return 0;
}

static int list_listeners(struct net *n, struct error *err)
{
	size_t count = table_listeners(n->table);

	if (count > TABLE_LISTENERS_MAX)
		return error_set(err, -E2BIG, "keeper: the table needs %zu listeners: at most %d",
				 count, TABLE_LISTENERS_MAX);
	n->listeners = calloc(count, sizeof(*n->listeners));
	if (!n->listeners)
		return error_nomem(err);
	for (n->listener_count = 0; n->listener_count < count; n->listener_count++) {
		struct sandbox_listener *l = &n->listeners[n->listener_count];
		struct table_where w;
		table_listener(n->table, n->listener_count, &w);
		l->v6 = w.v6;
		l->datagram = w.datagram;
		l->port = w.number;
		memcpy(l->address, w.address, w.v6 ? 16 : 4);
	}
	return 0;
}

static int hold(struct net *n, struct bytes table, struct bytes ca, struct error *err)
{
	int r = table_decode(table, &n->table);

	if (r < 0)
		return error_set(err, r, "keeper: the name table is not well-formed");
	r = list_listeners(n, err);
	if (r < 0)
		return r;
	n->table_fd = io_memfd_sealed("table", table, false);
	n->ca_fd = io_memfd_sealed("ca", ca, false);
	if (n->table_fd < 0 || n->ca_fd < 0)
		return error_set(err, n->table_fd < 0 ? n->table_fd : n->ca_fd,
				 "keeper: no memory for the name table");
	return take_lock(n, err);
}

static void helper_init(struct net *n, struct net_helper *h)
{
	h->net = n;
	h->control.fd = h->process.fd = -1;
	h->last = &h->first;
}

/* True when it is dead. It is waited for only where the keeper itself ends. */
static bool helper_end(struct net_helper *h)
{
	struct loop *l = &h->net->keeper->loop;
	int process = h->process.fd, control = h->control.fd;
	bool dead = true;

	if (is_running(h)) {
		struct pollfd p = {.fd = process, .events = POLLIN};

		helper_kill(h);
		dead = poll(&p, 1, DEATH_MS) == 1;
	}
	loop_unwatch(l, &h->process);
	loop_unwatch(l, &h->control);
	loop_timer_off(l, &h->again);
	loop_timer_off(l, &h->full);
	close_fd(&process);
	close_fd(&control);
	queue_drop(h);
	return dead;
}

void net_free(struct net *n)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];

	if (!n)
		return;
	for (struct net **p = &n->keeper->nets; *p; p = &(*p)->next) {
		if (*p == n) {
			*p = n->next;
			n->keeper->net_count--;
			break;
		}
	}
	bool courier_dead = helper_end(&n->courier);
	bool gate_dead = helper_end(&n->gate);
	if (n->lock >= 0 && courier_dead && gate_dead) /* else the supervisor's sweep takes it */
		(void)unlinkat(n->keeper->spool_fd, sandbox_net_lock_name(&n->run, name), 0);
	close_fd(&n->lock);
	close_fd(&n->report);
	close_fd(&n->table_fd);
	close_fd(&n->ca_fd);
	table_free(n->table);
	free(n->listeners);
	free(n->names);
	free(n);
}

int net_open(struct keeper *k, const struct sandbox_net_id *run, struct bytes table,
	     struct bytes ca, struct net **ret, struct error *err)
{
	struct net *n = net_find(k, run);

	if (n) {
		n->closing = false;
		*ret = n;
		return 0;
	}
	if (k->gate_fd < 0 || k->courier_fd < 0)
		return error_set_exit(err, -ENOENT, EXIT_STATUS_SANDBOX,
				      "keeper: holdfast-gate or holdfast-courier is missing; "
				      "reinstall");
	if (k->net_count >= SANDBOX_NETS_MAX)
		return error_set(err, -EAGAIN, "keeper: %d networks are open; close some",
				 SANDBOX_NETS_MAX);
	n = calloc(1, sizeof(*n));
	if (!n)
		return error_nomem(err);
	n->keeper = k;
	n->run = *run;
	n->table_fd = n->ca_fd = n->lock = n->report = -1;
	helper_init(n, &n->gate);
	helper_init(n, &n->courier);
	int r = hold(n, table, ca, err);
	if (r < 0) {
		close_fd(&n->lock); /* another's, if it is locked: the file stays */
		net_free(n);
		return r;
	}
	n->next = k->nets;
	k->nets = n;
	k->net_count++;
	*ret = n;
	return 0;
}

int net_attach(struct net *n, int *ret_fd, struct error *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return error_set(err, -errno, "keeper: no socket: %s", strerror(errno));
	close_fd(&n->report);
	if (is_running(&n->courier)) {
		say(&n->courier, &(struct control_message){.type = CONTROL_REPORT}, pair[1]);
	} else {
		n->report = pair[1];
		helper_start(&n->courier);
	}
	*ret_fd = pair[0];
	return 0;
}

void net_close(struct net *n)
{
	n->closing = true;
	for (const struct attempt *a = n->keeper->attempts; a; a = a->next)
		if (a->net == n)
			return;
	end(n);
}

/* ---- attempts ---- */

int net_take(struct attempt *a, struct error *err)
{
	struct keeper *k = a->keeper;

	if (sandbox_net_none(&a->spec->spec.net)) {
		a->listener_want = a->spec->spec.listener_count;
	} else {
		struct net *n = net_find(k, &a->spec->spec.net);
		if (!n)
			return error_set(err, -ENOENT,
					 "sandbox: the network that it names is not open");
		a->net = n;
		a->listener_want = n->listener_count;
		helper_start(&n->gate);
		helper_start(&n->courier);
	}
	if (a->listener_want == 0)
		return 0;
	size_t held = 0;
	for (const struct attempt *o = k->attempts; o; o = o->next)
		held += o->listener_count;
	if (held + a->listener_want > k->listeners_max)
		return error_set(
			err, -EMFILE,
			"sandbox: it needs %zu listeners and others hold %zu of %zu; raise "
			"the limit of open files",
			a->listener_want, held, k->listeners_max);
	a->listeners = calloc(a->listener_want, sizeof(*a->listeners));
	return a->listeners ? 0 : error_nomem(err);
}

const struct sandbox_listener *net_listeners(const struct attempt *a)
{
	return a->net ? a->net->listeners : a->spec->spec.listeners;
}

void net_serve(struct attempt *a)
{
	if (a->net && is_served(a))
		say_listeners(&a->net->gate, a);
}

void net_attempt_over(struct attempt *a)
{
	struct control_message m = {.type = CONTROL_ATTEMPT_END};

	if (a->listener_count == 0)
		return;
	for (size_t i = 0; i < a->listener_count; i++)
		close_fd(&a->listeners[i]);
	a->listener_count = 0;
	if (!a->net)
		return;
	memcpy(m.attempt, a->id.b, sizeof(m.attempt));
	say(&a->net->gate, &m, -1);
	say(&a->net->courier, &m, -1);
}

void net_forget_attempt(struct attempt *a)
{
	struct net *n = take_ptr(a->net);

	if (n && n->closing)
		net_close(n);
}
