#pragma once
/*
 * Looks for a secret in a stream, across the borders of its pieces: as it is, percent-encoded (any
 * of its bytes), in hex of either case, in base64 of either alphabet at any alignment; and each of
 * these in a JSON string, with any of its bytes escaped (`\u0041`, `\/`), and over the ends of lines
 * (CR, LF; of 16 bytes and more), as MIME wraps base64. Pure but for the heap;
 * what it keeps is wiped.
 *
 * An encoded form of fewer than SCAN_FORM_MIN bytes is not looked for: it would be found
 * everywhere.
 */
#include "base/buffer.h"
#include "base/error.h"
#include "base/guard.h"

enum { SCAN_FORM_MIN = 6 };

struct scan; /* opaque, owned */
struct scan *scan_new(struct bytes secret); /* NULL when out of memory, or empty */
void scan_free(struct scan *s); /* accepts NULL */
DEFINE_GUARD(struct scan *, scan_free)
/* True as soon as the stream so far contains a form, and from then on. -ENOMEM counts as found. */
bool scan_feed(struct scan *s, struct bytes piece);
/* As many of the stream's last bytes can be the beginning of a form: they must wait. */
size_t scan_hold(const struct scan *s);
