#pragma once
/*
 * Rows and records as the JSON of supervisor.h (Shapes). Each returns a new reference, or NULL when
 * out of memory. Reads only.
 */
#include "supervisor/daemon.h"

json_t *views_dropping(const struct journal_run *run); /* that gc would drop; of any rows */
json_t *views_summary(struct daemon *d, const struct journal_run *run);
json_t *views_status(struct daemon *d, const struct journal_run *run);
void views_notes(struct daemon *d, const struct journal_run *run, json_t *o); /* sets "notes" */
json_t *views_step(struct daemon *d, const struct journal_run *run,
		   const struct journal_step *step);
json_t *views_approval(struct daemon *d, const struct journal_approval *a);
/* What a list tells of it: an object, as JSON text. 0 or -ENOMEM. */
MUST_CHECK int views_approval_line(struct daemon *d, const struct journal_approval *a,
				   struct buffer *out);
/* run may be NULL: then the step's index stands for its name. */
json_t *views_event(struct daemon *d, const struct journal_run *run,
		    const struct journal_record *r);
json_t *views_id(const struct journal_id *id);
json_t *views_digest(const struct digest *d); /* null where zero */
json_t *views_time(int64_t ns); /* null where 0 */
