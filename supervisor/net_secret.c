#include "supervisor/net_secret.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/cbor.h"
#include "base/io.h"

void net_secret_wipe(struct buffer *b)
{
	if (b->data)
		explicit_bzero(b->data, b->cap);
	buffer_free(b);
}

static int refuse(struct error *err, const struct policy_secret_info *s, int code, const char *why)
{
	error_where(err, "%s:%d:%d", s->at.file, s->at.line, s->at.column);
	return error_set(err, code, "secret '%s': %s", s->name, why);
}

/* systemd mounts a credential read-only, mode 0440 and of root: what stands in that folder is the
 * service's alone. */
static int read_file(const struct policy_secret_info *s, int dir, const char *path, bool credential,
		     struct buffer *out, struct error *err)
{
	AUTO_FD fd = openat(dir, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return refuse(err, s, -errno,
			      errno == ELOOP ? "its file is a symlink; name the file itself"
					     : strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return refuse(err, s, -EINVAL, "it is no regular file");
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return refuse(
			err, s, -EPERM,
			"its file belongs to another user; only this user or root may own it");
	if (!credential && (st.st_mode & 077))
		return refuse(err, s, -EPERM,
			      "its file can be read or written by others; chmod 600");
	/* room for all of it first: a buffer that grows leaves copies behind */
	int r = buffer_reserve(out, NET_SECRET_MAX + 1);
	if (r == 0)
		r = io_read_all(fd, NET_SECRET_MAX, out);
	return r < 0 ? refuse(err, s, r, r == -E2BIG ? "it is longer than 16 KiB" : strerror(-r))
		     : 0;
}

static const char *find(char *const *environment, const char *name)
{
	size_t n = strlen(name);

	for (; environment && *environment; environment++)
		if (strncmp(*environment, name, n) == 0 && (*environment)[n] == '=')
			return *environment + n + 1;
	return NULL;
}

static int read_credential(const struct policy_secret_info *s, char *const *environment,
			   struct buffer *out, struct error *err)
{
	const char *folder = find(environment, "CREDENTIALS_DIRECTORY");
	AUTO_FD dir = folder ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

	if (dir < 0)
		return refuse(err, s, -ENOENT,
			      "there are no credentials: systemd gives them to a service only "
			      "(LoadCredential=)");
	if (strchr(s->credential, '/') || s->credential[0] == '.')
		return refuse(err, s, -EINVAL, "a credential's name has no '/' and no dot first");
	return read_file(s, dir, s->credential, true, out, err);
}

static int read_environment(const struct policy_secret_info *s, char *const *environment,
			    struct buffer *out, struct error *err)
{
	const char *value = find(environment, s->env_from);

	if (!value)
		return refuse(err, s, -ENOENT,
			      "its variable is not in the supervisor's environment");
	if (strlen(value) > NET_SECRET_MAX)
		return refuse(err, s, -E2BIG, "it is longer than 16 KiB");
	return buffer_append(out, value, strlen(value));
}

int net_secret_read(const struct policy_secret_info *s, char *const *environment,
		    struct buffer *out, struct error *err)
{
	int r = s->file	      ? read_file(s, AT_FDCWD, s->file, false, out, err)
		: s->env_from ? read_environment(s, environment, out, err)
			      : read_credential(s, environment, out, err);

	if (r < 0)
		return r;
	if (out->len > 0 && out->data[out->len - 1] == '\n')
		out->len--;
	if (out->len == 0)
		return refuse(err, s, -EINVAL, "it is empty");
	if (memchr(out->data, '\n', out->len) || memchr(out->data, '\r', out->len) ||
	    memchr(out->data, 0, out->len))
		return refuse(err, s, -EINVAL, "it has several lines, or a NUL");
	return 0;
}

char *net_secret_placeholder(const struct digest *seed, const char *name, char *buf)
{
	AUTO_BUFFER b = {0};
	struct digest d;
	char text[56];

	cbor_w_array(&b, 2);
	cbor_w_bytes(&b, bytes_of(seed->b, sizeof(seed->b)));
	cbor_w_str(&b, name);
	if (b.failed < 0)
		abort();
	digest_domain("holdfast.placeholder", buffer_bytes(&b), &d);
	snprintf(buf, NET_PLACEHOLDER_SIZE, "holdfast-%s", digest_base32(&d, text));
	return buf;
}
