#pragma once
/*
 * What the room itself (and its tests) knows of records beyond the door: levels, the use of each
 * field by each type, and the kinds of fields. The table is in record.c. Pure.
 */
#include "journal/journal.h"

enum journal_record_use { JOURNAL_USE_NEVER, JOURNAL_USE_MAY, JOURNAL_USE_MUST };

enum journal_record_kind {
	JOURNAL_RECORD_UINT,
	JOURNAL_RECORD_INT,
	JOURNAL_RECORD_TEXT,
	JOURNAL_RECORD_BYTES,
	JOURNAL_RECORD_RAW,
	JOURNAL_RECORD_DIGEST,
	JOURNAL_RECORD_ID,
	JOURNAL_RECORD_BOOL,
};

struct journal_record_field {
	const char *name;
	enum journal_record_kind kind;
	size_t offset; /* in struct journal_payload */
};

enum journal_record_use journal_record_use(enum journal_type type, unsigned field);
const struct journal_record_field *journal_record_field(
	unsigned field); /* NULL for an unknown number */
/* Level and fields of r by the table. -ENOTSUP (unknown type), -EINVAL, with *err naming the field.
 */
MUST_CHECK int journal_record_check(const struct journal_record *r, struct error *err);
