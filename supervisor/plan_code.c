/* The canonical form of plans and steps (holdfast.cddl, plan and plan-step), there and back. */
#include <errno.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "journal/journal.h"
#include "supervisor/plan.h"

enum { PLAN_CANONICAL_VERSION = 1 };

/* Keys of the canonical form; holdfast.cddl. Never reused. */
enum plan_key {
	PLAN_KEY_VERSION = 1,
	PLAN_KEY_NAME,
	PLAN_KEY_POLICY_PATH,
	PLAN_KEY_POLICY_TEXT,
	PLAN_KEY_WORKSPACE,
	PLAN_KEY_BASE,
	PLAN_KEY_LAND,
	PLAN_KEY_AGENCY,
	PLAN_KEY_OUTSIDE_DRIVER,
	PLAN_KEY_STEPS,
};

enum plan_step_key {
	STEP_KEY_NAME = 1,
	STEP_KEY_NEEDS,
	STEP_KEY_ARGV,
	STEP_KEY_CWD,
	STEP_KEY_STDIN,
	STEP_KEY_ENV,
	STEP_KEY_RETRY,
	STEP_KEY_TIMEOUT,
	STEP_KEY_DEADLINE,
	STEP_KEY_GATE,
	STEP_KEY_CHECKS,
	STEP_KEY_PROTECTED,
};

static void write_bytes_array(struct buffer *out, char **v)
{
	size_t n = plan_strings_count(v);

	cbor_w_array(out, n);
	for (size_t i = 0; i < n; i++)
		cbor_w_bytes(out, bytes_str(v[i]));
}

static void write_stdin(const struct plan_step *s, struct buffer *out)
{
	cbor_w_array(out, 2);
	cbor_w_uint(out, s->stdin_kind);
	if (s->stdin_kind == PLAN_STDIN_STEP)
		cbor_w_str(out, s->stdin_step);
	else
		cbor_w_bytes(out, bytes_of(s->stdin_blob.b, DIGEST_SIZE));
}

static void write_contract(const struct plan_step *s, struct buffer *out, struct cbor_map_mark *m)
{
	if (s->check_count) {
		cbor_w_key(out, m, STEP_KEY_CHECKS);
		cbor_w_array(out, s->check_count);
		for (size_t i = 0; i < s->check_count; i++) {
			cbor_w_array(out, 2);
			write_bytes_array(out, s->checks[i].argv);
			cbor_w_uint(out, s->checks[i].expect_exit);
		}
	}
	if (plan_strings_count(s->protected_globs)) {
		cbor_w_key(out, m, STEP_KEY_PROTECTED);
		write_bytes_array(out, s->protected_globs);
	}
}

int plan_step_encode(const struct plan_step *s, struct buffer *out)
{
	size_t needs = plan_strings_count(s->needs);
	struct cbor_map_mark m;

	if (s->stdin_text || s->stdin_kind == PLAN_STDIN_FILE)
		return -EINVAL;
	m = cbor_w_map_begin(out);
	cbor_w_key(out, &m, STEP_KEY_NAME);
	cbor_w_str(out, s->name);
	if (needs) {
		cbor_w_key(out, &m, STEP_KEY_NEEDS);
		cbor_w_array(out, needs);
		for (size_t i = 0; i < needs; i++)
			cbor_w_str(out, s->needs[i]);
	}
	cbor_w_key(out, &m, STEP_KEY_ARGV);
	write_bytes_array(out, s->argv);
	if (s->cwd) {
		cbor_w_key(out, &m, STEP_KEY_CWD);
		cbor_w_bytes(out, bytes_str(s->cwd));
	}
	if (s->stdin_kind != PLAN_STDIN_NONE) {
		cbor_w_key(out, &m, STEP_KEY_STDIN);
		write_stdin(s, out);
	}
	if (s->env_count) {
		cbor_w_key(out, &m, STEP_KEY_ENV);
		cbor_w_array(out, s->env_count);
		for (size_t i = 0; i < s->env_count; i++) {
			cbor_w_array(out, 2);
			cbor_w_str(out, s->env[i].name);
			cbor_w_bytes(out, bytes_str(s->env[i].value));
		}
	}
	cbor_w_key(out, &m, STEP_KEY_RETRY);
	cbor_w_array(out, 5);
	cbor_w_uint(out, s->retry.max);
	cbor_w_uint(out, s->retry.first_ms);
	cbor_w_uint(out, s->retry.cap_ms);
	cbor_w_uint(out, s->retry.on);
	cbor_w_uint(out, s->retry.same_failure);
	if (s->timeout_ms) {
		cbor_w_key(out, &m, STEP_KEY_TIMEOUT);
		cbor_w_uint(out, s->timeout_ms);
	}
	if (s->deadline_ms) {
		cbor_w_key(out, &m, STEP_KEY_DEADLINE);
		cbor_w_uint(out, s->deadline_ms);
	}
	if (s->gate != PLAN_GATE_NONE) {
		cbor_w_key(out, &m, STEP_KEY_GATE);
		cbor_w_uint(out, s->gate);
	}
	write_contract(s, out, &m);
	cbor_w_map_end(out, &m);
	return out->failed;
}

static void write_optional(struct buffer *out, struct cbor_map_mark *m, uint64_t key, const char *v)
{
	if (!v)
		return;
	cbor_w_key(out, m, key);
	cbor_w_bytes(out, bytes_str(v));
}

int plan_encode(const struct plan *p, struct buffer *out)
{
	struct cbor_map_mark m = cbor_w_map_begin(out);

	cbor_w_key(out, &m, PLAN_KEY_VERSION);
	cbor_w_uint(out, PLAN_CANONICAL_VERSION);
	if (p->name) {
		cbor_w_key(out, &m, PLAN_KEY_NAME);
		cbor_w_str(out, p->name);
	}
	write_optional(out, &m, PLAN_KEY_POLICY_PATH, p->policy_path);
	if (p->policy_text) {
		cbor_w_key(out, &m, PLAN_KEY_POLICY_TEXT);
		cbor_w_bytes(out, bytes_of(p->policy_text, p->policy_text_len));
	}
	write_optional(out, &m, PLAN_KEY_WORKSPACE, p->workspace);
	if (p->base >= 0) {
		cbor_w_key(out, &m, PLAN_KEY_BASE);
		cbor_w_uint(out, (uint64_t)p->base);
	}
	cbor_w_key(out, &m, PLAN_KEY_LAND);
	cbor_w_uint(out, (uint64_t)p->land);
	if (p->agency >= 0) {
		cbor_w_key(out, &m, PLAN_KEY_AGENCY);
		cbor_w_uint(out, (uint64_t)p->agency);
	}
	if (p->outside_driver) {
		cbor_w_key(out, &m, PLAN_KEY_OUTSIDE_DRIVER);
		cbor_w_bool(out, true);
	}
	cbor_w_key(out, &m, PLAN_KEY_STEPS);
	cbor_w_array(out, p->step_count);
	for (size_t i = 0; i < p->step_count; i++) {
		int r = plan_step_encode(&p->steps[i], out);
		if (r < 0)
			return r;
	}
	cbor_w_map_end(out, &m);
	return out->failed;
}

/* A C string: no NUL inside. */
static char *read_string(struct cbor_reader *r, bool text)
{
	struct bytes b = text ? cbor_r_text(r) : cbor_r_bytes(r);
	char *s;

	if (b.len && memchr(b.data, 0, b.len))
		cbor_r_fail(r, -EBADMSG);
	if (r->error)
		return NULL;
	s = bytes_dup_str(b);
	if (!s)
		cbor_r_fail(r, -ENOMEM);
	return s;
}

/* Empty arrays are written by leaving the key out, so here one is an error: one form only. */
static char **read_strings(struct cbor_reader *r, size_t max, bool text)
{
	size_t n = cbor_r_array(r);
	char **v;

	if (!r->error && (n == 0 || n > max))
		cbor_r_fail(r, n ? -E2BIG : -EBADMSG);
	if (r->error)
		return NULL;
	v = calloc(n + 1, sizeof(*v));
	if (!v)
		cbor_r_fail(r, -ENOMEM);
	for (size_t i = 0; i < n && !r->error; i++)
		v[i] = read_string(r, text);
	return v;
}

static uint32_t read_u32(struct cbor_reader *r)
{
	uint64_t v = cbor_r_uint(r);

	if (v > UINT32_MAX)
		cbor_r_fail(r, -EBADMSG);
	return r->error ? 0 : (uint32_t)v;
}

/* A value that is left out where it is 0 must not be written as 0. */
static uint64_t read_nonzero(struct cbor_reader *r)
{
	uint64_t v = cbor_r_uint(r);

	if (v == 0)
		cbor_r_fail(r, -EBADMSG);
	return v;
}

static void read_array_of(struct cbor_reader *r, size_t want)
{
	if (cbor_r_array(r) != want)
		cbor_r_fail(r, -EBADMSG);
}

static void read_stdin(struct cbor_reader *r, struct plan_step *s)
{
	uint64_t kind;

	read_array_of(r, 2);
	kind = cbor_r_uint(r);
	if (kind == PLAN_STDIN_STEP) {
		s->stdin_kind = PLAN_STDIN_STEP;
		s->stdin_step = read_string(r, true);
	} else if (kind == PLAN_STDIN_BLOB) {
		s->stdin_kind = PLAN_STDIN_BLOB;
		cbor_r_digest(r, &s->stdin_blob);
	} else {
		cbor_r_fail(r, -EBADMSG);
	}
}

static void read_env(struct cbor_reader *r, struct plan_step *s)
{
	size_t n = cbor_r_array(r);

	if (!r->error && (n == 0 || n > PLAN_ENV_MAX))
		cbor_r_fail(r, -EBADMSG);
	if (r->error)
		return;
	s->env = calloc(n, sizeof(*s->env));
	if (!s->env)
		cbor_r_fail(r, -ENOMEM);
	for (size_t i = 0; i < n && !r->error; i++) {
		s->env_count = i + 1;
		read_array_of(r, 2);
		s->env[i].name = read_string(r, true);
		s->env[i].value = read_string(r, false);
	}
}

static void read_retry(struct cbor_reader *r, struct plan_retry *t)
{
	read_array_of(r, 5);
	t->max = read_u32(r);
	t->first_ms = cbor_r_uint(r);
	t->cap_ms = cbor_r_uint(r);
	t->on = read_u32(r);
	t->same_failure = read_u32(r);
}

static void read_checks(struct cbor_reader *r, struct plan_step *s)
{
	size_t n = cbor_r_array(r);

	if (!r->error && (n == 0 || n > PLAN_CHECKS_MAX))
		cbor_r_fail(r, -EBADMSG);
	if (r->error)
		return;
	s->checks = calloc(n, sizeof(*s->checks));
	if (!s->checks)
		cbor_r_fail(r, -ENOMEM);
	for (size_t i = 0; i < n && !r->error; i++) {
		s->check_count = i + 1;
		read_array_of(r, 2);
		s->checks[i].argv = read_strings(r, PLAN_ARGV_MAX, false);
		s->checks[i].expect_exit = read_u32(r);
	}
}

static void read_step(struct cbor_reader *r, struct plan_step *s)
{
	struct cbor_map_iter m;
	uint64_t key;
	bool retry = false;

	cbor_r_map(r, &m);
	while (cbor_r_key(r, &m, &key)) {
		switch (key) {
		case STEP_KEY_NAME:
			s->name = read_string(r, true);
			break;
		case STEP_KEY_NEEDS:
			s->needs = read_strings(r, PLAN_NEEDS_MAX, true);
			break;
		case STEP_KEY_ARGV:
			s->argv = read_strings(r, PLAN_ARGV_MAX, false);
			break;
		case STEP_KEY_CWD:
			s->cwd = read_string(r, false);
			break;
		case STEP_KEY_STDIN:
			read_stdin(r, s);
			break;
		case STEP_KEY_ENV:
			read_env(r, s);
			break;
		case STEP_KEY_RETRY:
			retry = true;
			read_retry(r, &s->retry);
			break;
		case STEP_KEY_TIMEOUT:
			s->timeout_ms = read_nonzero(r);
			break;
		case STEP_KEY_DEADLINE:
			s->deadline_ms = read_nonzero(r);
			break;
		case STEP_KEY_GATE:
			s->gate = (enum plan_gate)read_nonzero(r);
			break;
		case STEP_KEY_CHECKS:
			read_checks(r, s);
			break;
		case STEP_KEY_PROTECTED:
			s->protected_globs = read_strings(r, PLAN_GLOBS_MAX, false);
			break;
		default:
			cbor_r_fail(r, -EBADMSG);
		}
	}
	if (!retry || !s->name || !s->argv)
		cbor_r_fail(r, -EBADMSG);
}

int plan_step_decode(struct bytes canonical, struct plan_step **ret)
{
	struct cbor_reader r = cbor_reader(canonical);
	AUTO(plan_step_free) struct plan_step *s = calloc(1, sizeof(*s));
	int e;

	if (!s)
		return -ENOMEM;
	read_step(&r, s);
	e = cbor_r_end(&r);
	if (e == 0)
		e = plan_step_check(s, NULL, NULL);
	if (e < 0)
		return e;
	*ret = take_ptr(s);
	return 0;
}

static void read_steps(struct cbor_reader *r, struct plan *p)
{
	size_t n = cbor_r_array(r);

	if (!r->error && n > PLAN_STEPS_MAX)
		cbor_r_fail(r, -E2BIG);
	if (r->error)
		return;
	p->steps = calloc(n + 1, sizeof(*p->steps));
	if (!p->steps)
		cbor_r_fail(r, -ENOMEM);
	for (size_t i = 0; i < n && !r->error; i++) {
		p->step_count = i + 1;
		read_step(r, &p->steps[i]);
	}
}

static int read_small(struct cbor_reader *r, uint64_t max)
{
	uint64_t v = cbor_r_uint(r);

	if (v > max)
		cbor_r_fail(r, -EBADMSG);
	return r->error ? 0 : (int)v;
}

static void read_policy_text(struct cbor_reader *r, struct plan *p)
{
	struct bytes b = cbor_r_bytes(r);

	if (r->error)
		return;
	p->policy_text = bytes_dup_str(b);
	p->policy_text_len = b.len;
	if (!p->policy_text)
		cbor_r_fail(r, -ENOMEM);
}

static void read_plan(struct cbor_reader *r, struct plan *p)
{
	struct cbor_map_iter m;
	uint64_t key, seen = 0;

	cbor_r_map(r, &m);
	while (cbor_r_key(r, &m, &key)) {
		seen |= key < 64 ? 1ull << key : 0;
		switch (key) {
		case PLAN_KEY_VERSION:
			if (cbor_r_uint(r) != PLAN_CANONICAL_VERSION)
				cbor_r_fail(r, -EBADMSG);
			break;
		case PLAN_KEY_NAME:
			p->name = read_string(r, true);
			break;
		case PLAN_KEY_POLICY_PATH:
			p->policy_path = read_string(r, false);
			break;
		case PLAN_KEY_POLICY_TEXT:
			read_policy_text(r, p);
			break;
		case PLAN_KEY_WORKSPACE:
			p->workspace = read_string(r, false);
			break;
		case PLAN_KEY_BASE:
			p->base = read_small(r, JOURNAL_BASE_PINNED);
			break;
		case PLAN_KEY_LAND:
			p->land = read_small(r, JOURNAL_LAND_NEVER);
			break;
		case PLAN_KEY_AGENCY:
			p->agency = read_small(r, 4);
			break;
		case PLAN_KEY_OUTSIDE_DRIVER:
			p->outside_driver = cbor_r_bool(r);
			if (!p->outside_driver)
				cbor_r_fail(r, -EBADMSG);
			break;
		case PLAN_KEY_STEPS:
			read_steps(r, p);
			break;
		default:
			cbor_r_fail(r, -EBADMSG);
		}
	}
	if (!(seen & 1ull << PLAN_KEY_VERSION) || !(seen & 1ull << PLAN_KEY_LAND) ||
	    !(seen & 1ull << PLAN_KEY_STEPS))
		cbor_r_fail(r, -EBADMSG);
}

int plan_decode(struct bytes canonical, struct plan **ret)
{
	struct cbor_reader r = cbor_reader(canonical);
	AUTO(plan_free) struct plan *p = calloc(1, sizeof(*p));
	int e;

	if (!p)
		return -ENOMEM;
	p->base = p->agency = -1;
	read_plan(&r, p);
	e = cbor_r_end(&r);
	if (e == 0)
		e = plan_check(p, NULL, NULL);
	if (e < 0)
		return e;
	*ret = take_ptr(p);
	return 0;
}
