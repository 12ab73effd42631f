#include "supervisor/sealing.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/escape.h"
#include "base/failpoint.h"
#include "supervisor/adopt.h"
#include "supervisor/attempts.h"
#include "supervisor/diff.h"
#include "supervisor/engine_private.h"
#include "supervisor/intact.h"
#include "supervisor/protect.h"
#include "supervisor/runs.h"
#include "supervisor/squash.h"
#include "supervisor/work.h"

/* ---- sealing ---- */

static void seal_failed(struct daemon *d, const struct journal_id *attempt, int r, const char *why)
{
	char filled[ERROR_MSG_MAX];

	if (r == -ENOSPC && attempts_filled(d, attempt, filled, sizeof(filled))) {
		r = -EFBIG; /* to the engine, a limit */
		why = filled;
	}
	daemon_check(d, engine_sealed(d->engine, daemon_now(), attempt, r, why, NULL, 0, 0),
		     "sealing failed");
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
static int check_protected(struct daemon *d, const struct adopt_request *q, struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, &q->run);
	const struct journal_step *step = journal_run_step_of(run, &q->attempt, NULL);
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

/* What people are told: a folder that overlayfs copied up to hold a change is none itself. At least 1: the layer is kept. */
static uint64_t paths_changed(struct daemon *d, const struct adopt_request *q, uint64_t entries)
{
	AUTO(manifest_free) struct manifest *own = NULL;
	struct error ignored = {0};
	uint64_t n = 0;

	if (entries == 0 || layers_read_manifest(d->layers_fd, q->layer, &own, &ignored) < 0)
		return entries;
	for (size_t i = 0; i < manifest_count(own); i++)
		n += manifest_entry_changes(manifest_at(own, i));
	return n > 0 ? n : 1;
}

static void sealed(struct daemon *d, const struct adopt_request *q,
		   const struct sealer_reply *reply)
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
				   paths_changed(d, q, reply->entries), reply->bytes),
		     "sealed");
}

static void on_sealed(struct daemon *d, struct adopt_request *q, const struct sandbox_event *e)
{
	if (e->type == SANDBOX_EVENT_LAYER)
		sealed(d, q, &e->layer);
}

/* It is idempotent: it only reads, and syncs. */
static void seal_again(struct daemon *d, struct adopt_request *q)
{
	sealing_seal(d, &q->run, &q->attempt, q->layer);
}

void sealing_seal(struct daemon *d, const struct journal_id *run_id,
		  const struct journal_id *attempt, const char *layer)
{
	static const struct adopt_kind kind = {.answered = on_sealed, .lost = seal_again};
	struct sealer_request q = {.op = SEALER_SEAL, .name_count = 1};
	struct adopt_request asked = {.kind = &kind, .run = *run_id, .attempt = *attempt};
	const struct journal_run *run = journal_state_run(d->rows, run_id);
	struct error err = {0};
	struct sandbox_client *client = adopt_client(d, &err);
	struct runs_context *ctx;
	int base_fd = -1;
	int r = client ? 0 : err.code;

	if (r == 0)
		r = runs_get(d, run_id, &ctx, &err);
	if (r == 0)
		r = runs_base(d, ctx, &base_fd, &err);
	if (r == 0)
		r = seal_limits(ctx, journal_run_step_of(run, attempt, NULL), &q, &err);
	if (r == 0) {
		snprintf(q.names[0], sizeof(q.names[0]), "%s", layer);
		r = sandbox_client_layer(client, &q, (uid_t)run->ws_uid, ctx->gid, base_fd,
					 &asked.number);
	}
	if (r < 0) {
		seal_failed(d, attempt, r, err.msg[0] ? err.msg : strerror(-r));
		return;
	}
	snprintf(asked.layer, sizeof(asked.layer), "%s", layer);
	adopt_await(d, &asked);
}

/* ---- removing ---- */

static void on_removed(struct daemon *d, struct adopt_request *q, const struct sandbox_event *e)
{
	if (e->type == SANDBOX_EVENT_LAYER && e->layer.result < 0)
		daemon_log(d, "layer %s could not be removed: %s", q->layer,
			   strerror(-e->layer.result));
}

static void remove_again(struct daemon *d, struct adopt_request *q)
{
	sealing_remove(d, q->layer);
}

static int ask_removal(struct daemon *d, const char *layer, uid_t uid, gid_t gid, struct error *err)
{
	static const struct adopt_kind kind = {.answered = on_removed, .lost = remove_again};
	struct sealer_request q = {.op = SEALER_REMOVE, .name_count = 1};
	struct adopt_request asked = {.kind = &kind};
	struct sandbox_client *client = adopt_client(d, err);
	int r = client ? 0 : err->code;

	snprintf(q.names[0], sizeof(q.names[0]), "%s", layer);
	if (r == 0)
		r = sandbox_client_layer(client, &q, uid, gid, -1, &asked.number);
	if (r < 0)
		return r;
	snprintf(asked.layer, sizeof(asked.layer), "%s", layer);
	adopt_await(d, &asked);
	return 0;
}

void sealing_remove(struct daemon *d, const char *layer)
{
	char upper[JOURNAL_LAYER_NAME_SIZE + 4];
	struct error err = {0};
	struct stat st;
	int r;

	/* Its upper folder tells whose it is: root's runs have several owners. */
	snprintf(upper, sizeof(upper), "%s/" LAYERS_UPPER, layer);
	if (layers_check_name(layer) < 0 ||
	    (fstatat(d->layers_fd, upper, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
	     fstatat(d->layers_fd, layer, &st, AT_SYMLINK_NOFOLLOW) < 0))
		return;
	r = ask_removal(d, layer, st.st_uid, st.st_gid, &err);
	if (r < 0)
		daemon_log(d, "layer %s stays until the next start: %s", layer,
			   err.msg[0] ? err.msg : strerror(-r));
}

/* ---- squashing ---- */

static void on_squashed(struct daemon *d, struct adopt_request *q, const struct sandbox_event *e)
{
	squash_done(d, q->layer,
		    e->type == SANDBOX_EVENT_LAYER ? e->layer.result
		    : e->reply.result < 0	   ? e->reply.result
						   : -EPROTO);
}

static void squash_lost(struct daemon *d, struct adopt_request *q)
{
	squash_done(d, q->layer, -ECONNRESET);
}

int sealing_squash(struct daemon *d, const struct journal_id *run_id,
		   const struct sealer_request *q, struct error *err)
{
	static const struct adopt_kind kind = {.answered = on_squashed, .lost = squash_lost};
	const struct journal_run *run = journal_state_run(d->rows, run_id);
	struct adopt_request asked = {.kind = &kind, .run = *run_id};
	struct sandbox_client *client = run ? adopt_client(d, err) : NULL;
	struct runs_context *ctx;
	int r = client ? 0 : run ? err->code : -ENOENT;

	if (r == 0)
		r = runs_get(d, run_id, &ctx, err);
	if (r == 0)
		r = runs_workspace(d, ctx, err);
	if (r == 0)
		r = sandbox_client_layer(client, q, (uid_t)run->ws_uid, ctx->gid, -1,
					 &asked.number);
	if (r < 0)
		return r;
	memcpy(asked.layer, q->into, sizeof(asked.layer));
	adopt_await(d, &asked);
	return 0;
}
