#include "tests/unit/journal/tamper.h"

#include <assert.h>
#include <stdio.h>

static struct journal_kv *open_kv(const struct folder *f)
{
	char path[PATH_MAX + 16];
	struct journal_kv *kv = NULL;
	struct error err = {0};
	snprintf(path, sizeof(path), "%s/journal", f->path);
	int rc = journal_kv_rocks_open(path, JOURNAL_KV_STRICT, false, &kv, &err);
	assert(rc == 0);
	return kv;
}

static void write_ops(const struct folder *f, struct buffer *ops)
{
	struct journal_kv *kv = open_kv(f);
	struct error err = {0};
	int rc = kv->ops->write(kv, buffer_bytes(ops), bytes_of("", 0), &err);
	assert(rc == 0);
	rc = kv->ops->sync(kv, &err);
	assert(rc == 0);
	kv->ops->close(kv);
}

void tamper_put(const struct folder *f, enum journal_family family, struct bytes key,
		struct bytes value)
{
	AUTO_BUFFER ops = {0};
	journal_kv_put(&ops, family, key, value);
	write_ops(f, &ops);
}

void tamper_delete(const struct folder *f, enum journal_family family, struct bytes key)
{
	AUTO_BUFFER ops = {0};
	journal_kv_delete(&ops, family, key);
	write_ops(f, &ops);
}

int tamper_get(const struct folder *f, enum journal_family family, struct bytes key,
	       struct buffer *out)
{
	struct journal_kv *kv = open_kv(f);
	int rc = kv->ops->get(kv, family, key, out, NULL);
	kv->ops->close(kv);
	return rc;
}
