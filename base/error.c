#include "base/error.h"
#include <errno.h>
#include <stdio.h>

int error_vset(struct error *err, int code, const char *fmt, va_list args)
{
	if (!err || err->code != 0)
		return code;
	err->code = code;
	vsnprintf(err->msg, sizeof(err->msg), fmt, args);
	return code;
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	error_vset(err, code, fmt, args);
	va_end(args);
	return code;
}

int error_set_exit(struct error *err, int code, int exit_status, const char *fmt, ...)
{
	va_list args;

	if (!err || err->code != 0)
		return code;
	va_start(args, fmt);
	error_vset(err, code, fmt, args);
	va_end(args);
	err->exit_status = exit_status;
	return code;
}

void error_where(struct error *err, const char *fmt, ...)
{
	va_list args;

	if (!err || err->where[0] != '\0')
		return;
	va_start(args, fmt);
	vsnprintf(err->where, sizeof(err->where), fmt, args);
	va_end(args);
}

int error_nomem(struct error *err)
{
	return error_set(err, -ENOMEM, "out of memory");
}
