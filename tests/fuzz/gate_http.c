/*
 * A request that passes the gate: what leaves can be said in its one form, and was said to the host
 * of its connection. Cut in two anywhere, it is the same request.
 */
#include <errno.h>
#include "base/guard.h"
#include "sandbox/gate/request.h"
#include "tests/fuzz/fuzz.h"

static const struct request_target target = {{"a.example", 9}, 443, true};

/* The result of request_make, or what http1 said; what was made goes to out. */
static int once(struct bytes in, size_t cut, struct buffer *out)
{
	struct http1_parser *p = http1_parser_new(HTTP1_REQUEST, 1 << 20);
	struct request q = {0};
	size_t used, at = 0;
	int r = HTTP1_NEED_MORE;

	MUST(p);
	http1_parser_allow(p, HTTP1_ALLOW_ABSOLUTE);
	for (int i = 0; i < 2 && r == HTTP1_NEED_MORE; i++) {
		size_t end = i == 0 ? cut : in.len;

		r = http1_feed(p, bytes_of((const char *)in.data + at, end - at), &used, NULL);
		at += used;
	}
	if (r == HTTP1_HEAD) {
		r = request_make(http1_message(p), &target, &q, NULL);
		MUST(r >= 0);
		if (r == 0) {
			MUST(bytes_equal(q.frames.action.host, target.host));
			MUST(frames_request_encode(&q.frames, out) == 0);
		}
		request_clear(&q);
	}
	http1_parser_free(p);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = bytes_of(data, size);
	AUTO_BUFFER whole = {0};
	int r;

	(void)request_is_http2(in);
	r = once(in, size, &whole);
	for (size_t cut = 0; cut < size; cut += 1 + size / 16) {
		AUTO_BUFFER again = {0};

		MUST(once(in, cut, &again) == r);
		MUST(bytes_equal(buffer_bytes(&whole), buffer_bytes(&again)));
	}
	return 0;
}
