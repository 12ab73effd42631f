/*
 * The cache over one run's rows: its plan, which step of the plan has which row, what each step
 * runs.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "supervisor/engine_private.h"

void engine_run_free(struct engine_run *r)
{
	if (!r)
		return;
	plan_free(r->plan);
	free(r->row_of);
	free(r->needs_at);
	free(r->needs);
	for (uint32_t i = 0; i < r->spec_count; i++)
		plan_step_free(r->owned_specs[i]);
	free(r->specs);
	free(r->owned_specs);
	free(r->cards);
	free(r->clients);
	free(r);
}

const struct journal_run *engine_run_row(const struct engine *e, const struct engine_run *r)
{
	const struct journal_run *row = journal_state_run(e->rows, &r->id);

	assert(row); /* engine_holds kept it */
	return row;
}

const struct journal_step *engine_run_step(const struct engine *e, const struct engine_run *r,
					   uint32_t step)
{
	return engine_run_row(e, r)->steps[step];
}

static size_t place_of(const struct engine *e, const struct journal_id *id)
{
	size_t lo = 0, hi = e->run_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (memcmp(&e->runs[mid]->id, id, sizeof(*id)) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct engine_run *engine_run_cached(const struct engine *e, const struct journal_id *id)
{
	size_t at = place_of(e, id);

	return at < e->run_count && journal_id_equal(&e->runs[at]->id, id) ? e->runs[at] : NULL;
}

bool engine_holds(const struct engine *e, const struct journal_id *run)
{
	return engine_run_cached(e, run) != NULL;
}

void engine_run_forget(struct engine *e, struct engine_run *r)
{
	size_t at = place_of(e, &r->id);

	memmove(&e->runs[at], &e->runs[at + 1], (e->run_count - at - 1) * sizeof(*e->runs));
	e->run_count--;
	engine_run_free(r);
}

/* The plan's names as positions, once: the scheduler looks at them after every event. */
static int index_plan(struct engine_run *r)
{
	const struct plan *p = r->plan;
	size_t total = 0, at = 0;

	for (size_t i = 0; i < p->step_count; i++)
		for (char **n = p->steps[i].needs; n && *n; n++)
			total++;
	r->row_of = malloc((p->step_count + 1) * sizeof(*r->row_of));
	r->needs_at = calloc(p->step_count + 1, sizeof(*r->needs_at));
	r->needs = calloc(total + 1, sizeof(*r->needs));
	if (!r->row_of || !r->needs_at || !r->needs)
		return -ENOMEM;
	for (size_t i = 0; i < p->step_count; i++) {
		r->row_of[i] = ENGINE_POSITION_NONE;
		r->needs_at[i] = at;
		for (char **n = p->steps[i].needs; n && *n; n++)
			r->needs[at++] = (uint32_t)plan_find(p, bytes_str(*n));
	}
	r->needs_at[p->step_count] = at;
	return 0;
}

static int grow_specs(struct engine_run *r, uint32_t count)
{
	const struct plan_step **specs = reallocarray(r->specs, count, sizeof(*specs));
	struct plan_step **owned;

	if (!specs)
		return -ENOMEM;
	r->specs = specs;
	owned = reallocarray(r->owned_specs, count, sizeof(*owned));
	if (!owned)
		return -ENOMEM;
	r->owned_specs = owned;
	for (; r->spec_count < count; r->spec_count++) {
		specs[r->spec_count] = NULL;
		owned[r->spec_count] = NULL;
	}
	return 0;
}

/* A step row of a plan is found again by its name. */
static int index_row(struct engine_run *r, const struct journal_step *s)
{
	int at = r->plan->outside_driver || !s->name ? -ENOENT
						     : plan_find(r->plan, bytes_str(s->name));

	if (s->index >= r->spec_count && grow_specs(r, s->index + 1) < 0)
		return -ENOMEM;
	if (at < 0)
		return 0;
	r->row_of[at] = s->index;
	r->specs[s->index] = &r->plan->steps[at];
	return 0;
}

static int load(struct engine *e, struct engine_run *r, const struct journal_run *row)
{
	AUTO_BUFFER b = {0};
	int rc = e->ops.blob_read(e->ops.ctx, &row->plan, &b);

	if (rc == 0)
		rc = plan_decode(buffer_bytes(&b), &r->plan);
	if (rc == 0)
		rc = index_plan(r);
	for (uint32_t i = 0; rc == 0 && i < row->step_count; i++)
		rc = index_row(r, row->steps[i]);
	return rc;
}

struct engine_run *engine_run_get(struct engine *e, const struct journal_id *id)
{
	struct engine_run *r = engine_run_cached(e, id);
	const struct journal_run *row = journal_state_run(e->rows, id);
	struct engine_run **grown;
	size_t at;
	int rc;

	if (r || !row)
		return r;
	grown = reallocarray(e->runs, e->run_count + 1, sizeof(*grown));
	if (grown)
		e->runs = grown;
	r = grown ? calloc(1, sizeof(*r)) : NULL;
	if (!r) {
		e->failed = -ENOMEM;
		return NULL;
	}
	r->id = *id;
	r->named = e->start_all;
	r->stuck = engine_land_needs_word(e, row);
	rc = load(e, r, row);
	if (rc < 0) {
		engine_run_free(r);
		e->failed = rc;
		return NULL;
	}
	at = place_of(e, id);
	memmove(&e->runs[at + 1], &e->runs[at], (e->run_count - at) * sizeof(*e->runs));
	e->runs[at] = r;
	e->run_count++;
	return r;
}

int engine_run_find(struct engine *e, const struct journal_id *run, struct engine_run **ret,
		    struct error *err)
{
	*ret = engine_run_get(e, run);
	if (!*ret)
		return error_set_exit(err, e->failed ? e->failed : -ENOENT, EXIT_STATUS_USAGE,
				      "run: not found");
	return 0;
}

const struct plan_step *engine_run_spec(struct engine *e, struct engine_run *r, uint32_t step)
{
	const struct journal_run *row = engine_run_row(e, r);
	struct plan_step *s = NULL;
	int rc;

	if (step < r->spec_count && r->specs[step])
		return r->specs[step];
	rc = engine_input_spec(e, &row->steps[step]->input, &s);
	if (rc == 0)
		rc = engine_run_add_spec(e, r, step, s);
	if (rc < 0) {
		e->failed = rc;
		return NULL;
	}
	return r->specs[step];
}

int engine_run_add_spec(struct engine *e, struct engine_run *r, uint32_t step,
			struct plan_step *owned)
{
	const struct journal_run *row = engine_run_row(e, r);

	if (!owned)
		return index_row(r, row->steps[step]);
	if (step >= r->spec_count && grow_specs(r, step + 1) < 0) {
		plan_step_free(owned);
		return -ENOMEM;
	}
	engine_run_drop_spec(r, step);
	r->specs[step] = r->owned_specs[step] = owned;
	return 0;
}

void engine_run_drop_spec(struct engine_run *r, uint32_t step)
{
	if (step >= r->spec_count || !r->owned_specs[step])
		return;
	plan_step_free(r->owned_specs[step]);
	r->specs[step] = NULL;
	r->owned_specs[step] = NULL;
}

bool engine_run_ended(const struct engine *e, const struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	if (!r->plan->outside_driver)
		return row->step_count >= r->plan->step_count;
	return r->ending || row->landing != JOURNAL_LANDING_S_UNLANDED ||
	       !engine_id_is_zero(&row->landing_approval);
}
