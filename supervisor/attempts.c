#include "supervisor/attempts.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/cbor.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/utf8.h"
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
	if (a->measure == MEASURE_ASKED)
		close_fd(&a->measure_fd);
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

/* A command of the supervisor's own, which is no attempt in the journal. */
static bool is_own(const struct attempt *a)
{
	return a->kind == ATTEMPT_DIFF || a->kind == ATTEMPT_CARD || a->kind == ATTEMPT_JOB;
}

struct attempt *attempts_of(const struct daemon *d, const struct journal_id *attempt)
{
	struct attempt *a = d->attempts->first;

	while (a && (is_own(a) || !journal_id_equal(&a->attempt, attempt)))
		a = a->next;
	return a;
}

bool attempts_any(const struct daemon *d)
{
	return d->attempts->first != NULL;
}

void attempts_move(struct attempt *a, enum attempt_state to)
{
	static const unsigned legal[] = {
		[ATTEMPT_WAITS] = 1U << ATTEMPT_WAITS | 1U << ATTEMPT_ASKED | 1U << ATTEMPT_EXITED,
		[ATTEMPT_ASKED] = 1U << ATTEMPT_WAITS | 1U << ATTEMPT_ASKED | 1U << ATTEMPT_LIVE |
				  1U << ATTEMPT_EXITED,
		[ATTEMPT_LIVE] = 1U << ATTEMPT_EXITED,
		[ATTEMPT_EXITED] = 1U << ATTEMPT_DRAINING,
		[ATTEMPT_DRAINING] = 0,
	};

	assert(legal[a->state] & 1U << to);
	assert((to == ATTEMPT_DRAINING) == (a->late != NULL));
	a->state = to;
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

static struct attempt *add(struct daemon *d, const struct sandbox_attempt_id *id,
			   enum attempt_kind kind)
{
	struct attempt *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->id = *id;
	a->kind = kind;
	a->state = ATTEMPT_ASKED;
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

/* *ret: -1 = it has none. */
static int open_stdin(struct daemon *d, const struct journal_run *run, const struct plan_step *spec,
		      int *ret, struct error *err)
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
	*ret = -1;
	if (!from)
		return 0;
	fd = journal_blob_open(d->journal, from, err);
	if (fd < 0)
		return error_set(err, fd, "cannot open standard input: %s", strerror(-fd));
	*ret = fd;
	return 0;
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
	if (r == 0 && !c->check)
		r = open_stdin(d, run, c->spec, &stdin_fd, err);
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
	if (err->code == -ENOENT && err->exit_status == EXIT_STATUS_STEP_FAILED)
		return "exec"; /* confine_exec: there is no such program */
	switch ((enum exit_status)err->exit_status) {
	case EXIT_STATUS_DENIED:
		return "denied";
	case EXIT_STATUS_SANDBOX:
		return "machine";
	case EXIT_STATUS_LIMIT:
		return "limit";
	case EXIT_STATUS_CONFLICT:
		return "workspace";
	case EXIT_STATUS_OK:
	case EXIT_STATUS_STEP_FAILED:
	case EXIT_STATUS_USAGE:
	case EXIT_STATUS_WAITING:
	case EXIT_STATUS_IN_DOUBT:
	case EXIT_STATUS_CONTRACT:
		break;
	}
	return "spec";
}

void attempts_not_started(struct daemon *d, const struct engine_command *cmd, const char *kind,
			  const char *why, bool infra)
{
	char text[ERROR_MSG_MAX + ERROR_WHERE_MAX + 32];

	utf8_printf(text, sizeof(text), "%s: %s", kind, why);
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
	switch (-code) {
	case ENOSPC:
	case ENOMEM:
	case EAGAIN:
	case EBUSY:
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ETOOMANYREFS:
		return true;
	default:
		return false;
	}
}

static void launch(struct daemon *d, struct sandbox_client *client, struct attempt *a,
		   bool squash_failed)
{
	struct engine_command told = {.attempt_id = a->attempt, .check = a->kind == ATTEMPT_CHECK};
	struct sandbox_attempt_id id = a->id;
	struct error err = {0};
	char why[ERROR_MSG_MAX + ERROR_WHERE_MAX + 2];
	int r = a->command ? start(d, client, &a->command->c, a, squash_failed, &err) : -ENOMEM;

	if (r >= 0) {
		attempts_move(a, r > 0 ? ATTEMPT_WAITS : ATTEMPT_ASKED);
		return;
	}
	attempts_spool_remove(d, &id);
	attempts_drop(d, a);
	utf8_printf(why, sizeof(why), "%s%s%s", err.where, err.where[0] ? ": " : "",
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
	a = add(d, &id, cmd->check ? ATTEMPT_CHECK : ATTEMPT_STEP);
	if (!a) {
		attempts_not_started(d, cmd, "infra", "out of memory", true);
		return;
	}
	a->attempt = cmd->attempt_id;
	a->run = cmd->run;
	a->step = cmd->step;
	a->check_index = index;
	a->command = daemon_command_copy(cmd);
	launch(d, client, a, false);
}

static void start_waiting(struct daemon *d, const struct journal_id *run, bool squash_failed,
			  const struct error *why)
{
	struct attempt *a;

	for (a = d->attempts->first; a; a = a->next)
		a->marked = a->state == ATTEMPT_WAITS && journal_id_equal(&a->run, run);
	for (;;) { /* a start that fails goes to the engine, which may change the list */
		struct sandbox_client *client;
		struct error err = {0};

		for (a = d->attempts->first; a && !a->marked; a = a->next)
			;
		if (!a)
			return;
		a->marked = false;
		client = why ? NULL : adopt_client(d, &err);
		if (why)
			err = *why;
		if (client) {
			launch(d, client, a, squash_failed);
		} else {
			struct engine_command told = {.attempt_id = a->attempt,
						      .check = a->kind == ATTEMPT_CHECK};

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
		if (a->net && a->state != ATTEMPT_WAITS && journal_id_equal(&a->run, run))
			fn(a, arg);
}

bool attempts_of_run(const struct daemon *d, const struct journal_id *run)
{
	for (const struct attempt *a = d->attempts->first; a; a = a->next)
		if (!is_own(a) && journal_id_equal(&a->run, run))
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
		if (!a->command && !is_own(a))
			return true;
	return false;
}

void attempts_start(struct daemon *d, struct sandbox_client *c, const struct engine_command *cmd)
{
	if (failpoint_hit("attempts.start") < 0)
		return;
	start_index(d, c, cmd, 0);
}

void attempts_check_next(struct daemon *d, struct sandbox_client *client,
			 const struct engine_command *cmd, uint32_t index)
{
	start_index(d, client, cmd, index);
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

	if (a->state == ATTEMPT_WAITS) {
		struct engine_command told = {.attempt_id = a->attempt,
					      .check = a->kind == ATTEMPT_CHECK};

		attempts_drop(d, a);
		attempts_not_started(d, &told, "killed", "it was cancelled before it began", false);
		return;
	}
	a->owner = d;
	if (!a->kill_timer)
		a->kill_timer = event_new(d->loop, -1, 0, on_kill_timer, a);
	if (now || a->state < ATTEMPT_LIVE || !a->kill_timer) {
		if (sandbox_client_kill(c, &a->id, NULL) < 0)
			daemon_log(d, "the keeper cannot be asked to kill an attempt");
		return;
	}
	if (sandbox_client_signal(c, &a->id, SIGTERM, NULL) < 0)
		daemon_log(d, "the keeper cannot be asked to signal an attempt");
	event_add(a->kill_timer, &tv);
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
	const struct journal_step *s;
	struct attempt *a;

	if (journal_state_each_run(d->rows, want, &w) == 0)
		return false;
	a = attempts_find(d, id);
	if (!a)
		a = add(d, id, ATTEMPT_STEP);
	if (!a)
		abort(); /* recovery starts over */
	a->kind = ATTEMPT_STEP;
	memcpy(a->attempt.b, id->b, sizeof(a->attempt.b));
	a->run = w.run->id;
	a->step = w.step;
	net_adopt(d, a);
	s = w.run->steps[w.step];
	if (a->state == ATTEMPT_ASKED &&
	    s->attempts[s->attempt_count - 1].state != JOURNAL_ATTEMPT_S_STARTING)
		attempts_move(a, ATTEMPT_LIVE);
	return true;
}

void attempts_disown(struct daemon *d, const struct sandbox_attempt_id *id)
{
	if (!attempts_find(d, id) && !add(d, id, ATTEMPT_STRANGER))
		abort();
}

static bool named(const struct sandbox_hello *h, const struct sandbox_attempt_id *id)
{
	for (size_t i = 0; h && i < h->found_count; i++)
		if (memcmp(&h->found[i].attempt, id, sizeof(*id)) == 0)
			return true;
	return false;
}

void attempts_after_loss(struct daemon *d, const struct sandbox_hello *h)
{
	struct attempt *a;

	for (a = d->attempts->first; a; a = a->next)
		a->marked = a->state != ATTEMPT_WAITS && !named(h, &a->id);
	for (;;) { /* a loss goes to the engine, which may change the list */
		for (a = d->attempts->first; a && !a->marked; a = a->next)
			;
		if (!a)
			return;
		a->marked = false;
		attempts_lose(d, a);
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
		if (sandbox_attempt_lives(d->spool_fd, &id) != 0)
			return 1; /* an error says nothing, and a living one must not be lost */
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
	a = add(d, &id, card ? ATTEMPT_CARD : ATTEMPT_DIFF);
	if (!a)
		return error_nomem(err);
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
	struct attempt *a = add(d, &spec->attempt, ATTEMPT_JOB);
	int r;

	if (!a)
		return error_nomem(err);
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
		n += a->kind == ATTEMPT_JOB;
	return n;
}
