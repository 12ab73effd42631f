/* The files of the settings: who may have written them, and in which order they count. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "supervisor/settings.h"

/* A file that another user could have written is not obeyed, and not passed over either: whoever
 * wrote the settings would go on without them. */
static int check_owner(int fd, const char *path, unsigned uid, mode_t forbidden, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "cannot look at %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set_exit(err, -EINVAL, EXIT_STATUS_USAGE,
				      "refusing %s: it is no regular file; remove it", path);
	if (st.st_uid != uid)
		return error_set_exit(err, -EPERM, EXIT_STATUS_USAGE,
				      "refusing %s: it belongs to uid %u, not to %u; chown it, or "
				      "remove it",
				      path, st.st_uid, uid);
	if (st.st_mode & forbidden)
		return error_set_exit(err, -EPERM, EXIT_STATUS_USAGE,
				      "refusing %s: its mode is %04o, so that others may write to "
				      "it; see who did, then chmod %s",
				      path, st.st_mode & 07777,
				      forbidden & S_IWGRP ? "go-w" : "o-w");
	return 0;
}

static int load_file(const char *path, unsigned uid, mode_t forbidden, struct settings *s,
		     struct error *err)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	AUTO_BUFFER text = {.max = SETTINGS_BYTES_MAX + 1};
	int r;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0)
		return error_set_exit(err, -errno, EXIT_STATUS_USAGE,
				      "cannot read the settings %s: %s; make it readable, or "
				      "remove it",
				      path, strerror(errno));
	r = check_owner(fd, path, uid, forbidden, err);
	if (r < 0)
		return r;
	r = io_read_all(fd, SETTINGS_BYTES_MAX, &text);
	if (r < 0)
		return error_set_exit(err, r, EXIT_STATUS_USAGE,
				      "cannot read the settings %s: %s; at most %d bytes", path,
				      strerror(-r), SETTINGS_BYTES_MAX);
	return settings_parse(buffer_bytes(&text), path, s, err);
}

int settings_load(const struct settings_from *from, struct settings *ret, struct error *err)
{
	struct settings s;
	char path[PATH_MAX] = "";
	int n = 0, r;

	settings_defaults(&s);
	r = load_file(from->etc, 0, S_IWGRP | S_IWOTH, &s, err);
	/* The XDG Base Directory specification: a relative value is ignored. */
	if (from->xdg_config && from->xdg_config[0] == '/')
		n = snprintf(path, sizeof(path), "%s/holdfast/config.yaml", from->xdg_config);
	else if (from->home && from->home[0] == '/')
		n = snprintf(path, sizeof(path), "%s/.config/holdfast/config.yaml", from->home);
	if (r == 0 && (size_t)n >= sizeof(path))
		r = error_set_exit(err, -ENAMETOOLONG, EXIT_STATUS_USAGE,
				   "XDG_CONFIG_HOME or HOME is too long; set it to a shorter path");
	if (r == 0 && n > 0)
		r = load_file(path, from->uid, S_IWOTH, &s, err);
	if (r < 0) {
		settings_free(&s);
		return r;
	}
	*ret = s;
	return 0;
}

int settings_state(const struct settings *s, const struct settings_from *from,
		   const char *xdg_state, char **ret, struct error *err)
{
	const struct settings_place *at = &s->place[SETTINGS_KEY_STATE];
	const char *text = s->state;
	AUTO_BUFFER out = {0};

	*ret = NULL;
	if (!text || (from->uid != 0 && xdg_state && xdg_state[0] == '/'))
		return 0;
	if (strncmp(text, "${home}", 7) == 0) {
		if (!from->home || from->home[0] != '/') {
			error_where(err, "%s:%d:%d", at->file, at->line, at->column);
			return error_set_exit(err, -ENOENT, EXIT_STATUS_USAGE,
					      "state: HOME is not set to an absolute path; set it "
					      "or give --state DIR");
		}
		buffer_append_str(&out, from->home);
		text += 7;
	}
	while (*text) {
		if (strncmp(text, "${uid}", 6) == 0) {
			buffer_printf(&out, "%u", from->uid);
			text += 6;
		} else {
			buffer_append_byte(&out, (uint8_t)*text++);
		}
	}
	*ret = out.failed ? NULL : bytes_dup_str(buffer_bytes(&out));
	return *ret ? 0 : error_nomem(err);
}
