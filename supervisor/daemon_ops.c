/*
 * The engine's hands: records and blobs go to the journal, commands into the queue that
 * daemon_settle() empties, and what it asks of a run (rules, programs, names) is looked up. Called
 * from within every call of the engine, so nothing here calls it back.
 */
#include "supervisor/daemon_private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/random.h>

#include "supervisor/asks.h"
#include "supervisor/confine.h"
#include "supervisor/notify.h"
#include "supervisor/program.h"
#include "supervisor/runs.h"

void daemon_command_free(struct daemon_command *c)
{
	if (!c)
		return;
	plan_step_free(c->spec);
	free(c->stack);
	buffer_free(&c->feedback);
	free(c);
}

struct daemon_command *daemon_command_copy(const struct engine_command *c)
{
	struct daemon_command *copy = calloc(1, sizeof(*copy));
	AUTO_BUFFER spec = {0};

	if (!copy)
		return NULL;
	copy->c = *c;
	if (c->spec) {
		if (plan_step_encode(c->spec, &spec) < 0 ||
		    plan_step_decode(buffer_bytes(&spec), &copy->spec) < 0)
			goto fail;
		copy->c.spec = copy->spec;
	}
	if (c->stack_count > 0) {
		copy->stack = calloc(c->stack_count, sizeof(*copy->stack));
		if (!copy->stack)
			goto fail;
		memcpy(copy->stack, c->stack, c->stack_count * sizeof(*copy->stack));
		copy->c.stack = (const char(*)[JOURNAL_LAYER_NAME_SIZE])copy->stack;
	}
	if (buffer_append(&copy->feedback, c->feedback.data, c->feedback.len) < 0)
		goto fail;
	copy->c.feedback = buffer_bytes(&copy->feedback);
	return copy;
fail:
	daemon_command_free(copy);
	return NULL;
}

static void op_record(void *ctx, struct journal_record *r)
{
	struct daemon *d = ctx;

	d->need_sync |= journal_type_synced(r->type);
	journal_append(d->journal, r, NULL);
	notify_record(d, r);
}

static int op_blob(void *ctx, struct bytes content, struct digest *ret)
{
	struct daemon *d = ctx;

	return journal_blob_put(d->journal, content, ret, NULL);
}

static int op_blob_read(void *ctx, const struct digest *digest, struct buffer *out)
{
	struct daemon *d = ctx;

	return journal_blob_get(d->journal, digest, JOURNAL_BLOB_MAX, out, NULL);
}

static void op_command(void *ctx, const struct engine_command *c)
{
	struct daemon *d = ctx;
	struct daemon_command *copy = daemon_command_copy(c);

	if (!copy)
		abort(); /* recovery issues it again */
	if (c->after_sync) {
		d->need_sync = true;
		copy->after = journal_last_lsn(d->journal);
	}
	*d->commands_end = copy;
	d->commands_end = &copy->next;
}

void daemon_new_id(struct journal_id *ret)
{
	if (getrandom(ret->b, sizeof(ret->b), 0) != sizeof(ret->b))
		abort();
	ret->b[6] = (uint8_t)((ret->b[6] & 0x0f) | 0x40); /* UUIDv4, RFC 9562 section 5.4 */
	ret->b[8] = (uint8_t)((ret->b[8] & 0x3f) | 0x80);
}

static void op_new_id(void *ctx, struct journal_id *ret)
{
	(void)ctx;
	daemon_new_id(ret);
}

void daemon_layer_name(const struct daemon *d, char mark, char ret[JOURNAL_LAYER_NAME_SIZE])
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
	uint8_t random[JOURNAL_LAYER_NAME_SIZE];

	do {
		if (getrandom(random, sizeof(random), 0) != sizeof(random))
			abort();
		for (int i = 0; i < JOURNAL_LAYER_NAME_SIZE - 1; i++)
			ret[i] = digits[random[i] & 31];
		if (mark)
			ret[0] = mark;
		ret[JOURNAL_LAYER_NAME_SIZE - 1] = '\0';
	} while (faccessat(d->layers_fd, ret, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
}

static void op_layer_name(void *ctx, const struct journal_run *run, const char *step,
			  char ret[JOURNAL_LAYER_NAME_SIZE])
{
	struct runs_context *c;

	/* Where the policy cannot be read the start says so. */
	if (runs_get(ctx, &run->id, &c, NULL) == 0 &&
	    !confine_stages(c->policy, step, run->workspace, c->settings.home))
		ret[0] = '\0';
	else
		daemon_layer_name(ctx, '\0', ret);
}

static int op_rules(void *ctx, const struct journal_run *run, struct engine_rules *ret)
{
	/* Lives until the next call, as the header asks. */
	static struct policy_settings s;
	struct daemon *d = ctx;
	struct runs_context *c;
	int r = runs_get(d, &run->id, &c, NULL);

	if (r < 0)
		return r;
	policy_settings(c->policy, &s);
	ret->decide_by_ns = (int64_t)s.decide_by_ms * 1000000;
	ret->execute_by_ns = (int64_t)s.execute_by_ms * 1000000;
	ret->quorum = s.quorum;
	ret->exclude_starter = s.exclude_starter;
	ret->exclude_uids = s.exclude_uids;
	ret->exclude_uid_count = s.exclude_uid_count;
	_Static_assert((int)ENGINE_ROLES_MAX >= (int)POLICY_LAYERS_MAX,
		       "each layer may say a role");
	for (size_t i = 0; i < s.role_count; i++)
		ret->roles[i] = (struct engine_role){s.roles[i].any, s.roles[i].count};
	ret->role_count = s.role_count;
	ret->signed_votes = s.signers != NULL;
	ret->freeze_ns = (int64_t)s.freeze_ms * 1000000;
	ret->suspend_ns = (int64_t)s.suspend_ms * 1000000;
	ret->unattended_deny = s.unattended == POLICY_UNATTENDED_DENY;
	return 0;
}

static int op_program(void *ctx, const struct journal_run *run, const struct journal_step *below,
		      const struct plan_step *spec, struct digest *ret)
{
	return program_digest(ctx, run, below, spec, ret);
}

static bool op_asks(void *ctx, const struct journal_run *run, const struct plan_step *spec)
{
	return asks_before(ctx, run, spec, NULL);
}

struct engine_ops daemon_ops(struct daemon *d)
{
	return (struct engine_ops){.ctx = d,
				   .record = op_record,
				   .blob = op_blob,
				   .blob_read = op_blob_read,
				   .command = op_command,
				   .new_id = op_new_id,
				   .layer_name = op_layer_name,
				   .rules = op_rules,
				   .program = op_program,
				   .asks = op_asks};
}
