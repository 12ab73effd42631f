/*
 * What a step's key stands for: the canonical description of everything that its result may depend
 * on (holdfast.cddl, step-input). Its blob is the step's input digest; two of them compared field
 * by field are what a person sees of a step that diverged.
 */
#include <errno.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "supervisor/engine_private.h"

enum input_key {
	INPUT_KEY = 1,
	INPUT_SPEC = 2,
	INPUT_ENVIRON = 3,
	INPUT_STDIN = 4,
	INPUT_NEEDS = 5,
	INPUT_STACK = 6,
	INPUT_PROGRAM = 7,
};

static const struct journal_step *find_by_name(const struct journal_run *row, const char *name)
{
	for (uint32_t i = 0; i < row->step_count; i++)
		if (row->steps[i]->name && strcmp(row->steps[i]->name, name) == 0)
			return row->steps[i];
	return NULL;
}

/* By plan position where there is a plan: a walk over 10,000 rows for each of 1,000 needs is too
 * long. */
static const struct journal_step *need_row(const struct engine_run *r,
					   const struct journal_run *row, const char *name)
{
	int at = r->plan->outside_driver ? -ENOENT : plan_find(r->plan, bytes_str(name));

	if (at < 0)
		return find_by_name(row, name);
	return r->row_of[at] == ENGINE_POSITION_NONE ? NULL : row->steps[r->row_of[at]];
}

static void write_digest(struct buffer *b, const struct digest *d)
{
	cbor_w_bytes(b, bytes_of(d->b, DIGEST_SIZE));
}

/* Of a step that is not committed (it never will be needed so): nulls. */
static void write_need(struct buffer *b, const char *name, const struct journal_step *s)
{
	const struct journal_attempt *a = s ? engine_last_attempt(s) : NULL;

	cbor_w_array(b, 5);
	cbor_w_str(b, name);
	if (!a || s->state != JOURNAL_STEP_S_COMMITTED) {
		for (int i = 0; i < 4; i++)
			cbor_w_null(b);
		return;
	}
	cbor_w_uint(b, a->exit_code);
	write_digest(b, &a->out);
	write_digest(b, &a->results);
	write_digest(b, &s->manifest);
}

int engine_input_by_commit(const void *a, const void *b)
{
	const struct journal_step *x = *(const struct journal_step *const *)a;
	const struct journal_step *y = *(const struct journal_step *const *)b;

	return (x->committed_lsn > y->committed_lsn) - (x->committed_lsn < y->committed_lsn);
}

size_t engine_stack(const struct journal_run *run, const struct journal_step *below,
		    const struct journal_step **ret)
{
	size_t n = 0;

	for (uint32_t i = 0; i < run->step_count; i++) {
		const struct journal_step *s = run->steps[i];

		if (s->state != JOURNAL_STEP_S_COMMITTED || s->layer[0] == '\0' ||
		    (below && below->committed_lsn && s->committed_lsn >= below->committed_lsn))
			continue;
		if (ret)
			ret[n] = s;
		n++;
	}
	if (ret)
		qsort(ret, n, sizeof(*ret), engine_input_by_commit);
	return n;
}

static int stack_digest(const struct journal_run *row, struct digest *ret)
{
	size_t n = engine_stack(row, NULL, NULL);
	AUTO_FREE const struct journal_step **steps = calloc(n + 1, sizeof(*steps));
	AUTO_BUFFER b = {0};

	if (!steps)
		return -ENOMEM;
	engine_stack(row, NULL, steps);
	cbor_w_array(&b, n);
	for (size_t i = 0; i < n; i++)
		write_digest(&b, &steps[i]->manifest);
	if (b.failed)
		return b.failed;
	digest_domain("holdfast.stack", buffer_bytes(&b), ret);
	return 0;
}

/* The item under key of an earlier description; len 0 where it has none. */
static struct bytes item_of(struct bytes description, uint64_t want)
{
	struct cbor_reader c = cbor_reader(description);
	struct bytes found = {0};
	struct cbor_map_iter m;
	uint64_t key;

	cbor_r_map(&c, &m);
	while (cbor_r_key(&c, &m, &key)) {
		struct bytes item = cbor_r_skip(&c);

		if (key == want)
			found = item;
	}
	return cbor_r_end(&c) == 0 ? found : (struct bytes){0};
}

static int write_stack(const struct journal_run *row, struct bytes old, struct buffer *b)
{
	struct digest d;
	int rc;

	if (!old.len) {
		rc = stack_digest(row, &d);
		write_digest(b, &d);
		return rc;
	}
	cbor_w_raw(b, item_of(old, INPUT_STACK));
	return 0;
}

/* null: it cannot be found now. Not there at all: an earlier description told nothing of it. */
static void write_program(struct engine *e, const struct journal_run *row, const char *key,
			  const struct plan_step *spec, struct bytes old, struct buffer *b,
			  struct cbor_map_mark *m)
{
	const struct journal_step *below = NULL;
	struct digest d;

	if (!e->ops.program || (old.len && !item_of(old, INPUT_PROGRAM).len))
		return;
	for (uint32_t i = 0; old.len && i < row->step_count; i++)
		if (strcmp(row->steps[i]->key, key) == 0)
			below = row->steps[i];
	cbor_w_key(b, m, INPUT_PROGRAM);
	if (e->ops.program(e->ops.ctx, row, below, spec, &d) == 1)
		write_digest(b, &d);
	else
		cbor_w_null(b);
}

int engine_input_describe(struct engine *e, struct engine_run *r, const char *key,
			  const struct plan_step *spec, const struct digest *like,
			  struct digest *ret)
{
	const struct journal_run *row = engine_run_row(e, r);
	AUTO_BUFFER b = {0}, old = {0};
	struct cbor_map_mark m = cbor_w_map_begin(&b);
	size_t needs = 0;
	int rc = like ? e->ops.blob_read(e->ops.ctx, like, &old) : 0;

	if (rc < 0)
		return rc;
	cbor_w_key(&b, &m, INPUT_KEY);
	cbor_w_str(&b, key);
	cbor_w_key(&b, &m, INPUT_SPEC);
	rc = plan_step_encode(spec, &b);
	if (rc < 0)
		return rc;
	cbor_w_key(&b, &m, INPUT_ENVIRON);
	write_digest(&b, &row->environ);
	if (spec->stdin_kind == PLAN_STDIN_STEP || spec->stdin_kind == PLAN_STDIN_BLOB) {
		const struct journal_step *from = spec->stdin_kind == PLAN_STDIN_STEP
							  ? need_row(r, row, spec->stdin_step)
							  : NULL;
		const struct journal_attempt *a = from ? engine_last_attempt(from) : NULL;
		static const struct digest none;

		cbor_w_key(&b, &m, INPUT_STDIN);
		write_digest(&b, spec->stdin_kind == PLAN_STDIN_BLOB ? &spec->stdin_blob
				 : a				     ? &a->out
								     : &none);
	}
	while (spec->needs && spec->needs[needs])
		needs++;
	if (needs) {
		cbor_w_key(&b, &m, INPUT_NEEDS);
		cbor_w_array(&b, needs);
		for (size_t i = 0; i < needs; i++)
			write_need(&b, spec->needs[i], need_row(r, row, spec->needs[i]));
	}
	cbor_w_key(&b, &m, INPUT_STACK);
	rc = write_stack(row, buffer_bytes(&old), &b);
	write_program(e, row, key, spec, buffer_bytes(&old), &b, &m);
	cbor_w_map_end(&b, &m);
	if (rc == 0)
		rc = b.failed;
	return rc < 0 ? rc : e->ops.blob(e->ops.ctx, buffer_bytes(&b), ret);
}

int engine_input_spec(struct engine *e, const struct digest *input, struct plan_step **ret)
{
	AUTO_BUFFER b = {0};
	int rc = e->ops.blob_read(e->ops.ctx, input, &b);

	return rc < 0 ? rc : engine_input_read(buffer_bytes(&b), ret);
}

int engine_input_read(struct bytes description, struct plan_step **ret)
{
	return plan_step_decode(item_of(description, INPUT_SPEC), ret);
}

/* ---- the difference of two ---- */

/* Names for people, by key of step-input and of plan-step. */
static const char *const input_names[] = {NULL,	   "key",   NULL,    "environment",
					  "stdin", "needs", "stack", "program"};
static const char *const spec_names[] = {NULL,	  "name",   "needs",	"run",	   "cwd",
					 "stdin", "env",    "retry",	"timeout", "deadline",
					 "gate",  "checks", "protected"};

struct difference {
	struct buffer items; /* of the array */
	size_t count;
};

static void compare_maps(struct difference *d, struct bytes before, struct bytes after,
			 const char *const *names, size_t count)
{
	for (uint64_t key = 1; key < count; key++) {
		struct bytes x = item_of(before, key), y = item_of(after, key);

		if (!names[key] || bytes_equal(x, y))
			continue;
		d->count++;
		cbor_w_array(&d->items, 3);
		cbor_w_str(&d->items, names[key]);
		cbor_w_bytes(&d->items, x);
		cbor_w_bytes(&d->items, y);
	}
}

int engine_input_difference(struct engine *e, const struct digest *before,
			    const struct digest *after, struct digest *ret)
{
	AUTO_BUFFER x = {0}, y = {0}, out = {0};
	struct difference d = {0};
	int rc = e->ops.blob_read(e->ops.ctx, before, &x);

	if (rc == 0)
		rc = e->ops.blob_read(e->ops.ctx, after, &y);
	if (rc < 0)
		return rc;
	compare_maps(&d, item_of(buffer_bytes(&x), INPUT_SPEC),
		     item_of(buffer_bytes(&y), INPUT_SPEC), spec_names, ARRAY_SIZE(spec_names));
	compare_maps(&d, buffer_bytes(&x), buffer_bytes(&y), input_names, ARRAY_SIZE(input_names));
	cbor_w_array(&out, d.count);
	buffer_append(&out, d.items.data, d.items.len);
	rc = d.items.failed ? d.items.failed : out.failed;
	buffer_free(&d.items);
	return rc < 0 ? rc : e->ops.blob(e->ops.ctx, buffer_bytes(&out), ret);
}

/* As a shell would have to be given it; what shows it escapes what cannot be printed. */
static void put_word(struct bytes word, struct buffer *out)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "_@%+=:,./-";
	const char *p = word.data;
	bool quote = word.len == 0;

	for (size_t i = 0; i < word.len; i++)
		quote |= !memchr(plain, p[i], sizeof(plain) - 1);
	if (!quote) {
		buffer_append(out, word.data, word.len);
		return;
	}
	buffer_append_byte(out, '\'');
	for (size_t i = 0; i < word.len; i++) {
		if (p[i] == '\'')
			buffer_append_str(out, "'\\''");
		else
			buffer_append_byte(out, (uint8_t)p[i]);
	}
	buffer_append_byte(out, '\'');
}

/* One item. digests: a byte string is one, of which half is enough for people; else it is a word.
 */
static void put_item(struct cbor_reader *c, bool digests, bool nested, struct buffer *out)
{
	struct bytes b;
	size_t n;

	switch (cbor_r_peek(c)) {
	case CBOR_BYTES:
		b = cbor_r_bytes(c);
		if (!digests)
			put_word(b, out);
		for (size_t i = 0; digests && i < b.len && i < DIGEST_SIZE / 2; i++)
			buffer_printf(out, "%02x", ((const uint8_t *)b.data)[i]);
		return;
	case CBOR_TEXT:
		put_word(cbor_r_text(c), out);
		return;
	case CBOR_ARRAY:
		n = cbor_r_array(c);
		if (nested)
			buffer_append_byte(out, '(');
		for (size_t i = 0; i < n && !c->error; i++) {
			if (i > 0)
				buffer_append_byte(out, ' ');
			put_item(c, digests, true, out);
		}
		if (nested)
			buffer_append_byte(out, ')');
		return;
	case CBOR_NULL:
		cbor_r_null(c);
		buffer_append_str(out, "(not found)");
		return;
	case CBOR_NONE:
	case CBOR_UINT:
	case CBOR_NINT:
	case CBOR_MAP:
	case CBOR_BOOL:
		break;
	}
	b = cbor_r_skip(c);
	if (!c->error && cbor_diagnostic(b, out) < 0)
		cbor_r_fail(c, -EBADMSG);
}

static void put_env(struct cbor_reader *c, struct buffer *out)
{
	size_t n = cbor_r_array(c);

	for (size_t i = 0; i < n && !c->error && cbor_r_array(c) == 2; i++) {
		if (i > 0)
			buffer_append_byte(out, ' ');
		put_item(c, false, true, out);
		buffer_append_byte(out, '=');
		put_item(c, false, true, out);
	}
}

static void put_checks(struct cbor_reader *c, struct buffer *out)
{
	size_t n = cbor_r_array(c);

	for (size_t i = 0; i < n && !c->error && cbor_r_array(c) == 2; i++) {
		if (i > 0)
			buffer_append_str(out, "; ");
		put_item(c, false, false, out);
		buffer_printf(out, " (exit %llu)", (unsigned long long)cbor_r_uint(c));
	}
}

static void put_retry(struct cbor_reader *c, struct buffer *out)
{
	static const char *const labels[] = {"max ", ", backoff ", "..", " ms, on ",
					     ", same failure "};
	size_t n = cbor_r_array(c);

	for (size_t i = 0; i < n && i < ARRAY_SIZE(labels) && !c->error; i++)
		buffer_printf(out, "%s%llu", labels[i], (unsigned long long)cbor_r_uint(c));
}

/* Of the fields that spec_names and input_names name. */
static int as_text(const char *field, struct bytes item, struct buffer *out)
{
	static const char *const words[] = {"key", "name", "run", "cwd", "protected"};
	struct cbor_reader c = cbor_reader(item);
	bool digests = true;

	if (item.len == 0)
		return buffer_append_str(out, "(not there)");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		digests &= strcmp(field, words[i]) != 0;
	if (strcmp(field, "env") == 0) {
		put_env(&c, out);
	} else if (strcmp(field, "checks") == 0) {
		put_checks(&c, out);
	} else if (strcmp(field, "retry") == 0) {
		put_retry(&c, out);
	} else {
		put_item(&c, digests, false, out);
		if (strcmp(field, "timeout") == 0 || strcmp(field, "deadline") == 0)
			buffer_append_str(out, " ms");
	}
	return out->failed ? out->failed : cbor_r_end(&c);
}

int engine_difference(struct bytes object,
		      int (*fn)(const char *field, struct bytes before, struct bytes after,
				void *arg),
		      void *arg)
{
	struct cbor_reader c = cbor_reader(object);
	size_t n = cbor_r_array(&c);

	for (size_t i = 0; i < n && !c.error; i++) {
		AUTO_BUFFER before = {0}, after = {0};
		AUTO_FREE char *name = NULL;
		int rc;

		if (cbor_r_array(&c) != 3)
			return -EBADMSG;
		name = bytes_dup_str(cbor_r_text(&c));
		if (!name)
			return -ENOMEM;
		rc = as_text(name, cbor_r_bytes(&c), &before);
		if (rc == 0)
			rc = as_text(name, cbor_r_bytes(&c), &after);
		if (c.error)
			break;
		if (rc == 0)
			rc = fn(name, buffer_bytes(&before), buffer_bytes(&after), arg);
		if (rc != 0)
			return rc;
	}
	return cbor_r_end(&c);
}
