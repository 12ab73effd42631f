/* One question, one answer; whatever else a message says is refused, and nothing is read twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include "base/guard.h"
#include "sandbox/gate/dns.h"

#define HEAD(counts) "\x12\x34\x01\x00" counts
#define ONE	     "\0\1\0\0\0\0\0\0"
#define OPT1	     "\0\1\0\0\0\0\0\1"
#define API	     "\3ApI\7example\3com\0"
#define A_IN	     "\0\1\0\1"
#define OPT	     "\0\0\x29\x10\0\0\0\0\0\0\0"
#define ROW(why, text, want, name)                      \
	{                                               \
		why, text, sizeof(text) - 1, want, name \
	}

static void only_one_plain_question_is_read(void **state)
{
	static const struct {
		const char *why, *data;
		size_t len;
		int want;
		const char *name;
	} rows[] = {
		ROW("A", HEAD(ONE) API A_IN, 0, "api.example.com"),
		ROW("AAAA", HEAD(ONE) API "\0\x1c\0\1", 0, "api.example.com"),
		ROW("HTTPS", HEAD(ONE) API "\0\x41\0\1", 0, "api.example.com"),
		ROW("with EDNS", HEAD(OPT1) API A_IN OPT, 0, "api.example.com"),
		ROW("with EDNS and a cookie",
		    HEAD(OPT1) API A_IN "\0\0\x29\x10\0\0\0\0\0\0\x0c\0\x0a\0\x08"
					"12345678",
		    0, "api.example.com"),
		ROW("the root", HEAD(ONE) "\0" A_IN, 0, ""),
		ROW("a dot inside a label", HEAD(ONE) "\3a.b\0" A_IN, 0, "a?b"),
		ROW("a NUL inside a label", HEAD(ONE) "\3a\0b\0" A_IN, 0, "a?b"),
		ROW("class CHAOS", HEAD(ONE) API "\0\1\0\3", DNS_NOTIMP, "api.example.com"),
		ROW("class ANY", HEAD(ONE) API "\0\1\0\xff", DNS_NOTIMP, "api.example.com"),
		ROW("an update", "\x12\x34\x28\x00" ONE API A_IN, DNS_NOTIMP, NULL),
		ROW("an answer", "\x12\x34\x81\x80" ONE API A_IN, -EBADMSG, NULL),
		ROW("too short", "\x12\x34\x01\x00\0\1\0\0\0\0\0", -EBADMSG, NULL),
		ROW("no question", HEAD("\0\0\0\0\0\0\0\0"), DNS_FORMERR, NULL),
		ROW("two questions", HEAD("\0\2\0\0\0\0\0\0") API A_IN API A_IN, DNS_FORMERR, NULL),
		ROW("with an answer", HEAD("\0\1\0\1\0\0\0\0") API A_IN, DNS_FORMERR, NULL),
		ROW("many records", HEAD("\0\1\0\0\0\0\xff\xff") API A_IN, DNS_FORMERR, NULL),
		ROW("a pointer to itself", HEAD(ONE) "\xc0\x0c" A_IN, DNS_FORMERR, NULL),
		ROW("a label and a pointer back", HEAD(ONE) "\3abc\xc0\x0c" A_IN, DNS_FORMERR,
		    NULL),
		ROW("a label type of old", HEAD(ONE) "\x41" A_IN, DNS_FORMERR, NULL),
		ROW("a label past the end",
		    HEAD(ONE) "\x3f"
			      "abc",
		    DNS_FORMERR, NULL),
		ROW("a name without end", HEAD(ONE) "\3abc", DNS_FORMERR, NULL),
		ROW("no type", HEAD(ONE) API "\0", DNS_FORMERR, NULL),
		ROW("bytes behind it", HEAD(ONE) API A_IN "x", DNS_FORMERR, NULL),
		ROW("two OPTs", HEAD("\0\1\0\0\0\0\0\2") API A_IN OPT OPT, DNS_FORMERR, NULL),
		ROW("an OPT with a name", HEAD(OPT1) API A_IN "\1a" OPT, DNS_FORMERR, NULL),
		ROW("an OPT longer than the message",
		    HEAD(OPT1) API A_IN "\0\0\x29\x10\0\0\0\0\0\xff\xff", DNS_FORMERR, NULL),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct dns_query q;
		int r = dns_parse(bytes_of(rows[i].data, rows[i].len), &q);

		if (r != rows[i].want)
			fail_msg("%s: %d", rows[i].why, r);
		if (rows[i].name && strcmp(q.name, rows[i].name) != 0)
			fail_msg("%s: '%s'", rows[i].why, q.name);
	}
}

static void a_name_has_255_bytes(void **state)
{
	uint8_t m[12 + 300 + 4] = HEAD(ONE);
	struct dns_query q;
	size_t at = 12;

	(void)state;
	for (int i = 0; i < 3; i++) { /* 3 * 64 + 62 + 1 = 255 */
		m[at] = 63;
		memset(m + at + 1, 'a', 63);
		at += 64;
	}
	m[at] = 61;
	memset(m + at + 1, 'b', 61);
	memcpy(m + at + 62, "\0" A_IN, 5);
	assert_int_equal(dns_parse(bytes_of(m, at + 62 + 5), &q), 0);
	assert_int_equal(strlen(q.name), DNS_NAME_MAX);
	m[at] = 62;
	memset(m + at + 1, 'b', 62);
	memcpy(m + at + 63, "\0" A_IN, 5);
	assert_int_equal(dns_parse(bytes_of(m, at + 63 + 5), &q), DNS_FORMERR);
	assert_int_equal(dns_parse(bytes_of(m, DNS_MESSAGE_MAX + 1), &q), -EBADMSG);
}

static void an_answer_repeats_its_question(void **state)
{
	static const char question[] = HEAD(OPT1) API A_IN OPT;
	static const char want[] = "\x12\x34\x81\x80\0\1\0\1\0\0\0\1" API A_IN
				   "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc6\x12\0\2"
				   "\0\0\x29\x04\xd0\0\0\0\0\0\0";
	static const char refused[] =
		"\x12\x34\x81\x83\0\1\0\0\0\0\0\1" API A_IN "\0\0\x29\x04\xd0\0\0\0\0\0\0";
	struct dns_query q;
	AUTO_BUFFER out = {0};

	(void)state;
	assert_int_equal(dns_parse(bytes_of(question, sizeof(question) - 1), &q), 0);
	assert_int_equal(dns_reply(&q, DNS_OK, bytes_of("\xc6\x12\0\2", 4), &out), 0);
	assert_true(bytes_equal(buffer_bytes(&out), bytes_of(want, sizeof(want) - 1)));
	buffer_consume(&out, out.len);
	assert_int_equal(dns_reply(&q, DNS_NXDOMAIN, bytes_of("\xc6\x12\0\2", 4), &out), 0);
	assert_true(bytes_equal(buffer_bytes(&out), bytes_of(refused, sizeof(refused) - 1)));
}

static void a_question_is_written_as_it_is_asked(void **state)
{
	static const char want[] = HEAD(ONE) "\3api\7example\3com\0" A_IN;
	static const char *const none[] = {"", ".", "a..b", "a.", ".a"};
	AUTO_BUFFER out = {0};

	(void)state;
	assert_int_equal(dns_ask(0x1234, "api.example.com", DNS_A, &out), 0);
	assert_true(bytes_equal(buffer_bytes(&out), bytes_of(want, sizeof(want) - 1)));
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		AUTO_BUFFER no = {0};

		assert_int_equal(dns_ask(1, none[i], DNS_A, &no), -EINVAL);
	}
}

#define ANSWERS(n)   "\x12\x34\x81\x80\0\1\0" n "\0\0\0\0" API A_IN
#define REC(t, more) "\xc0\x0c\0" t "\0\1\0\0\0\x3c" more
#define ALIAS	     REC("\5", "\0\2\xc0\x0c")
#define HERE	     REC("\1", "\0\4\x0a\x4d\0\1")
#define WHOLE(why, text, want, count)                    \
	{                                                \
		why, text, sizeof(text) - 1, want, count \
	}

static void an_answer_is_to_the_question_that_was_asked(void **state)
{
	static const struct {
		const char *why, *data;
		size_t len;
		int want;
		size_t count;
	} rows[] = {
		WHOLE("one", ANSWERS("\1") HERE, 0, 1),
		WHOLE("none", ANSWERS("\0"), 0, 0),
		WHOLE("by an alias", ANSWERS("\3") ALIAS HERE HERE, 0, 2),
		WHOLE("another type", ANSWERS("\1") REC("\x1c", "\0\4\x0a\x4d\0\1"), 0, 0),
		WHOLE("an address of another length", ANSWERS("\1") REC("\1", "\0\3\x0a\x4d\0"),
		      -EBADMSG, 0),
		WHOLE("fewer than it says", ANSWERS("\2") HERE, -EBADMSG, 0),
		WHOLE("a record past the end", ANSWERS("\1") REC("\1", "\0\5\x0a\x4d\0\1"),
		      -EBADMSG, 0),
		WHOLE("cut short", "\x12\x34\x83\x80" ONE API A_IN, -EBADMSG, 0),
		WHOLE("a question", "\x12\x34\x01\x80" ONE API A_IN, -EBADMSG, 0),
		WHOLE("of another number", "\x12\x35\x81\x80" ONE API A_IN, -EBADMSG, 0),
		WHOLE("of another name", "\x12\x34\x81\x80" ONE "\3apo\7example\3com\0" A_IN,
		      -EBADMSG, 0),
		WHOLE("of another type", "\x12\x34\x81\x80" ONE API "\0\x1c\0\1", -EBADMSG, 0),
		WHOLE("two questions", "\x12\x34\x81\x80\0\2\0\0\0\0\0\0" API A_IN API A_IN,
		      -EBADMSG, 0),
		WHOLE("too short", "\x12\x34\x81\x80\0\1\0\0\0\0\0", -EBADMSG, 0),
	};
	AUTO_BUFFER many = {0};
	struct dns_answer a;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int r = dns_answer_parse(bytes_of(rows[i].data, rows[i].len), 0x1234,
					 "api.example.com", DNS_A, &a);

		if (r != rows[i].want || (r == 0 && a.count != rows[i].count))
			fail_msg("%s: %d, %zu", rows[i].why, r, a.count);
		if (r == 0 && a.count)
			assert_memory_equal(a.addresses[a.count - 1], "\x0a\x4d\0\1", 4);
	}
	buffer_append(&many, ANSWERS("\x3c"), sizeof(ANSWERS("\x3c")) - 1);
	for (int i = 0; i < 60; i++)
		buffer_append(&many, HERE, sizeof(HERE) - 1);
	assert_int_equal(dns_answer_parse(buffer_bytes(&many), 0x1234, "api.example.com", DNS_A,
					  &a),
			 0);
	assert_int_equal(a.count, DNS_ANSWERS_MAX);
	many.data[3] = (uint8_t)(0x80 | DNS_NXDOMAIN);
	assert_int_equal(dns_answer_parse(buffer_bytes(&many), 0x1234, "api.example.com", DNS_A,
					  &a),
			 0);
	assert_int_equal(a.rcode, DNS_NXDOMAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_one_plain_question_is_read),
		cmocka_unit_test(a_name_has_255_bytes),
		cmocka_unit_test(an_answer_repeats_its_question),
		cmocka_unit_test(a_question_is_written_as_it_is_asked),
		cmocka_unit_test(an_answer_is_to_the_question_that_was_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
