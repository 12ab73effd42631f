/*
 * Effects and death: the supervisor, the courier and the keeper are killed at every named point of
 * an effect's life and at any instant, in seeded rounds. At the end: what may not be done twice
 * came at most once, what has a key was applied exactly once under one key, what was confirmed was
 * never sent again, nothing that asks came without its approval, and nothing is left in doubt
 * unasked.
 *
 * This program is the courier, the other side, the client in the sandbox; the supervisor is
 * effects_supervisor.c. HOLDFAST_EFFECTS_ROUNDS and _SEED: how many, from which.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/guard.h"
#include "base/io.h"
#include "sandbox/sandbox.h"
#include "tests/crash/effects_test.h"
#include "tests/unit/journal/folder.h"

enum { REQUESTS_MAX = 64, KEY_MAX = 64, ROUND_MS = 60000, IDLE_MS = 3000 };

enum request_state { FREE, PROPOSED, SAID }; /* SAID: its RESULT, and no RELEASE yet */

struct request {
	enum request_state state;
	uint64_t number;
	unsigned action;
	uint8_t effect[16];
	enum report_outcome outcome;
};

struct world {
	uint64_t round, seed; /* seed moves on with each draw */
	struct folder folder;
	struct effects_truth *truth;
	int truth_fd, channel, order;
	pid_t supervisor;
	bool has_attempt, over; /* has_attempt: the keeper has one: `attempt` */
	uint8_t attempt[16], instance[16];
	uint64_t numbers;
	struct request requests[REQUESTS_MAX];
	bool answered[EFFECTS_TEST_ACTIONS]; /* in this attempt */
	bool confirmed[EFFECTS_TEST_ACTIONS]; /* ever: a client was told that it is done */
	char keys[EFFECTS_TEST_ACTIONS][KEY_MAX];
	unsigned deaths, couriers, keepers;
};

static const char *const points[] = {"effect.before-proposed", "effect.after-proposed",
				     "effect.before-send",     "effect.after-send",
				     "effect.before-result",   "effect.after-result",
				     "effect.before-release"};

/* HOLDFAST_EFFECTS_TRACE: a file that tells the round that runs, or that failed. */
static void trace(const char *fmt, ...)
{
	static FILE *to;
	va_list args;

	if (!to && getenv("HOLDFAST_EFFECTS_TRACE"))
		to = fopen(getenv("HOLDFAST_EFFECTS_TRACE"), "we");
	if (!to)
		return;
	va_start(args, fmt);
	if (fmt)
		vfprintf(to, fmt, args);
	else if (ftruncate(fileno(to), 0) == 0)
		rewind(to);
	va_end(args);
	fflush(to);
}

static uint64_t draw(struct world *w, uint64_t below)
{
	uint64_t z = w->seed += 0x9e3779b97f4a7c15; /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return (z ^ (z >> 31)) % below;
}

static bool chance(struct world *w, unsigned percent)
{
	return draw(w, 100) < percent;
}

static const char *kind_of(unsigned action)
{
	static const char *const kinds[] = {"never", "once", "keyed", "safe"};

	return kinds[action % 4];
}

/* ---- the supervisor's process ---- */

static void spawn(struct world *w)
{
	char how[40] = "-"; /* what the keeper has */
	int pair[2], order[2];
	char failpoint[96] = "";

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe2(order, O_CLOEXEC), 0);
	if (chance(w, 70))
		snprintf(failpoint, sizeof(failpoint), "%s=kill@%u",
			 points[draw(w, ARRAY_SIZE(points))], 1 + (unsigned)draw(w, 4));
	for (size_t i = 0; w->has_attempt && i < sizeof(w->attempt); i++)
		snprintf(how + 2 * i, 3, "%02x", w->attempt[i]);
	trace("--- keeper has %.4s %s\n", how, failpoint);
	w->supervisor = fork();
	assert_true(w->supervisor >= 0);
	if (w->supervisor == 0) {
		const char *program = getenv("HOLDFAST_EFFECTS_SUPERVISOR");

		if (*failpoint)
			setenv("HOLDFAST_FAILPOINT", failpoint, 1);
		else
			unsetenv("HOLDFAST_FAILPOINT");
		if (dup2(pair[1], EFFECTS_TEST_CHANNEL_FD) < 0 ||
		    dup2(order[0], EFFECTS_TEST_ORDER_FD) < 0 ||
		    dup2(w->truth_fd, EFFECTS_TEST_TRUTH_FD) < 0)
			_exit(1);
		execl(program, program, how, w->folder.path, (char *)NULL);
		_exit(1);
	}
	close(pair[1]);
	close(order[0]);
	w->channel = pair[0];
	w->order = order[1];
}

static void say(struct world *w, const struct report_message *m, int fd)
{
	AUTO_BUFFER b = {0};

	assert_int_equal(report_encode(m, &b), 0);
	/* It may be dying: then all is said again to the next one. */
	(void)!io_send_fds(w->channel, b.data, b.len, &fd, fd >= 0);
}

/* ---- the client's requests ---- */

static struct request *new_request(struct world *w)
{
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		if (w->requests[i].state == FREE) {
			w->requests[i] = (struct request){.number = ++w->numbers};
			return &w->requests[i];
		}
	fail_msg("too many requests");
	return NULL;
}

static struct request *by_number(struct world *w, uint64_t number)
{
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		if (w->requests[i].state != FREE && w->requests[i].number == number)
			return &w->requests[i];
	return NULL;
}

static void say_propose(struct world *w, const struct request *r)
{
	char path[64], text[64];
	struct action a = {.kind = ACTION_HTTP,
			   .method = bytes_str("POST"),
			   .scheme = bytes_str("https"),
			   .host = bytes_str("api.shop.example"),
			   .port = 443,
			   .headers = {{bytes_str("content-type"), bytes_str("application/json")}},
			   .header_count = 1,
			   .has_body = true};
	struct report_message m = {.type = REPORT_PROPOSE, .propose = {.request = r->number}};
	AUTO_BUFFER b = {0};
	AUTO_FD fd = -1;

	snprintf(path, sizeof(path), "/%s/%u", kind_of(r->action), r->action);
	trace("propose %lu action %u\n", (unsigned long)r->number, r->action);
	snprintf(text, sizeof(text), "{\"n\":%u}", r->action);
	a.path = bytes_str(path);
	a.body_len = strlen(text);
	digest_of(bytes_str(text), &a.body);
	assert_int_equal(action_encode(&a, &b), 0);
	memcpy(m.propose.attempt, w->attempt, sizeof(w->attempt));
	m.propose.action = buffer_bytes(&b);
	fd = io_memfd_sealed("body", bytes_str(text), false);
	assert_true(fd >= 0);
	say(w, &m, fd);
}

static void say_result(struct world *w, const struct request *r)
{
	struct report_message m = {.type = REPORT_RESULT,
				   .result = {.request = r->number,
					      .outcome = r->outcome,
					      .status = r->outcome == REPORT_CONFIRMED ? 201 : 0}};
	AUTO_FD fd = -1;

	trace("result %lu action %u outcome %d effect %02x%02x\n", (unsigned long)r->number,
	      r->action, r->outcome, r->effect[0], r->effect[1]);
	memcpy(m.result.effect, r->effect, sizeof(r->effect));
	if (r->outcome == REPORT_CONFIRMED) {
		m.result.headers[0] =
			(struct action_header){bytes_str("content-type"), bytes_str("text/plain")};
		m.result.header_count = 1;
		m.result.received = 2;
		fd = io_memfd_sealed("body", bytes_str("ok"), false);
	} else {
		m.result.why = bytes_str("the connection broke");
	}
	say(w, &m, fd);
}

static bool asked_for(const struct world *w, unsigned action)
{
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		if (w->requests[i].state != FREE && w->requests[i].action == action)
			return true;
	return false;
}

/* The client asks for what it has no answer to, up to four at once, in its program's order. */
static void ask(struct world *w)
{
	unsigned busy = 0;
	bool all = true;

	if (!w->has_attempt)
		return;
	for (unsigned i = 0; i < EFFECTS_TEST_ACTIONS; i++) {
		if (w->answered[i])
			continue;
		all = false;
		if (!asked_for(w, i) && busy < 4) {
			struct request *r = new_request(w);

			r->state = PROPOSED;
			r->action = i;
			say_propose(w, r);
		}
		busy++;
	}
	if (all)
		(void)!write(w->order, "e", 1);
}

/* ---- the other side ---- */

static void arrive(struct world *w, unsigned action, struct bytes key)
{
	bool keyed = strcmp(kind_of(action), "keyed") == 0;
	bool irreversible =
		strcmp(kind_of(action), "never") == 0 || strcmp(kind_of(action), "once") == 0;

	if (w->confirmed[action] && !keyed && strcmp(kind_of(action), "safe") != 0)
		fail_msg("%s %u was confirmed and came again", kind_of(action), action);
	if (w->confirmed[action])
		fail_msg("%s %u was confirmed and was sent again", kind_of(action), action);
	w->truth->delivered[action]++;
	if (keyed) {
		assert_true(key.len > 0 && key.len < KEY_MAX);
		if (w->keys[action][0] && (strlen(w->keys[action]) != key.len ||
					   memcmp(w->keys[action], key.data, key.len) != 0))
			fail_msg("keyed %u came under two keys", action);
		memcpy(w->keys[action], key.data, key.len);
		w->truth->applied[action] = 1;
	} else {
		w->truth->applied[action]++;
	}
	if (irreversible && w->truth->applied[action] > 1)
		fail_msg("%s %u happened twice", kind_of(action), action);
}

static void on_send(struct world *w, struct request *r, const struct report_answer *a)
{
	unsigned p = (unsigned)draw(w, 100);

	memcpy(r->effect, a->effect, sizeof(r->effect));
	if (p < 60)
		r->outcome = REPORT_CONFIRMED;
	else if (p < 85)
		r->outcome = REPORT_DOUBT;
	else
		r->outcome = REPORT_REFUSED;
	if (r->outcome == REPORT_CONFIRMED || (r->outcome == REPORT_DOUBT && chance(w, 50)))
		arrive(w, r->action, a->key);
	r->state = SAID;
	say_result(w, r);
}

static void on_answer(struct world *w, const struct report_answer *a)
{
	struct request *r = by_number(w, a->request);
	struct report_message delivered = {.type = REPORT_DELIVERED};

	trace("answer %lu verdict %d status %d effect %02x%02x\n", (unsigned long)a->request,
	      a->verdict, a->status, a->effect[0], a->effect[1]);
	/* Of a client that is gone, or one whose outcome is said. */
	if (!r || (r->state == SAID && r->outcome != REPORT_DOUBT))
		return;
	switch (a->verdict) {
	case REPORT_SEND:
		on_send(w, r, a);
		break;
	case REPORT_DENY:
		/* 409: of an attempt that was lost meanwhile; the next one was not told yet. */
		if (a->status != 502 && a->status != 409)
			fail_msg("round %lu: %s %u was denied: %d %.*s", w->round,
				 kind_of(r->action), r->action, a->status, (int)a->why.len,
				 (const char *)a->why.data);
		r->state = FREE; /* it is asked for again */
		break;
	case REPORT_REPLAY:
		if (!w->truth->applied[r->action])
			fail_msg("%s %u is said to be done and never came", kind_of(r->action),
				 r->action);
		w->answered[r->action] = w->confirmed[r->action] = true;
		memcpy(delivered.effect, a->effect, sizeof(a->effect));
		if (chance(w, 80))
			say(w, &delivered, -1);
		r->state = FREE;
		break;
	case REPORT_WAITING:
		break;
	}
}

static void on_release(struct world *w, const uint8_t effect[16])
{
	struct report_message delivered = {.type = REPORT_DELIVERED};

	trace("release %02x%02x\n", effect[0], effect[1]);
	for (size_t i = 0; i < REQUESTS_MAX; i++) {
		struct request *r = &w->requests[i];

		if (r->state != SAID || memcmp(r->effect, effect, sizeof(r->effect)) != 0)
			continue;
		if (r->outcome == REPORT_CONFIRMED) {
			w->answered[r->action] = w->confirmed[r->action] = true;
			memcpy(delivered.effect, effect, 16);
			if (chance(w, 80))
				say(w, &delivered, -1);
		}
		/* In doubt its client waits for what follows. */
		r->state = r->outcome == REPORT_DOUBT ? PROPOSED : FREE;
	}
}

/* Another attempt: the program begins anew, and remembers nothing. */
static void on_attempt(struct world *w, const uint8_t attempt[16])
{
	trace("attempt %02x%02x\n", attempt[0], attempt[1]);
	if (w->has_attempt && memcmp(w->attempt, attempt, 16) == 0)
		return;
	memcpy(w->attempt, attempt, 16);
	w->has_attempt = true;
	memset(w->answered, 0, sizeof(w->answered));
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		w->requests[i].state = FREE;
}

/* ---- life ---- */

static void hello(struct world *w)
{
	struct report_message m = {.type = REPORT_HELLO};

	memcpy(m.hello.instance, w->instance, 16);
	memset(m.hello.run, EFFECTS_TEST_RUN, 16);
	say(w, &m, -1);
	for (size_t i = 0; i < REQUESTS_MAX; i++) {
		if (w->requests[i].state == PROPOSED)
			say_propose(w, &w->requests[i]);
		else if (w->requests[i].state == SAID)
			say_result(w, &w->requests[i]);
	}
}

static void new_courier(struct world *w)
{
	trace("new courier\n");
	w->couriers++;
	for (size_t i = 0; i < sizeof(w->instance); i++)
		w->instance[i] = (uint8_t)draw(w, 256);
	/* Its connections are gone; what it had sent came, or did not: arrive() has said. */
	for (size_t i = 0; i < REQUESTS_MAX; i++)
		w->requests[i].state = FREE;
}

/* True while it lives. */
static bool turn(struct world *w, int wait_ms)
{
	static char datagram[REPORT_DATAGRAM_MAX];
	struct pollfd p = {.fd = w->channel, .events = POLLIN};
	int fds[IO_FDS_MAX];
	size_t fd_count;
	struct report_message m = {0};
	ssize_t n;

	if (poll(&p, 1, wait_ms) == 0)
		return true;
	n = io_recv_fds(w->channel, datagram, sizeof(datagram), fds, &fd_count);
	for (size_t i = 0; i < fd_count; i++)
		close(fds[i]);
	if (n <= 0)
		return false;
	assert_int_equal(report_decode(bytes_of(datagram, (size_t)n), &m), 0);
	if (m.type == REPORT_ANSWER)
		on_answer(w, &m.answer);
	else if (m.type == REPORT_RELEASE)
		on_release(w, m.effect);
	else if (m.type == REPORT_ATTEMPT)
		on_attempt(w, m.attempt.attempt);
	report_message_clear(&m);
	return true;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void live(struct world *w)
{
	unsigned kill_after = chance(w, 30) ? 1 + (unsigned)draw(w, 40) : UINT32_MAX;
	int64_t until = now_ms() + IDLE_MS;
	int status;

	hello(w);
	for (unsigned n = 0;; n++) {
		ask(w);
		if (n == kill_after)
			kill(w->supervisor, SIGKILL);
		if (!turn(w, 20))
			break;
		if (now_ms() > until) { /* a request was lost, or it hangs: both end here */
			kill(w->supervisor, SIGKILL);
			break;
		}
	}
	close(w->channel);
	close(w->order);
	assert_int_equal(waitpid(w->supervisor, &status, 0), w->supervisor);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EFFECTS_TEST_OVER)
		w->over = true;
	else if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("the supervisor ended with %x", status);
	w->deaths++;
}

static void verify(struct world *w)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		const char *program = getenv("HOLDFAST_EFFECTS_SUPERVISOR");

		execl(program, program, "verify", w->folder.path, (char *)NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EFFECTS_TEST_OVER);
	for (unsigned i = 0; i < EFFECTS_TEST_ACTIONS; i++) {
		uint32_t applied = w->truth->applied[i];

		if (strcmp(kind_of(i), "safe") == 0 ? applied == 0 : applied != 1)
			fail_msg("%s %u was applied %u times", kind_of(i), i, applied);
	}
}

static void one_round(uint64_t seed, struct world *w)
{
	int64_t until = now_ms() + ROUND_MS;

	trace(NULL);
	*w = (struct world){.round = seed, .seed = seed};
	folder_make(&w->folder);
	w->truth_fd = memfd_create("truth", MFD_CLOEXEC);
	assert_true(w->truth_fd >= 0);
	assert_int_equal(ftruncate(w->truth_fd, 4096), 0);
	w->truth = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, w->truth_fd, 0);
	assert_true(w->truth != MAP_FAILED);
	new_courier(w);
	while (!w->over) {
		if (w->deaths && chance(w, 35)) {
			new_courier(w);
			if (chance(w, 40)) {
				w->keepers++;
				w->has_attempt = false;
			}
		}
		if (now_ms() > until)
			fail_msg("seed %lu does not come to an end", (unsigned long)seed);
		spawn(w);
		live(w);
	}
	verify(w);
	munmap(w->truth, 4096);
	close(w->truth_fd);
	folder_remove(&w->folder);
}

static void nothing_is_done_twice_whoever_dies(void **state)
{
	const char *text = getenv("HOLDFAST_EFFECTS_ROUNDS"),
		   *from = getenv("HOLDFAST_EFFECTS_SEED");
	unsigned long rounds = text ? strtoul(text, NULL, 10) : 50,
		      first = from ? strtoul(from, NULL, 10) : 1;
	unsigned deaths = 0, couriers = 0, keepers = 0;
	struct world *w = calloc(1, sizeof(*w));

	(void)state;
	assert_non_null(w);
	assert_non_null(getenv("HOLDFAST_EFFECTS_SUPERVISOR"));
	for (unsigned long i = first; i < first + rounds; i++) {
		if (getenv("EFFECTS_VERBOSE"))
			fprintf(stderr, "seed %lu\n", i);
		one_round(i, w);
		deaths += w->deaths - 1;
		couriers += w->couriers - 1;
		keepers += w->keepers;
	}
	free(w);
	print_message("%lu rounds: supervisor died %u times, couriers %u, keepers %u\n", rounds,
		      deaths, couriers, keepers);
	assert_true(rounds < 20 || (deaths > rounds && couriers > 0 && keepers > 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_done_twice_whoever_dies),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("crash effects", tests, NULL, NULL);
}
