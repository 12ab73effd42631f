/*
 * What the next step needs of the layers' file system, made before it is asked for: the layer's
 * folders, the attempt's lock file, and the overlay over them, mounted in the template. A disk may
 * take longer for these ten inodes than the command runs: ext4 without a journal, for one, looks at
 * every recently deleted inode of the group first.
 *
 * The next step's stack is known when the layer of the step before is sealed (its stack and the
 * layer) or removed (its stack). A guess that was wrong costs nothing but what it made: it is
 * removed when the next one is made.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/io.h"
#include "sandbox/keeper.h"

static void folder_name(uint64_t number, char *buf, size_t size)
{
	snprintf(buf, size, "%llx", (unsigned long long)number);
}

void arm_close(struct userns *u)
{
	if (u->arms >= 0)
		(void)unlinkat(u->keeper->layers_fd, u->arms_name, AT_REMOVEDIR);
	close_fd(&u->arms);
}

/* Waits for the template's answer; it is at work, or done. */
static void settle(struct template *t)
{
	struct init_report r;
	int fds[IO_FDS_MAX];
	size_t fd_count;

	if (t->arm != ARM_ASKED)
		return;
	int e = proc_receive(t->sock, &r, fds, &fd_count);
	t->arm = ARM_READY;
	if (e == 0 && r.type == INIT_REPORT_ARMED && r.error == 0)
		return;
	arm_forget(t);
	if (e == 0 && r.error == -ENOENT)
		arm_close(t->userns); /* the folder is gone: the next one makes another */
}

void arm_forget(struct template *t)
{
	char name[24];

	if (t->arm == ARM_NONE)
		return;
	settle(t);
	if (t->arm == ARM_READY) {
		t->arm = ARM_NONE;
		folder_name(t->arm_number, name, sizeof(name));
		layers_ahead_drop(t->userns->arms, name);
	}
}

/* ---- making ---- */

static int stack_of(const struct sandbox_workspace *w, struct buffer *ret)
{
	char name[LAYERS_NAME_SIZE];

	buffer_free(ret);
	for (size_t i = 0; i < w->layer_count; i++) {
		memset(name, 0, sizeof(name));
		snprintf(name, sizeof(name), "%s", w->layers[i]);
		(void)buffer_append(ret, name, sizeof(name));
	}
	return ret->failed;
}

static int write_message(struct template *t, const char *folder, struct buffer *out)
{
	const char *layers[MANIFEST_STACK_MAX + 1];
	struct sandbox_workspace w = {.mode = SANDBOX_WORKSPACE_STAGED, .layers = layers};
	struct init_arm a = {.magic = INIT_MAGIC, .mode = t->arm_mode};

	for (size_t i = 0; i < t->arm_stack.len && w.layer_count < ARRAY_SIZE(layers);
	     i += LAYERS_NAME_SIZE)
		layers[w.layer_count++] = (const char *)t->arm_stack.data + i;
	snprintf(a.folder, sizeof(a.folder), INIT_STAGED_LAYERS "/%s", folder);
	(void)buffer_append(out, &a, sizeof(a));
	plan_workspace_options(&w, folder, out);
	(void)buffer_append_byte(out, 0);
	return out->failed;
}

static void make(struct keeper *k, struct template *t)
{
	struct init_message m = {.type = INIT_ARM};
	struct userns *u = t->userns;
	char name[24], folder[INIT_ARM_FOLDER_SIZE - 4];
	AUTO_BUFFER message = {0};
	struct error err = {0};

	if (u->arms < 0)
		u->arms =
			layers_ahead_open(k->layers_fd, u->out_uid, u->out_gid, u->arms_name, &err);
	if (u->arms < 0)
		return;
	t->arm_left = false;
	t->arm_number = ++k->arm_counter;
	t->arm_mode = t->mode;
	folder_name(t->arm_number, name, sizeof(name));
	snprintf(folder, sizeof(folder), "%s/%s", u->arms_name, name);
	if (write_message(t, folder, &message) == 0 && message.len <= INIT_PLAN_INLINE &&
	    proc_send(t->sock, &m, buffer_bytes(&message), NULL, 0) == 0)
		t->arm = ARM_ASKED;
}

/* ---- guessing ---- */

static bool stands_on(const struct template *t, const char *layer)
{
	for (size_t i = 0; i < t->arm_stack.len; i += LAYERS_NAME_SIZE)
		if (strcmp((const char *)t->arm_stack.data + i, layer) == 0)
			return true;
	return false;
}

static void guess(struct keeper *k, struct template *t, const char *sealed)
{
	char name[LAYERS_NAME_SIZE] = {0};

	arm_forget(t);
	buffer_free(&t->arm_stack);
	(void)buffer_append(&t->arm_stack, t->last_stack.data, t->last_stack.len);
	if (sealed) {
		snprintf(name, sizeof(name), "%s", sealed);
		(void)buffer_append(&t->arm_stack, name, sizeof(name));
	}
	t->last_upper[0] = '\0';
	if (t->arm_stack.failed == 0)
		make(k, t);
}

void arm_look(struct keeper *k, const struct sealer_request *q, const struct sealer_reply *r)
{
	if (r->result < 0 || k->draining)
		return;
	for (struct template *t = k->templates; t; t = t->next) {
		for (size_t i = 0; i < q->name_count && q->op == SEALER_REMOVE; i++)
			if (t->arm != ARM_NONE && stands_on(t, q->names[i]))
				arm_forget(t);
		if (q->name_count != 1 || strcmp(t->last_upper, q->names[0]) != 0)
			continue;
		if (q->op == SEALER_SEAL)
			guess(k, t, r->entries > 0 ? q->names[0] : NULL);
		else if (q->op == SEALER_REMOVE)
			guess(k, t, NULL);
	}
}

/* ---- taking ---- */

/* Under a lock that nobody else can have seen before it has its name. */
static int take_lock(struct keeper *k, struct template *t, const struct sandbox_attempt_id *id)
{
	char path[40], name[SANDBOX_SPOOL_NAME_SIZE];

	sandbox_spool_name(id, SANDBOX_SPOOL_LOCK, name);
	snprintf(path, sizeof(path), "%llx/" INIT_ARM_LOCK, (unsigned long long)t->arm_number);
	AUTO_FD lock = openat(t->userns->arms, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	if (k->privileged && fchown(lock, geteuid(), getegid()) < 0)
		return -errno;
	if (renameat2(t->userns->arms, path, k->spool_fd, name, RENAME_NOREPLACE) < 0)
		return -errno;
	return take_fd(&lock);
}

bool arm_take(struct template *t, const struct protocol_spec *s, uint32_t mode, int *ret_lock)
{
	const struct sandbox_workspace *w = &s->spec.workspace;
	struct keeper *k = t->userns->keeper;
	AUTO_BUFFER stack = {0};
	char name[24];

	settle(t); /* answers come in the order of questions */
	if (w->mode != SANDBOX_WORKSPACE_STAGED)
		return false;
	if (stack_of(w, &stack) < 0)
		return false;
	bool fits = t->arm == ARM_READY && t->arm_mode == mode &&
		    bytes_equal(buffer_bytes(&stack), buffer_bytes(&t->arm_stack));
	t->mode = mode;
	snprintf(t->last_upper, sizeof(t->last_upper), "%s", w->upper);
	buffer_free(&t->last_stack);
	t->last_stack = stack;
	stack = (struct buffer){0};
	if (!fits)
		return false;
	AUTO_FD lock = take_lock(k, t, &s->spec.attempt);
	folder_name(t->arm_number, name, sizeof(name));
	if (lock < 0 || layers_ahead_take(t->userns->arms, name, k->layers_fd, w->upper) < 0) {
		/* names are not used twice: layers_create says which one was */
		arm_forget(t);
		return false;
	}
	t->arm = ARM_NONE;
	t->arm_left = true;
	*ret_lock = take_fd(&lock);
	return true;
}

void arm_let_go(struct keeper *k)
{
	struct init_message m = {.type = INIT_DISARM};

	for (struct template *t = k->templates; t; t = t->next) {
		if (t->arm_left)
			(void)!proc_send(t->sock, &m, bytes_of(NULL, 0), NULL, 0);
		t->arm_left = false;
	}
}
