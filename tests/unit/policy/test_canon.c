/* The canonical form: it comes back byte for byte, its digest holds what decides and nothing else.
 */
#include "tests/unit/policy/policy_test.h"
#include "base/cbor.h"
#include "tests/golden.h"

/* Every key of the grammar once. */
static const char whole[] =
	"version: 1\n"
	"name: whole\n"
	"kind: grant\n"
	"agency: trusted\n"
	"unattended: deny\n"
	"base: pinned\n"
	"fs:\n"
	"  - {path: \"${workspace}\", access: stage, except: [\"${workspace}/x\"], why: work}\n"
	"  - {path: /usr, access: rx}\n"
	"exec:\n"
	"  - {do: allow, path: /usr/bin/git, argv: [git, {any: [status, diff]}], why: looking}\n"
	"env: {keep: [PATH, \"LC_*\"], set: {CI: \"1\"}}\n"
	"net:\n"
	"  - id: http\n"
	"    do: ask\n"
	"    http: {scheme: https, host: [api.acme.example, \"*.x.acme.example\"], port: 8443, "
	"method: [POST], path: [/a/*, /b/**],\n"
	"           query_max: 10, body_max: 1KiB, json: {/n: {max: 10}, /m: {min: -1}, /s: {in: "
	"[a, b]}, /g: \"x*\"}, tls: inspect}\n"
	"    effect: reversible\n"
	"    undo: {tool: undo}\n"
	"    retry: {keyed: {header: Idempotency-Key, window: 24h}}\n"
	"    replay: yes\n"
	"    ignore: [/date]\n"
	"    secret: token\n"
	"    card: {title: T, show: {What: /s}, amount: /n, why_irreversible: it is}\n"
	"    rate: {count: 5, per: 1m, bytes: 1MiB}\n"
	"    except: [{host: api.acme.example, path: /a/secret}]\n"
	"    address: [10.0.0.0/8, \"fd00::/8\"]\n"
	"    ca: /etc/acme/ca.pem\n"
	"    why: because\n"
	"  - {id: push, do: allow, git: {remote: \"https://github.com/acme/app\", op: push, refs: "
	"[\"refs/heads/a/*\"], force: true, delete: false},\n"
	"     effect: irreversible, retry: {probe: {tool: undo}}}\n"
	"  - {id: db, do: deny, tcp: {host: db.acme.example, port: 5432}, retry: never}\n"
	"tools:\n"
	"  - {id: undo, do: allow, run: [undo, it], args: {n: {in: [\"1\"]}}, limits: {wall: 10s}, "
	"effect: reversible, undo: {text: by hand}}\n"
	"secrets:\n"
	"  token: {from: {file: /etc/holdfast/token}, to: [api.acme.example, \"**.acme.example\"], "
	"header: Authorization, format: \"Bearer {}\", env: TOKEN}\n"
	"limits: {wall: 30m, cpu: 1h, memory: 4GiB, pids: 64, disk: 1GiB, files: 1000, output: "
	"1MiB, egress: 50MiB, requests: 100}\n"
	"allow_weaker: [memory, landlock]\n"
	"contract: {checks: [{run: [make, test], expect: {exit: 0}}], protected: [\"tests/**\"]}\n"
	"approvals: {decide_by: 30d, execute_by: 1h, freeze: 30s, suspend: 10m, quorum: 2, role: "
	"['group:release'], exclude: [starter, \"1000\"], signers: /etc/holdfast/signers}\n"
	"notify: {run: [mail, ops], on: [opened, decided]}\n"
	"standing:\n"
	"  - {rule: push, match: {ref: \"refs/heads/a/*\", /n: {max: 5}}, uses: 3, expires: "
	"2030-12-31T18:00:00Z, why: agreed}\n"
	"steps:\n"
	"  plan*: {agency: observe, use: [], limits: {wall: 1m}, fs: [{path: \"${workspace}\", "
	"access: r}]}\n"
	"tests:\n"
	"  - {read: /usr/bin/env, expect: allow}\n";

#define GOLDEN_DIGEST "11798fdbecef0b5ea66c536dc3da22c8bdf3a90cefb068b3c4d17fd59daf9f54"

static struct policy_effective *sample(void)
{
	return combine_with((struct layer_text[]){{POLICY_LAYER_ORG,
						   "version: 1\nnet:\n  - {id: o, do: ask, http: "
						   "{host: \"**.acme.example\"}}\n"},
						  {POLICY_LAYER_RUN, whole},
						  {0}},
			    NULL, POLICY_ASSIST);
}

static void encode(const struct policy_effective *e, struct buffer *b)
{
	assert_int_equal(policy_effective_encode(e, b), 0);
	assert_int_equal(cbor_validate(buffer_bytes(b)), 0);
}

static void expect_round_trip(const struct policy_effective *e)
{
	AUTO_BUFFER once = {0};
	AUTO_BUFFER twice = {0};
	AUTO_BUFFER text = {0};
	AUTO_BUFFER again = {0};
	struct policy_effective *back = NULL;
	struct digest a, b;
	struct error err = {0};

	encode(e, &once);
	if (policy_effective_decode(buffer_bytes(&once), &back, &err) < 0)
		fail_msg("%s", err.msg);
	encode(back, &twice);
	assert_true(bytes_equal(buffer_bytes(&once), buffer_bytes(&twice)));
	assert_int_equal(policy_effective_digest(e, &a), 0);
	assert_int_equal(policy_effective_digest(back, &b), 0);
	assert_true(digest_equal(&a, &b));
	/* And it says the same. */
	assert_int_equal(policy_explain(e, &vars, POLICY_TEXT, &text), 0);
	assert_int_equal(policy_explain(back, &vars, POLICY_TEXT, &again), 0);
	assert_string_equal((char *)text.data, (char *)again.data);
	policy_effective_free(back);
}

static void test_what_is_journaled_comes_back_byte_for_byte(void **state)
{
	struct policy_effective *e = sample();
	struct policy_effective *step = NULL;

	(void)state;
	expect_round_trip(e);
	assert_int_equal(policy_effective_step(e, "plan-1", POLICY_AGENCY_UNSET, &step, NULL), 0);
	expect_round_trip(step);
	policy_effective_free(step);
	policy_effective_free(e);
	for (size_t i = 0; policy_builtin_name(i); i++) {
		e = combine_with((struct layer_text[]){{0}}, policy_builtin_name(i),
				 POLICY_AGENCY_UNSET);
		expect_round_trip(e);
		policy_effective_free(e);
	}
}

static void test_golden_files_of_the_canonical_form(void **state)
{
	struct policy_effective *e = sample();
	struct policy_effective *step = NULL;
	AUTO_BUFFER run = {0};
	AUTO_BUFFER one = {0};
	struct digest d;
	char hex[DIGEST_HEX_SIZE];

	(void)state;
	encode(e, &run);
	golden_check("policy/policy-effective.whole.cbor", buffer_bytes(&run));
	assert_int_equal(policy_effective_step(e, "plan-1", POLICY_OBSERVE, &step, NULL), 0);
	encode(step, &one);
	golden_check("policy/policy-effective.step.cbor", buffer_bytes(&one));
	assert_int_equal(policy_effective_digest(e, &d), 0);
	assert_string_equal(digest_hex(&d, hex), GOLDEN_DIGEST);
	policy_effective_free(step);
	policy_effective_free(e);
}

static void digest_of_text(const char *text, struct digest *ret)
{
	struct policy_effective *e = only(text);

	assert_int_equal(policy_effective_digest(e, ret), 0);
	policy_effective_free(e);
}

static void test_the_digest_holds_what_decides_and_nothing_else(void **state)
{
	static const char text[] = "version: 1\nname: a\nfs:\n  - {path: /a, access: r, why: "
				   "x}\nnet:\n  - {id: n, do: allow, http: {host: a.example}}\n";
	static const char *const same[] = {
		"# a comment\nversion: 1\nname: b\n\n\nfs:\n  - access: r\n    path: /a\nnet:\n  - "
		"{do: allow, id: n, http: {host: a.example}, why: y}\n",
		"version: 1\ntests:\n  - {read: /a, expect: allow}\nnet: [{id: n, do: allow, http: "
		"{host: [a.example]}}]\nfs: [{path: /a, access: r}]\n",
	};
	static const char *const other[] = {
		"version: 1\nfs:\n  - {path: /a, access: rx}\nnet:\n  - {id: n, do: allow, http: "
		"{host: a.example}}\n",
		"version: 1\nfs:\n  - {path: /b, access: r}\nnet:\n  - {id: n, do: allow, http: "
		"{host: a.example}}\n",
		"version: 1\nfs:\n  - {path: /a, access: r}\nnet:\n  - {id: n, do: ask, http: "
		"{host: a.example}}\n",
		"version: 1\nfs:\n  - {path: /a, access: r}\nnet:\n  - {id: n, do: allow, http: "
		"{host: a.example, method: []}}\n",
		"version: 1\nagency: assist\nfs:\n  - {path: /a, access: r}\nnet:\n  - {id: n, do: "
		"allow, http: {host: a.example}}\n",
		"version: 1\nexec: []\nfs:\n  - {path: /a, access: r}\nnet:\n  - {id: n, do: "
		"allow, http: {host: a.example}}\n",
	};
	struct digest first, d;

	(void)state;
	digest_of_text(text, &first);
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		digest_of_text(same[i], &d);
		assert_true(digest_equal(&first, &d));
	}
	for (size_t i = 0; i < ARRAY_SIZE(other); i++) {
		digest_of_text(other[i], &d);
		assert_false(digest_equal(&first, &d));
	}
}

/* Cut anywhere, or with any byte changed: an error, or a policy that is written as exactly these
 * bytes. */
static void test_no_other_bytes_are_taken_for_a_policy(void **state)
{
	struct policy_effective *e = sample();
	AUTO_BUFFER good = {0};

	(void)state;
	encode(e, &good);
	for (size_t len = 0; len < good.len; len++) {
		struct policy_effective *back = NULL;
		struct error err = {0};

		assert_true(policy_effective_decode(bytes_of(good.data, len), &back, &err) < 0);
		assert_null(back);
		assert_true(err.code < 0);
	}
	for (size_t at = 0; at < good.len; at++)
		for (int bit = 0; bit < 8; bit++) {
			struct policy_effective *back = NULL;

			good.data[at] ^= (uint8_t)(1 << bit);
			if (policy_effective_decode(buffer_bytes(&good), &back, NULL) == 0) {
				AUTO_BUFFER again = {0};

				encode(back, &again);
				assert_true(bytes_equal(buffer_bytes(&good), buffer_bytes(&again)));
				policy_effective_free(back);
			}
			good.data[at] ^= (uint8_t)(1 << bit);
		}
	policy_effective_free(e);
}

static void test_the_contract_stays_as_it_was_written(void **state)
{
	struct policy_effective *e = sample();
	struct policy_place at;

	(void)state;
	assert_string_equal(policy_contract(e, 0, &at),
			    "{\"checks\":[{\"run\":[\"make\",\"test\"],\"expect\":{\"exit\":\"0\"}}"
			    "],\"protected\":[\"tests/**\"]}");
	assert_null(policy_contract(e, 1, NULL));
	policy_effective_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_journaled_comes_back_byte_for_byte),
		cmocka_unit_test(test_golden_files_of_the_canonical_form),
		cmocka_unit_test(test_the_digest_holds_what_decides_and_nothing_else),
		cmocka_unit_test(test_no_other_bytes_are_taken_for_a_policy),
		cmocka_unit_test(test_the_contract_stays_as_it_was_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
