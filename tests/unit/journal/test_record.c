/* Records: one canonical form, held by golden files; garbage never gets in. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "base/guard.h"
#include "journal/record.h"
#include "tests/unit/journal/maker.h"

static void hex_line(struct bytes b, struct buffer *out)
{
	for (size_t i = 0; i < b.len; i++)
		buffer_printf(out, "%02x", ((const uint8_t *)b.data)[i]);
	buffer_append_str(out, "\n");
}

/* First line the bytes, then the same for people. */
static void golden_text(enum journal_type type, bool all, struct buffer *out)
{
	struct journal_record r;
	AUTO_BUFFER b = {0};
	maker_record(type, all, &r);
	assert_int_equal(journal_record_encode(&r, &b), 0);
	hex_line(buffer_bytes(&b), out);
	assert_int_equal(cbor_diagnostic(buffer_bytes(&b), out), 0);
	buffer_append_str(out, "\n");
	assert_int_equal(out->failed, 0);
}

static void read_file(const char *path, struct buffer *out)
{
	AUTO_FILE f = fopen(path, "re");
	char chunk[4096];
	size_t n;
	if (!f)
		fail_msg("%s: missing; HOLDFAST_GOLDEN=write writes it", path);
	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
		buffer_append(out, chunk, n);
	buffer_append_byte(out, 0);
}

/* HOLDFAST_GOLDEN=write (HACKING) writes the files; a change of one is a change of the format. */
static void every_type_has_the_bytes_of_its_golden_file(void **state)
{
	(void)state;
	const char *folder = getenv("HOLDFAST_GOLDEN_DIR"), *write = getenv("HOLDFAST_GOLDEN");
	int types = 0;
	assert_non_null(folder);
	for (unsigned type = 0; type < JOURNAL_TYPE_LIMIT; type++) {
		const char *name = journal_type_name(type);
		if (!name)
			continue;
		types++;
		AUTO_BUFFER made = {0};
		golden_text(type, false, &made);
		golden_text(type, true, &made);
		char path[512];
		snprintf(path, sizeof(path), "%s/%02x-%s.txt", folder, type, name);
		if (write && strcmp(write, "write") == 0) {
			AUTO_FILE f = fopen(path, "we");
			assert_non_null(f);
			assert_int_equal(fwrite(made.data, 1, made.len, f), made.len);
			continue;
		}
		AUTO_BUFFER kept = {0};
		read_file(path, &kept);
		assert_string_equal((char *)made.data, (char *)kept.data);
	}
	assert_int_equal(types, 85);
}

static void decode_then_encode_gives_the_same_bytes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * JOURNAL_TYPE_LIMIT; i++) {
		if (!journal_type_name(i / 2))
			continue;
		struct journal_record r, back;
		AUTO_BUFFER a = {0};
		AUTO_BUFFER b = {0};
		maker_record(i / 2, i % 2, &r);
		assert_int_equal(journal_record_encode(&r, &a), 0);
		assert_int_equal(cbor_validate(buffer_bytes(&a)), 0);
		assert_int_equal(journal_record_decode(buffer_bytes(&a), &back), 0);
		assert_int_equal(journal_record_encode(&back, &b), 0);
		assert_true(bytes_equal(buffer_bytes(&a), buffer_bytes(&b)));
	}
}

static void a_type_carries_its_own_fields_and_no_other(void **state)
{
	(void)state;
	for (unsigned type = 0; type < JOURNAL_TYPE_LIMIT; type++) {
		for (unsigned num = 1; journal_type_name(type) && num < JOURNAL_FIELD_LIMIT;
		     num++) {
			struct journal_record r;
			struct error err = {0};
			maker_record(type, true, &r);
			enum journal_record_use use = journal_record_use(type, num);
			r.p.has[num / 64] ^= 1ull << (num % 64);
			int rc = journal_record_check(&r, &err);
			assert_int_equal(rc, use == JOURNAL_USE_MAY ? 0 : -EINVAL);
		}
	}
}

static void a_record_names_what_its_type_says(void **state)
{
	static const struct {
		enum journal_type type;
		unsigned heads;
	} rows[] = {
		{JOURNAL_EPOCH_BEGUN, MAKER_DAEMON},
		{JOURNAL_RUN_CREATED, MAKER_RUN},
		{JOURNAL_STEP_DECLARED, MAKER_STEP | MAKER_ATTEMPT},
		{JOURNAL_ATTEMPT_STARTED, MAKER_ATTEMPT},
		{JOURNAL_APPROVAL_OPENED, MAKER_RUN | MAKER_STEP | MAKER_ATTEMPT},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(maker_heads(rows[i].type), rows[i].heads);
	for (unsigned i = 0; i < JOURNAL_TYPE_LIMIT; i++) {
		struct journal_record r;
		struct error err;
		size_t kind = 0;

		if (!journal_type_name(i))
			continue;
		while (kind < ARRAY_SIZE(rows) && rows[kind].heads != maker_heads(i))
			kind++;
		assert_true(kind < ARRAY_SIZE(rows)); /* of one of these kinds, whatever else */
		maker_record(i, true, &r);
		assert_int_equal(journal_record_check(&r, &err), 0);
		if (r.step != JOURNAL_NO_STEP) {
			r.step = JOURNAL_STEPS_MAX;
			assert_int_equal(journal_record_check(&r, &err), -EINVAL);
		}
	}
}

static void an_unknown_payload_key_is_kept_out_and_hashed(void **state)
{
	(void)state;
	struct journal_record r, back;
	AUTO_BUFFER b = {0};
	AUTO_BUFFER with = {0};
	maker_record(JOURNAL_RUN_STARTED, false, &r);
	assert_int_equal(journal_record_encode(&r, &b), 0);
	/* {12: {}} becomes {12: {1000: 1}} */
	static const uint8_t before[] = {0x0c, 0xa0, 0x0d},
			     after[] = {0x0c, 0xa1, 0x19, 0x03, 0xe8, 0x01, 0x0d};
	uint8_t *at = memmem(b.data, b.len, before, sizeof(before));
	assert_non_null(at);
	buffer_append(&with, b.data, (size_t)(at - b.data));
	buffer_append(&with, after, sizeof(after));
	buffer_append(&with, at + sizeof(before), b.len - (size_t)(at - b.data) - sizeof(before));
	assert_int_equal(journal_record_decode(buffer_bytes(&with), &back), 0);
	assert_true(back.p.has[0] == 0 && back.p.has[1] == 0);
	struct digest plain, extended;
	journal_record_hash(buffer_bytes(&b), &plain);
	journal_record_hash(buffer_bytes(&with), &extended);
	assert_false(digest_equal(&plain, &extended));
}

static void an_unknown_type_is_told_from_damage(void **state)
{
	(void)state;
	struct journal_record r, back;
	AUTO_BUFFER b = {0};
	maker_record(JOURNAL_RUN_STARTED, false, &r);
	assert_int_equal(journal_record_encode(&r, &b), 0);
	static const uint8_t key_type[] = {0x07, 0x11, 0x08};
	uint8_t *at = memmem(b.data, b.len, key_type, sizeof(key_type));
	assert_non_null(at);
	at[1] = 0x17; /* becomes RUN_CANCELLED: known */
	assert_int_equal(journal_record_decode(buffer_bytes(&b), &back), 0);
	at[1] = 0x0f; /* free */
	assert_int_equal(journal_record_decode(buffer_bytes(&b), &back), -ENOTSUP);
	r.type = (enum journal_type)0x0f;
	assert_int_equal(journal_record_encode(&r, &b), -ENOTSUP);
}

static void a_record_past_the_limit_is_refused(void **state)
{
	(void)state;
	struct journal_record r;
	AUTO_BUFFER b = {0};
	AUTO_FREE char *big = malloc(JOURNAL_PAYLOAD_MAX);
	assert_non_null(big);
	memset(big, 'x', JOURNAL_PAYLOAD_MAX);
	maker_record(JOURNAL_RUN_FAILED, false, &r);
	JOURNAL_SET(&r.p, why, bytes_of(big, JOURNAL_PAYLOAD_MAX - 300));
	assert_int_equal(journal_record_encode(&r, &b), 0);
	b.len = 0;
	JOURNAL_SET(&r.p, why, bytes_of(big, JOURNAL_PAYLOAD_MAX));
	assert_int_equal(journal_record_encode(&r, &b), -E2BIG);
}

/* Every byte of every type changed to other values, and every truncation: an error, or the same
 * bytes again. */
static void garbage_is_refused_or_canonical(void **state)
{
	(void)state;
	static const uint8_t flips[] = {0x01, 0x20, 0x80, 0xff};
	for (unsigned type = 0; type < JOURNAL_TYPE_LIMIT; type++) {
		if (!journal_type_name(type))
			continue;
		struct journal_record r, back;
		AUTO_BUFFER b = {0};
		maker_record(type, true, &r);
		assert_int_equal(journal_record_encode(&r, &b), 0);
		for (size_t at = 0; at < b.len; at++) {
			assert_int_equal(journal_record_decode(bytes_of(b.data, at), &back),
					 -EBADMSG);
			for (size_t f = 0; f < sizeof(flips); f++) {
				b.data[at] ^= flips[f];
				if (journal_record_decode(buffer_bytes(&b), &back) == 0) {
					AUTO_BUFFER again = {0};
					assert_int_equal(journal_record_encode(&back, &again), 0);
					/* only an unknown key may be missing */
					assert_true(again.len <= b.len);
				}
				b.data[at] ^= flips[f];
			}
		}
	}
}

static void ids_are_32_lowercase_hex_digits(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int rc;
	} cases[] = {
		{"00112233445566778899aabbccddeeff", 0},
		{"00112233445566778899AABBCCDDEEFF", -EINVAL},
		{"00112233445566778899aabbccddeef", -EINVAL},
		{"00112233445566778899aabbccddeeff0", -EINVAL},
		{"", -EINVAL},
		{"g0112233445566778899aabbccddeeff", -EINVAL},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct journal_id id;
		char back[JOURNAL_ID_TEXT_SIZE];
		assert_int_equal(journal_id_parse(bytes_str(cases[i].text), &id), cases[i].rc);
		if (cases[i].rc == 0)
			assert_string_equal(journal_id_text(&id, back), cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_has_the_bytes_of_its_golden_file),
		cmocka_unit_test(decode_then_encode_gives_the_same_bytes),
		cmocka_unit_test(a_type_carries_its_own_fields_and_no_other),
		cmocka_unit_test(a_record_names_what_its_type_says),
		cmocka_unit_test(an_unknown_payload_key_is_kept_out_and_hashed),
		cmocka_unit_test(an_unknown_type_is_told_from_damage),
		cmocka_unit_test(a_record_past_the_limit_is_refused),
		cmocka_unit_test(garbage_is_refused_or_canonical),
		cmocka_unit_test(ids_are_32_lowercase_hex_digits),
	};
	return cmocka_run_group_tests_name("journal/record", tests, NULL, NULL);
}
