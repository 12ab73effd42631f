/*
 * holdfast verify, fsck, export, gc: handed to holdfast-journal. RocksDB takes longer to load than
 * a sandbox to start, so that the command line is without it.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tools/cli.h"
#include "tools/helpers.h"

enum { PREFIX_MAX = 8 };

/* The global options that main has taken already, then the command as it was given. */
static int hand_over(int argc, char **argv)
{
	struct error err = {0};
	char path[PATH_MAX];
	AUTO_FREE char **args = calloc(PREFIX_MAX + (size_t)argc + 1, sizeof(*args));
	int n = 0;

	if (!args) {
		error_nomem(&err);
		return cli_fail(&err);
	}
	if (helpers_find("holdfast-journal", path, sizeof(path), &err) < 0)
		return cli_fail(&err);
	args[n++] = "holdfast";
	if (cli.state) {
		args[n++] = "--state";
		args[n++] = (char *)cli.state;
	}
	if (cli.json)
		args[n++] = "--json";
	if (cli.plain)
		args[n++] = "--plain";
	if (cli.no_input)
		args[n++] = "--no-input";
	memcpy(args + n, argv, ((size_t)argc + 1) * sizeof(*argv));
	execv(path, args);
	error_set_exit(&err, -errno, EXIT_STATUS_SANDBOX, "cannot run %s: %s", path,
		       strerror(errno));
	return cli_fail(&err);
}

int cmd_verify(int argc, char **argv)
{
	return hand_over(argc, argv);
}

int cmd_fsck(int argc, char **argv)
{
	return hand_over(argc, argv);
}

int cmd_export(int argc, char **argv)
{
	return hand_over(argc, argv);
}

int cmd_gc(int argc, char **argv)
{
	return hand_over(argc, argv);
}
