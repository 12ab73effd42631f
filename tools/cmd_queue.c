/* holdfast queue: what waits for a person. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "tools/cli.h"
#include "tools/queue_screen.h"
#include "tools/status_print.h"

/* Equal actions are one line; each is decided by itself all the same. */
static size_t equal_before(const json_t *items, size_t i)
{
	const char *object = cli_str(json_array_get(items, i), "object");

	for (size_t k = 0; *object && k < i; k++)
		if (strcmp(cli_str(json_array_get(items, k), "object"), object) == 0)
			return k + 1;
	return 0;
}

static void print_equal(const json_t *items, size_t i)
{
	const char *object = cli_str(json_array_get(items, i), "object");
	size_t more = 0;

	for (size_t k = i + 1; *object && k < json_array_size(items); k++) {
		if (strcmp(cli_str(json_array_get(items, k), "object"), object) != 0)
			continue;
		if (more++ == 0)
			printf("            the same waits as");
		if (more <= 8)
			printf(" %.8s", cli_str(json_array_get(items, k), "approval"));
	}
	if (more > 8)
		printf(" and %zu more", more - 8);
	if (more > 0)
		putchar('\n');
}

static void print_items(const json_t *items, size_t open)
{
	size_t i;
	const json_t *a;

	json_array_foreach(items, i, a)
	{
		if (equal_before(items, i))
			continue;
		status_print_approval(a);
		print_equal(items, i);
	}
	if (open > json_array_size(items))
		printf("  and %zu more: 'holdfast queue --all'\n", open - json_array_size(items));
	if (json_array_size(items) == 0)
		puts("nothing waits for you.");
	else
		puts("'holdfast show ID' shows the card, 'holdfast approve ID' or 'holdfast deny "
		     "ID' decides, 'holdfast queue -i' goes through them.");
}

static void print_rule(const json_t *r, const char *name)
{
	long long decided = cli_int(r, "approved") + cli_int(r, "denied") + cli_int(r, "expired");
	long long rate = decided ? 100 * cli_int(r, "approved") / decided : 0;

	printf("%-28s %6lld %6lld %5lld%% %6lld %6lld", name, (long long)cli_int(r, "asked"),
	       (long long)cli_int(r, "open"), rate, (long long)cli_int(r, "denied"),
	       (long long)cli_int(r, "streak"));
	if (cli_int(r, "shown_ms") > 0)
		printf(" %7.1fs", (double)cli_int(r, "shown_ms") / 1000);
	putchar('\n');
}

static int print_stats(struct client *c)
{
	int exit_status = EXIT_STATUS_OK;
	json_t *doc = cli_fetch(c, "/v1/approvals/stats", &exit_status);
	size_t i;
	const json_t *r;

	if (!doc)
		return exit_status;
	if (cli.json) {
		cli_print_json(doc);
		return EXIT_STATUS_OK;
	}
	printf("%-28s %6s %6s %6s %6s %6s %8s\n", "asked by", "asked", "open", "yes", "denied",
	       "streak", "on screen");
	json_array_foreach(cli_get(doc, "rules"), i, r)
		print_rule(r, cli_escaped(cli_str(r, "rule")));
	print_rule(cli_get(doc, "all"), "all");
	json_array_foreach(cli_get(doc, "rules"), i, r)
	{
		if (cli_bool(r, "always_approved"))
			printf("%s is always approved: a wider dial, a grant or 'standing' would "
			       "ask less\n",
			       cli_escaped(cli_str(r, "rule")));
		if (cli_bool(r, "misplaced"))
			printf("%s asks before what can be undone: it spends attention in the "
			       "wrong place\n",
			       cli_escaped(cli_str(r, "rule")));
		if (cli_int(r, "hasty") > 0)
			printf("%s was decided %lld time%s in under two seconds\n",
			       cli_escaped(cli_str(r, "rule")), (long long)cli_int(r, "hasty"),
			       cli_int(r, "hasty") == 1 ? "" : "s");
	}
	json_decref(doc);
	return EXIT_STATUS_OK;
}

int cmd_queue(int argc, char **argv)
{
	static const char usage[] =
		"usage: holdfast queue [-i | --stats | --all] [--json]\n"
		"Everything that waits for a person: what cannot be taken back first, then what "
		"expires first.\n"
		"-i goes through it on the terminal. --stats: how attention was spent. --all: more "
		"than the first "
		"hundred.\n";
	enum { STATS = CLI_OPT_OWN, ALL };
	static const struct option options[] = {CLI_OPTIONS,
						{"stats", no_argument, NULL, STATS},
						{"all", no_argument, NULL, ALL},
						{0}};
	bool interactive = false, stats = false, all = false;
	int opt;
	while ((opt = cli_getopt(argc, argv, "i", options)) != -1) {
		int r = opt == 'i' || opt == STATS || opt == ALL ? 0 : cli_option(opt, usage);
		interactive |= opt == 'i';
		stats |= opt == STATS;
		all |= opt == ALL;
		if (r)
			return r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
	}
	int wrong = cli_words(argc, argv, 0, 0, "", usage);
	if (wrong)
		return wrong;
	if (interactive && (stats || cli.json || cli.no_input))
		return cli_usage(usage,
				 "-i is for a terminal: it goes with none of --stats, --json "
				 "and --no-input");
	struct error err = {0};
	AUTO(client_close) struct client *c = NULL;
	int r = client_open(cli.state, CLIENT_START_THERE, &c, &err);
	if (r == -ENODATA && !stats && !interactive) {
		if (cli.json)
			cli_print_json(json_pack("{s:i, s:[], s:i}", "version",
						 SUPERVISOR_API_VERSION, "approvals", "open", 0));
		else
			puts(cli_escaped(err.msg));
		return EXIT_STATUS_OK;
	}
	if (r < 0)
		return cli_fail(&err);
	if (stats)
		return print_stats(c);
	if (interactive) {
		if (queue_screen(c, &err) < 0)
			return cli_fail(&err);
		return EXIT_STATUS_OK;
	}
	if (cli.json)
		return cli_print_answer(c, "/v1/approvals", NULL, NULL);
	int exit_status = EXIT_STATUS_OK;
	json_t *doc = cli_fetch(c, all ? "/v1/approvals" : "/v1/approvals?max=100", &exit_status);
	if (!doc)
		return exit_status;
	print_items(cli_get(doc, "approvals"), (size_t)cli_int(doc, "open"));
	json_decref(doc);
	return EXIT_STATUS_OK;
}
