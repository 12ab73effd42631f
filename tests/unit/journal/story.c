#include "tests/unit/journal/story.h"

#include <assert.h>
#include <stdio.h>
#include "base/guard.h"
#include "journal/audit.h"
#include "journal/record.h"
#include "tests/unit/journal/maker.h"

static int64_t now = 1;

static int64_t wall(void)
{
	return now;
}

struct journal_clock story_clock(void)
{
	return (struct journal_clock){.wall_ns = wall, .mono_ns = wall};
}

void story_set_time(int64_t wall_ns)
{
	now = wall_ns;
}

void story_run_id(uint8_t tag, struct journal_id *ret)
{
	memset(ret, tag, sizeof(*ret));
}

/* Every blob that the record must have is put; what it says differs from run to run and field to
 * field. */
static void put_blobs(struct journal *j, struct journal_record *r, uint8_t tag)
{
	for (unsigned num = 1; num < JOURNAL_FIELD_LIMIT; num++) {
		if (!((r->p.has[num / 64] >> (num % 64)) & 1) || !journal_audit_must_blob(num))
			continue;
		char text[64];
		struct error err = {0};
		int len = snprintf(text, sizeof(text), "blob of field %u of run %u", num, tag);
		struct digest *d = (void *)((uint8_t *)&r->p + journal_record_field(num)->offset);
		int rc = journal_blob_put(j, bytes_of(text, (size_t)len), d, &err);
		assert(rc == 0);
	}
}

void story_run(struct journal *j, uint8_t tag, bool finish)
{
	static const enum journal_type script[STORY_EVENTS] = {
		JOURNAL_RUN_CREATED,	   JOURNAL_RUN_STARTED,	    JOURNAL_STEP_DECLARED,
		JOURNAL_STEP_RUNNABLE,	   JOURNAL_ATTEMPT_STARTED, JOURNAL_ATTEMPT_LIVE,
		JOURNAL_ATTEMPT_EXITED,	   JOURNAL_STEP_SEALED,	    JOURNAL_STEP_COMMITTED,
		JOURNAL_APPROVAL_OPENED,   JOURNAL_VOTE_CAST,	    JOURNAL_APPROVAL_APPROVED,
		JOURNAL_APPROVAL_CONSUMED, JOURNAL_LANDING_STARTED, JOURNAL_LANDED,
		JOURNAL_RUN_SUCCEEDED,
	};
	for (size_t i = 0; i < (finish ? STORY_EVENTS : 6); i++) {
		struct journal_record r;
		maker_record(script[i], false, &r);
		story_run_id(tag, &r.run);
		if (r.step != JOURNAL_NO_STEP)
			r.step = 0;
		if (r.attempt)
			r.attempt = 1;
		if (script[i] == JOURNAL_STEP_COMMITTED) {
			JOURNAL_SET(&r.p, out, (struct digest){{0}});
			JOURNAL_SET(&r.p, layer, bytes_str("lay1"));
		}
		memset(&r.p.approval, tag, sizeof(r.p.approval));
		put_blobs(j, &r, tag);
		now++;
		journal_append(j, &r, NULL);
		journal_flush(j, false);
	}
}
