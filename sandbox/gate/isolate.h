#pragma once
/*
 * How gate and courier shut themselves in, before the first byte of anybody else's: numbered stages
 * that read top to bottom in isolate.c, each with what should and must not be possible after it.
 *
 * Called once, early in main(), in a single thread, with descriptors 2 (log), 3 (control) and 4
 * (the run's lock) as the keeper gave them. What the process needs of the host's files, it has read
 * before. Afterwards there is no file, no other process, no new privilege and, for the gate, no
 * network; a call that no event loop makes ends the process.
 */
#include "base/error.h"
#include "base/guard.h"

enum isolate_kind {
	ISOLATE_GATE, /* no socket(2) but Unix pairs, no connect(2), a network namespace with
			 nothing in it */
	ISOLATE_COURIER, /* may connect by IPv4 and IPv6, make memfds, lock memory */
};

enum {
	ISOLATE_CONTROL_FD = 3,
	ISOLATE_LOCK_FD = 4,
	ISOLATE_UID_BASE =
		0x70000000, /* root's helpers become this plus their pid: nobody else's */
	ISOLATE_DATA_MAX = 1 << 30, /* bytes of private memory: RLIMIT_DATA */
};

/* keep: further descriptors that stay open. 0 and 1 become /dev/null. A failure means that the
 * process must end: what it has given up already does not come back. */
MUST_CHECK int isolate(enum isolate_kind kind, const int *keep, size_t keep_count,
		       struct error *err);
