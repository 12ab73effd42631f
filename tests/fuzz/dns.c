/* A query that can be read is answered within bounds, by an answer that is none of ours to read. */
#include <errno.h>
#include "sandbox/gate/dns.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t address[16];
	struct dns_query q, again;

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
