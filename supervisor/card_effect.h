#pragma once
/*
 * The card of an effect: exactly the bytes that will leave, as a person can read them, and what
 * follows from either word. From the journaled action and body alone; the agent's own reason is
 * there, marked as claimed. Pure.
 *
 * What cannot be shown truly is not approvable, so no card of it is made: a JSON body with a key
 * twice or a number that readers take for different ones, text that is not in its declared charset,
 * more than a person can look through. The caller denies it with the reason.
 */
#include "journal/journal.h"
#include "policy/policy.h"
#include "sandbox/sandbox.h"

enum {
	CARD_EFFECT_BODY_MAX = 24 * 1024, /* bytes of a body that is shown */
	CARD_EFFECT_HEX_MAX = 512, /* bytes of one that is no text; the rest is said to be there */
	CARD_EFFECT_BYTES_MAX = 64 * 1024,
};

struct card_effect {
	enum journal_approval_kind kind; /* EFFECT, DOUBT */
	const char *run_name; /* NULL = none */
	struct journal_id run;
	const char *step_key;
	const struct journal_effect *effect;
	struct digest item; /* what the vote binds: ENGINE_CARD's action */
	const struct action *action;
	struct bytes body; /* all of it */
	const struct action *before; /* it stands instead of that one; NULL = it is the first */
	struct bytes before_body;
	struct bytes domain; /* registrable part of the host; empty = unknown */
	const struct policy_rule *rule; /* NULL = none is there any more */
	const char *why; /* of the decision; NULL = none */
	uint32_t done_same, done_rule; /* CONFIRMED in this run: this very action, by this rule */
	uint32_t rate_used; /* asked for by this rule in the time of its rate, with this one */
	struct card_budget { /* of the run: what its limit is, 0 = none, and what was used */
		uint64_t limit, used;
	} requests, egress;
	int64_t decide_by_ns, execute_by_ns; /* wall, 0 = none; how long after the decision */
	const char *key; /* KEYED: that it was sent with; NULL = none */
	bool probed; /* DOUBT: its probe does not know */
	bool unasked; /* with probed: it was not asked, since nobody named the run */
	/* TOOL: `run` of the policy, and where its program was found; NULL = not known any more */
	const char *const *words;
	size_t word_count;
	const char *program;
};

/* Appends. *ret_complete: all of the body is shown. -ENOTSUP with *err: it cannot be shown truly.
 */
MUST_CHECK int card_effect_render(const struct card_effect *in, struct buffer *out,
				  bool *ret_complete, struct error *err);
