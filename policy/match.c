/* Matching: hosts, addresses, URL paths, remotes, refs, values. What is compared is also what is
 * sent. */
#include "policy/model.h"
#include "base/utf8.h"
#include "base/hex.h"
#include <arpa/inet.h>
#include <idn2.h>
#include <libpsl.h>
#include <stdio.h>

enum { HOST_NAME_MAX_BYTES = 253, LABEL_MAX = 63, REF_MAX = 1024, URL_PATH_MAX = 8192 };

/* ---- values ---- */

/* The greedy match with one point to come back to: never exponential. */
static bool glob(struct bytes pattern, struct bytes text, bool segment)
{
	const char *p = pattern.data;
	const char *s = text.data;
	size_t star = SIZE_MAX;
	size_t back = 0;
	size_t at = 0;
	size_t i = 0;

	while (at < text.len) {
		if (i < pattern.len && p[i] == '*') {
			star = i++;
			back = at;
		} else if (i < pattern.len && p[i] == s[at]) {
			i++;
			at++;
		} else if (star != SIZE_MAX && !(segment && s[back] == '/')) {
			i = star + 1;
			at = ++back;
		} else {
			return false;
		}
	}
	while (i < pattern.len && p[i] == '*')
		i++;
	return i == pattern.len;
}

bool policy_glob(const char *pattern, struct bytes text, bool segment)
{
	return glob(bytes_str(pattern), text, segment);
}

/* A JSON number without exponent against a bound: -1, 0, 1, or 2 where it is no such number. */
static int compare_number(struct bytes text, int64_t bound)
{
	const char *s = text.data;
	bool negative = text.len && s[0] == '-';
	size_t at = negative ? 1 : 0;
	bool fraction = false;
	size_t start = at;
	__int128 v = 0;

	for (; at < text.len && s[at] >= '0' && s[at] <= '9'; at++) {
		v = v * 10 + (s[at] - '0');
		if (at - start > 30)
			return 2;
	}
	if (at == start || (s[start] == '0' && at - start > 1))
		return 2;
	if (at < text.len) {
		if (s[at++] != '.' || at == text.len)
			return 2;
		for (; at < text.len; at++) {
			if (s[at] < '0' || s[at] > '9')
				return 2;
			fraction |= s[at] != '0';
		}
	}
	if (negative)
		v = -v;
	if (v != bound)
		return v < bound ? -1 : 1;
	return !fraction ? 0 : negative ? -1 : 1;
}

bool policy_match_value(const struct policy_match *m, struct bytes value)
{
	int order;

	switch (m->kind) {
	case POLICY_MATCH_GLOB:
		return m->values.n == 1 && policy_glob(m->values.v[0], value, false);
	case POLICY_MATCH_IN:
		for (size_t i = 0; i < m->values.n; i++)
			if (bytes_equal(value, bytes_str(m->values.v[i])))
				return true;
		return false;
	case POLICY_MATCH_MAX:
		order = compare_number(value, m->bound);
		return order == -1 || order == 0;
	case POLICY_MATCH_MIN:
		order = compare_number(value, m->bound);
		return order == 1 || order == 0;
	}
	return false;
}

/* ---- hosts ---- */

/* NOLINTBEGIN(clang-analyzer-core.*): strcspn(3) stays inside the text, which the analyzer forgets */
static bool labels_valid(const char *host, bool *ret_encoded)
{
	*ret_encoded = false;
	for (const char *label = host;; label++) {
		size_t len = strcspn(label, ".");

		if (len == 0 || len > LABEL_MAX || label[0] == '-' || label[len - 1] == '-')
			return false;
		for (size_t i = 0; i < len; i++)
			if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-", label[i]))
				return false;
		*ret_encoded |= len > 4 && memcmp(label, "xn--", 4) == 0;
		label += len;
		if (*label == '\0')
			return true;
	}
}
/* NOLINTEND(clang-analyzer-core.*) */

int policy_host_normal(struct bytes host, char *buf)
{
	const uint8_t *s = host.data;
	char plain[POLICY_HOST_MAX];
	bool ascii = true;
	bool encoded;
	char *out = NULL;

	if (host.len && s[host.len - 1] == '.')
		host.len--;
	if (host.len == 0 || host.len > HOST_NAME_MAX_BYTES || memchr(s, '\0', host.len))
		return -EINVAL;
	for (size_t i = 0; i < host.len; i++) {
		ascii &= s[i] < 0x80;
		plain[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] + 32 : s[i]);
	}
	plain[host.len] = '\0';
	if (ascii && !labels_valid(plain, &encoded))
		return -EINVAL;
	if (!ascii || encoded) {
		/* UTS 46 without transitional rules, as browsers do; also proves that an xn-- label
		 * is a real one. */
		if (idn2_to_ascii_8z(plain, &out,
				     IDN2_NONTRANSITIONAL | IDN2_USE_STD3_ASCII_RULES) != IDN2_OK)
			return -EINVAL;
		if (strlen(out) > HOST_NAME_MAX_BYTES || !labels_valid(out, &encoded)) {
			idn2_free(out);
			return -EINVAL;
		}
		snprintf(plain, sizeof(plain), "%s", out);
		idn2_free(out);
	}
	memcpy(buf, plain, strlen(plain) + 1);
	return 0;
}

bool policy_host_match(const char *pattern, const char *host)
{
	const char *name;
	size_t len = strlen(host);
	size_t tail;

	if (pattern[0] != '*')
		return strcmp(pattern, host) == 0;
	name = strchr(pattern, '.'); /* ".name" */
	tail = strlen(name);
	if (len <= tail || strcmp(host + len - tail, name) != 0)
		return false;
	return pattern[1] == '*' || !memchr(host, '.', len - tail);
}

bool policy_host_is_suffix(const char *host)
{
	const psl_ctx_t *list = psl_builtin();

	/* Without the list no pattern can be shown to be safe. */
	return !list || psl_is_public_suffix2(list, host, PSL_TYPE_ANY);
}

bool policy_host_is_address(struct bytes host)
{
	const char *s = host.data;
	size_t end = host.len;
	size_t start;

	if (host.len == 0)
		return false;
	if (memchr(s, ':', host.len) || s[0] == '[')
		return true;
	if (s[end - 1] == '.')
		end--;
	/* Resolvers read "2130706433", "0x7f.1" and "127.1" as addresses: what decides is the last
	 * label. */
	for (start = end; start > 0 && s[start - 1] != '.'; start--)
		;
	if (end - start > 2 && s[start] == '0' && (s[start + 1] | 32) == 'x')
		return true;
	for (size_t i = start; i < end; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return end > start;
}

bool policy_host_is_local(const char *host)
{
	static const char *const tlds[] = {"localhost", "local",   "internal", "localdomain",
					   "lan",	"home",	   "corp",     "intranet",
					   "private",	"invalid", "onion"};
	const char *last = strrchr(host, '.');

	if (!last)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(tlds); i++)
		if (strcmp(last + 1, tlds[i]) == 0)
			return true;
	return policy_host_match("**.home.arpa", host) || strcmp(host, "home.arpa") == 0;
}

/* ---- URL paths ---- */

static bool segments_valid(struct bytes path)
{
	const char *s = path.data;
	size_t start = 1;

	if (path.len == 0 || s[0] != '/')
		return false;
	for (size_t i = 1; i <= path.len; i++) {
		size_t len = 0;
		bool name = false;

		if (i < path.len && s[i] != '/')
			continue;
		/* some servers take "..;x" for "..", and "/;/" for "//", others ".. " and "..." */
		for (; start + len < i && s[start + len] != ';'; len++)
			name |= s[start + len] != '.' && s[start + len] != ' ';
		/* A slash at the very end is part of many APIs' paths; two in a row are read in
		 * many ways. */
		if (!name && (len > 0 || i < path.len))
			return false;
		start = i + 1;
	}
	return true;
}

/* buf holds URL_PATH_MAX; needs no memory, so that a check can say what is wrong and nothing else. */
static int url_path(struct bytes raw, char *buf, size_t *ret_len)
{
	const char *s = raw.data;
	size_t n = 0;

	if (raw.len > URL_PATH_MAX)
		return -EINVAL;
	if (raw.len == 0)
		buf[n++] = '/';
	for (size_t i = 0; i < raw.len; i++) {
		uint8_t c = (uint8_t)s[i];

		if (c == '%') {
			int high = i + 2 < raw.len ? hex_digit((uint8_t)s[i + 1]) : -1;
			int low = i + 2 < raw.len ? hex_digit((uint8_t)s[i + 2]) : -1;

			if (high < 0 || low < 0)
				return -EINVAL;
			c = (uint8_t)(16 * high + low);
			if (c == '/' || c == '%')
				return -EINVAL;
			i += 2;
		} else if (c == '?' || c == '#') {
			return -EINVAL;
		}
		if (c < 0x20 || c == 0x7f || c == '\\')
			return -EINVAL;
		buf[n++] = (char)c;
	}
	*ret_len = n;
	return segments_valid(bytes_of(buf, n)) && utf8_valid(bytes_of(buf, n)) ? 0 : -EINVAL;
}

int policy_url_path(struct bytes raw, struct buffer *out)
{
	char path[URL_PATH_MAX];
	size_t len;
	int r = url_path(raw, path, &len);

	return r < 0 ? r : buffer_append(out, path, len);
}

bool policy_url_path_valid(const char *text)
{
	char path[URL_PATH_MAX];
	size_t len;

	return url_path(bytes_str(text), path, &len) == 0;
}

int policy_url_bare(struct bytes path, struct buffer *out)
{
	const char *s = path.data;
	bool skip = false;

	for (size_t i = 0; i < path.len; i++) {
		skip = s[i] != '/' && (skip || s[i] == ';');
		if (!skip)
			(void)buffer_append_byte(out, (uint8_t)s[i]);
	}
	return out->failed;
}

bool policy_url_match(const char *pattern, struct bytes path)
{
	size_t len = strlen(pattern);
	const char *s = path.data;
	size_t stem;

	if (len < 3 || strcmp(pattern + len - 3, "/**") != 0)
		return policy_glob(pattern, path, true);
	/* A pattern that ends so covers its stem and all below: every prefix that ends at a slash
	 * or the end is tried. */
	for (stem = 0; stem <= path.len; stem++) {
		if (stem < path.len && s[stem] != '/')
			continue;
		if (glob(bytes_of(pattern, len - 3), bytes_of(s, stem), true))
			return true;
	}
	return false;
}

/* ---- git ---- */

int policy_remote_normal(struct bytes remote, char *buf)
{
	static const char scheme[] = "https://";
	const char *s = remote.data;
	char host[POLICY_HOST_MAX], path[URL_PATH_MAX];
	size_t start = sizeof(scheme) - 1;
	size_t slash, len;

	if (remote.len <= start || remote.len >= POLICY_REMOTE_MAX - POLICY_HOST_MAX ||
	    memcmp(s, scheme, start) != 0)
		return -EINVAL;
	for (slash = start; slash < remote.len && s[slash] != '/'; slash++)
		;
	if (policy_host_is_address(bytes_of(s + start, slash - start)) ||
	    policy_host_normal(bytes_of(s + start, slash - start), host) < 0)
		return -EINVAL;
	while (remote.len > slash && s[remote.len - 1] == '/')
		remote.len--;
	if (remote.len > slash + 4 && memcmp(s + remote.len - 4, ".git", 4) == 0)
		remote.len -= 4;
	if (remote.len <= slash + 1 ||
	    url_path(bytes_of(s + slash, remote.len - slash), path, &len) < 0 ||
	    path[len - 1] == '/' || memchr(path, ';', len))
		return -EINVAL;
	snprintf(buf, POLICY_REMOTE_MAX, "%s%s%.*s", scheme, host, (int)len, path);
	return 0;
}

bool policy_remote_match(const char *pattern, const char *remote)
{
	char normal[POLICY_REMOTE_MAX];

	return policy_remote_normal(bytes_str(pattern), normal) == 0 &&
	       policy_glob(normal, bytes_str(remote), true);
}

/* git-check-ref-format(1). */
bool policy_ref_valid(struct bytes ref)
{
	const char *s = ref.data;
	size_t start = 0;

	if (ref.len == 0 || ref.len > REF_MAX || s[ref.len - 1] == '.' || !utf8_valid(ref))
		return false;
	for (size_t i = 0; i < ref.len; i++) {
		if ((uint8_t)s[i] <= 0x20 || s[i] == 0x7f || strchr("~^:?*[\\", s[i]))
			return false;
		if (i > 0 && ((s[i] == '.' && s[i - 1] == '.') || (s[i] == '{' && s[i - 1] == '@')))
			return false;
	}
	for (size_t i = 0; i <= ref.len; i++) {
		if (i < ref.len && s[i] != '/')
			continue;
		if (i == start || s[start] == '.' ||
		    (i - start > 5 && memcmp(s + i - 5, ".lock", 5) == 0))
			return false;
		start = i + 1;
	}
	return true;
}

/* ---- addresses ---- */

int policy_cidr_parse(const char *text, struct policy_cidr *ret)
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	struct policy_cidr c = {0};
	char address[64];

	if (len == 0 || len >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, len);
	address[len] = '\0';
	if (inet_pton(AF_INET, address, c.b) == 1)
		c.len = 4;
	else if (inet_pton(AF_INET6, address, c.b) == 1)
		c.len = 16;
	else
		return -EINVAL;
	c.bits = (unsigned)c.len * 8;
	if (slash) {
		unsigned bits = 0;
		size_t digits = strlen(slash + 1);

		if (digits == 0 || digits > 3 || strspn(slash + 1, "0123456789") != digits)
			return -EINVAL;
		for (const char *d = slash + 1; *d; d++)
			bits = 10 * bits + (unsigned)(*d - '0');
		if (bits > c.bits || (slash[1] == '0' && digits > 1))
			return -EINVAL;
		c.bits = bits;
		/* 10.1.2.3/8 is a slip of the pen more often than not. */
		for (unsigned i = bits; i < c.len * 8; i++)
			if (c.b[i / 8] & (0x80u >> (i % 8)))
				return -EINVAL;
	}
	*ret = c;
	return 0;
}

bool policy_cidr_holds(const struct policy_cidr *c, const uint8_t *address, size_t len)
{
	if (c->len != len)
		return false;
	for (unsigned i = 0; i < c->bits; i++)
		if ((c->b[i / 8] ^ address[i / 8]) & (0x80u >> (i % 8)))
			return false;
	return true;
}

/* IANA's special-purpose registries (RFC 6890 and after), and the cloud metadata services outside
 * them. */
enum policy_address_kind policy_address_kind(const uint8_t *address, size_t len)
{
	static const char *const refused4[] = {
		"0.0.0.0/8",	  "10.0.0.0/8",	    "100.64.0.0/10", "127.0.0.0/8",
		"169.254.0.0/16", "172.16.0.0/12",  "192.0.0.0/24",  "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "224.0.0.0/4",    "240.0.0.0/4",   "168.63.129.16",
	};
	static const char *const refused6[] = {"2001::/23", "2001:db8::/32", "2002::/16",
					       "3fff::/20"};
	const char *const *list = len == 4 ? refused4 : refused6;
	size_t count = len == 4 ? ARRAY_SIZE(refused4) : ARRAY_SIZE(refused6);
	struct policy_cidr c;

	if (len != 4 && len != 16)
		return POLICY_ADDRESS_REFUSED;
	/* Of IPv6 only 2000::/3 is global unicast; mapped, NAT64, unique local, link-local,
	 * multicast lie outside. */
	if (len == 16 && (address[0] & 0xe0) != 0x20)
		return POLICY_ADDRESS_REFUSED;
	for (size_t i = 0; i < count; i++)
		if (policy_cidr_parse(list[i], &c) < 0 || policy_cidr_holds(&c, address, len))
			return POLICY_ADDRESS_REFUSED;
	return POLICY_ADDRESS_PUBLIC;
}

struct bytes policy_registrable(struct bytes host)
{
	AUTO_FREE char *text = bytes_dup_str(host);
	const psl_ctx_t *list = psl_builtin();
	const char *domain = text && list ? psl_registrable_domain(list, text) : NULL;
	size_t n = domain ? strlen(domain) : 0;

	return n && n <= host.len ? bytes_of((const char *)host.data + host.len - n, n)
				  : (struct bytes){0};
}
