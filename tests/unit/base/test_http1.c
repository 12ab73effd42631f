#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/guard.h"
#include "base/http1.h"
#include <errno.h>

enum { TEST_BODY_MAX = 64 };

static void write_head(const struct http1_message *m, struct buffer *out)
{
	if (m->kind == HTTP1_REQUEST)
		buffer_printf(out, "%.*s %.*s", (int)m->method.len, (const char *)m->method.data,
			      (int)m->target.len, (const char *)m->target.data);
	else
		buffer_printf(out, "%d", m->status);
	for (size_t i = 0; i < m->header_count; i++) {
		struct bytes n = m->headers[i].name;
		struct bytes v = m->headers[i].value;

		buffer_printf(out, " [%.*s=%.*s]", (int)n.len, (const char *)n.data, (int)v.len,
			      v.data ? (const char *)v.data : "");
	}
	buffer_append_str(out, m->keep_alive ? " keep" : " close");
	buffer_append_str(out, m->chunked ? " chunked" : "");
	if (m->has_length)
		buffer_printf(out, " length %d", (int)m->content_length);
	buffer_append_str(out, m->upgrade ? " upgrade\n" : "\n");
}

/* Plays a stream in pieces and writes what came out: heads, joined bodies, ends, the status of an
 * error, how the end of the stream was taken. */
static void play(enum http1_kind kind, unsigned forms, struct bytes in, size_t piece,
		 struct buffer *out)
{
	struct http1_parser *p = http1_parser_new(kind, TEST_BODY_MAX);
	size_t at = 0;
	bool in_body = false;

	assert_non_null(p);
	http1_parser_allow(p, forms & 3);
	if (forms & 4)
		http1_expect_no_body(p);
	for (;;) {
		size_t len = in.len - at < piece ? in.len - at : piece;
		size_t used = 99;
		struct error err = {0};
		int r = http1_feed(p, bytes_of((const char *)in.data + at, len), &used, &err);

		assert_true(used <= len);
		at += used;
		if (in_body && r != HTTP1_BODY && r != HTTP1_NEED_MORE) {
			buffer_append_str(out, "\n");
			in_body = false;
		}
		if (r < 0) {
			assert_int_equal(err.code, r);
			assert_true(err.msg[0] != '\0');
			buffer_printf(out, "%d", http1_status_for(r));
			assert_int_equal(http1_feed(p, bytes_str("GET"), &used, NULL), r);
			assert_int_equal(used, 0);
			break;
		}
		if (r == HTTP1_NEED_MORE && at == in.len)
			break;
		if (r == HTTP1_HEAD)
			write_head(http1_message(p), out);
		if (r == HTTP1_BODY) {
			buffer_append_str(out, in_body ? "" : "body ");
			buffer_append(out, http1_body(p).data, http1_body(p).len);
			in_body = true;
		}
		if (r == HTTP1_END) {
			buffer_append_str(out, "end\n");
			if (http1_message(p)->upgrade) {
				buffer_printf(out, "then %.*s", (int)(in.len - at),
					      (const char *)in.data + at);
				break;
			}
			http1_next(p);
		}
	}
	if (in_body)
		buffer_append_str(out, "\n");
	buffer_append_str(out, http1_finish(p) == 0 ? "done" : "");
	http1_parser_free(p);
}

struct stream {
	const char *rule;
	const char *in;
	const char *out;
	unsigned forms; /* enum http1_forms; 4 = http1_expect_no_body */
};

#define GET  "GET / HTTP/1.1\r\nHost: x\r\n"
#define POST "POST / HTTP/1.1\r\nHost: x\r\n"
#define TE   "Transfer-Encoding: chunked\r\n"

static const struct stream requests[] = {
	{"nothing is a clean end", "", "done"},
	{"plain request", GET "\r\n", "GET / [Host=x] keep\nend\ndone"},
	{"query and all printable bytes in a target",
	 "GET /a%20b?c=d&e=\"<>\\^`{|} HTTP/1.1\r\nHost: x\r\n\r\n",
	 "GET /a%20b?c=d&e=\"<>\\^`{|} [Host=x] keep\nend\ndone"},
	{"white space around a value is not part of it", GET "A: \t b \t c \t\r\nB:\r\nC:d\r\n\r\n",
	 "GET / [Host=x] [A=b \t c] [B=] [C=d] keep\nend\ndone"},
	{"bytes above ASCII in a value pass", GET "A: \xc3\xa4\xff\r\n\r\n",
	 "GET / [Host=x] [A=\xc3\xa4\xff] keep\nend\ndone"},
	{"close is seen", GET "Connection: close\r\n\r\n",
	 "GET / [Host=x] [Connection=close] close\nend\ndone"},
	{"HTTP/1.0 closes", "GET / HTTP/1.0\r\nHost: x\r\n\r\n", "GET / [Host=x] close\nend\ndone"},
	{"body by length", POST "Content-Length: 5\r\n\r\nhello",
	 "POST / [Host=x] [Content-Length=5] keep length 5\nbody hello\nend\ndone"},
	{"empty body by length", POST "Content-Length: 0\r\n\r\n",
	 "POST / [Host=x] [Content-Length=0] keep length 0\nend\ndone"},
	{"body by chunks", POST TE "\r\n5\r\nhello\r\n00a\r\n0123456789\r\n000\r\n\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\nbody "
	 "hello0123456789\nend\ndone"},
	{"a body may hold anything", POST "Content-Length: 9\r\n\r\nGET /\r\n\r\n",
	 "POST / [Host=x] [Content-Length=9] keep length 9\nbody GET /\r\n\r\n\nend\ndone"},
	{"pipelining",
	 GET "\r\n" POST "Content-Length: 2\r\n\r\nab" POST TE "\r\n1\r\nc\r\n0\r\n\r\n" GET "\r\n",
	 "GET / [Host=x] keep\nend\nPOST / [Host=x] [Content-Length=2] keep length 2\nbody "
	 "ab\nend\n"
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\nbody c\nend\nGET / [Host=x] "
	 "keep\nend\ndone"},
	{"upgrade hands over what follows",
	 GET "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x01\x02",
	 "GET / [Host=x] [Connection=Upgrade] [Upgrade=websocket] keep upgrade\nend\nthen \x01\x02"
	 "done"},
	{"upgrade behind a body",
	 POST "Connection: Upgrade\r\nUpgrade: a\r\nContent-Length: 2\r\n\r\nabraw",
	 "POST / [Host=x] [Connection=Upgrade] [Upgrade=a] [Content-Length=2] keep length 2 "
	 "upgrade\nbody ab\nend\nthen rawdone"},
	{"IPv6 host", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
	 "GET / [Host=[::1]:8080] keep\nend\ndone"},
	{"cut in the head", GET, ""},
	{"cut in the body", POST "Content-Length: 5\r\n\r\nhel",
	 "POST / [Host=x] [Content-Length=5] keep length 5\nbody hel\n"},
	{"cut before the last chunk", POST TE "\r\n1\r\na\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\nbody a\n"},
	/* smuggling */
	{"length and chunks", POST "Content-Length: 4\r\n" TE "\r\n0\r\n\r\n", "400"},
	{"chunks and length", POST TE "Content-Length: 4\r\n\r\n0\r\n\r\n", "400"},
	{"chunked twice", POST TE TE "\r\n0\r\n\r\n", "400"},
	{"coding before chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400"},
	{"coding after chunked", POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
	 "400"},
	{"other coding", POST "Transfer-Encoding: gzip\r\n\r\n", "400"},
	{"identity", POST "Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na", "400"},
	{"coding with a look-alike", POST "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", "400"},
	{"coding with a parameter", POST "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", "400"},
	{"coding quoted", POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400"},
	{"empty coding", POST "Transfer-Encoding:\r\n\r\n", "400"},
	{"coding in HTTP/1.0", "POST / HTTP/1.0\r\nHost: x\r\n" TE "\r\n0\r\n\r\n", "400"},
	{"two lengths", POST "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", "400"},
	{"the same length twice", POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", "400"},
	{"list of lengths", POST "Content-Length: 1, 1\r\n\r\na", "400"},
	{"signed length", POST "Content-Length: +1\r\n\r\na", "400"},
	{"negative length", POST "Content-Length: -1\r\n\r\na", "400"},
	{"hexadecimal length", POST "Content-Length: 0x1\r\n\r\na", "400"},
	{"length with a blank inside", POST "Content-Length: 1 1\r\n\r\na", "400"},
	{"empty length", POST "Content-Length:\r\n\r\n", "400"},
	{"length past 64 bits", POST "Content-Length: 18446744073709551617\r\n\r\na", "400"},
	{"bare LF behind the request line", "GET / HTTP/1.1\nHost: x\r\n\r\n", "400"},
	{"bare LF behind a header", "GET / HTTP/1.1\r\nHost: x\n\r\n", "400"},
	{"bare LF as the empty line", GET "\n", "400"},
	{"bare CR in a value", GET "A: b\rc\r\n\r\n", "400"},
	{"bare CR as a line end", "GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", "400"},
	{"CR before CRLF", GET "A: b\r\r\n\r\n", "400"},
	{"folded line", GET "A: b\r\n c\r\n\r\n", "400"},
	{"folded line by a tab", GET "A: b\r\n\tc\r\n\r\n", "400"},
	{"first header folded", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", "400"},
	{"space before the colon", GET "Content-Length : 1\r\n\r\na", "400"},
	{"tab before the colon", GET "Content-Length\t: 1\r\n\r\na", "400"},
	{"no colon", GET "Content-Length 1\r\n\r\n", "400"},
	{"no name", GET ": 1\r\n\r\n", "400"},
	{"control byte in a name", GET "A\x01: b\r\n\r\n", "400"},
	{"byte above ASCII in a name", GET "A\xe4: b\r\n\r\n", "400"},
	{"bracket in a name", GET "A(b): c\r\n\r\n", "400"},
	{"control byte in a value", GET "A: b\x01\r\n\r\n", "400"},
	{"DEL in a value", GET "A: b\x7f\r\n\r\n", "400"},
	{"two hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400"},
	{"the same host twice", "GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", "400"},
	{"no host", "GET / HTTP/1.1\r\nA: b\r\n\r\n", "400"},
	{"no header at all", "GET / HTTP/1.1\r\n\r\n", "400"},
	{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "400"},
	{"host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "400"},
	{"host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"},
	{"host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", "400"},
	{"host with an empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "400"},
	{"host with an open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400"},
	{"host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "400"},
	{"host in Unicode", "GET / HTTP/1.1\r\nHost: \xd0\xb0.b\r\n\r\n", "400"},
	{"chunk extension", POST TE "\r\n1;a=b\r\nc\r\n0\r\n\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\n400"},
	{"chunk extension of the last", POST TE "\r\n0;a\r\n\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\n400"},
	{"blank behind a chunk size", POST TE "\r\n0 \r\n\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\n400"},
	{"signed chunk size", POST TE "\r\n+1\r\na\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\n400"},
	{"empty chunk size", POST TE "\r\n\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\n400"},
	{"chunk size 0x1", POST TE "\r\n0x1\r\na\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\n400"},
	{"chunk size past 64 bits", POST TE "\r\n10000000000000001\r\na\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\n400"},
	{"bare LF behind a chunk size", POST TE "\r\n1\na\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\n400"},
	{"bare CR behind a chunk size", POST TE "\r\n1\ra\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\n400"},
	{"trailers", POST TE "\r\n0\r\nA: b\r\n\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\n400"},
	{"chunk longer than said", POST TE "\r\n1\r\nab\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\nbody a\n400"},
	{"bare LF behind a chunk", POST TE "\r\n1\r\na\n0\r\n\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\nbody a\n400"},
	/* the request line */
	{"empty line first", "\r\n" GET "\r\n", "400"},
	{"blank first", " " GET "\r\n", "400"},
	{"two blanks", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"tab for a blank", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"blank in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"blank behind the version", "GET / HTTP/1.1 \r\nHost: x\r\n\r\n", "400"},
	{"no version", "GET /\r\nHost: x\r\n\r\n", "400"},
	{"HTTP/2", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", "400"},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", "400"},
	{"http/1.1", "GET / http/1.1\r\nHost: x\r\n\r\n", "400"},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"},
	{"lower-case method", "get / HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"unknown method", "FOO / HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"fragment", "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"byte above ASCII in the target", "GET /\xe4 HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"NUL never ends a string", "GET /a\x01 HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"relative target", "GET a HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"absolute form unless asked for", "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"authority form unless asked for", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
	{"absolute form", "GET http://x:80/a HTTP/1.1\r\nHost: x\r\n\r\n",
	 "GET http://x:80/a [Host=x] keep\nend\ndone", HTTP1_ALLOW_ABSOLUTE},
	{"absolute form with a user", "GET http://a@x/ HTTP/1.1\r\nHost: x\r\n\r\n", "400",
	 HTTP1_ALLOW_ABSOLUTE},
	{"absolute form of another scheme", "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "400",
	 HTTP1_ALLOW_ABSOLUTE},
	{"absolute form without a host", "GET http:/// HTTP/1.1\r\nHost: x\r\n\r\n", "400",
	 HTTP1_ALLOW_ABSOLUTE},
	{"absolute form is not authority form", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", "400",
	 HTTP1_ALLOW_ABSOLUTE},
	{"authority form", "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\nraw",
	 "CONNECT x:443 [Host=x:443] keep upgrade\nend\nthen rawdone", HTTP1_ALLOW_AUTHORITY},
	{"authority form without a port", "CONNECT x HTTP/1.1\r\nHost: x\r\n\r\n", "400",
	 HTTP1_ALLOW_AUTHORITY},
	{"authority form with a path", "CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\n", "400",
	 HTTP1_ALLOW_AUTHORITY},
	{"CONNECT with a body", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na",
	 "400", HTTP1_ALLOW_AUTHORITY},
	{"CONNECT with chunks", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n" TE "\r\n0\r\n\r\n", "400",
	 HTTP1_ALLOW_AUTHORITY},
	/* limits */
	{"body announced past its limit", POST "Content-Length: 65\r\n\r\n", "413"},
	{"chunk past the body's limit", POST TE "\r\n41\r\n",
	 "POST / [Host=x] [Transfer-Encoding=chunked] keep chunked\n413"},
};

static const struct stream responses[] = {
	{"by length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	 "200 [Content-Length=2] keep length 2\nbody ok\nend\ndone"},
	{"no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
	 "200 [Content-Length=0] keep length 0\nend\ndone"},
	{"to the end of the stream", "HTTP/1.1 200 OK\r\n\r\nall of it",
	 "200 close\nbody all of it\ndone"},
	{"204 has no body", "HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	 "204 keep\nend\n200 [Content-Length=0] keep length 0\nend\ndone"},
	{"304 has no body whatever its length says",
	 "HTTP/1.1 304 x\r\nContent-Length: 900\r\n\r\nHTTP/1.1 204 y\r\n\r\n",
	 "304 [Content-Length=900] keep length 900\nend\n204 keep\nend\ndone"},
	{"100 comes before the answer",
	 "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" TE "\r\n1\r\na\r\n0\r\n\r\n",
	 "100 keep\nend\n200 [Transfer-Encoding=chunked] keep chunked\nbody a\nend\ndone"},
	{"the answer to HEAD has no body",
	 "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nHTTP/1.1 204 y\r\n\r\n",
	 "200 [Content-Length=900] keep length 900\nend\n204 keep\nend\ndone", 4},
	{"101 hands over what follows",
	 "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\nraw",
	 "101 [Connection=upgrade] [Upgrade=a] keep upgrade\nend\nthen rawdone"},
	{"an announced upgrade is not one",
	 "HTTP/1.1 200 x\r\nConnection: upgrade\r\nUpgrade: h2\r\nContent-Length: 1\r\n\r\na",
	 "200 [Connection=upgrade] [Upgrade=h2] [Content-Length=1] keep length 1\nbody "
	 "a\nend\ndone"},
	{"length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" TE "\r\n0\r\n\r\n", "400"},
	{"other coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "400"},
	{"chunks without a body", "HTTP/1.1 204 x\r\n" TE "\r\n0\r\n\r\n", "400"},
	{"chunks in HTTP/1.0", "HTTP/1.0 200 x\r\n" TE "\r\n0\r\n\r\n", "400"},
	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
	 "400"},
	{"folded line", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "400"},
	{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n", "400"},
	{"status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", "400"},
	{"status 099", "HTTP/1.1 099 OK\r\n\r\n", "400"},
	{"status 600", "HTTP/1.1 600 OK\r\n\r\n", "400"},
	{"HTTP/0.9", "hello\r\n\r\n", "400"},
	{"HTTP/2", "HTTP/2 200 OK\r\n\r\n", "400"},
	{"control byte in the reason", "HTTP/1.1 200 O\x01K\r\n\r\n", "400"},
	{"cut in the body", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no",
	 "200 [Content-Length=2] keep length 2\nbody o\n"},
};

static void hold(const struct stream *s, enum http1_kind kind)
{
	static const size_t pieces[] = {100000, 1, 2, 3, 7};

	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		AUTO_BUFFER out = {0};

		play(kind, s->forms, bytes_str(s->in), pieces[i], &out);
		buffer_append_str(&out, "");
		if (strcmp(out.data ? (char *)out.data : "", s->out) != 0)
			fail_msg("%s, in pieces of %zu:\n%s\nwanted:\n%s", s->rule, pieces[i],
				 (char *)out.data, s->out);
	}
}

static void requests_are_taken_or_refused_whatever_the_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		hold(&requests[i], HTTP1_REQUEST);
}

static void responses_are_taken_or_refused_whatever_the_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(responses); i++)
		hold(&responses[i], HTTP1_RESPONSE);
}

static int feed_all(struct bytes in, enum http1_kind kind)
{
	struct http1_parser *p = http1_parser_new(kind, 0);
	size_t used;
	int r = http1_feed(p, in, &used, NULL);

	http1_parser_free(p);
	return r;
}

static void a_nul_byte_is_refused_wherever_it_stands(void **state)
{
	static const char head[] = "GET /a HTTP/1.1\r\nHost: x\r\nAb: cd\r\n\r\n";

	(void)state;
	for (size_t i = 0; i < sizeof(head) - 1; i++) {
		char copy[sizeof(head)];
		int r;

		memcpy(copy, head, sizeof(head));
		copy[i] = '\0';
		r = feed_all(bytes_of(copy, sizeof(head) - 1), HTTP1_REQUEST);
		/* Without the last LF the head is not complete, which is as good. */
		assert_true(r == -EBADMSG || (i >= sizeof(head) - 5 && r == HTTP1_NEED_MORE));
	}
}

static void the_head_s_limits_hold_at_their_edge(void **state)
{
	(void)state;
	for (int extra = 0; extra <= 1; extra++) {
		AUTO_BUFFER target = {0};
		AUTO_BUFFER many = {0};
		AUTO_BUFFER block = {0};

		buffer_append_str(&target, "GET /");
		for (int i = 0; i < HTTP1_TARGET_MAX - 1 + extra; i++)
			buffer_append_byte(&target, 'a');
		buffer_append_str(&target, " HTTP/1.1\r\nHost: x\r\n\r\n");
		assert_int_equal(feed_all(buffer_bytes(&target), HTTP1_REQUEST),
				 extra ? -ENAMETOOLONG : HTTP1_HEAD);

		buffer_append_str(&many, GET);
		for (int i = 0; i < HTTP1_HEADERS_MAX - 1 + extra; i++)
			buffer_append_str(&many, "A: b\r\n");
		buffer_append_str(&many, "\r\n");
		assert_int_equal(feed_all(buffer_bytes(&many), HTTP1_REQUEST),
				 extra ? -E2BIG : HTTP1_HEAD);

		buffer_append_str(&block, GET "A: ");
		while (block.len < (size_t)(HTTP1_HEADER_BLOCK_MAX - 4 + extra))
			buffer_append_byte(&block, 'a');
		buffer_append_str(&block, "\r\n\r\n");
		assert_int_equal(feed_all(buffer_bytes(&block), HTTP1_REQUEST),
				 extra ? -E2BIG : HTTP1_HEAD);
	}
}

static void an_endless_head_is_cut_off_before_it_is_kept(void **state)
{
	struct http1_parser *p = http1_parser_new(HTTP1_REQUEST, 0);
	size_t total = 0;
	int r = 0;

	(void)state;
	while (r == HTTP1_NEED_MORE) {
		size_t used;

		r = http1_feed(p, bytes_str("aaaaaaaaaaaaaaaa"), &used, NULL);
		total += 16;
	}
	assert_int_equal(r, -E2BIG);
	assert_true(total <= HTTP1_HEADER_BLOCK_MAX + 16);
	assert_true(http1_finish(p) < 0);
	http1_parser_free(p);
}

static void a_body_without_length_stops_at_its_limit(void **state)
{
	struct http1_parser *p = http1_parser_new(HTTP1_RESPONSE, 10);
	size_t used;

	(void)state;
	assert_int_equal(http1_feed(p, bytes_str("HTTP/1.1 200 OK\r\n\r\n"), &used, NULL),
			 HTTP1_HEAD);
	assert_int_equal(http1_feed(p, bytes_str("0123456789"), &used, NULL), HTTP1_BODY);
	assert_int_equal(used, 10);
	assert_int_equal(http1_feed(p, bytes_str("x"), &used, NULL), -EMSGSIZE);
	http1_parser_free(p);
}

static void a_head_is_borrowed_until_next(void **state)
{
	struct http1_parser *p = http1_parser_new(HTTP1_REQUEST, 0);
	const struct http1_header *h;
	size_t used;

	(void)state;
	assert_int_equal(http1_feed(p, bytes_str(POST "X-Thing: a\r\nContent-Length: 3\r\n\r\n"),
				    &used, NULL),
			 HTTP1_HEAD);
	assert_int_equal(http1_feed(p, bytes_str("abc"), &used, NULL), HTTP1_BODY);
	assert_int_equal(http1_feed(p, bytes_str(""), &used, NULL), HTTP1_END);
	h = http1_header_find(http1_message(p), "x-THING");
	assert_non_null(h);
	assert_true(bytes_equal(h->value, bytes_str("a")));
	assert_null(http1_header_find(http1_message(p), "x-thin"));
	assert_null(http1_header_find(http1_message(p), "x-things"));
	http1_parser_free(p);
	http1_parser_free(NULL);
}

static void each_error_has_its_status_and_reason(void **state)
{
	static const struct {
		int error, status;
		const char *reason;
	} table[] = {
		{-EBADMSG, 400, "Bad Request"},
		{-EMSGSIZE, 413, "Content Too Large"},
		{-ENAMETOOLONG, 414, "URI Too Long"},
		{-E2BIG, 431, "Request Header Fields Too Large"},
		{-ENOMEM, 500, "Internal Server Error"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		assert_int_equal(http1_status_for(table[i].error), table[i].status);
		assert_string_equal(http1_reason(table[i].status), table[i].reason);
	}
	assert_string_equal(http1_reason(799), "Unknown");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_taken_or_refused_whatever_the_pieces),
		cmocka_unit_test(responses_are_taken_or_refused_whatever_the_pieces),
		cmocka_unit_test(a_nul_byte_is_refused_wherever_it_stands),
		cmocka_unit_test(the_head_s_limits_hold_at_their_edge),
		cmocka_unit_test(an_endless_head_is_cut_off_before_it_is_kept),
		cmocka_unit_test(a_body_without_length_stops_at_its_limit),
		cmocka_unit_test(a_head_is_borrowed_until_next),
		cmocka_unit_test(each_error_has_its_status_and_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
