#pragma once
/*
 * Telling people that something waits, is about to expire, or was decided: `notify` of the run's
 * policy, else of the settings. The command runs in a sandbox, under the run's policy as a step
 * called "notify"; it gets the event and the item's id as its last two arguments and the card on
 * standard input, and nothing more.
 *
 * At least once: what was told is recorded (APPROVAL_TOLD), what is not recorded is told again by
 * the next supervisor. A command that fails is tried NOTIFY_TRIES times, then that is recorded and
 * logged; nothing ever waits for it.
 */
#include "supervisor/daemon.h"

enum {
	NOTIFY_TRIES = 3,
	NOTIFY_AGAIN_MS = 5000, /* between two tries */
	NOTIFY_TIMEOUT_MS = 60000, /* of one */
	NOTIFY_AT_ONCE_MAX = 4,
	NOTIFY_WAITING_MAX = 100000, /* events that wait for their turn; past it they are told by
					the next supervisor */
	NOTIFY_LOOK_BACK =
		8, /* ended runs that are looked at after a start for what was not told */
	NOTIFY_LATE_MS = 1500, /* so long after it */
	NOTIFY_EXPIRING_MAX_S = 3600, /* told so long before the end, or for a tenth of the time */
};

MUST_CHECK int notify_new(struct daemon *d, struct notify **ret);
void notify_free(struct notify *n); /* accepts NULL */
/* Of every record that is appended: remembers what is to be told. */
void notify_record(struct daemon *d, const struct journal_record *r);
/* At start: what an earlier supervisor did not come to tell. */
void notify_recover(struct daemon *d);
/* What expires soon; starts what may be started. Of each tick. */
void notify_tick(struct daemon *d);
/* The wall time at which notify_tick has something to do; 0 = none is known. */
int64_t notify_due_ns(const struct daemon *d);
bool notify_busy(const struct daemon *d);
