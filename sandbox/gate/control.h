#pragma once
/*
 * What the keeper says to a gate and a courier, and the one thing a gate says back: fixed structs
 * in the machine's own byte order over SOCK_SEQPACKET (descriptor 3 of both programs), descriptors
 * by SCM_RIGHTS. Both ends are of one build and one machine: a header that does not fit ends the
 * process, and the keeper starts it anew.
 *
 * The keeper holds what must outlive them: the sealed memfds of the name table and of the CA, the
 * listeners of every live attempt, the names given to the slots of wildcards, the run's lock. A new
 * gate gets all of it again; a new courier gets a new trunk, and the supervisor's next report
 * channel. Both processes die with the keeper (parent-death signal) and hold the run's lock while
 * they live: descriptor 4 of both, flock(2), never used otherwise.
 */
#include <stdint.h>

enum { CONTROL_FDS_MAX = 16, CONTROL_NAME_MAX = 255 };

enum control_type {
	/* keeper to gate */
	CONTROL_TABLE = 1, /* fds: sealed memfd, `net-table` */
	CONTROL_CA = 2, /* fds: sealed memfd, PEM: certificate, then its key */
	CONTROL_LISTENERS = 3, /* fds: of `attempt`, in the table's order, from number `first` on */
	/* keeper to both */
	CONTROL_TRUNK = 4, /* fds: this end of a new trunk; an old one is closed */
	CONTROL_ATTEMPT_END = 5, /* close what belongs to `attempt` */
	/* both ways: slot `slot` of table entry `entry` stands for `name` */
	CONTROL_NAME = 6,
	/* keeper to courier */
	CONTROL_REPORT = 7, /* fds: this end of a report channel to a supervisor (report.h); the
			       older one is closed, and what is unanswered is said again */
};

struct control_message {
	uint32_t type;
	uint32_t first; /* LISTENERS */
	uint8_t attempt[16];
	uint32_t entry, slot; /* NAME */
	char name[CONTROL_NAME_MAX + 1]; /* NAME: A-label, NUL-terminated, the rest zero */
};
_Static_assert(sizeof(struct control_message) == 288, "fixed");
