#pragma once
/*
 * What every subcommand of holdfast(1) shares: the global options, how errors and JSON are printed,
 * colours.
 *
 * A subcommand is `int cmd_name(int argc, char **argv)`, argv[0] its own name; it returns an enum
 * exit_status (exec: see holdfast(1), EXIT STATUS).
 */
#include <getopt.h>
#include <stdbool.h>
#include "tools/client.h"

struct cli {
	const char *state; /* --state, or what the settings name, or NULL */
	const char *command; /* the subcommand's name, for messages; NULL before it is known */
	bool json, plain, no_input;
	int own_exit; /* what every error leaves with; 0 = its own. Of exec and step: CLI_EXEC_OWN */
	bool color; /* standard output is a terminal, no NO_COLOR, no --plain */
	bool progress; /* standard error is a terminal, not --json, not --plain */
	struct settings settings; /* of this machine and user; owned */
	char *settings_state; /* the state directory that they name, owned; NULL = none */
};
extern struct cli cli; /* filled by main and by cli_option(); the program's only global */

/* Long options of every subcommand; short options start with '+' or are free. */
enum {
	CLI_OPT_STATE = 1000,
	CLI_OPT_JSON,
	CLI_OPT_PLAIN,
	CLI_OPT_NO_INPUT,
	CLI_OPT_HELP,
	CLI_OPT_OWN = 2000
};
#define CLI_OPTIONS                                                \
	{"state", required_argument, NULL, CLI_OPT_STATE},         \
		{"json", no_argument, NULL, CLI_OPT_JSON},         \
		{"plain", no_argument, NULL, CLI_OPT_PLAIN},       \
		{"no-input", no_argument, NULL, CLI_OPT_NO_INPUT}, \
	{                                                          \
		"help", no_argument, NULL, CLI_OPT_HELP            \
	}

/* getopt_long(3), with what is wrong said by cli_fail and not by it: '?' then. */
int cli_getopt(int argc, char **argv, const char *shorts, const struct option *longs);
/* Takes one of CLI_OPTIONS: 0 taken, 1 = --help was asked for (usage is printed, exit 0), -EINVAL =
 * cli_getopt has said what is wrong. */
int cli_option(int opt, const char *usage);
/* How many words are left at optind, from min to max, none of them empty: 0, or EXIT_STATUS_USAGE
 * (said). names: what each is, as the usage has them: "RUN STEP". */
int cli_words(int argc, char **argv, int min, int max, const char *names, const char *usage);
/* Whether --json stands among what was not looked at yet, for an error that ends the looking. */
void cli_json_ahead(int argc, char **argv, int from);

/* Prints `holdfast: msg` on stderr, or with --json the error as one object on stdout, and returns
 * the exit status that the error carries. */
int cli_fail(const struct error *err);
/* The command line is wrong: why, as an error, then the usage on stderr (not with --json). Returns
 * EXIT_STATUS_USAGE. */
int cli_usage(const char *usage, const char *why, ...) PRINTF_LIKE(2, 3);
void cli_print_json(json_t *doc); /* one document and a newline; takes the reference */
void cli_print_text(const char *untrusted); /* escaped, to stdout */
void cli_escape_text(struct buffer *out,
		     struct bytes untrusted); /* text of several lines, as a terminal may show it */
char *cli_escaped(const char *untrusted); /* escaped copy in a ring of 16 static buffers of limited
					     size: for printf */

enum cli_tone { CLI_PLAIN, CLI_GOOD, CLI_BAD, CLI_WARN, CLI_DIM, CLI_BOLD };
const char *cli_tone(enum cli_tone t); /* the escape sequence, or "" */
#define CLI_RESET cli_tone(CLI_PLAIN)
/* "3s", "5m12s", "2h03m", "4d" since a time in nanoseconds. */
void cli_duration(char *buf, size_t size, int64_t ns);
/* RFC 3339 UTC with optional fraction to CLOCK_REALTIME nanoseconds; -1 if it is not. */
int64_t cli_parse_time(const char *text);
int64_t cli_now_ns(void);

/* The nearest name by edit distance, or NULL: for "did you mean". */
const char *cli_nearest(const char *word, const char *const *names, size_t count);

/* JSON access that never fails: a missing or mistyped member is "", 0, NULL. */
const char *cli_str(const json_t *o, const char *key);
json_int_t cli_int(const json_t *o, const char *key);
bool cli_bool(const json_t *o, const char *key);
json_t *cli_get(const json_t *o, const char *key);

/* Asks on the terminal whether to do what verb says. What was typed before the question stood on
 * the screen does not count (typeahead is flushed, 300 ms dead time), and Enter alone decides
 * nothing.
 */
bool cli_confirm(const char *verb);

/* GET target and return the document, or print the error and return NULL with *ret_exit. */
json_t *cli_fetch(struct client *c, const char *target, int *ret_exit);
/* For --json: prints a GET's document as it came, without taking it apart, and `more` (the reference
 * is taken; NULL = nothing) as one more member of it. Returns the exit status. */
int cli_print_answer(struct client *c, const char *target, const char *name, json_t *more);

int cmd_run(int argc, char **argv);
int cmd_exec(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_step(int argc, char **argv);
int cmd_rollup(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_log(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_diff(int argc, char **argv);
int cmd_queue(int argc, char **argv);
int cmd_approve(int argc, char **argv);
int cmd_deny(int argc, char **argv);
int cmd_undo(int argc, char **argv);
int cmd_run_verb(int argc, char **argv); /* pause, cancel, land, undo: argv[0] says which */
int cmd_fork(int argc, char **argv);
int cmd_agency(int argc, char **argv);
int cmd_tool(int argc, char **argv);
int cmd_trust(int argc, char **argv);
int cmd_daemon(int argc, char **argv);
int cmd_policy(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_fsck(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_gc(int argc, char **argv);

/* After a lost connection: reaches the supervisor that serves now, or starts one, and resumes the
 * run (not a paused one). */
MUST_CHECK int cli_go_on(struct client *c, const char *run, struct error *err);
/* Shared by run, resume, exec, step: follows a run until it ends, is paused or waits for a person,
 * or until the step (where one is named) is final; prints progress of long work. EXIT_STATUS_OK, or
 * what to leave with. */
int cli_follow_run(struct client *c, const char *run, const char *step, bool quiet);
/* Ctrl-C while the run is followed. The first (before: how many there were): no further step starts,
 * what runs goes on; how it goes on is said. The second kills it. False: there is nothing more to
 * wait for. */
bool cli_interrupt(struct client *c, const char *run, int before);
/* Exit status of a wrapper (exec, step) for Holdfast's own outcomes, as of env(1) and timeout(1). */
enum { CLI_EXEC_OWN = 125 };
/* Shows what the run's only step writes until it is over, as `exec` does. EXIT_STATUS_OK, or what to
 * leave with (said already). */
int cmd_exec_follow(struct client *c, const char *run, const char *step);
/* As it, quietly, until the step `until` (NULL: the run); ends also when an attempt of `step` that is
 * newer than *attempt has begun, which it then is. */
int cli_follow_attempt(struct client *c, const char *run, const char *until, const char *step,
		       json_int_t *attempt);
