#pragma once
/*
 * Memory of one plan: bytes by the thousand, freed at once. Private to the landing_*.c files of
 * supervisor_pure.
 */
#include "base/buffer.h"
#include "supervisor/landing_plan.h"

struct landing_arena;
struct landing_arena *landing_arena_new(void); /* NULL when out of memory */
void landing_arena_free(struct landing_arena *a); /* accepts NULL */
DEFINE_GUARD(struct landing_arena *, landing_arena_free)
/* Copies b; *ret stays valid until the arena is freed. -ENOMEM. */
MUST_CHECK int landing_arena_keep(struct landing_arena *a, struct bytes b, struct bytes *ret);
MUST_CHECK int landing_arena_keep_state(struct landing_arena *a, struct landing_state *s);
/* Room for one more in an array of count items, that doubles. */
MUST_CHECK int landing_arena_grow(void **array, size_t count, size_t size);
