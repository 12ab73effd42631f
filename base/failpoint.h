#pragma once
/*
 * Named failpoints: HOLDFAST_FAILPOINT="journal.before_sync=kill" (or =error:EIO, =stop, =kill@3
 * for the third passing) makes the process die, fail or stop at that name: kill and stop act at the
 * first passing, error at every one, each with @N only at the Nth. Several are separated by commas.
 * =delay:MS holds up the thread that passes, once; =hold:PATH until there is such a file.
 * =overread reads a byte past a heap block, which shows whether a sanitizer's report is seen.
 * A spec that cannot be read ends the process with 125. Only compiled with -Dfailpoints=true. The
 * variable is read once by failpoint_init(), which only a program's main calls.
 */
#include <stddef.h>

#include "base/error.h"

enum { FAILPOINT_ENV_MAX = 5 };

#ifdef HOLDFAST_FAILPOINTS
void failpoint_init(const char *spec); /* NULL = none */
int failpoint_hit(
	const char *name); /* 0, or the negative errno to fail with; may not return (kill) */
/* Of this process's environment what a test says to the helpers too, which inherit nothing else:
 * failpoints, and where a sanitizer reports. A NULL behind the last. May be called after clone. */
void failpoint_env(char *ret[FAILPOINT_ENV_MAX + 1]);
#else
static inline void failpoint_init(const char *spec)
{
	(void)spec;
}
static inline int failpoint_hit(const char *name)
{
	(void)name;
	return 0;
}
static inline void failpoint_env(char *ret[FAILPOINT_ENV_MAX + 1])
{
	ret[0] = NULL;
}
#endif
