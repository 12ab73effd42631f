#pragma once
/*
 * What the static analyzer is told and cannot see from one file: errno is positive where a call
 * failed, and what an error is made of is negative, so "r < 0" and "r == 0" are all there is after
 * it; a CBOR reader that failed stays so. tools/lint puts it before every file but base/error.c,
 * base/yaml.c and base/cbor.c, which define what is wrapped here.
 */
#include <errno.h>
#include "base/cbor.h"
#include "base/error.h"
#include "base/yaml.h"

static inline int *analyzer_errno(void)
{
	int *e = __errno_location();

	if (*e <= 0)
		__builtin_unreachable();
	return e;
}

#undef errno
#define errno (*analyzer_errno())

#define ANALYZER_ERROR(code, call)                \
	({                                        \
		int analyzer_code = (code);       \
		if (analyzer_code >= 0)           \
			__builtin_unreachable();  \
		(void)(call);                     \
		analyzer_code;                    \
	})
#define error_set(err, code, ...) \
	ANALYZER_ERROR(code, (error_set)((err), analyzer_code, __VA_ARGS__))
#define error_set_exit(err, code, status, ...) \
	ANALYZER_ERROR(code, (error_set_exit)((err), analyzer_code, (status), __VA_ARGS__))
#define error_nomem(err) ANALYZER_ERROR(-ENOMEM, (error_nomem)(err))
#define yaml_error(err, file, node, code, ...) \
	ANALYZER_ERROR(code, (yaml_error)((err), (file), (node), analyzer_code, __VA_ARGS__))
#define cbor_r_fail(r, code)                       \
	({                                         \
		struct cbor_reader *failed_r = (r); \
		(cbor_r_fail)(failed_r, (code));   \
		if (failed_r->error >= 0)          \
			__builtin_unreachable();   \
	})
