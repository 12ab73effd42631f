#include "supervisor/program.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/path.h"
#include "supervisor/confine.h"
#include "supervisor/runs.h"
#include "sandbox/sandbox.h"

enum { PATH_SIZE = 4096, LINKS_MAX = 40, SETTLED_NS = 2000000000 };

struct remembered {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec ctime;
	struct digest digest;
};

struct programs {
	struct remembered files[PROGRAM_CACHED];
	size_t count, next;
};

int programs_new(struct programs **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

void programs_free(struct programs *p)
{
	free(p);
}

/* ---- a file ---- */

static int hash_range(int fd, off_t at, off_t end, struct digest_ctx *c)
{
	char piece[65536];

	while (at < end) {
		size_t want = end - at < (off_t)sizeof(piece) ? (size_t)(end - at) : sizeof(piece);
		ssize_t n = pread(fd, piece, want, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		digest_ctx_update(c, piece, (size_t)n);
		at += n;
	}
	return 0;
}

static int hash_file(int fd, off_t size, struct digest *ret)
{
	struct digest_ctx *c = digest_ctx_new();
	char head[64];
	int r;

	if (!c)
		return -ENOMEM;
	if (size <= PROGRAM_WHOLE_MAX) {
		r = hash_range(fd, 0, size, c);
	} else {
		snprintf(head, sizeof(head), "holdfast.large-program %lld", (long long)size);
		digest_ctx_update(c, head, strlen(head) + 1);
		r = hash_range(fd, 0, PROGRAM_PART, c);
		if (r == 0)
			r = hash_range(fd, size - PROGRAM_PART, size, c);
	}
	if (r == 0)
		digest_ctx_final(c, ret);
	digest_ctx_free(c);
	return r;
}

static bool same_file(const struct remembered *m, const struct stat *st)
{
	return m->dev == st->st_dev && m->ino == st->st_ino && m->size == st->st_size &&
	       m->ctime.tv_sec == st->st_ctim.tv_sec && m->ctime.tv_nsec == st->st_ctim.tv_nsec;
}

/* fd: any, also O_PATH. 1, or 0 where it is nothing that can be executed or read. */
static int digest_fd(struct programs *p, int fd, struct digest *ret)
{
	char link[64];
	struct stat st;
	AUTO_FD file = -1;
	int64_t age_ns;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & 0111))
		return 0;
	for (size_t i = 0; i < p->count; i++)
		if (same_file(&p->files[i], &st)) {
			*ret = p->files[i].digest;
			return 1;
		}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	file = open(link, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (file < 0 || hash_file(file, st.st_size, ret) < 0)
		return 0;
	/* Written twice within one tick of the file system's clock, it would look the same. */
	age_ns = daemon_now().wall_ns -
		 ((int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec);
	if (age_ns < SETTLED_NS)
		return 1;
	p->files[p->next] = (struct remembered){st.st_dev, st.st_ino, st.st_size, st.st_ctim, *ret};
	p->next = (p->next + 1) % PROGRAM_CACHED;
	if (p->count < PROGRAM_CACHED)
		p->count++;
	return 1;
}

/* ---- the workspace as the step sees it ---- */

struct view {
	struct daemon *d;
	const struct journal_run *run;
	const struct journal_step *below;
	const char *workspace;
	int base_fd; /* borrowed; -1 = cannot be opened now */
	bool loaded;
	struct manifest **layers; /* bottom first */
	size_t count;
};

static void view_free(struct view *v)
{
	for (size_t i = 0; i < v->count; i++)
		manifest_free(v->layers[i]);
	free(v->layers);
}

/* Only a program in the workspace needs them. */
static int load_layers(struct view *v)
{
	size_t n = engine_stack(v->run, v->below, NULL);
	AUTO_FREE const struct journal_step **steps = calloc(n + 1, sizeof(*steps));

	if (v->loaded)
		return 0;
	v->layers = calloc(n + 1, sizeof(*v->layers));
	if (!steps || !v->layers)
		return -ENOMEM;
	engine_stack(v->run, v->below, steps);
	for (size_t i = 0; i < n; i++) {
		AUTO_BUFFER b = {.max = MANIFEST_BYTES_MAX};
		int r = journal_blob_get(v->d->journal, &steps[i]->manifest, MANIFEST_BYTES_MAX, &b,
					 NULL);

		if (r == 0)
			r = manifest_decode(buffer_bytes(&b), &v->layers[i], NULL);
		if (r < 0)
			return r;
		v->count++;
	}
	v->loaded = true;
	return 0;
}

enum seen { SEEN_NOTHING, SEEN_BASE, SEEN_FOLDER, SEEN_FILE, SEEN_LINK };

struct shown { /* what of the layers below shows through the folders walked so far */
	size_t from; /* layers from this one up */
	bool base;
};

/* What one path of the layers is. */
static enum seen look_in_layers(const struct view *v, const char *rel, struct shown *shown,
				const struct manifest_entry **ret)
{
	bool folder = false;

	for (size_t i = v->count; i-- > shown->from;) {
		const struct manifest_entry *e = manifest_find(v->layers[i], bytes_str(rel));

		if (!e)
			continue;
		if (e->type == MANIFEST_DIR && !e->opaque) {
			folder = true;
			continue;
		}
		if (folder || e->type == MANIFEST_DIR) {
			/* An opaque folder, or what the folder above it hides. */
			*shown = (struct shown){.from = e->type == MANIFEST_DIR ? i : i + 1};
			return SEEN_FOLDER;
		}
		*ret = e;
		return e->type == MANIFEST_FILE	     ? SEEN_FILE
		       : e->type == MANIFEST_SYMLINK ? SEEN_LINK
						     : SEEN_NOTHING;
	}
	return folder ? SEEN_FOLDER : shown->base ? SEEN_BASE : SEEN_NOTHING;
}

/* Lexically, as confine.c does. */
static int join(char ret[PATH_SIZE], const char *folder, const char *path)
{
	char joined[2 * PATH_SIZE], *save = NULL;
	size_t n = 0;

	if ((size_t)snprintf(joined, sizeof(joined), "%s/%s", path[0] == '/' ? "" : folder, path) >=
	    PATH_SIZE)
		return -ENAMETOOLONG;
	ret[0] = '\0';
	for (char *part = strtok_r(joined, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		if (strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			while (n > 0 && ret[--n] != '/')
				;
			ret[n] = '\0';
			continue;
		}
		n += (size_t)snprintf(ret + n, PATH_SIZE - n, "/%s", part);
	}
	return 0;
}

/* path[0..end) was a link to target: path becomes where it leads. */
static int follow(char path[PATH_SIZE], size_t end, struct bytes target)
{
	char folder[PATH_SIZE], next[2 * PATH_SIZE];

	snprintf(folder, sizeof(folder), "%.*s", (int)end, path);
	*strrchr(folder, '/') = '\0';
	if ((size_t)snprintf(next, sizeof(next), "%.*s%s", (int)target.len,
			     (const char *)target.data, path + end) >= PATH_SIZE)
		return -ENAMETOOLONG;
	return join(path, folder, next);
}

enum { FOUND = 1, ELSEWHERE = 2 };

static int digest_in_base(const struct view *v, const char *rel, struct digest *ret)
{
	AUTO_FD fd = openat(v->base_fd, rel, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? 0 : digest_fd(v->d->programs, fd, ret);
}

/* FOUND, 0, ELSEWHERE (a link was followed: *path says where to), or a negative errno. */
static int look_in_workspace(struct view *v, char path[PATH_SIZE], struct digest *ret)
{
	struct shown shown = {.base = true};
	size_t at = strlen(v->workspace);
	int r = load_layers(v);

	if (r < 0)
		return r;
	for (;;) {
		const char *rel = path + strlen(v->workspace) + 1;
		size_t end = at + 1 + strcspn(path + at + 1, "/");
		bool last = path[end] == '\0';
		const struct manifest_entry *e = NULL;
		char name[PATH_SIZE], target[PATH_SIZE];
		ssize_t n;

		snprintf(name, sizeof(name), "%.*s", (int)(path + end - rel), rel);
		switch (look_in_layers(v, name, &shown, &e)) {
		case SEEN_NOTHING:
			return 0;
		case SEEN_FILE:
			if (!last || !(e->mode & 0111))
				return 0;
			*ret = e->digest;
			return FOUND;
		case SEEN_LINK:
			r = follow(path, end, e->target);
			return r < 0 ? r : ELSEWHERE;
		case SEEN_FOLDER:
			break;
		case SEEN_BASE:
			n = v->base_fd < 0 ? -1
					   : readlinkat(v->base_fd, name, target, sizeof(target));
			if (n >= 0) {
				r = follow(path, end, bytes_of(target, (size_t)n));
				return r < 0 ? r : ELSEWHERE;
			}
			if (last)
				return v->base_fd < 0 ? 0 : digest_in_base(v, name, ret);
			break;
		}
		if (last)
			return 0; /* a folder */
		at = end;
	}
}

/* FOUND, 0, ELSEWHERE: a link of the host leads into the workspace. */
static int look_in_host(struct view *v, char path[PATH_SIZE], struct digest *ret)
{
	AUTO_FD fd = open(path, O_PATH | O_CLOEXEC);
	char link[64], real[PATH_SIZE];
	ssize_t n;

	if (fd < 0)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, real, sizeof(real) - 1);
	if (n > 0) {
		real[n] = '\0';
		if (path_within(real, v->workspace)) {
			strcpy(path, real);
			return ELSEWHERE;
		}
	}
	return digest_fd(v->d->programs, fd, ret);
}

static int look(struct view *v, const char *folder, const char *name, struct digest *ret)
{
	char path[PATH_SIZE];
	int r = join(path, folder, name);

	for (int links = 0; r == 0 && links < LINKS_MAX; links++) {
		int found = path_within(path, v->workspace) ? look_in_workspace(v, path, ret)
							    : look_in_host(v, path, ret);

		if (found != ELSEWHERE)
			return found;
	}
	return r;
}

/* ---- which program ---- */

static const char *path_of(const struct runs_context *ctx, const struct plan_step *spec)
{
	for (size_t i = 0; i < spec->env_count; i++)
		if (strcmp(spec->env[i].name, "PATH") == 0)
			return spec->env[i].value;
	for (char **e = ctx->settings.env; e && *e; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			return *e + 5;
	return CONFINE_DEFAULT_PATH;
}

static int look_in_path(struct view *v, const char *path, const char *name, struct digest *ret)
{
	while (*path) {
		const char *end = strchrnul(path, ':');
		char folder[PATH_SIZE];
		int r = 0;

		if (end > path && path[0] == '/' &&
		    (size_t)snprintf(folder, sizeof(folder), "%.*s", (int)(end - path), path) <
			    sizeof(folder))
			r = look(v, folder, name, ret);
		if (r != 0)
			return r;
		path = *end ? end + 1 : end;
	}
	return 0;
}

int program_digest(struct daemon *d, const struct journal_run *run,
		   const struct journal_step *below, const struct plan_step *spec,
		   struct digest *ret)
{
	struct view v = {
		.d = d, .run = run, .below = below, .workspace = run->workspace, .base_fd = -1};
	const char *name = spec->argv && spec->argv[0] ? spec->argv[0] : "";
	struct runs_context *ctx;
	struct digest found;
	char cwd[PATH_SIZE];
	int r = 0;

	if (!v.workspace || !*name || runs_get(d, &run->id, &ctx, NULL) < 0 ||
	    join(cwd, v.workspace, spec->cwd ? spec->cwd : ".") < 0)
		return 0;
	if (runs_base(d, ctx, &v.base_fd, NULL) < 0)
		v.base_fd = -1;
	r = strchr(name, '/') ? look(&v, cwd, name, &found)
			      : look_in_path(&v, path_of(ctx, spec), name, &found);
	view_free(&v);
	if (r != FOUND)
		return 0;
	*ret = found;
	return 1;
}
