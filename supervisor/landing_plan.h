#pragma once
/*
 * Planning a landing, purely: the net change of the committed stack, the policy, and what stands in
 * the user's directory now, become a redo plan: one action a path, each from the state that must be
 * found there to the state that shall stand there. Because an action names both, doing it again
 * after a crash is deciding which of the two is there, and undoing it is the same plan with the two
 * exchanged.
 *
 * A path that the user changed since the run began is a conflict, never an action:
 *   CHANGED  its ctime is not older than the run's start; but not where it was merely written again
 *            with the bytes that it had when the run began (landing_plan.c, written_again)
 *   GONE, APPEARED  what the sealer saw in the base is gone, or the reverse
 *   CONTENT  its type, permission bits or hash is not what the sealer saw
 *   MOVED    a folder above it was moved here, or was given another mode or owner, which looks the
 *            same: its ctime is not older than the start while its mtime is
 *   FOLDER   a folder above it is gone
 *   PLACE    the path is a folder that the run has changes in, and a file or a link stands there
 *   CLOCK    the clock went back, so ctime tells nothing
 *   NOT_EMPTY  a folder to be removed holds more than can be asked about one by one; else each name
 *            in it that the run knows nothing of has APPEARED
 *   REFUSED  a folder above it may not be passed, or the file not be read, so that what would be
 *            displaced is not known
 *
 * Paths that stand already as the run wants them are neither. A path that the user removed before
 * the sealer looked, and that the run has, is GONE where overlay's mark says that it was copied up
 * (manifest_seen_gone) and names came or went in its folder since the start; a file that the run
 * replaced by another carries no mark, and lands as a new one.
 *
 * A person answers a conflict per path: MINE leaves the user's version (the run's is not landed),
 * THEIRS lands the run's version over it, FILE lands a content that the person gives. THEIRS and
 * FILE are bound to the state that was shown: where it changed again, it is a conflict again. The
 * answer about a PLACE holds for all that lies in that folder: with MINE and FILE nothing of it
 * lands, with THEIRS the folder displaces what stands there and all of it lands.
 *
 * Canonical bytes: base/holdfast.cddl, `landing-plan`, `landing-conflicts`, `landing-result`. Pure:
 * supervisor_pure.
 */
#include "base/buffer.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/guard.h"
#include "policy/policy.h"
#include "sandbox/sandbox.h"

enum {
	LANDING_VERSION = 1,
	LANDING_ID_SIZE = 17, /* 16 hex digits and NUL: part of the hidden names */
	LANDING_BYTES_MAX = 512 * 1024 * 1024, /* of one encoded plan */
	LANDING_LAYER_NAME_SIZE = 8,
	LANDING_WHY_MAX = 160,
	LANDING_FOLDER_AGAIN_MODE = 0755, /* of a folder that an undoing makes again: nothing says
					     what it had */
};

/* Where landing works beside its targets. An agent's file of such a name is left out. */
#define LANDING_HIDDEN_PREFIX ".holdfast-land-"

/* What stands, or shall stand, at one path. ABSENT, FILE, DIR, SYMLINK; a found one may also be
 * FIFO to BLOCK. */
struct landing_state {
	enum manifest_type type;
	uint32_t mode; /* permission bits, 07777; 0 for ABSENT and SYMLINK */
	uint64_t size; /* bytes; FILE */
	bool has_digest;
	struct digest digest; /* FILE: content; SYMLINK: target */
	struct bytes target; /* SYMLINK; borrowed from what holds the state */
	uint32_t uid, gid; /* found ones */
	int64_t ctime_ns, mtime_ns; /* found ones */
	uint64_t ino; /* found ones: with ctime and size, "not touched since" without hashing again
		       */
	bool plain; /* found FILE, looked at with its digest: one name, no extended attributes */
	uint64_t entries; /* DIR: names in it, our own hidden ones aside; only where it is to be
			     removed */
	bool unseen; /* ABSENT: a folder above it may not be passed, so what stands there is not
			known. The same as nothing, not even as itself */
};

/* Same type, and for a file same bits and content, for a link same target, for a folder same bits.
 */
bool landing_state_same(const struct landing_state *a, const struct landing_state *b);

/* ---- what stands in the user's directory now
 * -------------------------------------------------------------- */

struct landing_facts; /* opaque, owned: state by path */
struct landing_facts *landing_facts_new(void); /* NULL when out of memory */
void landing_facts_free(struct landing_facts *f); /* accepts NULL */
DEFINE_GUARD(struct landing_facts *, landing_facts_free)
/* Copies; a path given twice keeps the first. */
MUST_CHECK int landing_facts_add(struct landing_facts *f, struct bytes path,
				 const struct landing_state *s);
/* The same, of what lies in a folder that the run takes away and that the run knows nothing of. */
MUST_CHECK int landing_facts_add_stranger(struct landing_facts *f, struct bytes path,
					  const struct landing_state *s);
/* Every stranger, in the order they were added: start with *at = 0. False: no more. */
bool landing_facts_next_stranger(const struct landing_facts *f, size_t *at, struct bytes *ret_path);
size_t landing_facts_stranger_count(const struct landing_facts *f);
/* The folder, empty for the workspace itself, is a state directory of some Holdfast: nothing lands
 * in it. */
MUST_CHECK int landing_facts_add_state(struct landing_facts *f, struct bytes folder);
bool landing_facts_in_state(const struct landing_facts *f, struct bytes path);
const struct landing_state *landing_facts_find(struct landing_facts *f,
					       struct bytes path); /* NULL: not looked at */

/* ---- the run's clock
 * -------------------------------------------------------------------------------------- */

/*
 * Whether ctimes can be compared with the run's start. Feed the record that created the run, then
 * every later one of the run, then the present moment. A clock that went back by a little (slewing)
 * only moves the start back as much.
 */
struct landing_clock {
	int64_t started_ns; /* CLOCK_REALTIME_COARSE at the run's start */
	int64_t granularity_ns; /* of the file system's ctime (struct workspace); 0 = exact */
	bool suspect; /* nothing that ctime says counts: every changed path that exists in the base
			 is a conflict */
	int64_t back_ns; /* most that wall minus boot time went back */
	/* of the last moment seen */
	bool seen;
	int64_t wall_ns, offset_ns, offset_max_ns;
	uint8_t boot_id[16];
};

enum { LANDING_CLOCK_SLEW_MAX_MS = 2000 }; /* went back by more: suspect */

void landing_clock_start(struct landing_clock *c, int64_t started_ns, int64_t granularity_ns);
void landing_clock_see(struct landing_clock *c, int64_t wall_ns, int64_t mono_ns,
		       const uint8_t boot_id[16]);

/* ---- the plan
 * --------------------------------------------------------------------------------------------- */

enum landing_from { LANDING_FROM_NONE = 0, LANDING_FROM_LAYER = 1, LANDING_FROM_BLOB = 2 };

struct landing_action {
	struct bytes path; /* relative to the workspace, as in a manifest */
	struct landing_state before; /* what must be found */
	struct landing_state after; /* ABSENT, FILE, DIR, SYMLINK */
	enum landing_from from; /* where the bytes of an after.FILE are: layers/NAME/u/PATH, or the
				   blob after.digest */
	char layer[LANDING_LAYER_NAME_SIZE];
};

enum landing_out_why {
	LANDING_OUT_POLICY = 1, /* the fs table refuses it */
	LANDING_OUT_SCRATCH = 2, /* the fs table says that it never lands */
	LANDING_OUT_TYPE = 3, /* device, socket, FIFO */
	LANDING_OUT_BITS = 4, /* the path lands, its setuid or setgid bits do not */
	LANDING_OUT_FOLDER = 5, /* the folder it lies in was left out */
	LANDING_OUT_NOT_EMPTY = 6, /* a folder that keeps something that was left out */
	LANDING_OUT_RESERVED = 7, /* a name that landing uses itself */
	LANDING_OUT_MINE = 8, /* a person chose the version in the directory */
	LANDING_OUT_EMPTY = 9, /* a new folder of which everything was left out */
};

struct landing_out {
	struct bytes path;
	enum landing_out_why why;
	enum manifest_type type; /* what the run has there */
	struct bytes text; /* one line: the rule's place and reason, …; may be empty */
};

enum landing_conflict_why {
	LANDING_CONFLICT_CHANGED = 1,
	LANDING_CONFLICT_GONE = 2,
	LANDING_CONFLICT_APPEARED = 3,
	LANDING_CONFLICT_CONTENT = 4,
	LANDING_CONFLICT_MOVED = 5,
	LANDING_CONFLICT_FOLDER = 6,
	LANDING_CONFLICT_CLOCK = 7,
	LANDING_CONFLICT_NOT_EMPTY = 8,
	/* Met while applying: */
	LANDING_CONFLICT_EDITED = 9, /* changed between plan and landing, or during it */
	LANDING_CONFLICT_BUSY = 10, /* another program has it open for writing */
	LANDING_CONFLICT_REFUSED = 11, /* the system refused the change: text says why */
	/* Of a folder, planning or applying: what is in it follows its answer. */
	LANDING_CONFLICT_PLACE = 12,
	LANDING_CONFLICT_LAST = LANDING_CONFLICT_PLACE,
};

/* Of a conflict: its line more. */
#define LANDING_STRANGER_TEXT "it lies in a folder that is to go; theirs removes it"
#define LANDING_UNREADABLE_TEXT                                                                  \
	"it may not be read, or is past 1 GiB, so it cannot be kept for undo: make it readable " \
	"before theirs, or answer mine"
#define LANDING_UNSEEN_TEXT \
	"a folder above it may not be passed: make it accessible before theirs, or answer mine"

struct landing_conflict {
	struct bytes path;
	enum landing_conflict_why why;
	struct landing_state now; /* in the user's directory: what a choice is bound to */
	struct landing_state want; /* the run's (of an undo: from before the landing) */
	struct digest kept; /* blob of a version that has no place left in the directory; zero =
			       there is none */
	struct bytes text; /* one line more, may be empty: what was refused, what became of a
			      displaced version */
};

struct landing_plan { /* arrays sorted by path; all memory owned by the plan */
	bool undo;
	uint64_t ws_dev, ws_ino;
	uint32_t uid, gid; /* owner of the workspace: whom files belong to when root lands */
	int64_t started_ns;
	struct landing_action *actions;
	size_t action_count;
	struct landing_out *out;
	size_t out_count;
	struct landing_conflict *conflicts; /* of this planning; not part of the encoded plan */
	size_t conflict_count;
	struct landing_arena *arena; /* private */
};

void landing_plan_free(struct landing_plan *p); /* accepts NULL */
DEFINE_GUARD(struct landing_plan *, landing_plan_free)

enum landing_choice_kind {
	LANDING_CHOICE_MINE = 1,
	LANDING_CHOICE_THEIRS = 2,
	LANDING_CHOICE_FILE = 3
};

struct landing_choice {
	struct bytes path; /* empty = every conflict that no other choice names */
	enum landing_choice_kind kind;
	struct digest file; /* FILE: blob of the content */
	uint64_t file_size;
};

struct landing_layer {
	char name[LANDING_LAYER_NAME_SIZE];
	const struct manifest *manifest; /* borrowed */
	const struct policy_fs *fs; /* of the step that made it; NULL = the run's alone */
};

struct landing_inputs {
	const struct landing_layer *layers; /* the committed stack, bottom first */
	size_t layer_count;
	const struct policy_fs *fs; /* of the run; NULL denies everything */
	const char *workspace; /* absolute: what ${workspace} stands for in every fs */
	const char *const *own; /* Holdfast's own places (own.h), NULL-terminated: nothing lands in
				   them, whatever fs says; NULL = none */
	uint64_t ws_dev, ws_ino;
	int64_t ws_mtime_ns; /* of the workspace's own folder */
	uint32_t uid, gid;
	struct landing_clock clock;
	struct landing_facts *facts;
	/* The plan of this run that was rolled back, or NULL: paths that are as it found them were
	 * looked at by ctime then, and rolling back gave them a new one. */
	const struct landing_plan *last;
	const struct landing_conflict *shown; /* what the choices are bound to */
	size_t shown_count;
	const struct landing_choice *choices;
	size_t choice_count;
};

/* The net change over the base of the stack (manifest_merge), for landing_facts_want and diff. */
MUST_CHECK int landing_net(const struct landing_layer *layers, size_t count, struct manifest **ret,
			   struct error *err);
/* Calls fn with every path whose state landing_plan_make needs, each once, folders before what is
 * in them. entries: the folder is to be removed. Stops at the first non-zero return and forwards
 * it. */
MUST_CHECK int landing_facts_want(const struct manifest *net,
				  int (*fn)(void *arg, struct bytes path, bool digest,
					    bool entries),
				  void *arg);

/* 0 with *ret; it may have conflicts, then it is not to be applied. */
MUST_CHECK int landing_plan_make(const struct landing_inputs *in, struct landing_plan **ret,
				 struct error *err);
/* The undoing of a plan that has landed: every action from after to before, contents from pre-image
 * blobs. Choices (with what they are bound to) are the answers to conflicts of an undoing before:
 * MINE drops the path, THEIRS takes the shown state as the one to replace. Deterministic: the same
 * arguments give the same plan. */
MUST_CHECK int landing_plan_reverse(const struct landing_plan *p,
				    const struct landing_conflict *shown, size_t shown_count,
				    const struct landing_choice *choices, size_t choice_count,
				    struct landing_plan **ret, struct error *err);

MUST_CHECK int landing_plan_encode(const struct landing_plan *p, struct buffer *out);
/* Strict: sorted paths that obey manifest_check_path, states that make sense. -EBADMSG, -E2BIG. */
MUST_CHECK int landing_plan_decode(struct bytes b, struct landing_plan **ret, struct error *err);
/* The part of hidden names that is this plan's own: the first half of its digest. */
void landing_plan_id(struct bytes encoded, char ret[LANDING_ID_SIZE]);

/* A list of conflicts by itself: the blob of JOURNAL_F_conflicts. Decoding gives a plan with
 * nothing but conflicts. */
MUST_CHECK int landing_conflicts_encode(const struct landing_conflict *c, size_t count, bool undo,
					struct buffer *out);
MUST_CHECK int landing_conflicts_decode(struct bytes b, struct landing_plan **ret,
					struct error *err);

/* What a landing did, path by path: the blob of JOURNAL_F_result. */
MUST_CHECK int landing_result_encode(const struct landing_plan *p, const struct digest *plan_blob,
				     struct buffer *out);

/* "policy", "scratch", …; "changed since the run began", …: for cards, status and --json. */
const char *landing_out_why_name(enum landing_out_why w);
const char *landing_conflict_why_text(enum landing_conflict_why w);
/* The line below a PLACE: what stands there (ABSENT: nothing), how many changes lie in the folder,
 * and what follows; refused: why the folder cannot be put back, or NULL. */
void landing_place_text(enum manifest_type now, size_t inside, bool undo, const char *refused,
			char *ret, size_t size);
/* "A", "M", "D", "T" (type replaced) of an action, as git status has them. */
char landing_action_letter(const struct landing_action *a);
