/* holdfast tool: inside a step the client that stands there, by whatever name it was called. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "tools/cli.h"

/* supervisor/confine.h binds it there where the step's policy has tools */
#define TOOL_CLIENT "/run/holdfast/bin/holdfast"

int cmd_tool(int argc, char **argv)
{
	static const char usage[] =
		"usage: holdfast tool [--reason TEXT] NAME [--ARGUMENT VALUE]...\n"
		"Inside a step: calls a tool that the policy names; waits where a person is asked. "
		"Prints what the tool printed\nand leaves with its exit status.\n";
	char *args[256] = {(char *)"holdfast"};
	struct error err = {0};

	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		fputs(usage, stdout);
		return EXIT_STATUS_OK;
	}
	bool has_reason = argc > 3 && strcmp(argv[1], "--reason") == 0;

	if (argc < 2 || (argv[1][0] == '-' && !has_reason) || !argv[1][0])
		return cli_usage(usage, "no tool is named; say which one first");
	if (argc >= (int)ARRAY_SIZE(args) - 1)
		return cli_usage(usage, "more than %zu arguments; give fewer",
				 ARRAY_SIZE(args) - 3);
	memcpy(args + 1, argv, (size_t)argc * sizeof(*argv));
	execv(TOOL_CLIENT, args);
	error_set_exit(
		&err, -ENETUNREACH, EXIT_STATUS_SANDBOX,
		"tool: there are no tools here; call it inside a step whose policy names some "
		"under 'tools'");
	return cli_fail(&err);
}
