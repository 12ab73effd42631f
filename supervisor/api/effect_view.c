#include "supervisor/api/effect_view.h"

#include <string.h>

#include "supervisor/api/views.h"
#include "supervisor/effect_undo.h"
#include "supervisor/effects_code.h"
#include "supervisor/status.h"

static json_t *text_of(const char *s)
{
	return s && s[0] ? api_json_text(bytes_str(s)) : json_null();
}

static json_t *bytes_text(struct bytes b)
{
	return b.len ? api_json_text(b) : json_null();
}

/* "IN_DOUBT" -> "in-doubt" */
static json_t *state_of(enum journal_effect_state s)
{
	const char *name = journal_effect_state_name(s);
	char out[32];
	size_t i;

	for (i = 0; i < sizeof(out) - 1 && name[i]; i++)
		out[i] = name[i] == '_' ? '-' : (char)(name[i] + 32);
	out[i] = '\0';
	return json_string(out);
}

static void set(json_t *o, const char *key, json_t *value)
{
	json_object_set_new(o, key, value);
}

json_t *effect_view_line(struct daemon *d, const struct journal_run *run,
			 const struct journal_effect *f)
{
	json_t *o = json_object();

	set(o, "effect", views_id(&f->id));
	set(o, "run", views_id(&run->id));
	set(o, "step", text_of(run->steps[f->step]->name));
	set(o, "attempt", json_integer(f->attempt));
	set(o, "state", state_of(f->state));
	set(o, "title", text_of(f->title));
	set(o, "class", text_of(journal_class_name(f->class)));
	set(o, "retry", text_of(journal_retry_name(f->retry)));
	set(o, "rule", text_of(f->rule));
	set(o, "at", text_of(f->at));
	set(o, "approver", text_of(status_approver(d->rows, f)));
	set(o, "status", f->status ? json_integer((json_int_t)f->status) : json_null());
	set(o, "proposed", views_time(f->proposed_ns));
	set(o, "reserved", views_time(f->reserved_ns));
	set(o, "ended", views_time(f->ended_ns));
	set(o, "sent", json_integer((json_int_t)f->sent));
	set(o, "received", json_integer((json_int_t)f->received));
	set(o, "why", text_of(f->why));
	return o;
}

static json_t *headers_of(const struct action_header *headers, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, json_pack("[o, o]", api_json_text(headers[i].name),
						      api_json_text(headers[i].value)));
	return list;
}

static json_t *updates_of(const struct action *a)
{
	json_t *list = json_array();

	for (size_t i = 0; i < a->update_count; i++)
		json_array_append_new(list, json_pack("{s:o, s:o, s:o, s:b}", "ref",
						      api_json_text(a->updates[i].ref), "before",
						      api_json_text(a->updates[i].before), "after",
						      api_json_text(a->updates[i].after), "force",
						      a->updates[i].force));
	return list;
}

static json_t *args_of(const struct action *a)
{
	json_t *list = json_array();

	for (size_t i = 0; i < a->arg_count; i++)
		json_array_append_new(list, json_pack("[o, o]", api_json_text(a->args[i].name),
						      api_json_text(a->args[i].value)));
	return list;
}

static json_t *action_of(const struct action *a)
{
	static const char *const kinds[] = {"", "http", "git", "tcp", "tool"};
	json_t *o = json_object();

	set(o, "kind", text_of(kinds[a->kind]));
	set(o, "method", bytes_text(a->method));
	set(o, "scheme", bytes_text(a->scheme));
	set(o, "host", bytes_text(a->host));
	set(o, "port", a->port ? json_integer(a->port) : json_null());
	set(o, "path", bytes_text(a->path));
	set(o, "query", bytes_text(a->query));
	set(o, "headers", headers_of(a->headers, a->header_count));
	if (a->has_body) {
		set(o, "body", views_digest(&a->body));
		set(o, "body_size", json_integer((json_int_t)a->body_len));
	}
	if (a->kind == ACTION_GIT) {
		set(o, "remote", bytes_text(a->remote));
		set(o, "push", json_boolean(a->push));
		set(o, "updates", updates_of(a));
	}
	if (a->kind == ACTION_TOOL) {
		set(o, "tool", bytes_text(a->tool));
		set(o, "args", args_of(a));
	}
	return o;
}

static json_t *response_of(struct daemon *d, const struct journal_effect *f)
{
	struct action_header headers[ACTION_HEADERS_MAX];
	AUTO_BUFFER b = {0};
	size_t count = 0;
	int status = 0;

	if (digest_is_zero(&f->response) ||
	    journal_blob_get(d->journal, &f->response, REPORT_DATAGRAM_MAX, &b, NULL) < 0 ||
	    effects_code_response_decode(buffer_bytes(&b), &status, headers, &count) < 0)
		return json_null();
	return json_pack("{s:i, s:o, s:o, s:b}", "status", status, "headers",
			 headers_of(headers, count), "body", views_digest(&f->response_body),
			 "too_long", f->too_long);
}

static json_t *undo_of(struct daemon *d, const struct journal_run *run,
		       const struct journal_effect *f)
{
	__attribute__((cleanup(effect_undo_clear))) struct effect_undo u = {0};

	if (effect_undo_of(d, run, f, &u, NULL) < 0 || (!u.tool && !u.text))
		return json_null();
	return json_pack("{s:o}", u.tool ? "tool" : "text", text_of(u.tool ? u.tool : u.text));
}

json_t *effect_view_whole(struct daemon *d, const struct journal_run *run,
			  const struct journal_effect *f, struct error *err)
{
	AUTO_BUFFER b = {0};
	struct action *a = calloc(1, sizeof(*a));
	char key[ENGINE_KEY_SIZE];
	json_t *o;
	int r = a ? journal_blob_get(d->journal, &f->canonical, ACTION_BYTES_MAX, &b, err)
		  : -ENOMEM;

	if (r == 0)
		r = action_decode(buffer_bytes(&b), a);
	if (r < 0) {
		free(a);
		error_set(err, r, "cannot read the effect's action; run 'holdfast verify'");
		return NULL;
	}
	o = effect_view_line(d, run, f);
	set(o, "version", json_integer(SUPERVISOR_API_VERSION));
	set(o, "occurrence", json_integer(f->occurrence));
	set(o, "digest", views_digest(&f->action));
	set(o, "action", action_of(a));
	set(o, "response", response_of(d, f));
	set(o, "undo", undo_of(d, run, f));
	set(o, "secret", text_of(f->secret));
	set(o, "claimed", text_of(f->claim));
	set(o, "dropped", text_of(f->dropped));
	set(o, "delivered", json_boolean(f->delivered));
	set(o, "approval",
	    f->approval.b[0] | f->approval.b[1] ? views_id(&f->approval) : json_null());
	set(o, "doubt", f->doubt.b[0] | f->doubt.b[1] ? views_id(&f->doubt) : json_null());
	if (f->retry == JOURNAL_RETRY_KEYED && engine_effect_key(run, f, key) == 0)
		set(o, "key", json_string(key));
	free(a);
	return o;
}

static int add_read(const struct report_read *r, void *arg)
{
	json_t *o = json_object();

	set(o, "time", views_time(r->wall_ns));
	set(o, "denied", json_boolean(r->denied));
	set(o, "status", r->status ? json_integer(r->status) : json_null());
	set(o, "method", bytes_text(r->method));
	set(o, "host", bytes_text(r->host));
	set(o, "port", json_integer(r->port));
	set(o, "path", bytes_text(r->path));
	set(o, "rule", bytes_text(r->rule));
	set(o, "why", bytes_text(r->why));
	set(o, "sent", json_integer((json_int_t)r->sent));
	set(o, "received", json_integer((json_int_t)r->received));
	set(o, "us", json_integer((json_int_t)r->duration_us));
	json_array_append_new(arg, o);
	return 0;
}

json_t *effect_view_reads(struct bytes reads)
{
	json_t *list = json_array();

	if (effects_code_reads_each(reads, add_read, list) < 0)
		json_array_append_new(list, json_string("(it cannot be read)"));
	return list;
}
