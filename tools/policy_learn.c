/*
 * holdfast policy learn: runs a command in a layer that is thrown away, under a policy that lets
 * nothing more out than it says, and drafts rules for what it wanted (policy/draft.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/io.h"
#include "base/utf8.h"
#include "policy/policy.h"
#include "tools/cli.h"
#include "tools/policy_run.h"
#include "tools/run_request.h"
#include "tools/status_print.h"
#include "tools/trust.h"

enum { LINES_MAX = 64 };

static const char usage[] =
	"usage: holdfast policy learn [--workspace DIR] [--policy FILE|base|offline|coding] "
	"[--output FILE [--yes]] -- CMD [ARG ...]\n"
	"Runs the command in a sandbox whose changes never land, and drafts a policy of what it "
	"wanted: "
	"names, requests, refs, with counts.\n"
	"Nothing leaves that the policy given (default: offline) does not allow; who would be "
	"asked is "
	"not, it is denied. Names come\n"
	"first: learn again with the draft as --policy to see methods and paths. The draft goes to "
	"FILE, "
	"else to standard output, and\n"
	"what the command writes to standard error then. --yes: FILE may be there already.\n";

struct learn {
	struct run_request q;
	const char *output;
	bool overwrite; /* what stands there */
	struct client *c;
	char run[64], step[256];
	char *lines[LINES_MAX + 1]; /* comments at the draft's end; owned */
	size_t line_count;
	int code; /* of the command; -1: it did not end by itself */
};

static void learn_free(struct learn *l)
{
	while (l->line_count > 0)
		free(l->lines[--l->line_count]);
	client_close(l->c);
}

static int fail(const struct error *err)
{
	int status = cli_fail(err);
	return status == EXIT_STATUS_STEP_FAILED ? EXIT_STATUS_USAGE : status;
}

static void line(struct learn *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void line(struct learn *l, const char *fmt, ...)
{
	va_list args;
	if (l->line_count == LINES_MAX)
		return;
	va_start(args, fmt);
	if (vasprintf(&l->lines[l->line_count], fmt, args) >= 0)
		l->line_count++;
	va_end(args);
}

/* ---- the run ---- */

static int start(struct learn *l, struct error *err)
{
	AUTO(run_request_close) struct run_files *files = NULL;
	json_t *made = NULL;
	int r = run_request_open(&l->q, &files, err);
	if (r == 0)
		r = client_open(cli.state, CLIENT_START_MAKE, &l->c, err);
	if (r == 0)
		r = trust_offer(l->c, &l->q, err);
	if (r == 0)
		r = run_request_send(l->c, files, &made, err);
	if (r < 0)
		return r;
	snprintf(l->run, sizeof(l->run), "%s", cli_str(made, "run"));
	snprintf(l->step, sizeof(l->step), "%s", cli_str(made, "step"));
	status_print_notes(made, stderr);
	json_decref(made);
	return 0;
}

/* Where the draft goes to standard output, the command's goes to standard error. */
static int follow(struct learn *l)
{
	AUTO_FD kept = l->output ? -1 : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (kept >= 0)
		dup2(STDERR_FILENO, STDOUT_FILENO);
	int r = cmd_exec_follow(l->c, l->run, l->step);
	if (kept >= 0)
		dup2(kept, STDOUT_FILENO);
	return r;
}

static json_t *fetch(struct learn *l, const char *below, int *ret_exit)
{
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s%s", l->run, below);
	return cli_fetch(l->c, (const char *)target.data, ret_exit);
}

/* System calls that the walls refused, and how the command ended. */
static int look_at_step(struct learn *l)
{
	AUTO_BUFFER target = {0};
	int exit_status = EXIT_STATUS_OK;
	buffer_append_str(&target, "/steps/");
	client_encode(&target, l->step);
	json_t *step = fetch(l, (const char *)target.data, &exit_status);
	if (!step)
		return exit_status;
	const json_t *attempts = cli_get(step, "attempts");
	const json_t *last =
		json_array_get(attempts,
			       json_array_size(attempts) ? json_array_size(attempts) - 1 : 0);
	const char *what;
	json_t *n;
	bool exited = strcmp(cli_str(last, "state"), "exited") == 0;
	l->code = exited && cli_int(last, "signal") == 0 ? (int)cli_int(last, "exit_code") : -1;
	json_object_foreach(cli_get(last, "denied"), what, n)
		line(l, "refused by the walls, whatever the policy: %s (%lld)", what,
		     (long long)json_integer_value(n));
	if (!exited)
		line(l, "the command did not end by itself: %s: %s", cli_str(last, "state"),
		     *cli_str(last, "why") ? cli_str(last, "why") : cli_str(step, "why"));
	json_decref(step);
	return 0;
}

/* Paths that it wrote and that would not land; a command that failed leaves none. */
static void look_at_paths(struct learn *l)
{
	struct error ignored = {0};
	AUTO_BUFFER target = {0};
	json_t *doc = NULL;
	const json_t *o;
	size_t i;
	buffer_printf(&target, "/v1/runs/%s/diff?stat=1", l->run);
	struct client_request q = {.method = "GET", .target = (const char *)target.data};
	if (client_call(l->c, &q, NULL, &doc, NULL, &ignored) < 0)
		return;
	json_array_foreach(cli_get(cli_get(doc, "not_landing"), "paths"), i, o)
		line(l, "it wrote a path that would not land: %s: %s %s", cli_str(o, "path"),
		     cli_str(o, "why"), cli_str(o, "reason"));
	json_decref(doc);
}

/* ---- the draft ---- */

static enum policy_wanted_kind kind_of(const char *word)
{
	return strcmp(word, "http") == 0   ? POLICY_WANTED_HTTP
	       : strcmp(word, "git") == 0  ? POLICY_WANTED_GIT
	       : strcmp(word, "tcp") == 0  ? POLICY_WANTED_TCP
	       : strcmp(word, "tool") == 0 ? POLICY_WANTED_TOOL
					   : POLICY_WANTED_NAME;
}

static struct policy_wanted *wanted_of(const json_t *list, size_t *ret)
{
	struct policy_wanted *w = calloc(json_array_size(list) + 1, sizeof(*w));
	const json_t *o;
	size_t i;
	*ret = 0;
	json_array_foreach(list, i, o)
	{
		if (!w)
			return NULL;
		w[(*ret)++] = (struct policy_wanted){
			.kind = kind_of(cli_str(o, "kind")),
			.scheme = cli_str(o, "scheme"),
			.host = cli_str(o, "host"),
			.method = cli_str(o, "method"),
			.path = cli_str(o, "path"),
			.port = (uint16_t)cli_int(o, "port"),
			.cut = cli_bool(o, "cut"),
			.websocket = cli_bool(o, "websocket"),
			.remote = cli_str(o, "remote"),
			.ref = cli_str(o, "ref"),
			.push = cli_bool(o, "push"),
			.force = cli_bool(o, "force"),
			.remove = cli_bool(o, "remove"),
			.tool = cli_str(o, "tool"),
			.allowed = cli_bool(o, "allowed"),
			.rule = cli_str(o, "rule"),
			.secret = cli_str(o, "secret"),
			.why = cli_str(o, "why"),
			.count = (uint64_t)cli_int(o, "count"),
		};
	}
	return w;
}

static const char *command_line(struct learn *l, struct buffer *out)
{
	buffer_append_str(out, "The command:");
	for (char **a = l->q.argv; *a && out->len < 400; a++)
		buffer_printf(out, " %.*s", UTF8_SHORT(*a, 200));
	return out->failed ? "" : (const char *)out->data;
}

static int make_draft(struct learn *l, const json_t *wants, struct buffer *out,
		      struct policy_draft_result *ret)
{
	AUTO_BUFFER command = {0};
	bool builtin = l->q.policy && policy_builtin_text(l->q.policy);
	const char *head[] = {
		"Drafted by holdfast policy learn. How often each was wanted stands above it.",
		command_line(l, &command),
		"Read every line before you use it: what a command wanted is not "
		"what it should have.",
		l->q.policy && !builtin ? "It stands for itself: fs, env, limits and "
					  "secrets of the policy that was given "
					  "are not repeated."
					: NULL,
		NULL};
	struct policy_draft_words words = {.extends = builtin ? l->q.policy : "offline",
					   .head = head,
					   .tail = (const char *const *)l->lines};
	size_t count;
	AUTO_FREE struct policy_wanted *w = wanted_of(cli_get(wants, "wants"), &count);
	if (cli_int(wants, "more"))
		line(l, "%lld more requests were too different to be told apart",
		     (long long)cli_int(wants, "more"));
	return w ? policy_draft(w, count, &words, out, ret) : -ENOMEM;
}

/* What is handed out passes `policy check`. */
static int check(const struct buffer *text, struct error *err)
{
	AUTO(policy_free) struct policy *p = NULL;
	int r = policy_parse(buffer_bytes(text), "draft", NULL, &p);
	return r < 0 ? error_nomem(err) : policy_check(p, err);
}

static int put_draft(struct learn *l, const struct buffer *text, struct error *err)
{
	int r;
	if (!l->output)
		return io_write_all(STDOUT_FILENO, text->data, text->len);
	AUTO_FD fd =
		open(l->output,
		     O_WRONLY | O_CREAT | (l->overwrite ? O_TRUNC : O_EXCL) | O_NOCTTY | O_CLOEXEC,
		     0666);
	r = fd < 0 ? -errno : io_write_all(fd, text->data, text->len);
	return r < 0 ? error_set_exit(err, r, EXIT_STATUS_USAGE,
				      "cannot write %.150s: %s; say another --output", l->output,
				      strerror(-r))
		     : 0;
}

static int finish(struct learn *l, const json_t *wants, struct error *err)
{
	AUTO_BUFFER text = {0};
	struct policy_draft_result n = {0};
	int r = make_draft(l, wants, &text, &n);
	if (r == 0)
		r = check(&text, err);
	if (r == 0 && (l->output || !cli.json))
		r = put_draft(l, &text, err);
	if (r < 0)
		return error_set(err, r, "the draft cannot be made: %s", strerror(-r));
	if (cli.json) {
		cli_print_json(json_pack("{s:i, s:s, s:i, s:O, s:s%, s:i, s:i}", "version", 1,
					 "run", l->run, "exit", l->code, "wants",
					 cli_get(wants, "wants"), "draft", (const char *)text.data,
					 text.len, "rules", (int)n.rules, "left_out",
					 (int)n.left_out));
		return 0;
	}
	fprintf(stderr,
		"holdfast: the command left with %d; %zu rule%s drafted, %zu left out%s%s\n",
		l->code, n.rules, n.rules == 1 ? "" : "s", n.left_out, l->output ? ": " : "",
		l->output ? cli_escaped(l->output) : "");
	if (n.names)
		fprintf(stderr,
			"holdfast: of %zu hosts only the name is known: 'holdfast policy learn "
			"--policy "
			"%s -- ...' sees methods and paths\n",
			n.names, l->output ? cli_escaped(l->output) : "DRAFT");
	return 0;
}

static int learn(struct learn *l)
{
	struct error err = {0};
	int exit_status = EXIT_STATUS_OK;
	int r = start(l, &err);
	if (r < 0)
		return fail(&err);
	exit_status = follow(l);
	if (exit_status == EXIT_STATUS_OK)
		exit_status = look_at_step(l);
	if (exit_status != EXIT_STATUS_OK)
		return exit_status;
	look_at_paths(l);
	json_t *wants = fetch(l, "/wants", &exit_status);
	if (!wants)
		return exit_status;
	r = finish(l, wants, &err);
	json_decref(wants);
	return r < 0 ? fail(&err) : EXIT_STATUS_OK;
}

/* Before the command is run: what it took is not lost to a name. */
static int look_at_output(struct learn *l, struct error *err)
{
	struct stat st;
	if (!l->output || l->overwrite || lstat(l->output, &st) < 0)
		return 0;
	if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
		return error_set_exit(err, -EEXIST, EXIT_STATUS_USAGE,
				      "learn: %.150s is there already; say another --output, or "
				      "--yes to write over it",
				      l->output);
	l->overwrite = true; /* a device or a pipe holds nothing */
	return 0;
}

int policy_run_learn(int argc, char **argv)
{
	enum { WORKSPACE = CLI_OPT_OWN, POLICY, OUTPUT, YES };
	static const struct option options[] = {CLI_OPTIONS,
						{"workspace", required_argument, NULL, WORKSPACE},
						{"policy", required_argument, NULL, POLICY},
						{"output", required_argument, NULL, OUTPUT},
						{"yes", no_argument, NULL, YES},
						{0}};
	__attribute__((cleanup(learn_free))) struct learn l = {.q = {.learn = true}, .code = -1};
	int opt;
	optind = 0;
	while ((opt = cli_getopt(argc, argv, "+h", options)) != -1) {
		if (opt == WORKSPACE)
			l.q.workspace = optarg;
		else if (opt == POLICY)
			l.q.policy = optarg;
		else if (opt == OUTPUT)
			l.output = optarg;
		else if (opt == YES)
			l.overwrite = true;
		else {
			int r = cli_option(opt == 'h' ? CLI_OPT_HELP : opt, usage);
			if (r)
				return r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
		}
	}
	if (optind >= argc)
		return cli_usage(usage, "learn: no command is named; say one behind --");
	l.q.argv = argv + optind;
	struct error err = {0};
	return look_at_output(&l, &err) < 0 ? fail(&err) : learn(&l);
}
