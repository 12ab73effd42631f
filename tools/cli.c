#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include "base/escape.h"
#include "base/yaml.h"
#include "tools/cli.h"

struct cli cli;

int cli_option(int opt, const char *usage)
{
	switch (opt) {
	case CLI_OPT_STATE:
		cli.state = optarg;
		return 0;
	case CLI_OPT_JSON:
		cli.json = true;
		opterr = 0; /* what is wrong is said once, as JSON */
		cli.color = cli.progress = false;
		return 0;
	case CLI_OPT_PLAIN:
		cli.plain = true;
		cli.color = cli.progress = false;
		return 0;
	case CLI_OPT_NO_INPUT:
		cli.no_input = true;
		return 0;
	case CLI_OPT_HELP:
		fputs(usage, stdout);
		return 1;
	default:
		cli_usage(usage);
		return -EINVAL;
	}
}

int cli_fail(const struct error *err)
{
	int status = err->exit_status ? err->exit_status : EXIT_STATUS_STEP_FAILED;
	AUTO_BUFFER line = {0};
	escape_append(&line, bytes_str(err->msg), ESCAPE_LINE | ESCAPE_KEEP_BACKSLASH);
	const char *msg =
		line.len ? (const char *)line.data : "an error without a message; see the log";
	if (cli.json) {
		json_t *doc =
			json_pack("{s:i, s:{s:s, s:s, s:i}}", "version", SUPERVISOR_API_VERSION,
				  "error", "what", msg, "where", err->where, "exit", status);
		if (doc)
			cli_print_json(doc);
		return status;
	}
	if (err->where[0])
		fprintf(stderr, "holdfast: %s: %s\n", err->where, msg);
	else
		fprintf(stderr, "holdfast: %s\n", msg);
	return status;
}

int cli_usage(const char *usage)
{
	struct error err = {0};
	if (!cli.json) {
		fputs(usage, stderr);
		return EXIT_STATUS_USAGE;
	}
	error_set_exit(&err, -EINVAL, EXIT_STATUS_USAGE, "%.*s", (int)strcspn(usage, "\n"), usage);
	return cli_fail(&err);
}

void cli_print_json(json_t *doc)
{
	json_dumpf(doc, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	putchar('\n');
	fflush(stdout);
	json_decref(doc);
}

void cli_escape_text(struct buffer *out, struct bytes untrusted)
{
	escape_append(out, untrusted, ESCAPE_KEEP_NEWLINE | ESCAPE_KEEP_BACKSLASH);
}

void cli_print_text(const char *untrusted)
{
	AUTO_BUFFER out = {0};
	cli_escape_text(&out, bytes_str(untrusted));
	if (out.len)
		fwrite(out.data, 1, out.len, stdout);
}

char *cli_escaped(const char *untrusted)
{
	enum { RING = 16, SIZE = 1024 };
	static char ring[RING][SIZE];
	static unsigned at;
	char *slot = ring[at++ % RING];
	AUTO_BUFFER out = {0};
	escape_append(&out, bytes_str(untrusted), ESCAPE_LINE | ESCAPE_KEEP_BACKSLASH);
	snprintf(slot, SIZE, "%s", out.len ? (const char *)out.data : "");
	return slot;
}

const char *cli_tone(enum cli_tone t)
{
	if (!cli.color)
		return "";
	switch (t) {
	case CLI_PLAIN:
		return "\033[0m";
	case CLI_GOOD:
		return "\033[32m";
	case CLI_BAD:
		return "\033[31m";
	case CLI_WARN:
		return "\033[33m";
	case CLI_DIM:
		return "\033[2m";
	case CLI_BOLD:
		return "\033[1m";
	}
	return "";
}

void cli_duration(char *buf, size_t size, int64_t ns)
{
	int64_t s = ns / 1000000000;
	if (ns < 0)
		s = 0;
	if (s < 1)
		snprintf(buf, size, "%dms", (int)(ns > 0 ? ns / 1000000 : 0));
	else if (s < 60)
		snprintf(buf, size, "%ds", (int)s);
	else if (s < 3600)
		snprintf(buf, size, "%dm%02ds", (int)(s / 60), (int)(s % 60));
	else if (s < 86400)
		snprintf(buf, size, "%dh%02dm", (int)(s / 3600), (int)(s % 3600 / 60));
	else
		snprintf(buf, size, "%lldd", (long long)(s / 86400));
}

int64_t cli_parse_time(const char *text)
{
	struct tm tm = {0};
	const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	if (!rest)
		return -1;
	int64_t ns = 0, unit = 100000000;
	if (*rest == '.')
		for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10)
			ns += (*rest - '0') * unit;
	return (int64_t)timegm(&tm) * 1000000000 + ns;
}

int64_t cli_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

const char *cli_nearest(const char *word, const char *const *names, size_t count)
{
	return yaml_nearest(bytes_str(word), names, count);
}

const char *cli_str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

json_int_t cli_int(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

bool cli_bool(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

json_t *cli_get(const json_t *o, const char *key)
{
	return json_object_get(o, key);
}

bool cli_confirm(const char *verb)
{
	AUTO_FD tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (tty < 0)
		return false;
	poll(NULL, 0, 300);
	tcflush(tty, TCIFLUSH);
	dprintf(tty, "%s? type '%s' to confirm: ", verb, verb);
	char line[64];
	ssize_t n = read(tty, line, sizeof(line) - 1);
	if (n <= 0)
		return false;
	line[n] = 0;
	line[strcspn(line, "\r\n")] = 0;
	return strcmp(line, verb) == 0;
}

json_t *cli_fetch(struct client *c, const char *target, int *ret_exit)
{
	struct error err = {0};
	struct client_request r = {.method = "GET", .target = target};
	json_t *doc = NULL;
	if (client_call(c, &r, NULL, &doc, NULL, &err) < 0) {
		*ret_exit = cli_fail(&err);
		return NULL;
	}
	if (!doc) {
		error_set(&err, -EBADMSG,
			  "the supervisor's answer is empty; the versions of holdfast and "
			  "holdfastd differ: restart the daemon");
		*ret_exit = cli_fail(&err);
	}
	return doc;
}
