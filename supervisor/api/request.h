#pragma once
/* From a message head and its body to a struct api_request: strict, pure but for the heap. Used by
 * api/server.c alone. */
#include "base/http1.h"
#include "supervisor/api/server.h"

/* From the head: method, path, query, request id, names of descriptors. Takes the fds over, also on
 * failure. Errors: 400, 404 or 405 in *ret_status. */
MUST_CHECK int api_request_head(struct api_request *q, const struct http1_message *m,
				const int *fds, size_t fd_count, int *ret_status,
				struct error *err);
/* The whole body: a JSON object, or nothing. */
MUST_CHECK int api_request_body(struct api_request *q, struct bytes body, int *ret_status,
				struct error *err);
void api_request_clear(struct api_request *q); /* frees what it owns and zeroes it */
