#pragma once
/*
 * SHA-256 (FIPS 180-4, by OpenSSL). Structured digests are SHA-256(domain, 0x00, canonical bytes),
 * so that two kinds of object never share one; blobs and manifest entries are plain SHA-256 of the
 * content.
 */
#include "base/buffer.h"
#include "base/guard.h"

enum { DIGEST_SIZE = 32, DIGEST_HEX_SIZE = 65, DIGEST_SHORT_HEX = 16 };

struct digest {
	uint8_t b[DIGEST_SIZE];
};

struct digest_ctx; /* opaque, owned */

void digest_of(struct bytes content, struct digest *ret);
void digest_domain(const char *domain, struct bytes canonical, struct digest *ret);
struct digest_ctx *digest_ctx_new(void); /* NULL when out of memory */
void digest_ctx_reset(struct digest_ctx *c);
void digest_ctx_update(struct digest_ctx *c, const void *data, size_t len);
void digest_ctx_final(struct digest_ctx *c, struct digest *ret);
void digest_ctx_free(struct digest_ctx *c); /* accepts NULL */
DEFINE_GUARD(struct digest_ctx *, digest_ctx_free)
/* Lowercase hex; buf holds DIGEST_HEX_SIZE bytes. Returns buf. */
char *digest_hex(const struct digest *d, char *buf);
/* -EINVAL unless exactly 64 lowercase hex digits. */
MUST_CHECK int digest_from_hex(struct bytes hex, struct digest *ret);
static inline bool digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}
static inline bool digest_is_zero(const struct digest *d)
{
	static const struct digest zero;
	return digest_equal(d, &zero);
}
/* RFC 4648 base32 without padding, lowercase; buf holds 53 bytes. */
char *digest_base32(const struct digest *d, char *buf);
