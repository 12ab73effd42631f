#pragma once
/* A person's word on an item of the queue, as approve, deny and queue -i send it. */
#include "tools/client.h"

struct vote {
	const char *id, *choice, *digest, *reason, *path;
	bool deny, yes;
	const char *file; /* of --as file=F */
	const char *sign; /* SSH key; NULL = the vote is not signed */
	const char *signer; /* principal, where the key has several; NULL = whose key it is */
	json_t *grant; /* borrowed: {match, uses, seconds, scope}; NULL = none */
	bool whole_rule; /* a denial of all that its rule asks about in this run */
	uint64_t shown_ms; /* how long the card was on the screen; 0 = it was not shown */
};

/* Votes on the item as doc (GET /v1/approvals/A) shows it. *ret: the answer, owned. */
MUST_CHECK int vote_send(struct client *c, const struct vote *v, const json_t *doc, json_t **ret,
			 struct error *err);
/* "approved", "denied", or the state that an answer says. */
const char *vote_outcome(const struct vote *v, const json_t *answer);
