#include "supervisor/garbage.h"

#include <string.h>

#include "supervisor/attempts.h"
#include "supervisor/sealing.h"
#include "supervisor/squash.h"

enum {
	GARBAGE_AFTER_MS = 2000,
	GARBAGE_AGAIN_MS = 30000, /* while an adopted attempt may stand on a squashed layer */
	GARBAGE_RUNS_AT_ONCE = 32, /* whose ids are in memory */
};

struct garbage {
	struct event *timer;
};

struct list {
	char (*names)[JOURNAL_LAYER_NAME_SIZE];
	size_t count;
};

static int note_layer(void *arg, const char *name, bool sealed)
{
	struct list *g = arg;
	void *more = realloc(g->names, (g->count + 1) * sizeof(*g->names));

	(void)sealed;
	if (!more)
		return -ENOMEM;
	g->names = more;
	memcpy(g->names[g->count], name, strlen(name) + 1);
	g->count++;
	return 0;
}

static void strike(struct list *g, const char *name)
{
	for (size_t i = 0; i < g->count; i++)
		if (strcmp(g->names[i], name) == 0)
			memcpy(g->names[i], g->names[--g->count], sizeof(g->names[0]));
}

static int strike_run(const struct journal_run *run, void *arg)
{
	for (uint32_t i = 0; i < run->step_count; i++) {
		const struct journal_step *s = run->steps[i];

		strike(arg, s->layer);
		for (uint32_t k = 0; k < s->attempt_count; k++)
			strike(arg, s->attempts[k].layer);
	}
	return 0;
}

/* Those in memory were struck before; what is read for this goes again, since others may be many. */
static int strike_unloaded(struct daemon *d, const struct journal_id *id, struct list *g)
{
	int r;

	if (journal_state_run(d->rows, id))
		return 0;
	r = journal_load_run(d->journal, id, NULL);
	if (r < 0)
		return r; /* then every name may be its own */
	(void)!strike_run(journal_state_run(d->rows, id), g);
	journal_unload_run(d->journal, id);
	return 0;
}

/* Rows of ended runs are read only while some name is unexplained. */
static int strike_ended(struct daemon *d, struct list *g)
{
	struct journal_id ids[GARBAGE_RUNS_AT_ONCE], last;
	int n, r = 0;

	for (const struct journal_id *after = NULL; r == 0 && g->count > 0; after = &last) {
		n = journal_list_runs_after(d->journal, after, GARBAGE_RUNS_AT_ONCE, ids);
		for (int i = 0; i < n && r == 0; i++)
			r = strike_unloaded(d, &ids[i], g);
		if (n <= 0)
			return r < 0 ? r : n;
		last = ids[n - 1];
	}
	return r;
}

/* Those of an earlier supervisor go when nothing lives that may stand on them. True while they
 * stay. */
static bool strike_squashed(const struct daemon *d, struct list *g)
{
	bool stay = false;

	for (size_t i = 0; i < g->count;) {
		bool known = squash_knows(d, g->names[i]);

		if (known || (squash_is(g->names[i]) && attempts_adopted(d))) {
			stay |= !known;
			memcpy(g->names[i], g->names[--g->count], sizeof(g->names[0]));
		} else {
			i++;
		}
	}
	return stay;
}

static void remove_all(struct daemon *d, const struct list *g, bool squashed)
{
	for (size_t i = 0; i < g->count; i++)
		if (squash_is(g->names[i]) == squashed)
			sealing_remove(d, g->names[i]);
}

static void strike_all_squashed(struct list *g)
{
	for (size_t i = 0; i < g->count;)
		if (squash_is(g->names[i]))
			memcpy(g->names[i], g->names[--g->count], sizeof(g->names[0]));
		else
			i++;
}

static void on_garbage(evutil_socket_t fd, short what, void *arg)
{
	struct timeval again = {.tv_sec = GARBAGE_AGAIN_MS / 1000};
	struct daemon *d = arg;
	struct list g = {0};

	(void)fd;
	(void)what;
	if (layers_each(d->layers_fd, note_layer, &g, NULL) == 0) {
		if (strike_squashed(d, &g))
			event_add(d->garbage->timer, &again);
		remove_all(d, &g, true);
		strike_all_squashed(&g);
		(void)!journal_state_each_run(d->rows, strike_run, &g);
		if (g.count > 0 && strike_ended(d, &g) < 0)
			g.count = 0;
		remove_all(d, &g, false);
	}
	free(g.names);
	daemon_settle(d);
}

static void after(struct daemon *d, int ms)
{
	struct timeval tv = {.tv_sec = ms / 1000};

	event_add(d->garbage->timer, &tv);
}

void garbage_soon(struct daemon *d)
{
	after(d, GARBAGE_AFTER_MS);
}

void garbage_collect(struct daemon *d)
{
	after(d, 0);
}

int garbage_new(struct daemon *d, struct garbage **ret)
{
	struct garbage *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->timer = event_new(d->loop, -1, 0, on_garbage, d);
	if (!g->timer) {
		free(g);
		return -ENOMEM;
	}
	*ret = g;
	return 0;
}

void garbage_free(struct garbage *g)
{
	if (!g)
		return;
	event_free(g->timer);
	free(g);
}
