#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/guard.h"
#include "base/yaml.h"
#include <errno.h>
#include <stdio.h>

DEFINE_GUARD(struct yaml_doc *, yaml_doc_free)

/* Each with the one place where a person must look, and the words that say what is wrong. */
static const struct {
	const char *rule;
	const char *text;
	const char *where;
	const char *msg; /* its start */
} refused[] = {
	{"empty", "", "f:1:1", "error[E0008]"},
	{"only comments", "# a\n# b\n", "f:1:1", "error[E0008]"},
	{"empty document", "---\n...\n", "f:1:1", "error[E0008]"},
	{"anchor", "a: 1\nb: &x 2\n", "f:2:4", "error[E0004]: an anchor"},
	{"anchor of a list", "a: &x [1]\n", "f:1:4", "error[E0004]: an anchor"},
	{"anchor of a mapping", "a: &x {b: 1}\n", "f:1:4", "error[E0004]: an anchor"},
	{"anchor of a key", "&x a: 1\n", "f:1:1", "error[E0004]: an anchor"},
	{"alias", "a: 1\nb: [2, *x]\n", "f:2:8", "error[E0004]: an alias"},
	{"alias as a key", "*x : 1\n", "f:1:1", "error[E0004]: an alias"},
	{"tag", "a:\n  - !!str 1\n", "f:2:5", "error[E0004]: a tag"},
	{"own tag", "a: !mine 1\n", "f:1:4", "error[E0004]: a tag"},
	{"bare tag", "a: ! 1\n", "f:1:4", "error[E0004]: a tag"},
	{"tag of a mapping", "a: !!map {}\n", "f:1:4", "error[E0004]: a tag"},
	{"tag of a list", "!!seq []\n", "f:1:1", "error[E0004]: a tag"},
	{"merge key", "a:\n  <<: {b: 1}\n", "f:2:3", "error[E0004]: a merge key"},
	{"directive", "%YAML 1.1\n---\na: 1\n", "f:1:1", "error[E0004]: a directive"},
	{"tag directive", "%TAG ! tag:x,2000:\n---\na: 1\n", "f:1:1", "error[E0004]: a directive"},
	{"key twice", "version: 1\nnet: 1\nfs: 2\nnet: 3\n", "f:4:1",
	 "error[E0003]: key 'net' given twice (first at 2:1)"},
	{"key twice in one line", "a: {b: 1, c: 2, b: 3}\n", "f:1:17",
	 "error[E0003]: key 'b' given twice (first at 1:5)"},
	{"key twice, once quoted", "a: 1\n\"a\": 2\n", "f:2:1",
	 "error[E0003]: key 'a' given twice (first at 1:1)"},
	{"key thrice: the second is named", "z: 0\na: 1\na: 2\na: 3\n", "f:3:1",
	 "error[E0003]: key 'a' given twice (first at 2:1)"},
	{"two keys twice: the first in the file", "b: 0\na: 1\na: 2\nb: 3\n", "f:3:1",
	 "error[E0003]: key 'a'"},
	{"second document", "a: 1\n---\nb: 1\n", "f:2:1", "error[E0005]"},
	{"second document behind an end", "a: 1\n...\n---\nb: 1\n", "f:3:1", "error[E0005]"},
	{"list as a key", "a: 1\n? [b]\n: 1\n", "f:2:3", "error[E0007]: a list"},
	{"mapping as a key", "{{a: 1}: 2}\n", "f:1:2", "error[E0007]: a list or mapping"},
	{"empty key", "a: 1\n? \n: 2\n", "f:2:2", "error[E0007]: an empty key"},
	{"empty quoted key", "'': 2\n", "f:1:1", "error[E0007]: an empty key"},
	{"tab as indentation", "a:\n\tb: 1\n", "f:2:1", "error[E0001]"},
	{"open bracket", "a: [1, 2\nb: 3\n", "f:2:2", "error[E0001]"},
	{"open quote", "a: \"b\n", "f:2:1", "error[E0001]"},
	{"value behind a value", "a: 'b' c\n", "f:1:8", "error[E0001]"},
	{"unknown escape", "a: \"\\q\"\n", "f:1:5", "error[E0001]"},
	{"bidi override", "a: 1\nb: x\xe2\x80\xaey\n", "f:2:5", "error[E0002]: U+202E"},
	{"bidi isolate in a comment", "a: 1 # \xe2\x81\xa6\n", "f:1:8", "error[E0002]: U+2066"},
	{"zero-width space in a key",
	 "ab\xe2\x80\x8b"
	 "c: 1\n",
	 "f:1:3", "error[E0002]: U+200B"},
	{"byte order mark",
	 "\xef\xbb\xbf"
	 "a: 1\n",
	 "f:1:1", "error[E0002]: U+FEFF"},
	{"byte order mark of UTF-16",
	 "\xff\xfe"
	 "a\n",
	 "f:1:1", "error[E0002]: byte 0xff"},
	{"columns count characters", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80: \x1b\n", "f:1:6",
	 "error[E0002]: U+001B"},
	{"DEL", "a: \x7f\n", "f:1:4", "error[E0002]: U+007F"},
	{"C1", "a: \xc2\x85\n", "f:1:4", "error[E0002]: U+0085"},
	{"line separator", "a: \xe2\x80\xa8\n", "f:1:4", "error[E0002]: U+2028"},
	{"bare CR", "a: 1\rb: 2\n", "f:1:5", "error[E0002]: U+000D"},
	{"CR at the end", "a: 1\r", "f:1:5", "error[E0002]: U+000D"},
	{"invalid UTF-8", "a: 1\nb: \xc3(\n", "f:2:4", "error[E0002]: byte 0xc3"},
	{"overlong UTF-8", "a: \xc0\x80\n", "f:1:4", "error[E0002]: byte 0xc0"},
	{"surrogate", "a: \xed\xa0\x80\n", "f:1:4", "error[E0002]: byte 0xed"},
	{"escape that makes a bidi override", "a: [1, \"x\\u202Ey\"]\n", "f:1:8",
	 "error[E0002]: an escape"},
	{"escape that makes NUL", "a: \"x\\0y\"\n", "f:1:4", "error[E0002]: an escape"},
	{"escape that makes ESC", "a: \"\\e[2J\"\n", "f:1:4", "error[E0002]: an escape"},
	{"escape that makes CR", "a: \"\\r\"\n", "f:1:4", "error[E0002]: an escape"},
	{"escape in a key", "\"a\\u200bb\": 1\n", "f:1:1", "error[E0002]: an escape"},
};

static void what_is_refused_has_its_place_and_reason(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		AUTO(yaml_doc_free) struct yaml_doc *d = NULL;
		struct error err = {0};
		int r = yaml_parse(bytes_str(refused[i].text), "f", &d, &err);

		if (r != -EINVAL || d || strcmp(err.where, refused[i].where) != 0 ||
		    strncmp(err.msg, refused[i].msg, strlen(refused[i].msg)) != 0)
			fail_msg("%s: %d, %s: %s; wanted %s: %s", refused[i].rule, r, err.where,
				 err.msg, refused[i].where, refused[i].msg);
		assert_int_equal(err.code, -EINVAL);
		assert_int_equal(err.exit_status, EXIT_STATUS_USAGE);
	}
}

static void nul_in_the_text_is_refused(void **state)
{
	struct yaml_doc *d = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(yaml_parse(bytes_of("a: b\0c\n", 7), "f", &d, &err), -EINVAL);
	assert_string_equal(err.where, "f:1:5");
	assert_string_equal(
		err.msg,
		"error[E0002]: U+0000 is a control, bidi or invisible character; remove it");
}

static void print(const struct yaml_node *n, struct buffer *out)
{
	buffer_printf(out, "%d:%d", n->line, n->column);
	switch (n->kind) {
	case YAML_SCALAR:
		assert_int_equal(strlen(n->text.data), n->text.len);
		buffer_printf(out, "%s%s%s", n->quoted ? "'" : "=", (const char *)n->text.data,
			      n->quoted ? "'" : "");
		break;
	case YAML_SEQUENCE:
		buffer_append_str(out, "[");
		for (size_t i = 0; i < n->count; i++) {
			buffer_append_str(out, i ? " " : "");
			print(n->items[i], out);
		}
		buffer_append_str(out, "]");
		break;
	case YAML_MAPPING:
		buffer_append_str(out, "{");
		for (size_t i = 0; i < n->count; i++) {
			buffer_append_str(out, i ? " " : "");
			print(n->pairs[i].key, out);
			buffer_append_str(out, ">");
			print(n->pairs[i].value, out);
		}
		buffer_append_str(out, "}");
		break;
	}
}

static const struct {
	const char *text;
	const char *tree;
} read_well[] = {
	{"a: 1\n", "1:1{1:1=a>1:4=1}"},
	{"---\na: 1\n...\n", "2:1{2:1=a>2:4=1}"},
	{"- a\n- [b, {c: d}]\n", "1:1[1:3=a 2:3[2:4=b 2:7{2:8=c>2:11=d}]]"},
	{"a:\nb: ''\nc: ~\n", "1:1{1:1=a>1:3= 2:1=b>2:4'' 3:1=c>3:4=~}"},
	{"a: {}\nb: []\n", "1:1{1:1=a>1:4{} 2:1=b>2:4[]}"},
	{"a: \"x\\n\\t\\u00e4\\\\\"\n", "1:1{1:1=a>1:4'x\n\t\xc3\xa4\\'}"},
	{"a: |\n  one\n  two\nb: >-\n  one\n  two\n",
	 "1:1{1:1=a>1:4'one\ntwo\n' 4:1=b>4:4'one two'}"},
	{"a: 1\r\nb: 2\r\n", "1:1{1:1=a>1:4=1 2:1=b>2:4=2}"},
	{"# c\na: 1 # d\n", "2:1{2:1=a>2:4=1}"},
	{"\xc3\xa4: \xc3\xb6 # \xe2\x82\xac\nb: [\xf0\x9f\x98\x80, c]\n",
	 "1:1{1:1=\xc3\xa4>1:4=\xc3\xb6 2:1=b>2:4[2:5=\xf0\x9f\x98\x80 2:8=c]}"},
	{"{\"a\": [true, null, 1.5, \"x\"]}",
	 "1:1{1:2'a'>1:7[1:8=true 1:14=null 1:20=1.5 1:25'x']}"},
	{"'<<': 1\n", "1:1{1:1'<<'>1:7=1}"},
	{"just words", "1:1=just words"},
	{"a: ${workspace}/x*\nb: 10.0.0.0/8\nc: 1s..60s\nd: -h\n",
	 "1:1{1:1=a>1:4=${workspace}/x* 2:1=b>2:4=10.0.0.0/8 3:1=c>3:4=1s..60s 4:1=d>4:4=-h}"},
	{"a: yes\nb: 012\nc: 2001-01-01\n",
	 "1:1{1:1=a>1:4=yes 2:1=b>2:4=012 3:1=c>3:4=2001-01-01}"},
};

static void scalars_stay_text_and_remember_their_place(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(read_well); i++) {
		AUTO(yaml_doc_free) struct yaml_doc *d = NULL;
		AUTO_BUFFER out = {0};
		struct error err = {0};

		if (yaml_parse(bytes_str(read_well[i].text), "f", &d, &err) != 0)
			fail_msg("%s: %s %s", read_well[i].text, err.where, err.msg);
		print(yaml_root(d), &out);
		assert_string_equal((char *)out.data, read_well[i].tree);
	}
}

static int parse(const struct buffer *text, struct error *err)
{
	AUTO(yaml_doc_free) struct yaml_doc *d = NULL;

	return yaml_parse(buffer_bytes(text), "f", &d, err);
}

static void depth_is_limited_at_its_edge(void **state)
{
	static const int levels[] = {YAML_DEPTH_MAX, YAML_DEPTH_MAX + 1, 1000, 10000};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		AUTO_BUFFER flow = {0};
		AUTO_BUFFER maps = {0};
		AUTO_BUFFER block = {0};
		struct error err = {0};
		struct error err_maps = {0};
		struct error err_block = {0};
		int want = levels[i] <= YAML_DEPTH_MAX ? 0 : -E2BIG;

		for (int k = 0; k < levels[i]; k++) {
			buffer_append_str(&flow, "[");
			buffer_append_str(&maps, "{a: ");
			buffer_append_str(&block, "- ");
		}
		for (int k = 0; k < levels[i]; k++) {
			buffer_append_str(&flow, "]");
			buffer_append_str(&maps, "}");
		}
		buffer_append_str(&block, "a");
		assert_int_equal(parse(&flow, &err), want);
		assert_int_equal(parse(&maps, &err_maps), want);
		assert_int_equal(parse(&block, &err_block), want);
		if (want == 0)
			continue;
		assert_string_equal(err.where, "f:1:33");
		assert_string_equal(err_maps.where, "f:1:129");
		assert_string_equal(err_block.where, "f:1:65");
		assert_string_equal(err.msg, "error[E0006]: nested deeper than 32 levels");
	}
}

static void size_is_limited_before_anything_is_read(void **state)
{
	AUTO_BUFFER b = {.max = 200 * 1024 * 1024};
	struct error err = {0};

	(void)state;
	while (b.len < YAML_BYTES_MAX)
		buffer_append_str(&b, "a: 1 #");
	b.data[YAML_BYTES_MAX - 1] = '\n';
	b.len = YAML_BYTES_MAX;
	assert_int_equal(parse(&b, &err), 0);
	buffer_append_str(&b, "\n");
	assert_int_equal(parse(&b, &err), -E2BIG);
	assert_string_equal(err.where, "f:1:1");
	assert_string_equal(err.msg,
			    "error[E0006]: the file is larger than 1024 KiB; keep data out of it");

	assert_int_equal(buffer_reserve(&b, 100 * 1024 * 1024), 0);
	memset(b.data, 'a', 100 * 1024 * 1024);
	b.len = 100 * 1024 * 1024;
	assert_int_equal(parse(&b, NULL), -E2BIG);
}

static void count_is_limited_at_its_edge(void **state)
{
	(void)state;
	for (int extra = 0; extra <= 1; extra++) {
		AUTO_BUFFER b = {0};
		struct error err = {0};

		buffer_append_str(&b, "[");
		for (int i = 0; i < YAML_NODES_MAX - 1 + extra; i++)
			buffer_append_str(&b, "a,");
		buffer_append_str(&b, "]");
		assert_int_equal(parse(&b, &err), extra ? -E2BIG : 0);
		assert_string_equal(err.where, extra ? "f:1:200000" : "");
	}
}

static void a_text_is_limited_at_its_edge(void **state)
{
	(void)state;
	for (int extra = 0; extra <= 1; extra++) {
		AUTO_BUFFER b = {0};
		struct error err = {0};

		buffer_append_str(&b, "a: '");
		for (int i = 0; i < YAML_SCALAR_MAX + extra; i++)
			buffer_append_str(&b, "x");
		buffer_append_str(&b, "'\n");
		assert_int_equal(parse(&b, &err), extra ? -E2BIG : 0);
		assert_string_equal(err.where, extra ? "f:1:4" : "");
	}
}

static void many_keys_are_compared_in_reasonable_time(void **state)
{
	AUTO_BUFFER b = {0};
	struct error err = {0};

	(void)state;
	for (int i = 0; i < 40000; i++)
		buffer_printf(&b, "k%d: 1\n", i);
	buffer_append_str(&b, "k77: 1\n");
	assert_int_equal(parse(&b, &err), -EINVAL);
	assert_string_equal(err.where, "f:40001:1");
	assert_string_equal(err.msg, "error[E0003]: key 'k77' given twice (first at 78:1)");
}

static void a_key_is_known_or_said_with_the_nearest_that_is(void **state)
{
	static const char *const known[] = {"a", "b", "host"};
	AUTO(yaml_doc_free) struct yaml_doc *d = NULL;
	struct yaml_node *root;
	struct error err = {0};

	(void)state;
	assert_int_equal(yaml_parse(bytes_str("a: 1\nb: 2\nhots: 3\n"), "f", &d, NULL), 0);
	root = yaml_root(d);
	assert_true(bytes_equal(yaml_get(root, "b")->text, bytes_str("2")));
	assert_true(bytes_equal(yaml_get(root, "b")->text, bytes_str("2")));
	assert_int_equal(yaml_known_keys(root, known, 3, "it", "f", &err), -EINVAL);
	assert_string_equal(err.where, "f:3:1");
	assert_string_equal(err.msg, "it: unknown key 'hots'; did you mean 'host'?");
	err = (struct error){0};
	assert_int_equal(yaml_known_keys(root, known, 2, "it", "f", &err), -EINVAL);
	assert_string_equal(err.msg, "it: unknown key 'hots'; remove it");
	assert_int_equal(err.exit_status, EXIT_STATUS_USAGE);
	assert_null(yaml_get(root, "c"));
	assert_null(yaml_get(root, ""));
	assert_null(yaml_get(yaml_get(root, "a"), "x"));
	assert_null(yaml_get(NULL, "x"));
}

static void a_lenient_reader_sees_each_key_given_twice(void **state)
{
	AUTO(yaml_doc_free) struct yaml_doc *d = NULL;
	struct yaml_pair *p;

	(void)state;
	assert_int_equal(yaml_parse_lenient(bytes_str("b: 1\na: 2\nb: 3\nb: 4\n"), "f", &d, NULL),
			 0);
	p = yaml_root(d)->pairs;
	assert_null(p[0].first);
	assert_null(p[1].first);
	assert_ptr_equal(p[2].first, p[0].key);
	assert_ptr_equal(p[3].first, p[0].key);
}

static void an_error_of_a_reader_stands_at_its_node(void **state)
{
	AUTO(yaml_doc_free) struct yaml_doc *d = NULL;
	struct error err = {0};
	char path[300];

	(void)state;
	assert_int_equal(yaml_parse(bytes_str("a:\n  b: x\n"), "f", &d, NULL), 0);
	assert_int_equal(yaml_error(&err, "f", yaml_get(yaml_get(yaml_root(d), "a"), "b"), -EINVAL,
				    "bad %d", 7),
			 -EINVAL);
	assert_string_equal(err.where, "f:2:6");
	assert_string_equal(err.msg, "bad 7");
	assert_int_equal(err.exit_status, EXIT_STATUS_USAGE);
	assert_int_equal(yaml_error(&err, "g", yaml_root(d), -E2BIG, "later"), -E2BIG);
	assert_string_equal(err.where, "f:2:6"); /* the first one stands */

	memset(path, 'p', sizeof(path));
	memcpy(path + sizeof(path) - 8, "end.yml", 8);
	err = (struct error){0};
	yaml_error(&err, path, yaml_root(d), -EINVAL, "long");
	assert_string_equal(err.where + strlen(err.where) - 11, "end.yml:1:1");
}

static void a_quoted_key_is_cut_and_escaped_in_messages(void **state)
{
	AUTO_BUFFER b = {0};
	struct error err = {0};

	(void)state;
	for (int i = 0; i < 2; i++) {
		buffer_append_str(&b, "\"\\\\");
		for (int k = 0; k < 100; k++)
			buffer_append_str(&b, "\xc3\xa4");
		buffer_append_str(&b, "\": 1\n");
	}
	assert_int_equal(parse(&b, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "key '\\\\\xc3\xa4"));
	assert_non_null(strstr(err.msg, "\xc3\xa4...' given twice (first at 1:1)"));
}

static void nearest_word_is_at_most_a_third_away(void **state)
{
	static const char *const keys[] = {"host", "port",	"method",
					   "path", "query_max", "body_max"};
	static const struct {
		const char *word;
		const char *nearest;
	} table[] = {
		{"hots", "host"},
		{"host", "host"},
		{"hosts", "host"},
		{"prot", "port"},
		{"methd", "method"},
		{"mehtod", "method"},
		{"querymax", "query_max"},
		{"body-max", "body_max"},
		{"pth", "path"},
		{"xyz", NULL},
		{"ho", NULL},
		{"", NULL},
		{"hxxt", NULL},
		{"METHOD", NULL},
	};
	char longest[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const char *n = yaml_nearest(bytes_str(table[i].word), keys, ARRAY_SIZE(keys));

		if (table[i].nearest)
			assert_string_equal(n, table[i].nearest);
		else
			assert_null(n);
	}
	memset(longest, 'a', sizeof(longest));
	assert_null(yaml_nearest(bytes_of(longest, sizeof(longest)), keys, ARRAY_SIZE(keys)));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_refused_has_its_place_and_reason),
		cmocka_unit_test(nul_in_the_text_is_refused),
		cmocka_unit_test(scalars_stay_text_and_remember_their_place),
		cmocka_unit_test(depth_is_limited_at_its_edge),
		cmocka_unit_test(size_is_limited_before_anything_is_read),
		cmocka_unit_test(count_is_limited_at_its_edge),
		cmocka_unit_test(a_text_is_limited_at_its_edge),
		cmocka_unit_test(many_keys_are_compared_in_reasonable_time),
		cmocka_unit_test(a_key_is_known_or_said_with_the_nearest_that_is),
		cmocka_unit_test(a_lenient_reader_sees_each_key_given_twice),
		cmocka_unit_test(an_error_of_a_reader_stands_at_its_node),
		cmocka_unit_test(a_quoted_key_is_cut_and_escaped_in_messages),
		cmocka_unit_test(nearest_word_is_at_most_a_third_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
