/*
 * What is in force: the layers side by side, each whole. Nothing is merged into one table; deciding
 * asks each layer and takes the strictest answer, so that "AND" is what the code says. Combining
 * writes the canonical form and reads it back: what a run uses and what its journal holds cannot
 * differ.
 */
#include "policy/model.h"
#include <stdio.h>

static const char domain[] = "holdfast.policy.v1";

enum { FORM_VERSION = 1 };
enum { KEY_VERSION, KEY_FILES, KEY_STEP, KEY_AGENCY, KEY_LOWERED, KEY_LONE, KEY_LAYERS };
enum { KEY_NAME = 1, KEY_LAYER, KEY_CEILING, KEY_BODY };

/* ---- canonical form ---- */

static void write_effective(struct buffer *out, struct policy_canon *k,
			    const struct policy_effective *e)
{
	struct cbor_map_mark top = cbor_w_map_begin(out);

	cbor_w_key(out, &top, KEY_VERSION);
	cbor_w_uint(out, FORM_VERSION);
	if (k->places) {
		cbor_w_key(out, &top, KEY_FILES);
		cbor_w_array(out, k->count);
		for (size_t i = 0; i < k->count; i++)
			cbor_w_str(out, k->files[i]);
	}
	if (e->step) {
		cbor_w_key(out, &top, KEY_STEP);
		cbor_w_str(out, e->step);
	}
	if (e->agency) {
		cbor_w_key(out, &top, KEY_AGENCY);
		cbor_w_uint(out, (uint64_t)e->agency);
	}
	if (e->lowered) {
		cbor_w_key(out, &top, KEY_LOWERED);
		cbor_w_uint(out, (uint64_t)e->lowered);
	}
	if (e->lone) {
		cbor_w_key(out, &top, KEY_LONE);
		cbor_w_bool(out, true);
	}
	cbor_w_key(out, &top, KEY_LAYERS);
	cbor_w_array(out, e->count);
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_stratum *s = &e->layers[i];
		struct cbor_map_mark m = cbor_w_map_begin(out);

		if (s->item.name && k->places) {
			cbor_w_key(out, &m, KEY_NAME);
			cbor_w_str(out, s->item.name);
		}
		cbor_w_key(out, &m, KEY_LAYER);
		cbor_w_uint(out, (uint64_t)s->layer);
		if (s->ceiling) {
			cbor_w_key(out, &m, KEY_CEILING);
			cbor_w_bool(out, true);
		}
		cbor_w_key(out, &m, KEY_BODY);
		policy_canon_write(out, k, &policy_keys_file, s->body);
		cbor_w_map_end(out, &m);
	}
	cbor_w_map_end(out, &top);
}

static int encode(const struct policy_effective *e, bool places, struct buffer *out)
{
	struct policy_arena scratch = {0};
	struct policy_canon k = {.places = places};

	for (size_t i = 0; places && i < e->count; i++)
		policy_canon_files(&scratch, &k, e->layers[i].body);
	bool nomem = scratch.failed;
	if (!nomem)
		write_effective(out, &k, e);
	policy_arena_free(&scratch);
	return nomem ? -ENOMEM : out->failed;
}

int policy_effective_encode(const struct policy_effective *e, struct buffer *out)
{
	return encode(e, true, out);
}

int policy_effective_digest(const struct policy_effective *e, struct digest *ret)
{
	AUTO_BUFFER b = {0};
	int err = encode(e, false, &b);

	if (err < 0)
		return err;
	digest_domain(domain, buffer_bytes(&b), ret);
	return 0;
}

static const char *read_str(struct cbor_reader *r, struct policy_arena *a)
{
	struct bytes text = cbor_r_text(r);
	const char *s;

	if (r->error || (text.len && memchr(text.data, '\0', text.len))) {
		cbor_r_fail(r, -EBADMSG);
		return NULL;
	}
	s = policy_arena_text(a, text);
	if (!s)
		cbor_r_fail(r, -ENOMEM);
	return s;
}

static void read_layer(struct cbor_reader *r, struct policy_parser *c, const char *const *files,
		       size_t file_count, struct policy_stratum *s)
{
	struct cbor_map_iter it;
	uint64_t key, v;

	(void)cbor_r_map(r, &it);
	while (cbor_r_key(r, &it, &key)) {
		switch (key) {
		case KEY_NAME:
			s->item.name = read_str(r, c->arena);
			break;
		case KEY_LAYER:
			v = cbor_r_uint(r);
			if (v == 0 || v > POLICY_LAYER_DEFAULT + 1)
				cbor_r_fail(r, -EBADMSG);
			else
				s->layer = (int)v;
			break;
		case KEY_CEILING:
			s->ceiling = cbor_r_bool(r);
			break;
		case KEY_BODY:
			s->body = policy_canon_read(r, c, files, file_count);
			break;
		default:
			cbor_r_fail(r, -EBADMSG);
		}
	}
	if (!s->layer || !s->body)
		cbor_r_fail(r, -EBADMSG);
	else
		s->item.at = s->body->item.at;
}

static void read_layers(struct cbor_reader *r, struct policy_parser *c, const char *const *files,
			size_t file_count, struct policy_effective *e)
{
	size_t n = cbor_r_array(r);

	if (n > POLICY_LAYERS_MAX)
		cbor_r_fail(r, -E2BIG);
	if (r->error)
		return;
	e->layers = policy_arena_alloc(c->arena, (n + 1) * sizeof(*e->layers));
	if (!e->layers) {
		cbor_r_fail(r, -ENOMEM);
		return;
	}
	for (; e->count < n && !r->error; e->count++)
		read_layer(r, c, files, file_count, &e->layers[e->count]);
}

static const char **read_files(struct cbor_reader *r, struct policy_arena *a, size_t *ret_count)
{
	size_t n = cbor_r_array(r);
	const char **files = NULL;

	for (*ret_count = 0; *ret_count < n && !r->error; (*ret_count)++) {
		const char **v = policy_arena_push(a, files, *ret_count, sizeof(*v));

		if (!v) {
			cbor_r_fail(r, -ENOMEM);
			return NULL;
		}
		v[*ret_count] = read_str(r, a);
		files = v;
	}
	return files;
}

static void read_effective(struct cbor_reader *r, struct policy_parser *c,
			   struct policy_effective *e)
{
	static const char *const nowhere[] = {""};
	const char *const *files = nowhere;
	size_t file_count = 1;
	struct cbor_map_iter it;
	bool version = false;
	uint64_t key, v;

	(void)cbor_r_map(r, &it);
	while (cbor_r_key(r, &it, &key)) {
		switch (key) {
		case KEY_VERSION:
			version = cbor_r_uint(r) == FORM_VERSION;
			break;
		case KEY_FILES:
			files = read_files(r, c->arena, &file_count);
			if (!file_count)
				files = nowhere;
			break;
		case KEY_STEP:
			e->step = read_str(r, c->arena);
			break;
		case KEY_AGENCY:
		case KEY_LOWERED:
			v = cbor_r_uint(r);
			if (v == 0 || v > POLICY_AUTONOMOUS)
				cbor_r_fail(r, -EBADMSG);
			else
				*(key == KEY_AGENCY ? &e->agency : &e->lowered) = (int)v;
			break;
		case KEY_LONE:
			e->lone = cbor_r_bool(r);
			break;
		case KEY_LAYERS:
			read_layers(r, c, files, file_count, e);
			break;
		default:
			cbor_r_fail(r, -EBADMSG);
		}
	}
	if (!version)
		cbor_r_fail(r, -EBADMSG);
}

int policy_effective_decode(struct bytes canonical, struct policy_effective **ret,
			    struct error *err)
{
	struct policy_effective *e = calloc(1, sizeof(*e));
	struct cbor_reader r = cbor_reader(canonical);
	struct policy_findings findings = {0};
	struct policy_parser c = {.findings = &findings, .file = ""};
	AUTO_BUFFER again = {0};
	int code;

	if (!e)
		return error_nomem(err);
	c.arena = &e->arena;
	read_effective(&r, &c, e);
	code = cbor_r_end(&r);
	if (code == 0 && findings.errors)
		code = -EBADMSG;
	if (e->arena.failed) /* what seemed malformed was not kept */
		code = -ENOMEM;
	/* One form only: what is not written back to the same bytes was not written by this
	 * program. */
	if (code == 0)
		code = encode(e, true, &again);
	if (code == 0 && !bytes_equal(buffer_bytes(&again), canonical))
		code = -EBADMSG;
	if (code < 0) {
		policy_effective_free(e);
		return error_set(err, code, "the journaled policy cannot be read: %s",
				 code == -ENOMEM  ? "out of memory"
				 : code == -E2BIG ? "it is too large"
						  : "not its canonical form");
	}
	*ret = e;
	return 0;
}

void policy_effective_free(struct policy_effective *e)
{
	if (!e)
		return;
	policy_arena_free(&e->arena);
	free(e);
}

const struct policy_findings *policy_effective_notes(const struct policy_effective *e)
{
	return &e->notes;
}

/* ---- what of a file counts in its layer ---- */

bool policy_stratum_grants(const struct policy_stratum *s)
{
	return !s->ceiling && s->layer - 1 != POLICY_LAYER_PROJECT_UNTRUSTED;
}

bool policy_effective_any_grant(const struct policy_effective *e)
{
	for (size_t i = 0; i < e->count; i++)
		if (policy_stratum_grants(&e->layers[i]))
			return true;
	return e->lone;
}

static bool is_ceiling(enum policy_layer layer, const struct policy_body *b)
{
	if (layer == POLICY_LAYER_PROJECT_UNTRUSTED || b->kind == POLICY_KIND_CEILING)
		return true;
	return b->kind == POLICY_KIND_UNSET &&
	       (layer == POLICY_LAYER_ORG || layer == POLICY_LAYER_USER);
}

/* The items of a list for which keep says yes. */
static void filter(struct policy_arena *a, struct policy_list *list, size_t size,
		   bool (*keep)(const void *item))
{
	struct policy_list kept = {.set = list->set};
	char *v = policy_arena_alloc(a, (list->n + 1) * size);

	if (!v)
		return;
	for (size_t i = 0; i < list->n; i++) {
		const char *item = (const char *)list->v + i * size;

		if (keep(item))
			memcpy(v + kept.n++ * size, item, size);
	}
	kept.v = v;
	*list = kept;
}

static bool exec_denies(const void *item)
{
	return ((const struct policy_exec_rule *)item)->verdict - 1 == POLICY_DENY;
}

static bool rule_denies(const void *item)
{
	return ((const struct policy_gated *)item)->verdict - 1 == POLICY_DENY;
}

static bool counts_in_project(const void *item)
{
	const struct policy_net *n = item;

	return rule_denies(item) ||
	       (!n->address.set && !n->ca && !(n->http && n->http->tls == POLICY_TLS_PASSTHROUGH));
}

static void keep_denies(struct policy_arena *a, struct policy_body *b)
{
	struct policy_body kept = {
		.item = b->item,
		.version = b->version,
		.title = b->title,
		.kind = b->kind,
		.agency = b->agency,
		.fs = b->fs,
		.exec = b->exec,
		.net = b->net,
		.tools = b->tools,
	};

	filter(a, &kept.exec, sizeof(struct policy_exec_rule), exec_denies);
	filter(a, &kept.net, sizeof(struct policy_net), rule_denies);
	filter(a, &kept.tools, sizeof(struct policy_tool), rule_denies);
	*b = kept;
}

static void note(struct policy_parser *c, struct policy_place at, const char *what)
{
	policy_find(c, at, 607, POLICY_WARNING,
		    "%s does not count in a project's file; give it to the user's policy or "
		    "with --policy",
		    what);
}

static void drop_for_project(struct policy_parser *c, struct policy_body *b)
{
	const struct policy_net *net = b->net.v;
	const struct policy_secret *secrets = b->secrets.v;
	const struct policy_standing *standing = b->standing.v;

	if (b->secrets.n)
		note(c, secrets[0].item.at, "'secrets'");
	if (b->standing.n)
		note(c, standing[0].item.at, "'standing'");
	if (b->notify)
		note(c, b->notify->item.at, "'notify'");
	for (size_t i = 0; i < b->net.n; i++)
		if (!counts_in_project(&net[i]))
			note(c, net[i].rule.item.at,
			     "a rule with 'address', 'ca' or 'passthrough'");
	filter(c->arena, &b->net, sizeof(*net), counts_in_project);
	b->secrets = (struct policy_list){0};
	b->standing = (struct policy_list){0};
	b->notify = NULL;
}

static void add_layer(struct policy_effective *e, struct policy_parser *c, enum policy_layer layer,
		      const struct policy_body *from)
{
	struct policy_body *b = policy_arena_alloc(c->arena, sizeof(*b));

	if (!b)
		return;
	*b = *from;
	b->extends = (struct policy_strs){0};
	b->tests = (struct policy_list){0};
	if (layer == POLICY_LAYER_PROJECT_UNTRUSTED)
		keep_denies(c->arena, b);
	else if (layer == POLICY_LAYER_PROJECT)
		drop_for_project(c, b);
	e->layers[e->count++] = (struct policy_stratum){
		.item = {.at = from->item.at, .name = from->title},
		.layer = (int)layer + 1,
		.ceiling = is_ceiling(layer, from),
		.body = b,
	};
}

/* The form that is kept: through the bytes, so that nothing of the inputs is held. */
static int settle(const struct policy_effective *draft, struct policy_effective **ret,
		  struct error *err)
{
	struct policy_effective *e = NULL;
	AUTO_BUFFER b = {0};
	int code = encode(draft, true, &b);

	if (code < 0)
		return error_set(err, code, "the policy cannot be put in canonical form: %s",
				 code == -ENOMEM ? "out of memory" : "it is too large");
	code = policy_effective_decode(buffer_bytes(&b), &e, err);
	if (code < 0)
		return code;
	for (size_t i = 0; i < draft->notes.count; i++) {
		const struct policy_finding *f = &draft->notes.items[i];
		struct policy_parser c = {.arena = &e->arena, .findings = &e->notes};
		struct policy_place at = f->at;

		at.file = policy_arena_text(&e->arena, bytes_str(at.file));
		if (at.file)
			policy_find(&c, at, f->code, f->severity, "%s", f->msg);
	}
	if (e->arena.failed) {
		policy_effective_free(e);
		return error_nomem(err);
	}
	*ret = e;
	return 0;
}

static int combine(const struct policy_combine *in, struct policy_effective *draft,
		   struct policy_parser *c, struct policy_effective **ret, struct error *err)
{
	AUTO(policy_free) struct policy *fallback = NULL;

	for (enum policy_layer l = POLICY_LAYER_ORG; l <= POLICY_LAYER_DEFAULT; l++)
		for (size_t i = 0; i < in->count; i++)
			if (in->inputs[i].layer == l)
				add_layer(draft, c, l, &in->inputs[i].policy->body);
	if (in->fallback && !policy_effective_any_grant(draft)) {
		int code = policy_builtin(in->fallback, &fallback);

		if (code < 0)
			return error_set(err, code == -ENOENT ? -EINVAL : code,
					 "no built-in policy is called '%s'", in->fallback);
		add_layer(draft, c, POLICY_LAYER_DEFAULT, &fallback->body);
	}
	return c->arena->failed ? error_nomem(err) : settle(draft, ret, err);
}

int policy_combine(const struct policy_combine *in, struct policy_effective **ret,
		   struct error *err)
{
	struct policy_stratum layers[POLICY_LAYERS_MAX + 1];
	struct policy_effective draft = {
		.layers = layers,
		.agency = (int)in->agency,
		.lowered = (int)in->plan_agency,
		.lone = in->lone_ceiling,
	};
	struct policy_parser c = {.arena = &draft.arena, .findings = &draft.notes, .file = ""};
	int code;

	if (in->count >= POLICY_LAYERS_MAX)
		return error_set_exit(err, -E2BIG, EXIT_STATUS_USAGE,
				      "more than %d policy files are in force; join some",
				      POLICY_LAYERS_MAX - 1);
	for (size_t i = 0; i < in->count; i++) {
		code = policy_check(in->inputs[i].policy, err);
		if (code < 0)
			return code;
	}
	code = combine(in, &draft, &c, ret, err);
	policy_arena_free(&draft.arena);
	return code;
}

/* ---- one step ---- */

bool policy_step_applies(const struct policy_effective *e, const struct policy_step *step)
{
	return e->step && policy_glob(step->item.name, bytes_str(e->step), false);
}

int policy_effective_step(const struct policy_effective *run, const char *name,
			  enum policy_agency agency, struct policy_effective **ret,
			  struct error *err)
{
	struct policy_stratum layers[POLICY_LAYERS_MAX];
	struct policy_effective draft = *run;
	struct policy_arena scratch = {0};
	struct policy_settings s;
	int code;

	policy_settings(run, &s);
	if (run->step)
		return error_set(err, -EINVAL, "step '%s' is already that of '%s'", name,
				 run->step);
	if (agency > s.agency)
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "step '%s' says agency '%s', wider than the run's '%s'; a "
				      "step only narrows",
				      name, policy_agency_name(agency),
				      policy_agency_name(s.agency));
	draft.arena = (struct policy_arena){0};
	draft.notes = (struct policy_findings){0};
	draft.step = name;
	draft.layers = layers;
	if (agency)
		draft.lowered = (int)agency;
	for (size_t i = 0; i < run->count; i++) {
		struct policy_body *b = policy_arena_alloc(&scratch, sizeof(*b));
		const struct policy_list *steps = &run->layers[i].body->steps;
		struct policy_step *kept =
			policy_arena_alloc(&scratch, (steps->n + 1) * sizeof(*kept));

		if (!b || !kept)
			break;
		*b = *run->layers[i].body;
		b->steps = (struct policy_list){.set = steps->set, .v = kept};
		for (size_t j = 0; j < steps->n; j++)
			if (policy_step_applies(&draft, (const struct policy_step *)steps->v + j))
				kept[b->steps.n++] = ((const struct policy_step *)steps->v)[j];
		layers[i] = run->layers[i];
		layers[i].body = b;
	}
	code = scratch.failed ? error_nomem(err) : settle(&draft, ret, err);
	policy_arena_free(&scratch);
	return code;
}

int policy_effective_dial(const struct policy_effective *run, enum policy_agency level,
			  struct policy_effective **ret, struct error *err)
{
	struct policy_effective draft = *run;
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	struct policy_settings s;
	int code;

	if (run->step || level == POLICY_AGENCY_UNSET)
		return error_set(err, -EINVAL, "the dial is the whole run's, at one of its levels");
	draft.arena = (struct policy_arena){0};
	draft.notes = (struct policy_findings){0};
	draft.agency = (int)level;
	draft.lowered = POLICY_AGENCY_UNSET;
	code = settle(&draft, &e, err);
	if (code < 0)
		return code;
	policy_settings(e, &s);
	if (s.agency < level) {
		if (s.agency_at.file && s.agency_at.line > 0)
			error_where(err, "%s:%d:%d", s.agency_at.file, s.agency_at.line,
				    s.agency_at.column);
		return error_set_exit(err, -EPERM, EXIT_STATUS_DENIED,
				      "agency %s: a policy of this run allows at most %s; change "
				      "that policy and start a new run",
				      policy_agency_name(level), policy_agency_name(s.agency));
	}
	*ret = take_ptr(e);
	return 0;
}

bool policy_asks_exec(const struct policy_effective *e)
{
	for (size_t i = 0; i < e->count; i++) {
		const struct policy_list *exec = &e->layers[i].body->exec;

		for (size_t j = 0; j < exec->n; j++)
			if (((const struct policy_exec_rule *)exec->v)[j].verdict == POLICY_ASK)
				return true;
	}
	return false;
}
