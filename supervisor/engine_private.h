#pragma once
/*
 * Inside the engine: what its files share. Nothing here is durable: struct engine_run is a cache
 * over rows plus what was asked of the daemon and not answered yet. Everything that must survive is
 * in the rows, so a new engine over the same rows decides the same.
 *
 * Rows stay where they are while folding (journal.h); arrays inside them (attempts, votes) may
 * move.
 */
#include "supervisor/engine.h"

enum { ENGINE_POSITION_NONE = UINT32_MAX };

/* A card that was asked for: its answer opens the item. */
struct engine_pending_card {
	uint32_t step;
	enum journal_approval_kind kind;
	struct digest action, object;
	struct journal_id effect; /* of EFFECT and DOUBT */
};

struct engine_client; /* engine_client.h */

enum engine_clock { ENGINE_CLOCK_UNKNOWN, ENGINE_CLOCK_NONE, ENGINE_CLOCK_ARMED };

struct engine_run {
	struct journal_id id;
	struct plan *plan;
	/* By plan position: where the step's row is (UINT32_MAX: not declared), and its needs as
	 * positions. */
	uint32_t *row_of;
	size_t *needs_at; /* step_count + 1 offsets into needs */
	uint32_t *needs;
	/* By row: what it runs. Borrowed from the plan, or owned where an outside driver declared
	 * it. */
	const struct plan_step **specs;
	struct plan_step **owned_specs;
	uint32_t spec_count;
	bool named; /* attempts may start: a deciding command named it, or this is a service */
	bool ending; /* an outside driver said that no step follows */
	bool planning; /* PLAN_LANDING is under way */
	bool applying; /* APPLY_LANDING is under way */
	bool stuck; /* the landing could neither go on nor back: not again before a person says so;
		       why: landing_failed of its row */
	bool capped; /* a step could start but for the limit over all runs, or a hold */
	bool lease_blocked; /* another run holds the workspace */
	bool kill_now; /* cancel --kill */
	struct journal_id sealing, checking,
		killing; /* attempts under way by that command; zero = none */
	struct engine_pending_card *cards;
	size_t card_count;
	struct digest planned; /* redo plan of the card that is asked for; zero = none */
	struct engine_client *clients;
	size_t client_count;
	struct journal_id courier; /* that said HELLO; zero = none did */
	uint32_t denied, denied_seen; /* DENIED effects among the first `denied_seen` */
	enum engine_clock wait_clock; /* freeze and suspend timers of the attempt that lives */
};

struct engine {
	const struct journal_state *rows;
	struct engine_ops ops;
	struct engine_limits limits;
	struct engine_run **runs; /* sorted by id */
	size_t run_count;
	bool start_all, held;
	struct engine_now now; /* of the input that is being handled */
	enum journal_actor actor;
	uint32_t actor_uid;
	uint8_t boot_id[16];
	bool wake; /* a lease or a place became free: others may start */
	int failed; /* first error of a blob or of memory: the input is answered with it */
};

/* Every input begins so; records made until the next call carry this actor. */
void engine_enter(struct engine *e, struct engine_now now);
void engine_act_as(struct engine *e, enum journal_actor actor, uint32_t uid);

static inline bool engine_id_is_zero(const struct journal_id *id)
{
	static const struct journal_id zero;
	return journal_id_equal(id, &zero);
}

/* ---- engine_run.c: the cache ---- */
/* The cached run, loading it from its rows. NULL with e->failed when it cannot be. */
struct engine_run *engine_run_get(struct engine *e, const struct journal_id *id);
/* The same for a request that names it: -ENOENT or e->failed, and what is said to the client. */
int engine_run_find(struct engine *e, const struct journal_id *run, struct engine_run **ret,
		    struct error *err);
struct engine_run *engine_run_cached(const struct engine *e, const struct journal_id *id);
void engine_run_forget(struct engine *e, struct engine_run *r);
void engine_run_free(struct engine_run *r);
/* Never NULL: a run that is cached has its rows. */
const struct journal_run *engine_run_row(const struct engine *e, const struct engine_run *r);
const struct journal_step *engine_run_step(const struct engine *e, const struct engine_run *r,
					   uint32_t step);
/* What the step of that row runs; loads it if an outside driver declared it. NULL with e->failed.
 */
const struct plan_step *engine_run_spec(struct engine *e, struct engine_run *r, uint32_t step);
/* The step of this row begins (a spec of an outside driver is taken over) or got another
 * description. */
int engine_run_add_spec(struct engine *e, struct engine_run *r, uint32_t step,
			struct plan_step *owned);
void engine_run_drop_spec(struct engine_run *r, uint32_t step);

/* No step of it follows any more. Of an outside driver's run: it said so, or the run landed. */
bool engine_run_ended(const struct engine *e, const struct engine_run *r);

/* ---- engine.c: records ---- */
struct journal_record engine_record(const struct engine_run *r, uint32_t step,
				    enum journal_type type);
void engine_emit(struct engine *e, struct journal_record *rec);
/* The most frequent shapes. why may be NULL. */
void engine_emit_run(struct engine *e, const struct engine_run *r, enum journal_type type,
		     const char *why);
void engine_emit_step(struct engine *e, const struct engine_run *r, uint32_t step,
		      enum journal_type type, const char *why);
/* Finds the step whose last attempt has this id. */
bool engine_find_attempt(struct engine *e, const struct journal_id *attempt,
			 struct engine_run **ret_run, uint32_t *ret_step);
const struct journal_attempt *engine_last_attempt(const struct journal_step *s);
bool engine_attempt_lives(const struct journal_attempt *a);

/* ---- engine_input.c ---- */
/* The canonical description of a step's input as a blob. like: an earlier description whose stack
 * is taken over, so that only what the driver says is compared; NULL = the stack of now. */
int engine_input_describe(struct engine *e, struct engine_run *r, const char *key,
			  const struct plan_step *spec, const struct digest *like,
			  struct digest *ret);
int engine_input_spec(struct engine *e, const struct digest *input, struct plan_step **ret);
/* For qsort over pointers to steps: in the order of their commits. */
int engine_input_by_commit(const void *a, const void *b);
/* The blob of a field-by-field difference of two descriptions. */
int engine_input_difference(struct engine *e, const struct digest *before,
			    const struct digest *after, struct digest *ret);

/* ---- engine_step.c ---- */
int engine_step_new(struct engine *e, struct engine_run *r, const struct plan_step *spec,
		    uint32_t position, uint32_t *ret);
void engine_step_make_runnable(struct engine *e, struct engine_run *r, uint32_t step,
			       const char *why);
/* The clock of the deadline begins when no person is waited for. */
void engine_step_arm_deadline(struct engine *e, struct engine_run *r, uint32_t step);
void engine_step_start(struct engine *e, struct engine_run *r, uint32_t step);
/* Whether a person is asked before an attempt of it starts: by the plan or by the policy. */
bool engine_step_asks(const struct engine *e, const struct engine_run *r,
		      const struct plan_step *spec);
/* Brings one step as far as it goes without the scheduler: judge, seal, check, commit, ask. */
void engine_step_push(struct engine *e, struct engine_run *r, uint32_t step);
void engine_step_cancel(struct engine *e, struct engine_run *r, uint32_t step, const char *why);
void engine_step_kill(struct engine *e, struct engine_run *r, uint32_t step, bool now);
void engine_step_remove_layer(struct engine *e, struct engine_run *r, uint32_t step,
			      const char *layer, bool after_sync);
/* Its end stands in the journal, and nothing of it is kept. */
void engine_step_throw_away(struct engine *e, struct engine_run *r, uint32_t step);
/* The attempt of an ACTIVE or REJECTED step failed in this way: again, later, by a person, or
 * never. */
void engine_step_judge(struct engine *e, struct engine_run *r, uint32_t step,
		       enum plan_failure kind, const char *why);
void engine_step_fail(struct engine *e, struct engine_run *r, uint32_t step, const char *why);
/* The policy refuses what it would start; why says what. */
void engine_step_deny(struct engine *e, struct engine_run *r, uint32_t step, const char *why);
/* Past the checks: a person, or the commit. */
void engine_step_push_commit(struct engine *e, struct engine_run *r, uint32_t step);
void engine_step_lost(struct engine *e, struct engine_run *r, uint32_t step, const char *why);
/* Attempts or checkers of it were lost as often in a row as engine_limits allows: PAUSED. */
void engine_step_pause_if_lost(struct engine *e, struct engine_run *r, uint32_t step);
bool engine_step_writes(
	const struct journal_step *s); /* ACTIVE..CHECKING: it holds the run's one writer's place */

/* ---- engine_item.c: the queue ---- */
/* Where they cannot be read (unread), they are such that no vote is enough. */
void engine_item_rules(struct engine *e, const struct engine_run *r, struct engine_rules *ret);
/* Asks for the card of (step, kind) unless it is asked for. */
void engine_item_want(struct engine *e, struct engine_run *r, uint32_t step,
		      enum journal_approval_kind kind, const struct digest *object);
bool engine_item_pending(const struct engine_run *r, uint32_t step,
			 enum journal_approval_kind kind);
/* The card that was asked for cannot be made. False: it is not asked for any more. */
bool engine_item_forget(struct engine_run *r, uint32_t step, enum journal_approval_kind kind,
			const struct digest *action);
void engine_item_consume(struct engine *e, struct engine_run *r, const struct journal_approval *a);
/* OPEN -> WITHDRAWN, APPROVED -> REVOKED; also forgets a card that was asked for. */
void engine_item_withdraw(struct engine *e, struct engine_run *r, uint32_t step, const char *why);
const struct journal_approval *engine_item_of(const struct engine *e, const struct journal_id *id);
void engine_item_expired(struct engine *e, struct engine_run *r, const struct journal_approval *a);
void engine_item_lapsed(struct engine *e, struct engine_run *r, const struct journal_approval *a,
			const char *why);
/* What a person said to this step's divergence: "accept", "fork", "fail", or NULL. *ret_item: to be
 * consumed, or NULL. */
const char *engine_item_diverged(struct engine *e, struct engine_run *r, uint32_t step,
				 const struct journal_approval **ret_item);
void engine_item_want_diverged(struct engine *e, struct engine_run *r, uint32_t step);
/* Whether a person accepted before that the step is described by this input: what was recorded then
 * holds for it too. 1, 0, negative errno. */
MUST_CHECK int engine_item_accepted(struct engine *e, struct engine_run *r, uint32_t step,
				    const struct digest *input);

/* The card of an effect's question, unless it is asked for. */
void engine_item_want_effect(struct engine *e, struct engine_run *r, const struct journal_effect *f,
			     enum journal_approval_kind kind);
void engine_item_forget_effect(struct engine_run *r, const struct journal_id *effect);
/* OPEN -> WITHDRAWN, APPROVED -> REVOKED; NULL and others: nothing. */
void engine_item_end(struct engine *e, struct engine_run *r, const struct journal_approval *a,
		     const char *why);
void engine_item_supersede(struct engine *e, struct engine_run *r,
			   const struct journal_approval *a); /* of an OPEN one */

/* ---- engine_effect.c ---- */
/* A record of it, by its attempt; and the shape of one that says no more than why (NULL: not even
 * that). */
struct journal_record engine_effect_record(const struct engine_run *r,
					   const struct journal_effect *f, enum journal_type type);
void engine_effect_emit(struct engine *e, const struct engine_run *r,
			const struct journal_effect *f, enum journal_type type, const char *why);
/* Whoever waits gets what the row says; nobody waits any more then. */
void engine_effect_answer(struct engine *e, struct engine_run *r, const struct journal_effect *f,
			  enum engine_answer what);
void engine_effect_deny(struct engine *e, struct engine_run *r, const struct journal_effect *f,
			const char *why);
/* What asked a person whether it may be is over. */
void engine_effect_end_item(struct engine *e, struct engine_run *r, const struct journal_effect *f,
			    const char *why);
/* Every open effect as far as it goes. */
void engine_effect_push(struct engine *e, struct engine_run *r);
/* The item was denied, or expired. */
void engine_effect_refused(struct engine *e, struct engine_run *r, const struct journal_approval *a,
			   const char *why);
/* What an item about it stands on. */
int engine_effect_item_action(const struct engine *e, const struct engine_run *r,
			      const struct journal_effect *f, enum journal_approval_kind kind,
			      struct digest *ret);
/* Something of the step (JOURNAL_NO_STEP: of the run) was sent and has no outcome; with doubt: or
 * nobody knows it. */
bool engine_effect_blocks(const struct engine *e, const struct engine_run *r, uint32_t step,
			  bool doubt);
/* Something of the step waits for a person (or a probe); by_client: and a client for it. */
bool engine_effect_waits(const struct engine *e, const struct engine_run *r, uint32_t step,
			 bool by_client);

/* ---- engine_wait.c ---- */
enum { ENGINE_SUSPEND_AGAIN_NS = 1000000000 };
void engine_wait_push(struct engine *e, struct engine_run *r);
void engine_wait_fired(struct engine *e, struct engine_run *r, uint32_t step,
		       enum journal_timer_kind kind);
/* Its attempt is over: so are its clocks. */
void engine_wait_ended(struct engine *e, struct engine_run *r, uint32_t step);
/* A command may have been lost with the supervisor. */
void engine_wait_recover(struct engine *e, struct engine_run *r, uint32_t step);

/* ---- engine_grant.c: a person's word on what is to come ---- */
/* The denial of this rule that holds for the step, or NULL. */
const struct journal_grant *engine_grant_denial(const struct engine *e, const struct engine_run *r,
						uint32_t step, const char *rule);
/* The grant that lets x be without a person, or NULL; a standing one is made by its first use. */
const struct journal_grant *engine_grant_for(struct engine *e, struct engine_run *r, uint32_t step,
					     const struct engine_proposal *x);
void engine_grant_use(struct engine *e, struct engine_run *r, const struct journal_grant *g,
		      const struct journal_id *effect);
/* What the vote says beside this one item. */
int engine_grant_check(struct engine *e, struct engine_run *r, const struct journal_approval *a,
		       const struct engine_vote *v, struct error *err);
void engine_grant_make(struct engine *e, struct engine_run *r, const struct journal_approval *a,
		       const struct engine_vote *v);

/* ---- engine_timer.c ---- */
void engine_timer_arm(struct engine *e, struct engine_run *r, uint32_t step,
		      enum journal_timer_kind kind, int64_t due_ns,
		      const struct journal_id *approval);
/* Those of a step (and kind; 0 = all), or where approval is not NULL those of it. */
void engine_timer_cancel(struct engine *e, struct engine_run *r, uint32_t step,
			 enum journal_timer_kind kind, const struct journal_id *approval);
void engine_timer_cancel_all(struct engine *e, struct engine_run *r);

/* ---- engine_land.c ---- */
bool engine_land_lease_take(struct engine *e,
			    struct engine_run *r); /* false: another run holds it */
void engine_land_lease_free(struct engine *e, struct engine_run *r);
bool engine_land_lease_needed(const struct engine *e, const struct engine_run *r);
/* Pushes the landing of a run whose steps are all committed, or that is over. */
void engine_land_push(struct engine *e, struct engine_run *r);
void engine_land_drop(struct engine *e, struct engine_run *r, const char *why);
/* For a new engine: the landing failed, and only a person's word tries it again. What is half
 * applied goes on by itself for as long as the run has its workspace. */
bool engine_land_needs_word(const struct engine *e, const struct journal_run *row);
/* A person gives up the landing or undoing that failed. One that stands half way in the workspace
 * leaves it to others; any other is dropped for good. False: none failed, or that was said. */
bool engine_land_give_up(struct engine *e, struct engine_run *r, uint32_t uid);
/* Calls fn with each path of a conflicts blob (holdfast.cddl, landing-conflicts) until it says
 * other than 0. */
int engine_land_each_conflict(struct bytes blob, int (*fn)(struct bytes path, void *arg),
			      void *arg);

/* ---- engine_advance.c ---- */
/* Everything that follows from the rows of this run now, then of runs that were woken. Returns
 * e->failed. */
int engine_advance(struct engine *e, struct engine_run *r);
void engine_advance_all(struct engine *e);

/* ---- engine_request.c ---- */
/* A new run from this one, from before the step `at`. */
int engine_request_fork(struct engine *e, struct engine_run *r, const char *at,
			struct journal_id *ret);
