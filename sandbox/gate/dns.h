#pragma once
/*
 * One DNS question and its answer (RFC 1035, RFC 6891): a reader and a writer, bounded. Pure.
 *
 * The gate answers from the run's name table and forwards nothing, so this is all of DNS that there
 * is: one question of class IN, an A or an AAAA record, or none. A compressed name in the question
 * is refused: nothing stands before it that it could point at. EDNS(0) is tolerated: answered with
 * an OPT of our own, its options ignored.
 */
#include "base/buffer.h"

enum {
	DNS_MESSAGE_MAX = 4096, /* bytes of a query; a longer one is dropped */
	DNS_REPLY_MAX = 512, /* bytes of ours: always fits UDP */
	DNS_NAME_MAX = 253, /* bytes of a name as text */
	DNS_TTL_S = 60,
};

enum dns_type { DNS_A = 1, DNS_AAAA = 28 }; /* those that are answered with a record */

enum dns_rcode {
	DNS_OK = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
};

struct dns_query {
	uint16_t id;
	uint16_t flags;
	uint16_t type; /* any */
	bool edns;
	char name[DNS_NAME_MAX + 1]; /* lowercase, no trailing dot; "" is the root. A byte that no
					host name has is '?' */
	struct bytes question; /* borrowed: as sent, for the reply; empty: it could not be read */
};

/* 0, or an enum dns_rcode to answer with; -EBADMSG: no answer at all (too short, or itself an
 * answer). *ret is filled unless negative. */
MUST_CHECK int dns_parse(struct bytes b, struct dns_query *ret);
/* Appends the reply: rcode, and with DNS_OK the address (4 or 16 bytes; len 0: no record). */
MUST_CHECK int dns_reply(const struct dns_query *q, enum dns_rcode rcode, struct bytes address,
			 struct buffer *out);
