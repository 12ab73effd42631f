/* The SHA256_* functions of OpenSSL are marked old in favour of EVP, which allocates and can fail;
 * these do neither, run the same assembly, and let digest_of() promise an answer. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/digest.h"
#include "base/hex.h"
#include <errno.h>
#include <stdlib.h>
#include <openssl/sha.h>

struct digest_ctx {
	SHA256_CTX sha;
};

_Static_assert(DIGEST_SIZE == SHA256_DIGEST_LENGTH, "a digest is SHA-256");

void digest_of(struct bytes content, struct digest *ret)
{
	SHA256_CTX c;

	SHA256_Init(&c);
	if (content.len)
		SHA256_Update(&c, content.data, content.len);
	SHA256_Final(ret->b, &c);
}

void digest_domain(const char *domain, struct bytes canonical, struct digest *ret)
{
	SHA256_CTX c;

	SHA256_Init(&c);
	SHA256_Update(&c, domain, strlen(domain) + 1); /* the NUL is the separator */
	if (canonical.len)
		SHA256_Update(&c, canonical.data, canonical.len);
	SHA256_Final(ret->b, &c);
}

struct digest_ctx *digest_ctx_new(void)
{
	struct digest_ctx *c = malloc(sizeof(*c));

	if (c)
		SHA256_Init(&c->sha);
	return c;
}

void digest_ctx_reset(struct digest_ctx *c)
{
	SHA256_Init(&c->sha);
}

void digest_ctx_update(struct digest_ctx *c, const void *data, size_t len)
{
	if (len)
		SHA256_Update(&c->sha, data, len);
}

void digest_ctx_final(struct digest_ctx *c, struct digest *ret)
{
	SHA256_Final(ret->b, &c->sha);
}

void digest_ctx_free(struct digest_ctx *c)
{
	free(c);
}

char *digest_hex(const struct digest *d, char *buf)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		buf[2 * i] = digits[d->b[i] >> 4];
		buf[2 * i + 1] = digits[d->b[i] & 15];
	}
	buf[DIGEST_HEX_SIZE - 1] = '\0';
	return buf;
}

int digest_from_hex(struct bytes hex, struct digest *ret)
{
	return hex_decode(hex, ret->b, sizeof(ret->b));
}

char *digest_base32(const struct digest *d, char *buf)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
	unsigned bits = 0;
	unsigned held = 0;
	size_t n = 0;

	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		bits = bits << 8 | d->b[i];
		for (held += 8; held >= 5; held -= 5)
			buf[n++] = letters[bits >> (held - 5) & 31];
	}
	if (held > 0)
		buf[n++] = letters[bits << (5 - held) & 31];
	buf[n] = '\0';
	return buf;
}
