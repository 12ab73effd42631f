/* holdfast agency: the dial of a run, read and turned. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "tools/cli.h"

static const char usage[] =
	"usage: holdfast agency RUN [observe|draft|assist|trusted|autonomous] [--yes]\n"
	"How far the steps of a run may go without a person; with a level, the dial is turned. It "
	"counts for what starts,\n"
	"lands and is decided from then on. Raising it is asked on the terminal; without one it "
	"needs --yes.\n";

static const char *const levels[] = {"observe", "draft", "assist", "trusted", "autonomous"};

static int level_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (strcmp(levels[i], name) == 0)
			return (int)i;
	return -ENOENT;
}

/* A raise is a person's word: typed, or said by --yes. */
static int may_raise(const char *from, const char *to, bool yes, struct error *err)
{
	bool interactive =
		isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !cli.no_input && !cli.json;

	if (yes || level_of(to) <= level_of(from))
		return 0;
	if (!interactive)
		return error_set_exit(err, -EPERM, EXIT_STATUS_WAITING,
				      "nothing was changed: raising %s to %s is a person's word; "
				      "give --yes",
				      from, to);
	printf("from %s to %s: more is done without asking you\n", from, to);
	fflush(stdout);
	if (cli_confirm("raise"))
		return 0;
	return error_set_exit(err, -ECANCELED, EXIT_STATUS_WAITING,
			      "nothing was changed: the run stays at %s", from);
}

static int turn(struct client *c, const json_t *status, const char *level, bool yes,
		struct error *err)
{
	const char *from = cli_str(status, "agency");
	AUTO_BUFFER target = {0};
	json_t *answer = NULL;
	int r = may_raise(from, level, yes, err);

	if (r < 0)
		return r;
	buffer_printf(&target, "/v1/runs/%s/agency", cli_str(status, "run"));
	json_t *body = json_pack("{s:s, s:s}", "agency", level, "from", from);
	struct client_request q = {.method = "POST",
				   .target = (const char *)target.data,
				   .body = body};
	r = client_call(c, &q, NULL, &answer, NULL, err);
	json_decref(body);
	if (r == 0 && cli.json)
		cli_print_json(json_incref(answer));
	else if (r == 0)
		printf("agency %s, was %s\n", cli_escaped(cli_str(answer, "agency")),
		       cli_escaped(cli_str(answer, "before")));
	json_decref(answer);
	return r;
}

static int tell(const json_t *status)
{
	if (cli.json)
		cli_print_json(json_pack("{s:i, s:s, s:s}", "version", SUPERVISOR_API_VERSION,
					 "run", cli_str(status, "run"), "agency",
					 cli_str(status, "agency")));
	else
		puts(cli_escaped(cli_str(status, "agency")));
	return 0;
}

static int wrong_level(const char *level)
{
	const char *near = cli_nearest(level, levels, ARRAY_SIZE(levels));
	struct error err = {0};

	error_set_exit(&err, -EINVAL, EXIT_STATUS_USAGE, "no agency '%.40s'; %s%s", level,
		       near ? "did you mean " : "it is one of observe, draft, assist, trusted, ",
		       near ? near : "autonomous");
	return cli_fail(&err);
}

int cmd_agency(int argc, char **argv)
{
	enum { YES = CLI_OPT_OWN };
	static const struct option options[] = {CLI_OPTIONS, {"yes", no_argument, NULL, YES}, {0}};
	AUTO(client_close) struct client *c = NULL;
	AUTO_BUFFER target = {0};
	struct error err = {0};
	int exit_status = EXIT_STATUS_OK;
	bool yes = false;
	int opt, r;

	while ((opt = cli_getopt(argc, argv, "", options)) != -1) {
		if (opt == YES) {
			yes = true;
			continue;
		}
		r = cli_option(opt, usage);
		if (r)
			return r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
	}
	exit_status = cli_words(argc, argv, 1, 2, "RUN LEVEL", usage);
	if (exit_status)
		return exit_status;
	const char *level = argv[optind + 1];
	if (level && level_of(level) < 0)
		return wrong_level(level);
	if (client_open(cli.state, CLIENT_START_THERE, &c, &err) < 0)
		return cli_fail(&err);
	buffer_append_str(&target, "/v1/runs/");
	client_encode(&target, argv[optind]);
	if (level)
		buffer_append_str(&target, "?decide=1");
	json_t *status = cli_fetch(c, (const char *)target.data, &exit_status);
	if (!status)
		return exit_status;
	r = level ? turn(c, status, level, yes, &err) : tell(status);
	json_decref(status);
	return r < 0 ? cli_fail(&err) : EXIT_STATUS_OK;
}
