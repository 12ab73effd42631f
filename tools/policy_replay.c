/* holdfast policy test --replay: what another policy would have said of what a run did. */
#include <stdio.h>
#include <string.h>
#include "policy/policy.h"
#include "tools/cli.h"
#include "tools/policy_run.h"
#include "tools/run_request.h"

/* A file of the run's policy, as the client called it at the start; "" = none. */
static void file_of(const json_t *status, const char *layer, char *buf, size_t size)
{
	static const char builtin[] = "builtin:";
	const json_t *o;
	size_t i;
	buf[0] = 0;
	json_array_foreach(cli_get(status, "policies"), i, o)
	{
		const char *file = cli_str(o, "file");
		if (strncmp(cli_str(o, "layer"), layer, strlen(layer)) != 0)
			continue;
		if (strncmp(file, builtin, sizeof(builtin) - 1) == 0)
			file += sizeof(builtin) - 1;
		snprintf(buf, size, "%s", file);
	}
}

/* "allow read by pkgs" */
static void print_verdict(const json_t *v)
{
	printf("%s", cli_str(v, "verdict"));
	if (*cli_str(v, "class"))
		printf(" %s", cli_str(v, "class"));
	if (*cli_str(v, "rule"))
		printf(" by %s", cli_escaped(cli_str(v, "rule")));
}

static void print_difference(const json_t *o)
{
	const json_t *before = cli_get(o, "before"), *after = cli_get(o, "after");
	printf("%-7s ", cli_str(o, "what"));
	print_verdict(before);
	printf(" -> ");
	print_verdict(after);
	printf("\n        %s\n        step %s", cli_escaped(cli_str(o, "title")),
	       cli_escaped(cli_str(o, "step")));
	if (*cli_str(o, "effect"))
		printf(", effect %.8s", cli_str(o, "effect"));
	if (cli_int(o, "count") > 1)
		printf(", %lld times", (long long)cli_int(o, "count"));
	if (*cli_str(after, "at"))
		printf(", %s", cli_escaped(cli_str(after, "at")));
	if (*cli_str(after, "why"))
		printf(": %s", cli_escaped(cli_str(after, "why")));
	putchar('\n');
}

static int print_answer(json_t *doc)
{
	size_t n = json_array_size(cli_get(doc, "differences")), i;
	const json_t *o;
	long long left_out = (long long)cli_int(doc, "left_out");
	int code = n || cli_int(doc, "more") ? 1 : EXIT_STATUS_OK;
	if (cli.json) {
		cli_print_json(doc);
		return code;
	}
	json_array_foreach(cli_get(doc, "differences"), i, o) print_difference(o);
	if (cli_int(doc, "more"))
		printf("%lld more differences are not shown\n", (long long)cli_int(doc, "more"));
	printf("%lld decided again, %zu different\n", (long long)cli_int(doc, "decided"),
	       n + (size_t)cli_int(doc, "more"));
	if (left_out)
		printf("%lld left out: what is recorded of them does not tell how they were "
		       "decided "
		       "(a rate or limit, a secret, a broken request)\n",
		       left_out);
	json_decref(doc);
	return code;
}

static int fail(const struct error *err)
{
	int status = cli_fail(err);
	return status == EXIT_STATUS_STEP_FAILED ? EXIT_STATUS_USAGE : status;
}

int policy_run_replay(const char *run, const char *policy, const char *agency)
{
	struct run_request q = {.policy = policy, .agency = agency};
	char now[4096], project[4096], workspace[4096];
	struct error err = {0};
	AUTO(client_close) struct client *c = NULL;
	AUTO_BUFFER target = {0};
	json_t *status, *doc = NULL;
	int exit_status = EXIT_STATUS_OK;
	if (client_open(cli.state, CLIENT_START_THERE, &c, &err) < 0)
		return fail(&err);
	buffer_append_str(&target, "/v1/runs/");
	client_encode(&target, run);
	status = cli_fetch(c, (const char *)target.data, &exit_status);
	if (!status)
		return exit_status == EXIT_STATUS_STEP_FAILED ? EXIT_STATUS_USAGE : exit_status;
	snprintf(workspace, sizeof(workspace), "%s", cli_str(status, "workspace"));
	file_of(status, "run", now, sizeof(now));
	file_of(status, "project", project, sizeof(project)); /* trusted or not */
	json_decref(status);
	q.workspace = workspace;
	if (project[0])
		q.project = project;
	if (!q.policy && now[0])
		q.policy = now;
	if (run_request_replay(c, &q, run, &doc, &err) < 0)
		return fail(&err);
	return print_answer(doc);
}
