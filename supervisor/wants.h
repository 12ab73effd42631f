#pragma once
/* What a run's steps wanted outside, allowed or not, counted: what rules are drafted from
 * (GET /v1/runs/R/wants). Made of what is recorded, so that nothing is asked or executed. */
#include <jansson.h>
#include "supervisor/daemon.h"

enum { WANTS_MAX = 10000 }; /* different ones; further ones are counted together as `more` */

/* *ret: {wants: [{kind: name|http|git|tcp|tool, scheme, host, port, method, path, cut, websocket,
 * remote, ref, push, force, remove, tool, allowed, rule, secret, why, count}], more}. */
MUST_CHECK int wants_run(struct daemon *d, const struct journal_run *run, json_t **ret,
			 struct error *err);
