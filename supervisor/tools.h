#pragma once
/*
 * Tools: commands that the policy names, run by the keeper in a sandbox of their own under the
 * policy of the run, as a step called like the tool that may write nothing of the workspace.
 *
 * What runs is what was approved: the bytes of the program, and of each file that a word of its
 * command names, are blobs from the moment the call is proposed, and those are executed and read,
 * whatever stands at the paths by then. A script's interpreter (what env(1) would find, too) is part
 * of what is approved by its digest, and must be the same when it runs; libraries and imports are
 * not.
 *
 * A secret of its rule is a variable of its sandbox and of no other: `env` of the secret, or
 * HOLDFAST_SECRET. Output that holds it in any form is withheld. A project's policy gives no tool a
 * secret: who defined it named hosts, not programs.
 */
#include <limits.h>
#include "supervisor/daemon.h"

enum {
	TOOLS_PROGRAM_MAX = 64 * 1024 * 1024, /* bytes of a program */
	TOOLS_NEVER_BEGAN = -2, /* as a status: nothing of it ran */
	TOOLS_TIMEOUT_MS = 60000, /* where `limits: wall` of the tool says nothing */
};

struct tools_program {
	struct digest program; /* blob */
	struct digest interpreter; /* of its bytes; zero = none */
	struct action_file files[ACTION_FILES_MAX]; /* blobs, ascending: the words of `run` that are
						       absolute paths of regular files */
	size_t file_count;
};

/* The program of that tool as it stands now, kept. -ENOENT: the policy has no such tool, or its
 * program is missing. -EACCES: an exec rule. */
MUST_CHECK int tools_seal(struct daemon *d, const struct policy_effective *e, const char *id,
			  struct tools_program *ret, struct error *err);

/* The tool as the policy has it (borrowed from e), and the path of its program, "" where it is not
 * found. False: the policy has none of that name. */
bool tools_find(const struct policy_effective *e, const char *id, struct policy_tool_info *ret,
		char ret_program[PATH_MAX]);

struct tools_result {
	const char *failed; /* why it did not run to its end; NULL = it did */
	int status; /* exit status; -1 where it was ended by a signal or a limit */
	struct bytes out, err; /* as far as JOBS_OUTPUT_MAX */
	uint64_t out_total, err_total; /* bytes as it wrote them, also where out and err are less */
	bool withheld; /* out and err held the secret, and are empty */
};
typedef void tools_done_fn(struct daemon *d, void *arg, const struct tools_result *r);

struct tools_call { /* borrowed for the call, but arg */
	const struct journal_run *run;
	const char *id;
	const struct tools_program *program; /* NULL: as it stands now */
	const char *const *args; /* "--name=value", NULL-terminated; after the tokens of `run` */
	struct bytes input; /* standard input */
	tools_done_fn *done; /* called once, unless the supervisor goes before: then drop */
	void (*drop)(void *arg);
	void *arg;
};
/* -ESTALE: the interpreter is another one now. */
MUST_CHECK int tools_run(struct daemon *d, const struct tools_call *c, struct error *err);
