/* What stands in the user's directory, by path; the run's clock; and the memory of plans. */
#include "supervisor/landing_plan.h"

#include <errno.h>
#include <stdlib.h>

#include "supervisor/landing_arena.h"

enum { CHUNK_BYTES = 64 * 1024 };

struct chunk {
	struct chunk *next;
	size_t used, size;
	uint8_t data[];
};

struct landing_arena {
	struct chunk *chunks;
};

struct landing_arena *landing_arena_new(void)
{
	return calloc(1, sizeof(struct landing_arena));
}

void landing_arena_free(struct landing_arena *a)
{
	if (!a)
		return;
	for (struct chunk *c = a->chunks; c;) {
		struct chunk *next = c->next;

		free(c);
		c = next;
	}
	free(a);
}

int landing_arena_keep(struct landing_arena *a, struct bytes b, struct bytes *ret)
{
	if (b.len == 0) {
		*ret = bytes_of("", 0);
		return 0;
	}
	if (!a->chunks || a->chunks->size - a->chunks->used < b.len) {
		size_t size = b.len > CHUNK_BYTES ? b.len : CHUNK_BYTES;
		struct chunk *c = malloc(sizeof(*c) + size);

		if (!c)
			return -ENOMEM;
		*c = (struct chunk){.next = a->chunks, .size = size};
		a->chunks = c;
	}
	uint8_t *at = a->chunks->data + a->chunks->used;

	memcpy(at, b.data, b.len);
	a->chunks->used += b.len;
	*ret = bytes_of(at, b.len);
	return 0;
}

int landing_arena_keep_state(struct landing_arena *a, struct landing_state *s)
{
	return landing_arena_keep(a, s->target, &s->target);
}

int landing_arena_grow(void **array, size_t count, size_t size)
{
	void *grown;

	if (count != 0 && (count < 16 || (count & (count - 1)) != 0))
		return 0; /* the sizes are 16 and the powers of two above it */
	grown = reallocarray(*array, count ? count * 2 : 16, size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	return 0;
}

/* ---- facts ---- */

struct fact {
	struct bytes path;
	struct landing_state state;
	bool stranger;
};

struct landing_facts {
	struct landing_arena *arena;
	struct fact *facts;
	size_t count, stranger_count;
	size_t *slots; /* index + 1 into facts; 0 = free */
	size_t slot_count; /* a power of two, at most half full */
	struct bytes *states; /* folders */
	size_t state_count;
};

struct landing_facts *landing_facts_new(void)
{
	struct landing_facts *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->arena = landing_arena_new();
	f->slot_count = 64;
	f->slots = calloc(f->slot_count, sizeof(*f->slots));
	if (f->arena && f->slots)
		return f;
	landing_facts_free(f);
	return NULL;
}

void landing_facts_free(struct landing_facts *f)
{
	if (!f)
		return;
	landing_arena_free(f->arena);
	free(f->facts);
	free(f->slots);
	free(f->states);
	free(f);
}

/* FNV-1a. Paths are an agent's, who could make them collide: the cost is bound by
 * MANIFEST_ENTRIES_MAX and is its run's. */
static size_t hash(struct bytes path)
{
	const uint8_t *p = path.data;
	uint64_t h = 0xcbf29ce484222325;

	for (size_t i = 0; i < path.len; i++)
		h = (h ^ p[i]) * 0x100000001b3;
	return (size_t)(h ^ h >> 32);
}

static size_t slot_of(const struct landing_facts *f, struct bytes path)
{
	size_t i = hash(path) & (f->slot_count - 1);

	while (f->slots[i] && !bytes_equal(f->facts[f->slots[i] - 1].path, path))
		i = (i + 1) & (f->slot_count - 1);
	return i;
}

static int make_room(struct landing_facts *f)
{
	size_t *slots;

	if (f->count * 2 < f->slot_count)
		return 0;
	slots = calloc(f->slot_count * 2, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	free(f->slots);
	f->slots = slots;
	f->slot_count *= 2;
	for (size_t i = 0; i < f->count; i++)
		f->slots[slot_of(f, f->facts[i].path)] = i + 1;
	return 0;
}

static int add(struct landing_facts *f, struct bytes path, const struct landing_state *s,
	       bool stranger)
{
	struct fact fact = {.state = *s, .stranger = stranger};
	size_t slot;
	int r = make_room(f);

	if (r < 0)
		return r;
	slot = slot_of(f, path);
	if (f->slots[slot])
		return 0;
	r = landing_arena_keep(f->arena, path, &fact.path);
	if (r == 0)
		r = landing_arena_keep_state(f->arena, &fact.state);
	if (r == 0)
		r = landing_arena_grow((void **)&f->facts, f->count, sizeof(*f->facts));
	if (r < 0)
		return r;
	f->facts[f->count++] = fact;
	f->slots[slot] = f->count;
	f->stranger_count += stranger;
	return 0;
}

int landing_facts_add(struct landing_facts *f, struct bytes path, const struct landing_state *s)
{
	return add(f, path, s, false);
}

int landing_facts_add_stranger(struct landing_facts *f, struct bytes path,
			       const struct landing_state *s)
{
	return add(f, path, s, true);
}

bool landing_facts_next_stranger(const struct landing_facts *f, size_t *at, struct bytes *ret_path)
{
	while (*at < f->count) {
		const struct fact *fact = &f->facts[(*at)++];

		if (fact->stranger) {
			*ret_path = fact->path;
			return true;
		}
	}
	return false;
}

size_t landing_facts_stranger_count(const struct landing_facts *f)
{
	return f->stranger_count;
}

int landing_facts_add_state(struct landing_facts *f, struct bytes folder)
{
	struct bytes kept;
	int r = landing_arena_keep(f->arena, folder, &kept);

	if (r == 0)
		r = landing_arena_grow((void **)&f->states, f->state_count, sizeof(*f->states));
	if (r == 0)
		f->states[f->state_count++] = kept;
	return r;
}

bool landing_facts_in_state(const struct landing_facts *f, struct bytes path)
{
	for (size_t i = 0; i < f->state_count; i++) {
		struct bytes s = f->states[i];

		if (s.len == 0 || (path.len >= s.len && memcmp(path.data, s.data, s.len) == 0 &&
				   (path.len == s.len || ((const char *)path.data)[s.len] == '/')))
			return true;
	}
	return false;
}

const struct landing_state *landing_facts_find(struct landing_facts *f, struct bytes path)
{
	size_t slot = slot_of(f, path);

	return f->slots[slot] ? &f->facts[f->slots[slot] - 1].state : NULL;
}

/* ---- the run's clock ---- */

void landing_clock_start(struct landing_clock *c, int64_t started_ns, int64_t granularity_ns)
{
	*c = (struct landing_clock){.started_ns = started_ns, .granularity_ns = granularity_ns};
}

void landing_clock_see(struct landing_clock *c, int64_t wall_ns, int64_t mono_ns,
		       const uint8_t boot_id[16])
{
	int64_t offset = wall_ns - mono_ns;

	if (c->seen && memcmp(c->boot_id, boot_id, sizeof(c->boot_id)) != 0) {
		if (wall_ns < c->wall_ns)
			c->suspect = true;
		c->offset_max_ns = offset;
	} else if (!c->seen || offset > c->offset_max_ns) {
		c->offset_max_ns = offset;
	}
	/* Against the highest so far: a clock that went forward and back again stamped files both
	 * ways. */
	if (c->offset_max_ns - offset > c->back_ns)
		c->back_ns = c->offset_max_ns - offset;
	if (c->back_ns > LANDING_CLOCK_SLEW_MAX_MS * INT64_C(1000000))
		c->suspect = true;
	memcpy(c->boot_id, boot_id, sizeof(c->boot_id));
	c->wall_ns = wall_ns;
	c->offset_ns = offset;
	c->seen = true;
}
