/*
 * What one policy allows that another could not. Patterns are not compared as texts: every rule of
 * both is turned into requests that lie at its edges, and both policies decide them. So each line
 * printed is true; what lies between the edges of neither is not looked at.
 */
#include "policy/model.h"
#include "base/escape.h"
#include "base/utf8.h"
#include <stdio.h>

enum { LINES_MAX = 1000, PER_RULE_MAX = 30, QUERY_WITNESS_MAX = 4096 };

struct diff {
	struct policy_arena arena;
	const struct policy *a, *b;
	const struct policy_vars *vars;
	struct policy_effective *ea, *eb; /* of the step that is looked at */
	struct policy_fs *fa, *fb;
	const char *step; /* NULL = the run */
	const char **lines;
	size_t count;
	size_t of_rule; /* lines that the present rule has given */
	struct policy_strs methods, paths, hosts, refs;
};

static void add_text(struct diff *d, struct policy_strs *s, const char *text)
{
	const char **v;

	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->v[i], text) == 0)
			return;
	v = policy_arena_push(&d->arena, s->v, s->n, sizeof(*v));
	if (!v)
		return;
	v[s->n++] = text;
	s->v = v;
}

static void report(struct diff *d, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* A line that the run as a whole has given is not given again for each of its steps. */
static void report(struct diff *d, const char *fmt, ...)
{
	char text[600];
	const char *line;
	const char **v;
	va_list args;

	va_start(args, fmt);
	utf8_vprintf(text, sizeof(text), fmt, args);
	va_end(args);
	line = d->step ? policy_arena_printf(&d->arena, "in step '%s': %s", d->step, text)
		       : policy_arena_text(&d->arena, bytes_str(text));
	for (size_t i = 0; line && i < d->count; i++)
		if (strcmp(d->lines[i], text) == 0 || strcmp(d->lines[i], line) == 0)
			return;
	if (d->count >= LINES_MAX)
		return;
	v = policy_arena_push(&d->arena, d->lines, d->count, sizeof(*v));
	if (!v || !line)
		return;
	v[d->count++] = line;
	d->lines = v;
	d->of_rule++;
}

/* ---- witnesses: a text that a pattern covers ---- */

static const char *fill(struct diff *d, const char *pattern, const char *with)
{
	AUTO_BUFFER b = {0};

	for (const char *s = pattern; *s; s++) {
		if (*s == '*') {
			buffer_append_str(&b, with);
			while (s[1] == '*')
				s++;
		} else {
			buffer_append_byte(&b, (uint8_t)*s);
		}
	}
	return policy_arena_text(&d->arena, buffer_bytes(&b));
}

static void add_witness(struct diff *d, struct policy_strs *s, const char *pattern, const char *one,
			const char *more)
{
	const char *w = fill(d, pattern, one);

	if (w)
		add_text(d, s, w);
	if (strchr(pattern, '*') && more && (w = fill(d, pattern, more)))
		add_text(d, s, w);
}

static void collect_http(struct diff *d, const struct policy_http *h)
{
	for (size_t i = 0; i < h->host.n; i++)
		add_witness(d, &d->hosts, h->host.v[i], "w",
			    strncmp(h->host.v[i], "**", 2) == 0 ? "w.w" : NULL);
	for (size_t i = 0; i < h->method.n; i++)
		add_text(d, &d->methods, h->method.v[i]);
	for (size_t i = 0; i < h->path.n; i++) {
		size_t len = strlen(h->path.v[i]);

		add_witness(d, &d->paths, h->path.v[i], "w",
			    len > 2 && strcmp(h->path.v[i] + len - 2, "**") == 0 ? "w/w" : NULL);
	}
}

static void collect(struct diff *d, const struct policy_body *p)
{
	const struct policy_net *n = p->net.v;

	for (size_t i = 0; i < p->net.n; i++) {
		const struct policy_http *except = n[i].except.v;

		if (n[i].http)
			collect_http(d, n[i].http);
		for (size_t j = 0; j < n[i].except.n; j++)
			collect_http(d, &except[j]);
		for (size_t j = 0; n[i].git && j < n[i].git->refs.n; j++)
			add_witness(d, &d->refs, n[i].git->refs.v[j], "w", "w/w");
	}
}

/* ---- requests ---- */

static bool compare(struct diff *d, struct policy_request *r, const char *what)
{
	struct policy_decision before, after;

	if (d->of_rule >= PER_RULE_MAX)
		return false;
	r->fs = d->fa;
	policy_decide(d->ea, r, &before);
	r->fs = d->fb;
	policy_decide(d->eb, r, &after);
	if (after.verdict >= before.verdict)
		return false;
	report(d, "%s: %s, was %s", what, policy_verdict_name(after.verdict),
	       policy_verdict_name(before.verdict));
	return true;
}

static void compare_http(struct diff *d, const struct policy_http *h, const char *host,
			 const char *method, const char *path)
{
	char query[QUERY_WITNESS_MAX + 1];
	uint64_t queries[] = {0, h->query_max.set ? h->query_max.v : QUERY_WITNESS_MAX};
	uint64_t bodies[] = {0, h->body_max.set ? h->body_max.v : 1ULL << 40};

	memset(query, 'q', sizeof(query) - 1);
	for (size_t q = 0; q < 2; q++)
		for (size_t b = 0; b < 2; b++) {
			struct policy_request r = {.kind = POLICY_HTTP};
			char what[512];

			r.http.method = bytes_str(method);
			r.http.scheme =
				bytes_str(h->scheme == POLICY_SCHEME_HTTP ? "http" : "https");
			r.http.host = bytes_str(host);
			r.http.port = h->port.set ? (uint16_t)h->port.v : 0;
			r.http.path = bytes_str(path);
			r.http.query =
				bytes_of(query, queries[q] < QUERY_WITNESS_MAX ? queries[q]
									       : QUERY_WITNESS_MAX);
			r.http.body_len = bodies[b];
			r.http.passthrough = h->tls == POLICY_TLS_PASSTHROUGH;
			snprintf(what, sizeof(what), "%s %s://%s%s%s%s", method,
				 h->scheme == POLICY_SCHEME_HTTP ? "http" : "https", host, path,
				 q ? " with a long query" : "", b ? " with a large body" : "");
			/* The plain request says it all. */
			if (compare(d, &r, what))
				return;
		}
}

static void compare_rule_http(struct diff *d, const struct policy_http *h)
{
	for (size_t i = 0; i < d->hosts.n; i++) {
		bool covered = false;

		for (size_t j = 0; j < h->host.n; j++)
			covered |= policy_host_match(h->host.v[j], d->hosts.v[i]);
		for (size_t m = 0; covered && m < d->methods.n; m++)
			for (size_t p = 0; p < d->paths.n; p++)
				compare_http(d, h, d->hosts.v[i], d->methods.v[m], d->paths.v[p]);
	}
}

static void compare_git(struct diff *d, const struct policy_git *g)
{
	const char *remote = fill(d, g->remote, "w");

	for (size_t i = 0; remote && i < d->refs.n; i++)
		for (int bits = 0; bits < 4; bits++) {
			struct policy_request r = {.kind = POLICY_GIT};
			char what[512];

			r.git.push = g->op == POLICY_GIT_PUSH;
			r.git.remote = bytes_str(remote);
			r.git.ref = bytes_str(d->refs.v[i]);
			r.git.force = r.git.push && (bits & 1);
			r.git.remove = r.git.push && (bits & 2);
			snprintf(what, sizeof(what), "git %s %s %s%s%s",
				 r.git.push ? "push" : "fetch", remote, d->refs.v[i],
				 r.git.force ? " force" : "", r.git.remove ? " delete" : "");
			compare(d, &r, what);
		}
}

static const char *match_witness(struct diff *d, const struct policy_match *m, size_t i)
{
	switch (m->kind) {
	case POLICY_MATCH_GLOB:
		return i == 0 ? fill(d, m->values.v[0], "w") : NULL;
	case POLICY_MATCH_IN:
		return i < m->values.n ? m->values.v[i] : NULL;
	case POLICY_MATCH_MAX:
	case POLICY_MATCH_MIN:
		return i == 0 ? policy_arena_printf(&d->arena, "%lld", (long long)m->bound) : NULL;
	}
	return NULL;
}

/* Each argument through all its witnesses, the others at their first. */
static void compare_tool(struct diff *d, const struct policy_tool *t)
{
	enum { ARGS_MAX = 64 };
	const struct policy_match *m = t->args.v;
	struct policy_field fields[ARGS_MAX];
	struct policy_request r = {.kind = POLICY_TOOL,
				   .tool = bytes_str(t->rule.id),
				   .fields = fields};
	char what[512];

	r.field_count = t->args.n < ARGS_MAX ? t->args.n : ARGS_MAX;
	for (size_t i = 0; i < r.field_count; i++) {
		const char *w = match_witness(d, &m[i], 0);

		fields[i] = (struct policy_field){bytes_str(m[i].item.name), bytes_str(w ? w : "")};
	}
	snprintf(what, sizeof(what), "tool %s", t->rule.id);
	compare(d, &r, what);
	for (size_t i = 0; i < r.field_count; i++) {
		struct bytes first = fields[i].value;
		const char *w;

		for (size_t v = 1; (w = match_witness(d, &m[i], v)); v++) {
			fields[i].value = bytes_str(w);
			snprintf(what, sizeof(what), "tool %s %s=%s", t->rule.id, m[i].item.name,
				 w);
			compare(d, &r, what);
		}
		fields[i].value = first;
	}
}

static void compare_exec(struct diff *d, const struct policy_exec_rule *x)
{
	enum { ARGS_MAX = 32 };
	const struct policy_match *m = x->argv.v;
	struct policy_request r = {.kind = POLICY_EXEC};
	struct bytes argv[ARGS_MAX];
	const char *filled = fill(d, x->path, "w");
	const char *path;
	char what[512];

	if (!filled || policy_path_expand(&d->arena, filled, d->vars, &path) < 0)
		return;
	r.path = bytes_str(path);
	r.argv = argv;
	argv[0] = r.path;
	r.argc = 1;
	for (size_t i = 0; i < x->argv.n && i < ARGS_MAX && m[i].values.n; i++) {
		argv[i] = bytes_str(m[i].values.v[0]);
		r.argc = i + 1;
	}
	snprintf(what, sizeof(what), "exec %s%s", path, r.argc > 1 ? " with its arguments" : "");
	compare(d, &r, what);
}

static void compare_rules(struct diff *d, const struct policy_body *p)
{
	const struct policy_net *n = p->net.v;
	const struct policy_tool *t = p->tools.v;
	const struct policy_exec_rule *x = p->exec.v;

	for (size_t i = 0; i < p->net.n; i++) {
		d->of_rule = 0;
		if (n[i].http)
			compare_rule_http(d, n[i].http);
		if (n[i].git)
			compare_git(d, n[i].git);
		if (n[i].tcp) {
			struct policy_request r = {.kind = POLICY_TCP};
			char what[400];

			r.http.host = bytes_str(n[i].tcp->host);
			r.http.port = (uint16_t)n[i].tcp->port.v;
			snprintf(what, sizeof(what), "tcp %s:%u", n[i].tcp->host, r.http.port);
			compare(d, &r, what);
		}
	}
	for (size_t i = 0; i < p->tools.n; i++) {
		d->of_rule = 0;
		compare_tool(d, &t[i]);
	}
	for (size_t i = 0; i < p->exec.n; i++) {
		d->of_rule = 0;
		compare_exec(d, &x[i]);
	}
}

/* ---- files ---- */

static void compare_path(struct diff *d, const char *path)
{
	struct policy_fs_decision before, after;

	if (!path || !policy_path_clean(bytes_str(path)))
		return;
	policy_fs_decide(d->fa, bytes_str(path), POLICY_WANT_READ, &before);
	policy_fs_decide(d->fb, bytes_str(path), POLICY_WANT_READ, &after);
	if (after.access > before.access)
		report(d, "%s: %s, was %s", path, policy_access_name(after.access),
		       policy_access_name(before.access));
}

static void compare_files(struct diff *d)
{
	const struct policy_fs *const both[] = {d->fa, d->fb};

	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		size_t n;
		const struct policy_mount *m = policy_fs_table(both[i], &n);

		for (size_t j = 0; j < n; j++) {
			const char *path = m[j].glob ? fill(d, m[j].path, "w") : m[j].path;

			d->of_rule = 0;
			compare_path(d, path);
		}
	}
}

/* ---- settings ---- */

static bool role_within(const struct policy_role *inner, const struct policy_role *outer)
{
	for (size_t i = 0; i < inner->count; i++) {
		bool found = false;

		for (size_t j = 0; j < outer->count && !found; j++)
			found = strcmp(inner->any[i], outer->any[j]) == 0;
		if (!found)
			return false;
	}
	return true;
}

static void diff_roles(struct diff *d, const struct policy_settings *a,
		       const struct policy_settings *b)
{
	for (size_t i = 0; i < a->role_count; i++) {
		bool held = false;

		for (size_t j = 0; j < b->role_count && !held; j++)
			held = role_within(&b->roles[j], &a->roles[i]);
		if (!held)
			report(d, "approvals by others than %s",
			       a->roles[i].count ? a->roles[i].any[0] : "nobody");
	}
}

static void compare_settings(struct diff *d)
{
	struct policy_settings a, b;

	policy_settings(d->ea, &a);
	policy_settings(d->eb, &b);
	if (b.agency > a.agency)
		report(d, "agency %s, was %s", policy_agency_name(b.agency),
		       policy_agency_name(a.agency));
	if (b.unattended < a.unattended)
		report(d, "unattended park, was deny");
	if (b.base < a.base)
		report(d, "base live, was pinned");
	for (int l = 0; l < POLICY_LIMIT_COUNT; l++) {
		const char *name = policy_limit_name((enum policy_limit)l);
		uint64_t was = a.limits.value[l], is = b.limits.value[l];

		if (was && !is)
			report(d, "limit %s is gone, was %llu", name, (unsigned long long)was);
		else if (was && is > was)
			report(d, "limit %s %llu, was %llu", name, (unsigned long long)is,
			       (unsigned long long)was);
		if ((b.limits.weaker & ~a.limits.weaker) & (1u << l) && was)
			report(d, "limit %s may be weaker", name);
	}
	if (b.limits.weaker_landlock && !a.limits.weaker_landlock)
		report(d, "landlock may be missing");
	if (b.quorum < a.quorum)
		report(d, "approvals need %u, were %u", b.quorum, a.quorum);
	if (a.exclude_starter && !b.exclude_starter)
		report(d, "who started a run may approve");
	if (b.execute_by_ms > a.execute_by_ms)
		report(d, "approvals may be carried out longer");
	if (b.decide_by_ms > a.decide_by_ms)
		report(d, "approvals may be decided longer");
	diff_roles(d, &a, &b);
	if (a.signers && (!b.signers || strcmp(a.signers, b.signers) != 0))
		report(d, "votes %s", b.signers ? "are signed by others" : "need no signature");
}

static bool env_passes(const struct policy_effective *e, const char *name)
{
	char entry[256];
	const char *const environment[] = {entry, NULL};
	char **list = NULL;
	bool passes = false;

	snprintf(entry, sizeof(entry), "%s=\x01", name);
	if (policy_env(e, environment, &list) < 0)
		return false;
	for (char **v = list; *v; v++)
		passes |= strcmp(*v, entry) == 0;
	policy_env_free(list);
	return passes;
}

static void compare_env(struct diff *d)
{
	const struct policy_env_rule *a = d->a->body.env;
	const struct policy_env_rule *b = d->b->body.env;
	const struct policy_text_item *set = b ? b->set.v : NULL;
	const struct policy_text_item *old = a ? a->set.v : NULL;

	for (size_t i = 0; b && i < b->keep.n; i++) {
		const char *name = fill(d, b->keep.v[i], "W");

		if (name && env_passes(d->eb, name) && !env_passes(d->ea, name))
			report(d, "environment keeps %s", b->keep.v[i]);
	}
	for (size_t i = 0; b && i < b->set.n; i++) {
		bool same = false;

		for (size_t j = 0; a && j < a->set.n; j++)
			same |= strcmp(old[j].item.name, set[i].item.name) == 0 &&
				strcmp(old[j].text, set[i].text) == 0;
		if (!same)
			report(d, "environment sets %s", set[i].item.name);
	}
}

static bool has_text(const struct policy_strs *s, const char *text)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->v[i], text) == 0)
			return true;
	return false;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_texts(const struct policy_strs *a, const struct policy_strs *b)
{
	bool same = a->n == b->n;

	for (size_t i = 0; same && i < a->n; i++)
		same = strcmp(a->v[i], b->v[i]) == 0;
	return same;
}

static void compare_secrets(struct diff *d)
{
	const struct policy_secret *b = d->b->body.secrets.v;
	const struct policy_secret *a = d->a->body.secrets.v;

	for (size_t i = 0; i < d->b->body.secrets.n; i++) {
		const struct policy_secret *old = NULL;

		for (size_t j = 0; j < d->a->body.secrets.n; j++)
			if (strcmp(a[j].item.name, b[i].item.name) == 0)
				old = &a[j];
		for (size_t j = 0; j < b[i].to.n; j++)
			if (!old || !has_text(&old->to, b[i].to.v[j]))
				report(d, "secret %s may go to %s", b[i].item.name, b[i].to.v[j]);
		if (old && (!same_text(old->from->file, b[i].from->file) ||
			    !same_text(old->from->env, b[i].from->env) ||
			    !same_text(old->from->credential, b[i].from->credential)))
			report(d, "secret %s is another one", b[i].item.name);
	}
}

/* What a tool may be asked is seen by requests; what it is, is not. */
static void compare_tools(struct diff *d)
{
	const struct policy_tool *b = d->b->body.tools.v;
	const struct policy_tool *a = d->a->body.tools.v;

	for (size_t i = 0; i < d->b->body.tools.n; i++)
		for (size_t j = 0; j < d->a->body.tools.n; j++)
			if (strcmp(a[j].rule.id, b[i].rule.id) == 0 &&
			    !same_texts(&a[j].run, &b[i].run))
				report(d, "tool %s is another program", b[i].rule.id);
}

/* more of one thing in its time than was allowed; 0 = no bound */
static bool is_more(uint64_t now, uint64_t per, uint64_t was, uint64_t was_per)
{
	return was && (!now || (unsigned __int128)now * was_per > (unsigned __int128)was * per);
}

static bool is_faster(const struct policy_rate *r, const struct policy_rate *than)
{
	uint64_t per = (uint64_t)r->per.v, was_per = (uint64_t)than->per.v;

	return is_more((uint64_t)r->count.v, per, (uint64_t)than->count.v, was_per) ||
	       is_more((uint64_t)r->bytes.v, per, (uint64_t)than->bytes.v, was_per);
}

/* What the requests do not show: addresses, trust anchors, rates, grants given beforehand. */
static void compare_extras(struct diff *d)
{
	const struct policy_net *b = d->b->body.net.v;
	const struct policy_net *a = d->a->body.net.v;

	for (size_t i = 0; i < d->b->body.net.n; i++) {
		const struct policy_net *old = NULL;

		for (size_t j = 0; j < d->a->body.net.n; j++)
			if (strcmp(a[j].rule.id, b[i].rule.id) == 0)
				old = &a[j];
		d->of_rule = 0;
		for (size_t j = 0; j < b[i].address.n; j++)
			if (!old || !has_text(&old->address, b[i].address.v[j]))
				report(d, "rule %s may lead to %s", b[i].rule.id,
				       b[i].address.v[j]);
		if (old && old->rate && (!b[i].rate || is_faster(b[i].rate, old->rate)))
			report(d, "rule %s has a higher rate", b[i].rule.id);
		if (b[i].ca && (!old || !old->ca || strcmp(old->ca, b[i].ca) != 0))
			report(d, "rule %s trusts %s", b[i].rule.id, b[i].ca);
		if (b[i].rule.secret &&
		    (!old || !old->rule.secret || strcmp(old->rule.secret, b[i].rule.secret) != 0))
			report(d, "rule %s uses secret %s", b[i].rule.id, b[i].rule.secret);
	}
	if (d->b->body.standing.n > d->a->body.standing.n)
		report(d, "standing grants: %zu, were %zu", d->b->body.standing.n,
		       d->a->body.standing.n);
}

/* ---- all of it, for the run and for every step that either names ---- */

static int combine_alone(const struct policy *p, bool lone, struct policy_effective **ret)
{
	struct policy_input input = {.layer = POLICY_LAYER_RUN, .policy = p};
	struct policy_combine c = {.inputs = &input, .count = 1, .lone_ceiling = lone};
	struct error err = {0};

	return policy_combine(&c, ret, &err);
}

static int look(struct diff *d)
{
	struct error err = {0};
	int code = policy_fs_new(d->ea, d->vars, &d->fa, &err);

	if (code == 0)
		code = policy_fs_new(d->eb, d->vars, &d->fb, &err);
	if (code == 0) {
		d->of_rule = 0;
		compare_settings(d);
		compare_files(d);
		compare_rules(d, &d->b->body);
		compare_rules(d, &d->a->body);
	}
	policy_fs_free(d->fa);
	policy_fs_free(d->fb);
	d->fa = d->fb = NULL;
	return code;
}

static int look_step(struct diff *d, struct policy_effective *ra, struct policy_effective *rb,
		     const char *pattern)
{
	struct error err = {0};
	int code;

	d->step = fill(d, pattern, "w");
	if (!d->step)
		return -ENOMEM;
	code = policy_effective_step(ra, d->step, POLICY_AGENCY_UNSET, &d->ea, &err);
	if (code < 0)
		return code;
	code = policy_effective_step(rb, d->step, POLICY_AGENCY_UNSET, &d->eb, &err);
	if (code == 0) {
		code = look(d);
		policy_effective_free(d->eb);
	}
	policy_effective_free(d->ea);
	return code;
}

static int look_all(struct diff *d, struct policy_effective *ra, struct policy_effective *rb)
{
	const struct policy_body *const both[] = {&d->a->body, &d->b->body};
	int code;

	d->ea = ra;
	d->eb = rb;
	code = look(d);
	compare_env(d);
	compare_secrets(d);
	compare_tools(d);
	compare_extras(d);
	for (size_t i = 0; i < 2; i++) {
		const struct policy_step *steps = both[i]->steps.v;

		for (size_t j = 0; j < both[i]->steps.n && code == 0; j++)
			code = look_step(d, ra, rb, steps[j].item.name);
	}
	return code;
}

static void print(const struct diff *d, enum policy_format format, struct buffer *out)
{
	if (format == POLICY_JSON)
		buffer_append_str(out, "{\"wider\":[");
	for (size_t i = 0; i < d->count; i++) {
		if (format == POLICY_TEXT) {
			buffer_printf(out, "%s\n", d->lines[i]);
			continue;
		}
		buffer_append_str(out, i ? ",\"" : "\"");
		escape_json(out, bytes_str(d->lines[i]));
		buffer_append_byte(out, '"');
	}
	if (format == POLICY_JSON)
		buffer_append_str(out, "]}");
}

int policy_diff(const struct policy *a, const struct policy *b, const struct policy_vars *vars,
		enum policy_format format, struct buffer *out, size_t *ret_wider)
{
	static const char *const usual[] = {"GET", "POST", "PUT", "DELETE"};
	AUTO(policy_effective_free) struct policy_effective *ra = NULL;
	AUTO(policy_effective_free) struct policy_effective *rb = NULL;
	bool lone = a->body.kind == POLICY_KIND_CEILING || b->body.kind == POLICY_KIND_CEILING;
	struct diff d = {.a = a, .b = b, .vars = vars};
	int code = combine_alone(a, lone, &ra);

	if (code == 0)
		code = combine_alone(b, lone, &rb);
	for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
		add_text(&d, &d.methods, usual[i]);
	add_text(&d, &d.paths, "/");
	add_text(&d, &d.paths, "/w");
	add_text(&d, &d.refs, "refs/heads/w");
	collect(&d, &a->body);
	collect(&d, &b->body);
	if (code == 0)
		code = look_all(&d, ra, rb);
	if (code == 0 && d.arena.failed)
		code = -ENOMEM;
	if (code == 0) {
		print(&d, format, out);
		*ret_wider = d.count;
		code = out->failed;
	}
	policy_arena_free(&d.arena);
	return code;
}
