/* What is drafted is exact and no wider than what was wanted, whatever bytes an agent asked for. */
#include "policy_test.h"

static const char *const no_lines[] = {NULL};

static char *draft(const struct policy_wanted *w, size_t n, struct policy_draft_result *ret)
{
	static const char *const head[] = {"head", NULL}, *const tail[] = {"a\nname: evil", NULL};
	struct policy_draft_words words = {.extends = "offline", .head = head, .tail = tail};
	struct buffer out = {0};
	size_t len;

	assert_int_equal(policy_draft(w, n, &words, &out, ret), 0);
	buffer_append_byte(&out, 0);
	return (char *)buffer_take(&out, &len);
}

/* The only errors of a draft would be ours. */
static struct policy_effective *effective(const char *text)
{
	const struct layer_text layers[] = {{POLICY_LAYER_RUN, text}, {0}};

	return combine_with(layers, NULL, POLICY_AGENCY_UNSET);
}

#define HTTP(m, h, p, n, ...)                                                          \
	{                                                                              \
		.kind = POLICY_WANTED_HTTP, .scheme = "https", .host = h, .port = 443, \
		.method = m, .path = p, .count = n, __VA_ARGS__                        \
	}
#define GIT(r, ...)                                                             \
	{                                                                       \
		.kind = POLICY_WANTED_GIT, .remote = r, .count = 1, __VA_ARGS__ \
	}

static void test_reads_are_allowed_and_all_else_asks(void **state)
{
	static const struct policy_wanted w[] = {
		HTTP("GET", "a.example.com", "/x", 7),
		HTTP("HEAD", "a.example.com", "/x", 1),
		HTTP("GET", "a.example.com", "/y%20z", 1),
		HTTP("POST", "a.example.com", "/x", 1),
		HTTP("DELETE", "a.example.com", "/x", 1),
		HTTP("OPTIONS", "a.example.com", "/x", 1),
		{.kind = POLICY_WANTED_HTTP,
		 .scheme = "http",
		 .host = "a.example.com",
		 .port = 8080,
		 .method = "GET",
		 .path = "/plain",
		 .count = 1},
		GIT("https://git.example.com/a/b"),
		GIT("https://git.example.com/a/b", .push = true, .ref = "refs/heads/x"),
		{.kind = POLICY_WANTED_TCP, .host = "db.example.com", .port = 5432, .count = 1},
		{.kind = POLICY_WANTED_NAME, .host = "new.example.com", .count = 2},
		{.kind = POLICY_WANTED_NAME, .host = "a.example.com", .count = 2},
	};
	static const struct {
		const char *words;
		enum policy_verdict verdict;
	} cases[] = {
		{"http GET https://a.example.com/x", POLICY_ALLOW},
		{"http HEAD https://a.example.com/x", POLICY_ALLOW},
		{"http GET https://a.example.com/y%20z", POLICY_ALLOW},
		{"http GET https://a.example.com/other", POLICY_DENY},
		{"http GET https://b.example.com/x", POLICY_DENY},
		{"http GET http://a.example.com:8080/plain", POLICY_ALLOW},
		{"http GET https://a.example.com:8080/plain", POLICY_DENY},
		{"http POST https://a.example.com/x", POLICY_ASK},
		{"http POST https://a.example.com/y%20z", POLICY_DENY},
		{"http DELETE https://a.example.com/x", POLICY_ASK},
		{"http OPTIONS https://a.example.com/x", POLICY_ASK},
		{"http GET https://new.example.com/any", POLICY_ASK},
		{"http GET http://new.example.com/any", POLICY_DENY},
		{"git fetch https://git.example.com/a/b", POLICY_ALLOW},
		{"git push https://git.example.com/a/b refs/heads/x", POLICY_ASK},
		{"git push https://git.example.com/a/b refs/heads/y", POLICY_DENY},
		{"git push https://git.example.com/a/b refs/heads/x force", POLICY_DENY},
		{"tcp db.example.com:5432", POLICY_ASK},
	};
	struct policy_draft_result n;
	char *text = draft(w, ARRAY_SIZE(w), &n);
	struct policy_effective *e = effective(text);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect(e, cases[i].words, cases[i].verdict);
	assert_int_equal(n.rules, 9);
	assert_int_equal(n.names, 1);
	assert_int_equal(n.left_out, 0);
	assert_non_null(strstr(text, "# wanted 9 times"));
	assert_non_null(strstr(text, "\"/x\" # 7"));
	policy_effective_free(e);
	free(text);
}

static void test_what_no_rule_may_say_becomes_a_comment(void **state)
{
	static const struct policy_wanted w[] = {
		{.kind = POLICY_WANTED_NAME, .host = "printer.local", .count = 1},
		{.kind = POLICY_WANTED_NAME, .host = "localhost", .count = 1},
		{.kind = POLICY_WANTED_NAME, .host = "db", .count = 1},
		{.kind = POLICY_WANTED_NAME, .host = "10.0.0.1", .count = 1},
		{.kind = POLICY_WANTED_NAME, .host = "4.3.2.10.in-addr.arpa", .count = 1},
		{.kind = POLICY_WANTED_NAME, .host = "*.example.com", .count = 1},
		{.kind = POLICY_WANTED_NAME, .host = "x\"}\n  - id: evil", .count = 1},
		{.kind = POLICY_WANTED_TOOL, .tool = "mail", .count = 1},
		HTTP("GET", "a.example.com", "/all/*", 1),
		HTTP("GET", "a.example.com", "/all/%2A", 1),
		HTTP("GET", "a.example.com", "/a%0Ab", 1),
		HTTP("GET", "a.example.com", "/long", 1, .cut = true),
		HTTP("GET", "a.example.com", "/ws", 1, .websocket = true),
		HTTP("CONNECT", "a.example.com", "/x", 1),
		HTTP("GET]\n  - id", "b.example.com", "/x", 1),
		HTTP("GET", "169.254.169.254", "/latest/meta-data", 1),
		GIT("https://git.example.com/a/b", .push = true, .ref = "refs/heads/*"),
		GIT("https://git.example.com/a/b", .push = true, .ref = "refs/heads/f",
		    .force = true),
		GIT("https://git.example.com/a/b", .push = true, .ref = "refs/heads/d",
		    .remove = true),
		GIT("https://git.example.com/a/c", .push = true),
	};
	struct policy_draft_result n;
	char *text = draft(w, ARRAY_SIZE(w), &n);
	struct policy_effective *e = effective(text);
	struct policy_reach reach;

	(void)state;
	if (n.rules != 0 || policy_net_at(e, 0, &reach))
		fail_msg("%s", text);
	assert_int_equal(n.left_out, ARRAY_SIZE(w));
	assert_non_null(strstr(text, "net: []\n"));
	assert_null(strstr(text, "\n  - "));
	assert_null(strstr(text, "\nname: evil"));
	policy_effective_free(e);
	free(text);
}

static void test_a_request_without_a_method_has_a_name(void **state)
{
	static const struct policy_wanted w[] = {
		HTTP(NULL, "a.example.com", "/x", 1),
		HTTP("", "b.example.com", "/x", 1),
	};
	struct policy_draft_result result;
	AUTO_FREE char *text = draft(w, ARRAY_SIZE(w), &result);

	(void)state;
	assert_non_null(strstr(text, "- id: any-a.example.com\n"));
	assert_non_null(strstr(text, "- id: any-b.example.com\n"));
}

static void test_nothing_drafted_is_irreversible_or_holds_a_secret(void **state)
{
	static const struct policy_wanted w[] = {
		HTTP("GET", "a.example.com", "/x", 1, .allowed = true, .rule = "own",
		     .secret = "key"),
		HTTP("POST", "a.example.com", "/x", 1, .allowed = true, .rule = "own",
		     .secret = "key"),
	};
	struct policy_draft_result n;
	char *text = draft(w, ARRAY_SIZE(w), &n);
	struct policy_effective *e = effective(text);
	struct policy_secret_info s;

	(void)state;
	assert_int_equal(n.rules, 2);
	assert_non_null(strstr(text, "allowed by 'own' already"));
	assert_non_null(strstr(text, "secret 'key': none is drafted"));
	assert_null(strstr(text, "    secret:"));
	assert_null(strstr(text, "irreversible"));
	assert_false(policy_secret_at(e, 0, &s));
	policy_effective_free(e);
	free(text);
}

/* Many paths are cut off with a count, and never become "any path". */
static void test_a_long_list_is_cut_and_stays_a_list(void **state)
{
	struct policy_wanted w[100];
	char paths[100][16];
	struct policy_draft_result n;
	struct policy_effective *e;
	char *text;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
		snprintf(paths[i], sizeof(paths[i]), "/p%02zu", i);
		w[i] = (struct policy_wanted)HTTP("GET", "a.example.com", paths[i], 1);
	}
	text = draft(w, ARRAY_SIZE(w), &n);
	e = effective(text);
	assert_int_equal(n.rules, 1);
	assert_non_null(strstr(text, "and 36 more"));
	expect(e, "http GET https://a.example.com/p63", POLICY_ALLOW);
	expect(e, "http GET https://a.example.com/p64", POLICY_DENY);
	policy_effective_free(e);
	free(text);
}

static void test_the_same_wants_in_any_order_are_the_same_file(void **state)
{
	static const struct policy_wanted a[] = {HTTP("GET", "a.example.com", "/1", 1),
						 HTTP("POST", "b.example.com", "/2", 1),
						 GIT("https://git.example.com/a/b")},
					  b[] = {GIT("https://git.example.com/a/b"),
						 HTTP("POST", "b.example.com", "/2", 1),
						 HTTP("GET", "a.example.com", "/1", 1)};
	struct policy_draft_words words = {.extends = "coding", .head = no_lines};
	struct policy_draft_result n;
	AUTO_BUFFER x = {0};
	AUTO_BUFFER y = {0};

	(void)state;
	assert_int_equal(policy_draft(a, ARRAY_SIZE(a), &words, &x, &n), 0);
	assert_int_equal(policy_draft(b, ARRAY_SIZE(b), &words, &y, &n), 0);
	assert_true(bytes_equal(buffer_bytes(&x), buffer_bytes(&y)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_are_allowed_and_all_else_asks),
		cmocka_unit_test(test_what_no_rule_may_say_becomes_a_comment),
		cmocka_unit_test(test_a_request_without_a_method_has_a_name),
		cmocka_unit_test(test_nothing_drafted_is_irreversible_or_holds_a_secret),
		cmocka_unit_test(test_a_long_list_is_cut_and_stays_a_list),
		cmocka_unit_test(test_the_same_wants_in_any_order_are_the_same_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
