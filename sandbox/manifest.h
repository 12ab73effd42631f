#pragma once
/*
 * A manifest: what one sealed layer (or a stack of them) changes over the base, path by path.
 * Written by the sealer, read by landing, diff and the digest of a step's result. Deterministic
 * CBOR (base/holdfast.cddl, `manifest`), entries sorted by the bytes of their paths, digest under
 * the domain "holdfast.manifest". Pure: part of sandbox_pure.
 *
 * Paths are bytes, relative to the workspace, without leading, trailing or doubled slashes, "." or
 * "..": a newline and invalid UTF-8 are legal in them, NUL is not. The workspace's own folder is
 * not an entry.
 *
 * Beside each path stands what the sealer SAW IN THE BASE there, so that landing can tell the
 * user's later edits from what the step started from. A removed folder is not one entry: every base
 * path that a whiteout, an opaque folder or a non-folder hides has its own (`implied`), because
 * each is decided by the policy's fs table again.
 */
#include "base/cbor.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/guard.h"

enum {
	MANIFEST_VERSION = 1,
	MANIFEST_ENTRIES_MAX =
		CBOR_COUNT_MAX, /* a longer layer does not seal: -E2BIG, exit status LIMIT */
	MANIFEST_PATH_MAX = 4095, /* bytes; PATH_MAX without its NUL */
	MANIFEST_TARGET_MAX = 4095, /* bytes of a symlink's target */
	MANIFEST_DEPTH_MAX = 200, /* components */
	MANIFEST_BYTES_MAX = 512 * 1024 * 1024, /* of one encoded manifest */
	MANIFEST_STACK_MAX = 128, /* layers that one request or mount names; options end near 104 */
	MANIFEST_MERGE_MAX = 16384, /* manifests merged at once */
};

#define MANIFEST_DOMAIN "holdfast.manifest"

/* Numbers are part of the format and never reused. */
enum manifest_type {
	MANIFEST_ABSENT = 0, /* only in `base`: nothing was there */
	MANIFEST_FILE = 1,
	MANIFEST_DIR = 2,
	MANIFEST_SYMLINK = 3,
	MANIFEST_WHITEOUT = 4, /* deleted; never in `base` */
	MANIFEST_FIFO = 5, /* 5 to 8 are named so that a person sees them; they never land */
	MANIFEST_SOCKET = 6,
	MANIFEST_CHAR = 7,
	MANIFEST_BLOCK = 8,
};

/* What stood at a path of the base when the layer was sealed. */
struct manifest_seen {
	enum manifest_type type;
	uint32_t mode; /* permission bits, 07777 */
	uint64_t size; /* bytes; files */
	bool has_digest; /* false for what could not be read, or a file past the sealer's limit */
	struct digest digest; /* SHA-256 of a file's content or of a symlink's target */
	int64_t ctime_ns; /* since 1970 */
	uint64_t ino;
};

struct manifest_entry {
	struct bytes path; /* owned by the manifest that holds it */
	enum manifest_type type;
	uint32_t mode; /* permission bits, 07777: setuid and setgid stand here and never land */
	int64_t mtime_ns; /* not of whiteouts */
	uint64_t size; /* bytes of a file, holes included; of a symlink's target */
	struct digest digest; /* SHA-256 of a file's whole content or of a symlink's target */
	struct bytes target; /* symlink */
	struct bytes link; /* the first path, in order, of the same inode of this layer; empty =
			      this is it */
	bool opaque; /* folder: nothing of the layers below shows through */
	bool implied; /* whiteout that stands for a path hidden by one of its ancestors' entries */
	struct manifest_seen base;
};

struct manifest; /* opaque, owned */

struct manifest *manifest_new(void); /* NULL when out of memory */
void manifest_free(struct manifest *m); /* accepts NULL */
DEFINE_GUARD(struct manifest *, manifest_free)

/* Copies e with its bytes. -EINVAL for a path that breaks the rules above, -E2BIG past a limit. */
MUST_CHECK int manifest_add(struct manifest *m, const struct manifest_entry *e, struct error *err);
/* Sorts; -EEXIST where a path is given twice. Needed before any of the functions below. */
MUST_CHECK int manifest_finish(struct manifest *m, struct error *err);

size_t manifest_count(const struct manifest *m);
const struct manifest_entry *manifest_at(const struct manifest *m, size_t i);
const struct manifest_entry *manifest_find(const struct manifest *m,
					   struct bytes path); /* or NULL */
/* Content bytes of the files: each inode once. */
uint64_t manifest_content_bytes(const struct manifest *m);

MUST_CHECK int manifest_encode(const struct manifest *m, struct buffer *out);
/* Strict: order, uniqueness, limits, and that each type has exactly the fields it needs. -EBADMSG,
 * -E2BIG. */
MUST_CHECK int manifest_decode(struct bytes b, struct manifest **ret, struct error *err);

enum manifest_merge_flags {
	MANIFEST_MERGE_SQUASH = 0, /* other layers lie below: every whiteout is kept */
	MANIFEST_MERGE_OVER_BASE = 1, /* the stack lies on the base itself: what only the stack made
					 and removed is gone */
};
/* The net change of a stack, bottom layer first: the topmost entry wins; a whiteout, a non-folder
 * and an opaque folder hide all below them; `base` is what the lowest layer that names the path
 * saw, the one nearest to what the run started from; link notes are made anew among what is left.
 * count may be 0. */
MUST_CHECK int manifest_merge(const struct manifest *const *stack, size_t count,
			      enum manifest_merge_flags flags, struct manifest **ret,
			      struct error *err);

/* What the sealer knows of a path that was gone when it looked, and that overlay had copied up: its
 * type, and neither content, inode nor times. No file has inode 0. */
static inline bool manifest_seen_gone(const struct manifest_seen *s)
{
	return (s->type == MANIFEST_FILE || s->type == MANIFEST_DIR) && s->ino == 0 &&
	       s->ctime_ns == 0 && !s->has_digest;
}
/* False where the base had the same type, permission bits and content: a copied-up folder, a file
 * touched only. */
bool manifest_entry_changes(const struct manifest_entry *e);
/* "file", "dir", …; for cards, diff and --json. */
const char *manifest_type_name(enum manifest_type t);
/* 0, -EINVAL or -ENAMETOOLONG (bytes or depth). */
MUST_CHECK int manifest_check_path(struct bytes path);
