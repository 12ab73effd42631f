/*
 * A step never widens, and no layer does: over generated policies, steps and requests, what a step
 * may do is never more than what its run may, and what more layers allow is never more than what
 * fewer do.
 */
#include "tests/unit/policy/policy_test.h"

/* xorshift64*: the same policies on every machine; a failure prints the round. */
static uint64_t seed;

static uint32_t draw(uint32_t below)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (uint32_t)((seed * 0x2545f4914f6cdd1dULL) >> 33) % below;
}

static const char *one_of(const char *const *words)
{
	uint32_t n = 0;

	while (words[n])
		n++;
	return words[draw(n)];
}

static const char *const agencies[] = {"observe", "draft", "assist", "trusted", "autonomous", NULL};
static const char *const verdicts[] = {"allow", "ask", "deny", NULL};
static const char *const accesses[] = {"none", "r", "rx", "scratch", "stage", "rw", NULL};
static const char *const paths[] = {"/usr",
				    "/usr/lib",
				    "${workspace}",
				    "${workspace}/a",
				    "${workspace}/a/b",
				    "${workspace}/*.key",
				    "${workspace}/a/x*",
				    "${home}",
				    "${home}/.x",
				    NULL};
static const char *const hosts[] = {"a.example", "b.example", "\"*.c.example\"", "\"**.c.example\"",
				    NULL};
static const char *const effects[] = {"", ", effect: read", ", effect: irreversible",
				      ", effect: reversible, undo: {text: t}", NULL};
static const char *const methods[] = {"GET", "POST", "[GET, PUT]", NULL};
enum { RULES = 4, STEPS = 3 };

static void add_fs(struct buffer *b, const char *indent)
{
	bool used[ARRAY_SIZE(paths)] = {false};

	for (uint32_t n = draw(5); n > 0; n--) {
		uint32_t i = draw(ARRAY_SIZE(paths) - 1);

		if (used[i])
			continue;
		used[i] = true;
		buffer_printf(b, "%s- {path: \"%s\", access: %s}\n", indent, paths[i],
			      one_of(accesses));
	}
}

static void add_step(struct buffer *b, const char *name)
{
	buffer_printf(b, "  \"%s\":\n    agency: %s\n", name, one_of(agencies));
	if (draw(2)) {
		buffer_append_str(b, "    use: [");
		for (int i = 0, some = 0; i < RULES; i++)
			if (draw(2))
				buffer_printf(b, "%sr%d", some++ ? ", " : "", i);
		buffer_append_str(b, "]\n");
	}
	if (draw(2))
		buffer_printf(b, "    limits: {wall: %um, pids: %u}\n", 1 + draw(60),
			      2 + draw(100));
	if (draw(2)) {
		buffer_append_str(b, "    fs:\n    - {path: /usr, access: none}\n");
		if (draw(2))
			buffer_printf(b, "    - {path: \"${workspace}/a\", access: %s}\n",
				      one_of(accesses));
	}
}

/* A policy that may well have errors (steps that widen); those are left out by the caller. */
static char *generate(void)
{
	struct buffer b = {0};

	buffer_printf(&b, "version: 1\nagency: %s\n", one_of(agencies));
	if (draw(4) == 0)
		buffer_append_str(&b, "kind: ceiling\n");
	if (draw(2))
		buffer_printf(&b, "limits: {wall: %um, pids: %u}\n", 1 + draw(60), 2 + draw(100));
	if (draw(5)) {
		buffer_append_str(&b, "fs:\n");
		buffer_append_str(&b, "  - {path: /opt, access: rx}\n");
		add_fs(&b, "  ");
	}
	if (draw(5)) {
		buffer_append_str(&b, "net:\n");
		for (int i = 0; i < RULES; i++)
			buffer_printf(&b, "  - {id: r%d, do: %s, http: {host: %s, method: %s}%s}\n",
				      i, one_of(verdicts), one_of(hosts), one_of(methods),
				      one_of(effects));
	}
	if (draw(4) == 0)
		buffer_printf(&b, "exec:\n  - {do: %s, path: /usr/bin/x}\n", one_of(verdicts));
	if (draw(2)) {
		buffer_append_str(&b, "steps:\n");
		add_step(&b, "s*");
		if (draw(2))
			add_step(&b, "s1");
		add_step(&b, "other");
	}
	return buffer_take(&b, NULL);
}

/* A generated policy without errors; steps that widen are refused at their line, which test_grammar
 * shows. */
static struct policy *generate_sound(void)
{
	for (;;) {
		AUTO_FREE char *text = generate();
		struct policy *p = parse(text);

		if (policy_findings(p)->errors == 0)
			return p;
		policy_free(p);
	}
}

static const char *const requests[] = {
	"http GET https://a.example/",
	"http POST https://a.example/",
	"http PUT https://b.example/x",
	"http GET https://x.c.example/",
	"http GET https://x.y.c.example/",
	"http DELETE https://a.example/",
	"http GET https://none.example/",
	"read /usr/lib/x",
	"write ${workspace}/f",
	"write ${workspace}/a/f",
	"write ${workspace}/a/b/f",
	"read ${workspace}/s.key",
	"write ${workspace}/a/xx",
	"read ${home}/.x/y",
	"read ${home}/z",
	"write ${home}/z",
	"exec /usr/bin/x",
	"exec /opt/x",
	"exec ${workspace}/a/b/x",
};

static struct policy_effective *combine_policies(struct policy *const *p,
						 const enum policy_layer *layers, size_t n)
{
	struct policy_input inputs[4];
	struct policy_combine c = {.inputs = inputs, .count = n};
	struct policy_effective *e = NULL;
	struct error err = {0};

	for (size_t i = 0; i < n; i++)
		inputs[i] = (struct policy_input){layers[i], p[i]};
	if (policy_combine(&c, &e, &err) < 0)
		fail_msg("%s: %s", err.where, err.msg);
	return e;
}

static void expect_no_wider(const struct policy_effective *narrow,
			    const struct policy_effective *wide, const char *what)
{
	struct policy_settings a, b;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		struct policy_decision n = ask(narrow, requests[i]);
		struct policy_decision w = ask(wide, requests[i]);

		if (n.verdict < w.verdict)
			fail_msg("%s: %s: %s, but %s without it (%s)", what, requests[i],
				 policy_verdict_name(n.verdict), policy_verdict_name(w.verdict),
				 w.why);
	}
	policy_settings(narrow, &a);
	policy_settings(wide, &b);
	assert_true(a.agency <= b.agency);
	for (int l = 0; l < POLICY_LIMIT_COUNT; l++)
		assert_true(!b.limits.value[l] ||
			    (a.limits.value[l] && a.limits.value[l] <= b.limits.value[l]));
}

/* Every path and every access of the step's table lies within the run's. */
static void expect_files_within(const struct policy_effective *narrow,
				const struct policy_effective *wide)
{
	AUTO(policy_fs_free) struct policy_fs *n = NULL;
	AUTO(policy_fs_free) struct policy_fs *w = NULL;
	size_t count;
	const struct policy_mount *m;

	assert_int_equal(policy_fs_new(narrow, &vars, &n, NULL), 0);
	assert_int_equal(policy_fs_new(wide, &vars, &w, NULL), 0);
	m = policy_fs_table(n, &count);
	for (size_t i = 0; i < count; i++)
		for (enum policy_want want = POLICY_WANT_READ; want <= POLICY_WANT_REMOVE; want++) {
			struct policy_fs_decision dn, dw;

			policy_fs_decide(n, bytes_str(m[i].path), want, &dn);
			policy_fs_decide(w, bytes_str(m[i].path), want, &dw);
			if (dn.verdict < dw.verdict ||
			    (want <= POLICY_WANT_WRITE && dn.access > dw.access))
				fail_msg("%s, want %d: %s (%s), but %s (%s) without the step",
					 m[i].path, want, policy_access_name(dn.access), dn.why,
					 policy_access_name(dw.access), dw.why);
		}
}

static void test_a_step_never_widens(void **state)
{
	static const enum policy_layer layers[] = {POLICY_LAYER_ORG, POLICY_LAYER_PROJECT,
						   POLICY_LAYER_RUN};
	static const char *const names[] = {"s1", "s2", "other", "unnamed"};

	(void)state;
	seed = 0x9e3779b97f4a7c15ULL;
	for (int round = 0; round < 400; round++) {
		struct policy *p[3] = {generate_sound(), generate_sound(), generate_sound()};
		size_t n = 1 + draw(3);
		struct policy_effective *run = combine_policies(p, layers + 3 - n, n);
		struct policy_settings s;

		policy_settings(run, &s);
		for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
			struct policy_effective *step = NULL;
			enum policy_agency agency =
				(enum policy_agency)draw((uint32_t)s.agency + 1);
			struct error err = {0};
			char what[64];

			snprintf(what, sizeof(what), "round %d, step %s", round, names[i]);
			assert_int_equal(policy_effective_step(run, names[i], agency, &step, &err),
					 0);
			expect_no_wider(step, run, what);
			expect_files_within(step, run);
			policy_effective_free(step);
		}
		policy_effective_free(run);
		for (size_t i = 0; i < 3; i++)
			policy_free(p[i]);
	}
}

/* One more layer, whatever it says, takes away or leaves; with one exception that is the point of
 * it: something must grant, so the first layers here do. */
static void test_a_layer_only_narrows(void **state)
{
	static const enum policy_layer more[] = {POLICY_LAYER_ORG, POLICY_LAYER_USER,
						 POLICY_LAYER_PROJECT,
						 POLICY_LAYER_PROJECT_UNTRUSTED};

	(void)state;
	seed = 0x243f6a8885a308d3ULL;
	for (int round = 0; round < 400; round++) {
		struct policy *p[2] = {generate_sound(), generate_sound()};
		enum policy_layer layers[2] = {POLICY_LAYER_RUN, more[draw(ARRAY_SIZE(more))]};
		struct policy_effective *one = combine_policies(p, layers, 1);
		struct policy_effective *two = combine_policies(p, layers, 2);
		struct policy_decision d = ask(one, "read /opt/x");
		char what[64];

		snprintf(what, sizeof(what), "round %d, layer %s", round,
			 policy_layer_name(layers[1]));
		/* Where the run's own file is a ceiling nothing is granted, and a second one may be
		 * the first to grant. */
		if (d.verdict == POLICY_ALLOW)
			expect_no_wider(two, one, what);
		policy_effective_free(one);
		policy_effective_free(two);
		policy_free(p[0]);
		policy_free(p[1]);
	}
}

static void test_the_plan_cannot_raise_a_step(void **state)
{
	struct policy_effective *run = only("version: 1\nagency: draft\n");
	struct policy_effective *step = NULL;
	struct policy_effective *again = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(policy_effective_step(run, "s", POLICY_ASSIST, &step, &err), -EINVAL);
	assert_int_equal(err.exit_status, EXIT_STATUS_USAGE);
	assert_null(step);
	assert_int_equal(policy_effective_step(run, "s", POLICY_OBSERVE, &step, NULL), 0);
	/* A step of a step would lose what the first one narrowed. */
	assert_int_equal(policy_effective_step(step, "t", POLICY_AGENCY_UNSET, &again, NULL),
			 -EINVAL);
	policy_effective_free(step);
	policy_effective_free(run);
}

/* Keeping fewer rules must not drop one that asks in favour of one that allows. */
static void test_use_drops_no_ask_and_no_deny(void **state)
{
	struct policy_effective *run = only(
		"version: 1\nnet:\n  - {id: a, do: allow, http: {host: a.example}, effect: read}\n"
		"  - {id: b, do: ask, http: {host: a.example, path: /ask}, effect: read}\n"
		"  - {id: c, do: deny, http: {host: a.example, path: /deny}}\n"
		"steps:\n  s: {use: [a]}\n  none: {use: []}\n");
	struct policy_effective *s = NULL;
	struct policy_effective *none = NULL;

	(void)state;
	assert_int_equal(policy_effective_step(run, "s", POLICY_AGENCY_UNSET, &s, NULL), 0);
	expect(s, "http GET https://a.example/", POLICY_ALLOW);
	expect(s, "http GET https://a.example/ask", POLICY_ASK);
	expect(s, "http GET https://a.example/deny", POLICY_DENY);
	assert_int_equal(policy_effective_step(run, "none", POLICY_AGENCY_UNSET, &none, NULL), 0);
	expect(none, "http GET https://a.example/", POLICY_DENY);
	assert_int_equal(ask(none, "http GET https://a.example/").by, POLICY_BY_STEP);
	policy_effective_free(none);
	policy_effective_free(s);
	policy_effective_free(run);
}

/* Every matching entry of every layer counts, each for what it says. */
static void test_a_step_is_narrowed_by_every_entry_that_names_it(void **state)
{
	struct policy_effective *run = combine((struct layer_text[]){
		{POLICY_LAYER_USER, "version: 1\nsteps:\n  \"edit*\": {limits: {wall: 5m}}\n"},
		{POLICY_LAYER_RUN,
		 "version: 1\nagency: assist\nlimits: {wall: 1h, pids: 9}\n"
		 "fs:\n  - {path: \"${workspace}\", access: stage}\n  - {path: /usr, access: rx}\n"
		 "steps:\n  \"e*\": {agency: draft, fs: [{path: \"${workspace}/a\", access: r}]}\n"
		 "  edit-1: {limits: {pids: 5}, fs: [{path: \"${workspace}\", access: "
		 "scratch}]}\n"},
		{0}});
	static const struct {
		const char *step;
		enum policy_agency agency;
		uint64_t wall, pids;
		enum policy_verdict top, inner;
	} cases[] = {
		{"other", POLICY_ASSIST, 3600000, 9, POLICY_ALLOW, POLICY_ALLOW},
		{"else", POLICY_DRAFT, 3600000, 9, POLICY_ALLOW, POLICY_DENY},
		{"edit-1", POLICY_DRAFT, 300000, 5, POLICY_ALLOW, POLICY_DENY},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_effective *step = NULL;
		struct policy_settings s;
		struct policy_fs_decision d;
		AUTO(policy_fs_free) struct policy_fs *fs = NULL;

		assert_int_equal(policy_effective_step(run, cases[i].step, POLICY_AGENCY_UNSET,
						       &step, NULL),
				 0);
		policy_settings(step, &s);
		assert_int_equal(s.agency, cases[i].agency);
		assert_int_equal(s.limits.value[POLICY_LIMIT_WALL], cases[i].wall);
		assert_int_equal(s.limits.value[POLICY_LIMIT_PIDS], cases[i].pids);
		expect(step, "write ${workspace}/x", cases[i].top);
		expect(step, "write ${workspace}/a/x", cases[i].inner);
		expect(step, "read ${workspace}/a/x", POLICY_ALLOW);
		assert_int_equal(policy_fs_new(step, &vars, &fs, NULL), 0);
		policy_fs_decide(fs, bytes_str("/home/u/app/x"), POLICY_WANT_LAND, &d);
		assert_int_equal(d.verdict, i == 2 ? POLICY_FS_STAYS : POLICY_FS_ALLOW);
		policy_effective_free(step);
	}
	policy_effective_free(run);
}

static void test_the_dial_stands_above_plan_and_option_and_below_every_layer(void **state)
{
	static const struct {
		const char *policy;
		enum policy_agency level;
		int want; /* 0, or the error */
		const char *where;
	} cases[] = {
		{"version: 1\nname: p\n", POLICY_AUTONOMOUS, 0, NULL},
		{"version: 1\nname: p\n", POLICY_OBSERVE, 0, NULL},
		{"version: 1\nname: p\nagency: trusted\n", POLICY_TRUSTED, 0, NULL},
		{"version: 1\nname: p\nagency: trusted\n", POLICY_AUTONOMOUS, -EPERM, ":3:"},
		{"version: 1\nname: p\nagency: draft\n", POLICY_ASSIST, -EPERM, ":3:"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		AUTO(policy_free) struct policy *p = parse(cases[i].policy);
		struct policy_input input = {POLICY_LAYER_RUN, p};
		struct policy_combine c = {.inputs = &input,
					   .count = 1,
					   .agency = POLICY_ASSIST,
					   .plan_agency = POLICY_DRAFT,
					   .fallback = "offline"};
		AUTO(policy_effective_free) struct policy_effective *e = NULL;
		AUTO(policy_effective_free) struct policy_effective *turned = NULL;
		struct policy_settings s;
		struct error err = {0};

		assert_int_equal(policy_combine(&c, &e, &err), 0);
		assert_int_equal(policy_effective_dial(e, cases[i].level, &turned, &err),
				 cases[i].want);
		if (cases[i].want) {
			assert_null(turned);
			assert_int_equal(err.exit_status, EXIT_STATUS_DENIED);
			assert_non_null(strstr(err.where, cases[i].where));
			continue;
		}
		policy_settings(turned, &s);
		assert_int_equal(s.agency, cases[i].level);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_step_never_widens),
		cmocka_unit_test(test_a_layer_only_narrows),
		cmocka_unit_test(test_the_dial_stands_above_plan_and_option_and_below_every_layer),
		cmocka_unit_test(test_the_plan_cannot_raise_a_step),
		cmocka_unit_test(test_use_drops_no_ask_and_no_deny),
		cmocka_unit_test(test_a_step_is_narrowed_by_every_entry_that_names_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
