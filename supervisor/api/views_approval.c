/*
 * An item of the queue as JSON: written down by hand (a queue of ten thousand is told in a moment),
 * and read back where a caller wants it as a tree, so that there is one form of it.
 */
#include "supervisor/api/views.h"
#include "supervisor/api/views_private.h"

#include <string.h>

#include "base/escape.h"
#include "base/utf8.h"
#include "supervisor/card.h"
#include "supervisor/card_heads.h"
#include "supervisor/landing_plan.h"
#include "supervisor/runs.h"
#include "supervisor/status.h"

enum { CARD_MAX = 64 * 1024 };

/* A member of an object that is written down as it is made: as api_json_text has it. */
static void put_text(struct buffer *line, const char *key, struct bytes text)
{
	AUTO_FREE char *escaped = utf8_valid(text) ? NULL : escape_dup(text, ESCAPE_KEEP_NEWLINE);

	buffer_append_str(line, ",\"");
	buffer_append_str(line, key);
	buffer_append_str(line, "\":\"");
	escape_json(line, escaped ? bytes_str(escaped) : text);
	buffer_append_byte(line, '"');
}

static void put(struct buffer *line, const char *key, const char *s)
{
	if (s && s[0]) {
		put_text(line, key, bytes_str(s));
		return;
	}
	buffer_append_str(line, ",\"");
	buffer_append_str(line, key);
	buffer_append_str(line, "\":null");
}

/* The first line of a card: verb and destination. */
static struct bytes title_of(struct bytes card)
{
	const char *nl = card.len ? memchr(card.data, '\n', card.len) : NULL;

	return nl ? bytes_of(card.data, (size_t)(nl - (const char *)card.data)) : card;
}

/* Writes the title. ret: the card, where it is wanted or its head is not known yet. */
static void read_card(struct daemon *d, const struct digest *digest, bool whole, struct buffer *ret,
		      struct buffer *line, bool *ret_complete)
{
	struct card_head head = card_heads_get(d->card_heads, digest);
	struct bytes card;

	*ret_complete = head.complete;
	if (head.title && !whole) {
		put_text(line, "title", bytes_str(head.title));
		return;
	}
	*ret_complete = true;
	if (digest_is_zero(digest) ||
	    journal_blob_get(d->journal, digest, CARD_MAX, ret, NULL) < 0) {
		put(line, "title", NULL);
		return;
	}
	card = buffer_bytes(ret);
	*ret_complete = card_is_complete(card);
	card_heads_put(d->card_heads, digest, title_of(card), *ret_complete);
	if (card.len)
		put_text(line, "title", title_of(card));
	else
		put(line, "title", NULL);
}

static json_t *votes_of(const struct journal_approval *a)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < a->vote_count; i++) {
		const struct journal_vote *v = &a->votes[i];

		json_array_append_new(
			list,
			json_pack("{s:o, s:o, s:s, s:o, s:o, s:o, s:I, s:o}", "principal",
				  views_text(v->principal), "auth", views_text(v->auth), "decision",
				  v->decision == JOURNAL_DECISION_APPROVE ? "approve" : "deny",
				  "choice", views_text(v->choice), "reason", views_text(v->reason),
				  "at", views_time(v->at_ns), "shown_ms", (json_int_t)v->shown_ms,
				  "proof", views_digest(&v->proof)));
	}
	return list;
}

/* The last word about a path; one for the whole item has none. */
static bool is_last_answer(const struct journal_approval *a, uint32_t i)
{
	if (a->votes[i].decision != JOURNAL_DECISION_APPROVE || !a->votes[i].choice)
		return false;
	for (uint32_t k = i + 1; k < a->vote_count; k++)
		if (a->votes[k].decision == JOURNAL_DECISION_APPROVE && a->votes[k].choice &&
		    bytes_equal(a->votes[k].path, a->votes[i].path))
			return false;
	return true;
}

static bool is_answered(const struct journal_approval *a, struct bytes path)
{
	for (uint32_t i = 0; i < a->vote_count; i++)
		if (is_last_answer(a, i) &&
		    (a->votes[i].path.len == 0 || bytes_equal(a->votes[i].path, path)))
			return true;
	return false;
}

static json_t *unanswered_of(struct daemon *d, const struct journal_approval *a)
{
	AUTO(landing_plan_free) struct landing_plan *list = NULL;
	AUTO_BUFFER blob = {.max = LANDING_BYTES_MAX};
	json_int_t n = 0;

	if (journal_blob_get(d->journal, &a->object, LANDING_BYTES_MAX, &blob, NULL) < 0 ||
	    landing_conflicts_decode(buffer_bytes(&blob), &list, NULL) < 0)
		return json_null();
	for (size_t i = 0; i < list->conflict_count; i++)
		n += !is_answered(a, list->conflicts[i].path);
	return json_integer(n);
}

/* A conflict is answered path by path, and the card, whose digest is voted on, stays what it was. */
static void add_answers(struct daemon *d, const struct journal_approval *a, bool count, json_t *o)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < a->vote_count; i++)
		if (is_last_answer(a, i))
			json_array_append_new(list,
					      json_pack("{s:o, s:o}", "path",
							a->votes[i].path.len > 0
								? api_json_text(a->votes[i].path)
								: json_null(),
							"choice", views_text(a->votes[i].choice)));
	json_object_set_new(o, "answers", list);
	if (count)
		json_object_set_new(o, "unanswered", unanswered_of(d, a));
}

static void put_digest(struct buffer *line, const char *key, const struct digest *d)
{
	char hex[DIGEST_HEX_SIZE];

	put(line, key, digest_is_zero(d) ? NULL : digest_hex(d, hex));
}

/* What an effect's item is about; `object` is the same for equal actions. */
static void put_effect(struct daemon *d, const struct journal_approval *a, struct buffer *line)
{
	const struct journal_effect *f = journal_state_effect(d->rows, &a->effect);
	char id[JOURNAL_ID_TEXT_SIZE];

	if (!f)
		return;
	put(line, "effect", journal_id_text(&f->id, id));
	put(line, "class", journal_class_name(f->class));
	put(line, "rule", f->rule);
	put_digest(line, "object", &a->object);
}

static void put_answers(struct daemon *d, const struct journal_approval *a, struct buffer *line)
{
	json_t *o = json_object();
	AUTO_FREE char *text = NULL;

	add_answers(d, a, false, o);
	text = json_dumps(json_object_get(o, "answers"), JSON_COMPACT);
	json_decref(o);
	buffer_append_str(line, ",\"answers\":");
	buffer_append_str(line, text ? text : "[]");
}

static void put_item(struct daemon *d, const struct journal_approval *a, bool with_card,
		     struct buffer *card, struct buffer *line)
{
	const struct journal_run *run = journal_state_run(d->rows, &a->run);
	const struct journal_step *step =
		run && a->step < run->step_count ? run->steps[a->step] : NULL;
	const char *const *choices = status_choices(a->kind);
	char id[JOURNAL_ID_TEXT_SIZE], time[VIEWS_TIME_SIZE], state[VIEWS_STATE_SIZE];
	bool complete;

	buffer_printf(line, "{\"version\":%d", SUPERVISOR_API_VERSION);
	put(line, "approval", journal_id_text(&a->id, id));
	put(line, "run", journal_id_text(&a->run, id));
	put(line, "run_name", run ? run->name : NULL);
	put(line, "step", step ? step->name : NULL);
	put(line, "kind", journal_approval_kind_name(a->kind));
	put(line, "state", views_state_text(journal_approval_state_name(a->state), state));
	read_card(d, &a->card, with_card, card, line, &complete);
	put(line, "opened", views_time_text(a->opened_ns, time));
	put(line, "decide_by", views_time_text(a->decide_by_ns, time));
	put(line, "execute_by", views_time_text(a->execute_by_ns, time));
	put_digest(line, "card_digest", &a->card);
	buffer_append_str(line, ",\"choices\":[");
	for (size_t i = 0; choices && choices[i]; i++) {
		buffer_append_str(line, i > 0 ? ",\"" : "\"");
		escape_json(line, bytes_str(choices[i]));
		buffer_append_byte(line, '"');
	}
	buffer_append_byte(line, ']');
	put_effect(d, a, line);
	if (a->kind == JOURNAL_KIND_CONFLICT)
		put_answers(d, a, line);
	buffer_append_str(line, complete ? ",\"complete\":true}" : ",\"complete\":false}");
}

/* How many must agree, and whether they must sign. */
static void add_rules(struct daemon *d, const struct journal_approval *a, json_t *o)
{
	struct policy_settings s;
	struct runs_context *ctx;

	if (runs_get(d, &a->run, &ctx, NULL) < 0)
		return;
	policy_settings(ctx->policy, &s);
	json_object_set_new(o, "quorum", json_integer(s.quorum));
	json_object_set_new(o, "signed", json_boolean(s.signers));
}

/* By hand: a queue of ten thousand is told in a moment, and as trees it took ten times that. */
int views_approval_line(struct daemon *d, const struct journal_approval *a, struct buffer *out)
{
	AUTO_BUFFER card = {0};

	put_item(d, a, false, &card, out);
	return out->failed;
}

/* card: NULL = it is not wanted. */
static json_t *item_of(struct daemon *d, const struct journal_approval *a, struct buffer *card)
{
	AUTO_BUFFER read = {0};
	AUTO_BUFFER line = {0};

	put_item(d, a, card != NULL, card ? card : &read, &line);
	return line.failed ? NULL : json_loadb((const char *)line.data, line.len, 0, NULL);
}

json_t *views_approval_head(struct daemon *d, const struct journal_approval *a)
{
	return item_of(d, a, NULL);
}

json_t *views_approval(struct daemon *d, const struct journal_approval *a)
{
	AUTO_BUFFER card = {0};
	json_t *o = item_of(d, a, &card);

	if (!o)
		return NULL;
	if (a->kind == JOURNAL_KIND_CONFLICT)
		add_answers(d, a, true, o);
	add_rules(d, a, o);
	json_object_set_new(o, "card", api_json_text(buffer_bytes(&card)));
	json_object_set_new(o, "action", views_digest(&a->action));
	json_object_set_new(o, "choice", views_text(a->choice));
	json_object_set_new(o, "why", views_text(a->why));
	json_object_set_new(o, "votes", votes_of(a));
	return o;
}
