/* The bytes that a voter signs: one form, and nothing else is taken for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include "supervisor/vote.h"
#include "tests/golden.h"

static struct vote_ballot whole(void)
{
	struct vote_ballot v = {.approve = true,
				.choice = bytes_str("file"),
				.path = bytes_str("src/a\xff"),
				.reason = bytes_str("looked at it"),
				.signer = bytes_str("alice@example.org"),
				.time_ns = 1700000000123456789};

	memset(v.approval, 0x11, sizeof(v.approval));
	memset(&v.card, 0x22, sizeof(v.card));
	memset(&v.file, 0x33, sizeof(v.file));
	memset(v.nonce, 0x44, sizeof(v.nonce));
	return v;
}

static void test_what_is_signed_comes_back_and_has_one_form(void **state)
{
	struct vote_ballot v = whole(), back;
	AUTO_BUFFER b = {0};
	AUTO_BUFFER again = {0};

	(void)state;
	assert_int_equal(vote_ballot_encode(&v, &b), 0);
	golden_check("supervisor/vote-ballot.whole.cbor", buffer_bytes(&b));
	assert_int_equal(vote_ballot_decode(buffer_bytes(&b), &back), 0);
	assert_true(back.approve);
	assert_true(bytes_equal(back.path, v.path));
	assert_true(bytes_equal(back.signer, v.signer));
	assert_int_equal(vote_ballot_encode(&back, &again), 0);
	assert_true(bytes_equal(buffer_bytes(&b), buffer_bytes(&again)));
}

/* Cut anywhere, with a byte after it, or with any one bit turned: it is refused, or it says
 * something else. */
static void test_no_other_bytes_are_the_same_vote(void **state)
{
	struct vote_ballot v = whole(), back;
	AUTO_BUFFER b = {0};
	AUTO_BUFFER longer = {0};

	(void)state;
	assert_int_equal(vote_ballot_encode(&v, &b), 0);
	for (size_t n = 0; n < b.len; n++)
		assert_true(vote_ballot_decode(bytes_of(b.data, n), &back) < 0);
	buffer_append(&longer, b.data, b.len);
	buffer_append_byte(&longer, 0);
	assert_true(vote_ballot_decode(buffer_bytes(&longer), &back) < 0);
	for (size_t i = 0; i < b.len * 8; i++) {
		AUTO_BUFFER again = {0};

		b.data[i / 8] ^= (uint8_t)(1 << i % 8);
		if (vote_ballot_decode(buffer_bytes(&b), &back) == 0) {
			assert_int_equal(vote_ballot_encode(&back, &again), 0);
			assert_true(bytes_equal(buffer_bytes(&b), buffer_bytes(&again)));
		}
		b.data[i / 8] ^= (uint8_t)(1 << i % 8);
	}
}

static void test_what_is_too_long_is_not_signed(void **state)
{
	static char text[VOTE_TEXT_MAX + 1];
	struct vote_ballot v = whole();
	AUTO_BUFFER b = {0};

	(void)state;
	memset(text, 'a', sizeof(text));
	v.reason = bytes_of(text, sizeof(text));
	assert_int_equal(vote_ballot_encode(&v, &b), -E2BIG);
	v.reason = bytes_of(text, VOTE_TEXT_MAX);
	assert_int_equal(vote_ballot_encode(&v, &b), 0);
	v.signer = bytes_of(text, VOTE_SIGNER_MAX + 1);
	assert_int_equal(vote_ballot_encode(&v, &b), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_signed_comes_back_and_has_one_form),
		cmocka_unit_test(test_no_other_bytes_are_the_same_vote),
		cmocka_unit_test(test_what_is_too_long_is_not_signed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
