/*
 * A program as it comes out of a compiler that links everything in: no resolver of the C library,
 * no proxy variables, no search list. It asks the first name server of /etc/resolv.conf for an A
 * record over UDP, connects, and prints what a plain GET brings. static_client HOST PORT PATH
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int name_server(struct sockaddr_in *ret)
{
	char text[4096] = "", address[64];
	int fd = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0 || sscanf(text, "nameserver %63s", address) != 1)
		return -1;
	close(fd);
	*ret = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(53)};
	return inet_pton(AF_INET, address, &ret->sin_addr) == 1 ? 0 : -1;
}

static size_t make_query(const char *host, uint8_t *q)
{
	static const uint8_t head[12] = {0x12, 0x34, 1, 0, 0, 1};
	static const uint8_t tail[5] = {0, 0, 1, 0, 1};
	size_t at = sizeof(head);

	memcpy(q, head, sizeof(head));
	for (const char *label = host; *label;) {
		size_t n = strcspn(label, ".");
		q[at++] = (uint8_t)n;
		memcpy(q + at, label, n);
		at += n;
		label += n + (label[n] == '.');
	}
	memcpy(q + at, tail, sizeof(tail));
	return at + sizeof(tail);
}

/* 0, or the DNS code that refused it. */
static int look_up(const char *host, struct in_addr *ret)
{
	struct timeval timeout = {.tv_sec = 10};
	struct sockaddr_in server;
	uint8_t q[300], a[1500];
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	size_t len = make_query(host, q);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	if (name_server(&server) < 0 || connect(fd, (struct sockaddr *)&server, sizeof(server)) < 0 ||
	    send(fd, q, len, 0) < 0)
		return -1;
	ssize_t n = recv(fd, a, sizeof(a), 0);
	close(fd);
	if (n < (ssize_t)len || a[0] != 0x12 || a[1] != 0x34)
		return -1;
	if (a[3] & 15)
		return a[3] & 15;
	/* one answer whose name is a pointer to the question's: 2, type, class, ttl, length */
	if (a[7] < 1 || n < (ssize_t)len + 16)
		return -1;
	memcpy(ret, a + len + 12, 4);
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	char buf[4096];
	ssize_t n;

	if (argc != 4 || strlen(argv[1]) > 250)
		return 2;
	int code = look_up(argv[1], &to.sin_addr);
	if (code != 0) {
		printf("dns %d\n", code);
		return 3;
	}
	to.sin_port = htons((uint16_t)atoi(argv[2]));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
		perror("connect");
		return 4;
	}
	int len = snprintf(buf, sizeof(buf),
			   "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", argv[3],
			   argv[1]);
	if (write(fd, buf, (size_t)len) != len)
		return 5;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)n, stdout);
	return 0;
}
