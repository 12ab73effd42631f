/* The keeper's messages, both ways: what decodes encodes to the same bytes, or not at all. */
#include <errno.h>
#include <stdlib.h>
#include "base/guard.h"
#include "sandbox/protocol.h"
#include "tests/fuzz/fuzz.h"

static void spec(struct bytes in)
{
	struct sandbox_attempt_id id = {{1}};
	AUTO(protocol_spec_free) struct protocol_spec *p = NULL;
	AUTO_BUFFER out = {0};

	if (protocol_spec_decode(in, &id, &p, NULL) < 0)
		return;
	/* the two descriptors that a spec says it comes with */
	p->spec.stdin_fd = p->fds & PROTOCOL_START_STDIN ? 0 : -1;
	MUST(protocol_spec_check(&p->spec, NULL) == 0);
	MUST(protocol_spec_encode(&p->spec, &out, NULL) == 0);
}

static void request(enum protocol_type type, struct bytes in)
{
	struct protocol_request q, again;
	AUTO_BUFFER out = {0};

	if (protocol_request_decode(type, in, &q) < 0)
		return;
	MUST(protocol_request_encode(type, &q, &out) == 0);
	MUST(protocol_request_decode(type, buffer_bytes(&out), &again) == 0);
}

static void event(enum protocol_type type, struct bytes in)
{
	struct sandbox_event e;
	AUTO_BUFFER out = {0};

	if (protocol_event_decode(type, in, &e) == 0)
		MUST(protocol_event_encode(&e, &out) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = bytes_of(data, size);
	struct protocol_header h;
	struct sandbox_hello hello;

	spec(in);
	for (int type = PROTOCOL_HELLO; type <= PROTOCOL_NET_CLOSE; type++)
		if (type != PROTOCOL_START)
			request((enum protocol_type)type, in);
	for (int type = PROTOCOL_EVENT_STARTED; type <= PROTOCOL_EVENT_LAYER; type++)
		event((enum protocol_type)type, in);
	if (protocol_hello_decode(in, &hello) == 0) {
		free(hello.found);
		free(hello.nets);
	}
	if (size >= sizeof(h)) {
		memcpy(&h, data, sizeof(h));
		if (protocol_check_header(&h, size, 0) == 0)
			request((enum protocol_type)h.type,
				bytes_of(data + sizeof(h), size - sizeof(h)));
	}
	return 0;
}
