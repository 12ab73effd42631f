#pragma once
/*
 * Commands that are no steps: the keeper runs them in a sandbox, and their end is told to whoever
 * asked. The supervisor never forks; so a signature is verified and a person is told here.
 *
 * A job lives as long as this supervisor: what must outlast it is asked for again by whoever needs
 * it. Its inputs are files of a folder of the spool, seen read-only at /run/holdfast/in.
 */
#include "supervisor/daemon.h"
#include "supervisor/runs.h"

enum {
	JOBS_OUTPUT_MAX = 64 * 1024, /* bytes of standard output and error that are read */
	JOBS_AT_ONCE_MAX = 16,
};

struct jobs_file {
	const char *name;
	struct bytes content;
};

struct jobs_result {
	const char *not_started; /* why nothing ran; NULL = it ran */
	const struct sandbox_exit *exit; /* NULL where it did not run */
	struct bytes out, err; /* as far as JOBS_OUTPUT_MAX */
	uint64_t out_total, err_total; /* bytes as it wrote them */
};
/* True where it ended by itself with status 0. */
bool jobs_succeeded(const struct jobs_result *r);

typedef void jobs_done_fn(struct daemon *d, void *arg, const struct jobs_result *r);

struct jobs_spec { /* all borrowed for the call but arg */
	const struct journal_run *run;
	const char *name; /* of the step whose policy it takes, and in messages */
	/* NULL: the built-in `base`, no workspace. Else the run's policy, environment and home, as
	 * for a step of that name that may write nothing: the workspace is the base, read-only. */
	struct runs_context *ctx;
	char *const *argv; /* NULL-terminated */
	const struct jobs_file *files;
	size_t file_count;
	int stdin_fd; /* -1 = none */
	const char *const *env; /* NAME=value, before all others; NULL = none */
	const uint64_t *limits; /* as confine_input's */
	uint64_t timeout_ms;
	jobs_done_fn *done; /* called once, unless the supervisor goes before: then drop */
	void (*drop)(void *arg);
	void *arg; /* taken over on success */
};

/* -EBUSY: JOBS_AT_ONCE_MAX run already. */
MUST_CHECK int jobs_start(struct daemon *d, const struct jobs_spec *spec, struct error *err);

struct jobs_job; /* what attempts.c holds for it */
void jobs_free(struct jobs_job *job); /* not told; accepts NULL */
/* For attempts.c: it has ended. job is freed. */
void jobs_settle(struct daemon *d, struct jobs_job *job, const struct sandbox_attempt_id *id,
		 const struct sandbox_exit *exit, const char *not_started);
/* At start: the folders of jobs that an earlier supervisor did not come to remove. */
void jobs_sweep(struct daemon *d);
