/* Any bytes are one ballot, and that has these bytes, or none. */
#include "supervisor/vote.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = bytes_of(data, size);
	struct vote_ballot v;

	if (vote_ballot_decode(in, &v) == 0) {
		AUTO_BUFFER again = {0};

		MUST(vote_ballot_encode(&v, &again) == 0);
		MUST(bytes_equal(buffer_bytes(&again), in));
		MUST(v.reason.len <= VOTE_TEXT_MAX && v.signer.len <= VOTE_SIGNER_MAX);
	}
	return 0;
}
