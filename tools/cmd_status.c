/* holdfast (bare), status, log, show, diff: what was done, what is under way, what waits. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tools/cli.h"
#include "tools/show_effect.h"
#include "tools/status_print.h"

enum { LOG_RECONNECTS_MAX = 100, LOG_RECONNECT_PAUSE_MS = 200 };
enum { SHOW_ARGV_MAX = 4000, LOG_ARGV_MAX = 200 }; /* bytes of a command that are shown */

/* How many of those that wait are the run's. */
static size_t items_of(const json_t *waiting, const json_t *run)
{
	size_t i, n = 0;
	const json_t *o;
	json_array_foreach(waiting, i, o) n += strcmp(cli_str(o, "run"), cli_str(run, "run")) == 0;
	return n;
}

static int print_rollup(bool all)
{
	struct error err = {0};
	AUTO(client_close) struct client *c = NULL;
	int r = client_open(cli.state, CLIENT_START_THERE, &c, &err);
	if (r == -ENODATA) { /* err says where: that is the answer here */
		if (cli.json)
			cli_print_json(json_pack("{s:i, s:[], s:[], s:i, s:[], s:i, s:n}",
						 "version", SUPERVISOR_API_VERSION, "runs",
						 "needs_person", "open", 0, "in_doubt", "ended", 0,
						 "daemon"));
		else
			puts(cli_escaped(err.msg));
		return EXIT_STATUS_OK;
	}
	if (r < 0)
		return cli_fail(&err);
	int exit_status = EXIT_STATUS_OK;
	json_t *daemon = cli_fetch(c, "/v1/daemon", &exit_status);
	if (!daemon)
		return exit_status;
	if (cli.json)
		return cli_print_answer(c, all ? "/v1/runs?all=1" : "/v1/runs", "daemon", daemon);
	json_t *doc =
		cli_fetch(c, all ? "/v1/runs?all=1&max=100" : "/v1/runs?max=100", &exit_status);
	if (!doc) {
		json_decref(daemon);
		return exit_status;
	}
	const json_t *waiting = cli_get(doc, "needs_person"), *doubt = cli_get(doc, "in_doubt"),
		     *runs = cli_get(doc, "runs");
	size_t i;
	const json_t *o;
	if (json_array_size(waiting) > 0)
		puts("waits for you:");
	json_array_foreach(waiting, i, o) status_print_approval(o);
	if ((size_t)cli_int(doc, "open") > json_array_size(waiting))
		printf("  and %zu more: 'holdfast queue --all'\n",
		       (size_t)cli_int(doc, "open") - json_array_size(waiting));
	if (json_array_size(doubt) > 0)
		puts("in doubt:");
	json_array_foreach(doubt, i, o) show_effect_line(o);
	if (json_array_size(runs) > 0)
		puts("runs:");
	json_array_foreach(runs, i, o) status_print_summary(o, items_of(waiting, o));
	if (json_array_size(waiting) + json_array_size(doubt) + json_array_size(runs) == 0)
		puts("nothing runs and nothing waits for you. 'holdfast exec -- CMD' or 'holdfast "
		     "run PLAN' starts something.");
	json_int_t ended = cli_int(doc, "ended");
	if (ended > 0)
		printf("%lld more %s ended: 'holdfast status --all' shows %s too\n", (long long)ended,
		       ended == 1 ? "run has" : "runs have", ended == 1 ? "it" : "them");
	printf("%ssupervisor %lld%s, epoch %lld; keeper %lld%s\n", cli_tone(CLI_DIM),
	       (long long)cli_int(daemon, "pid"), cli_bool(daemon, "embedded") ? " (embedded)" : "",
	       (long long)cli_int(daemon, "epoch"), (long long)cli_int(daemon, "keeper"),
	       CLI_RESET);
	json_decref(daemon);
	json_decref(doc);
	return EXIT_STATUS_OK;
}

int cmd_rollup(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return print_rollup(false);
}

/* Options, at most max_args words after them. -EINVAL with *ret_exit where the command line ends
 * it. */
static int take_args(int argc, char **argv, const char *usage, int min_args, int max_args,
		     const struct option *options, void (*own)(int opt, void *arg), void *arg,
		     int *ret_exit)
{
	int opt;
	while ((opt = cli_getopt(argc, argv, "f", options)) != -1) {
		if (opt == 'f' || opt >= CLI_OPT_OWN) {
			own(opt, arg);
			continue;
		}
		int r = cli_option(opt, usage);
		if (r) {
			*ret_exit = r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
			return -EINVAL;
		}
	}
	*ret_exit = cli_words(argc, argv, min_args, max_args, "RUN STEP", usage);
	return *ret_exit ? -EINVAL : 0;
}

/* As it, and opens the client. */
static int open_with_args(int argc, char **argv, const char *usage, int min_args, int max_args,
			  const struct option *options, void (*own)(int opt, void *arg), void *arg,
			  struct client **ret, int *ret_exit)
{
	struct error err = {0};
	int r = take_args(argc, argv, usage, min_args, max_args, options, own, arg, ret_exit);

	if (r < 0)
		return r;
	if (client_open(cli.state, CLIENT_START_THERE, ret, &err) < 0) {
		*ret_exit = cli_fail(&err);
		return -EIO;
	}
	return 0;
}

static void run_target(struct buffer *out, const char *run, const char *rest)
{
	buffer_append_str(out, "/v1/runs/");
	client_encode(out, run);
	buffer_append_str(out, rest);
}

static void flag_own(int opt, void *arg)
{
	(void)opt;
	*(bool *)arg = true;
}

int cmd_status(int argc, char **argv)
{
	static const char usage[] = "usage: holdfast status [RUN | --all]\n"
				    "Three questions: what is done, what is in flight, what is "
				    "safe to retry. Without RUN: over all runs that have\n"
				    "not ended and the ten newest of those that have; --all: over all, newest "
				    "first.\n";
	static const struct option options[] = {CLI_OPTIONS,
						{"all", no_argument, NULL, CLI_OPT_OWN},
						{0}};
	bool all = false;
	AUTO(client_close) struct client *c = NULL;
	struct error err = {0};
	int exit_status = EXIT_STATUS_OK;
	if (take_args(argc, argv, usage, 0, 1, options, flag_own, &all, &exit_status) < 0)
		return exit_status;
	if (optind == argc)
		return print_rollup(all);
	if (all)
		return cli_usage(usage, "--all is for all runs; leave out '%.40s' or --all",
				 argv[optind]);
	if (client_open(cli.state, CLIENT_START_THERE, &c, &err) < 0)
		return cli_fail(&err);
	AUTO_BUFFER target = {0};
	run_target(&target, argv[optind], "");
	json_t *doc = cli_fetch(c, (const char *)target.data, &exit_status);
	if (!doc)
		return exit_status;
	if (cli.json) {
		cli_print_json(doc);
	} else {
		status_print_whole(doc);
		json_decref(doc);
	}
	return EXIT_STATUS_OK;
}

/* What a record's number means (enums of journal/journal.h); NULL: it is a number. */
static const char *word_of(const char *key, json_int_t n)
{
	static const struct {
		const char *key, *words[9];
	} known[] = {
		{"agency", {"observe", "draft", "assist", "trusted", "autonomous"}},
		{"land", {"auto", "ask", "never"}},
		{"base", {"live", "pinned"}},
		{"decision", {NULL, "approve", "deny"}},
		{"kind",
		 {NULL, "step-gate", "step-commit", "landing", "conflict", "exhausted", "diverged",
		  "effect", "doubt"}},
		{"timer_kind",
		 {NULL, "backoff", "step-deadline", "decide-by", "execute-by", "freeze", "suspend",
		  "key-window"}},
	};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(known[i].key, key) == 0 && n >= 0 &&
		    n < (json_int_t)ARRAY_SIZE(known[i].words))
			return known[i].words[n];
	return NULL;
}

/* Bits of enum journal_wait. */
static void print_waits(json_int_t bits)
{
	static const char *const names[] = {"approval",	 "timer",    "doubt", "conflict",
					    "exhausted", "diverged", "lease"};
	const char *comma = "";
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!(bits & (json_int_t)1 << i))
			continue;
		printf("%s%s", comma, names[i]);
		comma = ",";
	}
	if (!*comma)
		fputs("nothing", stdout);
}

static void print_moment(json_int_t ns)
{
	time_t s = (time_t)(ns / 1000000000);
	struct tm tm;
	char text[32];
	if (gmtime_r(&s, &tm) && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
		fputs(text, stdout);
}

static bool print_number(const char *key, const json_t *v)
{
	size_t len = strlen(key);
	json_int_t n = json_integer_value(v);
	if (!json_is_integer(v))
		return false;
	if (strcmp(key, "waits") == 0)
		print_waits(n);
	else if (len > 3 && strcmp(key + len - 3, "_ns") == 0 && n > 0)
		print_moment(n);
	else if (strcmp(key, "error") == 0 && n < 0)
		printf("\"%s\"", strerror((int)-n));
	else if (word_of(key, n))
		fputs(word_of(key, n), stdout);
	else
		return false;
	return true;
}

static void print_value(const char *key, const json_t *v)
{
	if (print_number(key, v))
		return;
	if (json_is_string(v)) {
		const char *s = json_string_value(v);
		size_t len = strlen(s);
		/* A digest or id is shown short, as it may be typed; --json has it whole. */
		if (len >= 32 && strspn(s, "0123456789abcdef") == len)
			printf("%.8s", s);
		else if (!*s || strpbrk(s, " =\"\t\n"))
			printf("\"%s\"", cli_escaped(s));
		else
			printf("%s", cli_escaped(s));
	} else {
		char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
		printf("%s", cli_escaped(text ? text : ""));
		free(text);
	}
}

/* Titles of effects by id, as a log goes by: later records name the id alone. */
static const char *title_of(const json_t *payload)
{
	static json_t *titles;
	const char *id = cli_str(payload, "effect"), *title = cli_str(payload, "title");
	if (!titles)
		titles = json_object();
	if (*id && *title)
		json_object_set_new(titles, id, json_string(title));
	const char *known = json_string_value(json_object_get(titles, id));
	return known ? known : "";
}

static void print_read(const json_t *r)
{
	const char *why = cli_str(r, "why"), *method = cli_str(r, "method");
	printf("    %s%.23s%s  %-6s %s%s%s", cli_tone(CLI_DIM), cli_str(r, "time"), CLI_RESET,
	       json_is_true(cli_get(r, "denied")) ? "denied" : "read", cli_escaped(method),
	       *method ? " " : "", cli_escaped(cli_str(r, "host")));
	if (cli_int(r, "port") > 0) /* else a name that was only asked for */
		printf(":%lld", (long long)cli_int(r, "port"));
	printf("%s", cli_escaped(cli_str(r, "path")));
	if (cli_int(r, "status") > 0)
		printf(" -> %lld, %lld bytes in", (long long)cli_int(r, "status"),
		       (long long)cli_int(r, "received"));
	if (cli_int(r, "sent") > 0)
		printf(", %lld out", (long long)cli_int(r, "sent"));
	if (*cli_str(r, "rule"))
		printf("  rule %s", cli_escaped(cli_str(r, "rule")));
	printf("%s%s\n", *why ? ": " : "", cli_escaped(why));
}

/* What a person audits: what, by which rule, who said so, what came of it, how much went. */
static void print_effect(const json_t *p)
{
	printf(" %s%.8s%s %s", cli_tone(CLI_BOLD), cli_str(p, "effect"), CLI_RESET,
	       cli_escaped(title_of(p)));
	if (*cli_str(p, "rule"))
		printf("  rule %s (%s)", cli_escaped(cli_str(p, "rule")),
		       cli_escaped(cli_str(p, "at")));
	if (*cli_str(p, "approval"))
		printf("  approval %.8s", cli_str(p, "approval"));
	if (*cli_str(p, "principal"))
		printf("  by %s", cli_escaped(cli_str(p, "principal")));
	if (cli_int(p, "status") > 0)
		printf("  -> %lld", (long long)cli_int(p, "status"));
	if (cli_int(p, "sent") > 0 || cli_int(p, "received") > 0)
		printf("  %lld bytes out, %lld in", (long long)cli_int(p, "sent"),
		       (long long)cli_int(p, "received"));
	if (*cli_str(p, "why"))
		printf(": %s", cli_escaped(cli_str(p, "why")));
}

static void print_refusals(const json_t *list)
{
	size_t i;
	const json_t *call;

	json_array_foreach(list, i, call) printf("%s%s", i ? "; " : "", status_refusal(call));
}

static void print_event(const json_t *e)
{
	const char *time = cli_str(e, "time"), *step = cli_str(e, "step");
	printf("%s%.23s%s  %5lld  %-20s %-12s", cli_tone(CLI_DIM), time, CLI_RESET,
	       (long long)cli_int(e, "seq"), cli_escaped(cli_str(e, "type")), cli_escaped(step));
	if (cli_int(e, "attempt") > 0)
		printf(" #%lld", (long long)cli_int(e, "attempt"));
	const json_t *actor = cli_get(e, "actor");
	if (strcmp(cli_str(actor, "kind"), "person") == 0)
		printf(" by uid %lld", (long long)cli_int(actor, "uid"));
	const char *key;
	json_t *v;
	const json_t *payload = cli_get(e, "payload");
	if (strncmp(cli_str(e, "type"), "EFFECT_", 7) == 0) {
		size_t i;
		const json_t *r;
		if (*cli_str(payload, "effect"))
			print_effect(payload);
		putchar('\n');
		json_array_foreach(cli_get(payload, "reads"), i, r) print_read(r);
		return;
	}
	if (json_array_size(cli_get(payload, "argv")) > 0)
		status_print_argv(payload, LOG_ARGV_MAX);
	json_object_foreach(cli_get(e, "payload"), key, v)
	{
		if (strncmp(key, "argv", 4) == 0)
			continue;
		printf(" %s%s=%s", cli_tone(CLI_DIM), cli_escaped(key), CLI_RESET);
		if (strcmp(key, "denied") == 0)
			print_refusals(v);
		else
			print_value(key, v);
	}
	putchar('\n');
}

/* next: the number of the record after those that were printed. */
static void print_event_lines(struct buffer *text, json_int_t *next)
{
	uint8_t *end;
	while (text->len > 0 && (end = memchr(text->data, '\n', text->len)) != NULL) {
		size_t len = (size_t)(end - text->data);
		json_t *e = json_loadb((const char *)text->data, len, 0, NULL);
		if (cli.json)
			fwrite(text->data, 1, len + 1, stdout);
		else if (e)
			print_event(e);
		if (e)
			*next = cli_int(e, "seq") + 1;
		json_decref(e);
		buffer_consume(text, len + 1);
	}
	fflush(stdout);
}

/* One connection's worth of records, from *next on; negative errno where it was lost. */
static int print_events(struct client *c, const char *run, bool follow, json_int_t *next,
			struct error *err)
{
	AUTO_BUFFER target = {0}, text = {0};
	char query[64];
	snprintf(query, sizeof(query), "/events?from=%lld%s", (long long)*next,
		 follow ? "&follow=1" : "");
	run_target(&target, run, query);
	AUTO(client_stream_close) struct client_stream *s = NULL;
	int r = client_stream_open(c, (const char *)target.data, &s, err);
	if (r < 0)
		return r;
	do {
		r = client_stream_read(s, &text, err);
		if (r >= 0)
			print_event_lines(&text, next);
	} while (r == 1);
	return r;
}

int cmd_log(int argc, char **argv)
{
	static const char usage[] = "usage: holdfast log RUN [-f|--follow] [--json]\nEvery record "
				    "of the run's chain, one a line.\n";
	static const struct option options[] = {CLI_OPTIONS,
						{"follow", no_argument, NULL, CLI_OPT_OWN},
						{0}};
	AUTO(client_close) struct client *c = NULL;
	int exit_status = EXIT_STATUS_OK;
	bool follow = false;
	if (open_with_args(argc, argv, usage, 1, 1, options, flag_own, &follow, &c, &exit_status) <
	    0)
		return exit_status;
	struct error err = {0};
	json_int_t next = 1;
	int r = print_events(c, argv[optind], follow, &next, &err);
	/* The next supervisor goes on after the last record that was shown. Whether the run goes on
	 * is not for a reader to say. */
	for (int tries = 0; client_lost(r) && tries < LOG_RECONNECTS_MAX; tries++) {
		err = (struct error){0};
		if (tries > 0)
			poll(NULL, 0, LOG_RECONNECT_PAUSE_MS);
		r = client_reopen(c, &err);
		if (r == 0)
			r = print_events(c, argv[optind], follow, &next, &err);
	}
	if (r < 0)
		error_set_exit(
			&err, r, EXIT_STATUS_SANDBOX,
			"lost the supervisor while reading the log: %s; run the command again",
			strerror(-r));
	return r < 0 ? cli_fail(&err) : EXIT_STATUS_OK;
}

/* Of one that did not start, lives or was lost, nothing was measured. */
static void print_usage(const json_t *attempt)
{
	char took[32];
	if (cli_int(attempt, "wall_us") == 0)
		return;
	cli_duration(took, sizeof(took), cli_int(attempt, "wall_us") * 1000);
	printf("  %s, %.1f MiB peak, %lld bytes out", took,
	       (double)cli_int(attempt, "memory_peak") / 1048576,
	       (long long)cli_int(attempt, "out_size"));
}

static void print_attempts(const json_t *step)
{
	size_t i;
	const json_t *a;
	json_array_foreach(cli_get(step, "attempts"), i, a)
	{
		printf("  attempt %lld  %s", (long long)cli_int(a, "number"),
		       cli_escaped(cli_str(a, "state")));
		if (json_is_integer(cli_get(a, "exit_code")))
			printf("  exit %lld", (long long)cli_int(a, "exit_code"));
		if (cli_int(a, "signal") > 0)
			printf("  signal %lld", (long long)cli_int(a, "signal"));
		print_usage(a);
		if (*cli_str(a, "rejected"))
			printf("  rejected: %s", cli_escaped(cli_str(a, "rejected")));
		if (*cli_str(a, "why"))
			printf("  %s", cli_escaped(cli_str(a, "why")));
		putchar('\n');
		size_t k;
		const json_t *call;
		json_array_foreach(cli_get(a, "denied"), k, call)
			printf("    refused: %s\n", status_refusal(call));
		json_array_foreach(cli_get(a, "refused"), k, call) print_read(call);
		if (cli_int(a, "refused_more") > 0)
			printf("    and %lld more denied: 'holdfast log' shows them\n",
			       (long long)cli_int(a, "refused_more"));
		status_print_notes(a, stdout);
	}
}

/* The recorded output, escaped on a terminal and for --plain, byte for byte into a file or pipe. */
static int print_output(struct client *c, const char *run, const char *step, const char *stream)
{
	struct error err = {0};
	AUTO_BUFFER target = {0};
	run_target(&target, run, "/steps/");
	client_encode(&target, step);
	buffer_printf(&target, "/output?stream=%s&from=0", stream);
	AUTO(client_stream_close) struct client_stream *s = NULL;
	int r = client_stream_open(c, (const char *)target.data, &s, &err);
	AUTO_BUFFER text = {0};
	while (r >= 0 && (r = client_stream_read(s, &text, &err)) == 1)
		;
	if (r < 0)
		return cli_fail(&err);
	if (text.len == 0)
		return EXIT_STATUS_OK;
	printf("%s--- %s ---%s\n", cli_tone(CLI_DIM), stream, CLI_RESET);
	AUTO_BUFFER clean = {0};
	if (isatty(STDOUT_FILENO) || cli.plain)
		cli_escape_text(&clean, buffer_bytes(&text));
	else
		buffer_append(&clean, text.data, text.len);
	fwrite(clean.data, 1, clean.len, stdout);
	if (clean.len && clean.data[clean.len - 1] != '\n')
		putchar('\n');
	return EXIT_STATUS_OK;
}

static int show_step(struct client *c, const char *run, const char *step)
{
	int exit_status = EXIT_STATUS_OK;
	AUTO_BUFFER target = {0};
	run_target(&target, run, "/steps/");
	client_encode(&target, step);
	json_t *doc = cli_fetch(c, (const char *)target.data, &exit_status);
	if (!doc)
		return exit_status;
	if (cli.json) {
		cli_print_json(doc);
		return EXIT_STATUS_OK;
	}
	printf("step %s  %s%s%s\n", cli_escaped(cli_str(doc, "key")),
	       cli_escaped(cli_str(doc, "state")), *cli_str(doc, "why") ? ": " : "",
	       cli_escaped(cli_str(doc, "why")));
	if (json_array_size(cli_get(doc, "argv")) > 0) {
		fputs("  runs", stdout);
		status_print_argv(doc, SHOW_ARGV_MAX);
		putchar('\n');
	}
	print_attempts(doc);
	size_t i;
	const json_t *o;
	json_array_foreach(cli_get(doc, "effects_denied"), i, o) show_effect_line(o);
	const char *name;
	json_t *digest;
	json_object_foreach(cli_get(cli_get(doc, "result"), "results"), name, digest)
		printf("  result %s  %.16s\n", cli_escaped(name),
		       json_string_value(digest) ? json_string_value(digest) : "");
	json_decref(doc);
	fflush(stdout);
	exit_status = print_output(c, run, step, "out");
	int second = print_output(c, run, step, "err");
	return exit_status == EXIT_STATUS_OK ? second : exit_status;
}

static int not_an_effect(const char *usage, const char *body)
{
	return cli_usage(usage, "--%s is of an effect; leave it out, or name an effect", body);
}

enum { SHOW_REQUEST = CLI_OPT_OWN, SHOW_RESPONSE };

static void show_own(int opt, void *arg)
{
	*(const char **)arg = opt == SHOW_REQUEST ? "request" : "response";
}

int cmd_show(int argc, char **argv)
{
	static const char usage[] =
		"usage: holdfast show RUN [STEP]\n       holdfast show APPROVAL\n"
		"       holdfast show EFFECT [--request | --response]\n"
		"A step with its attempts and output, a run as 'status' does, the card of a "
		"waiting action, or an effect:\nwhat was sent and what came back (--request and "
		"--response: that body).\n";
	static const struct option options[] = {CLI_OPTIONS,
						{"request", no_argument, NULL, SHOW_REQUEST},
						{"response", no_argument, NULL, SHOW_RESPONSE},
						{0}};
	const char *body = NULL;
	AUTO(client_close) struct client *c = NULL;
	int exit_status = EXIT_STATUS_OK;
	if (open_with_args(argc, argv, usage, 1, 2, options, show_own, &body, &c, &exit_status) < 0)
		return exit_status;
	if (argc - optind == 2 && body)
		return not_an_effect(usage, body);
	if (argc - optind == 2)
		return show_step(c, argv[optind], argv[optind + 1]);
	struct error err = {0};
	AUTO_BUFFER target = {0};
	buffer_append_str(&target, "/v1/approvals/");
	client_encode(&target, argv[optind]);
	struct client_request r = {.method = "GET", .target = (const char *)target.data};
	json_t *doc = NULL;
	if (client_call(c, &r, NULL, &doc, NULL, &err) < 0) {
		/* No approval of that id: an effect, or a run. */
		if (show_effect(c, argv[optind], body, &exit_status))
			return exit_status;
		buffer_consume(&target, target.len);
		run_target(&target, argv[optind], "");
		doc = cli_fetch(c, (const char *)target.data, &exit_status);
		if (!doc)
			return exit_status;
		if (body)
			exit_status = not_an_effect(usage, body);
		else if (cli.json)
			cli_print_json(json_incref(doc));
		else
			status_print_whole(doc);
		json_decref(doc);
		return exit_status;
	}
	if (body) {
		json_decref(doc);
		return not_an_effect(usage, body);
	}
	if (cli.json) {
		cli_print_json(doc);
		return EXIT_STATUS_OK;
	}
	cli_print_text(cli_str(doc, "card"));
	status_print_digest(doc);
	status_print_answers(doc, "");
	printf("state %s%s%s\n", cli_escaped(cli_str(doc, "state")),
	       *cli_str(doc, "why") ? ": " : "", cli_escaped(cli_str(doc, "why")));
	json_decref(doc);
	return EXIT_STATUS_OK;
}

struct diff_flags {
	bool stat, all;
};

enum { DIFF_STAT = CLI_OPT_OWN, DIFF_ALL };

static void diff_own(int opt, void *arg)
{
	struct diff_flags *f = arg;
	f->stat |= opt == DIFF_STAT;
	f->all |= opt == DIFF_ALL;
}

static void print_not_landing(const json_t *n)
{
	long long scratch = (long long)cli_int(n, "scratch"),
		  left_out = (long long)cli_int(n, "left_out"), all = scratch + left_out;
	if (all == 0)
		return;
	printf("%lld more path%s would not land: ", all, all == 1 ? "" : "s");
	if (scratch > 0)
		printf("%lld scratch%s", scratch, left_out > 0 ? ", " : "");
	if (left_out > 0)
		printf("%lld left out", left_out);
	puts(" (--all shows them)");
}

int cmd_diff(int argc, char **argv)
{
	static const char usage[] =
		"usage: holdfast diff RUN [STEP] [--stat] [--all]\n"
		"What the run (or one step) changed and would land, against what it found. --all: "
		"also what would not land\n"
		"(scratch, and what the policy leaves out). --stat names the paths only.\n";
	static const struct option options[] = {CLI_OPTIONS,
						{"stat", no_argument, NULL, DIFF_STAT},
						{"all", no_argument, NULL, DIFF_ALL},
						{0}};
	AUTO(client_close) struct client *c = NULL;
	int exit_status = EXIT_STATUS_OK;
	struct diff_flags flags = {0};
	if (open_with_args(argc, argv, usage, 1, 2, options, diff_own, &flags, &c, &exit_status) <
	    0)
		return exit_status;
	const char *diff_step = argc - optind == 2 ? argv[optind + 1] : NULL;
	AUTO_BUFFER target = {0};
	run_target(&target, argv[optind], "/diff?");
	bool stat = flags.stat || cli.json;
	if (stat)
		buffer_append_str(&target, "stat=1&");
	if (flags.all)
		buffer_append_str(&target, "all=1&");
	if (diff_step) {
		buffer_append_str(&target, "step=");
		client_encode(&target, diff_step);
	}
	if (stat) {
		json_t *doc = cli_fetch(c, (const char *)target.data, &exit_status);
		if (!doc)
			return exit_status;
		if (cli.json) {
			cli_print_json(doc);
			return EXIT_STATUS_OK;
		}
		size_t i;
		const json_t *o;
		json_array_foreach(cli_get(doc, "changes"), i, o)
			printf("%s %s\n", cli_escaped(cli_str(o, "change")),
			       cli_escaped(cli_str(o, "path")));
		print_not_landing(cli_get(doc, "not_landing"));
		json_decref(doc);
		return EXIT_STATUS_OK;
	}
	struct error err = {0};
	AUTO(client_stream_close) struct client_stream *s = NULL;
	AUTO_BUFFER text = {0}, clean = {0};
	int r = client_stream_open(c, (const char *)target.data, &s, &err);
	while (r >= 0 && (r = client_stream_read(s, &text, &err)) == 1)
		;
	if (r < 0)
		return cli_fail(&err);
	if (isatty(STDOUT_FILENO) || cli.plain)
		cli_escape_text(&clean, buffer_bytes(&text));
	else
		buffer_append(&clean, text.data, text.len);
	fwrite(clean.data, 1, clean.len, stdout);
	return EXIT_STATUS_OK;
}
