#include "supervisor/net_ca.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

enum { SERIAL_BYTES = 16 };

#define END_MARK "-----END CERTIFICATE-----\n"

DEFINE_GUARD(EVP_PKEY *, EVP_PKEY_free)
DEFINE_GUARD(X509 *, X509_free)
DEFINE_GUARD(BIO *, BIO_free_all)
DEFINE_GUARD(BIGNUM *, BN_free)

/* A permitted name stands for itself and all below it, so a wildcard is named by its parent. Only
 * hosts whose TLS is ended need a certificate. */
static int constraints(const struct table *t, struct buffer *out)
{
	bool any = false;

	buffer_append_str(out, "critical");
	for (size_t i = 0; i < t->count; i++) {
		const struct table_entry *e = &t->entries[i];
		const char *host = e->host + strspn(e->host, "*");

		for (size_t p = 0; p < e->port_count; p++) {
			if (e->ports[p].mode != TABLE_TLS)
				continue;
			buffer_printf(out, ",permitted;DNS:%s", host + (*host == '.'));
			any = true;
			break;
		}
	}
	if (!any)
		buffer_append_str(out, ",permitted;DNS:invalid"); /* RFC 6761: nobody's */
	buffer_append_str(out, ",excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:::/::");
	return out->failed;
}

static bool extend(X509 *x, int nid, const char *value)
{
	X509V3_CTX ctx;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	bool ok = e && X509_add_ext(x, e, -1) == 1;

	X509_EXTENSION_free(e);
	return ok;
}

static bool name(X509 *x, const char *run)
{
	X509_NAME *n = X509_get_subject_name(x);
	char common[64];

	snprintf(common, sizeof(common), "Holdfast run %.40s", run);
	return X509_NAME_add_entry_by_txt(n, "O", MBSTRING_UTF8, (const uint8_t *)"Holdfast", -1,
					  -1, 0) == 1 &&
	       X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const uint8_t *)common, -1, -1,
					  0) == 1 &&
	       X509_set_issuer_name(x, n) == 1;
}

static bool number(X509 *x)
{
	uint8_t random[SERIAL_BYTES];

	if (RAND_bytes(random, sizeof(random)) != 1)
		return false;
	random[0] &= 0x7f; /* positive, and not shortened */
	random[0] |= 0x40;
	AUTO(BN_free) BIGNUM *n = BN_bin2bn(random, sizeof(random), NULL);
	return n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
}

static bool fill(X509 *x, EVP_PKEY *key, const char *run, const char *names, int64_t from_s,
		 int64_t until_s)
{
	return X509_set_version(x, X509_VERSION_3) == 1 && number(x) && name(x, run) &&
	       ASN1_TIME_set(X509_getm_notBefore(x), (time_t)from_s) &&
	       ASN1_TIME_set(X509_getm_notAfter(x), (time_t)until_s) &&
	       X509_set_pubkey(x, key) == 1 &&
	       extend(x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
	       extend(x, NID_key_usage, "critical,keyCertSign") &&
	       extend(x, NID_subject_key_identifier, "hash") &&
	       extend(x, NID_name_constraints, names) && X509_sign(x, key, EVP_sha256()) > 0;
}

int net_ca_make(const struct table *t, const char *run, int64_t from_s, int64_t until_s,
		struct buffer *out, struct error *err)
{
	AUTO_BUFFER names = {0};
	AUTO(EVP_PKEY_free) EVP_PKEY *key = EVP_EC_gen("P-256");
	AUTO(X509_free) X509 *x = X509_new();
	AUTO(BIO_free_all) BIO *bio = BIO_new(BIO_s_secmem());
	char *pem;

	int r = constraints(t, &names);
	if (r < 0)
		return error_set(err, r, "cannot name the hosts of the run's certificates: %s",
				 strerror(-r));
	if (!key || !x || !bio || !fill(x, key, run, (const char *)names.data, from_s, until_s) ||
	    PEM_write_bio_X509(bio, x) != 1 ||
	    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
		return error_set(err, -EIO, "cannot make the run's certificate authority");
	long len = BIO_get_mem_data(bio, &pem);
	return buffer_append(out, pem, (size_t)len);
}

int net_ca_certificate(struct bytes pem, struct bytes *ret)
{
	const char *end = pem.len ? memmem(pem.data, pem.len, END_MARK, strlen(END_MARK)) : NULL;

	if (!end)
		return -EBADMSG;
	*ret = bytes_of(pem.data, (size_t)(end - (const char *)pem.data) + strlen(END_MARK));
	return 0;
}

int net_ca_folder_name(struct bytes certificate, char *buf)
{
	AUTO(BIO_free_all) BIO *bio = BIO_new_mem_buf(certificate.data, (int)certificate.len);
	AUTO(X509_free) X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

	if (!x)
		return -EBADMSG;
	snprintf(buf, 16, "%08lx.0", X509_subject_name_hash(x));
	return 0;
}
