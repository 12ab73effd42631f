/*
 * holdfast-plan(5) read from strict YAML. base/yaml refuses what YAML has too much of; here every
 * key is known, every value typed, and every mistake has the place of the very thing that is wrong.
 */
#include "supervisor/plan.h"
#include "supervisor/plan_inline.h"
#include <errno.h>
#include <stdlib.h>
#include "base/utf8.h"
#include "base/yaml.h"
#include "journal/journal.h"
#include "policy/policy.h"

DEFINE_GUARD(struct yaml_doc *, yaml_doc_free)

struct parse {
	struct bytes text; /* the whole file */
	const struct yaml_node *root;
	const char *file;
	struct error *err;
};

static const char *const plan_keys[] = {"version", "name", "policy", "workspace",
					"base",	   "land", "agency", "steps"};
static const char *const step_keys[] = {"name",	 "needs",   "stdin",	"run",	"cwd",	   "env",
					"retry", "timeout", "deadline", "gate", "contract"};
static const char *const stdin_keys[] = {"from", "file", "text"};
static const char *const retry_keys[] = {"max", "backoff", "on", "same_failure"};
static const char *const contract_keys[] = {"checks", "protected"};
static const char *const check_keys[] = {"run", "expect"};
static const char *const expect_keys[] = {"exit"};
static const char *const land_words[] = {"auto", "ask", "never"};
static const char *const base_words[] = {"live", "pinned"};
static const char *const gate_words[] = {"none", "ask", "commit"};
static const char *const agency_words[] = {"observe", "draft", "assist", "trusted", "autonomous"};
static const char *const on_words[] = {"infra", "timeout", "exit", "oom", "check"};

#define WRONG(p, node, ...) yaml_error((p)->err, (p)->file, (node), -EINVAL, __VA_ARGS__)
/* What must be a mapping of these keys. */
#define WANT_KEYS(p, node, keys, what) want_keys((p), (node), (keys), ARRAY_SIZE(keys), (what))

static struct plan_place place_of(const struct yaml_node *n)
{
	return (struct plan_place){n->line, n->column};
}

/* ---- values ---- */

static int want_mapping(const struct parse *p, const struct yaml_node *n, const char *what)
{
	return n->kind == YAML_MAPPING ? 0
				       : WRONG(p, n, "%s: must be a mapping (key: value)", what);
}

static int want_keys(const struct parse *p, const struct yaml_node *n, const char *const *keys,
		     size_t count, const char *what)
{
	int r = want_mapping(p, n, what);

	return r < 0 ? r : yaml_known_keys(n, keys, count, what, p->file, p->err);
}

static int want_sequence(const struct parse *p, const struct yaml_node *n, const char *what,
			 size_t max)
{
	if (n->kind != YAML_SEQUENCE)
		return WRONG(p, n, "%s: must be a list", what);
	if (n->count > max)
		return WRONG(p, n, "%s: %zu items; at most %zu", what, n->count, max);
	return 0;
}

/* Any text, "" included where it is quoted. */
static int want_text(const struct parse *p, const struct yaml_node *n, const char *what, char **ret)
{
	if (n->kind != YAML_SCALAR)
		return WRONG(p, n, "%s: must be text", what);
	if (n->text.len && memchr(n->text.data, 0, n->text.len))
		return WRONG(p, n, "%s: holds a NUL byte", what);
	free(*ret);
	*ret = bytes_dup_str(n->text);
	return *ret ? 0 : error_nomem(p->err);
}

static int want_filled(const struct parse *p, const struct yaml_node *n, const char *what,
		       char **ret)
{
	if (yaml_is_null(n) || (n->kind == YAML_SCALAR && n->text.len == 0))
		return WRONG(p, n, "%s: is empty", what);
	return want_text(p, n, what, ret);
}

static int want_name(const struct parse *p, const struct yaml_node *n, const char *what, char **ret)
{
	int r = want_filled(p, n, what, ret);

	if (r < 0)
		return r;
	r = utf8_check_name(n->text);
	if (r == -ENAMETOOLONG)
		return WRONG(p, n, "%s: longer than 128 bytes", what);
	if (r < 0)
		return WRONG(p, n,
			     "%s: '%.64s' cannot be a name; use UTF-8 without '/', '#', control or "
			     "invisible characters",
			     what, *ret);
	return 0;
}

static int want_number(const struct parse *p, const struct yaml_node *n, const char *what,
		       uint64_t min, uint64_t max, uint64_t *ret)
{
	const char *c = n->text.data;
	uint64_t v = 0;
	bool ok = n->kind == YAML_SCALAR && n->text.len > 0 && n->text.len <= 19;

	for (size_t i = 0; ok && i < n->text.len; i++) {
		ok = c[i] >= '0' && c[i] <= '9' && (i == 0 || c[0] != '0');
		v = v * 10 + (uint64_t)(c[i] - '0');
	}
	if ((!ok || v < min || v > max) && min == max)
		return WRONG(p, n, "%s must be %llu", what, (unsigned long long)min);
	if (!ok || v < min || v > max)
		return WRONG(p, n, "%s: must be a whole number from %llu to %llu", what,
			     (unsigned long long)min, (unsigned long long)max);
	*ret = v;
	return 0;
}

/* Position of the node's word among words, with "did you mean" where it is none. */
static int want_word(const struct parse *p, const struct yaml_node *n, const char *what,
		     const char *const *words, size_t count, int *ret)
{
	char list[96] = "";
	const char *near;

	if (n->kind != YAML_SCALAR)
		return WRONG(p, n, "%s: must be a word", what);
	for (size_t i = 0; i < count; i++) {
		if (bytes_equal(n->text, bytes_str(words[i]))) {
			*ret = (int)i;
			return 0;
		}
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", i ? ", " : "",
			 words[i]);
	}
	near = yaml_nearest(n->text, words, count);
	if (near)
		return WRONG(p, n, "%s: '%.40s' is not known; did you mean '%s'?", what,
			     (const char *)n->text.data, near);
	return WRONG(p, n, "%s: '%.40s' is not known; say one of %s", what,
		     (const char *)n->text.data, list);
}

static int want_duration(const struct parse *p, const struct yaml_node *n, struct bytes text,
			 const char *what, uint64_t *ret_ms)
{
	uint64_t ms = 0;
	int r = n->kind == YAML_SCALAR ? policy_duration_parse(text, &ms) : -EINVAL;

	if (r == -ERANGE || (r == 0 && ms > PLAN_DURATION_MAX_MS))
		return WRONG(p, n, "%s: longer than 366d", what);
	if (r < 0)
		return WRONG(p, n, "%s: must be a duration such as 90s, 10m or 1h30m", what);
	if (ms == 0)
		return WRONG(p, n, "%s: must be longer than nothing", what);
	*ret_ms = ms;
	return 0;
}

/* ---- a step ---- */

static int strings(const struct parse *p, const struct yaml_node *n, const char *what, size_t max,
		   char ***ret)
{
	int r = want_sequence(p, n, what, max);

	if (r < 0)
		return r;
	*ret = calloc(n->count + 1, sizeof(**ret));
	if (!*ret)
		return error_nomem(p->err);
	for (size_t i = 0; i < n->count && r == 0; i++)
		r = want_text(p, n->items[i], what, &(*ret)[i]);
	return r;
}

static int parse_argv(const struct parse *p, const struct yaml_node *n, const char *what,
		      char ***ret)
{
	int r;

	if (n->kind == YAML_SCALAR) {
		*ret = calloc(4, sizeof(**ret));
		if (!*ret)
			return error_nomem(p->err);
		r = want_filled(p, n, what, &(*ret)[0]);
		if (r < 0)
			return r;
		(*ret)[2] = (*ret)[0];
		(*ret)[0] = strdup("/bin/sh");
		(*ret)[1] = strdup("-c");
		if (!(*ret)[0] || !(*ret)[1]) {
			free((*ret)[0] ? (*ret)[0] : (*ret)[1]);
			(*ret)[0] = (*ret)[2];
			(*ret)[1] = (*ret)[2] = NULL;
			return error_nomem(p->err);
		}
	} else {
		r = strings(p, n, what, PLAN_ARGV_MAX, ret);
		if (r != 0)
			return r;
		if (n->count == 0 || (*ret)[0][0] == '\0')
			return WRONG(p, n, "%s: is empty", what);
	}
	for (char **a = *ret; *a; a++)
		if (strlen(*a) >= PLAN_ARG_BYTES_MAX)
			return WRONG(p, n, "%s: an argument of 128 KiB or more", what);
	return 0;
}

static int parse_needs(const struct parse *p, const struct yaml_node *n, struct plan_step *s)
{
	int r = want_sequence(p, n, "needs", PLAN_NEEDS_MAX - 1);

	if (r < 0)
		return r;
	s->needs = calloc(n->count + 1, sizeof(*s->needs));
	if (!s->needs)
		return error_nomem(p->err);
	for (size_t i = 0; i < n->count; i++) {
		r = want_name(p, n->items[i], "needs", &s->needs[i]);
		if (r < 0)
			return r;
		if (strcmp(s->needs[i], s->name) == 0)
			return WRONG(p, n->items[i], "needs: '%s' cannot need itself", s->name);
		for (size_t k = 0; k < i; k++)
			if (strcmp(s->needs[k], s->needs[i]) == 0)
				return WRONG(p, n->items[i], "needs: '%s' is given twice",
					     s->needs[i]);
	}
	return 0;
}

/* A step that reads another's output needs it, said or not. */
static int add_need(const struct parse *p, struct plan_step *s, const char *name)
{
	size_t n = 0;
	char **v;

	for (; s->needs && s->needs[n]; n++)
		if (strcmp(s->needs[n], name) == 0)
			return 0;
	v = reallocarray(s->needs, n + 2, sizeof(*v));
	if (!v)
		return error_nomem(p->err);
	s->needs = v;
	v[n] = strdup(name);
	v[n + 1] = NULL;
	return v[n] ? 0 : error_nomem(p->err);
}

static int parse_stdin(const struct parse *p, struct yaml_node *n, struct plan_step *s)
{
	struct yaml_node *from, *file, *text;
	int r = WANT_KEYS(p, n, stdin_keys, "stdin");

	if (r < 0)
		return r;
	from = yaml_get(n, "from");
	file = yaml_get(n, "file");
	text = yaml_get(n, "text");
	if (!!from + !!file + !!text != 1)
		return WRONG(p, n, "stdin: say one of from, file and text");
	if (from) {
		s->stdin_kind = PLAN_STDIN_STEP;
		r = want_name(p, from, "stdin: from", &s->stdin_step);
		if (r == 0 && strcmp(s->stdin_step, s->name) == 0)
			return WRONG(p, from, "stdin: from: '%s' cannot need itself", s->name);
		return r < 0 ? r : add_need(p, s, s->stdin_step);
	}
	if (file) {
		s->stdin_kind = PLAN_STDIN_FILE;
		s->stdin_at = place_of(file);
		r = want_filled(p, file, "stdin: file", &s->stdin_file);
		if (r == 0 && file->text.len > PLAN_PATH_MAX)
			return WRONG(p, file, "stdin: file: longer than 4095 bytes");
		return r;
	}
	s->stdin_kind = PLAN_STDIN_BLOB;
	s->stdin_text_len = text->kind == YAML_SCALAR ? text->text.len : 0;
	return want_text(p, text, "stdin: text", &s->stdin_text);
}

static int env_compare(const void *a, const void *b)
{
	return strcmp(((const struct plan_env *)a)->name, ((const struct plan_env *)b)->name);
}

static int parse_env(const struct parse *p, const struct yaml_node *n, struct plan_step *s)
{
	int r = want_mapping(p, n, "env");

	if (r < 0)
		return r;
	if (n->count > PLAN_ENV_MAX)
		return WRONG(p, n, "env: more than %d variables", PLAN_ENV_MAX);
	s->env = calloc(n->count + 1, sizeof(*s->env));
	if (!s->env)
		return error_nomem(p->err);
	for (size_t i = 0; i < n->count; i++) {
		const struct yaml_node *key = n->pairs[i].key, *value = n->pairs[i].value;
		const char *c = key->text.data;
		bool ok = key->text.len <= 128 && !(c[0] >= '0' && c[0] <= '9');

		s->env_count = i + 1;
		for (size_t k = 0; k < key->text.len; k++)
			ok = ok && (c[k] == '_' || (c[k] >= '0' && c[k] <= '9') ||
				    (c[k] >= 'A' && c[k] <= 'Z') || (c[k] >= 'a' && c[k] <= 'z'));
		if (!ok)
			return WRONG(p, key,
				     "env: '%.64s' is not a variable's name; use letters, digits "
				     "and _, not beginning with a digit",
				     c);
		r = want_text(p, key, "env", &s->env[i].name);
		if (r == 0)
			r = want_text(p, value, "env", &s->env[i].value);
		if (r < 0)
			return r;
		if (value->text.len >= PLAN_ARG_BYTES_MAX)
			return WRONG(p, value, "env: a value of 128 KiB or more");
	}
	qsort(s->env, s->env_count, sizeof(*s->env), env_compare);
	return 0;
}

/* "1s..60s", or "5s" for the first wait alone. */
static int parse_backoff(const struct parse *p, const struct yaml_node *n, struct plan_retry *t)
{
	const char *text = n->text.data;
	const char *dots = n->kind == YAML_SCALAR ? strstr(text, "..") : NULL;
	size_t first = dots ? (size_t)(dots - text) : n->text.len;
	int r = want_duration(p, n, bytes_of(text, first), "retry: backoff", &t->first_ms);

	if (r < 0)
		return r;
	if (!dots) {
		t->cap_ms = t->first_ms > t->cap_ms ? t->first_ms : t->cap_ms;
		return 0;
	}
	r = want_duration(p, n, bytes_of(dots + 2, n->text.len - first - 2), "retry: backoff",
			  &t->cap_ms);
	if (r == 0 && t->cap_ms < t->first_ms)
		return WRONG(p, n, "retry: backoff: ends before it begins; write it as 1s..60s");
	return r;
}

static int parse_retry(const struct parse *p, struct yaml_node *n, struct plan_retry *t)
{
	struct yaml_node *v;
	uint64_t number;
	int r = WANT_KEYS(p, n, retry_keys, "retry"), word;

	if (r < 0)
		return r;
	t->on = PLAN_ON_ALL;
	v = yaml_get(n, "max");
	if (v) {
		r = want_number(p, v, "retry: max", 1, PLAN_RETRY_MAX, &number);
		if (r < 0)
			return r;
		t->max = (uint32_t)number;
	}
	v = yaml_get(n, "same_failure");
	if (v) {
		r = want_number(p, v, "retry: same_failure", 0, PLAN_RETRY_MAX, &number);
		if (r < 0)
			return r;
		t->same_failure = (uint32_t)number;
	}
	v = yaml_get(n, "backoff");
	r = v ? parse_backoff(p, v, t) : 0;
	if (r < 0)
		return r;
	v = yaml_get(n, "on");
	if (v) {
		r = want_sequence(p, v, "retry: on", ARRAY_SIZE(on_words));
		t->on = 0;
		for (size_t i = 0; r == 0 && i < v->count; i++) {
			r = want_word(p, v->items[i], "retry: on", on_words, ARRAY_SIZE(on_words),
				      &word);
			if (r == 0 && t->on & 1u << word)
				return WRONG(p, v->items[i], "retry: on: given twice");
			if (r == 0)
				t->on |= 1u << word;
		}
	}
	return r;
}

static int parse_check(const struct parse *p, struct yaml_node *n, struct plan_check *c)
{
	struct yaml_node *run, *expect, *code;
	uint64_t number = 0;
	int r = WANT_KEYS(p, n, check_keys, "check");

	if (r < 0)
		return r;
	run = yaml_get(n, "run");
	if (!run)
		return WRONG(p, n, "check: has no run; say which command decides");
	r = parse_argv(p, run, "check: run", &c->argv);
	if (r < 0)
		return r;
	expect = yaml_get(n, "expect");
	if (expect) {
		r = WANT_KEYS(p, expect, expect_keys, "check: expect");
		if (r < 0)
			return r;
		code = yaml_get(expect, "exit");
		r = code ? want_number(p, code, "check: expect: exit", 0, 255, &number) : 0;
		if (r < 0)
			return r;
	}
	c->expect_exit = (uint32_t)number;
	return 0;
}

static int parse_protected(const struct parse *p, const struct yaml_node *n, struct plan_step *s)
{
	int r = strings(p, n, "protected", PLAN_GLOBS_MAX, &s->protected_globs);

	for (size_t i = 0; r == 0 && i < n->count; i++) {
		const char *g = s->protected_globs[i];
		size_t len = strlen(g);
		bool up = strcmp(g, "..") == 0 || strncmp(g, "../", 3) == 0 || strstr(g, "/../") ||
			  (len >= 3 && strcmp(g + len - 3, "/..") == 0);

		if (!len || *g == '/' || up || len > PLAN_PATH_MAX)
			return WRONG(p, n->items[i],
				     "protected: '%.64s' is not a path below the workspace; write "
				     "it relative and without ..",
				     g);
	}
	return r;
}

static int parse_contract(const struct parse *p, struct yaml_node *n, struct plan_step *s)
{
	struct yaml_node *v;
	int r = WANT_KEYS(p, n, contract_keys, "contract");

	if (r < 0)
		return r;
	v = yaml_get(n, "checks");
	if (v) {
		r = want_sequence(p, v, "checks", PLAN_CHECKS_MAX);
		if (r < 0)
			return r;
		s->checks = calloc(v->count + 1, sizeof(*s->checks));
		if (!s->checks)
			return error_nomem(p->err);
		for (size_t i = 0; r == 0 && i < v->count; i++) {
			s->check_count = i + 1;
			r = parse_check(p, v->items[i], &s->checks[i]);
		}
		if (r < 0)
			return r;
	}
	v = yaml_get(n, "protected");
	return v ? parse_protected(p, v, s) : 0;
}

static int parse_cwd(const struct parse *p, const struct yaml_node *n, struct plan_step *s)
{
	int r = want_filled(p, n, "cwd", &s->cwd);
	const char *c;

	if (r < 0)
		return r;
	c = s->cwd;
	for (const char *at = c; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL)
		if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0'))
			c = "/";
	if (*c == '/' || n->text.len > PLAN_PATH_MAX)
		return WRONG(p, n,
			     "cwd: must be below the workspace; write it relative and without ..");
	return 0;
}

static int parse_step(const struct parse *p, struct yaml_node *n, struct plan_step *s)
{
	struct yaml_node *v, *name;
	int r = WANT_KEYS(p, n, step_keys, "step"), word = 0;

	if (r < 0)
		return r;
	plan_step_defaults(s);
	name = yaml_get(n, "name");
	if (!name)
		return WRONG(p, n, "step: has no name; give it one, by which others need it");
	s->line = name->line;
	s->column = name->column;
	r = want_name(p, name, "name", &s->name);
	if (r == 0 && (v = yaml_get(n, "needs")))
		r = parse_needs(p, v, s);
	if (r < 0)
		return r;
	v = yaml_get(n, "run");
	if (!v)
		return WRONG(p, n, "step '%s': has no run; say which command it is", s->name);
	r = parse_argv(p, v, "run", &s->argv);
	if (r == 0 && (v = yaml_get(n, "stdin")))
		r = parse_stdin(p, v, s);
	if (r == 0 && (v = yaml_get(n, "cwd")))
		r = parse_cwd(p, v, s);
	if (r == 0 && (v = yaml_get(n, "env")))
		r = parse_env(p, v, s);
	if (r == 0 && (v = yaml_get(n, "retry")))
		r = parse_retry(p, v, &s->retry);
	if (r == 0 && (v = yaml_get(n, "timeout")))
		r = want_duration(p, v, v->text, "timeout", &s->timeout_ms);
	if (r == 0 && (v = yaml_get(n, "deadline")))
		r = want_duration(p, v, v->text, "deadline", &s->deadline_ms);
	if (r == 0 && (v = yaml_get(n, "gate")))
		r = want_word(p, v, "gate", gate_words, ARRAY_SIZE(gate_words), &word);
	s->gate = (enum plan_gate)word;
	if (r == 0 && (v = yaml_get(n, "contract")))
		r = parse_contract(p, v, s);
	return r;
}

/* ---- the whole ---- */

static int parse_policy(const struct parse *p, const struct yaml_node *n, struct plan *plan)
{
	AUTO_BUFFER out = {0};

	plan->policy_at = place_of(n);
	if (n->kind == YAML_SCALAR)
		return want_filled(p, n, "policy", &plan->policy_path);
	if (n->kind != YAML_MAPPING)
		return WRONG(p, n, "policy: must be a file's path or a policy written here");
	if (plan_inline_policy(p->text, p->file, p->root, n, &out) < 0)
		return error_nomem(p->err);
	plan->policy_text = buffer_take(&out, &plan->policy_text_len);
	return 0;
}

static int parse_head(const struct parse *p, struct yaml_node *root, struct plan *plan)
{
	struct yaml_node *v = yaml_get(root, "version");
	uint64_t version;
	int r;

	if (!v)
		return WRONG(p, root, "plan: has no version; write `version: 1`");
	r = want_number(p, v, "version", 1, 1, &version);
	if (r == 0 && (v = yaml_get(root, "name")))
		r = want_name(p, v, "name", &plan->name);
	if (r == 0 && (v = yaml_get(root, "policy")))
		r = parse_policy(p, v, plan);
	if (r == 0 && (v = yaml_get(root, "workspace")))
		r = want_filled(p, v, "workspace", &plan->workspace);
	if (r == 0 && v && v->text.len > PLAN_PATH_MAX)
		return WRONG(p, v, "workspace: longer than 4095 bytes");
	if (v)
		plan->workspace_at = place_of(v);
	if (r == 0 && (v = yaml_get(root, "base")))
		r = want_word(p, v, "base", base_words, ARRAY_SIZE(base_words), &plan->base);
	if (r == 0 && (v = yaml_get(root, "land")))
		r = want_word(p, v, "land", land_words, ARRAY_SIZE(land_words), &plan->land);
	if (r == 0 && (v = yaml_get(root, "agency")))
		r = want_word(p, v, "agency", agency_words, ARRAY_SIZE(agency_words),
			      &plan->agency);
	return r;
}

/* Needs are looked up here and not in plan_check alone, because only here they have a place of
 * their own. */
static int check_need(const struct parse *p, const struct plan *plan, const struct yaml_node *need,
		      const char *what)
{
	AUTO_FREE const char **names = NULL;
	const char *near;

	if (plan_find(plan, need->text) >= 0)
		return 0;
	names = calloc(plan->step_count, sizeof(*names));
	if (!names)
		return error_nomem(p->err);
	for (size_t i = 0; i < plan->step_count; i++)
		names[i] = plan->steps[i].name;
	near = yaml_nearest(need->text, names, plan->step_count);
	if (near)
		return WRONG(p, need, "%s: no step is called '%.64s'; did you mean '%s'?", what,
			     (const char *)need->text.data, near);
	return WRONG(p, need, "%s: no step is called '%.64s'", what, (const char *)need->text.data);
}

static int check_needs(const struct parse *p, struct yaml_node *steps, const struct plan *plan)
{
	for (size_t i = 0; i < steps->count; i++) {
		struct yaml_node *needs = yaml_get(steps->items[i], "needs");
		struct yaml_node *in = yaml_get(steps->items[i], "stdin");
		struct yaml_node *from = in ? yaml_get(in, "from") : NULL;
		int r = 0;

		for (size_t k = 0; needs && r == 0 && k < needs->count; k++)
			r = check_need(p, plan, needs->items[k], "needs");
		if (r == 0 && from)
			r = check_need(p, plan, from, "stdin: from");
		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_steps(const struct parse *p, struct yaml_node *root, struct plan *plan)
{
	struct yaml_node *steps = yaml_get(root, "steps");
	struct error later = {0};
	int r, checked;

	if (!steps)
		return WRONG(p, root, "plan: has no steps; write `steps:` and a list of them");
	r = want_sequence(p, steps, "steps", PLAN_STEPS_MAX);
	if (r < 0)
		return r;
	if (steps->count == 0)
		return WRONG(p, steps, "steps: there is none; a plan has at least one");
	plan->steps = calloc(steps->count, sizeof(*plan->steps));
	if (!plan->steps)
		return error_nomem(p->err);
	for (size_t i = 0; i < steps->count; i++) {
		plan->step_count = i + 1;
		r = parse_step(p, steps->items[i], &plan->steps[i]);
		if (r < 0)
			return r;
	}
	/* Names must be indexed before needs can be looked up; but a need that is wrong has the
	 * better place. */
	checked = plan_check(plan, p->file, &later);
	r = plan->by_name ? check_needs(p, steps, plan) : 0;
	if (r == 0 && checked < 0) {
		if (p->err)
			*p->err = later;
		r = checked;
	}
	return r;
}

int plan_parse(struct bytes yaml, const char *file, struct plan **ret, struct error *err)
{
	AUTO(yaml_doc_free) struct yaml_doc *doc = NULL;
	AUTO(plan_free) struct plan *plan = NULL;
	struct parse p = {.text = yaml, .file = file, .err = err};
	struct yaml_node *root;
	int r = yaml_parse(yaml, file, &doc, err);

	if (r < 0)
		return r;
	plan = calloc(1, sizeof(*plan));
	if (!plan)
		return error_nomem(p.err);
	plan->base = plan->agency = -1;
	p.root = root = yaml_root(doc);
	r = WANT_KEYS(&p, root, plan_keys, "plan");
	if (r == 0)
		r = parse_head(&p, root, plan);
	if (r == 0)
		r = parse_steps(&p, root, plan);
	if (r < 0)
		return r;
	*ret = take_ptr(plan);
	return 0;
}
