/*
 * Commits of a pack (gitformat-pack(5)): objects are inflated one after the other, since nothing
 * else says where the next begins; commits are named by their hash and remember their parents.
 * Whatever is odd ends the reading: what is not known is no fast-forward.
 */
#define OPENSSL_SUPPRESS_DEPRECATED /* the plain functions, as in base/digest */
#include "sandbox/gate/git.h"
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>
#include "base/guard.h"

enum { OBJ_COMMIT = 1, OBJ_TAG = 4, OBJ_OFS_DELTA = 6, OBJ_REF_DELTA = 7, NAME_HEX_MAX = 64 };

struct commit {
	char name[NAME_HEX_MAX + 1];
	size_t at; /* of its header in the pack */
	char *text; /* owned */
	size_t len;
	bool seen;
};

struct pack {
	struct bytes in;
	size_t at;
	size_t hex; /* digits of a name: 40 or 64 */
	uint64_t inflated, kept; /* bytes: of all objects, of commits */
	struct commit *commits;
	size_t count, room;
};

static void pack_clear(struct pack *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->commits[i].text);
	free(p->commits);
}

static bool take_byte(struct pack *p, uint8_t *ret)
{
	if (p->at >= p->in.len)
		return false;
	*ret = ((const uint8_t *)p->in.data)[p->at++];
	return true;
}

static bool take_head(struct pack *p, int *ret_type, uint64_t *ret_size)
{
	uint8_t c;

	if (!take_byte(p, &c))
		return false;
	*ret_type = c >> 4 & 7;
	*ret_size = c & 15;
	for (unsigned shift = 4; c & 0x80; shift += 7) {
		if (shift > 53 || !take_byte(p, &c))
			return false;
		*ret_size |= (uint64_t)(c & 0x7f) << shift;
	}
	return true;
}

static bool take_offset(struct pack *p, uint64_t *ret)
{
	uint8_t c;

	if (!take_byte(p, &c))
		return false;
	for (*ret = c & 0x7f; c & 0x80;) {
		if (*ret >> 48 || !take_byte(p, &c))
			return false;
		*ret = (*ret + 1) << 7 | (c & 0x7f);
	}
	return true;
}

/* One zlib stream of exactly `size` bytes. into NULL: thrown away. */
static bool inflate_one(struct pack *p, uint64_t size, char *into)
{
	z_stream z = {0};
	uint8_t waste[16384];
	uint64_t got = 0;
	bool ok = false;
	int r = Z_OK;

	p->inflated += size;
	if (p->inflated > GIT_PACK_BYTES_MAX || inflateInit(&z) != Z_OK)
		return false;
	z.next_in = (Bytef *)(uintptr_t)p->in.data + p->at;
	z.avail_in = (uInt)(p->in.len - p->at);
	while (r == Z_OK) {
		/* one byte more than is due, so that a longer object is seen */
		uint64_t left = size - got + (into ? 0 : 1);

		z.next_out = into ? (Bytef *)into + got : waste;
		z.avail_out = (uInt)(into ? (left < UINT32_MAX ? left : UINT32_MAX)
					  : (left < sizeof(waste) ? left : sizeof(waste)));
		uInt before = z.avail_out;
		r = inflate(&z, Z_NO_FLUSH);
		got += before - z.avail_out;
		if (got > size || (r == Z_OK && before == z.avail_out))
			break;
	}
	ok = r == Z_STREAM_END && got == size;
	p->at = (size_t)((const uint8_t *)z.next_in - (const uint8_t *)p->in.data);
	inflateEnd(&z);
	return ok;
}

static void name_of(const struct pack *p, const char *text, size_t len, char *ret)
{
	char head[48];
	int n = snprintf(head, sizeof(head), "commit %zu", len) + 1;
	uint8_t hash[SHA256_DIGEST_LENGTH];
	size_t bytes = p->hex / 2;

	if (p->hex == 40) {
		SHA_CTX c;

		SHA1_Init(&c);
		SHA1_Update(&c, head, (size_t)n);
		SHA1_Update(&c, text, len);
		SHA1_Final(hash, &c);
	} else {
		SHA256_CTX c;

		SHA256_Init(&c);
		SHA256_Update(&c, head, (size_t)n);
		SHA256_Update(&c, text, len);
		SHA256_Final(hash, &c);
	}
	for (size_t i = 0; i < bytes; i++)
		snprintf(ret + 2 * i, 3, "%02x", hash[i]);
}

/* Takes text over. */
static bool keep_commit(struct pack *p, size_t at, char *text, size_t len)
{
	p->kept += len;
	if (p->kept > GIT_COMMITS_BYTES_MAX) {
		free(text);
		return false;
	}
	if (p->count == p->room) {
		size_t room = p->room ? p->room * 2 : 64;
		struct commit *more = reallocarray(p->commits, room, sizeof(*more));

		if (!more) {
			free(text);
			return false;
		}
		p->commits = more;
		p->room = room;
	}
	p->commits[p->count] = (struct commit){.at = at, .text = text, .len = len};
	name_of(p, text, len, p->commits[p->count].name);
	p->count++;
	return true;
}

static const struct commit *commit_at(const struct pack *p, uint64_t at)
{
	for (size_t i = p->count; i > 0; i--)
		if (p->commits[i - 1].at == at)
			return &p->commits[i - 1];
	return NULL;
}

static bool delta_size(const uint8_t **d, const uint8_t *end, uint64_t *ret)
{
	*ret = 0;
	for (unsigned shift = 0; *d < end && shift < 56; shift += 7) {
		uint8_t c = *(*d)++;

		*ret |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return true;
	}
	return false;
}

/* Owned text of *ret_len bytes, or NULL. */
static char *apply_delta(const struct commit *base, const uint8_t *d, size_t len, size_t *ret_len)
{
	const uint8_t *end = d + len;
	uint64_t from, to;
	size_t at = 0;

	if (!delta_size(&d, end, &from) || !delta_size(&d, end, &to) || from != base->len ||
	    to > GIT_COMMIT_MAX)
		return NULL;
	AUTO_FREE char *out = malloc(to + 1);
	while (out && d < end) {
		uint8_t op = *d++;
		size_t offset = 0, n = op & 0x7f;
		const void *source = d;

		if (op & 0x80) {
			n = 0;
			for (unsigned i = 0; i < 7; i++) {
				if (!(op & (1 << i)))
					continue;
				if (d == end)
					return NULL;
				if (i < 4)
					offset |= (size_t)*d++ << (8 * i);
				else
					n |= (size_t)*d++ << (8 * (i - 4));
			}
			n = n ? n : 0x10000;
			if (offset > base->len || n > base->len - offset)
				return NULL;
			source = base->text + offset;
		} else if (n == 0 || n > (size_t)(end - d)) {
			return NULL;
		} else {
			d += n;
		}
		if (n > to - at)
			return NULL;
		memcpy(out + at, source, n);
		at += n;
	}
	if (!out || at != to)
		return NULL;
	*ret_len = at;
	return take_ptr(out);
}

static bool take_object(struct pack *p)
{
	size_t at = p->at, len;
	const struct commit *base = NULL;
	uint64_t size, back;
	int type;

	if (!take_head(p, &type, &size) || type == 0 || type == 5)
		return false;
	if (type == OBJ_OFS_DELTA) {
		if (!take_offset(p, &back) || back > at)
			return false;
		base = commit_at(p, at - back);
	} else if (type == OBJ_REF_DELTA) {
		p->at += p->hex / 2;
		if (p->at > p->in.len)
			return false;
	}
	if ((type != OBJ_COMMIT && !base) || size > GIT_COMMIT_MAX)
		return inflate_one(p, size, NULL);
	AUTO_FREE char *text = malloc(size + 1);
	if (!text || !inflate_one(p, size, text))
		return false;
	if (type == OBJ_COMMIT)
		return keep_commit(p, at, take_ptr(text), size);
	char *whole = apply_delta(base, (const uint8_t *)text, size, &len);
	return whole && keep_commit(p, at, whole, len);
}

static bool read_pack(struct pack *p)
{
	const uint8_t *s = p->in.data;
	uint32_t count;

	if (p->in.len < 12 + p->hex / 2 || p->in.len > UINT32_MAX || memcmp(s, "PACK", 4) != 0 ||
	    s[4] || s[5] || s[6] || (s[7] != 2 && s[7] != 3))
		return false;
	count = (uint32_t)s[8] << 24 | (uint32_t)s[9] << 16 | (uint32_t)s[10] << 8 | s[11];
	p->at = 12;
	if (count > GIT_PACK_OBJECTS_MAX)
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (!take_object(p))
			return false;
	return true;
}

static int compare(const void *a, const void *b)
{
	const struct commit *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* Sorted by name. */
static struct commit *find(const struct pack *p, struct bytes name)
{
	struct commit key = {.at = 0};

	if (name.len >= sizeof(key.name) || !p->count)
		return NULL;
	memcpy(key.name, name.data, name.len);
	return bsearch(&key, p->commits, p->count, sizeof(key), compare);
}

/* The i-th "parent NAME" line of the head. */
static bool parent(const struct pack *p, const struct commit *c, size_t i, struct bytes *ret)
{
	const char *s = c->text;
	size_t at = 5 + p->hex + 1; /* "tree NAME\n" */

	for (; at + 8 + p->hex <= c->len && memcmp(s + at, "parent ", 7) == 0; at += 8 + p->hex)
		if (i-- == 0) {
			*ret = bytes_of(s + at + 7, p->hex);
			return true;
		}
	return false;
}

static bool walk(struct pack *p, struct bytes after, struct bytes before)
{
	AUTO_FREE struct commit **todo = calloc(p->count + 1, sizeof(*todo));
	size_t n = 0;

	if (!todo)
		return false;
	for (size_t i = 0; i < p->count; i++)
		p->commits[i].seen = false;
	todo[n] = find(p, after);
	if (!todo[n])
		return false;
	todo[n++]->seen = true;
	while (n > 0) {
		const struct commit *c = todo[--n];
		struct bytes up;

		for (size_t i = 0; parent(p, c, i, &up); i++) {
			struct commit *next;

			if (bytes_equal(up, before))
				return true;
			next = find(p, up);
			if (next && !next->seen) {
				next->seen = true;
				todo[n++] = next;
			}
		}
	}
	return false;
}

static bool is_zero(struct bytes name)
{
	const char *s = name.data;

	for (size_t i = 0; i < name.len; i++)
		if (s[i] != '0')
			return false;
	return true;
}

void git_pack_judge(struct bytes pack, struct action_update *updates, size_t count)
{
	struct pack p = {.in = pack, .hex = count ? updates[0].after.len : 0};
	bool readable = false, tried = false;

	for (size_t i = 0; i < count; i++) {
		struct action_update *u = &updates[i];

		u->force = !is_zero(u->before) && !is_zero(u->after);
		if (!u->force || u->after.len != p.hex)
			continue;
		if (!tried) {
			tried = true;
			readable = read_pack(&p);
			if (p.count)
				qsort(p.commits, p.count, sizeof(*p.commits), compare);
		}
		u->force = !readable || !walk(&p, u->after, u->before);
	}
	pack_clear(&p);
}
