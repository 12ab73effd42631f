/*
 * Finding, starting and asking the supervisor. Called by every command that talks to one; one
 * thread, and it blocks.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include "base/escape.h"
#include "base/failpoint.h"
#include "base/http1.h"
#include "base/io.h"
#include "tools/client.h"
#include "tools/helpers.h"

extern char **environ;

enum {
	START_WAIT_MS = 20000,
	JOIN_WAIT_MS = 2000,
	START_POLL_MS = 20,
	HELD_PAUSE_MS = 50, /* before it is tried again; doubled up to */
	HELD_PAUSE_MAX_MS = 1000,
	REQUEST_TRIES = 3,
	REQUEST_ID_BYTES = 16
};

struct client {
	struct supervisor_paths paths;
	int sock; /* -1 while not connected */
	enum client_start start;
};

static int connect_control(struct client *c)
{
	return io_unix_connect_at(c->paths.runtime_fd, SUPERVISOR_CONTROL_SOCKET, SOCK_STREAM);
}

int64_t client_now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What the daemon said on its ready descriptor: 0 and "ready", or its error line. */
static int read_ready(int fd, struct buffer *out)
{
	int64_t deadline = client_now_ms() + START_WAIT_MS;
	for (;;) {
		int64_t left = deadline - client_now_ms();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (left <= 0)
			return -ETIMEDOUT;
		int n = poll(&p, 1, (int)left);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n <= 0)
			continue;
		char piece[512];
		ssize_t got = read(fd, piece, sizeof(piece));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return 0;
		int r = buffer_append(out, piece, (size_t)got);
		if (r < 0)
			return r;
	}
}

static int spawn_daemon(struct client *c, int ready_fd, pid_t *ret_pid, struct error *err)
{
	char program[PATH_MAX];
	int r = helpers_find("holdfastd", program, sizeof(program), err);
	if (r < 0)
		return r;
	AUTO_FD log = openat(c->paths.state_fd, "log",
			     O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (log < 0)
		return error_set_exit(
			err, -errno, EXIT_STATUS_SANDBOX,
			"cannot open the log in %s: %s; see that the state directory is writable",
			c->paths.state, strerror(errno));

	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, log, 2);
	posix_spawn_file_actions_adddup2(&actions, ready_fd, 3);
	posix_spawn_file_actions_addclosefrom_np(&actions, 4);
	posix_spawn_file_actions_addchdir_np(&actions, "/");
	sigset_t none, defaults;
	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	sigaddset(&defaults, SIGINT);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	char *argv[] = {program, "--embedded", "--state", c->paths.state, "--ready-fd", "3", NULL};
	int e = posix_spawn(ret_pid, program, &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (e)
		return error_set_exit(err, -e, EXIT_STATUS_SANDBOX,
				      "cannot start %s: %s; run 'holdfast doctor'", program,
				      strerror(e));
	return 0;
}

/* Another client may be starting one at the same moment: the loser's daemon finds the lock taken,
 * and the winner's serves us both. START_AGAIN: it was taken, and nobody served for join_ms: by one
 * that cannot be reached and is about to end, or the journal by an audit. */
enum { START_AGAIN = 1 };

static int start_once(struct client *c, int64_t join_ms, struct error *err)
{
	int ready[2];
	if (pipe2(ready, O_CLOEXEC) < 0)
		return error_set(err, -errno,
				 "cannot make a pipe: %s; close other programs and try again",
				 strerror(errno));
	AUTO_FD ready_read = ready[0];
	AUTO_FD ready_write = ready[1];
	pid_t pid;
	int r = spawn_daemon(c, ready_write, &pid, err);
	if (r < 0)
		return r;
	close_fd(&ready_write);
	AUTO_BUFFER said = {.max = 4096};
	r = read_ready(ready_read, &said);
	if (r == 0 && said.len >= 5 && memcmp(said.data, "ready", 5) == 0) {
		c->sock = connect_control(c);
		if (c->sock >= 0)
			return 0;
	}
	int64_t begun = client_now_ms();
	int exit_status = EXIT_STATUS_SANDBOX;
	bool taken = false, ended = false;
	do {
		int status = 0;
		c->sock = connect_control(c);
		if (c->sock >= 0)
			return 0;
		if (!ended && waitpid(pid, &status, WNOHANG) == pid) {
			ended = true;
			if (WIFEXITED(status) && WEXITSTATUS(status) > 0 &&
			    WEXITSTATUS(status) <= EXIT_STATUS_CONFLICT)
				exit_status = WEXITSTATUS(status);
			taken = exit_status == EXIT_STATUS_CONFLICT;
		}
		poll(NULL, 0, START_POLL_MS);
	} while (client_now_ms() - begun < (taken ? join_ms : JOIN_WAIT_MS));
	if (said.len > 0) {
		while (said.len > 0 && said.data[said.len - 1] == '\n')
			said.data[--said.len] = 0;
		error_set_exit(err, -ECONNREFUSED, exit_status, "%s", (const char *)said.data);
	} else {
		error_set_exit(err, -ECONNREFUSED, exit_status,
			       "the supervisor did not start%s; see %s/log",
			       r == -ETIMEDOUT ? " in time" : "", c->paths.state);
	}
	return taken ? START_AGAIN : -ECONNREFUSED;
}

bool client_held_wait(struct client_held *h, const struct error *by)
{
	int64_t now_ms = client_now_ms();
	AUTO_BUFFER who = {0};

	if (!h->since_ms)
		h->since_ms = now_ms;
	if (failpoint_hit("client.held") < 0 || now_ms - h->since_ms >= CLIENT_HELD_MS)
		return false;
	if (h->told || now_ms - h->since_ms < CLIENT_HELD_NOTE_MS)
		return true;
	h->told = true;
	escape_append(&who, (struct bytes){.data = by->msg, .len = strcspn(by->msg, ";")},
		      ESCAPE_LINE | ESCAPE_KEEP_BACKSLASH);
	fprintf(stderr, "holdfast: %s: waiting for it, %d s at most\n",
		who.len ? (const char *)who.data : "the journal is held", CLIENT_HELD_MS / 1000);
	return true;
}

static int start_daemon(struct client *c, struct error *err)
{
	struct client_held held = {0};

	for (int64_t pause_ms = HELD_PAUSE_MS;; pause_ms *= 2) {
		struct error said = {0};
		int r;

		if (pause_ms > HELD_PAUSE_MAX_MS)
			pause_ms = HELD_PAUSE_MAX_MS;
		r = start_once(c, pause_ms, &said);
		if (r == 0)
			return 0;
		if (r == START_AGAIN && client_held_wait(&held, &said))
			continue;
		if (err && err->code == 0)
			*err = said;
		return -ECONNREFUSED;
	}
}

int client_open(const char *state, enum client_start start, struct client **ret, struct error *err)
{
	AUTO(client_close) struct client *c = calloc(1, sizeof(*c));
	if (!c)
		return error_nomem(err);
	c->sock = -1;
	c->start = start;
	c->paths.state_fd = c->paths.runtime_fd = -1;
	char path[PATH_MAX];
	const char *home = getenv("HOME"), *xdg_state = getenv("XDG_STATE_HOME");
	int r = start == CLIENT_START_MAKE
			? 0
			: supervisor_paths_there(state, home, xdg_state, path, err);
	if (r == 0)
		r = supervisor_paths_open(state, home, xdg_state, getenv("XDG_RUNTIME_DIR"), true,
					  &c->paths, err);
	if (r < 0)
		return r;
	c->sock = connect_control(c);
	if (c->sock < 0) {
		if (start == CLIENT_START_NO)
			return error_set_exit(err, -ECONNREFUSED, EXIT_STATUS_USAGE,
					      "no supervisor serves %s; start one with 'holdfast "
					      "run' or 'holdfast daemon'",
					      c->paths.state);
		r = start_daemon(c, err);
		if (r < 0)
			return r;
	}
	*ret = take_ptr(c);
	return 0;
}

int client_reopen(struct client *c, struct error *err)
{
	close_fd(&c->sock);
	c->sock = connect_control(c);
	return c->sock >= 0 ? 0 : start_daemon(c, err);
}

void client_close(struct client *c)
{
	if (!c)
		return;
	close_fd(&c->sock);
	supervisor_paths_close(&c->paths);
	free(c);
}

void client_encode(struct buffer *out, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		    (*p >= '0' && *p <= '9') || *p == '-' || *p == '.' || *p == '_')
			buffer_append_byte(out, *p);
		else
			buffer_printf(out, "%%%02X", *p);
	}
}

static int write_head(const struct client_request *r, const char *request_id, size_t body_len,
		      struct buffer *out)
{
	buffer_printf(out, "%s %s HTTP/1.1\r\nHost: holdfast\r\n", r->method, r->target);
	if (request_id)
		buffer_printf(out, "Holdfast-Request: %s\r\n", request_id);
	if (r->fd_count > 0) {
		buffer_append_str(out, "Holdfast-Fds: ");
		for (size_t i = 0; i < r->fd_count; i++)
			buffer_printf(out, "%s%s", i ? "," : "", r->fds[i].name);
		buffer_append_str(out, "\r\n");
	}
	if (strcmp(r->method, "GET") != 0)
		buffer_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			      body_len);
	buffer_append_str(out, "\r\n");
	return out->failed;
}

static int send_request(int sock, const struct client_request *r, const char *request_id)
{
	AUTO_FREE char *body = NULL;
	size_t body_len = 0;
	if (r->body) {
		body = json_dumps(r->body, JSON_COMPACT);
		if (!body)
			return -ENOMEM;
		body_len = strlen(body);
	}
	AUTO_BUFFER out = {0};
	int e = write_head(r, request_id, body_len, &out);
	if (e == 0 && body)
		e = buffer_append(&out, body, body_len);
	if (e < 0)
		return e;
	int fds[CLIENT_FDS_MAX];
	for (size_t i = 0; i < r->fd_count; i++)
		fds[i] = r->fds[i].fd;
	ssize_t sent = io_send_fds(sock, out.data, out.len, fds, r->fd_count);
	if (sent < 0)
		return (int)sent;
	return io_write_all(sock, out.data + sent, out.len - (size_t)sent);
}

struct answer {
	struct http1_parser *parser;
	struct buffer in; /* received and not yet parsed */
	struct buffer body;
	int status;
	int fd; /* that came along, or -1 */
	bool head, end;
};

static void answer_free(struct answer *a)
{
	http1_parser_free(a->parser);
	buffer_free(&a->in);
	buffer_free(&a->body);
	close_fd(&a->fd);
}

static int answer_receive(int sock, struct answer *a)
{
	char piece[65536];
	int fds[IO_FDS_MAX];
	size_t count = 0;
	ssize_t n = io_recv_fds(sock, piece, sizeof(piece), fds, &count);
	for (size_t i = 0; i < count; i++) {
		if (a->fd < 0)
			a->fd = fds[i];
		else
			close(fds[i]);
	}
	if (n < 0)
		return (int)n;
	if (n == 0)
		return -ECONNRESET;
	return buffer_append(&a->in, piece, (size_t)n);
}

/* Parses what is in a->in; stops when the body ended. The parser is asked until it needs more, also
 * with no byte left: its last event may stand on bytes that it has already taken. */
static int answer_parse(struct answer *a, struct error *err)
{
	while (!a->end) {
		size_t used = 0;
		int ev = http1_feed(a->parser, buffer_bytes(&a->in), &used, err);
		if (ev < 0)
			return ev;
		if (ev == HTTP1_HEAD) {
			a->head = true;
			a->status = http1_message(a->parser)->status;
		} else if (ev == HTTP1_BODY) {
			struct bytes piece = http1_body(a->parser);
			int r = buffer_append(&a->body, piece.data, piece.len);
			if (r < 0)
				return r;
		} else if (ev == HTTP1_END) {
			a->end = true;
		}
		buffer_consume(&a->in, used);
		if (ev == HTTP1_NEED_MORE)
			break;
	}
	return 0;
}

/* An error answer's JSON as an error of ours. */
static int error_from_answer(const struct answer *a, struct error *err)
{
	json_t *doc = json_loadb((const char *)a->body.data, a->body.len, 0, NULL);
	const json_t *e = json_object_get(doc, "error");
	const char *what = json_string_value(json_object_get(e, "what")),
		   *why = json_string_value(json_object_get(e, "why")),
		   *remedy = json_string_value(json_object_get(e, "remedy"));
	const char *where = json_string_value(json_object_get(e, "where"));
	int exit_status = (int)json_integer_value(json_object_get(e, "exit"));
	if (where && *where)
		error_where(err, "%s", where);
	if (what && why && remedy && *remedy)
		error_set_exit(err, -EREMOTEIO, exit_status, "%s: %s; %s", what, why, remedy);
	else if (what && why)
		error_set_exit(err, -EREMOTEIO, exit_status, "%s: %s", what, why);
	else if (what)
		error_set_exit(err, -EREMOTEIO, exit_status, "%s", what);
	else
		error_set_exit(err, -EREMOTEIO, exit_status,
			       "the supervisor answered %d without a reason; see its log",
			       a->status);
	json_decref(doc);
	return -EREMOTEIO;
}

/* A supervisor may die under a client that has just reached it: where one would have been started
 * at first, one is started again. */
static int reach(struct client *c, int *sock)
{
	struct error err = {0};
	*sock = connect_control(c);
	if (*sock >= 0 || c->start == CLIENT_START_NO || start_daemon(c, &err) < 0)
		return *sock;
	if (sock != &c->sock) {
		*sock = connect_control(c);
		return *sock;
	}
	return 0;
}

static int exchange(struct client *c, const struct client_request *r, const char *request_id,
		    struct answer *a, struct error *err)
{
	if (c->sock < 0) {
		int e = reach(c, &c->sock);
		if (e < 0)
			return e;
	}
	int e = send_request(c->sock, r, request_id);
	while (e == 0 && !a->end) {
		e = answer_receive(c->sock, a);
		if (e == 0)
			e = answer_parse(a, err);
	}
	if (e < 0)
		close_fd(&c->sock);
	return e;
}

static int new_request_id(char *ret, size_t size)
{
	uint8_t raw[REQUEST_ID_BYTES];
	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw) ||
	    size < 2 * REQUEST_ID_BYTES + 1)
		return -EIO;
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(ret + 2 * i, 3, "%02x", raw[i]);
	return 0;
}

/* The caller frees *a, also on failure. */
static int call(struct client *c, const struct client_request *r, struct answer *ret,
		struct error *err)
{
	char id[2 * REQUEST_ID_BYTES + 1];
	int e = new_request_id(id, sizeof(id));
	if (e < 0)
		return error_set(err, e, "cannot get random bytes: %s; this kernel is too old",
				 strerror(-e));
	for (int attempt = 0; attempt < REQUEST_TRIES; attempt++) {
		answer_free(ret);
		*ret = (struct answer){.fd = -1,
				       .parser =
					       http1_parser_new(HTTP1_RESPONSE, CLIENT_ANSWER_MAX),
				       .body.max = CLIENT_ANSWER_MAX};
		if (!ret->parser)
			return error_nomem(err);
		e = exchange(c, r, strcmp(r->method, "GET") == 0 ? NULL : id, ret, err);
		if (e == 0 || (e != -ECONNRESET && e != -EPIPE && e != -ECONNREFUSED))
			break;
	}
	if (e < 0)
		return error_set_exit(err, e, EXIT_STATUS_SANDBOX,
				      "lost the supervisor of %s: %s; run the command again, "
				      "nothing is done twice",
				      c->paths.state, strerror(-e));
	return ret->status >= 400 ? error_from_answer(ret, err) : 0;
}

int client_text(struct client *c, const char *target, struct buffer *ret, struct error *err)
{
	__attribute__((cleanup(answer_free))) struct answer a = {.fd = -1};
	struct client_request r = {.method = "GET", .target = target};
	int e = call(c, &r, &a, err);
	if (e < 0)
		return e;
	*ret = a.body;
	a.body = (struct buffer){0};
	return 0;
}

int client_call(struct client *c, const struct client_request *r, int *ret_status,
		json_t **ret_body, int *ret_fd, struct error *err)
{
	__attribute__((cleanup(answer_free))) struct answer a = {.fd = -1};
	int e = call(c, r, &a, err);
	if (e < 0)
		return e;
	json_t *doc = NULL;
	if (a.body.len > 0) {
		doc = json_loadb((const char *)a.body.data, a.body.len, JSON_REJECT_DUPLICATES,
				 NULL);
		if (!doc)
			return error_set(err, -EBADMSG,
					 "the supervisor's answer is not JSON; the versions of "
					 "holdfast and holdfastd differ: restart the daemon");
	}
	if (ret_status)
		*ret_status = a.status;
	if (ret_fd)
		*ret_fd = take_fd(&a.fd);
	if (ret_body)
		*ret_body = doc;
	else
		json_decref(doc);
	return 0;
}

struct client_stream {
	int sock;
	struct answer answer;
};

int client_stream_open(struct client *c, const char *target, struct client_stream **ret,
		       struct error *err)
{
	AUTO(client_stream_close) struct client_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return error_nomem(err);
	s->answer.fd = -1;
	(void)!reach(c, &s->sock);
	s->answer.parser = http1_parser_new(HTTP1_RESPONSE, UINT64_MAX);
	if (!s->answer.parser)
		return error_nomem(err);
	struct client_request r = {.method = "GET", .target = target};
	int e = failpoint_hit("client.stream");
	if (e == 0)
		e = s->sock < 0 ? s->sock : send_request(s->sock, &r, NULL);
	while (e == 0 && !s->answer.head) {
		e = answer_receive(s->sock, &s->answer);
		if (e == 0)
			e = answer_parse(&s->answer, err);
	}
	if (e == 0 && s->answer.status >= 400) {
		while (e == 0 && !s->answer.end) {
			e = answer_receive(s->sock, &s->answer);
			if (e == 0)
				e = answer_parse(&s->answer, err);
		}
		return error_from_answer(&s->answer, err);
	}
	if (e < 0)
		return error_set_exit(err, e, EXIT_STATUS_SANDBOX,
				      "lost the supervisor of %s: %s; run the command again, "
				      "nothing is done twice",
				      c->paths.state, strerror(-e));
	*ret = take_ptr(s);
	return 0;
}

bool client_lost(int r)
{
	return r == -ECONNRESET || r == -ECONNREFUSED || r == -EPIPE;
}

int client_stream_fd(const struct client_stream *s)
{
	return s->sock;
}

bool client_stream_pending(const struct client_stream *s)
{
	return s->answer.body.len > 0 || s->answer.end;
}

int client_stream_read(struct client_stream *s, struct buffer *out, struct error *err)
{
	struct answer *a = &s->answer;
	int r = 0;
	if (a->body.len == 0 && !a->end) {
		r = answer_receive(s->sock, a);
		if (r == 0)
			r = answer_parse(a, err);
		if (r < 0)
			return r;
	}
	r = buffer_append(out, a->body.data, a->body.len);
	buffer_consume(&a->body, a->body.len);
	if (r < 0)
		return r;
	return a->end ? 0 : 1;
}

void client_stream_close(struct client_stream *s)
{
	if (!s)
		return;
	close_fd(&s->sock);
	answer_free(&s->answer);
	free(s);
}
