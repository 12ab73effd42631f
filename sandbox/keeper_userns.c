/*
 * User namespaces: one for each uid and gid that steps run as, held open by a pool process, with
 * network namespaces ready in it and a sealer when one is needed. They live as long as the keeper.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "base/io.h"
#include "sandbox/keeper.h"

/* ---- making one ---- */

static int write_proc(pid_t pid, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : io_write_all(fd, text, strlen(text));
}

static int write_maps(struct keeper *k, const struct userns *u, pid_t pid)
{
	char uid_map[64], gid_map[64];

	snprintf(uid_map, sizeof(uid_map), "%u %u 1", u->in_uid, u->out_uid);
	snprintf(gid_map, sizeof(gid_map), "%u %u 1", u->in_gid, u->out_gid);
	int err = write_proc(pid, "uid_map", uid_map);
	if (err == 0 && !k->privileged)
		err = write_proc(pid, "setgroups", "deny");
	return err < 0 ? err : write_proc(pid, "gid_map", gid_map);
}

static int await_ready(int sock, struct error *err)
{
	struct init_report r;
	int fds[IO_FDS_MAX];
	size_t fd_count;

	int e = proc_receive(sock, &r, fds, &fd_count);
	if (e == 0 && r.type == INIT_REPORT_READY)
		return 0;
	if (e == 0)
		e = r.type == INIT_REPORT_FAILED ? r.error : -EPROTO;
	return error_set_exit(
		err, e, EXIT_STATUS_SANDBOX,
		"sandbox: no user namespace: %s; run `holdfast doctor` for the remedy",
		strerror(-e));
}

/* After its maps are written: the pool becomes the step's user, and is ready. */
static int pool_go(struct userns *u, struct error *err)
{
	struct init_message go = {.type = INIT_USERNS, .uid = u->in_uid, .gid = u->in_gid};

	int r = proc_send(u->pool, &go, bytes_of(NULL, 0), NULL, 0);
	if (r < 0)
		return error_set(err, r, "sandbox: the holder of the user namespace went away");
	return await_ready(u->pool, err);
}

static int userns_build(struct keeper *k, struct userns *u, struct error *err)
{
	char path[64];
	pid_t pid;

	int r = pool_start(k, -1, &u->pool, &pid, err);
	if (r == 0)
		r = await_ready(u->pool, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	u->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (u->fd < 0)
		return error_set_exit(err, -errno, EXIT_STATUS_SANDBOX, "sandbox: %s: %s", path,
				      strerror(errno));
	r = write_maps(k, u, pid);
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_SANDBOX,
				      "sandbox: the user namespace's maps: %s; run `holdfast "
				      "doctor` for the remedy",
				      strerror(-r));
	return pool_go(u, err);
}

static void userns_free(struct userns *u)
{
	if (!u)
		return;
	for (size_t i = 0; i < u->netns_count; i++)
		close(u->netns[i]);
	loop_unwatch(&u->keeper->loop, &u->pool_source);
	loop_unwatch(&u->keeper->loop, &u->sealer_source);
	close_fd(&u->fd);
	close_fd(&u->pool);
	close_fd(&u->sealer);
	free(u);
}
DEFINE_GUARD(struct userns *, userns_free)

/* ---- network namespaces ---- */

/* One report of the pool. */
static int receive_netns(struct userns *u)
{
	struct init_report r;
	int fds[IO_FDS_MAX];
	size_t fd_count;

	int err = proc_receive(u->pool, &r, fds, &fd_count);
	if (err < 0)
		return err;
	if (u->netns_asked > 0)
		u->netns_asked--;
	if (r.type == INIT_REPORT_NETNS && fd_count == 1 && u->netns_count < KEEPER_NETNS_POOL) {
		u->netns[u->netns_count++] = fds[0];
		return 0;
	}
	for (size_t i = 0; i < fd_count; i++)
		close(fds[i]);
	return r.type == INIT_REPORT_FAILED ? r.error : -EPROTO;
}

static void on_pool(struct loop_source *s, uint32_t events)
{
	struct userns *u = container_of(s, struct userns, pool_source);

	(void)events;
	int err = receive_netns(u);
	if (err == -ECONNRESET)
		u->netns_asked = 0;
	if (err < 0 && err != -EAGAIN)
		loop_unwatch(&u->keeper->loop, s); /* the next taker asks again, and is told why */
}

static void refill(struct userns *u)
{
	struct init_message m = {.type = INIT_NETNS};

	while (u->netns_count + u->netns_asked < KEEPER_NETNS_POOL) {
		if (proc_send(u->pool, &m, bytes_of(NULL, 0), NULL, 0) < 0)
			return;
		u->netns_asked++;
	}
}

static int await_netns(struct userns *u)
{
	refill(u);
	while (u->netns_count == 0) {
		int r = u->netns_asked > 0 ? receive_netns(u) : -ECONNRESET;
		if (r < 0)
			return r;
	}
	return 0;
}

/* The user namespace lives without its holder: its descriptor is ours. */
static int pool_restart(struct userns *u, struct error *err)
{
	pid_t pid;

	loop_unwatch(&u->keeper->loop, &u->pool_source);
	close_fd(&u->pool);
	u->netns_asked = 0;
	int r = pool_start(u->keeper, u->fd, &u->pool, &pid, err);
	if (r == 0)
		r = await_ready(u->pool, err);
	if (r == 0)
		r = pool_go(u, err);
	if (r < 0)
		return r;
	r = loop_watch(&u->keeper->loop, &u->pool_source, u->pool, EPOLLIN, on_pool);
	return r < 0 ? error_set(err, r, "keeper: %s", strerror(-r)) : 0;
}

int userns_take_netns(struct userns *u, int *ret, struct error *err)
{
	int r = await_netns(u);
	if (r == -ECONNRESET || r == -EAGAIN) { /* it ended, or does not answer */
		r = pool_restart(u, err);
		if (r < 0)
			return r;
		r = await_netns(u);
	}
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_SANDBOX,
				      "sandbox: no network namespace: %s", strerror(-r));
	*ret = u->netns[0];
	u->netns_count--;
	memmove(u->netns, u->netns + 1, u->netns_count * sizeof(int));
	return 0;
}

static int set_ids(struct keeper *k, struct userns *u, struct error *err)
{
	u->in_uid = u->out_uid = u->uid;
	u->in_gid = u->out_gid = u->gid;
	if (!k->privileged && (u->uid != geteuid() || u->gid != getegid()))
		return error_set(err, -EPERM,
				 "sandbox: the workspace belongs to uid %u gid %u: only its owner "
				 "or root can run there",
				 u->uid, u->gid);
	if (k->privileged && u->uid == 0)
		u->out_uid = k->root_uid;
	if (k->privileged && u->gid == 0)
		u->out_gid = k->root_uid;
	return 0;
}

int userns_get(struct keeper *k, uid_t uid, gid_t gid, struct userns **ret, struct error *err)
{
	for (struct userns *u = k->usernses; u; u = u->next) {
		if (u->uid == uid && u->gid == gid) {
			*ret = u;
			return 0;
		}
	}
	AUTO(userns_free) struct userns *u = calloc(1, sizeof(*u));
	if (!u)
		return error_nomem(err);
	u->keeper = k;
	u->uid = uid;
	u->gid = gid;
	u->arms = -1;
	u->fd = u->pool = u->sealer = u->pool_source.fd = u->sealer_source.fd = -1;
	int r = set_ids(k, u, err);
	if (r == 0)
		r = userns_build(k, u, err);
	if (r < 0)
		return r;
	r = loop_watch(&k->loop, &u->pool_source, u->pool, EPOLLIN, on_pool);
	if (r < 0)
		return error_set(err, r, "keeper: %s", strerror(-r));
	refill(u);
	*ret = u;
	u->next = k->usernses;
	k->usernses = take_ptr(u);
	return 0;
}

/* ---- layer requests ---- */

void job_free(struct job *j)
{
	if (!j)
		return;
	close_fd(&j->base_fd);
	buffer_free(&j->path);
	free(j);
}

static void job_remove(struct keeper *k, struct job *j)
{
	for (struct job **p = &k->jobs; *p; p = &(*p)->next) {
		if (*p == j) {
			*p = j->next;
			k->job_count--;
			break;
		}
	}
	job_free(j);
}

static void job_answer(struct keeper *k, struct job *j, const struct sealer_reply *r,
		       const int *fds, size_t fd_count)
{
	if (j->conn)
		conn_layer_reply(j->conn, j->request, r, fds, fd_count);
	else if (j->usage_of)
		attempt_usage(j->usage_of, r);
	job_remove(k, j);
}

static void job_fail(struct keeper *k, struct job *j, int result, const struct error *err)
{
	struct sealer_reply r = {.result = result,
				 .exit_status = err->exit_status,
				 .message = bytes_str(err->msg)};

	job_answer(k, j, &r, NULL, 0);
}

static void sealer_lost(struct userns *u)
{
	struct keeper *k = u->keeper;
	struct error err = {0};

	(void)error_set(&err, -EIO, "sealer: it ended before it answered; ask again");
	loop_unwatch(&k->loop, &u->sealer_source);
	close_fd(&u->sealer);
	for (struct job *j = k->jobs, *next; j; j = next) {
		next = j->next;
		if (j->userns == u && j->sent)
			job_fail(k, j, j->usage_of ? -ECONNRESET : -EIO, &err);
	}
	/* What waited for room in its socket goes to the next one. */
	userns_retry_jobs(k);
}

static void on_sealer(struct loop_source *s, uint32_t events)
{
	struct userns *u = container_of(s, struct userns, sealer_source);
	struct keeper *k = u->keeper;
	uint8_t data[SEALER_MESSAGE_MAX];
	struct sealer_reply r;
	struct error err = {0};
	int fds[IO_FDS_MAX];
	size_t fd_count;

	(void)events;
	ssize_t n = io_recv_fds(u->sealer, data, sizeof(data), fds, &fd_count);
	if (n == -EAGAIN)
		return;
	if (n <= 0 || sealer_reply_decode(bytes_of(data, (size_t)n), &r, &err) < 0) {
		for (size_t i = 0; i < fd_count; i++)
			close(fds[i]);
		sealer_lost(u);
		return;
	}
	struct job *j = k->jobs;
	while (j && j->id != r.id)
		j = j->next;
	if (j && j->q.op == SEALER_REMOVE && r.result == 0) {
		r.result = layers_drop(k->layers_fd, j->q.names[0], &err);
		r.message = bytes_str(err.msg);
	}
	struct sealer_request q = {0};
	if (j) {
		q = j->q;
		job_answer(k, j, &r, fds, fd_count);
		arm_look(k, &q, &r);
	}
	for (size_t i = 0; i < fd_count; i++)
		close(fds[i]);
	userns_retry_jobs(k);
}

/* The child's way into the namespace is ours: its parent namespace's owner, so all capabilities are
 * to be had there. */
static int sealer_child(struct userns *u, int sock)
{
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	if (u->keeper->privileged && setgroups(0, NULL) < 0)
		return -errno;
	if (setns(u->fd, CLONE_NEWUSER) < 0 || setresgid(u->in_gid, u->in_gid, u->in_gid) < 0 ||
	    setresuid(u->in_uid, u->in_uid, u->in_uid) < 0)
		return -errno;
	return sealer_exec(u->keeper->sealer_fd, sock);
}

static int sealer_start(struct userns *u, struct error *err)
{
	int pair[2];

	if (u->sealer >= 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, -errno, "keeper: no socket for the sealer: %s",
				 strerror(errno));
	AUTO_FD ours = pair[0];
	AUTO_FD theirs = pair[1];
	pid_t pid = fork();
	if (pid < 0)
		return error_set(err, -errno, "keeper: cannot start the sealer: %s",
				 strerror(errno));
	if (pid == 0)
		_exit(sealer_child(u, theirs) < 0 ? 1 : 0);
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return error_set(err, -errno, "keeper: %s", strerror(errno));
	int r = loop_watch(&u->keeper->loop, &u->sealer_source, ours, EPOLLIN, on_sealer);
	if (r < 0)
		return error_set(err, r, "keeper: %s", strerror(-r));
	u->sealer = take_fd(&ours);
	return 0;
}

/* A squashed stack is one layer with the folder modes of its lowest. */
static int make_squash_target(struct keeper *k, const struct job *j, struct error *err)
{
	char path[LAYERS_NAME_SIZE + 8];
	struct stat st;

	if (j->q.name_count == 0)
		return error_set(err, -EINVAL, "keeper: nothing to squash");
	snprintf(path, sizeof(path), "%s/" LAYERS_UPPER, j->q.names[0]);
	if (fstatat(k->layers_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, -errno, "layer %s: %s", j->q.names[0], strerror(errno));
	return layers_create(k->layers_fd, j->q.into, j->userns->out_uid, j->userns->out_gid,
			     st.st_mode & 07777, err);
}

/* 0 sent, 1 not now, negative errno. */
static int job_send(struct keeper *k, struct job *j, struct error *err)
{
	AUTO_BUFFER data = {0};
	AUTO_FD base = -1;
	int fds[2] = {k->layers_fd, -1};
	size_t fd_count = 1;

	int r = sealer_start(j->userns, err);
	if (r == 0 && j->q.op == SEALER_SQUASH)
		r = make_squash_target(k, j, err);
	if (r < 0)
		return r;
	if (j->q.op == SEALER_SEAL) {
		base = template_open_base(j->userns, j->base_fd, err);
		if (base < 0)
			return base;
		fds[fd_count++] = base;
	}
	j->q.id = j->id;
	r = sealer_request_encode(&j->q, &data);
	if (r < 0)
		return error_set(err, r, "keeper: the layer request cannot be passed on: %s",
				 strerror(-r));
	ssize_t n = io_send_fds(j->userns->sealer, data.data, data.len, fds, fd_count);
	if (n == -EAGAIN)
		return j->q.op == SEALER_SQUASH ? -EAGAIN : 1;
	return n < 0 ? error_set(err, (int)n, "sealer: %s", strerror((int)-n)) : 0;
}

void userns_retry_jobs(struct keeper *k)
{
	for (struct job *j = k->jobs, *next; j; j = next) {
		struct error err = {0};
		next = j->next;
		if (j->sent || (j->q.op == SEALER_SEAL && attempt_uses_layer(k, j->q.names[0])))
			continue;
		int r = job_send(k, j, &err);
		if (r == 0)
			j->sent = true;
		else if (r < 0)
			job_fail(k, j, r, &err);
	}
}

void userns_submit(struct keeper *k, struct job *job)
{
	job->id = ++k->next_job;
	struct job **p = &k->jobs;
	while (*p)
		p = &(*p)->next;
	*p = job;
	k->job_count++;
	userns_retry_jobs(k);
}

void userns_forget_conn(struct keeper *k, struct conn *c)
{
	for (struct job *j = k->jobs, *next; j; j = next) {
		next = j->next;
		if (j->conn != c)
			continue;
		j->conn = NULL;
		if (!j->sent)
			job_remove(k, j);
	}
}

void userns_forget_attempt(struct keeper *k, struct attempt *a)
{
	for (struct job *j = k->jobs; j; j = j->next)
		if (j->usage_of == a)
			j->usage_of = NULL;
}
