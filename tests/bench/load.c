/*
 * A client of the gate's benchmark, the same for every way to the server, in a sandbox or not: a
 * connection a thread, HTTP/1.1 over plain TCP or TLS, by way of a proxy where one is named. It
 * looks at no certificate: what that costs is the same for all and nobody's to compare.
 *
 *   load HOST ADDRESS|- PORT tls|plain [METHOD:]PATH CONNECTIONS REQUESTS keep|close|hold [PROXY PORT]
 *
 * ADDRESS - is HOST resolved; a proxy is asked for HOST, or for ADDRESS where it is one. keep: each thread's requests go over one connection; close: each over one
 * of its own. Prints one line: nanoseconds from the first connect to the last byte, requests, bytes
 * of bodies; of one connection also each request's nanoseconds, of which a kept one's start after
 * the connecting. hold: connects, asks once on each connection, prints, and keeps them until a line
 * on standard input. What fails is said on that line in the numbers' place.
 */
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/bench/bench.h"

enum { THREADS_MAX = 64, HOLD_MAX = 4000, LATENCIES_MAX = 10000, HEAD_MAX = 8192 };

static struct {
	const char *host, *ask, *port, *method, *path;
	struct addrinfo *to;
	SSL_CTX *tls; /* NULL: plain */
	bool proxy, keep, one; /* one: a single connection, each request of which is timed */
	long requests; /* of a thread */
} load;
static const char *volatile failure;
static int64_t latency[LATENCIES_MAX];
static size_t latency_count;

struct connection {
	int fd;
	SSL *ssl;
};

struct worker {
	pthread_t thread;
	long done;
	long long bytes;
};

static bool fail(const char *what)
{
	failure = what;
	return false;
}

static ssize_t get(struct connection *c, void *buf, size_t n)
{
	return c->ssl ? SSL_read(c->ssl, buf, (int)n) : read(c->fd, buf, n);
}

static bool put(struct connection *c, const char *text)
{
	size_t n = strlen(text);
	ssize_t r = c->ssl ? SSL_write(c->ssl, text, (int)n) : write(c->fd, text, n);
	return r == (ssize_t)n || fail("a write failed");
}

/* The head of an answer and what came of its body: *ret_body bytes. */
static bool head(struct connection *c, char *buf, long long *ret_length, size_t *ret_body)
{
	size_t have = 0;
	char *end = NULL;

	while (!end) {
		ssize_t n = have < HEAD_MAX - 1 ? get(c, buf + have, HEAD_MAX - 1 - have) : 0;
		if (n <= 0)
			return fail("the connection ended before an answer");
		have += (size_t)n;
		buf[have] = '\0';
		end = strstr(buf, "\r\n\r\n");
	}
	if (strncmp(buf, "HTTP/1.1 200", 12) != 0 && strncmp(buf, "HTTP/1.0 200", 12) != 0)
		return fail("not answered 200");
	const char *length = strcasestr(buf, "content-length:");
	*ret_length = length ? atoll(length + strlen("content-length:")) : 0;
	*ret_body = have - (size_t)(end + 4 - buf);
	return true;
}

static bool request(struct connection *c, long long *bytes)
{
	char text[1024], buf[65536];
	long long length = 0;
	size_t body = 0;
	bool absolute = load.proxy && !load.tls;
	bool usual = strcmp(load.port, load.tls ? "443" : "80") == 0;

	snprintf(text, sizeof(text), "%s %s%s%s HTTP/1.1\r\nHost: %s%s%s\r\n%s%s\r\n", load.method,
		 absolute ? "http://" : "", absolute ? load.ask : "", load.path, load.host,
		 usual ? "" : ":", usual ? "" : load.port, load.keep ? "" : "Connection: close\r\n",
		 strcmp(load.method, "GET") == 0 ? "" : "Content-Length: 0\r\n");
	if (!put(c, text) || !head(c, buf, &length, &body))
		return false;
	*bytes += length;
	for (long long left = length - (long long)body; left > 0;) {
		size_t n = left < (long long)sizeof(buf) ? (size_t)left : sizeof(buf);
		ssize_t r = get(c, buf, n);
		if (r <= 0)
			return fail("a body ended early");
		left -= r;
	}
	return true;
}

static bool connect_to(struct connection *c)
{
	char text[512], buf[HEAD_MAX];
	long long length;
	size_t body;
	int on = 1;

	c->ssl = NULL;
	c->fd = socket(load.to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, load.to->ai_addr, load.to->ai_addrlen) < 0)
		return fail("connect failed");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!load.tls)
		return true;
	if (load.proxy) {
		snprintf(text, sizeof(text), "CONNECT %s:%s HTTP/1.1\r\nHost: %s:%s\r\n\r\n",
			 load.ask, load.port, load.ask, load.port);
		if (!put(c, text) || !head(c, buf, &length, &body))
			return false;
	}
	c->ssl = SSL_new(load.tls);
	SSL_set_tlsext_host_name(c->ssl, load.host);
	SSL_set_fd(c->ssl, c->fd);
	return SSL_connect(c->ssl) == 1 || fail("TLS failed");
}

static void hang_up(struct connection *c)
{
	SSL_free(c->ssl);
	c->ssl = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct connection c = {.fd = -1};

	for (; w->done < load.requests && !failure; w->done++) {
		bool fresh = !load.keep || c.fd < 0;
		int64_t start = bench_now_ns();
		if (fresh && !connect_to(&c))
			break;
		if (load.keep && fresh)
			start = bench_now_ns();
		if (!request(&c, &w->bytes))
			break;
		if (load.one && latency_count < LATENCIES_MAX)
			latency[latency_count++] = bench_now_ns() - start;
		if (!load.keep)
			hang_up(&c);
	}
	hang_up(&c);
	return NULL;
}

static int hold(long count)
{
	struct connection *c = calloc((size_t)count, sizeof(*c));
	long long bytes = 0;
	long i = 0;

	if (!c)
		return 1;
	while (i < count && connect_to(&c[i]) && request(&c[i], &bytes))
		i++;
	if (failure)
		printf("failed %s at the connection %ld\n", failure, i + 1);
	else
		printf("0 %ld %lld\n", count, bytes);
	fflush(stdout);
	for (char b = 0; read(STDIN_FILENO, &b, 1) == 1 && b != '\n';)
		continue;
	return 0;
}

static int run(long connections)
{
	static struct worker workers[THREADS_MAX];
	long done = 0;
	long long bytes = 0;

	int64_t start = bench_now_ns();
	for (long i = 0; i < connections; i++)
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			return 1;
	for (long i = 0; i < connections; i++) {
		pthread_join(workers[i].thread, NULL);
		done += workers[i].done;
		bytes += workers[i].bytes;
	}
	int64_t took = bench_now_ns() - start;
	if (failure) {
		printf("failed %s after %ld requests\n", failure, done);
		return 0;
	}
	printf("%lld %ld %lld", (long long)took, done, bytes);
	for (size_t i = 0; i < latency_count; i++)
		printf(" %lld", (long long)latency[i]);
	printf("\n");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 9 && argc != 11) {
		fprintf(stderr, "load: see its head comment\n");
		return 2;
	}
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET};
	long connections = atol(argv[6]);
	bool holds = strcmp(argv[8], "hold") == 0;

	load.host = argv[1];
	load.ask = strcmp(argv[2], "-") == 0 ? argv[1] : argv[2];
	load.port = argv[3];
	load.path = strchr(argv[5], '/');
	load.method = argv[5] == load.path ? "GET" : strtok(argv[5], ":");
	if (!load.path)
		return 2;
	load.keep = strcmp(argv[8], "close") != 0;
	load.proxy = argc == 11;
	if (connections < 1 || connections > (holds ? HOLD_MAX : THREADS_MAX))
		return 2;
	load.one = connections == 1;
	load.requests = atol(argv[7]) / connections;
	const char *address = load.proxy ? argv[9] : load.ask;
	if (getaddrinfo(address, load.proxy ? argv[10] : argv[3], &hints, &load.to) != 0) {
		printf("failed %s does not resolve\n", address);
		return 0;
	}
	if (strcmp(argv[4], "tls") == 0)
		load.tls = SSL_CTX_new(TLS_client_method());
	return holds ? hold(connections) : run(connections);
}
