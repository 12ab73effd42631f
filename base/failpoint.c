#include "base/failpoint.h"

#ifdef HOLDFAST_FAILPOINTS
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { POINTS_MAX = 16, NAME_BYTES_MAX = 64, PATH_BYTES_MAX = 256, HOLD_LOOK_MS = 10 };

enum action { ACTION_KILL, ACTION_STOP, ACTION_ERROR, ACTION_OVERREAD, ACTION_DELAY, ACTION_HOLD };

struct point {
	char name[NAME_BYTES_MAX];
	enum action action;
	int error; /* negative errno of ACTION_ERROR */
	unsigned long delay_ms; /* of ACTION_DELAY */
	char path[PATH_BYTES_MAX]; /* of ACTION_HOLD */
	unsigned long at; /* acts at this passing, 1 = the first; ACTION_ERROR from there on unless
			     given */
	bool only_at; /* "@N" was given */
	atomic_ulong passings;
};

static struct point points[POINTS_MAX];
static size_t point_count;

/* A wrong spec ends the program: a crash test that ran without its crash would pass for no reason.
 */
static _Noreturn void die(const char *spec)
{
	static const char what[] = "failpoint: cannot read: ";

	if (write(STDERR_FILENO, what, sizeof(what) - 1) < 0 ||
	    write(STDERR_FILENO, spec, strlen(spec)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
		_exit(125);
	_exit(125);
}

static int error_by_name(const char *name, size_t len)
{
	static const struct {
		const char *name;
		int error;
	} table[] = {
		{"EIO", EIO},	    {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT},
		{"ENOMEM", ENOMEM}, {"EAGAIN", EAGAIN}, {"EPIPE", EPIPE},
		{"EROFS", EROFS},   {"EMFILE", EMFILE}, {"EACCES", EACCES},
		{"EPERM", EPERM},   {"ENOENT", ENOENT}, {"EBUSY", EBUSY},
		{"EINVAL", EINVAL}, {"ENFILE", ENFILE}, {"ETOOMANYREFS", ETOOMANYREFS},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
			return -table[i].error;
	return 0;
}

static void parse_one(const char *s, size_t len, const char *spec)
{
	const char *eq = memchr(s, '=', len);
	const char *at;
	struct point *p = &points[point_count];
	size_t action_len;

	if (!eq || eq == s || (size_t)(eq - s) >= sizeof(p->name) || point_count == POINTS_MAX)
		die(spec);
	memcpy(p->name, s, (size_t)(eq - s));
	p->name[eq - s] = '\0';
	s = eq + 1;
	len -= (size_t)(s - (eq - strlen(p->name)));
	at = memchr(s, '@', len);
	action_len = at ? (size_t)(at - s) : len;
	p->at = 1;
	p->only_at = at != NULL;
	if (at) {
		char *end;

		p->at = strtoul(at + 1, &end, 10);
		if (at[1] < '0' || at[1] > '9' || end != s + len || p->at == 0)
			die(spec);
	}
	if (action_len == 4 && memcmp(s, "kill", 4) == 0)
		p->action = ACTION_KILL;
	else if (action_len == 4 && memcmp(s, "stop", 4) == 0)
		p->action = ACTION_STOP;
	else if (action_len == 8 && memcmp(s, "overread", 8) == 0)
		p->action = ACTION_OVERREAD;
	else if (action_len > 6 && memcmp(s, "error:", 6) == 0)
		p->action = ACTION_ERROR;
	else if (action_len > 6 && memcmp(s, "delay:", 6) == 0)
		p->action = ACTION_DELAY;
	else if (action_len > 5 && action_len < 5 + sizeof(p->path) && memcmp(s, "hold:", 5) == 0)
		p->action = ACTION_HOLD;
	else
		die(spec);
	p->error = p->action == ACTION_ERROR ? error_by_name(s + 6, action_len - 6) : 0;
	if (p->action == ACTION_ERROR && p->error == 0)
		die(spec);
	if (p->action == ACTION_DELAY) {
		char *end;

		p->delay_ms = strtoul(s + 6, &end, 10);
		if (s[6] < '0' || s[6] > '9' || end != s + action_len)
			die(spec);
	}
	if (p->action == ACTION_HOLD) {
		memcpy(p->path, s + 5, action_len - 5);
		p->path[action_len - 5] = '\0';
	}
	atomic_store(&p->passings, 0);
	point_count++;
}

void failpoint_init(const char *spec)
{
	point_count = 0;
	if (!spec || !*spec)
		return;
	for (const char *s = spec;;) {
		size_t len = strcspn(s, ",");

		parse_one(s, len, spec);
		if (s[len] == '\0')
			return;
		s += len + 1;
	}
}

static void overread(void)
{
	volatile char *block = malloc(1);
	volatile size_t past = 1;

	if (block)
		(void)block[past];
	free((void *)block);
}

static void sleep_ms(unsigned long ms)
{
	nanosleep(&(struct timespec){.tv_sec = (time_t)(ms / 1000),
				     .tv_nsec = (long)(ms % 1000) * 1000000},
		  NULL);
}

int failpoint_hit(const char *name)
{
	for (size_t i = 0; i < point_count; i++) {
		struct point *p = &points[i];
		unsigned long n;

		if (strcmp(p->name, name) != 0)
			continue;
		n = atomic_fetch_add(&p->passings, 1) + 1;
		if (n < p->at || (n > p->at && (p->only_at || p->action != ACTION_ERROR)))
			return 0;
		switch (p->action) {
		case ACTION_KILL:
			raise(SIGKILL); /* not kill(2): a filter may leave only signals to oneself */
			break;
		case ACTION_STOP:
			raise(SIGSTOP);
			break;
		case ACTION_ERROR:
			return p->error;
		case ACTION_OVERREAD:
			overread();
			break;
		case ACTION_DELAY:
			sleep_ms(p->delay_ms);
			break;
		case ACTION_HOLD:
			while (access(p->path, F_OK) < 0)
				sleep_ms(HOLD_LOOK_MS);
			break;
		}
		return 0;
	}
	return 0;
}

void failpoint_env(char *ret[FAILPOINT_ENV_MAX + 1])
{
	static const char *const names[FAILPOINT_ENV_MAX] = {
		"HOLDFAST_FAILPOINT=", "ASAN_OPTIONS=",	 "LSAN_OPTIONS=",
		"TSAN_OPTIONS=",       "UBSAN_OPTIONS=",
	};
	size_t n = 0;

	for (size_t i = 0; i < FAILPOINT_ENV_MAX; i++)
		for (char **e = environ; e && *e; e++)
			if (strncmp(*e, names[i], strlen(names[i])) == 0) {
				ret[n++] = *e;
				break;
			}
	ret[n] = NULL;
}
#else
_Static_assert(sizeof(struct error) > 0, "a translation unit is not empty");
#endif
