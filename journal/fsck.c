/* fsck: folds all events in lsn order into a fresh state and compares it with the stored rows and
 * indexes. */
#include "journal/audit.h"

#include <errno.h>
#include <stdlib.h>
#include "base/guard.h"
#include "journal/row.h"

enum { REPAIR_CHUNK = 1 << 20 };

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
	f->refs[f->ref_count++] = (struct event_ref){r.lsn, r.seq, r.run};
	return 0;
}

static int by_lsn(const void *a, const void *b)
{
	const struct event_ref *x = a, *y = b;
	return (x->lsn > y->lsn) - (x->lsn < y->lsn);
}

static int fold_all(struct fsck *f)
{
	struct journal_kv *kv = f->a.j->kv;
	AUTO_BUFFER value = {0};
	for (size_t i = 0; i < f->ref_count; i++) {
		uint8_t key[JOURNAL_EVENT_KEY_SIZE];
		struct journal_record r;
		struct digest hash;
		struct error why = {0};
		value.len = 0;
		journal_store_event_key(&f->refs[i].run, f->refs[i].seq, key);
		int rc = kv->ops->get(kv, JOURNAL_FAMILY_EVENT, bytes_of(key, sizeof(key)), &value,
				      NULL);
		if (rc == 0)
			rc = journal_record_decode(buffer_bytes(&value), &r);
		if (rc == 0) {
			journal_record_hash(buffer_bytes(&value), &hash);
			rc = journal_fold(f->state, &r, &hash, &why);
		}
		if (rc == -ENOMEM)
			return rc;
		if (rc < 0)
			journal_audit_problem(&f->a, "%s",
					      why.msg[0] ? why.msg
							 : "a record says that it is another");
	}
	f->a.report.runs = f->state->runs.count;
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
	if (rc == 0 && !journal_rows_run_settled(run))
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
	int rc = journal_store_write_now(f->a.j, buffer_bytes(&f->ops), &err);
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
	struct journal_kv *kv = f->a.j->kv;
	f->family = family;
	f->cursor = 0;
	if (f->list_count)
		qsort_r(f->list, f->list_count, sizeof(*f->list), by_key, f->arena.data);
	int rc = kv->ops->each(kv, family, bytes_of(NULL, 0), bytes_of(NULL, 0), false, compare_one,
			       f);
	for (; rc == 0 && f->cursor < f->list_count; f->cursor++)
		rc = missing(f);
	f->list_count = 0;
	f->arena.len = 0;
	return rc;
}

static int check_all(struct fsck *f)
{
	struct journal_kv *kv = f->a.j->kv;
	int rc = kv->ops->each(kv, JOURNAL_FAMILY_EVENT, bytes_of(NULL, 0), bytes_of(NULL, 0),
			       false, add_ref, f);
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
		rc = journal_store_write_now(f->a.j, buffer_bytes(&f->ops), &err);
	}
	return rc;
}

int journal_fsck(struct journal *j, bool repair, journal_problem_fn *fn, void *arg,
		 struct journal_report *ret, struct error *err)
{
	struct fsck f = {.a = {.j = j, .fn = fn, .arg = arg},
			 .repair = repair,
			 .arena = {.max = SIZE_MAX},
			 .ops = {.max = SIZE_MAX}};
	if (repair && (j->o.read_only || !j->o.unloaded))
		return error_set(
			err, -EINVAL,
			"fsck: repairing needs a journal that was opened unloaded and for writing");
	if (j->batch_last)
		journal_flush(j, false);
	journal_store_drain(j);
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
