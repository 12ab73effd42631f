#pragma once
/*
 * A keeper of its own in a folder of its own, and sandboxes through the client library: what the
 * tests and benches of sandbox/ stand on. Everything is below one mkdtemp folder and goes with
 * rig_close, which ends only the keeper that it started.
 */
#include "sandbox/sandbox.h"

enum { RIG_ARGS_MAX = 16, RIG_MOUNTS_MAX = 32, RIG_OUTPUT_MAX = 1 << 20, RIG_WAIT_MS = 30000 };

struct rig {
	char dir[64];
	char work[96], home[96]; /* the workspace's base, and a home that holds it not */
	int dir_fd, runtime_fd, state_fd, helpers_fd, base_fd, spool_fd, layers_fd;
	pid_t keeper;
	struct sandbox_client *client;
	uint64_t epoch;
	unsigned serial;
	uid_t uid;
	gid_t gid;
	bool lost;
	/* of the attempt that is waited for */
	struct sandbox_attempt_id waited;
	bool started, exited, gone, not_started, replied, layered;
	struct sandbox_exit exit;
	struct sandbox_not_started why_not;
	int out_fd, reply_fd, reply_result;
	int listeners[SANDBOX_LISTENERS_MAX];
	size_t listener_count;
	struct sealer_reply layer;
	uint64_t output_notices;
};

/* A spec with its arrays: system trees, staged workspace at its real path, PATH and HOME. */
struct rig_spec {
	struct sandbox_spec spec;
	const char *argv[RIG_ARGS_MAX + 1];
	const char *env[8];
	struct sandbox_mount mounts[RIG_MOUNTS_MAX];
	char upper[LAYERS_NAME_SIZE];
	char home_env[128];
};

struct rig_result {
	bool started;
	struct sandbox_exit exit;
	struct sandbox_not_started why_not;
	char out[8192], err[4096];
};

/* The workspace belongs to uid:gid: as an ordinary user only one's own will do. Dies with a message
 * on failure. */
void rig_open(struct rig *r, uid_t uid, gid_t gid);
void rig_connect(struct rig *r); /* with the next epoch */
void rig_disconnect(struct rig *r);
void rig_close(struct rig *r);
void rig_spec(struct rig *r, struct rig_spec *s, ...) __attribute__((sentinel)); /* argv, NULL */
void rig_mount(struct rig_spec *s, enum sandbox_mount_kind kind, const char *source,
	       const char *target);
void rig_start(struct rig *r, const struct rig_spec *s);
/* Dispatches until *flag or RIG_WAIT_MS; dies past that. */
void rig_await(struct rig *r, const bool *flag, const char *what);
/* Start, wait until it is gone, read the spool, forget. */
void rig_run(struct rig *r, const struct rig_spec *s, struct rig_result *ret);
void rig_read_spool(struct rig *r, const struct sandbox_attempt_id *a, enum sandbox_spool_kind kind,
		    char *buf, size_t size);
/* Layer request and its answer. */
void rig_layer(struct rig *r, const struct sealer_request *q);
