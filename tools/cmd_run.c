/* holdfast run, resume, pause, cancel, land, undo, fork: runs as a whole. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "tools/cli.h"
#include "tools/run_request.h"
#include "tools/status_print.h"
#include "tools/trust.h"

static const char run_usage[] = "usage: holdfast run PLAN [--name N] [--workspace DIR] [--policy "
				"FILE|base|offline|coding] [--agency LEVEL] [--detach]\n"
				"Runs a plan (holdfast-plan(5)). With --name, the run of that name "
				"is attached to or resumed: starting is idempotent.\n"
				"A name whose run has ended, or is of another plan, is exit 2: say "
				"another name.\n"
				"Exit: 0 done, 1 a step failed, 2 bad plan or policy, 3 denied, 4 "
				"waits for a person, 7 limit, 8 no sandbox, 9 conflict.\n";

/* Follows to its end or to what it waits for, prints how it stands, and returns its exit status. */
static int follow_and_tell(struct client *c, const char *run)
{
	int exit_status = cli_follow_run(c, run, NULL, false);
	return exit_status == EXIT_STATUS_OK ? status_tell_outcome(c, run) : exit_status;
}

int cmd_run(int argc, char **argv)
{
	enum { NAME = CLI_OPT_OWN, WORKSPACE, POLICY, AGENCY, DETACH };
	static const struct option options[] = {CLI_OPTIONS,
						{"name", required_argument, NULL, NAME},
						{"workspace", required_argument, NULL, WORKSPACE},
						{"policy", required_argument, NULL, POLICY},
						{"agency", required_argument, NULL, AGENCY},
						{"detach", no_argument, NULL, DETACH},
						{0}};
	struct run_request q = {0};
	bool detach = false;
	int opt;
	while ((opt = cli_getopt(argc, argv, "", options)) != -1) {
		if (opt == NAME)
			q.name = optarg;
		else if (opt == WORKSPACE)
			q.workspace = optarg;
		else if (opt == POLICY)
			q.policy = optarg;
		else if (opt == AGENCY)
			q.agency = optarg;
		else if (opt == DETACH)
			detach = true;
		else {
			int r = cli_option(opt, run_usage);
			if (r)
				return r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
		}
	}
	int wrong = cli_words(argc, argv, 1, 1, "PLAN", run_usage);
	if (wrong)
		return wrong;
	q.plan_path = argv[optind];

	struct error err = {0};
	AUTO(client_close) struct client *c = NULL;
	json_t *made = NULL;
	AUTO(run_request_close) struct run_files *files = NULL;
	int r = run_request_open(&q, &files, &err);
	if (r == 0)
		r = client_open(cli.state, CLIENT_START_MAKE, &c, &err);
	if (r == 0)
		r = trust_offer(c, &q, &err);
	if (r == 0)
		r = run_request_send(c, files, &made, &err);
	if (r < 0)
		return cli_fail(&err);
	char run[64];
	snprintf(run, sizeof(run), "%s", cli_str(made, "run"));
	if (!cli.json)
		status_print_notes(made, stderr);
	if (detach) {
		if (cli.json)
			cli_print_json(made);
		else {
			printf("run %.8s goes on by itself: 'holdfast status %.8s'\n", run, run);
			json_decref(made);
		}
		return EXIT_STATUS_OK;
	}
	if (cli.progress && !cli.json)
		fprintf(stderr, "run %.8s%s\n", run,
			cli_bool(made, "attached") ? " (attached)" : "");
	json_decref(made);
	return follow_and_tell(c, run);
}

static const char resume_usage[] =
	"usage: holdfast resume RUN\n"
	"Goes on with a run that was paused, or whose supervisor died; follows it as 'run' does.\n";

/* One run named on the command line: parses the shared options, opens the client and finds the
 * run's full id. */
static int open_run(int argc, char **argv, const char *usage, enum client_start start,
		    struct client **ret_c, char *ret_run, size_t size, int *ret_exit)
{
	static const struct option options[] = {CLI_OPTIONS, {0}};
	int opt;
	while ((opt = cli_getopt(argc, argv, "", options)) != -1) {
		int r = cli_option(opt, usage);
		if (r) {
			*ret_exit = r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
			return -EINVAL;
		}
	}
	*ret_exit = cli_words(argc, argv, 1, 1, "RUN", usage);
	if (*ret_exit)
		return -EINVAL;
	struct error err = {0};
	if (client_open(cli.state, start, ret_c, &err) < 0) {
		*ret_exit = cli_fail(&err);
		return -EIO;
	}
	AUTO_BUFFER target = {0};
	buffer_append_str(&target, "/v1/runs/");
	client_encode(&target, argv[optind]);
	buffer_append_str(&target, "?decide=1");
	json_t *status = cli_fetch(*ret_c, (const char *)target.data, ret_exit);
	if (!status)
		return -ENOENT;
	snprintf(ret_run, size, "%s", cli_str(status, "run"));
	json_decref(status);
	return 0;
}

static int post_verb(struct client *c, const char *run, const char *verb, json_t *body,
		     json_t **ret, struct error *err)
{
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s/%s", run, verb);
	struct client_request r = {.method = "POST",
				   .target = (const char *)target.data,
				   .body = body};
	return client_call(c, &r, NULL, ret, NULL, err);
}

int cmd_resume(int argc, char **argv)
{
	AUTO(client_close) struct client *c = NULL;
	char run[64];
	int exit_status = EXIT_STATUS_OK;
	if (open_run(argc, argv, resume_usage, CLIENT_START_THERE, &c, run, sizeof(run),
		     &exit_status) < 0)
		return exit_status;
	struct error err = {0};
	if (post_verb(c, run, "resume", NULL, NULL, &err) < 0)
		return cli_fail(&err);
	return follow_and_tell(c, run);
}

static const char undo_usage[] = "usage: holdfast undo RUN\n       holdfast undo --effect "
				 "EFFECT\nTakes a landing back; a file "
				 "edited since then is a conflict, never overwritten. It is final: "
				 "the run\ndoes not land again. With --effect: runs the tool that "
				 "the effect's rule names under 'undo', once it was\nconfirmed.\n";

static int undo_effect(const char *id)
{
	AUTO(client_close) struct client *c = NULL;
	AUTO_BUFFER target = {0};
	struct error err = {0};
	json_t *answer = NULL;
	buffer_append_str(&target, "/v1/effects/");
	client_encode(&target, id);
	buffer_append_str(&target, "/undo");
	struct client_request q = {.method = "POST", .target = (const char *)target.data};
	int r = client_open(cli.state, CLIENT_START_THERE, &c, &err);
	if (r == 0)
		r = client_call(c, &q, NULL, &answer, NULL, &err);
	if (r < 0)
		return cli_fail(&err);
	if (cli.json) {
		cli_print_json(answer);
		return EXIT_STATUS_OK;
	}
	printf("effect %.8s was taken back\n", cli_str(answer, "effect"));
	json_decref(answer);
	return EXIT_STATUS_OK;
}

int cmd_undo(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--effect") == 0)
		return *argv[2] ? undo_effect(argv[2])
				: cli_usage(undo_usage,
					    "no effect is named; 'holdfast log' shows them");
	return cmd_run_verb(argc, argv);
}

int cmd_run_verb(int argc, char **argv)
{
	static const struct {
		const char *verb, *usage;
		bool follow;
	} verbs[] = {
		{"pause",
		 "usage: holdfast pause RUN\nNo further step starts; what runs goes on. 'holdfast "
		 "resume RUN' goes on.\n",
		 false},
		{"cancel",
		 "usage: holdfast cancel RUN\nEnds the run: what runs is killed, nothing more is "
		 "started, nothing lands by itself. A landing that has\nbegun is brought to its "
		 "end; one that failed half way is given up, and its workspace is free for other "
		 "runs.\nOf a run that is over: gives up its landing or undoing that failed.\n",
		 false},
		{"land",
		 "usage: holdfast land RUN\nApplies the committed changes of a run to its "
		 "workspace; tries a landing that failed once more.\n",
		 true},
		{"undo", undo_usage, true},
	};
	size_t at = 0;
	while (strcmp(verbs[at].verb, argv[0]) != 0)
		at++;
	AUTO(client_close) struct client *c = NULL;
	char run[64];
	int exit_status = EXIT_STATUS_OK;
	if (open_run(argc, argv, verbs[at].usage, CLIENT_START_THERE, &c, run, sizeof(run),
		     &exit_status) < 0)
		return exit_status;
	struct error err = {0};
	json_t *body = strcmp(verbs[at].verb, "cancel") == 0 ? json_pack("{s:b}", "kill", 1) : NULL;
	json_t *answer = NULL;
	bool was_over = body && status_is_over(c, run);
	int r = post_verb(c, run, verbs[at].verb, body, &answer, &err);
	json_decref(body);
	if (r < 0)
		return cli_fail(&err);
	json_decref(answer);
	if (strcmp(verbs[at].verb, "cancel") == 0)
		return status_tell_cancelled(c, run, was_over);
	return verbs[at].follow ? status_wait_landed(c, run, verbs[at].verb) : status_tell(c, run);
}

static const char fork_usage[] = "usage: holdfast fork RUN --at STEP\n"
				 "A new run of the same plan that takes over what RUN committed "
				 "before STEP, and goes on from there.\n";

int cmd_fork(int argc, char **argv)
{
	enum { AT = CLI_OPT_OWN };
	static const struct option options[] = {CLI_OPTIONS,
						{"at", required_argument, NULL, AT},
						{0}};
	const char *at = NULL;
	int opt;
	while ((opt = cli_getopt(argc, argv, "", options)) != -1) {
		if (opt == AT) {
			at = optarg;
			continue;
		}
		int r = cli_option(opt, fork_usage);
		if (r)
			return r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
	}
	int wrong = cli_words(argc, argv, 1, 1, "RUN", fork_usage);
	if (wrong)
		return wrong;
	if (!at || !*at)
		return cli_usage(fork_usage, "no step is named; say --at STEP");
	struct error err = {0};
	AUTO(client_close) struct client *c = NULL;
	if (client_open(cli.state, CLIENT_START_THERE, &c, &err) < 0)
		return cli_fail(&err);
	AUTO_BUFFER target = {0};
	buffer_append_str(&target, "/v1/runs/");
	client_encode(&target, argv[optind]);
	buffer_append_str(&target, "/fork");
	json_t *made = NULL;
	struct client_request r = {.method = "POST",
				   .target = (const char *)target.data,
				   .body = json_pack("{s:s}", "at", at)};
	int e = client_call(c, &r, NULL, &made, NULL, &err);
	json_decref(r.body);
	if (e < 0)
		return cli_fail(&err);
	char run[64];
	snprintf(run, sizeof(run), "%s", cli_str(made, "run"));
	json_decref(made);
	return follow_and_tell(c, run);
}
