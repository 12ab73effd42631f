/*
 * holdfast exec and step: one command, with its own output and exit status passed through as env(1)
 * and timeout(1) do: the command's status, 128+n for a signal, 125 for Holdfast's own outcomes, 126
 * not executable, 127 not found. What it writes comes through pump.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/utf8.h"
#include "tools/announce.h"
#include "tools/cli.h"
#include "tools/pump.h"
#include "tools/run_request.h"
#include "tools/status_print.h"
#include "tools/trust.h"

static const char exec_usage[] =
	"usage: holdfast exec [--policy FILE|base|offline|coding] [--workspace DIR] [--agency "
	"LEVEL] [--name N] [--land] [-i] [-t] -- CMD [ARG ...]\n"
	"Runs one command in a sandbox over this folder (or DIR). What it changes is kept in a "
	"layer: --land applies it when the\n"
	"command succeeds, 'holdfast land' later. -i passes standard input on (read whole), -t "
	"gives it a terminal.\n"
	"Exit: the command's; 128+n for a signal; 125 where Holdfast itself stopped it (said on "
	"standard error); 126, 127 as usual.\n";

/* Holdfast's own outcome at a wrapper's command line. */
static int own_failure(const struct error *err)
{
	cli_fail(err);
	return CLI_EXEC_OWN;
}

/* ---- outcome
 * ----------------------------------------------------------------------------------------------------
 */

/* What failed is not kept: said, since the same command outside would have left it. */
static void tell_dropped(const char *workspace, int code)
{
	fprintf(stderr,
		"holdfast: it failed (exit %d): what it changed in %s was dropped; sh -c 'CMD || "
		"true' (in a shell: exit 0) keeps it\n",
		code, cli_escaped(workspace));
}

/* Whoever said --land sees what did not, and why. */
static void tell_left_out(struct client *c, const char *run)
{
	int exit_status = EXIT_STATUS_OK;
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s/diff?stat=1", run);
	json_t *doc = cli_fetch(c, (const char *)target.data, &exit_status);
	const json_t *n = cli_get(doc, "not_landing"), *paths = cli_get(n, "paths"), *o;
	size_t i;
	json_array_foreach(paths, i, o)
		fprintf(stderr, "holdfast: left out: %s: %s%s%s\n", cli_escaped(cli_str(o, "path")),
			cli_escaped(cli_str(o, "why")), *cli_str(o, "reason") ? ", " : "",
			cli_escaped(cli_str(o, "reason")));
	if (cli_int(n, "left_out") > (json_int_t)json_array_size(paths))
		fprintf(stderr,
			"holdfast: and %lld more left out: 'holdfast diff %.8s --all' shows them\n",
			(long long)cli_int(n, "left_out") - (long long)json_array_size(paths), run);
	json_decref(doc);
}

static bool landing_waits(const json_t *status)
{
	size_t i;
	const json_t *a;
	if (strcmp(cli_str(status, "landing"), "conflict") == 0)
		return true;
	json_array_foreach(cli_get(status, "needs_person"), i,
			   a) if (strcmp(cli_str(a, "kind"), "landing") == 0) return true;
	return false;
}

static void tell_changes(struct client *c, const json_t *status, const json_t *result,
			 const char *run)
{
	long long paths = (long long)cli_int(result, "paths");
	const char *landing = cli_str(status, "landing"),
		   *failed = cli_str(status, "landing_failed");
	bool landed = strcmp(landing, "landed") == 0, dropped = strcmp(landing, "dropped") == 0;
	if (*failed)
		fprintf(stderr, "holdfast: landing failed: %s; 'holdfast land %.8s' tries again\n",
			cli_escaped(failed), run);
	else if (strcmp(landing, "conflict") == 0) /* what goes on is said with what waits */
		fprintf(stderr,
			"holdfast: nothing landed: what the run changed was changed in %s, too; "
			"'holdfast diff %.8s' shows the run's changes\n",
			cli_escaped(cli_str(status, "workspace")), run);
	else if (landing_waits(status))
		fprintf(stderr,
			"holdfast: nothing landed yet: %lld %s changed; 'holdfast diff %.8s' "
			"shows\n",
			paths, paths == 1 ? "path" : "paths", run);
	else if (landed)
		fprintf(stderr, "holdfast: changes landed; 'holdfast undo %.8s' takes them back\n",
			run);
	else if (dropped && paths == 0)
		fprintf(stderr, "holdfast: nothing to land\n");
	else if (dropped)
		fprintf(stderr,
			"holdfast: nothing landed; 'holdfast diff %.8s --all' shows what "
			"changed\n",
			run);
	if (landed || dropped)
		tell_left_out(c, run);
	else if (*failed || landing_waits(status))
		return;
	else if (paths > 0 && strcmp(cli_str(status, "agency"), "observe") == 0)
		fprintf(stderr,
			"holdfast: %lld %s changed, and at the level observe nothing lands: "
			"'holdfast diff %.8s' shows\n",
			paths, paths == 1 ? "path" : "paths", run);
	else if (paths > 0 && !*cli_str(status, "ended")) /* a driver's run goes on */
		fprintf(stderr,
			"holdfast: %lld %s changed, kept aside until the run ends: 'holdfast diff "
			"%.8s' shows, 'holdfast step --run %s --end' ends it\n",
			paths, paths == 1 ? "path" : "paths", run,
			cli_escaped(*cli_str(status, "name") ? cli_str(status, "name") : run));
	else if (paths > 0)
		fprintf(stderr,
			"holdfast: %lld %s changed, kept aside: 'holdfast diff %.8s' shows, "
			"'holdfast land %.8s' applies\n",
			paths, paths == 1 ? "path" : "paths", run, run);
}

/* exec(3) says of the script what it means of the program that the script's first line names. */
static void tell_interpreter(const char *workspace, const char *program)
{
	char path[PATH_MAX], line[PATH_MAX];
	if (!strchr(program, '/') ||
	    (size_t)snprintf(path, sizeof(path), "%s/%s", program[0] == '/' ? "" : workspace,
			     program) >= sizeof(path))
		return;
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	if (n < 3 || line[0] != '#' || line[1] != '!')
		return;
	line[n] = 0;
	char *name = line + 2 + strspn(line + 2, " \t");
	name[strcspn(name, " \t\r\n")] = 0;
	if (name[0] == '/' && access(name, X_OK) == 0)
		fprintf(stderr,
			"holdfast: its first line names %s, which is there, and not to be executed "
			"inside; under fs, {path: \"%s\", access: rx} grants that file, and "
			"'--policy coding' what people keep under their home\n",
			cli_escaped(name), cli_escaped(name));
}

/* The wrapper's exit status from the step's last attempt. */
static int outcome(struct client *c, const char *run, const char *step_name)
{
	int exit_status = EXIT_STATUS_OK;
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s/steps/", run);
	client_encode(&target, step_name);
	json_t *status = status_fetch_asked(c, run, &exit_status);
	json_t *step = status ? cli_fetch(c, (const char *)target.data, &exit_status) : NULL;
	if (!step) {
		json_decref(status);
		return CLI_EXEC_OWN;
	}
	const json_t *attempts = cli_get(step, "attempts");
	const json_t *last = json_array_size(attempts)
				     ? json_array_get(attempts, json_array_size(attempts) - 1)
				     : NULL;
	const char *state = cli_str(last, "state"),
		   *why = *cli_str(last, "why") ? cli_str(last, "why") : cli_str(step, "why");
	bool paused = strcmp(cli_str(status, "state"), "paused") == 0;
	int code;
	/* The command went well and Holdfast refused what it left: a layer past a limit, a
	 * protected path. */
	bool refused = strcmp(state, "exited") == 0 && cli_int(last, "exit_code") == 0 &&
		       cli_int(last, "signal") == 0 &&
		       (strcmp(cli_str(step, "state"), "failed") == 0 ||
			strcmp(cli_str(step, "state"), "denied") == 0);
	bool exited = strcmp(state, "exited") == 0;
	if (!refused && exited && cli_int(last, "signal") > 0)
		code = 128 + (int)cli_int(last, "signal");
	else if (!refused && (exited || (strcmp(state, "not-started") == 0 &&
					 cli_int(last, "exit_code") >= 126)))
		code = (int)cli_int(last, "exit_code");
	else
		code = CLI_EXEC_OWN;
	/* The command went well, and what it was run for waits for a person. */
	if (code == 0 && (landing_waits(status) || *cli_str(status, "landing_failed")))
		code = CLI_EXEC_OWN;
	/* A layer is there where the workspace is staged. */
	bool staged_failed = exited && !refused && code != 0 && *cli_str(last, "layer") &&
			     strcmp(cli_str(step, "state"), "failed") == 0;
	if (cli.json) {
		json_object_set(step, "status", status);
		json_object_set_new(step, "exec_exit", json_integer(code));
		json_object_set_new(step, "changes_dropped", json_boolean(staged_failed));
		cli_print_json(json_incref(step));
	} else {
		if (staged_failed)
			tell_dropped(cli_str(status, "workspace"), code);
		if (refused)
			fprintf(stderr, "holdfast: %s: %s\n", cli_escaped(cli_str(step, "state")),
				cli_escaped(cli_str(step, "why")));
		else if (strcmp(state, "exited") != 0 && (*state || !paused))
			fprintf(stderr, "holdfast: %s: %s\n",
				*state ? cli_escaped(state) : cli_escaped(cli_str(step, "state")),
				cli_escaped(why));
		const char *program = json_string_value(json_array_get(cli_get(step, "argv"), 0));
		if (program && strcmp(state, "not-started") == 0 && code >= 126)
			tell_interpreter(cli_str(status, "workspace"), program);
		size_t i;
		const json_t *a;
		json_array_foreach(cli_get(last, "denied"), i, a)
			fprintf(stderr, "holdfast: refused inside: %s\n", status_refusal(a));
		status_print_notes(last, stderr);
		json_array_foreach(cli_get(status, "needs_person"), i, a) announce_item(a, false);
		if (paused && !*cli_str(status, "landing_failed"))
			fprintf(stderr,
				"holdfast: run %.8s is paused, nothing landed%s%s; 'holdfast "
				"resume "
				"%.8s' goes on with it\n",
				run, *cli_str(status, "why") ? ": " : "",
				cli_escaped(cli_str(status, "why")), run);
		else
			tell_changes(c, status, cli_get(step, "result"), run);
	}
	json_decref(step);
	json_decref(status);
	return code;
}

/* Of the last attempt; 1 where there is none yet. */
static json_int_t newest_attempt(const json_t *step)
{
	size_t n = json_array_size(cli_get(step, "attempts"));
	return n ? cli_int(json_array_get(cli_get(step, "attempts"), n - 1), "number") : 1;
}

static json_t *fetch_step(struct client *c, const char *run, const char *step, struct error *err)
{
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s/steps/", run);
	client_encode(&target, step);
	struct client_request q = {.method = "GET", .target = (const char *)target.data};
	json_t *doc = NULL;
	return client_call(c, &q, NULL, &doc, NULL, err) < 0 ? NULL : doc;
}

/* What follows on the output is another attempt's, from its beginning. */
static void tell_next_attempt(struct client *c, const char *run, const char *step,
			      json_int_t attempt)
{
	struct error ignored = {0};
	json_t *doc = fetch_step(c, run, step, &ignored);
	const json_t *a;
	const char *state = "over", *why = "";
	size_t i;
	json_array_foreach(cli_get(doc, "attempts"), i, a)
	{
		if (cli_int(a, "number") >= attempt)
			break;
		state = cli_str(a, "state");
		why = cli_str(a, "why");
	}
	bool lost = strcmp(state, "lost") == 0;
	fprintf(stderr,
		"holdfast: attempt %lld %s%s%s%s; the step runs again, its output begins anew\n",
		(long long)attempt - 1, lost ? "was " : "ended: ", cli_escaped(state),
		*why ? ": " : "", cli_escaped(why));
	json_decref(doc);
}

/* Shows what the step writes, attempt after attempt, until it is over: one that was lost with its
 * keeper runs again. until: as cli_follow_run's step. What to leave with: EXIT_STATUS_OK or else. */
static int follow_step(struct client *c, const char *run, const char *step, const char *until,
		       bool tty)
{
	struct error err = {0};
	json_t *doc = fetch_step(c, run, step, &err);
	if (!doc)
		return own_failure(&err);
	json_int_t attempt = newest_attempt(doc), shown = 0;
	json_decref(doc);
	while (shown != attempt) {
		int r = 0;
		if (shown && !cli.json)
			tell_next_attempt(c, run, step, attempt);
		shown = attempt;
		if (tty)
			r = pump_terminal(c, run, step, attempt, &err);
		else if (!cli.json)
			r = pump_output(c, run, step, attempt, &err);
		if (r < 0)
			return own_failure(&err);
		r = cli_follow_attempt(c, run, until, step, &attempt);
		if (r != EXIT_STATUS_OK)
			return r;
	}
	return EXIT_STATUS_OK;
}

int cmd_exec_follow(struct client *c, const char *run, const char *step)
{
	return follow_step(c, run, step, NULL, false);
}

/* While another run has the workspace, the run has no step yet that could be followed; a signal then
 * has no command to go to, and ends the run. */
static int wait_declared(struct client *c, const char *run, char *ret_step, size_t size)
{
	AUTO_BUFFER target = {0};
	sigset_t set, old;
	buffer_printf(&target, "/v1/runs/%s", run);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pump_add_hangup(&set);
	sigprocmask(SIG_BLOCK, &set, &old);
	while (!*ret_step) {
		static const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
		int exit_status = EXIT_STATUS_OK;
		json_t *status = cli_fetch(c, (const char *)target.data, &exit_status);
		const json_t *step = json_array_get(cli_get(status, "steps"), 0);
		bool known = status != NULL, over = *cli_str(status, "ended") != 0;
		snprintf(ret_step, size, "%s", cli_str(step, "name"));
		json_decref(status);
		int sig = *ret_step || !known ? 0 : sigtimedwait(&set, NULL, &pause);
		if (sig == SIGINT) {
			cli_interrupt(c, run, 0);
			exit(128 + sig);
		}
		if (sig > 0) {
			pump_cancel_run(c, run);
			fprintf(stderr,
				"holdfast: run %.8s is cancelled before its command began\n", run);
			exit(128 + sig);
		}
		if (!known || (over && !*ret_step))
			return CLI_EXEC_OWN;
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	return EXIT_STATUS_OK;
}

/* Waits until nothing of the run is under way: ended, or waiting for a person. */
static int run_command(struct run_request *q)
{
	AUTO(run_request_close) struct run_files *files = NULL;
	AUTO(client_close) struct client *c = NULL;
	struct error err = {0};
	char run[64], step[256];
	json_t *made = NULL;
	if (q->tty && pump_terminal_size(&q->rows, &q->cols) < 0) {
		error_set_exit(
			&err, -ENOTTY, EXIT_STATUS_USAGE,
			"-t wants a terminal on standard input; leave -t out, or run it from one");
		return own_failure(&err);
	}
	int r = run_request_open(q, &files, &err);
	if (r == 0)
		r = client_open(cli.state, CLIENT_START_MAKE, &c, &err);
	if (r == 0)
		r = trust_offer(c, q, &err);
	if (r == 0)
		r = run_request_send(c, files, &made, &err);
	if (r < 0)
		return own_failure(&err);
	snprintf(run, sizeof(run), "%s", cli_str(made, "run"));
	snprintf(step, sizeof(step), "%s", cli_str(made, "step"));
	if (!cli.json)
		status_print_notes(made, stderr);
	json_decref(made);
	r = *step ? EXIT_STATUS_OK : wait_declared(c, run, step, sizeof(step));
	if (r == EXIT_STATUS_OK)
		r = follow_step(c, run, step, NULL, q->tty);
	return r == EXIT_STATUS_OK ? outcome(c, run, step) : CLI_EXEC_OWN;
}

int cmd_exec(int argc, char **argv)
{
	enum { WORKSPACE = CLI_OPT_OWN, POLICY, AGENCY, NAME, LAND };
	static const struct option options[] = {CLI_OPTIONS,
						{"workspace", required_argument, NULL, WORKSPACE},
						{"policy", required_argument, NULL, POLICY},
						{"agency", required_argument, NULL, AGENCY},
						{"name", required_argument, NULL, NAME},
						{"land", no_argument, NULL, LAND},
						{0}};
	struct run_request q = {0};
	int opt;
	cli.own_exit = CLI_EXEC_OWN;
	while ((opt = cli_getopt(argc, argv, "+it", options)) != -1) {
		if (opt == 'i')
			q.send_stdin = true;
		else if (opt == 't')
			q.tty = true;
		else if (opt == WORKSPACE)
			q.workspace = optarg;
		else if (opt == POLICY)
			q.policy = optarg;
		else if (opt == AGENCY)
			q.agency = optarg;
		else if (opt == NAME)
			q.name = optarg;
		else if (opt == LAND)
			q.land = true;
		else {
			int r = cli_option(opt, exec_usage);
			if (r)
				return r > 0 ? EXIT_STATUS_OK : CLI_EXEC_OWN;
		}
	}
	if (optind >= argc || !argv[optind][0]) {
		cli_usage(exec_usage, "no command is named; say it after --");
		return CLI_EXEC_OWN;
	}
	q.argv = argv + optind;
	return run_command(&q);
}

/* ---- step: an outside driver declares steps one by one
 * ----------------------------------------------------------- */

static const char step_usage[] = "usage: holdfast step --run NAME [--workspace DIR] [--policy P] "
				 "[--needs STEP,...] [-i] STEP -- CMD [ARG ...]\n"
				 "       holdfast step --run NAME --end\n"
				 "For drivers of your own (a script, an agent loop): declares the "
				 "step STEP of the run NAME, made by the first call, and\n"
				 "waits for it. A step of that name and input that is committed "
				 "already is not executed again: its recorded output is\n"
				 "printed. --end ends the run: it succeeds and its changes land as "
				 "a plan's would. Exit: as 'holdfast exec', for --end as 'holdfast run'.\n";

static int make_driver_run(struct client **ret, struct run_request *q, char *ret_run, size_t size,
			   struct error *err)
{
	AUTO(run_request_close) struct run_files *files = NULL;
	json_t *made = NULL;
	int r = run_request_open(q, &files, err);
	if (r == 0)
		r = client_open(cli.state, CLIENT_START_MAKE, ret, err);
	if (r == 0)
		r = trust_offer(*ret, q, err);
	if (r == 0)
		r = run_request_send(*ret, files, &made, err);
	if (r < 0)
		return r;
	snprintf(ret_run, size, "%s", cli_str(made, "run"));
	if (cli_bool(made, "attached"))
		status_mute_notes(made); /* said by the step that made the run */
	else if (!cli.json)
		status_print_notes(made, stderr);
	json_decref(made);
	return 0;
}

/* NULL: a word is not UTF-8, which JSON cannot carry (said). */
static json_t *step_body(const char *name, char **argv, const char *needs, bool with_stdin,
			 struct error *err)
{
	json_t *args = json_array(), *needed = json_array();
	const char *wrong = utf8_valid(bytes_str(name)) ? NULL : "the STEP";
	for (char **a = argv; *a && !wrong; a++)
		if (json_array_append_new(args, json_string(*a)) < 0)
			wrong = "an argument of the command";
	AUTO_FREE char *copy = strdup(needs ? needs : "");
	char *save = NULL;
	for (char *n = strtok_r(copy, ",", &save); n && !wrong; n = strtok_r(NULL, ",", &save))
		if (json_array_append_new(needed, json_string(n)) < 0)
			wrong = "--needs";
	if (!wrong)
		return json_pack("{s:s, s:o, s:o, s:b}", "name", name, "argv", args, "needs",
				 needed, "stdin", with_stdin);
	json_decref(args);
	json_decref(needed);
	error_set_exit(err, -EILSEQ, EXIT_STATUS_USAGE,
		       "%s is not UTF-8; say it in UTF-8, or put it in a script", wrong);
	return NULL;
}

static int declare_step(struct client *c, const char *run, json_t *body, bool with_stdin,
			bool *ret_reused, struct error *err)
{
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s/steps", run);
	struct client_request r = {.method = "POST",
				   .target = (const char *)target.data,
				   .body = body};
	AUTO_FD file = -1;
	if (with_stdin) {
		int e = run_request_stdin(&file, err);
		if (e < 0)
			return e;
		r.fds[r.fd_count++] = (struct client_fd){.name = "stdin", .fd = file};
	}
	json_t *answer = NULL;
	int e = client_call(c, &r, NULL, &answer, NULL, err);
	if (e == 0)
		*ret_reused = cli_bool(answer, "reused");
	json_decref(answer);
	return e;
}

static bool waits_for_person(struct client *c, const char *run)
{
	struct error err = {0};
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s", run);
	struct client_request r = {.method = "GET", .target = (const char *)target.data};
	json_t *status = NULL;
	if (client_call(c, &r, NULL, &status, NULL, &err) < 0)
		return false;
	bool waits = json_array_size(cli_get(status, "needs_person")) > 0;
	size_t i;
	const json_t *s;
	json_array_foreach(cli_get(status, "steps"), i, s) waits =
		waits && strcmp(cli_str(s, "state"), "active") != 0;
	json_decref(status);
	return waits;
}

static int end_driver_run(struct client *c, const char *name)
{
	struct error err = {0};
	AUTO_BUFFER target = {0};
	buffer_append_str(&target, "/v1/runs/");
	client_encode(&target, name);
	int exit_status = EXIT_STATUS_OK;
	json_t *status = cli_fetch(c, (const char *)target.data, &exit_status);
	if (!status)
		return exit_status;
	char run[64];
	snprintf(run, sizeof(run), "%s", cli_str(status, "run"));
	json_decref(status);
	buffer_append_str(&target, "/end");
	struct client_request r = {.method = "POST", .target = (const char *)target.data};
	if (client_call(c, &r, NULL, NULL, NULL, &err) < 0)
		return cli_fail(&err);
	exit_status = cli_follow_run(c, run, NULL, false);
	return exit_status == EXIT_STATUS_OK ? status_tell_outcome(c, run) : exit_status;
}

int cmd_step(int argc, char **argv)
{
	enum { RUN = CLI_OPT_OWN, WORKSPACE, POLICY, NEEDS, END };
	static const struct option options[] = {CLI_OPTIONS,
						{"run", required_argument, NULL, RUN},
						{"workspace", required_argument, NULL, WORKSPACE},
						{"policy", required_argument, NULL, POLICY},
						{"needs", required_argument, NULL, NEEDS},
						{"end", no_argument, NULL, END},
						{0}};
	struct run_request q = {.outside_driver = true};
	const char *needs = NULL;
	bool end = false;
	int opt;
	cli.own_exit = CLI_EXEC_OWN;
	while ((opt = cli_getopt(argc, argv, "+i", options)) != -1) {
		if (opt == 'i')
			q.send_stdin = true;
		else if (opt == RUN)
			q.name = optarg;
		else if (opt == WORKSPACE)
			q.workspace = optarg;
		else if (opt == POLICY)
			q.policy = optarg;
		else if (opt == NEEDS)
			needs = optarg;
		else if (opt == END)
			end = true;
		else {
			int r = cli_option(opt, step_usage);
			if (r)
				return r > 0 ? EXIT_STATUS_OK : CLI_EXEC_OWN;
		}
	}
	if (end) /* it wraps no command */
		cli.own_exit = 0;
	/* STEP -- CMD: getopt stopped at STEP; the "--" after it is ours to skip. */
	int at = optind + 1;
	if (!end && at < argc && argv[optind][0] && strcmp(argv[at], "--") != 0) {
		cli_usage(
			step_usage,
			"'%.40s' stands between the STEP and the --; options come before the STEP, "
			"the command after the --",
			argv[at]);
		return CLI_EXEC_OWN;
	}
	at++;
	const char *missing = !q.name || !*q.name ? "no run is named; say --run NAME"
			      : end && optind != argc
				      ? "--end takes no step; leave out what follows it"
			      : !end && (optind >= argc || !argv[optind][0])
				      ? "no STEP is named; name it before the --"
			      : !end && at >= argc ? "no command is named; say it after --"
						   : NULL;
	if (missing) {
		int wrong = cli_usage(step_usage, "%s", missing);
		return end ? wrong : CLI_EXEC_OWN; /* --end wraps no command */
	}
	struct error err = {0};
	AUTO(client_close) struct client *c = NULL;
	if (end && client_open(cli.state, CLIENT_START_THERE, &c, &err) < 0)
		return cli_fail(&err); /* it ends a run, and wraps no command */
	if (end)
		return end_driver_run(c, q.name);
	const char *step = argv[optind];
	bool with_stdin = q.send_stdin, reused = false;
	q.send_stdin = false;
	char run[64];
	json_t *body = step_body(step, argv + at, needs, with_stdin, &err);
	if (!body)
		return own_failure(&err);
	int r = make_driver_run(&c, &q, run, sizeof(run), &err);
	if (r == 0)
		r = declare_step(c, run, body, with_stdin, &reused, &err);
	json_decref(body);
	if (r == 0 && waits_for_person(c, run))
		r = error_set_exit(&err, -EINPROGRESS, EXIT_STATUS_WAITING,
				   "step '%.64s' does not start: the run waits for a person; "
				   "'holdfast queue' says for what",
				   step);
	if (r < 0)
		return own_failure(&err);
	r = follow_step(c, run, step, step, false);
	if (r != EXIT_STATUS_OK)
		return CLI_EXEC_OWN;
	if (reused && !cli.json)
		fprintf(stderr, "holdfast: %s is committed already: its recorded result\n",
			cli_escaped(step));
	return outcome(c, run, step);
}
