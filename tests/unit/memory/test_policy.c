/* A policy for which memory runs out is -ENOMEM, wherever that happens: never a narrower or wider
 * one, never a decision that something allowed. */
#include "tests/unit/policy/policy_test.h"
#include "tests/unit/memory/memory.h"
#include "tests/unit/policy/whole.h"

static const char org[] = "version: 1\n"
			  "kind: ceiling\n"
			  "extends: base\n"
			  "net:\n"
			  "  - {id: o, do: ask, http: {host: \"**.acme.example\"}}\n";
static const char tested[] = "version: 1\n"
			     "extends: coding\n"
			     "net:\n"
			     "  - {id: a, do: allow, http: {host: a.example, method: [GET]}}\n"
			     "steps:\n"
			     "  edit: {use: [a]}\n"
			     "tests:\n"
			     "  - {http: \"GET https://a.example/x\", expect: allow}\n"
			     "  - {http: \"GET https://b.example/x\", step: edit, expect: deny}\n"
			     "  - {git: \"push https://a.example/r refs/heads/x\", expect: deny}\n"
			     "  - {write: \"${workspace}/.git/hooks/pre-commit\", expect: deny}\n"
			     "  - {exec: \"/usr/bin/make all\", expect: allow}\n";

static int parse_two(struct policy **ret_a, struct policy **ret_b)
{
	int r = policy_parse(bytes_str(org), "org", NULL, ret_a);

	return r < 0 ? r : policy_parse(bytes_str(whole), "whole", NULL, ret_b);
}

static int effective(struct policy_effective **ret)
{
	AUTO(policy_free) struct policy *a = NULL;
	AUTO(policy_free) struct policy *b = NULL;
	struct error err = {0};
	int r = parse_two(&a, &b);
	struct policy_input in[] = {{POLICY_LAYER_ORG, a}, {POLICY_LAYER_RUN, b}};
	struct policy_combine c = {.inputs = in, .count = 2, .agency = POLICY_ASSIST};

	if (r == 0)
		r = policy_check(a, &err);
	if (r == 0)
		r = policy_check(b, &err);
	return r < 0 ? r : policy_combine(&c, ret, &err);
}

static int canonical(void *arg)
{
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	AUTO(policy_effective_free) struct policy_effective *back = NULL;
	AUTO_BUFFER b = {0};
	struct digest one, two;
	struct error err = {0};
	int r = effective(&e);

	(void)arg;
	if (r == 0)
		r = policy_effective_encode(e, &b);
	if (r == 0)
		r = policy_effective_decode(buffer_bytes(&b), &back, &err);
	if (r == 0)
		r = policy_effective_digest(e, &one);
	if (r == 0)
		r = policy_effective_digest(back, &two);
	if (r == 0)
		assert_memory_equal(&one, &two, sizeof(one));
	return r;
}

static int for_a_step(void *arg)
{
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	AUTO(policy_effective_free) struct policy_effective *step = NULL;
	AUTO(policy_effective_free) struct policy_effective *turned = NULL;
	AUTO(policy_fs_free) struct policy_fs *fs = NULL;
	const char *const environment[] = {"PATH=/bin", "LC_ALL=C", "SECRET=x", NULL};
	char **env = NULL;
	struct error err = {0};
	int r = effective(&e);

	(void)arg;
	if (r == 0)
		r = policy_effective_step(e, "plan", POLICY_AGENCY_UNSET, &step, &err);
	if (r == 0)
		r = policy_effective_dial(e, POLICY_OBSERVE, &turned, &err);
	if (r == 0)
		r = policy_fs_new(step, &vars, &fs, &err);
	if (r == 0)
		r = policy_env(step, environment, &env);
	if (r == 0)
		assert_string_equal(env[0], "CI=1");
	policy_env_free(env);
	return r;
}

struct asked {
	const char *kind, *text;
	enum policy_verdict verdict; /* where there is memory */
};

static int decided(const struct policy_effective *e, const struct asked *a,
		   enum policy_verdict *ret)
{
	struct policy_question *q = NULL;
	struct policy_decision d = {0};
	AUTO_BUFFER said = {0};
	struct error err = {0};
	int r = policy_question_parse(a->kind, a->text, &vars, &q, &err);

	if (r == 0)
		r = policy_question_decide(q, e, &vars, &d);
	if (r == 0) {
		*ret = d.verdict;
		r = policy_explain_decision(e, &d, POLICY_JSON, &said);
	}
	if (r == 0)
		r = policy_explain_decision(e, &d, POLICY_TEXT, &said);
	policy_question_free(q);
	return r;
}

/* Refused memory never makes a decision wider. */
static int question(void *arg)
{
	const struct asked *a = arg;
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	enum policy_verdict v = POLICY_DENY;
	int r = effective(&e);

	if (r == 0)
		r = decided(e, a, &v);
	if (v < a->verdict)
		fail_msg("%s %s: allowed more where memory ran out", a->kind, a->text);
	return r;
}

static int words(void *arg)
{
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	AUTO(policy_free) struct policy *a = NULL;
	AUTO(policy_free) struct policy *b = NULL;
	AUTO_BUFFER out = {0};
	size_t wider = 0;
	enum policy_format format = *(const enum policy_format *)arg;
	int r = effective(&e);

	if (r == 0)
		r = policy_explain(e, &vars, format, &out);
	if (r == 0)
		r = parse_two(&a, &b);
	if (r == 0)
		r = policy_trust_summary(b, &out);
	if (r == 0)
		r = policy_diff(a, b, &vars, format, &out, &wider);
	if (r == 0)
		r = policy_schema(&out);
	if (r == 0)
		assert_true(wider > 0);
	return r;
}

static int own_tests(void *arg)
{
	AUTO(policy_free) struct policy *p = NULL;
	AUTO_BUFFER out = {0};
	size_t run = 0, failed = 0;
	int r = policy_parse(bytes_str(tested), "tested", NULL, &p);

	(void)arg;
	if (r == 0)
		r = policy_test(p, &vars, POLICY_TEXT, true, &out, &run, &failed);
	if (r == 0) {
		assert_int_equal(run, 5);
		assert_int_equal(failed, 0);
	}
	return r;
}

static int granted(void *arg)
{
	AUTO(policy_free) struct policy *p = NULL;
	struct error err = {0};

	(void)arg;
	return policy_grant_parse("push", bytes_str("{\"ref\": \"refs/heads/a/*\"}"), &p, &err);
}

/* A rule that forbids holds where its path cannot be made for want of memory. */
static int forbidden(void *arg)
{
	static const char text[] = "version: 1\n"
				   "fs:\n"
				   "  - {path: \"${workspace}\", access: rx}\n"
				   "exec:\n"
				   "  - {do: allow, path: /home/u/app/*}\n"
				   "  - {do: deny, path: \"${workspace}/rm\"}\n";
	AUTO(policy_free) struct policy *p = NULL;
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	struct asked rm = {"exec", "/home/u/app/rm x", 0};
	enum policy_verdict v = POLICY_DENY;
	struct error err = {0};
	int r = policy_parse(bytes_str(text), "f", NULL, &p);
	struct policy_input in = {POLICY_LAYER_RUN, p};
	struct policy_combine c = {.inputs = &in, .count = 1};

	(void)arg;
	if (r == 0)
		r = policy_combine(&c, &e, &err);
	if (r == 0)
		r = decided(e, &rm, &v);
	assert_int_equal(v, POLICY_DENY);
	return r;
}

static void test_no_memory_is_no_policy(void **state)
{
	enum policy_format text = POLICY_TEXT, json = POLICY_JSON;
	struct asked asked[] = {
		{"http", "POST https://api.acme.example:8443/a/x", 0},
		{"http", "POST https://api.acme.example:8443/a/secret", 0},
		{"git", "push https://github.com/acme/app refs/heads/a/x", 0},
		{"write", "${workspace}/y", 0},
		{"write", "${workspace}/.git/hooks/pre-commit", 0},
		{"read", "/etc/shadow", 0},
		{"exec", "/usr/bin/git status", 0},
		{"exec", "/usr/bin/make x", 0},
		{"tcp", "db.acme.example:5432", 0},
		{"tool", "undo n=1", 0},
	};
	struct policy_effective *e = NULL;

	(void)state;
	assert_int_equal(effective(&e), 0);
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
		assert_int_equal(decided(e, &asked[i], &asked[i].verdict), 0);
	policy_effective_free(e);
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
		assert_true(memory_exhaust(question, &asked[i], 0) > 20);
	assert_true(memory_exhaust(canonical, NULL, 0) > 20);
	assert_true(memory_exhaust(for_a_step, NULL, 0) > 20);
	assert_true(memory_exhaust(words, &text, 0) > 20);
	assert_true(memory_exhaust(words, &json, 0) > 20);
	assert_true(memory_exhaust(forbidden, NULL, 0) > 5);
	assert_true(memory_exhaust(own_tests, NULL, 0) > 5);
	assert_true(memory_exhaust(granted, NULL, 0) > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_memory_is_no_policy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
