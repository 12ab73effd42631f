/*
 * A spec on its way to the keeper: what it may say, written and read.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include "sandbox/protocol_wire.h"
#include "base/path.h"

/* ---- what a spec may say ---- */

static size_t vector_len(const char *const *v)
{
	size_t n = 0;

	while (v && v[n] && n <= SANDBOX_ARGS_MAX)
		n++;
	return n;
}

static bool is_plain_path(const char *p)
{
	if (!p || p[0] != '/' || strlen(p) > SANDBOX_PATH_MAX)
		return false;
	for (const char *c = p; *c;) {
		size_t n = strcspn(c + 1, "/");
		if ((n == 0 && c[1] == '/') || (n == 1 && c[1] == '.') ||
		    (n == 2 && c[1] == '.' && c[2] == '.'))
			return false;
		c += 1 + n;
	}
	return p[1] == '\0' || p[strlen(p) - 1] != '/';
}

static bool is_name(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= 64 && s[0] != '.' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

/* Below these everything is the keeper's own, but for what the supervisor binds as programs. */
static bool is_reserved(const char *target)
{
	if (strncmp(target, SANDBOX_BIN "/", sizeof(SANDBOX_BIN)) == 0)
		return strchr(target + sizeof(SANDBOX_BIN), '/') != NULL;
	return strcmp(target, "/") == 0 || path_within(target, "/proc") ||
	       path_within(target, "/dev") || path_within(target, "/run/holdfast") ||
	       strcmp(target, "/run") == 0;
}

static int check_mounts(const struct sandbox_spec *s, struct error *err)
{
	if (s->mount_count > SANDBOX_MOUNTS_MAX)
		return error_set(err, -EINVAL, "sandbox: %zu mounts: at most %d", s->mount_count,
				 SANDBOX_MOUNTS_MAX);
	for (size_t i = 0; i < s->mount_count; i++) {
		const struct sandbox_mount *m = &s->mounts[i];
		bool sourced = m->kind <= SANDBOX_MOUNT_RW;
		if (m->kind < SANDBOX_MOUNT_SYSTEM || m->kind > SANDBOX_MOUNT_MASK_FILE)
			return error_set(err, -EINVAL, "sandbox: unknown kind of mount %d",
					 (int)m->kind);
		if (!is_plain_path(m->target) || is_reserved(m->target))
			return error_set(err, -EINVAL,
					 "sandbox: mount target '%s': not a plain absolute path, "
					 "or the sandbox's own",
					 m->target ? m->target : "");
		if (sourced != !!m->source || (sourced && !is_plain_path(m->source)))
			return error_set(
				err, -EINVAL,
				"sandbox: mount source '%s' of '%s': not a plain absolute path",
				m->source ? m->source : "", m->target);
	}
	return 0;
}

static int check_workspace(const struct sandbox_workspace *w, struct error *err)
{
	if (w->mode > SANDBOX_WORKSPACE_READONLY)
		return error_set(err, -EINVAL, "sandbox: unknown workspace mode %d", (int)w->mode);
	if (w->mode == SANDBOX_WORKSPACE_NONE)
		return 0;
	if (!is_plain_path(w->target) || is_reserved(w->target) || strcmp(w->target, "/tmp") == 0)
		return error_set(err, -EINVAL,
				 "sandbox: workspace target '%s': not a plain absolute path, or "
				 "the sandbox's own",
				 w->target ? w->target : "");
	if (w->layer_count > MANIFEST_STACK_MAX)
		return error_set(err, -EINVAL, "sandbox: %zu layers: at most %d; squash the stack",
				 w->layer_count, MANIFEST_STACK_MAX);
	if ((w->mode == SANDBOX_WORKSPACE_STAGED) != !!w->upper)
		return error_set(err, -EINVAL,
				 "sandbox: a staged workspace names its new layer, another none");
	return 0;
}

static int check_program(const struct sandbox_spec *s, struct error *err)
{
	if (vector_len(s->argv) == 0 || vector_len(s->argv) > SANDBOX_ARGS_MAX || !s->argv[0][0])
		return error_set(err, -EINVAL, "sandbox: no program, or more than %d arguments",
				 SANDBOX_ARGS_MAX);
	if (vector_len(s->env) > SANDBOX_ARGS_MAX)
		return error_set(err, -EINVAL, "sandbox: more than %d environment variables",
				 SANDBOX_ARGS_MAX);
	for (size_t i = 0; s->env && s->env[i]; i++)
		if (!strchr(s->env[i], '=') || s->env[i][0] == '=')
			return error_set(err, -EINVAL,
					 "sandbox: an environment variable without a name");
	if (!is_plain_path(s->cwd))
		return error_set(err, -EINVAL,
				 "sandbox: working folder '%s': not a plain absolute path",
				 s->cwd ? s->cwd : "");
	if (s->home &&
	    (!is_plain_path(s->home) || is_reserved(s->home) || strcmp(s->home, "/tmp") == 0))
		return error_set(
			err, -EINVAL,
			"sandbox: home '%s': not a plain absolute path, or the sandbox's own",
			s->home);
	if (s->in_name && !is_name(s->in_name))
		return error_set(err, -EINVAL, "sandbox: name of the in folder '%s'", s->in_name);
	if (s->user_name && !is_name(s->user_name))
		return error_set(err, -EINVAL, "sandbox: user name '%s'", s->user_name);
	if (s->hostname && (!is_name(s->hostname) || strlen(s->hostname) > SANDBOX_HOSTNAME_MAX))
		return error_set(err, -EINVAL, "sandbox: host name '%s'", s->hostname);
	return 0;
}

static int check_etc(const struct sandbox_spec *s, struct error *err)
{
	size_t bytes = 0;

	if (s->etc_file_count > SANDBOX_ETC_FILES_MAX)
		return error_set(err, -EINVAL, "sandbox: %zu files below /etc: at most %d",
				 s->etc_file_count, SANDBOX_ETC_FILES_MAX);
	for (size_t i = 0; i < s->etc_file_count; i++) {
		char path[SANDBOX_PATH_MAX + 1] = "/";
		const char *name = s->etc_files[i].name;
		bytes += s->etc_files[i].content.len;
		if (strlen(name) < sizeof(path) - 1)
			strcpy(path + 1, name);
		if (strlen(name) > 200 || name[0] == '\0' || !is_plain_path(path) ||
		    bytes > SANDBOX_ETC_BYTES_MAX)
			return error_set(err, -EINVAL,
					 "sandbox: file '/etc/%s': not a plain name, or too much",
					 name);
	}
	return 0;
}

int protocol_spec_check(const struct sandbox_spec *s, struct error *err)
{
	int r = check_program(s, err);
	if (r == 0)
		r = check_mounts(s, err);
	if (r == 0)
		r = check_workspace(&s->workspace, err);
	if (r == 0)
		r = check_etc(s, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->workspace.layer_count; i++)
		if (layers_check_name(s->workspace.layers[i]) < 0)
			return error_set(err, -EINVAL, "sandbox: layer name '%s'",
					 s->workspace.layers[i]);
	if (s->workspace.upper && layers_check_name(s->workspace.upper) < 0)
		return error_set(err, -EINVAL, "sandbox: layer name '%s'", s->workspace.upper);
	if (s->listener_count > SANDBOX_LISTENERS_MAX)
		return error_set(err, -EINVAL, "sandbox: %zu listeners: at most %d",
				 s->listener_count, SANDBOX_LISTENERS_MAX);
	if (s->listener_count > 0 && !sandbox_net_none(&s->net))
		return error_set(
			err, -EINVAL,
			"sandbox: listeners of its own, and a network whose table says them");
#ifndef HOLDFAST_FAILPOINTS
	if (s->without_walls)
		return error_set(err, -EINVAL,
				 "sandbox: walls can be taken away only in a build for tests");
#endif
	return 0;
}

/* ---- a spec, written ---- */

enum {
	KEY_ARGV = 1,
	KEY_ENV = 2,
	KEY_CWD = 3,
	KEY_HOME = 4,
	KEY_MOUNTS = 5,
	KEY_WORKSPACE = 6,
	KEY_IN = 7,
	KEY_ETC = 8,
	KEY_LISTENERS = 9,
	KEY_LIMITS = 10,
	KEY_WEAKER = 11,
	KEY_PTY = 12,
	KEY_UID = 13,
	KEY_GID = 14,
	KEY_USER = 15,
	KEY_HOST = 16,
	KEY_WITHOUT = 17,
	KEY_FDS = 18,
	KEY_NET = 19,
};

static void w_vector(struct buffer *b, struct cbor_map_mark *m, uint64_t key, const char *const *v,
		     size_t n)
{
	cbor_w_key(b, m, key);
	cbor_w_array(b, n);
	for (size_t i = 0; i < n; i++)
		protocol_wire_str(b, v[i]);
}

static void w_mount(struct buffer *b, const struct sandbox_mount *v)
{
	struct cbor_map_mark m = cbor_w_map_begin(b);

	protocol_wire_key_uint(b, &m, 1, v->kind);
	protocol_wire_key_str(b, &m, 2, v->source);
	protocol_wire_key_str(b, &m, 3, v->target);
	protocol_wire_key_uint(b, &m, 4, (v->exec ? 1u : 0u) | (v->optional ? 2u : 0u));
	cbor_w_map_end(b, &m);
}

static void w_workspace(struct buffer *b, const struct sandbox_workspace *w)
{
	struct cbor_map_mark m = cbor_w_map_begin(b);

	protocol_wire_key_uint(b, &m, 1, w->mode);
	protocol_wire_key_str(b, &m, 2, w->target);
	w_vector(b, &m, 3, w->layers, w->layer_count);
	protocol_wire_key_str(b, &m, 4, w->upper);
	cbor_w_map_end(b, &m);
}

static void w_limits(struct buffer *b, const struct sandbox_limits *l)
{
	struct cbor_map_mark m = cbor_w_map_begin(b);

	protocol_wire_key_uint(b, &m, 1, l->wall_ms);
	protocol_wire_key_uint(b, &m, 2, l->cpu_ms);
	protocol_wire_key_uint(b, &m, 3, l->memory_bytes);
	protocol_wire_key_uint(b, &m, 4, l->disk_bytes);
	protocol_wire_key_uint(b, &m, 5, l->output_bytes);
	protocol_wire_key_uint(b, &m, 6, l->pids);
	protocol_wire_key_uint(b, &m, 7, l->files);
	cbor_w_map_end(b, &m);
}

static void w_lists(struct buffer *b, struct cbor_map_mark *m, const struct sandbox_spec *s)
{
	cbor_w_key(b, m, KEY_MOUNTS);
	cbor_w_array(b, s->mount_count);
	for (size_t i = 0; i < s->mount_count; i++)
		w_mount(b, &s->mounts[i]);
	if (s->workspace.mode != SANDBOX_WORKSPACE_NONE) {
		cbor_w_key(b, m, KEY_WORKSPACE);
		w_workspace(b, &s->workspace);
	}
	protocol_wire_key_str(b, m, KEY_IN, s->in_name);
	if (s->etc_file_count > 0) {
		cbor_w_key(b, m, KEY_ETC);
		cbor_w_array(b, s->etc_file_count);
		for (size_t i = 0; i < s->etc_file_count; i++) {
			cbor_w_map(b, 2);
			cbor_w_uint(b, 1);
			protocol_wire_str(b, s->etc_files[i].name);
			cbor_w_uint(b, 2);
			cbor_w_bytes(b, s->etc_files[i].content);
		}
	}
	if (s->listener_count > 0) {
		cbor_w_key(b, m, KEY_LISTENERS);
		cbor_w_array(b, s->listener_count);
		for (size_t i = 0; i < s->listener_count; i++) {
			cbor_w_map(b, 3);
			cbor_w_uint(b, 1);
			cbor_w_bytes(b, bytes_of(s->listeners[i].address,
						 s->listeners[i].v6 ? 16 : 4));
			cbor_w_uint(b, 2);
			cbor_w_uint(b, s->listeners[i].port);
			cbor_w_uint(b, 3);
			cbor_w_bool(b, s->listeners[i].datagram);
		}
	}
}

int protocol_spec_encode(const struct sandbox_spec *s, struct buffer *out, struct error *err)
{
	int r = protocol_spec_check(s, err);
	if (r < 0)
		return r;
	struct cbor_map_mark m = cbor_w_map_begin(out);
	w_vector(out, &m, KEY_ARGV, s->argv, vector_len(s->argv));
	w_vector(out, &m, KEY_ENV, s->env, vector_len(s->env));
	protocol_wire_key_str(out, &m, KEY_CWD, s->cwd);
	protocol_wire_key_str(out, &m, KEY_HOME, s->home);
	w_lists(out, &m, s);
	cbor_w_key(out, &m, KEY_LIMITS);
	w_limits(out, &s->limits);
	protocol_wire_key_uint(out, &m, KEY_WEAKER, s->allow_weaker);
	if (s->pty) {
		cbor_w_key(out, &m, KEY_PTY);
		cbor_w_array(out, 2);
		cbor_w_uint(out, s->pty_rows);
		cbor_w_uint(out, s->pty_cols);
	}
	protocol_wire_key_uint(out, &m, KEY_UID, s->uid);
	protocol_wire_key_uint(out, &m, KEY_GID, s->gid);
	protocol_wire_key_str(out, &m, KEY_USER, s->user_name);
	protocol_wire_key_str(out, &m, KEY_HOST, s->hostname);
	protocol_wire_key_uint(out, &m, KEY_WITHOUT, s->without_walls);
	uint32_t fds = (s->stdin_fd >= 0 && !s->pty ? PROTOCOL_START_STDIN : 0u) |
		       (s->workspace.mode != SANDBOX_WORKSPACE_NONE ? PROTOCOL_START_BASE : 0u);
	protocol_wire_key_uint(out, &m, KEY_FDS, fds);
	if (!sandbox_net_none(&s->net)) {
		cbor_w_key(out, &m, KEY_NET);
		cbor_w_bytes(out, bytes_of(s->net.b, sizeof(s->net.b)));
	}
	cbor_w_map_end(out, &m);
	if (out->failed == 0 && out->len > SANDBOX_SPEC_BYTES_MAX)
		out->failed = -E2BIG;
	if (out->failed < 0)
		return error_set(
			err, out->failed,
			"sandbox: the program's arguments, environment and mounts pass %d bytes",
			SANDBOX_SPEC_BYTES_MAX);
	return 0;
}

/* ---- a spec, read ---- */

struct chunk {
	struct chunk *next;
	max_align_t data[];
};

/* One list of allocations that all go together; a failure sticks in the reader. */
struct arena {
	struct chunk *first;
	struct cbor_reader *reader;
};

static void *arena_alloc(struct arena *a, size_t count, size_t size)
{
	struct chunk *c =
		a->reader->error ? NULL : calloc(1, sizeof(*c) + (count ? count : 1) * size);

	if (!c) {
		cbor_r_fail(a->reader, -ENOMEM);
		return NULL;
	}
	c->next = a->first;
	a->first = c;
	return c->data;
}

static const char *r_str(struct arena *a)
{
	struct bytes b = cbor_r_bytes(a->reader);
	char *copy = arena_alloc(a, b.len + 1, 1);

	if (b.len > 0 && memchr(b.data, 0, b.len))
		cbor_r_fail(a->reader, -EBADMSG);
	if (copy && b.len > 0)
		memcpy(copy, b.data, b.len);
	return copy;
}

/* NULL-terminated. */
static const char *const *r_vector(struct arena *a, size_t max, size_t *ret_count)
{
	size_t n = protocol_wire_count(a->reader, max);
	const char **v = arena_alloc(a, n + 1, sizeof(*v));

	for (size_t i = 0; i < n && v; i++)
		v[i] = r_str(a);
	if (ret_count)
		*ret_count = n;
	return v;
}

static void r_mount(struct arena *a, struct sandbox_mount *ret)
{
	struct cbor_map_iter m;
	uint64_t key, flags;

	cbor_r_map(a->reader, &m);
	while (cbor_r_key(a->reader, &m, &key)) {
		if (key == 1) {
			ret->kind = (enum sandbox_mount_kind)protocol_wire_uint_max(a->reader, 255);
		} else if (key == 2) {
			ret->source = r_str(a);
		} else if (key == 3) {
			ret->target = r_str(a);
		} else if (key == 4) {
			flags = protocol_wire_uint_max(a->reader, 3);
			ret->exec = flags & 1;
			ret->optional = flags & 2;
		} else {
			cbor_r_fail(a->reader, -EPROTO);
		}
	}
}

static void r_workspace(struct arena *a, struct sandbox_workspace *ret)
{
	struct cbor_map_iter m;
	uint64_t key;

	cbor_r_map(a->reader, &m);
	while (cbor_r_key(a->reader, &m, &key)) {
		if (key == 1)
			ret->mode =
				(enum sandbox_workspace_mode)protocol_wire_uint_max(a->reader, 255);
		else if (key == 2)
			ret->target = r_str(a);
		else if (key == 3)
			ret->layers = r_vector(a, MANIFEST_STACK_MAX, &ret->layer_count);
		else if (key == 4)
			ret->upper = r_str(a);
		else
			cbor_r_fail(a->reader, -EPROTO);
	}
}

static void r_limits(struct cbor_reader *r, struct sandbox_limits *ret)
{
	struct cbor_map_iter m;
	uint64_t key;

	cbor_r_map(r, &m);
	while (cbor_r_key(r, &m, &key)) {
		if (key == 1)
			ret->wall_ms = protocol_wire_uint_max(r, INT64_MAX / 1000000);
		else if (key == 2)
			ret->cpu_ms = protocol_wire_uint_max(r, INT64_MAX / 1000000);
		else if (key == 3)
			ret->memory_bytes = protocol_wire_uint_max(r, INT64_MAX);
		else if (key == 4)
			ret->disk_bytes = protocol_wire_uint_max(r, INT64_MAX);
		else if (key == 5)
			ret->output_bytes = protocol_wire_uint_max(r, INT64_MAX);
		else if (key == 6)
			ret->pids = (uint32_t)protocol_wire_uint_max(r, INT32_MAX);
		else if (key == 7)
			ret->files = (uint32_t)protocol_wire_uint_max(r, INT32_MAX);
		else
			cbor_r_fail(r, -EPROTO);
	}
}

static void r_etc(struct arena *a, struct sandbox_spec *s)
{
	size_t n = protocol_wire_count(a->reader, SANDBOX_ETC_FILES_MAX);
	struct sandbox_etc_file *v = arena_alloc(a, n, sizeof(*v));
	struct cbor_map_iter m;
	uint64_t key;

	for (size_t i = 0; i < n && v; i++) {
		v[i].name = "";
		cbor_r_map(a->reader, &m);
		while (cbor_r_key(a->reader, &m, &key)) {
			if (key == 1) {
				v[i].name = r_str(a);
			} else if (key == 2) {
				struct bytes b = cbor_r_bytes(a->reader);
				void *copy = arena_alloc(a, b.len + 1, 1);
				if (copy && b.len > 0)
					memcpy(copy, b.data, b.len);
				v[i].content = bytes_of(copy, b.len);
			} else {
				cbor_r_fail(a->reader, -EPROTO);
			}
		}
	}
	s->etc_files = v;
	s->etc_file_count = n;
}

static void r_listeners(struct arena *a, struct sandbox_spec *s)
{
	size_t n = protocol_wire_count(a->reader, SANDBOX_LISTENERS_MAX);
	struct sandbox_listener *v = arena_alloc(a, n, sizeof(*v));
	struct cbor_map_iter m;
	uint64_t key;

	for (size_t i = 0; i < n && v; i++) {
		cbor_r_map(a->reader, &m);
		while (cbor_r_key(a->reader, &m, &key)) {
			if (key == 1) {
				struct bytes b = cbor_r_bytes(a->reader);
				v[i].v6 = b.len == 16;
				if (b.len == 4 || b.len == 16)
					memcpy(v[i].address, b.data, b.len);
				else
					cbor_r_fail(a->reader, -EBADMSG);
			} else if (key == 2) {
				v[i].port = (uint16_t)protocol_wire_uint_max(a->reader, UINT16_MAX);
			} else if (key == 3) {
				v[i].datagram = cbor_r_bool(a->reader);
			} else {
				cbor_r_fail(a->reader, -EPROTO);
			}
		}
	}
	s->listeners = v;
	s->listener_count = n;
}

static void r_field(struct arena *a, struct protocol_spec *p, uint64_t key)
{
	struct sandbox_spec *s = &p->spec;
	struct cbor_reader *r = a->reader;

	if (key == KEY_ARGV) {
		s->argv = r_vector(a, SANDBOX_ARGS_MAX, NULL);
	} else if (key == KEY_ENV) {
		s->env = r_vector(a, SANDBOX_ARGS_MAX, NULL);
	} else if (key == KEY_CWD) {
		s->cwd = r_str(a);
	} else if (key == KEY_HOME) {
		s->home = r_str(a);
	} else if (key == KEY_MOUNTS) {
		s->mount_count = protocol_wire_count(r, SANDBOX_MOUNTS_MAX);
		struct sandbox_mount *v = arena_alloc(a, s->mount_count, sizeof(*v));
		for (size_t i = 0; i < s->mount_count && v; i++)
			r_mount(a, &v[i]);
		s->mounts = v;
	} else if (key == KEY_WORKSPACE) {
		r_workspace(a, &s->workspace);
	} else if (key == KEY_IN) {
		s->in_name = r_str(a);
	} else if (key == KEY_ETC) {
		r_etc(a, s);
	} else if (key == KEY_LISTENERS) {
		r_listeners(a, s);
	} else if (key == KEY_LIMITS) {
		r_limits(r, &s->limits);
	} else if (key == KEY_WEAKER) {
		s->allow_weaker = (uint32_t)protocol_wire_uint_max(r, UINT32_MAX);
	} else if (key == KEY_PTY) {
		if (cbor_r_array(r) != 2)
			cbor_r_fail(r, -EBADMSG);
		s->pty = true;
		s->pty_rows = (uint16_t)protocol_wire_uint_max(r, UINT16_MAX);
		s->pty_cols = (uint16_t)protocol_wire_uint_max(r, UINT16_MAX);
	} else if (key == KEY_UID) {
		s->uid = (uid_t)protocol_wire_uint_max(r, UINT32_MAX - 1);
	} else if (key == KEY_GID) {
		s->gid = (gid_t)protocol_wire_uint_max(r, UINT32_MAX - 1);
	} else if (key == KEY_USER) {
		s->user_name = r_str(a);
	} else if (key == KEY_HOST) {
		s->hostname = r_str(a);
	} else if (key == KEY_WITHOUT) {
		s->without_walls = (uint32_t)protocol_wire_uint_max(r, UINT32_MAX);
	} else if (key == KEY_FDS) {
		p->fds = (uint32_t)protocol_wire_uint_max(r, PROTOCOL_START_STDIN |
								     PROTOCOL_START_BASE);
	} else if (key == KEY_NET) {
		struct bytes id = cbor_r_bytes(r);
		if (id.len == sizeof(s->net.b))
			memcpy(s->net.b, id.data, id.len);
		if (sandbox_net_none(&s->net))
			cbor_r_fail(r, -EBADMSG);
	} else {
		cbor_r_fail(r, -EPROTO);
	}
}

void protocol_spec_free(struct protocol_spec *s)
{
	if (!s)
		return;
	for (struct chunk *c = s->memory, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	free(s);
}

int protocol_spec_decode(struct bytes b, const struct sandbox_attempt_id *attempt,
			 struct protocol_spec **ret, struct error *err)
{
	struct cbor_reader r = cbor_reader(b);
	struct arena a = {NULL, &r};
	struct cbor_map_iter m;
	uint64_t key;

	AUTO(protocol_spec_free) struct protocol_spec *p = calloc(1, sizeof(*p));
	if (!p)
		return error_nomem(err);
	p->spec.attempt = *attempt;
	p->spec.stdin_fd = p->spec.workspace.base_fd = -1;
	cbor_r_map(&r, &m);
	while (cbor_r_key(&r, &m, &key))
		r_field(&a, p, key);
	p->memory = a.first;
	int failed = cbor_r_end(&r);
	if (failed < 0)
		return error_set(err, failed, "keeper: START is not a well-formed spec");
	bool workspace = p->spec.workspace.mode != SANDBOX_WORKSPACE_NONE;
	if (workspace != !!(p->fds & PROTOCOL_START_BASE))
		return error_set(err, -EINVAL, "sandbox: a workspace comes with its base folder");
	failed = protocol_spec_check(&p->spec, err);
	if (failed < 0)
		return failed;
	*ret = take_ptr(p);
	return 0;
}
