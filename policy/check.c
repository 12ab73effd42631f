/* What holds between keys: inside one rule, then over the whole file with what it extends. */
#include "policy/model.h"
#include "base/path.h"
#include <stdio.h>

static struct policy_place at_key(struct policy_parser *c, const struct yaml_node *n,
				  const void *item, const char *key)
{
	return policy_parse_key_place(c, n, item, key);
}

static void error_at(struct policy_parser *c, struct policy_place at, int code, const char *msg)
{
	policy_find(c, at, code, POLICY_ERROR, "%s", msg);
}

static const struct yaml_node *child(const struct yaml_node *n, const char *key)
{
	for (size_t i = 0; n && n->kind == YAML_MAPPING && i < n->count; i++)
		if (bytes_equal(n->pairs[i].key->text, bytes_str(key)))
			return n->pairs[i].value;
	return NULL;
}

/* Written as [], not emptied by the errors of its entries. */
static bool is_empty(const struct yaml_node *n, const char *key, const struct policy_strs *s)
{
	const struct yaml_node *v = child(n, key);

	return v ? v->kind == YAML_SEQUENCE && v->count == 0 : s->set && s->n == 0;
}

/* How many of the keys were given: in the file where there is one (whatever became of the value),
 * else by what is set. */
static int count_given(const struct yaml_node *n, const char *const *keys, const void *const *set,
		       size_t count)
{
	int given = 0;

	for (size_t i = 0; i < count; i++)
		given += n ? child(n, keys[i]) != NULL : set[i] != NULL;
	return given;
}

/* ---- paths, as they are written: each variable is a root of its own ---- */

static size_t depth_of(const char *path)
{
	size_t depth = path[0] == '$' ? 1 : 0;

	if (strcmp(path, "/") == 0)
		return 0;
	for (; *path; path++)
		depth += *path == '/';
	return depth;
}

/* Whether a rule for `rule` covers `path`; a '*' in path is a character that only a '*' matches. */
static bool covers(const char *rule, const char *path)
{
	const char *star = strchr(rule, '*');
	const char *last;
	size_t parent, end;

	if (!star)
		return path_within(path, rule);
	last = strrchr(rule, '/');
	parent = (size_t)(last - rule) + 1;
	if (strncmp(path, rule, parent) != 0)
		return false;
	end = parent + strcspn(path + parent, "/");
	return end > parent && policy_glob(last + 1, bytes_of(path + parent, end - parent), true);
}

static bool excepted(const struct policy_fs_rule *r, const char *path)
{
	for (size_t i = 0; i < r->except.n; i++)
		if (covers(r->except.v[i], path))
			return true;
	return false;
}

/* The rule of list that decides path, or NULL; `but` (may be NULL) is left out. */
static const struct policy_fs_rule *deepest(const struct policy_list *list, const char *path,
					    const struct policy_fs_rule *but)
{
	const struct policy_fs_rule *rules = list->v;
	const struct policy_fs_rule *best = NULL;

	for (size_t i = 0; i < list->n; i++) {
		const struct policy_fs_rule *r = &rules[i];
		bool literal, best_literal;

		if (r == but || !r->path || !r->access || !covers(r->path, path) ||
		    excepted(r, path))
			continue;
		if (!best || depth_of(r->path) > depth_of(best->path)) {
			best = r;
			continue;
		}
		if (depth_of(r->path) < depth_of(best->path))
			continue;
		literal = !policy_path_is_glob(r->path);
		best_literal = !policy_path_is_glob(best->path);
		if (literal != best_literal ? literal : r->access < best->access)
			best = r;
	}
	return best;
}

/* ---- one rule ---- */

void policy_check_fs(struct policy_parser *c, const struct yaml_node *n, void *item)
{
	struct policy_fs_rule *r = item;

	for (size_t i = 0; r->path && i < r->except.n; i++)
		if (!covers(r->path, r->except.v[i]) || strcmp(r->path, r->except.v[i]) == 0)
			policy_find(c, at_key(c, n, r, "except"), 104, POLICY_ERROR,
				    "'%s' is not below '%s'", r->except.v[i], r->path);
	if (r->access - 1 == POLICY_ACCESS_RW)
		policy_find(c, at_key(c, n, r, "access"), 602, POLICY_WARNING,
			    "'rw' is written at once, outside the transaction, and sockets and "
			    "FIFOs in it can be reached");
}

void policy_check_exec(struct policy_parser *c, const struct yaml_node *n, void *item)
{
	struct policy_exec_rule *r = item;
	const struct policy_match *m = r->argv.v;

	for (size_t i = 0; i < r->argv.n; i++)
		if (m[i].values.set && m[i].values.n == 0)
			error_at(c, at_key(c, n, r, "argv"), 213,
				 "an empty list of tokens matches nothing");
}

void policy_check_http(struct policy_parser *c, const struct yaml_node *n, void *item)
{
	struct policy_http *h = item;

	if (h->tls == POLICY_TLS_PASSTHROUGH) {
		if (h->scheme == POLICY_SCHEME_HTTP)
			error_at(c, at_key(c, n, h, "tls"), 206,
				 "plain http has no TLS to pass through");
		if (h->method.set || h->path.set || h->query_max.set || h->body_max.set ||
		    h->json.set)
			error_at(c, at_key(c, n, h, "tls"), 206,
				 "passthrough shows the host only; drop method, path, query_max, "
				 "body_max and json");
	}
	if (is_empty(n, "host", &h->host))
		error_at(c, at_key(c, n, h, "host"), 213, "an empty list of hosts matches nothing");
}

void policy_check_git(struct policy_parser *c, const struct yaml_node *n, void *item)
{
	struct policy_git *g = item;

	if (g->op == POLICY_GIT_FETCH && (g->force.set || g->remove.set))
		error_at(c, at_key(c, n, g, g->force.set ? "force" : "delete"), 209,
			 "'force' and 'delete' belong to a push");
}

static void check_effect(struct policy_parser *c, const struct yaml_node *n, struct policy_gated *r,
			 bool git)
{
	bool undo = n ? child(n, "undo") != NULL : r->undo != NULL;

	if (r->effect == POLICY_EFFECT_REVERSIBLE && !undo && !git)
		error_at(c, at_key(c, n, r, "effect"), 207, "effect 'reversible' needs 'undo'");
	if (undo && r->effect != POLICY_EFFECT_REVERSIBLE)
		error_at(c, at_key(c, n, r, "undo"), 208, "'undo' without effect 'reversible'");
	if (r->effect == POLICY_EFFECT_REVERSIBLE && r->verdict - 1 == POLICY_ASK)
		policy_find(c, at_key(c, n, r, "do"), 603, POLICY_WARNING,
			    "'%s' is reversible and asks like an irreversible one; allow it, so "
			    "that attention goes where "
			    "it is needed",
			    r->id ? r->id : "");
	if (r->effect == POLICY_EFFECT_IRREVERSIBLE && r->verdict - 1 == POLICY_ALLOW)
		policy_find(c, at_key(c, n, r, "do"), 605, POLICY_WARNING,
			    "'%s' is irreversible and asks at every agency; say ask",
			    r->id ? r->id : "");
}

/* Hosts that only this machine or network knows need the address at which they are. */
static void check_local(struct policy_parser *c, struct policy_place at, const char *host)
{
	const char *name = host[0] == '*' ? strchr(host, '.') + 1 : host;

	if (policy_host_is_local(name))
		policy_find(c, at, 112, POLICY_ERROR, "'%s' is a local name; say its 'address'",
			    host);
}

static void check_net_http(struct policy_parser *c, const struct yaml_node *n, struct policy_net *r)
{
	const struct policy_http *h = r->http;
	const struct yaml_node *sub = child(n, "http");

	for (size_t i = 0; !r->address.set && i < h->host.n; i++)
		check_local(c, at_key(c, sub, h, "host"), h->host.v[i]);
	if (r->rule.secret && h->scheme == POLICY_SCHEME_HTTP)
		error_at(c, at_key(c, n, r, "secret"), 205, "a secret goes over https only");
	if (r->rule.secret && h->tls == POLICY_TLS_PASSTHROUGH)
		error_at(c, at_key(c, n, r, "secret"), 206,
			 "passthrough cannot carry a secret; inspect it");
	if (r->ca && (h->scheme == POLICY_SCHEME_HTTP || h->tls == POLICY_TLS_PASSTHROUGH))
		error_at(c, at_key(c, n, r, "ca"), 206, "'ca' is for inspected https");
}

static void check_net_git(struct policy_parser *c, const struct yaml_node *n, struct policy_net *r)
{
	const struct policy_git *g = r->git;
	char remote[POLICY_REMOTE_MAX];
	const struct yaml_node *sub = child(n, "git");

	if (g->op == POLICY_GIT_PUSH && !g->refs.set && r->rule.verdict &&
	    r->rule.verdict - 1 != POLICY_DENY)
		error_at(c, g->item.at, 210, "a push names its 'refs'");
	if (g->op == POLICY_GIT_PUSH && r->rule.effect == POLICY_EFFECT_READ)
		error_at(c, at_key(c, n, r, "effect"), 211, "a push is no 'read'");
	if (!r->address.set && g->remote &&
	    policy_remote_normal(bytes_str(g->remote), remote) == 0) {
		char *host = remote + strlen("https://");

		host[strcspn(host, "/")] = '\0';
		check_local(c, at_key(c, sub, g, "remote"), host);
	}
}

void policy_check_net(struct policy_parser *c, const struct yaml_node *n, void *item)
{
	static const char *const keys[] = {"http", "git", "tcp"};
	struct policy_net *r = item;
	const void *const set[] = {r->http, r->git, r->tcp};

	if (count_given(n, keys, set, ARRAY_SIZE(keys)) != 1)
		error_at(c, r->rule.item.at, 201,
			 "a net rule has exactly one of 'http', 'git' and 'tcp'");
	check_effect(c, n, &r->rule, r->git != NULL);
	if (r->http)
		check_net_http(c, n, r);
	if (r->git)
		check_net_git(c, n, r);
	if (r->tcp) {
		if (!r->address.set && r->tcp->host)
			check_local(c, r->tcp->item.at, r->tcp->host);
		if (r->rule.secret)
			error_at(c, at_key(c, n, r, "secret"), 206,
				 "a tcp stream cannot carry a secret");
		if (r->ca)
			error_at(c, at_key(c, n, r, "ca"), 206, "'ca' is for inspected https");
	}
	if (r->except.set && !r->http)
		error_at(c, at_key(c, n, r, "except"), 201, "'except' belongs to 'http'");
}

void policy_check_tool(struct policy_parser *c, const struct yaml_node *n, void *item)
{
	struct policy_tool *t = item;

	check_effect(c, n, &t->rule, false);
	if (is_empty(n, "run", &t->run))
		error_at(c, at_key(c, n, t, "run"), 213, "'run' is empty; name the command");
}

static void exactly_one(struct policy_parser *c, const struct yaml_node *n, const void *item,
			const char *const *keys, const void *const *set, size_t count,
			const char *msg)
{
	if (count_given(n && n->kind == YAML_MAPPING ? n : NULL, keys, set, count) != 1)
		error_at(c, ((const struct policy_item *)item)->at, 201, msg);
}

void policy_check_undo(struct policy_parser *c, const struct yaml_node *n, void *item)
{
	static const char *const keys[] = {"tool", "text"};
	struct policy_undo *u = item;
	const void *const set[] = {u->tool, u->text};

	exactly_one(c, n, u, keys, set, 2, "'undo' is {tool: id} or {text: how}");
}

void policy_check_retry(struct policy_parser *c, const struct yaml_node *n, void *item)
{
	static const char *const keys[] = {"keyed", "probe", "mode"};
	struct policy_retry *r = item;
	const void *const set[] = {r->keyed, r->probe, r->mode ? r : NULL};

	exactly_one(c, n, r, keys, set, 3, "'retry' is safe, never, {keyed: ...} or {probe: ...}");
}

void policy_check_from(struct policy_parser *c, const struct yaml_node *n, void *item)
{
	static const char *const keys[] = {"file", "env", "credential"};
	struct policy_secret_from *f = item;
	const void *const set[] = {f->file, f->env, f->credential};

	exactly_one(c, n, f, keys, set, 3,
		    "'from' is {file: path}, {env: NAME} or {credential: name}");
}

void policy_check_case(struct policy_parser *c, const struct yaml_node *n, void *item)
{
	static const char *const keys[] = {"http", "git", "tcp", "tool", "read", "write", "exec"};
	static const struct policy_vars vars = {"/workspace", "/home", "/tmp", "/run/holdfast"};
	struct policy_case *t = item;
	const void *set[ARRAY_SIZE(keys)];

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		AUTO(policy_question_free) struct policy_question *q = NULL;
		struct error err = {0};

		set[i] = t->kind[i];
		if (t->kind[i] &&
		    policy_question_parse(keys[i], t->kind[i], &vars, &q, &err) == -EINVAL)
			policy_find(c, at_key(c, n, t, keys[i]), 501, POLICY_ERROR, "%s", err.msg);
	}
	exactly_one(c, n, t, keys, set, ARRAY_SIZE(keys),
		    "a test has exactly one of 'http', 'git', 'tcp', 'tool', 'read', 'write' and "
		    "'exec'");
}

void policy_check_approvals(struct policy_parser *c, const struct yaml_node *n, void *item)
{
	struct policy_approvals *a = item;
	size_t uids = 0;

	for (size_t i = 0; i < a->exclude.n; i++)
		uids += strcmp(a->exclude.v[i], "starter") != 0;
	if (uids > POLICY_EXCLUDE_MAX / 2)
		error_at(c, at_key(c, n, a, "exclude"), 19, "'exclude' names more than 32 uids");
}

/* ---- the file ---- */

static struct policy_gated *rule_at(struct policy_body *b, size_t i)
{
	if (i < b->net.n)
		return &((struct policy_net *)b->net.v)[i].rule;
	i -= b->net.n;
	return i < b->tools.n ? &((struct policy_tool *)b->tools.v)[i].rule : NULL;
}

static bool own(const struct policy_parser *c, struct policy_place at)
{
	return strcmp(at.file, c->file) == 0;
}

static const struct policy_gated *find_rule(struct policy_body *b, const char *id)
{
	const struct policy_gated *r;

	for (size_t i = 0; (r = rule_at(b, i)); i++)
		if (r->id && strcmp(r->id, id) == 0)
			return r;
	return NULL;
}

static bool find_tool(const struct policy_body *b, const char *id)
{
	const struct policy_tool *t = b->tools.v;

	for (size_t i = 0; i < b->tools.n; i++)
		if (t[i].rule.id && strcmp(t[i].rule.id, id) == 0)
			return true;
	return false;
}

static void unknown_id(struct policy_parser *c, struct policy_body *b, struct policy_place at,
		       const char *id)
{
	enum { SHOWN = 200 };
	const char *names[SHOWN];
	const struct policy_gated *r;
	char hint[200];
	size_t n = 0;

	for (size_t i = 0; n < SHOWN && (r = rule_at(b, i)); i++)
		if (r->id)
			names[n++] = r->id;
	policy_parse_suggest(bytes_str(id), names, n, hint, sizeof(hint));
	policy_find(c, at, 212, POLICY_ERROR, "no rule or tool is called '%s'%s", id, hint);
}

static int by_id(const void *a, const void *b)
{
	const struct policy_gated *x = *(struct policy_gated *const *)a;
	const struct policy_gated *y = *(struct policy_gated *const *)b;
	int order = strcmp(x->id, y->id);

	if (order)
		return order;
	return x->item.at.line != y->item.at.line ? x->item.at.line - y->item.at.line
						  : x->item.at.column - y->item.at.column;
}

static void check_ids(struct policy_parser *c, struct policy_body *b)
{
	struct policy_gated **sorted =
		policy_arena_alloc(c->arena, (b->net.n + b->tools.n + 1) * sizeof(*sorted));
	struct policy_gated *r;
	size_t n = 0;

	for (size_t i = 0; sorted && (r = rule_at(b, i)); i++)
		if (r->id)
			sorted[n++] = r;
	if (!sorted)
		return;
	qsort(sorted, n, sizeof(*sorted), by_id);
	for (size_t i = 1; i < n; i++) {
		struct policy_place first = sorted[i - 1]->item.at;
		struct policy_place at = sorted[i]->item.at;

		if (strcmp(sorted[i - 1]->id, sorted[i]->id) != 0)
			continue;
		if (!own(c, at)) {
			struct policy_place other = at;

			at = first;
			first = other;
		}
		policy_find(c, at, 202, POLICY_ERROR, "id '%s' given twice (first at %s%s%d:%d)",
			    sorted[i]->id, own(c, first) ? "" : first.file,
			    own(c, first) ? "" : ":", first.line, first.column);
	}
}

static bool host_within(const char *host, const struct policy_strs *to)
{
	for (size_t i = 0; i < to->n; i++) {
		const char *t = to->v[i];

		if (strcmp(host, t) == 0 || (host[0] != '*' && policy_host_match(t, host)))
			return true;
		/* A pattern lies within '**.name' where its own name does. */
		if (host[0] == '*' && strncmp(t, "**", 2) == 0) {
			const char *tail = strchr(host, '.');
			size_t len = strlen(tail), want = strlen(t + 2);

			if (len >= want && strcmp(tail + len - want, t + 2) == 0)
				return true;
		}
	}
	return false;
}

static void check_secret(struct policy_parser *c, struct policy_body *b,
			 const struct policy_net *net, const struct policy_gated *r)
{
	const struct policy_secret *s = b->secrets.v;
	char remote[POLICY_REMOTE_MAX];

	for (size_t i = 0; i < b->secrets.n; i++) {
		if (strcmp(s[i].item.name, r->secret) != 0)
			continue;
		for (size_t h = 0; net && net->http && h < net->http->host.n; h++)
			if (!host_within(net->http->host.v[h], &s[i].to))
				policy_find(c, r->item.at, 204, POLICY_ERROR,
					    "secret '%s' may not go to '%s'", r->secret,
					    net->http->host.v[h]);
		if (net && net->git && net->git->remote &&
		    policy_remote_normal(bytes_str(net->git->remote), remote) == 0) {
			char *host = remote + strlen("https://");

			host[strcspn(host, "/")] = '\0';
			if (!host_within(host, &s[i].to))
				policy_find(c, r->item.at, 204, POLICY_ERROR,
					    "secret '%s' may not go to '%s'", r->secret, host);
		}
		return;
	}
	if (own(c, r->item.at))
		policy_find(c, r->item.at, 604, POLICY_WARNING,
			    "secret '%s' is not defined here; without one from above the request "
			    "goes out without it",
			    r->secret);
}

static void check_references(struct policy_parser *c, struct policy_body *b)
{
	const struct policy_standing *standing = b->standing.v;
	const struct policy_case *tests = b->tests.v;
	const struct policy_gated *r;

	for (size_t i = 0; (r = rule_at(b, i)); i++) {
		const struct policy_net *net =
			i < b->net.n ? &((struct policy_net *)b->net.v)[i] : NULL;

		if (r->undo && r->undo->tool && !find_tool(b, r->undo->tool))
			policy_find(c, r->undo->item.at, 203, POLICY_ERROR,
				    "no tool is called '%s'", r->undo->tool);
		if (r->retry && r->retry->probe && r->retry->probe->tool &&
		    !find_tool(b, r->retry->probe->tool))
			policy_find(c, r->retry->item.at, 203, POLICY_ERROR,
				    "no tool is called '%s'", r->retry->probe->tool);
		if (r->secret)
			check_secret(c, b, net, r);
	}
	for (size_t i = 0; i < b->standing.n; i++)
		if (standing[i].rule && !find_rule(b, standing[i].rule))
			unknown_id(c, b, standing[i].item.at, standing[i].rule);
	for (size_t i = 0; i < b->tests.n; i++)
		if (tests[i].rule && !find_rule(b, tests[i].rule))
			unknown_id(c, b, tests[i].item.at, tests[i].rule);
}

static void check_kept(struct policy_parser *c, const struct policy_body *b)
{
	const struct policy_secret *s = b->secrets.v;

	for (size_t i = 0; b->env && i < b->secrets.n; i++)
		if (s[i].from && s[i].from->env && own(c, s[i].from->item.at) &&
		    policy_env_keeps(&b->env->keep, bytes_str(s[i].from->env)))
			policy_find(c, s[i].from->item.at, 608, POLICY_WARNING,
				    "secret '%s' comes from '%s', which 'keep' (%d:%d) covers: it "
				    "does not pass",
				    s[i].item.name, s[i].from->env, b->env->item.at.line,
				    b->env->item.at.column);
}

static const char *access_of(const struct policy_fs_rule *r)
{
	return policy_access_name((enum policy_access)(r->access - 1));
}

static void check_paths(struct policy_parser *c, struct policy_body *b)
{
	const struct policy_fs_rule *rules = b->fs.v;

	for (size_t i = 0; i < b->fs.n; i++) {
		const struct policy_fs_rule *above;

		if (!rules[i].path || !rules[i].access || !own(c, rules[i].item.at))
			continue;
		for (size_t j = 0; j < i; j++)
			if (rules[j].path && rules[j].access && own(c, rules[j].item.at) &&
			    strcmp(rules[i].path, rules[j].path) == 0 &&
			    rules[i].access != rules[j].access)
				policy_find(c, rules[i].item.at, 105, POLICY_ERROR,
					    "'%s' is '%s' here and '%s' at %d:%d", rules[i].path,
					    access_of(&rules[i]), access_of(&rules[j]),
					    rules[j].item.at.line, rules[j].item.at.column);
		above = deepest(&b->fs, rules[i].path, &rules[i]);
		if (above && above->access && above->access < rules[i].access &&
		    depth_of(above->path) < depth_of(rules[i].path))
			policy_find(c, rules[i].item.at, 601, POLICY_WARNING,
				    "'%s' is '%s', wider than '%s' ('%s') above it", rules[i].path,
				    access_of(&rules[i]), above->path, access_of(above));
	}
}

/* Every program but a static one is started by a loader (ld.so(8)), which stands in one of these. */
static bool reaches_loader(const struct policy_fs_rule *r)
{
	static const char *const places[] = {"/lib",	   "/lib64", "/lib32", "/libx32",
					     "/nix/store", "/gnu/store"};

	for (size_t i = 0; r->path && r->path[0] == '/' && r->access - 1 >= POLICY_ACCESS_RX &&
			   i < ARRAY_SIZE(places);
	     i++)
		if (path_within(places[i], r->path) || path_within(r->path, places[i]))
			return true;
	return false;
}

const struct policy_fs_rule *policy_check_no_loader(const struct policy_body *b)
{
	const struct policy_fs_rule *rules = b->fs.v, *first = NULL;

	for (size_t i = 0; i < b->fs.n; i++) {
		if (reaches_loader(&rules[i]))
			return NULL;
		if (!first && rules[i].access - 1 > POLICY_ACCESS_NONE)
			first = &rules[i];
	}
	return first;
}

static void check_loader(struct policy_parser *c, const struct policy_body *b)
{
	const struct policy_fs_rule *first = policy_check_no_loader(b);

	if (first && !c->depth)
		policy_find(c, first->item.at, 609, POLICY_WARNING,
			    "no rule covers /lib or /lib64, without which hardly a program can be "
			    "executed; say `extends: [offline]`");
}

static void check_step(struct policy_parser *c, struct policy_body *b, const struct policy_step *s)
{
	const struct policy_fs_rule *fs = s->fs.v;
	int ceiling = b->agency ? b->agency : POLICY_ASSIST;

	if (s->agency > ceiling)
		policy_find(c, s->item.at, 301, POLICY_ERROR,
			    "step '%s' says agency '%s', wider than '%s' of the file%s",
			    s->item.name, policy_agency_name((enum policy_agency)s->agency),
			    policy_agency_name((enum policy_agency)ceiling),
			    b->agency ? "" : " (the default)");
	for (size_t i = 0; i < s->use.n; i++)
		if (!find_rule(b, s->use.v[i]))
			unknown_id(c, b, s->item.at, s->use.v[i]);
	for (int l = 0; s->limits && b->limits && l < POLICY_LIMIT_COUNT; l++)
		if (s->limits->v[l].set && b->limits->v[l].set &&
		    s->limits->v[l].v > b->limits->v[l].v)
			policy_find(c, s->limits->item.at, 302, POLICY_ERROR,
				    "step '%s' has a larger limit '%s' than the file", s->item.name,
				    policy_limit_name((enum policy_limit)l));
	for (size_t i = 0; i < s->fs.n; i++) {
		const struct policy_fs_rule *above =
			fs[i].path ? deepest(&b->fs, fs[i].path, NULL) : NULL;

		if (!fs[i].path || !fs[i].access ||
		    (!above && (!b->fs.set || b->kind == POLICY_KIND_CEILING)))
			continue;
		if (!above ? fs[i].access - 1 > POLICY_ACCESS_NONE : fs[i].access > above->access)
			policy_find(c, fs[i].item.at, 303, POLICY_ERROR,
				    "step '%s' wants '%s' of '%s', wider than '%s' of the file",
				    s->item.name, access_of(&fs[i]), fs[i].path,
				    above ? access_of(above) : "none");
	}
}

void policy_check_body(struct policy_parser *c, struct policy_body *b)
{
	const struct policy_step *steps = b->steps.v;

	check_ids(c, b);
	check_references(c, b);
	check_paths(c, b);
	check_kept(c, b);
	check_loader(c, b);
	for (size_t i = 0; i < b->steps.n; i++)
		check_step(c, b, &steps[i]);
}
