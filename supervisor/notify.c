#include "supervisor/notify.h"

#include <string.h>

#include "base/io.h"
#include "base/utf8.h"
#include "supervisor/jobs.h"
#include "supervisor/runs.h"
#include "supervisor/settings.h"

enum { CARD_MAX = 64 * 1024, ARGS_MAX = 66 };

struct telling {
	struct telling *next;
	struct daemon *d;
	struct journal_id approval, run;
	enum journal_told what;
	int tries;
	int64_t due_ms; /* not before; boot time */
	bool running;
};

struct notify {
	struct telling *first, **end;
	size_t waiting, running;
	struct event *turn, *late;
	int64_t expiring_ns; /* when the next item expires soon; 0 = none is known */
};

static void on_turn(evutil_socket_t fd, short what, void *arg);
static void on_late(evutil_socket_t fd, short what, void *arg);

int notify_new(struct daemon *d, struct notify **ret)
{
	struct notify *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->end = &n->first;
	n->turn = event_new(d->loop, -1, 0, on_turn, d);
	n->late = event_new(d->loop, -1, 0, on_late, d);
	if (!n->turn || !n->late) {
		if (n->turn)
			event_free(n->turn);
		free(n);
		return -ENOMEM;
	}
	*ret = n;
	return 0;
}

void notify_free(struct notify *n)
{
	if (!n)
		return;
	while (n->first) {
		struct telling *t = n->first;

		n->first = t->next;
		free(t);
	}
	event_free(n->turn);
	event_free(n->late);
	free(n);
}

static int64_t now_ms(void)
{
	return daemon_now().mono_ns / 1000000;
}

static void soon(struct daemon *d, int64_t ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	event_add(d->notify->turn, &tv);
}

static bool waits(const struct notify *n, const struct journal_id *approval, enum journal_told what)
{
	for (const struct telling *t = n->first; t; t = t->next)
		if (t->what == what && journal_id_equal(&t->approval, approval))
			return true;
	return false;
}

static void add(struct daemon *d, const struct journal_id *approval, const struct journal_id *run,
		enum journal_told what)
{
	struct notify *n = d->notify;
	struct telling *t;

	if (n->waiting >= NOTIFY_WAITING_MAX)
		return;
	t = calloc(1, sizeof(*t));
	if (!t)
		return; /* the next supervisor tells it */
	*t = (struct telling){.d = d, .approval = *approval, .run = *run, .what = what};
	*n->end = t;
	n->end = &t->next;
	n->waiting++;
	soon(d, 0);
}

static void drop(struct notify *n, struct telling *t)
{
	struct telling **at = &n->first;

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	if (n->end == &t->next)
		n->end = at;
	n->waiting--;
	free(t);
}

/* ---- what is said, and to whom ---- */

struct told_by { /* borrowed */
	const char *const *run;
	size_t count;
	unsigned on; /* bits of enum journal_told */
};

static bool find_command(struct daemon *d, const struct runs_context *ctx, struct told_by *ret)
{
	struct policy_settings s;

	policy_settings(ctx->policy, &s);
	if (s.notify_run_count > 0) {
		*ret = (struct told_by){s.notify_run, s.notify_run_count,
					(s.notify_opened ? JOURNAL_TOLD_OPENED : 0u) |
						(s.notify_expiring ? JOURNAL_TOLD_EXPIRING : 0u) |
						(s.notify_decided ? JOURNAL_TOLD_DECIDED : 0u)};
		return true;
	}
	if (!d->settings->notify_run)
		return false;
	*ret = (struct told_by){.run = (const char *const *)d->settings->notify_run};
	while (ret->run[ret->count])
		ret->count++;
	ret->on = (d->settings->notify_on & SETTINGS_ON_OPENED ? JOURNAL_TOLD_OPENED : 0u) |
		  (d->settings->notify_on & SETTINGS_ON_EXPIRING ? JOURNAL_TOLD_EXPIRING : 0u) |
		  (d->settings->notify_on & SETTINGS_ON_DECIDED ? JOURNAL_TOLD_DECIDED : 0u);
	return ret->count > 0;
}

static const char *word_of(enum journal_told what, enum journal_approval_state state)
{
	if (what == JOURNAL_TOLD_OPENED)
		return "opened";
	if (what == JOURNAL_TOLD_EXPIRING)
		return "expiring";
	switch (state) {
	case JOURNAL_APPROVAL_S_APPROVED:
	case JOURNAL_APPROVAL_S_CONSUMED:
		return "approved";
	case JOURNAL_APPROVAL_S_DENIED:
		return "denied";
	case JOURNAL_APPROVAL_S_EXPIRED:
		return "expired";
	case JOURNAL_APPROVAL_S_SUPERSEDED:
		return "superseded";
	case JOURNAL_APPROVAL_S_LAPSED:
		return "lapsed";
	case JOURNAL_APPROVAL_S_OPEN:
	case JOURNAL_APPROVAL_S_WITHDRAWN:
	case JOURNAL_APPROVAL_S_REVOKED:
	case JOURNAL_APPROVAL_S_COUNT:
		break;
	}
	return "withdrawn";
}

static const struct journal_approval *item_of(struct daemon *d, const struct telling *t)
{
	const struct journal_approval *a = journal_state_approval(d->rows, &t->approval);

	if (!a && journal_load_run(d->journal, &t->run, NULL) == 0)
		a = journal_state_approval(d->rows, &t->approval);
	return a;
}

static void record(struct daemon *d, const struct telling *t, const char *why)
{
	const struct journal_approval *a = item_of(d, t);
	struct journal_record r = {.run = t->run, .type = JOURNAL_APPROVAL_TOLD};

	if (!a) /* its run was collected meanwhile */
		return;
	r.step = a->step;
	JOURNAL_SET(&r.p, approval, t->approval);
	JOURNAL_SET(&r.p, told, t->what);
	if (why)
		JOURNAL_SET(&r.p, why, bytes_str(why));
	journal_append(d->journal, &r, NULL);
}

/* ---- telling ---- */

static void failed(struct daemon *d, struct telling *t, const char *why)
{
	char id[JOURNAL_ID_TEXT_SIZE];

	if (++t->tries < NOTIFY_TRIES) {
		t->due_ms = now_ms() + NOTIFY_AGAIN_MS;
		return;
	}
	daemon_log(d, "notify: nobody was told of item %.8s: %s", journal_id_text(&t->approval, id),
		   why);
	record(d, t, why);
	drop(d->notify, t);
}

static void on_told(struct daemon *d, void *arg, const struct jobs_result *r)
{
	struct telling *t = arg;
	char why[160];

	t->running = false;
	d->notify->running--;
	if (jobs_succeeded(r)) {
		record(d, t, NULL);
		drop(d->notify, t);
	} else if (r->not_started) {
		failed(d, t, r->not_started);
	} else {
		AUTO_FREE char *said = bytes_dup_str(r->err);

		utf8_printf(why, sizeof(why), "the command of notify failed (status %d)%s%s",
			    r->exit->status, said && *said ? ": " : "", said ? said : "");
		failed(d, t, why);
	}
	soon(d, 0);
}

static int start(struct daemon *d, struct telling *t, const struct journal_approval *a,
		 struct runs_context *ctx, const struct told_by *by, struct error *err)
{
	char id[JOURNAL_ID_TEXT_SIZE];
	char *argv[ARGS_MAX + 3];
	AUTO_BUFFER card = {0};
	AUTO_FD in = -1;
	size_t n = 0;
	int r = journal_blob_get(d->journal, &a->card, CARD_MAX, &card, err);

	if (r < 0 || by->count > ARGS_MAX)
		return r < 0 ? r : error_set(err, -E2BIG, "notify: too many arguments");
	in = io_memfd_sealed("card", buffer_bytes(&card), false);
	if (in < 0)
		return error_set(err, in, "notify: %s", strerror(-in));
	while (n < by->count) {
		argv[n] = (char *)by->run[n];
		n++;
	}
	argv[n++] = (char *)word_of(t->what, a->state);
	argv[n++] = journal_id_text(&a->id, id);
	argv[n] = NULL;
	return jobs_start(d,
			  &(struct jobs_spec){.run = journal_state_run(d->rows, &a->run),
					      .ctx = ctx,
					      .name = "notify",
					      .argv = argv,
					      .stdin_fd = in,
					      .timeout_ms = NOTIFY_TIMEOUT_MS,
					      .done = on_told,
					      .arg = t},
			  err);
}

/* False: it is over, t is gone. */
static bool take_turn(struct daemon *d, struct telling *t)
{
	const struct journal_approval *a = item_of(d, t);
	struct runs_context *ctx;
	struct error err = {0};
	struct told_by by;

	if (!a || runs_get(d, &a->run, &ctx, NULL) < 0 || !find_command(d, ctx, &by) ||
	    !(by.on & t->what) || (a->told & t->what)) {
		drop(d->notify, t);
		return false;
	}
	if (start(d, t, a, ctx, &by, &err) < 0) {
		bool last = t->tries + 1 == NOTIFY_TRIES;

		failed(d, t, err.msg);
		return !last;
	}
	t->running = true;
	d->notify->running++;
	return true;
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	struct notify *n = d->notify;
	int64_t now = now_ms(), next = 0;
	struct telling *t, *after;

	(void)fd;
	(void)what;
	for (t = n->first; t && n->running < NOTIFY_AT_ONCE_MAX; t = after) {
		after = t->next;
		if (t->running)
			continue;
		if (t->due_ms > now || (take_turn(d, t) && !t->running))
			next = NOTIFY_AGAIN_MS;
	}
	if (next)
		soon(d, next);
	daemon_settle(d);
}

/* ---- what there is to tell ---- */

/* When people are told that it expires; 0 = it does not. */
static int64_t expiring_at(int64_t opened_ns, int64_t decide_by_ns)
{
	int64_t before = (decide_by_ns - opened_ns) / 10;

	if (!decide_by_ns)
		return 0;
	if (before > NOTIFY_EXPIRING_MAX_S * 1000000000ll)
		before = NOTIFY_EXPIRING_MAX_S * 1000000000ll;
	return decide_by_ns - before;
}

static void expect(struct notify *n, int64_t at_ns)
{
	if (at_ns && (!n->expiring_ns || at_ns < n->expiring_ns))
		n->expiring_ns = at_ns;
}

void notify_record(struct daemon *d, const struct journal_record *r)
{
	if (!d->notify || !d->recovered)
		return;
	switch (r->type) {
	case JOURNAL_APPROVAL_OPENED:
		add(d, &r->p.approval, &r->run, JOURNAL_TOLD_OPENED);
		expect(d->notify, expiring_at(r->wall_ns, r->p.decide_by_ns));
		break;
	case JOURNAL_APPROVAL_APPROVED:
	case JOURNAL_APPROVAL_DENIED:
	case JOURNAL_APPROVAL_EXPIRED:
	case JOURNAL_APPROVAL_WITHDRAWN:
	case JOURNAL_APPROVAL_SUPERSEDED:
		add(d, &r->p.approval, &r->run, JOURNAL_TOLD_DECIDED);
		break;
	default:
		break;
	}
}

struct looking {
	struct daemon *d;
	const struct journal_id *run; /* NULL: all */
};

/* Of items that nothing is waiting for yet. */
static int look(const struct journal_approval *a, void *arg)
{
	const struct looking *l = arg;
	enum journal_told what =
		a->state == JOURNAL_APPROVAL_S_OPEN ? JOURNAL_TOLD_OPENED : JOURNAL_TOLD_DECIDED;

	if (!(a->told & what) && (!l->run || journal_id_equal(l->run, &a->run)))
		add(l->d, &a->id, &a->run, what);
	return 0;
}

/* A run that ended in the instant before the supervisor did; not while clients wait for the start.
 */
static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct journal_id ids[NOTIFY_LOOK_BACK];
	struct daemon *d = arg;
	int n = journal_list_runs(d->journal, NOTIFY_LOOK_BACK, ids);

	(void)fd;
	(void)what;
	for (int i = 0; i < n; i++)
		if (!journal_state_run(d->rows, &ids[i]) &&
		    journal_load_run(d->journal, &ids[i], NULL) == 0)
			(void)!journal_state_each_approval(d->rows, look,
							   &(struct looking){d, &ids[i]});
}

void notify_recover(struct daemon *d)
{
	struct timeval tv = {.tv_sec = NOTIFY_LATE_MS / 1000,
			     .tv_usec = NOTIFY_LATE_MS % 1000 * 1000};

	(void)!journal_state_each_approval(d->rows, look, &(struct looking){.d = d});
	notify_tick(d);
	event_add(d->notify->late, &tv);
}

static int look_expiring(const struct journal_approval *a, void *arg)
{
	struct daemon *d = arg;
	int64_t at = expiring_at(a->opened_ns, a->decide_by_ns);

	if (a->state != JOURNAL_APPROVAL_S_OPEN || !at || (a->told & JOURNAL_TOLD_EXPIRING) ||
	    waits(d->notify, &a->id, JOURNAL_TOLD_EXPIRING))
		return 0;
	if (daemon_now().wall_ns >= at)
		add(d, &a->id, &a->run, JOURNAL_TOLD_EXPIRING);
	else
		expect(d->notify, at);
	return 0;
}

void notify_tick(struct daemon *d)
{
	if (d->notify->expiring_ns && daemon_now().wall_ns < d->notify->expiring_ns)
		return;
	d->notify->expiring_ns = 0;
	(void)!journal_state_each_approval(d->rows, look_expiring, d);
}

int64_t notify_due_ns(const struct daemon *d)
{
	return d->notify->expiring_ns;
}

bool notify_busy(const struct daemon *d)
{
	return d->notify->waiting > 0;
}
