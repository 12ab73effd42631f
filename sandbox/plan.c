/*
 * A sandbox_spec and what was seen on the disk to the mount plan and the rest that pid 1 carries
 * out, in the order in which it does it. Pure; called by the keeper.
 */
#include "sandbox/plan.h"
#include <stdio.h>
#include <stdlib.h>
#include "base/guard.h"
#include "base/path.h"

const char *const plan_devices[6] = {
	"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty",
};

/* ---- building one flat plan: header, strings, then the lists ---- */

struct builder {
	struct buffer
		strings; /* begins with room for the header, so that offsets in it are final */
	struct buffer sources, ops, rules;
	uint32_t source_count, op_count, rule_count;
	bool armed;
};

static void builder_free(struct builder *b)
{
	buffer_free(&b->strings);
	buffer_free(&b->sources);
	buffer_free(&b->ops);
	buffer_free(&b->rules);
}

static void builder_init(struct builder *b, size_t header)
{
	static const uint8_t zero[sizeof(struct init_step) + sizeof(struct init_template)];

	*b = (struct builder){0};
	b->strings.max = INIT_PLAN_MAX;
	(void)buffer_append(&b->strings, zero, header);
}

static uint32_t put_bytes(struct builder *b, const void *data, size_t len)
{
	uint32_t at = (uint32_t)b->strings.len;

	(void)buffer_append(&b->strings, data, len);
	return at;
}

static uint32_t put_str(struct builder *b, const char *s)
{
	return put_bytes(b, s, strlen(s) + 1);
}

static struct init_list put_list(struct builder *b, struct bytes items, uint32_t count)
{
	static const uint8_t zero[8];

	(void)buffer_append(&b->strings, zero, (8 - b->strings.len % 8) % 8);
	return (struct init_list){put_bytes(b, items.data, items.len), count};
}

/* Targets are kept without their leading slash: relative to the new root. */
static const char *relative(const char *path)
{
	return path + strspn(path, "/");
}

static struct init_op *put_op(struct builder *b, enum init_op_kind kind, const char *target,
			      uint16_t flags)
{
	struct init_op op = {.kind = (uint16_t)kind,
			     .flags = flags,
			     .target = put_str(b, relative(target))};

	if (buffer_append(&b->ops, &op, sizeof(op)) < 0)
		return NULL;
	b->op_count++;
	return (struct init_op *)(void *)(b->ops.data + b->ops.len - sizeof(op));
}

static void put_bind(struct builder *b, const char *source, const char *target, uint16_t flags)
{
	uint32_t at = put_str(b, relative(source));
	struct init_op *op = put_op(b, INIT_OP_BIND, target, flags);

	if (op)
		op->source = at;
}

static void put_overlay(struct builder *b, const char *options, const char *target, uint16_t flags)
{
	uint32_t at = put_str(b, options);
	struct init_op *op = put_op(b, INIT_OP_OVERLAY, target, flags);

	if (op)
		op->source = at;
}

static void put_file(struct builder *b, const char *target, struct bytes content, uint32_t mode)
{
	uint32_t at = put_bytes(b, content.data, content.len);
	struct init_op *op = put_op(b, INIT_OP_FILE, target, 0);

	if (op) {
		op->source = at;
		op->size = content.len;
		op->mode = mode;
	}
}

static void put_mkdir(struct builder *b, const char *target, uint32_t mode)
{
	struct init_op *op = put_op(b, INIT_OP_MKDIR, target, 0);

	if (op)
		op->mode = mode;
}

static void put_symlink(struct builder *b, const char *target, const char *text)
{
	uint32_t at = put_str(b, text);
	struct init_op *op = put_op(b, INIT_OP_SYMLINK, target, 0);

	if (op)
		op->source = at;
}

static void put_tmpfs(struct builder *b, enum init_op_kind kind, const char *target, uint16_t flags,
		      uint64_t size, uint32_t inodes, uint32_t mode)
{
	struct init_op *op = put_op(b, kind, target, flags);

	if (op) {
		op->size = size;
		op->inodes = inodes;
		op->mode = mode;
	}
}

static void put_tree(struct builder *b, const char *path, const struct plan_seen *seen,
		     uint16_t flags, const char *target)
{
	struct init_source s = {.path = put_str(b, path),
				.flags = flags,
				.is_dir = seen->type == PLAN_DIR,
				.dev = seen->dev,
				.ino = seen->ino};
	(void)buffer_append(&b->sources, &s, sizeof(s));
	uint16_t point = seen->type == PLAN_DIR ? INIT_OP_POINT_DIR : INIT_OP_POINT_FILE;
	struct init_op *op = put_op(b, INIT_OP_TREE, target, point);
	if (op)
		op->tree = b->source_count;
	b->source_count++;
}

static void put_rule(struct builder *b, const char *path, enum init_landlock_class class)
{
	struct init_rule r = {.path = put_str(b, path), .class = class};

	(void)buffer_append(&b->rules, &r, sizeof(r));
	b->rule_count++;
}

static int builder_failed(const struct builder *b, struct error *err)
{
	int failed = b->strings.failed	 ? b->strings.failed
		     : b->ops.failed	 ? b->ops.failed
		     : b->sources.failed ? b->sources.failed
					 : b->rules.failed;
	if (failed == 0 && (b->op_count > INIT_OPS_MAX || b->source_count > INIT_SOURCES_MAX))
		failed = -E2BIG;
	if (failed < 0)
		return error_set(err, failed,
				 "sandbox: the mount plan passes a limit; grant fewer places");
	return 0;
}

/* ---- the items of a spec, in order ---- */

enum item_kind {
	ITEM_MOUNT,
	ITEM_WORKSPACE,
	ITEM_HOME,
	ITEM_TMP,
	ITEM_SHM,
	ITEM_PTS,
	ITEM_IN,
	ITEM_OUT,
	ITEM_MASK
};

/*
 * Who mounts an item is decided by what lies around it. The template is shared by many steps, and
 * the step's own places (workspace, home, tmp, tmpfs: item_is_step_root) are made for each of them;
 * what lies in such a place can only come after it, so that the step mounts it too. Of a spec with
 * these targets:
 *
 *   /home              view, read-only           the template, at /home
 *   /home/u/ws         the workspace             the step
 *   /home/u/ws/.git    protect, in it            the step, once its workspace is there
 *   /home/u/ws/data    a folder of the host      the template stages it (its source is not to be
 *                                                reached later), the step binds it at the target
 */
struct item {
	enum item_kind kind;
	const char *target;
	size_t index; /* MOUNT, MASK */
	bool by_step; /* it is, or lies in, a step's own place */
};

enum { ITEMS_MAX = SANDBOX_MOUNTS_MAX + PLAN_MASKS_MAX + 8 };
struct items {
	struct item v[ITEMS_MAX];
	size_t count;
};

static void add_item(struct items *l, enum item_kind kind, const char *target, size_t index)
{
	if (l->count < ITEMS_MAX)
		l->v[l->count++] = (struct item){kind, target, index, false};
}

/* Bytewise with '/' below every other byte: a folder stands right before what is in it. Masks of
 * our own come last at one place. */
static int item_compare(const void *va, const void *vb)
{
	const struct item *a = va, *b = vb;
	const char *p = a->target, *q = b->target;

	while (*p && *p == *q)
		p++, q++;
	if (*p == *q)
		return a->kind < b->kind ? -1 : a->kind > b->kind;
	int x = *p == '/' ? 1 : (unsigned char)*p, y = *q == '/' ? 1 : (unsigned char)*q;
	return x < y ? -1 : 1;
}

static bool item_is_step_root(const struct sandbox_spec *s, const struct item *i)
{
	switch (i->kind) {
	case ITEM_MOUNT:
		return s->mounts[i->index].kind == SANDBOX_MOUNT_TMPFS;
	case ITEM_MASK:
		return false;
	case ITEM_WORKSPACE:
	case ITEM_HOME:
	case ITEM_TMP:
	case ITEM_SHM:
	case ITEM_PTS:
	case ITEM_IN:
	case ITEM_OUT:
		return true;
	}
	return false;
}

static void collect(const struct plan_input *in, struct items *l)
{
	const struct sandbox_spec *s = in->spec;

	l->count = 0;
	for (size_t i = 0; i < s->mount_count; i++) {
		bool sourced = s->mounts[i].kind <= SANDBOX_MOUNT_RW;
		if (!sourced || in->mounts[i].type != PLAN_MISSING)
			add_item(l, ITEM_MOUNT, s->mounts[i].target, i);
	}
	for (size_t i = 0; i < in->mask_count; i++)
		add_item(l, ITEM_MASK, in->masks[i], i);
	if (s->workspace.mode != SANDBOX_WORKSPACE_NONE)
		add_item(l, ITEM_WORKSPACE, s->workspace.target, 0);
	if (s->home)
		add_item(l, ITEM_HOME, s->home, 0);
	add_item(l, ITEM_TMP, "/tmp", 0);
	add_item(l, ITEM_SHM, "/dev/shm", 0);
	add_item(l, ITEM_PTS, "/dev/pts", 0);
	add_item(l, ITEM_IN, "/run/holdfast/in", 0);
	add_item(l, ITEM_OUT, "/run/holdfast/out", 0);
	qsort(l->v, l->count, sizeof(l->v[0]), item_compare);
	const char *root = NULL;
	for (size_t i = 0; i < l->count; i++) {
		if (!root || !path_within(l->v[i].target, root))
			root = item_is_step_root(s, &l->v[i]) ? l->v[i].target : NULL;
		l->v[i].by_step = root != NULL;
	}
}

/* ---- the template ---- */

/* System trees keep their owner: root's, who is nobody inside. */
static uint16_t source_flags(const struct plan_input *in, const struct sandbox_mount *m)
{
	return (uint16_t)((in->idmap && m->kind != SANDBOX_MOUNT_SYSTEM ? INIT_OP_IDMAP : 0) |
			  (m->kind == SANDBOX_MOUNT_RW ? 0 : INIT_OP_RDONLY) |
			  (m->exec ? 0 : INIT_OP_NOEXEC) |
			  (m->kind == SANDBOX_MOUNT_VIEW ? 0 : INIT_OP_RECURSIVE));
}

static bool is_overlaid(const struct sandbox_mount *m, const struct plan_seen *seen)
{
	return seen->type == PLAN_DIR && m->kind == SANDBOX_MOUNT_VIEW;
}

static bool is_etc(const struct sandbox_mount *m, const struct plan_seen *seen)
{
	return m->kind == SANDBOX_MOUNT_SYSTEM && seen->type == PLAN_DIR &&
	       strcmp(m->target, "/etc") == 0;
}

const char *plan_etc_below(const struct sandbox_spec *s, const struct sandbox_mount *m)
{
	const char *name = m->target + strlen("/etc/");

	if (m->kind > SANDBOX_MOUNT_VIEW || strncmp(m->target, "/etc/", 5) != 0)
		return NULL;
	for (size_t i = 0; i < s->etc_file_count; i++)
		if (strncmp(s->etc_files[i].name, name, strlen(name)) == 0 &&
		    s->etc_files[i].name[strlen(name)] == '/')
			return name;
	return NULL;
}

/* Mounts in it are rare below /etc, and then it stays as it is. */
static const char *etc_below(const struct plan_input *in, const struct sandbox_mount *m,
			     const struct plan_seen *seen)
{
	return seen->type == PLAN_DIR && !seen->mounts_below ? plan_etc_below(in->spec, m) : NULL;
}

/* /etc of a container: hosts, hostname and resolv.conf are mounts. A user namespace may not look
 * under them, so that neither a clone without them nor an overlay is to be had (EINVAL). */
static void template_merged_etc(struct builder *b, const struct plan_input *in,
				const struct item *i, const char *raw, const char *target)
{
	const struct sandbox_mount *m = &in->spec->mounts[i->index];
	uint16_t flags = source_flags(in, m);

	put_tree(b, m->source, &in->mounts[i->index], flags, raw);
	uint32_t at = put_str(b, raw);
	struct init_op *op =
		put_op(b, INIT_OP_MERGE, target,
		       (uint16_t)(INIT_OP_RDONLY | (flags & INIT_OP_NOEXEC) | INIT_OP_POINT_DIR));
	if (op)
		op->source = at;
}

/* Where the template leaves the source of mount i for its steps, and what that source is made of.
 */
enum { STAGED_NAME_SIZE = 32 };
static const char *staged_name(const struct item *i, char buf[STAGED_NAME_SIZE])
{
	snprintf(buf, STAGED_NAME_SIZE, INIT_STAGING "/%zu", (size_t)i->index);
	return buf;
}

static const char *raw_name(const struct item *i, char buf[STAGED_NAME_SIZE])
{
	snprintf(buf, STAGED_NAME_SIZE, INIT_STAGING "/%zur", (size_t)i->index);
	return buf;
}

static void template_source(struct builder *b, const struct plan_input *in, const struct item *i)
{
	const struct sandbox_mount *m = &in->spec->mounts[i->index];
	const struct plan_seen *seen = &in->mounts[i->index];
	uint16_t flags = source_flags(in, m),
		 seal = (uint16_t)(INIT_OP_RDONLY | (flags & INIT_OP_NOEXEC));
	char staged_buf[STAGED_NAME_SIZE], raw_buf[STAGED_NAME_SIZE],
		options[SANDBOX_PATH_MAX + 64];
	const char *to = i->by_step ? staged_name(i, staged_buf) : m->target;
	const char *raw = raw_name(i, raw_buf);

	if (seen->type == PLAN_SYMLINK) {
		if (!i->by_step)
			put_symlink(b, m->target, seen->link);
		return;
	}
	const char *etc = etc_below(in, m, seen);
	if (!is_overlaid(m, seen) && !is_etc(m, seen) && !etc) {
		put_tree(b, m->source, seen, flags, to);
		return;
	}
	if (is_etc(m, seen) && seen->mounts_below) {
		template_merged_etc(b, in, i, raw, to);
		return;
	}
	put_tree(b, m->source, seen, (uint16_t)(flags & ~INIT_OP_RECURSIVE), raw);
	const char *name = raw + strlen(INIT_STAGING "/");
	if (is_etc(m, seen))
		snprintf(options, sizeof(options), "lowerdir=" INIT_STAGED_ETC ":%s,userxattr",
			 name);
	else if (etc)
		snprintf(options, sizeof(options), "lowerdir=" INIT_STAGED_ETC "/%s:%s,userxattr",
			 etc, name);
	else
		snprintf(options, sizeof(options), "lowerdir=%s:" INIT_STAGED_EMPTY ",userxattr",
			 name);
	put_overlay(b, options, to, (uint16_t)(seal | INIT_OP_POINT_DIR));
}

static void template_item(struct builder *b, const struct plan_input *in, const struct item *i)
{
	const struct sandbox_mount *m = i->kind == ITEM_MOUNT ? &in->spec->mounts[i->index] : NULL;

	if (m && m->kind <= SANDBOX_MOUNT_RW) {
		template_source(b, in, i);
	} else if (i->kind == ITEM_MASK || (m && m->kind >= SANDBOX_MOUNT_MASK_DIR)) {
		if (!i->by_step)
			put_op(b, INIT_OP_MASK, i->target, INIT_OP_OPTIONAL);
	} else if (m && m->kind == SANDBOX_MOUNT_PROTECT) {
		if (!i->by_step)
			put_bind(b, i->target, i->target,
				 INIT_OP_OPTIONAL | INIT_OP_RDONLY | INIT_OP_RECURSIVE);
	}
}

/* Mount points of steps that lie on the template's own tmpfs: it is read-only by then. Below a
 * step's own root the step makes them itself. On a view of the host they are there or the step
 * fails, by name. */
static void template_points(struct builder *b, const struct items *l)
{
	const char *root = NULL;

	for (size_t i = 0; i < l->count; i++) {
		bool below = root && path_within(l->v[i].target, root);
		if (!l->v[i].by_step || below)
			continue;
		root = l->v[i].target;
		bool covered = false;
		for (size_t k = 0; k < i && !covered; k++)
			covered = !l->v[k].by_step && l->v[k].kind == ITEM_MOUNT &&
				  path_within(root, l->v[k].target);
		if (!covered)
			put_mkdir(b, root, 0755);
	}
}

static void synthetic_etc(struct builder *b, const struct plan_input *in, const char *folder)
{
	const struct sandbox_spec *s = in->spec;
	const char *name = s->user_name ? s->user_name : "user", *home = s->home ? s->home : "/";
	const char *host = s->hostname ? s->hostname : "holdfast";
	char text[2 * SANDBOX_PATH_MAX], path[SANDBOX_PATH_MAX + 32];
	struct {
		const char *name, *text;
	} files[] = {
		{"passwd", NULL},
		{"group", NULL},
		{"hosts", NULL},
		{"hostname", NULL},
		{"resolv.conf", "# no name server: this sandbox has no network\n"},
		{"nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
		{"machine-id", "686f6c6466617374686f6c6466617374\n"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		const char *content = files[i].text ? files[i].text : text;
		if (i == 0 && in->uid == 0)
			snprintf(text, sizeof(text), "root:x:0:0::%s:/bin/sh\n", home);
		else if (i == 0)
			snprintf(text, sizeof(text),
				 "root:x:0:0::/root:/bin/sh\n%s:x:%u:%u::%s:/bin/sh\n", name,
				 in->uid, in->gid, home);
		else if (i == 1 && in->gid == 0)
			snprintf(text, sizeof(text), "root:x:0:\n");
		else if (i == 1)
			snprintf(text, sizeof(text), "root:x:0:\n%s:x:%u:\n", name, in->gid);
		else if (i == 2)
			snprintf(text, sizeof(text), "127.0.0.1 localhost %s\n::1 localhost %s\n",
				 host, host);
		else if (i == 3)
			snprintf(text, sizeof(text), "%s\n", host);
		bool replaced = false;
		for (size_t k = 0; k < s->etc_file_count; k++)
			replaced = replaced || strcmp(s->etc_files[k].name, files[i].name) == 0;
		snprintf(path, sizeof(path), "%s/%s", folder, files[i].name);
		if (!replaced)
			put_file(b, path, bytes_str(content), 0644);
	}
	for (size_t k = 0; k < s->etc_file_count; k++) {
		snprintf(path, sizeof(path), "%s/%s", folder, s->etc_files[k].name);
		put_file(b, path, s->etc_files[k].content, 0644);
	}
}

/* An overlay refuses a layer that lies below another (ELOOP; fs/overlayfs/super.c, ovl_check_layer), as
 * a run's layers do where its workspace holds the state directory: $HOME, say. Seen through an
 * overlay of its own the workspace is another file system, and they are not below it. */
static void template_base(struct builder *b, const struct plan_input *in)
{
	static const char under[] = INIT_STAGING "/" INIT_STAGED_BASE "r";
	bool around = path_within(in->layers_path, in->base_path);

	put_tree(b, in->base_path, &in->base,
		 (uint16_t)(INIT_OP_RDONLY | (in->idmap ? INIT_OP_IDMAP : 0)),
		 around ? under : INIT_STAGING "/" INIT_STAGED_BASE);
	if (around)
		put_overlay(b, "lowerdir=" INIT_STAGED_BASE "r:" INIT_STAGED_EMPTY ",userxattr",
			    INIT_STAGING "/" INIT_STAGED_BASE, INIT_OP_RDONLY | INIT_OP_POINT_DIR);
}

static void template_staging(struct builder *b, const struct plan_input *in)
{
	bool host_etc = false, below = false;

	put_tmpfs(b, INIT_OP_TMPFS, INIT_STAGING, INIT_OP_POINT_DIR, 16 << 20, 4096, 0755);
	put_mkdir(b, INIT_STAGING "/" INIT_STAGED_POINT, 0755);
	put_mkdir(b, INIT_STAGING "/" INIT_STAGED_ARMED, 0755);
	put_mkdir(b, INIT_STAGING "/" INIT_STAGED_EMPTY, 0755);
	put_mkdir(b, INIT_STAGING "/" INIT_STAGED_MASK_DIR, 0);
	put_file(b, INIT_STAGING "/" INIT_STAGED_MASK_FILE, bytes_of("", 0), 0);
	put_tree(b, "/proc", &in->proc, INIT_OP_RECURSIVE | INIT_OP_NOEXEC,
		 INIT_STAGING "/" INIT_STAGED_PROC);
	if (in->spec->workspace.mode != SANDBOX_WORKSPACE_NONE) {
		template_base(b, in);
		put_tree(b, in->layers_path, &in->layers, 0, INIT_STAGING "/" INIT_STAGED_LAYERS);
	}
	if (in->spec->in_name)
		put_tree(b, in->spool_path, &in->spool, INIT_OP_RDONLY,
			 INIT_STAGING "/" INIT_STAGED_SPOOL);
	for (size_t i = 0; i < in->spec->mount_count; i++)
		host_etc = host_etc || is_etc(&in->spec->mounts[i], &in->mounts[i]);
	for (size_t i = 0; i < in->spec->mount_count; i++)
		below = below || etc_below(in, &in->spec->mounts[i], &in->mounts[i]);
	if (host_etc || below)
		synthetic_etc(b, in, INIT_STAGING "/" INIT_STAGED_ETC);
	if (!host_etc)
		synthetic_etc(b, in, "etc");
}

static void template_dev(struct builder *b, const struct plan_input *in)
{
	static const char *const links[][2] = {
		{"dev/fd", "/proc/self/fd"},	   {"dev/stdin", "/proc/self/fd/0"},
		{"dev/stdout", "/proc/self/fd/1"}, {"dev/stderr", "/proc/self/fd/2"},
		{"dev/ptmx", "pts/ptmx"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(plan_devices); i++)
		if (in->devices[i].type == PLAN_DEVICE)
			put_tree(b, plan_devices[i], &in->devices[i], INIT_OP_DEV | INIT_OP_NOEXEC,
				 plan_devices[i]);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		put_symlink(b, links[i][0], links[i][1]);
}

int plan_template(const struct plan_input *in, struct buffer *out, struct error *err)
{
	const char *hostname = in->spec->hostname ? in->spec->hostname : "holdfast";
	struct builder b;
	struct items l;

	builder_init(&b, sizeof(struct init_template));
	collect(in, &l);
	struct init_template t = {.magic = INIT_MAGIC,
				  .uid = in->uid,
				  .gid = in->gid,
				  .trees_come = in->trees_come};
	t.hostname = put_str(&b, hostname);
	template_staging(&b, in);
	template_dev(&b, in);
	for (size_t i = 0; i < l.count; i++)
		template_item(&b, in, &l.v[i]);
	template_points(&b, &l);
	put_op(&b, INIT_OP_LOCK, ".", 0);
	t.sources = put_list(&b, buffer_bytes(&b.sources), b.source_count);
	t.ops = put_list(&b, buffer_bytes(&b.ops), b.op_count);
	int failed = builder_failed(&b, err);
	if (failed == 0) {
		t.bytes = (uint32_t)b.strings.len;
		memcpy(b.strings.data, &t, sizeof(t));
		failed = buffer_append(out, b.strings.data, b.strings.len);
	}
	builder_free(&b);
	return failed;
}

/* ---- the step ---- */

static uint64_t at_most(uint64_t limit, uint64_t fallback)
{
	return limit ? limit : fallback;
}

/* A file system in memory: /proc, which is all that is sampled, does not show what it holds. */
static uint64_t tmpfs_bytes(const struct plan_input *in, uint64_t fallback)
{
	const struct sandbox_limits *lim = &in->spec->limits;
	uint64_t bytes = at_most(lim->disk_bytes, fallback);

	return in->memory_sampled && lim->memory_bytes && lim->memory_bytes < bytes
		       ? lim->memory_bytes
		       : bytes;
}

void plan_workspace_options(const struct sandbox_workspace *w, const char *upper,
			    struct buffer *out)
{
	(void)buffer_append_str(out, "lowerdir=");
	for (size_t i = w->layer_count; i > 0; i--)
		(void)buffer_printf(out, INIT_STAGED_LAYERS "/%s/" LAYERS_UPPER ":",
				    w->layers[i - 1]);
	(void)buffer_append_str(out, INIT_STAGED_BASE);
	if (upper)
		(void)buffer_printf(out,
				    ",upperdir=" INIT_STAGED_LAYERS "/%s/" LAYERS_UPPER
				    ",workdir=" INIT_STAGED_LAYERS "/%s/" LAYERS_WORK ",volatile",
				    upper, upper);
	else if (w->layer_count == 0)
		(void)buffer_append_str(out, ":" INIT_STAGED_EMPTY);
	(void)buffer_append_str(out, ",userxattr,uuid=off");
}

static void step_workspace(struct builder *b, const struct plan_input *in)
{
	const struct sandbox_workspace *w = &in->spec->workspace;
	bool staged = w->mode == SANDBOX_WORKSPACE_STAGED;
	AUTO_BUFFER options = {0};

	plan_workspace_options(w, staged ? w->upper : NULL, &options);
	if (options.failed < 0)
		b->strings.failed = options.failed;
	else
		put_overlay(b, (const char *)options.data, w->target,
			    (uint16_t)(INIT_OP_POINT_DIR | (staged ? 0 : INIT_OP_RDONLY) |
				       (b->armed ? INIT_OP_ARMED : 0)));
}

static void step_source(struct builder *b, const struct plan_input *in, const struct item *i)
{
	const struct sandbox_mount *m = &in->spec->mounts[i->index];
	const struct plan_seen *seen = &in->mounts[i->index];
	uint16_t flags = source_flags(in, m);
	char staged[STAGED_NAME_SIZE];

	if (!i->by_step)
		return;
	if (seen->type == PLAN_SYMLINK) {
		put_symlink(b, m->target, seen->link);
		return;
	}
	put_bind(b, staged_name(i, staged), m->target,
		 (uint16_t)(flags |
			    (seen->type == PLAN_DIR ? INIT_OP_POINT_DIR : INIT_OP_POINT_FILE)));
}

static void step_mount(struct builder *b, const struct plan_input *in, const struct item *i)
{
	const struct sandbox_mount *m = &in->spec->mounts[i->index];
	const struct sandbox_limits *lim = &in->spec->limits;

	switch (m->kind) {
	case SANDBOX_MOUNT_SYSTEM:
	case SANDBOX_MOUNT_VIEW:
	case SANDBOX_MOUNT_RW:
		step_source(b, in, i);
		return;
	case SANDBOX_MOUNT_TMPFS:
		put_tmpfs(b, INIT_OP_TMPFS, i->target,
			  (uint16_t)(INIT_OP_POINT_DIR | (m->exec ? 0 : INIT_OP_NOEXEC)),
			  tmpfs_bytes(in, PLAN_TMPFS_BYTES), lim->files, 0755);
		return;
	case SANDBOX_MOUNT_PROTECT:
		if (i->by_step)
			put_bind(b, i->target, i->target,
				 INIT_OP_OPTIONAL | INIT_OP_RDONLY | INIT_OP_RECURSIVE);
		return;
	case SANDBOX_MOUNT_MASK_DIR:
	case SANDBOX_MOUNT_MASK_FILE:
		if (i->by_step)
			put_op(b, INIT_OP_MASK, i->target, INIT_OP_OPTIONAL);
		return;
	}
}

static void step_item(struct builder *b, const struct plan_input *in, const struct item *i)
{
	const struct sandbox_limits *lim = &in->spec->limits;
	char options[128];

	switch (i->kind) {
	case ITEM_MOUNT:
		step_mount(b, in, i);
		return;
	case ITEM_WORKSPACE:
		step_workspace(b, in);
		return;
	case ITEM_HOME:
		put_tmpfs(b, INIT_OP_TMPFS, i->target, INIT_OP_POINT_DIR,
			  tmpfs_bytes(in, PLAN_TMPFS_BYTES), lim->files, 0755);
		return;
	case ITEM_TMP:
		put_tmpfs(b, INIT_OP_TMPFS, i->target, INIT_OP_POINT_DIR,
			  tmpfs_bytes(in, PLAN_TMPFS_BYTES), lim->files, 01777);
		return;
	case ITEM_SHM:
		put_tmpfs(b, INIT_OP_TMPFS, i->target, INIT_OP_NOEXEC,
			  at_most(lim->memory_bytes, PLAN_SHM_BYTES), lim->files, 01777);
		return;
	case ITEM_PTS:
		put_op(b, INIT_OP_DEVPTS, i->target, 0);
		return;
	case ITEM_IN:
		if (in->spec->in_name) {
			snprintf(options, sizeof(options),
				 "lowerdir=" INIT_STAGED_SPOOL "/%s:" INIT_STAGED_EMPTY
				 ",userxattr",
				 in->spec->in_name);
			put_overlay(b, options, i->target, INIT_OP_RDONLY);
		}
		return;
	case ITEM_OUT:
		put_tmpfs(b, INIT_OP_OUT, i->target, INIT_OP_NOEXEC,
			  tmpfs_bytes(in, PLAN_OUT_BYTES), lim->files, 0755);
		return;
	case ITEM_MASK:
		if (i->by_step)
			put_op(b, INIT_OP_MASK, i->target, INIT_OP_OPTIONAL);
		return;
	}
}

/* What of /proc an unprivileged process could still read or write to no good. The rest is guarded
 * by its owner, who is nobody inside. */
static void step_proc(struct builder *b)
{
	static const char *const masked[] = {"proc/kcore", "proc/keys", "proc/sysrq-trigger",
					     "proc/timer_list"};

	put_op(b, INIT_OP_PROC, INIT_STAGING, 0);
	for (size_t i = 0; i < ARRAY_SIZE(masked); i++)
		put_bind(b, "dev/null", masked[i],
			 INIT_OP_OPTIONAL | INIT_OP_RDONLY | INIT_OP_NOEXEC);
	put_tmpfs(b, INIT_OP_TMPFS, "proc/acpi", INIT_OP_OPTIONAL | INIT_OP_RDONLY | INIT_OP_NOEXEC,
		  4096, 2, 0);
	put_bind(b, "proc/sys", "proc/sys", INIT_OP_RDONLY | INIT_OP_NOEXEC | INIT_OP_RECURSIVE);
}

static void step_rules(struct builder *b, const struct plan_input *in)
{
	const struct sandbox_spec *s = in->spec;

	put_rule(b, "/", INIT_LANDLOCK_LIST);
	put_rule(b, "/dev", INIT_LANDLOCK_WRITE);
	put_rule(b, "/proc", INIT_LANDLOCK_WRITE);
	put_rule(b, "/tmp", INIT_LANDLOCK_WRITE);
	put_rule(b, "/etc", INIT_LANDLOCK_READ);
	put_rule(b, "/run/holdfast/in", INIT_LANDLOCK_READ);
	put_rule(b, "/run/holdfast/out", INIT_LANDLOCK_WRITE);
	if (s->home)
		put_rule(b, s->home, INIT_LANDLOCK_WRITE);
	if (s->workspace.mode != SANDBOX_WORKSPACE_NONE)
		put_rule(b, s->workspace.target,
			 s->workspace.mode == SANDBOX_WORKSPACE_STAGED ? INIT_LANDLOCK_WRITE
								       : INIT_LANDLOCK_EXEC);
	for (size_t i = 0; i < s->mount_count; i++) {
		const struct sandbox_mount *m = &s->mounts[i];
		if (m->kind == SANDBOX_MOUNT_RW || m->kind == SANDBOX_MOUNT_TMPFS)
			put_rule(b, m->target, INIT_LANDLOCK_WRITE);
		else if (m->kind <= SANDBOX_MOUNT_VIEW && in->mounts[i].type != PLAN_SYMLINK)
			put_rule(b, m->target, m->exec ? INIT_LANDLOCK_EXEC : INIT_LANDLOCK_READ);
	}
}

static struct init_list put_vector(struct builder *b, const char *const *v)
{
	AUTO_BUFFER offsets = {0};
	uint32_t count = 0;

	for (; v && v[count]; count++) {
		uint32_t at = put_str(b, v[count]);
		if (buffer_append(&offsets, &at, sizeof(at)) < 0)
			b->strings.failed = offsets.failed;
	}
	return put_list(b, buffer_bytes(&offsets), count);
}

static void step_fields(struct builder *b, const struct plan_step_input *in, struct init_step *t)
{
	const struct sandbox_spec *s = in->in->spec;
	const struct sandbox_limits *lim = &s->limits;
	bool limited = !(s->without_walls & SANDBOX_WALL_PIDS);

	*t = (struct init_step){.magic = INIT_MAGIC,
				.uid = in->in->uid,
				.gid = in->in->gid,
				.pty = s->pty,
				.rows = s->pty_rows,
				.cols = s->pty_cols,
				.wait_for_go = in->wait_for_go,
				.own_userns = in->own_userns,
				.filter_notifies = in->filter_notifies,
				.landlock_weaker = !!(s->allow_weaker & SANDBOX_WEAKER_LANDLOCK)};
	t->rlimit_fsize = limited ? lim->disk_bytes : 0;
	t->rlimit_nproc = limited && in->own_userns ? lim->pids : 0;
	t->rlimit_cpu_s = limited && lim->cpu_ms ? lim->cpu_ms / 1000 + 2 : 0;
	t->cwd = put_str(b, s->cwd);
	t->argv = put_vector(b, s->argv);
	t->env = put_vector(b, s->env);
}

int plan_step(const struct plan_step_input *in, struct buffer *out, struct error *err)
{
	struct builder b;
	struct items l;
	struct init_step t;

	builder_init(&b, sizeof(t));
	b.armed = in->armed;
	collect(in->in, &l);
	step_fields(&b, in, &t);
	for (size_t i = 0; i < l.count; i++)
		step_item(&b, in->in, &l.v[i]);
	step_proc(&b);
	if (in->landlock)
		step_rules(&b, in->in);
	t.ops = put_list(&b, buffer_bytes(&b.ops), b.op_count);
	t.rules = put_list(&b, buffer_bytes(&b.rules), b.rule_count);
	t.filter = put_list(&b, in->filter, (uint32_t)(in->filter.len / 8));
	t.listeners =
		put_list(&b, bytes_of(in->listeners, in->listener_count * sizeof(*in->listeners)),
			 (uint32_t)in->listener_count);
	t.net = in->net;
	int failed = builder_failed(&b, err);
	if (failed == 0) {
		t.bytes = (uint32_t)b.strings.len;
		memcpy(b.strings.data, &t, sizeof(t));
		failed = buffer_append(out, b.strings.data, b.strings.len);
	}
	builder_free(&b);
	return failed;
}

const char *plan_stage_name(enum init_stage stage)
{
	switch (stage) {
	case INIT_STAGE_NONE:
		break;
	case INIT_STAGE_USERNS:
		return "user namespace";
	case INIT_STAGE_SOURCES:
		return "sources";
	case INIT_STAGE_ROOT:
		return "root";
	case INIT_STAGE_SKELETON:
		return "skeleton";
	case INIT_STAGE_CLONE:
		return "clone";
	case INIT_STAGE_NETWORK:
		return "network";
	case INIT_STAGE_MOUNTS:
		return "mounts";
	case INIT_STAGE_TERMINAL:
		return "terminal";
	case INIT_STAGE_LISTENERS:
		return "listeners";
	case INIT_STAGE_GO:
		return "go";
	case INIT_STAGE_LIMITS:
		return "limits";
	case INIT_STAGE_LANDLOCK:
		return "landlock";
	case INIT_STAGE_CAPABILITIES:
		return "capabilities";
	case INIT_STAGE_DESCRIPTORS:
		return "descriptors";
	case INIT_STAGE_CWD:
		return "cwd";
	case INIT_STAGE_SECCOMP:
		return "seccomp";
	case INIT_STAGE_EXEC:
		return "exec";
	}
	return "none";
}

const char *plan_string(struct bytes plan, uint32_t offset)
{
	if (offset == 0 || offset >= plan.len ||
	    !memchr((const char *)plan.data + offset, 0, plan.len - offset))
		return "";
	return (const char *)plan.data + offset;
}
