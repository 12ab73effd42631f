#pragma once
/*
 * What the courier understands of git's smart HTTP (gitprotocol-http(5), gitprotocol-pack(5)):
 * which requests are git, what a push would change, and how a push is told that it was refused.
 * Pure, fuzzed (`pkt_line`).
 *
 * Whether an update is a fast-forward is read from the pack that comes with it: it is one where a
 * walk over the pack's own commits from the new name reaches the old one. All else counts as
 * forced.
 */
#include "base/buffer.h"
#include "base/error.h"
#include "sandbox/action.h"

enum {
	GIT_PKT_MAX = 65520, /* bytes of one pkt-line, its length included */
	GIT_PACK_OBJECTS_MAX = 1 << 20, /* past it nothing is known to be a fast-forward */
	GIT_PACK_BYTES_MAX = 256 * 1024 * 1024, /* of inflated objects */
	GIT_COMMITS_BYTES_MAX = 64 * 1024 * 1024, /* of the commits among them */
	GIT_COMMIT_MAX = 1024 * 1024, /* bytes of one commit */
};

struct git_where {
	bool refs; /* GET …/info/refs?service=…; else POST …/git-…-pack */
	bool push; /* git-receive-pack */
	size_t path_len; /* of the action's path: the repository's */
};
/* Whether the request is smart HTTP over https on its usual port. */
bool git_recognise(const struct action *a, struct git_where *ret);
/* https://host/path. Appends. */
MUST_CHECK int git_remote(const struct action *a, const struct git_where *w, struct buffer *out);

enum git_pkt { GIT_PKT_DATA, GIT_PKT_FLUSH };
/* Takes one pkt-line off *in. -EBADMSG: malformed or cut short; delimiters of protocol v2 are. */
MUST_CHECK int git_pkt(struct bytes *in, enum git_pkt *ret_kind, struct bytes *ret_data);

struct git_push {
	struct action_update updates[ACTION_UPDATES_MAX]; /* borrowed from the body */
	size_t count; /* 0: only a flush, by which git asks whether it may push at all */
	bool report_status, sideband;
	struct bytes pack; /* the rest */
};
/* The body of a POST to git-receive-pack. force is set for all that removes nothing, makes nothing
 * and is no known fast-forward. -EBADMSG; -E2BIG past ACTION_UPDATES_MAX; -EOPNOTSUPP: a signed
 * push. */
MUST_CHECK int git_push_parse(struct bytes body, struct git_push *ret);
/* What git-receive-pack would answer that refuses every ref with `why` (one line). Appends. */
MUST_CHECK int git_push_refusal(const struct git_push *p, const char *why, struct buffer *out);

/* Sets force of each update that neither makes nor removes a ref and whose old name is not reached
 * from its new one by the pack's commits; clears it of the others. */
void git_pack_judge(struct bytes pack, struct action_update *updates, size_t count);
