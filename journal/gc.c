/*
 * gc: runs that are over and old enough go, their heads stay; then blobs that nothing names.
 *
 * What takes long looks at a view and is any thread's; the journal goes on meanwhile. A run that
 * the view shows as over may have gone on since (it lands, an effect of it is undone): it is dropped
 * by the journal's own thread, and only if its head is still the one that was seen, and nobody says
 * that it is about to go on, which no record tells yet. A blob that no record of the view names may
 * be put, and named, since: spared (blob.c) has all that were put since the collection began, each
 * looked up under the lock under which blobs go.
 */
#include "journal/audit.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cbor.h"
#include "base/failpoint.h"
#include "base/guard.h"
#include "base/io.h"
#include "journal/blob.h"

enum {
	GC_RUNS_A_BATCH = 128,
	GC_DELETES_A_BATCH = 1 << 20, /* bytes, but for one run that has more */
	GC_BLOBS_A_BATCH = 4096,
	GC_SCAN_CHUNK = 1 << 20,
};

enum stage { STAGE_DROP, STAGE_SWEEP };

struct journal_gc {
	struct journal *j;
	int64_t before_ns;
	journal_keep_fn *keep;
	void *keep_arg;
	struct journal_view *view; /* of the stage; owned */
	enum stage stage;
	atomic_bool stopped;
	/* STAGE_DROP: of the view, and what is to go next. */
	bool listed;
	struct buffer ids;
	size_t at; /* of ids */
	struct candidate {
		struct journal_head head;
		size_t end; /* of ops: its deletes, from the end of the one before */
	} candidates[GC_RUNS_A_BATCH];
	size_t count;
	struct buffer ops;
	/* What came of the work. */
	int result;
	struct error err;
	struct journal_report report;
};

/* ---- Runs ---- */

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
static int delete_run(struct journal_gc *g, const struct journal_run *run,
		      const struct journal_state *rows)
{
	static const uint8_t kinds[] = {JOURNAL_ROW_STEP, JOURNAL_ROW_ATTEMPT, JOURNAL_ROW_EFFECT,
					JOURNAL_ROW_APPROVAL, JOURNAL_ROW_TIMER};
	const struct journal_view *v = g->view;
	struct buffer *ops = &g->ops;
	uint8_t key[1 + JOURNAL_ID_SIZE];
	int rc = journal_audit_each(v, JOURNAL_FAMILY_EVENT, bytes_of(run->id.b, JOURNAL_ID_SIZE),
				    delete_event, ops);
	for (size_t i = 0; rc == 0 && i < sizeof(kinds); i++)
		rc = journal_audit_each(v, JOURNAL_FAMILY_STATE,
					journal_store_tag_key(kinds[i], &run->id, key), delete_row,
					ops);
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

static bool goes(const struct journal_run *run, int64_t before_ns)
{
	return run && journal_run_settled(run) && run->ended_ns < before_ns;
}

/* A run that is forked from keeps its own copy of nothing: its layers are named by the fork's own
 * record. */
static int consider(struct journal_gc *g, const struct journal_id *id)
{
	struct journal_state *rows = journal_state_new();
	if (!rows)
		return -ENOMEM;
	int rc = journal_store_load_run(g->view->kv, rows, id, &g->err);
	const struct journal_run *run = rc == 0 ? journal_state_run(rows, id) : NULL;
	if (goes(run, g->before_ns)) {
		rc = delete_run(g, run, rows);
		g->candidates[g->count++] =
			(struct candidate){{run->id, run->seq, run->head}, g->ops.len};
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

static int list_runs(const struct journal_view *v, struct buffer *ret_ids)
{
	const uint8_t tag = JOURNAL_INDEX_CREATED;
	return journal_audit_each(v, JOURNAL_FAMILY_INDEX, bytes_of(&tag, 1), collect_run, ret_ids);
}

/* The next runs that are to go. */
static int find_runs(struct journal_gc *g)
{
	int rc = g->listed ? 0 : list_runs(g->view, &g->ids);
	g->listed = true;
	for (; rc == 0 && g->at < g->ids.len && g->count < GC_RUNS_A_BATCH &&
	       g->ops.len < GC_DELETES_A_BATCH;
	     g->at += JOURNAL_ID_SIZE) {
		struct journal_id id;
		memcpy(id.b, g->ids.data + g->at, JOURNAL_ID_SIZE);
		rc = atomic_load(&g->stopped) ? -ECANCELED : consider(g, &id);
	}
	return rc;
}

static bool unchanged(struct journal *j, const struct journal_head *seen)
{
	const struct journal_run *row = journal_state_run(j->state, &seen->run);
	uint8_t key[1 + JOURNAL_ID_SIZE];
	struct journal_head now;
	AUTO_BUFFER value = {0};
	int rc = j->kv->ops->get(j->kv, JOURNAL_FAMILY_META,
				 journal_store_tag_key(JOURNAL_META_HEAD, &seen->run, key), &value,
				 NULL);
	return rc == 0 && journal_store_head_read(buffer_bytes(&value), &now) &&
	       now.seq == seen->seq && digest_equal(&now.hash, &seen->hash) &&
	       (!row || row->seq == seen->seq);
}

/* The deletes reach the journal's batch with RUNS_DROPPED or not at all. */
static int drop_runs(struct journal_gc *g)
{
	struct journal *j = g->j;
	struct buffer *batch = &j->batch;
	struct journal_head heads[GC_RUNS_A_BATCH];
	size_t count = 0, from = 0;
	AUTO_BUFFER raw = {0};
	AUTO_BUFFER ops = {.max = SIZE_MAX};
	if (j->batch_last)
		journal_flush(j, false);
	journal_store_drain(j);
	for (size_t i = 0; i < g->count; from = g->candidates[i++].end) {
		const struct journal_head *seen = &g->candidates[i].head;
		if (!unchanged(j, seen) || (g->keep && g->keep(&seen->run, g->keep_arg)))
			continue;
		heads[count++] = g->candidates[i].head;
		buffer_append(&ops, g->ops.data + from, g->candidates[i].end - from);
	}
	g->count = g->ops.len = 0;
	if (count == 0)
		return ops.failed;
	int rc = ops.failed ? ops.failed : journal_heads_encode(heads, count, &raw);
	if (rc == 0)
		rc = buffer_append(batch, ops.data, ops.len);
	if (rc < 0) {
		batch->failed = 0; /* nothing was appended: the journal goes on without gc */
		return rc;
	}
	for (size_t i = 0; i < count; i++)
		forget_head(j, &heads[i].run);
	struct journal_record r = {.type = JOURNAL_RUNS_DROPPED, .step = JOURNAL_NO_STEP};
	JOURNAL_SET(&r.p, heads, buffer_bytes(&raw));
	journal_append(j, &r, NULL);
	journal_flush(j, true);
	g->report.runs += count;
	return 0;
}

int journal_view_gc_each(const struct journal_view *v, int64_t ended_before_ns,
			 journal_gc_run_fn *fn, void *arg, struct error *err)
{
	AUTO_BUFFER ids = {.max = SIZE_MAX};
	int rc = list_runs(v, &ids);
	for (size_t at = 0; rc == 0 && at < ids.len; at += JOURNAL_ID_SIZE) {
		struct journal_state *rows = journal_state_new();
		struct journal_id id;
		memcpy(id.b, ids.data + at, JOURNAL_ID_SIZE);
		rc = !rows			? -ENOMEM
		     : atomic_load(&v->stopped) ? -ECANCELED
						: journal_store_load_run(v->kv, rows, &id, err);
		if (rc == 0 && goes(journal_state_run(rows, &id), ended_before_ns))
			fn(journal_state_run(rows, &id), arg);
		journal_state_free(rows);
	}
	return rc < 0 ? error_set(err, rc, "gc: %s", strerror(-rc)) : 0;
}

int journal_gc_each(struct journal *j, int64_t ended_before_ns, journal_gc_run_fn *fn, void *arg,
		    struct error *err)
{
	AUTO(journal_view_free) struct journal_view *v = NULL;
	int rc = journal_view_new(j, &v, err);
	return rc < 0 ? rc : journal_view_gc_each(v, ended_before_ns, fn, arg, err);
}

/* ---- Blobs ---- */

struct mark {
	struct journal_gc *g;
	struct journal_digestset known; /* every blob there is */
	struct journal_digestset named;
	struct digest *todo; /* named and not yet looked into */
	size_t todo_count, todo_cap;
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
	m->g->report.events++;
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
	const struct journal_view *v = m->g->view;
	int rc = journal_audit_each(v, JOURNAL_FAMILY_BLOB, bytes_of(NULL, 0), know_inline, m);
	return rc < 0 ? rc : journal_audit_each_file(v, know_file, m);
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
	AUTO_FD fd = journal_blob_open(m->g->j, d, NULL);
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
	const struct journal_view *v = m->g->view;
	int rc = know_blobs(m);
	if (rc == 0)
		rc = journal_audit_each(v, JOURNAL_FAMILY_EVENT, bytes_of(NULL, 0), mark_event, m);
	while (rc == 0 && m->todo_count) {
		struct digest d = m->todo[--m->todo_count];
		AUTO_BUFFER content = {.max = JOURNAL_BLOB_MAX};
		if (!journal_digestset_has(&m->known, &d))
			continue; /* a digest that is no blob's */
		rc = atomic_load(&m->g->stopped)
			     ? -ECANCELED
			     : v->kv->ops->get(v->kv, JOURNAL_FAMILY_BLOB,
					       bytes_of(d.b, DIGEST_SIZE), &content, NULL);
		if (rc == 0)
			rc = mark_within(m, buffer_bytes(&content));
		else if (rc == -ENOENT)
			rc = mark_large(m, &d);
	}
	return rc;
}

struct sweep {
	struct mark *m;
	struct digest pending[GC_BLOBS_A_BATCH];
	size_t sizes[GC_BLOBS_A_BATCH];
	size_t count;
};

static bool spared(const struct journal *j, const struct digest *d)
{
	return j->spare_all || journal_digestset_has(&j->spared, d);
}

/* Queued under the lock: what puts one of them after that stands behind it in the queue. */
static int sweep_pending(struct sweep *s)
{
	struct journal_gc *g = s->m->g;
	struct journal *j = g->j;
	AUTO_BUFFER ops = {.max = SIZE_MAX};
	int rc = 0;
	pthread_mutex_lock(&j->spare_lock);
	for (size_t i = 0; i < s->count; i++) {
		if (spared(j, &s->pending[i]))
			continue;
		journal_kv_delete(&ops, JOURNAL_FAMILY_BLOB,
				  bytes_of(s->pending[i].b, DIGEST_SIZE));
		g->report.blobs++;
		g->report.freed += s->sizes[i];
	}
	if (ops.failed)
		rc = ops.failed;
	else if (ops.len && j->committer)
		journal_committer_queue(j->committer, buffer_bytes(&ops), 0, true, true);
	else if (ops.len)
		rc = j->kv->ops->write(j->kv, buffer_bytes(&ops), bytes_of(NULL, 0), &g->err);
	pthread_mutex_unlock(&j->spare_lock);
	journal_store_drain(j);
	s->count = 0;
	return rc;
}

static int sweep_inline(struct bytes key, struct bytes value, void *arg)
{
	struct sweep *s = arg;
	struct digest d;
	if (key.len != DIGEST_SIZE)
		return 0;
	memcpy(d.b, key.data, DIGEST_SIZE);
	if (journal_digestset_has(&s->m->named, &d))
		return 0;
	s->sizes[s->count] = value.len;
	s->pending[s->count++] = d;
	return s->count < GC_BLOBS_A_BATCH ? 0 : sweep_pending(s);
}

static int sweep_file(const struct digest *d, int folder, const char *name, void *arg)
{
	struct sweep *s = arg;
	struct journal_gc *g = s->m->g;
	struct stat st;
	int rc = 0;
	if (d && journal_digestset_has(&s->m->named, d))
		return 0;
	pthread_mutex_lock(&g->j->spare_lock);
	if (!d || !spared(g->j, d)) {
		if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    unlinkat(folder, name, 0) < 0)
			rc = -errno;
		g->report.blobs += rc == 0;
		g->report.freed += rc == 0 ? (uint64_t)st.st_size : 0;
	}
	pthread_mutex_unlock(&g->j->spare_lock);
	return rc;
}

static int sweep_blobs(struct mark *m)
{
	const struct journal_view *v = m->g->view;
	struct sweep *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->m = m;
	int rc = journal_audit_each(v, JOURNAL_FAMILY_BLOB, bytes_of(NULL, 0), sweep_inline, s);
	if (rc == 0)
		rc = sweep_pending(s);
	if (rc == 0)
		rc = journal_audit_each_file(v, sweep_file, s);
	free(s);
	return rc;
}

static int mark_and_sweep(struct journal_gc *g)
{
	struct mark m = {.g = g};
	int rc = mark_blobs(&m);
	if (rc == 0)
		rc = failpoint_hit("journal.gc_marked");
	if (rc == 0)
		rc = sweep_blobs(&m);
	journal_digestset_free(&m.known);
	journal_digestset_free(&m.named);
	free(m.todo);
	return rc;
}

/* ---- A collection ---- */

static void set_collecting(struct journal *j, bool on)
{
	pthread_mutex_lock(&j->spare_lock);
	assert(j->collecting != on);
	j->collecting = on;
	j->spare_all = false;
	journal_digestset_free(&j->spared);
	pthread_mutex_unlock(&j->spare_lock);
}

int journal_gc_begin(struct journal *j, int64_t ended_before_ns, journal_keep_fn *keep,
		     void *keep_arg, struct journal_gc **ret, struct error *err)
{
	if (j->o.read_only || j->o.unloaded)
		return error_set(err, -EROFS, "gc: the journal is not open for writing");
	struct journal_gc *g = calloc(1, sizeof(*g));
	if (!g)
		return error_nomem(err);
	*g = (struct journal_gc){.j = j,
				 .before_ns = ended_before_ns,
				 .keep = keep,
				 .keep_arg = keep_arg,
				 .ids = {.max = SIZE_MAX},
				 .ops = {.max = SIZE_MAX}};
	int rc = journal_view_new(j, &g->view, err);
	if (rc < 0) {
		free(g);
		return rc;
	}
	set_collecting(j, true);
	*ret = g;
	return 0;
}

void journal_gc_work(struct journal_gc *g)
{
	g->result = g->stage == STAGE_DROP ? find_runs(g) : mark_and_sweep(g);
}

/* Blobs are looked through when the last run has gone: its own are to go with it. */
static int settle(struct journal_gc *g)
{
	if (g->result < 0 || g->stage == STAGE_SWEEP)
		return g->result;
	if (atomic_load(&g->stopped))
		return -ECANCELED;
	int rc = drop_runs(g);
	if (rc < 0)
		return rc;
	if (g->at < g->ids.len)
		return 1;
	journal_view_free(g->view);
	g->view = NULL;
	rc = journal_view_new(g->j, &g->view, &g->err);
	g->stage = STAGE_SWEEP;
	return rc < 0 ? rc : 1;
}

int journal_gc_settle(struct journal_gc *g, struct error *err)
{
	int rc = settle(g);
	if (rc < 0 && err)
		*err = g->err;
	return rc < 0 ? error_set(err, rc, "gc: %s", strerror(-rc)) : rc;
}

void journal_gc_stop(struct journal_gc *g)
{
	atomic_store(&g->stopped, true);
	if (g->view)
		journal_view_stop(g->view);
}

void journal_gc_end(struct journal_gc *g, struct journal_report *ret)
{
	if (!g)
		return;
	if (ret)
		*ret = g->report;
	set_collecting(g->j, false);
	journal_view_free(g->view);
	buffer_free(&g->ids);
	buffer_free(&g->ops);
	free(g);
}

int journal_gc(struct journal *j, int64_t ended_before_ns, struct journal_report *ret,
	       struct error *err)
{
	struct journal_gc *g = NULL;
	int rc = journal_gc_begin(j, ended_before_ns, NULL, NULL, &g, err);
	if (rc < 0)
		return rc;
	do {
		journal_gc_work(g);
		rc = journal_gc_settle(g, err);
	} while (rc == 1);
	journal_gc_end(g, ret);
	return rc;
}
