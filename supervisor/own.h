#pragma once
/*
 * Holdfast's own places on this machine: where this state directory is, where another of this user
 * or of root would be by default or by the settings, and where their policies and settings are. A
 * step does not see the state, nothing lands in any of them, and none is in what is granted `rw`.
 *
 * A state directory elsewhere (another --state) is noted in the folder `known` of the default one
 * before it is used, and found there by all that come later; one whose folder is gone is forgotten.
 * Landing knows one by its marker too.
 */
#include <sys/stat.h>
#include "base/error.h"
#include "base/guard.h"

struct settings;

enum { OWN_KNOWN_MAX = 64, OWN_FOLDERS = 3, OWN_MAX = 32 + 2 * OWN_KNOWN_MAX };

struct own_from {
	const char *state, *runtime; /* in use; absolute */
	const char *home, *xdg_state, *xdg_config; /* of the environment; may be NULL */
	const struct settings *settings;
};

struct own { /* NULL-terminated; each as it is written, and where that really is; owned */
	char *state[OWN_MAX]; /* not seen inside, never landed into */
	char *all[OWN_MAX]; /* these and the policies and settings: never landed into, never rw */
	size_t state_count, count;
	struct timespec seen[OWN_FOLDERS]; /* when each `known` was last changed */
	struct own *older; /* kept: what was found before may be in use in another thread */
};

/* Looks up real paths. -ENOMEM; -E2BIG (exit status LIMIT): more state directories than
 * OWN_KNOWN_MAX. */
MUST_CHECK int own_find(const struct own_from *from, struct own **ret, struct error *err);
/* Again, where a state directory was noted since; *o is then a new one that holds the old. */
MUST_CHECK int own_refresh(const struct own_from *from, struct own **o, struct error *err);
/* Notes the state directory in use, unless everybody looks for it there anyway. A negative errno
 * where it could not be written; then a step of another supervisor may see it. */
MUST_CHECK int own_note(const struct own_from *from);
void own_free(struct own *o); /* accepts NULL */
DEFINE_GUARD(struct own *, own_free)
