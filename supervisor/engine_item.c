/*
 * The queue: what is asked of people, what they answered, and how long an answer holds.
 *
 * An item is opened with the card that was rendered for exactly its action; a vote names the item
 * and that card. The digest of the action covers the kind, the object and what it stands on, so
 * that an answer can never be used for anything else. An answer is consumed in the same batch as
 * what it allows.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "base/escape.h"
#include "supervisor/ballot.h"
#include "supervisor/engine_private.h"

static const struct journal_id no_id;
static const struct digest no_digest;

const struct journal_approval *engine_item_of(const struct engine *e, const struct journal_id *id)
{
	return engine_id_is_zero(id) ? NULL : journal_state_approval(e->rows, id);
}

void engine_item_rules(struct engine *e, const struct engine_run *r, struct engine_rules *ret)
{
	*ret = (struct engine_rules){.decide_by_ns = e->limits.decide_by_ns,
				     .execute_by_ns = e->limits.execute_by_ns,
				     .quorum = 1};
	if (e->ops.rules)
		ret->unread = e->ops.rules(e->ops.ctx, engine_run_row(e, r), ret);
	if (ret->unread < 0)
		ret->quorum = UINT32_MAX;
	if (ret->quorum == 0)
		ret->quorum = 1;
}

/* ---- the action ---- */

static void write_digest(struct buffer *b, const struct digest *d)
{
	cbor_w_bytes(b, bytes_of(d->b, DIGEST_SIZE));
}

/* What an item of this kind stands on, besides its object, where the step's other input is
 * `diverged`. */
static int action_on(const struct engine *e, const struct engine_run *r, uint32_t step,
		     enum journal_approval_kind kind, const struct digest *object,
		     const struct digest *diverged, struct digest *ret)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_step *s = step == JOURNAL_NO_STEP ? NULL : row->steps[step];
	/* A gate and a divergence stand on what is described, not on an attempt that may be lost
	 * meanwhile. */
	const struct journal_attempt *a =
		kind == JOURNAL_KIND_STEP_COMMIT || kind == JOURNAL_KIND_EXHAUSTED
			? engine_last_attempt(s)
			: NULL;
	AUTO_BUFFER b = {0};

	cbor_w_array(&b, 8);
	cbor_w_uint(&b, kind);
	cbor_w_bytes(&b, bytes_of(row->id.b, JOURNAL_ID_SIZE));
	cbor_w_str(&b, s ? s->key : "");
	write_digest(&b, object);
	write_digest(&b, s ? &s->input : &no_digest);
	write_digest(&b, diverged);
	cbor_w_bytes(&b, bytes_of(a ? a->id.b : no_id.b, JOURNAL_ID_SIZE));
	cbor_w_bool(&b, kind == JOURNAL_KIND_CONFLICT && row->conflict_undo);
	if (b.failed)
		return b.failed;
	digest_domain("holdfast.action", buffer_bytes(&b), ret);
	return 0;
}

/* As it stands now. */
static int action_of(const struct engine *e, const struct engine_run *r, uint32_t step,
		     enum journal_approval_kind kind, const struct digest *object,
		     struct digest *ret)
{
	const struct digest *diverged = step == JOURNAL_NO_STEP
						? &no_digest
						: &engine_run_row(e, r)->steps[step]->diverged;

	return action_on(e, r, step, kind, object, diverged, ret);
}

/* ---- asking ---- */

bool engine_item_pending(const struct engine_run *r, uint32_t step, enum journal_approval_kind kind)
{
	for (size_t i = 0; i < r->card_count; i++)
		if (r->cards[i].step == step && r->cards[i].kind == kind)
			return true;
	return false;
}

static void drop_card(struct engine_run *r, size_t i)
{
	memmove(&r->cards[i], &r->cards[i + 1], (r->card_count - i - 1) * sizeof(*r->cards));
	r->card_count--;
}

bool engine_item_forget(struct engine_run *r, uint32_t step, enum journal_approval_kind kind,
			const struct digest *action)
{
	for (size_t i = 0; i < r->card_count; i++) {
		if (r->cards[i].step != step || r->cards[i].kind != kind ||
		    !digest_equal(&r->cards[i].action, action))
			continue;
		drop_card(r, i);
		return true;
	}
	return false;
}

/* The card is awaited from now on; rc: of finding what it stands on. False with e->failed. */
static bool await_card(struct engine *e, struct engine_run *r, const struct engine_command *c,
		       int rc)
{
	struct engine_pending_card *grown =
		reallocarray(r->cards, r->card_count + 1, sizeof(*grown));

	if (grown)
		r->cards = grown;
	if (!grown || rc < 0) {
		e->failed = rc < 0 ? rc : -ENOMEM;
		return false;
	}
	r->cards[r->card_count++] = (struct engine_pending_card){.step = c->step,
								 .kind = c->card_kind,
								 .action = c->action,
								 .object = c->object,
								 .effect = c->effect};
	return true;
}

void engine_item_want(struct engine *e, struct engine_run *r, uint32_t step,
		      enum journal_approval_kind kind, const struct digest *object)
{
	struct engine_command c = {.kind = ENGINE_CARD,
				   .run = r->id,
				   .step = step,
				   .card_kind = kind,
				   .object = *object};
	int rc;

	if (engine_item_pending(r, step, kind))
		return;
	rc = action_of(e, r, step, kind, object, &c.action);
	if (!await_card(e, r, &c, rc))
		return;
	c.undo = engine_run_row(e, r)->conflict_undo;
	if (step != JOURNAL_NO_STEP) {
		const struct journal_attempt *a =
			engine_last_attempt(engine_run_row(e, r)->steps[step]);

		c.spec = engine_run_spec(e, r, step);
		c.attempt = a ? a->number : 0;
		c.attempt_id = a ? a->id : no_id;
	}
	e->ops.command(e->ops.ctx, &c);
}

void engine_item_want_effect(struct engine *e, struct engine_run *r, const struct journal_effect *f,
			     enum journal_approval_kind kind)
{
	struct engine_command c = {.kind = ENGINE_CARD,
				   .run = r->id,
				   .step = f->step,
				   .attempt = f->attempt,
				   .effect = f->id,
				   .card_kind = kind,
				   .object = f->canonical};
	int rc;

	for (size_t i = 0; i < r->card_count; i++)
		if (journal_id_equal(&r->cards[i].effect, &f->id))
			return;
	rc = engine_effect_item_action(e, r, f, kind, &c.action);
	if (!await_card(e, r, &c, rc))
		return;
	e->ops.command(e->ops.ctx, &c);
}

void engine_item_forget_effect(struct engine_run *r, const struct journal_id *effect)
{
	for (size_t i = r->card_count; i-- > 0;)
		if (journal_id_equal(&r->cards[i].effect, effect))
			drop_card(r, i);
}

static void set_object(struct journal_payload *p, enum journal_approval_kind kind,
		       const struct digest *object)
{
	if (digest_is_zero(object))
		return;
	if (kind == JOURNAL_KIND_CONFLICT)
		JOURNAL_SET(p, conflicts, *object);
	else
		JOURNAL_SET(p, digest, *object);
}

static void open_item(struct engine *e, struct engine_run *r,
		      const struct engine_pending_card *want, const struct digest *card)
{
	struct journal_record rec = engine_record(r, want->step, JOURNAL_APPROVAL_OPENED);
	const struct journal_effect *f = journal_state_effect(e->rows, &want->effect);
	struct engine_rules rules;
	struct journal_id id;
	int64_t due;

	engine_item_rules(e, r, &rules);
	/* What became of something is a fact: it does not expire. */
	due = rules.decide_by_ns && want->kind != JOURNAL_KIND_DOUBT
		      ? e->now.wall_ns + rules.decide_by_ns
		      : 0;
	e->ops.new_id(e->ops.ctx, &id);
	JOURNAL_SET(&rec.p, approval, id);
	JOURNAL_SET(&rec.p, kind, want->kind);
	JOURNAL_SET(&rec.p, action, want->action);
	JOURNAL_SET(&rec.p, card, *card);
	set_object(&rec.p, want->kind, &want->object);
	if (f)
		JOURNAL_SET(&rec.p, effect, want->effect);
	if (f && f->title)
		JOURNAL_SET(&rec.p, title, bytes_str(f->title));
	if (due)
		JOURNAL_SET(&rec.p, decide_by_ns, due);
	engine_emit(e, &rec);
	if (due)
		engine_timer_arm(e, r, want->step, JOURNAL_TIMER_DECIDE_BY, due, &id);
}

/* The digest of what is asked, as things stand now. -ESTALE: it is not asked any more. */
static int stands_on(struct engine *e, struct engine_run *r, const struct engine_pending_card *want,
		     struct digest *ret)
{
	const struct journal_effect *f = journal_state_effect(e->rows, &want->effect);

	if (engine_id_is_zero(&want->effect))
		return action_of(e, r, want->step, want->kind, &want->object, ret);
	if (!f || f->state != (want->kind == JOURNAL_KIND_DOUBT ? JOURNAL_EFFECT_S_IN_DOUBT
								: JOURNAL_EFFECT_S_WAITING))
		return -ESTALE;
	return engine_effect_item_action(e, r, f, want->kind, ret);
}

int engine_card(struct engine *e, struct engine_now now, const struct journal_id *run,
		uint32_t step, enum journal_approval_kind kind, const struct digest *action,
		const struct digest *card, const struct digest *object)
{
	struct engine_run *r;
	struct engine_pending_card want;
	struct digest is;
	size_t i;

	engine_enter(e, now);
	r = engine_run_cached(e, run);
	for (i = 0; r && i < r->card_count; i++)
		if (r->cards[i].step == step && r->cards[i].kind == kind &&
		    (engine_id_is_zero(&r->cards[i].effect) ||
		     digest_equal(&r->cards[i].action, action)))
			break;
	if (!r || i == r->card_count || !digest_equal(&r->cards[i].action, action) ||
	    (object && !digest_equal(&r->cards[i].object, object)))
		return -ESTALE;
	want = r->cards[i];
	drop_card(r, i);
	/* What it stands on may have changed while it was rendered. */
	if (stands_on(e, r, &want, &is) < 0 || !digest_equal(&is, action))
		return engine_advance(e, r);
	open_item(e, r, &want, card);
	return engine_advance(e, r);
}

/* ---- ending ---- */

static void emit_item(struct engine *e, const struct engine_run *r,
		      const struct journal_approval *a, enum journal_type type, const char *why)
{
	struct journal_record rec = engine_record(r, a->step, type);

	JOURNAL_SET(&rec.p, approval, a->id);
	if (why)
		JOURNAL_SET(&rec.p, why, bytes_str(why));
	engine_emit(e, &rec);
}

static void end_item(struct engine *e, struct engine_run *r, const struct journal_approval *a,
		     enum journal_type type, const char *why)
{
	struct journal_id id = a->id;

	emit_item(e, r, a, type, why);
	engine_timer_cancel(e, r, JOURNAL_NO_STEP, 0, &id);
}

void engine_item_consume(struct engine *e, struct engine_run *r, const struct journal_approval *a)
{
	end_item(e, r, a, JOURNAL_APPROVAL_CONSUMED, NULL);
}

void engine_item_lapsed(struct engine *e, struct engine_run *r, const struct journal_approval *a,
			const char *why)
{
	end_item(e, r, a, JOURNAL_APPROVAL_LAPSED, why);
}

void engine_item_withdraw(struct engine *e, struct engine_run *r, uint32_t step, const char *why)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_approval *a =
		engine_item_of(e, step == JOURNAL_NO_STEP ? &row->landing_approval
							  : &row->steps[step]->approval);

	for (size_t i = r->card_count; i-- > 0;)
		if (r->cards[i].step == step && engine_id_is_zero(&r->cards[i].effect))
			drop_card(r, i);
	engine_item_end(e, r, a, why);
}

void engine_item_end(struct engine *e, struct engine_run *r, const struct journal_approval *a,
		     const char *why)
{
	if (!a)
		return;
	if (a->state == JOURNAL_APPROVAL_S_OPEN)
		end_item(e, r, a, JOURNAL_APPROVAL_WITHDRAWN, why);
	else if (a->state == JOURNAL_APPROVAL_S_APPROVED)
		end_item(e, r, a, JOURNAL_APPROVAL_REVOKED, why);
}

void engine_item_supersede(struct engine *e, struct engine_run *r, const struct journal_approval *a)
{
	end_item(e, r, a, JOURNAL_APPROVAL_SUPERSEDED, "another action stands instead of it");
}

/* Nobody may go on with it: what the object becomes. */
static void refused(struct engine *e, struct engine_run *r, const struct journal_approval *item,
		    const char *why)
{
	uint32_t step = item->step;
	enum journal_approval_kind kind = item->kind;

	switch (kind) {
	case JOURNAL_KIND_STEP_GATE:
		engine_timer_cancel(e, r, step, 0, NULL);
		engine_emit_step(e, r, step, JOURNAL_STEP_DENIED, why);
		break;
	case JOURNAL_KIND_STEP_COMMIT:
		engine_emit_step(e, r, step, JOURNAL_STEP_DENIED, why);
		engine_step_throw_away(e, r, step);
		break;
	case JOURNAL_KIND_EXHAUSTED:
		engine_emit_step(e, r, step, JOURNAL_STEP_FAILED, why);
		break;
	case JOURNAL_KIND_LANDING:
	case JOURNAL_KIND_CONFLICT:
		engine_land_drop(e, r, why);
		break;
	case JOURNAL_KIND_DIVERGED: /* found again by engine_item_diverged */
		break;
	case JOURNAL_KIND_EFFECT:
	case JOURNAL_KIND_DOUBT:
		engine_effect_refused(e, r, item, why);
		break;
	}
}

void engine_item_expired(struct engine *e, struct engine_run *r, const struct journal_approval *a)
{
	end_item(e, r, a, JOURNAL_APPROVAL_EXPIRED, "nobody decided in time");
	refused(e, r, a, "nobody decided in time");
}

/* ---- divergence: its answer outlives its item, because carrying it out may take a while ---- */

struct diverged_search {
	const struct engine_run *run;
	uint32_t step;
	struct digest action;
	const struct journal_approval *found;
};

static int match_diverged(const struct journal_approval *a, void *arg)
{
	struct diverged_search *s = arg;

	if (journal_id_equal(&a->run, &s->run->id) && a->step == s->step &&
	    a->kind == JOURNAL_KIND_DIVERGED && digest_equal(&a->action, &s->action))
		s->found = a;
	return 0;
}

static int diverged_action(struct engine *e, struct engine_run *r, uint32_t step,
			   struct digest *ret_object, struct digest *ret_action)
{
	const struct journal_step *s = engine_run_row(e, r)->steps[step];
	int rc = engine_input_difference(e, &s->input, &s->diverged, ret_object);

	return rc < 0 ? rc : action_of(e, r, step, JOURNAL_KIND_DIVERGED, ret_object, ret_action);
}

const char *engine_item_diverged(struct engine *e, struct engine_run *r, uint32_t step,
				 const struct journal_approval **ret_item)
{
	struct diverged_search s = {.run = r, .step = step};
	struct digest object;
	int rc = diverged_action(e, r, step, &object, &s.action);

	*ret_item = NULL;
	if (rc < 0) {
		e->failed = rc;
		return NULL;
	}
	journal_state_each_approval(e->rows, match_diverged, &s);
	if (!s.found)
		return NULL;
	if (s.found->state == JOURNAL_APPROVAL_S_DENIED ||
	    s.found->state == JOURNAL_APPROVAL_S_EXPIRED)
		return "fail";
	if (s.found->state != JOURNAL_APPROVAL_S_APPROVED)
		return NULL;
	*ret_item = s.found;
	return s.found->choice ? s.found->choice : "fail";
}

static int match_accepted(const struct journal_approval *a, void *arg)
{
	struct diverged_search *s = arg;

	if (!journal_id_equal(&a->run, &s->run->id) || a->step != s->step ||
	    a->kind != JOURNAL_KIND_DIVERGED || a->state != JOURNAL_APPROVAL_S_CONSUMED ||
	    !a->choice || strcmp(a->choice, "accept") != 0 || !digest_equal(&a->action, &s->action))
		return 0;
	s->found = a;
	return 1;
}

int engine_item_accepted(struct engine *e, struct engine_run *r, uint32_t step,
			 const struct digest *input)
{
	struct diverged_search s = {.run = r, .step = step};
	struct digest object;
	int rc = engine_input_difference(e, &engine_run_row(e, r)->steps[step]->input, input,
					 &object);

	if (rc == 0)
		rc = action_on(e, r, step, JOURNAL_KIND_DIVERGED, &object, input, &s.action);
	if (rc < 0)
		return rc;
	journal_state_each_approval(e->rows, match_accepted, &s);
	return s.found != NULL;
}

void engine_item_want_diverged(struct engine *e, struct engine_run *r, uint32_t step)
{
	struct digest object, action;
	int rc = diverged_action(e, r, step, &object, &action);

	if (rc < 0)
		e->failed = rc;
	else
		engine_item_want(e, r, step, JOURNAL_KIND_DIVERGED, &object);
}

/* ---- votes ---- */

static const char *const *choices_of(enum journal_approval_kind kind)
{
	static const char *const none[] = {NULL};
	static const char *const conflict[] = {"mine", "theirs", "file", NULL};
	static const char *const exhausted[] = {"retry", "fail", NULL};
	static const char *const diverged[] = {"accept", "fork", "fail", NULL};
	static const char *const doubt[] = {"done", "not-done", "abandon", NULL};

	switch (kind) {
	case JOURNAL_KIND_STEP_GATE:
	case JOURNAL_KIND_STEP_COMMIT:
	case JOURNAL_KIND_LANDING:
	case JOURNAL_KIND_EFFECT:
		return none;
	case JOURNAL_KIND_DOUBT:
		return doubt;
	case JOURNAL_KIND_CONFLICT:
		return conflict;
	case JOURNAL_KIND_EXHAUSTED:
		return exhausted;
	case JOURNAL_KIND_DIVERGED:
		return diverged;
	}
	return none;
}

static int check_choice(const struct journal_approval *a, const struct engine_vote *v,
			struct error *err)
{
	const char *const *known = choices_of(a->kind);
	bool file = v->choice && strcmp(v->choice, "file") == 0;

	if (v->decision == JOURNAL_DECISION_DENY)
		return 0;
	if (!*known && v->choice)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "vote: a %s needs no choice; approve it or deny it",
				      journal_approval_kind_name(a->kind));
	for (; *known; known++)
		if (v->choice && strcmp(*known, v->choice) == 0)
			break;
	if (!*known && *choices_of(a->kind))
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      v->choice && *v->choice
					      ? "vote: '%.32s' is none of its choices; say --as %s"
					      : "vote: it wants a choice%.0s; say --as %s",
				      v->choice ? v->choice : "",
				      a->kind == JOURNAL_KIND_CONFLICT	  ? "mine, theirs or file=F"
				      : a->kind == JOURNAL_KIND_EXHAUSTED ? "retry or fail"
				      : a->kind == JOURNAL_KIND_DOUBT ? "done, not-done or abandon"
								      : "accept, fork or fail");
	if (a->kind != JOURNAL_KIND_CONFLICT && v->path.len)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "vote: only a conflict has paths");
	if (file && (v->path.len == 0 || digest_is_zero(&v->file)))
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "vote: a file answers one path, and there are several; name "
				      "it with --path");
	return 0;
}

static bool same_vote(const struct journal_vote *a, const struct engine_vote *v)
{
	return a->decision == v->decision && ballot_same_text(a->choice, v->choice) &&
	       digest_equal(&a->card, &v->card) && digest_equal(&a->file, &v->file);
}

static bool has_vote(const struct journal_approval *a, const struct engine_vote *v)
{
	const struct journal_vote *last = ballot_last_word(a, v->principal, v->path);

	return last && same_vote(last, v);
}

static bool in_role(const struct engine_role *role, const struct engine_vote *v)
{
	char peer[24];

	snprintf(peer, sizeof(peer), "uid:%u", v->uid);
	for (size_t i = 0; i < role->count; i++) {
		const char *who = role->any[i];

		if (strcmp(who, peer) == 0)
			return true;
		if (strncmp(who, "signer:", 7) == 0 && !digest_is_zero(&v->proof) &&
		    ballot_same_text(who, v->principal))
			return true;
		for (size_t k = 0; strncmp(who, "group:", 6) == 0 && k < v->group_count; k++)
			if (strcmp(who + 6, v->groups[k]) == 0)
				return true;
	}
	return false;
}

/* A signature says who votes, whoever brings it; without one it is the peer of the socket. */
static int check_voter(const struct journal_run *run, const struct engine_rules *rules,
		       const struct engine_vote *v, struct error *err)
{
	bool is_signed = !digest_is_zero(&v->proof);

	if (rules->unread < 0)
		return error_set_exit(err, -EIO, EXIT_STATUS_DENIED,
				      "vote: the policy that says who may decide cannot be read, "
				      "so nobody may; put its file back ('holdfast verify' names "
				      "it) and vote again, or cancel the run");
	if (rules->signed_votes && !is_signed)
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "vote: the policy asks for signed votes; say --sign KEY");
	if (!is_signed && rules->exclude_starter && v->uid == run->uid)
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "vote: who started the run may not decide; the policy "
				      "excludes the starter");
	for (size_t i = 0; !is_signed && i < rules->exclude_uid_count; i++)
		if (rules->exclude_uids[i] == v->uid)
			return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
					      "vote: uid %u may not decide; the policy excludes it",
					      v->uid);
	for (size_t i = 0; i < rules->role_count; i++)
		if (!in_role(&rules->roles[i], v))
			return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
					      "vote: %.100s (uid %u) may not decide; the policy "
					      "names who may: %.100s%s",
					      v->principal ? v->principal : "?", v->uid,
					      rules->roles[i].count ? rules->roles[i].any[0]
								    : "nobody",
					      rules->roles[i].count > 1 ? ", ..." : "");
	return 0;
}

/* What is signed can be sent again by anyone who saw it: an older word never replaces a later one.
 */
static int check_fresh(const struct journal_approval *a, const struct engine_vote *v,
		       struct error *err)
{
	for (uint32_t i = 0; i < a->vote_count; i++)
		if (!digest_is_zero(&v->proof) &&
		    (digest_equal(&a->votes[i].proof, &v->proof) ||
		     (ballot_same_text(a->votes[i].principal, v->principal) &&
		      a->votes[i].signed_ns >= v->signed_ns)))
			return error_set_exit(err, -ESTALE, EXIT_STATUS_CONFLICT,
					      "vote: %.100s signed a later one already; sign again",
					      v->principal);
	return 0;
}

static int check_vote(struct engine *e, struct engine_run *r, const struct journal_approval *a,
		      const struct engine_vote *v, struct error *err)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_vote *last = a->vote_count ? &a->votes[a->vote_count - 1] : NULL;
	struct engine_rules rules;
	int rc;

	if (a->state != JOURNAL_APPROVAL_S_OPEN)
		return error_set_exit(err, -ESTALE, EXIT_STATUS_CONFLICT,
				      "vote: it is %s already%s%.64s%s%.32s",
				      journal_approval_state_name(a->state),
				      last ? ", last by " : "",
				      last && last->principal ? last->principal : "",
				      a->choice ? ": " : "", a->choice ? a->choice : "");
	if (!digest_equal(&a->card, &v->card))
		return error_set_exit(
			err, -ESTALE, EXIT_STATUS_CONFLICT,
			"vote: another card was shown than the one of this item; look again");
	engine_item_rules(e, r, &rules);
	rc = check_voter(row, &rules, v, err);
	if (rc == 0)
		rc = check_fresh(a, v, err);
	if (rc < 0)
		return rc;
	if (a->vote_count >= JOURNAL_VOTES_MAX)
		return error_set_exit(
			err, -E2BIG, EXIT_STATUS_LIMIT,
			"vote: %d votes stand already; answer all paths at once, or deny",
			JOURNAL_VOTES_MAX);
	rc = engine_grant_check(e, r, a, v, err);
	return rc < 0 ? rc : check_choice(a, v, err);
}

static void cast(struct engine *e, struct engine_run *r, const struct journal_approval *a,
		 const struct engine_vote *v)
{
	struct journal_record rec = engine_record(r, a->step, JOURNAL_VOTE_CAST);

	JOURNAL_SET(&rec.p, approval, a->id);
	JOURNAL_SET(&rec.p, decision, v->decision);
	JOURNAL_SET(&rec.p, card, v->card);
	if (v->principal)
		JOURNAL_SET(&rec.p, principal, bytes_str(v->principal));
	if (v->auth)
		JOURNAL_SET(&rec.p, auth, bytes_str(v->auth));
	if (v->reason)
		JOURNAL_SET(&rec.p, why, bytes_str(v->reason));
	if (v->choice)
		JOURNAL_SET(&rec.p, choice, bytes_str(v->choice));
	if (v->path.len)
		JOURNAL_SET(&rec.p, path, v->path);
	if (!digest_is_zero(&v->file))
		JOURNAL_SET(&rec.p, digest, v->file);
	if (!digest_is_zero(&v->proof)) {
		JOURNAL_SET(&rec.p, proof, v->proof);
		JOURNAL_SET(&rec.p, signed_ns, v->signed_ns);
	}
	if (v->shown_ms)
		JOURNAL_SET(&rec.p, shown_ms, v->shown_ms);
	engine_emit(e, &rec);
}

struct path_check {
	const struct journal_approval *a;
	uint32_t quorum;
};

/* Unanswered, or what would be carried out is not what enough principals said. */
static int path_undecided(struct bytes path, void *arg)
{
	const struct path_check *c = arg;
	const struct journal_vote *v = ballot_answer(c->a, path);

	return v && ballot_agreeing(c->a, v, path) >= c->quorum ? 0 : 1;
}

static int path_is(struct bytes path, void *arg)
{
	return bytes_equal(path, *(struct bytes *)arg);
}

static int each_path(struct engine *e, const struct journal_approval *a,
		     int (*fn)(struct bytes path, void *arg), void *arg)
{
	AUTO_BUFFER b = {0};
	int rc = e->ops.blob_read(e->ops.ctx, &a->object, &b);

	return rc < 0 ? rc : engine_land_each_conflict(buffer_bytes(&b), fn, arg);
}

/* Whether the votes approve, the last one being new: enough principals agree, and every path is
 * answered. 1 yes, 0 not yet, negative errno. */
static int decided(struct engine *e, struct engine_run *r, const struct journal_approval *a)
{
	struct engine_rules rules;
	struct path_check c = {.a = a};
	int rc;

	engine_item_rules(e, r, &rules);
	if (rules.unread < 0)
		return rules.unread;
	c.quorum = rules.quorum;
	rc = a->kind == JOURNAL_KIND_CONFLICT ? each_path(e, a, path_undecided, &c)
					      : path_undecided(bytes_of("", 0), &c);
	return rc < 0 ? rc : !rc;
}

static void approve(struct engine *e, struct engine_run *r, const struct journal_approval *a,
		    const struct engine_vote *v)
{
	struct journal_record rec = engine_record(r, a->step, JOURNAL_APPROVAL_APPROVED);
	struct journal_id id = a->id;
	uint32_t step = a->step;
	struct engine_rules rules;
	int64_t due;

	engine_item_rules(e, r, &rules);
	due = rules.execute_by_ns ? e->now.wall_ns + rules.execute_by_ns : 0;
	JOURNAL_SET(&rec.p, approval, id);
	if (v->choice)
		JOURNAL_SET(&rec.p, choice, bytes_str(v->path.len ? "by path" : v->choice));
	if (due)
		JOURNAL_SET(&rec.p, execute_by_ns, due);
	engine_emit(e, &rec);
	engine_timer_cancel(e, r, JOURNAL_NO_STEP, 0, &id);
	if (due)
		engine_timer_arm(e, r, step, JOURNAL_TIMER_EXECUTE_BY, due, &id);
}

static int find_item(struct engine *e, const struct engine_vote *v, struct engine_run **ret,
		     const struct journal_approval **ret_item, struct error *err)
{
	*ret_item = journal_state_approval(e->rows, &v->approval);
	if (!*ret_item)
		return error_set_exit(err, -ENOENT, EXIT_STATUS_USAGE,
				      "vote: no such item in the queue");
	*ret = engine_run_get(e, &(*ret_item)->run);
	if (!*ret)
		return error_set(err, e->failed ? e->failed : -ENOENT,
				 "vote: its run cannot be read");
	return 0;
}

struct of_rule {
	const struct engine *e;
	const struct journal_id *run;
	const char *rule;
	const struct journal_approval *found;
};

static int match_rule(const struct journal_approval *a, void *arg)
{
	struct of_rule *s = arg;
	const struct journal_effect *f = journal_state_effect(s->e->rows, &a->effect);

	if (a->kind != JOURNAL_KIND_EFFECT || a->state != JOURNAL_APPROVAL_S_OPEN ||
	    !journal_id_equal(&a->run, s->run) || !f || !f->rule || strcmp(f->rule, s->rule) != 0)
		return 0;
	s->found = a;
	return 1;
}

/* The others of a rule that was denied as a whole. */
static void deny_others(struct engine *e, struct engine_run *r, const char *rule)
{
	struct of_rule s = {.e = e, .run = &r->id, .rule = rule};

	while (journal_state_each_approval(e->rows, match_rule, &s)) {
		end_item(e, r, s.found, JOURNAL_APPROVAL_DENIED, "its rule was denied for the run");
		refused(e, r, s.found, "its rule was denied for the run");
	}
}

struct one_path {
	struct bytes path;
	size_t count;
};

static int note_path(struct bytes path, void *arg)
{
	struct one_path *p = arg;

	p->path = path;
	return ++p->count > 1;
}

/* A file answers one path: where there is only one, it need not be named. *keep holds its bytes. */
static void name_the_one_path(struct engine *e, const struct journal_approval *a,
			      struct engine_vote *v, struct buffer *keep)
{
	struct one_path one = {0};

	if (a->kind != JOURNAL_KIND_CONFLICT || v->decision != JOURNAL_DECISION_APPROVE ||
	    v->path.len > 0 || !v->choice || strcmp(v->choice, "file") != 0)
		return;
	if (e->ops.blob_read(e->ops.ctx, &a->object, keep) == 0 &&
	    engine_land_each_conflict(buffer_bytes(keep), note_path, &one) == 0 && one.count == 1)
		v->path = one.path;
}

int engine_vote(struct engine *e, struct engine_now now, const struct engine_vote *given,
		struct error *err)
{
	struct engine_vote named = *given, *v = &named;
	const struct journal_approval *a;
	AUTO_BUFFER conflicts = {0};
	struct engine_run *r;
	struct bytes path;
	int rc;

	/* At its deadline it is over, whether or not the clock was looked at since. */
	(void)engine_tick(e, now);
	engine_enter(e, now);
	rc = find_item(e, v, &r, &a, err);
	if (rc < 0)
		return rc;
	name_the_one_path(e, a, v, &conflicts);
	if (has_vote(a, v)) /* said before, and recorded: the voter had no answer */
		return 0;
	rc = check_vote(e, r, a, v, err);
	if (rc < 0)
		return rc;
	path = v->path;
	if (path.len && each_path(e, a, path_is, &path) <= 0) {
		AUTO_FREE char *text = escape_dup(path, ESCAPE_LINE);

		return error_set_exit(err, -ENOENT, EXIT_STATUS_USAGE,
				      "vote: '%.120s' is no path of this conflict",
				      text ? text : "?");
	}
	r->named = true;
	engine_act_as(e, JOURNAL_ACTOR_PERSON, v->uid);
	cast(e, r, a, v);
	if (v->grant || v->whole_rule)
		engine_grant_make(e, r, a, v);
	if (v->decision == JOURNAL_DECISION_DENY) {
		end_item(e, r, a, JOURNAL_APPROVAL_DENIED, v->reason);
		engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
		refused(e, r, a, v->reason && *v->reason ? v->reason : "a person denied it");
		if (v->whole_rule)
			deny_others(e, r, journal_state_effect(e->rows, &a->effect)->rule);
	} else {
		rc = decided(e, r, a);
		if (rc < 0)
			return error_set(err, rc,
					 "vote: recorded, but what decides it cannot be read");
		if (rc > 0)
			approve(e, r, a, v);
		engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	}
	rc = engine_advance(e, r);
	return rc < 0 ? error_set(err, rc, "vote: recorded; what follows from it failed") : 0;
}
