#pragma once
/* Where blobs lie, for the store's own files. */
#include "journal/journal.h"

enum { JOURNAL_BLOB_PATH_SIZE = DIGEST_HEX_SIZE + 1 }; /* "ab/cdef..." and NUL */
#define JOURNAL_BLOB_TEMPORARY ".new-"

/* folder holds 3 bytes, name DIGEST_HEX_SIZE - 2. */
void journal_blob_name(const struct digest *d, char *folder, char *name);
