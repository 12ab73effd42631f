/* Following a run until it ends or waits for a person, with progress of long work on a terminal. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "tools/announce.h"
#include "tools/cli.h"

enum { PROGRESS_MS = 500, RECONNECTS_MAX = 100 };

struct follow {
	struct client *c;
	const char *run, *step;
	const char *attempt_step; /* whose attempts are looked for; NULL = none */
	json_int_t attempt, attempt_begun; /* the one that is known; the newest that was seen */
	bool quiet;
	bool stop; /* an event says that it ended, or waits: to be asked */
	bool paused; /* no further step starts: what still runs is waited for */
	int interrupts; /* by Ctrl-C */
	char active[128]; /* name of the step that runs, escaped; "" = none */
	int64_t active_since; /* ns */
	bool line_shown; /* a progress line stands on the terminal */
	struct buffer text; /* events not yet cut into lines */
	struct announce announce;
};

static void clear_line(struct follow *f)
{
	if (f->line_shown)
		fputs("\r\033[K", stderr);
	f->line_shown = false;
}

static void show_line(struct follow *f)
{
	if (!cli.progress || f->quiet || !f->active[0])
		return;
	char since[32];
	cli_duration(since, sizeof(since), cli_now_ns() - f->active_since);
	fprintf(stderr, "\r\033[K  %s  %s %s", f->active,
		announce_waits(&f->announce) ? "waits for you," : "running", since);
	fflush(stderr);
	f->line_shown = true;
}

static void say(struct follow *f, const char *mark, const json_t *event, const char *word)
{
	if (!cli.progress || f->quiet)
		return;
	clear_line(f);
	const char *why = cli_str(cli_get(event, "payload"), "why");
	fprintf(stderr, "  %s %s  %s%s%s\n", mark, cli_escaped(cli_str(event, "step")), word,
		*why ? ": " : "", cli_escaped(why));
}

/* Which waits end the following: those for a person. Timers and leases pass by themselves. */
static bool waits_for_person(json_int_t waits)
{
	enum { TIMER = 2, LEASE = 64 }; /* enum journal_wait */
	return (waits & ~(TIMER | LEASE)) != 0;
}

static void on_event(struct follow *f, const json_t *event)
{
	const char *type = cli_str(event, "type");
	const json_t *payload = cli_get(event, "payload");
	announce_event(&f->announce, event);
	if (strncmp(type, "STEP_", 5) == 0 &&
	    (f->paused || (f->step && strcmp(cli_str(event, "step"), f->step) == 0)))
		f->stop = true;
	if (strcmp(type, "RUN_PAUSED") == 0 || strcmp(type, "RUN_RESUMED") == 0)
		f->paused = strcmp(type, "RUN_PAUSED") == 0;
	if (strcmp(type, "ATTEMPT_STARTED") == 0) {
		if (f->attempt_step && strcmp(cli_str(event, "step"), f->attempt_step) == 0 &&
		    cli_int(event, "attempt") > f->attempt_begun)
			f->attempt_begun = cli_int(event, "attempt");
		snprintf(f->active, sizeof(f->active), "%s", cli_escaped(cli_str(event, "step")));
		int64_t at = cli_parse_time(cli_str(event, "time"));
		f->active_since = at > 0 ? at : cli_now_ns();
	} else if (strcmp(type, "STEP_COMMITTED") == 0) {
		f->active[0] = 0;
		say(f, "+", event, "committed");
	} else if (strcmp(type, "STEP_BACKOFF") == 0 || strcmp(type, "STEP_REJECTED") == 0 ||
		   strcmp(type, "ATTEMPT_LOST") == 0) {
		f->active[0] = 0;
		say(f, "~", event,
		    strcmp(type, "ATTEMPT_LOST") == 0 ? "lost, runs again" : "tried again");
	} else if (strcmp(type, "STEP_FAILED") == 0 || strcmp(type, "STEP_DENIED") == 0 ||
		   strcmp(type, "STEP_EXHAUSTED") == 0) {
		f->active[0] = 0;
		say(f, "x", event, strcmp(type, "STEP_DENIED") == 0 ? "denied" : "failed");
	} else if (strcmp(type, "RUN_WAITING") == 0) {
		f->stop = f->stop || waits_for_person(cli_int(payload, "waits"));
	} else if (strcmp(type, "RUN_SUCCEEDED") == 0 || strcmp(type, "RUN_FAILED") == 0 ||
		   strcmp(type, "RUN_CANCELLED") == 0 || strcmp(type, "RUN_PAUSED") == 0) {
		f->stop = true;
	}
}

static int take_lines(struct follow *f)
{
	uint8_t *end;
	while (f->text.len > 0 && (end = memchr(f->text.data, '\n', f->text.len)) != NULL) {
		size_t len = (size_t)(end - f->text.data);
		json_t *event = json_loadb((const char *)f->text.data, len, 0, NULL);
		if (event)
			on_event(f, event);
		json_decref(event);
		buffer_consume(&f->text, len + 1);
	}
	return 0;
}

static json_t *fetch_run(struct client *c, const char *run)
{
	struct error err = {0};
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s", run);
	struct client_request r = {.method = "GET", .target = (const char *)target.data};
	json_t *status = NULL;
	return client_call(c, &r, NULL, &status, NULL, &err) < 0 ? NULL : status;
}

/* Whether a step is under way that goes on though the run is paused; one that waits for a person
 * does not. */
static bool step_runs(const json_t *status)
{
	static const char *const states[] = {"active", "sealed", "checking"};
	size_t i;
	const json_t *s;
	json_array_foreach(cli_get(status, "steps"), i, s)
	{
		for (size_t k = 0; k < ARRAY_SIZE(states); k++)
			if (strcmp(cli_str(s, "state"), states[k]) == 0)
				return json_array_size(cli_get(status, "needs_person")) == 0;
	}
	return false;
}

static int post_run(struct client *c, const char *run, const char *verb, json_t *body)
{
	struct error err = {0};
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s/%s", run, verb);
	struct client_request r = {.method = "POST",
				   .target = (const char *)target.data,
				   .body = body};
	int e = client_call(c, &r, NULL, NULL, NULL, &err);
	json_decref(body);
	if (e < 0)
		cli_fail(&err);
	return e;
}

bool cli_interrupt(struct client *c, const char *run, int before)
{
	if (before > 0) {
		if (post_run(c, run, "cancel", json_pack("{s:b}", "kill", 1)) == 0)
			fprintf(stderr,
				"holdfast: run %.8s is cancelled: what ran is killed; 'holdfast "
				"status %.8s' tells how it stands\n",
				run, run);
		return true;
	}
	if (post_run(c, run, "pause", json_object()) < 0)
		return true;
	json_t *status = fetch_run(c, run);
	bool runs = step_runs(status);
	json_decref(status);
	fprintf(stderr,
		"holdfast: run %.8s is paused: no further step starts%s; 'holdfast resume %.8s' "
		"goes on%s\n",
		run, runs ? ", what runs goes on to its end" : "", run,
		runs ? "; Ctrl-C again kills it" : "");
	return runs;
}

/* Once: no further step starts, and the one that runs is waited for. Twice: it is killed, and the
 * run cancelled. */
static void on_interrupt(struct follow *f)
{
	clear_line(f);
	f->stop = !cli_interrupt(f->c, f->run, f->interrupts++) || f->interrupts > 1;
}

/* Events are replayed from the first, so that one which would end the following may be an old one:
 * the run is asked how it stands. */
static bool settled(struct follow *f)
{
	static const char *const final[] = {"succeeded", "failed",    "cancelled",
					    "committed", "denied"};
	json_t *status = fetch_run(f->c, f->run);
	if (!status)
		return false;
	const char *state = cli_str(status, "state"), *step_state = "";
	size_t i;
	const json_t *s;
	json_array_foreach(cli_get(status, "steps"), i,
			   s) if (f->step && strcmp(cli_str(s, "name"), f->step) == 0) step_state =
		cli_str(s, "state");
	bool over = (strcmp(state, "waiting") == 0 &&
		     json_array_size(cli_get(status, "needs_person")) > 0) ||
		    (strcmp(state, "paused") == 0 && !step_runs(status));
	for (i = 0; i < ARRAY_SIZE(final); i++)
		over = over || strcmp(final[i], state) == 0 || strcmp(final[i], step_state) == 0;
	json_decref(status);
	return over;
}

static int follow_events(struct follow *f, struct client_stream *events, int signal_fd,
			 struct error *err)
{
	while (!f->stop && f->attempt_begun <= f->attempt) {
		struct pollfd p[2] = {{.fd = client_stream_fd(events), .events = POLLIN},
				      {.fd = signal_fd, .events = POLLIN}};
		bool pending = client_stream_pending(events);
		int n = poll(p, 2, pending ? 0 : cli.progress ? PROGRESS_MS : -1);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (p[1].revents & POLLIN) {
			struct signalfd_siginfo info;
			if (read(signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
				on_interrupt(f);
		}
		if (pending || p[0].revents) {
			int r = client_stream_read(events, &f->text, err);
			if (r < 0)
				return r;
			take_lines(f);
			if (f->stop)
				f->stop = settled(f);
			if (!f->stop && announce_waits(&f->announce)) {
				clear_line(f);
				announce_tell(&f->announce);
			}
			if (r == 0)
				break;
		}
		show_line(f);
	}
	return 0;
}

/* Nothing continues a run after its supervisor died until a command names it: who follows it does.
 * A paused one stays paused. */
int cli_go_on(struct client *c, const char *run, struct error *err)
{
	*err = (struct error){0};
	int r = client_reopen(c, err);
	if (r < 0)
		return r;
	AUTO_BUFFER target = {0};
	buffer_printf(&target, "/v1/runs/%s", run);
	struct client_request q = {.method = "GET", .target = (const char *)target.data};
	json_t *status = NULL;
	r = client_call(c, &q, NULL, &status, NULL, err);
	bool goes = r == 0 && (strcmp(cli_str(status, "state"), "running") == 0 ||
			       strcmp(cli_str(status, "state"), "waiting") == 0);
	json_decref(status);
	if (!goes)
		return r;
	buffer_append_str(&target, "/resume");
	q = (struct client_request){.method = "POST",
				    .target = (const char *)target.data,
				    .body = json_object()};
	r = client_call(c, &q, NULL, NULL, NULL, err);
	json_decref(q.body);
	return r;
}

static int follow(struct follow *follower)
{
	struct error err = {0};
	struct follow f = *follower;
	f.announce = (struct announce){.c = f.c, .run = f.run};
	struct client *c = f.c;
	const char *run = f.run;
	sigset_t set, old;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, &old);
	AUTO_FD signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	int r = 0;
	/* A supervisor that was killed is started again and its stream opened anew: events are
	 * replayed from the first. */
	for (int tries = 0; tries < RECONNECTS_MAX; tries++) {
		AUTO(client_stream_close) struct client_stream *events = NULL;
		AUTO_BUFFER target = {0};
		buffer_printf(&target, "/v1/runs/%s/events?from=1&follow=1", run);
		f.active[0] = 0;
		f.stop = false;
		buffer_free(&f.text);
		r = client_stream_open(c, (const char *)target.data, &events, &err);
		if (r == 0)
			r = follow_events(&f, events, signal_fd, &err);
		if (f.stop || f.attempt_begun > f.attempt || (r < 0 && !client_lost(r)))
			break;
		poll(NULL, 0, 200);
		r = cli_go_on(c, run, &err);
		if (r < 0)
			break;
	}
	clear_line(&f);
	announce_close(&f.announce);
	buffer_free(&f.text);
	sigprocmask(SIG_SETMASK, &old, NULL);
	follower->attempt_begun = f.attempt_begun;
	if (r < 0 && !f.stop && f.attempt_begun <= f.attempt) {
		error_set_exit(&err, r, EXIT_STATUS_SANDBOX,
			       "lost the supervisor while following the run: %s; 'holdfast status "
			       "%.8s' tells how it stands",
			       strerror(-r), run);
		return cli_fail(&err);
	}
	return EXIT_STATUS_OK;
}

int cli_follow_run(struct client *c, const char *run, const char *step, bool quiet)
{
	struct follow f = {.c = c, .run = run, .step = step, .quiet = quiet};
	return follow(&f);
}

int cli_follow_attempt(struct client *c, const char *run, const char *until, const char *step,
		       json_int_t *attempt)
{
	struct follow f = {.c = c,
			   .run = run,
			   .step = until,
			   .attempt_step = step,
			   .attempt = *attempt,
			   .quiet = true};
	int r = follow(&f);
	if (f.attempt_begun > *attempt)
		*attempt = f.attempt_begun;
	return r;
}
