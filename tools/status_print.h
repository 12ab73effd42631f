#pragma once
/* How runs, steps and the queue are shown to a person. Everything that came from outside is
 * escaped. */
#include <stdio.h>
#include "tools/cli.h"

void status_print_brief(
	const json_t *status); /* after run, resume: a few lines and what to type next */
void status_print_whole(const json_t *status); /* holdfast status RUN */
/* Each note once in the life of this program. */
void status_print_notes(const json_t *doc, FILE *to);
void status_mute_notes(const json_t *doc); /* were printed by an earlier one, and are not again */
/* The command of a step, as a shell would be told it; what is past max bytes is left out, and that is said. */
void status_print_argv(const json_t *doc, size_t max);
/* What --digest wants: the card's, which cannot stand in what it is the digest of. */
void status_print_digest(const json_t *approval);
/* One line of the roll-up; items: how many of the run wait for a person. */
void status_print_summary(const json_t *summary, size_t items);
void status_print_approval(const json_t *approval); /* one line of the queue */
void status_print_answers(const json_t *approval, const char *indent); /* to a conflict, so far */
/* "mount (system call 165), 3 times": of an attempt's denied; as long as cli_escaped. */
const char *status_refusal(const json_t *call);
/* GET the run's status (owned); of a conflict, once its item is in the queue or did not come in 5 s.
 * NULL: said, and *ret_exit is what to leave with. */
json_t *status_fetch_asked(struct client *c, const char *run, int *ret_exit);
/* GET the run's status and print it brief (or --json); returns its exit status. */
int status_tell(struct client *c, const char *run);
/* As it, but leaves with what became of the run: 1 a step failed, 4 it waits, ... */
int status_tell_outcome(struct client *c, const char *run);
/* How an item of this kind is approved: " --as mine|theirs|file=F", or "". */
const char *status_choices_of(const char *kind);
bool status_is_over(struct client *c, const char *run);
/* After a cancel: waits, for a while, until a landing that had begun has come to its end, and prints
 * how it stands; returns its exit status. was_over: before the cancel, which gave up what failed. */
int status_tell_cancelled(struct client *c, const char *run, bool was_over);
/* After the vote that approved a landing or answered its conflict: waits, for a while, for what comes
 * of it, and prints that; with --json it is put into answer. 0 it landed, was taken back, or goes
 * on; 4 it is asked again, 8 it failed, 9 conflict. */
int status_tell_voted(struct client *c, const json_t *item, json_t *answer);
/* Waits until a landing or undoing has an outcome, prints it; 0 landed or undone, 4 waits for a
 * person, 9 conflict. */
int status_wait_landed(struct client *c, const char *run, const char *verb);
