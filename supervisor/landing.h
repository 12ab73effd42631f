#pragma once
/*
 * Landing, performed: looks at the user's directory, and applies a redo plan to it so that nothing
 * that anybody else writes there meanwhile is lost and no half of it stays.
 *
 * For the daemon: landing_prepare() answers ENGINE_PLAN_LANDING, landing_apply() answers
 * ENGINE_APPLY_LANDING. Both block (walks, hashes, syncs) and use nothing global, only their
 * arguments; the callbacks of struct landing_source are called on the caller's thread.
 *
 * How one path goes in. New bytes are written beside the target under a hidden name,
 * `.holdfast-land-ID-N`, and synced, all of them before the first target is touched. Then, path by
 * path, deletions first: RENAME_EXCHANGE for what exists, RENAME_NOREPLACE for what is new, a
 * rename to the hidden name for a deletion. What was displaced is then looked at: the state the
 * plan names, open for writing by nobody (a read lease tells), its folder still where the plan
 * says; its bytes are kept as a blob; else it is exchanged back, with everything that this landing
 * did before it. The displaced files stay under their hidden names until all of it stands, so
 * rolling back gives back the very inodes. Last: folder modes, sync, hidden names removed, sync.
 *
 * landing_apply() IS the redo: called again after a crash, it finds for every path which of the
 * plan's two states is there. Not kept of a replaced file: its extended attributes and hard links
 * (the new file is a new inode), and times are of the landing, so that a build made from the old
 * file is seen as older.
 */
#include "supervisor/landing_plan.h"

enum {
	LANDING_WRITER_WAIT_MS =
		500, /* for another program to close a file that it has open for writing */
	LANDING_DIRS_MAX = 256, /* folders held open at a time */
	LANDING_PREIMAGE_MAX = 1 << 30, /* bytes of one displaced file: JOURNAL_BLOB_MAX */
	LANDING_CONFLICTS_MAX = 1000, /* reported of one landing */
};

struct landing_source {
	void *ctx;
	int layers_fd; /* the folder `layers` of the state directory */
	/* A read-only descriptor of layers/NAME/u/PATH where opening it ourselves is refused (the
	 * sealer's OPEN), or a negative errno. NULL: such a file is a conflict of kind REFUSED. */
	int (*open_layer)(void *ctx, const char *layer, struct bytes path);
	/* A read-only descriptor of a blob, or a negative errno. */
	int (*blob_open)(void *ctx, const struct digest *d);
	/* Keeps fd's content, from its start. 0 or a negative errno (-E2BIG past max). */
	int (*blob_put)(void *ctx, int fd, uint64_t max, struct digest *ret);
	/* All that was put survives a power cut when this returns 0: called before the last other
	 * copy goes. NULL: it does so at once. */
	int (*blob_sync)(void *ctx);
};

struct landing_request {
	int workspace_fd; /* the user's directory (workspace_open) */
	const char *workspace; /* absolute: ${workspace} of the policy */
	uint32_t uid, gid; /* its owner */
	const struct landing_layer *layers;
	size_t layer_count;
	const struct policy_fs *fs;
	const char *const *own; /* as in struct landing_inputs */
	struct landing_clock clock;
	struct bytes
		last; /* redo plan that was rolled back (JOURNAL_F_redo of this run), or empty */
	struct bytes shown; /* conflicts blob that the choices answer, or empty */
	const struct landing_choice *choices;
	size_t choice_count;
};

struct landing_prepared {
	struct landing_plan *plan; /* owned; for the card */
	struct buffer redo; /* canonical plan; empty where there are conflicts */
	struct buffer conflicts; /* canonical list; empty where there are none */
	bool nothing; /* no conflict, and nothing to land (out_count may still be positive) */
};
void landing_prepared_free(struct landing_prepared *p); /* accepts a zeroed one */

/* 0, or a negative errno with *err (nothing was changed). */
MUST_CHECK int landing_prepare(const struct landing_request *r, struct landing_prepared *ret,
			       struct error *err);

enum landing_apply_result { LANDING_APPLIED = 0, LANDING_CONFLICT = 1 };

struct landing_outcome {
	struct buffer result; /* APPLIED: canonical, for the blob of LANDED */
	struct buffer conflicts; /* CONFLICT: canonical list */
	uint64_t paths; /* APPLIED: how many were changed */
	char why[LANDING_WHY_MAX]; /* CONFLICT: one line */
};
void landing_outcome_free(struct landing_outcome *o); /* accepts a zeroed one */

struct landing_application {
	int workspace_fd;
	struct bytes redo; /* canonical plan */
	bool undo; /* apply its reverse; a plan that landing_plan_reverse made is applied as it is
		    */
	/* False only for the very first call with this plan and these choices: paths that already
	 * are as wanted are then somebody else's doing, and rolling back does not touch them. After
	 * a crash or a failed call: true. */
	bool again;
	struct bytes
		shown; /* undoing after a conflict: as landing_plan_reverse has them; else empty */
	const struct landing_choice *choices;
	size_t choice_count;
	const struct landing_source *source;
};

/* Applies the redo plan.
 * APPLIED; CONFLICT: all that this landing did is rolled back, but for a path that somebody edited
 * after it landed (it stays as they left it and is named); a negative errno with *err: could not go
 * on or back (I/O error): call again. */
MUST_CHECK int landing_apply(const struct landing_application *a, struct landing_outcome *ret,
			     struct error *err);

/* The state of one path (NUL-terminated) below workspace_fd, symlinks never followed. digest: hash
 * a file. A missing path, also by a missing or replaced folder above it, is ABSENT; one below a
 * folder that may not be passed is ABSENT and unseen. *ret_target, malloc'ed, is what ret->target borrows from; may be NULL. */
MUST_CHECK int landing_look(int workspace_fd, const char *path, bool digest, bool entries,
			    struct landing_state *ret, char **ret_target, struct error *err);
