/*
 * The requests of a channel, and what each is answered: DENY, SEND or REPLAY, made of the effect's
 * row and its blobs. Called by effects.c, effects_propose.c and effects_tool.c.
 */
#include "supervisor/effects_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/escape.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "supervisor/effects_code.h"

struct effects_request *effects_request_of(const struct effects_channel *c, uint64_t number)
{
	struct effects_request *r = c->requests;

	while (r && r->number != number)
		r = r->next;
	return r;
}

struct effects_request *effects_request_for(const struct effects_channel *c,
					    const struct journal_id *effect)
{
	struct effects_request *r = c->requests;

	while (r && !journal_id_equal(&r->effect, effect))
		r = r->next;
	return r;
}

void effects_request_drop(struct effects_channel *c, struct effects_request *r)
{
	for (struct effects_request **at = &c->requests; *at; at = &(*at)->next)
		if (*at == r) {
			*at = r->next;
			free(r);
			return;
		}
}

int effects_request_add(struct effects_channel *c, uint64_t number, const struct journal_id *effect)
{
	struct effects_request *r = effects_request_of(c, number);

	if (!r) {
		r = calloc(1, sizeof(*r));
		if (!r)
			return -ENOMEM;
		r->number = number;
		r->next = c->requests;
		c->requests = r;
	}
	r->effect = *effect;
	r->sent = false;
	return 0;
}

void effects_request_deny(struct effects_channel *c, uint64_t number,
			  const struct journal_id *effect, int status, const char *rule,
			  const char *why, const char *hint)
{
	struct report_message m = {.type = REPORT_ANSWER,
				   .answer = {.request = number,
					      .verdict = REPORT_DENY,
					      .status = status,
					      .rule = bytes_str(rule),
					      .why = bytes_str(why),
					      .hint = bytes_str(hint)}};

	memcpy(m.answer.effect, effect->b, sizeof(m.answer.effect));
	effects_channel_said(c, effects_channel_say(c, &m, NULL, 0), "a denial");
}

void effects_request_turn_down(struct effects_channel *c, const struct effects_request *r,
			       const struct journal_effect *f)
{
	int status = 403;
	const char *hint = "";

	switch (f->state) {
	case JOURNAL_EFFECT_S_ABANDONED:
		status = 409;
		hint = "it may have happened; a person gave it up; do not try it again";
		break;
	case JOURNAL_EFFECT_S_IN_DOUBT:
		status = 502;
		hint = "it may have happened; asking for the same again is safe";
		break;
	case JOURNAL_EFFECT_S_REFUSED:
		status = 502;
		hint = "it did not happen; it may be asked for again";
		break;
	case JOURNAL_EFFECT_S_DENIED:
	case JOURNAL_EFFECT_S_WITHDRAWN:
		hint = "`holdfast log` says more";
		break;
	case JOURNAL_EFFECT_S_PROPOSED:
	case JOURNAL_EFFECT_S_WAITING:
	case JOURNAL_EFFECT_S_ALLOWED:
	case JOURNAL_EFFECT_S_RESERVED:
	case JOURNAL_EFFECT_S_CONFIRMED:
	case JOURNAL_EFFECT_S_COMPENSATED:
	case JOURNAL_EFFECT_S_COUNT:
		break;
	}
	effects_request_deny(c, r->number, &f->id, status, f->rule ? f->rule : "",
			     f->why ? f->why : "it was turned down", hint);
}

int effects_request_send(struct effects_channel *c, struct effects_request *r,
			 const struct journal_run *run, const struct journal_effect *f)
{
	struct report_message m = {.type = REPORT_ANSWER,
				   .answer = {.request = r->number, .verdict = REPORT_SEND}};
	AUTO_FREE char *header = f->header ? strdup(f->header) : NULL;
	char key[ENGINE_KEY_SIZE];
	int rc;

	memcpy(m.answer.effect, f->id.b, sizeof(m.answer.effect));
	if (f->retry == JOURNAL_RETRY_KEYED && header) {
		if (engine_effect_key(run, f, key) < 0)
			abort();
		for (char *p = header; *p; p++) /* a canonical request's names are */
			*p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
		m.answer.key_header = bytes_str(header);
		m.answer.key = bytes_str(key);
	}
	(void)failpoint_hit("effect.before-send");
	r->sent = true;
	rc = effects_channel_say(c, &m, NULL, 0);
	effects_channel_said(c, rc, "to send");
	(void)failpoint_hit("effect.after-send");
	/* It never left this process; where it may have, the channel ends and the next HELLO says.
	 */
	return rc == -EINVAL || rc == -E2BIG || rc == -ENOMEM || rc == -ENOBUFS ? rc : 0;
}

/* What a person said to be done has no response of its own. */
static int confirmed_by(const struct journal_effect *f, struct buffer *out)
{
	buffer_append_str(out, "{\"holdfast\":\"confirmed\",\"by\":\"");
	escape_json(out, bytes_str(f->by ? f->by : "probe"));
	buffer_append_str(out, "\"}");
	return out->failed;
}

void effects_request_replay(struct effects_channel *c, const struct effects_request *r,
			    const struct journal_effect *f)
{
	static const struct action_header json = {{"content-type", 12}, {"application/json", 16}},
					  file = {{"content-type", 12},
						  {"application/octet-stream", 24}};
	struct report_message m = {.type = REPORT_ANSWER,
				   .answer = {.request = r->number,
					      .verdict = REPORT_REPLAY,
					      .status = f->status ? (int)f->status : 200}};
	AUTO_BUFFER response = {0}, own = {0};
	AUTO_FD body = -1;
	int rc = 0;

	memcpy(m.answer.effect, f->id.b, sizeof(m.answer.effect));
	if (f->too_long) {
		effects_request_deny(
			c, r->number, &f->id, 507, f->rule ? f->rule : "",
			"its response was too long to be kept, and it is not done twice", "");
		return;
	}
	if (!digest_is_zero(&f->response)) {
		rc = journal_blob_get(c->d->journal, &f->response, REPORT_DATAGRAM_MAX, &response,
				      NULL);
		if (rc == 0)
			rc = effects_code_response_decode(buffer_bytes(&response), &m.answer.status,
							  m.answer.headers, &m.answer.header_count);
	} else {
		m.answer.headers[0] = digest_is_zero(&f->response_body) ? json : file;
		m.answer.header_count = 1;
	}
	if (rc == 0 && !digest_is_zero(&f->response_body)) {
		body = journal_blob_open(c->d->journal, &f->response_body, NULL);
		rc = body < 0 ? body : 0;
	} else if (rc == 0 && digest_is_zero(&f->response)) {
		rc = confirmed_by(f, &own);
		if (rc == 0)
			body = io_memfd_sealed("confirmed", buffer_bytes(&own), false);
		rc = rc < 0 ? rc : body < 0 ? body : 0;
	}
	if (rc < 0) {
		effects_request_deny(c, r->number, &f->id, 507, f->rule ? f->rule : "",
				     "its recorded response cannot be read",
				     "run `holdfast verify`; it is not done twice");
		return;
	}
	rc = effects_channel_say(c, &m, &body, body >= 0);
	effects_channel_said(c, rc, "a recorded response");
	if (rc == -EINVAL || rc == -E2BIG) /* its client waits for some answer */
		effects_request_deny(c, r->number, &f->id, 507, "",
				     "its recorded response cannot be given again",
				     "`holdfast log` says what it was; it is not done twice");
}
