#pragma once
/*
 * Strict HTTP/1.1 (RFC 9110, RFC 9112) over llhttp, for the API and the gate alike. Pure: bytes in,
 * events out, no I/O. The whole header block is looked at before llhttp sees it. Refused:
 * Transfer-Encoding together with Content-Length, any coding but chunked, bare CR or LF, obs-fold,
 * space before the colon, two Hosts or none, repeated or unequal Content-Length, CTL in values,
 * absolute-form and authority-form targets unless asked for, chunk extensions and trailers, an
 * empty line before the start line. Every limit is named.
 *
 * Feed until HTTP1_NEED_MORE, also when no byte is left over: an event may need none.
 */
#include "base/buffer.h"

enum {
	HTTP1_HEADER_BLOCK_MAX = 32 * 1024,
	HTTP1_HEADERS_MAX = 100,
	HTTP1_TARGET_MAX = 8 * 1024,
	HTTP1_BODY_MAX_DEFAULT = 16 * 1024 * 1024,
};

struct http1_header {
	struct bytes name; /* as sent; compare with http1_header_find */
	struct bytes value; /* without surrounding white space */
};

enum http1_kind { HTTP1_REQUEST, HTTP1_RESPONSE };

struct http1_message { /* borrowed from the parser; valid until http1_next or free */
	enum http1_kind kind;
	struct bytes method; /* requests */
	struct bytes target; /* requests; origin form unless others were allowed */
	int status; /* responses */
	int minor; /* of HTTP/1: 0 or 1 */
	struct http1_header headers[HTTP1_HEADERS_MAX];
	size_t header_count;
	bool keep_alive;
	bool chunked;
	bool has_length;
	uint64_t content_length;
	bool upgrade;
};

enum http1_event {
	HTTP1_NEED_MORE = 0, /* all input consumed, message not complete */
	HTTP1_HEAD = 1, /* message head complete: parser->msg is valid */
	HTTP1_BODY = 2, /* parser->body holds a piece of the body */
	HTTP1_END = 3, /* message complete; call http1_next before feeding more */
};

struct http1_parser; /* opaque, owned */
/* body_max in bytes; 0 = HTTP1_BODY_MAX_DEFAULT. NULL when out of memory. */
struct http1_parser *http1_parser_new(enum http1_kind kind, uint64_t body_max);
void http1_parser_free(struct http1_parser *p); /* accepts NULL */
/* What a request target may be besides origin-form ("/path?query"). */
enum http1_forms {
	HTTP1_ALLOW_ABSOLUTE = 1, /* GET http://host/path: to a proxy */
	HTTP1_ALLOW_AUTHORITY = 2, /* CONNECT host:port */
};
void http1_parser_allow(struct http1_parser *p, unsigned forms);
/* The next response answers HEAD: it has no body whatever its head says. Holds until http1_next. */
void http1_expect_no_body(struct http1_parser *p);
/* Feeds bytes; *ret_used says how many were taken. Returns an http1_event, or -EBADMSG, -E2BIG
 * (head past its limits), -ENAMETOOLONG (target), -EMSGSIZE (body past body_max), -ENOMEM with *err
 * filled. After a negative return the connection is to be closed; every later feed returns the
 * same. */
MUST_CHECK int http1_feed(struct http1_parser *p, struct bytes in, size_t *ret_used,
			  struct error *err);
/* End of stream: 0 if that is a legal end (between messages, or a response without length), else
 * -EBADMSG. */
MUST_CHECK int http1_finish(struct http1_parser *p);
void http1_next(struct http1_parser *p);
const struct http1_message *http1_message(const struct http1_parser *p);
struct bytes http1_body(
	const struct http1_parser *p); /* after HTTP1_BODY; borrowed until the next feed */
/* Case-insensitive; NULL if absent. */
const struct http1_header *http1_header_find(const struct http1_message *m, const char *name);
/* Case-insensitive, as header names and most of what stands in their values are. */
bool http1_token_is(struct bytes token, const char *want);
/* HTTP status the server answers for a negative return of http1_feed: 400, 413, 414, 431, 500. */
int http1_status_for(int error);
const char *http1_reason(int status);
