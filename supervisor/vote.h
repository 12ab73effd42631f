#pragma once
/*
 * A signed vote: the bytes that ssh-keygen -Y sign signs, namespace VOTE_NAMESPACE, and
 * ssh-keygen -Y verify verifies. Canonical CBOR (base/holdfast.cddl, `vote-ballot`). Pure.
 *
 * It names the one item and the one card, so that it is good for nothing else; its time orders the
 * words of one signer, so that an older one cannot be sent again over a later one; its nonce makes
 * two votes two.
 */
#include "base/buffer.h"
#include "base/digest.h"
#include "base/error.h"

#define VOTE_NAMESPACE "holdfast-vote"

enum {
	VOTE_TEXT_MAX = 4000, /* bytes of a reason or a choice */
	VOTE_PATH_MAX = 4096,
	VOTE_SIGNER_MAX = 128,
	VOTE_NONCE_SIZE = 16,
	VOTE_ID_SIZE = 16,
	VOTE_BALLOT_MAX = 16 * 1024, /* encoded */
	VOTE_SIGNATURE_MAX = 16 * 1024, /* armored */
};

/* Texts are borrowed; empty = not said. */
struct vote_ballot {
	uint8_t approval[VOTE_ID_SIZE];
	struct digest card; /* render digest of what was shown */
	bool approve; /* else deny */
	struct bytes choice, path, reason;
	struct digest file; /* of the content, where the choice is "file"; zero = none */
	struct bytes signer; /* principal of the allowed-signers file; empty = whose key it is */
	int64_t time_ns; /* CLOCK_REALTIME of the signer */
	uint8_t nonce[VOTE_NONCE_SIZE]; /* random */
};

/* Appends. -E2BIG past VOTE_*. */
MUST_CHECK int vote_ballot_encode(const struct vote_ballot *v, struct buffer *out);
/* Strict: it is encoded again and must be the same bytes. Borrowed from b. -EBADMSG, -E2BIG,
 * -EPROTO. */
MUST_CHECK int vote_ballot_decode(struct bytes b, struct vote_ballot *ret);
