/* holdfast daemon: the supervisor in the foreground, as a service manager starts it. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "tools/cli.h"
#include "tools/helpers.h"

int cmd_daemon(int argc, char **argv)
{
	static const char usage[] = "usage: holdfast daemon [--state DIR]\n"
				    "Serves the state directory until it is told to stop, and "
				    "continues every run at start.\n";
	static const struct option options[] = {CLI_OPTIONS, {0}};
	int opt;
	while ((opt = cli_getopt(argc, argv, "", options)) != -1) {
		int r = cli_option(opt, usage);
		if (r)
			return r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
	}
	int wrong = cli_words(argc, argv, 0, 0, "", usage);
	if (wrong)
		return wrong;
	struct error err = {0};
	char program[PATH_MAX];
	if (helpers_find("holdfastd", program, sizeof(program), &err) < 0)
		return cli_fail(&err);
	char *args[] = {program, cli.state ? "--state" : NULL, (char *)cli.state, NULL};
	execv(program, args);
	error_set_exit(&err, -errno, EXIT_STATUS_SANDBOX,
		       "cannot start %s: %s; install Holdfast whole (meson install)", program,
		       strerror(errno));
	return cli_fail(&err);
}
