/* What the audits share: a moment's view and the walks over it; and export. */
#include "journal/audit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/guard.h"
#include "base/io.h"
#include "base/utf8.h"
#include "journal/blob.h"
#include "journal/record.h"

enum { EXPORT_CHUNK = 256 * 1024 };

int journal_view_new(struct journal *j, struct journal_view **ret, struct error *err)
{
	struct journal_view *v = calloc(1, sizeof(*v));
	if (!v)
		return error_nomem(err);
	if (j->batch_last)
		journal_flush(j, false);
	journal_store_drain(j);
	int rc = j->kv->ops->snapshot(j->kv, &v->kv);
	if (rc < 0) {
		free(v);
		return error_set(err, rc, "journal: taking a view: %s", strerror(-rc));
	}
	v->j = j;
	*ret = v;
	return 0;
}

void journal_view_free(struct journal_view *v)
{
	if (!v)
		return;
	v->kv->ops->close(v->kv);
	free(v);
}

void journal_view_stop(struct journal_view *v)
{
	atomic_store(&v->stopped, true);
}

struct each_walk {
	const struct journal_view *v;
	journal_kv_fn *fn;
	void *arg;
};

static int each_one(struct bytes key, struct bytes value, void *arg)
{
	const struct each_walk *w = arg;
	return atomic_load(&w->v->stopped) ? -ECANCELED : w->fn(key, value, w->arg);
}

int journal_audit_each(const struct journal_view *v, enum journal_family f, struct bytes prefix,
		       journal_kv_fn *fn, void *arg)
{
	struct each_walk w = {v, fn, arg};
	return v->kv->ops->each(v->kv, f, prefix, bytes_of(NULL, 0), false, each_one, &w);
}

void journal_audit_problem(struct journal_audit *a, const char *fmt, ...)
{
	char text[ERROR_MSG_MAX];
	va_list args;
	va_start(args, fmt);
	utf8_vprintf(text, sizeof(text), fmt, args);
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

static int each_in_folder(const struct journal_view *v, int folder, const char *prefix,
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
		int rc = atomic_load(&v->stopped)
				 ? -ECANCELED
				 : fn(is_blob ? &digest : NULL, folder, e->d_name, arg);
		if (rc)
			return rc;
	}
	return 0;
}

int journal_audit_each_file(const struct journal_view *v,
			    int (*fn)(const struct digest *, int folder, const char *name, void *),
			    void *arg)
{
	int blobs = v->j->blobs_fd;
	for (unsigned i = 0; blobs >= 0 && i < 256; i++) {
		char prefix[3];
		snprintf(prefix, sizeof(prefix), "%02x", i);
		AUTO_FD folder =
			openat(blobs, prefix, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (folder < 0 && errno == ENOENT)
			continue;
		int rc = folder < 0 ? -errno : each_in_folder(v, folder, prefix, fn, arg);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- Export ---- */

struct export_walk {
	int fd;
	struct buffer out;
	struct journal *guarded; /* its disk is the one that is written to; else NULL */
};

static int export_write(struct export_walk *w)
{
	if (w->guarded && journal_space_low(w->guarded))
		return -ENOSPC;
	int rc = io_write_all(w->fd, w->out.data, w->out.len);
	w->out.len = 0;
	return rc;
}

static bool same_disk(const struct journal *j, int fd)
{
	struct stat own, out;
	return !j->o.read_only && j->dirfd >= 0 && fstat(j->dirfd, &own) == 0 &&
	       fstat(fd, &out) == 0 && S_ISREG(out.st_mode) && own.st_dev == out.st_dev;
}

static int export_event(struct bytes key, struct bytes value, void *arg)
{
	struct export_walk *w = arg;
	(void)key;
	int rc = buffer_append(&w->out, value.data, value.len);
	if (rc == 0 && w->out.len >= EXPORT_CHUNK)
		rc = export_write(w);
	return rc;
}

int journal_view_export(const struct journal_view *v, const struct journal_id *run, int out_fd,
			struct error *err)
{
	struct export_walk w = {.fd = out_fd, .guarded = same_disk(v->j, out_fd) ? v->j : NULL};
	struct bytes prefix = run ? bytes_of(run->b, JOURNAL_ID_SIZE) : bytes_of(NULL, 0);
	struct journal_head last;
	if (run && journal_store_last_event(v->kv, run, &last) == -ENOENT)
		return error_set_exit(err, -ENOENT, EXIT_STATUS_USAGE,
				      "export: there is no such run");
	int rc = journal_audit_each(v, JOURNAL_FAMILY_EVENT, prefix, export_event, &w);
	if (rc == 0 && w.out.len)
		rc = export_write(&w);
	buffer_free(&w.out);
	if (rc == -ENOSPC)
		return error_set(err, rc, "export: the disk is nearly full; free some space");
	return rc < 0 ? error_set(err, rc, "export: %s", strerror(-rc)) : 0;
}

int journal_export(struct journal *j, const struct journal_id *run, int out_fd, struct error *err)
{
	AUTO(journal_view_free) struct journal_view *v = NULL;
	int rc = journal_view_new(j, &v, err);
	return rc < 0 ? rc : journal_view_export(v, run, out_fd, err);
}
