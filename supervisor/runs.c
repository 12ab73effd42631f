#include "supervisor/runs.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cbor.h"
#include "supervisor/pins.h"
#include "supervisor/workspace.h"

enum { BLOB_PLAN_MAX = 64 * 1024 * 1024, SETTINGS_ENV_MAX = 8192, SETTINGS_NOTES_MAX = 64 };

struct runs {
	struct runs_context *first;
};

int runs_new(struct runs **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

static void context_free(struct runs_context *c)
{
	plan_free(c->plan);
	free(c->intact);
	policy_effective_free(c->policy);
	for (size_t i = 0; i < c->turned_count; i++)
		policy_effective_free(c->turned[i]);
	free(c->turned);
	runs_settings_free(&c->settings);
	close_fd(&c->workspace_fd);
	close_fd(&c->pin_fd);
	free(c);
}

void runs_free(struct runs *r)
{
	if (!r)
		return;
	while (r->first) {
		struct runs_context *c = r->first;

		r->first = c->next;
		context_free(c);
	}
	free(r);
}

bool runs_over(const struct journal_run *run)
{
	return !run ||
	       (journal_run_final(run->state) && run->landing != JOURNAL_LANDING_S_LANDING &&
		run->landing != JOURNAL_LANDING_S_UNDOING);
}

void runs_collect(struct daemon *d)
{
	struct runs_context **at = &d->runs->first;

	while (*at) {
		struct runs_context *c = *at;

		if (runs_over(journal_state_run(d->rows, &c->id))) {
			*at = c->next;
			context_free(c);
		} else {
			at = &c->next;
		}
	}
}

/* ---- settings ---- */

static size_t count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

int runs_settings_encode(const struct runs_settings *s, struct buffer *out)
{
	struct cbor_map_mark m = cbor_w_map_begin(out);

	cbor_w_key(out, &m, 1);
	cbor_w_array(out, count(s->env));
	for (char **e = s->env; e && *e; e++)
		cbor_w_bytes(out, bytes_str(*e));
	if (s->home) {
		cbor_w_key(out, &m, 2);
		cbor_w_bytes(out, bytes_str(s->home));
	}
	if (s->tty) {
		cbor_w_key(out, &m, 3);
		cbor_w_array(out, 2);
		cbor_w_uint(out, s->rows);
		cbor_w_uint(out, s->cols);
	}
	cbor_w_key(out, &m, 4);
	cbor_w_array(out, count(s->notes));
	for (char **n = s->notes; n && *n; n++)
		cbor_w_bytes(out, bytes_str(*n));
	if (s->signers) {
		cbor_w_key(out, &m, 5);
		cbor_w_bytes(out, bytes_str(s->signers));
	}
	if (s->learn) {
		cbor_w_key(out, &m, 6);
		cbor_w_bool(out, true);
	}
	cbor_w_map_end(out, &m);
	return out->failed;
}

static char **read_list(struct cbor_reader *r, size_t max)
{
	size_t n = cbor_r_array(r);
	char **list;

	if (n > max) {
		cbor_r_fail(r, -E2BIG);
		n = 0;
	}
	list = calloc(n + 1, sizeof(*list));
	for (size_t i = 0; list && i < n; i++) {
		list[i] = bytes_dup_str(cbor_r_bytes(r));
		if (!list[i])
			cbor_r_fail(r, -ENOMEM);
	}
	if (!list)
		cbor_r_fail(r, -ENOMEM);
	return list;
}

static int runs_settings_decode(struct bytes b, struct runs_settings *ret)
{
	struct cbor_reader r = cbor_reader(b);
	struct runs_settings s = {0};
	struct cbor_map_iter m;
	uint64_t key;
	int e;

	cbor_r_map(&r, &m);
	while (cbor_r_key(&r, &m, &key)) {
		switch (key) {
		case 1:
			s.env = read_list(&r, SETTINGS_ENV_MAX);
			break;
		case 2:
			s.home = bytes_dup_str(cbor_r_bytes(&r));
			break;
		case 3:
			if (cbor_r_array(&r) != 2)
				cbor_r_fail(&r, -EBADMSG);
			s.tty = true;
			s.rows = (uint16_t)cbor_r_uint(&r);
			s.cols = (uint16_t)cbor_r_uint(&r);
			break;
		case 4:
			s.notes = read_list(&r, SETTINGS_NOTES_MAX);
			break;
		case 5:
			s.signers = bytes_dup_str(cbor_r_bytes(&r));
			break;
		case 6:
			s.learn = cbor_r_bool(&r);
			break;
		default:
			cbor_r_skip(&r);
		}
	}
	e = cbor_r_end(&r);
	if (e == 0 && (!s.env || !s.notes))
		e = -EBADMSG;
	if (e < 0) {
		runs_settings_free(&s);
		return e;
	}
	*ret = s;
	return 0;
}

static void free_list(char **list)
{
	for (char **at = list; at && *at; at++)
		free(*at);
	free(list);
}

void runs_settings_free(struct runs_settings *s)
{
	free_list(s->env);
	free_list(s->notes);
	free(s->home);
	free(s->signers);
	*s = (struct runs_settings){0};
}

/* ---- contexts ---- */

/* The blob is as it was at the start; the dial may have been turned since. */
static int follow_dial(const struct journal_run *run, struct policy_effective **policy,
		       struct error *err)
{
	enum policy_agency level = (enum policy_agency)(run->agency + POLICY_OBSERVE);
	struct policy_effective *turned;
	struct policy_settings s;
	int r;

	policy_settings(*policy, &s);
	if (s.agency == level)
		return 0;
	r = policy_effective_dial(*policy, level, &turned, err);
	if (r < 0)
		return r;
	policy_effective_free(*policy);
	*policy = turned;
	return 0;
}

static int load(struct daemon *d, const struct journal_run *run, struct runs_context *c,
		struct error *err)
{
	AUTO_BUFFER plan = {0};
	AUTO_BUFFER policy = {0};
	AUTO_BUFFER settings = {0};
	int r = journal_blob_get(d->journal, &run->plan, BLOB_PLAN_MAX, &plan, err);

	if (r == 0)
		r = plan_decode(buffer_bytes(&plan), &c->plan);
	if (r == 0)
		r = journal_blob_get(d->journal, &run->policy, BLOB_PLAN_MAX, &policy, err);
	if (r == 0)
		r = policy_effective_decode(buffer_bytes(&policy), &c->policy, err);
	if (r == 0)
		r = follow_dial(run, &c->policy, err);
	if (r == 0)
		r = journal_blob_get(d->journal, &run->environ, BLOB_PLAN_MAX, &settings, err);
	if (r == 0)
		r = runs_settings_decode(buffer_bytes(&settings), &c->settings);
	if (r < 0)
		return error_set(
			err, r, "cannot read what the run was made from: %s; run 'holdfast verify'",
			strerror(-r));
	return 0;
}

int runs_get(struct daemon *d, const struct journal_id *id, struct runs_context **ret,
	     struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, id);
	struct runs_context *c;
	int r;

	for (c = d->runs->first; c; c = c->next) {
		if (journal_id_equal(&c->id, id)) {
			*ret = c;
			return 0;
		}
	}
	if (!run)
		return error_set_exit(err, -ENOENT, EXIT_STATUS_USAGE, "no such run");
	c = calloc(1, sizeof(*c));
	if (!c)
		return error_nomem(err);
	c->id = *id;
	c->workspace_fd = -1;
	c->pin_fd = -1;
	r = load(d, run, c, err);
	if (r < 0) {
		context_free(c);
		return r;
	}
	c->next = d->runs->first;
	d->runs->first = c;
	*ret = c;
	return 0;
}

int runs_context_digest(const struct policy_effective *policy, unsigned agency, struct digest *ret)
{
	AUTO_BUFFER b = {0};
	struct digest digest;
	int r = policy_effective_digest(policy, &digest);

	if (r < 0)
		return r;
	cbor_w_array(&b, 2);
	cbor_w_bytes(&b, bytes_of(digest.b, sizeof(digest.b)));
	cbor_w_uint(&b, agency);
	digest_domain("holdfast.context", buffer_bytes(&b), ret);
	return b.failed;
}

int runs_dial(struct daemon *d, const struct journal_id *id, uint32_t uid, enum policy_agency level,
	      struct error *err)
{
	unsigned agency = (unsigned)level - POLICY_OBSERVE;
	AUTO(policy_effective_free) struct policy_effective *turned = NULL;
	struct policy_effective **grown;
	struct runs_context *c;
	struct digest context;
	int r = runs_get(d, id, &c, err);

	if (r < 0)
		return r;
	grown = reallocarray(c->turned, c->turned_count + 1, sizeof(*grown));
	if (!grown)
		return error_nomem(err);
	c->turned = grown;
	r = policy_effective_dial(c->policy, level, &turned, err);
	if (r == 0)
		r = runs_context_digest(turned, agency, &context);
	if (r == 0)
		r = engine_run_agency(d->engine, daemon_now(), id, uid, agency, &context, err);
	if (r < 0)
		return r;
	c->turned[c->turned_count++] = c->policy;
	c->policy = take_ptr(turned);
	return 0;
}

static int take_workspace(struct daemon *d, struct runs_context *c, int fd, struct error *err)
{
	struct workspace ws;
	int r = workspace_open(fd, geteuid(), &ws, err);

	(void)d;
	if (r < 0) {
		close(fd);
		return r;
	}
	close_fd(&c->workspace_fd);
	c->workspace_fd = fd;
	c->gid = ws.gid;
	return 0;
}

int runs_workspace(struct daemon *d, struct runs_context *c, struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, &c->id);
	int fd;

	if (c->workspace_fd >= 0)
		return 0;
	if (!run)
		return error_set(err, -ENOENT, "no such run");
	fd = workspace_reopen(run->workspace, run->ws_dev, run->ws_ino, err);
	if (fd < 0)
		return fd;
	workspace_sweep(fd);
	return take_workspace(d, c, fd, err);
}

int runs_landing_place(struct daemon *d, struct runs_context *c, struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, &c->id);
	int r = runs_workspace(d, c, err);

	return r < 0 ? r : workspace_stands(c->workspace_fd, run->workspace, err);
}

int runs_base(struct daemon *d, struct runs_context *c, int *ret_fd, struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, &c->id);
	int r = runs_workspace(d, c, err);

	if (r < 0)
		return r;
	if (run->base == JOURNAL_BASE_PINNED && c->pin_fd < 0) {
		int fd = pins_open(d, &c->id);

		if (fd < 0)
			return error_set_exit(err, fd, EXIT_STATUS_CONFLICT,
					      "the pinned copy of the workspace is gone: it goes "
					      "when its run is over; start a new run");
		c->pin_fd = fd;
	}
	*ret_fd = run->base == JOURNAL_BASE_PINNED ? c->pin_fd : c->workspace_fd;
	return 0;
}

int runs_give_workspace(struct daemon *d, struct runs_context *c, int fd, struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, &c->id);
	struct stat st;
	int copy;

	if (!run || fstat(fd, &st) < 0)
		return error_set(err, -ENOENT, "no such run");
	if (st.st_dev != run->ws_dev || st.st_ino != run->ws_ino)
		return error_set_exit(
			err, -ESTALE, EXIT_STATUS_CONFLICT,
			"another workspace: this run was started in %s; name that folder",
			run->workspace);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return copy < 0 ? error_set(err, -errno, "cannot keep the workspace: %s", strerror(errno))
			: take_workspace(d, c, copy, err);
}

static const struct journal_run *load_run(struct daemon *d, const struct journal_id *id,
					  struct error *err)
{
	const struct journal_run *run = journal_state_run(d->rows, id);

	if (!run && journal_load_run(d->journal, id, err) == 0)
		run = journal_state_run(d->rows, id);
	return run;
}

/* NULL: none of the newest runs goes by its plan's name, and that is it. */
static const struct journal_run *latest_of_plan(struct daemon *d, const char *name)
{
	AUTO_FREE struct journal_id *ids = calloc(RUNS_LOOK_BACK, sizeof(*ids));
	int n = ids ? journal_list_runs(d->journal, RUNS_LOOK_BACK, ids) : 0;

	for (int i = 0; i < n; i++) {
		const struct journal_run *run = load_run(d, &ids[i], NULL);
		struct runs_context *ctx;

		if (run && !run->name && runs_get(d, &run->id, &ctx, NULL) == 0 && ctx->plan &&
		    ctx->plan->name && strcmp(ctx->plan->name, name) == 0)
			return run;
	}
	return NULL;
}

int runs_find(struct daemon *d, const char *prefix_or_name, bool reading,
	      const struct journal_run **ret, struct error *err)
{
	const struct journal_run *latest = NULL;
	char text[JOURNAL_ID_TEXT_SIZE];
	struct error first = {0};
	struct journal_id id;
	int r = journal_find_run(d->journal, prefix_or_name, &id, &first);

	if (r == -ENOENT)
		latest = latest_of_plan(d, prefix_or_name);
	if (latest && reading) {
		*ret = latest;
		return 0;
	}
	if (latest)
		return error_set_exit(err, r, EXIT_STATUS_USAGE,
				      "%.128s is its plan's name, which other runs may have, too; "
				      "the latest of them is %.8s: say that",
				      prefix_or_name, journal_id_text(&latest->id, text));
	if (r < 0) {
		if (err)
			*err = first;
		return r;
	}
	*ret = load_run(d, &id, err);
	return *ret ? 0 : error_set(err, -ENOENT, "no run %s", prefix_or_name);
}

const struct journal_step *runs_step(const struct journal_run *run, const char *name_or_key)
{
	const struct journal_step *found = NULL;

	for (uint32_t i = 0; i < run->step_count; i++) {
		if (strcmp(run->steps[i]->key, name_or_key) == 0)
			return run->steps[i];
		if (strcmp(run->steps[i]->name, name_or_key) == 0)
			found = run->steps[i];
	}
	return found;
}
