#pragma once
/*
 * Everything a client opens and says to create a run (POST /v1/runs): plan, workspace, policies,
 * environment, standard input. The daemon opens no path that a client named; this is where they are
 * opened.
 */
#include "tools/client.h"

struct run_request {
	const char *plan_path; /* NULL: an exec, or an outside driver */
	char **argv; /* exec: NULL-terminated */
	bool outside_driver;
	const char *name, *workspace, *policy, *agency; /* options as typed, or NULL */
	bool land; /* exec --land */
	bool send_stdin; /* exec -i: standard input is read whole and becomes an input of the step
			  */
	bool tty; /* exec -it */
	unsigned rows, cols;
};

/* Creates or attaches to the run. *ret: the answer (owned). */
MUST_CHECK int run_request_send(struct client *c, const struct run_request *q, json_t **ret,
				struct error *err);
