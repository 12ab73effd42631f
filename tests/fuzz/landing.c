/*
 * A redo plan or a list of conflicts decodes to what encodes to the same bytes, or not at all; a
 * plan turned round twice has the states that it had.
 */
#include "base/guard.h"
#include "supervisor/landing_plan.h"
#include "tests/fuzz/fuzz.h"

static void plan(struct bytes in)
{
	AUTO(landing_plan_free) struct landing_plan *p = NULL;
	AUTO(landing_plan_free) struct landing_plan *back = NULL;
	AUTO(landing_plan_free) struct landing_plan *again = NULL;
	AUTO_BUFFER out = {0};

	if (landing_plan_decode(in, &p, NULL) < 0)
		return;
	MUST(landing_plan_encode(p, &out) == 0 && bytes_equal(buffer_bytes(&out), in));
	MUST(landing_plan_reverse(p, NULL, 0, NULL, 0, &back, NULL) == 0);
	MUST(landing_plan_reverse(back, NULL, 0, NULL, 0, &again, NULL) == 0);
	MUST(again->action_count == p->action_count && again->undo == p->undo);
	for (size_t i = 0; i < p->action_count; i++) {
		MUST(again->actions[i].before.type == p->actions[i].before.type);
		MUST(again->actions[i].after.type == p->actions[i].after.type);
	}
}

static void conflicts(struct bytes in)
{
	AUTO(landing_plan_free) struct landing_plan *p = NULL;
	AUTO_BUFFER out = {0};

	if (landing_conflicts_decode(in, &p, NULL) < 0)
		return;
	MUST(landing_conflicts_encode(p->conflicts, p->conflict_count, p->undo, &out) == 0);
	MUST(bytes_equal(buffer_bytes(&out), in));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	plan(bytes_of(data, size));
	conflicts(bytes_of(data, size));
	return 0;
}
