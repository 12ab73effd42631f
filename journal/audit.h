#pragma once
/* What verify, fsck and gc share. */
#include "journal/digestset.h"
#include "journal/store.h"

struct journal_audit {
	struct journal *j;
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
/* Every blob file: fn(digest, folder fd, name in it). Names that are no blob's come with a NULL
 * digest. */
int journal_audit_each_file(struct journal *j,
			    int (*fn)(const struct digest *, int folder, const char *name, void *),
			    void *arg);
