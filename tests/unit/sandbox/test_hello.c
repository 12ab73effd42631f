/* Which name a TLS client hello asks for, however it is cut into records and pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include "base/guard.h"
#include "sandbox/gate/hello.h"

static void put16(struct buffer *b, size_t v)
{
	(void)buffer_append_byte(b, (uint8_t)(v >> 8));
	(void)buffer_append_byte(b, (uint8_t)v);
}

/* A server_name extension with one name. */
static void put_name(struct buffer *b, const char *name, size_t len)
{
	put16(b, 0);
	put16(b, len + 5);
	put16(b, len + 3);
	(void)buffer_append_byte(b, 0);
	put16(b, len);
	(void)buffer_append(b, name, len);
}

static void make(struct bytes extensions, size_t per_record, struct buffer *out)
{
	AUTO_BUFFER body = {0};
	AUTO_BUFFER message = {0};
	static const uint8_t random[32];

	put16(&body, 0x0303);
	(void)buffer_append(&body, random, 32);
	(void)buffer_append_byte(&body, 0);
	put16(&body, 2);
	put16(&body, 0x1301);
	put16(&body, 0x0100);
	put16(&body, extensions.len);
	(void)buffer_append(&body, extensions.data, extensions.len);
	(void)buffer_append_byte(&message, 1);
	(void)buffer_append_byte(&message, 0);
	put16(&message, body.len);
	(void)buffer_append(&message, body.data, body.len);
	for (size_t at = 0; at < message.len; at += per_record) {
		size_t n = message.len - at < per_record ? message.len - at : per_record;

		(void)buffer_append(out, "\x16\x03\x01", 3);
		put16(out, n);
		(void)buffer_append(out, message.data + at, n);
	}
}

static void a_name_is_found_however_it_is_cut(void **state)
{
	static const size_t sizes[] = {16384, 1, 3, 4, 5, 50};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		AUTO_BUFFER ext = {0};
		AUTO_BUFFER out = {0};
		struct hello h;

		put16(&ext, 16);
		put16(&ext, 0);
		put_name(&ext, "Api.Example.com", 15);
		make(buffer_bytes(&ext), sizes[i], &out);
		for (size_t cut = 0; cut < out.len; cut++)
			if (hello_parse(bytes_of(out.data, cut), &h) != HELLO_NEED_MORE)
				fail_msg("%zu of records of %zu", cut, sizes[i]);
		assert_int_equal(hello_parse(buffer_bytes(&out), &h), HELLO_WHOLE);
		assert_string_equal(h.name, "api.example.com");
		assert_false(h.encrypted);
		(void)buffer_append_str(&out, "early data"); /* behind it: not its business */
		assert_int_equal(hello_parse(buffer_bytes(&out), &h), HELLO_WHOLE);
	}
}

static void what_is_no_host_name_is_refused(void **state)
{
	static const struct {
		const char *name;
		size_t len;
	} rows[] = {{"", 0}, {"a\0b", 3}, {"a.", 2}, {"a b", 3}, {"\xc3\xa4", 2}, {"[::1]", 5}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO_BUFFER ext = {0};
		AUTO_BUFFER out = {0};
		struct hello h;

		put_name(&ext, rows[i].name, rows[i].len);
		make(buffer_bytes(&ext), 16384, &out);
		if (hello_parse(buffer_bytes(&out), &h) != -EBADMSG)
			fail_msg("'%s'", rows[i].name);
	}
}

static void a_second_name_is_refused(void **state)
{
	AUTO_BUFFER ext = {0};
	AUTO_BUFFER out = {0};
	AUTO_BUFFER two = {0};
	struct hello h;

	(void)state;
	put_name(&ext, "a.example", 9);
	put_name(&ext, "b.example", 9);
	make(buffer_bytes(&ext), 16384, &out);
	assert_int_equal(hello_parse(buffer_bytes(&out), &h), -EBADMSG);
	/* Two in one list. */
	buffer_consume(&ext, ext.len);
	buffer_consume(&out, out.len);
	(void)buffer_append(&two, "\0\0\0\x0a\0\x08\0\0\1a\0\0\1b", 14);
	make(buffer_bytes(&two), 16384, &out);
	assert_int_equal(hello_parse(buffer_bytes(&out), &h), -EBADMSG);
}

static void what_is_hidden_is_told(void **state)
{
	AUTO_BUFFER ext = {0};
	AUTO_BUFFER out = {0};
	AUTO_BUFFER none = {0};
	struct hello h;

	(void)state;
	put_name(&ext, "a.example", 9);
	put16(&ext, 0xfe0d);
	put16(&ext, 1);
	(void)buffer_append_byte(&ext, 0);
	make(buffer_bytes(&ext), 16384, &out);
	assert_int_equal(hello_parse(buffer_bytes(&out), &h), HELLO_WHOLE);
	assert_true(h.encrypted);
	make((struct bytes){0}, 16384, &none);
	assert_int_equal(hello_parse(buffer_bytes(&none), &h), HELLO_WHOLE);
	assert_string_equal(h.name, "");
}

static void what_is_no_hello_is_refused(void **state)
{
	static const struct {
		const char *data;
		size_t len;
		int want;
	} rows[] = {
		{"G", 1, -EPROTO},
		{"GET / HTTP/1.1\r\n\r\n", 18, -EPROTO},
		{"SSH-2.0", 7, -EPROTO},
		{"\x16\x02", 2, -EPROTO},
		{"\x80\x2e\x01\x03\x01", 5, -EPROTO}, /* SSL 2 */
		{"\x16\x03\x01\x00\x00", 5, -EPROTO},
		{"\x16\x03\x01\xff\xff", 5, -EPROTO},
		{"\x16\x03\x01\x00\x04\x02\0\0\0", 9, -EPROTO}, /* a server hello */
		{"\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9, -E2BIG},
		{"\x16\x03\x01\x00\x01\x01\x17\x03\x01", 9, -EBADMSG},
		{"\x16\x03\x01\x00\x04\x01\0\0\0", 9, -EBADMSG},
	};
	struct hello h;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (hello_parse(bytes_of(rows[i].data, rows[i].len), &h) != rows[i].want)
			fail_msg("row %zu", i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_found_however_it_is_cut),
		cmocka_unit_test(what_is_no_host_name_is_refused),
		cmocka_unit_test(a_second_name_is_refused),
		cmocka_unit_test(what_is_hidden_is_told),
		cmocka_unit_test(what_is_no_hello_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
