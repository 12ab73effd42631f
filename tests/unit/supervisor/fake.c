/* The pretended daemon of the engine's tests. */
#include "tests/unit/supervisor/fake.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "base/guard.h"
#include "tests/unit/journal/canonical.h"

struct engine_now fake_now(struct fake *f)
{
	f->wall_ns += 1000;
	f->mono_ns += 1000;
	return (struct engine_now){.wall_ns = f->wall_ns, .mono_ns = f->mono_ns};
}

/* ---- journal ---- */

static void on_record(void *ctx, struct journal_record *r)
{
	struct fake *f = ctx;
	AUTO_BUFFER b = {0};
	struct error err = {0};
	struct digest hash;
	size_t len;

	journal_state_fill(f->rows, r);
	r->wall_ns = f->wall_ns;
	r->mono_ns = f->mono_ns;
	memcpy(r->boot_id, f->boot_id, sizeof(r->boot_id));
	if (f->on_record)
		f->on_record(f, r);
	int rc = journal_record_encode(r, &b);
	if (rc < 0)
		FAKE_FAIL("record %s cannot be encoded: %d", journal_type_name(r->type), rc);
	journal_record_hash(buffer_bytes(&b), &hash);
	if (journal_fold(f->rows, r, &hash, &err) < 0)
		FAKE_FAIL("%s", err.msg);
	f->log = reallocarray(f->log, f->log_count + 1, sizeof(*f->log));
	f->log[f->log_count].type = r->type;
	f->log[f->log_count].run = r->run;
	f->log[f->log_count].step = r->step;
	f->log[f->log_count].data = buffer_take(&b, &len);
	f->log[f->log_count].len = len;
	f->log_count++;
	if (f->die_after && --f->die_after == 0)
		f->dying = true;
}

static int put_blob(void *ctx, struct bytes content, struct digest *ret)
{
	struct fake *f = ctx;

	digest_of(content, ret);
	for (size_t i = 0; i < f->blob_count; i++)
		if (digest_equal(&f->blobs[i].d, ret))
			return 0;
	f->blobs = reallocarray(f->blobs, f->blob_count + 1, sizeof(*f->blobs));
	f->blobs[f->blob_count].d = *ret;
	f->blobs[f->blob_count].data = bytes_dup_str(content);
	f->blobs[f->blob_count].len = content.len;
	f->blob_count++;
	return 0;
}

static int get_blob(void *ctx, const struct digest *d, struct buffer *out)
{
	struct fake *f = ctx;

	for (size_t i = 0; i < f->blob_count; i++)
		if (digest_equal(&f->blobs[i].d, d))
			return buffer_append(out, f->blobs[i].data, f->blobs[i].len);
	return -ENOENT;
}

struct digest fake_blob(struct fake *f, const char *text)
{
	struct digest d;

	put_blob(f, bytes_str(text), &d);
	return d;
}

struct digest fake_blob_bytes(struct fake *f, struct bytes content)
{
	struct digest d;

	put_blob(f, content, &d);
	return d;
}

void fake_blob_get(struct fake *f, const struct digest *d, struct buffer *out)
{
	if (get_blob(f, d, out) < 0)
		FAKE_FAIL("no such blob");
}

struct digest fake_conflicts(struct fake *f, const char *const *paths)
{
	AUTO_BUFFER b = {0};
	struct digest d;
	size_t n = 0;

	while (paths[n])
		n++;
	cbor_w_map(&b, 2);
	cbor_w_uint(&b, 1);
	cbor_w_uint(&b, 1);
	cbor_w_uint(&b, 10);
	cbor_w_array(&b, n);
	for (size_t i = 0; i < n; i++) {
		cbor_w_map(&b, 2);
		cbor_w_uint(&b, 1);
		cbor_w_bytes(&b, bytes_str(paths[i]));
		cbor_w_uint(&b, 2);
		cbor_w_uint(&b, 1);
	}
	put_blob(f, buffer_bytes(&b), &d);
	return d;
}

/* ---- commands ---- */

static void on_command(void *ctx, const struct engine_command *c)
{
	struct fake *f = ctx;
	struct fake_command *k;

	if (f->dying)
		return;
	if (f->on_command)
		f->on_command(f, c);
	if (f->command_count == FAKE_COMMANDS_MAX)
		FAKE_FAIL("too many commands");
	k = &f->commands[f->command_count++];
	*k = (struct fake_command){.c = *c, .stack_count = c->stack_count, .batch = f->batch_count};
	for (size_t i = 0; i < c->stack_count && i < ARRAY_SIZE(k->stack); i++)
		memcpy(k->stack[i], c->stack[i], sizeof(k->stack[i]));
	if (c->spec)
		snprintf(k->spec_name, sizeof(k->spec_name), "%s", c->spec->name);
	snprintf(k->feedback, sizeof(k->feedback), "%.*s", (int)c->feedback.len,
		 c->feedback.len ? (const char *)c->feedback.data : "");
	k->c.stack = NULL;
	k->c.spec = NULL;
	k->c.feedback = (struct bytes){0};
}

void fake_take_at(struct fake *f, size_t i, struct fake_command *ret)
{
	*ret = f->commands[i];
	memmove(&f->commands[i], &f->commands[i + 1],
		(f->command_count - i - 1) * sizeof(f->commands[0]));
	f->command_count--;
}

bool fake_take(struct fake *f, enum engine_command_kind kind, struct fake_command *ret)
{
	for (size_t i = 0; i < f->command_count; i++) {
		if (f->commands[i].c.kind != kind)
			continue;
		fake_take_at(f, i, ret);
		return true;
	}
	return false;
}

static void new_id(void *ctx, struct journal_id *ret)
{
	struct fake *f = ctx;
	struct digest d;
	uint64_t n = ++f->ids;

	digest_of(bytes_of(&n, sizeof(n)), &d);
	memcpy(ret->b, d.b, sizeof(ret->b));
}

static void layer_name(void *ctx, const struct journal_run *run, const char *step,
		       char ret[JOURNAL_LAYER_NAME_SIZE])
{
	struct fake *f = ctx;

	(void)run;
	(void)step;
	snprintf(ret, JOURNAL_LAYER_NAME_SIZE, "L%05llu",
		 (unsigned long long)(++f->layers % 100000));
}

static int rules(void *ctx, const struct journal_run *run, struct engine_rules *ret)
{
	struct fake *f = ctx;

	(void)run;
	if (f->has_rules && f->rules_error == 0)
		*ret = f->rules;
	return f->rules_error;
}

static int program(void *ctx, const struct journal_run *run, const struct journal_step *below,
		   const struct plan_step *spec, struct digest *ret)
{
	struct fake *f = ctx;

	(void)run;
	(void)below;
	(void)spec;
	*ret = (struct digest){{f->program}};
	return f->program != UINT8_MAX;
}

static bool asks(void *ctx, const struct journal_run *run, const struct plan_step *spec)
{
	struct fake *f = ctx;

	(void)run;
	return f->asked && spec->argv && strcmp(spec->argv[0], f->asked) == 0;
}

/* ---- life ---- */

static void new_engine(struct fake *f)
{
	const struct engine_ops ops = {.ctx = f,
				       .record = on_record,
				       .blob = put_blob,
				       .blob_read = get_blob,
				       .command = on_command,
				       .new_id = new_id,
				       .layer_name = layer_name,
				       .rules = rules,
				       .asks = asks,
				       .program = f->program ? program : NULL};

	if (engine_new(f->rows, &ops, &f->limits, &f->e) < 0)
		FAKE_FAIL("no engine");
}

static void begin_epoch(struct fake *f)
{
	struct journal_record r = {.step = JOURNAL_NO_STEP, .type = JOURNAL_EPOCH_BEGUN};

	r.epoch = journal_state_epoch(f->rows) + 1;
	JOURNAL_SET(&r.p, version, bytes_str("0"));
	on_record(f, &r);
	fake_flush(f);
}

void fake_init(struct fake *f)
{
	*f = (struct fake){.wall_ns = 1700000000000000000, .mono_ns = 1000000000};
	f->boot_id[0] = 1;
	f->rows = journal_state_new();
	begin_epoch(f);
	new_engine(f);
}

void fake_free(struct fake *f)
{
	engine_free(f->e);
	journal_state_free(f->rows);
	for (size_t i = 0; i < f->blob_count; i++)
		free(f->blobs[i].data);
	for (size_t i = 0; i < f->log_count; i++)
		free(f->log[i].data);
	free(f->blobs);
	free(f->log);
	free(f->batches);
}

static void truncate_log(struct fake *f, size_t to)
{
	while (f->log_count > to)
		free(f->log[--f->log_count].data);
}

bool fake_flush(struct fake *f)
{
	struct fake_batch b = {.first = f->kept, .count = f->log_count - f->kept};

	if (f->dying)
		return false;
	for (size_t i = f->kept; i < f->log_count; i++)
		b.synced |= journal_type_synced(f->log[i].type);
	for (size_t i = 0; i < f->command_count; i++)
		b.synced |= f->commands[i].batch == f->batch_count && f->commands[i].c.after_sync;
	f->batches = reallocarray(f->batches, f->batch_count + 1, sizeof(*f->batches));
	f->batches[f->batch_count++] = b;
	f->kept = f->log_count;
	return true;
}

static struct journal_state *replay(struct fake *f)
{
	struct journal_state *rows = journal_state_new();

	for (size_t i = 0; i < f->log_count; i++) {
		struct journal_record r;
		struct error err = {0};
		struct digest hash;
		struct bytes b = bytes_of(f->log[i].data, f->log[i].len);

		if (journal_record_decode(b, &r) < 0)
			FAKE_FAIL("a record cannot be decoded");
		journal_record_hash(b, &hash);
		if (journal_fold(rows, &r, &hash, &err) < 0)
			FAKE_FAIL("replay: %s", err.msg);
	}
	return rows;
}

void fake_check_status(struct fake *f, const struct journal_run *run)
{
	struct status *s = NULL;

	if (status_of(f->rows, run, &s) < 0)
		FAKE_FAIL("no status");
	for (size_t i = 0; i < s->open_count; i++) {
		const struct status_open *o = &s->open[i];

		if (o->lsn == 0 || o->lsn > f->log_count)
			FAKE_FAIL("%s is proved by no record: lsn %llu", o->event,
				  (unsigned long long)o->lsn);
		if (strcmp(journal_type_name(f->log[o->lsn - 1].type), o->event) != 0 ||
		    !journal_id_equal(&f->log[o->lsn - 1].run, &run->id) ||
		    f->log[o->lsn - 1].step != (o->step ? o->step->index : JOURNAL_NO_STEP))
			FAKE_FAIL("lsn %llu is %s and no %s of it", (unsigned long long)o->lsn,
				  journal_type_name(f->log[o->lsn - 1].type), o->event);
	}
	status_free(s);
}

static int check_status(const struct journal_run *run, void *arg)
{
	fake_check_status(arg, run);
	return 0;
}

void fake_check_replay(struct fake *f)
{
	struct journal_state *again = replay(f);
	AUTO_BUFFER a = {0}, b = {0};

	if (canonical_rows(f->rows, &a) < 0 || canonical_rows(again, &b) < 0 ||
	    !bytes_equal(buffer_bytes(&a), buffer_bytes(&b)))
		FAKE_FAIL("live rows and replayed rows differ");
	journal_state_free(again);
	journal_state_each_run(f->rows, check_status, f);
}

static void perform_at_once(struct fake *f)
{
	size_t n = 0;

	/* A command that had to wait for the sync of the lost batch, or was not performed yet, died
	 * with its daemon. */
	for (size_t i = 0; i < f->command_count; i++) {
		const struct engine_command *c = &f->commands[i].c;
		struct fake_attempt *a;

		if (c->after_sync || c->check)
			continue;
		a = fake_attempt(f, &c->attempt_id);
		if (c->kind == ENGINE_START_ATTEMPT && !a && f->attempt_count < FAKE_ATTEMPTS_MAX)
			f->attempts[f->attempt_count++] = (struct fake_attempt){.id = c->attempt_id,
										.run = c->run,
										.step = c->step,
										.live = true};
		else if (c->kind == ENGINE_KILL_ATTEMPT && a)
			a->killed = true;
	}
	f->command_count = n;
}

/* Of a step that is not over; else its record was never written, or something came after it. */
static bool is_last_attempt(struct fake *f, const struct fake_attempt *a)
{
	const struct journal_run *run = journal_state_run(f->rows, &a->run);
	const struct journal_step *s =
		run && a->step < run->step_count ? run->steps[a->step] : NULL;

	return s && s->attempt_count > 0 && !journal_step_final(s->state) &&
	       journal_id_equal(&s->attempts[s->attempt_count - 1].id, &a->id);
}

static void start_again(struct fake *f, bool start)
{
	struct engine_found found[FAKE_ATTEMPTS_MAX];
	struct error err = {0};
	size_t n = f->attempt_count;

	f->dying = false;
	f->die_after = 0;
	engine_free(f->e);
	journal_state_free(f->rows);
	truncate_log(f, f->kept);
	f->rows = replay(f);
	begin_epoch(f);
	new_engine(f);
	for (size_t i = 0; i < n; i++)
		found[i] = (struct engine_found){.attempt = f->attempts[i].id,
						 .live = f->attempts[i].live};
	if (engine_recover(f->e, fake_now(f), f->boot_id, found, n, start, &err) < 0)
		FAKE_FAIL("recover: %s", err.msg);
	fake_flush(f);
	for (size_t i = f->attempt_count; i-- > 0;) {
		struct fake_attempt *a = &f->attempts[i];

		if (!is_last_attempt(f, a)) {
			fake_attempt_drop(f, a);
		} else if (a->ended) {
			int rc = engine_attempt_ended(f->e, fake_now(f), &a->id, &a->end);

			if (rc < 0 && rc != -ESTALE)
				FAKE_FAIL("ended: %d", rc);
			fake_attempt_drop(f, a);
			fake_flush(f);
		}
	}
}

void fake_restart(struct fake *f, bool start)
{
	perform_at_once(f);
	start_again(f, start);
}

void fake_power_cut(struct fake *f, size_t keep, bool start)
{
	size_t last = f->batch_count;

	while (last > 0 && !f->batches[last - 1].synced)
		last--;
	last = last + keep < f->batch_count ? last + keep : f->batch_count;
	f->batch_count = last;
	f->kept = last ? f->batches[last - 1].first + f->batches[last - 1].count : 0;
	f->command_count = 0;
	f->attempt_count = 0;
	f->boot_id[0]++;
	f->mono_ns = 1000000000;
	start_again(f, start);
}

/* ---- conveniences ---- */

void fake_create(struct fake *f, const char *plan_yaml, struct engine_run_request *q)
{
	AUTO(plan_free) struct plan *p = NULL;
	AUTO_BUFFER b = {0};
	struct error err = {0};
	struct journal_id id;

	if (plan_parse(bytes_str(plan_yaml), "sim.yaml", &p, &err) < 0)
		FAKE_FAIL("%s: %s", err.where, err.msg);
	if (plan_encode(p, &b) < 0)
		FAKE_FAIL("plan");
	put_blob(f, buffer_bytes(&b), &q->plan_blob);
	q->plan = p;
	q->policy_blob = fake_blob(f, "policy");
	q->environ_blob = fake_blob(f, "environ");
	q->context = fake_blob(f, "context");
	q->started_ns = f->wall_ns;
	if (journal_id_equal(&q->id, &(struct journal_id){0}))
		new_id(f, &q->id);
	if (!q->workspace)
		q->workspace = "/w";
	if (!q->ws_ino) {
		q->ws_dev = 1;
		q->ws_ino = 2;
	}
	q->land = p->land;
	if (q->agency == 0)
		q->agency = p->agency >= 0 ? (unsigned)p->agency : 2;
	if (engine_run_create(f->e, fake_now(f), q, &id, &err) < 0)
		FAKE_FAIL("create: %s", err.msg);
	q->id = id;
	q->plan = NULL;
}

struct fake_attempt *fake_attempt(struct fake *f, const struct journal_id *id)
{
	for (size_t i = 0; i < f->attempt_count; i++)
		if (journal_id_equal(&f->attempts[i].id, id))
			return &f->attempts[i];
	return NULL;
}

void fake_attempt_drop(struct fake *f, struct fake_attempt *a)
{
	size_t i = (size_t)(a - f->attempts);

	memmove(a, a + 1, (f->attempt_count - i - 1) * sizeof(*a));
	f->attempt_count--;
}

const struct journal_run *fake_run(struct fake *f, const struct journal_id *id)
{
	const struct journal_run *r = journal_state_run(f->rows, id);

	if (!r)
		FAKE_FAIL("no such run");
	return r;
}

const struct journal_step *fake_step(struct fake *f, const struct journal_id *run, const char *name)
{
	const struct journal_run *r = fake_run(f, run);

	for (uint32_t i = 0; i < r->step_count; i++)
		if (strcmp(r->steps[i]->name, name) == 0)
			return r->steps[i];
	return NULL;
}

size_t fake_count(const struct fake *f, const struct journal_id *run, enum journal_type type)
{
	size_t n = 0;

	for (size_t i = 0; i < f->log_count; i++)
		n += f->log[i].type == type && journal_id_equal(&f->log[i].run, run);
	return n;
}

struct open_search {
	const struct journal_id *run;
	enum journal_approval_kind kind;
	const struct journal_approval *found;
};

static int match_open(const struct journal_approval *a, void *arg)
{
	struct open_search *s = arg;

	if (a->state == JOURNAL_APPROVAL_S_OPEN && a->kind == s->kind &&
	    journal_id_equal(&a->run, s->run))
		s->found = a;
	return 0;
}

const struct journal_approval *fake_open_item(struct fake *f, const struct journal_id *run,
					      enum journal_approval_kind kind)
{
	struct open_search s = {.run = run, .kind = kind};

	journal_state_each_approval(f->rows, match_open, &s);
	return s.found;
}
