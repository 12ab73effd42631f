#pragma once
/* Where blobs lie, for the store's own files. */
#include "journal/journal.h"

enum { JOURNAL_BLOB_PATH_SIZE = DIGEST_HEX_SIZE + 1 }; /* "ab/cdef..." and NUL */
#define JOURNAL_BLOB_TEMPORARY ".new-"
