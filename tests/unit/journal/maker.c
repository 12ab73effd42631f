#include "tests/unit/journal/maker.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/cbor.h"
#include "base/guard.h"
#include "journal/heads.h"
#include "journal/record.h"

enum { MAKER_RUNS = 4, MAKER_TRIES = 200000, MAKER_IDS = 64 };

static const char sample_text[] = "sample";

static void set_bit(struct journal_payload *p, unsigned num)
{
	p->has[num / 64] |= 1ull << (num % 64);
}

static void sample_field(struct journal_payload *p, unsigned num)
{
	static const uint8_t one_head[] = {
		0x80}; /* an empty array: legal wherever a RAW item stands */
	const struct journal_record_field *f = journal_record_field(num);
	uint8_t *at = (uint8_t *)p + f->offset;
	switch (f->kind) {
	case JOURNAL_RECORD_UINT:
		*(uint64_t *)at = 1;
		break;
	case JOURNAL_RECORD_INT:
		*(int64_t *)at = num == JOURNAL_F_error ? -5 : 1700000000000000000 + num;
		break;
	case JOURNAL_RECORD_TEXT:
	case JOURNAL_RECORD_BYTES:
		*(struct bytes *)at = bytes_str(sample_text);
		break;
	case JOURNAL_RECORD_RAW:
		*(struct bytes *)at = bytes_of(one_head, sizeof(one_head));
		break;
	case JOURNAL_RECORD_DIGEST:
		memset(at, (int)num, DIGEST_SIZE);
		break;
	case JOURNAL_RECORD_ID:
		memset(at, (int)num, JOURNAL_ID_SIZE);
		break;
	case JOURNAL_RECORD_BOOL:
		*(bool *)at = true;
		break;
	}
	set_bit(p, num);
}

static void fill_fields(struct journal_record *r, bool all)
{
	for (unsigned num = 1; num < JOURNAL_FIELD_LIMIT; num++) {
		enum journal_record_use use = journal_record_use(r->type, num);
		if (use == JOURNAL_USE_MUST || (all && use == JOURNAL_USE_MAY))
			sample_field(&r->p, num);
	}
}

unsigned maker_heads(enum journal_type type)
{
	static unsigned known[JOURNAL_TYPE_LIMIT];
	struct journal_record r = {.type = type};
	struct error err;

	if (known[type])
		return known[type];
	fill_fields(&r, false);
	for (unsigned head = MAKER_DAEMON; head <= MAKER_ATTEMPT; head <<= 1) {
		memset(&r.run, head == MAKER_DAEMON ? 0 : 0x11, sizeof(r.run));
		r.step = head >= MAKER_STEP ? 5 : JOURNAL_NO_STEP;
		r.attempt = head == MAKER_ATTEMPT ? 2 : 0;
		if (journal_record_check(&r, &err) == 0)
			known[type] |= head;
	}
	return known[type];
}

/* A step must be named, or may be and shall. */
static bool names_step(unsigned heads, bool may)
{
	return (heads & MAKER_ATTEMPT) && (!(heads & MAKER_RUN) || may);
}

void maker_record(enum journal_type type, bool all, struct journal_record *ret)
{
	*ret = (struct journal_record){.lsn = 0x1122,
				       .seq = 7,
				       .epoch = 3,
				       .wall_ns = 1700000000123456789,
				       .mono_ns = 987654321,
				       .step = JOURNAL_NO_STEP,
				       .type = type,
				       .actor = JOURNAL_ACTOR_PERSON,
				       .actor_uid = 1000};
	unsigned heads = maker_heads(type);
	memset(ret->boot_id, 0xb0, sizeof(ret->boot_id));
	memset(&ret->prev_hash, 0xa5, sizeof(ret->prev_hash));
	if (heads != MAKER_DAEMON)
		memset(&ret->run, 0x11, sizeof(ret->run));
	if (names_step(heads, all))
		ret->step = 5;
	if (heads == MAKER_ATTEMPT)
		ret->attempt = 2;
	fill_fields(ret, all);
}

struct maker {
	uint64_t seed;
	struct journal_state *state;
	struct journal_record last;
	struct buffer encoded, heads;
	char text[MAKER_IDS][8];
	int64_t now;
};

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t step_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

uint64_t maker_random(struct maker *m, uint64_t below)
{
	return step_random(&m->seed) % below;
}

struct maker *maker_new(uint64_t seed)
{
	struct maker *m = calloc(1, sizeof(*m));
	assert(m);
	m->seed = seed;
	m->now = 1700000000000000000;
	m->state = journal_state_new();
	assert(m->state);
	return m;
}

void maker_free(struct maker *m)
{
	if (!m)
		return;
	journal_state_free(m->state);
	buffer_free(&m->encoded);
	buffer_free(&m->heads);
	free(m);
}

const struct journal_state *maker_state(const struct maker *m)
{
	return m->state;
}

struct bytes maker_bytes(const struct maker *m)
{
	return buffer_bytes(&m->encoded);
}

int maker_fold(struct journal_state *s, struct journal_record *r, struct error *err)
{
	AUTO_BUFFER b = {0};
	struct digest hash;
	journal_state_fill(s, r);
	int rc = journal_record_encode(r, &b);
	if (rc < 0)
		return rc;
	journal_record_hash(buffer_bytes(&b), &hash);
	return journal_fold(s, r, &hash, err);
}

static void random_id(struct maker *m, char tag, uint64_t n, struct journal_id *ret)
{
	uint64_t seed = n * 256 + (uint8_t)tag;
	for (int i = 0; i < JOURNAL_ID_SIZE; i += 8) {
		uint64_t v = step_random(&seed);
		memcpy(ret->b + i, &v, 8);
	}
	(void)m;
}

static void random_field(struct maker *m, unsigned num, struct journal_payload *p)
{
	const struct journal_record_field *f = journal_record_field(num);
	uint8_t *at = (uint8_t *)p + f->offset;
	char *text = m->text[num % MAKER_IDS];
	sample_field(p, num);
	switch (f->kind) {
	case JOURNAL_RECORD_UINT:
		*(uint64_t *)at = maker_random(m, num == JOURNAL_F_weaker ? 1u << 30
						  : num == JOURNAL_F_kind ? 9
									  : 3);
		break;
	case JOURNAL_RECORD_INT:
		*(int64_t *)at = (int64_t)maker_random(m, 1 << 20);
		break;
	case JOURNAL_RECORD_TEXT:
	case JOURNAL_RECORD_BYTES:
		snprintf(text, sizeof(m->text[0]), "t%u", (unsigned)maker_random(m, 1000));
		*(struct bytes *)at = bytes_str(text);
		break;
	case JOURNAL_RECORD_RAW:
		break;
	case JOURNAL_RECORD_DIGEST:
		memset(at, (int)maker_random(m, 4), DIGEST_SIZE);
		break;
	case JOURNAL_RECORD_ID:
		random_id(m, (char)num, maker_random(m, MAKER_IDS), (struct journal_id *)at);
		break;
	case JOURNAL_RECORD_BOOL:
		*(bool *)at = maker_random(m, 2);
		break;
	}
}

static void random_record(struct maker *m, struct journal_record *r)
{
	/* What is nearly always legal would drown what needs a long way there. */
	static const uint8_t rare[JOURNAL_TYPE_LIMIT] = {
		[JOURNAL_RUN_CANCELLING] = 60,	[JOURNAL_RUN_SUCCEEDED] = 60,
		[JOURNAL_RUN_FAILED] = 60,	[JOURNAL_STEP_CANCELLED] = 60,
		[JOURNAL_STEP_DECLARED] = 20,	[JOURNAL_STEP_DIVERGED] = 30,
		[JOURNAL_STEP_REUSED] = 30,	[JOURNAL_RUN_AGENCY] = 20,
		[JOURNAL_EPOCH_BEGUN] = 30,	[JOURNAL_TRUST_PINNED] = 30,
		[JOURNAL_TIMER_ARMED] = 10,	[JOURNAL_LEASE_HELD] = 5,
		[JOURNAL_LEASE_FREED] = 5,	[JOURNAL_ATTEMPT_ADOPTED] = 9,
		[JOURNAL_APPROVAL_OPENED] = 5,	[JOURNAL_RUN_PAUSED] = 9,
		[JOURNAL_RUN_WAITING] = 9,	[JOURNAL_STEP_FAILED] = 9,
		[JOURNAL_STEP_DENIED] = 9,	[JOURNAL_ATTEMPT_LOST] = 5,
		[JOURNAL_STEP_COMMITTED] = 3,	[JOURNAL_EFFECT_PROPOSED] = 5,
		[JOURNAL_EFFECT_READS] = 30,	[JOURNAL_EFFECT_ATTACHED] = 3,
		[JOURNAL_EFFECT_WITHDRAWN] = 8, [JOURNAL_EFFECT_DENIED] = 8,
		[JOURNAL_EFFECT_CONFIRMED] = 4, [JOURNAL_EFFECT_REFUSED] = 4,
		[JOURNAL_EFFECT_WAITING] = 3,
	};
	enum journal_type type;
	do {
		type = (enum journal_type)maker_random(m, JOURNAL_TYPE_LIMIT);
	} while (!journal_type_name(type) || type == JOURNAL_RUNS_DROPPED ||
		 type == JOURNAL_ANCHOR || (rare[type] && maker_random(m, rare[type])));
	*r = (struct journal_record){.type = type,
				     .step = JOURNAL_NO_STEP,
				     .actor = (enum journal_actor)maker_random(m, 3),
				     .actor_uid = (uint32_t)maker_random(m, 3),
				     .wall_ns = m->now,
				     .mono_ns = m->now / 2};
	unsigned heads = maker_heads(type);
	uint32_t steps = 0;
	if (heads != MAKER_DAEMON) {
		random_id(m, 'R', maker_random(m, MAKER_RUNS), &r->run);
		const struct journal_run *run = journal_state_run(m->state, &r->run);
		steps = run ? run->step_count : 0;
	}
	if (names_step(heads,
		       (heads & MAKER_RUN) && (heads & MAKER_STEP) && steps && maker_random(m, 2)))
		r->step = type == JOURNAL_STEP_DECLARED ? steps
			  : steps			? (uint32_t)maker_random(m, steps)
							: 0;
	if (heads == MAKER_ATTEMPT && r->step < steps) {
		const struct journal_run *run = journal_state_run(m->state, &r->run);
		r->attempt = run->steps[r->step]->attempt_count + (type == JOURNAL_ATTEMPT_STARTED);
	}
	for (unsigned num = 1; num < JOURNAL_FIELD_LIMIT; num++) {
		enum journal_record_use use = journal_record_use(type, num);
		if (use == JOURNAL_USE_MUST || (use == JOURNAL_USE_MAY && maker_random(m, 4) == 0))
			random_field(m, num, &r->p);
	}
	const struct journal_run *of = journal_state_run(m->state, &r->run);
	if (of && of->effect_count && JOURNAL_HAS(&r->p, effect) && maker_random(m, 4)) {
		const struct journal_effect *e =
			of->open_count && maker_random(m, 4)
				? of->open[maker_random(m, of->open_count)]
				: of->effects[maker_random(m, of->effect_count)];
		r->p.effect = e->id;
		r->step = e->step;
		if (heads == MAKER_ATTEMPT)
			r->attempt = of->steps[e->step]->attempt_count;
	}
	if (type == JOURNAL_EPOCH_BEGUN)
		r->epoch = journal_state_epoch(m->state) + 1 + maker_random(m, 3);
}

const struct journal_record *maker_next(struct maker *m)
{
	struct digest hash;
	for (int tries = 0; tries < MAKER_TRIES; tries++) {
		struct journal_record *r = &m->last;
		struct error err = {0};
		random_record(m, r);
		journal_state_fill(m->state, r);
		m->encoded.len = 0;
		if (journal_record_encode(r, &m->encoded) < 0) {
			m->encoded.failed = 0;
			continue;
		}
		journal_record_hash(buffer_bytes(&m->encoded), &hash);
		int rc = journal_fold(m->state, r, &hash, &err);
		assert(rc == 0 || rc == -EPROTO);
		if (rc == 0) {
			m->now += 1000 + (int64_t)maker_random(m, 1000);
			return r;
		}
	}
	fprintf(stderr, "maker: no legal record was found\n");
	abort();
}
