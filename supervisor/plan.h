#pragma once
/*
 * Plans (holdfast-plan(5)): parsed from strict YAML, checked whole, kept as canonical CBOR. Pure.
 *
 * A plan is input of an untrusted kind: every mistake is an error at file:line:column with exit 2
 * and nothing started. The canonical form (base/holdfast.cddl, plan) is what a run is created from:
 * a blob, named by RUN_CREATED. A step's own canonical form stands inside the description that
 * STEP_DECLARED names, so that a step declared by an outside driver (`holdfast step`) has the same
 * shape as one that stands in a plan.
 *
 * Every struct plan that is returned here was checked whole (plan_check).
 */
#include "base/buffer.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/guard.h"

enum {
	PLAN_STEPS_MAX = 10000,
	PLAN_NEEDS_MAX = 1000,
	PLAN_ARGV_MAX = 4096,
	PLAN_ARG_BYTES_MAX = 128 * 1024, /* of one argument: MAX_ARG_STRLEN of execve(2) */
	PLAN_TEXT_MAX = 1024 * 1024, /* stdin text */
	PLAN_PATH_MAX = 4095,
	PLAN_ENV_MAX = 1000,
	PLAN_CHECKS_MAX = 100,
	PLAN_GLOBS_MAX = 1000,
	PLAN_RETRY_MAX = 1000,
};
#define PLAN_DURATION_MAX_MS (366ull * 24 * 3600 * 1000)

enum plan_stdin_kind { PLAN_STDIN_NONE, PLAN_STDIN_STEP, PLAN_STDIN_BLOB, PLAN_STDIN_FILE };
enum plan_gate { PLAN_GATE_NONE, PLAN_GATE_ASK, PLAN_GATE_COMMIT };
/* Bits of retry.on. */
enum plan_failure {
	PLAN_ON_INFRA = 1,
	PLAN_ON_TIMEOUT = 2,
	PLAN_ON_EXIT = 4,
	PLAN_ON_OOM = 8,
	PLAN_ON_CHECK = 16,
	PLAN_ON_ALL = 31,
};

struct plan_place { /* in the plan's text, for messages; line 0 = nowhere. Not in the canonical form */
	int line, column;
};

struct plan_check {
	char **argv; /* NULL-terminated */
	uint32_t expect_exit;
};

struct plan_env {
	char *name, *value;
};

struct plan_step {
	char *name;
	char **needs; /* names, NULL-terminated; may be NULL. The step of stdin_step is always among
			 them */
	char **argv; /* NULL-terminated; a string in the plan is {"/bin/sh", "-c", string} */
	char *cwd; /* relative to the workspace, without ".."; NULL = the workspace */
	enum plan_stdin_kind stdin_kind;
	char *stdin_step;
	char *stdin_file; /* relative to the plan; read by the client, a blob before RUN_CREATED */
	struct plan_place stdin_at; /* of stdin_file */
	struct digest stdin_blob;
	char *stdin_text; /* owned; parser only: becomes stdin_blob. Not NULL: kind is
			     PLAN_STDIN_BLOB */
	size_t stdin_text_len;
	struct plan_env *env; /* added to the run's, by name; must pass the policy's env */
	size_t env_count;
	struct plan_retry {
		uint32_t max; /* attempts in all; default 3 */
		uint64_t first_ms, cap_ms; /* backoff: first x2 up to cap; default 1 s, 60 s */
		unsigned on; /* bits of enum plan_failure; INFRA where the plan says nothing,
			      * all of them where it says `retry:` */
		uint32_t same_failure; /* stop after k equal failures; 0 = never */
	} retry;
	uint64_t timeout_ms; /* one attempt; 0 = the policy's wall limit */
	uint64_t deadline_ms; /* the step, from its declaration; 0 = none */
	enum plan_gate gate;
	struct plan_check *checks; /* contract */
	size_t check_count;
	char **protected_globs; /* contract; NULL-terminated; may be NULL */
	int line, column; /* of its name, for messages; not in the canonical form */
};

struct plan {
	char *name; /* may be NULL */
	char *policy_path; /* `policy: F`: relative to the plan; NULL if inline or absent */
	char *policy_text; /* inline policy, re-emitted as YAML on the lines it stood on; NULL if
			      absent */
	size_t policy_text_len;
	struct plan_place policy_at; /* of policy_path or the inline policy */
	char *workspace; /* relative to the plan; NULL = its folder */
	struct plan_place workspace_at;
	int base; /* enum journal_base, -1 = not said */
	int land; /* enum journal_land; default auto */
	int agency; /* 0 observe .. 4 autonomous, -1 = not said */
	/* Made by `holdfast step`: steps are declared as they come, ended by `holdfast step --end`.
	 */
	bool outside_driver;
	struct plan_step *steps;
	size_t step_count;
	uint32_t *by_name; /* positions sorted by name; made by plan_check */
};

/* err->where is "file:line:column", err->exit_status EXIT_STATUS_USAGE. */
MUST_CHECK int plan_parse(struct bytes yaml, const char *file, struct plan **ret,
			  struct error *err);
void plan_free(struct plan *p); /* accepts NULL and half-built ones */
DEFINE_GUARD(struct plan *, plan_free)
/* All rules of a plan that do not need its text: names, duplicates, needs, cycles, ranges. For
 * plans that a program built by hand; also makes by_name, which plan_find then uses. Say file =
 * NULL where there is none. */
MUST_CHECK int plan_check(struct plan *p, const char *file, struct error *err);
/* The same for one step; needs are not looked up. */
MUST_CHECK int plan_step_check(const struct plan_step *s, const char *file, struct error *err);
/* Position of the step called name, or -ENOENT. p was checked. */
MUST_CHECK int plan_find(const struct plan *p, struct bytes name);
/* -EINVAL while a stdin_text or stdin_file is unresolved. */
MUST_CHECK int plan_encode(const struct plan *p, struct buffer *out);
/* -EBADMSG, -EPROTO, -E2BIG as cbor_reader, -EINVAL where plan_check would refuse. Round trips byte
 * for byte. */
MUST_CHECK int plan_decode(struct bytes canonical, struct plan **ret);
MUST_CHECK int plan_step_encode(const struct plan_step *s, struct buffer *out);
MUST_CHECK int plan_step_decode(struct bytes canonical, struct plan_step **ret);
void plan_step_free(struct plan_step *s); /* the struct too; accepts NULL */
DEFINE_GUARD(struct plan_step *, plan_step_free)
/* Of a NULL-terminated list; 0 for NULL. */
static inline size_t plan_strings_count(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}
/* Sets what holds where nothing is said: retry. For steps that a program builds by hand. */
void plan_step_defaults(struct plan_step *s);
