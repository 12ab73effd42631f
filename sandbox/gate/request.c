#include "sandbox/gate/request.h"
#include <errno.h>
#include <strings.h>
#include "base/escape.h"
#include "base/utf8.h"

enum { PORT_HTTP = 80, PORT_HTTPS = 443, TEXT_SPARE = 1024 };

static bool is_name(struct bytes name, const char *want)
{
	return name.len == strlen(want) && strncasecmp(name.data, want, name.len) == 0;
}

static bool is_one_of(struct bytes name, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (is_name(name, list[i]))
			return true;
	return false;
}

/* The next item of a comma-separated list; false at its end. */
static bool next_token(struct bytes *list, struct bytes *ret)
{
	const char *s = list->data;
	size_t at = 0, start, end;

	while (at < list->len && strchr(", \t", s[at]))
		at++;
	if (at == list->len)
		return false;
	start = at;
	while (at < list->len && s[at] != ',')
		at++;
	for (end = at; end > start && strchr(" \t", s[end - 1]); end--)
		;
	*ret = bytes_of(s + start, end - start);
	*list = bytes_of(s + at, list->len - at);
	return true;
}

static bool list_has(struct bytes list, const char *want)
{
	struct bytes token;

	while (next_token(&list, &token))
		if (is_name(token, want))
			return true;
	return false;
}

/* Does any Connection header name it? */
static bool connection_names(const struct http1_message *m, struct bytes name)
{
	struct bytes token, list;

	for (size_t i = 0; i < m->header_count; i++) {
		if (!is_name(m->headers[i].name, "connection"))
			continue;
		list = m->headers[i].value;
		while (next_token(&list, &token))
			if (token.len == name.len &&
			    strncasecmp(token.data, name.data, name.len) == 0)
				return true;
	}
	return false;
}

/* ---- where to ---- */

/* host[:port], as the connection has it. */
static bool is_own_authority(struct bytes a, const struct request_target *t)
{
	const char *s = a.data;
	size_t colon = a.len;
	uint32_t port = 0;

	for (size_t i = 0; i < a.len; i++)
		if (s[i] == ':')
			colon = i;
	if (colon != t->host.len || strncasecmp(s, t->host.data, colon) != 0)
		return false;
	if (colon == a.len)
		return t->port == (t->tls ? PORT_HTTPS : PORT_HTTP);
	for (size_t i = colon + 1; i < a.len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		port = port * 10 + (uint32_t)(s[i] - '0');
	}
	return port == t->port;
}

static int check_host(const struct http1_message *m, const struct request_target *t,
		      struct error *err)
{
	const struct http1_header *h = http1_header_find(m, "host");

	if (h && is_own_authority(h->value, t))
		return 0;
	error_set(
		err, -EXDEV,
		"Host is '%.*s', but this connection was made to '%.*s' port %u: the name that is "
		"resolved, the one of TLS and the one of HTTP must be the same",
		h ? (int)h->value.len : 0, h ? (const char *)h->value.data : "", (int)t->host.len,
		(const char *)t->host.data, t->port);
	return 421;
}

/* Takes "http://own-host" off an absolute target. */
static int to_origin_form(struct bytes *target, const struct request_target *t, struct error *err)
{
	const char *scheme = t->tls ? "https://" : "http://";
	size_t skip = strlen(scheme), len = 0;
	const char *s = target->data;

	if (target->len && *s == '/')
		return 0;
	if (target->len > skip && strncasecmp(s, scheme, skip) == 0) {
		while (skip + len < target->len && !strchr("/?", s[skip + len]))
			len++;
		if (is_own_authority(bytes_of(s + skip, len), t)) {
			*target = bytes_of(s + skip + len, target->len - skip - len);
			return 0;
		}
	}
	error_set(err, -EXDEV,
		  "the request's target names another scheme, host or port than "
		  "the connection was made to");
	return 421;
}

static int make_target(struct bytes target, const struct request_target *t, struct request *ret,
		       struct error *err)
{
	struct action *a = &ret->frames.action;
	int r = to_origin_form(&target, t, err);
	const char *s = target.data;
	const char *mark = target.len ? memchr(s, '?', target.len) : NULL;
	struct bytes path = bytes_of(s, mark ? (size_t)(mark - s) : target.len);

	if (r != 0)
		return r;
	if (mark)
		a->query = bytes_of(mark + 1, target.len - path.len - 1);
	if (path.len == 0)
		path = bytes_str("/");
	r = action_path(path, &ret->path);
	if (r == -E2BIG) {
		error_set(err, r, "the path is longer than %d bytes", ACTION_PATH_MAX);
		return 414;
	}
	if (r == -EINVAL) {
		error_set(err, r,
			  "the path has %%2f, %%25, %%00, a control byte, '\\', '//', a segment "
			  "of dots and spaces alone (also with ';'), or is not UTF-8: servers "
			  "read these in more than one way");
		return 400;
	}
	a->path = buffer_bytes(&ret->path);
	return r;
}

/* ---- headers ---- */

/* Read here, or by http1, or made anew by the courier: not passed on, and not worth a record. */
static const char *const consumed[] = {
	"connection",
	"content-length",
	"expect",
	"host",
	"http2-settings",
	"keep-alive",
	"proxy-connection",
	"sec-websocket-key",
	"sec-websocket-version",
	"te",
	"trailer",
	"transfer-encoding",
	"upgrade",
};
/* Lists: two lines of them are one (RFC 9110 section 5.3). Of any other known header there is one.
 */
static const char *const lists[] = {
	"accept",
	"accept-charset",
	"accept-encoding",
	"accept-language",
	"anthropic-beta",
	"cache-control",
	"content-encoding",
	"content-language",
	"cookie",
	"if-match",
	"if-none-match",
	"openai-beta",
	"pragma",
	"prefer",
	"sec-websocket-extensions",
	"sec-websocket-protocol",
};

static struct bytes lowercase(struct buffer *text, struct bytes name)
{
	size_t from = text->len;

	(void)buffer_append(text, name.data, name.len);
	for (size_t i = from; i < text->len; i++)
		if (text->data[i] >= 'A' && text->data[i] <= 'Z')
			text->data[i] = (uint8_t)(text->data[i] + 32);
	return bytes_of(text->data + from, name.len);
}

static void drop(struct frames_request *f, struct bytes name)
{
	if (f->dropped_count == FRAMES_DROPPED_MAX)
		return;
	if (name.len > FRAMES_DROPPED_NAME_MAX)
		name.len = FRAMES_DROPPED_NAME_MAX;
	f->dropped[f->dropped_count++] = name;
}

static struct bytes joined(struct buffer *text, struct bytes a, const char *with, struct bytes b)
{
	size_t from = text->len;

	(void)buffer_append(text, a.data, a.len);
	(void)buffer_append_str(text, with);
	(void)buffer_append(text, b.data, b.len);
	return bytes_of(text->data + from, text->len - from);
}

static int put_header(struct request *r, struct bytes name, struct bytes value, struct error *err)
{
	struct action *a = &r->frames.action;
	size_t at = 0;
	int order = 1;

	while (at < a->header_count && (order = bytes_compare(a->headers[at].name, name)) < 0)
		at++;
	if (at < a->header_count && order == 0) {
		if (!is_one_of(name, lists, ARRAY_SIZE(lists))) {
			error_set(err, -EBADMSG, "header '%.*s' is given twice", (int)name.len,
				  (const char *)name.data);
			return 400;
		}
		value = joined(&r->text, a->headers[at].value,
			       is_name(name, "cookie") ? "; " : ", ", value);
		a->headers[at].value = value;
	} else {
		memmove(&a->headers[at + 1], &a->headers[at],
			(a->header_count - at) * sizeof(a->headers[0]));
		a->headers[at] = (struct action_header){name, value};
		a->header_count++;
	}
	if (action_header_value_valid(value))
		return 0;
	error_set(err, -E2BIG, "header '%.*s' is too long", (int)name.len, (const char *)name.data);
	return 431;
}

/* What is no text is none; a long one is cut, never inside a character. */
static struct bytes reason_of(struct bytes value)
{
	const uint8_t *s = value.data;

	if (!utf8_valid(value))
		return (struct bytes){0};
	for (size_t i = 0; i < value.len; i++)
		if (s[i] < ' ')
			return (struct bytes){0};
	return utf8_cut(value, FRAMES_REASON_MAX);
}

static int make_headers(const struct http1_message *m, struct request *r, struct error *err)
{
	size_t room = 0;
	int code = 0;

	/* So much at once, so that nothing moves while headers point into it. */
	for (size_t i = 0; i < m->header_count; i++)
		room += m->headers[i].name.len + m->headers[i].value.len;
	if (buffer_reserve(&r->text, room * 4 + TEXT_SPARE) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < m->header_count && code == 0; i++) {
		const struct http1_header *h = &m->headers[i];
		struct bytes name;

		if (is_one_of(h->name, consumed, ARRAY_SIZE(consumed)))
			continue;
		if (is_name(h->name, "holdfast-reason")) {
			r->frames.reason = reason_of(h->value);
			continue;
		}
		/* A joined value repeats what came before it. */
		if (r->text.cap - r->text.len < h->name.len + room + TEXT_SPARE / 2) {
			error_set(err, -E2BIG, "headers: too many lines of one name");
			return 431;
		}
		name = lowercase(&r->text, h->name);
		if (!action_header_is_known(name) || connection_names(m, name) ||
		    (!r->frames.action.websocket && name.len > 14 &&
		     memcmp(name.data, "sec-websocket-", 14) == 0))
			drop(&r->frames, name);
		else
			code = put_header(r, name, h->value, err);
	}
	return code;
}

/* ---- WebSocket (RFC 6455 section 4.2.1) ---- */

static bool key_valid(struct bytes key)
{
	const char *s = key.data;

	if (key.len != REQUEST_WEBSOCKET_KEY || memcmp(s + 22, "==", 2) != 0)
		return false;
	for (size_t i = 0; i < 22; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
		      (s[i] >= '0' && s[i] <= '9') || s[i] == '+' || s[i] == '/'))
			return false;
	return true;
}

static int make_websocket(const struct http1_message *m, struct request *r, struct error *err)
{
	const struct http1_header *upgrade = http1_header_find(m, "upgrade");
	const struct http1_header *key = http1_header_find(m, "sec-websocket-key");
	const struct http1_header *version = http1_header_find(m, "sec-websocket-version");

	if (!upgrade || !connection_names(m, bytes_str("upgrade")) ||
	    !list_has(upgrade->value, "websocket"))
		return 0; /* another upgrade is an offer, and not taken */
	if (!is_name(upgrade->value, "websocket") || !bytes_equal(m->method, bytes_str("GET")) ||
	    r->frames.action.has_body || m->minor == 0 || !key || !key_valid(key->value)) {
		error_set(err, -EBADMSG, "a WebSocket upgrade that is not one of RFC 6455");
		return 400;
	}
	if (!version || !bytes_equal(version->value, bytes_str("13"))) {
		error_set(err, -EBADMSG, "WebSocket: version 13 is spoken here");
		return 426;
	}
	r->frames.action.websocket = true;
	memcpy(r->websocket_key, key->value.data, REQUEST_WEBSOCKET_KEY);
	return 0;
}

static int make_expect(const struct http1_message *m, struct request *r, struct error *err)
{
	for (size_t i = 0; i < m->header_count; i++) {
		if (!is_name(m->headers[i].name, "expect"))
			continue;
		if (!is_name(m->headers[i].value, "100-continue")) {
			error_set(err, -EBADMSG, "Expect: other than 100-continue");
			return 417;
		}
		r->expects = m->minor == 1;
	}
	return 0;
}

int request_make(const struct http1_message *m, const struct request_target *t, struct request *ret,
		 struct error *err)
{
	struct action *a = &ret->frames.action;
	int r;

	action_clear(a);
	ret->frames.dropped_count = 0;
	ret->frames.reason = (struct bytes){0};
	ret->text = ret->path = (struct buffer){0};
	ret->expects = false;
	memset(ret->websocket_key, 0, sizeof(ret->websocket_key));
	a->kind = ACTION_HTTP;
	a->method = m->method;
	a->scheme = bytes_str(t->tls ? "https" : "http");
	a->host = t->host;
	a->port = t->port;
	a->has_body = m->chunked || (m->has_length && m->content_length > 0);
	ret->frames.has_length = a->has_body && m->has_length;
	a->body_len = ret->frames.has_length ? m->content_length : 0;
	ret->keep_alive = m->keep_alive;
	ret->is_head = bytes_equal(m->method, bytes_str("HEAD"));
	ret->is_old = m->minor == 0;
	r = check_host(m, t, err);
	if (r == 0)
		r = make_target(m->target, t, ret, err);
	if (r == 0)
		r = make_websocket(m, ret, err);
	if (r == 0)
		r = make_expect(m, ret, err);
	return r == 0 ? make_headers(m, ret, err) : r;
}

void request_clear(struct request *r)
{
	buffer_free(&r->text);
	buffer_free(&r->path);
}

bool request_is_http2(struct bytes in)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	size_t n = in.len < sizeof(preface) - 1 ? in.len : sizeof(preface) - 1;

	return n >= 5 && memcmp(in.data, preface, n) == 0;
}

int request_refusal(const char *error, const char *why, const char *hint, struct buffer *out)
{
	const struct {
		const char *key, *value;
	} rows[] = {{"{\"error\":\"", error}, {"\",\"why\":\"", why}, {"\",\"hint\":\"", hint}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!rows[i].value)
			continue;
		(void)buffer_append_str(out, rows[i].key);
		escape_json(out, bytes_str(rows[i].value));
	}
	return buffer_append_str(out, "\"}\n");
}
