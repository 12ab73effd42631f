#include "tests/unit/base/hex.h"
#include "base/digest.h"
#include "base/guard.h"
#include <errno.h>

/* FIPS 180-4's examples (NIST CAVP). */
static const struct {
	const char *content;
	const char *hex;
} vectors[] = {
	{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrl"
	 "mnopqrsmnopqrstnopqrstu",
	 "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
};

static void known_vectors(void **state)
{
	char hex[DIGEST_HEX_SIZE];
	struct digest d;
	struct digest_ctx *c = digest_ctx_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		digest_of(bytes_str(vectors[i].content), &d);
		assert_ptr_equal(digest_hex(&d, hex), hex);
		assert_string_equal(hex, vectors[i].hex);
		digest_ctx_reset(c);
		for (const char *p = vectors[i].content; *p; p++)
			digest_ctx_update(c, p, 1);
		digest_ctx_update(c, NULL, 0);
		digest_ctx_final(c, &d);
		assert_string_equal(digest_hex(&d, hex), vectors[i].hex);
	}
	digest_ctx_reset(c);
	for (int i = 0; i < 1000; i++) {
		char a[1000];

		memset(a, 'a', sizeof(a));
		digest_ctx_update(c, a, sizeof(a));
	}
	digest_ctx_final(c, &d);
	assert_string_equal(digest_hex(&d, hex),
			    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	digest_ctx_free(c);
	digest_ctx_free(NULL);
}

static void a_domain_is_a_prefix_with_nul(void **state)
{
	struct digest a;
	struct digest b;

	(void)state;
	digest_domain("ab", bytes_str("c"), &a);
	digest_of(bytes_of("ab\0c", 4), &b);
	assert_true(digest_equal(&a, &b));
	digest_domain("a", bytes_str("bc"), &b); /* the boundary counts */
	assert_false(digest_equal(&a, &b));
	digest_domain("", bytes_str("c"), &a);
	digest_of(bytes_str("c"), &b);
	assert_false(digest_equal(&a, &b));
}

static void hex_is_read_strictly(void **state)
{
	static const char good[] =
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	struct digest abc;
	struct digest d;

	(void)state;
	digest_of(bytes_str("abc"), &abc);
	assert_int_equal(digest_from_hex(bytes_str(good), &d), 0);
	assert_true(digest_equal(&d, &abc));
	memset(&d, 7, sizeof(d));
	assert_int_equal(digest_from_hex(bytes_of(good, 63), &d), -EINVAL);
	assert_int_equal(digest_from_hex(bytes_of(good, 65), &d), -EINVAL);
	assert_int_equal(digest_from_hex(bytes_of(NULL, 0), &d), -EINVAL);
	for (size_t i = 0; i < 64; i++) {
		static const char wrong[] = {'g', 'A', ' ', '\0', '/', ':', '`', '\xff'};

		for (size_t k = 0; k < ARRAY_SIZE(wrong); k++) {
			char bad[64];

			memcpy(bad, good, sizeof(bad));
			bad[i] = wrong[k];
			assert_int_equal(digest_from_hex(bytes_of(bad, 64), &d), -EINVAL);
		}
	}
	assert_int_equal(d.b[0], 7); /* untouched on failure */
}

static void base32_is_rfc_4648(void **state)
{
	struct digest d = {0};
	char buf[53];

	(void)state;
	assert_true(digest_is_zero(&d));
	assert_string_equal(digest_base32(&d, buf),
			    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	memset(&d, 0xff, sizeof(d));
	assert_false(digest_is_zero(&d));
	assert_string_equal(digest_base32(&d, buf),
			    "777777777777777777777777777777777777777777777777777q");
	digest_of(bytes_str("abc"), &d); /* printf abc | sha256sum | xxd -r -p | base32 */
	assert_string_equal(digest_base32(&d, buf),
			    "xj4bnp4pahh6uqkbidpf3lrceoyagyndsylxvhfucd7wd4qacwwq");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_vectors),
		cmocka_unit_test(a_domain_is_a_prefix_with_nul),
		cmocka_unit_test(hex_is_read_strictly),
		cmocka_unit_test(base32_is_rfc_4648),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
