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

static void set_json(void)
{
	cli.json = true;
	cli.color = cli.progress = false;
}

void cli_json_ahead(int argc, char **argv, int from)
{
	for (int i = from; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--json") == 0)
			set_json();
}

static const struct option *option_of(const struct option *longs, int value)
{
	while (longs->name && longs->val != value)
		longs++;
	return longs->name ? longs : NULL;
}

/* given: as typed, "--nmae=x" or the like. */
static void say_unknown(const char *given, const struct option *longs)
{
	enum { NAMES_MAX = 32 };
	const char *names[NAMES_MAX], *near;
	size_t len = strcspn(given, "="), count = 0, prefixed = 0;
	struct error err = {0};

	for (; longs->name && count < NAMES_MAX; longs++) {
		names[count++] = longs->name;
		prefixed += len > 2 && strncmp(longs->name, given + 2, len - 2) == 0;
	}
	near = len > 2 ? yaml_nearest(bytes_of(given + 2, len - 2), names, count) : NULL;
	error_set_exit(&err, -EINVAL, EXIT_STATUS_USAGE,
		       "%s%s'%.60s' is %s; %s%s%s'holdfast%s%s --help' lists the options",
		       cli.command ? cli.command : "", cli.command ? ": " : "", given,
		       prefixed > 1 ? "short for more than one option" : "no option",
		       near ? "did you mean '--" : "", near ? near : "", near ? "'? " : "",
		       cli.command ? " " : "", cli.command ? cli.command : "");
	cli_fail(&err);
}

int cli_getopt(int argc, char **argv, const char *shorts, const struct option *longs)
{
	char with_colon[16];
	bool has_h = strchr(shorts, 'h') != NULL;
	struct error err = {0};
	const char *what = cli.command ? cli.command : "options";
	bool plus = shorts[0] == '+';
	int at = optind, opt;

	snprintf(with_colon, sizeof(with_colon), "%s:%s%s", plus ? "+" : "", shorts + plus,
		 has_h ? "" : "h");
	opterr = 0;
	opt = getopt_long(argc, argv, with_colon, longs, NULL);
	if (opt == 'h' && !has_h)
		return CLI_OPT_HELP;
	const struct option *empty = opt > 0 ? option_of(longs, opt) : NULL;
	if (empty && (!empty->has_arg || !optarg || *optarg))
		empty = NULL;
	if (opt != '?' && opt != ':' && !empty)
		return opt;
	cli_json_ahead(argc, argv, at > 0 ? at : 1);
	const struct option *known = optopt ? option_of(longs, optopt) : NULL;
	char letter[] = {'-', (char)optopt, 0};
	/* An empty one is a variable that was not set: obeyed, it would mean the default. */
	if (empty)
		error_set_exit(&err, -EINVAL, EXIT_STATUS_USAGE,
			       "%s: the value of --%s is empty; give one, or leave the option out",
			       what, empty->name);
	if (opt == ':')
		error_set_exit(&err, -EINVAL, EXIT_STATUS_USAGE, "%s: %s%s needs a value; give one",
			       what, known ? "--" : "", known ? known->name : letter);
	else if (known)
		error_set_exit(&err, -EINVAL, EXIT_STATUS_USAGE,
			       "%s: --%s takes no value; leave out what follows the '='", what,
			       known->name);
	if (err.code)
		cli_fail(&err);
	else
		say_unknown(optopt ? letter : argv[optind - 1], longs);
	return '?';
}

int cli_option(int opt, const char *usage)
{
	switch (opt) {
	case CLI_OPT_STATE:
		cli.state = optarg;
		return 0;
	case CLI_OPT_JSON:
		set_json();
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
		return -EINVAL;
	}
}

int cli_fail(const struct error *err)
{
	int status = cli.own_exit	? cli.own_exit
		     : err->exit_status ? err->exit_status
					: EXIT_STATUS_STEP_FAILED;
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

int cli_usage(const char *usage, const char *why, ...)
{
	struct error err = {0};
	char said[ERROR_MSG_MAX];
	va_list args;

	va_start(args, why);
	vsnprintf(said, sizeof(said), why, args);
	va_end(args);
	error_set_exit(&err, -EINVAL, EXIT_STATUS_USAGE, "%s%s%s", cli.command ? cli.command : "",
		       cli.command ? ": " : "", said);
	cli_fail(&err);
	if (!cli.json)
		fputs(usage, stderr);
	return EXIT_STATUS_USAGE;
}

/* The n-th word of names, the last where there are fewer. */
static void word_of(const char *names, int n, char *ret, size_t size)
{
	const char *next;

	for (; n > 0 && (next = strchr(names, ' ')); n--)
		names = next + 1;
	snprintf(ret, size, "%.*s", (int)strcspn(names, " "), names);
}

int cli_words(int argc, char **argv, int min, int max, const char *names, const char *usage)
{
	int n = argc - optind;
	char name[32];

	for (int i = 0; i < n && i < max; i++) {
		word_of(names, i, name, sizeof(name));
		if (argv[optind + i][0] == '\0')
			return cli_usage(usage, "%s is empty; name one", name);
	}
	if (n < min) {
		word_of(names, n, name, sizeof(name));
		return cli_usage(usage, "no %s is named; name one", name);
	}
	if (n > max)
		return cli_usage(usage, "'%.60s' is one word too many; leave it out",
				 argv[optind + max]);
	return EXIT_STATUS_OK;
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

int cli_print_answer(struct client *c, const char *target, const char *name, json_t *more)
{
	AUTO_BUFFER text = {0};
	struct error err = {0};
	int r = client_text(c, target, &text, &err);
	if (r == 0 && (text.len < 2 || text.data[text.len - 1] != '}'))
		r = error_set(&err, -EBADMSG,
			      "the supervisor's answer is not JSON; the versions of holdfast and "
			      "holdfastd differ: restart the daemon");
	if (r < 0) {
		json_decref(more);
		return cli_fail(&err);
	}
	fwrite(text.data, 1, text.len - (more ? 1 : 0), stdout);
	if (more) {
		printf(",\"%s\":", name);
		json_dumpf(more, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
		putchar('}');
		json_decref(more);
	}
	putchar('\n');
	fflush(stdout);
	return EXIT_STATUS_OK;
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
