#pragma once
/*
 * What a followed run waits for a person with, said on standard error as soon as it is asked for: a command that waits in
 * silence looks like one that hangs. Each item is said once a process.
 *
 * struct announce follows the run's events: it is fed them (announce_event), or has a stream of its own (announce_watch).
 * It never fails the command it serves: where it cannot ask, nothing is said.
 */
#include "tools/cli.h"

struct announce {
	struct client *c; /* borrowed */
	const char *run; /* borrowed */
	bool raw; /* the terminal does not return the carriage by itself */
	json_t *open; /* ids of items nobody has decided yet, as keys; owned */
	struct client_stream *events; /* NULL = none of its own; owned */
	struct buffer text; /* of it, not yet cut into lines */
};

/* Takes one event of the run. */
void announce_event(struct announce *a, const json_t *event);
/* Whether somebody is asked and has not answered. */
bool announce_waits(const struct announce *a);
/* Says those that are open and were not said yet. */
void announce_tell(struct announce *a);
/* The same for one item, as the API tells it. */
void announce_item(const json_t *approval, bool raw);

/* Opens (again) a stream of its own, from the run's first event. */
void announce_watch(struct announce *a);
int announce_fd(const struct announce *a); /* poll for POLLIN; -1 = none */
bool announce_pending(const struct announce *a);
void announce_read(struct announce *a); /* where it is readable: takes what came and tells */
void announce_close(struct announce *a); /* of a zeroed one too */
