#include "base/error.h"
#include "base/utf8.h"
#include <errno.h>

/* A message may quote what an agent named its file, and may have been cut inside a character. */
static void make_printable(char *s)
{
	struct bytes b = bytes_str(s);
	size_t to = 0;

	for (size_t at = 0; at < b.len;) {
		size_t start = at;
		int32_t cp = utf8_next(b, &at);

		if (utf8_is_deceptive(cp)) {
			s[to++] = '?';
		} else {
			memmove(s + to, s + start, at - start);
			to += at - start;
		}
	}
	s[to] = '\0';
}

int error_vset(struct error *err, int code, const char *fmt, va_list args)
{
	if (!err || err->code != 0)
		return code;
	err->code = code;
	utf8_vprintf(err->msg, sizeof(err->msg), fmt, args);
	make_printable(err->msg);
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
	utf8_vprintf(err->where, sizeof(err->where), fmt, args);
	make_printable(err->where);
	va_end(args);
}

int error_nomem(struct error *err)
{
	return error_set(err, -ENOMEM, "out of memory");
}
