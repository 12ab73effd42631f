/* The grammar: what is refused, where, and with which code; and that what is right is taken. */
#include "tests/unit/policy/policy_test.h"

#define HEAD "version: 1\n"
#define NET  HEAD "net:\n  - {id: a, do: allow, "

/* Each wrong file with the code and place of its first finding. */
static const struct {
	const char *rule;
	const char *text;
	int code, line, column;
} refused[] = {
	/* the strict reader */
	{"empty file", "", 8, 1, 1},
	{"not YAML", HEAD "fs: [\n", 1, 3, 1},
	{"control character", HEAD "name: a\x07\n", 2, 2, 8},
	{"bidi character", HEAD "name: a\xe2\x80\xae\n", 2, 2, 8},
	{"zero-width character", HEAD "name: a\xe2\x80\x8b\n", 2, 2, 8},
	{"bidi by an escape", HEAD "name: \"a\\u202e\"\n", 2, 2, 7},
	{"not UTF-8", HEAD "name: a\xff\n", 2, 2, 8},
	{"duplicate key", HEAD "name: a\nname: b\n", 3, 3, 1},
	{"duplicate key deep down", NET "http: {host: a.example.com, port: 1, port: 2}}\n", 3, 3,
	 61},
	{"anchor", HEAD "name: &a b\n", 4, 2, 7},
	{"alias", HEAD "name: *a\n", 4, 2, 7},
	{"tag", HEAD "name: !!str b\n", 4, 2, 7},
	{"merge key", HEAD "<<: {name: a}\n", 4, 2, 1},
	{"second document", HEAD "---\nversion: 1\n", 5, 2, 1},
	{"too deep",
	 HEAD "contract: "
	      "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
	 6, 2, 42},
	{"list as a key", HEAD "[a]: b\n", 7, 2, 1},

	/* keys and kinds of values */
	{"unknown key", HEAD "nett: []\n", 10, 2, 1},
	{"unknown key inside", HEAD "fs:\n  - {path: /a, access: r, acces: r}\n", 10, 3, 27},
	{"missing version", "name: a\n", 11, 1, 1},
	{"missing key", HEAD "fs:\n  - {path: /a}\n", 11, 3, 5},
	{"missing key beside a whole rule", HEAD "fs:\n  - {path: /a}\n  - {path: /a, access: r}\n",
	 11, 3, 5},
	{"a list for a mapping", "[]\n", 12, 1, 1},
	{"a word for a list", HEAD "fs: all\n", 12, 2, 5},
	{"no value", HEAD "name:\n", 12, 2, 6},
	{"a mapping for a word", HEAD "agency: {a: b}\n", 12, 2, 9},
	{"unknown word", HEAD "agency: trust\n", 13, 2, 9},
	{"word of another kind", HEAD "fs:\n  - {path: /a, access: w}\n", 13, 3, 24},
	{"yes where true is meant",
	 HEAD "net:\n  - {id: a, do: deny, git: {remote: \"https://h.example.com/a/b\", op: push, "
	      "force: yes}}\n",
	 13, 3, 83},
	{"replay: no", NET "replay: no, http: {host: a.example.com}}\n", 13, 3, 32},
	{"effect: unknown is said by saying nothing",
	 NET "effect: unknown, http: {host: a.example.com}}\n", 13, 3, 32},

	/* numbers */
	{"version of tomorrow", "version: 2\n", 17, 1, 10},
	{"version 0", "version: 0\n", 17, 1, 10},
	{"version as a word", "version: one\n", 14, 1, 10},
	{"hexadecimal", NET "http: {host: a.example.com, port: 0x50}}\n", 14, 3, 58},
	{"leading zero", NET "http: {host: a.example.com, port: 080}}\n", 14, 3, 58},
	{"negative", NET "http: {host: a.example.com, port: -1}}\n", 14, 3, 58},
	{"with a sign", NET "http: {host: a.example.com, port: +80}}\n", 14, 3, 58},
	{"fraction", HEAD "limits: {pids: 1.5}\n", 14, 2, 16},
	{"port 0", NET "http: {host: a.example.com, port: 0}}\n", 17, 3, 58},
	{"port 65536", NET "http: {host: a.example.com, port: 65536}}\n", 17, 3, 58},
	{"past 64 bits", HEAD "limits: {pids: 99999999999999999999}\n", 17, 2, 16},
	{"duration without unit", HEAD "limits: {wall: 30}\n", 15, 2, 16},
	{"duration with space", HEAD "limits: {wall: 30 m}\n", 15, 2, 16},
	{"duration backwards", HEAD "limits: {wall: 1m2h}\n", 15, 2, 16},
	{"duration past 64 bits", HEAD "limits: {wall: 99999999999999w}\n", 17, 2, 16},
	{"no time at all", HEAD "limits: {wall: 0s}\n", 17, 2, 16},
	{"size with a wrong unit", HEAD "limits: {memory: 4gb}\n", 16, 2, 18},
	{"size past 64 bits", HEAD "limits: {memory: 99999999999TiB}\n", 17, 2, 18},
	{"memory for nothing", HEAD "limits: {memory: 1}\n", 17, 2, 18},
	{"a bound that is no number", NET "http: {host: a.example.com, json: {/a: {max: x}}}}\n",
	 14, 3, 69},

	/* names */
	{"name with a slash", HEAD "name: a/b\n", 18, 2, 7},
	{"id with a hash",
	 HEAD "net:\n  - {id: \"a#1\", do: deny, tcp: {host: a.example.com, port: 1}}\n", 18, 3,
	 10},
	{"empty name", HEAD "name: \"\"\n", 18, 2, 7},
	{"title of two lines", NET "http: {host: a.example.com}, card: {title: \"a\\nb\"}}\n", 20,
	 3, 67},

	/* paths */
	{"relative path", HEAD "fs:\n  - {path: src, access: r}\n", 101, 3, 12},
	{"home by tilde", HEAD "fs:\n  - {path: ~/src, access: r}\n", 101, 3, 12},
	{"path that climbs", HEAD "fs:\n  - {path: \"${workspace}/../x\", access: r}\n", 101, 3,
	 12},
	{"path with a dot", HEAD "fs:\n  - {path: /a/./b, access: r}\n", 101, 3, 12},
	{"path with an empty part", HEAD "fs:\n  - {path: /a//b, access: r}\n", 101, 3, 12},
	{"slash at the end", HEAD "fs:\n  - {path: /a/, access: r}\n", 101, 3, 12},
	{"slash after a variable", HEAD "fs:\n  - {path: \"${home}/\", access: r}\n", 101, 3, 12},
	{"variable that sticks", HEAD "fs:\n  - {path: \"${home}x\", access: r}\n", 101, 3, 12},
	{"star in the middle", HEAD "fs:\n  - {path: /a/*/b, access: r}\n", 102, 3, 12},
	{"two stars", HEAD "fs:\n  - {path: /a/**, access: r}\n", 102, 3, 12},
	{"unknown variable", HEAD "fs:\n  - {path: \"${HOME}/x\", access: r}\n", 103, 3, 12},
	{"variable in the middle", HEAD "fs:\n  - {path: \"/x/${home}\", access: r}\n", 103, 3, 12},
	{"exception outside", HEAD "fs:\n  - {path: /a, access: r, except: [/b]}\n", 104, 3, 27},
	{"exception of all", HEAD "fs:\n  - {path: /a, access: r, except: [/a]}\n", 104, 3, 27},
	{"two words on one path",
	 HEAD "fs:\n  - {path: /a, access: r}\n  - {path: /a, access: none}\n", 105, 4, 5},

	/* hosts and addresses */
	{"uppercase host", NET "http: {host: A.example.com}}\n", 110, 3, 37},
	{"host in its own script", NET "http: {host: m\xc3\xbcnchen.de}}\n", 110, 3, 37},
	{"trailing dot", NET "http: {host: a.example.com.}}\n", 110, 3, 37},
	{"host with a port", NET "http: {host: \"a.example.com:80\"}}\n", 110, 3, 37},
	{"host with an underscore", NET "http: {host: a_b.example.com}}\n", 110, 3, 37},
	{"host with an empty label", NET "http: {host: a..example.com}}\n", 110, 3, 37},
	{"IPv4 address", NET "http: {host: 10.0.0.1}}\n", 110, 3, 37},
	{"IPv4 address as a number", NET "http: {host: \"2130706433\"}}\n", 110, 3, 37},
	{"IPv4 address in hexadecimal", NET "http: {host: 0x7f.1}}\n", 110, 3, 37},
	{"IPv6 address", NET "http: {host: \"[::1]\"}}\n", 110, 3, 37},
	{"star inside", NET "http: {host: a.*.example.com}}\n", 110, 3, 37},
	{"star alone", NET "http: {host: \"*\"}}\n", 110, 3, 37},
	{"false A-label", NET "http: {host: xn--a-ecp.ru}}\n", 110, 3, 37},
	{"a pattern where one host is meant", NET "tcp: {host: \"*.example.com\", port: 5432}}\n",
	 110, 3, 36},
	{"all of com", NET "http: {host: \"*.com\"}}\n", 111, 3, 37},
	{"all of co.uk", NET "http: {host: \"**.co.uk\"}}\n", 111, 3, 37},
	{"everybody's pages", NET "http: {host: \"*.github.io\"}}\n", 111, 3, 37},
	{"a domain that is on no list", NET "http: {host: \"*.nowhere\"}}\n", 111, 3, 37},
	{"localhost without address", NET "http: {host: localhost}}\n", 112, 3, 31},
	{"single label without address", NET "tcp: {host: db, port: 5432}}\n", 112, 3, 29},
	{"mDNS without address", NET "http: {host: printer.local}}\n", 112, 3, 31},
	{"address of three parts", NET "http: {host: db.internal}, address: [10.0.1]}\n", 113, 3,
	 61},
	{"bits beyond the mask", NET "http: {host: db.internal}, address: [10.0.0.1/8]}\n", 113, 3,
	 61},
	{"mask too long", NET "http: {host: db.internal}, address: [10.0.0.0/33]}\n", 113, 3, 61},

	/* requests */
	{"URL path without slash", NET "http: {host: a.example.com, path: x}}\n", 114, 3, 58},
	{"URL path that climbs", NET "http: {host: a.example.com, path: /a/../b}}\n", 114, 3, 58},
	{"encoded URL path", NET "http: {host: a.example.com, path: /a%2fb}}\n", 114, 3, 58},
	{"query in a URL path", NET "http: {host: a.example.com, path: \"/a?b\"}}\n", 114, 3, 58},
	{"two stars in the middle", NET "http: {host: a.example.com, path: \"/**/b\"}}\n", 114, 3,
	 58},
	{"two stars that stick", NET "http: {host: a.example.com, path: \"/a**\"}}\n", 114, 3, 58},
	{"pointer without slash", NET "http: {host: a.example.com, json: {a: b}}}\n", 115, 3, 59},
	{"pointer with a bare tilde", NET "http: {host: a.example.com}, ignore: [/a~b]}\n", 115, 3,
	 62},
	{"lowercase method", NET "http: {host: a.example.com, method: get}}\n", 116, 3, 60},
	{"CONNECT", NET "http: {host: a.example.com, method: [CONNECT]}}\n", 116, 3, 61},
	{"remote by ssh", NET "git: {remote: \"git@github.com:a/b\", op: fetch}}\n", 117, 3, 38},
	{"remote over http", NET "git: {remote: \"http://github.com/a/b\", op: fetch}}\n", 117, 3,
	 38},
	{"remote without repository", NET "git: {remote: \"https://github.com/\", op: fetch}}\n",
	 117, 3, 38},
	{"remote with a password",
	 NET "git: {remote: \"https://u:p@github.com/a/b\", op: fetch}}\n", 117, 3, 38},
	{"short ref", NET "git: {remote: \"https://github.com/a/b\", op: push, refs: [main]}}\n",
	 118, 3, 81},
	{"ref that climbs",
	 NET "git: {remote: \"https://github.com/a/b\", op: push, refs: [refs/heads/../x]}}\n", 118,
	 3, 81},
	{"header of the connection",
	 NET "http: {host: a.example.com}, retry: {keyed: {header: Host, window: 1h}}}\n", 119, 3,
	 77},
	{"header that is no token",
	 NET "http: {host: a.example.com}, retry: {keyed: {header: \"a b\", window: 1h}}}\n", 119,
	 3, 77},
	{"variable with a dash", HEAD "env: {keep: [A-B]}\n", 120, 2, 14},
	{"all variables", HEAD "env: {keep: [\"*\"]}\n", 120, 2, 14},
	{"prefix without underscore", HEAD "env: {keep: [\"LD*\"]}\n", 120, 2, 14},
	{"format without place",
	 HEAD "secrets:\n  s: {from: {env: A}, to: [a.example.com], header: X-A, format: x}\n", 121,
	 3, 65},
	{"format with two places",
	 HEAD
	 "secrets:\n  s: {from: {env: A}, to: [a.example.com], header: X-A, format: \"{}{}\"}\n",
	 121, 3, 65},
	{"a day that is none",
	 NET "http: {host: a.example.com}}\nstanding:\n  - {rule: a, match: {method: GET}, uses: "
	     "1, expires: 2026-02-30, why: w}\n",
	 122, 5, 55},
	{"a person by name", HEAD "approvals: {exclude: [bob]}\n", 123, 2, 23},
	{"a role of no kind", HEAD "approvals: {role: [release]}\n", 123, 2, 20},
	{"a role that is no uid", HEAD "approvals: {role: ['uid:bob']}\n", 123, 2, 20},

	/* between keys */
	{"none of three", HEAD "net:\n  - {id: a, do: allow}\n", 201, 3, 5},
	{"two of three", NET "http: {host: a.example.com}, tcp: {host: a.example.com, port: 1}}\n",
	 201, 3, 5},
	{"two ways to undo",
	 NET "effect: reversible, undo: {text: a, tool: b}, http: {host: a.example.com}}\n", 201, 3,
	 50},
	{"except on git",
	 NET
	 "git: {remote: \"https://github.com/a/b\", op: fetch}, except: [{host: a.example.com}]}\n",
	 201, 3, 76},
	{"two questions in a test", HEAD "tests:\n  - {read: /a, write: /a, expect: deny}\n", 201,
	 3, 5},
	{"id twice",
	 NET "http: {host: a.example.com}}\n  - {id: a, do: deny, http: {host: b.example.com}}\n",
	 202, 4, 5},
	{"id of a tool twice",
	 NET "http: {host: a.example.com}}\ntools:\n  - {id: a, do: deny, run: [x]}\n", 202, 5, 5},
	{"undo by a tool that is not there",
	 NET "effect: reversible, undo: {tool: b}, http: {host: a.example.com}}\n", 203, 3, 50},
	{"probe by a tool that is not there",
	 NET "retry: {probe: {tool: b}}, http: {host: a.example.com}}\n", 203, 3, 31},
	{"secret to another host",
	 NET "http: {host: b.example.com}, secret: s}\nsecrets:\n  s: {from: {env: A}, to: "
	     "[a.example.com], header: X-A}\n",
	 204, 3, 5},
	{"secret to a wider pattern",
	 NET "http: {host: \"**.example.com\"}, secret: s}\nsecrets:\n  s: {from: {env: A}, to: "
	     "[\"*.example.com\"], header: X-A}\n",
	 204, 3, 5},
	{"secret over http", NET "http: {scheme: http, host: b.example.com}, secret: s}\n", 205, 3,
	 67},
	{"passthrough with a path",
	 NET "http: {host: b.example.com, tls: passthrough, path: /a}}\n", 206, 3, 52},
	{"passthrough with a secret",
	 NET "http: {host: b.example.com, tls: passthrough}, secret: s}\n", 206, 3, 71},
	{"tcp with a secret", NET "tcp: {host: b.example.com, port: 1}, secret: s}\n", 206, 3, 61},
	{"reversible without undo", NET "effect: reversible, http: {host: b.example.com}}\n", 207,
	 3, 24},
	{"reversible tool without undo",
	 HEAD "tools:\n  - {id: a, do: allow, run: [x], effect: reversible}\n", 207, 3, 34},
	{"undo without reversible", NET "undo: {text: a}, http: {host: b.example.com}}\n", 208, 3,
	 24},
	{"forced fetch", NET "git: {remote: \"https://github.com/a/b\", op: fetch, force: true}}\n",
	 209, 3, 75},
	{"push to anything", NET "git: {remote: \"https://github.com/a/b\", op: push}}\n", 210, 3,
	 29},
	{"push as a read",
	 NET "effect: read, git: {remote: \"https://github.com/a/b\", op: push, refs: "
	     "[refs/heads/a]}}\n",
	 211, 3, 24},
	{"step uses what is not there",
	 NET "http: {host: b.example.com}}\nsteps:\n  s: {use: [b]}\n", 212, 5, 3},
	{"test names what is not there", HEAD "tests:\n  - {read: /a, expect: deny, rule: b}\n",
	 212, 3, 5},
	{"grant for what is not there",
	 HEAD "standing:\n  - {rule: b, match: {ref: x}, uses: 1, expires: 2026-12-31, why: w}\n",
	 212, 3, 5},
	{"tool without a command", HEAD "tools:\n  - {id: a, do: allow, run: []}\n", 213, 3, 24},

	/* steps only narrow */
	{"step with more agency", HEAD "agency: draft\nsteps:\n  s: {agency: assist}\n", 301, 4, 3},
	{"step above the default", HEAD "steps:\n  s: {agency: trusted}\n", 301, 3, 3},
	{"step with a larger limit", HEAD "limits: {wall: 1m}\nsteps:\n  s: {limits: {wall: 2m}}\n",
	 302, 4, 15},
	{"step with wider access",
	 HEAD "fs:\n  - {path: /a, access: r}\nsteps:\n  s: {fs: [{path: /a/b, access: rx}]}\n",
	 303, 5, 12},
	{"step that grants anew",
	 HEAD "fs:\n  - {path: /a, access: r}\nsteps:\n  s: {fs: [{path: /b, access: r}]}\n", 303,
	 5, 12},

	/* extends, tests */
	{"extends nothing known", HEAD "extends: codin\n", 401, 2, 10},
	{"a test that asks nothing", HEAD "tests:\n  - {http: \"example.com\", expect: deny}\n",
	 501, 3, 6},
	{"a test of a push without a ref",
	 HEAD "tests:\n  - {git: \"push https://h.example.com/a\", expect: deny}\n", 501, 3, 6},
	{"a test with a relative path", HEAD "tests:\n  - {read: a, expect: deny}\n", 501, 3, 6},
};

static void test_each_wrong_file_is_refused_at_its_place(void **state)
{
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		struct policy *p = parse(refused[i].text);
		const struct policy_findings *f = policy_findings(p);
		const struct policy_finding *first = NULL;
		struct error err = {0};

		for (size_t j = 0; j < f->count && !first; j++)
			if (f->items[j].severity == POLICY_ERROR)
				first = &f->items[j];
		if (!first) {
			print_error("%s: taken\n%s", refused[i].rule, refused[i].text);
			wrong++;
			policy_free(p);
			continue;
		}
		if (first->code != refused[i].code || first->at.line != refused[i].line ||
		    first->at.column != refused[i].column) {
			print_error("%s: got %d:%d: E%04d %s\n%s", refused[i].rule, first->at.line,
				    first->at.column, first->code, first->msg, refused[i].text);
			wrong++;
		}
		assert_int_equal(policy_check(p, &err), -EINVAL);
		assert_int_equal(err.exit_status, EXIT_STATUS_USAGE);
		policy_free(p);
	}
	assert_int_equal(wrong, 0);
}

/* A file with an error never decides anything. */
static void test_a_policy_with_an_error_cannot_be_combined(void **state)
{
	struct policy *p = parse(HEAD "fs:\n  - {path: /a, access: r}\n  - {path: b, access: r}\n");
	struct policy_input input = {POLICY_LAYER_RUN, p};
	struct policy_combine c = {.inputs = &input, .count = 1};
	struct policy_effective *e = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(policy_combine(&c, &e, &err), -EINVAL);
	assert_null(e);
	assert_string_equal(err.where, "f:4:12");
	policy_free(p);
}

static void test_what_is_right_is_taken(void **state)
{
	static const char *const right[] = {
		HEAD,
		HEAD "fs: []\nnet: []\ntools: []\nexec: []\nsteps: {}\nsecrets: {}\ntests: []\n",
		HEAD "fs:\n  - {path: /, access: r}\n  - {path: \"${tmp}/x*\", access: rx}\n",
		NET "http: {host: [a.example.com, \"*.b.example.com\", \"**.c.example.com\"], "
		    "method: GET, path: [/a, /b/*, /c/**]}}\n",
		NET "http: {host: xn--mnchen-3ya.de}}\n",
		NET "http: {host: localhost, scheme: http, port: 8080}, address: [127.0.0.1]}\n",
		NET "http: {host: db.internal}, address: [10.0.0.0/8, \"fd00::/8\"], ca: "
		    "/etc/acme/ca.pem}\n",
		NET "http: {host: a.example.com, json: {/n: {max: 10}, /m: {min: -3}, /s: {in: [a, "
		    "b]}, /g: \"x*\"}}}\n",
		NET "http: {host: a.example.com}, retry: safe, replay: yes, ignore: [/date], rate: "
		    "{count: 5, per: 1m, bytes: 1MiB}}\n",
		NET "http: {host: a.example.com}, retry: {keyed: {header: Idempotency-Key, window: "
		    "24h}}}\n",
		NET "tcp: {host: db.example.com, port: 5432}}\n",
		NET "git: {remote: \"https://github.com/acme/*\", op: fetch}}\n",
		HEAD "exec:\n  - {do: allow, path: /usr/bin/*, argv: [git, {any: [status, diff]}], "
		     "why: looking}\n",
		HEAD "env: {keep: [PATH, \"LC_*\"], set: {CI: \"1\", EMPTY: \"\"}}\n",
		HEAD
		"approvals: {decide_by: 30d, execute_by: 1h, freeze: 30s, suspend: 10m, quorum: 2, "
		"role: ['group:release', 'signer:a@b.example', 'uid:0'], exclude: [starter, \"1000\"], signers: /etc/holdfast/signers}\n",
		HEAD "notify: {run: [mail, ops], on: [opened, expiring]}\n",
		HEAD "contract: {checks: [{run: [make, test], expect: {exit: 0}}], protected: "
		     "[tests/**]}\n",
		HEAD
		"kind: ceiling\nunattended: deny\nbase: pinned\nallow_weaker: [memory, landlock]\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(right); i++)
		policy_free(sound(right[i]));
}

static void test_every_mistake_of_a_file_is_told_at_once(void **state)
{
	struct policy *p = parse("version: 1\nagency: none\nlimits: {wall: 5}\nfs:\n  - {path: a, "
				 "access: q}\n  - {pth: /a}\n");

	(void)state;
	assert_int_equal(policy_findings(p)->errors, 6);
	policy_free(p);
}

static void test_findings_have_a_limit(void **state)
{
	AUTO_BUFFER b = {0};
	struct policy *p;

	(void)state;
	buffer_append_str(&b, HEAD "fs:\n");
	for (int i = 0; i < 1000; i++)
		buffer_append_str(&b, "  - {path: a, access: r}\n");
	p = parse((const char *)b.data);
	assert_int_equal(policy_findings(p)->errors, 1000);
	assert_int_equal(policy_findings(p)->count, POLICY_FINDINGS_MAX + 1);
	policy_free(p);
}

/* The largest file that is taken is still read in a moment; a longer list is refused, not cut. */
static void test_lists_have_a_limit(void **state)
{
	(void)state;
	for (int n = 2000; n <= 2001; n++) {
		AUTO_BUFFER b = {0};
		struct policy *p;

		buffer_append_str(&b, HEAD "fs:\n");
		for (int i = 0; i < n; i++)
			buffer_printf(&b, "  - {path: \"/a/b%d/x*\", access: r}\n", i);
		buffer_append_str(&b, "net:\n");
		for (int i = 0; i < n; i++)
			buffer_printf(&b,
				      "  - {id: r%d, do: deny, http: {host: h%d.example.com}}\n", i,
				      i);
		p = parse((const char *)b.data);
		assert_int_equal(policy_findings(p)->errors, n == 2000 ? 0 : 2);
		if (n == 2001)
			assert_int_equal(policy_findings(p)->items[0].code, 19);
		policy_free(p);
	}
}

static void test_the_nearest_key_is_suggested(void **state)
{
	static const struct {
		const char *text;
		const char *hint;
	} cases[] = {
		{HEAD "nett: []\n", "did you mean 'net'?"},
		{HEAD "agancy: draft\n", "did you mean 'agency'?"},
		{HEAD "fs:\n  - {path: /a, acess: r}\n", "did you mean 'access'?"},
		{HEAD "extends: offlin\n", "did you mean 'offline'?"},
		{NET "http: {hots: a.example.com}}\n", "did you mean 'host'?"},
		{NET "http: {host: a.example.com}}\nsteps:\n  s: {use: [b]}\n", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy *p = parse(cases[i].text);

		assert_int_equal(policy_findings(p)->errors, 1);
		if (cases[i].hint)
			assert_non_null(strstr(policy_findings(p)->items[0].msg, cases[i].hint));
		policy_free(p);
	}
}

static void test_warnings_are_given_where_attention_is_needed(void **state)
{
	static const struct {
		const char *rule;
		const char *text;
		int code, line, column;
	} cases[] = {
		{"a deeper path is wider",
		 HEAD "extends: base\nfs:\n  - {path: /a, access: r}\n  - {path: /a/b, access: "
		      "stage}\n",
		 601, 5, 5},
		{"rw", HEAD "extends: base\nfs:\n  - {path: /a, access: rw}\n", 602, 4, 16},
		{"no program of the system",
		 HEAD "fs:\n  - {path: /b, access: none}\n  - {path: \"${workspace}\", access: "
		      "stage}\n  - {path: /usr, access: rx}\n",
		 609, 4, 5},
		{"reversible gated like irreversible",
		 HEAD "net:\n  - {id: a, do: ask, effect: reversible, undo: {text: t}, http: "
		      "{host: a.example.com}}\n",
		 603, 3, 13},
		{"a secret from elsewhere", NET "http: {host: a.example.com}, secret: s}\n", 604, 3,
		 5},
		{"irreversible and allowed",
		 NET "effect: irreversible, http: {host: a.example.com}}\n", 605, 3, 13},
		{"a limit above the inherited one", HEAD "extends: base\nlimits: {wall: 1000h}\n",
		 606, 3, 9},
		{"a variable that is kept and a secret",
		 HEAD "env: {keep: [PATH, \"T_*\"]}\nsecrets:\n  s: {from: {env: T_X}, to: "
		      "[a.example.com], header: X-Key}\n",
		 608, 4, 13},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy *p = parse(cases[i].text);
		const struct policy_findings *f = policy_findings(p);

		if (f->count != 1 || f->errors || f->items[0].severity != POLICY_WARNING ||
		    f->items[0].code != cases[i].code || f->items[0].at.line != cases[i].line ||
		    f->items[0].at.column != cases[i].column)
			fail_msg("%s: %zu findings; first W%04d %d:%d %s", cases[i].rule, f->count,
				 f->count ? f->items[0].code : 0,
				 f->count ? f->items[0].at.line : 0,
				 f->count ? f->items[0].at.column : 0,
				 f->count ? f->items[0].msg : "");
		policy_free(p);
	}
}

static int lookup_text(void *arg, const char *name, struct bytes *ret_text, const char **ret_file)
{
	const char *const *table = arg;

	for (; *table; table += 2)
		if (strcmp(table[0], name) == 0) {
			*ret_text = bytes_str(table[1]);
			*ret_file = name;
			return 0;
		}
	return -ENOENT;
}

static void test_extends_goes_in_circles_nowhere(void **state)
{
	const char *const files[] = {
		"a",	HEAD "extends: b\n",	"b",  HEAD "extends: a\n", "bad", HEAD "fs: 1\n",
		"good", HEAD "agency: draft\n", NULL,
	};
	const struct policy_lookup lookup = {lookup_text, (void *)files};
	static const struct {
		const char *text;
		int code;
	} cases[] = {{HEAD "extends: a\n", 403},
		     {HEAD "extends: bad\n", 403},
		     {HEAD "extends: c\n", 401}};
	struct policy *p;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(policy_parse(bytes_str(cases[i].text), "f", &lookup, &p), 0);
		assert_int_equal(policy_findings(p)->errors, 1);
		assert_int_equal(policy_findings(p)->items[0].code, cases[i].code);
		policy_free(p);
	}
	assert_int_equal(policy_parse(bytes_str(HEAD "extends: [good, base, base]\n"), "f", &lookup,
				      &p),
			 0);
	assert_int_equal(policy_findings(p)->count, 0);
	policy_free(p);
}

static void test_durations_and_sizes(void **state)
{
	static const struct {
		const char *text;
		int ret;
		uint64_t v;
	} durations[] = {
		{"0s", 0, 0},	      {"250ms", 0, 250},      {"1h30m", 0, 5400000},
		{"7d", 0, 604800000}, {"1w1d", 0, 691200000}, {"1s1ms", 0, 1001},
		{"", -EINVAL, 0},     {"5", -EINVAL, 0},      {"m", -EINVAL, 0},
		{"1m1m", -EINVAL, 0}, {"01s", -EINVAL, 0},    {"1S", -EINVAL, 0},
		{"-1s", -EINVAL, 0},  {"1.5h", -EINVAL, 0},   {"99999999999999999999s", -ERANGE, 0},
	};
	static const struct {
		const char *text;
		int ret;
		uint64_t v;
	} sizes[] = {
		{"0", 0, 0},
		{"512", 0, 512},
		{"4GiB", 0, 4ULL << 30},
		{"10MB", 0, 10000000},
		{"1B", 0, 1},
		{"", -EINVAL, 0},
		{"GiB", -EINVAL, 0},
		{"4 GiB", -EINVAL, 0},
		{"4gib", -EINVAL, 0},
		{"4GiB1", -EINVAL, 0},
		{"99999999TiB", -ERANGE, 0},
	};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(durations); i++) {
		v = 0;
		assert_int_equal(policy_duration_parse(bytes_str(durations[i].text), &v),
				 durations[i].ret);
		assert_int_equal(v, durations[i].v);
	}
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		v = 0;
		assert_int_equal(policy_size_parse(bytes_str(sizes[i].text), &v), sizes[i].ret);
		assert_int_equal(v, sizes[i].v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_wrong_file_is_refused_at_its_place),
		cmocka_unit_test(test_a_policy_with_an_error_cannot_be_combined),
		cmocka_unit_test(test_what_is_right_is_taken),
		cmocka_unit_test(test_every_mistake_of_a_file_is_told_at_once),
		cmocka_unit_test(test_findings_have_a_limit),
		cmocka_unit_test(test_lists_have_a_limit),
		cmocka_unit_test(test_the_nearest_key_is_suggested),
		cmocka_unit_test(test_warnings_are_given_where_attention_is_needed),
		cmocka_unit_test(test_extends_goes_in_circles_nowhere),
		cmocka_unit_test(test_durations_and_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
