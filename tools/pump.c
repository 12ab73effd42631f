#include "tools/pump.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>
#include "base/io.h"
#include "tools/announce.h"
#include "tools/cli.h"

enum { RECONNECTS_MAX = 100, RECONNECT_PAUSE_MS = 200, TTY_WAIT_MS = 20, TTY_WAITS_MAX = 500 };

struct pump { /* one of the two streams */
	const char *name;
	int to;
	uint64_t written; /* where it goes on after a lost connection */
	bool ended;
	int refused; /* -errno of writing to `to` */
	struct client_stream *stream;
};

enum { PUMP_REFUSED = 1 }; /* our own output takes no more; the pump's `refused` says why */

static int open_output(struct client *c, const char *run, const char *step, json_int_t attempt,
		       struct pump *p, struct error *err)
{
	AUTO_BUFFER target = {0};
	client_stream_close(p->stream);
	p->stream = NULL;
	if (p->ended)
		return 0;
	buffer_printf(&target, "/v1/runs/%s/steps/", run);
	client_encode(&target, step);
	buffer_printf(&target, "/output?stream=%s&attempt=%lld&from=%" PRIu64 "&follow=1", p->name,
		      (long long)attempt, p->written);
	return client_stream_open(c, (const char *)target.data, &p->stream, err);
}

static int open_outputs(struct client *c, const char *run, const char *step, json_int_t attempt,
			struct pump p[2], struct error *err)
{
	int r = open_output(c, run, step, attempt, &p[0], err);
	return r == 0 ? open_output(c, run, step, attempt, &p[1], err) : r;
}

/* 0; -errno of the supervisor's side alone; PUMP_REFUSED. */
static int pump_one(struct pump *p, struct error *err)
{
	AUTO_BUFFER piece = {0};
	int r = client_stream_read(p->stream, &piece, err);
	if (r < 0)
		return r;
	p->refused = io_write_all(p->to, piece.data, piece.len);
	if (p->refused < 0)
		return PUMP_REFUSED;
	p->written += piece.len;
	if (r == 0) {
		client_stream_close(p->stream);
		p->stream = NULL;
		p->ended = true;
	}
	return 0;
}

/* r: how it went until now. The supervisor died: the step goes on in the keeper's care. */
static int go_on_pumping(struct client *c, const char *run, const char *step, json_int_t attempt,
			 struct pump p[2], int *reconnects, int r, struct error *err)
{
	while (client_lost(r) && (*reconnects)++ < RECONNECTS_MAX) {
		if (*reconnects > 1)
			poll(NULL, 0, RECONNECT_PAUSE_MS);
		r = cli_go_on(c, run, err);
		if (r == 0)
			r = open_outputs(c, run, step, attempt, p, err);
	}
	if (r < 0 && !err->msg[0])
		error_set_exit(err, r, EXIT_STATUS_SANDBOX,
			       "lost the output of the step: %s; 'holdfast status %.8s' tells how "
			       "it stands",
			       strerror(-r), run);
	return r;
}

static void signal_step(struct client *c, const char *run, const char *step, int sig)
{
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s/steps/", run);
	client_encode(&target, step);
	buffer_append_str(&target, "/signal");
	struct client_request r = {.method = "POST",
				   .target = (const char *)target.data,
				   .body = json_pack("{s:i}", "signal", sig)};
	struct error err = {0};
	if (client_call(c, &r, NULL, NULL, NULL, &err) < 0)
		cli_fail(&err);
	json_decref(r.body);
}

void pump_cancel_run(struct client *c, const char *run)
{
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s/cancel", run);
	struct client_request r = {.method = "POST",
				   .target = (const char *)target.data,
				   .body = json_pack("{s:b}", "kill", 1)};
	struct error err = {0};
	if (client_call(c, &r, NULL, NULL, NULL, &err) < 0)
		cli_fail(&err);
	json_decref(r.body);
}

/* Our own output takes no more, and nobody would hear the command: the run is ended, as SIGPIPE or a
 * failing write(2) would end the command without us. */
static int output_refused(struct client *c, const char *run, const char *name, int refused,
			  struct error *err)
{
	pump_cancel_run(c, run);
	if (refused == -EPIPE)
		exit(128 + SIGPIPE);
	return error_set_exit(err, refused, CLI_EXEC_OWN,
			      "standard %s cannot be written: %s; the run %.8s is cancelled: "
			      "mend that and run the command again",
			      name, strerror(-refused), run);
}

void pump_add_hangup(sigset_t *set)
{
	struct sigaction old;

	if (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
		sigaddset(set, SIGHUP);
}

int pump_output(struct client *c, const char *run, const char *step, json_int_t attempt,
		struct error *err)
{
	struct pump p[2] = {{.name = "out", .to = STDOUT_FILENO},
			    {.name = "err", .to = STDERR_FILENO}};
	struct announce asks = {.c = c, .run = run};
	sigset_t set, old;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pump_add_hangup(&set);
	sigaddset(&set, SIGPIPE); /* blocked: write(2) tells */
	sigprocmask(SIG_BLOCK, &set, &old);
	sigdelset(&set, SIGPIPE);
	AUTO_FD signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	int interrupts = 0, terminations = 0, reconnects = 0, watched = -1;
	bool runs = true;
	int r = open_outputs(c, run, step, attempt, p, err);
	r = go_on_pumping(c, run, step, attempt, p, &reconnects, r, err);
	while (r == 0 && runs && !(p[0].ended && p[1].ended)) {
		if (watched != reconnects)
			announce_watch(&asks);
		watched = reconnects;
		struct pollfd at[4] = {{.fd = signals, .events = POLLIN}};
		bool pending[2];
		for (int i = 0; i < 2; i++) {
			at[1 + i] =
				(struct pollfd){.fd = p[i].stream ? client_stream_fd(p[i].stream)
								  : -1,
						.events = POLLIN};
			pending[i] = p[i].stream && client_stream_pending(p[i].stream);
		}
		bool asked = announce_pending(&asks);
		at[3] = (struct pollfd){.fd = announce_fd(&asks), .events = POLLIN};
		if (poll(at, 4, pending[0] || pending[1] || asked ? 0 : -1) < 0 && errno != EINTR)
			r = -errno;
		if (asked || at[3].revents)
			announce_read(&asks);
		for (int i = 0; i < 2; i++)
			if (r == 0 && p[i].stream && (pending[i] || at[1 + i].revents))
				r = pump_one(&p[i], err);
		r = go_on_pumping(c, run, step, attempt, p, &reconnects, r, err);
		struct signalfd_siginfo info;
		if (at[0].revents && read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
			if (info.ssi_signo == SIGINT)
				runs = cli_interrupt(c, run, interrupts++);
			else if (terminations++ > 0)
				exit(128 + (int)info.ssi_signo);
			else
				signal_step(c, run, step, SIGTERM);
			if (info.ssi_signo == SIGHUP)
				fprintf(stderr, "holdfast: hung up: the command is told SIGTERM\n");
		}
	}
	announce_close(&asks);
	for (int i = 0; i < 2; i++) {
		client_stream_close(p[i].stream);
		if (p[i].refused < 0)
			r = output_refused(c, run, i == 0 ? "output" : "error", p[i].refused, err);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	return r;
}

/* ---- terminal ---- */

int pump_terminal_size(unsigned *rows, unsigned *cols)
{
	struct winsize w;
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) < 0)
		return -errno;
	*rows = w.ws_row;
	*cols = w.ws_col;
	return 0;
}

static void resize_step(struct client *c, const char *run, const char *step)
{
	unsigned rows = 0, cols = 0;
	if (pump_terminal_size(&rows, &cols) < 0)
		return;
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s/steps/", run);
	client_encode(&target, step);
	buffer_append_str(&target, "/resize");
	struct client_request r = {.method = "POST",
				   .target = (const char *)target.data,
				   .body = json_pack("{s:i, s:i}", "rows", rows, "cols", cols)};
	/* Without the supervisor the size stays as it was; the session goes on. */
	struct error ignored = {0};
	int e = client_call(c, &r, NULL, NULL, NULL, &ignored);
	(void)e;
	json_decref(r.body);
}

/* 0; -errno: standard output takes no more. */
static int pump_session(struct client *c, const char *run, const char *step, int remote)
{
	struct announce asks = {.c = c, .run = run, .raw = true};
	sigset_t set, old;
	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	pump_add_hangup(&set);
	sigaddset(&set, SIGPIPE); /* blocked: write(2) tells */
	sigprocmask(SIG_BLOCK, &set, &old);
	sigdelset(&set, SIGPIPE);
	AUTO_FD signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	int r = 0;
	bool input = true;
	announce_watch(&asks);
	for (;;) {
		struct pollfd p[4] = {{.fd = remote, .events = POLLIN},
				      {.fd = input ? STDIN_FILENO : -1, .events = POLLIN},
				      {.fd = signals, .events = POLLIN},
				      {.fd = announce_fd(&asks), .events = POLLIN}};
		bool asks_pending = announce_pending(&asks);
		if (poll(p, 4, asks_pending ? 0 : -1) < 0) {
			if (errno == EINTR)
				continue;
			r = -errno;
			break;
		}
		if (asks_pending || p[3].revents)
			announce_read(&asks);
		char piece[16384];
		if (p[0].revents) {
			ssize_t n = read(remote, piece, sizeof(piece));
			if (n <= 0)
				break;
			r = io_write_all(STDOUT_FILENO, piece, (size_t)n);
			if (r < 0)
				break;
		}
		if (p[1].revents) {
			ssize_t n = read(STDIN_FILENO, piece, sizeof(piece));
			if (n <= 0)
				input = false;
			else if (io_write_all(remote, piece, (size_t)n) < 0)
				break;
		}
		struct signalfd_siginfo info;
		if (p[2].revents && read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
			if (info.ssi_signo == SIGHUP) { /* nobody could attach to it again */
				pump_cancel_run(c, run);
				exit(128 + SIGHUP);
			}
			resize_step(c, run, step);
		}
	}
	announce_close(&asks);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return r;
}

static bool step_is_over(struct client *c, const char *run, const char *step)
{
	struct error ignored = {0};
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s/steps/", run);
	client_encode(&target, step);
	struct client_request q = {.method = "GET", .target = (const char *)target.data};
	json_t *doc = NULL;
	if (client_call(c, &q, NULL, &doc, NULL, &ignored) < 0)
		return false;
	const char *state = cli_str(doc, "state");
	bool over = strcmp(state, "committed") == 0 || strcmp(state, "failed") == 0 ||
		    strcmp(state, "denied") == 0 || strcmp(state, "cancelled") == 0;
	json_decref(doc);
	return over;
}

int pump_terminal(struct client *c, const char *run, const char *step, json_int_t attempt,
		  struct error *err)
{
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s/steps/", run);
	client_encode(&target, step);
	buffer_append_str(&target, "/tty");
	AUTO_FD remote = -1;
	struct client_request q = {.method = "GET", .target = (const char *)target.data};
	int r = -EAGAIN;
	/* There is one from when the command was started until it has ended, which may be before we
	 * asked: then its record is shown. */
	for (int i = 0; r < 0 && i < TTY_WAITS_MAX; i++) {
		*err = (struct error){0};
		r = client_call(c, &q, NULL, NULL, &remote, err);
		if (r == 0 || step_is_over(c, run, step))
			break;
		poll(NULL, 0, TTY_WAIT_MS);
	}
	if (r < 0 || remote < 0)
		return step_is_over(c, run, step) ? pump_output(c, run, step, attempt, err)
		       : r < 0			  ? r
						  : error_set(err, -EPROTO,
							      "the supervisor sent no terminal; see 'holdfast show "
										 "%.8s'",
							      run);
	struct termios saved, raw;
	bool have = tcgetattr(STDIN_FILENO, &saved) == 0;
	if (have) {
		raw = saved;
		cfmakeraw(&raw);
		/* Drained, not flushed: what was typed before the command was ready is for it. */
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	r = pump_session(c, run, step, remote);
	if (have)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	return r < 0 ? output_refused(c, run, "output", r, err) : 0;
}
