/* fsck: folds all events in lsn order into a fresh state and compares it with the stored rows and
 * indexes. */
#include "journal/audit.h"

#include <errno.h>
#include <stdlib.h>
#include "base/guard.h"
#include "journal/row.h"

enum { REPAIR_CHUNK = 1 << 20, WALK_FROM = 8, WALK_MAX = 1024 };

struct event_ref {
	uint64_t lsn, seq;
	struct journal_id run;
};

/* A row or index entry as it should be: offsets into one arena, so that a million cost little. */
struct expected {
	size_t key, value;
	uint32_t key_len, value_len;
};

struct fsck {
	struct journal_audit a;
	struct journal *repair_in; /* NULL: nothing is repaired */
	bool repair;
	struct event_ref *refs;
	size_t ref_count, ref_cap;
	struct journal_state *state;
	struct buffer arena;
	struct expected *list;
	size_t list_count, list_cap;
	/* the family that is compared */
	enum journal_family family;
	size_t cursor;
	struct buffer ops; /* repairs */
};

static int add_ref(struct bytes key, struct bytes value, void *arg)
{
	struct fsck *f = arg;
	struct journal_record r;
	char text[JOURNAL_ID_TEXT_SIZE];
	f->a.report.events++;
	if (journal_record_decode(value, &r) < 0 || key.len != JOURNAL_EVENT_KEY_SIZE) {
		struct journal_id run = {0};
		if (key.len >= JOURNAL_ID_SIZE)
			memcpy(run.b, key.data, JOURNAL_ID_SIZE);
		journal_audit_problem(&f->a,
				      "run %.8s: a record cannot be read; see `holdfast verify`",
				      journal_id_text(&run, text));
		return 0;
	}
	if (f->ref_count == f->ref_cap) {
		size_t cap = f->ref_cap ? f->ref_cap * 2 : 1024;
		struct event_ref *grown = reallocarray(f->refs, cap, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		f->refs = grown;
		f->ref_cap = cap;
	}
	/* In key order: a chain's records follow each other. */
	f->a.report.runs += f->ref_count == 0 ||
			    !journal_id_equal(&f->refs[f->ref_count - 1].run, &r.run);
	f->refs[f->ref_count++] = (struct event_ref){r.lsn, r.seq, r.run};
	return 0;
}

static int by_lsn(const void *a, const void *b)
{
	const struct event_ref *x = a, *y = b;
	return (x->lsn > y->lsn) - (x->lsn < y->lsn);
}

static int fold_one(struct fsck *f, struct bytes value)
{
	struct journal_record r;
	struct digest hash;
	struct error why = {0};
	int rc = journal_record_decode(value, &r);
	if (rc == 0) {
		journal_record_hash(value, &hash);
		rc = journal_fold(f->state, &r, &hash, &why);
	}
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0)
		journal_audit_problem(&f->a, "%s",
				      why.msg[0] ? why.msg : "a record says that it is another");
	return 0;
}

/* Records of one run that follow each other in both orders. */
struct stretch {
	struct fsck *f;
	size_t at, end; /* of refs */
};

/* 1: this one is not what follows, or it was the last. */
static int fold_next(struct bytes key, struct bytes value, void *arg)
{
	struct stretch *w = arg;
	const struct event_ref *e = &w->f->refs[w->at];
	uint8_t want[JOURNAL_EVENT_KEY_SIZE];
	journal_store_event_key(&e->run, e->seq, want);
	if (!bytes_equal(key, bytes_of(want, sizeof(want))))
		return 1;
	int rc = fold_one(w->f, value);
	return rc < 0 ? rc : ++w->at == w->end;
}

static size_t stretch_end(const struct fsck *f, size_t at)
{
	size_t end = at + 1;
	while (end < f->ref_count && end - at < WALK_MAX &&
	       journal_id_equal(&f->refs[end].run, &f->refs[at].run) &&
	       f->refs[end].seq == f->refs[at].seq + (end - at))
		end++;
	return end;
}

/* In lsn order. One run at a time is the common case, and walking it costs a tenth of looking each
 * record up. */
static int fold_all(struct fsck *f)
{
	struct journal_kv *kv = f->a.view->kv;
	AUTO_BUFFER value = {0};
	for (size_t i = 0; i < f->ref_count;) {
		uint8_t key[JOURNAL_EVENT_KEY_SIZE];
		struct stretch w = {.f = f, .at = i, .end = stretch_end(f, i)};
		int rc = atomic_load(&f->a.view->stopped) ? -ECANCELED : 0;
		journal_store_event_key(&f->refs[i].run, f->refs[i].seq, key);
		if (rc == 0 && w.end - i >= WALK_FROM)
			rc = kv->ops->each(kv, JOURNAL_FAMILY_EVENT,
					   bytes_of(f->refs[i].run.b, JOURNAL_ID_SIZE),
					   bytes_of(key, sizeof(key)), false, fold_next, &w);
		if (rc == -ENOMEM || rc == -ECANCELED)
			return rc;
		if (w.at > i) {
			i = w.at;
			continue;
		}
		value.len = 0;
		rc = kv->ops->get(kv, JOURNAL_FAMILY_EVENT, bytes_of(key, sizeof(key)), &value,
				  NULL);
		if (rc == 0)
			rc = fold_one(f, buffer_bytes(&value));
		else if (rc != -ENOMEM)
			rc = fold_one(f, bytes_of(NULL, 0));
		if (rc < 0)
			return rc;
		i++;
	}
	return 0;
}

/* ---- What should be there ---- */

static int expect(struct fsck *f, struct bytes key, struct bytes value)
{
	if (f->list_count == f->list_cap) {
		size_t cap = f->list_cap ? f->list_cap * 2 : 1024;
		struct expected *grown = reallocarray(f->list, cap, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		f->list = grown;
		f->list_cap = cap;
	}
	struct expected e = {.key = f->arena.len,
			     .key_len = (uint32_t)key.len,
			     .value_len = (uint32_t)value.len};
	buffer_append(&f->arena, key.data, key.len);
	e.value = f->arena.len;
	if (value.len)
		buffer_append(&f->arena, value.data, value.len);
	f->list[f->list_count++] = e;
	return f->arena.failed;
}

static int expect_row(const struct journal_change *c, void *arg)
{
	struct fsck *f = arg;
	AUTO_BUFFER key = {0};
	AUTO_BUFFER value = {0};
	if (c->kind == JOURNAL_ROW_DAEMON && f->state->daemon_seq == 0)
		return 0; /* written with the daemon's first record */
	int rc = journal_row_key(c, &key);
	if (rc == 0)
		rc = journal_row_encode(f->state, c, &value);
	return rc < 0 ? rc : expect(f, buffer_bytes(&key), buffer_bytes(&value));
}

static int expect_index(struct bytes key, struct bytes value, void *arg)
{
	return expect(arg, key, value);
}

static int expect_run_index(const struct journal_run *run, void *arg)
{
	uint8_t key[1 + JOURNAL_ID_SIZE];
	int rc = journal_store_each_index(run, expect_index, arg);
	if (rc == 0 && !journal_run_settled(run))
		rc = expect(arg, journal_store_tag_key(JOURNAL_INDEX_IN_FLIGHT, &run->id, key),
			    bytes_of(NULL, 0));
	for (uint32_t i = 0; rc == 0 && i < run->effect_count; i++)
		rc = expect(arg,
			    journal_store_tag_key(JOURNAL_INDEX_EFFECT, &run->effects[i]->id, key),
			    bytes_of(run->id.b, JOURNAL_ID_SIZE));
	return rc;
}

static int expect_approval_index(const struct journal_approval *a, void *arg)
{
	uint8_t key[1 + JOURNAL_ID_SIZE];
	return expect(arg, journal_store_tag_key(JOURNAL_INDEX_APPROVAL, &a->id, key),
		      bytes_of(a->run.b, JOURNAL_ID_SIZE));
}

static int by_key(const void *a, const void *b, void *arena)
{
	const struct expected *x = a, *y = b;
	const uint8_t *base = arena;
	return bytes_compare(bytes_of(base + x->key, x->key_len),
			     bytes_of(base + y->key, y->key_len));
}

/* ---- Comparing ---- */

static void name_key(const struct fsck *f, struct bytes key, char *out, size_t size)
{
	struct journal_id id = {0};
	char text[JOURNAL_ID_TEXT_SIZE];
	const uint8_t *k = key.data;
	if (key.len >= 1 + JOURNAL_ID_SIZE)
		memcpy(id.b, k + 1, JOURNAL_ID_SIZE);
	snprintf(out, size, "%s '%c' %.8s",
		 f->family == JOURNAL_FAMILY_STATE ? "row" : "index entry",
		 key.len && k[0] >= ' ' && k[0] < 127 ? k[0] : '?', journal_id_text(&id, text));
}

static int repair_put(struct fsck *f, struct bytes key, const struct bytes *value)
{
	struct error err = {0};
	if (!f->repair)
		return 0;
	if (value)
		journal_kv_put(&f->ops, f->family, key, *value);
	else
		journal_kv_delete(&f->ops, f->family, key);
	if (f->ops.failed)
		return f->ops.failed;
	if (f->ops.len < REPAIR_CHUNK)
		return 0;
	int rc = journal_store_write_now(f->repair_in, buffer_bytes(&f->ops), &err);
	f->ops.len = 0;
	return rc;
}

static struct bytes key_at(const struct fsck *f, size_t i)
{
	return bytes_of(f->arena.data + f->list[i].key, f->list[i].key_len);
}

static struct bytes value_at(const struct fsck *f, size_t i)
{
	return bytes_of(f->arena.data + f->list[i].value, f->list[i].value_len);
}

static int missing(struct fsck *f)
{
	char name[64];
	struct bytes value = value_at(f, f->cursor);
	name_key(f, key_at(f, f->cursor), name, sizeof(name));
	journal_audit_problem(&f->a, "%s: is missing%s", name, f->repair ? "; put back" : "");
	return repair_put(f, key_at(f, f->cursor), &value);
}

/* Both sides are in key order: one walk tells missing, different and superfluous ones. */
static int compare_one(struct bytes key, struct bytes value, void *arg)
{
	struct fsck *f = arg;
	char name[64];
	int rc = 0;
	while (rc == 0 && f->cursor < f->list_count &&
	       bytes_compare(key_at(f, f->cursor), key) < 0) {
		rc = missing(f);
		f->cursor++;
	}
	if (rc < 0)
		return rc;
	name_key(f, key, name, sizeof(name));
	if (f->cursor == f->list_count || !bytes_equal(key_at(f, f->cursor), key)) {
		journal_audit_problem(&f->a, "%s: no record makes it%s", name,
				      f->repair ? "; removed" : "");
		return repair_put(f, key, NULL);
	}
	struct bytes want = value_at(f, f->cursor++);
	if (bytes_equal(want, value))
		return 0;
	journal_audit_problem(&f->a, "%s: is not what its records make of it%s", name,
			      f->repair ? "; rewritten" : "");
	return repair_put(f, key, &want);
}

static int compare_family(struct fsck *f, enum journal_family family)
{
	f->family = family;
	f->cursor = 0;
	if (f->list_count)
		qsort_r(f->list, f->list_count, sizeof(*f->list), by_key, f->arena.data);
	int rc = journal_audit_each(f->a.view, family, bytes_of(NULL, 0), compare_one, f);
	for (; rc == 0 && f->cursor < f->list_count; f->cursor++)
		rc = missing(f);
	f->list_count = 0;
	f->arena.len = 0;
	return rc;
}

static int check_all(struct fsck *f)
{
	int rc = journal_audit_each(f->a.view, JOURNAL_FAMILY_EVENT, bytes_of(NULL, 0), add_ref, f);
	if (rc == 0 && f->ref_count)
		qsort(f->refs, f->ref_count, sizeof(*f->refs), by_lsn);
	if (rc == 0)
		rc = fold_all(f);
	if (rc < 0)
		return rc;
	/* Rows folded from a damaged log would replace good ones: first the chains, then the rows.
	 */
	if (f->repair && f->a.report.problems) {
		journal_audit_problem(&f->a,
				      "nothing was repaired: the records themselves are damaged");
		f->repair = false;
	}
	rc = journal_row_each(f->state, expect_row, f);
	if (rc == 0)
		rc = compare_family(f, JOURNAL_FAMILY_STATE);
	if (rc == 0)
		rc = journal_state_each_run(f->state, expect_run_index, f);
	if (rc == 0)
		rc = journal_state_each_approval(f->state, expect_approval_index, f);
	if (rc == 0)
		rc = compare_family(f, JOURNAL_FAMILY_INDEX);
	if (rc == 0 && f->ops.len) {
		struct error err = {0};
		rc = journal_store_write_now(f->repair_in, buffer_bytes(&f->ops), &err);
	}
	return rc;
}

/* repair_in: NULL, or the journal that is repaired. */
static int fsck(const struct journal_view *v, struct journal *repair_in, journal_problem_fn *fn,
		void *arg, struct journal_report *ret, struct error *err)
{
	struct fsck f = {.a = {.view = v, .fn = fn, .arg = arg},
			 .repair_in = repair_in,
			 .repair = repair_in != NULL,
			 .arena = {.max = SIZE_MAX},
			 .ops = {.max = SIZE_MAX}};
	f.state = journal_state_new();
	int rc = f.state ? check_all(&f) : -ENOMEM;
	journal_state_free(f.state);
	free(f.refs);
	free(f.list);
	buffer_free(&f.arena);
	buffer_free(&f.ops);
	*ret = f.a.report;
	return rc < 0 ? error_set(err, rc, "fsck: %s", strerror(-rc)) : 0;
}

int journal_view_fsck(const struct journal_view *v, journal_problem_fn *fn, void *arg,
		      struct journal_report *ret, struct error *err)
{
	return fsck(v, NULL, fn, arg, ret, err);
}

int journal_fsck(struct journal *j, bool repair, journal_problem_fn *fn, void *arg,
		 struct journal_report *ret, struct error *err)
{
	AUTO(journal_view_free) struct journal_view *v = NULL;
	if (repair && (j->o.read_only || !j->o.unloaded))
		return error_set(
			err, -EINVAL,
			"fsck: repairing needs a journal that was opened unloaded and for writing");
	int rc = journal_view_new(j, &v, err);
	return rc < 0 ? rc : fsck(v, repair ? j : NULL, fn, arg, ret, err);
}
