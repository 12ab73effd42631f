/* Runs a file's own `tests:`, each decided as the file alone would decide it. */
#include "policy/model.h"
#include "base/escape.h"

static const char *const kinds[] = {"http", "git", "tcp", "tool", "read", "write", "exec"};

struct outcome {
	const struct policy_case *t;
	const char *kind;
	const char *text;
	bool passed;
	struct policy_decision d;
};

static int decide_case(const struct policy_effective *run, const struct policy_vars *vars,
		       struct outcome *o)
{
	AUTO(policy_question_free) struct policy_question *q = NULL;
	AUTO(policy_effective_free) struct policy_effective *step = NULL;
	const struct policy_case *t = o->t;
	struct error err = {0};
	int code;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (t->kind[i]) {
			o->kind = kinds[i];
			o->text = t->kind[i];
		}
	code = policy_question_parse(o->kind, o->text, vars, &q, &err);
	if (code < 0)
		return code;
	if (t->step) {
		code = policy_effective_step(run, t->step, POLICY_AGENCY_UNSET, &step, &err);
		if (code < 0)
			return code;
	}
	code = policy_question_decide(q, step ? step : run, vars, &o->d);
	if (code < 0)
		return code;
	o->passed =
		(int)o->d.verdict == t->expect - 1 && (!t->rule || strcmp(t->rule, o->d.rule) == 0);
	/* The strings are of a policy that goes away with this function. */
	o->d.rule = "";
	o->d.at.file = "";
	return 0;
}

static void report_text(struct buffer *out, const struct outcome *o)
{
	const struct policy_case *t = o->t;

	buffer_printf(out, "%s %s:%d:%d: %s ", o->passed ? "ok  " : "FAIL", t->item.at.file,
		      t->item.at.line, t->item.at.column, o->kind);
	escape_append(out, bytes_str(o->text), ESCAPE_LINE | ESCAPE_KEEP_BACKSLASH);
	if (t->step)
		buffer_printf(out, " in step '%s'", t->step);
	buffer_printf(out, ": expected %s",
		      policy_verdict_name((enum policy_verdict)(t->expect - 1)));
	if (t->rule)
		buffer_printf(out, " by '%s'", t->rule);
	buffer_printf(out, ", got %s: %s\n", policy_verdict_name(o->d.verdict), o->d.why);
}

static void report_json(struct buffer *out, const struct outcome *o, bool first)
{
	const struct policy_case *t = o->t;

	buffer_printf(out,
		      "%s{\"passed\":%s,\"line\":%d,\"column\":%d,\"kind\":\"%s\",\"request\":\"",
		      first ? "" : ",", o->passed ? "true" : "false", t->item.at.line,
		      t->item.at.column, o->kind);
	escape_json(out, bytes_str(o->text));
	buffer_printf(out, "\",\"expected\":\"%s\",\"got\":\"%s\",\"why\":\"",
		      policy_verdict_name((enum policy_verdict)(t->expect - 1)),
		      policy_verdict_name(o->d.verdict));
	escape_json(out, bytes_str(o->d.why));
	buffer_append_str(out, "\"}");
}

/* The file alone; at the level that the test names, as if a person had said it. */
static int combine_alone(const struct policy *p, int agency, struct policy_effective **ret)
{
	struct policy_input input = {.layer = POLICY_LAYER_RUN, .policy = p};
	struct policy_combine c = {
		.inputs = &input,
		.count = 1,
		.agency = (enum policy_agency)agency,
		.lone_ceiling = p->body.kind == POLICY_KIND_CEILING,
	};
	struct error err = {0};

	return policy_combine(&c, ret, &err);
}

int policy_test(const struct policy *p, const struct policy_vars *vars, enum policy_format format,
		bool verbose, struct buffer *out, size_t *ret_run, size_t *ret_failed)
{
	const struct policy_case *tests = p->body.tests.v;
	size_t failed = 0;
	bool first = true;

	if (format == POLICY_JSON)
		buffer_append_str(out, "{\"tests\":[");
	for (size_t i = 0; i < p->body.tests.n; i++) {
		AUTO(policy_effective_free) struct policy_effective *e = NULL;
		struct outcome o = {.t = &tests[i]};
		int code = combine_alone(p, tests[i].agency, &e);

		if (code == 0)
			code = decide_case(e, vars, &o);
		if (code < 0)
			return code;
		failed += !o.passed;
		if (format == POLICY_JSON)
			report_json(out, &o, first);
		else if (!o.passed || verbose)
			report_text(out, &o);
		first = false;
	}
	if (format == POLICY_JSON)
		buffer_printf(out, "],\"run\":%zu,\"failed\":%zu}", p->body.tests.n, failed);
	*ret_run = p->body.tests.n;
	*ret_failed = failed;
	return out->failed;
}
