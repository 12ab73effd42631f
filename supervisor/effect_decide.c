#include "supervisor/effect_decide.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include "base/escape.h"
#include "base/json.h"
#include "base/utf8.h"

struct fields {
	struct policy_field list[EFFECT_DECIDE_FIELDS_MAX];
	size_t count;
};

static void free_fields(struct fields *f)
{
	for (size_t i = 0; i < f->count; i++) {
		free((void *)f->list[i].name.data);
		free((void *)f->list[i].value.data);
	}
	free(f);
}
DEFINE_GUARD(struct fields *, free_fields)

static int add_field(const struct json_value *v, void *arg)
{
	struct fields *f = arg;
	char *name, *text;

	if (f->count == EFFECT_DECIDE_FIELDS_MAX)
		return -E2BIG;
	name = bytes_dup_str(v->pointer);
	text = bytes_dup_str(v->text);
	if (!name || !text) {
		free(name);
		free(text);
		return -ENOMEM;
	}
	f->list[f->count++] =
		(struct policy_field){bytes_of(name, v->pointer.len), bytes_of(text, v->text.len),
				      v->kind == JSON_STRING};
	return 0;
}

struct bytes effect_decide_header(const struct action *a, const char *name)
{
	for (size_t i = 0; i < a->header_count; i++)
		if (bytes_equal(a->headers[i].name, bytes_str(name)))
			return a->headers[i].value;
	return (struct bytes){0};
}

/* application/json, or any type/subtype+json (RFC 6839), with or without parameters. */
bool effect_decide_is_json(const struct action *a)
{
	struct bytes type = effect_decide_header(a, "content-type");
	const char *text = type.data;
	size_t n = 0;

	while (n < type.len && text[n] != ';' && text[n] != ' ')
		n++;
	return (n == 16 && strncasecmp(text, "application/json", n) == 0) ||
	       (n > 5 && strncasecmp(text + n - 5, "+json", 5) == 0);
}

static void deny_unclear(struct effect_decision *ret, const char *why)
{
	ret->policy.verdict = POLICY_DENY;
	ret->policy.by = POLICY_BY_HARD;
	ret->unclear = true;
	utf8_printf(ret->policy.why, sizeof(ret->policy.why), "%s", why);
}

/* 0; 1: refused by what its body is, *ret says why. */
static int read_body(const struct action *a, struct bytes body, struct fields *f,
		     struct effect_decision *ret)
{
	int rc;

	if (a->kind != ACTION_HTTP || !a->has_body || body.len == 0 || !effect_decide_is_json(a))
		return 0;
	if (!action_body_is_utf8(a)) {
		deny_unclear(ret, "its JSON body declares a charset other than UTF-8, or a content "
				  "coding");
		return 1;
	}
	rc = json_each(body, add_field, f);
	if (rc == 0 || rc == -ENOMEM)
		return rc;
	deny_unclear(ret, rc == -EEXIST	 ? "its JSON body has a key twice"
			  : rc == -E2BIG ? "its JSON body is past the limit of what is looked at"
					 : "its body is said to be JSON and is not");
	return 1;
}

/* Called for each question that an action is: one for every ref of a push. */
typedef void visit_fn(const struct policy_request *r, void *arg);

struct deciding {
	const struct policy_effective *e;
	struct effect_decision *worst;
	bool any;
};

static void decide_one(const struct policy_request *r, void *arg)
{
	struct deciding *x = arg;
	struct policy_decision d;

	policy_decide(x->e, r, &d);
	if (x->any && d.verdict <= x->worst->policy.verdict)
		return;
	x->any = true;
	x->worst->policy = d;
	x->worst->has_rule = policy_rule_of(x->e, &d, &x->worst->rule);
}

static bool is_zero_name(struct bytes hex)
{
	const char *p = hex.data;

	for (size_t i = 0; i < hex.len; i++)
		if (p[i] != '0')
			return false;
	return true;
}

static void visit_git(const struct action *a, visit_fn *fn, void *arg)
{
	struct policy_request r = {.kind = POLICY_GIT,
				   .git = {.remote = a->remote, .push = a->push}};

	if (!a->push || a->update_count == 0)
		fn(&r, arg);
	for (size_t i = 0; i < a->update_count; i++) {
		r.git.ref = a->updates[i].ref;
		r.git.force = a->updates[i].force;
		r.git.remove = is_zero_name(a->updates[i].after);
		fn(&r, arg);
	}
}

static void visit_tool(const struct action *a, visit_fn *fn, void *arg)
{
	struct policy_field args[ACTION_ARGS_MAX];
	struct policy_request r = {.kind = POLICY_TOOL,
				   .tool = a->tool,
				   .fields = args,
				   .field_count = a->arg_count};

	for (size_t i = 0; i < a->arg_count; i++)
		args[i] = (struct policy_field){a->args[i].name, a->args[i].value};
	fn(&r, arg);
}

static void visit_http(const struct action *a, const struct fields *f, visit_fn *fn, void *arg)
{
	struct policy_request r = {
		.kind = POLICY_HTTP,
		.http = {.method = a->method,
			 .scheme = a->scheme,
			 .host = a->host,
			 .port = a->port,
			 .path = a->path,
			 .query = a->query,
			 .body_len = a->body_len,
			 .websocket = a->websocket},
		.fields = f->list,
		.field_count = f->count,
	};

	fn(&r, arg);
}

static void visit(const struct action *a, const struct fields *f, visit_fn *fn, void *arg)
{
	struct policy_request tcp = {.kind = POLICY_TCP};

	switch (a->kind) {
	case ACTION_HTTP:
		visit_http(a, f, fn, arg);
		break;
	case ACTION_GIT:
		visit_git(a, fn, arg);
		break;
	case ACTION_TCP:
		tcp.http.host = a->host;
		tcp.http.port = a->port;
		tcp.http.passthrough = bytes_equal(a->scheme, bytes_str("tls"));
		if (tcp.http.passthrough) {
			tcp.kind = POLICY_HTTP;
			tcp.http.scheme = bytes_str("https");
		}
		fn(&tcp, arg);
		break;
	case ACTION_TOOL:
		visit_tool(a, fn, arg);
		break;
	}
}

int effect_decide(const struct policy_effective *e, const struct action *a, struct bytes body,
		  struct effect_decision *ret)
{
	AUTO(free_fields) struct fields *f = calloc(1, sizeof(*f));
	struct deciding x = {.e = e, .worst = ret};
	int rc;

	*ret = (struct effect_decision){
		.policy = {.verdict = POLICY_DENY, .rule = "", .secret = "", .at = {.file = ""}}};
	if (!f)
		return -ENOMEM;
	rc = read_body(a, body, f, ret);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	visit(a, f, decide_one, &x);
	return 0;
}

struct covering {
	const struct policy_effective *e;
	const struct policy *grant; /* NULL: the i-th standing */
	size_t standing;
	bool all;
};

/* What is allowed by itself needs no cover. */
static void cover_one(const struct policy_request *r, void *arg)
{
	struct covering *x = arg;
	struct policy_decision d;

	policy_decide(x->e, r, &d);
	if (d.verdict == POLICY_ALLOW)
		return;
	x->all &= d.verdict == POLICY_ASK &&
		  (x->grant ? policy_grant_covers(x->grant, x->e, r, &d)
			    : policy_standing_covers(x->e, x->standing, r, &d));
}

static bool covered(struct covering *x, const struct action *a, struct bytes body)
{
	AUTO(free_fields) struct fields *f = calloc(1, sizeof(*f));
	struct effect_decision unclear;

	x->all = f && read_body(a, body, f, &unclear) == 0;
	if (x->all)
		visit(a, f, cover_one, x);
	return x->all;
}

bool effect_decide_granted(const struct policy_effective *e, const struct action *a,
			   struct bytes body, const struct policy *grant)
{
	return covered(&(struct covering){.e = e, .grant = grant}, a, body);
}

bool effect_decide_standing(const struct policy_effective *e, const struct action *a,
			    struct bytes body, size_t i)
{
	return covered(&(struct covering){.e = e, .standing = i}, a, body);
}

static void put(struct buffer *b, struct bytes text)
{
	escape_append(b, text, ESCAPE_LINE | ESCAPE_MARK_LOOKALIKE);
}

void effect_decide_title(const struct action *a, char ret[EFFECT_DECIDE_TITLE_MAX])
{
	AUTO_BUFFER b = {0};
	bool usual = bytes_equal(a->scheme, bytes_str("https")) ? a->port == 443 : a->port == 80;

	switch (a->kind) {
	case ACTION_HTTP:
		put(&b, a->method);
		buffer_append_byte(&b, ' ');
		put(&b, a->scheme);
		buffer_append_str(&b, "://");
		put(&b, a->host);
		if (!usual)
			buffer_printf(&b, ":%u", a->port);
		put(&b, a->path);
		break;
	case ACTION_GIT:
		buffer_append_str(&b, a->push ? "push " : "fetch ");
		put(&b, a->remote);
		for (size_t i = 0; i < a->update_count && i < 4; i++) {
			buffer_append_byte(&b, ' ');
			put(&b, a->updates[i].ref);
		}
		break;
	case ACTION_TCP:
		buffer_append_str(&b, "connect ");
		put(&b, a->host);
		buffer_printf(&b, ":%u", a->port);
		break;
	case ACTION_TOOL:
		buffer_append_str(&b, "tool ");
		put(&b, a->tool);
		for (size_t i = 0; i < a->arg_count && i < 8; i++) {
			buffer_append_byte(&b, ' ');
			put(&b, a->args[i].name);
			buffer_append_byte(&b, '=');
			put(&b, a->args[i].value);
		}
		break;
	}
	utf8_copy(ret, EFFECT_DECIDE_TITLE_MAX, buffer_bytes(&b));
}
