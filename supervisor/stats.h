#pragma once
/*
 * How attention is spent: what was asked, by which rule, how it was answered, how long it was
 * looked at. Pure: over the approvals of the rows that are given.
 *
 * A rule that is always approved asks for nothing (a candidate for a wider dial); a reversible
 * action that is gated like an irreversible one spends attention in the wrong place.
 */
#include "journal/journal.h"

enum {
	STATS_RULES_MAX = 256, /* more rules than these are counted in the sums only */
	STATS_SHOWN_MAX = 512, /* times on screen kept of one rule */
	STATS_ALWAYS_MIN = 5, /* so often approved and never denied: "always" */
	STATS_HASTY_MS = 2000, /* nobody reads a card in less */
};

struct stats_rule {
	char *name; /* owned: the rule's id, or the kind of the item where no rule asked */
	enum journal_class class; /* of its last effect */
	bool has_class;
	uint32_t asked, approved, denied, expired, open, withdrawn;
	uint32_t streak; /* approvals in a row, up to the last decision */
	uint32_t hasty; /* decided within STATS_HASTY_MS of being shown */
	uint32_t shown_count;
	uint32_t shown_ms[STATS_SHOWN_MAX];
};

struct stats {
	struct stats_rule all;
	struct stats_rule *rules; /* most asked first */
	size_t rule_count;
};

MUST_CHECK int stats_of(const struct journal_state *rows, struct stats **ret);
void stats_free(struct stats *s); /* accepts NULL */
DEFINE_GUARD(struct stats *, stats_free)
uint32_t stats_median_ms(const struct stats_rule *r); /* 0 = nobody's client said */
bool stats_always(const struct stats_rule *r);
/* It can be undone, and a person is asked all the same. */
bool stats_misplaced(const struct stats_rule *r);
