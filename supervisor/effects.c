/*
 * The conversation with the couriers, from what the engine decided of an effect to what a datagram
 * says:
 *
 *   answers     commands of the engine about effects (effects_perform) become ANSWER and RELEASE
 *   outcomes    RESULT, DELIVERED, CUT, HELLO, and reads, which come in batches
 *   input       one datagram decoded and handed on; what cannot be decoded, or is not the courier's
 *               to say, ends the channel
 *
 * The channel itself is effects_channel.c, who waits for what and is told what effects_request.c,
 * PROPOSE effects_propose.c; what no courier carries out is effects_tool.c.
 */
#include "supervisor/effects.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/escape.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "supervisor/effects_channel.h"
#include "supervisor/effects_code.h"
#include "supervisor/effects_propose.h"
#include "supervisor/effects_request.h"
#include "supervisor/effects_tool.h"

enum { READS_TURN = 64 }; /* datagrams of one channel in one turn of the loop */

int effects_new(struct effects **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

void effects_free(struct effects *x)
{
	if (!x)
		return;
	for (struct effects_channel *c = x->channels, *next; c; c = next) {
		next = c->next;
		effects_channel_free(c);
	}
	explicit_bzero(x->datagram, sizeof(x->datagram));
	free(x);
}

void effects_hook(struct daemon *d, const struct effects_hooks *hooks)
{
	d->effects->hooks = *hooks;
}

int effects_say(struct daemon *d, const struct journal_id *run, const struct report_message *m,
		const int *fds, size_t fd_count)
{
	struct effects_channel *c = effects_channel_of(d, run);

	return c ? effects_channel_say(c, m, fds, fd_count) : -ENOTCONN;
}

/* ---- answers ---- */

/* One client alone is told; where none can be, nothing was sent. */
static void tell_to_send(struct effects_channel *c, const struct journal_run *run,
			 const struct journal_effect *f)
{
	struct engine_result x = {.effect = f->id, .outcome = ENGINE_REFUSED};
	struct effects_request *r = effects_request_of(c, f->request);

	if (r && (r->sent || !journal_id_equal(&r->effect, &f->id)))
		return;
	if (r && f->action_kind == ACTION_TOOL) {
		effects_tool_start(c->d, r, run, f);
		return;
	}
	x.request = f->request;
	if (r && effects_request_send(c, r, run, f) == 0)
		return;
	if (r)
		r->sent = false;
	x.why = r ? "the courier could not be told to send it"
		  : "its client went away before it was sent";
	daemon_check(c->d, engine_effect_result(c->d->engine, daemon_now(), &x), "effect not sent");
}

/* Between the decision and its sync the effect may have been asked for again: then another answer
 * follows, for whoever waits. */
static bool still_holds(enum engine_answer answer, enum journal_effect_state s)
{
	switch (answer) {
	case ENGINE_ANSWER_SEND:
		return s == JOURNAL_EFFECT_S_RESERVED;
	case ENGINE_ANSWER_REPLAY:
		return s == JOURNAL_EFFECT_S_CONFIRMED || s == JOURNAL_EFFECT_S_COMPENSATED;
	case ENGINE_ANSWER_DENY:
		return s == JOURNAL_EFFECT_S_DENIED || s == JOURNAL_EFFECT_S_WITHDRAWN ||
		       s == JOURNAL_EFFECT_S_ABANDONED || s == JOURNAL_EFFECT_S_REFUSED ||
		       s == JOURNAL_EFFECT_S_IN_DOUBT;
	case ENGINE_ANSWER_WAITING:
		return s == JOURNAL_EFFECT_S_WAITING;
	}
	return false;
}

static void answer(struct daemon *d, const struct engine_command *cmd)
{
	const struct journal_effect *f = journal_state_effect(d->rows, &cmd->effect);
	const struct journal_run *run = f ? journal_state_run(d->rows, &f->run) : NULL;
	struct effects_channel *c = run ? effects_channel_of(d, &run->id) : NULL;
	struct report_message waiting = {.type = REPORT_ANSWER,
					 .answer = {.verdict = REPORT_WAITING}};
	struct effects_request *r, *next;

	if (!c)
		return; /* who waited says so again to the next channel */
	if (!still_holds(cmd->answer, f->state))
		return;
	if (cmd->answer == ENGINE_ANSWER_SEND) {
		tell_to_send(c, run, f);
		return;
	}
	for (r = c->requests; r; r = next) {
		next = r->next;
		if (!journal_id_equal(&r->effect, &f->id) || r->sent)
			continue;
		switch (cmd->answer) {
		case ENGINE_ANSWER_REPLAY:
			effects_request_replay(c, r, f);
			effects_request_drop(c, r);
			break;
		case ENGINE_ANSWER_DENY:
			effects_request_turn_down(c, r, f);
			effects_request_drop(c, r);
			break;
		case ENGINE_ANSWER_WAITING:
			waiting.answer.request = r->number;
			memcpy(waiting.answer.effect, f->id.b, sizeof(waiting.answer.effect));
			effects_channel_said(c, effects_channel_say(c, &waiting, NULL, 0),
					     "that it waits");
			break;
		case ENGINE_ANSWER_SEND:
			break;
		}
	}
}

static void release(struct daemon *d, const struct engine_command *cmd)
{
	struct effects_channel *c = effects_channel_of(d, &cmd->run);
	struct report_message m = {.type = REPORT_RELEASE};
	struct effects_request *next;

	if (!c)
		return;
	effects_tool_answer(d, c, &cmd->effect);
	for (struct effects_request *r = c->requests; r; r = next) {
		next = r->next;
		if (journal_id_equal(&r->effect, &cmd->effect) && r->sent)
			effects_request_drop(c, r);
	}
	memcpy(m.effect, cmd->effect.b, sizeof(m.effect));
	(void)failpoint_hit("effect.before-release");
	effects_channel_said(c, effects_channel_say(c, &m, NULL, 0), "to release");
}

void effects_perform(struct daemon *d, const struct engine_command *c)
{
	switch (c->kind) {
	case ENGINE_EFFECT_ANSWER:
		answer(d, c);
		break;
	case ENGINE_EFFECT_RELEASE:
		release(d, c);
		break;
	case ENGINE_EFFECT_PROBE:
		effects_tool_probe(d, c);
		break;
	case ENGINE_START_ATTEMPT:
	case ENGINE_KILL_ATTEMPT:
	case ENGINE_SEAL:
	case ENGINE_REMOVE_LAYER:
	case ENGINE_CARD:
	case ENGINE_PLAN_LANDING:
	case ENGINE_APPLY_LANDING:
	case ENGINE_FORGET_ATTEMPT:
	case ENGINE_FREEZE:
	case ENGINE_THAW:
	case ENGINE_SUSPEND:
		break;
	}
}

/* ---- what became of it ---- */

static enum engine_outcome outcome_of(enum report_outcome o)
{
	switch (o) {
	case REPORT_CONFIRMED:
		return ENGINE_CONFIRMED;
	case REPORT_REFUSED:
		return ENGINE_REFUSED;
	case REPORT_DOUBT:
		break;
	}
	return ENGINE_IN_DOUBT;
}

static void on_result(struct effects_channel *c, const struct report_result *m, int body_fd)
{
	struct engine_result x = {.status = (uint32_t)m->status,
				  .too_long = m->too_long,
				  .sent = m->sent,
				  .received = m->received};
	AUTO_FREE char *why = escape_dup(m->why, ESCAPE_LINE);
	AUTO_BUFFER response = {0};
	struct daemon *d = c->d;
	struct effects_request *r;
	struct error err = {0};
	uint64_t size;
	int rc = 0;

	memcpy(x.effect.b, m->effect, sizeof(x.effect.b));
	x.request = m->request;
	x.outcome = outcome_of(m->outcome);
	x.why = why && *why ? why : NULL;
	if (x.outcome == ENGINE_CONFIRMED) {
		rc = effects_code_response_encode(m->status, m->headers, m->header_count,
						  &response);
		if (rc == 0)
			rc = journal_blob_put(d->journal, buffer_bytes(&response), &x.response,
					      &err);
		if (rc == 0 && body_fd >= 0)
			rc = journal_blob_put_fd(d->journal, body_fd, REPORT_SPOOL_MAX, &x.body,
						 &size, &err);
	}
	if (rc < 0) {
		/* It happened, and that is what counts; what it said is lost. */
		daemon_log(d, "a response cannot be kept: %s",
			   err.msg[0] ? err.msg : strerror(-rc));
		x.response = x.body = (struct digest){0};
		x.too_long = true;
	}
	r = effects_request_of(c, m->request);
	if (x.outcome == ENGINE_IN_DOUBT) {
		/* Its client goes on waiting, for what follows. */
		if (!r && effects_request_add(c, m->request, &x.effect) < 0)
			daemon_log(d, "out of memory");
		else if (r)
			r->sent = false;
	} else if (!r && effects_request_add(c, m->request, &x.effect) == 0) {
		effects_request_of(c, m->request)->sent = true; /* said again to a new supervisor */
	} else if (r) {
		r->sent = true;
	}
	(void)failpoint_hit("effect.before-result");
	daemon_check(d, engine_effect_result(d->engine, daemon_now(), &x), "effect result");
	(void)failpoint_hit("effect.after-result");
}

static void on_cut(struct effects_channel *c, uint64_t number)
{
	struct effects_request *r = effects_request_of(c, number);
	struct journal_id effect;

	if (!r || r->sent)
		return; /* what is being sent gets its outcome */
	effect = r->effect;
	effects_request_drop(c, r);
	r = effects_request_for(c, &effect);
	daemon_check(c->d,
		     engine_effect_cut(c->d->engine, daemon_now(), &effect, r ? r->number : 0),
		     "client gone");
}

static void on_hello(struct effects_channel *c, const struct report_hello *m)
{
	struct journal_id run;

	memcpy(run.b, m->run, sizeof(run.b));
	if (!journal_id_equal(&run, &c->run)) {
		daemon_log(c->d, "a courier says that it is another run's");
		return;
	}
	memcpy(c->instance.b, m->instance, sizeof(c->instance.b));
	c->hello = true;
	daemon_check(c->d,
		     engine_effect_courier(c->d->engine, daemon_now(), &c->run, &c->instance,
					   (const struct journal_id *)m->sending, m->sending_count),
		     "courier hello");
	if (c->d->effects->hooks.hello)
		c->d->effects->hooks.hello(c->d, &c->run);
}

static void on_reads(struct effects_channel *c, const struct report_reads *m)
{
	const struct journal_run *run = journal_state_run(c->d->rows, &c->run);
	size_t from = 0, denied = 0;

	/* One record for each stretch of one attempt's. */
	for (size_t i = 1; i <= m->count; i++) {
		const struct journal_step *step;
		struct journal_id attempt;
		AUTO_BUFFER b = {0};
		uint32_t number;
		int rc;

		denied += m->items[i - 1].denied;
		if (i < m->count && memcmp(m->items[i].attempt, m->items[from].attempt, 16) == 0)
			continue;
		memcpy(attempt.b, m->items[from].attempt, sizeof(attempt.b));
		step = journal_run_step_of(run, &attempt, &number);
		rc = effects_code_reads_encode(m->items + from, i - from, &b);
		if (step && rc == 0)
			rc = engine_effect_reads(c->d->engine, daemon_now(), &c->run, step->index,
						 number, buffer_bytes(&b), i - from, denied);
		if (rc < 0)
			daemon_check(c->d, rc, "reads");
		from = i;
		denied = 0;
	}
}

/* ---- the channel's turn ---- */

/* A courier speaks of its own run's effects; of one that is not known the engine says so. */
static bool of_run(const struct effects_channel *c, const uint8_t id[JOURNAL_ID_SIZE])
{
	const struct journal_effect *f;
	struct journal_id effect;

	memcpy(effect.b, id, sizeof(effect.b));
	f = journal_state_effect(c->d->rows, &effect);
	return !f || journal_id_equal(&f->run, &c->run);
}

static int handle(struct effects_channel *c, struct bytes datagram, const int *fds, size_t fd_count)
{
	struct report_message m = {0};
	struct sandbox_attempt_id attempt;
	struct journal_id effect;
	int first = fd_count ? fds[0] : -1, rc = report_decode(datagram, &m);

	if (rc < 0)
		return rc;
	if (!c->hello && m.type != REPORT_HELLO) {
		report_message_clear(&m);
		return -EPROTO;
	}
	switch (m.type) {
	case REPORT_HELLO:
		on_hello(c, &m.hello);
		break;
	case REPORT_PROPOSE:
		effects_propose(c, &m.propose, first);
		break;
	case REPORT_READS:
		on_reads(c, &m.reads);
		break;
	case REPORT_RESULT:
		if (of_run(c, m.result.effect))
			on_result(c, &m.result, first);
		else
			rc = -EPROTO;
		break;
	case REPORT_DELIVERED:
		memcpy(effect.b, m.effect, sizeof(effect.b));
		if (of_run(c, effect.b))
			daemon_check(c->d,
				     engine_effect_delivered(c->d->engine, daemon_now(), &effect),
				     "delivered");
		else
			rc = -EPROTO;
		break;
	case REPORT_CUT:
		on_cut(c, m.request);
		break;
	case REPORT_DRAINED:
		memcpy(attempt.b, m.attempt_end, sizeof(attempt.b));
		if (c->d->effects->hooks.drained)
			c->d->effects->hooks.drained(c->d, &c->run, &attempt);
		break;
	case REPORT_SETTINGS:
	case REPORT_ATTEMPT:
	case REPORT_ATTEMPT_END:
	case REPORT_ANSWER:
	case REPORT_RELEASE:
		rc = -EPROTO; /* ours to say */
		break;
	}
	report_message_clear(&m);
	return rc;
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
	struct effects_channel *c = arg;
	struct daemon *d = c->d;
	struct journal_id run = c->run;
	int fds[IO_FDS_MAX], rc = 0;

	(void)what;
	for (int i = 0; i < READS_TURN && rc == 0; i++) {
		size_t fd_count;
		ssize_t n = io_recv_fds(fd, d->effects->datagram, sizeof(d->effects->datagram), fds,
					&fd_count);

		if (n == -EAGAIN)
			break;
		rc = n < 0 ? (int)n : n == 0 ? -EPIPE : 0;
		if (rc == 0)
			rc = handle(c, bytes_of(d->effects->datagram, (size_t)n), fds, fd_count);
		for (size_t k = 0; k < fd_count; k++)
			close(fds[k]);
		if (effects_channel_of(d, &run) != c)
			break; /* what it said ended it */
	}
	if (rc < 0 && effects_channel_of(d, &run) == c)
		effects_channel_ended(d, c, rc == -EPIPE ? "it went away" : strerror(-rc));
	daemon_settle(d);
}

int effects_attach(struct daemon *d, const struct journal_id *run, int fd, struct error *err)
{
	return effects_channel_open(d, run, fd, on_read, err);
}

void effects_lost(struct daemon *d, const struct journal_id *run)
{
	struct effects_channel *c = effects_channel_of(d, run);

	if (c)
		effects_channel_drop(d, c);
	daemon_check(d, engine_effect_courier(d->engine, daemon_now(), run, NULL, NULL, 0),
		     "courier lost");
}
