/*
 * Names: hosts as it was at the start, then the resolvers of the settings or of the system's
 * resolv.conf, by libevent's resolver, which follows no answer that was cut
 * short: that is asked over TCP (courier_names_tcp.c). Both families are asked for; what they
 * answer is only a proposal: every address is decided by policy and dialled as it was checked.
 *
 * The host's own addresses are asked of the kernel again before each dial, over a netlink socket
 * that was opened before isolation: interfaces come and go while a courier lives.
 */
#include <fcntl.h>
#include <arpa/inet.h>
#include <event2/dns.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include "base/io.h"
#include "sandbox/gate/courier.h"

enum {
	FILE_MAX = 1024 * 1024,
	OWN_MAX = 4096,
	SKEW_S = 3, /* that a family's addresses wait for the other's */
};

struct names {
	struct buffer hosts, resolv;
	int netlink;
	struct event_base *base;
	struct evdns_base *dns;
	struct buffer said; /* the settings' resolvers */
};

struct family {
	struct names_query *q;
	enum dns_type type;
	struct evdns_request *udp;
	struct names_tcp *tcp;
	bool done;
	struct names_address found[COURIER_ADDRESSES_MAX];
	size_t count;
	const char *why; /* static; NULL: it has none, or has addresses */
};

struct names_query {
	struct names *n;
	char host[DNS_NAME_MAX + 1];
	names_answer *fn;
	void *arg;
	struct family v4, v6;
	struct event *skew;
	bool over; /* told or cancelled */
};

static void read_file(const char *path, struct buffer *out)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);

	/* What cannot be read is as if it were empty, as for every resolver. */
	if (fd < 0 || io_read_all(fd, FILE_MAX, out) < 0)
		buffer_free(out);
}

int names_prepare(struct names **ret, int *ret_keep, struct error *err)
{
	struct names *n = calloc(1, sizeof(*n));

	if (!n)
		return error_nomem(err);
	read_file("/etc/hosts", &n->hosts);
	read_file("/etc/resolv.conf", &n->resolv);
	n->netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (n->netlink < 0) {
		int r = error_set(err, -errno, "netlink: %s", strerror(errno));

		free(n);
		return r;
	}
	*ret_keep = n->netlink;
	*ret = n;
	return 0;
}

/* ---- text ---- */

int names_parse(const char *text, struct names_address *ret)
{
	struct names_address a = {.len = 4};

	if (inet_pton(AF_INET, text, a.b) != 1) {
		a.len = 16;
		if (inet_pton(AF_INET6, text, a.b) != 1)
			return -EINVAL;
	}
	*ret = a;
	return 0;
}

void names_text(const struct names_address *a, char *buf, size_t size)
{
	if (!inet_ntop(a->len == 4 ? AF_INET : AF_INET6, a->b, buf, (socklen_t)size))
		buf[0] = '\0';
}

/* Calls fn for each line's words, comments left out. */
static void each_line(const struct buffer *b, void (*fn)(char **words, size_t n, void *arg),
		      void *arg)
{
	AUTO_FREE char *text = bytes_dup_str(buffer_bytes(b));
	char *lines = text, *line;

	while (lines && (line = strsep(&lines, "\n"))) {
		char *words[64], *word;
		size_t n = 0;

		line[strcspn(line, "#;")] = '\0';
		while (n < ARRAY_SIZE(words) && (word = strsep(&line, " \t\r")))
			if (*word)
				words[n++] = word;
		if (n)
			fn(words, n, arg);
	}
}

static void add_resolver(char **words, size_t n, void *arg)
{
	struct evdns_base *dns = arg;

	if (n >= 2 && strcmp(words[0], "nameserver") == 0 &&
	    evdns_base_count_nameservers(dns) < NAMES_RESOLVERS_MAX)
		(void)evdns_base_nameserver_ip_add(dns, words[1]);
}

static int fresh_dns(struct names *n)
{
	static const char *const options[][2] = {{"timeout:", "3"},
						 {"attempts:", "3"},
						 {"max-timeouts:", "5"}};

	if (n->dns)
		evdns_base_free(n->dns, 1);
	n->dns = evdns_base_new(n->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!n->dns)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		(void)evdns_base_set_option(n->dns, options[i][0], options[i][1]);
	return 0;
}

int names_start(struct names *n, struct event_base *base)
{
	n->base = base;
	return names_resolvers(n, (struct bytes){0});
}

int names_resolvers(struct names *n, struct bytes text)
{
	int r;

	/* A supervisor that comes back says the same: questions under way go on. */
	if (n->dns && bytes_equal(buffer_bytes(&n->said), text))
		return 0;
	buffer_free(&n->said);
	r = buffer_append(&n->said, text.data, text.len);
	if (r == 0)
		r = fresh_dns(n);
	if (r < 0)
		return r;
	if (text.len == 0) {
		each_line(&n->resolv, add_resolver, n->dns);
	} else {
		AUTO_FREE char *copy = bytes_dup_str(text);
		char *rest = copy, *word;

		while (rest && (word = strsep(&rest, " ,")))
			if (*word && evdns_base_nameserver_ip_add(n->dns, word) != 0)
				r = -EINVAL;
	}
	/* resolv.conf(5): without any, the one on this machine */
	if (evdns_base_count_nameservers(n->dns) == 0 && r == 0)
		(void)evdns_base_nameserver_ip_add(n->dns, "127.0.0.1");
	return r;
}

/* ---- asking ---- */

struct hosts_search {
	const char *host;
	struct names_address found[COURIER_ADDRESSES_MAX];
	size_t count;
};

static void match_host(char **words, size_t n, void *arg)
{
	struct hosts_search *s = arg;

	for (size_t i = 1; i < n; i++)
		if (strcasecmp(words[i], s->host) == 0 && s->count < COURIER_ADDRESSES_MAX &&
		    names_parse(words[0], &s->found[s->count]) == 0) {
			s->count++;
			return;
		}
}

static struct names_address *add(struct names_address *to, const struct family *f, size_t *count)
{
	for (size_t i = 0; i < f->count && *count < COURIER_ADDRESSES_MAX; i++)
		to[(*count)++] = f->found[i];
	return to;
}

static void free_query(struct names_query *q)
{
	if (!q->v4.udp && !q->v6.udp)
		free(q);
}

/* libevent calls back also what was cancelled: q lives until then. */
static void end_query(struct names_query *q)
{
	q->over = true;
	names_tcp_cancel(q->v4.tcp);
	names_tcp_cancel(q->v6.tcp);
	if (q->skew)
		event_free(q->skew);
	if (q->v4.udp)
		evdns_cancel_request(NULL, q->v4.udp);
	if (q->v6.udp)
		evdns_cancel_request(NULL, q->v6.udp);
	free_query(q);
}

static void tell(struct names_query *q)
{
	struct names_address found[COURIER_ADDRESSES_MAX];
	names_answer *fn = q->fn;
	const char *why = q->v4.why ? q->v4.why : q->v6.why;
	void *arg = q->arg;
	size_t count = 0;

	add(add(found, &q->v4, &count), &q->v6, &count);
	end_query(q);
	fn(arg, found, count, count ? "" : why ? why : "the name has no address");
}

static void on_skew(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	tell(arg);
}

/* Both families are asked at once; one that has addresses waits a little for the other. */
static void family_done(struct family *f)
{
	const struct timeval skew = {.tv_sec = SKEW_S};
	struct names_query *q = f->q;

	f->done = true;
	if ((q->v4.done && q->v6.done) || (f->count && evtimer_add(q->skew, &skew) < 0))
		tell(q);
}

static void take(struct family *f, const void *addresses, size_t count, size_t stride)
{
	for (size_t i = 0; i < count && i < ARRAY_SIZE(f->found); i++) {
		f->found[i].len = f->type == DNS_A ? 4 : 16;
		memcpy(f->found[i].b, (const uint8_t *)addresses + i * stride, f->found[i].len);
		f->count++;
	}
}

static void on_tcp(void *arg, const struct dns_answer *a)
{
	struct family *f = arg;

	f->tcp = NULL;
	if (a && a->rcode == DNS_OK)
		take(f, a->addresses, a->count, sizeof(a->addresses[0]));
	else
		f->why = a ? "its resolver has no answer over TCP"
			   : "its answer is too long for UDP, and no resolver gives it over TCP";
	family_done(f);
}

static struct names_tcp *ask_tcp(struct family *f)
{
	struct evdns_base *dns = f->q->n->dns;
	struct sockaddr_storage to[NAMES_RESOLVERS_MAX];
	int have = evdns_base_count_nameservers(dns);
	size_t count = 0;

	for (int i = 0; i < have && count < ARRAY_SIZE(to); i++)
		if (evdns_base_get_nameserver_addr(dns, i, (struct sockaddr *)&to[count],
						   sizeof(to[count])) > 0)
			count++;
	return names_tcp_ask(f->q->n->base, to, count, f->q->host, f->type, on_tcp, f);
}

static void on_udp(int result, char type, int count, int ttl, void *addresses, void *arg)
{
	struct family *f = arg;

	(void)type;
	(void)ttl;
	f->udp = NULL;
	if (f->q->over) {
		free_query(f->q);
		return;
	}
	if (result == DNS_ERR_TRUNCATED && (f->tcp = ask_tcp(f)))
		return;
	if (result == DNS_ERR_NONE && count > 0)
		take(f, addresses, (size_t)count, f->type == DNS_A ? 4 : 16);
	else if (result != DNS_ERR_NONE && result != DNS_ERR_NODATA)
		f->why = evdns_err_to_string(result);
	family_done(f);
}

void names_ask(struct names *n, const char *host, names_answer *fn, void *arg,
	       struct names_query **ret)
{
	struct hosts_search s = {.host = host};
	struct names_query *q;

	*ret = NULL;
	each_line(&n->hosts, match_host, &s);
	q = s.count || strlen(host) > DNS_NAME_MAX ? NULL : calloc(1, sizeof(*q));
	if (!q) {
		fn(arg, s.found, s.count, s.count ? "" : "out of memory");
		return;
	}
	*q = (struct names_query){.n = n, .fn = fn, .arg = arg};
	q->v4 = (struct family){.q = q, .type = DNS_A};
	q->v6 = (struct family){.q = q, .type = DNS_AAAA};
	memcpy(q->host, host, strlen(host) + 1);
	q->skew = evtimer_new(n->base, on_skew, q);
	/* Neither calls back before it returns. */
	q->v4.udp = evdns_base_resolve_ipv4(n->dns, host, DNS_QUERY_NO_SEARCH, on_udp, &q->v4);
	q->v6.udp = evdns_base_resolve_ipv6(n->dns, host, DNS_QUERY_NO_SEARCH, on_udp, &q->v6);
	if (!q->skew || !q->v4.udp || !q->v6.udp) {
		end_query(q);
		fn(arg, NULL, 0, "out of memory, or no resolver");
		return;
	}
	*ret = q;
}

void names_cancel(struct names_query *q)
{
	if (q)
		end_query(q);
}

/* ---- this host's own ---- */

static bool in_message(const struct nlmsghdr *h, size_t len, const struct names_address *a,
		       bool *ret_done)
{
	for (; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
		const struct ifaddrmsg *m = NLMSG_DATA(h);
		const struct rtattr *t = IFA_RTA(m);
		size_t left;

		if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
			*ret_done = true;
		if (h->nlmsg_type != RTM_NEWADDR)
			continue;
		left = IFA_PAYLOAD(h);
		for (; RTA_OK(t, left); t = RTA_NEXT(t, left))
			if ((t->rta_type == IFA_ADDRESS || t->rta_type == IFA_LOCAL) &&
			    RTA_PAYLOAD(t) == a->len && memcmp(RTA_DATA(t), a->b, a->len) == 0)
				return true;
	}
	return false;
}

bool names_own(struct names *n, const struct names_address *a)
{
	struct {
		struct nlmsghdr h;
		struct ifaddrmsg m;
	} ask = {.h = {.nlmsg_len = sizeof(ask),
		       .nlmsg_type = RTM_GETADDR,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		 .m = {.ifa_family = AF_UNSPEC}};
	union {
		struct nlmsghdr h;
		char bytes[32768];
	} in;
	bool done = false, own = false;

	/* What cannot be known counts as the host's own. */
	if (send(n->netlink, &ask, sizeof(ask), 0) != sizeof(ask))
		return true;
	for (unsigned i = 0; !done && i < OWN_MAX; i++) {
		ssize_t len = recv(n->netlink, &in, sizeof(in), 0);

		if (len <= 0)
			return true;
		own |= in_message(&in.h, (size_t)len, a, &done);
	}
	return own;
}
