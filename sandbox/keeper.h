#pragma once
/*
 * The keeper's parts, seen by each other only. Single thread, one loop; whatever comes from a
 * connection, a sandbox, a template or a sealer is input, and an error in it ends that one object,
 * never the keeper.
 *
 *   keeper_main.c      start, lock and socket, loop, idle exit
 *   keeper_loop.c      epoll, timers
 *   keeper_conn.c      connections, the table of requests
 *   keeper_attempt.c   the life of an attempt
 *   keeper_launch.c    making its sandbox
 *   keeper_userns.c    user namespaces, sealers
 *   keeper_template.c  sources, the cache of templates
 *   keeper_pool.c      network namespaces
 *   keeper_arm.c       overlays made ahead
 *   keeper_spool.c     output, terminals
 *   keeper_proc.c      starting holdfast-init and other helpers
 *   keeper_net.c       networks of runs: gate, courier, and what outlives them
 */
#include <sys/types.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/guard.h"
#include "sandbox/gate/table.h"
#include "sandbox/init.h"
#include "sandbox/limits.h"
#include "sandbox/plan.h"
#include "sandbox/protocol.h"

enum {
	KEEPER_CONNECTIONS_MAX = 16,
	KEEPER_DEAF_MS = 100, /* before it looks again whether it can take a connection */
	KEEPER_ATTEMPTS_MAX = 4096,
	KEEPER_QUEUE_MAX = 8192, /* messages that wait for one connection; past it the connection
				    ends, and asks again */
	KEEPER_TEMPLATES_MAX = 16, /* least recently used goes */
	KEEPER_NETNS_POOL = 4, /* network namespaces kept ready in each user namespace */
	KEEPER_ANSWER_MS =
		10000, /* a template or pool that does not answer for so long is given up */
	KEEPER_DENIED_REPORTS_MAX = 256, /* of one attempt; then its listener closes */
	KEEPER_JOBS_MAX = 1024, /* layer requests at work */
	KEEPER_COPY = 64 * 1024,
	KEEPER_ROOT_UID_BASE = 0x7a000000, /* uid 0 inside a root-owned workspace is this plus 16
					      bits of the state directory's inode when it was new,
					      kept in v1/root-uid */
};

/* ---- loop ---- */

struct loop_source {
	int fd; /* -1 = not watched */
	void (*fn)(struct loop_source *s, uint32_t events);
};

struct loop_timer {
	struct loop_timer *next;
	uint64_t due_ns; /* CLOCK_MONOTONIC; 0 = off */
	void (*fn)(struct loop_timer *t);
};

struct loop {
	int epoll;
	int timerfd;
	struct loop_timer *timers;
	uint64_t armed_ns;
	bool stop;
};

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

MUST_CHECK int loop_open(struct loop *l);
MUST_CHECK int loop_watch(struct loop *l, struct loop_source *s, int fd, uint32_t events,
			  void (*fn)(struct loop_source *, uint32_t));
void loop_change(struct loop *l, struct loop_source *s, uint32_t events);
void loop_unwatch(struct loop *l, struct loop_source *s); /* the descriptor stays open */
uint64_t loop_now_ns(void);
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t due_ns,
		    void (*fn)(struct loop_timer *));
void loop_timer_off(struct loop *l, struct loop_timer *t);
/* One event at a time, so that a handler may free any object. */
MUST_CHECK int loop_run(struct loop *l);

/* ---- objects ---- */

struct keeper;

struct userns {
	struct userns *next;
	struct keeper *keeper;
	uid_t uid; /* as in specs */
	gid_t gid;
	uint32_t in_uid, in_gid, out_uid, out_gid; /* inside; on the host */
	int fd;
	int pool; /* socket to its holder, which makes network namespaces */
	int netns[KEEPER_NETNS_POOL];
	size_t netns_count, netns_asked;
	struct loop_source pool_source;
	int sealer; /* socket, -1 = not running */
	struct loop_source sealer_source;
	int arms; /* folder for what is made ahead, -1 = none yet */
	char arms_name[LAYERS_AHEAD_SIZE];
};

struct template
{
	struct template *next;
	struct userns *userns;
	struct buffer plan;
	int sock;
	uint64_t used; /* keeper's counter */
	/* the last step that wrote to a layer: what the next one will probably stand on */
	char last_upper[LAYERS_NAME_SIZE];
	struct buffer last_stack; /* as arm_stack */
	uint32_t mode;
	/* NONE   nothing is made ahead, or a step took it
	 * ASKED  the template works on it and will answer on sock
	 * READY  folder `arm_number` of the user namespace's, and the overlay over it, wait */
	enum arm_state { ARM_NONE = 0, ARM_ASKED, ARM_READY } arm;
	bool arm_left; /* a step took it, and the template has its mount still */
	uint64_t arm_number;
	uint32_t arm_mode;
	struct buffer arm_stack; /* the layers below, LAYERS_NAME_SIZE bytes each, bottom first */
};

struct net_message;
struct net;

/* A gate or a courier. */
struct net_helper {
	struct net *net;
	struct loop_source control; /* our end of its socket */
	struct loop_source process; /* pidfd; watched = it runs */
	struct loop_timer again, full;
	uint64_t started_ns, again_ms;
	struct net_message *first, **last;
	size_t queued;
};

struct net {
	struct net *next;
	struct keeper *keeper;
	struct sandbox_net_id run;
	bool closing; /* at its last attempt's end */
	bool ending; /* its helpers are being killed: nobody finds it any more, and its lock is
		      * free when both are dead */
	int table_fd, ca_fd, lock;
	int report; /* the courier's end of a report channel, until there is a courier */
	struct table *table;
	struct sandbox_listener *listeners;
	size_t listener_count;
	struct control_message *names; /* given to slots of wildcards */
	size_t name_count;
	struct net_helper gate, courier;
};

struct attempt;

struct spool {
	struct attempt *attempt;
	int file;
	uint64_t bytes, dropped;
	int error;
	struct loop_source source; /* the pipe's read end, or the terminal's master */
};

struct attempt {
	struct attempt *next;
	struct keeper *keeper;
	struct sandbox_attempt_id id;
	enum sandbox_attempt_state state;
	struct protocol_spec *spec;
	struct userns *userns;
	struct buffer plan; /* until it started: failures name strings of it */
	bool armed; /* its layer and overlay were made ahead */
	struct limits *limits;
	struct loop_timer wall;
	uint64_t wall_left_ns; /* while frozen */
	uint64_t started_ns, disk_checked_ns;
	int lock; /* until pid 1 has it */
	int main_pidfd, out_fd;
	struct net *net; /* NULL = none */
	int *listeners; /* of listener_want, as many as have come */
	size_t listener_count, listener_want;
	struct loop_source status, pid1, denied;
	struct spool out[2];
	struct loop_source relay; /* interactive client of the terminal */
	struct buffer to_terminal; /* what it typed and the terminal has not taken */
	enum sandbox_exit_why killed_why; /* 0 = we did not */
	char killed_limit[16];
	bool exit_told, usage_asked;
	uint32_t denied_reports;
	bool followed;
	uint64_t output_told_ns;
	bool output_pending;
	struct sandbox_exit exit;
	struct sandbox_not_started not_started;
};

struct conn {
	struct conn *next;
	struct keeper *keeper;
	struct loop_source source;
	enum conn_phase { CONN_NEW = 1, CONN_LOOKING = 2, CONN_SERVED = 4 } phase;
	uint64_t epoch;
	struct outgoing *first, **last;
	size_t queued;
};

/* A layer request on its way through a sealer. */
struct job {
	struct job *next;
	struct userns *userns;
	uint64_t id;
	struct conn *conn; /* NULL: nobody waits for the answer any more, or the keeper asked for
			      itself */
	uint64_t request;
	struct attempt *usage_of;
	bool sent;
	struct sealer_request q;
	struct buffer path; /* owns q.path */
	int base_fd;
};

struct keeper {
	struct loop loop;
	int runtime_fd, state_fd, helpers_fd, layers_fd, spool_fd, init_fd, sealer_fd, self_pidfd, null_fd;
	int gate_fd, courier_fd; /* executables; -1 = not installed */
	size_t listeners_max; /* descriptors of all attempts together */
	struct loop_source listen_source;
	uint64_t socket_dev, socket_ino; /* of what it listens at, while that is there */
	uint64_t epoch, next_job, use_counter, arm_counter;
	uint32_t idle_ms, root_uid;
	bool privileged; /* uid 0 of the initial user namespace */
	bool draining;
	char boot_id[37];
	char layers_path[SANDBOX_PATH_MAX + 1], spool_path[SANDBOX_PATH_MAX + 1];
	struct hidden {
		char path[SANDBOX_PATH_MAX + 1];
	} hidden[2]; /* state and runtime folder: never seen inside */
	struct conn *conns;
	struct attempt *attempts;
	size_t attempt_count, live_count;
	struct net *nets;
	size_t net_count;
	struct userns *usernses;
	struct template *templates;
	struct job *jobs;
	size_t job_count;
	struct limits_host *limits;
	struct loop_timer idle, look, sampler, notices;
	struct loop_timer deaf; /* runs while it takes no connection: it has no descriptor for one */
	struct buffer filters[2]; /* plain, and for root-owned workspaces */
	bool landlock;
};

/* ---- keeper_proc.c ---- */

/* Two ends of a new seqpacket socket; what is read from ours waits KEEPER_ANSWER_MS at most. */
MUST_CHECK int proc_pair(int *ret_ours, int *ret_theirs);
/* Starts holdfast-init in a mode, with a socket to it (ours is *ret_sock). */
MUST_CHECK int proc_start_init(struct keeper *k, const char *mode, int *ret_sock, pid_t *ret_pid,
			       struct error *err);
/* Starts the executable exe as `name [mode]`, with two descriptors at INIT_CONTROL_FD and
 * INIT_KEEPER_FD, and no other but 0, 1, 2. Nobody waits for it: SIGCHLD is ignored. */
MUST_CHECK int proc_spawn(int exe, const char *name, const char *mode, int control, int second,
			  pid_t *ret);
/* One message to it: header, plan (inline or as a memfd), descriptors. */
MUST_CHECK int proc_send(int sock, const struct init_message *m, struct bytes plan, const int *fds,
			 size_t fd_count);
/* One report from it. Blocking sockets have a receive time-out of KEEPER_ANSWER_MS. -ECONNRESET at
 * the end. */
MUST_CHECK int proc_receive(int sock, struct init_report *ret, int *fds, size_t *ret_fd_count);

/* ---- keeper_pool.c ---- */

/* Forks the holder of a new user namespace: it says READY, waits for its maps and an INIT_USERNS
 * message, says READY, then answers each INIT_NETNS with NETNS and one descriptor. userns: one that
 * exists, whose holder ended, and whose maps are written; -1 = a new one. */
MUST_CHECK int pool_start(struct keeper *k, int userns, int *ret_sock, pid_t *ret_pid,
			  struct error *err);

/* ---- keeper_userns.c ---- */

MUST_CHECK int userns_get(struct keeper *k, uid_t uid, gid_t gid, struct userns **ret,
			  struct error *err);
/* A network namespace with lo up; the pool is refilled behind. */
MUST_CHECK int userns_take_netns(struct userns *u, int *ret, struct error *err);
static inline bool userns_is_idmapped(const struct userns *u)
{
	return u->in_uid != u->out_uid;
}
/* Queues a layer request; job is taken over. The answer goes to job->conn, or to the attempt that
 * asked. */
void userns_submit(struct keeper *k, struct job *job);
void userns_retry_jobs(struct keeper *k); /* after an attempt is gone: its layer can be sealed */
void userns_forget_conn(struct keeper *k, struct conn *c);
void userns_forget_attempt(struct keeper *k, struct attempt *a);
void job_free(struct job *j); /* accepts NULL */

/* ---- keeper_template.c ---- */

enum { PREPARED_ANCESTORS_MAX = 128 };

struct prepared {
	struct plan_input in;
	struct plan_seen seen[SANDBOX_MOUNTS_MAX];
	char *links[SANDBOX_MOUNTS_MAX];
	char *masks[PLAN_MASKS_MAX];
	struct ancestor {
		uint64_t dev, ino;
		const char *rest; /* of the hidden folder's path, below this one */
	} ancestors[PREPARED_ANCESTORS_MAX];
	size_t ancestor_count;
	char base_path[SANDBOX_PATH_MAX + 1];
};
void prepared_free(struct prepared *p);
DEFINE_GUARD(struct prepared *, prepared_free)
/* Looks at every source of a spec. -ESTALE, -ENOENT, -EPERM with what and why. */
MUST_CHECK int template_prepare(struct keeper *k, struct userns *u, const struct sandbox_spec *s,
				struct prepared **ret, struct error *err);
/* The template for it: a cached one or a new one. Borrowed. */
MUST_CHECK int template_get(struct keeper *k, struct userns *u, const struct prepared *p,
			    struct template **ret, struct error *err);
void template_drop(struct keeper *k, struct template *t);
/* The base folder as a step of that user namespace sees it (idmapped where it is), for the sealer.
 */
MUST_CHECK int template_open_base(struct userns *u, int base_fd, struct error *err);

/* ---- keeper_arm.c ---- */

/* A step starts on t: its layer and its lock are what was made ahead, if that was for the same
 * stack. False: make them; nothing was touched. */
MUST_CHECK bool arm_take(struct template *t, const struct protocol_spec *s, uint32_t mode,
			 int *ret_lock);
/* A layer request was answered: the place of the next step is known, and made. */
void arm_look(struct keeper *k, const struct sealer_request *q, const struct sealer_reply *r);
/* A step ended: templates let go of what steps took. Not when it is taken, since an unmount waits
 * for every processor, and the step would run meanwhile. */
void arm_let_go(struct keeper *k);
/* Removes what waits. A template that has something is freed only after this. */
void arm_forget(struct template *t);
void arm_close(struct userns *u);

/* ---- keeper_attempt.c ---- */

struct attempt *attempt_find(struct keeper *k, const struct sandbox_attempt_id *id);
/* Takes s over. Always leaves an attempt in k->attempts: STARTING, or NOT_STARTED and told. */
void attempt_start(struct keeper *k, struct protocol_spec *s);
void attempt_kill(struct attempt *a, enum sandbox_exit_why why, const char *limit);
MUST_CHECK int attempt_freeze(struct attempt *a, bool frozen);
void attempt_free(struct attempt *a);
void attempt_tell_again(struct attempt *a); /* to a new connection */
void attempt_usage(struct attempt *a, const struct sealer_reply *r);
bool attempt_uses_layer(struct keeper *k, const char *name); /* its sandbox is not GONE yet */
void attempt_on_status(struct loop_source *s, uint32_t events); /* its reports, a->status */
void attempt_on_pid1(struct loop_source *s, uint32_t events); /* its end, a->pid1 */

/* ---- keeper_launch.c ---- */

/* Makes its sandbox, up to a pid 1 that was let go; reports and the end are watched then.
 * *ret_stage, static: how far it came. What it has made so far is a's on failure too. */
MUST_CHECK int launch_attempt(struct attempt *a, const char **ret_stage, struct error *err);

/* ---- keeper_net.c ---- */

struct net *net_find(struct keeper *k, const struct sandbox_net_id *run);
/* The one that is open, or a new one. */
MUST_CHECK int net_open(struct keeper *k, const struct sandbox_net_id *run, struct bytes table,
			struct bytes ca, struct net **ret, struct error *err);
/* A new report channel: the supervisor's end. */
MUST_CHECK int net_attach(struct net *n, int *ret_fd, struct error *err);
void net_close(struct net *n); /* now, or when its last attempt is forgotten */
void net_free(struct net *n); /* accepts NULL */
/* An attempt that starts: finds its network, starts what serves it, makes room for its listeners.
 */
MUST_CHECK int net_take(struct attempt *a, struct error *err);
/* What they listen on: a->listener_want of them. */
const struct sandbox_listener *net_listeners(const struct attempt *a);
void net_serve(struct attempt *a); /* a listener came: the gate gets them when all are there */
void net_attempt_over(struct attempt *a); /* none of its processes is left */
void net_forget_attempt(struct attempt *a); /* it is no longer in k->attempts */

/* ---- keeper_spool.c ---- */

void spool_close(struct keeper *k, struct spool *s);
/* Reads what is there now. For a terminal it is also passed on to the interactive client. */
void spool_drain(struct attempt *a, struct spool *s);
MUST_CHECK int spool_watch(struct attempt *a, int which, int fd);
/* The other end of a new relay, for the client. */
MUST_CHECK int spool_relay(struct attempt *a, int *ret_fd);
void spool_relay_end(struct attempt *a);

/* ---- keeper_conn.c ---- */

void conn_accept(struct loop_source *s, uint32_t events);
/* To the connection that is served, if there is one. fds are duplicated. */
void conn_event(struct keeper *k, const struct sandbox_event *e, const int *fds, size_t fd_count);
/* The answer to a layer request of one connection. */
void conn_layer_reply(struct conn *c, uint64_t request, const struct sealer_reply *r,
		      const int *fds, size_t fd_count);

/* ---- keeper_main.c ---- */

/* The paths of the folders that it holds open, as they are now. */
MUST_CHECK int keeper_look_at_folders(struct keeper *k, struct error *err);

void keeper_look_idle(struct keeper *k);
