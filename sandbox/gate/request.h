#pragma once
/*
 * What a client in the sandbox asked, made into the one canonical request that may leave, or
 * refused with a status. Pure: base/http1 has read the message; here its host is held to the name
 * that was resolved, its path is made canonical, its headers are sorted out.
 */
#include "base/buffer.h"
#include "base/http1.h"
#include "sandbox/gate/frames.h"

enum {
	REQUEST_WEBSOCKET_KEY = 24, /* bytes of base64: 16 random ones */
	REQUEST_WEBSOCKET_VERSION = 13,
};

/* What the connection was made to. */
struct request_target {
	struct bytes host; /* A-label */
	uint16_t port;
	bool tls;
};

struct request {
	struct frames_request frames; /* borrows from the message and from text and path */
	struct buffer text, path;
	bool keep_alive; /* as its client wants it */
	bool is_head; /* HEAD: the answer has no body */
	bool is_old; /* HTTP/1.0: the answer is not chunked */
	bool expects; /* Expect: 100-continue */
	char websocket_key[REQUEST_WEBSOCKET_KEY + 1]; /* "" = none */
};

/*
 * 0; or the HTTP status to refuse it with and *err saying why: 400, 414, 417, 421, 426, 431; or
 * -ENOMEM. ret is filled as far as it came, and is request_clear()ed by the caller whatever comes
 * back.
 */
MUST_CHECK int request_make(const struct http1_message *m, const struct request_target *t,
			    struct request *ret, struct error *err);
void request_clear(struct request *r);
/* An opening of HTTP/2 with prior knowledge (RFC 9113 section 3.4), or the beginning of one. */
bool request_is_http2(struct bytes in);
/* Appends {"error":...,"why":...,"hint":...}; hint may be NULL. */
MUST_CHECK int request_refusal(const char *error, const char *why, const char *hint,
			       struct buffer *out);
