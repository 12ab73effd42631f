/* Any bytes as YAML give a policy that decides without falling over and whose canonical form comes
 * back, or findings with places; any bytes as canonical form give a policy that encodes to the same
 * bytes, or an error. */
#include "policy/policy.h"
#include "tests/fuzz/fuzz.h"

static const struct policy_vars vars = {"/w", "/h", "/tmp", "/run/holdfast"};

static void ask(const struct policy_effective *e, const char *kind, const char *text)
{
	struct policy_question *q = NULL;
	struct policy_decision d;

	MUST(policy_question_parse(kind, text, &vars, &q, NULL) == 0);
	MUST(policy_question_decide(q, e, &vars, &d) == 0);
	MUST(d.verdict <= POLICY_DENY && d.why[0]);
	policy_question_free(q);
}

static void use(const struct policy_effective *e)
{
	AUTO_BUFFER once = {0};
	AUTO_BUFFER text = {0};
	struct policy_effective *back = NULL;

	MUST(policy_effective_encode(e, &once) == 0);
	MUST(policy_effective_decode(buffer_bytes(&once), &back, NULL) == 0);
	policy_effective_free(back);
	MUST(policy_explain(e, &vars, POLICY_TEXT, &text) == 0);
	ask(e, "http", "POST https://a.example/x?y");
	ask(e, "git", "push https://a.example/r refs/heads/x");
	ask(e, "tool", "t a=b");
	ask(e, "write", "/w/.git/hooks/x");
	ask(e, "exec", "/usr/bin/x y");
}

static void as_canonical(struct bytes b)
{
	AUTO_BUFFER again = {0};
	struct policy_effective *e = NULL;

	if (policy_effective_decode(b, &e, NULL) < 0)
		return;
	MUST(policy_effective_encode(e, &again) == 0 && bytes_equal(b, buffer_bytes(&again)));
	use(e);
	policy_effective_free(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_effective *e = NULL;
	struct policy_effective *step = NULL;
	struct policy_input input = {POLICY_LAYER_RUN, NULL};
	struct policy_combine c = {.inputs = &input, .count = 1};
	struct policy *p = NULL;

	as_canonical(bytes_of(data, size));
	MUST(policy_parse(bytes_of(data, size), "f", NULL, &p) == 0);
	for (size_t i = 0; i < policy_findings(p)->count; i++)
		MUST(policy_findings(p)->items[i].at.line >= 1 &&
		     policy_findings(p)->items[i].msg[0]);
	input.policy = p;
	if (policy_findings(p)->errors) {
		MUST(policy_combine(&c, &e, NULL) == -EINVAL);
	} else {
		MUST(policy_combine(&c, &e, NULL) == 0);
		use(e);
		MUST(policy_effective_step(e, "s", POLICY_AGENCY_UNSET, &step, NULL) == 0);
		use(step);
		policy_effective_free(step);
		policy_effective_free(e);
	}
	policy_free(p);
	return 0;
}
