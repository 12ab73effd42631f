#pragma once
/*
 * What keeper and sealer say to each other, and how the keeper starts one.
 *
 * holdfast-sealer lives inside a step's user namespace with capabilities over its files (mode 000
 * folders, overlay's work/work), one process for as long as that namespace is used; it has its own
 * executable because it parses what an agent left behind. It reads requests from descriptor 3, a
 * SOCK_SEQPACKET socket, and forks for each; answers come as they are ready, matched by `id`. End
 * of the socket ends it and its children. Nothing that it does needs to be undone: a request that
 * was cut off by a crash is sent again, and gives the same answer.
 *
 * One message = one datagram = one canonical CBOR map (base/holdfast.cddl, `sealer-request`,
 * `sealer-reply`), descriptors by SCM_RIGHTS. The encoders and decoders are pure.
 *
 * Each names layers, comes with descriptors in this order, and has its answer:
 *
 * - SEAL: the layer; layers folder, base folder: digest, entries, bytes. `m` is written and synced.
 * - REMOVE: the layer; layers folder: its content is gone. The keeper removes the folder.
 * - SQUASH: bottom to top; layers folder: as SEAL, for the fresh layer `into` (layers_create).
 * - USAGE: the layer; layers folder: bytes (blocks), entries (inodes); stops past a limit.
 * - OPEN: the layer; layers folder: a read-only descriptor of the file `path` in its upper folder.
 * - VIEW: bottom to top; layers folder: digest, entries, a sealed memfd with the merged manifest.
 *
 * The layers folder may be O_PATH. The base folder is opened as the step saw it: where its mount is
 * idmapped, that mount's descriptor, else the sealer reads it as a stranger.
 */
#include <sys/types.h>
#include "base/buffer.h"
#include "base/digest.h"
#include "base/error.h"
#include "sandbox/layers.h"
#include "sandbox/manifest.h"

enum {
	SEALER_FD = 3,
	SEALER_MESSAGE_MAX = 16 * 1024, /* bytes of one datagram */
	SEALER_JOBS_MAX = 8, /* requests at work; further ones wait in the socket */
	SEALER_PROTOCOL = 1,
};

enum sealer_op {
	SEALER_SEAL = 1,
	SEALER_REMOVE = 2,
	SEALER_SQUASH = 3,
	SEALER_USAGE = 4,
	SEALER_OPEN = 5,
	SEALER_VIEW = 6,
};

struct sealer_request {
	uint64_t id; /* chosen by the asker, echoed in the reply */
	enum sealer_op op;
	char names[MANIFEST_STACK_MAX][LAYERS_NAME_SIZE]; /* bottom first */
	size_t name_count;
	char into[LAYERS_NAME_SIZE]; /* SQUASH */
	struct bytes path; /* OPEN; borrowed */
	uint64_t bytes_max; /* SEAL: bytes of content hashed, holes included, past it -EFBIG; USAGE.
			       0 = no limit */
	uint64_t entries_max; /* SEAL, USAGE; 0 = MANIFEST_ENTRIES_MAX */
	bool over_base; /* VIEW: MANIFEST_MERGE_OVER_BASE */
};

struct sealer_reply {
	uint64_t id;
	int result; /* 0 or a negative errno */
	int exit_status; /* of the error, as in struct error */
	struct bytes message; /* why, where result is negative; borrowed from the datagram */
	struct digest digest;
	uint64_t entries;
	uint64_t bytes;
};

/* Number of descriptors that a request of this kind carries. */
size_t sealer_request_fds(enum sealer_op op);
MUST_CHECK int sealer_request_encode(const struct sealer_request *q, struct buffer *out);
/* -EPROTO, -EBADMSG, -E2BIG: the sealer ends on any of them, its peer is not the keeper it was
 * built for. */
MUST_CHECK int sealer_request_decode(struct bytes b, struct sealer_request *ret, struct error *err);
MUST_CHECK int sealer_reply_encode(const struct sealer_reply *r, struct buffer *out);
MUST_CHECK int sealer_reply_decode(struct bytes b, struct sealer_reply *ret, struct error *err);

/*
 * For the child that becomes the sealer: already in the user namespace (its credentials are uid and
 * gid inside, and it has all capabilities there), sock is its end of the pair, exe an open
 * descriptor of holdfast-sealer. Keeps only the capabilities that it needs, as ambient ones (execve
 * by another uid than 0 would drop them), closes all but 0, 1, 2 and SEALER_FD, and executes.
 * Returns only on failure, a negative errno. No allocation: usable after clone.
 */
int sealer_exec(int exe, int sock);
