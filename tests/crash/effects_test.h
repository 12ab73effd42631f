#pragma once
/* What the crash test of effects and its supervisor share. */
#include <stdint.h>

enum {
	EFFECTS_TEST_ACTIONS = 12,
	EFFECTS_TEST_CHANNEL_FD = 10,
	EFFECTS_TEST_ORDER_FD = 11, /* a byte: the attempt exited well */
	EFFECTS_TEST_TRUTH_FD = 12, /* shared: struct effects_truth */
	EFFECTS_TEST_RUN = 0x42, /* each byte of its id */
	/* exit statuses */
	EFFECTS_TEST_OVER = 40,
	EFFECTS_TEST_WRONG = 41,
};

/* What really happened at the other side. */
struct effects_truth {
	uint32_t delivered[EFFECTS_TEST_ACTIONS]; /* requests that came */
	uint32_t applied[EFFECTS_TEST_ACTIONS]; /* that had an effect: keyed ones once a key */
};
