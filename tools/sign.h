#pragma once
/* A vote signed with an SSH key, by ssh-keygen(1): keys in an agent, on a token or in a file. */
#include <jansson.h>
#include "base/error.h"
#include "supervisor/supervisor.h"

/* Fills time and nonce of v, encodes it, has it signed by `ssh-keygen -Y sign -f key`, and sets
 * "ballot" and "signature" of body. ssh-keygen asks on the terminal where the key wants that. */
MUST_CHECK int sign_vote(const char *key, struct vote_ballot *v, json_t *body, struct error *err);
