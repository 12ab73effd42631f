#include "supervisor/attempts.h"

#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/cbor.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "supervisor/adopt.h"
#include "supervisor/asks.h"
#include "supervisor/confine.h"
#include "supervisor/engine_private.h"
#include "supervisor/intact.h"
#include "supervisor/net.h"
#include "supervisor/results.h"
#include "supervisor/runs.h"
#include "supervisor/squash.h"

struct attempts {
	struct attempt *first;
};

#define INPUTS_SUFFIX "i" /* spool/<attempt>.i: what is seen at /run/holdfast/in */

int attempts_new(struct attempts **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

static void attempt_free(struct attempt *a)
{
	if (a->kill_timer)
		event_free(a->kill_timer);
	if (a->late) {
		event_free(a->late);
		close_fd(&a->late_fd);
	}
	daemon_command_free(a->command);
	buffer_free(&a->note);
	cards_free(a->card);
	jobs_free(a->job);
	free(a);
}

void attempts_free(struct attempts *list)
{
	if (!list)
		return;
	while (list->first) {
		struct attempt *a = list->first;

		list->first = a->next;
		attempt_free(a);
	}
	free(list);
}

void attempts_id(const struct journal_id *attempt, struct sandbox_attempt_id *ret)
{
	_Static_assert(sizeof(ret->b) == sizeof(attempt->b), "an attempt has one name");
	memcpy(ret->b, attempt->b, sizeof(ret->b));
}

struct attempt *attempts_find(const struct daemon *d, const struct sandbox_attempt_id *id)
{
	struct attempt *a = d->attempts->first;

	while (a && memcmp(&a->id, id, sizeof(*id)) != 0)
		a = a->next;
	return a;
}

struct attempt *attempts_of(const struct daemon *d, const struct journal_id *attempt)
{
	struct attempt *a = d->attempts->first;

	while (a && (a->tool || !journal_id_equal(&a->attempt, attempt)))
		a = a->next;
	return a;
}

bool attempts_any(const struct daemon *d)
{
	return d->attempts->first != NULL;
}

void attempts_drop(struct daemon *d, struct attempt *a)
{
	struct attempt **at = &d->attempts->first;

	while (*at && *at != a)
		at = &(*at)->next;
	if (*at)
		*at = a->next;
	net_attempt_over(d, a);
	attempt_free(a);
}

static struct attempt *add(struct daemon *d, const struct sandbox_attempt_id *id)
{
	struct attempt *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->id = *id;
	a->next = d->attempts->first;
	d->attempts->first = a;
	return a;
}

static const char *inputs_name(const struct sandbox_attempt_id *id, char *buf)
{
	sandbox_spool_name(id, SANDBOX_SPOOL_STDOUT, buf);
	strcpy(strrchr(buf, '.') + 1, INPUTS_SUFFIX);
	return buf;
}

void attempts_spool_remove(struct daemon *d, const struct sandbox_attempt_id *id)
{
	static const enum sandbox_spool_kind kinds[] = {SANDBOX_SPOOL_STDOUT, SANDBOX_SPOOL_STDERR,
							SANDBOX_SPOOL_LOCK};
	char name[SANDBOX_SPOOL_NAME_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (results_remove(d->spool_fd, sandbox_spool_name(id, kinds[i], name)) < 0)
			daemon_log(d, "spool/%s stays behind", name);
	(void)!results_remove(d->spool_fd, inputs_name(id, name));
}

/* ---- starting ---- */

/* A check's own name toward the keeper: another one in each epoch, so that an earlier supervisor's
 * is not taken for it. */
static void check_id(const struct daemon *d, const struct journal_id *attempt, uint32_t index,
		     struct sandbox_attempt_id *ret)
{
	AUTO_BUFFER b = {0};
	struct digest hash;

	cbor_w_array(&b, 3);
	cbor_w_bytes(&b, bytes_of(attempt->b, sizeof(attempt->b)));
	cbor_w_uint(&b, index);
	cbor_w_uint(&b, d->epoch);
	digest_domain("holdfast.check", buffer_bytes(&b), &hash);
	memcpy(ret->b, hash.b, sizeof(ret->b));
}

static const struct journal_attempt *result_of(const struct journal_run *run, const char *step_name)
{
	const struct journal_step *s = runs_step(run, step_name);

	return s && s->state == JOURNAL_STEP_S_COMMITTED && s->attempt_count > 0
		       ? &s->attempts[s->attempt_count - 1]
		       : NULL;
}

/* Folder /run/holdfast/in: a folder of results for each step that this one needs, and the last
 * rejection's words. */
static int lay_inputs(struct daemon *d, const struct journal_run *run, const struct plan_step *spec,
		      struct bytes feedback, const struct sandbox_attempt_id *id, char *ret_name,
		      struct error *err)
{
	AUTO_FD dir = -1;
	int r = 0;

	inputs_name(id, ret_name);
	(void)!results_remove(d->spool_fd, ret_name);
	if (mkdirat(d->spool_fd, ret_name, 0755) < 0)
		return error_set(err, -errno,
				 "cannot make the inputs of the step: %s; free some space",
				 strerror(errno));
	dir = openat(d->spool_fd, ret_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fchmod(dir, 0755) < 0)
		return error_set(err, -errno, "cannot open the inputs of the step: %s",
				 strerror(errno));
	for (char **need = spec->needs; need && *need && r == 0; need++) {
		const struct journal_attempt *a = result_of(run, *need);
		AUTO_FD sub = -1;

		if (!a)
			continue;
		if (mkdirat(dir, *need, 0755) < 0)
			return error_set(err, -errno, "cannot make the inputs of the step: %s",
					 strerror(errno));
		sub = openat(dir, *need, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0 || fchmod(sub, 0755) < 0)
			return error_set(err, -errno, "cannot open the inputs of the step: %s",
					 strerror(errno));
		if (!digest_is_zero(&a->results))
			r = results_lay(d->journal, &a->results, sub, err);
		if (r == 0 && !digest_is_zero(&a->out) &&
		    faccessat(sub, "stdout", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
			r = results_lay_blob(d->journal, &a->out, sub, "stdout", err);
	}
	if (r == 0 && feedback.len > 0)
		r = io_write_file_atomic_at(dir, "feedback", feedback, 0644);
	return r;
}

static int open_stdin(struct daemon *d, const struct journal_run *run, const struct plan_step *spec,
		      struct error *err)
{
	const struct journal_attempt *a;
	const struct digest *from = NULL;
	int fd;

	switch (spec->stdin_kind) {
	case PLAN_STDIN_STEP:
		a = result_of(run, spec->stdin_step);
		from = a && !digest_is_zero(&a->out) ? &a->out : NULL;
		break;
	case PLAN_STDIN_BLOB:
		from = &spec->stdin_blob;
		break;
	case PLAN_STDIN_NONE:
	case PLAN_STDIN_FILE:
		break;
	}
	if (!from)
		return -1;
	fd = journal_blob_open(d->journal, from, err);
	return fd < 0 ? error_set(err, fd, "cannot open standard input: %s", strerror(-fd)) : fd;
}

static int confine(struct daemon *d, const struct engine_command *c, const struct journal_run *run,
		   const struct runs_context *ctx, int base_fd, struct attempt *a,
		   const char *in_name, int stdin_fd, const struct squash_stack *below,
		   const struct net_lend *net, struct confine **ret, struct error *err)
{
	const struct confine_input in = {
		.policy = ctx->policy,
		.step = c->spec,
		.argv = (const char *const *)(c->check ? c->spec->checks[a->check_index].argv
						       : c->spec->argv),
		.env = ctx->settings.env,
		.home = ctx->settings.home,
		.workspace = run->workspace,
		.workspace_fd = base_fd,
		.uid = (uid_t)run->ws_uid,
		.gid = ctx->gid,
		.layers = below->layers,
		.layer_count = below->count,
		.upper = c->check || !c->layer[0] ? NULL : c->layer,
		.in_name = in_name,
		.stdin_fd = stdin_fd,
		.timeout_ms = c->timeout_ms,
		.tty = ctx->settings.tty && !c->check,
		.rows = ctx->settings.rows,
		.cols = ctx->settings.cols,
		.state = d->paths.state,
		.runtime = d->paths.runtime,
		.hidden = (const char *const *)d->own->state,
		.kept = (const char *const *)d->own->all,
		.attempt = a->id,
		.approved = asks_answered(d, &c->run, c->step),
		.net = net->id,
		.etc = net->etc,
		.etc_count = net->etc_count,
		.net_env = (const char *const *)net->env,
		.helpers = c->check ? NULL : d->options.helpers,
	};

	return confine_new(&in, ret, err);
}

/* SQUASH_WAITS: later, by attempts_squashed(); NET_WAITS: by attempts_again(). */
static int start(struct daemon *d, struct sandbox_client *client, const struct engine_command *c,
		 struct attempt *a, bool squash_failed, struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, &c->run);
	struct squash_stack below = {0};
	char in_name[SANDBOX_SPOOL_NAME_SIZE];
	AUTO(confine_free) struct confine *walls = NULL;
	struct runs_context *ctx;
	AUTO_NET_LEND net = {0};
	AUTO_FD stdin_fd = -1;
	int base_fd = -1;
	int r = runs_get(d, &c->run, &ctx, err);

	if (r == 0)
		r = runs_base(d, ctx, &base_fd, err);
	if (r == 0)
		r = intact_stack(d, ctx, c->stack, c->stack_count, err);
	if (r == 0 && c->check && c->layer[0])
		r = intact_stack(d, ctx, &c->layer, 1, err);
	if (r == 0)
		r = own_refresh(&d->own_from, &d->own, err);
	if (r == 0)
		r = squash_stack(d, &c->run, c->stack, c->stack_count, squash_failed, &below, err);
	if (r == 0 && c->check && c->layer[0]) /* exactly the sealed layer over its stack */
		below.layers[below.count++] = c->layer;
	if (r == 0 && !c->check)
		r = net_take(d, a, c->spec, &net, err);
	if (r == 0)
		r = lay_inputs(d, run, c->spec, c->feedback, &a->id, in_name, err);
	if (r == 0 && !c->check) {
		stdin_fd = open_stdin(d, run, c->spec, err);
		r = stdin_fd < -1 ? stdin_fd : 0;
	}
	if (r == 0)
		r = confine(d, c, run, ctx, base_fd, a, in_name, stdin_fd, &below, &net, &walls,
			    err);
	if (r != 0)
		return r;
	memcpy(a->squashed, below.used, sizeof(a->squashed));
	r = sandbox_client_start(client, confine_spec(walls), NULL, err);
	return r < 0 ? error_set(err, r, "the keeper did not take the step: %s", strerror(-r)) : 0;
}

static const char *kind_of(const struct error *err)
{
	if (err->code == -EUCLEAN)
		return ENGINE_HELD_LAYERS;
	switch (err->exit_status) {
	case EXIT_STATUS_DENIED:
		return "denied";
	case EXIT_STATUS_SANDBOX:
		return "machine";
	case EXIT_STATUS_LIMIT:
		return "limit";
	case EXIT_STATUS_CONFLICT:
		return "workspace";
	default:
		return "spec";
	}
}

void attempts_not_started(struct daemon *d, const struct engine_command *cmd, const char *kind,
			  const char *why, bool infra)
{
	char text[ERROR_MSG_MAX + ERROR_WHERE_MAX + 32];

	snprintf(text, sizeof(text), "%s: %s", kind, why);
	if (strcmp(kind, ENGINE_HELD_LAYERS) == 0)
		daemon_check(d,
			     engine_attempt_held(d->engine, daemon_now(), &cmd->attempt_id, text),
			     "held up");
	else if (cmd->check)
		daemon_check(d,
			     engine_checked(d->engine, daemon_now(), &cmd->attempt_id, false, text,
					    NULL),
			     "a check that cannot start");
	else
		daemon_check(d,
			     engine_attempt_not_started(d->engine, daemon_now(), &cmd->attempt_id,
							text, infra),
			     "not started");
}

static bool transient(int code)
{
	return code == -ENOSPC || code == -ENOMEM || code == -EAGAIN || code == -EBUSY;
}

static void launch(struct daemon *d, struct sandbox_client *client, struct attempt *a,
		   bool squash_failed)
{
	struct engine_command told = {.attempt_id = a->attempt, .check = a->check};
	struct sandbox_attempt_id id = a->id;
	struct error err = {0};
	char why[ERROR_MSG_MAX + ERROR_WHERE_MAX + 2];
	int r = a->command ? start(d, client, &a->command->c, a, squash_failed, &err) : -ENOMEM;

	a->waits = r > 0;
	if (r >= 0)
		return;
	attempts_spool_remove(d, &id);
	attempts_drop(d, a);
	snprintf(why, sizeof(why), "%s%s%s", err.where, err.where[0] ? ": " : "",
		 err.msg[0] ? err.msg : strerror(-r));
	attempts_not_started(d, &told, kind_of(&err), why, transient(r));
}

static void start_index(struct daemon *d, struct sandbox_client *client,
			const struct engine_command *cmd, uint32_t index)
{
	struct sandbox_attempt_id id;
	struct attempt *a;

	if (cmd->check)
		check_id(d, &cmd->attempt_id, index, &id);
	else
		attempts_id(&cmd->attempt_id, &id);
	a = attempts_find(d, &id);
	if (a)
		return; /* issued again; it is on its way */
	a = add(d, &id);
	if (!a) {
		attempts_not_started(d, cmd, "infra", "out of memory", true);
		return;
	}
	a->attempt = cmd->attempt_id;
	a->run = cmd->run;
	a->step = cmd->step;
	a->check = cmd->check;
	a->check_index = index;
	a->command = daemon_command_copy(cmd);
	launch(d, client, a, false);
}

static void start_waiting(struct daemon *d, const struct journal_id *run, bool squash_failed,
			  const struct error *why)
{
	struct attempt *a;

	for (a = d->attempts->first; a; a = a->next)
		a->again = a->waits && journal_id_equal(&a->run, run);
	for (;;) { /* a start that fails goes to the engine, which may change the list */
		struct sandbox_client *client;
		struct error err = {0};

		for (a = d->attempts->first; a && !a->again; a = a->next)
			;
		if (!a)
			return;
		a->again = false;
		client = why ? NULL : adopt_client(d, &err);
		if (why)
			err = *why;
		if (client) {
			launch(d, client, a, squash_failed);
		} else {
			struct engine_command told = {.attempt_id = a->attempt, .check = a->check};

			attempts_drop(d, a);
			attempts_not_started(d, &told, why ? kind_of(&err) : "machine", err.msg,
					     !why || transient(err.code));
		}
	}
}

void attempts_squashed(struct daemon *d, const struct journal_id *run, bool failed)
{
	start_waiting(d, run, failed, NULL);
}

void attempts_again(struct daemon *d, const struct journal_id *run, const struct error *why)
{
	start_waiting(d, run, false, why);
}

int attempts_spec(const struct daemon *d, const struct attempt *a, struct plan_step **ret)
{
	const struct journal_run *run = journal_state_run(d->rows, &a->run);

	if (!run || a->step >= run->step_count)
		return -ENOENT;
	return engine_input_spec(d->engine, &run->steps[a->step]->input, ret);
}

void attempts_each_net(struct daemon *d, const struct journal_id *run,
		       void (*fn)(struct attempt *a, void *arg), void *arg)
{
	for (struct attempt *a = d->attempts->first; a; a = a->next)
		if (a->net && !a->waits && journal_id_equal(&a->run, run))
			fn(a, arg);
}

bool attempts_of_run(const struct daemon *d, const struct journal_id *run)
{
	for (const struct attempt *a = d->attempts->first; a; a = a->next)
		if (!a->tool && journal_id_equal(&a->run, run))
			return true;
	return false;
}

bool attempts_use(const struct daemon *d, const char *squashed)
{
	for (const struct attempt *a = d->attempts->first; a; a = a->next)
		if (strcmp(a->squashed, squashed) == 0)
			return true;
	return false;
}

bool attempts_adopted(const struct daemon *d)
{
	for (const struct attempt *a = d->attempts->first; a; a = a->next)
		if (!a->command && !a->tool)
			return true;
	return false;
}

void attempts_start(struct daemon *d, struct sandbox_client *c, const struct engine_command *cmd)
{
	if (failpoint_hit("attempts.start") < 0)
		return;
	start_index(d, c, cmd, 0);
}

static void on_kill_timer(evutil_socket_t fd, short what, void *arg)
{
	struct attempt *a = arg;
	struct daemon *d = a->owner;

	(void)fd;
	(void)what;
	adopt_kill_now(d, &a->id);
}

void attempts_kill(struct daemon *d, struct sandbox_client *c, struct attempt *a, bool now)
{
	struct timeval tv = {.tv_sec = ATTEMPTS_TERM_MS / 1000};

	if (a->waits) {
		struct engine_command told = {.attempt_id = a->attempt, .check = a->check};

		attempts_drop(d, a);
		attempts_not_started(d, &told, "killed", "it was cancelled before it began", false);
		return;
	}
	a->owner = d;
	if (!a->kill_timer)
		a->kill_timer = event_new(d->loop, -1, 0, on_kill_timer, a);
	if (now || !a->live || !a->kill_timer) {
		if (sandbox_client_kill(c, &a->id, NULL) < 0)
			daemon_log(d, "the keeper cannot be asked to kill an attempt");
		return;
	}
	if (sandbox_client_signal(c, &a->id, SIGTERM, NULL) < 0)
		daemon_log(d, "the keeper cannot be asked to signal an attempt");
	event_add(a->kill_timer, &tv);
}

/* ---- ends ---- */

/* False for one that the journal does not know: nothing of it is told. */
static bool ours(const struct attempt *a)
{
	static const struct journal_id none;

	return !journal_id_equal(&a->run, &none);
}

void attempts_on_started(struct daemon *d, struct attempt *a)
{
	if (a->live)
		return;
	a->live = true;
	if (ours(a) && !a->check && !a->tool)
		daemon_check(d, engine_attempt_live(d->engine, daemon_now(), &a->attempt), "live");
}

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

static void settle_attempt(struct daemon *d, struct attempt *a, int out_fd)
{
	struct engine_ended r = {0};
	AUTO_BUFFER denied = {0};
	struct error err = {0};
	char limit[40];
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
	char why[64];

	if (!passed && !lost) {
		snprintf(why, sizeof(why), "check %u of %zu failed", a->check_index + 1,
			 c->spec->check_count);
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

void attempts_check_next(struct daemon *d, struct sandbox_client *client,
			 const struct engine_command *cmd, uint32_t index)
{
	start_index(d, client, cmd, index);
}

/* diff(1) says 0 for equal and 1 for different; what was cut by a limit is still a beginning. */
static bool diff_ended_well(const struct sandbox_exit *e)
{
	return e->why == SANDBOX_WHY_EXITED && e->signal == 0 && e->status <= 1;
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
			     diff_ended_well(&a->exit) ? NULL
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
	} else {
		if (fd >= 0 && io_read_all(fd, API_ANSWER_MAX / 2, &answer.text) < 0)
			buffer_append_str(&answer.text, "\n(the rest is too long)\n");
		buffer_append(&answer.text, a->note.data, a->note.len);
	}
	api_server_answer(d->api, a->ticket, &answer);
}

static void settle_tool(struct daemon *d, struct attempt *a, const char *not_started)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];
	AUTO_FD fd = openat(d->spool_fd, sandbox_spool_name(&a->id, SANDBOX_SPOOL_STDOUT, name),
			    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (a->job)
		jobs_settle(d, take_ptr(a->job), &a->id, &a->exit, not_started);
	else if (a->card)
		settle_card(d, a, fd, not_started);
	else
		settle_diff(d, a, fd, not_started);
	(void)!results_remove(d->spool_fd, a->dest);
	adopt_forget(d, &a->id);
	attempts_drop(d, a);
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
	struct engine_command c = {.attempt_id = a->attempt, .check = a->check};
	struct sandbox_attempt_id id = a->id;
	bool told = ours(a) && !a->tool;
	char text[ERROR_MSG_MAX];

	snprintf(text, sizeof(text), "%s", n->text[0] ? n->text : strerror(-n->error));
	if (a->tool) {
		settle_tool(d, a, text);
		return;
	}
	if (!told || a->check)
		adopt_forget(d, &id);
	attempts_drop(d, a);
	if (told)
		attempts_not_started(d, &c, kind_of_keeper(n->why), text,
				     n->why == SANDBOX_NOT_STARTED_INFRA);
}

void attempts_on_exited(struct daemon *d, struct attempt *a, const struct sandbox_exit *e)
{
	(void)d;
	a->exited = true;
	a->exit = *e;
	if (a->kill_timer)
		event_del(a->kill_timer);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct attempt *a = arg;
	struct daemon *d = a->owner;
	AUTO_FD out = take_fd(&a->late_fd); /* a is gone behind settle_attempt */

	(void)fd;
	(void)what;
	settle_attempt(d, a, out);
	daemon_settle(d);
}

/* What was refused last is on its way still, in a batch: a run that is there to learn it is not over
 * before it came. */
static bool settle_late(struct daemon *d, struct attempt *a, int out_fd)
{
	struct timeval batch = {.tv_usec = ATTEMPTS_LEARN_MS * 1000};
	struct runs_context *ctx;

	if (a->late)
		return true;
	if (!a->net || runs_get(d, &a->run, &ctx, NULL) < 0 || !ctx->settings.learn)
		return false;
	a->owner = d;
	a->late = event_new(d->loop, -1, 0, on_late, a);
	if (!a->late)
		return false;
	a->late_fd = out_fd < 0 ? -1 : fcntl(out_fd, F_DUPFD_CLOEXEC, 3);
	event_add(a->late, &batch);
	return true;
}

void attempts_on_gone(struct daemon *d, struct attempt *a, int out_fd)
{
	if (!a->exited) /* its EXITED was not heard by this connection; the keeper tells both again
			   after hello */
		return;
	if (a->tool)
		settle_tool(d, a, NULL);
	else if (a->check && a->command)
		settle_check(d, a);
	else if (!ours(a)) {
		adopt_forget(d, &a->id);
		attempts_drop(d, a);
	} else if (!settle_late(d, a, out_fd))
		settle_attempt(d, a, out_fd);
}

/* ---- recovery ---- */

struct wanted {
	const struct sandbox_attempt_id *id;
	const struct journal_run *run;
	uint32_t step;
	bool found;
};

static bool in_flight(const struct journal_attempt *a)
{
	return a->state == JOURNAL_ATTEMPT_S_STARTING || a->state == JOURNAL_ATTEMPT_S_LIVE ||
	       a->state == JOURNAL_ATTEMPT_S_FROZEN;
}

static int want(const struct journal_run *run, void *arg)
{
	struct wanted *w = arg;

	for (uint32_t i = 0; i < run->step_count; i++) {
		const struct journal_step *s = run->steps[i];
		const struct journal_attempt *a =
			s->attempt_count > 0 ? &s->attempts[s->attempt_count - 1] : NULL;

		if (a && in_flight(a) && memcmp(a->id.b, w->id->b, sizeof(a->id.b)) == 0) {
			w->run = run;
			w->step = i;
			return 1;
		}
	}
	return 0;
}

bool attempts_adopt(struct daemon *d, const struct sandbox_attempt_id *id)
{
	struct wanted w = {.id = id};
	struct attempt *a;

	if (journal_state_each_run(d->rows, want, &w) == 0)
		return false;
	a = attempts_find(d, id);
	if (!a)
		a = add(d, id);
	if (!a)
		abort(); /* recovery starts over */
	memcpy(a->attempt.b, id->b, sizeof(a->attempt.b));
	a->run = w.run->id;
	a->step = w.step;
	net_adopt(d, a);
	a->live = w.run->steps[w.step]->attempts[w.run->steps[w.step]->attempt_count - 1].state !=
		  JOURNAL_ATTEMPT_S_STARTING;
	return true;
}

void attempts_disown(struct daemon *d, const struct sandbox_attempt_id *id)
{
	if (!attempts_find(d, id) && !add(d, id))
		abort();
}

static bool named(const struct sandbox_hello *h, const struct sandbox_attempt_id *id)
{
	for (size_t i = 0; h && i < h->found_count; i++)
		if (memcmp(&h->found[i].attempt, id, sizeof(*id)) == 0)
			return true;
	return false;
}

static void lose(struct daemon *d, struct attempt *a)
{
	struct engine_ended r = {.state = JOURNAL_ATTEMPT_S_LOST, .why = "its keeper died"};

	if (a->tool || (a->check && a->command)) {
		a->exit = (struct sandbox_exit){.why = SANDBOX_WHY_LOST, .status = -1};
		a->exited = true;
		attempts_on_gone(d, a, -1);
	} else if (!ours(a)) {
		attempts_spool_remove(d, &a->id);
		attempts_drop(d, a);
	} else {
		struct journal_id id = a->attempt;

		attempts_drop(d, a);
		daemon_check(d, engine_attempt_ended(d->engine, daemon_now(), &id, &r), "lost");
	}
}

void attempts_after_loss(struct daemon *d, const struct sandbox_hello *h)
{
	struct attempt *a;

	for (a = d->attempts->first; a; a = a->next)
		a->lost = !a->waits && !named(h, &a->id);
	for (;;) { /* a loss goes to the engine, which may change the list */
		for (a = d->attempts->first; a && !a->lost; a = a->next)
			;
		if (!a)
			return;
		a->lost = false;
		lose(d, a);
	}
}

static int any_locked(const struct journal_run *run, void *arg)
{
	const struct daemon *d = arg;

	for (uint32_t i = 0; i < run->step_count; i++) {
		const struct journal_step *s = run->steps[i];
		const struct journal_attempt *a =
			s->attempt_count > 0 ? &s->attempts[s->attempt_count - 1] : NULL;
		struct sandbox_attempt_id id;

		if (!a || !in_flight(a))
			continue;
		attempts_id(&a->id, &id);
		if (sandbox_attempt_lives(d->spool_fd, &id) == 1)
			return 1;
	}
	return 0;
}

bool attempts_locked(const struct daemon *d)
{
	return journal_state_each_run(d->rows, any_locked, (void *)d) != 0;
}

/* ---- what is no step: diff(1), jobs ---- */

int attempts_start_diff(struct daemon *d, struct sandbox_client *c, const struct journal_id *run_id,
			const char *const *argv, int dest_fd, const char *dest, struct buffer *note,
			uint64_t ticket, struct cards_work *card, struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, run_id);
	struct plan_step step = {.name = (char *)"diff"};
	AUTO(confine_free) struct confine *walls = NULL;
	AUTO(policy_effective_free) struct policy_effective *effective = NULL;
	struct policy_combine combine = {
		.fallback = "base"}; /* it sees the two trees, as inputs, and the system */
	struct sandbox_attempt_id id;
	struct attempt *a;
	struct stat st;
	int r;

	if (getrandom(id.b, sizeof(id.b), 0) != sizeof(id.b) || fstat(dest_fd, &st) < 0)
		return error_set(err, -errno, "cannot make a diff: %s", strerror(errno));
	r = policy_combine(&combine, &effective, err);
	if (r == 0) {
		struct confine_input in = {
			.policy = effective,
			.step = &step,
			.argv = argv,
			.workspace = run->workspace,
			.workspace_fd = -1,
			.in_name = dest,
			.uid = st.st_uid,
			.gid = st.st_gid,
			.stdin_fd = -1,
			.timeout_ms = 60000,
			.state = d->paths.state,
			.runtime = d->paths.runtime,
			.hidden = (const char *const *)d->own->state,
			.kept = (const char *const *)d->own->all,
			.attempt = id,
		};
		r = confine_new(&in, &walls, err);
	}
	if (r < 0)
		return r;
	a = add(d, &id);
	if (!a)
		return error_nomem(err);
	a->tool = true;
	a->ticket = ticket;
	a->run = *run_id;
	snprintf(a->dest, sizeof(a->dest), "%s", dest);
	r = sandbox_client_start(c, confine_spec(walls), NULL, err);
	if (r < 0) {
		attempts_drop(d, a);
		return r;
	}
	a->note = *note;
	*note = (struct buffer){0};
	a->card = card;
	return 0;
}

int attempts_start_job(struct daemon *d, struct sandbox_client *c, const struct sandbox_spec *spec,
		       const char *dest, struct jobs_job *job, struct error *err)
{
	struct attempt *a = add(d, &spec->attempt);
	int r;

	if (!a)
		return error_nomem(err);
	a->tool = true;
	snprintf(a->dest, sizeof(a->dest), "%s", dest);
	r = sandbox_client_start(c, spec, NULL, err);
	if (r < 0) {
		attempts_drop(d, a);
		return r;
	}
	a->job = job;
	return 0;
}

size_t attempts_jobs(const struct daemon *d)
{
	size_t n = 0;

	for (const struct attempt *a = d->attempts->first; a; a = a->next)
		n += a->job != NULL;
	return n;
}
