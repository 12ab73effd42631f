/* Preparing a landing: looking at the workspace and planning. Applying is landing_apply.c. */
#include "supervisor/landing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/escape.h"
#include "base/io.h"
#include "supervisor/landing_look.h"

struct gather {
	int workspace_fd;
	struct landing_facts *facts;
	const struct manifest *net;
	struct error *err;
};

/* By its marker: wherever it is, and whosever. */
static int note_state(struct gather *g, struct bytes folder)
{
	AUTO_BUFFER marker = {0};
	AUTO_FD fd = -1;

	if (buffer_append(&marker, folder.data, folder.len) < 0 ||
	    buffer_append_str(&marker, folder.len > 0 ? "/v1/opened" : "v1/opened") < 0 ||
	    buffer_append_byte(&marker, 0) < 0)
		return error_nomem(g->err);
	fd = io_open_beneath(g->workspace_fd, (const char *)marker.data, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0)
		return 0;
	return landing_facts_add_state(g->facts, folder) < 0 ? error_nomem(g->err) : 0;
}

static bool known_to_run(void *arg, struct bytes path)
{
	struct gather *g = arg;

	return manifest_find(g->net, path) != NULL;
}

static int gather_stranger(void *arg, struct bytes path, const struct landing_state *s)
{
	struct gather *g = arg;

	if (landing_facts_stranger_count(g->facts) == LANDING_CONFLICTS_MAX)
		return 1;
	if (landing_facts_add_stranger(g->facts, path, s) < 0)
		return error_nomem(g->err);
	return s->type == MANIFEST_DIR ? note_state(g, path) : 0;
}

/* What lies in a folder that is to go, and that the run knows nothing of: a person is asked about
 * each of them. */
static int gather_strangers(struct gather *g, struct bytes folder)
{
	int r = landing_look_below(&(struct landing_look_walk){.workspace_fd = g->workspace_fd,
							       .arg = g,
							       .known = known_to_run,
							       .fn = gather_stranger,
							       .err = g->err},
				   folder);

	return r < 0 ? r : 0;
}

static int gather_one(void *arg, struct bytes path, bool digest, bool entries)
{
	struct gather *g = arg;
	AUTO_FREE char *name = NULL;
	AUTO_FREE char *target = NULL;
	struct landing_state s;
	int r;

	if (landing_facts_find(g->facts, path))
		return 0;
	name = bytes_dup_str(path);
	if (!name)
		return error_nomem(g->err);
	r = landing_look(g->workspace_fd, name, digest, entries, &s, &target, g->err);
	if (r < 0) {
		AUTO_FREE char *shown = escape_dup(path, ESCAPE_LINE);

		error_where(g->err, "%s", shown ? shown : "");
		return r;
	}
	if (landing_facts_add(g->facts, path, &s) < 0)
		return error_nomem(g->err);
	if (s.type == MANIFEST_DIR) {
		r = note_state(g, path);
		if (r < 0)
			return r;
	}
	return entries && s.type == MANIFEST_DIR && s.entries > 0 ? gather_strangers(g, path) : 0;
}

void landing_prepared_free(struct landing_prepared *p)
{
	landing_plan_free(p->plan);
	buffer_free(&p->redo);
	buffer_free(&p->conflicts);
	*p = (struct landing_prepared){0};
}

void landing_outcome_free(struct landing_outcome *o)
{
	buffer_free(&o->result);
	buffer_free(&o->conflicts);
	*o = (struct landing_outcome){0};
}

static int plan(const struct landing_request *r, struct landing_inputs *in,
		struct landing_plan **ret, struct error *err)
{
	AUTO(landing_plan_free) struct landing_plan *last = NULL;
	AUTO(landing_plan_free) struct landing_plan *shown = NULL;
	int n = 0;

	if (r->last.len > 0)
		n = landing_plan_decode(r->last, &last, err);
	if (n == 0 && r->shown.len > 0)
		n = landing_conflicts_decode(r->shown, &shown, err);
	if (n < 0)
		return n;
	in->last = last;
	in->shown = shown ? shown->conflicts : NULL;
	in->shown_count = shown ? shown->conflict_count : 0;
	return landing_plan_make(in, ret, err);
}

int landing_prepare(const struct landing_request *r, struct landing_prepared *ret,
		    struct error *err)
{
	AUTO(landing_facts_free) struct landing_facts *facts = landing_facts_new();
	AUTO(manifest_free) struct manifest *net = NULL;
	struct gather g = {.workspace_fd = r->workspace_fd, .facts = facts, .err = err};
	struct landing_prepared p = {0};
	struct landing_inputs in = {
		.layers = r->layers,
		.layer_count = r->layer_count,
		.fs = r->fs,
		.workspace = r->workspace,
		.own = r->own,
		.uid = r->uid,
		.gid = r->gid,
		.clock = r->clock,
		.facts = facts,
		.choices = r->choices,
		.choice_count = r->choice_count,
	};
	struct stat st;
	int n;

	if (!facts)
		return error_nomem(err);
	if (fstat(r->workspace_fd, &st) < 0)
		return error_set(err, -errno, "landing: the workspace cannot be looked at: %s",
				 strerror(errno));
	in.ws_dev = st.st_dev;
	in.ws_ino = st.st_ino;
	in.ws_mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	n = landing_net(r->layers, r->layer_count, &net, err);
	g.net = net;
	if (n == 0)
		n = note_state(&g, bytes_of("", 0));
	if (n == 0)
		n = landing_facts_want(net, gather_one, &g);
	if (n == 0)
		n = plan(r, &in, &p.plan, err);
	if (n == 0 && p.plan->conflict_count > 0)
		n = landing_conflicts_encode(p.plan->conflicts, p.plan->conflict_count, false,
					     &p.conflicts);
	else if (n == 0)
		n = landing_plan_encode(p.plan, &p.redo);
	if (n != 0) {
		landing_prepared_free(&p);
		return error_set(err, n, "landing: the plan could not be made: %s", strerror(-n));
	}
	p.nothing = p.plan->conflict_count == 0 && p.plan->action_count == 0;
	*ret = p;
	return 0;
}
