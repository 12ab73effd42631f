#pragma once
/*
 * holdfastd's own inside: what its parts share. Private to the impure half of the room (daemon,
 * runs, create, confine, adopt, work, api/).
 *
 * One thread runs all of it, but for what blocks on the user's directory or looks through the whole
 * journal (aside.h; the journal's committer is the journal's own). Every input goes the
 * same way: a request, a report of the keeper or a timer calls the engine; the engine appends
 * records and asks for commands; daemon_settle() ends the batch and performs what may be performed;
 * what leaves waits for daemon.durable.
 */
#include <event2/event.h>
#include "journal/journal.h"
#include "policy/policy.h"
#include "sandbox/sandbox.h"
#include "supervisor/api/server.h"
#include "supervisor/engine.h"
#include "supervisor/own.h"
#include "supervisor/supervisor.h"

enum {
	DAEMON_IDLE_TICK_MS = 750, /* whether there is anything to do is looked at so often */
	DAEMON_COLLECT_MS = 60 * 60 * 1000, /* between looks for runs that were kept long enough */
	DAEMON_RETAIN_AGAIN_MS = 5 * 60 * 1000, /* after one that failed */
	DAEMON_TICK_MAX_MS =
		10000, /* timers are looked at so often at least: the wall clock may jump */
	DAEMON_SPACE_TICK_MS = 1000, /* and while the disk is nearly full */
	DAEMON_FOLLOW_SYNC_MS = 20, /* unsynced records reach followers within this */
	DAEMON_FILES_MAX = 65536, /* descriptors, where the hard limit allows it */
};

struct daemon_command { /* a copy of an engine_command that waits for its turn */
	struct daemon_command *next;
	struct engine_command c;
	uint64_t after; /* lsn that must be durable first; 0 = none */
	struct plan_step *spec; /* owned copies of what the command borrows */
	char (*stack)[JOURNAL_LAYER_NAME_SIZE];
	struct buffer feedback;
};

struct adopt; /* adopt.h */
struct aside; /* aside.h */
struct audits; /* audits.h */
struct garbage; /* garbage.h */
struct nets; /* net.h */
struct attempts; /* attempts.h */
struct notify; /* notify.h */
struct runs; /* runs.h */
struct squash; /* squash.h */
struct effects; /* effects.h */
struct programs; /* program.h */
struct undos; /* effect_undo.h */

struct daemon {
	struct daemon_options options;
	const struct settings *settings; /* of options */
	struct event_base *loop;
	struct supervisor_paths paths;
	struct own *own;
	struct own_from own_from;
	int lock_fd, v1_fd, spool_fd, layers_fd, helpers_fd;
	struct journal *journal;
	const struct journal_state *rows; /* of journal, borrowed */
	struct engine *engine;
	struct api_server *api;
	struct adopt *adopt;
	struct garbage *garbage;
	struct nets *nets;
	struct attempts *attempts;
	struct runs *runs;
	struct notify *notify;
	struct squash *squash;
	struct effects *effects;
	struct programs *programs;
	struct undos *undos;
	struct aside *aside;
	struct audits *audits;
	struct card_heads *card_heads;
	uint64_t epoch, durable;
	uint8_t boot_id[16];
	struct event *tick, *idle, *journal_event, *follow_sync;
	struct event *signals[4];
	struct daemon_command *commands, **commands_end;
	bool need_sync; /* a record of the open batch must be durable before what depends on it */
	bool settling, recovered, stopping;
	bool failed; /* daemon_fail */
	bool space_low; /* no step starts and no run is taken */
	int64_t idle_since_ms;
	int64_t retain_at_ms; /* CLOCK_BOOTTIME; not before: it failed */
	unsigned votes_verifying; /* their proofs are kept, and no record names them yet */
};

/* A deep copy, or NULL when out of memory. */
struct daemon_command *daemon_command_copy(const struct engine_command *c);
void daemon_command_free(struct daemon_command *c); /* accepts NULL */

/* Before every input that may start a step: below the reserve of free space what could start waits
 * (engine_hold), and goes on with room again. */
void daemon_look_at_space(struct daemon *d);
/* A journal_keep_fn; arg is the daemon. engine_forget_settled() first, in the same turn. */
bool daemon_holds(const struct journal_id *run, void *arg);
/* After every input: performs commands, ends the batch, sets the timers. */
void daemon_settle(struct daemon *d);
void daemon_stop(struct daemon *d);
/* The same, and daemon_run says -EIO: it cannot go on; the caller has logged why. */
void daemon_fail(struct daemon *d);
/* What retention began is over. done: it is not due again for a while. */
void daemon_retained(struct daemon *d, bool done);
struct engine_now daemon_now(void);
void daemon_new_id(struct journal_id *ret); /* UUIDv4 */
/* A layer's name that no folder has yet; begins with mark unless that is NUL. */
void daemon_layer_name(const struct daemon *d, char mark, char ret[JOURNAL_LAYER_NAME_SIZE]);
void daemon_log(const struct daemon *d, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Milliseconds until an embedded supervisor goes; -1 = it stays. */
int64_t daemon_idle_in_ms(const struct daemon *d);
/* A refused report (-ESTALE) is logged, another failure too: the engine recorded nothing then. */
void daemon_check(const struct daemon *d, int result, const char *what);
