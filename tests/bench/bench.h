#pragma once
/*
 * What the programs of the benchmark have in common, so that bench.py can put them into one table.
 *
 * A program that measures by itself prints one line a sample:
 *     NAME NANOSECONDS [COUNT]
 * NAME is a row of the table; COUNT is how many things that one sample did (events of a batch), 1
 * if it is left out.
 * A line "NAME failed WHY" says that there will be no more samples of NAME. Everything else goes to
 * stderr.
 *
 * A server takes part in interleaved rounds (rounds.c): for each empty line on its stdin it does
 * the work once and prints the nanoseconds alone, or one line that says why it could not; it goes
 * when its stdin ends.
 */
#include <stdint.h>
#include <time.h>

static inline int64_t bench_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
