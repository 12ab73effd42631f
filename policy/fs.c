/*
 * Files: each layer (and each step's fs of a layer) is a table of its own in which the deepest path
 * decides; the narrowest of them counts. The same tables give the mounts of a sandbox and decide
 * every path that would land.
 */
#include "policy/model.h"
#include "base/path.h"
#include "base/utf8.h"
#include <stdio.h>

struct point { /* a path at which something may change: of a rule, or of an exception */
	const char *path; /* the variables put in */
	const char *folded; /* its twins' common form */
	bool glob;
};

struct entry {
	struct point at;
	size_t depth;
	enum policy_access access;
	const struct point *except;
	size_t except_count;
	const struct policy_fs_rule *rule;
};

struct table {
	enum policy_layer layer;
	const struct policy_stratum *stratum;
	const struct policy_step *step; /* NULL = the layer's own */
	enum policy_access outside; /* of what no entry covers: NONE or, where it is silent, RW */
	struct entry *entries;
	size_t count;
};

struct policy_fs {
	struct policy_arena arena;
	struct table *tables;
	size_t count;
	struct point *points;
	size_t point_count;
	struct policy_mount *mounts;
	size_t mount_count;
	struct policy_vars vars; /* copies */
	bool granted;
	bool read_only; /* agency observe */
	struct policy_place agency_at;
};

/* Who said what about one path. */
struct answer {
	enum policy_access access;
	const struct table *table; /* NULL: nobody grants */
	const struct entry *entry; /* NULL: no entry of the table covers it */
};

/* ---- covering ---- */

static size_t depth_of(const char *path)
{
	size_t depth = 0;

	if (strcmp(path, "/") == 0)
		return 0;
	for (; *path; path++)
		depth += *path == '/';
	return depth;
}

static bool covers(const char *top, bool glob, struct bytes path)
{
	const char *s = path.data;
	const char *last;
	size_t parent, end;

	if (!glob)
		return path_is_within(path, top);
	last = strrchr(top, '/');
	parent = (size_t)(last - top) + 1;
	if (path.len <= parent || memcmp(s, top, parent) != 0)
		return false;
	for (end = parent; end < path.len && s[end] != '/'; end++)
		;
	return policy_glob(last + 1, bytes_of(s + parent, end - parent), true);
}

static bool point_covers(const struct point *p, struct bytes path, bool folded)
{
	return covers(folded ? p->folded : p->path, p->glob, path);
}

static bool entry_covers(const struct entry *e, struct bytes path)
{
	if (!point_covers(&e->at, path, false))
		return false;
	for (size_t i = 0; i < e->except_count; i++)
		if (point_covers(&e->except[i], path, false))
			return false;
	return true;
}

/* Whether a decides before b in one table, both covering the path. */
static bool beats(const struct entry *a, const struct entry *b)
{
	if (a->depth != b->depth)
		return a->depth > b->depth;
	/* A name beats a pattern; among patterns the narrower counts. */
	if (a->at.glob != b->at.glob)
		return !a->at.glob;
	return a->access < b->access;
}

static struct answer ask_table(const struct table *t, struct bytes path)
{
	struct answer a = {.access = t->outside, .table = t};

	for (size_t i = 0; i < t->count; i++) {
		const struct entry *e = &t->entries[i];

		if (entry_covers(e, path) && (!a.entry || beats(e, a.entry))) {
			a.entry = e;
			a.access = e->access;
		}
	}
	return a;
}

/* The same where the path might be read as its twin: an entry that means a twin and not this very
 * name narrows it, unless a deeper one means this very name. */
static struct answer ask_twins(const struct table *t, struct bytes path, struct bytes folded)
{
	struct answer a = ask_table(t, path);
	const struct entry *twin = NULL;

	for (size_t i = 0; i < t->count; i++) {
		const struct entry *e = &t->entries[i];

		if (!point_covers(&e->at, folded, true) || point_covers(&e->at, path, false))
			continue;
		if (!twin || e->depth > twin->depth ||
		    (e->depth == twin->depth && e->access < twin->access))
			twin = e;
	}
	if (twin && twin->access < a.access && (!a.entry || twin->depth >= a.entry->depth)) {
		a.entry = twin;
		a.access = twin->access;
	}
	return a;
}

/* folded: NULL, or the common form of the path's twins. */
static struct answer ask(const struct policy_fs *fs, struct bytes path, const char *folded)
{
	struct answer narrowest = {.access = POLICY_ACCESS_RW};

	if (!fs->granted)
		return (struct answer){.access = POLICY_ACCESS_NONE};
	for (size_t i = 0; i < fs->count; i++) {
		const struct table *t = &fs->tables[i];
		struct answer a =
			folded ? ask_twins(t, path, bytes_str(folded)) : ask_table(t, path);

		/* Of equal answers the one that an entry gave can be explained. */
		if (!narrowest.table || a.access < narrowest.access ||
		    (a.access == narrowest.access && a.entry && !narrowest.entry))
			narrowest = a;
	}
	if (fs->read_only && narrowest.access > POLICY_ACCESS_RX)
		narrowest.access = POLICY_ACCESS_RX;
	return narrowest;
}

/* ---- building ---- */

static int make_point(struct policy_fs *fs, const char *path, const struct policy_vars *vars,
		      struct point *ret)
{
	struct point *points;
	struct point p;
	int err = policy_path_expand(&fs->arena, path, vars, &p.path);

	if (err < 0)
		return err;
	p.glob = policy_path_is_glob(path);
	err = policy_path_fold(&fs->arena, bytes_str(p.path), &p.folded);
	if (err < 0)
		return err;
	*ret = p;
	for (size_t i = 0; i < fs->point_count; i++)
		if (fs->points[i].glob == p.glob && strcmp(fs->points[i].path, p.path) == 0)
			return 0;
	points = policy_arena_push(&fs->arena, fs->points, fs->point_count, sizeof(*points));
	if (!points)
		return -ENOMEM;
	points[fs->point_count++] = p;
	fs->points = points;
	return 0;
}

static int make_entry(struct policy_fs *fs, const struct policy_fs_rule *r,
		      const struct policy_vars *vars, struct entry *ret)
{
	struct point *except = policy_arena_alloc(&fs->arena, (r->except.n + 1) * sizeof(*except));
	int err = make_point(fs, r->path, vars, &ret->at);

	if (err < 0)
		return err;
	if (!except)
		return -ENOMEM;
	ret->depth = depth_of(ret->at.path);
	ret->access = (enum policy_access)(r->access - 1);
	ret->rule = r;
	ret->except = except;
	for (size_t i = 0; i < r->except.n; i++) {
		err = make_point(fs, r->except.v[i], vars, &except[ret->except_count]);
		if (err < 0)
			return err;
		ret->except_count++;
	}
	return 0;
}

static int make_table(struct policy_fs *fs, const struct policy_list *rules,
		      const struct policy_vars *vars, struct table *t)
{
	t->entries = policy_arena_alloc(&fs->arena, (rules->n + 1) * sizeof(*t->entries));
	if (!t->entries)
		return -ENOMEM;
	for (size_t i = 0; i < rules->n; i++) {
		struct entry e = {0};
		int err = make_entry(fs, (const struct policy_fs_rule *)rules->v + i, vars, &e);

		/* A variable that stands for nothing: no path can be meant. */
		if (err == -ENOENT)
			continue;
		if (err < 0)
			return err;
		t->entries[t->count++] = e;
	}
	return 0;
}

/* What a layer says of paths that none of its rules covers. */
static enum policy_access outside_of(const struct policy_stratum *s)
{
	const struct policy_fs_rule *rules = s->body->fs.v;

	if (policy_stratum_grants(s))
		return POLICY_ACCESS_NONE;
	if (s->layer - 1 == POLICY_LAYER_PROJECT_UNTRUSTED || !s->body->fs.set)
		return POLICY_ACCESS_RW;
	/* A ceiling that only takes away leaves the rest; one that grants something bounds
	 * everything. */
	for (size_t i = 0; i < s->body->fs.n; i++)
		if (rules[i].access - 1 != POLICY_ACCESS_NONE)
			return POLICY_ACCESS_NONE;
	return s->body->fs.n ? POLICY_ACCESS_RW : POLICY_ACCESS_NONE;
}

bool policy_fs_bare(const struct policy_effective *e, struct policy_place *ret)
{
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_stratum *s = &e->layers[i];
		const struct policy_fs_rule *r = policy_check_no_loader(s->body);

		if (r && s->layer - 1 != POLICY_LAYER_PROJECT_UNTRUSTED) {
			*ret = r->item.at;
			return true;
		}
	}
	return false;
}

static int make_tables(struct policy_fs *fs, const struct policy_effective *e,
		       const struct policy_vars *vars)
{
	size_t max = e->count;

	for (size_t i = 0; i < e->count; i++)
		max += e->layers[i].body->steps.n;
	fs->tables = policy_arena_alloc(&fs->arena, (max + 1) * sizeof(*fs->tables));
	if (!fs->tables)
		return -ENOMEM;
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_stratum *s = &e->layers[i];
		const struct policy_step *steps = s->body->steps.v;
		struct table own = {
			.layer = (enum policy_layer)(s->layer - 1),
			.stratum = s,
			.outside = outside_of(s),
		};
		int err = make_table(fs, &s->body->fs, vars, &own);

		if (err < 0)
			return err;
		fs->tables[fs->count++] = own;
		for (size_t j = 0; j < s->body->steps.n; j++) {
			struct table narrower = {
				.layer = own.layer,
				.stratum = s,
				.step = &steps[j],
				.outside = POLICY_ACCESS_RW,
			};

			if (!steps[j].fs.n || !policy_step_applies(e, &steps[j]))
				continue;
			err = make_table(fs, &steps[j].fs, vars, &narrower);
			if (err < 0)
				return err;
			fs->tables[fs->count++] = narrower;
		}
	}
	return 0;
}

/* ---- the mount table ---- */

static bool is_below(const char *path, const char *top)
{
	return strcmp(path, top) != 0 && path_within(path, top);
}

static size_t parent_len(const char *path)
{
	return (size_t)(strrchr(path, '/') - path) + 1;
}

/* Parents first; in one folder the patterns before the names, wide patterns before narrow ones. */
static int by_path(const void *a, const void *b)
{
	const struct policy_mount *x = a;
	const struct policy_mount *y = b;
	const char *p = x->path;
	const char *q = y->path;
	size_t px = x->glob ? parent_len(p) : strlen(p);
	size_t qy = y->glob ? parent_len(q) : strlen(q);

	/* "/" is the parent of all; a pattern sorts as its folder with a slash behind it, before
	 * all that is in it. */
	for (size_t i = 0; i < px && i < qy; i++) {
		int c = p[i] == '/' ? 1 : (uint8_t)p[i] + 1;
		int d = q[i] == '/' ? 1 : (uint8_t)q[i] + 1;

		if (c != d)
			return c - d;
	}
	if (px != qy)
		return px < qy ? -1 : 1;
	if (x->glob != y->glob)
		return strcmp(x->glob ? q : p, "/") == 0 ? (x->glob ? 1 : -1) : (x->glob ? -1 : 1);
	if (x->glob && x->access != y->access)
		return x->access > y->access ? -1 : 1;
	return strcmp(p, q);
}

static bool pattern_near(const struct policy_fs *fs, const struct policy_mount *m)
{
	for (size_t i = 0; i < fs->point_count; i++) {
		const struct point *p = &fs->points[i];

		if (p->glob && (covers(p->path, true, bytes_str(m->path)) ||
				(m->glob && strcmp(p->path, m->path) != 0 &&
				 parent_len(p->path) == parent_len(m->path) &&
				 memcmp(p->path, m->path, parent_len(m->path)) == 0)))
			return strcmp(p->path, m->path) != 0 || !m->glob;
	}
	return false;
}

/* Drops what changes nothing: the same access as the folder around it, or nothing inside nothing.
 */
static void simplify(struct policy_fs *fs)
{
	size_t kept = 0;

	for (size_t i = 0; i < fs->mount_count; i++) {
		const struct policy_mount *m = &fs->mounts[i];
		const struct policy_mount *around = NULL;

		for (size_t j = 0; j < kept; j++)
			if (!fs->mounts[j].glob && is_below(m->path, fs->mounts[j].path))
				around = &fs->mounts[j]; /* sorted: the last one is the deepest */
		if (!pattern_near(fs, m) &&
		    m->access == (around ? around->access : POLICY_ACCESS_NONE))
			continue;
		fs->mounts[kept++] = *m;
	}
	fs->mount_count = kept;
}

static int make_mounts(struct policy_fs *fs)
{
	fs->mounts = policy_arena_alloc(&fs->arena, (fs->point_count + 1) * sizeof(*fs->mounts));
	if (!fs->mounts)
		return -ENOMEM;
	for (size_t i = 0; i < fs->point_count; i++) {
		const struct point *p = &fs->points[i];
		struct answer a = ask(fs, bytes_str(p->path), NULL);
		const struct policy_fs_rule *r = a.entry ? a.entry->rule : NULL;

		fs->mounts[fs->mount_count++] = (struct policy_mount){
			.path = p->path,
			.access = a.access,
			.glob = p->glob,
			.at = r ? r->item.at : (struct policy_place){.file = ""},
			.why = r && r->why ? r->why : "",
		};
	}
	if (fs->mount_count)
		qsort(fs->mounts, fs->mount_count, sizeof(*fs->mounts), by_path);
	simplify(fs);
	return 0;
}

static int check_vars(const struct policy_vars *v, struct error *err)
{
	const char *const values[] = {v->workspace, v->home, v->tmp, v->run};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		if (values[i] && !policy_path_clean(bytes_str(values[i])))
			return error_set(err, -EINVAL, "'%s' is not a clean absolute path",
					 values[i]);
	return 0;
}

static void keep_vars(struct policy_fs *fs, const struct policy_vars *v)
{
	if (v->workspace)
		fs->vars.workspace = policy_arena_text(&fs->arena, bytes_str(v->workspace));
	if (v->home)
		fs->vars.home = policy_arena_text(&fs->arena, bytes_str(v->home));
	if (v->tmp)
		fs->vars.tmp = policy_arena_text(&fs->arena, bytes_str(v->tmp));
	if (v->run)
		fs->vars.run = policy_arena_text(&fs->arena, bytes_str(v->run));
}

int policy_fs_new(const struct policy_effective *e, const struct policy_vars *vars,
		  struct policy_fs **ret, struct error *err)
{
	struct policy_settings s;
	struct policy_fs *fs;
	int code = check_vars(vars, err);

	if (code < 0)
		return code;
	fs = calloc(1, sizeof(*fs));
	if (!fs)
		return error_nomem(err);
	keep_vars(fs, vars);
	policy_settings(e, &s);
	fs->granted = policy_effective_any_grant(e);
	fs->read_only = policy_dial_files(s.agency) == POLICY_FILES_READ_ONLY;
	fs->agency_at = s.agency_at;
	code = make_tables(fs, e, vars);
	if (code == 0)
		code = make_mounts(fs);
	if (code == 0 && fs->arena.failed)
		code = -ENOMEM;
	if (code < 0) {
		policy_fs_free(fs);
		return error_set(err, code, "the files of the policy cannot be resolved here: %s",
				 code == -ENOMEM
					 ? "out of memory"
					 : "with the workspace and home in it a path is too long");
	}
	*ret = fs;
	return 0;
}

void policy_fs_free(struct policy_fs *fs)
{
	if (!fs)
		return;
	policy_arena_free(&fs->arena);
	free(fs);
}

const struct policy_mount *policy_fs_table(const struct policy_fs *fs, size_t *ret_count)
{
	*ret_count = fs->mount_count;
	return fs->mounts;
}

/* ---- deciding ---- */

static enum policy_access needed(enum policy_want want)
{
	switch (want) {
	case POLICY_WANT_READ:
		return POLICY_ACCESS_R;
	case POLICY_WANT_EXEC:
		return POLICY_ACCESS_RX;
	case POLICY_WANT_WRITE:
		return POLICY_ACCESS_SCRATCH;
	case POLICY_WANT_LAND:
	case POLICY_WANT_FOLDER:
	case POLICY_WANT_REMOVE:
		return POLICY_ACCESS_STAGE;
	}
	return POLICY_ACCESS_RW;
}

static void explain(const struct policy_fs *fs, const struct answer *a, const char *note,
		    struct policy_fs_decision *d)
{
	const struct policy_fs_rule *r = a->entry ? a->entry->rule : NULL;

	d->access = a->access;
	d->layer = a->table ? a->table->layer : POLICY_LAYER_DEFAULT;
	d->at = r ? r->item.at : (struct policy_place){.file = ""};
	if (!a->table)
		utf8_printf(d->why, sizeof(d->why), "no policy grants any files");
	else if (fs->read_only && (!a->entry || a->entry->access > POLICY_ACCESS_RX) &&
		 a->access == POLICY_ACCESS_RX)
		utf8_printf(d->why, sizeof(d->why), "at agency observe files are read-only");
	else if (!r)
		utf8_printf(d->why, sizeof(d->why), "no fs rule of the %s policy covers it",
			    policy_layer_name(d->layer));
	else
		utf8_printf(d->why, sizeof(d->why), "%s%s%s%s'%s' is %s%s%s",
			    a->table->step ? "step '" : "",
			    a->table->step ? a->table->step->item.name : "",
			    a->table->step ? "' says " : "", note, r->path,
			    policy_access_name(a->entry->access), r->why ? ": " : "",
			    r->why ? r->why : "");
}

/* The narrower place that would go away with all that is below path (or its twin), or NULL. */
static const struct point *narrower_below(const struct policy_fs *fs, struct bytes path,
					  bool folded, struct answer *ret)
{
	for (size_t i = 0; i < fs->point_count; i++) {
		const struct point *p = &fs->points[i];
		const char *text = folded ? p->folded : p->path;
		struct answer a;

		if (strlen(text) <= path.len || memcmp(text, path.data, path.len) != 0 ||
		    (text[path.len] != '/' && path.len != 1))
			continue;
		a = ask(fs, bytes_str(p->path), NULL);
		if (a.access < POLICY_ACCESS_STAGE) {
			*ret = a;
			return p;
		}
	}
	return NULL;
}

static bool lands(enum policy_want want)
{
	return want == POLICY_WANT_LAND || want == POLICY_WANT_FOLDER || want == POLICY_WANT_REMOVE;
}

/* Judges the path as it is (folded NULL), or as any of its twins; what is already refused stays
 * refused. */
static void judge(const struct policy_fs *fs, struct bytes path, const char *folded,
		  enum policy_want want, struct policy_fs_decision *d)
{
	struct answer a = ask(fs, path, folded);
	struct answer below;
	const struct point *p;

	if (a.access < needed(want)) {
		enum policy_fs_verdict verdict = lands(want) && a.access == POLICY_ACCESS_SCRATCH
							 ? POLICY_FS_STAYS
							 : POLICY_FS_DENY;

		if (d->verdict == POLICY_FS_DENY || d->verdict == verdict)
			return;
		d->verdict = verdict;
		explain(fs, &a,
			folded ? "it is a twin (case, Unicode form) of a narrower name: " : "", d);
		return;
	}
	if (want != POLICY_WANT_LAND && want != POLICY_WANT_REMOVE)
		return;
	p = narrower_below(fs, folded ? bytes_str(folded) : path, folded != NULL, &below);
	if (!p)
		return;
	d->verdict = POLICY_FS_DENY;
	explain(fs, &below, "", d);
	utf8_printf(d->why, sizeof(d->why), "it would %s '%.*s', which is %s",
		    want == POLICY_WANT_LAND ? "stand in the place of" : "take away",
		    UTF8_SHORT(p->path, 150), policy_access_name(below.access));
}

/* One path inside a repository that lies in the workspace, read as git reads it: as one of the
 * workspace's own .git. Only what the table says of that folder by name narrows it. */
static void judge_as_own(const struct policy_fs *fs, const char *git, const char *rest,
			 enum policy_want want, struct policy_fs_decision *d)
{
	struct policy_arena scratch = {0};
	char path[POLICY_PATH_MAX + 8];
	struct answer a, below;
	const char *folded = NULL;

	if ((size_t)snprintf(path, sizeof(path), "%s%s", git, rest) >= sizeof(path) ||
	    policy_path_fold(&scratch, bytes_str(path), &folded) < 0) {
		d->verdict = POLICY_FS_DENY;
		utf8_printf(d->why, sizeof(d->why), "its name cannot be compared with git's own");
		goto done;
	}
	a = ask(fs, bytes_str(path), folded);
	if (a.access >= needed(want) || !a.entry || !path_within(a.entry->at.path, git)) {
		if (want == POLICY_WANT_FOLDER ||
		    !narrower_below(fs, bytes_str(path), false, &below) || !below.entry)
			goto done;
		a = below;
	}
	d->verdict = POLICY_FS_DENY;
	explain(fs, &a, "git reads it as the workspace's own, and ", d);
done:
	policy_arena_free(&scratch);
}

/* git status of the outer repository runs what a repository inside it configures, and
 * .git/modules and .git/worktrees hold more of them: a policy that protects the workspace's hooks
 * and configuration means theirs too. folded: the path's common form. */
static void judge_repositories(const struct policy_fs *fs, const char *folded,
			       enum policy_want want, struct policy_fs_decision *d)
{
	struct policy_arena scratch = {0};
	char git[POLICY_PATH_MAX + 8];
	const char *workspace, *at;
	bool inside = false, store = false;

	if (!fs->vars.workspace)
		return;
	if (policy_path_fold(&scratch, bytes_str(fs->vars.workspace), &workspace) < 0) {
		d->verdict = POLICY_FS_DENY;
		utf8_printf(d->why, sizeof(d->why), "the workspace's name cannot be compared");
		goto done;
	}
	snprintf(git, sizeof(git), "%s/.git", fs->vars.workspace);
	at = folded + strlen(workspace);
	if (!path_within(folded, workspace))
		at = "";
	for (bool top = true; *at == '/' && d->verdict != POLICY_FS_DENY; top = false) {
		size_t len = strcspn(at + 1, "/") + 1;
		bool is_git = len == 5 && memcmp(at, "/.git", 5) == 0;

		if (store)
			judge_as_own(fs, git, at, want, d);
		if (is_git && !top)
			judge_as_own(fs, git, at + len, want, d);
		store = store || (inside && ((len == 8 && memcmp(at, "/modules", 8) == 0) ||
					     (len == 10 && memcmp(at, "/worktrees", 10) == 0)));
		inside = inside || is_git;
		at += len;
	}
done:
	policy_arena_free(&scratch);
}

void policy_fs_decide(const struct policy_fs *fs, struct bytes path, enum policy_want want,
		      struct policy_fs_decision *ret)
{
	struct policy_fs_decision d = {.verdict = POLICY_FS_ALLOW,
				       .at.file = "",
				       .layer = POLICY_LAYER_DEFAULT};
	struct answer a;

	if (!policy_path_clean(path)) {
		d.verdict = POLICY_FS_DENY;
		utf8_printf(d.why, sizeof(d.why), "not a clean absolute path");
		*ret = d;
		return;
	}
	a = ask(fs, path, NULL);
	explain(fs, &a, "", &d);
	judge(fs, path, NULL, want, &d);
	if (lands(want) && d.verdict != POLICY_FS_DENY) {
		struct policy_arena scratch = {0};
		const char *folded;

		if (policy_path_fold(&scratch, path, &folded) == 0) {
			judge(fs, path, folded, want, &d);
			if (d.verdict != POLICY_FS_DENY)
				judge_repositories(fs, folded, want, &d);
		} else {
			d.verdict = POLICY_FS_DENY;
			utf8_printf(d.why, sizeof(d.why),
				    "its name cannot be compared with those that are protected");
		}
		policy_arena_free(&scratch);
	}
	*ret = d;
}

bool policy_fs_exec_covers(const struct policy_fs *fs, const char *rule_path, struct bytes path,
			   bool in_doubt)
{
	struct policy_arena scratch = {0};
	const char *top;
	int r = policy_path_expand(&scratch, rule_path, &fs->vars, &top);
	bool hit = r == -ENOMEM ? in_doubt
				: r == 0 && covers(top, policy_path_is_glob(rule_path), path);

	policy_arena_free(&scratch);
	return hit;
}
