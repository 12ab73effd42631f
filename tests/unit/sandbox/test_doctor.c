/* The stored answer of doctor: one set of bytes, and nothing else is read. */
#include "tests/golden.h"
#include "sandbox/doctor.h"

static struct doctor_report sample(void)
{
	return (struct doctor_report){
		.boot = "01234567-89ab-cdef-0123-456789abcdef",
		.machine = {.user_namespace = true,
			    .proc = true,
			    .landlock_abi = 7,
			    .seccomp = true,
			    .limits = {LIMITS_SAMPLED, LIMITS_CGROUP2, LIMITS_RLIMIT, LIMITS_NONE}},
		.findings = {{"overlay", DOCTOR_MISSING, "no overlay on nfs", "put it elsewhere"},
			     {"landlock", DOCTOR_OK, "ABI 7", ""}},
		.count = 2,
	};
}

static void golden_bytes(void **state)
{
	struct doctor_report r = sample();
	struct doctor_report back;
	AUTO_BUFFER out = {0};
	AUTO_BUFFER again = {0};

	(void)state;
	assert_int_equal(doctor_encode(&r, &out), 0);
	golden_check("sandbox/doctor.report.cbor", buffer_bytes(&out));
	assert_int_equal(doctor_decode(buffer_bytes(&out), &back, NULL), 0);
	assert_int_equal(back.machine.limits.pids, LIMITS_RLIMIT);
	assert_int_equal(back.machine.landlock_abi, 7);
	assert_int_equal(doctor_verdict(&back), DOCTOR_MISSING);
	assert_string_equal(doctor_find(&back, "overlay")->remedy, "put it elsewhere");
	assert_null(doctor_find(&back, "proc"));
	assert_int_equal(doctor_encode(&back, &again), 0);
	assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&again)));
}

/* Every byte of it changed, and every shorter piece: an error, or another answer that has one set
 * of bytes too. */
static void a_damaged_answer_is_refused_or_canonical(void **state)
{
	struct doctor_report r = sample();
	AUTO_BUFFER out = {0};
	int refused = 0;

	(void)state;
	assert_int_equal(doctor_encode(&r, &out), 0);
	for (size_t i = 0; i < out.len; i++) {
		assert_int_not_equal(doctor_decode(bytes_of(out.data, i), &r, NULL), 0);
		for (int bit = 0; bit < 8; bit++) {
			AUTO_BUFFER again = {0};

			out.data[i] ^= (uint8_t)(1 << bit);
			if (doctor_decode(buffer_bytes(&out), &r, NULL) == 0) {
				assert_int_equal(doctor_encode(&r, &again), 0);
				assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&again)));
			} else {
				refused++;
			}
			out.data[i] ^= (uint8_t)(1 << bit);
		}
	}
	assert_true(refused > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_bytes),
		cmocka_unit_test(a_damaged_answer_is_refused_or_canonical),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
