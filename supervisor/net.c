/*
 * The state machine of a run's network, a transition a function. Called by attempts.c before a
 * sandbox starts, by adopt.c after a restart, and by the keeper's answers; all on the loop's
 * thread. What a sandbox is given is made in net_etc.c, what a courier is told in net_tell.c.
 */
#include "supervisor/net.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "supervisor/adopt.h"
#include "supervisor/effects.h"
#include "supervisor/effects_code.h"
#include "supervisor/engine_private.h"
#include "supervisor/net_ca.h"
#include "supervisor/net_etc.h"
#include "supervisor/net_tell.h"
#include "supervisor/runs.h"

enum { DAY_S = 24 * 60 * 60 };

/*
 * What the keeper has of a run's network, and who serves it:
 *
 *   NONE       nothing, as far as we know; it does not last longer than a turn of the loop
 *   OPENING    OPEN was asked
 *   REFUSED    OPEN was refused, for the lock: gate and courier of a keeper that was killed die a
 *              moment after it. Asked again in a moment
 *   ATTACHING  what sandboxes get is made; ATTACH was asked
 *   BROKEN     the channel ended as soon as it was there. ATTACH is asked in a moment, so that a
 *              courier that cannot live is not asked for in a tight circle
 *   OPEN       the channel is effects.c's; attempts may start. Its courier has not said HELLO
 *   HEARD      it has: it was told the settings and every attempt, and is told of more
 *
 *   NONE       -> OPENING
 *   OPENING    -> ATTACHING  the keeper answered with the authority
 *   OPENING    -> REFUSED -> OPENING
 *   ATTACHING  -> OPEN       the keeper answered with the channel
 *   OPEN       -> HEARD
 *   OPEN or HEARD -> ATTACHING, BROKEN  the channel ended: the courier died, and the keeper starts
 *              another
 *   BROKEN     -> ATTACHING
 *   any        -> NONE       the keeper is gone, or is another, which does not know the run
 *
 * What can be opened no more, or was left by its last attempt, is dropped in whatever state it is.
 * An answer that comes in another state than that which asks is of something older: ignored.
 */
enum net_state {
	NET_NONE,
	NET_OPENING,
	NET_REFUSED,
	NET_ATTACHING,
	NET_BROKEN,
	NET_OPEN,
	NET_HEARD,
};

/* Plain reads are in the run's events alone: each is looked at once. */
struct net_reads {
	struct net_spent spent;
	uint64_t next_seq;
};

struct net {
	struct net *next;
	struct journal_id run;
	enum net_state state; /* net_move */
	int refused; /* times that OPEN was, one after the other */
	int64_t attached_ms;
	int64_t idle_since_ms; /* without attempt, in whatever state; 0 = it has one */
	struct net_etc etc; /* from ATTACHING on */
	struct net_reads reads;
};

struct nets {
	struct daemon *daemon;
	struct net *first;
	struct event *again; /* for REFUSED, BROKEN and dying */
	bool dying; /* some courier holds its lock that is nobody's any more */
};

static const enum table_mode modes[] = {[POLICY_REACH_TLS] = TABLE_TLS,
					[POLICY_REACH_HTTP] = TABLE_HTTP,
					[POLICY_REACH_PASSTHROUGH] = TABLE_PASSTHROUGH,
					[POLICY_REACH_TCP] = TABLE_TCP};

bool net_any(const struct daemon *d)
{
	for (const struct net *n = d->nets->first; n; n = n->next)
		if (n->state != NET_NONE)
			return true;
	return false;
}

static struct net *find(const struct daemon *d, const struct journal_id *run)
{
	struct net *n = d->nets->first;

	while (n && !journal_id_equal(&n->run, run))
		n = n->next;
	return n;
}

static int64_t now_ms(void)
{
	return daemon_now().mono_ns / 1000000;
}

void net_id(const struct journal_id *run, struct sandbox_net_id *ret)
{
	_Static_assert(sizeof(ret->b) == sizeof(run->b), "a run has one name");
	memcpy(ret->b, run->b, sizeof(ret->b));
}

/* The one setter of its state. */
static void net_move(struct net *n, enum net_state to)
{
	static const unsigned legal[] = {
		[NET_NONE] = 1U << NET_OPENING,
		[NET_OPENING] = 1U << NET_REFUSED | 1U << NET_ATTACHING | 1U << NET_NONE,
		[NET_REFUSED] = 1U << NET_OPENING | 1U << NET_NONE,
		[NET_ATTACHING] = 1U << NET_OPEN | 1U << NET_NONE,
		[NET_BROKEN] = 1U << NET_ATTACHING | 1U << NET_NONE,
		[NET_OPEN] =
			1U << NET_HEARD | 1U << NET_ATTACHING | 1U << NET_BROKEN | 1U << NET_NONE,
		[NET_HEARD] = 1U << NET_ATTACHING | 1U << NET_BROKEN | 1U << NET_NONE,
	};

	assert(legal[n->state] & 1U << to);
	n->state = to;
}

static bool is_attached(const struct net *n)
{
	return n->state == NET_OPEN || n->state == NET_HEARD;
}

/* In state NONE, and in the list. NULL: out of memory. */
static struct net *make(struct daemon *d, const struct journal_id *run)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->run = *run;
	n->next = d->nets->first;
	d->nets->first = n;
	return n;
}

static void forget_keeper(struct net *n)
{
	net_etc_clear(&n->etc);
	n->refused = 0;
	net_move(n, NET_NONE);
}

static void release(struct net *n)
{
	net_etc_clear(&n->etc);
	free(n);
}

static void drop(struct daemon *d, struct net *n)
{
	for (struct net **p = &d->nets->first; *p; p = &(*p)->next) {
		if (*p == n) {
			*p = n->next;
			break;
		}
	}
	release(n);
}

/* ---- opening ---- */

static int make_table(const struct policy_effective *policy, struct table **ret, struct error *err)
{
	AUTO(table_free) struct table *t = table_new();
	struct policy_tool_info tool;
	struct policy_reach reach;
	int r = t ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && policy_net_at(policy, i, &reach); i++) {
		r = table_add(t, reach.host, reach.port, modes[reach.mode]);
		if (r < 0)
			return error_set_exit(
				err, r, r == -E2BIG ? EXIT_STATUS_LIMIT : EXIT_STATUS_USAGE,
				"the policy's net rules cannot be served: %s port %u: %s",
				reach.host, reach.port,
				r == -E2BIG ? "too many hosts, ports or wildcards; name fewer"
					    : strerror(-r));
	}
	if (r == 0 && policy_tool_at(policy, 0, &tool))
		r = table_add(t, ACTION_TOOLS_HOST, ACTION_TOOLS_PORT, TABLE_HTTP);
	if (r < 0)
		return error_nomem(err);
	*ret = take_ptr(t);
	return 0;
}

static int make_authority(const struct policy_effective *policy, const struct table *t,
			  const struct journal_id *run, struct buffer *out, struct error *err)
{
	struct policy_settings s;
	char name[9];

	policy_settings(policy, &s);
	snprintf(name, sizeof(name), "%02x%02x%02x%02x", run->b[0], run->b[1], run->b[2],
		 run->b[3]);
	/* clocks inside and of other machines that look at it differ; an approval may take its time
	 */
	int64_t now_s = (int64_t)time(NULL);
	int64_t longest_s = (int64_t)((s.decide_by_ms + s.execute_by_ms) / 1000);
	return net_ca_make(t, name, now_s - DAY_S, now_s + longest_s + 31 * DAY_S, out, err);
}

static int ask_open(struct daemon *d, struct net *n, struct error *err)
{
	AUTO(table_free) struct table *t = NULL;
	AUTO_BUFFER table = {0};
	AUTO_BUFFER ca = {0};
	struct sandbox_net net;
	struct runs_context *ctx;
	int r = runs_get(d, &n->run, &ctx, err);

	if (r == 0)
		r = make_table(ctx->policy, &t, err);
	if (r == 0)
		r = table_encode(t, &table);
	if (r == 0)
		r = make_authority(ctx->policy, t, &n->run, &ca, err);
	if (r == 0) {
		net = (struct sandbox_net){.table = buffer_bytes(&table), .ca = buffer_bytes(&ca)};
		net_id(&n->run, &net.run);
		r = adopt_net(d, ADOPT_NET_OPEN, &n->run, &net, err);
	}
	if (ca.data)
		explicit_bzero(ca.data, ca.cap);
	if (r < 0)
		return error_set(err, r, "the run's network cannot be opened: %s", strerror(-r));
	net_move(n, NET_OPENING);
	return 0;
}

static void failed(struct daemon *d, struct net *n, const struct error *err)
{
	struct journal_id run = n->run;

	drop(d, n);
	attempts_again(d, &run, err);
}

static void look_again(struct nets *all)
{
	struct timeval soon = {.tv_usec = NET_AGAIN_MS * 1000};

	event_add(all->again, &soon);
}

static void ask_attach(struct daemon *d, struct net *n)
{
	struct error err = {0};

	net_move(n, NET_ATTACHING);
	if (adopt_net(d, ADOPT_NET_ATTACH, &n->run, NULL, &err) < 0)
		failed(d, n, &err);
}

void net_lend_free(struct net_lend *l)
{
	net_etc_env_free(l->env);
	*l = (struct net_lend){0};
}

/* ---- what was sent, and to whom it is told ---- */

static int spend_read(const struct report_read *read, void *arg)
{
	struct net_spent *s = arg;

	if (!read->denied && read->status != 0) {
		s->requests++;
		s->sent += read->sent;
	}
	return 0;
}

static int spend_event(const struct journal_record *r, struct bytes encoded, void *arg)
{
	struct net_reads *reads = arg;

	(void)encoded;
	reads->next_seq = r->seq + 1;
	/* one that cannot be read counts as nothing; `verify` finds it */
	if (r->type == JOURNAL_EFFECT_READS)
		(void)!effects_code_reads_each(r->p.reads, spend_read, &reads->spent);
	return 0;
}

int net_spent(struct daemon *d, const struct journal_id *id, struct net_spent *ret)
{
	const struct journal_run *run = journal_state_run(d->rows, id);
	struct net *n = find(d, id);
	struct net_reads all = {0};
	struct net_reads *reads = n ? &n->reads : &all;
	int r = journal_each_event(d->journal, id, reads->next_seq, spend_event, reads);

	*ret = reads->spent;
	for (uint32_t i = 0; run && i < run->effect_count; i++) {
		if (run->effects[i]->reserved_ns == 0)
			continue;
		ret->requests++;
		ret->sent += run->effects[i]->sent;
	}
	return r;
}

static int step_policy(struct daemon *d, const struct journal_id *run, const struct plan_step *step,
		       struct policy_effective **ret, struct error *err)
{
	struct runs_context *ctx;
	int r = runs_get(d, run, &ctx, err);

	return r < 0 ? r
		     : policy_effective_step(ctx->policy, step->name, POLICY_AGENCY_UNSET, ret,
					     err);
}

struct hearers {
	struct daemon *d;
	struct net *n;
};

static void tell_one(struct attempt *a, void *arg)
{
	struct hearers *h = arg;
	AUTO(policy_effective_free) struct policy_effective *policy = NULL;
	AUTO(plan_step_free) struct plan_step *step = NULL;
	struct error err = {0};
	int r = attempts_spec(h->d, a, &step);

	if (r == 0)
		r = step_policy(h->d, &a->run, step, &policy, &err);
	if (r == 0)
		r = net_tell_attempt(h->d, a, policy, &h->n->etc.seed, &err);
	if (r < 0)
		daemon_log(h->d, "%s; what it asks for waits",
			   err.msg[0] ? err.msg : "the courier cannot be told of an attempt");
}

static void on_hello(struct daemon *d, const struct journal_id *run)
{
	struct net *n = find(d, run);
	struct hearers h = {d, n};

	if (!n || !is_attached(n))
		return;
	if (n->state == NET_OPEN)
		net_move(n, NET_HEARD);
	if (net_tell_settings(d, run) < 0)
		daemon_log(d, "the courier cannot be told the settings");
	attempts_each_net(d, run, tell_one, &h);
}

static void on_closed(struct daemon *d, const struct journal_id *run)
{
	struct net *n = find(d, run);

	if (!n || !is_attached(n))
		return;
	if (now_ms() - n->attached_ms < NET_AGAIN_MS) {
		net_move(n, NET_BROKEN);
		look_again(d->nets);
	} else {
		ask_attach(d, n);
	}
}

/* ---- attempts ---- */

/* Where it is learnt what a command wants, names are asked for, and refused, one by one. */
static bool needs_net(struct daemon *d, const struct attempt *a,
		      const struct policy_effective *policy)
{
	struct policy_tool_info tool;
	struct policy_reach reach;
	struct runs_context *ctx;

	return policy_net_at(policy, 0, &reach) || policy_tool_at(policy, 0, &tool) ||
	       (runs_get(d, &a->run, &ctx, NULL) == 0 && ctx->settings.learn);
}

int net_take(struct daemon *d, struct attempt *a, const struct plan_step *step,
	     struct net_lend *ret, struct error *err)
{
	AUTO(policy_effective_free) struct policy_effective *policy = NULL;
	struct net *n = find(d, &a->run);
	AUTO_NET_LEND lend = {0};
	int r = step_policy(d, &a->run, step, &policy, err);

	if (r < 0)
		return r;
	if (!needs_net(d, a, policy)) {
		*ret = (struct net_lend){0};
		return 0;
	}
	if (!n) {
		n = make(d, &a->run);
		if (!n)
			return error_nomem(err);
		r = ask_open(d, n, err);
		if (r < 0) {
			drop(d, n);
			return r;
		}
	}
	if (!is_attached(n))
		return NET_WAITS;
	if (n->state == NET_HEARD)
		r = net_tell_attempt(d, a, policy, &n->etc.seed, err);
	if (r == 0)
		r = net_etc_env(&n->etc, policy, &lend.env, err);
	if (r < 0)
		return r;
	a->net = true;
	net_id(&n->run, &lend.id);
	lend.etc = n->etc.files;
	lend.etc_count = n->etc.count;
	*ret = lend;
	lend = (struct net_lend){0};
	return 0;
}

void net_adopt(struct daemon *d, struct attempt *a)
{
	a->net = find(d, &a->run) != NULL;
}

void net_attempt_over(struct daemon *d, const struct attempt *a)
{
	struct net *n = a->net ? find(d, &a->run) : NULL;

	if (!n || n->state != NET_HEARD)
		return;
	if (net_tell_attempt_end(d, a) < 0)
		daemon_log(d, "the courier cannot be told of an attempt's end");
}

/* ---- the keeper ---- */

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	struct nets *all = arg;
	struct daemon *d = all->daemon;
	struct net *next;

	(void)fd;
	(void)what;
	for (struct net *n = all->first; n; n = next) {
		struct error err = {0};

		next = n->next;
		if (n->state == NET_BROKEN)
			ask_attach(d, n);
		else if (n->state == NET_REFUSED && ask_open(d, n, &err) < 0)
			failed(d, n, &err);
	}
	if (all->dying)
		net_settle_lost(d);
	daemon_settle(d);
}

static void on_opened(struct daemon *d, struct net *n, int result, const struct error *err, int fd)
{
	struct error mine = {0};

	if (n->state != NET_OPENING)
		return;
	if (result == -EBUSY && n->refused < NET_AGAIN_MAX) {
		n->refused++;
		net_move(n, NET_REFUSED);
		look_again(d->nets);
		return;
	}
	if (result < 0) {
		failed(d, n, err);
		return;
	}
	n->refused = 0;
	if (net_etc_make(&n->etc, fd, &mine) < 0)
		failed(d, n, &mine);
	else
		ask_attach(d, n);
}

static void on_attached(struct daemon *d, struct net *n, int result, const struct error *err,
			int *fd)
{
	struct error mine = {0};
	struct journal_id run = n->run;

	if (n->state != NET_ATTACHING)
		return;
	if (result == -ENOENT) { /* another keeper: the run's attempts are lost with the old one */
		forget_keeper(n);
		if (ask_open(d, n, &mine) < 0)
			failed(d, n, &mine);
		return;
	}
	if (result < 0) {
		failed(d, n, err);
		return;
	}
	if (effects_attach(d, &n->run, take_fd(fd), &mine) < 0) {
		failed(d, n, &mine);
		return;
	}
	net_move(n, NET_OPEN);
	n->attached_ms = now_ms();
	attempts_again(d, &run, NULL);
}

void net_answered(struct daemon *d, const struct journal_id *run, enum adopt_net_what what,
		  int result, const struct error *err, int fd)
{
	struct net *n = find(d, run);
	AUTO_FD owned = fd;

	switch (what) {
	case ADOPT_NET_OPEN:
		if (n)
			on_opened(d, n, result, err, owned);
		return;
	case ADOPT_NET_ATTACH:
		if (n)
			on_attached(d, n, result, err, &owned);
		return;
	case ADOPT_NET_CLOSE:
		return;
	}
}

static bool is_over(const struct daemon *d, const struct journal_id *id)
{
	const struct journal_run *run = journal_state_run(d->rows, id);

	return !run || journal_run_final(run->state);
}

static void close_net(struct daemon *d, const struct journal_id *run)
{
	if (adopt_net(d, ADOPT_NET_CLOSE, run, NULL, NULL) < 0)
		daemon_log(d, "the keeper cannot be asked to close a network");
}

void net_found(struct daemon *d, const struct sandbox_hello *h)
{
	/* The keeper that had them is gone, or never heard of them: who waits asks the next one. */
	for (struct net *n = d->nets->first; n; n = n->next)
		forget_keeper(n);
	for (size_t i = 0; h && i < h->net_count; i++) {
		struct error err = {0};
		struct journal_id run;

		memcpy(run.b, h->nets[i].b, sizeof(run.b));
		if (is_over(d, &run)) {
			close_net(d, &run);
			continue;
		}
		struct net *n = find(d, &run);
		if (!n)
			n = make(d, &run);
		if (!n)
			abort(); /* recovery starts over */
		if (n->state != NET_NONE)
			continue; /* named twice */
		if (ask_open(d, n, &err) < 0) {
			daemon_log(d, "%s", err.msg);
			drop(d, n);
		}
	}
	for (struct net *n = d->nets->first, *next; n; n = next) {
		next = n->next;
		struct journal_id run = n->run;
		if (n->state != NET_NONE)
			continue;
		drop(d, n);
		attempts_again(d, &run, NULL);
	}
}

static int settle_lost(const struct journal_run *run, void *arg)
{
	struct daemon *d = arg;
	struct sandbox_net_id id;

	if (find(d, &run->id))
		return 0;
	net_id(&run->id, &id);
	if (sandbox_net_lives(d->spool_fd, &id) == 0)
		effects_lost(d, &run->id);
	else
		d->nets->dying = true;
	return 0;
}

/* Locks of keepers that were killed: nobody else takes them away. */
static void sweep_locks(struct daemon *d)
{
	int fd = openat(d->spool_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR dir = fd < 0 ? NULL : fdopendir(fd);
	char name[SANDBOX_SPOOL_NAME_SIZE];

	if (!dir && fd >= 0)
		close(fd);
	for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
		struct sandbox_net_id id = {0};
		struct journal_id run;

		if (strlen(e->d_name) != 2 * sizeof(id.b) + 2)
			continue;
		for (size_t i = 0; i < sizeof(id.b); i++)
			if (sscanf(e->d_name + 2 * i, "%2hhx", &id.b[i]) != 1)
				break;
		if (strcmp(sandbox_net_lock_name(&id, name), e->d_name) != 0)
			continue;
		memcpy(run.b, id.b, sizeof(run.b));
		if (!find(d, &run) && sandbox_net_lives(d->spool_fd, &id) == 0)
			(void)unlinkat(d->spool_fd, name, 0);
	}
}

void net_settle_lost(struct daemon *d)
{
	d->nets->dying = false;
	(void)!journal_state_each_run(d->rows, settle_lost, d);
	if (d->nets->dying)
		look_again(d->nets);
	else
		sweep_locks(d);
}

static bool is_sending(const struct daemon *d, const struct journal_id *id)
{
	const struct journal_run *run = journal_state_run(d->rows, id);

	for (uint32_t i = 0; run && i < run->open_count; i++)
		if (run->open[i]->state == JOURNAL_EFFECT_S_RESERVED)
			return true;
	return false;
}

void net_collect(struct daemon *d)
{
	int64_t now = now_ms();
	struct net *next;

	for (struct net *n = d->nets->first; n; n = next) {
		next = n->next;
		if (attempts_of_run(d, &n->run) || is_sending(d, &n->run)) {
			n->idle_since_ms = 0;
			continue;
		}
		if (n->idle_since_ms == 0)
			n->idle_since_ms = now;
		if (!is_over(d, &n->run) && now - n->idle_since_ms < NET_LINGER_MS)
			continue;
		close_net(d, &n->run);
		drop(d, n);
	}
}

int net_new(struct daemon *d, struct nets **ret)
{
	static const struct effects_hooks hooks = {.hello = on_hello,
						   .drained = attempts_drained,
						   .closed = on_closed};
	struct nets *all = calloc(1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	all->daemon = d;
	all->again = event_new(d->loop, -1, 0, on_again, all);
	if (!all->again) {
		free(all);
		return -ENOMEM;
	}
	effects_hook(d, &hooks);
	*ret = all;
	return 0;
}

void net_free(struct nets *all)
{
	if (!all)
		return;
	event_free(all->again);
	while (all->first) {
		struct net *n = all->first;

		all->first = n->next;
		release(n);
	}
	free(all);
}
