#pragma once
/*
 * Holdfast's own places on this machine: where this state directory is, where another of this user
 * or of root would be by default or by the settings, and where their policies and settings are. A
 * step does not see the state, and nothing lands in any of them, whatever a policy grants.
 *
 * A state directory elsewhere (another --state) is known by its marker only, when landing meets it.
 */
#include "base/error.h"

struct settings;

enum { OWN_MAX = 32 };

struct own_from {
	const char *state, *runtime; /* in use; absolute */
	const char *home, *xdg_state, *xdg_config; /* of the environment; may be NULL */
	const struct settings *settings;
};

struct own { /* NULL-terminated; each as it is written, and where that really is; owned */
	char *state[OWN_MAX]; /* not seen inside, never landed into */
	char *all[OWN_MAX]; /* these and the policies and settings: never landed into */
	size_t state_count, count;
};

/* Looks up real paths. -ENOMEM; *ret, zeroed before, is then good for own_free only. */
MUST_CHECK int own_find(const struct own_from *from, struct own *ret, struct error *err);
void own_free(struct own *o); /* accepts a zeroed one */
