#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <mqueue.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include "tests/adversarial/tries.h"

/* ---- Unix sockets and FIFOs of the machine */

static int unix_connect(const char *name, bool abstract, int type)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(a);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(name) + 2 > sizeof(a.sun_path))
		return TRY_BROKEN;
	memcpy(a.sun_path + abstract, name, strlen(name));
	if (abstract)
		len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
	return try_said(connect(fd, (struct sockaddr *)&a, len));
}

int try_net_abstract(const struct world *w)
{
	return unix_connect(w->abstract, true, SOCK_STREAM);
}

int try_net_abstract_datagram(const struct world *w)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char name[WORLD_TEXT];

	snprintf(name, sizeof(name), "%.90s-d", w->abstract);
	memcpy(a.sun_path + 1, name, strlen(name));
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return try_said(
		sendto(fd, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&a,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))));
}

int try_net_view_socket(const struct world *w)
{
	return unix_connect(w->view_socket, false, SOCK_STREAM);
}

int try_net_view_datagram(const struct world *w)
{
	return unix_connect(w->view_datagram, false, SOCK_DGRAM);
}

/* By a descriptor of the socket's file, past the name. */
int try_net_view_descriptor(const struct world *w)
{
	char path[64];
	int fd = open(w->view_socket, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return unix_connect(path, false, SOCK_STREAM);
}

static int fifo(const char *path, int flags)
{
	return try_said(open(path, flags | O_NONBLOCK | O_CLOEXEC));
}

int try_net_view_fifo(const struct world *w)
{
	return fifo(w->view_fifo, O_WRONLY); /* has a reader outside */
}

int try_net_view_fifo_read(const struct world *w)
{
	char byte[8];
	int fd = open(w->view_fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return errno;
	/* EAGAIN: nothing yet, and a writer; 0: nobody writes into this one */
	return read(fd, byte, sizeof(byte)) == 0 ? TRY_UNSEEN : TRY_REACHED;
}

int try_net_work_socket(const struct world *w)
{
	return unix_connect(w->work_socket, false, SOCK_STREAM);
}

int try_net_work_fifo(const struct world *w)
{
	return fifo(w->work_fifo, O_WRONLY);
}

int try_net_work_link(const struct world *w)
{
	return unix_connect(w->work_link, false, SOCK_STREAM);
}

int try_net_hidden_socket(const struct world *w)
{
	return unix_connect(w->hidden_socket, false, SOCK_STREAM);
}

int try_net_proc_socket(const struct world *w)
{
	char path[WORLD_TEXT + 32];

	snprintf(path, sizeof(path), "/proc/self/root%s", w->hidden_socket);
	return unix_connect(path, false, SOCK_STREAM);
}

int try_net_keeper(const struct world *w)
{
	return unix_connect(w->keeper, false, SOCK_SEQPACKET);
}

/* ---- packets */

static int inet(const char *address, int port, int type)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET, address, &a.sin_addr) != 1)
		return TRY_BROKEN;
	return try_said(connect(fd, (struct sockaddr *)&a, sizeof(a)));
}

static int inet6(const char *address, int port)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET6, address, &a.sin6_addr) != 1)
		return TRY_BROKEN;
	return try_said(connect(fd, (struct sockaddr *)&a, sizeof(a)));
}

int try_net_loopback(const struct world *w)
{
	return inet("127.0.0.1", atoi(w->tcp_port), SOCK_STREAM);
}

int try_net_loopback6(const struct world *w)
{
	return inet6("::1", atoi(w->tcp6_port));
}

int try_net_loopback_mapped(const struct world *w)
{
	return inet6("::ffff:127.0.0.1", atoi(w->tcp_port));
}

/* Connected, the second packet meets the answer to the first. */
int try_net_loopback_udp(const struct world *w)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)atoi(w->udp_port)),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return fd < 0 ? TRY_BROKEN : errno;
	if (send(fd, "x", 1, 0) < 0)
		return errno;
	usleep(2000);
	return try_said(send(fd, "x", 1, 0));
}

/* Of UDP, connect only looks for the way: nothing is sent. */
int try_net_route(const struct world *w)
{
	(void)w;
	return inet("192.0.2.1", 9, SOCK_DGRAM);
}

int try_net_metadata(const struct world *w)
{
	(void)w;
	return inet("169.254.169.254", 80, SOCK_DGRAM);
}

/* ---- families, protocols, netlink */

#define SOCKET(name, ...)                                          \
	int try_net_##name(const struct world *w)                  \
	{                                                          \
		(void)w;                                           \
		return try_said(syscall(SYS_socket, __VA_ARGS__)); \
	}
SOCKET(raw, AF_INET, SOCK_RAW, IPPROTO_ICMP)
SOCKET(packet, AF_PACKET, SOCK_RAW, 0)
SOCKET(vsock, AF_VSOCK, SOCK_STREAM, 0)
SOCKET(vsock_high, AF_VSOCK | (1UL << 32), SOCK_STREAM, 0)
SOCKET(alg, AF_ALG, SOCK_SEQPACKET, 0)
SOCKET(uevent, AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT)
SOCKET(audit, AF_NETLINK, SOCK_RAW, NETLINK_AUDIT)
SOCKET(generic, AF_NETLINK, SOCK_RAW, NETLINK_GENERIC)
SOCKET(diag, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG)
SOCKET(netfilter, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)
SOCKET(xfrm, AF_NETLINK, SOCK_RAW, NETLINK_XFRM)
SOCKET(connector, AF_NETLINK, SOCK_RAW, NETLINK_CONNECTOR)

int try_net_families(const struct world *w)
{
	(void)w;
	for (int family = 0; family < 64; family++) {
		if (family == AF_UNIX || family == AF_INET || family == AF_INET6 ||
		    family == AF_NETLINK)
			continue;
		for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type++)
			if (socket(family, type, 0) >= 0 || errno != EAFNOSUPPORT)
				return TRY_REACHED; /* or at least asked for */
	}
	return EAFNOSUPPORT;
}

int try_net_protocols(const struct world *w)
{
	static const int protocols[] = {33, 132, 136, 262}; /* dccp, sctp, udplite, mptcp */

	(void)w;
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
		for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++)
			if (socket(AF_INET, type, protocols[i]) >= 0)
				return TRY_REACHED;
	return EPROTONOSUPPORT;
}

/* Switches lo on, by netlink: allowed to ask, and not to change. */
int try_net_link(const struct world *w)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg info;
	} ask = {{sizeof(ask), RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0},
		 {.ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP}};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char room[256];
	} reply;

	(void)w;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0 || send(fd, &ask, sizeof(ask), 0) < 0 ||
	    recv(fd, &reply, sizeof(reply), 0) < 0 || reply.head.nlmsg_type != NLMSG_ERROR)
		return TRY_BROKEN;
	return -reply.error.error;
}

int try_net_interface(const struct world *w)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	(void)w;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd < 0 ? TRY_BROKEN : try_said(ioctl(fd, SIOCSIFFLAGS, &r));
}

int try_net_mark(const struct world *w)
{
	int mark = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)w;
	return fd < 0 ? TRY_BROKEN
		      : try_said(setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)));
}

int try_net_iptables(const struct world *w)
{
	char rules[8] = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)w;
	return fd < 0 ? TRY_BROKEN
		      : try_said(setsockopt(fd, IPPROTO_IP, 64 /* IPT_SO_SET_REPLACE */, rules,
					    sizeof(rules)));
}

/* ---- System V and POSIX objects, by their names outside */

int try_ipc_shm(const struct world *w)
{
	return try_said(shmget(atoi(w->ipc_key), 0, 0));
}

int try_ipc_sem(const struct world *w)
{
	return try_said(semget(atoi(w->ipc_key), 0, 0));
}

int try_ipc_msg(const struct world *w)
{
	return try_said(msgget(atoi(w->ipc_key), 0));
}

int try_ipc_queue(const struct world *w)
{
	return try_said(mq_open(w->queue, O_RDONLY | O_NONBLOCK));
}

int try_ipc_queue_new(const struct world *w)
{
	char name[WORLD_TEXT + 8];

	snprintf(name, sizeof(name), "%s-new", w->queue);
	int answer = try_said(mq_open(name, O_RDWR | O_CREAT, 0600, NULL));
	(void)mq_unlink(name);
	return answer;
}

int try_ipc_dev_shm(const struct world *w)
{
	return try_said(shm_open(w->shm, O_RDONLY, 0));
}
