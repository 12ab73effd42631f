/* One value of text at a time: what each kind may hold, and the reason when it may not. */
#include "policy/model.h"
#include "base/utf8.h"
#include <stdio.h>

/* The codes of values; their meanings are in codes.c. */
enum {
	CODE_NAME = 18,
	CODE_LONG = 19,
	CODE_TEXT = 20,
	CODE_PATH = 101,
	CODE_GLOB = 102,
	CODE_VARIABLE = 103,
	CODE_HOST = 110,
	CODE_SUFFIX = 111,
	CODE_ADDRESS = 113,
	CODE_URL_PATH = 114,
	CODE_POINTER = 115,
	CODE_METHOD = 116,
	CODE_REMOTE = 117,
	CODE_REF = 118,
	CODE_HEADER = 119,
	CODE_ENV = 120,
	CODE_FORMAT = 121,
	CODE_DATE = 122,
	CODE_WHO = 123,
};

enum { TITLE_MAX = 200, METHOD_MAX = 20, ENV_NAME_MAX = 128, HEADER_MAX = 64 };

static int refuse(char *msg, int code, const char *why)
{
	snprintf(msg, POLICY_WHY_MAX, "%s", why);
	return code;
}

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* ---- numbers with units ---- */

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit durations[] = {
	{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {"w", 604800000},
};
static const struct unit sizes[] = {
	{"B", 1},
	{"KB", 1000},
	{"MB", 1000000},
	{"GB", 1000000000},
	{"TB", 1000000000000},
	{"KiB", 1ULL << 10},
	{"MiB", 1ULL << 20},
	{"GiB", 1ULL << 30},
	{"TiB", 1ULL << 40},
};

static const struct unit *find_unit(const struct unit *units, size_t count, const char *name,
				    size_t len)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(units[i].name) == len && memcmp(units[i].name, name, len) == 0)
			return &units[i];
	return NULL;
}

/* Digits at text[*at]: at least one, no leading zero but "0". */
static int take_digits(struct bytes text, size_t *at, uint64_t *ret)
{
	const char *s = text.data;
	size_t start = *at;
	uint64_t v = 0;

	for (; *at < text.len && is_digit(s[*at]); (*at)++)
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s[*at] - '0'), &v))
			return -ERANGE;
	if (*at == start || (s[start] == '0' && *at - start > 1))
		return -EINVAL;
	*ret = v;
	return 0;
}

int policy_duration_parse(struct bytes text, uint64_t *ret_ms)
{
	const char *s = text.data;
	uint64_t total = 0;
	uint64_t last = UINT64_MAX;

	if (text.len == 0)
		return -EINVAL;
	for (size_t at = 0; at < text.len;) {
		const struct unit *u;
		size_t start;
		uint64_t v;
		int err = take_digits(text, &at, &v);

		if (err < 0)
			return err;
		start = at;
		while (at < text.len && !is_digit(s[at]))
			at++;
		u = find_unit(durations, ARRAY_SIZE(durations), s + start, at - start);
		/* 1h30m, never 30m1h: each unit is smaller than the one before. */
		if (!u || u->factor >= last)
			return -EINVAL;
		last = u->factor;
		if (__builtin_mul_overflow(v, u->factor, &v) ||
		    __builtin_add_overflow(total, v, &total))
			return -ERANGE;
	}
	*ret_ms = total;
	return 0;
}

int policy_size_parse(struct bytes text, uint64_t *ret_bytes)
{
	const struct unit *u;
	size_t at = 0;
	uint64_t v;
	int err;

	if (text.len == 0)
		return -EINVAL;
	err = take_digits(text, &at, &v);
	if (err < 0)
		return err;
	if (at < text.len) {
		u = find_unit(sizes, ARRAY_SIZE(sizes), (const char *)text.data + at,
			      text.len - at);
		if (!u)
			return -EINVAL;
		if (__builtin_mul_overflow(v, u->factor, &v))
			return -ERANGE;
	}
	*ret_bytes = v;
	return 0;
}

/* ---- names and texts ---- */

int policy_value_text(const char *text, char *msg)
{
	struct bytes b = bytes_str(text);

	for (size_t at = 0; at < b.len;) {
		int32_t cp = utf8_next(b, &at);

		if (cp < 0 || (cp != '\n' && cp != '\t' && utf8_is_deceptive(cp)))
			return refuse(msg, CODE_TEXT,
				      "holds a control, bidi or invisible character");
	}
	return 0;
}

int policy_value_title(const char *text, char *msg)
{
	if (text[0] == '\0' || strlen(text) > TITLE_MAX)
		return refuse(msg, CODE_LONG, "is empty or longer than 200 bytes");
	if (strpbrk(text, "\n\t"))
		return refuse(msg, CODE_TEXT, "is more than one line");
	return policy_value_text(text, msg);
}

/* What follows uid: is a number; a group and a signer are names, which nothing invisible can
 * imitate. */
int policy_value_role(const char *text, char *msg)
{
	size_t at = 4;
	uint64_t v;

	if (strncmp(text, "uid:", 4) == 0 && take_digits(bytes_str(text), &at, &v) == 0 &&
	    !text[at] && v < UINT32_MAX)
		return 0;
	if (strncmp(text, "group:", 6) == 0 && utf8_check_name(bytes_str(text + 6)) == 0)
		return 0;
	if (strncmp(text, "signer:", 7) == 0 && utf8_check_name(bytes_str(text + 7)) == 0)
		return 0;
	return refuse(msg, CODE_WHO, "is none of uid:N, group:NAME and signer:NAME");
}

int policy_value_name(const char *text, char *msg)
{
	if (utf8_check_name(bytes_str(text)) < 0)
		return refuse(msg, CODE_NAME,
			      "is no name: 1 to 128 bytes without '/', '#', control or invisible "
			      "characters");
	return 0;
}

int policy_value_step(const char *text, char *msg)
{
	/* A step's key is parent/name#n; a pattern is over the name alone. */
	return policy_value_name(text, msg);
}

int policy_value_env_name(const char *text, char *msg)
{
	size_t len = strlen(text);

	if (len == 0 || len > ENV_NAME_MAX || is_digit(text[0]))
		return refuse(msg, CODE_ENV, "is no name of a variable");
	for (size_t i = 0; i < len; i++)
		if (!is_lower(text[i]) && !is_upper(text[i]) && !is_digit(text[i]) &&
		    text[i] != '_')
			return refuse(msg, CODE_ENV,
				      "is no name of a variable: letters, digits and '_' only");
	return 0;
}

int policy_value_env_keep(const char *text, char *msg)
{
	char name[ENV_NAME_MAX + 2];
	size_t len = strlen(text);

	if (len == 0 || len > ENV_NAME_MAX)
		return refuse(msg, CODE_ENV, "is no name of a variable");
	memcpy(name, text, len + 1);
	if (name[len - 1] == '*') {
		name[len - 1] = '\0';
		if (len < 3 || name[len - 2] != '_')
			return refuse(msg, CODE_ENV,
				      "a pattern is PREFIX_*: a name that ends in '_', then '*'");
	}
	return policy_value_env_name(name, msg);
}

int policy_value_field(const char *text, char *msg)
{
	if (text[0] == '/')
		return policy_value_pointer(text, msg);
	if (text[0] == '\0' || strlen(text) > ENV_NAME_MAX)
		return refuse(msg, CODE_NAME, "is no name of an argument");
	for (const char *s = text; *s; s++)
		if (!is_lower(*s) && !is_upper(*s) && !is_digit(*s) && !strchr("_-.", *s))
			return refuse(msg, CODE_NAME,
				      "is no name of an argument: letters, digits, '_', '-' and "
				      "'.' only");
	return 0;
}

int policy_value_exclude(const char *text, char *msg)
{
	size_t at = 0;
	uint64_t v;

	if (strcmp(text, "starter") == 0)
		return 0;
	if (take_digits(bytes_str(text), &at, &v) < 0 || text[at] || v >= UINT32_MAX)
		return refuse(msg, CODE_WHO, "is neither 'starter' nor a uid");
	return 0;
}

static int two_digits(const char *s)
{
	return is_digit(s[0]) && is_digit(s[1]) ? 10 * (s[0] - '0') + s[1] - '0' : -1;
}

/* RFC 3339, as far as it is used here: a date, or a date and time in UTC. */
int policy_value_date(const char *text, char *msg)
{
	static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	size_t len = strlen(text);
	int month, day;

	if ((len != 10 && len != 20) || two_digits(text) < 19 || two_digits(text + 2) < 0 ||
	    text[4] != '-' || text[7] != '-')
		return refuse(msg, CODE_DATE,
			      "is no date such as 2026-12-31 or 2026-12-31T18:00:00Z");
	month = two_digits(text + 5);
	day = two_digits(text + 8);
	if (month < 1 || month > 12 || day < 1 || day > days[month - 1])
		return refuse(msg, CODE_DATE, "is no day of the calendar");
	if (len == 20 &&
	    (text[10] != 'T' || text[13] != ':' || text[16] != ':' || text[19] != 'Z' ||
	     two_digits(text + 11) < 0 || two_digits(text + 11) > 23 || two_digits(text + 14) < 0 ||
	     two_digits(text + 14) > 59 || two_digits(text + 17) < 0 || two_digits(text + 17) > 59))
		return refuse(msg, CODE_DATE,
			      "is no time of day in UTC such as 2026-12-31T18:00:00Z");
	return 0;
}

/* ---- paths ---- */

int policy_value_plain_path(const char *text, char *msg)
{
	if (!policy_path_clean(bytes_str(text)))
		return refuse(msg, CODE_PATH,
			      "is no clean absolute path: it starts with '/' and has no '.', '..', "
			      "'//' or '/' at the end");
	return policy_value_text(text, msg);
}

int policy_value_path(const char *text, char *msg)
{
	static const char *const variables[] = {"${workspace}", "${home}", "${tmp}", "${run}"};
	const char *rest = text;
	const char *star, *last;

	if (strpbrk(text, "\n\t"))
		return refuse(msg, CODE_PATH, "holds a line break or a tab");
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
		if (strncmp(text, variables[i], strlen(variables[i])) == 0)
			rest = text + strlen(variables[i]);
	if (strstr(rest, "${"))
		return refuse(msg, CODE_VARIABLE,
			      "the variables are ${workspace}, ${home}, ${tmp} and ${run}, at the "
			      "start only");
	if (rest[0] == '~' || (rest == text && rest[0] != '/'))
		return refuse(msg, CODE_PATH,
			      "is not absolute; start with '/', ${workspace} or ${home}");
	if (rest[0] && !policy_path_clean(bytes_str(rest)))
		return refuse(
			msg, CODE_PATH,
			"has '.', '..', '//' or a '/' at its end, or is longer than 4095 bytes");
	if (rest != text && strcmp(rest, "/") == 0)
		return refuse(msg, CODE_PATH, "has a '/' at its end");
	star = strchr(rest, '*');
	last = strrchr(rest, '/');
	if (star && (!last || star < last))
		return refuse(msg, CODE_GLOB,
			      "'*' may stand in the last part only; name the folders above");
	if (star && strstr(rest, "**"))
		return refuse(msg, CODE_GLOB,
			      "'**' does not go into folders; a rule covers all that is below it");
	return policy_value_text(text, msg);
}

/* ---- the network ---- */

static int check_host(const char *name, char *msg)
{
	char normal[POLICY_HOST_MAX];

	if (name[0] != '[' && strchr(name, ':') && strchr(name, ':') == strrchr(name, ':'))
		return refuse(msg, CODE_HOST, "holds a port; say it under `port`");
	if (policy_host_is_address(bytes_str(name)))
		return refuse(msg, CODE_HOST,
			      "is an address; name the host, and say its address under `address`");
	if (policy_host_normal(bytes_str(name), normal) < 0)
		return refuse(msg, CODE_HOST, "is no host name");
	if (strcmp(normal, name) != 0) {
		snprintf(msg, POLICY_WHY_MAX, "is not in the form that is compared; write '%.180s'",
			 normal);
		return CODE_HOST;
	}
	return 0;
}

int policy_value_host(const char *text, char *msg)
{
	if (strchr(text, '*'))
		return refuse(msg, CODE_HOST, "is a pattern; one host is meant here");
	return check_host(text, msg);
}

int policy_value_host_pattern(const char *text, char *msg)
{
	const char *name = text;
	int code;

	if (strncmp(text, "**.", 3) == 0)
		name = text + 3;
	else if (strncmp(text, "*.", 2) == 0)
		name = text + 2;
	if (strchr(name, '*'))
		return refuse(msg, CODE_HOST,
			      "'*.' or '**.' may stand at the start, followed by a name");
	code = check_host(name, msg);
	if (code)
		return code;
	if (name != text && policy_host_is_suffix(name)) {
		snprintf(msg, POLICY_WHY_MAX,
			 "covers '%.100s', under which anyone may register; name the domain that "
			 "is meant",
			 name);
		return CODE_SUFFIX;
	}
	return 0;
}

int policy_value_address(const char *text, char *msg)
{
	struct policy_cidr c;

	if (policy_cidr_parse(text, &c) < 0)
		return refuse(msg, CODE_ADDRESS,
			      "is neither an IP address nor a CIDR such as 10.1.0.0/16");
	return 0;
}

int policy_value_method(const char *text, char *msg)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if (!is_upper(text[i]) && text[i] != '-')
			len = 0;
	if (len == 0 || len > METHOD_MAX)
		return refuse(msg, CODE_METHOD, "is no method such as GET or POST, in capitals");
	return strcmp(text, "CONNECT") == 0
		       ? refuse(msg, CODE_METHOD, "tunnels cannot be looked into; use tcp")
		       : 0;
}

int policy_value_url_path(const char *text, char *msg)
{
	const char *deep;

	if (text[0] != '/')
		return refuse(msg, CODE_URL_PATH, "does not start with '/'");
	if (strpbrk(text, "%?#"))
		return refuse(msg, CODE_URL_PATH,
			      "is written decoded and without query: no '%', '?' or '#'");
	if (!policy_url_path_valid(text))
		return refuse(msg, CODE_URL_PATH,
			      "has '.', '..', '//', '\\' or a control character");
	deep = strstr(text, "**");
	if (deep && (deep[-1] != '/' || deep[2] != '\0'))
		return refuse(msg, CODE_URL_PATH,
			      "'**' may stand alone at the end only, as in /repos/**");
	return policy_value_text(text, msg);
}

int policy_value_pointer(const char *text, char *msg)
{
	if (text[0] != '\0' && text[0] != '/')
		return refuse(msg, CODE_POINTER,
			      "is no JSON pointer (RFC 6901): it starts with '/'");
	for (const char *s = text; *s; s++)
		if (*s == '~' && s[1] != '0' && s[1] != '1')
			return refuse(msg, CODE_POINTER,
				      "has a '~' that is neither ~0 nor ~1 (RFC 6901)");
	return policy_value_text(text, msg);
}

int policy_value_remote(const char *text, char *msg)
{
	char normal[POLICY_REMOTE_MAX];

	if (policy_remote_normal(bytes_str(text), normal) < 0)
		return refuse(msg, CODE_REMOTE,
			      "is no git remote such as https://host/owner/repository");
	if (strstr(text, "**"))
		return refuse(msg, CODE_REMOTE,
			      "'*' stands for one part of the path; '**' is not known here");
	return policy_value_text(text, msg);
}

int policy_value_ref(const char *text, char *msg)
{
	char plain[1024];
	size_t len = strlen(text);

	if (len == 0 || len >= sizeof(plain) || strncmp(text, "refs/", 5) != 0)
		return refuse(msg, CODE_REF, "is no full name of a ref such as refs/heads/main");
	for (size_t i = 0; i <= len; i++)
		plain[i] = text[i] == '*' ? 'x' : text[i];
	if (!policy_ref_valid(bytes_of(plain, len)))
		return refuse(msg, CODE_REF,
			      "is a name that git refuses (git-check-ref-format(1))");
	return 0;
}

int policy_value_header(const char *text, char *msg)
{
	static const char *const own[] = {"host",	"content-length", "transfer-encoding",
					  "connection", "upgrade",	  "te",
					  "trailer",	"keep-alive",	  "expect",
					  "date",	"accept-encoding"};
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if (!is_lower(text[i]) && !is_upper(text[i]) && !is_digit(text[i]) &&
		    !strchr("!#$%&'*+-.^_`|~", text[i]))
			len = 0;
	if (len == 0 || len > HEADER_MAX)
		return refuse(msg, CODE_HEADER, "is no name of a header");
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (strcasecmp(text, own[i]) == 0)
			return refuse(msg, CODE_HEADER,
				      "belongs to the connection and cannot be set");
	if (strncasecmp(text, "proxy-", 6) == 0 || strncasecmp(text, "sec-", 4) == 0)
		return refuse(msg, CODE_HEADER, "belongs to the connection and cannot be set");
	return 0;
}

int policy_value_format(const char *text, char *msg)
{
	const char *open = strchr(text, '{');
	const char *close = open ? strchr(open, '}') : NULL;

	if (strpbrk(text, "\n\t"))
		return refuse(msg, CODE_FORMAT, "is more than one line");
	if (!open || !close || strchr(open + 1, '{') || strchr(close + 1, '}') ||
	    (close != open + 1 && (strncmp(open, "{basic:", 7) != 0 || close == open + 7)))
		return refuse(msg, CODE_FORMAT, "holds the value once, as {} or {basic:USER}");
	return policy_value_text(text, msg);
}
