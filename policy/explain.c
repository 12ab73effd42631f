/* Decisions and whole policies in words, for people and, with the same fields, for programs. */
#include "policy/model.h"
#include "base/escape.h"

/* ---- JSON by hand: a few flat objects, every string through escape_json ---- */

static void json_str(struct buffer *b, const char *key, const char *value, bool more)
{
	buffer_printf(b, "\"%s\":\"", key);
	escape_json(b, bytes_str(value));
	buffer_append_str(b, more ? "\"," : "\"");
}

static void json_place(struct buffer *b, struct policy_place at)
{
	buffer_append_str(b, "\"at\":");
	if (at.line == 0) {
		buffer_append_str(b, "null");
		return;
	}
	buffer_append_str(b, "{");
	json_str(b, "file", at.file, true);
	buffer_printf(b, "\"line\":%d,\"column\":%d}", at.line, at.column);
}

static void text_place(struct buffer *b, struct policy_place at, const char *known_file)
{
	if (at.line == 0)
		return;
	if (strcmp(at.file, known_file) == 0)
		buffer_printf(b, " (%d:%d)", at.line, at.column);
	else
		buffer_printf(b, " (%s:%d:%d)", at.file, at.line, at.column);
}

/* ---- one decision ---- */

static const char *decider_name(enum policy_decider by)
{
	static const char *const names[] = {"built-in", "layer", "step", "dial", "no-grant"};

	return names[by];
}

static void text_decision(struct buffer *b, const struct policy_decision *d)
{
	const char *separator = "  ";

	buffer_printf(b, "%-6s ", policy_verdict_name(d->verdict));
	switch (d->by) {
	case POLICY_BY_HARD:
		buffer_printf(b, "decided by Holdfast itself: %s", d->why);
		break;
	case POLICY_BY_STEP:
		buffer_printf(b, "decided by step '%s' (%s:%d:%d): %s", d->rule, d->at.file,
			      d->at.line, d->at.column, d->why);
		break;
	case POLICY_BY_LAYER:
		buffer_printf(b, "decided by %s", d->why);
		text_place(b, d->at, "");
		break;
	case POLICY_BY_DIAL:
		buffer_printf(b, "decided by the dial: %s", d->why);
		break;
	case POLICY_BY_NOGRANT:
		buffer_printf(b, "%s", d->why);
		break;
	}
	buffer_append_byte(b, '\n');
	for (size_t i = 0; i < d->layer_count; i++) {
		const struct policy_layer_verdict *v = &d->layers[i];

		buffer_printf(b, "%s%s: %s", separator, policy_layer_name(v->layer),
			      v->silent ? "says nothing" : policy_verdict_name(v->verdict));
		if (v->rule[0])
			buffer_printf(b, " %s", v->rule);
		text_place(b, v->at, d->at.file);
		separator = " | ";
	}
	if (d->has_class)
		buffer_printf(b, "%sdial: %s x %s = %s", separator, policy_agency_name(d->agency),
			      policy_class_name(d->class), policy_verdict_name(d->dial));
	if (d->standing)
		buffer_printf(b, " | standing grant of %s covers it", d->standing_rule);
	if (d->layer_count || d->has_class)
		buffer_append_byte(b, '\n');
}

static void json_decision(struct buffer *b, const struct policy_decision *d)
{
	buffer_append_str(b, "{");
	json_str(b, "verdict", policy_verdict_name(d->verdict), true);
	json_str(b, "by", decider_name(d->by), true);
	json_str(b, "layer", policy_layer_name(d->layer), true);
	json_str(b, d->by == POLICY_BY_STEP ? "step" : "rule", d->rule, true);
	json_place(b, d->at);
	buffer_append_str(b, ",");
	json_str(b, "why", d->why, true);
	json_str(b, "agency", policy_agency_name(d->agency), true);
	if (d->has_class) {
		json_str(b, "class", policy_class_name(d->class), true);
		json_str(b, "dial", policy_verdict_name(d->dial), true);
	}
	buffer_printf(b, "\"standing\":%s,\"layers\":[", d->standing ? "true" : "false");
	for (size_t i = 0; i < d->layer_count; i++) {
		const struct policy_layer_verdict *v = &d->layers[i];

		buffer_append_str(b, i ? ",{" : "{");
		json_str(b, "layer", policy_layer_name(v->layer), true);
		buffer_printf(b, "\"silent\":%s,", v->silent ? "true" : "false");
		json_str(b, "verdict", policy_verdict_name(v->verdict), true);
		json_str(b, "rule", v->rule, true);
		json_place(b, v->at);
		buffer_append_str(b, "}");
	}
	buffer_append_str(b, "]}");
}

int policy_explain_decision(const struct policy_effective *e, const struct policy_decision *d,
			    enum policy_format format, struct buffer *out)
{
	(void)e; /* the decision's strings are its */
	if (format == POLICY_JSON)
		json_decision(out, d);
	else
		text_decision(out, d);
	return out->failed;
}

/* ---- the whole policy ---- */

static void print_duration(struct buffer *b, uint64_t ms)
{
	static const struct {
		const char *name;
		uint64_t factor;
	} units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

	if (ms == 0)
		buffer_append_str(b, "0s");
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (ms >= units[i].factor)
			buffer_printf(b, "%llu%s", (unsigned long long)(ms / units[i].factor),
				      units[i].name);
		ms %= units[i].factor;
	}
}

static void print_size(struct buffer *b, uint64_t bytes)
{
	static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
	size_t i = 0;

	while (i + 1 < ARRAY_SIZE(units) && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		i++;
	}
	buffer_printf(b, "%llu%s", (unsigned long long)bytes, units[i]);
}

static void print_limit(struct buffer *b, enum policy_limit l, uint64_t v)
{
	switch (l) {
	case POLICY_LIMIT_WALL:
	case POLICY_LIMIT_CPU:
		print_duration(b, v);
		return;
	case POLICY_LIMIT_MEMORY:
	case POLICY_LIMIT_DISK:
	case POLICY_LIMIT_OUTPUT:
	case POLICY_LIMIT_EGRESS:
		print_size(b, v);
		return;
	case POLICY_LIMIT_PIDS:
	case POLICY_LIMIT_FILES:
	case POLICY_LIMIT_REQUESTS:
	case POLICY_LIMIT_COUNT:
		buffer_printf(b, "%llu", (unsigned long long)v);
		return;
	}
}

static void print_texts(struct buffer *b, const struct policy_strs *s)
{
	for (size_t i = 0; i < s->n; i++)
		buffer_printf(b, "%s%s", i ? ", " : "", s->v[i]);
}

static void print_what(struct buffer *b, const struct policy_net *n)
{
	if (n->http) {
		const struct policy_http *h = n->http;

		if (h->method.set)
			print_texts(b, &h->method);
		else
			buffer_append_str(b, "any method");
		buffer_printf(b, " %s://", h->scheme == POLICY_SCHEME_HTTP ? "http" : "https");
		print_texts(b, &h->host);
		if (h->port.set)
			buffer_printf(b, ":%llu", (unsigned long long)h->port.v);
		if (h->path.set) {
			buffer_append_str(b, " ");
			print_texts(b, &h->path);
		}
		if (h->tls == POLICY_TLS_PASSTHROUGH)
			buffer_append_str(b, " (passthrough)");
	} else if (n->git) {
		buffer_printf(b, "git %s %s", n->git->op == POLICY_GIT_PUSH ? "push" : "fetch",
			      n->git->remote);
		if (n->git->refs.set) {
			buffer_append_str(b, " ");
			print_texts(b, &n->git->refs);
		}
		if (n->git->force.v)
			buffer_append_str(b, " force");
		if (n->git->remove.v)
			buffer_append_str(b, " delete");
	} else if (n->tcp) {
		buffer_printf(b, "tcp %s:%llu", n->tcp->host, (unsigned long long)n->tcp->port.v);
	}
}

static const char *effect_name(int effect)
{
	static const char *const names[] = {"by method, else unknown", "read", "reversible",
					    "irreversible"};

	return names[effect];
}

static void print_rule_tail(struct buffer *b, const struct policy_gated *r)
{
	buffer_printf(b, "; effect %s", effect_name(r->effect));
	if (r->secret)
		buffer_printf(b, "; secret %s", r->secret);
	text_place(b, r->item.at, "");
	if (r->why)
		buffer_printf(b, ": %s", r->why);
	buffer_append_byte(b, '\n');
}

static void print_layer(struct buffer *b, const struct policy_stratum *s)
{
	const struct policy_body *p = s->body;
	const struct policy_exec_rule *x = p->exec.v;
	const struct policy_net *n = p->net.v;
	const struct policy_tool *t = p->tools.v;
	const struct policy_secret *secrets = p->secrets.v;

	buffer_printf(b, "%s layer%s%s%s (%s)\n",
		      policy_layer_name((enum policy_layer)(s->layer - 1)),
		      s->item.name ? " '" : "", s->item.name ? s->item.name : "",
		      s->item.name ? "'" : "", s->ceiling ? "ceiling" : "grant");
	for (size_t i = 0; i < p->exec.n; i++) {
		buffer_printf(b, "  %-5s exec %s",
			      policy_verdict_name((enum policy_verdict)(x[i].verdict - 1)),
			      x[i].path);
		text_place(b, x[i].item.at, "");
		buffer_append_byte(b, '\n');
	}
	for (size_t i = 0; i < p->net.n; i++) {
		buffer_printf(b, "  %-5s %s: ",
			      policy_verdict_name((enum policy_verdict)(n[i].rule.verdict - 1)),
			      n[i].rule.id);
		print_what(b, &n[i]);
		print_rule_tail(b, &n[i].rule);
	}
	for (size_t i = 0; i < p->tools.n; i++) {
		buffer_printf(b, "  %-5s tool %s: ",
			      policy_verdict_name((enum policy_verdict)(t[i].rule.verdict - 1)),
			      t[i].rule.id);
		print_texts(b, &t[i].run);
		print_rule_tail(b, &t[i].rule);
	}
	for (size_t i = 0; i < p->secrets.n; i++) {
		buffer_printf(b, "  secret %s to ", secrets[i].item.name);
		print_texts(b, &secrets[i].to);
		buffer_append_byte(b, '\n');
	}
	if (!p->net.n && !p->tools.n && policy_stratum_grants(s))
		buffer_append_str(b, "  no network, no tools\n");
}

static void print_roles(struct buffer *b, const struct policy_settings *s)
{
	for (size_t i = 0; i < s->role_count; i++) {
		buffer_append_str(b, i ? " and" : " of");
		for (size_t j = 0; j < s->roles[i].count; j++)
			buffer_printf(b, "%s %s", j ? "," : "", s->roles[i].any[j]);
		if (s->roles[i].count == 0)
			buffer_append_str(b, " nobody");
	}
	if (s->signers)
		buffer_printf(b, ", signed by a key of %s", s->signers);
}

static void print_settings(struct buffer *b, const struct policy_settings *s)
{
	buffer_printf(b, "agency %s", policy_agency_name(s->agency));
	text_place(b, s->agency_at, "");
	buffer_printf(b, "; nobody there: %s; base %s\n",
		      s->unattended == POLICY_PARK ? "wait" : "deny",
		      s->base == POLICY_LIVE ? "live" : "pinned");
	buffer_append_str(b, "limits");
	for (int l = 0; l < POLICY_LIMIT_COUNT; l++) {
		if (!s->limits.value[l])
			continue;
		buffer_printf(b, " %s ", policy_limit_name((enum policy_limit)l));
		print_limit(b, (enum policy_limit)l, s->limits.value[l]);
		if (s->limits.weaker & (1u << l))
			buffer_append_str(b, " (weaker form will do)");
		buffer_append_byte(b, ';');
	}
	buffer_printf(b, " landlock %s\n",
		      s->limits.weaker_landlock ? "if there is one" : "must be there");
	buffer_append_str(b, "approvals decided within ");
	print_duration(b, s->decide_by_ms);
	buffer_append_str(b, ", carried out within ");
	print_duration(b, s->execute_by_ms);
	buffer_printf(b, ", by %u", s->quorum);
	print_roles(b, s);
	buffer_append_str(b, s->exclude_starter ? ", not by who started it\n" : "\n");
}

static void print_env(struct buffer *b, const struct policy_effective *e)
{
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_env_rule *env = e->layers[i].body->env;
		const struct policy_text_item *set = env ? env->set.v : NULL;

		if (!env)
			continue;
		buffer_printf(b, "environment (%s) keeps ",
			      policy_layer_name((enum policy_layer)(e->layers[i].layer - 1)));
		print_texts(b, &env->keep);
		for (size_t j = 0; j < env->set.n; j++)
			buffer_printf(b, "%s%s=%s", j ? " " : "; sets ", set[j].item.name,
				      set[j].text);
		buffer_append_byte(b, '\n');
	}
}

static void text_policy(struct buffer *b, const struct policy_effective *e,
			const struct policy_fs *fs)
{
	struct policy_settings s;
	size_t n;
	const struct policy_mount *m = policy_fs_table(fs, &n);

	policy_settings(e, &s);
	if (e->step)
		buffer_printf(b, "step %s\n", e->step);
	print_settings(b, &s);
	print_env(b, e);
	buffer_append_str(b, "files\n");
	for (size_t i = 0; i < n; i++) {
		buffer_printf(b, "  %-7s %s", policy_access_name(m[i].access), m[i].path);
		text_place(b, m[i].at, "");
		if (m[i].why[0])
			buffer_printf(b, ": %s", m[i].why);
		buffer_append_byte(b, '\n');
	}
	for (size_t i = 0; i < e->count; i++)
		print_layer(b, &e->layers[i]);
}

static void json_rules(struct buffer *b, const struct policy_stratum *s)
{
	const struct policy_net *n = s->body->net.v;
	const struct policy_tool *t = s->body->tools.v;

	for (size_t i = 0; i < s->body->net.n + s->body->tools.n; i++) {
		bool net = i < s->body->net.n;
		const struct policy_gated *r = net ? &n[i].rule : &t[i - s->body->net.n].rule;
		AUTO_BUFFER what = {0};

		if (net)
			print_what(&what, &n[i]);
		else
			print_texts(&what, &t[i - s->body->net.n].run);
		buffer_append_str(b, i ? ",{" : "{");
		json_str(b, "kind", net ? "net" : "tool", true);
		json_str(b, "id", r->id, true);
		json_str(b, "do", policy_verdict_name((enum policy_verdict)(r->verdict - 1)), true);
		json_str(b, "what", what.data ? (const char *)what.data : "", true);
		json_str(b, "effect", effect_name(r->effect), true);
		json_place(b, r->item.at);
		buffer_append_str(b, "}");
	}
}

static void json_policy(struct buffer *b, const struct policy_effective *e,
			const struct policy_fs *fs)
{
	struct policy_settings s;
	size_t n;
	const struct policy_mount *m = policy_fs_table(fs, &n);
	const char *comma = "";

	policy_settings(e, &s);
	buffer_append_str(b, "{");
	if (e->step)
		json_str(b, "step", e->step, true);
	json_str(b, "agency", policy_agency_name(s.agency), true);
	json_str(b, "unattended", s.unattended == POLICY_PARK ? "park" : "deny", true);
	json_str(b, "base", s.base == POLICY_LIVE ? "live" : "pinned", true);
	buffer_append_str(b, "\"limits\":{");
	for (int l = 0; l < POLICY_LIMIT_COUNT; l++) {
		if (!s.limits.value[l])
			continue;
		buffer_printf(b, "%s\"%s\":%llu", comma, policy_limit_name((enum policy_limit)l),
			      (unsigned long long)s.limits.value[l]);
		comma = ",";
	}
	buffer_append_str(b, "},\"allow_weaker\":[");
	comma = "";
	for (int l = 0; l < POLICY_LIMIT_COUNT; l++)
		if (s.limits.weaker & (1u << l)) {
			buffer_printf(b, "%s\"%s\"", comma,
				      policy_limit_name((enum policy_limit)l));
			comma = ",";
		}
	if (s.limits.weaker_landlock)
		buffer_printf(b, "%s\"landlock\"", comma);
	buffer_append_str(b, "],\"fs\":[");
	for (size_t i = 0; i < n; i++) {
		buffer_append_str(b, i ? ",{" : "{");
		json_str(b, "path", m[i].path, true);
		json_str(b, "access", policy_access_name(m[i].access), true);
		buffer_printf(b, "\"glob\":%s,", m[i].glob ? "true" : "false");
		json_str(b, "why", m[i].why, true);
		json_place(b, m[i].at);
		buffer_append_str(b, "}");
	}
	buffer_append_str(b, "],\"layers\":[");
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_stratum *l = &e->layers[i];

		buffer_append_str(b, i ? ",{" : "{");
		json_str(b, "layer", policy_layer_name((enum policy_layer)(l->layer - 1)), true);
		json_str(b, "name", l->item.name ? l->item.name : "", true);
		json_str(b, "kind", l->ceiling ? "ceiling" : "grant", true);
		buffer_append_str(b, "\"rules\":[");
		json_rules(b, l);
		buffer_append_str(b, "]}");
	}
	buffer_append_str(b, "]}");
}

int policy_explain(const struct policy_effective *e, const struct policy_vars *vars,
		   enum policy_format format, struct buffer *out)
{
	AUTO(policy_fs_free) struct policy_fs *fs = NULL;
	struct error err = {0};
	int code = policy_fs_new(e, vars, &fs, &err);

	if (code < 0)
		return code;
	if (format == POLICY_JSON)
		json_policy(out, e, fs);
	else
		text_policy(out, e, fs);
	return out->failed;
}

/* ---- trust ---- */

void policy_trust_digest(struct bytes text, struct digest *ret)
{
	digest_domain("holdfast.trust.v1", text, ret);
}

int policy_trust_summary(const struct policy *p, struct buffer *out)
{
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	struct policy_input input = {.layer = POLICY_LAYER_PROJECT, .policy = p};
	struct policy_combine c = {.inputs = &input, .count = 1};
	const struct policy_fs_rule *fs = p->body.fs.v;
	struct policy_settings s;
	struct error err = {0};
	int code = policy_combine(&c, &e, &err);

	if (code < 0)
		return code;
	policy_settings(e, &s);
	buffer_printf(out, "%s%s%s would allow:\n", p->file, p->body.title ? ", " : "",
		      p->body.title ? p->body.title : "");
	print_settings(out, &s);
	for (size_t i = 0; i < p->body.fs.n; i++)
		if (strcmp(fs[i].item.at.file, p->file) == 0)
			buffer_printf(out, "  %-7s %s\n",
				      policy_access_name((enum policy_access)(fs[i].access - 1)),
				      fs[i].path);
	for (size_t i = 0; i < p->body.extends.n; i++)
		buffer_printf(out, "  all of '%s'\n", p->body.extends.v[i]);
	for (size_t i = 0; i < e->count; i++)
		print_layer(out, &e->layers[i]);
	for (size_t i = 0; i < e->notes.count; i++)
		buffer_printf(out, "  note: %s\n", e->notes.items[i].msg);
	return out->failed;
}
