/*
 * The form of an action: which values a field takes, its bytes both ways, the one form of a path,
 * and what of a request is the same request (its identity). A body's JSON is action_json.c's. Used
 * by gate, courier and supervisor alike, so that none of them has another idea of it.
 */
#include "sandbox/action.h"
#include <assert.h>
#include <errno.h>
#include <strings.h>
#include "base/cbor.h"
#include "base/utf8.h"
#include "base/hex.h"

enum {
	METHOD_MAX = 32,
	LABEL_MAX = 63,
	VALUE_MAX = 16 * 1024,
	REF_MAX = 4096,
	NAME_MAX_BYTES = 128
};

enum key {
	KEY_KIND = 1,
	KEY_METHOD = 2,
	KEY_SCHEME = 3,
	KEY_HOST = 4,
	KEY_PORT = 5,
	KEY_PATH = 6,
	KEY_QUERY = 7,
	KEY_HEADERS = 8,
	KEY_WEBSOCKET = 9,
	KEY_BODY = 10,
	KEY_BODY_LEN = 11,
	KEY_PUSH = 12,
	KEY_REMOTE = 13,
	KEY_UPDATES = 14,
	KEY_TOOL = 15,
	KEY_ARGS = 16,
	KEY_PROGRAM = 17,
	KEY_INTERPRETER = 18,
	KEY_FILES = 19,
};

/* Ascending. Left out on purpose: what only concerns one connection, what names another host or
 * method than the one that is decided (x-forwarded-*, x-http-method-override, destination), and
 * what differs at each try without changing the request (trace ids). */
static const char *const known[] = {
	"accept",
	"accept-charset",
	"accept-encoding",
	"accept-language",
	"anthropic-beta",
	"anthropic-version",
	"api-key",
	"authorization",
	"cache-control",
	"content-encoding",
	"content-language",
	"content-md5",
	"content-range",
	"content-type",
	"cookie",
	"depth",
	"git-protocol",
	"idempotency-key",
	"if-match",
	"if-modified-since",
	"if-none-match",
	"if-range",
	"if-unmodified-since",
	"job-token",
	"last-event-id",
	"notion-version",
	"npm-command",
	"openai-beta",
	"openai-organization",
	"openai-project",
	"origin",
	"pragma",
	"prefer",
	"private-token",
	"range",
	"referer",
	"sec-websocket-extensions",
	"sec-websocket-protocol",
	"soapaction",
	"stripe-account",
	"stripe-version",
	"user-agent",
	"x-amz-content-sha256",
	"x-amz-date",
	"x-amz-security-token",
	"x-amz-target",
	"x-api-key",
	"x-api-version",
	"x-auth-token",
	"x-csrf-token",
	"x-github-api-version",
	"x-goog-api-client",
	"x-goog-api-key",
	"x-ms-date",
	"x-ms-version",
	"x-requested-with",
	"x-vault-token",
};
_Static_assert(ARRAY_SIZE(known) <= ACTION_HEADERS_MAX, "an action can hold them all");

bool action_header_is_known(struct bytes name)
{
	size_t low = 0, high = ARRAY_SIZE(known);

	while (low < high) {
		size_t at = (low + high) / 2;
		int c = bytes_compare(name, bytes_str(known[at]));

		if (c == 0)
			return true;
		if (c < 0)
			high = at;
		else
			low = at + 1;
	}
	return false;
}

void action_clear(struct action *a)
{
	memset(a, 0, offsetof(struct action, headers));
}

void action_copy(struct action *to, const struct action *from)
{
	memcpy(to, from, offsetof(struct action, headers));
	memcpy(to->headers, from->headers, from->header_count * sizeof(from->headers[0]));
	memcpy(to->args, from->args, from->arg_count * sizeof(from->args[0]));
	memcpy(to->updates, from->updates, from->update_count * sizeof(from->updates[0]));
}

/* ---- the rules of the fields ---- */

static bool all_of(struct bytes b, const char *set)
{
	const char *s = b.data;

	for (size_t i = 0; i < b.len; i++)
		if (!s[i] || !strchr(set, s[i]))
			return false;
	return true;
}

/* Visible ASCII without the bytes of `but`. */
static bool visible(struct bytes b, const char *but)
{
	const char *s = b.data;

	for (size_t i = 0; i < b.len; i++)
		if (s[i] <= ' ' || s[i] > '~' || strchr(but, s[i]))
			return false;
	return true;
}

bool action_host_valid(struct bytes host)
{
	const char *s = host.data;
	size_t label = 0;

	if (host.len == 0 || host.len > ACTION_HOST_MAX ||
	    !all_of(host, "abcdefghijklmnopqrstuvwxyz0123456789-."))
		return false;
	for (size_t i = 0; i <= host.len; i++) {
		if (i < host.len && s[i] != '.') {
			label++;
			continue;
		}
		if (label == 0 || label > LABEL_MAX || s[i - 1] == '-' || s[i - label] == '-')
			return false;
		label = 0;
	}
	return true;
}

bool action_header_name_valid(struct bytes name)
{
	return name.len > 0 && name.len <= NAME_MAX_BYTES &&
	       all_of(name, "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~");
}

bool action_header_value_valid(struct bytes value)
{
	const uint8_t *s = value.data;

	if (value.len > VALUE_MAX)
		return false;
	if (value.len && (strchr(" \t", s[0]) || strchr(" \t", s[value.len - 1])))
		return false;
	for (size_t i = 0; i < value.len; i++)
		if ((s[i] < 0x20 && s[i] != '\t') || s[i] == 0x7f)
			return false;
	return true;
}

static bool method_valid(struct bytes m)
{
	return m.len > 0 && m.len <= METHOD_MAX && all_of(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") &&
	       !bytes_equal(m, bytes_str("CONNECT"));
}

static bool path_valid(struct bytes path)
{
	AUTO_BUFFER again = {0};

	return action_path(path, &again) == 0 && bytes_equal(buffer_bytes(&again), path);
}

static bool headers_valid(const struct action *a)
{
	if (a->header_count > ACTION_HEADERS_MAX)
		return false;
	for (size_t i = 0; i < a->header_count; i++) {
		const struct action_header *h = &a->headers[i];

		if (!action_header_is_known(h->name) || !action_header_value_valid(h->value) ||
		    (i && bytes_compare(a->headers[i - 1].name, h->name) >= 0))
			return false;
	}
	return true;
}

static bool object_name_valid(struct bytes name)
{
	return (name.len == 40 || name.len == 64) && all_of(name, "0123456789abcdef");
}

static bool updates_valid(const struct action *a)
{
	if (a->update_count > ACTION_UPDATES_MAX || (a->update_count && !a->push))
		return false;
	for (size_t i = 0; i < a->update_count; i++) {
		const struct action_update *u = &a->updates[i];
		const uint8_t *s = u->ref.data;

		if (u->ref.len == 0 || u->ref.len > REF_MAX || !object_name_valid(u->before) ||
		    !object_name_valid(u->after) || u->before.len != u->after.len)
			return false;
		for (size_t j = 0; j < u->ref.len; j++)
			if (s[j] <= ' ' || s[j] == 0x7f)
				return false;
	}
	return true;
}

static bool holds_nul(struct bytes b)
{
	return b.len && memchr(b.data, 0, b.len);
}

static bool args_valid(const struct action *a)
{
	if (a->arg_count > ACTION_ARGS_MAX)
		return false;
	for (size_t i = 0; i < a->arg_count; i++)
		if (a->args[i].name.len == 0 || a->args[i].name.len > NAME_MAX_BYTES ||
		    !utf8_valid(a->args[i].name) || holds_nul(a->args[i].name) ||
		    holds_nul(a->args[i].value) ||
		    (i && bytes_compare(a->args[i - 1].name, a->args[i].name) >= 0))
			return false;
	return true;
}

static bool where_valid(const struct action *a, const char *plain, const char *tls)
{
	return (bytes_equal(a->scheme, bytes_str(plain)) ||
		bytes_equal(a->scheme, bytes_str(tls))) &&
	       action_host_valid(a->host) && a->port != 0;
}

static bool request_valid(const struct action *a)
{
	if (!method_valid(a->method) || !where_valid(a, "http", "https") || !path_valid(a->path) ||
	    a->query.len > ACTION_PATH_MAX || !visible(a->query, "#") || !headers_valid(a))
		return false;
	if (!a->has_body && (a->body_len || !digest_is_zero(&a->body)))
		return false;
	return !a->websocket || (bytes_equal(a->method, bytes_str("GET")) && !a->has_body);
}

static bool no_request(const struct action *a)
{
	return a->method.len == 0 && a->path.len == 0 && a->query.len == 0 &&
	       a->header_count == 0 && !a->websocket && !a->has_body && a->body_len == 0 &&
	       digest_is_zero(&a->body);
}

static bool no_git(const struct action *a)
{
	return !a->push && a->remote.len == 0 && a->update_count == 0;
}

static bool no_tool(const struct action *a)
{
	return a->tool.len == 0 && a->arg_count == 0 && digest_is_zero(&a->program) &&
	       digest_is_zero(&a->interpreter) && a->file_count == 0;
}

static bool files_valid(const struct action *a)
{
	if (a->file_count > ACTION_FILES_MAX)
		return false;
	for (size_t i = 0; i < a->file_count; i++)
		if (a->files[i].at == 0 || (i && a->files[i].at <= a->files[i - 1].at) ||
		    digest_is_zero(&a->files[i].content))
			return false;
	return true;
}

static bool valid(const struct action *a)
{
	switch (a->kind) {
	case ACTION_HTTP:
		return request_valid(a) && no_git(a) && no_tool(a);
	case ACTION_GIT:
		return request_valid(a) && !a->websocket && no_tool(a) && a->remote.len > 0 &&
		       a->remote.len <= ACTION_PATH_MAX && visible(a->remote, "") &&
		       updates_valid(a);
	case ACTION_TCP:
		return where_valid(a, "tcp", "tls") && no_request(a) && no_git(a) && no_tool(a);
	case ACTION_TOOL:
		return a->scheme.len == 0 && a->host.len == 0 && a->port == 0 && no_request(a) &&
		       no_git(a) && utf8_check_name(a->tool) == 0 && args_valid(a) &&
		       files_valid(a);
	}
	return false;
}

/* ---- bytes ---- */

static void w_digest(struct buffer *out, struct cbor_map_mark *m, enum key key,
		     const struct digest *d)
{
	cbor_w_key(out, m, key);
	cbor_w_bytes(out, bytes_of(d->b, sizeof(d->b)));
}

static void w_headers(struct buffer *out, struct cbor_map_mark *m, const struct action *a)
{
	if (!a->header_count)
		return;
	cbor_w_key(out, m, KEY_HEADERS);
	cbor_w_array(out, a->header_count);
	for (size_t i = 0; i < a->header_count; i++) {
		cbor_w_array(out, 2);
		cbor_w_text(out, a->headers[i].name);
		cbor_w_bytes(out, a->headers[i].value);
	}
}

static void w_updates(struct buffer *out, struct cbor_map_mark *m, const struct action *a)
{
	if (!a->update_count)
		return;
	cbor_w_key(out, m, KEY_UPDATES);
	cbor_w_array(out, a->update_count);
	for (size_t i = 0; i < a->update_count; i++) {
		cbor_w_array(out, 4);
		cbor_w_bytes(out, a->updates[i].ref);
		cbor_w_text(out, a->updates[i].before);
		cbor_w_text(out, a->updates[i].after);
		cbor_w_bool(out, a->updates[i].force);
	}
}

static void w_args(struct buffer *out, struct cbor_map_mark *m, const struct action *a)
{
	if (!a->arg_count)
		return;
	cbor_w_key(out, m, KEY_ARGS);
	cbor_w_array(out, a->arg_count);
	for (size_t i = 0; i < a->arg_count; i++) {
		cbor_w_array(out, 2);
		cbor_w_text(out, a->args[i].name);
		cbor_w_bytes(out, a->args[i].value);
	}
}

static void w_files(struct buffer *out, struct cbor_map_mark *m, const struct action *a)
{
	if (!a->file_count)
		return;
	cbor_w_key(out, m, KEY_FILES);
	cbor_w_array(out, a->file_count);
	for (size_t i = 0; i < a->file_count; i++) {
		cbor_w_array(out, 2);
		cbor_w_uint(out, a->files[i].at);
		cbor_w_bytes(out, bytes_of(a->files[i].content.b, sizeof(a->files[i].content.b)));
	}
}

static int write_action(const struct action *a, struct buffer *out)
{
	size_t from = out->len;
	struct cbor_map_mark m = cbor_w_map_begin(out);

	cbor_w_key(out, &m, KEY_KIND);
	cbor_w_uint(out, a->kind);
	cbor_w_key_text(out, &m, KEY_METHOD, a->method);
	cbor_w_key_text(out, &m, KEY_SCHEME, a->scheme);
	cbor_w_key_text(out, &m, KEY_HOST, a->host);
	if (a->port) {
		cbor_w_key(out, &m, KEY_PORT);
		cbor_w_uint(out, a->port);
	}
	cbor_w_key_text(out, &m, KEY_PATH, a->path);
	cbor_w_key_text(out, &m, KEY_QUERY, a->query);
	w_headers(out, &m, a);
	cbor_w_key_true(out, &m, KEY_WEBSOCKET, a->websocket);
	if (a->has_body) {
		w_digest(out, &m, KEY_BODY, &a->body);
		cbor_w_key(out, &m, KEY_BODY_LEN);
		cbor_w_uint(out, a->body_len);
	}
	cbor_w_key_true(out, &m, KEY_PUSH, a->push);
	cbor_w_key_text(out, &m, KEY_REMOTE, a->remote);
	w_updates(out, &m, a);
	cbor_w_key_text(out, &m, KEY_TOOL, a->tool);
	w_args(out, &m, a);
	if (!digest_is_zero(&a->program))
		w_digest(out, &m, KEY_PROGRAM, &a->program);
	if (!digest_is_zero(&a->interpreter))
		w_digest(out, &m, KEY_INTERPRETER, &a->interpreter);
	w_files(out, &m, a);
	cbor_w_map_end(out, &m);
	if (!out->failed && out->len - from > ACTION_BYTES_MAX)
		return -E2BIG;
	return out->failed;
}

int action_encode(const struct action *a, struct buffer *out)
{
	return valid(a) ? write_action(a, out) : -EINVAL;
}

size_t action_headers_read(struct cbor_reader *r, struct action_header *ret)
{
	size_t n = cbor_r_array(r);

	if (n > ACTION_HEADERS_MAX) {
		cbor_r_fail(r, -E2BIG);
		return 0;
	}
	for (size_t i = 0; i < n; i++) {
		if (cbor_r_array(r) != 2)
			cbor_r_fail(r, -EPROTO);
		ret[i].name = cbor_r_text(r);
		ret[i].value = cbor_r_bytes(r);
	}
	return n;
}

static void r_updates(struct cbor_reader *r, struct action *a)
{
	size_t n = cbor_r_array(r);

	if (n > ACTION_UPDATES_MAX) {
		cbor_r_fail(r, -E2BIG);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (cbor_r_array(r) != 4)
			cbor_r_fail(r, -EPROTO);
		a->updates[i].ref = cbor_r_bytes(r);
		a->updates[i].before = cbor_r_text(r);
		a->updates[i].after = cbor_r_text(r);
		a->updates[i].force = cbor_r_bool(r);
	}
	a->update_count = n;
}

static void r_args(struct cbor_reader *r, struct action *a)
{
	size_t n = cbor_r_array(r);

	if (n > ACTION_ARGS_MAX) {
		cbor_r_fail(r, -E2BIG);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (cbor_r_array(r) != 2)
			cbor_r_fail(r, -EPROTO);
		a->args[i].name = cbor_r_text(r);
		a->args[i].value = cbor_r_bytes(r);
	}
	a->arg_count = n;
}

static void r_files(struct cbor_reader *r, struct action *a)
{
	size_t n = cbor_r_array(r);

	if (n > ACTION_FILES_MAX) {
		cbor_r_fail(r, -E2BIG);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		uint64_t at;

		if (cbor_r_array(r) != 2)
			cbor_r_fail(r, -EPROTO);
		at = cbor_r_uint(r);
		if (at > UINT32_MAX)
			cbor_r_fail(r, -EINVAL);
		a->files[i].at = (uint32_t)at;
		cbor_r_digest(r, &a->files[i].content);
	}
	a->file_count = n;
}

static void r_field(struct cbor_reader *r, uint64_t key, struct action *a)
{
	uint64_t n;

	switch (key) {
	case KEY_KIND:
		n = cbor_r_uint(r);
		a->kind = n <= ACTION_TOOL ? (enum action_kind)n : 0;
		break;
	case KEY_METHOD:
		a->method = cbor_r_text(r);
		break;
	case KEY_SCHEME:
		a->scheme = cbor_r_text(r);
		break;
	case KEY_HOST:
		a->host = cbor_r_text(r);
		break;
	case KEY_PORT:
		n = cbor_r_uint(r);
		a->port = (uint16_t)n;
		if (n == 0 || n > UINT16_MAX)
			cbor_r_fail(r, -EINVAL);
		break;
	case KEY_PATH:
		a->path = cbor_r_text(r);
		break;
	case KEY_QUERY:
		a->query = cbor_r_text(r);
		break;
	case KEY_HEADERS:
		a->header_count = action_headers_read(r, a->headers);
		break;
	case KEY_WEBSOCKET:
		a->websocket = cbor_r_bool(r);
		break;
	case KEY_BODY:
		cbor_r_digest(r, &a->body);
		break;
	case KEY_BODY_LEN:
		a->body_len = cbor_r_uint(r);
		a->has_body = true;
		break;
	case KEY_PUSH:
		a->push = cbor_r_bool(r);
		break;
	case KEY_REMOTE:
		a->remote = cbor_r_text(r);
		break;
	case KEY_UPDATES:
		r_updates(r, a);
		break;
	case KEY_TOOL:
		a->tool = cbor_r_text(r);
		break;
	case KEY_ARGS:
		r_args(r, a);
		break;
	case KEY_PROGRAM:
		cbor_r_digest(r, &a->program);
		break;
	case KEY_INTERPRETER:
		cbor_r_digest(r, &a->interpreter);
		break;
	case KEY_FILES:
		r_files(r, a);
		break;
	default:
		cbor_r_fail(r, -EPROTO);
	}
}

int action_decode(struct bytes b, struct action *ret)
{
	struct cbor_reader r = cbor_reader(b);
	AUTO_BUFFER again = {0};
	struct cbor_map_iter m;
	struct action a UNINITIALIZED;
	uint64_t key;
	int code;

	if (b.len > ACTION_BYTES_MAX)
		return -E2BIG;
	action_clear(&a);
	cbor_r_map(&r, &m);
	while (cbor_r_key(&r, &m, &key))
		r_field(&r, key, &a);
	code = cbor_r_end(&r);
	if (code == 0 && buffer_reserve(&again, b.len) < 0)
		code = -ENOMEM;
	if (code == 0)
		code = action_encode(&a, &again);
	if (code < 0)
		return code;
	/* A key with the value that its absence says would be a second form of the same action. */
	if (!bytes_equal(buffer_bytes(&again), b))
		return -EBADMSG;
	action_copy(ret, &a);
	return 0;
}

void action_digest(struct bytes canonical, struct digest *ret)
{
	digest_domain("holdfast.action", canonical, ret);
}

/* ---- paths ---- */

/* Stands for a ';' that came encoded, while a path is decoded: no control byte is in one. Where a
 * ';' begins a segment's parameters, "%3B" is a byte of its name. */
enum { ENCODED_SEMICOLON = 1 };

/* No empty segment but the last, none of dots and spaces alone, each without what may be its
 * parameters: some servers take "..;x" for "..", and "/;/" for "//", others ".. " and "...". */
static bool segments_valid(struct bytes path)
{
	const char *s = path.data;
	size_t start = 1;

	if (path.len == 0 || s[0] != '/')
		return false;
	for (size_t i = 1; i <= path.len; i++) {
		size_t len = 0;
		bool name = false;

		if (i < path.len && s[i] != '/')
			continue;
		for (; start + len < i && s[start + len] != ';' &&
		       s[start + len] != ENCODED_SEMICOLON;
		     len++)
			name |= s[start + len] != '.' && s[start + len] != ' ';
		if (!name && (len > 0 || i < path.len))
			return false;
		start = i + 1;
	}
	return true;
}

/* Is the segment that path ends in npm's "@scope"? */
static bool in_scope(struct bytes path)
{
	const char *s = path.data;
	size_t start = path.len;

	while (start > 0 && s[start - 1] != '/')
		start--;
	return path.len > start + 1 && s[start] == '@';
}

static int decode_path(struct bytes raw, struct buffer *out)
{
	const char *s = raw.data;

	for (size_t i = 0; i < raw.len; i++) {
		uint8_t c = (uint8_t)s[i];

		if (c == '%') {
			int high = i + 2 < raw.len ? hex_digit((uint8_t)s[i + 1]) : -1;
			int low = i + 2 < raw.len ? hex_digit((uint8_t)s[i + 2]) : -1;

			if (high < 0 || low < 0)
				return -EINVAL;
			c = (uint8_t)(16 * high + low);
			if ((c == '/' && !in_scope(buffer_bytes(out))) || c == '%')
				return -EINVAL;
			i += 2;
		} else if (c == '?' || c == '#') {
			return -EINVAL;
		}
		if (c < 0x20 || c == 0x7f || c == '\\')
			return -EINVAL;
		if (c == ';' && s[i] != ';')
			c = ENCODED_SEMICOLON;
		(void)buffer_append_byte(out, c);
	}
	if (out->failed)
		return out->failed;
	return segments_valid(buffer_bytes(out)) && utf8_valid(buffer_bytes(out)) ? 0 : -EINVAL;
}

/* RFC 3986 section 3.3: pchar and '/'. */
static bool is_plain(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("-._~!$&'()*+,;=:@/", c));
}

int action_path(struct bytes raw, struct buffer *out)
{
	static const char hex[] = "0123456789ABCDEF";
	AUTO_BUFFER plain = {0};
	size_t from = out->len;
	int r;

	if (raw.len > ACTION_PATH_MAX)
		return -E2BIG;
	r = decode_path(raw, &plain);
	if (r < 0)
		return r;
	for (size_t i = 0; i < plain.len; i++) {
		uint8_t c = plain.data[i] == ENCODED_SEMICOLON ? ';' : plain.data[i];
		uint8_t three[3] = {'%', (uint8_t)hex[c >> 4], (uint8_t)hex[c & 15]};

		(void)(is_plain(plain.data[i]) ? buffer_append_byte(out, c)
					       : buffer_append(out, three, 3));
	}
	if (!out->failed && out->len - from > ACTION_PATH_MAX)
		return -E2BIG;
	return out->failed;
}

/* ---- what a body is said to be ---- */

/* From behind the name of the parameter. */
static bool charset_is_utf8(const char *at, size_t len)
{
	static const char *const same[] = {"utf-8", "utf8", "us-ascii", "ascii"};
	bool quoted = len > 1 && at[0] == '=' && at[1] == '"';

	if (len == 0 || at[0] != '=')
		return false;
	at += 1 + quoted;
	len -= 1U + quoted;
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		size_t n = strlen(same[i]);

		if (len >= n && strncasecmp(at, same[i], n) == 0 &&
		    (quoted ? len > n && at[n] == '"' : len == n || strchr("; \t", at[n])))
			return true;
	}
	return false;
}

bool action_body_is_utf8(const struct action *a)
{
	static const char name[] = "charset";
	bool named = false;

	for (size_t i = 0; i < a->header_count; i++) {
		const struct action_header *h = &a->headers[i];
		const char *s = h->value.data;

		if (bytes_equal(h->name, bytes_str("content-encoding")) &&
		    !(h->value.len == 8 && strncasecmp(s, "identity", 8) == 0))
			return false;
		if (!bytes_equal(h->name, bytes_str("content-type")))
			continue;
		for (size_t k = 0; k + sizeof(name) - 1 <= h->value.len; k++) {
			size_t end = k + sizeof(name) - 1;

			if (strncasecmp(s + k, name, sizeof(name) - 1) != 0)
				continue;
			if (named || !charset_is_utf8(s + end, h->value.len - end))
				return false;
			named = true;
		}
	}
	return true;
}

/* ---- identity ---- */

/* "query:NAME" names every parameter of that name, as decoded. */
static bool query_name_is(struct bytes param, const char *want)
{
	const char *s = param.data;
	size_t at = 0;

	for (size_t i = 0; i < param.len && s[i] != '='; i++, at++) {
		char c = s[i] == '+' ? ' ' : s[i];
		int high = c == '%' && i + 2 < param.len ? hex_digit((uint8_t)s[i + 1]) : -1;
		int low = c == '%' && i + 2 < param.len ? hex_digit((uint8_t)s[i + 2]) : -1;

		if (high >= 0 && low >= 0) {
			c = (char)(16 * high + low);
			i += 2;
		}
		if (want[at] == '\0' || want[at] != c)
			return false;
	}
	return want[at] == '\0';
}

static bool ignored_as(const char *const *ignore, size_t count, const char *what, bool header,
		       struct bytes item)
{
	size_t len = strlen(what);

	for (size_t i = 0; i < count; i++) {
		if (strncmp(ignore[i], what, len) != 0)
			continue;
		if (header ? item.len == strlen(ignore[i] + len) &&
				     strncasecmp(item.data, ignore[i] + len, item.len) == 0
			   : query_name_is(item, ignore[i] + len))
			return true;
	}
	return false;
}

static void drop_headers(struct action *a, const char *const *ignore, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < a->header_count; i++)
		if (!ignored_as(ignore, count, "header:", true, a->headers[i].name))
			a->headers[kept++] = a->headers[i];
	a->header_count = kept;
}

static int drop_query(struct action *a, const char *const *ignore, size_t count,
		      struct buffer *query)
{
	const char *s = a->query.data;
	size_t start = 0;

	if (a->query.len == 0)
		return 0;
	for (size_t i = 0; i <= a->query.len; i++) {
		struct bytes param = bytes_of(s + start, i - start);

		if (i < a->query.len && s[i] != '&')
			continue;
		start = i + 1;
		if (param.len == 0 || ignored_as(ignore, count, "query:", false, param))
			continue;
		if (query->len)
			(void)buffer_append_byte(query, '&');
		(void)buffer_append(query, param.data, param.len);
	}
	a->query = buffer_bytes(query);
	return query->failed;
}

static int drop_body(struct action *a, struct bytes body, const char *const *ignore, size_t count)
{
	const char *pointers[ACTION_POINTERS_MAX];
	AUTO_BUFFER form = {0};
	size_t n = 0;
	int r;

	for (size_t i = 0; i < count; i++)
		if (ignore[i][0] == '/') {
			if (n == ACTION_POINTERS_MAX)
				return -E2BIG;
			pointers[n++] = ignore[i];
		}
	if (n == 0 || body.len == 0 || !a->has_body)
		return 0;
	r = action_json(body, pointers, n, &form);
	if (r < 0)
		return r;
	digest_of(buffer_bytes(&form), &a->body);
	a->body_len = form.len;
	return 0;
}

static int identity_of_push(const struct action *a, struct digest *ret)
{
	AUTO_BUFFER out = {0};

	cbor_w_array(&out, 2);
	cbor_w_text(&out, a->remote);
	cbor_w_array(&out, a->update_count);
	for (size_t i = 0; i < a->update_count; i++) {
		cbor_w_array(&out, 2);
		cbor_w_bytes(&out, a->updates[i].ref);
		cbor_w_text(&out, a->updates[i].before);
	}
	if (out.failed)
		return out.failed;
	digest_domain("holdfast.action-identity", buffer_bytes(&out), ret);
	return 0;
}

int action_identity(const struct action *a, struct bytes body, const char *const *ignore,
		    size_t ignore_count, struct digest *ret)
{
	AUTO_BUFFER query = {0};
	AUTO_BUFFER out = {0};
	struct action b = *a;
	int r;

	if (!valid(a))
		return -EINVAL;
	if (a->kind == ACTION_GIT && a->push && a->update_count)
		return identity_of_push(a, ret);
	if (ignore_count) {
		drop_headers(&b, ignore, ignore_count);
		r = drop_query(&b, ignore, ignore_count, &query);
		if (r == 0)
			r = drop_body(&b, body, ignore, ignore_count);
		if (r < 0)
			return r;
	}
	r = write_action(&b, &out);
	if (r < 0)
		return r;
	digest_domain("holdfast.action-identity", buffer_bytes(&out), ret);
	return 0;
}
