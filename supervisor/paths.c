#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/guard.h"
#include "base/io.h"

enum { RUNTIME_HASH_HEX = 16, IDENTITY_SIZE = 48 };

#define STATE_ROOT "/var/lib/holdfast"
#define RUNTIME_IN_USE \
	"runtime" /* names the folder that a supervisor of this state directory chose */
#define RUNTIME_OF "state" /* in that folder: which directory it is of */

static int clean_absolute(const char *path, char ret[PATH_MAX], struct error *err)
{
	size_t n = 0;

	if (path[0] != '/') {
		if (!getcwd(ret, PATH_MAX - 1))
			return error_set(
				err, -errno,
				"cannot find the current folder: %s; give --state an absolute path",
				strerror(errno));
		n = strlen(ret);
	}
	if (n + strlen(path) + 2 > PATH_MAX)
		return error_set_exit(
			err, -ENAMETOOLONG, EXIT_STATUS_USAGE,
			"the state directory's path is too long; choose a shorter --state");
	if (path[0] != '/')
		ret[n++] = '/';
	strcpy(ret + n, path);
	for (n = strlen(ret); n > 1 && ret[n - 1] == '/'; n--)
		ret[n - 1] = '\0';
	return 0;
}

static int choose_state(const char *option, const char *home, const char *xdg_state,
			char ret[PATH_MAX], struct error *err)
{
	char text[PATH_MAX];

	if (option && option[0])
		return clean_absolute(option, ret, err);
	if (geteuid() == 0)
		return clean_absolute(STATE_ROOT, ret, err);
	/* The XDG Base Directory specification: a relative value is ignored. */
	if (xdg_state && xdg_state[0] == '/') {
		if ((size_t)snprintf(text, sizeof(text), "%s/holdfast", xdg_state) < sizeof(text))
			return clean_absolute(text, ret, err);
	} else if (home && home[0] == '/') {
		if ((size_t)snprintf(text, sizeof(text), "%s/.local/state/holdfast", home) <
		    sizeof(text))
			return clean_absolute(text, ret, err);
	}
	return error_set_exit(err, -ENOENT, EXIT_STATUS_USAGE,
			      "no state directory: HOME is not set to an absolute path; set it or "
			      "give --state DIR");
}

/* Opens the folder that holds the last component of path, making missing ones for our user alone.
 */
static int open_parent(const char *path, bool create, const char **ret_last, struct error *err)
{
	char part[NAME_MAX + 1];
	AUTO_FD dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *at = path;

	if (dir < 0)
		return error_set(err, -errno, "cannot open /: %s", strerror(errno));
	for (;;) {
		const char *end;
		int next;

		while (*at == '/')
			at++;
		end = strchrnul(at, '/');
		if (*end == '\0')
			break;
		if ((size_t)(end - at) > NAME_MAX)
			return error_set_exit(
				err, -ENAMETOOLONG, EXIT_STATUS_USAGE,
				"%s: a name in it is too long; choose another --state", path);
		memcpy(part, at, (size_t)(end - at));
		part[end - at] = '\0';
		if (create && mkdirat(dir, part, 0700) < 0 && errno != EEXIST && errno != EROFS &&
		    errno != EACCES)
			return error_set_exit(err, -errno, EXIT_STATUS_USAGE,
					      "cannot make %.*s: %s; choose another --state",
					      (int)(end - path), path, strerror(errno));
		next = openat(dir, part, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (next < 0)
			return error_set_exit(
				err, -errno, EXIT_STATUS_USAGE,
				"cannot open %.*s: %s; make it or choose another --state",
				(int)(end - path), path, strerror(errno));
		close_fd(&dir);
		dir = next;
		at = end;
	}
	*ret_last = at;
	return take_fd(&dir);
}

/* A folder that everyone may write to, without the sticky bit, lets anyone put another one in our
 * place. */
static int check_parent(int parent, const char *path, struct error *err)
{
	struct stat st;

	if (fstat(parent, &st) < 0)
		return error_set(err, -errno, "cannot look at the folder of %s: %s", path,
				 strerror(errno));
	if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX))
		return error_set_exit(err, -EPERM, EXIT_STATUS_USAGE,
				      "refusing %s: everyone may write to the folder it is in; "
				      "chmod o-w that folder "
				      "or choose another --state",
				      path);
	return 0;
}

/* Opens one folder that must be ours alone. */
static int open_own(int parent, const char *name, const char *path, mode_t mode, bool create,
		    struct error *err)
{
	AUTO_FD fd = -1;
	struct stat st;

	if (create && mkdirat(parent, name, mode) < 0 && errno != EEXIST)
		return error_set_exit(err, -errno, EXIT_STATUS_USAGE,
				      "cannot make %s: %s; choose another --state", path,
				      strerror(errno));
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
		return error_set_exit(err, -ELOOP, EXIT_STATUS_USAGE,
				      "refusing %s: it is a symbolic link or not a folder; remove "
				      "it, or name its "
				      "target with --state",
				      path);
	if (fd < 0)
		return error_set_exit(err, -errno, EXIT_STATUS_USAGE, "cannot open %s: %s", path,
				      strerror(errno));
	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "cannot look at %s: %s", path, strerror(errno));
	if (st.st_uid != geteuid())
		return error_set_exit(
			err, -EPERM, EXIT_STATUS_USAGE,
			"refusing %s: it belongs to uid %u, not to %u; run as its owner or choose "
			"another --state",
			path, st.st_uid, geteuid());
	if ((st.st_mode & 07777) != mode) {
		/* umask may have taken bits from what was just made; it never adds one. */
		if (!create || (st.st_mode & 07777 & ~mode) != 0 || fchmod(fd, mode) < 0)
			return error_set_exit(err, -EPERM, EXIT_STATUS_USAGE,
					      "refusing %s: its mode is %04o; see who wrote to it, "
					      "then chmod %04o",
					      path, st.st_mode & 07777, mode);
	}
	return take_fd(&fd);
}

static int make_folders(int state_fd, const char *state, struct error *err)
{
	static const struct {
		const char *name;
		mode_t mode;
	} folders[] = {
		{"journal", 0700},
		{"blobs", 0700},
		{"layers", 0711}, /* a sealer of another uid reaches its own layers by descriptor
				     (layers.h) */
		{"spool", 0711},
	};
	char path[PATH_MAX + 64];
	AUTO_FD v1 = -1;

	snprintf(path, sizeof(path), "%s/v1", state);
	v1 = open_own(state_fd, "v1", path, 0711, true, err);
	if (v1 < 0)
		return v1;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		AUTO_FD fd = -1;

		snprintf(path, sizeof(path), "%s/v1/%s", state, folders[i].name);
		fd = open_own(v1, folders[i].name, path, folders[i].mode, true, err);
		if (fd < 0)
			return fd;
	}
	return 0;
}

/* Which directory it is, whatever path leads there. */
static int identity(int state_fd, char ret[IDENTITY_SIZE])
{
	struct stat st;

	if (fstat(state_fd, &st) < 0)
		return -errno;
	snprintf(ret, IDENTITY_SIZE, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return 0;
}

/* Whether the supervisor that uses this folder serves that very directory. A copy of the directory
 * brings the original's note along, and its supervisor must not answer for the copy. */
static bool belongs_to(int runtime_fd, int state_fd)
{
	AUTO_BUFFER text = {0};
	char self[IDENTITY_SIZE];

	return identity(state_fd, self) == 0 &&
	       io_read_file_at(runtime_fd, RUNTIME_OF, IDENTITY_SIZE, &text) == 0 &&
	       bytes_equal(buffer_bytes(&text), bytes_str(self));
}

/* The folder that the supervisor of this state directory wrote down, if it is still there and ours.
 */
static int open_recorded(int state_fd, char ret[PATH_MAX])
{
	AUTO_BUFFER text = {0};
	AUTO_FD parent = -1, fd = -1;
	const char *last;

	if (io_read_file_at(state_fd, RUNTIME_IN_USE, PATH_MAX - 1, &text) < 0 || text.len == 0 ||
	    text.data[0] != '/' || memchr(text.data, '\0', text.len))
		return -ENOENT;
	parent = open_parent((const char *)text.data, false, &last, NULL);
	if (parent < 0)
		return -ENOENT;
	fd = open_own(parent, last, (const char *)text.data, 0700, false, NULL);
	if (fd < 0 || !belongs_to(fd, state_fd))
		return -ENOENT;
	strcpy(ret, (const char *)text.data);
	return take_fd(&fd);
}

static int open_runtime(int state_fd, const char *state, const char *xdg_runtime, bool create,
			char ret[PATH_MAX], struct error *err)
{
	struct stat st;
	struct digest hash;
	char key[IDENTITY_SIZE], hex[DIGEST_HEX_SIZE], path[PATH_MAX];
	AUTO_FD parent = -1;
	int fd = open_recorded(state_fd, ret);

	if (fd >= 0)
		return fd;
	fd = identity(state_fd, key);
	if (fd < 0)
		return error_set(err, fd, "cannot look at %s: %s", state, strerror(-fd));
	digest_domain("holdfast.runtime", bytes_str(key), &hash);
	digest_hex(&hash, hex);
	hex[RUNTIME_HASH_HEX] = '\0';

	if (xdg_runtime && xdg_runtime[0] == '/')
		parent = open(xdg_runtime, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (parent >= 0 && fstat(parent, &st) == 0 && st.st_uid == geteuid() &&
	    (st.st_mode & 0077) == 0 &&
	    (size_t)snprintf(path, sizeof(path), "%s/holdfast-%s", xdg_runtime, hex) <
		    sizeof(path)) {
		fd = open_own(parent, strrchr(path, '/') + 1, path, 0700, create, err);
	} else {
		if ((size_t)snprintf(path, sizeof(path), "%s/run", state) >= sizeof(path))
			return error_set_exit(
				err, -ENAMETOOLONG, EXIT_STATUS_USAGE,
				"the state directory's path is too long; choose a shorter --state");
		fd = open_own(state_fd, "run", path, 0700, create, err);
	}
	if (fd >= 0)
		strcpy(ret, path);
	return fd;
}

static int open_state(const char *state_option, const char *home, const char *xdg_state,
		      bool create, char ret[PATH_MAX], struct error *err)
{
	AUTO_FD parent = -1;
	const char *last;
	int r = choose_state(state_option, home, xdg_state, ret, err);

	if (r < 0)
		return r;
	parent = open_parent(ret, create, &last, err);
	if (parent < 0)
		return parent;
	if (last[0] == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "%s cannot be a state directory; name a folder of its own",
				      ret);
	r = check_parent(parent, ret, err);
	return r < 0 ? r : open_own(parent, last, ret, 0700, create, err);
}

int supervisor_paths_open(const char *state_option, const char *home, const char *xdg_state,
			  const char *xdg_runtime, bool create, struct supervisor_paths *ret,
			  struct error *err)
{
	struct supervisor_paths p = {.state_fd = -1, .runtime_fd = -1};
	AUTO_FD state = -1, runtime = -1;

	_Static_assert(sizeof(p.state) == PATH_MAX, "paths of the header are whole paths");
	state = open_state(state_option, home, xdg_state, create, p.state, err);
	if (state < 0)
		return state;
	if (create) {
		int r = make_folders(state, p.state, err);

		if (r < 0)
			return r;
	}
	runtime = open_runtime(state, p.state, xdg_runtime, create, p.runtime, err);
	if (runtime < 0)
		return runtime;
	p.state_fd = take_fd(&state);
	p.runtime_fd = take_fd(&runtime);
	*ret = p;
	return 0;
}

int supervisor_paths_open_state(const char *state_option, const char *home, const char *xdg_state,
				struct supervisor_paths *ret, struct error *err)
{
	struct supervisor_paths p = {.state_fd = -1, .runtime_fd = -1};

	p.state_fd = open_state(state_option, home, xdg_state, false, p.state, err);
	if (p.state_fd < 0)
		return p.state_fd;
	*ret = p;
	return 0;
}

int supervisor_paths_there(const char *state_option, const char *home, const char *xdg_state,
			   char path[PATH_MAX], struct error *err)
{
	struct error found = {0};
	AUTO_FD state = -1;
	int r = choose_state(state_option, home, xdg_state, path, err);

	if (r < 0)
		return r;
	state = open_state(state_option, home, xdg_state, false, path, &found);
	if (state >= 0 && faccessat(state, "v1", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	if (state >= 0 ? errno == ENOENT : state == -ENOENT)
		return error_set_exit(
			err, -ENODATA, EXIT_STATUS_USAGE,
			"nothing runs and nothing waits: there is no state directory %s; 'holdfast "
			"run' or 'exec' makes it, --state names another",
			path);
	if (err && err->code == 0)
		*err = found;
	return state >= 0 ? 0 : state; /* what is odd about v1 is said by who opens it */
}

int supervisor_paths_record(const struct supervisor_paths *p, struct error *err)
{
	char self[IDENTITY_SIZE];
	int r = identity(p->state_fd, self);

	if (r == 0) /* first: the note is believed by it */
		r = io_write_file_atomic_at(p->runtime_fd, RUNTIME_OF, bytes_str(self), 0600);
	if (r == 0)
		r = io_write_file_atomic_at(p->state_fd, RUNTIME_IN_USE, bytes_str(p->runtime),
					    0600);
	if (r < 0)
		return error_set(err, r,
				 "cannot write %s/" RUNTIME_IN_USE
				 ": %s; see that the disk has room",
				 p->state, strerror(-r));
	return 0;
}

void supervisor_paths_close(struct supervisor_paths *p)
{
	close_fd(&p->state_fd);
	close_fd(&p->runtime_fd);
}
