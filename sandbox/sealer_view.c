/* VIEW: the manifests of a stack, merged to one, as a sealed memfd. */
#include <errno.h>

#include "base/guard.h"
#include "base/io.h"
#include "sandbox/sealer_work.h"

int sealer_view_read(int layers, const struct sealer_request *q,
		     struct manifest *ret[MANIFEST_STACK_MAX], struct error *err)
{
	for (size_t i = 0; i < q->name_count; i++) {
		int r = layers_read_manifest(layers, q->names[i], &ret[i], err);

		if (r == 0)
			continue;
		while (i-- > 0) {
			manifest_free(ret[i]);
			ret[i] = NULL;
		}
		return r;
	}
	return 0;
}

static int hand_out(const struct manifest *m, struct sealer_done *ret, struct error *err)
{
	AUTO_BUFFER bytes = {.max = MANIFEST_BYTES_MAX};
	int r = manifest_encode(m, &bytes);

	if (r < 0)
		return error_set(err, r, "view: the manifest cannot be written: %s", strerror(-r));
	digest_domain(MANIFEST_DOMAIN, buffer_bytes(&bytes), &ret->digest);
	ret->entries = manifest_count(m);
	ret->bytes = manifest_content_bytes(m);
	ret->fd = io_memfd_sealed("manifest", buffer_bytes(&bytes), false);
	return ret->fd < 0 ? error_set(err, ret->fd, "view: %s", strerror(-ret->fd)) : 0;
}

int sealer_view_run(int layers, const struct sealer_request *q, struct sealer_done *ret,
		    struct error *err)
{
	struct manifest *stack[MANIFEST_STACK_MAX] = {0};
	AUTO(manifest_free) struct manifest *m = NULL;
	int r = sealer_view_read(layers, q, stack, err);

	if (r < 0)
		return r;
	r = manifest_merge((const struct manifest *const *)stack, q->name_count,
			   q->over_base ? MANIFEST_MERGE_OVER_BASE : MANIFEST_MERGE_SQUASH, &m,
			   err);
	for (size_t i = 0; i < q->name_count; i++)
		manifest_free(stack[i]);
	return r < 0 ? r : hand_out(m, ret, err);
}
