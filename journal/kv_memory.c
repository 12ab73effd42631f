/* The store in memory: families as arrays ordered by key. For tests and for what fsck rebuilds. */
#include "journal/kv.h"

#include <errno.h>
#include <stdlib.h>
#include "base/guard.h"

struct entry {
	struct bytes key, value; /* one allocation, owned: key.data */
};

struct family {
	struct entry *entry;
	size_t count, cap;
};

struct memory {
	struct journal_kv kv;
	struct family family[JOURNAL_FAMILY_COUNT];
};

static size_t find(const struct family *f, struct bytes key, bool *found)
{
	size_t low = 0, high = f->count;
	*found = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = bytes_compare(f->entry[mid].key, key);
		if (order == 0) {
			*found = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int put(struct family *f, struct bytes key, struct bytes value)
{
	bool found;
	size_t at = find(f, key, &found);
	uint8_t *copy = malloc(key.len + value.len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, key.data, key.len);
	if (value.len)
		memcpy(copy + key.len, value.data, value.len);
	struct entry e = {bytes_of(copy, key.len), bytes_of(copy + key.len, value.len)};
	if (found) {
		free((void *)f->entry[at].key.data);
		f->entry[at] = e;
		return 0;
	}
	if (f->count == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 64;
		struct entry *grown = reallocarray(f->entry, cap, sizeof(*grown));
		if (!grown) {
			free(copy);
			return -ENOMEM;
		}
		f->entry = grown;
		f->cap = cap;
	}
	memmove(f->entry + at + 1, f->entry + at, (f->count - at) * sizeof(*f->entry));
	f->entry[at] = e;
	f->count++;
	return 0;
}

static void delete_key(struct family *f, struct bytes key)
{
	bool found;
	size_t at = find(f, key, &found);
	if (!found)
		return;
	free((void *)f->entry[at].key.data);
	f->count--;
	memmove(f->entry + at, f->entry + at + 1, (f->count - at) * sizeof(*f->entry));
}

static int memory_write(struct journal_kv *kv, struct bytes batch, struct bytes mark,
			struct error *err)
{
	struct memory *m = (struct memory *)kv;
	enum journal_kv_op op;
	enum journal_family f;
	struct bytes key, value;
	(void)mark;
	while (journal_kv_next(&batch, &op, &f, &key, &value)) {
		if (op == JOURNAL_KV_DELETE)
			delete_key(&m->family[f], key);
		else if (put(&m->family[f], key, value) < 0)
			return error_nomem(err);
	}
	return 0;
}

static int memory_sync(struct journal_kv *kv, struct error *err)
{
	(void)kv;
	(void)err;
	return 0;
}

static int memory_get(struct journal_kv *kv, enum journal_family f, struct bytes key,
		      struct buffer *out, struct error *err)
{
	struct memory *m = (struct memory *)kv;
	bool found;
	size_t at = find(&m->family[f], key, &found);
	(void)err;
	if (!found)
		return -ENOENT;
	struct bytes value = m->family[f].entry[at].value;
	return buffer_append(out, value.data, value.len);
}

static bool has_prefix(struct bytes key, struct bytes prefix)
{
	return key.len >= prefix.len &&
	       (prefix.len == 0 || memcmp(key.data, prefix.data, prefix.len) == 0);
}

/* The first key past all that begin with prefix. */
static size_t past_prefix(const struct family *f, struct bytes prefix)
{
	bool found;
	size_t at = find(f, prefix, &found);
	while (at < f->count && has_prefix(f->entry[at].key, prefix))
		at++;
	return at;
}

static int memory_each(struct journal_kv *kv, enum journal_family family, struct bytes prefix,
		       struct bytes from, bool reverse, journal_kv_fn *fn, void *arg)
{
	struct family *f = &((struct memory *)kv)->family[family];
	bool found;
	int rc = 0;
	if (!reverse) {
		size_t at = find(f, from.len ? from : prefix, &found);
		for (; rc == 0 && at < f->count && has_prefix(f->entry[at].key, prefix); at++)
			rc = fn(f->entry[at].key, f->entry[at].value, arg);
		return rc;
	}
	size_t at = from.len ? find(f, from, &found) : past_prefix(f, prefix);
	if (from.len && found)
		at++;
	while (rc == 0 && at-- > 0 && has_prefix(f->entry[at].key, prefix))
		rc = fn(f->entry[at].key, f->entry[at].value, arg);
	return rc;
}

static void memory_close(struct journal_kv *kv)
{
	struct memory *m = (struct memory *)kv;
	for (int f = 0; f < JOURNAL_FAMILY_COUNT; f++) {
		for (size_t i = 0; i < m->family[f].count; i++)
			free((void *)m->family[f].entry[i].key.data);
		free(m->family[f].entry);
	}
	free(m);
}

static int memory_snapshot(struct journal_kv *kv, struct journal_kv **ret);

static const struct journal_kv_ops memory_ops = {.write = memory_write,
						 .sync = memory_sync,
						 .get = memory_get,
						 .each = memory_each,
						 .snapshot = memory_snapshot,
						 .close = memory_close};

static int memory_snapshot(struct journal_kv *kv, struct journal_kv **ret)
{
	const struct memory *m = (const struct memory *)kv;
	struct journal_kv *copy;
	int rc = journal_kv_memory_open(&copy);
	if (rc < 0)
		return rc;
	for (int f = 0; f < JOURNAL_FAMILY_COUNT; f++)
		for (size_t i = 0; rc == 0 && i < m->family[f].count; i++)
			rc = put(&((struct memory *)copy)->family[f], m->family[f].entry[i].key,
				 m->family[f].entry[i].value);
	if (rc < 0) {
		copy->ops->close(copy);
		return rc;
	}
	*ret = copy;
	return 0;
}

int journal_kv_memory_open(struct journal_kv **ret)
{
	struct memory *m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->kv.ops = &memory_ops;
	*ret = &m->kv;
	return 0;
}
