/*
 * An audit's way: begun on the loop at its turn, when nothing else is aside; worked at on the
 * thread, which sees its view of the journal alone; settled on the loop, and for gc that over again.
 */
#include "supervisor/audits.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "supervisor/api/streams.h"
#include "supervisor/api/views.h"
#include "supervisor/aside.h"
#include "supervisor/garbage.h"

enum { PROBLEMS_MAX = 200 };

struct audit {
	struct aside_job job; /* the first */
	struct audits *owner;
	struct audit *next; /* in the list of owner */
	struct audits_request q; /* ticket 0 also: it was answered */
	bool stopped;
	struct journal_view *view; /* owned; of all but GC, once begun */
	struct journal_gc *gc; /* owned; of GC, once begun */
	/* The thread's while it works. */
	int fd; /* owned; EXPORT: what was exported */
	json_t *findings; /* owned; GC_LIST: runs */
	struct journal_report report;
	int result;
	struct error err;
};

struct audits {
	struct audit *list;
	size_t count; /* of list */
};

int audits_new(struct audits **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

void audits_free(struct audits *a)
{
	free(a);
}

static void release(struct audit *a)
{
	journal_view_free(a->view);
	journal_gc_end(a->gc, NULL);
	json_decref(a->findings);
	close_fd(&a->fd);
	free(a);
}

static void unlink_audit(struct audit *a)
{
	struct audit **at = &a->owner->list;

	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	a->owner->count--;
}

static void drop(struct aside_job *job)
{
	struct audit *a = (struct audit *)job;

	unlink_audit(a);
	release(a);
}

/* ---- on the thread ---- */

static void add_finding(const char *line, void *arg)
{
	if (json_array_size(arg) < PROBLEMS_MAX)
		json_array_append_new(arg, api_json_text(bytes_str(line)));
}

static void add_dropping(const struct journal_run *run, void *arg)
{
	json_array_append_new(arg, views_dropping(run));
}

/* What is under way ends first. */
static void wait_turn(struct aside_job *job)
{
	(void)job;
}

static void work(struct aside_job *job)
{
	struct audit *a = (struct audit *)job;
	int r = failpoint_hit("audits.work");

	if (r == 0) {
		switch (a->q.kind) {
		case AUDITS_VERIFY:
			r = journal_view_verify(a->view, add_finding, a->findings, &a->report,
						&a->err);
			break;
		case AUDITS_FSCK:
			r = journal_view_fsck(a->view, add_finding, a->findings, &a->report,
					      &a->err);
			break;
		case AUDITS_EXPORT:
			r = journal_view_export(a->view, a->q.one_run ? &a->q.run : NULL, a->fd,
						&a->err);
			break;
		case AUDITS_GC_LIST:
			r = journal_view_gc_each(a->view, a->q.before_ns, add_dropping, a->findings,
						 &a->err);
			break;
		case AUDITS_GC:
			journal_gc_work(a->gc);
			break;
		}
	}
	a->result = r;
}

/* ---- on the loop ---- */

static void answer_whole(const struct audit *a, struct api_answer *ret)
{
	const struct journal_report *r = &a->report;

	ret->status = 200;
	if (a->q.kind == AUDITS_GC_LIST) {
		ret->json = json_pack("{s:i, s:O}", "version", SUPERVISOR_API_VERSION, "would_drop",
				      a->findings);
		return;
	}
	ret->json = json_pack("{s:i, s:I, s:I, s:I, s:I, s:O}", "version", SUPERVISOR_API_VERSION,
			      "events", (json_int_t)r->events, "runs", (json_int_t)r->runs, "blobs",
			      (json_int_t)r->blobs, "problems", (json_int_t)r->problems, "findings",
			      a->findings);
	if (a->q.kind == AUDITS_GC)
		json_object_set_new(ret->json, "freed", json_integer((json_int_t)r->freed));
}

static int answer_exported(struct audit *a, struct api_answer *ret)
{
	if (lseek(a->fd, 0, SEEK_SET) < 0)
		return -errno;
	ret->status = 200;
	ret->type = "application/cbor-seq";
	ret->stream = streams_fd(take_fd(&a->fd));
	return ret->stream ? 0 : -ENOMEM;
}

static void answer(struct daemon *d, struct audit *a, int r)
{
	struct api_answer out = {.fd = -1};

	if (r == 0 && a->q.kind == AUDITS_EXPORT)
		r = answer_exported(a, &out);
	else if (r == 0)
		answer_whole(a, &out);
	if (r < 0) {
		error_set(&a->err, r, "the journal cannot be looked at: %s", strerror(-r));
		api_answer_error(&out, 0, &a->err);
	}
	api_server_answer(d->api, a->q.ticket, &out);
	a->q.ticket = 0;
}

static void settle_retention(struct daemon *d, const struct audit *a, int r)
{
	daemon_retained(d, r == 0);
	if (r < 0)
		daemon_log(d, "retention: %s", a->err.msg[0] ? a->err.msg : strerror(-r));
	else if (a->report.runs > 0)
		daemon_log(d, "retention: %llu runs that ended long enough ago were dropped",
			   (unsigned long long)a->report.runs);
}

static void finish(struct daemon *d, struct audit *a, int r)
{
	journal_view_free(a->view);
	a->view = NULL;
	if (a->gc)
		journal_gc_end(a->gc, &a->report);
	a->gc = NULL;
	if (r == 0 && a->q.kind == AUDITS_GC)
		garbage_collect(d);
	if (a->q.ticket)
		answer(d, a, r);
	else if (!a->stopped)
		settle_retention(d, a, r);
	unlink_audit(a);
	release(a);
}

static void settle(struct daemon *d, struct aside_job *job)
{
	struct audit *a = (struct audit *)job;
	int r = a->result;

	if (r == 0 && a->gc) {
		engine_forget_settled(d->engine);
		r = journal_gc_settle(a->gc, &a->err);
	}
	if (r == 1)
		aside_again(d, job);
	else
		finish(d, a, r);
}

static int begin_gc(struct daemon *d, struct audit *a)
{
	if (!engine_forget_plans(d->engine))
		return error_set_exit(&a->err, -EBUSY, EXIT_STATUS_CONFLICT,
				      "gc: a landing is about to be shown to a person, and no "
				      "record names its plan yet; try again in a moment");
	if (d->votes_verifying > 0)
		return error_set_exit(&a->err, -EBUSY, EXIT_STATUS_CONFLICT,
				      "gc: the signature of a vote is being looked at, and no "
				      "record names what was signed yet; try again in a moment");
	return journal_gc_begin(d->journal, a->q.before_ns, daemon_holds, d, &a->gc, &a->err);
}

/* A journal may be larger than memory: what is exported goes to the spool's disk, under no name, as
 * far as the journal's reserve allows. */
static int make_export(const struct daemon *d, struct error *err)
{
	int fd = openat(d->spool_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd < 0 ? error_set(err, -errno, "cannot make an export: %s", strerror(errno)) : fd;
}

/* At its turn: what is looked at is all that there is by then. */
static void begin(struct daemon *d, struct aside_job *job)
{
	struct audit *a = (struct audit *)job;
	int r = a->stopped ? -ECANCELED : 0;

	if (r == 0 && a->q.kind == AUDITS_GC)
		r = begin_gc(d, a);
	else if (r == 0)
		r = journal_view_new(d->journal, &a->view, &a->err);
	if (r == 0 && a->q.kind == AUDITS_EXPORT) {
		a->fd = make_export(d, &a->err);
		r = a->fd < 0 ? a->fd : 0;
	}
	if (r < 0) {
		finish(d, a, r);
		return;
	}
	job->work = work;
	job->done = settle;
	aside_again(d, job);
}

int audits_start(struct daemon *d, const struct audits_request *q, struct error *err)
{
	struct audit *a;

	if (d->audits->count >= AUDITS_MAX)
		return error_set_exit(err, -EAGAIN, EXIT_STATUS_LIMIT,
				      "audit: %d of the journal are under way or wait already; "
				      "try again when some are done",
				      AUDITS_MAX);
	a = calloc(1, sizeof(*a));
	if (!a)
		return error_nomem(err);
	*a = (struct audit){.job = {.work = wait_turn, .done = begin, .drop = drop},
			    .owner = d->audits,
			    .q = *q,
			    .fd = -1};
	a->findings = json_array();
	if (!a->findings) {
		release(a);
		return error_nomem(err);
	}
	a->next = d->audits->list;
	d->audits->list = a;
	d->audits->count++;
	aside_start(d, &a->job);
	return 0;
}

static void stop(struct audit *a)
{
	a->stopped = true;
	if (a->view)
		journal_view_stop(a->view);
	if (a->gc)
		journal_gc_stop(a->gc);
}

static const char *kind_name(const struct audit *a)
{
	static const char *const names[] = {[AUDITS_VERIFY] = "verify",
					    [AUDITS_FSCK] = "fsck",
					    [AUDITS_EXPORT] = "export",
					    [AUDITS_GC_LIST] = "the list of gc",
					    [AUDITS_GC] = "gc"};

	return names[a->q.kind];
}

void audits_look(struct daemon *d)
{
	for (struct audit *a = d->audits->list; a; a = a->next) {
		if (a->stopped || !a->q.ticket || api_server_waits(d->api, a->q.ticket))
			continue;
		daemon_log(d, "%s ends: the client that asked for it is gone", kind_name(a));
		stop(a);
	}
}

void audits_stop(struct daemon *d)
{
	for (struct audit *a = d->audits->list; a; a = a->next) {
		struct api_answer out = {.fd = -1};
		struct error err = {0};

		stop(a);
		if (!a->q.ticket)
			continue;
		error_set(&err, -ECANCELED,
			  "the journal was not looked through: the supervisor ends; try again");
		api_answer_error(&out, 503, &err);
		api_server_answer(d->api, a->q.ticket, &out);
		a->q.ticket = 0;
	}
}
