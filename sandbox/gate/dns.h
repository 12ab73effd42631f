#pragma once
/*
 * One DNS question and its answer (RFC 1035, RFC 6891): readers and writers, bounded. Pure.
 *
 * For the gate dns_parse() and dns_reply(), for the courier, which asks over TCP what was too long
 * for UDP, dns_ask() and dns_answer_parse().
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
	DNS_ANSWERS_MAX = 32, /* addresses that are taken of one answer */
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

/* Appends the question for name's addresses, as it stands behind its length on TCP. -EINVAL: no
 * such name can be asked for. */
MUST_CHECK int dns_ask(uint16_t id, const char *name, enum dns_type type, struct buffer *out);
struct dns_answer {
	enum dns_rcode rcode; /* others than those above are DNS_SERVFAIL */
	uint8_t addresses[DNS_ANSWERS_MAX][16]; /* the first 4 bytes of each for DNS_A */
	size_t count;
};
/* -EBADMSG: it is no whole answer to that question. Whose the addresses are is not looked at, as
 * in every stub: a resolver follows aliases itself, and each address is decided by policy. */
MUST_CHECK int dns_answer_parse(struct bytes b, uint16_t id, const char *name, enum dns_type type,
				struct dns_answer *ret);
