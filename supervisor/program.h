#pragma once
/*
 * The bytes of the program that a step names, as the step will see them: in the layers it stands on
 * (their manifests know each file's digest), else in the base, else in the host's tree. They are
 * part of what the step's key stands for (engine_input.c).
 */
#include "supervisor/daemon.h"

enum {
	PROGRAM_WHOLE_MAX = 64 * 1024 * 1024, /* of a larger file size, beginning and end are
						 hashed: the loop waits for it */
	PROGRAM_PART = 8 * 1024 * 1024,
	PROGRAM_CACHED = 64, /* files whose digest is remembered by device, inode, size and ctime */
};

struct programs; /* opaque, owned: the cache */

MUST_CHECK int programs_new(struct programs **ret);
void programs_free(struct programs *p); /* accepts NULL */
/*
 * 1 with the digest, or 0 where no such program can be found now (an earlier layer may be gone, the
 * host may not have it: the step will say so when it starts). below: the step whose stack it is, or
 * NULL for all that is committed. A script's own bytes count, not its interpreter's.
 */
int program_digest(struct daemon *d, const struct journal_run *run,
		   const struct journal_step *below, const struct plan_step *spec,
		   struct digest *ret);
