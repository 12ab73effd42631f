/*
 * The files of /etc and the variables by which programs inside a sandbox find names and trust the
 * run's own authority, whatever distribution and library they are of.
 */
#include "supervisor/net_etc.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "supervisor/net.h"
#include "supervisor/net_ca.h"
#include "supervisor/net_secret.h"

#define RESOLV_CONF "nameserver 198.18.0.1\nnameserver fd48:6f6c:6466::1\n"
#define RUN_CA	    "ssl/certs/holdfast-run.pem"

/* Where distributions keep the one file of all that they trust, below /etc: Debian, Alpine, Arch;
 * Fedora; openSUSE; LibreSSL's; Fedora's own extraction. */
static const char *const bundles[NET_ETC_BUNDLES] = {
	"ssl/certs/ca-certificates.crt", "pki/tls/certs/ca-bundle.crt", "ssl/ca-bundle.pem",
	"ssl/cert.pem", "pki/ca-trust/extracted/pem/tls-ca-bundle.pem"};

/* Libraries that look nowhere else, or at a folder where the run's own is not hashed. */
static const char *const bundle_variables[] = {"SSL_CERT_FILE",	     "CURL_CA_BUNDLE",
					       "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO",
					       "PIP_CERT",	     "AWS_CA_BUNDLE",
					       "CARGO_HTTP_CAINFO"};

static void put(struct net_etc *e, const char *name, struct bytes content)
{
	if (e->count < NET_ETC_MAX)
		e->files[e->count++] = (struct sandbox_etc_file){name, content};
}

/* The system's and the run's own; where the system has none, the run's alone. */
static int merge_bundle(struct net_etc *e)
{
	char path[64];

	for (size_t i = 0; i < NET_ETC_BUNDLES && e->bundle.len == 0; i++) {
		snprintf(path, sizeof(path), "/etc/%s", bundles[i]);
		AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && io_read_all(fd, NET_CA_FILE_MAX, &e->bundle) < 0)
			e->bundle.len = 0;
	}
	if (e->bundle.len > 0 && e->bundle.data[e->bundle.len - 1] != '\n')
		buffer_append_str(&e->bundle, "\n");
	buffer_append(&e->bundle, e->certificate.data, e->certificate.len);
	return e->bundle.failed;
}

static int make_files(struct net_etc *e, struct error *err)
{
	char path[64], name[16];
	bool first = true;

	int r = merge_bundle(e);
	if (r == 0)
		r = net_ca_folder_name(buffer_bytes(&e->certificate), name);
	if (r < 0)
		return error_set(err, r, "the run's trusted certificates cannot be put together");
	put(e, "resolv.conf", bytes_str(RESOLV_CONF));
	put(e, RUN_CA, buffer_bytes(&e->certificate));
	snprintf(e->folder_name, sizeof(e->folder_name), "ssl/certs/%s", name);
	put(e, e->folder_name, buffer_bytes(&e->certificate));
	/* the first is what the variables name, whatever this system has */
	for (size_t i = 0; i < NET_ETC_BUNDLES; i++, first = false) {
		snprintf(path, sizeof(path), "/etc/%s", bundles[i]);
		if (first || access(path, R_OK) == 0)
			put(e, bundles[i], buffer_bytes(&e->bundle));
	}
	return 0;
}

int net_etc_make(struct net_etc *e, int fd, struct error *err)
{
	AUTO_BUFFER pem = {0};
	struct bytes certificate;

	int r = buffer_reserve(&pem, SANDBOX_NET_CA_MAX + 1);
	if (r == 0)
		r = lseek(fd, 0, SEEK_SET) < 0 ? -errno : io_read_all(fd, SANDBOX_NET_CA_MAX, &pem);
	if (r == 0)
		r = net_ca_certificate(buffer_bytes(&pem), &certificate);
	if (r == 0)
		r = buffer_append(&e->certificate, certificate.data, certificate.len);
	if (r == 0)
		digest_domain("holdfast.placeholder-seed", buffer_bytes(&pem), &e->seed);
	net_secret_wipe(&pem);
	if (r < 0)
		return error_set(err, r, "the keeper's answer holds no certificate");
	return make_files(e, err);
}

void net_etc_clear(struct net_etc *e)
{
	buffer_free(&e->bundle);
	buffer_free(&e->certificate);
	e->count = 0;
}

void net_etc_env_free(char **env)
{
	for (size_t i = 0; env && env[i]; i++)
		free(env[i]);
	free(env);
}
DEFINE_GUARD(char **, net_etc_env_free)

int net_etc_env(const struct net_etc *e, const struct policy_effective *step, char ***ret,
		struct error *err)
{
	AUTO(net_etc_env_free) char **env = NULL;
	struct policy_secret_info s;
	char placeholder[NET_PLACEHOLDER_SIZE];
	size_t count = 0, at = 0;

	while (policy_secret_at(step, count, &s))
		count++;
	env = calloc(count + ARRAY_SIZE(bundle_variables) + 2, sizeof(*env));
	if (!env)
		return error_nomem(err);
	for (size_t i = 0; i < ARRAY_SIZE(bundle_variables); i++)
		if (asprintf(&env[at++], "%s=/etc/%s", bundle_variables[i], bundles[0]) < 0)
			return error_nomem(err);
	if (asprintf(&env[at++], "NODE_EXTRA_CA_CERTS=/etc/%s", RUN_CA) < 0)
		return error_nomem(err);
	for (size_t i = 0; policy_secret_at(step, i, &s); i++)
		if (s.env && asprintf(&env[at++], "%s=%s", s.env,
				      net_secret_placeholder(&e->seed, s.name, placeholder)) < 0)
			return error_nomem(err);
	*ret = take_ptr(env);
	return 0;
}
