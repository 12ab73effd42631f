#pragma once
/*
 * Memory that runs out. A test program that is linked with memory_link_args (tests/unit/memory) asks
 * this file for the memory of Holdfast's own code; a dependency's is its own.
 */
#include <stdbool.h>

/* Runs scenario() again and again, with the first, the second, ... allocation refused, until it gets
 * through without one being refused. It must return `expect` when nothing was refused, and -ENOMEM
 * or `expect` otherwise (then what it did without was no part of the outcome, which the scenario
 * has to check). What it holds it frees: the leak check is the sanitizer's. Returns how many
 * allocations were refused in all. */
unsigned memory_exhaust(int (*scenario)(void *arg), void *arg, int expect);
