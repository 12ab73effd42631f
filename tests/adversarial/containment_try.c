/*
 * Runs INSIDE: containment-try WORLD prints the answer of every row, "INDEX ANSWER" a line. With the
 * setuid bit and no argument it says who it is: exit 0 where that is whoever started it.
 * Static, so that it runs wherever it lies.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/adversarial/containment.h"

int main(int argc, char **argv)
{
	struct world w;

	if (argc == 1)
		return geteuid() == getuid() && getegid() == getgid() ? 0 : 1;
	containment_read(&w, argv[1]);
	for (size_t i = 0; i < containment_count; i++) {
		printf("%zu %d\n", i, containment_run(&containment_tries[i], &w));
		fflush(stdout);
	}
	return 0;
}
