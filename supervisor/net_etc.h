#pragma once
/*
 * What a run's network puts into its sandboxes: resolver, the run's certificate alone and behind
 * the system's own, and the variables that name them. The same for every attempt, but for the
 * placeholders of secrets, which a step's policy names.
 */
#include "base/buffer.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/guard.h"
#include "policy/policy.h"
#include "sandbox/sandbox.h"

enum {
	NET_ETC_BUNDLES = 5,
	NET_ETC_MAX = NET_ETC_BUNDLES + 3,
};

struct net_etc {
	struct digest seed; /* of placeholders */
	struct sandbox_etc_file files[NET_ETC_MAX]; /* borrow from the members below */
	size_t count;
	struct buffer bundle, certificate;
	char folder_name[48];
};

/* Of an empty one. fd, borrowed: the authority as the keeper has it. What failed is fit for
 * net_etc_clear alone. */
MUST_CHECK int net_etc_make(struct net_etc *e, int fd, struct error *err);
void net_etc_clear(struct net_etc *e);
/* NAME=value, NULL-terminated, owned by the caller (net_etc_env_free). */
MUST_CHECK int net_etc_env(const struct net_etc *e, const struct policy_effective *step,
			   char ***ret, struct error *err);
void net_etc_env_free(char **env); /* accepts NULL */
