/* error, buffer, utf8, escape: what text goes through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/buffer.h"
#include "base/escape.h"
#include "base/guard.h"
#include "base/hex.h"
#include "base/path.h"
#include "base/utf8.h"
#include <errno.h>

static void the_first_error_stands(void **state)
{
	struct error e = {0};

	(void)state;
	assert_int_equal(error_set(NULL, -EIO, "x"), -EIO);
	error_where(NULL, "x");
	assert_int_equal(error_nomem(NULL), -ENOMEM);
	assert_int_equal(error_set_exit(&e, -EIO, EXIT_STATUS_SANDBOX, "disk %s", "gone"), -EIO);
	assert_int_equal(error_set_exit(&e, -EPERM, EXIT_STATUS_DENIED, "later"), -EPERM);
	assert_int_equal(error_set(&e, -EPERM, "later"), -EPERM);
	error_where(&e, "f:%d", 1);
	error_where(&e, "f:%d", 2);
	assert_int_equal(e.code, -EIO);
	assert_int_equal(e.exit_status, EXIT_STATUS_SANDBOX);
	assert_string_equal(e.msg, "disk gone");
	assert_string_equal(e.where, "f:1");
}

static void a_long_message_is_cut_and_terminated(void **state)
{
	struct error e = {0};
	char text[1000];

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	error_set(&e, -EIO, "%s", text);
	error_where(&e, "%s", text);
	assert_int_equal(strlen(e.msg), ERROR_MSG_MAX - 1);
	assert_int_equal(strlen(e.where), ERROR_WHERE_MAX - 1);
}

static void a_message_is_printable_whatever_it_quotes(void **state)
{
	struct error e = {0};
	char text[ERROR_MSG_MAX + 8];

	(void)state;
	error_set(&e, -EIO, "%s", "a\n\x1b[2Jb\xff\xc3\xa4\xe2\x80\xae\xe2\x82");
	error_where(&e, "%s", "x\ry:1");
	assert_string_equal(e.msg, "a??[2Jb?\xc3\xa4???");
	assert_string_equal(e.where, "x?y:1");
	for (size_t cut = 0; cut < 4; cut++) { /* a character of four bytes at the limit */
		e = (struct error){0};
		memset(text, 'a', sizeof(text) - 1);
		text[sizeof(text) - 1] = '\0';
		memcpy(text + ERROR_MSG_MAX - 1 - cut, "\xf0\x9f\x98\x80", 4);
		error_set(&e, -EIO, "%s", text);
		assert_true(utf8_valid(bytes_str(e.msg)));
		assert_int_equal(strlen(e.msg), ERROR_MSG_MAX - 1 - cut);
	}
}

static void bytes_have_memcmp_s_order(void **state)
{
	static const struct {
		const char *a, *b;
		int order;
	} table[] = {
		{"", "", 0},	 {"", "a", -1},	 {"a", "", 1},	    {"a", "a", 0},
		{"a", "ab", -1}, {"b", "ab", 1}, {"a", "\xff", -1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		assert_int_equal(bytes_compare(bytes_str(table[i].a), bytes_str(table[i].b)),
				 table[i].order);
		assert_int_equal(bytes_equal(bytes_str(table[i].a), bytes_str(table[i].b)),
				 table[i].order == 0);
	}
	assert_true(bytes_equal(bytes_of(NULL, 0), bytes_str("")));
	assert_int_equal(bytes_compare(bytes_of(NULL, 0), bytes_str(NULL)), 0);
}

static void a_buffer_stops_at_its_limit_and_stays_stopped(void **state)
{
	AUTO_BUFFER b = {.max = 5};

	(void)state;
	assert_int_equal(buffer_append_str(&b, "abc"), 0);
	assert_int_equal(buffer_append_byte(&b, 'd'), 0);
	assert_int_equal(buffer_printf(&b, "%d", 12), -E2BIG);
	assert_int_equal(buffer_append_byte(&b, 'e'), -E2BIG);
	assert_int_equal(b.failed, -E2BIG);
	assert_int_equal(b.len, 4);
	assert_string_equal((char *)b.data, "abcd");
	assert_null(buffer_take(&b, NULL));
	assert_int_equal(b.failed, 0);
	assert_int_equal(buffer_append(&b, "x", SIZE_MAX), -E2BIG);
}

static void a_buffer_holds_exactly_its_limit(void **state)
{
	AUTO_BUFFER b = {.max = 300};

	(void)state;
	for (int i = 0; i < 300; i++)
		assert_int_equal(buffer_append_byte(&b, (uint8_t)i), 0);
	assert_int_equal(b.len, 300);
	for (size_t i = 0; i < 300; i++)
		assert_int_equal(b.data[i], (uint8_t)i);
	assert_int_equal(b.data[300], 0);
	assert_int_equal(buffer_append(&b, NULL, 0), 0);
	assert_int_equal(buffer_append_byte(&b, 0), -E2BIG);
}

static void bytes_are_consumed_from_the_front_and_handed_off(void **state)
{
	AUTO_BUFFER b = {0};
	size_t len = 99;
	char *s;

	(void)state;
	buffer_consume(&b, 3); /* of nothing */
	s = buffer_take(&b, &len);
	assert_string_equal(s, "");
	assert_int_equal(len, 0);
	free(s);
	buffer_append_str(&b, "hello");
	buffer_consume(&b, 2);
	assert_string_equal((char *)b.data, "llo");
	buffer_printf(&b, "-%s-%d", "x", 5);
	buffer_consume(&b, 1);
	s = buffer_take(&b, &len);
	assert_string_equal(s, "lo-x-5");
	assert_int_equal(len, 6);
	assert_null(b.data);
	free(s);
	buffer_append_str(&b, "abc");
	buffer_consume(&b, 100);
	assert_int_equal(b.len, 0);
}

static const struct {
	const char *text;
	bool valid;
} utf8[] = {
	{"", true},
	{"abc\x7f", true},
	{"\xc2\x80", true},
	{"\xdf\xbf", true},
	{"\xe0\xa0\x80", true},
	{"\xed\x9f\xbf", true},
	{"\xee\x80\x80", true},
	{"\xef\xbf\xbf", true},
	{"\xf0\x90\x80\x80", true},
	{"\xf4\x8f\xbf\xbf", true},
	{"\x80", false}, /* lone continuation */
	{"\xbf", false},
	{"\xc3", false}, /* cut short */
	{"\xe2\x82", false},
	{"\xf0\x9f\x98", false},
	{"\xc3(", false}, /* no continuation */
	{"\xe2(\xa1", false},
	{"\xe2\x82(", false},
	{"\xc0\xaf", false}, /* overlong */
	{"\xc1\xbf", false},
	{"\xe0\x80\xaf", false},
	{"\xe0\x9f\xbf", false},
	{"\xf0\x80\x80\xaf", false},
	{"\xf0\x8f\xbf\xbf", false},
	{"\xed\xa0\x80", false}, /* surrogates */
	{"\xed\xbf\xbf", false},
	{"\xf4\x90\x80\x80", false}, /* past U+10FFFF */
	{"\xf8\x88\x80\x80\x80", false},
	{"\xfe", false},
	{"\xff", false},
};

static void utf8_is_rfc_3629(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(utf8); i++)
		if (utf8_valid(bytes_str(utf8[i].text)) != utf8[i].valid)
			fail_msg("row %zu", i);
	assert_true(utf8_valid(bytes_of("\0", 1)));
}

static size_t encode(int32_t cp, char *out)
{
	uint32_t c = (uint32_t)cp;

	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 63));
		out[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 63));
	out[2] = (char)(0x80 | (c >> 6 & 63));
	out[3] = (char)(0x80 | (c & 63));
	return 4;
}

/* Each limit within and around a character of each length. */
static void a_text_is_never_cut_within_a_character(void **state)
{
	static const char *const characters[] = {"b", "\xc3\xa9", "\xe2\x82\xac",
						 "\xf0\x9f\x98\x80"};
	static const struct {
		const char *text;
		size_t max, left;
	} invalid[] = {
		{"", 0, 0},
		{"\xff\xff", 2, 2}, /* what is short enough stays, whatever it is */
		{"a\xc3", 2, 2},
		{"\x80\x80\x80\x80\x80\x80", 5, 5}, /* of no character: not one byte more goes */
		{"aaaa\x80\x80\x80\x80", 7, 7},
		{"\xff\xff\xff", 2, 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(characters); i++) {
		size_t n = strlen(characters[i]);
		char text[16], to[16], printed[16];

		snprintf(text, sizeof(text), "aa%s%sz", characters[i], characters[i]);
		for (size_t max = 0; max <= strlen(text) + 1; max++) {
			size_t want = max <= 2		? max
				      : max < 2 + n	? 2
				      : max < 2 + 2 * n ? 2 + n
				      : max < 3 + 2 * n ? 2 + 2 * n
							: 3 + 2 * n;
			struct bytes cut = utf8_cut(bytes_str(text), max);

			assert_int_equal(cut.len, want);
			assert_ptr_equal(cut.data, text);
			assert_true(utf8_valid(cut));
			memset(to, 'x', sizeof(to));
			memset(printed, 'x', sizeof(printed));
			utf8_copy(to, max + 1, bytes_str(text));
			utf8_printf(printed, max + 1, "%s", text);
			assert_int_equal(strlen(to), want);
			assert_memory_equal(to, text, want);
			assert_string_equal(printed, to);
			assert_int_equal(to[max + 1], 'x');
			assert_int_equal(printed[max + 1], 'x');
			utf8_printf(printed, sizeof(printed), "%.*s", UTF8_SHORT(text, max));
			assert_string_equal(printed, to);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(invalid); i++)
		assert_int_equal(utf8_cut(bytes_str(invalid[i].text), invalid[i].max).len,
				 invalid[i].left);
	assert_int_equal(utf8_cut(bytes_of(NULL, 0), 4).len, 0);
}

static void a_bounded_text_is_utf8_within_its_limit(void **state)
{
	static const struct {
		const char *in;
		size_t max;
		const char *out;
	} table[] = {
		{"", 4, ""},
		{"a\nb\\", 4, "a\nb\\"},
		{"a\xc3\xa9", 3, "a\xc3\xa9"},
		{"a\xc3\xa9", 2, "a"},
		{"a\xc3", 8, "a\\xc3"},
		{"a\n\xff", 8, "a\\n\\xff"},
		{"a\xc3\xff", 3, "a\\x"},
		{"ab\xff", 2, "ab"}, /* what is no text is behind the limit */
		{"\xff\xff\xff\xff", 10, "\\xff\\xff\\x"},
		{"\xff\xc3\xa9", 5, "\\xff"},
	};
	AUTO_BUFFER scratch = {0};
	AUTO_BUFFER small = {.max = 2};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct bytes b = escape_bounded(bytes_str(table[i].in), table[i].max, &scratch);

		assert_true(bytes_equal(b, bytes_str(table[i].out)));
		assert_true(b.len <= table[i].max && utf8_valid(b));
	}
	assert_int_equal(escape_bounded(bytes_str("\xff"), 9, &small).len, 0);
	assert_int_equal(small.failed, -E2BIG);
}

static void every_code_point_is_decoded_as_itself(void **state)
{
	(void)state;
	for (int32_t cp = 0; cp <= 0x10ffff; cp++) {
		char s[4];
		size_t len = encode(cp, s);
		size_t at = 0;
		int32_t got = utf8_next(bytes_of(s, len), &at);

		if (cp >= 0xd800 && cp <= 0xdfff) {
			assert_true(got == -EILSEQ && at == 1);
			continue;
		}
		assert_true(got == cp && at == len);
	}
}

static void what_misleads_the_eye_is_deceptive(void **state)
{
	static const int32_t bad[] = {
		0x00,	 0x09,	  0x0a,	   0x0d,    0x1b,    0x7f,    0x80,    0x85,	 0x9b,
		0x9f,	 0xad,	  0x34f,   0x600,   0x61c,   0x6dd,   0x70f,   0x115f,	 0x17b4,
		0x180e,	 0x200b,  0x200c,  0x200d,  0x200e,  0x200f,  0x2028,  0x2029,	 0x202a,
		0x202b,	 0x202c,  0x202d,  0x202e,  0x2060,  0x2066,  0x2067,  0x2068,	 0x2069,
		0x206f,	 0x3164,  0xfe00,  0xfe0f,  0xfeff,  0xffa0,  0xfff9,  0xfffe,	 0xffff,
		0x1d173, 0x1fffe, 0xe0001, 0xe0020, 0xe007f, 0xe0100, 0xe01ef, 0x10ffff, -EILSEQ,
	};
	static const int32_t good[] = {' ',    '~',    'a',	0xa0,	 0xe4,	 0x3b1,
				       0x430,  0x5d0,  0x627,	0x4e2d,	 0x3042, 0xac00,
				       0x20ac, 0x2026, 0x1f600, 0x20000, 0x3000};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (!utf8_is_deceptive(bad[i]))
			fail_msg("U+%04X", (unsigned)bad[i]);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (utf8_is_deceptive(good[i]))
			fail_msg("U+%04X", (unsigned)good[i]);
}

static void names_are_plain(void **state)
{
	static const struct {
		const char *name;
		int result;
	} table[] = {
		{"a", 0},
		{"fix-42", 0},
		{"a b", 0},
		{"\xc3\xa4\xe4\xb8\xad", 0},
		{"...", 0},
		{".a", 0},
		{"-x", 0},
		{"", -EINVAL},
		{".", -EINVAL},
		{"..", -EINVAL},
		{"a/b", -EINVAL},
		{"a#1", -EINVAL},
		{"a\n", -EINVAL},
		{"a\tb", -EINVAL},
		{"a\x7f", -EINVAL},
		{"a\xc2\x85", -EINVAL},
		{"a\xe2\x80\xae", -EINVAL},
		{"a\xe2\x80\x8b", -EINVAL},
		{"a\xef\xb8\x8f", -EINVAL},
		{"a\xff", -EINVAL},
		{"\xed\xa0\x80", -EINVAL},
	};
	char longest[129];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(utf8_check_name(bytes_str(table[i].name)), table[i].result);
	assert_int_equal(utf8_check_name(bytes_of("a\0b", 3)), -EINVAL);
	memset(longest, 'a', sizeof(longest));
	assert_int_equal(utf8_check_name(bytes_of(longest, 128)), 0);
	assert_int_equal(utf8_check_name(bytes_of(longest, 129)), -ENAMETOOLONG);
}

static const struct {
	const char *in;
	unsigned flags;
	const char *out;
} escaped[] = {
	{"", 0, ""},
	{"plain text ~", 0, "plain text ~"},
	{"a\nb\tc", 0, "a\\nb\\tc"},
	{"a\nb\tc", ESCAPE_KEEP_NEWLINE, "a\nb\tc"},
	{"a\rb", ESCAPE_KEEP_NEWLINE, "a\\x0db"},
	{"\x1b[2J\x07", 0, "\\x1b[2J\\x07"},
	{"\x7f", 0, "\\x7f"},
	{"C:\\x1b", 0, "C:\\\\x1b"},
	{"C:\\x", ESCAPE_KEEP_BACKSLASH, "C:\\x"},
	{"\xc2\x9b"
	 "31m",
	 0, "\\u{9b}31m"}, /* C1: CSI */
	{"\x9b"
	 "31m",
	 0, "\\x9b31m"}, /* the same as a bare byte */
	{"a\xe2\x80\xae"
	 "b\xe2\x81\xa6"
	 "c",
	 0, "a\\u{202e}b\\u{2066}c"},
	{"a\xe2\x80\x8b"
	 "b\xef\xbb\xbf",
	 0, "a\\u{200b}b\\u{feff}"},
	{"a\xe2\x80\xa8"
	 "b",
	 ESCAPE_KEEP_NEWLINE, "a\\u{2028}b"},
	{"a\xf3\xa0\x81\x81", 0, "a\\u{e0041}"}, /* a tag */
	{"\xff\xfe"
	 "a\xc3",
	 0, "\\xff\\xfea\\xc3"},
	{"\xe2\x82", 0, "\\xe2\\x82"},
	{"\xed\xa0\x80", 0, "\\xed\\xa0\\x80"},
	{"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 0, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
	/* look-alikes: Cyrillic a in a Latin word; wholly Cyrillic is what Russians write */
	{"p\xd0\xb0ypal", 0, "p\xd0\xb0ypal"},
	{"p\xd0\xb0ypal", ESCAPE_MARK_LOOKALIKE, "p\\u{430}ypal"},
	{"say p\xd0\xb0ypal.com", ESCAPE_MARK_LOOKALIKE, "say p\\u{430}ypal.com"},
	{"\xd0\xbc\xd0\xb8\xd1\x80", ESCAPE_MARK_LOOKALIKE, "\xd0\xbc\xd0\xb8\xd1\x80"},
	{"\xd0\xbc\xd0\xb8\xd1\x80 mir", ESCAPE_MARK_LOOKALIKE, "\xd0\xbc\xd0\xb8\xd1\x80 mir"},
	{"\xce\xb1"
	 "bc",
	 ESCAPE_MARK_LOOKALIKE, "\\u{3b1}bc"},
	{"\xce\xb1\xd0\xb0", ESCAPE_MARK_LOOKALIKE, "\\u{3b1}\\u{430}"},
	{"caf\xc3\xa9 na\xc3\xafve", ESCAPE_MARK_LOOKALIKE, "caf\xc3\xa9 na\xc3\xafve"},
	{"PDF\xe3\x83\x95\xe3\x82\xa1", ESCAPE_MARK_LOOKALIKE, "PDF\xe3\x83\x95\xe3\x82\xa1"},
	{"\xef\xbd\x81"
	 "bc",
	 ESCAPE_MARK_LOOKALIKE, "\\u{ff41}bc"}, /* fullwidth a */
	{"\xf0\x9d\x90\x9a", ESCAPE_MARK_LOOKALIKE, "\\u{1d41a}"}, /* mathematical bold a */
	{"a-\xd0\xb0", ESCAPE_MARK_LOOKALIKE, "a-\xd0\xb0"},
	{"x\xe2\x80\xae\xd0\xb0y\xff", ESCAPE_MARK_LOOKALIKE, "x\\u{202e}\\u{430}y\\xff"},
};

static void what_is_shown_hides_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(escaped); i++) {
		AUTO_FREE char *s = escape_dup(bytes_str(escaped[i].in), escaped[i].flags);

		assert_string_equal(s, escaped[i].out);
	}
}

static void no_two_byte_strings_are_shown_alike(void **state)
{
	(void)state;
	for (unsigned a = 0; a < 0x10000; a += 37) {
		char in[2] = {(char)(a >> 8), (char)a};
		AUTO_FREE char *s = escape_dup(bytes_of(in, 2), ESCAPE_LINE);
		AUTO_BUFFER back = {0};

		/* What escape wrote can be read back by these few rules, so it is injective. */
		for (const char *p = s; *p;) {
			char *end;

			if (*p != '\\') {
				buffer_append_byte(&back, (uint8_t)*p++);
			} else if (p[1] == 'x') {
				char hex[3] = {p[2], p[3], '\0'};

				buffer_append_byte(&back, (uint8_t)strtoul(hex, &end, 16));
				p += 4;
			} else if (p[1] == 'u') {
				char utf[4];

				buffer_append(&back, utf,
					      encode((int32_t)strtoul(p + 3, &end, 16), utf));
				p = end + 1;
			} else {
				buffer_append_byte(&back, p[1] == 'n'	? '\n'
							  : p[1] == 't' ? '\t'
									: '\\');
				p += 2;
			}
		}
		assert_true(bytes_equal(buffer_bytes(&back), bytes_of(in, 2)));
	}
}

static void what_is_shown_is_always_printable(void **state)
{
	char in[3];

	(void)state;
	for (unsigned a = 0; a < 0x1000000; a += 251) {
		AUTO_FREE char *s = NULL;

		in[0] = (char)(a >> 16);
		in[1] = (char)(a >> 8);
		in[2] = (char)a;
		s = escape_dup(bytes_of(in, 3), ESCAPE_LINE | ESCAPE_MARK_LOOKALIKE);
		assert_non_null(s);
		for (size_t at = 0; at < strlen(s);)
			assert_false(utf8_is_deceptive(utf8_next(bytes_str(s), &at)));
	}
}

static void json_strings_are_escaped(void **state)
{
	static const struct {
		const char *in, *out;
	} table[] = {
		{"a\"b\\c/", "a\\\"b\\\\c/"},
		{"\n\t\r\x01\x7f", "\\n\\t\\u000d\\u0001\\u007f"},
		{"\xc3\xa4\xff", "\xc3\xa4\xef\xbf\xbd"},
		{"\xe2\x80\xae", "\\u202e"},
		{"\xf3\xa0\x81\x81", "\\udb40\\udc41"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		AUTO_BUFFER b = {0};

		escape_json(&b, bytes_str(table[i].in));
		assert_string_equal((char *)b.data, table[i].out);
	}
}

static void hexadecimal_is_read_as_it_is_written_and_no_other_way(void **state)
{
	static const struct {
		const char *hex;
		int result;
	} table[] = {
		{"00ff1a", 0},	      {"", -EINVAL},	      {"00ff1", -EINVAL},
		{"00ff1a0", -EINVAL}, {"00ff1a00", -EINVAL},  {"00FF1A", -EINVAL},
		{"00ff1g", -EINVAL},  {" 0ff1a", -EINVAL},    {"+0ff1a", -EINVAL},
		{"0x001a", -EINVAL},  {"00ff1\x80", -EINVAL},
	};
	static const uint8_t read[3] = {0, 0xff, 0x1a}, before[3] = {7, 7, 7};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		uint8_t out[3] = {7, 7, 7};

		assert_int_equal(hex_decode(bytes_str(table[i].hex), out, 3), table[i].result);
		assert_memory_equal(out, table[i].result == 0 ? read : before, 3);
	}
	for (int c = 0; c < 256; c++) {
		const char *digits = "0123456789abcdefABCDEF", *at = c ? strchr(digits, c) : NULL;
		long value = at ? at - digits : -1;

		assert_int_equal(hex_digit((uint8_t)c), value > 15 ? value - 6 : value);
	}
}

static void a_path_is_within_whole_components_only(void **state)
{
	static const struct {
		const char *path, *folder;
		bool within;
	} table[] = {
		{"/a/b", "/a/b", true},	  {"/a/b/c", "/a/b", true}, {"/a/bc", "/a/b", false},
		{"/a", "/a/b", false},	  {"/a/b", "/", true},	    {"/", "/", true},
		{"/", "/a", false},	  {"/a/b", "/a/b/", true},  {"/a/bc", "/a/b/", false},
		{"/a/b.", "/a/b", false}, {"/A/b", "/a", false},    {"", "/a", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(path_within(table[i].path, table[i].folder), table[i].within);
	assert_true(path_is_within(bytes_of("/a/bXX", 4), "/a/b"));
	assert_false(path_is_within(bytes_of("/a/b", 3), "/a/b"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_error_stands),
		cmocka_unit_test(a_long_message_is_cut_and_terminated),
		cmocka_unit_test(a_message_is_printable_whatever_it_quotes),
		cmocka_unit_test(bytes_have_memcmp_s_order),
		cmocka_unit_test(a_buffer_stops_at_its_limit_and_stays_stopped),
		cmocka_unit_test(a_buffer_holds_exactly_its_limit),
		cmocka_unit_test(bytes_are_consumed_from_the_front_and_handed_off),
		cmocka_unit_test(utf8_is_rfc_3629),
		cmocka_unit_test(a_text_is_never_cut_within_a_character),
		cmocka_unit_test(a_bounded_text_is_utf8_within_its_limit),
		cmocka_unit_test(every_code_point_is_decoded_as_itself),
		cmocka_unit_test(what_misleads_the_eye_is_deceptive),
		cmocka_unit_test(names_are_plain),
		cmocka_unit_test(what_is_shown_hides_nothing),
		cmocka_unit_test(no_two_byte_strings_are_shown_alike),
		cmocka_unit_test(what_is_shown_is_always_printable),
		cmocka_unit_test(json_strings_are_escaped),
		cmocka_unit_test(hexadecimal_is_read_as_it_is_written_and_no_other_way),
		cmocka_unit_test(a_path_is_within_whole_components_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
