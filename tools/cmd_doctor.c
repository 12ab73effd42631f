/* holdfast doctor: what this machine can enforce, and how to mend what it cannot. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "sandbox/sandbox.h"
#include "supervisor/supervisor.h"
#include "tools/cli.h"
#include "tools/helpers.h"

static const char usage[] =
	"usage: holdfast doctor [--cached] [--json] [--state DIR]\n\n"
	"Tests by doing what this machine can enforce, and says the exact remedy for what it "
	"cannot.\n"
	"--cached: tells what the last test found, if the machine is up since, and tests nothing.\n"
	"Exit status 0: steps can run (some limits may be weaker); 8: something is missing.\n";

static int open_v1(int state_fd, struct error *err)
{
	if (mkdirat(state_fd, "v1", 0700) < 0 && errno != EEXIST)
		return error_set(
			err, -errno,
			"cannot make v1 in the state directory: %s; check its owner and free space",
			strerror(errno));
	int fd = openat(state_fd, "v1", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? error_set(err, -errno, "cannot open v1 in the state directory: %s",
				  strerror(errno))
		      : fd;
}

/* The profile where this program was installed; its source folder's while it was not. */
static const char *apparmor_profile(void)
{
	return access(HOLDFAST_APPARMOR, R_OK) == 0 ? HOLDFAST_APPARMOR : HOLDFAST_APPARMOR_BUILD;
}

/* The programs that the command line starts: a broken installation looks like a broken machine
 * else. */
static void add_programs(struct doctor_report *r)
{
	static const char *const names[] = {"holdfastd", "holdfast-keeper", "holdfast-init",
					    "holdfast-sealer"};

	if (r->count == DOCTOR_FINDINGS_MAX)
		return;
	struct doctor_finding *f = &r->findings[r->count++];
	*f = (struct doctor_finding){.name = "programs", .grade = DOCTOR_OK};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[4096];
		if (helpers_find(names[i], path, sizeof(path), NULL) == 0)
			continue;
		f->grade = DOCTOR_MISSING;
		snprintf(f->detail, sizeof(f->detail), "%s is not installed", names[i]);
		snprintf(f->remedy, sizeof(f->remedy),
			 "install Holdfast whole: meson install -C build");
		return;
	}
	snprintf(f->detail, sizeof(f->detail), "supervisor, keeper, init and sealer are there");
}

/* Where the state directory comes from, as it was found before it was opened. */
static void state_origin(struct buffer *out)
{
	const char *xdg = getenv("XDG_STATE_HOME");

	if (cli.state && cli.state != cli.settings_state)
		buffer_append_str(out, "--state");
	else if (cli.settings_state)
		(void)!settings_origin(&cli.settings, SETTINGS_KEY_STATE, out);
	else if (geteuid() != 0 && xdg && xdg[0] == '/')
		buffer_append_str(out, "$XDG_STATE_HOME");
	else
		buffer_append_str(out, "default");
}

/* What the supervisor that serves this state directory says of itself; NULL where none does. */
static json_t *ask_supervisor(void)
{
	AUTO(client_close) struct client *c = NULL;
	struct client_request q = {.method = "GET", .target = "/v1/daemon"};
	struct error ignored = {0};
	json_t *doc = NULL;

	if (client_open(cli.state, CLIENT_START_NO, &c, &ignored) < 0 ||
	    client_call(c, &q, NULL, &doc, NULL, &ignored) < 0)
		return NULL;
	return doc;
}

/* What it goes by for that key, where a file says otherwise by now; else NULL. The state directory
 * is where it was found. */
static const json_t *still_in_force(const json_t *daemon, enum settings_key k,
				    const struct buffer *value)
{
	size_t i;
	const json_t *o;

	json_array_foreach(cli_get(daemon, "settings"), i, o)
	{
		if (strcmp(cli_str(o, "key"), settings_key_name(k)) == 0)
			return k != SETTINGS_KEY_STATE && strcmp(cli_str(o, "value"),
								 (const char *)value->data) != 0
				       ? o
				       : NULL;
	}
	return NULL;
}

static void print_settings(const struct supervisor_paths *paths, const json_t *daemon)
{
	puts("\nsettings");
	for (int i = 0; i < SETTINGS_KEY_COUNT; i++) {
		enum settings_key k = (enum settings_key)i;
		AUTO_BUFFER value = {0}, origin = {0};

		if (k == SETTINGS_KEY_STATE) {
			buffer_append_str(&value, paths->state);
			state_origin(&origin);
		} else if (settings_value(&cli.settings, k, &value) < 0 ||
			   settings_origin(&cli.settings, k, &origin) < 0) {
			continue;
		}
		printf("  %-16s %s  (%s)\n", settings_key_name(k),
		       cli_escaped((const char *)value.data),
		       cli_escaped((const char *)origin.data));
		const json_t *old = still_in_force(daemon, k, &value);
		if (old)
			printf("  %-16s -> supervisor %lld read the files when it started, and "
			       "goes "
			       "by %s (%s) until another one starts\n",
			       "", (long long)cli_int(daemon, "pid"),
			       cli_escaped(cli_str(old, "value")),
			       cli_escaped(cli_str(old, "from")));
	}
}

static json_t *settings_json(const struct supervisor_paths *paths, const json_t *daemon)
{
	json_t *list = json_array();

	for (int i = 0; list && i < SETTINGS_KEY_COUNT; i++) {
		enum settings_key k = (enum settings_key)i;
		AUTO_BUFFER value = {0}, origin = {0};

		if (k == SETTINGS_KEY_STATE) {
			buffer_append_str(&value, paths->state);
			state_origin(&origin);
		} else if (settings_value(&cli.settings, k, &value) < 0 ||
			   settings_origin(&cli.settings, k, &origin) < 0) {
			continue;
		}
		/* Paths are bytes: one that is not UTF-8 is shown escaped. */
		json_t *row = json_pack("{s:s, s:s, s:s}", "key", settings_key_name(k), "value",
					cli_escaped((const char *)value.data), "from",
					cli_escaped((const char *)origin.data));
		const json_t *old = still_in_force(daemon, k, &value);
		if (old)
			json_object_set_new(row, "still_in_force", json_deep_copy(old));
		json_array_append_new(list, row);
	}
	return list;
}

static void print_text(const struct doctor_report *r, const struct supervisor_paths *paths,
		       const json_t *daemon)
{
	static const enum cli_tone tones[] = {
		[DOCTOR_OK] = CLI_GOOD,
		[DOCTOR_WEAKER] = CLI_WARN,
		[DOCTOR_MISSING] = CLI_BAD,
		[DOCTOR_SKIPPED] = CLI_DIM,
	};
	enum doctor_grade verdict = doctor_verdict(r);

	for (size_t i = 0; i < r->count; i++) {
		const struct doctor_finding *f = &r->findings[i];
		printf("%s%-8s%s %-17s %s\n", cli_tone(tones[f->grade]),
		       doctor_grade_name(f->grade), CLI_RESET, f->name, cli_escaped(f->detail));
		if (f->remedy[0])
			printf("         %-17s -> %s\n", "", cli_escaped(f->remedy));
	}
	printf("\nstate    %s\nruntime  %s\n", cli_escaped(paths->state),
	       cli_escaped(paths->runtime));
	print_settings(paths, daemon);
	if (verdict == DOCTOR_MISSING)
		printf("%sNo step can run here until what is missing is mended.%s\n",
		       cli_tone(CLI_BAD), CLI_RESET);
	else if (verdict == DOCTOR_WEAKER)
		printf("%sSteps can run here; what is weaker is used only where a policy allows "
		       "it.%s\n",
		       cli_tone(CLI_WARN), CLI_RESET);
	else
		printf("%sEverything is enforced here.%s\n", cli_tone(CLI_GOOD), CLI_RESET);
}

static void print_json(const struct doctor_report *r, const struct supervisor_paths *paths,
		       const json_t *daemon)
{
	const struct doctor_machine *m = &r->machine;
	json_t *findings = json_array();

	for (size_t i = 0; i < r->count; i++) {
		const struct doctor_finding *f = &r->findings[i];
		json_array_append_new(findings,
				      json_pack("{s:s, s:s, s:s, s:s}", "name", f->name, "grade",
						doctor_grade_name(f->grade), "detail", f->detail,
						"remedy", f->remedy));
	}
	json_t *doc = json_pack(
		"{s:i, s:s, s:o, s:{s:b, s:b, s:b, s:b, s:b, s:b, s:i, s:b, s:b, s:b, s:b}}",
		"version", SUPERVISOR_API_VERSION, "verdict", doctor_grade_name(doctor_verdict(r)),
		"findings", findings, "machine", "user_namespace", m->user_namespace, "namespaces",
		m->namespaces, "proc", m->proc, "overlay", m->overlay, "overlay_volatile",
		m->overlay_volatile, "idmap", m->idmap, "landlock_abi", m->landlock_abi, "seccomp",
		m->seccomp, "seccomp_notify", m->seccomp_notify, "memfd_exec", m->memfd_exec,
		"rename_exchange", m->rename_exchange);
	if (!doc)
		return;
	/* Paths are bytes: one that is not UTF-8 is left out. */
	json_object_set_new(doc, "state", json_string(paths->state));
	json_object_set_new(doc, "runtime", json_string(paths->runtime));
	json_object_set_new(doc, "settings", settings_json(paths, daemon));
	cli_print_json(doc);
}

/* What the tests need and a first look must not leave behind: the folders that were made for them,
 * none of which holds anything. path: the state directory; kept: how much of it was there. */
static void remove_made(const struct supervisor_paths *p, size_t kept)
{
	static const char *const folders[] = {"v1/journal", "v1/blobs", "v1/layers", "v1/spool",
					      "v1"};
	char path[sizeof(p->state)];

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		unlinkat(p->state_fd, folders[i], AT_REMOVEDIR);
	rmdir(p->runtime);
	for (strcpy(path, p->state); strlen(path) > kept; *strrchr(path, '/') = '\0')
		if (rmdir(path) < 0)
			return;
}

/* Length of the part of the path that is there. */
static size_t part_there(const char *path)
{
	AUTO_FREE char *part = strdup(path);

	while (part && *part && access(part, F_OK) < 0 && strrchr(part, '/'))
		*strrchr(part, '/') = '\0';
	return part ? strlen(part) : strlen(path);
}

/* What an earlier one kept, if the machine was not started again since. */
static int load_cached(const struct supervisor_paths *paths, struct doctor_report *ret,
		       struct error *err)
{
	AUTO_FD v1 = openat(paths->state_fd, "v1", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct error why = {0};
	int r = v1 < 0 ? -errno : doctor_load(v1, ret, &why);

	return r < 0 ? error_set_exit(err, r, EXIT_STATUS_SANDBOX,
				      "nothing is kept since this machine was started (%s); run "
				      "'holdfast doctor' without --cached",
				      why.msg[0] ? why.msg : strerror(-r))
		     : 0;
}

/* kept: a state directory is there, so that the answer can be kept in it. */
static int examine(const struct supervisor_paths *paths, bool kept, struct doctor_report *ret,
		   struct error *err)
{
	AUTO_FD v1 = open_v1(paths->state_fd, err);
	const struct doctor_options o = {.v1_fd = v1,
					 .runtime_fd = paths->runtime_fd,
					 .apparmor = apparmor_profile()};
	int r = v1 < 0 ? v1 : doctor_run(&o, ret, err);

	if (r == 0)
		add_programs(ret);
	if (r == 0 && kept) /* else the supervisor looks for itself, at its first start */
		r = doctor_store(v1, ret, err);
	return r;
}

int cmd_doctor(int argc, char **argv)
{
	static const struct option options[] = {CLI_OPTIONS,
						{"cached", no_argument, NULL, CLI_OPT_OWN},
						{0}};
	bool cached = false;
	struct supervisor_paths paths;
	struct doctor_report report;
	struct error err = {0};
	int opt;

	while ((opt = cli_getopt(argc, argv, "+", options)) != -1) {
		if (opt == CLI_OPT_OWN) {
			cached = true;
			continue;
		}
		int r = cli_option(opt, usage);
		if (r != 0)
			return r > 0 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;
	}
	int wrong = cli_words(argc, argv, 0, 0, "", usage);
	if (wrong)
		return wrong;
	char path[sizeof(paths.state)];
	const char *home = getenv("HOME"), *xdg_state = getenv("XDG_STATE_HOME");
	int there = supervisor_paths_there(cli.state, home, xdg_state, path, &err);
	size_t kept = there == -ENODATA ? part_there(path) : 0;
	if (there < 0 && there != -ENODATA)
		return cli_fail(&err);
	err = (struct error){0};
	if (supervisor_paths_open(cli.state, home, xdg_state, getenv("XDG_RUNTIME_DIR"), true,
				  &paths, &err) < 0)
		return cli_fail(&err);
	int r = cached ? load_cached(&paths, &report, &err)
		       : examine(&paths, there == 0, &report, &err);
	if (there == -ENODATA)
		remove_made(&paths, kept);
	json_t *daemon = r == 0 && there == 0 ? ask_supervisor() : NULL;
	if (r == 0 && cli.json)
		print_json(&report, &paths, daemon);
	else if (r == 0)
		print_text(&report, &paths, daemon);
	json_decref(daemon);
	supervisor_paths_close(&paths);
	if (r < 0)
		return cli_fail(&err);
	return doctor_verdict(&report) == DOCTOR_MISSING ? EXIT_STATUS_SANDBOX : EXIT_STATUS_OK;
}
