/*
 * TLS toward the sandbox: leaf certificates of the run's authority, and sessions over the buffers
 * of a stream. Not the stream's own TLS: that reads the socket by itself, and here the client hello
 * is looked at, and may be passed through, before anything answers it.
 */
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include "base/digest.h"
#include "sandbox/gate/gate.h"

enum {
	LEAVES_MAX = 1024, /* certificates that are kept; past it the oldest go */
	LEAF_BEFORE_S = 24 * 3600, /* a sandbox's clock is ours; its programs' notion may not be */
	LEAF_AFTER_S = 90 * 24 * 3600,
	SERIAL_BYTES = 16,
	RECORD = 16 * 1024,
	COMMON_NAME_MAX = 64,
};

struct leaf {
	LIST_ENTRY(leaf) link;
	char *name;
	X509 *certificate;
};

struct gate_tls {
	SSL_CTX *context;
	BIO_METHOD *method;
	X509 *authority;
	EVP_PKEY *authority_key, *key; /* key: of every leaf */
	LIST_HEAD(, leaf) leaves; /* newest first */
	size_t leaf_count;
};

static int tls_error(struct error *err, int code, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *why = e ? ERR_reason_error_string(e) : NULL;

	ERR_clear_error();
	return error_set(err, code, "TLS: %s%s%s", what, why ? ": " : "", why ? why : "");
}

/* ---- bytes: a BIO over the two raw buffers ---- */

static int bio_write(BIO *b, const char *data, int len)
{
	struct stream *raw = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	return evbuffer_add(stream_out(raw), data, (size_t)len) < 0 ? -1 : len;
}

static int bio_read(BIO *b, char *data, int len)
{
	struct stream *raw = BIO_get_data(b);
	int n = evbuffer_remove(stream_in(raw), data, (size_t)len);

	BIO_clear_retry_flags(b);
	if (n > 0)
		return n;
	BIO_set_retry_read(b);
	return -1;
}

static long bio_ctrl(BIO *b, int command, long number, void *pointer)
{
	(void)b;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

/* ---- certificates ---- */

static bool add_extension(X509 *x, X509V3_CTX *v, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, v, nid, value);
	bool ok = e && X509_add_ext(x, e, -1);

	X509_EXTENSION_free(e);
	return ok;
}

static bool fill(struct gate_tls *t, X509 *x, const char *name)
{
	char alternative[CONTROL_NAME_MAX + 8];
	uint8_t serial[SERIAL_BYTES];
	BIGNUM *number = NULL;
	X509V3_CTX v;
	bool ok;

	snprintf(alternative, sizeof(alternative), "DNS:%s", name);
	ok = RAND_bytes(serial, sizeof(serial)) == 1;
	serial[0] &= 0x7f;
	number = ok ? BN_bin2bn(serial, sizeof(serial), NULL) : NULL;
	ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x));
	BN_free(number);
	X509V3_set_ctx(&v, t->authority, x, NULL, NULL, 0);
	/* Of a name that is too long for a common name the alternative name says all. */
	if (ok && strlen(name) <= COMMON_NAME_MAX)
		ok = X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
						(const unsigned char *)name, -1, -1, 0);
	return ok && X509_set_version(x, 2) &&
	       X509_set_issuer_name(x, X509_get_subject_name(t->authority)) &&
	       X509_gmtime_adj(X509_getm_notBefore(x), -LEAF_BEFORE_S) &&
	       X509_gmtime_adj(X509_getm_notAfter(x), LEAF_AFTER_S) && X509_set_pubkey(x, t->key) &&
	       add_extension(x, &v, NID_basic_constraints, "critical,CA:FALSE") &&
	       add_extension(x, &v, NID_key_usage, "critical,digitalSignature") &&
	       add_extension(x, &v, NID_ext_key_usage, "serverAuth") &&
	       add_extension(x, &v, NID_subject_key_identifier, "hash") &&
	       add_extension(x, &v, NID_authority_key_identifier, "keyid") &&
	       add_extension(x, &v, NID_subject_alt_name, alternative) &&
	       X509_sign(x, t->authority_key, EVP_sha256());
}

static void leaf_free(struct gate_tls *t, struct leaf *l)
{
	LIST_REMOVE(l, link);
	t->leaf_count--;
	X509_free(l->certificate);
	free(l->name);
	free(l);
}

static X509 *leaf_of(struct gate_tls *t, const char *name)
{
	struct leaf *l, *last = NULL;

	LIST_FOREACH(l, &t->leaves, link)
	{
		if (strcmp(l->name, name) == 0)
			return l->certificate;
		last = l;
	}
	if (t->leaf_count == LEAVES_MAX)
		leaf_free(t, last);
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	LIST_INSERT_HEAD(&t->leaves, l, link);
	t->leaf_count++;
	l->name = strdup(name);
	l->certificate = X509_new();
	if (!l->name || !l->certificate || !fill(t, l->certificate, name)) {
		leaf_free(t, l);
		return NULL;
	}
	return l->certificate;
}

/* ---- the context ---- */

/* HTTP/1.1 is all that is spoken; who offers only others is told so. */
static int on_alpn(SSL *s, const unsigned char **out, unsigned char *out_len,
		   const unsigned char *in, unsigned in_len, void *arg)
{
	(void)s;
	(void)arg;
	for (unsigned at = 0; at < in_len; at += 1U + in[at]) {
		if (in[at] == 8 && at + 9 <= in_len && memcmp(in + at + 1, "http/1.1", 8) == 0) {
			*out = in + at + 1;
			*out_len = 8;
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* The hello was held to the name already; a second one, after a retry, is too. */
static int on_server_name(SSL *s, int *alert, void *arg)
{
	const char *asked = SSL_get_servername(s, TLSEXT_NAMETYPE_host_name);
	const char *name = SSL_get_app_data(s);

	(void)arg;
	if (asked && name && strcasecmp(asked, name) == 0)
		return SSL_TLSEXT_ERR_OK;
	*alert = SSL_AD_UNRECOGNIZED_NAME;
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool make_context(struct gate_tls *t)
{
	t->context = SSL_CTX_new(TLS_server_method());
	t->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
	if (!t->context || !t->method || !BIO_meth_set_write(t->method, bio_write) ||
	    !BIO_meth_set_read(t->method, bio_read) || !BIO_meth_set_ctrl(t->method, bio_ctrl) ||
	    !SSL_CTX_set_min_proto_version(t->context, TLS1_2_VERSION))
		return false;
	SSL_CTX_set_options(t->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
						SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(t->context, SSL_MODE_ENABLE_PARTIAL_WRITE |
					     SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					     SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(t->context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(t->context, 1);
	SSL_CTX_set_alpn_select_cb(t->context, on_alpn, NULL);
	SSL_CTX_set_tlsext_servername_callback(t->context, on_server_name);
	return true;
}

int gate_tls_new(struct bytes pem, struct gate_tls **ret, struct error *err)
{
	struct gate_tls *t = calloc(1, sizeof(*t));
	BIO *b = BIO_new_mem_buf(pem.data, (int)pem.len);
	int r = 0;

	if (!t || !b) {
		free(t);
		BIO_free(b);
		return error_nomem(err);
	}
	t->authority = PEM_read_bio_X509(b, NULL, NULL, NULL);
	t->authority_key = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL);
	BIO_free(b);
	if (!t->authority || !t->authority_key ||
	    !X509_check_private_key(t->authority, t->authority_key))
		r = tls_error(err, -EINVAL, "the run's authority is no certificate with its key");
	else if (!(t->key = EVP_EC_gen("P-256")) || !make_context(t))
		r = tls_error(err, -ENOMEM, "no context");
	if (r < 0)
		gate_tls_free(t);
	else
		*ret = t;
	return r;
}

void gate_tls_free(struct gate_tls *t)
{
	struct leaf *l;

	if (!t)
		return;
	while ((l = LIST_FIRST(&t->leaves)))
		leaf_free(t, l);
	SSL_CTX_free(t->context);
	BIO_meth_free(t->method);
	X509_free(t->authority);
	EVP_PKEY_free(t->authority_key);
	EVP_PKEY_free(t->key);
	free(t);
}

/* ---- sessions ---- */

int gate_tls_session(struct gate_tls *t, const char *name, struct stream *raw, SSL **ret)
{
	X509 *leaf = leaf_of(t, name);
	SSL *s = leaf ? SSL_new(t->context) : NULL;
	BIO *b = s ? BIO_new(t->method) : NULL;
	struct digest scope;

	if (!b) {
		SSL_free(s);
		ERR_clear_error();
		return -ENOMEM;
	}
	BIO_set_data(b, raw);
	BIO_set_init(b, 1);
	SSL_set_bio(s, b, b);
	SSL_set_accept_state(s);
	SSL_set_app_data(s, (char *)name);
	/* A ticket of one name is none for another. */
	digest_of(bytes_str(name), &scope);
	if (SSL_use_certificate(s, leaf) != 1 || SSL_use_PrivateKey(s, t->key) != 1 ||
	    SSL_set_session_id_context(s, scope.b, sizeof(scope.b)) != 1) {
		SSL_free(s);
		ERR_clear_error();
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

int gate_tls_handshake(SSL *s, struct error *err)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(s);
	if (r == 1)
		return GATE_TLS_MOVED;
	return SSL_get_error(s, r) == SSL_ERROR_WANT_READ ? GATE_TLS_DONE
							  : tls_error(err, -EPROTO, "handshake");
}

int gate_tls_read(SSL *s, struct evbuffer *in, size_t max, struct error *err)
{
	int result = GATE_TLS_DONE;

	while (evbuffer_get_length(in) < max) {
		/* not kept in the buffer: an idle connection has none */
		uint8_t data[RECORD] UNINITIALIZED;
		int r, why;

		ERR_clear_error();
		r = SSL_read(s, data, sizeof(data));
		if (r > 0 && evbuffer_add(in, data, (size_t)r) < 0)
			return error_nomem(err);
		if (r > 0) {
			result = GATE_TLS_MOVED;
			continue;
		}
		why = SSL_get_error(s, r);
		if (why == SSL_ERROR_WANT_READ)
			break;
		return why == SSL_ERROR_ZERO_RETURN ? GATE_TLS_ENDED
						    : tls_error(err, -EPROTO, "record");
	}
	return result;
}

int gate_tls_write(SSL *s, struct evbuffer *out, struct stream *raw, struct error *err)
{
	int result = GATE_TLS_DONE;

	while (evbuffer_get_length(out) > 0 &&
	       evbuffer_get_length(stream_out(raw)) < GATE_OUT_MAX) {
		size_t len = evbuffer_get_length(out);
		uint8_t *data;
		int r;

		len = len > RECORD ? RECORD : len;
		data = evbuffer_pullup(out, (ssize_t)len);
		if (!data)
			return error_nomem(err);
		ERR_clear_error();
		r = SSL_write(s, data, (int)len);
		if (r <= 0) {
			if (SSL_get_error(s, r) == SSL_ERROR_WANT_READ)
				break;
			return tls_error(err, -EPROTO, "record");
		}
		evbuffer_drain(out, (size_t)r);
		result = GATE_TLS_MOVED;
	}
	return result;
}

void gate_tls_shutdown(SSL *s)
{
	ERR_clear_error();
	if (SSL_is_init_finished(s))
		(void)SSL_shutdown(s);
	ERR_clear_error();
}

void gate_tls_session_free(SSL *s)
{
	SSL_free(s);
}

void gate_tls_websocket_accept(const char *key, char *ret)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char text[REQUEST_WEBSOCKET_KEY + sizeof(guid)];
	uint8_t hash[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	snprintf(text, sizeof(text), "%s%s", key, guid);
	if (EVP_Digest(text, strlen(text), hash, &len, EVP_sha1(), NULL) != 1)
		len = 0;
	(void)EVP_EncodeBlock((unsigned char *)ret, hash, (int)len);
}
