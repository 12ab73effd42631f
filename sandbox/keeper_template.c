/*
 * What the host has at the places of a spec, and the templates that stand on it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include "base/io.h"
#include "base/path.h"
#include "sandbox/keeper.h"
#include "sandbox/sys.h"

enum { TREES_BATCH = INIT_FD_BATCH - 1, MOUNTINFO_MAX = 8 << 20 };

/* ---- looking ---- */

static void look_stat(const struct stat *st, struct plan_seen *ret)
{
	ret->dev = st->st_dev;
	ret->ino = st->st_ino;
	ret->type = S_ISDIR(st->st_mode)   ? PLAN_DIR
		    : S_ISREG(st->st_mode) ? PLAN_FILE
		    : S_ISCHR(st->st_mode) ? PLAN_DEVICE
		    : S_ISLNK(st->st_mode) ? PLAN_SYMLINK
					   : PLAN_OTHER;
}

static int look(const char *path, struct plan_seen *ret, struct stat *ret_st)
{
	if (lstat(path, ret_st) < 0) {
		ret->type = PLAN_MISSING;
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	}
	look_stat(ret_st, ret);
	return 0;
}

/* The first mount point in the folder path, as mountinfo(5) writes it (odd bytes in octal), or
 * false. What cannot be read is as if there were none: the kernel has the last word. */
static bool mount_below(const char *path, char *ret, size_t size)
{
	AUTO_BUFFER text = {.max = MOUNTINFO_MAX};
	AUTO_FD fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	size_t len = strlen(path);
	char *rest = NULL;

	if (fd < 0 || io_read_all(fd, MOUNTINFO_MAX, &text) < 0 ||
	    buffer_append_byte(&text, '\0') < 0)
		return false;
	for (char *line = strtok_r((char *)text.data, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		int at = 0, end = 0;
		/* id, parent, device, root, mount point */
		if (sscanf(line, "%*d %*d %*s %*s %n%*s%n", &at, &end) < 0 || end <= at)
			continue;
		line[end] = '\0';
		if (strncmp(line + at, path, len) != 0 || line[(size_t)at + len] != '/')
			continue;
		snprintf(ret, size, "%s", line + at);
		return true;
	}
	return false;
}

static int fd_path(int fd, char *buf, size_t size)
{
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(name, buf, size - 1);
	if (n < 0)
		return -errno;
	if ((size_t)n >= size - 1 || buf[0] != '/')
		return -ENAMETOOLONG;
	buf[n] = '\0';
	return 0;
}

void prepared_free(struct prepared *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < SANDBOX_MOUNTS_MAX; i++)
		free(p->links[i]);
	for (size_t i = 0; i < PLAN_MASKS_MAX; i++)
		free(p->masks[i]);
	free(p);
}

static int add_mask(struct prepared *p, const char *target, const char *suffix)
{
	if (p->in.mask_count >= PLAN_MASKS_MAX)
		return -E2BIG;
	bool root = strcmp(target, "/") == 0;
	if (asprintf(&p->masks[p->in.mask_count], "%s%s", root ? "" : target, suffix) < 0)
		return -ENOMEM;
	p->in.mask_count++;
	return 0;
}

/* The ancestors of the hidden folders, as they are now. */
static void look_at_hidden(struct keeper *k, struct prepared *p)
{
	for (size_t h = 0; h < ARRAY_SIZE(k->hidden); h++) {
		const char *path = k->hidden[h].path;
		size_t len = strlen(path);
		for (size_t n = 1; n <= len && p->ancestor_count < PREPARED_ANCESTORS_MAX; n++) {
			char prefix[SANDBOX_PATH_MAX + 1];
			struct stat st;
			if (path[n] != '/' && path[n] != '\0' && n > 1)
				continue;
			memcpy(prefix, path, n);
			prefix[n] = '\0';
			if (stat(prefix, &st) == 0)
				p->ancestors[p->ancestor_count++] =
					(struct ancestor){st.st_dev, st.st_ino,
							  n == 1 ? path : path + n};
		}
	}
}

/* Where source really is, whatever links lead to it; its last component is not followed. */
static int real_path(const char *source, const struct plan_seen *seen, char *buf, size_t size)
{
	struct stat st;
	AUTO_FD fd = open(source, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != seen->dev || st.st_ino != seen->ino)
		return -ESTALE;
	return fd_path(fd, buf, size);
}

/* What lies in a hidden folder is refused, be it a file or reached by a link. What contains one
 * gets a mask at its place: compared by device and inode, so that a bind mount of it is seen too.
 */
static int hide(struct keeper *k, struct prepared *p, const char *source,
		const struct plan_seen *seen, const char *target, struct error *err)
{
	char real[PATH_MAX];
	int found = real_path(source, seen, real, sizeof(real));

	if (found < 0)
		return error_set(err, found, "sandbox: '%s': %s", source, strerror(-found));
	for (size_t h = 0; h < ARRAY_SIZE(k->hidden); h++) {
		if (path_within(real, k->hidden[h].path))
			return error_set(err, -EPERM,
					 "sandbox: '%s' lies in Holdfast's own folder: nothing of "
					 "it is ever seen inside",
					 source);
	}
	for (size_t i = 0; i < p->ancestor_count; i++) {
		if (p->ancestors[i].dev != seen->dev || p->ancestors[i].ino != seen->ino)
			continue;
		int r = add_mask(p, target, p->ancestors[i].rest);
		if (r < 0)
			return error_set(err, r, "sandbox: too many places to mask");
	}
	return 0;
}

static int prepare_mount(struct keeper *k, struct prepared *p, size_t i, struct error *err)
{
	const struct sandbox_mount *m = &p->in.spec->mounts[i];
	struct plan_seen *seen = &p->seen[i];
	struct stat st;
	char link[PATH_MAX];

	if (!m->source)
		return 0;
	int r = look(m->source, seen, &st);
	if (r < 0)
		return error_set(err, r, "sandbox: '%s': %s", m->source, strerror(-r));
	switch (seen->type) {
	case PLAN_MISSING:
		return m->optional ? 0
				   : error_set(err, -ENOENT,
					       "sandbox: '%s' is not there; grant what exists",
					       m->source);
	case PLAN_SYMLINK: {
		ssize_t n = readlink(m->source, link, sizeof(link) - 1);
		if (n < 0)
			return error_set(err, -errno, "sandbox: '%s': %s", m->source,
					 strerror(errno));
		link[n] = '\0';
		p->links[i] = strdup(link);
		seen->link = p->links[i];
		return p->links[i] ? 0 : error_nomem(err);
	}
	case PLAN_DEVICE:
	case PLAN_OTHER:
		if (m->kind != SANDBOX_MOUNT_RW || seen->type == PLAN_DEVICE)
			return error_set(err, -EPERM, "sandbox: '%s' is a device, socket or FIFO",
					 m->source);
		break;
	case PLAN_FILE:
	case PLAN_DIR:
		break;
	}
	if (m->kind == SANDBOX_MOUNT_SYSTEM && seen->type == PLAN_DIR && (st.st_mode & 022) &&
	    !(st.st_mode & S_ISVTX))
		return error_set(
			err, -EPERM,
			"sandbox: '%s' can be written by others than its owner: not a system tree",
			m->source);
	if ((m->kind == SANDBOX_MOUNT_SYSTEM && strcmp(m->target, "/etc") == 0) ||
	    plan_etc_below(p->in.spec, m))
		seen->mounts_below = mount_below(m->source, link, sizeof(link));
	return hide(k, p, m->source, seen, m->target, err);
}

/* A pinned base (v1/pins/NAME): a copy of a user's folder that lies beside the layers, and the one
 * thing of the state folder that may be a base. */
static bool is_pin(const struct keeper *k, const char *path)
{
	size_t v1 = strlen(k->layers_path) - strlen("/layers");
	const char *name = path + v1 + strlen("/pins/");

	return strncmp(path, k->layers_path, v1) == 0 &&
	       strncmp(path + v1, "/pins/", strlen("/pins/")) == 0 && name[0] && !strchr(name, '/');
}

static int prepare_workspace(struct keeper *k, struct prepared *p, struct error *err)
{
	const struct sandbox_workspace *w = &p->in.spec->workspace;
	struct stat st, again;

	if (w->mode == SANDBOX_WORKSPACE_NONE)
		return 0;
	int r = fd_path(w->base_fd, p->base_path, sizeof(p->base_path));
	if (r == 0 && (fstat(w->base_fd, &st) < 0 || stat(p->base_path, &again) < 0))
		r = -errno;
	else if (r == 0 && (st.st_dev != again.st_dev || st.st_ino != again.st_ino))
		r = -ESTALE;
	else if (r == 0 && !S_ISDIR(st.st_mode))
		r = -ENOTDIR;
	if (r != 0)
		return error_set(err, r, "sandbox: the workspace's folder: %s", strerror(-r));
	look_stat(&st, &p->in.base);
	p->in.base_path = p->base_path;
	return is_pin(k, p->base_path) ? 0 : hide(k, p, p->base_path, &p->in.base, w->target, err);
}

/* A source below what a step may write, or may have landed in, is where its name says: a link on the
 * way to it could be a step's own. Compared is what was looked at, by where it really is, so that
 * nothing that is exchanged meanwhile counts. */
static int stays_below(const char *source, const struct plan_seen *seen, const char *above,
		       const char *above_real, struct error *err)
{
	char real[PATH_MAX], expected[2 * PATH_MAX];

	if (strcmp(source, above) == 0 || !path_within(source, above))
		return 0;
	const char *rest = source + (strcmp(above, "/") == 0 ? 0 : strlen(above));
	snprintf(expected, sizeof(expected), "%s%s", strcmp(above_real, "/") == 0 ? "" : above_real,
		 rest);
	int r = real_path(source, seen, real, sizeof(real));
	if (r == 0 && strcmp(real, expected) != 0)
		r = -ELOOP;
	return r < 0 ? error_set(err, r,
				 "sandbox: '%s' is reached by a link below '%s', where steps may "
				 "write: it is not followed; grant the folder that it leads to",
				 source, above)
		     : 0;
}

static int prepare_places(struct prepared *p, struct error *err)
{
	const struct sandbox_spec *s = p->in.spec;
	const char *target = s->workspace.target;
	char workspace[PATH_MAX], real[PATH_MAX];
	/* A pinned base is a copy: what is granted below the workspace is not. */
	bool at_target = s->workspace.mode != SANDBOX_WORKSPACE_NONE && realpath(target, workspace);
	int r = 0;

	for (size_t i = 0; i < s->mount_count && r == 0; i++) {
		const char *source = s->mounts[i].source;
		if (!source || p->seen[i].type == PLAN_MISSING)
			continue;
		if (at_target)
			r = stays_below(source, &p->seen[i], target, workspace, err);
		for (size_t k = 0; k < s->mount_count && r == 0; k++) {
			const char *above = s->mounts[k].source;
			if (s->mounts[k].kind != SANDBOX_MOUNT_RW || k == i ||
			    p->seen[k].type != PLAN_DIR || !path_within(source, above))
				continue;
			r = real_path(above, &p->seen[k], real, sizeof(real));
			r = r < 0 ? error_set(err, r, "sandbox: '%s': %s", above, strerror(-r))
				  : stays_below(source, &p->seen[i], above, real, err);
		}
	}
	return r;
}

int template_prepare(struct keeper *k, struct userns *u, const struct sandbox_spec *s,
		     struct prepared **ret, struct error *err)
{
	struct stat st;

	/* The state directory may have been moved since. */
	int moved = keeper_look_at_folders(k, err);
	if (moved < 0)
		return moved;
	AUTO(prepared_free) struct prepared *p = calloc(1, sizeof(*p));
	if (!p)
		return error_nomem(err);
	p->in = (struct plan_input){.spec = s,
				    .mounts = p->seen,
				    .layers_path = k->layers_path,
				    .spool_path = k->spool_path,
				    .masks = (const char *const *)p->masks,
				    .uid = u->in_uid,
				    .gid = u->in_gid,
				    .trees_come = k->privileged,
				    .idmap = userns_is_idmapped(u),
				    .memory_sampled =
					    !(s->without_walls & SANDBOX_WALL_PIDS) &&
					    limits_host_forms(k->limits).memory <= LIMITS_SAMPLED};
	look_at_hidden(k, p);
	for (size_t i = 0; i < s->mount_count; i++) {
		int r = prepare_mount(k, p, i, err);
		if (r < 0)
			return r;
	}
	int r = prepare_workspace(k, p, err);
	if (r == 0)
		r = prepare_places(p, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(plan_devices) && r == 0; i++)
		r = look(plan_devices[i], &p->in.devices[i], &st);
	if (r == 0)
		r = look("/proc", &p->in.proc, &st);
	if (r == 0)
		r = look(k->layers_path, &p->in.layers, &st);
	if (r == 0)
		r = look(k->spool_path, &p->in.spool, &st);
	if (r < 0)
		return error_set(err, r, "sandbox: the machine's own folders: %s", strerror(-r));
	*ret = take_ptr(p);
	return 0;
}

/* ---- trees, by root ---- */

static int set_tree_attributes(struct userns *u, int tree, uint16_t flags)
{
	unsigned recursive = flags & INIT_OP_RECURSIVE ? AT_RECURSIVE : 0;
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID |
					      (flags & INIT_OP_DEV ? 0 : MOUNT_ATTR_NODEV) |
					      (flags & INIT_OP_RDONLY ? MOUNT_ATTR_RDONLY : 0) |
					      (flags & INIT_OP_NOEXEC ? MOUNT_ATTR_NOEXEC : 0),
				  .propagation = MS_PRIVATE};

	if (flags & INIT_OP_IDMAP) {
		attr.attr_set |= MOUNT_ATTR_IDMAP;
		attr.userns_fd = (uint64_t)u->fd;
	}
	return sys_mount_setattr(tree, "", AT_EMPTY_PATH | recursive, &attr);
}

static int open_tree_of(struct userns *u, const struct init_source *s, const char *path,
			struct error *err)
{
	unsigned recursive = s->flags & INIT_OP_RECURSIVE ? AT_RECURSIVE : 0;
	struct stat st;

	AUTO_FD tree = sys_open_tree(AT_FDCWD, path,
				     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW |
					     recursive);
	int r = tree < 0 ? tree : 0;
	if (r == 0 && (fstat(tree, &st) < 0 || st.st_dev != s->dev || st.st_ino != s->ino))
		r = -ESTALE;
	if (r == 0)
		r = set_tree_attributes(u, tree, s->flags);
	if (r < 0 && (s->flags & INIT_OP_IDMAP))
		return error_set_exit(err, r, EXIT_STATUS_SANDBOX,
				      "sandbox: '%s' cannot be shown under another owner: %s; give "
				      "it to an ordinary user, or use "
				      "ext4, xfs, btrfs or tmpfs",
				      path, strerror(-r));
	if (r < 0)
		return error_set(err, r, "sandbox: '%s': %s", path, strerror(-r));
	return take_fd(&tree);
}

int template_open_base(struct userns *u, int base_fd, struct error *err)
{
	if (base_fd < 0)
		return error_set(err, -EINVAL, "keeper: SEAL without the base folder");
	if (!userns_is_idmapped(u)) {
		int copy = fcntl(base_fd, F_DUPFD_CLOEXEC, 3);
		return copy < 0 ? error_set(err, -errno, "keeper: %s", strerror(errno)) : copy;
	}
	AUTO_FD tree =
		sys_open_tree(base_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	int r = tree < 0 ? tree : set_tree_attributes(u, tree, INIT_OP_RDONLY | INIT_OP_IDMAP);
	if (r < 0)
		return error_set(err, r, "sandbox: the workspace's folder under another owner: %s",
				 strerror(-r));
	return take_fd(&tree);
}

static int send_trees(struct userns *u, int sock, struct bytes plan, struct error *err)
{
	const struct init_template *t = plan.data;
	const struct init_source *s = (const void *)((const char *)plan.data + t->sources.at);
	struct init_message m = {.type = INIT_TREES};
	int fds[TREES_BATCH], r = 0;

	for (uint32_t i = 0; i < t->sources.count && r == 0;) {
		size_t n = 0;
		for (; n < TREES_BATCH && i < t->sources.count && r == 0; i++) {
			int fd = open_tree_of(u, &s[i], plan_string(plan, s[i].path), err);
			if (fd < 0)
				r = fd;
			else
				fds[n++] = fd;
		}
		if (r == 0 && proc_send(sock, &m, bytes_of(NULL, 0), fds, n) < 0)
			r = error_set(err, -ECONNRESET,
				      "keeper: a template went away while it was built");
		while (n > 0)
			close(fds[--n]);
	}
	return r;
}

/* ---- the cache ---- */

static void template_free(struct template *t)
{
	if (!t)
		return;
	arm_forget(t);
	close_fd(&t->sock);
	buffer_free(&t->plan);
	buffer_free(&t->last_stack);
	buffer_free(&t->arm_stack);
	free(t);
}
DEFINE_GUARD(struct template *, template_free)

void template_drop(struct keeper *k, struct template *t)
{
	for (struct template **p = &k->templates; *p; p = &(*p)->next) {
		if (*p == t) {
			*p = t->next;
			break;
		}
	}
	template_free(t);
}

static void drop_oldest(struct keeper *k)
{
	struct template *oldest = NULL;
	size_t count = 0;

	for (struct template *t = k->templates; t; t = t->next, count++)
		if (!oldest || t->used < oldest->used)
			oldest = t;
	if (count >= KEEPER_TEMPLATES_MAX)
		template_drop(k, oldest);
}

static int await_template(struct template *t, struct error *err)
{
	struct init_report r;
	int fds[IO_FDS_MAX];
	size_t fd_count;

	int e = proc_receive(t->sock, &r, fds, &fd_count);
	if (e == 0 && r.type == INIT_REPORT_READY)
		return 0;
	if (e == 0)
		e = r.type == INIT_REPORT_FAILED ? r.error : -EPROTO;
	if (e == -EINVAL && r.type == INIT_REPORT_FAILED && r.stage == INIT_STAGE_SOURCES) {
		const char *source = plan_string(buffer_bytes(&t->plan), r.object);
		char point[SANDBOX_PATH_MAX + 1];
		if (*source && mount_below(source, point, sizeof(point)))
			return error_set_exit(err, e, EXIT_STATUS_SANDBOX,
					      "sandbox: '%s' has another mount in it, '%s', and "
					      "the kernel lets no "
					      "ordinary user overlay such a tree; unmount that, "
					      "run Holdfast as root, or "
					      "use a copy without it",
					      source, point);
	}
	const char *object = e != -ECONNRESET ? plan_string(buffer_bytes(&t->plan), r.object) : "";
	return error_set_exit(err, e, EXIT_STATUS_SANDBOX,
			      "sandbox: the mounts cannot be made (%s%s%s): %s",
			      plan_stage_name(e == -ECONNRESET ? INIT_STAGE_NONE
							       : (enum init_stage)r.stage),
			      *object ? " " : "", object, strerror(-e));
}

static int build(struct keeper *k, struct userns *u, struct template *t, struct error *err)
{
	struct init_message enter = {.type = INIT_USERNS, .uid = u->in_uid, .gid = u->in_gid},
			    go = {.type = INIT_BUILD};
	pid_t pid;

	int r = proc_start_init(k, "template", &t->sock, &pid, err);
	if (r < 0)
		return r;
	if (proc_send(t->sock, &enter, bytes_of(NULL, 0), &u->fd, 1) < 0)
		return error_set(err, -ECONNRESET,
				 "keeper: a template went away while it was built");
	if (k->privileged) {
		r = send_trees(u, t->sock, buffer_bytes(&t->plan), err);
		if (r < 0)
			return r;
	}
	if (proc_send(t->sock, &go, buffer_bytes(&t->plan), NULL, 0) < 0)
		return error_set(err, -ECONNRESET,
				 "keeper: a template went away while it was built");
	return await_template(t, err);
}

int template_get(struct keeper *k, struct userns *u, const struct prepared *p,
		 struct template **ret, struct error *err)
{
	AUTO(template_free) struct template *fresh = calloc(1, sizeof(*fresh));

	if (!fresh)
		return error_nomem(err);
	fresh->sock = -1;
	fresh->userns = u;
	fresh->plan.max = INIT_PLAN_MAX;
	int r = plan_template(&p->in, &fresh->plan, err);
	if (r < 0)
		return r;
	for (struct template *t = k->templates; t; t = t->next) {
		if (t->userns == u &&
		    bytes_equal(buffer_bytes(&t->plan), buffer_bytes(&fresh->plan))) {
			t->used = ++k->use_counter;
			*ret = t;
			return 0;
		}
	}
	r = build(k, u, fresh, err);
	if (r < 0)
		return r;
	drop_oldest(k);
	fresh->used = ++k->use_counter;
	*ret = fresh;
	fresh->next = k->templates;
	k->templates = take_ptr(fresh);
	return 0;
}
