#pragma once
/*
 * What the journal keeps of couriers' reports, in its one form (base/holdfast.cddl,
 * `effect-response`, `effect-reads`). Pure.
 */
#include "sandbox/sandbox.h"

enum { EFFECTS_CODE_READ_TEXT_MAX = 512 }; /* bytes of a path or reason; more is cut */

MUST_CHECK int effects_code_response_encode(int status, const struct action_header *headers,
					    size_t header_count, struct buffer *out);
/* headers has room for ACTION_HEADERS_MAX; borrowed from b. -EBADMSG. */
MUST_CHECK int effects_code_response_decode(struct bytes b, int *ret_status,
					    struct action_header *headers,
					    size_t *ret_header_count);
MUST_CHECK int effects_code_reads_encode(const struct report_read *reads, size_t count,
					 struct buffer *out);
/* Calls fn for each, attempt zero, texts borrowed from b. -EBADMSG. */
MUST_CHECK int effects_code_reads_each(struct bytes b,
				       int (*fn)(const struct report_read *read, void *arg),
				       void *arg);
