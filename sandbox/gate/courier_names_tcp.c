/*
 * A name asked over TCP (RFC 7766), since its answer was too long for UDP: libevent's resolver stops
 * there. One question a connection, to one resolver after the other until one answers.
 */
#include <stdlib.h>
#include <string.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/util.h>
#include "sandbox/gate/courier.h"

enum { TCP_S = 3 /* for one resolver */, LENGTH_BYTES = 2 };

struct names_tcp {
	struct event_base *base;
	struct event *timer;
	struct bufferevent *connection;
	struct sockaddr_storage resolvers[NAMES_RESOLVERS_MAX];
	size_t count, at;
	char host[DNS_NAME_MAX + 1];
	enum dns_type type;
	uint16_t id;
	names_tcp_answer *fn;
	void *arg;
};

void names_tcp_cancel(struct names_tcp *t)
{
	if (!t)
		return;
	if (t->connection)
		bufferevent_free(t->connection);
	if (t->timer)
		event_free(t->timer);
	free(t);
}

static void done(struct names_tcp *t, const struct dns_answer *a)
{
	names_tcp_answer *fn = t->fn;
	void *arg = t->arg;

	names_tcp_cancel(t);
	fn(arg, a);
}

static void ask_next(struct names_tcp *t);

static void on_read(struct bufferevent *b, void *arg)
{
	struct evbuffer *in = bufferevent_get_input(b);
	struct names_tcp *t = arg;
	struct dns_answer a;
	uint8_t head[LENGTH_BYTES];
	const uint8_t *message;
	size_t len;

	if (evbuffer_copyout(in, head, sizeof(head)) != sizeof(head))
		return;
	len = (size_t)head[0] << 8 | head[1];
	if (evbuffer_get_length(in) < LENGTH_BYTES + len)
		return;
	message = evbuffer_pullup(in, (ssize_t)(LENGTH_BYTES + len));
	if (message && dns_answer_parse(bytes_of(message + LENGTH_BYTES, len), t->id, t->host,
					t->type, &a) == 0)
		done(t, &a);
	else
		ask_next(t);
}

static void on_event(struct bufferevent *b, short what, void *arg)
{
	(void)b;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		ask_next(arg);
}

static bool ask_one(struct names_tcp *t, const struct sockaddr_storage *to)
{
	int len =
		to->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	AUTO_BUFFER ask = {0};
	uint8_t head[LENGTH_BYTES];

	evutil_secure_rng_get_bytes(&t->id, sizeof(t->id));
	if (dns_ask(t->id, t->host, t->type, &ask) < 0)
		return false;
	head[0] = (uint8_t)(ask.len >> 8);
	head[1] = (uint8_t)ask.len;
	t->connection = bufferevent_socket_new(t->base, -1,
					       BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	if (!t->connection)
		return false;
	bufferevent_setcb(t->connection, on_read, NULL, on_event, t);
	return bufferevent_enable(t->connection, EV_READ | EV_WRITE) == 0 &&
	       bufferevent_write(t->connection, head, sizeof(head)) == 0 &&
	       bufferevent_write(t->connection, ask.data, ask.len) == 0 &&
	       bufferevent_socket_connect(t->connection, (const struct sockaddr *)to, len) == 0;
}

static void ask_next(struct names_tcp *t)
{
	const struct timeval time = {.tv_sec = TCP_S};

	while (t->at < t->count) {
		if (t->connection)
			bufferevent_free(t->connection);
		t->connection = NULL;
		if (ask_one(t, &t->resolvers[t->at++]) && evtimer_add(t->timer, &time) == 0)
			return;
	}
	done(t, NULL);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	ask_next(arg);
}

struct names_tcp *names_tcp_ask(struct event_base *base, const struct sockaddr_storage *resolvers,
				size_t count, const char *host, enum dns_type type,
				names_tcp_answer *fn, void *arg)
{
	const struct timeval soon = {0};
	struct names_tcp *t = calloc(1, sizeof(*t));

	if (!t || count > NAMES_RESOLVERS_MAX || strlen(host) > DNS_NAME_MAX) {
		free(t);
		return NULL;
	}
	*t = (struct names_tcp){.base = base, .count = count, .type = type, .fn = fn, .arg = arg};
	memcpy(t->resolvers, resolvers, count * sizeof(*resolvers));
	memcpy(t->host, host, strlen(host) + 1);
	t->timer = evtimer_new(base, on_timer, t);
	/* Begins in its own turn, so that it never calls back before this returns. */
	if (!t->timer || evtimer_add(t->timer, &soon) < 0) {
		names_tcp_cancel(t);
		return NULL;
	}
	return t;
}
