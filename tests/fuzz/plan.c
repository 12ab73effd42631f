/* Any bytes as YAML give a plan whose canonical form comes back, or an error with a place; any
 * bytes as canonical form give a plan that encodes to the same bytes, or an error. */
#include "supervisor/plan.h"
#include "tests/fuzz/fuzz.h"

static void as_canonical(struct bytes b, bool must)
{
	AUTO_BUFFER again = {0};
	struct plan *p = NULL;
	struct plan_step *s = NULL;
	int r = plan_decode(b, &p);

	MUST(r == 0 || !must);
	if (r == 0)
		MUST(plan_encode(p, &again) == 0 && bytes_equal(b, buffer_bytes(&again)));
	plan_free(p);
	again.len = 0;
	if (plan_step_decode(b, &s) == 0)
		MUST(plan_step_encode(s, &again) == 0 && bytes_equal(b, buffer_bytes(&again)));
	plan_step_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_BUFFER out = {0};
	struct error err = {0};
	struct plan *p = NULL;
	int r;

	as_canonical(bytes_of(data, size), false);
	r = plan_parse(bytes_of(data, size), "f", &p, &err);
	if (r < 0) {
		MUST(p == NULL && err.code == r && err.exit_status == EXIT_STATUS_USAGE);
		MUST(strncmp(err.where, "f:", 2) == 0 || strcmp(err.where, "f") == 0);
		return 0;
	}
	r = plan_encode(p, &out);
	MUST(r == 0 || r == -EINVAL); /* -EINVAL: stdin is no blob yet */
	if (r == 0)
		as_canonical(buffer_bytes(&out), true);
	plan_free(p);
	return 0;
}
