/* holdfast trust, and the offer that run makes on a terminal. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/digest.h"
#include "base/io.h"
#include "base/yaml.h"
#include "policy/policy.h"
#include "tools/cli.h"
#include "tools/trust.h"

static int read_policy_file(const char *path, char real[PATH_MAX], struct policy **ret,
			    struct digest *ret_digest, struct error *err)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return error_set_exit(err, -errno, EXIT_STATUS_USAGE,
				      "cannot open %s: %s; name a project's policy file, or a "
				      "folder with .holdfast/policy.yaml",
				      path, strerror(errno));
	if (!realpath(path, real))
		return error_set(err, -errno, "cannot resolve %s: %s; name it by another path",
				 path, strerror(errno));
	AUTO_BUFFER text = {.max = POLICY_BYTES_MAX + 1};
	int r = io_read_all(fd, POLICY_BYTES_MAX, &text);
	if (r == -E2BIG)
		return yaml_too_large(err, path);
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_USAGE,
				      "cannot read %s: %s; name a policy file that you may read",
				      path, strerror(-r));
	AUTO(plan_free) struct plan *plan = NULL;
	struct bytes yaml = buffer_bytes(&text);
	struct error no_plan = {0};
	/* Where it stands in a plan, what is pinned is that part alone, as `run` looks for it. */
	if (plan_parse(yaml, path, &plan, &no_plan) == 0 && plan->policy_text)
		yaml = bytes_of(plan->policy_text, plan->policy_text_len);
	else if (plan)
		return error_set_exit(
			err, -ENOENT, EXIT_STATUS_USAGE,
			"nothing to trust: %.120s is a plan that holds no policy%s%.60s", path,
			plan->policy_path ? "; trust the file that it names: " : "",
			plan->policy_path ? plan->policy_path : "");
	policy_trust_digest(yaml, ret_digest);
	r = policy_parse(yaml, path, NULL, ret);
	if (r < 0)
		return error_set(err, r, "cannot read %s: %s", path, strerror(-r));
	return policy_check(*ret, err);
}

/* The digest that is pinned for the path, as hex; "" where none is. */
static int pinned(struct client *c, const char *real, char hex[DIGEST_HEX_SIZE], struct error *err)
{
	AUTO_BUFFER target = {0};
	buffer_append_str(&target, "/v1/trust?path=");
	client_encode(&target, real);
	struct client_request r = {.method = "GET", .target = (const char *)target.data};
	json_t *doc = NULL;
	int e = client_call(c, &r, NULL, &doc, NULL, err);
	if (e == 0)
		snprintf(hex, DIGEST_HEX_SIZE, "%s", cli_str(doc, "digest"));
	json_decref(doc);
	return e;
}

static int pin(struct client *c, const char *real, const struct digest *digest, struct error *err)
{
	char hex[DIGEST_HEX_SIZE];
	struct client_request r = {.method = "POST",
				   .target = "/v1/trust",
				   .body = json_pack("{s:s, s:s}", "path", real, "digest",
						     digest_hex(digest, hex))};
	if (!r.body)
		return error_set_exit(err, -EILSEQ, EXIT_STATUS_USAGE,
				      "the path %s is not UTF-8; rename a folder of it", real);
	int e = client_call(c, &r, NULL, NULL, NULL, err);
	json_decref(r.body);
	return e;
}

static void print_summary(const struct policy *p, const char *real, bool changed)
{
	AUTO_BUFFER text = {0};
	if (policy_trust_summary(p, &text) < 0)
		return;
	if (changed)
		fprintf(stderr, "%s has changed since it was trusted\n", cli_escaped(real));
	AUTO_BUFFER clean = {0};
	cli_escape_text(&clean, buffer_bytes(&text));
	fwrite(clean.data, 1, clean.len, stderr);
}

static bool yes_on_terminal(const char *question)
{
	fprintf(stderr, "%s type 'yes': ", question);
	char line[16];
	return fgets(line, sizeof(line), stdin) && strcmp(line, "yes\n") == 0;
}

int trust_offer(struct client *c, const struct run_request *q, struct error *err)
{
	if (cli.no_input || cli.json || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return 0;
	char path[PATH_MAX], real[PATH_MAX], hex[DIGEST_HEX_SIZE] = "", have[DIGEST_HEX_SIZE];
	const char *folder = q->workspace ? q->workspace : ".";
	if ((size_t)snprintf(path, sizeof(path), "%s/.holdfast/policy.yaml", folder) >=
		    sizeof(path) ||
	    access(path, R_OK) < 0)
		return 0;
	AUTO(policy_free) struct policy *p = NULL;
	struct digest digest;
	int r = read_policy_file(path, real, &p, &digest, err);
	if (r == 0)
		r = pinned(c, real, hex, err);
	if (r < 0 || strcmp(hex, digest_hex(&digest, have)) == 0)
		return r;
	print_summary(p, real, *hex != 0);
	return yes_on_terminal("Trust it (else only what it forbids counts)?")
		       ? pin(c, real, &digest, err)
		       : 0;
}

static int tell(const char *real, const char *hex, bool already)
{
	if (cli.json)
		cli_print_json(json_pack("{s:i, s:s, s:s, s:b}", "version", SUPERVISOR_API_VERSION,
					 "path", cli_escaped(real), "digest", hex, "already",
					 already));
	else
		printf("%s is trusted%s (%.16s)\n", cli_escaped(real), already ? " already" : "",
		       hex);
	return EXIT_STATUS_OK;
}

int cmd_trust(int argc, char **argv)
{
	static const char usage[] = "usage: holdfast trust [FOLDER|FILE] [--yes]\n"
				    "Pins a project's policy file by its digest, after showing "
				    "what it would allow. A changed file is asked for again.\n";
	static const struct option options[] = {CLI_OPTIONS,
						{"yes", no_argument, NULL, CLI_OPT_OWN},
						{0}};
	bool yes = false;
	int opt;
	while ((opt = cli_getopt(argc, argv, "", options)) != -1) {
		if (opt == CLI_OPT_OWN) {
			yes = true;
			continue;
		}
		int r = cli_option(opt, usage);
		if (r)
			return r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
	}
	int wrong = cli_words(argc, argv, 0, 1, "FOLDER", usage);
	if (wrong)
		return wrong;
	const char *named = optind < argc ? argv[optind] : ".";
	char path[PATH_MAX], real[PATH_MAX];
	if ((size_t)snprintf(path, sizeof(path), "%s/.holdfast/policy.yaml", named) >=
		    sizeof(path) ||
	    access(path, F_OK) < 0)
		snprintf(path, sizeof(path), "%s", named);
	struct error err = {0};
	struct stat st;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		error_set_exit(
			&err, -ENOENT, EXIT_STATUS_USAGE,
			"nothing to trust: there is no .holdfast/policy.yaml in %.120s; write "
			"one, or name a project's folder or policy file",
			path);
		return cli_fail(&err);
	}
	AUTO(policy_free) struct policy *p = NULL;
	AUTO(client_close) struct client *c = NULL;
	struct digest digest;
	char hex[DIGEST_HEX_SIZE] = "", have[DIGEST_HEX_SIZE];
	int r = read_policy_file(path, real, &p, &digest, &err);
	if (r == 0)
		r = client_open(cli.state, CLIENT_START_MAKE, &c, &err);
	if (r == 0)
		r = pinned(c, real, hex, &err);
	if (r < 0)
		return cli_fail(&err);
	if (strcmp(hex, digest_hex(&digest, have)) == 0)
		return tell(real, have, true);
	print_summary(p, real, *hex != 0);
	if (!yes && (cli.no_input || !isatty(STDIN_FILENO) || !yes_on_terminal("Trust it?"))) {
		error_set_exit(&err, -ECANCELED, EXIT_STATUS_WAITING,
			       "nothing was trusted; say 'holdfast trust --yes %.120s' where no "
			       "terminal asks",
			       named);
		return cli_fail(&err);
	}
	r = pin(c, real, &digest, &err);
	if (r < 0)
		return cli_fail(&err);
	return tell(real, have, false);
}
