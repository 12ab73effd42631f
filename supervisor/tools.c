#include "supervisor/tools.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/io.h"
#include "supervisor/jobs.h"
#include "supervisor/net_secret.h"
#include "supervisor/runs.h"

enum { ARGS_MAX = 256, LINE_MAX_BYTES = 256 };

/* The inputs of a sandbox cannot be executed: a program's bytes are copied to where they can. */
static const char copy_script[] =
	"cp /run/holdfast/in/program /tmp/program && chmod 700 /tmp/program "
	"&& exec /tmp/program \"$@\"";

#define INPUTS	   "/run/holdfast/in"
#define SECRET_ENV "HOLDFAST_SECRET"

struct running {
	struct scan *scan; /* owned; NULL = it has no secret */
	tools_done_fn *done;
	void (*drop)(void *arg);
	void *arg;
};

static bool find_tool(const struct policy_effective *e, const char *id,
		      struct policy_tool_info *ret)
{
	for (size_t i = 0; policy_tool_at(e, i, ret); i++)
		if (strcmp(ret->id, id) == 0)
			return true;
	return false;
}

static int no_tool(const char *id, struct error *err)
{
	return error_set_exit(err, -ENOENT, EXIT_STATUS_DENIED,
			      "tool '%.100s': the policy has none of that name", id);
}

/* A name without a slash is looked for where the system's programs are, never in a step's PATH. */
static int open_program(const char *name, char *path, size_t size, struct error *err)
{
	static const char *const folders[] = {"/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin",
					      "/sbin"};
	int fd = -1;

	if (name[0] == '/') {
		snprintf(path, size, "%s", name);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	}
	for (size_t i = 0;
	     name[0] != '/' && !strchr(name, '/') && fd < 0 && i < ARRAY_SIZE(folders); i++) {
		snprintf(path, size, "%s/%s", folders[i], name);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	}
	return fd >= 0 ? fd
		       : error_set_exit(err, -ENOENT, EXIT_STATUS_SANDBOX,
					"tool: there is no program %.150s; name it by its whole "
					"path",
					name);
}

bool tools_find(const struct policy_effective *e, const char *id, struct policy_tool_info *ret,
		char ret_program[PATH_MAX])
{
	struct policy_tool_info t;
	AUTO_FD fd = -1;

	if (!find_tool(e, id, &t) || t.run_count == 0)
		return false;
	fd = open_program(t.run[0], ret_program, PATH_MAX, NULL);
	if (fd < 0)
		ret_program[0] = '\0';
	*ret = t;
	return true;
}

/* "#!/usr/bin/env python3" is run by python3: its bytes count, not env's. */
static void through_env(char line[LINE_MAX_BYTES], const char **ret, const char **ret_arg)
{
	const char *slash = strrchr(*ret, '/'), *name = *ret_arg;
	char path[PATH_MAX];
	AUTO_FD fd = -1;

	if (strcmp(slash + 1, "env") != 0 || !name || strpbrk(name, " \t/=-"))
		return;
	fd = open_program(name, path, sizeof(path), NULL);
	if (fd < 0 || strlen(path) >= LINE_MAX_BYTES)
		return;
	strcpy(line, path);
	*ret = line;
	*ret_arg = NULL;
}

/* Of "#!/interpreter argument"; *ret_arg may be NULL. False: it is no script. */
static bool interpreter_of(int fd, char line[LINE_MAX_BYTES], const char **ret,
			   const char **ret_arg)
{
	ssize_t n = pread(fd, line, LINE_MAX_BYTES - 1, 0);
	char *at;

	if (n < 3 || line[0] != '#' || line[1] != '!')
		return false;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	*ret = line + 2 + strspn(line + 2, " \t");
	at = (char *)*ret + strcspn(*ret, " \t");
	*ret_arg = NULL;
	if (*at) {
		*at++ = '\0';
		at += strspn(at, " \t");
		*ret_arg = *at ? at : NULL;
	}
	if ((*ret)[0] != '/')
		return false;
	through_env(line, ret, ret_arg);
	return true;
}

static int digest_file(const char *path, struct digest *ret)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	AUTO_BUFFER b = {.max = TOOLS_PROGRAM_MAX};
	int r = fd < 0 ? -errno : io_read_all(fd, TOOLS_PROGRAM_MAX, &b);

	if (r == 0)
		digest_of(buffer_bytes(&b), ret);
	return r;
}

/* A program that everybody may read and execute, so that only exec rules are asked: a tool needs no
 * grant of a step's files. */
static int open_files(struct policy_effective **ret_e, struct policy_fs **ret, struct error *err)
{
	static const char text[] = "version: 1\nname: files\nfs: [{path: /, access: rx}]\n";
	AUTO(policy_free) struct policy *p = NULL;
	struct policy_vars vars = {.tmp = "/tmp", .run = "/run/holdfast"};
	struct policy_input in = {.layer = POLICY_LAYER_RUN};
	struct policy_combine c = {.inputs = &in, .count = 1};
	int r = policy_parse(bytes_str(text), "files", NULL, &p);

	in.policy = p;
	if (r == 0)
		r = policy_combine(&c, ret_e, err);
	return r < 0 ? r : policy_fs_new(*ret_e, &vars, ret, err);
}

static int check_exec(const struct policy_effective *e, const char *path,
		      const struct policy_tool_info *t, struct error *err)
{
	struct bytes argv[ARGS_MAX];
	AUTO(policy_effective_free) struct policy_effective *files = NULL;
	AUTO(policy_fs_free) struct policy_fs *fs = NULL;
	struct policy_request q = {.kind = POLICY_EXEC, .path = bytes_str(path), .argv = argv};
	struct policy_decision d;
	int r = open_files(&files, &fs, err);

	if (r < 0)
		return r;
	for (q.argc = 0; q.argc < t->run_count && q.argc < ARGS_MAX; q.argc++)
		argv[q.argc] = bytes_str(t->run[q.argc]);
	q.fs = fs;
	policy_decide(e, &q, &d);
	/* That it may run was asked with the call itself. */
	return d.verdict != POLICY_DENY
		       ? 0
		       : error_set_exit(err, -EACCES, EXIT_STATUS_DENIED,
					"tool '%.60s': %.60s: %.100s", t->id, path, d.why);
}

/* Words that name files are read now; what is no file, or is not there yet, stays a word. */
static int seal_files(struct daemon *d, const struct policy_tool_info *t, struct tools_program *p,
		      struct error *err)
{
	for (size_t i = 1; i < t->run_count; i++) {
		AUTO_FD fd =
			t->run[i][0] != '/'
				? -1
				: open(t->run[i], O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		struct stat st;
		uint64_t size;
		int r;

		if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (p->file_count == ACTION_FILES_MAX)
			return error_set_exit(err, -E2BIG, EXIT_STATUS_LIMIT,
					      "tool '%.60s': its command names more than %d files",
					      t->id, ACTION_FILES_MAX);
		p->files[p->file_count].at = (uint32_t)i;
		r = journal_blob_put_fd(d->journal, fd, TOOLS_PROGRAM_MAX,
					&p->files[p->file_count++].content, &size, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int tools_seal(struct daemon *d, const struct policy_effective *e, const char *id,
	       struct tools_program *ret, struct error *err)
{
	struct tools_program p = {0};
	struct policy_tool_info t;
	char path[PATH_MAX], line[LINE_MAX_BYTES];
	const char *interpreter, *arg;
	AUTO_FD fd = -1;
	uint64_t size;
	int r;

	if (!find_tool(e, id, &t))
		return no_tool(id, err);
	fd = open_program(t.run[0], path, sizeof(path), err);
	if (fd < 0)
		return fd;
	r = check_exec(e, path, &t, err);
	if (r == 0)
		r = journal_blob_put_fd(d->journal, fd, TOOLS_PROGRAM_MAX, &p.program, &size, err);
	if (r == 0 && interpreter_of(fd, line, &interpreter, &arg)) {
		r = digest_file(interpreter, &p.interpreter);
		if (r < 0)
			error_set(err, r, "tool '%.60s': its interpreter %.100s: %s", id,
				  interpreter, strerror(-r));
	}
	if (r == 0)
		r = seal_files(d, &t, &p, err);
	if (r == 0)
		*ret = p;
	return r;
}

/* ---- running ---- */

static void running_free(void *arg)
{
	struct running *x = arg;

	if (x->drop)
		x->drop(x->arg);
	scan_free(x->scan);
	free(x);
}

static void on_done(struct daemon *d, void *arg, const struct jobs_result *r)
{
	struct running *x = arg;
	struct tools_result t = {.failed = r->not_started,
				 .status = r->not_started ? TOOLS_NEVER_BEGAN : -1,
				 .out = r->out,
				 .err = r->err,
				 .out_total = r->out_total,
				 .err_total = r->err_total};

	if (!t.failed && r->exit->why == SANDBOX_WHY_LOST)
		t.failed = "the keeper was lost meanwhile";
	else if (!t.failed && r->exit->why == SANDBOX_WHY_TIMED_OUT)
		t.failed = "it took too long";
	else if (!t.failed && r->exit->why != SANDBOX_WHY_EXITED)
		t.failed = "it was ended";
	else if (!t.failed && r->exit->signal == 0)
		t.status = r->exit->status;
	if (x->scan && (scan_feed(x->scan, t.out) || scan_feed(x->scan, t.err))) {
		t.withheld = true;
		t.out = t.err = bytes_of("", 0);
	}
	x->done(d, x->arg, &t);
	scan_free(x->scan);
	free(x);
}

/* ---- what its sandbox gets ---- */

struct made { /* lives as long as jobs_start() borrows it */
	struct policy_tool_info t;
	struct tools_program want;
	struct buffer bytes[1 + ACTION_FILES_MAX];
	struct jobs_file files[1 + ACTION_FILES_MAX];
	char names[ACTION_FILES_MAX][PATH_MAX]; /* of the files, as the tool sees them */
	char line[LINE_MAX_BYTES];
	char *argv[ARGS_MAX];
	struct buffer secret; /* NAME=value */
	const char *env[2];
	struct scan *scan;
};

static void made_free(struct made *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(m->bytes); i++)
		buffer_free(&m->bytes[i]);
	net_secret_wipe(&m->secret);
	scan_free(m->scan);
	free(m);
}
DEFINE_GUARD(struct made *, made_free)

static int read_blobs(struct daemon *d, struct made *m, struct error *err)
{
	int r = journal_blob_get(d->journal, &m->want.program, TOOLS_PROGRAM_MAX, &m->bytes[0],
				 err);

	m->files[0] = (struct jobs_file){"program", buffer_bytes(&m->bytes[0])};
	for (size_t i = 0; r == 0 && i < m->want.file_count; i++) {
		const struct action_file *f = &m->want.files[i];
		const char *slash = f->at < m->t.run_count ? strrchr(m->t.run[f->at], '/') : NULL;

		if (!slash)
			return error_set(
				err, -ESTALE,
				"tool '%.60s': its command is not the one that was approved",
				m->t.id);
		snprintf(m->names[i], sizeof(m->names[i]), INPUTS "/%u-%.200s", f->at, slash + 1);
		r = journal_blob_get(d->journal, &f->content, TOOLS_PROGRAM_MAX, &m->bytes[1 + i],
				     err);
		m->files[1 + i] = (struct jobs_file){strrchr(m->names[i], '/') + 1,
						     buffer_bytes(&m->bytes[1 + i])};
	}
	return r;
}

/* A word, or the file that stands in its place. */
static char *word(struct made *m, size_t at)
{
	for (size_t i = 0; i < m->want.file_count; i++)
		if (m->want.files[i].at == at)
			return m->names[i];
	return (char *)m->t.run[at];
}

static int make_argv(const struct tools_call *c, struct made *m, struct error *err)
{
	AUTO_FD fd = io_memfd_sealed("program", buffer_bytes(&m->bytes[0]), false);
	const char *interpreter, *arg;
	struct digest now;
	size_t n = 0;

	if (fd < 0)
		return error_nomem(err);
	if (interpreter_of(fd, m->line, &interpreter, &arg)) {
		if (digest_file(interpreter, &now) < 0 || !digest_equal(&now, &m->want.interpreter))
			return error_set_exit(err, -ESTALE, EXIT_STATUS_CONFLICT,
					      "tool '%.60s': its interpreter %.100s is not the one "
					      "that was approved",
					      c->id, interpreter);
		m->argv[n++] = (char *)interpreter;
		if (arg)
			m->argv[n++] = (char *)arg;
		m->argv[n++] = (char *)INPUTS "/program";
	} else {
		m->argv[n++] = (char *)"/bin/sh";
		m->argv[n++] = (char *)"-c";
		m->argv[n++] = (char *)copy_script;
		m->argv[n++] = (char *)m->t.run[0];
	}
	for (size_t i = 1; i < m->t.run_count && n < ARGS_MAX - 1; i++)
		m->argv[n++] = word(m, i);
	for (size_t i = 0; c->args && c->args[i] && n < ARGS_MAX - 1; i++)
		m->argv[n++] = (char *)c->args[i];
	m->argv[n] = NULL;
	return n < ARGS_MAX - 1 ? 0
				: error_set(err, -E2BIG, "tool '%.60s': too many arguments", c->id);
}

static int make_secret(struct daemon *d, const struct policy_effective *e, struct made *m,
		       struct error *err)
{
	const struct policy_tool_info *t = &m->t;
	const struct rlimit none = {0, 0};
	struct policy_secret_info s;
	size_t name;
	int r;

	if (!t->secret[0])
		return 0;
	if (t->layer == POLICY_LAYER_PROJECT || t->layer == POLICY_LAYER_PROJECT_UNTRUSTED)
		return error_set_exit(
			err, -EPERM, EXIT_STATUS_DENIED,
			"tool '%.60s': a project's policy gives no tool a secret; name "
			"it in yours, or under --policy",
			t->id);
	if (!policy_secret_find(e, bytes_str(t->secret), &s))
		return error_set_exit(err, -ENOENT, EXIT_STATUS_DENIED,
				      "tool '%.60s': the secret '%.60s' is not defined by who may "
				      "define it",
				      t->id, t->secret);
	(void)setrlimit(RLIMIT_CORE, &none); /* as net.c: what is held from here on is in no core */
	r = buffer_reserve(&m->secret, strlen(s.env ? s.env : SECRET_ENV) + NET_SECRET_MAX + 2);
	if (r == 0)
		r = buffer_printf(&m->secret, "%s=", s.env ? s.env : SECRET_ENV);
	name = m->secret.len;
	if (r == 0)
		r = net_secret_read(&s, d->options.environment, &m->secret, err);
	if (r < 0)
		return error_set(err, r, "tool '%.60s': its secret cannot be read", t->id);
	if (m->secret.len == name)
		return error_set(err, -EINVAL, "tool '%.60s': its secret is empty", t->id);
	m->scan = scan_new(bytes_of(m->secret.data + name, m->secret.len - name));
	m->secret.data[m->secret.len] = '\0'; /* where the newline of its file was */
	m->env[0] = (const char *)m->secret.data;
	return m->scan ? 0 : error_nomem(err);
}

static int start(struct daemon *d, const struct tools_call *c, struct runs_context *ctx,
		 struct made *m, struct error *err)
{
	AUTO_FD in = io_memfd_sealed("input", c->input, false);
	uint64_t wall = m->t.limits[POLICY_LIMIT_WALL];
	struct running *x = in < 0 ? NULL : malloc(sizeof(*x));
	int r;

	if (!x)
		return error_nomem(err);
	*x = (struct running){take_ptr(m->scan), c->done, c->drop, c->arg};
	r = jobs_start(d,
		       &(struct jobs_spec){.run = c->run,
					   .ctx = ctx,
					   .name = c->id,
					   .argv = m->argv,
					   .files = m->files,
					   .file_count = 1 + m->want.file_count,
					   .stdin_fd = in,
					   .env = m->env[0] ? m->env : NULL,
					   .limits = m->t.limits,
					   .timeout_ms = wall ? wall : TOOLS_TIMEOUT_MS,
					   .done = on_done,
					   .drop = running_free,
					   .arg = x},
		       err);
	if (r < 0) {
		scan_free(x->scan);
		free(x);
	}
	return r;
}

int tools_run(struct daemon *d, const struct tools_call *c, struct error *err)
{
	AUTO(made_free) struct made *m = calloc(1, sizeof(*m));
	struct runs_context *ctx;
	int r = m ? runs_get(d, &c->run->id, &ctx, err) : error_nomem(err);

	if (r == 0 && !find_tool(ctx->policy, c->id, &m->t))
		r = no_tool(c->id, err);
	if (r == 0 && c->program)
		m->want = *c->program;
	else if (r == 0)
		r = tools_seal(d, ctx->policy, c->id, &m->want, err);
	if (r == 0)
		r = read_blobs(d, m, err);
	if (r == 0)
		r = make_argv(c, m, err);
	if (r == 0)
		r = make_secret(d, ctx->policy, m, err);
	return r < 0 ? r : start(d, c, ctx, m, err);
}
