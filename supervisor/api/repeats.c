#include "supervisor/api/repeats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct named {
	char id[API_REQUEST_ID_MAX + 1];
	struct digest what;
};

struct underway {
	LIST_ENTRY(underway) link;
	struct named of;
	uint64_t ticket;
};

struct remembered {
	struct named of;
	int status;
	char *text; /* owned; NULL = nothing is here */
};

struct api_repeats {
	LIST_HEAD(, underway) underway;
	size_t underway_count;
	struct remembered answered[API_REMEMBERED]; /* a ring */
	size_t next;
};

int api_repeats_new(struct api_repeats **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

void api_repeats_free(struct api_repeats *s)
{
	struct underway *u;

	if (!s)
		return;
	while ((u = LIST_FIRST(&s->underway))) {
		LIST_REMOVE(u, link);
		free(u);
	}
	for (size_t i = 0; i < API_REMEMBERED; i++)
		free(s->answered[i].text);
	free(s);
}

static void append_text(struct buffer *b, uint8_t tag, const char *text)
{
	buffer_append_byte(b, tag);
	buffer_append_str(b, text);
	buffer_append_byte(b, 0);
}

/* What is decoded holds no NUL, and may hold any mark of a target: so each part is ended by one. */
static int digest_request(const struct api_request *q, struct bytes body, struct digest *ret)
{
	AUTO_BUFFER b = {0};

	for (size_t i = 0; i < q->segment_count; i++)
		append_text(&b, '/', q->segments[i]);
	for (size_t i = 0; i < q->query_count; i++) {
		append_text(&b, '?', q->query[i].key);
		append_text(&b, '=', q->query[i].value);
	}
	buffer_append_byte(&b, 0);
	buffer_append(&b, body.data, body.len);
	if (b.failed)
		return b.failed;
	digest_domain("holdfast.request", buffer_bytes(&b), ret);
	return 0;
}

static const struct underway *find_underway(const struct api_repeats *s, const char *id)
{
	const struct underway *u;

	LIST_FOREACH(u, &s->underway, link)
	if (strcmp(u->of.id, id) == 0)
		return u;
	return NULL;
}

static const struct remembered *find_answered(const struct api_repeats *s, const char *id)
{
	for (size_t i = 0; i < API_REMEMBERED; i++)
		if (s->answered[i].text && strcmp(s->answered[i].of.id, id) == 0)
			return &s->answered[i];
	return NULL;
}

static int begin(struct api_repeats *s, const struct api_request *q, const struct digest *what,
		 struct error *err)
{
	struct underway *u;

	if (s->underway_count >= API_UNDERWAY_MAX)
		return error_set_exit(err, -EAGAIN, EXIT_STATUS_LIMIT,
				      "too many requests: %d are being worked on; try again later",
				      API_UNDERWAY_MAX);
	u = calloc(1, sizeof(*u));
	if (!u)
		return error_nomem(err);
	strcpy(u->of.id, q->request_id);
	u->of.what = *what;
	u->ticket = q->ticket;
	LIST_INSERT_HEAD(&s->underway, u, link);
	s->underway_count++;
	return API_REPEATS_NEW;
}

int api_repeats_begin(struct api_repeats *s, const struct api_request *q, struct bytes body,
		      uint64_t *ret_first, struct api_answer *ret, struct error *err)
{
	const struct underway *u = find_underway(s, q->request_id);
	const struct remembered *m = u ? NULL : find_answered(s, q->request_id);
	struct digest what;

	if (digest_request(q, body, &what) < 0)
		return error_nomem(err);
	if (!u && !m)
		return begin(s, q, &what, err);
	if (!digest_equal(u ? &u->of.what : &m->of.what, &what))
		return error_set_exit(err, -EEXIST, EXIT_STATUS_CONFLICT,
				      "request id used before: for another request; choose a new "
				      "Holdfast-Request");
	if (u) {
		*ret_first = u->ticket;
		return API_REPEATS_UNDERWAY;
	}
	if (buffer_append_str(&ret->text, m->text) < 0)
		return error_nomem(err);
	ret->status = m->status;
	return API_REPEATS_ANSWERED;
}

static void remember(struct api_repeats *s, const struct named *of, const struct api_answer *a)
{
	struct remembered *m = &s->answered[s->next];
	char *text = json_dumps(a->json, JSON_COMPACT);

	if (!text)
		return;
	free(m->text);
	*m = (struct remembered){.of = *of, .status = a->status, .text = text};
	s->next = (s->next + 1) % API_REMEMBERED;
}

void api_repeats_end(struct api_repeats *s, uint64_t ticket, const struct api_answer *a)
{
	struct underway *u;

	LIST_FOREACH(u, &s->underway, link)
	if (u->ticket == ticket)
		break;
	if (!u)
		return;
	if (a->json && !a->volatile_ && a->status < 500)
		remember(s, &u->of, a);
	LIST_REMOVE(u, link);
	s->underway_count--;
	free(u);
}
