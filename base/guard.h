#pragma once
/*
 * Scope guards: GCC's cleanup attribute under names that read well (model: systemd's basic/). A
 * guarded variable is released when it leaves scope; hand it off with the take_* of its kind.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void guard_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
	*fd = -1;
}

static inline void guard_free(void *p)
{
	void **pp = p;
	free(*pp);
	*pp = NULL;
}

static inline void guard_file(FILE **f)
{
	if (*f)
		fclose(*f);
	*f = NULL;
}

static inline void guard_dir(DIR **d)
{
	if (*d)
		closedir(*d);
	*d = NULL;
}

/* A large local that is filled before it is read: not set to zero first, whatever the compiler is told
 * to do with all others. */
#define UNINITIALIZED __attribute__((uninitialized))

#define AUTO_FD	  __attribute__((cleanup(guard_close))) int
#define AUTO_FREE __attribute__((cleanup(guard_free)))
#define AUTO_FILE __attribute__((cleanup(guard_file))) FILE *
#define AUTO_DIR  __attribute__((cleanup(guard_dir))) DIR *

/* AUTO(foo_free) struct foo *x = NULL;  needs once, beside foo_free's declaration:
 * DEFINE_GUARD(struct foo *, foo_free) */
#define DEFINE_GUARD(type, fn)                 \
	static inline void guard_##fn(type *p) \
	{                                      \
		if (*p)                        \
			fn(*p);                \
	}
#define AUTO(fn) __attribute__((cleanup(guard_##fn)))

/* Closes *fd and stores -1. */
static inline void close_fd(int *fd)
{
	guard_close(fd);
}

/* Hands the descriptor off: the guarded variable is left at -1. */
static inline int take_fd(int *fd)
{
	int v = *fd;
	*fd = -1;
	return v;
}

#define take_ptr(p)                         \
	({                                  \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;                 \
		taken_;                     \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
