/*
 * One request, decided: built-in refusals, then every layer by itself, then its step, then the
 * dial; the strictest counts. Total: whatever is asked, there is an answer, and every doubt is a
 * deny.
 */
#include "policy/model.h"
#include "base/utf8.h"
#include <stdio.h>

/* Whether a rule covers a request; MAYBE where the request hides what the rule looks at. */
enum covering { COVERS_NO, COVERS_MAYBE, COVERS_YES };

/* The request, in the forms that are compared. */
struct asked {
	const struct policy_request *r;
	const struct policy_effective *e;
	char host[POLICY_HOST_MAX];
	char remote[POLICY_REMOTE_MAX];
	struct buffer path;
	struct buffer bare; /* the path without parameters; as path where it has none */
	struct buffer twins[POLICY_TWIN_READINGS];
	bool http;
	uint16_t port;
};

static void asked_clear(struct asked *a)
{
	buffer_free(&a->path);
	buffer_free(&a->bare);
	for (size_t i = 0; i < POLICY_TWIN_READINGS; i++)
		buffer_free(&a->twins[i]);
}

/* How far a rule reaches where a request can be read in more than one way: what grants reaches no
 * further than it says, what takes away as far as any server may read it. */
enum {
	ANY_PORT = 1, /* scheme and port that the rule leaves out are any, not the usual ones */
	ANY_NUMBER = 2, /* a string of digits is a number */
	ANY_TWIN = 4, /* of the path (policy_twin_read) */
	ANY = ANY_PORT | ANY_NUMBER | ANY_TWIN,
};

/* What one layer makes of it. */
struct found {
	const struct policy_gated *rule; /* that decided, or NULL */
	const struct policy_exec_rule *exec;
	enum policy_verdict verdict;
	bool silent;
	bool has_effect;
	enum policy_class class; /* the gravest that a rule which lets it pass declares */
	const struct policy_step *step;
	enum policy_verdict narrowed; /* after `use` */
};

/* ---- does this rule cover it ---- */

static bool text_among(const struct policy_strs *s, struct bytes text)
{
	for (size_t i = 0; i < s->n; i++)
		if (bytes_equal(text, bytes_str(s->v[i])))
			return true;
	return false;
}

static const struct policy_field *find_field(const struct policy_request *r, const char *name)
{
	for (size_t i = 0; i < r->field_count; i++)
		if (bytes_equal(r->fields[i].name, bytes_str(name)))
			return &r->fields[i];
	return NULL;
}

/* A string of digits is no number: a reader may take it for one. */
static bool field_matches(const struct policy_match *m, const struct policy_field *f, unsigned any)
{
	bool bound = m->kind == POLICY_MATCH_MAX || m->kind == POLICY_MATCH_MIN;

	return ((any & ANY_NUMBER) || !bound || !f->quoted) && policy_match_value(m, f->value);
}

static enum covering json_covers(const struct policy_list *json, const struct policy_request *r,
				 unsigned any)
{
	const struct policy_match *m = json->v;
	enum covering all = COVERS_YES;

	for (size_t i = 0; i < json->n; i++) {
		const struct policy_field *f = find_field(r, m[i].item.name);

		if (f && !field_matches(&m[i], f, any))
			return COVERS_NO;
		/* A body that was not read may hold anything. */
		if (!f && (r->field_count || !r->http.body_len))
			return COVERS_NO;
		if (!f)
			all = COVERS_MAYBE;
	}
	return all;
}

/* What grants covers a path with parameters where it covers it without them too, or has a ';'
 * itself. */
static bool path_covers(const char *pattern, const struct asked *a, unsigned any)
{
	bool whole = policy_url_match(pattern, buffer_bytes(&a->path));
	bool bare = policy_url_match(pattern, buffer_bytes(&a->bare));

	if (any & ANY_TWIN)
		return whole || bare || policy_twin_match(pattern, a->twins);
	return whole && (bare || strchr(pattern, ';'));
}

static enum covering http_covers(const struct policy_http *h, const struct asked *a, unsigned any)
{
	const struct policy_request *r = a->r;
	bool passthrough = h->tls == POLICY_TLS_PASSTHROUGH;
	bool plain = h->scheme == POLICY_SCHEME_HTTP;
	bool host = false, path = !h->path.set;

	if ((h->scheme || !(any & ANY_PORT)) && a->http != plain)
		return COVERS_NO;
	if (h->port.set ? h->port.v != a->port : !(any & ANY_PORT) && a->port != (plain ? 80 : 443))
		return COVERS_NO;
	for (size_t i = 0; i < h->host.n && !host; i++)
		host = policy_host_match(h->host.v[i], a->host);
	if (!host)
		return COVERS_NO;
	if (r->http.passthrough)
		return passthrough ? COVERS_YES : COVERS_MAYBE;
	if (passthrough)
		return any & ANY_PORT ? COVERS_YES : COVERS_NO;
	if (h->method.set && !text_among(&h->method, r->http.method))
		return COVERS_NO;
	for (size_t i = 0; i < h->path.n && !path; i++)
		path = path_covers(h->path.v[i], a, any);
	if (!path || (h->query_max.set && r->http.query.len > h->query_max.v) ||
	    (h->body_max.set && r->http.body_len > h->body_max.v))
		return COVERS_NO;
	return json_covers(&h->json, r, any);
}

/* twins: as widely as any server may read it, for what a rule takes away; else what it grants. */
static enum covering net_http_covers(const struct policy_net *n, const struct asked *a, bool twins)
{
	bool deny = n->rule.verdict - 1 == POLICY_DENY;
	bool ask = n->rule.verdict - 1 == POLICY_ASK;
	const struct policy_http *except = n->except.v;
	enum covering c = http_covers(n->http, a,
				      deny    ? ANY
				      : twins ? ANY_NUMBER | ANY_TWIN
				      : ask   ? ANY_NUMBER
					      : 0);

	for (size_t i = 0; i < n->except.n && c != COVERS_NO; i++) {
		enum covering x = http_covers(&except[i], a, twins ? 0 : ANY);

		if (x == COVERS_YES || (x == COVERS_MAYBE && !twins))
			return COVERS_NO;
	}
	return c;
}

static enum covering git_covers(const struct policy_net *n, const struct asked *a, bool twins)
{
	const struct policy_request *r = a->r;
	const struct policy_git *g = n->git;
	bool deny = n->rule.verdict - 1 == POLICY_DENY;
	bool ref = !g->refs.set || (!r->git.push && r->git.ref.len == 0);

	if ((g->op == POLICY_GIT_PUSH) != r->git.push)
		return COVERS_NO;
	if (!policy_remote_match(g->remote, a->remote) &&
	    !(twins && policy_twin_remote_match(g->remote, a->remote)))
		return COVERS_NO;
	/* What is forced or deleted is covered only where the rule says so; a rule that denies
	 * covers it unless it says that it does not. */
	if ((r->git.force && !(g->force.set ? g->force.v : deny)) ||
	    (r->git.remove && !(g->remove.set ? g->remove.v : deny)))
		return COVERS_NO;
	if (deny && ((g->force.set && g->force.v && !r->git.force) ||
		     (g->remove.set && g->remove.v && !r->git.remove)))
		return COVERS_NO;
	for (size_t i = 0; i < g->refs.n && !ref; i++)
		ref = policy_glob(g->refs.v[i], r->git.ref, false);
	return ref ? COVERS_YES : COVERS_NO;
}

static enum covering net_covers(const struct policy_net *n, const struct asked *a, bool twins)
{
	switch (a->r->kind) {
	case POLICY_HTTP:
		return n->http ? net_http_covers(n, a, twins) : COVERS_NO;
	case POLICY_GIT:
		return n->git ? git_covers(n, a, twins) : COVERS_NO;
	case POLICY_TCP:
		return n->tcp && n->tcp->port.v == a->port && strcmp(n->tcp->host, a->host) == 0
			       ? COVERS_YES
			       : COVERS_NO;
	case POLICY_TOOL:
	case POLICY_PATH_READ:
	case POLICY_PATH_WRITE:
	case POLICY_EXEC:
		break;
	}
	return COVERS_NO;
}

static enum covering tool_covers(const struct policy_tool *t, const struct asked *a)
{
	const struct policy_request *r = a->r;
	const struct policy_match *m = t->args.v;

	if (!bytes_equal(r->tool, bytes_str(t->rule.id)))
		return COVERS_NO;
	/* A rule that denies a tool without naming arguments denies every call of it. */
	if (t->rule.verdict - 1 == POLICY_DENY && !t->args.n)
		return COVERS_YES;
	if (r->field_count != t->args.n)
		return COVERS_NO;
	for (size_t i = 0; i < t->args.n; i++) {
		const struct policy_field *f = find_field(r, m[i].item.name);

		if (!f || !policy_match_value(&m[i], f->value))
			return COVERS_NO;
	}
	return COVERS_YES;
}

static struct bytes base_name(struct bytes path)
{
	const char *s = path.data;

	for (size_t i = path.len; i > 0; i--)
		if (s[i - 1] == '/')
			return bytes_of(s + i, path.len - i);
	return path;
}

static enum covering exec_covers(const struct policy_exec_rule *x, const struct asked *a)
{
	const struct policy_request *r = a->r;
	const struct policy_match *m = x->argv.v;

	if (!policy_fs_exec_covers(r->fs, x->path, r->path, x->verdict - 1 != POLICY_ALLOW))
		return COVERS_NO;
	if (x->argv.n > r->argc)
		return COVERS_NO;
	for (size_t i = 0; i < x->argv.n; i++) {
		bool hit = false;

		for (size_t v = 0; v < m[i].values.n && !hit; v++) {
			struct bytes want = bytes_str(m[i].values.v[v]);

			hit = bytes_equal(want, r->argv[i]) ||
			      (i == 0 && bytes_equal(base_name(want), base_name(r->argv[0])));
		}
		if (!hit)
			return COVERS_NO;
	}
	return COVERS_YES;
}

static int accept(struct asked *a, struct policy_decision *d);

/* ---- one layer ---- */

static enum policy_class usual_class(const struct policy_request *r)
{
	static const char *const reads[] = {"GET", "HEAD", "OPTIONS"};

	if (r->kind == POLICY_GIT && !r->git.push)
		return POLICY_READ;
	for (size_t i = 0; r->kind == POLICY_HTTP && i < ARRAY_SIZE(reads); i++)
		if (bytes_equal(r->http.method, bytes_str(reads[i])) && !r->http.websocket &&
		    !r->http.passthrough)
			return POLICY_READ;
	return POLICY_UNKNOWN;
}

static enum policy_class class_of(const struct policy_gated *rule, const struct policy_request *r)
{
	switch ((enum policy_effect)rule->effect) {
	case POLICY_EFFECT_READ:
		return POLICY_READ;
	case POLICY_EFFECT_REVERSIBLE:
		return POLICY_REVERSIBLE;
	case POLICY_EFFECT_IRREVERSIBLE:
		return POLICY_IRREVERSIBLE;
	case POLICY_EFFECT_UNSET:
		break;
	}
	return usual_class(r);
}

static bool used(const struct policy_step *step, const char *id)
{
	return text_among(&step->use, bytes_str(id));
}

/* The step entry of this layer that does not keep the rule (NULL id: any rule), or NULL. */
static const struct policy_step *dropped_by(const struct policy_effective *e,
					    const struct policy_stratum *s, const char *id)
{
	const struct policy_step *steps = s->body->steps.v;

	for (size_t i = 0; i < s->body->steps.n; i++)
		if (steps[i].use.set && policy_step_applies(e, &steps[i]) &&
		    (!id || !used(&steps[i], id)))
			return &steps[i];
	return NULL;
}

/* Of the rules that cover a request: deny > ask > allow, whatever their order. */
struct tally {
	const void *deny, *ask, *maybe_ask, *allow;
};

static void count_rule(struct tally *t, const void *rule, int verdict, enum covering c)
{
	if (c == COVERS_NO)
		return;
	switch ((enum policy_verdict)(verdict - 1)) {
	case POLICY_DENY:
		if (!t->deny)
			t->deny = rule;
		return;
	case POLICY_ASK:
		if (c == COVERS_YES && !t->ask)
			t->ask = rule;
		if (c == COVERS_MAYBE && !t->maybe_ask)
			t->maybe_ask = rule;
		return;
	case POLICY_ALLOW:
		if (c == COVERS_YES && !t->allow)
			t->allow = rule;
		return;
	}
}

/* What may hide an `ask` asks, but grants nothing by itself. */
static const void *winner(const struct tally *t, enum policy_verdict *ret)
{
	const void *ask = t->ask ? t->ask : t->allow ? t->maybe_ask : NULL;

	*ret = t->deny ? POLICY_DENY : ask ? POLICY_ASK : t->allow ? POLICY_ALLOW : POLICY_DENY;
	return t->deny ? t->deny : ask ? ask : t->allow;
}

/* A table that a layer need not fill: unsaid, or only taking away, it leaves the rest to the
 * others. */
static bool leaves_rest(const struct policy_stratum *s, bool set, size_t count, bool allows,
			bool optional)
{
	if (s->layer - 1 == POLICY_LAYER_PROJECT_UNTRUSTED)
		return true;
	if (policy_stratum_grants(s) && !optional)
		return false;
	return !set || (count && !allows);
}

static void take_class(struct found *f, const struct policy_stratum *s,
		       const struct policy_gated *rule, const struct policy_request *r)
{
	enum policy_class class = class_of(rule, r);

	/* A ceiling that does not say what an action is leaves that to who grants it. */
	if (rule->verdict - 1 == POLICY_DENY || (!rule->effect && !policy_stratum_grants(s)))
		return;
	if (!f->has_effect || class > f->class)
		f->class = class;
	f->has_effect = true;
}

/* exact: as far as it grants. What denies does so as widely as it may be read; what asks does, too,
 * but grants only what it says. */
static enum covering what_counts(const struct policy_gated *rule, enum covering wide,
				 enum covering exact)
{
	switch ((enum policy_verdict)(rule->verdict - 1)) {
	case POLICY_DENY:
		return wide;
	case POLICY_ASK:
		return exact == COVERS_NO && wide != COVERS_NO ? COVERS_MAYBE : exact;
	case POLICY_ALLOW:
		break;
	}
	return exact;
}

static void look_rules(const struct policy_stratum *s, const struct asked *a, struct found *f)
{
	bool tool = a->r->kind == POLICY_TOOL;
	const struct policy_list *list = tool ? &s->body->tools : &s->body->net;
	struct tally all = {0}, kept = {0};
	bool allows = false;

	for (size_t i = 0; i < list->n; i++) {
		const struct policy_net *n = tool ? NULL : (const struct policy_net *)list->v + i;
		const struct policy_tool *t = tool ? (const struct policy_tool *)list->v + i : NULL;
		const struct policy_gated *rule = tool ? &t->rule : &n->rule;
		enum covering wide = tool ? tool_covers(t, a) : net_covers(n, a, true);
		enum covering c = what_counts(rule, wide, tool ? wide : net_covers(n, a, false));

		allows |= rule->verdict - 1 == POLICY_ALLOW;
		count_rule(&all, rule, rule->verdict, c);
		if (rule->verdict - 1 == POLICY_DENY || !dropped_by(a->e, s, rule->id))
			count_rule(&kept, rule, rule->verdict, c);
		if (wide == COVERS_YES)
			take_class(f, s, rule, a->r);
	}
	f->rule = winner(&all, &f->verdict);
	f->silent = !f->rule && leaves_rest(s, list->set, list->n, allows, false);
	if (f->silent)
		f->verdict = POLICY_ALLOW;
	(void)winner(&kept, &f->narrowed);
	f->step = dropped_by(a->e, s, f->rule ? f->rule->id : NULL);
	/* Without `use` nothing is narrowed; with it, a layer that is silent keeps none of its
	 * rules. */
	if (!dropped_by(a->e, s, NULL))
		f->narrowed = f->verdict;
	if (f->narrowed > f->verdict && !f->step)
		f->step = dropped_by(a->e, s, NULL);
}

static void look_exec(const struct policy_stratum *s, const struct asked *a, struct found *f)
{
	const struct policy_exec_rule *x = s->body->exec.v;
	struct tally all = {0};
	bool allows = false;

	for (size_t i = 0; i < s->body->exec.n; i++) {
		allows |= x[i].verdict - 1 == POLICY_ALLOW;
		count_rule(&all, &x[i], x[i].verdict, exec_covers(&x[i], a));
	}
	f->exec = winner(&all, &f->verdict);
	f->silent = !f->exec && leaves_rest(s, s->body->exec.set, s->body->exec.n, allows, true);
	if (f->silent)
		f->verdict = POLICY_ALLOW;
	f->narrowed = f->verdict;
}

/* ---- putting it together ---- */

static void decided(struct policy_decision *d, enum policy_verdict v, enum policy_decider by,
		    const char *fmt, ...) PRINTF_LIKE(4, 5);

static void decided(struct policy_decision *d, enum policy_verdict v, enum policy_decider by,
		    const char *fmt, ...)
{
	va_list args;

	d->verdict = v;
	d->by = by;
	va_start(args, fmt);
	utf8_vprintf(d->why, sizeof(d->why), fmt, args);
	va_end(args);
}

static void point_at(struct policy_decision *d, const struct policy_stratum *s,
		     const struct found *f)
{
	d->layer = (enum policy_layer)(s->layer - 1);
	if (f->rule) {
		d->rule = f->rule->id;
		d->at = f->rule->item.at;
	} else if (f->exec) {
		d->at = f->exec->item.at;
	}
}

static void explain_layer(struct policy_decision *d, const struct policy_stratum *s,
			  const struct found *f)
{
	const char *layer = policy_layer_name((enum policy_layer)(s->layer - 1));
	const char *why = f->rule ? f->rule->why : f->exec ? f->exec->why : NULL;

	point_at(d, s, f);
	if (f->rule)
		decided(d, f->verdict, POLICY_BY_LAYER, "%s rule '%s'%s%s", layer, f->rule->id,
			why ? ": " : "", why ? why : "");
	else if (f->exec)
		decided(d, f->verdict, POLICY_BY_LAYER, "%s exec rule%s%s", layer, why ? ": " : "",
			why ? why : "");
	else
		decided(d, f->verdict, POLICY_BY_LAYER, "no rule of the %s policy covers it",
			layer);
}

static void explain_step(struct policy_decision *d, const struct policy_stratum *s,
			 const struct found *f)
{
	char list[160] = "";

	for (size_t i = 0; i < f->step->use.n; i++)
		utf8_printf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", i ? ", " : "",
			    f->step->use.v[i]);
	d->layer = (enum policy_layer)(s->layer - 1);
	decided(d, f->narrowed, POLICY_BY_STEP, "keeps only [%s]", list);
	d->rule = f->step->item.name;
	d->at = f->step->item.at;
}

static bool standing_covers(const struct policy_standing *st, const struct asked *a)
{
	const struct policy_match *m = st->match.v;
	const struct policy_request *r = a->r;

	for (size_t i = 0; i < st->match.n; i++) {
		const char *name = m[i].item.name;
		const struct policy_field *f = find_field(r, name);
		struct bytes value = {0};

		if (f)
			value = f->value;
		else if (r->kind == POLICY_HTTP && strcmp(name, "method") == 0)
			value = r->http.method;
		else if (r->kind == POLICY_HTTP && strcmp(name, "host") == 0)
			value = bytes_str(a->host);
		else if (r->kind == POLICY_HTTP && strcmp(name, "path") == 0)
			value = buffer_bytes(&a->path);
		else if (r->kind == POLICY_GIT && strcmp(name, "remote") == 0)
			value = bytes_str(a->remote);
		else if (r->kind == POLICY_GIT && strcmp(name, "ref") == 0)
			value = r->git.ref;
		else
			return false;
		if (!policy_match_value(&m[i], value) || (f && !field_matches(&m[i], f, 0)))
			return false;
		if (value.data == a->path.data && value.len &&
		    !policy_match_value(&m[i], buffer_bytes(&a->bare)))
			return false;
	}
	return st->match.n > 0;
}

/* Only what the dial alone asks may have been granted beforehand; an explicit ask holds. */
static void find_standing(struct policy_decision *d, const struct asked *a)
{
	if (d->verdict != POLICY_ASK || d->by != POLICY_BY_DIAL ||
	    d->class != POLICY_IRREVERSIBLE || d->agency < POLICY_TRUSTED)
		return;
	for (size_t i = 0; i < a->e->count; i++) {
		const struct policy_standing *st = a->e->layers[i].body->standing.v;

		for (size_t j = 0; j < a->e->layers[i].body->standing.n; j++)
			if (strcmp(st[j].rule, d->rule) == 0 && standing_covers(&st[j], a)) {
				d->standing = true;
				d->standing_rule = st[j].rule;
				return;
			}
	}
}

bool policy_standing_matches(const struct policy_effective *e, const struct policy_standing *st,
			     const struct policy_request *r, const struct policy_decision *d)
{
	struct asked a = {.r = r, .e = e, .path.max = 16384, .bare.max = 16384};
	struct policy_decision scratch = *d;
	bool covers = accept(&a, &scratch) == 0 && strcmp(st->rule, d->rule) == 0 &&
		      standing_covers(st, &a);

	asked_clear(&a);
	return covers;
}

static void record_layer(struct policy_decision *d, const struct policy_stratum *s,
			 const struct found *f)
{
	struct policy_layer_verdict *v = &d->layers[d->layer_count++];

	*v = (struct policy_layer_verdict){
		.layer = (enum policy_layer)(s->layer - 1),
		.silent = f->silent,
		.verdict = f->verdict,
		.rule = f->rule ? f->rule->id : "",
		.at = f->rule	? f->rule->item.at
		      : f->exec ? f->exec->item.at
				: (struct policy_place){.file = ""},
	};
}

static void ask_layers(struct asked *a, struct policy_decision *d)
{
	bool exec = a->r->kind == POLICY_EXEC;
	bool has_class = false;
	bool granted = false;

	for (size_t i = 0; i < a->e->count && i < POLICY_LAYERS_MAX; i++) {
		const struct policy_stratum *s = &a->e->layers[i];
		struct found f = {0};

		if (exec)
			look_exec(s, a, &f);
		else
			look_rules(s, a, &f);
		record_layer(d, s, &f);
		if (!f.silent && f.verdict != POLICY_DENY)
			granted |= policy_stratum_grants(s) || a->e->lone;
		if (f.has_effect && (!has_class || f.class > d->class))
			d->class = f.class;
		has_class |= f.has_effect;
		if (f.rule && f.rule->secret && !d->secret[0])
			d->secret = f.rule->secret;
		if (f.verdict > d->verdict ||
		    (d->verdict == POLICY_ALLOW && f.verdict == POLICY_ALLOW && !f.silent))
			explain_layer(d, s, &f);
		if (f.narrowed > d->verdict)
			explain_step(d, s, &f);
	}
	if (!has_class)
		d->class = usual_class(a->r);
	/* An exec table may be silent everywhere: then fs decides alone. */
	if (d->verdict != POLICY_DENY &&
	    !(granted || a->e->lone || (exec && policy_effective_any_grant(a->e))))
		decided(d, POLICY_DENY, POLICY_BY_NOGRANT,
			"no policy grants anything of this kind");
}

static void turn_dial(struct policy_decision *d)
{
	d->has_class = true;
	d->dial = policy_dial(d->agency, d->class);
	if (d->dial <= d->verdict)
		return;
	decided(d, d->dial, POLICY_BY_DIAL, "agency %s x %s = %s", policy_agency_name(d->agency),
		policy_class_name(d->class), policy_verdict_name(d->dial));
}

/* ---- refusals that no policy lifts ---- */

static int refuse(struct policy_decision *d, const char *why)
{
	decided(d, POLICY_DENY, POLICY_BY_HARD, "%s", why);
	return -EPERM;
}

static bool is_token(struct bytes b)
{
	const char *s = b.data;

	for (size_t i = 0; i < b.len; i++)
		if ((s[i] < 'A' || s[i] > 'Z') && s[i] != '-')
			return false;
	return b.len > 0 && b.len <= 20;
}

static bool ends_with(struct bytes b, const char *tail)
{
	size_t len = strlen(tail);

	return b.len >= len && memcmp((const char *)b.data + b.len - len, tail, len) == 0;
}

static int accept_host(struct asked *a, struct policy_decision *d, struct bytes host)
{
	if (policy_host_is_address(host))
		return refuse(d, "an address in place of a name; only names that a rule gives an "
				 "`address` lead there");
	if (policy_host_normal(host, a->host) < 0)
		return refuse(d, "not a host name");
	return 0;
}

static int accept_http(struct asked *a, struct policy_decision *d)
{
	const struct policy_request *r = a->r;

	a->http = bytes_equal(r->http.scheme, bytes_str("http"));
	if (!a->http && !bytes_equal(r->http.scheme, bytes_str("https")))
		return refuse(d, "a scheme other than http and https");
	a->port = r->http.port ? r->http.port : a->http ? 80 : 443;
	if (accept_host(a, d, r->http.host) < 0)
		return -EPERM;
	if (r->http.passthrough)
		return a->http ? refuse(d, "plain http has no TLS to pass through") : 0;
	if (!is_token(r->http.method) || bytes_equal(r->http.method, bytes_str("CONNECT")))
		return refuse(d, "a method that is not known");
	if (policy_url_path(r->http.path, &a->path) < 0)
		return refuse(d, "a path that can be read in more than one way");
	switch (policy_twin_read(buffer_bytes(&a->path), a->twins)) {
	case 0:
		break;
	case -EINVAL:
		return refuse(d, "a path that can be read in more than one way");
	default:
		return refuse(d, "a path that cannot be looked at");
	}
	if (policy_url_bare(buffer_bytes(&a->path), &a->bare) < 0)
		return refuse(d, "a path that cannot be looked at");
	if (r->http.query.len && memchr(r->http.query.data, '\0', r->http.query.len))
		return refuse(d, "a query with a NUL");
	/* git's own protocol is decided as git, by remote and ref, never as a plain request. */
	for (unsigned i = 0; i < POLICY_TWIN_READINGS; i++)
		if (ends_with(buffer_bytes(&a->twins[i]), "/git-receive-pack") ||
		    ends_with(buffer_bytes(&a->twins[i]), "/git-upload-pack"))
			return refuse(
				d, "git's protocol: it is decided by remote and ref under `git`");
	return 0;
}

static int accept(struct asked *a, struct policy_decision *d)
{
	const struct policy_request *r = a->r;

	switch (r->kind) {
	case POLICY_HTTP:
		return accept_http(a, d);
	case POLICY_GIT:
		if (policy_remote_normal(r->git.remote, a->remote) < 0)
			return refuse(d, "not a git remote over https");
		if ((r->git.push || r->git.ref.len) && !policy_ref_valid(r->git.ref))
			return refuse(d, "not the full name of a ref");
		return 0;
	case POLICY_TCP:
		a->port = r->http.port;
		return r->http.port ? accept_host(a, d, r->http.host) : refuse(d, "no port");
	case POLICY_TOOL:
		for (size_t i = 0; i < r->field_count; i++)
			for (size_t j = 0; j < i; j++)
				if (bytes_equal(r->fields[i].name, r->fields[j].name))
					return refuse(d, "an argument given twice");
		return 0;
	case POLICY_PATH_READ:
	case POLICY_PATH_WRITE:
	case POLICY_EXEC:
		return r->fs ? 0 : refuse(d, "the files of the policy are not resolved");
	}
	return refuse(d, "a request of a kind that is not known");
}

static void decide_path(const struct policy_request *r, enum policy_want want,
			struct policy_decision *d)
{
	struct policy_fs_decision f;

	policy_fs_decide(r->fs, r->path, want, &f);
	d->layer = f.layer;
	d->at = f.at;
	decided(d, f.verdict == POLICY_FS_ALLOW ? POLICY_ALLOW : POLICY_DENY, POLICY_BY_LAYER, "%s",
		f.why);
	d->layers[0] = (struct policy_layer_verdict){.layer = f.layer,
						     .verdict = d->verdict,
						     .rule = policy_access_name(f.access),
						     .at = f.at};
	d->layer_count = 1;
}

void policy_decide(const struct policy_effective *e, const struct policy_request *r,
		   struct policy_decision *ret)
{
	struct asked a = {.r = r, .e = e, .path.max = 16384, .bare.max = 16384};
	struct policy_settings s;

	policy_settings(e, &s);
	*ret = (struct policy_decision){
		.verdict = POLICY_ALLOW,
		.by = POLICY_BY_NOGRANT,
		.rule = "",
		.secret = "",
		.at.file = "",
		.agency = s.agency,
		.layer = POLICY_LAYER_DEFAULT,
	};
	if (accept(&a, ret) == 0) {
		switch (r->kind) {
		case POLICY_HTTP:
		case POLICY_GIT:
		case POLICY_TCP:
		case POLICY_TOOL:
			ask_layers(&a, ret);
			turn_dial(ret);
			find_standing(ret, &a);
			break;
		case POLICY_EXEC:
			decide_path(r, POLICY_WANT_EXEC, ret);
			ret->layer_count = 0;
			if (ret->verdict == POLICY_ALLOW)
				ask_layers(&a, ret);
			break;
		case POLICY_PATH_READ:
			decide_path(r, POLICY_WANT_READ, ret);
			break;
		case POLICY_PATH_WRITE:
			decide_path(r, POLICY_WANT_WRITE, ret);
			break;
		}
	}
	asked_clear(&a);
}

/* ---- addresses ---- */

static const struct policy_net *deciding_rule(const struct policy_effective *e,
					      const struct policy_decision *d)
{
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_net *n = e->layers[i].body->net.v;

		for (size_t j = 0; j < e->layers[i].body->net.n; j++)
			if (e->layers[i].layer - 1 == (int)d->layer &&
			    strcmp(n[j].rule.id, d->rule) == 0)
				return &n[j];
	}
	return NULL;
}

enum policy_verdict policy_address_decide(const struct policy_effective *e,
					  const struct policy_decision *d, const uint8_t *address,
					  size_t len)
{
	const struct policy_net *n = deciding_rule(e, d);
	struct policy_cidr c;

	if (d->verdict == POLICY_DENY || !n)
		return POLICY_DENY;
	if (!n->address.set)
		return policy_address_kind(address, len) == POLICY_ADDRESS_PUBLIC ? POLICY_ALLOW
										  : POLICY_DENY;
	for (size_t i = 0; i < n->address.n; i++)
		if (policy_cidr_parse(n->address.v[i], &c) == 0 &&
		    policy_cidr_holds(&c, address, len))
			return POLICY_ALLOW;
	return POLICY_DENY;
}
