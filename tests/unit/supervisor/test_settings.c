/* Settings: every key with a file that breaks its rule, at the place where it is broken; which file
 * wins; who may have written them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/guard.h"
#include "base/io.h"
#include "supervisor/settings.h"

#define HEAD "version: 1\n"

static const struct {
	const char *text, *where, *msg;
} wrong_files[] = {
	{"", "c.yaml:1:1", "E0008"},
	{"[]", "c.yaml:1:1", "must be a mapping"},
	{"state: /x\n", "c.yaml:1:1", "no version"},
	{"version: 2\n", "c.yaml:1:10", "version must be 1"},
	{HEAD "sate: /x\n", "c.yaml:2:1", "did you mean 'state'?"},
	{HEAD "zzz: 1\n", "c.yaml:2:1", "unknown key 'zzz'"},
	{"verison: 1\n", "c.yaml:1:1", "did you mean 'version'?"},
	{HEAD "notify: {rum: [a]}\n", "c.yaml:2:10", "did you mean 'run'?"},
	{HEAD "state: x/y\n", "c.yaml:2:8", "no absolute path"},
	{HEAD "state: /\n", "c.yaml:2:8", "no absolute path"},
	{HEAD "state: /a/../b\n", "c.yaml:2:8", "no absolute path"},
	{HEAD "state: /a/${HOME}\n", "c.yaml:2:8", "no absolute path"},
	{HEAD "state: /a/${home}\n", "c.yaml:2:8", "no absolute path"},
	{HEAD "state: ${homer}/x\n", "c.yaml:2:8", "no absolute path"},
	{HEAD "state: [/a]\n", "c.yaml:2:8", "the path of a folder"},
	{HEAD "state:\n", "c.yaml:2:7", "the path of a folder"},
	{HEAD "state: /a\nstate: /b\n", "c.yaml:3:1", "E0003"},
	{HEAD "resolver: 1.1.1.1\n", "c.yaml:2:11", "a list of 1 to 8"},
	{HEAD "resolver: []\n", "c.yaml:2:11", "a list of 1 to 8"},
	{HEAD "resolver: [1.1.1.1, dns.example]\n", "c.yaml:2:21", "an IPv4 or IPv6 address"},
	{HEAD "resolver: ['1.1.1.1:53']\n", "c.yaml:2:12", "without a port"},
	{HEAD "notify: [x]\n", "c.yaml:2:9", "a mapping with run and on"},
	{HEAD "notify: {on: [opened]}\n", "c.yaml:2:9", "has no run"},
	{HEAD "notify: {run: [], on: [opened]}\n", "c.yaml:2:15", "1 to 64 texts"},
	{HEAD "notify: {run: [a, '']}\n", "c.yaml:2:19", "not empty"},
	{HEAD "notify: {run: [a], on: [open]}\n", "c.yaml:2:25", "opened, expiring, decided"},
	{HEAD "notify: {run: [a], onn: [opened]}\n", "c.yaml:2:20", "did you mean 'on'?"},
	{HEAD "retention: 30\n", "c.yaml:2:12", "must be a duration"},
	{HEAD "retention: 0s\n", "c.yaml:2:12", "at least 1s"},
	{HEAD "limits: 3\n", "c.yaml:2:9", "must be a mapping"},
	{HEAD "limits: {atempts: 3}\n", "c.yaml:2:10", "did you mean 'attempts'?"},
	{HEAD "limits: {attempts: 0}\n", "c.yaml:2:20", "from 1 to 1024"},
	{HEAD "limits: {attempts: 01}\n", "c.yaml:2:20", "from 1 to 1024"},
	{HEAD "limits: {clients: 7}\n", "c.yaml:2:19", "from 8 to 2048"},
	{HEAD "limits: {lost: 99999999999}\n", "c.yaml:2:16", "from 1 to 1000"},
	{HEAD "limits: {reserve: lots}\n", "c.yaml:2:19", "must be a size"},
	{HEAD "limits: {idle: 2h}\n", "c.yaml:2:16", "from 1s to 1h"},
};

static void test_a_wrong_file_is_refused_where_it_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong_files); i++) {
		struct settings s;
		struct error err = {0};
		int r;

		settings_defaults(&s);
		r = settings_parse(bytes_str(wrong_files[i].text), "c.yaml", &s, &err);
		if (r >= 0 || err.exit_status != EXIT_STATUS_USAGE ||
		    strcmp(err.where, wrong_files[i].where) != 0 ||
		    !strstr(err.msg, wrong_files[i].msg))
			fail_msg("%s\nwanted %s: %s\ngot    %s: %s (%d)", wrong_files[i].text,
				 wrong_files[i].where, wrong_files[i].msg, err.where, err.msg, r);
		settings_free(&s);
	}
}

static const char etc[] = HEAD "state: /srv/${uid}/holdfast\n"
			       "resolver: [192.0.2.1, '2001:db8::1']\n"
			       "notify: {run: [/usr/bin/tell, me]}\n"
			       "retention: 30d\n"
			       "limits: {attempts: 8, reserve: 1GiB, clients: 100}\n";
static const char user[] = HEAD "limits:\n  attempts: 4\n  idle: 1h\n  lost: 3\n"
				"retention: 1h30m\nnotify: {run: [x], on: [decided]}\n";

static const struct {
	enum settings_key key;
	const char *value, *origin;
} both[] = {
	{SETTINGS_KEY_STATE, "/srv/${uid}/holdfast", "etc.yaml:2:8"},
	{SETTINGS_KEY_RESOLVER, "192.0.2.1 2001:db8::1", "etc.yaml:3:11"},
	{SETTINGS_KEY_NOTIFY, "x, on decided", "user.yaml:7:9"},
	{SETTINGS_KEY_RETENTION, "1h30m", "user.yaml:6:12"},
	{SETTINGS_KEY_ATTEMPTS, "4", "user.yaml:3:13"},
	{SETTINGS_KEY_CLIENTS, "100", "etc.yaml:6:47"},
	{SETTINGS_KEY_RESERVE, "1GiB", "etc.yaml:6:32"},
	{SETTINGS_KEY_IDLE, "1h", "user.yaml:4:9"},
	{SETTINGS_KEY_LOST, "3", "user.yaml:5:9"},
};

static void holds(const struct settings *s, enum settings_key k, const char *value,
		  const char *origin)
{
	AUTO_BUFFER v = {0}, o = {0};

	assert_int_equal(settings_value(s, k, &v), 0);
	assert_int_equal(settings_origin(s, k, &o), 0);
	assert_string_equal((const char *)v.data, value);
	assert_string_equal((const char *)o.data, origin);
}

static void test_a_later_file_overrides_key_by_key(void **state)
{
	struct settings s;
	struct error err = {0};
	(void)state;

	settings_defaults(&s);
	for (size_t i = 0; i < SETTINGS_KEY_COUNT; i++)
		assert_int_equal(s.place[i].line, 0);
	holds(&s, SETTINGS_KEY_RETENTION, "forever", "default");
	holds(&s, SETTINGS_KEY_RESERVE, "64MiB", "default");
	holds(&s, SETTINGS_KEY_NOTIFY, "nobody", "default");
	if (settings_parse(bytes_str(etc), "etc.yaml", &s, &err) < 0 ||
	    settings_parse(bytes_str(user), "user.yaml", &s, &err) < 0)
		fail_msg("%s: %s", err.where, err.msg);
	assert_int_equal(ARRAY_SIZE(both), SETTINGS_KEY_COUNT);
	for (size_t i = 0; i < ARRAY_SIZE(both); i++)
		holds(&s, both[i].key, both[i].value, both[i].origin);
	settings_free(&s);
}

static const struct {
	const char *state, *home, *xdg, *want; /* want NULL: the environment stands above it */
	unsigned uid;
} states[] = {
	{"/srv/hf", "/home/u", NULL, "/srv/hf", 7},
	{"/srv/${uid}/a-${uid}", NULL, NULL, "/srv/7/a-7", 7},
	{"${home}/hf", "/home/u", NULL, "/home/u/hf", 7},
	{"/srv/hf", "/home/u", "/home/u/state", NULL, 7},
	{"/srv/hf", "/home/u", "relative", "/srv/hf", 7},
	{"/srv/hf", "/root", "/root/state", "/srv/hf", 0}, /* root's default looks at no XDG */
};

static void test_state_is_expanded_and_the_environment_stands_above_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		struct settings s;
		struct settings_from from = {.home = states[i].home, .uid = states[i].uid};
		AUTO_FREE char *got = NULL;

		settings_defaults(&s);
		s.state = strdup(states[i].state);
		assert_int_equal(settings_state(&s, &from, states[i].xdg, &got, NULL), 0);
		if (states[i].want)
			assert_string_equal(got, states[i].want);
		else
			assert_null(got);
		settings_free(&s);
	}
}

static void put(const char *path, const char *text, mode_t mode)
{
	AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
}

static void refused(const struct settings_from *from, const char *says)
{
	struct settings s = {.attempts = 77};
	struct error err = {0};

	if (settings_load(from, &s, &err) >= 0)
		fail_msg("accepted, and wanted: %s", says);
	assert_int_equal(err.exit_status, EXIT_STATUS_USAGE);
	assert_int_equal(s.attempts, 77);
	if (!strstr(err.msg, says) || !strchr(err.msg, ';'))
		fail_msg("wanted %s; got %s", says, err.msg);
}

static void test_only_its_owner_may_have_written_a_file(void **state)
{
	char dir[] = "/var/tmp/holdfast-settings.XXXXXX", path[128], folder[96];
	struct settings s;
	struct error err = {0};
	struct settings_from from = {.etc = "/nonexistent/config.yaml", .uid = geteuid()};
	(void)state;

	assert_non_null(mkdtemp(dir));
	from.xdg_config = dir;
	snprintf(folder, sizeof(folder), "%s/holdfast", dir);
	snprintf(path, sizeof(path), "%s/config.yaml", folder);
	assert_int_equal(settings_load(&from, &s, &err), 0);
	assert_int_equal(s.attempts, SETTINGS_ATTEMPTS);
	settings_free(&s);

	assert_int_equal(mkdir(folder, 0700), 0);
	put(path, HEAD "limits: {attempts: 5}\n", 0664);
	assert_int_equal(settings_load(&from, &s, &err), 0);
	assert_int_equal(s.attempts, 5);
	settings_free(&s);

	put(path, HEAD "limits: {attempts: 5}\n", 0646);
	refused(&from, "chmod o-w");
	put(path, HEAD "limits: {attempts: 5}\n", 0600);
	from.uid++;
	refused(&from, "belongs to uid");
	from.uid--;
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	refused(&from, "no regular file");
	assert_int_equal(unlink(path), 0);

	/* The machine's is root's, and root's alone. */
	put(path, HEAD "limits: {attempts: 6}\n", 0644);
	from.etc = path;
	from.xdg_config = "/nonexistent";
	if (geteuid() == 0) {
		assert_int_equal(settings_load(&from, &s, &err), 0);
		assert_int_equal(s.attempts, 6);
		settings_free(&s);
		assert_int_equal(chmod(path, 0664), 0);
		refused(&from, "chmod go-w");
		assert_int_equal(chmod(path, 0644), 0);
		assert_int_equal(chown(path, 12345, 0), 0);
	}
	refused(&from, "not to 0");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_wrong_file_is_refused_where_it_is_wrong),
		cmocka_unit_test(test_a_later_file_overrides_key_by_key),
		cmocka_unit_test(test_state_is_expanded_and_the_environment_stands_above_it),
		cmocka_unit_test(test_only_its_owner_may_have_written_a_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
