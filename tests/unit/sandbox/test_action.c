/* The canonical action: one set of bytes each, nothing but that form is read, and what makes two of
 * them the same effect. */
#include "tests/golden.h"
#include "base/guard.h"
#include "sandbox/action.h"

static struct bytes str(const char *s)
{
	return bytes_str(s);
}

static const char *const zeros = "0000000000000000000000000000000000000000";
static const char *const ones = "1111111111111111111111111111111111111111";

static struct action http(void)
{
	struct action a = {.kind = ACTION_HTTP, .port = 443};

	a.method = str("POST");
	a.scheme = str("https");
	a.host = str("api.example.com");
	a.path = str("/a%20b/c");
	a.query = str("x=1&y=2");
	a.headers[a.header_count++] = (struct action_header){str("accept"), str("*/*")};
	a.headers[a.header_count++] = (struct action_header){str("content-type"), str("a\xff/b")};
	a.has_body = true;
	a.body.b[0] = 7;
	a.body_len = 12;
	return a;
}

static struct action git(void)
{
	struct action a = http();

	a.kind = ACTION_GIT;
	a.push = true;
	a.remote = str("https://api.example.com/acme/app");
	a.updates[a.update_count++] =
		(struct action_update){str("refs/heads/\xc3\xa4"), str(zeros), str(ones), true};
	a.updates[a.update_count++] =
		(struct action_update){str("refs/heads/b"), str(ones), str(zeros), false};
	return a;
}

static struct action tool(void)
{
	struct action a = {.kind = ACTION_TOOL, .tool = {"refund", 6}};

	a.args[a.arg_count++] = (struct action_arg){str("amount"), str("12")};
	a.args[a.arg_count++] = (struct action_arg){str("order"), str("\xff")};
	a.program.b[31] = 1;
	a.interpreter.b[31] = 2;
	return a;
}

static struct action tool_files(void)
{
	struct action a = tool();

	a.files[a.file_count].content.b[31] = 3;
	a.files[a.file_count++].at = 1;
	a.files[a.file_count].content.b[31] = 4;
	a.files[a.file_count++].at = 7;
	return a;
}

/* All that may leave a sandbox, as sandbox/action.c has them: ascending. */
static const char *const header_names[] = {
	"accept",
	"accept-charset",
	"accept-encoding",
	"accept-language",
	"anthropic-beta",
	"anthropic-version",
	"api-key",
	"authorization",
	"cache-control",
	"content-encoding",
	"content-language",
	"content-md5",
	"content-range",
	"content-type",
	"cookie",
	"depth",
	"git-protocol",
	"idempotency-key",
	"if-match",
	"if-modified-since",
	"if-none-match",
	"if-range",
	"if-unmodified-since",
	"job-token",
	"last-event-id",
	"notion-version",
	"npm-command",
	"openai-beta",
	"openai-organization",
	"openai-project",
	"origin",
	"pragma",
	"prefer",
	"private-token",
	"range",
	"referer",
	"sec-websocket-extensions",
	"sec-websocket-protocol",
	"soapaction",
	"stripe-account",
	"stripe-version",
	"user-agent",
	"x-amz-content-sha256",
	"x-amz-date",
	"x-amz-security-token",
	"x-amz-target",
	"x-api-key",
	"x-api-version",
	"x-auth-token",
	"x-csrf-token",
	"x-github-api-version",
	"x-goog-api-client",
	"x-goog-api-key",
	"x-ms-date",
	"x-ms-version",
	"x-requested-with",
	"x-vault-token",
};

static struct action all_headers(void)
{
	struct action a = http();

	a.header_count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(header_names); i++)
		a.headers[a.header_count++] =
			(struct action_header){str(header_names[i]), str("v")};
	return a;
}

static struct action socket(void)
{
	struct action a = http();

	a.method = str("GET");
	a.websocket = true;
	a.has_body = false;
	a.body_len = 0;
	a.body = (struct digest){0};
	return a;
}

static void golden_bytes(void **state)
{
	const struct {
		const char *file;
		struct action a;
	} rows[] = {
		{"http", http()},
		{"git", git()},
		{"tool", tool()},
		{"tool-files", tool_files()},
		{"headers", all_headers()},
		{"websocket", socket()},
		{"tcp",
		 {.kind = ACTION_TCP,
		  .scheme = {"tls", 3},
		  .host = {"db.example", 10},
		  .port = 5432}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO_BUFFER out = {0};
		AUTO_BUFFER again = {0};
		struct action back;
		char file[64];

		snprintf(file, sizeof(file), "sandbox/effect-action.%s.cbor", rows[i].file);
		assert_int_equal(action_encode(&rows[i].a, &out), 0);
		golden_check(file, buffer_bytes(&out));
		assert_int_equal(action_decode(buffer_bytes(&out), &back), 0);
		assert_int_equal(action_encode(&back, &again), 0);
		assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&again)));
	}
}

static void an_action_that_breaks_a_rule_is_refused(void **state)
{
	static const char *const rules[] = {
		"as it should be",
		"no kind",
		"method in small letters",
		"CONNECT",
		"another scheme",
		"upper case host",
		"host with a dot behind",
		"host with an empty label",
		"port 0",
		"path not canonical",
		"path with ..",
		"path with a query",
		"query with a space",
		"unknown header",
		"headers out of order",
		"a header twice",
		"header value with LF",
		"body length without body",
		"websocket with a body",
		"git in http",
		"header value with a space at its end",
		"host label with a dash at its end",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		struct action a = http();
		AUTO_BUFFER out = {0};
		size_t k = 0;
		int want = i == 0 ? 0 : -EINVAL;

		if (i == ++k)
			a.kind = 0;
		if (i == ++k)
			a.method = str("post");
		if (i == ++k)
			a.method = str("CONNECT");
		if (i == ++k)
			a.scheme = str("ftp");
		if (i == ++k)
			a.host = str("Api.example.com");
		if (i == ++k)
			a.host = str("api.example.com.");
		if (i == ++k)
			a.host = str("api..example.com");
		if (i == ++k)
			a.port = 0;
		if (i == ++k)
			a.path = str("/%61");
		if (i == ++k)
			a.path = str("/a/../b");
		if (i == ++k)
			a.path = str("/a?b");
		if (i == ++k)
			a.query = str("a b");
		if (i == ++k)
			a.headers[0].name = str("x-forwarded-for");
		if (i == ++k)
			a.headers[0].name = str("range");
		if (i == ++k)
			a.headers[0].name = str("content-type");
		if (i == ++k)
			a.headers[0].value = str("a\nb");
		if (i == ++k)
			a.has_body = false;
		if (i == ++k)
			a.websocket = true;
		if (i == ++k)
			a.push = true;
		if (i == ++k)
			a.headers[0].value = str("a ");
		if (i == ++k)
			a.host = str("api-.example.com");
		assert_int_equal(k + 1, ARRAY_SIZE(rules));
		if (action_encode(&a, &out) != want)
			fail_msg("%s", rules[i]);
	}
}

/* A NUL ends a word of a command: what would run is not what was matched and shown. */
static void a_tool_call_with_a_nul_is_no_action(void **state)
{
	static const struct bytes with = {"a\0b", 3};

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct action a = tool();
		AUTO_BUFFER out = {0};

		if (i == 1)
			a.args[0].name = with;
		if (i == 2)
			a.args[0].value = with;
		assert_int_equal(action_encode(&a, &out), i == 0 ? 0 : -EINVAL);
	}
}

static void only_one_form_is_read(void **state)
{
	static const struct {
		const char *why;
		const char *bytes;
		size_t len;
		int want;
	} rows[] = {
#define ROW(why, text, want) {why, text, sizeof(text) - 1, want}
		ROW("tcp a:80",
		    "\xa4\x01\x03\x03\x63tcp\x04\x61"
		    "a\x05\x18\x50",
		    0),
		ROW("with bytes behind it",
		    "\xa4\x01\x03\x03\x63tcp\x04\x61"
		    "a\x05\x18\x50\x00",
		    -EBADMSG),
		ROW("cut short",
		    "\xa4\x01\x03\x03\x63tcp\x04\x61"
		    "a\x05\x18",
		    -EBADMSG),
		ROW("websocket: false",
		    "\xa5\x01\x03\x03\x63tcp\x04\x61"
		    "a\x05\x18\x50\x09\xf4",
		    -EBADMSG),
		ROW("an empty query",
		    "\xa5\x01\x03\x03\x63tcp\x04\x61"
		    "a\x05\x18\x50\x07\x60",
		    -EBADMSG),
		ROW("an unknown key",
		    "\xa5\x01\x03\x03\x63tcp\x04\x61"
		    "a\x05\x18\x50\x18\x63\x00",
		    -EPROTO),
		ROW("a port too large",
		    "\xa4\x01\x03\x03\x63tcp\x04\x61"
		    "a\x05\x1a\x00\x01\x00\x50",
		    -EINVAL),
		ROW("nothing", "", -EBADMSG),
#undef ROW
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct action a;

		if (action_decode(bytes_of(rows[i].bytes, rows[i].len), &a) != rows[i].want)
			fail_msg("%s", rows[i].why);
	}
}

static void a_body_is_utf8_where_its_headers_do_not_say_otherwise(void **state)
{
	static const struct {
		const char *encoding, *type;
		bool want;
	} rows[] = {
		{NULL, "application/json", true},
		{NULL, "application/json; charset=utf-8", true},
		{NULL, "application/json;CHARSET=\"UTF-8\"; a=b", true},
		{NULL, "application/json; charset=us-ascii", true},
		{"identity", "application/json", true},
		{"gzip", "application/json", false},
		{"identity, br", "application/json", false},
		{NULL, "application/json; charset=utf-7", false},
		{NULL, "application/json; charset=utf-8x", false},
		{NULL, "application/json; charset=\"utf-8", false},
		{NULL, "application/json; charset=", false},
		{NULL, "application/json; charset", false},
		{NULL, "application/json; charset=utf-8; charset=utf-7", false},
		{NULL, "application/json; charset*=utf-8''utf-7", false},
		{NULL, "application/json; charset=utf-16le", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct action a = {.kind = ACTION_HTTP};

		if (rows[i].encoding)
			a.headers[a.header_count++] =
				(struct action_header){str("content-encoding"),
						       str(rows[i].encoding)};
		a.headers[a.header_count++] =
			(struct action_header){str("content-type"), str(rows[i].type)};
		if (action_body_is_utf8(&a) != rows[i].want)
			fail_msg("%s", rows[i].type);
	}
}

static void a_path_is_decoded_once_and_encoded_again(void **state)
{
	static const struct {
		const char *raw;
		const char *want; /* NULL: refused */
	} rows[] = {
		{"/", "/"},
		{"/a/b/", "/a/b/"},
		{"/%61%2D%7E", "/a-~"},
		{"/a b", "/a%20b"},
		{"/a%20b", "/a%20b"},
		{"/%c3%a4", "/%C3%A4"},
		{"/\xc3\xa4", "/%C3%A4"},
		{"/;,:@&=+$!*'()", "/;,:@&=+$!*'()"},
		{"/%22%3c%3e%5b%5d", "/%22%3C%3E%5B%5D"},
		{"/...a", "/...a"},
		{"/...", NULL},
		{"/a/..%20/b", NULL},
		{"/a/.%20", NULL},
		{"/%20/a", NULL},
		{"/admin./x", "/admin./x"},
		{"/a;b=1/c%3bd%3B/;", "/a;b=1/c%3Bd%3B/;"},
		{"/..;/a", NULL},
		{"/a/..%3b/b", NULL},
		{"/a/%2e%2e%3Bx=1", NULL},
		{"/.;x/a", NULL},
		{"/a/;/b", NULL},
		{"/a/%3bx/b", NULL},
		{"/..a;/b", "/..a;/b"},
		{"/.a", "/.a"},
		{"/@types%2fnode", "/@types/node"},
		{"/-/v1/@types%2Fnode/1.0.0", "/-/v1/@types/node/1.0.0"},
		{"/@%2fnode", NULL},
		{"/@types%2f", "/@types/"},
		{"/@types%2f..", NULL},
		{"/@types%2f%2e%2e%2fx", NULL},
		{"/@types%2f%2fx", NULL},
		{"/@types/node%2fx", NULL},
		{"/a@types%2fnode", NULL},
		{"", NULL},
		{"a", NULL},
		{"/a%2fb", NULL},
		{"/a%2Fb", NULL},
		{"/a%25b", NULL},
		{"/a%00", NULL},
		{"/a%0d%0ab", NULL},
		{"/a\x7f", NULL},
		{"/a%7f", NULL},
		{"/a\\b", NULL},
		{"/a%5cb", NULL},
		{"/../a", NULL},
		{"/a/..", NULL},
		{"/a/%2e%2e/b", NULL},
		{"/%2e/b", NULL},
		{"/./a", NULL},
		{"//a", NULL},
		{"/a//b", NULL},
		{"/a?b", NULL},
		{"/a#b", NULL},
		{"/%", NULL},
		{"/%4", NULL},
		{"/%zz", NULL},
		{"/%c3", NULL},
		{"/%c0%ae", NULL},
		{"/%ed%a0%80", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO_BUFFER out = {0};
		AUTO_BUFFER again = {0};
		int r = action_path(str(rows[i].raw), &out);

		if (!rows[i].want) {
			if (r != -EINVAL)
				fail_msg("'%s' is taken", rows[i].raw);
			continue;
		}
		if (r != 0 || !bytes_equal(buffer_bytes(&out), str(rows[i].want)))
			fail_msg("'%s' gave '%s'", rows[i].raw, out.data);
		assert_int_equal(action_path(buffer_bytes(&out), &again), 0);
		assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&again)));
	}
}

static void a_path_has_a_limit(void **state)
{
	AUTO_BUFFER raw = {0};
	AUTO_BUFFER out = {0};

	(void)state;
	(void)buffer_append_byte(&raw, '/');
	while (raw.len < ACTION_PATH_MAX)
		(void)buffer_append_byte(&raw, 'a');
	assert_int_equal(action_path(buffer_bytes(&raw), &out), 0);
	raw.data[1] = '"'; /* three bytes in the end */
	assert_int_equal(action_path(buffer_bytes(&raw), &out), -E2BIG);
	(void)buffer_append_byte(&raw, 'a');
	assert_int_equal(action_path(buffer_bytes(&raw), &out), -E2BIG);
}

static void known_headers_are_known(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(header_names); i++) {
		assert_true(action_header_is_known(str(header_names[i])));
		assert_true(action_header_name_valid(str(header_names[i])));
	}
	assert_false(action_header_is_known(str("x-http-method-override")));
	assert_false(action_header_is_known(str("x-forwarded-host")));
	assert_false(action_header_is_known(str("host")));
	assert_false(action_header_is_known(str("connection")));
	assert_false(action_header_is_known(str("")));
}

static void json_has_one_form(void **state)
{
	static const struct {
		const char *in, *pointer;
		const char *want; /* NULL: refused */
	} rows[] = {
		{" { \"b\" : 1 , \"a\" : [ true , null ] } ", NULL, "{\"a\":[true,null],\"b\":1}"},
		{"{\"\\u0061\":\"\\u00e4\\/\"}", NULL, "{\"a\":\"\xc3\xa4/\"}"},
		{"\"\\ud83d\\ude00\\n\\u0001\"", NULL, "\"\xf0\x9f\x98\x80\\n\\u0001\""},
		{"[1.50,-0,1e5]", NULL, "[1.50,-0,1e5]"},
		{"{\"a\":1,\"b\":2}", "/a", "{\"b\":2}"},
		{"{\"a\":{\"t\":1,\"u\":2}}", "/a/t", "{\"a\":{\"u\":2}}"},
		{"{\"a\":[1,2,3]}", "/a/1", "{\"a\":[1,3]}"},
		{"[{\"x\":1}]", "/0/x", "[{}]"},
		{"{\"a/b\":1,\"m~n\":2}", "/a~1b", "{\"m~n\":2}"},
		{"{\"a/b\":1,\"m~n\":2}", "/m~0n", "{\"a/b\":1}"},
		{"{\"a\":1}", "/nothing/there", "{\"a\":1}"},
		{"{\"a\":1,\"a\":1}", NULL, NULL},
		{"{\"a\":1,\"\\u0061\":1}", NULL, NULL},
		{"{\"a\":1,\"a\":1}", "/a", NULL},
		{"{\"a\":1,}", NULL, NULL},
		{"[1,]", NULL, NULL},
		{"[01]", NULL, NULL},
		{"[1.]", NULL, NULL},
		{"[+1]", NULL, NULL},
		{"\"\\ud83d\"", NULL, NULL},
		{"\"\\udc00\"", NULL, NULL},
		{"\"\xff\"", NULL, NULL},
		{"\"\n\"", NULL, NULL},
		{"\"a", NULL, NULL},
		{"NaN", NULL, NULL},
		{"1 2", NULL, NULL},
		{"", NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO_BUFFER out = {0};
		int r = action_json(str(rows[i].in), &rows[i].pointer, rows[i].pointer ? 1 : 0,
				    &out);

		if (r != (rows[i].want ? 0 : -EBADMSG))
			fail_msg("%s: %d", rows[i].in, r);
		if (rows[i].want && !bytes_equal(buffer_bytes(&out), str(rows[i].want)))
			fail_msg("%s gave %s", rows[i].in, out.data);
	}
}

static void json_has_a_depth(void **state)
{
	static const char *const bad = "a";
	char text[ACTION_JSON_DEPTH_MAX * 2 + 3];
	AUTO_BUFFER out = {0};

	(void)state;
	for (size_t n = ACTION_JSON_DEPTH_MAX - 1; n <= ACTION_JSON_DEPTH_MAX; n++) {
		memset(text, '[', n);
		text[n] = '1';
		memset(text + n + 1, ']', n);
		assert_int_equal(action_json(bytes_of(text, 2 * n + 1), NULL, 0, &out),
				 n < ACTION_JSON_DEPTH_MAX ? 0 : -EBADMSG);
	}
	assert_int_equal(action_json(str("1"), &bad, 1, &out), -EINVAL);
}

static bool same(const struct action *a, const char *body_a, const struct action *b,
		 const char *body_b, const char *ignore)
{
	struct digest x, y;

	assert_int_equal(action_identity(a, str(body_a), &ignore, ignore ? 1 : 0, &x), 0);
	assert_int_equal(action_identity(b, str(body_b), &ignore, ignore ? 1 : 0, &y), 0);
	return digest_equal(&x, &y);
}

static void identity_leaves_out_what_a_rule_ignores(void **state)
{
	static const char *const pointer = "/t";
	struct action a = http(), b = http(), push = git(), other = git();
	struct digest d;

	(void)state;
	assert_true(same(&a, "", &b, "", NULL));
	b.body.b[0] = 8;
	assert_false(same(&a, "", &b, "", NULL));
	assert_true(same(&a, "{\"t\":1,\"x\":2}", &b, "{\"x\":2,\"t\":9}", "/t"));
	assert_false(same(&a, "{\"t\":1,\"x\":2}", &b, "{\"x\":3,\"t\":9}", "/t"));
	b = http();
	b.query = str("y=2&x=7");
	assert_false(same(&a, "", &b, "", NULL));
	assert_true(same(&a, "", &b, "", "query:x"));
	b.query = str("%78=3&y=2");
	assert_true(same(&a, "", &b, "", "query:x"));
	b = http();
	b.headers[0].value = str("text/html");
	assert_false(same(&a, "", &b, "", "header:content-type"));
	assert_true(same(&a, "", &b, "", "header:Accept"));
	/* Of a push: remote, ref and old; not the pack, nor what its commits became. */
	other.body.b[0] = 9;
	other.updates[0].after = str("2222222222222222222222222222222222222222");
	assert_true(same(&push, "", &other, "", NULL));
	other.updates[0].before = str(ones);
	assert_false(same(&push, "", &other, "", NULL));
	assert_int_equal(action_identity(&a, str("{\"t\":1,\"t\":2}"), &pointer, 1, &d), -EBADMSG);
	assert_int_equal(action_identity(&a, str("no json"), &pointer, 1, &d), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_bytes),
		cmocka_unit_test(an_action_that_breaks_a_rule_is_refused),
		cmocka_unit_test(a_tool_call_with_a_nul_is_no_action),
		cmocka_unit_test(only_one_form_is_read),
		cmocka_unit_test(a_body_is_utf8_where_its_headers_do_not_say_otherwise),
		cmocka_unit_test(a_path_is_decoded_once_and_encoded_again),
		cmocka_unit_test(a_path_has_a_limit),
		cmocka_unit_test(known_headers_are_known),
		cmocka_unit_test(json_has_one_form),
		cmocka_unit_test(json_has_a_depth),
		cmocka_unit_test(identity_leaves_out_what_a_rule_ignores),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
