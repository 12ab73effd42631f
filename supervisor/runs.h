#pragma once
/*
 * What a run needs while it is worked on and that the rows name only by digest: its plan, effective
 * policy, settings and the descriptor of its workspace. Made when first asked for, from the blobs;
 * kept while the run is not final.
 */
#include "supervisor/daemon.h"

enum { RUNS_LOOK_BACK = 1000 };

/* The blob that RUN_CREATED names as `environ`: what the client brought along and no later client
 * can bring again. Canonical CBOR: {1: [NAME=value as bytes, sorted], 2: home, 3: [rows, cols], 4:
 * [note], 5: signers, 6: learn}. */
struct runs_settings {
	char **env; /* NULL-terminated */
	char *home; /* clean absolute path; NULL = none */
	bool tty;
	uint16_t rows, cols;
	char **notes; /* NULL-terminated, never NULL */
	bool learn; /* only what it wants is of interest: no person is asked, nothing lands */
	char *signers; /* text of the policy's allowed-signers file as it was; NULL = none */
};

struct runs_context {
	struct runs_context *next;
	struct journal_id id;
	struct plan *plan;
	struct policy_effective *policy;
	struct policy_effective **turned; /* what it was before the dial was turned: a landing
					     beside the loop may still ask it */
	size_t turned_count;
	struct runs_settings settings;
	int workspace_fd; /* the user's directory: where the run lands; -1 = not open yet */
	int pin_fd; /* the pinned copy, for a run that has one; -1 = not open yet */
	gid_t gid; /* of the workspace */
	char (*intact)[JOURNAL_LAYER_NAME_SIZE]; /* layers that intact.c has no doubt about */
	size_t intact_count;
	struct digest applied; /* the redo plan that this process applied last; zero = none */
	bool applied_undo; /* it took that plan back, which is another application */
};

MUST_CHECK int runs_new(struct runs **ret);
void runs_free(struct runs *r); /* accepts NULL */
/* The context, owned by the daemon. -ENOENT: no such run. The workspace is not opened by it. */
MUST_CHECK int runs_get(struct daemon *d, const struct journal_id *id, struct runs_context **ret,
			struct error *err);
/* Opens the workspace where it is not open: by the path of the record, believed only where it is
 * still that directory. */
MUST_CHECK int runs_workspace(struct daemon *d, struct runs_context *c, struct error *err);
/* The same, for landing and undoing: -ESTALE where the run's path leads to it no more. */
MUST_CHECK int runs_landing_place(struct daemon *d, struct runs_context *c, struct error *err);
/* The base that steps see, borrowed: the workspace, or the pinned copy of it. Opens both where they
 * are not open. */
MUST_CHECK int runs_base(struct daemon *d, struct runs_context *c, int *ret_fd, struct error *err);
/* The client brought the workspace: keeps a duplicate, if it is the one of the run. */
MUST_CHECK int runs_give_workspace(struct daemon *d, struct runs_context *c, int fd,
				   struct error *err);
/* policy, contract, agency: what a later, looser one is told from. */
MUST_CHECK int runs_context_digest(const struct policy_effective *policy, unsigned agency,
				   struct digest *ret);
/* Turns the dial of a run (engine_run_agency), where its policy allows it. */
MUST_CHECK int runs_dial(struct daemon *d, const struct journal_id *run, uint32_t uid,
			 enum policy_agency level, struct error *err);
/* Final, and nothing of it is being applied (NULL: so, too). Less than journal_run_at_rest: what a
 * person is asked about, or a later land or undo, makes its context again. */
bool runs_over(const struct journal_run *run);
/* Frees the contexts of runs that are over, with their descriptors. Not while one is in use:
 * between turns of the loop. */
void runs_collect(struct daemon *d);
/* Loads the rows of a run that has ended; finds by id prefix or name. Where no run was given a name
 * of its own, its plan's is what people see; many runs share one, so it finds the latest of the
 * RUNS_LOOK_BACK newest, and only who reads: to others it is an error that says that run's id. */
MUST_CHECK int runs_find(struct daemon *d, const char *prefix_or_name, bool reading,
			 const struct journal_run **ret, struct error *err);
/* By index, name or key; NULL = none. */
const struct journal_step *runs_step(const struct journal_run *run, const char *name_or_key);

MUST_CHECK int runs_settings_encode(const struct runs_settings *s, struct buffer *out);
void runs_settings_free(struct runs_settings *s); /* accepts a zeroed one */
