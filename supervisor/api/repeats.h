#pragma once
/*
 * Requests by the id that their client chose (Holdfast-Request), so that a client that lost its
 * answer asks again and nothing is done twice: what is being worked on is joined, what was answered
 * is answered again in the same words. In memory only, and of this supervisor's life; what goes on
 * beyond it is in supervisor.h. A request is its id, its target with the query, and its body; the
 * descriptors that came with it are not looked at.
 *
 * A request that is being worked on is never forgotten: it leaves by api_repeats_end() alone, be
 * its client there or not. Only its answer may push an older answer out. No I/O.
 */
#include "supervisor/api/server.h"

/* At work at a time, those included whose client is gone: more than there are connections. */
enum { API_UNDERWAY_MAX = 2 * API_CONNECTIONS_MAX };

struct api_repeats; /* opaque, owned */

MUST_CHECK int api_repeats_new(struct api_repeats **ret); /* 0 or -ENOMEM */
void api_repeats_free(struct api_repeats *s); /* accepts NULL */
DEFINE_GUARD(struct api_repeats *, api_repeats_free)

enum api_repeats_asked {
	API_REPEATS_NEW, /* begun: api_repeats_end(q->ticket) is owed */
	API_REPEATS_UNDERWAY, /* *ret_first: the ticket of the one that is being worked on */
	API_REPEATS_ANSWERED, /* *ret: the answer it had */
};

/* One of the above, or a negative errno with *err: -EEXIST the id is another request's, -EAGAIN
 * API_UNDERWAY_MAX, -ENOMEM. */
MUST_CHECK int api_repeats_begin(struct api_repeats *s, const struct api_request *q,
				 struct bytes body, uint64_t *ret_first, struct api_answer *ret,
				 struct error *err);
/* It is answered by a (borrowed), which is remembered: not where it is volatile, no JSON, or a
 * failure of the machine's (5xx), which may be gone when the client tries again. A ticket that was
 * not begun is ignored. */
void api_repeats_end(struct api_repeats *s, uint64_t ticket, const struct api_answer *a);
