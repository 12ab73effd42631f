/* gc: runs that are over and old enough go, their heads stay; then blobs that nothing names. */
#include "journal/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cbor.h"
#include "base/guard.h"
#include "base/io.h"
#include "journal/blob.h"

enum { GC_RUNS_A_BATCH = 256, GC_BLOBS_A_BATCH = 4096, GC_SCAN_CHUNK = 1 << 20 };

/* ---- Runs ---- */

struct drop {
	struct journal *j;
	int64_t before_ns;
	struct journal_head heads[GC_RUNS_A_BATCH];
	size_t count;
	struct buffer ops; /* the deletes of these; they reach the journal's batch with RUNS_DROPPED
			      or not at all */
	uint64_t total;
	journal_gc_run_fn *tell; /* NULL: they are dropped */
	void *tell_arg;
	struct error *err;
};

static int delete_event(struct bytes key, struct bytes value, void *arg)
{
	(void)value;
	journal_kv_delete(arg, JOURNAL_FAMILY_EVENT, key);
	return 0;
}

static int delete_row(struct bytes key, struct bytes value, void *arg)
{
	(void)value;
	journal_kv_delete(arg, JOURNAL_FAMILY_STATE, key);
	return 0;
}

static int delete_index(struct bytes key, struct bytes value, void *arg)
{
	(void)value;
	journal_kv_delete(arg, JOURNAL_FAMILY_INDEX, key);
	return 0;
}

static void forget_head(struct journal *j, const struct journal_id *run)
{
	for (size_t i = 0; i < j->head_count; i++)
		if (journal_id_equal(&j->heads[i].head.run, run)) {
			j->heads[i] = j->heads[--j->head_count];
			return;
		}
}

/* Everything that has the run's name on it. */
static int delete_run(struct drop *d, const struct journal_run *run,
		      const struct journal_state *rows)
{
	static const uint8_t kinds[] = {JOURNAL_ROW_STEP, JOURNAL_ROW_ATTEMPT, JOURNAL_ROW_EFFECT,
					JOURNAL_ROW_APPROVAL, JOURNAL_ROW_TIMER};
	struct journal *j = d->j;
	struct buffer *ops = &d->ops;
	uint8_t key[1 + JOURNAL_ID_SIZE];
	int rc = j->kv->ops->each(j->kv, JOURNAL_FAMILY_EVENT, bytes_of(run->id.b, JOURNAL_ID_SIZE),
				  bytes_of(NULL, 0), false, delete_event, ops);
	for (size_t i = 0; rc == 0 && i < sizeof(kinds); i++)
		rc = j->kv->ops->each(j->kv, JOURNAL_FAMILY_STATE,
				      journal_store_tag_key(kinds[i], &run->id, key),
				      bytes_of(NULL, 0), false, delete_row, ops);
	if (rc == 0)
		rc = journal_store_each_index(run, delete_index, ops);
	for (size_t i = 0; i < rows->approvals.count; i++) {
		const struct journal_approval *a = rows->approvals.item[i];
		if (journal_id_equal(&a->run, &run->id))
			journal_kv_delete(ops, JOURNAL_FAMILY_INDEX,
					  journal_store_tag_key(JOURNAL_INDEX_APPROVAL, &a->id,
								key));
	}
	for (uint32_t i = 0; i < run->effect_count; i++)
		journal_kv_delete(ops, JOURNAL_FAMILY_INDEX,
				  journal_store_tag_key(JOURNAL_INDEX_EFFECT, &run->effects[i]->id,
							key));
	journal_kv_delete(ops, JOURNAL_FAMILY_META,
			  journal_store_tag_key(JOURNAL_META_HEAD, &run->id, key));
	journal_kv_delete(ops, JOURNAL_FAMILY_META,
			  journal_store_tag_key(JOURNAL_META_UNANCHORED, &run->id, key));
	return rc < 0 ? rc : ops->failed;
}

static int drop_batch(struct drop *d)
{
	AUTO_BUFFER raw = {0};
	if (d->count == 0)
		return 0;
	int rc = journal_heads_encode(d->heads, d->count, &raw);
	if (rc < 0)
		return rc;
	struct buffer *batch = &d->j->batch;
	rc = buffer_append(batch, d->ops.data, d->ops.len);
	if (rc < 0) {
		batch->failed = 0; /* nothing was appended: the journal goes on without gc */
		return rc;
	}
	for (size_t i = 0; i < d->count; i++)
		forget_head(d->j, &d->heads[i].run);
	struct journal_record r = {.type = JOURNAL_RUNS_DROPPED, .step = JOURNAL_NO_STEP};
	JOURNAL_SET(&r.p, heads, buffer_bytes(&raw));
	journal_append(d->j, &r, NULL);
	journal_flush(d->j, true);
	d->total += d->count;
	d->count = d->ops.len = 0;
	return 0;
}

/* A run that is forked from keeps its own copy of nothing: its layers are named by the fork's own
 * record. */
static int consider(struct drop *d, const struct journal_id *id)
{
	struct journal_state *rows = journal_state_new();
	if (!rows)
		return -ENOMEM;
	int rc = journal_store_load_run(d->j->kv, rows, id, d->err);
	const struct journal_run *run = rc == 0 ? journal_state_run(rows, id) : NULL;
	bool goes = run && journal_rows_run_settled(run) && run->ended_ns < d->before_ns;
	if (goes && d->tell) {
		d->tell(run, d->tell_arg);
	} else if (goes) {
		d->heads[d->count++] = (struct journal_head){run->id, run->seq, run->head};
		rc = delete_run(d, run, rows);
		if (rc == 0 && d->count == GC_RUNS_A_BATCH)
			rc = drop_batch(d);
	}
	journal_state_free(rows);
	return rc;
}

static int collect_run(struct bytes key, struct bytes value, void *arg)
{
	(void)value;
	if (key.len != 9 + JOURNAL_ID_SIZE)
		return 0;
	return buffer_append(arg, (const uint8_t *)key.data + 9, JOURNAL_ID_SIZE);
}

static int consider_all(struct drop *d)
{
	const uint8_t tag = JOURNAL_INDEX_CREATED;
	struct journal *j = d->j;
	AUTO_BUFFER ids = {0};
	int rc = j->kv->ops->each(j->kv, JOURNAL_FAMILY_INDEX, bytes_of(&tag, 1), bytes_of(NULL, 0),
				  false, collect_run, &ids);
	for (size_t at = 0; rc == 0 && at < ids.len; at += JOURNAL_ID_SIZE) {
		struct journal_id id;
		memcpy(id.b, ids.data + at, JOURNAL_ID_SIZE);
		rc = consider(d, &id);
	}
	return rc;
}

static int drop_runs(struct journal *j, int64_t before_ns, uint64_t *ret_runs, struct error *err)
{
	struct drop d = {.j = j, .before_ns = before_ns, .ops = {.max = SIZE_MAX}, .err = err};
	int rc = consider_all(&d);
	if (rc == 0)
		rc = drop_batch(&d);
	buffer_free(&d.ops);
	*ret_runs = d.total;
	return rc;
}

int journal_gc_each(struct journal *j, int64_t ended_before_ns, journal_gc_run_fn *fn, void *arg,
		    struct error *err)
{
	struct drop d = {
		.j = j, .before_ns = ended_before_ns, .tell = fn, .tell_arg = arg, .err = err};
	int rc = consider_all(&d);
	return rc < 0 ? error_set(err, rc, "gc: %s", strerror(-rc)) : 0;
}

/* ---- Blobs ---- */

struct mark {
	struct journal *j;
	struct journal_digestset known; /* every blob there is */
	struct journal_digestset named;
	struct digest *todo; /* named and not yet looked into */
	size_t todo_count, todo_cap;
	struct journal_report report;
};

static int name_digest(const struct digest *d, bool must, void *arg)
{
	struct mark *m = arg;
	(void)must;
	int rc = journal_digestset_add(&m->named, d);
	if (rc <= 0)
		return rc;
	if (m->todo_count == m->todo_cap) {
		size_t cap = m->todo_cap ? m->todo_cap * 2 : 1024;
		struct digest *grown = reallocarray(m->todo, cap, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		m->todo = grown;
		m->todo_cap = cap;
	}
	m->todo[m->todo_count++] = *d;
	return 0;
}

static int mark_event(struct bytes key, struct bytes value, void *arg)
{
	struct mark *m = arg;
	struct journal_record r;
	(void)key;
	/* Nothing is removed from a journal that cannot be read whole. */
	int rc = journal_record_decode(value, &r);
	if (rc < 0)
		return rc;
	m->report.events++;
	return journal_audit_each_digest(&r, name_digest, m);
}

static int know_inline(struct bytes key, struct bytes value, void *arg)
{
	struct mark *m = arg;
	struct digest d;
	(void)value;
	if (key.len != DIGEST_SIZE)
		return 0;
	memcpy(d.b, key.data, DIGEST_SIZE);
	int rc = journal_digestset_add(&m->known, &d);
	return rc < 0 ? rc : 0;
}

static int know_file(const struct digest *d, int folder, const char *name, void *arg)
{
	struct mark *m = arg;
	(void)folder;
	(void)name;
	int rc = d ? journal_digestset_add(&m->known, d) : 0;
	return rc < 0 ? rc : 0;
}

static int know_blobs(struct mark *m)
{
	int rc = m->j->kv->ops->each(m->j->kv, JOURNAL_FAMILY_BLOB, bytes_of(NULL, 0),
				     bytes_of(NULL, 0), false, know_inline, m);
	return rc < 0 ? rc : journal_audit_each_file(m->j, know_file, m);
}

enum { NAMED_SIZE = 2 + DIGEST_SIZE }; /* canonical CBOR: a byte string of 32 has one head, 58 20 */

/*
 * A blob may name others (a redo plan's pre-images, a map of results). What it is does not matter,
 * nor how large it is: finding names at every place only keeps too much. Only names of blobs that
 * exist count, so that what an agent wrote cannot make the set grow past their number.
 */
static int mark_within(struct mark *m, struct bytes content)
{
	const uint8_t *p = content.data, *end = p + content.len;
	while (end - p >= NAMED_SIZE && (p = memchr(p, 0x58, (size_t)(end - p) - NAMED_SIZE + 1))) {
		struct digest d;
		if (p[1] == DIGEST_SIZE) {
			memcpy(d.b, p + 2, DIGEST_SIZE);
			int rc = journal_digestset_has(&m->known, &d) ? name_digest(&d, false, m)
								      : 0;
			if (rc < 0)
				return rc;
		}
		p++;
	}
	return 0;
}

/* By chunks: a name that lies across two is found with the second. */
static int mark_large(struct mark *m, const struct digest *d)
{
	AUTO_FD fd = journal_blob_open(m->j, d, NULL);
	AUTO_FREE uint8_t *chunk = malloc(GC_SCAN_CHUNK);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	if (fd < 0 || size < 0)
		return fd < 0 ? fd : -errno;
	if (!chunk)
		return -ENOMEM;
	for (off_t at = 0; at < size; at += GC_SCAN_CHUNK - NAMED_SIZE + 1) {
		size_t len = size - at < GC_SCAN_CHUNK ? (size_t)(size - at) : GC_SCAN_CHUNK;
		int rc = io_pread_all(fd, chunk, len, at);
		if (rc == 0)
			rc = mark_within(m, bytes_of(chunk, len));
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int mark_blobs(struct mark *m)
{
	int rc = know_blobs(m);
	if (rc == 0)
		rc = m->j->kv->ops->each(m->j->kv, JOURNAL_FAMILY_EVENT, bytes_of(NULL, 0),
					 bytes_of(NULL, 0), false, mark_event, m);
	while (rc == 0 && m->todo_count) {
		struct digest d = m->todo[--m->todo_count];
		if (!journal_digestset_has(&m->known, &d))
			continue; /* a digest that is no blob's */
		AUTO_BUFFER content = {.max = GC_SCAN_CHUNK + 1};
		rc = journal_blob_get(m->j, &d, GC_SCAN_CHUNK, &content, NULL);
		if (rc == 0)
			rc = mark_within(m, buffer_bytes(&content));
		else if (rc == -E2BIG)
			rc = mark_large(m, &d);
	}
	return rc;
}

struct sweep {
	struct mark *m;
	struct buffer ops;
	size_t pending;
	struct error *err;
};

static int sweep_inline(struct bytes key, struct bytes value, void *arg)
{
	struct sweep *s = arg;
	struct digest d;
	if (key.len != DIGEST_SIZE)
		return 0;
	memcpy(d.b, key.data, DIGEST_SIZE);
	if (journal_digestset_has(&s->m->named, &d))
		return 0;
	journal_kv_delete(&s->ops, JOURNAL_FAMILY_BLOB, key);
	s->m->report.blobs++;
	s->m->report.freed += value.len;
	if (++s->pending < GC_BLOBS_A_BATCH)
		return s->ops.failed;
	int rc = journal_store_write_now(s->m->j, buffer_bytes(&s->ops), s->err);
	s->ops.len = s->pending = 0;
	return rc;
}

static int sweep_file(const struct digest *d, int folder, const char *name, void *arg)
{
	struct sweep *s = arg;
	if (d && journal_digestset_has(&s->m->named, d))
		return 0;
	struct stat st;
	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || unlinkat(folder, name, 0) < 0)
		return -errno;
	s->m->report.blobs++;
	s->m->report.freed += (uint64_t)st.st_size;
	return 0;
}

static int sweep_blobs(struct mark *m, struct error *err)
{
	struct sweep s = {.m = m, .err = err, .ops = {.max = SIZE_MAX}};
	int rc = m->j->kv->ops->each(m->j->kv, JOURNAL_FAMILY_BLOB, bytes_of(NULL, 0),
				     bytes_of(NULL, 0), false, sweep_inline, &s);
	if (rc == 0 && s.ops.len)
		rc = journal_store_write_now(m->j, buffer_bytes(&s.ops), err);
	if (rc == 0)
		rc = journal_audit_each_file(m->j, sweep_file, &s);
	buffer_free(&s.ops);
	return rc;
}

int journal_gc(struct journal *j, int64_t ended_before_ns, struct journal_report *ret,
	       struct error *err)
{
	struct mark m = {.j = j};
	if (j->o.read_only || j->o.unloaded)
		return error_set(err, -EROFS, "gc: the journal is not open for writing");
	journal_flush(j, false);
	journal_store_drain(j);
	int rc = drop_runs(j, ended_before_ns, &m.report.runs, err);
	journal_store_drain(j);
	if (rc == 0)
		rc = mark_blobs(&m);
	if (rc == 0)
		rc = sweep_blobs(&m, err);
	journal_digestset_free(&m.known);
	journal_digestset_free(&m.named);
	free(m.todo);
	*ret = m.report;
	return rc < 0 ? error_set(err, rc, "gc: %s", strerror(-rc)) : 0;
}
