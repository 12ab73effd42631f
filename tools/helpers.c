#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "tools/helpers.h"

int helpers_find(const char *name, char *buf, size_t size, struct error *err)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = 0;
		char *slash = strrchr(self, '/');
		if (slash)
			*slash = 0;
		/* In the build tree the executables of each room stand in its own folder. */
		static const char *const beside[] = {"", "/../tools", "/../sandbox",
						     "/../supervisor"};
		for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
			if ((size_t)snprintf(buf, size, "%s%s/%s", self, beside[i], name) < size &&
			    access(buf, X_OK) == 0)
				return 0;
		}
	}
	if ((size_t)snprintf(buf, size, "%s/%s", HOLDFAST_LIBEXECDIR, name) < size &&
	    access(buf, X_OK) == 0)
		return 0;
	return error_set_exit(err, -ENOENT, EXIT_STATUS_SANDBOX,
			      "cannot find %s: it is neither beside holdfast nor in %s; install "
			      "Holdfast whole (meson install)",
			      name, HOLDFAST_LIBEXECDIR);
}
