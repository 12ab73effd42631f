#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "tests/adversarial/tries.h"

/* "DIR/NAME", good until the next call but one. */
static const char *in(const char *dir, const char *name)
{
	static char text[2][WORLD_TEXT * 2];
	static int at;

	at = !at;
	snprintf(text[at], sizeof(text[at]), "%s/%s", dir, name);
	return text[at];
}

static int create(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return errno;
	close(fd);
	unlink(path);
	return TRY_REACHED;
}

static int for_writing(const char *path)
{
	return try_said(open(path, O_WRONLY | O_CLOEXEC));
}

static int seen(const char *path)
{
	char byte;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? errno : read(fd, &byte, 1) > 0 ? TRY_REACHED : TRY_UNSEEN;
}

/* There and back again, where it succeeds. */
static int moved(const char *from, const char *to)
{
	if (rename(from, to) < 0)
		return errno;
	(void)rename(to, from);
	return TRY_REACHED;
}

/* ---- system trees */

int try_file_system_tree(const struct world *w)
{
	(void)w;
	return create("/usr/holdfast-try");
}

int try_file_root(const struct world *w)
{
	(void)w;
	return create("/holdfast-try");
}

int try_file_dev(const struct world *w)
{
	(void)w;
	return create("/dev/holdfast-try");
}

int try_file_passwd(const struct world *w)
{
	(void)w;
	return for_writing("/etc/passwd");
}

int try_file_shadow(const struct world *w)
{
	(void)w;
	return seen("/etc/shadow");
}

/* ---- a view: of one's own files, and still only to be read */

int try_file_view_create(const struct world *w)
{
	return create(in(w->view, "new"));
}

int try_file_view_write(const struct world *w)
{
	return for_writing(w->view_file);
}

int try_file_view_reopen(const struct world *w)
{
	char path[WORLD_TEXT * 2];
	int fd = open(w->view_file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return TRY_BROKEN;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return for_writing(path);
}

int try_file_view_truncate(const struct world *w)
{
	struct stat st;

	return stat(w->view_file, &st) < 0 ? TRY_BROKEN
					   : try_said(truncate(w->view_file, st.st_size));
}

int try_file_view_unlink(const struct world *w)
{
	const char *empty = in(w->view, "empty");
	int answer = try_said(rmdir(empty));

	(void)mkdir(empty, 0755);
	return answer;
}

int try_file_view_rename(const struct world *w)
{
	const char *to = in(w->view, "moved");

	return moved(w->view_file, to);
}

int try_file_view_link(const struct world *w)
{
	const char *to = in(w->view, "second");
	int answer = try_said(link(w->view_file, to));

	(void)unlink(to);
	return answer;
}

int try_file_view_chmod(const struct world *w)
{
	struct stat st;

	return stat(w->view_file, &st) < 0 ? TRY_BROKEN
					   : try_said(chmod(w->view_file, st.st_mode & 07777));
}

int try_file_view_times(const struct world *w)
{
	return try_said(utimensat(AT_FDCWD, w->view_file, NULL, 0));
}

int try_file_view_xattr(const struct world *w)
{
	int answer = try_said(setxattr(w->view_file, "user.holdfast", "x", 1, 0));

	(void)removexattr(w->view_file, "user.holdfast");
	return answer;
}

int try_file_view_flags(const struct world *w)
{
	int flags, fd = open(w->view_file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return TRY_BROKEN;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return errno;
	return try_said(ioctl(fd, FS_IOC_SETFLAGS, &flags));
}

/* A lock that the host holds, or would have to wait for. */
int try_file_view_lock(const struct world *w)
{
	int fd = open(w->view_file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return TRY_BROKEN;
	return flock(fd, LOCK_EX | LOCK_NB) == 0 ? TRY_UNSEEN
	       : errno == EWOULDBLOCK		 ? TRY_REACHED
						 : errno;
}

/* Whoever opens the file outside for writing would wait for the holder of the lease. */
int try_file_system_lease(const struct world *w)
{
	int fd = open("/usr/bin/env", O_RDONLY | O_CLOEXEC);

	(void)w;
	return fd < 0 ? TRY_BROKEN : try_said(fcntl(fd, F_SETLEASE, F_RDLCK));
}

/* ---- what nothing grants */

int try_file_hidden(const struct world *w)
{
	return seen(w->hidden_file);
}

int try_file_hidden_proc_root(const struct world *w)
{
	char path[WORLD_TEXT + 32];

	snprintf(path, sizeof(path), "/proc/self/root%s", w->hidden_file);
	return seen(path);
}

/* From a granted folder, far above the root. */
int try_file_hidden_dotdot(const struct world *w)
{
	char path[WORLD_TEXT * 2];

	if (chdir(w->rw) < 0)
		return TRY_BROKEN;
	snprintf(path, sizeof(path), "../../../../../../../../../..%s", w->hidden_file);
	return seen(path);
}

int try_file_hidden_link(const struct world *w)
{
	const char *name = in(w->rw, "way");

	(void)unlink(name);
	if (symlink(w->hidden_file, name) < 0)
		return TRY_BROKEN;
	int answer = seen(name);
	(void)unlink(name);
	return answer;
}

/* A file with a second name outside: what is written goes to a copy. */
int try_file_hard_write(const struct world *w)
{
	struct stat was, is;
	int fd = open(w->work_hard, O_WRONLY | O_APPEND | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &was) < 0)
		return TRY_BROKEN;
	return stat(w->work_hard, &is) == 0 && is.st_nlink > 1 ? TRY_REACHED : TRY_UNSEEN;
}

/* ---- a folder granted rw, and what lies beside it */

int try_file_rw_dotdot(const struct world *w)
{
	return create(in(w->rw, "../view/new"));
}

int try_file_rw_link(const struct world *w)
{
	const char *name = in(w->rw, "beside");

	(void)unlink(name);
	if (symlink(w->view_file, name) < 0)
		return TRY_BROKEN;
	int answer = for_writing(name);
	(void)unlink(name);
	return answer;
}

int try_file_rw_hard(const struct world *w)
{
	const char *name = in(w->rw, "hard");
	int answer = try_said(link(w->view_file, name));

	(void)unlink(name);
	return answer;
}

int try_file_rw_move(const struct world *w)
{
	char away[WORLD_TEXT + 8];

	snprintf(away, sizeof(away), "%s-away", w->rw);
	return moved(w->rw, away);
}

/* ---- masked and protected names of the workspace */

int try_file_mask_read(const struct world *w)
{
	return seen(w->work_mask);
}

int try_file_mask_write(const struct world *w)
{
	return for_writing(w->work_mask);
}

int try_file_mask_rename(const struct world *w)
{
	return moved(w->work_mask, in(w->work, "mask-away"));
}

/* Another file in its place. */
int try_file_mask_exchange(const struct world *w)
{
	const char *plain = in(w->work, "plain");

	if (renameat2(AT_FDCWD, plain, AT_FDCWD, w->work_mask, RENAME_EXCHANGE) < 0)
		return errno;
	(void)renameat2(AT_FDCWD, plain, AT_FDCWD, w->work_mask, RENAME_EXCHANGE);
	return TRY_REACHED;
}

int try_file_mask_link(const struct world *w)
{
	const char *name = in(w->work, "mask-second");
	int answer = try_said(link(w->work_mask, name));

	(void)unlink(name);
	return answer;
}

int try_file_mask_chmod(const struct world *w)
{
	return try_said(chmod(w->work_mask, 0644));
}

int try_file_mask_dir_list(const struct world *w)
{
	return try_said(open(w->work_mask_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

int try_file_mask_dir_rename(const struct world *w)
{
	return moved(w->work_mask_dir, in(w->work, "mask-dir-away"));
}

int try_file_protect_create(const struct world *w)
{
	return create(in(w->work_protect, "new"));
}

int try_file_protect_write(const struct world *w)
{
	return for_writing(in(w->work_protect, "kept"));
}

int try_file_protect_rename(const struct world *w)
{
	return moved(w->work_protect, in(w->work, "protect-away"));
}

int try_file_protect_exchange(const struct world *w)
{
	const char *other = in(w->work, "other");

	(void)mkdir(other, 0755);
	if (renameat2(AT_FDCWD, other, AT_FDCWD, w->work_protect, RENAME_EXCHANGE) < 0)
		return errno;
	(void)renameat2(AT_FDCWD, other, AT_FDCWD, w->work_protect, RENAME_EXCHANGE);
	return TRY_REACHED;
}

/* ---- Holdfast's own folders, below a granted one */

int try_own_state_list(const struct world *w)
{
	return try_said(open(in(w->dir, "state"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

int try_own_state_file(const struct world *w)
{
	return seen(w->state_file);
}

int try_own_layer(const struct world *w)
{
	return seen(w->layer_file);
}

int try_own_spool(const struct world *w)
{
	return seen(w->spool_file);
}

int try_own_runtime_list(const struct world *w)
{
	return try_said(open(in(w->dir, "run"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

int try_own_mask_rename(const struct world *w)
{
	return moved(in(w->dir, "state"), in(w->dir, "state-away"));
}

int try_own_mask_chmod(const struct world *w)
{
	return try_said(chmod(in(w->dir, "state"), 0700));
}

int try_own_mask_plant(const struct world *w)
{
	return moved(in(w->rw, "empty"), in(w->dir, "state/v1/try"));
}

int try_own_mask_create(const struct world *w)
{
	return create(in(w->dir, "state/v1/new"));
}

static int has_word(const char *path, const char *word)
{
	static char text[1 << 17];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return errno;
	while (len < sizeof(text) - 1 && (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	for (size_t i = 0; i < len; i++)
		text[i] = text[i] ? text[i] : ' ';
	text[len] = '\0';
	return strstr(text, word) ? TRY_REACHED : TRY_UNSEEN;
}

/* Where layers and spools lie. */
int try_own_mountinfo(const struct world *w)
{
	(void)w;
	return has_word("/proc/self/mountinfo", "state/v1");
}

int try_own_command_line(const struct world *w)
{
	char path[WORLD_TEXT * 2];

	snprintf(path, sizeof(path), "/proc/%s/cmdline", w->target_pid);
	int answer = has_word(path, "holdfast");
	return answer == ENOENT ? TRY_UNSEEN : answer; /* hidden altogether */
}
