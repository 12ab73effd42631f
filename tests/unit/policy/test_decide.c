/* Deciding: one layer, layers together, the dial, hosts and addresses. */
#include "tests/unit/policy/policy_test.h"
#include "base/utf8.h"

static const char net_policy[] =
	"version: 1\n"
	"agency: autonomous\n"
	"net:\n"
	"  - {id: pkgs, do: allow, http: {host: packages.acme.example, method: [GET, HEAD], "
	"query_max: 8}, effect: read}\n"
	"  - {id: wild, do: allow, http: {host: [\"*.one.example\", \"**.many.example\"], path: "
	"[/a, /b/*, /c/**]}}\n"
	"  - {id: post, do: allow, http: {host: api.acme.example, method: POST, body_max: 100, "
	"json: {/n: {max: 10}}}}\n"
	"  - {id: ask-put, do: ask, http: {host: api.acme.example, method: PUT}}\n"
	"  - {id: no-admin, do: deny, http: {host: \"**.acme.example\", path: /admin/**}}\n"
	"  - {id: get-api, do: allow, http: {host: api.acme.example, method: GET}, except: [{host: "
	"api.acme.example, path: /private/*}]}\n"
	"  - {id: plain, do: allow, http: {scheme: http, host: plain.acme.example, port: 8080}}\n"
	"  - {id: blind, do: allow, http: {host: blind.other.example, tls: passthrough}}\n"
	"  - {id: fetch, do: allow, git: {remote: \"https://github.com/acme/*\", op: fetch}}\n"
	"  - {id: push, do: allow, git: {remote: \"https://github.com/acme/app\", op: push, refs: "
	"[\"refs/heads/agent/*\"]}, effect: reversible}\n"
	"  - {id: force, do: allow, git: {remote: \"https://github.com/acme/app\", op: push, refs: "
	"[refs/heads/scratch], force: true}, effect: reversible}\n"
	"  - {id: no-push, do: deny, git: {remote: \"https://github.com/acme/app\", op: push, "
	"refs: [\"refs/heads/agent/release*\"]}}\n"
	"  - {id: db, do: allow, tcp: {host: db.acme.example, port: 5432}}\n"
	"tools:\n"
	"  - {id: deploy, do: allow, run: [deploy], args: {env: {in: [test, stage]}, n: {min: "
	"1}}}\n"
	"  - {id: wipe, do: deny, run: [wipe]}\n";

static const struct {
	const char *words;
	enum policy_verdict verdict;
} asked[] = {
	/* methods, queries, defaults of scheme and port */
	{"http GET https://packages.acme.example/x", POLICY_ALLOW},
	{"http GET https://packages.acme.example/", POLICY_ALLOW},
	{"http GET https://packages.acme.example", POLICY_ALLOW},
	{"http GET https://packages.acme.example:443/x", POLICY_ALLOW},
	{"http GET https://packages.acme.example:8443/x", POLICY_DENY},
	{"http GET http://packages.acme.example/x", POLICY_DENY},
	{"http POST https://packages.acme.example/x", POLICY_DENY},
	{"http get https://packages.acme.example/x", POLICY_DENY},
	{"http GET https://packages.acme.example/x?12345678", POLICY_ALLOW},
	{"http GET https://packages.acme.example/x?123456789", POLICY_DENY},
	/* hosts in every form are one host, and no other */
	{"http GET https://PACKAGES.acme.EXAMPLE./x", POLICY_ALLOW},
	{"http GET https://packages.acme.example..evil.example/x", POLICY_DENY},
	{"http GET https://packages.acme.example.evil.example/x", POLICY_DENY},
	{"http GET https://evilpackages.acme.example/x", POLICY_DENY},
	{"http GET https://packages.acme.example@evil.example/x", POLICY_DENY},
	{"http GET https://w.one.example/a", POLICY_ALLOW},
	{"http GET https://one.example/a", POLICY_DENY},
	{"http GET https://v.w.one.example/a", POLICY_DENY},
	{"http GET https://v.w.many.example/a", POLICY_ALLOW},
	{"http GET https://many.example/a", POLICY_DENY},
	/* paths: by segment, in one reading only */
	{"http GET https://w.one.example/b/x", POLICY_ALLOW},
	{"http GET https://w.one.example/b/x/y", POLICY_DENY},
	{"http GET https://w.one.example/b/", POLICY_ALLOW},
	{"http GET https://w.one.example/c/x/y", POLICY_ALLOW},
	{"http GET https://w.one.example/c", POLICY_ALLOW},
	{"http GET https://w.one.example/%61", POLICY_ALLOW},
	{"http GET https://w.one.example/c/%2e%2e/d", POLICY_DENY},
	{"http GET https://w.one.example/c/../d", POLICY_DENY},
	{"http GET https://w.one.example/c%2fd", POLICY_DENY},
	{"http GET https://w.one.example/c/%00", POLICY_DENY},
	{"http GET https://w.one.example/c/\\x", POLICY_DENY},
	{"http GET https://w.one.example/c/%5cx", POLICY_DENY},
	{"http GET https://w.one.example/c//d", POLICY_DENY},
	{"http GET https://w.one.example/c/%zz", POLICY_DENY},
	{"http GET https://w.one.example/c/%ff", POLICY_DENY},
	{"http GET https://w.one.example/c/%252e", POLICY_DENY},
	/* parameters: read as part of a name and as none */
	{"http GET https://w.one.example/c/..;/d", POLICY_DENY},
	{"http GET https://w.one.example/c/..%3bx/d", POLICY_DENY},
	{"http GET https://w.one.example/c/%2e;/d", POLICY_DENY},
	{"http GET https://w.one.example/c/;/d", POLICY_DENY},
	{"http GET https://w.one.example/c/x;v=1/d", POLICY_ALLOW},
	{"http GET https://w.one.example/c;v=1/d", POLICY_DENY},
	{"http GET https://w.one.example/a;v=1", POLICY_DENY},
	{"http GET https://api.acme.example/x;v=1", POLICY_ALLOW},
	{"http GET https://api.acme.example/admin;v=1", POLICY_DENY},
	{"http GET https://api.acme.example/admin%3b/x", POLICY_DENY},
	{"http GET https://api.acme.example/private;/x", POLICY_DENY},
	{"http GET https://w.one.example/c/x/git-upload-pack;v=1", POLICY_DENY},
	{"http GET https://w.one.example/c/x/GIT-Upload-Pack.", POLICY_DENY},
	{"http GET https://w.one.example/c/x/git-upload-pack/", POLICY_DENY},
	/* no name is left of a segment */
	{"http GET https://w.one.example/c/.../d", POLICY_DENY},
	{"http GET https://w.one.example/c/..%20/d", POLICY_DENY},
	{"http GET https://w.one.example/c/.%20", POLICY_DENY},
	{"http GET https://w.one.example/c/%20/d", POLICY_DENY},
	{"http GET https://w.one.example/c/..%3fx", POLICY_DENY},
	{"http GET https://w.one.example/c/..::$DATA/d", POLICY_DENY},
	{"http GET https://w.one.example/c/%ef%bc%8e%ef%bc%8e/d", POLICY_DENY},
	{"http GET https://w.one.example/c/%e2%80%a5", POLICY_DENY},
	{"http GET https://w.one.example/c/.%e2%80%8b.", POLICY_DENY},
	{"http GET https://w.one.example/c%ef%bc%8fd", POLICY_DENY},
	{"http GET https://w.one.example/c/d%ef%bc%bcx", POLICY_DENY},
	{"http GET https://w.one.example/c/%ef%bc%8561", POLICY_DENY},
	{"http GET https://w.one.example/c/.well-known/a.b", POLICY_ALLOW},
	{"http GET https://w.one.example/c/%c3%84/x", POLICY_ALLOW},
	{"git fetch https://github.com/acme/secret;app", POLICY_DENY},
	/* deny > ask > allow, whatever their order; exceptions */
	{"http PUT https://api.acme.example/x", POLICY_ASK},
	{"http GET https://api.acme.example/x", POLICY_ALLOW},
	{"http GET https://api.acme.example/admin", POLICY_DENY},
	{"http GET https://api.acme.example/admin/x", POLICY_DENY},
	{"http PUT https://api.acme.example/admin/x", POLICY_DENY},
	{"http PUT http://api.acme.example:81/admin/x", POLICY_DENY},
	{"http GET https://api.acme.example/private/x", POLICY_DENY},
	/* a body that is not known lets no conditional rule pass */
	{"http POST https://api.acme.example/x", POLICY_DENY},
	{"http GET http://plain.acme.example:8080/x", POLICY_ALLOW},
	{"http GET http://plain.acme.example/x", POLICY_DENY},
	{"http GET https://plain.acme.example:8080/x", POLICY_DENY},
	{"http GET https://blind.other.example/x", POLICY_DENY},
	/* no addresses, no tunnels, no other schemes */
	{"http GET http://169.254.169.254/latest/meta-data", POLICY_DENY},
	{"http GET https://[::1]/x", POLICY_DENY},
	{"http GET https://2130706433/x", POLICY_DENY},
	{"http GET ftp://packages.acme.example/x", POLICY_DENY},
	{"http CONNECT https://packages.acme.example/x", POLICY_DENY},
	/* git is decided as git */
	{"http POST https://w.one.example/c/x/git-receive-pack", POLICY_DENY},
	{"http POST https://w.one.example/c/x/git-upload-pack", POLICY_DENY},
	{"git fetch https://github.com/acme/app", POLICY_ALLOW},
	{"git fetch https://github.com/acme/app.git", POLICY_ALLOW},
	{"git fetch https://github.com/acme/app/more", POLICY_DENY},
	{"git fetch https://github.com/other/app", POLICY_DENY},
	{"git push https://github.com/acme/app refs/heads/agent/fix", POLICY_ALLOW},
	{"git push https://GITHUB.com/acme/app.git/ refs/heads/agent/fix", POLICY_ALLOW},
	{"git push https://github.com/acme/app refs/heads/agent/a/b", POLICY_ALLOW},
	{"git push https://github.com/acme/app refs/heads/agent/fix force", POLICY_DENY},
	{"git push https://github.com/acme/app refs/heads/agent/fix delete", POLICY_DENY},
	{"git push https://github.com/acme/app refs/heads/scratch force", POLICY_ALLOW},
	{"git push https://github.com/acme/app refs/heads/scratch force delete", POLICY_DENY},
	{"git push https://github.com/acme/app refs/heads/agent/release-1", POLICY_DENY},
	{"git push https://github.com/acme/app refs/heads/agent/release-1 force", POLICY_DENY},
	{"git push https://github.com/acme/app refs/heads/agent/../main", POLICY_DENY},
	{"git push https://github.com/acme/app refs/heads/main", POLICY_DENY},
	{"git push https://github.com/acme/app2 refs/heads/agent/fix", POLICY_DENY},
	{"git push http://github.com/acme/app refs/heads/agent/fix", POLICY_DENY},
	{"tcp db.acme.example:5432", POLICY_ALLOW},
	{"tcp db.acme.example:5433", POLICY_DENY},
	{"tcp 10.0.0.1:5432", POLICY_DENY},
	/* tools: all arguments, no others, each within its match */
	{"tool deploy env=test n=1", POLICY_ALLOW},
	{"tool deploy n=7 env=stage", POLICY_ALLOW},
	{"tool deploy env=prod n=1", POLICY_DENY},
	{"tool deploy env=test n=0", POLICY_DENY},
	{"tool deploy env=test n=x", POLICY_DENY},
	{"tool deploy env=test", POLICY_DENY},
	{"tool deploy env=test n=1 more=x", POLICY_DENY},
	{"tool deploy env=test env=test", POLICY_DENY},
	{"tool wipe", POLICY_DENY},
	{"tool wipe all=yes", POLICY_DENY},
	{"tool unknown", POLICY_DENY},
};

static void test_requests_of_one_layer(void **state)
{
	struct policy_effective *e = only(net_policy);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		expect(e, asked[i].words, asked[i].verdict);
	policy_effective_free(e);
}

/* What only the machine's own form of a request can say. */
static void test_requests_with_bodies(void **state)
{
	struct policy_effective *e = only(net_policy);
	struct policy_field field = {bytes_str("/n"), bytes_str("10")};
	struct policy_request r = {.kind = POLICY_HTTP, .fields = &field, .field_count = 1};
	struct policy_decision d;
	static const struct {
		const char *value;
		uint64_t len;
		enum policy_verdict verdict;
		bool quoted;
	} bodies[] = {
		{"5", 50, POLICY_ALLOW},    {"5", 50, POLICY_DENY, true},
		{"10", 100, POLICY_ALLOW},  {"10", 101, POLICY_DENY},
		{"10.0", 50, POLICY_ALLOW}, {"10.1", 50, POLICY_DENY},
		{"11", 50, POLICY_DENY},    {"-5", 50, POLICY_ALLOW},
		{"1e1", 50, POLICY_DENY},   {"", 50, POLICY_DENY},
		{"010", 50, POLICY_DENY},   {"9999999999999999999999", 50, POLICY_DENY},
	};

	(void)state;
	r.http.method = bytes_str("POST");
	r.http.scheme = bytes_str("https");
	r.http.host = bytes_str("api.acme.example");
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		field.value = bytes_str(bodies[i].value);
		field.quoted = bodies[i].quoted;
		r.http.body_len = bodies[i].len;
		policy_decide(e, &r, &d);
		if (d.verdict != bodies[i].verdict)
			fail_msg("%s: %s", bodies[i].value, d.why);
	}
	r.http.host = bytes_of("api.acme.example\0.evil.example", 30);
	policy_decide(e, &r, &d);
	assert_int_equal(d.verdict, POLICY_DENY);
	assert_int_equal(d.by, POLICY_BY_HARD);
	r.http.host = bytes_str("blind.other.example");
	r.http.passthrough = true;
	r.http.method = (struct bytes){0};
	policy_decide(e, &r, &d);
	assert_int_equal(d.verdict, POLICY_ALLOW);
	assert_int_equal(d.class, POLICY_UNKNOWN);
	r.kind = (enum policy_kind)99;
	policy_decide(e, &r, &d);
	assert_int_equal(d.verdict, POLICY_DENY);
	policy_effective_free(e);
}

/* What is too long of it is cut, and it stays UTF-8 wherever that falls. */
static void test_a_reason_is_cut_at_a_character(void **state)
{
	static const char *const characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(characters); i++) {
		for (int lead = 0; lead < 4; lead++) {
			AUTO_BUFFER why = {0};
			AUTO_BUFFER text = {0};

			buffer_append(&why, "aaaa", (size_t)lead);
			for (int k = 0; k < 300; k++)
				buffer_append_str(&why, characters[i]);
			buffer_printf(&text,
				      "version: 1\nname: p\nnet:\n"
				      "  - {id: no, do: deny, http: {host: a.example}, why: \"%s\"}\n"
				      "fs:\n  - {path: /x, access: none, why: \"%s\"}\n",
				      (const char *)why.data, (const char *)why.data);
			AUTO(policy_effective_free)
			struct policy_effective *e = only((const char *)text.data);
			struct policy_decision d = ask(e, "http GET https://a.example/");
			struct policy_fs *fs = NULL;
			struct policy_fs_decision of;
			struct error err = {0};

			assert_int_equal(d.verdict, POLICY_DENY);
			assert_true(utf8_valid(bytes_str(d.why)));
			assert_in_range(strlen(d.why), sizeof(d.why) - 4, sizeof(d.why) - 1);
			assert_int_equal(policy_fs_new(e, &vars, &fs, &err), 0);
			policy_fs_decide(fs, bytes_str("/x/y"), POLICY_WANT_LAND, &of);
			assert_true(utf8_valid(bytes_str(of.why)));
			assert_in_range(strlen(of.why), sizeof(of.why) - 4, sizeof(of.why) - 1);
			policy_fs_free(fs);
		}
	}
}

static void test_classes_by_method(void **state)
{
	static const struct {
		const char *words;
		enum policy_class class;
	} cases[] = {
		{"http GET https://a.example/", POLICY_READ},
		{"http HEAD https://a.example/", POLICY_READ},
		{"http OPTIONS https://a.example/", POLICY_READ},
		{"http POST https://a.example/", POLICY_UNKNOWN},
		{"http DELETE https://a.example/", POLICY_UNKNOWN},
		{"git fetch https://a.example/r", POLICY_READ},
		{"git push https://a.example/r refs/heads/x", POLICY_UNKNOWN},
		{"tcp a.example:1", POLICY_UNKNOWN},
		{"tool t", POLICY_UNKNOWN},
	};
	struct policy_effective *e =
		only("version: 1\nnet:\n  - {id: a, do: allow, http: {host: a.example}}\n"
		     "  - {id: g, do: allow, git: {remote: \"https://a.example/r\", op: fetch}}\n"
		     "  - {id: p, do: allow, git: {remote: \"https://a.example/r\", op: push, "
		     "refs: [refs/heads/x]}}\n"
		     "  - {id: c, do: allow, tcp: {host: a.example, port: 1}}\ntools:\n  - {id: t, "
		     "do: allow, run: [t]}\n");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_decision d = ask(e, cases[i].words);

		if (d.class != cases[i].class)
			fail_msg("%s is %s", cases[i].words, policy_class_name(d.class));
		assert_int_equal(d.verdict, policy_dial(POLICY_ASSIST, cases[i].class));
	}
	policy_effective_free(e);
}

/* ---- the dial ---- */

static void test_the_dial_is_monotone_in_both_directions(void **state)
{
	(void)state;
	for (int a = POLICY_OBSERVE; a <= POLICY_AUTONOMOUS; a++)
		for (int c = POLICY_READ; c <= POLICY_IRREVERSIBLE; c++) {
			enum policy_verdict v =
				policy_dial((enum policy_agency)a, (enum policy_class)c);

			if (a > POLICY_OBSERVE)
				assert_true(v <= policy_dial((enum policy_agency)(a - 1),
							     (enum policy_class)c));
			if (c > POLICY_READ)
				assert_true(v >= policy_dial((enum policy_agency)a,
							     (enum policy_class)(c - 1)));
			assert_true(v <= policy_dial(POLICY_AGENCY_UNSET, (enum policy_class)c));
		}
	for (int a = POLICY_OBSERVE; a < POLICY_AUTONOMOUS; a++)
		assert_true(policy_dial_files((enum policy_agency)a) <=
			    policy_dial_files((enum policy_agency)(a + 1)));
	assert_int_equal(policy_dial(POLICY_AUTONOMOUS, POLICY_IRREVERSIBLE), POLICY_ASK);
}

/* The same through policy_decide: over all levels, classes and words of the rule. */
static void test_decisions_follow_the_dial_and_hold_what_is_explicit(void **state)
{
	static const char *const effects[] = {"effect: read,",
					      "effect: reversible, undo: {text: t},", "",
					      "effect: irreversible,"};
	static const char *const words[] = {"allow", "ask", "deny"};

	(void)state;
	for (int w = POLICY_ALLOW; w <= POLICY_DENY; w++)
		for (int c = POLICY_READ; c <= POLICY_IRREVERSIBLE; c++)
			for (int a = POLICY_OBSERVE; a <= POLICY_AUTONOMOUS; a++) {
				enum policy_verdict dial =
					policy_dial((enum policy_agency)a, (enum policy_class)c);
				struct policy_effective *e;
				char text[300];

				snprintf(text, sizeof(text),
					 "version: 1\nagency: %s\nnet:\n  - {id: a, do: %s, %s "
					 "http: {host: a.example}}\n",
					 policy_agency_name((enum policy_agency)a), words[w],
					 effects[c]);
				e = only(text);
				expect(e, "http POST https://a.example/",
				       (int)dial > w ? dial : (enum policy_verdict)w);
				policy_effective_free(e);
			}
}

static void test_standing_grants_answer_only_what_the_dial_alone_asks(void **state)
{
	static const char form[] = "version: 1\nagency: %s\nnet:\n  - {id: a, do: %s, effect: "
				   "irreversible, http: {host: a.example}}\n"
				   "standing:\n  - {rule: a, match: {method: POST, path: /x/*}, "
				   "uses: 3, expires: 2030-01-01, why: w}\n";
	static const struct {
		const char *agency, *word, *path;
		enum policy_layer layer;
		bool standing;
	} cases[] = {
		{"trusted", "allow", "/x/y", POLICY_LAYER_RUN, true},
		{"autonomous", "allow", "/x/y", POLICY_LAYER_RUN, true},
		{"assist", "allow", "/x/y", POLICY_LAYER_RUN, false},
		{"trusted", "ask", "/x/y", POLICY_LAYER_RUN, false},
		{"trusted", "allow", "/z", POLICY_LAYER_RUN, false},
		{"trusted", "allow", "/x/y", POLICY_LAYER_PROJECT, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_effective *e;
		struct policy_decision d;
		char text[400], words[100];

		snprintf(text, sizeof(text), form, cases[i].agency, cases[i].word);
		snprintf(words, sizeof(words), "http POST https://a.example%s", cases[i].path);
		e = combine((struct layer_text[]){{cases[i].layer, text}, {0}});
		d = ask(e, words);
		assert_int_equal(d.verdict, POLICY_ASK);
		assert_int_equal(d.standing, cases[i].standing);
		policy_effective_free(e);
	}
}

/* ---- layers ---- */

#define ONE(id, word, host) "  - {id: " id ", do: " word ", http: {host: " host "}, effect: read}\n"
#define V		    "version: 1\n"

static void test_layers_and_each_other(void **state)
{
	static const struct {
		const char *rule;
		struct layer_text layers[4];
		const char *host;
		enum policy_verdict verdict;
	} cases[] = {
		{"a grant alone",
		 {{POLICY_LAYER_RUN, V "net:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_ALLOW},
		{"no layer at all", {{0}}, "a.example", POLICY_DENY},
		{"a ceiling alone grants nothing",
		 {{POLICY_LAYER_ORG, V "net:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_DENY},
		{"an org that calls itself a grant",
		 {{POLICY_LAYER_ORG, V "kind: grant\nnet:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_ALLOW},
		{"a project that calls itself a ceiling",
		 {{POLICY_LAYER_PROJECT, V "kind: ceiling\nnet:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_DENY},
		{"within the ceiling",
		 {{POLICY_LAYER_ORG, V "net:\n" ONE("o", "allow", "a.example")},
		  {POLICY_LAYER_PROJECT, V "net:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_ALLOW},
		{"outside the ceiling",
		 {{POLICY_LAYER_ORG, V "net:\n" ONE("o", "allow", "b.example")},
		  {POLICY_LAYER_PROJECT, V "net:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_DENY},
		{"a ceiling that says nothing about it is neutral",
		 {{POLICY_LAYER_ORG, V "agency: assist\n"},
		  {POLICY_LAYER_USER, V},
		  {POLICY_LAYER_PROJECT, V "net:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_ALLOW},
		{"an empty list in a ceiling is nothing, never everything",
		 {{POLICY_LAYER_ORG, V "net: []\n"},
		  {POLICY_LAYER_PROJECT, V "net:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_DENY},
		{"a ceiling that only denies leaves the rest",
		 {{POLICY_LAYER_ORG, V "net:\n" ONE("o", "deny", "b.example")},
		  {POLICY_LAYER_PROJECT, V "net:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_ALLOW},
		{"and what it denies is denied",
		 {{POLICY_LAYER_ORG, V "net:\n" ONE("o", "deny", "\"**.a.example\"")},
		  {POLICY_LAYER_PROJECT, V "net:\n" ONE("a", "allow", "x.a.example")}},
		 "x.a.example",
		 POLICY_DENY},
		{"a ceiling's ask asks",
		 {{POLICY_LAYER_USER, V "net:\n" ONE("o", "ask", "a.example")},
		  {POLICY_LAYER_RUN, V "net:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_ASK},
		{"two grants must both grant",
		 {{POLICY_LAYER_PROJECT, V "net:\n" ONE("a", "allow", "a.example")},
		  {POLICY_LAYER_RUN, V}},
		 "a.example",
		 POLICY_DENY},
		{"two grants that both grant",
		 {{POLICY_LAYER_PROJECT, V "net:\n" ONE("a", "allow", "a.example")},
		  {POLICY_LAYER_RUN,
		   V "net:\n" ONE("b", "allow", "\"*.x.example\"") ONE("c", "allow", "a.example")}},
		 "a.example",
		 POLICY_ALLOW},
		{"an untrusted project grants nothing",
		 {{POLICY_LAYER_PROJECT_UNTRUSTED, V "net:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_DENY},
		{"nor does it stand in for a grant",
		 {{POLICY_LAYER_ORG, V "net:\n" ONE("o", "allow", "a.example")},
		  {POLICY_LAYER_PROJECT_UNTRUSTED, V "net:\n" ONE("a", "allow", "a.example")}},
		 "a.example",
		 POLICY_DENY},
		{"an untrusted project's denies count",
		 {{POLICY_LAYER_PROJECT_UNTRUSTED, V "net:\n" ONE("a", "deny", "a.example")},
		  {POLICY_LAYER_RUN, V "net:\n" ONE("b", "allow", "a.example")}},
		 "a.example",
		 POLICY_DENY},
		{"and nothing else of it",
		 {{POLICY_LAYER_PROJECT_UNTRUSTED,
		   V "net:\n" ONE("a", "allow", "b.example") ONE("c", "ask", "a.example")},
		  {POLICY_LAYER_RUN, V "net:\n" ONE("b", "allow", "a.example")}},
		 "a.example",
		 POLICY_ALLOW},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_effective *e = combine(cases[i].layers);
		struct policy_decision d;
		char words[100];

		snprintf(words, sizeof(words), "http GET https://%s/", cases[i].host);
		d = ask(e, words);
		if (d.verdict != cases[i].verdict)
			fail_msg("%s: got %s: %s", cases[i].rule, policy_verdict_name(d.verdict),
				 d.why);
		policy_effective_free(e);
	}
}

/* The order in which files are given, and rules stand in them, never matters. */
static void test_order_never_matters(void **state)
{
	static const char *const rules[] = {ONE("a", "allow", "a.example"),
					    ONE("b", "ask", "\"*.x.example\""),
					    ONE("c", "deny", "y.x.example"),
					    ONE("d", "allow", "\"**.x.example\"")};
	static const char *const hosts[] = {"a.example", "z.x.example", "y.x.example",
					    "q.z.x.example", "none.example"};
	enum policy_verdict first[ARRAY_SIZE(hosts)];

	(void)state;
	for (int permutation = 0; permutation < 24; permutation++) {
		size_t order[4] = {0, 1, 2, 3};
		struct policy_effective *e;
		char text[800] = V "net:\n";

		for (size_t i = 3, n = (size_t)permutation; i > 0; i--) {
			size_t j = n % (i + 1), t = order[i];

			n /= i + 1;
			order[i] = order[j];
			order[j] = t;
		}
		for (size_t i = 0; i < 4; i++)
			strcat(text, rules[order[i]]);
		e = only(text);
		for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
			char words[100];
			enum policy_verdict v;

			snprintf(words, sizeof(words), "http GET https://%s/", hosts[i]);
			v = ask(e, words).verdict;
			if (permutation == 0)
				first[i] = v;
			assert_int_equal(v, first[i]);
		}
		policy_effective_free(e);
	}
}

static void test_what_counts_only_from_people_is_left_out_of_a_projects_file(void **state)
{
	static const char text[] =
		"version: 1\nnet:\n"
		"  - {id: a, do: allow, http: {host: db.internal}, address: [10.0.0.1], effect: "
		"read}\n"
		"  - {id: b, do: allow, http: {host: b.example}, ca: /etc/ca.pem, effect: read}\n"
		"  - {id: c, do: allow, http: {host: c.example, tls: passthrough}}\n"
		"  - {id: d, do: allow, http: {host: d.example}, effect: read, secret: s}\n"
		"secrets:\n  s: {from: {env: TOKEN}, to: [d.example], header: X-A}\n"
		"notify: {run: [mail], on: [opened]}\n";
	struct policy_effective *e =
		combine((struct layer_text[]){{POLICY_LAYER_PROJECT, text}, {0}});
	struct policy_settings s;

	(void)state;
	expect(e, "http GET https://db.internal/", POLICY_DENY);
	expect(e, "http GET https://b.example/", POLICY_DENY);
	expect(e, "http GET https://c.example/", POLICY_DENY);
	expect(e, "http GET https://d.example/", POLICY_ALLOW);
	policy_settings(e, &s);
	assert_null(s.notify_run);
	assert_int_equal(policy_effective_notes(e)->count, 5);
	policy_effective_free(e);
	e = combine((struct layer_text[]){{POLICY_LAYER_RUN, text}, {0}});
	expect(e, "http GET https://db.internal/", POLICY_ALLOW);
	expect(e, "http GET https://b.example/", POLICY_ALLOW);
	policy_settings(e, &s);
	assert_int_equal(s.notify_run_count, 1);
	assert_int_equal(policy_effective_notes(e)->count, 0);
	policy_effective_free(e);
}

static void test_the_gravest_class_that_a_layer_declares_counts(void **state)
{
	struct policy_effective *e = combine((struct layer_text[]){
		{POLICY_LAYER_ORG, "version: 1\nnet:\n  - {id: o, do: allow, http: {host: "
				   "a.example}, effect: irreversible}\n"},
		{POLICY_LAYER_RUN, "version: 1\nnet:\n  - {id: a, do: allow, http: {host: "
				   "a.example}, effect: read}\n"},
		{0}});

	(void)state;
	assert_int_equal(ask(e, "http GET https://a.example/").class, POLICY_IRREVERSIBLE);
	policy_effective_free(e);
	e = combine((struct layer_text[]){
		{POLICY_LAYER_ORG,
		 "version: 1\nnet:\n  - {id: o, do: allow, http: {host: a.example}}\n"},
		{POLICY_LAYER_RUN, "version: 1\nnet:\n  - {id: a, do: allow, http: {host: "
				   "a.example}, effect: read}\n"},
		{0}});
	assert_int_equal(ask(e, "http POST https://a.example/").class, POLICY_READ);
	policy_effective_free(e);
}

static void test_agency_is_the_minimum_and_only_people_raise_it(void **state)
{
	static const struct {
		const char *rule;
		struct layer_text layers[3];
		enum policy_agency person, plan, expected;
	} cases[] = {
		{"nobody says", {{POLICY_LAYER_RUN, V}}, 0, 0, POLICY_ASSIST},
		{"a file says", {{POLICY_LAYER_RUN, V "agency: trusted\n"}}, 0, 0, POLICY_TRUSTED},
		{"two files",
		 {{POLICY_LAYER_ORG, V "agency: draft\n"},
		  {POLICY_LAYER_RUN, V "agency: trusted\n"}},
		 0,
		 0,
		 POLICY_DRAFT},
		{"a person lowers",
		 {{POLICY_LAYER_RUN, V "agency: trusted\n"}},
		 POLICY_OBSERVE,
		 0,
		 POLICY_OBSERVE},
		{"a person raises the default",
		 {{POLICY_LAYER_RUN, V}},
		 POLICY_AUTONOMOUS,
		 0,
		 POLICY_AUTONOMOUS},
		{"but not above a file",
		 {{POLICY_LAYER_ORG, V "agency: draft\n"}},
		 POLICY_AUTONOMOUS,
		 0,
		 POLICY_DRAFT},
		{"a plan does not raise",
		 {{POLICY_LAYER_RUN, V}},
		 0,
		 POLICY_AUTONOMOUS,
		 POLICY_ASSIST},
		{"a plan lowers", {{POLICY_LAYER_RUN, V}}, 0, POLICY_OBSERVE, POLICY_OBSERVE},
		{"an untrusted project does not raise",
		 {{POLICY_LAYER_PROJECT_UNTRUSTED, V "agency: autonomous\n"}},
		 0,
		 0,
		 POLICY_ASSIST},
		{"it lowers",
		 {{POLICY_LAYER_PROJECT_UNTRUSTED, V "agency: draft\n"}},
		 0,
		 0,
		 POLICY_DRAFT},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy *p[2] = {NULL};
		struct policy_input inputs[2];
		struct policy_combine c = {.inputs = inputs,
					   .agency = cases[i].person,
					   .plan_agency = cases[i].plan};
		struct policy_effective *e;
		struct policy_settings s;
		struct error err = {0};

		for (; cases[i].layers[c.count].text; c.count++) {
			p[c.count] = sound(cases[i].layers[c.count].text);
			inputs[c.count] =
				(struct policy_input){cases[i].layers[c.count].layer, p[c.count]};
		}
		assert_int_equal(policy_combine(&c, &e, &err), 0);
		policy_settings(e, &s);
		if (s.agency != cases[i].expected)
			fail_msg("%s: %s", cases[i].rule, policy_agency_name(s.agency));
		policy_effective_free(e);
		policy_free(p[0]);
		policy_free(p[1]);
	}
}

static void test_limits_take_the_smaller_and_weaker_needs_every_word(void **state)
{
	struct policy_effective *e = combine((struct layer_text[]){
		{POLICY_LAYER_ORG,
		 V "limits: {memory: 2GiB, wall: 2h}\nallow_weaker: [wall]\nunattended: deny\n"},
		{POLICY_LAYER_RUN, V "extends: base\nlimits: {wall: 1h, pids: 64}\nbase: pinned\n"},
		{0}});
	struct policy_settings s;

	(void)state;
	policy_settings(e, &s);
	assert_int_equal(s.limits.value[POLICY_LIMIT_MEMORY], 2ULL << 30);
	assert_int_equal(s.limits.value[POLICY_LIMIT_WALL], 3600000);
	assert_int_equal(s.limits.value[POLICY_LIMIT_PIDS], 64);
	assert_int_equal(s.limits.value[POLICY_LIMIT_EGRESS], 0);
	/* memory: the ceiling states it outright; cpu: base alone states it, and says weaker; wall:
	 * the run does not. */
	assert_int_equal(s.limits.weaker, 1u << POLICY_LIMIT_CPU);
	assert_false(s.limits.weaker_landlock);
	assert_int_equal(s.unattended, POLICY_UNATTENDED_DENY);
	assert_int_equal(s.base, POLICY_PINNED);
	policy_effective_free(e);
	e = only(V "extends: base\nlimits: {memory: 1GiB}\n");
	policy_settings(e, &s);
	assert_int_equal(s.limits.weaker, 1u << POLICY_LIMIT_CPU);
	assert_true(s.limits.weaker_landlock);
	policy_effective_free(e);
	e = only(V "extends: base\nlimits: {memory: 1GiB}\nallow_weaker: [memory]\n");
	policy_settings(e, &s);
	assert_int_equal(s.limits.weaker, 1u << POLICY_LIMIT_CPU | 1u << POLICY_LIMIT_MEMORY);
	policy_effective_free(e);
}

static void test_approvals_are_the_strictest(void **state)
{
	struct policy_effective *e = combine((struct layer_text[]){
		{POLICY_LAYER_ORG, V "approvals: {quorum: 2, decide_by: 60d, exclude: [starter], "
				     "role: ['group:release']}\n"},
		{POLICY_LAYER_RUN, V "approvals: {execute_by: 5m, exclude: [\"7\"], role: "
				     "['uid:7', 'uid:8'], signers: /s}\n"},
		{0}});
	struct policy_settings s;

	(void)state;
	policy_settings(e, &s);
	assert_int_equal(s.quorum, 2);
	assert_int_equal(s.decide_by_ms, 60ULL * 86400000);
	assert_int_equal(s.execute_by_ms, 300000);
	assert_int_equal(s.freeze_ms, 30000);
	assert_int_equal(s.suspend_ms, 600000);
	assert_true(s.exclude_starter);
	assert_int_equal(s.exclude_uid_count, 1);
	assert_int_equal(s.exclude_uids[0], 7);
	assert_int_equal(s.role_count, 2); /* who votes is in both */
	assert_string_equal(s.roles[0].any[0], "group:release");
	assert_int_equal(s.roles[1].count, 2);
	assert_string_equal(s.signers, "/s");
	policy_effective_free(e);
}

static void test_only_named_variables_pass(void **state)
{
	static const char *const environment[] = {"PATH=/bin", "LC_ALL=C", "LC_=x", "LD_PRELOAD=/x",
						  "SECRET=1",  "CI=0",	   "bad",   NULL};
	struct policy_effective *e = combine((struct layer_text[]){
		{POLICY_LAYER_USER, V "env: {set: {CI: \"2\"}}\n"},
		{POLICY_LAYER_PROJECT,
		 V "env: {keep: [PATH, \"LC_*\", SECRET, CI], set: {CI: \"1\", Z: z}}\n"},
		{POLICY_LAYER_RUN, V "env: {keep: [PATH, \"LC_*\"]}\n"},
		{0}});
	static const char *const expected[] = {"CI=2", "LC_=x", "LC_ALL=C", "PATH=/bin", "Z=z"};
	char **env;

	(void)state;
	assert_int_equal(policy_env(e, environment, &env), 0);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_string_equal(env[i], expected[i]);
	assert_null(env[ARRAY_SIZE(expected)]);
	policy_env_free(env);
	policy_effective_free(e);
	e = only(V);
	assert_int_equal(policy_env(e, environment, &env), 0);
	assert_null(env[0]);
	policy_env_free(env);
	policy_effective_free(e);
}

/* It would be journaled with what passes, and the step would see it. */
static void test_a_variable_that_a_secret_comes_from_never_passes(void **state)
{
#define FROM(name, variable)                         \
	"secrets: {" name ": {from: {env: " variable \
	"}, to: [a.example.com], header: X-Key, env: A}}\n"
	static const char *const environment[] = {"A=1", "B_1=1", "B_2=1", "B_20=1", "C=1", NULL};
	struct policy_effective *e = combine(
		(struct layer_text[]){{POLICY_LAYER_USER, V "kind: ceiling\n" FROM("s", "C")},
				      {POLICY_LAYER_RUN,
				       V "env: {keep: [A, \"B_*\", C]}\n" FROM("s", "B_2")},
				      {0}});
	static const char *const expected[] = {"A=1", "B_1=1", "B_20=1"};
	char **env;

	(void)state;
	assert_int_equal(policy_env(e, environment, &env), 0);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_string_equal(env[i], expected[i]);
	assert_null(env[ARRAY_SIZE(expected)]);
	policy_env_free(env);
	policy_effective_free(e);
}

/* ---- commands ---- */

static void test_commands(void **state)
{
	static const char text[] =
		"version: 1\nfs:\n  - {path: /usr, access: rx}\n  - {path: /etc, access: r}\n"
		"exec:\n  - {do: allow, path: /usr/bin/git, argv: [git, {any: [status, diff]}]}\n"
		"  - {do: ask, path: /usr/bin/git, argv: [git, push]}\n"
		"  - {do: deny, path: /usr/bin/git, argv: [git, diff, --ext-diff]}\n"
		"  - {do: allow, path: \"/usr/bin/py*\"}\n  - {do: allow, path: /etc/x}\n";
	struct policy_effective *e = only(text);

	(void)state;
	expect(e, "exec /usr/bin/git status", POLICY_ALLOW);
	expect(e, "exec /usr/bin/git status -s", POLICY_ALLOW);
	expect(e, "exec /usr/bin/git diff --ext-diff x", POLICY_DENY);
	expect(e, "exec /usr/bin/git push", POLICY_ASK);
	expect(e, "exec /usr/bin/git", POLICY_DENY);
	expect(e, "exec /usr/bin/git commit", POLICY_DENY);
	expect(e, "exec /usr/bin/python3 x", POLICY_ALLOW);
	expect(e, "exec /usr/bin/perl x", POLICY_DENY);
	expect(e, "exec /etc/x", POLICY_DENY); /* fs does not grant x */
	expect(e, "exec /opt/x", POLICY_DENY);
	policy_effective_free(e);
	e = only("version: 1\nfs:\n  - {path: /usr, access: rx}\n");
	expect(e, "exec /usr/bin/anything", POLICY_ALLOW);
	policy_effective_free(e);
	e = only("version: 1\nfs:\n  - {path: /usr, access: rx}\nexec: []\n");
	expect(e, "exec /usr/bin/anything", POLICY_DENY);
	policy_effective_free(e);
	e = only("version: 1\nfs:\n  - {path: /usr, access: rx}\nexec:\n  - {do: deny, path: "
		 "/usr/bin/curl}\n");
	expect(e, "exec /usr/bin/anything", POLICY_ALLOW);
	expect(e, "exec /usr/bin/curl x", POLICY_DENY);
	policy_effective_free(e);
}

/* ---- addresses ---- */

static void test_addresses_that_no_name_may_lead_to(void **state)
{
	static const struct {
		const char *host;
		uint8_t address[16];
		size_t len;
		enum policy_verdict verdict;
	} cases[] = {
		{"a.example", {93, 184, 216, 34}, 4, POLICY_ALLOW},
		{"a.example", {0, 0, 0, 0}, 4, POLICY_DENY},
		{"a.example", {127, 0, 0, 1}, 4, POLICY_DENY},
		{"a.example", {10, 1, 2, 3}, 4, POLICY_DENY},
		{"a.example", {172, 16, 0, 1}, 4, POLICY_DENY},
		{"a.example", {172, 31, 255, 255}, 4, POLICY_DENY},
		{"a.example", {172, 32, 0, 1}, 4, POLICY_ALLOW},
		{"a.example", {192, 168, 1, 1}, 4, POLICY_DENY},
		{"a.example", {169, 254, 169, 254}, 4, POLICY_DENY},
		{"a.example", {168, 63, 129, 16}, 4, POLICY_DENY},
		{"a.example", {100, 64, 0, 1}, 4, POLICY_DENY},
		{"a.example", {100, 128, 0, 1}, 4, POLICY_ALLOW},
		{"a.example", {198, 18, 0, 1}, 4, POLICY_DENY},
		{"a.example", {224, 0, 0, 1}, 4, POLICY_DENY},
		{"a.example", {255, 255, 255, 255}, 4, POLICY_DENY},
		{"a.example", {0}, 16, POLICY_DENY},
		{"a.example", {[15] = 1}, 16, POLICY_DENY},
		{"a.example",
		 {[10] = 0xff, [11] = 0xff, [12] = 8, 8, 8, 8},
		 16,
		 POLICY_DENY}, /* v4-mapped */
		{"a.example",
		 {0x00, 0x64, 0xff, 0x9b, [12] = 8, 8, 8, 8},
		 16,
		 POLICY_DENY}, /* NAT64 */
		{"a.example", {0x20, 0x02, 8, 8}, 16, POLICY_DENY}, /* 6to4 */
		{"a.example", {0x20, 0x01, 0x0d, 0xb8}, 16, POLICY_DENY},
		{"a.example", {0x20, 0x01, 0x00, 0x00}, 16, POLICY_DENY}, /* Teredo */
		{"a.example", {0xfd, 0x00, 0x0e, 0xc2}, 16, POLICY_DENY},
		{"a.example", {0xfe, 0x80}, 16, POLICY_DENY},
		{"a.example", {0xff, 0x02}, 16, POLICY_DENY},
		{"a.example", {0x2a, 0x00, 0x14, 0x50}, 16, POLICY_ALLOW},
		{"a.example", {1, 2, 3}, 3, POLICY_DENY},
		{"db.internal", {10, 1, 2, 3}, 4, POLICY_ALLOW},
		{"db.internal", {10, 2, 2, 3}, 4, POLICY_DENY},
		{"db.internal", {93, 184, 216, 34}, 4, POLICY_DENY}, /* outside its CIDR */
		{"b.example",
		 {93, 184, 216, 34},
		 4,
		 POLICY_DENY}, /* the request itself is denied */
	};
	struct policy_effective *e = only(
		"version: 1\nnet:\n  - {id: a, do: allow, http: {host: a.example}, effect: read}\n"
		"  - {id: db, do: allow, http: {host: db.internal}, address: [10.1.0.0/16], "
		"effect: read}\n");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_decision d;
		char words[100];

		snprintf(words, sizeof(words), "http GET https://%s/", cases[i].host);
		d = ask(e, words);
		if (policy_address_decide(e, &d, cases[i].address, cases[i].len) !=
		    cases[i].verdict)
			fail_msg("%s to %u.%u.%u.%u", cases[i].host, cases[i].address[0],
				 cases[i].address[1], cases[i].address[2], cases[i].address[3]);
	}
	policy_effective_free(e);
}

/* What is below "/admin" of one server is so of another only in some spelling. */
static const struct {
	const char *path;
	bool twin; /* of /admin/x */
} twins[] = {
	{"/admin/x", true},
	{"/%61dmin/x", true},
	{"/ADMIN/x", true},
	{"/Admin/X", true},
	{"/admin./x", true},
	{"/admin../x", true},
	{"/admin%20/x", true},
	{"/%20admin/x", true},
	{"/admin%20./x", true},
	{"/admin;v=1/x", true},
	{"/ADMIN.;v=1/x", true},
	{"/admin%3bv=1/x", true},
	{"/admin::$INDEX_ALLOCATION/x", true},
	{"/admin:$i30:$INDEX_ALLOCATION/x", true},
	{"/admin/x/", true},
	{"/admin/x.", true},
	{"/admin/x%3fy", true},
	{"/admin/x%23y", true},
	{"/adm%c4%b1n/x", true}, /* an i without its dot: in capitals the same */
	{"/adm%c4%b0n/x", true}, /* an I with a dot */
	{"/%ef%bd%81dmin/x", true}, /* a wide a */
	{"/ad%e2%80%8bmin/x", true}, /* a space of no width */
	{"/ad%c2%admin/x", true}, /* a soft hyphen */
	{"/admin%c2%a0/x", true}, /* a space that does not break */
	{"/administrator/x", false},
	{"/x/admin/x", false},
	{"/admin-x/x", false},
	{"/admin+/x", false},
	{"/a.dmin/x", false},
	{"/admin/xy", false},
};

static enum policy_verdict ask_path(const struct policy_effective *e, const char *path,
				    enum policy_class *ret_class)
{
	struct policy_request r = {.kind = POLICY_HTTP};
	struct policy_decision d;

	r.http.scheme = bytes_str("https");
	r.http.host = bytes_str("a.example.com");
	r.http.method = bytes_str("GET");
	r.http.path = bytes_str(path);
	policy_decide(e, &r, &d);
	*ret_class = d.class;
	return d.verdict;
}

#define TWINS_HTTP(more) "http: {host: a.example.com, path: [" more "]}"

/* Each takes /admin/x away from a rule that allows all, or asks for it, or calls it graver. */
static void test_what_takes_away_reaches_every_twin_of_a_path(void **state)
{
	static const struct {
		const char *net;
		enum policy_verdict twin;
	} narrow[] = {
		{"  - {id: all, do: allow, " TWINS_HTTP("/**") ", except: [{host: a.example.com, "
							       "path: /admin/x}]}\n",
		 POLICY_DENY},
		{"  - {id: all, do: allow, " TWINS_HTTP("/**") "}\n"
							       "  - {id: no, do: deny, " TWINS_HTTP(
								       "/admin/x") "}\n",
		 POLICY_DENY},
		{"  - {id: all, do: allow, " TWINS_HTTP("/**") "}\n"
							       "  - {id: no, do: deny, " TWINS_HTTP(
								       "/Admin./x/") "}\n",
		 POLICY_DENY},
		{"  - {id: all, do: allow, " TWINS_HTTP("/**") "}\n"
							       "  - {id: ask, do: ask, " TWINS_HTTP(
								       "/admin/x") "}\n",
		 POLICY_ASK},
		{"  - {id: all, do: allow, " TWINS_HTTP(
			 "/**") ", effect: read}\n"
				"  - {id: grave, do: allow, " TWINS_HTTP(
					"/admin/x") ", effect: irreversible}\n",
		 POLICY_ASK},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(narrow); i++) {
		struct policy_effective *e;
		char yaml[1024];

		snprintf(yaml, sizeof(yaml), "version: 1\nagency: autonomous\nnet:\n%s",
			 narrow[i].net);
		e = only(yaml);
		for (size_t j = 0; j < ARRAY_SIZE(twins); j++) {
			enum policy_class class;
			enum policy_verdict v = ask_path(e, twins[j].path, &class);

			if (v != (twins[j].twin ? narrow[i].twin : POLICY_ALLOW))
				fail_msg("policy %zu: '%s' is %s", i, twins[j].path,
					 policy_verdict_name(v));
		}
		policy_effective_free(e);
	}
}

/* What allows, or what an `ask` or its `except` lets pass, is what it says and nothing like it. */
static void test_what_grants_reaches_no_twin_of_a_path(void **state)
{
	static const struct {
		const char *net;
		enum policy_verdict exact, twin;
	} grants[] = {
		{"  - {id: one, do: allow, " TWINS_HTTP("/admin/x") "}\n", POLICY_ALLOW,
		 POLICY_DENY},
		{"  - {id: one, do: ask, " TWINS_HTTP("/admin/x") "}\n", POLICY_ASK, POLICY_DENY},
		{"  - {id: no, do: deny, " TWINS_HTTP("/**") ", except: [{host: a.example.com, "
							     "path: /admin/x}]}\n"
							     "  - {id: all, do: allow, " TWINS_HTTP(
								     "/**") "}\n",
		 POLICY_ALLOW, POLICY_DENY},
		{"  - {id: ask, do: ask, " TWINS_HTTP("/**") ", except: [{host: a.example.com, "
							     "path: /admin/x}]}\n"
							     "  - {id: all, do: allow, " TWINS_HTTP(
								     "/**") "}\n",
		 POLICY_ALLOW, POLICY_ASK},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(grants); i++) {
		struct policy_effective *e;
		char yaml[1024];

		snprintf(yaml, sizeof(yaml), "version: 1\nagency: autonomous\nnet:\n%s",
			 grants[i].net);
		e = only(yaml);
		for (size_t j = 0; j < ARRAY_SIZE(twins); j++) {
			bool same = j < 2; /* the first two decode to the same bytes */
			enum policy_class class;
			enum policy_verdict v = ask_path(e, twins[j].path, &class);

			if (twins[j].twin && v != (same ? grants[i].exact : grants[i].twin))
				fail_msg("policy %zu: '%s' is %s", i, twins[j].path,
					 policy_verdict_name(v));
		}
		policy_effective_free(e);
	}
}

static void test_a_remote_that_is_denied_has_no_twin(void **state)
{
	static const struct {
		const char *remote;
		enum policy_verdict verdict;
	} rows[] = {
		{"https://git.example.com/acme/app", POLICY_ALLOW},
		{"https://git.example.com/acme/secret", POLICY_DENY},
		{"https://git.example.com/Acme/SECRET", POLICY_DENY},
		{"https://git.example.com/acme/secret.git.git", POLICY_DENY},
		{"https://git.example.com/acme/secret.GIT", POLICY_DENY},
		{"https://git.example.com/acme/secret.", POLICY_DENY},
		{"https://git.example.com/acme/secret%20", POLICY_DENY},
		{"https://git.example.com/acme/secrets", POLICY_ALLOW},
	};
	struct policy_effective *e = only(
		"version: 1\nagency: autonomous\nnet:\n"
		"  - {id: all, do: allow, git: {remote: \"https://git.example.com/acme/*\", op: "
		"fetch}}\n"
		"  - {id: no, do: deny, git: {remote: \"https://git.example.com/acme/secret\", op: "
		"fetch}}\n");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_request r = {.kind = POLICY_GIT};
		struct policy_decision d;

		r.git.remote = bytes_str(rows[i].remote);
		policy_decide(e, &r, &d);
		if (d.verdict != rows[i].verdict)
			fail_msg("'%s' is %s", rows[i].remote, policy_verdict_name(d.verdict));
	}
	policy_effective_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_of_one_layer),
		cmocka_unit_test(test_requests_with_bodies),
		cmocka_unit_test(test_a_reason_is_cut_at_a_character),
		cmocka_unit_test(test_classes_by_method),
		cmocka_unit_test(test_the_dial_is_monotone_in_both_directions),
		cmocka_unit_test(test_decisions_follow_the_dial_and_hold_what_is_explicit),
		cmocka_unit_test(test_standing_grants_answer_only_what_the_dial_alone_asks),
		cmocka_unit_test(test_layers_and_each_other),
		cmocka_unit_test(test_order_never_matters),
		cmocka_unit_test(test_what_counts_only_from_people_is_left_out_of_a_projects_file),
		cmocka_unit_test(test_the_gravest_class_that_a_layer_declares_counts),
		cmocka_unit_test(test_agency_is_the_minimum_and_only_people_raise_it),
		cmocka_unit_test(test_limits_take_the_smaller_and_weaker_needs_every_word),
		cmocka_unit_test(test_approvals_are_the_strictest),
		cmocka_unit_test(test_only_named_variables_pass),
		cmocka_unit_test(test_a_variable_that_a_secret_comes_from_never_passes),
		cmocka_unit_test(test_what_takes_away_reaches_every_twin_of_a_path),
		cmocka_unit_test(test_what_grants_reaches_no_twin_of_a_path),
		cmocka_unit_test(test_a_remote_that_is_denied_has_no_twin),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_addresses_that_no_name_may_lead_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
