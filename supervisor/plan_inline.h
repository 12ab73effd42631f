#pragma once
/* The text of a policy that is written in a plan, on the lines and columns it stands on. Pure. */
#include "base/yaml.h"

/* text: the whole plan, root its tree, n the policy's mapping in it. *out: YAML whose tree is n,
 * each token on its line. -ENOMEM. */
MUST_CHECK int plan_inline_policy(struct bytes text, const char *file, const struct yaml_node *root,
				  const struct yaml_node *n, struct buffer *out);
