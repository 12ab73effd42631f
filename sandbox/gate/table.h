#pragma once
/*
 * The name table of a run: which names its sandboxes can resolve, to which addresses of their own
 * `lo`, at which ports, and what is spoken there (base/holdfast.cddl, `net-table`). Pure.
 *
 * The supervisor makes it from the policy's net rules; the keeper opens listeners by it; the gate
 * answers DNS by it and knows by getsockname(2) what a connection is for.
 *
 * Addresses: of SANDBOX_NET_V4 and SANDBOX_NET_V6 (sandbox.h). The first of each, 198.18.0.1 and
 * fd48:6f6c:6466::1, is the resolver's. A wildcard has TABLE_SLOTS addresses: the gate gives one to
 * each name that is asked for, and tells the keeper, who keeps it for the next gate; past them a
 * name is NXDOMAIN.
 *
 * Listeners, in this order: resolver v4 UDP, v4 TCP, v6 UDP, v6 TCP; then for each entry, each
 * slot, each port: v4, v6.
 */
#include "base/buffer.h"
#include "base/error.h"
#include "base/guard.h"

enum {
	TABLE_ENTRIES_MAX = 256,
	TABLE_PORTS_MAX = 8, /* of one entry */
	TABLE_SLOTS = 64, /* addresses of one wildcard */
	TABLE_LISTENERS_MAX = 2048,
	TABLE_BYTES_MAX = 128 * 1024,
};

/* Numbers are part of the form. */
enum table_mode {
	TABLE_TLS = 0, /* TLS is ended here, HTTP/1.1 inside */
	TABLE_HTTP = 1, /* HTTP/1.1 in the clear */
	TABLE_PASSTHROUGH = 2, /* the client hello is read, the rest is opaque */
	TABLE_TCP = 3, /* opaque */
};

struct table_port {
	uint16_t port;
	enum table_mode mode;
};

struct table_entry {
	const char *host; /* A-label; "*.name" or "**.name" for a wildcard */
	uint8_t v4[4], v6[16]; /* of slot 0; slot i is i further */
	uint32_t slots; /* 1, or TABLE_SLOTS */
	struct table_port ports[TABLE_PORTS_MAX];
	size_t port_count;
};

struct table {
	struct table_entry *entries;
	size_t count;
};

struct table *table_new(void); /* NULL when out of memory */
void table_free(struct table *t); /* accepts NULL */
DEFINE_GUARD(struct table *, table_free)
MUST_CHECK int table_encode(const struct table *t, struct buffer *out);
/* Strict. -EBADMSG, -E2BIG, -EPROTO, -EINVAL, -ENOMEM. */
MUST_CHECK int table_decode(struct bytes b, struct table **ret);
/* Adds host at port; one that is there gets the port too, and so does each entry that a wildcard
 * covers: a name has one address. The stricter mode of two wins (TLS over PASSTHROUGH, HTTP over
 * TCP). Gives addresses. -EINVAL; -E2BIG past TABLE_*: then t is good for nothing but
 * table_free(). */
MUST_CHECK int table_add(struct table *t, const char *host, uint16_t port, enum table_mode mode);
/* The most special entry that covers name (an A-label): exact, "*.", "**."; NULL: none. */
const struct table_entry *table_find(const struct table *t, struct bytes name);
size_t table_listeners(const struct table *t); /* how many it needs */
struct table_where {
	bool resolver, v6, datagram;
	uint32_t entry, slot, port; /* indices */
	uint8_t address[16];
	uint16_t number; /* of the port */
};
/* What listener i is. */
void table_listener(const struct table *t, size_t i, struct table_where *ret);
