/* holdfast tool: inside a step, calls a tool that the policy names. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/io.h"
#include "tools/cli.h"

#define TOOLS_HOST "tools.holdfast.internal"
#define TOOLS_PORT "80"

enum { ANSWER_MAX = 1024 * 1024 };

static void put_encoded(struct buffer *out, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		    (*p >= '0' && *p <= '9') || strchr("-._~", *p))
			buffer_append_byte(out, *p);
		else
			buffer_printf(out, "%%%02X", *p);
	}
}

/* POST /NAME?argument=value&... of "--argument value" and "--argument=value". */
static int make_request(int argc, char **argv, struct buffer *out)
{
	const char *join = "?";

	buffer_append_str(out, "POST /");
	put_encoded(out, argv[0]);
	for (int i = 1; i < argc; i++) {
		char *equals = strchr(argv[i], '=');

		if (strncmp(argv[i], "--", 2) != 0 || !argv[i][2] || (!equals && i + 1 == argc))
			return -EINVAL;
		buffer_append_str(out, join);
		join = "&";
		if (equals)
			*equals = '\0';
		put_encoded(out, argv[i] + 2);
		buffer_append_byte(out, '=');
		put_encoded(out, equals ? equals + 1 : argv[++i]);
	}
	return buffer_append_str(out, " HTTP/1.1\r\nHost: " TOOLS_HOST
				      "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

static int dial(struct error *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	int r = getaddrinfo(TOOLS_HOST, TOOLS_PORT, &hints, &list), fd = -1;

	for (struct addrinfo *a = r ? NULL : list; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0)
			close_fd(&fd);
	}
	if (list)
		freeaddrinfo(list);
	return fd >= 0 ? fd
		       : error_set_exit(
				 err, -ENETUNREACH, EXIT_STATUS_SANDBOX,
				 "tool: there are no tools here; call it inside a step whose "
				 "policy names some under 'tools'");
}

/* The body of an answer whose connection ends with it, chunked or not. */
static struct bytes body_of(struct buffer *b, int *ret_status)
{
	char *text = (char *)b->data, *head = strstr(text, "\r\n\r\n"), *at, *to;

	*ret_status = b->len > 12 ? atoi(text + 9) : 0;
	if (!head)
		return bytes_of("", 0);
	*head = '\0';
	at = to = head + 4;
	if (!strcasestr(text, "\r\ntransfer-encoding: chunked"))
		return bytes_of(at, b->len - (size_t)(at - text));
	for (char *end = text + b->len;;) {
		size_t n = strtoul(at, &at, 16);

		at = strstr(at, "\r\n");
		if (!at || n == 0 || n > (size_t)(end - at - 2))
			break;
		memmove(to, at + 2, n);
		to += n;
		at += 2 + n + 2;
	}
	return bytes_of(head + 4, (size_t)(to - head - 4));
}

static int print_answer(struct buffer *raw, struct error *err)
{
	int status;
	struct bytes body = body_of(raw, &status);
	json_t *doc = json_loadb(body.data, body.len, 0, NULL);
	int exit_status;

	if (status == 200 && doc && json_is_integer(cli_get(doc, "exit"))) {
		fputs(cli_str(doc, "stdout"), stdout);
		fputs(cli_str(doc, "stderr"), stderr);
		exit_status = (int)cli_int(doc, "exit");
	} else if (status == 200 && doc && *cli_str(doc, "holdfast")) {
		/* It was in doubt, and somebody knew that it was done: there is no output of it. */
		fprintf(stderr, "holdfast: tool: done, by the word of %s; its output is not known\n",
			cli_escaped(cli_str(doc, "by")));
		exit_status = EXIT_STATUS_OK;
	} else {
		error_set_exit(err, -EACCES,
			       status == 403   ? EXIT_STATUS_DENIED
			       : status == 409 ? EXIT_STATUS_CONFLICT
					       : EXIT_STATUS_SANDBOX,
			       "tool: %.60s: %.150s", doc ? cli_str(doc, "error") : "no answer",
			       doc ? cli_str(doc, "why") : "the connection ended");
		exit_status = cli_fail(err);
	}
	json_decref(doc);
	return exit_status;
}

int cmd_tool(int argc, char **argv)
{
	static const char usage[] =
		"usage: holdfast tool NAME [--ARGUMENT VALUE]...\n"
		"Inside a step: calls a tool that the policy names; waits where a person is asked. "
		"Prints what the tool printed\nand leaves with its exit status.\n";
	AUTO_BUFFER request = {0};
	AUTO_BUFFER raw = {.max = ANSWER_MAX};
	struct error err = {0};
	AUTO_FD fd = -1;
	int r;

	if (argc < 2 || argv[1][0] == '-' || make_request(argc - 1, argv + 1, &request) < 0)
		return cli_usage(usage);
	fd = dial(&err);
	if (fd < 0)
		return cli_fail(&err);
	r = io_write_all(fd, request.data, request.len);
	if (r == 0)
		r = io_read_all(fd, ANSWER_MAX - 1, &raw);
	if (r == 0)
		r = buffer_append_byte(&raw, 0);
	if (r < 0) {
		error_set_exit(&err, r, EXIT_STATUS_SANDBOX, "tool: %s", strerror(-r));
		return cli_fail(&err);
	}
	raw.len--;
	return print_answer(&raw, &err);
}
