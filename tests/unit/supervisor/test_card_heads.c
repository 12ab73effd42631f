/* What is known of a card is that card's, and never another's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "supervisor/card_heads.h"

static struct digest digest_for(unsigned n)
{
	struct digest d;

	digest_of(bytes_of(&n, sizeof(n)), &d);
	return d;
}

static void a_head_is_its_own_cards_or_not_known(void **state)
{
	struct card_heads *h;
	size_t known = 0;

	(void)state;
	assert_int_equal(card_heads_new(&h), 0);
	for (unsigned i = 0; i < 2 * CARD_HEADS_SLOTS; i++) {
		struct digest d = digest_for(i);
		char title[32];

		assert_null(card_heads_get(h, &d).title);
		snprintf(title, sizeof(title), "card %u", i);
		card_heads_put(h, &d, bytes_str(title), i % 3 == 0);
		assert_string_equal(card_heads_get(h, &d).title, title);
	}
	for (unsigned i = 0; i < 2 * CARD_HEADS_SLOTS; i++) {
		struct digest d = digest_for(i);
		struct card_head head = card_heads_get(h, &d);
		char title[32];

		snprintf(title, sizeof(title), "card %u", i);
		if (!head.title)
			continue;
		known++;
		assert_string_equal(head.title, title);
		assert_true(head.complete == (i % 3 == 0));
	}
	assert_true(known > CARD_HEADS_SLOTS / 2 && known <= CARD_HEADS_SLOTS);
	card_heads_free(h);
	card_heads_free(NULL);
}

/* A queue of ten thousand is told without reading its cards again. */
static void a_queue_finds_its_places(void **state)
{
	enum { CARDS = 10000 };
	struct card_heads *h;
	size_t known = 0;

	(void)state;
	assert_int_equal(card_heads_new(&h), 0);
	for (unsigned i = 0; i < CARDS; i++) {
		struct digest d = digest_for(i);

		card_heads_put(h, &d, bytes_str("a card"), true);
	}
	for (unsigned i = 0; i < CARDS; i++) {
		struct digest d = digest_for(i);

		known += card_heads_get(h, &d).title != NULL;
	}
	assert_true(known > CARDS - CARDS / 100);
	card_heads_free(h);
}

static void what_is_too_long_or_no_string_is_read_again(void **state)
{
	static char longer[CARD_HEADS_TITLE_MAX + 1];
	struct digest d = digest_for(1);
	struct card_heads *h;

	(void)state;
	memset(longer, 'x', sizeof(longer));
	assert_int_equal(card_heads_new(&h), 0);
	card_heads_put(h, &d, bytes_of(longer, sizeof(longer)), true);
	assert_null(card_heads_get(h, &d).title);
	card_heads_put(h, &d, bytes_of("a\0b", 3), true);
	assert_null(card_heads_get(h, &d).title);
	card_heads_put(h, &d, bytes_of(longer, CARD_HEADS_TITLE_MAX), true);
	assert_non_null(card_heads_get(h, &d).title);
	card_heads_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_head_is_its_own_cards_or_not_known),
		cmocka_unit_test(a_queue_finds_its_places),
		cmocka_unit_test(what_is_too_long_or_no_string_is_read_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
