/*
 * The events of a stream do not depend on how it was cut into pieces, and what was accepted obeys
 * the limits. First byte: bit 0 the kind, bits 1 and 2 the forms allowed, the rest the size of the
 * pieces.
 */
#include "base/http1.h"
#include "tests/fuzz/fuzz.h"

static void check_head(const struct http1_message *m)
{
	MUST(m->header_count <= HTTP1_HEADERS_MAX && m->target.len <= HTTP1_TARGET_MAX);
	MUST(!(m->chunked && m->has_length));
	for (size_t i = 0; i < m->header_count; i++) {
		struct bytes v = m->headers[i].value;

		MUST(m->headers[i].name.len > 0);
		MUST(v.len == 0 || (!memchr(v.data, '\r', v.len) && !memchr(v.data, '\n', v.len) &&
				    !memchr(v.data, 0, v.len)));
	}
	if (m->kind == HTTP1_REQUEST)
		MUST(http1_header_find(m, "host") && m->method.len > 0 && m->target.len > 0);
	else
		MUST(m->status >= 100 && m->status <= 599);
}

/* Writes what happened into out: one line an event, bodies joined. */
static void run(const uint8_t *data, size_t size, unsigned how, size_t piece, struct buffer *out)
{
	enum http1_kind kind = how & 1 ? HTTP1_RESPONSE : HTTP1_REQUEST;
	struct http1_parser *p = http1_parser_new(kind, 1000);
	size_t at = 0;
	int r = 0;

	MUST(p);
	http1_parser_allow(p, how >> 1 & 3);
	while (r >= 0) {
		size_t len = size - at < piece ? size - at : piece;
		size_t used;

		r = http1_feed(p, bytes_of(data + at, len), &used, NULL);
		MUST(used <= len);
		at += used;
		if (r == HTTP1_NEED_MORE) {
			MUST(used == len);
			if (at == size)
				break;
		} else if (r == HTTP1_HEAD) {
			check_head(http1_message(p));
			buffer_printf(out, "\nhead %zu %d %.*s\n", http1_message(p)->header_count,
				      http1_message(p)->status, (int)http1_message(p)->target.len,
				      (const char *)http1_message(p)->target.data);
		} else if (r == HTTP1_BODY) {
			MUST(http1_body(p).len > 0);
			buffer_append(out, http1_body(p).data, http1_body(p).len);
		} else if (r == HTTP1_END) {
			buffer_append_str(out, "\nend\n");
			if (http1_message(p)->upgrade)
				break;
			http1_next(p);
		}
	}
	if (r < 0) {
		size_t used;

		MUST(http1_feed(p, bytes_of("x", 1), &used, NULL) == r && used == 0);
		MUST(http1_finish(p) < 0);
	}
	buffer_printf(out, "\n%d %d\n", r < 0 ? r : 0, http1_finish(p));
	http1_parser_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_BUFFER whole = {0};
	AUTO_BUFFER pieces = {0};
	size_t body_limit_reached = 0;

	if (size < 1)
		return 0;
	run(data + 1, size - 1, data[0], size, &whole);
	run(data + 1, size - 1, data[0], 1U + (data[0] >> 3), &pieces);
	/* A body past its limit may be cut at another place. */
	body_limit_reached = whole.len >= 4 && strstr((const char *)whole.data, "\n-90 ") != NULL;
	MUST(body_limit_reached || bytes_equal(buffer_bytes(&whole), buffer_bytes(&pieces)));
	return 0;
}
