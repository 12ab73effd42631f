/*
 * A request becomes a run: what the client sent is read, checked and kept as blobs, in the order
 * of the functions below, and only then is the engine asked. The layers of the policy are
 * create_policy.c, standard inputs create_stdin.c. Called by routes.c (runs, forks, steps) on the
 * loop's thread.
 */
#include "supervisor/create.h"

#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cbor.h"
#include "base/io.h"
#include "base/path.h"
#include "base/utf8.h"
#include "base/yaml.h"
#include "supervisor/confine.h"
#include "supervisor/create_private.h"
#include "supervisor/pins.h"
#include "supervisor/runs.h"
#include "supervisor/votes.h"
#include "supervisor/workspace.h"

enum { NOTES_MAX = 32 };

static void making_free(struct create_making *m)
{
	plan_free(m->plan);
	for (size_t i = 0; i < m->input_count; i++)
		policy_free(m->policies[i]);
	policy_effective_free(m->effective);
	runs_settings_free(&m->settings);
	close_fd(&m->workspace_fd);
}

const char *create_text(const struct api_request *q, const char *key)
{
	return json_string_value(json_object_get(q->body, key));
}

static int wrong(struct error *err, const char *what)
{
	return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE, "bad request: %s; see supervisor.h",
			      what);
}

int create_note(struct create_making *m, const char *fmt, ...)
{
	va_list args;
	int n;

	if (!m->settings.notes)
		m->settings.notes = calloc(NOTES_MAX + 1, sizeof(char *));
	if (!m->settings.notes)
		return -ENOMEM;
	if (m->note_count == NOTES_MAX)
		return 0;
	va_start(args, fmt);
	n = vasprintf(&m->settings.notes[m->note_count], fmt, args);
	va_end(args);
	if (n < 0) {
		m->settings.notes[m->note_count] = NULL;
		return -ENOMEM;
	}
	m->note_count++;
	return 0;
}

/* ---- workspace ---- */

/* The path comes from the descriptor, not from the client's word: it is what the sandbox will show.
 */
static int open_workspace(struct create_making *m, struct error *err)
{
	int given = api_request_fd(m->q, "workspace");
	char link[64];
	ssize_t n;
	int r;

	if (given < 0)
		return wrong(err, "descriptor 'workspace' is missing");
	m->workspace_fd = fcntl(given, F_DUPFD_CLOEXEC, 3);
	if (m->workspace_fd < 0)
		return error_set(err, -errno, "cannot keep the workspace: %s", strerror(errno));
	r = workspace_open(m->workspace_fd, geteuid(), &m->workspace, err);
	if (r < 0)
		return r;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", m->workspace_fd);
	n = readlink(link, m->path, sizeof(m->path) - 1);
	m->path[n > 0 ? n : 0] = '\0';
	if (strcmp(m->path, "/") == 0)
		return error_set_exit(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"cannot work in /: a workspace is a folder of the system, and "
			"this is all of it; cd to a project's folder, or name one with "
			"--workspace DIR");
	if (!policy_path_clean(bytes_str(m->path)) || !utf8_valid(bytes_str(m->path)))
		return error_set_exit(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"cannot work in this folder: it is removed, or its path is not "
			"UTF-8; choose another workspace");
	return 0;
}

/* ---- plan ---- */

static char **strings(const json_t *array, size_t max)
{
	size_t n = json_array_size(array);
	char **list;

	if (!json_is_array(array) || n == 0 || n > max)
		return NULL;
	list = calloc(n + 1, sizeof(*list));
	for (size_t i = 0; list && i < n; i++) {
		const char *s = json_string_value(json_array_get(array, i));

		list[i] = s ? strdup(s) : NULL;
		if (!list[i]) {
			for (size_t k = 0; k < i; k++)
				free(list[k]);
			free(list);
			return NULL;
		}
	}
	return list;
}

/* The name of the only step of `exec`: its program's, where that can be one. */
static char *step_name(const char *argv0)
{
	const char *slash = strrchr(argv0, '/');
	const char *name = slash ? slash + 1 : argv0;

	return strdup(utf8_check_name(bytes_str(name)) == 0 ? name : "exec");
}

static int make_exec_step(struct create_making *m, const json_t *exec, struct plan_step *s,
			  struct error *err)
{
	const json_t *tty = json_object_get(exec, "tty");
	int r = 0;

	plan_step_defaults(s);
	if (json_array_size(json_object_get(exec, "argv")) > PLAN_ARGV_MAX)
		return error_set_exit(err, -E2BIG, EXIT_STATUS_LIMIT,
				      "exec: %zu arguments, and a command takes at most %d; pass "
				      "them by standard input or a file",
				      json_array_size(json_object_get(exec, "argv")),
				      PLAN_ARGV_MAX);
	s->argv = strings(json_object_get(exec, "argv"), PLAN_ARGV_MAX);
	if (!s->argv)
		return wrong(err, "exec.argv is not a list of texts");
	s->name = step_name(s->argv[0]);
	if (!s->name)
		return error_nomem(err);
	s->retry.max = 1;
	s->retry.on = 0;
	m->exec = true;
	m->settings.learn = json_is_true(json_object_get(exec, "learn"));
	m->exec_lands = !m->settings.learn && json_is_true(json_object_get(exec, "land"));
	if (json_is_true(json_object_get(exec, "stdin"))) {
		s->stdin_kind = PLAN_STDIN_BLOB;
		r = create_stdin_keep(m, "stdin", &s->stdin_blob, err);
	}
	if (json_is_object(tty)) {
		m->settings.tty = true;
		m->settings.rows = (uint16_t)json_integer_value(json_object_get(tty, "rows"));
		m->settings.cols = (uint16_t)json_integer_value(json_object_get(tty, "cols"));
	}
	return r;
}

static int make_exec(struct create_making *m, const json_t *exec, struct error *err)
{
	struct plan *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return error_nomem(err);
	m->plan = p;
	p->base = -1;
	p->agency = -1;
	p->steps = calloc(1, sizeof(*p->steps));
	if (!p->steps)
		return error_nomem(err);
	p->step_count = 1;
	r = make_exec_step(m, exec, &p->steps[0], err);
	p->land = m->exec_lands ? JOURNAL_LAND_AUTO : JOURNAL_LAND_NEVER;
	return r < 0 ? r : plan_check(p, NULL, err);
}

static int make_driver(struct create_making *m, struct error *err)
{
	struct plan *p = calloc(1, sizeof(*p));

	if (!p)
		return error_nomem(err);
	m->plan = p;
	p->base = -1;
	p->agency = -1;
	p->outside_driver = true;
	return plan_check(p, NULL, err);
}

int create_read_fd(int fd, const char *name, struct buffer *out, struct error *err)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "cannot read %s: it is not a regular file; name one", name);
	out->max = YAML_BYTES_MAX + 1;
	r = io_read_all(fd, YAML_BYTES_MAX, out);
	if (r == -E2BIG)
		return yaml_too_large(err, name);
	return r < 0 ? error_set_exit(err, r, EXIT_STATUS_USAGE, "cannot read %s: %s", name,
				      strerror(-r))
		     : 0;
}

static int make_plan(struct create_making *m, struct error *err)
{
	const json_t *exec = json_object_get(m->q->body, "exec");
	const char *path = create_text(m->q, "plan_path");
	AUTO_BUFFER yaml = {0};
	int fd = api_request_fd(m->q, "plan");
	int r;

	if ((exec != NULL) + (fd >= 0) + json_is_true(json_object_get(m->q->body, "driver")) != 1)
		return wrong(err, "it needs exactly one of a plan, 'exec' and 'driver'");
	if (exec)
		return make_exec(m, exec, err);
	if (fd < 0)
		return make_driver(m, err);
	r = create_read_fd(fd, path ? path : "plan", &yaml, err);
	if (r == 0)
		r = plan_parse(buffer_bytes(&yaml), path ? path : "plan", &m->plan, err);
	return r;
}

/* What stands at these inside a sandbox is the sandbox's. */
static bool is_sandboxs_own(const char *path)
{
	return strcmp(path, "/tmp") == 0 || strcmp(path, "/run") == 0 ||
	       path_within(path, "/proc") || path_within(path, "/dev") ||
	       path_within(path, "/run/holdfast");
}

/* A workspace that no step is shown may be anywhere. */
static int check_workspace(struct create_making *m, struct error *err)
{
	size_t count = m->plan->step_count > 0 ? m->plan->step_count : 1;

	for (size_t i = 0; i < count && is_sandboxs_own(m->path); i++) {
		const char *step = i < m->plan->step_count ? m->plan->steps[i].name : "step";
		AUTO(policy_effective_free) struct policy_effective *e = NULL;
		AUTO(policy_fs_free) struct policy_fs *fs = NULL;
		struct policy_fs_decision d;
		int r = confine_fs(m->effective, step, m->path, m->settings.home, &e, &fs, err);

		if (r < 0)
			return r;
		policy_fs_decide(fs, bytes_str(m->path), POLICY_WANT_READ, &d);
		if (d.verdict != POLICY_FS_DENY)
			return error_set_exit(
				err, -EINVAL, EXIT_STATUS_USAGE,
				"cannot work in %.100s: every sandbox has a folder of its own "
				"there; "
				"cd to a project's folder, or name one with --workspace DIR",
				m->path);
	}
	return 0;
}

/* ---- environment ---- */

static int find_home(struct create_making *m, const char *env_home, struct error *err)
{
	struct passwd *pw = env_home ? NULL : getpwuid((uid_t)m->workspace.uid);
	const char *home = env_home ? env_home : pw ? pw->pw_dir : NULL;

	if (!home || !policy_path_clean(bytes_str(home)) || strcmp(home, "/") == 0)
		return 0;
	m->settings.home = strdup(home);
	return m->settings.home ? 0 : error_nomem(err);
}

static int make_env(struct create_making *m, struct error *err)
{
	const json_t *env = json_object_get(m->q->body, "env"),
		     *tty = json_object_get(json_object_get(m->q->body, "exec"), "tty");
	const char *term = json_string_value(json_object_get(tty, "term"));
	size_t n = 0, at = 0;
	char **all;
	const char *key;
	json_t *value;
	int r = 0;

	n = json_object_size(env);
	if (n > SANDBOX_ARGS_MAX / 2)
		return wrong(err, "too many environment variables");
	all = calloc(n + 2, sizeof(*all));
	if (!all)
		return error_nomem(err);
	json_object_foreach((json_t *)env, key, value)
	{
		if (!json_is_string(value) || strchr(key, '=') || !key[0]) {
			r = wrong(err, "env is not an object of texts");
			break;
		}
		if (term && strcmp(key, "TERM") == 0)
			continue;
		if (asprintf(&all[at], "%s=%s", key, json_string_value(value)) < 0) {
			all[at] = NULL;
			r = error_nomem(err);
			break;
		}
		at++;
	}
	if (r == 0)
		r = find_home(m, json_string_value(json_object_get(env, "HOME")), err);
	if (r == 0 && policy_env(m->effective, (const char *const *)all, &m->settings.env) < 0)
		r = error_nomem(err);
	while (at > 0)
		free(all[--at]);
	free(all);
	if (r == 0 && term) { /* of the terminal that it gets, not of the client's environment */
		char **env_now = m->settings.env;

		for (n = 0; env_now[n]; n++)
			;
		env_now = reallocarray(env_now, n + 2, sizeof(*env_now));
		if (!env_now)
			return error_nomem(err);
		m->settings.env = env_now; /* what was there is gone, whatever comes next */
		env_now[n + 1] = NULL;
		if (asprintf(&env_now[n], "TERM=%s", term) < 0) {
			env_now[n] = NULL;
			return error_nomem(err);
		}
	}
	if (r == 0 && !m->settings.notes)
		m->settings.notes = calloc(1, sizeof(char *));
	return r == 0 && !m->settings.notes ? error_nomem(err) : r;
}

/* ---- the run ---- */

static int choose_agency(struct create_making *m, enum policy_agency *ret, struct error *err)
{
	const char *asked = create_text(m->q, "agency");

	*ret = asked ? policy_agency_from(asked) : POLICY_AGENCY_UNSET;
	if (asked && *ret == POLICY_AGENCY_UNSET)
		return error_set_exit(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"no agency '%s'; it is one of observe, draft, assist, trusted, autonomous",
			asked);
	return 0;
}

/* A request can only make landing stricter than the plan; so does the dial, which may be turned
 * later (engine_land). */
static enum journal_land choose_land(const struct create_making *m)
{
	static const char *const names[] = {"auto", "ask", "never"};
	const char *asked = create_text(m->q, "land");
	int land = m->plan->land;

	for (int i = 0; asked && i < 3; i++)
		if (strcmp(asked, names[i]) == 0 && i > land)
			land = i;
	return (enum journal_land)land;
}

/* Pinned with the run: a key that is added later decides nothing of what waits. */
static int keep_signers(struct create_making *m, struct error *err)
{
	AUTO_BUFFER signers = {0};
	int r = votes_read_signers(m->effective, &signers, err);

	if (r < 0 || signers.len == 0)
		return r;
	if (memchr(signers.data, '\0', signers.len))
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "approvals: the signers file is not text");
	m->settings.signers = bytes_dup_str(buffer_bytes(&signers));
	return m->settings.signers ? 0 : error_nomem(err);
}

static int store(struct create_making *m, struct engine_run_request *r, struct error *err)
{
	AUTO_BUFFER plan = {0};
	AUTO_BUFFER policy = {0};
	AUTO_BUFFER settings = {0};
	int e = plan_encode(m->plan, &plan);

	if (e == 0)
		e = policy_effective_encode(m->effective, &policy);
	if (e == 0)
		e = runs_settings_encode(&m->settings, &settings);
	if (e == 0)
		e = journal_blob_put(m->d->journal, buffer_bytes(&plan), &r->plan_blob, err);
	if (e == 0)
		e = journal_blob_put(m->d->journal, buffer_bytes(&policy), &r->policy_blob, err);
	if (e == 0)
		e = journal_blob_put(m->d->journal, buffer_bytes(&settings), &r->environ_blob, err);
	if (e == 0)
		e = runs_context_digest(m->effective, r->agency, &r->context);
	return e < 0 ? error_set(err, e, "cannot keep what the run is made from: %s", strerror(-e))
		     : 0;
}

/* The name of a run that is not in memory is the caller's to look for (engine.h). */
static int check_name(struct create_making *m, const char *name, struct error *err)
{
	struct journal_id other;
	const struct journal_run *run;

	if (!name)
		return 0;
	if (utf8_check_name(bytes_str(name)) < 0)
		return error_set_exit(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"bad name: 1 to 128 bytes without control characters, '/' and '#'; choose "
			"another --name");
	if (journal_find_run(m->d->journal, name, &other, NULL) < 0)
		return 0;
	if (!journal_state_run(m->d->rows, &other) &&
	    journal_load_run(m->d->journal, &other, err) < 0)
		return -EIO;
	run = journal_state_run(m->d->rows, &other);
	if (run && run->name && strcmp(run->name, name) == 0 && journal_run_final(run->state)) {
		char id[JOURNAL_ID_TEXT_SIZE];

		return error_set_exit(
			err, -EEXIST, EXIT_STATUS_USAGE,
			"name '%s' is taken: run %.8s has ended; choose another --name", name,
			journal_id_text(&other, id));
	}
	return 0;
}

/* A pinned base is whole before the journal names its run; from: what it is a copy of. */
static int create(struct daemon *d, const struct engine_run_request *r, int from,
		  struct journal_id *ret, struct error *err)
{
	bool pinned = r->base == JOURNAL_BASE_PINNED;
	int e = pinned ? pins_make(d, &r->id, from, err) : 0;

	if (e < 0)
		return e;
	e = engine_run_create(d->engine, daemon_now(), r, ret, err);
	if (pinned && (e < 0 || !journal_id_equal(ret, &r->id)))
		pins_remove(d, &r->id); /* it was there already */
	return e;
}

static int make(struct create_making *m, struct journal_id *ret, struct error *err)
{
	struct engine_run_request r = {.request = bytes_str(m->q->request_id),
				       .uid = m->q->uid,
				       .started_ns = workspace_now_ns()};
	struct policy_settings settings;
	struct runs_context *ctx;
	enum policy_agency agency;
	const char *base = create_text(m->q, "base");
	int e = open_workspace(m, err);

	if (e == 0)
		e = make_plan(m, err);
	if (e == 0)
		e = choose_agency(m, &agency, err);
	if (e == 0)
		e = create_policy_make(m, agency, err);
	if (e == 0)
		e = create_policy_check_steps(m, err);
	if (e == 0)
		e = make_env(m, err);
	if (e == 0)
		e = check_workspace(m, err);
	if (e == 0)
		e = create_stdin_resolve(m, err);
	if (e == 0)
		e = keep_signers(m, err);
	if (e < 0)
		return e;
	policy_settings(m->effective, &settings);
	daemon_new_id(&r.id);
	r.name = create_text(m->q, "name");
	r.plan = m->plan;
	r.workspace = m->path;
	r.ws_dev = m->workspace.dev;
	r.ws_ino = m->workspace.ino;
	r.ws_uid = m->workspace.uid;
	r.agency = (unsigned)settings.agency - POLICY_OBSERVE;
	r.land = choose_land(m);
	r.base = base ? (strcmp(base, "pinned") == 0 ? JOURNAL_BASE_PINNED : JOURNAL_BASE_LIVE)
		 : m->plan->base >= 0 ? (enum journal_base)m->plan->base
				      : (settings.base == POLICY_PINNED ? JOURNAL_BASE_PINNED
									: JOURNAL_BASE_LIVE);
	e = check_name(m, r.name, err);
	if (e == 0)
		e = store(m, &r, err);
	if (e == 0)
		e = create(m->d, &r, m->workspace_fd, ret, err);
	if (e < 0)
		return e;
	/* The folder as the client opened it, for as long as this supervisor lives. */
	if (runs_get(m->d, ret, &ctx, NULL) == 0 && ctx->workspace_fd < 0)
		(void)!runs_give_workspace(m->d, ctx, m->workspace_fd, NULL);
	m->d->need_sync = true;
	if (journal_id_equal(ret, &r.id))
		return 0;
	/* Who starts it again wants it to go on; a driver's every step says the name, and is not that
	 * word. */
	e = m->plan->outside_driver
		    ? 0
		    : engine_run_resume(m->d->engine, daemon_now(), ret, m->q->uid, err);
	return e < 0 ? e : 1;
}

/* The reserve is for the outcomes of what runs already. */
static int refuse_full(const struct daemon *d, struct error *err)
{
	return d->space_low ? error_set_exit(err, -ENOSPC, EXIT_STATUS_LIMIT,
					     "the disk of %s is nearly full: no run is taken; free "
					     "some space, then ask again",
					     d->paths.state)
			    : 0;
}

/* Who says the name of a run that lives takes no room for another. */
static bool names_live_run(struct daemon *d, struct api_request *q)
{
	const char *name = create_text(q, "name");
	const struct journal_run *run;
	struct journal_id id;

	if (!name || journal_find_run(d->journal, name, &id, NULL) < 0)
		return false;
	run = journal_state_run(d->rows, &id); /* one that lives is in memory */
	return run && run->name && strcmp(run->name, name) == 0 && !journal_run_final(run->state);
}

/* A client that lost its answer asks again, perhaps another supervisor, perhaps after the run has
 * ended. */
static int find_request(struct daemon *d, const char *request_id, struct journal_id *ret,
			struct error *err)
{
	int r = journal_find_request(d->journal, bytes_str(request_id), ret);

	if (r == 0 && !journal_state_run(d->rows, ret))
		r = journal_load_run(d->journal, ret, err);
	return r;
}

int create_run(struct daemon *d, struct api_request *q, struct journal_id *ret, bool *ret_attached,
	       struct error *err)
{
	struct create_making *m;
	int r = find_request(d, q->request_id, ret, err);

	*ret_attached = r == 0;
	if (r == -ENOENT)
		r = names_live_run(d, q) ? 0 : refuse_full(d, err);
	if (r != 0 || *ret_attached)
		return r;
	m = calloc(1, sizeof(*m));
	if (!m)
		return error_nomem(err);
	m->d = d;
	m->q = q;
	m->workspace_fd = -1;
	r = make(m, ret, err);
	making_free(m);
	free(m);
	*ret_attached = r == 1;
	return r < 0 ? r : 0;
}

int create_fork(struct daemon *d, struct api_request *q, const struct journal_run *parent,
		const char *at, struct journal_id *ret, struct error *err)
{
	struct engine_run_request r = {.request = bytes_str(q->request_id),
				       .uid = q->uid,
				       .started_ns = workspace_now_ns()};
	struct runs_context *ctx;
	int base_fd = -1;
	int e = find_request(d, q->request_id, ret, err);

	if (e != -ENOENT)
		return e;
	e = refuse_full(d, err);
	if (e == 0)
		e = runs_get(d, &parent->id, &ctx, err);
	if (e == 0)
		e = runs_base(d, ctx, &base_fd, err);
	if (e < 0)
		return e;
	daemon_new_id(&r.id);
	r.plan = ctx->plan;
	r.plan_blob = parent->plan;
	r.policy_blob = parent->policy;
	r.environ_blob = parent->environ;
	r.context = parent->context;
	r.workspace = parent->workspace;
	r.ws_dev = parent->ws_dev;
	r.ws_ino = parent->ws_ino;
	r.ws_uid = parent->ws_uid;
	r.base = parent->base;
	r.land = parent->land;
	r.agency = parent->agency;
	r.parent = parent->id;
	r.fork_at = at;
	d->need_sync = true;
	return create(d, &r, base_fd, ret, err);
}

int create_policy(struct daemon *d, struct api_request *q, const struct plan *plan,
		  struct policy_effective **ret, struct error *err)
{
	struct create_making *m = calloc(1, sizeof(*m));
	enum policy_agency agency;
	int r;

	if (!m)
		return error_nomem(err);
	m->d = d;
	m->q = q;
	m->workspace_fd = -1;
	m->plan = (struct plan *)plan; /* read only */
	r = choose_agency(m, &agency, err);
	if (r == 0)
		r = create_policy_make(m, agency, err);
	if (r == 0)
		*ret = take_ptr(m->effective);
	m->plan = NULL;
	making_free(m);
	free(m);
	return r;
}

int create_step(struct daemon *d, struct api_request *q, struct plan_step **ret, struct error *err)
{
	AUTO(plan_step_free) struct plan_step *s = calloc(1, sizeof(*s));
	const char *name = create_text(q, "name"), *cwd = create_text(q, "cwd");
	const json_t *needs = json_object_get(q->body, "needs");
	struct create_making m = {.d = d, .q = q, .workspace_fd = -1};
	int r = 0;

	if (!s)
		return error_nomem(err);
	plan_step_defaults(s);
	s->name = name ? strdup(name) : NULL;
	s->argv = strings(json_object_get(q->body, "argv"), PLAN_ARGV_MAX);
	s->needs = json_array_size(needs) > 0 ? strings(needs, PLAN_NEEDS_MAX) : NULL;
	s->cwd = cwd ? strdup(cwd) : NULL;
	s->timeout_ms = (uint64_t)json_integer_value(json_object_get(q->body, "timeout_ms"));
	if (!s->name || !s->argv)
		return wrong(err, "a step needs a name and argv");
	if (json_is_true(json_object_get(q->body, "stdin"))) {
		s->stdin_kind = PLAN_STDIN_BLOB;
		r = create_stdin_keep(&m, "stdin", &s->stdin_blob, err);
	}
	if (r == 0)
		r = plan_step_check(s, NULL, err);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}
