/*
 * A manifest decodes to what encodes to the same bytes, or not at all; merged with itself it is
 * itself. And the sealer's messages: what decodes encodes again to the same bytes.
 */
#include <errno.h>
#include "base/guard.h"
#include "sandbox/sealer.h"
#include "tests/fuzz/fuzz.h"

static void manifest(struct bytes in)
{
	AUTO(manifest_free) struct manifest *m = NULL;
	AUTO(manifest_free) struct manifest *merged = NULL;
	AUTO_BUFFER out = {0};
	const struct manifest *stack[2];

	if (manifest_decode(in, &m, NULL) < 0)
		return;
	MUST(manifest_encode(m, &out) == 0 && bytes_equal(buffer_bytes(&out), in));
	for (size_t i = 0; i < manifest_count(m); i++) {
		const struct manifest_entry *e = manifest_at(m, i);

		MUST(manifest_check_path(e->path) == 0);
		MUST(manifest_find(m, e->path) == e);
		(void)manifest_entry_changes(e);
	}
	stack[0] = stack[1] = m;
	MUST(manifest_merge(stack, 2, MANIFEST_MERGE_SQUASH, &merged, NULL) == 0);
	MUST(manifest_count(merged) <= manifest_count(m));
}

static void messages(struct bytes in)
{
	struct sealer_request q;
	struct sealer_reply r;
	AUTO_BUFFER out = {0};
	AUTO_BUFFER again = {0};

	if (sealer_request_decode(in, &q, NULL) == 0 && in.len <= SEALER_MESSAGE_MAX) {
		struct sealer_request twice;

		MUST(sealer_request_encode(&q, &out) == 0);
		MUST(sealer_request_decode(buffer_bytes(&out), &twice, NULL) == 0);
		MUST(sealer_request_encode(&twice, &again) == 0);
		MUST(bytes_equal(buffer_bytes(&out), buffer_bytes(&again)));
	}
	if (sealer_reply_decode(in, &r, NULL) == 0) {
		out.len = 0;
		MUST(sealer_reply_encode(&r, &out) == 0 && bytes_equal(buffer_bytes(&out), in));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	manifest(bytes_of(data, size));
	messages(bytes_of(data, size));
	return 0;
}
