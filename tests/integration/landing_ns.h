#pragma once
/*
 * For the tests of landing: a base, steps that run in a real overlay over it and are sealed by the
 * real sealer (layers_ns.h), the policy, a folder of blobs, and the landing itself. Scripts of
 * `edits` are the user's own work in the base.
 */
#include <dirent.h>
#include <time.h>
#include "base/escape.h"
#include "base/failpoint.h"
#include "policy/policy.h"
#include "supervisor/landing.h"
#include "supervisor/workspace.h"
#include "tests/integration/layers_ns.h"

enum { LANDING_NS_STEPS_MAX = 4 };

struct landing_ns {
	struct layers_ns t;
	int blobs;
	char workspace[96];
	struct policy *policy;
	struct policy_effective *effective;
	struct policy_fs *fs;
	struct landing_clock clock;
	struct landing_layer layers[LANDING_NS_STEPS_MAX];
	size_t layer_count;
	struct landing_source source;
	struct landing_prepared prepared;
	bool unsynced; /* a blob was put since the last blob_sync */
};

/* ---- blobs ---- */

static inline int landing_ns_blob_open(void *ctx, const struct digest *d)
{
	struct landing_ns *n = ctx;
	char hex[DIGEST_HEX_SIZE];
	int fd = openat(n->blobs, digest_hex(d, hex), O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static inline int landing_ns_blob_put(void *ctx, int fd, uint64_t max, struct digest *ret)
{
	struct landing_ns *n = ctx;
	AUTO_BUFFER content = {.max = 256 << 20};
	char hex[DIGEST_HEX_SIZE];
	int r;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	r = io_read_all(fd, max, &content);
	if (r < 0)
		return r;
	digest_of(buffer_bytes(&content), ret);
	n->unsynced = true;
	AUTO_FD to = openat(n->blobs, digest_hex(ret, hex),
			    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	return to < 0 ? -errno : io_write_all(to, content.data, content.len);
}

static inline int landing_ns_blob_sync(void *ctx)
{
	struct landing_ns *n = ctx;

	n->unsynced = false;
	return 0;
}

/* The sealer's OPEN, as the daemon has it. */
static inline int landing_ns_open_layer(void *ctx, const char *layer, struct bytes path)
{
	struct landing_ns *n = ctx;
	struct sealer_request q =
		layers_ns_request(SEALER_OPEN, (const char *const[]){layer, NULL});
	struct layers_ns_answer a;

	q.path = path;
	layers_ns_ask(&n->t, q, &a);
	return a.reply.result < 0 ? a.reply.result : a.fd;
}

/* ---- life ---- */

static inline void landing_ns_policy(struct landing_ns *n, const char *text)
{
	struct error err = {0};
	struct policy_vars vars = {.workspace = n->workspace,
				   .home = "/nowhere",
				   .tmp = "/tmp",
				   .run = "/run/holdfast"};
	struct policy_input input = {.layer = POLICY_LAYER_RUN};

	assert_int_equal(policy_parse(bytes_str(text), "test.yaml", NULL, &n->policy), 0);
	input.policy = n->policy;
	if (policy_combine(&(struct policy_combine){.inputs = &input, .count = 1}, &n->effective,
			   &err) < 0 ||
	    policy_fs_new(n->effective, &vars, &n->fs, &err) < 0)
		fail_msg("%s %s", err.where, err.msg);
}

static inline void landing_ns_open(struct landing_ns *n, const char *policy)
{
	*n = (struct landing_ns){0};
	layers_ns_open(&n->t);
	layers_ns_sealer_start(&n->t, NULL);
	layers_ns_mkdir(&n->t, "blobs", 0700, false);
	n->blobs = layers_ns_open_at(&n->t, "blobs");
	assert_true(n->blobs >= 0);
	snprintf(n->workspace, sizeof(n->workspace), "%s/base", n->t.root);
	landing_ns_policy(
		n,
		policy ? policy
		       : "version: 1\nname: t\nfs:\n  - {path: \"${workspace}\", access: stage}\n");
	n->source = (struct landing_source){.ctx = n,
					    .layers_fd = n->t.layers,
					    .blob_open = landing_ns_blob_open,
					    .blob_put = landing_ns_blob_put,
					    .blob_sync = landing_ns_blob_sync,
					    .open_layer = landing_ns_open_layer};
}

static inline void landing_ns_close(struct landing_ns *n)
{
	landing_prepared_free(&n->prepared);
	for (size_t i = 0; i < n->layer_count; i++)
		manifest_free((struct manifest *)n->layers[i].manifest);
	policy_fs_free(n->fs);
	policy_effective_free(n->effective);
	policy_free(n->policy);
	close(n->blobs);
	layers_ns_close(&n->t);
}

static inline void landing_ns_pause(void)
{
	/* More than one tick of the clock that file systems stamp with. */
	nanosleep(&(struct timespec){.tv_nsec = 15 * 1000000}, NULL);
}

/* The base is made, and then the run begins. */
static inline void landing_ns_begin(struct landing_ns *n, const char *base)
{
	layers_ns_base(&n->t, base);
	landing_ns_pause();
	landing_clock_start(&n->clock, workspace_now_ns(), 1);
	landing_ns_pause();
}

static inline void landing_ns_user(struct landing_ns *n, const char *script)
{
	if (script)
		layers_ns_base(&n->t, script);
}

/* One step more on the stack; before_seal is what the user does after it ran. */
static inline void landing_ns_step(struct landing_ns *n, const char *script,
				   const char *before_seal)
{
	const char *below[LANDING_NS_STEPS_MAX + 1] = {NULL};
	struct landing_layer *l = &n->layers[n->layer_count];

	for (size_t i = 0; i < n->layer_count; i++)
		below[i] = n->layers[i].name;
	snprintf(l->name, sizeof(l->name), "l%zu", n->layer_count);
	layers_ns_step(&n->t, below, l->name, script);
	landing_ns_user(n, before_seal);
	(void)layers_ns_do(&n->t, SEALER_SEAL, l->name);
	l->manifest = layers_ns_manifest(&n->t, l->name);
	n->layer_count++;
}

static inline void landing_ns_prepare(struct landing_ns *n, struct bytes shown, struct bytes last,
				      const struct landing_choice *choices, size_t choice_count)
{
	struct error err = {0};
	struct landing_prepared p = {0};
	struct landing_request r = {
		.workspace_fd = n->t.base,
		.workspace = n->workspace,
		.uid = n->t.uid,
		.gid = n->t.gid,
		.layers = n->layers,
		.layer_count = n->layer_count,
		.fs = n->fs,
		.clock = n->clock,
		.shown = shown,
		.last = last,
		.choices = choices,
		.choice_count = choice_count,
	};

	if (landing_prepare(&r, &p, &err) < 0)
		fail_msg("%s %s", err.where, err.msg);
	landing_prepared_free(&n->prepared);
	n->prepared = p;
}

static inline int landing_ns_apply_plan(struct landing_ns *n, struct bytes redo, bool undo,
					bool again, struct landing_outcome *ret)
{
	struct error err = {0};
	int r = landing_apply(&(struct landing_application){.workspace_fd = n->t.base,
							    .redo = redo,
							    .undo = undo,
							    .again = again,
							    .source = &n->source},
			      ret, &err);

	if (r < 0)
		fail_msg("%s %s", err.where, err.msg);
	return r;
}

static inline int landing_ns_apply(struct landing_ns *n, bool undo, bool again,
				   struct landing_outcome *ret)
{
	return landing_ns_apply_plan(n, buffer_bytes(&n->prepared.redo), undo, again, ret);
}

/* ---- what there is to see ---- */

static inline void landing_ns_conflicts(struct bytes blob, struct buffer *out)
{
	struct landing_plan *p = NULL;
	struct error err = {0};

	if (landing_conflicts_decode(blob, &p, &err) < 0)
		fail_msg("%s", err.msg);
	for (size_t i = 0; i < p->conflict_count; i++) {
		escape_append(out, p->conflicts[i].path, ESCAPE_LINE);
		buffer_printf(out, ": %s\n", landing_conflict_why_text(p->conflicts[i].why));
	}
	landing_plan_free(p);
}

static inline void landing_ns_outs(const struct landing_plan *p, struct buffer *out)
{
	for (size_t i = 0; i < p->out_count; i++) {
		escape_append(out, p->out[i].path, ESCAPE_LINE);
		buffer_printf(out, " %s\n", landing_out_why_name(p->out[i].why));
	}
}

static inline int landing_ns_by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* "d path mode", "f path mode content", "l path target", a line each, the folder's own names first
 * to last. */
static inline void landing_ns_tree(int dir, const char *prefix, struct buffer *out)
{
	struct dirent **list;
	int count = scandirat(dir, ".", &list, NULL, landing_ns_by_name);

	assert_true(count >= 0);
	for (int i = 0; i < count; i++) {
		const char *name = list[i]->d_name;
		AUTO_BUFFER path = {0};
		struct stat st;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
			free(list[i]);
			continue;
		}
		assert_int_equal(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW), 0);
		buffer_printf(&path, "%s%s", prefix, name);
		buffer_append_str(out, S_ISDIR(st.st_mode)   ? "d "
				       : S_ISLNK(st.st_mode) ? "l "
							     : "f ");
		escape_append(out, buffer_bytes(&path), ESCAPE_LINE);
		if (S_ISLNK(st.st_mode)) {
			char target[256] = {0};

			assert_true(readlinkat(dir, name, target, sizeof(target) - 1) > 0);
			buffer_printf(out, " %s\n", target);
		} else if (S_ISDIR(st.st_mode)) {
			AUTO_FD fd = -1;

			buffer_printf(out, " %o\n", st.st_mode & 07777);
			bool locked = geteuid() != 0 && (st.st_mode & 0500) != 0500;

			if (locked)
				assert_int_equal(fchmodat(dir, name, 0700, 0), 0);
			fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			assert_true(fd >= 0);
			buffer_append_byte(&path, '/');
			landing_ns_tree(fd, (const char *)path.data, out);
			if (locked) /* looking changes no ctime */
				assert_int_equal(fchmod(fd, st.st_mode & 07777), 0);
		} else {
			AUTO_BUFFER content = {0};

			bool locked = geteuid() != 0 && !(st.st_mode & 0400);

			if (locked)
				assert_int_equal(fchmodat(dir, name, 0600, 0), 0);
			assert_true(S_ISREG(st.st_mode));
			assert_int_equal(io_read_file_at(dir, name, 1 << 20, &content), 0);
			if (locked)
				assert_int_equal(fchmodat(dir, name, st.st_mode & 07777, 0), 0);
			buffer_printf(out, " %o ", st.st_mode & 07777);
			escape_append(out, buffer_bytes(&content), ESCAPE_LINE);
			buffer_append_byte(out, '\n');
		}
		if (geteuid() == 0)
			assert_int_equal(
				st.st_uid,
				LAYERS_NS_UID); /* whoever lands, the files are the owner's */
		free(list[i]);
	}
	free(list);
}

static inline char *landing_ns_list(struct landing_ns *n)
{
	struct buffer out = {0};

	landing_ns_tree(n->t.base, "", &out);
	return buffer_take(&out, NULL);
}

static inline void landing_ns_no_leftovers(struct landing_ns *n, const char *rule)
{
	AUTO_FREE char *tree = landing_ns_list(n);

	if (strstr(tree, LANDING_HIDDEN_PREFIX))
		fail_msg("%s: left behind:\n%s", rule, tree);
}

static inline void landing_ns_expect(struct landing_ns *n, const char *rule, const char *want)
{
	AUTO_FREE char *got = landing_ns_list(n);

	if (strcmp(got, want) != 0)
		fail_msg("%s: the directory has:\n%s-- but not\n%s", rule, got, want);
}
