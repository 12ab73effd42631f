/*
 * REMOVE: everything below a layer's folder, whatever modes and however deep an agent left it. A
 * folder deeper than the descriptors that may be held is moved up to the top and removed from
 * there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/failpoint.h"
#include "base/guard.h"
#include "sandbox/sealer_work.h"

enum { NAMES_AT_ONCE = 64 * 1024 };

struct removal {
	int top;
	unsigned moved; /* names given to folders that were moved up */
	struct error *err;
};

static int fail(struct removal *rm, int code)
{
	return error_set(rm->err, code, "remove: a layer cannot be removed: %s", strerror(-code));
}

static int move_up(struct removal *rm, int dir, const char *name)
{
	for (;;) {
		char fresh[24];

		snprintf(fresh, sizeof(fresh), "-%u", rm->moved++);
		if (renameat2(dir, name, rm->top, fresh, RENAME_NOREPLACE) == 0 || errno == ENOENT)
			return 0;
		if (errno != EEXIST)
			return fail(rm, -errno);
	}
}

static int remove_below(struct removal *rm, int dir, int depth);

static int remove_folder(struct removal *rm, int dir, const char *name, int depth)
{
	int r;
	AUTO_FD fd = -1;

	if (depth == SEALER_WORK_DEPTH_MAX)
		return move_up(rm, dir, name);
	fd = sealer_tree_enter(dir, name);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fail(rm, fd);
	r = remove_below(rm, fd, depth + 1);
	if (r < 0)
		return r;
	if (unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return fail(rm, -errno);
	return 0;
}

static int remove_below(struct removal *rm, int dir, int depth)
{
	int more = SEALER_TREE_MORE;

	while (more == SEALER_TREE_MORE) {
		struct sealer_tree_names names = {0};
		int r = 0;

		more = sealer_tree_names(dir, NAMES_AT_ONCE, &names);
		if (more < 0)
			return fail(rm, more);
		for (size_t i = 0; i < names.count && r == 0; i++) {
			const char *name = names.name[i];

			if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
				continue;
			r = errno == EISDIR || errno == EPERM ? remove_folder(rm, dir, name, depth)
							      : fail(rm, -errno);
		}
		sealer_tree_names_free(&names);
		if (r < 0)
			return r;
	}
	return 0;
}

int sealer_remove_below(int dir, struct error *err)
{
	struct removal rm = {.top = dir, .err = err};
	unsigned moved;

	do { /* what was moved up takes another round */
		int r;

		moved = rm.moved;
		r = remove_below(&rm, dir, 0);
		if (r < 0)
			return r;
	} while (rm.moved != moved);
	return 0;
}

int sealer_remove_run(int layers, const char *name, struct error *err)
{
	AUTO_FD layer = sealer_tree_enter(layers, name);
	int r;

	if (layer == -ENOENT)
		return 0;
	if (layer < 0)
		return error_set(err, layer, "remove: layer %s cannot be opened: %s", name,
				 strerror(-layer));
	/* The manifest first: half a layer must never look like a sealed one. */
	if (unlinkat(layer, LAYERS_MANIFEST, 0) < 0 && errno != ENOENT)
		return error_set(err, -errno, "remove: layer %s: %s", name, strerror(errno));
	r = failpoint_hit("sealer.removing");
	if (r < 0)
		return error_set(err, r, "remove: layer %s: %s", name, strerror(-r));
	return sealer_remove_below(layer, err);
}
