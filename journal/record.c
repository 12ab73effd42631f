/*
 * Records: which type may carry which field (one table), and their one canonical form. Pure.
 *
 * A record is a deterministic CBOR map (holdfast.cddl, "journal-record"). Unknown payload keys
 * survive a decode by being part of the hashed bytes; a known key on a type that has no use for it
 * is an error, so that what a type means is this table and nothing else.
 */
#include "journal/record.h"

#include <errno.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "base/guard.h"
#include "base/hex.h"

enum record_key {
	KEY_LSN = 1,
	KEY_RUN = 2,
	KEY_SEQ = 3,
	KEY_EPOCH = 4,
	KEY_STEP = 5,
	KEY_ATTEMPT = 6,
	KEY_TYPE = 7,
	KEY_WALL = 8,
	KEY_BOOT = 9,
	KEY_MONO = 10,
	KEY_ACTOR = 11,
	KEY_PAYLOAD = 12,
	KEY_PREV = 13,
};

static const struct journal_record_field fields[JOURNAL_FIELD_LIMIT] = {
#define X(num, name, kind) \
	[num] = {#name, JOURNAL_RECORD_##kind, offsetof(struct journal_payload, name)},
	JOURNAL_FIELDS(X)
#undef X
};

typedef unsigned __int128 mask;
#define F(field) ((mask)1 << JOURNAL_F_##field)

/* Any record may say why, who, and how it failed. */
#define COMMON (F(why) | F(error) | F(principal) | F(auth) | F(digest))
#define OUTCOME                                                                                \
	(F(exit_code) | F(signal) | F(out) | F(err) | F(out_size) | F(err_size) | F(results) | \
	 F(cpu_us) | F(memory_peak) | F(wall_us) | F(denied) | F(weaker))
#define LAYER (F(layer) | F(manifest) | F(paths) | F(size) | F(stack))
#define RETRY (F(failure) | F(same_failure) | F(uncharged) | F(due_ns) | F(timer) | F(feedback))
#define ITEM  (F(approval) | F(kind) | F(action) | F(card) | F(decision) | F(choice))
#define STEP  (F(input) | F(context) | F(attempt) | F(attempt_id) | F(index) | F(policy))

/* Which parts of a record's head must be there. */
enum level {
	LEVEL_DAEMON, /* run zero, no step */
	LEVEL_RUN, /* a run, no step */
	LEVEL_STEP, /* a run and a step; an attempt may be named */
	LEVEL_ATTEMPT, /* a run, a step and an attempt */
	LEVEL_ANY, /* a run; a step and its attempt may be named */
};

struct record_type {
	const char *name;
	enum level level;
	bool synced;
	mask must, may;
};

#define DAEMON(must, may)      LEVEL_DAEMON, true, must, may
#define RUN(synced, must, may) LEVEL_RUN, synced, must, may
#define OF_STEP(synced, must, may) \
	LEVEL_STEP, synced, must, (may) | STEP | LAYER | RETRY | OUTCOME | ITEM
#define OF_ATTEMPT(must, may) LEVEL_ATTEMPT, false, must, (may) | STEP | LAYER | RETRY | OUTCOME
#define OF_ITEM(must, may) \
	LEVEL_ANY, true, F(approval) | (must), (may) | ITEM | F(execute_by_ns) | F(timer)
#define LANDING(must, may)     \
	LEVEL_RUN, true, must, \
		(may) | LAYER | ITEM | F(redo) | F(result) | F(conflicts) | F(generation)
/* What is sent for, and what became of it. */
#define EFFECT                                                                                  \
	(F(occurrence) | F(identity) | F(action) | F(canonical) | F(body) | F(before) |         \
	 F(action_kind) | F(class) | F(retry) | F(window_ms) | F(header) | F(probe) | F(rule) | \
	 F(at) | F(secret) | F(claim) | F(dropped) | F(title) | F(approval))
#define OUTCOME_OF_EFFECT                                                                   \
	(F(status) | F(response) | F(response_body) | F(too_long) | F(sent) | F(received) | \
	 F(approval) | F(choice))
#define OF_EFFECT(synced, must, may) LEVEL_ATTEMPT, synced, F(effect) | (must), may
#define TIMER(must, may) \
	LEVEL_ANY, false, F(timer) | (must), (may) | F(timer_kind) | F(due_ns) | F(approval)

static const struct record_type types[JOURNAL_TYPE_LIMIT] = {
	[JOURNAL_EPOCH_BEGUN] = {"EPOCH_BEGUN", DAEMON(F(version), F(heads))},
	[JOURNAL_ANCHOR] = {"ANCHOR", DAEMON(F(heads), 0)},
	[JOURNAL_TRUST_PINNED] = {"TRUST_PINNED", DAEMON(F(path), F(ws_uid) | F(policy))},
	[JOURNAL_LEASE_HELD] = {"LEASE_HELD", DAEMON(F(ws_dev) | F(ws_ino) | F(holder),
						     F(generation) | F(workspace))},
	[JOURNAL_LEASE_FREED] = {"LEASE_FREED", DAEMON(F(ws_dev) | F(ws_ino),
						       F(holder) | F(generation) | F(workspace))},
	[JOURNAL_RUNS_DROPPED] = {"RUNS_DROPPED", DAEMON(F(heads), 0)},

	[JOURNAL_RUN_CREATED] = {"RUN_CREATED",
				 RUN(true, F(plan) | F(policy) | F(agency) | F(land) | F(base),
				     F(name) | F(environ) | F(workspace) | F(ws_dev) | F(ws_ino) |
					     F(ws_uid) | F(request) | F(context) | F(parent) |
					     F(fork_at) | F(started_ns) | F(weaker) | LAYER)},
	[JOURNAL_RUN_STARTED] = {"RUN_STARTED",
				 RUN(false, 0, F(started_ns) | F(generation) | F(weaker) | LAYER)},
	[JOURNAL_RUN_WAITING] = {"RUN_WAITING",
				 RUN(false, F(waits), F(approval) | F(due_ns) | F(timer))},
	[JOURNAL_RUN_CONTINUED] = {"RUN_CONTINUED", RUN(false, 0, F(waits) | F(started_ns))},
	[JOURNAL_RUN_PAUSED] = {"RUN_PAUSED", RUN(true, 0, F(waits))},
	[JOURNAL_RUN_RESUMED] = {"RUN_RESUMED", RUN(true, 0, F(waits) | F(started_ns))},
	[JOURNAL_RUN_CANCELLING] = {"RUN_CANCELLING", RUN(true, 0, 0)},
	[JOURNAL_RUN_CANCELLED] = {"RUN_CANCELLED", RUN(true, 0, 0)},
	[JOURNAL_RUN_SUCCEEDED] = {"RUN_SUCCEEDED", RUN(true, 0, F(exit_code) | LAYER)},
	[JOURNAL_RUN_FAILED] = {"RUN_FAILED", RUN(true, 0, F(exit_code) | F(signal) | LAYER)},
	[JOURNAL_RUN_AGENCY] = {"RUN_AGENCY", RUN(true, F(agency), F(context))},

	[JOURNAL_STEP_DECLARED] = {"STEP_DECLARED", OF_STEP(false, F(key), F(name) | F(plan))},
	[JOURNAL_STEP_GATED] = {"STEP_GATED", OF_STEP(false, 0, 0)},
	[JOURNAL_STEP_RUNNABLE] = {"STEP_RUNNABLE", OF_STEP(false, 0, 0)},
	[JOURNAL_STEP_DENIED] = {"STEP_DENIED", OF_STEP(false, 0, 0)},
	[JOURNAL_STEP_BACKOFF] = {"STEP_BACKOFF", OF_STEP(false, F(due_ns), 0)},
	[JOURNAL_STEP_EXHAUSTED] = {"STEP_EXHAUSTED", OF_STEP(false, 0, 0)},
	[JOURNAL_STEP_CHECKING] = {"STEP_CHECKING", OF_STEP(false, 0, 0)},
	[JOURNAL_STEP_REJECTED] = {"STEP_REJECTED", OF_STEP(false, 0, 0)},
	[JOURNAL_STEP_GATED_COMMIT] = {"STEP_GATED_COMMIT", OF_STEP(false, 0, 0)},
	[JOURNAL_STEP_COMMITTED] = {"STEP_COMMITTED", OF_STEP(true, 0, 0)},
	[JOURNAL_STEP_FAILED] = {"STEP_FAILED", OF_STEP(false, 0, 0)},
	[JOURNAL_STEP_CANCELLED] = {"STEP_CANCELLED", OF_STEP(false, 0, 0)},
	[JOURNAL_STEP_DIVERGED] = {"STEP_DIVERGED", OF_STEP(true, F(input), F(conflicts))},
	[JOURNAL_STEP_REUSED] = {"STEP_REUSED", OF_STEP(false, 0, 0)},
	[JOURNAL_STEP_SEALED] = {"STEP_SEALED", OF_STEP(false, 0, 0)},
	[JOURNAL_STEP_WAITING] = {"STEP_WAITING", OF_STEP(false, 0, F(waits))},

	[JOURNAL_ATTEMPT_STARTED] = {"ATTEMPT_STARTED", OF_ATTEMPT(F(attempt_id), 0)},
	[JOURNAL_ATTEMPT_LIVE] = {"ATTEMPT_LIVE", OF_ATTEMPT(0, 0)},
	[JOURNAL_ATTEMPT_NOT_STARTED] = {"ATTEMPT_NOT_STARTED", OF_ATTEMPT(0, 0)},
	[JOURNAL_ATTEMPT_ADOPTED] = {"ATTEMPT_ADOPTED", OF_ATTEMPT(0, 0)},
	[JOURNAL_ATTEMPT_FROZEN] = {"ATTEMPT_FROZEN", OF_ATTEMPT(0, 0)},
	[JOURNAL_ATTEMPT_THAWED] = {"ATTEMPT_THAWED", OF_ATTEMPT(0, 0)},
	[JOURNAL_ATTEMPT_EXITED] = {"ATTEMPT_EXITED", OF_ATTEMPT(0, 0)},
	[JOURNAL_ATTEMPT_TIMED_OUT] = {"ATTEMPT_TIMED_OUT", OF_ATTEMPT(0, 0)},
	[JOURNAL_ATTEMPT_OOM] = {"ATTEMPT_OOM", OF_ATTEMPT(0, 0)},
	[JOURNAL_ATTEMPT_KILLED] = {"ATTEMPT_KILLED", OF_ATTEMPT(0, 0)},
	[JOURNAL_ATTEMPT_SUSPENDED] = {"ATTEMPT_SUSPENDED", OF_ATTEMPT(0, 0)},
	[JOURNAL_ATTEMPT_LOST] = {"ATTEMPT_LOST", OF_ATTEMPT(0, 0)},

	[JOURNAL_APPROVAL_OPENED] = {"APPROVAL_OPENED",
				     OF_ITEM(F(kind) | F(action),
					     F(decide_by_ns) | F(conflicts) | F(input) | F(path) |
						     F(index) | F(feedback) | F(effect) | F(rule) |
						     F(at) | F(title))},
	[JOURNAL_VOTE_CAST] = {"VOTE_CAST", OF_ITEM(F(decision), F(path) | F(proof) | F(signed_ns) |
									 F(shown_ms))},
	[JOURNAL_APPROVAL_APPROVED] = {"APPROVAL_APPROVED", OF_ITEM(0, F(path))},
	[JOURNAL_APPROVAL_DENIED] = {"APPROVAL_DENIED", OF_ITEM(0, 0)},
	[JOURNAL_APPROVAL_EXPIRED] = {"APPROVAL_EXPIRED", OF_ITEM(0, 0)},
	[JOURNAL_APPROVAL_WITHDRAWN] = {"APPROVAL_WITHDRAWN", OF_ITEM(0, 0)},
	[JOURNAL_APPROVAL_SUPERSEDED] = {"APPROVAL_SUPERSEDED", OF_ITEM(0, 0)},
	[JOURNAL_APPROVAL_CONSUMED] = {"APPROVAL_CONSUMED", OF_ITEM(0, 0)},
	[JOURNAL_APPROVAL_LAPSED] = {"APPROVAL_LAPSED", OF_ITEM(0, 0)},
	[JOURNAL_APPROVAL_REVOKED] = {"APPROVAL_REVOKED", OF_ITEM(0, 0)},

	[JOURNAL_GRANT_MADE] = {"GRANT_MADE", LEVEL_ANY, true, F(grant) | F(rule) | F(decision),
				F(pattern) | F(uses) | F(expires_ns) | F(at) | F(approval)},
	[JOURNAL_GRANT_USED] = {"GRANT_USED", LEVEL_ANY, false, F(grant) | F(effect), 0},
	[JOURNAL_GRANT_REVOKED] = {"GRANT_REVOKED", LEVEL_ANY, true, F(grant), 0},
	[JOURNAL_APPROVAL_TOLD] = {"APPROVAL_TOLD", LEVEL_ANY, false, F(approval) | F(told), 0},

	[JOURNAL_LANDING_STARTED] = {"LANDING_STARTED", LANDING(F(redo), 0)},
	[JOURNAL_LANDED] = {"LANDED", LANDING(0, 0)},
	[JOURNAL_LANDING_CONFLICT] = {"LANDING_CONFLICT", LANDING(0, F(path))},
	[JOURNAL_LANDING_DROPPED] = {"LANDING_DROPPED", LANDING(0, 0)},
	[JOURNAL_UNDO_STARTED] = {"UNDO_STARTED", LANDING(F(redo), 0)},
	[JOURNAL_UNDONE] = {"UNDONE", LANDING(0, 0)},
	[JOURNAL_UNDO_CONFLICT] = {"UNDO_CONFLICT", LANDING(0, F(path))},
	[JOURNAL_LANDING_FAILED] = {"LANDING_FAILED", RUN(true, F(why), 0)},

	[JOURNAL_TIMER_ARMED] = {"TIMER_ARMED", TIMER(F(timer_kind) | F(due_ns), 0)},
	[JOURNAL_TIMER_FIRED] = {"TIMER_FIRED", TIMER(0, 0)},
	[JOURNAL_TIMER_CANCELLED] = {"TIMER_CANCELLED", TIMER(0, 0)},

	[JOURNAL_LANDING_WANTED] = {"LANDING_WANTED", RUN(true, 0, 0)},

	[JOURNAL_EFFECT_PROPOSED] = {"EFFECT_PROPOSED",
				     OF_EFFECT(false,
					       F(occurrence) | F(identity) | F(action) |
						       F(canonical) | F(action_kind) | F(class) |
						       F(retry),
					       EFFECT)},
	[JOURNAL_EFFECT_WAITING] = {"EFFECT_WAITING", OF_EFFECT(false, 0, F(rule) | F(at))},
	[JOURNAL_EFFECT_ALLOWED] = {"EFFECT_ALLOWED",
				    OF_EFFECT(false, 0, F(rule) | F(at) | F(approval))},
	[JOURNAL_EFFECT_DENIED] = {"EFFECT_DENIED",
				   OF_EFFECT(false, 0, F(rule) | F(at) | F(approval))},
	[JOURNAL_EFFECT_WITHDRAWN] = {"EFFECT_WITHDRAWN", OF_EFFECT(false, 0, F(approval))},
	[JOURNAL_EFFECT_RESERVED] = {"EFFECT_RESERVED", OF_EFFECT(true, F(courier) | F(number),
								  F(approval) | F(action))},
	[JOURNAL_EFFECT_CONFIRMED] = {"EFFECT_CONFIRMED", OF_EFFECT(true, 0, OUTCOME_OF_EFFECT)},
	[JOURNAL_EFFECT_REFUSED] = {"EFFECT_REFUSED", OF_EFFECT(false, 0, OUTCOME_OF_EFFECT)},
	[JOURNAL_EFFECT_IN_DOUBT] = {"EFFECT_IN_DOUBT", OF_EFFECT(true, 0, OUTCOME_OF_EFFECT)},
	[JOURNAL_EFFECT_ABANDONED] = {"EFFECT_ABANDONED", OF_EFFECT(true, 0, OUTCOME_OF_EFFECT)},
	[JOURNAL_EFFECT_COMPENSATED] = {"EFFECT_COMPENSATED", OF_EFFECT(true, 0, F(other))},
	[JOURNAL_EFFECT_DELIVERED] = {"EFFECT_DELIVERED", OF_EFFECT(false, 0, 0)},
	[JOURNAL_EFFECT_ATTACHED] = {"EFFECT_ATTACHED", OF_EFFECT(false, 0, EFFECT)},
	[JOURNAL_EFFECT_READS] = {"EFFECT_READS", LEVEL_ATTEMPT, false, F(reads) | F(paths),
				  F(refused)},
};

static const struct record_type *type_of(uint64_t type)
{
	return type < JOURNAL_TYPE_LIMIT && types[type].name ? &types[type] : NULL;
}

const char *journal_type_name(enum journal_type type)
{
	const struct record_type *t = type_of(type);
	return t ? t->name : NULL;
}

bool journal_type_synced(enum journal_type type)
{
	const struct record_type *t = type_of(type);
	return t && t->synced;
}

const struct journal_record_field *journal_record_field(unsigned num)
{
	return num < JOURNAL_FIELD_LIMIT && fields[num].name ? &fields[num] : NULL;
}

enum journal_record_use journal_record_use(enum journal_type type, unsigned num)
{
	const struct record_type *t = type_of(type);
	if (!t || !journal_record_field(num))
		return JOURNAL_USE_NEVER;
	if ((t->must >> num) & 1)
		return JOURNAL_USE_MUST;
	return (((t->may | COMMON) >> num) & 1) ? JOURNAL_USE_MAY : JOURNAL_USE_NEVER;
}

int journal_record_check(const struct journal_record *r, struct error *err)
{
	const struct record_type *t = type_of(r->type);
	if (!t)
		return error_set(err, -ENOTSUP, "record type 0x%02x: unknown", (unsigned)r->type);

	static const struct journal_id zero;
	bool daemon = journal_id_equal(&r->run, &zero), step = r->step != JOURNAL_NO_STEP,
	     attempt = r->attempt != 0, fits = false;
	switch (t->level) {
	case LEVEL_DAEMON:
		fits = daemon && !step && !attempt;
		break;
	case LEVEL_RUN:
		fits = !daemon && !step && !attempt;
		break;
	case LEVEL_STEP:
		fits = !daemon && step;
		break;
	case LEVEL_ATTEMPT:
		fits = !daemon && step && attempt;
		break;
	case LEVEL_ANY:
		fits = !daemon && (step || !attempt);
		break;
	}
	if (!fits)
		return error_set(err, -EINVAL,
				 "record %s: run, step or attempt is missing or too much", t->name);
	if (step && r->step >= JOURNAL_STEPS_MAX)
		return error_set(err, -EINVAL, "record %s: step %u is past the limit of %d",
				 t->name, r->step, JOURNAL_STEPS_MAX);
	for (unsigned num = 1; num < JOURNAL_FIELD_LIMIT; num++) {
		bool has = (r->p.has[num / 64] >> (num % 64)) & 1;
		enum journal_record_use use = journal_record_use(r->type, num);
		if (has && use == JOURNAL_USE_NEVER)
			return error_set(err, -EINVAL,
					 "record %s: field %u (%s) does not belong to it", t->name,
					 num, fields[num].name ? fields[num].name : "unknown");
		if (!has && use == JOURNAL_USE_MUST)
			return error_set(err, -EINVAL, "record %s: field %s is missing", t->name,
					 fields[num].name);
	}
	return 0;
}

static void write_field(struct buffer *b, const struct journal_record_field *f, const void *at)
{
	const struct bytes *view = at;
	switch (f->kind) {
	case JOURNAL_RECORD_UINT:
		cbor_w_uint(b, *(const uint64_t *)at);
		break;
	case JOURNAL_RECORD_INT:
		cbor_w_int(b, *(const int64_t *)at);
		break;
	case JOURNAL_RECORD_TEXT:
		cbor_w_text(b, *view);
		break;
	case JOURNAL_RECORD_BYTES:
		cbor_w_bytes(b, *view);
		break;
	case JOURNAL_RECORD_RAW:
		cbor_w_raw(b, *view);
		break;
	case JOURNAL_RECORD_DIGEST:
		cbor_w_bytes(b, bytes_of(at, DIGEST_SIZE));
		break;
	case JOURNAL_RECORD_ID:
		cbor_w_bytes(b, bytes_of(at, JOURNAL_ID_SIZE));
		break;
	case JOURNAL_RECORD_BOOL:
		cbor_w_bool(b, *(const bool *)at);
		break;
	}
}

static void write_payload(struct buffer *b, const struct journal_payload *p)
{
	size_t pairs =
		(size_t)__builtin_popcountll(p->has[0]) + (size_t)__builtin_popcountll(p->has[1]);
	cbor_w_map(b, pairs);
	for (unsigned num = 1; num < JOURNAL_FIELD_LIMIT; num++) {
		if (!((p->has[num / 64] >> (num % 64)) & 1))
			continue;
		cbor_w_uint(b, num);
		write_field(b, &fields[num], (const uint8_t *)p + fields[num].offset);
	}
}

int journal_record_encode(const struct journal_record *r, struct buffer *out)
{
	struct error err = {0};
	int rc = journal_record_check(r, &err);
	if (rc < 0)
		return rc;
	size_t before = out->len;
	cbor_w_map(out, 11 + (r->step != JOURNAL_NO_STEP) + (r->attempt != 0));
	cbor_w_uint(out, KEY_LSN);
	cbor_w_uint(out, r->lsn);
	cbor_w_uint(out, KEY_RUN);
	cbor_w_bytes(out, bytes_of(r->run.b, JOURNAL_ID_SIZE));
	cbor_w_uint(out, KEY_SEQ);
	cbor_w_uint(out, r->seq);
	cbor_w_uint(out, KEY_EPOCH);
	cbor_w_uint(out, r->epoch);
	if (r->step != JOURNAL_NO_STEP) {
		cbor_w_uint(out, KEY_STEP);
		cbor_w_uint(out, r->step);
	}
	if (r->attempt != 0) {
		cbor_w_uint(out, KEY_ATTEMPT);
		cbor_w_uint(out, r->attempt);
	}
	cbor_w_uint(out, KEY_TYPE);
	cbor_w_uint(out, r->type);
	cbor_w_uint(out, KEY_WALL);
	cbor_w_int(out, r->wall_ns);
	cbor_w_uint(out, KEY_BOOT);
	cbor_w_bytes(out, bytes_of(r->boot_id, sizeof(r->boot_id)));
	cbor_w_uint(out, KEY_MONO);
	cbor_w_int(out, r->mono_ns);
	cbor_w_uint(out, KEY_ACTOR);
	cbor_w_array(out, 2);
	cbor_w_uint(out, r->actor);
	cbor_w_uint(out, r->actor_uid);
	cbor_w_uint(out, KEY_PAYLOAD);
	write_payload(out, &r->p);
	cbor_w_uint(out, KEY_PREV);
	cbor_w_bytes(out, bytes_of(r->prev_hash.b, DIGEST_SIZE));
	if (out->failed)
		return out->failed;
	return out->len - before > JOURNAL_PAYLOAD_MAX ? -E2BIG : 0;
}

static uint32_t read_u32(struct cbor_reader *c)
{
	uint64_t v = cbor_r_uint(c);
	if (v > UINT32_MAX)
		cbor_r_fail(c, -EBADMSG);
	return (uint32_t)v;
}

static void read_field(struct cbor_reader *c, const struct journal_record_field *f, void *at)
{
	struct bytes *view = at;
	switch (f->kind) {
	case JOURNAL_RECORD_UINT:
		*(uint64_t *)at = cbor_r_uint(c);
		break;
	case JOURNAL_RECORD_INT:
		*(int64_t *)at = cbor_r_int(c);
		break;
	case JOURNAL_RECORD_TEXT:
		*view = cbor_r_text(c);
		break;
	case JOURNAL_RECORD_BYTES:
		*view = cbor_r_bytes(c);
		break;
	case JOURNAL_RECORD_RAW:
		*view = cbor_r_skip(c);
		break;
	case JOURNAL_RECORD_DIGEST:
		cbor_r_digest(c, at);
		break;
	case JOURNAL_RECORD_ID:
		cbor_r_fixed(c, at, JOURNAL_ID_SIZE);
		break;
	case JOURNAL_RECORD_BOOL:
		*(bool *)at = cbor_r_bool(c);
		break;
	}
}

static void read_payload(struct cbor_reader *c, struct journal_payload *p)
{
	struct cbor_map_iter m;
	uint64_t key;
	cbor_r_map(c, &m);
	while (cbor_r_key(c, &m, &key)) {
		const struct journal_record_field *f =
			key < JOURNAL_FIELD_LIMIT ? journal_record_field((unsigned)key) : NULL;
		if (!f) {
			cbor_r_skip(c);
			continue;
		}
		read_field(c, f, (uint8_t *)p + f->offset);
		p->has[key / 64] |= 1ull << (key % 64);
	}
}

static void read_head(struct cbor_reader *c, struct journal_record *r, uint64_t *type,
		      unsigned *seen)
{
	struct cbor_map_iter m;
	uint64_t key;
	cbor_r_map(c, &m);
	while (cbor_r_key(c, &m, &key)) {
		if (key < 32)
			*seen |= 1u << key;
		switch (key) {
		case KEY_LSN:
			r->lsn = cbor_r_uint(c);
			break;
		case KEY_RUN:
			cbor_r_fixed(c, r->run.b, JOURNAL_ID_SIZE);
			break;
		case KEY_SEQ:
			r->seq = cbor_r_uint(c);
			break;
		case KEY_EPOCH:
			r->epoch = cbor_r_uint(c);
			break;
		case KEY_STEP:
			r->step = read_u32(c);
			break;
		case KEY_ATTEMPT:
			r->attempt = read_u32(c);
			if (r->attempt == 0)
				cbor_r_fail(c, -EBADMSG);
			break;
		case KEY_TYPE:
			*type = cbor_r_uint(c);
			break;
		case KEY_WALL:
			r->wall_ns = cbor_r_int(c);
			break;
		case KEY_BOOT:
			cbor_r_fixed(c, r->boot_id, sizeof(r->boot_id));
			break;
		case KEY_MONO:
			r->mono_ns = cbor_r_int(c);
			break;
		case KEY_ACTOR:
			if (cbor_r_array(c) != 2)
				cbor_r_fail(c, -EBADMSG);
			r->actor = read_u32(c);
			r->actor_uid = read_u32(c);
			break;
		case KEY_PAYLOAD:
			read_payload(c, &r->p);
			break;
		case KEY_PREV:
			cbor_r_digest(c, &r->prev_hash);
			break;
		default:
			cbor_r_skip(c);
		}
	}
}

int journal_record_decode(struct bytes b, struct journal_record *ret)
{
	const unsigned required = 1u << KEY_LSN | 1u << KEY_RUN | 1u << KEY_SEQ | 1u << KEY_EPOCH |
				  1u << KEY_TYPE | 1u << KEY_WALL | 1u << KEY_BOOT |
				  1u << KEY_MONO | 1u << KEY_ACTOR | 1u << KEY_PAYLOAD |
				  1u << KEY_PREV;
	struct journal_record r = {.step = JOURNAL_NO_STEP};
	uint64_t type = 0;
	unsigned seen = 0;
	if (b.len > JOURNAL_PAYLOAD_MAX)
		return -EBADMSG;
	struct cbor_reader c = cbor_reader(b);
	read_head(&c, &r, &type, &seen);
	if (cbor_r_end(&c) != 0 || (seen & required) != required)
		return -EBADMSG;
	if (!type_of(type))
		return -ENOTSUP;
	r.type = (enum journal_type)type;
	if (r.actor > JOURNAL_ACTOR_PERSON || r.lsn == 0 || r.seq == 0)
		return -EBADMSG;
	struct error err = {0};
	if (journal_record_check(&r, &err) < 0)
		return -EBADMSG;
	*ret = r;
	return 0;
}

void journal_record_hash(struct bytes encoded, struct digest *ret)
{
	digest_domain("holdfast.record", encoded, ret);
}

char *journal_id_text(const struct journal_id *id, char *buf)
{
	static const char hex[] = "0123456789abcdef";
	for (int i = 0; i < JOURNAL_ID_SIZE; i++) {
		buf[2 * i] = hex[id->b[i] >> 4];
		buf[2 * i + 1] = hex[id->b[i] & 15];
	}
	buf[2 * JOURNAL_ID_SIZE] = '\0';
	return buf;
}

int journal_id_parse(struct bytes text, struct journal_id *ret)
{
	return hex_decode(text, ret->b, sizeof(ret->b));
}
