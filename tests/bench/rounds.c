/*
 * Runs what is to be compared in interleaved rounds, so that the noise of the machine meets all of
 * it alike, and prints one line a sample: "NAME NANOSECONDS". The order within a round is drawn
 * anew each time: nobody always follows the same neighbour. The first rounds are run and not
 * reported.
 *
 * A peer is either a command that is spawned each time, from posix_spawn to its exit being reaped;
 * or a server that was started once, does the work and takes the time itself (the protocol is in
 * bench.h).
 *
 *   rounds ROUNDS PAUSE_MS SEED {spawn|ask NAME EVERY FILE ARGV... ;}...
 *   rounds serve FILE ARGV...
 *
 * PAUSE_MS: before each turn. The kernel takes namespaces down after their last process has gone,
 * and does so while the next peer runs: with a pause a launch is measured, without one the rate at
 * which the machine can make them. EVERY: takes part in one of so many rounds. FILE: opened
 * read-only as descriptor 9 of the command, "-" for none. The second form is itself such a server,
 * for commands that must be spawned somewhere else: `unshare ... rounds serve ...`. A peer that
 * fails is named on a line "NAME failed WHY" and takes no further part.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/guard.h"
#include "tests/bench/bench.h"

enum { PEERS_MAX = 32, WARM_UP_ROUNDS = 3, FILE_FD = 9 };

struct peer {
	const char *name;
	unsigned every;
	const char *file; /* NULL: none */
	char **argv;
	bool ask;
	bool failed;
	pid_t pid; /* of a server */
	FILE *to, *from; /* its stdin and stdout */
};

extern char **environ;

static int64_t spawn_once(const char *file, char **argv, int *ret_status)
{
	posix_spawn_file_actions_t actions;
	pid_t pid = -1;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	if (file)
		posix_spawn_file_actions_addopen(&actions, FILE_FD, file, O_RDONLY, 0);
	int64_t start = bench_now_ns();
	int e = posix_spawn(&pid, argv[0], &actions, NULL, argv, environ);
	*ret_status = -1;
	while (e == 0 && waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		;
	int64_t end = bench_now_ns();
	posix_spawn_file_actions_destroy(&actions);
	return e ? -e : end - start;
}

static int serve(const char *file, char **argv)
{
	int c;
	while ((c = getchar()) != EOF) {
		int status;
		if (c != '\n')
			continue;
		int64_t ns = spawn_once(file, argv, &status);
		if (ns < 0)
			printf("cannot be spawned: %s\n", strerror((int)-ns));
		else if (status != 0)
			printf("wait status %#x\n", status);
		else
			printf("%lld\n", (long long)ns);
		fflush(stdout);
	}
	return 0;
}

static void fail(struct peer *p, const char *why)
{
	p->failed = true;
	printf("%s failed %s\n", p->name, why);
}

static void start_server(struct peer *p)
{
	int in[2], out[2];
	posix_spawn_file_actions_t actions;
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) {
		fail(p, strerror(errno));
		return;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	int e = posix_spawn(&p->pid, p->argv[0], &actions, NULL, p->argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	p->to = fdopen(in[1], "w");
	p->from = fdopen(out[0], "r");
	if (e || !p->to || !p->from)
		fail(p, e ? strerror(e) : "out of memory");
}

/* Its stdin ends, and so does it. */
static void end_server(struct peer *p)
{
	if (p->to)
		fclose(p->to);
	while (p->pid > 0 && waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (p->from)
		fclose(p->from);
}

static int64_t ask_once(struct peer *p)
{
	char line[256], *end;
	if (fputc('\n', p->to) == EOF || fflush(p->to) == EOF ||
	    !fgets(line, sizeof(line), p->from)) {
		fail(p, "its server went away");
		return -1;
	}
	line[strcspn(line, "\n")] = 0;
	long long ns = strtoll(line, &end, 10);
	if (end == line || *end || ns < 0) {
		fail(p, line);
		return -1;
	}
	return ns;
}

static void take_turn(struct peer *p, bool reported)
{
	int64_t ns;
	if (p->ask) {
		ns = ask_once(p);
	} else {
		int status;
		char why[64];
		ns = spawn_once(p->file, p->argv, &status);
		if (ns < 0) {
			fail(p, strerror((int)-ns));
		} else if (status != 0) {
			snprintf(why, sizeof(why), "wait status %#x", status);
			fail(p, why);
		}
	}
	if (!p->failed && reported)
		printf("%s %lld\n", p->name, (long long)ns);
}

/* Fisher and Yates over splitmix64 (Steele, Lea, Flood 2014): the order of a seed is always the
 * same. */
static void shuffle(unsigned *order, unsigned n, uint64_t *seed)
{
	for (unsigned i = n; i > 1; i--) {
		uint64_t z = *seed += 0x9e3779b97f4a7c15;
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
		z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
		unsigned j = (unsigned)((z ^ (z >> 31)) % i), held = order[i - 1];
		order[i - 1] = order[j];
		order[j] = held;
	}
}

/* Returns their number; -1: not understood. Writes a NULL over each ";". */
static int parse_peers(char **at, struct peer *peers)
{
	int n = 0;
	while (*at) {
		struct peer *p = &peers[n];
		if (n == PEERS_MAX || !at[1] || !at[2] || !at[3] || !at[4])
			return -1;
		if (strcmp(at[0], "spawn") != 0 && strcmp(at[0], "ask") != 0)
			return -1;
		*p = (struct peer){.ask = at[0][0] == 'a',
				   .name = at[1],
				   .every = (unsigned)strtoul(at[2], NULL, 10),
				   .file = strcmp(at[3], "-") != 0 ? at[3] : NULL,
				   .argv = &at[4]};
		if (p->every == 0)
			return -1;
		while (*at && strcmp(*at, ";") != 0)
			at++;
		if (!*at)
			return -1;
		*at++ = NULL;
		n++;
	}
	return n;
}

int main(int argc, char **argv)
{
	struct peer peers[PEERS_MAX];
	unsigned order[PEERS_MAX];
	signal(SIGPIPE, SIG_IGN);
	if (argc > 3 && strcmp(argv[1], "serve") == 0)
		return serve(strcmp(argv[2], "-") != 0 ? argv[2] : NULL, &argv[3]);
	int n = argc > 4 ? parse_peers(&argv[4], peers) : -1;
	if (n <= 0) {
		fprintf(stderr, "usage: rounds ROUNDS PAUSE_MS SEED {spawn|ask NAME EVERY FILE "
				"ARGV... ;}...\n"
				"       rounds serve FILE ARGV...\n");
		return 2;
	}
	unsigned rounds = (unsigned)strtoul(argv[1], NULL, 10);
	useconds_t pause_us = 1000 * (useconds_t)strtoul(argv[2], NULL, 10);
	uint64_t seed = strtoull(argv[3], NULL, 10);
	for (int i = 0; i < n; i++) {
		order[i] = (unsigned)i;
		if (peers[i].ask)
			start_server(&peers[i]);
	}
	for (unsigned round = 0; round < WARM_UP_ROUNDS + rounds; round++) {
		bool reported = round >= WARM_UP_ROUNDS;
		shuffle(order, (unsigned)n, &seed);
		for (int i = 0; i < n; i++) {
			struct peer *p = &peers[order[i]];
			if (p->failed || (reported && (round - WARM_UP_ROUNDS) % p->every != 0))
				continue;
			usleep(pause_us);
			take_turn(p, reported);
		}
	}
	for (int i = 0; i < n; i++) {
		if (peers[i].ask)
			end_server(&peers[i]);
	}
	return 0;
}
