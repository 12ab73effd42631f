/*
 * What gate and courier say, the name table and the canonical action: what decodes encodes again to
 * the same bytes. A path that was made canonical stays as it is; so does a JSON text.
 */
#include <errno.h>
#include "base/guard.h"
#include "sandbox/gate/frames.h"
#include "sandbox/gate/table.h"
#include "tests/fuzz/fuzz.h"

#define AGAIN(kind, in)                                              \
	do {                                                         \
		struct frames_##kind v;                              \
		AUTO_BUFFER out = {0};                               \
		if (frames_##kind##_decode(in, &v) == 0) {           \
			MUST(frames_##kind##_encode(&v, &out) == 0); \
			MUST(bytes_equal(buffer_bytes(&out), in));   \
		}                                                    \
	} while (0)

static void action(struct bytes in)
{
	static const char *const ignore[] = {"/a", "query:a", "header:accept"};
	struct action a;
	struct digest x, y;
	AUTO_BUFFER out = {0};

	if (action_decode(in, &a) < 0)
		return;
	MUST(action_encode(&a, &out) == 0 && bytes_equal(buffer_bytes(&out), in));
	MUST(action_identity(&a, (struct bytes){0}, NULL, 0, &x) == 0);
	MUST(action_identity(&a, (struct bytes){0}, ignore, ARRAY_SIZE(ignore), &y) == 0);
}

static void table(struct bytes in)
{
	AUTO(table_free) struct table *t = NULL;
	AUTO_BUFFER out = {0};
	struct table_where w;

	if (table_decode(in, &t) < 0)
		return;
	MUST(table_encode(t, &out) == 0 && bytes_equal(buffer_bytes(&out), in));
	for (size_t i = 0; i < table_listeners(t); i++)
		table_listener(t, i, &w);
	(void)table_find(t, bytes_str("a.example.com"));
}

static void text(struct bytes in)
{
	static const char *const pointers[] = {"/a", "/0/b"};
	AUTO_BUFFER once = {0};
	AUTO_BUFFER twice = {0};
	AUTO_BUFFER path = {0};
	AUTO_BUFFER again = {0};

	if (action_json(in, NULL, 0, &once) == 0) {
		MUST(action_json(buffer_bytes(&once), NULL, 0, &twice) == 0);
		MUST(bytes_equal(buffer_bytes(&once), buffer_bytes(&twice)));
		MUST(action_json(in, pointers, 2, &twice) == 0);
	}
	if (action_path(in, &path) == 0) {
		MUST(action_path(buffer_bytes(&path), &again) == 0);
		MUST(bytes_equal(buffer_bytes(&path), buffer_bytes(&again)));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = bytes_of(data, size);
	struct frames_header h;
	uint8_t back[FRAMES_HEADER];

	AGAIN(open, in);
	AGAIN(note, in);
	AGAIN(request, in);
	AGAIN(tunnel, in);
	AGAIN(response, in);
	AGAIN(refusal, in);
	action(in);
	table(in);
	text(in);
	if (size >= FRAMES_HEADER && frames_header_decode(data, &h) == 0) {
		frames_header_encode(h.type, h.length, back);
		MUST(memcmp(back, data, FRAMES_HEADER) == 0);
	}
	return 0;
}
