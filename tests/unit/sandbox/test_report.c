/* What courier and supervisor say to each other: one set of bytes each, and whatever breaks a rule
 * is refused as a whole. */
#include "tests/golden.h"
#include <stdio.h>
#include "base/cbor.h"
#include "base/guard.h"
#include "sandbox/report.h"

static const uint8_t ids[2][16] = {{1}, {2}};
static struct report_read reads[2] = {
	{.attempt = {3},
	 .wall_ns = 5,
	 .kind = ACTION_HTTP,
	 .status = 200,
	 .method = {"GET", 3},
	 .host = {"a.example", 9},
	 .path = {"/x", 2},
	 .port = 443,
	 .rule = {"pkgs", 4},
	 .sent = 1,
	 .received = 2,
	 .duration_us = 3},
	{.attempt = {3},
	 .wall_ns = -1,
	 .kind = ACTION_TCP,
	 .denied = true,
	 .host = {"b.example", 9},
	 .why = {"no", 2}},
};

static struct report_message one_of(enum report_type type)
{
	struct report_message m = {.type = type};

	switch (type) {
	case REPORT_HELLO:
		m.hello = (struct report_hello){{7}, {8}, ids, 2};
		break;
	case REPORT_PROPOSE:
		m.propose = (struct report_propose){
			9, {3}, bytes_str("action"), 2, bytes_str("x-a, x-b"), bytes_str("why")};
		break;
	case REPORT_READS:
		m.reads = (struct report_reads){reads, 2};
		break;
	case REPORT_RESULT:
		m.result = (struct report_result){.request = 9,
						  .effect = {4},
						  .outcome = REPORT_CONFIRMED,
						  .status = 201,
						  .headers = {{bytes_str("content-type"),
							       bytes_str("text/plain")}},
						  .header_count = 1,
						  .too_long = true,
						  .sent = 10,
						  .received = 11,
						  .why = bytes_str("w")};
		break;
	case REPORT_SETTINGS:
		m.settings.resolvers = bytes_str("10.0.0.1 [::1]:5353");
		break;
	case REPORT_ATTEMPT:
		m.attempt = (struct report_attempt){.attempt = {3},
						    .egress_left = UINT64_MAX,
						    .requests_left = 0,
						    .secrets = {{bytes_str("t"), bytes_str("place"),
								 bytes_str("value")}},
						    .secret_count = 1,
						    .cas = {bytes_str("/etc/ca.pem")},
						    .ca_count = 1};
		break;
	case REPORT_ANSWER:
		m.answer = (struct report_answer){.request = 9,
						  .effect = {4},
						  .verdict = REPORT_DENY,
						  .status = 403,
						  .rule = bytes_str("r"),
						  .why = bytes_str("w"),
						  .hint = bytes_str("h")};
		break;
	case REPORT_CUT:
		m.request = 9;
		break;
	case REPORT_DELIVERED:
	case REPORT_DRAINED:
	case REPORT_ATTEMPT_END:
	case REPORT_RELEASE:
		memcpy(m.effect, ids[1], sizeof(m.effect));
		break;
	}
	return m;
}

static const struct {
	enum report_type type;
	const char *name;
} types[] = {
	{REPORT_HELLO, "hello"},	 {REPORT_PROPOSE, "propose"},
	{REPORT_READS, "reads"},	 {REPORT_RESULT, "result"},
	{REPORT_DELIVERED, "delivered"}, {REPORT_CUT, "cut"},
	{REPORT_SETTINGS, "settings"},	 {REPORT_ATTEMPT, "attempt"},
	{REPORT_ANSWER, "answer"},	 {REPORT_ATTEMPT_END, "attempt-end"},
	{REPORT_RELEASE, "release"},	 {REPORT_DRAINED, "drained"},
};

static void each_message_has_one_form(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		struct report_message m = one_of(types[i].type), again;
		AUTO_BUFFER out = {0};
		AUTO_BUFFER twice = {0};
		char name[64];

		assert_int_equal(report_encode(&m, &out), 0);
		assert_int_equal(cbor_validate(buffer_bytes(&out)), 0);
		snprintf(name, sizeof(name), "sandbox/report-%s.one.cbor", types[i].name);
		golden_check(name, buffer_bytes(&out));
		assert_int_equal(report_decode(buffer_bytes(&out), &again), 0);
		assert_int_equal(again.type, types[i].type);
		assert_int_equal(report_encode(&again, &twice), 0);
		assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&twice)));
		for (size_t cut = 0; cut < out.len; cut++) {
			struct report_message none;

			assert_true(report_decode(bytes_of(out.data, cut), &none) < 0);
		}
		report_message_clear(&again);
	}
}

static void fields_come_back(void **state)
{
	struct report_message m = one_of(REPORT_ATTEMPT), again;
	AUTO_BUFFER out = {0};

	(void)state;
	assert_int_equal(report_encode(&m, &out), 0);
	assert_int_equal(report_decode(buffer_bytes(&out), &again), 0);
	assert_true(again.attempt.egress_left == UINT64_MAX);
	assert_int_equal(again.attempt.requests_left, 0);
	assert_true(bytes_equal(again.attempt.secrets[0].value, bytes_str("value")));
	assert_true(bytes_equal(again.attempt.cas[0], bytes_str("/etc/ca.pem")));
	buffer_free(&out);
	m = one_of(REPORT_READS);
	assert_int_equal(report_encode(&m, &out), 0);
	assert_int_equal(report_decode(buffer_bytes(&out), &again), 0);
	assert_int_equal(again.reads.count, 2);
	assert_int_equal(again.reads.items[1].wall_ns, -1);
	assert_true(again.reads.items[1].denied);
	assert_int_equal(again.reads.items[0].port, 443);
	report_message_clear(&again);
}

static void what_breaks_a_rule_is_no_message(void **state)
{
	struct report_message m;
	AUTO_BUFFER out = {0};

	(void)state;
	m = one_of(REPORT_ANSWER);
	m.answer.status = 0;
	assert_int_equal(report_encode(&m, &out), -EINVAL);
	m = one_of(REPORT_ANSWER);
	m.answer.verdict = REPORT_SEND;
	assert_int_equal(report_encode(&m, &out), -EINVAL);
	m.answer.status = 0;
	m.answer.key_header = bytes_str("Idempotency-Key");
	assert_int_equal(report_encode(&m, &out), -EINVAL);
	m.answer.key = bytes_str("k");
	assert_int_equal(report_encode(&m, &out), 0);
	m.answer.key_header = bytes_str("Idempotency Key");
	assert_int_equal(report_encode(&m, &out), -EINVAL);
	m.answer.key_header = bytes_str("Idempotency-Key");
	m.answer.key = bytes_str("a\r\nb: c");
	assert_int_equal(report_encode(&m, &out), -EINVAL);
	m = one_of(REPORT_PROPOSE);
	m.propose.request = 0;
	assert_int_equal(report_encode(&m, &out), -EINVAL);
	m = one_of(REPORT_READS);
	m.reads.count = 0;
	assert_int_equal(report_encode(&m, &out), -EINVAL);
	m = one_of(REPORT_RESULT);
	m.result.headers[0].name = bytes_str("Content-Type");
	assert_int_equal(report_encode(&m, &out), -EINVAL);
	/* a key more, a type that is none, a zero that stands for nothing */
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
		{"\xa1\x00\x07", 3},
		{"\xa1\x00\x06", 3},
		{"\xa2\x00\x06\x01\x00", 5},
		{"\xa3\x00\x06\x01\x09\x02\x01", 7},
		{"\xa2\x00\x18\x20\x01\x60", 6},
		{"\xa0", 1},
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(report_decode(bytes_of(bad[i].bytes, bad[i].len), &m) < 0);
}

/* Half a character at the end, bytes that are no text at all, and more than fits: all that is not
 * for a person arrives, and the text as far as it is one. */
static void no_text_keeps_a_message_from_arriving(void **state)
{
	static char much[4001];
	const struct bytes texts[] = {bytes_str("a\xc3"), bytes_of("\xff\0\x80", 3),
				      bytes_of(much, 4000), bytes_of(much, 4)};

	(void)state;
	for (size_t i = 0; i < 4000; i += 2)
		memcpy(much + i, "\xc3\xa9", 3);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct report_read read = reads[0];
		struct report_message m[] = {one_of(REPORT_PROPOSE), one_of(REPORT_READS),
					     one_of(REPORT_RESULT), one_of(REPORT_ANSWER)};

		m[0].propose.reason = m[0].propose.names = texts[i];
		read.method = read.host = read.rule = read.why = texts[i];
		m[1].reads = (struct report_reads){&read, 1};
		m[2].result.why = texts[i];
		m[3].answer.rule = m[3].answer.why = m[3].answer.hint = texts[i];
		for (size_t k = 0; k < ARRAY_SIZE(m); k++) {
			struct report_message back;
			AUTO_BUFFER out = {0};
			struct bytes why;

			assert_int_equal(report_encode(&m[k], &out), 0);
			assert_int_equal(report_decode(buffer_bytes(&out), &back), 0);
			assert_int_equal(back.type, m[k].type);
			why = k == 0   ? back.propose.reason
			      : k == 1 ? back.reads.items[0].why
			      : k == 2 ? back.result.why
				       : back.answer.why;
			if (i == 0)
				assert_true(bytes_equal(why, bytes_str("a\\xc3")));
			else if (i == 1)
				assert_true(bytes_equal(why, bytes_str("\\xff\\x00\\x80")));
			else
				assert_int_equal(why.len, i == 2 ? REPORT_TEXT_MAX : 4);
			report_message_clear(&back);
		}
	}
}

/* The encoder makes none that is too long; whoever sends one all the same is not heard. */
static void a_text_past_its_limit_is_no_message(void **state)
{
	static const enum report_type with_why[] = {REPORT_RESULT, REPORT_ANSWER, REPORT_READS};
	static char much[REPORT_TEXT_MAX + 1];

	(void)state;
	memset(much, 'a', REPORT_TEXT_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(with_why); i++) {
		struct report_message m = one_of(with_why[i]), back;
		struct report_read read = reads[1];
		AUTO_BUFFER out = {0};
		AUTO_BUFFER more = {0};
		size_t at;

		read.why = bytes_str(much);
		if (m.type == REPORT_READS)
			m.reads = (struct report_reads){&read, 1};
		else if (m.type == REPORT_RESULT)
			m.result.why = bytes_str(much);
		else
			m.answer.why = bytes_str(much);
		assert_int_equal(report_encode(&m, &out), 0);
		assert_int_equal(report_decode(buffer_bytes(&out), &back), 0);
		report_message_clear(&back);
		at = (size_t)((uint8_t *)memmem(out.data, out.len, "\x79\x04\x00", 3) - out.data);
		buffer_append(&more, out.data, at);
		buffer_append(&more,
			      "\x79\x04\x01"
			      "a",
			      4);
		buffer_append(&more, out.data + at + 3, out.len - at - 3);
		assert_int_equal(cbor_validate(buffer_bytes(&more)), 0);
		assert_int_equal(report_decode(buffer_bytes(&more), &back), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_message_has_one_form),
		cmocka_unit_test(fields_come_back),
		cmocka_unit_test(what_breaks_a_rule_is_no_message),
		cmocka_unit_test(no_text_keeps_a_message_from_arriving),
		cmocka_unit_test(a_text_past_its_limit_is_no_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
