#include "sandbox/gate/table.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include "base/cbor.h"

enum {
	VERSION = 1,
	RESOLVERS = 4, /* listeners before the first entry's */
	FIRST = 2, /* offset of the first entry's address; 1 is the resolver's */
	HOST_MAX = 253,
	LABEL_MAX = 63,
};

enum table_key { TABLE_VERSION = 1, TABLE_ENTRIES = 2 };
enum entry_key { ENTRY_HOST = 1, ENTRY_V4 = 2, ENTRY_V6 = 3, ENTRY_SLOTS = 4, ENTRY_PORTS = 5 };

static const uint8_t v4_base[4] = {198, 18, 0, 0};
static const uint8_t v6_base[16] = {0xfd, 0x48, 0x6f, 0x6c, 0x64, 0x66};

struct table *table_new(void)
{
	return calloc(1, sizeof(struct table));
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->count; i++)
		free((char *)t->entries[i].host);
	free(t->entries);
	free(t);
}

/* ---- names ---- */

static bool labels_valid(const char *s)
{
	size_t label = 0;
	size_t len = strlen(s);

	if (len == 0 || len > HOST_MAX)
		return false;
	for (size_t i = 0; i <= len; i++) {
		if (s[i] && s[i] != '.') {
			if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-", s[i]))
				return false;
			label++;
			continue;
		}
		if (label == 0 || label > LABEL_MAX || s[i - 1] == '-' || s[i - label] == '-')
			return false;
		label = 0;
	}
	return true;
}

/* How many labels may stand for the '*': 0 none, 1 one, 2 one or more. */
static int stars(const char *host)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): an entry of five keys has them all */
	return host[0] != '*' ? 0 : host[1] != '*' ? 1 : 2;
}

static bool pattern_valid(const char *host)
{
	int n = stars(host);

	return n == 0 ? labels_valid(host) : host[n] == '.' && labels_valid(host + n + 1);
}

static bool covers(const char *pattern, struct bytes name)
{
	int n = stars(pattern);
	const char *tail = pattern + n; /* ".name" */
	size_t tail_len = strlen(tail);
	const char *s = name.data;
	size_t head;

	if (n == 0)
		return bytes_equal(name, bytes_str(pattern));
	if (name.len <= tail_len || memcmp(s + name.len - tail_len, tail, tail_len) != 0)
		return false;
	head = name.len - tail_len;
	return n == 2 || !memchr(s, '.', head);
}

/* Every name that `inner` (a name or a pattern) covers, `pattern` covers too. */
static bool covers_all(const char *pattern, const char *inner)
{
	int n = stars(pattern), m = stars(inner);

	if (m == 0)
		return covers(pattern, bytes_str(inner));
	if (n == 0 || (n == 1 && m == 2))
		return false;
	if (strcmp(pattern + n, inner + m) == 0)
		return true;
	return n == 2 && covers(pattern, bytes_str(inner + m + 1));
}

const struct table_entry *table_find(const struct table *t, struct bytes name)
{
	const struct table_entry *best = NULL;

	for (size_t i = 0; i < t->count; i++) {
		const struct table_entry *e = &t->entries[i];

		if (!covers(e->host, name))
			continue;
		if (stars(e->host) == 0)
			return e;
		/* Of two patterns that cover a name, the longer tail is the more special; of equal
		 * ones the single star. */
		if (!best || covers_all(best->host, e->host))
			best = e;
	}
	return best;
}

/* ---- addresses ---- */

static void put_addresses(struct table_entry *e, uint32_t offset)
{
	memcpy(e->v4, v4_base, 4);
	memcpy(e->v6, v6_base, 16);
	e->v4[1] = (uint8_t)(e->v4[1] + (offset >> 16));
	e->v4[2] = (uint8_t)(offset >> 8);
	e->v4[3] = (uint8_t)offset;
	e->v6[13] = (uint8_t)(offset >> 16);
	e->v6[14] = (uint8_t)(offset >> 8);
	e->v6[15] = (uint8_t)offset;
}

static uint32_t offset_of(const struct table_entry *e)
{
	return (uint32_t)e->v6[13] << 16 | (uint32_t)e->v6[14] << 8 | e->v6[15];
}

static uint32_t next_offset(const struct table *t)
{
	const struct table_entry *last = t->count ? &t->entries[t->count - 1] : NULL;

	return last ? offset_of(last) + last->slots : FIRST;
}

/* ---- making one ---- */

static int add_port(struct table_entry *e, uint16_t port, enum table_mode mode)
{
	size_t at = 0;

	while (at < e->port_count && e->ports[at].port < port)
		at++;
	if (at < e->port_count && e->ports[at].port == port) {
		if (mode < e->ports[at].mode)
			e->ports[at].mode = mode;
		return 0;
	}
	if (e->port_count == TABLE_PORTS_MAX)
		return -E2BIG;
	memmove(&e->ports[at + 1], &e->ports[at], (e->port_count - at) * sizeof(e->ports[0]));
	e->ports[at] = (struct table_port){port, mode};
	e->port_count++;
	return 0;
}

static int new_entry(struct table *t, const char *host)
{
	struct table_entry *grown;
	struct table_entry e = {.slots = stars(host) ? TABLE_SLOTS : 1};
	int r = 0;

	if (t->count == TABLE_ENTRIES_MAX)
		return -E2BIG;
	put_addresses(&e, next_offset(t));
	for (size_t i = 0; i < t->count && r == 0; i++)
		if (covers_all(t->entries[i].host, host))
			for (size_t j = 0; j < t->entries[i].port_count && r == 0; j++)
				r = add_port(&e, t->entries[i].ports[j].port,
					     t->entries[i].ports[j].mode);
	if (r < 0)
		return r;
	grown = reallocarray(t->entries, t->count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	t->entries = grown;
	e.host = strdup(host);
	if (!e.host)
		return -ENOMEM;
	t->entries[t->count++] = e;
	return 0;
}

int table_add(struct table *t, const char *host, uint16_t port, enum table_mode mode)
{
	bool there = false;
	int r;

	if (!pattern_valid(host) || port == 0 || mode > TABLE_TCP)
		return -EINVAL;
	for (size_t i = 0; i < t->count; i++)
		there |= strcmp(t->entries[i].host, host) == 0;
	r = there ? 0 : new_entry(t, host);
	/* A name has one address, so what a pattern opens is open there too. */
	for (size_t i = 0; i < t->count && r == 0; i++)
		if (covers_all(host, t->entries[i].host))
			r = add_port(&t->entries[i], port, mode);
	if (r == 0 && table_listeners(t) > TABLE_LISTENERS_MAX)
		r = -E2BIG;
	return r;
}

/* ---- listeners ---- */

size_t table_listeners(const struct table *t)
{
	size_t n = RESOLVERS;

	for (size_t i = 0; i < t->count; i++)
		n += 2 * t->entries[i].slots * t->entries[i].port_count;
	return n;
}

static void put_where(const struct table_entry *e, uint32_t offset, bool v6,
		      struct table_where *ret)
{
	struct table_entry at;

	put_addresses(&at, offset + (e ? offset_of(e) : 0));
	ret->v6 = v6;
	memcpy(ret->address, v6 ? at.v6 : at.v4, v6 ? 16 : 4);
}

void table_listener(const struct table *t, size_t i, struct table_where *ret)
{
	struct table_where w = {0};

	assert(i < table_listeners(t));
	if (i < RESOLVERS) {
		w.resolver = true;
		w.datagram = i % 2 == 0;
		w.number = 53;
		put_where(NULL, 1, i >= 2, &w);
		*ret = w;
		return;
	}
	i -= RESOLVERS;
	for (uint32_t e = 0;; e++) {
		const struct table_entry *entry = &t->entries[e];
		size_t n = 2 * entry->slots * entry->port_count;

		if (i >= n) {
			i -= n;
			continue;
		}
		w.entry = e;
		w.slot = (uint32_t)(i / (2 * entry->port_count));
		w.port = (uint32_t)(i / 2 % entry->port_count);
		w.number = entry->ports[w.port].port;
		put_where(entry, w.slot, i % 2, &w);
		*ret = w;
		return;
	}
}

/* ---- bytes ---- */

/* What table_add() made, or could have made; the same rules for both directions. */
static int check(const struct table *t)
{
	uint32_t next = FIRST;

	if (t->count > TABLE_ENTRIES_MAX)
		return -E2BIG;
	for (size_t i = 0; i < t->count; i++) {
		const struct table_entry *e = &t->entries[i];
		struct table_entry want;

		put_addresses(&want, next);
		if (!pattern_valid(e->host) || e->slots != (stars(e->host) ? TABLE_SLOTS : 1) ||
		    memcmp(e->v4, want.v4, 4) != 0 || memcmp(e->v6, want.v6, 16) != 0 ||
		    e->port_count == 0 || e->port_count > TABLE_PORTS_MAX)
			return -EINVAL;
		next += e->slots;
		for (size_t j = 0; j < e->port_count; j++)
			if (e->ports[j].port == 0 || e->ports[j].mode > TABLE_TCP ||
			    (j && e->ports[j - 1].port >= e->ports[j].port))
				return -EINVAL;
		for (size_t j = 0; j < i; j++)
			if (strcmp(t->entries[j].host, e->host) == 0)
				return -EINVAL;
	}
	return table_listeners(t) > TABLE_LISTENERS_MAX ? -E2BIG : 0;
}

int table_encode(const struct table *t, struct buffer *out)
{
	size_t from = out->len;
	int r = check(t);

	if (r < 0)
		return r;
	cbor_w_map(out, 2);
	cbor_w_uint(out, TABLE_VERSION);
	cbor_w_uint(out, VERSION);
	cbor_w_uint(out, TABLE_ENTRIES);
	cbor_w_array(out, t->count);
	for (size_t i = 0; i < t->count; i++) {
		const struct table_entry *e = &t->entries[i];

		cbor_w_map(out, 5);
		cbor_w_uint(out, ENTRY_HOST);
		cbor_w_str(out, e->host);
		cbor_w_uint(out, ENTRY_V4);
		cbor_w_bytes(out, bytes_of(e->v4, 4));
		cbor_w_uint(out, ENTRY_V6);
		cbor_w_bytes(out, bytes_of(e->v6, 16));
		cbor_w_uint(out, ENTRY_SLOTS);
		cbor_w_uint(out, e->slots);
		cbor_w_uint(out, ENTRY_PORTS);
		cbor_w_array(out, e->port_count);
		for (size_t j = 0; j < e->port_count; j++) {
			cbor_w_array(out, 2);
			cbor_w_uint(out, e->ports[j].port);
			cbor_w_uint(out, e->ports[j].mode);
		}
	}
	if (!out->failed && out->len - from > TABLE_BYTES_MAX)
		return -E2BIG;
	return out->failed;
}

static void read_ports(struct cbor_reader *r, struct table_entry *e)
{
	size_t n = cbor_r_array(r);

	if (n > TABLE_PORTS_MAX) {
		cbor_r_fail(r, -E2BIG);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		uint64_t port, mode;

		if (cbor_r_array(r) != 2)
			cbor_r_fail(r, -EPROTO);
		port = cbor_r_uint(r);
		mode = cbor_r_uint(r);
		if (port > UINT16_MAX || mode > TABLE_TCP)
			cbor_r_fail(r, -EINVAL);
		e->ports[i] = (struct table_port){(uint16_t)port, (enum table_mode)(mode & 3)};
	}
	e->port_count = n;
}

static void read_entry(struct cbor_reader *r, struct table_entry *e)
{
	struct cbor_map_iter m;
	struct bytes host;
	uint64_t key, n;

	if (cbor_r_map(r, &m) != 5)
		cbor_r_fail(r, -EPROTO);
	while (cbor_r_key(r, &m, &key)) {
		switch (key) {
		case ENTRY_HOST:
			host = cbor_r_text(r);
			if (host.len == 0 || host.len > HOST_MAX + 3 ||
			    memchr(host.data, '\0', host.len))
				cbor_r_fail(r, -EINVAL);
			else if (!(e->host = bytes_dup_str(host)))
				cbor_r_fail(r, -ENOMEM);
			break;
		case ENTRY_V4:
			cbor_r_fixed(r, e->v4, 4);
			break;
		case ENTRY_V6:
			cbor_r_fixed(r, e->v6, 16);
			break;
		case ENTRY_SLOTS:
			n = cbor_r_uint(r);
			e->slots = n > TABLE_SLOTS ? 0 : (uint32_t)n;
			break;
		case ENTRY_PORTS:
			read_ports(r, e);
			break;
		default:
			cbor_r_fail(r, -EPROTO);
		}
	}
}

static void read_entries(struct cbor_reader *r, struct table *t)
{
	size_t n = cbor_r_array(r);

	if (n > TABLE_ENTRIES_MAX) {
		cbor_r_fail(r, -E2BIG);
		return;
	}
	if (n == 0)
		return;
	t->entries = calloc(n, sizeof(*t->entries));
	if (!t->entries) {
		cbor_r_fail(r, -ENOMEM);
		return;
	}
	while (t->count < n && !r->error)
		read_entry(r, &t->entries[t->count++]);
}

int table_decode(struct bytes b, struct table **ret)
{
	AUTO(table_free) struct table *t = table_new();
	struct cbor_reader r = cbor_reader(b);
	struct cbor_map_iter m;
	uint64_t key;
	int code;

	if (!t)
		return -ENOMEM;
	if (b.len > TABLE_BYTES_MAX)
		return -E2BIG;
	if (cbor_r_map(&r, &m) != 2)
		cbor_r_fail(&r, -EPROTO);
	while (cbor_r_key(&r, &m, &key)) {
		if (key == TABLE_VERSION) {
			if (cbor_r_uint(&r) != VERSION)
				cbor_r_fail(&r, -EPROTO);
		} else if (key == TABLE_ENTRIES) {
			read_entries(&r, t);
		} else {
			cbor_r_fail(&r, -EPROTO);
		}
	}
	code = cbor_r_end(&r);
	if (code == 0)
		code = check(t);
	if (code < 0)
		return code;
	*ret = take_ptr(t);
	return 0;
}
