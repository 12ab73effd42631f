#include "tools/announce.h"
#include "tools/status_print.h"
#include <stdio.h>
#include <string.h>

/* By id: whoever follows a run with several streams, one after another, meets an item in each. */
static bool said_before(const char *id)
{
	static json_t *said;
	if (!said)
		said = json_object();
	if (json_object_get(said, id))
		return true;
	json_object_set_new(said, id, json_true());
	return false;
}

void announce_item(const json_t *approval, bool raw)
{
	const char *id = cli_str(approval, "approval"), *cr = raw ? "\r" : "";
	if (!*id || said_before(id))
		return;
	fprintf(stderr,
		"%sholdfast: waits for you: %s: 'holdfast approve %.8s%s' or 'holdfast deny %.8s'; "
		"'holdfast "
		"show %.8s' shows what%s\n",
		cr, cli_escaped(cli_str(approval, "title")), id,
		status_choices_of(cli_str(approval, "kind")), id, id, cr);
	fflush(stderr);
}

void announce_event(struct announce *a, const json_t *event)
{
	const char *type = cli_str(event, "type"),
		   *id = cli_str(cli_get(event, "payload"), "approval");
	if (strncmp(type, "APPROVAL_", 9) != 0 || !*id)
		return;
	if (!a->open)
		a->open = json_object();
	if (strcmp(type, "APPROVAL_OPENED") == 0)
		json_object_set_new(a->open, id, json_true());
	else if (strcmp(type, "APPROVAL_TOLD") != 0) /* somebody was notified: nothing is decided */
		json_object_del(a->open, id);
}

bool announce_waits(const struct announce *a)
{
	return json_object_size(a->open) > 0;
}

void announce_tell(struct announce *a)
{
	const char *id;
	json_t *v;
	json_object_foreach(a->open, id, v)
	{
		struct error ignored = {0};
		AUTO_BUFFER target = {0};
		buffer_printf(&target, "/v1/approvals/%s", id);
		struct client_request q = {.method = "GET", .target = (const char *)target.data};
		json_t *doc = NULL;
		if (client_call(a->c, &q, NULL, &doc, NULL, &ignored) < 0)
			continue;
		/* Events are replayed: it may be decided since. */
		if (strcmp(cli_str(doc, "state"), "open") == 0)
			announce_item(doc, a->raw);
		json_decref(doc);
	}
}

void announce_watch(struct announce *a)
{
	struct error ignored = {0};
	AUTO_BUFFER target = {0};
	client_stream_close(a->events);
	a->events = NULL;
	buffer_free(&a->text);
	buffer_printf(&target, "/v1/runs/%s/events?from=1&follow=1", a->run);
	if (client_stream_open(a->c, (const char *)target.data, &a->events, &ignored) < 0)
		a->events = NULL;
}

int announce_fd(const struct announce *a)
{
	return a->events ? client_stream_fd(a->events) : -1;
}

bool announce_pending(const struct announce *a)
{
	return a->events && client_stream_pending(a->events);
}

void announce_read(struct announce *a)
{
	struct error ignored = {0};
	uint8_t *end;
	int r = client_stream_read(a->events, &a->text, &ignored);
	while (a->text.len > 0 && (end = memchr(a->text.data, '\n', a->text.len)) != NULL) {
		size_t len = (size_t)(end - a->text.data);
		json_t *event = json_loadb((const char *)a->text.data, len, 0, NULL);
		announce_event(a, event);
		json_decref(event);
		buffer_consume(&a->text, len + 1);
	}
	if (r <= 0) { /* over, or lost: the output's own stream is what is tried again */
		client_stream_close(a->events);
		a->events = NULL;
	}
	announce_tell(a);
}

void announce_close(struct announce *a)
{
	client_stream_close(a->events);
	a->events = NULL;
	buffer_free(&a->text);
	json_decref(a->open);
	a->open = NULL;
}
