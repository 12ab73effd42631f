#include "supervisor/intact.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/digest.h"
#include "base/escape.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/utf8.h"

enum { INTACT_PIECE = 128 * 1024 };

static bool noted(const struct runs_context *ctx, const char *layer)
{
	for (size_t i = ctx->intact_count; i-- > 0;)
		if (strcmp(ctx->intact[i], layer) == 0)
			return true;
	return false;
}

void intact_note(struct runs_context *ctx, const char *layer)
{
	void *grown;

	if (noted(ctx, layer))
		return;
	grown = reallocarray(ctx->intact, ctx->intact_count + 1, sizeof(*ctx->intact));
	if (!grown)
		return; /* it is compared again */
	ctx->intact = grown;
	snprintf(ctx->intact[ctx->intact_count++], sizeof(*ctx->intact), "%s", layer);
}

static const struct journal_step *step_that_made(const struct journal_run *run, const char *layer)
{
	for (uint32_t i = 0; i < run->step_count; i++)
		if (strcmp(run->steps[i]->layer, layer) == 0)
			return run->steps[i];
	return NULL;
}

static int damaged(const struct journal_run *run, const char *layer, const char *what,
		   struct error *err)
{
	const struct journal_step *s = step_that_made(run, layer);
	AUTO_FREE char *name = escape_dup(bytes_str(s && s->name ? s->name : "?"), ESCAPE_LINE);

	return error_set_exit(err, -EUCLEAN, EXIT_STATUS_SANDBOX,
			      "layer %s of step '%.40s' %.80s; put v1/layers/%s of the state "
			      "directory back from a copy, then 'holdfast resume' "
			      "or 'holdfast land'",
			      layer, name ? name : "", what, layer);
}

/* Of this process or machine: it says nothing of the layer, and passes. */
static bool is_shortage(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM;
}

static int unseen(const char *layer, int r, struct error *err)
{
	return error_set(err, r,
			 "layer %s cannot be looked at now: %s; raise the limit of open files, or "
			 "free memory",
			 layer, strerror(-r));
}

/* 1 it is, 0 it is not. */
static int is_opaque(int upper, const char *path)
{
	AUTO_FD fd = openat(upper, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char value = '\0';

	if (fd < 0 && is_shortage(-errno))
		return -errno;
	if (fd < 0)
		return errno == EACCES; /* the step took its own right away */
	return fgetxattr(fd, "user.overlay.opaque", &value, 1) == 1 && value == 'y';
}

static bool same_kind(const struct manifest_entry *e, const struct stat *st)
{
	if (e->type == MANIFEST_WHITEOUT)
		return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
	if ((st->st_mode & 07777) != e->mode && e->type != MANIFEST_SYMLINK)
		return false;
	switch (e->type) {
	case MANIFEST_FILE:
		return S_ISREG(st->st_mode) && (uint64_t)st->st_size == e->size;
	case MANIFEST_DIR:
		return S_ISDIR(st->st_mode);
	case MANIFEST_SYMLINK:
		return S_ISLNK(st->st_mode) && (uint64_t)st->st_size == e->target.len;
	case MANIFEST_FIFO:
		return S_ISFIFO(st->st_mode);
	case MANIFEST_SOCKET: /* copies leave them out, and nothing can be in one */
	case MANIFEST_CHAR:
	case MANIFEST_BLOCK:
	case MANIFEST_ABSENT:
	case MANIFEST_WHITEOUT:
		return true;
	}
	return true;
}

/* 1 it is, 0 it is not, or it cannot be read: the step took its own right away. */
static int is_other_content(int upper, const char *path, const struct manifest_entry *e,
			    struct digest_ctx *ctx)
{
	AUTO_FREE uint8_t *piece = malloc(INTACT_PIECE);
	AUTO_FD fd = io_open_beneath(upper, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0);
	struct digest is;
	ssize_t n;

	if (!piece)
		return -ENOMEM;
	if (fd < 0)
		return is_shortage(fd) ? fd : 0;
	digest_ctx_reset(ctx);
	while ((n = read(fd, piece, INTACT_PIECE)) > 0)
		digest_ctx_update(ctx, piece, (size_t)n);
	if (n < 0)
		return 1; /* EIO: the disk has lost it */
	digest_ctx_final(ctx, &is);
	return !digest_equal(&is, &e->digest);
}

/* Content as far as *left bytes go, which it takes of. 1 another, 0 not seen to be. */
static int compare_content(int upper, const char *path, const struct manifest_entry *e,
			   uint64_t *left)
{
	AUTO(digest_ctx_free) struct digest_ctx *ctx = NULL;

	if (e->type != MANIFEST_FILE || e->link.len > 0 || e->size > *left)
		return 0;
	ctx = digest_ctx_new();
	if (!ctx)
		return -ENOMEM;
	*left -= e->size;
	return is_other_content(upper, path, e, ctx);
}

/* 0, or 1 with what is wrong with it in shown. */
static int compare_entry(int upper, const struct manifest_entry *e, uint64_t *left, char *shown,
			 size_t size)
{
	AUTO_FREE char *path = bytes_dup_str(e->path);
	AUTO_FREE char *name = escape_dup(e->path, ESCAPE_LINE);
	struct stat st;
	int r;

	if (e->implied)
		return 0;
	if (!path || !name)
		return -ENOMEM;
	if (fstatat(upper, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (is_shortage(-errno))
			return -errno;
		if (errno == EACCES || (errno == ENOENT && e->type == MANIFEST_SOCKET))
			return 0;
		snprintf(shown, size, "has lost its %.*s", UTF8_SHORT(name, 60));
		return 1;
	}
	r = !same_kind(e, &st) ? 0 : e->opaque ? is_opaque(upper, path) : 1;
	if (r > 0) {
		r = compare_content(upper, path, e, left);
		r = r < 0 ? r : !r;
	}
	if (r != 0)
		return r < 0 ? r : 0;
	snprintf(shown, size, "has another %.*s than was sealed", UTF8_SHORT(name, 60));
	return 1;
}

static int compare(struct daemon *d, const struct journal_run *run, const char *layer, int upper,
		   uint64_t *left, struct error *err)
{
	const struct journal_step *s = step_that_made(run, layer);
	AUTO(manifest_free) struct manifest *m = NULL;
	AUTO_BUFFER bytes = {.max = MANIFEST_BYTES_MAX};
	AUTO_FD folder = io_open_beneath(d->layers_fd, layer, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	struct error why = {0};
	struct digest digest;
	char shown[96];
	int r = folder < 0 ? folder
			   : io_read_file_at(folder, LAYERS_MANIFEST, MANIFEST_BYTES_MAX, &bytes);

	if (is_shortage(r))
		return unseen(layer, r, err);
	if (r < 0)
		return damaged(run, layer, "has no manifest that can be read", err);
	digest_of(buffer_bytes(&bytes), &digest);
	if (s && !digest_equal(&digest, &s->manifest))
		return damaged(run, layer, "has another manifest than was sealed", err);
	r = manifest_decode(buffer_bytes(&bytes), &m, &why);
	if (is_shortage(r))
		return unseen(layer, r, err);
	if (r < 0)
		return damaged(run, layer, "has a manifest that cannot be read", err);
	for (size_t i = 0; i < manifest_count(m); i++) {
		r = compare_entry(upper, manifest_at(m, i), left, shown, sizeof(shown));
		if (r < 0)
			return unseen(layer, r, err);
		if (r > 0)
			return damaged(run, layer, shown, err);
	}
	return 0;
}

static int look_at(struct daemon *d, struct runs_context *ctx,
		   const char (*stack)[JOURNAL_LAYER_NAME_SIZE], size_t count, uint64_t left,
		   struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, &ctx->id);

	for (size_t i = 0; i < count; i++) {
		char path[JOURNAL_LAYER_NAME_SIZE + sizeof(LAYERS_UPPER) + 1];
		AUTO_FD upper = -1;
		int r = 0;

		snprintf(path, sizeof(path), "%s/" LAYERS_UPPER, stack[i]);
		upper = failpoint_hit("intact.open");
		if (upper == 0)
			upper = io_open_beneath(d->layers_fd, path,
						O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
		if (upper == -ENOENT)
			return damaged(run, stack[i], "is gone", err);
		if (is_shortage(upper))
			return unseen(stack[i], upper, err);
		if (upper < 0)
			return damaged(run, stack[i], "is no folder that can be opened", err);
		if (!noted(ctx, stack[i]))
			r = compare(d, run, stack[i], upper, &left, err);
		if (r < 0)
			return r;
		intact_note(ctx, stack[i]);
	}
	return 0;
}

int intact_stack(struct daemon *d, struct runs_context *ctx,
		 const char (*stack)[JOURNAL_LAYER_NAME_SIZE], size_t count, struct error *err)
{
	return look_at(d, ctx, stack, count, INTACT_HASHED_MAX, err);
}

int intact_landing(struct daemon *d, struct runs_context *ctx, struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, &ctx->id);
	size_t n = run ? engine_stack(run, NULL, NULL) : 0;
	AUTO_FREE const struct journal_step **steps = calloc(n + 1, sizeof(*steps));
	int r = 0;

	if (!steps)
		return error_nomem(err);
	if (n > 0)
		engine_stack(run, NULL, steps);
	ctx->intact_count = 0;
	for (size_t i = 0; i < n && r == 0; i++)
		r = look_at(d, ctx, &steps[i]->layer, 1, 0, err);
	return r;
}
