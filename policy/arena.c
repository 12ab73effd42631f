/* The memory of one policy: blocks that live and die together. */
#include "policy/model.h"
#include <stdio.h>

enum { BLOCK_SIZE = 16 * 1024, ALIGN = 16 };

struct policy_block {
	struct policy_block *next;
	size_t used;
	size_t size;
	_Alignas(ALIGN) unsigned char data[];
};

void *policy_arena_alloc(struct policy_arena *a, size_t size)
{
	struct policy_block *b = a->blocks;
	size_t need = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	void *p;

	if (need < size) {
		a->failed = true;
		return NULL;
	}
	if (!b || b->size - b->used < need) {
		size_t room = need > BLOCK_SIZE ? need : BLOCK_SIZE;

		b = calloc(1, sizeof(*b) + room);
		if (!b) {
			a->failed = true;
			return NULL;
		}
		b->size = room;
		b->next = a->blocks;
		a->blocks = b;
	}
	p = b->data + b->used;
	b->used += need;
	return p;
}

void *policy_arena_push(struct policy_arena *a, void *items, size_t n, size_t item_size)
{
	void *grown;

	/* Room for a power of two of items: only at one is there none left. */
	if (n != 0 && (n & (n - 1)) != 0)
		return items;
	if (n > (size_t)1 << 24) {
		a->failed = true;
		return NULL;
	}
	grown = policy_arena_alloc(a, (n ? 2 * n : 1) * item_size);
	if (grown && n)
		memcpy(grown, items, n * item_size);
	return grown;
}

const char *policy_arena_text(struct policy_arena *a, struct bytes text)
{
	char *s = policy_arena_alloc(a, text.len + 1);

	if (s && text.len)
		memcpy(s, text.data, text.len);
	return s;
}

const char *policy_arena_printf(struct policy_arena *a, const char *fmt, ...)
{
	va_list args;
	char *s;
	int n;

	va_start(args, fmt);
	n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	s = n < 0 ? NULL : policy_arena_alloc(a, (size_t)n + 1);
	if (!s)
		return NULL;
	va_start(args, fmt);
	vsnprintf(s, (size_t)n + 1, fmt, args);
	va_end(args);
	return s;
}

void policy_arena_free(struct policy_arena *a)
{
	for (struct policy_block *b = a->blocks; b;) {
		struct policy_block *next = b->next;

		free(b);
		b = next;
	}
	*a = (struct policy_arena){0};
}
