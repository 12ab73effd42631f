#pragma once
/*
 * The door of the room: what a sandbox is made of, and the keeper's client side, used inside the
 * supervisor.
 *
 * This room knows nothing of policies, steps or runs. The supervisor translates a policy into a
 * `struct sandbox_spec`: mounts, workspace, limits, program. The keeper turns a spec into a
 * sandbox, owns its life, spools its output and records how it ended until it is told to forget. An
 * attempt is named by 16 bytes that the supervisor chose; every request is idempotent by that name
 * and fenced by the epoch (protocol.h).
 *
 * The client never blocks but in sandbox_client_open (bounded), starts no thread, and owns one
 * descriptor to poll. A lost connection loses nothing: the keeper goes on, and the next client
 * adopts what it finds.
 */
#include <signal.h>
#include <sys/types.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/guard.h"
#include "sandbox/action.h"
#include "sandbox/doctor.h"
#include "sandbox/gate/scan.h"
#include "sandbox/gate/table.h"
#include "sandbox/layers.h"
#include "sandbox/manifest.h"
#include "sandbox/report.h"
#include "sandbox/sealer.h"

enum {
	SANDBOX_ATTEMPT_SIZE = 16,
	SANDBOX_MOUNTS_MAX = 256,
	SANDBOX_ARGS_MAX = 8192, /* argv, and likewise env */
	SANDBOX_SPEC_BYTES_MAX = 4 << 20, /* of one encoded spec */
	SANDBOX_PATH_MAX = 4095,
	SANDBOX_ETC_FILES_MAX = 32,
	SANDBOX_ETC_BYTES_MAX = 2 << 20, /* all of them; a CA bundle is some 220 KiB */
	SANDBOX_LISTENERS_MAX = 96,
	SANDBOX_HOSTNAME_MAX = 63,
	SANDBOX_NET_SIZE = 16,
	SANDBOX_NETS_MAX = 256, /* of one keeper */
	SANDBOX_NET_TABLE_MAX = 128 * 1024, /* bytes of an encoded name table (gate/table.h) */
	SANDBOX_NET_CA_MAX = 16 * 1024, /* bytes of the certificate and its key */
	SANDBOX_DENIED_MAX =
		32, /* different calls named in one report; further ones are counted together */
	SANDBOX_OPEN_TIMEOUT_MS = 10000,
};

struct sandbox_attempt_id {
	uint8_t b[SANDBOX_ATTEMPT_SIZE];
};

/* ---- what one attempt gets ---- */

/* Numbers are part of the protocol. The deepest target wins; order in the array does not matter. */
enum sandbox_mount_kind {
	SANDBOX_MOUNT_SYSTEM =
		1, /* source, read-only bind with its submounts: only for trees that no user can
		    * write. A source that is a symlink becomes the same symlink. /etc is seen
		    * through an overlay with the keeper's own passwd, group, hosts, … on top. */
	SANDBOX_MOUNT_VIEW =
		2, /* source, read-only: a folder as a lower-only overlay (connect() and FIFOs stop
		    * at it; its submounts are not seen), a regular file as a read-only bind */
	SANDBOX_MOUNT_RW = 3, /* source, read-write bind: outside the transaction */
	SANDBOX_MOUNT_TMPFS = 4, /* empty, writable, this attempt's own */
	SANDBOX_MOUNT_PROTECT =
		5, /* what is at the target already (usually in the workspace), made read-only */
	SANDBOX_MOUNT_MASK_DIR = 6, /* an empty unreadable folder over the target */
	SANDBOX_MOUNT_MASK_FILE = 7, /* an empty unreadable file over the target */
};

struct sandbox_mount {
	enum sandbox_mount_kind kind;
	const char *source; /* absolute path in the keeper's mount namespace; NULL for the kinds
			       without */
	const char *target; /* absolute path inside, without "." or ".." */
	bool exec; /* programs in it can be executed */
	bool optional; /* a missing source (or, for PROTECT and MASK_*, target) is not an error. A
			* target of those three that is missing or reached only through a symlink is
			* always skipped: landing decides again */
};

/* Mounts of programs may stand in this folder of /run/holdfast: all else there is the keeper's. */
#define SANDBOX_BIN "/run/holdfast/bin"

enum sandbox_workspace_mode {
	SANDBOX_WORKSPACE_NONE = 0,
	SANDBOX_WORKSPACE_STAGED = 1, /* overlay: base, layers, a fresh upper */
	SANDBOX_WORKSPACE_READONLY = 2, /* the same without an upper */
};

struct sandbox_workspace {
	enum sandbox_workspace_mode mode;
	const char *target; /* where it is inside: usually its real path */
	int base_fd; /* the user's folder, or its copy v1/pins/NAME: O_PATH or O_RDONLY;
		      * borrowed; -1 with mode NONE */
	const char *const *layers; /* sealed layers, bottom first (layers.h); borrowed */
	size_t layer_count;
	const char *upper; /* STAGED: the new layer's name; the keeper makes it (layers_create) */
};

/* 0 = no limit. See limits.h for the forms that they take. */
struct sandbox_limits {
	uint64_t wall_ms;
	uint64_t cpu_ms;
	uint64_t memory_bytes;
	uint64_t disk_bytes; /* blocks of the upper folder; also RLIMIT_FSIZE and the size of each
				tmpfs */
	uint64_t output_bytes; /* of stdout and stderr each; the rest is counted, not kept */
	uint32_t pids;
	uint32_t files; /* inodes of the upper folder and of each tmpfs */
};

/* What may be missing or weaker on this machine without the attempt being refused (a policy's
 * allow_weaker). */
enum sandbox_weaker {
	SANDBOX_WEAKER_MEMORY = 1 << 0,
	SANDBOX_WEAKER_CPU = 1 << 1,
	SANDBOX_WEAKER_LANDLOCK = 1 << 2, /* pids have no weaker form: RLIMIT_NPROC in a namespace
					     of its own holds anywhere */
};

/* Addresses of the sandbox's own `lo` beside 127.0.0.0/8 and ::1; every one of them is local. */
#define SANDBOX_NET_V4 "198.18.0.0/15"
#define SANDBOX_NET_V6 "fd48:6f6c:6466::/48"

/* A socket that listens INSIDE the sandbox's network namespace, on its `lo`, bound before the
 * command starts; the supervisor gets the descriptors with SANDBOX_EVENT_STARTED, in this order. */
struct sandbox_listener {
	bool v6;
	uint8_t address[16]; /* network order; the first 4 bytes for IPv4 */
	uint16_t port; /* host order */
	bool datagram; /* UDP: bound, not listening */
};

/*
 * The network of a run: its gate and its courier (gate/control.h), the names that its sandboxes can
 * resolve, the authority that they trust. Made by NET_OPEN, lent to every attempt whose spec names
 * it, and gone after NET_CLOSE. It does not outlive the keeper.
 */
struct sandbox_net_id {
	uint8_t b[SANDBOX_NET_SIZE]; /* the run's id; all zero = none */
};

struct sandbox_net {
	struct sandbox_net_id run;
	struct bytes table; /* table_encode() */
	struct bytes ca; /* PEM: certificate, then its key */
};

static inline bool sandbox_net_none(const struct sandbox_net_id *n)
{
	static const struct sandbox_net_id none;

	return memcmp(n, &none, sizeof(none)) == 0;
}

/* A synthetic file below /etc: "resolv.conf", "ssl/certs/ca-certificates.crt". Replaces the
 * keeper's own of that name. */
struct sandbox_etc_file {
	const char *name;
	struct bytes content;
};

/* Walls that a test takes away to see that the others hold. Refused unless built with
 * -Dfailpoints=true. */
enum sandbox_wall {
	SANDBOX_WALL_LANDLOCK = 1 << 0,
	SANDBOX_WALL_SECCOMP = 1 << 1,
	SANDBOX_WALL_NETWORK = 1 << 2, /* the host's network namespace */
	SANDBOX_WALL_PIDS = 1 << 3, /* rlimits and limits.h */
};

struct sandbox_spec {
	struct sandbox_attempt_id attempt;
	const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH of env inside,
				    where it has no slash */
	const char *const *env; /* NULL-terminated, NAME=value, the whole environment */
	const char *cwd; /* inside */
	const char *home; /* real path of $HOME: an empty tmpfs of this attempt, or NULL */
	const struct sandbox_mount *mounts;
	size_t mount_count;
	struct sandbox_workspace workspace;
	int stdin_fd; /* borrowed; -1 = /dev/null; unused with a pty */
	const char *
		in_name; /* folder below spool/, seen read-only at /run/holdfast/in; NULL = an empty
			  * one. In root's spool it must be readable by everybody, like all in it */
	const struct sandbox_etc_file *etc_files;
	size_t etc_file_count;
	const struct sandbox_listener *listeners;
	size_t listener_count;
	struct sandbox_net_id net; /* zero = nothing but lo. Else one that is open; the keeper makes
				    * the listeners of its table and serves them: no others */
	struct sandbox_limits limits;
	uint32_t allow_weaker; /* enum sandbox_weaker */
	bool pty;
	uint16_t pty_rows, pty_cols;
	uid_t uid; /* owner of the workspace: who the command is inside (and outside, but for 0) */
	gid_t gid;
	const char *user_name; /* in the synthetic passwd; NULL = "user" */
	const char *hostname; /* NULL = "holdfast" */
	uint32_t without_walls; /* enum sandbox_wall; tests */
};

/* ---- how it went ---- */

/* Numbers are part of the protocol. */
enum sandbox_attempt_state {
	SANDBOX_ATTEMPT_STARTING = 1, /* accepted; no process of it has run the command yet */
	SANDBOX_ATTEMPT_LIVE = 2, /* the command was executed */
	SANDBOX_ATTEMPT_FROZEN = 3,
	SANDBOX_ATTEMPT_EXITED = 4, /* the exit is known; other processes of it may be dying */
	SANDBOX_ATTEMPT_GONE =
		5, /* none of its processes is left: its layer and out folder are final */
	SANDBOX_ATTEMPT_NOT_STARTED = 6,
};

enum sandbox_exit_why {
	SANDBOX_WHY_EXITED = 1, /* by itself: status or signal */
	SANDBOX_WHY_TIMED_OUT = 2, /* limits.wall_ms */
	SANDBOX_WHY_OOM = 3, /* limits.memory_bytes */
	SANDBOX_WHY_KILLED = 4, /* sandbox_client_kill */
	SANDBOX_WHY_LIMIT = 5, /* another limit, named in .limit */
	SANDBOX_WHY_LOST = 6, /* pid 1 died without a report (killed from outside) */
};

/* Why an attempt could not start: what the supervisor may do about it differs. */
enum sandbox_not_started_why {
	SANDBOX_NOT_STARTED_EXEC = 1, /* the program: missing, not executable (status 126 or 127 at
					 the command line) */
	SANDBOX_NOT_STARTED_SPEC =
		2, /* a source, target or name of the spec; trying again gives the same */
	SANDBOX_NOT_STARTED_MACHINE =
		3, /* this machine cannot: namespaces, limits, file systems (exit status 8) */
	SANDBOX_NOT_STARTED_INFRA =
		4, /* resources: out of memory, processes, disk; trying again may help */
	SANDBOX_NOT_STARTED_KILLED = 5, /* sandbox_client_kill came first */
	SANDBOX_NOT_STARTED_LAYERS = 6, /* the workspace on its layers cannot be mounted: no fault
					   of the step */
};

struct sandbox_usage {
	uint64_t wall_us;
	uint64_t cpu_us; /* user and system, all reaped processes */
	uint64_t memory_peak_bytes; /* of the limit's form where there is one, else the largest
				       process */
};

struct sandbox_denied_call {
	int32_t number; /* of the native system call table */
	uint32_t count;
};

enum { SANDBOX_CALL_NAME_SIZE = 64 };
/* "mount" into buf, which is returned; "" for a number that libseccomp of this machine does not
 * know. */
const char *sandbox_call_name(int32_t number, char *buf, size_t size);

struct sandbox_exit {
	enum sandbox_exit_why why;
	int status; /* exit status, or -1 */
	int signal; /* that ended it, or 0 */
	bool core; /* never written; said by the kernel */
	char limit[16]; /* WHY_LIMIT, WHY_OOM: "cpu", "disk", "files", "memory", "pids" */
	struct sandbox_usage usage;
	uint64_t stdout_bytes, stderr_bytes; /* as the command wrote them */
	uint64_t stdout_dropped,
		stderr_dropped; /* of those, past limits.output_bytes and not in the spool */
	int spool_error; /* negative errno: the spool could not be written; the dropped counts say
			    how much */
	struct sandbox_denied_call denied[SANDBOX_DENIED_MAX];
	size_t denied_count;
	uint32_t denied_more; /* calls past the table */
	uint32_t
		weaker; /* enum sandbox_weaker: what it asked for and had in the weaker form only */
};

struct sandbox_not_started {
	enum sandbox_not_started_why why;
	int error; /* negative errno */
	char stage[32]; /* of init.c's numbered stages, or of the keeper */
	char text[ERROR_MSG_MAX];
};

enum sandbox_event_type {
	SANDBOX_EVENT_STARTED = 1, /* the command was executed; fds: the listeners */
	SANDBOX_EVENT_NOT_STARTED = 2, /* final */
	SANDBOX_EVENT_EXITED = 3, /* as soon as it is known; output is whole in the spool */
	SANDBOX_EVENT_GONE = 4, /* layer and out folder are final; seal now. fds: the out folder,
				 * what was seen at /run/holdfast/out, a tmpfs that lives until
				 * FORGET: no path of the state directory shows in the sandbox's
				 * mountinfo. Untrusted: walk it by io_open_beneath */
	SANDBOX_EVENT_OUTPUT = 5, /* followed attempts: sizes of the spool files now; at most one
				     per SANDBOX_OUTPUT_EVERY_MS */
	SANDBOX_EVENT_REPLY =
		6, /* answer to the request of that number: result, and what it asked for */
	SANDBOX_EVENT_LAYER = 7, /* answer to a layer request */
	SANDBOX_EVENT_CONNECTION_LOST = 8, /* last event of a client: free it, open another */
};

enum { SANDBOX_OUTPUT_EVERY_MS = 50, SANDBOX_FDS_MAX = 128 };

struct sandbox_event {
	enum sandbox_event_type type;
	struct sandbox_attempt_id attempt;
	uint64_t request; /* REPLY, LAYER: what the call returned */
	int *fds; /* closed after the callback unless taken (take_fd) */
	size_t fd_count;
	union {
		struct sandbox_exit exit;
		struct sandbox_not_started not_started;
		struct {
			uint64_t stdout_bytes, stderr_bytes;
		} output;
		struct {
			int result; /* 0 or a negative errno */
			struct error error;
		} reply;
		struct sealer_reply layer; /* fds: of OPEN and VIEW */
	};
};

/* ---- the client ---- */

struct sandbox_client; /* opaque, owned; one connection */

/* Must not free the client. */
typedef void sandbox_event_fn(void *arg, const struct sandbox_event *event);

struct sandbox_keeper_options {
	int helpers_fd; /* folder with holdfast-keeper, holdfast-init, holdfast-sealer (O_PATH will
			   do) */
	int runtime_fd; /* the supervisor's runtime folder: no sandbox sees it */
	int state_fd; /* state directory's v1: layers/ and spool/ are made there, and the socket
		       * `keeper` with its lock: a runtime folder goes at the user's last logout */
	uint32_t idle_ms; /* with no attempt and no connection for so long it goes; 0 =
			     SANDBOX_KEEPER_IDLE_MS */
};

enum {
	SANDBOX_KEEPER_IDLE_MS = 60 * 1000,
	SANDBOX_KEEPER_LOOK_MS = 250, /* between two looks, without a connection, whether its socket
				       * is there */
};

/* Starts a keeper by posix_spawn, in a session of its own, and returns when it listens.
 * -EADDRINUSE: one lives there. The process is a child only until it detaches: there is nothing to
 * wait for. */
MUST_CHECK int sandbox_keeper_start(const struct sandbox_keeper_options *options,
				    struct error *err);

struct sandbox_found {
	struct sandbox_attempt_id attempt;
	enum sandbox_attempt_state state;
};

struct sandbox_hello {
	uint64_t keeper_epoch; /* before this hello */
	pid_t keeper_pid;
	char boot_id[37];
	struct sandbox_found *found; /* every attempt not forgotten; owned by the client */
	size_t found_count;
	struct sandbox_net_id *nets; /* every one that is open; owned by the client */
	size_t net_count;
};

/* Connects, says hello with epoch, waits for the answer (at most SANDBOX_OPEN_TIMEOUT_MS). state_fd:
 * as in sandbox_keeper_options. runtime_fd, borrowed: the folder that sandboxes started from now on
 * do not see, in place of the one before; -1 = it stays. A keeper that serves a newer epoch refuses: -ESTALE. The newer one takes over: the keeper ends the older
 * one's connection. For attempts that are EXITED, GONE or NOT_STARTED their events follow again.
 * -ENOENT or -ECONNREFUSED: nobody listens (sandbox_keeper_lives). epoch 0 only looks: it takes
 * nothing over, and every other request is refused. */
MUST_CHECK int sandbox_client_open(int state_fd, int runtime_fd, uint64_t epoch,
				   sandbox_event_fn *fn, void *arg, struct sandbox_client **ret,
				   struct error *err);
/* 1 a keeper of this state directory lives: if nobody listens it starts, it ends, or its socket was
 * removed and is made again within SANDBOX_KEEPER_LOOK_MS; 0 none does; negative errno. */
MUST_CHECK int sandbox_keeper_lives(int state_fd);
/* Whether the one that lives runs another program than the helpers' folder has now: an upgrade came
 * since. False where that cannot be told. */
bool sandbox_keeper_is_old(int state_fd, int helpers_fd);
void sandbox_client_free(struct sandbox_client *c); /* accepts NULL */
DEFINE_GUARD(struct sandbox_client *, sandbox_client_free)
const struct sandbox_hello *sandbox_client_hello(const struct sandbox_client *c);
int sandbox_client_fd(const struct sandbox_client *c);
/* POLLIN, and POLLOUT while something is queued. Ask again after every call. */
short sandbox_client_poll_events(const struct sandbox_client *c);
/* Sends what is queued, reads what has come, calls fn for each. Never blocks. Negative errno: the
 * connection is lost (fn was told). */
MUST_CHECK int sandbox_client_dispatch(struct sandbox_client *c);

/* Requests. Each returns 0 and the request's number (ret may be NULL), or a negative errno if it
 * could not be sent or queued. The spec is copied. START of a known attempt starts nothing and
 * tells its state again. The answer of every request but START is a REPLY or LAYER event; START's
 * are STARTED or NOT_STARTED. */
MUST_CHECK int sandbox_client_start(struct sandbox_client *c, const struct sandbox_spec *spec,
				    uint64_t *ret, struct error *err);
MUST_CHECK int sandbox_client_signal(struct sandbox_client *c, const struct sandbox_attempt_id *a,
				     int sig, uint64_t *ret);
/* Kills all of it; ends in EXITED{KILLED} and GONE (or NOT_STARTED{KILLED}). Killing what ended is
 * no error. */
MUST_CHECK int sandbox_client_kill(struct sandbox_client *c, const struct sandbox_attempt_id *a,
				   uint64_t *ret);
/* Reply -ENOTSUP: no freezer here, and nothing was frozen. */
MUST_CHECK int sandbox_client_freeze(struct sandbox_client *c, const struct sandbox_attempt_id *a,
				     bool frozen, uint64_t *ret);
MUST_CHECK int sandbox_client_resize(struct sandbox_client *c, const struct sandbox_attempt_id *a,
				     uint16_t rows, uint16_t cols, uint64_t *ret);
/* REPLY with one stream socket: raw bytes to and from the terminal, for an interactive client. The
 * keeper pumps and records, so neither end needs the supervisor. A second call replaces the first;
 * end of the stream is the end of the attempt. */
MUST_CHECK int sandbox_client_pty(struct sandbox_client *c, const struct sandbox_attempt_id *a,
				  uint64_t *ret);
MUST_CHECK int sandbox_client_follow(struct sandbox_client *c, const struct sandbox_attempt_id *a,
				     bool on, uint64_t *ret);
/* Drops the exit record; the attempt must be GONE or NOT_STARTED (-EBUSY else). Spool files and
 * layer stay: they are the supervisor's to keep or to remove. Forgetting what is not known is no
 * error. */
MUST_CHECK int sandbox_client_forget(struct sandbox_client *c, const struct sandbox_attempt_id *a,
				     uint64_t *ret);
/* No new attempts; the keeper ends when its last one is forgotten, at once where it has none. */
MUST_CHECK int sandbox_client_drain(struct sandbox_client *c, uint64_t *ret);
/* SEAL, REMOVE, SQUASH, USAGE, OPEN, VIEW, done by a sealer in the user namespace of uid:gid. q->id
 * is ignored. base_fd is borrowed and only for SEAL (-1 else). SEAL of a layer whose attempt is not
 * GONE waits until it is. */
MUST_CHECK int sandbox_client_layer(struct sandbox_client *c, const struct sealer_request *q,
				    uid_t uid, gid_t gid, int base_fd, uint64_t *ret);

/* Opens the network of a run. REPLY with one descriptor: a sealed memfd, the certificate and key
 * that its gate uses. Idempotent by n->run: of a network that is open (the supervisor died) table
 * and authority stay what they are, so that what runs goes on trusting it. Gate and courier start
 * with the first attempt that names it, and are started again when they die. */
MUST_CHECK int sandbox_client_net_open(struct sandbox_client *c, const struct sandbox_net *n,
				       uint64_t *ret);
/* REPLY with one descriptor: this end of a channel to the network's courier (report.h). The channel
 * before it ends. At its end the courier died: attach again. -ENOENT: not open. */
MUST_CHECK int sandbox_client_net_attach(struct sandbox_client *c, const struct sandbox_net_id *run,
					 uint64_t *ret);
/* Ends gate and courier, at once or when its last attempt is forgotten; until then it is listed and
 * can be opened again. Closing what is not open is no error. */
MUST_CHECK int sandbox_client_net_close(struct sandbox_client *c, const struct sandbox_net_id *run,
					uint64_t *ret);

/* ---- what lies in spool/ ---- */

/* Names below spool/ of one attempt: 32 hex digits and a suffix. buf holds SANDBOX_SPOOL_NAME_SIZE.
 * An output file is made with its first byte: a missing one is empty. */
enum { SANDBOX_SPOOL_NAME_SIZE = 48 };
enum sandbox_spool_kind {
	SANDBOX_SPOOL_STDOUT = 0, /* ".o"; of a pty: both streams */
	SANDBOX_SPOOL_STDERR = 1, /* ".e" */
	SANDBOX_SPOOL_LOCK = 2, /* ".l": flock(LOCK_EX) held by the attempt's pid 1 */
};
char *sandbox_spool_name(const struct sandbox_attempt_id *a, enum sandbox_spool_kind kind,
			 char *buf);

/* For recovery with no keeper: 1 the attempt's pid 1 lives (its lock is held), 0 it is gone,
 * negative errno. Processes outlive the lock by some 50 us. */
MUST_CHECK int sandbox_attempt_lives(int spool_fd, const struct sandbox_attempt_id *a);

/* As sandbox_spool_name, of a network's lock: ".n", flock(LOCK_EX) held by keeper, gate and
 * courier. */
char *sandbox_net_lock_name(const struct sandbox_net_id *run, char *buf);
/* For recovery: 1 a gate or courier of that run lives, 0 none does, and nothing that is not on
 * record will be sent any more; negative errno. */
MUST_CHECK int sandbox_net_lives(int spool_fd, const struct sandbox_net_id *run);
