/*
 * holdfast-journal: what `holdfast verify | fsck | export | gc` runs, as a program of its own since
 * it links RocksDB. The journal, checked and tidied. Where no daemon holds it they open it
 * themselves (to read: shared with each other); where one does, it is asked to do the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/failpoint.h"
#include "base/io.h"
#include "journal/journal.h"
#include "tools/cli.h"

enum { HELD_PAUSE_NS = 50 * 1000 * 1000 };
enum { OPT_REPAIR = CLI_OPT_OWN, OPT_OUTPUT, OPT_OLDER_THAN, OPT_YES };

static const char usage_verify[] = "usage: holdfast verify [--json]\n\n"
				   "Checks every record's hash chain from its beginning to its "
				   "head, that no record is missing, every anchor, and\n"
				   "every blob. Exit 1 if anything was found.\n";
static const char usage_fsck[] = "usage: holdfast fsck [--repair] [--json]\n\n"
				 "Folds all records again and compares the result with the stored "
				 "rows and indexes. --repair rewrites those that\n"
				 "differ (never a record). Exit 1 if anything was found.\n";
static const char usage_export[] = "usage: holdfast export [RUN] [-o FILE]\n\n"
				   "Writes the records of one run, or of all, as a CBOR sequence "
				   "(RFC 8742; types in holdfast.cddl).\n";
static const char usage_gc[] = "usage: holdfast gc [--older-than AGE [--yes]] [--json]\n\n"
			       "Removes blobs that no record names; with --older-than (30d, 12h) "
			       "also runs that ended longer ago: they are listed, and\n"
			       "it is asked first; --yes where no terminal asks. Their last hashes "
			       "stay in the journal.\n";

/* ---- The journal itself ---- */

static int64_t clock_ns(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

static int64_t mono_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

/* -EBUSY: somebody has it. how: read_only or unloaded are taken from it. */
static int open_once(struct journal_options how, struct journal **ret, struct error *err)
{
	struct supervisor_paths paths;
	int rc = supervisor_paths_there(cli.state, getenv("HOME"), getenv("XDG_STATE_HOME"),
					paths.state, err);
	if (rc == 0)
		rc = supervisor_paths_open_state(cli.state, getenv("HOME"),
						 getenv("XDG_STATE_HOME"), &paths, err);
	if (rc < 0)
		return rc;
	AUTO_FD dir = openat(paths.state_fd, "v1", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		rc = error_set_exit(
			err, -errno, EXIT_STATUS_USAGE,
			"no journal in %s: %s; nothing was run there yet, or give another --state",
			paths.state, strerror(errno));
	how.dirfd = dir;
	how.clock = (struct journal_clock){.wall_ns = wall_ns, .mono_ns = mono_ns};
	if (rc == 0)
		rc = journal_open(&how, ret, err);
	supervisor_paths_close(&paths);
	return rc;
}

static bool daemon_answers(void)
{
	AUTO(client_close) struct client *c = NULL;
	struct error err = {0};
	return client_open(cli.state, CLIENT_START_NO, &c, &err) == 0;
}

/* The daemon that has it; or, where it has died since it answered, the next one. */
static struct client *open_daemon(struct error *err)
{
	struct client *c = NULL;
	return client_open(cli.state, CLIENT_START_THERE, &c, err) == 0 ? c : NULL;
}

/* -EBUSY: a daemon has it, and answers. -ETIMEDOUT: who has it, one that is just going or another
 * audit, did not let go of it in CLIENT_HELD_MS. */
static int open_here(struct journal_options how, struct journal **ret, struct error *err)
{
	struct client_held held = {0};
	struct error last = {0};
	int rc = open_once(how, ret, &last);

	while (rc == -EBUSY) {
		if (daemon_answers())
			break;
		if (!client_held_wait(&held, &last)) {
			rc = -ETIMEDOUT;
			break;
		}
		nanosleep(&(struct timespec){.tv_nsec = HELD_PAUSE_NS}, NULL);
		last = (struct error){0};
		rc = open_once(how, ret, &last);
	}
	if (rc < 0)
		*err = last;
	return rc;
}

/* ---- Findings ---- */

static void collect(const char *text, void *arg)
{
	json_array_append_new(arg, json_string(text));
}

static int print_report(const char *command, json_t *doc, const char *whole)
{
	json_int_t problems = cli_int(doc, "problems");
	int status = problems ? EXIT_STATUS_STEP_FAILED : EXIT_STATUS_OK;
	if (cli.json) {
		cli_print_json(doc);
		return status;
	}
	size_t i;
	json_t *finding;
	json_array_foreach(cli_get(doc, "findings"), i, finding)
		printf("%s%s%s\n", cli_tone(CLI_BAD), cli_escaped(json_string_value(finding)),
		       CLI_RESET);
	if (problems)
		printf("%s: %s%lld found%s in %lld records of %lld chains\n", command,
		       cli_tone(CLI_BAD), (long long)problems, CLI_RESET,
		       (long long)cli_int(doc, "events"), (long long)cli_int(doc, "runs"));
	else
		printf("%s: %s%s%s: %lld records of %lld chains, ", command, cli_tone(CLI_GOOD),
		       whole, CLI_RESET, (long long)cli_int(doc, "events"),
		       (long long)cli_int(doc, "runs"));
	if (!problems && strcmp(command, "fsck") == 0) /* it reads no blob */
		puts("and the rows they make ('holdfast verify' looks at the blobs)");
	else if (!problems)
		printf("%lld blobs\n", (long long)cli_int(doc, "blobs"));
	json_decref(doc);
	return status;
}

static json_t *report_json(const struct journal_report *r, json_t *findings)
{
	return json_pack("{s:i, s:I, s:I, s:I, s:I, s:o}", "version", SUPERVISOR_API_VERSION,
			 "events", (json_int_t)r->events, "runs", (json_int_t)r->runs, "blobs",
			 (json_int_t)r->blobs, "problems", (json_int_t)r->problems, "findings",
			 findings);
}

/* Options that these commands share: 0 go on, 1 leave with *ret. */
static int own_options(int argc, char **argv, const char *shorts, const struct option *options,
		       const char *usage, int (*own)(int opt, void *), void *arg, int *ret)
{
	int opt;
	optind = 0; /* glibc: begin anew, with options anywhere; main stops at the first word */
	while ((opt = cli_getopt(argc, argv, shorts, options)) != -1) {
		if (opt == 'h')
			opt = CLI_OPT_HELP;
		if (opt == 'o')
			opt = OPT_OUTPUT;
		if (opt >= CLI_OPT_OWN && own && own(opt, arg) == 0)
			continue;
		int r = cli_option(opt, usage);
		if (r != 0) {
			*ret = r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
			return 1;
		}
	}
	return 0;
}

/* ---- verify, fsck ---- */

static int audit_by_daemon(const char *command, const char *whole)
{
	struct error err = {0};
	AUTO(client_close) struct client *c = open_daemon(&err);
	char target[32];
	int status;
	if (!c)
		return cli_fail(&err);
	snprintf(target, sizeof(target), "/v1/%s", command);
	json_t *doc = cli_fetch(c, target, &status);
	return doc ? print_report(command, doc, whole) : status;
}

static int verify(int argc, char **argv)
{
	static const struct option options[] = {CLI_OPTIONS, {0}};
	struct journal *j = NULL;
	struct journal_report r = {0};
	struct error err = {0};
	int status;
	if (own_options(argc, argv, "h", options, usage_verify, NULL, NULL, &status))
		return status;
	if (optind != argc)
		return cli_words(argc, argv, 0, 0, "", usage_verify);
	int rc = open_here((struct journal_options){.read_only = true, .unloaded = true}, &j, &err);
	if (rc == -EBUSY)
		return audit_by_daemon("verify", "whole");
	if (rc < 0)
		return cli_fail(&err);
	json_t *findings = json_array();
	if (journal_recovery_note(j) && !cli.json)
		fprintf(stderr, "holdfast: journal: %s\n", journal_recovery_note(j));
	rc = journal_verify(j, collect, findings, &r, &err);
	journal_close(j);
	if (rc == 0)
		return print_report("verify", report_json(&r, findings), "whole");
	json_decref(findings);
	return cli_fail(&err);
}

static int take_repair(int opt, void *arg)
{
	*(bool *)arg = opt == OPT_REPAIR;
	return opt == OPT_REPAIR ? 0 : -EINVAL;
}

static int fsck(int argc, char **argv)
{
	static const struct option options[] = {CLI_OPTIONS,
						{"repair", no_argument, NULL, OPT_REPAIR},
						{0}};
	struct journal *j = NULL;
	struct journal_report r = {0};
	struct error err = {0};
	bool repair = false;
	int status;
	if (own_options(argc, argv, "h", options, usage_fsck, take_repair, &repair, &status))
		return status;
	if (optind != argc)
		return cli_words(argc, argv, 0, 0, "", usage_fsck);
	int rc = open_here((struct journal_options){.read_only = !repair, .unloaded = true}, &j,
			   &err);
	if (rc == -EBUSY && !repair)
		return audit_by_daemon("fsck", "clean");
	if (rc < 0)
		return cli_fail(&err);
	json_t *findings = json_array();
	rc = journal_fsck(j, repair, collect, findings, &r, &err);
	journal_close(j);
	if (rc == 0)
		return print_report("fsck", report_json(&r, findings), "clean");
	json_decref(findings);
	return cli_fail(&err);
}

/* ---- export ---- */

static int take_output(int opt, void *arg)
{
	*(const char **)arg = optarg;
	return opt == OPT_OUTPUT ? 0 : -EINVAL;
}

/* Not before there is something to write: an earlier export may stand there. *ret: owned, or
 * standard output's own where output is NULL. */
static int open_output(const char *output, int *ret, struct error *err)
{
	*ret = output ? open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)
		      : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (*ret < 0)
		return error_set_exit(
			err, -errno, EXIT_STATUS_USAGE,
			"export: cannot write %s: %s; name a file in a folder that you "
			"may write to",
			output ? output : "standard output", strerror(errno));
	return 0;
}

static int export_by_daemon(const char *run, const char *output)
{
	AUTO_FD out = -1;
	struct error err = {0};
	AUTO(client_close) struct client *c = open_daemon(&err);
	AUTO(client_stream_close) struct client_stream *s = NULL;
	AUTO_BUFFER target = {0};
	int rc;
	if (!c)
		return cli_fail(&err);
	buffer_append_str(&target, "/v1/export");
	if (run) {
		buffer_append_str(&target, "?run=");
		client_encode(&target, run);
	}
	if (target.failed || client_stream_open(c, (const char *)target.data, &s, &err) < 0 ||
	    open_output(output, &out, &err) < 0)
		return cli_fail(&err);
	do {
		AUTO_BUFFER piece = {0};
		rc = client_stream_read(s, &piece, &err);
		int wrote = piece.len ? io_write_all(out, piece.data, piece.len) : 0;
		if (wrote < 0)
			rc = error_set(&err, wrote, "export: writing: %s", strerror(-wrote));
	} while (rc > 0);
	return rc < 0 ? cli_fail(&err) : EXIT_STATUS_OK;
}

static int export_here(struct journal *j, const char *name, const char *output, struct error *err)
{
	AUTO_FD out = -1;
	struct journal_id run;
	int rc = name ? journal_find_run(j, name, &run, err) : 0;

	if (rc == 0)
		rc = open_output(output, &out, err);
	return rc < 0 ? rc : journal_export(j, name ? &run : NULL, out, err);
}

static int export(int argc, char **argv)
{
	static const struct option options[] = {CLI_OPTIONS,
						{"output", required_argument, NULL, OPT_OUTPUT},
						{0}};
	struct journal *j = NULL;
	struct error err = {0};
	const char *output = NULL;
	int status;
	if (own_options(argc, argv, "ho:", options, usage_export, take_output, (void *)&output,
			&status))
		return status;
	const char *run = optind < argc ? argv[optind] : NULL;
	status = cli_words(argc, argv, 0, 1, "RUN", usage_export);
	if (status)
		return status;
	if (!output && isatty(STDOUT_FILENO)) {
		error_set_exit(&err, -EINVAL, EXIT_STATUS_USAGE,
			       "export: this is binary and standard output a terminal; give "
			       "-o FILE, or -o - to write it there all the same");
		return cli_fail(&err);
	}
	if (output && strcmp(output, "-") == 0)
		output = NULL;
	int rc = open_here((struct journal_options){.read_only = true, .unloaded = true}, &j, &err);
	if (rc < 0 && rc != -EBUSY)
		return cli_fail(&err);
	if (rc == -EBUSY)
		return export_by_daemon(run, output);
	rc = export_here(j, run, output, &err);
	journal_close(j);
	return rc < 0 ? cli_fail(&err) : EXIT_STATUS_OK;
}

/* ---- gc ---- */

struct gc_words {
	const char *age;
	bool yes;
};

static int take_gc(int opt, void *arg)
{
	struct gc_words *w = arg;
	if (opt == OPT_OLDER_THAN)
		w->age = optarg;
	else if (opt == OPT_YES)
		w->yes = true;
	else
		return -EINVAL;
	return 0;
}

/* "30d", "12h", "90m", "10s": nanoseconds, or -EINVAL. */
static int64_t parse_age(const char *text)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
	char *end;
	errno = 0;
	long n = strtol(text, &end, 10);
	if (end == text || errno || n < 0 || n > 100000 || !*end || end[1])
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (*end == units[i].unit)
			return n * units[i].seconds * 1000000000;
	return -EINVAL;
}

static void print_size(json_int_t bytes)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	double n = (double)bytes;
	size_t u = 0;
	for (; n >= 1024 && u + 1 < ARRAY_SIZE(units); u++)
		n /= 1024;
	printf("%.*f %s", u ? 1 : 0, n, units[u]);
}

static int print_collected(json_t *doc)
{
	json_int_t runs = cli_int(doc, "runs"), blobs = cli_int(doc, "blobs");
	if (cli.json) {
		cli_print_json(doc);
		return EXIT_STATUS_OK;
	}
	printf("gc: %lld run%s dropped, %lld blob%s removed, ", (long long)runs,
	       runs == 1 ? "" : "s", (long long)blobs, blobs == 1 ? "" : "s");
	print_size(cli_int(doc, "freed"));
	printf(" freed; %lld records kept\n", (long long)cli_int(doc, "events"));
	json_decref(doc);
	return EXIT_STATUS_OK;
}

static const char *utc(int64_t ns, char *buf, size_t size)
{
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;
	gmtime_r(&t, &tm);
	strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return buf;
}

static json_t *lower(const char *name)
{
	char out[32];
	size_t i = 0;
	for (; name && name[i] && i < sizeof(out) - 1; i++)
		out[i] = (char)(name[i] | 0x20);
	out[i] = 0;
	return json_string(out);
}

/* As views_dropping() of the supervisor has it. */
static void add_dropping(const struct journal_run *run, void *arg)
{
	char hex[2 * JOURNAL_ID_SIZE + 1], ended[40];
	uint64_t paths = 0;
	for (size_t i = 0; i < JOURNAL_ID_SIZE; i++)
		snprintf(hex + 2 * i, 3, "%02x", run->id.b[i]);
	for (uint32_t i = 0; i < run->step_count; i++)
		paths += run->steps[i]->layer_paths;
	json_array_append_new(arg, json_pack("{s:s, s:s?, s:o, s:o, s:I, s:s}", "run", hex, "name",
					     run->name, "state",
					     lower(journal_run_state_name(run->state)), "landing",
					     lower(journal_landing_state_name(run->landing)),
					     "paths", (json_int_t)paths, "ended",
					     utc(run->ended_ns, ended, sizeof(ended))));
}

/* NULL, and *ret: what to leave with. */
static json_t *would_drop_by_daemon(int64_t before_ns, int *ret)
{
	struct error err = {0};
	AUTO(client_close) struct client *c = open_daemon(&err);
	char target[64], text[40];
	if (!c) {
		*ret = cli_fail(&err);
		return NULL;
	}
	snprintf(target, sizeof(target), "/v1/gc?ended_before=%s",
		 utc(before_ns, text, sizeof(text)));
	json_t *doc = cli_fetch(c, target, ret);
	json_t *runs = json_incref(cli_get(doc, "would_drop"));
	json_decref(doc);
	return runs;
}

static json_t *would_drop(int64_t before_ns, int *ret)
{
	struct journal *j = NULL;
	struct error err = {0};
	json_t *runs = json_array();
	int rc = open_here((struct journal_options){.read_only = true, .unloaded = true}, &j, &err);
	if (rc == 0) {
		rc = journal_gc_each(j, before_ns, add_dropping, runs, &err);
		journal_close(j);
	}
	if (rc == 0)
		return runs;
	json_decref(runs);
	if (rc == -EBUSY)
		return would_drop_by_daemon(before_ns, ret);
	*ret = cli_fail(&err);
	return NULL;
}

static void print_dropping(const json_t *runs)
{
	size_t i;
	const json_t *o;
	json_array_foreach(runs, i, o)
	{
		char age[32];
		cli_duration(age, sizeof(age), cli_now_ns() - cli_parse_time(cli_str(o, "ended")));
		bool kept = strcmp(cli_str(o, "state"), "succeeded") == 0 &&
			    strcmp(cli_str(o, "landing"), "unlanded") == 0 &&
			    cli_int(o, "paths") > 0;
		printf("  %.8s  %-10s %-20s ended %s ago%s\n", cli_str(o, "run"),
		       cli_escaped(cli_str(o, "state")), cli_escaped(cli_str(o, "name")), age,
		       kept ? ", its changes were never landed" : "");
	}
	fflush(stdout);
}

/* 0: they may be dropped. Else what to leave with. */
static int ask_to_drop(int64_t before_ns, bool yes)
{
	int status = EXIT_STATUS_OK;
	bool asks = !cli.json && !cli.no_input && isatty(STDIN_FILENO);
	json_t *runs = would_drop(before_ns, &status);
	size_t count = json_array_size(runs);
	if (!runs)
		return status;
	if (count > 0 && !cli.json) {
		printf("%zu run%s would be dropped, with %s records and what did not land:\n",
		       count, count == 1 ? "" : "s", count == 1 ? "its" : "their");
		print_dropping(runs);
	}
	json_decref(runs);
	if (count == 0 || yes || (asks && cli_confirm("drop")))
		return EXIT_STATUS_OK;
	struct error err = {0};
	if (asks)
		error_set_exit(&err, -ECANCELED, EXIT_STATUS_WAITING, "gc: nothing was removed");
	else
		error_set_exit(&err, -ECANCELED, EXIT_STATUS_WAITING,
			       "gc: nothing was removed: dropping %zu run%s is a person's word; "
			       "give --yes",
			       count, count == 1 ? "" : "s");
	return cli_fail(&err);
}

static int gc_by_daemon(int64_t before_ns)
{
	struct error err = {0};
	AUTO(client_close) struct client *c = open_daemon(&err);
	struct client_request q = {.method = "POST", .target = "/v1/gc", .body = json_object()};
	json_t *doc = NULL;
	char text[40];
	if (!c) {
		json_decref(q.body);
		return cli_fail(&err);
	}
	if (before_ns)
		json_object_set_new(q.body, "ended_before",
				    json_string(utc(before_ns, text, sizeof(text))));
	int rc = client_call(c, &q, NULL, &doc, NULL, &err);
	json_decref(q.body);
	return rc < 0 ? cli_fail(&err) : print_collected(doc);
}

static int gc(int argc, char **argv)
{
	static const struct option options[] = {CLI_OPTIONS,
						{"older-than", required_argument, NULL,
						 OPT_OLDER_THAN},
						{"yes", no_argument, NULL, OPT_YES},
						{0}};
	struct journal *j = NULL;
	struct journal_report r = {0};
	struct error err = {0};
	struct gc_words w = {0};
	int status;
	if (own_options(argc, argv, "h", options, usage_gc, take_gc, &w, &status))
		return status;
	if (optind != argc)
		return cli_words(argc, argv, 0, 0, "", usage_gc);
	int64_t age = w.age ? parse_age(w.age) : 0;
	if (age < 0) {
		error_set_exit(&err, -EINVAL, EXIT_STATUS_USAGE,
			       "gc: --older-than %.40s: not an age; write 30d, 12h, 90m or 10s",
			       w.age);
		return cli_fail(&err);
	}
	int64_t before = w.age ? wall_ns() - age : 0;
	status = w.age ? ask_to_drop(before, w.yes) : EXIT_STATUS_OK;
	if (status != EXIT_STATUS_OK)
		return status;
	int rc = open_here((struct journal_options){.read_only = false}, &j, &err);
	if (rc == -EBUSY)
		return gc_by_daemon(before);
	if (rc == 0)
		rc = journal_gc(j, before, &r, &err);
	journal_close(j);
	if (rc < 0)
		return cli_fail(&err);
	json_t *doc = report_json(&r, json_array());
	json_object_set_new(doc, "freed", json_integer((json_int_t)r.freed));
	return print_collected(doc);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {CLI_OPTIONS, {0}};
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = {{"verify", verify}, {"fsck", fsck}, {"export", export}, {"gc", gc}};
	const char *no_color = getenv("NO_COLOR"); /* no-color.org: set, and not empty */
	int opt;
	failpoint_init(getenv("HOLDFAST_FAILPOINT"));
	cli.color = isatty(STDOUT_FILENO) && !(no_color && *no_color);
	while ((opt = cli_getopt(argc, argv, "+", options)) != -1)
		if (cli_option(opt, usage_verify) != 0)
			return EXIT_STATUS_USAGE;
	for (size_t i = 0; optind < argc && i < ARRAY_SIZE(commands); i++)
		if (strcmp(argv[optind], commands[i].name) == 0) {
			cli.command = commands[i].name;
			return commands[i].run(argc - optind, argv + optind);
		}
	return cli_usage("usage: holdfast verify | fsck | export | gc\n", "no command is named");
}
