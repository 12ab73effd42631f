/* What stands behind a decision, and what a policy names. */
#include "tests/unit/policy/policy_test.h"

static const char user_policy[] =
	"version: 1\n"
	"kind: grant\n"
	"agency: trusted\n"
	"net:\n"
	"  - {id: pay, do: allow, http: {host: pay.acme.example, method: POST, body_max: 100}, "
	"effect: "
	"irreversible, retry: {keyed: {header: Idempotency-Key, window: 1h}}, ignore: [/at], card: "
	"{title: Pay, show: {to: /to, sum: /sum}, amount: /sum, why_irreversible: money}, secret: "
	"token, address: [10.1.2.3], ca: /etc/acme.pem, why: refunds, rate: {count: 10, per: 1m, "
	"bytes: 4KiB}}\n"
	"  - {id: model, do: allow, http: {host: \"*.acme.example\", method: POST, path: /v1/*}, "
	"effect: "
	"read, replay: yes}\n"
	"  - {id: plain, do: allow, http: {scheme: http, host: [plain.acme.example, "
	"two.acme.example], "
	"port: 8080}}\n"
	"  - {id: blind, do: allow, http: {host: blind.other.example, tls: passthrough}, address: "
	"[10.0.0.0/8]}\n"
	"  - {id: no, do: deny, http: {host: no.acme.example}}\n"
	"  - {id: push, do: ask, git: {remote: \"https://git.acme.example/app\", op: push, refs: "
	"[\"refs/heads/agent/*\"]}, effect: reversible}\n"
	"  - {id: gone, do: allow, git: {remote: \"https://git.acme.example/old\", op: push, refs: "
	"[\"refs/heads/agent/*\"]}}\n"
	"  - {id: never, do: deny, git: {remote: \"https://git.acme.example/old\", op: push, refs: "
	"[\"refs/*\"]}}\n"
	"  - {id: db, do: allow, tcp: {host: db.acme.example, port: 5432}}\n"
	"tools:\n"
	"  - {id: undo-pay, do: allow, run: [refund, now], args: {id: \"*\", sum: {max: 5}}, "
	"limits: "
	"{wall: 2s}}\n"
	"  - {id: wipe, do: deny, run: [wipe]}\n"
	"secrets:\n"
	"  token: {from: {file: /etc/t}, to: [\"**.acme.example\"], header: Authorization, format: "
	"\"Bearer {}\", env: TOKEN}\n"
	"standing:\n"
	"  - {rule: pay, match: {/to: bob}, uses: 3, expires: 2026-12-31, why: monthly}\n"
	"  - {rule: pay, match: {/to: eve}, uses: 1, expires: \"2027-01-01T00:00:01Z\", why: "
	"once}\n";

static const char org_policy[] =
	"version: 1\n"
	"net:\n"
	"  - {id: cap, do: allow, http: {host: pay.acme.example, body_max: 50}, retry: never, "
	"rate: "
	"{count: 1, per: 1m}}\n"
	"  - {id: rest, do: allow, http: {host: \"**.acme.example\"}, except: [{host: "
	"pay.acme.example}]}\n";

static struct policy_effective *one(void)
{
	const struct layer_text l[] = {{POLICY_LAYER_RUN, user_policy}, {0}};

	return combine_with(l, NULL, POLICY_AGENCY_UNSET);
}

static void decide_post(const struct policy_effective *e, const char *host, const char *path,
			const char *to, struct policy_request *r, struct policy_decision *d)
{
	static struct policy_field field;

	field = (struct policy_field){bytes_str("/to"), bytes_str(to)};
	*r = (struct policy_request){.kind = POLICY_HTTP, .fields = &field, .field_count = 1};
	r->http.method = bytes_str("POST");
	r->http.scheme = bytes_str("https");
	r->http.host = bytes_str(host);
	r->http.path = bytes_str(path);
	r->http.body_len = 10;
	policy_decide(e, r, d);
}

static void a_rule_is_told_whole(void **state)
{
	AUTO(policy_effective_free) struct policy_effective *e = one();
	struct policy_request q;
	struct policy_decision d;
	struct policy_rule r;
	const char *label, *pointer;

	(void)state;
	decide_post(e, "pay.acme.example", "/x", "bob", &q, &d);
	assert_int_equal(d.verdict, POLICY_ASK);
	assert_true(policy_rule_of(e, &d, &r));
	assert_string_equal(r.id, "pay");
	assert_int_equal(r.at.line, 5);
	assert_int_equal(r.layer, POLICY_LAYER_RUN);
	assert_int_equal(r.verdict, POLICY_ALLOW);
	assert_int_equal(r.class, POLICY_IRREVERSIBLE);
	assert_int_equal(r.retry, POLICY_RETRY_KEYED);
	assert_string_equal(r.key_header, "Idempotency-Key");
	assert_int_equal(r.window_ms, 3600000);
	assert_int_equal(r.ignore_count, 1);
	assert_string_equal(r.ignore[0], "/at");
	assert_string_equal(r.secret, "token");
	assert_string_equal(r.card_title, "Pay");
	assert_string_equal(r.card_amount, "/sum");
	assert_string_equal(r.card_why_irreversible, "money");
	assert_int_equal(r.card_show_count, 2);
	policy_rule_show(&r, 1, &label, &pointer);
	assert_string_equal(label, "sum");
	assert_string_equal(pointer, "/sum");
	assert_int_equal(r.body_max, 100);
	assert_int_equal(r.rate_count, 10);
	assert_int_equal(r.rate_per_ms, 60000);
	assert_int_equal(r.rate_bytes, 4096);
	assert_string_equal(r.address, "10.1.2.3");
	assert_true(r.addressed);
	assert_string_equal(r.ca, "/etc/acme.pem");
	assert_string_equal(r.why, "refunds");
	assert_false(r.replay);
	decide_post(e, "llm.acme.example", "/v1/chat", "bob", &q, &d);
	assert_true(policy_rule_of(e, &d, &r));
	assert_true(r.replay);
	assert_int_equal(r.retry, POLICY_RETRY_SAFE);
	assert_int_equal(r.body_max, UINT64_MAX);
	assert_null(r.address);
	assert_false(r.addressed);
	decide_post(e, "other.example", "/", "bob", &q, &d);
	assert_false(policy_rule_of(e, &d, &r));
}

static void another_layer_makes_it_stricter(void **state)
{
	const struct layer_text l[] = {{POLICY_LAYER_ORG, org_policy},
				       {POLICY_LAYER_RUN, user_policy},
				       {0}};
	AUTO(policy_effective_free)
	struct policy_effective *e = combine_with(l, NULL, POLICY_AGENCY_UNSET);
	struct policy_request q;
	struct policy_decision d;
	struct policy_rule r;

	(void)state;
	decide_post(e, "pay.acme.example", "/x", "bob", &q, &d);
	assert_true(policy_rule_of(e, &d, &r));
	assert_string_equal(r.id, "pay");
	assert_int_equal(r.retry, POLICY_RETRY_NEVER);
	assert_null(r.key_header);
	assert_int_equal(r.body_max, 50);
	assert_int_equal(r.rate_count, 1);
	assert_int_equal(r.rate_bytes, 4096);
}

static void every_name_that_can_be_reached_is_listed(void **state)
{
	static const struct {
		const char *host;
		uint16_t port;
		enum policy_reach_mode mode;
	} want[] = {
		{"pay.acme.example", 443, POLICY_REACH_TLS},
		{"*.acme.example", 443, POLICY_REACH_TLS},
		{"plain.acme.example", 8080, POLICY_REACH_HTTP},
		{"two.acme.example", 8080, POLICY_REACH_HTTP},
		{"blind.other.example", 443, POLICY_REACH_PASSTHROUGH},
		{"git.acme.example", 443, POLICY_REACH_TLS},
		{"git.acme.example", 443, POLICY_REACH_TLS},
		{"db.acme.example", 5432, POLICY_REACH_TCP},
	};
	const struct layer_text l[] = {{POLICY_LAYER_ORG, org_policy},
				       {POLICY_LAYER_RUN, user_policy},
				       {0}};
	AUTO(policy_effective_free)
	struct policy_effective *e = combine_with(l, NULL, POLICY_AGENCY_UNSET);
	struct policy_reach r;
	size_t i = 0;

	(void)state;
	for (; policy_net_at(e, i, &r); i++) {
		assert_true(i < ARRAY_SIZE(want));
		assert_string_equal(r.host, want[i].host);
		assert_int_equal(r.port, want[i].port);
		assert_int_equal(r.mode, want[i].mode);
	}
	assert_int_equal(i, ARRAY_SIZE(want));
	assert_string_equal(policy_ca_at(e, 0), "/etc/acme.pem");
	assert_null(policy_ca_at(e, 1));
}

static void a_push_is_possible_where_some_ref_is(void **state)
{
	AUTO(policy_effective_free) struct policy_effective *e = one();
	struct policy_decision d;

	(void)state;
	assert_true(policy_push_possible(e, bytes_str("https://git.acme.example/app.git"), &d));
	assert_string_equal(d.rule, "push");
	assert_false(policy_push_possible(e, bytes_str("https://git.acme.example/old"), &d));
	assert_false(policy_push_possible(e, bytes_str("https://git.acme.example/none"), &d));
	assert_false(policy_push_possible(e, bytes_str("nonsense"), &d));
}

static void secrets_tools_and_grants_are_listed(void **state)
{
	AUTO(policy_effective_free) struct policy_effective *e = one();
	struct policy_secret_info s;
	struct policy_tool_info t;
	struct policy_standing_info st;
	struct policy_request q;
	struct policy_decision d;

	(void)state;
	assert_true(policy_secret_at(e, 0, &s));
	assert_false(policy_secret_at(e, 1, &s));
	assert_true(policy_secret_find(e, bytes_str("token"), &s));
	assert_false(policy_secret_find(e, bytes_str("tok"), &s));
	assert_true(policy_secret_named(e, "token"));
	assert_false(policy_secret_named(e, "tok"));
	assert_string_equal(s.file, "/etc/t");
	assert_string_equal(s.header, "Authorization");
	assert_string_equal(s.format, "Bearer {}");
	assert_string_equal(s.env, "TOKEN");
	assert_true(policy_secret_to(&s, bytes_str("PAY.acme.example.")));
	assert_false(policy_secret_to(&s, bytes_str("acme.example.evil")));
	assert_true(policy_tool_at(e, 0, &t));
	assert_false(policy_tool_at(e, 1, &t));
	assert_string_equal(t.id, "undo-pay");
	assert_string_equal(t.run[1], "now");
	assert_int_equal(t.arg_count, 2);
	assert_int_equal(t.limits[POLICY_LIMIT_WALL], 2000);
	assert_true(policy_standing_at(e, 0, &st));
	assert_string_equal(st.rule, "pay");
	assert_int_equal(st.uses, 3);
	assert_int_equal(st.expires_ns, 1798761600LL * 1000000000);
	assert_true(policy_standing_at(e, 1, &st));
	assert_int_equal(st.expires_ns, 1798761601LL * 1000000000);
	assert_false(policy_standing_at(e, 2, &st));
	decide_post(e, "pay.acme.example", "/x", "bob", &q, &d);
	assert_true(d.standing);
	assert_true(policy_standing_covers(e, 0, &q, &d));
	assert_false(policy_standing_covers(e, 1, &q, &d));
	assert_false(policy_standing_covers(e, 2, &q, &d));
}

static void a_secret_that_no_rule_of_the_step_names_is_not_needed(void **state)
{
	static const char text[] =
		"version: 1\n"
		"net:\n"
		"  - {id: a, do: allow, http: {host: a.example.com}, secret: used}\n"
		"  - {id: b, do: deny, http: {host: b.example.com}, secret: denied}\n"
		"  - {id: c, do: ask, http: {host: c.example.com}, secret: other}\n"
		"secrets:\n"
		"  used: {from: {env: A}, to: [a.example.com], header: X, format: \"{}\"}\n"
		"  denied: {from: {env: B}, to: [b.example.com], header: X, format: \"{}\"}\n"
		"  other: {from: {env: C}, to: [c.example.com], header: X, format: \"{}\"}\n"
		"  idle: {from: {env: D}, to: [d.example.com], header: X, format: \"{}\"}\n"
		"steps:\n"
		"  s: {use: [a]}\n";
	const struct layer_text l[] = {{POLICY_LAYER_RUN, text}, {0}};
	AUTO(policy_effective_free) struct policy_effective *run = combine(l), *step = NULL;

	(void)state;
	assert_int_equal(policy_effective_step(run, "s", POLICY_AGENCY_UNSET, &step, NULL), 0);
	assert_true(policy_secret_named(run, "used"));
	assert_true(policy_secret_named(run, "other"));
	assert_false(policy_secret_named(run, "denied"));
	assert_false(policy_secret_named(run, "idle"));
	assert_true(policy_secret_named(step, "used"));
	assert_false(policy_secret_named(step, "other"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rule_is_told_whole),
		cmocka_unit_test(another_layer_makes_it_stricter),
		cmocka_unit_test(every_name_that_can_be_reached_is_listed),
		cmocka_unit_test(a_push_is_possible_where_some_ref_is),
		cmocka_unit_test(secrets_tools_and_grants_are_listed),
		cmocka_unit_test(a_secret_that_no_rule_of_the_step_names_is_not_needed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
