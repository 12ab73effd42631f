#pragma once
/* What the files of the daemon itself share; seen by daemon*.c only. */
#include "supervisor/daemon.h"

/* What the engine calls; ctx is d. */
struct engine_ops daemon_ops(struct daemon *d);
/* Opens d->paths, takes the lock (-EBUSY: another supervisor serves here), fills d->own and opens
 * v1, layers, spool and helpers. On failure what was opened is d's to close. */
MUST_CHECK int daemon_folders_open(struct daemon *d, struct error *err);
