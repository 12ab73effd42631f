#pragma once
/*
 * Where Holdfast's own helper programs are: beside the running executable, in its build tree, then
 * in libexecdir. Never from PATH: a folder of the caller's must not decide what supervises the
 * agent.
 */
#include "base/error.h"

/* Absolute path of the helper into buf. -ENOENT with *err. */
MUST_CHECK int helpers_find(const char *name, char *buf, size_t size, struct error *err);
