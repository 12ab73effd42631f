/*
 * The holder of a user namespace, which makes network namespaces in it: a fork of the keeper, since
 * it needs libnl and nothing else. Network configuration takes the kernel's one RTNL lock, behind
 * every namespace that is being torn down: milliseconds at times, which is why it is not done in
 * the keeper's loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/route.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include "base/io.h"
#include "sandbox/keeper.h"
#include "sandbox/sys.h"

static int add_local_route(struct nl_sock *s, const char *prefix, int family)
{
	struct nl_addr *dst = NULL;
	struct rtnl_route *route = rtnl_route_alloc();
	struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
	int r = route && hop ? nl_addr_parse(prefix, family, &dst) : -NLE_NOMEM;

	if (r == 0) {
		rtnl_route_nh_set_ifindex(hop, 1);
		rtnl_route_add_nexthop(route, hop);
		hop = NULL;
		rtnl_route_set_table(route, RT_TABLE_LOCAL);
		rtnl_route_set_type(route, RTN_LOCAL);
		rtnl_route_set_scope(route, RT_SCOPE_HOST);
		r = rtnl_route_set_dst(route, dst);
	}
	if (r == 0)
		r = rtnl_route_add(s, route, NLM_F_CREATE | NLM_F_EXCL);
	nl_addr_put(dst);
	if (hop)
		rtnl_route_nh_free(hop);
	rtnl_route_put(route);
	return r;
}

/* lo is interface 1 of every network namespace. Without IPv6 the second route is not there to be
 * had. */
static int configure_lo(void)
{
	struct nl_sock *s = nl_socket_alloc();
	struct rtnl_link *lo = rtnl_link_alloc(), *up = rtnl_link_alloc();

	int r = s && lo && up ? nl_connect(s, NETLINK_ROUTE) : -NLE_NOMEM;
	if (r == 0) {
		rtnl_link_set_ifindex(lo, 1);
		rtnl_link_set_flags(up, IFF_UP);
		r = rtnl_link_change(s, lo, up, 0);
	}
	if (r == 0)
		r = add_local_route(s, SANDBOX_NET_V4, AF_INET);
	if (r == 0)
		(void)add_local_route(s, SANDBOX_NET_V6, AF_INET6);
	rtnl_link_put(lo);
	rtnl_link_put(up);
	nl_socket_free(s);
	return r < 0 ? -EIO : 0;
}

static int make_netns(int *ret)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	int r = configure_lo();
	if (r < 0)
		return r;
	*ret = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	return *ret < 0 ? -errno : 0;
}

static int report(int sock, enum init_report_type type, int error, const int *fd)
{
	struct init_report r = {.type = type, .stage = INIT_STAGE_NETWORK, .error = error};

	ssize_t n = io_send_fds(sock, &r, sizeof(r), fd, fd ? 1 : 0);
	return n < 0 ? (int)n : 0;
}

/* What the kernel counts by user across namespaces, and the user outside needs some of: steps of one
 * user have three quarters, all together. Best effort: in a container /proc/sys may be read-only. */
static const char *const counted[] = {"/proc/sys/user/max_inotify_instances",
				      "/proc/sys/user/max_inotify_watches"};

static void read_counted(long ret[ARRAY_SIZE(counted)])
{
	for (size_t i = 0; i < ARRAY_SIZE(counted); i++) {
		char text[32] = "";
		AUTO_FD fd = open(counted[i], O_RDONLY | O_CLOEXEC);
		ret[i] = fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 ? strtol(text, NULL, 10)
									 : 0;
	}
}

static void leave_some(const long outside[ARRAY_SIZE(counted)])
{
	for (size_t i = 0; i < ARRAY_SIZE(counted); i++) {
		char text[32];
		AUTO_FD fd = open(counted[i], O_WRONLY | O_CLOEXEC);
		snprintf(text, sizeof(text), "%ld", outside[i] - outside[i] / 4);
		if (fd >= 0 && outside[i] > 0)
			(void)!write(fd, text, strlen(text));
	}
}

/* Ends with the keeper: at the end of its socket, or by signal. The maps are written between the
 * two READYs. */
static int pool_main(int sock, int keeper, int userns)
{
	struct pollfd dead = {.fd = keeper, .events = POLLIN};
	struct init_message m;
	long outside[ARRAY_SIZE(counted)];

	read_counted(outside);
	if (userns >= 0 ? setns(userns, CLONE_NEWUSER) < 0 : unshare(CLONE_NEWUSER) < 0)
		return report(sock, INIT_REPORT_FAILED, -errno, NULL);
	if (userns >= 0)
		close(userns);
	else
		prctl(PR_SET_DUMPABLE, 1); /* else its map files would be root's */
	if (report(sock, INIT_REPORT_READY, 0, NULL) < 0 ||
	    recv(sock, &m, sizeof(m), 0) != sizeof(m))
		return 0;
	if (setresgid(m.gid, m.gid, m.gid) < 0 || setresuid(m.uid, m.uid, m.uid) < 0)
		return report(sock, INIT_REPORT_FAILED, -errno, NULL);
	leave_some(outside);
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (poll(&dead, 1, 0) != 0 || report(sock, INIT_REPORT_READY, 0, NULL) < 0)
		return 0;
	while (recv(sock, &m, sizeof(m), 0) == sizeof(m)) {
		AUTO_FD ns = -1;
		int r = make_netns(&ns);
		if (report(sock, r < 0 ? INIT_REPORT_FAILED : INIT_REPORT_NETNS, r,
			   r < 0 ? NULL : &ns) < 0)
			break;
	}
	return 0;
}

/* Keeps its descriptors and nothing else of the keeper's. */
static int pool_child(struct keeper *k, int sock, int userns)
{
	enum { LOWEST = 100 };
	int keep[] = {sock, k->self_pidfd, userns};
	const size_t count = userns < 0 ? 2 : 3;
	int next = LOWEST;

	signal(SIGPIPE, SIG_DFL);
	prctl(PR_SET_NAME, "holdfast-netpool");
	/* Each copy is above the one before it, and all that lies between them is closed. */
	for (size_t i = 0; i < count; i++) {
		int copy = fcntl(keep[i], F_DUPFD_CLOEXEC, next);
		if (copy < 0)
			return -errno;
		keep[i] = copy;
		next = copy + 1;
	}
	unsigned from = 3;
	for (size_t i = 0; i < count; i++) {
		unsigned at = (unsigned)keep[i];
		if (at > from && sys_close_range(from, at - 1, 0) < 0)
			return -errno;
		from = at + 1;
	}
	if (sys_close_range(from, ~0U, 0) < 0)
		return -errno;
	if (k->privileged && setgroups(0, NULL) < 0)
		return -errno;
	return pool_main(keep[0], keep[1], userns < 0 ? -1 : keep[2]);
}

int pool_start(struct keeper *k, int userns, int *ret_sock, pid_t *ret_pid, struct error *err)
{
	AUTO_FD ours = -1;
	AUTO_FD theirs = -1;
	int r = proc_pair(&ours, &theirs);

	if (r < 0)
		return error_set(err, r, "keeper: no socket for the network pool: %s",
				 strerror(-r));
	*ret_pid = fork();
	if (*ret_pid < 0)
		return error_set(err, -errno, "keeper: cannot start the network pool: %s",
				 strerror(errno));
	if (*ret_pid == 0)
		_exit(pool_child(k, theirs, userns) < 0 ? 1 : 0);
	*ret_sock = take_fd(&ours);
	return 0;
}
