/* A request from its words, as tests and `policy explain` write it. */
#include "policy/model.h"

enum { WORDS_MAX = 64 };

struct policy_question {
	struct policy_arena arena;
	struct policy_request r;
	struct policy_field fields[WORDS_MAX];
	struct bytes argv[WORDS_MAX];
};

static const char *const kinds[] = {"http", "git", "tcp", "tool", "read", "write", "exec"};

struct words {
	struct bytes v[WORDS_MAX];
	size_t n;
};

static int split(struct bytes text, struct words *w)
{
	const char *s = text.data;

	for (size_t at = 0; at < text.len;) {
		size_t start;

		while (at < text.len && s[at] == ' ')
			at++;
		start = at;
		while (at < text.len && s[at] != ' ')
			at++;
		if (at == start)
			break;
		if (w->n == WORDS_MAX)
			return -E2BIG;
		w->v[w->n++] = bytes_of(s + start, at - start);
	}
	return 0;
}

/* scheme://host[:port][/path][?query] */
static int split_url(struct bytes url, struct policy_request *r)
{
	const char *s = url.data;
	const char *mark = url.len > 3 ? memmem(s, url.len, "://", 3) : NULL;
	size_t at, start;

	if (!mark)
		return -EINVAL;
	r->http.scheme = bytes_of(s, (size_t)(mark - s));
	start = at = r->http.scheme.len + 3;
	while (at < url.len && !strchr("/?#", s[at]))
		at++;
	r->http.host = bytes_of(s + start, at - start);
	/* A bracketed or bare IPv6 address stays whole, and is refused as an address later. */
	for (size_t i = at; i > start && s[i - 1] != ']'; i--) {
		unsigned long port = 0;

		if (s[i - 1] != ':' || memchr(s + start, ':', i - 1 - start))
			continue;
		for (size_t d = i; d < at; d++) {
			if (s[d] < '0' || s[d] > '9' || port > 65535)
				return -EINVAL;
			port = 10 * port + (unsigned long)(s[d] - '0');
		}
		if (i == at || port == 0 || port > 65535)
			return -EINVAL;
		r->http.port = (uint16_t)port;
		r->http.host.len = i - 1 - start;
		break;
	}
	start = at;
	while (at < url.len && s[at] != '?')
		at++;
	r->http.path = bytes_of(s + start, at - start);
	if (at < url.len)
		r->http.query = bytes_of(s + at + 1, url.len - at - 1);
	return r->http.host.len && !memchr(s, '#', url.len) ? 0 : -EINVAL;
}

static int parse_http(struct policy_question *q, const struct words *w, struct error *err)
{
	if (w->n != 2 || split_url(w->v[1], &q->r) < 0)
		return error_set(err, -EINVAL,
				 "an http request is written METHOD URL, as in GET "
				 "https://example.com/path");
	q->r.http.method = w->v[0];
	return 0;
}

static int parse_git(struct policy_question *q, const struct words *w, struct error *err)
{
	struct policy_request *r = &q->r;

	if (w->n < 2)
		goto bad;
	r->git.push = bytes_equal(w->v[0], bytes_str("push"));
	if (!r->git.push && !bytes_equal(w->v[0], bytes_str("fetch")))
		goto bad;
	r->git.remote = w->v[1];
	for (size_t i = 2; i < w->n; i++) {
		if (bytes_equal(w->v[i], bytes_str("force")))
			r->git.force = true;
		else if (bytes_equal(w->v[i], bytes_str("delete")))
			r->git.remove = true;
		else if (i == 2)
			r->git.ref = w->v[i];
		else
			goto bad;
	}
	if (!r->git.push || r->git.ref.len)
		return 0;
bad:
	return error_set(err, -EINVAL,
			 "a git request is written push URL REF [force] [delete], or fetch URL "
			 "[REF], with a full ref such "
			 "as refs/heads/main");
}

static int parse_tcp(struct policy_question *q, const struct words *w, struct error *err)
{
	const char *s = w->n == 1 ? w->v[0].data : NULL;
	unsigned long port = 0;
	size_t colon;

	if (!s)
		goto bad;
	for (colon = w->v[0].len; colon > 0 && s[colon - 1] != ':'; colon--)
		;
	for (size_t i = colon; i < w->v[0].len; i++) {
		if (s[i] < '0' || s[i] > '9' || port > 65535)
			goto bad;
		port = 10 * port + (unsigned long)(s[i] - '0');
	}
	if (colon < 2 || port == 0 || port > 65535)
		goto bad;
	q->r.http.host = bytes_of(s, colon - 1);
	q->r.http.port = (uint16_t)port;
	return 0;
bad:
	return error_set(err, -EINVAL, "a tcp request is written host:port");
}

static int parse_tool(struct policy_question *q, const struct words *w, struct error *err)
{
	if (w->n < 1)
		return error_set(err, -EINVAL, "a tool request is written ID [name=value]...");
	q->r.tool = w->v[0];
	for (size_t i = 1; i < w->n; i++) {
		const char *s = w->v[i].data;
		const char *equals = memchr(s, '=', w->v[i].len);
		size_t len = equals ? (size_t)(equals - s) : 0;

		if (!len)
			return error_set(err, -EINVAL,
					 "an argument of a tool is written name=value");
		q->fields[i - 1] = (struct policy_field){
			.name = bytes_of(s, len),
			.value = bytes_of(s + len + 1, w->v[i].len - len - 1),
		};
	}
	q->r.fields = q->fields;
	q->r.field_count = w->n - 1;
	return 0;
}

static int parse_path(struct policy_question *q, struct bytes text, const struct policy_vars *vars,
		      struct error *err)
{
	const char *copy = policy_arena_text(&q->arena, text);
	const char *path;
	int code = copy ? policy_path_expand(&q->arena, copy, vars, &path) : -ENOMEM;

	if (code == -ENOMEM)
		return error_nomem(err);
	if (code < 0)
		return error_set(
			err, -EINVAL,
			"not a clean absolute path; begin with '/', ${workspace} or ${home}");
	q->r.path = bytes_str(path);
	return 0;
}

static int parse_exec(struct policy_question *q, const struct words *w,
		      const struct policy_vars *vars, struct error *err)
{
	if (w->n < 1)
		return error_set(err, -EINVAL,
				 "a command is written /path/of/command [argument]...");
	for (size_t i = 0; i < w->n; i++)
		q->argv[i] = w->v[i];
	q->r.argv = q->argv;
	q->r.argc = w->n;
	return parse_path(q, w->v[0], vars, err);
}

static int parse(struct policy_question *q, struct bytes text, const struct policy_vars *vars,
		 struct error *err)
{
	struct words w = {0};

	if (q->r.kind != POLICY_PATH_READ && q->r.kind != POLICY_PATH_WRITE && split(text, &w) < 0)
		return error_set(err, -EINVAL, "more than %d words", WORDS_MAX);
	switch (q->r.kind) {
	case POLICY_HTTP:
		return parse_http(q, &w, err);
	case POLICY_GIT:
		return parse_git(q, &w, err);
	case POLICY_TCP:
		return parse_tcp(q, &w, err);
	case POLICY_TOOL:
		return parse_tool(q, &w, err);
	case POLICY_PATH_READ:
	case POLICY_PATH_WRITE:
		return parse_path(q, text, vars, err);
	case POLICY_EXEC:
		return parse_exec(q, &w, vars, err);
	}
	return -EINVAL;
}

int policy_question_parse(const char *kind, const char *text, const struct policy_vars *vars,
			  struct policy_question **ret, struct error *err)
{
	struct policy_question *q;
	const char *copy;
	size_t i = 0;
	int code;

	while (i < ARRAY_SIZE(kinds) && strcmp(kinds[i], kind) != 0)
		i++;
	if (i == ARRAY_SIZE(kinds))
		return error_set(
			err, -EINVAL,
			"'%.40s' is no kind of request: http, git, tcp, tool, read, write or exec",
			kind);
	q = calloc(1, sizeof(*q));
	if (!q)
		return error_nomem(err);
	q->r.kind = (enum policy_kind)i;
	copy = policy_arena_text(&q->arena, bytes_str(text));
	code = copy ? parse(q, bytes_str(copy), vars, err) : error_nomem(err);
	if (code < 0) {
		policy_question_free(q);
		return code;
	}
	*ret = q;
	return 0;
}

void policy_question_free(struct policy_question *q)
{
	if (!q)
		return;
	policy_arena_free(&q->arena);
	free(q);
}

int policy_question_decide(const struct policy_question *q, const struct policy_effective *e,
			   const struct policy_vars *vars, struct policy_decision *ret)
{
	AUTO(policy_fs_free) struct policy_fs *fs = NULL;
	struct policy_request r = q->r;

	if (r.kind >= POLICY_PATH_READ) {
		struct error err = {0};
		int code = policy_fs_new(e, vars, &fs, &err);

		if (code < 0)
			return code;
		r.fs = fs;
	}
	policy_decide(e, &r, ret);
	return 0;
}
