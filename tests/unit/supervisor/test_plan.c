/*
 * Plans: every rule of holdfast-plan(5) with a plan that breaks it, at the place where it is
 * broken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "base/guard.h"
#include "base/yaml.h"
#include "policy/policy.h"
#include "supervisor/plan.h"
#include "tests/golden.h"

#define HEAD "version: 1\nsteps:\n"
#define STEP HEAD "  - name: a\n    run: [true]\n"

static void wrong(const char *text, size_t len, const char *where, const char *msg)
{
	AUTO(plan_free) struct plan *p = NULL;
	struct error err = {0};
	int r = plan_parse(bytes_of(text, len), "p.yaml", &p, &err);

	if (r >= 0)
		fail_msg("accepted: %.200s", text);
	assert_null(p);
	if (err.exit_status != EXIT_STATUS_USAGE || strcmp(err.where, where) != 0 ||
	    !strstr(err.msg, msg))
		fail_msg("%.200s\nwanted %s: %s\ngot    %s: %s (exit %d)", text, where, msg,
			 err.where, err.msg, err.exit_status);
}

/* Each row: a plan, where the error must point, words of its message. */
static const struct {
	const char *text, *where, *msg;
} wrong_plans[] = {
	/* the whole */
	{"", "p.yaml:1:1", "E0008"},
	{"[]", "p.yaml:1:1", "must be a mapping"},
	{"steps: []\n", "p.yaml:1:1", "no version"},
	{"version: 2\nsteps: []\n", "p.yaml:1:10", "version must be 1"},
	{"version: 1\n", "p.yaml:1:1", "no steps"},
	{"version: 1\nsteps: []\n", "p.yaml:2:8", "there is none"},
	{"version: 1\nsteps: a\n", "p.yaml:2:8", "must be a list"},
	{STEP "stpes: 1\n", "p.yaml:5:1", "did you mean 'steps'?"},
	{STEP "zzz: 1\n", "p.yaml:5:1", "unknown key 'zzz'"},
	{STEP "agency: assit\n", "p.yaml:5:9", "did you mean 'assist'?"},
	{STEP "agency: 3\n", "p.yaml:5:9", "observe, draft"},
	{STEP "land: maybe\n", "p.yaml:5:7", "auto, ask, never"},
	{STEP "base: frozen\n", "p.yaml:5:7", "live, pinned"},
	{STEP "name: a/b\n", "p.yaml:5:7", "cannot be a name"},
	{STEP "name: ''\n", "p.yaml:5:7", "is empty"},
	{STEP "name: [a]\n", "p.yaml:5:7", "must be text"},
	{STEP "policy: [a]\n", "p.yaml:5:9", "a file's path or a policy"},
	{STEP "workspace:\n", "p.yaml:5:11", "is empty"},
	/* what YAML has too much of */
	{STEP "name: &x a\n", "p.yaml:5:7", "E0004"},
	{STEP "name: *x\n", "p.yaml:5:7", "E0004"},
	{STEP "name: !!str a\n", "p.yaml:5:7", "E0004"},
	{STEP "name: a\nname: b\n", "p.yaml:6:1", "E0003"},
	{STEP "<<: {name: a}\n", "p.yaml:5:1", "E0004"},
	{STEP "---\nversion: 1\n", "p.yaml:5:1", "E0005"},
	{STEP "name: \"a\xe2\x80\xae\"\n", "p.yaml:5:9", "E0002"},
	{STEP "name: \"a\\u202e\"\n", "p.yaml:5:7", "E0002"},
	{STEP "name: \"a\x01\"\n", "p.yaml:5:9", "E0002"},
	{STEP "name: a\xff\n", "p.yaml:5:8", "E0002"},
	{STEP "name: \"a\xe2\x80\x8b\"\n", "p.yaml:5:9", "E0002"},
	/* a step */
	{HEAD "  - a\n", "p.yaml:3:5", "must be a mapping"},
	{HEAD "  - {run: [a]}\n", "p.yaml:3:5", "no name"},
	{HEAD "  - {name: a}\n", "p.yaml:3:5", "has no run"},
	/* a key that is missing because it is misspelt */
	{HEAD "  - {name: a, rum: b}\n", "p.yaml:3:15", "unknown key 'rum'; did you mean 'run'?"},
	{HEAD "  - {nmae: a, run: b}\n", "p.yaml:3:6", "did you mean 'name'?"},
	{"verison: 1\nsteps: []\n", "p.yaml:1:1", "did you mean 'version'?"},
	{"version: 1\nstep: []\n", "p.yaml:2:1", "did you mean 'steps'?"},
	{STEP "    contract: {checks: [{rum: x}]}\n", "p.yaml:5:26", "did you mean 'run'?"},
	{HEAD "  - {name: 'a#1', run: b}\n", "p.yaml:3:12", "cannot be a name"},
	{HEAD "  - {name: .., run: b}\n", "p.yaml:3:12", "cannot be a name"},
	{HEAD "  - {name: a, run: b}\n  - {name: b, run: b}\n  - {name: a, run: b}\n",
	 "p.yaml:5:12", "already there, at line 3"},
	{STEP "    nedes: [b]\n", "p.yaml:5:5", "did you mean 'needs'?"},
	{HEAD "  - {name: a, run: }\n", "p.yaml:3:20", "is empty"},
	{HEAD "  - {name: a, run: []}\n", "p.yaml:3:20", "is empty"},
	{HEAD "  - {name: a, run: ['']}\n", "p.yaml:3:20", "is empty"},
	{HEAD "  - {name: a, run: {x: y}}\n", "p.yaml:3:20", "must be a list"},
	{HEAD "  - {name: a, run: [[a]]}\n", "p.yaml:3:21", "must be text"},
	{STEP "    cwd: ../x\n", "p.yaml:5:10", "below the workspace"},
	{STEP "    cwd: x/..\n", "p.yaml:5:10", "below the workspace"},
	{STEP "    cwd: /x\n", "p.yaml:5:10", "below the workspace"},
	{STEP "    gate: maybe\n", "p.yaml:5:11", "none, ask, commit"},
	{STEP "    timeout: 0s\n", "p.yaml:5:14", "longer than nothing"},
	{STEP "    timeout: 10\n", "p.yaml:5:14", "a duration"},
	{STEP "    timeout: 10s5m\n", "p.yaml:5:14", "a duration"},
	{STEP "    timeout: -1s\n", "p.yaml:5:14", "a duration"},
	{STEP "    timeout: 400d\n", "p.yaml:5:14", "longer than 366d"},
	{STEP "    timeout: 99999999999999999999s\n", "p.yaml:5:14", "longer than 366d"},
	{STEP "    timeout: [1s]\n", "p.yaml:5:14", "a duration"},
	{STEP "    deadline: 1y\n", "p.yaml:5:15", "a duration"},
	/* needs */
	{STEP "    needs: b\n", "p.yaml:5:12", "must be a list"},
	{STEP "    needs: [b]\n", "p.yaml:5:13", "no step is called 'b'"},
	{STEP "    needs: [a]\n", "p.yaml:5:13", "cannot need itself"},
	{HEAD "  - {name: edit, run: x}\n  - {name: b, run: x, needs: [edti]}\n", "p.yaml:4:31",
	 "did you mean 'edit'?"},
	{HEAD "  - {name: a, run: x}\n  - {name: b, run: x, needs: [a, a]}\n", "p.yaml:4:34",
	 "given twice"},
	{HEAD "  - {name: a, run: x, needs: [b]}\n  - {name: b, run: x, needs: [a]}\n",
	 "p.yaml:3:12", "a cycle: 'a' needs 'b' needs 'a'"},
	{HEAD "  - {name: x, run: x, needs: [a]}\n  - {name: a, run: x, needs: [b]}\n"
	      "  - {name: b, run: x, needs: [c]}\n  - {name: c, run: x, needs: [a]}\n",
	 "p.yaml:4:12", "'a' needs 'b' needs 'c' needs 'a'"},
	{HEAD "  - {name: a, run: x, stdin: {from: b}}\n  - {name: b, run: x, needs: [a]}\n",
	 "p.yaml:3:12", "a cycle"},
	/* stdin */
	{STEP "    stdin: x\n", "p.yaml:5:12", "must be a mapping"},
	{STEP "    stdin: {}\n", "p.yaml:5:12", "one of from, file and text"},
	{STEP "    stdin: {text: a, file: b}\n", "p.yaml:5:12", "one of from, file and text"},
	{STEP "    stdin: {from: zz}\n", "p.yaml:5:19", "no step is called 'zz'"},
	{STEP "    stdin: {form: a}\n", "p.yaml:5:13", "did you mean 'from'?"},
	{STEP "    stdin: {text: [a]}\n", "p.yaml:5:19", "must be text"},
	/* env */
	{STEP "    env: [a]\n", "p.yaml:5:10", "must be a mapping"},
	{STEP "    env: {'1A': b}\n", "p.yaml:5:11", "not a variable's name"},
	{STEP "    env: {A=B: b}\n", "p.yaml:5:11", "not a variable's name"},
	{STEP "    env: {A: [b]}\n", "p.yaml:5:14", "must be text"},
	{STEP "    env: {A: b, A: c}\n", "p.yaml:5:17", "E0003"},
	/* retry */
	{STEP "    retry: 3\n", "p.yaml:5:12", "must be a mapping"},
	{STEP "    retry: {max: 0}\n", "p.yaml:5:18", "from 1 to 1000"},
	{STEP "    retry: {max: 1001}\n", "p.yaml:5:18", "from 1 to 1000"},
	{STEP "    retry: {max: 03}\n", "p.yaml:5:18", "from 1 to 1000"},
	{STEP "    retry: {max: 18446744073709551617}\n", "p.yaml:5:18", "from 1 to 1000"},
	{STEP "    retry: {max: -1}\n", "p.yaml:5:18", "from 1 to 1000"},
	{STEP "    retry: {backoff: 10s..1s}\n", "p.yaml:5:22", "ends before it begins"},
	{STEP "    retry: {backoff: 1s..}\n", "p.yaml:5:22", "a duration"},
	{STEP "    retry: {backoff: [1s]}\n", "p.yaml:5:22", "a duration"},
	{STEP "    retry: {on: exit}\n", "p.yaml:5:17", "must be a list"},
	{STEP "    retry: {on: [exits]}\n", "p.yaml:5:18", "did you mean 'exit'?"},
	{STEP "    retry: {on: [exit, exit]}\n", "p.yaml:5:24", "given twice"},
	{STEP "    retry: {maxx: 1}\n", "p.yaml:5:13", "did you mean 'max'?"},
	/* contract */
	{STEP "    contract: {checks: [{expect: {exit: 0}}]}\n", "p.yaml:5:25", "has no run"},
	{STEP "    contract: {checks: [{run: x, expect: {exit: 256}}]}\n", "p.yaml:5:49",
	 "from 0 to 255"},
	{STEP "    contract: {checks: [{run: x, expect: {exti: 1}}]}\n", "p.yaml:5:43",
	 "did you mean 'exit'?"},
	{STEP "    contract: {protected: [../x]}\n", "p.yaml:5:28", "below the workspace"},
	{STEP "    contract: {protected: [/x]}\n", "p.yaml:5:28", "below the workspace"},
	{STEP "    contract: {check: []}\n", "p.yaml:5:16", "did you mean 'checks'?"},
};

static void test_wrong_plans_are_refused_where_they_are_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong_plans); i++)
		wrong(wrong_plans[i].text, strlen(wrong_plans[i].text), wrong_plans[i].where,
		      wrong_plans[i].msg);
}

static void test_huge_and_deep_plans_are_refused(void **state)
{
	AUTO_BUFFER b = {.max = 128 * 1024 * 1024};
	(void)state;

	buffer_append_str(&b, STEP "    stdin: {text: \"");
	while (b.len < 100 * 1024 * 1024)
		buffer_append(&b,
			      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
			      64);
	buffer_append_str(&b, "\"}\n");
	wrong((char *)b.data, b.len, "p.yaml:1:1", "E0006");
	buffer_free(&b);

	b.max = 1024 * 1024;
	buffer_append_str(&b, "version: 1\npolicy: ");
	for (int i = 0; i < 10000; i++)
		buffer_append_str(&b, "[");
	wrong((char *)b.data, b.len, "p.yaml:2:40", "E0006");
	buffer_free(&b);

	buffer_append_str(&b, HEAD);
	for (int i = 0; i < 10001; i++)
		buffer_printf(&b, "  - {name: s%d, run: x}\n", i);
	wrong((char *)b.data, b.len, "p.yaml:3:3", "10001 items; at most 10000");
}

static const char whole[] =
	"version: 1\n"
	"name: fix-42\n"
	"policy: policy.yaml\n"
	"workspace: .\n"
	"base: pinned\n"
	"agency: assist\n"
	"land: ask\n"
	"steps:\n"
	"  - name: plan\n"
	"    run: [./agent, plan]\n"
	"    stdin: {text: \"fix it\\n\"}\n"
	"  - name: edit\n"
	"    stdin: {from: plan}\n"
	"    run: ./agent edit\n"
	"    cwd: src\n"
	"    env: {B: '', A: '1'}\n"
	"    retry: {max: 5, backoff: 250ms..1h30m, on: [timeout, exit], same_failure: 2}\n"
	"    timeout: 10m\n"
	"    deadline: 1d\n"
	"    contract: {checks: [{run: [make, test], expect: {exit: 0}}], protected: [tests/**]}\n"
	"  - name: publish\n"
	"    needs: [edit, plan]\n"
	"    gate: ask\n"
	"    run: [git, push]\n";

static struct plan *parsed(const char *text)
{
	struct plan *p = NULL;
	struct error err = {0};

	if (plan_parse(bytes_str(text), "p.yaml", &p, &err) < 0)
		fail_msg("%s: %s", err.where, err.msg);
	return p;
}

static void test_every_key_arrives(void **state)
{
	AUTO(plan_free) struct plan *p = parsed(whole);
	const struct plan_step *s = &p->steps[1];
	(void)state;

	assert_string_equal(p->name, "fix-42");
	assert_string_equal(p->policy_path, "policy.yaml");
	assert_string_equal(p->workspace, ".");
	assert_int_equal(p->base, 1);
	assert_int_equal(p->agency, 2);
	assert_int_equal(p->land, 1);
	assert_int_equal(p->step_count, 3);
	assert_string_equal(p->steps[0].argv[1], "plan");
	assert_string_equal(p->steps[0].stdin_text, "fix it\n");
	assert_int_equal(p->steps[0].retry.max, 3);
	assert_int_equal(p->steps[0].retry.on, PLAN_ON_INFRA);
	assert_int_equal(p->steps[0].retry.first_ms, 1000);
	assert_int_equal(p->steps[0].retry.cap_ms, 60000);
	assert_string_equal(s->argv[0], "/bin/sh");
	assert_string_equal(s->argv[2], "./agent edit");
	assert_string_equal(s->needs[0], "plan"); /* who reads a step's output needs it */
	assert_null(s->needs[1]);
	assert_string_equal(s->cwd, "src");
	assert_string_equal(s->env[0].name, "A"); /* sorted */
	assert_string_equal(s->env[1].value, "");
	assert_int_equal(s->retry.max, 5);
	assert_int_equal(s->retry.first_ms, 250);
	assert_int_equal(s->retry.cap_ms, 5400000);
	assert_int_equal(s->retry.on, PLAN_ON_TIMEOUT | PLAN_ON_EXIT);
	assert_int_equal(s->retry.same_failure, 2);
	assert_int_equal(s->timeout_ms, 600000);
	assert_int_equal(s->deadline_ms, 86400000);
	assert_string_equal(s->checks[0].argv[0], "make");
	assert_string_equal(s->protected_globs[0], "tests/**");
	assert_int_equal(p->steps[2].gate, PLAN_GATE_ASK);
	assert_int_equal(plan_find(p, bytes_str("edit")), 1);
	assert_int_equal(plan_find(p, bytes_str("nope")), -ENOENT);
}

static void test_retry_that_is_said_covers_every_kind(void **state)
{
	AUTO(plan_free) struct plan *p = parsed(STEP "    retry: {max: 2, backoff: 90s}\n");
	(void)state;

	assert_int_equal(p->steps[0].retry.on, PLAN_ON_ALL);
	assert_int_equal(p->steps[0].retry.first_ms, 90000);
	assert_int_equal(p->steps[0].retry.cap_ms, 90000);
}

static void test_an_inline_policy_keeps_its_lines_and_its_meaning(void **state)
{
	AUTO(plan_free)
	struct plan *p = parsed("version: 1\n"
				"policy:\n"
				"  version: 1\n"
				"  name: ~\n"
				"  fs:\n"
				"    - {path: \"a\\\"b\", access: r}\n"
				"steps:\n"
				"  - {name: a, run: x}\n");
	struct yaml_doc *doc = NULL;
	struct yaml_node *root, *item;
	(void)state;

	assert_int_equal(p->policy_at.line, 3);
	assert_string_equal(p->policy_text, "\n\n  version: 1\n"
					    "  name: ~\n"
					    "  fs:\n"
					    "    - {path: \"a\\\"b\", access: r}\n");
	assert_int_equal(yaml_parse(bytes_of(p->policy_text, p->policy_text_len), "p.yaml", &doc,
				    NULL),
			 0);
	root = yaml_root(doc);
	assert_int_equal(root->line, 3);
	assert_false(yaml_get(root, "name")->quoted);
	item = yaml_get(root, "fs")->items[0];
	assert_string_equal(yaml_get(item, "path")->text.data, "a\"b");
	assert_int_equal(yaml_get(item, "access")->line, 6);
	yaml_doc_free(doc);
}

static void test_an_inline_policy_is_cut_out_whole_in_every_style(void **state)
{
	static const struct {
		const char *plan, *text;
	} cases[] = {
		{"version: 1\npolicy: {version: 1, name: x}\nsteps:\n  - {name: a, run: x}\n",
		 "\n        {version: 1, name: x}\n"},
		{"policy:\n    name: x # why\n\n# more\nversion: 1\nsteps:\n  - {name: a, run: "
		 "x}\n",
		 "\n    name: x # why\n\n# more\n"},
		{"version: 1\nsteps:\n  - {name: a, run: x}\npolicy:\n  name: \"\xc3\xa9\"\n  env: "
		 "{}",
		 "\n\n\n\n  name: \"\xc3\xa9\"\n  env: {}"},
		/* one flow mapping: written again */
		{"{version: 1, policy: {name: ~, fs: [r]},\n steps: [{name: a, run: x}]}",
		 "                     {\"name\": null,\"fs\": [\"r\"]}\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		AUTO(plan_free) struct plan *p = parsed(cases[i].plan);

		assert_string_equal(p->policy_text, cases[i].text);
	}
}

static void resolve_text(struct plan_step *s)
{
	digest_of(bytes_of(s->stdin_text, s->stdin_text_len), &s->stdin_blob);
	free(s->stdin_text);
	s->stdin_text = NULL;
	s->stdin_text_len = 0;
}

static void test_the_canonical_form_comes_back_byte_for_byte(void **state)
{
	AUTO(plan_free) struct plan *p = parsed(whole);
	AUTO(plan_free) struct plan *again = NULL;
	AUTO(plan_step_free) struct plan_step *step = NULL;
	AUTO_BUFFER a = {0}, b = {0}, c = {0}, d = {0};
	(void)state;

	assert_int_equal(plan_encode(p, &a), -EINVAL); /* its text is no blob yet */
	buffer_free(&a);
	resolve_text(&p->steps[0]);
	assert_int_equal(plan_encode(p, &a), 0);
	assert_int_equal(cbor_validate(buffer_bytes(&a)), 0);
	golden_check("supervisor/plan.whole.cbor", buffer_bytes(&a));
	assert_int_equal(plan_decode(buffer_bytes(&a), &again), 0);
	assert_int_equal(plan_encode(again, &b), 0);
	assert_true(bytes_equal(buffer_bytes(&a), buffer_bytes(&b)));
	again->steps[1].retry.max = 6;
	b.len = 0;
	assert_int_equal(plan_encode(again, &b), 0);
	assert_false(bytes_equal(buffer_bytes(&a), buffer_bytes(&b)));

	assert_int_equal(plan_step_encode(&p->steps[1], &c), 0);
	golden_check("supervisor/plan-step.edit.cbor", buffer_bytes(&c));
	assert_int_equal(plan_step_decode(buffer_bytes(&c), &step), 0);
	assert_int_equal(plan_step_encode(step, &d), 0);
	assert_true(bytes_equal(buffer_bytes(&c), buffer_bytes(&d)));
	for (size_t cut = 0; cut < a.len; cut++) {
		struct plan *none = NULL;
		assert_true(plan_decode(bytes_of(a.data, cut), &none) < 0);
		assert_null(none);
	}
}

static void test_a_hand_made_plan_is_held_to_the_same_rules(void **state)
{
	AUTO(plan_free)
	struct plan *p = parsed(HEAD "  - {name: a, run: x}\n"
				     "  - {name: b, run: x, needs: [a]}\n");
	struct error err = {0};
	(void)state;

	assert_int_equal(plan_check(p, NULL, &err), 0);
	p->steps[0].name[0] = 'b';
	assert_int_equal(plan_check(p, NULL, &err), -EINVAL);
	assert_int_equal(err.exit_status, EXIT_STATUS_USAGE);
	p->steps[0].name[0] = 'c';
	assert_int_equal(plan_check(p, NULL, NULL), -EINVAL); /* b needs a, which is gone */
	p->steps[1].needs[0][0] = 'c';
	assert_int_equal(plan_check(p, NULL, NULL), 0);
	p->steps[0].retry.max = 0;
	assert_int_equal(plan_check(p, NULL, NULL), -EINVAL);
}

static void test_many_steps_are_checked_quickly(void **state)
{
	AUTO_BUFFER b = {0};
	AUTO(plan_free) struct plan *p = NULL;
	(void)state;

	buffer_append_str(&b, HEAD);
	for (int i = 9999; i >= 0; i--)
		buffer_printf(&b,
			      i < 9999 ? "  - {name: s%d, run: x, needs: [s%d]}\n"
				       : "  - {name: s%d, run: x}\n",
			      i, i + 1);
	p = parsed((char *)b.data);
	assert_int_equal(p->step_count, 10000);
	assert_int_equal(plan_find(p, bytes_str("s0")), 9999);
}

static void test_the_examples_are_right(void **state)
{
	static const char *const dirs[] = {"examples/plans", "examples/fix-bug"};
	size_t seen = 0;
	(void)state;

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		AUTO_BUFFER path = {0};
		AUTO_DIR d = NULL;
		const struct dirent *entry;

		buffer_printf(&path, "%s/%s", SOURCE_ROOT, dirs[i]);
		d = opendir((char *)path.data);
		assert_non_null(d);
		while ((entry = readdir(d))) {
			AUTO(plan_free) struct plan *p = NULL;
			AUTO(policy_free) struct policy *policy = NULL;
			AUTO_BUFFER text = {0};
			struct error err = {0};

			if (!strstr(entry->d_name, ".yaml") ||
			    strcmp(entry->d_name, "policy.yaml") == 0)
				continue;
			assert_int_equal(io_read_file_at(dirfd(d), entry->d_name, YAML_BYTES_MAX,
							 &text),
					 0);
			if (plan_parse(buffer_bytes(&text), entry->d_name, &p, &err) < 0)
				fail_msg("%s: %s", err.where, err.msg);
			seen++;
			if (!p->policy_text)
				continue;
			assert_int_equal(policy_parse(bytes_of(p->policy_text, p->policy_text_len),
						      entry->d_name, NULL, &policy),
					 0);
			if (policy_check(policy, &err) < 0)
				fail_msg("%s: %s", err.where, err.msg);
		}
	}
	assert_true(seen >= 4);
}

static void test_an_inline_policy_is_wrong_where_it_stands_in_the_plan(void **state)
{
	AUTO(plan_free)
	struct plan *p = parsed(
		"version: 1\npolicy:\n  version: 1\n  naem: x\nsteps:\n  - {name: a, run: x}\n");
	AUTO(policy_free) struct policy *policy = NULL;
	struct error err = {0};
	(void)state;

	assert_int_equal(policy_parse(bytes_of(p->policy_text, p->policy_text_len), "p.yaml", NULL,
				      &policy),
			 0);
	assert_true(policy_check(policy, &err) < 0);
	assert_string_equal(err.where, "p.yaml:4:3");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong_plans_are_refused_where_they_are_wrong),
		cmocka_unit_test(test_huge_and_deep_plans_are_refused),
		cmocka_unit_test(test_every_key_arrives),
		cmocka_unit_test(test_retry_that_is_said_covers_every_kind),
		cmocka_unit_test(test_an_inline_policy_keeps_its_lines_and_its_meaning),
		cmocka_unit_test(test_an_inline_policy_is_cut_out_whole_in_every_style),
		cmocka_unit_test(test_the_canonical_form_comes_back_byte_for_byte),
		cmocka_unit_test(test_a_hand_made_plan_is_held_to_the_same_rules),
		cmocka_unit_test(test_many_steps_are_checked_quickly),
		cmocka_unit_test(test_the_examples_are_right),
		cmocka_unit_test(test_an_inline_policy_is_wrong_where_it_stands_in_the_plan),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
