#pragma once
/*
 * Plans: which mounts, in which order, make the sandbox of a spec; what belongs to the template and
 * what to each step. Pure: the keeper looks at the sources first and gives what it saw (struct
 * plan_seen); init_mount.c follows the result.
 *
 * Order: parents before what is below them, so that the deepest target wins. What lies at or below
 * a place that each step has of its own (/tmp, $HOME, tmpfs, workspace) is mounted by the step: its
 * source waits in the staging folder.
 */
#include "base/buffer.h"
#include "base/error.h"
#include "sandbox/init.h"
#include "sandbox/sandbox.h"

enum {
	PLAN_TMPFS_BYTES = 1 << 30,
	PLAN_SHM_BYTES = 256 << 20,
	PLAN_OUT_BYTES = 256 << 20,
	PLAN_MASKS_MAX = 64
};

enum plan_type { PLAN_MISSING = 0, PLAN_DIR, PLAN_FILE, PLAN_DEVICE, PLAN_SYMLINK, PLAN_OTHER };

/* What the keeper saw at one path of the host, not following a symlink at its end. */
struct plan_seen {
	enum plan_type type;
	uint64_t dev, ino;
	const char *link; /* SYMLINK: where to */
	bool mounts_below; /* DIR: other mounts lie in it; looked for only where it matters */
};

struct plan_input {
	const struct sandbox_spec *spec;
	const struct plan_seen *mounts; /* as spec->mounts; unused for the kinds without a source */
	const char *base_path, *layers_path, *spool_path; /* in the keeper's mount namespace */
	struct plan_seen base, layers, spool;
	struct plan_seen devices[6]; /* of plan_devices */
	struct plan_seen proc;
	const char *const
		*masks; /* targets that are masked whatever is granted: state and runtime folders */
	size_t mask_count;
	uint32_t uid, gid; /* inside */
	bool trees_come; /* root: sources are passed as descriptors */
	bool idmap; /* root-owned workspace: its owner is another uid outside */
	bool memory_sampled; /* no control group counts what tmpfs holds: each is at most the
				memory limit */
};

extern const char *const plan_devices[6];

/* An encoded struct init_template; two specs with equal bytes share a template. The order of its
 * sources is the order in which the keeper passes trees. -EINVAL, -E2BIG, -ENOMEM. */
MUST_CHECK int plan_template(const struct plan_input *in, struct buffer *out, struct error *err);

struct plan_step_input {
	const struct plan_input *in;
	struct bytes filter; /* struct sock_filter[]; empty = none */
	bool filter_notifies;
	bool wait_for_go;
	bool own_userns;
	bool landlock;
	bool armed; /* the template has mounted the workspace's overlay ahead */
	const struct sandbox_listener *listeners;
	size_t listener_count;
	bool net; /* they are a network's: those of IPv6 only where there is IPv6 */
};
MUST_CHECK int plan_step(const struct plan_step_input *in, struct buffer *out, struct error *err);

/* The name below /etc of a read-only tree over which files of the spec lie; NULL = none does. */
const char *plan_etc_below(const struct sandbox_spec *s, const struct sandbox_mount *m);

/* The mount options of a workspace's overlay, from INIT_STAGING. upper: its folder in `layers`;
 * NULL = read-only. Look at out->failed. */
void plan_workspace_options(const struct sandbox_workspace *w, const char *upper,
			    struct buffer *out);

/* "overlay", "landlock", … for reports. */
const char *plan_stage_name(enum init_stage stage);
/* The string at offset of a plan, or "". */
const char *plan_string(struct bytes plan, uint32_t offset);
