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
	const char *project; /* replay: the project's policy, or the plan that holds it; NULL: of the
				workspace */
	bool land; /* exec --land */
	bool learn; /* policy learn */
	bool send_stdin; /* exec -i: standard input is read whole and becomes an input of the step
			  */
	bool tty; /* exec -t */
	unsigned rows, cols;
};

/* What the policies that q would create a run with say of what `run` did (POST /v1/runs/R/replay).
 * q: workspace, policy, agency. *ret: the answer (owned). */
MUST_CHECK int run_request_replay(struct client *c, const struct run_request *q, const char *run,
				  json_t **ret, struct error *err);
/* Standard input, read whole, as a sealed memory file (owned by the caller). Past 256 MiB:
 * -E2BIG, exit LIMIT. */
MUST_CHECK int run_request_stdin(int *ret_fd, struct error *err);

struct run_files; /* opaque, owned: all that the request names, opened and read */

/* Opens what the request names and reads the plan: what is wrong with it is found before there is a
 * supervisor. q is borrowed until run_request_close. */
MUST_CHECK int run_request_open(const struct run_request *q, struct run_files **ret,
				struct error *err);
void run_request_close(struct run_files *f); /* accepts NULL */
DEFINE_GUARD(struct run_files *, run_request_close)
/* Creates or attaches to the run, once. *ret: the answer (owned). Where send_stdin is said, standard
 * input is read to its end first. SIGINT is blocked from here on, but for tty: who follows the run
 * reads it, and none is lost between. */
MUST_CHECK int run_request_send(struct client *c, struct run_files *f, json_t **ret,
				struct error *err);
