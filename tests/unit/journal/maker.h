#pragma once
/*
 * Makers for the journal's tests: a record of any type with every field it must (or may) carry, and
 * a seeded stream of random legal records (a reference model: it asks the pure fold of a state of
 * its own).
 */
#include "journal/journal.h"

/* Heads that a record may have: of the daemon, of a run, of a step, of an attempt. */
enum { MAKER_DAEMON = 1, MAKER_RUN = 2, MAKER_STEP = 4, MAKER_ATTEMPT = 8 };
/* Those that journal_record_check() takes of the type. */
unsigned maker_heads(enum journal_type type);

/* Filled deterministically from the type: for golden files. Every must field, and every may field
 * where all. */
void maker_record(enum journal_type type, bool all, struct journal_record *ret);

struct maker; /* opaque, owned: a random stream and its reference state */
struct maker *maker_new(uint64_t seed);
void maker_free(struct maker *m);
/* The next random record that is legal now; already folded into the reference state; bytes borrowed
 * until the next. */
const struct journal_record *maker_next(struct maker *m);
struct bytes maker_bytes(const struct maker *m); /* encoding of the last */
const struct journal_state *maker_state(const struct maker *m);
uint64_t maker_random(struct maker *m, uint64_t below);
/* Encodes, hashes and folds r (head filled here) into s. 0 or fold's error. */
int maker_fold(struct journal_state *s, struct journal_record *r, struct error *err);
