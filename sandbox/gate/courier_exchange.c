/*
 * One request, from what the gate said to what the client and the supervisor are told; its states are
 * in exchange_state.h.
 *
 * A client that breaks: before SEND nothing is sent any more; after it all goes on without the
 * client, and the supervisor is told the outcome.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "base/escape.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "sandbox/gate/courier.h"

static void consider(struct exchange *x);

struct exchange *exchange_new(struct channel *ch)
{
	struct courier *c = ch->c;
	struct exchange *x = c->exchange_count < COURIER_EXCHANGES_MAX ? malloc(sizeof(*x)) : NULL;

	if (!x)
		return NULL;
	memset(x, 0, offsetof(struct exchange, request));
	action_clear(&x->action);
	action_clear(&x->request.action);
	x->request.has_length = false;
	x->request.dropped_count = 0;
	x->request.reason = (struct bytes){0};
	x->c = c;
	x->channel = ch;
	x->body = x->spool = x->replay = -1;
	x->started_us = courier_mono_us();
	x->wall_ns = courier_wall_ns();
	memcpy(x->attempt_id, ch->attempt, sizeof(x->attempt_id));
	x->head.max = FRAMES_CBOR_MAX;
	x->next = c->exchanges;
	c->exchanges = x;
	c->exchange_count++;
	return x;
}

void exchange_move(struct exchange *x, enum exchange_state to)
{
	assert(exchange_state_may(x->state, to));
	x->state = to;
}

void exchange_end(struct exchange *x)
{
	if (x->state == EXCHANGE_DONE)
		return;
	exchange_move(x, EXCHANGE_DONE);
	for (struct exchange **at = &x->c->exchanges; *at; at = &(*at)->next)
		if (*at == x) {
			*at = x->next;
			break;
		}
	upstream_close(x->up);
	x->up = NULL;
	if (x->again)
		event_free(x->again);
	x->again = NULL;
	x->next = x->c->ended;
	x->c->ended = x;
	courier_bury_soon(x->c);
}

static void exchange_free(struct exchange *x)
{
	struct channel *ch = x->channel;

	x->c->exchange_count--;
	http_forget(x);
	x->c->spooled -= x->body_len + x->spool_len;
	close_fd(&x->body);
	close_fd(&x->spool);
	close_fd(&x->replay);
	if (x->body_map)
		(void)munmap(x->body_map, x->body_len);
	free(x->push);
	digest_ctx_free(x->hash);
	buffer_free(&x->head);
	buffer_free(&x->remote);
	buffer_free(&x->tool_text);
	buffer_free(&x->canonical);
	buffer_free(&x->key_header);
	buffer_free(&x->key);
	attempt_unref(x->attempt);
	free(x);
	if (ch)
		channel_done(ch);
}

void exchange_free_ended(struct courier *c)
{
	for (struct exchange *x; (x = c->ended);) {
		c->ended = x->next;
		exchange_free(x);
	}
}

int exchange_memfd(void)
{
	int fd = memfd_create("body", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 ? -errno : fd;
}

/* ---- telling the client ---- */

static void put_member(struct buffer *b, const char *name, const char *value)
{
	if (!value || !value[0])
		return;
	(void)buffer_printf(b, "%s\"%s\":\"", b->len > 1 ? "," : "", name);
	escape_json(b, bytes_str(value));
	(void)buffer_append_byte(b, '"');
}

/* git prints what a refused ref is told, and of another refusal its text where it is plain. */
static void refuse_git(struct exchange *x, int status, const char *error, const char *rule,
		       const char *why)
{
	struct frames_response r = {.status = status, .has_length = true};
	AUTO_BUFFER body = {0};
	AUTO_BUFFER line = {0};

	(void)buffer_printf(&line, "holdfast: %s%s%s%s: %s", error, rule[0] ? " by rule '" : "",
			    rule, rule[0] ? "'" : "", why);
	r.headers[0] = (struct action_header){bytes_str("cache-control"), bytes_str("no-cache")};
	r.header_count = 2;
	if (x->push && x->push->count && x->push->report_status) {
		r.status = 200;
		r.headers[1] =
			(struct action_header){bytes_str("content-type"),
					       bytes_str("application/x-git-receive-pack-result")};
		if (git_push_refusal(x->push, (const char *)line.data, &body) < 0)
			r.status = 403;
	} else {
		r.headers[1] = (struct action_header){bytes_str("content-type"),
						      bytes_str("text/plain; charset=utf-8")};
		(void)buffer_append(&body, line.data, line.len);
		(void)buffer_append_byte(&body, '\n');
	}
	r.length = body.len;
	x->status_inside = r.status;
	http_answer(x, &r, buffer_bytes(&body));
}

static void refuse(struct exchange *x, int status, const char *error, const char *rule,
		   const char *why, const char *hint)
{
	AUTO_BUFFER json = {0};

	x->status_inside = status;
	if (!x->channel || x->head_sent)
		return;
	if (x->is_git) {
		refuse_git(x, status, error, rule, why);
		return;
	}
	(void)buffer_append_byte(&json, '{');
	put_member(&json, "error", error);
	put_member(&json, "rule", rule);
	put_member(&json, "why", why);
	put_member(&json, "hint", hint);
	(void)buffer_append_str(&json, "}\n");
	if (json.failed)
		channel_break(x->channel);
	else
		channel_refuse(x->channel, status, buffer_bytes(&json));
}

/* Ends a request that was not sent and needs no word of the supervisor's. */
static void turn_away(struct exchange *x, int status, const char *error, const char *why)
{
	const char *hint =
		strcmp(error, "denied") == 0
			? "only what the policy names can be reached; `holdfast policy explain` "
			  "shows it, and the person who runs this can allow it"
			: "";

	/* Of a request without a body no end comes that would take it back. */
	if (x->state == EXCHANGE_BODY && x->channel && x->request.action.has_body)
		x->channel->discard = true;
	refuse(x, status, error, x->decision.rule ? x->decision.rule : "", why, hint);
	report_note(x->c->report, x, true, x->status_inside, why);
	exchange_end(x);
}

/* ---- what is asked ---- */

static void proceed(struct exchange *x)
{
	x->attempt = attempt_ref(attempt_find(x->c, x->attempt_id));
	if (x->attempt) {
		consider(x);
		return;
	}
	/* The supervisor's word about a new attempt, or to a new courier, is on its way. */
	exchange_move(x, EXCHANGE_ATTEMPT);
	x->waits_until_us = courier_mono_us() + COURIER_ATTEMPT_S * 1000000LL;
}

void exchange_request(struct exchange *x)
{
	const struct action *a = &x->request.action;

	if (frames_request_decode(buffer_bytes(&x->head), &x->request) < 0) {
		channel_break(x->channel);
		return;
	}
	/* For what is said of it before it is decided. */
	action_copy(&x->action, a);
	if (!a->has_body) {
		proceed(x);
		return;
	}
	if (x->request.has_length && a->body_len > ACTION_BODY_MAX) {
		turn_away(x, 413, "too long", "a body of more than 64 MiB");
		return;
	}
	x->body = exchange_memfd();
	x->hash = digest_ctx_new();
	if (x->body < 0 || !x->hash)
		turn_away(x, 503, "busy", "out of memory");
}

void exchange_body(struct exchange *x, struct bytes piece)
{
	if (x->body_len + piece.len > ACTION_BODY_MAX) {
		turn_away(x, 413, "too long", "a body of more than 64 MiB");
		return;
	}
	if (x->c->spooled + piece.len > COURIER_SPOOLED_MAX ||
	    io_write_all(x->body, piece.data, piece.len) < 0) {
		turn_away(x, 503, "busy", "too many bodies are under way; try again later");
		return;
	}
	digest_ctx_update(x->hash, piece.data, piece.len);
	x->body_len += piece.len;
	x->c->spooled += piece.len;
}

void exchange_body_end(struct exchange *x)
{
	if (x->request.has_length && x->body_len != x->request.action.body_len) {
		channel_break(x->channel);
		return;
	}
	/* What was decided is what is journaled and sent: nobody writes to it any more. */
	if (fcntl(x->body, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) <
	    0) {
		turn_away(x, 503, "busy", "out of memory");
		return;
	}
	proceed(x);
}

void exchange_tunnel(struct exchange *x)
{
	x->is_tunnel = true;
	if (frames_tunnel_decode(buffer_bytes(&x->head), &x->tunnel) < 0) {
		channel_break(x->channel);
		return;
	}
	x->action =
		(struct action){.kind = ACTION_TCP, .host = x->tunnel.host, .port = x->tunnel.port};
	proceed(x);
}

/* ---- carrying it out ---- */

static void on_ready(void *arg)
{
	struct exchange *x = arg;
	int r;

	exchange_sent(x);
	r = x->is_tunnel ? tunnel_start(x) : http_start(x);
	if (r < 0)
		exchange_broken(x, 502, "busy", "out of memory");
}

static void start(struct exchange *x);

static void on_failed(void *arg, int status, const char *error, const char *why)
{
	struct exchange *x = arg;
	bool reused = upstream_reused(x->up);
	char text[640];

	snprintf(text, sizeof(text), "%s", why);
	if (reused && !x->retried) {
		exchange_restart(x);
		return;
	}
	exchange_failed(x, status, error, text);
}

static void start(struct exchange *x)
{
	static const struct upstream_user user = {on_ready, on_failed, http_input, http_closed,
						  http_drained};
	char host[256];
	struct upstream_want w = {
		.attempt = x->attempt,
		.decision = &x->decision,
		.rule = &x->rule,
		.host = host,
		.port = x->action.port,
		.tls = !x->is_tunnel && bytes_equal(x->action.scheme, bytes_str("https")),
		.pooled = !x->effect && !x->is_tunnel && !x->retried && !x->action.websocket,
	};

	snprintf(host, sizeof(host), "%.*s", (int)x->action.host.len,
		 (const char *)x->action.host.data);
	exchange_move(x, EXCHANGE_DIALING);
	if (upstream_open(x->c, &w, &user, x, &x->up) < 0)
		exchange_failed(x, 503, "busy", "out of memory");
}

void exchange_restart(struct exchange *x)
{
	x->retried = true;
	upstream_close(x->up);
	x->up = NULL;
	http_forget(x);
	start(x);
}

void exchange_sent(struct exchange *x)
{
	exchange_move(x, EXCHANGE_SENDING);
	x->was_sent = true;
	(void)failpoint_hit("courier.before_send");
}

static int propose(struct exchange *x)
{
	int r;

	if (x->action.has_body)
		digest_ctx_final(x->hash, &x->action.body);
	r = action_encode(&x->action, &x->canonical);
	if (r < 0)
		return r;
	x->number = ++x->c->next_request;
	exchange_move(x, EXCHANGE_ASKED);
	report_propose(x->c->report, x);
	return 0;
}

static void consider(struct exchange *x)
{
	const char *why;
	int r;

	if (report_full(x->c->report)) { /* not even a denial */
		turn_away(x, 503, "busy",
			  "the supervisor is away, and no more can be recorded without it");
		return;
	}
	r = decide(x, &why);
	if (r == -EACCES || r == -EBADMSG) {
		turn_away(x, r == -EBADMSG ? 400 : 403, r == -EBADMSG ? "malformed" : "denied",
			  why);
	} else if (r == -EMSGSIZE) {
		turn_away(x, 413, "too long", why);
	} else if (r < 0) {
		turn_away(x, 503, "busy", "out of memory");
	} else if (decide_rate(x, &why)) {
		turn_away(x, 429, "limit", why);
	} else if (!x->effect) {
		start(x);
	} else if (propose(x) < 0) {
		turn_away(x, 403, "denied", "an action that cannot be written down");
	}
}

/* ---- attempts come and go ---- */

void exchange_attempt_known(struct courier *c)
{
	for (struct exchange *x = c->exchanges, *next; x; x = next) {
		next = x->next;
		if (x->state != EXCHANGE_ATTEMPT)
			continue;
		if (courier_mono_us() > x->waits_until_us)
			turn_away(x, 503, "busy", "the supervisor is away; try again later");
		else if (attempt_find(c, x->attempt_id))
			proceed(x);
	}
}

void exchange_attempt_ended(struct courier *c, const uint8_t *id)
{
	channel_close_attempt(c, id);
}

/* ---- what the supervisor says ---- */

static struct exchange *by_number(struct courier *c, uint64_t number)
{
	for (struct exchange *x = c->exchanges; x; x = x->next)
		if (x->number == number)
			return x;
	return NULL;
}

static void say_result(struct exchange *x, enum report_outcome outcome)
{
	x->outcome = outcome;
	x->result = EXCHANGE_SAID;
	report_result(x->c->report, x);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	start(arg);
}

/* A server that cannot be reached is not asked as fast as the supervisor can decide. */
static void start_again(struct exchange *x)
{
	int64_t ms = COURIER_AGAIN_MAX_MS;
	struct timeval wait;

	if (x->tries < 8 && (COURIER_AGAIN_MS << x->tries) < ms)
		ms = COURIER_AGAIN_MS << x->tries;
	x->tries++;
	wait = (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
	if (!x->again)
		x->again = evtimer_new(x->c->base, on_again, x);
	exchange_move(x, EXCHANGE_DIALING);
	if (!x->again || evtimer_add(x->again, &wait) < 0)
		start(x);
}

static void answer_send(struct exchange *x, const struct report_answer *a)
{
	memcpy(x->effect_id, a->effect, sizeof(x->effect_id));
	x->result = EXCHANGE_UNSAID;
	buffer_free(&x->key_header);
	buffer_free(&x->key);
	if (buffer_append(&x->key_header, a->key_header.data, a->key_header.len) < 0 ||
	    buffer_append(&x->key, a->key.data, a->key.len) < 0) {
		exchange_failed(x, 503, "busy", "out of memory");
		return;
	}
	/* A client that broke before the first byte: nothing is sent for nobody. */
	if (!x->channel && !x->was_sent) {
		exchange_failed(x, 502, "cut", "the client was gone before it was sent");
		return;
	}
	http_forget(x);
	if (x->was_sent)
		start_again(x);
	else
		start(x);
}

static void answer_replay(struct exchange *x, const struct report_answer *a, const int *fds,
			  size_t n)
{
	off_t len = 0;

	memcpy(x->effect_id, a->effect, sizeof(x->effect_id));
	x->result = EXCHANGE_UNSAID;
	if (!x->channel) {
		exchange_end(x);
		return;
	}
	if (x->is_tunnel || a->status == 101) {
		refuse(x, 409, "conflict", "", "a stream that was opened before is not repeated",
		       "");
		exchange_end(x);
		return;
	}
	if (n > 0) {
		x->replay = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
		len = x->replay < 0 ? -1 : lseek(x->replay, 0, SEEK_END);
	}
	if (len < 0) {
		refuse(x, 503, "busy", "", "out of memory", "");
		exchange_end(x);
		return;
	}
	x->replay_len = (uint64_t)len;
	x->response = (struct frames_response){.status = a->status,
					       .header_count = a->header_count,
					       .has_length = true,
					       .length = x->replay_len};
	memcpy(x->response.headers, a->headers, sizeof(x->response.headers));
	exchange_move(x, EXCHANGE_DELIVERING);
	http_replay(x);
}

static void text_of(struct bytes b, char *buf, size_t size)
{
	snprintf(buf, size, "%.*s", (int)b.len, b.data ? (const char *)b.data : "");
}

static void answer_deny(struct exchange *x, const struct report_answer *a)
{
	char rule[REPORT_TEXT_MAX + 1], why[REPORT_TEXT_MAX + 1], hint[REPORT_TEXT_MAX + 1];

	text_of(a->rule, rule, sizeof(rule));
	text_of(a->why, why, sizeof(why));
	text_of(a->hint, hint, sizeof(hint));
	refuse(x, a->status,
	       a->status == 403	  ? "denied"
	       : a->status == 429 ? "limit"
	       : a->status == 409 ? "conflict"
				  : "refused",
	       rule, why, hint);
	exchange_end(x);
}

void exchange_answer(struct courier *c, const struct report_answer *a, const int *fds, size_t n)
{
	struct exchange *x = by_number(c, a->request);

	/* An answer that was given again by a supervisor which did not know of the first. */
	if (!x || x->state != EXCHANGE_ASKED)
		return;
	switch (a->verdict) {
	case REPORT_SEND:
		answer_send(x, a);
		return;
	case REPORT_DENY:
		answer_deny(x, a);
		return;
	case REPORT_REPLAY:
		answer_replay(x, a, fds, n);
		return;
	case REPORT_WAITING:
		return;
	}
}

void exchange_release(struct courier *c, const uint8_t *effect)
{
	for (struct exchange *x = c->exchanges; x; x = x->next) {
		if (!x->effect || x->result != EXCHANGE_SAID ||
		    memcmp(x->effect_id, effect, 16) != 0)
			continue;
		x->result = EXCHANGE_RELEASED;
		if (x->state != EXCHANGE_HELD)
			return;
		if (x->outcome == REPORT_CONFIRMED && (x->is_tunnel || x->upgraded)) {
			http_release(x);
			return;
		}
		if (!x->channel || x->outcome != REPORT_CONFIRMED) {
			exchange_end(x);
			return;
		}
		exchange_move(x, EXCHANGE_DELIVERING);
		http_release(x);
		return;
	}
}

/* ---- outcomes ---- */

/* Nothing was sent; of an effect that is sent again, not this time. */
void exchange_failed(struct exchange *x, int status, const char *error, const char *why)
{
	if (x->effect && x->was_sent) {
		exchange_broken(x, status, error, why);
		return;
	}
	snprintf(x->why, sizeof(x->why), "%s", why);
	upstream_close(x->up);
	x->up = NULL;
	refuse(x, status, error, x->rule.id ? x->rule.id : "", why, "");
	if (!x->effect) {
		report_note(x->c->report, x, status == 403, x->status_inside, why);
		exchange_end(x);
		return;
	}
	/* The client has its answer; the supervisor's RELEASE ends it. */
	exchange_move(x, EXCHANGE_HELD);
	if (x->channel) {
		struct channel *ch = x->channel;

		x->channel = NULL;
		channel_done(ch);
	}
	say_result(x, REPORT_REFUSED);
}

/* Bytes went out, and no whole response came. */
void exchange_broken(struct exchange *x, int status, const char *error, const char *why)
{
	struct channel *ch = x->channel;

	snprintf(x->why, sizeof(x->why), "%s", why);
	upstream_close(x->up);
	x->up = NULL;
	if (ch && x->head_sent) {
		/* Part of an answer is inside: only a reset says that it is not whole. */
		channel_send(ch, FRAMES_ABORT, bytes_str(x->why));
		x->channel = NULL;
		channel_done(ch);
		if (x->effect)
			report_cut(x->c->report, x->number);
	}
	if (!x->effect) {
		refuse(x, status, error, x->rule.id, why, "");
		report_note(x->c->report, x, false, x->status_inside, why);
		exchange_end(x);
		return;
	}
	http_forget(x);
	exchange_move(x, EXCHANGE_ASKED); /* a person or the rule says what is next */
	say_result(x, REPORT_DOUBT);
}

/* The whole response is here. */
void exchange_finished(struct exchange *x)
{
	if (!x->effect) {
		report_note(x->c->report, x, false, x->response.status, x->why);
		exchange_end(x);
		return;
	}
	exchange_move(x, EXCHANGE_HELD);
	(void)failpoint_hit("courier.before_result");
	say_result(x, REPORT_CONFIRMED);
}

/* ---- the client ---- */

void exchange_client_gone(struct exchange *x)
{
	switch (x->state) {
	case EXCHANGE_BODY:
	case EXCHANGE_ATTEMPT:
		exchange_end(x);
		return;
	case EXCHANGE_ASKED:
		report_cut(x->c->report, x->number);
		return;
	case EXCHANGE_DIALING:
	case EXCHANGE_SENDING:
	case EXCHANGE_HELD:
		if (!x->effect) {
			bool stream = x->is_tunnel || x->upgraded;

			report_note(x->c->report, x, false, 0,
				    stream ? "" : "the client went away");
			exchange_end(x);
			return;
		}
		/* What was begun is finished; nobody slows it down any more. A tunnel has nobody
		 * to finish it for, and none that comes again would get the rest. */
		if (!x->is_tunnel && !x->upgraded)
			report_cut(x->c->report, x->number);
		if ((x->is_tunnel || x->upgraded) && x->state != EXCHANGE_HELD) {
			upstream_close(x->up);
			x->up = NULL;
			if (x->state == EXCHANGE_SENDING)
				exchange_finished(x);
			else
				exchange_failed(x, 502, "cut",
						"the client was gone before it was sent");
			return;
		}
		if (x->up && x->state == EXCHANGE_SENDING)
			upstream_read(x->up, true);
		return;
	case EXCHANGE_DELIVERING:
		report_cut(x->c->report, x->number);
		exchange_end(x);
		return;
	case EXCHANGE_DONE:
		return;
	}
}

void exchange_client_drained(struct exchange *x)
{
	if (x->is_tunnel || x->upgraded)
		tunnel_client_drained(x);
	else
		http_client_drained(x);
}
