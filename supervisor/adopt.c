#include "supervisor/adopt.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cbor.h"
#include "base/escape.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "supervisor/attempts.h"
#include "supervisor/diffs.h"
#include "supervisor/engine_private.h"
#include "supervisor/intact.h"
#include "supervisor/net.h"
#include "supervisor/protect.h"
#include "supervisor/runs.h"
#include "supervisor/squash.h"
#include "supervisor/work.h"

enum {
	LOCK_WAIT_MS = 5000, /* for processes to die with their keeper */
	CONNECT_TRIES =
		20, /* of a keeper that is there and does not answer, as one that is dying */
	CONNECT_PAUSE_MS = 50,
	CONNECT_TIMEOUTS = 2, /* each has waited for SANDBOX_OPEN_TIMEOUT_MS already */
	START_TRIES = 3,
	GARBAGE_AFTER_MS = 2000,
	GARBAGE_AGAIN_MS = 30000, /* while an adopted attempt may stand on a squashed layer */
};

struct request { /* of which an answer is awaited */
	struct request *next;
	uint64_t number;
	enum { ASKED_SEAL, ASKED_REMOVE, ASKED_PTY, ASKED_SQUASH, ASKED_NET } what;
	enum adopt_net_what net;
	struct journal_id run, attempt;
	char layer[JOURNAL_LAYER_NAME_SIZE];
	uint64_t ticket;
};

struct adopt {
	struct sandbox_client *client;
	struct event *event;
	struct event *garbage;
	struct request *requests;
	bool lost; /* the connection ended during a dispatch: to be opened anew */
};

static void on_keeper(evutil_socket_t fd, short what, void *arg);
static void on_garbage(evutil_socket_t fd, short what, void *arg);
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

static bool nobody_listens(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED;
}

/* -ENOENT, -ECONNREFUSED: there is none. -ESTALE: a newer supervisor has it. Any other says nothing
 * of the keeper's state (it may be dying in its hello, or descriptors may be short), so it is asked
 * again before it is believed. */
static int connect_keeper(struct daemon *d, struct error *err)
{
	struct timespec pause = {.tv_nsec = CONNECT_PAUSE_MS * 1000 * 1000};
	struct error last = {0};
	int timeouts = 0, r = 0;

	for (int i = 0; i < CONNECT_TRIES && timeouts < CONNECT_TIMEOUTS; i++) {
		if (i > 0)
			nanosleep(&pause, NULL);
		last = (struct error){0};
		r = sandbox_client_open(d->paths.runtime_fd, d->epoch, on_event, d,
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

struct sandbox_client *adopt_client(struct daemon *d, struct error *err)
{
	return need_keeper(d, err) < 0 ? NULL : d->adopt->client;
}

uint64_t adopt_look(struct daemon *d)
{
	AUTO(sandbox_client_free) struct sandbox_client *c = NULL;

	if (sandbox_client_open(d->paths.runtime_fd, 0, on_event, d, &c, NULL) < 0)
		return 0;
	return sandbox_client_hello(c)->keeper_epoch;
}

pid_t adopt_keeper_pid(const struct daemon *d)
{
	return d->adopt->client ? sandbox_client_hello(d->adopt->client)->keeper_pid : 0;
}

static void await(struct daemon *d, const struct request *like)
{
	struct request *r = malloc(sizeof(*r));

	if (!r)
		abort(); /* an answer that nobody waits for would be forgotten: recovery knows
			    better */
	*r = *like;
	r->next = d->adopt->requests;
	d->adopt->requests = r;
}

static struct request *take_request(struct adopt *a, uint64_t number)
{
	for (struct request **at = &a->requests; *at; at = &(*at)->next) {
		struct request *r = *at;

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

static void seal_failed(struct daemon *d, const struct journal_id *attempt, int r, const char *why)
{
	daemon_check(d, engine_sealed(d->engine, daemon_now(), attempt, r, why, NULL, 0, 0),
		     "sealing failed");
}

static const struct journal_step *step_of(const struct journal_run *run,
					  const struct journal_id *attempt)
{
	for (uint32_t i = 0; run && i < run->step_count; i++) {
		const struct journal_step *s = run->steps[i];

		if (s->attempt_count > 0 &&
		    journal_id_equal(&s->attempts[s->attempt_count - 1].id, attempt))
			return s;
	}
	return NULL;
}

/* The attempt was looked at now and then while it ran; what it wrote in the end is counted here. */
static int seal_limits(const struct runs_context *ctx, const struct journal_step *step,
		       struct sealer_request *q, struct error *err)
{
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	struct policy_settings s;
	int r = step ? policy_effective_step(ctx->policy, step->name, POLICY_AGENCY_UNSET, &e, err)
		     : -ENOENT;

	if (r < 0)
		return r;
	policy_settings(e, &s);
	q->bytes_max = s.limits.value[POLICY_LIMIT_DISK];
	q->entries_max = s.limits.value[POLICY_LIMIT_FILES];
	if (q->entries_max > MANIFEST_ENTRIES_MAX)
		q->entries_max = MANIFEST_ENTRIES_MAX;
	return 0;
}

static void perform_seal(struct daemon *d, const struct engine_command *c)
{
	struct sealer_request q = {.op = SEALER_SEAL, .name_count = 1};
	struct request asked = {.what = ASKED_SEAL, .run = c->run, .attempt = c->attempt_id};
	const struct journal_run *run = journal_state_run(d->rows, &c->run);
	struct runs_context *ctx;
	struct error err = {0};
	int base_fd = -1;
	int r = need_keeper(d, &err);

	if (r == 0)
		r = runs_get(d, &c->run, &ctx, &err);
	if (r == 0)
		r = runs_base(d, ctx, &base_fd, &err);
	if (r == 0)
		r = seal_limits(ctx, step_of(run, &c->attempt_id), &q, &err);
	if (r == 0) {
		memcpy(q.names[0], c->layer, sizeof(q.names[0]));
		r = sandbox_client_layer(d->adopt->client, &q, (uid_t)run->ws_uid, ctx->gid,
					 base_fd, &asked.number);
	}
	if (r < 0) {
		seal_failed(d, &c->attempt_id, r, err.msg[0] ? err.msg : strerror(-r));
		return;
	}
	memcpy(asked.layer, c->layer, sizeof(asked.layer));
	await(d, &asked);
	watch(d);
}

static void remove_layer(struct daemon *d, const char *layer, uid_t uid, gid_t gid)
{
	struct sealer_request q = {.op = SEALER_REMOVE, .name_count = 1};
	struct request asked = {.what = ASKED_REMOVE};
	struct error err = {0};
	int r;

	if (layers_check_name(layer) < 0 ||
	    faccessat(d->layers_fd, layer, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	r = need_keeper(d, &err);
	memcpy(q.names[0], layer, sizeof(q.names[0]));
	if (r == 0)
		r = sandbox_client_layer(d->adopt->client, &q, uid, gid, -1, &asked.number);
	if (r < 0) {
		daemon_log(d, "layer %s stays until the next start: %s", layer,
			   err.msg[0] ? err.msg : strerror(-r));
		return;
	}
	memcpy(asked.layer, layer, sizeof(q.names[0]));
	await(d, &asked);
	watch(d);
}

static void perform_remove(struct daemon *d, const struct engine_command *c)
{
	struct stat st;

	/* Its upper folder tells whose it is: root's runs have several owners. */
	char upper[JOURNAL_LAYER_NAME_SIZE + 4];

	snprintf(upper, sizeof(upper), "%s/" LAYERS_UPPER, c->layer);
	if (fstatat(d->layers_fd, upper, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
	    fstatat(d->layers_fd, c->layer, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	remove_layer(d, c->layer, st.st_uid, st.st_gid);
}

void adopt_remove_layer(struct daemon *d, const char *layer)
{
	struct engine_command c = {.kind = ENGINE_REMOVE_LAYER};

	snprintf(c.layer, sizeof(c.layer), "%s", layer);
	perform_remove(d, &c);
}

int adopt_squash(struct daemon *d, const struct journal_id *run_id, const struct sealer_request *q,
		 struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, run_id);
	struct request asked = {.what = ASKED_SQUASH, .run = *run_id};
	struct runs_context *ctx;
	int r = run ? need_keeper(d, err) : -ENOENT;

	if (r == 0)
		r = runs_get(d, run_id, &ctx, err);
	if (r == 0)
		r = runs_workspace(d, ctx, err);
	if (r == 0)
		r = sandbox_client_layer(d->adopt->client, q, (uid_t)run->ws_uid, ctx->gid, -1,
					 &asked.number);
	if (r < 0)
		return r;
	memcpy(asked.layer, q->into, sizeof(asked.layer));
	await(d, &asked);
	watch(d);
	return 0;
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

int adopt_net(struct daemon *d, enum adopt_net_what what, const struct journal_id *run,
	      const struct sandbox_net *n, struct error *err)
{
	struct request asked = {.what = ASKED_NET, .net = what, .run = *run};
	struct sandbox_net_id id;
	int r = 0;

	if (what == ADOPT_NET_CLOSE && !d->adopt->client)
		return 0;
	r = need_keeper(d, err);
	if (r < 0)
		return r;
	memcpy(id.b, run->b, sizeof(id.b));
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
	await(d, &asked);
	watch(d);
	return 0;
}

static void perform_start(struct daemon *d, const struct engine_command *c)
{
	struct error err = {0};
	int r = need_keeper(d, &err);

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
		perform_seal(d, c);
		break;
	case ENGINE_REMOVE_LAYER:
		perform_remove(d, c);
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

/*
 * What the layer changes of what the step saw. By itself a layer tells its changes over the base:
 * it does not name what an earlier step made and this one removed along with a folder.
 */
static int net_change(struct daemon *d, const struct journal_run *run, const char *layer,
		      struct manifest **ret, struct error *err)
{
	AUTO(manifest_free) struct manifest *own = NULL;
	struct landing_layer top = {0};
	struct work_stack below = {0};
	int r = layers_read_manifest(d->layers_fd, layer, &own, err);

	if (r == 0)
		r = work_stack(d, run, NULL, &below, err);
	if (r == 0 && below.count > 0) {
		snprintf(top.name, sizeof(top.name), "%s", layer);
		top.manifest = own;
		r = diff_net(below.layers, below.count, &top, 1, ret, err);
	} else if (r == 0) {
		*ret = take_ptr(own);
	}
	work_stack_free(&below);
	return r;
}

/* A layer that changes what its contract protects does not commit, whatever the checks would say.
 */
static int check_protected(struct daemon *d, const struct request *q, struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, &q->run);
	const struct journal_step *step = step_of(run, &q->attempt);
	AUTO(plan_step_free) struct plan_step *spec = NULL;
	AUTO(manifest_free) struct manifest *m = NULL;
	AUTO_FREE char *shown = NULL;
	struct bytes path;
	const char *glob;
	int r = step ? engine_input_spec(d->engine, &step->input, &spec) : -ENOENT;

	if (r < 0)
		return error_set(err, r, "cannot read what the step may change: %s", strerror(-r));
	if (!spec->protected_globs)
		return 0;
	r = net_change(d, run, q->layer, &m, err);
	if (r < 0 || !protect_violated(spec->protected_globs, m, &path, &glob))
		return r;
	shown = escape_dup(path, ESCAPE_LINE);
	return error_set_exit(err, -EPERM, EXIT_STATUS_CONTRACT,
			      "protected path changed: %.120s ('%.60s')", shown ? shown : "", glob);
}

static void on_sealed(struct daemon *d, const struct request *q, const struct sealer_reply *reply)
{
	char name[JOURNAL_LAYER_NAME_SIZE + 4];
	struct runs_context *ctx;
	struct digest manifest;
	struct error err = {0};
	uint64_t size;
	AUTO_FD fd = -1;
	int r;

	if (reply->result < 0) {
		AUTO_FREE char *why = bytes_dup_str(reply->message);

		seal_failed(d, &q->attempt, reply->result,
			    why && why[0] ? why : strerror(-reply->result));
		return;
	}
	snprintf(name, sizeof(name), "%s/" LAYERS_MANIFEST, q->layer);
	fd = openat(d->layers_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	r = fd < 0 ? -errno
		   : journal_blob_put_fd(d->journal, fd, MANIFEST_BYTES_MAX, &manifest, &size,
					 &err);
	if (r < 0) {
		seal_failed(d, &q->attempt, r,
			    err.msg[0] ? err.msg : "the manifest cannot be read");
		return;
	}
	r = check_protected(d, q, &err);
	if (r < 0) {
		seal_failed(d, &q->attempt, r, err.msg);
		return;
	}
	if (failpoint_hit("adopt.sealed") < 0)
		return;
	if (runs_get(d, &q->run, &ctx, NULL) == 0)
		intact_note(ctx, q->layer);
	daemon_check(d,
		     engine_sealed(d->engine, daemon_now(), &q->attempt, 0, NULL, &manifest,
				   reply->entries, reply->bytes),
		     "sealed");
}

static void on_reply(struct daemon *d, const struct sandbox_event *e)
{
	struct request *q = take_request(d->adopt, e->request);
	struct api_answer a = {.fd = -1};
	struct error err = {0};

	if (!q)
		return;
	if (e->type == SANDBOX_EVENT_LAYER && q->what == ASKED_SEAL) {
		on_sealed(d, q, &e->layer);
	} else if (e->type == SANDBOX_EVENT_LAYER && q->what == ASKED_REMOVE) {
		if (e->layer.result < 0)
			daemon_log(d, "layer %s could not be removed: %s", q->layer,
				   strerror(-e->layer.result));
	} else if (q->what == ASKED_NET) {
		if (e->type == SANDBOX_EVENT_REPLY)
			net_answered(d, &q->run, q->net, e->reply.result, &e->reply.error,
				     e->fd_count == 1 ? take_fd(&e->fds[0]) : -1);
	} else if (q->what == ASKED_SQUASH) {
		squash_done(d, q->layer,
			    e->type == SANDBOX_EVENT_LAYER ? e->layer.result
			    : e->reply.result < 0	   ? e->reply.result
							   : -EPROTO);
	} else if (q->what == ASKED_PTY) {
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

/* Their keeper is gone: its sandboxes die with it. Their locks say when. */
static void wait_for_locks(struct daemon *d)
{
	struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};

	for (int waited = 0; waited < LOCK_WAIT_MS && attempts_locked(d); waited += 5)
		nanosleep(&pause, NULL);
	/* Processes outlive the lock by some 50 us (sandbox_attempt_lives). */
	nanosleep(&pause, NULL);
}

/* Seals and removals that were on their way are asked for again; they are idempotent. */
static void ask_again(struct daemon *d)
{
	struct request *old = take_ptr(d->adopt->requests);

	while (old) {
		struct request *q = old;
		struct engine_command c = {.kind = ENGINE_SEAL,
					   .run = q->run,
					   .attempt_id = q->attempt};
		struct api_answer a = {.fd = -1};
		struct error err = {0};

		old = q->next;
		memcpy(c.layer, q->layer, sizeof(c.layer));
		if (q->what == ASKED_PTY) {
			error_set(&err, -EAGAIN,
				  "the keeper was lost: the terminal is gone with it; start the "
				  "command again");
			api_answer_error(&a, 503, &err);
			api_server_answer(d->api, q->ticket, &a);
		} else if (q->what == ASKED_REMOVE) {
			perform_remove(d, &c);
		} else if (q->what == ASKED_SQUASH) {
			squash_done(d, q->layer, -ECONNRESET);
		} else if (q->what == ASKED_SEAL) {
			perform_seal(d, &c);
		}
		free(q);
	}
}

static void on_lost(struct daemon *d)
{
	struct error err = {0};
	int r;

	d->adopt->lost = false;
	disconnect(d->adopt);
	r = connect_keeper(d, &err);
	if (r == -ESTALE) { /* epoch fence */
		daemon_log(d, "the keeper was taken over: %s", err.msg);
		daemon_stop(d);
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
	if (r < 0) {
		daemon_log(d, "the keeper is gone: its attempts are lost");
		wait_for_locks(d);
	}
	attempts_after_loss(d, r == 0 ? sandbox_client_hello(d->adopt->client) : NULL);
	ask_again(d);
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
	struct timeval soon = {.tv_sec = GARBAGE_AFTER_MS / 1000};
	struct engine_found *found;
	struct error quiet = {0};
	size_t count;
	int r = connect_keeper(d, &quiet);

	if (r < 0 && !nobody_listens(r)) {
		*err = quiet;
		return r;
	}
	if (r < 0)
		wait_for_locks(d);
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
	event_add(d->adopt->garbage, &soon);
	return r;
}

/* ---- layers that the journal does not know ---- */

struct garbage {
	char (*names)[JOURNAL_LAYER_NAME_SIZE];
	size_t count;
};

static int note_layer(void *arg, const char *name, bool sealed)
{
	struct garbage *g = arg;
	void *more = realloc(g->names, (g->count + 1) * sizeof(*g->names));

	(void)sealed;
	if (!more)
		return -ENOMEM;
	g->names = more;
	memcpy(g->names[g->count], name, strlen(name) + 1);
	g->count++;
	return 0;
}

static void strike(struct garbage *g, const char *name)
{
	for (size_t i = 0; i < g->count; i++)
		if (strcmp(g->names[i], name) == 0)
			memcpy(g->names[i], g->names[--g->count], sizeof(g->names[0]));
}

static int strike_run(const struct journal_run *run, void *arg)
{
	for (uint32_t i = 0; i < run->step_count; i++) {
		const struct journal_step *s = run->steps[i];

		strike(arg, s->layer);
		for (uint32_t k = 0; k < s->attempt_count; k++)
			strike(arg, s->attempts[k].layer);
	}
	return 0;
}

/* Rows of ended runs are read only while some name is unexplained. */
static int strike_ended(struct daemon *d, struct garbage *g)
{
	enum { RUNS_MAX = 100000 };
	AUTO_FREE struct journal_id *ids = calloc(RUNS_MAX, sizeof(*ids));
	int n = ids ? journal_list_runs(d->journal, RUNS_MAX, ids) : -ENOMEM;

	for (int i = 0; i < n && g->count > 0; i++) {
		const struct journal_run *run = journal_state_run(d->rows, &ids[i]);

		if (!run && journal_load_run(d->journal, &ids[i], NULL) == 0)
			run = journal_state_run(d->rows, &ids[i]);
		if (!run)
			return -EIO; /* then every name may be its own */
		(void)!strike_run(run, g);
	}
	return n < 0 || n == RUNS_MAX ? -E2BIG : 0;
}

/* Those of an earlier supervisor go when nothing lives that may stand on them. True while they
 * stay. */
static bool strike_squashed(const struct daemon *d, struct garbage *g)
{
	bool stay = false;

	for (size_t i = 0; i < g->count;) {
		bool known = squash_knows(d, g->names[i]);

		if (known || (squash_is(g->names[i]) && attempts_adopted(d))) {
			stay |= !known;
			memcpy(g->names[i], g->names[--g->count], sizeof(g->names[0]));
		} else {
			i++;
		}
	}
	return stay;
}

static void remove_all(struct daemon *d, const struct garbage *g, bool squashed)
{
	for (size_t i = 0; i < g->count; i++)
		if (squash_is(g->names[i]) == squashed)
			adopt_remove_layer(d, g->names[i]);
}

static void strike_all_squashed(struct garbage *g)
{
	for (size_t i = 0; i < g->count;)
		if (squash_is(g->names[i]))
			memcpy(g->names[i], g->names[--g->count], sizeof(g->names[0]));
		else
			i++;
}

static void on_garbage(evutil_socket_t fd, short what, void *arg)
{
	struct timeval again = {.tv_sec = GARBAGE_AGAIN_MS / 1000};
	struct daemon *d = arg;
	struct garbage g = {0};

	(void)fd;
	(void)what;
	if (layers_each(d->layers_fd, note_layer, &g, NULL) == 0) {
		if (strike_squashed(d, &g))
			event_add(d->adopt->garbage, &again);
		remove_all(d, &g, true);
		strike_all_squashed(&g);
		(void)!journal_state_each_run(d->rows, strike_run, &g);
		if (g.count > 0 && strike_ended(d, &g) < 0)
			g.count = 0;
		remove_all(d, &g, false);
	}
	free(g.names);
	daemon_settle(d);
}

void adopt_collect(struct daemon *d)
{
	struct timeval now = {0};

	event_add(d->adopt->garbage, &now);
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

	if (!a || !d->adopt->client || !a->live)
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

int adopt_pty(struct daemon *d, const struct journal_id *attempt, uint64_t ticket,
	      struct error *err)
{
	struct attempt *a = attempts_of(d, attempt);
	struct request asked = {.what = ASKED_PTY, .attempt = *attempt, .ticket = ticket};
	int r;

	if (!a || !d->adopt->client || a->exited)
		return no_attempt(err);
	if (!a->live) { /* asked for when it starts: on_event */
		a->pty_ticket = ticket;
		return 0;
	}
	r = sandbox_client_pty(d->adopt->client, &a->id, &asked.number);
	if (r < 0)
		return error_set(err, r, "the terminal was not asked for: %s", strerror(-r));
	await(d, &asked);
	watch(d);
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

	return a && !a->exited;
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

int adopt_new(struct daemon *d, struct adopt **ret, struct error *err)
{
	struct adopt *a = calloc(1, sizeof(*a));

	if (!a)
		return error_nomem(err);
	a->garbage = event_new(d->loop, -1, 0, on_garbage, d);
	if (!a->garbage) {
		free(a);
		return error_nomem(err);
	}
	*ret = a;
	return 0;
}

void adopt_free(struct adopt *a)
{
	if (!a)
		return;
	disconnect(a);
	if (a->garbage)
		event_free(a->garbage);
	while (a->requests) {
		struct request *q = a->requests;

		a->requests = q->next;
		free(q);
	}
	free(a);
}
