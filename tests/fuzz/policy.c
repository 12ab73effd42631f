/* Any bytes as YAML give a policy that decides without falling over and whose canonical form comes
 * back, or findings with places; any bytes as canonical form give a policy that encodes to the same
 * bytes, or an error. Any bytes as a path that is denied are so with other capitals and with a slash
 * behind them. */
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

static const struct policy_effective *fenced(void)
{
	static const char yaml[] =
		"version: 1\nagency: autonomous\nnet:\n"
		"  - {id: all, do: allow, http: {host: a.example}, except: [{host: a.example, "
		"path: "
		"[\"/k*s/**\", /b]}]}\n"
		"  - {id: no, do: deny, http: {host: a.example, path: [\"/a/*.x\", \"/*/c\"]}}\n";
	static struct policy_effective *e;
	struct policy_input input = {POLICY_LAYER_RUN, NULL};
	struct policy_combine c = {.inputs = &input, .count = 1};
	struct policy *p = NULL;

	if (e)
		return e;
	MUST(policy_parse(bytes_str(yaml), "f", NULL, &p) == 0);
	MUST(policy_findings(p)->errors == 0);
	input.policy = p;
	MUST(policy_combine(&c, &e, NULL) == 0);
	policy_free(p);
	return e;
}

static enum policy_verdict decide(struct bytes path)
{
	struct policy_request r = {.kind = POLICY_HTTP};
	struct policy_decision d;

	r.http.scheme = bytes_str("https");
	r.http.host = bytes_str("a.example");
	r.http.method = bytes_str("GET");
	r.http.path = path;
	policy_decide(fenced(), &r, &d);
	return d.verdict;
}

static void as_path(const uint8_t *data, size_t size)
{
	AUTO_BUFFER path = {0};
	AUTO_BUFFER other = {0};

	if (size > 512)
		return;
	MUST(buffer_append_byte(&path, '/') == 0 && buffer_append(&path, data, size) == 0);
	for (size_t i = 0; i < path.len; i++) {
		uint8_t c = path.data[i], small = (uint8_t)(c | 0x20);
		bool letter = small >= 'a' && small <= 'z';

		MUST(buffer_append_byte(&other, (uint8_t)(letter ? c ^ 0x20 : c)) == 0);
	}
	MUST(decide(buffer_bytes(&path)) == decide(buffer_bytes(&other)));
	if (decide(buffer_bytes(&path)) != POLICY_DENY)
		return;
	MUST(buffer_append_byte(&path, '/') == 0);
	MUST(decide(buffer_bytes(&path)) == POLICY_DENY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_effective *e = NULL;
	struct policy_effective *step = NULL;
	struct policy_input input = {POLICY_LAYER_RUN, NULL};
	struct policy_combine c = {.inputs = &input, .count = 1};
	struct policy *p = NULL;

	as_path(data, size);
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
