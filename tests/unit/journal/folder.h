#pragma once
/* A state directory of a test's own, removed with all that is in it. */
#include <limits.h>

struct folder {
	char path[PATH_MAX];
	int fd; /* of it; stands for v1/ */
};

void folder_make(struct folder *f);
void folder_remove(struct folder *f);
/* A copy of everything below, as a second folder: what a crash left, to be damaged. */
void folder_copy(const struct folder *from, struct folder *ret);
