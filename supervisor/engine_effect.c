/*
 * Effects: what was decided (engine_effect_propose.c) is reserved before it may leave; what came of
 * it is recorded, or asked.
 *
 * Nothing here sends. A client is attached to its effect while it waits (engine_client.h); an effect
 * is reserved only for a client that is attached, so that nothing is sent for nobody.
 */
#include <errno.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "supervisor/engine_client.h"
#include "supervisor/engine_private.h"

static const struct journal_id no_id;

/* ---- records and commands ---- */

struct journal_record engine_effect_record(const struct engine_run *r,
					   const struct journal_effect *f, enum journal_type type)
{
	struct journal_record rec = engine_record(r, f->step, type);

	rec.attempt = f->attempt;
	JOURNAL_SET(&rec.p, effect, f->id);
	return rec;
}

void engine_effect_emit(struct engine *e, const struct engine_run *r,
			const struct journal_effect *f, enum journal_type type, const char *why)
{
	struct journal_record rec = engine_effect_record(r, f, type);

	if (why)
		JOURNAL_SET(&rec.p, why, bytes_str(why));
	engine_emit(e, &rec);
}

static void command(struct engine *e, const struct engine_run *r, const struct journal_effect *f,
		    enum engine_command_kind kind, enum engine_answer answer, bool after_sync)
{
	struct engine_command c = {.kind = kind,
				   .after_sync = after_sync,
				   .run = r->id,
				   .step = f->step,
				   .attempt = f->attempt,
				   .effect = f->id,
				   .answer = answer};

	e->ops.command(e->ops.ctx, &c);
}

void engine_effect_answer(struct engine *e, struct engine_run *r, const struct journal_effect *f,
			  enum engine_answer what)
{
	command(e, r, f, ENGINE_EFFECT_ANSWER, what, what != ENGINE_ANSWER_WAITING);
	if (what == ENGINE_ANSWER_REPLAY || what == ENGINE_ANSWER_DENY)
		engine_client_drop(r, &f->id);
}

/* ---- its key, its items' digest, what may be done in doubt ---- */

int engine_effect_key(const struct journal_run *run, const struct journal_effect *f,
		      char ret[ENGINE_KEY_SIZE])
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
	struct digest d;
	AUTO_BUFFER b = {0};
	unsigned bits = 0, held = 0;
	size_t n = 0;

	cbor_w_array(&b, 6);
	cbor_w_bytes(&b, bytes_of(run->id.b, JOURNAL_ID_SIZE));
	cbor_w_str(&b, run->steps[f->step]->key);
	cbor_w_uint(&b, f->action_kind);
	cbor_w_bytes(&b, bytes_of(f->identity.b, DIGEST_SIZE));
	cbor_w_uint(&b, f->occurrence);
	cbor_w_bytes(&b, bytes_of(f->action.b, DIGEST_SIZE));
	if (b.failed)
		return b.failed;
	digest_domain("holdfast.effect-key", buffer_bytes(&b), &d);
	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		bits = bits << 8 | d.b[i];
		for (held += 8; held >= 5; held -= 5)
			ret[n++] = alphabet[bits >> (held - 5) & 31];
	}
	ret[n++] = alphabet[bits << (5 - held) & 31];
	ret[n] = '\0';
	return 0;
}

int engine_effect_item_action(const struct engine *e, const struct engine_run *r,
			      const struct journal_effect *f, enum journal_approval_kind kind,
			      struct digest *ret)
{
	AUTO_BUFFER b = {0};

	cbor_w_array(&b, 6);
	cbor_w_uint(&b, kind);
	cbor_w_bytes(&b, bytes_of(r->id.b, JOURNAL_ID_SIZE));
	cbor_w_str(&b, engine_run_row(e, r)->steps[f->step]->key);
	cbor_w_bytes(&b, bytes_of(f->id.b, JOURNAL_ID_SIZE));
	cbor_w_bytes(&b, bytes_of(f->action.b, DIGEST_SIZE));
	/* A doubt stands on the sending it is about. */
	cbor_w_uint(&b, kind == JOURNAL_KIND_DOUBT ? f->reserved_lsn : 0);
	if (b.failed)
		return b.failed;
	digest_domain("holdfast.action", buffer_bytes(&b), ret);
	return 0;
}

enum engine_doubt engine_effect_doubt(const struct journal_effect *f, int64_t now_ns,
				      int64_t *ret_until)
{
	int64_t window = f->window_ms > INT64_MAX / 2000000 ? INT64_MAX / 2
							    : (int64_t)f->window_ms * 1000000;

	*ret_until = 0;
	switch (f->retry) {
	case JOURNAL_RETRY_SAFE:
		return ENGINE_DOUBT_SEND;
	case JOURNAL_RETRY_KEYED:
		*ret_until = f->reserved_ns + window;
		return now_ns < *ret_until ? ENGINE_DOUBT_SEND : ENGINE_DOUBT_PERSON;
	case JOURNAL_RETRY_PROBE:
		return ENGINE_DOUBT_PROBE;
	case JOURNAL_RETRY_NEVER:
	case JOURNAL_RETRY_COUNT:
		break;
	}
	return ENGINE_DOUBT_PERSON;
}

/* ---- turning down ---- */

void engine_effect_end_item(struct engine *e, struct engine_run *r, const struct journal_effect *f,
			    const char *why)
{
	engine_item_forget_effect(r, &f->id);
	engine_item_end(e, r, engine_item_of(e, &f->approval), why);
}

void engine_effect_deny(struct engine *e, struct engine_run *r, const struct journal_effect *f,
			const char *why)
{
	engine_effect_end_item(e, r, f, why);
	engine_effect_emit(e, r, f, JOURNAL_EFFECT_DENIED, why);
	engine_effect_answer(e, r, f, ENGINE_ANSWER_DENY);
}

static void withdraw(struct engine *e, struct engine_run *r, const struct journal_effect *f,
		     const char *why)
{
	engine_effect_end_item(e, r, f, why);
	engine_effect_emit(e, r, f, JOURNAL_EFFECT_WITHDRAWN, why);
	engine_effect_answer(e, r, f, ENGINE_ANSWER_DENY);
}

/* A decision lets a step go on whose attempt was suspended for it. */
static void wake_step(struct engine *e, struct engine_run *r, uint32_t step, const char *why)
{
	const struct journal_run *row = engine_run_row(e, r);

	if (row->steps[step]->state == JOURNAL_STEP_S_WAITING && !journal_run_final(row->state) &&
	    row->state != JOURNAL_RUN_S_CANCELLING)
		engine_step_make_runnable(e, r, step, why);
}

void engine_effect_refused(struct engine *e, struct engine_run *r, const struct journal_approval *a,
			   const char *why)
{
	const struct journal_effect *f = journal_state_effect(e->rows, &a->effect);
	uint32_t step = a->step;

	if (!f)
		return;
	if (a->kind == JOURNAL_KIND_DOUBT) {
		if (f->state == JOURNAL_EFFECT_S_IN_DOUBT) {
			engine_effect_emit(e, r, f, JOURNAL_EFFECT_ABANDONED, why);
			engine_effect_answer(e, r, f, ENGINE_ANSWER_DENY);
			wake_step(e, r, step, "a person gave it up");
		}
	} else if (f->state == JOURNAL_EFFECT_S_WAITING && journal_id_equal(&f->approval, &a->id)) {
		engine_effect_emit(e, r, f, JOURNAL_EFFECT_DENIED, why);
		engine_effect_answer(e, r, f, ENGINE_ANSWER_DENY);
		wake_step(e, r, step, "a person denied it");
	}
}

/* ---- sending ---- */

static bool may_send(const struct engine *e, const struct engine_run *r,
		     const struct journal_effect *f)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_attempt *a = engine_last_attempt(row->steps[f->step]);

	return engine_client_attached(r, f) && !e->held && a && a->number == f->attempt &&
	       engine_attempt_lives(a) && !a->suspending &&
	       (row->state == JOURNAL_RUN_S_RUNNING || row->state == JOURNAL_RUN_S_WAITING);
}

/* In one batch with the consuming of what allowed it; the client is told after the sync. */
static void reserve(struct engine *e, struct engine_run *r, const struct journal_effect *f)
{
	const struct journal_approval *a = engine_item_of(e, &f->approval);
	struct engine_client *c = engine_client_of(r, &f->id);
	struct journal_record rec = engine_effect_record(r, f, JOURNAL_EFFECT_RESERVED);
	bool again = f->state == JOURNAL_EFFECT_S_IN_DOUBT;

	if (again) {
		engine_item_forget_effect(r, &f->id);
		engine_item_end(e, r, engine_item_of(e, &f->doubt), "it is sent again");
	}
	if (a && a->state == JOURNAL_APPROVAL_S_APPROVED)
		engine_item_consume(e, r, a);
	JOURNAL_SET(&rec.p, courier, c->courier);
	JOURNAL_SET(&rec.p, number, c->request);
	JOURNAL_SET(&rec.p, action, f->action);
	engine_emit(e, &rec);
	engine_client_move(c, again ? ENGINE_CLIENT_TOLD_AGAIN : ENGINE_CLIENT_TOLD);
	command(e, r, f, ENGINE_EFFECT_ANSWER, ENGINE_ANSWER_SEND, true);
}

static void in_doubt(struct engine *e, struct engine_run *r, const struct journal_effect *f,
		     const char *why)
{
	struct engine_client *c = engine_client_of(r, &f->id);
	int64_t until;

	engine_effect_emit(e, r, f, JOURNAL_EFFECT_IN_DOUBT, why);
	if (c)
		engine_client_in_doubt(c);
	if (engine_effect_doubt(f, e->now.wall_ns, &until) == ENGINE_DOUBT_SEND && until)
		engine_timer_arm(e, r, f->step, JOURNAL_TIMER_KEY_WINDOW, until, &f->id);
}

/* ---- one effect, as far as it goes ---- */

static bool closed(const struct journal_approval *a)
{
	return !a ||
	       (a->state != JOURNAL_APPROVAL_S_OPEN && a->state != JOURNAL_APPROVAL_S_APPROVED);
}

static void push_waiting(struct engine *e, struct engine_run *r, const struct journal_effect *f)
{
	const struct journal_approval *a = engine_item_of(e, &f->approval);
	struct journal_record rec = engine_effect_record(r, f, JOURNAL_EFFECT_ALLOWED);

	if (closed(a)) {
		engine_item_want_effect(e, r, f, JOURNAL_KIND_EFFECT);
	} else if (a->state == JOURNAL_APPROVAL_S_APPROVED) {
		uint32_t step = f->step;

		JOURNAL_SET(&rec.p, approval, a->id);
		engine_emit(e, &rec);
		wake_step(e, r, step, "a person approved it");
	}
}

static void push_allowed(struct engine *e, struct engine_run *r, const struct journal_effect *f)
{
	const struct journal_approval *a = engine_item_of(e, &f->approval);

	if (!engine_id_is_zero(&f->approval) && closed(a))
		engine_effect_emit(e, r, f, JOURNAL_EFFECT_WAITING,
				   "its approval was not used in time");
	else if (may_send(e, r, f))
		reserve(e, r, f);
}

static void push_reserved(struct engine *e, struct engine_run *r, const struct journal_effect *f)
{
	const struct journal_attempt *a = engine_last_attempt(engine_run_row(e, r)->steps[f->step]);
	struct engine_client *c = engine_client_of(r, &f->id);
	bool known = !engine_id_is_zero(&r->courier) && journal_id_equal(&r->courier, &f->courier);

	if (!known || (c && engine_client_is_told(c)))
		return;
	/* It ran here, under a supervisor that is gone: no courier can say how far it came. */
	if (f->action_kind == ENGINE_ACTION_TOOL) {
		in_doubt(e, r, f, "the supervisor that ran it is gone");
		return;
	}
	/* This courier never heard that it may send: the same request asks again, or none does. */
	if (c && c->attached && c->request == f->request) {
		engine_client_move(c, ENGINE_CLIENT_TOLD);
		command(e, r, f, ENGINE_EFFECT_ANSWER, ENGINE_ANSWER_SEND, true);
	} else if (!a || a->number != f->attempt || !engine_attempt_lives(a)) {
		in_doubt(e, r, f, "its courier does not say what became of it");
	}
}

static void settle(struct engine *e, struct engine_run *r, const struct journal_effect *f,
		   const struct journal_approval *a)
{
	const struct journal_vote *last = a->vote_count ? &a->votes[a->vote_count - 1] : NULL;
	bool done = a->choice && strcmp(a->choice, "done") == 0,
	     not_done = a->choice && strcmp(a->choice, "not-done") == 0;
	AUTO_FREE char *by = strdup(last && last->principal ? last->principal : "");
	struct digest file = last ? last->file : (struct digest){0};
	uint32_t step = f->step;
	struct journal_record rec;

	if (!by) {
		e->failed = -ENOMEM;
		return;
	}
	engine_item_consume(e, r, a);
	rec = engine_effect_record(r, f,
				   done	      ? JOURNAL_EFFECT_CONFIRMED
				   : not_done ? JOURNAL_EFFECT_REFUSED
					      : JOURNAL_EFFECT_ABANDONED);
	JOURNAL_SET(&rec.p, principal, bytes_str(by));
	JOURNAL_SET(&rec.p, why,
		    bytes_str(done	 ? "a person said: done"
			      : not_done ? "a person said: not done"
					 : "a person gave it up"));
	if (done)
		JOURNAL_SET(&rec.p, status, 200);
	if (done && !digest_is_zero(&file))
		JOURNAL_SET(&rec.p, response_body, file);
	engine_emit(e, &rec);
	engine_effect_answer(e, r, f, done ? ENGINE_ANSWER_REPLAY : ENGINE_ANSWER_DENY);
	wake_step(e, r, step, "a person said what became of its effect");
}

/* No attempt of its step will ask for it again by itself. */
static bool nobody_asks_again(const struct engine *e, const struct engine_run *r,
			      const struct journal_effect *f)
{
	const struct journal_run *row = engine_run_row(e, r);
	const struct journal_step *s = row->steps[f->step];

	return journal_run_final(row->state) || row->state == JOURNAL_RUN_S_CANCELLING ||
	       journal_step_final(s->state) || s->state == JOURNAL_STEP_S_SEALED;
}

static void ask_what_became(struct engine *e, struct engine_run *r, const struct journal_effect *f)
{
	const struct journal_approval *a = engine_item_of(e, &f->doubt);
	struct digest is;

	if (closed(a))
		engine_item_want_effect(e, r, f, JOURNAL_KIND_DOUBT);
	else if (engine_effect_item_action(e, r, f, JOURNAL_KIND_DOUBT, &is) < 0 ||
		 !digest_equal(&is, &a->action))
		engine_item_end(e, r, a, "it was sent again since");
	else if (a->state == JOURNAL_APPROVAL_S_APPROVED)
		settle(e, r, f, a);
}

static void push_doubt(struct engine *e, struct engine_run *r, const struct journal_effect *f)
{
	const struct journal_approval *said = engine_item_of(e, &f->doubt);
	struct engine_client *c = engine_client_of(r, &f->id);
	int64_t until;

	/* A person's word stands, also while a probe is asked again after a restart. */
	if (said && said->state == JOURNAL_APPROVAL_S_APPROVED) {
		ask_what_became(e, r, f);
		return;
	}
	switch (engine_effect_doubt(f, e->now.wall_ns, &until)) {
	case ENGINE_DOUBT_SEND:
		if (may_send(e, r, f) && c->state == ENGINE_CLIENT_UNTOLD) {
			reserve(e, r, f);
			break;
		}
		/* Twice is enough by itself: what follows is the client's to ask for. */
		if (c && c->attached && c->state == ENGINE_CLIENT_SPENT)
			engine_effect_answer(e, r, f, ENGINE_ANSWER_DENY);
		if (!nobody_asks_again(e, r, f))
			break;
		if (f->retry == JOURNAL_RETRY_SAFE)
			engine_effect_emit(e, r, f, JOURNAL_EFFECT_ABANDONED,
					   "nobody asks for it again, and doing it twice is safe");
		else
			ask_what_became(e, r, f);
		break;
	case ENGINE_DOUBT_PROBE:
		c = engine_client_get(e, r, &f->id);
		if (!c)
			return;
		/* A probe is a sandbox: where nobody named the run, a person is asked meanwhile. */
		if (c->state == ENGINE_CLIENT_PROBE_UNKNOWN || !r->named) {
			ask_what_became(e, r, f);
		} else if (c->state != ENGINE_CLIENT_PROBING) {
			engine_client_move(c, ENGINE_CLIENT_PROBING);
			command(e, r, f, ENGINE_EFFECT_PROBE, 0, false);
		}
		break;
	case ENGINE_DOUBT_PERSON:
		ask_what_became(e, r, f);
		break;
	}
}

static void push_one(struct engine *e, struct engine_run *r, const struct journal_effect *f)
{
	const struct journal_run *row = engine_run_row(e, r);
	bool ended = journal_step_final(row->steps[f->step]->state),
	     over = ended || row->state == JOURNAL_RUN_S_CANCELLING ||
		    journal_run_final(row->state);

	switch (f->state) {
	case JOURNAL_EFFECT_S_PROPOSED:
	case JOURNAL_EFFECT_S_WAITING:
	case JOURNAL_EFFECT_S_ALLOWED:
		if (over)
			withdraw(e, r, f, ended ? "its step ended" : "the run was cancelled");
		else if (f->state == JOURNAL_EFFECT_S_WAITING)
			push_waiting(e, r, f);
		else if (f->state == JOURNAL_EFFECT_S_ALLOWED)
			push_allowed(e, r, f);
		break;
	case JOURNAL_EFFECT_S_RESERVED:
		push_reserved(e, r, f);
		break;
	case JOURNAL_EFFECT_S_IN_DOUBT:
		push_doubt(e, r, f);
		break;
	case JOURNAL_EFFECT_S_DENIED:
	case JOURNAL_EFFECT_S_WITHDRAWN:
	case JOURNAL_EFFECT_S_CONFIRMED:
	case JOURNAL_EFFECT_S_REFUSED:
	case JOURNAL_EFFECT_S_ABANDONED:
	case JOURNAL_EFFECT_S_COMPENSATED:
	case JOURNAL_EFFECT_S_COUNT:
		break;
	}
}

void engine_effect_push(struct engine *e, struct engine_run *r)
{
	const struct journal_run *row = engine_run_row(e, r);

	/* What is pushed may leave the list. */
	for (uint32_t i = 0; i < row->open_count && !e->failed;) {
		uint32_t number = row->open[i]->number;

		push_one(e, r, row->open[i]);
		if (i > row->open_count)
			i = row->open_count;
		while (i > 0 && row->open[i - 1]->number > number)
			i--;
		while (i < row->open_count && row->open[i]->number <= number)
			i++;
	}
}

bool engine_effect_blocks(const struct engine *e, const struct engine_run *r, uint32_t step,
			  bool doubt)
{
	return journal_effect_blocks(engine_run_row(e, r), step, doubt);
}

bool engine_effect_waits(const struct engine *e, const struct engine_run *r, uint32_t step,
			 bool by_client)
{
	const struct journal_run *row = engine_run_row(e, r);
	bool unknown = engine_id_is_zero(&r->courier);
	int64_t until;

	for (uint32_t i = 0; i < row->open_count; i++) {
		const struct journal_effect *f = row->open[i];

		if (f->step != step || (by_client && !unknown && !engine_client_attached(r, f)))
			continue;
		if (f->state == JOURNAL_EFFECT_S_WAITING ||
		    (f->state == JOURNAL_EFFECT_S_IN_DOUBT &&
		     engine_effect_doubt(f, e->now.wall_ns, &until) != ENGINE_DOUBT_SEND))
			return true;
	}
	return false;
}

/* ---- what became of it ---- */

/* The effect and its run. */
static int find(struct engine *e, struct engine_now now, const struct journal_id *effect,
		struct engine_run **ret_run, const struct journal_effect **ret)
{
	engine_enter(e, now);
	*ret = journal_state_effect(e->rows, effect);
	*ret_run = *ret ? engine_run_get(e, &(*ret)->run) : NULL;
	return !*ret ? -ESTALE : *ret_run ? 0 : e->failed ? e->failed : -ESTALE;
}

static void record_result(struct engine *e, struct engine_run *r, const struct journal_effect *f,
			  const struct engine_result *x, enum journal_type type)
{
	struct journal_record rec = engine_effect_record(r, f, type);

	if (x->status)
		JOURNAL_SET(&rec.p, status, x->status);
	if (!digest_is_zero(&x->response))
		JOURNAL_SET(&rec.p, response, x->response);
	if (!digest_is_zero(&x->body))
		JOURNAL_SET(&rec.p, response_body, x->body);
	if (x->too_long)
		JOURNAL_SET(&rec.p, too_long, true);
	if (x->sent)
		JOURNAL_SET(&rec.p, sent, x->sent);
	if (x->received)
		JOURNAL_SET(&rec.p, received, x->received);
	if (x->why)
		JOURNAL_SET(&rec.p, why, bytes_str(x->why));
	engine_emit(e, &rec);
}

/* It is known now: what asked a person about it is over. */
static void end_doubt(struct engine *e, struct engine_run *r, const struct journal_effect *f)
{
	engine_item_forget_effect(r, &f->id);
	engine_item_end(e, r, engine_item_of(e, &f->doubt), "what became of it is known");
	engine_timer_cancel(e, r, JOURNAL_NO_STEP, 0, &f->id);
}

int engine_effect_result(struct engine *e, struct engine_now now, const struct engine_result *x)
{
	const struct journal_effect *f;
	struct engine_client *c;
	struct engine_run *r;
	int rc = find(e, now, &x->effect, &r, &f);
	bool open;

	if (rc < 0)
		return rc;
	open = f->state == JOURNAL_EFFECT_S_RESERVED || f->state == JOURNAL_EFFECT_S_IN_DOUBT;
	if (f->reserved_lsn == 0)
		return -ESTALE;
	/* Said before, and recorded: the courier had no answer. Or of an earlier request, before it
	 * was sent by another. */
	if (!open || (x->request && x->request != f->request)) {
		command(e, r, f, ENGINE_EFFECT_RELEASE, 0, true);
		return 0;
	}
	switch (x->outcome) {
	case ENGINE_CONFIRMED:
	case ENGINE_REFUSED:
		end_doubt(e, r, f);
		record_result(e, r, f, x,
			      x->outcome == ENGINE_CONFIRMED ? JOURNAL_EFFECT_CONFIRMED
							     : JOURNAL_EFFECT_REFUSED);
		command(e, r, f, ENGINE_EFFECT_RELEASE, 0, true);
		engine_effect_answer(e, r, f,
				     x->outcome == ENGINE_CONFIRMED ? ENGINE_ANSWER_REPLAY
								    : ENGINE_ANSWER_DENY);
		break;
	case ENGINE_IN_DOUBT:
		c = engine_client_of(r, &f->id);
		if (c)
			engine_client_in_doubt(c);
		if (f->state == JOURNAL_EFFECT_S_RESERVED)
			in_doubt(e, r, f, x->why ? x->why : "no whole response came");
		command(e, r, f, ENGINE_EFFECT_RELEASE, 0, true);
		break;
	}
	return engine_advance(e, r);
}

int engine_effect_delivered(struct engine *e, struct engine_now now,
			    const struct journal_id *effect)
{
	const struct journal_effect *f;
	struct engine_run *r;
	int rc = find(e, now, effect, &r, &f);

	if (rc < 0)
		return rc;
	if (f->delivered ||
	    (f->state != JOURNAL_EFFECT_S_CONFIRMED && f->state != JOURNAL_EFFECT_S_ABANDONED &&
	     f->state != JOURNAL_EFFECT_S_COMPENSATED))
		return 0;
	engine_effect_emit(e, r, f, JOURNAL_EFFECT_DELIVERED, NULL);
	return 0;
}

int engine_effect_compensated(struct engine *e, struct engine_now now,
			      const struct journal_id *effect, uint32_t uid)
{
	const struct journal_effect *f;
	struct engine_run *r;
	int rc = find(e, now, effect, &r, &f);

	if (rc < 0 || f->state != JOURNAL_EFFECT_S_CONFIRMED)
		return rc < 0 ? rc : -EINVAL;
	engine_act_as(e, JOURNAL_ACTOR_PERSON, uid);
	engine_effect_emit(e, r, f, JOURNAL_EFFECT_COMPENSATED, NULL);
	engine_act_as(e, JOURNAL_ACTOR_SUPERVISOR, 0);
	return 0;
}

int engine_effect_cut(struct engine *e, struct engine_now now, const struct journal_id *effect,
		      uint64_t next)
{
	const struct journal_effect *f;
	struct engine_client *c;
	struct engine_run *r;
	int rc = find(e, now, effect, &r, &f);

	if (rc < 0)
		return rc;
	c = engine_client_of(r, effect);
	if (!c)
		return 0;
	if (next) {
		if (f->state != JOURNAL_EFFECT_S_RESERVED)
			c->request = next;
		return 0;
	}
	c->attached = false;
	if (c->state == ENGINE_CLIENT_UNTOLD || c->state == ENGINE_CLIENT_SPENT)
		engine_client_drop(r, effect);
	return engine_advance(e, r);
}

int engine_effect_unshown(struct engine *e, struct engine_now now, const struct journal_id *effect,
			  const struct digest *item, const char *why)
{
	const struct journal_effect *f;
	struct engine_run *r;
	struct digest is;
	int rc = find(e, now, effect, &r, &f);

	if (rc < 0)
		return rc;
	if (f->state != JOURNAL_EFFECT_S_WAITING ||
	    engine_effect_item_action(e, r, f, JOURNAL_KIND_EFFECT, &is) < 0 ||
	    !digest_equal(&is, item))
		return -ESTALE;
	engine_effect_deny(e, r, f, why);
	wake_step(e, r, f->step, "an effect of it cannot be shown to a person");
	return engine_advance(e, r);
}

static bool named(const struct journal_id *list, size_t count, const struct journal_id *id)
{
	for (size_t i = 0; i < count; i++)
		if (journal_id_equal(&list[i], id))
			return true;
	return false;
}

int engine_effect_courier(struct engine *e, struct engine_now now, const struct journal_id *run,
			  const struct journal_id *courier, const struct journal_id *sending,
			  size_t sending_count)
{
	const struct journal_run *row;
	struct engine_run *r;

	engine_enter(e, now);
	row = journal_state_run(e->rows, run);
	if (!row)
		return 0; /* it is over, and nothing of it is open */
	r = engine_run_get(e, run);
	if (!r)
		return e->failed ? e->failed : -ESTALE;
	for (size_t i = 0; i < r->client_count; i++)
		engine_client_detach(&r->clients[i]);
	r->courier = courier ? *courier : no_id;
	for (uint32_t i = 0; i < row->open_count && !e->failed;) {
		const struct journal_effect *f = row->open[i++];

		if (f->state != JOURNAL_EFFECT_S_RESERVED)
			continue;
		if (!courier || !journal_id_equal(&f->courier, courier)) {
			in_doubt(e, r, f, "its courier died before it said what became of it");
		} else if (named(sending, sending_count, &f->id)) {
			struct engine_client *c = engine_client_get(e, r, &f->id);

			if (c)
				engine_client_move(c, ENGINE_CLIENT_TOLD);
		}
	}
	return engine_advance(e, r);
}

int engine_effect_probed(struct engine *e, struct engine_now now, const struct journal_id *effect,
			 enum engine_probe said, const char *why)
{
	struct engine_result x = {.effect = *effect, .status = 200, .why = why};
	const struct journal_effect *f;
	struct engine_client *c;
	struct engine_run *r;
	int rc = find(e, now, effect, &r, &f);

	if (rc < 0)
		return rc;
	c = engine_client_of(r, effect);
	if (f->state != JOURNAL_EFFECT_S_IN_DOUBT || !c || c->state != ENGINE_CLIENT_PROBING)
		return -ESTALE;
	if (said == ENGINE_PROBE_UNKNOWN) {
		engine_client_move(c, ENGINE_CLIENT_PROBE_UNKNOWN);
		return engine_advance(e, r);
	}
	if (said == ENGINE_PROBE_NOT_DONE)
		x.status = 0;
	end_doubt(e, r, f);
	record_result(e, r, f, &x,
		      said == ENGINE_PROBE_DONE ? JOURNAL_EFFECT_CONFIRMED
						: JOURNAL_EFFECT_REFUSED);
	wake_step(e, r, f->step, "its probe said what became of its effect");
	engine_effect_answer(e, r, f,
			     said == ENGINE_PROBE_DONE ? ENGINE_ANSWER_REPLAY : ENGINE_ANSWER_DENY);
	return engine_advance(e, r);
}

int engine_effect_reads(struct engine *e, struct engine_now now, const struct journal_id *run,
			uint32_t step, uint32_t attempt, struct bytes reads, uint64_t count,
			uint64_t denied)
{
	const struct journal_run *row = journal_state_run(e->rows, run);
	struct journal_record rec = {.run = *run,
				     .step = step,
				     .attempt = attempt,
				     .type = JOURNAL_EFFECT_READS};

	engine_enter(e, now);
	if (!row || journal_run_final(row->state) || step >= row->step_count || attempt == 0 ||
	    attempt > row->steps[step]->attempt_count)
		return -ESTALE;
	JOURNAL_SET(&rec.p, reads, reads);
	JOURNAL_SET(&rec.p, paths, count);
	if (denied)
		JOURNAL_SET(&rec.p, refused, denied);
	engine_emit(e, &rec);
	return 0;
}
