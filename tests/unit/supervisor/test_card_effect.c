/* The card of an effect: all of what is sent, or no card. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include "base/guard.h"
#include "base/utf8.h"
#include "supervisor/card_effect.h"

static const char policy_text[] =
	"version: 1\n"
	"name: t\n"
	"kind: grant\n"
	"net:\n"
	"  - id: refund\n"
	"    do: ask\n"
	"    http: {host: api.shop.example, method: [POST], path: /refunds}\n"
	"    effect: irreversible\n"
	"    card: {title: Pay back, show: {to: /customer}, amount: /amount, why_irreversible: "
	"money leaves}\n";

struct case_of {
	struct policy *p;
	struct policy_effective *e;
	struct policy_rule rule;
	struct action action;
	struct journal_effect effect;
	struct card_effect in;
};

static int setup(void **state)
{
	struct case_of *x = calloc(1, sizeof(*x));
	struct error err = {0};
	struct policy_input input = {.layer = POLICY_LAYER_RUN};
	struct policy_combine c = {.inputs = &input, .count = 1};
	struct policy_request r = {.kind = POLICY_HTTP,
				   .http = {.method = bytes_str("POST"),
					    .scheme = bytes_str("https"),
					    .host = bytes_str("api.shop.example"),
					    .port = 443,
					    .path = bytes_str("/refunds")}};
	struct policy_decision d;

	assert_int_equal(policy_parse(bytes_str(policy_text), "acme.yaml", NULL, &x->p), 0);
	input.policy = x->p;
	if (policy_combine(&c, &x->e, &err) < 0)
		fail_msg("%s", err.msg);
	policy_decide(x->e, &r, &d);
	assert_true(policy_rule_of(x->e, &d, &x->rule));
	x->action = (struct action){.kind = ACTION_HTTP,
				    .method = bytes_str("POST"),
				    .scheme = bytes_str("https"),
				    .host = bytes_str("api.shop.example"),
				    .port = 443,
				    .path = bytes_str("/refunds"),
				    .headers = {{bytes_str("content-type"),
						 bytes_str("application/json")}},
				    .header_count = 1,
				    .has_body = true};
	x->effect = (struct journal_effect){.class = JOURNAL_CLASS_IRREVERSIBLE,
					    .rule = "refund",
					    .at = "acme.yaml:5:5",
					    .secret = "shop",
					    .claim = "the customer asked",
					    .dropped = "x-trace, x-other"};
	x->in = (struct card_effect){.kind = JOURNAL_KIND_EFFECT,
				     .run_name = "ops",
				     .step_key = "act#1",
				     .effect = &x->effect,
				     .action = &x->action,
				     .domain = policy_registrable(x->action.host),
				     .rule = &x->rule,
				     .why = "irreversible at assist",
				     .done_rule = 2,
				     .decide_by_ns = 1700000000000000000,
				     .execute_by_ns = 3600000000000};
	memset(x->in.item.b, 0xab, sizeof(x->in.item.b));
	memset(x->effect.action.b, 0xcd, sizeof(x->effect.action.b));
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct case_of *x = *state;

	policy_effective_free(x->e);
	policy_free(x->p);
	free(x);
	return 0;
}

static void body(struct case_of *x, const char *text)
{
	x->in.body = bytes_str(text);
	x->action.body_len = strlen(text);
}

static int render(struct case_of *x, struct buffer *out, bool *ret_complete)
{
	struct error err = {0};
	int rc = card_effect_render(&x->in, out, ret_complete, &err);

	if (rc < 0)
		assert_true(err.msg[0]);
	buffer_append_byte(out, 0);
	return rc;
}

static void it_says_what_where_how_much_and_what_follows(void **state)
{
	struct case_of *x = *state;
	AUTO_BUFFER out = {0};
	bool complete = false;
	static const char want[] =
		"Pay back: POST api.[shop.example]/refunds\n"
		"AMOUNT     40\n"
		"to         c-17\n"
		"to         https://api.shop.example:443/refunds\n"
		"class      irreversible: money leaves\n"
		"headers    content-type: application/json\n"
		"left out   headers that are not passed on: x-trace, x-other\n"
		"body       45 bytes, sha256 0000000000000000\n"
		"         | /customer = \"c-17\"\n"
		"         | /amount = 40\n"
		"         | /note = \"x\"\n"
		"credential shop\n"
		"done       2 by this rule in this run\n"
		"run        ops 00000000, step act#1\n"
		"claimed    (the agent's words; nobody checked them) the customer asked\n"
		"\n"
		"approve:   it is sent, once, exactly as it stands above\n"
		"deny:      nothing is sent; the step is told 403 and goes on as it can\n"
		"asked by   rule refund (acme.yaml:5:5): irreversible at assist\n"
		"decide by  2023-11-14 22:13:20 UTC\n"
		"an approval holds for 60 minutes\n"
		"digest     cdcdcdcdcdcdcdcd\n"
		"item       abababababababab\n";

	body(x, "{\"customer\":\"c-17\",\"amount\":40,\"note\":\"x\"   }");
	assert_int_equal(render(x, &out, &complete), 0);
	assert_string_equal((char *)out.data, want);
	assert_true(complete);
}

static void it_says_what_is_left_of_rate_and_budget(void **state)
{
	static const struct {
		enum journal_approval_kind kind;
		uint32_t used;
		struct card_budget requests, egress;
		const char *want; /* NULL = no such line */
	} cases[] = {
		{JOURNAL_KIND_EFFECT, 2, {0}, {0}, NULL},
		{JOURNAL_KIND_EFFECT,
		 2,
		 {100, 4},
		 {0},
		 "\nbudget     96 of 100 requests left to this run before this one\n"},
		{JOURNAL_KIND_EFFECT,
		 3,
		 {1, 1},
		 {1000, 990},
		 "\nbudget     0 of 1 requests, 10 of 1000 bytes out left to this run before "
		 "this one\n"},
		{JOURNAL_KIND_DOUBT,
		 3,
		 {0},
		 {1000, 992},
		 "\nbudget     8 of 1000 bytes out left to this run\n"},
	};
	struct case_of *x = *state;

	x->rule.rate_count = 3;
	x->rule.rate_per_ms = 60000;
	body(x, "{}");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		AUTO_BUFFER out = {0};
		bool complete;
		char limit[80];

		x->in.kind = cases[i].kind;
		x->in.rate_used = cases[i].used;
		x->in.requests = cases[i].requests;
		x->in.egress = cases[i].egress;
		assert_int_equal(render(x, &out, &complete), 0);
		snprintf(limit, sizeof(limit),
			 "\nlimit      3 in 60 s by its rule; %u left of it after this one\n",
			 3 - cases[i].used);
		assert_non_null(strstr((char *)out.data, limit));
		if (cases[i].want)
			assert_non_null(strstr((char *)out.data, cases[i].want));
		else
			assert_null(strstr((char *)out.data, "\nbudget"));
	}
}

static void what_cannot_be_shown_truly_has_no_card(void **state)
{
	struct case_of *x = *state;
	static char longer[CARD_EFFECT_BODY_MAX + 10];
	static const struct {
		const char *type, *body;
		int rc;
	} cases[] = {
		{"application/json", "{\"amount\":1,\"amount\":1000}", -ENOTSUP},
		{"application/json", "{\"amount\":9007199254740993}", -ENOTSUP},
		{"application/json", "amount=1", -ENOTSUP},
		{"application/vnd.x+json", "{\"a\":1,\"a\":2}", -ENOTSUP},
		{"application/json; charset=utf-7", "{\"a\":1}", -ENOTSUP},
		{"application/json; charset=utf-8", "{\"a\":1}", 0},
		{"text/plain", "caf\xe9", -ENOTSUP},
		{"text/plain; charset=utf-7", "+ADw-", -ENOTSUP},
		{"text/plain; charset=utf-8", "caf\xc3\xa9", 0},
		{"application/octet-stream", "\x01\x02", 0},
		{"text/plain", longer, -ENOTSUP},
	};

	memset(longer, 'a', sizeof(longer) - 1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		AUTO_BUFFER out = {0};
		bool complete;

		x->action.headers[0].value = bytes_str(cases[i].type);
		body(x, cases[i].body);
		if (render(x, &out, &complete) != cases[i].rc)
			fail_msg("%s %.40s", cases[i].type, cases[i].body);
	}
}

static void more_than_is_shown_is_not_approved_by_default(void **state)
{
	struct case_of *x = *state;
	static char longer[CARD_EFFECT_HEX_MAX + 10];
	AUTO_BUFFER out = {0};
	bool complete = true;

	memset(longer, 1, sizeof(longer) - 1);
	x->action.headers[0].value = bytes_str("application/octet-stream");
	body(x, longer);
	assert_int_equal(render(x, &out, &complete), 0);
	assert_false(complete);
	assert_non_null(strstr((char *)out.data, "not all of it is shown here"));
}

static void the_agents_bytes_forge_no_line(void **state)
{
	struct case_of *x = *state;
	AUTO_BUFFER out = {0};
	bool complete;
	size_t approve = 0;

	body(x, "{\"note\":\"x\\napprove:   it is free\\r\\u001b[2J\\u202e\"}");
	x->effect.claim = "fine\ndeny:      nothing";
	x->action.path = bytes_str("/refunds/\xe2\x80\xae"
				   "x");
	assert_int_equal(render(x, &out, &complete), 0);
	for (char *at = (char *)out.data; (at = strstr(at, "\napprove:")); at++)
		approve++;
	assert_int_equal(approve, 1);
	for (size_t at = 0; at + 1 < out.len;) {
		int32_t cp = utf8_next(bytes_of(out.data, out.len - 1), &at);

		assert_true(cp == '\n' || (cp > 0 && !utf8_is_deceptive(cp)));
	}
}

static void what_was_swapped_while_pending_is_shown(void **state)
{
	struct case_of *x = *state;
	struct action before = x->action;
	AUTO_BUFFER out = {0};
	bool complete;

	body(x, "{\"amount\":4000,\"note\":\"x\"}");
	x->in.before = &before;
	x->in.before_body = bytes_str("{\"amount\":40,\"note\":\"x\"}");
	assert_int_equal(render(x, &out, &complete), 0);
	assert_non_null(strstr((char *)out.data, "CHANGED"));
	assert_non_null(strstr((char *)out.data, "- /amount = 40\n"));
	assert_non_null(strstr((char *)out.data, "+ /amount = 4000\n"));
	assert_null(strstr((char *)out.data, "- /note"));
}

static void a_doubt_asks_what_became_of_it(void **state)
{
	struct case_of *x = *state;
	AUTO_BUFFER out = {0};
	bool complete;

	x->in.kind = JOURNAL_KIND_DOUBT;
	x->effect.reserved_ns = 1700000000000000000;
	x->effect.why = "its courier died";
	x->effect.header = "Idempotency-Key";
	x->in.key = "abc";
	body(x, "{\"a\":1,\"a\":2}"); /* sent already: it is still asked about */
	assert_int_equal(render(x, &out, &complete), 0);
	assert_non_null(strstr((char *)out.data, "IN DOUBT, it may have happened: Pay back"));
	assert_non_null(strstr((char *)out.data, "2023-11-14 22:13:20 UTC"));
	assert_non_null(strstr((char *)out.data, "--as not-done"));
	assert_non_null(strstr((char *)out.data, "abc in Idempotency-Key"));
}

static void the_first_line_tells_paths_apart_and_is_one_line(void **state)
{
	struct case_of *x = *state;
	AUTO_BUFFER out = {0};
	bool complete;
	char path[200], want[300];

	memset(path, 'a', sizeof(path));
	memcpy(path, "/x\ny", 4);
	x->action.path = bytes_of(path, sizeof(path));
	body(x, "{}");
	assert_int_equal(render(x, &out, &complete), 0);
	/* 64 bytes, of which the escape is two */
	snprintf(want, sizeof(want), "Pay back: POST api.[shop.example]/x\\ny%.59s...\n", path + 4);
	assert_memory_equal(out.data, want, strlen(want));
}

static void a_probe_that_was_not_asked_is_not_said_to_know_nothing(void **state)
{
	struct case_of *x = *state;
	AUTO_BUFFER before = {0};
	AUTO_BUFFER after = {0};
	bool complete;

	x->in.kind = JOURNAL_KIND_DOUBT;
	x->effect.probe = "ask";
	x->in.probed = true;
	body(x, "{}");
	assert_int_equal(render(x, &after, &complete), 0);
	assert_non_null(strstr((char *)after.data, "probe      ask does not know\n"));
	x->in.unasked = true;
	assert_int_equal(render(x, &before, &complete), 0);
	assert_non_null(strstr((char *)before.data, "probe      ask was not asked yet;"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(it_says_what_where_how_much_and_what_follows),
		T(it_says_what_is_left_of_rate_and_budget),
		T(what_cannot_be_shown_truly_has_no_card),
		T(more_than_is_shown_is_not_approved_by_default),
		T(the_agents_bytes_forge_no_line),
		T(what_was_swapped_while_pending_is_shown),
		T(a_doubt_asks_what_became_of_it),
		T(the_first_line_tells_paths_apart_and_is_one_line),
		T(a_probe_that_was_not_asked_is_not_said_to_know_nothing),
	};
	return cmocka_run_group_tests_name("card_effect", tests, NULL, NULL);
}
