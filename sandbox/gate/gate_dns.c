/*
 * DNS of a sandbox, over UDP and TCP: names of the table get their addresses, every other name does
 * not exist, and nothing is asked of anybody else.
 */
#include <errno.h>
#include <event2/bufferevent.h>
#include <sys/socket.h>
#include "sandbox/gate/dns.h"
#include "sandbox/gate/gate.h"

enum {
	DATAGRAMS_MAX = 64, /* in one turn of the loop */
	TCP_CONNECTIONS_MAX = 64,
	TCP_TIMEOUT_S = 10,
	TCP_OUT_MAX = 16 * 1024, /* bytes not taken yet; past it no more questions are read */
};

struct dns_conn {
	LIST_ENTRY(dns_conn) link;
	struct gate *gate;
	struct attempt *attempt;
	struct bufferevent *client;
};

static void put_address(const struct table_entry *e, int slot, bool v6, uint8_t *out, size_t *len)
{
	const uint8_t *base = v6 ? e->v6 : e->v4;
	unsigned carry = (unsigned)slot;

	*len = v6 ? 16 : 4;
	memcpy(out, base, *len);
	for (size_t i = *len; i-- > 0 && carry;) {
		carry += out[i];
		out[i] = (uint8_t)carry;
		carry >>= 8;
	}
}

/* FNV-1a: that two names meet costs one note. */
static bool is_new(struct attempt *a, const char *name)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (const char *s = name; *s; s++)
		hash = (hash ^ (uint8_t)*s) * 0x100000001b3;
	for (size_t i = 0; i < GATE_REFUSED_MAX; i++)
		if (a->refused[i] == hash)
			return false;
	a->refused[a->refused_at++ % GATE_REFUSED_MAX] = hash;
	return true;
}

static enum dns_rcode look_up(struct gate *g, struct attempt *a, const struct dns_query *q,
			      uint8_t *address, size_t *ret_len)
{
	const struct table_entry *e = table_find(g->table, bytes_str(q->name));
	int slot;

	*ret_len = 0;
	if (!e) {
		if (is_new(a, q->name))
			gate_note(g, a, FRAMES_NOTE_DNS, q->name, 0,
				  "no rule of the policy names this host");
		return DNS_NXDOMAIN;
	}
	if (q->type != DNS_A && q->type != DNS_AAAA)
		return DNS_OK;
	slot = gate_names_slot(g->names, (uint32_t)(e - g->table->entries), q->name);
	if (slot == -ENOSPC) {
		gate_note(g, a, FRAMES_NOTE_LIMIT, q->name, 0,
			  "the addresses of this wildcard are all given to other names");
		return DNS_NXDOMAIN;
	}
	if (slot < 0)
		return DNS_SERVFAIL;
	put_address(e, slot, q->type == DNS_AAAA, address, ret_len);
	return DNS_OK;
}

/* Empty: no answer. */
static void answer(struct gate *g, struct attempt *a, struct bytes in, struct buffer *out)
{
	uint8_t address[16];
	size_t len = 0;
	struct dns_query q;
	int r = dns_parse(in, &q);

	if (r < 0)
		return;
	if (r == 0)
		r = (int)look_up(g, a, &q, address, &len);
	if (dns_reply(&q, (enum dns_rcode)r, bytes_of(address, len), out) < 0)
		buffer_free(out);
}

void gate_dns_datagram(struct listener *l, int fd)
{
	for (int i = 0; i < DATAGRAMS_MAX; i++) {
		uint8_t in[DNS_MESSAGE_MAX + 1];
		struct sockaddr_storage from;
		socklen_t from_len = sizeof(from);
		AUTO_BUFFER out = {0};
		ssize_t n = recvfrom(fd, in, sizeof(in), MSG_DONTWAIT, (struct sockaddr *)&from,
				     &from_len);

		if (n < 0)
			return;
		answer(l->gate, l->attempt, bytes_of(in, (size_t)n), &out);
		if (out.len)
			(void)!sendto(fd, out.data, out.len, MSG_DONTWAIT | MSG_NOSIGNAL,
				      (struct sockaddr *)&from, from_len);
	}
}

/* ---- TCP (RFC 7766): a length of two bytes before each message ---- */

static void dns_conn_free(struct dns_conn *d)
{
	LIST_REMOVE(d, link);
	d->gate->connections--;
	bufferevent_free(d->client);
	free(d);
}

static bool one_message(struct dns_conn *d)
{
	struct evbuffer *in = bufferevent_get_input(d->client);
	struct evbuffer *to = bufferevent_get_output(d->client);
	AUTO_BUFFER out = {0};
	uint8_t *b, size[2];
	size_t len;

	if (evbuffer_get_length(in) < 2 || evbuffer_get_length(to) > TCP_OUT_MAX)
		return false;
	b = evbuffer_pullup(in, 2);
	len = (size_t)b[0] << 8 | b[1];
	if (len > DNS_MESSAGE_MAX) {
		dns_conn_free(d);
		return false;
	}
	if (evbuffer_get_length(in) < len + 2)
		return false;
	b = evbuffer_pullup(in, (ssize_t)len + 2);
	if (!b) {
		dns_conn_free(d);
		return false;
	}
	answer(d->gate, d->attempt, bytes_of(b + 2, len), &out);
	evbuffer_drain(in, len + 2);
	size[0] = (uint8_t)(out.len >> 8);
	size[1] = (uint8_t)out.len;
	if (out.len && (evbuffer_add(to, size, 2) < 0 || evbuffer_add(to, out.data, out.len) < 0)) {
		dns_conn_free(d);
		return false;
	}
	return true;
}

static void on_message(struct bufferevent *b, void *arg)
{
	(void)b;
	while (one_message(arg))
		;
}

static void on_event(struct bufferevent *b, short what, void *arg)
{
	(void)b;
	(void)what;
	dns_conn_free(arg);
}

void gate_dns_accept(struct listener *l, int fd)
{
	const struct timeval timeout = {.tv_sec = TCP_TIMEOUT_S};
	struct gate *g = l->gate;
	struct dns_conn *d, *one;
	size_t count = 0;

	LIST_FOREACH(one, &g->dns_conns, link)
	count++;
	d = count < TCP_CONNECTIONS_MAX ? calloc(1, sizeof(*d)) : NULL;
	if (d)
		d->client = bufferevent_socket_new(g->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!d || !d->client) {
		close(fd);
		free(d);
		return;
	}
	d->gate = g;
	d->attempt = l->attempt;
	LIST_INSERT_HEAD(&g->dns_conns, d, link);
	g->connections++;
	bufferevent_setcb(d->client, on_message, on_message, on_event, d);
	bufferevent_setwatermark(d->client, EV_READ, 0, DNS_MESSAGE_MAX + 2);
	bufferevent_set_timeouts(d->client, &timeout, &timeout);
	bufferevent_enable(d->client, EV_READ | EV_WRITE);
}

void gate_dns_attempt_end(struct gate *g, const struct attempt *a)
{
	struct dns_conn *d, *next;

	for (d = LIST_FIRST(&g->dns_conns); d; d = next) {
		next = LIST_NEXT(d, link);
		if (d->attempt == a)
			dns_conn_free(d);
	}
}
