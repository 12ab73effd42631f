#pragma once
/*
 * Layers that the journal does not know (any more): an attempt's whose record was never written,
 * those of dropped runs, squashed ones of an earlier supervisor. They are looked for after a start
 * and when runs were dropped, and removed.
 */
#include "supervisor/daemon.h"

MUST_CHECK int garbage_new(struct daemon *d, struct garbage **ret); /* 0 or -ENOMEM */
void garbage_free(struct garbage *g); /* accepts NULL */
void garbage_soon(struct daemon *d); /* when what lives was adopted and has settled */
void garbage_collect(struct daemon *d); /* at the next turn of the loop */
