/* How attempts end: what each kind of them makes of what the keeper says. */
#include "supervisor/attempts.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/cbor.h"
#include "base/escape.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/utf8.h"
#include "supervisor/adopt.h"
#include "supervisor/diffs.h"
#include "supervisor/engine_private.h"
#include "supervisor/results.h"

/* ---- a step ---- */

/* kept: what the keeper says it has kept; a shorter spool is not whole. */
static int keep_stream(struct daemon *d, const struct attempt *a, enum sandbox_spool_kind kind,
		       uint64_t kept, struct digest *ret, struct error *err)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];
	AUTO_FD fd = openat(d->spool_fd, sandbox_spool_name(&a->id, kind, name),
			    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st = {0};
	uint64_t size;

	*ret = (struct digest){0};
	if (fd < 0 && (errno != ENOENT || kept > 0))
		return error_set(err, -errno, "%s", strerror(errno));
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < kept)
		return error_set(err, -EIO, "its spool is shorter than what was written into it");
	if (st.st_size == 0)
		return 0;
	return journal_blob_put_fd(d->journal, fd, JOURNAL_BLOB_MAX, ret, &size, err);
}

/* Both streams as far as they are there, and an error if they are not whole but for the cut at
 * limits.output. */
static int keep_output(struct daemon *d, const struct attempt *a, struct engine_ended *r,
		       struct error *err)
{
	const struct sandbox_exit *x = &a->exit;
	struct error first = {0}, second = {0};
	int e = keep_stream(d, a, SANDBOX_SPOOL_STDOUT, x->stdout_bytes - x->stdout_dropped,
			    &r->out, &first);
	int e2 = keep_stream(d, a, SANDBOX_SPOOL_STDERR, x->stderr_bytes - x->stderr_dropped,
			     &r->err, &second);

	if (e == 0 && e2 < 0) {
		e = e2;
		first = second;
	}
	if (e == 0 && x->spool_error < 0)
		e = error_set(&first, x->spool_error, "%s", strerror(-x->spool_error));
	if (e == 0)
		return 0;
	return error_set_exit(err, e, first.exit_status, "its output could not be kept: %.160s%s",
			      first.msg, e == -ENOSPC || e == -EDQUOT ? "; free some space" : "");
}

static void encode_denied(const struct sandbox_exit *e, struct buffer *out)
{
	struct cbor_map_mark m;
	bool used[SANDBOX_DENIED_MAX] = {false};

	if (e->denied_count == 0 && e->denied_more == 0)
		return;
	m = cbor_w_map_begin(out);
	for (size_t n = 0; n < e->denied_count; n++) {
		size_t least = SANDBOX_DENIED_MAX;

		for (size_t i = 0; i < e->denied_count; i++)
			if (!used[i] && (least == SANDBOX_DENIED_MAX ||
					 e->denied[i].number < e->denied[least].number))
				least = i;
		used[least] = true;
		cbor_w_key(out, &m, (uint32_t)e->denied[least].number);
		cbor_w_uint(out, e->denied[least].count);
	}
	if (e->denied_more > 0) { /* all that the table has no room for */
		cbor_w_key(out, &m, UINT32_MAX);
		cbor_w_uint(out, e->denied_more);
	}
	cbor_w_map_end(out, &m);
}

static void judge(const struct sandbox_exit *e, struct engine_ended *r)
{
	switch (e->why) {
	case SANDBOX_WHY_EXITED:
		r->state = JOURNAL_ATTEMPT_S_EXITED;
		break;
	case SANDBOX_WHY_TIMED_OUT:
		r->state = JOURNAL_ATTEMPT_S_TIMED_OUT;
		r->why = "limit: wall";
		break;
	case SANDBOX_WHY_OOM:
		r->state = JOURNAL_ATTEMPT_S_OOM;
		r->why = "limit: memory";
		break;
	case SANDBOX_WHY_KILLED:
		r->state = JOURNAL_ATTEMPT_S_KILLED;
		r->why = "cancelled";
		break;
	case SANDBOX_WHY_LIMIT:
		r->state = JOURNAL_ATTEMPT_S_KILLED;
		break;
	case SANDBOX_WHY_LOST:
		r->state = JOURNAL_ATTEMPT_S_LOST;
		r->why = "its first process was killed from outside";
		break;
	}
	r->exit_code = e->status >= 0 ? (uint32_t)e->status : 0;
	r->signal = e->signal > 0 ? (uint32_t)e->signal : 0;
	r->out_size = e->stdout_bytes;
	r->err_size = e->stderr_bytes;
	r->cpu_us = e->usage.cpu_us;
	r->memory_peak = e->usage.memory_peak_bytes;
	r->wall_us = e->usage.wall_us;
	r->weaker = e->weaker;
}

static void settle_measured(struct daemon *d, struct attempt *a, int out_fd)
{
	struct engine_ended r = {0};
	AUTO_BUFFER denied = {0};
	struct error err = {0};
	char limit[40], filled[ERROR_MSG_MAX];
	int e;

	judge(&a->exit, &r);
	if (a->exit.why == SANDBOX_WHY_LIMIT) {
		snprintf(limit, sizeof(limit), "limit: %.15s", a->exit.limit);
		r.why = limit;
	}
	e = keep_output(d, a, &r, &err);
	if (e == 0 && r.state == JOURNAL_ATTEMPT_S_EXITED && out_fd >= 0)
		e = results_keep(d->journal, out_fd, &r.results, &err);
	if (e < 0 && r.state == JOURNAL_ATTEMPT_S_EXITED) {
		/* A result that is not whole is no result: what it did is thrown away. */
		r.state = err.exit_status == EXIT_STATUS_LIMIT ? JOURNAL_ATTEMPT_S_KILLED
							       : JOURNAL_ATTEMPT_S_LOST;
		r.why = err.msg;
		if (e == -ENOSPC && attempts_filled(d, &a->attempt, filled, sizeof(filled))) {
			r.state = JOURNAL_ATTEMPT_S_KILLED;
			r.why = filled;
		}
	}
	encode_denied(&a->exit, &denied);
	r.denied = buffer_bytes(&denied);
	if (failpoint_hit("attempts.ended") < 0)
		return;
	e = engine_attempt_ended(d->engine, daemon_now(), &a->attempt, &r);
	daemon_check(d, e, "ended");
	if (e == -ESTALE) { /* the journal has another end for it, so no FORGET_ATTEMPT comes */
		adopt_forget(d, &a->id);
		attempts_drop(d, a);
	}
}

const char *attempts_filled(const struct daemon *d, const struct journal_id *attempt, char *buf,
			    size_t size)
{
	struct sandbox_attempt_id id;
	const struct attempt *a;

	attempts_id(attempt, &id);
	a = attempts_find(d, &id);
	if (!a || a->filled == 0)
		return NULL;
	snprintf(buf, size,
		 "limit: it filled the disk of %.*s: %llu MiB of it are its own; free some space, "
		 "or bound it by 'disk' and 'output' of the policy's limits",
		 UTF8_SHORT(d->paths.state, 100), (unsigned long long)(a->filled >> 20));
	return buf;
}

static void measured(struct daemon *d, struct attempt *a, const struct sealer_reply *layer)
{
	AUTO_FD out = take_fd(&a->measure_fd); /* a is gone behind settle_measured */
	const struct sandbox_exit *x = &a->exit;
	uint64_t own = x->stdout_bytes - x->stdout_dropped + x->stderr_bytes - x->stderr_dropped;

	a->measure = MEASURE_DONE;
	if (layer && layer->result == 0)
		own += layer->bytes;
	if (journal_space_low(d->journal) && !journal_space_low_without(d->journal, own))
		a->filled = own;
	settle_measured(d, a, out);
}

static void on_measured(struct daemon *d, struct adopt_request *q, const struct sandbox_event *e)
{
	struct sandbox_attempt_id id;
	struct attempt *a;

	attempts_id(&q->attempt, &id);
	a = attempts_find(d, &id);
	if (a && a->measure == MEASURE_ASKED)
		measured(d, a, e->type == SANDBOX_EVENT_LAYER ? &e->layer : NULL);
}

/* Its keeper lives on, and tells no more of it: what it filled is not known. */
static void measure_lost(struct daemon *d, struct adopt_request *q)
{
	struct sandbox_attempt_id id;
	struct attempt *a;

	attempts_id(&q->attempt, &id);
	a = attempts_find(d, &id);
	if (a && a->measure == MEASURE_ASKED)
		measured(d, a, NULL);
}

/* Its end on a full disk is its own doing if the disk would not be full without its files: then it
 * would fill it again. Else it is nobody's fault, and it runs again when there is room. */
static bool measure(struct daemon *d, struct attempt *a, int out_fd)
{
	static const struct adopt_kind kind = {.answered = on_measured, .lost = measure_lost};
	struct sealer_request q = {.op = SEALER_USAGE, .name_count = 1};
	struct adopt_request asked = {.kind = &kind, .run = a->run, .attempt = a->attempt};
	const struct journal_run *run = journal_state_run(d->rows, &a->run);
	const struct journal_step *step = run ? journal_run_step_of(run, &a->attempt, NULL) : NULL;
	const struct journal_attempt *row = step ? engine_last_attempt(step) : NULL;
	struct error ignored = {0};
	struct sandbox_client *client;
	struct runs_context *ctx;
	AUTO_FD copy = -1;

	if (a->measure != MEASURE_NONE || a->exit.why != SANDBOX_WHY_EXITED ||
	    !journal_space_low(d->journal))
		return false;
	client = adopt_client(d, &ignored);
	if (!client || !row || row->layer[0] == '\0' || runs_get(d, &a->run, &ctx, &ignored) < 0)
		return false;
	copy = out_fd < 0 ? -1 : fcntl(out_fd, F_DUPFD_CLOEXEC, 3);
	if (out_fd >= 0 && copy < 0)
		return false;
	snprintf(q.names[0], sizeof(q.names[0]), "%s", row->layer);
	if (sandbox_client_layer(client, &q, (uid_t)run->ws_uid, ctx->gid, -1, &asked.number) < 0)
		return false;
	a->measure = MEASURE_ASKED;
	a->measure_fd = take_fd(&copy);
	adopt_await(d, &asked);
	if (failpoint_hit("attempts.measure") < 0) /* the keeper hangs up, and lives */
		(void)!shutdown(sandbox_client_fd(client), SHUT_RDWR);
	return true;
}

static void settle_step(struct daemon *d, struct attempt *a, int out_fd)
{
	if (!measure(d, a, out_fd))
		settle_measured(d, a, out_fd);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct attempt *a = arg;
	struct daemon *d = a->owner;
	AUTO_FD out = take_fd(&a->late_fd); /* a is gone behind settle_step */

	(void)fd;
	(void)what;
	if (a->measure == MEASURE_ASKED)
		return;
	settle_step(d, a, out);
	daemon_settle(d);
}

/* What it read and what was refused last is on its way still: its end stands behind it in the
 * journal, since a run that is over takes no more of either. */
static bool settle_late(struct daemon *d, struct attempt *a, int out_fd)
{
	struct timeval most = {.tv_sec = ATTEMPTS_DRAIN_MS / 1000};
	AUTO_FD copy = -1;

	if (a->state == ATTEMPT_DRAINING)
		return true;
	if (!a->net || a->drained)
		return false;
	/* Short of something, it does not wait: its results count for more than its last reads. */
	copy = out_fd < 0 ? -1 : fcntl(out_fd, F_DUPFD_CLOEXEC, 3);
	if (out_fd >= 0 && copy < 0)
		return false;
	a->owner = d;
	a->late = event_new(d->loop, -1, 0, on_late, a);
	if (!a->late)
		return false;
	if (event_add(a->late, &most) < 0) {
		event_free(a->late);
		a->late = NULL;
		return false;
	}
	a->late_fd = take_fd(&copy);
	attempts_move(a, ATTEMPT_DRAINING);
	return true;
}

void attempts_drained(struct daemon *d, const struct journal_id *run,
		      const struct sandbox_attempt_id *id)
{
	struct attempt *a = attempts_find(d, id);

	if (!a || !journal_id_equal(&a->run, run))
		return;
	a->drained = true;
	if (a->state == ATTEMPT_DRAINING)
		event_active(a->late, EV_TIMEOUT, 0);
}

static void step_gone(struct daemon *d, struct attempt *a, int out_fd)
{
	/* Told again by its keeper: what was measured settles its end, or has. */
	if (a->measure != MEASURE_NONE)
		return;
	if (!settle_late(d, a, out_fd))
		settle_step(d, a, out_fd);
}

static void step_started(struct daemon *d, struct attempt *a)
{
	daemon_check(d, engine_attempt_live(d->engine, daemon_now(), &a->attempt), "live");
}

/* The engine has its spool forgotten. */
static void step_not_started(struct daemon *d, struct attempt *a, const char *kind, const char *why,
			     bool infra)
{
	struct engine_command c = {.attempt_id = a->attempt};

	attempts_drop(d, a);
	attempts_not_started(d, &c, kind, why, infra);
}

static void step_lost(struct daemon *d, struct attempt *a)
{
	struct engine_ended r = {.state = JOURNAL_ATTEMPT_S_LOST, .why = "its keeper died"};
	struct journal_id id = a->attempt;

	if (a->measure == MEASURE_ASKED) { /* how it ended is known */
		measured(d, a, NULL);
		return;
	}
	/* So it is here, and its courier died with its keeper. */
	if (a->state == ATTEMPT_DRAINING) {
		AUTO_FD out = take_fd(&a->late_fd);

		settle_measured(d, a, out);
		return;
	}
	attempts_drop(d, a);
	daemon_check(d, engine_attempt_ended(d->engine, daemon_now(), &id, &r), "lost");
}

/* ---- a check ---- */

/* What the next attempt is told: the check, its status, and the last of what it wrote. */
static void make_feedback(struct daemon *d, const struct attempt *a, const struct plan_check *check,
			  struct buffer *out)
{
	static const enum sandbox_spool_kind kinds[] = {SANDBOX_SPOOL_STDOUT, SANDBOX_SPOOL_STDERR};

	buffer_append_str(out, "check failed:");
	for (char **arg = check->argv; *arg; arg++)
		buffer_printf(out, " %s", *arg);
	if (a->exit.signal > 0)
		buffer_printf(out, "\nended by signal %d\n", a->exit.signal);
	else
		buffer_printf(out, "\nexit status %d, expected %u\n", a->exit.status,
			      check->expect_exit);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		char name[SANDBOX_SPOOL_NAME_SIZE];
		AUTO_FD fd = openat(d->spool_fd, sandbox_spool_name(&a->id, kinds[i], name),
				    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		char piece[ATTEMPTS_FEEDBACK_MAX];
		off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
		ssize_t n =
			size > 0 ? pread(fd, piece, sizeof(piece),
					 size > (off_t)sizeof(piece) ? size - (off_t)sizeof(piece)
								     : 0)
				 : 0;

		if (n > 0)
			buffer_append(out, piece, (size_t)n);
	}
}

enum { CHECK_SHOWN_MAX = 160 }; /* bytes of the line that names a check; the plan has it whole */

/* In ASCII, so that it can be cut anywhere. */
static void describe_failed(const struct plan_check *check, uint32_t number, size_t count,
			    char ret[static CHECK_SHOWN_MAX])
{
	AUTO_BUFFER b = {0};

	buffer_printf(&b, "check %u of %zu failed:", number, count);
	for (char **arg = check->argv; *arg && b.len < CHECK_SHOWN_MAX; arg++) {
		buffer_append_byte(&b, ' ');
		escape_append(&b, bytes_str(*arg), ESCAPE_LINE);
	}
	for (size_t i = 0; i < b.len; i++)
		if (b.data[i] >= 0x80)
			b.data[i] = '?';
	snprintf(ret, CHECK_SHOWN_MAX, "%.*s", (int)b.len, (const char *)b.data);
}

static void settle_check(struct daemon *d, struct attempt *a)
{
	const struct engine_command *c = &a->command->c;
	const struct plan_check *check = &c->spec->checks[a->check_index];
	bool passed = a->exit.why == SANDBOX_WHY_EXITED && a->exit.signal == 0 &&
		      a->exit.status == (int)check->expect_exit;
	bool lost = a->exit.why == SANDBOX_WHY_LOST;
	struct daemon_command *command = take_ptr(a->command);
	struct journal_id attempt = a->attempt;
	uint32_t next = a->check_index + 1;
	AUTO_BUFFER feedback = {0};
	struct digest blob;
	struct error err = {0};
	char why[CHECK_SHOWN_MAX];

	if (!passed && !lost) {
		describe_failed(check, a->check_index + 1, c->spec->check_count, why);
		make_feedback(d, a, check, &feedback);
	}
	adopt_forget(d, &a->id);
	attempts_drop(d, a);
	if (passed && next < command->c.spec->check_count)
		adopt_check_next(d, &command->c, next);
	else if (passed)
		daemon_check(d, engine_checked(d->engine, daemon_now(), &attempt, true, NULL, NULL),
			     "checked");
	else if (lost)
		daemon_check(d, engine_check_lost(d->engine, daemon_now(), &attempt), "check lost");
	else if (journal_blob_put(d->journal, buffer_bytes(&feedback), &blob, &err) < 0)
		daemon_check(d, engine_checked(d->engine, daemon_now(), &attempt, false, why, NULL),
			     "checked");
	else
		daemon_check(d,
			     engine_checked(d->engine, daemon_now(), &attempt, false, why, &blob),
			     "checked");
	daemon_command_free(command);
}

static void check_gone(struct daemon *d, struct attempt *a, int out_fd)
{
	(void)out_fd;
	settle_check(d, a);
}

static void check_not_started(struct daemon *d, struct attempt *a, const char *kind,
			      const char *why, bool infra)
{
	struct engine_command c = {.attempt_id = a->attempt, .check = true};

	adopt_forget(d, &a->id);
	attempts_drop(d, a);
	attempts_not_started(d, &c, kind, why, infra);
}

static void take_exit(struct attempt *a, const struct sandbox_exit *e)
{
	a->exit = *e;
	if (a->state < ATTEMPT_EXITED)
		attempts_move(a, ATTEMPT_EXITED);
}

/* What it would have said is not known: its end is settled as a loss. */
static void gone_lost(struct daemon *d, struct attempt *a)
{
	take_exit(a, &(struct sandbox_exit){.why = SANDBOX_WHY_LOST, .status = -1});
	attempts_on_gone(d, a, -1);
}

/* ---- a stranger ---- */

static void stranger_gone(struct daemon *d, struct attempt *a, int out_fd)
{
	(void)out_fd;
	adopt_forget(d, &a->id);
	attempts_drop(d, a);
}

static void stranger_not_started(struct daemon *d, struct attempt *a, const char *kind,
				 const char *why, bool infra)
{
	(void)kind;
	(void)why;
	(void)infra;
	stranger_gone(d, a, -1);
}

static void stranger_lost(struct daemon *d, struct attempt *a)
{
	attempts_spool_remove(d, &a->id);
	attempts_drop(d, a);
}

/* ---- the supervisor's own commands ---- */

/* diff(1) says 0 for equal and 1 for different; what was cut by a limit is still a beginning. */
static bool diff_ended_well(const struct sandbox_exit *e)
{
	return e->why == SANDBOX_WHY_EXITED && e->signal == 0 && e->status <= 1;
}

/* Status 1 says that there is a difference: one that cannot be read is not none. */
static bool diff_is_none(const struct sandbox_exit *e)
{
	return diff_ended_well(e) && e->status == 0 && e->stdout_bytes == 0;
}

static void settle_card(struct daemon *d, struct attempt *a, int fd, const char *not_started)
{
	AUTO_FREE char *text = malloc(CARDS_DIFF_BYTES + 1);
	ssize_t n = text && fd >= 0 ? pread(fd, text, CARDS_DIFF_BYTES + 1, 0) : 0;
	bool cut = n > CARDS_DIFF_BYTES;
	struct cards_work *card = take_ptr(a->card);

	if (not_started || a->exit.why == SANDBOX_WHY_LOST)
		cards_finish(d, card, bytes_of("", 0), false,
			     not_started ? not_started : "the keeper was lost meanwhile");
	else if (n > 0 && (diff_ended_well(&a->exit) || a->exit.why == SANDBOX_WHY_LIMIT ||
			   a->exit.why == SANDBOX_WHY_TIMED_OUT))
		cards_finish(d, card, bytes_of(text, cut ? CARDS_DIFF_BYTES : (size_t)n),
			     cut || !diff_ended_well(&a->exit), NULL);
	else
		cards_finish(d, card, bytes_of("", 0), false,
			     diff_is_none(&a->exit) ? NULL
			     : diff_ended_well(&a->exit)
				     ? "what diff(1) wrote cannot be read"
				     : "diff(1) failed; is diffutils installed?");
}

static void settle_diff(struct daemon *d, struct attempt *a, int fd, const char *not_started)
{
	struct api_answer answer = {.fd = -1, .status = 200, .type = "text/x-diff; charset=utf-8"};
	struct error err = {0};

	if (not_started) {
		error_set_exit(&err, -EIO, EXIT_STATUS_SANDBOX,
			       "no diff: diff(1) could not be started: %s; see 'holdfast doctor'",
			       not_started);
		api_answer_error(&answer, 500, &err);
	} else if (!diff_ended_well(&a->exit)) {
		error_set_exit(
			&err, -EIO, EXIT_STATUS_SANDBOX,
			"no diff: diff(1) ended with status %d; see that diffutils is installed",
			a->exit.status);
		api_answer_error(&answer, 500, &err);
	} else if (fd < 0 && !diff_is_none(&a->exit)) {
		error_set_exit(&err, -EIO, EXIT_STATUS_SANDBOX,
			       "no diff: what diff(1) wrote cannot be read; ask again");
		api_answer_error(&answer, 500, &err);
	} else {
		if (fd >= 0 && io_read_all(fd, API_ANSWER_MAX / 2, &answer.text) < 0)
			buffer_append_str(&answer.text, "\n(the rest is too long)\n");
		buffer_append(&answer.text, a->note.data, a->note.len);
	}
	api_server_answer(d->api, a->ticket, &answer);
}

static void settle_own(struct daemon *d, struct attempt *a, const char *not_started)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];
	AUTO_FD fd = openat(d->spool_fd, sandbox_spool_name(&a->id, SANDBOX_SPOOL_STDOUT, name),
			    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (a->kind == ATTEMPT_JOB)
		jobs_settle(d, take_ptr(a->job), &a->id, &a->exit, not_started);
	else if (a->kind == ATTEMPT_CARD)
		settle_card(d, a, fd, not_started);
	else
		settle_diff(d, a, fd, not_started);
	if (a->kind == ATTEMPT_JOB)
		(void)!results_remove(d->spool_fd, a->dest);
	else
		diffs_remove(d, a->dest); /* thousands of files, at times */
	adopt_forget(d, &a->id);
	attempts_drop(d, a);
}

static void own_gone(struct daemon *d, struct attempt *a, int out_fd)
{
	(void)out_fd;
	settle_own(d, a, NULL);
}

static void own_not_started(struct daemon *d, struct attempt *a, const char *kind, const char *why,
			    bool infra)
{
	(void)kind;
	(void)infra;
	settle_own(d, a, why);
}

/* ---- what each kind makes of what the keeper says ---- */

/* Each but `started` ends with the attempt dropped. A step that is gone is dropped by the engine's
 * FORGET_ATTEMPT, once its end is recorded, which waits for what its courier has still to tell
 * (settle_late); so it is where its keeper is lost meanwhile. */
static const struct behaviour {
	void (*started)(struct daemon *d, struct attempt *a); /* NULL = nobody is told */
	void (*not_started)(struct daemon *d, struct attempt *a, const char *kind, const char *why,
			    bool infra);
	void (*gone)(struct daemon *d, struct attempt *a, int out_fd);
	void (*lost)(struct daemon *d, struct attempt *a); /* the keeper died */
} behaviours[] = {
	[ATTEMPT_STEP] = {step_started, step_not_started, step_gone, step_lost},
	[ATTEMPT_CHECK] = {NULL, check_not_started, check_gone, gone_lost},
	[ATTEMPT_STRANGER] = {NULL, stranger_not_started, stranger_gone, stranger_lost},
	[ATTEMPT_DIFF] = {NULL, own_not_started, own_gone, gone_lost},
	[ATTEMPT_CARD] = {NULL, own_not_started, own_gone, gone_lost},
	[ATTEMPT_JOB] = {NULL, own_not_started, own_gone, gone_lost},
};

void attempts_on_started(struct daemon *d, struct attempt *a)
{
	if (a->state != ATTEMPT_ASKED)
		return;
	attempts_move(a, ATTEMPT_LIVE);
	if (behaviours[a->kind].started)
		behaviours[a->kind].started(d, a);
}

static const char *kind_of_keeper(enum sandbox_not_started_why why)
{
	switch (why) {
	case SANDBOX_NOT_STARTED_EXEC:
		return "exec";
	case SANDBOX_NOT_STARTED_SPEC:
		return "spec";
	case SANDBOX_NOT_STARTED_MACHINE:
		return "machine";
	case SANDBOX_NOT_STARTED_INFRA:
		return "infra";
	case SANDBOX_NOT_STARTED_KILLED:
		return "killed";
	case SANDBOX_NOT_STARTED_LAYERS:
		return ENGINE_HELD_LAYERS;
	}
	return "machine"; /* a word that a newer keeper has */
}

void attempts_on_not_started(struct daemon *d, struct attempt *a,
			     const struct sandbox_not_started *n)
{
	char text[ERROR_MSG_MAX];

	utf8_copy(text, sizeof(text), bytes_str(n->text[0] ? n->text : strerror(-n->error)));
	behaviours[a->kind].not_started(d, a, kind_of_keeper(n->why), text,
					n->why == SANDBOX_NOT_STARTED_INFRA);
}

void attempts_on_exited(struct daemon *d, struct attempt *a, const struct sandbox_exit *e)
{
	(void)d;
	take_exit(a, e);
	if (a->kill_timer)
		event_del(a->kill_timer);
}

void attempts_on_gone(struct daemon *d, struct attempt *a, int out_fd)
{
	/* Else this connection did not hear its EXITED; the keeper tells both again after hello. */
	if (a->state >= ATTEMPT_EXITED)
		behaviours[a->kind].gone(d, a, out_fd);
}

void attempts_lose(struct daemon *d, struct attempt *a)
{
	behaviours[a->kind].lost(d, a);
}
