#pragma once
/* What verify, fsck, gc and export share. */
#include "journal/digestset.h"
#include "journal/store.h"

struct journal_audit {
	const struct journal_view *view;
	journal_problem_fn *fn;
	void *arg;
	struct journal_report report;
};

/* One finding, one line. */
void journal_audit_problem(struct journal_audit *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* A field whose digest is that of a blob which must be there; of any other it may be one or not. */
bool journal_audit_must_blob(unsigned field);

/* fn for every digest among the fields of r: must says whether a blob of it has to exist. */
int journal_audit_each_digest(const struct journal_record *r,
			      int (*fn)(const struct digest *, bool must, void *), void *arg);
/* As each of kv, from the first to the last; -ECANCELED when the view is stopped. */
int journal_audit_each(const struct journal_view *v, enum journal_family f, struct bytes prefix,
		       journal_kv_fn *fn, void *arg);
/* Every blob file: fn(digest, folder fd, name in it). Names that are no blob's come with a NULL
 * digest. -ECANCELED as above. */
int journal_audit_each_file(const struct journal_view *v,
			    int (*fn)(const struct digest *, int folder, const char *name, void *),
			    void *arg);
