#pragma once
/*
 * The engine: what happens next, decided purely from the rows and one input. It performs nothing.
 * Its outputs go through struct engine_ops: records (folded at once by the receiver, so the rows it
 * reads next are already new), blobs (content-addressed; stored before the batch is written) and
 * commands (performed by the daemon after the records of the same input are durable where
 * `after_sync` is set, else at once).
 *
 * Every command's outcome comes back as an input; a command whose outcome was lost with the
 * supervisor is issued again by engine_recover(): so every command is idempotent, named by the ids
 * in it.
 *
 * The rules. One active writer a run: at most one step of a run is
 * ACTIVE..CHECKING at a time, topological order, ties by position.
 */
#include "journal/journal.h"
#include "supervisor/plan.h"

struct engine; /* opaque, owned: plan cache and scheduling sets; rebuildable from the rows */

struct engine_now {
	int64_t wall_ns; /* CLOCK_REALTIME */
	int64_t mono_ns; /* CLOCK_BOOTTIME */
};

enum engine_command_kind {
	/* Make the sandbox of one attempt and run it (or the checks of a sealed step: check = true,
	 * read-only view of exactly stack + layer). Outcome: engine_attempt_live / _not_started,
	 * later engine_attempt_ended. */
	ENGINE_START_ATTEMPT = 1,
	ENGINE_KILL_ATTEMPT, /* TERM, then KILL after 5 s (with `now` at once). Of a check too
				(check = true). Outcome: engine_attempt_ended */
	ENGINE_SEAL, /* seal the attempt's layer. Outcome: engine_sealed */
	ENGINE_REMOVE_LAYER, /* a layer that nothing names any more. No outcome */
	ENGINE_CARD, /* render the card of kind for run/step into a blob. Outcome: engine_card */
	ENGINE_PLAN_LANDING, /* compute the redo plan from the stack's manifests, the policy and the
			      * base; with undo the reverse of run.redo. `answers` names the decided
			      * CONFLICT item (its votes say path by path what to do with the
			      * conflicts of its object). Outcome: engine_landing_planned */
	ENGINE_APPLY_LANDING, /* perform the redo plan `object` (undo = false) or its reverse (undo
			       * = true; a plan that is itself a reverse is applied as it is).
			       * Outcome: engine_landing_done */
	ENGINE_FORGET_ATTEMPT, /* its end is durable: the keeper may drop its record and spool */
	/* To whoever waits for `effect`: its row has an answer now (verdict). SEND goes to one
	 * client alone. Outcome: of SEND, engine_effect_result. */
	ENGINE_EFFECT_ANSWER,
	ENGINE_EFFECT_RELEASE, /* CONFIRMED is on disk: the last bytes of the response may go in */
	ENGINE_EFFECT_PROBE, /* ask the effect's probe. Outcome: engine_effect_probed */
	ENGINE_FREEZE, /* the attempt waits for a person. No outcome; where there is no freezer
			  nothing happens */
	ENGINE_THAW,
	ENGINE_SUSPEND, /* end the attempt at once: its wait holds no process. Outcome:
			   engine_attempt_ended */
};

/* What is said to the clients of an effect. The words are in its row. */
enum engine_answer {
	ENGINE_ANSWER_SEND = 1, /* RESERVED is on disk */
	ENGINE_ANSWER_REPLAY, /* CONFIRMED, or COMPENSATED: nothing is sent */
	ENGINE_ANSWER_DENY, /* DENIED, WITHDRAWN (403), ABANDONED (409), REFUSED (502) */
	ENGINE_ANSWER_WAITING, /* a person is asked; another answer follows */
};

struct engine_command {
	enum engine_command_kind kind;
	bool after_sync;
	struct journal_id run;
	uint32_t step; /* JOURNAL_NO_STEP for run-wide */
	uint32_t attempt; /* number */
	struct journal_id attempt_id;
	char layer[JOURNAL_LAYER_NAME_SIZE];
	/* START_ATTEMPT: the layers below, bottom to top (borrowed for the call); the spec of the
	 * step (borrowed). */
	const char (*stack)[JOURNAL_LAYER_NAME_SIZE];
	size_t stack_count;
	const struct plan_step *spec;
	bool check;
	struct bytes feedback; /* borrowed; of the rejection before */
	uint64_t timeout_ms;
	bool now; /* KILL_ATTEMPT: KILL at once */
	enum journal_approval_kind card_kind;
	struct digest action; /* CARD: shown on it, given back in engine_card */
	struct digest object; /* CARD: conflicts blob, input difference blob (engine_difference),
				 redo plan; APPLY: the redo plan */
	struct journal_id answers; /* PLAN_LANDING; zero = none */
	bool undo;
	struct journal_id effect; /* EFFECT_*, and CARD of EFFECT and DOUBT */
	enum engine_answer answer; /* EFFECT_ANSWER */
};

enum { ENGINE_ROLES_MAX = 32 };

/* Who may vote: any of "uid:N", "group:NAME" (of the peer at the socket), "signer:NAME" (whose key
 * signed). */
struct engine_role {
	const char *const *any;
	size_t count;
};

/* What the run's policy says about approvals. */
struct engine_rules {
	int64_t decide_by_ns, execute_by_ns; /* how long; 0 = for ever */
	uint32_t quorum; /* principals that must approve; 0 is 1 */
	bool exclude_starter;
	const uint32_t *exclude_uids; /* borrowed until the next call of an op */
	size_t exclude_uid_count;
	struct engine_role
		roles[ENGINE_ROLES_MAX]; /* who votes is in all of them; borrowed alike */
	size_t role_count;
	bool signed_votes; /* an unsigned one is refused */
	bool unattended_deny; /* `unattended: deny`: what would ask is denied */
	int unread; /* the engine's own: negative errno of ops.rules; no vote counts meanwhile */
	int64_t freeze_ns, suspend_ns; /* of an attempt that waits for a person; 0 = never */
};

struct engine_ops {
	void *ctx;
	void (*record)(void *ctx, struct journal_record *r); /* journal_append */
	int (*blob)(void *ctx, struct bytes content,
		    struct digest *ret); /* journal_blob_put; 0 or negative errno */
	int (*blob_read)(void *ctx, const struct digest *d,
			 struct buffer *out); /* journal_blob_get */
	void (*command)(void *ctx, const struct engine_command *c);
	void (*new_id)(void *ctx, struct journal_id *ret); /* UUIDv4 */
	/* Unique among all layers of the state directory; "" where the run's policy gives the step
	 * no layer: the workspace is read, written at once, or not seen. */
	void (*layer_name)(void *ctx, const struct journal_run *run, const char *step,
			   char ret[JOURNAL_LAYER_NAME_SIZE]);
	/* Of the run's policy; NULL: the limits' defaults, one person. *ret is zeroed with the
	 * defaults filled. 0, or negative errno where the policy cannot be read: then who may
	 * decide is not known, so nobody may. */
	int (*rules)(void *ctx, const struct journal_run *run, struct engine_rules *ret);
	/* Whether the policy asks a person before spec starts. NULL: only what the plan says. */
	bool (*asks)(void *ctx, const struct journal_run *run, const struct plan_step *spec);
	/* The bytes of the program that spec names, as it will see them over the layers committed
	 * before `below` (NULL: all). 1 with the digest, 0 where none can be found. NULL: inputs do
	 * not tell of programs. */
	int (*program)(void *ctx, const struct journal_run *run, const struct journal_step *below,
		       const struct plan_step *spec, struct digest *ret);
};

struct engine_limits {
	uint32_t live_attempts_max; /* over all runs; default 64 */
	uint32_t lost_max; /* LOST attempts of a step in a row before the run is PAUSED; default 10
			    */
	int64_t decide_by_ns,
		execute_by_ns; /* defaults of approvals, from the run's policy where it says */
	uint32_t effects_open_max; /* of one run that wait for people; past it denied; default 64 */
	uint32_t effects_denied_max; /* of one run that are recorded; past it only answered; default
					1000 */
};

MUST_CHECK int engine_new(const struct journal_state *rows, const struct engine_ops *ops,
			  const struct engine_limits *limits, struct engine **ret);
void engine_free(struct engine *e);

/* ---- Requests. 0 with the outcome in rows; negative errno with *err (exit_status set) and nothing
 * recorded. ---- */

struct engine_run_request {
	struct journal_id id; /* chosen by the caller */
	struct bytes request; /* client request id: the same one finds the same run (returns it in
			       *ret) */
	const char *name;
	const struct plan *plan;
	struct digest plan_blob; /* of plan_encode(): stored by the caller, read again by
				    engine_ops.blob_read */
	struct digest policy_blob, environ_blob, context;
	const char *workspace;
	uint64_t ws_dev, ws_ino, ws_uid;
	enum journal_base base;
	enum journal_land land;
	unsigned agency;
	uint32_t uid;
	int64_t started_ns; /* CLOCK_REALTIME_COARSE */
	struct journal_id parent; /* fork */
	const char *fork_at; /* name or key of a step */
	/* fork: the parent's steps that were committed before fork_at are taken over as committed,
	 * with their results and layers; plan, policy, environment, workspace are the caller's to
	 * copy. The parent's rows are loaded. */
};
/* A name that a run in memory has: the same plan and not over: *ret is that run (attached); else
 * -EEXIST, exit USAGE. Runs whose rows are not in memory are the caller's to look for. */
MUST_CHECK int engine_run_create(struct engine *e, struct engine_now now,
				 const struct engine_run_request *r, struct journal_id *ret,
				 struct error *err);
/* Outside driver: declare one more step. Same key and digest (or one that a person accepted) and
 * COMMITTED -> *ret_reused. Other digest -> diverged item. */
MUST_CHECK int engine_step_declare(struct engine *e, struct engine_now now,
				   const struct journal_id *run, uint32_t uid,
				   const struct plan_step *spec, uint32_t *ret_step,
				   bool *ret_reused, struct error *err);
MUST_CHECK int engine_run_end(struct engine *e, struct engine_now now, const struct journal_id *run,
			      uint32_t uid, struct error *err);
/* named: a deciding command named the run; until then an embedded supervisor starts no attempt of
 * it and lands nothing. What waits for a person is asked all the same. */
MUST_CHECK int engine_run_resume(struct engine *e, struct engine_now now,
				 const struct journal_id *run, uint32_t uid, struct error *err);
MUST_CHECK int engine_run_pause(struct engine *e, struct engine_now now,
				const struct journal_id *run, uint32_t uid, struct error *err);
/* The dial, 0 observe .. 4 autonomous: what starts, lands and is decided from now on stands under
 * it; what runs goes on as it was started. context: of the policy at that level. The caller has
 * seen that the policy allows it. -EALREADY: the run is over. -EBUSY: another run
 * has the workspace. */
MUST_CHECK int engine_run_agency(struct engine *e, struct engine_now now,
				 const struct journal_id *run, uint32_t uid, unsigned agency,
				 const struct digest *context, struct error *err);
/* Of a run that is over: gives up its landing or undoing that failed. One that touched nothing is
 * dropped, the undoing of one that landed leaves it landed; one that stands half way leaves the
 * workspace to others. -EALREADY: there is none. */
MUST_CHECK int engine_run_cancel(struct engine *e, struct engine_now now,
				 const struct journal_id *run, uint32_t uid, bool kill,
				 struct error *err);
MUST_CHECK int engine_run_land(struct engine *e, struct engine_now now,
			       const struct journal_id *run, uint32_t uid, struct error *err);
/* Why planning, landing or undoing can go neither on nor back until a person says so again; NULL: it
 * is not so, or it is being tried again. Borrowed from the run's row. */
const char *engine_land_stuck(const struct engine *e, const struct journal_id *run);
MUST_CHECK int engine_run_undo(struct engine *e, struct engine_now now,
			       const struct journal_id *run, uint32_t uid, struct error *err);

/* With an approval of an effect: the next ones of its rule that the pattern covers, too. */
struct engine_grant {
	struct digest pattern; /* blob */
	uint64_t uses;
	int64_t expires_ns; /* wall time; never 0 */
	bool step_only; /* else the whole run */
};
enum {
	ENGINE_GRANT_USES_MAX = 1000,
	ENGINE_GRANT_DAYS_MAX = 30,
};

struct engine_vote {
	struct journal_id approval;
	struct digest card; /* render digest the voter saw */
	enum journal_decision decision;
	const char *choice; /* per kind; NULL where it needs none */
	struct bytes path; /* conflict: one path; empty = all */
	struct digest file; /* conflict, choice "file": blob of the content */
	/* Who: "uid:N" of the socket's peer, or "signer:NAME" of a vote whose signature was
	 * verified (then proof is set). */
	const char *reason, *principal, *auth;
	uint32_t uid; /* of the peer that brought it */
	const char *const *groups; /* its groups, by name, borrowed; NULL with group_count 0 */
	size_t group_count;
	struct digest proof; /* blob of what was signed, and the signature; zero = not signed */
	int64_t signed_ns; /* the time in it */
	uint64_t shown_ms; /* how long the card was shown; 0 = not said */
	const struct engine_grant *grant; /* with an approval of an effect; NULL = this one alone */
	bool whole_rule; /* with a denial of an effect: all of its rule, for the run */
};
/*
 * A grant and a denial of a rule are one person's word: -EPERM where the policy asks for several or
 * for signatures; and an irreversible action is granted only at agency trusted and above.
 * -ESTALE: decided already or superseded, or another card (exit CONFLICT; *err tells the recorded
 * outcome); or a signed vote older than the one of its signer that stands. -EPERM: excluded, not of
 * the role, or not signed where the policy asks for that.
 *
 * Quorum: as many principals as the policy asks for must agree in their last word, the choice
 * included (for a conflict: path by path). One deny decides.
 */
MUST_CHECK int engine_vote(struct engine *e, struct engine_now now, const struct engine_vote *v,
			   struct error *err);
/* A grant or a denied rule is taken back: what it has not allowed yet asks again. -ENOENT;
 * -EALREADY. */
MUST_CHECK int engine_grant_revoke(struct engine *e, struct engine_now now,
				   const struct journal_id *run, const struct journal_id *grant,
				   uint32_t uid, const char *principal, struct error *err);

/* ---- Outcomes of commands and reports of the keeper. A report for an attempt that is not current
 * is refused with -ESTALE (logged by the caller). ---- */

struct engine_ended {
	enum journal_attempt_state state; /* EXITED, TIMED_OUT, OOM, KILLED, LOST */
	uint32_t exit_code, signal;
	const char *why; /* limit name, "cancelled"; may be NULL */
	struct digest out, err, results; /* blobs, already stored */
	uint64_t out_size, err_size, cpu_us, memory_peak, wall_us, weaker;
	struct bytes denied; /* canonical map or empty */
};
MUST_CHECK int engine_attempt_live(struct engine *e, struct engine_now now,
				   const struct journal_id *attempt);
/* The attempt, or the check of a sealed one, cannot begin before a person has put something right
 * that is no fault of the step: nothing is charged, and the run is PAUSED, for this reason. why
 * begins with ENGINE_HELD_LAYERS and a colon; status_exit() tells by that. */
#define ENGINE_HELD_LAYERS "layers"
MUST_CHECK int engine_attempt_held(struct engine *e, struct engine_now now,
				   const struct journal_id *attempt, const char *why);
/* why begins with its kind (attempts_not_started); "denied: ": the policy refuses the program, and
 * so the step is DENIED. */
MUST_CHECK int engine_attempt_not_started(struct engine *e, struct engine_now now,
					  const struct journal_id *attempt, const char *why,
					  bool infra);
MUST_CHECK int engine_attempt_ended(struct engine *e, struct engine_now now,
				    const struct journal_id *attempt, const struct engine_ended *r);
/* error: 0; -EPERM it wrote a protected path, -E2BIG it is past a limit (both the step's fault: why
 * says which); any other: the layer is lost. manifest NULL: nothing was changed (an empty layer is
 * removed). */
MUST_CHECK int engine_sealed(struct engine *e, struct engine_now now,
			     const struct journal_id *attempt, int error, const char *why,
			     const struct digest *manifest, uint64_t paths, uint64_t bytes);
/* attempt: the sealed attempt that was checked (START_ATTEMPT with check carries its id; the
 * sandboxes of the checks are the daemon's own to name). A checker that was lost is not reported:
 * engine_check_lost. */
MUST_CHECK int engine_check_lost(struct engine *e, struct engine_now now,
				 const struct journal_id *attempt);
MUST_CHECK int engine_checked(struct engine *e, struct engine_now now,
			      const struct journal_id *attempt, bool passed, const char *why,
			      const struct digest *feedback);
MUST_CHECK int engine_card(struct engine *e, struct engine_now now, const struct journal_id *run,
			   uint32_t step, enum journal_approval_kind kind,
			   const struct digest *action, const struct digest *card,
			   const struct digest *object);
/* The card of a landing or its conflict cannot be made: as a plan that could not be made.
 * -ESTALE: it is not asked for any more. */
MUST_CHECK int engine_card_failed(struct engine *e, struct engine_now now,
				  const struct journal_id *run, enum journal_approval_kind kind,
				  const struct digest *action, const char *why);
/* redo, conflicts: blobs, NULL = none. nothing: there is nothing to land. Neither of the three: it
 * could not be planned, why says so, and the run is PAUSED. */
MUST_CHECK int engine_landing_planned(struct engine *e, struct engine_now now,
				      const struct journal_id *run, const struct digest *redo,
				      const struct digest *conflicts, bool nothing,
				      const char *why);
/* result: blob (landed); conflicts: blob (rolled back). Neither: it could neither go on nor back
 * (why); the run is PAUSED, and resume issues the command again. */
MUST_CHECK int engine_landing_done(struct engine *e, struct engine_now now,
				   const struct journal_id *run, bool undo,
				   const struct digest *result, const struct digest *conflicts,
				   uint64_t paths, const char *why);

/* ---- Effects. The caller has decided by the attempt's own policy and stored the blobs. ---- */

enum engine_verdict { ENGINE_DENY, ENGINE_ASK, ENGINE_ALLOW };

/* action_kind of a tool (sandbox/action.h): the supervisor itself carries it out. */
enum { ENGINE_ACTION_TOOL = 4 };

/* A `standing` of the policy that covers the action. */
struct engine_standing {
	const char *at, *why; /* file:line:column */
	uint64_t uses; /* in one run */
	int64_t expires_ns;
};

struct engine_proposal {
	struct journal_id attempt;
	struct journal_id courier; /* instance that asks, and would send */
	uint64_t request; /* its own number of the client's request */
	uint32_t action_kind; /* enum action_kind */
	struct digest action, identity;
	struct digest canonical, body; /* blobs; body zero = none */
	enum engine_verdict verdict;
	enum journal_class class;
	enum journal_retry retry;
	uint64_t window_ms; /* KEYED */
	/* Of what asks only: a grant of the run whose pattern covers it; zero = none. */
	struct journal_id grant;
	const struct engine_standing *standing; /* NULL = none */
	/* Borrowed; NULL = none. */
	const char *header, *probe, *rule, *at, *secret, *claim, *dropped, *title, *why;
};

/* What an effect is proposed as. ENGINE_PROPOSED_DENIED: past the run's limits, nothing was
 * recorded and *ret is untouched; the caller answers 429. */
enum engine_proposed { ENGINE_PROPOSED = 0, ENGINE_PROPOSED_DENIED = 1 };
/*
 * *ret: the effect that the client waits for; it counts as attached until its answer or
 * engine_effect_cut(). Saying the same again attaches to the same effect: before its outcome was
 * delivered whole to a client, and in a later attempt once for each occurrence. -ESTALE: the
 * attempt does not live.
 */
MUST_CHECK int engine_effect_proposed(struct engine *e, struct engine_now now,
				      const struct engine_proposal *p, struct journal_id *ret);

enum engine_outcome { ENGINE_CONFIRMED = 1, ENGINE_REFUSED, ENGINE_IN_DOUBT };
struct engine_result {
	struct journal_id effect;
	uint64_t request; /* that says it: another one's than was told to send is only released */
	enum engine_outcome outcome;
	uint32_t status;
	struct digest response, body; /* blobs; zero = none */
	bool too_long;
	uint64_t sent, received;
	const char *why; /* may be NULL */
};
/* Idempotent. RELEASE follows once the outcome is on disk; the courier says it again until then.
 * -ESTALE: it was never reserved. */
MUST_CHECK int engine_effect_result(struct engine *e, struct engine_now now,
				    const struct engine_result *r);
/* The client has the whole response. */
MUST_CHECK int engine_effect_delivered(struct engine *e, struct engine_now now,
				       const struct journal_id *effect);
/* A person had it taken back. -EINVAL where it is not confirmed. */
MUST_CHECK int engine_effect_compensated(struct engine *e, struct engine_now now,
					 const struct journal_id *effect, uint32_t uid);
/* A client of it is gone. next: the request of another that waits; 0 = none does, and nothing is
 * reserved for nobody. */
MUST_CHECK int engine_effect_cut(struct engine *e, struct engine_now now,
				 const struct journal_id *effect, uint64_t next);
/*
 * Which courier the run has now: what another one reserved, and it does not say that it is sending,
 * is in doubt. courier NULL: none lives, and none that lived can send any more (the caller has the
 * run's lock).
 */
MUST_CHECK int engine_effect_courier(struct engine *e, struct engine_now now,
				     const struct journal_id *run, const struct journal_id *courier,
				     const struct journal_id *sending, size_t sending_count);
/* The card of an effect that waits cannot be made: it is denied, why says so. -ESTALE: it does not
 * wait, or is another action by now. */
MUST_CHECK int engine_effect_unshown(struct engine *e, struct engine_now now,
				     const struct journal_id *effect, const struct digest *item,
				     const char *why);
enum engine_probe { ENGINE_PROBE_DONE, ENGINE_PROBE_NOT_DONE, ENGINE_PROBE_UNKNOWN };
MUST_CHECK int engine_effect_probed(struct engine *e, struct engine_now now,
				    const struct journal_id *effect, enum engine_probe said,
				    const char *why);
/* reads: canonical (effect-reads), so many, and of them so many denied; of an attempt that ran at some
 * time. */
MUST_CHECK int engine_effect_reads(struct engine *e, struct engine_now now,
				   const struct journal_id *run, uint32_t step, uint32_t attempt,
				   struct bytes reads, uint64_t count, uint64_t denied);
/* base32 (RFC 4648, lower case, no padding) of SHA-256(effect key, action digest): the same over
 * every retry and restart. run: of the effect. */
enum { ENGINE_KEY_SIZE = 53 };
MUST_CHECK int engine_effect_key(const struct journal_run *run, const struct journal_effect *f,
				 char ret[ENGINE_KEY_SIZE]);
/* What may be done with an effect in doubt now, of those its rule allows. *ret_until: SAFE or KEYED
 * until then; 0 = always. */
enum engine_doubt { ENGINE_DOUBT_SEND, ENGINE_DOUBT_PROBE, ENGINE_DOUBT_PERSON };
enum engine_doubt engine_effect_doubt(const struct journal_effect *f, int64_t now_ns,
				      int64_t *ret_until);

/* ---- Time and recovery ---- */

/* Fires what is due. Returns the next due wall time, or 0 for none. */
int64_t engine_tick(struct engine *e, struct engine_now now);

struct engine_found { /* what the keeper said of one attempt, at start */
	struct journal_id attempt;
	bool live; /* else ended: the caller follows with engine_attempt_ended() */
};
/* Once after journal_open and the keeper's hello, before any other input: boot_id is this boot's.
 * Adopts (ATTEMPT_ADOPTED), records LOST for attempts that no keeper knows and whose lock is free,
 * issues lost commands again. start: a service continues every run; an embedded supervisor (false)
 * starts no attempt until a deciding command names the run, and asks what is to be asked. A run whose plan cannot be read is left
 * as it is and named in *err (the return is 0 all the same). */
MUST_CHECK int engine_recover(struct engine *e, struct engine_now now, const uint8_t boot_id[16],
			      const struct engine_found *found, size_t count, bool start,
			      struct error *err);
/* True while something is under way that this process must stay for (live attempt, sealing,
 * landing, armed timer). */
bool engine_busy(const struct engine *e);
/* Whether it needs the rows of this run: none that it holds may leave memory, nor be collected.
 * engine_forget_settled() first: it holds what a request asked about until then. */
bool engine_holds(const struct engine *e, const struct journal_id *run);
void engine_forget_settled(struct engine *e);
/* Before blobs that no record names are removed: plans that wait for their workspace are forgotten,
 * and made again. False: one is being shown to a person just now, so nothing is to be removed. */
MUST_CHECK bool engine_forget_plans(struct engine *e);
/* Whether attempts may be started for this run now (see engine_run_resume). */
bool engine_run_named(const struct engine *e, const struct journal_id *run);
/* The step inside the description of its input, the blob that STEP_DECLARED names as `input`. 0, or as
 * plan_step_decode. */
MUST_CHECK int engine_input_read(struct bytes description, struct plan_step **ret);
/* No attempt starts while held (free space below the reserve). */
void engine_hold(struct engine *e, struct engine_now now, bool hold);

/* ---- For cards, the API and the daemon: pure helpers ---- */

/* The committed steps that have a layer, bottom to top, of those committed before `below` (NULL:
 * all). Returns the count; ret has room for run->step_count, or is NULL to count. */
size_t engine_stack(const struct journal_run *run, const struct journal_step *below,
		    const struct journal_step **ret);
/* Whether the run's changes may land, and whether a person is asked first, at its dial:
 * JOURNAL_LAND_*. */
enum journal_land engine_land(const struct journal_run *run);
/* The object of a DIVERGED item: calls fn for each field that differs, as text for people.
 * -EBADMSG. */
MUST_CHECK int engine_difference(struct bytes object,
				 int (*fn)(const char *field, struct bytes before,
					   struct bytes after, void *arg),
				 void *arg);
