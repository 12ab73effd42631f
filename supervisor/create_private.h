#pragma once
/*
 * What the files of create share: a request on its way to a run, and what each does with it. All
 * errors but -ENOMEM of a note are in *err, with the exit status that the client leaves with.
 */
#include "supervisor/create.h"
#include "supervisor/runs.h"
#include "supervisor/workspace.h"

enum { CREATE_INPUTS_MAX = POLICY_LAYERS_MAX };

struct create_making { /* one request on its way to a run */
	struct daemon *d;
	struct api_request *q;
	struct plan *plan;
	struct policy *policies[CREATE_INPUTS_MAX]; /* owned */
	struct policy_input inputs[CREATE_INPUTS_MAX];
	size_t input_count;
	struct policy_effective *effective;
	struct runs_settings settings;
	size_t note_count;
	struct workspace workspace;
	char path[4096]; /* of the workspace, real */
	int workspace_fd; /* owned */
	bool exec, exec_lands;
};

/* ---- create.c ---- */
/* A text of the request's body, borrowed; NULL = it has none. */
const char *create_text(const struct api_request *q, const char *key);
/* One more line for who asked; past a limit they are left out. -ENOMEM. */
MUST_CHECK int create_note(struct create_making *m, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A regular file of at most YAML_BYTES_MAX; name is what the client calls it. */
MUST_CHECK int create_read_fd(int fd, const char *name, struct buffer *out, struct error *err);

/* ---- create_policy.c: which policy the run is created under ---- */
/* m->effective, from all layers; needs m->plan. */
MUST_CHECK int create_policy_make(struct create_making *m, enum policy_agency agency,
				  struct error *err);
/* A step that asks for more than the run has is an error before anything starts. */
MUST_CHECK int create_policy_check_steps(struct create_making *m, struct error *err);

/* ---- create_stdin.c: standard inputs ---- */
/* The regular file that came as fd_name, as a blob. */
MUST_CHECK int create_stdin_keep(struct create_making *m, const char *fd_name, struct digest *ret,
				 struct error *err);
/* Those that stand in the plan or in files become blobs: the run must not need the client again. */
MUST_CHECK int create_stdin_resolve(struct create_making *m, struct error *err);
