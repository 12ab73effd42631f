/*
 * holdfast tool, inside a sandbox: calls a tool that the policy names.
 *
 * It is bound at CONFINE_TOOL_CLIENT of every step whose policy has tools, so that a step needs
 * nothing that the host has installed: one static file, no library but libc, no configuration. It asks
 * the gate for the name and speaks to the gate; nothing here decides anything.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/escape.h"
#include "base/guard.h"
#include "base/json.h"
#include "sandbox/action.h"

enum {
	ANSWER_MAX = 4 * 1024 * 1024, /* bytes; a tool's output is cut far below */
	DNS_MAX = 512,
	DNS_WAIT_MS = 5000,
	DNS_TRIES = 3,
	DNS_PORT = 53,
};

#define GATE_ADDRESS "198.18.0.1" /* resolv.conf of every sandbox that has a network */

static const char usage[] =
	"usage: holdfast tool [--reason TEXT] NAME [--ARGUMENT VALUE]...\n"
	"Inside a step: calls a tool that the policy names; waits where a person is asked. Prints "
	"what the tool printed\nand leaves with its exit status. --reason stands on the person's "
	"card, marked as claimed.\nHoldfast's other commands are outside.\n";

static int fail(int status, const char *what, struct bytes why)
{
	AUTO_FREE char *shown = escape_dup(why, ESCAPE_LINE);

	fprintf(stderr, "holdfast: tool: %s%s%s\n", what, why.len ? ": " : "", shown ? shown : "");
	return status;
}

/* ---- the request ---- */

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
static int make_request(int argc, char **argv, const char *reason, struct buffer *out)
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
	buffer_append_str(out, " HTTP/1.1\r\nHost: " ACTION_TOOLS_HOST
			       "\r\nContent-Length: 0\r\nConnection: close\r\n");
	if (reason)
		buffer_printf(out, "Holdfast-Reason: %s\r\n", reason);
	return buffer_append_str(out, "\r\n");
}

/* ---- the name: a static program has no resolver that it could count on ---- */

static size_t put_question(uint8_t *q, const char *name)
{
	/* id 1, recursion desired, one question (RFC 1035 section 4.1) */
	static const uint8_t head[12] = {0, 1, 1, 0, 0, 1};
	size_t n = sizeof(head);

	memcpy(q, head, sizeof(head));
	for (const char *at = name; *at;) {
		size_t label = strcspn(at, ".");

		q[n++] = (uint8_t)label;
		memcpy(q + n, at, label);
		n += label;
		at += label + (at[label] == '.');
	}
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): no text */
	memcpy(q + n, "\0\0\1\0\1", 5); /* root; A; IN */
	return n + 5;
}

/* The address in the gate's answer to exactly this question: one record, its name a pointer. */
static int read_answer(const uint8_t *a, size_t n, size_t question, struct in_addr *ret)
{
	static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1};
	const uint8_t *at = a + question;

	if (n < question + 16 || a[1] != 1 || !(a[2] & 0x80) || (a[3] & 15) != 0 || a[7] < 1)
		return -ENOENT;
	if (memcmp(at, record, sizeof(record)) != 0 || at[10] != 0 || at[11] != 4)
		return -ENOENT;
	memcpy(ret, at + 12, sizeof(*ret));
	return 0;
}

static int resolve(struct in_addr *ret)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(DNS_PORT)};
	uint8_t question[DNS_MAX], answer[DNS_MAX];
	size_t n = put_question(question, ACTION_TOOLS_HOST);
	AUTO_FD fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)inet_pton(AF_INET, GATE_ADDRESS, &to.sin_addr);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -ENETUNREACH;
	for (int i = 0; i < DNS_TRIES; i++) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t got;

		if (send(fd, question, n, 0) < 0)
			return -ENETUNREACH;
		if (poll(&p, 1, DNS_WAIT_MS) <= 0)
			continue;
		got = recv(fd, answer, sizeof(answer), 0);
		return got < 0 ? -ENETUNREACH : read_answer(answer, (size_t)got, n, ret);
	}
	return -ETIMEDOUT;
}

static int dial(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(ACTION_TOOLS_PORT)};
	AUTO_FD fd = -1;
	int r = resolve(&to.sin_addr);

	if (r < 0)
		return r;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -ENETUNREACH;
	return take_fd(&fd);
}

static int send_all(int fd, struct bytes b)
{
	const char *at = b.data;

	for (size_t left = b.len; left > 0;) {
		ssize_t n = send(fd, at, left, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		left -= (size_t)n;
	}
	return 0;
}

static int receive_all(int fd, struct buffer *out)
{
	char piece[16384];

	for (;;) {
		ssize_t n = recv(fd, piece, sizeof(piece), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return buffer_append_byte(out, 0);
		if (buffer_append(out, piece, (size_t)n) < 0)
			return -E2BIG;
	}
}

/* ---- the answer ---- */

/* The body of an answer whose connection ends with it, chunked or not; out ends with a NUL. */
static struct bytes body_of(struct buffer *b, int *ret_status)
{
	char *text = (char *)b->data, *end = text + b->len - 1, *head = strstr(text, "\r\n\r\n"),
	     *at, *to;

	*ret_status = b->len > 12 ? atoi(text + 9) : 0;
	if (!head)
		return bytes_of("", 0);
	*head = '\0';
	at = to = head + 4;
	if (!strcasestr(text, "\r\ntransfer-encoding: chunked"))
		return bytes_of(at, (size_t)(end - at));
	for (;;) {
		size_t n = strtoul(at, &at, 16);

		at = strstr(at, "\r\n");
		if (!at || n == 0 || n > (size_t)(end - at - 2))
			break;
		memmove(to, at + 2, n);
		to += n;
		at += 2 + n;
		if (end - at >= 2)
			at += 2;
	}
	return bytes_of(head + 4, (size_t)(to - head - 4));
}

struct said { /* what the members of the answer are; owned */
	int exit;
	bool has_exit, truncated;
	unsigned long long out_bytes, err_bytes; /* as the tool wrote them */
	struct buffer out, err, holdfast, by, error, why;
};

static int take_member(const struct json_value *v, void *arg)
{
	struct said *s = arg;
	const struct {
		const char *pointer;
		struct buffer *to;
	} texts[] = {{"/stdout", &s->out}, {"/stderr", &s->err},  {"/holdfast", &s->holdfast},
		     {"/by", &s->by},	   {"/error", &s->error}, {"/why", &s->why}};

	if (v->kind == JSON_NUMBER && bytes_equal(v->pointer, bytes_str("/exit"))) {
		AUTO_FREE char *number = bytes_dup_str(v->text);

		s->has_exit = number != NULL;
		s->exit = number ? atoi(number) : 0;
	}
	if (v->kind == JSON_NUMBER) {
		AUTO_FREE char *number = bytes_dup_str(v->text);
		unsigned long long n = number ? strtoull(number, NULL, 10) : 0;

		if (bytes_equal(v->pointer, bytes_str("/stdout_bytes")))
			s->out_bytes = n;
		else if (bytes_equal(v->pointer, bytes_str("/stderr_bytes")))
			s->err_bytes = n;
	}
	if (v->kind == JSON_LITERAL && bytes_equal(v->pointer, bytes_str("/truncated")))
		s->truncated = bytes_equal(v->text, bytes_str("true"));
	for (size_t i = 0; v->kind == JSON_STRING && i < ARRAY_SIZE(texts); i++)
		if (bytes_equal(v->pointer, bytes_str(texts[i].pointer)))
			return buffer_append(texts[i].to, v->text.data, v->text.len);
	return 0;
}

static int refused(int status, struct said *s)
{
	int code = status == 403   ? EXIT_STATUS_DENIED
		   : status == 409 ? EXIT_STATUS_CONFLICT
				   : EXIT_STATUS_SANDBOX;

	if (buffer_append_byte(&s->error, 0) < 0 || s->error.len < 2)
		return fail(code, "no answer", bytes_str("the connection ended"));
	return fail(code, (const char *)s->error.data, buffer_bytes(&s->why));
}

static int print_answer(struct buffer *raw)
{
	struct said s = {0};
	int status, code;
	struct bytes body = body_of(raw, &status);
	bool read = json_each(body, take_member, &s) == 0;

	if (status == 200 && read && s.has_exit) {
		fwrite(s.out.data, 1, s.out.len, stdout);
		fwrite(s.err.data, 1, s.err.len, stderr);
		fflush(stdout);
		if (s.truncated)
			fprintf(stderr,
				"holdfast: tool: its output is cut: the tool wrote %llu bytes to "
				"standard output and %llu to standard error; the first 65536 of "
				"each are kept\n",
				s.out_bytes, s.err_bytes);
		code = s.exit;
	} else if (status == 200 && read && s.holdfast.len) {
		/* It was in doubt, and somebody knew that it was done: there is no output of it. */
		(void)fail(0, "done, and its output is not known; by the word of",
			   buffer_bytes(&s.by));
		code = EXIT_STATUS_OK;
	} else {
		code = refused(status, &s);
	}
	for (struct buffer *const *b = (struct buffer *const[]){&s.out, &s.err, &s.holdfast, &s.by,
								&s.error, &s.why, NULL};
	     *b; b++)
		buffer_free(*b);
	return code;
}

int main(int argc, char **argv)
{
	AUTO_BUFFER request = {0};
	AUTO_BUFFER raw = {.max = ANSWER_MAX};
	const char *reason = NULL;
	AUTO_FD fd = -1;
	int r;

	if (argc > 4 && strcmp(argv[1], "tool") == 0 && strcmp(argv[2], "--reason") == 0) {
		reason = argv[3];
		argv[3] = argv[1];
		argv += 2;
		argc -= 2;
	}
	if (argc < 3 || strcmp(argv[1], "tool") != 0 || argv[2][0] == '-' ||
	    (reason && strpbrk(reason, "\r\n")) ||
	    make_request(argc - 2, argv + 2, reason, &request) < 0) {
		fputs(usage, stderr);
		return EXIT_STATUS_USAGE;
	}
	fd = dial();
	if (fd < 0)
		return fail(EXIT_STATUS_SANDBOX, "there are no tools here",
			    bytes_str(
				    "call it inside a step whose policy names some under 'tools'"));
	r = send_all(fd, buffer_bytes(&request));
	if (r == 0)
		r = receive_all(fd, &raw);
	if (r < 0)
		return fail(EXIT_STATUS_SANDBOX, "the call broke off", bytes_str(strerror(-r)));
	return print_answer(&raw);
}
