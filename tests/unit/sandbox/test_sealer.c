/* The sealer's messages: one set of bytes each, and a message of another shape is refused. */
#include "tests/golden.h"
#include "base/guard.h"
#include "sandbox/sealer.h"

static struct sealer_request request(enum sealer_op op)
{
	struct sealer_request q = {.id = 7, .op = op, .name_count = 1, .names = {"a1"}};

	switch (op) {
	case SEALER_SEAL:
		q.bytes_max = 1 << 20;
		q.entries_max = 1000;
		break;
	case SEALER_SQUASH:
		q.name_count = 3;
		strcpy(q.names[1], "b");
		strcpy(q.names[2], "c123456");
		strcpy(q.into, "d");
		break;
	case SEALER_OPEN:
		q.path = bytes_str("d/f\n\xff");
		break;
	case SEALER_VIEW:
		q.over_base = true;
		break;
	case SEALER_REMOVE:
	case SEALER_USAGE:
		break;
	}
	return q;
}

static void golden_bytes(void **state)
{
	(void)state;
	for (int op = SEALER_SEAL; op <= SEALER_VIEW; op++) {
		struct sealer_request q = request((enum sealer_op)op);
		struct sealer_request back;
		AUTO_BUFFER out = {0};
		AUTO_BUFFER again = {0};
		char file[64];

		snprintf(file, sizeof(file), "sandbox/sealer-request.%d.cbor", op);
		assert_int_equal(sealer_request_encode(&q, &out), 0);
		golden_check(file, buffer_bytes(&out));
		assert_int_equal(sealer_request_decode(buffer_bytes(&out), &back, NULL), 0);
		assert_int_equal(sealer_request_encode(&back, &again), 0);
		assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&again)));
	}
}

static void replies_say_done_or_why_not(void **state)
{
	const struct sealer_reply rows[] = {
		{.id = 7, .digest = {{1, 2, 3}}, .entries = 4, .bytes = 5},
		{.id = 8,
		 .result = -EFBIG,
		 .exit_status = EXIT_STATUS_LIMIT,
		 .message = bytes_str("too \xff large")},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sealer_reply back;
		AUTO_BUFFER out = {0};
		char file[64];

		snprintf(file, sizeof(file), "sandbox/sealer-reply.%zu.cbor", i);
		assert_int_equal(sealer_reply_encode(&rows[i], &out), 0);
		golden_check(file, buffer_bytes(&out));
		assert_int_equal(sealer_reply_decode(buffer_bytes(&out), &back, NULL), 0);
		assert_int_equal(back.id, rows[i].id);
		assert_int_equal(back.entries, rows[i].entries);
		assert_true(digest_equal(&back.digest, &rows[i].digest));
		assert_int_equal(back.result, rows[i].result);
		assert_int_equal(back.exit_status, rows[i].exit_status);
		assert_true(bytes_equal(back.message, rows[i].message));
	}
}

static void a_request_of_another_shape_is_refused(void **state)
{
	static const struct {
		const char *why;
		struct sealer_request q;
	} rows[] = {
		{"unknown kind", {.op = 0, .name_count = 1, .names = {"a"}}},
		{"unknown kind", {.op = (enum sealer_op)7, .name_count = 1, .names = {"a"}}},
		{"no layer", {.op = SEALER_SEAL}},
		{"two layers", {.op = SEALER_SEAL, .name_count = 2, .names = {"a", "b"}}},
		{"a name with dots", {.op = SEALER_REMOVE, .name_count = 1, .names = {".."}}},
		{"a name with a slash", {.op = SEALER_REMOVE, .name_count = 1, .names = {"a/b"}}},
		{"an upper case name", {.op = SEALER_REMOVE, .name_count = 1, .names = {"A"}}},
		{"an empty name", {.op = SEALER_REMOVE, .name_count = 1, .names = {""}}},
		{"nowhere to squash into", {.op = SEALER_SQUASH, .name_count = 1, .names = {"a"}}},
		{"a path upwards",
		 {.op = SEALER_OPEN, .name_count = 1, .names = {"a"}, .path = {"../x", 4}}},
		{"an absolute path",
		 {.op = SEALER_OPEN, .name_count = 1, .names = {"a"}, .path = {"/x", 2}}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO_BUFFER out = {0};

		if (sealer_request_encode(&rows[i].q, &out) != -EPROTO)
			fail_msg("%s", rows[i].why);
	}
}

static void only_the_canonical_form_is_read(void **state)
{
	static const struct {
		const char *why;
		const char *hex;
		int want;
	} rows[] = {
		{"as it should be", "a4 01 01 02 07 03 02 04 81 61 61", 0},
		{"another protocol", "a4 01 02 02 07 03 02 04 81 61 61", -EPROTO},
		{"a key too many for its kind", "a5 01 01 02 07 03 02 04 81 61 61 08 01", -EPROTO},
		{"an unknown key", "a5 01 01 02 07 03 02 04 81 61 61 18 20 01", -EPROTO},
		{"no id", "a3 01 01 03 02 04 81 61 61", -EPROTO},
		{"a name of eight bytes", "a4 01 01 02 07 03 02 04 81 68 61 61 61 61 61 61 61 61",
		 -EPROTO},
		{"a name with NUL", "a4 01 01 02 07 03 02 04 81 62 61 00", -EPROTO},
		{"an op past a byte", "a4 01 01 02 07 03 19 01 02 04 81 61 61", -EPROTO},
		{"bytes left over", "a4 01 01 02 07 03 02 04 81 61 61 00", -EBADMSG},
		{"keys out of order", "a4 02 07 01 01 03 02 04 81 61 61", -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sealer_request q;
		uint8_t raw[64];
		size_t len = 0;
		int r;

		for (const char *p = rows[i].hex; *p; p += p[2] ? 3 : 2)
			raw[len++] = (uint8_t)strtoul(p, NULL, 16);
		r = sealer_request_decode(bytes_of(raw, len), &q, NULL);
		if (r != rows[i].want)
			fail_msg("%s: %d", rows[i].why, r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_bytes),
		cmocka_unit_test(replies_say_done_or_why_not),
		cmocka_unit_test(a_request_of_another_shape_is_refused),
		cmocka_unit_test(only_the_canonical_form_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
