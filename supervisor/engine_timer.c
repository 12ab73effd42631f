/* Timers: armed in the rows, so that each fires once, also over restarts. */
#include <stdlib.h>
#include "supervisor/engine_private.h"

void engine_timer_arm(struct engine *e, struct engine_run *r, uint32_t step,
		      enum journal_timer_kind kind, int64_t due_ns,
		      const struct journal_id *approval)
{
	struct journal_record rec = engine_record(r, step, JOURNAL_TIMER_ARMED);
	struct journal_id id;

	e->ops.new_id(e->ops.ctx, &id);
	JOURNAL_SET(&rec.p, timer, id);
	JOURNAL_SET(&rec.p, timer_kind, kind);
	JOURNAL_SET(&rec.p, due_ns, due_ns);
	if (approval)
		JOURNAL_SET(&rec.p, approval, *approval);
	engine_emit(e, &rec);
}

struct search {
	const struct engine_run *run;
	uint32_t step;
	enum journal_timer_kind kind;
	const struct journal_id *approval;
	bool any;
	struct journal_timer found;
};

static int match(const struct journal_timer *t, void *arg)
{
	struct search *s = arg;

	if (!journal_id_equal(&t->run, &s->run->id))
		return 0;
	if (!s->any) {
		if (s->approval ? !journal_id_equal(&t->approval, s->approval)
				: t->step != s->step || (s->kind && t->kind != s->kind))
			return 0;
	}
	s->found = *t;
	return 1;
}

/* One at a time: a fold changes the list that is walked. */
static void cancel(struct engine *e, struct search *s)
{
	while (journal_state_each_timer(e->rows, match, s)) {
		struct journal_record rec =
			engine_record(s->run, s->found.step, JOURNAL_TIMER_CANCELLED);

		JOURNAL_SET(&rec.p, timer, s->found.id);
		engine_emit(e, &rec);
	}
}

void engine_timer_cancel(struct engine *e, struct engine_run *r, uint32_t step,
			 enum journal_timer_kind kind, const struct journal_id *approval)
{
	struct search s = {.run = r, .step = step, .kind = kind, .approval = approval};

	cancel(e, &s);
}

void engine_timer_cancel_all(struct engine *e, struct engine_run *r)
{
	struct search s = {.run = r, .any = true};

	cancel(e, &s);
}
