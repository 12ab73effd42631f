#pragma once
/* What a fuzz target defines (libFuzzer's name): returns 0; aborts when a rule does not hold. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert() that names no file and stays on whatever NDEBUG says. */
#define MUST(x)                  \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)
