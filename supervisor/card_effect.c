#include "supervisor/card_effect.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>
#include "base/escape.h"
#include "base/json.h"
#include "base/utf8.h"
#include "supervisor/card.h"
#include "supervisor/effect_decide.h"

enum {
	WRAP = 120, /* bytes of others' text in one line */
	TITLE_MAX = 64, /* of what the first line tells actions apart by; all of it stands below */
};

struct card {
	const struct card_effect *in;
	struct buffer *out;
	bool complete;
	struct error *err;
};

/* ---- text of others: whole, visible, never beginning a line ---- */

static void put(struct card *c, struct bytes text)
{
	AUTO_BUFFER shown = {0};
	size_t at = 0;

	escape_append(&shown, text, ESCAPE_LINE | ESCAPE_MARK_LOOKALIKE);
	if (shown.failed) {
		c->out->failed = shown.failed;
		return;
	}
	while (at < shown.len) {
		size_t n = shown.len - at < WRAP ? shown.len - at : WRAP;

		while (at + n < shown.len && n > 1 && (shown.data[at + n] & 0xc0) == 0x80)
			n--;
		buffer_append(c->out, shown.data + at, n);
		at += n;
		if (at < shown.len)
			buffer_append_str(c->out, "\n          > ");
	}
}

static void put_str(struct card *c, const char *text)
{
	put(c, bytes_str(text ? text : ""));
}

static void label(struct card *c, const char *name)
{
	buffer_printf(c->out, "%-10s ", name);
}

static void line(struct card *c, const char *name, struct bytes value)
{
	label(c, name);
	put(c, value);
	buffer_append_byte(c->out, '\n');
}

static int not_shown(struct card *c, const char *why)
{
	return error_set(c->err, -ENOTSUP, "%s", why);
}

static void put_time(struct card *c, const char *name, int64_t ns)
{
	time_t s = (time_t)(ns / 1000000000);
	struct tm tm;

	if (ns <= 0 || !gmtime_r(&s, &tm))
		return;
	label(c, name);
	buffer_printf(c->out, "%04d-%02d-%02d %02d:%02d:%02d UTC\n", tm.tm_year + 1900,
		      tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* ---- the first line, and where it goes ---- */

/* The registrable part in brackets: api.[github.com]. */
static void put_host(struct card *c)
{
	struct bytes host = c->in->action->host, domain = c->in->domain;
	size_t before = host.len - domain.len;

	if (domain.len == 0 || domain.len > host.len) {
		put(c, host);
		return;
	}
	put(c, bytes_of(host.data, before));
	buffer_append_byte(c->out, '[');
	put(c, bytes_of((const char *)host.data + before, domain.len));
	buffer_append_byte(c->out, ']');
}

/* Never more than one line, since a title is: cut, and said so. */
static void put_short(struct card *c, struct bytes text)
{
	AUTO_BUFFER shown = {0};
	size_t n;

	escape_append(&shown, text, ESCAPE_LINE | ESCAPE_MARK_LOOKALIKE);
	if (shown.failed)
		c->out->failed = shown.failed;
	n = utf8_cut(buffer_bytes(&shown), TITLE_MAX).len;
	if (n)
		buffer_append(c->out, shown.data, n);
	if (n < shown.len)
		buffer_append_str(c->out, "...");
}

/* Of https://host/path, the path. */
static struct bytes path_of_remote(struct bytes remote)
{
	const char *text = remote.data, *end = text + remote.len,
		   *host = remote.len ? memmem(text, remote.len, "://", 3) : NULL,
		   *path = host ? memchr(host + 3, '/', (size_t)(end - host - 3)) : NULL;

	return path ? bytes_of(path, (size_t)(end - path)) : bytes_of("", 0);
}

static void put_call(struct card *c)
{
	const struct action *a = c->in->action;
	AUTO_BUFFER text = {0};

	for (size_t i = 0; i < a->arg_count; i++)
		buffer_printf(&text, " %.*s=%.*s", (int)a->args[i].name.len,
			      (const char *)a->args[i].name.data, (int)a->args[i].value.len,
			      (const char *)a->args[i].value.data);
	if (text.failed)
		c->out->failed = text.failed;
	else
		put_short(c, buffer_bytes(&text));
}

static void put_verb(struct card *c)
{
	const struct action *a = c->in->action;
	const char *title = c->in->rule ? c->in->rule->card_title : NULL;

	if (c->in->kind == JOURNAL_KIND_DOUBT)
		buffer_append_str(c->out, "IN DOUBT, it may have happened: ");
	if (title) {
		put_str(c, title);
		buffer_append_str(c->out, ": ");
	}
	switch (a->kind) {
	case ACTION_HTTP:
		put(c, a->method);
		buffer_append_byte(c->out, ' ');
		put_host(c);
		put_short(c, a->path);
		break;
	case ACTION_GIT:
		buffer_append_str(c->out, a->push ? "git push to " : "git fetch from ");
		put_host(c);
		put_short(c, path_of_remote(a->remote));
		break;
	case ACTION_TCP:
		buffer_append_str(c->out, "open connection to ");
		put_host(c);
		break;
	case ACTION_TOOL:
		buffer_append_str(c->out, "run tool ");
		put(c, a->tool);
		put_call(c);
		break;
	}
	buffer_append_byte(c->out, '\n');
}

static bool has_punycode(struct bytes host)
{
	return memmem(host.data, host.len, "xn--", 4) != NULL;
}

static void put_destination(struct card *c)
{
	const struct action *a = c->in->action;

	if (a->kind == ACTION_TOOL)
		return;
	label(c, "to");
	put(c, a->scheme);
	buffer_append_str(c->out, "://");
	put(c, a->host);
	buffer_printf(c->out, ":%u", a->port);
	put(c, a->path);
	buffer_append_byte(c->out, '\n');
	if (has_punycode(a->host))
		buffer_append_str(c->out, "           the name has letters outside of ASCII: it is "
					  "shown as the network sees it\n");
	if (a->query.len)
		line(c, "query", a->query);
	if (a->websocket)
		buffer_append_str(c->out, "           then an open stream both ways, of which "
					  "nothing is known\n");
	if (a->kind == ACTION_TCP)
		buffer_append_str(
			c->out, "           an open stream both ways, of which nothing is known\n");
}

/* ---- what is sent ---- */

static void put_updates(struct card *c)
{
	const struct action *a = c->in->action;

	if (a->kind != ACTION_GIT)
		return;
	line(c, "remote", a->remote);
	for (size_t i = 0; i < a->update_count; i++) {
		const struct action_update *u = &a->updates[i];

		label(c, i ? "" : "refs");
		put(c, u->ref);
		buffer_printf(c->out, "  %.12s -> %.12s%s\n", (const char *)u->before.data,
			      (const char *)u->after.data,
			      u->force ? "  FORCED, or not known to only add" : "");
	}
	if (a->has_body)
		buffer_printf(c->out, "           with %llu bytes of objects, not shown here\n",
			      (unsigned long long)a->body_len);
}

static void put_arguments(struct card *c)
{
	const struct action *a = c->in->action;
	char hex[DIGEST_HEX_SIZE];

	for (size_t i = 0; i < a->arg_count; i++) {
		label(c, i ? "" : "arguments");
		put(c, a->args[i].name);
		buffer_append_str(c->out, " = ");
		put(c, a->args[i].value);
		buffer_append_byte(c->out, '\n');
	}
	for (size_t i = 0; i < c->in->word_count; i++) {
		label(c, i ? "" : "command");
		put_str(c, c->in->words[i]);
		buffer_append_byte(c->out, '\n');
	}
	if (digest_is_zero(&a->program))
		return;
	label(c, "program");
	if (c->in->program) {
		put_str(c, c->in->program);
		buffer_append_byte(c->out, ' ');
	}
	buffer_printf(c->out, "%.16s", digest_hex(&a->program, hex));
	if (!digest_is_zero(&a->interpreter))
		buffer_printf(c->out, ", run by %.16s", digest_hex(&a->interpreter, hex));
	for (size_t i = 0; i < a->file_count; i++)
		buffer_printf(c->out, ", word %u %.16s", a->files[i].at,
			      digest_hex(&a->files[i].content, hex));
	buffer_append_str(c->out, "; libraries and imports are not in these digests\n");
}

static void put_headers(struct card *c)
{
	const struct action *a = c->in->action;

	for (size_t i = 0; i < a->header_count; i++) {
		label(c, i ? "" : "headers");
		put(c, a->headers[i].name);
		buffer_append_str(c->out, ": ");
		put(c, a->headers[i].value);
		buffer_append_byte(c->out, '\n');
	}
	if (!c->in->effect->dropped)
		return;
	label(c, "left out");
	buffer_append_str(c->out, "headers that are not passed on: ");
	put_str(c, c->in->effect->dropped);
	buffer_append_byte(c->out, '\n');
}

struct wanted {
	struct card *c;
	const char *pointer, *name;
	bool found;
};

static int put_wanted(const struct json_value *v, void *arg)
{
	struct wanted *w = arg;

	if (!bytes_equal(v->pointer, bytes_str(w->pointer)))
		return 0;
	line(w->c, w->name, v->text);
	w->found = true;
	return 0;
}

/* A field that the rule wants shown first. */
static void put_field(struct card *c, const char *name, const char *pointer)
{
	struct wanted w = {c, pointer, name, false};
	const struct action *a = c->in->action;

	if (a->kind == ACTION_HTTP && effect_decide_is_json(a) && action_body_is_utf8(a))
		(void)!json_each(c->in->body, put_wanted, &w);
	for (size_t i = 0; i < a->arg_count; i++)
		if (bytes_equal(a->args[i].name,
				bytes_str(*pointer == '/' ? pointer + 1 : pointer))) {
			line(c, name, a->args[i].value);
			w.found = true;
		}
	if (!w.found)
		line(c, name, bytes_str("(it has none)"));
}

static void put_shown(struct card *c)
{
	const struct policy_rule *r = c->in->rule;

	if (!r || !r->card_title)
		return;
	if (r->card_amount)
		put_field(c, "AMOUNT", r->card_amount);
	for (size_t i = 0; i < r->card_show_count; i++) {
		const char *name, *pointer;

		policy_rule_show(r, i, &name, &pointer);
		put_field(c, name, pointer);
	}
}

struct json_card {
	struct card *c;
	bool inexact;
};

static int put_json(const struct json_value *v, void *arg)
{
	struct json_card *j = arg;

	buffer_append_str(j->c->out, "         | ");
	put(j->c, v->pointer.len ? v->pointer : bytes_str("/"));
	buffer_append_str(j->c->out, " = ");
	if (v->kind == JSON_STRING)
		buffer_append_byte(j->c->out, '"');
	put(j->c, v->text);
	buffer_append_str(j->c->out, v->kind == JSON_STRING ? "\"\n" : "\n");
	j->inexact |= !v->exact;
	return j->c->out->failed;
}

static int put_json_body(struct card *c)
{
	struct json_card j = {.c = c};
	int rc;

	if (!action_body_is_utf8(c->in->action))
		return not_shown(c, "its JSON body declares a charset other than UTF-8, or a "
				    "content coding");
	rc = json_each(c->in->body, put_json, &j);

	if (rc == -EEXIST)
		return not_shown(c,
				 "its JSON body has a key twice: readers differ on what it says");
	if (rc == -EBADMSG)
		return not_shown(c, "its body is said to be JSON and is not");
	if (rc == 0 && j.inexact)
		return not_shown(c, "a number in its JSON body is read differently by different "
				    "readers");
	return rc;
}

/* Text types, whose charset is UTF-8, US-ASCII, or unsaid. */
static bool is_text(struct bytes type)
{
	return (type.len >= 5 && strncasecmp(type.data, "text/", 5) == 0) ||
	       (type.len >= 33 &&
		strncasecmp(type.data, "application/x-www-form-urlencoded", 33) == 0) ||
	       (type.len >= 15 && strncasecmp(type.data, "application/xml", 15) == 0);
}

static bool charset_is_known(struct bytes type)
{
	AUTO_FREE char *text = bytes_dup_str(type);
	const char *at = text ? strcasestr(text, "charset=") : NULL;

	if (!text)
		return false;
	if (!at)
		return true;
	at += 8;
	at += *at == '"';
	return strncasecmp(at, "utf-8", 5) == 0 || strncasecmp(at, "us-ascii", 8) == 0;
}

static int put_text_body(struct card *c, struct bytes type)
{
	struct bytes rest = c->in->body;

	if (!charset_is_known(type) || !utf8_valid(rest))
		return not_shown(c, "its body is not in the charset that it declares, or in one "
				    "that is not shown here");
	while (rest.len) {
		const char *end = memchr(rest.data, '\n', rest.len);
		size_t n = end ? (size_t)(end - (const char *)rest.data) : rest.len;

		buffer_append_str(c->out, "         | ");
		put(c, bytes_of(rest.data, n));
		buffer_append_byte(c->out, '\n');
		n += end != NULL;
		rest = bytes_of((const char *)rest.data + n, rest.len - n);
	}
	return 0;
}

static void put_hex_body(struct card *c)
{
	const uint8_t *b = c->in->body.data;
	size_t n = c->in->body.len < CARD_EFFECT_HEX_MAX ? c->in->body.len : CARD_EFFECT_HEX_MAX;

	for (size_t i = 0; i < n; i++) {
		if (i % 32 == 0)
			buffer_append_str(c->out, i ? "\n         | " : "         | ");
		buffer_printf(c->out, "%02x", b[i]);
	}
	if (n)
		buffer_append_byte(c->out, '\n');
	if (n < c->in->action->body_len) {
		buffer_printf(c->out, "           and %llu bytes more\n",
			      (unsigned long long)(c->in->action->body_len - n));
		c->complete = false;
	}
}

static int put_body(struct card *c)
{
	const struct action *a = c->in->action;
	struct bytes type = effect_decide_header(a, "content-type");
	bool coded = effect_decide_header(a, "content-encoding").len != 0;
	char hex[DIGEST_HEX_SIZE];
	int rc = 0;

	if (!a->has_body || a->kind == ACTION_GIT)
		return 0;
	label(c, "body");
	buffer_printf(c->out, "%llu bytes, sha256 %.16s\n", (unsigned long long)a->body_len,
		      digest_hex(&a->body, hex));
	if (a->body_len == 0)
		return 0;
	bool readable = effect_decide_is_json(a) || (!coded && is_text(type));

	if (readable && (c->in->body.len != a->body_len || a->body_len > CARD_EFFECT_BODY_MAX))
		return not_shown(c, "its body is longer than a person can be shown");
	if (!readable)
		put_hex_body(c);
	else if (effect_decide_is_json(a))
		rc = put_json_body(c);
	else
		rc = put_text_body(c, type);
	return rc;
}

/* ---- what it stands instead of ---- */

struct difference {
	struct card *c;
	const struct json_value *one;
	struct bytes other;
	bool found, removed;
};

static int find_value(const struct json_value *v, void *arg)
{
	struct difference *d = arg;

	if (!bytes_equal(v->pointer, d->one->pointer))
		return 0;
	d->found = bytes_equal(v->text, d->one->text);
	return 1;
}

static int put_changed(const struct json_value *v, void *arg)
{
	struct difference *d = arg;

	d->one = v;
	d->found = false;
	(void)!json_each(d->other, find_value, d);
	if (d->found)
		return 0;
	buffer_append_str(d->c->out, d->removed ? "         - " : "         + ");
	put(d->c, v->pointer);
	buffer_append_str(d->c->out, " = ");
	put(d->c, v->text);
	buffer_append_byte(d->c->out, '\n');
	return d->c->out->failed;
}

static void put_text_change(struct card *c, const char *name, struct bytes was, struct bytes is)
{
	if (bytes_equal(was, is))
		return;
	buffer_printf(c->out, "         - %s ", name);
	put(c, was);
	buffer_printf(c->out, "\n         + %s ", name);
	put(c, is);
	buffer_append_byte(c->out, '\n');
}

static void put_before(struct card *c)
{
	const struct action *was = c->in->before, *is = c->in->action;
	struct difference d = {.c = c, .removed = true, .other = c->in->body};

	if (!was)
		return;
	buffer_append_str(c->out, "CHANGED    it stands instead of another one that was asked for; "
				  "what differs:\n");
	put_text_change(c, "method", was->method, is->method);
	put_text_change(c, "path", was->path, is->path);
	put_text_change(c, "query", was->query, is->query);
	for (size_t i = 0; i < is->header_count; i++) {
		AUTO_FREE char *name = bytes_dup_str(is->headers[i].name);

		if (name)
			put_text_change(c, name, effect_decide_header(was, name),
					is->headers[i].value);
	}
	if (effect_decide_is_json(is) && effect_decide_is_json(was)) {
		(void)!json_each(c->in->before_body, put_changed, &d);
		d.removed = false;
		d.other = c->in->before_body;
		(void)!json_each(c->in->body, put_changed, &d);
	} else if (!digest_equal(&was->body, &is->body)) {
		buffer_append_str(c->out, "           its body is another\n");
	}
}

/* ---- why, how far, and what follows ---- */

static void put_class(struct card *c)
{
	const struct policy_rule *r = c->in->rule;

	label(c, "class");
	buffer_append_str(c->out, journal_class_name(c->in->effect->class));
	if (r && r->card_why_irreversible) {
		buffer_append_str(c->out, ": ");
		put_str(c, r->card_why_irreversible);
	} else if (r && r->why && r->why[0]) {
		buffer_append_str(c->out, ": ");
		put_str(c, r->why);
	}
	buffer_append_byte(c->out, '\n');
	if (r && (r->undo_tool || r->undo_text)) {
		label(c, "undo");
		put_str(c, r->undo_tool ? r->undo_tool : r->undo_text);
		buffer_append_byte(c->out, '\n');
	}
}

static unsigned long long left(uint64_t limit, uint64_t used)
{
	return limit > used ? limit - used : 0;
}

static void put_radius(struct card *c)
{
	const struct card_effect *in = c->in;

	label(c, "credential");
	if (in->effect->secret)
		put_str(c, in->effect->secret);
	else
		buffer_append_str(c->out, "none of ours");
	buffer_append_byte(c->out, '\n');
	label(c, "done");
	if (in->done_same)
		buffer_printf(c->out, "THIS VERY ACTION WAS DONE %u TIME%s in this run; ",
			      in->done_same, in->done_same == 1 ? "" : "S");
	buffer_printf(c->out, "%u by this rule in this run\n", in->done_rule);
	if (in->rule && in->rule->rate_count) {
		label(c, "limit");
		buffer_printf(c->out,
			      "%llu in %llu s by its rule; %llu left of it after this one\n",
			      (unsigned long long)in->rule->rate_count,
			      (unsigned long long)(in->rule->rate_per_ms / 1000),
			      left(in->rule->rate_count, in->rate_used));
	}
	if (!in->requests.limit && !in->egress.limit)
		return;
	label(c, "budget");
	if (in->requests.limit)
		buffer_printf(c->out, "%llu of %llu requests",
			      left(in->requests.limit, in->requests.used),
			      (unsigned long long)in->requests.limit);
	if (in->egress.limit)
		buffer_printf(c->out, "%s%llu of %llu bytes out", in->requests.limit ? ", " : "",
			      left(in->egress.limit, in->egress.used),
			      (unsigned long long)in->egress.limit);
	/* What is in doubt is among the used already. */
	buffer_printf(c->out, " left to this run%s\n",
		      in->kind == JOURNAL_KIND_EFFECT ? " before this one" : "");
}

static void put_claim(struct card *c)
{
	if (!c->in->effect->claim)
		return;
	label(c, "claimed");
	buffer_append_str(c->out, "(the agent's words; nobody checked them) ");
	put_str(c, c->in->effect->claim);
	buffer_append_byte(c->out, '\n');
}

static void put_who(struct card *c)
{
	char id[JOURNAL_ID_TEXT_SIZE];

	label(c, "run");
	if (c->in->run_name) {
		put_str(c, c->in->run_name);
		buffer_append_byte(c->out, ' ');
	}
	buffer_printf(c->out, "%.8s, step ", journal_id_text(&c->in->run, id));
	put_str(c, c->in->step_key);
	buffer_append_byte(c->out, '\n');
}

static void put_doubt(struct card *c)
{
	const struct journal_effect *f = c->in->effect;
	const char *again;

	put_time(c, c->in->action->kind == ACTION_TOOL ? "begun at" : "sent at", f->reserved_ns);
	if (f->why)
		line(c, "in doubt", bytes_str(f->why));
	if (c->in->key) {
		label(c, "key");
		buffer_printf(c->out, "%s in ", c->in->key);
		put_str(c, f->header);
		buffer_append_byte(c->out, '\n');
	}
	if (c->in->probed) {
		label(c, "probe");
		put_str(c, f->probe);
		buffer_append_str(c->out, c->in->unasked
						  ? " was not asked yet; 'holdfast resume' does\n"
						  : " does not know\n");
	}
	again = c->in->action->kind == ACTION_TOOL ? "run" : "sent";
	buffer_printf(
		c->out,
		"\nLook at the other side first. Then:\n"
		"  --as done      it happened: the step is told so, and it is not %s again\n"
		"  --as not-done  it did not: the step may ask for it again, and you are asked "
		"again\n"
		"  --as abandon   nobody can know: the step is told 409, and it is not %s "
		"again\n"
		"deny:      as abandon\n",
		again, again);
}

static void put_tail(struct card *c)
{
	const struct card_effect *in = c->in;
	char hex[DIGEST_HEX_SIZE];

	if (in->kind == JOURNAL_KIND_DOUBT) {
		put_doubt(c);
	} else if (in->action->kind == ACTION_TOOL) {
		buffer_append_str(
			c->out,
			"\napprove:   it is run, once, exactly as it stands above\n"
			"deny:      nothing is run; the step is told 403 and goes on as it can\n");
	} else {
		buffer_append_str(
			c->out,
			"\napprove:   it is sent, once, exactly as it stands above\n"
			"deny:      nothing is sent; the step is told 403 and goes on as it can\n");
	}
	label(c, "asked by");
	buffer_append_str(c->out, "rule ");
	put_str(c, in->effect->rule);
	buffer_append_str(c->out, " (");
	put_str(c, in->effect->at);
	buffer_append_byte(c->out, ')');
	if (in->why) {
		buffer_append_str(c->out, ": ");
		put_str(c, in->why);
	}
	buffer_append_byte(c->out, '\n');
	if (!c->complete)
		buffer_append_str(c->out,
				  CARD_NOT_ALL "look at `holdfast show` first; approving wants "
					       "--digest\n");
	put_time(c, "decide by", in->decide_by_ns);
	if (in->execute_by_ns > 0 && in->kind == JOURNAL_KIND_EFFECT) {
		long long minutes = (in->execute_by_ns + 59999999999) / 60000000000;

		buffer_printf(c->out, "an approval holds for %lld minute%s\n", minutes,
			      minutes == 1 ? "" : "s");
	}
	label(c, "digest");
	buffer_printf(c->out, "%.16s\n", digest_hex(&in->effect->action, hex));
	label(c, "item");
	buffer_printf(c->out, "%.16s\n", digest_hex(&in->item, hex));
}

int card_effect_render(const struct card_effect *in, struct buffer *out, bool *ret_complete,
		       struct error *err)
{
	AUTO_BUFFER text = {.max = CARD_EFFECT_BYTES_MAX};
	struct card c = {.in = in, .out = &text, .complete = true, .err = err};
	size_t whole;
	int rc;

	put_verb(&c);
	put_shown(&c);
	put_destination(&c);
	put_updates(&c);
	put_arguments(&c);
	put_class(&c);
	put_before(&c);
	put_headers(&c);
	whole = text.len;
	rc = text.failed ? text.failed : put_body(&c);
	if (rc == -ENOTSUP && in->kind == JOURNAL_KIND_DOUBT) {
		/* It was sent already: what is asked is not whether it may be. */
		text.len = whole;
		text.failed = 0;
		buffer_append_str(&text, "body       cannot be shown as text\n");
		rc = 0;
	}
	if (rc == 0) {
		put_radius(&c);
		put_who(&c);
		put_claim(&c);
		put_tail(&c);
		rc = text.failed;
	}
	if (rc == -E2BIG)
		return error_set(err, -ENOTSUP, "it is longer than a person can be shown");
	if (rc < 0)
		return rc;
	rc = buffer_append(out, text.data, text.len);
	if (rc == 0)
		*ret_complete = c.complete;
	return rc;
}
