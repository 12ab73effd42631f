/*
 * holdfastd, the supervisor (supervisor/supervisor.h says how it is started and what it serves).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/guard.h"
#include "base/io.h"
#include "supervisor/supervisor.h"

static int usage(void)
{
	fprintf(stderr, "usage: holdfastd [--state DIR] [--embedded] [--ready-fd N] [--version]\n");
	return EXIT_STATUS_USAGE;
}

/* Helper programs: beside this executable, else in its build tree, else where they are installed.
 */
static int find_helpers(char *buf, size_t size)
{
	static const char *const places[] = {"%s", "%s/../sandbox", HOLDFAST_LIBEXECDIR};
	char own[PATH_MAX], probe[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

	if (n <= 0)
		return -errno;
	own[n] = '\0';
	*strrchr(own, '/') = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if ((size_t)snprintf(buf, size, places[i], own) >= size)
			return -ENAMETOOLONG;
		snprintf(probe, sizeof(probe), "%s/holdfast-keeper", buf);
		if (access(probe, X_OK) < 0)
			continue;
		/* sandboxes are told of paths below it, and those are clean */
		if (!realpath(buf, probe) || strlen(probe) >= size)
			return -ENAMETOOLONG;
		strcpy(buf, probe);
		return 0;
	}
	return -ENOENT;
}

static int fail(int ready_fd, const struct error *err)
{
	char line[ERROR_MSG_MAX + ERROR_WHERE_MAX + 4];

	snprintf(line, sizeof(line), "%s%s%s\n", err->where, err->where[0] ? ": " : "", err->msg);
	if (ready_fd >= 0)
		(void)!io_write_all(ready_fd, line, strlen(line));
	fprintf(stderr, "holdfastd: %s", line);
	return err->exit_status ? err->exit_status : EXIT_STATUS_STEP_FAILED;
}

static int parse(int argc, char **argv, struct daemon_options *o)
{
	static const struct option longs[] = {
		{"state", required_argument, NULL, 's'},
		{"embedded", no_argument, NULL, 'e'},
		{"ready-fd", required_argument, NULL, 'r'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		switch (c) {
		case 's':
			o->state = optarg;
			break;
		case 'e':
			o->embedded = true;
			break;
		case 'r':
			o->ready_fd = (int)strtol(optarg, &end, 10);
			if (*end || o->ready_fd < 3 || o->ready_fd > 1023)
				return usage();
			break;
		case 'v':
			puts("holdfastd " HOLDFAST_VERSION);
			exit(0);
		default:
			return usage();
		}
	}
	return optind == argc ? 0 : usage();
}

int main(int argc, char **argv)
{
	struct daemon_options o = {.home = getenv("HOME"),
				   .xdg_state = getenv("XDG_STATE_HOME"),
				   .xdg_config = getenv("XDG_CONFIG_HOME"),
				   .xdg_runtime = getenv("XDG_RUNTIME_DIR"),
				   .notify_socket = getenv("NOTIFY_SOCKET"),
				   .environment = environ,
				   .ready_fd = -1};
	const struct settings_from from = {.etc = SETTINGS_ETC,
					   .home = o.home,
					   .xdg_config = o.xdg_config,
					   .uid = geteuid()};
	struct settings settings = {0};
	AUTO(settings_free) struct settings *held = &settings;
	AUTO_FREE char *state = NULL;
	AUTO(daemon_free) struct daemon *d = NULL;
	char helpers[PATH_MAX];
	struct error err = {0};
	int r = parse(argc, argv, &o);

	if (r)
		return r;
	failpoint_init(getenv("HOLDFAST_FAILPOINT"));
	r = settings_load(&from, &settings, &err);
	if (r == 0 && !o.state)
		r = settings_state(&settings, &from, o.xdg_state, &state, &err);
	if (r < 0)
		return fail(o.ready_fd, &err);
	if (state)
		o.state = state;
	o.settings = held;
	r = find_helpers(helpers, sizeof(helpers));
	if (r < 0) {
		error_set_exit(&err, r, EXIT_STATUS_SANDBOX,
			       "holdfast-keeper is missing: neither beside %s nor in %s; install "
			       "Holdfast again",
			       argv[0], HOLDFAST_LIBEXECDIR);
		return fail(o.ready_fd, &err);
	}
	o.helpers = helpers;
	if (o.ready_fd >= 0)
		fcntl(o.ready_fd, F_SETFD, FD_CLOEXEC);
	if (daemon_open(&o, &d, &err) < 0)
		return fail(o.ready_fd, &err);
	return daemon_run(d, &err) < 0 ? fail(-1, &err) : 0;
}
