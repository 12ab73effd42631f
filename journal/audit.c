/* What the audits share, and export. */
#include "journal/audit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include "base/guard.h"
#include "base/io.h"
#include "journal/blob.h"
#include "journal/record.h"

enum { EXPORT_CHUNK = 256 * 1024 };

void journal_audit_problem(struct journal_audit *a, const char *fmt, ...)
{
	char text[ERROR_MSG_MAX];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	a->report.problems++;
	if (a->fn)
		a->fn(text, a->arg);
}

/* The field table's "blob:" ones. `input` and `digest` are blobs for some types only. */
bool journal_audit_must_blob(unsigned field)
{
	switch (field) {
	case JOURNAL_F_plan:
	case JOURNAL_F_policy:
	case JOURNAL_F_environ:
	case JOURNAL_F_out:
	case JOURNAL_F_err:
	case JOURNAL_F_results:
	case JOURNAL_F_manifest:
	case JOURNAL_F_card:
	case JOURNAL_F_redo:
	case JOURNAL_F_result:
	case JOURNAL_F_conflicts:
	case JOURNAL_F_feedback:
	case JOURNAL_F_canonical:
	case JOURNAL_F_body:
	case JOURNAL_F_before:
	case JOURNAL_F_response:
	case JOURNAL_F_response_body:
	case JOURNAL_F_proof:
	case JOURNAL_F_pattern:
		return true;
	default:
		return false;
	}
}

int journal_audit_each_digest(const struct journal_record *r,
			      int (*fn)(const struct digest *, bool must, void *), void *arg)
{
	for (unsigned num = 1; num < JOURNAL_FIELD_LIMIT; num++) {
		if (!((r->p.has[num / 64] >> (num % 64)) & 1))
			continue;
		const struct journal_record_field *f = journal_record_field(num);
		if (f->kind != JOURNAL_RECORD_DIGEST)
			continue;
		const struct digest *d = (const void *)((const uint8_t *)&r->p + f->offset);
		int rc = fn(d, journal_audit_must_blob(num), arg);
		if (rc)
			return rc;
	}
	return 0;
}

static int each_in_folder(int folder, const char *prefix,
			  int (*fn)(const struct digest *, int folder, const char *name, void *),
			  void *arg)
{
	AUTO_FD fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_DIR d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return -errno;
	(void)take_fd(&fd);
	for (struct dirent *e; (e = readdir(d));) {
		char hex[DIGEST_HEX_SIZE + 8];
		struct digest digest;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(hex, sizeof(hex), "%s%.66s", prefix, e->d_name);
		bool is_blob = digest_from_hex(bytes_str(hex), &digest) == 0;
		int rc = fn(is_blob ? &digest : NULL, folder, e->d_name, arg);
		if (rc)
			return rc;
	}
	return 0;
}

int journal_audit_each_file(struct journal *j,
			    int (*fn)(const struct digest *, int folder, const char *name, void *),
			    void *arg)
{
	for (unsigned i = 0; j->blobs_fd >= 0 && i < 256; i++) {
		char prefix[3];
		snprintf(prefix, sizeof(prefix), "%02x", i);
		AUTO_FD folder = openat(j->blobs_fd, prefix,
					O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (folder < 0 && errno == ENOENT)
			continue;
		int rc = folder < 0 ? -errno : each_in_folder(folder, prefix, fn, arg);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- Export ---- */

struct export_walk {
	int fd;
	struct buffer out;
};

static int export_event(struct bytes key, struct bytes value, void *arg)
{
	struct export_walk *w = arg;
	(void)key;
	int rc = buffer_append(&w->out, value.data, value.len);
	if (rc == 0 && w->out.len >= EXPORT_CHUNK) {
		rc = io_write_all(w->fd, w->out.data, w->out.len);
		w->out.len = 0;
	}
	return rc;
}

int journal_export(struct journal *j, const struct journal_id *run, int out_fd, struct error *err)
{
	struct export_walk w = {.fd = out_fd};
	struct bytes prefix = run ? bytes_of(run->b, JOURNAL_ID_SIZE) : bytes_of(NULL, 0);
	struct journal_head last;
	journal_store_drain(j);
	if (run && journal_store_last_event(j->kv, run, &last) == -ENOENT)
		return error_set_exit(err, -ENOENT, EXIT_STATUS_USAGE,
				      "export: there is no such run");
	int rc = j->kv->ops->each(j->kv, JOURNAL_FAMILY_EVENT, prefix, bytes_of(NULL, 0), false,
				  export_event, &w);
	if (rc == 0 && w.out.len)
		rc = io_write_all(out_fd, w.out.data, w.out.len);
	buffer_free(&w.out);
	return rc < 0 ? error_set(err, rc, "export: %s", strerror(-rc)) : 0;
}
