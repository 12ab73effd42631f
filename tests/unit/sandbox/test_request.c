/* What a client asked becomes one canonical request, or an error with a status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include "base/guard.h"
#include "sandbox/gate/request.h"

static const struct request_target https = {{"api.example.com", 15}, 443, true};
static const struct request_target plain = {{"api.example.com", 15}, 8080, false};

/* -1: http1 refused it already. */
static int make(const char *text, const struct request_target *t, struct http1_parser **p,
		struct request *q, struct error *err)
{
	size_t used;

	*p = http1_parser_new(HTTP1_REQUEST, 1 << 20);
	assert_non_null(*p);
	http1_parser_allow(*p, HTTP1_ALLOW_ABSOLUTE);
	memset(q, 0, sizeof(*q));
	if (http1_feed(*p, bytes_str(text), &used, err) != HTTP1_HEAD)
		return -1;
	return request_make(http1_message(*p), t, q, err);
}

#define HOST "Host: api.example.com\r\n"

static void a_request_gets_its_status(void **state)
{
	static const struct {
		const char *why, *text;
		const struct request_target *target;
		int want;
	} rows[] = {
		{"plain", "GET / HTTP/1.1\r\n" HOST "\r\n", &https, 0},
		{"host in capitals", "GET / HTTP/1.1\r\nHost: API.Example.com\r\n\r\n", &https, 0},
		{"host with its port", "GET / HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n",
		 &https, 0},
		{"another host", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", &https, 421},
		{"another port", "GET / HTTP/1.1\r\nHost: api.example.com:80\r\n\r\n", &https, 421},
		{"a port in two ways", "GET / HTTP/1.1\r\nHost: api.example.com:00443\r\n\r\n",
		 &https, 0},
		{"a host that begins so", "GET / HTTP/1.1\r\nHost: api.example.com.evil\r\n\r\n",
		 &https, 421},
		{"a trailing dot", "GET / HTTP/1.1\r\nHost: api.example.com.\r\n\r\n", &https, 421},
		{"no port at another than the scheme's", "GET / HTTP/1.1\r\n" HOST "\r\n", &plain,
		 421},
		{"with it", "GET / HTTP/1.1\r\nHost: api.example.com:8080\r\n\r\n", &plain, 0},
		{"two hosts", "GET / HTTP/1.1\r\n" HOST HOST "\r\n", &https, -1},
		{"no host", "GET / HTTP/1.1\r\n\r\n", &https, -1},
		{"own absolute form", "GET https://api.example.com/a HTTP/1.1\r\n" HOST "\r\n",
		 &https, 0},
		{"own absolute form without path",
		 "GET https://api.example.com HTTP/1.1\r\n" HOST "\r\n", &https, 0},
		{"absolute form of another", "GET https://evil.example/ HTTP/1.1\r\n" HOST "\r\n",
		 &https, 421},
		{"absolute form of another scheme",
		 "GET http://api.example.com/ HTTP/1.1\r\n" HOST "\r\n", &https, 421},
		{"own absolute form, other Host",
		 "GET https://api.example.com/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", &https,
		 421},
		{"authority form", "CONNECT api.example.com:443 HTTP/1.1\r\n" HOST "\r\n", &https,
		 -1},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", &https, -1},
		{"%2f", "GET /a%2fb HTTP/1.1\r\n" HOST "\r\n", &https, 400},
		{"%00", "GET /a%00b HTTP/1.1\r\n" HOST "\r\n", &https, 400},
		{"..", "GET /a/../b HTTP/1.1\r\n" HOST "\r\n", &https, 400},
		{"..;", "GET /a/..;/b HTTP/1.1\r\n" HOST "\r\n", &https, 400},
		{"..%3b", "GET /a/..%3bx/b HTTP/1.1\r\n" HOST "\r\n", &https, 400},
		{"%2e%2e", "GET /a/%2e%2e/b HTTP/1.1\r\n" HOST "\r\n", &https, 400},
		{"backslash", "GET /a\\b HTTP/1.1\r\n" HOST "\r\n", &https, 400},
		{"CRLF in a path", "GET /a%0d%0aX:%20y HTTP/1.1\r\n" HOST "\r\n", &https, 400},
		{"// ", "GET //evil.example/ HTTP/1.1\r\n" HOST "\r\n", &https, 400},
		{"authorization twice",
		 "GET / HTTP/1.1\r\n" HOST "Authorization: a\r\nAuthorization: b\r\n\r\n", &https,
		 400},
		{"content-type twice",
		 "GET / HTTP/1.1\r\n" HOST "Content-Type: a\r\ncontent-type: a\r\n\r\n", &https,
		 400},
		{"an unknown expectation",
		 "POST / HTTP/1.1\r\n" HOST "Expect: a\r\nContent-Length: 1\r\n\r\n", &https, 417},
		{"websocket",
		 "GET / HTTP/1.1\r\n" HOST
		 "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
		 "13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		 &https, 0},
		{"websocket of another version",
		 "GET / HTTP/1.1\r\n" HOST
		 "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
		 "8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		 &https, 426},
		{"websocket without a key",
		 "GET / HTTP/1.1\r\n" HOST
		 "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
		 &https, 400},
		{"websocket by POST",
		 "POST / HTTP/1.1\r\n" HOST
		 "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
		 "13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		 &https, 400},
		{"websocket and another",
		 "GET / HTTP/1.1\r\n" HOST
		 "Upgrade: h2c, websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
		 "13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		 &https, 400},
		{"an offer of h2c",
		 "GET / HTTP/1.1\r\n" HOST "Upgrade: h2c\r\nConnection: Upgrade, "
		 "HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
		 &https, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct http1_parser *p;
		struct error err = {0};
		struct request q;
		AUTO_BUFFER out = {0};
		int r = make(rows[i].text, rows[i].target, &p, &q, &err);

		if (r != rows[i].want)
			fail_msg("%s: %d %s", rows[i].why, r, err.msg);
		if (r > 0)
			assert_true(err.msg[0] != '\0');
		if (r == 0) /* what is made can always be said */
			assert_int_equal(frames_request_encode(&q.frames, &out), 0);
		request_clear(&q);
		http1_parser_free(p);
	}
}

static const struct action_header *find(const struct request *q, const char *name)
{
	for (size_t i = 0; i < q->frames.action.header_count; i++)
		if (bytes_equal(q->frames.action.headers[i].name, bytes_str(name)))
			return &q->frames.action.headers[i];
	return NULL;
}

static void only_known_headers_pass(void **state)
{
	static const char text[] =
		"POST /p%61th?q=1&r HTTP/1.1\r\n" HOST
		"User-Agent: x\r\nX-Forwarded-For: 1.2.3.4\r\n"
		"Accept: a\r\nCookie: a=1\r\nCookie: b=2\r\nACCEPT: b\r\nX-HTTP-Method-Override: "
		"DELETE\r\n"
		"Connection: keep-alive, Range\r\nRange: bytes=0-1\r\nProxy-Authorization: z\r\n"
		"TE: trailers\r\nKeep-Alive: 1\r\nAuthorization: Bearer "
		"t\r\nSec-WebSocket-Protocol: p\r\n"
		"X-A-Header-With-A-Name-That-Is-Much-Too-Long-For-A-Record: 1\r\nExpect: "
		"100-continue\r\n"
		"Holdfast-Reason: the customer asked\r\n"
		"Content-Length: 3\r\n\r\n";
	static const char *const dropped[] = {"x-forwarded-for",
					      "x-http-method-override",
					      "range",
					      "proxy-authorization",
					      "sec-websocket-protocol",
					      "x-a-header-with-a-name-that-is-m"};
	struct http1_parser *p;
	struct request q;

	(void)state;
	assert_int_equal(make(text, &https, &p, &q, NULL), 0);
	assert_int_equal(q.frames.action.header_count, 4);
	assert_true(bytes_equal(find(&q, "accept")->value, bytes_str("a, b")));
	assert_true(bytes_equal(find(&q, "cookie")->value, bytes_str("a=1; b=2")));
	assert_true(bytes_equal(find(&q, "authorization")->value, bytes_str("Bearer t")));
	assert_non_null(find(&q, "user-agent"));
	assert_int_equal(q.frames.dropped_count, ARRAY_SIZE(dropped));
	for (size_t i = 0; i < ARRAY_SIZE(dropped); i++)
		assert_true(bytes_equal(q.frames.dropped[i], bytes_str(dropped[i])));
	assert_true(bytes_equal(q.frames.reason, bytes_str("the customer asked")));
	assert_true(bytes_equal(q.frames.action.path, bytes_str("/path")));
	assert_true(bytes_equal(q.frames.action.query, bytes_str("q=1&r")));
	assert_true(q.expects && q.frames.has_length && q.frames.action.body_len == 3);
	request_clear(&q);
	http1_parser_free(p);
}

/* Lines of one name are joined within bounds, and what was joined stays where it is. */
static void many_lines_of_one_name_have_a_limit(void **state)
{
	(void)state;
	for (int n = 1; n <= 90; n++) {
		AUTO_BUFFER text = {0};
		AUTO_BUFFER out = {0};
		struct http1_parser *p;
		struct error err = {0};
		struct request q;
		int r;

		(void)buffer_append_str(&text, "GET / HTTP/1.1\r\n" HOST);
		for (int i = 0; i < n; i++)
			(void)buffer_printf(&text, "Accept: %0200d\r\n", i);
		(void)buffer_append_str(&text, "\r\n");
		r = make((const char *)text.data, &https, &p, &q, &err);
		assert_true(r == 431 || r == 0);
		assert_true(n > 3 || r == 0);
		assert_true(n < 90 || r == 431);
		if (r == 0) {
			assert_int_equal(find(&q, "accept")->value.len, n * 202 - 2);
			assert_int_equal(frames_request_encode(&q.frames, &out), 0);
		}
		request_clear(&q);
		http1_parser_free(p);
	}
}

static void http2_is_seen_at_its_preface(void **state)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0";

	(void)state;
	assert_true(request_is_http2(bytes_of(preface, sizeof(preface))));
	assert_true(request_is_http2(bytes_str("PRI * HTTP/2.0\r\n")));
	assert_false(request_is_http2(bytes_str("PRI")));
	assert_false(request_is_http2(bytes_str("PRI / HTTP/1.1\r\n")));
	assert_false(request_is_http2(bytes_str("")));
}

static void a_refusal_is_json(void **state)
{
	AUTO_BUFFER out = {0};

	(void)state;
	assert_int_equal(request_refusal("bad", "a \"b\"\n", NULL, &out), 0);
	assert_string_equal((char *)out.data, "{\"error\":\"bad\",\"why\":\"a \\\"b\\\"\\n\"}\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_gets_its_status),
		cmocka_unit_test(only_known_headers_pass),
		cmocka_unit_test(many_lines_of_one_name_have_a_limit),
		cmocka_unit_test(http2_is_seen_at_its_preface),
		cmocka_unit_test(a_refusal_is_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
