/* What people read: findings, explanations, differences, the examples, the schema, the manual. */
#include "tests/unit/policy/policy_test.h"
#include <dirent.h>
#include <fcntl.h>
#include "base/io.h"
#include "base/utf8.h"

/* The text of a file of the source tree; freed by the caller. */
static char *source(const char *name)
{
	struct buffer b = {0};
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", SOURCE_DIR, name);
	if (io_read_file_at(AT_FDCWD, path, 4 << 20, &b) < 0)
		fail_msg("%s cannot be read", path);
	return buffer_take(&b, NULL);
}

static struct policy *parse_source(const char *name, const char *called)
{
	AUTO_FREE char *text = source(name);
	struct policy *p = NULL;

	assert_int_equal(policy_parse(bytes_str(text), called, NULL, &p), 0);
	return p;
}

static void test_findings_are_printed_as_the_manual_shows(void **state)
{
	struct policy *p = parse_source("tests/fixtures/policy/broken.yaml", "broken.yaml");
	AUTO_BUFFER out = {0};

	(void)state;
	for (size_t i = 0; i < policy_findings(p)->count; i++)
		policy_finding_print(&policy_findings(p)->items[i], &out);
	assert_string_equal(
		(char *)out.data,
		"broken.yaml:11:1: error[E0003]: key 'net' given twice (first at 6:1)\n"
		"broken.yaml:8:5: error[E0207]: effect 'reversible' needs 'undo'\n"
		"broken.yaml:9:24: error[E0010]: unknown key 'hots'; did you mean 'host'?\n");
	policy_free(p);
}

/* `retry: safe` is a word; `mode`, by which the table calls it, is nothing that a person may write. */
static void test_no_key_is_suggested_that_would_be_refused(void **state)
{
	struct policy *p = NULL;

	(void)state;
	assert_int_equal(policy_parse(bytes_str("version: 1\nnet:\n  - {id: a, do: allow, retry: "
						"{modes: safe}, http: {host: a.example.com}}\n"),
				      "p.yaml", NULL, &p),
			 0);
	bool found = false;
	for (size_t i = 0; i < policy_findings(p)->count; i++)
		found |= strcmp(policy_findings(p)->items[i].msg, "unknown key 'modes'") == 0;
	assert_true(found);
	policy_free(p);
}

static void test_a_decision_is_explained_as_the_manual_shows(void **state)
{
	struct policy *p = parse_source("examples/policies/acme.yaml", "acme.yaml");
	struct policy_input input = {POLICY_LAYER_PROJECT, p};
	struct policy_combine c = {.inputs = &input, .count = 1};
	struct policy_effective *run = NULL;
	struct policy_effective *step = NULL;
	struct policy_decision d;
	AUTO_BUFFER out = {0};
	AUTO_BUFFER json = {0};

	(void)state;
	assert_int_equal(policy_combine(&c, &run, NULL), 0);
	assert_int_equal(policy_effective_step(run, "edit", POLICY_AGENCY_UNSET, &step, NULL), 0);
	d = ask(step, "http POST https://api.github.com/repos/acme/app/pulls");
	assert_int_equal(policy_explain_decision(step, &d, POLICY_TEXT, &out), 0);
	assert_string_equal((char *)out.data,
			    "deny   decided by step 'edit' (acme.yaml:22:3): keeps only [pkgs]\n"
			    "  project: ask open-pr (11:5) | dial: assist x irreversible = ask\n");
	assert_int_equal(policy_explain_decision(step, &d, POLICY_JSON, &json), 0);
	assert_string_equal(
		(char *)json.data,
		"{\"verdict\":\"deny\",\"by\":\"step\",\"layer\":\"project\",\"step\":\"edit\","
		"\"at\":{\"file\":\"acme.yaml\",\"line\":22,\"column\":3},\"why\":\"keeps only "
		"[pkgs]\","
		"\"agency\":\"assist\",\"class\":\"irreversible\",\"dial\":\"ask\",\"standing\":"
		"false,"
		"\"layers\":[{\"layer\":\"project\",\"silent\":false,\"verdict\":\"ask\",\"rule\":"
		"\"open-pr\","
		"\"at\":{\"file\":\"acme.yaml\",\"line\":11,\"column\":5}}]}");
	policy_effective_free(step);
	policy_effective_free(run);
	policy_free(p);
}

static void expect_tests_pass(const struct policy *p, const char *name)
{
	AUTO_BUFFER out = {0};
	size_t run = 0, failed = 0;

	if (policy_findings(p)->count)
		fail_msg("%s: %s", name, policy_findings(p)->items[0].msg);
	assert_int_equal(policy_test(p, &vars, POLICY_TEXT, false, &out, &run, &failed), 0);
	if (failed || !run)
		fail_msg("%s: %zu of %zu failed\n%s", name, failed, run,
			 out.data ? (char *)out.data : "");
}

static void test_the_built_ins_hold_their_own_tests(void **state)
{
	size_t n = 0;

	(void)state;
	for (; policy_builtin_name(n); n++) {
		struct policy *p = NULL;

		assert_int_equal(policy_builtin(policy_builtin_name(n), &p), 0);
		expect_tests_pass(p, policy_builtin_name(n));
		policy_free(p);
	}
	assert_int_equal(n, 3);
	assert_null(policy_builtin_text("nothing"));
}

static void test_the_examples_hold_their_own_tests(void **state)
{
	char folder[512];
	struct dirent *entry;
	size_t n = 0;

	(void)state;
	snprintf(folder, sizeof(folder), "%s/examples/policies", SOURCE_DIR);
	AUTO_DIR dir = opendir(folder);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		char name[300];
		struct policy *p;

		if (!strstr(entry->d_name, ".yaml"))
			continue;
		snprintf(name, sizeof(name), "examples/policies/%s", entry->d_name);
		p = parse_source(name, name);
		expect_tests_pass(p, name);
		policy_free(p);
		n++;
	}
	assert_true(n >= 5);
}

static void test_a_test_that_does_not_hold_is_reported(void **state)
{
	struct policy *p = sound(
		"version: 1\nfs:\n  - {path: /usr, access: r}\nnet:\n  - {id: a, do: deny, tcp: "
		"{host: a.example, port: 1}}\n"
		"tests:\n  - {read: /usr/x, expect: deny}\n  - {read: /usr/x, expect: allow}\n"
		"  - {tcp: \"a.example:1\", expect: deny, rule: a}\n  - {tcp: \"a.example:2\", "
		"expect: deny, rule: a}\n");
	AUTO_BUFFER out = {0};
	size_t run, failed;

	(void)state;
	assert_int_equal(policy_test(p, &vars, POLICY_TEXT, false, &out, &run, &failed), 0);
	assert_int_equal(run, 4);
	assert_int_equal(failed, 2);
	assert_memory_equal(out.data, "FAIL f:7:5: read /usr/x: expected deny, got allow", 49);
	assert_non_null(
		strstr((char *)out.data, "FAIL f:10:5: tcp a.example:2: expected deny by 'a'"));
	policy_free(p);
}

/* Built-ins grant no network and, beside the workspace, nothing to write; coding is offline and
 * toolchains. */
static void test_what_the_built_ins_grant(void **state)
{
	static const struct {
		const char *name, *words;
		enum policy_verdict verdict;
	} cases[] = {
		{"base", "read /usr/lib/os-release", POLICY_ALLOW},
		{"base", "read ${workspace}/a", POLICY_DENY},
		{"offline", "write ${workspace}/a", POLICY_ALLOW},
		{"offline", "write ${workspace}/.git/config.worktree", POLICY_DENY},
		{"offline", "read ${workspace}/.ssh/id_rsa", POLICY_DENY},
		{"offline", "exec ${home}/.cargo/bin/cargo", POLICY_DENY},
		{"coding", "exec ${home}/.cargo/bin/cargo", POLICY_ALLOW},
		{"coding", "exec ${home}/.rustup/toolchains/x/bin/rustc", POLICY_ALLOW},
		{"coding", "exec ${home}/.nvm/versions/node/v20/bin/node", POLICY_ALLOW},
		{"coding", "exec ${home}/.pyenv/shims/python", POLICY_ALLOW},
		{"coding", "exec ${home}/go/bin/gopls", POLICY_ALLOW},
		{"coding", "exec ${home}/.local/bin/uv", POLICY_ALLOW},
		{"coding", "read ${home}/.cargo/credentials", POLICY_DENY},
		{"coding", "read ${home}/.local/share/keyrings/x", POLICY_DENY},
		{"coding", "read ${home}/.config/gh/hosts.yml", POLICY_DENY},
		{"coding", "write ${home}/.cargo/bin/x", POLICY_DENY},
		{"coding", "http GET https://crates.io/", POLICY_DENY},
		{"coding", "git fetch https://github.com/a/b", POLICY_DENY},
		{"coding", "tcp a.example:443", POLICY_DENY},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_effective *e =
			combine_with((struct layer_text[]){{0}}, cases[i].name, POLICY_AUTONOMOUS);
		struct policy_settings s;

		expect(e, cases[i].words, cases[i].verdict);
		policy_settings(e, &s);
		assert_int_equal(s.limits.weaker,
				 1u << POLICY_LIMIT_MEMORY | 1u << POLICY_LIMIT_CPU);
		assert_true(s.limits.weaker_landlock);
		policy_effective_free(e);
	}
}

static size_t wider(const char *a, const char *b, struct buffer *out)
{
	struct policy *pa = sound(a);
	struct policy *pb = sound(b);
	size_t n = 0;

	assert_int_equal(policy_diff(pa, pb, &vars, POLICY_TEXT, out, &n), 0);
	policy_free(pa);
	policy_free(pb);
	return n;
}

#define V   "version: 1\n"
#define NET V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}}\n"

/* A line that is cut stays UTF-8 wherever that falls: as JSON it would be none at all. */
static void test_diff_cuts_a_line_at_a_character(void **state)
{
	(void)state;
	for (int lead = 0; lead < 4; lead++) {
		AUTO_BUFFER text = {0};
		AUTO_BUFFER out = {0};

		buffer_printf(&text, V "fs:\n  - {path: /x/%.*s", lead, "aaaa");
		for (int i = 0; i < 400; i++)
			buffer_append_str(&text, "\xf0\x9f\x98\x80");
		buffer_append_str(&text, ", access: rw}\n");
		assert_true(wider(V, (const char *)text.data, &out) > 0);
		assert_true(utf8_valid(buffer_bytes(&out)));
	}
}

static void test_diff_names_what_became_possible(void **state)
{
	static const struct {
		const char *rule, *a, *b, *line; /* NULL: nothing is wider */
	} cases[] = {
		{"the same", NET, NET, NULL},
		{"less", NET, V, NULL},
		{"another host", V, NET, "GET https://a.example/x/w: allow, was deny"},
		{"another method", NET,
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: [GET, POST], "
		   "path: /x/*}}\n",
		 "POST https://a.example/x/w: ask, was deny"},
		{"a deeper path", NET,
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: "
		   "/x/**}}\n",
		 "GET https://a.example/x/w/w: allow, was deny"},
		{"a dropped exception",
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET}, except: "
		   "[{host: a.example, path: /no}]}\n",
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET}}\n",
		 "GET https://a.example/no: allow, was deny"},
		{"a dropped deny",
		 V "net:\n  - {id: a, do: allow, http: {host: \"*.x.example\"}}\n  - {id: b, do: "
		   "deny, http: {host: q.x.example}}\n",
		 V "net:\n  - {id: a, do: allow, http: {host: \"*.x.example\"}}\n",
		 "GET https://q.x.example/: allow, was deny"},
		{"a milder class", V "net:\n  - {id: a, do: allow, http: {host: a.example}}\n",
		 V "net:\n  - {id: a, do: allow, http: {host: a.example}, effect: read}\n",
		 "POST https://a.example/: allow, was ask"},
		{"a wider path", V "fs:\n  - {path: /a, access: r}\n",
		 V "fs:\n  - {path: /a, access: stage}\n", "/a: stage, was r"},
		{"a path unmasked",
		 V "fs:\n  - {path: /a, access: r}\n  - {path: /a/k, access: none}\n",
		 V "fs:\n  - {path: /a, access: r}\n", "/a/k: r, was none"},
		{"more agency", V "agency: draft\n", V "agency: trusted\n",
		 "agency trusted, was draft"},
		{"a limit gone", V "limits: {pids: 10}\n", V, "limit pids is gone, was 10"},
		{"a variable", V "env: {keep: [A]}\n", V "env: {keep: [A, B]}\n",
		 "environment keeps B"},
		{"fewer people", V "approvals: {quorum: 2}\n", V, "approvals need 1, were 2"},
		{"a step no longer narrowed", NET "steps:\n  s: {use: []}\n", NET,
		 "in step 's': GET https://a.example/x/w: allow, was deny"},
		{"a force",
		 V "net:\n  - {id: a, do: allow, git: {remote: \"https://h.example/a\", op: push, "
		   "refs: [refs/heads/x]}}\n",
		 V "net:\n  - {id: a, do: allow, git: {remote: \"https://h.example/a\", op: push, "
		   "refs: [refs/heads/x], force: true}}\n",
		 "git push https://h.example/a refs/heads/x force: ask, was deny"},
		{"a secret's new host",
		 V "secrets:\n  s: {from: {env: A}, to: [a.example], header: X-A}\n",
		 V "secrets:\n  s: {from: {env: A}, to: [a.example, b.example], header: X-A}\n",
		 "secret s may go to b.example"},
		{"a secret of another place",
		 V "secrets:\n  s: {from: {env: A}, to: [a.example], header: X-A}\n",
		 V "secrets:\n  s: {from: {env: B}, to: [a.example], header: X-A}\n",
		 "secret s is another one"},
		{"the same secret",
		 V "secrets:\n  s: {from: {file: /a}, to: [a.example], header: X-A}\n",
		 V "secrets:\n  s: {from: {file: /a}, to: [a.example], header: X-B}\n", NULL},
		{"a tool's other program", V "tools:\n  - {id: t, do: allow, run: [a, b]}\n",
		 V "tools:\n  - {id: t, do: allow, run: [a, c]}\n", "tool t is another program"},
		{"a tool's other words", V "tools:\n  - {id: t, do: allow, run: [a]}\n",
		 V "tools:\n  - {id: t, do: allow, run: [a, c]}\n", "tool t is another program"},
		{"the same tool", V "tools:\n  - {id: t, do: allow, run: [a, b]}\n",
		 V "tools:\n  - {id: t, do: allow, run: [a, b]}\n", NULL},
		{"a limit raised", V "limits: {pids: 10}\n", V "limits: {pids: 11}\n",
		 "limit pids 11, was 10"},
		{"a limit lowered", V "limits: {pids: 10}\n", V "limits: {pids: 9}\n", NULL},
		{"a limit that may be weaker", V "limits: {memory: 1GiB}\n",
		 V "limits: {memory: 1GiB}\nallow_weaker: [memory]\n",
		 "limit memory may be weaker"},
		{"landlock", V, V "allow_weaker: [landlock]\n", "landlock may be missing"},
		{"a person who is not there", V "unattended: deny\n", V "unattended: park\n",
		 "unattended park, was deny"},
		{"a base that moves", V "base: pinned\n", V "base: live\n",
		 "base live, was pinned"},
		{"the starter", V "approvals: {exclude: [starter]}\n", V,
		 "who started a run may approve"},
		{"longer to carry out", V "approvals: {execute_by: 1h}\n",
		 V "approvals: {execute_by: 2h}\n", "approvals may be carried out longer"},
		{"longer to decide", V "approvals: {decide_by: 1d}\n",
		 V "approvals: {decide_by: 2d}\n", "approvals may be decided longer"},
		{"no role", V "approvals: {role: ['group:release']}\n", V,
		 "approvals by others than group:release"},
		{"another role", V "approvals: {role: ['group:release']}\n",
		 V "approvals: {role: ['group:staff']}\n",
		 "approvals by others than group:release"},
		{"the same role", V "approvals: {role: ['group:release']}\n",
		 V "approvals: {role: ['group:release']}\n", NULL},
		{"no signature", V "approvals: {signers: /a}\n", V, "votes need no signature"},
		{"other signers", V "approvals: {signers: /a}\n", V "approvals: {signers: /b}\n",
		 "votes are signed by others"},
		{"a variable set", V "env: {set: {A: \"1\"}}\n", V "env: {set: {A: \"2\"}}\n",
		 "environment sets A"},
		{"the same variable", V "env: {set: {A: \"1\"}}\n", V "env: {set: {A: \"1\"}}\n",
		 NULL},
		{"an address", NET,
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}, "
		   "address: [10.0.0.1]}\n",
		 "rule a may lead to 10.0.0.1"},
		{"an authority of its own", NET,
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}, "
		   "ca: /etc/x.pem}\n",
		 "rule a trusts /etc/x.pem"},
		{"no rate",
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}, "
		   "rate: {count: 5, per: 1m}}\n",
		 NET, "rule a has a higher rate"},
		{"the same rate in other words",
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}, "
		   "rate: {count: 5, per: 1m}}\n",
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}, "
		   "rate: {count: 300, per: 1h}}\n",
		 NULL},
		{"a higher rate",
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}, "
		   "rate: {count: 5, per: 1m}}\n",
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}, "
		   "rate: {count: 5, per: 30s}}\n",
		 "rule a has a higher rate"},
		{"bytes without a bound",
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}, "
		   "rate: {count: 5, per: 1m, bytes: 1MiB}}\n",
		 V "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}, "
		   "rate: {count: 5, per: 1m}}\n",
		 "rule a has a higher rate"},
		{"a secret used",
		 V
		 "secrets:\n  s: {from: {env: A}, to: [a.example], header: X-A}\n"
		 "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}}\n",
		 V "secrets:\n  s: {from: {env: A}, to: [a.example], header: X-A}\n"
		   "net:\n  - {id: a, do: allow, http: {host: a.example, method: GET, path: /x/*}, "
		   "secret: s}\n",
		 "rule a uses secret s"},
		{"a port", V "net:\n  - {id: a, do: allow, tcp: {host: h.example, port: 1}}\n",
		 V "net:\n  - {id: a, do: allow, tcp: {host: h.example, port: 2}}\n",
		 "tcp h.example:2: ask, was deny"},
		{"a program",
		 V "fs:\n  - {path: /b, access: rx}\nexec:\n  - {do: allow, path: /b/x}\n",
		 V "fs:\n  - {path: /b, access: rx}\nexec:\n  - {do: allow, path: /b/x}\n  - {do: "
		   "allow, path: /b/y}\n",
		 "/b/y: allow, was deny"},
		{"a tool", V, V "tools:\n  - {id: t, do: allow, run: [a]}\n", "tool t: "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		AUTO_BUFFER out = {0};
		size_t n = wider(cases[i].a, cases[i].b, &out);
		const char *text = out.data ? (const char *)out.data : "";

		if (cases[i].line ? !strstr(text, cases[i].line) : n != 0)
			fail_msg("%s: %zu lines:\n%s", cases[i].rule, n, text);
	}
}

static void test_the_schema_is_that_of_the_parser(void **state)
{
	AUTO_FREE char *text = source("policy/policy.schema.json");
	AUTO_BUFFER made = {0};

	(void)state;
	assert_int_equal(policy_schema(&made), 0);
	if (strcmp(text, (char *)made.data) != 0)
		fail_msg("policy/policy.schema.json is not the parser's: holdfast policy schema > "
			 "policy/policy.schema.json");
}

static void test_every_code_is_documented(void **state)
{
	AUTO_FREE char *manual = source("docs/holdfast-policy.5.scd");
	const struct policy_code *c;
	int last[2] = {0};
	size_t n = 0;

	(void)state;
	for (; (c = policy_code_at(n)); n++) {
		char shown[16], line[400];

		snprintf(shown, sizeof(shown), "%c%04d", c->severity == POLICY_ERROR ? 'E' : 'W',
			 c->code);
		assert_true(c->code > last[c->severity]);
		last[c->severity] = c->code;
		assert_true(c->meaning[0] && c->remedy[0]);
		snprintf(line, sizeof(line), "*%s*", shown);
		if (!strstr(manual, line))
			fail_msg("%s is not in docs/holdfast-policy.5.scd", shown);
	}
	assert_true(n > 60);
}

/* Codes are written as numbers where they arise: each of them must be in the table. */
static void test_every_code_that_can_be_given_has_a_meaning(void **state)
{
	static const char *const wrong[] = {
		"version: 1\nagancy: x\nname: a/b\nlimits: {wall: 5, pids: x, memory: y, disk: "
		"1}\n",
		V "fs:\n  - {path: a, access: r}\n  - {path: /a/*/b, access: r}\n  - {path: "
		  "\"${x}\", access: q}\n",
		V "net:\n  - {id: a, do: allow}\n  - {id: a, do: ask, effect: reversible, http: "
		  "{host: \"*.com\"}}\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct policy *p = parse(wrong[i]);

		for (size_t f = 0; f < policy_findings(p)->count; f++) {
			const struct policy_finding *x = &policy_findings(p)->items[f];
			bool known = false;
			const struct policy_code *c;

			for (size_t n = 0; (c = policy_code_at(n)); n++)
				known |= c->code == x->code && c->severity == x->severity;
			if (!known)
				fail_msg("code %d has no meaning", x->code);
		}
		policy_free(p);
	}
}

static void test_trust_is_of_exact_bytes_and_shows_what_it_lets_happen(void **state)
{
	struct policy *p = sound(NET "agency: autonomous\nsecrets:\n  s: {from: {env: A}, to: "
				     "[a.example], header: X-A}\n");
	AUTO_BUFFER out = {0};
	struct digest a, b, blob;

	(void)state;
	policy_trust_digest(bytes_str(NET), &a);
	policy_trust_digest(bytes_str(NET "\n"), &b);
	digest_of(bytes_str(NET), &blob);
	assert_false(digest_equal(&a, &b));
	assert_false(digest_equal(&a, &blob));
	assert_int_equal(policy_trust_summary(p, &out), 0);
	assert_non_null(strstr((char *)out.data, "agency autonomous"));
	assert_non_null(strstr((char *)out.data, "allow a: GET https://a.example /x/*"));
	assert_non_null(strstr((char *)out.data, "'secrets' does not count"));
	policy_free(p);
}

static void test_questions_that_cannot_be_read(void **state)
{
	static const struct {
		const char *kind, *text;
	} cases[] = {
		{"ftp", "x"},
		{"http", ""},
		{"http", "GET"},
		{"http", "GET a b"},
		{"http", "GET https://"},
		{"http", "GET https://a:0/"},
		{"http", "GET https://a:x/"},
		{"http", "GET https://a:70000/"},
		{"http", "GET https://a/#x"},
		{"git", "pull https://a/b"},
		{"git", "push https://a/b"},
		{"git", "push https://a/b r x"},
		{"tcp", "a"},
		{"tcp", ":1"},
		{"tcp", "a:99999"},
		{"tool", ""},
		{"tool", "t x"},
		{"tool", "t =x"},
		{"read", "x"},
		{"read", ""},
		{"write", "/a/../b"},
		{"exec", ""},
		{"exec", "ls"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_question *q = NULL;
		struct error err = {0};

		if (policy_question_parse(cases[i].kind, cases[i].text, &vars, &q, &err) !=
			    -EINVAL ||
		    q || !err.msg[0])
			fail_msg("%s '%s' was read", cases[i].kind, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_findings_are_printed_as_the_manual_shows),
		cmocka_unit_test(test_no_key_is_suggested_that_would_be_refused),
		cmocka_unit_test(test_a_decision_is_explained_as_the_manual_shows),
		cmocka_unit_test(test_the_built_ins_hold_their_own_tests),
		cmocka_unit_test(test_the_examples_hold_their_own_tests),
		cmocka_unit_test(test_a_test_that_does_not_hold_is_reported),
		cmocka_unit_test(test_what_the_built_ins_grant),
		cmocka_unit_test(test_diff_cuts_a_line_at_a_character),
		cmocka_unit_test(test_diff_names_what_became_possible),
		cmocka_unit_test(test_the_schema_is_that_of_the_parser),
		cmocka_unit_test(test_every_code_is_documented),
		cmocka_unit_test(test_every_code_that_can_be_given_has_a_meaning),
		cmocka_unit_test(test_trust_is_of_exact_bytes_and_shows_what_it_lets_happen),
		cmocka_unit_test(test_questions_that_cannot_be_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
