/*
 * What a plan is, whoever wrote it: its rules, its canonical form, its memory. plan_parse.c reads
 * it from YAML.
 */
#include "supervisor/plan.h"
#include <errno.h>
#include <stdlib.h>
#include "base/utf8.h"
#include "journal/journal.h"

/* ---- memory ---- */

static void strings_free(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

static void step_clear(struct plan_step *s)
{
	free(s->name);
	strings_free(s->needs);
	strings_free(s->argv);
	free(s->cwd);
	free(s->stdin_step);
	free(s->stdin_file);
	free(s->stdin_text);
	for (size_t i = 0; i < s->env_count; i++) {
		free(s->env[i].name);
		free(s->env[i].value);
	}
	free(s->env);
	for (size_t i = 0; i < s->check_count; i++)
		strings_free(s->checks[i].argv);
	free(s->checks);
	strings_free(s->protected_globs);
}

void plan_step_free(struct plan_step *s)
{
	if (s)
		step_clear(s);
	free(s);
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	free(p->name);
	free(p->policy_path);
	free(p->policy_text);
	free(p->workspace);
	for (size_t i = 0; i < p->step_count; i++)
		step_clear(&p->steps[i]);
	free(p->steps);
	free(p->by_name);
	free(p);
}

void plan_step_defaults(struct plan_step *s)
{
	s->retry = (struct plan_retry){.max = 3,
				       .first_ms = 1000,
				       .cap_ms = 60 * 1000,
				       .on = PLAN_ON_INFRA};
}

/* ---- rules ---- */

static int PRINTF_LIKE(4, 5)
	bad(struct error *err, const char *file, const struct plan_step *s, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	error_vset(err, -EINVAL, fmt, args);
	va_end(args);
	if (err)
		err->exit_status = EXIT_STATUS_USAGE;
	if (file && s->line)
		error_where(err, "%s:%d:%d", file, s->line, s->column);
	return -EINVAL;
}

static const char *check_argv(char **argv)
{
	size_t n = plan_strings_count(argv);

	if (n == 0)
		return "no command";
	if (n > PLAN_ARGV_MAX)
		return "more than 4096 arguments";
	if (argv[0][0] == '\0')
		return "an empty command";
	for (size_t i = 0; i < n; i++)
		if (strlen(argv[i]) >= PLAN_ARG_BYTES_MAX)
			return "an argument of 128 KiB or more";
	return NULL;
}

/* Relative, and stays below where it starts. */
static bool path_below(const char *path)
{
	if (!*path || *path == '/' || strlen(path) > PLAN_PATH_MAX)
		return false;
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.')
			return false;
		p += n;
		p += strspn(p, "/");
	}
	return true;
}

static bool env_name(const char *name)
{
	if (!*name || (*name >= '0' && *name <= '9') || strlen(name) > 128)
		return false;
	for (const char *c = name; *c; c++)
		if (!(*c == '_' || (*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') ||
		      (*c >= 'a' && *c <= 'z')))
			return false;
	return true;
}

static int check_env(const struct plan_step *s, const char *file, struct error *err)
{
	if (s->env_count > PLAN_ENV_MAX)
		return bad(err, file, s, "step '%s': env: more than %d variables", s->name,
			   PLAN_ENV_MAX);
	for (size_t i = 0; i < s->env_count; i++) {
		if (!env_name(s->env[i].name))
			return bad(err, file, s,
				   "step '%s': env: '%.64s' is not a variable's name; use letters, "
				   "digits and _, not beginning with a digit",
				   s->name, s->env[i].name);
		if (strlen(s->env[i].value) >= PLAN_ARG_BYTES_MAX)
			return bad(err, file, s, "step '%s': env: '%s' has 128 KiB or more",
				   s->name, s->env[i].name);
		if (i && strcmp(s->env[i - 1].name, s->env[i].name) >= 0)
			return bad(err, file, s, "step '%s': env: '%s' is given twice", s->name,
				   s->env[i].name);
	}
	return 0;
}

static int check_contract(const struct plan_step *s, const char *file, struct error *err)
{
	size_t globs = plan_strings_count(s->protected_globs);

	if (s->check_count > PLAN_CHECKS_MAX)
		return bad(err, file, s, "step '%s': contract: more than %d checks", s->name,
			   PLAN_CHECKS_MAX);
	for (size_t i = 0; i < s->check_count; i++) {
		const char *why = check_argv(s->checks[i].argv);
		if (why)
			return bad(err, file, s, "step '%s': contract: check %zu has %s", s->name,
				   i + 1, why);
		if (s->checks[i].expect_exit > 255)
			return bad(err, file, s, "step '%s': contract: exit is 0 to 255", s->name);
	}
	if (globs > PLAN_GLOBS_MAX)
		return bad(err, file, s, "step '%s': contract: more than %d protected paths",
			   s->name, PLAN_GLOBS_MAX);
	for (size_t i = 0; i < globs; i++)
		if (!path_below(s->protected_globs[i]))
			return bad(err, file, s,
				   "step '%s': protected: '%.64s' is not a path below the "
				   "workspace; write it relative and without ..",
				   s->name, s->protected_globs[i]);
	return 0;
}

static int check_stdin(const struct plan_step *s, const char *file, struct error *err)
{
	bool ok = true;

	switch (s->stdin_kind) {
	case PLAN_STDIN_NONE:
		ok = !s->stdin_step && !s->stdin_file && !s->stdin_text;
		break;
	case PLAN_STDIN_STEP:
		ok = false;
		for (size_t i = 0; s->stdin_step && s->needs && s->needs[i]; i++)
			ok |= strcmp(s->needs[i], s->stdin_step) == 0;
		break;
	case PLAN_STDIN_BLOB:
		ok = s->stdin_text_len <= PLAN_TEXT_MAX;
		break;
	case PLAN_STDIN_FILE:
		ok = s->stdin_file && *s->stdin_file && strlen(s->stdin_file) <= PLAN_PATH_MAX;
		break;
	}
	if (!ok)
		return bad(err, file, s, "step '%s': stdin: not usable", s->name);
	return 0;
}

int plan_step_check(const struct plan_step *s, const char *file, struct error *err)
{
	const struct plan_retry *t = &s->retry;
	size_t needs = plan_strings_count(s->needs);
	const char *why;
	int r;

	if (!s->name || utf8_check_name(bytes_str(s->name)) < 0)
		return bad(err, file, s,
			   "a step's name is 1 to 128 bytes of UTF-8 without '/', '#', control or "
			   "invisible characters");
	why = check_argv(s->argv);
	if (why)
		return bad(err, file, s, "step '%s': run: %s", s->name, why);
	if (needs > PLAN_NEEDS_MAX)
		return bad(err, file, s, "step '%s': needs: more than %d", s->name, PLAN_NEEDS_MAX);
	for (size_t i = 0; i < needs; i++) {
		if (strcmp(s->needs[i], s->name) == 0)
			return bad(err, file, s, "step '%s': needs: itself", s->name);
		if (utf8_check_name(bytes_str(s->needs[i])) < 0)
			return bad(err, file, s, "step '%s': needs: not a step's name", s->name);
		for (size_t k = 0; k < i; k++)
			if (strcmp(s->needs[i], s->needs[k]) == 0)
				return bad(err, file, s, "step '%s': needs: '%s' is given twice",
					   s->name, s->needs[i]);
	}
	if (s->cwd && !path_below(s->cwd))
		return bad(err, file, s,
			   "step '%s': cwd: must be below the workspace; write it relative and "
			   "without ..",
			   s->name);
	if (t->max < 1 || t->max > PLAN_RETRY_MAX)
		return bad(err, file, s, "step '%s': retry: max is 1 to %d", s->name,
			   PLAN_RETRY_MAX);
	if (t->same_failure > PLAN_RETRY_MAX)
		return bad(err, file, s, "step '%s': retry: same_failure is 0 to %d", s->name,
			   PLAN_RETRY_MAX);
	if (t->first_ms > t->cap_ms || t->cap_ms > PLAN_DURATION_MAX_MS)
		return bad(err, file, s, "step '%s': retry: backoff must grow, to 366d at most",
			   s->name);
	if (t->on & ~(unsigned)PLAN_ON_ALL)
		return bad(err, file, s, "step '%s': retry: on: unknown kind", s->name);
	if (s->timeout_ms > PLAN_DURATION_MAX_MS || s->deadline_ms > PLAN_DURATION_MAX_MS)
		return bad(err, file, s, "step '%s': more than 366d", s->name);
	if (s->gate < PLAN_GATE_NONE || s->gate > PLAN_GATE_COMMIT)
		return bad(err, file, s, "step '%s': gate: unknown", s->name);
	r = check_stdin(s, file, err);
	if (r == 0)
		r = check_env(s, file, err);
	if (r == 0)
		r = check_contract(s, file, err);
	return r;
}

static int by_name_compare(const void *a, const void *b, void *arg)
{
	const struct plan *p = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int c = strcmp(p->steps[x].name, p->steps[y].name);

	return c ? c : (x > y) - (x < y);
}

static int index_names(struct plan *p, const char *file, struct error *err)
{
	free(p->by_name);
	p->by_name = calloc(p->step_count + 1, sizeof(*p->by_name));
	if (!p->by_name)
		return error_nomem(err);
	for (size_t i = 0; i < p->step_count; i++)
		p->by_name[i] = (uint32_t)i;
	qsort_r(p->by_name, p->step_count, sizeof(*p->by_name), by_name_compare, p);
	for (size_t i = 1; i < p->step_count; i++) {
		const struct plan_step *a = &p->steps[p->by_name[i - 1]];
		const struct plan_step *b = &p->steps[p->by_name[i]];
		if (strcmp(a->name, b->name) == 0)
			return a->line ? bad(err, file, b,
					     "step '%s' is already there, at line %d; give each "
					     "step its own name",
					     b->name, a->line)
				       : bad(err, file, b, "step '%s' is there twice", b->name);
	}
	return 0;
}

int plan_find(const struct plan *p, struct bytes name)
{
	size_t lo = 0, hi = p->step_count;

	while (p->by_name && lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = bytes_compare(bytes_str(p->steps[p->by_name[mid]].name), name);

		if (c == 0)
			return (int)p->by_name[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return -ENOENT;
}

/* Says the whole way round: "a needs b needs a". left[i] is not 0 for every step that is on or
 * behind a cycle. */
static int report_cycle(const struct plan *p, const uint32_t *left, const char *file,
			struct error *err)
{
	AUTO_FREE uint32_t *seen = calloc(p->step_count, sizeof(*seen));
	char text[160] = "";
	size_t at = 0, used = 0;
	uint32_t order = 0;

	if (!seen)
		return error_nomem(err);
	while (!left[at])
		at++;
	while (!seen[at]) {
		seen[at] = ++order;
		for (char **n = p->steps[at].needs; *n; n++) {
			size_t next = (size_t)plan_find(p, bytes_str(*n));
			if (left[next]) {
				at = next;
				break;
			}
		}
	}
	for (size_t i = at, first = true; first || i != at; first = false) {
		int n = snprintf(text + used, sizeof(text) - used, "'%.40s' needs ",
				 p->steps[i].name);
		if (used + (size_t)n >= sizeof(text) - 8) {
			snprintf(text + used, sizeof(text) - used, "... ");
			break;
		}
		used += (size_t)n;
		for (char **need = p->steps[i].needs; *need; need++) {
			size_t next = (size_t)plan_find(p, bytes_str(*need));
			if (left[next]) {
				i = next;
				break;
			}
		}
	}
	return bad(err, file, &p->steps[at], "a cycle: %s'%.40s'; no step of it could ever start",
		   text, p->steps[at].name);
}

/* Kahn's algorithm: takes away what can start until nothing can; what is left over stands on a
 * cycle. */
static int check_cycles(const struct plan *p, const char *file, struct error *err)
{
	size_t n = p->step_count, edges = 0, head = 0, tail = 0;
	AUTO_FREE uint32_t *left = calloc(n + 1, sizeof(*left));
	AUTO_FREE size_t *start = calloc(n + 2, sizeof(*start));
	AUTO_FREE uint32_t *ready = calloc(n + 1, sizeof(*ready));
	AUTO_FREE uint32_t *dependents = NULL;

	if (!left || !start || !ready)
		return error_nomem(err);
	for (size_t i = 0; i < n; i++) {
		left[i] = (uint32_t)plan_strings_count(p->steps[i].needs);
		edges += left[i];
		for (size_t k = 0; k < left[i]; k++) {
			int need = plan_find(p, bytes_str(p->steps[i].needs[k]));
			if (need < 0)
				return bad(err, file, &p->steps[i],
					   "step '%s': needs: no step is called '%s'",
					   p->steps[i].name, p->steps[i].needs[k]);
			start[need + 2]++;
		}
	}
	dependents = calloc(edges + 1, sizeof(*dependents));
	if (!dependents)
		return error_nomem(err);
	for (size_t i = 1; i < n + 2; i++)
		start[i] += start[i - 1];
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < left[i]; k++) {
			int need = plan_find(p, bytes_str(p->steps[i].needs[k]));
			dependents[start[need + 1]++] = (uint32_t)i;
		}
	for (size_t i = 0; i < n; i++)
		if (left[i] == 0)
			ready[tail++] = (uint32_t)i;
	while (head < tail) {
		uint32_t at = ready[head++];
		for (size_t k = start[at]; k < start[at + 1]; k++)
			if (--left[dependents[k]] == 0)
				ready[tail++] = dependents[k];
	}
	return tail == n ? 0 : report_cycle(p, left, file, err);
}

int plan_check(struct plan *p, const char *file, struct error *err)
{
	static const struct plan_step whole;
	int r;

	if (p->name && utf8_check_name(bytes_str(p->name)) < 0)
		return bad(err, file, &whole,
			   "name: 1 to 128 bytes of UTF-8 without '/', '#', control or invisible "
			   "characters");
	if (p->step_count == 0 && !p->outside_driver)
		return bad(err, file, &whole, "steps: there is none");
	if (p->step_count > PLAN_STEPS_MAX)
		return bad(err, file, &whole, "steps: more than %d", PLAN_STEPS_MAX);
	if (p->base < -1 || p->base > JOURNAL_BASE_PINNED || p->land < JOURNAL_LAND_AUTO ||
	    p->land > JOURNAL_LAND_NEVER || p->agency < -1 || p->agency > 4)
		return bad(err, file, &whole, "base, land or agency: out of range");
	for (size_t i = 0; i < p->step_count; i++) {
		r = plan_step_check(&p->steps[i], file, err);
		if (r < 0)
			return r;
	}
	r = index_names(p, file, err);
	return r < 0 ? r : check_cycles(p, file, err);
}
