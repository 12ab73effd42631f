/*
 * The store: transitions in, batches out, rows on demand. Opening and recovery are open.c, blobs
 * blob.c, the audits verify.c, fsck.c and gc.c; audit.c has what these share, and export.
 */
#include "journal/store.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "base/escape.h"
#include "base/guard.h"
#include "journal/record.h"
#include "journal/row.h"

enum { ANCHOR_HEADS_MAX = 2048 }; /* of one record: 64 bytes each, within JOURNAL_PAYLOAD_MAX */

static const struct journal_id no_id;

_Noreturn void journal_store_fatal(struct journal *j, const struct error *err)
{
	if (j->o.fatal)
		j->o.fatal(err);
	else
		dprintf(STDERR_FILENO, "holdfast: %s\n", err->msg);
	abort();
}

/* ---- Keys ---- */

static void put_u64(uint8_t *at, uint64_t v)
{
	uint64_t be = htobe64(v);
	memcpy(at, &be, sizeof(be));
}

uint64_t journal_store_u64(const void *at)
{
	uint64_t be;
	memcpy(&be, at, sizeof(be));
	return be64toh(be);
}

void journal_store_event_key(const struct journal_id *run, uint64_t seq, uint8_t *key)
{
	memcpy(key, run->b, JOURNAL_ID_SIZE);
	put_u64(key + JOURNAL_ID_SIZE, seq);
}

void journal_store_head_write(const struct journal_head *h, uint8_t *value)
{
	put_u64(value, h->seq);
	memcpy(value + 8, h->hash.b, DIGEST_SIZE);
}

bool journal_store_head_read(struct bytes value, struct journal_head *ret)
{
	if (value.len != JOURNAL_HEAD_VALUE_SIZE)
		return false;
	ret->seq = journal_store_u64(value.data);
	memcpy(ret->hash.b, (const uint8_t *)value.data + 8, DIGEST_SIZE);
	return true;
}

struct bytes journal_store_tag_key(uint8_t tag, const struct journal_id *id, uint8_t *buf)
{
	buf[0] = tag;
	memcpy(buf + 1, id->b, JOURNAL_ID_SIZE);
	return bytes_of(buf, 1 + JOURNAL_ID_SIZE);
}

/* Entries that are made once, by the record that creates what they find. */
int journal_store_each_index(const struct journal_run *run, journal_kv_fn *fn, void *arg)
{
	struct bytes id = bytes_of(run->id.b, JOURNAL_ID_SIZE);
	uint8_t created[1 + 8 + JOURNAL_ID_SIZE] = {JOURNAL_INDEX_CREATED};
	put_u64(created + 1, (uint64_t)run->created_ns);
	memcpy(created + 9, run->id.b, JOURNAL_ID_SIZE);
	int rc = fn(bytes_of(created, sizeof(created)), bytes_of(NULL, 0), arg);
	AUTO_BUFFER key = {0};
	if (rc == 0 && run->name) {
		buffer_append_byte(&key, JOURNAL_INDEX_NAME);
		buffer_append_str(&key, run->name);
		buffer_append_byte(&key, 0);
		buffer_append(&key, run->id.b, JOURNAL_ID_SIZE);
		rc = key.failed ? key.failed : fn(buffer_bytes(&key), bytes_of(NULL, 0), arg);
	}
	key.len = 0;
	if (rc == 0 && run->request.len) {
		buffer_append_byte(&key, JOURNAL_INDEX_REQUEST);
		buffer_append(&key, run->request.data, run->request.len);
		rc = key.failed ? key.failed : fn(buffer_bytes(&key), id, arg);
	}
	return rc;
}

static int put_index(struct bytes key, struct bytes value, void *arg)
{
	journal_kv_put(arg, JOURNAL_FAMILY_INDEX, key, value);
	return 0;
}

/* ---- Append ---- */

static struct journal_store_head *head_of(struct journal *j, const struct journal_id *run)
{
	/* The newest are at the end: most records follow one of the same few runs. */
	for (size_t i = j->head_count; i-- > 0;)
		if (journal_id_equal(&j->heads[i].head.run, run))
			return &j->heads[i];
	if (j->head_count == j->head_cap) {
		size_t cap = j->head_cap ? j->head_cap * 2 : 64;
		struct journal_store_head *grown = reallocarray(j->heads, cap, sizeof(*grown));
		if (!grown)
			return NULL;
		j->heads = grown;
		j->head_cap = cap;
	}
	struct journal_store_head *h = &j->heads[j->head_count++];
	*h = (struct journal_store_head){.head = {.run = *run}};
	return h;
}

static void check(struct journal *j, int rc, struct error *err)
{
	if (rc == 0)
		return;
	error_set(err, rc, "journal: %s", strerror(-rc));
	journal_store_fatal(j, err);
}

static bool settled(const struct journal *j, const struct journal_id *run)
{
	const struct journal_run *row = journal_rows_run(j->state, run);
	return !row || journal_run_settled(row);
}

/* Index entries that this record makes or ends. */
static void index_record(struct journal *j, const struct journal_record *r, bool was_settled)
{
	uint8_t key[1 + JOURNAL_ID_SIZE];
	const struct journal_run *run = journal_rows_run(j->state, &r->run);
	if (r->type == JOURNAL_RUN_CREATED)
		(void)journal_store_each_index(run, put_index, &j->batch);
	if (r->type == JOURNAL_APPROVAL_OPENED)
		journal_kv_put(&j->batch, JOURNAL_FAMILY_INDEX,
			       journal_store_tag_key(JOURNAL_INDEX_APPROVAL, &r->p.approval, key),
			       bytes_of(r->run.b, JOURNAL_ID_SIZE));
	if (r->type == JOURNAL_EFFECT_PROPOSED)
		journal_kv_put(&j->batch, JOURNAL_FAMILY_INDEX,
			       journal_store_tag_key(JOURNAL_INDEX_EFFECT, &r->p.effect, key),
			       bytes_of(r->run.b, JOURNAL_ID_SIZE));
	bool is_settled = settled(j, &r->run);
	struct bytes in_flight = journal_store_tag_key(JOURNAL_INDEX_IN_FLIGHT, &r->run, key);
	if (was_settled && !is_settled)
		journal_kv_put(&j->batch, JOURNAL_FAMILY_INDEX, in_flight, bytes_of(NULL, 0));
	else if (!was_settled && is_settled)
		journal_kv_delete(&j->batch, JOURNAL_FAMILY_INDEX, in_flight);
}

/* A text may quote what an agent said: it must never be able to end the supervisor by its bytes. */
static int tame_texts(struct journal *j, struct journal_record *r)
{
	for (unsigned num = 1; num < JOURNAL_FIELD_LIMIT; num++) {
		const struct journal_record_field *f = journal_record_field(num);
		if (!f || f->kind != JOURNAL_RECORD_TEXT ||
		    !((r->p.has[num / 64] >> (num % 64)) & 1))
			continue;
		struct bytes *text = (struct bytes *)((uint8_t *)&r->p + f->offset);
		struct buffer *scratch = &j->texts[num];
		*text = escape_bounded(*text, JOURNAL_TEXT_MAX, scratch);
		if (scratch->failed)
			return scratch->failed;
	}
	return 0;
}

/* Into j->record, and back: what could not be read again is never written. */
static void encode(struct journal *j, const struct journal_record *r)
{
	struct error err = {0};
	struct journal_record back;
	j->record.len = 0;
	int rc = journal_record_encode(r, &j->record);
	if (rc == 0)
		rc = journal_record_decode(buffer_bytes(&j->record), &back);
	if (rc < 0)
		error_set(&err, rc, "journal: a %s cannot be encoded: %s",
			  journal_type_name(r->type), strerror(-rc));
	check(j, rc, &err);
}

void journal_append(struct journal *j, struct journal_record *r, uint64_t *ret_lsn)
{
	struct error err = {0};
	struct digest hash;
	uint8_t key[JOURNAL_EVENT_KEY_SIZE];
	if (j->o.read_only || j->o.unloaded)
		check(j, -EROFS, &err);
	bool daemon = journal_id_equal(&r->run, &no_id),
	     was_settled = daemon || settled(j, &r->run);

	journal_state_fill(j->state, r);
	r->wall_ns = j->o.clock.wall_ns();
	r->mono_ns = j->o.clock.mono_ns();
	memcpy(r->boot_id, j->o.clock.boot_id, sizeof(r->boot_id));
	check(j, tame_texts(j, r), &err);
	encode(j, r);
	journal_record_hash(buffer_bytes(&j->record), &hash);
	check(j, journal_fold(j->state, r, &hash, &err), &err);

	journal_store_event_key(&r->run, r->seq, key);
	journal_kv_put(&j->batch, JOURNAL_FAMILY_EVENT, bytes_of(key, sizeof(key)),
		       buffer_bytes(&j->record));
	if (!daemon)
		index_record(j, r, was_settled);
	struct journal_store_head *head = head_of(j, &r->run);
	if (!head)
		check(j, -ENOMEM, &err);
	head->head.seq = r->seq;
	head->head.hash = hash;
	head->dirty = true;
	check(j, j->batch.failed, &err);
	j->batch_last = r->lsn;
	j->batch_sync |= journal_type_synced(r->type);
	j->since_anchor++;
	if (ret_lsn)
		*ret_lsn = r->lsn;
}

static void append_heads(struct journal *j, struct journal_head *heads, size_t count)
{
	struct error err = {0};
	AUTO_BUFFER raw = {0};
	check(j, journal_heads_encode(heads, count, &raw), &err);
	struct journal_record r = {.type = JOURNAL_ANCHOR, .step = JOURNAL_NO_STEP};
	JOURNAL_SET(&r.p, heads, buffer_bytes(&raw));
	journal_append(j, &r, NULL);
}

/* The heads of every chain that moved since the last anchor; with the anchors before it, of all. */
static void append_anchor(struct journal *j)
{
	struct error err = {0};
	size_t count = 0;
	AUTO_FREE struct journal_head *heads =
		calloc(j->head_count ? j->head_count : 1, sizeof(*heads));
	if (!heads)
		check(j, -ENOMEM, &err);
	for (size_t i = 0; i < j->head_count; i++)
		if (!journal_id_equal(&j->heads[i].head.run, &no_id))
			heads[count++] = j->heads[i].head;
	for (size_t at = 0; at < count; at += ANCHOR_HEADS_MAX)
		append_heads(j, heads + at,
			     count - at < ANCHOR_HEADS_MAX ? count - at : ANCHOR_HEADS_MAX);
	j->since_anchor = 0;
}

static int by_row(const void *a, const void *b)
{
	const struct journal_change *x = a, *y = b;
	if (x->kind != y->kind)
		return (int)x->kind - (int)y->kind;
	int order = memcmp(&x->run, &y->run, sizeof(x->run));
	if (order == 0)
		order = memcmp(&x->id, &y->id, sizeof(x->id));
	if (order)
		return order;
	if (x->effect != y->effect)
		return x->effect < y->effect ? -1 : 1;
	if (x->step != y->step)
		return x->step < y->step ? -1 : 1;
	if (x->attempt != y->attempt)
		return x->attempt < y->attempt ? -1 : 1;
	if (x->dev != y->dev || x->ino != y->ino)
		return x->dev < y->dev || (x->dev == y->dev && x->ino < y->ino) ? -1 : 1;
	return x->path && y->path ? strcmp(x->path, y->path) : 0;
}

/* Rows that changed, each once, as they are now. A row that is gone is deleted. */
static void write_rows(struct journal *j)
{
	struct error err = {0};
	struct journal_state *s = j->state;
	qsort(s->changes, s->change_count, sizeof(*s->changes), by_row);
	for (size_t i = 0; i < s->change_count; i++) {
		const struct journal_change *c = &s->changes[i];
		if (i && by_row(c, c - 1) == 0)
			continue;
		j->key.len = j->value.len = 0;
		check(j, journal_row_key(c, &j->key), &err);
		int rc = journal_row_encode(s, c, &j->value);
		if (rc == -ENOENT)
			journal_kv_delete(&j->batch, JOURNAL_FAMILY_STATE, buffer_bytes(&j->key));
		else
			check(j, rc, &err);
		if (rc == 0)
			journal_kv_put(&j->batch, JOURNAL_FAMILY_STATE, buffer_bytes(&j->key),
				       buffer_bytes(&j->value));
	}
	journal_rows_clear_changes(s);
}

static void write_heads(struct journal *j, bool anchored)
{
	uint8_t key[1 + JOURNAL_ID_SIZE], value[JOURNAL_HEAD_VALUE_SIZE];
	for (size_t i = 0; i < j->head_count; i++) {
		struct journal_store_head *h = &j->heads[i];
		if (h->dirty) {
			journal_store_head_write(&h->head, value);
			journal_kv_put(&j->batch, JOURNAL_FAMILY_META,
				       journal_store_tag_key(JOURNAL_META_HEAD, &h->head.run, key),
				       bytes_of(value, sizeof(value)));
			h->dirty = false;
		}
		struct bytes mark =
			journal_store_tag_key(JOURNAL_META_UNANCHORED, &h->head.run, key);
		if (anchored && h->marked)
			journal_kv_delete(&j->batch, JOURNAL_FAMILY_META, mark);
		else if (!anchored && !h->marked)
			journal_kv_put(&j->batch, JOURNAL_FAMILY_META, mark, bytes_of(NULL, 0));
		h->marked = !anchored;
	}
	if (anchored)
		j->head_count = 0;
}

static void hand_over(struct journal *j, uint64_t last_lsn, bool sync)
{
	struct error err = {0};
	if (j->committer) {
		journal_committer_queue(j->committer, buffer_bytes(&j->batch), last_lsn, sync,
					true);
	} else if (j->batch.len) {
		if (last_lsn)
			journal_kv_put_lsn(&j->batch, last_lsn);
		check(j, j->batch.failed, &err);
		check(j, j->kv->ops->write(j->kv, buffer_bytes(&j->batch), bytes_of(NULL, 0), &err),
		      &err);
		if (last_lsn)
			j->memory_lsn = last_lsn;
		eventfd_write(j->event_fd, 1);
	}
	j->batch.len = 0;
}

void journal_flush(struct journal *j, bool sync)
{
	struct error err = {0};
	if (j->o.read_only)
		return;
	if (j->batch_last == 0) {
		if (sync)
			hand_over(j, 0, true);
		return;
	}
	uint32_t every = j->o.anchor_every ? j->o.anchor_every : JOURNAL_ANCHOR_EVERY;
	bool anchored = j->since_anchor >= every;
	if (anchored)
		append_anchor(j);
	write_rows(j);
	write_heads(j, anchored);
	check(j, j->batch.failed, &err);
	hand_over(j, j->batch_last, sync || j->batch_sync);
	j->batch_last = 0;
	j->batch_sync = false;
}

int journal_event_fd(const struct journal *j)
{
	return j->committer ? journal_committer_event_fd(j->committer) : j->event_fd;
}

uint64_t journal_durable_lsn(struct journal *j)
{
	eventfd_t count;
	if (j->committer)
		return journal_committer_durable(j->committer, true);
	if (j->event_fd >= 0)
		(void)eventfd_read(j->event_fd, &count);
	return j->memory_lsn;
}

uint64_t journal_last_lsn(const struct journal *j)
{
	return j->state->last_lsn;
}

int journal_wait_durable(struct journal *j, uint64_t lsn)
{
	if (lsn > j->state->last_lsn)
		return -EINVAL;
	if (j->batch_last && lsn > j->memory_lsn)
		journal_flush(j, true);
	if (j->committer)
		journal_committer_wait_durable(j->committer, lsn);
	return 0;
}

void journal_store_drain(struct journal *j)
{
	if (j->committer)
		journal_committer_wait_written(j->committer);
}

int journal_store_write_now(struct journal *j, struct bytes ops, struct error *err)
{
	if (!j->committer)
		return j->kv->ops->write(j->kv, ops, bytes_of(NULL, 0), err);
	journal_committer_queue(j->committer, ops, 0, true, true);
	journal_committer_wait_written(j->committer);
	return 0;
}

int journal_epoch_begin(struct journal *j, uint64_t keeper_epoch, const char *version,
			struct error *err)
{
	if (j->o.read_only)
		return error_set(err, -EROFS, "journal: opened read-only");
	uint64_t epoch = journal_state_epoch(j->state);
	struct journal_record r = {.type = JOURNAL_EPOCH_BEGUN, .step = JOURNAL_NO_STEP};
	r.epoch = (epoch > keeper_epoch ? epoch : keeper_epoch) + 1;
	JOURNAL_SET(&r.p, version, bytes_str(version));
	uint64_t lsn;
	journal_append(j, &r, &lsn);
	journal_flush(j, true);
	return journal_wait_durable(j, lsn);
}

const struct journal_state *journal_rows(const struct journal *j)
{
	return j->state;
}

const char *journal_recovery_note(const struct journal *j)
{
	return j->note[0] ? j->note : NULL;
}

/* ---- Rows on demand ---- */

int journal_load_run(struct journal *j, const struct journal_id *id, struct error *err)
{
	if (journal_rows_run(j->state, id))
		return 0;
	journal_store_drain(j);
	return journal_store_load_run(j->kv, j->state, id, err);
}

void journal_drop_final(struct journal *j, journal_keep_fn *keep, void *arg)
{
	/* Rows that still have to be written stay. */
	if (j->batch_last)
		return;
	for (size_t i = j->state->runs.count; i-- > 0;) {
		struct journal_run *run = j->state->runs.item[i];
		struct journal_id id = run->id;
		if (!journal_run_settled(run) || (keep && keep(&id, arg)))
			continue;
		journal_rows_remove_run(j->state, &id);
	}
}

void journal_unload_run(struct journal *j, const struct journal_id *id)
{
	const struct journal_run *run = journal_rows_run(j->state, id);
	if (run && !j->batch_last && journal_run_settled(run))
		journal_rows_remove_run(j->state, id);
}

struct id_list {
	struct journal_id *ids;
	size_t count, max, skip; /* skip: bytes of the key before the id */
};

static int take_id(struct bytes key, struct bytes value, void *arg)
{
	struct id_list *l = arg;
	(void)value;
	if (l->count == l->max)
		return 1;
	if (key.len == l->skip + JOURNAL_ID_SIZE)
		memcpy(l->ids[l->count++].b, (const uint8_t *)key.data + l->skip, JOURNAL_ID_SIZE);
	return 0;
}

int journal_list_runs(struct journal *j, size_t max, struct journal_id *ret)
{
	struct id_list l = {.ids = ret, .max = max < INT32_MAX ? max : INT32_MAX, .skip = 9};
	const uint8_t tag = JOURNAL_INDEX_CREATED;
	journal_store_drain(j);
	int rc = j->kv->ops->each(j->kv, JOURNAL_FAMILY_INDEX, bytes_of(&tag, 1), bytes_of(NULL, 0),
				  true, take_id, &l);
	return rc < 0 ? rc : (int)l.count;
}

int journal_list_runs_after(struct journal *j, const struct journal_id *after, size_t max,
			    struct journal_id *ret)
{
	struct id_list l = {.ids = ret, .max = max < INT32_MAX ? max : INT32_MAX, .skip = 1};
	uint8_t from[1 + JOURNAL_ID_SIZE + 1] = {JOURNAL_ROW_RUN}; /* the least behind after */
	if (after)
		memcpy(from + 1, after->b, JOURNAL_ID_SIZE);
	journal_store_drain(j);
	int rc = j->kv->ops->each(j->kv, JOURNAL_FAMILY_STATE, bytes_of(from, 1),
				  bytes_of(from, after ? sizeof(from) : 1), false, take_id, &l);
	return rc < 0 ? rc : (int)l.count;
}

/* Ids of a family whose hex form begins with prefix, at most two: enough to tell one from many. */
static int find_by_hex(struct journal *j, enum journal_family f, uint8_t tag, const char *prefix,
		       struct journal_id *ret)
{
	uint8_t key[1 + JOURNAL_ID_SIZE] = {tag};
	size_t digits = strlen(prefix);
	char full[JOURNAL_ID_TEXT_SIZE], text[JOURNAL_ID_TEXT_SIZE];
	struct journal_id low;
	if (digits == 0 || digits > 2 * JOURNAL_ID_SIZE)
		return -ENOENT;
	memset(full, '0', sizeof(full) - 1);
	memcpy(full, prefix, digits);
	if (journal_id_parse(bytes_of(full, sizeof(full) - 1), &low) < 0)
		return -ENOENT;
	memcpy(key + 1, low.b, JOURNAL_ID_SIZE);
	struct journal_id found[2];
	struct id_list l = {.ids = found, .max = 2, .skip = 1};
	int rc = j->kv->ops->each(j->kv, f, bytes_of(key, 1 + digits / 2),
				  bytes_of(key, sizeof(key)), false, take_id, &l);
	if (rc < 0)
		return rc;
	size_t matches = 0;
	for (size_t i = 0; i < l.count; i++)
		if (strncmp(journal_id_text(&found[i], text), prefix, digits) == 0)
			matches++;
	if (matches == 0)
		return -ENOENT;
	*ret = found[0];
	return matches == 1 ? 0 : -ENOTUNIQ;
}

int journal_find_run(struct journal *j, const char *wanted, struct journal_id *ret,
		     struct error *err)
{
	struct journal_id found[2];
	struct id_list l = {.ids = found, .max = 2, .skip = 2 + strlen(wanted)};
	AUTO_BUFFER key = {0};
	buffer_append_byte(&key, JOURNAL_INDEX_NAME);
	buffer_append_str(&key, wanted);
	buffer_append_byte(&key, 0);
	if (key.failed)
		return error_nomem(err);
	journal_store_drain(j);
	int rc = j->kv->ops->each(j->kv, JOURNAL_FAMILY_INDEX, buffer_bytes(&key),
				  bytes_of(NULL, 0), false, take_id, &l);
	if (rc < 0)
		return error_set(err, rc, "journal: reading the index: %s", strerror(-rc));
	if (l.count == 1) {
		*ret = found[0];
		return 0;
	}
	rc = l.count ? -ENOTUNIQ
		     : find_by_hex(j, JOURNAL_FAMILY_STATE, JOURNAL_ROW_RUN, wanted, ret);
	if (rc == -ENOTUNIQ)
		return error_set_exit(err, rc, EXIT_STATUS_USAGE,
				      "run %.64s: it names more than one; give more of its id",
				      wanted);
	if (rc < 0)
		return error_set_exit(err, rc, EXIT_STATUS_USAGE,
				      "run %.64s: there is none; `holdfast status` lists them",
				      wanted);
	return 0;
}

static int find_exact(struct journal *j, struct bytes key, struct journal_id *ret)
{
	AUTO_BUFFER value = {0};
	int rc = j->kv->ops->get(j->kv, JOURNAL_FAMILY_INDEX, key, &value, NULL);
	if (rc < 0)
		return rc;
	if (value.len != JOURNAL_ID_SIZE)
		return -EBADMSG;
	memcpy(ret->b, value.data, JOURNAL_ID_SIZE);
	return 0;
}

int journal_find_request(struct journal *j, struct bytes request, struct journal_id *ret)
{
	const struct journal_run *run = journal_state_run_by_request(j->state, request);
	if (run) {
		*ret = run->id;
		return 0;
	}
	AUTO_BUFFER key = {0};
	buffer_append_byte(&key, JOURNAL_INDEX_REQUEST);
	buffer_append(&key, request.data, request.len);
	journal_store_drain(j);
	return key.failed ? key.failed : find_exact(j, buffer_bytes(&key), ret);
}

int journal_find_approval(struct journal *j, const char *prefix, struct journal_id *ret,
			  struct journal_id *ret_run, struct error *err)
{
	struct journal_id id, run;
	uint8_t key[1 + JOURNAL_ID_SIZE];
	journal_store_drain(j);
	int rc = find_by_hex(j, JOURNAL_FAMILY_INDEX, JOURNAL_INDEX_APPROVAL, prefix, &id);
	if (rc == 0)
		rc = find_exact(j, journal_store_tag_key(JOURNAL_INDEX_APPROVAL, &id, key), &run);
	if (rc == -ENOTUNIQ)
		return error_set_exit(err, rc, EXIT_STATUS_USAGE,
				      "approval %.64s: it names more than one; give more of its id",
				      prefix);
	if (rc < 0)
		return error_set_exit(err, rc, EXIT_STATUS_USAGE,
				      "approval %.64s: there is none; `holdfast queue` lists them",
				      prefix);
	*ret = id;
	*ret_run = run;
	return 0;
}

int journal_find_effect(struct journal *j, const char *prefix, struct journal_id *ret,
			struct journal_id *ret_run, struct error *err)
{
	struct journal_id id, run;
	uint8_t key[1 + JOURNAL_ID_SIZE];
	journal_store_drain(j);
	int rc = find_by_hex(j, JOURNAL_FAMILY_INDEX, JOURNAL_INDEX_EFFECT, prefix, &id);
	if (rc == 0)
		rc = find_exact(j, journal_store_tag_key(JOURNAL_INDEX_EFFECT, &id, key), &run);
	if (rc == -ENOTUNIQ)
		return error_set_exit(err, rc, EXIT_STATUS_USAGE,
				      "effect %.64s: it names more than one; give more of its id",
				      prefix);
	if (rc < 0)
		return error_set_exit(err, rc, EXIT_STATUS_USAGE,
				      "effect %.64s: there is none; `holdfast log RUN` lists them",
				      prefix);
	*ret = id;
	*ret_run = run;
	return 0;
}

struct event_walk {
	int (*fn)(const struct journal_record *, struct bytes, void *);
	void *arg;
};

static int walk_event(struct bytes key, struct bytes value, void *arg)
{
	const struct event_walk *w = arg;
	struct journal_record r;
	(void)key;
	int rc = journal_record_decode(value, &r);
	return rc < 0 ? rc : w->fn(&r, value, w->arg);
}

int journal_each_event(struct journal *j, const struct journal_id *run, uint64_t from,
		       int (*fn)(const struct journal_record *, struct bytes, void *), void *arg)
{
	struct event_walk w = {fn, arg};
	uint8_t key[JOURNAL_EVENT_KEY_SIZE];
	journal_store_drain(j);
	journal_store_event_key(run, from ? from : 1, key);
	return j->kv->ops->each(j->kv, JOURNAL_FAMILY_EVENT, bytes_of(run->b, JOURNAL_ID_SIZE),
				bytes_of(key, sizeof(key)), false, walk_event, &w);
}

/* ---- Space ---- */

static uint64_t free_bytes(int dirfd)
{
	struct statvfs v;
	return fstatvfs(dirfd, &v) < 0 ? 0 : (uint64_t)v.f_bavail * v.f_frsize;
}

bool journal_space_low_without(struct journal *j, uint64_t bytes)
{
	if (j->dirfd < 0)
		return false;
	uint64_t reserve = j->o.reserve_bytes ? j->o.reserve_bytes : JOURNAL_RESERVE_DEFAULT;
	uint64_t free = free_bytes(j->dirfd);
	return free < reserve && bytes < reserve - free;
}

bool journal_space_low(struct journal *j)
{
	return journal_space_low_without(j, 0);
}

void journal_store_make_room(void *arg)
{
	struct journal *j = arg;
	if (!j->reserve_held || free_bytes(j->dirfd) >= JOURNAL_RESERVE_FILE / 2)
		return;
	if (unlinkat(j->dirfd, "reserve", 0) == 0 || errno == ENOENT)
		j->reserve_held = 0;
}
