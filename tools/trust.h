#pragma once
/* A project's own policy file is input, not authority: `holdfast trust` pins it by digest; `run`
 * offers it on a terminal. */
#include "tools/run_request.h"

/* On a terminal, where the run would meet a project policy that is not trusted: shows what it would
 * allow and asks. 0 in every case but an error; the daemon applies only its denies where the answer
 * was no. */
MUST_CHECK int trust_offer(struct client *c, const struct run_request *q, struct error *err);
