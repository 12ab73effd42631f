/* A person's grant covers what its fields say, and nothing of another rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include "policy/policy.h"

static const char text[] =
	"version: 1\nname: t\nnet:\n"
	"  - {id: refund, do: ask, http: {host: pay.example, method: [POST], path: /v1/refunds}}\n"
	"  - {id: other, do: ask, http: {host: pay.example, method: [POST], path: /v1/other}}\n"
	"  - {id: push, do: ask, git: {remote: \"https://git.example/a\", op: push, refs: "
	"[\"refs/heads/*\"]}}\n"
	"tools:\n  - {id: mail, do: ask, run: [/usr/bin/mail], args: {to: \"*\", body: \"*\"}}\n";

static struct policy_effective *effective(void)
{
	struct policy_effective *e;
	struct policy *p;
	struct policy_input in = {.layer = POLICY_LAYER_RUN};
	struct policy_combine c = {.inputs = &in, .count = 1};
	struct error err = {0};

	assert_int_equal(policy_parse(bytes_str(text), "t.yaml", NULL, &p), 0);
	if (policy_check(p, &err) < 0)
		fail_msg("%s: %s", err.where, err.msg);
	in.policy = p;
	assert_int_equal(policy_combine(&c, &e, NULL), 0);
	policy_free(p);
	return e;
}

static bool covers(const struct policy_effective *e, const char *rule, const char *match,
		   const struct policy_request *r)
{
	AUTO(policy_free) struct policy *g = NULL;
	struct policy_decision d;
	struct error err = {0};

	if (policy_grant_parse(rule, bytes_str(match), &g, &err) < 0)
		fail_msg("%s: %s", match, err.msg);
	policy_decide(e, r, &d);
	assert_int_equal(d.verdict, POLICY_ASK);
	return policy_grant_covers(g, e, r, &d);
}

static struct policy_request post(const char *path, const struct policy_field *f, size_t n)
{
	return (struct policy_request){.kind = POLICY_HTTP,
				       .http = {.method = bytes_str("POST"),
						.scheme = bytes_str("https"),
						.host = bytes_str("pay.example"),
						.path = bytes_str(path)},
				       .fields = f,
				       .field_count = n};
}

static void test_a_grant_covers_its_fields_and_its_rule_only(void **state)
{
	AUTO(policy_effective_free) struct policy_effective *e = effective();
	const struct policy_field f[] = {{bytes_str("/amount"), bytes_str("40")},
					 {bytes_str("/to"), bytes_str("alice")}};
	struct policy_request refund = post("/v1/refunds", f, 2), other = post("/v1/other", f, 2);

	(void)state;
	assert_true(covers(e, "refund", "{\"path\": \"/v1/refunds\"}", &refund));
	assert_true(
		covers(e, "refund", "{\"/amount\": {\"max\": 50}, \"/to\": \"alice\"}", &refund));
	assert_true(covers(e, "refund", "{\"/to\": {\"in\": [\"bob\", \"alice\"]}}", &refund));
	assert_false(covers(e, "refund", "{\"/amount\": {\"max\": 39}}", &refund));
	assert_false(covers(e, "refund", "{\"/to\": \"bob\"}", &refund));
	assert_false(covers(e, "refund", "{\"/missing\": \"*\"}", &refund));
	assert_false(covers(e, "refund", "{\"method\": \"POST\"}", &other)); /* another rule */
	assert_true(covers(e, "other", "{\"method\": \"POST\"}", &other));
}

static void test_the_same_program_with_other_arguments_is_not_covered(void **state)
{
	AUTO(policy_effective_free) struct policy_effective *e = effective();
	struct policy_field f[] = {{bytes_str("to"), bytes_str("team@acme.example")},
				   {bytes_str("body"), bytes_str("hello")}};
	struct policy_request r = {.kind = POLICY_TOOL,
				   .tool = bytes_str("mail"),
				   .fields = f,
				   .field_count = 2};

	(void)state;
	assert_true(covers(e, "mail", "{\"to\": \"*@acme.example\"}", &r));
	f[0].value = bytes_str("all@press.example");
	assert_false(covers(e, "mail", "{\"to\": \"*@acme.example\"}", &r));
	f[0].value = bytes_str("a@acme.example.evil.example");
	assert_false(covers(e, "mail", "{\"to\": \"*@acme.example\"}", &r));
}

static void test_what_is_no_grant_is_refused(void **state)
{
	static const char *const bad[] = {
		"{}",
		"[]",
		"",
		"{\"path\": \"/a\"}, {\"path\": \"/b\"}",
		"{\"path\": \"/a\"}, uses: 100000",
		"{\"path\": \"/a\", \"path\": \"/b\"}",
		"{\"path\": {\"max\": \"x\"}}",
		"{\"path\": {\"like\": \"x\"}}",
		"{\"path\": \"/a\"}\nstanding: []",
		"*anchor",
		"{\"path\": \"a\xe2\x80\x8b\"}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct policy *g = NULL;
		struct error err = {0};

		if (policy_grant_parse("refund", bytes_str(bad[i]), &g, &err) == 0)
			fail_msg("'%s' was taken for a grant", bad[i]);
		assert_null(g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_grant_covers_its_fields_and_its_rule_only),
		cmocka_unit_test(test_the_same_program_with_other_arguments_is_not_covered),
		cmocka_unit_test(test_what_is_no_grant_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
