#pragma once
/* What the files of views.h share; seen by them only. A json_t is a new reference. */
#include "supervisor/api/views.h"

enum { VIEWS_TIME_SIZE = 40, VIEWS_STATE_SIZE = 48 };

json_t *views_text(const char *s); /* null where it is NULL or empty */
/* RFC 3339 in UTC, into text; NULL where it is 0. */
const char *views_time_text(int64_t ns, char text[VIEWS_TIME_SIZE]);
/* A name of the journal's as people read it: "GATED_COMMIT" is "gated-commit". */
const char *views_state_text(const char *name, char out[VIEWS_STATE_SIZE]);
json_t *views_state(const char *name);
/* NULL: it has none. */
const struct journal_attempt *views_last_attempt(const struct journal_step *s);
/* Appends a note for each of enum sandbox_weaker that is in bits. */
void views_weaker(json_t *notes, uint64_t bits);

/* views_step.c: sets "argv", of the step's description, and "argv_cut" where that is not all. */
void views_step_argv(struct daemon *d, const struct digest *input, json_t *o);
/* Calls that the walls refused, of a record. */
json_t *views_step_denied(struct bytes denied);

/* views_approval.c: what a list tells of an item. NULL when out of memory. */
json_t *views_approval_head(struct daemon *d, const struct journal_approval *a);
