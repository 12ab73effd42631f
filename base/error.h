#pragma once
/*
 * Errors as Holdfast speaks them: what, why, remedy. Written once, at the origin; forwarded
 * untouched.
 *
 * Return values everywhere in the tree: 0 is success; a negative errno is fatal for the operation
 * and is forwarded by every caller; a positive value belongs to the documented enum of that one
 * function and is handled by its caller. A `struct error *` is the last argument where a person
 * will read the message; it may be NULL.
 *
 * Fixed size, no allocation, no locale: usable after clone(2) and in a forked child. Both texts are
 * one line of valid UTF-8 whatever they quote: a control, deceptive or invalid byte becomes '?'
 * (escape_dup() shows which it was).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK	       __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

enum { ERROR_MSG_MAX = 240, ERROR_WHERE_MAX = 96 };

/* The exit statuses of the command line (holdfast(1), EXIT STATUS); an error carries the one it
 * leads to. */
enum exit_status {
	EXIT_STATUS_OK = 0,
	EXIT_STATUS_STEP_FAILED = 1,
	EXIT_STATUS_USAGE = 2,
	EXIT_STATUS_DENIED = 3,
	EXIT_STATUS_WAITING = 4,
	EXIT_STATUS_IN_DOUBT = 5,
	EXIT_STATUS_CONTRACT = 6,
	EXIT_STATUS_LIMIT = 7,
	EXIT_STATUS_SANDBOX = 8,
	EXIT_STATUS_CONFLICT = 9,
};

struct error {
	int code; /* negative errno; 0 = no error was written */
	int exit_status; /* enum exit_status; 0 = EXIT_STATUS_STEP_FAILED at the command line */
	char where[ERROR_WHERE_MAX]; /* "file:line:column" or an object's name; may be empty */
	char msg[ERROR_MSG_MAX]; /* "what: why; remedy", NUL-terminated, cut at the limit */
};

/* Fills *err (may be NULL) and returns code, so that `return error_set(err, -EINVAL, "...")` reads
 * well. An error that is already filled is kept: the origin knows best. */
int error_set(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
int error_set_exit(struct error *err, int code, int exit_status, const char *fmt, ...)
	PRINTF_LIKE(4, 5);
int error_vset(struct error *err, int code, const char *fmt, va_list args) PRINTF_LIKE(3, 0);
/* Sets where if it is still empty. */
void error_where(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "Out of memory" in one word: returns -ENOMEM. */
int error_nomem(struct error *err);
