/*
 * What a request is and whether it may be: the action, in its one form, and the policy's word on
 * it. The supervisor decides everything but plain reads again by itself; here is what a plain read
 * is, and what is denied without asking.
 */
#include <stdlib.h>
#include <strings.h>
#include <sys/mman.h>
#include "base/hex.h"
#include "base/json.h"
#include "sandbox/gate/courier.h"

enum { FIELDS_MAX = 4096 };

/* ---- JSON bodies: what rules may look at ---- */

struct fields {
	struct policy_field *v;
	size_t count;
	struct buffer text; /* pointers and values, one behind the other */
	size_t *at; /* 4 a field: start, length of the pointer, length of the value, a string */
};

static int add_field(const struct json_value *j, void *arg)
{
	struct fields *f = arg;

	if (f->count == FIELDS_MAX)
		return -E2BIG;
	f->at[4 * f->count] = f->text.len;
	f->at[4 * f->count + 1] = j->pointer.len;
	f->at[4 * f->count + 2] = j->text.len;
	f->at[4 * f->count + 3] = j->kind == JSON_STRING;
	(void)buffer_append(&f->text, j->pointer.data, j->pointer.len);
	f->count++;
	return buffer_append(&f->text, j->text.data, j->text.len);
}

static void fields_clear(struct fields *f)
{
	free(f->v);
	free(f->at);
	buffer_free(&f->text);
}

static bool says_json(const struct action *a)
{
	for (size_t i = 0; i < a->header_count; i++) {
		const char *v = a->headers[i].value.data;
		size_t n = a->headers[i].value.len;

		if (!bytes_equal(a->headers[i].name, bytes_str("content-type")))
			continue;
		for (size_t k = 0; k + 4 <= n; k++)
			if (strncasecmp(v + k, "json", 4) == 0)
				return true;
	}
	return false;
}

/* Without fields a rule that looks into the body covers nothing, and one that denies by it may. */
static void read_fields(struct exchange *x, struct fields *f)
{
	uint8_t *body;
	int r;

	if (x->body_len == 0 || x->body_len > JSON_BYTES_MAX || !says_json(&x->action) ||
	    !action_body_is_utf8(&x->action))
		return;
	body = mmap(NULL, x->body_len, PROT_READ, MAP_SHARED, x->body, 0);
	if (body == MAP_FAILED)
		return;
	f->v = calloc(FIELDS_MAX, sizeof(*f->v));
	f->at = calloc(4 * (size_t)FIELDS_MAX, sizeof(*f->at));
	r = f->v && f->at ? json_each(bytes_of(body, x->body_len), add_field, f) : -ENOMEM;
	(void)munmap(body, x->body_len);
	if (r < 0)
		f->count = 0;
	for (size_t i = 0; i < f->count; i++) {
		const uint8_t *s = f->text.data + f->at[4 * i];

		f->v[i].name = bytes_of(s, f->at[4 * i + 1]);
		f->v[i].value = bytes_of(s + f->at[4 * i + 1], f->at[4 * i + 2]);
		f->v[i].quoted = f->at[4 * i + 3];
	}
}

/* ---- one kind each ---- */

static void decide_http(struct exchange *x, uint64_t body_len, const struct fields *f)
{
	const struct action *a = &x->action;
	struct policy_request r = {.kind = POLICY_HTTP, .fields = f->v, .field_count = f->count};

	r.http.method = a->method;
	r.http.scheme = a->scheme;
	r.http.host = a->host;
	r.http.port = a->port;
	r.http.path = a->path;
	r.http.query = a->query;
	r.http.body_len = body_len;
	r.http.websocket = a->websocket;
	policy_decide(x->attempt->policy, &r, &x->decision);
}

static int http(struct exchange *x, const char **ret_why)
{
	struct fields f = {0};
	int r = 0;

	read_fields(x, &f);
	decide_http(x, x->body_len, &f);
	if (x->decision.verdict == POLICY_DENY && x->body_len > 1) {
		struct policy_decision denied = x->decision;

		decide_http(x, 1, &f);
		r = x->decision.verdict == POLICY_DENY ? 0 : -EMSGSIZE;
		x->decision = denied;
	}
	fields_clear(&f);
	*ret_why = r ? "the body is longer than the rule's body_max"
		   : x->decision.verdict == POLICY_DENY && !x->decision.rule[0] &&
				     x->body_len > 0 && says_json(&x->action) &&
				     !action_body_is_utf8(&x->action)
			   ? "its JSON body declares a charset other than UTF-8, or a content coding: "
			     "no rule's json covers it"
			   : x->decision.why;
	return r;
}

static void decide_git(struct exchange *x, const struct action_update *u,
		       struct policy_decision *ret)
{
	struct policy_request r = {.kind = POLICY_GIT};

	r.git.remote = buffer_bytes(&x->remote);
	if (u) {
		r.git.push = true;
		r.git.ref = u->ref;
		r.git.force = u->force;
		r.git.remove = u->after.len && strspn(u->after.data, "0") >= u->after.len;
	}
	policy_decide(x->attempt->policy, &r, ret);
}

static int map_push(struct exchange *x, const char **ret_why)
{
	struct bytes body = {0};
	int r;

	x->push = calloc(1, sizeof(*x->push));
	if (!x->push)
		return -ENOMEM;
	if (x->body_len) {
		x->body_map = mmap(NULL, x->body_len, PROT_READ, MAP_SHARED, x->body, 0);
		if (x->body_map == MAP_FAILED) {
			x->body_map = NULL;
			return -ENOMEM;
		}
		body = bytes_of(x->body_map, x->body_len);
	}
	r = git_push_parse(body, x->push);
	if (r == -E2BIG)
		*ret_why = "a push of more than 256 refs at once; push them in parts";
	else if (r == -EOPNOTSUPP)
		*ret_why = "a signed push is not understood here; push without --signed";
	else if (r < 0)
		*ret_why = "not a push that can be read";
	return r < 0 ? -EBADMSG : 0;
}

/* The strictest of its updates. */
static int push(struct exchange *x, const char **ret_why)
{
	int r = map_push(x, ret_why);

	if (r < 0)
		return r;
	memcpy(x->action.updates, x->push->updates, sizeof(x->action.updates));
	x->action.update_count = x->push->count;
	for (size_t i = 0; i < x->push->count; i++) {
		struct policy_decision d;

		decide_git(x, &x->push->updates[i], &d);
		if (i == 0 || d.verdict > x->decision.verdict ||
		    (d.verdict == x->decision.verdict && d.class > x->decision.class))
			x->decision = d;
	}
	return 0;
}

/* What only asks which refs there are is a read, where some push is possible. */
static void ask_refs(struct exchange *x)
{
	if (policy_push_possible(x->attempt->policy, buffer_bytes(&x->remote), &x->decision)) {
		x->decision.verdict = POLICY_ALLOW;
		x->decision.class = POLICY_READ;
		return;
	}
	struct action_update any = {.ref = bytes_str("refs/heads/any")};

	decide_git(x, &any, &x->decision);
}

static int git(struct exchange *x, const char **ret_why)
{
	int r = git_remote(&x->request.action, &x->git, &x->remote);

	x->action.kind = ACTION_GIT;
	x->action.remote = buffer_bytes(&x->remote);
	x->action.push = x->git.push;
	if (r < 0)
		return r;
	if (!x->git.push)
		decide_git(x, NULL, &x->decision);
	else if (x->git.refs)
		ask_refs(x);
	else
		r = push(x, ret_why);
	if (r == 0 && x->push && x->push->count == 0)
		ask_refs(x);
	if (r == 0)
		*ret_why = x->decision.why;
	return r;
}

static void tunnel(struct exchange *x)
{
	const struct frames_tunnel *t = &x->tunnel;
	struct policy_request r = {.kind = t->tls ? POLICY_HTTP : POLICY_TCP};

	x->action = (struct action){.kind = ACTION_TCP,
				    .scheme = bytes_str(t->tls ? "tls" : "tcp"),
				    .host = t->host,
				    .port = t->port};
	r.http.scheme = bytes_str("https");
	r.http.host = t->host;
	r.http.port = t->port;
	r.http.passthrough = t->tls;
	policy_decide(x->attempt->policy, &r, &x->decision);
}

/* A secret goes to its hosts only, and only over TLS that was looked into. */
static const char *secret_fault(const struct exchange *x)
{
	struct policy_secret_info s;

	if (!x->rule.secret[0])
		return NULL;
	if (x->is_tunnel || !bytes_equal(x->action.scheme, bytes_str("https")))
		return "the rule's secret goes over inspected TLS only";
	if (!policy_secret_find(x->attempt->policy, bytes_str(x->rule.secret), &s))
		return "the rule's secret is not defined by who may define it";
	if (!policy_secret_to(&s, x->action.host))
		return "the rule's secret may not go to this host";
	return attempt_secret(x->attempt, x->rule.secret) ? NULL : "the rule's secret has no value";
}

/* ---- calls of tools ---- */

/* Of a form that the gate has made canonical: percent escapes are whole, and in capitals. */
static int put_decoded(struct buffer *out, const char *at, const char *end)
{
	for (; at < end; at++) {
		int hi = *at == '%' && end - at > 2 ? hex_capital((uint8_t)at[1]) : -1,
		    lo = hi >= 0 ? hex_capital((uint8_t)at[2]) : -1;

		if (*at == '%' && lo < 0)
			return -EBADMSG;
		if (lo >= 0) {
			(void)buffer_append_byte(out, (uint8_t)(hi << 4 | lo));
			at += 2;
		} else {
			(void)buffer_append_byte(out, (uint8_t)*at);
		}
	}
	return out->failed;
}

/* Where the pieces of a call are in tool_text: it may move while it grows. */
struct piece {
	size_t at, len;
};

static int take_piece(struct exchange *x, const char *at, const char *end, struct piece *ret)
{
	ret->at = x->tool_text.len;
	if (put_decoded(&x->tool_text, at, end) < 0)
		return -EBADMSG;
	ret->len = x->tool_text.len - ret->at;
	return 0;
}

static struct bytes piece(const struct exchange *x, struct piece p)
{
	return bytes_of((const char *)x->tool_text.data + p.at, p.len);
}

static int by_arg_name(const void *a, const void *b)
{
	const struct action_arg *p = a, *q = b;
	size_t n = p->name.len < q->name.len ? p->name.len : q->name.len;
	int order = n ? memcmp(p->name.data, q->name.data, n) : 0;

	return order ? order : (p->name.len > q->name.len) - (p->name.len < q->name.len);
}

/* -EBADMSG: it is no call. -EINVAL: a NUL, which ends a word of a command: what would run is not
 * what was matched and shown. */
static int read_call(struct exchange *x)
{
	const struct action *q = &x->request.action;
	const char *path = q->path.data, *at = q->query.data, *end = at + q->query.len;
	struct piece name, names[ACTION_ARGS_MAX], values[ACTION_ARGS_MAX];
	size_t n = 0;

	if (!bytes_equal(q->method, bytes_str("POST")) || q->path.len < 2 || x->body_len > 0 ||
	    take_piece(x, path + 1, path + q->path.len, &name) < 0)
		return -EBADMSG;
	while (at && at < end) {
		const char *stop = memchr(at, '&', (size_t)(end - at)), *equals;

		stop = stop ? stop : end;
		equals = memchr(at, '=', (size_t)(stop - at));
		if (!equals || n == ACTION_ARGS_MAX || take_piece(x, at, equals, &names[n]) < 0 ||
		    take_piece(x, equals + 1, stop, &values[n]) < 0)
			return -EBADMSG;
		n++;
		at = stop + 1;
	}
	x->action = (struct action){.kind = ACTION_TOOL, .tool = piece(x, name), .arg_count = n};
	for (size_t i = 0; i < n; i++)
		x->action.args[i] = (struct action_arg){piece(x, names[i]), piece(x, values[i])};
	qsort(x->action.args, n, sizeof(x->action.args[0]), by_arg_name);
	return x->tool_text.len && memchr(x->tool_text.data, 0, x->tool_text.len) ? -EINVAL : 0;
}

/* Always the supervisor's: it runs it. */
static int tool(struct exchange *x, const char **ret_why)
{
	struct policy_field args[ACTION_ARGS_MAX];
	struct policy_request r = {.kind = POLICY_TOOL, .fields = args};
	int rc = read_call(x);

	if (rc < 0) {
		*ret_why = rc == -EINVAL
				   ? "an argument of the tool holds a NUL, which no command can be given"
				   : "a tool is called by POST /NAME?argument=value, without a body";
		return -EBADMSG;
	}
	r.tool = x->action.tool;
	r.field_count = x->action.arg_count;
	for (size_t i = 0; i < r.field_count; i++)
		args[i] = (struct policy_field){x->action.args[i].name, x->action.args[i].value};
	policy_decide(x->attempt->policy, &r, &x->decision);
	*ret_why = x->decision.why;
	if (x->decision.verdict == POLICY_DENY ||
	    !policy_rule_of(x->attempt->policy, &x->decision, &x->rule))
		return -EACCES;
	x->is_tool = x->effect = true;
	return 0;
}

int decide(struct exchange *x, const char **ret_why)
{
	int r = 0;

	*ret_why = "";
	if (x->is_tunnel) {
		tunnel(x);
		*ret_why = x->decision.why;
	} else if (bytes_equal(x->request.action.host, bytes_str(ACTION_TOOLS_HOST))) {
		return tool(x, ret_why);
	} else {
		action_copy(&x->action, &x->request.action);
		x->action.body_len = x->action.has_body ? x->body_len : 0;
		x->is_git = git_recognise(&x->action, &x->git);
		r = x->is_git ? git(x, ret_why) : http(x, ret_why);
		/* A host whose GETs are allowed may be asked for refs like for any other page. */
		if (r == 0 && x->is_git && x->git.refs && !x->git.push &&
		    x->decision.verdict == POLICY_DENY) {
			struct policy_decision d = x->decision;
			struct fields none = {0};

			x->action.kind = ACTION_HTTP;
			decide_http(x, 0, &none);
			x->action.kind =
				x->decision.verdict == POLICY_DENY ? ACTION_GIT : ACTION_HTTP;
			if (x->decision.verdict == POLICY_DENY)
				x->decision = d;
			else
				x->action.remote = (struct bytes){0};
		}
	}
	if (r < 0)
		return r;
	if (x->decision.verdict == POLICY_DENY ||
	    !policy_rule_of(x->attempt->policy, &x->decision, &x->rule))
		return -EACCES;
	*ret_why = secret_fault(x);
	if (*ret_why)
		return -EACCES;
	x->effect = x->decision.verdict != POLICY_ALLOW || x->decision.class != POLICY_READ ||
		    (x->rule.replay && !(x->is_git && x->git.refs));
	return 0;
}

/* ---- rates and budgets ---- */

static struct bucket *bucket_of(struct courier *c, const struct policy_rule *r)
{
	struct bucket *more;

	for (size_t i = 0; i < c->bucket_count; i++)
		if (strcmp(c->buckets[i].rule, r->id) == 0)
			return &c->buckets[i];
	more = reallocarray(c->buckets, c->bucket_count + 1, sizeof(*more));
	if (!more)
		return NULL;
	c->buckets = more;
	more[c->bucket_count] =
		(struct bucket){.rule = strdup(r->id), .since_ms = courier_mono_us() / 1000};
	return more[c->bucket_count].rule ? &more[c->bucket_count++] : NULL;
}

int decide_rate(struct exchange *x, const char **ret_why)
{
	int64_t now = courier_mono_us() / 1000;
	struct bucket *b;

	if (x->attempt->requests_left == 0 || x->attempt->egress_left == 0 ||
	    x->attempt->egress_left < x->body_len) {
		*ret_why = x->attempt->requests_left ? "the run's egress limit is used up"
						     : "the run's requests limit is used up";
		return 429;
	}
	if (!x->rule.rate_count)
		return 0;
	b = bucket_of(x->c, &x->rule);
	if (!b) {
		*ret_why = "out of memory";
		return 429;
	}
	if (now - b->since_ms >= (int64_t)x->rule.rate_per_ms) {
		b->since_ms = now;
		b->count = b->bytes = 0;
	}
	if (b->count >= x->rule.rate_count ||
	    (x->rule.rate_bytes && b->bytes + x->body_len > x->rule.rate_bytes)) {
		*ret_why = "the rule's rate is used up; try again later";
		return 429;
	}
	b->count++;
	return 0;
}

static void spend(uint64_t *left, uint64_t n)
{
	if (*left != UINT64_MAX)
		*left -= *left < n ? *left : n;
}

void decide_count_request(struct courier *c)
{
	for (struct attempt *a = c->attempts; a; a = a->next)
		spend(&a->requests_left, 1);
}

void decide_count(struct exchange *x, uint64_t sent, uint64_t received)
{
	x->sent += sent;
	x->received += received;
	/* one budget for the run: each of its attempts was told what was left of it */
	for (struct attempt *a = x->c->attempts; a; a = a->next)
		spend(&a->egress_left, sent);
	if (!x->rule.rate_bytes)
		return;
	for (size_t i = 0; i < x->c->bucket_count; i++)
		if (strcmp(x->c->buckets[i].rule, x->rule.id) == 0)
			x->c->buckets[i].bytes += sent + received;
}
