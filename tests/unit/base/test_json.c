/* JSON that is decided by and shown: it means one thing, or it is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include "base/guard.h"
#include "base/json.h"

static int show(const struct json_value *v, void *arg)
{
	struct buffer *out = arg;

	buffer_printf(out, "%.*s=", (int)v->pointer.len, (const char *)v->pointer.data);
	buffer_append(out, v->text.data, v->text.len);
	buffer_append_str(out, v->exact ? ";" : "?;");
	return out->failed;
}

static void every_value_is_named_by_its_pointer(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"1", "=1;"},
		{" \"a\\n\\u00e9\\ud83d\\ude00\" ", "=a\n\xc3\xa9\xf0\x9f\x98\x80;"},
		{"{\"a\":{\"b\":[true,null,{}],\"c/d~\":\"x\"},\"e\":[]}",
		 "/a/b/0=true;/a/b/1=null;/a/b/2={};/a/c~1d~0=x;/e=[];"},
		{"[-0.5e3,9007199254740992,9007199254740993,0.1234567890123456]",
		 "/0=-0.5e3;/1=9007199254740992;/2=9007199254740993?;/3=0.1234567890123456?;"},
		{"[1e400,12345678901234567890123,100000000000000000000]",
		 "/0=1e400?;/1=12345678901234567890123?;/2=100000000000000000000;"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		AUTO_BUFFER out = {0};

		assert_int_equal(json_each(bytes_str(cases[i].in), show, &out), 0);
		buffer_append_byte(&out, 0);
		assert_string_equal((char *)out.data, cases[i].out);
	}
}

static void what_means_two_things_is_refused(void **state)
{
	(void)state;
	static const struct {
		const char *in;
		int rc;
	} cases[] = {
		{"{\"a\":1,\"b\":2,\"a\":3}", -EEXIST},
		{"{\"a\":1,\"\\u0061\":3}", -EEXIST},
		{"", -EBADMSG},
		{"{", -EBADMSG},
		{"{\"a\":1} x", -EBADMSG},
		{"[1,]", -EBADMSG},
		{"{\"a\":1,}", -EBADMSG},
		{"{a:1}", -EBADMSG},
		{"01", -EBADMSG},
		{"1.", -EBADMSG},
		{"+1", -EBADMSG},
		{"NaN", -EBADMSG},
		{"\"\\ud800\"", -EBADMSG},
		{"\"\\udc00\"", -EBADMSG},
		{"\"\t\"", -EBADMSG},
		{"\"\xff\"", -EBADMSG},
		{"\"\\x41\"", -EBADMSG},
		{"// c\n1", -EBADMSG},
		{"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
		 -E2BIG},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		AUTO_BUFFER out = {0};

		if (json_each(bytes_str(cases[i].in), show, &out) != cases[i].rc)
			fail_msg("%s", cases[i].in);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_value_is_named_by_its_pointer),
		cmocka_unit_test(what_means_two_things_is_refused),
	};
	return cmocka_run_group_tests_name("base/json", tests, NULL, NULL);
}
