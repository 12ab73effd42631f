/* holdfast policy: check, explain, test, diff, schema. All of it is the pure room and files; no
 * daemon is asked, but for `test --replay` (policy_replay.c) and `learn` (policy_learn.c). */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/guard.h"
#include "base/escape.h"
#include "base/io.h"
#include "base/yaml.h"
#include "policy/policy.h"
#include "tools/cli.h"
#include "tools/policy_run.h"

static const char usage[] = "usage: holdfast policy check FILE...\n"
			    "       holdfast policy explain FILE|NAME [--step STEP] [--agency "
			    "LEVEL] [--layer LAYER] [KIND REQUEST...]\n"
			    "       holdfast policy explain CODE\n"
			    "       holdfast policy test FILE|NAME... [--verbose]\n"
			    "       holdfast policy test --replay RUN [FILE|NAME] [--agency "
			    "LEVEL]\n"
			    "       holdfast policy learn [--workspace DIR] [--policy FILE|NAME] "
			    "[--output FILE [--yes]] -- CMD [ARG ...]\n"
			    "       holdfast policy diff A B\n"
			    "       holdfast policy schema\n"
			    "NAME is base, offline or coding; LAYER org, user, project or run; "
			    "KIND http, git, tcp, tool, read, write or exec.\n"
			    "--workspace DIR says what ${workspace} is (the current folder); "
			    "holdfast-policy(5) says the rest.\n";

struct options {
	const char *step;
	enum policy_agency agency;
	enum policy_layer layer;
	bool has_layer;
	bool verbose;
	const char *workspace;
	const char *replay; /* a run */
	const char *agency_word;
};

/* What the variables stand for, held as long as it is used. */
struct places {
	char *workspace;
	char *home;
	struct policy_vars vars;
};

static void places_free(struct places *p)
{
	free(p->workspace);
	free(p->home);
}

static void places_fill(struct places *p, const char *workspace)
{
	const char *home = getenv("HOME");
	const struct passwd *pw = home && *home ? NULL : getpwuid(getuid());

	if (pw)
		home = pw->pw_dir;
	p->workspace = realpath(workspace ? workspace : ".", NULL);
	p->home = home && *home ? realpath(home, NULL) : NULL;
	p->vars = (struct policy_vars){
		.workspace = p->workspace,
		.home = p->home,
		.tmp = "/tmp",
		.run = "/run/holdfast",
	};
}

static int fail(const struct error *err)
{
	int status = cli_fail(err);

	return status == EXIT_STATUS_STEP_FAILED ? EXIT_STATUS_USAGE : status;
}

/* A built-in name, "-", or a file. 0 with *ret, else an exit status (already said). */
static int load(const char *name, struct policy **ret)
{
	AUTO_BUFFER text = {0};
	struct error err = {0};
	AUTO_FD fd = -1;
	int code;

	if (policy_builtin_text(name)) {
		code = policy_builtin(name, ret);
		return code < 0 ? (error_nomem(&err), fail(&err)) : 0;
	}
	fd = strcmp(name, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
				    : open(name, O_RDONLY | O_CLOEXEC);
	code = fd < 0 ? -errno : io_read_all(fd, POLICY_BYTES_MAX, &text);
	if (code == -E2BIG)
		yaml_too_large(&err, name);
	else if (code < 0)
		error_set_exit(&err, code, EXIT_STATUS_USAGE,
			       "cannot read %.120s: %s; name a policy file that you may read, - "
			       "for standard input, or base, offline or coding",
			       name, strerror(-code));
	if (code < 0)
		return fail(&err);
	code = policy_parse(buffer_bytes(&text), name, NULL, ret);
	return code < 0 ? (error_nomem(&err), fail(&err)) : 0;
}

static void print_findings(FILE *to, const struct policy_findings *f)
{
	AUTO_BUFFER out = {0};
	AUTO_FREE char *shown = NULL;

	for (size_t i = 0; i < f->count; i++)
		policy_finding_print(&f->items[i], &out);
	if (!out.len)
		return;
	shown = escape_dup(buffer_bytes(&out), ESCAPE_KEEP_NEWLINE | ESCAPE_KEEP_BACKSLASH);
	fputs(shown ? shown : "", to);
}

/* As load, but a policy with errors is one too: they are printed, exit 2. */
static int load_sound(const char *name, struct policy **ret)
{
	struct policy *p;
	int status = load(name, &p);

	if (status)
		return status;
	if (policy_findings(p)->errors) {
		struct error err = {0};

		if (cli.json) {
			if (policy_check(p, &err) < 0)
				cli_fail(&err);
		} else {
			print_findings(stderr, policy_findings(p));
		}
		policy_free(p);
		return EXIT_STATUS_USAGE;
	}
	*ret = p;
	return 0;
}

static int print_buffer(const struct buffer *b, bool json)
{
	AUTO_FREE char *shown = NULL;

	if (json && b->len > 1) { /* an object, which the pure room knows no version of */
		printf("{\"version\":%d,%s\n", SUPERVISOR_API_VERSION, (const char *)b->data + 1);
		return EXIT_STATUS_OK;
	}
	shown = escape_dup(buffer_bytes(b), ESCAPE_KEEP_NEWLINE | ESCAPE_KEEP_BACKSLASH);
	fputs(shown ? shown : "", stdout);
	return EXIT_STATUS_OK;
}

/* ---- check ---- */

static json_t *json_finding(const struct policy_finding *f)
{
	char code[16];

	snprintf(code, sizeof(code), "%c%04d", f->severity == POLICY_ERROR ? 'E' : 'W', f->code);
	return json_pack("{s:s, s:i, s:i, s:s, s:s, s:s}", "file", f->at.file, "line", f->at.line,
			 "column", f->at.column, "code", code, "severity",
			 f->severity == POLICY_ERROR ? "error" : "warning", "message", f->msg);
}

static int run_check(int argc, char **argv)
{
	json_t *all = cli.json ? json_array() : NULL;
	size_t errors = 0, warnings = 0;

	if (argc < 1)
		return cli_usage(usage, "check: no FILE is named; name one");
	for (int i = 0; i < argc; i++) {
		AUTO(policy_free) struct policy *p = NULL;
		int status = load(argv[i], &p);
		const struct policy_findings *f;

		if (status) {
			json_decref(all);
			return status;
		}
		f = policy_findings(p);
		errors += f->errors;
		warnings += f->count - (f->errors < f->count ? f->errors : f->count);
		for (size_t j = 0; cli.json && j < f->count; j++)
			json_array_append_new(all, json_finding(&f->items[j]));
		if (!cli.json)
			print_findings(stdout, f);
	}
	if (cli.json)
		cli_print_json(json_pack("{s:i, s:o, s:I, s:I}", "version", SUPERVISOR_API_VERSION,
					 "findings", all, "errors", (json_int_t)errors, "warnings",
					 (json_int_t)warnings));
	return errors ? 1 : EXIT_STATUS_OK;
}

/* ---- explain ---- */

static int explain_code(const char *word)
{
	const struct policy_code *c;
	int code = atoi(word + 1);

	for (size_t i = 0; (c = policy_code_at(i)); i++) {
		if (c->code != code || (word[0] == 'E') != (c->severity == POLICY_ERROR))
			continue;
		if (cli.json)
			cli_print_json(json_pack("{s:i, s:s, s:s, s:s}", "version",
						 SUPERVISOR_API_VERSION, "code", word, "meaning",
						 c->meaning, "remedy", c->remedy));
		else
			printf("%s  %s\n       %s\n", word, c->meaning, c->remedy);
		return EXIT_STATUS_OK;
	}
	struct error err = {0};
	error_set_exit(&err, -ENOENT, EXIT_STATUS_USAGE,
		       "no code is called '%.20s'; holdfast-policy(5) lists them", word);
	return fail(&err);
}

static bool is_code(const char *word)
{
	return (word[0] == 'E' || word[0] == 'W') && strlen(word) == 5 &&
	       strspn(word + 1, "0123456789") == 4;
}

static int make_effective(const struct policy *p, bool builtin, bool notes, const struct options *o,
			  struct policy_effective **ret)
{
	AUTO(policy_effective_free) struct policy_effective *run = NULL;
	struct policy_input input = {
		.layer = o->has_layer ? o->layer
			 : builtin    ? POLICY_LAYER_RUN
				      : POLICY_LAYER_PROJECT,
		.policy = p,
	};
	struct policy_combine c = {.inputs = &input,
				   .count = 1,
				   .agency = o->agency,
				   .lone_ceiling = true};
	struct error err = {0};
	int code = policy_combine(&c, &run, &err);

	if (code == 0 && notes)
		print_findings(stderr, policy_effective_notes(run));
	if (code == 0 && o->step)
		code = policy_effective_step(run, o->step, POLICY_AGENCY_UNSET, ret, &err);
	else if (code == 0)
		*ret = take_ptr(run);
	return code < 0 ? fail(&err) : 0;
}

static int explain_request(const struct policy_effective *e, const struct policy_vars *vars,
			   int argc, char **argv)
{
	AUTO(policy_question_free) struct policy_question *q = NULL;
	struct policy_decision d;
	struct error err = {0};
	AUTO_BUFFER text = {0};
	AUTO_BUFFER out = {0};
	int code;

	for (int i = 1; i < argc; i++)
		buffer_printf(&text, "%s%s", i > 1 ? " " : "", argv[i]);
	code = policy_question_parse(argv[0], text.data ? (const char *)text.data : "", vars, &q,
				     &err);
	if (code == 0)
		code = policy_question_decide(q, e, vars, &d);
	if (code == 0)
		code = policy_explain_decision(e, &d, cli.json ? POLICY_JSON : POLICY_TEXT, &out);
	if (code < 0) {
		error_set_exit(&err, code, EXIT_STATUS_USAGE, "it cannot be decided: %s",
			       strerror(-code));
		return fail(&err);
	}
	return print_buffer(&out, cli.json);
}

static int run_explain(int argc, char **argv, const struct options *o)
{
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	AUTO(policy_free) struct policy *p = NULL;
	__attribute__((cleanup(places_free))) struct places at = {0};
	struct error err = {0};
	AUTO_BUFFER out = {0};
	int status, code;

	if (argc < 1)
		return cli_usage(usage, "explain: no FILE is named; name one, or base, offline or "
					"coding");
	if (argc == 1 && is_code(argv[0]))
		return explain_code(argv[0]);
	places_fill(&at, o->workspace);
	status = load_sound(argv[0], &p);
	if (!status)
		status = make_effective(p, policy_builtin_text(argv[0]) != NULL,
					argc == 1 && !cli.json, o, &e);
	if (status)
		return status;
	if (argc > 1)
		return explain_request(e, &at.vars, argc - 1, argv + 1);
	if (!cli.json)
		fprintf(stderr, "%s by itself; a run combines it with its other layers\n", argv[0]);
	code = policy_explain(e, &at.vars, cli.json ? POLICY_JSON : POLICY_TEXT, &out);
	if (code < 0) {
		error_set(&err, code, "the policy cannot be explained: %s", strerror(-code));
		return fail(&err);
	}
	return print_buffer(&out, cli.json);
}

/* ---- test, diff, schema ---- */

static int run_test(int argc, char **argv, const struct options *o)
{
	__attribute__((cleanup(places_free))) struct places at = {0};
	size_t all = 0, all_failed = 0;

	if (argc < 1)
		return cli_usage(usage, "test: no FILE is named; name one");
	if (cli.json && argc > 1)
		return cli_usage(usage, "test: with --json one FILE at a time");
	places_fill(&at, o->workspace);
	for (int i = 0; i < argc; i++) {
		AUTO(policy_free) struct policy *p = NULL;
		AUTO_BUFFER out = {0};
		size_t run = 0, failed = 0;
		int status = load_sound(argv[i], &p);
		int code;

		if (status)
			return status;
		code = policy_test(p, &at.vars, cli.json ? POLICY_JSON : POLICY_TEXT, o->verbose,
				   &out, &run, &failed);
		if (code < 0) {
			struct error err = {0};

			error_set(&err, code, "the tests of %.150s cannot be run: %s", argv[i],
				  strerror(-code));
			return fail(&err);
		}
		print_buffer(&out, cli.json);
		all += run;
		all_failed += failed;
	}
	if (!cli.json)
		printf("%zu tests, %zu failed\n", all, all_failed);
	return all_failed ? 1 : EXIT_STATUS_OK;
}

static int run_diff(int argc, char **argv, const struct options *o)
{
	AUTO(policy_free) struct policy *a = NULL;
	AUTO(policy_free) struct policy *b = NULL;
	__attribute__((cleanup(places_free))) struct places at = {0};
	struct error err = {0};
	AUTO_BUFFER out = {0};
	size_t wider = 0;
	int status, code;

	if (argc != 2)
		return cli_usage(usage, "diff: it takes two policies, not %d", argc);
	places_fill(&at, o->workspace);
	status = load_sound(argv[0], &a);
	if (!status)
		status = load_sound(argv[1], &b);
	if (status)
		return status;
	code = policy_diff(a, b, &at.vars, cli.json ? POLICY_JSON : POLICY_TEXT, &out, &wider);
	if (code < 0) {
		error_set(&err, code, "they cannot be compared: %s", strerror(-code));
		return fail(&err);
	}
	print_buffer(&out, cli.json);
	if (!cli.json)
		printf("only what %s allows beyond %s is shown, not what it takes away\n",
		       cli_escaped(argv[1]), cli_escaped(argv[0]));
	return wider ? 1 : EXIT_STATUS_OK;
}

static int run_schema(void)
{
	AUTO_BUFFER out = {0};
	struct error err = {0};

	if (policy_schema(&out) < 0)
		return error_nomem(&err), fail(&err);
	fputs((const char *)out.data, stdout);
	return EXIT_STATUS_OK;
}

static int parse_layer(const char *word, enum policy_layer *ret)
{
	for (enum policy_layer l = POLICY_LAYER_ORG; l <= POLICY_LAYER_RUN; l++)
		if (strcmp(word, policy_layer_name(l)) == 0) {
			*ret = l;
			return 0;
		}
	return -EINVAL;
}

int cmd_policy(int argc, char **argv)
{
	enum {
		OPT_STEP = CLI_OPT_OWN,
		OPT_AGENCY,
		OPT_LAYER,
		OPT_WORKSPACE,
		OPT_VERBOSE,
		OPT_REPLAY
	};
	static const struct option options[] = {CLI_OPTIONS,
						{"step", required_argument, NULL, OPT_STEP},
						{"agency", required_argument, NULL, OPT_AGENCY},
						{"layer", required_argument, NULL, OPT_LAYER},
						{"workspace", required_argument, NULL,
						 OPT_WORKSPACE},
						{"verbose", no_argument, NULL, OPT_VERBOSE},
						{"replay", required_argument, NULL, OPT_REPLAY},
						{0}};
	struct options o = {0};
	const char *verb;
	int opt;

	if (argc > 1 && strcmp(argv[1], "learn") == 0)
		return policy_run_learn(argc - 1, argv + 1);
	optind = 0; /* glibc: begin anew, with options anywhere; main stops at the first word */
	while ((opt = cli_getopt(argc, argv, "hv", options)) != -1) {
		int taken;

		switch (opt) {
		case OPT_STEP:
			o.step = optarg;
			continue;
		case OPT_AGENCY:
			o.agency = policy_agency_from(optarg);
			o.agency_word = optarg;
			if (o.agency == POLICY_AGENCY_UNSET)
				return cli_usage(usage,
						 "no agency '%.40s'; it is one of observe, draft, "
						 "assist, trusted, autonomous",
						 optarg);
			continue;
		case OPT_LAYER:
			if (parse_layer(optarg, &o.layer) < 0)
				return cli_usage(
					usage,
					"no layer '%.40s'; it is one of org, user, project, run",
					optarg);
			o.has_layer = true;
			continue;
		case OPT_WORKSPACE:
			o.workspace = optarg;
			continue;
		case OPT_REPLAY:
			o.replay = optarg;
			continue;
		case 'v':
		case OPT_VERBOSE:
			o.verbose = true;
			continue;
		}
		taken = cli_option(opt == 'h' ? CLI_OPT_HELP : opt, usage);
		if (taken < 0)
			return EXIT_STATUS_USAGE;
		if (taken > 0)
			return EXIT_STATUS_OK;
	}
	if (optind >= argc)
		return cli_usage(usage, "say which: check, explain, test, learn, diff or schema");
	verb = argv[optind++];
	argc -= optind;
	argv += optind;
	if (strcmp(verb, "check") == 0)
		return run_check(argc, argv);
	if (strcmp(verb, "explain") == 0)
		return run_explain(argc, argv, &o);
	if (strcmp(verb, "test") == 0 && o.replay)
		return argc > 1 ? cli_usage(usage, "test: --replay takes one policy, not %d", argc)
				: policy_run_replay(o.replay, argc ? argv[0] : NULL, o.agency_word);
	if (strcmp(verb, "test") == 0)
		return run_test(argc, argv, &o);
	if (strcmp(verb, "diff") == 0)
		return run_diff(argc, argv, &o);
	if (strcmp(verb, "schema") == 0 && argc == 0)
		return run_schema();
	if (strcmp(verb, "schema") == 0)
		return cli_usage(usage, "schema: it takes no words; leave '%.60s' out", argv[0]);
	static const char *const verbs[] = {"check", "explain", "test", "learn", "diff", "schema"};
	const char *near = cli_nearest(verb, verbs, ARRAY_SIZE(verbs));
	return cli_usage(usage,
			 "'%.40s' is none of check, explain, test, learn, diff and schema%s%s%s",
			 verb, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}
