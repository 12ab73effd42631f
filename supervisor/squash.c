#include "supervisor/squash.h"

#include <fcntl.h>
#include <string.h>

#include "supervisor/sealing.h"
#include "supervisor/attempts.h"

struct squashed {
	struct squashed *next;
	struct journal_id run; /* that asked; forks of it find it by what it covers */
	char name[JOURNAL_LAYER_NAME_SIZE];
	char (*covers)[JOURNAL_LAYER_NAME_SIZE]; /* owned: the sealed layers, bottom first */
	size_t count;
	bool ready, superseded;
};

struct squash {
	struct squashed *first;
};

int squash_new(struct squash **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

static void squashed_free(struct squashed *q)
{
	free(q->covers);
	free(q);
}

void squash_free(struct squash *s)
{
	if (!s)
		return;
	while (s->first) {
		struct squashed *q = s->first;

		s->first = q->next;
		squashed_free(q);
	}
	free(s);
}

bool squash_is(const char *layer)
{
	return layer[0] == SQUASH_MARK;
}

static struct squashed *find(const struct daemon *d, const char *layer)
{
	struct squashed *q = d->squash->first;

	while (q && strcmp(q->name, layer) != 0)
		q = q->next;
	return q;
}

bool squash_knows(const struct daemon *d, const char *layer)
{
	return find(d, layer) != NULL;
}

/* The one that covers most of the stack's lower end. */
static const struct squashed *best(const struct daemon *d,
				   const char (*stack)[JOURNAL_LAYER_NAME_SIZE], size_t count)
{
	const struct squashed *found = NULL;

	for (const struct squashed *q = d->squash->first; q; q = q->next)
		if (q->ready && q->count <= count && (!found || q->count > found->count) &&
		    memcmp(q->covers, stack, q->count * sizeof(*stack)) == 0)
			found = q;
	return found;
}

static bool is_under_way(const struct daemon *d, const struct journal_id *run)
{
	for (const struct squashed *q = d->squash->first; q; q = q->next)
		if (!q->ready && journal_id_equal(&q->run, run))
			return true;
	return false;
}

/* Has one made of what stands at the stack's lower end now, at most as many layers as one request
 * names. */
static int ask(struct daemon *d, const struct journal_id *run, const struct squashed *below,
	       const char (*stack)[JOURNAL_LAYER_NAME_SIZE], size_t count, struct error *err)
{
	struct sealer_request q = {.op = SEALER_SQUASH};
	struct squashed *s = calloc(1, sizeof(*s));
	size_t covered = below ? below->count : 0;
	int r = s ? 0 : -ENOMEM;

	if (s)
		daemon_layer_name(d, SQUASH_MARK, s->name);
	if (below)
		memcpy(q.names[q.name_count++], below->name, sizeof(q.names[0]));
	while (q.name_count < ARRAY_SIZE(q.names) && covered < count)
		memcpy(q.names[q.name_count++], stack[covered++], sizeof(q.names[0]));
	if (r == 0) {
		s->run = *run;
		s->count = covered;
		s->covers = calloc(covered, sizeof(*s->covers));
		r = s->covers ? 0 : -ENOMEM;
	}
	if (r == 0) {
		memcpy(s->covers, stack, covered * sizeof(*stack));
		memcpy(q.into, s->name, sizeof(q.into));
		r = sealing_squash(d, run, &q, err);
	}
	if (r < 0) {
		if (s)
			squashed_free(s);
		return error_set(err, r, "layers cannot be merged: %s", strerror(-r));
	}
	s->next = d->squash->first;
	d->squash->first = s;
	return 0;
}

int squash_stack(struct daemon *d, const struct journal_id *run,
		 const char (*stack)[JOURNAL_LAYER_NAME_SIZE], size_t count, bool failed,
		 struct squash_stack *ret, struct error *err)
{
	const struct squashed *below = best(d, stack, count);
	size_t covered = below ? below->count : 0;
	size_t depth = count - covered + (below ? 1 : 0);
	struct error why = {0};
	bool asked = is_under_way(d, run);

	if (depth > LAYERS_SQUASH_AT && !asked && !failed) {
		asked = ask(d, run, below, stack, count, &why) == 0;
		if (!asked)
			daemon_log(d, "%s", why.msg);
	}
	if (depth > SQUASH_DEPTH_WAIT && asked)
		return SQUASH_WAITS;
	if (depth > SQUASH_DEPTH_MOUNT)
		return error_set_exit(
			err, -EAGAIN, EXIT_STATUS_SANDBOX,
			"the %zu layers below the step cannot be merged, and so many cannot be "
			"mounted; see the supervisor's log, free some space",
			depth);
	*ret = (struct squash_stack){0};
	if (below) {
		ret->layers[ret->count++] = below->name;
		memcpy(ret->used, below->name, sizeof(ret->used));
	}
	for (size_t i = covered; i < count; i++)
		ret->layers[ret->count++] = stack[i];
	return 0;
}

void squash_done(struct daemon *d, const char *into, int result)
{
	struct squashed *q = find(d, into);
	struct journal_id run;

	if (!q)
		return;
	run = q->run;
	if (result < 0) {
		struct squashed **at = &d->squash->first;

		daemon_log(d, "layers were not merged: %s", strerror(-result));
		while (*at != q)
			at = &(*at)->next;
		*at = q->next;
		sealing_remove(d, q->name);
		squashed_free(q);
	} else {
		q->ready = true;
		for (struct squashed *o = d->squash->first; o; o = o->next)
			if (o != q && journal_id_equal(&o->run, &run) && o->count <= q->count)
				o->superseded = true;
	}
	attempts_squashed(d, &run, result < 0);
}

static bool is_over(const struct daemon *d, const struct journal_id *id)
{
	const struct journal_run *run = journal_state_run(d->rows, id);

	return !run || journal_run_final(run->state);
}

void squash_collect(struct daemon *d)
{
	struct squashed **at = &d->squash->first;

	for (const struct squashed *q = *at; q; q = q->next)
		if (!q->ready)
			return; /* it may be made of one of these */
	while (*at) {
		struct squashed *q = *at;

		if ((q->superseded || is_over(d, &q->run)) && !attempts_use(d, q->name)) {
			*at = q->next;
			sealing_remove(d, q->name);
			squashed_free(q);
		} else {
			at = &q->next;
		}
	}
}
