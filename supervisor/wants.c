#include "supervisor/wants.h"

#include <string.h>

#include "supervisor/api/server.h"
#include "supervisor/recorded.h"

struct wants {
	json_t *list, *by_key; /* by_key borrows what is in list */
	uint64_t more;
};

static void put(json_t *o, const char *key, struct bytes text)
{
	if (text.len)
		json_object_set_new(o, key, api_json_text(text));
}

/* Takes o over. Equal ones are one with a count. */
static void add(struct wants *x, json_t *o)
{
	AUTO_FREE char *key = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
	json_t *seen = key ? json_object_get(x->by_key, key) : NULL;

	if (seen) {
		json_object_set_new(
			seen, "count",
			json_integer(json_integer_value(json_object_get(seen, "count")) + 1));
	} else if (key && json_array_size(x->list) < WANTS_MAX) {
		json_object_set_new(o, "count", json_integer(1));
		json_array_append(x->list, o);
		json_object_set(x->by_key, key, o);
	} else {
		x->more++;
	}
	json_decref(o);
}

static json_t *start(const char *kind, bool allowed, const char *rule, const char *secret,
		     struct bytes why)
{
	json_t *o = json_pack("{s:s, s:b}", "kind", kind, "allowed", allowed);

	if (allowed && rule)
		put(o, "rule", bytes_str(rule));
	if (allowed && secret)
		put(o, "secret", bytes_str(secret));
	if (!allowed)
		put(o, "why", why);
	return o;
}

static json_t *request(json_t *o, struct bytes scheme, struct bytes host, uint16_t port)
{
	put(o, "scheme", scheme);
	put(o, "host", host);
	if (port)
		json_object_set_new(o, "port", json_integer(port));
	return o;
}

static json_t *git(json_t *o, struct bytes remote, bool push)
{
	put(o, "remote", remote);
	json_object_set_new(o, "push", json_boolean(push));
	return o;
}

/* ---- effects: all of it is known ---- */

static bool cut_end(struct bytes *path, const char *end)
{
	size_t n = strlen(end);

	if (path->len < n || memcmp((const char *)path->data + path->len - n, end, n) != 0)
		return false;
	path->len -= n;
	return true;
}

static bool is_zero_name(struct bytes hex)
{
	for (size_t i = 0; i < hex.len; i++)
		if (((const char *)hex.data)[i] != '0')
			return false;
	return hex.len > 0;
}

static void add_push(struct wants *x, const struct action *a, const json_t *with)
{
	for (size_t i = 0; i < a->update_count; i++) {
		const struct action_update *u = &a->updates[i];
		json_t *o = git(json_deep_copy(with), a->remote, true);

		put(o, "ref", u->ref);
		json_object_set_new(o, "force", json_boolean(u->force));
		json_object_set_new(o, "remove", json_boolean(is_zero_name(u->after)));
		add(x, o);
	}
}

/* A plain GET to a rule of hosts, and what git asks first when it fetches or pushes. */
static bool is_git(const struct action *a, bool *ret_push, struct bytes *ret_path)
{
	static const char fetch[] = "service=git-upload-pack", push[] = "service=git-receive-pack";

	*ret_path = a->path;
	*ret_push = bytes_equal(a->query, bytes_str(push));
	return bytes_equal(a->scheme, bytes_str("https")) && cut_end(ret_path, "/info/refs") &&
	       (*ret_push || bytes_equal(a->query, bytes_str(fetch)));
}

static void effect_http(json_t *o, const struct action *a)
{
	struct bytes path;
	char remote[1024];
	bool push;

	if (is_git(a, &push, &path)) {
		snprintf(remote, sizeof(remote), "https://%.*s%.*s", (int)a->host.len,
			 (const char *)a->host.data, (int)path.len, (const char *)path.data);
		json_object_set_new(o, "kind", json_string("git"));
		git(o, bytes_str(remote), push);
		return;
	}
	request(o, a->scheme, a->host, a->port);
	put(o, "method", a->method);
	put(o, "path", a->path);
	json_object_set_new(o, "websocket", json_boolean(a->websocket));
}

static void add_effect(struct wants *x, const struct recorded *r)
{
	static const char *const kinds[] = {[ACTION_HTTP] = "http",
					    [ACTION_GIT] = "git",
					    [ACTION_TCP] = "tcp",
					    [ACTION_TOOL] = "tool"};
	const struct journal_effect *f = r->effect;
	const struct action *a = r->action;
	json_t *o =
		start(kinds[a->kind], f->reserved_ns != 0, f->rule, f->secret, (struct bytes){0});

	switch (a->kind) {
	case ACTION_HTTP:
		effect_http(o, a);
		break;
	case ACTION_GIT:
		if (a->push) {
			add_push(x, a, o);
			json_decref(o);
			return;
		}
		git(o, a->remote, false);
		break;
	case ACTION_TCP:
		request(o, (struct bytes){0}, a->host, a->port);
		break;
	case ACTION_TOOL:
		put(o, "tool", a->tool);
		break;
	}
	add(x, o);
}

/* ---- reads and refusals: what is kept of them ---- */

/* Fetching asks for the refs first, and so does pushing: what is not told apart counts as a fetch.
 */
static void read_git(json_t *o, const struct report_read *r)
{
	struct bytes path = r->path;
	char remote[1024];
	bool push = cut_end(&path, "/git-receive-pack");

	if (!push && !cut_end(&path, "/git-upload-pack"))
		(void)cut_end(&path, "/info/refs");
	snprintf(remote, sizeof(remote), "https://%.*s%.*s", (int)r->host.len,
		 (const char *)r->host.data, (int)path.len, (const char *)path.data);
	git(o, bytes_str(remote), push);
}

static void add_read(struct wants *x, const struct report_read *r)
{
	AUTO_FREE char *rule = bytes_dup_str(r->rule);
	bool name = recorded_is_name(r);
	const char *kind = name					     ? "name"
			   : r->kind == ACTION_GIT		     ? "git"
			   : r->kind == ACTION_TOOL		     ? "tool"
			   : r->kind == ACTION_TCP		     ? "tcp"
			   : r->kind == ACTION_HTTP && r->method.len ? "http"
								     : NULL;
	json_t *o;

	if (!kind || (r->kind == ACTION_TCP && !name && !r->port))
		return; /* a broken request: no rule lets it */
	o = start(kind, !r->denied, rule, NULL, r->why);
	if (r->kind == ACTION_GIT && !name) {
		read_git(o, r);
	} else if (!name && r->kind == ACTION_HTTP) {
		request(o, bytes_str(r->port == 80 ? "http" : "https"), r->host, r->port);
		put(o, "method", r->method);
		put(o, "path", r->path);
		json_object_set_new(o, "cut", json_boolean(recorded_is_cut(r)));
	} else {
		request(o, (struct bytes){0}, r->host, r->port);
	}
	add(x, o);
}

static int each(const struct recorded *r, void *arg)
{
	if (r->effect)
		add_effect(arg, r);
	else
		add_read(arg, r->read);
	return 0;
}

int wants_run(struct daemon *d, const struct journal_run *run, json_t **ret, struct error *err)
{
	struct wants x = {json_array(), json_object(), 0};
	int r = recorded_each(d, run, each, &x, err);

	json_decref(x.by_key);
	if (r == 0)
		*ret = json_pack("{s:O, s:I}", "wants", x.list, "more", (json_int_t)x.more);
	json_decref(x.list);
	return r;
}
