/*
 * What a template and a step mount: the operations of a plan (init.h), followed one by one below a
 * root, for stages 4 and 7 of init.c. No path is walked twice, and none leaves the root.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "sandbox/init_work.h"
#include "sandbox/sys.h"

static int resolve(int root, const char *path, uint64_t flags)
{
	return sys_openat2(root, path, flags | O_NOFOLLOW | O_CLOEXEC, 0,
			   RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

uint64_t init_mount_attrs(uint16_t flags)
{
	return MOUNT_ATTR_NOSUID | (flags & INIT_OP_DEV ? 0 : MOUNT_ATTR_NODEV) |
	       (flags & INIT_OP_RDONLY ? MOUNT_ATTR_RDONLY : 0) |
	       (flags & INIT_OP_NOEXEC ? MOUNT_ATTR_NOEXEC : 0);
}

static unsigned long mount_flags(uint16_t flags)
{
	return MS_NOSUID | MS_NODEV | (flags & INIT_OP_RDONLY ? MS_RDONLY : 0) |
	       (flags & INIT_OP_NOEXEC ? MS_NOEXEC : 0);
}

static int mkdir_parents(int root, const char *path, bool last, mode_t mode)
{
	char name[SANDBOX_PATH_MAX + 1];
	size_t len = strlen(path);

	if (len >= sizeof(name))
		return -ENAMETOOLONG;
	memcpy(name, path, len + 1);
	for (char *p = name; (p = strchr(p, '/')); p++) {
		*p = '\0';
		if (mkdirat(root, name, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	if (last && mkdirat(root, name, mode) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int make_file(int root, const char *path, const void *content, size_t len, mode_t mode)
{
	int err = mkdir_parents(root, path, false, 0);
	if (err < 0)
		return err;
	int fd = openat(root, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	for (size_t done = 0; done < len && err == 0;) {
		ssize_t n = write(fd, (const char *)content + done, len - done);
		if (n < 0)
			err = -errno;
		else
			done += (size_t)n;
	}
	close(fd);
	return err;
}

/* Opens the place where op mounts, made first where op says so. */
static int mount_point(int root, const struct init_op *op)
{
	const char *target = str(op->target);
	int err = 0;

	int fd = resolve(root, target, O_PATH);
	if (fd != -ENOENT || !(op->flags & (INIT_OP_POINT_DIR | INIT_OP_POINT_FILE)))
		return fd;
	if (op->flags & INIT_OP_POINT_DIR)
		err = mkdir_parents(root, target, true, 0755);
	else
		err = make_file(root, target, NULL, 0, 0644);
	return err < 0 ? err : resolve(root, target, O_PATH);
}

static int attach(int tree, int target)
{
	return sys_move_mount(tree, "", target, "",
			      MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static int op_bind(int root, int target, const char *path, uint16_t flags)
{
	unsigned recursive = flags & INIT_OP_RECURSIVE ? AT_RECURSIVE : 0;
	struct mount_attr attr = {.attr_set = init_mount_attrs(flags)};

	int source = resolve(root, path, O_PATH);
	if (source < 0)
		return source;
	int tree = sys_open_tree(source, "",
				 OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | recursive);
	close(source);
	if (tree < 0)
		return tree;
	int err = sys_mount_setattr(tree, "", AT_EMPTY_PATH | recursive, &attr);
	if (err == 0)
		err = attach(tree, target);
	close(tree);
	return err;
}

static int op_mask(int root, int target)
{
	struct stat st;

	if (fstat(target, &st) < 0)
		return -errno;
	return op_bind(root, target,
		       S_ISDIR(st.st_mode) ? INIT_STAGING "/" INIT_STAGED_MASK_DIR
					   : INIT_STAGING "/" INIT_STAGED_MASK_FILE,
		       INIT_OP_RDONLY | INIT_OP_NOEXEC);
}

/*
 * An overlay makes its own folders with mode 000 (fs/overlayfs/super.c, ovl_create_volatile_dirty),
 * and then cp and rm of the state directory fail for the user whose it is. It writes there by the
 * capabilities of who mounted it, so that the mode is nothing to it. The folder itself is for its
 * owner alone.
 */
void init_mount_open_work(const char *options)
{
	static const char *const made[] = {"work", "work/incompat", "work/incompat/volatile",
					   "work/incompat/volatile/dirty"};
	static const char key[] = ",workdir=";
	const char *at = strstr(options, key);
	char path[SANDBOX_PATH_MAX + 1];

	for (size_t i = 0; at && i < ARRAY_SIZE(made); i++) {
		const char *work = at + sizeof(key) - 1;
		int n = snprintf(path, sizeof(path), "%.*s/%s", (int)strcspn(work, ","), work,
				 made[i]);

		if (n > 0 && (size_t)n < sizeof(path)) /* another kernel may make less */
			(void)!fchmodat(AT_FDCWD, path, 0700, 0);
	}
}

static int op_overlay(int root, int target, const struct init_op *op)
{
	const char *point = op->flags & INIT_OP_ARMED ? INIT_STAGED_ARMED : INIT_STAGED_POINT;
	int err = 0;

	if (chdir("/" INIT_STAGING) < 0)
		return -errno;
	if (!(op->flags & INIT_OP_ARMED) &&
	    mount("overlay", point, "overlay", mount_flags(op->flags), str(op->source)) < 0)
		err = -errno;
	else
		err = sys_move_mount(AT_FDCWD, point, target, "", MOVE_MOUNT_T_EMPTY_PATH);
	if (err == 0 && !(op->flags & INIT_OP_ARMED))
		init_mount_open_work(str(op->source));
	if (fchdir(root) < 0 && err == 0)
		err = -errno;
	return err;
}

/* One name of INIT_OP_MERGE, unless the folder at `to` has it already. */
static int merge_name(int from, int to, const char *name)
{
	char link[SANDBOX_PATH_MAX + 1];
	struct stat st;
	int err = 0;

	if (fstatat(to, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	int entry = openat(from, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (entry < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(entry, &st) < 0)
		err = -errno;
	if (err == 0 && S_ISLNK(st.st_mode)) {
		ssize_t n = readlinkat(entry, "", link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = '\0';
		if (n < 0 || symlinkat(link, to, name) < 0)
			err = -errno;
	} else if (err == 0 && (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode))) {
		err = S_ISDIR(st.st_mode) ? mkdir_parents(to, name, true, 0755)
					  : make_file(to, name, NULL, 0, 0644);
		int point = err < 0 ? err : openat(to, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		int tree = sys_open_tree(entry, "",
					 OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH |
						 AT_RECURSIVE);
		if (err == 0)
			err = point < 0 ? -errno : tree < 0 ? tree : attach(tree, point);
		if (point >= 0)
			close(point);
		if (tree >= 0)
			close(tree);
	}
	close(entry);
	return err;
}

static int merge_names(int from, int to)
{
	static char names[32768] __attribute__((aligned(8)));
	int count = 0, err = 0;

	for (;;) {
		ssize_t n = getdents64(from, names, sizeof(names));
		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (ssize_t at_name = 0; at_name < n;) {
			const struct dirent64 *e = (const void *)(names + at_name);
			at_name += e->d_reclen;
			if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
				continue;
			err = ++count > INIT_MERGE_MAX ? -E2BIG : merge_name(from, to, e->d_name);
			if (err < 0)
				return err;
		}
	}
}

/* The folder of names that go over stays writable until the others have their places in it. */
static int op_merge(int root, int target, const struct init_op *op)
{
	struct mount_attr attr = {.attr_set = init_mount_attrs(op->flags)};

	int err = op_bind(root, target, INIT_STAGING "/" INIT_STAGED_ETC, INIT_OP_NOEXEC);
	if (err < 0)
		return err;
	int from = resolve(root, str(op->source), O_RDONLY | O_DIRECTORY);
	int to = resolve(root, str(op->target), O_RDONLY | O_DIRECTORY);
	err = from < 0 ? from : to < 0 ? to : merge_names(from, to);
	if (err == 0)
		err = sys_mount_setattr(to, "", AT_EMPTY_PATH, &attr);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return err;
}

/* Mounts on the folder itself, so that no path is walked a second time. */
static int mount_here(int root, int target, const char *type, unsigned long flags, const char *data)
{
	int err = 0;

	if (fchdir(target) < 0 || mount(type, ".", type, flags, data) < 0)
		err = -errno;
	if (fchdir(root) < 0 && err == 0)
		err = -errno;
	return err;
}

static int op_tmpfs(int root, int target, const struct init_op *op)
{
	char data[96];

	snprintf(data, sizeof(data), "mode=%o,size=%llu,nr_inodes=%u", op->mode,
		 (unsigned long long)op->size, op->inodes);
	return mount_here(root, target, "tmpfs", mount_flags(op->flags), data);
}

/* The kernel mounts a new proc only while a whole one is visible: the host's, in the staging
 * folder, which goes between fsmount and move_mount. */
static int op_proc(int root)
{
	int err = 0, mnt = -1;

	int fs = sys_fsopen("proc", FSOPEN_CLOEXEC);
	if (fs < 0)
		return fs;
	err = sys_fsconfig(fs, FSCONFIG_SET_STRING, "hidepid", "invisible", 0);
	if (err == 0)
		err = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (err == 0) {
		mnt = sys_fsmount(fs, FSMOUNT_CLOEXEC,
				  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		err = mnt < 0 ? mnt : 0;
	}
	close(fs);
	if (err == 0 && umount2("/" INIT_STAGING, MNT_DETACH) < 0)
		err = -errno;
	if (err == 0)
		err = sys_move_mount(mnt, "", root, "proc", MOVE_MOUNT_F_EMPTY_PATH);
	if (mnt >= 0)
		close(mnt);
	return err;
}

static int op_out(int root, int target, const struct init_op *op, int status)
{
	int err = op_tmpfs(root, target, op);
	if (err < 0)
		return err;
	int fd = resolve(root, str(op->target), O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	err = init_send_fd(status, INIT_REPORT_OUT, fd);
	close(fd);
	return err;
}

static int op_lock(int target)
{
	struct mount_attr attr = {.attr_set =
					  MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};

	return sys_mount_setattr(target, "", AT_EMPTY_PATH, &attr);
}

static int op_mount(int root, int target, const struct init_op *op, int status)
{
	switch ((enum init_op_kind)op->kind) {
	case INIT_OP_TREE:
		return op->tree < init_tree_count ? attach(init_trees[op->tree], target) : -EPROTO;
	case INIT_OP_BIND:
		return op_bind(root, target, str(op->source), op->flags);
	case INIT_OP_MASK:
		return op_mask(root, target);
	case INIT_OP_MERGE:
		return op_merge(root, target, op);
	case INIT_OP_TMPFS:
		return op_tmpfs(root, target, op);
	case INIT_OP_OVERLAY:
		return op_overlay(root, target, op);
	case INIT_OP_DEVPTS:
		return mount_here(root, target, "devpts", MS_NOSUID | MS_NOEXEC,
				  "newinstance,ptmxmode=0666,mode=0600");
	case INIT_OP_OUT:
		return op_out(root, target, op, status);
	case INIT_OP_LOCK:
		return op_lock(target);
	case INIT_OP_MKDIR:
	case INIT_OP_FILE:
	case INIT_OP_SYMLINK:
	case INIT_OP_PROC:
		break;
	}
	return -EPROTO;
}

static int follow(int root, const struct init_op *op, int status)
{
	int err = 0;

	switch ((enum init_op_kind)op->kind) {
	case INIT_OP_MKDIR:
		return mkdir_parents(root, str(op->target), true, op->mode);
	case INIT_OP_FILE:
		return make_file(root, str(op->target), at(op->source), op->size, op->mode);
	case INIT_OP_SYMLINK:
		err = mkdir_parents(root, str(op->target), false, 0);
		if (err == 0 && symlinkat(str(op->source), root, str(op->target)) < 0 &&
		    errno != EEXIST)
			err = -errno;
		return err;
	case INIT_OP_PROC:
		return op_proc(root);
	case INIT_OP_TREE:
	case INIT_OP_BIND:
	case INIT_OP_TMPFS:
	case INIT_OP_OVERLAY:
	case INIT_OP_DEVPTS:
	case INIT_OP_OUT:
	case INIT_OP_LOCK:
	case INIT_OP_MASK:
	case INIT_OP_MERGE:
		break;
	}
	int target = mount_point(root, op);
	/* What we cannot even look up, with all capabilities that this namespace has, nobody in it
	 * can: an overlay answers so for folders of others (/etc/ssl/private). */
	if (op->kind == INIT_OP_MASK && (op->flags & INIT_OP_OPTIONAL) && target == -EACCES)
		return 0;
	err = target < 0 ? target : op_mount(root, target, op, status);
	if (target >= 0)
		close(target);
	if ((op->flags & INIT_OP_OPTIONAL) && (err == -ENOENT || err == -ELOOP || err == -ENOTDIR))
		return 0;
	return err;
}

void init_mount_follow(int root, const struct init_list *ops, int status, enum init_stage stage)
{
	const struct init_op *op = at(ops->at);

	for (uint32_t i = 0; i < ops->count; i++) {
		int err = follow(root, &op[i], status);
		if (err < 0)
			init_fail(status, stage, err, op[i].target);
	}
}
