#pragma once
/*
 * From a policy to walls: what one attempt of a step may see and do, as a struct sandbox_spec.
 * Looks at the file system (what kind of thing stands at a path, names that a '*' covers), changes
 * nothing.
 *
 * What the policy asks for and these walls cannot give is refused here (exit status SANDBOX), never
 * left out: `stage` and `scratch` outside of the workspace, a wider entry below a read-only one in
 * the workspace, an `rw` grant around the state directory. What the machine cannot enforce, the
 * keeper refuses (NOT_STARTED_MACHINE).
 */
#include "supervisor/plan.h"
#include "policy/policy.h"
#include "sandbox/sandbox.h"

/* What `holdfast tool` is inside: holdfast-tool of the helpers, first in PATH. */
#define CONFINE_TOOL_CLIENT SANDBOX_BIN "/holdfast"

/* PATH of a step whose environment has none. */
#define CONFINE_DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

struct confine_input {
	const struct policy_effective *policy; /* of the run */
	const struct plan_step *step;
	const char *const *argv; /* of the step, or of its check */
	char *const *env; /* as the run's settings have it */
	const char *home;
	const char *workspace; /* real path */
	int workspace_fd;
	uid_t uid; /* of the workspace */
	gid_t gid;
	const char *const *layers; /* bottom first */
	size_t layer_count;
	const char
		*upper; /* NULL: the workspace is read-only, whatever the policy grants (a check) */
	const char *in_name; /* folder below spool/ */
	int stdin_fd; /* -1 = none */
	uint64_t timeout_ms; /* 0 = the policy's */
	const uint64_t
		*limits; /* by enum policy_limit, 0 = unsaid; the smaller counts. NULL = none */
	bool tty;
	uint16_t rows, cols;
	const char *state, *runtime; /* masked */
	const char *const *hidden; /* masked too: every place in which a state directory is looked
				      for (own.h), NULL-terminated; NULL = none */
	const char *const *kept; /* all places of Holdfast's own (own.h), NULL-terminated: none of
				  * them is in what is granted rw; NULL = none */
	bool approved; /* a person let the step start: an exec rule that asks has its answer */
	struct sandbox_attempt_id attempt;
	/* Of the run's network, where the step may use it (net.h); borrowed. */
	struct sandbox_net_id net;
	const struct sandbox_etc_file *etc;
	size_t etc_count;
	const char *const *net_env; /* NULL = none; they stand before all others */
	const char *helpers; /* folder with holdfast-tool; NULL = the step calls no tools */
};

/* Opaque, owned: the spec. What the input points to is borrowed by it, and must outlive it. */
struct confine;

/* -EACCES (exit status DENIED): an exec rule. -ENOENT (exit status STEP_FAILED): there is no such
 * program, and no rule that says more of it. -EOPNOTSUPP (exit status SANDBOX). -E2BIG (exit
 * status LIMIT). */
MUST_CHECK int confine_new(const struct confine_input *in, struct confine **ret, struct error *err);
/* What the exec rules say of the program of `in` alone: 0 it may start, CONFINE_ASKS with the
 * rule's place and words in *err, or a negative errno as confine_new. */
enum { CONFINE_ASKS = 1 };
MUST_CHECK int confine_exec(const struct confine_input *in, struct error *err);
void confine_free(struct confine *c); /* accepts NULL */
DEFINE_GUARD(struct confine *, confine_free)
const struct sandbox_spec *confine_spec(const struct confine *c);
/* Whether what the step changes in the workspace goes to a layer. True where that cannot be told:
 * confine_new says why. */
bool confine_stages(const struct policy_effective *run, const char *step, const char *workspace,
		    const char *home);
/* The fs table of a step's policy with the run's variables put in; for landing. *ret_effective must
 * outlive *ret. */
MUST_CHECK int confine_fs(const struct policy_effective *run, const char *step,
			  const char *workspace, const char *home,
			  struct policy_effective **ret_effective, struct policy_fs **ret,
			  struct error *err);
