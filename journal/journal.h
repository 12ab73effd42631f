#pragma once
/*
 * The journal: the one door of this room. An append-only log of records (deterministic CBOR,
 * hash-chained per run), a pure fold that turns records into rows, and a RocksDB store that writes
 * one WriteBatch a transition group and syncs what something outside depends on.
 *
 * The pure half (library journal_pure) is record, state and fold: no I/O, clock or globals. The
 * other half (library journal) is store, committer and blobs.
 *
 * journal_fold() is the only code that changes durable state, live and on recovery alike.
 */
#include "base/buffer.h"
#include "base/digest.h"
#include "base/error.h"

enum {
	JOURNAL_FORMAT_VERSION = 1,
	JOURNAL_ID_SIZE = 16,
	JOURNAL_LAYER_NAME_SIZE = 8, /* 7 characters and NUL: mount options are one page */
	JOURNAL_PAYLOAD_MAX = 256 * 1024, /* bytes of one record; larger things go by digest */
	JOURNAL_BLOB_INLINE_MAX = 64 * 1024,
	JOURNAL_BLOB_MAX = 1 << 30,
	JOURNAL_STEPS_MAX = 100000, /* steps of one run */
	JOURNAL_TEXT_MAX = 4096, /* bytes of a TEXT as it is recorded */
	JOURNAL_VOTES_MAX = 64, /* votes of one approval */
	JOURNAL_GRANTS_MAX = 256, /* grants of one run */
	JOURNAL_AGENCY_MAX = 4,
};

struct journal_id {
	uint8_t b[JOURNAL_ID_SIZE]; /* random (UUIDv4, RFC 9562), so that a short prefix names one;
				     * lists are ordered by created_ns. All zero: the daemon's own
				     * chain */
};

#define JOURNAL_ID_TEXT_SIZE 33 /* 32 lowercase hex digits and NUL */
char *journal_id_text(const struct journal_id *id, char *buf);
MUST_CHECK int journal_id_parse(struct bytes text,
				struct journal_id *ret); /* exactly 32 hex digits */
static inline bool journal_id_equal(const struct journal_id *a, const struct journal_id *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* ---- Records
 * ---------------------------------------------------------------------------------------- */

/* Type numbers are never reused. 0x60 to 0x7f are for effects, 0x80 to 0x8f for grants. */
enum journal_type {
	JOURNAL_EPOCH_BEGUN = 0x01, /* daemon chain: a supervisor took the journal */
	JOURNAL_ANCHOR = 0x02, /* daemon chain: heads of all runs, so that truncation shows */
	JOURNAL_TRUST_PINNED = 0x03, /* daemon chain: a project's policy file, by path and digest */
	JOURNAL_LEASE_HELD = 0x04, /* daemon chain */
	JOURNAL_LEASE_FREED = 0x05, /* daemon chain */
	JOURNAL_RUNS_DROPPED =
		0x06, /* daemon chain: gc removed these runs; their last seq and head stay here */

	JOURNAL_RUN_CREATED = 0x10,
	JOURNAL_RUN_STARTED = 0x11, /* CREATED -> RUNNING */
	JOURNAL_RUN_WAITING = 0x12, /* RUNNING -> WAITING, or the set it waits for changed */
	JOURNAL_RUN_CONTINUED = 0x13, /* WAITING -> RUNNING */
	JOURNAL_RUN_PAUSED = 0x14,
	JOURNAL_RUN_RESUMED = 0x15, /* PAUSED -> the state before it */
	JOURNAL_RUN_CANCELLING = 0x16,
	JOURNAL_RUN_CANCELLED = 0x17,
	JOURNAL_RUN_SUCCEEDED = 0x18,
	JOURNAL_RUN_FAILED = 0x19,
	JOURNAL_RUN_AGENCY = 0x1a, /* the dial was turned by a person */

	JOURNAL_STEP_DECLARED = 0x20,
	JOURNAL_STEP_GATED = 0x21,
	JOURNAL_STEP_RUNNABLE = 0x22,
	JOURNAL_STEP_DENIED = 0x23,
	JOURNAL_STEP_BACKOFF = 0x24,
	JOURNAL_STEP_EXHAUSTED = 0x25,
	JOURNAL_STEP_CHECKING = 0x26,
	JOURNAL_STEP_REJECTED = 0x27,
	JOURNAL_STEP_GATED_COMMIT = 0x28,
	JOURNAL_STEP_COMMITTED = 0x29, /* synced */
	JOURNAL_STEP_FAILED = 0x2a,
	JOURNAL_STEP_CANCELLED = 0x2b,
	JOURNAL_STEP_DIVERGED =
		0x2c, /* same key, other input digest: the step stays as it is, the run waits */
	JOURNAL_STEP_REUSED = 0x2d, /* same key, same digest, committed: recorded result returned */
	JOURNAL_STEP_SEALED = 0x2e, /* ACTIVE -> SEALED: layer sealed, manifest digest known */
	JOURNAL_STEP_WAITING = 0x2f,

	JOURNAL_ATTEMPT_STARTED = 0x30, /* new attempt STARTING; step RUNNABLE -> ACTIVE */
	JOURNAL_ATTEMPT_LIVE = 0x31,
	JOURNAL_ATTEMPT_NOT_STARTED = 0x32,
	JOURNAL_ATTEMPT_ADOPTED =
		0x33, /* a later epoch found it running; state unchanged, epoch taken over */
	JOURNAL_ATTEMPT_FROZEN = 0x34,
	JOURNAL_ATTEMPT_THAWED = 0x35,
	JOURNAL_ATTEMPT_EXITED = 0x36,
	JOURNAL_ATTEMPT_TIMED_OUT = 0x37,
	JOURNAL_ATTEMPT_OOM = 0x38,
	JOURNAL_ATTEMPT_KILLED = 0x39, /* by a limit or a person: why says which */
	JOURNAL_ATTEMPT_SUSPENDED = 0x3a,
	JOURNAL_ATTEMPT_LOST = 0x3b,

	JOURNAL_APPROVAL_OPENED = 0x40, /* synced */
	JOURNAL_VOTE_CAST = 0x41, /* synced */
	JOURNAL_APPROVAL_APPROVED = 0x42,
	JOURNAL_APPROVAL_DENIED = 0x43,
	JOURNAL_APPROVAL_EXPIRED = 0x44,
	JOURNAL_APPROVAL_WITHDRAWN = 0x45,
	JOURNAL_APPROVAL_SUPERSEDED = 0x46,
	JOURNAL_APPROVAL_CONSUMED = 0x47, /* in the same batch as the transition that it allows */
	JOURNAL_APPROVAL_LAPSED = 0x48,
	JOURNAL_APPROVAL_REVOKED = 0x49,

	JOURNAL_LANDING_STARTED = 0x50, /* synced; names the blob of the redo plan */
	JOURNAL_LANDED = 0x51, /* synced */
	JOURNAL_LANDING_CONFLICT = 0x52,
	JOURNAL_LANDING_DROPPED = 0x53,
	JOURNAL_UNDO_STARTED = 0x54,
	JOURNAL_UNDONE = 0x55,
	JOURNAL_UNDO_CONFLICT = 0x56,
	JOURNAL_LANDING_FAILED = 0x57, /* it could go neither on nor back: why; the state stays */

	JOURNAL_TIMER_ARMED = 0x58,
	JOURNAL_TIMER_FIRED = 0x59,
	JOURNAL_TIMER_CANCELLED = 0x5a,

	JOURNAL_LANDING_WANTED = 0x5b, /* synced; a person's word that a run that is over lands */

	JOURNAL_EFFECT_PROPOSED = 0x60, /* a new one, or a REFUSED one once more */
	JOURNAL_EFFECT_WAITING = 0x61, /* for a person */
	JOURNAL_EFFECT_ALLOWED = 0x62, /* by its rule, or by the approval it names */
	JOURNAL_EFFECT_DENIED = 0x63,
	JOURNAL_EFFECT_WITHDRAWN = 0x64, /* its step ended, or did not propose it again */
	JOURNAL_EFFECT_RESERVED = 0x65, /* synced: now its first byte may leave */
	JOURNAL_EFFECT_CONFIRMED = 0x66, /* synced: names the response */
	JOURNAL_EFFECT_REFUSED = 0x67, /* proof that it did not happen */
	JOURNAL_EFFECT_IN_DOUBT = 0x68, /* it may have happened */
	JOURNAL_EFFECT_ABANDONED = 0x69, /* a person gave it up */
	JOURNAL_EFFECT_COMPENSATED = 0x6a, /* `other` undid it */
	JOURNAL_EFFECT_DELIVERED = 0x6b, /* the client has the whole response */
	JOURNAL_EFFECT_ATTACHED =
		0x6c, /* proposed again: by this attempt, with this action; state unchanged */
	JOURNAL_EFFECT_READS = 0x6d, /* a batch of plain reads and of what was denied unasked */

	JOURNAL_GRANT_MADE = 0x81, /* synced; a person's word on the next actions of a rule */
	JOURNAL_GRANT_USED = 0x82, /* in the batch of the effect that it allows */
	JOURNAL_GRANT_REVOKED = 0x83, /* synced */
	JOURNAL_APPROVAL_TOLD =
		0x80, /* the command of `notify` ran, or was given up: why says so */
};
enum {
	JOURNAL_TYPE_LIMIT = 0x90
}; /* above every number; no value of the enum, so that switches stay whole */

/*
 * Everything that any record carries, with its CBOR key; which type must and may carry which field
 * is the table in record.c (and holdfast.cddl). Keys are never reused. Kinds: UINT uint64_t, INT
 * int64_t, TEXT/BYTES/RAW struct bytes (borrowed from the record's buffer or its maker), DIGEST,
 * ID, BOOL.
 */
#define JOURNAL_FIELDS(X)                                                                        \
	X(1, name, TEXT) /* run or step name */                                                  \
	X(2, key, TEXT) /* step key: parent/name#n */                                            \
	X(3, plan, DIGEST) /* blob: canonical plan */                                            \
	X(4, policy, DIGEST) /* blob: canonical effective policy of the run */                   \
	X(5, environ, DIGEST) /* blob: filtered environment, canonical */                        \
	X(6, workspace,                                                                          \
	  BYTES) /* absolute path as the client gave it (for people; never reopened blindly) */  \
	X(7, ws_dev, UINT)                                                                       \
	X(8, ws_ino, UINT)                                                                       \
	X(9, ws_uid, UINT)                                                                       \
	X(10, base, UINT) /* enum journal_base */                                                \
	X(11, land, UINT) /* enum journal_land */                                                \
	X(12, agency, UINT) /* 0 observe .. 4 autonomous */                                      \
	X(13, request, BYTES) /* client request id, at most 64 bytes */                          \
	X(14, input,                                                                             \
	  DIGEST) /* input digest of the step; also the blob of its canonical description */     \
	X(15, context, DIGEST) /* policy, contract, agency */                                    \
	X(16, why, TEXT) /* one line for people */                                               \
	X(17, error, INT) /* negative errno */                                                   \
	X(18, exit_code, UINT)                                                                   \
	X(19, signal, UINT)                                                                      \
	X(20, out, DIGEST) /* blob: stdout, capped */                                            \
	X(21, err, DIGEST) /* blob: stderr, capped */                                            \
	X(22, out_size, UINT) /* bytes written by the command, capped or not */                  \
	X(23, err_size, UINT)                                                                    \
	X(24, results, DIGEST) /* blob: canonical map of /run/holdfast/out, name -> digest */    \
	X(25, layer, TEXT) /* layer name */                                                      \
	X(26, manifest, DIGEST) /* blob: sealed manifest */                                      \
	X(27, paths, UINT) /* entries of a manifest, or paths landed */                          \
	X(28, size, UINT) /* bytes of them */                                                    \
	X(29, stack, RAW) /* array of layer names, bottom to top */                              \
	X(30, attempt, UINT) /* attempt number, from 1 */                                        \
	X(31, attempt_id, ID)                                                                    \
	X(32, due_ns, INT) /* CLOCK_REALTIME, nanoseconds */                                     \
	X(33, timer, ID)                                                                         \
	X(34, timer_kind, UINT) /* enum journal_timer_kind */                                    \
	X(35, approval, ID)                                                                      \
	X(36, kind, UINT) /* enum journal_approval_kind */                                       \
	X(37, action, DIGEST) /* action digest: kind, object and the event it stands on */       \
	X(38, card, DIGEST) /* blob: the exact bytes shown (render digest) */                    \
	X(39, decide_by_ns, INT)                                                                 \
	X(40, execute_by_ns, INT)                                                                \
	X(41, decision, UINT) /* enum journal_decision */                                        \
	X(42, choice, TEXT) /* mine, theirs, file, retry, fail, accept, fork */                  \
	X(43, path, BYTES) /* of a conflict, a trust pin */                                      \
	X(44, digest, DIGEST) /* of path's content or another object named by the type */        \
	X(45, waits, UINT) /* bits of enum journal_wait */                                       \
	X(46, cpu_us, UINT)                                                                      \
	X(47, memory_peak, UINT) /* bytes */                                                     \
	X(48, wall_us, UINT)                                                                     \
	X(49, denied, RAW) /* map: what was refused -> count */                                  \
	X(50, generation, UINT) /* lease */                                                      \
	X(51, redo, DIGEST) /* blob: redo plan of a landing or undoing */                        \
	X(52, result,                                                                            \
	  DIGEST) /* blob: what a landing did path by path (landed, left out and why) */         \
	X(53, parent, ID) /* run that this one was forked from */                                \
	X(54, fork_at, TEXT) /* step key */                                                      \
	X(55, started_ns,                                                                        \
	  INT) /* CLOCK_REALTIME_COARSE at the run's start: the clock of file systems */         \
	X(56, uncharged, BOOL) /* does not count toward the retry budget */                      \
	X(57, heads, RAW) /* array of [run id, seq, digest], by id */                            \
	X(58, conflicts, DIGEST) /* blob: conflicting paths with the base hash that was shown */ \
	X(59, feedback, DIGEST) /* blob: what a failed check says to the next attempt */         \
	X(60, index, UINT) /* position of a step in its plan */                                  \
	X(61, holder, ID) /* run that holds a lease */                                           \
	X(62, weaker,                                                                            \
	  UINT) /* enum sandbox_weaker: limits and walls enforced in their weaker form */        \
	X(63, principal, TEXT) /* uid:N, or a signer */                                          \
	X(64, auth, TEXT) /* how it was authenticated: peercred, ssh-signature */                \
	X(65, version, TEXT) /* of the program that began an epoch */                            \
	X(66, same_failure, UINT) /* equal failures in a row */                                  \
	X(67, failure, DIGEST) /* signature of a failure, to tell equal ones */                  \
	X(68, effect, ID)                                                                        \
	X(69, occurrence, UINT) /* of this identity in the step, from 1 */                       \
	X(70, identity, DIGEST) /* of the action, without what its rule ignores */               \
	X(71, canonical, DIGEST) /* blob: the canonical action (effect-action) */                \
	X(72, body, DIGEST) /* blob: the request's body */                                       \
	X(73, before, DIGEST) /* blob: the canonical action that this one stands instead of */   \
	X(74, action_kind, UINT) /* enum action_kind */                                          \
	X(75, class, UINT) /* enum journal_class */                                              \
	X(76, retry, UINT) /* enum journal_retry */                                              \
	X(77, window_ms, UINT) /* keyed: how long the other side keeps the key */                \
	X(78, header, TEXT) /* keyed: where the key goes */                                      \
	X(79, probe, TEXT) /* tool that asks whether it happened */                              \
	X(80, rule, TEXT) /* id of the rule that decided */                                      \
	X(81, at, TEXT) /* file:line:column of it */                                             \
	X(82, secret, TEXT) /* name of the credential that was put in */                         \
	X(83, claim, TEXT) /* the agent's own reason: nobody checked it */                       \
	X(84, title, TEXT) /* verb and destination, one line */                                  \
	X(85, status, UINT) /* of the response */                                                \
	X(86, response, DIGEST) /* blob: effect-response: status and headers */                  \
	X(87, response_body, DIGEST) /* blob */                                                  \
	X(88, too_long, BOOL) /* the response's body was past the limit, and is not kept */      \
	X(89, sent, UINT) /* bytes of bodies */                                                  \
	X(90, received, UINT)                                                                    \
	X(91, courier, ID) /* instance that was told to send */                                  \
	X(92, other, ID) /* effect that undid this one */                                        \
	X(93, reads, RAW) /* effect-reads */                                                     \
	X(94, number, UINT) /* the courier's own, of the request that was told to send */        \
	X(95, dropped, TEXT) /* names of request headers that were not passed on */              \
	X(100, proof, DIGEST) /* blob: a signed vote: what was signed, and the signature */      \
	X(101, signed_ns, INT) /* wall time in a signed vote */                                  \
	X(102, shown_ms, UINT) /* how long the voter's client showed the card */                 \
	X(103, told, UINT) /* bits of enum journal_told */                                       \
	X(104, grant, ID)                                                                        \
	X(105, pattern, DIGEST) /* blob: what a grant covers, the JSON of a `match` */           \
	X(106, uses, UINT) /* how often a grant may be used */                                   \
	X(107, expires_ns, INT) /* wall time; of a grant */                                      \
	X(108, refused, UINT) /* how many of `reads` were denied */

enum journal_field {
#define X(num, name, kind) JOURNAL_F_##name = num,
	JOURNAL_FIELDS(X)
#undef X
		JOURNAL_FIELD_LIMIT = 128,
};

struct journal_payload {
#define JOURNAL_T_UINT	   uint64_t
#define JOURNAL_T_INT	   int64_t
#define JOURNAL_T_TEXT	   struct bytes
#define JOURNAL_T_BYTES	   struct bytes
#define JOURNAL_T_RAW	   struct bytes
#define JOURNAL_T_DIGEST   struct digest
#define JOURNAL_T_ID	   struct journal_id
#define JOURNAL_T_BOOL	   bool
#define X(num, name, kind) JOURNAL_T_##kind name;
	JOURNAL_FIELDS(X)
#undef X
	uint64_t has[2]; /* bit num set: the field is present */
};

#define JOURNAL_HAS(p, field) (((p)->has[JOURNAL_F_##field / 64] >> (JOURNAL_F_##field % 64)) & 1)
/* JOURNAL_SET(&rec.p, exit_code, 3): sets the field and its bit. */
#define JOURNAL_SET(p, field, value)                                                  \
	do {                                                                          \
		(p)->field = (value);                                                 \
		(p)->has[JOURNAL_F_##field / 64] |= 1ull << (JOURNAL_F_##field % 64); \
	} while (0)

enum journal_actor {
	JOURNAL_ACTOR_SUPERVISOR = 0,
	JOURNAL_ACTOR_KEEPER = 1,
	JOURNAL_ACTOR_PERSON = 2
};

struct journal_record {
	/* Filled by journal_append: */
	uint64_t lsn; /* global, gapless, from 1 */
	uint64_t seq; /* in its run, from 1 */
	uint64_t epoch;
	int64_t wall_ns;
	uint8_t boot_id[16];
	int64_t mono_ns; /* CLOCK_BOOTTIME */
	struct digest prev_hash; /* hash of the run's record before; zero for the first */
	/* Filled by the maker: */
	struct journal_id run; /* all zero: the daemon's chain */
	uint32_t step; /* index in the run; JOURNAL_NO_STEP where it is about none */
	uint32_t attempt; /* number; 0 where it is about none */
	enum journal_type type;
	enum journal_actor actor;
	uint32_t actor_uid;
	struct journal_payload p;
};

#define JOURNAL_NO_STEP UINT32_MAX

const char *journal_type_name(
	enum journal_type type); /* "STEP_COMMITTED"; NULL for an unknown number */
bool journal_type_synced(
	enum journal_type type); /* must be on disk before anything that depends on it leaves */
MUST_CHECK int journal_record_encode(const struct journal_record *r, struct buffer *out);
/* Borrowed from b. Unknown keys are kept out of *ret and are still hashed (hash is over b).
 * -EBADMSG, -ENOTSUP (unknown type). */
MUST_CHECK int journal_record_decode(struct bytes b, struct journal_record *ret);
void journal_record_hash(struct bytes encoded, struct digest *ret); /* domain "holdfast.record" */

/* ---- States. The table [STATE][EVENT] of each is in state.c; any other transition aborts. ---- */

/*
 * Run. should = what holds while it is in this state, must not = what its owner may never do in it.
 *
 * CREATED     its plan, policy and environment are on disk; nothing was started. Must not have an
 *             attempt.
 * RUNNING     at least one step can move without a person or a clock. paused_from is meaningless.
 * WAITING     nothing moves before one of `waits` (bits of enum journal_wait, never 0) is answered.
 * PAUSED      a person or a crash loop stopped it; paused_from is where RESUMED leads. Live
 *             attempts may end and are recorded; no attempt may start.
 * CANCELLING  no attempt may start, no effect may be reserved; ends as CANCELLED when every attempt
 *             has ended.
 * CANCELLED, SUCCEEDED, FAILED  final: no step, attempt or run record follows but REUSED and
 *             DIVERGED (a driver asked again); landing, undoing and their approvals may.
 */
enum journal_run_state {
	JOURNAL_RUN_S_CREATED,
	JOURNAL_RUN_S_RUNNING,
	JOURNAL_RUN_S_WAITING,
	JOURNAL_RUN_S_PAUSED,
	JOURNAL_RUN_S_CANCELLING,
	JOURNAL_RUN_S_CANCELLED, /* final */
	JOURNAL_RUN_S_SUCCEEDED, /* final */
	JOURNAL_RUN_S_FAILED, /* final */
	JOURNAL_RUN_S_COUNT
};

enum journal_wait {
	JOURNAL_WAIT_APPROVAL = 1,
	JOURNAL_WAIT_TIMER = 2,
	JOURNAL_WAIT_DOUBT = 4,
	JOURNAL_WAIT_CONFLICT = 8,
	JOURNAL_WAIT_EXHAUSTED = 16,
	JOURNAL_WAIT_DIVERGED = 32,
	JOURNAL_WAIT_LEASE = 64,
};

/*
 * Landing: what became of the run's stack in the user's directory. Starts UNLANDED with the run.
 *
 * UNLANDED  the directory has nothing of the run.
 * LANDING   the redo plan is on disk; the directory is anything between before and after. Only redo
 *           may touch it.
 * CONFLICT  what this landing (or, with conflict_undo, undoing) exchanged is exchanged back; an
 *           item names the paths.
 * LANDED    every path that was to land has; pre-images are kept as blobs.
 * DROPPED   a person decided that it shall not land. Final.
 * UNDOING   as LANDING, with the pre-images as target.
 * UNDONE    the directory is as before the landing but for what others changed since. Final.
 *
 * LANDING_FAILED leads back to the state it found: nothing goes on there before a person says so,
 * or, half applied, a supervisor starts. run.landing_failed says why until something goes on.
 *
 * LANDING_WANTED leads back to UNLANDED: of a run that is over, a person said that it lands.
 * run.landing_wanted holds until the landing starts, meets a conflict, is dropped or fails.
 */
enum journal_landing_state {
	JOURNAL_LANDING_S_UNLANDED,
	JOURNAL_LANDING_S_LANDING,
	JOURNAL_LANDING_S_CONFLICT, /* with run.conflict_undo: of an undoing */
	JOURNAL_LANDING_S_LANDED,
	JOURNAL_LANDING_S_DROPPED,
	JOURNAL_LANDING_S_UNDOING,
	JOURNAL_LANDING_S_UNDONE,
	JOURNAL_LANDING_S_COUNT
};

/*
 * Step.
 *
 * DECLARED     its needs are COMMITTED, its input digest is known; the policy has not decided.
 * GATED        `approval` is open: a person before the step starts.
 * RUNNABLE     may start as soon as the run's turn comes. Has no attempt that lives.
 * ACTIVE       its last attempt is STARTING, LIVE, FROZEN, or ended and not yet judged. Exactly one
 *              attempt lives.
 * WAITING      its attempt was suspended, or an effect is in doubt: nothing lives, a decision
 *              starts it again.
 * BACKOFF      it may start again at due_ns.
 * SEALED       its last attempt EXITED and `layer` is sealed and hashed (or empty).
 * CHECKING     a checker looks at exactly that layer.
 * REJECTED     the check failed, or a person refused the commit; `feedback` is the next attempt's
 *              input.
 * GATED_COMMIT `approval` is open: a person before the commit.
 * EXHAUSTED    retries are used up; a person decides.
 * COMMITTED    final: never executed again; its result is returned byte for byte.
 * DENIED, FAILED, CANCELLED  final: its dependents are cancelled.
 */
enum journal_step_state {
	JOURNAL_STEP_S_DECLARED,
	JOURNAL_STEP_S_GATED,
	JOURNAL_STEP_S_RUNNABLE,
	JOURNAL_STEP_S_ACTIVE,
	JOURNAL_STEP_S_WAITING,
	JOURNAL_STEP_S_BACKOFF,
	JOURNAL_STEP_S_SEALED,
	JOURNAL_STEP_S_CHECKING,
	JOURNAL_STEP_S_REJECTED,
	JOURNAL_STEP_S_GATED_COMMIT,
	JOURNAL_STEP_S_EXHAUSTED,
	JOURNAL_STEP_S_COMMITTED, /* final */
	JOURNAL_STEP_S_DENIED, /* final */
	JOURNAL_STEP_S_FAILED, /* final */
	JOURNAL_STEP_S_CANCELLED, /* final */
	JOURNAL_STEP_S_COUNT
};

/*
 * Attempt. A report of another epoch or number than the row's is refused by its caller and never
 * recorded.
 *
 * STARTING     the keeper was asked; whether anything runs is not known.
 * LIVE         its pid 1 runs and holds the attempt's lock.
 * FROZEN       LIVE, and its cgroup is frozen while a person decides.
 * NOT_STARTED  the keeper refused, `why` says so: nothing ran.
 * EXITED       its command ended by itself; its layer is whole until LOST says otherwise.
 * TIMED_OUT, OOM, KILLED  it was ended; its layer is thrown away.
 * SUSPENDED    ended without charge, so that a long wait holds no process.
 * LOST         keeper or machine died, or an exited one's layer did not survive; nothing of it
 *              counts.
 */
enum journal_attempt_state {
	JOURNAL_ATTEMPT_S_STARTING,
	JOURNAL_ATTEMPT_S_LIVE,
	JOURNAL_ATTEMPT_S_FROZEN,
	JOURNAL_ATTEMPT_S_NOT_STARTED,
	JOURNAL_ATTEMPT_S_EXITED, /* may still become LOST: its layer did not survive */
	JOURNAL_ATTEMPT_S_TIMED_OUT,
	JOURNAL_ATTEMPT_S_OOM,
	JOURNAL_ATTEMPT_S_KILLED,
	JOURNAL_ATTEMPT_S_SUSPENDED,
	JOURNAL_ATTEMPT_S_LOST,
	JOURNAL_ATTEMPT_S_COUNT
};

/*
 * Approval.
 *
 * OPEN        waits for votes until decide_by_ns.
 * APPROVED    may be consumed until execute_by_ns, once, by the transition whose digest is
 *             `action`.
 * DENIED, EXPIRED, WITHDRAWN, SUPERSEDED  final: the object does not go on by it.
 * CONSUMED    final: in the same batch as what it allowed.
 * LAPSED, REVOKED  final: approved, never carried out.
 */
enum journal_approval_state {
	JOURNAL_APPROVAL_S_OPEN,
	JOURNAL_APPROVAL_S_APPROVED,
	JOURNAL_APPROVAL_S_DENIED,
	JOURNAL_APPROVAL_S_EXPIRED,
	JOURNAL_APPROVAL_S_WITHDRAWN,
	JOURNAL_APPROVAL_S_SUPERSEDED,
	JOURNAL_APPROVAL_S_CONSUMED,
	JOURNAL_APPROVAL_S_LAPSED,
	JOURNAL_APPROVAL_S_REVOKED,
	JOURNAL_APPROVAL_S_COUNT
};

enum journal_approval_kind {
	JOURNAL_KIND_STEP_GATE = 1,
	JOURNAL_KIND_STEP_COMMIT = 2,
	JOURNAL_KIND_LANDING = 3,
	JOURNAL_KIND_CONFLICT = 4,
	JOURNAL_KIND_EXHAUSTED = 5,
	JOURNAL_KIND_DIVERGED = 6,
	JOURNAL_KIND_EFFECT = 7, /* object: blob of the canonical action */
	JOURNAL_KIND_DOUBT = 8, /* object: the same */
};

/*
 * Effect: anything a step does outside its sandbox, but plain reads.
 *
 * PROPOSED    its canonical action is on disk; the policy's word is known, nothing followed yet.
 * WAITING     for a person: `approval`, once its card is rendered. Nothing was sent.
 * ALLOWED     may be RESERVED as soon as a client asks for it. `approval` (if any) is APPROVED.
 * DENIED, WITHDRAWN  final: nothing was sent, nothing will be.
 * RESERVED    on disk before the first byte leaves; the courier `courier` was told to send. Its
 *             outcome, or IN_DOUBT, follows; nothing else may. Its approval is CONSUMED.
 * CONFIRMED   the response is known and returned to whoever asks again; never sent again.
 * REFUSED     it did not happen, and that is known. May be PROPOSED again.
 * IN_DOUBT    it may have happened. `retry` says what may be done; the step cannot be committed.
 * ABANDONED   final: a person gave it up without knowing.
 * COMPENSATED final: it happened and was undone.
 */
enum journal_effect_state {
	JOURNAL_EFFECT_S_PROPOSED,
	JOURNAL_EFFECT_S_WAITING,
	JOURNAL_EFFECT_S_ALLOWED,
	JOURNAL_EFFECT_S_DENIED, /* final */
	JOURNAL_EFFECT_S_WITHDRAWN, /* final */
	JOURNAL_EFFECT_S_RESERVED,
	JOURNAL_EFFECT_S_CONFIRMED,
	JOURNAL_EFFECT_S_REFUSED,
	JOURNAL_EFFECT_S_IN_DOUBT,
	JOURNAL_EFFECT_S_ABANDONED, /* final */
	JOURNAL_EFFECT_S_COMPENSATED, /* final */
	JOURNAL_EFFECT_S_COUNT
};

/* What undoing it costs; the numbers are policy's `effect:` in rising order of care. */
enum journal_class {
	JOURNAL_CLASS_READ,
	JOURNAL_CLASS_REVERSIBLE,
	JOURNAL_CLASS_UNKNOWN,
	JOURNAL_CLASS_IRREVERSIBLE,
	JOURNAL_CLASS_COUNT
};

/* What may be done when its outcome is not known. */
enum journal_retry {
	JOURNAL_RETRY_NEVER, /* a person says */
	JOURNAL_RETRY_SAFE, /* send again */
	JOURNAL_RETRY_KEYED, /* send again with the same key, inside its window */
	JOURNAL_RETRY_PROBE, /* ask the tool */
	JOURNAL_RETRY_COUNT
};

/* What of an approval the people of `notify` were told. */
enum journal_told {
	JOURNAL_TOLD_OPENED = 1,
	JOURNAL_TOLD_EXPIRING = 2,
	JOURNAL_TOLD_DECIDED = 4,
};

enum journal_decision { JOURNAL_DECISION_APPROVE = 1, JOURNAL_DECISION_DENY = 2 };
/* Timer. ARMED: fires once at due_ns (absolute wall time), also when that passed while nobody ran.
 * FIRED, CANCELLED: final. */
enum journal_timer_state {
	JOURNAL_TIMER_S_ARMED,
	JOURNAL_TIMER_S_FIRED,
	JOURNAL_TIMER_S_CANCELLED,
	JOURNAL_TIMER_S_COUNT
};
enum journal_timer_kind {
	JOURNAL_TIMER_BACKOFF = 1,
	JOURNAL_TIMER_STEP_DEADLINE = 2,
	JOURNAL_TIMER_DECIDE_BY = 3,
	JOURNAL_TIMER_EXECUTE_BY = 4,
	JOURNAL_TIMER_FREEZE = 5, /* of a step: its attempt has waited for a person this long */
	JOURNAL_TIMER_SUSPEND = 6,
	JOURNAL_TIMER_KEY_WINDOW = 7, /* of a step: an idempotency key of it is not safe any more */
};
enum journal_land { JOURNAL_LAND_AUTO, JOURNAL_LAND_ASK, JOURNAL_LAND_NEVER };
enum journal_base { JOURNAL_BASE_LIVE, JOURNAL_BASE_PINNED };

const char *journal_run_state_name(enum journal_run_state s);
const char *journal_landing_state_name(enum journal_landing_state s);
const char *journal_step_state_name(enum journal_step_state s);
const char *journal_attempt_state_name(enum journal_attempt_state s);
const char *journal_approval_state_name(enum journal_approval_state s);
const char *journal_approval_kind_name(
	enum journal_approval_kind k); /* "step-gate", "landing", ... */
const char *journal_wait_name(enum journal_wait w);
const char *journal_effect_state_name(enum journal_effect_state s);
const char *journal_class_name(enum journal_class c); /* "irreversible" */
const char *journal_retry_name(enum journal_retry r); /* "keyed" */
/* It waits, is allowed, was sent, or nobody knows: it holds up its step or its run. */
bool journal_effect_open(enum journal_effect_state s);
bool journal_step_final(enum journal_step_state s);
bool journal_run_final(enum journal_run_state s);

/* ---- Rows: what the fold keeps. All memory is owned by the struct journal_state. ---- */

struct journal_attempt {
	uint32_t number; /* from 1 */
	enum journal_attempt_state state;
	struct journal_id id;
	uint64_t epoch; /* of the supervisor that started or adopted it last */
	char layer[JOURNAL_LAYER_NAME_SIZE];
	uint8_t boot_id[16];
	int64_t started_ns, started_mono_ns, ended_ns; /* wall, boottime, wall; 0 = not yet */
	bool uncharged;
	bool suspending; /* it is being ended so that a long wait holds no process */
	uint64_t exit_code, signal;
	char *why; /* may be NULL */
	struct digest out, err, results; /* blobs; zero = none */
	uint64_t out_size, err_size, cpu_us, memory_peak, wall_us, weaker;
};

struct journal_step {
	uint32_t index; /* in run.steps: the order of declaration */
	uint32_t position; /* in its plan; = index where the record does not say */
	char *key, *name;
	enum journal_step_state state;
	struct digest input, context; /* input: also the blob of its canonical description */
	struct digest diverged; /* the other digest, while a diverged item is open; else zero */
	struct journal_attempt *attempts;
	uint32_t attempt_count;
	uint32_t charged; /* ended attempts that count toward retry.max: not LOST, SUSPENDED or
			     `uncharged` ones */
	uint32_t lost; /* LOST attempts in a row, or checkers of a sealed one; own cap */
	uint32_t same_failure;
	struct digest failure;
	int64_t declared_ns, deadline_ns, due_ns; /* deadline 0 = none; due_ns of BACKOFF */
	struct journal_id approval; /* the open or approved item it waits on; zero = none */
	char layer[JOURNAL_LAYER_NAME_SIZE]; /* sealed or committed; "" = it changed nothing */
	struct digest manifest;
	uint64_t layer_paths, layer_bytes;
	struct digest feedback; /* of the last rejection */
	uint64_t committed_lsn;
	uint64_t
		state_lsn; /* of what brought it where it is: its own record, or its attempt's end */
	uint64_t diverged_lsn; /* of the record that `diverged` is from */
	char *why;
};

struct journal_effect {
	struct journal_id id, run;
	uint32_t number; /* in run.effects: the order in which they were first proposed */
	uint32_t step, attempt; /* attempt: the last one that proposed it */
	uint32_t occurrence; /* of (step, identity), from 1 */
	enum journal_effect_state state;
	uint32_t action_kind; /* enum action_kind */
	enum journal_class class;
	enum journal_retry retry;
	struct digest action, identity; /* structured digests */
	struct digest canonical, body, before; /* blobs; zero = none */
	struct digest response, response_body; /* blobs; zero = none */
	bool too_long, delivered;
	uint64_t window_ms, status, sent, received;
	int64_t proposed_ns, reserved_ns, ended_ns; /* 0 = not yet; reserved_ns: the first time */
	uint64_t reserved_lsn, outcome_lsn; /* the events that prove it; 0 = none */
	uint64_t state_lsn; /* of the record that brought it into its state */
	struct journal_id approval; /* that it waits for or was allowed by; zero = none */
	struct journal_id doubt; /* item that asks what became of it */
	struct journal_id courier, other;
	uint64_t request; /* the courier's own number of the one that was told to send */
	char *title, *rule, *at, *header, *probe, *secret, *claim, *why;
	char *dropped; /* names of request headers that were not passed on */
	char *by; /* principal that said what became of it */
	struct journal_effect *next_by_id; /* of its bucket */
};

/*
 * A person's word on actions to come of one rule in one run (or one step of it): let them, as far
 * as the pattern, the uses and the time go; or deny them all. `standing` of the policy becomes one
 * when it is first used. It ends by itself when uses are 0 or expires_ns has passed.
 */
struct journal_grant {
	struct journal_id id, approval; /* approval: where it was given; zero = standing */
	uint32_t step; /* JOURNAL_NO_STEP: of the run */
	bool deny, revoked;
	struct digest pattern; /* blob; zero: all of the rule */
	uint64_t uses; /* left */
	int64_t made_ns, expires_ns; /* expires_ns 0 = with the run */
	char *rule, *at, *by, *why; /* owned; at: of the `standing`, else NULL */
};

struct journal_run {
	struct journal_id id;
	char *name; /* may be NULL */
	enum journal_run_state state, paused_from;
	unsigned waits; /* bits of enum journal_wait */
	enum journal_landing_state landing;
	bool conflict_undo;
	enum journal_land land;
	enum journal_base base;
	unsigned agency;
	struct digest plan, policy, environ, context;
	char *workspace;
	uint64_t ws_dev, ws_ino, ws_uid;
	uint32_t uid; /* who started it */
	struct bytes request; /* owned */
	int64_t created_ns, started_ns, ended_ns; /* started_ns: CLOCK_REALTIME_COARSE */
	uint8_t boot_id[16];
	int64_t created_mono_ns;
	struct journal_step **steps; /* by index, dense: a STEP_DECLARED names step = step_count */
	uint32_t step_count;
	struct journal_id parent;
	char *fork_at;
	struct journal_id landing_approval; /* LANDING or CONFLICT item */
	uint64_t landing_lsn; /* of the record that brought the landing into its state; 0 = none */
	struct digest redo, landing_result, conflicts;
	char *why;
	char *landing_failed; /* why planning, landing or undoing cannot go on; NULL: it can */
	bool landing_wanted; /* a person said that it lands, and it has not begun */
	uint64_t seq; /* of its last record */
	struct digest head; /* hash of its last record */
	struct journal_grant *grants;
	uint32_t grant_count;
	uint32_t starts_without_progress; /* epochs begun while RUNNING since something of it last
					     ended or was adopted */
	struct journal_effect **effects; /* by number, dense */
	uint32_t effect_count;
	struct journal_effect **open; /* those that journal_effect_open(), by number */
	uint32_t open_count;
	uint64_t reads; /* plain reads, and what was denied unasked */
	uint64_t refused; /* of them: denied */
};
/*
 * How over a run is. `final`: no step of it follows; effects may be open, and it may land, be undone
 * or wait for a person. `at rest`: nothing of that either. `settled`: nor is there a landing that
 * failed and that nobody gave up: it needs no rows in memory, and a collection may drop it.
 */
bool journal_run_at_rest(const struct journal_run *run);
bool journal_run_settled(const struct journal_run *run);

struct journal_vote {
	char *principal, *auth, *reason;
	enum journal_decision decision;
	char *choice;
	struct digest card;
	int64_t at_ns;
	struct bytes path; /* owned; CONFLICT: the one path that it answers; empty = all that no
			      other vote names */
	struct digest file; /* CONFLICT, choice "file": blob of the content */
	struct digest proof; /* of a signed vote: blob; zero = it came over the socket alone */
	int64_t signed_ns; /* wall time that was signed; 0 = none */
	uint64_t shown_ms; /* how long the client showed the card; 0 = not said */
};

struct journal_approval {
	struct journal_id id, run;
	uint32_t step; /* JOURNAL_NO_STEP for run-wide ones */
	enum journal_approval_kind kind;
	enum journal_approval_state state;
	struct digest action, card,
		object; /* object: blob, kind's own (conflicts list, input difference, action) */
	struct journal_id effect; /* of EFFECT and DOUBT */
	uint64_t opened_lsn;
	int64_t opened_ns, decide_by_ns, execute_by_ns;
	struct journal_vote *votes;
	uint32_t vote_count;
	uint32_t told; /* bits of enum journal_told */
	char *choice; /* decided */
	char *why;
};

struct journal_timer {
	struct journal_id id, run;
	uint32_t step;
	enum journal_timer_kind kind;
	enum journal_timer_state state;
	int64_t due_ns; /* absolute wall time */
	struct journal_id approval; /* of DECIDE_BY and EXECUTE_BY */
};

struct journal_lease {
	uint64_t ws_dev, ws_ino, generation;
	bool held;
	struct journal_id holder;
};

struct journal_trust {
	char *path;
	struct digest digest;
	uint32_t uid;
	int64_t at_ns;
};

/* ---- State and fold (pure) ---- */

struct journal_state; /* opaque, owned: the rows that are in memory */
struct journal_state *journal_state_new(void); /* NULL when out of memory */
void journal_state_free(struct journal_state *s);

/*
 * Fills lsn, seq, epoch (but an EPOCH_BEGUN's own) and prev_hash of r from the state, so that it is
 * what fold takes next. journal_append() does it; pure callers without a store do it themselves.
 */
void journal_state_fill(const struct journal_state *s, struct journal_record *r);
/*
 * Applies one record. hash is the record's own. 0; -EPROTO with *err and nothing changed if the
 * transition is not in the tables, the record is not the next of its chain, or the row it speaks of
 * is not there (the caller in the supervisor aborts, fsck reports); -ENOMEM, after which the state
 * is only good for journal_state_free().
 */
MUST_CHECK int journal_fold(struct journal_state *s, const struct journal_record *r,
			    const struct digest *hash, struct error *err);

/* Rows are borrowed and const. Runs, steps, effects, approvals and timers stay where they are until
 * they leave memory; arrays inside them (attempts, votes) and their strings are valid until the
 * next fold. NULL = not there (or not loaded). */
const struct journal_run *journal_state_run(const struct journal_state *s,
					    const struct journal_id *id);
const struct journal_approval *journal_state_approval(const struct journal_state *s,
						      const struct journal_id *id);
const struct journal_lease *journal_state_lease(const struct journal_state *s, uint64_t dev,
						uint64_t ino);
/* Whether it may still be used at that time. */
bool journal_grant_holds(const struct journal_grant *g, int64_t now_ns);
/* Whose attempt it is, and which; NULL = none of the run, which may be NULL itself. ret_attempt may
 * be NULL. */
const struct journal_step *journal_run_step_of(const struct journal_run *run,
					       const struct journal_id *attempt,
					       uint32_t *ret_attempt);
/* Something of the step (JOURNAL_NO_STEP: of the run) was sent and has no outcome; with doubt: or
 * nobody knows it. */
bool journal_effect_blocks(const struct journal_run *run, uint32_t step, bool doubt);
const struct journal_trust *journal_state_trust(const struct journal_state *s, const char *path);
const struct journal_effect *journal_state_effect(const struct journal_state *s,
						  const struct journal_id *id);
/* The effects of a step with this identity, by occurrence; borrowed until the next fold. Returns
 * how many. */
size_t journal_state_effects_same(const struct journal_state *s, const struct journal_id *run,
				  uint32_t step, const struct digest *identity,
				  const struct journal_effect *const **ret);
const struct journal_run *journal_state_run_by_request(const struct journal_state *s,
						       struct bytes request);
/* Walks: return 0 to go on; the first other value stops the walk and is returned. Runs by
 * created_ns, approvals by opened_ns (oldest first), timers that are ARMED by due_ns. fn must not
 * fold. */
int journal_state_each_run(const struct journal_state *s,
			   int (*fn)(const struct journal_run *, void *), void *arg);
int journal_state_each_approval(const struct journal_state *s,
				int (*fn)(const struct journal_approval *, void *), void *arg);
int journal_state_each_timer(const struct journal_state *s,
			     int (*fn)(const struct journal_timer *, void *), void *arg);
uint64_t journal_state_epoch(const struct journal_state *s);

/* ---- The store (impure) ---- */

struct journal; /* opaque, owned. One per process; not thread-safe but for the committer it runs
		   itself */

enum {
	JOURNAL_RESERVE_DEFAULT = 64 << 20, /* bytes */
	JOURNAL_RESERVE_FILE =
		16 << 20, /* preallocated, given up so that outcomes can still be recorded */
	JOURNAL_ANCHOR_EVERY = 1024, /* events */
};

struct journal_clock { /* given by the caller: this room reads no clock */
	int64_t (*wall_ns)(void);
	int64_t (*mono_ns)(void); /* CLOCK_BOOTTIME */
	uint8_t boot_id[16];
};

struct journal_options {
	int dirfd; /* v1/ of the state directory; borrowed during open, duplicated; unused in memory
		    */
	bool in_memory; /* the second store behind the same interface: for tests */
	bool read_only; /* verify, export: beside each other, never beside a writer */
	bool unloaded; /* no rows are read or compared: for verify, fsck and export of a journal
			  that may be damaged */
	uint64_t reserve_bytes; /* of free space below which journal_space_low() is true; 0 =
				   JOURNAL_RESERVE_DEFAULT */
	uint32_t anchor_every; /* events between two anchors; 0 = JOURNAL_ANCHOR_EVERY */
	struct journal_clock clock;
	/* Called once, with what happened, before the process aborts (illegal transition, write or
	 * sync error). From any thread. NULL: the message goes to standard error. */
	void (*fatal)(const struct error *err);
};

/* -EBUSY (exit CONFLICT): another process has it open. -ENOTSUP: a format newer than known. -EUCLEAN: damage that
 * names synced records (remedy in *err: restore). Recovery: open.c. Rows of runs that are not final
 * are in memory afterwards; others are loaded by journal_load_run(). */
MUST_CHECK int journal_open(const struct journal_options *o, struct journal **ret,
			    struct error *err);
void journal_close(struct journal *j); /* writes and syncs what is queued; accepts NULL */
/* What recovery had to do that a person should know ("the last 2 unacknowledged ... were torn");
 * NULL: nothing. */
const char *journal_recovery_note(const struct journal *j);
const struct journal_state *journal_rows(const struct journal *j);
/* Reads the rows of an ended run into memory. -ENOENT. Stays until journal_drop_final() is called
 * (by the daemon when idle) or a collection drops the run. */
MUST_CHECK int journal_load_run(struct journal *j, const struct journal_id *id, struct error *err);
/* Whether somebody holds the rows of this run, which then stay. NULL: nobody holds any. */
typedef bool journal_keep_fn(const struct journal_id *run, void *arg);
/*
 * Takes the rows of settled runs out of memory, but for those that are kept.
 *
 * Who may hold a row from one turn of the loop to the next: rows of a run that is not settled never
 * go, so whoever works on one may. Of a settled run nothing in the rows says that somebody is about
 * to go on with it: the undoing of an effect is not recorded before its tool has ended. Whoever
 * begins such a thing says so when `keep` asks, from then until its record is made; the daemon asks
 * them all (daemon_holds). All others keep the id, look it up again in their own turn, and find that
 * it may be gone.
 */
void journal_drop_final(struct journal *j, journal_keep_fn *keep, void *arg);
/* For a caller whose journal_load_run() brought it into memory, and before anyone else may have a
 * pointer into it: its rows go again, unless some are to be written still. */
void journal_unload_run(struct journal *j, const struct journal_id *id);
/* Ids of all runs, newest first. Returns how many were stored (at most max), or negative errno. */
MUST_CHECK int journal_list_runs(struct journal *j, size_t max, struct journal_id *ret);
/* The same in order of id, those behind `after`; NULL = from the first. */
MUST_CHECK int journal_list_runs_after(struct journal *j, const struct journal_id *after,
				       size_t max, struct journal_id *ret);
MUST_CHECK int journal_find_run(struct journal *j, const char *hex_prefix_or_name,
				struct journal_id *ret, struct error *err); /* -ENOENT, -ENOTUNIQ */
/* The run that a client's request id created, loaded or not. -ENOENT. */
MUST_CHECK int journal_find_request(struct journal *j, struct bytes request,
				    struct journal_id *ret);
/* An approval by a prefix of its id, and its run, loaded or not. -ENOENT, -ENOTUNIQ. */
MUST_CHECK int journal_find_approval(struct journal *j, const char *hex_prefix,
				     struct journal_id *ret, struct journal_id *ret_run,
				     struct error *err);
/* An effect by a prefix of its id, and its run, loaded or not. -ENOENT, -ENOTUNIQ. */
MUST_CHECK int journal_find_effect(struct journal *j, const char *hex_prefix,
				   struct journal_id *ret, struct journal_id *ret_run,
				   struct error *err);
int journal_epoch_begin(struct journal *j, uint64_t keeper_epoch, const char *version,
			struct error *err) MUST_CHECK;

/*
 * Appends: fills the record's head, folds it into memory at once and queues it for the committer.
 * All records appended between two calls of journal_flush() are one WriteBatch (so "in the same
 * batch" is by construction). An illegal transition aborts the process. *ret_lsn may be NULL.
 * A TEXT may be anything: bytes that are no UTF-8 are recorded escaped, and what is longer than
 * JOURNAL_TEXT_MAX is cut at a character. r then holds what was recorded, until the next call.
 */
void journal_append(struct journal *j, struct journal_record *r, uint64_t *ret_lsn);
/* Ends the batch and wakes the committer; sync: it must be on disk before it is acknowledged
 * (implied by a record of a type that is always synced). When nothing is pending, sync asks for
 * what was written unsynced before. */
void journal_flush(struct journal *j, bool sync);
/* Readable when journal_durable_lsn() has moved. A write or fsync error aborts the process: fsync
 * is never tried again. */
int journal_event_fd(const struct journal *j);
uint64_t journal_durable_lsn(
	struct journal *j); /* everything up to here survives a power cut; clears the event fd */
uint64_t journal_last_lsn(const struct journal *j);
MUST_CHECK int journal_wait_durable(struct journal *j,
				    uint64_t lsn); /* blocks; for start-up and tests */
bool journal_space_low(struct journal *j); /* then no attempt may start and nothing be RESERVED */
/* Whether it would be low still, were that many bytes of it free. */
bool journal_space_low_without(struct journal *j, uint64_t bytes);

/* Blobs: written (fsynced, folder too, unless inline) BEFORE an event names them.
 * Content-addressed; idempotent. These five may be called from any thread, all else of a journal
 * from one but where it says otherwise. */
MUST_CHECK int journal_blob_put(struct journal *j, struct bytes content, struct digest *ret,
				struct error *err);
/* From a file's start to its end (a spool); max bytes are taken. */
MUST_CHECK int journal_blob_put_fd(struct journal *j, int fd, uint64_t max, struct digest *ret,
				   uint64_t *ret_size, struct error *err);
MUST_CHECK int journal_blob_get(struct journal *j, const struct digest *d, size_t max,
				struct buffer *out, struct error *err);
/* Small blobs ride unsynced with the next batch. When this returns, all that were put survive a
 * power cut: for those that hold the only copy of something before any record names them. */
MUST_CHECK int journal_blob_sync(struct journal *j, struct error *err);
MUST_CHECK int journal_blob_open(struct journal *j, const struct digest *d,
				 struct error *err); /* read-only fd (memfd for inline ones) */

/* Events of one run in seq order from `from`; fn gets the decoded record and its encoded bytes. */
MUST_CHECK int journal_each_event(struct journal *j, const struct journal_id *run, uint64_t from,
				  int (*fn)(const struct journal_record *, struct bytes encoded,
					    void *),
				  void *arg);

struct journal_report {
	uint64_t events, runs, blobs, problems;
	uint64_t freed; /* bytes of the blobs that journal_gc() removed */
};
typedef void journal_problem_fn(const char *text, void *arg); /* one line a finding, for people */

/*
 * What the journal holds at one moment: all that was appended before. It is read by any one thread
 * while the journal goes on with its own, but for a collection: that removes blobs, so it and what
 * reads a view take turns.
 */
struct journal_view; /* opaque, owned; freed before its journal is closed */
MUST_CHECK int journal_view_new(struct journal *j, struct journal_view **ret, struct error *err);
void journal_view_free(struct journal_view *v); /* accepts NULL */
void journal_view_stop(struct journal_view *v); /* any thread: reading it ends, -ECANCELED */
/* Every chain, every lsn, every blob named. 0 with report->problems, or negative errno. */
MUST_CHECK int journal_view_verify(const struct journal_view *v, journal_problem_fn *fn, void *arg,
				   struct journal_report *ret, struct error *err);
/* Folds all events in lsn order into a fresh state and compares it with the rows and indexes. */
MUST_CHECK int journal_view_fsck(const struct journal_view *v, journal_problem_fn *fn, void *arg,
				 struct journal_report *ret, struct error *err);
/* A stream that any language can read: a CBOR sequence (RFC 8742) of encoded records of a run (or
 * of all, chain by chain, the daemon's first). Into a file on the disk of a journal that is written
 * to: -ENOSPC before it takes from the journal's reserve. */
MUST_CHECK int journal_view_export(const struct journal_view *v,
				   const struct journal_id *run_or_null, int out_fd,
				   struct error *err);

typedef void journal_gc_run_fn(const struct journal_run *run, void *arg); /* run: for the call */
/* The runs that a collection with this time would drop, oldest first. Of a journal that was opened to
 * read, too. */
MUST_CHECK int journal_view_gc_each(const struct journal_view *v, int64_t ended_before_ns,
				    journal_gc_run_fn *fn, void *arg, struct error *err);

/* The same of a view of now. */
MUST_CHECK int journal_verify(struct journal *j, journal_problem_fn *fn, void *arg,
			      struct journal_report *ret, struct error *err);
/* repair (of a journal opened unloaded): rewrites rows that differ, unless the records themselves
 * are damaged. */
MUST_CHECK int journal_fsck(struct journal *j, bool repair, journal_problem_fn *fn, void *arg,
			    struct journal_report *ret, struct error *err);
MUST_CHECK int journal_export(struct journal *j, const struct journal_id *run_or_null, int out_fd,
			      struct error *err);
MUST_CHECK int journal_gc_each(struct journal *j, int64_t ended_before_ns, journal_gc_run_fn *fn,
			       void *arg, struct error *err);

/*
 * A collection: drops settled runs that ended before the given time (RUNS_DROPPED keeps their
 * heads), then removes blobs that no kept record names, directly or through a blob. When it begins
 * the caller holds no blob that it has not named in a record yet; whatever is put from then on
 * stays, named or not. One at a time.
 *
 *   journal_gc_begin()  the journal's thread
 *   journal_gc_work()   any one thread: what takes long; the journal goes on meanwhile
 *   journal_gc_settle() the journal's thread: records what came of it; first `keep` is asked about
 *                       each run that is to go (see journal_drop_final). 1: work again; 0: through
 *   journal_gc_end()    the journal's thread, after any of these; *ret is what was removed
 */
struct journal_gc; /* opaque, owned */
MUST_CHECK int journal_gc_begin(struct journal *j, int64_t ended_before_ns, journal_keep_fn *keep,
				void *keep_arg, struct journal_gc **ret, struct error *err);
void journal_gc_work(struct journal_gc *g);
MUST_CHECK int journal_gc_settle(struct journal_gc *g,
				 struct error *err); /* also why work failed */
void journal_gc_stop(struct journal_gc *g); /* the journal's thread: the work ends, -ECANCELED */
void journal_gc_end(struct journal_gc *g, struct journal_report *ret); /* accepts NULL; ret too */
/* All of it, where nobody holds a run. */
MUST_CHECK int journal_gc(struct journal *j, int64_t ended_before_ns, struct journal_report *ret,
			  struct error *err);
