#include "sandbox/manifest.h"

#include <errno.h>

/* Paths come in order and by the thousand: they are carved from chunks and go all at once. */
enum { CHUNK_BYTES = 64 * 1024 };

struct chunk {
	struct chunk *next;
	size_t used;
	uint8_t data[];
};

struct manifest {
	struct manifest_entry *entries;
	size_t count;
	size_t cap;
	struct chunk *chunks;
	bool finished;
};

/* Keys of the CBOR maps: part of the format. */
enum entry_key {
	KEY_PATH = 1,
	KEY_TYPE = 2,
	KEY_MODE = 3,
	KEY_MTIME = 4,
	KEY_SIZE = 5,
	KEY_DIGEST = 6,
	KEY_TARGET = 7,
	KEY_LINK = 8,
	KEY_OPAQUE = 9,
	KEY_IMPLIED = 10,
	KEY_BASE = 11,
};

enum seen_key {
	SEEN_TYPE = 1,
	SEEN_MODE = 2,
	SEEN_SIZE = 3,
	SEEN_DIGEST = 4,
	SEEN_CTIME = 5,
	SEEN_INO = 6,
};

enum { TOP_VERSION = 1, TOP_ENTRIES = 2 };

#define BIT(key) (1u << (key))

struct fields {
	unsigned need;
	unsigned may;
};

static const unsigned entry_always = BIT(KEY_PATH) | BIT(KEY_TYPE) | BIT(KEY_BASE);

/* What an entry of each type has beside path, type and base: nothing less, nothing more. */
static const struct fields entry_fields[] = {
	[MANIFEST_FILE] = {BIT(KEY_MODE) | BIT(KEY_MTIME) | BIT(KEY_SIZE) | BIT(KEY_DIGEST),
			   BIT(KEY_LINK)},
	[MANIFEST_DIR] = {BIT(KEY_MODE) | BIT(KEY_MTIME), BIT(KEY_OPAQUE)},
	[MANIFEST_SYMLINK] = {BIT(KEY_MTIME) | BIT(KEY_TARGET), BIT(KEY_LINK)},
	[MANIFEST_WHITEOUT] = {0, BIT(KEY_IMPLIED)},
	[MANIFEST_FIFO] = {BIT(KEY_MODE) | BIT(KEY_MTIME), BIT(KEY_LINK)},
	[MANIFEST_SOCKET] = {BIT(KEY_MODE) | BIT(KEY_MTIME), BIT(KEY_LINK)},
	[MANIFEST_CHAR] = {BIT(KEY_MODE) | BIT(KEY_MTIME), BIT(KEY_LINK)},
	[MANIFEST_BLOCK] = {BIT(KEY_MODE) | BIT(KEY_MTIME), BIT(KEY_LINK)},
};

static const unsigned seen_identity = BIT(SEEN_CTIME) | BIT(SEEN_INO);

static const struct fields seen_fields[] = {
	[MANIFEST_ABSENT] = {0, 0},
	[MANIFEST_FILE] = {seen_identity | BIT(SEEN_MODE) | BIT(SEEN_SIZE), BIT(SEEN_DIGEST)},
	[MANIFEST_DIR] = {seen_identity | BIT(SEEN_MODE), 0},
	[MANIFEST_SYMLINK] = {seen_identity, BIT(SEEN_DIGEST)},
	[MANIFEST_WHITEOUT] = {0, 0},
	[MANIFEST_FIFO] = {seen_identity | BIT(SEEN_MODE), 0},
	[MANIFEST_SOCKET] = {seen_identity | BIT(SEEN_MODE), 0},
	[MANIFEST_CHAR] = {seen_identity | BIT(SEEN_MODE), 0},
	[MANIFEST_BLOCK] = {seen_identity | BIT(SEEN_MODE), 0},
};

struct manifest *manifest_new(void)
{
	return calloc(1, sizeof(struct manifest));
}

void manifest_free(struct manifest *m)
{
	if (!m)
		return;
	for (struct chunk *c = m->chunks; c;) {
		struct chunk *next = c->next;

		free(c);
		c = next;
	}
	free(m->entries);
	free(m);
}

static int keep_bytes(struct manifest *m, struct bytes in, struct bytes *ret)
{
	if (in.len == 0) {
		*ret = bytes_of("", 0);
		return 0;
	}
	if (!m->chunks || CHUNK_BYTES - m->chunks->used < in.len) {
		struct chunk *c = malloc(sizeof(*c) + CHUNK_BYTES);

		if (!c)
			return -ENOMEM;
		c->next = m->chunks;
		c->used = 0;
		m->chunks = c;
	}
	uint8_t *at = m->chunks->data + m->chunks->used;

	memcpy(at, in.data, in.len);
	m->chunks->used += in.len;
	*ret = bytes_of(at, in.len);
	return 0;
}

static bool known_type(uint64_t type)
{
	return type <= MANIFEST_BLOCK;
}

/* Fields that follow from others, or mean nothing for the type, get one value, so that two
 * manifests that say the same have the same bytes. */
static void normalise(struct manifest_entry *e)
{
	unsigned has = entry_fields[e->type].need | entry_fields[e->type].may;
	unsigned seen = seen_fields[e->base.type].need | seen_fields[e->base.type].may;

	if (!(has & BIT(KEY_MODE)))
		e->mode = 0;
	if (!(has & BIT(KEY_MTIME)))
		e->mtime_ns = 0;
	if (!(has & BIT(KEY_LINK)))
		e->link = bytes_of("", 0);
	if (e->type != MANIFEST_SYMLINK)
		e->target = bytes_of("", 0);
	e->opaque = e->opaque && e->type == MANIFEST_DIR;
	e->implied = e->implied && e->type == MANIFEST_WHITEOUT;
	if (e->type == MANIFEST_SYMLINK) {
		e->size = e->target.len;
		digest_of(e->target, &e->digest);
	} else if (e->type != MANIFEST_FILE) {
		e->size = 0;
		e->digest = (struct digest){0};
	}
	if (!(seen & BIT(SEEN_MODE)))
		e->base.mode = 0;
	if (!(seen & BIT(SEEN_SIZE)))
		e->base.size = 0;
	if (!(seen & BIT(SEEN_DIGEST)))
		e->base.has_digest = false;
	if (!e->base.has_digest)
		e->base.digest = (struct digest){0};
	if (!(seen & BIT(SEEN_CTIME))) {
		e->base.ctime_ns = 0;
		e->base.ino = 0;
	}
}

static int check_entry(const struct manifest_entry *e, struct error *err)
{
	int r = manifest_check_path(e->path);

	if (r == -ENAMETOOLONG)
		return error_set_exit(
			err, -E2BIG, EXIT_STATUS_LIMIT,
			"manifest: a path is longer than %d bytes or deeper than %d folders",
			MANIFEST_PATH_MAX, MANIFEST_DEPTH_MAX);
	if (r < 0)
		return error_set(
			err, r, "manifest: a path is empty, absolute, or not in its shortest form");
	if (e->type == MANIFEST_ABSENT || !known_type((uint64_t)e->type) ||
	    e->base.type == MANIFEST_WHITEOUT || !known_type((uint64_t)e->base.type))
		return error_set(err, -EINVAL, "manifest: an entry of an unknown type");
	if (e->target.len > MANIFEST_TARGET_MAX || e->link.len > MANIFEST_PATH_MAX)
		return error_set_exit(err, -E2BIG, EXIT_STATUS_LIMIT,
				      "manifest: a symlink's target is longer than %d bytes",
				      MANIFEST_TARGET_MAX);
	if (e->type == MANIFEST_SYMLINK && e->target.len == 0)
		return error_set(err, -EINVAL, "manifest: a symlink without a target");
	if ((e->mode | e->base.mode) & ~07777u)
		return error_set(err, -EINVAL, "manifest: a mode with more than permission bits");
	return 0;
}

int manifest_add(struct manifest *m, const struct manifest_entry *e, struct error *err)
{
	int r = check_entry(e, err);

	if (r < 0)
		return r;
	if (m->count == MANIFEST_ENTRIES_MAX)
		return error_set_exit(err, -E2BIG, EXIT_STATUS_LIMIT,
				      "manifest: more than %d changed paths", MANIFEST_ENTRIES_MAX);
	if (m->count == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 64;
		struct manifest_entry *grown = reallocarray(m->entries, cap, sizeof(*grown));

		if (!grown)
			return error_nomem(err);
		m->entries = grown;
		m->cap = cap;
	}
	struct manifest_entry *n = &m->entries[m->count];

	*n = *e;
	normalise(n);
	if (keep_bytes(m, n->path, &n->path) < 0 || keep_bytes(m, n->target, &n->target) < 0 ||
	    keep_bytes(m, n->link, &n->link) < 0)
		return error_nomem(err);
	m->count++;
	m->finished = false;
	return 0;
}

static int order(const void *a, const void *b)
{
	const struct manifest_entry *x = a;
	const struct manifest_entry *y = b;

	return bytes_compare(x->path, y->path);
}

/* A link names the first path of its inode: an earlier entry, of the same type and content, that is
 * no link. */
static int check_link(const struct manifest *m, const struct manifest_entry *e, struct error *err)
{
	const struct manifest_entry *first;

	if (e->link.len == 0)
		return 0;
	first = manifest_find(m, e->link);
	if (!first || first->link.len > 0 || bytes_compare(e->link, e->path) >= 0 ||
	    first->type != e->type || first->size != e->size || first->mode != e->mode ||
	    !digest_equal(&first->digest, &e->digest))
		return error_set(
			err, -EINVAL,
			"manifest: a hard link that does not name the first path of its file");
	return 0;
}

int manifest_finish(struct manifest *m, struct error *err)
{
	bool sorted = true;

	for (size_t i = 1; i < m->count && sorted; i++)
		sorted = bytes_compare(m->entries[i - 1].path, m->entries[i].path) < 0;
	if (!sorted)
		qsort(m->entries, m->count, sizeof(*m->entries), order);
	for (size_t i = 1; i < m->count; i++)
		if (bytes_equal(m->entries[i - 1].path, m->entries[i].path))
			return error_set(err, -EEXIST, "manifest: a path stands in it twice");
	m->finished = true;
	for (size_t i = 0; i < m->count; i++) {
		int r = check_link(m, &m->entries[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

size_t manifest_count(const struct manifest *m)
{
	return m->count;
}

const struct manifest_entry *manifest_at(const struct manifest *m, size_t i)
{
	return i < m->count ? &m->entries[i] : NULL;
}

/* First index whose path is not less than path (manifest_count if none). */
static size_t lower_bound(const struct manifest *m, struct bytes path)
{
	size_t lo = 0;
	size_t hi = m->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (bytes_compare(m->entries[mid].path, path) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const struct manifest_entry *manifest_find(const struct manifest *m, struct bytes path)
{
	size_t i = lower_bound(m, path);

	return i < m->count && bytes_equal(m->entries[i].path, path) ? &m->entries[i] : NULL;
}

uint64_t manifest_content_bytes(const struct manifest *m)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < m->count; i++)
		if (m->entries[i].type == MANIFEST_FILE && m->entries[i].link.len == 0)
			sum += m->entries[i].size;
	return sum;
}

static struct bytes digest_bytes(const struct digest *d)
{
	return bytes_of(d->b, sizeof(d->b));
}

static void encode_seen(struct buffer *out, const struct manifest_seen *s)
{
	struct cbor_map_mark map = cbor_w_map_begin(out);
	unsigned need = seen_fields[s->type].need;

	cbor_w_key(out, &map, SEEN_TYPE);
	cbor_w_uint(out, s->type);
	if (need & BIT(SEEN_MODE)) {
		cbor_w_key(out, &map, SEEN_MODE);
		cbor_w_uint(out, s->mode);
	}
	if (need & BIT(SEEN_SIZE)) {
		cbor_w_key(out, &map, SEEN_SIZE);
		cbor_w_uint(out, s->size);
	}
	if (s->has_digest) {
		cbor_w_key(out, &map, SEEN_DIGEST);
		cbor_w_bytes(out, digest_bytes(&s->digest));
	}
	if (need & BIT(SEEN_CTIME)) {
		cbor_w_key(out, &map, SEEN_CTIME);
		cbor_w_int(out, s->ctime_ns);
		cbor_w_key(out, &map, SEEN_INO);
		cbor_w_uint(out, s->ino);
	}
	cbor_w_map_end(out, &map);
}

static void encode_entry(struct buffer *out, const struct manifest_entry *e)
{
	struct cbor_map_mark map = cbor_w_map_begin(out);
	unsigned need = entry_fields[e->type].need;

	cbor_w_key(out, &map, KEY_PATH);
	cbor_w_bytes(out, e->path);
	cbor_w_key(out, &map, KEY_TYPE);
	cbor_w_uint(out, e->type);
	if (need & BIT(KEY_MODE)) {
		cbor_w_key(out, &map, KEY_MODE);
		cbor_w_uint(out, e->mode);
	}
	if (need & BIT(KEY_MTIME)) {
		cbor_w_key(out, &map, KEY_MTIME);
		cbor_w_int(out, e->mtime_ns);
	}
	if (need & BIT(KEY_SIZE)) {
		cbor_w_key(out, &map, KEY_SIZE);
		cbor_w_uint(out, e->size);
		cbor_w_key(out, &map, KEY_DIGEST);
		cbor_w_bytes(out, digest_bytes(&e->digest));
	}
	if (need & BIT(KEY_TARGET)) {
		cbor_w_key(out, &map, KEY_TARGET);
		cbor_w_bytes(out, e->target);
	}
	if (e->link.len > 0) {
		cbor_w_key(out, &map, KEY_LINK);
		cbor_w_bytes(out, e->link);
	}
	if (e->opaque) {
		cbor_w_key(out, &map, KEY_OPAQUE);
		cbor_w_bool(out, true);
	}
	if (e->implied) {
		cbor_w_key(out, &map, KEY_IMPLIED);
		cbor_w_bool(out, true);
	}
	cbor_w_key(out, &map, KEY_BASE);
	encode_seen(out, &e->base);
	cbor_w_map_end(out, &map);
}

int manifest_encode(const struct manifest *m, struct buffer *out)
{
	if (!m->finished && m->count > 0)
		return -EINVAL;
	if (out->max == 0)
		out->max = MANIFEST_BYTES_MAX;
	cbor_w_map(out, 2);
	cbor_w_uint(out, TOP_VERSION);
	cbor_w_uint(out, MANIFEST_VERSION);
	cbor_w_uint(out, TOP_ENTRIES);
	cbor_w_array(out, m->count);
	for (size_t i = 0; i < m->count && !out->failed; i++)
		encode_entry(out, &m->entries[i]);
	return out->failed;
}

/* A number that must fit the field that takes it. */
static uint64_t read_uint(struct cbor_reader *r, uint64_t max)
{
	uint64_t v = cbor_r_uint(r);

	if (v > max)
		cbor_r_fail(r, -EBADMSG);
	return v > max ? 0 : v;
}

static bool read_true(struct cbor_reader *r)
{
	bool v = cbor_r_bool(r);

	if (!v)
		cbor_r_fail(r, -EBADMSG); /* false is said by leaving the key out */
	return v;
}

static void check_fields(struct cbor_reader *r, unsigned have, unsigned always, struct fields f)
{
	if ((have & (always | f.need)) != (always | f.need) || (have & ~(always | f.need | f.may)))
		cbor_r_fail(r, -EBADMSG);
}

static void decode_seen(struct cbor_reader *r, struct manifest_seen *s)
{
	struct cbor_map_iter map;
	uint64_t key;
	unsigned have = 0;

	*s = (struct manifest_seen){0};
	cbor_r_map(r, &map);
	while (cbor_r_key(r, &map, &key)) {
		switch (key) {
		case SEEN_TYPE:
			s->type = (enum manifest_type)read_uint(r, MANIFEST_BLOCK);
			break;
		case SEEN_MODE:
			s->mode = (uint32_t)read_uint(r, 07777);
			break;
		case SEEN_SIZE:
			s->size = cbor_r_uint(r);
			break;
		case SEEN_DIGEST:
			cbor_r_digest(r, &s->digest);
			s->has_digest = true;
			break;
		case SEEN_CTIME:
			s->ctime_ns = cbor_r_int(r);
			break;
		case SEEN_INO:
			s->ino = cbor_r_uint(r);
			break;
		default:
			cbor_r_fail(r, -EBADMSG);
			return;
		}
		have |= BIT(key);
	}
	if (s->type == MANIFEST_WHITEOUT)
		cbor_r_fail(r, -EBADMSG);
	check_fields(r, have, BIT(SEEN_TYPE), seen_fields[s->type]);
}

static void decode_entry(struct cbor_reader *r, struct manifest_entry *e)
{
	struct cbor_map_iter map;
	uint64_t key;
	unsigned have = 0;

	*e = (struct manifest_entry){0};
	cbor_r_map(r, &map);
	while (cbor_r_key(r, &map, &key)) {
		switch (key) {
		case KEY_PATH:
			e->path = cbor_r_bytes(r);
			break;
		case KEY_TYPE:
			e->type = (enum manifest_type)read_uint(r, MANIFEST_BLOCK);
			break;
		case KEY_MODE:
			e->mode = (uint32_t)read_uint(r, 07777);
			break;
		case KEY_MTIME:
			e->mtime_ns = cbor_r_int(r);
			break;
		case KEY_SIZE:
			e->size = cbor_r_uint(r);
			break;
		case KEY_DIGEST:
			cbor_r_digest(r, &e->digest);
			break;
		case KEY_TARGET:
			e->target = cbor_r_bytes(r);
			break;
		case KEY_LINK:
			e->link = cbor_r_bytes(r);
			if (e->link.len == 0)
				cbor_r_fail(r, -EBADMSG);
			break;
		case KEY_OPAQUE:
			e->opaque = read_true(r);
			break;
		case KEY_IMPLIED:
			e->implied = read_true(r);
			break;
		case KEY_BASE:
			decode_seen(r, &e->base);
			break;
		default:
			cbor_r_fail(r, -EBADMSG);
			return;
		}
		have |= BIT(key);
	}
	if (e->type == MANIFEST_ABSENT)
		cbor_r_fail(r, -EBADMSG);
	check_fields(r, have, entry_always, entry_fields[e->type]);
}

static int decode_entries(struct cbor_reader *r, struct manifest *m, struct error *err)
{
	size_t count = cbor_r_array(r);

	for (size_t i = 0; i < count && !r->error; i++) {
		struct manifest_entry e;
		int added;

		decode_entry(r, &e);
		if (r->error)
			break;
		if (i > 0 && bytes_compare(m->entries[i - 1].path, e.path) >= 0)
			return error_set(err, -EBADMSG, "manifest: its paths are not in order");
		added = manifest_add(m, &e, err);
		if (added < 0)
			return added == -EINVAL ? -EBADMSG : added;
	}
	return 0;
}

int manifest_decode(struct bytes b, struct manifest **ret, struct error *err)
{
	struct cbor_reader r = cbor_reader(b);
	struct cbor_map_iter map;
	uint64_t key;
	unsigned have = 0;
	int done = 0;
	AUTO(manifest_free) struct manifest *m = manifest_new();

	if (!m)
		return error_nomem(err);
	if (b.len > MANIFEST_BYTES_MAX)
		return error_set(err, -E2BIG, "manifest: longer than %d bytes", MANIFEST_BYTES_MAX);
	cbor_r_map(&r, &map);
	while (cbor_r_key(&r, &map, &key)) {
		if (key == TOP_VERSION) {
			if (cbor_r_uint(&r) != MANIFEST_VERSION)
				cbor_r_fail(&r, -EBADMSG);
		} else if (key == TOP_ENTRIES) {
			done = decode_entries(&r, m, err);
			if (done < 0)
				return done;
		} else {
			cbor_r_fail(&r, -EBADMSG);
			break;
		}
		have |= BIT(key);
	}
	check_fields(&r, have, BIT(TOP_VERSION) | BIT(TOP_ENTRIES), (struct fields){0, 0});
	done = cbor_r_end(&r);
	if (done < 0)
		return error_set(err, done == -EPROTO ? -EBADMSG : done,
				 "manifest: not in its canonical form, or of another version");
	done = manifest_finish(m, err);
	if (done < 0)
		return done == -EINVAL ? -EBADMSG : done;
	*ret = take_ptr(m);
	return 0;
}

bool manifest_entry_changes(const struct manifest_entry *e)
{
	const struct manifest_seen *s = &e->base;

	if (e->type == MANIFEST_WHITEOUT)
		return s->type != MANIFEST_ABSENT;
	if (e->type != s->type)
		return true;
	switch (e->type) {
	case MANIFEST_FILE:
		return e->mode != s->mode || e->size != s->size || !s->has_digest ||
		       !digest_equal(&e->digest, &s->digest);
	case MANIFEST_SYMLINK:
		return !s->has_digest || !digest_equal(&e->digest, &s->digest);
	case MANIFEST_DIR:
	case MANIFEST_FIFO:
	case MANIFEST_SOCKET:
	case MANIFEST_CHAR:
	case MANIFEST_BLOCK:
		return e->mode != s->mode;
	case MANIFEST_ABSENT:
	case MANIFEST_WHITEOUT:
		break;
	}
	return true;
}

const char *manifest_type_name(enum manifest_type t)
{
	switch (t) {
	case MANIFEST_ABSENT:
		return "absent";
	case MANIFEST_FILE:
		return "file";
	case MANIFEST_DIR:
		return "dir";
	case MANIFEST_SYMLINK:
		return "symlink";
	case MANIFEST_WHITEOUT:
		return "deleted";
	case MANIFEST_FIFO:
		return "fifo";
	case MANIFEST_SOCKET:
		return "socket";
	case MANIFEST_CHAR:
		return "character device";
	case MANIFEST_BLOCK:
		return "block device";
	}
	return "unknown";
}
