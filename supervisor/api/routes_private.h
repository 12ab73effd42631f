#pragma once
/*
 * What the files of endpoints share: a request on its way through a row, and the short answers.
 * Seen by routes*.c only. A row's function returns 0 with the answer in c->a, or a negative errno,
 * with c->err where there is more to say: then that is the answer.
 */
#include "supervisor/daemon.h"

struct routes_call { /* one request on its way through a row */
	struct daemon *d;
	struct api_request *q;
	struct api_answer *a;
	const struct journal_run *run; /* rows of segments[2], where the row wants a run */
	const struct journal_step *step; /* of segments[4], where it wants a step */
	struct error err;
};

enum {
	ROUTES_RUN = 1,
	ROUTES_STEP = 2,
	ROUTES_READS = 4, /* it changes nothing, though it is a POST */
};

struct routes_row {
	bool post;
	const char *path; /* "*" takes any segment; NULL ends a table */
	unsigned wants; /* of ROUTES_* */
	int (*fn)(struct routes_call *c);
};

/* Of two that take the same path the first is meant. */
extern const struct routes_row routes_run_rows[], routes_queue_rows[];

/* Takes o over; -ENOMEM where it is NULL. */
MUST_CHECK int routes_answer(struct routes_call *c, int status, json_t *o);
MUST_CHECK int routes_ok(struct routes_call *c);
/* Takes s over; -ENOMEM where it is NULL. */
MUST_CHECK int routes_stream(struct routes_call *c, struct api_stream *s, const char *type);
/* -EINVAL, in words. */
MUST_CHECK int routes_wrong(struct routes_call *c, const char *what);
/* A member of the body; NULL where it is no text. */
const char *routes_text(const struct routes_call *c, const char *key);
/* Whether the query has the key, and not as 0. */
bool routes_asked(const struct routes_call *c, const char *key);
/* A number of the query; -EINVAL, in words. */
MUST_CHECK int routes_number(struct routes_call *c, const char *key, uint64_t otherwise,
			     uint64_t *ret);
