#include "supervisor/recorded.h"

#include <stdlib.h>
#include "supervisor/effects_code.h"

enum { BODY_SEEN_MAX = 4 * 1024 * 1024 }; /* bytes that rules look into */

bool recorded_is_name(const struct report_read *r)
{
	return r->denied && r->kind == ACTION_TCP && r->port == 0 && r->host.len > 0;
}

bool recorded_is_cut(const struct report_read *r)
{
	return r->path.len >= EFFECTS_CODE_READ_TEXT_MAX - 3; /* cut at a character */
}

static int one_effect(struct daemon *d, const struct journal_run *run,
		      const struct journal_effect *f, struct action *a,
		      int (*fn)(const struct recorded *, void *), void *arg, struct error *err)
{
	AUTO_BUFFER canonical = {0};
	AUTO_BUFFER body = {0};
	int r = journal_blob_get(d->journal, &f->canonical, ACTION_BYTES_MAX, &canonical, err);

	if (r == 0)
		r = action_decode(buffer_bytes(&canonical), a);
	if (r == 0 && a->has_body && a->body_len <= BODY_SEEN_MAX)
		r = journal_blob_get(d->journal, &a->body, BODY_SEEN_MAX, &body, err);
	if (r < 0)
		return error_set(err, r,
				 "an effect of the run cannot be read; run 'holdfast verify'");
	return fn(&(struct recorded){.step = run->steps[f->step],
				     .effect = f,
				     .action = a,
				     .body = buffer_bytes(&body)},
		  arg);
}

struct reading {
	const struct journal_run *run;
	const struct journal_step *step;
	int (*fn)(const struct recorded *r, void *arg);
	void *arg;
};

static int one_read(const struct report_read *read, void *arg)
{
	struct reading *x = arg;

	return x->fn(&(struct recorded){.step = x->step, .read = read}, x->arg);
}

static int one_event(const struct journal_record *r, struct bytes encoded, void *arg)
{
	struct reading *x = arg;

	(void)encoded;
	if (r->type != JOURNAL_EFFECT_READS || r->step >= x->run->step_count)
		return 0;
	x->step = x->run->steps[r->step];
	return effects_code_reads_each(r->p.reads, one_read, x);
}

int recorded_each(struct daemon *d, const struct journal_run *run,
		  int (*fn)(const struct recorded *r, void *arg), void *arg, struct error *err)
{
	AUTO_FREE struct action *a = malloc(sizeof(*a));
	struct reading x = {.run = run, .fn = fn, .arg = arg};
	int r = a ? 0 : error_nomem(err);

	for (uint32_t i = 0; r == 0 && i < run->effect_count; i++)
		r = one_effect(d, run, run->effects[i], a, fn, arg, err);
	return r ? r : journal_each_event(d->journal, &run->id, 1, one_event, &x);
}
