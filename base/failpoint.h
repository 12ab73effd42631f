#pragma once
/*
 * Named failpoints: HOLDFAST_FAILPOINT="journal.before_sync=kill" (or =error:EIO, =stop, =kill@3
 * for the third passing) makes the process die, fail or stop at that name: kill and stop act at the
 * first passing, error at every one, each with @N only at the Nth. Several are separated by commas.
 * A spec that cannot be read ends the process with 125. Only compiled with -Dfailpoints=true. The
 * variable is read once by failpoint_init(), which only a program's main calls.
 */
#include "base/error.h"

#ifdef HOLDFAST_FAILPOINTS
void failpoint_init(const char *spec); /* NULL = none */
int failpoint_hit(
	const char *name); /* 0, or the negative errno to fail with; may not return (kill) */
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
#endif
