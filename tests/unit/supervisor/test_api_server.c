/* The control socket's server, with a handler of this test's and clients on a real socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor/api/repeats.h"
#include "supervisor/api/server.h"

enum { CLIENTS = 4, TICKETS = 8, ANSWER_MAX = 4096 };

struct rig {
	struct event_base *loop;
	struct api_server *server;
	char folder[64];
	struct sockaddr_un address;
	int client[CLIENTS];
	int handled; /* calls of the handler */
	int depth; /* of the handler in itself */
	uint64_t tickets[TICKETS]; /* of the last that said later */
	size_t ticket_count;
	uint64_t lsn; /* that answers wait for */
};

static void answer_number(struct api_answer *a, int status, int n)
{
	a->status = status;
	a->json = json_pack("{s:i}", "n", n);
	assert_non_null(a->json);
}

static void answer_ticket(struct rig *x, size_t i, int n)
{
	struct api_answer a = {.fd = -1};

	answer_number(&a, 200, n);
	api_server_answer(x->server, x->tickets[i], &a);
}

/* /now answers; /later keeps the ticket; /broken is a 503, /changing volatile; /others answers all
 * that wait, in the middle of its own. */
static void handle(void *ctx, struct api_request *q, struct api_answer *a)
{
	struct rig *x = ctx;
	const char *what = q->segments[0];

	assert_int_equal(x->depth++, 0);
	x->handled++;
	if (strcmp(what, "later") == 0) {
		x->tickets[x->ticket_count++ % TICKETS] = q->ticket;
		a->later = true;
	} else {
		if (strcmp(what, "others") == 0)
			for (size_t i = 0; i < x->ticket_count; i++)
				answer_ticket(x, i, 100);
		a->volatile_ = strcmp(what, "changing") == 0;
		answer_number(a, strcmp(what, "broken") == 0 ? 503 : 200, x->handled);
	}
	x->depth--;
}

static uint64_t settle(void *ctx)
{
	const struct rig *x = ctx;

	return x->lsn;
}

static void say(void *ctx, const char *text)
{
	(void)ctx;
	print_message("%s\n", text);
}

static int begin(void **state)
{
	struct rig *x = calloc(1, sizeof(*x));
	struct api_handler handler = {.ctx = x, .handle = handle, .settle = settle, .log = say};
	struct error err = {0};
	int fd;

	assert_non_null(x);
	for (size_t i = 0; i < CLIENTS; i++)
		x->client[i] = -1;
	strcpy(x->folder, "/tmp/holdfast-api-XXXXXX");
	assert_non_null(mkdtemp(x->folder));
	x->address.sun_family = AF_UNIX;
	snprintf(x->address.sun_path, sizeof(x->address.sun_path), "%s/s", x->folder);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&x->address, sizeof(x->address)), 0);
	assert_int_equal(listen(fd, 128), 0);
	x->loop = event_base_new();
	assert_non_null(x->loop);
	assert_int_equal(api_server_new(x->loop, fd, &handler, &x->server, &err), 0);
	*state = x;
	return 0;
}

static int end(void **state)
{
	struct rig *x = *state;

	for (size_t i = 0; i < CLIENTS; i++)
		if (x->client[i] >= 0)
			close(x->client[i]);
	api_server_free(x->server);
	event_base_free(x->loop);
	unlink(x->address.sun_path);
	rmdir(x->folder);
	free(x);
	return 0;
}

/* As many as it takes that nothing is left to do but by what comes next. */
static void turn(struct rig *x)
{
	for (int i = 0; i < 4; i++)
		event_base_loop(x->loop, EVLOOP_NONBLOCK);
}

static void leave(struct rig *x, size_t client)
{
	close(x->client[client]);
	x->client[client] = -1;
	turn(x);
}

static void connect_client(struct rig *x, size_t client)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&x->address, sizeof(x->address)), 0);
	x->client[client] = fd;
}

static void post(struct rig *x, size_t client, const char *target, const char *id, const char *more)
{
	char text[512];
	int n = snprintf(text, sizeof(text),
			 "POST %s HTTP/1.1\r\nHost: h\r\nHoldfast-Request: %s\r\n%s"
			 "Content-Length: 0\r\n\r\n",
			 target, id, more);

	if (x->client[client] < 0)
		connect_client(x, client);
	assert_int_equal(write(x->client[client], text, (size_t)n), n);
	turn(x);
}

/* What came, "" where nothing did: its status at *ret_status, its body in ret. */
static const char *heard(struct rig *x, size_t client, int *ret_status)
{
	static char text[ANSWER_MAX];
	const char *body;
	ssize_t n;

	turn(x);
	n = recv(x->client[client], text, sizeof(text) - 1, MSG_DONTWAIT);
	text[n > 0 ? n : 0] = '\0';
	body = strstr(text, "\r\n\r\n");
	*ret_status = n > 0 ? atoi(text + strlen("HTTP/1.1 ")) : 0;
	return body ? body + 4 : "";
}

static void assert_heard(struct rig *x, size_t client, int status, const char *body)
{
	int had;
	const char *text = heard(x, client, &had);

	assert_int_equal(had, status);
	if (body)
		assert_string_equal(text, body);
}

static void an_answer_that_came_later_is_given_again(void **state)
{
	struct rig *x = *state;

	post(x, 0, "/later", "a", "");
	assert_heard(x, 0, 0, NULL);
	answer_ticket(x, 0, 7);
	assert_heard(x, 0, 200, "{\"n\":7}");
	post(x, 1, "/later", "a", "");
	assert_heard(x, 1, 200, "{\"n\":7}");
	assert_int_equal(x->handled, 1);
}

static void an_answer_whose_client_has_gone_is_kept_for_it(void **state)
{
	struct rig *x = *state;

	post(x, 0, "/later", "a", "");
	leave(x, 0);
	answer_ticket(x, 0, 7);
	post(x, 1, "/later", "a", "");
	assert_heard(x, 1, 200, "{\"n\":7}");
	assert_int_equal(x->handled, 1);
}

static void what_is_being_worked_on_is_joined_and_not_done_twice(void **state)
{
	struct rig *x = *state;

	for (size_t i = 0; i < CLIENTS; i++)
		post(x, i, "/later", "a", "");
	assert_int_equal(x->handled, 1);
	answer_ticket(x, 0, 7);
	for (size_t i = 0; i < CLIENTS; i++)
		assert_heard(x, i, 200, "{\"n\":7}");
	post(x, 0, "/later", "b", ""); /* another one is another one */
	assert_int_equal(x->handled, 2);
}

static void who_joined_waits_when_the_first_has_gone(void **state)
{
	struct rig *x = *state;

	post(x, 0, "/later", "a", "");
	post(x, 1, "/later", "a", "");
	leave(x, 0);
	assert_true(api_server_waits(x->server, x->tickets[0]));
	answer_ticket(x, 0, 7);
	assert_heard(x, 1, 200, "{\"n\":7}");
	assert_false(api_server_waits(x->server, x->tickets[0]));
}

static void a_descriptor_is_one_clients_only(void **state)
{
	struct rig *x = *state;
	struct api_answer a = {.fd = dup(STDERR_FILENO)};

	assert_true(a.fd >= 0);
	answer_number(&a, 200, 7);
	for (size_t i = 0; i < 3; i++)
		post(x, i, "/later", "a", "");
	api_server_answer(x->server, x->tickets[0], &a);
	assert_heard(x, 0, 200, "{\"n\":7}");
	assert_heard(x, 1, 409, NULL);
	assert_heard(x, 2, 409, NULL);
}

static void an_id_is_of_one_target_with_its_query(void **state)
{
	static const struct {
		const char *first, *second;
	} cases[] = {
		{"/now", "/other"},	      {"/now?a=1", "/now?a=2"},
		{"/now?a=1", "/now"},	      {"/now?a=1", "/now?b=1"},
		{"/now?a=1", "/now?a=1&a="},  {"/now?a=b", "/now?a%3Db="},
		{"/now/a/b", "/now/a%2Fb"},   {"/now/a?b", "/now/a%3Fb="},
		{"/later?a=1", "/later?a=2"},
	};
	struct rig *x = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char id[8];
		int status, handled;

		snprintf(id, sizeof(id), "%zu", i);
		post(x, 0, cases[i].first, id, "");
		(void)heard(x, 0, &status);
		handled = x->handled;
		post(x, 1, cases[i].second, id, "");
		(void)heard(x, 1, &status);
		if (status != 409 || x->handled != handled)
			fail_msg("%s after %s: %d", cases[i].second, cases[i].first, status);
		assert_int_equal(x->handled, handled);
	}
}

static void what_may_be_another_next_time_is_not_kept(void **state)
{
	struct rig *x = *state;

	post(x, 0, "/broken", "a", "");
	assert_heard(x, 0, 503, "{\"n\":1}");
	post(x, 0, "/broken", "a", "");
	assert_heard(x, 0, 503, "{\"n\":2}");
	post(x, 0, "/changing", "b", "");
	assert_heard(x, 0, 200, "{\"n\":3}");
	post(x, 0, "/changing", "b", "");
	assert_heard(x, 0, 200, "{\"n\":4}");
}

static void the_last_answers_are_kept_and_no_more(void **state)
{
	struct rig *x = *state;
	char id[16];

	for (int i = 0; i < API_REMEMBERED + 1; i++) {
		snprintf(id, sizeof(id), "id%d", i);
		post(x, 0, "/now", id, "");
		assert_heard(x, 0, 200, NULL);
	}
	post(x, 0, "/now", "id1", "");
	assert_heard(x, 0, 200, "{\"n\":2}");
	assert_int_equal(x->handled, API_REMEMBERED + 1);
	post(x, 0, "/now", "id0", "");
	assert_heard(x, 0, 200, NULL);
	assert_int_equal(x->handled, API_REMEMBERED + 2);
}

static int asked(struct api_repeats *s, const char *id, uint64_t ticket, uint64_t *ret_first)
{
	struct api_request q = {.ticket = ticket};
	struct api_answer a = {.fd = -1};
	struct error err = {0};
	int r;

	strcpy(q.request_id, id);
	r = api_repeats_begin(s, &q, bytes_of(NULL, 0), ret_first, &a, &err);
	buffer_free(&a.text);
	return r;
}

static void what_is_being_worked_on_has_a_limit_and_is_never_forgotten(void **state)
{
	AUTO(api_repeats_free) struct api_repeats *s = NULL;
	struct api_answer a = {.fd = -1};
	uint64_t first = 0;

	(void)state;
	assert_int_equal(api_repeats_new(&s), 0);
	answer_number(&a, 200, 1);
	for (uint64_t i = 1; i <= API_UNDERWAY_MAX; i++) {
		char id[16];

		snprintf(id, sizeof(id), "id%d", (int)i);
		assert_int_equal(asked(s, id, i, &first), API_REPEATS_NEW);
	}
	assert_int_equal(asked(s, "more", 1, &first), -EAGAIN);
	assert_int_equal(asked(s, "id1", 1, &first), API_REPEATS_UNDERWAY);
	assert_int_equal(first, 1);
	api_repeats_end(s, 2, &a);
	assert_int_equal(asked(s, "id2", 1, &first), API_REPEATS_ANSWERED);
	assert_int_equal(asked(s, "more", 2, &first), API_REPEATS_NEW);
	json_decref(a.json);
}

/* A request waits in the first connection behind an answer that is held back; it answers the
 * second's, which is the last of that connection and frees it. */
static void no_handler_runs_but_from_the_loop(void **state)
{
	struct rig *x = *state;

	x->lsn = 5;
	post(x, 0, "/now", "a", "");
	post(x, 0, "/others", "b", "");
	post(x, 1, "/later", "c", "Connection: close\r\n");
	shutdown(x->client[1], SHUT_WR);
	turn(x);
	post(x, 2, "/later", "d", "");
	post(x, 2, "/others", "e", ""); /* waits behind its own answer */
	assert_int_equal(x->handled, 3);
	x->lsn = 0;
	api_server_durable(x->server, 5);
	assert_int_equal(x->handled, 3);
	turn(x);
	assert_int_equal(x->handled, 5);
	assert_heard(x, 1, 200, "{\"n\":100}");
	leave(x, 1);
	assert_int_equal(api_server_connections(x->server), 2);
	answer_ticket(x, 1, 1); /* it was answered: nothing happens */
	assert_int_equal(x->handled, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_answer_that_came_later_is_given_again, begin,
						end),
		cmocka_unit_test_setup_teardown(an_answer_whose_client_has_gone_is_kept_for_it,
						begin, end),
		cmocka_unit_test_setup_teardown(
			what_is_being_worked_on_is_joined_and_not_done_twice, begin, end),
		cmocka_unit_test_setup_teardown(who_joined_waits_when_the_first_has_gone, begin,
						end),
		cmocka_unit_test_setup_teardown(a_descriptor_is_one_clients_only, begin, end),
		cmocka_unit_test_setup_teardown(an_id_is_of_one_target_with_its_query, begin, end),
		cmocka_unit_test_setup_teardown(what_may_be_another_next_time_is_not_kept, begin,
						end),
		cmocka_unit_test_setup_teardown(the_last_answers_are_kept_and_no_more, begin, end),
		cmocka_unit_test(what_is_being_worked_on_has_a_limit_and_is_never_forgotten),
		cmocka_unit_test_setup_teardown(no_handler_runs_but_from_the_loop, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
