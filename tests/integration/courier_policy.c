/* The canonical effective policy of a YAML text on standard input, as a run's own: for tests that
 * speak to the courier by themselves. */
#include <stdio.h>
#include "base/io.h"
#include "policy/policy.h"

int main(void)
{
	AUTO(policy_free) struct policy *p = NULL;
	AUTO(policy_effective_free) struct policy_effective *e = NULL;
	AUTO_BUFFER text = {0};
	AUTO_BUFFER out = {0};
	struct error err = {0};
	struct policy_input in = {.layer = POLICY_LAYER_RUN};

	if (io_read_all(0, POLICY_BYTES_MAX, &text) < 0 ||
	    policy_parse(buffer_bytes(&text), "policy.yaml", NULL, &p) < 0)
		return 1;
	in.policy = p;
	struct policy_combine c = {.inputs = &in, .count = 1};
	if (policy_check(p, &err) < 0 || policy_combine(&c, &e, &err) < 0) {
		fprintf(stderr, "%s: %s\n", err.where, err.msg);
		return 1;
	}
	if (policy_effective_encode(e, &out) < 0)
		return 1;
	return io_write_all(1, out.data, out.len) < 0;
}
