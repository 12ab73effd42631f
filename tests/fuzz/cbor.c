/* Decode then encode gives the same bytes, or an error: by the validator, and by reader and writer.
 */
#include <errno.h>
#include "base/cbor.h"
#include "tests/fuzz/fuzz.h"

/* Maps with text keys have no reader but cbor_r_skip, which counts the depth from where it starts.
 */
static bool skipped;

static void copy(struct cbor_reader *r, struct buffer *out, int depth)
{
	enum cbor_kind kind = cbor_r_peek(r);
	size_t n;

	if (depth >= CBOR_DEPTH_MAX && (kind == CBOR_ARRAY || kind == CBOR_MAP))
		cbor_r_fail(r, -E2BIG);
	switch (kind) {
	case CBOR_NONE:
		cbor_r_fail(r, -1);
		break;
	case CBOR_UINT:
		cbor_w_uint(out, cbor_r_uint(r));
		break;
	case CBOR_NINT: {
		struct cbor_reader before = *r;
		int64_t v = cbor_r_int(r);

		if (r->error) { /* below INT64_MIN: canonical, but no writer makes it */
			*r = before;
			cbor_w_raw(out, cbor_r_skip(r));
		} else {
			cbor_w_int(out, v);
		}
		break;
	}
	case CBOR_BYTES:
		cbor_w_bytes(out, cbor_r_bytes(r));
		break;
	case CBOR_TEXT:
		cbor_w_text(out, cbor_r_text(r));
		break;
	case CBOR_ARRAY:
		n = cbor_r_array(r);
		cbor_w_array(out, n);
		for (size_t i = 0; i < n && !r->error; i++)
			copy(r, out, depth + 1);
		break;
	case CBOR_MAP: {
		struct cbor_reader before = *r;
		struct cbor_map_iter m;
		struct cbor_map_mark mark = cbor_w_map_begin(out);
		size_t start = out->len;
		uint64_t key;

		cbor_r_map(r, &m);
		while (cbor_r_key(r, &m, &key)) {
			cbor_w_key(out, &mark, key);
			copy(r, out, depth + 1);
		}
		cbor_w_map_end(out, &mark);
		if (r->error == -EPROTO) { /* text keys: only whole */
			*r = before;
			out->len = start;
			skipped = true;
			cbor_w_raw(out, cbor_r_skip(r));
		}
		break;
	}
	case CBOR_BOOL:
		cbor_w_bool(out, cbor_r_bool(r));
		break;
	case CBOR_NULL:
		cbor_r_null(r);
		cbor_w_null(out);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = bytes_of(data, size);
	struct cbor_reader r = cbor_reader(in);
	AUTO_BUFFER out = {0};
	AUTO_BUFFER text = {0};
	int valid = cbor_validate(in);

	skipped = false;
	copy(&r, &out, 0);
	MUST(cbor_r_end(&r) == 0 || valid != 0);
	MUST(skipped || cbor_r_end(&r) != 0 || valid == 0);
	if (valid == 0) {
		MUST(out.failed == 0 && bytes_equal(buffer_bytes(&out), in));
		MUST(cbor_diagnostic(in, &text) == 0 && text.len > 0);
	}
	return 0;
}
