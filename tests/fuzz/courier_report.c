/* What courier and supervisor say to each other: what decodes encodes to the same bytes, or not at
 * all. */
#include "base/guard.h"
#include "sandbox/report.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct report_message m;
	AUTO_BUFFER out = {0};

	if (report_decode(bytes_of(data, size), &m) < 0)
		return 0;
	MUST(report_encode(&m, &out) == 0);
	MUST(bytes_equal(buffer_bytes(&out), bytes_of(data, size)));
	report_message_clear(&m);
	return 0;
}
