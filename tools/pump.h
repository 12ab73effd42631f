#pragma once
/*
 * One attempt's output, and its terminal, passed on to our own, for as long as it lives: also past a
 * lost supervisor, whose successor is looked for. Where our own output takes no more the run is
 * cancelled; where that is a pipe that nobody reads, this program exits as SIGPIPE would have it.
 * Negative errno, said in *err: the outcome is the caller's to ask for.
 */
#include <signal.h>
#include "tools/client.h"

/* Passes the output of one attempt on as it comes. Ctrl-C is for the run, as everywhere
 * (cli_interrupt); SIGTERM goes to the command, a second one ends only this program; SIGHUP is as
 * SIGTERM, and said. */
MUST_CHECK int pump_output(struct client *c, const char *run, const char *step, json_int_t attempt,
			   struct error *err);
/* The sandbox's terminal: the keeper pumps the other end, so that this goes on though the
 * supervisor died. SIGHUP, as from a terminal that is closed, cancels the run and ends this program. */
MUST_CHECK int pump_terminal(struct client *c, const char *run, const char *step,
			     json_int_t attempt, struct error *err);
/* Of standard input; -errno where that is no terminal. */
MUST_CHECK int pump_terminal_size(unsigned *ret_rows, unsigned *ret_cols);
/* Adds SIGHUP to a set that is to be blocked and read; not where it is ignored, as under nohup(1): the
 * kernel queues it all the same while it is blocked. */
void pump_add_hangup(sigset_t *set);
/* With what runs of it; what goes wrong is said. */
void pump_cancel_run(struct client *c, const char *run);
