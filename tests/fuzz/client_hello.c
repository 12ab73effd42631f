/* What is whole was not whole one byte before it became so; a name is a host name. */
#include <errno.h>
#include "sandbox/action.h"
#include "sandbox/gate/hello.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hello h, again;
	struct bytes in = bytes_of(data, size);
	int r = hello_parse(in, &h);

	if (r != HELLO_WHOLE)
		return 0;
	MUST(h.name[0] == '\0' || action_host_valid(bytes_str(h.name)));
	for (size_t cut = 0; cut < size && size < 4096; cut++) {
		r = hello_parse(bytes_of(data, cut), &again);
		MUST(r == HELLO_NEED_MORE || (r == HELLO_WHOLE && strcmp(h.name, again.name) == 0));
	}
	return 0;
}
