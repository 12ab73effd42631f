/*
 * A message goes through in two parts. The head is collected whole, checked byte by byte by
 * check_block(), parsed by llhttp, and what llhttp found is checked as a whole by check_message().
 * The body's framing is followed by scan_body() in step with llhttp: each piece given to llhttp is
 * one that the scanner has read, and both must agree on where the message ends.
 */
#include "base/http1.h"
#include "base/hex.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <llhttp.h>
#include <stdlib.h>
#include <strings.h>

enum { CHUNK_SIZE_DIGITS_MAX = 15, LENGTH_DIGITS_MAX = 18 };

/* Where the scanner stands. Data is what a body consists of; all else is framing. */
enum state {
	STATE_HEAD, /* collecting the head */
	STATE_LENGTH, /* `left` bytes of data, then the end */
	STATE_TO_CLOSE, /* data until the stream ends */
	STATE_SIZE_FIRST, /* a chunk's size must start */
	STATE_SIZE, /* more digits, or CR */
	STATE_SIZE_LF, /* the LF behind a size */
	STATE_CHUNK, /* `left` bytes of data */
	STATE_CHUNK_CR, /* the CR behind a chunk */
	STATE_CHUNK_LF, /* the LF behind it */
	STATE_LAST_CR, /* the CR behind the last chunk: no trailers */
	STATE_LAST_LF, /* the LF behind it */
	STATE_DONE, /* the message is complete; not told yet */
	STATE_NEXT, /* told; http1_next must follow */
};

struct http1_parser {
	llhttp_t llhttp;
	llhttp_settings_t settings;
	struct http1_message msg;
	struct buffer block; /* the head; msg borrows from it */
	struct bytes body;
	uint64_t body_max;
	uint64_t body_seen;
	uint64_t left;
	unsigned digits;
	enum state state;
	unsigned forms;
	bool no_body;
	bool complete; /* llhttp says that the message is */
	int failed;
	size_t field_count; /* header lines that check_block saw */
};

static int on_method(llhttp_t *l, const char *at, size_t len)
{
	struct http1_parser *p = l->data;

	p->msg.method = bytes_of(at, len);
	return 0;
}

static int on_url(llhttp_t *l, const char *at, size_t len)
{
	struct http1_parser *p = l->data;

	p->msg.target = bytes_of(at, len);
	return 0;
}

static int on_header_field(llhttp_t *l, const char *at, size_t len)
{
	struct http1_parser *p = l->data;

	if (p->msg.header_count == HTTP1_HEADERS_MAX)
		return -1;
	p->msg.headers[p->msg.header_count++] = (struct http1_header){.name = bytes_of(at, len)};
	return 0;
}

static int on_header_value(llhttp_t *l, const char *at, size_t len)
{
	struct http1_parser *p = l->data;

	while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
		len--;
	p->msg.headers[p->msg.header_count - 1].value = bytes_of(at, len);
	return 0;
}

/* RFC 9112 section 6.3: which responses have no body whatever their head says. */
static bool status_has_no_body(int status)
{
	return (status >= 100 && status <= 199) || status == 204 || status == 304;
}

static int on_headers_complete(llhttp_t *l)
{
	struct http1_parser *p = l->data;

	p->msg.status = l->status_code;
	p->msg.upgrade = l->upgrade;
	p->msg.minor = l->http_minor;
	if (p->msg.kind == HTTP1_RESPONSE && (p->no_body || status_has_no_body(p->msg.status))) {
		p->no_body = true;
		l->flags |= F_SKIPBODY;
	}
	p->msg.keep_alive = llhttp_should_keep_alive(l);
	return p->no_body && !p->msg.upgrade ? 1 : 0;
}

static int on_body(llhttp_t *l, const char *at, size_t len)
{
	struct http1_parser *p = l->data;

	p->body = bytes_of(at, len);
	return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *l)
{
	struct http1_parser *p = l->data;

	p->complete = true;
	return HPE_PAUSED;
}

static void start(struct http1_parser *p)
{
	enum http1_kind kind = p->msg.kind;

	llhttp_init(&p->llhttp, kind == HTTP1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, &p->settings);
	p->llhttp.data = p;
	p->msg = (struct http1_message){.kind = kind};
	buffer_consume(&p->block, p->block.len);
	p->body = (struct bytes){0};
	p->body_seen = p->left = 0;
	p->state = STATE_HEAD;
	p->no_body = p->complete = false;
	p->field_count = 0;
}

struct http1_parser *http1_parser_new(enum http1_kind kind, uint64_t body_max)
{
	struct http1_parser *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->settings.on_method = on_method;
	p->settings.on_url = on_url;
	p->settings.on_header_field = on_header_field;
	p->settings.on_header_value = on_header_value;
	p->settings.on_headers_complete = on_headers_complete;
	p->settings.on_body = on_body;
	p->settings.on_message_complete = on_message_complete;
	p->msg.kind = kind;
	p->body_max = body_max ? body_max : HTTP1_BODY_MAX_DEFAULT;
	start(p);
	return p;
}

void http1_parser_free(struct http1_parser *p)
{
	if (!p)
		return;
	buffer_free(&p->block);
	free(p);
}

void http1_parser_allow(struct http1_parser *p, unsigned forms)
{
	p->forms = forms;
}

void http1_expect_no_body(struct http1_parser *p)
{
	p->no_body = true;
}

void http1_next(struct http1_parser *p)
{
	start(p);
}

const struct http1_message *http1_message(const struct http1_parser *p)
{
	return &p->msg;
}

struct bytes http1_body(const struct http1_parser *p)
{
	return p->body;
}

bool http1_token_is(struct bytes token, const char *want)
{
	return token.len == strlen(want) && strncasecmp(token.data, want, token.len) == 0;
}

const struct http1_header *http1_header_find(const struct http1_message *m, const char *name)
{
	for (size_t i = 0; i < m->header_count; i++)
		if (http1_token_is(m->headers[i].name, name))
			return &m->headers[i];
	return NULL;
}

/* ---- the head, before llhttp sees it ---- */

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool is_alpha(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* RFC 9110 section 5.6.2 */
static bool is_token(uint8_t c)
{
	return is_digit(c) || is_alpha(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool check_version(const char *s, size_t len)
{
	return len == 8 && (memcmp(s, "HTTP/1.1", 8) == 0 || memcmp(s, "HTTP/1.0", 8) == 0);
}

static int check_request_line(const char *s, size_t len, struct error *err)
{
	const char *target = memchr(s, ' ', len);
	const char *version;

	if (!target || target == s)
		return error_set(err, -EBADMSG, "request line: no method");
	for (const char *c = s; c < target; c++)
		if (!(*c >= 'A' && *c <= 'Z') && *c != '-')
			return error_set(err, -EBADMSG,
					 "request line: a method of other than capital letters");
	target++;
	version = memchr(target, ' ', len - (size_t)(target - s));
	if (!version || version == target)
		return error_set(err, -EBADMSG, "request line: no target");
	if (version - target > HTTP1_TARGET_MAX)
		return error_set(err, -ENAMETOOLONG, "request target: longer than %d bytes",
				 HTTP1_TARGET_MAX);
	for (const char *c = target; c < version; c++)
		if (*c <= ' ' || *c > '~' || *c == '#')
			return error_set(err, -EBADMSG, "request target: byte 0x%02x", (uint8_t)*c);
	version++;
	if (!check_version(version, len - (size_t)(version - s)))
		return error_set(err, -EBADMSG,
				 "request line: not HTTP/1.1 or HTTP/1.0 after one space");
	return 0;
}

static int check_status_line(const char *s, size_t len, struct error *err)
{
	if (len < 12 || !check_version(s, 8) || s[8] != ' ' || s[9] < '1' || s[9] > '5' ||
	    !is_digit((uint8_t)s[10]) || !is_digit((uint8_t)s[11]) || (len > 12 && s[12] != ' '))
		return error_set(err, -EBADMSG, "status line: not \"HTTP/1.1 NNN reason\"");
	return 0;
}

static int check_field_line(const char *s, size_t len, struct error *err)
{
	size_t i = 0;

	if (s[0] == ' ' || s[0] == '\t')
		return error_set(err, -EBADMSG, "header: a folded line (obs-fold)");
	while (i < len && is_token((uint8_t)s[i]))
		i++;
	if (i == 0 || i == len || s[i] != ':')
		return error_set(err, -EBADMSG,
				 "header: a name that is no token, or no colon right behind it");
	return 0;
}

/* Walks the whole head: lines end in CRLF and hold no other CR, LF or control byte but tab. */
static int check_block(struct http1_parser *p, struct error *err)
{
	const char *s = (const char *)p->block.data;
	const char *end = s + p->block.len - 2; /* the empty line */
	bool first = true;

	while (s < end) {
		const char *eol = memchr(s, '\r', (size_t)(end - s));
		int r;

		if (!eol || eol[1] != '\n')
			return error_set(err, -EBADMSG, "head: a CR without LF");
		for (const char *c = s; c < eol; c++)
			if (((uint8_t)*c < 0x20 && *c != '\t') || *c == 0x7f)
				return error_set(err, -EBADMSG, "head: control byte 0x%02x",
						 (uint8_t)*c);
		if (first)
			r = p->msg.kind == HTTP1_REQUEST
				    ? check_request_line(s, (size_t)(eol - s), err)
				    : check_status_line(s, (size_t)(eol - s), err);
		else
			r = check_field_line(s, (size_t)(eol - s), err);
		if (r < 0)
			return r;
		if (!first && ++p->field_count > HTTP1_HEADERS_MAX)
			return error_set(err, -E2BIG, "head: more than %d headers",
					 HTTP1_HEADERS_MAX);
		first = false;
		s = eol + 2;
	}
	return first ? error_set(err, -EBADMSG, "head: empty") : 0;
}

/* ---- the head, as llhttp read it ---- */

static bool ascii_alnum_or(uint8_t c, const char *more)
{
	return is_digit(c) || is_alpha(c) || (c && strchr(more, c));
}

/* A host name, an IPv4 address or a bracketed IPv6 one, with a port or without. No user, no path.
 */
static bool check_authority(struct bytes a, bool port_needed)
{
	const uint8_t *s = a.data;
	size_t i = 0;
	size_t digits = 0;

	if (a.len == 0)
		return false;
	if (s[0] == '[') {
		for (i = 1; i < a.len && ascii_alnum_or(s[i], ":."); i++)
			;
		if (i == a.len || i == 1 || s[i++] != ']')
			return false;
	} else {
		while (i < a.len && ascii_alnum_or(s[i], "-._"))
			i++;
		if (i == 0)
			return false;
	}
	if (i == a.len)
		return !port_needed;
	if (s[i++] != ':')
		return false;
	for (; i < a.len && is_digit(s[i]); i++)
		digits++;
	return i == a.len && digits >= 1 && digits <= 5;
}

static bool starts_with(struct bytes b, const char *prefix)
{
	return b.len >= strlen(prefix) && strncasecmp(b.data, prefix, strlen(prefix)) == 0;
}

static int check_target(const struct http1_parser *p, struct error *err)
{
	struct bytes t = p->msg.target;
	bool connect = bytes_equal(p->msg.method, bytes_str("CONNECT"));
	size_t scheme = starts_with(t, "http://") ? 7 : starts_with(t, "https://") ? 8 : 0;

	if (connect) {
		if (!(p->forms & HTTP1_ALLOW_AUTHORITY))
			return error_set(err, -EBADMSG,
					 "request target: CONNECT is not served here");
		if (!check_authority(t, true))
			return error_set(err, -EBADMSG, "request target: CONNECT wants host:port");
		return 0;
	}
	if (t.len > 0 && *(const char *)t.data == '/')
		return 0;
	if (scheme && (p->forms & HTTP1_ALLOW_ABSOLUTE)) {
		const char *host = (const char *)t.data + scheme;
		size_t len = 0;

		while (len < t.len - scheme && host[len] != '/' && host[len] != '?')
			len++;
		if (check_authority(bytes_of(host, len), false))
			return 0;
	}
	return error_set(err, -EBADMSG, "request target: not an absolute path");
}

static int check_length(struct http1_message *m, struct bytes v, struct error *err)
{
	const char *s = v.data;

	if (m->has_length)
		return error_set(err, -EBADMSG, "Content-Length: given twice");
	if (v.len == 0 || v.len > LENGTH_DIGITS_MAX)
		return error_set(err, -EBADMSG, "Content-Length: empty or too long");
	for (size_t i = 0; i < v.len; i++) {
		if (!is_digit((uint8_t)s[i]))
			return error_set(err, -EBADMSG, "Content-Length: not one decimal number");
		m->content_length = m->content_length * 10 + (uint64_t)(s[i] - '0');
	}
	m->has_length = true;
	return 0;
}

static int check_message(struct http1_parser *p, struct error *err)
{
	struct http1_message *m = &p->msg;
	bool host = false;

	for (size_t i = 0; i < m->header_count; i++) {
		struct http1_header *h = &m->headers[i];
		int r = 0;

		if (http1_token_is(h->name, "content-length")) {
			r = check_length(m, h->value, err);
		} else if (http1_token_is(h->name, "transfer-encoding")) {
			if (m->chunked || !http1_token_is(h->value, "chunked"))
				r = error_set(err, -EBADMSG,
					      "Transfer-Encoding: other than \"chunked\" once");
			m->chunked = true;
		} else if (m->kind == HTTP1_REQUEST && http1_token_is(h->name, "host")) {
			if (host || !check_authority(h->value, false))
				r = error_set(err, -EBADMSG,
					      "Host: given twice, empty, or no host");
			host = true;
		}
		if (r < 0)
			return r;
	}
	if (m->kind == HTTP1_REQUEST && !host)
		return error_set(err, -EBADMSG, "Host: missing");
	if (m->chunked && (m->has_length || p->llhttp.http_minor == 0 || p->no_body))
		return error_set(err, -EBADMSG,
				 "Transfer-Encoding: with Content-Length, in HTTP/1.0, or in "
				 "a message without body");
	if (!p->no_body && m->content_length > p->body_max)
		return error_set(err, -EMSGSIZE,
				 "body: %" PRIu64 " bytes announced, the limit is %" PRIu64,
				 m->content_length, p->body_max);
	return m->kind == HTTP1_REQUEST ? check_target(p, err) : 0;
}

static enum state after_head(const struct http1_parser *p)
{
	const struct http1_message *m = &p->msg;

	if (p->no_body)
		return STATE_DONE;
	if (m->chunked)
		return STATE_SIZE_FIRST;
	if (m->has_length)
		return m->content_length ? STATE_LENGTH : STATE_DONE;
	return m->kind == HTTP1_REQUEST ? STATE_DONE : STATE_TO_CLOSE;
}

static int disagree(struct error *err)
{
	return error_set(err, -EBADMSG, "message: read in two ways");
}

static int parse_head(struct http1_parser *p, struct error *err)
{
	int r = check_block(p, err);
	llhttp_errno_t e;

	if (r < 0)
		return r;
	e = llhttp_execute(&p->llhttp, (const char *)p->block.data, p->block.len);
	if (e != HPE_OK && e != HPE_PAUSED && e != HPE_PAUSED_UPGRADE)
		return error_set(err, -EBADMSG, "head: %s", llhttp_get_error_reason(&p->llhttp));
	if (p->msg.header_count != p->field_count)
		return disagree(err);
	r = check_message(p, err);
	if (r < 0)
		return r;
	p->state = after_head(p);
	p->left = p->state == STATE_LENGTH ? p->msg.content_length : 0;
	if (p->complete != (p->state == STATE_DONE))
		return disagree(err);
	return HTTP1_HEAD;
}

/* Takes bytes until the head is whole. The limit holds before anything is looked at. */
static int feed_head(struct http1_parser *p, struct bytes in, size_t *ret_used, struct error *err)
{
	const uint8_t *s = in.data;
	size_t i = 0;
	bool whole = false;

	for (; i < in.len && !whole; i++) {
		if (buffer_append_byte(&p->block, s[i]) < 0)
			return error_nomem(err);
		if (s[i] == '\n') {
			const uint8_t *b = p->block.data;
			size_t n = p->block.len;

			if (n < 2 || b[n - 2] != '\r')
				return error_set(err, -EBADMSG, "head: a LF without CR");
			if (n == 2)
				return error_set(err, -EBADMSG, "head: an empty line before it");
			whole = n >= 4 && b[n - 4] == '\r' && b[n - 3] == '\n';
		}
		if (p->block.len > HTTP1_HEADER_BLOCK_MAX)
			return error_set(err, -E2BIG, "head: longer than %d bytes",
					 HTTP1_HEADER_BLOCK_MAX);
	}
	*ret_used = i;
	return whole ? parse_head(p, err) : HTTP1_NEED_MORE;
}

/* ---- the body ---- */

/* One byte of chunked framing. */
static int scan_framing(struct http1_parser *p, uint8_t c, struct error *err)
{
	enum state next = p->state;
	int digit = hex_digit(c);
	bool ok = false;

	switch (p->state) {
	case STATE_SIZE_FIRST:
		p->left = 0;
		p->digits = 0;
		next = STATE_SIZE;
		ok = digit >= 0;
		break;
	case STATE_SIZE:
		next = c == '\r' ? STATE_SIZE_LF : STATE_SIZE;
		ok = c == '\r' || (digit >= 0 && p->digits < CHUNK_SIZE_DIGITS_MAX);
		break;
	case STATE_SIZE_LF:
		next = p->left ? STATE_CHUNK : STATE_LAST_CR;
		ok = c == '\n';
		break;
	case STATE_CHUNK_CR:
		next = STATE_CHUNK_LF;
		ok = c == '\r';
		break;
	case STATE_CHUNK_LF:
		next = STATE_SIZE_FIRST;
		ok = c == '\n';
		break;
	case STATE_LAST_CR:
		next = STATE_LAST_LF;
		ok = c == '\r';
		break;
	case STATE_LAST_LF:
		next = STATE_DONE;
		ok = c == '\n';
		break;
	case STATE_HEAD:
	case STATE_LENGTH:
	case STATE_TO_CLOSE:
	case STATE_CHUNK:
	case STATE_DONE:
	case STATE_NEXT:
		break;
	}
	if (!ok)
		return error_set(err, -EBADMSG,
				 "body: bad chunk framing (extensions and trailers are refused)");
	if (next == STATE_SIZE) {
		p->left = p->left << 4 | (uint64_t)digit;
		p->digits++;
	}
	p->state = next;
	return 0;
}

static bool in_data(const struct http1_parser *p)
{
	return p->state == STATE_LENGTH || p->state == STATE_TO_CLOSE || p->state == STATE_CHUNK;
}

/* Reads on to the end of one run of data, of the message, or of the input. Returns how many bytes.
 */
static int scan_body(struct http1_parser *p, struct bytes in, size_t *ret_len, struct error *err)
{
	const uint8_t *s = in.data;
	size_t i = 0;

	while (i < in.len && !in_data(p) && p->state != STATE_DONE) {
		int r = scan_framing(p, s[i], err);

		if (r < 0)
			return r;
		i++;
		if (p->state == STATE_CHUNK && p->left > p->body_max - p->body_seen)
			return error_set(err, -EMSGSIZE, "body: more than %" PRIu64 " bytes",
					 p->body_max);
	}
	if (i < in.len && in_data(p)) {
		size_t n = in.len - i;

		if (p->state != STATE_TO_CLOSE && n > p->left)
			n = (size_t)p->left;
		if (n > p->body_max - p->body_seen)
			return error_set(err, -EMSGSIZE, "body: more than %" PRIu64 " bytes",
					 p->body_max);
		p->body_seen += n;
		i += n;
		if (p->state != STATE_TO_CLOSE && (p->left -= n) == 0)
			p->state = p->state == STATE_CHUNK ? STATE_CHUNK_CR : STATE_DONE;
	}
	*ret_len = i;
	return 0;
}

static int feed_body(struct http1_parser *p, struct bytes in, size_t *ret_used, struct error *err)
{
	uint64_t seen = p->body_seen;
	size_t len = 0;
	llhttp_errno_t e;
	int r = scan_body(p, in, &len, err);

	if (r < 0)
		return r;
	if (len == 0)
		return HTTP1_NEED_MORE;
	if (llhttp_get_errno(&p->llhttp) == HPE_PAUSED)
		llhttp_resume(&p->llhttp);
	p->body = (struct bytes){0};
	e = llhttp_execute(&p->llhttp, in.data, len);
	if (e != HPE_OK && e != HPE_PAUSED)
		return error_set(err, -EBADMSG, "body: %s", llhttp_get_error_reason(&p->llhttp));
	/* on_body pauses in front of what follows its data; behind the last data nothing does. */
	if (e == HPE_PAUSED && !p->complete &&
	    llhttp_get_error_pos(&p->llhttp) != (const char *)in.data + len)
		return disagree(err);
	if (p->body.len != p->body_seen - seen)
		return disagree(err);
	*ret_used = len;
	return p->body.len ? HTTP1_BODY : HTTP1_NEED_MORE;
}

/* llhttp's last callback needs no byte of its own: it comes once on_body's pause is taken off. */
static int tell_end(struct http1_parser *p, struct error *err)
{
	if (!p->complete) {
		if (llhttp_get_errno(&p->llhttp) == HPE_PAUSED)
			llhttp_resume(&p->llhttp);
		llhttp_execute(&p->llhttp, "", 0);
		if (!p->complete)
			return disagree(err);
	}
	p->body = (struct bytes){0};
	p->state = STATE_NEXT;
	return HTTP1_END;
}

int http1_feed(struct http1_parser *p, struct bytes in, size_t *ret_used, struct error *err)
{
	int r;

	*ret_used = 0;
	if (p->failed)
		return error_set(err, p->failed, "connection: broken by what came before");
	assert(p->state != STATE_NEXT);
	for (;;) {
		size_t used = 0;

		if (p->state == STATE_HEAD)
			r = feed_head(p, in, &used, err);
		else if (p->state == STATE_DONE)
			r = tell_end(p, err);
		else
			r = feed_body(p, in, &used, err);
		*ret_used += used;
		in = bytes_of((const char *)in.data + used, in.len - used);
		if (r != HTTP1_NEED_MORE)
			break;
		/* Framing only: go on unless the input is used up and nothing is left to tell. */
		if (p->state != STATE_DONE && in.len == 0)
			break;
	}
	if (r < 0)
		p->failed = r;
	return r;
}

int http1_finish(struct http1_parser *p)
{
	if (p->failed)
		return p->failed;
	if (p->state == STATE_NEXT || p->state == STATE_TO_CLOSE ||
	    (p->state == STATE_HEAD && p->block.len == 0))
		return 0;
	return -EBADMSG;
}

int http1_status_for(int error)
{
	switch (error) {
	case -EBADMSG:
		return 400;
	case -EMSGSIZE:
		return 413;
	case -ENAMETOOLONG:
		return 414;
	case -E2BIG:
		return 431;
	default:
		return 500;
	}
}

const char *http1_reason(int status)
{
	static const struct {
		int status;
		const char *reason;
	} table[] = {
		{100, "Continue"},
		{101, "Switching Protocols"},
		{200, "OK"},
		{201, "Created"},
		{202, "Accepted"},
		{204, "No Content"},
		{206, "Partial Content"},
		{301, "Moved Permanently"},
		{302, "Found"},
		{303, "See Other"},
		{304, "Not Modified"},
		{307, "Temporary Redirect"},
		{308, "Permanent Redirect"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{408, "Request Timeout"},
		{409, "Conflict"},
		{410, "Gone"},
		{411, "Length Required"},
		{412, "Precondition Failed"},
		{413, "Content Too Large"},
		{414, "URI Too Long"},
		{415, "Unsupported Media Type"},
		{416, "Range Not Satisfiable"},
		{417, "Expectation Failed"},
		{421, "Misdirected Request"},
		{422, "Unprocessable Content"},
		{425, "Too Early"},
		{429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"},
		{507, "Insufficient Storage"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].status == status)
			return table[i].reason;
	return "Unknown";
}
