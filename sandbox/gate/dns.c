#include "sandbox/gate/dns.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
	HEADER = 12,
	LABEL_MAX = 63,
	WIRE_NAME_MAX = 255,
	CLASS_IN = 1,
	TYPE_OPT = 41,
	FLAG_RESPONSE = 0x8000,
	FLAG_OPCODE = 0x7800,
	FLAG_TRUNCATED = 0x0200,
	FLAG_DESIRED = 0x0100, /* recursion */
	FLAG_AVAILABLE = 0x0080,
	FLAG_CHECKING_OFF = 0x0010,
	UDP_SIZE = 1232, /* what an OPT of ours offers */
	RECORDS_MAX = 16, /* that are walked over, in search of an OPT */
};

struct reader {
	const uint8_t *data;
	size_t len, at;
	bool bad;
};

static uint16_t r16(struct reader *r)
{
	if (r->bad || r->len - r->at < 2) {
		r->bad = true;
		return 0;
	}
	r->at += 2;
	return (uint16_t)(r->data[r->at - 2] << 8 | r->data[r->at - 1]);
}

static void skip(struct reader *r, size_t n)
{
	if (r->bad || r->len - r->at < n)
		r->bad = true;
	else
		r->at += n;
}

static char plain(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c + 32);
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ? (char)c
											: '?';
}

/* An uncompressed name, as text. */
static void read_name(struct reader *r, char *out)
{
	size_t n = 0, wire = 0;

	out[0] = '\0';
	for (;;) {
		size_t len;

		if (r->bad || r->at == r->len) {
			r->bad = true;
			return;
		}
		len = r->data[r->at++];
		wire += len + 1;
		if (len > LABEL_MAX || wire > WIRE_NAME_MAX || r->len - r->at < len) {
			r->bad = true;
			return;
		}
		if (len == 0)
			break;
		if (n)
			out[n++] = '.';
		for (size_t i = 0; i < len; i++)
			out[n++] = plain(r->data[r->at + i]);
		r->at += len;
	}
	out[n] = '\0';
}

/* A name in front of a record that is not looked at: ends at the root or at a pointer, which is not
 * followed. */
static void skip_name(struct reader *r)
{
	for (size_t wire = 0; !r->bad;) {
		size_t len;

		if (r->at == r->len) {
			r->bad = true;
			return;
		}
		len = r->data[r->at++];
		if (len == 0)
			return;
		if ((len & 0xc0) == 0xc0) {
			skip(r, 1);
			return;
		}
		wire += len + 1;
		if (len > LABEL_MAX || wire > WIRE_NAME_MAX)
			r->bad = true;
		else
			skip(r, len);
	}
}

/* An OPT may stand among the additional records, once, at the root. */
static bool find_opt(struct reader *r, size_t records)
{
	bool found = false;

	for (size_t i = 0; i < records && !r->bad; i++) {
		bool root = r->at < r->len && r->data[r->at] == 0;
		uint16_t type;

		skip_name(r);
		type = r16(r);
		skip(r, 6); /* class, TTL */
		skip(r, r16(r));
		if (type == TYPE_OPT && !r->bad) {
			r->bad = !root || found;
			found = true;
		}
	}
	return found;
}

int dns_parse(struct bytes b, struct dns_query *ret)
{
	struct reader r = {b.data, b.len, 0, false};
	struct dns_query q;
	uint16_t questions, answers, authorities, additional, class;
	size_t from;

	if (b.len < HEADER || b.len > DNS_MESSAGE_MAX)
		return -EBADMSG;
	memset(&q, 0, sizeof(q));
	q.id = r16(&r);
	q.flags = r16(&r);
	questions = r16(&r);
	answers = r16(&r);
	authorities = r16(&r);
	additional = r16(&r);
	if (q.flags & FLAG_RESPONSE)
		return -EBADMSG;
	*ret = q;
	if (q.flags & FLAG_OPCODE)
		return DNS_NOTIMP;
	if (questions != 1 || answers || authorities || additional > RECORDS_MAX)
		return DNS_FORMERR;
	from = r.at;
	read_name(&r, q.name);
	q.type = r16(&r);
	class = r16(&r);
	if (r.bad)
		return DNS_FORMERR;
	q.question = bytes_of(r.data + from, r.at - from);
	q.edns = find_opt(&r, additional);
	if (r.bad || r.at != r.len)
		return DNS_FORMERR;
	*ret = q;
	return class == CLASS_IN ? 0 : DNS_NOTIMP;
}

static void w16(struct buffer *out, unsigned v)
{
	uint8_t b[2] = {(uint8_t)(v >> 8), (uint8_t)v};

	(void)buffer_append(out, b, 2);
}

int dns_reply(const struct dns_query *q, enum dns_rcode rcode, struct bytes address,
	      struct buffer *out)
{
	bool record = rcode == DNS_OK && address.len > 0;

	assert(address.len == 0 || address.len == 4 || address.len == 16);
	w16(out, q->id);
	w16(out, FLAG_RESPONSE | (q->flags & (FLAG_OPCODE | FLAG_DESIRED | FLAG_CHECKING_OFF)) |
			 FLAG_AVAILABLE | rcode);
	w16(out, q->question.len ? 1 : 0);
	w16(out, record);
	w16(out, 0);
	w16(out, q->edns);
	(void)buffer_append(out, q->question.data, q->question.len);
	if (record) {
		w16(out, 0xc000 | HEADER); /* the question's name */
		w16(out, address.len == 4 ? DNS_A : DNS_AAAA);
		w16(out, CLASS_IN);
		w16(out, 0);
		w16(out, DNS_TTL_S);
		w16(out, (unsigned)address.len);
		(void)buffer_append(out, address.data, address.len);
	}
	if (q->edns) {
		(void)buffer_append_byte(out, 0);
		w16(out, TYPE_OPT);
		w16(out, UDP_SIZE);
		w16(out, 0); /* extended code, version 0 */
		w16(out, 0);
		w16(out, 0); /* no options */
	}
	return out->failed;
}

int dns_ask(uint16_t id, const char *name, enum dns_type type, struct buffer *out)
{
	if (strlen(name) > DNS_NAME_MAX || !*name)
		return -EINVAL;
	w16(out, id);
	w16(out, FLAG_DESIRED);
	w16(out, 1);
	w16(out, 0);
	w16(out, 0);
	w16(out, 0);
	for (const char *label = name;; label++) {
		size_t len = strcspn(label, ".");

		if (len == 0 || len > LABEL_MAX)
			return -EINVAL;
		(void)buffer_append_byte(out, (uint8_t)len);
		(void)buffer_append(out, label, len);
		label += len;
		if (!*label)
			break;
	}
	(void)buffer_append_byte(out, 0);
	w16(out, type);
	w16(out, CLASS_IN);
	return out->failed;
}

static bool is_question(struct reader *r, const char *name, enum dns_type type)
{
	char said[DNS_NAME_MAX + 1];

	read_name(r, said);
	return r16(r) == type && r16(r) == CLASS_IN && !r->bad && strcmp(said, name) == 0;
}

int dns_answer_parse(struct bytes b, uint16_t id, const char *name, enum dns_type type,
		     struct dns_answer *ret)
{
	struct reader r = {b.data, b.len, 0, false};
	size_t len = type == DNS_A ? 4 : 16;
	struct dns_answer a = {0};
	uint16_t flags, questions, records;

	if (b.len < HEADER || r16(&r) != id)
		return -EBADMSG;
	flags = r16(&r);
	questions = r16(&r);
	records = r16(&r);
	skip(&r, 4);
	if (!(flags & FLAG_RESPONSE) || (flags & (FLAG_OPCODE | FLAG_TRUNCATED)) ||
	    questions != 1 || !is_question(&r, name, type))
		return -EBADMSG;
	a.rcode = (flags & 15) <= DNS_NXDOMAIN ? (enum dns_rcode)(flags & 15) : DNS_SERVFAIL;
	for (size_t i = 0; i < records && !r.bad; i++) {
		uint16_t is, class, size;

		skip_name(&r);
		is = r16(&r);
		class = r16(&r);
		skip(&r, 4); /* TTL */
		size = r16(&r);
		skip(&r, size);
		if (r.bad || is != type || class != CLASS_IN)
			continue;
		if (size != len)
			return -EBADMSG;
		if (a.count < DNS_ANSWERS_MAX)
			memcpy(a.addresses[a.count++], r.data + r.at - len, len);
	}
	if (r.bad)
		return -EBADMSG;
	*ret = a;
	return 0;
}
