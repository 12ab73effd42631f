#pragma once
/*
 * The containment suite: ways in which a step might reach outside, one row each (containment_table.c).
 *
 * The same functions run in three places: inside a sandbox with every wall, where each must give the row's answer; inside
 * sandboxes that lack the walls of the row's mask, where none may reach; and as a control where nothing holds it back, so that
 * every row is known to be able to fail: in a sandbox without the wall that holds it, as a plain process of the same
 * machine, or as root of a throwaway user namespace in which nothing of the machine is mounted.
 *
 * A try changes nothing that it does not put back, and nothing outside of the rig's folders even where it succeeds.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/types.h>
#include "sandbox/sandbox.h"

/* What a try says; a positive one is the errno it met. */
enum {
	TRY_REACHED = 0,
	TRY_UNSEEN = -1, /* no error, and nothing of the outside was seen or changed */
	TRY_KILLED = -2, /* by SIGSYS */
	TRY_BROKEN = -3, /* the try itself could not be made, or it hung */
	TRY_ELSE = -4, /* as a control's answer: any but the row's own */
	TRY_ANY = -5, /* as a row's answer: an error, whichever */
};

enum try_control {
	CONTROL_WITHOUT, /* inside, without the walls of `removed` */
	CONTROL_OUTSIDE, /* a plain process of whoever runs the test */
	CONTROL_NAMESPACE, /* root of a throwaway user namespace with all other namespaces of its own */
};

enum {
	TRY_ROOT = 1 << 0, /* the control needs the machine's root: an ordinary user has none */
	TRY_MAY_LACK =
		1 << 1, /* the control needs what a machine need not have: a device, a route */
};

/* What the test made outside for the tries: paths, names and numbers, as text. */
#define WORLD_FIELDS(X)                                                     \
	X(dir) /* the rig's folder, seen through a view */                  \
	X(view) /* a folder of the command's own user in it */              \
	X(view_file)                                                        \
	X(view_socket)                                                      \
	X(view_datagram)                                                    \
	X(view_fifo)                                                        \
	X(work) /* the staged workspace */                                  \
	X(work_socket)                                                      \
	X(work_fifo)                                                        \
	X(work_link) /* a symlink in the workspace to hidden_socket */      \
	X(work_hard) /* a second name of hidden_file */                     \
	X(work_mask) /* a masked file */                                    \
	X(work_mask_dir)                                                    \
	X(work_protect) /* a protected folder with one file, "kept" */      \
	X(rw) /* a folder granted rw */                                     \
	X(hidden) /* a folder that nothing grants */                        \
	X(hidden_file)                                                      \
	X(hidden_socket)                                                    \
	X(state_file) /* in the state directory, below a granted folder */  \
	X(layer_file) /* of another attempt's layer */                      \
	X(spool_file) /* another attempt's output */                        \
	X(keeper) /* the keeper's socket */                                 \
	X(abstract)                                                         \
	X(host_pid) /* a process outside, of the command's own user */      \
	X(target_pid) /* pid 1 inside; in a control a process of its own */ \
	X(tcp_port)                                                         \
	X(tcp6_port)                                                        \
	X(udp_port)                                                         \
	X(ipc_key)                                                          \
	X(inotify_max) /* instances that the user may have */               \
	X(timers_max) /* timers and queued signals, likewise */             \
	X(queue)                                                            \
	X(shm)                                                              \
	X(setuid) /* a program with the setuid bit of another user; "" where none could be made */

enum { WORLD_TEXT = 160 };

struct world {
#define X(name) char name[WORLD_TEXT];
	WORLD_FIELDS(X)
#undef X
};

struct
try {
	const char *name; /* as SECURITY.md has it */
	int wall; /* of SECURITY.md's nine: the one that is met first */
	int answer;
	uint32_t without; /* it holds without any of these, and without all: SANDBOX_WALL_* */
	enum try_control control;
	uint32_t removed; /* of CONTROL_WITHOUT */
	int opened; /* the control's answer: TRY_REACHED, TRY_ELSE or one that the kernel gives */
	unsigned flags;
	int (*fn)(const struct world *w);
};

extern const struct try containment_tries[];
extern const size_t containment_count;

/* In a child of its own, with an end. */
int containment_run(const struct try *t, const struct world *w);
/* "EPERM", "reached", …: of an answer. */
const char *containment_answer(int answer);

void containment_write(const struct world *w, const char *path);
void containment_read(struct world *w, const char *path);

/* ---- for the tries: what a call's result says */
static inline int try_said(long result)
{
	return result < 0 ? errno : TRY_REACHED;
}
