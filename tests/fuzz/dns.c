/* A query that can be read is answered within bounds, by an answer that is none of ours to read; an
 * answer to a question of ours has at most so many addresses. */
#include <errno.h>
#include "base/guard.h"
#include "sandbox/gate/dns.h"
#include "tests/fuzz/fuzz.h"

static void as_answer(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"a.example.com", "b"};
	static const enum dns_type types[] = {DNS_A, DNS_AAAA};
	struct dns_answer a;

	for (size_t i = 0; size >= 2 && i < ARRAY_SIZE(names); i++)
		if (dns_answer_parse(bytes_of(data, size), (uint16_t)(data[0] << 8 | data[1]),
				     names[i], types[i], &a) == 0)
			MUST(a.count <= DNS_ANSWERS_MAX && a.rcode <= DNS_NOTIMP);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t address[16];
	struct dns_query q, again;

	as_answer(data, size);
	if (dns_parse(bytes_of(data, size), &q) < 0)
		return 0;
	MUST(strlen(q.name) <= DNS_NAME_MAX);
	for (size_t len = 0; len <= 16; len += len ? 12 : 4) {
		AUTO_BUFFER out = {0};

		MUST(dns_reply(&q, DNS_OK, bytes_of(address, len), &out) == 0);
		MUST(out.len <= DNS_REPLY_MAX);
		MUST(dns_parse(buffer_bytes(&out), &again) == -EBADMSG);
	}
	return 0;
}
