#pragma once
/*
 * The items of a plan in the making: every path that may change, in the order of paths (a folder
 * before what is in it), with what becomes of it. Private to landing_items.c, landing_plan.c (a
 * landing) and landing_reverse.c (an undoing). Pure.
 */
#include "supervisor/landing_plan.h"

/*
 * What becomes of an item:
 *
 *   NOTHING   no change, or it stands already: not in the plan
 *   ACT       an action of the plan; may still become any other
 *   OUT       left out, noted with its reason
 *   CONFLICT  noted: the plan is not to be applied
 */
enum landing_item_verdict {
	LANDING_ITEM_NOTHING,
	LANDING_ITEM_ACT,
	LANDING_ITEM_OUT,
	LANDING_ITEM_CONFLICT,
};

struct landing_item {
	struct bytes path;
	enum landing_item_verdict verdict;
	const struct landing_state *now;
	struct landing_state after;
	enum landing_from from;
	const char *layer;
	const struct manifest_entry *entry; /* landing; NULL when undoing */
	const struct landing_choice *choice;
	const struct landing_conflict *shown; /* what choice is bound to */
	bool place; /* a folder with changes in it: another thing stands there (PLACE) */
	bool stranger; /* the run knows nothing of it, but it lies in a folder that is to go */
	bool no_inside; /* a person's file goes where the folder would be */
	const char *refused; /* of place: why the folder cannot be put back, or NULL */
};

struct landing_items {
	const struct landing_inputs *in;
	struct landing_plan *plan;
	struct manifest *net;
	struct landing_item *items;
	size_t count;
	struct error *err;
};

static const struct landing_state landing_items_absent = {.type = MANIFEST_ABSENT};

/* The folders above path, from the top, by their lengths: start with *at = 0. False: no more. */
bool landing_items_next_above(struct bytes path, size_t *at);
int landing_items_order(const void *a, const void *b); /* for qsort: by path */
/* By path, of items in order; NULL: there is none. */
struct landing_item *landing_items_find(struct landing_items *m, struct bytes path);

/* Notes that a path is left out; the item goes on. 0 or a negative errno. */
MUST_CHECK int landing_items_note_out(struct landing_items *m, const struct landing_item *it,
				      enum landing_out_why why, const char *text);
/* The same, and nothing else of it lands. */
MUST_CHECK int landing_items_leave_out(struct landing_items *m, struct landing_item *it,
				       enum landing_out_why why, const char *text);
MUST_CHECK int landing_items_conflict(struct landing_items *m, struct landing_item *it,
				      enum landing_conflict_why why, const char *text);
/* Finds the person's word about the path, if it was among the conflicts that were shown. */
void landing_items_bind(struct landing_item *it, const struct landing_conflict *shown,
			size_t shown_count, const struct landing_choice *choices,
			size_t choice_count);
bool landing_items_chose(const struct landing_item *it, enum landing_choice_kind kind);
/* What was left out takes what lies in it along, and keeps the folders that it stays in. */
MUST_CHECK int landing_items_leave_around(struct landing_items *m);

struct landing_plan *landing_items_plan_new(void); /* NULL when out of memory */
/* Every ACT becomes an action of m->plan; its lists are put in order. */
MUST_CHECK int landing_items_emit(struct landing_items *m);
void landing_items_done(struct landing_items *m);
#define AUTO_LANDING_ITEMS __attribute__((cleanup(landing_items_done))) struct landing_items
