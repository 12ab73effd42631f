#pragma once
/*
 * One landing under way. Private to landing_apply.c (what happens in which order), landing_settle.c
 * (where a path stands), landing_path.c (how it is put in), landing_stage.c (its new bytes) and
 * landing_back.c (how it is taken back).
 *
 * The places of one action, in one folder: NAME is its target. HIDDEN (`.holdfast-land-ID-N`) holds
 * first the whole new thing, synced, and after the exchange the displaced one; never anything
 * partial. PART (HIDDEN and "w") is being written. So after a crash HIDDEN is either what the
 * action puts there, or what somebody had there.
 *
 *   phase     NAME                HIDDEN                       goes on to
 *   FRESH     as before           there may be none            STAGED; a deletion: PUT
 *   STAGED    as before           the new thing                PUT, BACK
 *   PUT       as after            what was displaced, if any,  BACK, LEFT; the end of landing
 *                                 and that is a blob
 *   DONE      as after            none: an earlier call took   back by the reverse of the plan
 *                                 it away; it is a blob
 *   ALREADY   as after, but not   none                         never touched
 *             by this landing: what
 *             it takes is a blob
 *   LEFT      somebody's edit of  none                         never touched
 *             what was put there
 *   BACK      as before           none                         the end of taking back
 */
#include <limits.h>
#include "supervisor/landing.h"
#include "supervisor/landing_look.h"

enum landing_phase {
	LANDING_FRESH,
	LANDING_STAGED,
	LANDING_PUT,
	LANDING_DONE,
	LANDING_ALREADY,
	LANDING_LEFT,
	LANDING_BACK,
};

enum { LANDING_NAME_SIZE = 64 };

struct landing_dir {
	struct bytes path; /* borrowed from an action's; of a folder */
	int fd; /* O_PATH; -1 = free */
	uint64_t used;
};

struct landing_work {
	int ws;
	bool again;
	bool best_effort; /* of the rolling back of what an earlier call did: a path in conflict is
			     left, the rest goes on */
	bool lost; /* a folder was not where it should be: hidden names may lie elsewhere */
	const struct landing_plan *plan;
	const struct landing_source *source;
	char id[LANDING_ID_SIZE];
	enum landing_phase *phase; /* by action */
	struct landing_dir dirs[LANDING_DIRS_MAX];
	uint64_t clock; /* of dirs[].used */
	struct landing_plan *met; /* conflicts met: arena and array */
	struct digest
		kept; /* what landing_path_aside kept last: for the conflict that is noted next */
	struct error *err;
};

/* Every function below: 0, LANDING_CONFLICT (noted in met), or a negative errno (*err filled). */

/* Finds where the path stands and sets its phase; what a crash left is put right. */
MUST_CHECK int landing_settle_path(struct landing_work *w, size_t i);
/* A folder that is to go, and that its owner may not write into, is made writable, or as it was. */
MUST_CHECK int landing_stage_unlock(struct landing_work *w, size_t i, bool unlock);
/* FRESH -> STAGED, or PUT for a new folder. *ret_later: its folder is put in by this landing, stage
 * it then. */
MUST_CHECK int landing_stage_path(struct landing_work *w, size_t i, bool sync, bool *ret_later);
/* FRESH (deletion) or STAGED -> PUT. */
MUST_CHECK int landing_path_put(struct landing_work *w, size_t i);
/* Any but DONE -> BACK or LEFT. Conflicts here are noted and 0 is returned. */
MUST_CHECK int landing_back_path(struct landing_work *w, size_t i);
/* PUT: the last mode of a folder. */
MUST_CHECK int landing_path_finish(struct landing_work *w, size_t i);
/* Makes the blobs durable: before anything that they are copies of is removed. */
MUST_CHECK int landing_path_sync_blobs(struct landing_work *w);
/* Removes HIDDEN of a PUT path. */
MUST_CHECK int landing_path_clean(struct landing_work *w, size_t i);
/* fsync of the folder that the path is in. */
MUST_CHECK int landing_path_sync(struct landing_work *w, size_t i);
/* Looks for hidden names of this landing everywhere below the workspace, where folders were moved
 * meanwhile. */
MUST_CHECK int landing_back_sweep(struct landing_work *w);

/* Notes a conflict; returns LANDING_CONFLICT (or -ENOMEM). now may be NULL: not known. */
int landing_path_conflict(struct landing_work *w, size_t i, enum landing_conflict_why why,
			  const struct landing_state *now, const char *fmt, ...) PRINTF_LIKE(5, 6);
/* Notes each name that the plan knows nothing of in the folder that stands at action i's path: with
 * theirs it goes. */
MUST_CHECK int landing_path_strangers(struct landing_work *w, size_t i);
/* Notes a conflict of kind PLACE, of a folder. */
MUST_CHECK int landing_path_place(struct landing_work *w, struct bytes path,
				  const struct landing_state *now,
				  const struct landing_state *want);
/* Notes that the path's folder is not there: the conflict is of the topmost one that is missing or
 * is none any more. */
MUST_CHECK int landing_path_no_folder(struct landing_work *w, size_t i);
void landing_path_close(struct landing_work *w);

/* ---- between the files of landing ---- */

struct bytes landing_path_above(
	struct bytes path); /* the folder that the path is in; empty: the workspace */
MUST_CHECK int landing_path_name(struct bytes path,
				 char ret[NAME_MAX + 1]); /* the last component */
void landing_path_hidden(const struct landing_work *w, size_t i, char ret[LANDING_NAME_SIZE]);
/* The folder that action i's name is in, borrowed; or -errno. Held open, so that one that is moved
 * away is still found. */
MUST_CHECK int landing_path_folder(struct landing_work *w, size_t i);
bool landing_path_removes_folder(const struct landing_action *a);
bool landing_path_made_here(const struct landing_work *w,
			    struct bytes folder); /* a folder that the plan makes */
/* Whether a name is as before, or as after: allowing for what this landing itself is in the middle
 * of (folders made writable), and for files that their own mode hides. */
bool landing_path_is_before(const struct landing_work *w, const struct landing_action *a,
			    const struct landing_state *now);
bool landing_path_is_after(const struct landing_action *a, const struct landing_state *now);
/*
 * What the displaced thing under HIDDEN turned out to be, once it was read:
 *
 *   KEPT     the state that was expected; a file's bytes are a blob. It may be removed at the end
 *   OTHER    another state, or a folder that holds something: somebody changed it. *ret_now has it;
 *            a file's bytes are a blob all the same
 *   BUSY     somebody has it open for writing: what it will hold is not known. Nothing is kept
 *   UNREAD   it may not be read: what it holds is not known. Nothing is kept
 *
 * All but KEPT put it back under its name.
 */
enum landing_kept {
	LANDING_KEPT = 0,
	LANDING_KEPT_OTHER = 1,
	LANDING_KEPT_BUSY = 2,
	LANDING_KEPT_UNREAD = 3,
};

/* enum landing_kept, or a negative errno. expect: the action's before or after. ret_now: its
 * target, if any, lives as long as w->met. */
MUST_CHECK int landing_path_keep(struct landing_work *w, size_t i, int dir, const char *hidden,
				 const struct landing_state *expect, struct landing_state *ret_now);
/* What all but KEPT mean to a person. */
enum landing_conflict_why landing_path_why(const struct landing_action *a, enum landing_kept kept,
					   const struct landing_state *now);
/* Bytes that have no place left in the tree become a blob, and the conflict noted next names it.
 * ret: its hash, or "". */
MUST_CHECK int landing_path_aside(struct landing_work *w, size_t i, int dir, const char *hidden,
				  char ret[DIGEST_HEX_SIZE]);
/* Removes name, and what is ours in it; another's file in it makes it -ENOTEMPTY. */
MUST_CHECK int landing_path_remove(int dir, const char *name);
MUST_CHECK int landing_path_rename(int dir, const char *from, const char *to, unsigned flags);
/* An error of this path: fills w->err, returns code. */
int landing_path_fail(struct landing_work *w, size_t i, int code, const char *what);
/* A refusal of the system that a person can do something about is a conflict of that path; the rest
 * is an error. */
int landing_path_refused(struct landing_work *w, size_t i, int code, const char *what);
/* A conflict with what stands there, since that is what its answer is bound to. */
int landing_path_refused_as(struct landing_work *w, size_t i, const char *fmt, ...)
	PRINTF_LIKE(3, 4);
MUST_CHECK int landing_stage_mode(struct landing_work *w, size_t i, int dir, const char *name,
				  uint32_t mode);
