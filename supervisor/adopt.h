#pragma once
/*
 * The seam to the keeper: commands of the engine become requests, and what the keeper reports
 * becomes inputs of the engine. It owns the connection, and finds again what lives after a crash of
 * either side. Requests about layers are sealing.c's.
 *
 * An attempt goes: START -> STARTED -> EXITED -> GONE. Only at GONE are its output, results and
 * layer final; then its spool becomes blobs and the engine is told. A check is an attempt of its
 * own toward the keeper, named by a digest of (attempt, check, epoch): what an earlier supervisor
 * started is not found again, it is killed and run anew.
 */
#include "supervisor/cards.h"
#include "supervisor/daemon.h"
#include "supervisor/jobs.h"

/* For net.c: what is asked about a run's network. */
enum adopt_net_what { ADOPT_NET_OPEN, ADOPT_NET_ATTACH, ADOPT_NET_CLOSE };

/* Something that was asked of the keeper and is not answered yet. */
struct adopt_request {
	struct adopt_request *next;
	uint64_t number; /* the connection's */
	const struct adopt_kind *kind; /* static */
	enum adopt_net_what net;
	struct journal_id run, attempt;
	char layer[JOURNAL_LAYER_NAME_SIZE];
	uint64_t ticket; /* of the client that waits; 0 = none */
};

/* Who is told of its end; one of the two is called, once. e is a REPLY or a LAYER. */
struct adopt_kind {
	void (*answered)(struct daemon *d, struct adopt_request *q, const struct sandbox_event *e);
	void (*lost)(struct daemon *d, struct adopt_request *q); /* the keeper went away first; NULL
								    = that is told otherwise */
};
/* Copies like, whose number is the connection's. */
void adopt_await(struct daemon *d, const struct adopt_request *like);

MUST_CHECK int adopt_new(struct adopt **ret); /* 0 or -ENOMEM */
void adopt_free(struct adopt *a); /* accepts NULL */
/* The epoch of a keeper that is there, without taking it over; 0 = there is none. */
uint64_t adopt_look(struct daemon *d);
/* At start: takes the keeper over if one is there, and tells the engine what it found
 * (engine_recover). */
MUST_CHECK int adopt_recover(struct daemon *d, bool start, struct error *err);
/* One engine_command about an attempt or a layer; those about effects, cards and landings are not
 * the keeper's. */
void adopt_perform(struct daemon *d, const struct engine_command *c);
/* Whether this process must stay: something was asked of the keeper whose outcome is not recorded
 * yet. */
bool adopt_busy(const struct daemon *d);
pid_t adopt_keeper_pid(const struct daemon *d); /* 0 = none */

/* For the API. The attempt is named as the journal names it. */
MUST_CHECK int adopt_signal(struct daemon *d, const struct journal_id *attempt, int sig,
			    struct error *err);
MUST_CHECK int adopt_resize(struct daemon *d, const struct journal_id *attempt, uint16_t rows,
			    uint16_t cols, struct error *err);
/* Answers ticket with the terminal's descriptor, or an error. */
MUST_CHECK int adopt_pty(struct daemon *d, const struct journal_id *attempt, uint64_t ticket,
			 struct error *err);
/* Notices of output, counted: api_server_kick at each. */
void adopt_follow(struct daemon *d, const struct journal_id *attempt, bool on);
/* A new descriptor of the attempt's spool file, the caller's; -ENOENT once it is forgotten (then the
 * blob holds it). */
MUST_CHECK int adopt_spool_open(struct daemon *d, const struct journal_id *attempt,
				bool err_stream);
/* Whether the keeper still writes to it. */
bool adopt_live(const struct daemon *d, const struct journal_id *attempt);
/* Runs argv (not a step) read-only over the folder dest_fd and answers ticket with its output as
 * text/x-diff, or, where card is not NULL, finishes that card with it (cards_finish; taken over on
 * success). Takes dest_name, a folder below spool/, over: it is removed afterwards. */
MUST_CHECK int adopt_diff(struct daemon *d, const struct journal_id *run, const char *const *argv,
			  int dest_fd, const char *dest_name, struct buffer *note, uint64_t ticket,
			  struct cards_work *card, struct error *err);

/* Starts a job of jobs.c. */
MUST_CHECK int adopt_job(struct daemon *d, const struct sandbox_spec *spec, const char *dest,
			 struct jobs_job *job, struct error *err);

/* For net.c: one request about a run's network; the answer goes to net_answered(), and to nobody
 * where the keeper is lost first. n: of OPEN, borrowed. CLOSE with no keeper there is done. */
MUST_CHECK int adopt_net(struct daemon *d, enum adopt_net_what what, const struct journal_id *run,
			 const struct sandbox_net *n, struct error *err);

/* For attempts.c: requests on the connection, whether or not it is there now. */
void adopt_kill_now(struct daemon *d, const struct sandbox_attempt_id *id);
void adopt_forget(struct daemon *d, const struct sandbox_attempt_id *id); /* with its spool */
/* The keeper's connection, made where there is none; NULL = it cannot be had. */
struct sandbox_client *adopt_client(struct daemon *d, struct error *err);
void adopt_check_next(struct daemon *d, const struct engine_command *cmd, uint32_t index);
