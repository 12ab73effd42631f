/*
 * Standard inputs of steps: what a step may not read itself is not given to it, and what it is given
 * is a blob.
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include "base/path.h"
#include "supervisor/confine.h"
#include "supervisor/create_private.h"

enum { STDIN_MAX = 1024 * 1024 * 1024 };

int create_stdin_keep(struct create_making *m, const char *fd_name, struct digest *ret,
		      struct error *err)
{
	int fd = api_request_fd(m->q, fd_name);
	struct stat st;
	uint64_t size;

	if (fd < 0)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "bad request: descriptor '%s' is missing; see supervisor.h",
				      fd_name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > STDIN_MAX)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "bad request: descriptor '%s' is not a regular file of at "
				      "most 1 GiB; pass a file or a memfd",
				      fd_name);
	return journal_blob_put_fd(m->d->journal, fd, STDIN_MAX, ret, &size, err);
}

static int path_of(int fd, char ret[PATH_MAX])
{
	char link[48];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, ret, PATH_MAX - 1);
	if (n < 0)
		return -errno;
	ret[n] = '\0';
	return 0;
}

/* Whether the file lies in the folder of the plan. One that lies in / has no folder of its own. */
static bool is_beside_plan(const struct create_making *m, const char *file)
{
	char folder[PATH_MAX];
	char *slash;

	if (path_of(api_request_fd(m->q, "plan"), folder) < 0)
		return false;
	slash = strrchr(folder, '/');
	if (!slash || slash == folder)
		return false;
	*slash = '\0';
	return path_within(file, folder);
}

/* What the step could read there itself. A home of its own is an empty one inside. */
static bool is_readable(const struct create_making *m, const char *file,
			const struct policy_fs_decision *d)
{
	if (d->verdict == POLICY_FS_DENY)
		return false;
	return path_within(file, m->path) || d->access == POLICY_ACCESS_R ||
	       d->access == POLICY_ACCESS_RX || d->access == POLICY_ACCESS_RW;
}

/*
 * A plan may come from anywhere, and what it names is opened with the rights of who runs it: a step
 * is given no file that its policy would not let it read. But what lies beside the plan, outside
 * the workspace, came with it: that is refused only where a rule masks it. By where the descriptor
 * really leads, so that neither a link nor "..", nor a rename meanwhile, makes it another's.
 */
static int check_stdin(struct create_making *m, const struct plan_step *s, int fd,
		       struct error *err)
{
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	AUTO(policy_fs_free) struct policy_fs *fs = NULL;
	const char *plan = create_text(m->q, "plan_path");
	struct policy_fs_decision d;
	char file[PATH_MAX];
	bool ours = false, may;
	int r = path_of(fd, file);

	if (r < 0)
		return error_set(err, r, "cannot tell the path of step %s's stdin: %s; mount /proc",
				 s->name, strerror(-r));
	r = confine_fs(m->effective, s->name, m->path, m->settings.home, &e, &fs, err);
	if (r < 0)
		return r;
	policy_fs_decide(fs, bytes_str(file), POLICY_WANT_READ, &d);
	for (size_t i = 0; i < m->d->own->state_count; i++)
		ours |= path_within(file, m->d->own->state[i]);
	may = is_readable(m, file, &d) || (is_beside_plan(m, file) && !path_within(file, m->path) &&
					   !(d.access == POLICY_ACCESS_NONE && d.at.line > 0));
	if (may && !ours)
		return 0;
	error_where(err, "%s:%d:%d", plan ? plan : "plan", s->line, s->column);
	return error_set_exit(err, -EACCES, EXIT_STATUS_DENIED,
			      "step %s: stdin is %s, which its policy does not let it read%s%s; "
			      "put the file beside the plan, or grant it 'r'",
			      s->name, file, d.why[0] ? ": " : "", d.why);
}

int create_stdin_resolve(struct create_making *m, struct error *err)
{
	unsigned file = 0;
	int r = 0;

	for (size_t i = 0; i < m->plan->step_count && r == 0; i++) {
		struct plan_step *s = &m->plan->steps[i];
		char name[24];

		if (s->stdin_kind == PLAN_STDIN_FILE) {
			int fd;

			snprintf(name, sizeof(name), "file%u", file++);
			fd = api_request_fd(m->q, name);
			r = fd < 0 ? 0 : check_stdin(m, s, fd, err);
			if (r == 0)
				r = create_stdin_keep(m, name, &s->stdin_blob, err);
			if (r == 0) {
				free(s->stdin_file);
				s->stdin_file = NULL;
				s->stdin_kind = PLAN_STDIN_BLOB;
			}
		} else if (s->stdin_text) {
			r = journal_blob_put(m->d->journal,
					     bytes_of(s->stdin_text, s->stdin_text_len),
					     &s->stdin_blob, err);
			if (r == 0) {
				free(s->stdin_text);
				s->stdin_text = NULL;
				s->stdin_text_len = 0;
			}
		}
	}
	return r;
}
