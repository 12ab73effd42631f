/* sandbox/gate/stream: what comes and goes in which order, and when it stops. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "sandbox/gate/stream.h"

enum { IN_MAX = 64 * 1024, OUT_LOW = 16 };

struct side {
	struct event_base *base;
	struct stream *s;
	int peer;
	char seen[64]; /* i input · d drained · c closed · b broken · q quiet */
	size_t had; /* bytes that were there at the end */
};

static void note(struct side *t, char c)
{
	size_t n = strlen(t->seen);

	if (n + 1 < sizeof(t->seen) && (n == 0 || t->seen[n - 1] != c))
		t->seen[n] = c;
}

static void on_input(void *arg)
{
	note(arg, 'i');
}

static void on_drained(void *arg)
{
	note(arg, 'd');
}

static void on_ended(void *arg, enum stream_end how)
{
	struct side *t = arg;

	note(t, how == STREAM_CLOSED ? 'c' : how == STREAM_BROKEN ? 'b' : 'q');
	t->had = evbuffer_get_length(stream_in(t->s));
}

static const struct stream_user user = {NULL, on_input, on_drained, on_ended};

static int setup(void **state)
{
	static struct side t;
	int pair[2];

	t = (struct side){.base = event_base_new()};
	assert_non_null(t.base);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			 0);
	t.peer = pair[1];
	t.s = stream_new(t.base, pair[0], IN_MAX, OUT_LOW, &user, &t);
	assert_non_null(t.s);
	*state = &t;
	return 0;
}

static int teardown(void **state)
{
	struct side *t = *state;

	stream_free(t->s);
	if (t->peer >= 0)
		close(t->peer);
	event_base_free(t->base);
	return 0;
}

static void turn(struct side *t)
{
	for (int i = 0; i < 8; i++)
		(void)event_base_loop(t->base, EVLOOP_NONBLOCK);
}

static size_t put(int fd, size_t len)
{
	static const char zeros[4096];
	size_t sent = 0;
	ssize_t n;

	while (sent < len &&
	       (n = write(fd, zeros, len - sent < sizeof(zeros) ? len - sent : sizeof(zeros))) > 0)
		sent += (size_t)n;
	return sent;
}

static void test_what_came_before_the_end_is_told_before_the_end(void **state)
{
	struct side *t = *state;

	assert_int_equal(put(t->peer, 10), 10);
	close_fd(&t->peer);
	turn(t);
	assert_string_equal(t->seen, "ic");
	assert_int_equal(t->had, 10);
}

static void test_who_sends_no_more_still_gets_what_is_put_out(void **state)
{
	struct side *t = *state;
	char got[8];

	assert_int_equal(shutdown(t->peer, SHUT_WR), 0);
	turn(t);
	assert_string_equal(t->seen, "c");
	assert_int_equal(evbuffer_add(stream_out(t->s), "answer", 6), 0);
	turn(t);
	assert_string_equal(t->seen, "cd");
	assert_int_equal(read(t->peer, got, sizeof(got)), 6);
}

static void test_a_peer_that_is_gone_breaks_it_once(void **state)
{
	struct side *t = *state;

	close_fd(&t->peer);
	turn(t);
	assert_string_equal(t->seen, "c");
	assert_int_equal(evbuffer_add(stream_out(t->s), "x", 1), 0);
	turn(t);
	assert_int_equal(evbuffer_add(stream_out(t->s), "y", 1), 0);
	turn(t);
	assert_string_equal(t->seen, "cb");
}

static void test_it_stops_at_its_mark_and_goes_on_below_it(void **state)
{
	struct side *t = *state;
	size_t sent = put(t->peer, 4 * IN_MAX), first;

	assert_true(sent > IN_MAX);
	turn(t);
	first = evbuffer_get_length(stream_in(t->s));
	assert_int_equal(first, IN_MAX);
	turn(t);
	assert_int_equal(evbuffer_get_length(stream_in(t->s)), IN_MAX);
	while (sent > 0) {
		size_t n = evbuffer_get_length(stream_in(t->s));

		assert_true(n > 0 && n <= IN_MAX);
		(void)evbuffer_drain(stream_in(t->s), n);
		sent -= n;
		turn(t);
	}
	assert_string_equal(t->seen, "i");
}

static void test_a_reader_that_is_off_reads_nothing_and_loses_nothing(void **state)
{
	struct side *t = *state;

	stream_read(t->s, false);
	assert_int_equal(put(t->peer, 100), 100);
	close_fd(&t->peer);
	turn(t);
	assert_string_equal(t->seen, "");
	stream_wake(t->s);
	turn(t);
	assert_string_equal(t->seen, "i");
	assert_int_equal(evbuffer_get_length(stream_in(t->s)), 0);
	stream_read(t->s, true);
	turn(t);
	assert_string_equal(t->seen, "ic");
	assert_int_equal(t->had, 100);
}

static void test_a_wake_outlives_a_full_buffer(void **state)
{
	struct side *t = *state;

	stream_wake(t->s);
	stream_read(t->s, false);
	turn(t);
	assert_string_equal(t->seen, "i");
}

static void test_what_the_socket_does_not_take_waits_for_it(void **state)
{
	struct side *t = *state;
	static char big[1 << 20];
	size_t got = 0;
	ssize_t n;

	assert_int_equal(evbuffer_add(stream_out(t->s), big, sizeof(big)), 0);
	turn(t);
	assert_true(evbuffer_get_length(stream_out(t->s)) > OUT_LOW);
	assert_string_equal(t->seen, "");
	while (got < sizeof(big)) {
		while ((n = read(t->peer, big, sizeof(big))) > 0)
			got += (size_t)n;
		turn(t);
	}
	assert_int_equal(got, sizeof(big));
	assert_string_equal(t->seen, "d");
}

static void test_silence_is_told_and_bytes_put_it_off(void **state)
{
	struct side *t = *state;

	stream_timeout(t->s, 1);
	for (int i = 0; i < 3; i++) {
		usleep(600 * 1000);
		assert_int_equal(put(t->peer, 1), 1);
		turn(t);
	}
	assert_string_equal(t->seen, "i");
	usleep(1100 * 1000);
	turn(t);
	assert_string_equal(t->seen, "iq");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(test_what_came_before_the_end_is_told_before_the_end),
		TEST(test_who_sends_no_more_still_gets_what_is_put_out),
		TEST(test_a_peer_that_is_gone_breaks_it_once),
		TEST(test_it_stops_at_its_mark_and_goes_on_below_it),
		TEST(test_a_reader_that_is_off_reads_nothing_and_loses_nothing),
		TEST(test_a_wake_outlives_a_full_buffer),
		TEST(test_what_the_socket_does_not_take_waits_for_it),
		TEST(test_silence_is_told_and_bytes_put_it_off),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("sandbox/gate/stream", tests, NULL, NULL);
}
