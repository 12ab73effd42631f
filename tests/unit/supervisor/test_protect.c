/* Which paths a contract's globs protect. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "supervisor/protect.h"

static void globs_match_whole_paths_by_component(void **state)
{
	static const struct {
		const char *glob, *path;
		bool matches;
	} cases[] = {
		{"tests/**", "tests", true},
		{"tests/**", "tests/a", true},
		{"tests/**", "tests/a/b/c", true},
		{"tests/**", "testsx/a", false},
		{"tests/**", "a/tests/b", false},
		{"**/tests/**", "a/tests/b", true},
		{"**/tests/**", "tests", true},
		{"**/*.h", "x.h", true},
		{"**/*.h", "a/b/x.h", true},
		{"**/*.h", "a/b/x.c", false},
		{"*.h", "a/x.h", false},
		{"*", "a", true},
		{"*", "a/b", false},
		{"a/*/c", "a/b/c", true},
		{"a/*/c", "a/b/b/c", false},
		{"a/**/c", "a/c", true},
		{"a/**/c", "a/b/b/c", true},
		{"a/**/c", "a/b/c/d", false},
		{"a/**/b/**/c", "a/b/x/b/y/c", true},
		{"a/**/b/**/c", "a/x/y/c", false},
		{"Makefile", "Makefile", true},
		{"Makefile", "Makefile/x", false},
		{"a?c", "abc", true},
		{"a?c", "a/c", false},
		{"[ab]", "b", true},
		{"**", "anything/at/all", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (protect_matches(cases[i].glob, cases[i].path) != cases[i].matches)
			fail_msg("'%s' %s '%s'", cases[i].glob,
				 cases[i].matches ? "does not match" : "matches", cases[i].path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(globs_match_whole_paths_by_component)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
