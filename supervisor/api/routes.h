#pragma once
/*
 * The routing table of the control socket (supervisor.h): one row an endpoint. A request that no
 * row takes is 404, a row's own method and no other.
 */
#include "supervisor/daemon.h"

/* Handler of api/server.h; ctx is the struct daemon. */
void routes_handle(void *ctx, struct api_request *q, struct api_answer *a);
