/* What the courier reads by itself: git's pkt-lines and packs, and secrets in streams; and the states
 * of a request. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <zlib.h>
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>
#include "base/guard.h"
#include "sandbox/gate/exchange_state.h"
#include "sandbox/gate/git.h"
#include "sandbox/gate/scan.h"

#define ZERO "0000000000000000000000000000000000000000"
#define ONES "1111111111111111111111111111111111111111"
#define TWOS "2222222222222222222222222222222222222222"

static struct action request(const char *method, const char *path, const char *query)
{
	return (struct action){.kind = ACTION_HTTP,
			       .method = bytes_str(method),
			       .scheme = bytes_str("https"),
			       .host = bytes_str("git.example"),
			       .port = 443,
			       .path = bytes_str(path),
			       .query = bytes_str(query)};
}

static void git_is_recognised_by_its_urls(void **state)
{
	static const struct {
		const char *method, *path, *query, *remote;
		bool refs, push;
	} rows[] = {
		{"GET", "/a/b.git/info/refs", "service=git-upload-pack",
		 "https://git.example/a/b.git", true, false},
		{"GET", "/a/b/info/refs", "service=git-receive-pack", "https://git.example/a/b",
		 true, true},
		{"POST", "/a/b/git-upload-pack", "", "https://git.example/a/b", false, false},
		{"POST", "/a/b/git-receive-pack", "", "https://git.example/a/b", false, true},
		{"GET", "/a/b/info/refs", "", NULL, false, false},
		{"GET", "/a/b/info/refs", "service=git-upload-pack&x", NULL, false, false},
		{"POST", "/a/b/info/refs", "service=git-upload-pack", NULL, false, false},
		{"PUT", "/a/b/git-receive-pack", "", NULL, false, false},
		{"POST", "/a/b/git-receive-pack", "x=y", NULL, false, false},
		{"POST", "/git-receive-pack", "", NULL, false, false},
		{"POST", "/a/b/xgit-receive-pack", "", NULL, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct action a = request(rows[i].method, rows[i].path, rows[i].query);
		struct git_where w;
		AUTO_BUFFER remote = {0};

		assert_int_equal(git_recognise(&a, &w), rows[i].remote != NULL);
		if (!rows[i].remote)
			continue;
		assert_int_equal(w.refs, rows[i].refs);
		assert_int_equal(w.push, rows[i].push);
		assert_int_equal(git_remote(&a, &w, &remote), 0);
		assert_string_equal((const char *)remote.data, rows[i].remote);
		a.port = 8443;
		assert_false(git_recognise(&a, &w));
		a.port = 443;
		a.scheme = bytes_str("http");
		assert_false(git_recognise(&a, &w));
	}
}

static void pkt(struct buffer *b, const char *text, size_t len)
{
	(void)buffer_printf(b, "%04zx", len + 4);
	(void)buffer_append(b, text, len);
}

#define PKT(b, text) pkt(b, text, sizeof(text) - 1)

static void a_push_is_its_commands(void **state)
{
	static struct git_push p;
	AUTO_BUFFER b = {0};

	(void)state;
	PKT(&b, "shallow " ONES "\n");
	PKT(&b,
	    ZERO " " ONES " refs/heads/new\0 report-status side-band-64k push-options agent=git/2");
	PKT(&b, ONES " " ZERO " refs/heads/gone\n");
	PKT(&b, ONES " " TWOS " refs/heads/x");
	(void)buffer_append_str(&b, "0000");
	PKT(&b, "ci.skip");
	(void)buffer_append_str(&b, "0000PACKxyz");
	assert_int_equal(git_push_parse(buffer_bytes(&b), &p), 0);
	assert_int_equal(p.count, 3);
	assert_true(bytes_equal(p.updates[0].ref, bytes_str("refs/heads/new")));
	assert_true(bytes_equal(p.updates[1].after, bytes_str(ZERO)));
	assert_false(p.updates[0].force);
	assert_false(p.updates[1].force);
	/* what is not known to be a fast-forward is none */
	assert_true(p.updates[2].force);
	assert_true(p.report_status);
	assert_true(p.sideband);
	assert_true(bytes_equal(p.pack, bytes_str("PACKxyz")));
	for (size_t cut = 0; cut + 7 < b.len; cut++)
		assert_true(git_push_parse(bytes_of(b.data, cut), &p) < 0);
}

static void a_push_that_can_be_read_two_ways_is_none(void **state)
{
	static struct git_push p;
	static const char *const bad[] = {
		"",
		"000",
		"0001",
		"0003",
		"00zz",
		"fff5" ZERO,
		"0000extra-is-pack-so-fine-but-see-below",
		"000cabcdefgh0000",
		"0067" ZERO " " ONES " refs/heads/a b0000",
		"0065" ZERO "x" ONES " refs/heads/ab0000",
		"0012push-cert\0x\n0000",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int r = git_push_parse(bytes_str(bad[i]), &p);

		if (i == 6)
			assert_int_equal(r, 0); /* no command: nothing is pushed */
		else
			assert_true(r < 0);
	}
	AUTO_BUFFER twice = {0};
	PKT(&twice, ZERO " " ONES " refs/heads/a");
	PKT(&twice, ZERO " " TWOS " refs/heads/a");
	(void)buffer_append_str(&twice, "0000");
	assert_int_equal(git_push_parse(buffer_bytes(&twice), &p), -EBADMSG);
	AUTO_BUFFER many = {0};
	for (int i = 0; i <= ACTION_UPDATES_MAX; i++) {
		char line[160];
		int n = snprintf(line, sizeof(line), ZERO " " ONES " refs/heads/%d", i);

		pkt(&many, line, (size_t)n);
	}
	(void)buffer_append_str(&many, "0000");
	assert_int_equal(git_push_parse(buffer_bytes(&many), &p), -E2BIG);
	AUTO_BUFFER cert = {0};
	PKT(&cert, "push-cert\0push-options");
	assert_int_equal(git_push_parse(buffer_bytes(&cert), &p), -EOPNOTSUPP);
}

static void a_refusal_names_every_ref(void **state)
{
	static struct git_push p;
	AUTO_BUFFER out = {0};

	(void)state;
	p = (struct git_push){.count = 1, .report_status = true};
	p.updates[0].ref = bytes_str("refs/heads/a");
	assert_int_equal(git_push_refusal(&p, "no", &out), 0);
	assert_string_equal((const char *)out.data, "000eunpack ok\n0017ng refs/heads/a no\n0000");
	buffer_free(&out);
	p.sideband = true;
	assert_int_equal(git_push_refusal(&p, "no", &out), 0);
	assert_memory_equal(out.data, "002e\001000eunpack ok\n0017ng refs/heads/a no\n00000000",
			    50);
}

/* ---- packs ---- */

struct made {
	struct buffer pack;
	uint32_t count;
};

static void put_object(struct made *m, int type, const void *data, size_t len)
{
	uint8_t out[4096];
	uLongf n = sizeof(out);
	size_t left = len >> 4;

	(void)buffer_append_byte(&m->pack, (uint8_t)((left ? 0x80 : 0) | type << 4 | (len & 15)));
	while (left) {
		(void)buffer_append_byte(&m->pack,
					 (uint8_t)((left >> 7 ? 0x80 : 0) | (left & 0x7f)));
		left >>= 7;
	}
	assert_int_equal(compress(out, &n, data, len), Z_OK);
	(void)buffer_append(&m->pack, out, n);
	m->count++;
}

static void put_commit(struct made *m, const char *parent, char *ret_name)
{
	char text[512], object[600];
	uint8_t hash[20];
	int n = snprintf(text, sizeof(text),
			 "tree " ONES "\n%s%s%sauthor a <a> 1 +0000\n\nmsg %u\n",
			 parent ? "parent " : "", parent ? parent : "", parent ? "\n" : "",
			 m->count);
	int h = snprintf(object, sizeof(object), "commit %d", n) + 1;

	memcpy(object + h, text, (size_t)n);
	SHA1((uint8_t *)object, (size_t)(h + n), hash);
	for (int i = 0; i < 20; i++)
		snprintf(ret_name + 2 * i, 3, "%02x", hash[i]);
	put_object(m, 1, text, (size_t)n);
}

static struct bytes finish(struct made *m)
{
	uint8_t *s = m->pack.data;

	s[8] = s[9] = s[10] = 0;
	s[11] = (uint8_t)m->count;
	(void)buffer_append(&m->pack, "01234567890123456789", 20);
	return buffer_bytes(&m->pack);
}

static bool reaches(struct bytes pack, const char *after, const char *before)
{
	struct action_update u = {.before = bytes_str(before), .after = bytes_str(after)};

	git_pack_judge(pack, &u, 1);
	return !u.force;
}

static void only_a_walk_over_the_pack_is_a_fast_forward(void **state)
{
	struct made m = {0};
	char a[41], b[41], other[41];
	struct bytes pack;

	(void)state;
	(void)buffer_append(&m.pack, "PACK\0\0\0\2\0\0\0\0", 12);
	put_commit(&m, TWOS, a);
	put_object(&m, 3, "a blob", 6);
	put_commit(&m, a, b);
	put_commit(&m, NULL, other);
	pack = finish(&m);
	assert_true(reaches(pack, b, TWOS));
	assert_true(reaches(pack, b, a));
	assert_false(reaches(pack, a, b));
	assert_false(reaches(pack, other, TWOS));
	assert_false(reaches(pack, ONES, TWOS));
	/* a pack that cannot be read to its end proves nothing */
	for (size_t cut = 0; cut + 20 < pack.len; cut += 7)
		assert_false(reaches(bytes_of(pack.data, cut), b, TWOS));
	buffer_free(&m.pack);
}

/* ---- secrets ---- */

static const char secret[] = "hunter2/+=value";

static bool found(const char *text, size_t cut)
{
	AUTO(scan_free) struct scan *s = scan_new(bytes_str(secret));
	size_t len = strlen(text);
	bool first = scan_feed(s, bytes_of(text, cut));

	return scan_feed(s, bytes_of(text + cut, len - cut)) || first;
}

static void a_secret_is_found_in_each_form_across_any_border(void **state)
{
	static const char *const yes[] = {
		"xhunter2/+=valuex",
		"68756e746572322f2b3d76616c7565",
		"x68756E746572322F2B3D76616C7565",
		"%68%75%6e%74%65%72%32%2F%2b%3D%76%61%6c%75%65",
		"hunter2%2F%2b%3dvalue",
		"aHVudGVyMi8rPXZhbHVl", /* alignment 0 */
		"YWh1bnRlcjIvKz12YWx1ZWI", /* a + secret + b */
		"YWFodW50ZXIyLys9dmFsdWU", /* aa + secret */
		"YWFodW50ZXIyLys9dmFsdWViYg",
		"\"hunter2\\/+=value\"", /* as JSON may have it */
		"h\\u0075nter2\\u002f\\u002B=value",
		"\\u0068\\u0075\\u006e\\u0074\\u0065\\u0072\\u0032\\u002F\\u002b\\u003d\\u0076\\u00"
		"61\\u006c\\u0075\\u0065",
		"aHVudGVyMi8rPXZhbHVl\\n",
		"YWFodW50ZXIyLys9dmFsdWU\\u003d",
		"YWFodW50ZXIyLy\\u0073" /* base64 with one of its digits escaped */
		"9dmFsdWU",
		"hunter2\\u00252F+=value", /* percent-encoded in a JSON string */
		"YWFodW50ZXIy\r\nLys9dmFsdWViYg==\r\n", /* MIME's lines */
		"YWFodW50ZXIyLys9dmFsdW\nViYg==\n",
		"68756E746572322F2\nb3d7661\n6c7565\n",
		"{\"content\":\"YWFodW50ZXIy\\nLys9dmFsdWViYg==\\n\"}",
		"YWFodW50ZXIy\\u000d\\u000aLys9dmFsdWViYg==",
	};
	static const char *const no[] = {"",
					 "hunter2/+=valu",
					 "hunter2",
					 "HUNTER2/+=VALUE",
					 "aHVudGVyMg==",
					 "hunter2\\\\/+=value",
					 "h\\u0055nter2/+=value",
					 "\\u006",
					 "\\"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		for (size_t cut = 0; cut <= strlen(yes[i]); cut++)
			assert_true(found(yes[i], cut));
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		for (size_t cut = 0; cut <= strlen(no[i]); cut++)
			assert_false(found(no[i], cut));
	assert_null(scan_new((struct bytes){0}));
}

static void what_may_begin_a_form_is_held(void **state)
{
	AUTO(scan_free) struct scan *s = scan_new(bytes_str(secret));

	(void)state;
	assert_false(scan_feed(s, bytes_str("data: {}\n\n")));
	assert_int_equal(scan_hold(s), 0);
	static const struct {
		const char *text;
		size_t hold;
	} rows[] = {{"x\\", 1},	      {"x\\u0068\\u", 8},  {"x\\u0041", 0},
		    {"\\\"h", 1},     {"hunter2\\/+", 10}, {"\\n", 0},
		    {"xhu", 2},	      {"x%", 1},	   {"x%6", 2},
		    {"x%68%7", 5},    {"x%41", 0},	   {"x6875", 4},
		    {"x68756E", 6},   {"xaHVudG", 6},	   {"hunter2/+=valu", 14},
		    {"%7", 0},	      {"hhhu", 2},	   {"xaHVudG\r\n", 8},
		    {"x6875\n6E", 7}, {"xaHVudG\\n", 8},   {"data: hu\n\n", 0}};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO(scan_free) struct scan *t = scan_new(bytes_str(secret));

		assert_false(scan_feed(t, bytes_str(rows[i].text)));
		assert_int_equal(scan_hold(t), rows[i].hold);
	}
	for (const char *c = secret; c[1]; c++) {
		assert_false(scan_feed(s, bytes_of(c, 1)));
		assert_int_equal(scan_hold(s), c - secret + 1);
	}
	assert_true(scan_feed(s, bytes_str("e")));
	assert_true(scan_feed(s, bytes_str("and from then on")));
}

/* ---- a request's states ---- */

static void a_request_goes_only_where_the_table_lets_it(void **state)
{
	/* rows from, columns to: as in exchange_state.h */
	static const char *const table[] = {
		[EXCHANGE_BODY] = ".tad...x", /* before it is decided nothing is sent */
		[EXCHANGE_ATTEMPT] = "..ad...x",
		[EXCHANGE_ASKED] = "..ad.hlx", /* never from asked to sent: SEND dials */
		[EXCHANGE_DIALING] = "..adsh.x",
		[EXCHANGE_SENDING] = "..ad.h.x", /* nothing goes inside to its end before RESULT */
		[EXCHANGE_HELD] = "......lx", /* what was told is not sent again */
		[EXCHANGE_DELIVERING] = ".......x",
		[EXCHANGE_DONE] = "........", /* ended once */
	};
	size_t n = ARRAY_SIZE(table);

	(void)state;
	assert_int_equal(n, EXCHANGE_DONE + 1);
	for (size_t from = 0; from < n; from++) {
		assert_int_equal(strlen(table[from]), n);
		for (size_t to = 0; to < n; to++) {
			bool may = exchange_state_may((enum exchange_state)from,
						      (enum exchange_state)to);

			if (may != (table[from][to] != '.'))
				fail_msg("from %zu to %zu: %d", from, to, may);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(git_is_recognised_by_its_urls),
		cmocka_unit_test(a_push_is_its_commands),
		cmocka_unit_test(a_push_that_can_be_read_two_ways_is_none),
		cmocka_unit_test(a_refusal_names_every_ref),
		cmocka_unit_test(only_a_walk_over_the_pack_is_a_fast_forward),
		cmocka_unit_test(a_secret_is_found_in_each_form_across_any_border),
		cmocka_unit_test(what_may_begin_a_form_is_held),
		cmocka_unit_test(a_request_goes_only_where_the_table_lets_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
