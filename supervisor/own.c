#include "supervisor/own.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/digest.h"
#include "base/guard.h"
#include "base/io.h"
#include "supervisor/settings.h"

#define STATE_ROOT    "/var/lib/holdfast"
#define SETTINGS_ROOT "/etc/holdfast"

static int add_one(char **list, size_t *count, const char *path)
{
	for (size_t i = 0; i < *count; i++)
		if (strcmp(list[i], path) == 0)
			return 0;
	/* OWN_MAX holds twice what own_find names and knows, and the NULL. */
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

/* ---- those that were noted ---- */

/* The default state directories whose `known` is read; the first that can be written to is written
 * to. Empty where there is none. */
static void default_states(const struct own_from *from, char ret[OWN_FOLDERS][PATH_MAX])
{
	/* A service of root's may have no HOME, and still has the one that root's sessions have. */
	const char *home = from->home || geteuid() != 0 ? from->home : "/root";

	ret[0][0] = ret[1][0] = '\0';
	/* One that is not there is not made. */
	if (home && home[0] == '/' && strlen(home) < PATH_MAX - 64 && access(home, X_OK) == 0)
		snprintf(ret[0], PATH_MAX, "%s/.local/state/holdfast", home);
	if (from->xdg_state && from->xdg_state[0] == '/' && strlen(from->xdg_state) < PATH_MAX - 64)
		snprintf(ret[1], PATH_MAX, "%s/holdfast", from->xdg_state);
	strcpy(ret[2], STATE_ROOT);
}

/* What another user could have written there is not believed. */
static int open_known(const char *state)
{
	char path[PATH_MAX + 8];
	struct stat st;

	if (!state[0])
		return -ENOENT;
	snprintf(path, sizeof(path), "%s/known", state);
	AUTO_FD fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return (st.st_uid == geteuid() || st.st_uid == 0) && !(st.st_mode & (S_IWGRP | S_IWOTH))
		       ? take_fd(&fd)
		       : -EPERM;
}

static bool is_gone(const char *state)
{
	char path[PATH_MAX + 4];
	struct stat st;

	snprintf(path, sizeof(path), "%s/v1", state);
	return lstat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

static int read_known(struct own *o, int folder, struct error *err)
{
	AUTO_DIR dir = NULL;
	int fd = fcntl(folder, F_DUPFD_CLOEXEC, 0), r = 0;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		close_fd(&fd);
		return error_nomem(err);
	}
	for (struct dirent *e; r == 0 && (e = readdir(dir));) {
		AUTO_BUFFER path = {0};

		if (e->d_name[0] == '.' ||
		    io_read_file_at(folder, e->d_name, PATH_MAX - 1, &path) < 0 || path.len == 0 ||
		    path.data[0] != '/' || memchr(path.data, 0, path.len))
			continue;
		if (buffer_append_byte(&path, 0) < 0)
			return error_nomem(err);
		if (is_gone((const char *)path.data))
			(void)unlinkat(folder, e->d_name, 0);
		else
			r = add(o, (const char *)path.data, NULL, true);
	}
	return r;
}

static int find_known(const struct own_from *from, struct own *o, struct error *err)
{
	char states[OWN_FOLDERS][PATH_MAX];
	int r = 0;

	default_states(from, states);
	for (size_t i = 0; r == 0 && i < OWN_FOLDERS; i++) {
		AUTO_FD fd = open_known(states[i]);
		struct stat st;

		if (fd < 0)
			continue;
		r = read_known(o, fd, err);
		/* A file system's clock has ticks: what is as new as this is looked at again. */
		if (fstat(fd, &st) == 0 && time(NULL) - st.st_mtim.tv_sec > 1)
			o->seen[i] = st.st_mtim;
	}
	return r;
}

static bool is_expected(const struct own_from *from)
{
	char states[OWN_FOLDERS][PATH_MAX];

	/* Not that of XDG_STATE_HOME: another session may have none. */
	default_states(from, states);
	return strcmp(from->state, states[0]) == 0 || strcmp(from->state, states[2]) == 0;
}

static void make_above(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(path, 0700);
		*slash = '/';
	}
}

int own_note(const struct own_from *from)
{
	char states[OWN_FOLDERS][PATH_MAX], path[PATH_MAX + 8], name[DIGEST_HEX_SIZE];
	struct bytes text = bytes_str(from->state);
	struct digest digest;
	int r = -ENOENT;

	if (is_expected(from))
		return 0;
	digest_of(text, &digest);
	digest_hex(&digest, name);
	default_states(from, states);
	for (size_t i = 0; r < 0 && i < OWN_FOLDERS; i++) {
		if (!states[i][0])
			continue;
		snprintf(path, sizeof(path), "%.*s/known", PATH_MAX - 1, states[i]);
		make_above(path);
		(void)mkdir(path, 0700);
		AUTO_FD fd = open_known(states[i]);
		AUTO_BUFFER there = {0};
		if (fd < 0)
			r = fd;
		else if (io_read_file_at(fd, name, PATH_MAX, &there) == 0 &&
			 bytes_equal(buffer_bytes(&there), text))
			r = 0;
		else
			r = io_write_file_atomic_at(fd, name, text, 0600);
	}
	return r;
}

/* ---- all of them ---- */

int own_find(const struct own_from *from, struct own **ret, struct error *err)
{
	const struct settings_from settings = {.home = from->home, .uid = geteuid()};
	const struct {
		const char *path, *below;
		bool state;
	} places[] = {
		{from->state, NULL, true},
		{from->runtime, NULL, true},
		{from->home, "/.local/state/holdfast", true},
		{from->xdg_state, "/holdfast", true},
		{STATE_ROOT, NULL, true},
		{from->home, "/.config/holdfast", false},
		{from->xdg_config, "/holdfast", false},
		{SETTINGS_ROOT, NULL, false},
	};
	AUTO(own_free) struct own *o = calloc(1, sizeof(*o));
	AUTO_FREE char *set = NULL;
	int r = 0;

	if (!o)
		return error_nomem(err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(places); i++)
		r = add(o, places[i].path, places[i].below, places[i].state);
	/* One that cannot be expanded is used by nobody. */
	if (r == 0 && settings_state(from->settings, &settings, NULL, &set, NULL) == 0)
		r = add(o, set, NULL, true);
	if (r == 0)
		r = find_known(from, o, err);
	if (r == -E2BIG)
		return error_set_exit(
			err, r, EXIT_STATUS_LIMIT,
			"more than %d state directories of yours are on this machine; "
			"remove those that nobody needs",
			OWN_KNOWN_MAX);
	if (r < 0)
		return error_nomem(err);
	*ret = take_ptr(o);
	return 0;
}

int own_refresh(const struct own_from *from, struct own **o, struct error *err)
{
	char states[OWN_FOLDERS][PATH_MAX];
	struct own *found = NULL;
	bool changed = false;

	default_states(from, states);
	for (size_t i = 0; i < OWN_FOLDERS; i++) {
		AUTO_FD fd = open_known(states[i]);
		struct stat st = {0};

		if (fd >= 0 && fstat(fd, &st) == 0)
			changed |= st.st_mtim.tv_sec != (*o)->seen[i].tv_sec ||
				   st.st_mtim.tv_nsec != (*o)->seen[i].tv_nsec;
	}
	if (!changed)
		return 0;
	int r = own_find(from, &found, err);
	if (r < 0)
		return r;
	found->older = *o;
	*o = found;
	return 0;
}

void own_free(struct own *o)
{
	while (o) {
		struct own *older = o->older;

		for (size_t i = 0; i < o->state_count; i++)
			free(o->state[i]);
		for (size_t i = 0; i < o->count; i++)
			free(o->all[i]);
		free(o);
		o = older;
	}
}
