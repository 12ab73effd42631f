#include "supervisor/own.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/guard.h"
#include "supervisor/settings.h"

#define STATE_ROOT    "/var/lib/holdfast"
#define SETTINGS_ROOT "/etc/holdfast"

static int add_one(char **list, size_t *count, const char *path)
{
	for (size_t i = 0; i < *count; i++)
		if (strcmp(list[i], path) == 0)
			return 0;
	/* OWN_MAX holds twice what own_find names, and the NULL. */
	if (*count + 1 >= OWN_MAX)
		return -E2BIG;
	list[*count] = strdup(path);
	return list[*count] ? ((*count)++, 0) : -ENOMEM;
}

static int add_path(struct own *o, const char *path, bool state)
{
	int r = add_one(o->all, &o->count, path);

	return r == 0 && state ? add_one(o->state, &o->state_count, path) : r;
}

/* The real path of what may not be there: of the part of it that is, with the rest behind it. */
static bool really(const char *path, char ret[PATH_MAX])
{
	char above[PATH_MAX], real[PATH_MAX];
	const char *slash = path + strlen(path);

	do {
		snprintf(above, sizeof(above), "%.*s", (int)(slash - path), path);
		if (realpath(above[0] ? above : "/", real))
			return (size_t)snprintf(ret, PATH_MAX, "%s%s",
						strcmp(real, "/") == 0 ? "" : real,
						slash) < PATH_MAX;
		slash = memrchr(path, '/', (size_t)(slash - path));
	} while (slash);
	return false;
}

/* below: NULL, or the rest of the path. What is not absolute counts as not set (the XDG Base
 * Directory specification). */
static int add(struct own *o, const char *path, const char *below, bool state)
{
	char text[PATH_MAX], real[PATH_MAX];
	int r;

	if (!path || path[0] != '/' ||
	    (size_t)snprintf(text, sizeof(text), "%s%s", path, below ? below : "") >= sizeof(text))
		return 0;
	r = add_path(o, text, state);
	return r == 0 && really(text, real) ? add_path(o, real, state) : r;
}

int own_find(const struct own_from *from, struct own *ret, struct error *err)
{
	const struct settings_from settings = {.home = from->home, .uid = geteuid()};
	AUTO_FREE char *set = NULL;
	int r;

	/* One that cannot be expanded is used by nobody. */
	if (settings_state(from->settings, &settings, NULL, &set, NULL) < 0)
		set = NULL;
	r = add(ret, from->state, NULL, true);
	if (r == 0)
		r = add(ret, from->runtime, NULL, true);
	if (r == 0)
		r = add(ret, from->home, "/.local/state/holdfast", true);
	if (r == 0)
		r = add(ret, from->xdg_state, "/holdfast", true);
	if (r == 0)
		r = add(ret, STATE_ROOT, NULL, true);
	if (r == 0)
		r = add(ret, set, NULL, true);
	if (r == 0)
		r = add(ret, from->home, "/.config/holdfast", false);
	if (r == 0)
		r = add(ret, from->xdg_config, "/holdfast", false);
	if (r == 0)
		r = add(ret, SETTINGS_ROOT, NULL, false);
	return r < 0 ? error_nomem(err) : 0;
}

void own_free(struct own *o)
{
	for (size_t i = 0; i < o->state_count; i++)
		free(o->state[i]);
	for (size_t i = 0; i < o->count; i++)
		free(o->all[i]);
	*o = (struct own){0};
}
