#pragma once
/* What an attacker, a bad disk or a bug would do to a journal that nobody has open: straight into
 * the database. */
#include "journal/kv.h"
#include "tests/unit/journal/folder.h"

void tamper_put(const struct folder *f, enum journal_family family, struct bytes key,
		struct bytes value);
void tamper_delete(const struct folder *f, enum journal_family family, struct bytes key);
/* The value, or -ENOENT. */
int tamper_get(const struct folder *f, enum journal_family family, struct bytes key,
	       struct buffer *out);
