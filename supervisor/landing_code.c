/* The canonical bytes of redo plans, conflicts and results (base/holdfast.cddl), and the words for
 * what stands in them. */
#include "supervisor/landing_plan.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cbor.h"
#include "supervisor/landing_arena.h"

/* Keys are part of the format and never reused. */
enum state_key {
	STATE_TYPE = 1,
	STATE_MODE = 2,
	STATE_SIZE = 3,
	STATE_DIGEST = 4,
	STATE_TARGET = 5,
	STATE_UID = 6,
	STATE_GID = 7,
	STATE_CTIME = 8,
	STATE_INO = 9,
	STATE_UNSEEN = 10,
};
enum action_key {
	ACTION_PATH = 1,
	ACTION_BEFORE = 2,
	ACTION_AFTER = 3,
	ACTION_FROM = 4,
	ACTION_LAYER = 5
};
enum out_key { OUT_PATH = 1, OUT_WHY = 2, OUT_TYPE = 3, OUT_TEXT = 4 };
enum conflict_key {
	CONFLICT_PATH = 1,
	CONFLICT_WHY = 2,
	CONFLICT_NOW = 3,
	CONFLICT_WANT = 4,
	CONFLICT_TEXT = 5,
	CONFLICT_KEPT = 6,
};
enum top_key {
	TOP_VERSION = 1,
	TOP_UNDO = 2,
	TOP_DEV = 3,
	TOP_INO = 4,
	TOP_UID = 5,
	TOP_GID = 6,
	TOP_STARTED = 7,
	TOP_ACTIONS = 8,
	TOP_OUT = 9,
	TOP_CONFLICTS = 10,
	TOP_PLAN = 11,
	TOP_PATHS = 12,
};

/* ---- writing: a key is left out where its value is zero or empty ---- */

static void put_uint(struct buffer *b, struct cbor_map_mark *m, uint64_t key, uint64_t v)
{
	if (v == 0)
		return;
	cbor_w_key(b, m, key);
	cbor_w_uint(b, v);
}

static void put_bytes(struct buffer *b, struct cbor_map_mark *m, uint64_t key, struct bytes v)
{
	if (v.len == 0)
		return;
	cbor_w_key(b, m, key);
	cbor_w_bytes(b, v);
}

static void put_text(struct buffer *b, struct cbor_map_mark *m, uint64_t key, struct bytes v)
{
	if (v.len == 0)
		return;
	cbor_w_key(b, m, key);
	cbor_w_text(b, v);
}

static void put_int(struct buffer *b, struct cbor_map_mark *m, uint64_t key, int64_t v)
{
	if (v == 0)
		return;
	cbor_w_key(b, m, key);
	cbor_w_int(b, v);
}

static void put_true(struct buffer *b, struct cbor_map_mark *m, uint64_t key, bool v)
{
	if (!v)
		return;
	cbor_w_key(b, m, key);
	cbor_w_bool(b, true);
}

static void write_state(struct buffer *b, struct cbor_map_mark *top, uint64_t key,
			const struct landing_state *s)
{
	struct cbor_map_mark m;

	cbor_w_key(b, top, key);
	m = cbor_w_map_begin(b);
	put_uint(b, &m, STATE_TYPE, s->type);
	put_uint(b, &m, STATE_MODE, s->mode);
	put_uint(b, &m, STATE_SIZE, s->type == MANIFEST_FILE ? s->size : 0);
	if (s->type == MANIFEST_FILE && s->has_digest)
		put_bytes(b, &m, STATE_DIGEST, bytes_of(s->digest.b, sizeof(s->digest.b)));
	put_bytes(b, &m, STATE_TARGET, s->target);
	put_uint(b, &m, STATE_UID, s->uid);
	put_uint(b, &m, STATE_GID, s->gid);
	put_int(b, &m, STATE_CTIME, s->ctime_ns);
	put_uint(b, &m, STATE_INO, s->ino);
	put_true(b, &m, STATE_UNSEEN, s->unseen);
	cbor_w_map_end(b, &m);
}

static void write_outs(struct buffer *b, struct cbor_map_mark *top, const struct landing_plan *p)
{
	cbor_w_key(b, top, TOP_OUT);
	cbor_w_array(b, p->out_count);
	for (size_t i = 0; i < p->out_count; i++) {
		struct cbor_map_mark m = cbor_w_map_begin(b);

		put_bytes(b, &m, OUT_PATH, p->out[i].path);
		put_uint(b, &m, OUT_WHY, p->out[i].why);
		put_uint(b, &m, OUT_TYPE, p->out[i].type);
		put_text(b, &m, OUT_TEXT, p->out[i].text);
		cbor_w_map_end(b, &m);
	}
}

int landing_plan_encode(const struct landing_plan *p, struct buffer *out)
{
	struct cbor_map_mark top;

	if (out->max == 0)
		out->max = LANDING_BYTES_MAX;
	top = cbor_w_map_begin(out);
	put_uint(out, &top, TOP_VERSION, LANDING_VERSION);
	put_true(out, &top, TOP_UNDO, p->undo);
	put_uint(out, &top, TOP_DEV, p->ws_dev);
	put_uint(out, &top, TOP_INO, p->ws_ino);
	put_uint(out, &top, TOP_UID, p->uid);
	put_uint(out, &top, TOP_GID, p->gid);
	put_int(out, &top, TOP_STARTED, p->started_ns);
	cbor_w_key(out, &top, TOP_ACTIONS);
	cbor_w_array(out, p->action_count);
	for (size_t i = 0; i < p->action_count && !out->failed; i++) {
		const struct landing_action *a = &p->actions[i];
		struct cbor_map_mark m = cbor_w_map_begin(out);

		put_bytes(out, &m, ACTION_PATH, a->path);
		write_state(out, &m, ACTION_BEFORE, &a->before);
		write_state(out, &m, ACTION_AFTER, &a->after);
		put_uint(out, &m, ACTION_FROM, a->from);
		put_text(out, &m, ACTION_LAYER, bytes_str(a->layer));
		cbor_w_map_end(out, &m);
	}
	write_outs(out, &top, p);
	cbor_w_map_end(out, &top);
	return out->failed;
}

int landing_conflicts_encode(const struct landing_conflict *c, size_t count, bool undo,
			     struct buffer *out)
{
	struct cbor_map_mark top;

	if (out->max == 0)
		out->max = LANDING_BYTES_MAX;
	top = cbor_w_map_begin(out);
	put_uint(out, &top, TOP_VERSION, LANDING_VERSION);
	put_true(out, &top, TOP_UNDO, undo);
	cbor_w_key(out, &top, TOP_CONFLICTS);
	cbor_w_array(out, count);
	for (size_t i = 0; i < count && !out->failed; i++) {
		struct cbor_map_mark m = cbor_w_map_begin(out);

		put_bytes(out, &m, CONFLICT_PATH, c[i].path);
		put_uint(out, &m, CONFLICT_WHY, c[i].why);
		write_state(out, &m, CONFLICT_NOW, &c[i].now);
		write_state(out, &m, CONFLICT_WANT, &c[i].want);
		put_text(out, &m, CONFLICT_TEXT, c[i].text);
		if (!digest_is_zero(&c[i].kept))
			put_bytes(out, &m, CONFLICT_KEPT,
				  bytes_of(c[i].kept.b, sizeof(c[i].kept.b)));
		cbor_w_map_end(out, &m);
	}
	cbor_w_map_end(out, &top);
	return out->failed;
}

int landing_result_encode(const struct landing_plan *p, const struct digest *plan_blob,
			  struct buffer *out)
{
	struct cbor_map_mark top;

	if (out->max == 0)
		out->max = LANDING_BYTES_MAX;
	top = cbor_w_map_begin(out);
	put_uint(out, &top, TOP_VERSION, LANDING_VERSION);
	put_true(out, &top, TOP_UNDO, p->undo);
	write_outs(out, &top, p);
	cbor_w_key(out, &top, TOP_PLAN);
	cbor_w_bytes(out, bytes_of(plan_blob->b, sizeof(plan_blob->b)));
	cbor_w_key(out, &top, TOP_PATHS);
	cbor_w_array(out, p->action_count);
	for (size_t i = 0; i < p->action_count && !out->failed; i++) {
		char letter = landing_action_letter(&p->actions[i]);

		cbor_w_array(out, 2);
		cbor_w_bytes(out, p->actions[i].path);
		cbor_w_text(out, bytes_of(&letter, 1));
	}
	cbor_w_map_end(out, &top);
	return out->failed;
}

/* ---- reading ---- */

static uint64_t take_uint(struct cbor_reader *r, uint64_t max)
{
	uint64_t v = cbor_r_uint(r);

	if (v == 0 || v > max)
		cbor_r_fail(r, -EBADMSG);
	return v > max ? 0 : v;
}

static struct bytes take_bytes(struct cbor_reader *r, struct bytes b, size_t max)
{
	if (b.len == 0 || b.len > max)
		cbor_r_fail(r, -EBADMSG);
	return b;
}

static struct bytes take_path(struct cbor_reader *r)
{
	struct bytes path = cbor_r_bytes(r);

	if (manifest_check_path(path) < 0)
		cbor_r_fail(r, -EBADMSG);
	return path;
}

static void take_true(struct cbor_reader *r)
{
	if (!cbor_r_bool(r))
		cbor_r_fail(r, -EBADMSG);
}

/* Each type has what it needs and nothing that means nothing for it. */
static void check_state(struct cbor_reader *r, const struct landing_state *s, unsigned have)
{
	unsigned may = 1u << STATE_TYPE | 1u << STATE_UID | 1u << STATE_GID | 1u << STATE_CTIME |
		       1u << STATE_INO;

	if (s->type == MANIFEST_FILE)
		may |= 1u << STATE_MODE | 1u << STATE_SIZE | 1u << STATE_DIGEST;
	else if (s->type == MANIFEST_SYMLINK)
		may |= 1u << STATE_TARGET;
	else if (s->type == MANIFEST_ABSENT || s->type == MANIFEST_WHITEOUT)
		may = 1u << STATE_UNSEEN;
	else
		may |= 1u << STATE_MODE;
	if ((have & ~may) || s->type == MANIFEST_WHITEOUT ||
	    (s->type == MANIFEST_SYMLINK && s->target.len == 0))
		cbor_r_fail(r, -EBADMSG);
}

static void read_state(struct cbor_reader *r, struct landing_state *s)
{
	struct cbor_map_iter m;
	unsigned have = 0;
	uint64_t key;

	*s = (struct landing_state){.target = bytes_of("", 0)};
	cbor_r_map(r, &m);
	while (cbor_r_key(r, &m, &key)) {
		have |= key < 32 ? 1u << key : 0;
		switch (key) {
		case STATE_TYPE:
			s->type = (enum manifest_type)take_uint(r, MANIFEST_BLOCK);
			break;
		case STATE_MODE:
			s->mode = (uint32_t)take_uint(r, 07777);
			break;
		case STATE_SIZE:
			s->size = take_uint(r, INT64_MAX);
			break;
		case STATE_DIGEST:
			cbor_r_digest(r, &s->digest);
			s->has_digest = true;
			break;
		case STATE_TARGET:
			s->target = take_bytes(r, cbor_r_bytes(r), MANIFEST_TARGET_MAX);
			s->size = s->target.len;
			digest_of(s->target, &s->digest);
			s->has_digest = true;
			break;
		case STATE_UID:
			s->uid = (uint32_t)take_uint(r, UINT32_MAX);
			break;
		case STATE_GID:
			s->gid = (uint32_t)take_uint(r, UINT32_MAX);
			break;
		case STATE_CTIME:
			s->ctime_ns = cbor_r_int(r);
			if (s->ctime_ns == 0)
				cbor_r_fail(r, -EBADMSG);
			break;
		case STATE_INO:
			s->ino = take_uint(r, UINT64_MAX);
			break;
		case STATE_UNSEEN:
			take_true(r);
			s->unseen = true;
			break;
		default:
			cbor_r_fail(r, -EBADMSG);
			break;
		}
	}
	check_state(r, s, have);
}

/* Bits of keys without which an entry means nothing. */
enum {
	ACTION_NEEDED = 1 << ACTION_PATH | 1 << ACTION_BEFORE | 1 << ACTION_AFTER,
	OUT_NEEDED = 1 << OUT_PATH | 1 << OUT_WHY,
	CONFLICT_NEEDED =
		1 << CONFLICT_PATH | 1 << CONFLICT_WHY | 1 << CONFLICT_NOW | 1 << CONFLICT_WANT,
};

static void read_action(struct cbor_reader *r, struct landing_action *a)
{
	struct bytes layer = bytes_of("", 0);
	struct cbor_map_iter m;
	unsigned have = 0;
	uint64_t key;

	*a = (struct landing_action){0};
	cbor_r_map(r, &m);
	while (cbor_r_key(r, &m, &key)) {
		have |= key < 32 ? 1u << key : 0;
		switch (key) {
		case ACTION_PATH:
			a->path = take_path(r);
			break;
		case ACTION_BEFORE:
			read_state(r, &a->before);
			break;
		case ACTION_AFTER:
			read_state(r, &a->after);
			break;
		case ACTION_FROM:
			a->from = (enum landing_from)take_uint(r, LANDING_FROM_BLOB);
			break;
		case ACTION_LAYER:
			layer = take_bytes(r, cbor_r_text(r), sizeof(a->layer) - 1);
			break;
		default:
			cbor_r_fail(r, -EBADMSG);
			break;
		}
	}
	if (layer.len > 0 && layer.len < sizeof(a->layer))
		memcpy(a->layer, layer.data, layer.len);
	/* A layer's name becomes a path component. */
	if ((have & ACTION_NEEDED) != ACTION_NEEDED ||
	    (a->from == LANDING_FROM_LAYER) != (layer.len > 0) ||
	    (a->after.type == MANIFEST_FILE) != (a->from != LANDING_FROM_NONE) ||
	    (a->after.type == MANIFEST_FILE && !a->after.has_digest) ||
	    a->after.type > MANIFEST_SYMLINK || memchr(a->layer, '/', layer.len) ||
	    memchr(a->layer, '.', layer.len) || strlen(a->layer) != layer.len)
		cbor_r_fail(r, -EBADMSG);
}

static void read_out(struct cbor_reader *r, struct landing_out *o)
{
	struct cbor_map_iter m;
	unsigned have = 0;
	uint64_t key;

	*o = (struct landing_out){.text = bytes_of("", 0)};
	cbor_r_map(r, &m);
	while (cbor_r_key(r, &m, &key)) {
		have |= key < 32 ? 1u << key : 0;
		switch (key) {
		case OUT_PATH:
			o->path = take_path(r);
			break;
		case OUT_WHY:
			o->why = (enum landing_out_why)take_uint(r, LANDING_OUT_EMPTY);
			break;
		case OUT_TYPE:
			o->type = (enum manifest_type)take_uint(r, MANIFEST_BLOCK);
			break;
		case OUT_TEXT:
			o->text = take_bytes(r, cbor_r_text(r), SIZE_MAX);
			break;
		default:
			cbor_r_fail(r, -EBADMSG);
			break;
		}
	}
	if ((have & OUT_NEEDED) != OUT_NEEDED)
		cbor_r_fail(r, -EBADMSG);
}

static void read_conflict(struct cbor_reader *r, struct landing_conflict *c)
{
	struct cbor_map_iter m;
	unsigned have = 0;
	uint64_t key;

	*c = (struct landing_conflict){.text = bytes_of("", 0)};
	cbor_r_map(r, &m);
	while (cbor_r_key(r, &m, &key)) {
		have |= key < 32 ? 1u << key : 0;
		switch (key) {
		case CONFLICT_PATH:
			c->path = take_path(r);
			break;
		case CONFLICT_WHY:
			c->why = (enum landing_conflict_why)take_uint(r, LANDING_CONFLICT_LAST);
			break;
		case CONFLICT_NOW:
			read_state(r, &c->now);
			break;
		case CONFLICT_WANT:
			read_state(r, &c->want);
			break;
		case CONFLICT_TEXT:
			c->text = take_bytes(r, cbor_r_text(r), SIZE_MAX);
			break;
		case CONFLICT_KEPT:
			cbor_r_digest(r, &c->kept);
			if (digest_is_zero(&c->kept))
				cbor_r_fail(r, -EBADMSG);
			break;
		default:
			cbor_r_fail(r, -EBADMSG);
			break;
		}
	}
	if ((have & CONFLICT_NEEDED) != CONFLICT_NEEDED)
		cbor_r_fail(r, -EBADMSG);
}

static void in_order(struct cbor_reader *r, const struct bytes *last, struct bytes path,
		     bool strictly)
{
	int c = last ? bytes_compare(*last, path) : -1;

	if (c > 0 || (c == 0 && strictly))
		cbor_r_fail(r, -EBADMSG);
}

static int keep3(struct landing_arena *a, struct bytes *one, struct bytes *two, struct bytes *three)
{
	int r = landing_arena_keep(a, *one, one);

	if (r == 0)
		r = landing_arena_keep(a, *two, two);
	return r == 0 ? landing_arena_keep(a, *three, three) : r;
}

static void read_actions(struct cbor_reader *r, struct landing_plan *p)
{
	size_t n = cbor_r_array(r);

	p->actions = calloc(n + 1, sizeof(*p->actions));
	if (!p->actions)
		cbor_r_fail(r, -ENOMEM);
	for (size_t i = 0; i < n && !r->error; i++) {
		struct landing_action *a = &p->actions[i];

		read_action(r, a);
		in_order(r, i ? &a[-1].path : NULL, a->path, true);
		if (!r->error && keep3(p->arena, &a->path, &a->before.target, &a->after.target) < 0)
			cbor_r_fail(r, -ENOMEM);
		p->action_count++;
	}
}

static void read_outs(struct cbor_reader *r, struct landing_plan *p)
{
	size_t n = cbor_r_array(r);
	struct bytes none = bytes_of("", 0);

	p->out = calloc(n + 1, sizeof(*p->out));
	if (!p->out)
		cbor_r_fail(r, -ENOMEM);
	for (size_t i = 0; i < n && !r->error; i++) {
		struct landing_out *o = &p->out[i];

		read_out(r, o);
		in_order(r, i ? &o[-1].path : NULL, o->path, false);
		if (!r->error && keep3(p->arena, &o->path, &o->text, &none) < 0)
			cbor_r_fail(r, -ENOMEM);
		p->out_count++;
	}
}

static void read_conflicts(struct cbor_reader *r, struct landing_plan *p)
{
	size_t n = cbor_r_array(r);

	p->conflicts = calloc(n + 1, sizeof(*p->conflicts));
	if (!p->conflicts)
		cbor_r_fail(r, -ENOMEM);
	for (size_t i = 0; i < n && !r->error; i++) {
		struct landing_conflict *c = &p->conflicts[i];

		read_conflict(r, c);
		in_order(r, i ? &c[-1].path : NULL, c->path, true);
		if (!r->error && (keep3(p->arena, &c->path, &c->now.target, &c->want.target) < 0 ||
				  landing_arena_keep(p->arena, c->text, &c->text) < 0))
			cbor_r_fail(r, -ENOMEM);
		p->conflict_count++;
	}
}

static int decode(struct bytes b, unsigned allowed, unsigned needed, struct landing_plan **ret,
		  struct error *err)
{
	struct cbor_reader r = cbor_reader(b);
	AUTO(landing_plan_free) struct landing_plan *p = calloc(1, sizeof(*p));
	struct cbor_map_iter m;
	unsigned have = 0;
	uint64_t key;

	if (!p || !(p->arena = landing_arena_new()))
		return error_nomem(err);
	cbor_r_map(&r, &m);
	while (cbor_r_key(&r, &m, &key)) {
		if (key >= 32 || !(allowed & 1u << key)) {
			cbor_r_fail(&r, -EBADMSG);
			break;
		}
		have |= 1u << key;
		switch ((enum top_key)key) {
		case TOP_VERSION:
			take_uint(&r, LANDING_VERSION);
			break;
		case TOP_UNDO:
			take_true(&r);
			p->undo = true;
			break;
		case TOP_DEV:
			p->ws_dev = take_uint(&r, UINT64_MAX);
			break;
		case TOP_INO:
			p->ws_ino = take_uint(&r, UINT64_MAX);
			break;
		case TOP_UID:
			p->uid = (uint32_t)take_uint(&r, UINT32_MAX);
			break;
		case TOP_GID:
			p->gid = (uint32_t)take_uint(&r, UINT32_MAX);
			break;
		case TOP_STARTED:
			p->started_ns = cbor_r_int(&r);
			if (p->started_ns == 0)
				cbor_r_fail(&r, -EBADMSG);
			break;
		case TOP_ACTIONS:
			read_actions(&r, p);
			break;
		case TOP_OUT:
			read_outs(&r, p);
			break;
		case TOP_CONFLICTS:
			read_conflicts(&r, p);
			break;
		case TOP_PLAN:
		case TOP_PATHS:
			cbor_r_fail(&r, -EBADMSG);
			break;
		}
	}
	if ((have & needed) != needed)
		cbor_r_fail(&r, -EBADMSG);
	int error = cbor_r_end(&r);

	if (error < 0)
		return error == -ENOMEM
			       ? error_nomem(err)
			       : error_set(err, error,
					   "landing: a plan or list of conflicts is damaged");
	*ret = take_ptr(p);
	return 0;
}

int landing_plan_decode(struct bytes b, struct landing_plan **ret, struct error *err)
{
	unsigned needed = 1u << TOP_VERSION | 1u << TOP_ACTIONS | 1u << TOP_OUT;

	return decode(b,
		      needed | 1u << TOP_UNDO | 1u << TOP_DEV | 1u << TOP_INO | 1u << TOP_UID |
			      1u << TOP_GID | 1u << TOP_STARTED,
		      needed, ret, err);
}

int landing_conflicts_decode(struct bytes b, struct landing_plan **ret, struct error *err)
{
	unsigned needed = 1u << TOP_VERSION | 1u << TOP_CONFLICTS;

	return decode(b, needed | 1u << TOP_UNDO, needed, ret, err);
}

void landing_plan_id(struct bytes encoded, char ret[LANDING_ID_SIZE])
{
	char hex[DIGEST_HEX_SIZE];
	struct digest d;

	digest_domain("holdfast.landing", encoded, &d);
	memcpy(ret, digest_hex(&d, hex), LANDING_ID_SIZE - 1);
	ret[LANDING_ID_SIZE - 1] = '\0';
}

const char *landing_out_why_name(enum landing_out_why w)
{
	switch (w) {
	case LANDING_OUT_POLICY:
		return "policy";
	case LANDING_OUT_SCRATCH:
		return "scratch";
	case LANDING_OUT_TYPE:
		return "type";
	case LANDING_OUT_BITS:
		return "bits";
	case LANDING_OUT_FOLDER:
		return "folder";
	case LANDING_OUT_NOT_EMPTY:
		return "not-empty";
	case LANDING_OUT_RESERVED:
		return "reserved";
	case LANDING_OUT_MINE:
		return "mine";
	case LANDING_OUT_EMPTY:
		return "empty";
	}
	return "";
}

const char *landing_conflict_why_text(enum landing_conflict_why w)
{
	switch (w) {
	case LANDING_CONFLICT_CHANGED:
		return "changed since the run began";
	case LANDING_CONFLICT_GONE:
		return "removed since the run saw it";
	case LANDING_CONFLICT_APPEARED:
		return "made since the run looked";
	case LANDING_CONFLICT_CONTENT:
		return "not what the run saw";
	case LANDING_CONFLICT_MOVED:
		return "a folder above it was moved here, or given another mode or owner";
	case LANDING_CONFLICT_FOLDER:
		return "a folder above it is gone";
	case LANDING_CONFLICT_CLOCK:
		return "the clock went back: it may have changed";
	case LANDING_CONFLICT_NOT_EMPTY:
		return "holds files that the run knows nothing of";
	case LANDING_CONFLICT_EDITED:
		return "changed in the meantime";
	case LANDING_CONFLICT_BUSY:
		return "open for writing by another program";
	case LANDING_CONFLICT_REFUSED:
		return "the system refused the change";
	case LANDING_CONFLICT_PLACE:
		return "the folder is not there any more";
	}
	return "";
}

void landing_place_text(enum manifest_type now, size_t inside, bool undo, const char *refused,
			char *ret, size_t size)
{
	const char *what = now == MANIFEST_SYMLINK ? "link" : manifest_type_name(now);
	int n = now == MANIFEST_ABSENT ? snprintf(ret, size, "it is gone; ")
				       : snprintf(ret, size, "a %s stands in its place; ", what);

	if (n < 0 || (size_t)n >= size)
		return;
	if (refused)
		snprintf(ret + n, size - (size_t)n,
			 "%s: move it away before theirs, or answer mine", refused);
	else
		snprintf(ret + n, size - (size_t)n,
			 "%zu change%s of %s in the folder follow%s this", inside,
			 inside == 1 ? "" : "s", undo ? "the landing" : "the run",
			 inside == 1 ? "s" : "");
}

char landing_action_letter(const struct landing_action *a)
{
	if (a->before.type == MANIFEST_ABSENT)
		return 'A';
	if (a->after.type == MANIFEST_ABSENT)
		return 'D';
	return a->before.type == a->after.type ? 'M' : 'T';
}
