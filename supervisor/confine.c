/*
 * The policy's words to one sandbox_spec: fs table to mounts, masks, program, environment, limits,
 * in this order. Called by attempts.c and jobs.c for each sandbox, by asks.c for the exec rule;
 * on the loop's thread, the only calls that block are looks at paths.
 */
#include "supervisor/confine.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/path.h"

enum { STRINGS_MAX = 4096, PATH_SIZE = 4096 };

#define INSIDE_TMP "/tmp"
#define INSIDE_RUN "/run/holdfast"

struct confine {
	struct sandbox_spec spec;
	struct policy_effective *policy; /* of the step */
	struct policy_fs *fs;
	struct sandbox_mount mounts[SANDBOX_MOUNTS_MAX];
	char *strings[STRINGS_MAX]; /* owned */
	size_t string_count;
	const char **env;
	enum policy_access workspace_access;
	const struct confine_input *in; /* during confine_new */
};

static char *own(struct confine *c, char *s)
{
	if (!s || c->string_count == STRINGS_MAX) {
		free(s);
		return NULL;
	}
	c->strings[c->string_count++] = s;
	return s;
}

static char *own_printf(struct confine *c, const char *fmt, ...)
{
	va_list args;
	char *s = NULL;

	va_start(args, fmt);
	if (vasprintf(&s, fmt, args) < 0)
		s = NULL;
	va_end(args);
	return own(c, s);
}

static int unsupported(struct error *err, const struct policy_mount *m, const char *why)
{
	error_where(err, "%s:%d:%d", m->at.file, m->at.line, m->at.column);
	return error_set_exit(err, -EOPNOTSUPP, EXIT_STATUS_SANDBOX,
			      "cannot confine to '%s: %s': %s", m->path,
			      policy_access_name(m->access), why);
}

static int add_mount(struct confine *c, enum sandbox_mount_kind kind, const char *source,
		     const char *target, bool exec, bool optional, struct error *err)
{
	if (c->spec.mount_count == SANDBOX_MOUNTS_MAX)
		return error_set_exit(err, -E2BIG, EXIT_STATUS_LIMIT,
				      "the policy's fs table needs more than %d mounts; name "
				      "folders instead of their entries",
				      SANDBOX_MOUNTS_MAX);
	c->mounts[c->spec.mount_count++] = (struct sandbox_mount){.kind = kind,
								  .source = source,
								  .target = target,
								  .exec = exec,
								  .optional = optional};
	return 0;
}

/* ---- what stands where ---- */

/* The type of what is at an absolute path, its last component not followed; 0 = nothing that we can
 * see. Below the workspace through its descriptor, so that it is the folder that the client opened.
 */
static mode_t look(const struct confine *c, const char *path, struct stat *ret)
{
	const struct confine_input *in = c->in;

	if (in->workspace_fd >= 0 && path_within(path, in->workspace) &&
	    strcmp(in->workspace, "/") != 0) {
		const char *rest = path + strlen(in->workspace);
		AUTO_FD fd = io_open_beneath(in->workspace_fd, rest[0] ? rest + 1 : ".",
					     O_PATH | O_NOFOLLOW, 0);

		return fd < 0 || fstat(fd, ret) < 0 ? 0 : ret->st_mode & S_IFMT;
	}
	return lstat(path, ret) < 0 ? 0 : ret->st_mode & S_IFMT;
}

/* Trees of the system that no user can write: bound as they are. Everything else is seen through an
 * overlay, where connect() and FIFOs do not pass. */
static bool is_system(const char *path, const struct stat *st)
{
	static const char *const roots[] = {"/usr",    "/bin", "/sbin", "/lib", "/lib32", "/lib64",
					    "/libx32", "/etc", "/opt",	"/nix", "/gnu"};

	if (st->st_uid != 0 || (!S_ISLNK(st->st_mode) && (st->st_mode & (S_IWGRP | S_IWOTH))))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++)
		if (path_within(path, roots[i]))
			return true;
	return false;
}

static int mask(struct confine *c, const char *path, struct error *err)
{
	struct stat st;
	mode_t type = look(c, path, &st);
	char *target;

	if (type == 0 || type == S_IFLNK) /* nothing to hide; a link's target has an entry of its
					     own, or no grant */
		return 0;
	target = own_printf(c, "%s", path);
	if (!target)
		return error_nomem(err);
	return add_mount(c, type == S_IFDIR ? SANDBOX_MOUNT_MASK_DIR : SANDBOX_MOUNT_MASK_FILE,
			 NULL, target, false, true, err);
}

/* ---- entries of the table ---- */

/* A place of Holdfast's own that is in this folder or around it, by its name or by where it really
 * is; or NULL. Whether it is there now says nothing: a step that may write could make it, and what
 * stands there is believed by whoever comes next. */
static const char *kept_at(const struct confine *c, const char *path)
{
	const char *const places[] = {c->in->state, c->in->runtime};
	char real[PATH_MAX];

	if (!realpath(path, real))
		snprintf(real, sizeof(real), "%s", path);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (path_within(places[i], path) || path_within(places[i], real) ||
		    path_within(real, places[i]))
			return places[i];
	for (const char *const *k = c->in->kept; k && *k; k++)
		if (path_within(*k, path) || path_within(*k, real) || path_within(real, *k))
			return *k;
	return NULL;
}

static const char *rw_refused(struct confine *c, const char *kept)
{
	const char *why = own_printf(c,
				     "Holdfast's own state, policies or settings have their place "
				     "in it (%s); grant a smaller folder, or move --state",
				     kept);

	return why ? why : "Holdfast's own folders have their place in it";
}

static int place_in_workspace(struct confine *c, const struct policy_mount *m, const char *path,
			      struct error *err)
{
	const char *kept;
	char *target;

	switch (m->access) {
	case POLICY_ACCESS_NONE:
		return mask(c, path, err);
	case POLICY_ACCESS_R:
	case POLICY_ACCESS_RX:
		if (c->workspace_access <= POLICY_ACCESS_RX)
			return 0;
		target = own_printf(c, "%s", path);
		return target ? add_mount(c, SANDBOX_MOUNT_PROTECT, NULL, target,
					  m->access == POLICY_ACCESS_RX, true, err)
			      : error_nomem(err);
	case POLICY_ACCESS_SCRATCH:
	case POLICY_ACCESS_STAGE:
		/* Without an upper folder all of the workspace is a view, by intention. */
		if (c->workspace_access < POLICY_ACCESS_SCRATCH && c->in->upper)
			return unsupported(err, m,
					   "the workspace around it is read-only; grant the "
					   "workspace 'stage' and its other parts 'rx'");
		return 0;
	case POLICY_ACCESS_RW:
		if ((kept = kept_at(c, path)))
			return unsupported(err, m, rw_refused(c, kept));
		target = own_printf(c, "%s", path);
		return target ? add_mount(c, SANDBOX_MOUNT_RW, target, target, true, false, err)
			      : error_nomem(err);
	}
	return 0;
}

static int place_outside(struct confine *c, const struct policy_mount *m, const char *path,
			 bool optional, struct error *err)
{
	const struct confine_input *in = c->in;
	struct stat st = {0};
	const char *kept;
	char *target;

	if (m->access == POLICY_ACCESS_NONE)
		return mask(c, path, err);
	target = own_printf(c, "%s", path);
	if (!target)
		return error_nomem(err);
	switch (m->access) {
	case POLICY_ACCESS_R:
	case POLICY_ACCESS_RX:
		if (look(c, path, &st) == 0)
			return 0;
		return add_mount(c,
				 is_system(path, &st) ? SANDBOX_MOUNT_SYSTEM : SANDBOX_MOUNT_VIEW,
				 target, target, m->access == POLICY_ACCESS_RX, optional, err);
	case POLICY_ACCESS_SCRATCH:
	case POLICY_ACCESS_STAGE:
		if (in->home && strcmp(path, in->home) == 0)
			return 0; /* spec.home */
		if (strcmp(path, INSIDE_TMP) == 0)
			return 0; /* every sandbox has its own */
		if (path_within(path, INSIDE_TMP) || (in->home && path_within(path, in->home)) ||
		    path_within(path, INSIDE_RUN))
			return 0; /* inside one of the two */
		return unsupported(
			err, m,
			"only the workspace has layers; move it into the workspace, or grant 'rw'");
	case POLICY_ACCESS_RW:
		if ((kept = kept_at(c, path)))
			return unsupported(err, m, rw_refused(c, kept));
		return add_mount(c, SANDBOX_MOUNT_RW, target, target, true, optional, err);
	case POLICY_ACCESS_NONE:
		break;
	}
	return 0;
}

static int place(struct confine *c, const struct policy_mount *m, const char *path,
		 struct error *err)
{
	const char *workspace = c->in->workspace;

	if (strcmp(path, workspace) == 0)
		return 0; /* spec.workspace */
	if (path_within(path, workspace))
		return place_in_workspace(c, m, path, err);
	return place_outside(c, m, path, m->access != POLICY_ACCESS_RW || m->glob, err);
}

static bool has_own_entry(const struct policy_mount *table, size_t count, const char *path)
{
	for (size_t i = 0; i < count; i++)
		if (!table[i].glob && strcmp(table[i].path, path) == 0)
			return true;
	return false;
}

/* The '*' of the last component, against the names that are there now. */
static int expand(struct confine *c, const struct policy_mount *table, size_t count,
		  const struct policy_mount *m, struct error *err)
{
	const struct confine_input *in = c->in;
	const char *slash = strrchr(m->path, '/');
	char folder[PATH_SIZE], path[PATH_SIZE + 256];
	AUTO_DIR dir = NULL;
	int fd;

	snprintf(folder, sizeof(folder), "%.*s", slash == m->path ? 1 : (int)(slash - m->path),
		 m->path);
	if (in->workspace_fd >= 0 && path_within(folder, in->workspace)) {
		const char *rest = folder + strlen(in->workspace);

		fd = io_open_beneath(in->workspace_fd, rest[0] ? rest + 1 : ".",
				     O_RDONLY | O_DIRECTORY, 0);
	} else {
		fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return 0;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return error_nomem(err);
	}
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		int r;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    fnmatch(slash + 1, e->d_name, FNM_NOESCAPE) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", strcmp(folder, "/") == 0 ? "" : folder,
			 e->d_name);
		if (has_own_entry(table, count, path))
			continue;
		r = place(c, m, path, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static enum policy_access access_of(const struct policy_mount *table, size_t count,
				    const char *path)
{
	enum policy_access access = POLICY_ACCESS_NONE;
	size_t best = 0;

	for (size_t i = 0; i < count; i++) {
		if (!table[i].glob && path_within(path, table[i].path) &&
		    strlen(table[i].path) >= best) {
			best = strlen(table[i].path);
			access = table[i].access;
		}
	}
	return access;
}

static int place_workspace(struct confine *c, const struct policy_mount *table, size_t count,
			   struct error *err)
{
	const struct confine_input *in = c->in;
	struct sandbox_workspace *w = &c->spec.workspace;
	const char *kept;

	c->workspace_access = access_of(table, count, in->workspace);
	*w = (struct sandbox_workspace){.target = in->workspace, .base_fd = -1};
	if (path_within(in->workspace, in->state) || path_within(in->workspace, in->runtime))
		return error_set_exit(err, -EOPNOTSUPP, EXIT_STATUS_SANDBOX,
				      "cannot work in %s: it is inside Holdfast's own state; "
				      "choose another workspace",
				      in->workspace);
	for (const char *const *h = in->hidden; h && *h; h++)
		if (path_within(in->workspace, *h))
			return error_set_exit(err, -EOPNOTSUPP, EXIT_STATUS_SANDBOX,
					      "cannot work in %s: %s is a place of Holdfast's own "
					      "state; choose another workspace",
					      in->workspace, *h);
	switch (c->workspace_access) {
	case POLICY_ACCESS_NONE:
		w->mode = SANDBOX_WORKSPACE_NONE;
		return 0;
	case POLICY_ACCESS_RW:
		if ((kept = kept_at(c, in->workspace)))
			return error_set_exit(err, -EOPNOTSUPP, EXIT_STATUS_SANDBOX,
					      "cannot grant 'rw' on %s: %s", in->workspace,
					      rw_refused(c, kept));
		w->mode = SANDBOX_WORKSPACE_NONE;
		return add_mount(c, SANDBOX_MOUNT_RW, in->workspace, in->workspace, true, false,
				 err);
	case POLICY_ACCESS_R:
	case POLICY_ACCESS_RX:
		w->mode = SANDBOX_WORKSPACE_READONLY;
		break;
	case POLICY_ACCESS_SCRATCH:
	case POLICY_ACCESS_STAGE:
		w->mode = in->upper ? SANDBOX_WORKSPACE_STAGED : SANDBOX_WORKSPACE_READONLY;
		break;
	}
	if (!in->upper)
		c->workspace_access = POLICY_ACCESS_RX;
	w->base_fd = in->workspace_fd;
	w->layers = in->layers;
	w->layer_count = in->layer_count;
	w->upper = w->mode == SANDBOX_WORKSPACE_STAGED ? in->upper : NULL;
	return 0;
}

/* Whether the path, or anything in it, is granted. */
static bool is_granted(const struct policy_mount *table, size_t count, const char *path)
{
	if (access_of(table, count, path) != POLICY_ACCESS_NONE)
		return true;
	for (size_t i = 0; i < count; i++)
		if (path_within(table[i].path, path) && table[i].access != POLICY_ACCESS_NONE)
			return true;
	return false;
}

static int place_all(struct confine *c, struct error *err)
{
	size_t count;
	const struct policy_mount *table = policy_fs_table(c->fs, &count);
	const char *const own_state[] = {c->in->state, c->in->runtime};
	const char *const *hidden = c->in->hidden;
	int r = place_workspace(c, table, count, err);

	for (size_t i = 0; r == 0 && i < count; i++) {
		if (table[i].glob)
			r = expand(c, table, count, &table[i], err);
		else
			r = place(c, &table[i], table[i].path, err);
	}
	/* Whatever the policy grants (invariant 6). */
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(own_state); i++)
		if (access_of(table, count, own_state[i]) != POLICY_ACCESS_NONE)
			r = mask(c, own_state[i], err);
	for (; r == 0 && hidden && *hidden; hidden++)
		if (strcmp(*hidden, c->in->state) != 0 && strcmp(*hidden, c->in->runtime) != 0 &&
		    is_granted(table, count, *hidden))
			r = mask(c, *hidden, err);
	return r;
}

/* ---- program, environment, limits ---- */

static const char *find_env(const char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; *env; env++)
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

static int no_room(const struct confine *c, struct error *err)
{
	if (c->string_count < STRINGS_MAX)
		return error_nomem(err);
	return error_set_exit(err, -E2BIG, EXIT_STATUS_USAGE,
			      "the step's environment and mounts have more than %d strings; let "
			      "fewer variables pass in the policy's env",
			      STRINGS_MAX);
}

/* The step calls tools: it finds the client before any other program of that name. */
static bool calls_tools(const struct confine *c)
{
	struct policy_tool_info t;

	return c->in->helpers && policy_tool_at(c->policy, 0, &t);
}

static int place_tool_client(struct confine *c, struct error *err)
{
	char *source;

	if (!calls_tools(c))
		return 0;
	source = own_printf(c, "%s/holdfast-tool", c->in->helpers);
	return source ? add_mount(c, SANDBOX_MOUNT_SYSTEM, source, CONFINE_TOOL_CLIENT, true, false,
				  err)
		      : error_nomem(err);
}

/* A hole would end the list. */
static int put_env(struct confine *c, const char *entry, size_t *at, struct error *err)
{
	c->env[*at] = own_printf(c, "%s", entry);
	return c->env[*at] ? ((*at)++, 0) : no_room(c, err);
}

static bool is_set(const char *const *env, const char *entry)
{
	size_t name = strcspn(entry, "=") + 1;

	for (; env && *env; env++)
		if (strncmp(*env, entry, name) == 0)
			return true;
	return false;
}

static int put_path(struct confine *c, size_t *at, struct error *err)
{
	const char *now = find_env(c->env, "PATH");
	char *path;

	if (!calls_tools(c)) {
		if (!now)
			c->env[(*at)++] = "PATH=" CONFINE_DEFAULT_PATH;
		return 0;
	}
	path = own_printf(c, "PATH=" SANDBOX_BIN ":%s", now ? now : CONFINE_DEFAULT_PATH);
	if (!path)
		return no_room(c, err);
	for (size_t i = 0; i < *at; i++)
		if (strncmp(c->env[i], "PATH=", 5) == 0) {
			c->env[i] = path;
			return 0;
		}
	c->env[(*at)++] = path;
	return 0;
}

static int make_env(struct confine *c, struct error *err)
{
	const struct confine_input *in = c->in;
	char **kept = NULL;
	size_t n = 0, extra = 0, at = 0;
	int r;

	while (in->env && in->env[n])
		n++;
	for (size_t i = 0; i < in->step->env_count; i++)
		extra++;
	const char **all = calloc(n + extra + 1, sizeof(*all));

	if (!all)
		return error_nomem(err);
	for (size_t i = 0; i < n; i++) {
		bool replaced = false;

		for (size_t k = 0; k < in->step->env_count; k++) {
			size_t len = strlen(in->step->env[k].name);

			replaced |= strncmp(in->env[i], in->step->env[k].name, len) == 0 &&
				    in->env[i][len] == '=';
		}
		if (!replaced)
			all[at++] = in->env[i];
	}
	for (size_t k = 0; k < in->step->env_count; k++) {
		all[at++] = own_printf(c, "%s=%s", in->step->env[k].name, in->step->env[k].value);
		if (!all[at - 1]) {
			free(all);
			return no_room(c, err);
		}
	}
	r = policy_env(c->policy, all, &kept);
	free(all);
	if (r < 0)
		return error_nomem(err);
	for (n = 0; kept[n]; n++)
		;
	for (extra = 0; in->net_env && in->net_env[extra]; extra++)
		;
	c->env = calloc(n + extra + 4, sizeof(*c->env));
	r = c->env ? 0 : error_nomem(err);
	at = 0;
	for (size_t i = 0; r == 0 && i < extra; i++)
		r = put_env(c, in->net_env[i], &at, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		if (!is_set(in->net_env, kept[i]))
			r = put_env(c, kept[i], &at, err);
	policy_env_free(kept);
	if (r < 0)
		return r;
	n = at;
	r = put_path(c, &n, err);
	if (r < 0)
		return r;
	if (in->home && !find_env(c->env, "HOME"))
		c->env[n++] = own_printf(c, "HOME=%s", in->home);
	if (n > 0 && !c->env[n - 1])
		return no_room(c, err);
	c->spec.env = c->env;
	return 0;
}

/* Lexically: the sandbox may see another thing there, and its walls then say what can be executed.
 */
static char *clean(struct confine *c, const char *folder, const char *path)
{
	char joined[2 * PATH_SIZE], out[2 * PATH_SIZE] = "";
	char *save = NULL;

	if ((size_t)snprintf(joined, sizeof(joined), "%s/%s", path[0] == '/' ? "" : folder, path) >=
	    sizeof(joined))
		return NULL;
	for (char *part = strtok_r(joined, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		if (strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			char *slash = strrchr(out, '/');

			if (slash)
				*slash = '\0';
			continue;
		}
		strcat(out, "/");
		strcat(out, part);
	}
	return own_printf(c, "%s", out[0] ? out : "/");
}

/* The program that argv[0] names, as the policy decides it: looked up in PATH as the sandbox will,
 * where execvp(3) passes over what it may not execute. */
static char *resolve_program(struct confine *c)
{
	const char *name = c->in->argv[0], *path = find_env(c->env, "PATH");
	char candidate[2 * PATH_SIZE], first[2 * PATH_SIZE] = "";
	struct policy_fs_decision d;

	if (strchr(name, '/'))
		return clean(c, c->spec.cwd, name);
	while (path && *path) {
		const char *end = strchrnul(path, ':');

		if (end > path && path[0] == '/' &&
		    (size_t)snprintf(candidate, sizeof(candidate), "%.*s/%s", (int)(end - path),
				     path, name) < sizeof(candidate) &&
		    access(candidate, X_OK) == 0) {
			policy_fs_decide(c->fs, bytes_str(candidate), POLICY_WANT_EXEC, &d);
			if (d.verdict == POLICY_FS_ALLOW)
				return clean(c, "/", candidate);
			if (!*first)
				memcpy(first, candidate, sizeof(first));
		}
		path = *end ? end + 1 : end;
	}
	if (*first)
		return clean(c, "/", first);
	return clean(
		c, c->spec.cwd,
		name); /* not found here: what an earlier step made may still be found inside */
}

/* The folder that the built-in `coding` would let it execute from, as its fs table has it; NULL = it
 * would not. */
static char *granted_by_coding(struct confine *c, const char *program)
{
	const struct policy_vars vars = {.workspace = c->in->workspace,
					 .home = c->in->home,
					 .tmp = INSIDE_TMP,
					 .run = INSIDE_RUN};
	AUTO(policy_free) struct policy *p = NULL;
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	AUTO(policy_fs_free) struct policy_fs *fs = NULL;
	struct policy_input input = {.layer = POLICY_LAYER_RUN};
	const struct policy_combine alone = {.inputs = &input, .count = 1};
	const struct policy_mount *table, *deepest = NULL;
	struct policy_fs_decision d;
	size_t count;

	if (policy_builtin("coding", &p) < 0)
		return NULL;
	input.policy = p;
	if (policy_combine(&alone, &e, NULL) < 0 || policy_fs_new(e, &vars, &fs, NULL) < 0)
		return NULL;
	policy_fs_decide(fs, bytes_str(program), POLICY_WANT_EXEC, &d);
	table = policy_fs_table(fs, &count);
	for (size_t i = 0; d.verdict == POLICY_FS_ALLOW && i < count; i++)
		if (!table[i].glob && path_within(program, table[i].path) &&
		    (!deepest || strlen(table[i].path) > strlen(deepest->path)))
			deepest = &table[i];
	return deepest ? own_printf(c, "%s", deepest->path) : NULL;
}

/* What is not there is told as env(1) does (exit status 127); what no rule covers, with the line that
 * would grant it. */
static int refuse_exec(struct confine *c, const char *program, const struct policy_decision *d,
		       struct error *err)
{
	struct policy_fs_decision f;
	struct policy_place bare;
	const char *home = c->in->home, *folder;
	bool below_home;

	policy_fs_decide(c->fs, bytes_str(program), POLICY_WANT_EXEC, &f);
	if (f.verdict == POLICY_FS_ALLOW || f.at.line > 0)
		return error_set_exit(err, -EACCES, EXIT_STATUS_DENIED,
				      "%.100s: %s; see 'holdfast policy explain'", program, d->why);
	if (access(program, F_OK) < 0 &&
	    (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG))
		return error_set_exit(err, -ENOENT, EXIT_STATUS_STEP_FAILED, "%.150s: %s", program,
				      strerror(errno == ENAMETOOLONG ? errno : ENOENT));
	folder = granted_by_coding(c, program);
	below_home = home && path_within(folder ? folder : program, home);
	/* One file of the system would not do: it wants its libraries, and the links to them. */
	if (folder && !below_home && policy_fs_bare(c->policy, &bare))
		return error_set_exit(err, -EACCES, EXIT_STATUS_DENIED,
				      "%.60s: %.90s:%d grants no program of the system: write "
				      "'extends: [offline]' in that file; no other policy can "
				      "grant it",
				      program, bare.file, bare.line);
	return error_set_exit(err, -EACCES, EXIT_STATUS_DENIED,
			      "%.80s: %.60s; under fs, {path: \"%s%.80s\", access: rx} grants it%s",
			      program, d->why, below_home ? "${home}" : "",
			      (folder ? folder : program) + (below_home ? strlen(home) : 0),
			      folder ? ", as '--policy coding' does" : "");
}

static int decide_exec(struct confine *c, struct error *err)
{
	const struct confine_input *in = c->in;
	const char *program = resolve_program(c);
	struct policy_request q = {.kind = POLICY_EXEC, .fs = c->fs};
	struct policy_decision d;
	struct bytes *argv;
	size_t argc = 0;

	if (!program)
		return error_nomem(err);
	while (in->argv[argc])
		argc++;
	argv = calloc(argc, sizeof(*argv));
	if (!argv)
		return error_nomem(err);
	for (size_t i = 0; i < argc; i++)
		argv[i] = bytes_str(in->argv[i]);
	q.path = bytes_str(program);
	q.argv = argv;
	q.argc = argc;
	policy_decide(c->policy, &q, &d);
	free(argv);
	if (d.verdict == POLICY_ALLOW || (d.verdict == POLICY_ASK && in->approved))
		return 0;
	if (d.at.line > 0)
		error_where(err, "%s:%d:%d", d.at.file, d.at.line, d.at.column);
	if (d.verdict == POLICY_ASK) {
		error_set_exit(err, -EACCES, EXIT_STATUS_DENIED, "%.100s asks a person: %s",
			       program, d.why);
		return CONFINE_ASKS;
	}
	return refuse_exec(c, program, &d, err);
}

static void set_limits(struct confine *c)
{
	static const struct {
		enum policy_limit limit;
		uint32_t weaker;
	} weaker[] = {
		{POLICY_LIMIT_MEMORY, SANDBOX_WEAKER_MEMORY},
		{POLICY_LIMIT_CPU, SANDBOX_WEAKER_CPU},
	};
	struct sandbox_limits *l = &c->spec.limits;
	struct policy_settings s;
	uint64_t *v;

	policy_settings(c->policy, &s);
	v = s.limits.value;
	for (size_t i = 0; c->in->limits && i < POLICY_LIMIT_COUNT; i++)
		if (c->in->limits[i] && (!v[i] || c->in->limits[i] < v[i]))
			v[i] = c->in->limits[i];
	l->wall_ms = v[POLICY_LIMIT_WALL];
	if (c->in->timeout_ms && (!l->wall_ms || c->in->timeout_ms < l->wall_ms))
		l->wall_ms = c->in->timeout_ms;
	l->cpu_ms = v[POLICY_LIMIT_CPU];
	l->memory_bytes = v[POLICY_LIMIT_MEMORY];
	l->disk_bytes = v[POLICY_LIMIT_DISK];
	l->output_bytes = v[POLICY_LIMIT_OUTPUT];
	l->pids = v[POLICY_LIMIT_PIDS] > UINT32_MAX ? UINT32_MAX : (uint32_t)v[POLICY_LIMIT_PIDS];
	l->files =
		v[POLICY_LIMIT_FILES] > UINT32_MAX ? UINT32_MAX : (uint32_t)v[POLICY_LIMIT_FILES];
	for (size_t i = 0; i < ARRAY_SIZE(weaker); i++)
		if (s.limits.weaker & (1u << weaker[i].limit))
			c->spec.allow_weaker |= weaker[i].weaker;
	if (s.limits.weaker_landlock)
		c->spec.allow_weaker |= SANDBOX_WEAKER_LANDLOCK;
}

/* ---- the whole ---- */

int confine_fs(const struct policy_effective *run, const char *step, const char *workspace,
	       const char *home, struct policy_effective **ret_effective, struct policy_fs **ret,
	       struct error *err)
{
	struct policy_vars vars = {.workspace = workspace,
				   .home = home,
				   .tmp = INSIDE_TMP,
				   .run = INSIDE_RUN};
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	int r = policy_effective_step(run, step, POLICY_AGENCY_UNSET, &e, err);

	if (r == 0)
		r = policy_fs_new(e, &vars, ret, err);
	if (r == 0)
		*ret_effective = take_ptr(e);
	return r;
}

bool confine_stages(const struct policy_effective *run, const char *step, const char *workspace,
		    const char *home)
{
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	AUTO(policy_fs_free) struct policy_fs *fs = NULL;
	size_t count;

	if (confine_fs(run, step, workspace, home, &e, &fs, NULL) < 0)
		return true;
	const struct policy_mount *table = policy_fs_table(fs, &count);
	switch (access_of(table, count, workspace)) {
	case POLICY_ACCESS_SCRATCH:
	case POLICY_ACCESS_STAGE:
		return true;
	case POLICY_ACCESS_NONE:
	case POLICY_ACCESS_R:
	case POLICY_ACCESS_RX:
	case POLICY_ACCESS_RW:
		break;
	}
	return false;
}

/* A home that the policy grants as it is, or that lies in the workspace, is not hidden behind an
 * empty one. */
static bool has_own_home(const struct confine *c)
{
	const char *home = c->in->home;
	size_t count;
	const struct policy_mount *table = policy_fs_table(c->fs, &count);

	if (!home || path_within(home, c->in->workspace))
		return false;
	switch (access_of(table, count, home)) {
	case POLICY_ACCESS_R:
	case POLICY_ACCESS_RX:
	case POLICY_ACCESS_RW:
		return false;
	case POLICY_ACCESS_NONE:
	case POLICY_ACCESS_SCRATCH:
	case POLICY_ACCESS_STAGE:
		break;
	}
	return true;
}

/* Where it starts, with what environment, and whether it may. As decide_exec. */
static int decide_start(struct confine *c, struct error *err)
{
	const struct confine_input *in = c->in;
	struct sandbox_spec *s = &c->spec;
	int r;

	s->cwd = s->workspace.mode == SANDBOX_WORKSPACE_NONE &&
				 c->workspace_access != POLICY_ACCESS_RW
			 ? "/"
			 : in->workspace;
	if (in->step->cwd) {
		s->cwd = clean(c, in->workspace, in->step->cwd);
		if (!s->cwd || !path_within(s->cwd, in->workspace))
			return error_set_exit(
				err, -EINVAL, EXIT_STATUS_USAGE,
				"cwd '%s' of step %s is not in the workspace; name a folder in it",
				in->step->cwd, in->step->name);
	}
	r = make_env(c, err);
	return r < 0 ? r : decide_exec(c, err);
}

int confine_exec(const struct confine_input *in, struct error *err)
{
	AUTO(confine_free) struct confine *c = calloc(1, sizeof(*c));
	const struct policy_mount *table;
	size_t count;
	int r;

	if (!c)
		return error_nomem(err);
	c->in = in;
	r = confine_fs(in->policy, in->step->name, in->workspace, in->home, &c->policy, &c->fs,
		       err);
	if (r < 0)
		return r;
	table = policy_fs_table(c->fs, &count);
	r = place_workspace(c, table, count, err);
	return r < 0 ? r : decide_start(c, err);
}

int confine_new(const struct confine_input *in, struct confine **ret, struct error *err)
{
	AUTO(confine_free) struct confine *c = calloc(1, sizeof(*c));
	struct sandbox_spec *s;
	int r;

	if (!c)
		return error_nomem(err);
	s = &c->spec;
	c->in = in;
	*s = (struct sandbox_spec){.attempt = in->attempt,
				   .argv = in->argv,
				   .mounts = c->mounts,
				   .stdin_fd = in->stdin_fd,
				   .in_name = in->in_name,
				   .pty = in->tty,
				   .pty_rows = in->rows,
				   .pty_cols = in->cols,
				   .uid = in->uid,
				   .gid = in->gid,
				   .net = in->net,
				   .etc_files = in->etc,
				   .etc_file_count = in->etc_count};
	r = confine_fs(in->policy, in->step->name, in->workspace, in->home, &c->policy, &c->fs,
		       err);
	if (r == 0)
		r = place_all(c, err);
	if (r == 0)
		r = place_tool_client(c, err);
	if (r < 0)
		return r;
	s->home = has_own_home(c) ? in->home : NULL;
	r = decide_start(c, err);
	if (r == CONFINE_ASKS) /* the rule asks since the dial or a file was changed: too late */
		return -EACCES;
	if (r < 0)
		return r;
	set_limits(c);
	c->in = NULL;
	*ret = take_ptr(c);
	return 0;
}

void confine_free(struct confine *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->string_count; i++) {
		explicit_bzero(c->strings[i], strlen(c->strings[i])); /* a tool's secret is one */
		free(c->strings[i]);
	}
	free(c->env);
	policy_fs_free(c->fs);
	policy_effective_free(c->policy);
	free(c);
}

const struct sandbox_spec *confine_spec(const struct confine *c)
{
	return &c->spec;
}
