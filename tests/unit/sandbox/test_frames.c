/* The name table, and what gate and courier say to each other: one set of bytes each, limits, and
 * nothing else is read. */
#include "tests/golden.h"
#include "base/guard.h"
#include "sandbox/gate/frames.h"
#include "sandbox/gate/table.h"

static struct table *small_table(void)
{
	struct table *t = table_new();

	assert_non_null(t);
	assert_int_equal(table_add(t, "api.example.com", 443, TABLE_TLS), 0);
	assert_int_equal(table_add(t, "*.example.com", 8080, TABLE_HTTP), 0);
	assert_int_equal(table_add(t, "db.internal.example", 5432, TABLE_TCP), 0);
	assert_int_equal(table_add(t, "**.example.org", 443, TABLE_PASSTHROUGH), 0);
	return t;
}

static void a_table_round_trips(void **state)
{
	AUTO(table_free) struct table *t = small_table();
	AUTO(table_free) struct table *back = NULL;
	AUTO_BUFFER out = {0};
	AUTO_BUFFER again = {0};

	(void)state;
	assert_int_equal(table_encode(t, &out), 0);
	golden_check("sandbox/net-table.four.cbor", buffer_bytes(&out));
	assert_int_equal(table_decode(buffer_bytes(&out), &back), 0);
	assert_int_equal(table_encode(back, &again), 0);
	assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&again)));
	for (size_t i = 0; i < out.len; i++) {
		AUTO(table_free) struct table *cut = NULL;

		assert_true(table_decode(bytes_of(out.data, i), &cut) < 0);
	}
}

static void the_most_special_entry_covers_a_name(void **state)
{
	static const struct {
		const char *name, *want;
	} rows[] = {
		{"api.example.com", "api.example.com"},
		{"x.example.com", "*.example.com"},
		{"x.y.example.com", NULL},
		{"example.com", NULL},
		{"xexample.com", NULL},
		{"a.example.org", "**.example.org"},
		{"a.b.example.org", "**.example.org"},
		{"example.org", NULL},
		{"a.in.example.org", "*.in.example.org"},
		{"a.b.in.example.org", "**.in.example.org"},
		{"", NULL},
	};
	AUTO(table_free) struct table *t = small_table();

	(void)state;
	assert_int_equal(table_add(t, "**.in.example.org", 80, TABLE_HTTP), 0);
	assert_int_equal(table_add(t, "*.in.example.org", 80, TABLE_HTTP), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct table_entry *e = table_find(t, bytes_str(rows[i].name));

		if ((e == NULL) != (rows[i].want == NULL) ||
		    (e && strcmp(e->host, rows[i].want) != 0))
			fail_msg("%s: %s", rows[i].name, e ? e->host : "none");
	}
}

static bool has_port(const struct table *t, const char *name, uint16_t port, enum table_mode mode)
{
	const struct table_entry *e = table_find(t, bytes_str(name));

	for (size_t i = 0; e && i < e->port_count; i++)
		if (e->ports[i].port == port)
			return e->ports[i].mode == mode;
	return false;
}

/* Whatever comes first: a name that a wildcard covers has the wildcard's ports too. */
static void a_name_has_all_ports_that_cover_it(void **state)
{
	static const struct {
		const char *host;
		uint16_t port;
		enum table_mode mode;
	} adds[] = {
		{"a.example.com", 443, TABLE_PASSTHROUGH}, {"*.example.com", 443, TABLE_TLS},
		{"**.com.example", 1, TABLE_TCP},	   {"a.example.com", 22, TABLE_TCP},
		{"*.example.com", 80, TABLE_TCP},	   {"*.example.com", 80, TABLE_HTTP},
	};

	(void)state;
	for (size_t turn = 0; turn < ARRAY_SIZE(adds); turn++) {
		AUTO(table_free) struct table *t = table_new();

		for (size_t i = 0; i < ARRAY_SIZE(adds); i++) {
			size_t k = (i + turn) % ARRAY_SIZE(adds);

			assert_int_equal(table_add(t, adds[k].host, adds[k].port, adds[k].mode), 0);
		}
		assert_true(has_port(t, "a.example.com", 443, TABLE_TLS));
		assert_true(has_port(t, "a.example.com", 80, TABLE_HTTP));
		assert_true(has_port(t, "a.example.com", 22, TABLE_TCP));
		assert_false(has_port(t, "b.example.com", 22, TABLE_TCP));
		assert_true(has_port(t, "b.example.com", 443, TABLE_TLS));
	}
}

static void listeners_have_an_order(void **state)
{
	AUTO(table_free) struct table *t = small_table();
	struct table_where w, before = {0};
	size_t n = table_listeners(t);

	(void)state;
	/* 4, api 2 ports, 64 of *.example.com, db, 64 of **.example.org; both families */
	assert_int_equal(n, 4 + 2 * (2 + 64 + 1 + 64));
	table_listener(t, 0, &w);
	assert_true(w.resolver && w.datagram && !w.v6 && w.number == 53);
	assert_memory_equal(w.address, "\xc6\x12\x00\x01", 4);
	table_listener(t, 3, &w);
	assert_true(w.resolver && !w.datagram && w.v6);
	assert_memory_equal(w.address, "\xfd\x48\x6f\x6c\x64\x66\0\0\0\0\0\0\0\0\0\1", 16);
	table_listener(t, 4, &w);
	assert_true(!w.resolver && w.entry == 0 && w.slot == 0 && w.number == 443 && !w.v6);
	assert_memory_equal(w.address, "\xc6\x12\x00\x02", 4);
	table_listener(t, 7, &w);
	assert_true(w.entry == 0 && w.number == 8080 && w.v6);
	table_listener(t, n - 1, &w);
	assert_true(w.entry == 3 && w.slot == 63 && w.number == 443 && w.v6);
	assert_memory_equal(w.address, "\xfd\x48\x6f\x6c\x64\x66\0\0\0\0\0\0\0\0\0\x83", 16);
	for (size_t i = 4; i < n; i++) { /* no address serves two names */
		table_listener(t, i, &w);
		if (i > 5 && memcmp(before.address, w.address, 16) == 0)
			assert_true(before.entry == w.entry && before.slot == w.slot);
		if (i % 2 == 0)
			before = w;
	}
}

static void a_table_has_limits(void **state)
{
	AUTO(table_free) struct table *t = table_new();
	AUTO(table_free) struct table *wild = table_new();
	char host[32];
	int r = 0;

	(void)state;
	assert_int_equal(table_add(t, "Example.com", 1, TABLE_TLS), -EINVAL);
	assert_int_equal(table_add(t, "*", 1, TABLE_TLS), -EINVAL);
	assert_int_equal(table_add(t, "*.", 1, TABLE_TLS), -EINVAL);
	assert_int_equal(table_add(t, "***.a", 1, TABLE_TLS), -EINVAL);
	assert_int_equal(table_add(t, "a.*.b", 1, TABLE_TLS), -EINVAL);
	assert_int_equal(table_add(t, "a", 0, TABLE_TLS), -EINVAL);
	for (uint16_t port = 1; port <= TABLE_PORTS_MAX; port++)
		assert_int_equal(table_add(t, "a", port, TABLE_TLS), 0);
	assert_int_equal(table_add(t, "a", 99, TABLE_TLS), -E2BIG);
	for (int i = 1; i < TABLE_ENTRIES_MAX; i++) {
		snprintf(host, sizeof(host), "h%d", i);
		assert_int_equal(table_add(t, host, 1, TABLE_TLS), 0);
	}
	assert_int_equal(table_add(t, "one-more", 1, TABLE_TLS), -E2BIG);
	for (int i = 0; i < TABLE_LISTENERS_MAX && r == 0; i++) {
		snprintf(host, sizeof(host), "*.w%d", i);
		r = table_add(wild, host, 1, TABLE_TLS);
	}
	assert_int_equal(r, -E2BIG);
}

static struct frames_request request(void)
{
	struct frames_request q = {.has_length = true};
	struct action *a = &q.action;

	a->kind = ACTION_HTTP;
	a->method = bytes_str("PUT");
	a->scheme = bytes_str("https");
	a->host = bytes_str("a.example");
	a->port = 443;
	a->path = bytes_str("/");
	a->has_body = true;
	a->body_len = 5;
	q.dropped[q.dropped_count++] = bytes_str("x-forwarded-for");
	q.reason = bytes_str("the customer asked");
	return q;
}

static struct frames_response response(void)
{
	struct frames_response r = {.status = 200, .has_length = true, .length = 3};

	r.headers[r.header_count++] =
		(struct action_header){bytes_str("set-cookie"), bytes_str("a=1")};
	r.headers[r.header_count++] =
		(struct action_header){bytes_str("set-cookie"), bytes_str("b=\xe4")};
	return r;
}

static void messages_round_trip(void **state)
{
	struct frames_request q = request(), q2;
	struct frames_response p = response(), p2;
	struct frames_open o = {.attempt = {1, 2, 3}, .connection = 9}, o2;
	struct frames_tunnel t = {bytes_str("a.example"), 22, true}, t2;
	struct frames_refusal f = {403, bytes_str("{\"error\":\"denied\"}")}, f2;
	struct frames_note n = {{1, 2, 3},
				FRAMES_NOTE_TLS,
				bytes_str("evil.example"),
				443,
				bytes_str("it names another host")},
			   n2;
	struct buffer b[6] = {{0}};

	(void)state;
	assert_int_equal(frames_request_encode(&q, &b[0]), 0);
	assert_int_equal(frames_request_decode(buffer_bytes(&b[0]), &q2), 0);
	assert_true(bytes_equal(q2.dropped[0], q.dropped[0]) && q2.has_length);
	assert_true(bytes_equal(q2.reason, q.reason));
	assert_true(q2.action.body_len == 5 && bytes_equal(q2.action.host, q.action.host));
	golden_check("sandbox/gate-request.put.cbor", buffer_bytes(&b[0]));
	assert_int_equal(frames_response_encode(&p, &b[1]), 0);
	assert_int_equal(frames_response_decode(buffer_bytes(&b[1]), &p2), 0);
	assert_true(p2.status == 200 && p2.header_count == 2 && p2.length == 3 && p2.has_length);
	golden_check("sandbox/gate-response.ok.cbor", buffer_bytes(&b[1]));
	assert_int_equal(frames_open_encode(&o, &b[2]), 0);
	assert_int_equal(frames_open_decode(buffer_bytes(&b[2]), &o2), 0);
	assert_memory_equal(&o, &o2, sizeof(o));
	golden_check("sandbox/gate-open.one.cbor", buffer_bytes(&b[2]));
	assert_int_equal(frames_tunnel_encode(&t, &b[3]), 0);
	assert_int_equal(frames_tunnel_decode(buffer_bytes(&b[3]), &t2), 0);
	assert_true(t2.tls && t2.port == 22 && bytes_equal(t2.host, t.host));
	golden_check("sandbox/gate-tunnel.tls.cbor", buffer_bytes(&b[3]));
	assert_int_equal(frames_refusal_encode(&f, &b[4]), 0);
	assert_int_equal(frames_refusal_decode(buffer_bytes(&b[4]), &f2), 0);
	assert_true(f2.status == 403 && bytes_equal(f2.json, f.json));
	golden_check("sandbox/gate-refusal.denied.cbor", buffer_bytes(&b[4]));
	assert_int_equal(frames_note_encode(&n, &b[5]), 0);
	assert_int_equal(frames_note_decode(buffer_bytes(&b[5]), &n2), 0);
	assert_true(n2.kind == FRAMES_NOTE_TLS && n2.port == 443 && bytes_equal(n2.why, n.why));
	assert_true(bytes_equal(n2.host, n.host));
	golden_check("sandbox/gate-note.tls.cbor", buffer_bytes(&b[5]));
	n.host = bytes_str("a b");
	assert_int_equal(frames_note_encode(&n, &b[5]), -EINVAL);
	for (int i = 0; i < 6; i++)
		buffer_free(&b[i]);
}

static void a_request_that_breaks_a_rule_is_refused(void **state)
{
	static const char *const reasons[] = {
		"two\nlines", "\xff no text", "\x7f",
		"0123456789012345678901234567890123456789012345678901234567890123456789"
		"0123456789012345678901234567890123456789012345678901234567890123456789"
		"0123456789012345678901234567890123456789012345678901234567890123456789"
		"0123456789012345678901234567891"};
	AUTO_BUFFER out = {0};
	struct frames_request q = request();

	(void)state;
	q.action.body.b[0] = 1; /* the courier digests, not the gate */
	assert_int_equal(frames_request_encode(&q, &out), -EINVAL);
	q = request();
	q.has_length = false; /* a length that nobody said */
	assert_int_equal(frames_request_encode(&q, &out), -EINVAL);
	q = request();
	q.dropped[0] = bytes_str("X-Upper");
	assert_int_equal(frames_request_encode(&q, &out), -EINVAL);
	q = request();
	q.action.kind = ACTION_TCP;
	assert_int_equal(frames_request_encode(&q, &out), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
		q = request();
		q.reason = bytes_str(reasons[i]);
		assert_int_equal(frames_request_encode(&q, &out), -EINVAL);
	}
}

static void a_response_that_breaks_a_rule_is_refused(void **state)
{
	static const char *const names[] = {"connection",
					    "content-length",
					    "transfer-encoding",
					    "upgrade",
					    "keep-alive",
					    "Set-Cookie",
					    "a b",
					    "",
					    "sec-websocket-accept"};
	AUTO_BUFFER out = {0};
	struct frames_response p = response();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		p.headers[0].name = bytes_str(names[i]);
		if (frames_response_encode(&p, &out) != -EINVAL)
			fail_msg("%s", names[i]);
	}
	p = response();
	p.headers[0].value = bytes_str("a\r\nset-cookie: b");
	assert_int_equal(frames_response_encode(&p, &out), -EINVAL);
	p = response();
	p.status = 100;
	assert_int_equal(frames_response_encode(&p, &out), -EINVAL);
	p.status = 600;
	assert_int_equal(frames_response_encode(&p, &out), -EINVAL);
	assert_int_equal(frames_refusal_encode(&(struct frames_refusal){200, bytes_str("{}")},
					       &out),
			 -EINVAL);
}

static void frames_have_limits(void **state)
{
	static const struct {
		const char *why;
		uint8_t b[8];
		int want;
	} rows[] = {
		{"an empty body's end", {0, 0, 0, 0, FRAMES_BODY_END}, 0},
		{"a body's end with bytes", {1, 0, 0, 0, FRAMES_BODY_END}, -E2BIG},
		{"the largest body", {0, 0, 1, 0, FRAMES_BODY}, 0},
		{"one byte more", {1, 0, 1, 0, FRAMES_BODY}, -E2BIG},
		{"a huge one", {0, 0, 0, 0xff, FRAMES_DATA}, -E2BIG},
		{"the largest request", {0, 0x10, 1, 0, FRAMES_REQUEST}, 0},
		{"one byte more", {1, 0x10, 1, 0, FRAMES_REQUEST}, -E2BIG},
		{"no type", {0}, -EBADMSG},
		{"an unknown type", {0, 0, 0, 0, 99}, -EBADMSG},
		{"a byte that is not zero", {0, 0, 0, 0, FRAMES_BODY, 1}, -EBADMSG},
		{"a byte that is not zero", {0, 0, 0, 0, FRAMES_BODY, 0, 0, 1}, -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct frames_header h;
		uint8_t again[8];

		if (frames_header_decode(rows[i].b, &h) != rows[i].want)
			fail_msg("%s", rows[i].why);
		if (rows[i].want < 0)
			continue;
		frames_header_encode(h.type, h.length, again);
		assert_memory_equal(again, rows[i].b, 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_round_trips),
		cmocka_unit_test(the_most_special_entry_covers_a_name),
		cmocka_unit_test(a_name_has_all_ports_that_cover_it),
		cmocka_unit_test(listeners_have_an_order),
		cmocka_unit_test(a_table_has_limits),
		cmocka_unit_test(messages_round_trip),
		cmocka_unit_test(a_request_that_breaks_a_rule_is_refused),
		cmocka_unit_test(a_response_that_breaks_a_rule_is_refused),
		cmocka_unit_test(frames_have_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
