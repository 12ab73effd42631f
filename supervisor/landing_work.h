#pragma once
/*
 * One landing under way. Private to landing_apply.c (what happens in which order), landing_path.c
 * (how one path is found and put in), landing_stage.c (its new bytes) and landing_back.c (how it is
 * taken back).
 *
 * The places of one action, in one folder: NAME is its target. HIDDEN (`.holdfast-land-ID-N`) holds
 * first the whole new thing, synced, and after the exchange the displaced one; never anything
 * partial. PART (HIDDEN and "w") is being written. So after a crash HIDDEN is either what the
 * action puts there, or what somebody had there.
 *
 *   FRESH     NAME is as before; there may be no HIDDEN
 *   STAGED    NAME is as before; HIDDEN is new
 *   PUT       NAME is as after; HIDDEN is the displaced one, if there was one; its bytes are a blob
 *   DONE      NAME is as after, from an earlier call that removed HIDDEN: its bytes are a blob
 *   ALREADY   NAME was as after before we came: not ours
 *   LEFT      NAME is somebody's edit of what we had put there; it stays
 *   BACK      rolled back: NAME is as before, no HIDDEN
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
	struct digest kept; /* what keep_aside kept last: for the conflict that is noted next */
	struct error *err;
};

/* Every function below: 0, LANDING_CONFLICT (noted in met), or a negative errno (*err filled). */

/* Finds where the path stands and sets its phase; what a crash left is put right. */
MUST_CHECK int landing_path_settle(struct landing_work *w, size_t i);
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
int landing_path_folder(struct landing_work *w, size_t i);
bool landing_path_removes_folder(const struct landing_action *a);
bool landing_path_made_here(const struct landing_work *w,
			    struct bytes folder); /* a folder that the plan makes */
bool landing_path_is_after(const struct landing_action *a, const struct landing_state *now);
/* Reads the displaced thing HIDDEN and keeps its bytes. 0: it is what is expected (the action's
 * before or after), and a blob. 1: it is not, *ret_now says what it is. 2: somebody has it open for
 * writing. 3: it may not be read. */
MUST_CHECK int landing_path_keep(struct landing_work *w, size_t i, int dir, const char *hidden,
				 const struct landing_state *expect, struct landing_state *ret_now);
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
MUST_CHECK int landing_stage_mode(struct landing_work *w, size_t i, int dir, const char *name,
				  uint32_t mode);
