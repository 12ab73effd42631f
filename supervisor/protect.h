#pragma once
/*
 * Paths that a contract protects (plan: contract.protected): a sealed layer that changes one is
 * refused, whatever its checks say. Pure.
 *
 * A glob is relative to the workspace and matches whole paths, component by component: `*`, `?` and
 * `[...]` stay inside one component, a component of two stars stands for any number of them, also
 * none: below tests it protects all and tests itself.
 */
#include <stdbool.h>
#include "base/buffer.h"

struct manifest;

bool protect_matches(const char *glob, const char *path);
/* The first changed path of m that a glob of the NULL-terminated list matches; false if there is
 * none. Borrowed from m. */
bool protect_violated(char *const *globs, const struct manifest *m, struct bytes *ret_path,
		      const char **ret_glob);
