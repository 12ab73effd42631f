#include "supervisor/tools.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "supervisor/jobs.h"
#include "supervisor/runs.h"

enum { ARGS_MAX = 256, LINE_MAX_BYTES = 256 };

/* The inputs of a sandbox cannot be executed: a program's bytes are copied to where they can. */
static const char copy_script[] =
	"cp /run/holdfast/in/program /tmp/program && chmod 700 /tmp/program "
	"&& exec /tmp/program \"$@\"";

struct running {
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
	return (*ret)[0] == '/';
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
		*ret = p;
	return r;
}

/* ---- running ---- */

static void running_free(void *arg)
{
	struct running *x = arg;

	if (x->drop)
		x->drop(x->arg);
	free(x);
}

static void on_done(struct daemon *d, void *arg, const struct jobs_result *r)
{
	struct running *x = arg;
	struct tools_result t = {.failed = r->not_started,
				 .status = r->not_started ? TOOLS_NEVER_BEGAN : -1,
				 .out = r->out,
				 .err = r->err};

	if (!t.failed && r->exit->why == SANDBOX_WHY_LOST)
		t.failed = "the keeper was lost meanwhile";
	else if (!t.failed && r->exit->why == SANDBOX_WHY_TIMED_OUT)
		t.failed = "it took too long";
	else if (!t.failed && r->exit->why != SANDBOX_WHY_EXITED)
		t.failed = "it was ended";
	else if (!t.failed && r->exit->signal == 0)
		t.status = r->exit->status;
	x->done(d, x->arg, &t);
	free(x);
}

/* argv of what is really started; program: the bytes that run. */
static int make_argv(const struct tools_call *c, const struct policy_tool_info *t, int fd,
		     const struct tools_program *want, char *line, char *argv[ARGS_MAX],
		     struct error *err)
{
	const char *interpreter, *arg;
	struct digest now;
	size_t n = 0;

	if (interpreter_of(fd, line, &interpreter, &arg)) {
		if (digest_file(interpreter, &now) < 0 || !digest_equal(&now, &want->interpreter))
			return error_set_exit(err, -ESTALE, EXIT_STATUS_CONFLICT,
					      "tool '%.60s': its interpreter %.100s is not the one "
					      "that was approved",
					      c->id, interpreter);
		argv[n++] = (char *)interpreter;
		if (arg)
			argv[n++] = (char *)arg;
		argv[n++] = (char *)"/run/holdfast/in/program";
	} else {
		argv[n++] = (char *)"/bin/sh";
		argv[n++] = (char *)"-c";
		argv[n++] = (char *)copy_script;
		argv[n++] = (char *)t->run[0];
	}
	for (size_t i = 1; i < t->run_count && n < ARGS_MAX - 1; i++)
		argv[n++] = (char *)t->run[i];
	for (size_t i = 0; c->args && c->args[i] && n < ARGS_MAX - 1; i++)
		argv[n++] = (char *)c->args[i];
	argv[n] = NULL;
	return n < ARGS_MAX - 1 ? 0
				: error_set(err, -E2BIG, "tool '%.60s': too many arguments", c->id);
}

int tools_run(struct daemon *d, const struct tools_call *c, struct error *err)
{
	struct tools_program now;
	const struct tools_program *want = c->program;
	char line[LINE_MAX_BYTES], *argv[ARGS_MAX];
	struct policy_tool_info t;
	struct runs_context *ctx;
	AUTO_BUFFER program = {.max = TOOLS_PROGRAM_MAX};
	AUTO_FD fd = -1;
	AUTO_FD in = -1;
	struct running *x;
	int r = runs_get(d, &c->run->id, &ctx, err);

	if (r == 0 && !find_tool(ctx->policy, c->id, &t))
		r = no_tool(c->id, err);
	if (r == 0 && !want) {
		r = tools_seal(d, ctx->policy, c->id, &now, err);
		want = &now;
	}
	if (r == 0)
		r = journal_blob_get(d->journal, &want->program, TOOLS_PROGRAM_MAX, &program, err);
	if (r != 0)
		return r;
	fd = io_memfd_sealed("program", buffer_bytes(&program), false);
	in = io_memfd_sealed("input", c->input, false);
	if (fd < 0 || in < 0)
		return error_set(err, fd < 0 ? fd : in, "tool: out of memory");
	r = make_argv(c, &t, fd, want, line, argv, err);
	x = r == 0 ? malloc(sizeof(*x)) : NULL;
	if (!x)
		return r < 0 ? r : error_nomem(err);
	*x = (struct running){c->done, c->drop, c->arg};
	r = jobs_start(d,
		       &(struct jobs_spec){.run = c->run,
					   .ctx = ctx,
					   .name = c->id,
					   .argv = argv,
					   .files = &(struct jobs_file){"program",
									buffer_bytes(&program)},
					   .file_count = 1,
					   .stdin_fd = in,
					   .timeout_ms = TOOLS_TIMEOUT_MS,
					   .done = on_done,
					   .drop = running_free,
					   .arg = x},
		       err);
	if (r < 0)
		free(x);
	return r;
}
