#include "tests/golden.h"
#include "tests/unit/base/hex.h"
#include "base/cbor.h"
#include "base/guard.h"
#include <errno.h>

/* RFC 8949 appendix A, all of it: what is within the subset with its diagnostic notation, the rest
 * refused. */
static const struct {
	const char *hex;
	const char *diagnostic; /* NULL: refused */
} appendix_a[] = {
	{"00", "0"},
	{"01", "1"},
	{"0a", "10"},
	{"17", "23"},
	{"1818", "24"},
	{"1819", "25"},
	{"1864", "100"},
	{"1903e8", "1000"},
	{"1a000f4240", "1000000"},
	{"1b000000e8d4a51000", "1000000000000"},
	{"1bffffffffffffffff", "18446744073709551615"},
	{"c249010000000000000000", NULL},
	{"3bffffffffffffffff", "-18446744073709551616"},
	{"c349010000000000000000", NULL},
	{"20", "-1"},
	{"29", "-10"},
	{"3863", "-100"},
	{"3903e7", "-1000"},
	{"f90000", NULL},
	{"f98000", NULL},
	{"f93c00", NULL},
	{"fb3ff199999999999a", NULL},
	{"f93e00", NULL},
	{"f97bff", NULL},
	{"fa47c35000", NULL},
	{"fa7f7fffff", NULL},
	{"fb7e37e43c8800759c", NULL},
	{"f90001", NULL},
	{"f90400", NULL},
	{"f9c400", NULL},
	{"fbc010666666666666", NULL},
	{"f97c00", NULL},
	{"f97e00", NULL},
	{"f9fc00", NULL},
	{"fa7f800000", NULL},
	{"fa7fc00000", NULL},
	{"faff800000", NULL},
	{"fb7ff0000000000000", NULL},
	{"fb7ff8000000000000", NULL},
	{"fbfff0000000000000", NULL},
	{"f4", "false"},
	{"f5", "true"},
	{"f6", "null"},
	{"f7", NULL},
	{"f0", NULL},
	{"f8ff", NULL},
	{"c074323031332d30332d32315432303a30343a30305a", NULL},
	{"c11a514b67b0", NULL},
	{"c1fb41d452d9e20000", NULL},
	{"d74401020304", NULL},
	{"d818456449455446", NULL},
	{"d82076687474703a2f2f7777772e6578616d706c652e636f6d", NULL},
	{"40", "h''"},
	{"4401020304", "h'01020304'"},
	{"60", "\"\""},
	{"6161", "\"a\""},
	{"6449455446", "\"IETF\""},
	{"62225c", "\"\\\"\\\\\""},
	{"62c3bc", "\"\xc3\xbc\""},
	{"63e6b0b4", "\"\xe6\xb0\xb4\""},
	{"64f0908591", "\"\xf0\x90\x85\x91\""},
	{"80", "[]"},
	{"83010203", "[1, 2, 3]"},
	{"8301820203820405", "[1, [2, 3], [4, 5]]"},
	{"98190102030405060708090a0b0c0d0e0f101112131415161718181819",
	 "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, "
	 "25]"},
	{"a0", "{}"},
	{"a201020304", "{1: 2, 3: 4}"},
	{"a26161016162820203", "{\"a\": 1, \"b\": [2, 3]}"},
	{"826161a161626163", "[\"a\", {\"b\": \"c\"}]"},
	{"a56161614161626142616361436164614461656145",
	 "{\"a\": \"A\", \"b\": \"B\", \"c\": \"C\", \"d\": \"D\", \"e\": \"E\"}"},
	{"5f42010243030405ff", NULL},
	{"7f657374726561646d696e67ff", NULL},
	{"9fff", NULL},
	{"9f018202039f0405ffff", NULL},
	{"9f01820203820405ff", NULL},
	{"83018202039f0405ff", NULL},
	{"83019f0203ff820405", NULL},
	{"bf61610161629f0203ffff", NULL},
	{"826161bf61626163ff", NULL},
	{"bf6346756ef563416d7421ff", NULL},
};

static void appendix_a_is_read_or_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(appendix_a); i++) {
		AUTO_BUFFER in = {0};
		AUTO_BUFFER out = {0};

		unhex(appendix_a[i].hex, &in);
		if (!appendix_a[i].diagnostic) {
			assert_int_equal(cbor_validate(buffer_bytes(&in)), -EBADMSG);
			assert_int_equal(cbor_diagnostic(buffer_bytes(&in), &out), -EBADMSG);
			assert_int_equal(out.len, 0);
			continue;
		}
		assert_int_equal(cbor_diagnostic(buffer_bytes(&in), &out), 0);
		assert_string_equal((char *)out.data, appendix_a[i].diagnostic);
	}
}

static const struct {
	const char *rule;
	const char *hex;
} refused[] = {
	{"nothing at all", ""},
	{"head longer than needed: 0 in 1 byte", "1800"},
	{"head longer than needed: 23 in 1 byte", "1817"},
	{"head longer than needed: 255 in 2 bytes", "1900ff"},
	{"head longer than needed: 65535 in 4 bytes", "1a0000ffff"},
	{"head longer than needed: 2^32-1 in 8 bytes", "1b00000000ffffffff"},
	{"head longer than needed: -1", "3800"},
	{"head longer than needed: byte string's length", "580101"},
	{"head longer than needed: text's length", "780161"},
	{"head longer than needed: array's count", "980100"},
	{"head longer than needed: map's count", "b8010000"},
	{"head longer than needed: false", "f814"},
	{"reserved head", "1c"},
	{"reserved head", "1d"},
	{"reserved head", "1e"},
	{"indefinite integer", "1f"},
	{"lone break", "ff"},
	{"head cut short", "19ff"},
	{"bytes cut short", "420a"},
	{"text cut short", "6261"},
	{"array cut short", "8201"},
	{"map cut short", "a101"},
	{"length that no memory has", "5bffffffffffffffff"},
	{"length that wraps round", "5bfffffffffffffff7"},
	{"count without items", "9a000fffff"},
	{"text is not UTF-8: lone continuation", "6180"},
	{"text is not UTF-8: overlong", "62c080"},
	{"text is not UTF-8: surrogate", "63eda080"},
	{"bytes behind the item", "0000"},
	{"keys descending", "a202000100"},
	{"key twice", "a201000100"},
	{"text key twice", "a2616100616100"},
	{"longer key before the shorter", "a218180001 00"},
	{"text key before a number", "a26161000100"},
	{"text keys not ascending", "a2616200616100"},
	{"negative key", "a12000"},
	{"byte string key", "a1406100"},
	{"array key", "a18000"},
	{"map key", "a1a000"},
	{"null key", "a1f600"},
	{"inner map not sorted", "8101a202000100"},
	{"tag in an array", "81c000"},
};

static void anything_not_canonical_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		AUTO_BUFFER in = {0};
		int r;

		unhex(refused[i].hex, &in);
		r = cbor_validate(buffer_bytes(&in));
		if (r != -EBADMSG)
			fail_msg("%s (%s): %d", refused[i].rule, refused[i].hex, r);
	}
}

static void limits_hold_at_their_edge(void **state)
{
	static uint8_t deep[CBOR_DEPTH_MAX + 2];
	static uint8_t many[5 + CBOR_COUNT_MAX + 1];
	static uint8_t big[5 + CBOR_ITEM_MAX + 1];
	struct cbor_reader r;

	(void)state;
	memset(deep, 0x81, sizeof(deep));
	deep[CBOR_DEPTH_MAX] = 0;
	assert_int_equal(cbor_validate(bytes_of(deep, CBOR_DEPTH_MAX + 1)), 0);
	deep[CBOR_DEPTH_MAX] = 0x81;
	deep[CBOR_DEPTH_MAX + 1] = 0;
	assert_int_equal(cbor_validate(bytes_of(deep, CBOR_DEPTH_MAX + 2)), -E2BIG);

	memcpy(many, "\x9a\x00\x10\x00\x00", 5);
	assert_int_equal(cbor_validate(bytes_of(many, 5 + CBOR_COUNT_MAX)), 0);
	memcpy(many, "\x9a\x00\x10\x00\x01", 5);
	assert_int_equal(cbor_validate(bytes_of(many, 5 + CBOR_COUNT_MAX + 1)), -E2BIG);

	memcpy(big, "\x5a\x01\x00\x00\x00", 5);
	r = cbor_reader(bytes_of(big, 5 + CBOR_ITEM_MAX));
	assert_int_equal(cbor_r_bytes(&r).len, CBOR_ITEM_MAX);
	assert_int_equal(cbor_r_end(&r), 0);
	assert_int_equal(cbor_validate(bytes_of(big, 5 + CBOR_ITEM_MAX)),
			 -E2BIG); /* the item has a head too */
	memcpy(big, "\x5a\x01\x00\x00\x01", 5);
	r = cbor_reader(bytes_of(big, sizeof(big)));
	cbor_r_bytes(&r);
	assert_int_equal(cbor_r_end(&r), -E2BIG);
}

static void integers_survive_at_every_edge(void **state)
{
	static const int64_t edges[] = {
		0,
		1,
		23,
		24,
		255,
		256,
		65535,
		65536,
		-1,
		-24,
		-25,
		-256,
		-257,
		-65536,
		-65537,
		UINT32_MAX,
		1L << 32,
		-(1L << 32),
		-(1L << 32) - 1,
		INT64_MAX,
		INT64_MIN,
		INT64_MIN + 1,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
		AUTO_BUFFER b = {0};
		struct cbor_reader r;

		cbor_w_int(&b, edges[i]);
		assert_int_equal(cbor_validate(buffer_bytes(&b)), 0);
		r = cbor_reader(buffer_bytes(&b));
		assert_true(cbor_r_int(&r) == edges[i]);
		assert_int_equal(cbor_r_end(&r), 0);
	}
}

static void integers_out_of_int64_are_a_limit_error(void **state)
{
	static const char *const hexes[] = {"1b8000000000000000", "3b8000000000000000"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hexes); i++) {
		AUTO_BUFFER b = {0};
		struct cbor_reader r;

		unhex(hexes[i], &b);
		r = cbor_reader(buffer_bytes(&b));
		assert_int_equal(cbor_r_int(&r), 0);
		assert_int_equal(cbor_r_end(&r), -E2BIG);
	}
}

static void first_error_sticks_and_later_reads_give_nothing(void **state)
{
	AUTO_BUFFER b = {0};
	struct cbor_reader r;
	struct cbor_map_iter m;
	uint64_t key;
	struct digest d;

	(void)state;
	unhex("83 05 6161 0a", &b);
	r = cbor_reader(buffer_bytes(&b));
	assert_int_equal(cbor_r_array(&r), 3);
	assert_int_equal(cbor_r_text(&r).len, 0); /* it is 5 */
	assert_int_equal(r.error, -EPROTO);
	assert_int_equal(cbor_r_uint(&r), 0);
	assert_int_equal(cbor_r_int(&r), 0);
	assert_int_equal(cbor_r_array(&r), 0);
	assert_int_equal(cbor_r_map(&r, &m), 0);
	assert_false(cbor_r_key(&r, &m, &key));
	assert_false(cbor_r_bool(&r));
	assert_int_equal(cbor_r_peek(&r), CBOR_NONE);
	assert_int_equal(cbor_r_skip(&r).len, 0);
	memset(&d, 1, sizeof(d));
	cbor_r_digest(&r, &d);
	assert_true(digest_is_zero(&d));
	cbor_r_fail(&r, -E2BIG);
	assert_int_equal(cbor_r_end(&r), -EPROTO);
}

static void every_reader_refuses_the_other_kinds(void **state)
{
	static const char *const items[] = {"00", "20", "40", "60", "80", "a0", "f4", "f6"};
	static const enum cbor_kind kinds[] = {CBOR_UINT,  CBOR_NINT, CBOR_BYTES, CBOR_TEXT,
					       CBOR_ARRAY, CBOR_MAP,  CBOR_BOOL,  CBOR_NULL};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
		for (size_t want = 0; want < ARRAY_SIZE(kinds); want++) {
			AUTO_BUFFER b = {0};
			struct cbor_reader r;
			struct cbor_map_iter m;
			int expect = i == want ? 0 : -EPROTO;

			unhex(items[i], &b);
			r = cbor_reader(buffer_bytes(&b));
			assert_int_equal(cbor_r_peek(&r), kinds[i]);
			switch (kinds[want]) {
			case CBOR_NONE:
				break;
			case CBOR_UINT:
				cbor_r_uint(&r);
				break;
			case CBOR_NINT: /* cbor_r_int reads both */
				cbor_r_int(&r);
				expect = i <= 1 ? 0 : -EPROTO;
				break;
			case CBOR_BYTES:
				cbor_r_bytes(&r);
				break;
			case CBOR_TEXT:
				cbor_r_text(&r);
				break;
			case CBOR_ARRAY:
				cbor_r_array(&r);
				break;
			case CBOR_MAP:
				cbor_r_map(&r, &m);
				break;
			case CBOR_BOOL:
				cbor_r_bool(&r);
				break;
			case CBOR_NULL:
				cbor_r_null(&r);
				break;
			}
			assert_int_equal(cbor_r_end(&r), expect);
		}
	}
}

static void a_decoder_reads_straight_down(void **state)
{
	AUTO_BUFFER b = {0};
	struct cbor_map_mark outer = cbor_w_map_begin(&b);
	struct cbor_map_mark inner;
	struct cbor_reader r;
	struct cbor_map_iter m;
	uint64_t key;
	size_t seen = 0;

	(void)state;
	cbor_w_key(&b, &outer, 1);
	cbor_w_str(&b, "one");
	cbor_w_key(&b, &outer, 2);
	inner = cbor_w_map_begin(&b);
	for (uint64_t k = 0; k < 30; k++) { /* enough for a head of two bytes */
		cbor_w_key(&b, &inner, k);
		cbor_w_null(&b);
	}
	cbor_w_map_end(&b, &inner);
	cbor_w_key(&b, &outer, 300);
	cbor_w_bool(&b, true);
	cbor_w_map_end(&b, &outer);
	assert_int_equal(cbor_validate(buffer_bytes(&b)), 0);

	r = cbor_reader(buffer_bytes(&b));
	assert_int_equal(cbor_r_map(&r, &m), 3);
	while (cbor_r_key(&r, &m, &key)) {
		struct bytes raw;

		seen++;
		switch (key) {
		case 1:
			assert_true(bytes_equal(cbor_r_text(&r), bytes_str("one")));
			break;
		case 2:
			raw = cbor_r_skip(&r);
			assert_int_equal(raw.len, 2 + 24 * 2 + 6 * 3);
			assert_int_equal(cbor_validate(raw), 0);
			break;
		default:
			assert_int_equal(key, 300);
			assert_true(cbor_r_bool(&r));
		}
	}
	assert_int_equal(seen, 3);
	assert_int_equal(cbor_r_end(&r), 0);
}

static void map_keys_must_ascend_for_the_reader_too(void **state)
{
	static const char *const hexes[] = {"a202000100", "a201000100", "a2616100616200", "a12000"};
	static const int errors[] = {-EBADMSG, -EBADMSG, -EPROTO, -EPROTO};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hexes); i++) {
		AUTO_BUFFER b = {0};
		struct cbor_reader r;
		struct cbor_map_iter m;
		uint64_t key;

		unhex(hexes[i], &b);
		r = cbor_reader(buffer_bytes(&b));
		cbor_r_map(&r, &m);
		while (cbor_r_key(&r, &m, &key))
			cbor_r_skip(&r);
		assert_int_equal(cbor_r_end(&r), errors[i]);
	}
}

static void a_digest_is_exactly_32_bytes(void **state)
{
	(void)state;
	for (size_t len = 30; len <= 34; len++) {
		static const uint8_t content[34] = {1, 2, 3};
		AUTO_BUFFER b = {0};
		struct cbor_reader r;
		struct digest d;

		cbor_w_bytes(&b, bytes_of(content, len));
		r = cbor_reader(buffer_bytes(&b));
		cbor_r_digest(&r, &d);
		assert_int_equal(cbor_r_end(&r), len == 32 ? 0 : -EBADMSG);
		assert_int_equal(d.b[0], len == 32 ? 1 : 0);
	}
}

static void writing_bad_text_sticks_in_the_buffer(void **state)
{
	AUTO_BUFFER b = {0};

	(void)state;
	cbor_w_uint(&b, 1);
	cbor_w_text(&b, bytes_of("\xff", 1));
	cbor_w_uint(&b, 2);
	assert_int_equal(b.failed, -EILSEQ);
	assert_int_equal(b.len, 1);
}

static void a_writer_past_its_limit_says_so_once_at_the_end(void **state)
{
	AUTO_BUFFER b = {.max = 4};
	struct cbor_map_mark m = cbor_w_map_begin(&b);

	(void)state;
	cbor_w_key(&b, &m, 1);
	cbor_w_str(&b, "abc");
	cbor_w_map_end(&b, &m);
	assert_int_equal(b.failed, -E2BIG);
}

static void deceptive_text_is_visible_in_diagnostics(void **state)
{
	AUTO_BUFFER b = {0};
	AUTO_BUFFER out = {0};

	(void)state;
	cbor_w_str(&b, "a\xe2\x80\xae"
		       "b\x1b[0m\n");
	assert_int_equal(cbor_diagnostic(buffer_bytes(&b), &out), 0);
	assert_string_equal((char *)out.data, "\"a\\u202eb\\u001b[0m\\n\"");
}

static void common_types_keep_their_bytes(void **state)
{
	AUTO_BUFFER digest = {0};
	AUTO_BUFFER env = {0};
	struct digest d;

	(void)state;
	for (size_t i = 0; i < sizeof(d.b); i++)
		d.b[i] = (uint8_t)i;
	cbor_w_bytes(&digest, bytes_of(d.b, sizeof(d.b)));
	golden_check("base/digest.counting.cbor", buffer_bytes(&digest));
	cbor_w_map(&env, 2);
	cbor_w_str(&env, "HOME");
	cbor_w_str(&env, "/home/u");
	cbor_w_str(&env, "LANG");
	cbor_w_str(&env, "C.UTF-8");
	golden_check("base/env.two.cbor", buffer_bytes(&env));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(appendix_a_is_read_or_refused),
		cmocka_unit_test(anything_not_canonical_is_refused),
		cmocka_unit_test(limits_hold_at_their_edge),
		cmocka_unit_test(integers_survive_at_every_edge),
		cmocka_unit_test(integers_out_of_int64_are_a_limit_error),
		cmocka_unit_test(first_error_sticks_and_later_reads_give_nothing),
		cmocka_unit_test(every_reader_refuses_the_other_kinds),
		cmocka_unit_test(a_decoder_reads_straight_down),
		cmocka_unit_test(map_keys_must_ascend_for_the_reader_too),
		cmocka_unit_test(a_digest_is_exactly_32_bytes),
		cmocka_unit_test(writing_bad_text_sticks_in_the_buffer),
		cmocka_unit_test(a_writer_past_its_limit_says_so_once_at_the_end),
		cmocka_unit_test(deceptive_text_is_visible_in_diagnostics),
		cmocka_unit_test(common_types_keep_their_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
