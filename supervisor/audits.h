#pragma once
/*
 * verify, fsck, export and gc of a journal that is in use: what takes long is done aside (aside.h)
 * on a view of the journal, and steps, votes and other clients go on meanwhile. One at a time, and
 * none while a landing is planned or applied: gc removes blobs, so it, what looks at blobs and what
 * keeps blobs that no record names yet take turns.
 */
#include "supervisor/daemon.h"

enum {
	AUDITS_MAX = 32, /* under way and waiting */
};

enum audits_kind {
	AUDITS_VERIFY,
	AUDITS_FSCK,
	AUDITS_EXPORT,
	AUDITS_GC_LIST, /* the runs that GC would drop */
	AUDITS_GC,
};

struct audits_request {
	enum audits_kind kind;
	uint64_t ticket; /* answered by it; 0 = retention's, which is logged */
	bool one_run; /* EXPORT: of run alone */
	struct journal_id run;
	int64_t before_ns; /* GC, GC_LIST: runs that ended before go */
};

struct audits; /* opaque, owned */

MUST_CHECK int audits_new(struct audits **ret); /* 0 or -ENOMEM */
void audits_free(struct audits *a); /* after aside_free(); accepts NULL */
/* 0: the answer comes by the ticket. -EAGAIN: AUDITS_MAX wait already. */
MUST_CHECK int audits_start(struct daemon *d, const struct audits_request *q, struct error *err);
/* Now and then: those whose client is gone end. */
void audits_look(struct daemon *d);
/* For a supervisor that stops: all are answered at once, and end. */
void audits_stop(struct daemon *d);
