#pragma once
/*
 * The card of a queue item: the exact bytes that a person is shown and votes on, decidable in ten
 * seconds, made from journaled bytes and never from an agent's words. Pure: the same input gives
 * the same bytes, whose digest is the render digest of the approval. Everything that is not ours
 * goes through base/escape.
 *
 * Nothing of others begins a line: changed lines stand behind "  | ", and which file they are of is
 * taken from the diff's own counts of lines, not from how a line looks. A card that leaves
 * something out says so in a line of ours (CARD_NOT_ALL).
 *
 * Shape: the first line is verb and destination; then what it is about; then `approve:` and `deny:`
 * say what each does; last the rule's place, the deadline and 16 hex digits of the action digest.
 */
#include "journal/journal.h"
#include "supervisor/landing_plan.h"

enum {
	CARD_BYTES_MAX = 64 * 1024, /* more than its lists can come to */
	CARD_LIST_MAX = 20, /* paths of one list; then "and N more" */
	CARD_DIFF_LINES_MAX = 40, /* changed lines shown; then "N more lines" */
	CARD_CONFLICT_LINES_MAX = 12, /* of one path in conflict; of all of them: */
	CARD_CONFLICT_ALL_MAX = 100,
	CARD_LINE_MAX = 200, /* bytes of one line of others' text; then "…" */
	CARD_ARGS_MAX = 20,
};

struct card_difference {
	const char *field; /* "argv", "stdin", "stack" */
	struct bytes before, after; /* as text */
};

struct card_input {
	enum journal_approval_kind kind;
	const char *run_name; /* may be NULL */
	struct journal_id run;
	const char *workspace; /* path, for people */
	const char *step_key; /* NULL for run-wide ones */
	const char *const *argv; /* of the step; NULL-terminated or NULL */
	struct digest action;
	int64_t decide_by_ns; /* wall; 0 = none */
	int64_t execute_by_ns; /* how long after the decision, 0 = none */
	const char *rule; /* "policy.yaml:12:3 draft: landing asks", or "plan.yaml: gate: ask"; may
			     be NULL */
	bool undo; /* LANDING, CONFLICT: of an undoing */

	const struct landing_plan *plan; /* STEP_COMMIT, LANDING: what changes and what is left out;
					    NULL: nothing changes */
	/* Text of diff(1) -u, may be empty. CONFLICT: from mine to theirs, for people who choose:
	 * the choice is bound to the states above it, so the card is whole without these lines. */
	struct bytes diff;
	bool diff_cut; /* there is more of it than these bytes */
	uint64_t diff_skipped; /* files that were not compared */
	const char *diff_missing; /* why there is none, though files change; NULL: there is */

	const struct landing_conflict *conflicts; /* CONFLICT */
	size_t conflict_count;

	/* EXHAUSTED */
	uint32_t attempts;
	const char *why; /* of the last attempt: "exit status 2", "timed out after 10m" */
	struct bytes feedback; /* last lines of its error output or of the failed check */

	/* DIVERGED: the fields of the step's input that differ */
	const struct card_difference *differences;
	size_t difference_count;
};

/* How the line begins that is in every card that does not show all. */
#define CARD_NOT_ALL "not all of it is shown here: "
bool card_is_complete(struct bytes card);

/* Appends the card. *ret_complete (may be NULL): false where "N more lines" stands in it, so that
 * approving is not the default. */
MUST_CHECK int card_render(const struct card_input *in, struct buffer *out, bool *ret_complete);
