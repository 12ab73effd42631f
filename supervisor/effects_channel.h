#pragma once
/*
 * The supervisor's end of one courier's report channel, the inside of effects.c: the descriptor, the
 * queue of what is to be said, and its end. What is said here is never waited for: a courier that
 * does not read fills the queue, and past its limit the channel ends.
 *
 * A channel is owned by struct effects, one a run. Nothing of it must survive: a courier says what is
 * open again to whoever attaches.
 */
#include "supervisor/effects.h"

struct effects_queued; /* a message with its descriptors */
struct effects_request; /* effects_request.h */

struct effects_policy { /* an attempt's own, narrowed */
	struct effects_policy *next;
	struct journal_id attempt;
	unsigned agency;
	struct policy_effective *policy;
};

struct effects_channel {
	struct effects_channel *next;
	struct daemon *d; /* borrowed */
	struct journal_id run, instance;
	bool hello;
	int fd; /* owned */
	struct event *read, *write, *again;
	struct effects_queued *queue, **queue_end;
	size_t queue_count;
	struct effects_request *requests;
	struct effects_policy *policies;
};

struct effects {
	struct effects_hooks hooks;
	struct effects_channel *channels;
	char datagram[REPORT_DATAGRAM_MAX];
};

/* Takes fd over, also where it fails. The new channel stands in the place of the run's older one;
 * on_read gets it as arg. */
MUST_CHECK int effects_channel_open(struct daemon *d, const struct journal_id *run, int fd,
				    event_callback_fn on_read, struct error *err);
struct effects_channel *effects_channel_of(const struct daemon *d,
					   const struct journal_id *run); /* NULL: none */
void effects_channel_free(struct effects_channel *c);
/* Out of the list, and freed. */
void effects_channel_drop(struct daemon *d, struct effects_channel *c);
/* The same of one that broke: logged with why, and net.c is told. */
void effects_channel_ended(struct daemon *d, struct effects_channel *c, const char *why);
/* Duplicates fds; 0 also where it waits for room. What it says of the machine's memory (-ENOMEM,
 * -ENOBUFS) is of before it was queued: the courier never hears of it. */
MUST_CHECK int effects_channel_say(struct effects_channel *c, const struct report_message *m,
				   const int *fds, size_t fd_count);
/* Logs what could not be said (rc < 0). */
void effects_channel_said(struct effects_channel *c, int rc, const char *what);
