/*
 * verify: every chain from its first record to its head, every lsn once, every anchor met, every
 * blob there and what its name says.
 */
#include "journal/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/guard.h"
#include "journal/blob.h"

enum { HASH_CHUNK = 256 * 1024 };

struct anchored {
	struct journal_head head;
	bool met;
};

struct verify {
	struct journal_audit a;
	struct anchored *anchors; /* of all ANCHOR records; sorted by run and seq */
	size_t anchor_count, anchor_cap;
	struct journal_head *dropped; /* of all RUNS_DROPPED records */
	size_t dropped_count, dropped_cap;
	uint64_t lsn_max;
	uint8_t *lsn_seen; /* bit per lsn */
	struct journal_digestset blobs; /* that must be there */
	/* the chain that the walk is in */
	struct journal_id run;
	bool in_chain;
	uint64_t seq;
	struct digest hash;
	char run_text[9];
};

static int grow(void **list, size_t count, size_t *cap, size_t size)
{
	if (count < *cap)
		return 0;
	size_t bigger = *cap ? *cap * 2 : 256;
	void *grown = reallocarray(*list, bigger, size);
	if (!grown)
		return -ENOMEM;
	*list = grown;
	*cap = bigger;
	return 0;
}

static int add_anchor(const struct journal_head *h, void *arg)
{
	struct verify *v = arg;
	if (grow((void **)&v->anchors, v->anchor_count, &v->anchor_cap, sizeof(*v->anchors)) < 0)
		return -ENOMEM;
	v->anchors[v->anchor_count++] = (struct anchored){.head = *h};
	return 0;
}

static int add_dropped(const struct journal_head *h, void *arg)
{
	struct verify *v = arg;
	if (grow((void **)&v->dropped, v->dropped_count, &v->dropped_cap, sizeof(*v->dropped)) < 0)
		return -ENOMEM;
	v->dropped[v->dropped_count++] = *h;
	return 0;
}

static int by_run_and_seq(const void *a, const void *b)
{
	const struct journal_head *x = a, *y = b;
	int order = memcmp(&x->run, &y->run, sizeof(x->run));
	return order ? order : (x->seq > y->seq) - (x->seq < y->seq);
}

/* The daemon's chain first: it says what the others must look like. What is wrong with it the main
 * walk tells. */
static int collect_daemon(struct bytes key, struct bytes value, void *arg)
{
	struct journal_record r;
	(void)key;
	if (journal_record_decode(value, &r) < 0)
		return 0;
	int rc = 0;
	if (r.type == JOURNAL_ANCHOR)
		rc = journal_heads_each(r.p.heads, add_anchor, arg);
	else if (r.type == JOURNAL_RUNS_DROPPED)
		rc = journal_heads_each(r.p.heads, add_dropped, arg);
	return rc == -EBADMSG ? 0 : rc;
}

static struct anchored *find_anchor(struct verify *v, const struct journal_id *run, uint64_t seq)
{
	struct anchored key = {.head = {.run = *run, .seq = seq}};
	return v->anchor_count
		       ? bsearch(&key, v->anchors, v->anchor_count, sizeof(key), by_run_and_seq)
		       : NULL;
}

static const struct journal_head *find_dropped(const struct verify *v, const struct journal_id *run)
{
	for (size_t i = 0; i < v->dropped_count; i++)
		if (journal_id_equal(&v->dropped[i].run, run))
			return &v->dropped[i];
	return NULL;
}

/* Duplicates in the list (a run that was anchored twice at the same record) are met together. */
static void meet_anchor(struct verify *v, const struct digest *hash)
{
	struct anchored *hit = find_anchor(v, &v->run, v->seq);
	if (!hit)
		return;
	while (hit > v->anchors && by_run_and_seq(hit - 1, hit) == 0)
		hit--;
	for (; hit < v->anchors + v->anchor_count && journal_id_equal(&hit->head.run, &v->run) &&
	       hit->head.seq == v->seq;
	     hit++) {
		hit->met = true;
		if (!digest_equal(&hit->head.hash, hash))
			journal_audit_problem(
				&v->a,
				"run %s record %llu: an anchor names another hash: it was changed",
				v->run_text, (unsigned long long)v->seq);
	}
}

/* The chain that just ended against its head. */
static int end_chain(struct verify *v)
{
	AUTO_BUFFER value = {0};
	uint8_t key[1 + JOURNAL_ID_SIZE];
	struct journal_head head = {0};
	if (!v->in_chain)
		return 0;
	v->in_chain = false;
	struct journal_kv *kv = v->a.view->kv;
	int rc = kv->ops->get(kv, JOURNAL_FAMILY_META,
			      journal_store_tag_key(JOURNAL_META_HEAD, &v->run, key), &value, NULL);
	if (rc == -ENOENT || (rc == 0 && !journal_store_head_read(buffer_bytes(&value), &head))) {
		journal_audit_problem(&v->a, "run %s: its head is missing", v->run_text);
		return 0;
	}
	if (rc < 0)
		return rc;
	if (head.seq > v->seq)
		journal_audit_problem(&v->a,
				      "run %s: ends at record %llu, its head is %llu: it was cut",
				      v->run_text, (unsigned long long)v->seq,
				      (unsigned long long)head.seq);
	else if (head.seq < v->seq)
		journal_audit_problem(&v->a, "run %s: goes on to record %llu past its head %llu",
				      v->run_text, (unsigned long long)v->seq,
				      (unsigned long long)head.seq);
	else if (!digest_equal(&head.hash, &v->hash))
		journal_audit_problem(
			&v->a, "run %s record %llu: its head names another hash: it was changed",
			v->run_text, (unsigned long long)v->seq);
	return 0;
}

static int want_blob(const struct digest *d, bool must, void *arg)
{
	struct verify *v = arg;
	if (!must)
		return 0;
	int rc = journal_digestset_add(&v->blobs, d);
	return rc < 0 ? rc : 0;
}

static void see_lsn(struct verify *v, uint64_t lsn)
{
	if (lsn > v->lsn_max || lsn == 0) {
		journal_audit_problem(&v->a, "run %s record %llu: lsn %llu is past the last one",
				      v->run_text, (unsigned long long)v->seq,
				      (unsigned long long)lsn);
		return;
	}
	uint8_t bit = (uint8_t)(1u << (lsn % 8));
	if (v->lsn_seen[lsn / 8] & bit)
		journal_audit_problem(&v->a, "run %s record %llu: lsn %llu is there twice",
				      v->run_text, (unsigned long long)v->seq,
				      (unsigned long long)lsn);
	v->lsn_seen[lsn / 8] |= bit;
}

static int verify_event(struct bytes key, struct bytes value, void *arg)
{
	struct verify *v = arg;
	struct journal_record r;
	struct journal_id run;
	if (key.len != JOURNAL_EVENT_KEY_SIZE) {
		journal_audit_problem(&v->a, "an event has a key of %zu bytes", key.len);
		return 0;
	}
	memcpy(run.b, key.data, JOURNAL_ID_SIZE);
	uint64_t seq = journal_store_u64((const uint8_t *)key.data + JOURNAL_ID_SIZE);
	if (!v->in_chain || !journal_id_equal(&run, &v->run)) {
		char text[JOURNAL_ID_TEXT_SIZE];
		int rc = end_chain(v);
		if (rc < 0)
			return rc;
		v->run = run;
		v->in_chain = true;
		v->seq = 0;
		v->hash = (struct digest){0};
		snprintf(v->run_text, sizeof(v->run_text), "%.8s", journal_id_text(&run, text));
		v->a.report.runs++;
	}
	v->a.report.events++;
	if (seq != v->seq + 1)
		journal_audit_problem(&v->a, "run %s: records %llu to %llu are missing",
				      v->run_text, (unsigned long long)v->seq + 1,
				      (unsigned long long)seq - 1);
	bool follows = seq == v->seq + 1;
	v->seq = seq;
	int rc = journal_record_decode(value, &r);
	if (rc < 0) {
		journal_audit_problem(&v->a, "run %s record %llu: %s: it was changed", v->run_text,
				      (unsigned long long)seq,
				      rc == -ENOTSUP ? "its type is unknown" : "it cannot be read");
	} else {
		if (!journal_id_equal(&r.run, &run) || r.seq != seq)
			journal_audit_problem(
				&v->a,
				"run %s record %llu: it says that it is another: it was changed",
				v->run_text, (unsigned long long)seq);
		if (follows && !digest_equal(&r.prev_hash, &v->hash))
			journal_audit_problem(&v->a,
					      "run %s record %llu: does not follow from record "
					      "%llu: one of the two was changed",
					      v->run_text, (unsigned long long)seq,
					      (unsigned long long)seq - 1);
		see_lsn(v, r.lsn);
		rc = journal_audit_each_digest(&r, want_blob, v);
		if (rc < 0)
			return rc;
	}
	journal_record_hash(value, &v->hash);
	meet_anchor(v, &v->hash);
	return 0;
}

/* Heads without a single record: the whole chain was removed. */
static int verify_head(struct bytes key, struct bytes value, void *arg)
{
	struct verify *v = arg;
	struct journal_id run;
	struct journal_head last;
	char text[JOURNAL_ID_TEXT_SIZE];
	(void)value;
	if (key.len != 1 + JOURNAL_ID_SIZE)
		return 0;
	memcpy(run.b, (const uint8_t *)key.data + 1, JOURNAL_ID_SIZE);
	int rc = journal_store_last_event(v->a.view->kv, &run, &last);
	if (rc != -ENOENT)
		return rc;
	journal_audit_problem(&v->a, "run %.8s: all its records are missing",
			      journal_id_text(&run, text));
	return 0;
}

static void verify_anchors(struct verify *v)
{
	char text[JOURNAL_ID_TEXT_SIZE];
	for (size_t i = 0; i < v->anchor_count; i++) {
		const struct anchored *h = &v->anchors[i];
		if (!h->met && !find_dropped(v, &h->head.run))
			journal_audit_problem(
				&v->a, "run %.8s record %llu: an anchor names it, it is missing",
				journal_id_text(&h->head.run, text),
				(unsigned long long)h->head.seq);
	}
}

/* Gapless but for what gc dropped, whose number its records keep. */
static void verify_lsns(struct verify *v)
{
	uint64_t missing = 0, dropped = 0, first = 0;
	for (uint64_t lsn = 1; lsn <= v->lsn_max; lsn++)
		if (!(v->lsn_seen[lsn / 8] & (1u << (lsn % 8)))) {
			first = first ? first : lsn;
			missing++;
		}
	for (size_t i = 0; i < v->dropped_count; i++)
		dropped += v->dropped[i].seq;
	if (missing != dropped)
		journal_audit_problem(
			&v->a,
			"%llu records are missing of which gc dropped %llu; the first is lsn %llu",
			(unsigned long long)missing, (unsigned long long)dropped,
			(unsigned long long)first);
}

/* ---- Blobs ---- */

struct blob_check {
	struct verify *v;
	struct journal_digestset found;
};

static void wrong_blob(struct verify *v, const struct digest *d)
{
	char hex[DIGEST_HEX_SIZE];
	journal_audit_problem(&v->a, "blob %.16s: its content is not what its name says",
			      digest_hex(d, hex));
}

static int check_inline(struct bytes key, struct bytes value, void *arg)
{
	struct blob_check *c = arg;
	struct digest name, content;
	if (key.len != DIGEST_SIZE) {
		journal_audit_problem(&c->v->a, "a blob has a key of %zu bytes", key.len);
		return 0;
	}
	memcpy(name.b, key.data, DIGEST_SIZE);
	digest_of(value, &content);
	if (!digest_equal(&name, &content))
		wrong_blob(c->v, &name);
	c->v->a.report.blobs++;
	int rc = journal_digestset_add(&c->found, &name);
	return rc < 0 ? rc : 0;
}

static int hash_file(const struct journal_view *view, int fd, struct digest *ret)
{
	struct digest_ctx *ctx = digest_ctx_new();
	uint8_t *chunk = malloc(HASH_CHUNK);
	ssize_t n = -1;
	int rc = ctx && chunk ? 0 : -ENOMEM;
	while (rc == 0 && (n = read(fd, chunk, HASH_CHUNK)) != 0) {
		if (atomic_load(&view->stopped))
			rc = -ECANCELED;
		else if (n < 0 && errno != EINTR)
			rc = -errno;
		else if (n > 0)
			digest_ctx_update(ctx, chunk, (size_t)n);
	}
	if (rc == 0)
		digest_ctx_final(ctx, ret);
	digest_ctx_free(ctx);
	free(chunk);
	return rc;
}

static int check_file(const struct digest *name, int folder, const char *file, void *arg)
{
	struct blob_check *c = arg;
	struct digest content;
	if (!name)
		return 0; /* gc's */
	AUTO_FD fd = openat(folder, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int rc = fd < 0 ? -errno : hash_file(c->v->a.view, fd, &content);
	if (rc == -ECANCELED)
		return rc;
	if (rc < 0 || !digest_equal(name, &content))
		wrong_blob(c->v, name);
	c->v->a.report.blobs++;
	rc = journal_digestset_add(&c->found, name);
	return rc < 0 ? rc : 0;
}

static int verify_blobs(struct verify *v)
{
	struct blob_check c = {.v = v};
	char hex[DIGEST_HEX_SIZE];
	int rc = journal_audit_each(v->a.view, JOURNAL_FAMILY_BLOB, bytes_of(NULL, 0), check_inline,
				    &c);
	if (rc == 0)
		rc = journal_audit_each_file(v->a.view, check_file, &c);
	for (size_t i = 0; rc == 0 && i < v->blobs.cap; i++) {
		const struct digest *d = &v->blobs.slot[i];
		if (!digest_is_zero(d) && !journal_digestset_has(&c.found, d))
			journal_audit_problem(&v->a, "blob %.16s: a record names it, it is missing",
					      digest_hex(d, hex));
	}
	journal_digestset_free(&c.found);
	return rc;
}

static int walk(struct verify *v)
{
	const struct journal_view *view = v->a.view;
	struct journal_kv *kv = view->kv;
	static const struct journal_id daemon;
	const uint8_t heads = JOURNAL_META_HEAD;
	AUTO_BUFFER lsn = {0};
	int rc = kv->ops->get(kv, JOURNAL_FAMILY_META, bytes_str(JOURNAL_META_LSN), &lsn, NULL);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	v->lsn_max = rc == 0 && lsn.len == 8 ? journal_store_u64(lsn.data) : 0;
	v->lsn_seen = calloc(1, v->lsn_max / 8 + 1);
	if (!v->lsn_seen)
		return -ENOMEM;
	rc = journal_audit_each(view, JOURNAL_FAMILY_EVENT, bytes_of(daemon.b, JOURNAL_ID_SIZE),
				collect_daemon, v);
	if (v->anchor_count)
		qsort(v->anchors, v->anchor_count, sizeof(*v->anchors), by_run_and_seq);
	if (rc == 0)
		rc = journal_audit_each(view, JOURNAL_FAMILY_EVENT, bytes_of(NULL, 0), verify_event,
					v);
	if (rc == 0)
		rc = end_chain(v);
	if (rc == 0)
		rc = journal_audit_each(view, JOURNAL_FAMILY_META, bytes_of(&heads, 1), verify_head,
					v);
	if (rc < 0)
		return rc;
	verify_anchors(v);
	verify_lsns(v);
	return verify_blobs(v);
}

int journal_view_verify(const struct journal_view *view, journal_problem_fn *fn, void *arg,
			struct journal_report *ret, struct error *err)
{
	struct verify v = {.a = {.view = view, .fn = fn, .arg = arg}};
	int rc = walk(&v);
	free(v.anchors);
	free(v.dropped);
	free(v.lsn_seen);
	journal_digestset_free(&v.blobs);
	if (rc == -EBADMSG) { /* the database's own checksums: it names the block, not the record */
		journal_audit_problem(&v.a,
				      "run %s after record %llu: the database cannot be read: a "
				      "checksum is wrong",
				      v.run_text, (unsigned long long)v.seq);
		rc = 0;
	}
	*ret = v.a.report;
	return rc < 0 ? error_set(err, rc, "verify: %s", strerror(-rc)) : 0;
}

int journal_verify(struct journal *j, journal_problem_fn *fn, void *arg, struct journal_report *ret,
		   struct error *err)
{
	AUTO(journal_view_free) struct journal_view *v = NULL;
	int rc = journal_view_new(j, &v, err);
	return rc < 0 ? rc : journal_view_verify(v, fn, arg, ret, err);
}
