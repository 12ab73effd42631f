#pragma once
/*
 * The value of a secret, read when a courier is told of an attempt and wiped right after. It is in
 * no log, journal, error or core file.
 */
#include "base/buffer.h"
#include "base/error.h"
#include "policy/policy.h"

enum { NET_SECRET_MAX = 16 * 1024 }; /* bytes, REPORT_SECRET_MAX */

/* From a file (a regular one of this user or root that nobody else can read or write, no symlink),
 * this process's environment, or systemd's $CREDENTIALS_DIRECTORY. One newline at its end goes; an
 * empty one, a NUL, CR or LF inside is an error. Appends to out. -EPERM, -ENOENT, -E2BIG, -EINVAL,
 * with *err naming the secret and its place, never its value. */
MUST_CHECK int net_secret_read(const struct policy_secret_info *s, char *const *environment,
			       struct buffer *out, struct error *err);
void net_secret_wipe(struct buffer *b); /* and frees */
/* What the sandbox holds instead, the same for every attempt of a network: buf holds
 * NET_PLACEHOLDER_SIZE. */
enum { NET_PLACEHOLDER_SIZE = 72 };
char *net_secret_placeholder(const struct digest *seed, const char *name, char *buf);
