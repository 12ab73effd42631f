#include "supervisor/jobs.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/io.h"
#include "supervisor/adopt.h"
#include "supervisor/attempts.h"
#include "supervisor/confine.h"
#include "supervisor/results.h"

#define FOLDER_PREFIX "job-"

struct jobs_job {
	jobs_done_fn *done;
	void (*drop)(void *arg);
	void *arg;
};

void jobs_free(struct jobs_job *job)
{
	if (!job)
		return;
	if (job->drop)
		job->drop(job->arg);
	free(job);
}

bool jobs_succeeded(const struct jobs_result *r)
{
	return !r->not_started && r->exit->why == SANDBOX_WHY_EXITED && r->exit->signal == 0 &&
	       r->exit->status == 0;
}

/* In root's spool it must be readable by everybody, like all in it. */
static int lay(struct daemon *d, const char *folder, const struct jobs_spec *spec,
	       struct stat *ret_st, struct error *err)
{
	AUTO_FD dir = -1;
	int r = 0;

	if (mkdirat(d->spool_fd, folder, 0755) < 0)
		return error_set(err, -errno, "cannot make the inputs of %s: %s; free some space",
				 spec->name, strerror(errno));
	dir = openat(d->spool_fd, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fchmod(dir, 0755) < 0 || fstat(dir, ret_st) < 0)
		return error_set(err, -errno, "cannot open the inputs of %s: %s", spec->name,
				 strerror(errno));
	for (size_t i = 0; i < spec->file_count && r == 0; i++)
		r = io_write_file_atomic_at(dir, spec->files[i].name, spec->files[i].content, 0644);
	return r < 0 ? error_set(err, r, "cannot write the inputs of %s: %s; free some space",
				 spec->name, strerror(-r))
		     : 0;
}

static int walls(struct daemon *d, const struct jobs_spec *spec, const struct stat *st,
		 const char *folder, const struct sandbox_attempt_id *id, struct confine **ret,
		 struct error *err)
{
	AUTO(policy_effective_free) struct policy_effective *base = NULL;
	struct policy_combine combine = {.fallback = "base"};
	struct plan_step step = {.name = (char *)spec->name};
	struct confine_input in = {
		.step = &step,
		.argv = (const char *const *)spec->argv,
		.workspace = spec->run->workspace,
		.workspace_fd = -1,
		.in_name = folder,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.stdin_fd = spec->stdin_fd,
		.timeout_ms = spec->timeout_ms,
		.limits = spec->limits,
		.net_env = spec->env,
		.state = d->paths.state,
		.runtime = d->paths.runtime,
		.hidden = (const char *const *)d->own->state,
		.kept = (const char *const *)d->own->all,
		.attempt = *id,
	};
	int r;

	if (spec->ctx) {
		r = runs_base(d, spec->ctx, &in.workspace_fd, err);
		in.policy = spec->ctx->policy;
		in.env = spec->ctx->settings.env;
		in.home = spec->ctx->settings.home;
		in.uid = (uid_t)spec->run->ws_uid;
		in.gid = spec->ctx->gid;
	} else {
		r = policy_combine(&combine, &base, err);
		in.policy = base;
	}
	if (r < 0)
		return r;
	return confine_new(&in, ret, err);
}

int jobs_start(struct daemon *d, const struct jobs_spec *spec, struct error *err)
{
	AUTO(confine_free) struct confine *c = NULL;
	struct sandbox_attempt_id id;
	struct jobs_job *job;
	struct stat st;
	char folder[32];
	int r;

	if (attempts_jobs(d) >= JOBS_AT_ONCE_MAX)
		return error_set_exit(err, -EBUSY, EXIT_STATUS_LIMIT,
				      "%d commands of the supervisor run already; try again",
				      JOBS_AT_ONCE_MAX);
	if (getrandom(id.b, sizeof(id.b), 0) != sizeof(id.b))
		return error_set(err, -errno, "no randomness: %s", strerror(errno));
	snprintf(folder, sizeof(folder), FOLDER_PREFIX "%02x%02x%02x%02x%02x%02x%02x%02x", id.b[0],
		 id.b[1], id.b[2], id.b[3], id.b[4], id.b[5], id.b[6], id.b[7]);
	job = calloc(1, sizeof(*job));
	if (!job)
		return error_nomem(err);
	r = lay(d, folder, spec, &st, err);
	if (r == 0)
		r = own_refresh(&d->own_from, &d->own, err);
	if (r == 0)
		r = walls(d, spec, &st, folder, &id, &c, err);
	if (r == 0)
		r = adopt_job(d, confine_spec(c), folder, job, err);
	if (r < 0) {
		(void)!results_remove(d->spool_fd, folder);
		free(job);
		return r;
	}
	*job = (struct jobs_job){.done = spec->done, .drop = spec->drop, .arg = spec->arg};
	return 0;
}

static void read_stream(struct daemon *d, const struct sandbox_attempt_id *id,
			enum sandbox_spool_kind kind, struct buffer *out)
{
	char name[SANDBOX_SPOOL_NAME_SIZE];
	AUTO_FD fd = openat(d->spool_fd, sandbox_spool_name(id, kind, name),
			    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char piece[4096];
	off_t at = 0;
	ssize_t n;

	while (fd >= 0 && at < JOBS_OUTPUT_MAX && (n = pread(fd, piece, sizeof(piece), at)) > 0) {
		buffer_append(out, piece, (size_t)n);
		at += n;
	}
}

void jobs_settle(struct daemon *d, struct jobs_job *job, const struct sandbox_attempt_id *id,
		 const struct sandbox_exit *exit, const char *not_started)
{
	AUTO_BUFFER out = {0};
	AUTO_BUFFER err = {0};
	struct jobs_result r = {.not_started = not_started, .exit = not_started ? NULL : exit};

	read_stream(d, id, SANDBOX_SPOOL_STDOUT, &out);
	read_stream(d, id, SANDBOX_SPOOL_STDERR, &err);
	r.out = buffer_bytes(&out);
	r.err = buffer_bytes(&err);
	r.out_total = r.exit && r.exit->stdout_bytes > out.len ? r.exit->stdout_bytes : out.len;
	r.err_total = r.exit && r.exit->stderr_bytes > err.len ? r.exit->stderr_bytes : err.len;
	job->done(d, job->arg, &r);
	free(job);
}

void jobs_sweep(struct daemon *d)
{
	AUTO_FD fd = openat(d->spool_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!dir)
		return;
	(void)take_fd(&fd);
	while ((e = readdir(dir)))
		if (strncmp(e->d_name, FOLDER_PREFIX, strlen(FOLDER_PREFIX)) == 0)
			(void)!results_remove(d->spool_fd, e->d_name);
}
