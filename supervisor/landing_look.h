#pragma once
/* Looking at names below an open folder. Private to landing, diff and workspace; nothing is written
 * here. */
#include "supervisor/landing.h"

/* As landing_look, of one name in dir. 0 or a negative errno; a name that is not there is ABSENT. A
 * file that may not be read, is larger than LANDING_PREIMAGE_MAX, or changes while it is read again
 * and again, has no digest. */
MUST_CHECK int landing_look_at(int dir, const char *name, bool digest, bool entries,
			       struct landing_state *ret, char **ret_target);
/* A regular file for reading, no symlink, without touching its access time where that is allowed;
 * -errno. */
MUST_CHECK int landing_look_open(int dir, const char *name);
/* Hashes fd from its start; -EFBIG past max. */
MUST_CHECK int landing_look_hash(int fd, uint64_t max, struct digest *ret, uint64_t *ret_size);
/* How many names are in the folder, those of landing itself aside; or a negative errno. */
MUST_CHECK int64_t landing_look_entries(int dir);
/* Looks at what lies in the folder at path, as deep as it goes, a folder before what is in it: for
 * each name but those that known() knows and those of landing itself. fn: 0 to go on; anything else
 * ends it and is returned. A folder that may not be listed is passed over. */
struct landing_look_walk {
	int workspace_fd;
	void *arg;
	bool (*known)(void *arg, struct bytes path);
	int (*fn)(void *arg, struct bytes path, const struct landing_state *s);
	struct error *err;
};
MUST_CHECK int landing_look_below(const struct landing_look_walk *walk, struct bytes path);
/* Whether nobody has the open file (O_RDONLY) open for writing, waiting up to wait_ms: by a read
 * lease (fcntl(2)), which the kernel refuses while there is a writer. True also where leases cannot
 * be had. */
bool landing_look_unwritten(int fd, unsigned wait_ms);
