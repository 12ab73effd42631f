#pragma once
/*
 * Files between steps: what a step left under /run/holdfast/out becomes blobs and one canonical
 * list, and is laid out again under /run/holdfast/in/STEP of the steps that need it.
 *
 * The list (blob of JOURNAL_F_results): an array of [path bytes, digest, mode, size] sorted by path
 * (base/holdfast.cddl, `results`). Only regular files count; what else a step makes there is left
 * where it is, and goes with its spool.
 */
#include "journal/journal.h"

enum {
	RESULTS_FILES_MAX = 4096,
	RESULTS_DEPTH_MAX = 16,
	RESULTS_PATH_MAX = 1024,
	RESULTS_FILE_MAX = 256 * 1024 * 1024, /* bytes of one */
	RESULTS_BYTES_MAX = 1024 * 1024 * 1024, /* of all */
};

/* Keeps all below dirfd. *ret is zero where there is nothing. -E2BIG past a limit, with *err naming
 * it. */
MUST_CHECK int results_keep(struct journal *j, int dirfd, struct digest *ret, struct error *err);
/* Calls fn for each entry. */
MUST_CHECK int results_each(struct bytes list,
			    int (*fn)(void *arg, struct bytes path, const struct digest *d,
				      uint64_t size),
			    void *arg);
/* Writes the files of a list below dirfd, readable by everyone. */
MUST_CHECK int results_lay(struct journal *j, const struct digest *list, int dirfd,
			   struct error *err);
/* A blob as a file of that name in dirfd. -EEXIST if there is one. */
MUST_CHECK int results_lay_blob(struct journal *j, const struct digest *d, int dirfd,
				const char *name, struct error *err);
/* Removes name below dirfd with all that is in it, whatever it is. */
MUST_CHECK int results_remove(int dirfd, const char *name);
