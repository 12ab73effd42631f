#pragma once
/*
 * The difference that a run or a step makes, for people. The stat list is pure; the text is made by
 * diff(1) inside a sandbox, since its input is an agent's: diff_prepare() lays two trees with only
 * the changed paths in them, and says what to run.
 */
#include <stdatomic.h>

#include "supervisor/landing_plan.h"
#include "supervisor/landing.h"

enum {
	DIFF_FILE_MAX =
		4 * 1024 * 1024, /* bytes of one file; a larger one is named, not compared */
	DIFF_TOTAL_MAX = 64 * 1024 * 1024, /* bytes of both trees */
	DIFF_PATHS_MAX = 10000, /* further ones are counted */
	DIFF_OUTPUT_MAX = 8 * 1024 * 1024, /* of diff(1): for limits.output_bytes */
};

#define DIFF_INSIDE "/run/holdfast/in"

struct diff_entry { /* borrowed from the net change */
	struct bytes path;
	char letter; /* 'A' added, 'M' modified, 'D' deleted, 'T' type replaced */
	enum manifest_type before, after; /* ABSENT, … */
	uint64_t size_before, size_after;
	uint32_t mode_before, mode_after;
};

/* What `layers` change over `below` (both bottom first; below may be empty): a net manifest whose
 * `base` is the state that below and the base show together. For a run: its whole stack over
 * nothing. */
MUST_CHECK int diff_net(const struct landing_layer *below, size_t below_count,
			const struct landing_layer *layers, size_t layer_count,
			struct manifest **ret, struct error *err);
/* The changes of a net manifest, in order of path. *ret is malloc'ed, count in *ret_count. */
MUST_CHECK int diff_stat(const struct manifest *net, struct diff_entry **ret, size_t *ret_count);
/* What of the same layers would land on the base as the run found it, as the landing planner
 * decides it with these tables: its actions and what it leaves out. It has no conflicts: the user's
 * directory is not looked at, so it tells the same before and after landing. Of a step's layer over
 * those below: `before` is what they show. */
struct diff_scope {
	const struct landing_layer *below, *layers; /* bottom first; below: none for a whole run */
	size_t below_count, layer_count;
	const struct policy_fs *fs; /* of the run */
	const char *workspace; /* absolute: ${workspace} of the policy */
};
MUST_CHECK int diff_landing(const struct diff_scope *s, struct landing_plan **ret,
			    struct error *err);
/* The changes that a plan makes, in order of path. *ret is malloc'ed. */
MUST_CHECK int diff_stat_plan(const struct landing_plan *plan, struct diff_entry **ret,
			      size_t *ret_count);
/* Paths that do not land at all: scratch, and left out for another reason. */
void diff_left_out(const struct landing_plan *plan, size_t *ret_scratch, size_t *ret_others);

struct diff_request {
	int workspace_fd; /* the base */
	const struct landing_layer
		*below; /* what the changed side lies on, bottom first: none for a run's diff */
	size_t below_count;
	const struct landing_layer *layers; /* the run's stack, or one step's layer */
	size_t layer_count;
	const struct landing_plan
		*only; /* exactly what this plan does; NULL: all that the layers change */
	bool exact; /* a file that is not what the plan's digests say is not compared: what is shown
		       is what lands */
	uint64_t total_max; /* bytes of both trees; 0 = DIFF_TOTAL_MAX */
	const struct landing_source *source;
	int dest_fd; /* an empty folder: `a`, `b` are made in it */
	const atomic_bool *stop; /* NULL, or -ECANCELED at the next file once it is set */
};

struct diff_prepared {
	struct manifest *net; /* owned: for diff_stat */
	/* What to run, in a sandbox that sees dest_fd's folder at DIFF_INSIDE and has no workspace.
	 */
	const char *const *argv; /* NULL-terminated, static, the folder last; exit 0 equal, 1
				    different, else trouble */
	uint64_t skipped; /* paths that are only named: too large, past the limits, or not readable
			   */
	struct buffer note; /* what no text diff tells, a line each, escaped: those names,
			       changed modes, empty files and folders; goes below the text */
	bool empty; /* nothing to compare: do not run it */
};
void diff_prepared_free(struct diff_prepared *p); /* accepts a zeroed one */
/* Blocks (copies files). The caller removes what is in dest_fd afterwards. */
MUST_CHECK int diff_prepare(const struct diff_request *r, struct diff_prepared *ret,
			    struct error *err);
