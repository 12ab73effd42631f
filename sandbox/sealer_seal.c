/*
 * SEAL: a walk along the upper folder and, in step with it, the base, in the order of the manifest:
 * by the bytes of whole paths, so that "a-b" comes between "a" and "a/c". Entries leave it sorted,
 * and the first path of a hard linked file is the first one met.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/escape.h"
#include "base/failpoint.h"
#include "base/guard.h"
#include "base/io.h"
#include "sandbox/sealer_work.h"

struct walk {
	struct manifest *manifest;
	struct digest_ctx *hash;
	struct buffer path; /* of the entry at work; the walk appends and cuts */
	struct sealer_tree_inodes inodes;
	uint64_t bytes;
	uint64_t bytes_max;
	uint64_t entries_max;
	size_t gone; /* entries whose base is what overlay's mark says (manifest_seen_gone) */
	struct error *err;
};

/* Where the walk stands: a folder of the layer, of the base, or both. */
struct place {
	int upper; /* -1: the layer has no folder here */
	int base; /* -1: nor has the base */
	bool hidden; /* nothing of the base shows through here: what it has and the layer has not is
			deleted */
	int depth;
};

/* A name as the walk comes by it: as an entry, and, as "name/", as a folder to go down into. */
struct item {
	char *name; /* owned by one of the two lists */
	bool down;
	bool in_upper;
};

static int fail(struct walk *w, int code, const char *what)
{
	AUTO_FREE char *shown = NULL;

	error_set(w->err, code, "seal: %s: %s", what, strerror(-code));
	shown = escape_dup(buffer_bytes(&w->path), ESCAPE_LINE);
	if (shown)
		error_where(w->err, "%s", shown);
	return code;
}

static int too_much(struct walk *w, int code, const char *what)
{
	return error_set_exit(w->err, code, EXIT_STATUS_LIMIT, "seal: %s", what);
}

static enum manifest_type type_of(const struct stat *st)
{
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		return MANIFEST_FILE;
	case S_IFDIR:
		return MANIFEST_DIR;
	case S_IFLNK:
		return MANIFEST_SYMLINK;
	case S_IFIFO:
		return MANIFEST_FIFO;
	case S_IFSOCK:
		return MANIFEST_SOCKET;
	case S_IFBLK:
		return MANIFEST_BLOCK;
	default:
		return MANIFEST_CHAR;
	}
}

static int open_file(int dir, const char *name)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	int fd = openat(dir, name, flags | O_NOATIME);

	if (fd < 0 && errno == EPERM)
		fd = openat(dir, name, flags);
	return fd < 0 ? -errno : fd;
}

static int read_target(int dir, const char *name, char *buf, struct bytes *ret)
{
	ssize_t n = readlinkat(dir, name, buf, MANIFEST_TARGET_MAX + 1);

	if (n < 0)
		return -errno;
	if (n > MANIFEST_TARGET_MAX)
		return -ENAMETOOLONG;
	*ret = bytes_of(buf, (size_t)n);
	return 0;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mode == b->st_mode && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* What the base has at name. It may change while it is read, or be unreadable to this user: then
 * there is no digest, and landing goes by the rest. A name that cannot even be looked at is an
 * error: its absence would be a guess. */
static int see_base(struct walk *w, int dir, const char *name, struct manifest_seen *ret)
{
	struct stat before;
	struct stat after;

	*ret = (struct manifest_seen){.type = MANIFEST_ABSENT};
	if (dir < 0)
		return 0;
	if (fstatat(dir, name, &before, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : fail(w, -errno, "the base");
	ret->type = type_of(&before);
	ret->mode = before.st_mode & 07777;
	ret->size = (uint64_t)before.st_size;
	ret->ctime_ns = sealer_tree_ns(before.st_ctim);
	ret->ino = before.st_ino;
	if (ret->type == MANIFEST_SYMLINK) {
		char target[MANIFEST_TARGET_MAX + 1];
		struct bytes t = bytes_of("", 0);

		if (read_target(dir, name, target, &t) == 0) {
			digest_of(t, &ret->digest);
			ret->has_digest = true;
		}
	} else if (ret->type == MANIFEST_FILE && ret->size <= SEALER_WORK_BASE_HASH_MAX) {
		AUTO_FD fd = open_file(dir, name);

		if (fd < 0 || fstat(fd, &after) < 0 || !same_file(&before, &after))
			return 0;
		if (sealer_tree_hash(fd, ret->size, w->hash, &ret->digest) < 0)
			return 0;
		ret->has_digest = fstat(fd, &after) == 0 && same_file(&before, &after);
	}
	return 0;
}

/* Overlay marks what it copied up, files of one name and folders, with where that came from (empty
 * for us, who may not decode a file handle); what is made new has no mark. */
static bool is_copied_up(int dir, const char *name, const struct stat *st)
{
	AUTO_FD fd = -1;

	if (S_ISREG(st->st_mode) && st->st_nlink == 1)
		fd = open_file(dir, name);
	else if (S_ISDIR(st->st_mode))
		fd = sealer_tree_enter(dir, name);
	return fd >= 0 && fgetxattr(fd, "user.overlay.origin", NULL, 0) >= 0;
}

/* The base has nothing at a path that was copied up: it was there when the step looked, if the step
 * did not rename it to here (forget_renamed). Of what it was, only its type is known. */
static void see_gone(struct walk *w, struct manifest_entry *e)
{
	e->base = (struct manifest_seen){.type = e->type, .mode = e->mode, .size = e->size};
	w->gone++;
}

/* Marks of overlay that would make the files here mean something else than they say. */
static int check_marks(struct walk *w, int fd, bool folder, bool *ret_opaque)
{
	char value[8];
	ssize_t n;

	*ret_opaque = false;
	if (fgetxattr(fd, folder ? "user.overlay.redirect" : "user.overlay.metacopy", value, 0) >=
	    0)
		return fail(w, -EBADMSG, "an overlay with redirects or metadata-only copies");
	if (!folder)
		return 0;
	n = fgetxattr(fd, "user.overlay.opaque", value, sizeof(value));
	if (n < 0)
		return errno == ENODATA || errno == ENOTSUP ? 0 : fail(w, -errno, "its attributes");
	if (n != 1 || value[0] != 'y')
		return fail(w, -EBADMSG, "an overlay mark of an unknown kind");
	*ret_opaque = true;
	return 0;
}

static int seal_file(struct walk *w, int dir, const char *name, const struct stat *st,
		     struct manifest_entry *e)
{
	struct stat after;
	bool opaque;
	int r;
	AUTO_FD fd = -1;

	w->bytes += (uint64_t)st->st_size;
	if (w->bytes_max && w->bytes > w->bytes_max)
		return too_much(
			w, -EFBIG,
			"the layer's files are larger than its disk limit allows, holes included");
	fd = open_file(dir, name);
	if (fd < 0)
		return fail(w, fd, "cannot be opened");
	r = check_marks(w, fd, false, &opaque);
	if (r < 0)
		return r;
	r = sealer_tree_hash(fd, (uint64_t)st->st_size, w->hash, &e->digest);
	if (r < 0)
		return fail(w, r, "cannot be read");
	if (fstat(fd, &after) < 0 || !same_file(st, &after))
		return fail(w, -EAGAIN, "changed while it was sealed");
	return 0;
}

static int add(struct walk *w, struct manifest_entry *e)
{
	if (manifest_count(w->manifest) >= w->entries_max)
		return too_much(w, -E2BIG, "the layer changes more paths than its limit allows");
	e->path = buffer_bytes(&w->path);
	return manifest_add(w->manifest, e, w->err);
}

/* One name of the upper folder. */
static int seal_entry(struct walk *w, const struct place *p, const char *name)
{
	char target[MANIFEST_TARGET_MAX + 1];
	struct manifest_entry e = {0};
	struct bytes link = {0};
	struct stat st;
	int r;

	if (fstatat(p->upper, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(w, -errno, "cannot be looked at");
	e.type = sealer_tree_is_whiteout(&st) ? MANIFEST_WHITEOUT : type_of(&st);
	e.mode = st.st_mode & 07777;
	e.mtime_ns = sealer_tree_ns(st.st_mtim);
	e.size = (uint64_t)st.st_size;
	if (st.st_nlink > 1 && e.type != MANIFEST_DIR && e.type != MANIFEST_WHITEOUT) {
		r = sealer_tree_inode(&w->inodes, st.st_ino, buffer_bytes(&w->path), &link);
		if (r < 0)
			return error_nomem(w->err);
		e.link = link;
	}
	if (e.type == MANIFEST_FILE && link.len > 0) {
		const struct manifest_entry *first = manifest_find(w->manifest, link);

		if (!first)
			return fail(w, -EBADMSG, "a hard link without its first path");
		e.digest = first->digest;
	} else if (e.type == MANIFEST_FILE) {
		r = seal_file(w, p->upper, name, &st, &e);
		if (r < 0)
			return r;
	} else if (e.type == MANIFEST_SYMLINK) {
		r = read_target(p->upper, name, target, &e.target);
		if (r < 0)
			return fail(w, r, "its target cannot be read");
	} else if (e.type == MANIFEST_DIR) {
		AUTO_FD fd = sealer_tree_enter(p->upper, name);

		if (fd < 0)
			return fail(w, fd, "cannot be opened");
		r = check_marks(w, fd, true, &e.opaque);
		if (r < 0)
			return r;
	}
	r = see_base(w, p->base, name, &e.base);
	if (r < 0)
		return r;
	if (e.base.type == MANIFEST_ABSENT && is_copied_up(p->upper, name, &st))
		see_gone(w, &e);
	return add(w, &e);
}

/* One name of the base that the layer hides. */
static int seal_hidden(struct walk *w, const struct place *p, const char *name)
{
	struct manifest_entry e = {.type = MANIFEST_WHITEOUT, .implied = true};
	int r = see_base(w, p->base, name, &e.base);

	if (r < 0 || e.base.type == MANIFEST_ABSENT)
		return r;
	return add(w, &e);
}

static int walk_place(struct walk *w, const struct place *p);

static int enter(struct walk *w, int dir, const char *name, int *ret)
{
	int fd = dir < 0 ? -ENOENT : sealer_tree_enter(dir, name);

	*ret = fd < 0 ? -1 : fd;
	/* Not a folder, a symlink, gone, or another file system mounted there, which no overlay
	 * shows. */
	if (fd >= 0 || fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV)
		return 0;
	return fail(w, fd, "cannot be opened");
}

static int seal_below(struct walk *w, const struct place *p, const char *name)
{
	AUTO_FD upper = -1;
	AUTO_FD base = -1;
	bool opaque = false;
	int r = enter(w, p->upper, name, &upper);

	if (r == 0)
		r = enter(w, p->base, name, &base);
	if (r == 0 && upper >= 0)
		r = check_marks(w, upper, true, &opaque);
	if (r < 0 || (upper < 0 && base < 0))
		return r;
	return walk_place(w, &(struct place){
				     .upper = upper,
				     .base = base,
				     .hidden = p->hidden || opaque || upper < 0,
				     .depth = p->depth + 1,
			     });
}

/* memcmp over what the item adds to the path: "a" < "a-b" < "a/". */
static int order(const void *a, const void *b)
{
	const struct item *x = a;
	const struct item *y = b;
	size_t i = 0;

	while (x->name[i] && x->name[i] == y->name[i])
		i++;
	int cx = x->name[i] ? (uint8_t)x->name[i] : x->down ? '/' : -1;
	int cy = y->name[i] ? (uint8_t)y->name[i] : y->down ? '/' : -1;

	return cx - cy;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Every name of the layer, and of the base where it is hidden, each as an entry and as a way down.
 */
static int list_items(const struct place *p, struct sealer_tree_names *upper,
		      struct sealer_tree_names *base, struct item **ret, size_t *ret_count)
{
	struct item *items;
	size_t n = 0;
	int r = 0;

	if (p->upper >= 0)
		r = sealer_tree_names(p->upper, MANIFEST_ENTRIES_MAX, upper);
	if (r == 0 && p->base >= 0 && p->hidden)
		r = sealer_tree_names(p->base, MANIFEST_ENTRIES_MAX, base);
	if (r != 0)
		return r < 0 ? r : -E2BIG;
	items = calloc((upper->count + base->count) * 2 + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	if (upper->count > 0)
		qsort(upper->name, upper->count, sizeof(*upper->name), by_name);
	for (size_t i = 0; i < upper->count; i++) {
		items[n++] = (struct item){upper->name[i], false, true};
		items[n++] = (struct item){upper->name[i], true, true};
	}
	for (size_t i = 0; i < base->count; i++) {
		if (upper->count > 0 && bsearch(&base->name[i], upper->name, upper->count,
						sizeof(*upper->name), by_name))
			continue;
		items[n++] = (struct item){base->name[i], false, false};
		items[n++] = (struct item){base->name[i], true, false};
	}
	qsort(items, n, sizeof(*items), order);
	*ret = items;
	*ret_count = n;
	return 0;
}

static int seal_item(struct walk *w, const struct place *p, const struct item *it)
{
	struct stat st;

	if (!it->down)
		return it->in_upper ? seal_entry(w, p, it->name) : seal_hidden(w, p, it->name);
	/* A plain file has nothing below, in the layer; but over a folder of the base it hides all
	 * of that. */
	if (it->in_upper && p->base < 0 &&
	    fstatat(p->upper, it->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
		return 0;
	return seal_below(w, p, it->name);
}

static int walk_place(struct walk *w, const struct place *p)
{
	struct sealer_tree_names upper = {0};
	struct sealer_tree_names base = {0};
	AUTO_FREE struct item *items = NULL;
	size_t count = 0;
	size_t cut = w->path.len;
	int r;

	if (p->depth > MANIFEST_DEPTH_MAX)
		return too_much(w, -E2BIG, "the layer has folders deeper than the limit");
	r = list_items(p, &upper, &base, &items, &count);
	if (r < 0)
		r = r == -ENOMEM ? error_nomem(w->err)
		    : r == -E2BIG
			    ? too_much(w, r,
				       "the layer has a folder with more names than the limit")
			    : fail(w, r, "cannot be listed");
	for (size_t i = 0; i < count && r == 0; i++) {
		w->path.len = cut;
		if (cut > 0)
			buffer_append_byte(&w->path, '/');
		r = buffer_append_str(&w->path, items[i].name);
		if (r < 0) {
			r = r == -E2BIG
				    ? too_much(w, r, "the layer has a path longer than the limit")
				    : error_nomem(w->err);
			break;
		}
		r = seal_item(w, p, &items[i]);
	}
	w->path.len = cut;
	sealer_tree_names_free(&upper);
	sealer_tree_names_free(&base);
	return r;
}

int sealer_seal_write(int layer, const struct manifest *m, bool sync, struct sealer_done *ret,
		      struct error *err)
{
	static const char fresh[] = LAYERS_MANIFEST "-";
	AUTO_BUFFER bytes = {.max = MANIFEST_BYTES_MAX};
	AUTO_FD fd = -1;
	int r = manifest_encode(m, &bytes);

	if (r < 0)
		return error_set_exit(err, r, r == -E2BIG ? EXIT_STATUS_LIMIT : 0,
				      "seal: the manifest is too long, or memory is short: %s",
				      strerror(-r));
	if (unlinkat(layer, fresh, 0) < 0 && errno != ENOENT)
		return error_set(err, -errno, "seal: cannot write the manifest: %s",
				 strerror(errno));
	fd = openat(layer, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : io_write_all(fd, bytes.data, bytes.len);
	if (r == 0)
		r = failpoint_hit("sealer.before_rename");
	if (r == 0 && renameat(layer, fresh, layer, LAYERS_MANIFEST) < 0)
		r = -errno;
	if (r == 0)
		r = failpoint_hit("sealer.before_sync");
	/* One sync for all files and the manifest. A layer that changed nothing is not part of any
	 * stack: it costs none. */
	if (r == 0 && sync && manifest_count(m) > 0 && syncfs(fd) < 0)
		r = -errno;
	if (r == 0)
		r = failpoint_hit("sealer.after_sync");
	if (r < 0)
		return error_set(err, r, "seal: cannot write the manifest: %s", strerror(-r));
	digest_domain(MANIFEST_DOMAIN, buffer_bytes(&bytes), &ret->digest);
	ret->entries = manifest_count(m);
	ret->bytes = manifest_content_bytes(m);
	return 0;
}

static int by_base_digest(const void *a, const void *b)
{
	const struct manifest_entry *x = *(const struct manifest_entry *const *)a;
	const struct manifest_entry *y = *(const struct manifest_entry *const *)b;

	return memcmp(&x->base.digest, &y->base.digest, sizeof(x->base.digest));
}

static bool is_in_base(const struct manifest_entry *const *seen, size_t count,
		       const struct manifest_entry *e)
{
	const struct manifest_entry key = {.base.digest = e->digest};
	const struct manifest_entry *at = &key;

	return e->type == MANIFEST_FILE && count > 0 &&
	       bsearch(&at, seen, count, sizeof(*seen), by_base_digest);
}

/* A file that the step renamed takes its mark along, to where the base never had one: it holds what
 * the base has at another path that the step changed. */
static int forget_renamed(struct walk *w)
{
	size_t count = manifest_count(w->manifest);
	AUTO(manifest_free) struct manifest *kept = manifest_new();
	AUTO_FREE const struct manifest_entry **seen = calloc(count + 1, sizeof(*seen));
	size_t seen_count = 0;
	int r = 0;

	if (!kept || !seen)
		return error_nomem(w->err);
	for (size_t i = 0; i < count; i++) {
		const struct manifest_entry *e = manifest_at(w->manifest, i);

		if (e->base.type == MANIFEST_FILE && e->base.has_digest)
			seen[seen_count++] = e;
	}
	if (seen_count > 0)
		qsort(seen, seen_count, sizeof(*seen), by_base_digest);
	for (size_t i = 0; i < count && r == 0; i++) {
		struct manifest_entry e = *manifest_at(w->manifest, i);

		if (manifest_seen_gone(&e.base) && is_in_base(seen, seen_count, &e))
			e.base = (struct manifest_seen){.type = MANIFEST_ABSENT};
		r = manifest_add(kept, &e, w->err);
	}
	if (r == 0)
		r = manifest_finish(kept, w->err);
	if (r < 0)
		return r;
	manifest_free(w->manifest);
	w->manifest = take_ptr(kept);
	return 0;
}

static int seal_walk(struct walk *w, int upper, int base)
{
	int r;

	w->manifest = manifest_new();
	w->hash = digest_ctx_new();
	if (!w->manifest || !w->hash)
		return error_nomem(w->err);
	r = walk_place(w, &(struct place){.upper = upper, .base = base});
	if (r < 0)
		return r;
	r = manifest_finish(w->manifest, w->err);
	if (r == 0 && w->gone > 0)
		r = forget_renamed(w);
	if (r < 0)
		return r;
	r = failpoint_hit("sealer.walked");
	return r < 0 ? error_set(w->err, r, "seal: %s", strerror(-r)) : 0;
}

/* Overlay leaves a folder of mode 000 in it, which nobody but this user namespace can take away: a
 * sealed layer is never written to again, and `rm -r` of the state directory shall do. Whatever
 * cannot go now goes with the layer. */
static void remove_work(int layer)
{
	AUTO_FD work = sealer_tree_enter(layer, LAYERS_WORK);

	if (work >= 0 && sealer_remove_below(work, NULL) == 0)
		(void)unlinkat(layer, LAYERS_WORK, AT_REMOVEDIR);
}

int sealer_seal_run(int layers, int base, const struct sealer_request *q, struct sealer_done *ret,
		    struct error *err)
{
	struct walk w = {
		.path = {.max = MANIFEST_PATH_MAX * 2},
		.bytes_max = q->bytes_max,
		.entries_max = q->entries_max ? q->entries_max : MANIFEST_ENTRIES_MAX,
		.err = err,
	};
	AUTO_FD layer = sealer_tree_enter(layers, q->names[0]);
	AUTO_FD upper = layer < 0 ? layer : sealer_tree_enter(layer, LAYERS_UPPER);
	int r;

	if (upper < 0)
		return error_set(err, upper, "seal: layer %s cannot be opened: %s", q->names[0],
				 strerror(-upper));
	r = seal_walk(&w, upper, base);
	if (r == 0)
		r = sealer_seal_write(layer, w.manifest, true, ret, err);
	if (r == 0)
		remove_work(layer);
	manifest_free(w.manifest);
	digest_ctx_free(w.hash);
	sealer_tree_inodes_free(&w.inodes);
	buffer_free(&w.path);
	return r;
}
