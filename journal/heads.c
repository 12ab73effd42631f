/* Heads of chains in their canonical form. Pure. */
#include "journal/heads.h"

#include <errno.h>
#include <stdlib.h>
#include "base/cbor.h"

static int by_run(const void *a, const void *b)
{
	const struct journal_head *x = a, *y = b;
	return memcmp(&x->run, &y->run, sizeof(x->run));
}

int journal_heads_encode(struct journal_head *heads, size_t count, struct buffer *out)
{
	if (count)
		qsort(heads, count, sizeof(*heads), by_run);
	cbor_w_array(out, count);
	for (size_t i = 0; i < count; i++) {
		cbor_w_array(out, 3);
		cbor_w_bytes(out, bytes_of(heads[i].run.b, JOURNAL_ID_SIZE));
		cbor_w_uint(out, heads[i].seq);
		cbor_w_bytes(out, bytes_of(heads[i].hash.b, DIGEST_SIZE));
	}
	return out->failed;
}

int journal_heads_each(struct bytes raw, int (*fn)(const struct journal_head *, void *), void *arg)
{
	struct cbor_reader c = cbor_reader(raw);
	struct journal_id last = {0};
	size_t count = cbor_r_array(&c);
	for (size_t i = 0; i < count && !c.error; i++) {
		struct journal_head head;
		size_t parts = cbor_r_array(&c);
		struct bytes id = cbor_r_bytes(&c);
		head.seq = cbor_r_uint(&c);
		cbor_r_digest(&c, &head.hash);
		if (c.error || parts != 3 || id.len != JOURNAL_ID_SIZE)
			return -EBADMSG;
		memcpy(head.run.b, id.data, JOURNAL_ID_SIZE);
		if (i && memcmp(&last, &head.run, sizeof(last)) >= 0)
			return -EBADMSG;
		last = head.run;
		int rc = fn(&head, arg);
		if (rc)
			return rc;
	}
	return cbor_r_end(&c) < 0 ? -EBADMSG : 0;
}
