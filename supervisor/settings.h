#pragma once
/*
 * The settings of this machine and of this user (holdfast(1), SETTINGS): /etc/holdfast/config.yaml,
 * then config.yaml of the user's configuration folder, whose keys win. Without any file everything
 * has its default. Parsing is pure; settings_load reads the files.
 */
#include "base/buffer.h"
#include "base/error.h"
#include "base/guard.h"

#define SETTINGS_ETC "/etc/holdfast/config.yaml"

enum {
	SETTINGS_BYTES_MAX = 64 * 1024,
	SETTINGS_RESOLVERS_MAX = 8,
	SETTINGS_ADDRESS_SIZE = 46, /* INET6_ADDRSTRLEN */
	SETTINGS_ARGV_MAX = 64,
	SETTINGS_PATH_MAX = 4096,
	SETTINGS_RETENTION_MIN_MS = 1000,

	/* What is in force where no file says otherwise. */
	SETTINGS_ATTEMPTS = 64,
	SETTINGS_CLIENTS = 2048,
	SETTINGS_RESERVE_BYTES = 64 * 1024 * 1024,
	SETTINGS_IDLE_MS = 3000,
	SETTINGS_LOST = 10,

	/* What a file may say at most. */
	SETTINGS_ATTEMPTS_MAX = 1024, /* a quarter of what one keeper takes */
	SETTINGS_CLIENTS_MIN = 8,
	SETTINGS_CLIENTS_MAX = 2048,
	SETTINGS_IDLE_MIN_MS = 1000,
	SETTINGS_IDLE_MAX_MS = 60 * 60 * 1000,
	SETTINGS_LOST_MAX = 1000,
};

enum settings_key {
	SETTINGS_KEY_STATE,
	SETTINGS_KEY_RESOLVER,
	SETTINGS_KEY_NOTIFY,
	SETTINGS_KEY_RETENTION,
	SETTINGS_KEY_ATTEMPTS,
	SETTINGS_KEY_CLIENTS,
	SETTINGS_KEY_RESERVE,
	SETTINGS_KEY_IDLE,
	SETTINGS_KEY_LOST,
	SETTINGS_KEY_COUNT
};

enum settings_event { /* bits of notify_on */
		      SETTINGS_ON_OPENED = 1,
		      SETTINGS_ON_EXPIRING = 2,
		      SETTINGS_ON_DECIDED = 4
};

struct settings_place { /* of a key; line 0 = no file says it */
	char *file; /* owned */
	int line, column;
};

struct settings {
	char *state; /* owned; as written, "${home}" and "${uid}" in it; NULL = default */
	char resolver[SETTINGS_RESOLVERS_MAX][SETTINGS_ADDRESS_SIZE]; /* as inet_pton takes them */
	size_t resolver_count; /* 0 = the system's */
	char **notify_run; /* owned, NULL-terminated; NULL = nobody is told */
	unsigned notify_on; /* SETTINGS_ON_*; all where a file names none */
	uint64_t retention_ms; /* how long a run that ended is kept; 0 = for ever */
	uint32_t attempts; /* at a time, over all runs */
	uint32_t clients; /* connections to the control socket */
	uint64_t reserve_bytes; /* of free space, below which no attempt starts */
	uint64_t idle_ms; /* an embedded supervisor with nothing to do goes after so long */
	uint32_t lost; /* attempts of a step lost in a row before its run is paused */
	struct settings_place place[SETTINGS_KEY_COUNT];
};

void settings_defaults(struct settings *s); /* *s need not be initialised */
void settings_free(struct settings *s); /* what it owns; *s is zeroed; accepts NULL */
DEFINE_GUARD(struct settings *, settings_free)
/* The keys of one file over what *s has. Errors as yaml_parse gives them: err->where =
 * file:line:column, exit USAGE; *s is then good for settings_free only. */
MUST_CHECK int settings_parse(struct bytes yaml, const char *file, struct settings *s,
			      struct error *err);

/* "limits.attempts" */
const char *settings_key_name(enum settings_key k);
/* The value as a file would say it, for people. */
MUST_CHECK int settings_value(const struct settings *s, enum settings_key k, struct buffer *out);
/* "file:line:column", or "default". */
MUST_CHECK int settings_origin(const struct settings *s, enum settings_key k, struct buffer *out);

struct settings_from {
	const char *etc; /* SETTINGS_ETC, or another file for tests */
	const char *home, *xdg_config; /* of the environment; may be NULL */
	unsigned uid;
};

/* Defaults, then each file that is there. -EPERM, exit USAGE: a file that another user could have
 * written. *ret is untouched on failure. */
MUST_CHECK int settings_load(const struct settings_from *from, struct settings *ret,
			     struct error *err);
/* The state directory that the settings name, expanded, or *ret = NULL where they name none or the
 * environment stands above them: for an ordinary user an absolute $XDG_STATE_HOME does. Owned by
 * the caller. -- A --state stands above both; it is the caller's to look at first. */
MUST_CHECK int settings_state(const struct settings *s, const struct settings_from *from,
			      const char *xdg_state, char **ret, struct error *err);
