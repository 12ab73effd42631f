/* The keeper's messages: one set of bytes each, and whatever breaks a rule is refused as a whole.
 */
#include "tests/golden.h"
#include <stdio.h>
#include "base/guard.h"
#include "sandbox/protocol.h"

static const char *const argv[] = {"make", "te\xffst", NULL};
static const char *const env[] = {"PATH=/bin", "EMPTY=", NULL};
static const char *const layers[] = {"a1", "b2"};
static const struct sandbox_mount mounts[] = {
	{SANDBOX_MOUNT_SYSTEM, "/usr", "/usr", true, false},
	{SANDBOX_MOUNT_MASK_DIR, NULL, "/w/secret", false, true},
};
static const struct sandbox_etc_file etc[] = {{"resolv.conf", {"nameserver 198.18.0.1\n", 22}}};
static const struct sandbox_listener listeners[] = {
	{.address = {198, 18, 0, 1}, .port = 443},
	{.v6 = true, .address = {0xfd}, .port = 53, .datagram = true}};

static struct sandbox_spec whole(void)
{
	return (struct sandbox_spec){.argv = argv,
				     .env = env,
				     .cwd = "/w",
				     .home = "/home/u",
				     .mounts = mounts,
				     .mount_count = 2,
				     .workspace = {.mode = SANDBOX_WORKSPACE_STAGED,
						   .target = "/w",
						   .base_fd = 5,
						   .layers = layers,
						   .layer_count = 2,
						   .upper = "c3"},
				     .stdin_fd = -1,
				     .in_name = "in",
				     .etc_files = etc,
				     .etc_file_count = 1,
				     .listeners = listeners,
				     .listener_count = 2,
				     .limits = {1, 2, 3, 4, 5, 6, 7},
				     .allow_weaker = SANDBOX_WEAKER_CPU,
				     .pty = true,
				     .pty_rows = 24,
				     .pty_cols = 80,
				     .uid = 1000,
				     .gid = 100,
				     .user_name = "u",
				     .hostname = "h"};
}

static void a_spec_comes_back_as_it_went(void **state)
{
	struct sandbox_spec s = whole();
	struct sandbox_attempt_id id = {{1, 2, 3}};
	AUTO(protocol_spec_free) struct protocol_spec *p = NULL;
	AUTO_BUFFER out = {0};
	AUTO_BUFFER again = {0};

	(void)state;
	assert_int_equal(protocol_spec_encode(&s, &out, NULL), 0);
	golden_check("sandbox/keeper-start.whole.cbor", buffer_bytes(&out));
	assert_int_equal(protocol_spec_decode(buffer_bytes(&out), &id, &p, NULL), 0);
	assert_int_equal(p->fds, PROTOCOL_START_BASE);
	assert_string_equal(p->spec.argv[1], "te\xffst");
	assert_int_equal(p->spec.mounts[1].optional, true);
	assert_memory_equal(p->spec.listeners[1].address, listeners[1].address, 16);
	assert_memory_equal(&p->spec.limits, &s.limits, sizeof(s.limits));
	assert_int_equal(protocol_spec_encode(&p->spec, &again, NULL), 0);
	assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&again)));
}

static void every_cut_and_every_flipped_bit_is_refused_or_reads_alike(void **state)
{
	struct sandbox_spec s = whole();
	struct sandbox_attempt_id id = {{0}};
	AUTO_BUFFER out = {0};

	(void)state;
	assert_int_equal(protocol_spec_encode(&s, &out, NULL), 0);
	for (size_t len = 0; len < out.len; len++) {
		struct protocol_spec *p = NULL;
		assert_true(protocol_spec_decode(bytes_of(out.data, len), &id, &p, NULL) < 0);
	}
	for (size_t bit = 0; bit < out.len * 8; bit++) {
		AUTO(protocol_spec_free) struct protocol_spec *p = NULL;
		AUTO_BUFFER again = {0};
		out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (protocol_spec_decode(buffer_bytes(&out), &id, &p, NULL) == 0)
			assert_int_equal(protocol_spec_encode(&p->spec, &again, NULL), 0);
		out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void what_a_spec_may_not_say(void **state)
{
	static const char *const bad_paths[] = {"",	    "w",    "/w/",   "/w/../x",
						"/w//x",    "/./w", "/proc", "/proc/1",
						"/dev/shm", "/",    "/run",  "/run/holdfast/in"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad_paths); i++) {
		struct sandbox_spec s = whole();
		struct sandbox_mount m = {SANDBOX_MOUNT_TMPFS, NULL, bad_paths[i], false, false};
		s.mounts = &m;
		s.mount_count = 1;
		assert_int_equal(protocol_spec_check(&s, NULL), -EINVAL);
		s = whole();
		s.workspace.target = bad_paths[i];
		assert_int_equal(protocol_spec_check(&s, NULL), -EINVAL);
	}
	struct sandbox_spec s = whole();
	s.in_name = "../x";
	assert_int_equal(protocol_spec_check(&s, NULL), -EINVAL);
	s = whole();
	s.workspace.upper = NULL;
	assert_int_equal(protocol_spec_check(&s, NULL), -EINVAL);
	s = whole();
	struct sandbox_etc_file f = {"../shadow", {"x", 1}};
	s.etc_files = &f;
	assert_int_equal(protocol_spec_check(&s, NULL), -EINVAL);
}

static void requests_have_their_own_keys_and_no_other(void **state)
{
	const struct protocol_request q = {.epoch = 7,
					   .signal = 15,
					   .on = true,
					   .rows = 24,
					   .cols = 80,
					   .uid = 1000,
					   .gid = 100,
					   .sealer = bytes_str("x"),
					   .table = bytes_str("t"),
					   .ca = bytes_str("c")};
	static const enum protocol_type types[] = {PROTOCOL_HELLO,   PROTOCOL_SIGNAL,
						   PROTOCOL_KILL,    PROTOCOL_FREEZE,
						   PROTOCOL_RESIZE,  PROTOCOL_LAYER,
						   PROTOCOL_NET_OPEN};
	char name[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		struct protocol_request back;
		AUTO_BUFFER out = {0};
		assert_int_equal(protocol_request_encode(types[i], &q, &out), 0);
		snprintf(name, sizeof(name), "sandbox/keeper-request.%d.cbor", types[i]);
		golden_check(name, buffer_bytes(&out));
		for (size_t k = 0; k < ARRAY_SIZE(types); k++)
			assert_int_equal(protocol_request_decode(types[k], buffer_bytes(&out),
								 &back) == 0,
					 i == k || types[i] == PROTOCOL_KILL);
	}
}

static void events_come_back_as_they_went(void **state)
{
	struct sandbox_event exited = {.type = SANDBOX_EVENT_EXITED},
			     failed = {.type = SANDBOX_EVENT_NOT_STARTED}, back;
	AUTO_BUFFER out = {0};

	(void)state;
	exited.exit = (struct sandbox_exit){.why = SANDBOX_WHY_LIMIT,
					    .status = -1,
					    .signal = 9,
					    .limit = "cpu",
					    .usage = {1, 2, 3},
					    .stdout_bytes = 4,
					    .stderr_dropped = 5,
					    .spool_error = -28,
					    .denied = {{165, 2}},
					    .denied_count = 1,
					    .denied_more = 6};
	assert_int_equal(protocol_event_encode(&exited, &out), 0);
	golden_check("sandbox/keeper-exited.limit.cbor", buffer_bytes(&out));
	assert_int_equal(protocol_event_decode(PROTOCOL_EVENT_EXITED, buffer_bytes(&out), &back),
			 0);
	assert_memory_equal(&back.exit, &exited.exit, sizeof(back.exit));
	out.len = 0;
	exited.exit.weaker = SANDBOX_WEAKER_MEMORY | SANDBOX_WEAKER_LANDLOCK;
	assert_int_equal(protocol_event_encode(&exited, &out), 0);
	golden_check("sandbox/keeper-exited.weaker.cbor", buffer_bytes(&out));
	assert_int_equal(protocol_event_decode(PROTOCOL_EVENT_EXITED, buffer_bytes(&out), &back),
			 0);
	assert_memory_equal(&back.exit, &exited.exit, sizeof(back.exit));
	out.len = 0;
	failed.not_started = (struct sandbox_not_started){.why = SANDBOX_NOT_STARTED_EXEC,
							  .error = -2,
							  .stage = "exec",
							  .text = "no"};
	assert_int_equal(protocol_event_encode(&failed, &out), 0);
	golden_check("sandbox/keeper-failure.exec.cbor", buffer_bytes(&out));
	assert_int_equal(protocol_event_decode(PROTOCOL_EVENT_NOT_STARTED, buffer_bytes(&out),
					       &back),
			 0);
	assert_memory_equal(&back.not_started, &failed.not_started, sizeof(back.not_started));
	struct sandbox_found found[] = {{{{9}}, SANDBOX_ATTEMPT_LIVE}};
	struct sandbox_hello hello = {.keeper_epoch = 3,
				      .keeper_pid = 77,
				      .boot_id = "b",
				      .found = found,
				      .found_count = 1},
			     said = {0};
	out.len = 0;
	assert_int_equal(protocol_hello_encode(&hello, &out), 0);
	golden_check("sandbox/keeper-hello.one.cbor", buffer_bytes(&out));
	assert_int_equal(protocol_hello_decode(buffer_bytes(&out), &said), 0);
	assert_int_equal(said.found[0].state, SANDBOX_ATTEMPT_LIVE);
	assert_int_equal(said.net_count, 0);
	free(said.found);
	struct sandbox_net_id nets[] = {{{1}}, {{2}}};
	hello.nets = nets;
	hello.net_count = 2;
	out.len = 0;
	assert_int_equal(protocol_hello_encode(&hello, &out), 0);
	golden_check("sandbox/keeper-hello.nets.cbor", buffer_bytes(&out));
	assert_int_equal(protocol_hello_decode(buffer_bytes(&out), &said), 0);
	assert_int_equal(said.net_count, 2);
	assert_memory_equal(said.nets, nets, sizeof(nets));
	free(said.found);
	free(said.nets);
}

static void a_network_is_named_by_a_spec_that_brings_no_listeners(void **state)
{
	struct sandbox_spec s = whole();
	struct sandbox_attempt_id id = {{1}};
	AUTO(protocol_spec_free) struct protocol_spec *p = NULL;
	AUTO_BUFFER out = {0};

	(void)state;
	s.net.b[15] = 1;
	assert_int_equal(protocol_spec_check(&s, NULL), -EINVAL);
	s.listener_count = 0;
	assert_int_equal(protocol_spec_encode(&s, &out, NULL), 0);
	golden_check("sandbox/keeper-start.net.cbor", buffer_bytes(&out));
	assert_int_equal(protocol_spec_decode(buffer_bytes(&out), &id, &p, NULL), 0);
	assert_memory_equal(&p->spec.net, &s.net, sizeof(s.net));
	/* a network of zeros is said by saying none */
	out.data[out.len - 1] = 0;
	struct protocol_spec *none = NULL;
	assert_true(protocol_spec_decode(buffer_bytes(&out), &id, &none, NULL) < 0);
}

static void a_table_or_authority_past_its_limit_is_refused(void **state)
{
	static uint8_t much[SANDBOX_NET_TABLE_MAX + 1];
	struct protocol_request q = {.table = bytes_of(much, sizeof(much))}, back;
	AUTO_BUFFER out = {0};

	(void)state;
	assert_int_equal(protocol_request_encode(PROTOCOL_NET_OPEN, &q, &out), 0);
	assert_int_equal(protocol_request_decode(PROTOCOL_NET_OPEN, buffer_bytes(&out), &back),
			 -E2BIG);
	out.len = 0;
	q = (struct protocol_request){.ca = bytes_of(much, SANDBOX_NET_CA_MAX + 1)};
	assert_int_equal(protocol_request_encode(PROTOCOL_NET_OPEN, &q, &out), 0);
	assert_int_equal(protocol_request_decode(PROTOCOL_NET_OPEN, buffer_bytes(&out), &back),
			 -E2BIG);
}

static void headers_are_checked_before_anything(void **state)
{
	const struct protocol_header good = {.length = 4, .type = 1, .protocol = PROTOCOL_VERSION};
	struct protocol_header h;

	(void)state;
	assert_int_equal(protocol_check_header(&good, sizeof(h) + 4, 0), 0);
	assert_int_equal(protocol_check_header(&good, sizeof(h) + 5, 0), -EBADMSG);
	h = good, h.protocol++;
	assert_int_equal(protocol_check_header(&h, sizeof(h) + 4, 0), -EPROTO);
	h = good, h.reserved = 1;
	assert_int_equal(protocol_check_header(&h, sizeof(h) + 4, 0), -EPROTO);
	h = good, h.flags = PROTOCOL_FLAG_MEMFD;
	assert_int_equal(protocol_check_header(&h, sizeof(h), 0), -EBADMSG);
	h = good, h.length = PROTOCOL_BODY_MAX + 1;
	assert_int_equal(protocol_check_header(&h, sizeof(h), 0), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_spec_comes_back_as_it_went),
		cmocka_unit_test(every_cut_and_every_flipped_bit_is_refused_or_reads_alike),
		cmocka_unit_test(what_a_spec_may_not_say),
		cmocka_unit_test(requests_have_their_own_keys_and_no_other),
		cmocka_unit_test(events_come_back_as_they_went),
		cmocka_unit_test(headers_are_checked_before_anything),
		cmocka_unit_test(a_network_is_named_by_a_spec_that_brings_no_listeners),
		cmocka_unit_test(a_table_or_authority_past_its_limit_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
