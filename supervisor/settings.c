#include "supervisor/settings.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/yaml.h"
#include "policy/policy.h"

DEFINE_GUARD(struct yaml_doc *, yaml_doc_free)

static const char *const file_keys[] = {"version", "state",	"resolver",
					"notify",  "retention", "limits"};
static const char *const notify_keys[] = {"run", "on"};
static const char *const limit_keys[] = {"attempts", "clients", "reserve", "idle", "lost"};
static const char *const on_words[] = {"opened", "expiring", "decided"};

static const char *const names[SETTINGS_KEY_COUNT] = {
	[SETTINGS_KEY_STATE] = "state",
	[SETTINGS_KEY_RESOLVER] = "resolver",
	[SETTINGS_KEY_NOTIFY] = "notify",
	[SETTINGS_KEY_RETENTION] = "retention",
	[SETTINGS_KEY_ATTEMPTS] = "limits.attempts",
	[SETTINGS_KEY_CLIENTS] = "limits.clients",
	[SETTINGS_KEY_RESERVE] = "limits.reserve",
	[SETTINGS_KEY_IDLE] = "limits.idle",
	[SETTINGS_KEY_LOST] = "limits.lost",
};

struct parse {
	const char *file;
	struct settings *s;
	struct error *err;
};

#define WRONG(p, node, ...) yaml_error((p)->err, (p)->file, (node), -EINVAL, __VA_ARGS__)
#define KNOWN(p, map, keys, what) \
	yaml_known_keys((map), (keys), ARRAY_SIZE(keys), (what), (p)->file, (p)->err)

static void free_strings(char **list)
{
	for (char **at = list; at && *at; at++)
		free(*at);
	free(list);
}

void settings_defaults(struct settings *s)
{
	*s = (struct settings){
		.attempts = SETTINGS_ATTEMPTS,
		.clients = SETTINGS_CLIENTS,
		.reserve_bytes = SETTINGS_RESERVE_BYTES,
		.idle_ms = SETTINGS_IDLE_MS,
		.lost = SETTINGS_LOST,
	};
}

void settings_free(struct settings *s)
{
	if (!s)
		return;
	free(s->state);
	free_strings(s->notify_run);
	for (size_t i = 0; i < SETTINGS_KEY_COUNT; i++)
		free(s->place[i].file);
	memset(s, 0, sizeof(*s));
}

/* ---- values ---- */

static int put_place(const struct parse *p, enum settings_key k, const struct yaml_node *n)
{
	char *file = strdup(p->file);

	if (!file)
		return error_nomem(p->err);
	free(p->s->place[k].file);
	p->s->place[k] = (struct settings_place){file, n->line, n->column};
	return 0;
}

static bool is_filled(const struct yaml_node *n)
{
	return n->kind == YAML_SCALAR && n->text.len > 0 &&
	       !memchr(n->text.data, '\0', n->text.len);
}

static int want_number(const struct parse *p, const struct yaml_node *n, const char *what,
		       uint32_t min, uint32_t max, uint32_t *ret)
{
	const char *c = n->text.data;
	uint64_t v = 0;
	bool ok = n->kind == YAML_SCALAR && n->text.len > 0 && n->text.len <= 9;

	for (size_t i = 0; ok && i < n->text.len; i++) {
		ok = c[i] >= '0' && c[i] <= '9' && (i == 0 || c[0] != '0');
		v = v * 10 + (uint64_t)(c[i] - '0');
	}
	if ((!ok || v < min || v > max) && min == max)
		return WRONG(p, n, "%s must be %u", what, min);
	if (!ok || v < min || v > max)
		return WRONG(p, n, "%s: must be a whole number from %u to %u", what, min, max);
	*ret = (uint32_t)v;
	return 0;
}

static int want_duration(const struct parse *p, const struct yaml_node *n, const char *what,
			 uint64_t *ret_ms)
{
	if (n->kind != YAML_SCALAR || policy_duration_parse(n->text, ret_ms) < 0)
		return WRONG(p, n, "%s: must be a duration such as 30d, 12h or 90s", what);
	return 0;
}

static int want_strings(const struct parse *p, const struct yaml_node *n, const char *what,
			size_t max, char ***ret)
{
	char **list;

	if (n->kind != YAML_SEQUENCE || n->count == 0 || n->count > max)
		return WRONG(p, n, "%s: must be a list of 1 to %zu texts", what, max);
	list = calloc(n->count + 1, sizeof(*list));
	for (size_t i = 0; list && i < n->count; i++) {
		if (!is_filled(n->items[i])) {
			free_strings(list);
			return WRONG(p, n->items[i], "%s: must be text that is not empty", what);
		}
		list[i] = bytes_dup_str(n->items[i]->text);
		if (!list[i]) {
			free_strings(list);
			list = NULL;
		}
	}
	if (!list)
		return error_nomem(p->err);
	*ret = list;
	return 0;
}

/* ---- keys ---- */

/* What may stand in a path: nothing that leads elsewhere, and only the variables that are known. */
static bool state_is_clean(const char *text)
{
	bool at_home = strncmp(text, "${home}/", 8) == 0;
	const char *path = at_home ? text + 7 : text;

	if (path[0] != '/' || path[1] == '\0' || strlen(text) >= SETTINGS_PATH_MAX / 2)
		return false;
	for (const char *part = path; *part;) {
		const char *end = strchrnul(part + 1, '/');
		size_t n = (size_t)(end - part - 1);

		if ((n == 1 && part[1] == '.') || (n == 2 && part[1] == '.' && part[2] == '.'))
			return false;
		part = end;
	}
	for (const char *at = strchr(path, '$'); at; at = strchr(at + 1, '$'))
		if (strncmp(at, "${uid}", 6) != 0)
			return false;
	return true;
}

static int take_state(const struct parse *p, const struct yaml_node *n)
{
	char *text;

	if (!is_filled(n))
		return WRONG(p, n, "state: must be the path of a folder");
	text = bytes_dup_str(n->text);
	if (!text)
		return error_nomem(p->err);
	if (!state_is_clean(text)) {
		free(text);
		return WRONG(p, n,
			     "state: '%.80s' is no absolute path without '..'; it may begin with "
			     "${home}/ and hold ${uid}",
			     (const char *)n->text.data);
	}
	free(p->s->state);
	p->s->state = text;
	return put_place(p, SETTINGS_KEY_STATE, n);
}

static int take_resolver(const struct parse *p, const struct yaml_node *n)
{
	struct settings *s = p->s;

	if (n->kind != YAML_SEQUENCE || n->count == 0 || n->count > SETTINGS_RESOLVERS_MAX)
		return WRONG(p, n, "resolver: must be a list of 1 to %d IP addresses",
			     SETTINGS_RESOLVERS_MAX);
	for (size_t i = 0; i < n->count; i++) {
		const struct yaml_node *item = n->items[i];
		unsigned char raw[16];

		if (!is_filled(item) || item->text.len >= SETTINGS_ADDRESS_SIZE ||
		    (inet_pton(AF_INET, item->text.data, raw) != 1 &&
		     inet_pton(AF_INET6, item->text.data, raw) != 1))
			return WRONG(p, item,
				     "resolver: must be an IPv4 or IPv6 address, without a port");
		memcpy(s->resolver[i], item->text.data, item->text.len + 1);
	}
	s->resolver_count = n->count;
	return put_place(p, SETTINGS_KEY_RESOLVER, n);
}

static int take_on(const struct parse *p, const struct yaml_node *n, unsigned *ret)
{
	unsigned on = 0;

	if (n->kind != YAML_SEQUENCE || n->count == 0)
		return WRONG(p, n, "notify.on: must be a list of opened, expiring, decided");
	for (size_t i = 0; i < n->count; i++) {
		const struct yaml_node *item = n->items[i];
		unsigned bit = 0;

		for (size_t w = 0; item->kind == YAML_SCALAR && w < ARRAY_SIZE(on_words); w++)
			if (bytes_equal(item->text, bytes_str(on_words[w])))
				bit = 1u << w;
		if (!bit)
			return WRONG(p, item,
				     "notify.on: must be one of opened, expiring, decided");
		on |= bit;
	}
	*ret = on;
	return 0;
}

static int take_notify(const struct parse *p, struct yaml_node *n)
{
	struct settings *s = p->s;
	struct yaml_node *run, *on;
	unsigned bits = SETTINGS_ON_OPENED | SETTINGS_ON_EXPIRING | SETTINGS_ON_DECIDED;
	char **argv = NULL;
	int r;

	if (n->kind != YAML_MAPPING)
		return WRONG(p, n, "notify: must be a mapping with run and on");
	r = KNOWN(p, n, notify_keys, "notify");
	run = yaml_get(n, "run");
	on = yaml_get(n, "on");
	if (r == 0 && !run)
		r = WRONG(p, n, "notify: has no run");
	if (r == 0 && on)
		r = take_on(p, on, &bits);
	if (r == 0)
		r = want_strings(p, run, "notify.run", SETTINGS_ARGV_MAX, &argv);
	if (r < 0)
		return r;
	free_strings(s->notify_run);
	s->notify_run = argv;
	s->notify_on = bits;
	return put_place(p, SETTINGS_KEY_NOTIFY, n);
}

static int take_retention(const struct parse *p, const struct yaml_node *n)
{
	uint64_t ms = 0;

	if (n->kind != YAML_SCALAR || !bytes_equal(n->text, bytes_str("forever"))) {
		int r = want_duration(p, n, "retention", &ms);

		if (r < 0)
			return r;
		if (ms < SETTINGS_RETENTION_MIN_MS)
			return WRONG(p, n, "retention: must be at least 1s, or forever");
	}
	p->s->retention_ms = ms;
	return put_place(p, SETTINGS_KEY_RETENTION, n);
}

static int take_limit(const struct parse *p, enum settings_key k, const struct yaml_node *n)
{
	struct settings *s = p->s;
	uint64_t v;
	int r = 0;

	switch (k) {
	case SETTINGS_KEY_ATTEMPTS:
		r = want_number(p, n, names[k], 1, SETTINGS_ATTEMPTS_MAX, &s->attempts);
		break;
	case SETTINGS_KEY_CLIENTS:
		r = want_number(p, n, names[k], SETTINGS_CLIENTS_MIN, SETTINGS_CLIENTS_MAX,
				&s->clients);
		break;
	case SETTINGS_KEY_LOST:
		r = want_number(p, n, names[k], 1, SETTINGS_LOST_MAX, &s->lost);
		break;
	case SETTINGS_KEY_RESERVE:
		if (n->kind != YAML_SCALAR || policy_size_parse(n->text, &v) < 0 || v == 0 ||
		    v > INT64_MAX)
			return WRONG(p, n, "%s: must be a size such as 64MiB or 2GiB", names[k]);
		s->reserve_bytes = v;
		break;
	case SETTINGS_KEY_IDLE:
		r = want_duration(p, n, names[k], &v);
		if (r == 0 && (v < SETTINGS_IDLE_MIN_MS || v > SETTINGS_IDLE_MAX_MS))
			return WRONG(p, n, "%s: must be from 1s to 1h", names[k]);
		if (r == 0)
			s->idle_ms = v;
		break;
	case SETTINGS_KEY_STATE:
	case SETTINGS_KEY_RESOLVER:
	case SETTINGS_KEY_NOTIFY:
	case SETTINGS_KEY_RETENTION:
	case SETTINGS_KEY_COUNT:
		return -EINVAL;
	}
	return r < 0 ? r : put_place(p, k, n);
}

static int take_limits(const struct parse *p, struct yaml_node *n)
{
	int r;

	if (n->kind != YAML_MAPPING)
		return WRONG(p, n, "limits: must be a mapping (key: value)");
	r = KNOWN(p, n, limit_keys, "limits");
	for (int k = SETTINGS_KEY_ATTEMPTS; r == 0 && k < SETTINGS_KEY_COUNT; k++) {
		struct yaml_node *value = yaml_get(n, strchr(names[k], '.') + 1);

		if (value)
			r = take_limit(p, (enum settings_key)k, value);
	}
	return r;
}

int settings_parse(struct bytes yaml, const char *file, struct settings *s, struct error *err)
{
	const struct parse p = {file, s, err};
	AUTO(yaml_doc_free) struct yaml_doc *doc = NULL;
	struct yaml_node *root, *n;
	uint32_t version;
	int r = yaml_parse(yaml, file, &doc, err);

	if (r < 0)
		return r;
	root = yaml_root(doc);
	if (root->kind != YAML_MAPPING)
		return WRONG(&p, root, "the settings: must be a mapping (key: value)");
	r = KNOWN(&p, root, file_keys, "the settings");
	n = yaml_get(root, "version");
	if (r == 0)
		r = n ? want_number(&p, n, "version", 1, 1, &version)
		      : WRONG(&p, root, "the settings have no version; write version: 1");
	if (r == 0 && (n = yaml_get(root, "state")))
		r = take_state(&p, n);
	if (r == 0 && (n = yaml_get(root, "resolver")))
		r = take_resolver(&p, n);
	if (r == 0 && (n = yaml_get(root, "notify")))
		r = take_notify(&p, n);
	if (r == 0 && (n = yaml_get(root, "retention")))
		r = take_retention(&p, n);
	if (r == 0 && (n = yaml_get(root, "limits")))
		r = take_limits(&p, n);
	return r;
}

/* ---- for people ---- */

const char *settings_key_name(enum settings_key k)
{
	return names[k];
}

static void print_duration(struct buffer *out, uint64_t ms)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (ms / units[i].ms)
			buffer_printf(out, "%llu%s", (unsigned long long)(ms / units[i].ms),
				      units[i].unit);
		ms %= units[i].ms;
	}
}

static void print_size(struct buffer *out, uint64_t bytes)
{
	static const struct {
		const char *unit;
		unsigned shift;
	} units[] = {{"GiB", 30}, {"MiB", 20}, {"KiB", 10}};

	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (bytes >> units[i].shift && (bytes & ((1ull << units[i].shift) - 1)) == 0) {
			buffer_printf(out, "%llu%s", (unsigned long long)(bytes >> units[i].shift),
				      units[i].unit);
			return;
		}
	buffer_printf(out, "%llu", (unsigned long long)bytes);
}

static void print_notify(const struct settings *s, struct buffer *out)
{
	for (char **a = s->notify_run; a && *a; a++)
		buffer_printf(out, "%s%s", a == s->notify_run ? "" : " ", *a);
	if (!s->notify_run)
		buffer_append_str(out, "nobody");
	for (size_t i = 0; s->notify_run && i < ARRAY_SIZE(on_words); i++)
		if (s->notify_on & (1u << i))
			buffer_printf(out, ", on %s", on_words[i]);
}

int settings_value(const struct settings *s, enum settings_key k, struct buffer *out)
{
	switch (k) {
	case SETTINGS_KEY_STATE:
		buffer_append_str(out, s->state ? s->state : "the user's own");
		break;
	case SETTINGS_KEY_RESOLVER:
		for (size_t i = 0; i < s->resolver_count; i++)
			buffer_printf(out, "%s%s", i ? " " : "", s->resolver[i]);
		if (s->resolver_count == 0)
			buffer_append_str(out, "the system's");
		break;
	case SETTINGS_KEY_NOTIFY:
		print_notify(s, out);
		break;
	case SETTINGS_KEY_RETENTION:
		if (s->retention_ms)
			print_duration(out, s->retention_ms);
		else
			buffer_append_str(out, "forever");
		break;
	case SETTINGS_KEY_ATTEMPTS:
		buffer_printf(out, "%u", s->attempts);
		break;
	case SETTINGS_KEY_CLIENTS:
		buffer_printf(out, "%u", s->clients);
		break;
	case SETTINGS_KEY_RESERVE:
		print_size(out, s->reserve_bytes);
		break;
	case SETTINGS_KEY_IDLE:
		print_duration(out, s->idle_ms);
		break;
	case SETTINGS_KEY_LOST:
		buffer_printf(out, "%u", s->lost);
		break;
	case SETTINGS_KEY_COUNT:
		return -EINVAL;
	}
	return out->failed;
}

int settings_origin(const struct settings *s, enum settings_key k, struct buffer *out)
{
	const struct settings_place *at = &s->place[k];

	if (at->line > 0)
		buffer_printf(out, "%s:%d:%d", at->file, at->line, at->column);
	else
		buffer_append_str(out, "default");
	return out->failed;
}
