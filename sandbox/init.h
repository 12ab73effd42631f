#pragma once
/*
 * What the keeper tells holdfast-init. Flat bytes without pointers, made by plan.c: init only
 * follows them, since after clone nothing can be parsed or allocated. Both ends are one build and
 * trust each other; `bytes` and `magic` guard against a mix of two.
 *
 * holdfast-init runs from a sealed memfd: it enters a user namespace, builds a mount skeleton once
 * (the template), then clones itself for each step. The pool (keeper_pool.c) speaks the same
 * messages. Descriptor INIT_CONTROL_FD is a SOCK_SEQPACKET socket to the keeper, INIT_KEEPER_FD the
 * keeper's pidfd.
 */
#include <stdint.h>
#include <sys/types.h>
#include "sandbox/sandbox.h"

enum {
	INIT_CONTROL_FD = 3,
	INIT_KEEPER_FD = 4,
	INIT_MAGIC = 0x48460001,
	INIT_PLAN_MAX = 8 << 20, /* bytes of one plan */
	INIT_PLAN_INLINE = 96 * 1024, /* a larger one comes in a memfd */
	INIT_SOURCES_MAX = SANDBOX_MOUNTS_MAX + 32,
	INIT_OPS_MAX = 2048,
	INIT_MERGE_MAX = 1024, /* names of one folder */
	INIT_FD_BATCH = 16,
};

/* Where sources wait between template and step: under the place of /proc, which each step mounts
 * its own over. */
#define INIT_STAGING "proc"
/* In it: base, layers, spool, synthetic /etc, the host's proc, a mount point for overlays, an empty
 * folder, and the unreadable folder and file that masks are made of. Numbered sources stand beside
 * them. */
#define INIT_STAGED_BASE      "B"
#define INIT_STAGED_LAYERS    "L"
#define INIT_STAGED_SPOOL     "S"
#define INIT_STAGED_ETC	      "e"
#define INIT_STAGED_PROC      "h"
#define INIT_STAGED_POINT     "m"
#define INIT_STAGED_ARMED     "o"
#define INIT_STAGED_EMPTY     "z"
#define INIT_STAGED_MASK_DIR  "d"
#define INIT_STAGED_MASK_FILE "f"

/* Each stage should leave what its comment in init.c says; reports name the stage that failed. */
enum init_stage {
	INIT_STAGE_NONE = 0,
	INIT_STAGE_USERNS = 1,
	INIT_STAGE_SOURCES = 2,
	INIT_STAGE_ROOT = 3,
	INIT_STAGE_SKELETON = 4,
	INIT_STAGE_CLONE = 5,
	INIT_STAGE_NETWORK = 6,
	INIT_STAGE_MOUNTS = 7,
	INIT_STAGE_TERMINAL = 8,
	INIT_STAGE_LISTENERS = 9,
	INIT_STAGE_GO = 10,
	INIT_STAGE_LIMITS = 11,
	INIT_STAGE_LANDLOCK = 12,
	INIT_STAGE_CAPABILITIES = 13,
	INIT_STAGE_DESCRIPTORS = 14,
	INIT_STAGE_CWD = 15,
	INIT_STAGE_SECCOMP = 16,
	INIT_STAGE_EXEC = 17,
};

enum init_op_kind {
	INIT_OP_MKDIR = 1, /* target and its parents, mode */
	INIT_OP_FILE = 2, /* target with the content at source (length in size) */
	INIT_OP_SYMLINK = 3, /* target -> text at source */
	INIT_OP_TREE =
		4, /* the prepared source number `tree` is attached at target; template only */
	INIT_OP_BIND = 5, /* path at source (in the new root) is seen at target too */
	INIT_OP_TMPFS = 6, /* size, inodes, mode */
	INIT_OP_OVERLAY = 7, /* mount options at source, relative to INIT_STAGING */
	INIT_OP_DEVPTS = 8,
	INIT_OP_OUT = 9, /* as TMPFS; its descriptor is sent to the keeper */
	INIT_OP_PROC = 10, /* this pid namespace's; the staging folder under it goes */
	INIT_OP_LOCK = 11, /* target's mount becomes read-only */
	INIT_OP_MASK = 12, /* an empty unreadable folder or file over target, whichever it is */
	/* target is the folder at source with INIT_STAGED_ETC's names over it, each name a mount of
	 * its own: what an overlay would be, had source no mounts in it. Template only. */
	INIT_OP_MERGE = 13,
};

enum init_op_flags {
	INIT_OP_OPTIONAL =
		1 << 0, /* skip where target (BIND: or source) is missing or behind a symlink */
	INIT_OP_POINT_DIR = 1 << 1, /* make the mount point first, where it is missing */
	INIT_OP_POINT_FILE = 1 << 2,
	INIT_OP_RDONLY = 1 << 3,
	INIT_OP_NOEXEC = 1 << 4,
	INIT_OP_RECURSIVE = 1 << 5,
	INIT_OP_DEV = 1 << 6, /* a device node: usable as such */
	INIT_OP_IDMAP = 1 << 7, /* source: the keeper maps its owner to the step's (root only) */
	INIT_OP_ARMED = 1 << 8, /* overlay: the one that the template mounted ahead (INIT_ARM) */
};

struct init_op {
	uint16_t kind, flags;
	uint32_t tree;
	uint32_t source, target; /* offsets; a target is relative to the new root */
	uint64_t size;
	uint32_t inodes, mode;
};

/* A place of the host that the template needs. With descriptors (root) they are detached trees in
 * this order. */
struct init_source {
	uint32_t path;
	uint16_t flags; /* RDONLY, NOEXEC, RECURSIVE */
	uint16_t is_dir;
	uint64_t dev, ino;
};

struct init_list {
	uint32_t at, count; /* offset of the first, how many */
};

struct init_template {
	uint32_t magic, bytes;
	uint32_t uid, gid; /* inside */
	uint32_t trees_come; /* sources are given as descriptors */
	uint32_t hostname;
	struct init_list sources; /* struct init_source */
	struct init_list ops; /* struct init_op */
};

enum init_landlock_class {
	INIT_LANDLOCK_LIST = 1, /* folders can be listed */
	INIT_LANDLOCK_READ = 2,
	INIT_LANDLOCK_EXEC = 3, /* and read */
	INIT_LANDLOCK_WRITE = 4, /* and read and execute: the mount says no where it must not */
};

struct init_rule {
	uint32_t path, class;
};

/* Descriptors of a step's message, in this order, each only if its bit is set. */
enum init_step_fd {
	INIT_FD_STATUS = 1 << 0, /* SOCK_SEQPACKET: reports go out, one "go" byte comes in */
	INIT_FD_LOCK = 1 << 1,
	INIT_FD_NETNS = 1 << 2,
	INIT_FD_STDIN = 1 << 3,
	INIT_FD_STDOUT = 1 << 4,
	INIT_FD_STDERR = 1 << 5,
	INIT_FD_CGROUP = 1 << 6, /* v2: cloned into it */
	INIT_FD_TASKS = 1 << 7, /* v1: up to 4 files that "0" is written to, bits 7 to 10 */
	INIT_FD_PLAN = 1 << 11, /* the plan itself, in a memfd */
};
enum { INIT_TASKS_MAX = 4, INIT_STEP_FDS = 12 };

struct init_step {
	uint32_t magic, bytes;
	uint32_t uid, gid;
	uint32_t pty; /* make a terminal; its master is reported */
	uint16_t rows, cols;
	uint32_t wait_for_go; /* the keeper moves us into control groups first */
	uint32_t own_userns; /* for RLIMIT_NPROC, which counts in the user namespace */
	uint32_t filter_notifies;
	uint32_t landlock_weaker; /* without Landlock: go on */
	uint32_t cwd;
	uint32_t armed; /* takes the template's overlay */
	uint64_t rlimit_fsize, rlimit_nproc, rlimit_cpu_s; /* 0 = leave */
	struct init_list argv, env; /* uint32_t offsets of strings */
	struct init_list ops;
	struct init_list rules; /* struct init_rule; none = no Landlock */
	struct init_list filter; /* struct sock_filter; none = no filter */
	struct init_list listeners; /* struct sandbox_listener */
	uint32_t net, unused; /* listeners of IPv6 may be stand-ins */
};

/* The workspace's overlay of a step to come: the template makes the upper and work folders and
 * mounts it, while nobody waits for that. What it makes in `folder` (relative to INIT_STAGING, in
 * which it does not exist yet): u, w, and the attempt's lock file. */
#define INIT_ARM_LOCK "l"
enum { INIT_ARM_FOLDER_SIZE = 44 };
struct init_arm {
	uint32_t magic, mode; /* of u */
	char folder[INIT_ARM_FOLDER_SIZE];
	char options[]; /* of the mount, as in INIT_OP_OVERLAY */
};

/* To the template: this header, then (STEP) struct init_step, (BUILD) struct
 * init_template or (ARM) struct init_arm. */
enum init_message_type {
	INIT_BUILD = 1, /* preceded by TREES messages */
	INIT_TREES = 2, /* up to INIT_FD_BATCH descriptors */
	INIT_STEP = 3,
	INIT_USERNS = 4, /* template: one descriptor, enter it; pool: its maps are written */
	INIT_NETNS = 5, /* pool: make one */
	INIT_ARM = 6, /* template: answered by ARMED; the one before goes */
	INIT_DISARM = 7, /* template: its own mount of it goes; no answer */
};
struct init_message {
	uint32_t type, fds; /* STEP: enum init_step_fd */
	uint32_t uid, gid; /* USERNS: who to be inside */
};

enum init_report_type {
	INIT_REPORT_FAILED = 1,
	INIT_REPORT_READY = 2, /* pool: namespace made; template: skeleton built */
	INIT_REPORT_CLONED = 3, /* template: `pid`, in the keeper's pid namespace, and its pidfd */
	INIT_REPORT_NETNS = 4, /* pool: one descriptor, the namespace with lo up */
	INIT_REPORT_OUT = 5, /* one descriptor: the out folder */
	INIT_REPORT_TERMINAL = 6, /* one: the pty's master */
	INIT_REPORT_LISTENERS = 7, /* up to INIT_FD_BATCH */
	INIT_REPORT_FILTER = 8, /* one: the seccomp listener */
	INIT_REPORT_STARTED = 9, /* one: the main process's pidfd */
	INIT_REPORT_EXITED = 10,
	INIT_REPORT_ARMED = 11, /* template: `error` */
};

struct init_report {
	uint32_t type, stage;
	int32_t error;
	int32_t pid;
	int32_t entered_cgroup; /* CLONED */
	int32_t wait_status;
	uint32_t object; /* offset in the plan of the string that the failure is about; 0 = none */
	uint64_t cpu_us, maxrss_kib;
};
