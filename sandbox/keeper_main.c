/*
 * holdfast-keeper: makes sandboxes, owns their lives, spools their output, records their exits, and
 * outlives the supervisor. Started by sandbox_keeper_start (client.c) with 3 runtime folder, 4
 * state folder, 5 helpers' folder, 6 a pipe for "ok" or why not. argv[1]: milliseconds without
 * attempt and connection after which it goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "base/failpoint.h"
#include "base/io.h"
#include "sandbox/keeper.h"
#include "sandbox/seccomp.h"
#include "sandbox/sys.h"

enum { RUNTIME_FD = 3, STATE_FD = 4, HELPERS_FD = 5, READY_FD = 6, INIT_BYTES_MAX = 64 << 20 };

/* At PROTOCOL_SOCKET, whatever lies there: the lock is held, so it is nobody else's. */
static int listen_there(struct keeper *k, struct error *err)
{
	struct stat st;

	if (unlinkat(k->state_fd, PROTOCOL_SOCKET, 0) < 0 && errno != ENOENT)
		return error_set(err, -errno, "keeper: its old socket: %s", strerror(errno));
	AUTO_FD fd = io_unix_listen_at(k->state_fd, PROTOCOL_SOCKET, SOCK_SEQPACKET, 16);
	int r = fd < 0 ? fd
		: fstatat(k->state_fd, PROTOCOL_SOCKET, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
				fcntl(fd, F_SETFL, O_NONBLOCK) < 0
			? -errno
			: loop_watch(&k->loop, &k->listen_source, fd, EPOLLIN, conn_accept);
	if (r < 0)
		return error_set(err, r, "keeper: its socket: %s", strerror(-r));
	(void)take_fd(&fd);
	k->socket_dev = st.st_dev;
	k->socket_ino = st.st_ino;
	return 0;
}

static bool is_reachable(const struct keeper *k)
{
	struct stat st;

	return fstatat(k->state_fd, PROTOCOL_SOCKET, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_dev == k->socket_dev && st.st_ino == k->socket_ino;
}

/* The next supervisor waits for whoever holds the lock: it must find a socket. */
static void on_look(struct loop_timer *t)
{
	struct keeper *k = container_of(t, struct keeper, look);

	if (!is_reachable(k)) {
		int old = k->listen_source.fd;

		if (old >= 0)
			loop_unwatch(&k->loop, &k->listen_source);
		close_fd(&old);
		(void)!listen_there(k, NULL); /* as long as the disk is full, or for ever where the
						 state directory was removed */
	}
	keeper_look_idle(k);
}

static void on_idle(struct loop_timer *t)
{
	struct keeper *k = container_of(t, struct keeper, idle);

	if (k->attempt_count == 0 || !is_reachable(k))
		k->loop.stop = true;
	else
		keeper_look_idle(k);
}

/* Without a connection: armed with or without attempts. Records that nobody fetched keep a keeper
 * alive as long as somebody can come for them. */
void keeper_look_idle(struct keeper *k)
{
	if (k->draining && k->attempt_count == 0)
		k->loop.stop = true;
	else if (k->conns) {
		loop_timer_off(&k->loop, &k->idle);
		loop_timer_off(&k->loop, &k->look);
		return;
	}
	if (k->idle.due_ns == 0)
		loop_timer_set(&k->loop, &k->idle, loop_now_ns() + k->idle_ms * 1000000ULL,
			       on_idle);
	if (k->look.due_ns == 0)
		loop_timer_set(&k->loop, &k->look,
			       loop_now_ns() + SANDBOX_KEEPER_LOOK_MS * 1000000ULL, on_look);
}

#define ROOT_UID_FILE "root-uid" /* in v1 */

static int folder_path(int fd, char *buf, size_t size, struct error *err)
{
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(name, buf, size - 1);
	if (n < 0 || (size_t)n >= size - 1)
		return error_set(err, n < 0 ? -errno : -ENAMETOOLONG, "keeper: a folder's path: %s",
				 n < 0 ? strerror(errno) : "too long");
	buf[n] = '\0';
	return 0;
}

/* One keeper a state directory. The lock is held as long as it lives: never closed. */
static int lock_folder(struct keeper *k, struct error *err)
{
	char program[PROTOCOL_PROGRAM_SIZE] = "";
	struct stat st;
	int lock =
		openat(k->state_fd, PROTOCOL_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (lock < 0)
		return error_set(err, -errno, "keeper: its lock file: %s", strerror(errno));
	if (flock(lock, LOCK_EX | LOCK_NB) < 0)
		return error_set(err, -EADDRINUSE, "keeper: another one serves this folder");
	if (stat("/proc/self/exe", &st) == 0)
		protocol_program(&st, program);
	/* Empty, as on a full disk: nobody can say that it is old. */
	(void)!ftruncate(lock, 0);
	(void)!io_write_all(lock, program, strlen(program));
	return 0;
}

/* Installed, or in the build's own folder. */
static int open_helper(const char *name, const char *built)
{
	int fd = openat(HELPERS_FD, name, O_RDONLY | O_CLOEXEC);

	return fd >= 0 ? fd : openat(HELPERS_FD, built, O_RDONLY | O_CLOEXEC);
}

/* Init runs from bytes that nobody can change any more: its /proc/self/exe is no file of the host.
 */
static int load_helpers(struct keeper *k, struct error *err)
{
	AUTO_BUFFER init = {0};

	init.max = INIT_BYTES_MAX;
	int r = io_read_file_at(HELPERS_FD, "holdfast-init", INIT_BYTES_MAX, &init);
	if (r == 0)
		r = k->init_fd = io_memfd_sealed("init", buffer_bytes(&init), true);
	if (r < 0)
		return error_set(err, r, "keeper: holdfast-init: %s; reinstall", strerror(-r));
	k->sealer_fd = openat(HELPERS_FD, "holdfast-sealer", O_RDONLY | O_CLOEXEC);
	if (k->sealer_fd < 0)
		return error_set(err, -errno, "keeper: holdfast-sealer: %s; reinstall",
				 strerror(errno));
	k->gate_fd = open_helper("holdfast-gate", "gate/holdfast-gate");
	k->courier_fd = open_helper("holdfast-courier", "gate/holdfast-courier");
	return 0;
}

/* Root of a container is an ordinary user here: it owns no file system and can map no owner. */
static bool is_initial_root(void)
{
	unsigned inside, outside, count;

	AUTO_FILE f = fopen("/proc/self/uid_map", "re");
	return geteuid() == 0 && f && fscanf(f, "%u %u %u", &inside, &outside, &count) == 3 &&
	       inside == 0 && outside == 0 && count == UINT32_MAX;
}

static int read_boot_id(struct keeper *k)
{
	AUTO_FILE f = fopen("/proc/sys/kernel/random/boot_id", "re");

	return f && fgets(k->boot_id, sizeof(k->boot_id), f) ? 0 : -EIO;
}

int keeper_look_at_folders(struct keeper *k, struct error *err)
{
	int r = folder_path(k->layers_fd, k->layers_path, sizeof(k->layers_path), err);

	if (r == 0)
		r = folder_path(k->spool_fd, k->spool_path, sizeof(k->spool_path), err);
	if (r == 0)
		r = folder_path(STATE_FD, k->hidden[0].path, sizeof(k->hidden[0].path), err);
	if (r == 0)
		r = folder_path(k->runtime_fd, k->hidden[1].path, sizeof(k->hidden[1].path), err);
	if (r < 0)
		return r;
	/* v1 lies in the state directory, all of which is hidden */
	char *slash = strrchr(k->hidden[0].path, '/');
	if (slash && slash != k->hidden[0].path && strcmp(slash, "/v1") == 0)
		*slash = '\0';
	return 0;
}

/* Whose the layers of root's runs are is kept beside them: a restored backup has other inodes, and
 * must not find its layers under a stranger's uid. */
static int choose_root_uid(struct keeper *k, uint32_t number, struct error *err)
{
	AUTO_BUFFER text = {0};
	char own[16], *end;
	int r = io_read_file_at(STATE_FD, ROOT_UID_FILE, sizeof(own), &text);

	k->root_uid = KEEPER_ROOT_UID_BASE + number;
	if (r == -ENOENT) {
		int n = snprintf(own, sizeof(own), "%u\n", k->root_uid);
		r = io_write_file_atomic_at(STATE_FD, ROOT_UID_FILE, bytes_of(own, (size_t)n),
					    0600);
		/* On a full disk the next one computes the same again. */
		return r == 0 || r == -ENOSPC || r == -EDQUOT
			       ? 0
			       : error_set(err, r, "keeper: v1/" ROOT_UID_FILE ": %s",
					   strerror(-r));
	}
	if (r == 0)
		r = buffer_append_byte(&text, '\0');
	if (r < 0)
		return error_set(err, r, "keeper: v1/" ROOT_UID_FILE ": %s", strerror(-r));
	unsigned long uid = strtoul((char *)text.data, &end, 10);
	if (strcmp(end, "\n") != 0 || uid < KEEPER_ROOT_UID_BASE ||
	    uid > KEEPER_ROOT_UID_BASE + 0xffff)
		return error_set(err, -EUCLEAN,
				 "keeper: v1/" ROOT_UID_FILE " is damaged; write the owner of the "
				 "folders v1/layers/*/upper of root's runs into it");
	k->root_uid = (uint32_t)uid;
	return 0;
}

static int open_folders(struct keeper *k, struct error *err)
{
	k->runtime_fd = RUNTIME_FD;
	k->state_fd = STATE_FD;
	k->helpers_fd = HELPERS_FD;
	for (int fd = RUNTIME_FD; fd <= READY_FD; fd++)
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return error_set(
				err, -errno,
				"keeper: started without descriptor %d; it is started by holdfast",
				fd);
	int r = layers_open(STATE_FD, &k->layers_fd, &k->spool_fd, err);
	return r == 0 ? keeper_look_at_folders(k, err) : r;
}

static int prepare(struct keeper *k, struct error *err)
{
	struct stat st;
	char tag[17];

	int r = open_folders(k, err);
	if (r == 0 && fstat(STATE_FD, &st) < 0)
		r = error_set(err, -errno, "keeper: the state folder: %s", strerror(errno));
	if (r == 0)
		r = lock_folder(k, err);
	if (r == 0)
		r = choose_root_uid(k, (uint32_t)(st.st_ino & 0xffff), err);
	if (r == 0)
		r = load_helpers(k, err);
	if (r < 0)
		return r;
	layers_ahead_sweep(k->layers_fd);
	k->self_pidfd = sys_pidfd_open(getpid());
	k->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (k->self_pidfd < 0 || k->null_fd < 0 || read_boot_id(k) < 0)
		return error_set(err, -ENOSYS,
				 "keeper: this kernel lacks pidfds, or /dev or /proc is missing");
	k->privileged = is_initial_root();
	snprintf(tag, sizeof(tag), "k%x", KEEPER_ROOT_UID_BASE + (uint32_t)(st.st_ino & 0xffff));
	r = limits_host_open(tag, &k->limits, err);
	if (r == 0)
		r = seccomp_program(SECCOMP_NOTIFY, &k->filters[0], err);
	if (r == 0)
		r = seccomp_program(SECCOMP_NOTIFY | SECCOMP_DENY_SETID, &k->filters[1], err);
	if (r < 0)
		return r;
	k->listen_source.fd = -1;
	r = loop_open(&k->loop);
	return r < 0 ? error_set(err, r, "keeper: %s", strerror(-r)) : listen_there(k, err);
}

/* The other half is for all else: two outputs, a layer, a terminal a step. */
static void raise_descriptor_limit(struct keeper *k)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
		k->listeners_max = (size_t)(r.rlim_max / 2);
	}
}

static void say_ready(const struct error *err)
{
	char text[ERROR_MSG_MAX + 16] = "ok";

	if (err)
		snprintf(text, sizeof(text), "%d %s", err->code, err->msg);
	(void)!io_write_all(READY_FD, text, strlen(text));
	close(READY_FD);
}

int main(int argc, char **argv)
{
	struct error err = {0};

	if (argc != 2)
		return EXIT_STATUS_USAGE;
	pid_t pid = fork();
	if (pid != 0)
		return pid < 0 ? 1 : 0; /* the starter waits for this one only */
	failpoint_init(getenv("HOLDFAST_FAILPOINT"));
	/* helpers are reaped by the kernel; sandboxes are not its children by signal, and are
	 * waited for by pidfd */
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	umask(0077);
	if (chdir("/") < 0)
		return 1;
	prctl(PR_SET_DUMPABLE, 0);
	/* static: at the end of a short life what it holds is not given back, and is no leak */
	static struct keeper *k;
	k = calloc(1, sizeof(*k));
	if (!k)
		return 1;
	raise_descriptor_limit(k);
	k->idle_ms = (uint32_t)strtoul(argv[1], NULL, 10);
	int r = prepare(k, &err);
	say_ready(r < 0 ? &err : NULL);
	if (r < 0)
		return 1;
	(void)failpoint_hit("keeper.ready");
	keeper_look_idle(k);
	r = loop_run(&k->loop);
	(void)unlinkat(k->state_fd, PROTOCOL_SOCKET, 0);
	while (k->nets)
		net_free(k->nets);
	while (k->templates)
		template_drop(k, k->templates);
	for (struct userns *u = k->usernses; u; u = u->next)
		arm_close(u);
	limits_host_free(k->limits);
	return r < 0 ? 1 : 0;
}
