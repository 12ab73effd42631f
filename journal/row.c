/* Rows to bytes and back, by one table of members a kind. Pure. */
#include "journal/row.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "base/guard.h"

enum member_kind {
	MEMBER_U32, /* and every enum */
	MEMBER_U64,
	MEMBER_I64,
	MEMBER_BOOL,
	MEMBER_STR, /* owned char *, NULL = absent */
	MEMBER_OWNED, /* owned struct bytes */
	MEMBER_DIGEST,
	MEMBER_ID, /* and boot ids */
	MEMBER_LAYER,
};

struct member {
	enum member_kind kind;
	size_t offset;
};

#define M(type, name, kind)                                \
	{                                                  \
		MEMBER_##kind, offsetof(struct type, name) \
	}

/* The index is the CBOR key: never reorder, append only. */
#define RUN(name, kind) M(journal_run, name, kind)
static const struct member run_members[] = {
	RUN(name, STR),
	RUN(state, U32),
	RUN(paused_from, U32),
	RUN(waits, U32),
	RUN(landing, U32),
	RUN(conflict_undo, BOOL),
	RUN(land, U32),
	RUN(base, U32),
	RUN(agency, U32),
	RUN(plan, DIGEST),
	RUN(policy, DIGEST),
	RUN(environ, DIGEST),
	RUN(context, DIGEST),
	RUN(workspace, STR),
	RUN(ws_dev, U64),
	RUN(ws_ino, U64),
	RUN(ws_uid, U64),
	RUN(uid, U32),
	RUN(request, OWNED),
	RUN(created_ns, I64),
	RUN(started_ns, I64),
	RUN(ended_ns, I64),
	RUN(boot_id, ID),
	RUN(created_mono_ns, I64),
	RUN(parent, ID),
	RUN(fork_at, STR),
	RUN(landing_approval, ID),
	RUN(redo, DIGEST),
	RUN(landing_result, DIGEST),
	RUN(conflicts, DIGEST),
	RUN(why, STR),
	RUN(seq, U64),
	RUN(head, DIGEST),
	RUN(starts_without_progress, U32),
	RUN(step_count, U32),
	RUN(effect_count, U32),
	RUN(reads, U64),
	RUN(landing_lsn, U64),
	RUN(landing_failed, STR),
	RUN(refused, U64),
	RUN(landing_wanted, BOOL),
};

#define STEP(name, kind) M(journal_step, name, kind)
static const struct member step_members[] = {
	STEP(position, U32),	 STEP(key, STR),	 STEP(name, STR),
	STEP(state, U32),	 STEP(input, DIGEST),	 STEP(context, DIGEST),
	STEP(diverged, DIGEST),	 STEP(charged, U32),	 STEP(lost, U32),
	STEP(same_failure, U32), STEP(failure, DIGEST),	 STEP(declared_ns, I64),
	STEP(deadline_ns, I64),	 STEP(due_ns, I64),	 STEP(approval, ID),
	STEP(layer, LAYER),	 STEP(manifest, DIGEST), STEP(layer_paths, U64),
	STEP(layer_bytes, U64),	 STEP(feedback, DIGEST), STEP(committed_lsn, U64),
	STEP(why, STR),		 STEP(state_lsn, U64),	 STEP(diverged_lsn, U64),
};

#define ATTEMPT(name, kind) M(journal_attempt, name, kind)
static const struct member attempt_members[] = {
	ATTEMPT(state, U32),	       ATTEMPT(id, ID),	       ATTEMPT(epoch, U64),
	ATTEMPT(layer, LAYER),	       ATTEMPT(boot_id, ID),   ATTEMPT(started_ns, I64),
	ATTEMPT(started_mono_ns, I64), ATTEMPT(ended_ns, I64), ATTEMPT(uncharged, BOOL),
	ATTEMPT(exit_code, U64),       ATTEMPT(signal, U64),   ATTEMPT(why, STR),
	ATTEMPT(out, DIGEST),	       ATTEMPT(err, DIGEST),   ATTEMPT(results, DIGEST),
	ATTEMPT(out_size, U64),	       ATTEMPT(err_size, U64), ATTEMPT(cpu_us, U64),
	ATTEMPT(memory_peak, U64),     ATTEMPT(wall_us, U64),  ATTEMPT(weaker, U64),
	ATTEMPT(suspending, BOOL),
};

#define APPROVAL(name, kind) M(journal_approval, name, kind)
static const struct member approval_members[] = {
	APPROVAL(step, U32),	  APPROVAL(kind, U32),	       APPROVAL(state, U32),
	APPROVAL(action, DIGEST), APPROVAL(card, DIGEST),      APPROVAL(object, DIGEST),
	APPROVAL(opened_ns, I64), APPROVAL(decide_by_ns, I64), APPROVAL(execute_by_ns, I64),
	APPROVAL(choice, STR),	  APPROVAL(why, STR),	       APPROVAL(effect, ID),
	APPROVAL(told, U32),	  APPROVAL(opened_lsn, U64),
};
enum { APPROVAL_VOTES = 64 }; /* key of the array of votes */

enum { RUN_GRANTS = 64 }; /* key of the array of grants */

#define GRANT(name, kind) M(journal_grant, name, kind)
static const struct member grant_members[] = {
	GRANT(id, ID),		GRANT(approval, ID),	GRANT(step, U32), GRANT(deny, BOOL),
	GRANT(revoked, BOOL),	GRANT(pattern, DIGEST), GRANT(uses, U64), GRANT(made_ns, I64),
	GRANT(expires_ns, I64), GRANT(rule, STR),	GRANT(at, STR),	  GRANT(by, STR),
	GRANT(why, STR),
};

#define VOTE(name, kind) M(journal_vote, name, kind)
static const struct member vote_members[] = {
	VOTE(principal, STR), VOTE(auth, STR),	   VOTE(reason, STR),	 VOTE(decision, U32),
	VOTE(choice, STR),    VOTE(card, DIGEST),  VOTE(at_ns, I64),	 VOTE(path, OWNED),
	VOTE(file, DIGEST),   VOTE(proof, DIGEST), VOTE(signed_ns, I64), VOTE(shown_ms, U64),
};

#define EFFECT(name, kind) M(journal_effect, name, kind)
static const struct member effect_members[] = {
	EFFECT(id, ID),
	EFFECT(step, U32),
	EFFECT(attempt, U32),
	EFFECT(occurrence, U32),
	EFFECT(state, U32),
	EFFECT(action_kind, U32),
	EFFECT(class, U32),
	EFFECT(retry, U32),
	EFFECT(action, DIGEST),
	EFFECT(identity, DIGEST),
	EFFECT(canonical, DIGEST),
	EFFECT(body, DIGEST),
	EFFECT(before, DIGEST),
	EFFECT(response, DIGEST),
	EFFECT(response_body, DIGEST),
	EFFECT(too_long, BOOL),
	EFFECT(delivered, BOOL),
	EFFECT(window_ms, U64),
	EFFECT(status, U64),
	EFFECT(sent, U64),
	EFFECT(received, U64),
	EFFECT(proposed_ns, I64),
	EFFECT(reserved_ns, I64),
	EFFECT(ended_ns, I64),
	EFFECT(reserved_lsn, U64),
	EFFECT(outcome_lsn, U64),
	EFFECT(approval, ID),
	EFFECT(doubt, ID),
	EFFECT(courier, ID),
	EFFECT(other, ID),
	EFFECT(title, STR),
	EFFECT(rule, STR),
	EFFECT(at, STR),
	EFFECT(header, STR),
	EFFECT(probe, STR),
	EFFECT(secret, STR),
	EFFECT(claim, STR),
	EFFECT(why, STR),
	EFFECT(by, STR),
	EFFECT(request, U64),
	EFFECT(state_lsn, U64),
	EFFECT(dropped, STR),
};

#define TIMER(name, kind) M(journal_timer, name, kind)
static const struct member timer_members[] = {
	TIMER(step, U32),   TIMER(kind, U32),	 TIMER(state, U32),
	TIMER(due_ns, I64), TIMER(approval, ID),
};

#define LEASE(name, kind) M(journal_lease, name, kind)
static const struct member lease_members[] = {LEASE(generation, U64), LEASE(held, BOOL),
					      LEASE(holder, ID)};

#define TRUST(name, kind) M(journal_trust, name, kind)
static const struct member trust_members[] = {TRUST(digest, DIGEST), TRUST(uid, U32),
					      TRUST(at_ns, I64)};

#define DAEMON(name, kind) M(journal_state, name, kind)
static const struct member daemon_members[] = {DAEMON(epoch, U64), DAEMON(daemon_seq, U64),
					       DAEMON(daemon_head, DIGEST)};

_Static_assert(sizeof(enum journal_run_state) == 4, "enums are coded as U32");

/* ---- Members ---- */

static bool all_zero(const void *at, size_t size)
{
	const uint8_t *b = at;
	for (size_t i = 0; i < size; i++)
		if (b[i])
			return false;
	return true;
}

static bool is_empty(const struct member *m, const void *at)
{
	switch (m->kind) {
	case MEMBER_U32:
		return *(const uint32_t *)at == 0;
	case MEMBER_U64:
	case MEMBER_I64:
		return *(const uint64_t *)at == 0;
	case MEMBER_BOOL:
		return !*(const bool *)at;
	case MEMBER_STR:
		return *(char *const *)at == NULL;
	case MEMBER_OWNED:
		return ((const struct bytes *)at)->len == 0;
	case MEMBER_DIGEST:
		return all_zero(at, DIGEST_SIZE);
	case MEMBER_ID:
		return all_zero(at, JOURNAL_ID_SIZE);
	case MEMBER_LAYER:
		return *(const char *)at == '\0';
	}
	return true;
}

static void write_member(struct buffer *b, const struct member *m, const void *at)
{
	switch (m->kind) {
	case MEMBER_U32:
		cbor_w_uint(b, *(const uint32_t *)at);
		break;
	case MEMBER_U64:
		cbor_w_uint(b, *(const uint64_t *)at);
		break;
	case MEMBER_I64:
		cbor_w_int(b, *(const int64_t *)at);
		break;
	case MEMBER_BOOL:
		cbor_w_bool(b, *(const bool *)at);
		break;
	case MEMBER_STR: /* bytes, not text: a path need not be UTF-8 */
		cbor_w_bytes(b, bytes_str(*(char *const *)at));
		break;
	case MEMBER_OWNED:
		cbor_w_bytes(b, *(const struct bytes *)at);
		break;
	case MEMBER_DIGEST:
		cbor_w_bytes(b, bytes_of(at, DIGEST_SIZE));
		break;
	case MEMBER_ID:
		cbor_w_bytes(b, bytes_of(at, JOURNAL_ID_SIZE));
		break;
	case MEMBER_LAYER:
		cbor_w_bytes(b, bytes_str(at));
		break;
	}
}

static void write_members(struct buffer *b, struct cbor_map_mark *map, const struct member *m,
			  size_t count, const void *row)
{
	for (size_t i = 0; i < count; i++) {
		const uint8_t *at = (const uint8_t *)row + m[i].offset;
		if (is_empty(&m[i], at))
			continue;
		cbor_w_key(b, map, i);
		write_member(b, &m[i], at);
	}
}

static void read_exact(struct cbor_reader *c, void *to, size_t size)
{
	struct bytes b = cbor_r_bytes(c);
	if (c->error)
		return;
	if (b.len != size)
		cbor_r_fail(c, -EBADMSG);
	else
		memcpy(to, b.data, size);
}

static char *read_owned(struct cbor_reader *c, size_t *ret_len)
{
	struct bytes b = cbor_r_bytes(c);
	char *copy = c->error ? NULL : bytes_dup_str(b);
	if (!c->error && !copy)
		cbor_r_fail(c, -ENOMEM);
	*ret_len = copy ? b.len : 0;
	return copy;
}

static void read_member(struct cbor_reader *c, const struct member *m, void *at)
{
	size_t len = 0;
	switch (m->kind) {
	case MEMBER_U32: {
		uint64_t v = cbor_r_uint(c);
		if (v > UINT32_MAX)
			cbor_r_fail(c, -EBADMSG);
		*(uint32_t *)at = (uint32_t)v;
		break;
	}
	case MEMBER_U64:
		*(uint64_t *)at = cbor_r_uint(c);
		break;
	case MEMBER_I64:
		*(int64_t *)at = cbor_r_int(c);
		break;
	case MEMBER_BOOL:
		*(bool *)at = cbor_r_bool(c);
		break;
	case MEMBER_STR:
		*(char **)at = read_owned(c, &len);
		break;
	case MEMBER_OWNED: {
		char *copy = read_owned(c, &len);
		*(struct bytes *)at = bytes_of(copy, len);
		break;
	}
	case MEMBER_DIGEST:
		read_exact(c, at, DIGEST_SIZE);
		break;
	case MEMBER_ID:
		read_exact(c, at, JOURNAL_ID_SIZE);
		break;
	case MEMBER_LAYER: {
		struct bytes b = cbor_r_bytes(c);
		if (b.len >= JOURNAL_LAYER_NAME_SIZE)
			cbor_r_fail(c, -EBADMSG);
		else if (b.len)
			memcpy(at, b.data, b.len);
		break;
	}
	}
}

/* extra is called with the reader at the value of a key that is no member's. */
static void read_members(struct cbor_reader *c, const struct member *m, size_t count, void *row,
			 void (*extra)(struct cbor_reader *, uint64_t, void *))
{
	struct cbor_map_iter it;
	uint64_t key;
	cbor_r_map(c, &it);
	while (cbor_r_key(c, &it, &key)) {
		if (key < count)
			read_member(c, &m[key], (uint8_t *)row + m[key].offset);
		else if (extra)
			extra(c, key, row);
		else
			cbor_r_skip(c);
	}
}

/* ---- Keys ---- */

static void put_u32(struct buffer *out, uint32_t v)
{
	uint32_t be = htobe32(v);
	buffer_append(out, &be, sizeof(be));
}

static void put_u64(struct buffer *out, uint64_t v)
{
	uint64_t be = htobe64(v);
	buffer_append(out, &be, sizeof(be));
}

static uint32_t get_u32(const uint8_t *at)
{
	uint32_t be;
	memcpy(&be, at, sizeof(be));
	return be32toh(be);
}

static uint64_t get_u64(const uint8_t *at)
{
	uint64_t be;
	memcpy(&be, at, sizeof(be));
	return be64toh(be);
}

int journal_row_key(const struct journal_change *c, struct buffer *out)
{
	buffer_append_byte(out, (uint8_t)c->kind);
	switch (c->kind) {
	case JOURNAL_ROW_DAEMON:
		break;
	case JOURNAL_ROW_RUN:
		buffer_append(out, c->run.b, JOURNAL_ID_SIZE);
		break;
	case JOURNAL_ROW_STEP:
	case JOURNAL_ROW_ATTEMPT:
		buffer_append(out, c->run.b, JOURNAL_ID_SIZE);
		put_u32(out, c->step);
		if (c->kind == JOURNAL_ROW_ATTEMPT)
			put_u32(out, c->attempt);
		break;
	case JOURNAL_ROW_APPROVAL:
	case JOURNAL_ROW_TIMER:
		buffer_append(out, c->run.b, JOURNAL_ID_SIZE);
		buffer_append(out, c->id.b, JOURNAL_ID_SIZE);
		break;
	case JOURNAL_ROW_EFFECT:
		buffer_append(out, c->run.b, JOURNAL_ID_SIZE);
		put_u32(out, c->effect);
		break;
	case JOURNAL_ROW_LEASE:
		put_u64(out, c->dev);
		put_u64(out, c->ino);
		break;
	case JOURNAL_ROW_TRUST:
		buffer_append_str(out, c->path);
		break;
	}
	return out->failed;
}

/* ---- Encode ---- */

static const struct journal_step *find_step(const struct journal_state *s,
					    const struct journal_change *c)
{
	const struct journal_run *run = journal_rows_run(s, &c->run);
	return run && c->step < run->step_count ? run->steps[c->step] : NULL;
}

static const struct journal_effect *find_effect(const struct journal_state *s,
						const struct journal_change *c)
{
	const struct journal_run *run = journal_rows_run(s, &c->run);
	return run && c->effect < run->effect_count ? run->effects[c->effect] : NULL;
}

static void write_grants(struct buffer *out, struct cbor_map_mark *map,
			 const struct journal_run *run)
{
	if (run->grant_count == 0)
		return;
	cbor_w_key(out, map, RUN_GRANTS);
	cbor_w_array(out, run->grant_count);
	for (uint32_t i = 0; i < run->grant_count; i++) {
		struct cbor_map_mark inner = cbor_w_map_begin(out);
		write_members(out, &inner, grant_members, ARRAY_SIZE(grant_members),
			      &run->grants[i]);
		cbor_w_map_end(out, &inner);
	}
}

static void write_votes(struct buffer *out, struct cbor_map_mark *map,
			const struct journal_approval *a)
{
	if (a->vote_count == 0)
		return;
	cbor_w_key(out, map, APPROVAL_VOTES);
	cbor_w_array(out, a->vote_count);
	for (uint32_t i = 0; i < a->vote_count; i++) {
		struct cbor_map_mark inner = cbor_w_map_begin(out);
		write_members(out, &inner, vote_members, ARRAY_SIZE(vote_members), &a->votes[i]);
		cbor_w_map_end(out, &inner);
	}
}

int journal_row_encode(const struct journal_state *s, const struct journal_change *c,
		       struct buffer *out)
{
	const struct member *m = NULL;
	size_t count = 0;
	const void *row = NULL;
	switch (c->kind) {
	case JOURNAL_ROW_DAEMON:
		row = s;
		m = daemon_members, count = ARRAY_SIZE(daemon_members);
		break;
	case JOURNAL_ROW_RUN:
		row = journal_rows_run(s, &c->run);
		m = run_members, count = ARRAY_SIZE(run_members);
		break;
	case JOURNAL_ROW_STEP:
		row = find_step(s, c);
		m = step_members, count = ARRAY_SIZE(step_members);
		break;
	case JOURNAL_ROW_ATTEMPT: {
		const struct journal_step *step = find_step(s, c);
		if (step && c->attempt >= 1 && c->attempt <= step->attempt_count)
			row = &step->attempts[c->attempt - 1];
		m = attempt_members, count = ARRAY_SIZE(attempt_members);
		break;
	}
	case JOURNAL_ROW_APPROVAL:
		row = journal_rows_approval(s, &c->id);
		m = approval_members, count = ARRAY_SIZE(approval_members);
		break;
	case JOURNAL_ROW_TIMER:
		row = journal_rows_timer(s, &c->id);
		m = timer_members, count = ARRAY_SIZE(timer_members);
		break;
	case JOURNAL_ROW_EFFECT:
		row = find_effect(s, c);
		m = effect_members, count = ARRAY_SIZE(effect_members);
		break;
	case JOURNAL_ROW_LEASE:
		row = journal_rows_lease(s, c->dev, c->ino);
		m = lease_members, count = ARRAY_SIZE(lease_members);
		break;
	case JOURNAL_ROW_TRUST:
		row = journal_rows_trust(s, c->path);
		m = trust_members, count = ARRAY_SIZE(trust_members);
		break;
	}
	if (!row)
		return -ENOENT;
	struct cbor_map_mark map = cbor_w_map_begin(out);
	write_members(out, &map, m, count, row);
	if (c->kind == JOURNAL_ROW_APPROVAL)
		write_votes(out, &map, row);
	if (c->kind == JOURNAL_ROW_RUN)
		write_grants(out, &map, row);
	cbor_w_map_end(out, &map);
	return out->failed;
}

/* ---- Decode ---- */

static void read_grants(struct cbor_reader *c, uint64_t key, void *row)
{
	struct journal_run *run = row;
	if (key != RUN_GRANTS) {
		cbor_r_skip(c);
		return;
	}
	size_t count = cbor_r_array(c);
	if (count > JOURNAL_GRANTS_MAX)
		cbor_r_fail(c, -EBADMSG);
	if (c->error)
		return;
	run->grants = calloc(count ? count : 1, sizeof(*run->grants));
	if (!run->grants) {
		cbor_r_fail(c, -ENOMEM);
		return;
	}
	for (; run->grant_count < count; run->grant_count++)
		read_members(c, grant_members, ARRAY_SIZE(grant_members),
			     &run->grants[run->grant_count], NULL);
}

static int decode_run(struct journal_state *s, struct bytes key, struct cbor_reader *c)
{
	struct journal_run *run = calloc(1, sizeof(*run));
	if (!run)
		return -ENOMEM;
	read_members(c, run_members, ARRAY_SIZE(run_members), run, read_grants);
	run->step_count = run->effect_count = 0; /* they follow */
	memcpy(run->id.b, (const uint8_t *)key.data + 1, JOURNAL_ID_SIZE);
	int rc = cbor_r_end(c);
	if (rc == 0 &&
	    (run->state >= JOURNAL_RUN_S_COUNT || run->paused_from >= JOURNAL_RUN_S_COUNT ||
	     run->landing >= JOURNAL_LANDING_S_COUNT))
		rc = -EBADMSG;
	if (rc < 0) {
		journal_rows_free_run(run);
		return rc;
	}
	return journal_rows_add_run(s, run);
}

static struct journal_run *run_of_key(struct journal_state *s, const uint8_t *key)
{
	struct journal_id id;
	memcpy(id.b, key + 1, JOURNAL_ID_SIZE);
	return journal_rows_run(s, &id);
}

static int decode_step(struct journal_state *s, const uint8_t *key, struct cbor_reader *c)
{
	struct journal_run *run = run_of_key(s, key);
	struct journal_step *step = calloc(1, sizeof(*step));
	if (!step)
		return -ENOMEM;
	step->index = get_u32(key + 1 + JOURNAL_ID_SIZE);
	read_members(c, step_members, ARRAY_SIZE(step_members), step, NULL);
	int rc = cbor_r_end(c);
	if (rc == 0 && (!run || step->index != run->step_count ||
			step->state >= JOURNAL_STEP_S_COUNT || !step->key))
		rc = -EBADMSG;
	if (rc < 0) {
		journal_rows_free_step(step);
		return rc;
	}
	return journal_rows_add_step(run, step);
}

static int decode_attempt(struct journal_state *s, const uint8_t *key, struct cbor_reader *c)
{
	struct journal_run *run = run_of_key(s, key);
	uint32_t index = get_u32(key + 1 + JOURNAL_ID_SIZE);
	struct journal_attempt a = {.number = get_u32(key + 1 + JOURNAL_ID_SIZE + 4)};
	read_members(c, attempt_members, ARRAY_SIZE(attempt_members), &a, NULL);
	int rc = cbor_r_end(c);
	struct journal_step *step = run && index < run->step_count ? run->steps[index] : NULL;
	if (rc == 0 &&
	    (!step || a.number != step->attempt_count + 1 || a.state >= JOURNAL_ATTEMPT_S_COUNT))
		rc = -EBADMSG;
	if (rc == 0)
		rc = journal_rows_add_attempt(step, &a);
	if (rc < 0)
		free(a.why);
	return rc;
}

static int decode_effect(struct journal_state *s, const uint8_t *key, struct cbor_reader *c)
{
	struct journal_run *run = run_of_key(s, key);
	struct journal_effect *e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->number = get_u32(key + 1 + JOURNAL_ID_SIZE);
	memcpy(e->run.b, key + 1, JOURNAL_ID_SIZE);
	read_members(c, effect_members, ARRAY_SIZE(effect_members), e, NULL);
	int rc = cbor_r_end(c);
	if (rc == 0 && (!run || e->number != run->effect_count || e->step >= run->step_count ||
			e->state >= JOURNAL_EFFECT_S_COUNT || e->class >= JOURNAL_CLASS_COUNT ||
			e->retry >= JOURNAL_RETRY_COUNT || journal_rows_effect(s, &e->id)))
		rc = -EBADMSG;
	if (rc < 0) {
		journal_rows_free_effect(e);
		return rc;
	}
	return journal_rows_add_effect(s, run, e);
}

static void read_votes(struct cbor_reader *c, uint64_t key, void *row)
{
	struct journal_approval *a = row;
	if (key != APPROVAL_VOTES) {
		cbor_r_skip(c);
		return;
	}
	size_t count = cbor_r_array(c);
	if (count > JOURNAL_VOTES_MAX)
		cbor_r_fail(c, -EBADMSG);
	if (c->error)
		return;
	a->votes = calloc(count ? count : 1, sizeof(*a->votes));
	if (!a->votes) {
		cbor_r_fail(c, -ENOMEM);
		return;
	}
	for (; a->vote_count < count; a->vote_count++)
		read_members(c, vote_members, ARRAY_SIZE(vote_members), &a->votes[a->vote_count],
			     NULL);
}

static int decode_approval(struct journal_state *s, const uint8_t *key, struct cbor_reader *c)
{
	struct journal_approval *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	memcpy(a->run.b, key + 1, JOURNAL_ID_SIZE);
	memcpy(a->id.b, key + 1 + JOURNAL_ID_SIZE, JOURNAL_ID_SIZE);
	read_members(c, approval_members, ARRAY_SIZE(approval_members), a, read_votes);
	int rc = cbor_r_end(c);
	const struct journal_run *run = journal_rows_run(s, &a->run);
	if (rc == 0 && (!run || a->state >= JOURNAL_APPROVAL_S_COUNT ||
			(a->step != JOURNAL_NO_STEP && a->step >= run->step_count)))
		rc = -EBADMSG;
	if (rc < 0) {
		journal_rows_free_approval(a);
		return rc;
	}
	return journal_rows_add_approval(s, a);
}

static int decode_timer(struct journal_state *s, const uint8_t *key, struct cbor_reader *c)
{
	struct journal_timer *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	memcpy(t->run.b, key + 1, JOURNAL_ID_SIZE);
	memcpy(t->id.b, key + 1 + JOURNAL_ID_SIZE, JOURNAL_ID_SIZE);
	read_members(c, timer_members, ARRAY_SIZE(timer_members), t, NULL);
	int rc = cbor_r_end(c);
	const struct journal_run *run = journal_rows_run(s, &t->run);
	if (rc == 0 && (!run || t->state >= JOURNAL_TIMER_S_COUNT ||
			(t->step != JOURNAL_NO_STEP && t->step >= run->step_count)))
		rc = -EBADMSG;
	if (rc < 0) {
		free(t);
		return rc;
	}
	return journal_rows_add_timer(s, t);
}

static int decode_lease(struct journal_state *s, const uint8_t *key, struct cbor_reader *c)
{
	struct journal_lease *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->ws_dev = get_u64(key + 1);
	l->ws_ino = get_u64(key + 9);
	read_members(c, lease_members, ARRAY_SIZE(lease_members), l, NULL);
	int rc = cbor_r_end(c);
	if (rc < 0) {
		free(l);
		return rc;
	}
	return journal_rows_add_lease(s, l);
}

static int decode_trust(struct journal_state *s, struct bytes key, struct cbor_reader *c)
{
	struct journal_trust *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->path = bytes_dup_str(bytes_of((const uint8_t *)key.data + 1, key.len - 1));
	read_members(c, trust_members, ARRAY_SIZE(trust_members), t, NULL);
	int rc = t->path ? cbor_r_end(c) : -ENOMEM;
	if (rc < 0) {
		journal_rows_free_trust(t);
		return rc;
	}
	return journal_rows_add_trust(s, t);
}

int journal_row_decode(struct journal_state *s, struct bytes key, struct bytes value)
{
	struct cbor_reader c = cbor_reader(value);
	const uint8_t *k = key.data;
	const size_t with_run = 1 + JOURNAL_ID_SIZE;
	int rc = -EBADMSG;
	if (key.len == 0)
		return -EBADMSG;
	if (k[0] == JOURNAL_ROW_DAEMON && key.len == 1) {
		read_members(&c, daemon_members, ARRAY_SIZE(daemon_members), s, NULL);
		rc = cbor_r_end(&c);
	} else if (k[0] == JOURNAL_ROW_RUN && key.len == with_run) {
		rc = decode_run(s, key, &c);
	} else if (k[0] == JOURNAL_ROW_STEP && key.len == with_run + 4) {
		rc = decode_step(s, k, &c);
	} else if (k[0] == JOURNAL_ROW_ATTEMPT && key.len == with_run + 8) {
		rc = decode_attempt(s, k, &c);
	} else if (k[0] == JOURNAL_ROW_EFFECT && key.len == with_run + 4) {
		rc = decode_effect(s, k, &c);
	} else if (k[0] == JOURNAL_ROW_APPROVAL && key.len == with_run + JOURNAL_ID_SIZE) {
		rc = decode_approval(s, k, &c);
	} else if (k[0] == JOURNAL_ROW_TIMER && key.len == with_run + JOURNAL_ID_SIZE) {
		rc = decode_timer(s, k, &c);
	} else if (k[0] == JOURNAL_ROW_LEASE && key.len == 17) {
		rc = decode_lease(s, k, &c);
	} else if (k[0] == JOURNAL_ROW_TRUST && key.len > 1) {
		rc = decode_trust(s, key, &c);
	}
	return rc == 0 || rc == -ENOMEM ? rc : -EBADMSG;
}

/* ---- All rows ---- */

static int each_of_run(const struct journal_run *run,
		       int (*fn)(const struct journal_change *, void *), void *arg)
{
	struct journal_change c = {.kind = JOURNAL_ROW_RUN, .run = run->id};
	int rc = fn(&c, arg);
	for (c.step = 0, c.kind = JOURNAL_ROW_STEP; rc == 0 && c.step < run->step_count; c.step++)
		rc = fn(&c, arg);
	c.kind = JOURNAL_ROW_ATTEMPT;
	for (c.step = 0; rc == 0 && c.step < run->step_count; c.step++)
		for (c.attempt = 1; rc == 0 && c.attempt <= run->steps[c.step]->attempt_count;
		     c.attempt++)
			rc = fn(&c, arg);
	c = (struct journal_change){.kind = JOURNAL_ROW_EFFECT, .run = run->id};
	for (; rc == 0 && c.effect < run->effect_count; c.effect++) {
		c.id = run->effects[c.effect]->id;
		rc = fn(&c, arg);
	}
	return rc;
}

int journal_row_each(const struct journal_state *s,
		     int (*fn)(const struct journal_change *, void *), void *arg)
{
	struct journal_change daemon = {.kind = JOURNAL_ROW_DAEMON};
	int rc = fn(&daemon, arg);
	for (size_t i = 0; rc == 0 && i < s->runs.count; i++)
		rc = each_of_run(s->runs.item[i], fn, arg);
	for (size_t i = 0; rc == 0 && i < s->approvals.count; i++) {
		const struct journal_approval *a = s->approvals.item[i];
		struct journal_change c = {.kind = JOURNAL_ROW_APPROVAL,
					   .run = a->run,
					   .id = a->id};
		rc = fn(&c, arg);
	}
	for (size_t i = 0; rc == 0 && i < s->timers.count; i++) {
		const struct journal_timer *t = s->timers.item[i];
		struct journal_change c = {.kind = JOURNAL_ROW_TIMER, .run = t->run, .id = t->id};
		rc = fn(&c, arg);
	}
	for (size_t i = 0; rc == 0 && i < s->leases.count; i++) {
		const struct journal_lease *l = s->leases.item[i];
		struct journal_change c = {.kind = JOURNAL_ROW_LEASE,
					   .dev = l->ws_dev,
					   .ino = l->ws_ino};
		rc = fn(&c, arg);
	}
	for (size_t i = 0; rc == 0 && i < s->trusts.count; i++) {
		struct journal_change c = {
			.kind = JOURNAL_ROW_TRUST,
			.path = ((struct journal_trust *)s->trusts.item[i])->path};
		rc = fn(&c, arg);
	}
	return rc;
}
