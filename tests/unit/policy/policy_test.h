#pragma once
/* What the policy tests share: parse and combine from text, ask a request in words. Included after
 * cmocka. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include "policy/policy.h"

static const struct policy_vars vars = {
	.workspace = "/home/u/app",
	.home = "/home/u",
	.tmp = "/tmp",
	.run = "/run/holdfast",
};

static inline struct policy *parse(const char *text)
{
	struct policy *p = NULL;

	assert_int_equal(policy_parse(bytes_str(text), "f", NULL, &p), 0);
	return p;
}

/* A policy without errors. */
static inline struct policy *sound(const char *text)
{
	struct policy *p = parse(text);
	struct error err = {0};

	if (policy_check(p, &err) < 0)
		fail_msg("%s: %s\n%s", err.where, err.msg, text);
	return p;
}

struct layer_text {
	enum policy_layer layer;
	const char *text; /* NULL ends a list */
};

static inline struct policy_effective *combine_with(const struct layer_text *layers,
						    const char *fallback, enum policy_agency agency)
{
	struct policy *policies[8] = {NULL};
	struct policy_input inputs[8];
	struct policy_effective *e = NULL;
	struct error err = {0};
	size_t n = 0;

	for (; layers[n].text; n++) {
		policies[n] = sound(layers[n].text);
		inputs[n] = (struct policy_input){layers[n].layer, policies[n]};
	}
	struct policy_combine c = {.inputs = inputs,
				   .count = n,
				   .fallback = fallback,
				   .agency = agency};

	if (policy_combine(&c, &e, &err) < 0)
		fail_msg("%s: %s", err.where, err.msg);
	for (size_t i = 0; i < n; i++)
		policy_free(policies[i]);
	return e;
}

static inline struct policy_effective *combine(const struct layer_text *layers)
{
	return combine_with(layers, NULL, POLICY_AGENCY_UNSET);
}

static inline struct policy_effective *only(const char *text)
{
	return combine((struct layer_text[]){{POLICY_LAYER_RUN, text}, {0}});
}

/* The decision on "kind words". The strings in it are e's. */
static inline struct policy_decision ask(const struct policy_effective *e, const char *words)
{
	struct policy_question *q = NULL;
	struct policy_decision d;
	struct error err = {0};
	char kind[16];
	size_t len = strcspn(words, " ");

	memcpy(kind, words, len);
	kind[len] = '\0';
	if (policy_question_parse(kind, words + len + 1, &vars, &q, &err) < 0)
		fail_msg("%s: %s", words, err.msg);
	assert_int_equal(policy_question_decide(q, e, &vars, &d), 0);
	policy_question_free(q);
	return d;
}

static inline void expect(const struct policy_effective *e, const char *words,
			  enum policy_verdict v)
{
	struct policy_decision d = ask(e, words);

	if (d.verdict != v)
		fail_msg("%s: expected %s, got %s: %s", words, policy_verdict_name(v),
			 policy_verdict_name(d.verdict), d.why);
}
