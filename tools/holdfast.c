/* holdfast(1): the command table and the global options. Each subcommand stands in a file of its
 * own. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/failpoint.h"
#include "tools/cli.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{"run", cmd_run, "run a plan, or attach to the run of that name"},
	{"exec", cmd_exec, "one command in a sandbox, now"},
	{"resume", cmd_resume, "go on with a run"},
	{"step", cmd_step, "declare one step of a run from a script, and wait for it"},
	{"status", cmd_status, "what is done, what is in flight, what is safe to retry"},
	{"log", cmd_log, "everything that happened in a run"},
	{"show", cmd_show, "one step or one approval, whole"},
	{"diff", cmd_diff, "what a run or a step changed"},
	{"land", cmd_run_verb, "apply a run's changes to the workspace"},
	{"undo", cmd_undo, "take a landing back"},
	{"queue", cmd_queue, "what waits for a person"},
	{"approve", cmd_approve, "let one waiting action go ahead"},
	{"deny", cmd_deny, "refuse one waiting action"},
	{"pause", cmd_run_verb, "start no further steps of a run"},
	{"cancel", cmd_run_verb, "end a run"},
	{"agency", cmd_agency, "how far a run may go without a person: read or turn the dial"},
	{"fork", cmd_fork, "a new run from before a step of another"},
	{"policy", cmd_policy, "check, explain, test, learn and compare policies"},
	{"doctor", cmd_doctor, "what this machine can enforce, and how to mend what it cannot"},
	{"tool", cmd_tool, "inside a step: call a tool that the policy names"},
	{"trust", cmd_trust, "let a project's own policy file count"},
	{"verify", cmd_verify, "check every record, chain, anchor and blob of the journal"},
	{"fsck", cmd_fsck, "fold the journal again and compare it with its rows"},
	{"export", cmd_export, "write records out as a CBOR sequence"},
	{"gc", cmd_gc, "drop old runs and blobs that nothing names"},
	{"daemon", cmd_daemon, "serve in the foreground"},
};

static void print_help(FILE *to)
{
	fputs("usage: holdfast [--state DIR] [--json] [--plain] [--no-input] COMMAND ...\n\n"
	      "Runs untrusted agent steps in sandboxes, journals them so that a crash repeats "
	      "nothing, and holds\n"
	      "what cannot be undone until a person approves it. Bare `holdfast` says what waits "
	      "for you.\n\n",
	      to);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].summary);
	fputs("\n`holdfast COMMAND --help` says how; holdfast(1), holdfast-plan(5), "
	      "holdfast-policy(5) say all.\n",
	      to);
}

static int unknown_command(const char *name)
{
	const char *names[ARRAY_SIZE(commands)];
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		names[i] = commands[i].name;
	const char *near = cli_nearest(name, names, ARRAY_SIZE(names));
	struct error err = {0};
	if (near)
		error_set_exit(&err, -EINVAL, EXIT_STATUS_USAGE,
			       "unknown command '%.60s'; did you mean '%s'?", name, near);
	else
		error_set_exit(&err, -EINVAL, EXIT_STATUS_USAGE,
			       "unknown command '%.60s'; 'holdfast --help' lists them", name);
	return cli_fail(&err);
}

/* Everything but help reads them: a command that went on without what they say could use another
 * state directory. */
static int load_settings(struct error *err)
{
	const struct settings_from from = {.etc = SETTINGS_ETC,
					   .home = getenv("HOME"),
					   .xdg_config = getenv("XDG_CONFIG_HOME"),
					   .uid = geteuid()};
	int r = settings_load(&from, &cli.settings, err);
	if (r == 0 && !cli.state)
		r = settings_state(&cli.settings, &from, getenv("XDG_STATE_HOME"),
				   &cli.settings_state, err);
	if (r == 0 && !cli.state)
		cli.state = cli.settings_state;
	return r;
}

int main(int argc, char **argv)
{
	const char *no_color = getenv("NO_COLOR"); /* no-color.org: set, and not empty */

	signal(SIGPIPE, SIG_DFL);
	failpoint_init(getenv("HOLDFAST_FAILPOINT"));
	cli.color = isatty(STDOUT_FILENO) && !(no_color && *no_color);
	cli.progress = isatty(STDERR_FILENO);

	static const struct option options[] = {CLI_OPTIONS,
						{"version", no_argument, NULL, CLI_OPT_OWN},
						{0}};
	int opt;
	while ((opt = cli_getopt(argc, argv, "+h", options)) != -1) {
		if (opt == 'h' || opt == CLI_OPT_HELP) {
			print_help(stdout);
			return EXIT_STATUS_OK;
		}
		if (opt == CLI_OPT_OWN) {
			cli_json_ahead(argc, argv, optind);
			if (cli.json)
				cli_print_json(json_pack("{s:i, s:s}", "version",
							 SUPERVISOR_API_VERSION, "program",
							 HOLDFAST_VERSION));
			else
				printf("holdfast %s\n", HOLDFAST_VERSION);
			return EXIT_STATUS_OK;
		}
		if (cli_option(opt, "Try 'holdfast --help'.\n") < 0)
			return EXIT_STATUS_USAGE;
	}
	const char *name = optind < argc ? argv[optind] : NULL;
	if (name && strcmp(name, "help") == 0) {
		print_help(stdout);
		return EXIT_STATUS_OK;
	}
	struct error err = {0};
	if (load_settings(&err) < 0) {
		/* What follows a command's own words is that command's; --json may stand among
		 * them. */
		cli_json_ahead(argc, argv, optind);
		return cli_fail(&err);
	}
	if (!name)
		return cmd_rollup(argc - optind, argv + optind);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) == 0) {
			int at = optind;
			optind = 0; /* glibc: start over for the subcommand's own options */
			cli.command = commands[i].name;
			return commands[i].run(argc - at, argv + at);
		}
	}
	cli_json_ahead(argc, argv, optind);
	return unknown_command(name);
}
