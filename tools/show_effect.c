#include "tools/show_effect.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_when(const char *label, const char *time)
{
	if (*time)
		printf("  %-10s %.19s UTC\n", label, time);
}

void show_effect_line(const json_t *e)
{
	printf("  %s%.8s%s  %-10s %s", cli_tone(CLI_BOLD), cli_str(e, "effect"), CLI_RESET,
	       cli_escaped(cli_str(e, "state")), cli_escaped(cli_str(e, "title")));
	if (cli_int(e, "status") > 0)
		printf(" -> %lld", (long long)cli_int(e, "status"));
	printf("%s  (step %s", cli_tone(CLI_DIM), cli_escaped(cli_str(e, "step")));
	if (*cli_str(e, "approver"))
		printf(", approved by %s", cli_escaped(cli_str(e, "approver")));
	printf(")%s\n", CLI_RESET);
}

static void print_headers(const json_t *headers)
{
	size_t i;
	const json_t *h;
	json_array_foreach(headers, i, h)
	{
		const char *name = json_string_value(json_array_get(h, 0)),
			   *value = json_string_value(json_array_get(h, 1));
		printf("    %s: ", cli_escaped(name ? name : ""));
		printf("%s\n", cli_escaped(value ? value : ""));
	}
}

static void print_action(const json_t *a)
{
	size_t i;
	const json_t *x;
	if (*cli_str(a, "host")) {
		printf("  sent to    %s://", cli_escaped(cli_str(a, "scheme")));
		printf("%s:%lld", cli_escaped(cli_str(a, "host")), (long long)cli_int(a, "port"));
		printf("%s", cli_escaped(cli_str(a, "path")));
		if (*cli_str(a, "query"))
			printf("?%s", cli_escaped(cli_str(a, "query")));
		putchar('\n');
	}
	json_array_foreach(cli_get(a, "updates"), i, x)
	{
		printf("    %s", cli_escaped(cli_str(x, "ref")));
		printf("  %.12s -> %.12s%s\n", cli_str(x, "before"), cli_str(x, "after"),
		       json_is_true(cli_get(x, "force")) ? "  forced" : "");
	}
	print_headers(cli_get(a, "args"));
	print_headers(cli_get(a, "headers"));
	if (*cli_str(a, "body"))
		printf("    body of %lld bytes, sha256 %.16s (--request shows it)\n",
		       (long long)cli_int(a, "body_size"), cli_str(a, "body"));
}

static void print_response(const json_t *r)
{
	if (!json_is_object(r))
		return;
	printf("  answered   %lld\n", (long long)cli_int(r, "status"));
	print_headers(cli_get(r, "headers"));
	if (*cli_str(r, "body"))
		printf("    body, sha256 %.16s (--response shows it)\n", cli_str(r, "body"));
	if (json_is_true(cli_get(r, "too_long")))
		puts("    its body was too long to be kept");
}

static void print_whole(const json_t *e)
{
	printf("effect %.32s  %s\n", cli_str(e, "effect"), cli_escaped(cli_str(e, "title")));
	printf("  state      %s%s", cli_escaped(cli_str(e, "state")),
	       *cli_str(e, "why") ? ": " : "");
	printf("%s\n", cli_escaped(cli_str(e, "why")));
	printf("  run        %.8s, step ", cli_str(e, "run"));
	printf("%s, attempt %lld\n", cli_escaped(cli_str(e, "step")),
	       (long long)cli_int(e, "attempt"));
	printf("  class      %s, retry %s\n", cli_str(e, "class"), cli_str(e, "retry"));
	printf("  rule       %s", cli_escaped(cli_str(e, "rule")));
	printf(" (%s)\n", cli_escaped(cli_str(e, "at")));
	if (*cli_str(e, "approver"))
		printf("  approved   by %s\n", cli_escaped(cli_str(e, "approver")));
	if (*cli_str(e, "secret"))
		printf("  credential %s\n", cli_escaped(cli_str(e, "secret")));
	if (*cli_str(e, "key"))
		printf("  key        %s\n", cli_escaped(cli_str(e, "key")));
	const json_t *undo = cli_get(e, "undo");
	if (*cli_str(undo, "tool"))
		printf("  undo       holdfast undo --effect %.8s runs tool %s\n",
		       cli_str(e, "effect"), cli_escaped(cli_str(undo, "tool")));
	else if (*cli_str(undo, "text"))
		printf("  undo       by hand: %s\n", cli_escaped(cli_str(undo, "text")));
	if (*cli_str(e, "claimed"))
		printf("  claimed    %s\n", cli_escaped(cli_str(e, "claimed")));
	print_when("proposed", cli_str(e, "proposed"));
	print_when("reserved", cli_str(e, "reserved"));
	print_when("ended", cli_str(e, "ended"));
	print_action(cli_get(e, "action"));
	print_response(cli_get(e, "response"));
	printf("  bytes      %lld out, %lld in\n", (long long)cli_int(e, "sent"),
	       (long long)cli_int(e, "received"));
	printf("  digest     %.16s\n", cli_str(e, "digest"));
}

/* Escaped on a terminal and for --plain, byte for byte into a file or pipe. */
static int print_body(struct client *c, const char *id, const char *which)
{
	struct error err = {0};
	AUTO_BUFFER target = {0};
	AUTO_BUFFER text = {0};
	AUTO_BUFFER clean = {0};
	AUTO(client_stream_close) struct client_stream *s = NULL;
	buffer_printf(&target, "/v1/effects/%s/body?which=%s", id, which);
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

bool show_effect(struct client *c, const char *prefix, const char *which, int *ret_exit)
{
	struct error err = {0};
	AUTO_BUFFER target = {0};
	buffer_append_str(&target, "/v1/effects/");
	client_encode(&target, prefix);
	struct client_request r = {.method = "GET", .target = (const char *)target.data};
	json_t *doc = NULL;
	if (client_call(c, &r, NULL, &doc, NULL, &err) < 0)
		return false;
	*ret_exit = EXIT_STATUS_OK;
	if (which) {
		AUTO_FREE char *id = strdup(cli_str(doc, "effect"));
		*ret_exit = id ? print_body(c, id, which) : EXIT_STATUS_LIMIT;
		json_decref(doc);
	} else if (cli.json) {
		cli_print_json(doc);
	} else {
		print_whole(doc);
		json_decref(doc);
	}
	return true;
}
