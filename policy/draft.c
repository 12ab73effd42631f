/*
 * A policy file drafted from what a command wanted. Every rule stands for requests that were made,
 * named exactly; each is parsed by itself before it is written, so that what a rule cannot say (a
 * local name, an address, a path with a '*') becomes a comment and never something wider.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/escape.h"
#include "base/hex.h"
#include "policy/policy.h"

enum {
	VALUES_MAX = 64, /* paths or refs of one rule; further ones are counted */
	QUERY_MAX = 256, /* bytes: what a read may say in its query */
	ID_MAX = 100, /* bytes, before a number that makes it single */
};

struct draft {
	const struct policy_wanted **w; /* sorted */
	size_t count;
	struct policy_draft_result result;
	char **ids; /* owned */
	struct buffer *out;
};

static int by_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "");
}

static bool is_read(const struct policy_wanted *w)
{
	return w->kind == POLICY_WANTED_HTTP && !w->websocket &&
	       (by_text(w->method, "GET") == 0 || by_text(w->method, "HEAD") == 0);
}

/* What one rule is about: wants that differ in nothing here share it. */
static int by_group(const struct policy_wanted *a, const struct policy_wanted *b)
{
	int c = (int)a->kind - (int)b->kind;

	if (c == 0)
		c = by_text(a->host, b->host);
	if (c == 0)
		c = (int)a->port - (int)b->port;
	if (c == 0)
		c = by_text(a->scheme, b->scheme);
	if (c == 0)
		c = (int)is_read(b) - (int)is_read(a);
	if (c == 0 && !is_read(a))
		c = by_text(a->method, b->method);
	if (c == 0)
		c = by_text(a->remote, b->remote);
	if (c == 0)
		c = (int)a->push - (int)b->push;
	return c ? c : by_text(a->tool, b->tool);
}

static int by_all(const void *p, const void *q)
{
	const struct policy_wanted *a = *(const struct policy_wanted *const *)p,
				   *b = *(const struct policy_wanted *const *)q;
	int c = by_group(a, b);

	if (c == 0)
		c = by_text(a->path, b->path);
	return c ? c : by_text(a->ref, b->ref);
}

/* ---- text ---- */

static void put_shown(struct buffer *out, const char *text)
{
	escape_append(out, bytes_str(text ? text : ""), ESCAPE_LINE | ESCAPE_MARK_LOOKALIKE);
}

static void put_quoted(struct buffer *out, const char *text)
{
	buffer_append_byte(out, '"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f) { /* as it is YAML would fold a line's end */
			buffer_printf(out, "\\x%02X", c);
			continue;
		}
		if (c == '"' || c == '\\')
			buffer_append_byte(out, '\\');
		buffer_append_byte(out, c);
	}
	buffer_append_byte(out, '"');
}

/* A path as rules write it: decoded. Owned; NULL: it cannot be said, or there is no memory. */
static char *decoded(const char *path)
{
	char *out = malloc(strlen(path) + 1), *to = out;

	if (!out)
		return NULL;
	for (; *path; path++) {
		int hi = *path == '%' ? hex_capital((uint8_t)path[1]) : -1,
		    lo = hi >= 0 ? hex_capital((uint8_t)path[2]) : -1;
		char c = *path;

		if (lo >= 0)
			c = (char)(hi << 4 | lo);
		path += lo >= 0 ? 2 : 0;
		if (c == '*' || c == '%' || c == '\0') {
			free(out);
			return NULL;
		}
		*to++ = c;
	}
	*to = '\0';
	return out;
}

/* ---- one rule ---- */

/* Whether it stands in a file without an error; *msg says why not. */
static bool stands(struct bytes rule, char *msg, size_t size)
{
	AUTO(policy_free) struct policy *p = NULL;
	AUTO_BUFFER text = {0};
	struct error err = {0};

	if (memchr(rule.data, '*', rule.len)) {
		snprintf(msg, size, "a rule cannot name it exactly");
		return false;
	}
	buffer_append_str(&text, "version: 1\nname: draft\nnet:\n");
	buffer_append(&text, rule.data, rule.len);
	if (text.failed || policy_parse(buffer_bytes(&text), "", NULL, &p) < 0) {
		snprintf(msg, size, "out of memory");
		return false;
	}
	if (policy_check(p, &err) == 0)
		return true;
	snprintf(msg, size, "%s", err.msg);
	return false;
}

static int put_id(struct draft *d, struct buffer *rule, const struct policy_wanted *w)
{
	AUTO_BUFFER id = {0};
	const char *verb = w->kind == POLICY_WANTED_NAME  ? "ask"
			   : w->kind == POLICY_WANTED_TCP ? "tcp"
			   : w->kind == POLICY_WANTED_GIT ? (w->push ? "push" : "fetch")
			   : is_read(w)			  ? "read"
			   : w->method && *w->method	  ? w->method
							  : "any";
	const char *of = w->kind == POLICY_WANTED_GIT ? w->remote + strlen("https://") : w->host;
	size_t n;

	buffer_printf(&id, "%s-%.*s", verb, ID_MAX, of);
	if (w->port && w->kind != POLICY_WANTED_GIT && w->port != 443)
		buffer_printf(&id, "-%u", w->port);
	if (id.failed)
		return id.failed;
	for (n = 0; n < id.len; n++) {
		char *c = (char *)&id.data[n];

		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c + 32);
		else if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '.' ||
			   *c == '-'))
			*c = '-';
	}
	for (unsigned again = 1, i = 0; i < d->result.rules; i++) {
		if (strcmp(d->ids[i], (const char *)id.data) != 0)
			continue;
		id.len = n;
		buffer_printf(&id, "-%u", ++again);
		i = (unsigned)-1; /* against all of them once more */
	}
	buffer_printf(rule, "  - id: %s\n", (const char *)id.data);
	d->ids[d->result.rules] = bytes_dup_str(buffer_bytes(&id));
	return d->ids[d->result.rules] ? rule->failed : -ENOMEM;
}

static void put_http(struct buffer *rule, const struct policy_wanted *const *w, size_t n)
{
	const struct policy_wanted *first = w[0];
	bool plain = by_text(first->scheme, "http") == 0;
	bool get = false, head = false;

	for (size_t i = 0; i < n; i++) {
		get |= by_text(w[i]->method, "GET") == 0;
		head |= by_text(w[i]->method, "HEAD") == 0;
	}
	buffer_append_str(rule, "    http:\n");
	if (plain)
		buffer_append_str(rule, "      scheme: http\n");
	buffer_append_str(rule, "      host: ");
	put_quoted(rule, first->host);
	if (first->port && first->port != (plain ? 80 : 443))
		buffer_printf(rule, "\n      port: %u", first->port);
	if (is_read(first))
		buffer_printf(rule, "\n      method: [%s%s%s]\n      query_max: %d",
			      get ? "GET" : "", get && head ? ", " : "", head ? "HEAD" : "",
			      QUERY_MAX);
	else if (first->method && *first->method) {
		buffer_append_str(rule, "\n      method: [");
		put_quoted(rule, first->method);
		buffer_append_str(rule, "]");
	}
	buffer_append_str(rule, "\n");
}

/* Without its list of paths or refs. */
static void put_head(struct buffer *rule, const struct policy_wanted *const *w, size_t n)
{
	const struct policy_wanted *first = w[0];
	bool read = is_read(first) || (first->kind == POLICY_WANTED_GIT && !first->push);

	buffer_printf(rule, "    do: %s\n%s", read ? "allow" : "ask",
		      read ? "    effect: read\n" : "");
	if (first->kind == POLICY_WANTED_HTTP || first->kind == POLICY_WANTED_NAME) {
		put_http(rule, w, n);
	} else if (first->kind == POLICY_WANTED_TCP) {
		buffer_append_str(rule, "    tcp: {host: ");
		put_quoted(rule, first->host);
		buffer_printf(rule, ", port: %u}\n", first->port);
	} else {
		buffer_append_str(rule, "    git:\n      remote: ");
		put_quoted(rule, first->remote);
		buffer_printf(rule, "\n      op: %s\n", first->push ? "push" : "fetch");
	}
}

static void leave_out(struct draft *d, const char *what, const char *more, uint64_t times,
		      const char *why)
{
	buffer_append_str(d->out, "  # left out: ");
	put_shown(d->out, what);
	buffer_append_str(d->out, more && *more ? " " : "");
	put_shown(d->out, more);
	buffer_printf(d->out, " (%llu): ", (unsigned long long)times);
	put_shown(d->out, why);
	buffer_append_str(d->out, "\n");
	d->result.left_out++;
}

/* The path or ref of w, if it can stand in a rule of its own; else a comment. Owned. */
static char *value_of(struct draft *d, const struct policy_wanted *w, struct bytes head)
{
	bool ref = w->kind == POLICY_WANTED_GIT;
	char *value = ref ? strdup(w->ref) : decoded(w->path);
	AUTO_BUFFER one = {0};
	char msg[POLICY_WHY_MAX] = "a rule cannot name it exactly";

	if (ref && (w->force || w->remove))
		snprintf(msg, sizeof(msg), "%s is not drafted; write 'force' or 'delete' yourself",
			 w->remove ? "a deletion" : "a forced update");
	else if (w->cut)
		snprintf(msg, sizeof(msg), "its path is too long to be recorded whole");
	else if (value) {
		buffer_append_str(&one, "  - id: one\n");
		buffer_append(&one, head.data, head.len);
		buffer_append_str(&one, ref ? "      refs: [" : "      path: [");
		put_quoted(&one, value);
		buffer_append_str(&one, "]\n");
		if (stands(buffer_bytes(&one), msg, sizeof(msg)))
			return value;
	}
	leave_out(d, ref ? w->remote : w->host, ref ? w->ref : w->path, w->count, msg);
	free(value);
	return NULL;
}

/* The list of a group's values; how many it has. */
static size_t put_values(struct draft *d, struct buffer *rule, const struct policy_wanted *const *w,
			 size_t n, struct bytes head)
{
	bool ref = w[0]->kind == POLICY_WANTED_GIT;
	size_t put = 0, more = 0;

	for (size_t i = 0; i < n; i++) {
		bool same = i > 0 && (ref ? by_text(w[i]->ref, w[i - 1]->ref)
					  : by_text(w[i]->path, w[i - 1]->path)) == 0;

		if (same && !w[i]->force && !w[i]->remove)
			continue;
		if (put == VALUES_MAX) {
			more++;
			continue;
		}
		AUTO_FREE char *value = value_of(d, w[i], head);
		if (!value)
			continue;
		buffer_append_str(rule, put   ? "        - "
					: ref ? "      refs:\n        - "
					      : "      path:\n        - ");
		put_quoted(rule, value);
		buffer_printf(rule, " # %llu\n", (unsigned long long)w[i]->count);
		put++;
	}
	if (more)
		buffer_printf(rule, "        # and %zu more, which are not listed\n", more);
	return put;
}

static bool has_values(const struct policy_wanted *w)
{
	return w->kind == POLICY_WANTED_HTTP || (w->kind == POLICY_WANTED_GIT && w->push);
}

static void put_why(struct buffer *out, const struct policy_wanted *const *w, size_t n)
{
	const struct policy_wanted *said = w[0];
	uint64_t times = 0, allowed = 0;

	for (size_t i = 0; i < n; i++) {
		times += w[i]->count;
		allowed += w[i]->allowed ? w[i]->count : 0;
		if (!w[i]->allowed)
			said = w[i];
	}
	buffer_printf(out, "  # wanted %llu time%s", (unsigned long long)times,
		      times == 1 ? "" : "s");
	if (allowed == times) {
		buffer_append_str(out, ", and allowed by '");
		put_shown(out, said->rule);
		buffer_append_str(out, "' already");
	} else if (said->why && *said->why) {
		buffer_append_str(out, "; ");
		put_shown(out, said->why);
	}
	buffer_append_str(out, "\n");
	if (said->secret && *said->secret) {
		buffer_append_str(out, "  # that rule puts in the secret '");
		put_shown(out, said->secret);
		buffer_append_str(out, "': none is drafted, keep it\n");
	}
	if (w[0]->kind == POLICY_WANTED_NAME)
		buffer_append_str(out,
				  "  # only the name is known: learn again with this file to see "
				  "methods and paths\n");
}

static int put_rule(struct draft *d, const struct policy_wanted *const *w, size_t n)
{
	AUTO_BUFFER head = {0};
	AUTO_BUFFER rule = {0};
	AUTO_BUFFER values = {0};
	char msg[POLICY_WHY_MAX];
	uint64_t times = 0;
	int r;

	for (size_t i = 0; i < n; i++)
		times += w[i]->count;
	put_head(&head, w, n);
	if (has_values(w[0]) && put_values(d, &values, w, n, buffer_bytes(&head)) == 0)
		return head.failed;
	r = put_id(d, &rule, w[0]);
	buffer_append(&rule, head.data, head.len);
	buffer_append(&rule, values.data, values.len);
	if (r < 0 || rule.failed)
		return r < 0 ? r : rule.failed;
	if (!stands(buffer_bytes(&rule), msg, sizeof(msg))) {
		free(d->ids[d->result.rules]);
		d->ids[d->result.rules] = NULL;
		leave_out(d, w[0]->kind == POLICY_WANTED_GIT ? w[0]->remote : w[0]->host, "", times,
			  msg);
		return 0;
	}
	d->result.rules++;
	d->result.names += w[0]->kind == POLICY_WANTED_NAME;
	put_why(d->out, w, n);
	return buffer_append(d->out, rule.data, rule.len);
}

/* ---- the file ---- */

/* Its requests say more than its name. */
static bool is_known_otherwise(const struct draft *d, const struct policy_wanted *name)
{
	for (size_t i = 0; i < d->count; i++)
		if (d->w[i]->kind != POLICY_WANTED_NAME && d->w[i]->host &&
		    strcmp(d->w[i]->host, name->host) == 0)
			return true;
	return false;
}

static bool is_reverse(const char *host)
{
	size_t n = strlen(host);

	return n > 5 && strcmp(host + n - 5, ".arpa") == 0;
}

static int put_group(struct draft *d, size_t from, size_t to)
{
	const struct policy_wanted *first = d->w[from];
	uint64_t times = 0;

	for (size_t i = from; i < to; i++)
		times += d->w[i]->count;
	if (first->kind == POLICY_WANTED_TOOL) {
		leave_out(d, "tool", first->tool, times,
			  "a tool is a command that you name; write it under 'tools'");
		return 0;
	}
	if (first->kind == POLICY_WANTED_NAME && is_known_otherwise(d, first))
		return 0;
	if (first->kind == POLICY_WANTED_NAME && is_reverse(first->host)) {
		leave_out(d, first->host, "", times, "it asks what an address is called");
		return 0;
	}
	if (first->kind == POLICY_WANTED_GIT && first->push && !(first->ref && *first->ref)) {
		leave_out(d, "push to", first->remote, times,
			  "which refs it pushes is not known; write them under 'refs'");
		return 0;
	}
	if (first->websocket) {
		leave_out(d, "WebSocket", first->host, times,
			  "opaque once it is open; write it yourself");
		return 0;
	}
	return put_rule(d, d->w + from, to - from);
}

static void put_comments(struct buffer *out, const char *const *lines)
{
	for (; lines && *lines; lines++) {
		buffer_append_str(out, "# ");
		put_shown(out, *lines);
		buffer_append_str(out, "\n");
	}
}

int policy_draft(const struct policy_wanted *wanted, size_t count,
		 const struct policy_draft_words *words, struct buffer *out,
		 struct policy_draft_result *ret)
{
	AUTO_BUFFER rules = {0};
	struct draft d = {.count = count, .out = &rules};
	int r = 0;

	d.w = calloc(count + 1, sizeof(*d.w));
	d.ids = calloc(count + 1, sizeof(*d.ids));
	if (!d.w || !d.ids)
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && i < count; i++)
		d.w[i] = &wanted[i];
	if (r == 0)
		qsort(d.w, count, sizeof(*d.w), by_all);
	for (size_t i = 0, to; r == 0 && i < count; i = to) {
		for (to = i + 1; to < count && by_group(d.w[i], d.w[to]) == 0; to++)
			;
		r = put_group(&d, i, to);
	}
	put_comments(out, words->head);
	buffer_printf(out, "version: 1\nname: draft\nextends: [%s]\n%s", words->extends,
		      d.result.rules ? "net:\n" : "net: []\n");
	buffer_append(out, rules.data, rules.len);
	put_comments(out, words->tail);
	for (size_t i = 0; d.ids && i < d.result.rules; i++)
		free(d.ids[i]);
	free(d.ids);
	free(d.w);
	*ret = d.result;
	return r < 0 ? r : rules.failed < 0 ? rules.failed : out->failed;
}
