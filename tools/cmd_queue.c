/* holdfast queue: what waits for a person. */
#include <stdio.h>
#include <string.h>
#include "tools/cli.h"
#include "tools/status_print.h"

int cmd_queue(int argc, char **argv)
{
	static const char usage[] = "usage: holdfast queue [--json]\nEverything that waits for a "
				    "person, most urgent first.\n";
	static const struct option options[] = {CLI_OPTIONS, {0}};
	int opt;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		int r = cli_option(opt, usage);
		if (r)
			return r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
	}
	if (optind != argc)
		return cli_usage(usage);
	struct error err = {0};
	AUTO(client_close) struct client *c = NULL;
	if (client_open(cli.state, CLIENT_START_YES, &c, &err) < 0)
		return cli_fail(&err);
	int exit_status = EXIT_STATUS_OK;
	json_t *doc = cli_fetch(c, "/v1/approvals", &exit_status);
	if (!doc)
		return exit_status;
	if (cli.json) {
		cli_print_json(doc);
		return EXIT_STATUS_OK;
	}
	const json_t *items = cli_get(doc, "approvals");
	size_t i;
	const json_t *a;
	json_array_foreach(items, i, a) status_print_approval(a);
	if (json_array_size(items) == 0)
		puts("nothing waits for you.");
	else
		puts("'holdfast show ID' shows the card, 'holdfast approve ID' or 'holdfast deny "
		     "ID' decides.");
	json_decref(doc);
	return EXIT_STATUS_OK;
}
