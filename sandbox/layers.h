#pragma once
/*
 * Layers on disk: `layers/NAME/{u,w}` in the state directory, the upper and work folders of one
 * attempt's overlay, and, once sealed, `layers/NAME/m`, its manifest. Everything goes through the
 * descriptor of `layers` (mode 0711 in a state directory of mode 0700: a sealer of another uid
 * reaches its own layers through the descriptor, nobody else reaches any). A layer's folders belong
 * to the uid that its step has outside: the run's, or the dynamic one for root.
 */
#include <sys/types.h>
#include "base/buffer.h"
#include "base/error.h"
#include "sandbox/manifest.h"

enum {
	LAYERS_NAME_SIZE = 8, /* 7 bytes of [a-z0-9] and NUL: overlay's mount options are one page,
				 near 104 layers of 36 bytes */
	LAYERS_AHEAD_SIZE = 12, /* a folder of layers made ahead: "+", 8 hex digits and NUL */
	LAYERS_SQUASH_AT = 24, /* depth from which a stack is squashed: a negative lookup costs 28
				  us at 10, 129 at 50 */
};

#define LAYERS_UPPER	"u"
#define LAYERS_WORK	"w"
#define LAYERS_MANIFEST "m"

/* 0 or -EINVAL. Names are given by the supervisor, and are input everywhere else. */
MUST_CHECK int layers_check_name(const char *name);

/* Makes v1/layers and v1/spool below the state directory where they are missing and opens them.
 * -EPERM with the remedy when one belongs to another uid. */
MUST_CHECK int layers_open(int state_fd, int *ret_layers, int *ret_spool, struct error *err);

/* Makes NAME with empty u and w, owned by uid:gid; u gets mode, that of the base's own folder,
 * which the step sees as its workspace. An unfinished layer of that name without a manifest is
 * -EEXIST like a finished one: names are not used twice. */
MUST_CHECK int layers_create(int layers, const char *name, uid_t uid, gid_t gid, mode_t mode,
			     struct error *err);
/* A folder `+RANDOM` in which layers are made ahead, for uid:gid, under a lock of its own that
 * lasts as long as the descriptor; no layer's name looks like it. Returns the descriptor. */
MUST_CHECK int layers_ahead_open(int layers, uid_t uid, gid_t gid, char ret_name[LAYERS_AHEAD_SIZE],
				 struct error *err);
/* Removes those that nobody holds any more: their keepers were killed. */
void layers_ahead_sweep(int layers);
/* The layer `name` of it, which no step has had, becomes the layer NAME with the mode of
 * layers_create. -EEXIST as there. */
MUST_CHECK int layers_ahead_take(int ahead, const char *name, int layers, const char *layer);
/* Removes one that no step has had, with whatever a mount left in it. */
void layers_ahead_drop(int ahead, const char *name);

/* Removes NAME after the sealer's REMOVE emptied it. 0 also when it is not there. */
MUST_CHECK int layers_drop(int layers, const char *name, struct error *err);
/* Calls fn for every layer, sealed or not; stops at its first non-zero return and forwards it. */
MUST_CHECK int layers_each(int layers, int (*fn)(void *arg, const char *name, bool sealed),
			   void *arg, struct error *err);
/* Reads and checks `layers/NAME/m`. -ENOENT: not sealed. */
MUST_CHECK int layers_read_manifest(int layers, const char *name, struct manifest **ret,
				    struct error *err);
