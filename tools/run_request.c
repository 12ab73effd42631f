#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "base/io.h"
#include "base/utf8.h"
#include "base/yaml.h"
#include "policy/policy.h"
#include "tools/cli.h"
#include "tools/run_request.h"

extern char **environ;

enum { STDIN_BYTES_MAX = 256 * 1024 * 1024 };

struct opened { /* descriptors of one request; closed together */
	struct client_request call;
	int owned[CLIENT_FDS_MAX];
	char file_names[SUPERVISOR_STDIN_FILES_MAX][8];
};

struct run_files {
	const struct run_request *q; /* borrowed */
	struct opened opened;
};

static void opened_free(struct opened *o)
{
	for (size_t i = 0; i < o->call.fd_count; i++)
		close_fd(&o->owned[i]);
	json_decref(o->call.body);
}

static int add_fd(struct opened *o, const char *name, int fd, struct error *err)
{
	if (o->call.fd_count >= CLIENT_FDS_MAX) {
		close(fd);
		return error_set_exit(err, -E2BIG, EXIT_STATUS_USAGE,
				      "the plan names too many files for one request (at most %d); "
				      "put them in the workspace",
				      SUPERVISOR_STDIN_FILES_MAX);
	}
	o->owned[o->call.fd_count] = fd;
	o->call.fds[o->call.fd_count++] = (struct client_fd){.name = name, .fd = fd};
	return 0;
}

int run_request_stdin(int *ret_fd, struct error *err)
{
	AUTO_BUFFER in = {.max = STDIN_BYTES_MAX + 1};
	int r = io_read_all(STDIN_FILENO, STDIN_BYTES_MAX, &in);

	if (r == -E2BIG || r == -ENOBUFS)
		return error_set_exit(err, r, EXIT_STATUS_LIMIT,
				      "standard input is longer than %d MiB, which is the limit: "
				      "nothing was started; put it in a file of the workspace and "
				      "let the command read that",
				      STDIN_BYTES_MAX / (1024 * 1024));
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_USAGE,
				      "cannot read standard input: %s; leave -i out, or give it "
				      "one that can be read",
				      strerror(-r));
	r = io_memfd_sealed("stdin", buffer_bytes(&in), false);
	if (r < 0)
		return error_set(err, r, "cannot keep standard input: %s; free some memory",
				 strerror(-r));
	*ret_fd = r;
	return 0;
}

static int open_named(const char *path, int flags, const char *what, struct error *err)
{
	int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return error_set_exit(
			err, -errno, EXIT_STATUS_USAGE,
			"cannot open %s %s: %s; name one that exists and that you may read", what,
			path, strerror(errno));
	return fd;
}

/* The real path behind a descriptor, for messages, for `workspace` and for trust. */
static int real_path(int fd, char *buf, size_t size)
{
	char link[64];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = 0;
	return 0;
}

static int set_text(json_t *body, const char *key, const char *text, struct error *err)
{
	if (json_object_set_new(body, key, json_string(text)) < 0)
		return error_set_exit(err, -EILSEQ, EXIT_STATUS_USAGE,
				      "%s is not UTF-8; choose another", key);
	return 0;
}

/* A file in folder dirfd (or of the whole system for an absolute path), added as fd `name` with its
 * real path under key. With optional a missing one is no error. */
static int add_file(struct opened *o, int dirfd, const char *path, const char *name,
		    const char *key, bool optional, struct error *err)
{
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 && optional && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0)
		return error_set_exit(
			err, -errno, EXIT_STATUS_USAGE,
			"cannot open %s: %s; name one that exists and that you may read", path,
			strerror(errno));
	struct stat st;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "%s is not a regular file; name one that is", path);
	}
	char real[PATH_MAX];
	int r = real_path(fd, real, sizeof(real));
	if (r == 0 && key)
		r = set_text(o->call.body, key, real, err);
	if (r < 0) {
		close(fd);
		return error_set(err, r, "cannot tell the path of %s: %s; mount /proc", path,
				 strerror(-r));
	}
	return add_fd(o, name, fd, err);
}

/* The text of a file that is passed on, which is left at its beginning. -E2BIG (not said) past
 * YAML_BYTES_MAX. */
static int read_again(int fd, const char *path, struct buffer *text, struct error *err)
{
	int r = io_read_all(fd, YAML_BYTES_MAX, text);

	if (r == -E2BIG)
		return r;
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_USAGE,
				      "cannot read %s: %s; name a file that you may read", path,
				      strerror(-r));
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_set(err, -errno, "cannot rewind %s: %s; name a regular file", path,
				 strerror(errno));
	return 0;
}

static int add_environment(json_t *body, struct error *err)
{
	json_t *env = json_object();
	for (char **e = environ; env && *e; e++) {
		const char *eq = strchr(*e, '=');
		if (!eq || eq == *e || !utf8_valid(bytes_str(*e)))
			continue; /* JSON cannot carry it; policies name variables in UTF-8 */
		AUTO_FREE char *name = strndup(*e, (size_t)(eq - *e));
		if (!name || json_object_set_new(env, name, json_string(eq + 1)) < 0)
			return error_nomem(err);
	}
	return json_object_set_new(body, "env", env) < 0 ? error_nomem(err) : 0;
}

static const char *near_builtin(const char *policy)
{
	const char *names[8];
	size_t n = 0;

	while (n < ARRAY_SIZE(names) && policy_builtin_name(n)) {
		names[n] = policy_builtin_name(n);
		n++;
	}
	return yaml_nearest(bytes_str(policy), names, n);
}

static bool is_builtin(const char *policy)
{
	for (size_t i = 0; policy_builtin_name(i); i++)
		if (strcmp(policy_builtin_name(i), policy) == 0)
			return true;
	return false;
}

/* Forwards r; an error's place is the line of the plan that names the file. */
static int named_in_plan(int r, const struct run_request *q, struct plan_place at,
			 struct error *err)
{
	if (r < 0)
		yaml_where(err, q->plan_path, at.line, at.column);
	return r;
}

/* A policy that is wrong is refused by the supervisor, too; here before there is one. */
static int check_policy_text(struct bytes text, const char *file, struct error *err)
{
	AUTO(policy_free) struct policy *p = NULL;

	if (policy_parse(text, file, NULL, &p) < 0)
		return error_nomem(err);
	return policy_check(p, err);
}

/* As add_file, for a policy. */
static int add_policy_file(struct opened *o, int dirfd, const char *path, const char *name,
			   const char *key, bool optional, struct error *err)
{
	AUTO_BUFFER text = {.max = YAML_BYTES_MAX + 1};
	size_t before = o->call.fd_count;
	int r = add_file(o, dirfd, path, name, key, optional, err);

	if (r < 0 || o->call.fd_count == before)
		return r;
	r = read_again(o->owned[before], path, &text, err);
	const char *real = json_string_value(json_object_get(o->call.body, key));
	if (r == -E2BIG)
		return yaml_too_large(err, real);
	return r < 0 ? r : check_policy_text(buffer_bytes(&text), real, err);
}

/* --policy, the user's own file, and the project's. */
static int add_policies(struct opened *o, const struct run_request *q, int workspace_fd,
			int plan_dir, const struct plan *plan, struct error *err)
{
	int r = 0;
	if (q->policy && is_builtin(q->policy))
		r = set_text(o->call.body, "policy", q->policy, err);
	else if (q->policy && access(q->policy, F_OK) < 0 && near_builtin(q->policy))
		r = error_set_exit(err, -ENOENT, EXIT_STATUS_USAGE,
				   "no policy '%.80s': there is no such file; did you mean the "
				   "built-in '%s'?",
				   q->policy, near_builtin(q->policy));
	else if (q->policy)
		r = add_policy_file(o, AT_FDCWD, q->policy, "policy", "policy_path", false, err);
	if (r < 0)
		return r;
	char user[PATH_MAX];
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n = config && *config == '/'
			? snprintf(user, sizeof(user), "%s/holdfast/policy.yaml", config)
			: snprintf(user, sizeof(user), "%s/.config/holdfast/policy.yaml",
				   home ? home : "");
	if (n < (int)sizeof(user) && (home || config)) {
		r = add_policy_file(o, AT_FDCWD, user, "user-policy", "user_policy_path", true,
				    err);
		if (r < 0)
			return r;
	}
	if (q->project) {
		r = set_text(o->call.body, "plan_path", q->project, err);
		return r < 0 ? r
			     : add_file(o, AT_FDCWD, q->project, "project-policy",
					"project_policy_path", false, err);
	}
	if (plan && plan->policy_path && is_builtin(plan->policy_path))
		return q->policy ? 0 : set_text(o->call.body, "policy", plan->policy_path, err);
	if (plan && plan->policy_path) {
		r = add_policy_file(o, plan_dir, plan->policy_path, "project-policy",
				    "project_policy_path", false, err);
		return named_in_plan(r, q, plan->policy_at, err);
	}
	if (plan && plan->policy_text)
		return check_policy_text(bytes_of(plan->policy_text, plan->policy_text_len),
					 json_string_value(
						 json_object_get(o->call.body, "plan_path")),
					 err);
	return add_policy_file(o, workspace_fd, ".holdfast/policy.yaml", "project-policy",
			       "project_policy_path", true, err);
}

static int add_stdin_files(struct opened *o, const struct run_request *q, int plan_dir,
			   const struct plan *plan, struct error *err)
{
	size_t count = 0;
	for (size_t i = 0; i < plan->step_count; i++) {
		if (plan->steps[i].stdin_kind != PLAN_STDIN_FILE)
			continue;
		if (count == SUPERVISOR_STDIN_FILES_MAX)
			return named_in_plan(
				error_set_exit(
					err, -E2BIG, EXIT_STATUS_USAGE,
					"more than %d steps read standard input from a file; "
					"put the files in the workspace",
					SUPERVISOR_STDIN_FILES_MAX),
				q, plan->steps[i].stdin_at, err);
		snprintf(o->file_names[count], sizeof(o->file_names[count]), "file%zu", count);
		int r = add_file(o, plan_dir, plan->steps[i].stdin_file, o->file_names[count], NULL,
				 false, err);
		if (r < 0)
			return named_in_plan(r, q, plan->steps[i].stdin_at, err);
		count++;
	}
	return 0;
}

static void plan_guard(struct plan **p)
{
	plan_free(*p);
}

/* Opens the plan and parses it here, since only the client may open what it names. The daemon
 * parses it again. */
static int add_plan(struct opened *o, const char *path, struct plan **ret, int *ret_dir,
		    struct error *err)
{
	if (strcmp(path, "-") == 0)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "a plan is not read from standard input: what it names is "
				      "relative to the folder it is in; save it there and name it");
	int r = add_file(o, AT_FDCWD, path, "plan", "plan_path", false, err);
	if (r < 0)
		return r;
	AUTO_BUFFER text = {.max = YAML_BYTES_MAX + 1};
	r = read_again(o->call.fds[o->call.fd_count - 1].fd, path, &text, err);
	if (r == -E2BIG)
		return yaml_too_large(err, path);
	if (r < 0)
		return r;
	r = plan_parse(buffer_bytes(&text), path, ret, err);
	if (r < 0)
		return r;
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	if (!slash)
		snprintf(dir, sizeof(dir), ".");
	else if ((size_t)snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path),
				  path) >= sizeof(dir))
		return error_set_exit(err, -ENAMETOOLONG, EXIT_STATUS_USAGE,
				      "the path of the plan is too long; change into its folder");
	*ret_dir = open_named(dir, O_PATH | O_DIRECTORY, "the plan's folder", err);
	return *ret_dir < 0 ? *ret_dir : 0;
}

static int add_workspace(struct opened *o, const struct run_request *q, int plan_dir,
			 const struct plan *plan, struct error *err)
{
	int fd;
	if (q->workspace) {
		fd = open_named(q->workspace, O_RDONLY | O_DIRECTORY, "the workspace", err);
	} else {
		const char *rel = plan && plan->workspace ? plan->workspace : ".";
		fd = openat(plan ? plan_dir : AT_FDCWD, rel, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			fd = error_set_exit(err, -errno, EXIT_STATUS_USAGE,
					    "cannot open the workspace %s: %s; say --workspace DIR",
					    rel, strerror(errno));
		if (plan && plan->workspace)
			fd = named_in_plan(fd, q, plan->workspace_at, err);
	}
	if (fd < 0)
		return fd;
	char real[PATH_MAX];
	int r = real_path(fd, real, sizeof(real));
	if (r == 0)
		r = set_text(o->call.body, "workspace", real, err);
	if (r < 0) {
		close(fd);
		return error_set(err, r, "cannot tell the workspace's path: %s; mount /proc",
				 strerror(-r));
	}
	return add_fd(o, "workspace", fd, err);
}

static int add_stdin(struct opened *o, json_t *exec, struct error *err)
{
	int fd = -1, r = run_request_stdin(&fd, err);

	if (r < 0)
		return r;
	json_object_set_new(exec, "stdin", json_true());
	return add_fd(o, "stdin", fd, err);
}

static int add_exec(struct opened *o, const struct run_request *q, struct error *err)
{
	json_t *argv = json_array();
	for (char **a = q->argv; *a; a++)
		if (json_array_append_new(argv, json_string(*a)) < 0) {
			json_decref(argv);
			return error_set_exit(
				err, -EILSEQ, EXIT_STATUS_USAGE,
				"an argument of the command is not UTF-8; put it in a script");
		}
	json_t *exec =
		json_pack("{s:o, s:b, s:b}", "argv", argv, "land", q->land, "learn", q->learn);
	if (!exec)
		return error_nomem(err);
	if (q->tty) {
		const char *term = getenv("TERM");
		json_object_set_new(exec, "tty",
				    json_pack("{s:i, s:i, s:s}", "rows", q->rows, "cols", q->cols,
					      "term", term ? term : "xterm"));
	}
	return json_object_set_new(o->call.body, "exec", exec) < 0 ? error_nomem(err) : 0;
}

int run_request_open(const struct run_request *q, struct run_files **ret, struct error *err)
{
	AUTO(run_request_close) struct run_files *f = calloc(1, sizeof(*f));
	__attribute__((cleanup(plan_guard))) struct plan *plan = NULL;
	AUTO_FD plan_dir = -1;
	int r = 0;
	if (!f)
		return error_nomem(err);
	struct opened *o = &f->opened;
	f->q = q;
	o->call = (struct client_request){.method = "POST",
					  .target = "/v1/runs",
					  .body = json_object()};
	if (q->plan_path)
		r = add_plan(o, q->plan_path, &plan, &plan_dir, err);
	if (r == 0)
		r = add_workspace(o, q, plan_dir, plan, err);
	if (r == 0)
		r = add_policies(o, q, o->call.fds[o->call.fd_count - 1].fd, plan_dir, plan, err);
	if (r == 0 && plan)
		r = add_stdin_files(o, q, plan_dir, plan, err);
	if (r == 0)
		r = add_environment(o->call.body, err);
	if (r == 0 && q->argv)
		r = add_exec(o, q, err);
	if (r == 0 && q->name)
		r = set_text(o->call.body, "name", q->name, err);
	if (r == 0 && q->agency)
		r = set_text(o->call.body, "agency", q->agency, err);
	if (r < 0)
		return r;
	if (q->outside_driver)
		json_object_set_new(o->call.body, "driver", json_true());
	*ret = take_ptr(f);
	return 0;
}

void run_request_close(struct run_files *f)
{
	if (!f)
		return;
	opened_free(&f->opened);
	free(f);
}

int run_request_send(struct client *c, struct run_files *f, json_t **ret, struct error *err)
{
	json_t *exec = json_object_get(f->opened.call.body, "exec");

	if (exec && f->q->send_stdin && !f->q->tty) {
		int r = add_stdin(&f->opened, exec, err);

		if (r < 0)
			return r;
	}
	if (!f->q->tty) {
		sigset_t set;

		sigemptyset(&set);
		sigaddset(&set, SIGINT);
		sigprocmask(SIG_BLOCK, &set, NULL);
	}
	return client_call(c, &f->opened.call, NULL, ret, NULL, err);
}

int run_request_replay(struct client *c, const struct run_request *q, const char *run, json_t **ret,
		       struct error *err)
{
	AUTO_BUFFER target = {0};
	__attribute__((cleanup(opened_free))) struct opened o = {
		.call = {.method = "POST", .body = json_object()}};
	int r;
	buffer_append_str(&target, "/v1/runs/");
	client_encode(&target, run);
	r = buffer_append_str(&target, "/replay");
	o.call.target = (const char *)target.data;
	if (r == 0)
		r = add_workspace(&o, q, -1, NULL, err);
	if (r == 0)
		r = add_policies(&o, q, o.call.fds[o.call.fd_count - 1].fd, -1, NULL, err);
	if (r == 0 && q->agency)
		r = set_text(o.call.body, "agency", q->agency, err);
	return r < 0 ? r : client_call(c, &o.call, NULL, ret, NULL, err);
}
