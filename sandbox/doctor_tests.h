#pragma once
/* The tests of doctor.c, each run in a child that may change itself as it likes. Inside doctor*
 * only. */
#include "sandbox/doctor.h"

struct doctor_result {
	struct doctor_finding finding;
	struct doctor_machine machine; /* what this test found out about; the rest zero */
};

struct doctor_place {
	const struct doctor_options *options;
	int folder; /* a fresh one in the state directory, for this test alone; also the working
		       folder */
};

struct doctor_test {
	const char *name;
	const char *needs; /* a test that must not have failed; or NULL */
	void (*run)(const struct doctor_place *p, struct doctor_result *r);
};

extern const struct doctor_test doctor_tests_table[];
extern const size_t doctor_tests_count;
