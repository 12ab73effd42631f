/* A run's authority is good for its own hosts and for nothing else; a secret comes only from where
 * nobody else can put or read it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include "base/io.h"
#include "supervisor/net_ca.h"
#include "supervisor/net_secret.h"

/* ---- the authority ---- */

static struct buffer pem;
static X509 *authority;
static EVP_PKEY *authority_key;

static int make(void **state)
{
	AUTO(table_free) struct table *t = table_new();
	struct error err = {0};
	int64_t now = (int64_t)time(NULL);

	(void)state;
	assert_int_equal(table_add(t, "api.example.com", 443, TABLE_TLS), 0);
	assert_int_equal(table_add(t, "*.pkgs.example", 443, TABLE_TLS), 0);
	assert_int_equal(table_add(t, "plain.example", 80, TABLE_HTTP), 0);
	assert_int_equal(table_add(t, "opaque.example", 443, TABLE_PASSTHROUGH), 0);
	assert_int_equal(net_ca_make(t, "0badcafe", now - 86400, now + 86400, &pem, &err), 0);
	BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
	authority = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	authority_key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	BIO_free(bio);
	assert_non_null(authority);
	assert_non_null(authority_key);
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	X509_free(authority);
	EVP_PKEY_free(authority_key);
	buffer_free(&pem);
	return 0;
}

static void extend(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(e);
	assert_int_equal(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
}

static X509 *leaf(const char *names, bool ca)
{
	X509 *x = X509_new();

	assert_int_equal(X509_set_version(x, X509_VERSION_3), 1);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
	X509_set_issuer_name(x, X509_get_subject_name(authority));
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, authority_key);
	if (ca)
		extend(x, NID_basic_constraints, "critical,CA:TRUE");
	extend(x, NID_subject_alt_name, names);
	assert_true(X509_sign(x, authority_key, EVP_sha256()) > 0);
	return x;
}

/* What OpenSSL says of it to a client that trusts the authority alone. */
static int verdict(X509 *x)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();

	assert_int_equal(X509_STORE_add_cert(store, authority), 1);
	assert_int_equal(X509_STORE_CTX_init(ctx, store, x, NULL), 1);
	int error = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	return error;
}

static void the_authority_is_good_for_the_runs_own_names(void **state)
{
	static const struct {
		const char *names;
		int verdict;
	} rows[] = {
		{"DNS:api.example.com", X509_V_OK},
		{"DNS:any.pkgs.example", X509_V_OK},
		{"DNS:example.com", X509_V_ERR_PERMITTED_VIOLATION},
		{"DNS:other.example.com", X509_V_ERR_PERMITTED_VIOLATION},
		{"DNS:notpkgs.example", X509_V_ERR_PERMITTED_VIOLATION},
		{"DNS:api.example.com,DNS:evil.test", X509_V_ERR_PERMITTED_VIOLATION},
		/* not ended here, so never shown a certificate of ours */
		{"DNS:plain.example", X509_V_ERR_PERMITTED_VIOLATION},
		{"DNS:opaque.example", X509_V_ERR_PERMITTED_VIOLATION},
		{"IP:198.18.0.2", X509_V_ERR_EXCLUDED_VIOLATION},
		{"IP:::1", X509_V_ERR_EXCLUDED_VIOLATION},
		{"DNS:api.example.com,IP:10.0.0.1", X509_V_ERR_EXCLUDED_VIOLATION},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		X509 *x = leaf(rows[i].names, false);
		int v = verdict(x);
		if (v != rows[i].verdict)
			fail_msg("%s: %s", rows[i].names, X509_verify_cert_error_string(v));
		X509_free(x);
	}
}

static void the_authority_makes_no_other(void **state)
{
	BASIC_CONSTRAINTS *b = X509_get_ext_d2i(authority, NID_basic_constraints, NULL, NULL);

	(void)state;
	assert_non_null(b);
	assert_true(b->ca);
	assert_int_equal(ASN1_INTEGER_get(b->pathlen), 0);
	BASIC_CONSTRAINTS_free(b);
	assert_int_equal(X509_get_key_usage(authority), KU_KEY_CERT_SIGN);
}

static void only_its_certificate_is_shown(void **state)
{
	struct bytes cert;
	char name[16];

	(void)state;
	assert_int_equal(net_ca_certificate(buffer_bytes(&pem), &cert), 0);
	assert_null(memmem(cert.data, cert.len, "PRIVATE", 7));
	assert_int_equal(net_ca_folder_name(cert, name), 0);
	assert_int_equal(strlen(name), 10);
	assert_int_equal(net_ca_certificate(bytes_str("-----BEGIN"), &cert), -EBADMSG);
}

static void an_authority_of_no_host_signs_nothing(void **state)
{
	AUTO(table_free) struct table *t = table_new();
	AUTO_BUFFER out = {0};

	(void)state;
	assert_int_equal(table_add(t, "db.example", 5432, TABLE_TCP), 0);
	assert_int_equal(net_ca_make(t, "0", 0, 1, &out, NULL), 0);
	assert_true(out.len > 0);
}

/* ---- secrets ---- */

static char folder[] = "/tmp/hf-secret.XXXXXX";

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static const char *put(const char *name, const char *text, mode_t mode)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	(void)unlink(path); /* the one before may be nobody's to write */
	AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	return path;
}

static int read_it(const struct policy_secret_info *s, char *const *environment, char *ret)
{
	struct buffer out = {0};
	struct error err = {0};

	int r = net_secret_read(s, environment, &out, &err);
	if (r == 0)
		snprintf(ret, 64, "%.*s", (int)out.len, (const char *)out.data);
	else
		assert_non_null(strstr(err.msg, "'token'"));
	assert_null(strstr(err.msg, "s3cret"));
	net_secret_wipe(&out);
	assert_null(out.data);
	return r;
}

static void a_file_of_a_secret_is_its_owners_alone(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		int result;
		const char *value;
	} rows[] = {
		{"s3cret\n", 0600, 0, "s3cret"},
		{"s3cret", 0400, 0, "s3cret"},
		{"s3cret\n", 0640, -EPERM, NULL},
		{"s3cret\n", 0604, -EPERM, NULL},
		{"s3cret\n", 0620, -EPERM, NULL},
		{"s3cret\n\n", 0600, -EINVAL, NULL},
		{"s3cret\r\nX: y", 0600, -EINVAL, NULL},
		{"", 0600, -EINVAL, NULL},
		{"\n", 0600, -EINVAL, NULL},
	};
	char value[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_secret_info s = {.name = "token",
					       .at = {"p.yaml", 1, 1},
					       .file = put("value", rows[i].text, rows[i].mode)};
		assert_int_equal(read_it(&s, NULL, value), rows[i].result);
		if (rows[i].value)
			assert_string_equal(value, rows[i].value);
	}
}

static void a_secret_is_not_looked_for_behind_a_symlink(void **state)
{
	char link[128], value[64];
	struct policy_secret_info s = {.name = "token", .at = {"p.yaml", 1, 1}};

	(void)state;
	snprintf(link, sizeof(link), "%s/link", folder);
	assert_int_equal(symlink(put("value", "s3cret", 0600), link), 0);
	s.file = link;
	assert_int_equal(read_it(&s, NULL, value), -ELOOP);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(mkfifo(link, 0600), 0);
	assert_int_equal(read_it(&s, NULL, value), -EINVAL);
	s.file = "/nowhere/at/all";
	assert_int_equal(read_it(&s, NULL, value), -ENOENT);
}

static void a_secret_of_the_environment_or_of_systemd(void **state)
{
	char directory[128], value[64];
	char *environment[] = {(char *)"TOKENS=no", (char *)"TOKEN=s3cret", directory, NULL};
	struct policy_secret_info s = {.name = "token", .at = {"p.yaml", 1, 1}};

	(void)state;
	snprintf(directory, sizeof(directory), "CREDENTIALS_DIRECTORY=%s", folder);
	s.env_from = "TOKEN";
	assert_int_equal(read_it(&s, environment, value), 0);
	assert_string_equal(value, "s3cret");
	s.env_from = "TOKE";
	assert_int_equal(read_it(&s, environment, value), -ENOENT);
	s.env_from = NULL;
	s.credential = "value";
	put("value", "s3cret", 0440);
	assert_int_equal(read_it(&s, environment, value), 0);
	assert_int_equal(read_it(&s, NULL, value), -ENOENT);
	s.credential = "../value";
	assert_int_equal(read_it(&s, environment, value), -EINVAL);
}

static void a_placeholder_is_the_same_for_a_network_and_another_for_each_secret(void **state)
{
	struct digest seed = {{1}}, other = {{2}};
	char a[NET_PLACEHOLDER_SIZE], b[NET_PLACEHOLDER_SIZE];

	(void)state;
	net_secret_placeholder(&seed, "one", a);
	assert_string_equal(net_secret_placeholder(&seed, "one", b), a);
	assert_string_not_equal(net_secret_placeholder(&seed, "two", b), a);
	assert_string_not_equal(net_secret_placeholder(&other, "one", b), a);
	assert_int_equal(strlen(a), 9 + 52);
}

int main(void)
{
	const struct CMUnitTest authority_tests[] = {
		cmocka_unit_test(the_authority_is_good_for_the_runs_own_names),
		cmocka_unit_test(the_authority_makes_no_other),
		cmocka_unit_test(only_its_certificate_is_shown),
		cmocka_unit_test(an_authority_of_no_host_signs_nothing),
	};
	const struct CMUnitTest secret_tests[] = {
		cmocka_unit_test(a_file_of_a_secret_is_its_owners_alone),
		cmocka_unit_test(a_secret_is_not_looked_for_behind_a_symlink),
		cmocka_unit_test(a_secret_of_the_environment_or_of_systemd),
		cmocka_unit_test(
			a_placeholder_is_the_same_for_a_network_and_another_for_each_secret),
	};

	return cmocka_run_group_tests(authority_tests, make, unmake) |
	       cmocka_run_group_tests(secret_tests, make_folder, remove_folder);
}
