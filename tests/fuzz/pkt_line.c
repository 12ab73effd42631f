/* A push's body, pack and all: what is read stays inside it, and its refusal can be read again. */
#include "base/guard.h"
#include "sandbox/gate/git.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct git_push p;
	AUTO_BUFFER out = {0};
	struct bytes in;

	if (git_push_parse(bytes_of(data, size), &p) < 0)
		return 0;
	for (size_t i = 0; i < p.count; i++) {
		const uint8_t *ref = p.updates[i].ref.data;

		MUST(ref > data && ref + p.updates[i].ref.len <= data + size);
		MUST(p.updates[i].before.len == p.updates[i].after.len);
	}
	MUST(git_push_refusal(&p, "no", &out) == 0);
	in = buffer_bytes(&out);
	while (in.len) {
		enum git_pkt kind;
		struct bytes line;

		MUST(git_pkt(&in, &kind, &line) == 0);
	}
	return 0;
}
