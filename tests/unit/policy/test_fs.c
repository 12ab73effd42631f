/* Files: the mount table, what may be read, written and landed, and the twins of names. */
#include "tests/unit/policy/policy_test.h"

static struct policy_fs *resolve(const struct policy_effective *e)
{
	struct policy_fs *fs = NULL;
	struct error err = {0};

	assert_int_equal(policy_fs_new(e, &vars, &fs, &err), 0);
	return fs;
}

static enum policy_fs_verdict want(const struct policy_fs *fs, const char *path, enum policy_want w)
{
	struct policy_fs_decision d;

	policy_fs_decide(fs, bytes_str(path), w, &d);
	return d.verdict;
}

static void expect_want(const struct policy_fs *fs, const char *path, enum policy_want w,
			enum policy_fs_verdict v)
{
	static const char *const verdicts[] = {"allow", "stays", "deny"};
	struct policy_fs_decision d;

	policy_fs_decide(fs, bytes_str(path), w, &d);
	if (d.verdict != v)
		fail_msg("%s, want %d: expected %s, got %s (%s): %s", path, w, verdicts[v],
			 verdicts[d.verdict], policy_access_name(d.access), d.why);
	assert_true(d.why[0] != '\0');
}

#define V "version: 1\n"

static const char tree[] = V "fs:\n"
			     "  - {path: /usr, access: rx}\n"
			     "  - {path: \"${workspace}\", access: stage}\n"
			     "  - {path: \"${workspace}/build\", access: scratch}\n"
			     "  - {path: \"${workspace}/.git/hooks\", access: r, why: hooks}\n"
			     "  - {path: \"${workspace}/.git/config\", access: r}\n"
			     "  - {path: \"${workspace}/.env*\", access: none, except: "
			     "[\"${workspace}/.env.example\"]}\n"
			     "  - {path: \"${workspace}/data\", access: none}\n"
			     "  - {path: \"${workspace}/data/public\", access: r}\n"
			     "  - {path: \"${home}/.cache/x\", access: rw}\n";

#define WS "/home/u/app"

static const struct {
	const char *path;
	enum policy_want want;
	enum policy_fs_verdict verdict;
} asked[] = {
	{"/usr/bin/env", POLICY_WANT_READ, POLICY_FS_ALLOW},
	{"/usr/bin/env", POLICY_WANT_EXEC, POLICY_FS_ALLOW},
	{"/usr/bin/env", POLICY_WANT_WRITE, POLICY_FS_DENY},
	{"/usrx", POLICY_WANT_READ, POLICY_FS_DENY},
	{"/", POLICY_WANT_READ, POLICY_FS_DENY},
	{WS "/a.c", POLICY_WANT_WRITE, POLICY_FS_ALLOW},
	{WS "/a.c", POLICY_WANT_EXEC, POLICY_FS_ALLOW},
	{WS "/a.c", POLICY_WANT_LAND, POLICY_FS_ALLOW},
	{WS "/a.c", POLICY_WANT_REMOVE, POLICY_FS_ALLOW},
	{WS "/sub", POLICY_WANT_FOLDER, POLICY_FS_ALLOW},
	{WS "/build/x.o", POLICY_WANT_WRITE, POLICY_FS_ALLOW},
	{WS "/build/x.o", POLICY_WANT_LAND, POLICY_FS_STAYS},
	{WS "/build", POLICY_WANT_FOLDER, POLICY_FS_STAYS},
	{WS "/build", POLICY_WANT_REMOVE, POLICY_FS_STAYS},
	{WS "/.git/index", POLICY_WANT_LAND, POLICY_FS_ALLOW},
	{WS "/.git", POLICY_WANT_FOLDER, POLICY_FS_ALLOW},
	{WS "/.git/hooks/pre-commit", POLICY_WANT_READ, POLICY_FS_ALLOW},
	{WS "/.git/hooks/pre-commit", POLICY_WANT_EXEC, POLICY_FS_DENY},
	{WS "/.git/hooks/pre-commit", POLICY_WANT_WRITE, POLICY_FS_DENY},
	{WS "/.git/hooks/pre-commit", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.git/hooks", POLICY_WANT_FOLDER, POLICY_FS_DENY},
	{WS "/.git/hooks", POLICY_WANT_REMOVE, POLICY_FS_DENY},
	{WS "/.git/hooksx", POLICY_WANT_LAND, POLICY_FS_ALLOW},
	/* what would take a narrower place away, or stand where it is */
	{WS "/.git", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.git", POLICY_WANT_REMOVE, POLICY_FS_DENY},
	{WS, POLICY_WANT_REMOVE, POLICY_FS_DENY},
	{WS, POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/data", POLICY_WANT_REMOVE, POLICY_FS_DENY},
	/* patterns hold for names that are not there yet; exceptions hold for one name */
	{WS "/.env", POLICY_WANT_READ, POLICY_FS_DENY},
	{WS "/.env.local", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.environment/x", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.env.example", POLICY_WANT_LAND, POLICY_FS_ALLOW},
	{WS "/.ENV.example", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.env.example", POLICY_WANT_WRITE, POLICY_FS_ALLOW},
	{WS "/sub/.env", POLICY_WANT_LAND, POLICY_FS_ALLOW},
	{WS "/data/x", POLICY_WANT_READ, POLICY_FS_DENY},
	{WS "/data/public/x", POLICY_WANT_READ, POLICY_FS_ALLOW},
	{WS "/data/public/x", POLICY_WANT_WRITE, POLICY_FS_DENY},
	{"/home/u/.cache/x/y", POLICY_WANT_LAND, POLICY_FS_ALLOW},
	{"/home/u/.ssh/id", POLICY_WANT_READ, POLICY_FS_DENY},
	/* twins: never landed; inside they are other files and nobody's business */
	{WS "/.GIT/hooks/pre-commit", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.Git/Hooks", POLICY_WANT_FOLDER, POLICY_FS_DENY},
	{WS "/.git/HOOKS/x", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.git/CONFIG", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.GIT", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.GIT", POLICY_WANT_REMOVE, POLICY_FS_DENY},
	{WS "/.g\xe2\x80\x8cit/config", POLICY_WANT_LAND,
	 POLICY_FS_DENY}, /* U+200C, as in CVE-2014-9390 */
	{WS "/.git\xef\xbb\xbf/config", POLICY_WANT_LAND, POLICY_FS_DENY}, /* U+FEFF */
	{WS "/.\xef\xbd\x87it/config", POLICY_WANT_LAND, POLICY_FS_DENY}, /* U+FF47 fullwidth g */
	{WS "/.git./config", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.git /config", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.git/config::$INDEX_ALLOCATION", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.git/con\xff"
	    "fig",
	 POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.ENV", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.GIT/hooks/pre-commit", POLICY_WANT_WRITE, POLICY_FS_ALLOW},
	{WS "/.git/objects/ab", POLICY_WANT_LAND, POLICY_FS_ALLOW},
	/* repositories inside the workspace's: their hooks and configuration are run by git as well
	 */
	{WS "/sub/.git/config", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/a/b/.GIT/Hooks/x", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/sub/.git/hooks", POLICY_WANT_FOLDER, POLICY_FS_DENY},
	{WS "/sub/.git", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/sub/.git", POLICY_WANT_REMOVE, POLICY_FS_DENY},
	{WS "/sub/.git", POLICY_WANT_FOLDER, POLICY_FS_ALLOW},
	{WS "/sub/.git/HEAD", POLICY_WANT_LAND, POLICY_FS_ALLOW},
	{WS "/sub/.git/config", POLICY_WANT_WRITE, POLICY_FS_ALLOW},
	{WS "/.git/modules/a/b/config", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.git/modules/a/hooks/x", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.git/modules/a/modules/b/config", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/sub/.git/modules/a/config", POLICY_WANT_LAND, POLICY_FS_DENY},
	{WS "/.git/modules/a/HEAD", POLICY_WANT_LAND, POLICY_FS_ALLOW},
	{WS "/modules/a/config", POLICY_WANT_LAND, POLICY_FS_ALLOW},
	{WS "/build/.git/x", POLICY_WANT_LAND, POLICY_FS_STAYS},
	{WS "/gr\xc3\xbc\xc3\x9f"
	    "e.txt",
	 POLICY_WANT_LAND, POLICY_FS_ALLOW},
	{WS "/latin-\xe9.txt", POLICY_WANT_LAND, POLICY_FS_ALLOW},
	/* not clean: never anything */
	{WS "/../app/a.c", POLICY_WANT_READ, POLICY_FS_DENY},
	{WS "/./a.c", POLICY_WANT_READ, POLICY_FS_DENY},
	{WS "//a.c", POLICY_WANT_READ, POLICY_FS_DENY},
	{WS "/", POLICY_WANT_READ, POLICY_FS_DENY},
	{"home/u/app", POLICY_WANT_READ, POLICY_FS_DENY},
	{"", POLICY_WANT_READ, POLICY_FS_DENY},
};

static void test_each_path_is_decided_by_the_deepest_rule(void **state)
{
	struct policy_effective *e = only(tree);
	struct policy_fs *fs = resolve(e);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		expect_want(fs, asked[i].path, asked[i].want, asked[i].verdict);
	assert_int_equal(want(fs, WS "/a\0b", POLICY_WANT_READ),
			 POLICY_FS_ALLOW); /* strlen stops there */
	struct policy_fs_decision d;

	policy_fs_decide(fs, bytes_of(WS "/a\0b", sizeof(WS "/a\0b") - 1), POLICY_WANT_READ, &d);
	assert_int_equal(d.verdict, POLICY_FS_DENY);
	policy_fs_free(fs);
	policy_effective_free(e);
}

static void test_the_mount_table_has_every_change_of_access_parents_first(void **state)
{
	static const struct {
		const char *path;
		enum policy_access access;
		bool glob;
	} expected[] = {
		{"/home/u/.cache/x", POLICY_ACCESS_RW, false},
		{WS, POLICY_ACCESS_STAGE, false},
		{WS "/.env*", POLICY_ACCESS_NONE, true},
		{WS "/.env.example", POLICY_ACCESS_STAGE, false},
		{WS "/.git/config", POLICY_ACCESS_R, false},
		{WS "/.git/hooks", POLICY_ACCESS_R, false},
		{WS "/build", POLICY_ACCESS_SCRATCH, false},
		{WS "/data", POLICY_ACCESS_NONE, false},
		{WS "/data/public", POLICY_ACCESS_R, false},
		{"/usr", POLICY_ACCESS_RX, false},
	};
	struct policy_effective *e = only(tree);
	struct policy_fs *fs = resolve(e);
	const struct policy_mount *m;
	size_t n;

	(void)state;
	m = policy_fs_table(fs, &n);
	assert_int_equal(n, ARRAY_SIZE(expected));
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(m[i].path, expected[i].path);
		assert_int_equal(m[i].access, expected[i].access);
		assert_int_equal(m[i].glob, expected[i].glob);
		assert_true(m[i].at.line > 0);
	}
	assert_string_equal(m[5].why, "hooks");
	policy_fs_free(fs);
	policy_effective_free(e);
}

/* The table and the decision are one: at every entry, and just below it, they say the same. */
static void test_table_and_decision_agree_for_the_built_ins(void **state)
{
	(void)state;
	for (size_t b = 0; policy_builtin_name(b); b++) {
		struct policy_effective *e =
			combine_with((struct layer_text[]){{0}}, policy_builtin_name(b),
				     POLICY_AGENCY_UNSET);
		struct policy_fs *fs = resolve(e);
		size_t n;
		const struct policy_mount *m = policy_fs_table(fs, &n);

		assert_true(n > 30);
		for (size_t i = 0; i < n; i++) {
			struct policy_fs_decision d;
			char path[4096];

			if (m[i].glob)
				continue;
			policy_fs_decide(fs, bytes_str(m[i].path), POLICY_WANT_READ, &d);
			assert_int_equal(d.access, m[i].access);
			snprintf(path, sizeof(path), "%s/unheard-of", m[i].path);
			policy_fs_decide(fs, bytes_str(path), POLICY_WANT_READ, &d);
			assert_int_equal(d.access, m[i].access);
			assert_true(m[i].access != POLICY_ACCESS_RW);
			/* No built-in writes outside the workspace. */
			if (m[i].access >= POLICY_ACCESS_SCRATCH)
				assert_memory_equal(m[i].path, WS, strlen(WS));
		}
		policy_fs_free(fs);
		policy_effective_free(e);
	}
}

static void test_layers_meet_at_the_narrower_access(void **state)
{
	struct policy_effective *e = combine((struct layer_text[]){
		{POLICY_LAYER_ORG, V "fs:\n  - {path: /, access: rw}\n  - {path: "
				     "\"${home}/app/secret\", access: none}\n"},
		{POLICY_LAYER_USER, V "fs:\n  - {path: \"${workspace}/sub\", access: none}\n"},
		{POLICY_LAYER_PROJECT, V "fs:\n  - {path: \"${workspace}\", access: stage}\n  - "
					 "{path: /usr, access: rx}\n"},
		{POLICY_LAYER_RUN, V "fs:\n  - {path: \"${workspace}\", access: rw}\n  - {path: "
				     "/usr/lib, access: r}\n"},
		{0}});
	struct policy_fs *fs = resolve(e);

	(void)state;
	expect_want(fs, WS "/x", POLICY_WANT_LAND, POLICY_FS_ALLOW);
	expect_want(fs, WS "/secret/x", POLICY_WANT_READ, POLICY_FS_DENY);
	expect_want(fs, WS "/sub/x", POLICY_WANT_READ, POLICY_FS_DENY);
	expect_want(fs, "/usr/bin/x", POLICY_WANT_READ, POLICY_FS_DENY);
	expect_want(fs, "/usr/lib/x", POLICY_WANT_READ, POLICY_FS_ALLOW);
	expect_want(fs, "/usr/lib/x", POLICY_WANT_EXEC, POLICY_FS_DENY);
	policy_fs_free(fs);
	policy_effective_free(e);
}

static void test_an_untrusted_project_only_takes_away(void **state)
{
	struct policy_effective *e = combine((struct layer_text[]){
		{POLICY_LAYER_PROJECT_UNTRUSTED,
		 V "fs:\n  - {path: \"${workspace}/deploy\", access: r}\n  - {path: \"${home}\", "
		   "access: rw}\n  - {path: \"${workspace}/k\", access: none}\n"},
		{POLICY_LAYER_RUN, V "fs:\n  - {path: \"${workspace}\", access: stage}\n"},
		{0}});
	struct policy_fs *fs = resolve(e);

	(void)state;
	expect_want(fs, WS "/x", POLICY_WANT_LAND, POLICY_FS_ALLOW);
	expect_want(fs, WS "/deploy/x", POLICY_WANT_LAND, POLICY_FS_DENY);
	expect_want(fs, WS "/k/x", POLICY_WANT_READ, POLICY_FS_DENY);
	expect_want(fs, "/home/u/.ssh/id", POLICY_WANT_READ, POLICY_FS_DENY);
	policy_fs_free(fs);
	policy_effective_free(e);
}

static void test_at_observe_nothing_is_written(void **state)
{
	struct policy_effective *e =
		combine_with((struct layer_text[]){{POLICY_LAYER_RUN, tree}, {0}}, NULL,
			     POLICY_OBSERVE);
	struct policy_fs *fs = resolve(e);
	size_t n;
	const struct policy_mount *m = policy_fs_table(fs, &n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		assert_true(m[i].access <= POLICY_ACCESS_RX);
	expect_want(fs, WS "/a.c", POLICY_WANT_READ, POLICY_FS_ALLOW);
	expect_want(fs, WS "/a.c", POLICY_WANT_WRITE, POLICY_FS_DENY);
	expect_want(fs, WS "/a.c", POLICY_WANT_LAND, POLICY_FS_DENY);
	policy_fs_free(fs);
	policy_effective_free(e);
}

static void test_variables(void **state)
{
	static const struct policy_vars odd[] = {
		{.workspace = "relative", .home = "/h"},
		{.workspace = "/a/../b", .home = "/h"},
		{.workspace = "/a/", .home = "/h"},
	};
	static const struct policy_vars star = {.workspace = "/w*",
						.home = NULL,
						.tmp = "/tmp",
						.run = "/run/holdfast"};
	struct policy_effective *e = only(V "fs:\n  - {path: \"${workspace}\", access: stage}\n  - "
					    "{path: \"${home}/x\", access: r}\n");
	struct policy_fs *fs = NULL;
	size_t n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		struct error err = {0};

		assert_int_equal(policy_fs_new(e, &odd[i], &fs, &err), -EINVAL);
		assert_null(fs);
	}
	/* A star in the workspace's own name is a star; a variable that stands for nothing grants
	 * nothing. */
	assert_int_equal(policy_fs_new(e, &star, &fs, NULL), 0);
	(void)policy_fs_table(fs, &n);
	assert_int_equal(n, 1);
	expect_want(fs, "/w*/a", POLICY_WANT_LAND, POLICY_FS_ALLOW);
	expect_want(fs, "/ww/a", POLICY_WANT_READ, POLICY_FS_DENY);
	expect_want(fs, "/x", POLICY_WANT_READ, POLICY_FS_DENY);
	policy_fs_free(fs);
	policy_effective_free(e);
}

static void test_patterns_in_one_folder_go_from_wide_to_narrow(void **state)
{
	struct policy_effective *e =
		only(V "fs:\n  - {path: /d, access: r}\n  - {path: \"/d/*\", access: rx}\n  - "
		       "{path: \"/d/a*\", access: none}\n  - {path: /d/ab, access: scratch}\n");
	struct policy_fs *fs = resolve(e);
	size_t n;
	const struct policy_mount *m = policy_fs_table(fs, &n);

	(void)state;
	assert_int_equal(n, 4);
	assert_string_equal(m[0].path, "/d");
	assert_string_equal(m[1].path, "/d/*");
	assert_string_equal(m[2].path, "/d/a*");
	assert_string_equal(m[3].path, "/d/ab");
	expect_want(fs, "/d/x", POLICY_WANT_EXEC, POLICY_FS_ALLOW);
	expect_want(fs, "/d/ax", POLICY_WANT_READ, POLICY_FS_DENY);
	expect_want(fs, "/d/ab/c", POLICY_WANT_WRITE, POLICY_FS_ALLOW);
	expect_want(fs, "/d/ab/c", POLICY_WANT_LAND, POLICY_FS_STAYS);
	expect_want(fs, "/d/AB/c", POLICY_WANT_LAND, POLICY_FS_DENY);
	policy_fs_free(fs);
	policy_effective_free(e);
}

static void test_clean_paths(void **state)
{
	static const char *const clean[] = {"/", "/a", "/a/b", "/...", "/.a", "/a..", "/a b"};
	static const char *const dirty[] = {"",	   "a",	   "//",    "/a/",  "/a//b", "/.",
					    "/..", "/a/.", "/a/..", "/./a", "/../a"};
	char longest[4200];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(clean); i++)
		assert_true(policy_path_clean(bytes_str(clean[i])));
	for (size_t i = 0; i < ARRAY_SIZE(dirty); i++)
		assert_false(policy_path_clean(bytes_str(dirty[i])));
	assert_false(policy_path_clean(bytes_of("/a\0b", 4)));
	memset(longest, 'a', sizeof(longest));
	longest[0] = '/';
	assert_true(policy_path_clean(bytes_of(longest, 4095)));
	assert_false(policy_path_clean(bytes_of(longest, 4096)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_path_is_decided_by_the_deepest_rule),
		cmocka_unit_test(test_the_mount_table_has_every_change_of_access_parents_first),
		cmocka_unit_test(test_table_and_decision_agree_for_the_built_ins),
		cmocka_unit_test(test_layers_meet_at_the_narrower_access),
		cmocka_unit_test(test_an_untrusted_project_only_takes_away),
		cmocka_unit_test(test_at_observe_nothing_is_written),
		cmocka_unit_test(test_variables),
		cmocka_unit_test(test_patterns_in_one_folder_go_from_wide_to_narrow),
		cmocka_unit_test(test_clean_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
