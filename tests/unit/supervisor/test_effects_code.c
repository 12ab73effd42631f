/* What the journal keeps of effects has one form, and what is decided of an action is the policy's.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include "base/guard.h"
#include "supervisor/effect_decide.h"
#include "supervisor/effects_code.h"
#include "tests/golden.h"

static void a_response_reads_back_as_it_was(void **state)
{
	(void)state;
	const struct action_header headers[] = {{bytes_str("content-type"),
						 bytes_str("text/plain")},
						{bytes_str("x"), bytes_str("\xff")}};
	struct action_header back[ACTION_HEADERS_MAX];
	AUTO_BUFFER b = {0};
	size_t count = 0;
	int status = 0;

	assert_int_equal(effects_code_response_encode(201, headers, 2, &b), 0);
	golden_check("supervisor/effect-response.one.cbor", buffer_bytes(&b));
	assert_int_equal(effects_code_response_decode(buffer_bytes(&b), &status, back, &count), 0);
	assert_int_equal(status, 201);
	assert_int_equal(count, 2);
	assert_true(bytes_equal(back[1].value, headers[1].value));
	for (size_t i = 0; i < b.len; i++)
		assert_int_equal(effects_code_response_decode(bytes_of(b.data, i), &status, back,
							      &count),
				 -EBADMSG);
}

static int count_reads(const struct report_read *r, void *arg)
{
	assert_true(r->path.len <= EFFECTS_CODE_READ_TEXT_MAX);
	assert_int_equal(r->port, 443);
	++*(int *)arg;
	return 0;
}

static void reads_are_kept_and_cut(void **state)
{
	(void)state;
	char path[2000];
	struct report_read reads[2] = {{.wall_ns = 1700000000000000000,
					.kind = ACTION_HTTP,
					.status = 200,
					.method = bytes_str("GET"),
					.host = bytes_str("a.example"),
					.path = bytes_str("/x"),
					.port = 443,
					.rule = bytes_str("r"),
					.received = 10,
					.duration_us = 99},
				       {.wall_ns = 1700000000000000001,
					.kind = ACTION_HTTP,
					.denied = true,
					.method = bytes_str("POST"),
					.host = bytes_str("b.example"),
					.port = 443,
					.why = bytes_str("no rule")}};
	AUTO_BUFFER b = {0};
	AUTO_BUFFER cut = {0};
	int n = 0;

	assert_int_equal(effects_code_reads_encode(reads, 2, &b), 0);
	golden_check("supervisor/effect-reads.two.cbor", buffer_bytes(&b));
	assert_int_equal(effects_code_reads_each(buffer_bytes(&b), count_reads, &n), 0);
	assert_int_equal(n, 2);
	memset(path, 'a', sizeof(path));
	reads[0].path = bytes_of(path, sizeof(path));
	assert_int_equal(effects_code_reads_encode(reads, 1, &cut), 0);
	assert_int_equal(effects_code_reads_each(buffer_bytes(&cut), count_reads, &n), 0);
	assert_int_equal(n, 3);
}

/* ---- deciding ---- */

static const char policy_text[] =
	"version: 1\n"
	"name: t\n"
	"kind: grant\n"
	"net:\n"
	"  - {id: get, do: allow, http: {host: a.example, method: [GET]}}\n"
	"  - {id: refund, do: ask, http: {host: a.example, method: [POST], path: /refunds, json: "
	"{/amount: {max: 100}}}, effect: irreversible, retry: {keyed: {header: Idempotency-Key, "
	"window: 24h}}}\n"
	"  - {id: push, do: allow, git: {remote: \"https://git.example/app\", op: push, refs: "
	"[\"refs/heads/agent/*\"]}, effect: reversible}\n";

static struct policy_effective *policy(void)
{
	struct policy_effective *e = NULL;
	AUTO(policy_free) struct policy *p = NULL;
	struct error err = {0};
	struct policy_input input = {.layer = POLICY_LAYER_RUN};
	struct policy_combine c = {.inputs = &input, .count = 1};

	assert_int_equal(policy_parse(bytes_str(policy_text), "f", NULL, &p), 0);
	input.policy = p;
	if (policy_combine(&c, &e, &err) < 0)
		fail_msg("%s", err.msg);
	return e;
}

static void an_action_is_decided_by_all_of_it(void **state)
{
	(void)state;
	AUTO(policy_effective_free) struct policy_effective *e = policy();
	static const struct {
		const char *method, *path, *body;
		enum policy_verdict want;
		bool unclear;
		const char *charset; /* NULL: UTF-8 */
	} cases[] = {
		{"GET", "/x", NULL, POLICY_ALLOW, false},
		{"POST", "/refunds", "{\"amount\":100}", POLICY_ASK, false},
		{"POST", "/refunds", "{\"amount\":101}", POLICY_DENY, false},
		{"POST", "/refunds", "{\"amount\":1,\"amount\":100000}", POLICY_DENY, true},
		{"POST", "/refunds", "amount=1", POLICY_DENY, true},
		{"POST", "/other", "{\"amount\":1}", POLICY_DENY, false},
		/* a reader that believes it reads +ACI- as a quotation mark */
		{"POST", "/refunds", "{\"amount\":1,\"x\":\"+ACI-,+ACI-amount+ACI-:9,+ACI-y+ACI-:+ACI-\"}",
		 POLICY_DENY, true, "application/json; charset=utf-7"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct action a = {.kind = ACTION_HTTP,
				   .method = bytes_str(cases[i].method),
				   .scheme = bytes_str("https"),
				   .host = bytes_str("a.example"),
				   .port = 443,
				   .path = bytes_str(cases[i].path),
				   .headers = {{bytes_str("content-type"),
						bytes_str(cases[i].charset
								  ? cases[i].charset
								  : "application/json; "
								    "charset=utf-8")}},
				   .header_count = 1,
				   .has_body = cases[i].body != NULL,
				   .body_len = cases[i].body ? strlen(cases[i].body) : 0};
		struct effect_decision d;
		char title[EFFECT_DECIDE_TITLE_MAX];

		assert_int_equal(effect_decide(e, &a, bytes_str(cases[i].body), &d), 0);
		if (d.policy.verdict != cases[i].want || d.unclear != cases[i].unclear)
			fail_msg("%s %s %s: %s", cases[i].method, cases[i].path, cases[i].body,
				 d.policy.why);
		effect_decide_title(&a, title);
		assert_non_null(strstr(title, "https://a.example/"));
		if (cases[i].want != POLICY_ASK)
			continue;
		assert_true(d.has_rule);
		assert_int_equal(d.rule.retry, POLICY_RETRY_KEYED);
		assert_int_equal(d.policy.class, POLICY_IRREVERSIBLE);
		assert_string_equal(d.rule.key_header, "Idempotency-Key");
	}
}

static void a_push_is_what_its_strictest_ref_is(void **state)
{
	(void)state;
	AUTO(policy_effective_free) struct policy_effective *e = policy();
#define OLD "1111111111111111111111111111111111111111"
#define NEW "2222222222222222222222222222222222222222"
	struct action a = {.kind = ACTION_GIT,
			   .method = bytes_str("POST"),
			   .scheme = bytes_str("https"),
			   .host = bytes_str("git.example"),
			   .port = 443,
			   .push = true,
			   .remote = bytes_str("https://git.example/app"),
			   .updates = {{bytes_str("refs/heads/agent/a"), bytes_str(OLD),
					bytes_str(NEW), false},
				       {bytes_str("refs/heads/main"), bytes_str(OLD),
					bytes_str(NEW), false}},
			   .update_count = 1};
	struct effect_decision d;

	assert_int_equal(effect_decide(e, &a, (struct bytes){0}, &d), 0);
	assert_int_equal(d.policy.verdict, POLICY_ALLOW);
	a.update_count = 2;
	assert_int_equal(effect_decide(e, &a, (struct bytes){0}, &d), 0);
	assert_int_equal(d.policy.verdict, POLICY_DENY);
	a.update_count = 1;
	a.updates[0].force = true;
	assert_int_equal(effect_decide(e, &a, (struct bytes){0}, &d), 0);
	assert_int_equal(d.policy.verdict, POLICY_DENY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_response_reads_back_as_it_was),
		cmocka_unit_test(reads_are_kept_and_cut),
		cmocka_unit_test(an_action_is_decided_by_all_of_it),
		cmocka_unit_test(a_push_is_what_its_strictest_ref_is),
	};
	return cmocka_run_group_tests_name("supervisor/effects_code", tests, NULL, NULL);
}
