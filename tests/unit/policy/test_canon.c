/* The canonical form: it comes back byte for byte, its digest holds what decides and nothing else.
 */
#include "tests/unit/policy/policy_test.h"
#include "base/cbor.h"
#include "tests/golden.h"
#include "tests/unit/policy/whole.h"

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
