#pragma once
/*
 * A run from a client's request (POST /v1/runs): plan, policy layers, environment and workspace
 * become blobs and one engine_run_create(). Everything arrives as bytes and descriptors; the only
 * files opened here by path are the organisation's, in /etc/holdfast/policy.d.
 *
 * Any error refuses the whole request and nothing is started.
 */
#include "supervisor/daemon.h"

/* What was said is in *err (exit status USAGE, DENIED, SANDBOX). *ret_attached: the run was there
 * already. */
MUST_CHECK int create_run(struct daemon *d, struct api_request *q, struct journal_id *ret,
			  bool *ret_attached, struct error *err);
/* A new run from parent's plan and policy, whose steps before `at` are taken over. */
MUST_CHECK int create_fork(struct daemon *d, struct api_request *q,
			   const struct journal_run *parent, const char *at, struct journal_id *ret,
			   struct error *err);
/* What a run like this one would be created with now: the organisation's layers, those that came
 * with the request, the plan's own policy. Owned. */
MUST_CHECK int create_policy(struct daemon *d, struct api_request *q, const struct plan *plan,
			     struct policy_effective **ret, struct error *err);
/* A step from an outside driver's JSON; owned. */
MUST_CHECK int create_step(struct daemon *d, struct api_request *q, struct plan_step **ret,
			   struct error *err);
