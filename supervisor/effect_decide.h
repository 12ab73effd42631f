#pragma once
/*
 * From a canonical action to what the policy says of it, and to what the journal keeps of that.
 * Pure: used for every proposal, and again for cards and replays.
 */
#include "policy/policy.h"
#include "sandbox/sandbox.h"

enum {
	EFFECT_DECIDE_FIELDS_MAX = 4096, /* values of a JSON body */
	EFFECT_DECIDE_TITLE_MAX = 256, /* bytes, with NUL */
};

struct effect_decision {
	struct policy_decision policy; /* of a push of several refs: of the strictest */
	struct policy_rule rule;
	bool has_rule;
	bool unclear; /* denied: its body cannot mean one thing alone; policy.why says so */
};

/* Always fills *ret; what cannot be decided is denied. Negative errno: out of memory. */
MUST_CHECK int effect_decide(const struct policy_effective *e, const struct action *a,
			     struct bytes body, struct effect_decision *ret);
/* Whether all of it that asks is covered: by a person's grant, or by the i-th standing. */
bool effect_decide_granted(const struct policy_effective *e, const struct action *a,
			   struct bytes body, const struct policy *grant);
bool effect_decide_standing(const struct policy_effective *e, const struct action *a,
			    struct bytes body, size_t i);
/* Verb and destination in one line of plain ASCII, cut. */
void effect_decide_title(const struct action *a, char ret[EFFECT_DECIDE_TITLE_MAX]);
/* Whether its headers say that the body is JSON. */
bool effect_decide_is_json(const struct action *a);
/* A header's value; empty = it has none. name in lower case. */
struct bytes effect_decide_header(const struct action *a, const char *name);
