#pragma once
/*
 * The attempts that the keeper has for us, and what each becomes for the engine. Used by adopt.c,
 * which owns the connection; see adopt.h for the life of one.
 */
#include "supervisor/cards.h"
#include "supervisor/daemon.h"
#include "supervisor/jobs.h"
#include "supervisor/runs.h"

enum {
	ATTEMPTS_TERM_MS = 5000,
	ATTEMPTS_DRAIN_MS = 2000, /* a gate or a courier that died with an attempt says nothing more
				     of it */
	ATTEMPTS_FEEDBACK_MAX = 16 * 1024, /* bytes of a failed check's output that the next attempt
					      gets, of each stream */
};

/* What it is to us; to the keeper all are attempts. attempts_end.c has what each does at its end. */
enum attempt_kind {
	ATTEMPT_STEP, /* of a step: in flight in the journal */
	ATTEMPT_CHECK, /* of a sealed step's contract */
	ATTEMPT_STRANGER, /* the journal does not know it: nothing of it is told */
	ATTEMPT_DIFF, /* diff(1) for a client */
	ATTEMPT_CARD, /* diff(1) for a card */
	ATTEMPT_JOB, /* a command of jobs.c */
};

/*
 * How far it is, by what its keeper told us. Each begins as ASKED, and may be dropped from any:
 *
 *   WAITS     the keeper does not know it: layers are merged first, or its run's network is made
 *   ASKED     START is sent, or is being made; or the keeper had it when we came
 *   LIVE      its command runs: it has a terminal, and is sent TERM before it is killed
 *   EXITED    `exit` has its end; the keeper clears up behind it, and says GONE
 *   DRAINING  a step's, and GONE: its end is recorded once its courier has told all of it, or when
 *             `late` fires; then it waits to be forgotten
 *
 *   WAITS          -> WAITS, ASKED   news of what it waits for: it waits for more, or starts
 *   ASKED          -> WAITS, ASKED   as its START is made
 *   ASKED          -> LIVE           STARTED; an adopted one: the journal has it so
 *   WAITS .. LIVE  -> EXITED         EXITED, or its keeper died. It may be all that we hear of an
 *                                    adopted one; and a check that is run again has its name of
 *                                    before
 *   EXITED         -> DRAINING       GONE, and its courier has not told all
 *
 * From GONE to its recorded end its layer may be measured (`measure`), EXITED or DRAINING as it is.
 * After a hello the keeper tells what it told last once again: that moves nothing back.
 */
enum attempt_state {
	ATTEMPT_WAITS,
	ATTEMPT_ASKED,
	ATTEMPT_LIVE,
	ATTEMPT_EXITED,
	ATTEMPT_DRAINING,
};

struct attempt {
	struct attempt *next;
	enum attempt_kind kind;
	enum attempt_state state; /* attempts_move */
	bool marked; /* of the walk under way, which goes to the engine with one after the other
			while the list may change; walks do not meet */
	struct sandbox_attempt_id id; /* toward the keeper */
	struct journal_id attempt; /* in the journal */
	struct journal_id run;
	uint32_t step;
	bool net; /* it may use its run's network */
	char squashed[JOURNAL_LAYER_NAME_SIZE]; /* the squashed layer that it stands on; empty =
						   none */
	struct daemon *owner; /* borrowed, for the timer */
	struct event *kill_timer; /* KILL after TERM; NULL = it was not asked to end */
	bool drained; /* its courier has told all of it, which may be before its keeper has */
	struct event *late; /* DRAINING, else NULL: for at most ATTEMPTS_DRAIN_MS */
	int late_fd; /* of late; owned: its results folder; -1 = none */
	struct sandbox_exit exit; /* from EXITED on */
	/* NONE   nobody asked
	 * ASKED  it is gone and the disk was full: what its layer takes is asked for, and
	 *        measure_fd waits as late_fd does
	 * DONE   filled is known */
	enum attempt_measure { MEASURE_NONE = 0, MEASURE_ASKED, MEASURE_DONE } measure;
	int measure_fd;
	uint64_t filled; /* bytes of its own without which the disk would not be full; 0 = it is not
			    to blame */
	int followers;
	uint64_t pty_ticket; /* of a client that asked for the terminal before it started; 0 = none
			      */
	struct daemon_command *command; /* STEP, CHECK: owned copy; the next check starts from it.
					   NULL = an earlier supervisor started it */
	uint32_t check_index; /* CHECK */
	/* DIFF, CARD, JOB: */
	uint64_t ticket; /* of DIFF: its client */
	struct cards_work *card; /* owned; of CARD */
	char dest[32];
	struct buffer note;
	struct jobs_job *job; /* owned; of JOB */
};

MUST_CHECK int attempts_new(struct attempts **ret);
void attempts_free(struct attempts *a); /* accepts NULL */

void attempts_id(const struct journal_id *attempt, struct sandbox_attempt_id *ret);
struct attempt *attempts_find(const struct daemon *d, const struct sandbox_attempt_id *id);
/* The step's own attempt or its check that runs now; NULL = none. */
struct attempt *attempts_of(const struct daemon *d, const struct journal_id *attempt);
bool attempts_any(const struct daemon *d);
void attempts_move(struct attempt *a, enum attempt_state to); /* asserts that it is legal */
void attempts_drop(struct daemon *d, struct attempt *a);

/* Makes the sandbox of a command's attempt, or of its next check. Every failure is told to the
 * engine. */
void attempts_start(struct daemon *d, struct sandbox_client *c, const struct engine_command *cmd);
void attempts_check_next(struct daemon *d, struct sandbox_client *client,
			 const struct engine_command *cmd, uint32_t index);
/* kind: "exec", "spec", "machine", "infra", "denied", "killed", ENGINE_HELD_LAYERS: the word before
 * the colon of the recorded reason. */
void attempts_not_started(struct daemon *d, const struct engine_command *cmd, const char *kind,
			  const char *why, bool infra);

/* TERM, and KILL after ATTEMPTS_TERM_MS; or KILL at once. */
void attempts_kill(struct daemon *d, struct sandbox_client *c, struct attempt *a, bool now);

/* News of the network that attempts of the run may wait for; why: they cannot start. */
void attempts_again(struct daemon *d, const struct journal_id *run, const struct error *why);
/* The step that it is an attempt of; owned. */
MUST_CHECK int attempts_spec(const struct daemon *d, const struct attempt *a,
			     struct plan_step **ret);
/* Those of a run that may use its network and that the keeper knows. fn must not drop any. */
void attempts_each_net(struct daemon *d, const struct journal_id *run,
		       void (*fn)(struct attempt *a, void *arg), void *arg);
bool attempts_of_run(const struct daemon *d, const struct journal_id *run);

/* News of the squash that attempts of the run may wait for. */
void attempts_squashed(struct daemon *d, const struct journal_id *run, bool failed);
bool attempts_use(const struct daemon *d, const char *squashed);
/* True while one lives that an earlier supervisor started: what it stands on is not known. */
bool attempts_adopted(const struct daemon *d);

void attempts_on_started(struct daemon *d, struct attempt *a);
void attempts_on_not_started(struct daemon *d, struct attempt *a,
			     const struct sandbox_not_started *n);
void attempts_on_exited(struct daemon *d, struct attempt *a, const struct sandbox_exit *e);
/* out_fd: the results folder, borrowed; -1 = none. */
void attempts_on_gone(struct daemon *d, struct attempt *a, int out_fd);

/* In buf: that it filled the disk with its own files; NULL where it did not. */
const char *attempts_filled(const struct daemon *d, const struct journal_id *attempt, char *buf,
			    size_t size);

/* Its courier has nothing more to tell of it; nothing where it is not of that courier's run. */
void attempts_drained(struct daemon *d, const struct journal_id *run,
		      const struct sandbox_attempt_id *id);

/* Its keeper died. */
void attempts_lose(struct daemon *d, struct attempt *a);

/* Whether the journal has this attempt in flight; then it is ours from now on. */
bool attempts_adopt(struct daemon *d, const struct sandbox_attempt_id *id);
/* One that the journal does not know: it is forgotten when it is gone, with its spool. */
void attempts_disown(struct daemon *d, const struct sandbox_attempt_id *id);
/* The connection was lost. What hello does not name (NULL: all) is lost. */
void attempts_after_loss(struct daemon *d, const struct sandbox_hello *h);
/* True while a process of an attempt in flight lives. */
bool attempts_locked(const struct daemon *d);
void attempts_spool_remove(struct daemon *d, const struct sandbox_attempt_id *id);

/* One command outside of steps: argv read-only over a folder of the spool, for adopt_diff. Takes
 * note and card over on success. */
MUST_CHECK int attempts_start_diff(struct daemon *d, struct sandbox_client *c,
				   const struct journal_id *run, const char *const *argv,
				   int dest_fd, const char *dest, struct buffer *note,
				   uint64_t ticket, struct cards_work *card, struct error *err);
/* A job of jobs.c, over the folder dest of the spool. Takes job over on success. */
MUST_CHECK int attempts_start_job(struct daemon *d, struct sandbox_client *c,
				  const struct sandbox_spec *spec, const char *dest,
				  struct jobs_job *job, struct error *err);
size_t attempts_jobs(const struct daemon *d); /* how many run */
