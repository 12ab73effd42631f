#pragma once
/*
 * Golden files: bytes that must never change, in tests/golden/ROOM/RULE.CASE.cbor. RULE is the rule
 * of base/holdfast.cddl that the test "cddl" holds the file to. A target that uses this adds
 * golden_args to c_args. HOLDFAST_GOLDEN_WRITE=1 in the environment makes the files that are not
 * there yet; it never changes one.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/io.h"

static inline void golden_check(const char *name, struct bytes actual)
{
	AUTO_BUFFER path = {0};
	AUTO_BUFFER want = {0};
	int r;

	assert_int_equal(buffer_printf(&path, "%s/%s", GOLDEN_DIR, name), 0);
	r = io_read_file_at(AT_FDCWD, (const char *)path.data, BUFFER_MAX_DEFAULT, &want);
	if (r == -ENOENT && getenv("HOLDFAST_GOLDEN_WRITE")) {
		int fd = open((const char *)path.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
			      0644);

		assert_true(fd >= 0);
		assert_int_equal(io_write_all(fd, actual.data, actual.len), 0);
		close(fd);
		return;
	}
	if (r < 0)
		fail_msg("%s: %s (HOLDFAST_GOLDEN_WRITE=1 makes it)", (const char *)path.data,
			 strerror(-r));
	if (!bytes_equal(buffer_bytes(&want), actual))
		fail_msg("%s: the bytes are not those of the golden file", (const char *)path.data);
}
