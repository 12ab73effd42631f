#pragma once
/*
 * Plans (holdfast-plan(5)): parsed from strict YAML, checked whole, kept as canonical CBOR. Pure.
 *
 * A plan is input of an untrusted kind: every mistake is an error at file:line:column with exit 2 and nothing started.
 * The canonical form is what a run is created from (blob, digest in RUN_CREATED); each step's own canonical bytes are
 * what STEP_DECLARED names, so that a step declared by an outside driver (`holdfast step`) has the same shape.
 */
#include "base/buffer.h"
#include "base/digest.h"
#include "base/error.h"

enum {
	PLAN_STEPS_MAX = 10000,
	PLAN_NEEDS_MAX = 1000,
	PLAN_ARGV_MAX = 4096,
	PLAN_TEXT_MAX = 1024 * 1024, /* stdin text */
	PLAN_RETRY_MAX = 1000,
};

enum plan_stdin_kind { PLAN_STDIN_NONE, PLAN_STDIN_STEP, PLAN_STDIN_BLOB, PLAN_STDIN_FILE };
enum plan_gate { PLAN_GATE_NONE, PLAN_GATE_ASK, PLAN_GATE_COMMIT };
/* Bits of retry.on. */
enum plan_failure {
	PLAN_ON_INFRA = 1,
	PLAN_ON_TIMEOUT = 2,
	PLAN_ON_EXIT = 4,
	PLAN_ON_OOM = 8,
	PLAN_ON_CHECK = 16,
};

struct plan_check {
	char **argv; /* NULL-terminated */
	uint32_t expect_exit;
};

struct plan_step {
	char *name;
	char **needs; /* names, NULL-terminated; may be NULL */
	char **argv;  /* NULL-terminated; a string in the plan is {"/bin/sh", "-c", string} */
	char *cwd;    /* relative to the workspace; NULL = the workspace */
	enum plan_stdin_kind stdin_kind;
	char *stdin_step, *stdin_file; /* the file is read by the client and becomes a blob before RUN_CREATED */
	struct digest stdin_blob;
	struct bytes stdin_text; /* owned; parser only: becomes stdin_blob */
	struct { char *name, *value; } *env; /* added to the run's; must pass the policy's env */
	size_t env_count;
	struct {
		uint32_t max;              /* attempts in all; default 3 for infra */
		uint64_t first_ms, cap_ms; /* backoff: first x2 up to cap; default 1 s, 60 s */
		unsigned on;               /* bits of enum plan_failure; default INFRA */
		uint32_t same_failure;     /* stop after k equal failures; 0 = never */
	} retry;
	uint64_t timeout_ms;  /* one attempt; 0 = the policy's wall limit */
	uint64_t deadline_ms; /* the step, from its declaration; 0 = none */
	enum plan_gate gate;
	struct plan_check *checks; /* contract */
	size_t check_count;
	char **protected_globs;    /* contract */
	int line; /* of its name, for messages; not in the canonical form */
};

struct plan {
	char *name;         /* may be NULL */
	char *policy_path;  /* `policy: F`: relative to the plan; NULL if inline or absent */
	struct bytes policy_text; /* inline policy re-emitted as YAML text, owned; empty if absent */
	int policy_line;
	char *workspace;    /* relative to the plan; NULL = its folder */
	int base;           /* enum journal_base, -1 = not said */
	int land;           /* enum journal_land; default auto */
	int agency;         /* 0..4, -1 = not said */
	bool outside_driver; /* made by `holdfast step`: steps are declared as they come, ended by `holdfast step --end` */
	struct plan_step *steps;
	size_t step_count;
};

MUST_CHECK int plan_parse(struct bytes yaml, const char *file, struct plan **ret, struct error *err);
void plan_free(struct plan *p); /* accepts NULL */
MUST_CHECK int plan_encode(const struct plan *p, struct buffer *out); /* canonical; refuses stdin_text and stdin_file left unresolved */
MUST_CHECK int plan_decode(struct bytes canonical, struct plan **ret);
MUST_CHECK int plan_step_encode(const struct plan_step *s, struct buffer *out);
MUST_CHECK int plan_step_decode(struct bytes canonical, struct plan_step **ret);
void plan_step_free(struct plan_step *s);
/* Domain "holdfast.plan". */
MUST_CHECK int plan_digest(const struct plan *p, struct digest *ret);
